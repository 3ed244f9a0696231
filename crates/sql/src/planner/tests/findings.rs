//! What is said about queries that cannot run.

use super::rendered;
use super::tables::session;

fn check(sql: &str, expected: &str) {
    let got = rendered(session().query(sql));
    assert!(got == expected, "{sql}\n--- got\n{got}\n--- expected\n{expected}");
}

#[test]
fn dump() {
    for sql in include_str!("findings.sql").split(";\n").filter(|sql| !sql.trim().is_empty()) {
        let session = session();
        let outcome = session.query(sql.trim());
        match outcome {
            Ok(plan) => println!("== {sql}\n-- PLANNED\n{}", plan.explain()),
            Err(_) => println!("== {sql}\n{}", rendered(session.query(sql.trim()))),
        }
    }
}

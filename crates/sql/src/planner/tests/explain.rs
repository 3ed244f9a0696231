//! Plans as EXPLAIN prints them.

use super::tables::session;
use super::{Session, explained};
use thalweg_plan::{NodeKind, Plan};

fn check(sql: &str, expected: &str) {
    assert_same(&session(), sql, expected);
}

fn assert_same(session: &Session, sql: &str, expected: &str) {
    let got = explained(session.query(sql));
    assert!(without_ids(&got) == expected, "{sql}\n--- got\n{}\n--- expected\n{expected}", without_ids(&got));
}

fn without_ids(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn names(plan: &Plan) -> Vec<String> {
    plan.nodes.last().unwrap().schema.fields().iter().map(|field| field.name().clone()).collect()
}

const TUMBLE: &str = "SELECT window_start, window_end, COUNT(*) AS n \
    FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end";

#[test]
fn tumble() {
    check(TUMBLE, "");
}

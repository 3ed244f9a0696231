//! What is said about queries that cannot run.

use super::tables::session;
use super::{check_file, outcome};

#[test]
fn findings_have_places_and_help() {
    check_file("findings.txt", |sql| outcome(session().query(sql)));
}

#[test]
fn a_finding_in_a_view_names_the_view() {
    let session = session().with_view("v", "SELECT colour FROM orders", &[]);
    let text = outcome(session.query("SELECT * FROM v"));
    assert!(text.starts_with("error[TW0102]: in view \"v\": unknown column \"colour\"\n"), "{text}");
    assert!(text.contains("SELECT * FROM v\n  |               ^ here"), "{text}");
}

#[test]
fn a_circle_of_views_is_found() {
    let session = session().with_view("a", "SELECT * FROM b", &[]).with_view("b", "SELECT * FROM a", &[]);
    let text = outcome(session.query("SELECT * FROM a"));
    assert!(text.contains("is defined by itself"), "{text}");
}

#[test]
fn inserts_must_fit_their_sinks() {
    let check = |target: &str, columns: Option<&[&str]>, sql: &str, expected: &str| {
        let text = outcome(session().inserts(&[(target, columns, sql)]));
        assert!(text.contains(expected), "{sql}\n--- got\n{text}\n--- expected\n{expected}");
    };
    check(
        "strict",
        None,
        "SELECT customer, customer FROM orders",
        "error[TW0401]: column \"id\" of sink \"strict\" is BIGINT, the query gives STRING",
    );
    check("strict", None, "SELECT order_id FROM orders", "sink \"strict\" takes 2 columns, the query gives 1");
    check(
        "strict",
        Some(&["note"]),
        "SELECT customer FROM orders",
        "column \"id\" of sink \"strict\" is NOT NULL and gets no value",
    );
    check("strict", Some(&["nte"]), "SELECT customer FROM orders", "unknown column \"nte\"");
    check("strict", Some(&["id", "id"]), "SELECT 1, 2 FROM orders", "column \"id\" is listed twice");
    check("orders", Some(&["twice"]), "SELECT 1 FROM clicks", "column \"twice\" of \"orders\" cannot be written");
}

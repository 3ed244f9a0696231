//! Joins, subqueries, set operations and UNNEST: plans and findings.

use thalweg_plan::{NodeKind, Plan};

use super::tables::session;
use super::{Session, check_file, outcome};

#[test]
fn joins() {
    check_file("joins.txt", |sql| outcome(session().query(sql)));
}

#[test]
fn timed_joins() {
    check_file("timed_joins.txt", |sql| outcome(session().query(sql)));
}

#[test]
fn subqueries() {
    check_file("subqueries.txt", |sql| outcome(session().query(sql)));
}

#[test]
fn set_operations() {
    check_file("set_operations.txt", |sql| outcome(session().query(sql)));
}

#[test]
fn unnest() {
    check_file("unnest.txt", |sql| outcome(session().query(sql)));
}

#[test]
fn findings() {
    check_file("join_findings.txt", |sql| outcome(session().query(sql)));
}

fn planned(session: &Session, sql: &str) -> Plan {
    match session.query(sql) {
        Ok(plan) => plan,
        Err(findings) => panic!("{}", outcome(Err(findings))),
    }
}

fn names(sql: &str) -> Vec<String> {
    let plan = planned(&session(), sql);
    plan.nodes.last().unwrap().schema.fields().iter().map(|field| field.name().clone()).collect()
}

#[test]
fn columns_of_one_name_are_numbered() {
    let check = |sql: &str, expected: &[&str]| assert_eq!(names(sql), expected, "{sql}");
    check(
        "SELECT * FROM shipments s JOIN payments p ON s.order_id = p.order_id",
        &["order_id", "carrier", "order_id0", "paid_by", "paid", "big", "ts"],
    );
    check("SELECT order_id0 FROM (SELECT * FROM shipments s JOIN payments p ON s.order_id = p.order_id) AS t", &["order_id0"]);
    check("WITH t AS (SELECT * FROM shipments AS a, shipments AS b) SELECT carrier0, carrier FROM t", &["carrier0", "carrier"]);
    check(
        "SELECT * FROM shipments AS a, shipments AS b UNION ALL SELECT * FROM shipments AS a, shipments AS b",
        &["order_id", "carrier", "order_id0", "carrier0"],
    );
    check(
        "SELECT * FROM shipments AS a, shipments AS b INTERSECT SELECT * FROM shipments AS a, shipments AS b",
        &["order_id", "carrier", "order_id0", "carrier0"],
    );
}

#[test]
fn columns_of_using_come_first() {
    let check = |sql: &str, expected: &[&str]| assert_eq!(names(sql), expected, "{sql}");
    check(
        "SELECT * FROM payments FULL JOIN shipments USING (order_id)",
        &["order_id", "paid_by", "paid", "big", "ts", "carrier"],
    );
    check("SELECT * FROM shipments NATURAL JOIN payments", &["order_id", "carrier", "paid_by", "paid", "big", "ts"]);
    check(
        "SELECT * FROM shipments s LEFT JOIN payments p USING (order_id) WHERE p.order_id IS NULL",
        &["order_id", "carrier", "paid_by", "paid", "big", "ts"],
    );
    check(
        "SELECT s.order_id, p.order_id, order_id FROM shipments s RIGHT JOIN payments p USING (order_id)",
        &["order_id", "order_id0", "order_id1"],
    );
}

#[test]
fn a_view_is_joined_as_a_table() {
    let session = session().with_view("paid", "SELECT p.order_id, s.* FROM payments p, shipments s", &[]);
    let plan = planned(&session, "SELECT order_id0 FROM paid JOIN orders o ON paid.order_id = o.order_id");
    assert_eq!(plan.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Join(_))).count(), 2);
}

#[test]
fn what_is_used_twice_is_planned_once() {
    let sql = "WITH c AS (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) \
        SELECT a.customer, b.customer AS peer FROM c a JOIN c b ON a.n = b.n AND a.customer < b.customer";
    let plan = planned(&session(), sql);
    assert_eq!(plan.nodes.iter().filter(|node| matches!(node.kind, NodeKind::GroupAggregate(_))).count(), 1);
    let join = plan.nodes.iter().find(|node| matches!(node.kind, NodeKind::Join(_))).unwrap();
    assert_eq!(join.inputs[0].node, join.inputs[1].node);
}

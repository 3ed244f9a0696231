//! Plans as EXPLAIN prints them, and what is shared between queries.

use thalweg_plan::{Exchange, NodeKind, Plan, SinkTarget, TimeZoneRule};

use super::tables::session;
use super::{Session, check_file, outcome};

#[test]
fn plans() {
    check_file("plans.txt", |sql| outcome(session().query(sql)));
}

fn planned(result: Result<Plan, Vec<thalweg_core::Diagnostic>>) -> Plan {
    match result {
        Ok(plan) => plan,
        Err(findings) => panic!("{}", outcome(Err(findings))),
    }
}

fn query(session: &Session, sql: &str) -> Plan {
    planned(session.query(sql))
}

fn count(plan: &Plan, is: impl Fn(&NodeKind) -> bool) -> usize {
    plan.nodes.iter().filter(|node| is(&node.kind)).count()
}

const PER_VISITOR: &str = "SELECT window_end, visitor, COUNT(*) AS n \
    FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY visitor, window_start, window_end";

#[test]
fn inserts_share_a_scan_with_all_the_columns_they_need() {
    let plan = planned(session().inserts(&[
        ("totals", None, PER_VISITOR),
        ("files", None, "SELECT id FROM clicks WHERE id > 3"),
        ("files", None, "SELECT id FROM clicks"),
    ]));
    let sources: Vec<_> = plan
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Source(source) => Some(source),
            _ => None,
        })
        .collect();
    assert_eq!(sources.len(), 1);
    let fields: Vec<&str> = sources[0].fields.iter().map(|field| field.field().name().as_str()).collect();
    assert_eq!(fields, ["id", "visitor", "ts"]);
    let sinks: Vec<&str> = plan
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => Some(sink.sink_id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(sinks, ["totals", "files", "files-2"]);
}

#[test]
fn an_insert_casts_fills_and_orders_columns() {
    let columns: &[&str] = &["note", "id"];
    let plan = planned(session().inserts(&[("strict", Some(columns), "SELECT customer, order_id FROM orders")]));
    let text = plan.explain();
    assert!(text.contains("Project NOT_NULL(CAST(order_id AS BIGINT)), customer"), "{text}");
    let sink = plan.nodes.last().unwrap();
    assert!(matches!(&sink.kind, NodeKind::Sink(sink) if matches!(sink.target, SinkTarget::Table(_))));
    let names: Vec<&str> = sink.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["id", "note"]);
    assert!(!sink.schema.field(0).is_nullable());
}

#[test]
fn views_are_put_in_place_under_their_names() {
    let session = session().with_view("big", "SELECT order_id, amount FROM orders WHERE amount >= 10", &[]).with_view(
        "doubled",
        "SELECT order_id, amount * 2 FROM big",
        &["id", "twice"],
    );
    let plan = query(&session, "SELECT id, twice FROM doubled WHERE twice > 20");
    let text = plan.explain();
    assert!(text.contains("columns: id, twice"), "{text}");
    assert!(text.contains("amount >= 10"), "{text}");
    assert_eq!(count(&plan, |kind| matches!(kind, NodeKind::Source(_))), 1);
}

#[test]
fn a_view_keeps_its_time_attribute() {
    let session = session().with_view("people", "SELECT * FROM clicks WHERE visitor <> 'robot'", &[]);
    let sql = "SELECT window_start, SUM(id) AS ids FROM TABLE(TUMBLE(TABLE people, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
        GROUP BY window_start, window_end";
    let plan = query(&session, sql);
    assert_eq!(count(&plan, |kind| matches!(kind, NodeKind::WindowAggregate(_))), 1);
    assert!(plan.explain().contains("Filter visitor != 'robot'"));
}

#[test]
fn instants_are_windowed_in_the_zone_of_the_session() {
    let mut session = session();
    session.time_zone = Some("Asia/Shanghai".to_string());
    let sql = "SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(at), INTERVAL '1' DAY)) \
        GROUP BY window_start, window_end";
    let plan = query(&session, sql);
    let zones: Vec<_> = plan
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::WindowAggregate(aggregate) => Some((aggregate.window.zone.clone(), node.inputs[0].exchange.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(zones, [(TimeZoneRule::Zone("Asia/Shanghai".to_string()), Exchange::Single)]);
}

#[test]
fn names_are_flinks() {
    let plan = query(&session(), "SELECT amount + 1, customer, o.amount, amount * 2, customer FROM orders AS o");
    let names: Vec<String> = plan.nodes.last().unwrap().schema.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["EXPR$0", "customer", "amount", "EXPR$3", "customer0"]);
}

#[test]
fn equal_text_gives_equal_ids() {
    let first = query(&session(), PER_VISITOR);
    assert_eq!(first.fingerprint(), query(&session(), PER_VISITOR).fingerprint());
    let other = PER_VISITOR.replace("'10' SECOND", "'20' SECOND");
    assert_ne!(first.fingerprint(), query(&session(), &other).fingerprint());
}

#[test]
fn long_chains_of_operators_are_planned() {
    let sql = format!("SELECT order_id FROM orders WHERE {}", vec!["amount = 1"; 250].join(" OR customer = 'x' OR "));
    let planning = std::thread::Builder::new().stack_size(64 << 20).spawn(move || query(&session(), &sql).nodes.len());
    assert!(planning.unwrap().join().unwrap() > 2);
}

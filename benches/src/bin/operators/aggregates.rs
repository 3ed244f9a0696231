//! Aggregates by group and by window.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use thalweg_core::Result;
use thalweg_ops::{build_global, build_local};
use thalweg_plan::{
    AggregateCall, AggregateFunction, AssignWindow, GroupAggregate, NodeKind, Session, SessionWindow, TimeZoneRule, Window,
    WindowAggregate, WindowKind,
};

use crate::measure::{Bench, Case, context, node};
use crate::rows::{AT, Columns, KEY, NUMBER, Row, joined, scattered, schema, timestamp};

pub fn call(function: AggregateFunction, argument: Option<usize>, distinct: bool) -> AggregateCall {
    let output = Arc::new(Field::new(function.name(), DataType::Int64, true));
    AggregateCall { function, argument, filter: None, distinct, separator: None, output }
}

fn count_sum_max() -> Vec<AggregateCall> {
    vec![
        call(AggregateFunction::Count, None, false),
        call(AggregateFunction::Sum, Some(NUMBER), false),
        call(AggregateFunction::Max, Some(NUMBER), false),
    ]
}

/// The key, the results, and the bounds of windows where there are any.
fn output(calls: &[AggregateCall], is_windowed: bool) -> SchemaRef {
    let key = schema(Columns::Plain).fields()[KEY].clone();
    let mut fields: Vec<FieldRef> = [key].into_iter().chain(calls.iter().map(|call| call.output.clone())).collect();
    if is_windowed {
        fields.extend(bounds());
    }
    Arc::new(Schema::new(fields))
}

fn bounds() -> [FieldRef; 3] {
    ["window_start", "window_end", "window_time"].map(|name| Arc::new(Field::new(name, timestamp(), true)))
}

pub fn by_group(bench: &Bench) -> Result<()> {
    let group = |name: &str, aggregates: Vec<AggregateCall>, input_updating| {
        let output = output(&aggregates, false);
        let aggregate = GroupAggregate { keys: vec![KEY], aggregates, input_updating, window_time: None };
        Case::new(name, NodeKind::GroupAggregate(aggregate), Columns::Plain, 1, output)
    };
    let some = |row: u64| Row { number: row, ..Row::new(row, scattered(row) % 10_000) };
    bench.run(group("group, count sum max, 10,000 keys", count_sum_max(), false), some)?;
    bench.run(group("group, count sum max, every key once", count_sum_max(), false), |row| Row::new(row, scattered(row)))?;
    bench.run(
        group("group, count distinct, 10,000 keys", vec![call(AggregateFunction::Count, Some(NUMBER), true)], false),
        some,
    )?;
    bench.run(group("group, count sum max, updating, 10,000 keys", count_sum_max(), true), |row| {
        // Ten rows of each key come, then they go.
        let (key, round) = (row % 10_000, row / 10_000 % 20);
        Row { weight: if round < 10 { 1 } else { -1 }, number: round % 10, ..Row::new(row, key) }
    })?;
    bench.run(group("group, count sum max, updating, 10 keys", count_sum_max(), true), |row| {
        let is_new = row / 10_000 % 2 == 0;
        Row { weight: if is_new { 1 } else { -1 }, number: row % 10_000, ..Row::new(row, row % 10) }
    })
}

pub fn by_window(bench: &Bench) -> Result<()> {
    let keyed = |row: u64| Row { number: row, ..Row::new(row, scattered(row) % 10_000) };
    let window = |kind| Window { kind, offset_ms: 0, zone: TimeZoneRule::Local };
    let kinds = [
        ("tumble", WindowKind::Tumble { size_ms: 10_000 }),
        ("hop", WindowKind::Hop { slide_ms: 2_000, size_ms: 10_000 }),
        ("cumulate", WindowKind::Cumulate { step_ms: 2_000, size_ms: 10_000 }),
    ];
    let input = schema(Columns::Plain);
    for (name, kind) in kinds {
        let aggregates = count_sum_max();
        let output = output(&aggregates, true);
        let aggregate = WindowAggregate { window: window(kind), time_column: AT, keys: vec![KEY], aggregates };
        let node = node(NodeKind::WindowAggregate(aggregate), output);
        let operators = vec![build_local(&node, &input, &context())?, build_global(&node, &input, &context())?];
        let name = format!("{name} of 10 s, count sum max, 10,000 keys");
        bench.run(Ok(Case { name, operators, columns: Columns::Plain, ports: 1 }), keyed)?;
    }
    let session = |name: &str, aggregates: Option<Vec<AggregateCall>>, input_updating| {
        let output = match &aggregates {
            Some(calls) => output(calls, true),
            None => joined(&input, &bounds()),
        };
        let window = SessionWindow { gap_ms: 500, zone: TimeZoneRule::Local };
        let session = Session { window, time_column: AT, keys: vec![KEY], aggregates, input_updating };
        Case::new(name, NodeKind::Session(session), Columns::Plain, 1, output)
    };
    bench.run(session("session, count sum max, 10,000 keys", Some(count_sum_max()), false), keyed)?;
    bench.run(session("session, the rows, 10,000 keys", None, false), keyed)?;
    bench.run(session("session, the rows, updating, 10,000 keys", None, true), keyed)?;
    let assign = AssignWindow { window: window(kinds[1].1), time_column: AT };
    let output = joined(&input, &bounds());
    bench.run(Case::new("hop of 10 s, the rows", NodeKind::AssignWindow(assign), Columns::Plain, 1, output), keyed)
}

//! Window joins behind an exchange, against plain Rust.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::Operator as SqlOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use proptest::prelude::*;
use thalweg_core::EventTime;
use thalweg_plan::{Expr, JoinKey, JoinKind, NodeKind, WindowBounds, WindowJoin};

use crate::lane_harness::{BATCH_ROWS, Lanes, Partition, Then, rows_of, schema_of, values_of};

type Values = Vec<Option<i64>>;

#[derive(Clone, Copy, Debug)]
struct Row {
    port: usize,
    time: i64,
    /// The size of its window.
    size: i64,
    key: Option<i64>,
    value: i64,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: JoinKind,
    delays_ms: [i64; 2],
    has_key: bool,
    nulls_match: bool,
    has_condition: bool,
}

const WIDTH: usize = 6;

fn input() -> SchemaRef {
    schema_of(&["id", "key", "value", "start_ts", "end_ts", "time_ts"])
}

fn join(shape: Shape) -> Lanes {
    let column = |name: &str, index| Arc::new(Column::new(name, index));
    let less = BinaryExpr::new(column("value", 2), SqlOperator::LtEq, column("other_value", WIDTH + 2));
    let condition = Expr {
        physical: Arc::new(less),
        text: "value <= other_value".to_string(),
        data_type: DataType::Boolean,
        nullable: true,
        span: None,
    };
    let window = WindowBounds { start: 3, end: 4, time: 5 };
    let node = WindowJoin {
        kind: shape.kind,
        keys: if shape.has_key { vec![JoinKey { left: 1, right: 1, nulls_match: shape.nulls_match }] } else { vec![] },
        left_window: window,
        right_window: window,
        condition: shape.has_condition.then_some(condition),
    };
    let names = ["id", "key", "value", "start_ts", "end_ts", "time_ts"];
    let output = if shape.kind.has_right_columns() { schema_of(&[names, names].concat()) } else { input() };
    let keys = if shape.has_key { vec![1] } else { vec![] };
    Lanes::new(NodeKind::WindowJoin(node), output, vec![input(), input()], vec![keys.clone(), keys])
}

fn values(id: i64, row: &Row) -> Values {
    let start = row.time.div_euclid(row.size) * row.size;
    let end = start + row.size;
    vec![Some(id), row.key, Some(row.value), Some(start), Some(end), Some(end - 1)]
}

fn run(shape: Shape, rows: &[Row]) -> Lanes {
    let mut lanes = join(shape);
    let mut partitions = shape.delays_ms.map(Partition::new);
    let mut waiting: [Vec<(i64, Row)>; 2] = [vec![], vec![]];
    let mut counts = [0, 0];
    fn flush(lanes: &mut Lanes, port: usize, waiting: &mut [Vec<(i64, Row)>; 2], partitions: &mut [Partition; 2]) {
        let rows = std::mem::take(&mut waiting[port]);
        let times: Vec<i64> = rows.iter().map(|(_, row)| row.time).collect();
        let rows: Vec<Values> = rows.iter().map(|(id, row)| values(*id, row)).collect();
        lanes.batch(port, &partitions[port].batch(rows_of(&input(), &rows), &times));
    }
    for row in rows {
        waiting[row.port].push((counts[row.port], *row));
        counts[row.port] += 1;
        match row.then {
            Then::Nothing => {}
            Then::Cut => flush(&mut lanes, row.port, &mut waiting, &mut partitions),
            Then::Watermark => {
                flush(&mut lanes, row.port, &mut waiting, &mut partitions);
                lanes.watermark(row.port, EventTime(partitions[row.port].watermark));
            }
            Then::Restart(count) => lanes.restart(count),
        }
    }
    for port in [1, 0] {
        flush(&mut lanes, port, &mut waiting, &mut partitions);
    }
    lanes.finish();
    lanes
}

/// The rows that come out in the order in which one lane sends them, and how many rows are late.
fn naive(shape: Shape, rows: &[Row]) -> (Vec<Values>, u64) {
    let mut late = 0;
    let mut sides: [Vec<Values>; 2] = [vec![], vec![]];
    let mut counts = [0, 0];
    let mut partitions = shape.delays_ms.map(Partition::new);
    for row in rows {
        let own = partitions[row.port].pass(row.time);
        let values = values(counts[row.port], row);
        counts[row.port] += 1;
        if values[5].unwrap() <= own {
            late += 1;
        } else {
            sides[row.port].push(values);
        }
    }
    let [left, right] = sides;
    let matches = |l: &Values, r: &Values| {
        let same_key = !shape.has_key || l[1] == r[1] && (l[1].is_some() || shape.nulls_match);
        l[3..] == r[3..] && same_key && (!shape.has_condition || l[2] <= r[2])
    };
    let mut ends: Vec<Option<i64>> = left.iter().chain(&right).map(|row| row[5]).collect();
    ends.sort();
    ends.dedup();
    let mut found = vec![];
    for end in ends {
        for l in left.iter().filter(|row| row[5] == end) {
            let of_row: Vec<&Values> = right.iter().filter(|r| matches(l, r)).collect();
            match shape.kind {
                JoinKind::Semi if !of_row.is_empty() => found.push(l.clone()),
                JoinKind::Anti if of_row.is_empty() => found.push(l.clone()),
                JoinKind::Semi | JoinKind::Anti => {}
                kind if of_row.is_empty() && kind.keeps_left() => found.push([l.clone(), vec![None; WIDTH]].concat()),
                _ => found.extend(of_row.into_iter().map(|r| [l.clone(), r.clone()].concat())),
            }
        }
        if shape.kind.keeps_right() {
            let alone = right.iter().filter(|r| r[5] == end && !left.iter().any(|l| matches(l, r)));
            found.extend(alone.map(|r| [vec![None; WIDTH], r.clone()].concat()));
        }
    }
    (found, late)
}

fn check(shape: Shape, rows: &[Row]) {
    let lanes = run(shape, rows);
    let (mut expected, late) = naive(shape, rows);
    let mut found: Vec<Values> = lanes.output.iter().flat_map(|(batch, _)| values_of(batch)).collect();
    if !rows.iter().any(|row| matches!(row.then, Then::Restart(lanes) if lanes > 1)) {
        assert_eq!(found, expected);
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(lanes.late_rows(), late);
    assert_eq!((lanes.state_rows(), lanes.slots()), (0, vec![]), "windows that were sent are dropped");
    for (batch, sent) in &lanes.output {
        for row in values_of(batch) {
            assert!(row.iter().skip(5).step_by(WIDTH).flatten().all(|time| *time > sent.0), "{row:?} behind {}", sent.0);
        }
    }
}

#[test]
fn a_window_comes_when_its_last_instant_is_reached_on_both_sides() {
    let shape = Shape { kind: JoinKind::Full, delays_ms: [0, 0], has_key: true, nulls_match: false, has_condition: false };
    let mut lanes = join(shape);
    let row = |time| Row { port: 0, time, size: 10, key: Some(1), value: 0, then: Then::Nothing };
    let batch = |rows: &[Values]| thalweg_core::Batch::append(rows_of(&input(), rows));
    lanes.batch(0, &batch(&[values(0, &row(3))]));
    lanes.batch(1, &batch(&[values(0, &row(12))]));
    lanes.watermark(0, EventTime(9));
    lanes.watermark(1, EventTime(8));
    assert!(lanes.output.is_empty());
    lanes.watermark(1, EventTime(9));
    assert_eq!(values_of(&lanes.output[0].0), [[values(0, &row(3)), vec![None; WIDTH]].concat()]);
    lanes.batch(1, &batch(&[values(1, &row(4))]));
    assert_eq!(lanes.late_rows(), 1);
}

#[test]
fn a_large_window_comes_in_pieces() {
    let shape = Shape { kind: JoinKind::Inner, delays_ms: [50, 50], has_key: false, nulls_match: false, has_condition: false };
    let rows: Vec<Row> =
        (0..60).map(|at| Row { port: at % 2, time: 5, size: 10, key: None, value: 0, then: Then::Nothing }).collect();
    check(shape, &rows);
    let lanes = run(shape, &rows);
    assert_eq!(lanes.output.len(), 900 / BATCH_ROWS);
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let then = prop_oneof![
        3 => Just(Then::Nothing),
        2 => Just(Then::Cut),
        3 => Just(Then::Watermark),
        1 => (1_u32..4).prop_map(Then::Restart),
    ];
    let size = prop_oneof![4 => Just(10_i64), 1 => Just(20_i64)];
    let row = (0_usize..2, -5_i64..50, size, prop::option::weighted(0.8, 0_i64..3), 0_i64..4, then);
    let row = row.prop_map(|(port, time, size, key, value, then)| Row { port, time, size, key, value, then });
    prop::collection::vec(row, 0..40)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let kinds = [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti];
    (prop::sample::select(kinds.to_vec()), [0_i64..30, 0_i64..30], any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(kind, delays_ms, has_key, nulls_match, has_condition)| Shape { kind, delays_ms, has_key, nulls_match, has_condition },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn equals_plain_rust(shape in shapes(), rows in rows()) {
        check(shape, &rows);
    }
}

#[test]
fn a_window_that_was_sent_stays_closed_over_a_restart() {
    let shape = Shape { kind: JoinKind::Left, delays_ms: [0, 0], has_key: true, nulls_match: false, has_condition: false };
    let mut lanes = join(shape);
    let row = Row { port: 0, time: 3, size: 10, key: Some(1), value: 0, then: Then::Nothing };
    let batch = thalweg_core::Batch::append(rows_of(&input(), &[values(0, &row)]));
    lanes.batch(0, &batch);
    lanes.watermark(0, EventTime(9));
    lanes.watermark(1, EventTime(9));
    // The sources begin again behind the watermark: a partition was idle when it was made.
    lanes.restart_behind(2);
    lanes.batch(0, &batch);
    lanes.finish();
    assert_eq!((lanes.output.len(), lanes.late_rows()), (1, 1));
}

//! Interval joins behind an exchange, against plain Rust.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::Operator as SqlOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use proptest::prelude::*;
use thalweg_core::EventTime;
use thalweg_plan::{Expr, IntervalJoin, JoinKey, JoinKind, NodeKind};

use crate::lane_harness::{Lanes, Partition, Then, rows_of, schema_of, values_of};

type Values = Vec<Option<i64>>;

/// Event time in milliseconds, key, value; the row's number in its input is its id.
#[derive(Clone, Copy, Debug)]
struct Row {
    port: usize,
    time: i64,
    key: Option<i64>,
    value: i64,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: JoinKind,
    lower_ms: i64,
    upper_ms: i64,
    delays_ms: [i64; 2],
    has_key: bool,
    has_condition: bool,
    stamps_rows: bool,
}

fn input() -> SchemaRef {
    schema_of(&["id", "ts", "key", "value"])
}

fn output() -> SchemaRef {
    schema_of(&["id", "ts", "key", "value", "other_id", "other_ts", "other_key", "other_value"])
}

fn join(shape: Shape) -> Lanes {
    let column = |name: &str, index| Arc::new(Column::new(name, index));
    let less = BinaryExpr::new(column("value", 3), SqlOperator::LtEq, column("other_value", 7));
    let condition = Expr {
        physical: Arc::new(less),
        text: "value <= other_value".to_string(),
        data_type: DataType::Boolean,
        nullable: true,
        span: None,
    };
    let node = IntervalJoin {
        kind: shape.kind,
        keys: if shape.has_key { vec![JoinKey { left: 2, right: 2, nulls_match: false }] } else { vec![] },
        left_time: 1,
        right_time: 1,
        lower_ms: shape.lower_ms,
        upper_ms: shape.upper_ms,
        condition: shape.has_condition.then_some(condition),
        stamps_rows: shape.stamps_rows,
    };
    let keys = if shape.has_key { vec![2] } else { vec![] };
    Lanes::new(NodeKind::IntervalJoin(node), output(), vec![input(), input()], vec![keys.clone(), keys])
}

fn run(shape: Shape, rows: &[Row]) -> Lanes {
    let mut lanes = join(shape);
    let mut partitions = shape.delays_ms.map(Partition::new);
    let mut waiting: [Vec<Values>; 2] = [vec![], vec![]];
    let mut counts = [0, 0];
    fn flush(lanes: &mut Lanes, port: usize, waiting: &mut [Vec<Values>; 2], partitions: &mut [Partition; 2], is_stamped: bool) {
        let rows = std::mem::take(&mut waiting[port]);
        let times: Vec<i64> = rows.iter().map(|row| row[1].unwrap()).collect();
        let rows = rows_of(&input(), &rows);
        let batch = match is_stamped {
            true => partitions[port].stamped_batch(rows, &times),
            false => partitions[port].batch(rows, &times),
        };
        lanes.batch(port, &batch);
    }
    for row in rows {
        waiting[row.port].push(vec![Some(counts[row.port]), Some(row.time), row.key, Some(row.value)]);
        counts[row.port] += 1;
        match row.then {
            Then::Nothing => {}
            Then::Cut => flush(&mut lanes, row.port, &mut waiting, &mut partitions, shape.stamps_rows),
            Then::Watermark => {
                flush(&mut lanes, row.port, &mut waiting, &mut partitions, shape.stamps_rows);
                lanes.watermark(row.port, EventTime(partitions[row.port].watermark));
            }
            Then::Restart(count) => lanes.restart(count),
        }
    }
    for port in [1, 0] {
        flush(&mut lanes, port, &mut waiting, &mut partitions, shape.stamps_rows);
    }
    lanes.finish();
    lanes
}

/// The rows that come out, in no order, each with the watermark that it carries where all do; and the ids of rows that are late,
/// by side.
fn naive(shape: Shape, rows: &[Row]) -> (Vec<(Values, i64)>, [HashSet<i64>; 2]) {
    struct Known {
        id: i64,
        row: Row,
        came_at: i64,
        own: i64,
    }
    let mut late = [HashSet::new(), HashSet::new()];
    let mut sides: [Vec<Known>; 2] = [vec![], vec![]];
    let mut partitions = shape.delays_ms.map(Partition::new);
    for row in rows {
        let id = sides[row.port].len() as i64;
        let own = partitions[row.port].pass(row.time);
        if row.time <= own {
            late[row.port].insert(id);
        }
        let came_at = if row.time <= own { own } else { row.time - 1 };
        sides[row.port].push(Known { id, row: *row, came_at, own });
    }
    let values = |known: &Known| vec![Some(known.id), Some(known.row.time), known.row.key, Some(known.row.value)];
    let nulls = || vec![None; 4];
    let held_back = |own: i64| match own {
        i64::MIN => own,
        own => own - (-shape.lower_ms).max(shape.upper_ms) - 1,
    };
    // A row that can match nothing comes out at once, others when the watermark has passed the last time that could match.
    let unmatched_at = |known: &Known, reach: i64| {
        let can_match = !shape.has_key || known.row.key.is_some();
        held_back(if can_match { known.own.max(known.row.time + reach) } else { known.own })
    };
    let [left, right] = sides;
    let mut found = vec![];
    let mut matched = [HashSet::new(), HashSet::new()];
    for l in &left {
        for r in &right {
            let difference = l.row.time - r.row.time;
            let is_near = shape.lower_ms <= difference && difference <= shape.upper_ms;
            let same_key = !shape.has_key || l.row.key.is_some() && l.row.key == r.row.key;
            let passes = !shape.has_condition || l.row.value <= r.row.value;
            let (l_limit, r_limit) = (l.row.time - shape.lower_ms, r.row.time + shape.upper_ms);
            let is_there = match l.came_at.cmp(&r.came_at) {
                std::cmp::Ordering::Less => r.came_at <= l_limit,
                std::cmp::Ordering::Greater => l.came_at <= r_limit,
                std::cmp::Ordering::Equal => l.came_at <= l_limit.max(r_limit),
            };
            if is_near && same_key && passes && is_there {
                found.push(([values(l), values(r)].concat(), held_back(l.own.max(r.own))));
                matched[0].insert(l.id);
                matched[1].insert(r.id);
            }
        }
    }
    if shape.kind.keeps_left() {
        let unmatched = left.iter().filter(|l| !matched[0].contains(&l.id));
        found.extend(unmatched.map(|l| ([values(l), nulls()].concat(), unmatched_at(l, -shape.lower_ms))));
    }
    if shape.kind.keeps_right() {
        let unmatched = right.iter().filter(|r| !matched[1].contains(&r.id));
        found.extend(unmatched.map(|r| ([nulls(), values(r)].concat(), unmatched_at(r, shape.upper_ms))));
    }
    found.sort();
    (found, late)
}

fn check(shape: Shape, rows: &[Row]) {
    let lanes = run(shape, rows);
    let (mut expected, late) = naive(shape, rows);
    let mut found: Vec<(Values, i64)> = vec![];
    for (batch, sent) in &lanes.output {
        for (at, row) in values_of(batch).into_iter().enumerate() {
            let own = batch.row_watermarks.as_ref().filter(|_| shape.stamps_rows).map(|own| own.value(at));
            assert!(own.is_none_or(|own| own >= sent.0), "the watermark that was sent has not passed a row");
            found.push((row, own.unwrap_or(0)));
        }
    }
    if !shape.stamps_rows {
        expected.iter_mut().for_each(|(_, own)| *own = 0);
    }
    found.sort();
    assert_eq!(found, expected);
    assert_eq!((lanes.state_rows(), lanes.slots()), (0, vec![]), "rows that are ruled out are dropped");
    for (batch, sent) in &lanes.output {
        for row in values_of(batch) {
            let is_late = |side: usize, id: Option<i64>| id.is_some_and(|id| late[side].contains(&id));
            if !is_late(0, row[0]) && !is_late(1, row[4]) {
                let in_time = [row[1], row[5]].iter().flatten().all(|time| *time > sent.0);
                assert!(in_time, "{row:?} came behind watermark {}", sent.0);
            }
        }
    }
}

fn row(port: usize, time: i64, key: i64) -> Row {
    Row { port, time, key: Some(key), value: 0, then: Then::Watermark }
}

const SHAPE: Shape = Shape {
    kind: JoinKind::Full,
    lower_ms: -5_000,
    upper_ms: 0,
    delays_ms: [1_000, 1_000],
    has_key: true,
    has_condition: false,
    stamps_rows: false,
};

#[test]
fn bounds_are_included() {
    let rows = [row(0, 10_000, 1), row(1, 10_000, 1), row(1, 15_000, 1), row(1, 15_001, 1), row(1, 9_999, 1)];
    check(SHAPE, &rows);
    let pairs = run(SHAPE, &rows).output.iter().flat_map(|(batch, _)| values_of(batch)).filter(|row| row[0] == Some(0)).count();
    assert_eq!(pairs, 2);
}

#[test]
fn an_interval_that_is_empty_pads_at_once() {
    let mut lanes = join(Shape { lower_ms: 1, upper_ms: 0, ..SHAPE });
    let mut partition = Partition::new(0);
    lanes.batch(0, &partition.batch(rows_of(&input(), &[vec![Some(0), Some(5), Some(1), Some(0)]]), &[5]));
    assert_eq!(values_of(&lanes.output[0].0), [[vec![Some(0), Some(5), Some(1), Some(0)], vec![None; 4]].concat()]);
    lanes.watermark(0, EventTime(5));
    lanes.watermark(1, EventTime(7));
    assert_eq!(lanes.sent, EventTime(5), "nothing is held back");
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    // Microseconds are what a TIMESTAMP holds.
    for time in [i64::MIN / 1_000, i64::MAX / 1_000] {
        for (lower_ms, upper_ms) in [(i64::MIN, i64::MAX), (-5, 5), (0, i64::MAX)] {
            let lanes = run(Shape { lower_ms, upper_ms, ..SHAPE }, &[row(0, time, 1), row(1, time, 1)]);
            let found: Vec<Values> = lanes.output.iter().flat_map(|(batch, _)| values_of(batch)).collect();
            assert_eq!(found.len(), 1, "{time} {lower_ms} {upper_ms}");
        }
    }
}

#[test]
fn many_matches_come_in_pieces() {
    let mut rows: Vec<Row> = (0..40).map(|_| row(0, 10_000, 1)).collect();
    rows.extend((0..20).map(|_| row(1, 10_000, 1)));
    check(Shape { delays_ms: [5_000, 5_000], ..SHAPE }, &rows);
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let then = prop_oneof![
        3 => Just(Then::Nothing),
        2 => Just(Then::Cut),
        3 => Just(Then::Watermark),
        1 => (1_u32..4).prop_map(Then::Restart),
    ];
    let row = (0_usize..2, 0_i64..24, prop::option::weighted(0.9, 0_i64..3), 0_i64..4, then);
    let row = row.prop_map(|(port, time, key, value, then)| Row { port, time: time * 500, key, value, then });
    prop::collection::vec(row, 0..40)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let kind = prop_oneof![Just(JoinKind::Inner), Just(JoinKind::Left), Just(JoinKind::Right), Just(JoinKind::Full)];
    // Intervals that hold a difference of 0: for others it is open what late rows meet.
    (kind, -8_i64..1, 0_i64..8, [0_i64..10, 0_i64..10], any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(kind, lower, upper, delays, has_key, has_condition, stamps_rows)| Shape {
            kind,
            lower_ms: lower * 500,
            upper_ms: upper * 500,
            delays_ms: delays.map(|delay| delay * 500),
            has_key,
            has_condition,
            stamps_rows,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn equals_plain_rust(shape in shapes(), rows in rows()) {
        check(shape, &rows);
    }

    #[test]
    fn intervals_away_from_0_equal_plain_rust_where_no_row_is_late(
        shape in shapes(), shift in -10_i64..10, rows in rows()
    ) {
        let shift = shift * 500;
        let shape = Shape {
            lower_ms: shape.lower_ms + shift, upper_ms: shape.upper_ms + shift, delays_ms: [2_000, 2_000], ..shape
        };
        // Each side goes on by 500 ms from row to row, 2 s out of order at most.
        let rows: Vec<Row> = rows.iter().zip(0..).map(|(row, at)| Row { time: at * 500 + row.time % 2_000, ..*row }).collect();
        check(shape, &rows);
    }
}

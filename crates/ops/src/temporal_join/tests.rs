//! Temporal joins behind an exchange, against plain Rust.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::Operator as SqlOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use proptest::prelude::*;
use thalweg_core::{Batch, EventTime};
use thalweg_plan::{Expr, JoinKey, JoinKind, NodeKind, TemporalJoin};

use crate::lane_harness::{Lanes, Partition, Then, rows_of, schema_of, values_of};

type Values = Vec<Option<i64>>;

const LEFT: usize = 0;
const RIGHT: usize = 1;

fn left() -> SchemaRef {
    schema_of(&["id", "ts", "key"])
}

fn right() -> SchemaRef {
    schema_of(&["other_key", "rate", "other_ts"])
}

fn join(kind: JoinKind, has_condition: bool, stamps_rows: bool) -> Lanes {
    let column = |name: &str, index| Arc::new(Column::new(name, index));
    let less = BinaryExpr::new(column("id", 0), SqlOperator::Lt, column("rate", 4));
    let condition = Expr {
        physical: Arc::new(less),
        text: "id < rate".to_string(),
        data_type: DataType::Boolean,
        nullable: true,
        span: None,
    };
    let node = TemporalJoin {
        kind,
        keys: vec![JoinKey { left: 2, right: 0, nulls_match: false }],
        left_time: 1,
        right_time: 2,
        condition: has_condition.then_some(condition),
        stamps_rows,
    };
    let output = schema_of(&["id", "ts", "key", "other_key", "rate", "other_ts"]);
    Lanes::new(NodeKind::TemporalJoin(node), output, vec![left(), right()], vec![vec![2], vec![0]])
}

/// Rows of the right side: key, rate, time, weight, whether it is half of an update.
type Change = (Option<i64>, i64, i64, i64, bool);

fn changes(rows: &[Change]) -> Batch {
    let values: Vec<Values> = rows.iter().map(|row| vec![row.0, Some(row.1), Some(row.2)]).collect();
    Batch {
        weights: Some(Int64Array::from_iter_values(rows.iter().map(|row| row.3))),
        updates: Some(BooleanArray::from_iter(rows.iter().map(|row| Some(row.4)))),
        ..Batch::append(rows_of(&right(), &values))
    }
}

fn orders(rows: &[(i64, i64, i64)]) -> Batch {
    let rows: Vec<Values> = rows.iter().map(|row| vec![Some(row.0), Some(row.1), Some(row.2)]).collect();
    Batch::append(rows_of(&left(), &rows))
}

/// Ids and rates of what came out.
fn rates(lanes: &Lanes) -> Vec<(i64, Option<i64>)> {
    lanes.output.iter().flat_map(|(batch, _)| values_of(batch)).map(|row| (row[0].unwrap(), row[4])).collect()
}

#[test]
fn rows_come_when_both_watermarks_have_reached_them() {
    let mut lanes = join(JoinKind::Left, false, false);
    lanes.batch(LEFT, &orders(&[(1, 8, 1), (2, 4, 1), (3, 9, 1), (4, 5, 1)]));
    lanes.batch(RIGHT, &changes(&[(Some(1), 110, 0, 1, false), (Some(1), 119, 9, 1, false), (Some(1), 114, 5, 1, false)]));
    lanes.watermark(LEFT, EventTime(100));
    assert!(lanes.output.is_empty());
    lanes.watermark(RIGHT, EventTime(8));
    assert_eq!(rates(&lanes), [(2, Some(110)), (4, Some(114)), (1, Some(114))]);
    lanes.finish();
    assert_eq!(rates(&lanes)[3..], [(3, Some(119))]);
    assert_eq!(lanes.state_rows(), 1, "only the newest version is kept");
}

#[test]
fn halves_of_updates_and_deletions() {
    // The row of 0 is replaced at 5, that of 5 is deleted: at its own time. The halves of an update may be cut apart.
    let mut lanes = join(JoinKind::Left, false, false);
    lanes.batch(LEFT, &orders(&[(1, 3, 1), (2, 6, 1), (3, 6, 2), (4, 9, 3)]));
    lanes.batch(RIGHT, &changes(&[(Some(1), 110, 0, 1, false), (Some(2), 7, 0, 1, false), (Some(1), 110, 0, -1, true)]));
    lanes.watermark(RIGHT, EventTime(1));
    lanes.batch(RIGHT, &changes(&[(Some(1), 114, 5, 1, true), (Some(2), 7, 0, -1, true), (Some(2), 8, 6, 1, true)]));
    lanes.batch(RIGHT, &changes(&[(Some(1), 114, 5, -1, false), (Some(3), 1, 0, 1, false), (Some(3), 1, 0, -1, true)]));
    // No new half came for the third key: a filter did not let it through.
    lanes.restart(2);
    lanes.finish();
    let mut found = rates(&lanes);
    found.sort();
    assert_eq!(found, [(1, Some(110)), (2, None), (3, Some(8)), (4, None)]);
    assert_eq!(lanes.state_rows(), 1, "keys that were deleted leave nothing behind");
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let (first, last) = (i64::MIN / 1_000, i64::MAX / 1_000);
    let mut lanes = join(JoinKind::Left, false, false);
    lanes.batch(LEFT, &orders(&[(1, first, 1), (2, last, 1)]));
    lanes.batch(RIGHT, &changes(&[(Some(1), 1, first, 1, false), (Some(1), 2, last, 1, false)]));
    lanes.finish();
    assert_eq!(rates(&lanes), [(1, Some(1)), (2, Some(2))]);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Time and key.
    Order(i64, Option<i64>),
    /// How far the version is ahead of the others, key, and whether it is a deletion.
    Version(i64, i64, bool),
}

/// How far versions are out of order at most.
const JITTER: i64 = 6;

struct Job {
    lanes: Lanes,
    partitions: [Partition; 2],
    orders: Vec<Values>,
    changes: Vec<Change>,
    is_stamped: bool,
}

impl Job {
    fn flush(&mut self, port: usize) {
        if port == LEFT {
            let rows = std::mem::take(&mut self.orders);
            let times: Vec<i64> = rows.iter().map(|row| row[1].unwrap()).collect();
            let rows = rows_of(&left(), &rows);
            let batch = match self.is_stamped {
                true => self.partitions[LEFT].stamped_batch(rows, &times),
                false => self.partitions[LEFT].batch(rows, &times),
            };
            return self.lanes.batch(LEFT, &batch);
        }
        let rows = std::mem::take(&mut self.changes);
        rows.iter().filter(|row| row.3 > 0 || !row.4).for_each(|row| {
            self.partitions[RIGHT].pass(row.2);
        });
        // Halves of updates may come in two batches.
        for piece in rows.chunks(2) {
            self.lanes.batch(RIGHT, &changes(piece));
        }
    }
}

fn check(kind: JoinKind, has_condition: bool, is_stamped: bool, delay: i64, events: &[(Event, Then)]) {
    let partitions = [Partition::new(delay), Partition::new(JITTER + 1)];
    let lanes = join(kind, has_condition, is_stamped);
    let mut job = Job { lanes, partitions, orders: vec![], changes: vec![], is_stamped };
    // Versions of each key by time: the rate, or nothing; and the orders with the watermark before each.
    let mut known: BTreeMap<i64, BTreeMap<i64, Option<i64>>> = BTreeMap::new();
    let mut newest: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let mut orders: Vec<(i64, i64, Option<i64>, i64)> = vec![];
    let mut partition = Partition::new(delay);
    for (at, (event, then)) in (0_i64..).zip(events) {
        let port = match *event {
            Event::Order(time, key) => {
                orders.push((at, time, key, partition.pass(time)));
                job.orders.push(vec![Some(at), Some(time), key]);
                LEFT
            }
            Event::Version(ahead, key, is_deletion) => {
                let time = at + ahead;
                if is_deletion {
                    job.changes.push((Some(key), 0, time, -1, false));
                    newest.remove(&key);
                } else {
                    let old = newest.insert(key, (at, time));
                    job.changes.extend(old.map(|(rate, time)| (Some(key), rate, time, -1, true)));
                    job.changes.push((Some(key), at, time, 1, old.is_some()));
                }
                known.entry(key).or_default().insert(time, (!is_deletion).then_some(at));
                RIGHT
            }
        };
        match then {
            Then::Nothing => {}
            Then::Cut => job.flush(port),
            Then::Watermark => {
                job.flush(port);
                job.lanes.watermark(port, EventTime(job.partitions[port].watermark));
            }
            Then::Restart(lanes) => job.lanes.restart(*lanes),
        }
    }
    job.flush(RIGHT);
    job.flush(LEFT);
    job.lanes.finish();

    let (mut expected, mut stamps) = (vec![], BTreeMap::new());
    for (id, time, key, came_at) in orders {
        let versions = key.and_then(|key| known.get(&key));
        let version = versions.and_then(|versions| {
            let (_, rate) = versions.range(..=time).next_back()?;
            let is_superseded = came_at > time && versions.range(time + 1..=came_at).next().is_some();
            rate.filter(|rate| !is_superseded && (!has_condition || id < *rate))
        });
        if version.is_some() || kind == JoinKind::Left {
            expected.push((time.max(came_at), id, version));
            stamps.insert(id, came_at.max(time - 1));
        }
    }
    for (batch, sent) in job.lanes.output.iter().filter(|_| is_stamped) {
        let own = batch.row_watermarks.as_ref().unwrap();
        for (row, own) in values_of(batch).iter().zip(own.values()) {
            assert_eq!(*own, stamps[&row[0].unwrap()], "{row:?}");
            assert!(*own >= sent.0, "the watermark that was sent has not passed a row");
        }
    }
    // In order of time, then of arrival.
    expected.sort();
    let mut expected: Vec<(i64, Option<i64>)> = expected.into_iter().map(|(_, id, rate)| (id, rate)).collect();
    let mut found = rates(&job.lanes);
    if !events.iter().any(|(_, then)| matches!(then, Then::Restart(lanes) if *lanes > 1)) {
        assert_eq!(found, expected);
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let alive = known.values().filter(|versions| versions.last_key_value().is_some_and(|(_, rate)| rate.is_some())).count();
    assert_eq!(job.lanes.state_rows(), alive as u64, "only the newest version of each key is kept");
}

fn events() -> impl Strategy<Value = Vec<(Event, Then)>> {
    let event = prop_oneof![
        (0_i64..60, prop::option::weighted(0.9, 0_i64..3)).prop_map(|(time, key)| Event::Order(time, key)),
        (0..=JITTER, 0_i64..3, prop::bool::weighted(0.2)).prop_map(|(ahead, key, deletion)| Event::Version(ahead, key, deletion)),
    ];
    let then = prop_oneof![
        3 => Just(Then::Nothing),
        2 => Just(Then::Cut),
        3 => Just(Then::Watermark),
        1 => (1_u32..4).prop_map(Then::Restart),
    ];
    prop::collection::vec((event, then), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn equals_plain_rust(
        is_left in any::<bool>(), has_condition in any::<bool>(), is_stamped in any::<bool>(), delay in 0_i64..40,
        events in events(),
    ) {
        let kind = if is_left { JoinKind::Left } else { JoinKind::Inner };
        check(kind, has_condition, is_stamped, delay, &events);
    }
}

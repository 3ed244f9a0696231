//! Deduplication behind an exchange, against plain Rust. The source has two partitions, each with a watermark of its own.

use std::collections::BTreeMap;

use arrow::array::Int64Array;
use proptest::prelude::*;
use thalweg_core::{ErrorKind, RowKind};
use thalweg_plan::NodeKind;

use super::*;
use crate::lane_harness::{Lanes, Partition, Then, Values, rows_of, schema_of, values_of, weighted};

const COLUMNS: [&str; 3] = ["id", "key", "at_ts"];
const DELAYS_MS: [i64; 2] = [3, 8];

#[derive(Clone, Copy, Debug)]
struct Row {
    partition: usize,
    time: i64,
    key: Option<i64>,
    /// How often it comes at once.
    times: i64,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    keep: Keep,
    is_by_time: bool,
    has_key: bool,
    /// Whether every row carries its watermark.
    is_stamped: bool,
}

/// A change of what is shown: its kind, the row, and its watermark: that before the row that made it, or for what is taken back the
/// greatest of its key so far.
type Change = (RowKind, Values, i64);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let then = prop_oneof![
        3 => Just(Then::Nothing),
        2 => Just(Then::Cut),
        3 => Just(Then::Watermark),
        1 => prop::sample::select(vec![1_u32, 2, 4]).prop_map(Then::Restart),
    ];
    let row = (0_usize..2, 0_i64..30, prop::option::weighted(0.9, 0_i64..8), 1_i64..3, then);
    let row = row.prop_map(|(partition, time, key, times, then)| Row { partition, time, key, times, then });
    prop::collection::vec(row, 0..60)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let keep = prop::sample::select(vec![Keep::First, Keep::Last]);
    (keep, any::<bool>(), prop::bool::weighted(0.8), any::<bool>()).prop_map(|(keep, is_by_time, has_key, is_stamped)| Shape {
        keep,
        is_by_time,
        has_key,
        is_stamped,
    })
}

fn schema() -> SchemaRef {
    schema_of(&COLUMNS)
}

fn node(shape: Shape) -> Deduplicate {
    let keys = if shape.has_key { vec![1] } else { vec![] };
    Deduplicate { keys, time_column: shape.is_by_time.then_some(2), keep: shape.keep, in_turn: None }
}

fn lanes(shape: Shape) -> Lanes {
    let node = node(shape);
    let keys = node.keys.clone();
    Lanes::new(NodeKind::Deduplicate(node), schema(), vec![schema()], vec![keys])
}

fn values(id: usize, row: &Row) -> Values {
    vec![Some(id as i64), row.key, Some(row.time)]
}

/// The operator in plain Rust, one row at a time.
struct Reference {
    shape: Shape,
    /// The row that is shown or waits, with its time.
    current: BTreeMap<Option<i64>, (i64, Values)>,
    done: BTreeSet<Option<i64>>,
    /// The greatest watermark before a row that was shown.
    greatest: BTreeMap<Option<i64>, i64>,
    changes: BTreeMap<Option<i64>, Vec<Change>>,
    late: u64,
}

impl Reference {
    fn key(&self, row: &Values) -> Option<i64> {
        row[1].filter(|_| self.shape.has_key)
    }

    fn change(&mut self, kind: RowKind, row: Values, own: i64) {
        self.changes.entry(self.key(&row)).or_default().push((kind, row, own));
    }

    fn row(&mut self, row: Values, own: i64) {
        let time = if self.shape.is_by_time { row[2].unwrap() } else { 0 };
        let key = self.key(&row);
        let before = self.current.get(&key).cloned();
        match (self.shape.keep, before) {
            (Keep::First, _) if self.shape.is_by_time && time < own => self.late += 1,
            (Keep::First, _) if self.done.contains(&key) => {}
            (Keep::First, _) if !self.shape.is_by_time => {
                self.done.insert(key);
                self.change(RowKind::Insert, row, own);
            }
            (Keep::First, Some((held, _))) if time >= held => {}
            (Keep::First, _) => drop(self.current.insert(key, (time, row))),
            (Keep::Last, Some((held, _))) if time < held => {}
            (Keep::Last, before) => {
                self.current.insert(key, (time, row.clone()));
                let greatest = self.greatest.entry(key).or_insert(own);
                *greatest = own.max(*greatest);
                let greatest = *greatest;
                match before {
                    None => self.change(RowKind::Insert, row, own),
                    Some((_, old)) => {
                        self.change(RowKind::UpdateBefore, old, greatest);
                        self.change(RowKind::UpdateAfter, row, own);
                    }
                }
            }
        }
    }

    fn watermark(&mut self, watermark: i64) {
        if self.shape.keep == Keep::First {
            let ready: Vec<_> = self.current.extract_if(.., |_, (time, _)| *time <= watermark).collect();
            for (key, (_, row)) in ready {
                self.done.insert(key);
                self.change(RowKind::Insert, row, i64::MIN);
            }
        }
    }
}

/// The changes of each key.
fn found(lanes: &Lanes, reference: &Reference) -> BTreeMap<Option<i64>, Vec<Change>> {
    let mut changes: BTreeMap<Option<i64>, Vec<Change>> = BTreeMap::new();
    for (batch, _) in &lanes.output {
        for (at, row) in values_of(batch).into_iter().enumerate() {
            let own = batch.row_watermarks.as_ref().map_or(i64::MIN, |own| own.value(at));
            changes.entry(reference.key(&row)).or_default().push((batch.kind(at), row, own));
        }
    }
    changes
}

fn without_watermarks(changes: &BTreeMap<Option<i64>, Vec<Change>>) -> BTreeMap<Option<i64>, Vec<(RowKind, Values)>> {
    let row = |(kind, row, _): &Change| (*kind, row.clone());
    changes.iter().map(|(key, changes)| (*key, changes.iter().map(row).collect())).collect()
}

fn check(shape: Shape, rows: &[Row]) -> Result<(), TestCaseError> {
    let mut lanes = lanes(shape);
    let mut reference = Reference {
        shape,
        current: BTreeMap::new(),
        done: BTreeSet::new(),
        greatest: BTreeMap::new(),
        changes: BTreeMap::new(),
        late: 0,
    };
    let mut partitions = DELAYS_MS.map(Partition::new);
    let mut naive_watermarks = [i64::MIN; 2];
    let mut waiting: [Vec<(usize, Row)>; 2] = [vec![], vec![]];
    let mut watermark = i64::MIN;
    let last = Row { partition: 0, time: 40, key: None, times: 1, then: Then::Watermark };
    for (id, row) in rows.iter().chain([&last]).enumerate() {
        waiting[row.partition].push((id, *row));
        if let Then::Restart(count) = row.then {
            lanes.restart(count);
            reference.watermark(watermark);
        }
        if matches!(row.then, Then::Cut | Then::Watermark) {
            for (at, waiting) in waiting.iter_mut().enumerate() {
                let rows = std::mem::take(waiting);
                // First by arrival gives a batch for a batch.
                let size = if shape.keep == Keep::First && !shape.is_by_time { 1 } else { rows.len().max(1) };
                for part in rows.chunks(size) {
                    let before = naive_watermarks[at];
                    let own = |row: usize| part[..row].iter().fold(before, |own, (_, row)| own.max(row.time - DELAYS_MS[at]));
                    let owns: Vec<i64> = (0..part.len()).map(own).collect();
                    naive_watermarks[at] = own(part.len());
                    let times: Vec<i64> = part.iter().map(|(_, row)| row.time).collect();
                    let rows: Vec<(Values, i64)> = part.iter().map(|(id, row)| (values(*id, row), row.times)).collect();
                    let batch = weighted(&schema(), &rows);
                    let mut batch = Batch { weights: batch.weights, ..partitions[at].batch(batch.rows, &times) };
                    if shape.is_stamped {
                        batch.row_watermarks = Some(Int64Array::from(owns.clone()));
                    }
                    lanes.batch(0, &batch);
                    for ((row, times), own) in rows.into_iter().zip(owns) {
                        (0..times).for_each(|_| reference.row(row.clone(), own));
                    }
                }
            }
        }
        if matches!(row.then, Then::Watermark) {
            watermark = partitions.iter().map(|partition| partition.watermark).min().unwrap();
            lanes.watermark(0, EventTime(watermark));
            reference.watermark(watermark);
        }
        let found = found(&lanes, &reference);
        prop_assert_eq!(without_watermarks(&found), without_watermarks(&reference.changes));
        if shape.is_stamped {
            prop_assert_eq!(&found, &reference.changes);
        }
        prop_assert_eq!(lanes.late_rows(), reference.late);
        prop_assert_eq!(lanes.state_rows(), (reference.current.len() + reference.done.len()) as u64);
    }
    let sent = lanes.output.len();
    lanes.finish();
    reference.watermark(i64::MAX);
    prop_assert_eq!(without_watermarks(&found(&lanes, &reference)), without_watermarks(&reference.changes));
    prop_assert_eq!(lanes.slots().iter().all(|slot| slot == "done"), shape.keep == Keep::First);
    if !rows.iter().any(|row| matches!(row.then, Then::Restart(_))) {
        let times: Vec<Option<i64>> =
            lanes.output[sent..].iter().flat_map(|(batch, _)| values_of(batch)).map(|row| row[2]).collect();
        prop_assert!(times.is_sorted(), "rows of one watermark come in order of time: {:?}", times);
    }
    Ok(())
}

proptest! {
    #[test]
    fn one_row_of_a_key_is_kept(shape in shapes(), rows in rows()) {
        check(shape, &rows)?;
    }
}

fn first_by_time() -> Lanes {
    lanes(Shape { keep: Keep::First, is_by_time: true, has_key: true, is_stamped: false })
}

fn batch(rows: &[(i64, i64)]) -> Batch {
    let rows: Vec<Values> =
        rows.iter().enumerate().map(|(id, (key, time))| vec![Some(id as i64), Some(*key), Some(*time)]).collect();
    Batch::append(rows_of(&schema(), &rows))
}

#[test]
fn only_rows_strictly_behind_their_watermark_are_late() {
    let mut lanes = first_by_time();
    lanes.watermark(0, EventTime(5));
    let row_watermarks = Some(Int64Array::from(vec![5, 5, 5]));
    lanes.batch(0, &Batch { row_watermarks, ..batch(&[(1, 4), (2, 5), (3, 6)]) });
    lanes.finish();
    let keys: Vec<_> = lanes.output.iter().flat_map(|(batch, _)| values_of(batch)).map(|row| row[1]).collect();
    assert_eq!((keys, lanes.late_rows()), (vec![Some(2), Some(3)], 1));
}

#[test]
fn of_equal_times_the_row_that_came_first_is_the_first_and_the_last_the_last() {
    let rows = [(1, 5), (1, 5), (1, 5)];
    let mut lanes = first_by_time();
    lanes.batch(0, &batch(&rows));
    lanes.finish();
    assert_eq!(values_of(&lanes.output[0].0)[0][0], Some(0));
    let mut lanes = self::lanes(Shape { keep: Keep::Last, is_by_time: true, has_key: true, is_stamped: false });
    lanes.batch(0, &batch(&rows));
    let ids: Vec<_> = lanes.output.iter().flat_map(|(batch, _)| values_of(batch)).map(|row| row[0].unwrap()).collect();
    assert_eq!(ids, [0, 0, 1, 1, 2]);
}

#[test]
fn what_was_sent_leaves_only_its_key_behind() {
    let mut lanes = first_by_time();
    lanes.batch(0, &batch(&[(1, 5), (2, 7)]));
    lanes.restart(1);
    lanes.watermark(0, EventTime(5));
    lanes.restart(1);
    assert_eq!((lanes.state_rows(), lanes.slots().len()), (2, 2));
    lanes.finish();
    assert_eq!((lanes.state_rows(), lanes.slots()), (2, vec!["done".to_string()]));
}

#[test]
fn rows_are_not_taken_back() {
    for keep in [Keep::First, Keep::Last] {
        let node = node(Shape { keep, is_by_time: true, has_key: true, is_stamped: false });
        let mut operator = DeduplicateOperator::new(&node, &schema(), schema(), 10).unwrap();
        let batch = Batch { weights: Some(Int64Array::from(vec![-1])), ..batch(&[(1, 5)]) };
        assert_eq!(operator.on_batch(0, batch, &mut Output::default()).unwrap_err().kind, ErrorKind::Internal);
    }
}

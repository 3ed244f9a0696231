//! Top-N and LIMIT behind an exchange, against plain Rust: all rows in order, numbered, cut.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use thalweg_core::ErrorKind;
use thalweg_plan::{NodeKind, RankFunction, RankRange, SortKey, TopN};

use super::*;
use crate::lane_harness::{Integral, Lanes, Values, rows_of, schema_of, values_of, weighted};
use crate::test_lanes::lines;

const COLUMNS: [&str; 4] = ["key", "value", "other", "id"];

#[derive(Clone, Debug)]
enum Step {
    /// How often the row comes at once.
    Insert(Values, i64),
    /// Of the rows that are there one goes, this often if it is there so often.
    TakeBack(Index, i64),
    /// The batch ends, and the lanes start again if there is a number of them.
    Cut(Option<u32>),
}

fn top_n() -> impl Strategy<Value = TopN> {
    let function = prop_oneof![
        3 => Just(RankFunction::RowNumber),
        1 => Just(RankFunction::Rank),
        1 => Just(RankFunction::DenseRank),
    ];
    let sort_key = (1_usize..3, any::<bool>(), any::<bool>());
    let sort_key = sort_key.prop_map(|(column, descending, nulls_first)| SortKey { column, descending, nulls_first });
    let range = (1_u64..4, prop::option::weighted(0.8, 0_u64..6)).prop_map(|(start, end)| RankRange { start, end });
    let order = prop::collection::vec(sort_key, 0..3);
    (function, any::<bool>(), order, range, any::<bool>(), any::<bool>()).prop_map(
        |(function, has_key, order, range, output_rank, input_updating)| TopN {
            // Without an order there is nothing to rank by.
            function: if order.is_empty() { RankFunction::RowNumber } else { function },
            partition: if has_key { vec![0] } else { vec![] },
            order,
            range,
            output_rank,
            input_updating,
            in_turn: None,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = || prop::option::weighted(0.8, 0_i64..4);
    let row = (prop::option::of(0_i64..3), value(), value(), 0_i64..3);
    let row = row.prop_map(|(key, value, other, id)| vec![key, value, other, Some(id)]);
    let step = prop_oneof![
        8 => (row, 1_i64..3).prop_map(|(row, times)| Step::Insert(row, times)),
        4 => (any::<Index>(), 1_i64..3).prop_map(|(index, times)| Step::TakeBack(index, times)),
        2 => Just(Step::Cut(None)),
        2 => prop::sample::select(vec![1_u32, 2, 4]).prop_map(|lanes| Step::Cut(Some(lanes))),
    ];
    prop::collection::vec(step, 0..60)
}

fn lanes(node: &TopN) -> Lanes {
    let names = if node.output_rank { [&COLUMNS[..], &["rank"]].concat() } else { COLUMNS.to_vec() };
    Lanes::new(NodeKind::TopN(node.clone()), schema_of(&names), vec![schema_of(&COLUMNS)], vec![node.partition.clone()])
}

fn compare(order: &[SortKey], one: &Values, other: &Values) -> Ordering {
    let by = |key: &SortKey| match (one[key.column], other[key.column]) {
        (Some(one), Some(other)) if key.descending => other.cmp(&one),
        (Some(one), Some(other)) => one.cmp(&other),
        (None, None) => Ordering::Equal,
        (None, _) if key.nulls_first => Ordering::Less,
        (_, None) if !key.nulls_first => Ordering::Less,
        _ => Ordering::Greater,
    };
    order.iter().map(by).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

/// What is there of `rows`, which stand in order of arrival with how often they are there; and how many rows have a rank that is
/// not beyond the range.
fn reference(node: &TopN, rows: &[(Values, i64)]) -> (Integral, usize) {
    let key = |row: &Values| node.partition.iter().map(|column| row[*column]).collect::<Values>();
    let mut all: Vec<&Values> = rows.iter().flat_map(|(row, times)| std::iter::repeat_n(row, *times as usize)).collect();
    all.sort_by(|one, other| key(one).cmp(&key(other)).then(compare(&node.order, one, other)));
    let mut integral = Integral::default();
    let mut near = 0;
    for partition in all.chunk_by(|one, other| key(one) == key(other)) {
        for (at, row) in partition.iter().enumerate() {
            let smaller: Vec<_> = partition.iter().filter(|other| compare(&node.order, other, row).is_lt()).collect();
            let rank = match node.function {
                RankFunction::RowNumber => at + 1,
                RankFunction::Rank => smaller.len() + 1,
                RankFunction::DenseRank => smaller.chunk_by(|one, other| compare(&node.order, one, other).is_eq()).count() + 1,
            };
            if node.range.end.is_some_and(|end| rank as u64 > end) {
                continue;
            }
            near += 1;
            if rank as u64 >= node.range.start {
                let rank = node.output_rank.then_some(Some(rank as i64));
                integral.change(row.iter().copied().chain(rank).collect(), 1);
            }
        }
    }
    (integral, near)
}

fn check(node: &TopN, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut lanes = lanes(node);
    let is_limit = node.order.is_empty() && !node.input_updating;
    let mut rows: Vec<(Values, i64)> = vec![];
    let mut pending: Vec<(Values, i64)> = vec![];
    let mut output = Integral::default();
    let mut came = 0;
    for step in steps.iter().chain([&Step::Cut(None)]) {
        match step {
            Step::Insert(row, times) => {
                came += 1;
                let mut row = row.clone();
                if !node.input_updating {
                    row[3] = Some(came);
                }
                match rows.iter_mut().find(|(other, _)| *other == row) {
                    Some((_, held)) => *held += times,
                    None => rows.push((row.clone(), *times)),
                }
                pending.push((row, *times));
            }
            Step::TakeBack(index, times) if node.input_updating && !rows.is_empty() => {
                let at = index.index(rows.len());
                let times = rows[at].1.min(*times);
                pending.push((rows[at].0.clone(), -times));
                rows[at].1 -= times;
                rows.retain(|(_, held)| *held > 0);
            }
            Step::TakeBack(..) => {}
            Step::Cut(restart) => {
                // LIMIT gives a batch for a batch.
                let size = if is_limit { 1 } else { pending.len().max(1) };
                for part in pending.chunks(size) {
                    lanes.batch(0, &weighted(&schema_of(&COLUMNS), part));
                }
                pending.clear();
                lanes.output.drain(..).for_each(|(batch, _)| output.add(&batch));
                let (expected, near) = reference(node, &rows);
                prop_assert_eq!(&output.0, &expected.0);
                if !is_limit {
                    let held = if node.input_updating { rows.len() } else { near };
                    prop_assert_eq!(lanes.state_rows(), held as u64);
                }
                if let Some(restart) = restart {
                    lanes.restart(*restart);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn rows_in_range_are_those_of_a_sort(node in top_n(), steps in steps()) {
        check(&node, &steps)?;
    }
}

/// A row that comes or is taken back, with the watermark behind which that happens.
type Stamped = (Values, i64, i64);

/// Rows of two keys, each with an id of its own.
fn stamped_rows() -> impl Strategy<Value = Vec<Stamped>> {
    let step = (0_i64..2, 0_i64..6, prop::option::weighted(0.3, any::<Index>()), -40_i64..40);
    prop::collection::vec(step, 0..50).prop_map(|steps| {
        let mut there: Vec<Values> = vec![];
        let mut rows = vec![];
        for (id, (key, value, taken_back, came_behind)) in (0_i64..).zip(steps) {
            match taken_back.filter(|_| !there.is_empty()) {
                Some(index) => rows.push((there.swap_remove(index.index(there.len())), -1, came_behind)),
                None => {
                    let row = vec![Some(key), Some(value), None, Some(id)];
                    there.push(row.clone());
                    rows.push((row, 1, came_behind));
                }
            }
        }
        rows
    })
}

/// The changes of each key for rows that come in batches of `length`, with a restart behind each.
fn stamped_changes(node: &TopN, rows: &[Stamped], length: usize, restart: u32) -> BTreeMap<Option<i64>, Vec<Stamped>> {
    let mut lanes = lanes(node);
    for rows in rows.chunks(length) {
        let changes: Vec<(Values, i64)> = rows.iter().map(|(row, weight, _)| (row.clone(), *weight)).collect();
        let row_watermarks = Some(Int64Array::from_iter_values(rows.iter().map(|row| row.2)));
        lanes.batch(0, &Batch { row_watermarks, ..weighted(&schema_of(&COLUMNS), &changes) });
        lanes.restart(restart);
    }
    let mut changes: BTreeMap<Option<i64>, Vec<Stamped>> = BTreeMap::new();
    for (batch, _) in &lanes.output {
        for (at, row) in values_of(batch).into_iter().enumerate() {
            let own = batch.row_watermarks.as_ref().unwrap().value(at);
            changes.entry(row[0]).or_default().push((row, batch.weight(at), own));
        }
    }
    changes
}

proptest! {
    /// However rows are cut: what comes and what leaves carries the watermark of the row that causes it.
    #[test]
    fn changes_are_as_late_as_what_causes_them(
        rows in stamped_rows(),
        (output_rank, input_updating) in any::<(bool, bool)>(),
        length in 1_usize..6,
        restart in 1_u32..3,
    ) {
        let node = first_two(output_rank, input_updating);
        let rows: Vec<Stamped> = rows.into_iter().filter(|row| input_updating || row.1 > 0).collect();
        let changes = stamped_changes(&node, &rows, 1, 1);
        prop_assert_eq!(&stamped_changes(&node, &rows, length, restart), &changes);
        for (key, changes) in changes {
            let mut causes = rows.iter().filter(|row| row.0[0] == key).map(|row| row.2);
            for (.., own) in changes.chunk_by(|one, other| one.2 == other.2).map(|same| &same[0]) {
                prop_assert!(causes.any(|cause| cause == *own), "in the order of their causes");
            }
        }
    }
}

#[test]
fn a_row_that_enters_is_as_late_as_the_one_that_leaves() {
    let row = |value, id| vec![Some(1), Some(value), None, Some(id)];
    let rows = [(row(1, 0), 1, 10), (row(2, 1), 1, 20), (row(3, 2), 1, 5), (row(1, 0), -1, 30), (row(0, 3), 1, 37)];
    let changes = stamped_changes(&first_two(false, true), &rows, 5, 1).remove(&Some(1)).unwrap();
    let changes: Vec<(i64, i64, i64)> = changes.into_iter().map(|(row, weight, own)| (row[3].unwrap(), weight, own)).collect();
    assert_eq!(changes, [(0, 1, 10), (1, 1, 20), (0, -1, 30), (2, 1, 30), (2, -1, 37), (3, 1, 37)]);
}

fn first_two(output_rank: bool, input_updating: bool) -> TopN {
    TopN {
        function: RankFunction::RowNumber,
        partition: vec![0],
        order: vec![SortKey { column: 1, descending: false, nulls_first: true }],
        range: RankRange { start: 1, end: Some(2) },
        output_rank,
        input_updating,
        in_turn: None,
    }
}

/// The changes for rows `(value, id, weight)` of one key, without key and other.
fn changes(node: &TopN, rows: &[(i64, i64, i64)]) -> Vec<String> {
    let mut lanes = lanes(node);
    let rows: Vec<(Values, i64)> =
        rows.iter().map(|(value, id, weight)| (vec![Some(1), Some(*value), None, Some(*id)], *weight)).collect();
    lanes.batch(0, &weighted(&schema_of(&COLUMNS), &rows));
    let columns: Vec<usize> = if node.output_rank { vec![1, 3, 4] } else { vec![1, 3] };
    let output = lanes.output.iter().map(|(batch, _)| batch.with_rows(batch.rows.project(&columns).unwrap()));
    lines(&output.collect::<Vec<_>>())
}

#[test]
fn with_the_rank_each_rank_that_changes_is_updated() {
    let rows = [(5, 0, 1), (3, 1, 1), (4, 2, 1), (3, 1, -1)];
    let expected =
        ["+I 5 0 1", "-U 5 0 1", "+U 3 1 1", "+I 5 0 2", "-U 5 0 2", "+U 4 2 2", "-U 3 1 1", "+U 4 2 1", "-U 4 2 2", "+U 5 0 2"];
    assert_eq!(changes(&first_two(true, true), &rows), expected);
    assert_eq!(changes(&first_two(true, false), &rows[..3]), expected[..6]);
}

#[test]
fn without_the_rank_a_row_leaves_and_another_enters() {
    let rows = [(5, 0, 1), (3, 1, 1), (4, 2, 1), (3, 1, -1)];
    let expected = ["+I 5 0", "+I 3 1", "-D 5 0", "+I 4 2", "-D 3 1", "+I 5 0"];
    assert_eq!(changes(&first_two(false, true), &rows), expected);
    let first = TopN { range: RankRange { start: 1, end: Some(1) }, ..first_two(false, false) };
    assert_eq!(changes(&first, &[(5, 0, 1), (3, 1, 1), (4, 2, 1)]), ["+I 5 0", "-U 5 0", "+U 3 1"]);
}

#[test]
fn append_only_rows_are_not_taken_back() {
    for order in [vec![], first_two(false, false).order] {
        let node = TopN { order, ..first_two(false, false) };
        let schema = schema_of(&COLUMNS);
        let mut operator = TopNOperator::create(&node, &schema, schema.clone(), 10).unwrap();
        let row = weighted(&schema, &[(vec![Some(1); 4], -1)]);
        assert_eq!(operator.on_batch(0, row, &mut Output::default()).unwrap_err().kind, ErrorKind::Internal);
    }
}

#[test]
fn nothing_can_be_taken_back_that_is_not_there() {
    let schema = schema_of(&COLUMNS);
    let mut operator = TopNOperator::create(&first_two(false, true), &schema, schema.clone(), 10).unwrap();
    let row = weighted(&schema, &[(vec![Some(1); 4], -1)]);
    assert_eq!(operator.on_batch(0, row.clone(), &mut Output::default()).unwrap_err().kind, ErrorKind::Record);
    operator.ignore_unmatched();
    let mut out = Output::default();
    operator.on_batch(0, row, &mut out).unwrap();
    operator.on_batch(0, Batch::append(rows_of(&schema, &[vec![Some(1); 4]])), &mut out).unwrap();
    assert_eq!((lines(&out.batches), operator.metrics().unmatched_rows), (vec!["+I 1 1 1 1".to_string()], 1));
}

//! The operator against plain Rust: after every batch, what it has put out adds up to the answer over all rows so far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use proptest::prelude::*;
use thalweg_core::{ErrorKind, LaneId, RowKind};
use thalweg_plan::AggregateCall;
use thalweg_plan::AggregateFunction::{self, ArrayAgg, Avg, Collect, Count, FirstValue, LastValue, ListAgg, Max, Min, Sum};

use thalweg_state::SlotChange;

use super::*;
use crate::partition_by_lane;
use crate::running::RESULT_BYTES;
use crate::test_lanes::Store;

/// `(key, value, word, filter)`
type Row = (Option<f64>, Option<i64>, Option<String>, Option<bool>);

fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Float64, true),
        Field::new("value", DataType::Int64, true),
        Field::new("word", DataType::Utf8, true),
        Field::new("filter", DataType::Boolean, true),
    ]))
}

fn batch(rows: &[(Row, i64)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from_iter(rows.iter().map(|(row, _)| row.0))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|(row, _)| row.1))),
        Arc::new(StringArray::from_iter(rows.iter().map(|(row, _)| row.2.clone()))),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|(row, _)| row.3))),
    ];
    let weights = rows.iter().map(|(_, weight)| *weight).collect::<Vec<_>>();
    let weights = weights.iter().any(|weight| *weight != 1).then(|| Int64Array::from(weights));
    Batch { weights, ..Batch::append(RecordBatch::try_new(input_schema(), columns).unwrap()) }
}

fn call(function: AggregateFunction, argument: Option<usize>, data_type: DataType) -> AggregateCall {
    let separator = (function == ListAgg).then(|| "+".to_string());
    let output = Arc::new(Field::new("result", data_type, true));
    AggregateCall { function, argument, filter: None, distinct: false, separator, output }
}

fn calls() -> Vec<AggregateCall> {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, false)];
    let multiset = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false);
    let distinct = |call: AggregateCall| AggregateCall { distinct: true, ..call };
    vec![
        call(Count, None, DataType::Int64),
        call(Count, Some(1), DataType::Int64),
        AggregateCall { filter: Some(3), ..call(Sum, Some(1), DataType::Int64) },
        call(Avg, Some(1), DataType::Int64),
        call(Min, Some(1), DataType::Int64),
        call(Max, Some(2), DataType::Utf8),
        distinct(call(Count, Some(2), DataType::Int64)),
        distinct(call(Sum, Some(1), DataType::Int64)),
        AggregateCall { filter: Some(3), ..distinct(call(Count, Some(1), DataType::Int64)) },
        call(FirstValue, Some(1), DataType::Int64),
        call(LastValue, Some(2), DataType::Utf8),
        call(ListAgg, Some(2), DataType::Utf8),
        call(ArrayAgg, Some(1), list),
        call(Collect, Some(2), multiset),
    ]
}

fn operator(keys: &[usize], calls: &[AggregateCall], input_updating: bool) -> GroupAggregateOperator {
    let input = input_schema();
    let fields: Vec<FieldRef> =
        keys.iter().map(|key| input.fields()[*key].clone()).chain(calls.iter().map(|call| call.output.clone())).collect();
    let node = GroupAggregate { keys: keys.to_vec(), aggregates: calls.to_vec(), input_updating, window_time: None };
    GroupAggregateOperator::new(&node, &input, Arc::new(Schema::new(fields)), 3).unwrap()
}

/// One text per value of a row.
fn texts(rows: &RecordBatch, row: usize) -> Vec<String> {
    rows.columns()
        .iter()
        .map(|column| match column.data_type() {
            _ if column.is_null(row) => "-".to_string(),
            DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
            _ => arrow::util::display::array_value_to_string(column, row).unwrap(),
        })
        .collect()
}

/// What a group holds. Values and words have orders of their own: taking one back removes the earliest that is equal.
#[derive(Default)]
struct NaiveGroup {
    rows: i64,
    values: Vec<Option<i64>>,
    words: Vec<Option<String>>,
    filtered: Vec<Option<i64>>,
}

fn change<T: PartialEq>(values: &mut Vec<T>, value: T, weight: i64) {
    if weight > 0 {
        values.push(value);
    } else {
        values.remove(values.iter().position(|known| *known == value).unwrap());
    }
}

/// The answer over all changes so far.
fn naive(log: &[(Row, i64)], keyed: bool) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<String, NaiveGroup> = BTreeMap::new();
    for (row, weight) in log {
        let key = row.0.map_or("-".to_string(), |key| format!("{key:?}"));
        let group = groups.entry(if keyed { key } else { String::new() }).or_default();
        group.rows += weight;
        change(&mut group.values, row.1, *weight);
        change(&mut group.words, row.2.clone(), *weight);
        if row.3 == Some(true) {
            change(&mut group.filtered, row.1, *weight);
        }
    }
    groups.retain(|_, group| group.rows > 0);
    let text = |value: Option<String>| value.unwrap_or("-".to_string());
    let answer = |key: &String, group: &NaiveGroup| {
        let values: Vec<i64> = group.values.iter().flatten().copied().collect();
        let filtered: Vec<i64> = group.filtered.iter().flatten().copied().collect();
        let words: Vec<&String> = group.words.iter().flatten().collect();
        let mut unique = values.clone();
        unique.sort_unstable();
        unique.dedup();
        let mut counts: BTreeMap<&String, i32> = BTreeMap::new();
        words.iter().for_each(|word| *counts.entry(*word).or_default() += 1);
        let n = values.len() as i64;
        let sum = values.iter().sum::<i64>();
        let some = |present: bool, value: &dyn Fn() -> i64| text(present.then(|| value().to_string()));
        let items: Vec<String> =
            group.values.iter().map(|value| value.map_or(String::new(), |value| value.to_string())).collect();
        let pairs: Vec<String> = counts.iter().map(|(word, count)| format!("{word}: {count}")).collect();
        let results = vec![
            group.rows.to_string(),
            n.to_string(),
            some(!filtered.is_empty(), &|| filtered.iter().sum()),
            some(n > 0, &|| sum / n),
            text(values.iter().min().map(i64::to_string)),
            text(words.iter().max().map(|word| word.to_string())),
            counts.len().to_string(),
            some(n > 0, &|| unique.iter().sum()),
            filtered.iter().collect::<BTreeSet<_>>().len().to_string(),
            text(values.first().map(i64::to_string)),
            text(words.last().map(|word| word.to_string())),
            text((!words.is_empty()).then(|| words.iter().map(|word| word.as_str()).collect::<Vec<_>>().join("+"))),
            format!("[{}]", items.join(", ")),
            format!("{{{}}}", pairs.join(", ")),
        ];
        if keyed { [vec![key.clone()], results].concat() } else { results }
    };
    let mut answers: Vec<Vec<String>> = groups.iter().map(|(key, group)| answer(key, group)).collect();
    answers.sort();
    answers
}

/// Adds a changelog to a table, row by row; no row may ever be there twice or be taken back when it is not there.
fn apply(table: &mut Vec<Vec<String>>, batches: &[Batch]) {
    for batch in batches {
        for row in 0..batch.num_rows() {
            let values = texts(&batch.rows, row);
            let at = table.iter().position(|known| *known == values);
            match (batch.weight(row), at) {
                (1, None) => table.push(values),
                (-1, Some(at)) => drop(table.remove(at)),
                (weight, at) => panic!("weight {weight} for {values:?} at {at:?}"),
            }
        }
    }
}

/// Steps of a run: how many rows come (below 0: are taken back, earliest of equals), and what happens behind them.
#[derive(Clone, Debug)]
enum Step {
    Insert(Row),
    TakeBack(prop::sample::Index),
    Cut,
    Snapshot,
    Restart(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::option::of(prop::sample::select(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.5, 2.5]));
    let word = prop::option::of(prop::sample::select(vec!["", "a", "b", "long word"])).prop_map(|word| word.map(str::to_string));
    let row = (key, prop::option::of(-3_i64..4), word, prop::option::of(any::<bool>()));
    prop::collection::vec(
        prop_oneof![
            6 => row.prop_map(Step::Insert),
            4 => any::<prop::sample::Index>().prop_map(Step::TakeBack),
            2 => Just(Step::Cut),
            1 => Just(Step::Snapshot),
            1 => (1_u32..4).prop_map(Step::Restart),
        ],
        0..60,
    )
}

fn same(one: &Row, other: &Row) -> bool {
    let key = |row: &Row| row.0.map(|key| if key.is_nan() { "NaN".to_string() } else { format!("{key:?}") });
    key(one) == key(other) && one.1 == other.1 && one.2 == other.2 && one.3 == other.3
}

struct Run {
    calls: Vec<AggregateCall>,
    keys: Vec<usize>,
    updating: bool,
    lanes: Vec<GroupAggregateOperator>,
    stores: Vec<Store>,
    table: Vec<Vec<String>>,
    rows: Vec<Row>,
    log: Vec<(Row, i64)>,
    pending: Vec<(Row, i64)>,
    epoch: u64,
}

impl Run {
    fn flush(&mut self) {
        let rows = batch(&self.pending);
        self.log.append(&mut self.pending);
        let shares = partition_by_lane(&rows, &self.keys, self.lanes.len() as u32).unwrap();
        for (lane, share) in self.lanes.iter_mut().zip(shares) {
            let mut out = Output::default();
            if let Some(share) = share {
                lane.on_batch(0, share, &mut out).unwrap();
            }
            assert!(out.batches.iter().all(|batch| batch.num_rows() <= 3));
            apply(&mut self.table, &out.batches);
        }
        self.table.sort();
        assert_eq!(self.table, naive(&self.log, !self.keys.is_empty()));
    }

    fn snapshot(&mut self) {
        self.epoch += 1;
        for (lane, store) in self.lanes.iter_mut().zip(&mut self.stores) {
            store.apply(lane.snapshot(Epoch(self.epoch)).unwrap());
        }
    }

    fn restart(&mut self, lanes: u32) {
        self.snapshot();
        let restored = (0..lanes).map(|lane| {
            let mut operator = operator(&self.keys, &self.calls, self.updating);
            operator.restore(self.stores.iter().flat_map(|store| store.parts(lane, lanes)).collect()).unwrap();
            if self.lanes.len() as u32 != lanes {
                operator.mark_all_dirty();
            }
            operator
        });
        let restored: Vec<_> = restored.collect();
        if self.lanes.len() as u32 != lanes {
            self.stores = (0..lanes).map(|_| Store::default()).collect();
        }
        self.lanes = restored;
    }
}

fn check(steps: Vec<Step>, keys: Vec<usize>, calls: Vec<AggregateCall>, updating: bool) {
    let lanes = vec![operator(&keys, &calls, updating)];
    let stores = vec![Store::default()];
    let mut run =
        Run { calls, keys, updating, lanes, stores, table: vec![], rows: vec![], log: vec![], pending: vec![], epoch: 0 };
    for step in steps {
        match step {
            Step::Insert(row) => {
                run.rows.push(row.clone());
                run.pending.push((row, 1));
            }
            Step::TakeBack(index) if updating && !run.rows.is_empty() => {
                let chosen = index.get(&run.rows).clone();
                let first = run.rows.iter().position(|row| same(row, &chosen)).unwrap();
                run.pending.push((run.rows.remove(first), -1));
            }
            Step::TakeBack(_) => {}
            Step::Cut => run.flush(),
            Step::Snapshot => {
                run.flush();
                run.snapshot();
            }
            Step::Restart(lanes) => {
                run.flush();
                run.restart(lanes);
            }
        }
    }
    run.flush();
    run.restart(2);
    run.flush();
}

proptest! {
    #[test]
    fn streaming_is_batch_with_retractions(steps in steps(), keyed in any::<bool>()) {
        check(steps, if keyed { vec![0] } else { vec![] }, calls(), true);
    }

    #[test]
    fn streaming_is_batch_over_appends(steps in steps(), keyed in any::<bool>()) {
        check(steps, if keyed { vec![0] } else { vec![] }, calls(), false);
    }
}

fn row(key: f64, value: i64) -> Row {
    (Some(key), Some(value), None, Some(true))
}

/// Marks and texts of what comes out for one batch.
fn changelog(operator: &mut GroupAggregateOperator, rows: &[(Row, i64)]) -> Result<Vec<String>> {
    let mut out = Output::default();
    operator.on_batch(0, batch(rows), &mut out)?;
    let lines = out.batches.iter().flat_map(|batch| {
        (0..batch.num_rows())
            .map(|row| format!("{} {}", batch.kind(row).mark(), texts(&batch.rows, row).join(" ")))
            .collect::<Vec<_>>()
    });
    Ok(lines.collect())
}

#[test]
fn changes_come_row_by_row_in_order() {
    let mut max = operator(&[0], &[call(Max, Some(1), DataType::Int64)], true);
    let rows = [(row(1.0, 5), 1), (row(1.0, 3), 1), (row(1.0, 7), 1), (row(1.0, 7), -1), (row(1.0, 5), -1), (row(1.0, 3), -1)];
    let expected = ["+I 1.0 5", "-U 1.0 5", "+U 1.0 7", "-U 1.0 7", "+U 1.0 5", "-U 1.0 5", "+U 1.0 3", "-D 1.0 3"];
    assert_eq!(changelog(&mut max, &rows).unwrap(), expected);
    assert_eq!((max.metrics().state_rows, RowKind::Delete.mark()), (0, "-D"));
}

#[test]
fn weights_count_rows() {
    let mut sum = operator(&[], &[call(Sum, Some(1), DataType::Int64)], true);
    assert_eq!(changelog(&mut sum, &[(row(1.0, 5), 3), (row(1.0, 5), 0)]).unwrap(), ["+I 15"]);
    assert_eq!(changelog(&mut sum, &[(row(1.0, 5), -3)]).unwrap(), ["-D 15"]);
}

#[test]
fn what_was_never_there_cannot_be_taken_back() {
    let mut count = operator(&[0], &[call(Count, None, DataType::Int64)], true);
    let error = changelog(&mut count, &[(row(1.0, 5), -1)]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Record);
    assert_eq!(error.message, "a row is taken back that group key = 1.0 does not hold");
    let mut max = operator(&[0], &[call(Max, Some(1), DataType::Int64)], true);
    let error = changelog(&mut max, &[(row(1.0, 5), 1), (row(1.0, 5), 1), (row(1.0, 6), -1)]).unwrap_err();
    assert_eq!(error.message, "MAX(value) is to take back a value that it does not hold, in group key = 1.0");
}

#[test]
fn overflow_names_the_group() {
    let mut sum = operator(&[0], &[call(Sum, Some(1), DataType::Int64)], false);
    let error = changelog(&mut sum, &[(row(1.0, i64::MAX), 1), (row(1.0, 1), 1)]).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Record, "SUM(value) overflows BIGINT for group key = 1.0"));
}

#[test]
fn snapshots_hold_what_changed() {
    let calls = [call(Sum, Some(1), DataType::Int64)];
    let mut sum = operator(&[1], &calls, true);
    let rows: Vec<(Row, i64)> = (0..2_000).map(|value| (row(1.0, value), 1)).collect();
    sum.on_batch(0, batch(&rows), &mut Output::default()).unwrap();
    let rows_of = |delta: StateDelta| match delta.changes.as_slice() {
        [(_, SlotChange::Replace(rows))] => ("whole", rows.num_rows()),
        [(_, SlotChange::Merge(rows))] => ("part", rows.num_rows()),
        _ => ("none", 0),
    };
    assert_eq!(rows_of(sum.snapshot(Epoch(1)).unwrap()), ("whole", 2_000));
    assert_eq!(rows_of(sum.snapshot(Epoch(2)).unwrap()), ("none", 0));
    // One changed, one gone, one that came and went.
    let rows = [(row(1.0, 7), 1), (row(1.0, 8), -1), (row(1.0, -1), 1), (row(1.0, -1), -1)];
    sum.on_batch(0, batch(&rows), &mut Output::default()).unwrap();
    assert_eq!(rows_of(sum.snapshot(Epoch(3)).unwrap()), ("part", 2));
    // One that was gone comes again and goes again.
    sum.on_batch(0, batch(&[(row(1.0, 9), -1)]), &mut Output::default()).unwrap();
    sum.on_batch(0, batch(&[(row(1.0, 9), 1), (row(1.0, 9), -1)]), &mut Output::default()).unwrap();
    assert_eq!(rows_of(sum.snapshot(Epoch(4)).unwrap()), ("part", 1));
}

#[test]
fn a_lane_is_made_from_a_node() {
    let kind = thalweg_plan::NodeKind::GroupAggregate(GroupAggregate {
        keys: vec![0],
        aggregates: vec![],
        input_updating: false,
        window_time: None,
    });
    let schema = Arc::new(Schema::new(vec![input_schema().field(0).clone()]));
    let id = thalweg_plan::OperatorId("distinct".to_string());
    let node = thalweg_plan::Node { id, kind, inputs: vec![], schema, properties: Default::default(), span: None };
    let context = OperatorContext { lane: LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: 10, ignores_unmatched: false };
    let mut distinct = crate::build(&node, &[input_schema()], &context).unwrap();
    let mut out = Output::default();
    distinct.on_batch(0, batch(&[(row(1.0, 1), 1), (row(1.0, 2), 1), (row(-0.0, 2), 1)]), &mut out).unwrap();
    assert_eq!(out.batches[0].column(0).as_primitive::<Float64Type>().values(), &[1.0, -0.0]);
}

#[test]
fn results_much_larger_than_their_rows_are_made_in_parts() {
    let mut list = operator(&[], &[call(ListAgg, Some(2), DataType::Utf8)], false);
    let word = "x".repeat(1_000);
    let rows: Vec<(Row, i64)> = (0..1_000).map(|_| ((Some(1.0), None, Some(word.clone()), None), 1)).collect();
    let mut out = Output::default();
    list.on_batch(0, batch(&rows), &mut out).unwrap();
    assert_eq!(out.batches.iter().map(Batch::num_rows).sum::<usize>(), 1_999);
    let last = out.batches.last().unwrap();
    assert_eq!(last.column(0).as_string::<i32>().value(last.num_rows() - 1).len(), 1_000 * 1_001 - 1);
    // A thousand results, half a MiB each on average, twice: none of the arrays behind the batches holds them all.
    assert!(out.batches.iter().all(|batch| batch.column(0).get_array_memory_size() < 4 * RESULT_BYTES));
}

#[test]
fn a_long_key_is_stored_once() {
    let distinct = AggregateCall { distinct: true, ..call(Count, Some(1), DataType::Int64) };
    let mut count = operator(&[2], &[distinct], false);
    let row = |value: i64| ((None, Some(value), Some("k".repeat(1 << 20)), None), 1);
    for values in (0..40).collect::<Vec<i64>>().chunks(10) {
        let rows: Vec<(Row, i64)> = values.iter().map(|value| row(*value)).collect();
        count.on_batch(0, batch(&rows), &mut Output::default()).unwrap();
    }
    let delta = count.snapshot(Epoch(1)).unwrap();
    let bytes = delta.changes.iter().map(|(_, change)| match change {
        SlotChange::Replace(rows) | SlotChange::Merge(rows) => rows.get_array_memory_size(),
        SlotChange::Drop => 0,
    });
    assert!(bytes.sum::<usize>() < 4 << 20);
}

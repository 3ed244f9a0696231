use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use proptest::prelude::*;
use thalweg_core::ErrorKind;
use thalweg_plan::AggregateCall;
use thalweg_plan::AggregateFunction::{self, ArrayAgg, Count, FirstValue, Sum};

use super::*;
use crate::group_aggregate::create;
use crate::test_lanes::{BATCH_ROWS, Lanes, lines};

/// `(key, last instant of the window, value)`
type Row = (Option<i64>, i64, Option<i64>);

fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("window_time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("value", DataType::Int64, true),
    ]))
}

/// Rows with their weights and watermarks.
fn batch(rows: &[(Row, i64, i64)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|(row, ..)| row.0))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(row, ..)| row.1 * 1_000))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|(row, ..)| row.2))),
    ];
    Batch {
        weights: Some(Int64Array::from_iter_values(rows.iter().map(|(_, weight, _)| *weight))),
        row_watermarks: Some(Int64Array::from_iter_values(rows.iter().map(|(.., watermark)| *watermark))),
        ..Batch::append(RecordBatch::try_new(input_schema(), columns).unwrap())
    }
}

fn call(function: AggregateFunction, argument: Option<usize>, data_type: DataType) -> AggregateCall {
    let output = Arc::new(Field::new("result", data_type, true));
    AggregateCall { function, argument, filter: None, distinct: false, separator: None, output }
}

fn make(input_updating: bool, context: &OperatorContext) -> Box<dyn Operator> {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let aggregates = vec![
        call(Count, None, DataType::Int64),
        call(Sum, Some(2), DataType::Int64),
        call(FirstValue, Some(2), DataType::Int64),
        call(ArrayAgg, Some(2), list),
    ];
    let input = input_schema();
    let keys = [1, 0].map(|key: usize| input.fields()[key].clone());
    let fields: Vec<_> = keys.into_iter().chain(aggregates.iter().map(|call| call.output.clone())).collect();
    let node = GroupAggregate { keys: vec![1, 0], aggregates, input_updating, window_time: Some(1) };
    create(&node, &input, Arc::new(Schema::new(fields)), context).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Row, i64),
    TakeBack(prop::sample::Index),
    Cut,
    Watermark(i64),
    Restart(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (prop::option::of(0_i64..3), 0_i64..30, prop::option::of(-3_i64..4));
    prop::collection::vec(
        prop_oneof![
            8 => (row, -10_i64..30).prop_map(|(row, watermark)| Step::Insert(row, watermark)),
            3 => any::<prop::sample::Index>().prop_map(Step::TakeBack),
            2 => Just(Step::Cut),
            2 => (0_i64..32).prop_map(Step::Watermark),
            1 => (1_u32..4).prop_map(Step::Restart),
        ],
        0..80,
    )
}

/// The open windows, and for each the values of its groups in order of arrival.
#[derive(Default)]
struct Naive {
    windows: BTreeMap<i64, BTreeMap<Option<i64>, Vec<Option<i64>>>>,
    watermark: i64,
    late: u64,
}

impl Naive {
    fn change(&mut self, row: Row, weight: i64, own: i64) {
        if row.1 <= own.max(self.watermark) {
            self.late += 1;
            return;
        }
        let values = self.windows.entry(row.1).or_default().entry(row.0).or_default();
        if weight > 0 {
            values.push(row.2);
        } else {
            values.remove(values.iter().position(|value| *value == row.2).unwrap());
        }
    }

    fn close(&mut self, watermark: i64) -> Vec<String> {
        self.watermark = self.watermark.max(watermark);
        let text = |value: Option<i64>| value.map_or("-".to_string(), |value| value.to_string());
        let mut output = vec![];
        while let Some(window) = self.windows.first_entry().filter(|window| *window.key() <= watermark) {
            let (time, groups) = window.remove_entry();
            for (key, values) in groups.into_iter().filter(|(_, values)| !values.is_empty()) {
                let there: Vec<i64> = values.iter().flatten().copied().collect();
                let items: Vec<String> =
                    values.iter().map(|value| value.map_or(String::new(), |value| value.to_string())).collect();
                output.push(format!(
                    "+I {time} {} {} {} {} [{}]",
                    text(key),
                    values.len(),
                    text((!there.is_empty()).then(|| there.iter().sum())),
                    text(there.first().copied()),
                    items.join(", ")
                ));
            }
        }
        output
    }
}

/// Lines with the time of the window as a number.
fn numbered(batches: &[Batch]) -> Vec<String> {
    let line = |line: String| {
        let (second, rest) = (&line["+I 1970-01-01T00:00:00".len()..], "+I");
        let (fraction, others) = second.split_once(' ').unwrap();
        let ms: i64 = fraction.strip_prefix('.').map_or(0, |digits| digits.parse().unwrap());
        format!("{rest} {ms} {others}")
    };
    lines(batches).into_iter().map(line).collect()
}

proptest! {
    #[test]
    fn groups_are_sent_once_when_their_window_closes(steps in steps(), updating in any::<bool>()) {
        let create = |context: &OperatorContext| make(updating, context);
        let mut lanes = Lanes::new(&create, vec![1, 0]);
        let mut naive = Naive { watermark: i64::MIN, ..Naive::default() };
        let (mut there, mut pending) = (vec![], vec![]);
        for step in steps.into_iter().chain([Step::Cut, Step::Watermark(40)]) {
            match step {
                Step::Insert(row, own) => {
                    // What a row's own watermark closed stays closed for those that take it back.
                    there.push((row, own));
                    pending.push((row, 1, own));
                }
                Step::TakeBack(index) if updating && !there.is_empty() => {
                    let (row, own) = there.swap_remove(index.index(there.len()));
                    pending.push((row, -1, own));
                }
                Step::TakeBack(_) => {}
                Step::Cut => {
                    prop_assert!(lanes.on_batch(&batch(&pending)).unwrap().is_empty());
                    pending.drain(..).for_each(|(row, weight, own)| naive.change(row, weight, own));
                }
                Step::Watermark(watermark) => {
                    let batches = lanes.on_watermark(watermark).unwrap();
                    prop_assert!(batches.iter().all(|batch| batch.num_rows() <= BATCH_ROWS && batch.weights.is_none()));
                    let (mut output, mut expected) = (numbered(&batches), naive.close(watermark));
                    if lanes.operators.len() > 1 {
                        output.sort();
                        expected.sort();
                    }
                    prop_assert_eq!(output, expected);
                }
                Step::Restart(count) => lanes.restart(count).unwrap(),
            }
        }
        prop_assert_eq!(lanes.late_rows(), naive.late);
        prop_assert!(lanes.operators.iter().all(|operator| operator.metrics().state_rows == 0));
    }
}

#[test]
fn closed_windows_are_dropped_whole() {
    let create = |context: &OperatorContext| make(false, context);
    let mut lanes = Lanes::new(&create, vec![1, 0]);
    let rows = [(Some(1), 5, None), (Some(1), 9, None)].map(|row| (row, 1, i64::MIN));
    lanes.on_batch(&batch(&rows)).unwrap();
    lanes.snapshot().unwrap();
    assert_eq!(lanes.slots(), ["w5", "w5.items-0", "w9", "w9.items-0"]);
    assert_eq!(lanes.on_watermark(5).unwrap().len(), 1);
    lanes.snapshot().unwrap();
    assert_eq!(lanes.slots(), ["w9", "w9.items-0", "watermark"]);
}

#[test]
fn what_was_never_there_cannot_be_taken_back() {
    let create = |context: &OperatorContext| make(true, context);
    let error = Lanes::new(&create, vec![1, 0]).on_batch(&batch(&[((Some(1), 5, None), -1, i64::MIN)])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Record);
    assert!(error.message.starts_with("a row is taken back that group window_time = "), "{}", error.message);
}

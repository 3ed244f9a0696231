//! The operator against Flink's way of doing it in plain Rust: one row at a time, with a watermark behind each.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{BooleanArray, Float64Array, TimestampMicrosecondArray};
use arrow::datatypes::TimeUnit;
use proptest::prelude::*;
use thalweg_core::ErrorKind;
use thalweg_plan::AggregateFunction::{self, ArrayAgg, Avg, Count, FirstValue, LastValue, Max, Sum};
use thalweg_plan::{AggregateCall, OverCall, RankFunction, SortKey};

use super::*;
use crate::test_lanes::{BATCH_ROWS, Lanes, lines};

/// `(key, value, time in ms)`; its number is its id.
type Row = (Option<i64>, Option<i64>, i64);

fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("tenth", DataType::Float64, true),
        Field::new("zero", DataType::Int64, false),
    ]))
}

fn batch(rows: &[(usize, Row)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id as i64))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|(_, row)| row.0))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|(_, row)| row.1))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(_, row)| row.2 * 1_000 + 999))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|(_, row)| row.1.map(|value| value as f64 / 10.0)))),
        Arc::new(Int64Array::from(vec![0; rows.len()])),
    ];
    Batch::append(RecordBatch::try_new(input_schema(), columns).unwrap())
}

fn aggregate(function: AggregateFunction, argument: Option<usize>, data_type: DataType) -> OverCall {
    let output = Arc::new(Field::new("result", data_type, true));
    OverCall::Aggregate(AggregateCall { function, argument, filter: None, distinct: false, separator: None, output })
}

fn distinct(call: OverCall) -> OverCall {
    match call {
        OverCall::Aggregate(call) => OverCall::Aggregate(AggregateCall { distinct: true, ..call }),
        other => other,
    }
}

fn calls() -> Vec<OverCall> {
    let int64 = DataType::Int64;
    let number = || Arc::new(Field::new("number", DataType::Int64, true));
    vec![
        aggregate(Count, None, int64.clone()),
        aggregate(Sum, Some(2), int64.clone()),
        aggregate(Max, Some(2), int64.clone()),
        distinct(aggregate(Count, Some(2), int64.clone())),
        aggregate(FirstValue, Some(2), int64.clone()),
        aggregate(LastValue, Some(2), int64.clone()),
        aggregate(ArrayAgg, Some(2), DataType::List(Arc::new(Field::new("item", DataType::Int64, true)))),
        OverCall::Rank(RankFunction::RowNumber, number()),
        OverCall::Rank(RankFunction::Rank, number()),
        OverCall::Lag { argument: 2, offset: 1, default: None, output: number() },
        OverCall::Lag { argument: 0, offset: 2, default: Some(5), output: number() },
    ]
}

/// Calls at the beginning of [`calls`] that are aggregates.
const AGGREGATES: usize = 7;

fn node(order: OverOrder, frame: Frame, calls: Vec<OverCall>) -> Over {
    Over { partition: vec![1], order, frame, calls, input_updating: false, in_turn: None, stamps_rows: false }
}

fn make(node: &Over, context: &OperatorContext) -> Box<dyn Operator> {
    let input = input_schema();
    let fields: Vec<_> = input.fields().iter().cloned().chain(node.calls.iter().map(|call| call.output().clone())).collect();
    create(node, &input, Arc::new(Schema::new(fields)), context).unwrap()
}

fn text(value: Option<i64>) -> String {
    value.map_or("-".to_string(), |value| value.to_string())
}

/// What the calls give: over the values of the frame, oldest first, for the row that is `row_number`-th; `history` are the ids
/// and values of all rows up to the last peer.
fn answer(frame: &[Option<i64>], row_number: usize, history: &[(usize, Option<i64>)]) -> String {
    let values: Vec<i64> = frame.iter().flatten().copied().collect();
    let mut unique = values.clone();
    unique.sort_unstable();
    unique.dedup();
    let items: Vec<String> = frame.iter().map(|value| value.map_or(String::new(), |value| value.to_string())).collect();
    let back = |offset: usize| history.len().checked_sub(offset + 1).map(|at| history[at]);
    [
        frame.len().to_string(),
        text((!values.is_empty()).then(|| values.iter().sum())),
        text(values.iter().max().copied()),
        unique.len().to_string(),
        text(values.first().copied()),
        text(values.last().copied()),
        format!("[{}]", items.join(", ")),
        row_number.to_string(),
        history.len().to_string(),
        text(back(1).and_then(|(_, value)| value)),
        back(2).map_or(0, |(id, _)| id).to_string(),
    ]
    .join(" ")
}

#[derive(Default)]
struct NaivePartition {
    waiting: Vec<(i64, usize, Option<i64>)>,
    /// `(time, value)` of all rows that have passed.
    passed: Vec<(i64, Option<i64>)>,
    /// `(id, value)` of all rows that have passed.
    history: Vec<(usize, Option<i64>)>,
    last: Option<i64>,
    /// The timers that are set to forget the partition, and the one that does so.
    timers: BTreeSet<i64>,
    cleanup: Option<i64>,
}

impl NaivePartition {
    /// Lets time pass up to a watermark, adding `id answer` to the output.
    fn pass(&mut self, watermark: i64, frame: Frame, output: &mut Vec<String>) {
        loop {
            let row_time = self.waiting.iter().map(|(time, ..)| *time).min();
            let Some(time) = row_time.into_iter().chain(self.timers.first().copied()).min().filter(|time| *time <= watermark)
            else {
                return;
            };
            self.timers.remove(&time);
            if self.cleanup.is_some_and(|cleanup| cleanup <= time) {
                let waiting = std::mem::take(&mut self.waiting);
                *self = NaivePartition { waiting, ..NaivePartition::default() };
                continue;
            }
            self.last = Some(time);
            self.waiting.sort_unstable();
            let (peers, waiting): (Vec<_>, Vec<_>) = self.waiting.iter().copied().partition(|row| row.0 == time);
            self.waiting = waiting;
            if peers.is_empty() {
                continue;
            }
            let first = self.history.len();
            for (at, (_, id, value)) in peers.iter().enumerate() {
                self.passed.push((time, *value));
                self.history.push((*id, *value));
                if let Frame::Rows { preceding } = frame {
                    let rows = preceding.map_or(usize::MAX, |rows| rows as usize + 1);
                    let from = self.passed.len().saturating_sub(rows);
                    let values: Vec<_> = self.passed[from..].iter().map(|(_, value)| *value).collect();
                    // RANK counts all peers.
                    let answer = answer(&values, first + at + 1, &self.history);
                    let rank = (first + peers.len()).to_string();
                    let mut parts: Vec<String> = answer.rsplitn(4, ' ').map(str::to_string).collect();
                    parts[2] = rank;
                    parts.reverse();
                    output.push(format!("{id} {}", parts.join(" ")));
                }
            }
            if let Frame::Range { preceding_ms } = frame {
                let from = preceding_ms.map_or(i64::MIN, |distance| time - distance);
                let values: Vec<_> = self.passed.iter().filter(|(time, _)| *time >= from).map(|(_, value)| *value).collect();
                for (at, (_, id, _)) in peers.iter().enumerate() {
                    output.push(format!("{id} {}", answer(&values, first + at + 1, &self.history)));
                }
            }
        }
    }

    fn outlive(&mut self, time: i64, distance: i64) {
        if self.cleanup.is_none_or(|cleanup| cleanup < time + distance + 1) {
            self.cleanup = Some(time + distance * 3 / 2 + 1);
            self.timers.extend(self.cleanup);
        }
    }
}

/// The answer of Flink and how many rows it drops. The watermark is `delay` behind the latest row.
fn naive(rows: &[Row], frame: Frame, forgets: bool, delay: i64) -> (Vec<String>, u64) {
    let forgets = match frame {
        Frame::Range { preceding_ms } if forgets => preceding_ms,
        _ => None,
    };
    let mut partitions: BTreeMap<Option<i64>, NaivePartition> = BTreeMap::new();
    let (mut output, mut late, mut watermark) = (vec![], 0, i64::MIN);
    for (id, (key, value, time)) in rows.iter().enumerate() {
        let partition = partitions.entry(*key).or_default();
        let limit = if is_unbounded(frame) { Some(watermark) } else { partition.last };
        if limit.is_some_and(|limit| *time <= limit) {
            late += 1;
        } else {
            partition.waiting.push((*time, id, *value));
            forgets.into_iter().for_each(|distance| partition.outlive(*time, distance));
        }
        if time - delay > watermark {
            watermark = time - delay;
            partitions.values_mut().for_each(|partition| partition.pass(watermark, frame, &mut output));
        }
    }
    partitions.values_mut().for_each(|partition| partition.pass(i64::MAX, frame, &mut output));
    output.sort();
    (output, late)
}

/// The output without the input's columns but the id, sorted.
fn answers(batches: &[Batch]) -> Vec<String> {
    let mut answers: Vec<String> = batches
        .iter()
        .flat_map(|batch| {
            let columns: Vec<usize> = [0].into_iter().chain(6..batch.rows.num_columns()).collect();
            lines(&[Batch::append(batch.rows.project(&columns).unwrap())])
        })
        .map(|line| line.trim_start_matches("+I ").to_string())
        .collect();
    answers.sort();
    answers
}

/// A batch as a source makes it: with watermarks of rows where one may be late, or where a RANGE is bounded.
fn with_watermarks(rows: &[(usize, Row)], watermarks: &[i64], frame: Frame) -> Batch {
    let batch = batch(rows);
    let is_bounded_range = matches!(frame, Frame::Range { preceding_ms: Some(_) });
    let is_late =
        is_bounded_range || rows.iter().zip(watermarks).any(|((_, row), watermark)| row.2 <= watermark.saturating_add(1));
    let row_watermarks = is_late.then(|| Int64Array::from_iter_values(watermarks.iter().copied()));
    Batch { row_watermarks, ..batch }
}

/// How a run is cut: rows of a batch, whether the watermark comes behind it, whether and with how many lanes it goes on.
type Cut = (usize, bool, u32);

fn run(rows: &[Row], node: &Over, delay: i64, cuts: &[Cut]) -> (Vec<Batch>, u64) {
    let create = |context: &OperatorContext| make(node, context);
    let mut lanes = Lanes::new(&create, vec![1]);
    let mut output = vec![];
    let rows: Vec<(usize, Row)> = rows.iter().copied().enumerate().collect();
    let mut watermark = i64::MIN;
    let mut rest = rows.as_slice();
    for (length, advances, restart) in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(rest.len().min(*length));
        rest = later;
        let watermarks: Vec<i64> = now
            .iter()
            .map(|(_, row)| {
                let before = watermark;
                watermark = watermark.max(row.2 - delay);
                before
            })
            .collect();
        output.extend(lanes.on_batch(&with_watermarks(now, &watermarks, node.frame)).unwrap());
        if *advances {
            output.extend(lanes.on_watermark(watermark).unwrap());
        }
        if *restart > 0 {
            lanes.restart(*restart).unwrap();
        }
    }
    output.extend(lanes.on_watermark(i64::MAX).unwrap());
    (output, lanes.late_rows())
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (prop::option::of(0_i64..3), prop::option::of(-3_i64..4), -12_i64..13);
    // Time goes on, roughly.
    prop::collection::vec(row, 0..60).prop_map(|rows| {
        rows.into_iter().enumerate().map(|(at, (key, value, time))| (key, value, at as i64 / 2 + time)).collect()
    })
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    prop::collection::vec((1_usize..12, any::<bool>(), prop_oneof![3 => Just(0), 1 => 1_u32..4]), 1..20)
}

fn frames() -> impl Strategy<Value = Frame> {
    prop_oneof![
        Just(Frame::Rows { preceding: None }),
        Just(Frame::Range { preceding_ms: None }),
        (0_u64..4).prop_map(|rows| Frame::Rows { preceding: Some(rows) }),
        (0_i64..9).prop_map(|distance| Frame::Range { preceding_ms: Some(distance) }),
    ]
}

proptest! {
    #[test]
    fn by_event_time_as_flink(
        rows in rows(), frame in frames(), delay in 0_i64..6, cuts in cuts(), only_aggregates in any::<bool>(),
    ) {
        let mut calls = calls();
        calls.truncate(if only_aggregates { AGGREGATES } else { calls.len() });
        let node = node(OverOrder::EventTime(3), frame, calls);
        let (output, late_rows) = run(&rows, &node, delay, &cuts);
        let (mut expected, expected_late) = naive(&rows, frame, only_aggregates, delay);
        if only_aggregates {
            for line in &mut expected {
                *line = line.rsplitn(5, ' ').last().unwrap_or_default().to_string();
            }
        }
        prop_assert!(output.iter().all(|batch| batch.num_rows() <= BATCH_ROWS));
        prop_assert_eq!(answers(&output), expected);
        prop_assert_eq!(late_rows, expected_late);
    }

    /// Sums of floating-point numbers depend on the order of additions, and so on nothing else.
    #[test]
    fn sums_are_the_same_to_the_last_digit(rows in rows(), frame in frames(), cuts in cuts()) {
        let sum = || aggregate(Sum, Some(4), DataType::Float64);
        let sums = vec![sum(), aggregate(Avg, Some(4), DataType::Float64), distinct(sum())];
        let node = node(OverOrder::EventTime(3), frame, sums);
        let (straight, _) = run(&rows, &node, 2, &[(1, true, 0)]);
        let (output, _) = run(&rows, &node, 2, &cuts);
        prop_assert_eq!(answers(&output), answers(&straight));
    }

    #[test]
    fn by_arrival_row_by_row(rows in rows(), preceding in prop::option::of(0_u64..4), cuts in cuts()) {
        let frame = Frame::Rows { preceding };
        let node = node(OverOrder::Arrival, frame, calls());
        let (output, late_rows) = run(&rows, &node, 0, &cuts);
        // As if each row came at a time of its own.
        let rows: Vec<Row> = rows.iter().enumerate().map(|(id, row)| (row.0, row.1, id as i64)).collect();
        prop_assert_eq!(answers(&output), naive(&rows, frame, false, 0).0);
        prop_assert_eq!(late_rows, 0);
    }

    /// Rows in time see all of their frame, although a faster partition of the source is far ahead and lets state be forgotten.
    #[test]
    fn rows_in_time_see_their_frame(
        steps in prop::collection::vec((0_usize..2, 0_i64..20, 0_i64..2), 0..60),
        distance in 0_i64..9,
        cuts in prop::collection::vec((1_usize..6, any::<bool>(), prop_oneof![3 => Just(0), 1 => 1_u32..4]), 1..20),
    ) {
        let mut clocks = [0_i64; 2];
        let mut own = vec![];
        let rows: Vec<(usize, Row)> = steps.iter().enumerate().map(|(id, (partition, advance, key))| {
            own.push(if clocks[*partition] == 0 { i64::MIN } else { clocks[*partition] - 1 });
            clocks[*partition] += advance + 1;
            (id, (Some(*key), None, clocks[*partition]))
        }).collect();
        let frame = Frame::Range { preceding_ms: Some(distance) };
        let node = node(OverOrder::EventTime(3), frame, vec![calls().swap_remove(0)]);
        let create = |context: &OperatorContext| make(&node, context);
        let mut lanes = Lanes::new(&create, vec![1]);
        let (mut output, mut from, mut watermarks) = (vec![], 0, [i64::MIN; 2]);
        for (length, advances, restart) in cuts.iter().cycle() {
            if from >= rows.len() {
                break;
            }
            let now = from..rows.len().min(from + length);
            from = now.end;
            let batch = with_watermarks(&rows[now.clone()], &own[now.clone()], frame);
            output.extend(lanes.on_batch(&batch).unwrap());
            for (id, (.., time)) in &rows[now] {
                watermarks[steps[*id].0] = time - 1;
            }
            if *advances {
                output.extend(lanes.on_watermark(watermarks[0].min(watermarks[1])).unwrap());
            }
            if *restart > 0 {
                lanes.restart(*restart).unwrap();
            }
        }
        output.extend(lanes.on_watermark(i64::MAX).unwrap());
        let in_frame = |row: &Row| rows.iter().filter(|(_, other)| {
            other.0 == row.0 && other.2 <= row.2 && other.2 >= row.2 - distance
        }).count();
        let mut expected: Vec<String> = rows.iter().map(|(id, row)| format!("{id} {}", in_frame(row))).collect();
        expected.sort();
        prop_assert_eq!(answers(&output), expected);
        prop_assert_eq!(lanes.late_rows(), 0);
    }

    /// Watermarks of rows that say different things, as those of several partitions of a source do: nothing is lost, nothing comes
    /// twice, and each partition keeps to the order of time.
    #[test]
    fn several_sources_lose_nothing(
        rows in prop::collection::vec((0_i64..3, -12_i64..13, -12_i64..13), 0..60),
        frame in frames(),
        cuts in prop::collection::vec((1_usize..6, -12_i64..13, 0_u32..4), 1..20),
    ) {
        let node = Over { stamps_rows: true, ..node(OverOrder::EventTime(3), frame, vec![calls().swap_remove(7)]) };
        let create = |context: &OperatorContext| make(&node, context);
        let mut lanes = Lanes::new(&create, vec![1]);
        let mut output = vec![];
        let (mut from, mut watermark) = (0, i64::MIN);
        let mut came_behind = vec![];
        for (length, to, restart) in cuts.iter().cycle() {
            if from >= rows.len() {
                break;
            }
            let now = from..rows.len().min(from + length);
            from = now.end;
            let own: Vec<(usize, Row)> = now.clone().map(|id| (id, (Some(rows[id].0), None, rows[id].1))).collect();
            came_behind.extend(now.clone().map(|id| rows[id].2.max(watermark).max(rows[id].1 - 1)));
            let row_watermarks = Some(Int64Array::from_iter_values(now.map(|id| rows[id].2)));
            output.extend(lanes.on_batch(&Batch { row_watermarks, ..batch(&own) }).unwrap());
            watermark = watermark.max(*to);
            output.extend(lanes.on_watermark(watermark).unwrap());
            if *restart > 0 {
                lanes.restart(*restart).unwrap();
            }
        }
        output.extend(lanes.on_watermark(i64::MAX).unwrap());
        for batch in &output {
            let (ids, own) = (batch.column(0).as_primitive::<Int64Type>(), batch.row_watermarks.as_ref().unwrap());
            for (id, own) in ids.values().iter().zip(own.values()) {
                prop_assert_eq!(*own, came_behind[*id as usize]);
            }
        }
        let ids: Vec<String> = answers(&output).iter().map(|line| line.split(' ').next().unwrap().to_string()).collect();
        let mut unique = ids.clone();
        unique.dedup();
        prop_assert_eq!(ids.len(), unique.len());
        prop_assert_eq!(ids.len() as u64 + lanes.late_rows(), rows.len() as u64);
        if is_unbounded(frame) || matches!(frame, Frame::Rows { .. }) {
            let mut last: BTreeMap<String, i64> = BTreeMap::new();
            for batch in &output {
                for row in 0..batch.num_rows() {
                    let key = crate::eval::value_text(batch.column(1), row);
                    let time = event_times(batch.column(3), "ts").unwrap().value(row);
                    prop_assert!(last.insert(key, time).is_none_or(|before| before <= time));
                }
            }
        }
    }
}

#[test]
fn a_partition_that_is_forgotten_leaves_nothing_behind() {
    let mut calls = calls();
    calls.truncate(AGGREGATES);
    let node = node(OverOrder::EventTime(3), Frame::Range { preceding_ms: Some(10) }, calls);
    let create = |context: &OperatorContext| make(&node, context);
    let mut lanes = Lanes::new(&create, vec![1]);
    lanes.on_batch(&batch(&[(0, (Some(1), Some(5), 100)), (1, (Some(2), Some(5), 140))])).unwrap();
    assert_eq!(lanes.on_watermark(115).unwrap().len(), 1);
    assert_eq!(lanes.operators[0].metrics().state_rows, 4);
    lanes.on_watermark(116).unwrap();
    assert_eq!(lanes.operators[0].metrics().state_rows, 2);
    lanes.on_watermark(i64::MAX).unwrap();
    lanes.snapshot().unwrap();
    assert_eq!((lanes.operators[0].metrics().state_rows, lanes.slots()), (0, vec!["watermark".to_string()]));
}

/// Recorded: how often rows that are very late begin their partition anew. `(key, time)` and the count that comes out.
#[test]
fn very_late_rows_as_recorded() {
    let input = [
        (1, 5_000),
        (1, 6_000),
        (2, 8_000),
        (1, 5_500),
        (2, 9_000),
        (1, 5_600),
        (2, 9_005),
        (1, 5_700),
        (2, 20_000),
        (1, 5_800),
        (2, 21_000),
        (1, 5_900),
        (1, 5_800),
        (2, 22_000),
    ];
    let rows: Vec<Row> = input.iter().map(|(key, time)| (Some(*key), None, *time)).collect();
    let node =
        node(OverOrder::EventTime(3), Frame::Range { preceding_ms: Some(2_000) }, vec![aggregate(Count, None, DataType::Int64)]);
    let expected = ["0 1", "1 2", "10 2", "11 2", "12 1", "13 3", "2 1", "4 2", "5 1", "6 3", "7 1", "8 1", "9 1"];
    for cuts in [&[(1, true, 0)][..], &[(20, true, 0)], &[(3, false, 2)], &[(2, true, 1)]] {
        assert_eq!(answers(&run(&rows, &node, 0, cuts).0), expected);
    }
}

#[test]
fn snapshots_hold_what_changed() {
    let node = node(OverOrder::EventTime(3), Frame::Rows { preceding: Some(1) }, calls());
    let context = OperatorContext {
        lane: thalweg_core::LaneId(0),
        lanes: 1,
        key_groups: 0..128,
        batch_rows: 1_000,
        ignores_unmatched: false,
    };
    let mut operator = make(&node, &context);
    let rows: Vec<(usize, Row)> = (0..3_000).map(|id| (id, (Some(id as i64), Some(1), 5))).collect();
    let mut out = Output::default();
    operator.on_batch(0, batch(&rows), &mut out).unwrap();
    operator.on_watermark(0, EventTime(10), &mut out).unwrap();
    let size = |delta: StateDelta| {
        let rows = |change: &thalweg_state::SlotChange| match change {
            thalweg_state::SlotChange::Replace(rows) | thalweg_state::SlotChange::Merge(rows) => rows.num_rows(),
            thalweg_state::SlotChange::Drop => 0,
        };
        delta.changes.iter().filter(|(slot, _)| slot.0 != "watermark").map(|(_, change)| rows(change)).sum::<usize>()
    };
    assert_eq!(size(operator.snapshot(Epoch(1)).unwrap()), 6_000);
    assert_eq!(size(operator.snapshot(Epoch(2)).unwrap()), 0);
    operator.on_batch(0, batch(&[(3_000, (Some(7), Some(1), 20))]), &mut out).unwrap();
    operator.on_watermark(0, EventTime(20), &mut out).unwrap();
    assert!(size(operator.snapshot(Epoch(3)).unwrap()) < 10);
}

#[test]
fn overflow_names_the_partition() {
    let node = node(OverOrder::Arrival, Frame::Rows { preceding: None }, vec![aggregate(Sum, Some(2), DataType::Int64)]);
    let create = |context: &OperatorContext| make(&node, context);
    let rows = [(0, (Some(1), Some(i64::MAX), 0)), (1, (Some(1), Some(1), 0))];
    let error = Lanes::new(&create, vec![1]).on_batch(&batch(&rows)).unwrap_err();
    assert_eq!(error.message, "SUM(value) overflows BIGINT for the partition key = 1 of OVER");
}

#[test]
fn processing_time_has_no_distance() {
    let node = node(OverOrder::Arrival, Frame::Range { preceding_ms: Some(5) }, vec![]);
    let context =
        OperatorContext { lane: thalweg_core::LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: 10, ignores_unmatched: false };
    let error = create(&node, &input_schema(), input_schema(), &context).err().unwrap();
    assert_eq!(error.kind, ErrorKind::User);
}

/// A run by columns: rows come, are taken back (one of those that are there), or the run is cut.
#[derive(Clone, Debug)]
enum Change {
    Insert(Row, bool),
    TakeBack(prop::sample::Index),
    Cut(u32),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let row = (prop::option::of(0_i64..2), prop::option::of(-3_i64..4), 0_i64..5);
    prop::collection::vec(
        prop_oneof![
            6 => (row, any::<bool>()).prop_map(|(row, mark)| Change::Insert(row, mark)),
            3 => any::<prop::sample::Index>().prop_map(Change::TakeBack),
            2 => (0_u32..4).prop_map(Change::Cut),
        ],
        0..50,
    )
}

/// The answers of one partition, rows in order: `(id, answer)`.
fn answers_by_columns(rows: &[(usize, Row)], frame: Frame) -> Vec<(usize, String)> {
    let mut all = vec![];
    let history: Vec<(usize, Option<i64>)> = rows.iter().map(|(id, row)| (*id, row.1)).collect();
    let mut start = 0;
    for peers in rows.chunk_by(|one, other| one.1.2 == other.1.2) {
        let end = start + peers.len();
        for at in start..end {
            let (from, to) = match frame {
                Frame::Rows { preceding: Some(preceding) } => (at.saturating_sub(preceding as usize), at),
                Frame::Rows { preceding: None } => (0, at),
                Frame::Range { .. } => (0, end - 1),
            };
            let values: Vec<_> = history[from..=to].iter().map(|(_, value)| *value).collect();
            let answer = answer(&values, at + 1, &history[..=at]);
            let mut parts: Vec<String> = answer.rsplitn(4, ' ').map(str::to_string).collect();
            parts[2] = end.to_string();
            parts.reverse();
            all.push((rows[at].0, parts.join(" ")));
        }
        start = end;
    }
    all
}

/// The changelog of each key.
fn naive_by_columns(log: &[(usize, Row, i64, bool)], frame: Frame) -> BTreeMap<String, Vec<String>> {
    let mut tables: BTreeMap<Option<i64>, Vec<(usize, Row)>> = BTreeMap::new();
    let mut logs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, row, weight, mark) in log {
        let table = tables.entry(row.0).or_default();
        let old = answers_by_columns(table, frame);
        let is_insert = *weight > 0;
        let at = if is_insert {
            let at = table.partition_point(|(_, other)| other.2 <= row.2);
            table.insert(at, (*id, *row));
            at
        } else {
            let at = table.iter().position(|other| *other == (*id, *row)).unwrap();
            table.remove(at);
            at
        };
        let new = answers_by_columns(table, frame);
        let log = logs.entry(text(row.0)).or_default();
        for place in 0..old.len().max(new.len()) {
            let shifted = place - usize::from(place > at);
            let (before, after) = if is_insert { (shifted, place) } else { (place, shifted) };
            match (place == at, is_insert) {
                (true, true) => log.push(format!("{} {id} {}", if *mark { "+U" } else { "+I" }, new[at].1)),
                (true, false) => log.push(format!("-D {id} {}", old[at].1)),
                _ if old[before].1 == new[after].1 => {}
                _ => {
                    log.push(format!("-U {} {}", old[before].0, old[before].1));
                    log.push(format!("+U {} {}", new[after].0, new[after].1));
                }
            }
        }
    }
    logs.retain(|_, log| !log.is_empty());
    logs
}

fn check_by_columns(changes: &[Change], frame: Frame) {
    let order = OverOrder::Columns(vec![SortKey { column: 3, descending: false, nulls_first: true }]);
    let node = Over { input_updating: true, ..node(order, frame, calls()) };
    let create = |context: &OperatorContext| make(&node, context);
    let mut lanes = Lanes::new(&create, vec![1]);
    let (mut log, mut pending, mut there) = (vec![], vec![], vec![]);
    let mut output: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for change in changes.iter().chain([&Change::Cut(0)]) {
        match change {
            Change::Insert(row, mark) => {
                // So that some rows are equal.
                let id = (log.len() + pending.len()) % 3;
                there.push((id, *row));
                pending.push((id, *row, 1, *mark));
            }
            Change::TakeBack(index) if !there.is_empty() => {
                let (id, row) = there.swap_remove(index.index(there.len()));
                pending.push((id, row, -1, true));
            }
            Change::TakeBack(_) => {}
            Change::Cut(restart) => {
                let rows: Vec<(usize, Row)> = pending.iter().map(|(id, row, ..)| (*id, *row)).collect();
                let weights = Some(Int64Array::from_iter_values(pending.iter().map(|(.., weight, _)| *weight)));
                let updates = Some(BooleanArray::from_iter(pending.iter().map(|(.., mark)| Some(*mark))));
                let batches = lanes.on_batch(&Batch { weights, updates, ..batch(&rows) }).unwrap();
                log.append(&mut pending);
                for batch in batches {
                    let columns: Vec<usize> = [1, 0].into_iter().chain(6..batch.rows.num_columns()).collect();
                    for line in lines(&[batch.with_rows(batch.rows.project(&columns).unwrap())]) {
                        let [mark, key, rest] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
                        output.entry(key.to_string()).or_default().push(format!("{mark} {rest}"));
                    }
                }
                if *restart > 0 {
                    lanes.restart(*restart).unwrap();
                }
            }
        }
    }
    assert_eq!(output, naive_by_columns(&log, frame));
}

proptest! {
    #[test]
    fn by_columns_changes_come_in_order(changes in changes(), frame in prop_oneof![
        Just(Frame::Rows { preceding: None }),
        Just(Frame::Range { preceding_ms: None }),
        (0_u64..4).prop_map(|rows| Frame::Rows { preceding: Some(rows) }),
    ]) {
        check_by_columns(&changes, frame);
    }
}

/// Recorded: a row of a changelog moves among its peers.
#[test]
fn peers_change_in_their_order() {
    let order = OverOrder::Columns(vec![SortKey { column: 2, descending: false, nulls_first: true }]);
    let sum = vec![aggregate(Sum, Some(2), DataType::Int64)];
    let node = Over { partition: vec![], input_updating: true, ..node(order, Frame::Range { preceding_ms: None }, sum) };
    let create = |context: &OperatorContext| make(&node, context);
    let mut lanes = Lanes::new(&create, vec![]);
    let mut check = |changes: &[(i64, i64, i64, bool)], expected: &[&str]| {
        let rows: Vec<(usize, Row)> = changes.iter().map(|row| (0, (Some(row.0), Some(row.1), 0))).collect();
        let weights = Some(Int64Array::from_iter_values(changes.iter().map(|row| row.2)));
        let updates = Some(BooleanArray::from_iter(changes.iter().map(|row| Some(row.3))));
        let output = lanes.on_batch(&Batch { weights, updates, ..batch(&rows) }).unwrap();
        let output: Vec<Batch> = output.iter().map(|batch| batch.with_rows(batch.rows.project(&[1, 2, 6]).unwrap())).collect();
        assert_eq!(lines(&output), expected);
    };
    check(&[(1, 1, 1, false), (2, 1, 1, false)], &["+I 1 1 1", "-U 1 1 1", "+U 1 1 2", "+I 2 1 2"]);
    check(&[(3, 1, 1, false)], &["-U 1 1 2", "+U 1 1 3", "-U 2 1 2", "+U 2 1 3", "+I 3 1 3"]);
    check(&[(1, 1, -1, true), (1, 2, 1, true)], &["-D 1 1 3", "-U 2 1 3", "+U 2 1 2", "-U 3 1 3", "+U 3 1 2", "+U 1 2 4"]);
    check(
        &[(3, 1, -1, true), (3, 2, 1, true)],
        &["-U 2 1 2", "+U 2 1 1", "-D 3 1 2", "-U 1 2 4", "+U 1 2 3", "-U 1 2 3", "+U 1 2 5", "+U 3 2 5"],
    );
}

#[test]
fn changes_carry_the_watermark_of_the_row_that_causes_them() {
    let order = OverOrder::Columns(vec![SortKey { column: 2, descending: false, nulls_first: true }]);
    let sum = vec![aggregate(Sum, Some(2), DataType::Int64)];
    let node = Over { input_updating: true, ..node(order, Frame::Rows { preceding: None }, sum) };
    let rows: Vec<(usize, Row)> = [5, 7, 6, 7].map(|value| (0, (Some(1), Some(value), 0))).to_vec();
    let changes = Batch {
        weights: Some(Int64Array::from(vec![1, 1, 1, -1])),
        row_watermarks: Some(Int64Array::from(vec![10, 20, 30, 40])),
        ..batch(&rows)
    };
    let create = |context: &OperatorContext| make(&node, context);
    let output = Lanes::new(&create, vec![1]).on_batch(&changes).unwrap();
    let own = output.iter().flat_map(|batch| batch.row_watermarks.as_ref().unwrap().values().to_vec());
    let found: Vec<(String, i64)> =
        lines(&output.iter().map(|batch| batch.with_rows(batch.rows.project(&[2, 6]).unwrap())).collect::<Vec<_>>())
            .into_iter()
            .zip(own)
            .collect();
    let expected = [("+I 5 5", 10), ("+I 7 12", 20), ("+I 6 11", 30), ("-U 7 12", 30), ("+U 7 18", 30), ("-D 7 18", 40)];
    assert_eq!(found, expected.map(|(line, own)| (line.to_string(), own)));
}

#[test]
fn nothing_can_be_taken_back_that_is_not_there() {
    let order = OverOrder::Columns(vec![SortKey { column: 2, descending: false, nulls_first: true }]);
    let node = Over { input_updating: true, ..node(order, Frame::Rows { preceding: None }, calls()) };
    let create = |context: &OperatorContext| make(&node, context);
    let weights = Some(Int64Array::from(vec![1, -1]));
    let rows = batch(&[(0, (Some(1), Some(5), 0)), (1, (Some(1), Some(5), 0))]);
    let error = Lanes::new(&create, vec![1]).on_batch(&Batch { weights, ..rows }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Record);
    let node = Over { input_updating: false, order: OverOrder::EventTime(3), ..node };
    let create = |context: &OperatorContext| make(&node, context);
    let rows = batch(&[(0, (Some(1), Some(5), 0))]);
    let error = Lanes::new(&create, vec![1]).on_batch(&Batch { weights: Some(Int64Array::from(vec![-1])), ..rows }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Record);
}

#[test]
fn lag_fills_nulls_only_where_its_default_is_never_null() {
    let number = || Arc::new(Field::new("number", DataType::Int64, true));
    let lag = |default| OverCall::Lag { argument: 2, offset: 1, default: Some(default), output: number() };
    let node = node(OverOrder::Arrival, Frame::Rows { preceding: None }, vec![lag(5), lag(2)]);
    let create = |context: &OperatorContext| make(&node, context);
    let rows = batch(&[(0, (None, Some(9), 0)), (1, (None, None, 0)), (2, (None, Some(8), 0))]);
    assert_eq!(answers(&Lanes::new(&create, vec![1]).on_batch(&rows).unwrap()), ["0 0 9", "1 9 9", "2 0 -"]);
}

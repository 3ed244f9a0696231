//! Both phases with an exchange between them, against plain Rust.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::physical_expr::expressions::Column;
use proptest::prelude::*;
use thalweg_core::{Batch, Epoch, ErrorKind, EventTime, LaneId, key_groups_of_lane};
use thalweg_plan::{
    AggregateCall, AggregateFunction, Expr, Node, NodeKind, OperatorId, Properties, TimeZoneRule, Watermark, Window,
    WindowAggregate, WindowKind,
};
use thalweg_state::{SlotChange, SlotId, StatePart};

use crate::test_lanes::Store;
use crate::{
    Operator, OperatorContext, Output, PARTIAL_KEYS_START, WatermarkGenerator, build_global, build_local, partial_schema,
    partition_by_lane,
};

/// Partition, event time in milliseconds, key, value.
type Row = (usize, i64, Option<u8>, Option<i64>);
/// Key, window start, window end, COUNT(*), SUM, MIN, COUNT(DISTINCT).
type Result = (Option<String>, i64, i64, i64, Option<i64>, Option<i64>, i64);

const PARTITIONS: usize = 3;
/// The watermark stays this far behind.
const DELAY_MS: i64 = 5;

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), false),
        Field::new("user", DataType::Utf8, true),
        Field::new("total", DataType::Int64, true),
        Field::new("wm", timestamp(), false),
    ]))
}

fn node(window: Window, keys: Vec<usize>) -> Node {
    let output = |name: &str| Arc::new(Field::new(name, DataType::Int64, true));
    let call = |function, argument, distinct, name: &str| AggregateCall {
        function,
        argument,
        filter: None,
        distinct,
        separator: None,
        output: output(name),
    };
    let aggregates = vec![
        call(AggregateFunction::Count, None, false, "n"),
        call(AggregateFunction::Sum, Some(2), false, "sum"),
        call(AggregateFunction::Min, Some(2), false, "min"),
        call(AggregateFunction::Count, Some(2), true, "distinct"),
    ];
    let mut fields: Vec<_> = keys.iter().map(|key| input_schema().fields()[*key].clone()).collect();
    fields.extend(aggregates.iter().map(|call| call.output.clone()));
    fields.extend(["window_start", "window_end", "window_time"].map(|name| Arc::new(Field::new(name, timestamp(), false))));
    Node {
        id: OperatorId("window".to_string()),
        kind: NodeKind::WindowAggregate(WindowAggregate { window, time_column: 0, keys, aggregates }),
        inputs: vec![],
        schema: Arc::new(Schema::new(fields)),
        properties: Properties::default(),
        span: None,
    }
}

fn rows_batch(rows: &[Row]) -> RecordBatch {
    let times = |shift: i64| {
        let micros = rows.iter().map(|row| (row.1 - shift) * 1_000);
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros)) as ArrayRef
    };
    let columns: Vec<ArrayRef> = vec![
        times(0),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2.map(|key| format!("k{key}"))))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.3))),
        times(DELAY_MS),
    ];
    RecordBatch::try_new(input_schema(), columns).unwrap()
}

fn generator() -> WatermarkGenerator {
    let expr = Expr {
        physical: Arc::new(Column::new("wm", 3)),
        text: "wm".to_string(),
        data_type: timestamp(),
        nullable: false,
        span: None,
    };
    WatermarkGenerator::new(&Watermark { time_column: 0, expr, idle_timeout_ms: None, stamps_rows: false }, 0)
}

/// Three partitions, `lanes` lanes: a little runtime.
struct Job {
    node: Node,
    lanes: u32,
    locals: Vec<Box<dyn Operator>>,
    globals: Vec<Box<dyn Operator>>,
    stores: Vec<Store>,
    generators: Vec<WatermarkGenerator>,
    results: Vec<Result>,
    late_rows_before: u64,
    has_keys: bool,
}

impl Job {
    fn new(node: Node, lanes: u32) -> Self {
        let NodeKind::WindowAggregate(aggregate) = &node.kind else { unreachable!() };
        let has_keys = !aggregate.keys.is_empty();
        let mut job = Job {
            node,
            lanes,
            locals: vec![],
            globals: vec![],
            stores: vec![],
            generators: vec![generator(); PARTITIONS],
            results: vec![],
            late_rows_before: 0,
            has_keys,
        };
        job.start(lanes);
        job
    }

    fn start(&mut self, lanes: u32) {
        let context = |lane| OperatorContext {
            lane: LaneId(lane),
            lanes,
            key_groups: key_groups_of_lane(lane, lanes),
            batch_rows: 3,
            ignores_unmatched: false,
        };
        self.lanes = lanes;
        self.locals = (0..lanes).map(|lane| build_local(&self.node, &input_schema(), &context(lane)).unwrap()).collect();
        self.globals = (0..lanes).map(|lane| build_global(&self.node, &input_schema(), &context(lane)).unwrap()).collect();
        self.stores.resize(lanes as usize, Store::default());
    }

    fn rows(&mut self, partition: usize, rows: &[Row]) {
        let batch = self.generators[partition].advance(rows_batch(rows), None).unwrap();
        let mut partial = Output::default();
        self.locals[partition % self.lanes as usize].on_batch(0, batch, &mut partial).unwrap();
        for batch in partial.batches {
            assert_eq!(batch.schema(), partial_schema(&self.node, &input_schema()).unwrap());
            let keys: Vec<usize> = if self.has_keys { vec![PARTIAL_KEYS_START] } else { vec![] };
            for (lane, share) in partition_by_lane(&batch, &keys, self.lanes).unwrap().into_iter().enumerate() {
                let mut out = Output::default();
                if let Some(share) = share {
                    self.globals[lane].on_batch(0, share, &mut out).unwrap();
                }
                assert!(out.batches.is_empty(), "only watermarks close windows");
            }
        }
    }

    /// Sends the least watermark of the partitions.
    fn send_least_watermark(&mut self) {
        self.send_watermark(self.generators.iter().map(WatermarkGenerator::current).min().unwrap());
    }

    fn send_watermark(&mut self, watermark: EventTime) {
        for lane in 0..self.lanes as usize {
            let mut out = Output::default();
            self.globals[lane].on_watermark(0, watermark, &mut out).unwrap();
            for batch in &out.batches {
                assert!(batch.num_rows() <= 3);
                self.results.extend(results_of(batch, self.has_keys));
            }
        }
    }

    fn checkpoint(&mut self) {
        for (global, store) in self.globals.iter_mut().zip(&mut self.stores) {
            store.apply(global.snapshot(Epoch(1)).unwrap());
        }
    }

    /// Checkpoints, throws the operators away and starts with `lanes` lanes.
    fn restart(&mut self, lanes: u32) {
        self.checkpoint();
        self.late_rows_before = self.late_rows();
        let stores = std::mem::take(&mut self.stores);
        let is_rescaled = lanes != self.lanes;
        self.start(lanes);
        for lane in 0..lanes as usize {
            let parts = stores.iter().flat_map(|store| store.parts(lane as u32, lanes)).collect();
            self.globals[lane].restore(parts).unwrap();
            if is_rescaled {
                self.globals[lane].mark_all_dirty();
            } else {
                self.stores[lane] = stores[lane].clone();
            }
        }
        self.send_least_watermark();
    }

    fn late_rows(&self) -> u64 {
        let operators = self.locals.iter().chain(&self.globals);
        self.late_rows_before + operators.map(|operator| operator.metrics().late_rows).sum::<u64>()
    }

    fn finish(&mut self) -> Vec<Result> {
        self.send_watermark(EventTime::MAX);
        for global in &self.globals {
            let metrics = global.metrics();
            assert_eq!((metrics.state_rows, metrics.state_bytes), (0, 0), "closed windows are freed");
        }
        self.checkpoint();
        for store in &self.stores {
            assert!(store.names().all(|slot| slot == "watermark"), "closed windows leave nothing in the store");
        }
        let mut results = std::mem::take(&mut self.results);
        results.sort();
        results
    }
}

fn results_of(batch: &Batch, has_keys: bool) -> Vec<Result> {
    let shift = usize::from(has_keys);
    let number = |column: usize, row: usize| {
        let column = batch.column(column + shift).as_primitive::<Int64Type>();
        (!column.is_null(row)).then(|| column.value(row))
    };
    let time = |column: usize, row: usize| {
        batch.column(column + shift).as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1_000)
    };
    let key = |row: usize| {
        let column = batch.column(0).as_string_opt::<i32>().filter(|_| has_keys)?;
        (!column.is_null(row)).then(|| column.value(row).to_string())
    };
    (0..batch.num_rows())
        .map(|row| {
            assert_eq!(time(6, row), time(5, row) - 1);
            let count = |column| number(column, row).unwrap();
            (key(row), time(4, row), time(5, row), count(0), number(1, row), number(2, row), count(3))
        })
        .collect()
}

/// The windows of a time, the long way.
fn naive_windows(window: &Window, time: i64) -> Vec<(i64, i64)> {
    let (steps, size): (Vec<i64>, i64) = match window.kind {
        WindowKind::Tumble { size_ms } => (vec![size_ms], size_ms),
        WindowKind::Hop { size_ms, .. } => (vec![size_ms], size_ms),
        WindowKind::Cumulate { step_ms, size_ms } => ((1..=size_ms / step_ms).map(|n| n * step_ms).collect(), size_ms),
    };
    let period = match window.kind {
        WindowKind::Hop { slide_ms, .. } => slide_ms,
        _ => size,
    };
    (time - size..=time)
        .filter(|start| (start - window.offset_ms).rem_euclid(period) == 0)
        .flat_map(|start| steps.iter().map(move |step| (start, start + step)))
        .filter(|(start, end)| *start <= time && time < *end)
        .collect()
}

/// The results and the number of late rows, row by row.
fn naive(window: &Window, rows: &[Row], has_keys: bool) -> (Vec<Result>, u64) {
    let mut watermarks = [i64::MIN; PARTITIONS];
    let mut groups: BTreeMap<(Option<String>, i64, i64), Vec<Option<i64>>> = BTreeMap::new();
    let mut late_rows = 0;
    for (partition, time, key, value) in rows {
        let mut is_late = true;
        for (start, end) in naive_windows(window, *time) {
            if watermarks[*partition] < end - 1 {
                is_late = false;
                let key = key.filter(|_| has_keys).map(|key| format!("k{key}"));
                groups.entry((key, start, end)).or_default().push(*value);
            }
        }
        late_rows += u64::from(is_late);
        watermarks[*partition] = watermarks[*partition].max(time - DELAY_MS);
    }
    let mut results: Vec<Result> = groups
        .into_iter()
        .map(|((key, start, end), values)| {
            let present: Vec<i64> = values.iter().flatten().copied().collect();
            let distinct = present.iter().collect::<std::collections::BTreeSet<_>>().len() as i64;
            let sum = (!present.is_empty()).then(|| present.iter().sum());
            (key, start, end, values.len() as i64, sum, present.iter().min().copied(), distinct)
        })
        .collect();
    results.sort();
    (results, late_rows)
}

#[derive(Clone, Debug)]
enum Step {
    /// So many of the next rows, as they come, each partition's in one batch.
    Rows(usize),
    Watermark,
    Checkpoint,
    Restart(u32),
}

fn any_window() -> impl Strategy<Value = Window> {
    let kind = prop_oneof![
        (1_i64..40).prop_map(|size_ms| WindowKind::Tumble { size_ms }),
        (1_i64..10, 1_i64..30).prop_map(|(slide_ms, ratio)| WindowKind::Hop { slide_ms, size_ms: slide_ms * ratio }),
        (1_i64..10, 0_i64..40).prop_map(|(slide_ms, more)| WindowKind::Hop { slide_ms, size_ms: slide_ms + more }),
        (1_i64..10, 1_i64..8).prop_map(|(step_ms, ratio)| WindowKind::Cumulate { step_ms, size_ms: step_ms * ratio }),
    ];
    (kind, 0_i64..10).prop_map(|(kind, offset)| Window { kind, offset_ms: offset % kind.size_ms(), zone: TimeZoneRule::Local })
}

/// Rows whose time grows, with jitter: some are late for some windows, some for all.
fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let row =
        (0..PARTITIONS, -60_i64..8, 0_i64..5, prop::option::weighted(0.9, 0_u8..5), prop::option::weighted(0.9, -9_i64..10));
    prop::collection::vec(row, 1..120).prop_map(|rows| {
        let mut now = -100;
        rows.into_iter()
            .map(|(partition, jitter, advance, key, value)| {
                now += advance;
                (partition, now + if jitter < -40 { jitter } else { jitter % 8 }, key, value)
            })
            .collect()
    })
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            4 => (1_usize..30).prop_map(Step::Rows),
            3 => Just(Step::Watermark),
            1 => Just(Step::Checkpoint),
            1 => (1_u32..5).prop_map(Step::Restart),
        ],
        0..25,
    )
}

fn run(window: &Window, rows: &[Row], steps: &[Step], lanes: u32, has_keys: bool) -> (Vec<Result>, u64) {
    let keys = if has_keys { vec![1] } else { vec![] };
    let mut job = Job::new(node(window.clone(), keys), lanes);
    let mut rest = rows;
    for step in steps.iter().chain([&Step::Rows(usize::MAX)]) {
        match step {
            Step::Rows(count) => {
                let (now, later) = rest.split_at((*count).min(rest.len()));
                rest = later;
                for partition in 0..PARTITIONS {
                    let rows: Vec<Row> = now.iter().filter(|row| row.0 == partition).copied().collect();
                    if !rows.is_empty() {
                        job.rows(partition, &rows);
                    }
                }
            }
            Step::Watermark => job.send_least_watermark(),
            Step::Checkpoint => job.checkpoint(),
            Step::Restart(lanes) => job.restart(*lanes),
        }
    }
    let results = job.finish();
    (results, job.late_rows())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any cut into batches, any times of watermarks, any number of lanes, checkpoints and restarts at other numbers of lanes:
    /// the same rows and the same count of late rows as row by row.
    #[test]
    fn the_result_depends_on_the_rows_alone(
        window in any_window(),
        rows in any_rows(),
        steps in any_steps(),
        lanes in prop::sample::select(vec![1_u32, 2, 4]),
        has_keys in any::<bool>(),
    ) {
        prop_assert_eq!(run(&window, &rows, &steps, lanes, has_keys), naive(&window, &rows, has_keys));
    }
}

fn tumble(size_ms: i64) -> Window {
    Window { kind: WindowKind::Tumble { size_ms }, offset_ms: 0, zone: TimeZoneRule::Local }
}

fn check(window: Window, rows: &[(i64, i64)], expected: &[(i64, i64, i64, i64)]) {
    let rows: Vec<Row> = rows.iter().map(|(time, value)| (0, *time + DELAY_MS, None, Some(*value))).collect();
    let shifted = Window { offset_ms: DELAY_MS, ..window };
    let steps = vec![Step::Rows(1); rows.len()];
    let (mut results, _) = run(&shifted, &rows, &steps, 1, false);
    results.sort_by_key(|result| (result.1, result.2));
    let found: Vec<_> =
        results.iter().map(|row| (row.1 - DELAY_MS, row.2 - DELAY_MS, row.3, row.4.unwrap_or_default())).collect();
    assert_eq!(found, expected);
}

/// Recorded Flink cases of window-cumulate and window-hop, in milliseconds in place of seconds. Times are shifted by the delay
/// of the watermark, so that it follows the rows at once as there.
#[test]
fn recorded_cases() {
    let cumulate =
        Window { kind: WindowKind::Cumulate { step_ms: 2_000, size_ms: 10_000 }, offset_ms: 0, zone: TimeZoneRule::Local };
    // later-steps-repeat
    check(
        cumulate,
        &[(5_000, 1), (25_000, 2)],
        &[
            (0, 6_000, 1, 1),
            (0, 8_000, 1, 1),
            (0, 10_000, 1, 1),
            (20_000, 26_000, 1, 2),
            (20_000, 28_000, 1, 2),
            (20_000, 30_000, 1, 2),
        ],
    );
    // gap-in-time
    let hop = Window { kind: WindowKind::Hop { slide_ms: 5_000, size_ms: 10_000 }, offset_ms: 0, zone: TimeZoneRule::Local };
    check(
        hop,
        &[(1_000, 1), (61_000, 2)],
        &[(-5_000, 5_000, 1, 1), (0, 10_000, 1, 1), (55_000, 65_000, 1, 2), (60_000, 70_000, 1, 2)],
    );
}

#[test]
fn windows_fire_at_their_last_instant() {
    let mut job = Job::new(node(tumble(10), vec![1]), 1);
    job.rows(0, &[(0, 3, Some(1), Some(4))]);
    job.send_watermark(EventTime(8));
    assert!(job.results.is_empty());
    job.send_watermark(EventTime(9));
    assert_eq!(job.results, [(Some("k1".to_string()), 0, 10, 1, Some(4), Some(4), 1)]);
}

/// While partition 1 is idle the operator's watermark is that of partition 0. What partition 1 then brings is not late by its
/// own watermark; it counts in the windows that are still to be sent, also after a restart, and none is sent twice.
#[test]
fn a_partition_that_wakes_up_after_a_restart() {
    let window = Window { kind: WindowKind::Hop { slide_ms: 10, size_ms: 20 }, offset_ms: 0, zone: TimeZoneRule::Local };
    let key = Some("k1".to_string());
    for lanes in [1, 2] {
        let mut job = Job::new(node(window.clone(), vec![1]), 1);
        job.rows(0, &[(0, 12, Some(1), Some(1))]);
        job.rows(1, &[(1, 1, Some(1), Some(2))]);
        job.send_watermark(EventTime(20));
        let fired = vec![(key.clone(), -10, 10, 1, Some(2), Some(2), 1), (key.clone(), 0, 20, 2, Some(3), Some(1), 2)];
        assert_eq!(job.results, fired);
        job.restart(lanes);
        job.rows(1, &[(1, 2, Some(1), Some(4)), (1, 11, Some(1), Some(8))]);
        let results = job.finish();
        assert_eq!(results[..2], fired);
        assert_eq!(results[2..], [(key.clone(), 10, 30, 2, Some(9), Some(1), 2)]);
        assert_eq!(job.late_rows(), 1);
    }
}

#[test]
fn snapshots_write_what_changed() {
    let mut job = Job::new(node(tumble(1_000), vec![1]), 1);
    let keys: Vec<Row> = (0..2_500).map(|n| (0, 10, Some((n % 250) as u8), Some(n))).collect();
    job.rows(0, &keys);
    assert_eq!(changes(&mut job), ["replace 1000/1000 of 250"]);
    assert!(changes(&mut job).is_empty());
    job.rows(0, &[(0, 11, Some(1), Some(1))]);
    assert_eq!(changes(&mut job), ["replace 1000/1000 of 250"]);
    job.send_watermark(EventTime(5_000));
    assert_eq!(changes(&mut job), ["drop 1000/1000", "replace watermark of 128"]);
}

/// Large slots: only the changed groups, until as many rows were written as the slot has.
#[test]
fn large_slots_are_merged() {
    let mut job = Job::new(node(tumble(1_000), vec![2]), 1);
    let rows: Vec<Row> = (0..2_000).map(|n| (0, 10, None, Some(n))).collect();
    job.rows(0, &rows);
    assert_eq!(changes(&mut job), ["replace 1000/1000 of 2000"]);
    job.rows(0, &rows[..1_500]);
    assert_eq!(changes(&mut job), ["merge 1000/1000 of 1500"]);
    job.rows(0, &rows[1_000..1_600]);
    assert_eq!(changes(&mut job), ["replace 1000/1000 of 2000"]);
}

fn changes(job: &mut Job) -> Vec<String> {
    let delta = job.globals[0].snapshot(Epoch(1)).unwrap();
    delta
        .changes
        .into_iter()
        .map(|(slot, change)| match change {
            SlotChange::Replace(batch) => format!("replace {slot} of {}", batch.num_rows()),
            SlotChange::Merge(batch) => format!("merge {slot} of {}", batch.num_rows()),
            SlotChange::Drop => format!("drop {slot}"),
        })
        .collect()
}

/// Merged slots come back as they were.
#[test]
fn the_last_row_of_a_key_holds() {
    let mut job = Job::new(node(tumble(1_000), vec![2]), 1);
    let rows: Vec<Row> = (0..2_000).map(|n| (0, 10, None, Some(n))).collect();
    job.rows(0, &rows);
    job.checkpoint();
    job.rows(0, &rows[..300]);
    job.checkpoint();
    job.rows(0, &rows[..100]);
    job.restart(3);
    let mut out = Output::default();
    for global in &mut job.globals {
        global.on_watermark(0, EventTime::MAX, &mut out).unwrap();
    }
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for batch in &out.batches {
        batch.column(1).as_primitive::<Int64Type>().values().iter().for_each(|count| *counts.entry(*count).or_default() += 1);
    }
    assert_eq!(counts, BTreeMap::from([(1, 1_700), (2, 200), (3, 100)]));
}

#[test]
fn foreign_state_is_corrupt() {
    let node = node(tumble(10), vec![1]);
    let context = OperatorContext { lane: LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: 8, ignores_unmatched: false };
    let error = |slot: &str, batch: RecordBatch| {
        let mut global = build_global(&node, &input_schema(), &context).unwrap();
        global.restore(vec![StatePart { slot: SlotId(slot.to_string()), batches: vec![batch] }]).unwrap_err().kind
    };
    let foreign = rows_batch(&[(0, 1, None, None)]);
    assert_eq!(error("10/10", foreign.clone()), ErrorKind::Corrupt);
    assert_eq!(error("ten", foreign.clone()), ErrorKind::Corrupt);
    assert_eq!(error("watermark", foreign), ErrorKind::Corrupt);
}

#[test]
fn an_overflow_names_the_group() {
    let mut job = Job::new(node(tumble(10), vec![1]), 1);
    job.rows(0, &[(0, 3, Some(1), Some(i64::MAX)), (0, 3, Some(1), Some(1))]);
    let error = job.globals[0].on_watermark(0, EventTime::MAX, &mut Output::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Record);
    assert_eq!(
        error.message,
        "SUM(total) overflows BIGINT for group user = 'k1' in the window that ends at 1970-01-01 00:00:00.010"
    );
}

/// Recorded Flink case window-tumble/ltz-hour-across-dst: both one-o'clock hours share one window.
#[test]
fn the_repeated_hour_is_one_window() {
    let zone = TimeZoneRule::Zone("America/New_York".to_string());
    let window = Window { kind: WindowKind::Tumble { size_ms: 3_600_000 }, offset_ms: 0, zone };
    let mut job = Job::new(node(window, vec![]), 1);
    let half_past = |hour: i64| (0, 1_793_491_200_000 + hour * 3_600_000 + 1_800_000, None, Some(hour));
    let mut results = vec![];
    for hour in 4..8 {
        job.rows(0, &[half_past(hour)]);
        let mut out = Output::default();
        let watermark = job.generators[0].current();
        job.globals[0].on_watermark(0, watermark, &mut out).unwrap();
        results.push(out.batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>().value(0)).collect::<Vec<_>>());
    }
    assert_eq!(results, [vec![], vec![1], vec![], vec![2]]);
    assert_eq!(job.late_rows(), 0);
}

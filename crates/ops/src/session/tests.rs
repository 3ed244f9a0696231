//! Sessions behind an exchange, against plain Rust.

mod updating;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::physical_expr::expressions::Column;
use proptest::prelude::*;
use thalweg_core::{Batch, Epoch, ErrorKind, EventTime, LaneId, key_groups_of_lane};
use thalweg_plan::{
    AggregateCall, AggregateFunction, Expr, Node, NodeKind, OperatorId, Properties, Session, SessionWindow, TimeZoneRule,
    Watermark,
};
use thalweg_state::{SlotId, StatePart};

use crate::test_lanes::Store;
use crate::{Operator, OperatorContext, Output, WatermarkGenerator, build, partition_by_lane};

/// Partition, event time in milliseconds, key, value.
type Row = (usize, i64, Option<u8>, i64);
/// Key, window start, window end, and per session COUNT(*), SUM, COUNT(DISTINCT), or per row its value and twice 0.
type Result = (Option<String>, i64, i64, [i64; 3]);

const PARTITIONS: usize = 2;

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), false),
        Field::new("user", DataType::Utf8, true),
        Field::new("total", DataType::Int64, false),
        Field::new("wm", timestamp(), false),
    ]))
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    gap_ms: i64,
    /// The watermark stays this far behind.
    delay_ms: i64,
    has_keys: bool,
    gives_rows: bool,
}

fn node(shape: Shape, input_updating: bool) -> Node {
    let call = |function, argument, distinct, name: &str| AggregateCall {
        function,
        argument,
        separator: None,
        filter: None,
        distinct,
        output: Arc::new(Field::new(name, DataType::Int64, true)),
    };
    let aggregates = vec![
        call(AggregateFunction::Count, None, false, "n"),
        call(AggregateFunction::Sum, Some(2), false, "sum"),
        call(AggregateFunction::Count, Some(2), true, "distinct"),
    ];
    let keys = if shape.has_keys { vec![1] } else { vec![] };
    let mut fields: Vec<_> = if shape.gives_rows {
        input_schema().fields().iter().cloned().collect()
    } else {
        let keys = keys.iter().map(|key: &usize| input_schema().fields()[*key].clone());
        keys.chain(aggregates.iter().map(|call| call.output.clone())).collect()
    };
    fields.extend(["window_start", "window_end", "window_time"].map(|name| Arc::new(Field::new(name, timestamp(), false))));
    let window = SessionWindow { gap_ms: shape.gap_ms, zone: TimeZoneRule::Local };
    let aggregates = (!shape.gives_rows).then_some(aggregates);
    Node {
        id: OperatorId("session".to_string()),
        kind: NodeKind::Session(Session { window, time_column: 0, keys, aggregates, input_updating }),
        inputs: vec![],
        schema: Arc::new(Schema::new(fields)),
        properties: Properties::default(),
        span: None,
    }
}

fn rows_batch(rows: &[Row], delay_ms: i64) -> RecordBatch {
    let times = |shift: i64| {
        let micros = rows.iter().map(|row| (row.1 - shift) * 1_000);
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros)) as ArrayRef
    };
    let columns: Vec<ArrayRef> = vec![
        times(0),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2.map(|key| format!("k{key}"))))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.3))),
        times(delay_ms),
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

/// Two partitions, `lanes` lanes: a little runtime.
struct Job {
    shape: Shape,
    input_updating: bool,
    operators: Vec<Box<dyn Operator>>,
    stores: Vec<Store>,
    generators: Vec<WatermarkGenerator>,
    results: Vec<Result>,
    late_rows_before: u64,
}

impl Job {
    fn new(shape: Shape, lanes: u32) -> Self {
        Job::over(shape, lanes, false)
    }

    fn over(shape: Shape, lanes: u32, input_updating: bool) -> Self {
        let mut job = Job {
            shape,
            input_updating,
            operators: vec![],
            stores: vec![],
            generators: vec![generator(); PARTITIONS],
            results: vec![],
            late_rows_before: 0,
        };
        job.start(lanes);
        job
    }

    fn start(&mut self, lanes: u32) {
        let operator = |lane| {
            let context = OperatorContext {
                lane: LaneId(lane),
                lanes,
                key_groups: key_groups_of_lane(lane, lanes),
                batch_rows: 3,
                ignores_unmatched: false,
            };
            build(&node(self.shape, self.input_updating), &[input_schema()], &context).unwrap()
        };
        self.operators = (0..lanes).map(operator).collect();
        self.stores = vec![Store::default(); lanes as usize];
    }

    fn lanes(&self) -> u32 {
        self.operators.len() as u32
    }

    fn rows(&mut self, partition: usize, rows: &[Row]) {
        let batch = self.generators[partition].advance(rows_batch(rows, self.shape.delay_ms), None).unwrap();
        self.batch(&batch);
    }

    fn batch(&mut self, batch: &Batch) {
        let keys: &[usize] = if self.shape.has_keys { &[1] } else { &[] };
        for (lane, share) in partition_by_lane(batch, keys, self.lanes()).unwrap().into_iter().enumerate() {
            let mut out = Output::default();
            if let Some(share) = share {
                self.operators[lane].on_batch(0, share, &mut out).unwrap();
            }
            assert!(out.batches.is_empty(), "only watermarks close sessions");
        }
    }

    /// Sends the least watermark of the partitions.
    fn send_least_watermark(&mut self) {
        self.send_watermark(self.generators.iter().map(WatermarkGenerator::current).min().unwrap());
    }

    fn send_watermark(&mut self, watermark: EventTime) {
        for operator in &mut self.operators {
            let mut out = Output::default();
            operator.on_watermark(0, watermark, &mut out).unwrap();
            let found: Vec<Result> = out.batches.iter().flat_map(|batch| results_of(batch, self.shape)).collect();
            assert!(out.batches.iter().all(|batch| batch.num_rows() <= 3));
            assert!(found.is_sorted_by_key(|result| (result.2, result.1)), "sessions come in order of their ends");
            self.results.extend(found);
        }
    }

    fn checkpoint(&mut self) {
        for (operator, store) in self.operators.iter_mut().zip(&mut self.stores) {
            store.apply(operator.snapshot(Epoch(1)).unwrap());
        }
    }

    /// Checkpoints, throws the operators away and starts with `lanes` lanes.
    fn restart(&mut self, lanes: u32) {
        self.restart_behind(lanes);
        self.send_least_watermark();
    }

    /// As [`Job::restart`], but the sources do not send their watermarks again.
    fn restart_behind(&mut self, lanes: u32) {
        self.checkpoint();
        self.late_rows_before = self.late_rows();
        let stores = std::mem::take(&mut self.stores);
        let is_rescaled = lanes != self.lanes();
        self.start(lanes);
        for lane in 0..lanes as usize {
            self.operators[lane].restore(stores.iter().flat_map(|store| store.parts(lane as u32, lanes)).collect()).unwrap();
            if is_rescaled {
                self.operators[lane].mark_all_dirty();
            } else {
                self.stores[lane] = stores[lane].clone();
            }
        }
    }

    fn late_rows(&self) -> u64 {
        self.late_rows_before + self.operators.iter().map(|operator| operator.metrics().late_rows).sum::<u64>()
    }

    fn finish(&mut self) -> Vec<Result> {
        self.send_watermark(EventTime::MAX);
        self.checkpoint();
        for operator in &self.operators {
            let metrics = operator.metrics();
            assert_eq!((metrics.state_rows, metrics.state_bytes), (0, 0), "sessions that were sent are freed");
        }
        for store in &self.stores {
            assert!(store.names().all(|slot| slot == "watermark"), "sessions that were sent leave nothing in the store");
        }
        let mut results = std::mem::take(&mut self.results);
        results.sort();
        results
    }
}

fn results_of(batch: &Batch, shape: Shape) -> Vec<Result> {
    let shift = if shape.gives_rows { 4 } else { 3 + usize::from(shape.has_keys) };
    let number = |column: usize, row: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
    let time =
        |column: usize, row: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1_000);
    let key = |row: usize| {
        let column = batch.column(usize::from(shape.gives_rows)).as_string_opt::<i32>().filter(|_| shape.has_keys)?;
        (!column.is_null(row)).then(|| column.value(row).to_string())
    };
    (0..batch.num_rows())
        .map(|row| {
            assert_eq!(time(shift + 2, row), time(shift + 1, row) - 1);
            let values = if shape.gives_rows { [number(2, row), 0, 0] } else { [3, 2, 1].map(|back| number(shift - back, row)) };
            (key(row), time(shift, row), time(shift + 1, row), values)
        })
        .collect()
}

/// The results and the number of late rows. Nothing is ever sent or forgotten here: a session that is closed for a row is
/// merely not looked at.
fn naive(shape: Shape, rows: &[Row]) -> (Vec<Result>, u64) {
    struct Known {
        key: Option<u8>,
        start: i64,
        end: i64,
        values: Vec<i64>,
    }
    let mut watermarks = [i64::MIN; PARTITIONS];
    let mut sessions: Vec<Known> = vec![];
    let mut late_rows = 0;
    for (partition, time, key, value) in rows {
        let key = key.filter(|_| shape.has_keys);
        let watermark = watermarks[*partition];
        let mut merged = Known { key, start: *time, end: time + shape.gap_ms, values: vec![*value] };
        let (row_start, row_end) = (merged.start, merged.end);
        let touches = |session: &Known| {
            session.key == key
                && session.end > watermark.saturating_add(1)
                && session.start <= row_end
                && row_start <= session.end
        };
        if !sessions.iter().any(touches) && merged.end - 1 <= watermark {
            late_rows += 1;
        } else {
            for session in sessions.extract_if(.., |session| touches(session)) {
                merged.start = merged.start.min(session.start);
                merged.end = merged.end.max(session.end);
                merged.values.extend(session.values);
            }
            sessions.push(merged);
        }
        watermarks[*partition] = watermark.max(time - shape.delay_ms);
    }
    let mut results: Vec<Result> = vec![];
    for session in sessions {
        let key = session.key.map(|key| format!("k{key}"));
        if shape.gives_rows {
            results.extend(session.values.iter().map(|value| (key.clone(), session.start, session.end, [*value, 0, 0])));
        } else {
            let distinct = session.values.iter().collect::<std::collections::BTreeSet<_>>().len() as i64;
            let values = [session.values.len() as i64, session.values.iter().sum(), distinct];
            results.push((key, session.start, session.end, values));
        }
    }
    results.sort();
    (results, late_rows)
}

#[derive(Clone, Debug)]
enum Step {
    /// So many of the next rows, as they come, neighbours of one partition in one batch.
    Rows(usize),
    Watermark,
    Checkpoint,
    Restart(u32),
}

fn any_shape() -> impl Strategy<Value = Shape> {
    (1_i64..12, 0_i64..15, any::<bool>(), any::<bool>()).prop_map(|(gap_ms, delay_ms, has_keys, gives_rows)| Shape {
        gap_ms,
        delay_ms,
        has_keys,
        gives_rows,
    })
}

/// Rows whose time grows, with jitter: some merge sessions, some are late.
fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0..PARTITIONS, 0_i64..6, -25_i64..25, prop::option::of(0_u8..4), 0_i64..5);
    prop::collection::vec(row, 0..120).prop_map(|rows| {
        let mut now = 0;
        rows.into_iter()
            .map(|(partition, step, jitter, key, value)| {
                now += step;
                (partition, now + jitter, key, value)
            })
            .collect()
    })
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_usize..20).prop_map(Step::Rows),
        4 => Just(Step::Watermark),
        2 => Just(Step::Checkpoint),
        1 => (1_u32..4).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 0..40)
}

/// Runs `steps` over `rows`, then the rest of the rows one by one with a watermark after each.
fn run(shape: Shape, rows: &[Row], steps: &[Step], lanes: u32) -> (Vec<Result>, u64) {
    let mut job = Job::new(shape, lanes);
    let mut rest = rows;
    for step in steps {
        match step {
            Step::Rows(count) => {
                let (now, later) = rest.split_at((*count).min(rest.len()));
                rest = later;
                now.chunk_by(|one, other| one.0 == other.0).for_each(|rows| job.rows(rows[0].0, rows));
            }
            Step::Watermark => job.send_least_watermark(),
            Step::Checkpoint => job.checkpoint(),
            Step::Restart(lanes) => job.restart(*lanes),
        }
    }
    for row in rest {
        job.rows(row.0, std::slice::from_ref(row));
        job.send_least_watermark();
    }
    let results = job.finish();
    (results, job.late_rows())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However rows are cut, whenever watermarks and checkpoints come, on any lanes.
    #[test]
    fn as_the_naive_reference(shape in any_shape(), rows in any_rows(), steps in any_steps(), lanes in 1_u32..4) {
        prop_assert_eq!(run(shape, &rows, &steps, lanes), naive(shape, &rows));
    }
}

#[test]
fn late_rows_see_only_open_sessions() {
    // Recorded Flink case window-legacy/session-late-row.
    let shape = Shape { gap_ms: 5_000, delay_ms: 0, has_keys: true, gives_rows: false };
    let times = [10_000, 15_000, 20_001, 18_000, 40_000, 33_000, 35_500];
    let rows: Vec<Row> = times.iter().enumerate().map(|(at, time)| (0, *time, Some(0), 1 << at)).collect();
    let key = || Some("k0".to_string());
    let expected =
        vec![(key(), 10_000, 20_000, [2, 3, 2]), (key(), 18_000, 25_001, [2, 12, 2]), (key(), 35_500, 45_000, [2, 80, 2])];
    assert_eq!(naive(shape, &rows), (expected.clone(), 1));
    assert_eq!(run(shape, &rows, &[Step::Rows(7)], 1), (expected.clone(), 1));
    assert_eq!(run(shape, &rows, &[], 2), (expected, 1));
}

#[test]
fn a_row_does_not_join_what_the_watermark_has_just_closed() {
    // The other key's row at 14,999 closes the session that ends at 15,000; the row at 15,000 would touch it.
    let shape = Shape { gap_ms: 5_000, delay_ms: 0, has_keys: true, gives_rows: false };
    let rows = [(0, 10_000, Some(1), 1), (0, 14_999, Some(2), 2), (0, 15_000, Some(1), 4)];
    let whole = run(shape, &rows, &[Step::Rows(3)], 1);
    assert_eq!(whole, run(shape, &rows, &[], 1));
    assert_eq!(whole.0.len(), 3);
}

#[test]
fn the_ends_of_time_do_not_panic() {
    let shape = Shape { gap_ms: 5_000, delay_ms: 0, has_keys: true, gives_rows: true };
    let mut job = Job::new(shape, 1);
    let limit = i64::MAX / 1_000;
    job.rows(0, &[(0, -limit, None, 1), (0, limit, None, 2), (0, limit, None, 3)]);
    let mut out = Output::default();
    job.operators[0].on_watermark(0, EventTime::MAX, &mut out).unwrap();
    assert_eq!(out.batches.iter().map(Batch::num_rows).sum::<usize>(), 3);
}

#[test]
fn foreign_state_is_refused() {
    let shape = Shape { gap_ms: 5, delay_ms: 0, has_keys: true, gives_rows: false };
    let mut job = Job::new(shape, 1);
    for slot in ["5/5", "sessions/x", "sessions/0", "watermark"] {
        let batches = vec![rows_batch(&[], 0)];
        let error = job.operators[0].restore(vec![StatePart { slot: SlotId(slot.to_string()), batches }]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt, "{slot}");
    }
}

//! A little runtime for tests: one operator in several lanes behind exchanges, with checkpoints and restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use thalweg_core::{Batch, EventTime};
use thalweg_plan::{Node, NodeKind, OperatorId, Properties};

pub(crate) use crate::test_lanes::BATCH_ROWS;
use crate::{OperatorContext, build, test_lanes};

/// The lanes of a node, whose output is collected.
pub(crate) struct Lanes {
    lanes: test_lanes::Lanes<'static>,
    schema: SchemaRef,
    ports: Vec<EventTime>,
    /// The watermark that was sent on.
    pub(crate) sent: EventTime,
    /// Output, with the watermark that was sent on before it.
    pub(crate) output: Vec<(Batch, EventTime)>,
}

impl Lanes {
    pub(crate) fn new(kind: NodeKind, output: SchemaRef, inputs: Vec<SchemaRef>, exchanges: Vec<Vec<usize>>) -> Self {
        let id = OperatorId("node".to_string());
        let schema = output.clone();
        let ports = vec![EventTime::MIN; inputs.len()];
        let node = Node { id, kind, inputs: vec![], schema: output, properties: Properties::default(), span: None };
        let make = move |context: &OperatorContext| build(&node, &inputs, context).unwrap();
        let lanes = test_lanes::Lanes::of_inputs(Box::new(make), exchanges);
        Lanes { lanes, schema, ports, sent: EventTime::MIN, output: vec![] }
    }

    pub(crate) fn batch(&mut self, port: usize, batch: &Batch) {
        let batches = self.lanes.on_batch_of(port, batch).unwrap();
        self.collect(batches);
    }

    pub(crate) fn watermark(&mut self, port: usize, watermark: EventTime) {
        self.ports[port] = self.ports[port].max(watermark);
        let batches = self.lanes.on_watermark_of(port, self.ports[port]).unwrap();
        self.collect(batches);
        let least = self.ports.iter().copied().min().unwrap();
        for operator in &self.lanes.operators {
            let send_on = operator.output_watermark(least);
            assert!(send_on <= least, "an operator does not run ahead");
            self.sent = self.sent.max(send_on);
        }
    }

    fn collect(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            assert!(batch.num_rows() <= BATCH_ROWS, "output comes in small batches");
            assert_eq!(batch.schema(), self.schema);
            self.output.push((batch, self.sent));
        }
    }

    /// Checkpoints, throws the operators away and starts with `lanes` lanes.
    pub(crate) fn restart(&mut self, lanes: u32) {
        self.restart_behind(lanes);
        for port in 0..self.ports.len() {
            self.watermark(port, self.ports[port]);
        }
    }

    /// As [`Lanes::restart`], but the sources do not send their watermarks again.
    pub(crate) fn restart_behind(&mut self, lanes: u32) {
        self.lanes.restart(lanes).unwrap();
    }

    pub(crate) fn late_rows(&self) -> u64 {
        self.lanes.late_rows()
    }

    pub(crate) fn state_rows(&self) -> u64 {
        self.lanes.operators.iter().map(|operator| operator.metrics().state_rows).sum()
    }

    /// Ends all inputs.
    pub(crate) fn finish(&mut self) {
        for port in 0..self.ports.len() {
            self.watermark(port, EventTime::MAX);
        }
        assert_eq!(self.sent, EventTime::MAX);
        self.lanes.snapshot().unwrap();
    }

    /// The names of the slots in the stores, but for that of the watermark.
    pub(crate) fn slots(&self) -> Vec<String> {
        self.lanes.slots().into_iter().filter(|slot| slot != "watermark").collect()
    }
}

/// Values of one row.
pub(crate) type Values = Vec<Option<i64>>;

/// The rows that a changelog leaves, each with how often it is there.
#[derive(Default)]
pub(crate) struct Integral(pub(crate) BTreeMap<Values, i64>);

impl Integral {
    /// # Panics
    /// When a row is taken back that is not there.
    pub(crate) fn add(&mut self, batch: &Batch) {
        for (row, values) in values_of(batch).into_iter().enumerate() {
            self.change(values, batch.weight(row));
        }
    }

    pub(crate) fn change(&mut self, values: Values, weight: i64) {
        let count = self.0.entry(values.clone()).or_default();
        *count += weight;
        assert!(*count >= 0, "{values:?} is taken back and is not there");
        if *count == 0 {
            self.0.remove(&values);
        }
    }
}

/// What happens behind a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    Nothing,
    Cut,
    Watermark,
    Restart(u32),
}

/// One source partition: makes watermarks as sources do.
pub(crate) struct Partition {
    delay_ms: i64,
    pub(crate) watermark: i64,
}

impl Partition {
    pub(crate) fn new(delay_ms: i64) -> Self {
        Partition { delay_ms, watermark: i64::MIN }
    }

    /// The watermark before a row of time `time`, which then moves it.
    pub(crate) fn pass(&mut self, time: i64) -> i64 {
        let before = self.watermark;
        self.watermark = before.max(time.saturating_sub(self.delay_ms));
        before
    }

    /// A batch with rows of these times, each with its watermark.
    pub(crate) fn stamped_batch(&mut self, rows: RecordBatch, times: &[i64]) -> Batch {
        let before = Int64Array::from_iter_values(times.iter().map(|time| self.pass(*time)));
        Batch { row_watermarks: Some(before), ..Batch::append(rows) }
    }

    /// A batch with rows of these times, with row watermarks where there must be some.
    pub(crate) fn batch(&mut self, rows: RecordBatch, times: &[i64]) -> Batch {
        let before: Vec<i64> = times.iter().map(|time| self.pass(*time)).collect();
        let is_any_behind = times.iter().zip(&before).any(|(time, before)| *time <= before.saturating_add(1));
        Batch { row_watermarks: is_any_behind.then(|| Int64Array::from(before)), ..Batch::append(rows) }
    }
}

pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// Columns named like this; of the type BIGINT, TIMESTAMP if the name ends with `ts`, or DOUBLE if it ends with `bits`.
pub(crate) fn schema_of(names: &[&str]) -> SchemaRef {
    let data_type = |name: &str| match name {
        name if name.ends_with("bits") => DataType::Float64,
        name if name.ends_with("ts") => timestamp(),
        _ => DataType::Int64,
    };
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, data_type(name), true)).collect::<Vec<_>>()))
}

/// Rows of a schema of [`schema_of`]; times are milliseconds, floats their bits.
pub(crate) fn rows_of(schema: &SchemaRef, rows: &[Values]) -> RecordBatch {
    let column = |at: usize| -> ArrayRef {
        let values = rows.iter().map(|row| row[at]);
        match schema.field(at).data_type() {
            DataType::Int64 => Arc::new(Int64Array::from_iter(values)),
            DataType::Float64 => {
                Arc::new(Float64Array::from_iter(values.map(|bits| bits.map(|bits| f64::from_bits(bits as u64)))))
            }
            _ => Arc::new(TimestampMicrosecondArray::from_iter(values.map(|ms| ms.map(|ms| ms.saturating_mul(1_000))))),
        }
    };
    RecordBatch::try_new(schema.clone(), (0..schema.fields().len()).map(column).collect()).unwrap()
}

/// As [`rows_of`], each row with its weight.
pub(crate) fn weighted(schema: &SchemaRef, rows: &[(Values, i64)]) -> Batch {
    let (values, weights): (Vec<Values>, Vec<i64>) = rows.iter().cloned().unzip();
    let weights = weights.iter().any(|weight| *weight != 1).then(|| Int64Array::from(weights));
    Batch { weights, ..Batch::append(rows_of(schema, &values)) }
}

/// The rows of a batch of such a schema.
pub(crate) fn values_of(batch: &Batch) -> Vec<Values> {
    let value = |column: &ArrayRef, row: usize| {
        if column.is_null(row) {
            return None;
        }
        Some(match column.data_type() {
            DataType::Int64 => column.as_primitive::<Int64Type>().value(row),
            DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_bits() as i64,
            _ => column.as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1_000),
        })
    };
    (0..batch.num_rows()).map(|row| batch.rows.columns().iter().map(|column| value(column, row)).collect()).collect()
}

//! The rows that operators are fed with.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit};
use thalweg_core::{Batch, Result};

/// Rows that share a millisecond of event time.
const ROWS_PER_MS: u64 = 10;
/// How far rows are out of order.
pub const DISORDER_MS: i64 = 100;
/// The windows whose bounds stand in the rows.
const WINDOW_MS: i64 = 10_000;
/// Elements of a list.
const LIST_LENGTH: u64 = 3;

// Columns of all inputs.
pub const KEY: usize = 0;
pub const NUMBER: usize = 1;
pub const AT: usize = 2;
/// Of [`Columns::Windowed`], with the end and the last instant behind it.
pub const WINDOW_START: usize = 4;
/// Of [`Columns::Listed`].
pub const LIST: usize = 4;

/// A row; its other columns follow from these. One with a `weight` below 0 takes back a row of the same `origin`.
#[derive(Clone, Copy)]
pub struct Row {
    pub port: usize,
    pub key: u64,
    pub number: u64,
    pub weight: i64,
    /// The number of the row whose time this one has.
    pub origin: u64,
    /// Whether it is one half of a change.
    pub is_update: bool,
}

impl Row {
    pub fn new(origin: u64, key: u64) -> Self {
        Row { port: 0, key, number: key / 3, weight: 1, origin, is_update: false }
    }
}

/// What stands in the rows beside `key`, `number`, `at` and `text`.
#[derive(Clone, Copy, PartialEq)]
pub enum Columns {
    Plain,
    Windowed,
    Listed,
}

/// Spreads numbers over their range; different ones stay different.
pub fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
}

/// The event time of the row with this number, in milliseconds.
fn time_ms(origin: u64) -> i64 {
    (origin / ROWS_PER_MS) as i64 - (scattered(origin) % DISORDER_MS as u64) as i64
}

/// The watermark behind the row with this number.
pub fn watermark_ms(origin: u64) -> i64 {
    (origin / ROWS_PER_MS) as i64 - DISORDER_MS - 1
}

pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn list_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Int64, true))
}

pub fn schema(columns: Columns) -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let mut fields = vec![
        field("key", DataType::Int64),
        field("number", DataType::Int64),
        field("at", timestamp()),
        field("text", DataType::Utf8),
    ];
    match columns {
        Columns::Plain => {}
        Columns::Windowed => {
            fields.extend(["window_start", "window_end", "window_time"].map(|name| field(name, timestamp())));
        }
        Columns::Listed => fields.push(field("list", DataType::List(list_item()))),
    }
    Arc::new(Schema::new(fields))
}

/// The columns of both, as an operator gives them.
pub fn joined(one: &SchemaRef, other: &[FieldRef]) -> SchemaRef {
    Arc::new(Schema::new(one.fields().iter().chain(other).cloned().collect::<Vec<_>>()))
}

pub fn batch(columns: Columns, rows: &[Row]) -> Result<Batch> {
    let numbers = |value: fn(&Row) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(value))) };
    let times = |ms: &dyn Fn(i64) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| ms(time_ms(row.origin)) * 1_000)))
    };
    let text = |row: &Row| format!("text of {:>12}", row.key % 1_000_000);
    let mut arrays = vec![
        numbers(|row| row.key as i64),
        numbers(|row| row.number as i64),
        times(&|ms| ms),
        Arc::new(StringArray::from_iter_values(rows.iter().map(text))),
    ];
    let start = |ms: i64| ms.div_euclid(WINDOW_MS) * WINDOW_MS;
    match columns {
        Columns::Plain => {}
        Columns::Windowed => {
            arrays.extend([times(&start), times(&|ms| start(ms) + WINDOW_MS), times(&|ms| start(ms) + WINDOW_MS - 1)]);
        }
        Columns::Listed => {
            let list = |row: &Row| Some((0..LIST_LENGTH).map(|element| Some((row.number + element) as i64)).collect::<Vec<_>>());
            arrays.push(Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows.iter().map(list))));
        }
    }
    let weights = rows.iter().any(|row| row.weight != 1).then(|| rows.iter().map(|row| row.weight).collect::<Vec<_>>().into());
    let updates =
        rows.iter().any(|row| row.is_update).then(|| rows.iter().map(|row| Some(row.is_update)).collect::<BooleanArray>());
    Ok(Batch { weights, updates, ..Batch::append(RecordBatch::try_new(schema(columns), arrays)?) })
}

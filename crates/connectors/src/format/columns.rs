//! Builders of Arrow arrays that can take back their last rows.
//!
//! Arrow's own builders only grow; a decoder must be able to remove what a record wrote before it turned out to be bad.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, ListArray, MapArray, NullBufferBuilder, RecordBatch, RecordBatchOptions,
    StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;

use super::base64::read_base64;
use super::number_text::{DecimalText, java_trim, parse_decimal, parse_double, parse_float};
use super::time_text::{TimestampStandard, parse_date, parse_loose_date, parse_time, parse_timestamp};
use super::wanted::Wanted;

/// Byte strings back to back. Invariant: `ends[0] == 0`, and the last one is `bytes.len()`.
#[derive(Debug)]
pub struct Strings {
    pub bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Strings {
    fn new() -> Self {
        Strings { bytes: vec![], ends: vec![0] }
    }

    pub fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.close();
    }

    /// Ends a value whose bytes were appended to `bytes`.
    pub fn close(&mut self) {
        // Decoders hold no more than `BUFFERED_BYTES_MAX` between two flushes, so the length fits.
        self.ends.push(self.bytes.len() as i32);
    }

    /// Takes back bytes of a value that was not closed.
    pub fn abandon(&mut self) {
        self.bytes.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    pub fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.ends[row] as usize..self.ends[row + 1] as usize]
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        self.abandon();
    }

    /// The offsets and bytes; new ones of the same capacity take their place.
    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let capacity = self.bytes.len();
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(capacity));
        (take_ends(&mut self.ends), Buffer::from_vec(bytes))
    }
}

/// The values of one column, by type.
#[derive(Debug)]
pub enum Values {
    Boolean(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: i8 },
    Text(Strings),
    Binary(Strings),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp { values: Vec<i64>, nanos: bool, zone: Option<Arc<str>> },
    List { ends: Vec<i32>, item: Box<Column>, field: FieldRef },
    Map { ends: Vec<i32>, keys: Box<Column>, values: Box<Column>, entries: FieldRef, ordered: bool },
    Struct(Columns),
}

/// One column under construction. Invariant: `values` and `validity` have the same number of rows between two calls.
#[derive(Debug)]
pub struct Column {
    pub values: Values,
    pub validity: NullBufferBuilder,
    pub wanted: Wanted,
}

/// Columns that make up a row, at the top or within a ROW.
#[derive(Debug)]
pub struct Columns {
    pub fields: Fields,
    pub columns: Vec<Column>,
}

/// How text of a date or time is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextRules {
    pub timestamps: TimestampStandard,
    /// Months and days may have one digit.
    pub loose_dates: bool,
}

impl Columns {
    /// # Errors
    /// The type that cannot be built, with the field that has it.
    pub fn new(fields: &Fields) -> Result<Self, String> {
        let columns = fields
            .iter()
            .map(|field| Column::new(field.data_type()).map_err(|problem| format!("{}: {problem}", field.name())))
            .collect::<Result<_, _>>()?;
        Ok(Columns { fields: fields.clone(), columns })
    }

    pub fn truncate(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
    }

    /// The rows as a batch, in order of the fields. `rows` counts where there is no column.
    pub fn finish(&mut self, schema: &SchemaRef, rows: usize) -> Result<RecordBatch, ArrowError> {
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<_, _>>()?;
        RecordBatch::try_new_with_options(schema.clone(), arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))
    }
}

impl Column {
    fn new(data_type: &DataType) -> Result<Self, String> {
        let unsupported = || format!("the type {data_type} has no text form");
        let wanted = Wanted::of(data_type).ok_or_else(unsupported)?;
        let values = match data_type {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::Int8(vec![]),
            DataType::Int16 => Values::Int16(vec![]),
            DataType::Int32 => Values::Int32(vec![]),
            DataType::Int64 => Values::Int64(vec![]),
            DataType::Float32 => Values::Float32(vec![]),
            DataType::Float64 => Values::Float64(vec![]),
            DataType::Decimal128(precision, scale) => Values::Decimal { values: vec![], precision: *precision, scale: *scale },
            DataType::Utf8 => Values::Text(Strings::new()),
            DataType::Binary => Values::Binary(Strings::new()),
            DataType::Date32 => Values::Date(vec![]),
            DataType::Time64(_) => Values::Time(vec![]),
            DataType::Timestamp(_, zone) => Values::Timestamp {
                values: vec![],
                nanos: matches!(wanted, Wanted::Timestamp { nanos: true } | Wanted::TimestampLtz { nanos: true }),
                zone: zone.clone(),
            },
            DataType::List(field) => {
                Values::List { ends: vec![0], item: Box::new(Column::new(field.data_type())?), field: field.clone() }
            }
            DataType::Map(entries, ordered) => {
                let DataType::Struct(fields) = entries.data_type() else { return Err(unsupported()) };
                let [key, value] = fields.as_ref() else { return Err(unsupported()) };
                Values::Map {
                    ends: vec![0],
                    keys: Box::new(Column::new(key.data_type())?),
                    values: Box::new(Column::new(value.data_type())?),
                    entries: entries.clone(),
                    ordered: *ordered,
                }
            }
            DataType::Struct(fields) if !fields.is_empty() => Values::Struct(Columns::new(fields)?),
            _ => return Err(unsupported()),
        };
        Ok(Column { values, validity: NullBufferBuilder::new(0), wanted })
    }

    pub fn rows(&self) -> usize {
        self.validity.len()
    }

    pub fn push_null(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Time(values) | Values::Timestamp { values, .. } => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Text(strings) | Values::Binary(strings) => strings.close(),
            Values::List { ends, item, .. } => ends.push(item.rows() as i32),
            Values::Map { ends, keys, .. } => ends.push(keys.rows() as i32),
            Values::Struct(columns) => columns.columns.iter_mut().for_each(Column::push_null),
        }
        self.validity.append_null();
    }

    /// Removes all but the first `rows` rows, and whatever a value that was not finished has left.
    pub fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Int8(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) | Values::Date(values) => values.truncate(rows),
            Values::Int64(values) | Values::Time(values) | Values::Timestamp { values, .. } => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
            Values::Text(strings) | Values::Binary(strings) => strings.truncate(rows),
            Values::List { ends, item, .. } => {
                ends.truncate(rows + 1);
                item.truncate(ends[rows] as usize);
            }
            Values::Map { ends, keys, values, .. } => {
                ends.truncate(rows + 1);
                keys.truncate(ends[rows] as usize);
                values.truncate(ends[rows] as usize);
            }
            Values::Struct(columns) => columns.truncate(rows),
        }
        self.validity.truncate(rows);
    }

    /// Reads text as the column's type, the way Flink's formats read it. `Ok(false)` when the value is null, which is a DECIMAL
    /// that does not fit; nothing was added then.
    /// # Errors
    /// What was expected instead; nothing was added.
    pub fn push_text(&mut self, text: &str, rules: TextRules) -> Result<bool, Wanted> {
        let wanted = self.wanted;
        match &mut self.values {
            // Anything but true is false, as in Java.
            Values::Boolean(values) => values.append(java_trim(text).eq_ignore_ascii_case("true")),
            Values::Int8(values) => values.push(java_trim(text).parse().map_err(|_| wanted)?),
            Values::Int16(values) => values.push(java_trim(text).parse().map_err(|_| wanted)?),
            Values::Int32(values) => values.push(java_trim(text).parse().map_err(|_| wanted)?),
            Values::Int64(values) => values.push(java_trim(text).parse().map_err(|_| wanted)?),
            Values::Float32(values) => values.push(parse_float(java_trim(text)).ok_or(wanted)?),
            Values::Float64(values) => values.push(parse_double(java_trim(text)).ok_or(wanted)?),
            Values::Decimal { values, precision, scale } => match parse_decimal(java_trim(text), *precision, *scale) {
                DecimalText::Value(value) => values.push(value),
                DecimalText::DoesNotFit => return Ok(false),
                DecimalText::Malformed => return Err(wanted),
            },
            Values::Text(strings) => strings.push(text.as_bytes()),
            Values::Binary(strings) => {
                if read_base64(text.as_bytes(), &mut strings.bytes).is_none() {
                    strings.abandon();
                    return Err(wanted);
                }
                strings.close();
            }
            Values::Date(values) => {
                let days = if rules.loose_dates { parse_loose_date(text) } else { parse_date(text) };
                values.push(days.ok_or(wanted)?);
            }
            // Flink's TIME holds milliseconds.
            Values::Time(values) => values.push(parse_time(text).ok_or(wanted)? / 1_000_000 * 1_000),
            Values::Timestamp { values, nanos, zone } => {
                let parsed = parse_timestamp(text, rules.timestamps, zone.is_some()).ok_or(wanted)?;
                let value = if *nanos { parsed.as_nanos() } else { parsed.as_micros() };
                values.push(value.ok_or(wanted)?);
            }
            Values::List { .. } | Values::Map { .. } | Values::Struct(_) => return Err(wanted),
        }
        self.validity.append_non_null();
        Ok(true)
    }

    /// The rows so far as an array; the column is empty afterwards.
    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.validity.finish();
        Ok(match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int8(values) => Arc::new(Int8Array::try_new(take(values), nulls)?),
            Values::Int16(values) => Arc::new(Int16Array::try_new(take(values), nulls)?),
            Values::Int32(values) => Arc::new(Int32Array::try_new(take(values), nulls)?),
            Values::Int64(values) => Arc::new(Int64Array::try_new(take(values), nulls)?),
            Values::Float32(values) => Arc::new(Float32Array::try_new(take(values), nulls)?),
            Values::Float64(values) => Arc::new(Float64Array::try_new(take(values), nulls)?),
            Values::Decimal { values, precision, scale } => {
                Arc::new(Decimal128Array::try_new(take(values), nulls)?.with_precision_and_scale(*precision, *scale)?)
            }
            Values::Text(strings) => {
                let (offsets, bytes) = strings.finish();
                Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
            }
            Values::Binary(strings) => {
                let (offsets, bytes) = strings.finish();
                Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?)
            }
            Values::Date(values) => Arc::new(Date32Array::try_new(take(values), nulls)?),
            Values::Time(values) => Arc::new(Time64MicrosecondArray::try_new(take(values), nulls)?),
            Values::Timestamp { values, nanos: false, zone } => {
                Arc::new(TimestampMicrosecondArray::try_new(take(values), nulls)?.with_timezone_opt(zone.clone()))
            }
            Values::Timestamp { values, nanos: true, zone } => {
                Arc::new(TimestampNanosecondArray::try_new(take(values), nulls)?.with_timezone_opt(zone.clone()))
            }
            Values::List { ends, item, field } => {
                Arc::new(ListArray::try_new(field.clone(), take_ends(ends), item.finish()?, nulls)?)
            }
            Values::Map { ends, keys, values, entries, ordered } => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(ArrowError::SchemaError("the entries of a map are no struct".to_string()));
                };
                let columns = vec![keys.finish()?, values.finish()?];
                let rows = StructArray::try_new(fields.clone(), columns, None)?;
                Arc::new(MapArray::try_new(entries.clone(), take_ends(ends), rows, nulls, *ordered)?)
            }
            Values::Struct(columns) => finish_struct(columns, nulls)?,
        })
    }

    /// Ends a list or map whose items were added, and any other value that the caller wrote into `values`.
    pub fn close(&mut self) {
        match &mut self.values {
            Values::List { ends, item, .. } => ends.push(item.rows() as i32),
            Values::Map { ends, keys, .. } => ends.push(keys.rows() as i32),
            _ => {}
        }
        self.validity.append_non_null();
    }
}

fn finish_struct(columns: &mut Columns, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    let arrays = columns.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
    match arrays.first().map(|array| array.len()) {
        Some(rows) => Ok(Arc::new(StructArray::try_new_with_length(columns.fields.clone(), arrays, nulls, rows)?)),
        None => Err(ArrowError::SchemaError("a row without fields".to_string())),
    }
}

fn take<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let capacity = values.len();
    ScalarBuffer::from(std::mem::replace(values, Vec::with_capacity(capacity)))
}

fn take_ends(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let offsets = OffsetBuffer::new(take(ends));
    ends.push(0);
    offsets
}

//! Rows to JSON records.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Fields, Schema};
use thalweg_core::{EncodedRows, Encoder, Error, Result};

use super::text::write_string;
use super::{JsonOptions, MapNullKey};
use crate::format::array_view::{ArrayView, normalise};
use crate::format::base64::write_base64;
use crate::format::number_text::{write_decimal, write_double, write_float};
use crate::format::time_text::{write_date, write_time, write_timestamp_micros, write_timestamp_nanos};

/// Writes each row as one object, fields in order of the schema, as Flink's json format writes values.
///
/// Differences that do not change a value: DECIMAL has its digits as declared (`10.00`; Flink writes `1E+1`). Keys of a MAP that
/// are not text are written as their text in quotes.
pub struct JsonEncoder {
    options: JsonOptions,
    plan: Plan,
}

/// What is known of a type before any row is seen.
enum Plan {
    Leaf,
    /// For each field `"name":`, with its plan.
    Row(Vec<(Vec<u8>, Plan)>),
    /// Of an array's items, or of a map's values.
    Items(Box<Plan>),
}

impl Plan {
    fn row(fields: &Fields) -> Self {
        let field_plan = |field: &FieldRef| {
            let mut name = vec![];
            write_string(&mut name, field.name());
            name.push(b':');
            (name, Plan::of(field.data_type()))
        };
        Plan::Row(fields.iter().map(field_plan).collect())
    }

    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Struct(fields) => Plan::row(fields),
            DataType::List(item) => Plan::Items(Box::new(Plan::of(item.data_type()))),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => Plan::Items(Box::new(Plan::of(fields[1].data_type()))),
                _ => Plan::Leaf,
            },
            _ => Plan::Leaf,
        }
    }
}

impl JsonEncoder {
    pub fn new(schema: &Schema, options: &JsonOptions) -> Self {
        JsonEncoder { options: options.clone(), plan: Plan::row(&schema.fields) }
    }

    fn encode_rows(&self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        let columns = rows.columns().iter().map(normalise).collect::<Result<Vec<ArrayRef>>>()?;
        let views = columns.iter().map(ArrayView::new).collect::<Result<Vec<_>>>()?;
        out.ends.reserve(rows.num_rows());
        for row in 0..rows.num_rows() {
            self.write_row(&mut out.bytes, &views, &self.plan, row)?;
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }

    fn write_row(&self, out: &mut Vec<u8>, columns: &[ArrayView<'_>], plan: &Plan, row: usize) -> Result<()> {
        let Plan::Row(fields) = plan else { return Err(Error::internal("a row was planned as another type")) };
        out.push(b'{');
        let mut first = true;
        for (column, (name, plan)) in columns.iter().zip(fields) {
            let is_null = column.is_null(row);
            if is_null && self.options.ignore_null_fields {
                continue;
            }
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(name);
            if is_null {
                out.extend_from_slice(b"null");
            } else {
                self.write_value(out, column, plan, row)?;
            }
        }
        out.push(b'}');
        Ok(())
    }

    /// Writes a value that is not null.
    fn write_value(&self, out: &mut Vec<u8>, view: &ArrayView<'_>, plan: &Plan, row: usize) -> Result<()> {
        let standard = self.options.timestamps;
        match view {
            ArrayView::Null => out.extend_from_slice(b"null"),
            ArrayView::Boolean(array) => {
                out.extend_from_slice(if array.value(row) { b"true".as_slice() } else { b"false".as_slice() });
            }
            ArrayView::Int8(array) => write_integer(out, array.value(row)),
            ArrayView::Int16(array) => write_integer(out, array.value(row)),
            ArrayView::Int32(array) => write_integer(out, array.value(row)),
            ArrayView::Int64(array) => write_integer(out, array.value(row)),
            ArrayView::Float32(array) => {
                let value = array.value(row);
                quoted_unless(value.is_finite(), out, |out| write_float(out, value));
            }
            ArrayView::Float64(array) => {
                let value = array.value(row);
                quoted_unless(value.is_finite(), out, |out| write_double(out, value));
            }
            ArrayView::Decimal { array, scale } => write_decimal(out, array.value(row), *scale),
            ArrayView::Text(array) => write_string(out, array.value(row)),
            ArrayView::Binary(array) => quoted_unless(false, out, |out| write_base64(out, array.value(row))),
            ArrayView::Date(array) => quoted_unless(false, out, |out| write_date(out, array.value(row).into())),
            ArrayView::Time(array) => {
                quoted_unless(false, out, |out| write_time(out, array.value(row).saturating_mul(1_000)));
            }
            ArrayView::Micros { array, zone } => {
                quoted_unless(false, out, |out| write_timestamp_micros(out, array.value(row), standard, *zone));
            }
            ArrayView::Nanos { array, zone } => {
                quoted_unless(false, out, |out| write_timestamp_nanos(out, array.value(row), standard, *zone));
            }
            ArrayView::List { array, items } => {
                let Plan::Items(plan) = plan else { return Err(Error::internal("an array was planned as another type")) };
                let (start, end) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                out.push(b'[');
                for item in start..end {
                    if item > start {
                        out.push(b',');
                    }
                    self.write_nullable(out, items, plan, item)?;
                }
                out.push(b']');
            }
            ArrayView::Map { array, keys, values } => {
                let Plan::Items(plan) = plan else { return Err(Error::internal("a map was planned as another type")) };
                let (start, end) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                out.push(b'{');
                let mut first = true;
                for entry in start..end {
                    if keys.is_null(entry) && self.options.map_null_key == MapNullKey::Drop {
                        continue;
                    }
                    if !first {
                        out.push(b',');
                    }
                    first = false;
                    self.write_key(out, keys, entry)?;
                    out.push(b':');
                    self.write_nullable(out, values, plan, entry)?;
                }
                out.push(b'}');
            }
            ArrayView::Struct { children, .. } => self.write_row(out, children, plan, row)?,
        }
        Ok(())
    }

    fn write_nullable(&self, out: &mut Vec<u8>, view: &ArrayView<'_>, plan: &Plan, row: usize) -> Result<()> {
        if view.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        self.write_value(out, view, plan, row)
    }

    fn write_key(&self, out: &mut Vec<u8>, keys: &ArrayView<'_>, entry: usize) -> Result<()> {
        if keys.is_null(entry) {
            return match &self.options.map_null_key {
                MapNullKey::Literal(literal) => {
                    write_string(out, literal);
                    Ok(())
                }
                _ => Err(Error::record("a MAP with a null key cannot be written as JSON").with_help(format!(
                    "set '{}json.map-null-key.mode' = 'DROP' to leave such entries out, or 'LITERAL' to name them",
                    self.options.prefix
                ))),
            };
        }
        let start = out.len();
        self.write_value(out, keys, &Plan::Leaf, entry)?;
        if out.get(start) != Some(&b'"') {
            out.insert(start, b'"');
            out.push(b'"');
        }
        Ok(())
    }
}

fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn quoted_unless(plain: bool, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if plain {
        return write(out);
    }
    out.push(b'"');
    write(out);
    out.push(b'"');
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        let before = (out.bytes.len(), out.ends.len());
        let outcome = self.encode_rows(rows, out);
        if outcome.is_err() {
            out.bytes.truncate(before.0);
            out.ends.truncate(before.1);
        }
        outcome
    }
}

//! Rows to CSV records.

use arrow::array::{ArrayRef, RecordBatch};
use thalweg_core::{EncodedRows, Encoder, Error, Result};

use super::CsvOptions;
use crate::format::array_view::{ArrayView, normalise};
use crate::format::base64::write_base64;
use crate::format::number_text::{write_decimal, write_decimal_scientific, write_double, write_float};
use crate::format::time_text::{TimestampStandard, write_date, write_time, write_timestamp_micros, write_timestamp_nanos};

/// Longer text is put in quotes without looking at it, as Jackson does.
const UNQUOTED_BYTES_MAX: usize = 24;

/// Writes each row as one line without its line end.
///
/// Text is quoted when it has a character up to the greater of delimiter and quote (so also a space), or is long: Flink's rule.
pub struct CsvEncoder {
    options: CsvOptions,
    /// The text of one field before it is quoted.
    scratch: Vec<u8>,
}

impl CsvEncoder {
    pub fn new(options: CsvOptions) -> Self {
        CsvEncoder { options, scratch: vec![] }
    }

    fn write_field(&mut self, out: &mut Vec<u8>, view: &ArrayView<'_>, row: usize) -> Result<()> {
        if view.is_null(row) {
            out.extend_from_slice(self.options.null_literal.as_deref().unwrap_or_default().as_bytes());
            return Ok(());
        }
        self.scratch.clear();
        let delimiter = self.options.array_delimiter.as_bytes();
        let null = self.options.null_literal.as_deref().unwrap_or_default().as_bytes();
        match view {
            ArrayView::List { array, items } => {
                let (start, end) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                for item in start..end {
                    if item > start {
                        self.scratch.extend_from_slice(delimiter);
                    }
                    write_or_null(&mut self.scratch, items, item, null, self.options.scientific_decimals)?;
                }
            }
            ArrayView::Struct { children, .. } => {
                for (index, child) in children.iter().enumerate() {
                    if index > 0 {
                        self.scratch.extend_from_slice(delimiter);
                    }
                    write_or_null(&mut self.scratch, child, row, null, self.options.scientific_decimals)?;
                }
            }
            _ => {
                let is_text = write_plain(&mut self.scratch, view, row, self.options.scientific_decimals)?;
                if !is_text {
                    out.extend_from_slice(&self.scratch);
                    return Ok(());
                }
            }
        }
        self.write_text(out);
        Ok(())
    }

    /// Writes the scratch text, with quotes and escapes where it needs them.
    fn write_text(&self, out: &mut Vec<u8>) {
        let options = &self.options;
        let text = self.scratch.as_slice();
        let Some(quote) = options.quote else {
            for (index, byte) in text.iter().enumerate() {
                let starts_delimiter = text[index..].starts_with(options.delimiter.as_bytes());
                if let Some(escape) = options.escape.filter(|escape| starts_delimiter || byte == escape) {
                    out.push(escape);
                }
                out.push(*byte);
            }
            return;
        };
        let safe_from = quote.max(options.delimiter.as_bytes()[0]).max(b'\r');
        let is_safe = |byte: &u8| *byte > safe_from && Some(*byte) != options.escape;
        if text.len() <= UNQUOTED_BYTES_MAX && text.iter().all(is_safe) {
            out.extend_from_slice(text);
            return;
        }
        out.push(quote);
        for byte in text {
            if *byte == quote {
                out.push(quote);
            } else if Some(*byte) == options.escape {
                out.push(*byte);
            }
            out.push(*byte);
        }
        out.push(quote);
    }

    fn encode_rows(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        let columns = rows.columns().iter().map(normalise).collect::<Result<Vec<ArrayRef>>>()?;
        let views = columns.iter().map(ArrayView::new).collect::<Result<Vec<_>>>()?;
        for row in 0..rows.num_rows() {
            for (index, view) in views.iter().enumerate() {
                if index > 0 {
                    out.bytes.extend_from_slice(self.options.delimiter.as_bytes());
                }
                self.write_field(&mut out.bytes, view, row)?;
            }
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }
}

fn write_or_null(out: &mut Vec<u8>, view: &ArrayView<'_>, row: usize, null: &[u8], scientific: bool) -> Result<()> {
    if view.is_null(row) {
        out.extend_from_slice(null);
        return Ok(());
    }
    write_plain(out, view, row, scientific).map(|_| ())
}

/// Writes a plain value that is not null. Says whether it is text, which may need quotes; numbers never do.
fn write_plain(out: &mut Vec<u8>, view: &ArrayView<'_>, row: usize, scientific: bool) -> Result<bool> {
    match view {
        ArrayView::Null => {}
        ArrayView::Boolean(array) => {
            out.extend_from_slice(if array.value(row) { b"true".as_slice() } else { b"false".as_slice() });
        }
        ArrayView::Int8(array) => write_integer(out, array.value(row)),
        ArrayView::Int16(array) => write_integer(out, array.value(row)),
        ArrayView::Int32(array) => write_integer(out, array.value(row)),
        ArrayView::Int64(array) => write_integer(out, array.value(row)),
        ArrayView::Float32(array) => write_float(out, array.value(row)),
        ArrayView::Float64(array) => write_double(out, array.value(row)),
        ArrayView::Decimal { array, scale } if scientific => write_decimal_scientific(out, array.value(row), *scale),
        ArrayView::Decimal { array, scale } => write_decimal(out, array.value(row), *scale),
        _ => {
            write_text_value(out, view, row)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn write_text_value(out: &mut Vec<u8>, view: &ArrayView<'_>, row: usize) -> Result<()> {
    let standard = TimestampStandard::Sql;
    match view {
        ArrayView::Text(array) => out.extend_from_slice(array.value(row).as_bytes()),
        ArrayView::Binary(array) => write_base64(out, array.value(row)),
        ArrayView::Date(array) => write_date(out, array.value(row).into()),
        ArrayView::Time(array) => write_time(out, array.value(row).saturating_mul(1_000)),
        ArrayView::Micros { array, zone } => write_timestamp_micros(out, array.value(row), standard, *zone),
        ArrayView::Nanos { array, zone } => write_timestamp_nanos(out, array.value(row), standard, *zone),
        _ => return Err(Error::internal("a nested value within a nested value has no CSV form")),
    }
    Ok(())
}

fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

impl Encoder for CsvEncoder {
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

//! The `raw` format: a record is the bytes of one value.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use thalweg_core::{
    Code, Decoder, Diagnostic, EncodedRows, Encoder, Error, FormatInfo, OptionDefinition, OptionType, RecordContext, Result,
};

use super::array_view::{ArrayView, normalise};
use super::columns::{Column, Columns, Values};
use super::wanted::Wanted;
use super::{BUFFERED_BYTES_MAX, FormatOptions, RECORD_BYTES_MAX};

pub const RAW: FormatInfo = FormatInfo {
    name: "raw",
    doc: "The bytes of a single column: text, bytes, BOOLEAN or a number of fixed width.",
    options: &[
        OptionDefinition {
            name: "charset",
            kind: OptionType::Enum(&["UTF-8"]),
            required: false,
            default: Some("UTF-8"),
            doc: "How text is encoded.",
        },
        OptionDefinition {
            name: "endianness",
            kind: OptionType::Enum(&["big-endian", "little-endian"]),
            required: false,
            default: Some("big-endian"),
            doc: "The order of the bytes of a number.",
        },
    ],
};

/// The options of the format, understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RawOptions {
    pub little_endian: bool,
}

impl RawOptions {
    /// # Errors
    /// The first value that an option cannot take.
    pub fn new(options: &FormatOptions) -> Result<Self, Diagnostic> {
        options.word("raw.charset", &["UTF-8"])?;
        let order = options.word("raw.endianness", &["big-endian", "little-endian"])?;
        Ok(RawOptions { little_endian: order == Some("little-endian") })
    }
}

/// Columns that the format cannot have.
pub fn check_schema(schema: &Schema) -> Vec<Diagnostic> {
    let [field] = schema.fields.as_ref() else {
        return vec![
            Diagnostic::error(
                Code::BAD_TABLE,
                format!("format \"raw\" needs exactly one physical column, and there are {}", schema.fields.len()),
            )
            .help("use format 'json' or 'csv' for several columns"),
        ];
    };
    match Wanted::of(field.data_type()) {
        Some(
            Wanted::Boolean
            | Wanted::TinyInt
            | Wanted::SmallInt
            | Wanted::Int
            | Wanted::BigInt
            | Wanted::Float
            | Wanted::Double
            | Wanted::String
            | Wanted::Bytes,
        ) => vec![],
        _ => vec![
            Diagnostic::error(Code::BAD_TYPE, format!("format \"raw\" cannot hold column \"{}\"", field.name()))
                .help("it takes STRING, BYTES, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT and DOUBLE"),
        ],
    }
}

/// Reads each record as one value. A record without a value (a Kafka tombstone) is a null.
pub struct RawDecoder {
    schema: SchemaRef,
    columns: Columns,
    options: RawOptions,
    rows: usize,
    buffered_bytes: usize,
}

impl RawDecoder {
    /// `fields` is the table's column, or nothing when only the number of rows counts.
    /// # Errors
    /// `Internal` for columns that [`check_schema`] refuses.
    pub fn new(fields: Vec<FieldRef>, options: RawOptions) -> Result<Self> {
        let fields = Fields::from(fields);
        let columns = Columns::new(&fields).map_err(Error::internal)?;
        Ok(RawDecoder { schema: Arc::new(Schema::new(fields)), columns, options, rows: 0, buffered_bytes: 0 })
    }

    fn push(&mut self, record: &[u8]) -> Result<()> {
        if record.len() > RECORD_BYTES_MAX {
            let message = format!("the record has {} bytes, more than the {RECORD_BYTES_MAX} allowed", record.len());
            return Err(Error::record(message));
        }
        let little = self.options.little_endian;
        for column in &mut self.columns.columns {
            let wanted = column.wanted;
            push_value(column, record, little).ok_or_else(|| match wanted {
                Wanted::String => Error::record("the record is not UTF-8").with_help("declare the column as BYTES"),
                _ => Error::record(format!("{} bytes are no {wanted}", record.len()))
                    .with_help("declare the column as BYTES to see what the records hold"),
            })?;
            column.close();
        }
        Ok(())
    }
}

/// `N` bytes as a number's, in big-endian order.
fn number_bytes<const N: usize>(record: &[u8], little_endian: bool) -> Option<[u8; N]> {
    let mut bytes = <[u8; N]>::try_from(record).ok()?;
    if little_endian {
        bytes.reverse();
    }
    Some(bytes)
}

/// Adds the value but not its validity.
fn push_value(column: &mut Column, record: &[u8], little: bool) -> Option<()> {
    match &mut column.values {
        Values::Text(strings) => {
            std::str::from_utf8(record).ok()?;
            strings.push(record);
        }
        Values::Binary(strings) => strings.push(record),
        Values::Boolean(values) => values.append(u8::from_be_bytes(number_bytes(record, little)?) != 0),
        Values::Int8(values) => values.push(i8::from_be_bytes(number_bytes(record, little)?)),
        Values::Int16(values) => values.push(i16::from_be_bytes(number_bytes(record, little)?)),
        Values::Int32(values) => values.push(i32::from_be_bytes(number_bytes(record, little)?)),
        Values::Int64(values) => values.push(i64::from_be_bytes(number_bytes(record, little)?)),
        Values::Float32(values) => values.push(f32::from_be_bytes(number_bytes(record, little)?)),
        Values::Float64(values) => values.push(f64::from_be_bytes(number_bytes(record, little)?)),
        _ => return None,
    }
    Some(())
}

impl Decoder for RawDecoder {
    fn decode(&mut self, record: &[u8], context: RecordContext<'_>) -> Result<usize> {
        if self.buffered_bytes > BUFFERED_BYTES_MAX {
            return Err(Error::internal("a raw decoder was not flushed in time").in_context(context));
        }
        if let Err(error) = self.push(record) {
            self.columns.truncate(self.rows);
            return Err(error.in_context(context));
        }
        self.rows += 1;
        self.buffered_bytes += record.len();
        Ok(1)
    }

    fn decode_null(&mut self, context: RecordContext<'_>) -> Result<usize> {
        if let Some(field) = self.schema.fields.iter().find(|field| !field.is_nullable()) {
            let message = format!("field \"{}\" is null, but its column is NOT NULL", field.name());
            return Err(Error::record(message)
                .with_help("declare the column without NOT NULL to let it be null")
                .in_context(context));
        }
        self.columns.columns.iter_mut().for_each(Column::push_null);
        self.rows += 1;
        Ok(1)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    fn flush(&mut self) -> Result<RecordBatch> {
        let batch = self.columns.finish(&self.schema, self.rows)?;
        self.rows = 0;
        self.buffered_bytes = 0;
        Ok(batch)
    }

    fn take_skipped(&mut self) -> u64 {
        0
    }
}

/// Writes the bytes of the single column; a null is an empty record.
pub struct RawEncoder {
    options: RawOptions,
}

impl RawEncoder {
    pub fn new(options: RawOptions) -> Self {
        RawEncoder { options }
    }
}

impl Encoder for RawEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        let [column] = rows.columns() else {
            return Err(Error::internal(format!("format \"raw\" was given {} columns", rows.num_columns())));
        };
        let column: ArrayRef = normalise(column)?;
        let view = ArrayView::new(&column)?;
        let little = self.options.little_endian;
        for row in 0..rows.num_rows() {
            if !view.is_null(row) {
                write_value(&mut out.bytes, &view, row, little)?;
            }
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }
}

fn write_value(out: &mut Vec<u8>, view: &ArrayView<'_>, row: usize, little_endian: bool) -> Result<()> {
    let start = out.len();
    match view {
        ArrayView::Text(array) => {
            out.extend_from_slice(array.value(row).as_bytes());
            return Ok(());
        }
        ArrayView::Binary(array) => {
            out.extend_from_slice(array.value(row));
            return Ok(());
        }
        ArrayView::Boolean(array) => out.push(array.value(row).into()),
        ArrayView::Int8(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
        ArrayView::Int16(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
        ArrayView::Int32(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
        ArrayView::Int64(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
        ArrayView::Float32(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
        ArrayView::Float64(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
        _ => return Err(Error::internal("a value of this type has no raw form")),
    }
    if little_endian {
        out[start..].reverse();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use proptest::prelude::*;

    use super::*;

    const CONTEXT: RecordContext<'_> = RecordContext { origin: "lines.txt", partition: None, offset: 3 };

    fn decoder(data_type: DataType, little_endian: bool) -> RawDecoder {
        RawDecoder::new(vec![Arc::new(Field::new("line", data_type, true))], RawOptions { little_endian }).unwrap()
    }

    /// Decodes records of a type, encodes the rows again, and expects the same bytes.
    fn check(data_type: DataType, little_endian: bool, records: &[&[u8]]) {
        let mut decoder = decoder(data_type, little_endian);
        for record in records {
            assert_eq!(decoder.decode(record, CONTEXT).unwrap(), 1);
        }
        let mut out = EncodedRows::default();
        RawEncoder::new(RawOptions { little_endian }).encode(&decoder.flush().unwrap(), &mut out).unwrap();
        assert_eq!(out.iter().collect::<Vec<_>>(), records);
    }

    #[test]
    fn bytes_come_back() {
        check(DataType::Utf8, false, &[b"{\"a\": 1}", b"", b" two  words "]);
        check(DataType::Binary, false, &[&[0, 255], b""]);
        check(DataType::Boolean, false, &[&[1], &[0]]);
        check(DataType::Int32, false, &[&[0, 0, 0, 1]]);
        check(DataType::Int64, true, &[&[1, 2, 3, 4, 5, 6, 7, 8]]);
        check(DataType::Float64, true, &[&1.5_f64.to_le_bytes()]);
    }

    #[test]
    fn order_of_bytes() {
        let mut big = decoder(DataType::Int16, false);
        let mut little = decoder(DataType::Int16, true);
        for decoder in [&mut big, &mut little] {
            decoder.decode(&[1, 0], CONTEXT).unwrap();
        }
        let value = |decoder: &mut RawDecoder| {
            let batch = decoder.flush().unwrap();
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int16Type>(batch.column(0)).value(0)
        };
        assert_eq!((value(&mut big), value(&mut little)), (256, 1));
    }

    #[test]
    fn bad_records_leave_no_trace() {
        let mut numbers = decoder(DataType::Int32, false);
        numbers.decode(&[0, 0, 0, 1], CONTEXT).unwrap();
        assert_eq!(numbers.decode(b"12345", CONTEXT).unwrap_err().message, "lines.txt:3: 5 bytes are no INT");
        assert_eq!(numbers.decode_null(CONTEXT).unwrap(), 1);
        assert_eq!(numbers.flush().unwrap().num_rows(), 2);
        let error = decoder(DataType::Utf8, false).decode(&[0xff], CONTEXT).unwrap_err();
        assert_eq!(error.message, "lines.txt:3: the record is not UTF-8");
    }

    #[test]
    fn only_one_plain_column() {
        let two = Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Utf8, true)]);
        assert!(check_schema(&two)[0].message.contains("exactly one physical column"));
        assert_eq!(check_schema(&Schema::new(vec![Field::new("a", DataType::Date32, true)])).len(), 1);
        assert!(check_schema(&Schema::new(vec![Field::new("a", DataType::Int64, true)])).is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(record: Vec<u8>) {
            for data_type in [DataType::Utf8, DataType::Int8, DataType::Float32, DataType::Boolean] {
                let mut decoder = decoder(data_type, true);
                let added = decoder.decode(&record, CONTEXT).unwrap_or(0);
                prop_assert_eq!(decoder.flush().unwrap().num_rows(), added);
            }
        }
    }
}

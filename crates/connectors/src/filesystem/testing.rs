//! A small line format for tests, so that they do not depend on the real ones: JSON objects of whole numbers and texts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use serde_json::{Map, Value};
use thalweg_core::{Decoder, EncodedRows, Encoder, Error, Options, RecordContext, Result};

use super::{FileFormats, encode_parquet, read_parquet};

pub(crate) const FORMATS: FileFormats = FileFormats { decoder, encoder, read_parquet, encode_parquet };

pub(crate) fn field(name: &str, kind: DataType) -> FieldRef {
    Arc::new(Field::new(name, kind, true))
}

/// `["1 a null", …]`: the rows as text, for comparing.
pub(crate) fn rows_text(rows: &RecordBatch) -> Vec<String> {
    let texts: Vec<ArrayRef> =
        rows.columns().iter().map(|column| arrow::compute::cast(column, &DataType::Utf8).unwrap()).collect();
    let value = |column: &ArrayRef, row: usize| match column.is_null(row) {
        true => "null".to_string(),
        false => column.as_string::<i32>().value(row).to_string(),
    };
    (0..rows.num_rows()).map(|row| texts.iter().map(|column| value(column, row)).collect::<Vec<_>>().join(" ")).collect()
}

fn decoder(name: &str, prefix: &str, fields: Vec<FieldRef>, _all: SchemaRef, _options: &Options) -> Result<Box<dyn Decoder>> {
    assert_eq!((name, prefix), ("json", ""));
    Ok(Box::new(TestDecoder { fields, records: vec![], bytes: 0 }))
}

fn encoder(_name: &str, _prefix: &str, _schema: SchemaRef, _options: &Options) -> Result<Box<dyn Encoder>> {
    Ok(Box::new(TestEncoder))
}

struct TestDecoder {
    fields: Vec<FieldRef>,
    records: Vec<Value>,
    bytes: usize,
}

impl Decoder for TestDecoder {
    fn decode(&mut self, record: &[u8], context: RecordContext<'_>) -> Result<usize> {
        let value = serde_json::from_slice(record).map_err(|error| Error::record(format!("{context}: {error}")))?;
        self.records.push(value);
        self.bytes += record.len();
        Ok(1)
    }

    fn decode_null(&mut self, _context: RecordContext<'_>) -> Result<usize> {
        Ok(0)
    }

    fn rows(&self) -> usize {
        self.records.len()
    }

    fn buffered_bytes(&self) -> usize {
        self.bytes
    }

    fn flush(&mut self) -> Result<RecordBatch> {
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        let column = |field: &FieldRef| -> ArrayRef {
            let values = records.iter().map(|record| record.get(field.name()));
            match field.data_type() {
                DataType::Int64 => Arc::new(values.map(|value| value.and_then(Value::as_i64)).collect::<Int64Array>()),
                _ => Arc::new(values.map(|value| value.and_then(Value::as_str)).collect::<StringArray>()),
            }
        };
        let columns = self.fields.iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(self.fields.clone())), columns, &options)?)
    }

    fn take_skipped(&mut self) -> u64 {
        0
    }
}

struct TestEncoder;

impl Encoder for TestEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        for row in 0..rows.num_rows() {
            let mut object = Map::new();
            for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
                let value = match field.data_type() {
                    _ if column.is_null(row) => Value::Null,
                    DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
                    _ => column.as_string::<i32>().value(row).into(),
                };
                object.insert(field.name().clone(), value);
            }
            out.bytes.extend_from_slice(Value::Object(object).to_string().as_bytes());
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }
}

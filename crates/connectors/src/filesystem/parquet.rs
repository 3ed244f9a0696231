//! Parquet files, whole in memory.

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::sync::Arc;
use thalweg_core::{Error, Options, Result};

use super::ParquetBatches;
use crate::rows::cast_strictly;

const COMPRESSION: &str = "parquet.compression";

/// Reads `fields` of a file by name, cast to their types; a column that the file does not have is NULL.
///
/// Passes over `skip_rows` rows and then gives batches of at most `batch_rows`.
/// # Errors
/// `Record` for bytes that are no parquet file and for values that do not fit, without the file's name.
pub fn read_parquet(file: Bytes, fields: &[FieldRef], skip_rows: usize, batch_rows: usize) -> Result<ParquetBatches> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(not_readable)?;
    let in_file = builder.schema().clone();
    let wanted: Vec<usize> = fields.iter().filter_map(|field| in_file.index_of(field.name()).ok()).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let reader =
        builder.with_projection(mask).with_offset(skip_rows).with_batch_size(batch_rows.max(1)).build().map_err(not_readable)?;
    let schema = Arc::new(Schema::new(fields.to_vec()));
    Ok(Box::new(reader.map(move |batch| {
        let batch = batch.map_err(|error| Error::record("parquet file cannot be read").with_cause(error))?;
        as_declared(&batch, &schema)
    })))
}

/// The columns of `schema` out of `batch`, by name.
fn as_declared(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = match batch.column_by_name(field.name()) {
            Some(column) => cast_strictly(column, field.data_type())
                .map_err(|error| Error::record(format!("column {} does not fit its type", field.name())).with_cause(error))?,
            None => new_null_array(field.data_type(), batch.num_rows()),
        };
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(Error::record(format!("column {} is NOT NULL but the file has no value for it", field.name())));
        }
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// One file with all of `rows`, which are under `schema`. The option `parquet.compression` is SNAPPY unless set, as in Flink.
pub fn encode_parquet(schema: &SchemaRef, rows: &[RecordBatch], options: &Options) -> Result<Bytes> {
    let compression = match options.get(COMPRESSION).unwrap_or("SNAPPY") {
        "SNAPPY" => Compression::SNAPPY,
        "ZSTD" => Compression::ZSTD(ZstdLevel::default()),
        "LZ4_RAW" => Compression::LZ4_RAW,
        "UNCOMPRESSED" => Compression::UNCOMPRESSED,
        other => {
            let finding = options.bad_value(COMPRESSION, format!("option \"{COMPRESSION}\" cannot be \"{other}\""));
            return Err(finding.help("use one of SNAPPY, ZSTD, LZ4_RAW, UNCOMPRESSED").into());
        }
    };
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut file = vec![];
    let mut writer = ArrowWriter::try_new(&mut file, schema.clone(), Some(properties)).map_err(not_writable)?;
    for batch in rows {
        writer.write(batch).map_err(not_writable)?;
    }
    writer.close().map_err(not_writable)?;
    Ok(Bytes::from(file))
}

/// The number of rows that a file's footer states.
pub(super) fn count_parquet_rows(file: Bytes) -> Result<u64> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(not_readable)?;
    Ok(u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0))
}

fn not_readable(error: ParquetError) -> Error {
    Error::record("this is not a parquet file that can be read").with_cause(error)
}

fn not_writable(error: ParquetError) -> Error {
    Error::internal("rows cannot be written as parquet").with_cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type};

    fn file() -> Bytes {
        let number: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let rows = RecordBatch::try_from_iter_with_nullable([("number", number, true), ("text", text, true)]).unwrap();
        let mut options = Options::new();
        options.insert(COMPRESSION, "ZSTD");
        encode_parquet(&rows.schema(), &[rows], &options).unwrap()
    }

    fn read(fields: &[Field], skip: usize) -> Result<Vec<RecordBatch>> {
        let fields: Vec<FieldRef> = fields.iter().cloned().map(Arc::new).collect();
        read_parquet(file(), &fields, skip, 2)?.collect()
    }

    #[test]
    fn columns_come_by_name_cast_and_null_where_missing() {
        let fields = [Field::new("new", DataType::Utf8, true), Field::new("number", DataType::Int64, true)];
        let batches = read(&fields, 0).unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(batches[0].column(0).null_count(), 2);
        assert_eq!(batches[1].column(1).as_primitive::<Int64Type>().value(0), 3);
        assert_eq!(batches[0].column(1).null_count(), 1);
        let rest = read(&fields, 2).unwrap();
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].column(1).as_primitive::<Int64Type>().value(0), 3);
    }

    #[test]
    fn no_columns_still_count_rows() {
        assert_eq!(read(&[], 0).unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
        assert_eq!(count_parquet_rows(file()).unwrap(), 3);
    }

    #[test]
    fn wrong_files_and_types_are_the_records_fault() {
        let nothing: &[FieldRef] = &[];
        let error = read_parquet(Bytes::from_static(b"PAR1 no"), nothing, 0, 1).err().unwrap();
        assert_eq!(error.kind, thalweg_core::ErrorKind::Record);
        let error = read(&[Field::new("text", DataType::Int64, true)], 0).unwrap_err();
        assert_eq!(error.kind, thalweg_core::ErrorKind::Record);
        let error = read(&[Field::new("number", DataType::Int32, false)], 0).unwrap_err();
        assert_eq!(error.kind, thalweg_core::ErrorKind::Record);
    }
}

//! The `parquet` format: whole files of columns.

mod adapt;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;
use thalweg_core::{Diagnostic, Error, FormatInfo, OptionDefinition, OptionType, Result};

use super::FormatOptions;
use adapt::adapt;

const COMPRESSIONS: &[&str] = &["zstd", "snappy", "lz4_raw", "none", "uncompressed"];

pub const PARQUET: FormatInfo = FormatInfo {
    name: "parquet",
    doc: "Apache Parquet files, for the filesystem connector.",
    options: &[
        OptionDefinition {
            name: "compression",
            kind: OptionType::Enum(COMPRESSIONS),
            required: false,
            default: Some("zstd"),
            doc: "How pages are compressed; zstd has level 1, which is nearly as fast as snappy and much smaller.",
        },
        OptionDefinition {
            name: "utc-timezone",
            kind: OptionType::Boolean,
            required: false,
            default: Some("false"),
            doc: "Accepted for Flink's sake: timestamps are stored as they are, in no local time zone.",
        },
    ],
};

/// How files are written.
#[derive(Clone, PartialEq, Debug)]
pub struct ParquetWriterOptions {
    pub compression: Compression,
    /// Rows of a row group.
    pub row_group_rows: usize,
}

impl Default for ParquetWriterOptions {
    fn default() -> Self {
        ParquetWriterOptions { compression: Compression::ZSTD(ZstdLevel::default()), row_group_rows: 1 << 20 }
    }
}

impl ParquetWriterOptions {
    /// # Errors
    /// A compression that does not exist.
    pub fn new(options: &FormatOptions) -> Result<Self, Diagnostic> {
        let compression = match options.word("parquet.compression", COMPRESSIONS)? {
            Some("snappy") => Compression::SNAPPY,
            Some("lz4_raw") => Compression::LZ4_RAW,
            Some("none" | "uncompressed") => Compression::UNCOMPRESSED,
            _ => Compression::ZSTD(ZstdLevel::default()),
        };
        Ok(ParquetWriterOptions { compression, ..ParquetWriterOptions::default() })
    }
}

/// A whole file with the rows of `batches`, in order. The same rows and options give the same bytes.
/// # Errors
/// `Internal` when a batch does not have `schema`.
pub fn encode_parquet(schema: &SchemaRef, batches: &[RecordBatch], options: &ParquetWriterOptions) -> Result<Bytes> {
    let internal = |error: ParquetError| Error::internal("rows cannot be written as parquet").with_cause(error);
    let properties = WriterProperties::builder()
        .set_compression(options.compression)
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .set_created_by("thalweg".to_string())
        .build();
    let mut writer = ArrowWriter::try_new(vec![], schema.clone(), Some(properties)).map_err(internal)?;
    for batch in batches {
        writer.write(batch).map_err(internal)?;
    }
    Ok(writer.into_inner().map_err(internal)?.into())
}

/// Reads a file's rows under a table's columns, a batch at a time.
///
/// Columns are found by name; the file's own types are cast to the table's (timestamps of any unit, narrower numbers). A column
/// that the file does not have is null. Only the columns asked for are read.
pub struct ParquetReader {
    schema: SchemaRef,
    /// For each field of the schema its column in the batches of `rows`.
    sources: Vec<Option<usize>>,
    rows: ParquetRecordBatchReader,
}

impl ParquetReader {
    /// `input` is a file or the [`Bytes`] of one; `fields` are the columns to give, in order.
    /// # Errors
    /// `Corrupt` when this is no Parquet file; `Record` when it lacks a column that is NOT NULL.
    pub fn new<R: ChunkReader + 'static>(input: R, fields: Vec<FieldRef>, batch_rows: usize) -> Result<Self> {
        // The Arrow schema that some writers leave in the file is of no use: the table's types decide.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(input, options).map_err(not_parquet)?;
        let stored: Vec<&str> = builder.schema().fields.iter().map(|field| field.name().as_str()).collect();
        let indices: Vec<Option<usize>> =
            fields.iter().map(|field| stored.iter().position(|name| name == field.name())).collect();
        for (field, index) in fields.iter().zip(&indices) {
            if index.is_none() && !field.is_nullable() {
                return Err(Error::record(format!("the file has no column \"{}\", which is NOT NULL", field.name()))
                    .with_help("declare the column without NOT NULL to read it as null"));
            }
        }
        // Batches have the chosen columns in the order of the file.
        let mut chosen: Vec<usize> = indices.iter().flatten().copied().collect();
        chosen.sort_unstable();
        chosen.dedup();
        let sources = indices.iter().map(|index| index.and_then(|index| chosen.binary_search(&index).ok())).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), chosen);
        let rows = builder.with_projection(mask).with_batch_size(batch_rows.max(1)).build().map_err(not_parquet)?;
        Ok(ParquetReader { schema: Arc::new(Schema::new(fields)), sources, rows })
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let column = |(field, source): (&FieldRef, &Option<usize>)| -> Result<ArrayRef> {
            match source {
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                Some(index) => adapt(batch.column(*index), field.data_type())
                    .map_err(|error| error.in_context(format!("column \"{}\"", field.name()))),
            }
        };
        let columns = self.schema.fields.iter().zip(&self.sources).map(column).collect::<Result<Vec<_>>>()?;
        for (field, column) in self.schema.fields.iter().zip(&columns) {
            if !field.is_nullable() && column.logical_null_count() > 0 {
                return Err(Error::record(format!("column \"{}\" has a null, but is NOT NULL", field.name()))
                    .with_help("declare the column without NOT NULL to let it be null"));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

fn not_parquet(error: ParquetError) -> Error {
    Error::corrupt("the file is not readable as parquet").with_cause(error)
}

impl Iterator for ParquetReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.rows.next()? {
            Ok(batch) => Some(self.convert(&batch)),
            Err(error) => Some(Err(Error::corrupt("the file is not readable as parquet").with_cause(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int32Array, Int64Array, StringArray, StructArray, TimestampMillisecondArray};
    use arrow::datatypes::{DataType, Field, Fields, Int64Type, TimeUnit, TimestampMicrosecondType};
    use thalweg_core::{ErrorKind, Options};

    use super::*;

    fn field(name: &str, data_type: DataType) -> FieldRef {
        Arc::new(Field::new(name, data_type, true))
    }

    fn file(columns: Vec<(&str, ArrayRef)>) -> Bytes {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        encode_parquet(&batch.schema(), &[batch], &ParquetWriterOptions::default()).unwrap()
    }

    fn read(file: Bytes, fields: Vec<FieldRef>) -> Vec<RecordBatch> {
        ParquetReader::new(file, fields, 1024).unwrap().collect::<Result<_>>().unwrap()
    }

    #[test]
    fn columns_by_name_with_their_declared_types() {
        let inner = StructArray::from(vec![
            (field("x", DataType::Int32), Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
            (field("y", DataType::Int32), Arc::new(Int32Array::from(vec![3, 4])) as ArrayRef),
        ]);
        let bytes = file(vec![
            ("id", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
            ("other", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![Some(5), None])) as ArrayRef),
            ("inner", Arc::new(inner) as ArrayRef),
        ]);
        let row = DataType::Struct(Fields::from(vec![field("y", DataType::Int64), field("z", DataType::Utf8)]));
        let wanted = vec![
            field("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            field("gone", DataType::Utf8),
            field("id", DataType::Int64),
            field("inner", row),
        ];
        let batches = read(bytes, wanted);
        assert_eq!(batches.len(), 1);
        let batch = &batches[0];
        assert_eq!(batch.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 5_000);
        assert!(batch.column(0).is_null(1));
        assert_eq!(batch.column(1).null_count(), 2);
        assert_eq!(batch.column(2).as_primitive::<Int64Type>().values(), &[1, 2]);
        assert_eq!(batch.column(3).as_struct().column(0).as_primitive::<Int64Type>().values(), &[3, 4]);
        assert_eq!(batch.column(3).as_struct().column(1).null_count(), 2);
    }

    #[test]
    fn no_columns_still_have_rows() {
        let bytes = file(vec![("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef)]);
        assert_eq!(read(bytes, vec![]).iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    }

    #[test]
    fn batches_are_bounded() {
        let bytes = file(vec![("id", Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef)]);
        let reader = ParquetReader::new(bytes, vec![field("id", DataType::Int64)], 30).unwrap();
        assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).collect::<Vec<_>>(), [30, 30, 30, 10]);
    }

    #[test]
    fn every_compression_comes_back_and_repeats_its_bytes() {
        let batch = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from_iter_values(0..1000)) as ArrayRef)]).unwrap();
        for word in COMPRESSIONS {
            let mut options = Options::new();
            options.insert("parquet.compression", *word);
            let options = ParquetWriterOptions::new(&FormatOptions::new(&options, "")).unwrap();
            let bytes = encode_parquet(&batch.schema(), std::slice::from_ref(&batch), &options).unwrap();
            assert_eq!(bytes, encode_parquet(&batch.schema(), std::slice::from_ref(&batch), &options).unwrap());
            assert_eq!(read(bytes, vec![field("id", DataType::Int64)])[0].column(0), batch.column(0));
        }
    }

    #[test]
    fn what_cannot_be_read() {
        let Err(error) = ParquetReader::new(Bytes::from_static(b"PAR1 no parquet"), vec![], 10) else { panic!() };
        assert_eq!(error.kind, ErrorKind::Corrupt);
        let bytes = file(vec![("id", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]);
        let missing = Arc::new(Field::new("gone", DataType::Int64, false));
        let Err(error) = ParquetReader::new(bytes.clone(), vec![missing], 10) else { panic!() };
        assert_eq!(error.message, "the file has no column \"gone\", which is NOT NULL");
        let error = ParquetReader::new(bytes, vec![field("id", DataType::Int64)], 10).unwrap().next().unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Record);
        assert!(error.message.starts_with("column \"id\": "), "{}", error.message);
    }
}

//! `connector = 'filesystem'`: folders of json, csv, raw or parquet files, read and written with Flink's options.
//!
//! - [`folder`]: one face for local folders and object stores; [`lines`]: a file as lines;
//! - [`source`] and [`reader`]: each file is a partition of the source;
//! - [`lookup`]: the table as the right side of a lookup join, held in memory;
//! - [`partition`]: hive style folders (`day=2026-01-01/hour=10`) from values and back;
//! - [`sink`]: rows to segments of the output log; [`deliver`]: segments to files;
//! - [`parquet`]: whole parquet files in memory; [`options`]: what a user can say.

mod deliver;
mod folder;
mod lines;
mod lookup;
mod options;
mod parquet;
mod partition;
mod reader;
mod sink;
mod source;

#[cfg(test)]
pub(crate) mod testing;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use thalweg_core::{Decoder, Encoder, Options, Result};

pub use lookup::lookup;
pub use options::INFO;
pub use parquet::{encode_parquet, read_parquet};
pub use sink::FileSink;
pub use source::FileSource;

/// `(format, option prefix, fields to give, all fields of the record, options of the table)`. The prefix is empty here: the
/// options of a format are `json.…`, not `value.json.…`.
pub type DecoderFactory = fn(&str, &str, Vec<FieldRef>, SchemaRef, &Options) -> Result<Box<dyn Decoder>>;

/// `(format, option prefix, fields of the rows, options of the table)`.
pub type EncoderFactory = fn(&str, &str, SchemaRef, &Options) -> Result<Box<dyn Encoder>>;

/// Batches of a parquet file in order.
pub type ParquetBatches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// `(file, fields to give, rows to pass over, rows of a batch)`.
pub type ParquetReader = fn(Bytes, &[FieldRef], usize, usize) -> Result<ParquetBatches>;

/// `(schema, rows, options of the table, of which parquet.compression counts)`.
pub type ParquetEncoder = fn(&SchemaRef, &[RecordBatch], &Options) -> Result<Bytes>;

/// The formats as the filesystem connector uses them.
#[derive(Clone, Copy)]
pub struct FileFormats {
    pub decoder: DecoderFactory,
    pub encoder: EncoderFactory,
    pub read_parquet: ParquetReader,
    pub encode_parquet: ParquetEncoder,
}

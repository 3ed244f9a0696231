//! Rows to segments of the output log, one for each partition folder and epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use object_store::ObjectStore;
use object_store::path::Path;
use thalweg_core::{
    Batch, Deliverer, DeliveryContext, DeliveryGuarantee, EncodedRows, Encoder, Epoch, LaneId, OutputSegment, Result, Sink,
    SinkRequest, SinkWriter,
};

use super::FileFormats;
use super::deliver::{DeliveryTarget, FileDeliverer};
use super::options::{FileFormat, SinkOptions};
use super::partition::Partitioner;
use crate::rows::appended_rows;
use crate::store::{StoreSettings, open_store};

/// The sink of a `filesystem` table. Always exactly-once: files are made from the output log, under names that a repetition
/// meets again.
pub struct FileSink {
    request: SinkRequest,
    options: SinkOptions,
    formats: FileFormats,
    /// The columns that the files have.
    schema: SchemaRef,
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl FileSink {
    /// Opens the folder, which is created when it is local.
    pub fn open(request: SinkRequest, settings: &StoreSettings, formats: FileFormats) -> Result<FileSink> {
        let options = SinkOptions::parse(&request.options)?;
        let partitioner = Partitioner::new(request.schema.fields(), &request.partitioned_by, &options.default_name)?;
        let schema = Arc::new(request.schema.project(partitioner.kept())?);
        if options.format == FileFormat::Parquet {
            // Finds out about a wrong compression now, not when the first file is full.
            (formats.encode_parquet)(&schema, &[], &request.options)?;
        }
        let (store, folder) = open_store(&options.path, settings)?;
        Ok(FileSink { request, options, formats, schema, store, folder })
    }
}

impl Sink for FileSink {
    fn guarantee(&self) -> DeliveryGuarantee {
        DeliveryGuarantee::ExactlyOnce
    }

    fn writer(&self, _lane: LaneId) -> Result<Box<dyn SinkWriter>> {
        let partitioner =
            Partitioner::new(self.request.schema.fields(), &self.request.partitioned_by, &self.options.default_name)?;
        let encoder = match &self.options.format {
            FileFormat::Lines(name) => {
                let encoder = (self.formats.encoder)(name, "", self.schema.clone(), &self.request.options)?;
                Some(encoder)
            }
            FileFormat::Parquet => None,
        };
        Ok(Box::new(FileWriter {
            sink_id: self.request.sink_id.clone(),
            partitioner,
            schema: self.schema.clone(),
            encoder,
            encoded: EncodedRows::default(),
            folders: BTreeMap::new(),
        }))
    }

    fn delivery_key(&self) -> String {
        format!("filesystem:{}", self.request.sink_id)
    }

    fn deliverer(&self, context: DeliveryContext) -> Result<Box<dyn Deliverer>> {
        let target = DeliveryTarget {
            store: self.store.clone(),
            folder: self.folder.clone(),
            shown: self.options.path.clone(),
            format: self.options.format.clone(),
            schema: self.schema.clone(),
            options: self.request.options.clone(),
            encode_parquet: self.formats.encode_parquet,
            success_file: self.options.success_file.clone(),
        };
        Ok(Box::new(FileDeliverer::new(target, &self.request.sink_id, self.options.rolling.clone(), context)))
    }
}

struct FileWriter {
    sink_id: String,
    partitioner: Partitioner,
    schema: SchemaRef,
    /// `None` for parquet.
    encoder: Option<Box<dyn Encoder>>,
    /// Scratch.
    encoded: EncodedRows,
    /// Rows of this epoch by partition folder.
    folders: BTreeMap<String, FolderBuffer>,
}

/// Rows of one folder. Lines are encoded as they come; rows for parquet are kept as they are.
#[derive(Default)]
struct FolderBuffer {
    lines: Vec<u8>,
    batches: Vec<RecordBatch>,
    rows: u64,
    bytes: usize,
}

impl SinkWriter for FileWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let rows = appended_rows(batch, &self.sink_id)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        for (folder, rows) in self.partitioner.split(&rows)? {
            // The batch has the types of the schema, but maybe not its names and nullability.
            let rows = RecordBatch::try_new(self.schema.clone(), rows.columns().to_vec())?;
            let buffer = self.folders.entry(folder).or_default();
            buffer.rows += rows.num_rows() as u64;
            match &mut self.encoder {
                Some(encoder) => {
                    self.encoded.clear();
                    encoder.encode(&rows, &mut self.encoded)?;
                    for line in self.encoded.iter() {
                        buffer.lines.extend_from_slice(line);
                        buffer.lines.push(b'\n');
                    }
                    buffer.bytes = buffer.lines.len();
                }
                None => {
                    buffer.bytes += rows.get_array_memory_size();
                    buffer.batches.push(rows);
                }
            }
        }
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        let mut segments = vec![];
        for (tag, buffer) in std::mem::take(&mut self.folders) {
            let bytes = match self.encoder {
                Some(_) => buffer.lines,
                None => encode_ipc(&self.schema, &buffer.batches)?,
            };
            segments.push(OutputSegment { tag, bytes, rows: buffer.rows });
        }
        Ok(segments)
    }

    fn buffered_bytes(&self) -> usize {
        self.folders.values().map(|buffer| buffer.bytes).sum()
    }
}

/// An Arrow IPC stream with one batch: small batches cost much in the stream and when it is read again.
fn encode_ipc(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(vec![], schema, options)?;
    writer.write(&concat_batches(schema, batches)?)?;
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests;

//! Segments of the output log to files.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_ipc::reader::StreamReader;
use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use thalweg_core::{
    Clock, Deliverer, DeliveryContext, DeliveryMarker, DeliveryPlan, Epoch, Error, Options, PlannedDelivery, Result,
    SegmentReader, SegmentRef, stable_hash,
};

use super::ParquetEncoder;
use super::options::{FileFormat, RollingPolicy};
use super::parquet::count_parquet_rows;
use crate::store::{Created, block_on, create_object, object_path, put_error, read_object, store_error};

/// Where and how files are made.
pub(super) struct DeliveryTarget {
    pub store: Arc<dyn ObjectStore>,
    pub folder: Path,
    /// The table's path as the user wrote it.
    pub shown: String,
    pub format: FileFormat,
    pub schema: SchemaRef,
    /// Of the table, for `parquet.compression`.
    pub options: Options,
    pub encode_parquet: ParquetEncoder,
    /// Put into each partition folder that gets a file.
    pub success_file: Option<String>,
}

/// Rolls segments into files and puts each file once.
///
/// A file's name comes from the job, the sink and the first segment in it, and a segment goes into one file only. So a name
/// stands for one content for ever, two jobs can write one folder, and repeating a delivery meets its own file.
///
/// The target keeps no marker and needs no fence: whoever delivers an epoch delivers what the manifest says.
pub(super) struct FileDeliverer {
    target: DeliveryTarget,
    rolling: RollingPolicy,
    /// `part-<sink>-<hash of job and sink>`.
    name_prefix: String,
    clock: Arc<dyn Clock>,
}

impl FileDeliverer {
    pub fn new(target: DeliveryTarget, sink_id: &str, rolling: RollingPolicy, context: DeliveryContext) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' };
        let readable: String = sink_id.chars().map(plain).collect();
        let hash = stable_hash(format!("{}\0{sink_id}", context.job_id).as_bytes()) >> 32;
        FileDeliverer { target, rolling, name_prefix: format!("part-{readable}-{hash:08x}"), clock: context.clock }
    }

    /// `<tag>/part-<sink>-<hash>-<epoch>-<lane>-<index>.<ext>`, the last three of the first segment.
    fn file_name(&self, first: &SegmentRef) -> String {
        let name = format!(
            "{}-{:010}-{}-{}.{}",
            self.name_prefix,
            first.epoch.0,
            first.lane.0,
            first.index,
            self.target.format.extension()
        );
        if first.tag.is_empty() { name } else { format!("{}/{name}", first.tag) }
    }

    /// Whether segments that do not fill a file have waited long enough.
    fn is_old(&self, segments: &[SegmentRef]) -> bool {
        let now_ms = self.clock.wall_ms();
        let age_ms = |written_ms: Option<i64>| now_ms.saturating_sub(written_ms.unwrap_or(now_ms));
        let oldest = segments.iter().map(|segment| segment.written_ms).min();
        let newest = segments.iter().map(|segment| segment.written_ms).max();
        age_ms(oldest) >= self.rolling.rollover_ms || age_ms(newest) >= self.rolling.inactivity_ms
    }

    fn file_bytes(&self, segments: &[SegmentRef], reader: &dyn SegmentReader) -> Result<Bytes> {
        match self.target.format {
            FileFormat::Lines(_) => {
                let length: u64 = segments.iter().map(|segment| segment.length).sum();
                let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
                for segment in segments {
                    bytes.extend_from_slice(&reader.read(segment)?);
                }
                Ok(bytes.freeze())
            }
            FileFormat::Parquet => {
                let mut batches: Vec<RecordBatch> = vec![];
                for segment in segments {
                    let stream = StreamReader::try_new(Cursor::new(reader.read(segment)?), None);
                    let read = stream.and_then(|stream| stream.collect::<Result<Vec<_>, _>>());
                    batches.extend(read.map_err(|error| {
                        Error::corrupt(format!("output log object \"{}\" holds no rows", segment.object)).with_cause(error)
                    })?);
                }
                (self.target.encode_parquet)(&self.target.schema, &batches, &self.target.options)
            }
        }
    }

    /// Whether the file that is there already is the one of this delivery.
    fn check_existing(&self, location: &Path, bytes: &Bytes, rows: u64) -> Result<()> {
        let shown = || format!("file \"{}/{location}\"", self.target.shown);
        let cannot_read = |error| store_error(error, format!("cannot read back {}", shown()));
        let length = block_on(self.target.store.head(location)).map_err(cannot_read)?.size;
        if length == bytes.len() as u64 {
            return Ok(());
        }
        // A newer version of this program may encode the same rows in another number of bytes.
        if self.target.format == FileFormat::Parquet {
            let existing = read_object(self.target.store.as_ref(), location).map_err(cannot_read)?;
            if count_parquet_rows(existing).is_ok_and(|existing| existing == rows) {
                return Ok(());
            }
        }
        Err(Error::corrupt(format!("{} exists with {length} bytes where {} were to be written", shown(), bytes.len()))
            .with_help("the file was changed by someone else; move it away and start again, and it is written anew"))
    }
}

impl Deliverer for FileDeliverer {
    fn fence(&mut self) -> Result<Option<DeliveryMarker>> {
        Ok(None)
    }

    fn plan(&mut self, _epoch: Epoch, waiting: Vec<SegmentRef>, new: Vec<SegmentRef>, is_final: bool) -> Result<DeliveryPlan> {
        let mut by_folder: BTreeMap<String, Vec<SegmentRef>> = BTreeMap::new();
        for segment in waiting.into_iter().chain(new) {
            by_folder.entry(segment.tag.clone()).or_default().push(segment);
        }
        let mut plan = DeliveryPlan::default();
        for mut segments in by_folder.into_values() {
            segments.sort_by_key(|segment| (segment.epoch, segment.lane, segment.index));
            let mut file: Vec<SegmentRef> = vec![];
            let mut file_bytes = 0;
            for segment in segments {
                file_bytes += segment.length;
                file.push(segment);
                if file_bytes >= self.rolling.file_bytes {
                    file_bytes = 0;
                    let segments = std::mem::take(&mut file);
                    plan.deliveries.push(PlannedDelivery { target: self.file_name(&segments[0]), segments });
                }
            }
            if file.is_empty() {
                continue;
            }
            if is_final || self.is_old(&file) {
                plan.deliveries.push(PlannedDelivery { target: self.file_name(&file[0]), segments: file });
            } else {
                plan.keep.extend(file);
            }
        }
        Ok(plan)
    }

    fn is_due(&self, waiting: &[SegmentRef]) -> bool {
        let mut by_folder: BTreeMap<&str, Vec<SegmentRef>> = BTreeMap::new();
        for segment in waiting {
            by_folder.entry(&segment.tag).or_default().push(segment.clone());
        }
        by_folder.values().any(|file| self.is_old(file))
    }

    fn deliver(&mut self, _epoch: Epoch, deliveries: &[PlannedDelivery], segments: &dyn SegmentReader) -> Result<()> {
        for delivery in deliveries {
            let folder = self.target.folder.as_ref();
            let separator = if folder.is_empty() { "" } else { "/" };
            let location = object_path(&format!("{folder}{separator}{}", delivery.target))?;
            let bytes = self.file_bytes(&delivery.segments, segments)?;
            let store = self.target.store.as_ref();
            let shown = || format!("cannot write \"{}/{}\"", self.target.shown, delivery.target);
            match create_object(store, &location, bytes.clone()).map_err(|error| put_error(error, shown()))? {
                Created::New => {}
                Created::Existed => {
                    let rows = delivery.segments.iter().map(|segment| segment.rows).sum();
                    self.check_existing(&location, &bytes, rows)?;
                }
            }
            if let (Some(name), Some((tag, _))) = (&self.target.success_file, delivery.target.rsplit_once('/')) {
                let marker = object_path(&format!("{folder}{separator}{tag}/{name}"))?;
                let put = block_on(store.put(&marker, PutPayload::default()));
                put.map_err(|error| put_error(error, format!("cannot write \"{}/{tag}/{name}\"", self.target.shown)))?;
            }
        }
        Ok(())
    }
}

//! What a connector gives to be written to, and the protocol of delivery.
//!
//! Life of a row in a sink with exactly-once delivery:
//!
//! ```text
//! SinkWriter::write -> SinkWriter::prepare -> segment stored in out/ -> Deliverer::plan -> manifest created
//!                                                                                            (the commit point)
//!                                                             Deliverer::deliver <- - - - - - - - - - |
//! ```
//!
//! Everything behind the commit point is repeatable: `deliver` of an epoch that was delivered before changes nothing.
//! If `deliver` never returns, the backlog of undelivered epochs fills and the sources pause.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Batch, Clock, Epoch, EventTime, Generation, LaneId, Options, Result};

/// All a connector needs to know to write a table.
#[derive(Clone)]
pub struct SinkRequest {
    pub table: String,
    /// Stable name of the sink within the job.
    pub sink_id: String,
    pub options: Options,
    /// The writable columns in declared order: what batches have.
    pub schema: SchemaRef,
    /// For each column of `schema`, the metadata key it is written to; `None` for a physical column.
    pub metadata: Vec<Option<String>>,
    pub partitioned_by: Vec<String>,
    pub primary_key: Vec<String>,
    /// An IANA name, from `table.local-time-zone`.
    pub time_zone: String,
    pub clock: Arc<dyn Clock>,
}

/// What a sink promises, in Flink's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryGuarantee {
    /// Output is stored with the checkpoint and delivered after it, repeatably.
    ExactlyOnce,
    /// Written as rows come; flushed before the checkpoint is committed; repeated after a crash.
    AtLeastOnce,
    /// Written as rows come; what was under way at a crash may be lost or repeated.
    None,
}

/// A table that can be written.
pub trait Sink: Send + Sync {
    fn guarantee(&self) -> DeliveryGuarantee;

    /// A writer for one lane.
    fn writer(&self, lane: LaneId) -> Result<Box<dyn SinkWriter>>;

    /// Sinks with the same key share one [`Deliverer`] (one Kafka cluster: one transaction). Unused unless exactly-once.
    fn delivery_key(&self) -> String;

    /// The deliverer for all sinks with this sink's key. Called once per key, on the first of them. Unused unless exactly-once.
    fn deliverer(&self, context: DeliveryContext) -> Result<Box<dyn Deliverer>>;
}

/// Takes the rows of one lane of one sink.
pub trait SinkWriter: Send {
    /// Rows under [`SinkRequest::schema`]. An exactly-once writer buffers them, encoded; another hands them on.
    /// # Errors
    /// `Record` for a row that the sink can never take (too large for the topic), with its key.
    fn write(&mut self, batch: &Batch) -> Result<()>;

    /// The watermark that the rows written so far are complete up to.
    fn on_watermark(&mut self, watermark: EventTime) {
        let _ = watermark;
    }

    /// Closes the epoch. An exactly-once writer gives all that was written since the last call; another flushes and gives
    /// nothing. Called once per epoch, also when there were no rows.
    fn prepare(&mut self, epoch: Epoch) -> Result<Vec<OutputSegment>>;

    /// Bytes buffered since the last [`SinkWriter::prepare`], to trigger an early epoch.
    fn buffered_bytes(&self) -> usize {
        0
    }
}

/// Output of one lane of one sink in one epoch, in the sink's own encoding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputSegment {
    /// Groups segments that may share a file: the partition folder (`day=2026-01-01/hour=10`), or empty.
    pub tag: String,
    pub bytes: Vec<u8>,
    pub rows: u64,
}

/// A segment as the manifest names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SegmentRef {
    pub sink_id: String,
    pub tag: String,
    pub epoch: Epoch,
    pub lane: LaneId,
    /// Number of the segment among those of its sink, epoch and lane.
    pub index: u32,
    pub object: String,
    /// Byte range of the segment within the object.
    pub offset: u64,
    pub length: u64,
    pub crc32: u32,
    pub rows: u64,
    /// Wall clock when it was written, for rolling by age.
    pub written_ms: i64,
}

/// Gives the bytes of a segment, from memory or from the store, with the checksum verified.
pub trait SegmentReader {
    fn read(&self, segment: &SegmentRef) -> Result<Bytes>;
}

/// Who delivers.
#[derive(Clone)]
pub struct DeliveryContext {
    /// Identity of the job for ever: made when its first manifest was created.
    pub job_id: String,
    pub generation: Generation,
    /// Differs for each start, also for two with the same generation in a race.
    pub nonce: String,
    pub clock: Arc<dyn Clock>,
}

/// The last epoch that a target says it holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeliveryMarker {
    pub job_id: String,
    pub generation: Generation,
    pub epoch: Epoch,
    /// Parts `0..=part` of the epoch are delivered.
    pub part: u32,
    /// Whether `part` was the last one.
    pub last: bool,
}

/// What one epoch delivers, decided before the commit point and stored in the manifest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DeliveryPlan {
    pub deliveries: Vec<PlannedDelivery>,
    /// Segments that wait for a later epoch (a file that is not full yet).
    pub keep: Vec<SegmentRef>,
}

/// One file, or one run of records for a topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlannedDelivery {
    /// The file's path below the table, deterministic so that repetition meets itself; empty for topics.
    pub target: String,
    pub segments: Vec<SegmentRef>,
}

/// Hands stored output to the world, in epoch order. One per delivery key and job, on one thread.
pub trait Deliverer: Send {
    /// Makes sure that no older run can still write, and finds the last delivered epoch.
    /// `None` when the target keeps no marker (files) or nothing was ever delivered: all planned epochs are repeated.
    /// # Errors
    /// `Fenced` when a newer run was here; `Unavailable` to try again; `Corrupt` when the marker belongs to another job.
    fn fence(&mut self) -> Result<Option<DeliveryMarker>>;

    /// Decides what to deliver with `epoch`, given the segments waiting from earlier epochs and the new ones.
    /// `is_final` is set when the job stops after this epoch: nothing should wait. Pure: no I/O.
    fn plan(&mut self, epoch: Epoch, waiting: Vec<SegmentRef>, new: Vec<SegmentRef>, is_final: bool) -> Result<DeliveryPlan>;

    /// Whether some of the `waiting` segments should be delivered now although no new ones came: a file that is old enough.
    fn is_due(&self, waiting: &[SegmentRef]) -> bool {
        let _ = waiting;
        false
    }

    /// Delivers a committed epoch. Repeatable.
    /// # Errors
    /// `Unavailable` to try again after a pause (the deliverer has put itself in order), `Fenced` to stop.
    fn deliver(&mut self, epoch: Epoch, deliveries: &[PlannedDelivery], segments: &dyn SegmentReader) -> Result<()>;
}

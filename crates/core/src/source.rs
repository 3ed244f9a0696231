//! What a connector gives to be read from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::{Clock, Options, Result};

/// The name of a partition within its source, stable over restarts: `orders/3` for Kafka, a path for a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PartitionId(pub String);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where to read on in a partition: the next Kafka offset, or the next byte of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Position {
    pub next: i64,
    /// What else must agree when the job restarts, such as a topic id or a file's length when it was listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Position {
    pub fn at(next: i64) -> Self {
        Position { next, detail: None }
    }
}

/// A column that the query needs, in the order in which it needs them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScanField {
    Physical(FieldRef),
    /// `key` is the connector's name for it, such as `offset` or `value.source.table`.
    Metadata {
        key: String,
        field: FieldRef,
    },
}

impl ScanField {
    pub fn field(&self) -> &FieldRef {
        match self {
            ScanField::Physical(field) | ScanField::Metadata { field, .. } => field,
        }
    }
}

/// When a source ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadMode {
    /// As the table says: files end unless monitored, Kafka does not unless `scan.bounded.mode` is set.
    AsDeclared,
    /// At what is there when the reader starts (`--until-caught-up`).
    UntilCaughtUp,
}

/// All a connector needs to know to read a table.
#[derive(Clone)]
pub struct ScanRequest {
    pub table: String,
    pub options: Options,
    /// What to give, in this order: projection is pushed into the decoder.
    pub fields: Vec<ScanField>,
    /// All physical columns as declared, for formats where position matters.
    pub physical_schema: SchemaRef,
    pub partitioned_by: Vec<String>,
    pub primary_key: Vec<String>,
    /// An IANA name, from `table.local-time-zone`.
    pub time_zone: String,
    pub mode: ReadMode,
    pub clock: Arc<dyn Clock>,
}

/// A partition with the place to start; `None` is where the table's startup option says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Assignment {
    pub partition: PartitionId,
    pub position: Option<Position>,
}

/// How much one call of [`SourceReader::poll`] may take.
#[derive(Clone, Copy, Debug)]
pub struct PollBudget {
    pub rows: usize,
    pub wait: Duration,
}

/// What a reader has.
#[derive(Debug)]
pub enum SourceEvent {
    /// Rows of one partition, in its order, under the schema of [`ScanRequest::fields`]; never empty of meaning: either rows
    /// or progress. `next` is where to read on after them; `skipped` counts records ignored on the way.
    ///
    /// `weights` is for sources of upserts (see [`crate::ConnectorInfo::gives_upserts`]): +1 is the newest row of its key, -1 says
    /// that the key's row goes; absent means that all are +1. Of a row with -1 only the columns of the PRIMARY KEY and metadata
    /// count; the other columns are null, also those declared NOT NULL, so the schema of `rows` has them nullable.
    Rows { partition: PartitionId, rows: RecordBatch, weights: Option<Int64Array>, next: Position, skipped: u64 },
    /// Nothing within the budget's wait.
    Idle,
    /// The partition has no more rows, now and for ever: a file was read to its end, or the declared bound is reached.
    PartitionEnd(PartitionId),
    /// Under [`ReadMode::UntilCaughtUp`]: the partition gave what was there at start; there will be more in a later run.
    CaughtUp(PartitionId),
}

/// Something with partitions that can be read. Safe to share: readers do the reading.
pub trait Source: Send + Sync {
    /// The partitions that exist now, in a stable order. Called at start and, where
    /// [`Source::discovery_interval`] is set, again and again. Never shrinks the job: vanished ones are the reader's error.
    /// # Errors
    /// `Unavailable` while the server is away, `User` when the topic or folder does not exist.
    fn partitions(&self) -> Result<Vec<PartitionId>>;

    /// How often to look for new partitions; `None` is never.
    fn discovery_interval(&self) -> Option<Duration>;

    /// Whether every partition ends by itself.
    fn is_bounded(&self) -> bool;

    /// Told before any reader is made when the job goes on from a checkpoint: partitions without a position are new ones then,
    /// and are read from their beginning whatever the startup option says.
    fn set_restored(&self) {}

    /// A reader for `assignments`, one per lane, each partition in one of them.
    fn reader(&self, assignments: Vec<Assignment>) -> Result<Box<dyn SourceReader>>;

    /// Told after a checkpoint is durable, for lag displays only; positions live in the manifest.
    fn on_committed(&self, positions: &[(PartitionId, Position)]) {
        let _ = positions;
    }
}

/// Reads its partitions. Owned by one thread.
pub trait SourceReader: Send {
    /// Takes in partitions found later.
    fn assign(&mut self, assignments: Vec<Assignment>) -> Result<()>;

    /// Rows of any one partition, or what else happened. Returns within about `budget.wait` when there is nothing.
    /// Partitions take turns so that none starves.
    /// # Errors
    /// `Record` for a record that cannot be decoded, `Unavailable` after retries within the client are exhausted.
    fn poll(&mut self, budget: PollBudget) -> Result<SourceEvent>;

    /// Rows not read yet over all partitions, where the connector knows.
    fn lag_rows(&self) -> Option<u64> {
        None
    }
}

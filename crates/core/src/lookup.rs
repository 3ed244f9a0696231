//! Tables that are asked for single keys while rows pass: the right side of a lookup join.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::{Clock, LaneId, Options, Result, ScanField};

/// All a connector needs to know to look up in a table.
#[derive(Clone)]
pub struct LookupRequest {
    pub table: String,
    pub options: Options,
    /// What to give, in this order.
    pub fields: Vec<ScanField>,
    /// Positions among `fields` of the columns that are looked up by.
    pub keys: Vec<usize>,
    /// All physical columns as declared, for formats where position matters.
    pub physical_schema: SchemaRef,
    pub partitioned_by: Vec<String>,
    pub primary_key: Vec<String>,
    /// An IANA name, from `table.local-time-zone`.
    pub time_zone: String,
    pub clock: Arc<dyn Clock>,
}

/// A table that can be asked for keys. Safe to share: each lane asks through a [`LookupTable`] of its own.
pub trait Lookup: Send + Sync {
    fn table(&self, lane: LaneId) -> Result<Box<dyn LookupTable>>;
}

/// The rows that were found for a batch of keys.
#[derive(Clone, Debug)]
pub struct LookupRows {
    /// Under the fields of the request. Several keys may share rows, and there may be rows that no key asked for: a table that
    /// is held in memory gives itself, without a copy.
    pub rows: RecordBatch,
    /// For each key its rows, as a range of `rows`; empty where there is none.
    pub ranges: Vec<Range<usize>>,
}

/// Asks a table for keys. Owned by one thread.
pub trait LookupTable: Send {
    /// The rows whose key columns equal those of `keys`, whose columns are those of [`LookupRequest::keys`] in that order. Nulls are
    /// equal here, and so are NaNs; `0.0` and `-0.0` differ. The rows of one key come in an order that does not change while the
    /// table does not.
    /// # Errors
    /// `Unavailable` when the table cannot be reached, `Record` when a row of it cannot be read.
    fn lookup(&mut self, keys: &RecordBatch) -> Result<LookupRows>;

    /// Memory that is held for the table, in bytes. Where lanes share it, one of them tells.
    fn memory_bytes(&self) -> u64 {
        0
    }
}

//! Records to rows and back.

use std::fmt;

use arrow::array::RecordBatch;

use crate::Result;

/// Where a record came from, for messages about it. Cheap to copy; text is made only when something is wrong.
#[derive(Clone, Copy, Debug)]
pub struct RecordContext<'a> {
    /// The topic or file.
    pub origin: &'a str,
    /// Kafka partition; `None` for files.
    pub partition: Option<i32>,
    /// Kafka offset, or line number from 1 in a file.
    pub offset: i64,
}

impl fmt::Display for RecordContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "topic {} partition {partition} offset {}", self.origin, self.offset),
            None => write!(f, "{}:{}", self.origin, self.offset),
        }
    }
}

/// Turns records into rows, a record at a time, straight into Arrow builders.
///
/// A record that cannot be decoded leaves no trace in the builders: the rows before and after it are whole.
/// # Errors
/// `ErrorKind::Record` with context, field, shortened fragment and the expected form, unless the format was told to ignore
/// parse errors; then the record counts in [`Decoder::take_skipped`].
pub trait Decoder: Send {
    /// Decodes one record; returns how many rows it added (0 for a skipped one; more than 1 for a JSON array).
    fn decode(&mut self, record: &[u8], context: RecordContext<'_>) -> Result<usize>;

    /// Adds a row for a record without a value (a Kafka tombstone), where the format has a meaning for it; 0 if it has none.
    fn decode_null(&mut self, context: RecordContext<'_>) -> Result<usize>;

    /// Rows since the last flush.
    fn rows(&self) -> usize;

    /// Bytes of record text since the last flush, to bound a batch.
    fn buffered_bytes(&self) -> usize;

    /// The rows since the last flush, in order, under the fields the decoder was made for.
    fn flush(&mut self) -> Result<RecordBatch>;

    /// Records ignored since the last call.
    fn take_skipped(&mut self) -> u64;
}

/// Byte strings, one a row, back to back: row `i` is `bytes[ends[i-1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedRows {
    pub bytes: Vec<u8>,
    pub ends: Vec<usize>,
}

impl EncodedRows {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn row(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.row(index))
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Turns rows into records.
pub trait Encoder: Send {
    /// Appends one record a row of `rows` to `out`, in order, without line ends.
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()>;
}

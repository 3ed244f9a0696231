//! What flows between operators.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::{Epoch, EventTime};

/// The name under which weights are shown in plans and stored in state.
pub const WEIGHT_NAME: &str = "weight";

/// Rows with their multiplicities.
///
/// `weights` absent means that every row is `+1` (an append-only stream pays nothing). A row with weight `-1` takes back
/// one earlier equal row. Flink's `+I -U +U -D` are made from weights only at the edge.
///
/// `row_watermarks` holds, for each row, the watermark (milliseconds) that the rows *before* it in its source partition had
/// made. Absent means that every row was more than 1 ms ahead of its partition's watermark when it was read: so none can be late,
/// nor touch a session that the watermark had closed.
/// Sources set it only for batches that hold a row at, behind or 1 ms ahead of the running watermark; that is what makes lateness
/// independent of how rows are cut into batches while the common path stays vectorised. Where an on-time row may take back one that
/// is late by then, they set it for all.
///
/// `updates` is true for the two halves of a change of one row, the old one taken back and the new one. Absent means false for all.
/// It is for the edge, and for a temporal join, where the old half of a change ends no version; all others merely keep it on the rows
/// that they pass on. So an update of which a filter lets only one half through is still shown as `-U` or `+U`, as in Flink.
///
/// Invariant: `weights`, `row_watermarks` and `updates`, where present, have `rows.num_rows()` entries and no nulls.
#[derive(Clone, Debug)]
pub struct Batch {
    pub rows: RecordBatch,
    pub weights: Option<Int64Array>,
    pub row_watermarks: Option<Int64Array>,
    pub updates: Option<BooleanArray>,
}

/// What Flink calls a row of a changelog. Made at the edge, see [`Batch::kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowKind {
    Insert,
    UpdateBefore,
    UpdateAfter,
    Delete,
}

impl RowKind {
    /// `+I`, `-U`, `+U` or `-D`.
    pub fn mark(self) -> &'static str {
        match self {
            RowKind::Insert => "+I",
            RowKind::UpdateBefore => "-U",
            RowKind::UpdateAfter => "+U",
            RowKind::Delete => "-D",
        }
    }
}

impl Batch {
    /// A batch of rows of weight `+1`, none of which can be late.
    pub fn append(rows: RecordBatch) -> Self {
        Batch { rows, weights: None, row_watermarks: None, updates: None }
    }

    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    pub fn column(&self, index: usize) -> &ArrayRef {
        self.rows.column(index)
    }

    /// The same rows, weights and row watermarks under other columns. `rows` must have as many rows as `self`.
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        assert_eq!(rows.num_rows(), self.num_rows(), "a projection keeps the number of rows");
        Batch { rows, weights: self.weights.clone(), row_watermarks: self.row_watermarks.clone(), updates: self.updates.clone() }
    }

    /// The rows where `mask` is true (null counts as false), in order.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self, ArrowError> {
        let predicate = arrow::compute::FilterBuilder::new(mask).optimize().build();
        let hidden = |hidden: &Option<Int64Array>| -> Result<Option<Int64Array>, ArrowError> {
            hidden.as_ref().map(|values| Ok(as_int64(predicate.filter(values)?))).transpose()
        };
        Ok(Batch {
            rows: predicate.filter_record_batch(&self.rows)?,
            weights: hidden(&self.weights)?,
            row_watermarks: hidden(&self.row_watermarks)?,
            updates: match &self.updates {
                Some(updates) => Some(as_boolean(predicate.filter(updates)?)),
                None => None,
            },
        })
    }

    /// The rows at `indices`, in that order; an index may occur more than once.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self, ArrowError> {
        let hidden = |hidden: &Option<Int64Array>| -> Result<Option<Int64Array>, ArrowError> {
            hidden.as_ref().map(|values| Ok(as_int64(arrow::compute::take(values, indices, None)?))).transpose()
        };
        Ok(Batch {
            rows: arrow::compute::take_record_batch(&self.rows, indices)?,
            weights: hidden(&self.weights)?,
            row_watermarks: hidden(&self.row_watermarks)?,
            updates: match &self.updates {
                Some(updates) => Some(as_boolean(arrow::compute::take(updates, indices, None)?)),
                None => None,
            },
        })
    }

    /// Rows `offset .. offset + length`, without a copy.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Batch {
            rows: self.rows.slice(offset, length),
            weights: self.weights.as_ref().map(|values| values.slice(offset, length)),
            row_watermarks: self.row_watermarks.as_ref().map(|values| values.slice(offset, length)),
            updates: self.updates.as_ref().map(|values| values.slice(offset, length)),
        }
    }

    /// The weight of row `row`.
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row))
    }

    /// What row `row` is in a changelog of Flink.
    pub fn kind(&self, row: usize) -> RowKind {
        let is_update = self.updates.as_ref().is_some_and(|updates| updates.value(row));
        match (self.weight(row) < 0, is_update) {
            (false, false) => RowKind::Insert,
            (true, true) => RowKind::UpdateBefore,
            (false, true) => RowKind::UpdateAfter,
            (true, false) => RowKind::Delete,
        }
    }

    /// Memory held by the buffers of this batch, in bytes.
    pub fn size_bytes(&self) -> usize {
        let hidden = |array: &Option<Int64Array>| array.as_ref().map_or(0, |a| a.get_array_memory_size());
        let updates = self.updates.as_ref().map_or(0, Array::get_array_memory_size);
        self.rows.get_array_memory_size() + hidden(&self.weights) + hidden(&self.row_watermarks) + updates
    }
}

fn as_int64(array: ArrayRef) -> Int64Array {
    Int64Array::from(array.to_data())
}

fn as_boolean(array: ArrayRef) -> BooleanArray {
    BooleanArray::from(array.to_data())
}

impl From<RecordBatch> for Batch {
    fn from(rows: RecordBatch) -> Self {
        Batch::append(rows)
    }
}

/// What travels along an edge of the running plan, in order.
///
/// A watermark never overtakes rows; a barrier splits rows of one epoch from those of the next.
#[derive(Clone, Debug)]
pub enum Message {
    Batch(Arc<Batch>),
    Watermark(EventTime),
    Barrier(Barrier),
    /// No more rows will ever come. `Watermark(EventTime::MAX)` was sent before.
    End,
}

/// The end of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Barrier {
    pub epoch: Epoch,
    /// The processing time at which the epoch ended, ms since 1970: one for all lanes.
    pub time_ms: i64,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn kinds_follow_the_rows() {
        let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef)]).unwrap();
        let batch = Batch {
            weights: Some(Int64Array::from(vec![1, -1, 1, -1])),
            updates: Some(BooleanArray::from(vec![false, true, true, false])),
            ..Batch::append(rows)
        };
        let marks = |batch: &Batch| (0..batch.num_rows()).map(|row| batch.kind(row).mark()).collect::<Vec<_>>();
        assert_eq!(marks(&batch), ["+I", "-U", "+U", "-D"]);
        assert_eq!(marks(&batch.slice(1, 2)), ["-U", "+U"]);
        assert_eq!(marks(&batch.filter(&BooleanArray::from(vec![false, true, false, true])).unwrap()), ["-U", "-D"]);
        assert_eq!(marks(&batch.take(&UInt32Array::from(vec![2, 0])).unwrap()), ["+U", "+I"]);
        assert_eq!(marks(&batch.with_rows(batch.rows.clone())), ["+I", "-U", "+U", "-D"]);
        assert_eq!(Batch::append(batch.rows).kind(0), RowKind::Insert);
    }
}

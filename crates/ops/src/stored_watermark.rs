//! The watermark that an operator has handled, in checkpoints.
//!
//! What was sent, and which rows are late, cannot be told from the sources' watermarks after a restart: while a partition of a
//! source was idle the operator's may have been ahead of them.
//!
//! State: one slot, `watermark`, with `[key_group, watermark: Int64]` for each key group of the lane, so that any later lanes find
//! it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use thalweg_core::{Error, EventTime, KeyGroup, Result};
use thalweg_state::{KEY_GROUP_COLUMN, SlotChange, SlotId, StateDelta, StatePart};

const SLOT: &str = "watermark";

pub(crate) struct StoredWatermark {
    key_groups: Range<KeyGroup>,
    /// Never goes back.
    now: EventTime,
    stored: EventTime,
}

impl StoredWatermark {
    pub(crate) fn new(key_groups: Range<KeyGroup>) -> Self {
        StoredWatermark { key_groups, now: EventTime::MIN, stored: EventTime::MIN }
    }

    pub(crate) fn now(&self) -> EventTime {
        self.now
    }

    pub(crate) fn advance(&mut self, watermark: EventTime) {
        self.now = self.now.max(watermark);
    }

    /// For each of `rows` rows, the watermark that it is judged by: its own, if it has one, or ours where that is ahead.
    pub(crate) fn before_rows(&self, own: Option<&Int64Array>, rows: usize) -> Vec<i64> {
        match own {
            Some(own) => own.values().iter().map(|own| (*own).max(self.now.0)).collect(),
            None => vec![self.now.0; rows],
        }
    }

    pub(crate) fn snapshot(&mut self, delta: &mut StateDelta) -> Result<()> {
        if self.now != self.stored {
            let watermarks = Int64Array::from(vec![self.now.0; self.key_groups.len()]);
            let columns: Vec<ArrayRef> =
                vec![Arc::new(UInt16Array::from_iter_values(self.key_groups.clone())), Arc::new(watermarks)];
            let fields = [(KEY_GROUP_COLUMN, DataType::UInt16), ("watermark", DataType::Int64)]
                .map(|(name, ty)| Field::new(name, ty, false));
            let batch = RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns)?;
            delta.changes.push((SlotId(SLOT.to_string()), SlotChange::Replace(batch)));
            self.stored = self.now;
        }
        Ok(())
    }

    pub(crate) fn owns(&self, slot: &SlotId) -> bool {
        slot.0 == SLOT
    }

    /// # Errors
    /// `Corrupt` when the part is not a watermark.
    pub(crate) fn restore(&mut self, part: &StatePart) -> Result<()> {
        // All lanes have handled the same watermarks at a barrier. The last batch holds, as every change replaces the slot.
        let Some(batch) = part.batches.last() else {
            return Ok(());
        };
        let watermarks = match batch.columns() {
            [_, watermarks] => watermarks.as_primitive_opt::<Int64Type>(),
            _ => None,
        };
        let watermarks = watermarks.ok_or_else(|| Error::corrupt("a stored watermark has other columns than expected"))?;
        if let Some(lowest) = watermarks.values().iter().min() {
            self.now = self.now.max(EventTime(*lowest));
            self.stored = self.now;
        }
        Ok(())
    }

    pub(crate) fn mark_all_dirty(&mut self) {
        self.stored = EventTime::MIN;
    }
}

/// Takes in the watermark among the parts and gives the others.
/// # Errors
/// As [`StoredWatermark::restore`].
pub(crate) fn without_watermark(parts: Vec<StatePart>, watermark: &mut StoredWatermark) -> Result<Vec<StatePart>> {
    let (own, others): (Vec<StatePart>, Vec<StatePart>) = parts.into_iter().partition(|part| watermark.owns(&part.slot));
    own.iter().try_for_each(|part| watermark.restore(part))?;
    Ok(others)
}

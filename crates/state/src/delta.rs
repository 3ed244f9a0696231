//! What operators give to a checkpoint and get back from it.

use std::fmt;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

/// The first column of every state batch: UInt16, the key group of the row. Restoring at another number of lanes keeps the
/// rows of a lane's own key groups.
pub const KEY_GROUP_COLUMN: &str = "key_group";

/// A part of an operator's state that is written, merged and dropped as one: a window slice, a sorted run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SlotId(pub String);

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What happened to a slot since the last snapshot.
#[derive(Clone, Debug)]
pub enum SlotChange {
    /// The slot is exactly these rows.
    Replace(RecordBatch),
    /// These rows are added to what was there; what "added" means (append, or last row of a key wins) is the operator's.
    Merge(RecordBatch),
    /// The slot is gone.
    Drop,
}

/// The changes of one operator in one lane and epoch, in the order in which they apply.
#[derive(Clone, Debug, Default)]
pub struct StateDelta {
    pub changes: Vec<(SlotId, SlotChange)>,
}

impl StateDelta {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// A slot given back to an operator: the last `Replace` and the `Merge`s after it, in order, reduced to the lane's key
/// groups. Slots written by several lanes come as several parts, in lane order.
#[derive(Clone, Debug)]
pub struct StatePart {
    pub slot: SlotId,
    pub batches: Vec<RecordBatch>,
}

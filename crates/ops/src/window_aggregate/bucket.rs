//! The unit of window state.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use thalweg_core::{Error, Result};
use thalweg_state::{SlotChange, SlotId, StatePart};

use super::group_table::GroupTable;
use super::layout::WindowAggregateLayout;
use crate::GroupKeys;

/// Slots with fewer groups are always written whole.
const SMALL_GROUPS: usize = 1_024;

/// Names a bucket: the end of its slice and the end of the first window that its rows count in, in local milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct BucketId {
    pub(super) slice_end: i64,
    pub(super) eligible_from: i64,
}

impl BucketId {
    /// The name of the bucket's slot in a checkpoint.
    pub(super) fn slot(self) -> SlotId {
        SlotId(format!("{}/{}", self.slice_end, self.eligible_from))
    }

    /// # Errors
    /// `Corrupt` when the slot is no bucket's.
    pub(super) fn from_slot(slot: &SlotId) -> Result<Self> {
        slot.0
            .split_once('/')
            .and_then(|(slice_end, eligible_from)| {
                Some(BucketId { slice_end: slice_end.parse().ok()?, eligible_from: eligible_from.parse().ok()? })
            })
            .ok_or_else(|| Error::corrupt(format!("window state has a slot \"{slot}\"")))
    }
}

/// The groups of one slice that count in the same windows.
///
/// Invariant: `next_end` is the end of the next window to fire that holds the bucket. Until it leaves `eligible_from` the
/// bucket takes rows; from then on it does not change any more.
pub(super) struct Bucket {
    pub(super) table: GroupTable,
    pub(super) next_end: i64,
    /// Whether the store has the slot as of the last snapshot.
    is_stored: bool,
    /// Rows written by merges since the slot was last written whole.
    merged_rows: usize,
}

impl Bucket {
    pub(super) fn new(layout: &WindowAggregateLayout, next_end: i64) -> Result<Self> {
        Ok(Bucket { table: GroupTable::new(layout)?, next_end, is_stored: false, merged_rows: 0 })
    }

    pub(super) fn is_stored(&self) -> bool {
        self.is_stored
    }

    /// The next snapshot is to write the slot whole.
    pub(super) fn forget_stored(&mut self) {
        self.is_stored = false;
    }

    /// What changed since the last snapshot. Only the changed groups are written where that saves something; all merges
    /// together never write more rows than the slot has.
    pub(super) fn snapshot(&mut self, layout: &WindowAggregateLayout) -> Result<Option<SlotChange>> {
        let (groups, dirty) = (self.table.len(), self.table.dirty().len());
        let change = if !self.is_stored || (dirty > 0 && (groups < SMALL_GROUPS || self.merged_rows + dirty > groups)) {
            self.merged_rows = 0;
            Some(SlotChange::Replace(layout.state_batch(self.table.columns(None)?)?))
        } else if dirty > 0 {
            self.merged_rows += dirty;
            Some(SlotChange::Merge(layout.state_batch(self.table.columns(Some(self.table.dirty()))?)?))
        } else {
            None
        };
        self.is_stored = true;
        self.table.mark_clean();
        Ok(change)
    }

    /// Takes in a stored part: of each key the last row holds.
    pub(super) fn restore(&mut self, layout: &WindowAggregateLayout, part: &StatePart) -> Result<()> {
        for batch in &part.batches {
            layout.groups_of_state(batch)?;
        }
        let Some(first) = part.batches.first() else {
            return Ok(());
        };
        let all = concat_batches(first.schema_ref(), &part.batches)?;
        let last = if part.batches.len() == 1 { all } else { last_of_each_key(layout, &all)? };
        self.table.merge(&layout.groups_of_state(&last)?)?;
        self.table.mark_clean();
        self.is_stored = true;
        Ok(())
    }
}

/// The last row of each key, in order of the keys' first rows.
fn last_of_each_key(layout: &WindowAggregateLayout, rows: &RecordBatch) -> Result<RecordBatch> {
    let mut keys = GroupKeys::new(&layout.key_fields)?;
    let mut groups = vec![];
    keys.intern(&layout.groups_of_state(rows)?.keys, rows.num_rows(), &mut groups)?;
    let mut last_row = vec![0_u32; keys.len()];
    for (row, group) in (0_u32..).zip(&groups) {
        last_row[*group] = row;
    }
    Ok(take_record_batch(rows, &UInt32Array::from(last_row))?)
}

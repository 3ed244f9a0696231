//! A slot with a row per thing that is kept: written whole at first, then by what changed.

use arrow::array::RecordBatch;
use thalweg_state::{SlotChange, SlotId, StateDelta, StatePart};

/// A slot with fewer rows is written whole, as it costs less than a list of changes. Tests have few rows.
const SMALL: usize = if cfg!(test) { 2 } else { 1_024 };
/// Unless it had more bytes.
const SMALL_BYTES: usize = 1 << 20;
/// So many changes behind one another are enough: each is an entry of the checkpoint's list, and is read at a restore.
const MERGES_MAX: usize = 200;

/// What is asked for to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// All that is there.
    Whole,
    /// What changed since the last snapshot, and what is gone.
    Changes,
}

pub(crate) struct MergedSlot {
    id: SlotId,
    is_stored: bool,
    /// Rows in the store, those included that later ones replace.
    stored_rows: usize,
    /// Bytes of that, in memory.
    stored_bytes: usize,
    /// Changes written since it was written whole.
    merges: usize,
}

impl MergedSlot {
    pub(crate) fn new(id: SlotId) -> Self {
        MergedSlot { id, is_stored: false, stored_rows: 0, stored_bytes: 0, merges: 0 }
    }

    pub(crate) fn id(&self) -> &SlotId {
        &self.id
    }

    /// The slot, if the store has it: it is to be dropped when what it holds goes as a whole.
    pub(crate) fn stored(&self) -> Option<SlotId> {
        self.is_stored.then(|| self.id.clone())
    }

    /// What a snapshot is to [put](MergedSlot::put) when `live` rows are there, of which `changed` (and such as are gone) differ from
    /// what is stored; drops the slot when nothing is there. So all snapshots together cost about as much as all changes, and the
    /// store holds at most about twice what is there.
    pub(crate) fn due(&mut self, live: usize, changed: usize, delta: &mut StateDelta) -> Option<Part> {
        match (live, changed) {
            (0, _) => {
                delta.changes.extend(self.stored().map(|slot| (slot, SlotChange::Drop)));
                self.forget_stored();
                None
            }
            _ if !self.is_stored || self.is_long(live, changed) => Some(Part::Whole),
            (_, 0) => None,
            _ if live < SMALL && self.stored_bytes < SMALL_BYTES => Some(Part::Whole),
            _ => Some(Part::Changes),
        }
    }

    fn is_long(&self, live: usize, changed: usize) -> bool {
        self.stored_rows + changed > 2 * live + SMALL || self.merges >= MERGES_MAX
    }

    /// Writes the part, which may be cut into several batches.
    pub(crate) fn put(&mut self, part: Part, batches: Vec<RecordBatch>, delta: &mut StateDelta) {
        if part == Part::Whole {
            self.forget_stored();
        }
        for rows in batches.into_iter().filter(|rows| rows.num_rows() > 0) {
            self.stored_rows += rows.num_rows();
            self.stored_bytes += rows.get_array_memory_size();
            let change = if self.is_stored { SlotChange::Merge(rows) } else { SlotChange::Replace(rows) };
            self.merges += usize::from(self.is_stored && part == Part::Changes);
            self.is_stored = true;
            delta.changes.push((self.id.clone(), change));
        }
    }

    /// Takes note of a part that was read back.
    pub(crate) fn restored(&mut self, part: &StatePart) {
        let rows: usize = part.batches.iter().map(RecordBatch::num_rows).sum();
        self.is_stored |= rows > 0;
        self.stored_rows += rows;
        self.stored_bytes += part.batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
        self.merges += part.batches.len().saturating_sub(1);
    }

    /// The store has nothing of it any more: the next snapshot is whole.
    pub(crate) fn forget_stored(&mut self) {
        *self = MergedSlot::new(self.id.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn rows(count: usize) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count as i64));
        RecordBatch::try_from_iter([("number", numbers)]).unwrap()
    }

    /// What a snapshot writes: `whole 5`, `changes 2`, `drop`, or nothing.
    fn check(slot: &mut MergedSlot, live: usize, changed: usize, expected: &str) {
        let mut delta = StateDelta::default();
        if let Some(part) = slot.due(live, changed, &mut delta) {
            slot.put(part, vec![rows(if part == Part::Whole { live } else { changed })], &mut delta);
        }
        let written = delta.changes.first().map_or("nothing".to_string(), |(_, change)| match change {
            SlotChange::Replace(rows) => format!("whole {}", rows.num_rows()),
            SlotChange::Merge(rows) => format!("changes {}", rows.num_rows()),
            SlotChange::Drop => "drop".to_string(),
        });
        assert_eq!(written, expected);
    }

    #[test]
    fn changes_are_merged_until_they_are_as_many_as_what_is_there() {
        let slot = &mut MergedSlot::new(SlotId("slot".to_string()));
        check(slot, 0, 0, "nothing");
        check(slot, 1, 1, "whole 1");
        check(slot, 1, 0, "nothing");
        check(slot, 1, 1, "whole 1");
        check(slot, 2_000, 1_999, "changes 1999");
        check(slot, 2_000, 1_500, "changes 1500");
        check(slot, 2_000, 500, "changes 500");
        check(slot, 2_000, 100, "whole 2000");
        check(slot, 0, 2_000, "drop");
        check(slot, 0, 0, "nothing");
    }

    #[test]
    fn what_went_without_a_word_makes_it_be_written_anew() {
        let slot = &mut MergedSlot::new(SlotId("slot".to_string()));
        check(slot, 10_000, 10_000, "whole 10000");
        check(slot, 4_000, 0, "whole 4000");
        check(slot, 0, 0, "drop");
    }

    #[test]
    fn a_part_may_be_cut() {
        let slot = &mut MergedSlot::new(SlotId("slot".to_string()));
        let mut delta = StateDelta::default();
        assert_eq!(slot.due(5, 5, &mut delta), Some(Part::Whole));
        slot.put(Part::Whole, vec![rows(3), rows(2)], &mut delta);
        assert!(matches!(delta.changes.as_slice(), [(_, SlotChange::Replace(_)), (_, SlotChange::Merge(_))]));
        assert_eq!(slot.due(5, 1, &mut delta), Some(Part::Changes));
    }

    #[test]
    fn growth_does_not_make_the_list_of_changes_endless() {
        let slot = &mut MergedSlot::new(SlotId("slot".to_string()));
        check(slot, 10_000, 10_000, "whole 10000");
        (1..=MERGES_MAX).for_each(|more| check(slot, 10_000 + more, 1, "changes 1"));
        check(slot, 12_000, 1, "whole 12000");
        assert_eq!(slot.merges, 0);
    }
}

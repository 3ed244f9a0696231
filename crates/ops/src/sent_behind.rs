//! How late the rows are that an operator takes back.
//!
//! Both halves of a change come when the row comes that causes it, so both carry its watermark: the old row may be late for its
//! window by then. The rows of a key may come from several partitions, a later one with a smaller watermark; but no row may be
//! late when it comes and on time when it is taken back. So what is taken back carries no less than the greatest watermark that
//! has caused a change of its key.
//!
//! State: a slot `sent-behind` with `[key_group, keys…, any: 1, watermark]`; none where rows carry no watermarks.

use arrow::datatypes::FieldRef;
use thalweg_core::{Batch, Result};
use thalweg_state::{SlotId, StateDelta, StatePart};

use crate::changes::CameBehind;
use crate::keyed_table::KeyedTable;

pub(crate) struct SentBehind {
    /// Of each key whether there is one, and the greatest.
    watermarks: KeyedTable<2>,
}

impl SentBehind {
    /// # Errors
    /// `User` for keys that cannot be compared.
    pub(crate) fn new(keys: &[FieldRef]) -> Result<Self> {
        Ok(SentBehind { watermarks: KeyedTable::new("sent-behind", keys, ["any", "watermark"])? })
    }

    /// What changes carry that row `row` of `batch` causes to its key; `None` where rows carry nothing.
    pub(crate) fn cause(&self, batch: &Batch, row: usize, key: &[u8]) -> Option<CameBehind> {
        let own = CameBehind::row(batch, row)?;
        let [any, greatest] = self.watermarks.get(key);
        Some(if any == 0 { own } else { CameBehind { taken_back: own.taken_back.max(greatest), ..own } })
    }

    /// To be called for every cause that changed something.
    pub(crate) fn note(&mut self, cause: Option<CameBehind>, key: &[u8]) {
        if let Some(cause) = cause {
            let greatest = [1, cause.taken_back];
            if self.watermarks.get(key) != greatest {
                self.watermarks.set(key, greatest);
            }
        }
    }

    /// No row of the key is left that could be taken back.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        if self.watermarks.get(key) != [0; 2] {
            self.watermarks.set(key, [0; 2]);
        }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.watermarks.size_bytes()
    }

    pub(crate) fn snapshot(&mut self, delta: &mut StateDelta) -> Result<()> {
        self.watermarks.snapshot(delta)
    }

    /// Takes in its own among the parts and gives the others.
    /// # Errors
    /// `Corrupt` when a part does not have the expected columns.
    pub(crate) fn restore(&mut self, parts: Vec<StatePart>) -> Result<Vec<StatePart>> {
        let (own, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| self.owns(&part.slot));
        self.watermarks.restore(&own)?;
        Ok(others)
    }

    fn owns(&self, slot: &SlotId) -> bool {
        self.watermarks.owns(slot)
    }

    pub(crate) fn mark_all_dirty(&mut self) {
        self.watermarks.mark_all_dirty();
    }
}

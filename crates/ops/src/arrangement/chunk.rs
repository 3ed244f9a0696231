//! A piece of an arrangement: rows in columns, in order of arrival.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use thalweg_core::Result;
use thalweg_state::SlotId;

use super::RowId;

pub(super) struct Chunk {
    pub(super) slot: SlotId,
    pub(super) rows: RecordBatch,
    /// Ascending.
    ids: Vec<RowId>,
    /// 0: the row is gone.
    pub(super) weights: Vec<i64>,
    live: usize,
    is_stored: bool,
    /// Rows whose weight changed since the chunk was stored.
    changed: Vec<u32>,
    /// Rows that the store has more than once, about: those that were merged into the slot since it was written whole.
    merged_rows: usize,
    bytes: usize,
}

/// What of a chunk the store does not have.
pub(super) enum Unstored {
    /// The chunk; these are its rows.
    All(Vec<u32>),
    /// New weights of these rows.
    Rows(Vec<u32>),
}

/// One batch of a stored chunk.
pub(super) struct StoredRows {
    pub(super) ids: Vec<RowId>,
    pub(super) weights: Vec<i64>,
    pub(super) rows: RecordBatch,
}

impl Chunk {
    pub(super) fn new(slot: SlotId, rows: RecordBatch, ids: Vec<RowId>, weights: Vec<i64>) -> Self {
        let live = weights.iter().filter(|weight| **weight != 0).count();
        let bytes = rows.get_array_memory_size() + ids.len() * 16;
        Chunk { slot, rows, ids, weights, live, is_stored: false, changed: vec![], merged_rows: 0, bytes }
    }

    pub(super) fn first(&self) -> RowId {
        self.ids[0]
    }

    pub(super) fn last(&self) -> RowId {
        self.ids[self.ids.len() - 1]
    }

    pub(super) fn id(&self, row: usize) -> RowId {
        self.ids[row]
    }

    /// # Panics
    /// If the row is not in this chunk: ids come from the indexes, which hold only rows that are there.
    pub(super) fn position(&self, id: RowId) -> usize {
        self.find(id).expect("an indexed row is in its chunk")
    }

    pub(super) fn find(&self, id: RowId) -> Option<usize> {
        // Rows that are all there are numbered without gaps.
        let guess = usize::try_from(id.checked_sub(self.ids[0])?).ok()?;
        if self.ids.get(guess) == Some(&id) {
            return Some(guess);
        }
        self.ids.binary_search(&id).ok()
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn live_rows(&self) -> Vec<u32> {
        (0_u32..).zip(&self.weights).filter(|(_, weight)| **weight != 0).map(|(row, _)| row).collect()
    }

    pub(super) fn set_weight(&mut self, row: usize, weight: i64) {
        let before = std::mem::replace(&mut self.weights[row], weight);
        if before == 0 && weight != 0 {
            self.live += 1;
        } else if before != 0 && weight == 0 {
            self.live -= 1;
        }
        if self.is_stored {
            self.changed.push(row as u32);
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// The rows of neighbouring chunks that are there; `None` when there are none.
    pub(super) fn merged(slot: SlotId, chunks: &[&Chunk]) -> Result<Option<Chunk>> {
        let mut pieces = vec![];
        let (mut ids, mut weights) = (vec![], vec![]);
        for chunk in chunks {
            let live = chunk.live_rows();
            ids.extend(live.iter().map(|row| chunk.ids[*row as usize]));
            weights.extend(live.iter().map(|row| chunk.weights[*row as usize]));
            pieces.push(if live.len() == chunk.len() {
                chunk.rows.clone()
            } else {
                take_record_batch(&chunk.rows, &UInt32Array::from(live))?
            });
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let rows = concat_batches(&chunks[0].rows.schema(), &pieces)?;
        Ok(Some(Chunk::new(slot, rows, ids, weights)))
    }

    /// A chunk from its stored batches: of one row the last entry holds. `None` when no row is left.
    pub(super) fn restored(slot: SlotId, schema: &SchemaRef, pieces: &[StoredRows]) -> Result<Option<Chunk>> {
        let rows = concat_batches(schema, pieces.iter().map(|piece| &piece.rows))?;
        let ids = pieces.iter().flat_map(|piece| &piece.ids).copied();
        let weights: Vec<i64> = pieces.iter().flat_map(|piece| &piece.weights).copied().collect();
        let mut order: Vec<(RowId, u32)> = ids.zip(0_u32..).collect();
        // Entries of one row stay in the order in which they were written.
        order.sort_unstable();
        let newest: Vec<(RowId, u32)> = order
            .iter()
            .zip(order.iter().skip(1).map(Some).chain([None]))
            .filter(|((id, entry), next)| next.is_none_or(|(next, _)| next != id) && weights[*entry as usize] != 0)
            .map(|(newest, _)| *newest)
            .collect();
        if newest.is_empty() {
            return Ok(None);
        }
        let entries: Vec<u32> = newest.iter().map(|(_, entry)| *entry).collect();
        let weights = entries.iter().map(|entry| weights[*entry as usize]).collect();
        let merged_rows = rows.num_rows() - entries.len();
        let rows = take_record_batch(&rows, &UInt32Array::from(entries))?;
        let chunk = Chunk::new(slot, rows, newest.into_iter().map(|(id, _)| id).collect(), weights);
        Ok(Some(Chunk { is_stored: true, merged_rows, ..chunk }))
    }

    /// The rows of chunks of several lanes under new ids, in the order of the old ones: a key's rows came from one lane.
    pub(super) fn renumbered(chunks: &[Chunk], rows: usize, slot: &mut dyn FnMut() -> SlotId) -> Result<Vec<Chunk>> {
        let mut order: Vec<(RowId, usize, usize)> = vec![];
        for (number, chunk) in chunks.iter().enumerate() {
            order.extend(chunk.ids.iter().enumerate().map(|(row, id)| (*id, number, row)));
        }
        order.sort_unstable();
        let batches: Vec<&RecordBatch> = chunks.iter().map(|chunk| &chunk.rows).collect();
        let mut renumbered = vec![];
        let mut next = 0;
        for piece in order.chunks(rows) {
            let places: Vec<(usize, usize)> = piece.iter().map(|(_, chunk, row)| (*chunk, *row)).collect();
            let rows = arrow::compute::interleave_record_batch(&batches, &places)?;
            let weights = places.iter().map(|(chunk, row)| chunks[*chunk].weights[*row]).collect();
            let ids = (next..next + piece.len() as u64).collect();
            next += piece.len() as u64;
            renumbered.push(Chunk::new(slot(), rows, ids, weights));
        }
        Ok(renumbered)
    }

    pub(super) fn stored_slot(&self) -> Option<SlotId> {
        self.is_stored.then(|| self.slot.clone())
    }

    pub(super) fn unstored(&self) -> Option<Unstored> {
        if !self.is_stored {
            return Some(Unstored::All(self.live_rows()));
        }
        if self.changed.is_empty() {
            return None;
        }
        let mut rows = self.changed.clone();
        rows.sort_unstable();
        rows.dedup();
        Some(if (self.merged_rows + rows.len()) * 2 > self.live { Unstored::All(self.live_rows()) } else { Unstored::Rows(rows) })
    }

    /// The store has all of the chunk now; `merged_rows` rows were merged into the slot, none if it was written whole.
    pub(super) fn set_stored(&mut self, merged_rows: usize) {
        self.is_stored = true;
        self.changed.clear();
        self.merged_rows = if merged_rows == 0 { 0 } else { self.merged_rows + merged_rows };
    }

    /// The chunk is to be written whole, to this slot.
    pub(super) fn set_unstored(&mut self, slot: SlotId) {
        self.slot = slot;
        self.is_stored = false;
        self.changed.clear();
    }
}

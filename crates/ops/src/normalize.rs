//! Makes weights of upserts: "the last row of a key holds" becomes "this row goes, that row comes".
//!
//! Ordering: output follows input. An upsert of a new key gives the row; of a known key the old row, then the new one (an
//! update), or nothing when they are equal; a deletion gives the old row taken back, or nothing for an unknown key.
//!
//! Late rows: there are none, time plays no part. Watermarks pass through.
//!
//! State: an [`Arrangement`] `rows` with the row of each key. A row goes when its key is deleted.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, EventTime, Result};
use thalweg_plan::Normalize;
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::{CameBehind, Changes, without_zeros};
use crate::row_hash::{RowHash, RowHasher};
use crate::{Operator, OperatorMetrics, Output};

pub(crate) struct NormalizeOperator {
    rows: Arrangement,
    /// To see which upserts change nothing.
    hasher: RowHasher,
    width: usize,
    input_schema: SchemaRef,
    output_schema: SchemaRef,
}

/// What one batch does to a key.
struct Key {
    /// A row of the batch with this key.
    row: usize,
    /// The kept row, as it was before the batch.
    stored: Option<RowId>,
    before: Option<Held>,
    now: Option<Held>,
}

/// The row of a key. Of the two sources of rows, 0 are those that were kept, 1 those of the batch.
#[derive(Clone, Copy)]
struct Held {
    place: (usize, usize),
    hash: RowHash,
}

impl NormalizeOperator {
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(node: &Normalize, input: &SchemaRef, output: SchemaRef) -> Result<Self> {
        Ok(NormalizeOperator {
            rows: Arrangement::new("rows", input, &node.keys, false)?,
            hasher: RowHasher::new(input)?,
            width: input.fields().len(),
            input_schema: input.clone(),
            output_schema: output,
        })
    }

    /// The kept rows of these ids as a batch.
    fn kept(&self, ids: &[Option<RowId>]) -> Result<arrow::array::RecordBatch> {
        let columns = self.rows.gather(ids, &(0..self.width).collect::<Vec<_>>())?;
        Ok(arrow::array::RecordBatch::try_new(self.input_schema.clone(), columns)?)
    }

    /// Brings the arrangement to where the batch leaves its keys.
    fn settle(&mut self, batch: &Batch, keys: &[Key]) -> Result<()> {
        let encoded = self.rows.keys_of(&batch.rows)?;
        let mut added = vec![];
        for key in keys {
            if key.before.map(|held| held.hash) == key.now.map(|held| held.hash) {
                continue;
            }
            if let Some(id) = key.stored {
                self.rows.remove(id, encoded.key(key.row));
            }
            added.extend(key.now.map(|held| held.place.1 as u32));
        }
        let added = Batch::append(batch.take(&UInt32Array::from(added))?.rows);
        let added_keys = self.rows.keys_of(&added.rows)?;
        self.rows.apply(&added, &added_keys)?;
        self.rows.tidy()
    }
}

impl Operator for NormalizeOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = without_zeros(batch)?;
        let encoded = self.rows.keys_of(&batch.rows)?;
        let hashes = self.hasher.hashes(&batch.rows)?;
        let mut keys: Vec<Key> = vec![];
        let mut numbers: HashMap<&[u8], usize> = HashMap::new();
        let mut key_of_row = Vec::with_capacity(batch.num_rows());
        let mut stored = vec![];
        for row in 0..batch.num_rows() {
            let number = *numbers.entry(encoded.key(row)).or_insert_with(|| {
                let id = self.rows.of_key(encoded.key(row)).last().copied();
                stored.extend(id.map(Some));
                keys.push(Key { row, stored: id, before: None, now: None });
                keys.len() - 1
            });
            key_of_row.push(number);
        }
        let kept = self.kept(&stored)?;
        let kept_rows = self.hasher.hashes(&kept)?.into_iter().enumerate();
        for (key, (row, hash)) in keys.iter_mut().filter(|key| key.stored.is_some()).zip(kept_rows) {
            key.before = Some(Held { place: (0, row), hash });
            key.now = key.before;
        }
        let (mut places, mut changes) = (vec![], Changes::caused_by(&batch));
        for (row, number) in key_of_row.into_iter().enumerate() {
            let key = &mut keys[number];
            let new = (batch.weight(row) > 0).then(|| Held { place: (1, row), hash: hashes[row] });
            if new.map(|held| held.hash) == key.now.map(|held| held.hash) {
                continue;
            }
            let is_update = new.is_some() && key.now.is_some();
            // Upserts of a key come by one partition, so the old row was no later than this one.
            changes.set_cause(CameBehind::row(&batch, row));
            for (held, weight) in [(key.now, -1), (new, 1)] {
                if let Some(held) = held {
                    places.push(held.place);
                    changes.push(weight, is_update);
                }
            }
            key.now = new;
        }
        if !places.is_empty() {
            let columns = kept.columns().iter().zip(batch.rows.columns());
            let columns: Vec<ArrayRef> = columns
                .map(|(kept, new)| Ok(interleave(&[kept.as_ref() as &dyn Array, new.as_ref()], &places)?))
                .collect::<Result<_>>()?;
            out.push(changes.into_batch(&self.output_schema, columns)?);
        }
        self.settle(&batch, &keys)
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn forget(&mut self, key: &[u8]) -> Result<()> {
        self.rows.remove_key(key)?;
        self.rows.tidy()
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.rows.restore(&parts)
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: 0,
            unmatched_rows: 0,
            state_bytes: self.rows.size_bytes() as u64,
            state_rows: self.rows.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests;

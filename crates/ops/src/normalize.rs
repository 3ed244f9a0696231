//! Makes weights of upserts: "the last row of a key holds" becomes "this row goes, that row comes".
//!
//! Ordering: output follows input. An upsert of a new key gives the row; of a known key the old row, then the new one (an
//! update), or nothing when they are equal; a deletion gives the old row taken back, or nothing for an unknown key.
//!
//! Late rows: there are none, time plays no part. Watermarks pass through.
//!
//! State: an [`Arrangement`] `rows` with the row of each key. A row goes when its key is deleted.

use arrow::array::BooleanArray;
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, EventTime, Result};
use thalweg_plan::Normalize;
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::{Changes, without_zeros};
use crate::key_codec::KeyCodec;
use crate::running::canonical_floats;
use crate::{Operator, OperatorMetrics, Output};

pub(crate) struct NormalizeOperator {
    rows: Arrangement,
    /// Whole rows as bytes, to see which upserts change nothing.
    whole: KeyCodec,
    width: usize,
    output_schema: SchemaRef,
}

impl NormalizeOperator {
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(node: &Normalize, input: &SchemaRef, output: SchemaRef) -> Result<Self> {
        let fields: Vec<_> = input.fields().iter().cloned().collect();
        Ok(NormalizeOperator {
            rows: Arrangement::new("rows", input, &node.keys, false)?,
            whole: KeyCodec::new(&fields)?,
            width: fields.len(),
            output_schema: output,
        })
    }

    fn is_same(&self, id: RowId, encoded: &[u8]) -> Result<bool> {
        let columns: Vec<usize> = (0..self.width).collect();
        let kept: Vec<_> = self.rows.gather(&[Some(id)], &columns)?.iter().map(canonical_floats).collect();
        Ok(self.whole.encode(&kept, 1)?.key(0) == encoded)
    }
}

impl Operator for NormalizeOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = without_zeros(batch)?;
        let keys = self.rows.keys_of(&batch.rows)?;
        let columns: Vec<_> = batch.rows.columns().iter().map(canonical_floats).collect();
        let whole = self.whole.encode(&columns, batch.num_rows())?;
        let is_upsert: BooleanArray = (0..batch.num_rows()).map(|row| Some(batch.weight(row) > 0)).collect();
        let upserts = Batch::append(batch.filter(&is_upsert)?.rows);
        let upsert_keys = self.rows.keys_of(&upserts.rows)?;
        // All new rows are there first, so that each can be sent when its turn comes; those of one key follow each other.
        let before: Vec<Option<RowId>> =
            (0..batch.num_rows()).map(|row| self.rows.of_key(keys.key(row)).last().copied()).collect();
        let mut new_ids = self.rows.apply(&upserts, &upsert_keys)?.into_iter();
        let mut current: hashbrown::HashMap<&[u8], Option<RowId>> = hashbrown::HashMap::new();
        let (mut ids, mut changes) = (vec![], Changes::default());
        for row in 0..batch.num_rows() {
            let key = keys.key(row);
            let old = *current.entry(key).or_insert(before[row]);
            let new = if is_upsert.value(row) { new_ids.next() } else { None };
            let held = match (old, new) {
                (Some(old), Some(new)) if self.is_same(old, whole.key(row))? => {
                    self.rows.remove(new, key);
                    Some(old)
                }
                (old, new) => {
                    if let Some(old) = old {
                        ids.push(Some(old));
                        changes.push(-1, new.is_some());
                        self.rows.remove(old, key);
                    }
                    if let Some(new) = new {
                        ids.push(Some(new));
                        changes.push(1, old.is_some());
                    }
                    new
                }
            };
            current.insert(key, held);
        }
        let columns = self.rows.gather(&ids, &(0..self.width).collect::<Vec<_>>())?;
        out.push(changes.into_batch(&self.output_schema, columns)?);
        self.rows.tidy()
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
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
        OperatorMetrics { late_rows: 0, state_bytes: self.rows.size_bytes() as u64, state_rows: self.rows.len() as u64 }
    }
}

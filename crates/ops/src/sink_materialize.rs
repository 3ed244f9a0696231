//! One row for each primary key of a sink, where the query's own key is another.
//!
//! The rows of each key are kept in order of arrival. Of them one is shown: the last (DEDUPLICATE), or the first (NOTHING, ERROR).
//! Output: the change of the shown row, behind each input row that changes it; nothing where the new one equals the old. A row
//! taken back is removed where it stands, of equal ones the first, as in Flink.
//!
//! ERROR: a key that has several rows at a barrier, or when the input ends, fails the job before they are committed. In between it
//! may have them for a moment: rows of one change may come from several lanes.
//!
//! Late rows: there are none, time plays no part. Watermarks pass through.
//!
//! State: an [`Arrangement`] `rows` with all rows. A row goes when it is taken back.

use std::collections::BTreeSet;

use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{Conflict, SinkMaterialize};
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::{Changes, repeated};
use crate::eval::value_text;
use crate::row_hash::{RowHash, RowHasher};
use crate::unmatched::Unmatched;
use crate::{Operator, OperatorMetrics, Output};

pub(crate) struct SinkMaterializeOperator {
    keys: Vec<usize>,
    conflict: Conflict,
    rows: Arrangement,
    unmatched: Unmatched,
    hasher: RowHasher,
    /// The rows of each key, in order of arrival.
    rows_of_key: HashMap<Box<[u8]>, Vec<Entry>>,
    /// Keys with several rows; kept for ERROR only.
    conflicts: BTreeSet<Box<[u8]>>,
    width: usize,
    output_schema: SchemaRef,
}

#[derive(Clone, Copy)]
struct Entry {
    id: RowId,
    hash: RowHash,
}

impl SinkMaterializeOperator {
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(node: &SinkMaterialize, input: &SchemaRef, output: SchemaRef) -> Result<Self> {
        Ok(SinkMaterializeOperator {
            keys: node.keys.clone(),
            conflict: node.conflict,
            rows: Arrangement::unindexed("rows", input, &node.keys)?,
            unmatched: Unmatched::default(),
            hasher: RowHasher::new(input)?,
            rows_of_key: HashMap::new(),
            conflicts: BTreeSet::new(),
            width: input.fields().len(),
            output_schema: output,
        })
    }

    fn shown(&self, rows: &[Entry]) -> Option<Entry> {
        match self.conflict {
            Conflict::Deduplicate => rows.last().copied(),
            Conflict::Nothing | Conflict::Error => rows.first().copied(),
        }
    }

    fn note_conflict(&mut self, key: &[u8], rows: usize) {
        if self.conflict != Conflict::Error {
            return;
        }
        if rows > 1 {
            self.conflicts.insert(key.into());
        } else if !self.conflicts.is_empty() {
            self.conflicts.remove(key);
        }
    }

    /// # Errors
    /// `Record` when a key has several rows and they are an error.
    fn check_conflicts(&self) -> Result<()> {
        let Some(rows) = self.conflicts.first().and_then(|key| self.rows_of_key.get(key)) else {
            return Ok(());
        };
        let ids: Vec<Option<RowId>> = rows.iter().take(1).map(|row| Some(row.id)).collect();
        let columns = self.rows.gather(&ids, &self.keys)?;
        let names = self.keys.iter().map(|key| self.output_schema.field(*key).name());
        let values: Vec<String> =
            names.zip(&columns).map(|(name, column)| format!("{name} = {}", value_text(column, 0))).collect();
        Err(Error::record(format!("{} rows have the primary key {}", rows.len(), values.join(", ")))
            .with_help("ON CONFLICT DO DEDUPLICATE keeps the last of them, DO NOTHING the first"))
    }
}

impl Operator for SinkMaterializeOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = repeated(batch)?;
        let keys = self.rows.keys_of(&batch.rows)?;
        let hashes = self.hasher.hashes(&batch.rows)?;
        let is_added = (0..batch.num_rows()).map(|row| Some(batch.weight(row) > 0)).collect();
        let added = batch.filter(&is_added)?;
        let added_keys = self.rows.keys_of(&added.rows)?;
        let mut added = self.rows.apply(&Batch::append(added.rows), &added_keys)?.into_iter();
        let (mut ids, mut changes, mut gone) = (vec![], Changes::default(), vec![]);
        for (row, hash) in hashes.into_iter().enumerate() {
            let key = keys.key(row);
            let mut rows = self.rows_of_key.remove(key).unwrap_or_default();
            let before = self.shown(&rows);
            if let Some(id) = if batch.weight(row) > 0 { added.next() } else { None } {
                rows.push(Entry { id, hash });
            } else {
                let position = rows.iter().position(|row| row.hash == hash);
                match position {
                    Some(position) => gone.push(rows.remove(position).id),
                    None => self.unmatched.note(|| self.rows.not_there(&batch, row))?,
                }
            }
            let after = self.shown(&rows);
            self.note_conflict(key, rows.len());
            if !rows.is_empty() {
                self.rows_of_key.insert(key.into(), rows);
            }
            if before.map(|row| row.hash) == after.map(|row| row.hash) {
                continue;
            }
            let is_update = before.is_some() && after.is_some();
            for (shown, weight) in [(before, -1), (after, 1)] {
                if let Some(shown) = shown {
                    ids.push(Some(shown.id));
                    changes.push(weight, is_update);
                }
            }
        }
        let columns = self.rows.gather(&ids, &(0..self.width).collect::<Vec<_>>())?;
        out.push(changes.into_batch(&self.output_schema, columns)?);
        gone.into_iter().for_each(|id| self.rows.remove(id, &[]));
        self.rows.tidy()
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn on_end(&mut self, _port: usize, _out: &mut Output) -> Result<()> {
        self.check_conflicts()
    }

    fn ignore_unmatched(&mut self) {
        self.unmatched.ignore();
    }

    fn forget(&mut self, key: &[u8]) -> Result<()> {
        for row in self.rows_of_key.remove(key).unwrap_or_default() {
            self.rows.remove(row.id, &[]);
        }
        self.conflicts.remove(key);
        self.rows.tidy()
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        self.check_conflicts()?;
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.rows.restore(&parts)?;
        for (rows, ids) in self.rows.live_chunks()? {
            let keys = self.rows.keys_of(&rows)?;
            for ((row, id), hash) in ids.into_iter().enumerate().zip(self.hasher.hashes(&rows)?) {
                let entries = self.rows_of_key.entry_ref(keys.key(row)).or_default();
                entries.push(Entry { id, hash });
                let count = entries.len();
                self.note_conflict(keys.key(row), count);
            }
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        let entries = self.rows.len() * (size_of::<Entry>() + 48);
        OperatorMetrics {
            late_rows: 0,
            unmatched_rows: self.unmatched.rows(),
            state_bytes: (self.rows.size_bytes() + entries) as u64,
            state_rows: self.rows.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests;

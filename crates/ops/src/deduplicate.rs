//! One row for each key, by event time or by arrival.
//!
//! | keep | by | when | kinds |
//! |---|---|---|---|
//! | first | arrival | at once | rows are added |
//! | first | event time | when the watermark reaches the earliest row; of equal times the one that came first | rows are added |
//! | last | arrival | at once | a row replaces the one before |
//! | last | event time | at once; a row replaces another whose time is not greater | a row replaces the one before |
//!
//! Late rows: for "first by event time" a row behind its partition's watermark is dropped and counted, even of a key never seen.
//! The others drop none. Rows whose turn comes with one watermark are sent in order of time.
//!
//! State: an [`Arrangement`] `rows` with the row of each key ("last"), or the rows that wait ("first by event time"); a table
//! `done` of the keys whose first row was sent. It grows with the keys and is never dropped. For "last" see also [`SentBehind`].

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, EventTime, Result};
use thalweg_plan::{Deduplicate, Keep};
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::{Changes, append_only};
use crate::event_times::event_times;
use crate::key_codec::EncodedKeys;
use crate::keyed_table::KeyedTable;
use crate::running::canonical_floats;
use crate::sent_behind::SentBehind;
use crate::{Operator, OperatorMetrics, Output};

pub(crate) struct DeduplicateOperator {
    node: Deduplicate,
    rows: Arrangement,
    /// The row of a key that is shown or waits, with its time.
    current: HashMap<Box<[u8]>, (i64, RowId)>,
    /// Rows that wait, by time.
    waiting: BTreeSet<(i64, RowId)>,
    done: KeyedTable<1>,
    sent_behind: SentBehind,
    late_rows: u64,
    width: usize,
    time_name: String,
    output_schema: SchemaRef,
    batch_rows: usize,
}

impl DeduplicateOperator {
    /// # Errors
    /// `User` for keys that cannot be compared.
    pub(crate) fn new(node: &Deduplicate, input: &SchemaRef, output: SchemaRef, batch_rows: usize) -> Result<Self> {
        let fields: Vec<_> = node.keys.iter().map(|key| input.fields()[*key].clone()).collect();
        Ok(DeduplicateOperator {
            node: node.clone(),
            rows: Arrangement::new("rows", input, &node.keys, false)?,
            current: HashMap::new(),
            waiting: BTreeSet::new(),
            done: KeyedTable::new("done", &fields, ["sent"])?,
            sent_behind: SentBehind::new(&fields)?,
            late_rows: 0,
            width: input.fields().len(),
            time_name: node.time_column.map(|column| input.field(column).name().clone()).unwrap_or_default(),
            output_schema: output,
            batch_rows: batch_rows.max(1),
        })
    }

    /// The times of rows; by arrival all are the same.
    fn times(&self, rows: &arrow::array::RecordBatch) -> Result<Vec<i64>> {
        Ok(match self.node.time_column {
            Some(column) => event_times(rows.column(column), &self.time_name)?.values().to_vec(),
            None => vec![0; rows.num_rows()],
        })
    }

    fn keys_of(&self, batch: &Batch) -> Result<EncodedKeys> {
        let columns: Vec<ArrayRef> = self.node.keys.iter().map(|key| canonical_floats(batch.column(*key))).collect();
        self.done.encode(&columns, batch.num_rows())
    }

    /// The first row of each key that comes.
    fn first_by_arrival(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let keys = self.keys_of(&batch)?;
        let mut is_new = |row: usize| {
            let unseen = self.done.get(keys.key(row)) == [0];
            if unseen {
                self.done.set(keys.key(row), [1]);
            }
            Some(unseen)
        };
        let mask: BooleanArray = (0..batch.num_rows()).map(&mut is_new).collect();
        out.push(batch.filter(&mask)?);
        Ok(())
    }

    /// The earliest row of each key begins to wait.
    fn first_by_time(&mut self, batch: Batch) -> Result<()> {
        let times = self.times(&batch.rows)?;
        let keys = self.keys_of(&batch)?;
        let mut kept = vec![];
        let mut best: HashMap<&[u8], i64> = HashMap::new();
        for (row, time) in times.iter().enumerate() {
            let own = batch.row_watermarks.as_ref().map_or(i64::MIN, |watermarks| watermarks.value(row));
            if *time < own {
                self.late_rows += 1;
                continue;
            }
            let key = keys.key(row);
            if self.done.get(key) != [0] {
                continue;
            }
            let before = best.get(key).copied().or_else(|| self.current.get(key).map(|(time, _)| *time));
            if before.is_none_or(|before| *time < before) {
                best.insert(key, *time);
                kept.push(row as u32);
            }
        }
        let kept_batch = batch.take(&UInt32Array::from(kept.clone()))?;
        let kept_keys = self.rows.keys_of(&kept_batch.rows)?;
        let ids = self.rows.apply(&Batch::append(kept_batch.rows), &kept_keys)?;
        for (row, id) in kept.into_iter().zip(ids) {
            let (time, key) = (times[row as usize], keys.key(row as usize));
            if let Some(replaced) = self.current.insert(key.into(), (time, id)) {
                self.waiting.remove(&replaced);
                self.rows.remove(replaced.1, key);
            }
            self.waiting.insert((time, id));
        }
        self.rows.tidy()
    }

    fn last(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let times = self.times(&batch.rows)?;
        let keys = self.keys_of(&batch)?;
        let mut newest: HashMap<&[u8], i64> = HashMap::new();
        let mut kept = vec![];
        for (row, time) in times.iter().enumerate() {
            let key = keys.key(row);
            let before = newest.get(key).copied().or_else(|| self.current.get(key).map(|(time, _)| *time));
            if before.is_none_or(|before| *time >= before) {
                newest.insert(key, *time);
                kept.push(row as u32);
            }
        }
        let kept_batch = Batch::append(batch.take(&UInt32Array::from(kept.clone()))?.rows);
        let kept_keys = self.rows.keys_of(&kept_batch.rows)?;
        let new_ids = self.rows.apply(&kept_batch, &kept_keys)?;
        let (mut ids, mut changes) = (vec![], Changes::caused_by(&batch));
        let mut gone = vec![];
        for (row, id) in kept.into_iter().zip(new_ids) {
            let key = keys.key(row as usize);
            let cause = self.sent_behind.cause(&batch, row as usize, key);
            self.sent_behind.note(cause, key);
            changes.set_cause(cause);
            let replaced = self.current.insert(key.into(), (times[row as usize], id));
            if let Some((_, old)) = replaced {
                ids.push(Some(old));
                changes.push(-1, true);
                gone.push((old, key));
            }
            ids.push(Some(id));
            changes.push(1, replaced.is_some());
        }
        self.emit(&ids, changes, out)?;
        for (id, key) in gone {
            self.rows.remove(id, key);
        }
        self.rows.tidy()
    }

    fn emit(&self, ids: &[Option<RowId>], changes: Changes, out: &mut Output) -> Result<()> {
        let columns = self.rows.gather(ids, &(0..self.width).collect::<Vec<_>>())?;
        let batch = changes.into_batch(&self.output_schema, columns)?;
        for offset in (0..batch.num_rows()).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(batch.num_rows() - offset)));
        }
        Ok(())
    }
}

impl Operator for DeduplicateOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = append_only(batch)?;
        match (self.node.keep, self.node.time_column) {
            (Keep::First, None) => self.first_by_arrival(batch, out),
            (Keep::First, Some(_)) => self.first_by_time(batch),
            (Keep::Last, _) => self.last(batch, out),
        }
    }

    fn on_watermark(&mut self, _port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        let mut ids = vec![];
        let mut changes = Changes::default();
        while let Some((time, id)) = self.waiting.first().copied().filter(|(time, _)| *time <= watermark.0) {
            self.waiting.remove(&(time, id));
            ids.push(Some(id));
            changes.push(1, false);
        }
        if ids.is_empty() {
            return Ok(());
        }
        let key_columns = self.rows.gather(&ids, &self.node.keys)?;
        let key_columns: Vec<ArrayRef> = key_columns.iter().map(canonical_floats).collect();
        let keys = self.done.encode(&key_columns, ids.len())?;
        self.emit(&ids, changes, out)?;
        for (row, id) in ids.iter().enumerate() {
            self.done.set(keys.key(row), [1]);
            self.current.remove(keys.key(row));
            if let Some(id) = id {
                self.rows.remove(*id, keys.key(row));
            }
        }
        self.rows.tidy()
    }

    fn forget(&mut self, key: &[u8]) -> Result<()> {
        if let Some(row) = self.current.remove(key) {
            self.waiting.remove(&row);
        }
        self.done.set(key, [0]);
        self.sent_behind.forget(key);
        self.rows.remove_key(key)?;
        self.rows.tidy()
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        self.done.snapshot(&mut delta)?;
        self.sent_behind.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let parts = self.sent_behind.restore(parts)?;
        let (rows, done): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| self.rows.owns(&part.slot));
        self.rows.restore(&rows)?;
        self.done.restore(&done)?;
        for (rows, ids) in self.rows.live_chunks()? {
            let times = self.times(&rows)?;
            let keys = self.rows.keys_of(&rows)?;
            for (row, id) in ids.into_iter().enumerate() {
                self.current.insert(keys.key(row).into(), (times[row], id));
                if self.node.keep == Keep::First {
                    self.waiting.insert((times[row], id));
                }
            }
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
        self.done.mark_all_dirty();
        self.sent_behind.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: self.late_rows,
            unmatched_rows: 0,
            state_bytes: (self.rows.size_bytes()
                + self.done.size_bytes()
                + self.sent_behind.size_bytes()
                + self.current.capacity() * 40) as u64,
            state_rows: (self.rows.len() + self.done.len()) as u64,
        }
    }
}

#[cfg(test)]
mod tests;

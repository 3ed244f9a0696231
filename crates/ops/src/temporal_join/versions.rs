//! The right side of a temporal join: what was valid from when, by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use hashbrown::HashMap;
use thalweg_core::{Batch, Error, EventTime, Result};
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::{is_update, without_zeros};
use crate::event_times::event_times;

#[derive(Clone, Copy, Debug)]
struct Version {
    /// It is valid from here on.
    time: i64,
    row: RowId,
    is_deletion: bool,
}

pub(super) struct Versions {
    rows: Arrangement,
    stored: SchemaRef,
    width: usize,
    time_column: usize,
    time_name: String,
    /// By time. Never empty.
    of_key: HashMap<Arc<[u8]>, Vec<Version>>,
    /// Keys with a version of this time that the watermark has not reached: then older ones go.
    ahead: BTreeMap<i64, Vec<Arc<[u8]>>>,
    /// Old halves of updates, by key, whose new halves have not come yet: in this order they came.
    open: Vec<(Arc<[u8]>, RecordBatch)>,
    version_count: usize,
}

impl Versions {
    pub(super) fn new(input: &SchemaRef, keys: &[usize], time_column: usize) -> Result<Self> {
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("is_deletion", DataType::Boolean, false)));
        let stored: SchemaRef = Arc::new(Schema::new(fields));
        Ok(Versions {
            rows: Arrangement::unindexed("right", &stored, keys)?,
            stored,
            width: input.fields().len(),
            time_column,
            time_name: input.field(time_column).name().clone(),
            of_key: HashMap::new(),
            ahead: BTreeMap::new(),
            open: vec![],
            version_count: 0,
        })
    }

    /// Takes in changes.
    /// # Errors
    /// `Record` when an event time is null.
    pub(super) fn take_in(&mut self, batch: Batch) -> Result<()> {
        let batch = without_zeros(batch)?;
        event_times(batch.column(self.time_column), &self.time_name)?;
        if batch.weights.is_none() && self.open.is_empty() {
            return self.add(&batch.rows, &vec![false; batch.num_rows()]);
        }
        // Both halves of an update stand next to each other among the rows of their key.
        let keys = self.rows.encode_keys(&self.rows.key_columns(&batch.rows), batch.num_rows())?;
        let (mut kept, mut deletions) = (vec![], vec![]);
        let mut open: HashMap<&[u8], usize> = HashMap::new();
        let before = std::mem::take(&mut self.open);
        let mut still_open: Vec<bool> = vec![true; before.len()];
        for row in 0..batch.num_rows() {
            let key = keys.key(row);
            let earlier = before.iter().zip(&still_open).position(|((other, _), open)| *open && other.as_ref() == key);
            let half = open.remove(key);
            let is_new_half = batch.weight(row) > 0 && is_update(&batch, row);
            if !is_new_half {
                if let Some(at) = earlier {
                    self.delete_all(&before[at..=at])?;
                }
                if let Some(half) = half {
                    kept.push(half as u32);
                    deletions.push(true);
                }
            }
            if let Some(at) = earlier {
                still_open[at] = false;
            }
            if batch.weight(row) < 0 && is_update(&batch, row) {
                open.insert(key, row);
            } else {
                kept.push(row as u32);
                deletions.push(batch.weight(row) < 0);
            }
        }
        self.open = before.into_iter().zip(still_open).filter(|(_, open)| *open).map(|(half, _)| half).collect();
        let mut halves: Vec<usize> = open.into_values().collect();
        halves.sort_unstable();
        self.open.extend(halves.into_iter().map(|row| (Arc::from(keys.key(row)), batch.rows.slice(row, 1))));
        self.add(&take_record_batch(&batch.rows, &UInt32Array::from(kept))?, &deletions)
    }

    /// No new half comes any more for the old ones that are open: their rows are gone. A barrier and the end of the input never
    /// stand between two halves; the watermarks of other lanes may.
    pub(super) fn settle(&mut self) -> Result<()> {
        let open = std::mem::take(&mut self.open);
        self.delete_all(&open)
    }

    fn delete_all(&mut self, halves: &[(Arc<[u8]>, RecordBatch)]) -> Result<()> {
        halves.iter().try_for_each(|(_, row)| self.add(row, &[true]))
    }

    /// Adds versions, in order of arrival.
    fn add(&mut self, rows: &RecordBatch, deletions: &[bool]) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let times = event_times(rows.column(self.time_column), &self.time_name)?;
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(BooleanArray::from(deletions.to_vec())));
        let stored = Batch::append(RecordBatch::try_new(self.stored.clone(), columns)?);
        let keys = self.rows.keys_of(&stored.rows)?;
        let ids = self.rows.apply(&stored, &keys)?;
        for (row, id) in ids.into_iter().enumerate() {
            let version = Version { time: times.value(row), row: id, is_deletion: deletions[row] };
            if let Some(replaced) = self.insert(keys.key(row), version) {
                self.rows.remove(replaced, &[]);
            }
        }
        self.rows.tidy()
    }

    /// Puts a version in its place; gives the row of the one that it replaces.
    fn insert(&mut self, key: &[u8], version: Version) -> Option<RowId> {
        let shared = match self.of_key.get_key_value(key) {
            Some((shared, _)) => shared.clone(),
            None => Arc::from(key),
        };
        let versions = self.of_key.entry(shared.clone()).or_default();
        let at = versions.partition_point(|other| other.time < version.time);
        if let Some(same) = versions.get_mut(at).filter(|other| other.time == version.time) {
            if version.is_deletion {
                self.ahead.entry(version.time).or_default().push(shared);
            }
            return Some(std::mem::replace(same, version).row);
        }
        versions.insert(at, version);
        self.version_count += 1;
        self.ahead.entry(version.time).or_default().push(shared);
        None
    }

    /// The row of a key that was valid at `time`, unless a newer one was valid at `came_at`.
    pub(super) fn at(&self, key: &[u8], time: i64, came_at: i64) -> Option<RowId> {
        let versions = self.of_key.get(key)?;
        let at = versions.partition_point(|version| version.time <= time).checked_sub(1)?;
        let is_superseded = versions.get(at + 1).is_some_and(|next| next.time <= came_at);
        Some(versions[at]).filter(|version| !version.is_deletion && !is_superseded).map(|version| version.row)
    }

    /// Drops the versions that no row can ask for once the watermark is here.
    pub(super) fn forget(&mut self, watermark: EventTime) -> Result<()> {
        let mut gone: Vec<RowId> = vec![];
        while let Some(entry) = self.ahead.first_entry().filter(|entry| *entry.key() <= watermark.0) {
            for key in entry.remove() {
                let Some(versions) = self.of_key.get_mut(&key) else {
                    continue;
                };
                let reached = versions.partition_point(|version| version.time <= watermark.0);
                let Some(newest) = reached.checked_sub(1) else {
                    continue;
                };
                let kept_from = if versions[newest].is_deletion { reached } else { newest };
                gone.extend(versions.drain(..kept_from).map(|version| version.row));
                if versions.is_empty() {
                    self.of_key.remove(&key);
                }
            }
        }
        self.version_count -= gone.len();
        gone.into_iter().for_each(|id| self.rows.remove(id, &[]));
        self.rows.tidy()
    }

    /// The columns of the input; nulls where there is no row.
    pub(super) fn gather(&self, ids: &[Option<RowId>]) -> Result<Vec<ArrayRef>> {
        self.rows.gather(ids, &(0..self.width).collect::<Vec<_>>())
    }

    pub(super) fn gather_columns(&self, ids: &[Option<RowId>], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        self.rows.gather(ids, columns)
    }

    pub(super) fn len(&self) -> usize {
        self.version_count
    }

    pub(super) fn size_bytes(&self) -> usize {
        let index = size_of::<Version>() * 2 + size_of::<Arc<[u8]>>() * 2;
        self.rows.size_bytes() + self.version_count * index
    }

    pub(super) fn snapshot(&mut self, delta: &mut StateDelta) -> Result<()> {
        self.rows.snapshot(delta)
    }

    pub(super) fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        if let Some(part) = parts.iter().find(|part| !self.rows.owns(&part.slot)) {
            return Err(Error::corrupt(format!("the state of a join has a slot \"{}\"", part.slot)));
        }
        self.rows.restore(&parts)?;
        for (rows, ids) in self.rows.live_chunks()? {
            let times = event_times(rows.column(self.time_column), &self.time_name)?;
            let deletions = rows.column(self.width).as_boolean();
            let keys = self.rows.keys_of(&rows)?;
            for (row, id) in ids.into_iter().enumerate() {
                self.insert(keys.key(row), Version { time: times.value(row), row: id, is_deletion: deletions.value(row) });
            }
        }
        Ok(())
    }

    pub(super) fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }
}

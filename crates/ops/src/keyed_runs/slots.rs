//! Keyed runs in checkpoints; the slots are described in the parent module.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, UInt32Type};
use thalweg_core::{Error, Result};
use thalweg_state::{KEY_GROUP_COLUMN, SlotChange, SlotId, StatePart};

use super::delta::{Delta, StoredDelta};
use super::entries::{Entries, UNCOUNTED, UNTIMED};
use super::equality::row_hashes;
use super::probe::types;
use super::run::Run;
use super::{KeyedRuns, Place};

/// Columns of a slot before the kept ones.
const FIGURES: usize = 5;

/// A slot that was merged into so often is written whole: a checkpoint names each piece.
const MERGES_MAX: usize = 32;

/// What a slot's name says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct SlotName {
    kind: SlotKind,
    first: u64,
    last: u64,
    lane: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum SlotKind {
    Run,
    Changes,
    Delta,
}

impl KeyedRuns {
    /// Whether a stored slot is one of these.
    pub(crate) fn owns(&self, slot: &SlotId) -> bool {
        slot.0.strip_prefix(self.options.name).is_some_and(|rest| rest.starts_with('/'))
    }

    pub(super) fn run_slot(&self, run: &Run) -> SlotId {
        SlotId(format!("{}/{}/run/{}-{}", self.options.name, self.options.lane.0, run.first, run.last))
    }

    pub(super) fn changes_slot(&self, run: &Run) -> SlotId {
        SlotId(format!("{}/{}/changes/{}-{}", self.options.name, self.options.lane.0, run.first, run.last))
    }

    pub(super) fn delta_slot(&self, number: u64) -> SlotId {
        SlotId(format!("{}/{}/delta/{number}", self.options.name, self.options.lane.0))
    }

    /// What changed since the last snapshot.
    pub(crate) fn snapshot(&mut self) -> Result<Vec<(SlotId, SlotChange)>> {
        let mut changes: Vec<_> = self.dropped.drain(..).map(|slot| (slot, SlotChange::Drop)).collect();
        for number in 0..self.runs.len() {
            let run = &mut self.runs[number];
            let dirty = std::mem::take(&mut run.entries.dirty);
            if !run.stored.is_current {
                (run.stored.has_slot, run.stored.is_current) = (true, true);
                let run = &self.runs[number];
                let rows = self.run_batch(run, &(0..run.len() as u32).collect::<Vec<_>>(), true)?;
                changes.push((self.run_slot(run), SlotChange::Replace(rows)));
            } else if !dirty.is_empty() {
                changes.push(self.changes_of(number, &dirty.positions())?);
            }
        }
        changes.extend(self.delta_changes()?);
        Ok(changes)
    }

    fn changes_of(&mut self, number: usize, dirty: &[u32]) -> Result<(SlotId, SlotChange)> {
        let stored = &mut self.runs[number].stored;
        dirty.iter().for_each(|position| stored.changed.insert(*position as usize));
        let is_whole =
            stored.merges >= MERGES_MAX || stored.written_changes + dirty.len() > 2 * stored.changed.len() + MERGES_MAX;
        let written = if is_whole { stored.changed.positions() } else { dirty.to_vec() };
        if is_whole {
            (stored.written_changes, stored.merges) = (written.len(), 0);
        } else {
            (stored.written_changes, stored.merges) = (stored.written_changes + written.len(), stored.merges + 1);
        }
        let run = &self.runs[number];
        let rows = self.run_batch(run, &written, false)?;
        Ok((self.changes_slot(run), if is_whole { SlotChange::Replace(rows) } else { SlotChange::Merge(rows) }))
    }

    fn delta_changes(&mut self) -> Result<Option<(SlotId, SlotChange)>> {
        let slot = self.delta_slot(self.delta.number);
        let dirty = std::mem::take(&mut self.delta.entries.dirty);
        let Delta { stored, entries, .. } = &mut self.delta;
        let added = stored.rows..entries.len();
        if dirty.is_empty() && added.is_empty() {
            return Ok(None);
        }
        if entries.live() == 0 && !stored.exists {
            // What came is gone already; its places are not needed.
            *stored = StoredDelta { rows: entries.len(), ..StoredDelta::default() };
            return Ok(None);
        }
        let first_added = added.start as u32;
        let old = dirty.positions().into_iter().filter(|position| *position < first_added);
        let new = (first_added..entries.len() as u32).filter(|position| entries.is_live(*position as usize));
        let mut written: Vec<u32> = old.chain(new).collect();
        let grown = stored.merged_rows + written.len();
        let is_whole = !stored.exists || stored.merges >= MERGES_MAX || grown > 2 * entries.live() + MERGES_MAX;
        if is_whole {
            written = self.delta.live();
        }
        let stored = &mut self.delta.stored;
        stored.rows = self.delta.entries.len();
        if is_whole && written.is_empty() {
            *stored = StoredDelta { rows: stored.rows, ..StoredDelta::default() };
            return Ok(Some((slot, SlotChange::Drop)));
        }
        if written.is_empty() {
            return Ok(None);
        }
        stored.exists = true;
        (stored.merged_rows, stored.merges) = if is_whole { (0, 0) } else { (grown, stored.merges + 1) };
        let rows = self.delta_batch(&written)?;
        Ok(Some((slot, if is_whole { SlotChange::Replace(rows) } else { SlotChange::Merge(rows) })))
    }

    fn run_batch(&self, run: &Run, positions: &[u32], with_columns: bool) -> Result<RecordBatch> {
        let hashes: Vec<u64> = if with_columns {
            run.groups().flat_map(|(hash, rows)| rows.map(move |_| hash)).collect()
        } else {
            positions.iter().map(|position| run.hash(*position)).collect()
        };
        let columns = if with_columns { run.rows.columns() } else { &[] };
        self.state_batch(positions, &hashes, &run.entries, columns)
    }

    fn delta_batch(&self, positions: &[u32]) -> Result<RecordBatch> {
        let hashes: Vec<u64> = positions.iter().map(|position| self.delta.hash(*position)).collect();
        let width = self.options.schema.fields().len();
        let columns = (0..width).map(|column| self.delta.gather(column, positions)).collect::<Result<Vec<_>>>()?;
        self.state_batch(positions, &hashes, &self.delta.entries, &columns)
    }

    fn state_batch(&self, positions: &[u32], hashes: &[u64], entries: &Entries, columns: &[ArrayRef]) -> Result<RecordBatch> {
        let kind = self.options.entry_kind();
        let figure = |value: &dyn Fn(usize) -> Option<i64>| -> ArrayRef {
            Arc::new(Int64Array::from_iter(positions.iter().map(|position| value(*position as usize))))
        };
        let known = |value: i64, unknown: i64, is_kept: bool| Some(value).filter(|value| is_kept && *value != unknown);
        let mut all: Vec<ArrayRef> = vec![
            Arc::new(UInt16Array::from_iter_values(hashes.iter().map(|hash| self.key_group(*hash)))),
            Arc::new(UInt32Array::from(positions.to_vec())),
            figure(&|position| Some(entries.weight(position))),
            figure(&|position| known(entries.matches(position), UNCOUNTED, kind.counts_matches)),
            figure(&|position| known(entries.touched(position), UNTIMED, kind.is_timed)),
        ];
        all.extend(columns.iter().cloned());
        let schema = self.state_schema();
        let schema = if all.len() == FIGURES { Arc::new(schema.project(&[0, 1, 2, 3, 4])?) } else { schema };
        Ok(RecordBatch::try_new(schema, all)?)
    }

    fn state_schema(&self) -> SchemaRef {
        let figure = |name: &str, data_type, is_nullable| Arc::new(Field::new(name, data_type, is_nullable));
        let mut fields: Vec<FieldRef> = vec![
            figure(KEY_GROUP_COLUMN, DataType::UInt16, false),
            figure("position", DataType::UInt32, false),
            figure("weight", DataType::Int64, false),
            figure("matches", DataType::Int64, true),
            figure("touched", DataType::Int64, true),
        ];
        fields.extend(self.options.schema.fields().iter().cloned());
        Arc::new(Schema::new(fields))
    }

    /// Takes in stored slots, of any number of lanes.
    /// # Errors
    /// `Corrupt` when they are not what [`KeyedRuns::snapshot`] wrote.
    pub(crate) fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let mut runs = vec![];
        let mut deltas = vec![];
        let mut changes: BTreeMap<SlotName, StatePart> = BTreeMap::new();
        for part in parts {
            let name = self.slot_name(&part.slot)?;
            match name.kind {
                SlotKind::Run => runs.push((name, part)),
                SlotKind::Delta => deltas.push((name, part)),
                SlotKind::Changes => {
                    changes.insert(SlotName { kind: SlotKind::Run, ..name }, part);
                }
            }
        }
        runs.sort_by_key(|(name, _)| *name);
        deltas.sort_by_key(|(name, _)| *name);
        let newest = runs.iter().chain(&deltas).map(|(name, _)| name.last).max();
        self.delta = Delta::new(&self.options, newest.map_or(0, |newest| newest + 1));
        for (name, part) in runs {
            let changes = changes.remove(&name);
            self.restore_run(name, &part, changes.as_ref())?;
        }
        if let Some((name, _)) = changes.first_key_value() {
            return Err(self.corrupt(&format!("has changes of a run {}-{} that is not there", name.first, name.last)));
        }
        for (name, part) in deltas {
            self.restore_delta(&part)?;
            if name.lane == self.options.lane.0 {
                self.dropped.push(part.slot);
            }
        }
        self.delta.settle(&self.options)?;
        self.maintain()
    }

    /// Nothing that is stored will be kept.
    pub(crate) fn mark_all_dirty(&mut self) {
        self.dropped.clear();
        for (number, run) in (0_u64..).zip(&mut self.runs) {
            // Runs that other lanes wrote may have the same name.
            (run.first, run.last) = (number, number);
            run.stored = Default::default();
        }
        self.delta.number = self.runs.len() as u64;
        self.delta.stored = StoredDelta::default();
    }

    /// Rows whose matches were not counted when they were stored, because nobody asked then.
    pub(crate) fn uncounted(&self) -> Vec<Place> {
        if !self.options.counts_matches {
            return vec![];
        }
        let of = |segment: u32, entries: &Entries| {
            let positions = (0..entries.len()).filter(|at| entries.is_live(*at) && entries.matches(*at) == UNCOUNTED);
            positions.map(|position| Place { segment, position: position as u32 }).collect::<Vec<_>>()
        };
        let runs = (0_u32..).zip(&self.runs).flat_map(|(segment, run)| of(segment, &run.entries));
        runs.chain(of(Place::DELTA, &self.delta.entries)).collect()
    }

    fn restore_run(&mut self, name: SlotName, part: &StatePart, changes: Option<&StatePart>) -> Result<()> {
        let mut state = self.read(part, true)?;
        let hashes_of = |this: &Self, state: &RecordBatch| this.hashes(&this.key_columns(state), state.num_rows());
        let mut hashes = hashes_of(self, &state)?;
        if !hashes.is_sorted() {
            let mut order: Vec<u32> = (0..state.num_rows() as u32).collect();
            order.sort_by_key(|row| hashes[*row as usize]);
            state = take_record_batch(&state, &UInt32Array::from(order))?;
            hashes = hashes_of(self, &state)?;
        }
        let mut entries = Entries::new(self.options.entry_kind());
        (0..state.num_rows()).for_each(|row| {
            let [weight, matches, touched] = figures(&state, row);
            entries.push(weight, matches, touched);
        });
        let rows = RecordBatch::try_new_with_options(
            self.options.schema.clone(),
            state.columns()[FIGURES..].to_vec(),
            &arrow::array::RecordBatchOptions::new().with_row_count(Some(state.num_rows())),
        )?;
        let positions = state.column(1).as_primitive::<UInt32Type>().values();
        let mut run = Run::new(&self.options, (name.first, name.last), rows, &hashes, entries)?;
        // Else it is a share of a run, and will be written anew.
        run.stored.has_slot = name.lane == self.options.lane.0;
        run.stored.is_current = run.stored.has_slot && (0..).zip(positions).all(|(row, position)| row == *position);
        if let Some(changes) = changes {
            let rows_of: BTreeMap<u32, usize> = (0..).zip(positions).map(|(row, position)| (*position, row)).collect();
            let state = self.read(changes, false)?;
            for (row, position) in state.column(1).as_primitive::<UInt32Type>().values().iter().enumerate() {
                let at = *rows_of.get(position).ok_or_else(|| self.corrupt("has changes of rows that are not there"))?;
                let [weight, matches, touched] = figures(&state, row);
                run.entries.restore(at, weight, matches, touched);
                run.stored.changed.insert(at);
            }
            (run.stored.written_changes, run.stored.merges) = (state.num_rows(), changes.batches.len());
        }
        self.runs.push(run);
        Ok(())
    }

    fn restore_delta(&mut self, part: &StatePart) -> Result<()> {
        let state = self.read(part, true)?;
        // The last of a position holds.
        let mut last: BTreeMap<u32, u32> = BTreeMap::new();
        for (row, position) in (0..).zip(state.column(1).as_primitive::<UInt32Type>().values()) {
            last.insert(*position, row);
        }
        let live = last.into_values().filter(|row| figures(&state, *row as usize)[0] > 0);
        let state = take_record_batch(&state, &UInt32Array::from_iter_values(live))?;
        if state.num_rows() == 0 {
            return Ok(());
        }
        let hashes = self.hashes(&self.key_columns(&state), state.num_rows())?;
        let rows = RecordBatch::try_new_with_options(
            self.options.schema.clone(),
            state.columns()[FIGURES..].to_vec(),
            &arrow::array::RecordBatchOptions::new().with_row_count(Some(state.num_rows())),
        )?;
        let row_hashes = match self.options.is_updating {
            true => row_hashes(rows.columns(), rows.num_rows())?,
            false => vec![],
        };
        self.delta.push_chunk(rows);
        for (row, hash) in hashes.iter().enumerate() {
            let [weight, matches, touched] = figures(&state, row);
            let position = self.delta.push(*hash, weight, matches, touched);
            if let Some(row_hash) = row_hashes.get(row) {
                self.delta.link_row(position, *row_hash);
            }
        }
        Ok(())
    }

    fn key_columns(&self, state: &RecordBatch) -> Vec<ArrayRef> {
        self.options.keys.iter().map(|key| state.column(FIGURES + key).clone()).collect()
    }

    /// The rows of a slot as one batch.
    fn read(&self, part: &StatePart, with_columns: bool) -> Result<RecordBatch> {
        let schema = self.state_schema();
        let mut expected = types(&schema);
        if !with_columns {
            expected.truncate(FIGURES);
        }
        for batch in &part.batches {
            let found = types(batch.schema_ref());
            if found != expected {
                return Err(self.corrupt(&format!("has columns {found:?} in place of {expected:?}")));
            }
        }
        match part.batches.first() {
            Some(first) => Ok(concat_batches(first.schema_ref(), &part.batches)?),
            None => Err(self.corrupt("has a slot without rows")),
        }
    }

    fn slot_name(&self, slot: &SlotId) -> Result<SlotName> {
        let parse = || {
            let mut parts = slot.0.strip_prefix(self.options.name)?.strip_prefix('/')?.split('/');
            let lane = parts.next()?.parse().ok()?;
            let kind = match parts.next()? {
                "run" => SlotKind::Run,
                "changes" => SlotKind::Changes,
                "delta" => SlotKind::Delta,
                _ => return None,
            };
            let numbers = parts.next()?;
            let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
            Some(SlotName { kind, first: first.parse().ok()?, last: last.parse().ok()?, lane })
        };
        parse().ok_or_else(|| self.corrupt(&format!("has a slot \"{slot}\"")))
    }

    fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(format!("the state of {} {what}", self.options.holder))
    }
}

/// Weight, matches and time of a stored row.
fn figures(state: &RecordBatch, row: usize) -> [i64; 3] {
    let figure = |column: usize, unknown: i64| {
        let values = state.column(column).as_primitive::<Int64Type>();
        if values.is_null(row) { unknown } else { values.value(row) }
    };
    [figure(2, 0), figure(3, UNCOUNTED), figure(4, UNTIMED)]
}

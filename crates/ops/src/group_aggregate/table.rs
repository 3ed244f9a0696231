//! Groups with their aggregates, and the slot of state that holds them.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt16Array};
use arrow::compute::concat;
use arrow::datatypes::Int64Type;
use thalweg_core::{Batch, Error, Result};
use thalweg_state::{SlotChange, SlotId, StateDelta};

use super::groups::Groups;
use super::layout::{GroupLayout, RESULT_BYTES};
use crate::key_groups;
use crate::running::{self, CallRows, RunningAccumulator};

/// State with fewer groups is always written whole.
const SMALL_GROUPS: usize = 1_024;

pub(super) struct GroupTable {
    slot: SlotId,
    groups: Groups,
    accumulators: Vec<Box<dyn RunningAccumulator>>,
    /// Whether the store holds the slot as of the last snapshot.
    is_stored: bool,
    /// Rows written by merges since the slot was last written whole.
    merged_rows: usize,
}

/// What one batch does to the groups.
pub(super) struct Steps {
    /// The group of each row.
    pub(super) groups: Vec<usize>,
    /// Whether the row is the first of its group.
    pub(super) births: Vec<bool>,
    /// Whether the group has no rows behind this one.
    pub(super) empties: Vec<bool>,
    /// The groups of the batch, each once.
    pub(super) touched: Vec<usize>,
    /// Where the result before each row is: one of `touched`, or an earlier row.
    pub(super) before: Vec<Before>,
}

#[derive(Clone, Copy)]
pub(super) enum Before {
    Touched(usize),
    Row(usize),
}

impl GroupTable {
    pub(super) fn new(layout: &GroupLayout, slot: String) -> Result<Self> {
        Ok(GroupTable {
            slot: SlotId(slot),
            groups: Groups::default(),
            accumulators: layout.accumulators()?,
            is_stored: false,
            merged_rows: 0,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// How many of `rows` rows of this size may be taken at once so that their results stay small.
    pub(super) fn rows_at_once(&self, mut rows: usize, row_bytes: usize) -> usize {
        let sizes = self.accumulators.iter().map(|accumulator| accumulator.result_size());
        let (largest, collects) = sizes.fold((0, false), |(largest, collects), (size, own)| (largest + size, collects || own));
        let growth = |rows: usize| if collects { rows.saturating_mul(row_bytes) } else { row_bytes };
        while rows > 1 && rows.saturating_mul(2 * row_bytes + largest + growth(rows)) > RESULT_BYTES {
            rows /= 2;
        }
        rows
    }

    pub(super) fn ignore_unmatched(&mut self) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.ignore_unmatched());
    }

    /// Which rows do not take back more than is there.
    pub(super) fn matched(&self, layout: &GroupLayout, batch: &Batch, keys: &[ArrayRef]) -> Result<BooleanArray> {
        let encoded = layout.codec.encode(keys, batch.num_rows())?;
        let mut counts: hashbrown::HashMap<&[u8], i64> = hashbrown::HashMap::new();
        let mask = (0..batch.num_rows()).map(|row| {
            let key = encoded.key(row);
            let count = counts.entry(key).or_insert_with(|| self.groups.find(key).map_or(0, |group| self.groups.rows(group)));
            let after = count.saturating_add(batch.weight(row));
            let is_matched = after >= 0;
            if is_matched {
                *count = after;
            }
            Some(is_matched)
        });
        Ok(mask.collect())
    }

    /// Drops a group, whatever it holds.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some(group) = self.groups.find(key) {
            let capacity = self.groups.capacity();
            for accumulator in &mut self.accumulators {
                accumulator.resize(capacity);
                accumulator.clear(group);
            }
            self.groups.set_rows(group, 0);
            self.groups.mark_dirty(group);
            self.groups.remove_if_empty(group);
        }
    }

    /// Finds the groups of the rows and counts the rows in them. `keys` are the key columns of `batch`.
    /// # Errors
    /// `Record` when a row is taken back that was never there.
    pub(super) fn step(&mut self, layout: &GroupLayout, batch: &Batch, keys: &[ArrayRef]) -> Result<Steps> {
        let rows = batch.num_rows();
        let encoded = layout.codec.encode(keys, rows)?;
        let mut steps = Steps {
            groups: Vec::with_capacity(rows),
            births: Vec::with_capacity(rows),
            empties: Vec::with_capacity(rows),
            touched: vec![],
            before: Vec::with_capacity(rows),
        };
        let mut last: hashbrown::HashMap<usize, Before> = hashbrown::HashMap::new();
        for row in 0..rows {
            let group = self.groups.find_or_add(encoded.key(row));
            let before = self.groups.rows(group);
            let after = before
                .checked_add(batch.weight(row))
                .ok_or_else(|| Error::record(format!("more rows than can be counted in {}", layout.describe(keys, row))))?;
            if after < 0 {
                return Err(Error::record(format!("a row is taken back that {} does not hold", layout.describe(keys, row)))
                    .with_help("the changes of the input do not fit together: more rows were taken back than came"));
            }
            self.groups.set_rows(group, after);
            let earlier = *last.entry(group).or_insert_with(|| {
                steps.touched.push(group);
                Before::Touched(steps.touched.len() - 1)
            });
            steps.before.push(earlier);
            last.insert(group, Before::Row(row));
            steps.groups.push(group);
            steps.births.push(before == 0);
            steps.empties.push(after == 0);
        }
        Ok(steps)
    }

    /// For each call, the results before the batch of the groups touched, then those behind each row.
    pub(super) fn results(
        &mut self,
        layout: &GroupLayout,
        batch: &Batch,
        keys: &[ArrayRef],
        steps: &Steps,
    ) -> Result<Vec<ArrayRef>> {
        let touched = &steps.touched;
        self.each_call(layout, batch, keys, steps, &mut |accumulator, rows| {
            let before = accumulator.results(touched, &|_| "a group of the last checkpoint".to_string())?;
            let after = accumulator.update(&rows)?;
            Ok(concat(&[before.as_ref(), after.as_ref()])?)
        })
    }

    /// Takes the rows in where no results are wanted yet.
    pub(super) fn absorb(&mut self, layout: &GroupLayout, batch: &Batch, keys: &[ArrayRef], steps: &Steps) -> Result<()> {
        self.each_call(layout, batch, keys, steps, &mut |accumulator, rows| accumulator.absorb(&rows))?;
        Ok(())
    }

    fn each_call<T>(
        &mut self,
        layout: &GroupLayout,
        batch: &Batch,
        keys: &[ArrayRef],
        steps: &Steps,
        work: &mut dyn FnMut(&mut dyn RunningAccumulator, CallRows<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut outcomes = vec![];
        for (accumulator, call) in self.accumulators.iter_mut().zip(&layout.calls) {
            accumulator.resize(self.groups.capacity());
            let rows = CallRows {
                argument: call.argument.map(|column| batch.column(column)),
                filter: call.filter.map(|column| running::passing(batch.column(column).as_boolean())),
                weights: batch.weights.as_ref(),
                groups: &steps.groups,
                empties: &steps.empties,
                wanted: None,
                describe: &|row| layout.describe(keys, row),
            };
            outcomes.push(work(accumulator.as_mut(), rows)?);
        }
        Ok(outcomes)
    }

    /// Ends a batch: what it touched has changed, what it emptied goes.
    pub(super) fn finish(&mut self, steps: &Steps) {
        for group in &steps.touched {
            self.groups.mark_dirty(*group);
            self.groups.remove_if_empty(*group);
        }
    }

    /// All groups with their results, in the order of their keys, as batches of the layout's output.
    pub(super) fn all_results(&mut self, layout: &GroupLayout) -> Result<Vec<RecordBatch>> {
        let keys = self.groups.keys();
        let key_bytes = self.groups.size_bytes() / keys.len().max(1);
        let largest: usize = self.accumulators.iter().map(|accumulator| accumulator.result_size().0).sum();
        let at_once = (RESULT_BYTES / (largest + key_bytes).max(1)).clamp(1, layout.batch_rows);
        let mut batches = vec![];
        for keys in keys.chunks(at_once) {
            let groups: Vec<usize> = keys.iter().filter_map(|key| self.groups.find(key)).collect();
            let key_columns = layout.codec.decode(keys)?;
            let mut columns = key_columns.clone();
            for accumulator in &mut self.accumulators {
                accumulator.resize(self.groups.capacity());
                columns.push(accumulator.results(&groups, &|row| layout.describe(&key_columns, row))?);
            }
            let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
            batches.push(RecordBatch::try_new_with_options(layout.output_schema.clone(), columns, &options)?);
        }
        Ok(batches)
    }

    /// The slot, if the store has it: it is to be dropped when the table goes.
    pub(super) fn stored_slot(&self) -> Option<SlotId> {
        self.is_stored.then(|| self.slot.clone())
    }

    pub(super) fn snapshot(&mut self, layout: &GroupLayout, delta: &mut StateDelta) -> Result<()> {
        let (live, dirty) = (self.groups.len(), self.groups.dirty());
        let is_whole = !self.is_stored || live < SMALL_GROUPS || self.merged_rows + dirty.len() > live;
        if is_whole && (!self.is_stored || !dirty.is_empty()) {
            self.merged_rows = 0;
            if live > 0 {
                let state = self.state_batch(layout, &self.groups.keys())?;
                delta.changes.push((self.slot.clone(), SlotChange::Replace(state)));
            } else if self.is_stored {
                delta.changes.push((self.slot.clone(), SlotChange::Drop));
            }
            self.is_stored = live > 0;
        } else if !dirty.is_empty() {
            self.merged_rows += dirty.len();
            delta.changes.push((self.slot.clone(), SlotChange::Merge(self.state_batch(layout, &dirty)?)));
        }
        self.groups.mark_stored();
        Ok(())
    }

    /// State rows of groups, given by key; those that are gone have 0 rows and blank states.
    fn state_batch(&self, layout: &GroupLayout, keys: &[Arc<[u8]>]) -> Result<RecordBatch> {
        let groups: Vec<usize> = keys.iter().map(|key| self.groups.find(key).unwrap_or(Groups::BLANK)).collect();
        let key_columns = layout.codec.decode(keys)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt16Array::from(key_groups(&key_columns, keys.len())?))];
        columns.extend(key_columns);
        columns.push(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| self.groups.rows(*group)))));
        for accumulator in &self.accumulators {
            columns.extend(accumulator.state(&groups)?);
        }
        Ok(RecordBatch::try_new(layout.state_schema.clone(), columns)?)
    }

    /// Takes in one stored batch; the slot is complete with [`GroupTable::restored`].
    pub(super) fn restore(&mut self, layout: &GroupLayout, state: &RecordBatch) -> Result<()> {
        layout.check_state(state)?;
        let (keys, rest) = state.columns()[1..].split_at(layout.keys.len());
        let encoded = layout.codec.encode(keys, state.num_rows())?;
        let mut groups = vec![];
        for (row, count) in rest[0].as_primitive::<Int64Type>().values().iter().enumerate() {
            groups.push(if *count > 0 {
                let group = self.groups.find_or_add(encoded.key(row));
                self.groups.set_rows(group, *count);
                Some(group)
            } else {
                if let Some(group) = self.groups.find(encoded.key(row)) {
                    self.groups.set_rows(group, 0);
                    self.accumulators.iter_mut().for_each(|accumulator| accumulator.clear(group));
                    self.groups.remove_if_empty(group);
                }
                None
            });
        }
        let mut states = &rest[1..];
        for (accumulator, width) in self.accumulators.iter_mut().zip(&layout.state_widths) {
            let (own, others) = states.split_at(*width);
            accumulator.resize(self.groups.capacity());
            accumulator.restore(own, &groups)?;
            states = others;
        }
        Ok(())
    }

    pub(super) fn restored(&mut self) {
        self.groups.mark_stored();
        self.is_stored = self.groups.len() > 0;
    }

    pub(super) fn mark_all_dirty(&mut self) {
        self.is_stored = false;
    }

    pub(super) fn size_bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.size_bytes()).sum();
        accumulators + self.groups.size_bytes()
    }
}

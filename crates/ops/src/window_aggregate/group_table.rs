//! Keys with their accumulators.

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::take;
use thalweg_core::{Batch, EventTime, Result};

use super::layout::{GroupColumns, WindowAggregateLayout};
use crate::eval::value_text;
use crate::{GroupAccumulator, GroupKeys};

/// One group per key, in order of first arrival. Remembers which groups changed since it was last asked.
pub(super) struct GroupTable {
    keys: GroupKeys,
    accumulators: Vec<Box<dyn GroupAccumulator>>,
    /// The number of state columns of each accumulator.
    state_widths: Vec<usize>,
    /// Source rows in each group.
    rows: Vec<i64>,
    is_dirty: Vec<bool>,
    dirty: Vec<usize>,
    /// The group of each row of the batch at hand.
    groups: Vec<usize>,
}

impl GroupTable {
    pub(super) fn new(layout: &WindowAggregateLayout) -> Result<Self> {
        Ok(GroupTable {
            keys: GroupKeys::new(&layout.key_fields)?,
            accumulators: layout.accumulators()?,
            state_widths: layout.state_widths.clone(),
            rows: vec![],
            is_dirty: vec![],
            dirty: vec![],
            groups: vec![],
        })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Adds partial states.
    pub(super) fn merge(&mut self, input: &GroupColumns) -> Result<()> {
        self.keys.intern(&input.keys, input.rows.values().len(), &mut self.groups)?;
        let total = self.keys.len();
        self.rows.resize(total, 0);
        self.is_dirty.resize(total, false);
        for (group, rows) in self.groups.iter().zip(input.rows.values()) {
            self.rows[*group] += rows;
            if !self.is_dirty[*group] {
                self.is_dirty[*group] = true;
                self.dirty.push(*group);
            }
        }
        let mut states = input.states.as_slice();
        for (accumulator, width) in self.accumulators.iter_mut().zip(&self.state_widths) {
            let (own, rest) = states.split_at(*width);
            accumulator.merge(own, &self.groups, total)?;
            states = rest;
        }
        Ok(())
    }

    /// The groups that changed since [`GroupTable::mark_clean`].
    pub(super) fn dirty(&self) -> &[usize] {
        &self.dirty
    }

    pub(super) fn mark_clean(&mut self) {
        self.dirty.drain(..).for_each(|group| self.is_dirty[group] = false);
    }

    /// Keys, row counts and states of `groups`, or of all.
    pub(super) fn columns(&self, groups: Option<&[usize]>) -> Result<GroupColumns> {
        let mut keys = self.keys.columns()?;
        let mut rows = Int64Array::from(self.rows.clone());
        if let Some(groups) = groups {
            let indices = UInt32Array::from_iter_values(groups.iter().map(|group| *group as u32));
            keys = keys.iter().map(|column| Ok(take(column, &indices, None)?)).collect::<Result<_>>()?;
            rows = Int64Array::from_iter_values(groups.iter().map(|group| self.rows[*group]));
        }
        let states = self.accumulators.iter().map(|accumulator| accumulator.state(groups)).collect::<Result<Vec<_>>>()?;
        Ok(GroupColumns { keys, rows, states: states.concat() })
    }

    /// The key columns and the results of the aggregates, for all groups. `window_end` is for errors.
    pub(super) fn results(&self, layout: &WindowAggregateLayout, window_end: i64) -> Result<Vec<ArrayRef>> {
        let keys = self.keys.columns()?;
        let describe = |group: usize| {
            let window = format!("the window that ends at {}", EventTime(window_end));
            let values: Vec<String> = layout
                .key_fields
                .iter()
                .zip(&keys)
                .map(|(field, column)| format!("{} = {}", field.name(), value_text(column, group)))
                .collect();
            if values.is_empty() { window } else { format!("group {} in {window}", values.join(", ")) }
        };
        let mut columns = keys.clone();
        for accumulator in &self.accumulators {
            columns.push(accumulator.evaluate(None, &describe)?);
        }
        Ok(columns)
    }

    pub(super) fn size_bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.size_bytes()).sum();
        let group_bytes = size_of::<i64>() + size_of::<bool>();
        self.keys.size_bytes() + accumulators + self.rows.capacity() * group_bytes + self.dirty.capacity() * size_of::<usize>()
    }
}

/// Aggregates raw rows into partial states: row `i` of `batch` belongs to group `groups[i]` of `total`.
pub(super) fn aggregate_rows(
    layout: &WindowAggregateLayout,
    batch: &Batch,
    groups: &[usize],
    total: usize,
) -> Result<(Int64Array, Vec<ArrayRef>)> {
    let mut rows = vec![0_i64; total];
    groups.iter().for_each(|group| rows[*group] += 1);
    let mut states = vec![];
    for factory in &layout.factories {
        let call = factory.call();
        let mut accumulator = factory.create()?;
        accumulator.update(
            call.argument.map(|column| batch.column(column)),
            call.filter.map(|column| batch.column(column).as_boolean()),
            batch.weights.as_ref(),
            groups,
            total,
        )?;
        states.extend(accumulator.state(None)?);
    }
    Ok((Int64Array::from(rows), states))
}

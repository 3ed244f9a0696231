//! GROUP BY the bounds of windows that the rows bring along.
//!
//! Ordering: a group is sent once, when the watermark reaches the last instant of its window (`window_time`): windows in order
//! of that instant, the groups of one in the order of their keys. Output is append-only, over updating input too. A group whose
//! last row was taken back is not sent.
//!
//! Late rows: those of windows that the row's own watermark, or the operator's, has closed; dropped and counted. Rows that are
//! taken back are late alike.
//!
//! A row that is taken back although its group never held it ends the job: the input contradicts itself.
//!
//! State: for each open window slots as those of the grouping without windows, `w<last instant in ms>` and such of items; dropped
//! whole when the window is sent. And the watermark.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use arrow::array::UInt32Array;
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::GroupAggregate;
use thalweg_state::{SlotChange, SlotId, StateDelta, StatePart};

use super::layout::GroupLayout;
use super::table::GroupTable;
use crate::changes::without_zeros;
use crate::event_times::event_times;
use crate::item_slots::ItemSlots;
use crate::stored_watermark::StoredWatermark;
use crate::{Operator, OperatorContext, OperatorMetrics, Output};

pub(crate) struct WindowedGroupsOperator {
    layout: GroupLayout,
    time_column: usize,
    time_name: String,
    windows: BTreeMap<i64, GroupTable>,
    /// Stored slots of windows that were sent.
    gone: Vec<SlotId>,
    watermark: StoredWatermark,
    late_rows: u64,
}

impl WindowedGroupsOperator {
    /// `time_column`: [`GroupAggregate::window_time`].
    /// # Errors
    /// `User` when an aggregate does not take its argument, `Internal` when the schemas do not belong to the node.
    pub(super) fn new(
        node: &GroupAggregate,
        time_column: usize,
        input: &SchemaRef,
        output: SchemaRef,
        context: &OperatorContext,
    ) -> Result<Self> {
        Ok(WindowedGroupsOperator {
            layout: GroupLayout::new(node, input, output, context.batch_rows)?,
            time_column,
            time_name: input.field(time_column).name().clone(),
            windows: BTreeMap::new(),
            gone: vec![],
            watermark: StoredWatermark::new(context.key_groups.clone()),
            late_rows: 0,
        })
    }

    fn take_in(&mut self, time: i64, batch: &Batch) -> Result<()> {
        let keys = self.layout.keys_of(batch);
        let table = table_of(&mut self.windows, &self.layout, time)?;
        let steps = table.step(&self.layout, batch, &keys)?;
        table.absorb(&self.layout, batch, &keys, &steps)?;
        table.finish(&steps);
        if table.len() == 0 {
            self.gone.extend(table.stored_slots());
            self.windows.remove(&time);
        }
        Ok(())
    }
}

fn table_of<'a>(windows: &'a mut BTreeMap<i64, GroupTable>, layout: &GroupLayout, time: i64) -> Result<&'a mut GroupTable> {
    Ok(match windows.entry(time) {
        Entry::Occupied(table) => table.into_mut(),
        Entry::Vacant(place) => place.insert(GroupTable::new(layout, format!("w{time}"))?),
    })
}

impl Operator for WindowedGroupsOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, _out: &mut Output) -> Result<()> {
        let batch = without_zeros(batch)?;
        let times = event_times(batch.column(self.time_column), &self.time_name)?;
        let watermarks = self.watermark.before_rows(batch.row_watermarks.as_ref(), batch.num_rows());
        let mut rows_of_window: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, (time, watermark)) in (0_u32..).zip(times.values().iter().zip(watermarks)) {
            if *time <= watermark {
                self.late_rows += 1;
            } else {
                rows_of_window.entry(*time).or_default().push(row);
            }
        }
        for (time, rows) in rows_of_window {
            let own = if rows.len() == batch.num_rows() { batch.clone() } else { batch.take(&UInt32Array::from(rows))? };
            self.take_in(time, &own)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.watermark.advance(watermark);
        while let Some(window) = self.windows.first_entry().filter(|window| *window.key() <= watermark.0) {
            let mut table = window.remove();
            self.gone.extend(table.stored_slots());
            table.all_results(&self.layout)?.into_iter().for_each(|rows| out.push(Batch::append(rows)));
        }
        Ok(())
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        input.max(self.watermark.now())
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        delta.changes.extend(self.gone.drain(..).map(|slot| (slot, SlotChange::Drop)));
        self.windows.values_mut().try_for_each(|table| table.snapshot(&self.layout, epoch, &mut delta))?;
        self.watermark.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let (watermarks, parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| self.watermark.owns(&part.slot));
        watermarks.iter().try_for_each(|part| self.watermark.restore(part))?;
        let mut parts_of_window: BTreeMap<i64, Vec<StatePart>> = BTreeMap::new();
        for part in parts {
            let base = ItemSlots::base(&part.slot).unwrap_or(&part.slot.0);
            let time: i64 = base
                .strip_prefix('w')
                .and_then(|time| time.parse().ok())
                .ok_or_else(|| Error::corrupt(format!("group state has a slot \"{}\"", part.slot)))?;
            parts_of_window.entry(time).or_default().push(part);
        }
        for (time, parts) in parts_of_window {
            table_of(&mut self.windows, &self.layout, time)?.restore(&self.layout, &parts)?;
        }
        // Other lanes' windows come too, without a row of ours.
        self.windows.retain(|_, table| table.len() > 0);
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.windows.values_mut().for_each(GroupTable::mark_all_dirty);
        self.watermark.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: self.late_rows,
            unmatched_rows: 0,
            state_bytes: self.windows.values().map(|table| table.size_bytes() as u64).sum(),
            state_rows: self.windows.values().map(|table| table.len() as u64).sum(),
        }
    }
}

#[cfg(test)]
mod tests;

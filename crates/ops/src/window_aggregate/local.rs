//! The phase before the exchange.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use hashbrown::HashMap;
use thalweg_core::{Batch, EventTime, Result};

use super::group_table::aggregate_rows;
use super::lateness::first_open_end;
use super::layout::{GroupColumns, WindowAggregateLayout};
use crate::event_times::event_times;
use crate::local_time::LocalTime;
use crate::window_bounds::WindowBounds;
use crate::{GroupKeys, Operator, OperatorContext, OperatorMetrics, Output};

/// Turns each batch of rows into partial states per (slice, eligible_from, key).
///
/// Input: the node's input. Output: `partial_schema`, one batch for each batch of input, groups in order of first arrival.
/// Keeps nothing between batches, so it has no state and no snapshot. Rows that are late for all of their windows are dropped
/// and counted. See the module's comment.
pub struct LocalWindowAggregate {
    layout: WindowAggregateLayout,
    bounds: WindowBounds,
    local_time: LocalTime,
    late_rows: u64,
}

/// Where a row goes: the end of its slice, and the end of the first window for which it is not late.
type Pane = (i64, i64);

impl LocalWindowAggregate {
    pub(crate) fn new(layout: WindowAggregateLayout, _context: &OperatorContext) -> Result<Self> {
        Ok(LocalWindowAggregate {
            bounds: WindowBounds::new(&layout.window),
            local_time: LocalTime::new(&layout.window.zone)?,
            layout,
            late_rows: 0,
        })
    }

    /// The panes of the batch's rows: the distinct ones, and the number of each row's pane; `None` for late rows.
    fn panes(&mut self, times: &Int64Array, row_watermarks: Option<&Int64Array>) -> (Vec<Pane>, Vec<Option<u32>>) {
        let mut panes: Vec<Pane> = vec![];
        let mut numbers: HashMap<Pane, u32> = HashMap::new();
        let mut pane_of_row = Vec::with_capacity(times.len());
        // Rows come mostly in order of time, so most are in the pane of the row before.
        let mut last: Option<(Pane, u32)> = None;
        for (row, instant) in times.values().iter().enumerate() {
            let slice_end = self.slice_end(*instant, last.map(|(pane, _)| pane.0));
            if let Some(((last_end, _), number)) = last
                && last_end == slice_end
                && row_watermarks.is_none()
            {
                pane_of_row.push(Some(number));
                continue;
            }
            let first_end = self.bounds.first_end(slice_end);
            let eligible_from = match row_watermarks.map(|watermarks| watermarks.value(row)) {
                Some(watermark) => first_open_end(&self.bounds, &self.local_time, slice_end, first_end, watermark),
                None => Some(first_end),
            };
            let Some(eligible_from) = eligible_from else {
                pane_of_row.push(None);
                continue;
            };
            let pane = (slice_end, eligible_from);
            let number = match last {
                Some((last_pane, number)) if last_pane == pane => number,
                _ => *numbers.entry(pane).or_insert_with(|| {
                    panes.push(pane);
                    panes.len() as u32 - 1
                }),
            };
            last = Some((pane, number));
            pane_of_row.push(Some(number));
        }
        (panes, pane_of_row)
    }

    fn slice_end(&mut self, instant: i64, guess: Option<i64>) -> i64 {
        let local = self.local_time.local(instant);
        match guess {
            Some(end) if local < end && end.saturating_sub(self.bounds.slice_ms()) <= local => end,
            _ => self.bounds.slice_end(local),
        }
    }

    /// Groups the rows of `batch` by pane and key.
    fn group(&self, batch: &Batch, panes: usize, pane_of_row: &[u32]) -> Result<Grouped> {
        let mut columns: Vec<ArrayRef> = self.layout.keys.iter().map(|key| batch.column(*key).clone()).collect();
        let mut fields: Vec<FieldRef> = self.layout.key_fields.clone();
        if panes > 1 {
            columns.push(Arc::new(UInt32Array::from(pane_of_row.to_vec())));
            fields.push(Arc::new(Field::new("pane", DataType::UInt32, false)));
        }
        let mut group_keys = GroupKeys::new(&fields)?;
        let mut group_of_row = vec![];
        let first_rows = group_keys.intern(&columns, pane_of_row.len(), &mut group_of_row)?;
        let mut keys = group_keys.columns()?;
        keys.truncate(self.layout.keys.len());
        Ok(Grouped { group_of_row, first_rows, keys })
    }
}

/// The rows of a batch by group.
struct Grouped {
    group_of_row: Vec<usize>,
    /// The first row of each group.
    first_rows: Vec<u32>,
    /// The key columns, a row for each group.
    keys: Vec<ArrayRef>,
}

impl Operator for LocalWindowAggregate {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let times = event_times(batch.column(self.layout.time_column), &self.layout.time_name)?;
        let (panes, pane_of_row) = self.panes(&times, batch.row_watermarks.as_ref());
        let on_time: Vec<u32> = pane_of_row.iter().flatten().copied().collect();
        let late_rows = batch.num_rows() - on_time.len();
        self.late_rows += late_rows as u64;
        if on_time.is_empty() {
            return Ok(());
        }
        let batch = match late_rows {
            0 => batch,
            _ => batch.filter(&BooleanArray::from_iter(pane_of_row.iter().map(|pane| Some(pane.is_some()))))?,
        };

        let grouped = self.group(&batch, panes.len(), &on_time)?;
        let (rows, states) = aggregate_rows(&self.layout, &batch, &grouped.group_of_row, grouped.first_rows.len())?;
        let pane_of_group = || grouped.first_rows.iter().map(|row| panes[on_time[*row as usize] as usize]);
        let slice_ends = Int64Array::from_iter_values(pane_of_group().map(|pane| pane.0));
        let eligible_from = Int64Array::from_iter_values(pane_of_group().map(|pane| pane.1));
        let groups = GroupColumns { keys: grouped.keys, rows, states };
        let partial = self.layout.partial_batch(slice_ends, eligible_from, groups)?;
        out.push(partial.into());
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics { late_rows: self.late_rows, ..OperatorMetrics::default() }
    }
}

//! ORDER BY event time: rows in the order of time.
//!
//! Ordering: by time, then by the further columns, then by arrival; rows come when the watermark reaches their time.
//!
//! Late rows: a row is dropped and counted if rows of its time or a later one have been sent: so the output is always in order.
//! Sent is, for a row, what the watermark of its own partition, or the operator's, lets out. Another late row comes with the next
//! watermark, as in Flink.
//!
//! State: an [`Arrangement`] `rows` with the rows that wait, each with the watermark that lets it out; a slot `sent` with the time
//! of the last row that was sent; the watermark.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use thalweg_core::{Batch, Epoch, EventTime, Result};
use thalweg_plan::TemporalSort;
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::append_only;
use crate::event_times::event_times;
use crate::keyed_table::KeyedTable;
use crate::sort_order::{Place, SortOrder};
use crate::stored_watermark::{StoredWatermark, without_watermark};
use crate::{Operator, OperatorContext, OperatorMetrics, Output};

pub(crate) struct TemporalSortOperator {
    time_column: usize,
    time_name: String,
    order: SortOrder,
    rows: Arrangement,
    /// By the watermark that lets a row out, then by time: the same, but for late rows.
    waiting: BTreeSet<(i64, i64, Place, RowId)>,
    /// Whether a row was sent, and the time of the last one.
    sent: KeyedTable<2>,
    watermark: StoredWatermark,
    late_rows: u64,
    schema: SchemaRef,
    /// The input's columns and the watermark that lets a row out.
    stored: SchemaRef,
    batch_rows: usize,
}

impl TemporalSortOperator {
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(node: &TemporalSort, input: &SchemaRef, context: &OperatorContext) -> Result<Self> {
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("passes_at", DataType::Int64, false)));
        let stored: SchemaRef = Arc::new(Schema::new(fields));
        Ok(TemporalSortOperator {
            time_column: node.time_column,
            time_name: input.field(node.time_column).name().clone(),
            order: SortOrder::new(&node.order, input)?,
            rows: Arrangement::unindexed("rows", &stored, &[])?,
            waiting: BTreeSet::new(),
            sent: KeyedTable::new("sent", &[], ["any", "time"])?,
            watermark: StoredWatermark::new(context.key_groups.clone()),
            late_rows: 0,
            schema: input.clone(),
            stored,
            batch_rows: context.batch_rows.max(1),
        })
    }

    /// The time of the last row that is out once the watermark is `watermark`; `None` when there is none.
    fn last_time(&self, watermark: i64) -> Option<i64> {
        let [any, time] = self.sent.get(&[]);
        let mut last = (any != 0).then_some(time);
        // Of rows that are not late the last one to come out is the newest; only late ones behind it may be older.
        let end = (watermark.saturating_add(1), i64::MIN, Place::from([]), 0);
        for (passes_at, time, ..) in self.waiting.range(..end).rev() {
            last = last.max(Some(*time));
            if passes_at == time {
                break;
            }
        }
        last
    }
}

impl Operator for TemporalSortOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, _out: &mut Output) -> Result<()> {
        let batch = append_only(batch)?;
        let times = event_times(batch.column(self.time_column), &self.time_name)?;
        let places = self.order.places(&batch.rows)?;
        let first = self.rows.next_id();
        let (mut mask, mut passes) = (vec![], vec![]);
        for (row, time) in times.values().iter().enumerate() {
            let own =
                batch.row_watermarks.as_ref().map_or(i64::MIN, |watermarks| watermarks.value(row)).max(self.watermark.now().0);
            let is_behind = *time <= own && own > i64::MIN;
            let is_late = is_behind && self.last_time(own).is_some_and(|last| *time <= last);
            mask.push(!is_late);
            if !is_late {
                let passes_at = if is_behind { own.saturating_add(1) } else { *time };
                self.waiting.insert((passes_at, *time, places.of(row).into(), first + passes.len() as RowId));
                passes.push(passes_at);
            }
        }
        self.late_rows += (batch.num_rows() - passes.len()) as u64;
        if passes.is_empty() {
            return Ok(());
        }
        let mut columns = batch.filter(&BooleanArray::from(mask))?.rows.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(passes)));
        let kept = Batch::append(RecordBatch::try_new(self.stored.clone(), columns)?);
        let keys = self.rows.keys_of(&kept.rows)?;
        self.rows.apply(&kept, &keys)?;
        self.rows.tidy()
    }

    fn on_watermark(&mut self, _port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.watermark.advance(watermark);
        let reached = self.watermark.now().0;
        while self.waiting.first().is_some_and(|(passes_at, ..)| *passes_at <= reached) {
            let mut ids = vec![];
            while ids.len() < self.batch_rows
                && let Some(first) = self.waiting.first().filter(|(passes_at, ..)| *passes_at <= reached).cloned()
            {
                self.waiting.remove(&first);
                self.sent.set(&[], [1, first.1]);
                ids.push(Some(first.3));
            }
            let columns = self.rows.gather(&ids, &(0..self.schema.fields().len()).collect::<Vec<_>>())?;
            out.push(Batch::append(RecordBatch::try_new(self.schema.clone(), columns)?));
            ids.into_iter().flatten().for_each(|id| self.rows.remove(id, &[]));
        }
        self.rows.tidy()
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        input.max(self.watermark.now())
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        self.sent.snapshot(&mut delta)?;
        self.watermark.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let parts = without_watermark(parts, &mut self.watermark)?;
        let (sent, rows): (Vec<StatePart>, Vec<StatePart>) = parts.into_iter().partition(|part| self.sent.owns(&part.slot));
        self.sent.restore(&sent)?;
        self.rows.restore(&rows)?;
        for (rows, ids) in self.rows.live_chunks()? {
            let columns: Vec<ArrayRef> = rows.columns()[..self.schema.fields().len()].to_vec();
            let times = event_times(&columns[self.time_column], &self.time_name)?;
            let places = self.order.places(&RecordBatch::try_new(self.schema.clone(), columns)?)?;
            let passes = rows.column(self.schema.fields().len()).as_primitive::<Int64Type>();
            for (row, id) in ids.iter().enumerate() {
                self.waiting.insert((passes.value(row), times.value(row), places.of(row).into(), *id));
            }
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
        self.sent.mark_all_dirty();
        self.watermark.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: self.late_rows,
            unmatched_rows: 0,
            state_bytes: self.rows.size_bytes() as u64,
            state_rows: self.rows.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests;

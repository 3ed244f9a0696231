//! ORDER BY event time: rows in the order of time.
//!
//! Ordering: by time, then by the further columns, then by arrival; rows come when the watermark reaches their time.
//!
//! Late rows: those at or behind their own partition's watermark are dropped and counted, as in Flink: rows of that time have been
//! sent.
//!
//! State: an [`Arrangement`] `rows` with the rows that wait.

use std::collections::BTreeSet;

use arrow::array::BooleanArray;
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, EventTime, Result};
use thalweg_plan::TemporalSort;
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::event_times::event_times;
use crate::sort_order::{Place, SortOrder};
use crate::{Operator, OperatorMetrics, Output};

pub(crate) struct TemporalSortOperator {
    time_column: usize,
    time_name: String,
    order: SortOrder,
    rows: Arrangement,
    waiting: BTreeSet<(i64, Place, RowId)>,
    late_rows: u64,
    schema: SchemaRef,
    batch_rows: usize,
}

impl TemporalSortOperator {
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(node: &TemporalSort, input: &SchemaRef, batch_rows: usize) -> Result<Self> {
        Ok(TemporalSortOperator {
            time_column: node.time_column,
            time_name: input.field(node.time_column).name().clone(),
            order: SortOrder::new(&node.order, input)?,
            rows: Arrangement::new("rows", input, &[], false)?,
            waiting: BTreeSet::new(),
            late_rows: 0,
            schema: input.clone(),
            batch_rows: batch_rows.max(1),
        })
    }

    fn wait(&mut self, rows: &arrow::array::RecordBatch, ids: &[RowId]) -> Result<()> {
        let times = event_times(rows.column(self.time_column), &self.time_name)?;
        let places = self.order.places(rows)?;
        for (row, id) in ids.iter().enumerate() {
            self.waiting.insert((times.value(row), places.of(row).into(), *id));
        }
        Ok(())
    }
}

impl Operator for TemporalSortOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, _out: &mut Output) -> Result<()> {
        let times = event_times(batch.column(self.time_column), &self.time_name)?;
        let own = |row: usize| batch.row_watermarks.as_ref().map_or(i64::MIN, |watermarks| watermarks.value(row));
        let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(times.value(row) > own(row))).collect();
        self.late_rows += (batch.num_rows() - mask.true_count()) as u64;
        let kept = Batch::append(batch.filter(&mask)?.rows);
        let keys = self.rows.keys_of(&kept.rows)?;
        let ids = self.rows.apply(&kept, &keys)?;
        self.wait(&kept.rows, &ids)?;
        self.rows.tidy()
    }

    fn on_watermark(&mut self, _port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        while self.waiting.first().is_some_and(|(time, ..)| *time <= watermark.0) {
            let mut ids = vec![];
            while ids.len() < self.batch_rows
                && let Some(first) = self.waiting.first().filter(|(time, ..)| *time <= watermark.0).cloned()
            {
                self.waiting.remove(&first);
                ids.push(Some(first.2));
            }
            let columns = self.rows.gather(&ids, &(0..self.schema.fields().len()).collect::<Vec<_>>())?;
            out.push(Batch::append(arrow::array::RecordBatch::try_new(self.schema.clone(), columns)?));
            ids.into_iter().flatten().for_each(|id| self.rows.remove(id, &[]));
        }
        self.rows.tidy()
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.rows.restore(&parts)?;
        for (rows, ids) in self.rows.live_chunks()? {
            self.wait(&rows, &ids)?;
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: self.late_rows,
            state_bytes: self.rows.size_bytes() as u64,
            state_rows: self.rows.len() as u64,
        }
    }
}

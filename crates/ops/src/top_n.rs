//! Top-N: the first rows of each partition, and LIMIT.
//!
//! Ordering: by the order keys, rows of equal order by arrival, earlier first. Rows of updating input that are equal in all columns
//! cannot be told apart: they stand together where the first of them came. Output follows input row by row, as in Flink:
//!
//! - with the rank: each rank whose row changes gives the old row, then the new one (an update); a new last rank is added, a
//!   last one that goes is taken away;
//! - without it: the row that leaves the range, then the row that enters it. For the very first row of append-only input this is
//!   an update.
//!
//! RANK and DENSE_RANK (not in Flink) give all rows of a partition whose rank changes.
//!
//! Late rows: there are none, time plays no part. Watermarks pass through. If input rows carry watermarks each change carries that
//! of the row that caused it: a row that enters or leaves the range may be late for its window by then.
//!
//! State: an [`Arrangement`] `rows`. Over append-only input it holds the rows in range and those before it; without an order not
//! even these, but only how many have come (slot `counts`: `[key_group, partition…, rows]`). Over updating input it holds all
//! rows. A row goes when it is pushed out or taken back.

mod limit;
mod partition;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::TopN;
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, NO_ROW, RowId};
use crate::changes::{CameBehind, append_only, without_zeros};
use crate::sort_order::SortOrder;
use crate::{Operator, OperatorMetrics, Output};
use limit::LimitOperator;
pub(crate) use partition::{Partition, Ranked, Ranking};

pub(crate) struct TopNOperator {
    order: SortOrder,
    ranking: Ranking,
    input_updating: bool,
    rows: Arrangement,
    partitions: HashMap<Box<[u8]>, Partition>,
    input_schema: SchemaRef,
    output_schema: SchemaRef,
    batch_rows: usize,
}

impl TopNOperator {
    /// # Errors
    /// `User` for columns that cannot be compared, `Internal` when the schemas do not belong to the node.
    pub(crate) fn create(node: &TopN, input: &SchemaRef, output: SchemaRef, batch_rows: usize) -> Result<Box<dyn Operator>> {
        if output.fields().len() != input.fields().len() + usize::from(node.output_rank) {
            return Err(Error::internal("Top-N gives its input's columns and the rank"));
        }
        if node.order.is_empty() && !node.input_updating {
            return Ok(Box::new(LimitOperator::new(node, input, output)?));
        }
        Ok(Box::new(TopNOperator {
            order: SortOrder::new(&node.order, input)?,
            ranking: Ranking {
                function: node.function,
                range: node.range,
                with_rank: node.output_rank,
                updates_first: !node.input_updating,
            },
            input_updating: node.input_updating,
            rows: Arrangement::new("rows", input, &node.partition, node.input_updating)?,
            partitions: HashMap::new(),
            input_schema: input.clone(),
            output_schema: output,
            batch_rows: batch_rows.max(1),
        }))
    }

    /// The rows of append-only input that may enter the range: those behind the last row of a full partition never can.
    fn candidates(&self, batch: Batch) -> Result<Batch> {
        let Some(limit) = self.ranking.rows_kept() else {
            return Ok(batch);
        };
        let keys = self.rows.keys_of(&batch.rows)?;
        let places = self.order.places(&batch.rows)?;
        let may_enter = |row: usize| match self.partitions.get(keys.key(row)) {
            Some(partition) => partition.may_enter(places.of(row), limit),
            None => true,
        };
        let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(may_enter(row))).collect();
        Ok(if mask.true_count() == batch.num_rows() { batch } else { batch.filter(&mask)? })
    }

    fn emit(&self, ranked: Ranked, out: &mut Output) -> Result<()> {
        let batch = ranked_batch(&self.rows, &self.input_schema, &self.output_schema, ranked)?;
        for offset in (0..batch.num_rows()).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(batch.num_rows() - offset)));
        }
        Ok(())
    }
}

/// Ranked rows as a batch, with the rank if the schema has a column for it.
pub(crate) fn ranked_batch(
    rows: &Arrangement,
    input_schema: &SchemaRef,
    output_schema: &SchemaRef,
    ranked: Ranked,
) -> Result<Batch> {
    let width = input_schema.fields().len();
    let ids: Vec<Option<RowId>> = ranked.ids.iter().map(|id| Some(*id)).collect();
    let mut columns: Vec<ArrayRef> = rows.gather(&ids, &(0..width).collect::<Vec<_>>())?;
    if output_schema.fields().len() > width {
        columns.push(Arc::new(Int64Array::from(ranked.ranks)));
    }
    ranked.changes.into_batch(output_schema, columns)
}

impl Operator for TopNOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = if self.input_updating { without_zeros(batch)? } else { self.candidates(append_only(batch)?)? };
        let keys = self.rows.keys_of(&batch.rows)?;
        let places = self.order.places(&batch.rows)?;
        let ids = self.rows.apply(&batch, &keys)?;
        let mut ranked = Ranked::caused_by(&batch);
        let mut pushed_out: Vec<(RowId, usize)> = vec![];
        for (row, id) in ids.into_iter().enumerate().filter(|(_, id)| *id != NO_ROW) {
            let key = keys.key(row);
            if !self.partitions.contains_key(key) {
                self.partitions.insert(key.into(), Partition::default());
            }
            let partition = self.partitions.get_mut(key).expect("just made");
            let weight = batch.weight(row);
            ranked.changes.set_cause(CameBehind::row(&batch, row));
            for _ in 0..weight.unsigned_abs() {
                if weight > 0 {
                    partition.insert(&self.ranking, places.of(row), id, &mut ranked);
                } else {
                    partition.remove(&self.ranking, places.of(row), id, &mut ranked);
                }
                if !self.input_updating {
                    partition.cut(&self.ranking, |id| pushed_out.push((id, row)));
                }
            }
            if partition.is_empty() {
                self.partitions.remove(key);
            }
            if ranked.ids.len() >= self.batch_rows {
                self.emit(std::mem::replace(&mut ranked, Ranked::caused_by(&batch)), out)?;
            }
        }
        self.emit(ranked, out)?;
        for (id, row) in pushed_out {
            self.rows.remove(id, keys.key(row));
        }
        self.rows.tidy()
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn ignore_unmatched(&mut self) {
        self.rows.unmatched.ignore();
    }

    fn forget(&mut self, key: &[u8]) -> Result<()> {
        self.partitions.remove(key);
        self.rows.remove_key(key)?;
        self.rows.tidy()
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        if let Some(other) = parts.iter().find(|part| !self.rows.owns(&part.slot)) {
            return Err(Error::corrupt(format!("the state of Top-N has a slot \"{}\"", other.slot)));
        }
        self.rows.restore(&parts)?;
        for (rows, ids) in self.rows.live_chunks()? {
            let keys = self.rows.keys_of(&rows)?;
            let places = self.order.places(&rows)?;
            for (row, id) in ids.into_iter().enumerate() {
                let partition = self.partitions.entry_ref(keys.key(row)).or_default();
                for _ in 0..self.rows.weight(id) {
                    partition.add(places.of(row), id);
                }
            }
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        let places: usize = self.partitions.values().map(Partition::size_bytes).sum();
        OperatorMetrics {
            late_rows: 0,
            unmatched_rows: self.rows.unmatched.rows(),
            state_bytes: (self.rows.size_bytes() + places) as u64,
            state_rows: self.rows.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests;

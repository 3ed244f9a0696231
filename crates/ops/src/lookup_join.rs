//! Lookup joins: each row with the rows that a table outside holds for its key when the row comes by. INNER or LEFT.
//!
//! Ordering: output follows input row by row; the matches of a row come in the order of the table. A row of a LEFT join without a
//! match comes once, padded with nulls. Keys with a null match nothing, unless the key says that nulls match, and are not asked
//! for. Each output row keeps weight, mark and row watermark of its input row: a row that is taken back looks up what the table
//! holds *then*, as in Flink, so over a changing input the table should not change what it holds for a key.
//!
//! The table is asked once for each input batch; the matches may be many more than fit into memory and come in batches, see
//! [`Operator::resume`].
//!
//! Late rows: there are none, time plays no part. Watermarks pass through.
//!
//! State: none. What the table holds in memory shows as the operator's size.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use thalweg_core::{Batch, Error, EventTime, LookupTable, Result};
use thalweg_plan::{JoinKind, LookupJoin};

use crate::changes::without_zeros;
use crate::join::PairCondition;
use crate::{Operator, OperatorMetrics, Output};

pub(crate) struct LookupJoinOperator {
    is_left: bool,
    table: Box<dyn LookupTable>,
    /// Columns of the input that are looked up by.
    keys: Vec<usize>,
    /// Those whose null matches nothing.
    strict_keys: Vec<usize>,
    /// What the table is asked with.
    key_schema: SchemaRef,
    condition: Option<PairCondition>,
    output_schema: SchemaRef,
    batch_rows: usize,
    /// The input whose matches are not all out yet.
    pending: Option<Pending>,
}

/// A batch with what was found for it.
struct Pending {
    batch: Batch,
    found: RecordBatch,
    /// For each row of the batch its candidates in `found`.
    ranges: Vec<Range<usize>>,
    /// The row that comes next, how many of its candidates were looked at, and whether one of them matched.
    row: usize,
    candidate: usize,
    is_matched: bool,
}

impl LookupJoinOperator {
    /// `table` gives rows under the fields of the node.
    /// # Errors
    /// `Internal` for another kind than INNER and LEFT.
    pub(crate) fn new(
        node: &LookupJoin,
        input: &SchemaRef,
        output: SchemaRef,
        table: Box<dyn LookupTable>,
        batch_rows: usize,
    ) -> Result<Self> {
        if !matches!(node.kind, JoinKind::Inner | JoinKind::Left) {
            return Err(Error::internal(format!("a lookup join cannot be a {} join", node.kind.name())));
        }
        let fields: Vec<FieldRef> = node.fields.iter().map(|field| field.field().clone()).collect();
        let key_fields: Vec<FieldRef> =
            node.keys.iter().map(|key| Arc::new(fields[key.right].as_ref().clone().with_nullable(true))).collect();
        let right: SchemaRef = Arc::new(Schema::new(fields));
        Ok(LookupJoinOperator {
            is_left: node.kind == JoinKind::Left,
            table,
            keys: node.keys.iter().map(|key| key.left).collect(),
            strict_keys: node.keys.iter().filter(|key| !key.nulls_match).map(|key| key.left).collect(),
            key_schema: Arc::new(Schema::new(key_fields)),
            condition: node.condition.as_ref().map(|condition| PairCondition::new(condition, input, &right)).transpose()?,
            output_schema: output,
            batch_rows: batch_rows.max(1),
            pending: None,
        })
    }

    fn look_up(&mut self, batch: Batch) -> Result<Pending> {
        let can_match = |row: &u32| self.strict_keys.iter().all(|key| !batch.column(*key).is_null(*row as usize));
        let count = u32::try_from(batch.num_rows()).map_err(|_| Error::internal("a batch has more than 4 billion rows"))?;
        let asked: Vec<u32> = (0..count).filter(can_match).collect();
        let rows = UInt32Array::from(asked.clone());
        let columns = self.keys.iter().map(|key| match asked.len() == batch.num_rows() {
            true => Ok(batch.column(*key).clone()),
            false => Ok(take(batch.column(*key), &rows, None)?),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(asked.len()));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let keys = RecordBatch::try_new_with_options(self.key_schema.clone(), columns, &options)?;
        let found = self.table.lookup(&keys)?;
        if found.ranges.len() != asked.len() {
            return Err(Error::internal(format!("{} keys were looked up and {} answered", asked.len(), found.ranges.len())));
        }
        let mut ranges = vec![0..0; batch.num_rows()];
        for (row, range) in asked.into_iter().zip(found.ranges) {
            ranges[row as usize] = range;
        }
        Ok(Pending { batch, found: found.rows, ranges, row: 0, candidate: 0, is_matched: false })
    }

    /// Sends the next batch of output; returns whether there may be more.
    fn advance(&self, pending: &mut Pending, out: &mut Output) -> Result<bool> {
        let first = pending.row;
        let mut candidates: Vec<(u32, u32)> = vec![];
        while pending.row < pending.batch.num_rows() && candidates.len() < self.batch_rows {
            let range = pending.ranges[pending.row].clone();
            let start = range.start + pending.candidate;
            let end = range.end.min(start + self.batch_rows - candidates.len());
            for place in start..end {
                let place = u32::try_from(place).map_err(|_| Error::internal("more than 4 billion rows were looked up"))?;
                candidates.push((pending.row as u32, place));
            }
            if end < range.end {
                pending.candidate = end - range.start;
            } else {
                pending.row += 1;
                pending.candidate = 0;
            }
        }
        let mut matching = self.matching(pending, candidates)?.into_iter().peekable();
        let (mut own, mut other): (Vec<u32>, Vec<Option<u32>>) = (vec![], vec![]);
        for row in first..pending.batch.num_rows().min(pending.row + 1) {
            while let Some((_, place)) = matching.next_if(|(at, _)| *at as usize == row) {
                pending.is_matched = true;
                own.push(row as u32);
                other.push(Some(place));
            }
            if row < pending.row && !std::mem::take(&mut pending.is_matched) && self.is_left {
                own.push(row as u32);
                other.push(None);
            }
        }
        self.emit(pending, own, other, out)?;
        Ok(pending.row < pending.batch.num_rows())
    }

    /// Those of the candidates for which the condition is true.
    fn matching(&self, pending: &Pending, candidates: Vec<(u32, u32)>) -> Result<Vec<(u32, u32)>> {
        let Some(condition) = self.condition.as_ref().filter(|_| !candidates.is_empty()) else {
            return Ok(candidates);
        };
        let own = UInt32Array::from_iter_values(candidates.iter().map(|(row, _)| *row));
        let other = UInt32Array::from_iter_values(candidates.iter().map(|(_, place)| *place));
        let left = condition.left.iter().map(|column| take(pending.batch.column(*column), &own, None));
        let right = condition.right.iter().map(|column| take(pending.found.column(*column), &other, None));
        let columns = left.chain(right).collect::<Result<Vec<ArrayRef>, _>>()?;
        let passing = condition.passing(columns, candidates.len())?;
        Ok(candidates.into_iter().zip(passing.values().iter()).filter(|(_, passes)| *passes).map(|(pair, _)| pair).collect())
    }

    fn emit(&self, pending: &Pending, own: Vec<u32>, other: Vec<Option<u32>>, out: &mut Output) -> Result<()> {
        if own.is_empty() {
            return Ok(());
        }
        let left = pending.batch.take(&UInt32Array::from(own))?;
        let other = UInt32Array::from(other);
        let mut columns = left.rows.columns().to_vec();
        for column in pending.found.columns() {
            columns.push(take(column, &other, None)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(left.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.output_schema.clone(), columns, &options)?;
        let batch = left.with_rows(rows);
        for offset in (0..batch.num_rows()).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(batch.num_rows() - offset)));
        }
        Ok(())
    }
}

impl Operator for LookupJoinOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        assert!(self.pending.is_none(), "the output of a batch is taken before the next batch comes");
        let mut pending = self.look_up(without_zeros(batch)?)?;
        if self.advance(&mut pending, out)? {
            self.pending = Some(pending);
        }
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let Some(mut pending) = self.pending.take() else {
            return Ok(false);
        };
        if self.advance(&mut pending, out)? {
            self.pending = Some(pending);
        }
        Ok(true)
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics { state_bytes: self.table.memory_bytes(), ..OperatorMetrics::default() }
    }
}

#[cfg(test)]
mod tests;

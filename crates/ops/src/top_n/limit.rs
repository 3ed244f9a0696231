//! LIMIT without an order over append-only input: the first rows that come. Nothing ever leaves, so only a count is kept.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, EventTime, Result};
use thalweg_plan::{RankRange, TopN};
use thalweg_state::{StateDelta, StatePart};

use crate::changes::append_only;
use crate::keyed_table::KeyedTable;
use crate::running::canonical_floats;
use crate::{Operator, OperatorMetrics, Output};

pub(super) struct LimitOperator {
    partition: Vec<usize>,
    range: RankRange,
    output_rank: bool,
    /// Rows seen of each partition, as far as the end of the range.
    seen: KeyedTable<1>,
    output_schema: SchemaRef,
}

impl LimitOperator {
    pub(super) fn new(node: &TopN, input: &SchemaRef, output: SchemaRef) -> Result<Self> {
        let fields: Vec<_> = node.partition.iter().map(|column| input.fields()[*column].clone()).collect();
        Ok(LimitOperator {
            partition: node.partition.clone(),
            range: node.range,
            output_rank: node.output_rank,
            seen: KeyedTable::new("counts", &fields, ["rows"])?,
            output_schema: output,
        })
    }
}

impl Operator for LimitOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = append_only(batch)?;
        let columns: Vec<ArrayRef> = self.partition.iter().map(|column| canonical_floats(batch.column(*column))).collect();
        let keys = self.seen.encode(&columns, batch.num_rows())?;
        let mut ranks = vec![];
        let mut mask = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let [seen] = self.seen.get(keys.key(row));
            let rank = seen.saturating_add(1);
            let is_over = self.range.end.is_some_and(|end| rank as u64 > end);
            if !is_over {
                self.seen.set(keys.key(row), [rank]);
            }
            let is_wanted = !is_over && rank as u64 >= self.range.start;
            mask.push(is_wanted);
            if is_wanted {
                ranks.push(rank);
            }
        }
        let rows = batch.filter(&BooleanArray::from(mask))?;
        let mut columns = rows.rows.columns().to_vec();
        if self.output_rank {
            columns.push(Arc::new(Int64Array::from(ranks)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let ranked = RecordBatch::try_new_with_options(self.output_schema.clone(), columns, &options)?;
        out.push(rows.with_rows(ranked));
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn forget(&mut self, key: &[u8]) -> Result<()> {
        self.seen.set(key, [0]);
        Ok(())
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.seen.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.seen.restore(&parts)
    }

    fn mark_all_dirty(&mut self) {
        self.seen.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: 0,
            unmatched_rows: 0,
            state_bytes: self.seen.size_bytes() as u64,
            state_rows: self.seen.len() as u64,
        }
    }
}

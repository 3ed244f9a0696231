//! INTERSECT and EXCEPT, with and without ALL.
//!
//! How often each row has come is counted for both inputs, rows with equal columns (nulls equal) being the same. Output: the
//! change of how often the row belongs to the result, behind each input row that changes it: with ALL the smaller count
//! (INTERSECT) or the left less the right (EXCEPT, not below 0), otherwise once or not at all.
//!
//! Late rows: there are none, time plays no part. Watermarks pass through.
//!
//! State: one slot, `counts`: `[key_group, columns…, left, right]`. A row goes when both of its counts are 0.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{SetKind, SetOperation};
use thalweg_state::{StateDelta, StatePart};

use crate::changes::{Changes, is_update};
use crate::eval::value_text;
use crate::keyed_table::KeyedTable;
use crate::running::canonical_floats;
use crate::unmatched::Unmatched;
use crate::{Operator, OperatorMetrics, Output};

pub(crate) struct SetOperationOperator {
    operation: SetOperation,
    counts: KeyedTable<2>,
    unmatched: Unmatched,
    output_schema: SchemaRef,
}

impl SetOperationOperator {
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(operation: &SetOperation, left: &SchemaRef, output: SchemaRef) -> Result<Self> {
        // A column that is never null on the left may be so on the right.
        let fields: Vec<_> =
            left.fields().iter().map(|field| std::sync::Arc::new(field.as_ref().clone().with_nullable(true))).collect();
        Ok(SetOperationOperator {
            operation: *operation,
            counts: KeyedTable::new("counts", &fields, ["left", "right"])?,
            unmatched: Unmatched::default(),
            output_schema: output,
        })
    }

    /// How often a row belongs to the result.
    fn result(&self, [left, right]: [i64; 2]) -> i64 {
        match (self.operation.kind, self.operation.all) {
            (SetKind::Intersect, true) => left.min(right),
            (SetKind::Except, true) => (left - right).max(0),
            (SetKind::Intersect, false) => i64::from(left > 0 && right > 0),
            (SetKind::Except, false) => i64::from(left > 0 && right == 0),
        }
    }
}

impl Operator for SetOperationOperator {
    fn on_batch(&mut self, port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let columns: Vec<ArrayRef> = batch.rows.columns().iter().map(canonical_floats).collect();
        let keys = self.counts.encode(&columns, batch.num_rows())?;
        let (mut rows, mut changes) = (vec![], Changes::default());
        for row in 0..batch.num_rows() {
            let before = self.counts.get(keys.key(row));
            let mut after = before;
            after[port] =
                after[port].checked_add(batch.weight(row)).ok_or_else(|| Error::record("a row is there too often to count"))?;
            if after[port] < 0 {
                self.unmatched.note(|| {
                    let values: Vec<String> = columns.iter().take(8).map(|column| value_text(column, row)).collect();
                    Error::record(format!("a row is taken back that is not there: ({})", values.join(", ")))
                        .with_help("the changes of the input do not fit together: more rows were taken back than came")
                })?;
                after[port] = 0;
            }
            if after != before {
                self.counts.set(keys.key(row), after);
            }
            let change = self.result(after) - self.result(before);
            if change != 0 {
                rows.push(row as u32);
                changes.push(change, is_update(&batch, row));
            }
        }
        let rows = UInt32Array::from(rows);
        let columns = columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<Vec<_>>>()?;
        out.push(changes.into_batch(&self.output_schema, columns)?);
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn ignore_unmatched(&mut self) {
        self.unmatched.ignore();
    }

    fn forget(&mut self, key: &[u8]) -> Result<()> {
        self.counts.set(key, [0, 0]);
        Ok(())
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.counts.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.counts.restore(&parts)
    }

    fn mark_all_dirty(&mut self) {
        self.counts.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: 0,
            unmatched_rows: self.unmatched.rows(),
            state_bytes: self.counts.size_bytes() as u64,
            state_rows: self.counts.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests;

//! One row for each primary key of a sink, where the query's own key is another.
//!
//! The rows of each key are kept in order of arrival. Of them one is shown: the last (DEDUPLICATE), the first (NOTHING), or the
//! only one, a second being an error (ERROR). Output: the change of the shown row, behind each input row that changes it.
//!
//! Late rows: there are none, time plays no part. Watermarks pass through.
//!
//! State: an [`Arrangement`] `rows` with all rows. A row goes when it is taken back.

use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{Conflict, SinkMaterialize};
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::{Changes, without_zeros};
use crate::eval::value_text;
use crate::{Operator, OperatorMetrics, Output};

pub(crate) struct SinkMaterializeOperator {
    keys: Vec<usize>,
    conflict: Conflict,
    rows: Arrangement,
    width: usize,
    output_schema: SchemaRef,
}

impl SinkMaterializeOperator {
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(node: &SinkMaterialize, input: &SchemaRef, output: SchemaRef) -> Result<Self> {
        Ok(SinkMaterializeOperator {
            keys: node.keys.clone(),
            conflict: node.conflict,
            rows: Arrangement::new("rows", input, &node.keys, true)?,
            width: input.fields().len(),
            output_schema: output,
        })
    }

    fn shown(&self, ids: &[RowId]) -> Option<RowId> {
        match self.conflict {
            Conflict::Deduplicate => ids.last().copied(),
            Conflict::Nothing | Conflict::Error => ids.first().copied(),
        }
    }

    fn check(&self, batch: &Batch, row: usize, ids: &[RowId]) -> Result<()> {
        if self.conflict != Conflict::Error || ids.iter().map(|id| self.rows.weight(*id)).sum::<i64>() <= 1 {
            return Ok(());
        }
        let schema = batch.schema();
        let values: Vec<String> = self
            .keys
            .iter()
            .map(|key| format!("{} = {}", schema.field(*key).name(), value_text(batch.column(*key), row)))
            .collect();
        Err(Error::record(format!("two rows have the primary key {}", values.join(", ")))
            .with_help("ON CONFLICT DO DEDUPLICATE keeps the last of them, DO NOTHING the first"))
    }
}

impl Operator for SinkMaterializeOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = without_zeros(batch)?;
        let keys = self.rows.keys_of(&batch.rows)?;
        let (mut ids, mut changes) = (vec![], Changes::default());
        for row in 0..batch.num_rows() {
            let key = keys.key(row);
            let before = self.shown(self.rows.of_key(key));
            let one = batch.slice(row, 1);
            let one_key = self.rows.keys_of(&one.rows)?;
            self.rows.apply(&one, &one_key)?;
            let now = self.rows.of_key(key);
            // Of a changelog the new half of an update may come before the old one went.
            if batch.weight(row) > 0 {
                self.check(&batch, row, now)?;
            }
            let after = self.shown(now);
            if before == after {
                continue;
            }
            let is_update = before.is_some() && after.is_some();
            for (id, weight) in [(before, -1), (after, 1)] {
                if id.is_some() {
                    ids.push(id);
                    changes.push(weight, is_update);
                }
            }
        }
        let columns = self.rows.gather(&ids, &(0..self.width).collect::<Vec<_>>())?;
        out.push(changes.into_batch(&self.output_schema, columns)?);
        self.rows.tidy()
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.rows.restore(&parts)
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics { late_rows: 0, state_bytes: self.rows.size_bytes() as u64, state_rows: self.rows.len() as u64 }
    }
}

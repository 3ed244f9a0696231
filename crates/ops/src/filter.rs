//! Drops the rows for which a predicate is not true.

use arrow::array::{Array, AsArray};
use thalweg_core::{Batch, Error, EventTime, Result};
use thalweg_plan::{Expr, Filter};

use crate::{Operator, Output, evaluate};

/// Rows where the predicate is true, in order; false and null drop the row. Weights and row watermarks are kept.
pub(crate) struct FilterOperator {
    predicate: Expr,
}

impl FilterOperator {
    pub(crate) fn new(filter: &Filter) -> Self {
        FilterOperator { predicate: filter.predicate.clone() }
    }
}

impl Operator for FilterOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let mask = evaluate(&self.predicate, &batch.rows)?;
        let mask = mask
            .as_boolean_opt()
            .ok_or_else(|| Error::internal(format!("filter {} is {}", self.predicate.text, mask.data_type())))?;
        match mask.true_count() {
            0 => {}
            count if count == batch.num_rows() => out.push(batch),
            _ => out.push(batch.filter(mask)?),
        }
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }
}

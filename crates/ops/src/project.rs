//! Computes new columns for each row.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Error, EventTime, Result};
use thalweg_plan::{Expr, Project};

use crate::{Operator, Output, evaluate};

/// The values of the expressions for each row, under `schema`.
/// # Errors
/// `Record` when an expression fails on a row.
pub fn project(exprs: &[Expr], schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = exprs.iter().map(|expr| evaluate(expr, rows)).collect::<Result<Vec<_>>>()?;
    // The row count is given, as a projection may have no columns at all (`SELECT COUNT(*)`).
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| Error::internal("the columns of a projection do not have the types of its plan").with_cause(error))
}

/// One output row for each input row, with the values of the expressions. Order, weights and row watermarks are kept.
pub(crate) struct ProjectOperator {
    exprs: Vec<Expr>,
    schema: SchemaRef,
}

impl ProjectOperator {
    pub(crate) fn new(project: &Project, schema: SchemaRef) -> Self {
        ProjectOperator { exprs: project.exprs.clone(), schema }
    }
}

impl Operator for ProjectOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        out.push(batch.with_rows(project(&self.exprs, &self.schema, &batch.rows)?));
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }
}

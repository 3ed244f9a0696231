//! Rows of several inputs as one stream.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Error, EventTime, Result};

use crate::{Operator, Output};

/// Passes the rows of every port on as they come, under the schema of the union. The watermark behind it is the minimum over
/// the ports, which the runtime keeps.
pub(crate) struct UnionOperator {
    schema: SchemaRef,
}

impl UnionOperator {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        UnionOperator { schema }
    }
}

impl Operator for UnionOperator {
    fn on_batch(&mut self, port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        if batch.rows.schema_ref() == &self.schema {
            out.push(batch);
            return Ok(());
        }
        // Column names and nullability may differ between the inputs; types may not.
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), batch.rows.columns().to_vec(), &options)
            .map_err(|error| Error::internal(format!("input {port} of a union has other column types")).with_cause(error))?;
        out.push(batch.with_rows(rows));
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }
}

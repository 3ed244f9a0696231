//! What must be true of a pair beside its keys.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use thalweg_core::{Error, Result};
use thalweg_plan::Expr;

use super::{LEFT, RIGHT};
use crate::evaluate;

/// A condition over the columns that it reads only: of candidates that it turns down nothing else is looked at.
pub(super) struct Condition {
    expr: Expr,
    /// The columns that it reads: port, column of that input.
    columns: Vec<(usize, usize)>,
    schema: SchemaRef,
}

impl Condition {
    /// `condition` is over the columns of the left input, then of the right one.
    pub(super) fn new(condition: &Expr, inputs: [&SchemaRef; 2]) -> Result<Self> {
        let left_width = inputs[LEFT].fields().len();
        let mut read: Vec<usize> = collect_columns(&condition.physical).iter().map(|column| column.index()).collect();
        read.sort_unstable();
        read.dedup();
        let columns: Vec<(usize, usize)> =
            read.iter().map(|column| if *column < left_width { (LEFT, *column) } else { (RIGHT, column - left_width) }).collect();
        let field = |(port, column): &(usize, usize)| {
            let field = inputs[*port].fields().get(*column).cloned();
            field.ok_or_else(|| Error::internal("a join condition reads a column that is not there"))
        };
        let fields: Vec<FieldRef> = columns.iter().map(field).collect::<Result<_>>()?;
        let narrowed = condition.physical.clone().transform_up(|part| {
            let Some(column) = part.downcast_ref::<Column>() else { return Ok(Transformed::no(part)) };
            let place = read.partition_point(|index| *index < column.index());
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), place)) as Arc<dyn PhysicalExpr>))
        });
        let physical = narrowed.map_err(|error| Error::internal("cannot narrow a join condition").with_cause(error))?.data;
        Ok(Condition { expr: Expr { physical, ..condition.clone() }, columns, schema: Arc::new(Schema::new(fields)) })
    }

    /// The columns of an input that it reads.
    pub(super) fn columns_of(&self, port: usize) -> Vec<usize> {
        self.columns.iter().filter(|(of, _)| *of == port).map(|(_, column)| *column).collect()
    }

    /// Whether it is true, for each of `pairs` pairs; null is not true. `gather(port, column)` gives an input's column for them.
    pub(super) fn holds(&self, pairs: usize, gather: impl Fn(usize, usize) -> Result<ArrayRef>) -> Result<BooleanArray> {
        let columns = self.columns.iter().map(|(port, column)| gather(*port, *column)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(pairs));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let holds = evaluate(&self.expr, &rows)?;
        let holds = holds.as_boolean_opt().ok_or_else(|| Error::internal("a join condition is not a BOOLEAN"))?;
        Ok(match holds.nulls() {
            Some(nulls) => BooleanArray::new(holds.values() & nulls.inner(), None),
            None => holds.clone(),
        })
    }
}

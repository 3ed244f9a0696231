//! What else must be true of a pair of rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use thalweg_core::{Error, Result};
use thalweg_plan::Expr;

use crate::eval::evaluate;

/// A condition over pairs that looks only at the columns it needs.
pub(crate) struct PairCondition {
    expr: Expr,
    schema: SchemaRef,
    /// The columns of the left and of the right row that the condition reads; they stand in this order in its input.
    pub(crate) left: Vec<usize>,
    pub(crate) right: Vec<usize>,
}

impl PairCondition {
    /// `expr` is over the left columns, then the right ones.
    pub(crate) fn new(expr: &Expr, left: &SchemaRef, right: &SchemaRef) -> Result<Self> {
        let mut used: Vec<usize> = collect_columns(&expr.physical).iter().map(Column::index).collect();
        used.sort_unstable();
        used.dedup();
        let width = left.fields().len();
        let position = |column: usize| used.iter().position(|other| *other == column);
        let physical = expr.physical.clone().transform_up(|part| {
            Ok(match part.downcast_ref::<Column>().and_then(|column| Some((column.name(), position(column.index())?))) {
                Some((name, index)) => Transformed::yes(Arc::new(Column::new(name, index)) as Arc<dyn PhysicalExpr>),
                None => Transformed::no(part),
            })
        });
        let physical = physical.map_err(|error| Error::internal("a join's condition cannot be placed").with_cause(error))?.data;
        // Either side may be missing in a pair of another join; here nothing is said about it.
        let field = |column: &usize| match column.checked_sub(width) {
            None => left.field(*column).clone(),
            Some(column) => right.field(column).clone(),
        };
        let fields: Vec<Field> = used.iter().map(|column| field(column).with_nullable(true)).collect();
        Ok(PairCondition {
            expr: Expr { physical, ..expr.clone() },
            schema: Arc::new(Schema::new(fields)),
            left: used.iter().copied().filter(|column| *column < width).collect(),
            right: used.iter().filter_map(|column| column.checked_sub(width)).collect(),
        })
    }

    /// Whether the condition is true, for each pair. The columns are those of [`PairCondition::left`], then
    /// [`PairCondition::right`].
    pub(crate) fn passing(&self, columns: Vec<ArrayRef>, pairs: usize) -> Result<BooleanArray> {
        let options = RecordBatchOptions::new().with_row_count(Some(pairs));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let values = evaluate(&self.expr, &rows)?;
        let values = values.as_boolean();
        Ok(match values.nulls() {
            Some(nulls) => BooleanArray::new(values.values() & nulls.inner(), None),
            None => values.clone(),
        })
    }
}

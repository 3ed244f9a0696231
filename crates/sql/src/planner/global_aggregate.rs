//! Keeps aggregates without GROUP BY of which no column is read.
//!
//! To a batch engine such an aggregate is one row, whatever its input; in a stream it is no row until the input has one, as in
//! `SELECT COUNT(*) FROM (SELECT MAX(x) FROM t)`. DataFusion puts a relation of one row in its place while it drops columns. Where
//! that happened, the columns are dropped again with a constant to group by, which means the same and stays.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Aggregate, EmptyRelation, Expr, LogicalPlan, Projection, lit};

/// The plan without the columns that nobody reads: `optimise`, made safe for streams. Its second argument is whether constants
/// stay among the columns of GROUP BY.
pub(crate) fn optimise_keeping(
    plan: LogicalPlan,
    optimise: impl Fn(LogicalPlan, bool) -> Result<LogicalPlan>,
) -> Result<LogicalPlan> {
    let optimised = optimise(plan.clone(), false)?;
    if one_row_relations(&optimised) <= one_row_relations(&plan) {
        return Ok(optimised);
    }
    optimise(plan.transform_up_with_subqueries(grouped_by_constant)?.data, true)
}

fn one_row_relations(plan: &LogicalPlan) -> usize {
    let mut count = 0;
    let _ = plan.apply_with_subqueries(|node| {
        count += usize::from(matches!(node, LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, .. })));
        Ok(TreeNodeRecursion::Continue)
    });
    count
}

fn grouped_by_constant(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
    if !aggregate.group_expr.is_empty() {
        return Ok(Transformed::no(node));
    }
    let columns = aggregate.schema.iter().map(|field| Expr::Column(Column::from(field))).collect();
    let all_rows = vec![lit(true).alias("all rows")];
    let grouped = Aggregate::try_new(aggregate.input.clone(), all_rows, aggregate.aggr_expr.clone())?;
    let projection = Projection::try_new(columns, Arc::new(LogicalPlan::Aggregate(grouped)))?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

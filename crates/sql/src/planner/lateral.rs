//! Aggregates of LATERAL queries.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Subquery};

/// An aggregate without GROUP BY in a LATERAL query is grouped by the columns that it compares with the row around: as in Flink a
/// row without a match has no aggregate, where standard SQL has one over no rows.
pub(crate) fn with_grouped_lateral(right: LogicalPlan) -> Result<LogicalPlan> {
    match right {
        LogicalPlan::SubqueryAlias(alias) => {
            let input = with_grouped_lateral(Arc::unwrap_or_clone(alias.input))?;
            LogicalPlanBuilder::from(input).alias(alias.alias)?.build()
        }
        LogicalPlan::Subquery(lateral) => {
            let plan = grouped_by_keys(Arc::unwrap_or_clone(lateral.subquery))?;
            Ok(LogicalPlan::Subquery(Subquery { subquery: Arc::new(plan), ..lateral }))
        }
        other => Ok(other),
    }
}

fn grouped_by_keys(plan: LogicalPlan) -> Result<LogicalPlan> {
    let done = plan.transform_down(|node| match node {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            let keys = match &*aggregate.input {
                LogicalPlan::Filter(filter) => keys_of(&filter.predicate),
                _ => None,
            };
            let node = match keys {
                Some(keys) => LogicalPlan::Aggregate(Aggregate::try_new(aggregate.input, keys, aggregate.aggr_expr)?),
                None => LogicalPlan::Aggregate(aggregate),
            };
            Ok(Transformed::new(node, true, TreeNodeRecursion::Stop))
        }
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) | LogicalPlan::Distinct(_) => {
            Ok(Transformed::no(node))
        }
        other => Ok(Transformed::new(other, false, TreeNodeRecursion::Stop)),
    })?;
    Ok(done.data)
}

/// The columns that `predicate` holds equal to the row around, if it compares nothing else with it.
fn keys_of(predicate: &Expr) -> Option<Vec<Expr>> {
    let mut keys = vec![];
    for condition in split_conjunction(predicate).into_iter().filter(|condition| condition.contains_outer()) {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if !right.any_column_refs() => match &**left {
                Expr::Column(column) => keys.push(Expr::Column(column.clone())),
                _ => return None,
            },
            _ => return None,
        }
    }
    (!keys.is_empty()).then_some(keys)
}

//! Relations that are seen to have no rows while planning, as behind `WHERE 1 = 2`.
//!
//! As in Flink an outer join with one is a projection of the other side, an anti join the other side itself, and an aggregate without
//! GROUP BY over one is a row: so what could be taken back is not.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, Result, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, FetchType, Join, LogicalPlan, Projection, Values};
use datafusion::optimizer::simplify_expressions::simplify_predicates;
use thalweg_plan::{AggregateFunction, SetKind};

use super::aggregate_function;
use super::set_operation_node::SetOperationNode;

/// Whether a relation is seen to have no rows.
fn is_empty(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(empty) => !empty.produce_one_row,
        LogicalPlan::Filter(filter) => never_holds(&filter.predicate) || is_empty(&filter.input),
        LogicalPlan::Projection(projection) => is_empty(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_empty(&alias.input),
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => is_empty(&join.left) || is_empty(&join.right),
        LogicalPlan::Distinct(Distinct::All(input)) => is_empty(input),
        LogicalPlan::Sort(sort) => is_empty(&sort.input),
        LogicalPlan::Window(window) => is_empty(&window.input),
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<SetOperationNode>() {
            Some(SetOperationNode { kind: SetKind::Except, left, .. }) => is_empty(left),
            Some(SetOperationNode { left, right, .. }) => is_empty(left) || is_empty(right),
            None => false,
        },
        LogicalPlan::Union(union) => union.inputs.iter().all(|input| is_empty(input)),
        LogicalPlan::Aggregate(aggregate) => !aggregate.group_expr.is_empty() && is_empty(&aggregate.input),
        LogicalPlan::Limit(limit) => matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0)))) || is_empty(&limit.input),
        _ => false,
    }
}

fn never_holds(condition: &Expr) -> bool {
    let is_never = |part: &&Expr| matches!(part, Expr::Literal(ScalarValue::Boolean(None | Some(false)) | ScalarValue::Null, _));
    let parts: Vec<Expr> = split_conjunction(condition).into_iter().cloned().collect();
    // `c = 'a' AND c = 'b'` is FALSE to it.
    let simplified = simplify_predicates(parts.clone());
    simplified.unwrap_or(parts).iter().any(|part| is_never(&part))
}

/// The plan in place of a join of which one side cannot have a match; `None` if both can.
pub(crate) fn without_empty_side(join: &Join) -> Result<Option<LogicalPlan>> {
    let never = join.filter.as_ref().is_some_and(never_holds);
    let kept = match join.join_type {
        JoinType::Left | JoinType::LeftAnti if never || is_empty(&join.right) => &join.left,
        JoinType::Right | JoinType::RightAnti if never || is_empty(&join.left) => &join.right,
        _ => return Ok(None),
    };
    let exprs =
        join.schema.iter().map(|(qualifier, field)| match kept.schema().maybe_index_of_column(&(qualifier, field).into()) {
            Some(_) => Ok(Expr::from((qualifier, field))),
            None => {
                let null = Expr::Literal(ScalarValue::try_from(field.data_type())?, None);
                Ok(null.alias_qualified(qualifier.cloned(), field.name()))
            }
        });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    Ok(Some(LogicalPlan::Projection(Projection::try_new_with_schema(exprs, kept.clone(), join.schema.clone())?)))
}

/// Puts the row of an aggregate without GROUP BY over no rows in its place: COUNT is 0, all else NULL.
pub(crate) fn with_sole_rows(plan: LogicalPlan) -> Result<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() && is_empty(&aggregate.input) => {
            Ok(Transformed::yes(sole_row(&aggregate)?))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(done.data)
}

fn sole_row(aggregate: &Aggregate) -> Result<LogicalPlan> {
    let values = aggregate.aggr_expr.iter().zip(aggregate.schema.fields()).map(|(call, field)| {
        let is_count = match call.clone().unalias_nested().data {
            Expr::AggregateFunction(call) => aggregate_function::of(&call.func) == Some(AggregateFunction::Count),
            _ => false,
        };
        let value = if is_count { ScalarValue::new_zero(field.data_type())? } else { ScalarValue::try_from(field.data_type())? };
        Ok(Expr::Literal(value, None))
    });
    let row = values.collect::<Result<Vec<_>>>()?;
    let schema = Arc::clone(&aggregate.schema);
    let columns = schema.columns().into_iter().map(Expr::Column).collect();
    let values = LogicalPlan::Values(Values { schema: Arc::clone(&schema), values: vec![row] });
    // Of a subquery that is a value DataFusion asks for the expression, which VALUES does not have.
    Ok(LogicalPlan::Projection(Projection::try_new_with_schema(columns, Arc::new(values), schema)?))
}

//! EXISTS, IN and counted rows in the form that says most.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, Spans};
use datafusion::logical_expr::expr::{AggregateFunction as AggregateCall, Exists, InSubquery};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, cast, lit,
};
use thalweg_plan::AggregateFunction;

use super::aggregate_function;
use super::subquery::{as_outer, with_plain_equalities};

/// EXISTS of a query that always has one row is TRUE; `(SELECT COUNT(*) …) > 0` for a row around is EXISTS, as in Flink.
pub(crate) fn simpler_exists(part: Expr) -> Transformed<Expr> {
    match part {
        Expr::Exists(exists) if sole_aggregate(&exists.subquery.subquery).is_some() => Transformed::yes(lit(!exists.negated)),
        Expr::BinaryExpr(comparison) => match counted_rows(&comparison) {
            Some(subquery) => Transformed::yes(Expr::Exists(Exists { subquery, negated: false })),
            None => Transformed::no(Expr::BinaryExpr(comparison)),
        },
        other => Transformed::no(other),
    }
}

/// EXISTS and IN as values: from the number of rows, of those that match and of those that are NULL.
pub(crate) fn as_count(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let value = match part {
        Expr::Exists(exists) if sole_aggregate(&exists.subquery.subquery).is_some() => lit(!exists.negated),
        Expr::Exists(exists) => {
            let found = has_rows(Arc::unwrap_or_clone(exists.subquery.subquery))?;
            if exists.negated { Expr::Not(Box::new(found)) } else { found }
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let rows = Arc::unwrap_or_clone(subquery.subquery);
            let column = Expr::Column(rows.schema().columns().swap_remove(0));
            let of = |condition: Expr| LogicalPlanBuilder::from(rows.clone()).filter(condition)?.build();
            let matches = of(equality(column.clone(), as_outer(expr.as_ref().clone(), schema)?, rows.schema())?)?;
            let matches = has_rows(with_plain_equalities(matches)?)?;
            let unknown = has_rows(of(column.is_null())?)?.or(expr.is_null().and(has_rows(rows)?));
            let null = Expr::Literal(ScalarValue::Boolean(None), None);
            // Each of them once: every one is a join.
            let found = matches.or(unknown.and(null));
            if negated { Expr::Not(Box::new(found)) } else { found }
        }
        other => return Ok(Transformed::no(other)),
    };
    Ok(Transformed::yes(value))
}

/// Whether `rows` has any: never unknown.
fn has_rows(rows: LogicalPlan) -> Result<Expr> {
    let one = vec![Expr::Literal(ScalarValue::Int64(Some(1)), None)];
    let count = AggregateCall::new_udf(aggregate_function::count(), one, false, None, vec![], None);
    let plan = LogicalPlanBuilder::from(rows).aggregate(Vec::<Expr>::new(), vec![Expr::AggregateFunction(count)])?.build()?;
    let outer_ref_columns = plan.all_out_ref_exprs();
    let count = Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::default() });
    Ok(Expr::IsTrue(Box::new(count.gt(lit(0_i64)))))
}

/// `column = outer`, both of one type.
fn equality(column: Expr, outer: Expr, schema: &DFSchema) -> Result<Expr> {
    let (left, right) = (column.get_type(schema)?, outer.get_type(schema)?);
    let common = comparison_coercion(&left, &right).unwrap_or_else(|| left.clone());
    let of_type = |expr: Expr, data_type: DataType| if data_type == common { expr } else { cast(expr, common.clone()) };
    Ok(of_type(column, left).eq(of_type(outer, right)))
}

/// The aggregate without GROUP BY whose one row a query gives.
pub(crate) fn sole_aggregate(plan: &LogicalPlan) -> Option<&Aggregate> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty().then_some(aggregate),
        LogicalPlan::Projection(projection) => sole_aggregate(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => sole_aggregate(&alias.input),
        LogicalPlan::Distinct(Distinct::All(input)) => sole_aggregate(input),
        _ => None,
    }
}

/// The rows whose number `comparison` says to be greater than 0.
fn counted_rows(comparison: &BinaryExpr) -> Option<Subquery> {
    let number = |expr: &Expr| match expr {
        Expr::Literal(value, _) => i64::try_from(value.clone()).ok().or_else(|| i32::try_from(value.clone()).ok().map(i64::from)),
        _ => None,
    };
    let (subquery, op, number) = match (&*comparison.left, &*comparison.right) {
        (Expr::ScalarSubquery(subquery), other) => (subquery, comparison.op, number(other)?),
        (other, Expr::ScalarSubquery(subquery)) => (subquery, comparison.op.swap()?, number(other)?),
        _ => return None,
    };
    if !matches!((op, number), (Operator::Gt, 0) | (Operator::GtEq, 1)) || subquery.outer_ref_columns.is_empty() {
        return None;
    }
    let aggregate = sole_aggregate(&subquery.subquery)?;
    let [Expr::AggregateFunction(call)] = aggregate.aggr_expr.as_slice() else {
        return None;
    };
    let counts_rows = aggregate_function::of(&call.func) == Some(AggregateFunction::Count)
        && call.params.filter.is_none()
        && call.params.args.iter().all(|argument| matches!(argument, Expr::Literal(value, _) if !value.is_null()));
    (counts_rows && gives_columns(&subquery.subquery)).then(|| Subquery { subquery: aggregate.input.clone(), ..subquery.clone() })
}

/// Whether what stands above an aggregate only names its columns.
fn gives_columns(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => {
            let is_column = |expr: &Expr| matches!(expr.clone().unalias_nested().data, Expr::Column(_));
            projection.expr.iter().all(is_column) && gives_columns(&projection.input)
        }
        LogicalPlan::SubqueryAlias(alias) => gives_columns(&alias.input),
        LogicalPlan::Distinct(Distinct::All(input)) => gives_columns(input),
        _ => true,
    }
}

//! Subqueries that ask more of the row around them than equality, which is all that DataFusion's rules can turn into joins.
//!
//! | SQL | what it becomes |
//! |---|---|
//! | `(SELECT COUNT(*) FROM b WHERE b.y < a.x)` | a left join with the count for each `x` there is, 0 where there is none |
//! | a subquery within, that names columns two queries out | one that names columns of the query around it |
//! | `a, LATERAL (SELECT a.x + b.y FROM b …)` | a join, and the computing above it |
//! | `LATERAL` with an aggregate over another comparison | a join with the aggregate for each combination of outer columns |
//!
//! The rows around are read a second time for that; equal nodes of a plan are one node, so they are computed once. As in Flink, state
//! grows with the combinations of the outer columns.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Subquery, lit, when,
};
use thalweg_plan::AggregateFunction;

use super::aggregate_function;
use super::arguments::{Arguments, named_columns, subquery_of};
use super::read_twice::{changing_call, read_twice};
use super::subquery::{as_outer, equality_with_outer, left_over, with_single_value};

/// Gives names to the arguments of the subqueries of one query.
#[derive(Default)]
pub(crate) struct OuterColumns {
    next: Cell<usize>,
}

impl OuterColumns {
    /// Turns LATERAL subqueries that compute with outer columns, and those that name columns two queries out, from the outermost
    /// inwards.
    pub(crate) fn flatten(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let done = plan.transform_down_with_subqueries(|node| {
            Ok(Transformed::yes(match node {
                LogicalPlan::Join(join) => self.lateral(join)?,
                node @ (LogicalPlan::Filter(_) | LogicalPlan::Projection(_)) => {
                    let node = self.with_joined_values(node, |subquery| names_deeply(&subquery.subquery))?;
                    self.with_arguments(node)?
                }
                other => other,
            }))
        })?;
        Ok(done.data)
    }

    fn prefix(&self) -> String {
        let number = self.next.get();
        self.next.set(number + 1);
        format!("__outer{number}")
    }

    /// The columns of `source` that `plan` names, once for each of their combinations; `None` if it names none, or others.
    fn arguments(&self, source: &LogicalPlan, plan: &LogicalPlan) -> Result<Option<Arguments>> {
        let mut columns: Vec<Column> = vec![];
        for named in named_columns(plan)? {
            if !columns.contains(&named.column) {
                columns.push(named.column);
            }
        }
        let is_known = |column: &Column| source.schema().maybe_index_of_column(column).is_some();
        if columns.is_empty() || !columns.iter().all(is_known) || has_lateral(plan)? || !named_columns(source)?.is_empty() {
            return Ok(None);
        }
        if let Some(call) = changing_call(source, &columns)? {
            return Err(read_twice(&call, plan));
        }
        Arguments::new(source.clone(), columns, &self.prefix(), true).map(Some)
    }

    /// Joins the rows of a filter or projection with the values of those subqueries that are `wanted`.
    pub(crate) fn with_joined_values(
        &self,
        node: LogicalPlan,
        wanted: impl Fn(&Subquery) -> Result<bool>,
    ) -> Result<LogicalPlan> {
        if !matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Projection(_)) {
            return Ok(node);
        }
        let source = node.inputs()[0].clone();
        let mut rows = source.clone();
        let mut is_changed = false;
        let names = NamePreserver::new(&node);
        let mut exprs = vec![];
        for expr in node.expressions() {
            let name = names.save(&expr);
            let done = expr.transform_down(|part| {
                let Expr::ScalarSubquery(subquery) = &part else { return Ok(Transformed::no(part)) };
                if !wanted(subquery)? {
                    return Ok(Transformed::no(part));
                }
                let Some((joined, value)) = self.joined_value(&rows, &source, part.clone())? else {
                    if asks_more_than_equality(&subquery.subquery)? {
                        return Err(left_over("this subquery as a value", &part, subquery));
                    }
                    return Ok(Transformed::no(part));
                };
                rows = joined;
                is_changed = true;
                Ok(Transformed::new(value, true, TreeNodeRecursion::Jump))
            })?;
            exprs.push(name.restore(done.data));
        }
        if !is_changed {
            return Ok(node);
        }
        let rows = LogicalPlanBuilder::from(rows);
        match node {
            LogicalPlan::Filter(_) => {
                let columns = source.schema().columns().into_iter().map(Expr::Column);
                rows.filter(exprs.swap_remove(0))?.project(columns)?.build()
            }
            _ => rows.project(exprs)?.build(),
        }
    }

    /// `rows` joined with the value of a subquery over the columns of `source`, and the value.
    fn joined_value(&self, rows: &LogicalPlan, source: &LogicalPlan, part: Expr) -> Result<Option<(LogicalPlan, Expr)>> {
        let Expr::ScalarSubquery(subquery) = with_single_value(part)?.data else { return Ok(None) };
        let Some(arguments) = self.arguments(source, &subquery.subquery)? else { return Ok(None) };
        let value = Expr::Column(subquery.subquery.schema().columns().swap_remove(0));
        let otherwise = value_of_nothing(&subquery.subquery)?;
        let Some(plan) = arguments.attach(Arc::unwrap_or_clone(subquery.subquery), true)? else { return Ok(None) };
        let prefix = self.prefix();
        let (value_name, found_name) = (format!("{prefix}_value"), format!("{prefix}_found"));
        let mut columns = vec![value.alias(&value_name), lit(true).alias(&found_name)];
        columns.extend(arguments.columns.iter().map(|(_, name)| Expr::Column(Column::new_unqualified(name))));
        let values = LogicalPlanBuilder::from(plan).project(columns)?.build()?;
        let matches = arguments.matches(values.schema(), |column| Ok(Expr::Column(column.clone())))?;
        let joined = LogicalPlanBuilder::from(rows.clone()).join_on(values, JoinType::Left, matches)?.build()?;
        let value = Expr::Column(Column::new_unqualified(value_name));
        let value = match otherwise {
            Some(otherwise) => when(Expr::Column(Column::new_unqualified(found_name)).is_null(), otherwise).otherwise(value)?,
            None => value,
        };
        Ok(Some((joined, value)))
    }

    /// EXISTS and IN whose own subqueries name columns further out.
    fn with_arguments(&self, node: LogicalPlan) -> Result<LogicalPlan> {
        let source = match &node {
            LogicalPlan::Filter(Filter { input, .. }) => input.clone(),
            LogicalPlan::Projection(projection) => projection.input.clone(),
            _ => return Ok(node),
        };
        let names = NamePreserver::new(&node);
        let matched = |subquery: &Subquery| -> Result<Option<Subquery>> {
            if !names_deeply(&subquery.subquery)? {
                return Ok(None);
            }
            let Some(arguments) = self.arguments(&source, &subquery.subquery)? else { return Ok(None) };
            let columns: Vec<Expr> = subquery.subquery.schema().columns().into_iter().map(Expr::Column).collect();
            let Some(plan) = arguments.attach(subquery.subquery.as_ref().clone(), false)? else { return Ok(None) };
            let matches = arguments.matches(plan.schema(), |column| as_outer(Expr::Column(column.clone()), source.schema()))?;
            let rows = LogicalPlanBuilder::from(plan).filter(conjunction(matches).unwrap_or_else(|| lit(true)))?;
            let plan = rows.project(columns)?.build()?;
            let outer_ref_columns = plan.all_out_ref_exprs();
            Ok(Some(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: subquery.spans.clone() }))
        };
        let done = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let done = expr.transform_down(|part| {
                Ok(match part {
                    Expr::Exists(exists) => match matched(&exists.subquery)? {
                        Some(subquery) => Transformed::yes(Expr::Exists(Exists { subquery, ..exists })),
                        None => Transformed::no(Expr::Exists(exists)),
                    },
                    Expr::InSubquery(one) => match matched(&one.subquery)? {
                        Some(subquery) => Transformed::yes(Expr::InSubquery(InSubquery { subquery, ..one })),
                        None => Transformed::no(Expr::InSubquery(one)),
                    },
                    other => Transformed::no(other),
                })
            })?;
            Ok(Transformed::yes(name.restore(done.data)))
        })?;
        Ok(done.data)
    }

    /// A LATERAL subquery that computes with outer columns, or has an aggregate over other comparisons than equality.
    fn lateral(&self, join: Join) -> Result<LogicalPlan> {
        let is_turned = match join.join_type {
            // Without a mark as LATERAL comes one that names the row around in its own subqueries alone.
            JoinType::Inner | JoinType::Left => {
                (has_lateral(&join.right)? || names_deeply(&join.right)?) && asks_of_lateral(&join.right)?
            }
            _ => false,
        };
        if !is_turned {
            return Ok(LogicalPlan::Join(join));
        }
        let plain = join.right.as_ref().clone().transform_down(|node| {
            Ok(match node {
                LogicalPlan::Subquery(lateral) => Transformed::yes(Arc::unwrap_or_clone(lateral.subquery)),
                other => Transformed::no(other),
            })
        })?;
        let plain = plain.data;
        let (left, columns) = (join.left.as_ref().clone(), join.schema.columns());
        let on = join.on.iter().map(|(left, right)| left.clone().eq(right.clone())).chain(join.filter.clone());
        if join.join_type == JoinType::Left || has_grouping(&plain)? {
            let Some(arguments) = self.arguments(&left, &plain)? else { return Ok(LogicalPlan::Join(join)) };
            let Some(plan) = arguments.attach(plain, true)? else { return Ok(LogicalPlan::Join(join)) };
            let mut conditions = arguments.matches(plan.schema(), |column| Ok(Expr::Column(column.clone())))?;
            conditions.extend(on);
            let joined = LogicalPlanBuilder::from(left).join_on(plan, join.join_type, conditions)?;
            return joined.project(columns.into_iter().map(Expr::Column))?.build();
        }
        // Each row with its matches: the rows themselves are the arguments.
        let left_columns = left.schema().columns();
        let is_known = named_columns(&plain)?.iter().all(|named| left_columns.contains(&named.column));
        let arguments = Arguments::new(left, left_columns, &self.prefix(), false)?;
        let (Some(plan), true) = (arguments.attach(plain, true)?, is_known) else { return Ok(LogicalPlan::Join(join)) };
        let own = arguments.columns.iter().map(|(column, name)| {
            Expr::Column(Column::new_unqualified(name)).alias_qualified(column.relation.clone(), &column.name)
        });
        let right = columns.iter().skip(arguments.columns.len()).cloned().map(Expr::Column);
        let rows = LogicalPlanBuilder::from(plan).project(own.chain(right))?;
        on.into_iter().try_fold(rows, LogicalPlanBuilder::filter)?.build()
    }
}

/// Whether a subquery has subqueries that name columns that it does not have itself.
fn names_deeply(plan: &LogicalPlan) -> Result<bool> {
    Ok(named_columns(plan)?.iter().any(|named| named.is_deep))
}

fn has_lateral(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Subquery(_))))
}

fn has_grouping(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_))))
}

fn names_outer(node: &LogicalPlan) -> bool {
    node.expressions().iter().any(Expr::contains_outer)
}

/// Whether outer columns are asked for more than equality in filters.
fn asks_more_than_equality(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| match node {
        LogicalPlan::Filter(filter) => {
            for condition in split_conjunction(&filter.predicate).into_iter().filter(|condition| condition.contains_outer()) {
                if equality_with_outer(condition, filter.input.schema())?.is_none() {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        other => Ok(names_outer(other)),
    })
}

fn asks_of_lateral(plan: &LogicalPlan) -> Result<bool> {
    let computes =
        plan.exists(|node| Ok(!matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Subquery(_)) && names_outer(node)))?;
    Ok(computes || names_deeply(plan)? || has_grouping(plan)? && asks_more_than_equality(plan)?)
}

/// Whether the value of a subquery is more than DataFusion's rules can join: other comparisons than equality, or a count that is
/// not right at the top, whose 0 they lose, or give where HAVING stands.
pub(crate) fn is_more_than_equality(subquery: &Subquery) -> Result<bool> {
    let plan = &*subquery.subquery;
    if named_columns(plan)?.is_empty() {
        return Ok(false);
    }
    let below = match plan {
        LogicalPlan::Projection(projection) => &*projection.input,
        other => other,
    };
    let is_hidden = !matches!(below, LogicalPlan::Aggregate(_)) && sole_value(plan)?.is_some();
    Ok(is_hidden || asks_more_than_equality(plan)?)
}

/// `expr` over a row of `schema` with the values `row`, and over the row around.
fn over_row(expr: Expr, row: &[Expr], schema: &DFSchema) -> Result<Expr> {
    let done = expr.transform_up(|part| {
        Ok(match &part {
            Expr::Column(column) => match schema.maybe_index_of_column(column) {
                Some(index) => Transformed::yes(row[index].clone()),
                None => Transformed::no(part),
            },
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column.clone())),
            _ => Transformed::no(part),
        })
    })?;
    Ok(done.data.unalias_nested().data)
}

/// The row that a query without GROUP BY gives over no rows, whether or not it passes conditions on the aggregate.
fn sole_values(plan: &LogicalPlan) -> Result<Option<Vec<Expr>>> {
    Ok(match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            let value = |call: &Expr| match call.clone().unalias_nested().data {
                Expr::AggregateFunction(call) if aggregate_function::of(&call.func) == Some(AggregateFunction::Count) => {
                    lit(0_i64)
                }
                _ => Expr::Literal(ScalarValue::Null, None),
            };
            Some(aggregate.aggr_expr.iter().map(value).collect())
        }
        LogicalPlan::Projection(projection) => match sole_values(&projection.input)? {
            Some(row) => {
                let value = |expr: &Expr| over_row(expr.clone(), &row, projection.input.schema());
                Some(projection.expr.iter().map(value).collect::<Result<_>>()?)
            }
            None => None,
        },
        LogicalPlan::Filter(filter) => sole_values(&filter.input)?,
        LogicalPlan::SubqueryAlias(alias) => sole_values(&alias.input)?,
        LogicalPlan::Distinct(Distinct::All(input)) => sole_values(input)?,
        _ => None,
    })
}

/// The value of a query without GROUP BY over no rows, whether or not it passes conditions on the aggregate; `None` if that is NULL.
fn sole_value(plan: &LogicalPlan) -> Result<Option<Expr>> {
    let value = sole_values(plan)?.map(|mut row| row.swap_remove(0));
    Ok(value.filter(|value| !matches!(value, Expr::Literal(ScalarValue::Null, _))))
}

/// The value of a subquery where nothing belongs to a row around; `None` if that is NULL, as it is with HAVING.
///
/// Flink has NULL there even if HAVING would let the count of nothing pass. Joined with the row around, a count that HAVING rejects
/// and one of nothing look the same: neither has a row.
fn value_of_nothing(plan: &LogicalPlan) -> Result<Option<Expr>> {
    if is_conditional(plan) { Ok(None) } else { sole_value(plan) }
}

/// Whether a sole aggregate stands under a condition.
fn is_conditional(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(_) => true,
        LogicalPlan::Projection(projection) => is_conditional(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_conditional(&alias.input),
        LogicalPlan::Distinct(Distinct::All(input)) => is_conditional(input),
        _ => false,
    }
}

/// Subqueries in the calls and keys of an aggregate, as columns of a projection below.
pub(super) fn with_subqueries_below(aggregate: Aggregate) -> Result<LogicalPlan> {
    let mut found: Vec<Expr> = vec![];
    let names = NamePreserver::new_for_projection();
    let name_of = |position: usize| format!("__subquery{position}");
    let mut moved = |expr: Expr| -> Result<Expr> {
        let name = names.save(&expr);
        let done = expr.transform_down(|part| {
            if subquery_of(&part).is_none() {
                return Ok(Transformed::no(part));
            }
            let position = found.iter().position(|other| *other == part).unwrap_or_else(|| {
                found.push(part);
                found.len() - 1
            });
            let column = Expr::Column(Column::new_unqualified(name_of(position)));
            Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
        })?;
        Ok(if done.transformed { name.restore(done.data) } else { done.data })
    };
    let keys = aggregate.group_expr.iter().cloned().map(&mut moved).collect::<Result<Vec<_>>>()?;
    let calls = aggregate.aggr_expr.iter().cloned().map(&mut moved).collect::<Result<Vec<_>>>()?;
    if found.is_empty() {
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    let columns = aggregate.input.schema().columns().into_iter().map(Expr::Column);
    let subqueries = found.into_iter().enumerate().map(|(position, subquery)| subquery.alias(name_of(position)));
    let rows = LogicalPlanBuilder::from(aggregate.input.clone()).project(columns.chain(subqueries))?.build()?;
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(rows), keys, calls)?))
}

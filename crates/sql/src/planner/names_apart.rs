//! Names of the row around that the subquery has too.
//!
//! The rules that turn subqueries into joins tell the columns of both sides by their names: in `x IN (SELECT x FROM a …)` over `a`
//! both would be `a.x`. Here such columns of the row around get names of their own, before any rule looks.

use std::collections::BTreeMap;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{InSubquery, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use super::arguments::{named_columns, subquery_of, with_plan};
use super::optimize::schema_of_inputs;
use super::outer_columns::with_subqueries_below;

/// How such names begin.
const AROUND: &str = "__around";

/// The columns that get other names, with those.
type Renamed = BTreeMap<Column, Column>;

/// The same plan, in which no subquery has a column of a name by which it, or what it is compared with, names one of the row around.
pub(super) fn with_names_apart(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut number = 0;
    let done = plan.transform_down_with_subqueries(|node| {
        let node = match node {
            LogicalPlan::Aggregate(aggregate) => with_subqueries_below(aggregate)?,
            other => other,
        };
        if !matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Projection(_)) {
            return Ok(Transformed::no(node));
        }
        let around = schema_of_inputs(&node);
        let mut renamed = Renamed::new();
        for expr in node.expressions() {
            expr.apply(|part| {
                for column in shared_names(part, &around)? {
                    renamed.entry(column).or_insert_with(|| {
                        number += 1;
                        Column::new_unqualified(format!("{AROUND}{number}"))
                    });
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(if renamed.is_empty() { Transformed::no(node) } else { Transformed::yes(with_new_names(node, &renamed)?) })
    })?;
    Ok(done.data)
}

/// The columns of `around` that a subquery names, or is compared with, by a name that some part of it gives to a column too.
fn shared_names(expr: &Expr, around: &DFSchema) -> Result<Vec<Column>> {
    let Some(subquery) = subquery_of(expr) else { return Ok(vec![]) };
    let compared = match expr {
        Expr::InSubquery(InSubquery { expr, .. }) | Expr::SetComparison(SetComparison { expr, .. }) => Some(expr),
        _ => None,
    };
    let named = named_columns(&subquery.subquery)?.into_iter().map(|named| named.column);
    let compared = compared.into_iter().flat_map(|expr| expr.column_refs().into_iter().cloned().collect::<Vec<_>>());
    let mut shared = vec![];
    for column in named.chain(compared) {
        if around.maybe_index_of_column(&column).is_some() && gives(&subquery.subquery, &column)? {
            shared.push(column);
        }
    }
    Ok(shared)
}

/// Whether a part of `plan`, its own subqueries included, has a column of this name.
fn gives(plan: &LogicalPlan, column: &Column) -> Result<bool> {
    let mut is_given = false;
    plan.apply_with_subqueries(|node| {
        is_given |= node.schema().maybe_index_of_column(column).is_some();
        Ok(if is_given { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(is_given)
}

fn with_new_names(node: LogicalPlan, renamed: &Renamed) -> Result<LogicalPlan> {
    let input = node.inputs()[0].clone();
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let others = renamed.iter().map(|(column, name)| Expr::Column(column.clone()).alias(&name.name));
    let rows = LogicalPlanBuilder::from(input).project(columns.iter().cloned().chain(others))?;
    let names = NamePreserver::new(&node);
    let rewritten = |expr: Expr| {
        let name = names.save(&expr);
        Ok(name.restore(in_expression(expr, renamed, &[])?))
    };
    match node {
        LogicalPlan::Filter(filter) => rows.filter(rewritten(filter.predicate)?)?.project(columns)?.build(),
        other => rows.project(other.expressions().into_iter().map(rewritten).collect::<Result<Vec<_>>>()?)?.build(),
    }
}

/// `expr` with the new names where its subqueries, and what they are compared with, name the row around. `within`: the rows between.
fn in_expression(expr: Expr, renamed: &Renamed, within: &[DFSchema]) -> Result<Expr> {
    let done = expr.transform_down(|part| {
        let is_compared = within.is_empty();
        let part = match part {
            Expr::InSubquery(one) if is_compared => {
                Expr::InSubquery(InSubquery { expr: Box::new(compared(*one.expr, renamed)?), ..one })
            }
            Expr::SetComparison(one) if is_compared => {
                Expr::SetComparison(SetComparison { expr: Box::new(compared(*one.expr, renamed)?), ..one })
            }
            other => other,
        };
        let Some(subquery) = subquery_of(&part) else { return Ok(Transformed::no(part)) };
        let plan = in_subquery(subquery.subquery.as_ref().clone(), renamed, within)?;
        Ok(Transformed::new(with_plan(part, plan), true, TreeNodeRecursion::Jump))
    })?;
    Ok(done.data)
}

fn compared(expr: Expr, renamed: &Renamed) -> Result<Expr> {
    let done = expr.transform(|part| {
        Ok(match part {
            Expr::Column(column) if renamed.contains_key(&column) => Transformed::yes(Expr::Column(renamed[&column].clone())),
            other => Transformed::no(other),
        })
    })?;
    Ok(done.data)
}

fn in_subquery(plan: LogicalPlan, renamed: &Renamed, within: &[DFSchema]) -> Result<LogicalPlan> {
    let done = plan.transform_down(|node| {
        let names = NamePreserver::new(&node);
        let between: Vec<DFSchema> = within.iter().cloned().chain([schema_of_inputs(&node)]).collect();
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let done = in_expression(expr, renamed, &between)?.transform(|part| {
                Ok(match part {
                    Expr::OuterReferenceColumn(field, column)
                        if renamed.contains_key(&column)
                            && !within.iter().any(|schema| schema.maybe_index_of_column(&column).is_some()) =>
                    {
                        Transformed::yes(Expr::OuterReferenceColumn(field, renamed[&column].clone()))
                    }
                    other => Transformed::no(other),
                })
            })?;
            Ok(Transformed::yes(name.restore(done.data)))
        })?;
        Ok(Transformed::yes(node.data))
    })?;
    Ok(done.data)
}

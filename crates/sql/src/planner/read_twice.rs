//! Rows that a plan reads twice: they have to be the same both times.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};
use thalweg_core::{Code, Diagnostic};

use super::context::ScannedTable;
use super::error::refuse;
use super::span;

/// A call that gives another value whenever it is computed, among what the columns `needed` of `plan` come from and what decides
/// which rows there are. A lookup join by PROCTIME() has one in its condition.
pub(crate) fn changing_call(plan: &LogicalPlan, needed: &[Column]) -> Result<Option<Expr>> {
    let is_needed = |index: usize| needed.iter().any(|column| plan.schema().maybe_index_of_column(column) == Some(index));
    let mut asked = plan.expressions();
    if let LogicalPlan::TableScan(scan) = plan {
        let names = needed.iter().map(|column| column.name.clone()).collect();
        asked = scan.source.downcast_ref::<ScannedTable>().map(|table| computed_for(table, names)).unwrap_or_default();
    }
    if let LogicalPlan::Projection(projection) = plan {
        asked = projection.expr.iter().enumerate().filter(|(index, _)| is_needed(*index)).map(|(_, expr)| expr.clone()).collect();
    }
    for expr in &asked {
        if let Some(call) = changing_part(expr)? {
            return Ok(Some(call));
        }
    }
    let named = || asked.iter().flat_map(Expr::column_refs).cloned();
    for input in plan.inputs() {
        let all = input.schema().columns();
        let below: Vec<Column> = match plan {
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => named().collect(),
            LogicalPlan::Filter(_) | LogicalPlan::Join(_) | LogicalPlan::Window(_) => named().chain(needed.to_vec()).collect(),
            LogicalPlan::SubqueryAlias(_) => {
                all.into_iter().enumerate().filter(|(index, _)| is_needed(*index)).map(|(_, column)| column).collect()
            }
            _ => all,
        };
        if let Some(call) = changing_call(input, &below)? {
            return Ok(Some(call));
        }
    }
    Ok(None)
}

/// What is computed for the columns `names` of a table, and for those that it names.
fn computed_for(table: &ScannedTable, mut names: Vec<String>) -> Vec<Expr> {
    let mut computed = vec![];
    let mut next = 0;
    while let Some(name) = names.get(next) {
        if let Some(expr) = table.computed.get(name) {
            computed.push(expr.clone());
            for column in expr.column_refs() {
                if !names.contains(&column.name) {
                    names.push(column.name.clone());
                }
            }
        }
        next += 1;
    }
    computed
}

fn changing_part(expr: &Expr) -> Result<Option<Expr>> {
    let mut found = None;
    expr.apply(|part| {
        if part.is_volatile_node() {
            found = Some(part.clone());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The refusal of a subquery whose rows around would have to be read twice.
pub(crate) fn read_twice(call: &Expr, subquery: &LogicalPlan) -> DataFusionError {
    let name = match call {
        Expr::ScalarFunction(call) => format!("{}()", call.func.name().to_uppercase()),
        other => other.schema_name().to_string(),
    };
    let message = format!("a subquery over rows with {name} does not run yet: it would read them twice, with other values");
    refuse(
        Diagnostic::error(Code::NOT_YET, message)
            .label_opt(span::of_plan(subquery), "this subquery")
            .help(format!("write the rows with {name} to a table first and read that, or compare outer columns with = alone")),
    )
}

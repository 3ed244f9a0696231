//! Columns of one name in a result: Flink numbers them.
//!
//! `SELECT * FROM a JOIN b ON a.id = b.id` has the columns `id`, …, `id0`, …

use std::collections::HashSet;

use datafusion::common::Result;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{Query, Select, SelectItem, SetExpr, TableFactor};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::ast_build;
use super::from_call::{FromCall, UNIQUE_NAMES, query_of, subquery};

/// The first of `name`, `name0`, `name1`… that is not in `taken`, which then has it.
pub(crate) fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let unique = (0..)
        .map(|attempt: usize| if attempt == 0 { name.to_string() } else { format!("{name}{}", attempt - 1) })
        .find(|candidate| !taken.contains(candidate))
        .expect("numbers do not run out");
    taken.insert(unique.clone());
    unique
}

/// `plan` with names of columns that differ.
pub(crate) fn with_unique_names(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut taken = HashSet::new();
    let columns = plan.schema().columns();
    let names: Vec<String> = columns.iter().map(|column| unique(&column.name, &mut taken)).collect();
    if columns.iter().zip(&names).all(|(column, name)| column.name == *name) {
        return Ok(plan);
    }
    let renamed = columns.into_iter().zip(names).map(|(column, name)| match column.name == name {
        true => LogicalExpr::Column(column),
        false => LogicalExpr::Column(column).alias(name),
    });
    LogicalPlanBuilder::from(plan).project(renamed)?.build()
}

pub(crate) fn plan(mut call: FromCall) -> Result<LogicalPlan> {
    with_unique_names(call.query(0)?)
}

/// Numbers the columns of a subquery in FROM, whose alias would otherwise hide which table they are of.
pub(crate) fn rewrite_factor(factor: &mut TableFactor) {
    if let TableFactor::Derived { lateral: false, subquery, .. } = factor {
        rewrite_query(subquery);
    }
}

/// Numbers the columns of a query that another one reads.
pub(crate) fn rewrite_query(query: &mut Query) {
    if matches!(&*query.body, SetExpr::Select(select) if may_repeat_names(select)) {
        let inner = std::mem::replace(query, ast_build::query(ast_build::nothing()));
        let arguments = vec![subquery(SetExpr::Query(Box::new(inner)))];
        *query = query_of(ast_build::call(UNIQUE_NAMES, Span::empty(), arguments));
    }
}

/// Numbers the columns of the queries of a UNION.
pub(crate) fn rewrite_union(body: &mut SetExpr) {
    let SetExpr::SetOperation { left, right, .. } = body else {
        return;
    };
    for side in [left, right] {
        match &mut **side {
            SetExpr::Select(select) if may_repeat_names(select) => {
                let inner = std::mem::replace(&mut **side, ast_build::nothing());
                let call = ast_build::call(UNIQUE_NAMES, Span::empty(), vec![subquery(inner)]);
                **side = ast_build::select_all(ast_build::table_call(call, None));
            }
            inner => rewrite_union(inner),
        }
    }
}

/// Whether `*` of `select` stands for columns of several tables.
fn may_repeat_names(select: &Select) -> bool {
    let has_several = select.from.len() > 1 || select.from.iter().any(|from| !from.joins.is_empty());
    let is_wildcard = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    has_several && select.projection.iter().any(is_wildcard)
}

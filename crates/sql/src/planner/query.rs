//! A query from syntax tree to optimised plan.

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast;
use thalweg_core::Diagnostic;

use super::PlannerInput;
use super::context::Binder;
use super::error::finding;
use super::optimize;

/// Checks, binds and optimises a query.
pub(crate) fn optimised(input: &PlannerInput, query: &ast::Query) -> Result<LogicalPlan, Vec<Diagnostic>> {
    let bound = Binder::new(input).bind(query)?;
    optimize::optimise(bound).map_err(|error| vec![finding(&error, Some(query))])
}

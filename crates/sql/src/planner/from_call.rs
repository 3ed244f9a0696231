//! Relations in FROM for which DataFusion's binder has no form, or a form with another meaning.
//!
//! The rewrite of the syntax tree puts them into FROM as calls of names that no query can write:
//!
//! | call | made by |
//! |---|---|
//! | `INTERSECT ALL(left, right)`, `INTERSECT DISTINCT`, `EXCEPT ALL`, `EXCEPT DISTINCT` | [`set_operation`] |
//! | `JOIN USING(left, right, kind, columns…)` | [`using_join`] |
//! | `UNNEST OF(left, array, …)` | [`unnest`] |
//! | `UNIQUE NAMES(query)` | [`unique_names`] |
//! | `STATE TTL(relation, milliseconds)` | [`state_ttl`] |
//!
//! `FOR SYSTEM_TIME AS OF` behind a table is bound here as well, by [`system_time`].

use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SetExpr, TableFactor, TableVersion, TableWithJoins,
};
use datafusion::sql::sqlparser::tokenizer;
use thalweg_core::Span;
use thalweg_plan::SetKind;

use super::{ast_build, set_operation, span, state_ttl, system_time, unique_names, unnest, using_join};

pub(crate) const JOIN_USING: &str = "JOIN USING";
pub(crate) const UNNEST_OF: &str = "UNNEST OF";
pub(crate) const UNIQUE_NAMES: &str = "UNIQUE NAMES";

/// The name of the call that stands for a set operation.
pub(crate) fn set_operation_name(kind: SetKind, all: bool) -> &'static str {
    match (kind, all) {
        (SetKind::Intersect, true) => "INTERSECT ALL",
        (SetKind::Intersect, false) => "INTERSECT DISTINCT",
        (SetKind::Except, true) => "EXCEPT ALL",
        (SetKind::Except, false) => "EXCEPT DISTINCT",
    }
}

/// Whether `function` is one of the calls of this module.
pub(crate) fn is_from_call(function: &Function) -> bool {
    let name = name_of(function);
    set_kind(&name).is_some() || [JOIN_USING, UNNEST_OF, UNIQUE_NAMES, state_ttl::STATE_TTL].contains(&name.as_str())
}

fn name_of(function: &Function) -> String {
    function.name.to_string().trim_matches('`').to_string()
}

fn set_kind(name: &str) -> Option<(SetKind, bool)> {
    [SetKind::Intersect, SetKind::Except]
        .into_iter()
        .flat_map(|kind| [(kind, true), (kind, false)])
        .find(|(kind, all)| set_operation_name(*kind, *all) == name)
}

/// Binds the calls of this module; leaves everything else to others.
#[derive(Debug)]
pub(crate) struct FromCalls {
    /// Whether places in the syntax tree are places in the user's text.
    pub(crate) keep_places: bool,
}

/// A call on its way to the plan of a relation.
pub(crate) struct FromCall<'a> {
    pub(crate) arguments: Vec<Expr>,
    /// Where the call stands.
    pub(crate) place: Option<Span>,
    pub(crate) context: &'a mut dyn RelationPlannerContext,
    pub(crate) keep_places: bool,
}

impl RelationPlanner for FromCalls {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        match relation {
            TableFactor::TableFunction { expr: Expr::Function(function), alias } if is_from_call(&function) => {
                let FunctionArguments::List(list) = &function.args else {
                    return internal_err!("a call of the planner has arguments");
                };
                let arguments = list.args.iter().filter_map(argument).cloned().collect();
                let place = span::of(&function.name).filter(|_| self.keep_places);
                let call = FromCall { arguments, place, context, keep_places: self.keep_places };
                let name = name_of(&function);
                let plan = match set_kind(&name) {
                    Some((kind, all)) => set_operation::plan(call, kind, all)?,
                    None => match name.as_str() {
                        JOIN_USING => using_join::plan(call)?,
                        UNNEST_OF => unnest::plan(call)?,
                        state_ttl::STATE_TTL => state_ttl::plan(call)?,
                        _ => unique_names::plan(call)?,
                    },
                };
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            TableFactor::Table { version: Some(TableVersion::ForSystemTimeAsOf(ref time)), .. } => {
                let time = time.clone();
                let place = span::of_parser(relation_span(&relation)).filter(|_| self.keep_places);
                let (table, alias) = system_time::without_version(relation);
                let plan = system_time::plan(context.plan(table)?, &time, place)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

fn relation_span(relation: &TableFactor) -> tokenizer::Span {
    datafusion::sql::sqlparser::ast::Spanned::span(relation)
}

fn argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

impl FromCall<'_> {
    /// The place of a part of the call.
    pub(crate) fn place_of(&self, part: &impl datafusion::sql::sqlparser::ast::Spanned) -> Option<Span> {
        span::of(part).filter(|_| self.keep_places)
    }

    /// Binds the query in argument `index`.
    pub(crate) fn query(&mut self, index: usize) -> Result<LogicalPlan> {
        match self.arguments.get(index) {
            Some(Expr::Subquery(query)) => self.context.plan(ast_build::derived(query.clone())),
            _ => internal_err!("argument {index} of a call of the planner is a query"),
        }
    }

    /// Binds what [`joined`] made of a part of FROM, in argument `index`.
    pub(crate) fn joined(&mut self, index: usize) -> Result<LogicalPlan> {
        if let Some(Expr::Subquery(query)) = self.arguments.get(index)
            && let SetExpr::Select(select) = &*query.body
            && let [from] = select.from.as_slice()
        {
            let table_with_joins = Box::new(from.clone());
            return self.context.plan(TableFactor::NestedJoin { table_with_joins, alias: None });
        }
        internal_err!("argument {index} of a call of the planner is a part of FROM")
    }
}

/// A part of FROM as an argument of a call; [`FromCall::joined`] takes it out again.
pub(crate) fn joined(from: TableWithJoins) -> Expr {
    let select = ast_build::select(vec![], vec![from]);
    Expr::Subquery(Box::new(ast_build::query(SetExpr::Select(Box::new(select)))))
}

/// A query as an argument of a call.
pub(crate) fn subquery(body: SetExpr) -> Expr {
    let query = match body {
        SetExpr::Query(query) => query,
        body => Box::new(ast_build::query(body)),
    };
    Expr::Subquery(query)
}

/// The query that reads the rows of a call.
pub(crate) fn query_of(call: Expr) -> Query {
    ast_build::query(ast_build::select_all(ast_build::table_call(call, None)))
}

//! From a parsed query to a streaming plan.
//!
//! ```text
//! ast::Query --check--> refusals with their places --rewrite--> names and types as Flink has them
//!   --SqlToRel--> LogicalPlan --analyse, optimise--> LogicalPlan --lower--> thalweg_plan::Plan
//! ```
//!
//! DataFusion binds names and types and moves filters and projections. It drops some constructs without a word and plans
//! others wrongly for streams, so everything we do not run is refused on the syntax tree, before DataFusion sees it.

mod aggregate_function;
mod approximate;
mod arguments;
mod ast_build;
mod bounded;
mod check;
mod context;
mod data_type;
mod decimal;
mod empty_input;
mod error;
mod exists;
mod expression;
mod fit_nested;
mod from_call;
mod from_clause;
mod function_registry;
mod global_aggregate;
mod group_aggregate;
mod group_alias;
mod group_window;
mod grouping_sets;
mod implicit_cast;
mod interval;
mod join;
mod join_rules;
mod lateral;
mod lower;
mod names_apart;
mod operator;
mod optimize;
mod ordered;
mod outer_columns;
mod over;
mod processing_time;
mod project;
mod quantified;
mod query;
mod rank;
mod read_twice;
mod relation;
mod rewrite;
mod set_operation;
mod set_operation_node;
mod sink;
mod sort;
mod source;
mod span;
mod state_ttl;
mod subquery;
mod system_time;
mod text;
mod type_name;
mod unique_names;
mod unnest;
mod unnest_node;
mod using_join;
mod values;
mod window_again;
mod window_aggregate;
mod window_call;
mod window_function;
mod window_groups;
mod window_node;
mod zone_cast;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::sql::sqlparser::ast;
use thalweg_core::{Code, Diagnostic, SourceText, Span, TableDefinition};
use thalweg_plan::Plan;

/// What the planner needs to know of the session.
pub struct PlannerInput<'a> {
    pub tables: &'a dyn TableLookup,
    /// The functions of our own; they win over DataFusion's of the same name. Names are matched without regard to case.
    pub functions: Vec<Arc<ScalarUDF>>,
    /// Makes calls of syntax that DataFusion would refuse or plan with another meaning, such as `FLOOR(ts TO DAY)`. Applied to
    /// every expression, inner ones first.
    pub rewrite: &'a dyn Fn(&mut ast::Expr),
    /// How operators and special syntax become calls; asked in order, after the planner's own checks.
    pub expr_planners: Vec<Arc<dyn ExprPlanner>>,
    /// An IANA name, from `table.local-time-zone`.
    pub time_zone: String,
    /// The text that the spans of the syntax tree point into.
    pub source: &'a SourceText,
    /// `table.exec.source.idle-timeout`; a table's own `scan.watermark.idle-timeout` wins.
    pub idle_timeout_ms: Option<i64>,
    /// `table.exec.state.ttl`; `None` is never.
    pub state_ttl_ms: Option<i64>,
    /// `table.exec.unmatched-retractions`
    pub ignores_unmatched: bool,
    /// Parses the text of a computed column or of a watermark.
    pub parse_expression: &'a dyn Fn(&str) -> Result<ast::Expr, Diagnostic>,
}

/// The tables and views that a query can name.
pub trait TableLookup {
    fn table(&self, name: &str) -> Option<Arc<TableDefinition>>;

    /// `table` with the options of a hint, which win over its own.
    ///
    /// # Errors
    /// Options that the table cannot have.
    fn with_options(&self, table: &TableDefinition, hinted: &[(&str, &str)]) -> Result<Arc<TableDefinition>, Diagnostic> {
        let mut table = table.clone();
        hinted.iter().for_each(|(key, value)| table.options.insert(*key, *value));
        Ok(Arc::new(table))
    }

    /// The query of a view and the names of its columns; no names when the view gives none of its own.
    fn view(&self, name: &str) -> Option<(ast::Query, Vec<String>)>;

    /// Names of all tables and views, for suggestions.
    fn names(&self) -> Vec<String>;
}

/// `INSERT INTO target (columns) query`.
pub struct Insert {
    pub target: Arc<TableDefinition>,
    pub target_span: Option<Span>,
    pub columns: Option<Vec<(String, Option<Span>)>>,
    pub query: ast::Query,
    pub span: Option<Span>,
    /// Whether the connector of the target can take rows back.
    pub takes_updates: bool,
    /// Whether it keeps the last row of each PRIMARY KEY.
    pub takes_upserts: bool,
    /// `ON CONFLICT DO …`.
    pub conflict: Option<thalweg_plan::Conflict>,
    /// Whether a query with another key than the sink's must say what happens to conflicts.
    pub requires_conflict: bool,
}

/// Plans a SELECT. The last node is a sink for the terminal.
///
/// # Errors
/// All findings that could be made at once, in the order of the text.
pub fn plan_query(input: &PlannerInput, query: &ast::Query) -> Result<Plan, Vec<Diagnostic>> {
    in_source(input, || {
        let logical = query::optimised(input, query).map_err(|findings| with_places(findings, query))?;
        let mut lowering = lower::Lowering::new(input, [&logical]);
        lowering
            .lower(&logical)
            .and_then(|relation| sink::add_result(&mut lowering, relation))
            .map_err(|finding| vec![with_place(finding, query)])?;
        Ok(lowering.plan)
    })
}

/// Plans the INSERTs of one job: tables read by several of them are read once, with the columns that any of them needs and
/// with one watermark. Two INSERTs into one table get sinks of their own.
///
/// # Errors
/// As [`plan_query`], for all INSERTs together.
pub fn plan_inserts(input: &PlannerInput, inserts: &[Insert]) -> Result<Plan, Vec<Diagnostic>> {
    in_source(input, || {
        let mut findings = vec![];
        let mut planned = vec![];
        for insert in inserts {
            match sink::optimised(input, insert) {
                Ok(logical) => planned.push((insert, logical)),
                Err(errors) => findings.append(&mut with_places(errors, &insert.query)),
            }
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        let mut lowering = lower::Lowering::new(input, planned.iter().map(|(_, logical)| logical));
        for (insert, logical) in &planned {
            let lowered = lowering.lower(logical).and_then(|relation| sink::add_table(&mut lowering, relation, insert));
            if let Err(finding) = lowered {
                findings.push(with_place(finding, &insert.query));
            }
        }
        if findings.is_empty() { Ok(lowering.plan) } else { Err(findings) }
    })
}

fn with_places(findings: Vec<Diagnostic>, query: &ast::Query) -> Vec<Diagnostic> {
    findings.into_iter().map(|finding| with_place(finding, query)).collect()
}

/// A finding that has lost its place points at the literal that it quotes, a refused grouping at the GROUP BY of the query, and
/// any other at the query: among twenty statements that is much better than nothing.
fn with_place(finding: Diagnostic, query: &ast::Query) -> Diagnostic {
    if !finding.labels.is_empty() || finding.source.is_some() {
        return finding;
    }
    if let Some(place) = finding.message.split('\'').nth(1).and_then(|text| span::find_text(query, text)) {
        return finding.label(place, "here");
    }
    if finding.code == Code::NOT_YET
        && let Some(place) = span::find_grouping(query)
    {
        return finding.label(place, "here");
    }
    if finding.message == sort::OTHER_ORDER
        && let Some(place) = span::find_order(query)
    {
        return finding.label(place, "another order");
    }
    finding.label_opt(span::of(query), "in this query")
}

/// Gives every finding the text that its labels point into.
fn in_source<T>(input: &PlannerInput, plan: impl FnOnce() -> Result<T, Vec<Diagnostic>>) -> Result<T, Vec<Diagnostic>> {
    plan().map_err(|findings| {
        findings
            .into_iter()
            .map(|finding| match finding.source {
                Some(_) => finding,
                None => finding.in_source(input.source.clone()),
            })
            .collect()
    })
}

//! Joins the session to the planner: hands it tables, views, functions and settings.

use std::cell::RefCell;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use thalweg_core::{Clock, Code, Diagnostic, TableDefinition};
use thalweg_plan::Plan;

use crate::catalog::validate;
use crate::functions::{self, FunctionContext};
use crate::planner::{self, Insert, PlannerInput, TableLookup};
use crate::{InsertStatement, PlannerContext, QueryPlanner, parse_expression_at};

/// The planner of this crate, for [`crate::Session`]. The clock is for functions of the current time.
pub struct StreamPlanner {
    pub clock: Arc<dyn Clock>,
}

impl StreamPlanner {
    /// Runs `plan` over what the session knows. Findings about tables that a query named win over "there is no such table".
    fn with_input<T>(
        &self,
        context: &PlannerContext<'_>,
        parse_expression: &dyn Fn(&str) -> Result<ast::Expr, Diagnostic>,
        plan: impl FnOnce(&PlannerInput<'_>) -> Result<T, Vec<Diagnostic>>,
    ) -> Result<T, Vec<Diagnostic>> {
        let tables = SessionTables { context, unusable: RefCell::default() };
        let zone = context.settings.time_zone();
        let ms_of =
            |name: &str| context.settings.duration(name).map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
        let input = PlannerInput {
            tables: &tables,
            functions: functions::all(&FunctionContext { time_zone: zone, clock: self.clock.clone() }),
            time_zone: zone.name().to_string(),
            source: context.source,
            idle_timeout_ms: ms_of("table.exec.source.idle-timeout"),
            state_ttl_ms: ms_of("table.exec.state.ttl"),
            ignores_unmatched: context.settings.get("table.exec.unmatched-retractions") == Some("DROP"),
            parse_expression,
            rewrite: &functions::rewrite::rewrite,
            expr_planners: functions::expr_planner::expr_planners(),
        };
        let result = plan(&input);
        let unusable = tables.unusable.into_inner();
        result.map_err(|findings| {
            if unusable.is_empty() {
                return findings;
            }
            unusable.into_iter().map(|(name, finding)| at_its_use(&name, finding, &findings)).collect()
        })
    }
}

impl QueryPlanner for StreamPlanner {
    fn plan_query(&self, context: &PlannerContext<'_>, query: &ast::Query) -> Result<Plan, Vec<Diagnostic>> {
        self.with_input(context, &parse, |input| planner::plan_query(input, query))
    }

    fn plan_inserts(&self, context: &PlannerContext<'_>, inserts: &[InsertStatement]) -> Result<Plan, Vec<Diagnostic>> {
        let mut planned = vec![];
        for insert in inserts {
            let table = context.catalog.writable(&insert.target, Some(insert.target_span), context.registry)?;
            let hinted: Vec<(&str, &str)> = insert.hinted_options.iter().collect();
            let target = match hinted.as_slice() {
                [] => Arc::new(table.definition.clone()),
                hinted => with_options(context, &table.definition, hinted)
                    .map_err(|finding| vec![finding.label(insert.target_span, "written here")])?,
            };
            let connector = target.connector().and_then(|name| context.registry.connector(name));
            planned.push(Insert {
                takes_updates: connector.is_some_and(|connector| connector.takes_updates),
                takes_upserts: connector.is_some_and(|connector| connector.takes_upserts),
                conflict: insert.conflict,
                requires_conflict: context.settings.boolean("table.exec.sink.require-on-conflict"),
                target,
                target_span: Some(insert.target_span),
                columns: insert
                    .columns
                    .as_ref()
                    .map(|columns| columns.iter().map(|(name, span)| (name.clone(), Some(*span))).collect()),
                query: (*insert.query).clone(),
                span: Some(insert.span),
            });
        }
        self.with_input(context, &parse, |input| planner::plan_inserts(input, &planned))
    }

    fn function_names(&self) -> Vec<String> {
        functions::names()
    }
}

/// The planner was told that the table does not exist; where it said so is where the query reads it.
fn at_its_use(name: &str, finding: Diagnostic, planned: &[Diagnostic]) -> Diagnostic {
    let quoted = format!("\"{name}\"");
    let missed = planned.iter().find(|missed| missed.code == Code::UNKNOWN_TABLE && missed.message.ends_with(&quoted));
    match missed.and_then(|missed| Some((missed.labels.first()?.span, missed.source.clone()))) {
        Some((place, source)) if finding.labels.is_empty() => Diagnostic { source, ..finding.label(place, "read here") },
        _ => finding,
    }
}

/// `table` with the options of a hint. Findings have no place: the hint's is in another text than the table's.
fn with_options(
    context: &PlannerContext<'_>,
    table: &TableDefinition,
    hinted: &[(&str, &str)],
) -> Result<Arc<TableDefinition>, Diagnostic> {
    if !context.settings.boolean("table.dynamic-table-options.enabled") {
        return Err(Diagnostic::error(Code::BAD_SETTING, "hint OPTIONS is switched off")
            .help("SET 'table.dynamic-table-options.enabled' = 'true'"));
    }
    let mut table = table.clone();
    hinted.iter().for_each(|(key, value)| table.options.insert(*key, *value));
    let findings = validate::validate(&table, context.registry);
    match findings.wrong.into_iter().chain(findings.missing).next() {
        None => Ok(Arc::new(table)),
        Some(finding) => {
            let message = format!("hint OPTIONS of table \"{}\": {}", table.name, finding.message);
            Err(Diagnostic { labels: vec![], message, ..finding })
        }
    }
}

fn parse(sql: &str) -> Result<ast::Expr, Diagnostic> {
    parse_expression_at(sql, None)
}

/// The session's tables as the planner looks them up.
struct SessionTables<'a> {
    context: &'a PlannerContext<'a>,
    /// Why tables that exist cannot be read.
    unusable: RefCell<Vec<(String, Diagnostic)>>,
}

impl TableLookup for SessionTables<'_> {
    fn table(&self, name: &str) -> Option<Arc<TableDefinition>> {
        self.context.catalog.table(name)?;
        match self.context.catalog.readable(name, None, self.context.registry) {
            Ok(table) => Some(Arc::new(table.definition.clone())),
            Err(findings) => {
                let mut unusable = self.unusable.borrow_mut();
                for finding in findings {
                    let finding = (name.to_string(), finding);
                    if !unusable.contains(&finding) {
                        unusable.push(finding);
                    }
                }
                None
            }
        }
    }

    fn with_options(&self, table: &TableDefinition, hinted: &[(&str, &str)]) -> Result<Arc<TableDefinition>, Diagnostic> {
        with_options(self.context, table, hinted)
    }

    fn view(&self, name: &str) -> Option<(ast::Query, Vec<String>)> {
        self.context.catalog.view(name).map(|view| ((*view.query).clone(), view.columns.clone()))
    }

    fn names(&self) -> Vec<String> {
        let catalog = self.context.catalog;
        catalog.table_names().into_iter().chain(catalog.view_names()).map(str::to_string).collect()
    }
}

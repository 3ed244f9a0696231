//! What DataFusion's binder asks of us: tables, views, functions, types.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, TableReference};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::sql::planner::{NullOrdering, ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast;
use thalweg_core::{Code, ColumnKind, Diagnostic, TableDefinition, nearest};

use super::data_type::FlinkTypes;
use super::error::{finding, refuse};
use super::from_call::FromCalls;
use super::function_registry::FunctionRegistry;
use super::operator::{self, FlinkOperators};
use super::source::table_expression;
use super::type_name::SQL_TYPE;
use super::unique_names::with_unique_names;
use super::window_call::WindowCalls;
use super::{PlannerInput, check, group_alias, rewrite, subquery, system_time};
use crate::parser::split_hinted_name;

/// Binds queries against the tables of a session.
pub(crate) struct Binder<'a> {
    input: &'a PlannerInput<'a>,
    functions: Arc<FunctionRegistry>,
    options: ConfigOptions,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    /// The views around the text that is bound, outermost first: a view among them is defined by itself.
    views: Vec<String>,
    /// Whether places in the syntax tree are places in the user's text.
    keep_places: bool,
}

impl<'a> Binder<'a> {
    pub(crate) fn new(input: &'a PlannerInput<'a>) -> Self {
        Self::within(input, Arc::new(FunctionRegistry::new(&input.functions)), vec![], true)
    }

    /// A binder for texts that are not the user's query, whose places mean nothing in it.
    pub(crate) fn detached(input: &'a PlannerInput<'a>) -> Self {
        Self::within(input, Arc::new(FunctionRegistry::new(&input.functions)), vec![], false)
    }

    fn within(input: &'a PlannerInput<'a>, functions: Arc<FunctionRegistry>, views: Vec<String>, keep_places: bool) -> Self {
        let mut expr_planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(FlinkOperators)];
        expr_planners.extend(input.expr_planners.iter().cloned());
        Binder {
            input,
            functions,
            options: config_options(),
            expr_planners,
            relation_planners: vec![Arc::new(WindowCalls { keep_places }), Arc::new(FromCalls { keep_places })],
            views,
            keep_places,
        }
    }

    pub(crate) fn functions(&self) -> &FunctionRegistry {
        &self.functions
    }

    /// Checks and binds a query.
    ///
    /// # Errors
    /// All refusals of [`check`], or the first finding of the binder.
    pub(crate) fn bind(&self, query: &ast::Query) -> Result<LogicalPlan, Vec<Diagnostic>> {
        let refusals = check::check(query);
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let rewritten = rewrite::rewrite(query, self.input.rewrite);
        let unknown = check::unknown_functions(&rewritten, &self.functions);
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let hidden = self.names_of_select_list(&rewritten);
        if !hidden.is_empty() {
            return Err(hidden);
        }
        let statement = ast::Statement::Query(Box::new(rewritten));
        self.planner()
            .sql_statement_to_plan(statement)
            .and_then(|plan| operator::check_plan(&plan).map(|()| plan))
            .and_then(system_time::resolve)
            .and_then(subquery::prepare)
            .and_then(with_unique_names)
            .map_err(|error| vec![finding(&error, Some(query))])
    }

    /// Findings about names in GROUP BY and HAVING that would be looked up in the SELECT list.
    fn names_of_select_list(&self, query: &ast::Query) -> Vec<Diagnostic> {
        let candidates = group_alias::candidates(query);
        let is_column = |candidate: &group_alias::Candidate| {
            let probe = ast::Statement::Query(Box::new(candidate.probe.clone()));
            match self.planner().sql_statement_to_plan(probe) {
                Ok(_) => Some(true),
                // Anything else that is wrong is found when the query itself is bound.
                Err(error) => (finding(&error, None).code == Code::UNKNOWN_COLUMN).then_some(false),
            }
        };
        candidates.iter().filter_map(|candidate| candidate.finding(is_column(candidate)?)).collect()
    }

    /// DataFusion's binder with our settings.
    pub(crate) fn planner(&self) -> SqlToRel<'_, Self> {
        let options = ParserOptions::new()
            .with_parse_float_as_decimal(true)
            .with_enable_ident_normalization(false)
            .with_map_string_types_to_utf8view(false)
            .with_default_null_ordering(NullOrdering::NullsMin)
            .with_collect_spans(self.keep_places);
        SqlToRel::new_with_options(self, options)
    }

    fn view(&self, name: &str, query: &ast::Query, columns: Vec<String>) -> Result<LogicalPlan, Diagnostic> {
        if self.views.iter().any(|outer| outer == name) {
            return Err(Diagnostic::error(Code::BAD_TABLE, format!("view \"{name}\" is defined by itself")));
        }
        let views = [self.views.as_slice(), &[name.to_string()]].concat();
        let inner = Binder::within(self.input, self.functions.clone(), views, false);
        let plan = inner.bind(query).map_err(|findings| in_view(name, findings))?;
        if columns.is_empty() {
            return Ok(plan);
        }
        let fields = plan.schema().columns();
        if fields.len() != columns.len() {
            let message = format!("view \"{name}\" names {} columns, its query gives {}", columns.len(), fields.len());
            return Err(Diagnostic::error(Code::BAD_TABLE, message));
        }
        let renamed = fields.into_iter().zip(columns).map(|(field, column)| Expr::Column(field).alias(column));
        LogicalPlanBuilder::from(plan).project(renamed).and_then(LogicalPlanBuilder::build).map_err(|error| finding(&error, None))
    }
}

/// The first finding in a view, without places: they point into another text.
fn in_view(name: &str, findings: Vec<Diagnostic>) -> Diagnostic {
    let first = findings.into_iter().next().expect("a failed query has a finding");
    Diagnostic { labels: vec![], message: format!("in view \"{name}\": {}", first.message), ..first }
}

/// DataFusion's settings for everything we ask of it.
pub(crate) fn config_options() -> ConfigOptions {
    let mut options = ConfigOptions::new();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    // As in Flink, nulls are the smallest values. An ORDER BY inside a query means nothing without a LIMIT.
    options.sql_parser.default_null_ordering = "nulls_min".to_string();
    options.sql_parser.enable_subquery_sort_elimination = true;
    options.optimizer.skip_failed_rules = false;
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    options
}

impl ContextProvider for Binder<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let (table, hinted) = split_hinted_name(name.table());
        if name.schema().is_none() {
            if let Some(definition) = self.input.tables.table(table) {
                return match hinted.as_slice() {
                    [] => Ok(Arc::new(ScannedTable::new(definition, self.input))),
                    hinted => match self.input.tables.with_options(&definition, hinted) {
                        Ok(definition) => Ok(Arc::new(ScannedTable::new(definition, self.input))),
                        Err(finding) => Err(refuse(finding)),
                    },
                };
            }
            if !hinted.is_empty() && self.input.tables.view(table).is_some() {
                return Err(refuse(
                    Diagnostic::error(Code::NOT_IN_FLINK, format!("hint OPTIONS is for tables, and \"{table}\" is a view"))
                        .help("write the hint behind the table in the query of the view"),
                ));
            }
            if let Some((query, columns)) = self.input.tables.view(table) {
                let plan = self.view(table, &query, columns).map_err(refuse)?;
                return Ok(Arc::new(InlinedView { schema: Arc::new(plan.schema().as_arrow().clone()), plan }));
            }
        }
        let name = if hinted.is_empty() { name.to_string() } else { table.to_string() };
        Err(refuse(unknown_table(&name, &self.input.tables.names())))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(FlinkTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar(name)
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window(name)
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.names().to_vec()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        vec![]
    }

    fn udaf_names(&self) -> Vec<String> {
        vec![]
    }

    fn udwf_names(&self) -> Vec<String> {
        vec![]
    }
}

fn unknown_table(name: &str, names: &[String]) -> Diagnostic {
    let otherwise = match names {
        [] => Some("no table is declared yet; CREATE TABLE comes first".to_string()),
        names if nearest(name, names.iter().map(String::as_str)).is_none() && names.len() <= 20 => {
            Some(format!("known here: {}", names.join(", ")))
        }
        _ => None,
    };
    Diagnostic::error(Code::UNKNOWN_TABLE, format!("unknown table \"{name}\"")).help_nearest(
        name,
        names.iter().map(String::as_str),
        otherwise,
    )
}

/// A declared table in a bound plan.
#[derive(Debug)]
pub(crate) struct ScannedTable {
    pub(crate) definition: Arc<TableDefinition>,
    schema: SchemaRef,
    /// What is computed when the table is read, by column.
    pub(crate) computed: HashMap<String, Expr>,
}

impl ScannedTable {
    fn new(definition: Arc<TableDefinition>, input: &PlannerInput) -> Self {
        // Arrow has no MULTISET: that a column is one travels beside it.
        let schema = definition.schema();
        let fields = definition.columns.iter().zip(schema.fields()).map(|(column, field)| {
            let field = field.as_ref().clone();
            match column.sql_type.starts_with("MULTISET") {
                true => field.with_metadata([(SQL_TYPE.to_string(), column.sql_type.clone())].into()),
                false => field,
            }
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let computed = definition.columns.iter().filter_map(|column| match &column.kind {
            // What is wrong with one is said where it is read.
            ColumnKind::Computed { sql } => {
                let (expr, _) = table_expression(input, definition.schema(), sql).ok()?;
                Some((column.name().to_string(), expr))
            }
            _ => None,
        });
        ScannedTable { computed: computed.collect(), schema, definition }
    }
}

impl TableSource for ScannedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// A view in a bound plan: DataFusion puts its plan in place.
#[derive(Debug)]
struct InlinedView {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl TableSource for InlinedView {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn get_logical_plan(&'_ self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

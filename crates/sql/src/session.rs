//! A session: what exists, what is set, and what each statement does to it.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast;
use thalweg_core::{Code, Column, ColumnKind, Diagnostic, Options, Registry, SourceText, TableDefinition};
use thalweg_plan::{NodeKind, Plan};

use crate::catalog::{Catalog, CatalogTable, CatalogView, resolve, validate};
use crate::parser::on_big_stack;
use crate::settings::Settings;
use crate::show;
use crate::statement::{CreateTable, CreateView, Expression, InsertStatement, Literal, Name, Parsed, Statement};
use crate::types;

/// All that planning needs to know; only data.
#[derive(Clone, Copy)]
pub struct PlannerContext<'a> {
    pub catalog: &'a Catalog,
    pub settings: &'a Settings,
    pub registry: Registry,
    /// The text that the spans of the query point into. An INSERT has its own, a view and a table too.
    pub source: &'a SourceText,
}

/// Makes plans of queries.
pub trait QueryPlanner: Send + Sync {
    /// The plan of a SELECT, with a result sink.
    fn plan_query(&self, context: &PlannerContext<'_>, query: &ast::Query) -> Result<Plan, Vec<Diagnostic>>;

    /// One plan of all INSERTs, which share scans.
    fn plan_inserts(&self, context: &PlannerContext<'_>, inserts: &[InsertStatement]) -> Result<Plan, Vec<Diagnostic>>;

    /// The type of an expression over `columns`, and whether it may be null: that of a computed column.
    /// By default, what `SELECT expr` over a table of these columns has.
    fn expression_type(
        &self,
        context: &PlannerContext<'_>,
        columns: &[Column],
        expr: &ast::Expr,
    ) -> Result<(DataType, bool), Vec<Diagnostic>> {
        let mut catalog = context.catalog.clone();
        catalog.insert_table(scratch_table(columns, context));
        let item = ast::SelectItem::ExprWithAlias { expr: expr.clone(), alias: ast::Ident::new("value") };
        let query = crate::parser::query_over(SCRATCH_NAME, item).map_err(|finding| vec![finding])?;
        let plan = self.plan_query(&PlannerContext { catalog: &catalog, ..*context }, &query)?;
        let schema = result_schema(&plan);
        Ok(schema.fields().first().map_or((DataType::Null, true), |field| (field.data_type().clone(), field.is_nullable())))
    }

    /// The functions that exist, for `SHOW FUNCTIONS`.
    fn function_names(&self) -> Vec<String> {
        vec![]
    }
}

/// What a statement led to. Queries and INSERTs are for the caller to run.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Done; a line for the shell.
    Done(String),
    /// Rows to show: SHOW, DESCRIBE, SET.
    Rows(RecordBatch),
    /// Text to show: EXPLAIN, SHOW CREATE.
    Text(String),
    /// A SELECT to run.
    Query(Box<Plan>),
    /// INSERTs to run: one job together with the others of the file, or each by itself under `table.dml-sync`.
    /// Plan them with [`Session::plan_inserts`].
    Inserts(Vec<InsertStatement>),
}

pub struct Session {
    registry: Registry,
    planner: Arc<dyn QueryPlanner>,
    catalog: Catalog,
    settings: Settings,
}

impl Session {
    pub fn new(registry: Registry, planner: Arc<dyn QueryPlanner>) -> Self {
        Session { registry, planner, catalog: Catalog::new(), settings: Settings::new() }
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    pub fn context<'a>(&'a self, source: &'a SourceText) -> PlannerContext<'a> {
        PlannerContext { catalog: &self.catalog, settings: &self.settings, registry: self.registry, source }
    }

    /// Does what a statement says, as far as that needs no running.
    ///
    /// # Errors
    /// Every finding, each with its source. The session is unchanged then.
    pub fn execute(&mut self, parsed: &Parsed) -> Result<Outcome, Vec<Diagnostic>> {
        self.execute_statement(parsed).map_err(|findings| with_source(findings, &parsed.source))
    }

    /// One plan of INSERTs, which may come from several files.
    ///
    /// # Errors
    /// Every finding, each with its source.
    pub fn plan_inserts(&self, inserts: &[InsertStatement]) -> Result<Plan, Vec<Diagnostic>> {
        let Some(first) = inserts.first() else {
            return Ok(Plan::default());
        };
        on_big_stack(|| self.planner.plan_inserts(&self.context(&first.source), inserts))
            .map_err(|findings| with_source(findings, &first.source))
    }

    fn plan_query(&self, source: &SourceText, query: &ast::Query) -> Result<Plan, Vec<Diagnostic>> {
        on_big_stack(|| self.planner.plan_query(&self.context(source), query))
    }

    fn execute_statement(&mut self, parsed: &Parsed) -> Result<Outcome, Vec<Diagnostic>> {
        let one = |finding: Diagnostic| vec![finding];
        let done = |text: String| Ok(Outcome::Done(text));
        match &parsed.statement {
            Statement::CreateTable(create) => self.create_table(create, &parsed.source),
            Statement::CreateTableAs { table, query, .. } => self.create_table_as(table, query, parsed),
            Statement::CreateView(create) => self.create_view(create, &parsed.source),
            Statement::DropTable(drop) => {
                let found = self.catalog.drop_table(drop).map_err(one)?;
                done(dropped("table", &drop.name, found))
            }
            Statement::DropView(drop) => {
                let found = self.catalog.drop_view(drop).map_err(one)?;
                done(dropped("view", &drop.name, found))
            }
            Statement::Insert(insert) => self.check_inserts(std::slice::from_ref(insert)),
            Statement::StatementSet(inserts) => self.check_inserts(inserts),
            Statement::Set { key, value } => self.set(key, value).map_err(one),
            Statement::SetAll => Ok(Outcome::Rows(show::settings(&self.settings))),
            Statement::Reset(None) => {
                self.settings.reset_all();
                done("all settings have their defaults".to_string())
            }
            Statement::Reset(Some(key)) => {
                self.settings.reset(key).map_err(one)?;
                done(format!("setting {} has its default", key.value))
            }
            Statement::ShowTables => {
                // Flink's SHOW TABLES lists views too.
                let mut names = [self.catalog.table_names(), self.catalog.view_names()].concat();
                names.sort_unstable();
                Ok(Outcome::Rows(show::names("table name", names)))
            }
            Statement::ShowViews => Ok(Outcome::Rows(show::names("view name", self.catalog.view_names()))),
            Statement::ShowFunctions => {
                let mut names = self.planner.function_names();
                names.sort_unstable();
                Ok(Outcome::Rows(show::names("function name", names.iter().map(String::as_str).collect())))
            }
            Statement::ShowCreateTable(name) => self.show_create_table(name).map(Outcome::Text).map_err(one),
            Statement::ShowCreateView(name) => self.show_create_view(name).map(Outcome::Text).map_err(one),
            Statement::Describe(name) => self.describe(name).map(Outcome::Rows),
            Statement::Explain { statement, .. } => self.explain(statement),
            Statement::Query(query) => self.plan_query(&parsed.source, query).map(|plan| Outcome::Query(Box::new(plan))),
        }
    }

    fn set(&mut self, key: &Literal, value: &Literal) -> Result<Outcome, Diagnostic> {
        self.settings.set_literal(key, value)?;
        Ok(Outcome::Done(format!("setting {} has its new value", key.value)))
    }

    fn create_table(&mut self, create: &CreateTable, source: &SourceText) -> Result<Outcome, Vec<Diagnostic>> {
        if !self.catalog.check_new(&create.name, create.if_not_exists).map_err(|finding| vec![finding])? {
            return Ok(Outcome::Done(format!("table {} exists already", create.name.value)));
        }
        let definition = self.resolve(create, source)?;
        if definition.columns.is_empty() {
            return Err(vec![
                Diagnostic::error(Code::BAD_TABLE, format!("table \"{}\" has no columns", definition.name))
                    .label(create.name.span, "no columns")
                    .help("declare its columns in parentheses, or use LIKE or AS"),
            ]);
        }
        self.add_table(definition, source)?;
        Ok(Outcome::Done(format!("table {} is created", create.name.value)))
    }

    fn resolve(&self, create: &CreateTable, source: &SourceText) -> Result<TableDefinition, Vec<Diagnostic>> {
        let context = self.context(source);
        let type_of = |columns: &[Column], expression: &Expression| {
            on_big_stack(|| self.planner.expression_type(&context, columns, &expression.expr))
        };
        resolve::resolve(create, &self.catalog, &type_of)
    }

    fn add_table(&mut self, definition: TableDefinition, source: &SourceText) -> Result<(), Vec<Diagnostic>> {
        let findings = validate::validate(&definition, self.registry);
        if !findings.wrong.is_empty() {
            return Err([findings.wrong, findings.missing].concat());
        }
        self.catalog.insert_table(CatalogTable { definition, source: source.clone(), missing: findings.missing });
        Ok(())
    }

    /// `CREATE TABLE … AS query` is CREATE TABLE with the columns of the query behind those declared, then INSERT.
    fn create_table_as(&mut self, create: &CreateTable, query: &ast::Query, parsed: &Parsed) -> Result<Outcome, Vec<Diagnostic>> {
        if !self.catalog.check_new(&create.name, create.if_not_exists).map_err(|finding| vec![finding])? {
            return Ok(Outcome::Done(format!("table {} exists already", create.name.value)));
        }
        if let Some(column) = create.columns.first() {
            return Err(vec![
                Diagnostic::error(Code::NOT_YET, "CREATE TABLE … AS with declared columns does not run yet")
                    .label(column.name.span, "declared here")
                    .help("write CREATE TABLE and INSERT INTO"),
            ]);
        }
        let plan = self.plan_query(&parsed.source, query)?;
        let schema = result_schema(&plan);
        let mut columns: Vec<Column> = vec![];
        for field in schema.fields() {
            if columns.iter().any(|column| column.name() == field.name()) {
                return Err(vec![
                    Diagnostic::error(Code::DUPLICATE_NAME, format!("the query has two columns \"{}\"", field.name()))
                        .label(create.name.span, "table")
                        .help("give one of them another name with AS"),
                ]);
            }
            let field = field.as_ref().clone().with_metadata(Default::default());
            let sql_type = types::to_sql(field.data_type());
            columns.push(TableDefinition::physical_column(field, sql_type));
        }
        // Keys, partitions and watermark may name columns of the query, so they are resolved against a table that has them.
        let mut pattern = Catalog::new();
        let name = create.name.value.clone();
        pattern.insert_table(CatalogTable {
            definition: TableDefinition { columns, ..empty_table(&name) },
            source: parsed.source.clone(),
            missing: vec![],
        });
        let like = crate::statement::LikeClause { table: create.name.clone(), options: vec![] };
        let create = CreateTable { like: Some(like), ..create.clone() };
        let definition = resolve::resolve(&create, &pattern, &|_, _| Ok((DataType::Null, true)))?;
        self.add_table(definition, &parsed.source)?;
        let insert = InsertStatement {
            target: name,
            target_span: create.name.span,
            hinted_options: Options::new(),
            columns: None,
            query: Box::new(query.clone()),
            conflict: None,
            overwrite: false,
            span: parsed.span,
            text: parsed.text.clone(),
            source: parsed.source.clone(),
        };
        let outcome = self.check_inserts(std::slice::from_ref(&insert));
        if outcome.is_err() {
            self.catalog.forget(&insert.target);
        }
        outcome
    }

    fn create_view(&mut self, create: &CreateView, source: &SourceText) -> Result<Outcome, Vec<Diagnostic>> {
        let replaces = create.replace && self.catalog.view(&create.name.value).is_some();
        if !replaces && !self.catalog.check_new(&create.name, create.if_not_exists).map_err(|finding| vec![finding])? {
            return Ok(Outcome::Done(format!("view {} exists already", create.name.value)));
        }
        for (index, name) in create.columns.iter().enumerate() {
            if create.columns[..index].iter().any(|earlier| earlier.value == name.value) {
                return Err(vec![
                    Diagnostic::error(Code::DUPLICATE_NAME, format!("column \"{}\" is listed twice", name.value))
                        .label(name.span, "second time"),
                ]);
            }
        }
        match self.plan_query(source, &create.query) {
            Ok(plan) => {
                let found = result_schema(&plan).fields().len();
                if !create.columns.is_empty() && create.columns.len() != found {
                    return Err(vec![
                        Diagnostic::error(
                            Code::BAD_TABLE,
                            format!(
                                "view \"{}\" lists {} columns, its query has {found}",
                                create.name.value,
                                create.columns.len()
                            ),
                        )
                        .label(create.columns[0].span.union(create.columns[create.columns.len() - 1].span), "listed here")
                        .help("list one name for each column of the query"),
                    ]);
                }
            }
            // A view that does not run by itself may run within a query, such as a numbered one that is filtered there.
            Err(findings) if findings.iter().all(|finding| finding.code == Code::NOT_YET) => {}
            Err(findings) => return Err(findings),
        }
        self.catalog.insert_view(CatalogView {
            name: create.name.value.clone(),
            columns: create.columns.iter().map(|name| name.value.clone()).collect(),
            query: create.query.clone(),
            query_text: create.query_text.clone(),
            comment: create.comment.clone(),
            temporary: create.temporary,
            span: create.name.span,
            source: source.clone(),
        });
        Ok(Outcome::Done(format!("view {} is created", create.name.value)))
    }

    fn check_inserts(&self, inserts: &[impl std::borrow::Borrow<InsertStatement>]) -> Result<Outcome, Vec<Diagnostic>> {
        let mut findings = vec![];
        for insert in inserts.iter().map(std::borrow::Borrow::borrow) {
            if insert.overwrite {
                findings.push(
                    Diagnostic::error(Code::NOT_YET, "INSERT OVERWRITE does not run yet")
                        .label(insert.target_span, "overwritten")
                        .help("write INSERT INTO; Flink itself overwrites in batch mode only"),
                );
            }
            let table = match self.catalog.writable(&insert.target, Some(insert.target_span), self.registry) {
                Ok(table) => table,
                Err(mut more) => {
                    findings.append(&mut more);
                    continue;
                }
            };
            for (name, span) in insert.columns.iter().flatten() {
                findings.extend(check_target_column(&table.definition, name, *span));
            }
        }
        if findings.is_empty() {
            return Ok(Outcome::Inserts(inserts.iter().map(|insert| insert.borrow().clone()).collect()));
        }
        Err(findings)
    }

    fn explain(&self, explained: &Parsed) -> Result<Outcome, Vec<Diagnostic>> {
        let plan = match &explained.statement {
            Statement::Query(query) => self.plan_query(&explained.source, query)?,
            Statement::Insert(insert) => {
                self.check_inserts(std::slice::from_ref(insert))?;
                self.plan_inserts(std::slice::from_ref(insert))?
            }
            Statement::StatementSet(inserts) => {
                self.check_inserts(inserts)?;
                self.plan_inserts(inserts)?
            }
            _ => {
                return Err(vec![
                    Diagnostic::error(Code::NOT_YET, "EXPLAIN of this statement does not run yet")
                        .label(explained.span, "not a query or INSERT"),
                ]);
            }
        };
        Ok(Outcome::Text(plan.explain()))
    }

    fn show_create_table(&self, name: &Name) -> Result<String, Diagnostic> {
        match self.catalog.table(&name.value) {
            Some(table) => Ok(show::create_table(&table.definition)),
            None if self.catalog.view(&name.value).is_some() => {
                Err(Diagnostic::error(Code::UNKNOWN_TABLE, format!("\"{}\" is a view, not a table", name.value))
                    .label(name.span, "a view")
                    .help("write SHOW CREATE VIEW"))
            }
            None => Err(self.catalog.unknown_table(&name.value, Some(name.span))),
        }
    }

    fn show_create_view(&self, name: &Name) -> Result<String, Diagnostic> {
        match self.catalog.view(&name.value) {
            Some(view) => Ok(show::create_view(view)),
            None if self.catalog.table(&name.value).is_some() => {
                Err(Diagnostic::error(Code::UNKNOWN_TABLE, format!("\"{}\" is a table, not a view", name.value))
                    .label(name.span, "a table")
                    .help("write SHOW CREATE TABLE"))
            }
            None => Err(self.catalog.unknown_table(&name.value, Some(name.span))),
        }
    }

    fn describe(&self, name: &Name) -> Result<RecordBatch, Vec<Diagnostic>> {
        if let Some(table) = self.catalog.table(&name.value) {
            return Ok(show::describe_table(&table.definition));
        }
        match self.catalog.view(&name.value) {
            Some(view) => {
                let plan = self.plan_query(&view.source, &view.query).map_err(|findings| with_source(findings, &view.source))?;
                Ok(show::describe_view(view, &result_schema(&plan)))
            }
            None => Err(vec![self.catalog.unknown_table(&name.value, Some(name.span))]),
        }
    }
}

fn check_target_column(table: &TableDefinition, name: &str, span: thalweg_core::Span) -> Option<Diagnostic> {
    if table.writable_columns().any(|column| column.name() == name) {
        return None;
    }
    let names: Vec<&str> = table.writable_columns().map(Column::name).collect();
    let finding = match table.column(name) {
        Some(column) => {
            let kind = if matches!(column.kind, ColumnKind::Computed { .. }) { "computed" } else { "virtual" };
            Diagnostic::error(
                Code::SINK_SCHEMA,
                format!("column \"{name}\" of table \"{}\" is {kind} and cannot be written", table.name),
            )
            .help("leave it out of the list")
        }
        None => Diagnostic::error(Code::UNKNOWN_COLUMN, format!("table \"{}\" has no column \"{name}\"", table.name))
            .help_nearest(name, names, None),
    };
    Some(finding.label(span, "cannot be filled"))
}

fn dropped(kind: &str, name: &Name, found: bool) -> String {
    if found { format!("{kind} {} is dropped", name.value) } else { format!("there is no {kind} {}", name.value) }
}

/// Findings that do not say where they are are about `source`.
fn with_source(findings: Vec<Diagnostic>, source: &SourceText) -> Vec<Diagnostic> {
    findings
        .into_iter()
        .map(|finding| Diagnostic { source: finding.source.clone().or_else(|| Some(source.clone())), ..finding })
        .collect()
}

/// The columns that a plan of one query gives: what flows into its sink.
fn result_schema(plan: &Plan) -> SchemaRef {
    let Some(last) = plan.nodes.last() else {
        return Arc::new(Schema::empty());
    };
    match (&last.kind, last.inputs.first()) {
        (NodeKind::Sink(_), Some(input)) => plan.nodes[input.node].schema.clone(),
        _ => last.schema.clone(),
    }
}

fn empty_table(name: &str) -> TableDefinition {
    TableDefinition {
        name: name.to_string(),
        columns: vec![],
        watermark: None,
        primary_key: vec![],
        partitioned_by: vec![],
        comment: None,
        options: Options::new(),
        temporary: true,
        span: None,
    }
}

/// Nobody names a table like this; one that did would be hidden only while a type is found.
const SCRATCH_NAME: &str = "\u{1}columns";

/// A table of the given columns under [`SCRATCH_NAME`], readable whatever connectors there are.
fn scratch_table(columns: &[Column], context: &PlannerContext<'_>) -> CatalogTable {
    let mut definition = TableDefinition { columns: columns.to_vec(), ..empty_table(SCRATCH_NAME) };
    if let Some(connector) = context.registry.connectors.iter().find(|connector| connector.is_source) {
        definition.options.insert("connector", connector.name);
    }
    CatalogTable { definition, source: context.source.clone(), missing: vec![] }
}

#[cfg(test)]
mod tests;

//! Queries planned from their text: plans, findings, and values of planned expressions.

mod explain;
mod findings;
mod joins;
mod tables;
mod values;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_core::{Code, Diagnostic, SourceText, TableDefinition};
use thalweg_plan::Plan;

use super::{Insert, PlannerInput, TableLookup, plan_inserts, plan_query};

/// As much of Flink's dialect as these tests write: backticks, `TABLE t`, named arguments.
#[derive(Debug)]
struct TestDialect;

impl Dialect for TestDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_named_fn_args_with_rarrow_operator(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if !parser.peek_keyword(Keyword::TABLE) || parser.peek_nth_token(1).token == Token::LParen {
            return None;
        }
        let start = parser.next_token();
        Some(parser.parse_identifier().map(|name| {
            let keyword = ast::Ident::with_span(start.span, "TABLE");
            let argument = FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name)));
            Expr::Function(Function {
                name: ast::ObjectName::from(vec![keyword]),
                uses_odbc_syntax: false,
                parameters: FunctionArguments::None,
                args: FunctionArguments::List(FunctionArgumentList {
                    duplicate_treatment: None,
                    args: vec![argument],
                    clauses: vec![],
                }),
                filter: None,
                null_treatment: None,
                over: None,
                within_group: vec![],
            })
        }))
    }
}

fn parse_query(sql: &str) -> ast::Query {
    *Parser::new(&TestDialect).try_with_sql(sql).unwrap().parse_query().unwrap_or_else(|error| panic!("{error}\n{sql}"))
}

fn parse_expression(sql: &str) -> Result<Expr, Diagnostic> {
    Parser::new(&TestDialect)
        .try_with_sql(sql)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(|error| Diagnostic::error(Code::SYNTAX, error.to_string()))
}

/// Tables and views of a test.
#[derive(Default)]
struct Session {
    tables: Vec<Arc<TableDefinition>>,
    views: HashMap<String, (String, Vec<String>)>,
    time_zone: Option<String>,
    state_ttl_ms: Option<i64>,
}

impl TableLookup for Session {
    fn table(&self, name: &str) -> Option<Arc<TableDefinition>> {
        self.tables.iter().find(|table| table.name == name).cloned()
    }

    fn view(&self, name: &str) -> Option<(ast::Query, Vec<String>)> {
        self.views.get(name).map(|(sql, columns)| (parse_query(sql), columns.clone()))
    }

    fn names(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.name.clone()).chain(self.views.keys().cloned()).collect()
    }
}

impl Session {
    fn with_view(mut self, name: &str, sql: &str, columns: &[&str]) -> Self {
        self.views.insert(name.to_string(), (sql.to_string(), columns.iter().map(ToString::to_string).collect()));
        self
    }

    fn planned<T>(&self, sql: &str, plan: impl FnOnce(&PlannerInput) -> T) -> T {
        let source = SourceText::new("test.sql", sql);
        plan(&PlannerInput {
            tables: self,
            functions: vec![],
            rewrite: &|_| {},
            expr_planners: SessionStateDefaults::default_expr_planners(),
            time_zone: self.time_zone.clone().unwrap_or_else(|| "UTC".to_string()),
            source: &source,
            idle_timeout_ms: None,
            state_ttl_ms: self.state_ttl_ms,
            ignores_unmatched: false,
            parse_expression: &parse_expression,
        })
    }

    fn query(&self, sql: &str) -> Result<Plan, Vec<Diagnostic>> {
        self.planned(sql, |input| plan_query(input, &parse_query(sql)))
    }

    /// Plans `INSERT INTO target query` for each pair.
    fn inserts(&self, inserts: &[(&str, Option<&[&str]>, &str)]) -> Result<Plan, Vec<Diagnostic>> {
        let inserts: Vec<Insert> = inserts
            .iter()
            .map(|(target, columns, sql)| Insert {
                target: self.table(target).expect("the test declares its sinks"),
                target_span: None,
                columns: columns.map(|columns| columns.iter().map(|column| (column.to_string(), None)).collect()),
                query: parse_query(sql),
                span: None,
                takes_updates: false,
                takes_upserts: false,
                conflict: None,
                requires_conflict: true,
            })
            .collect();
        self.planned("", |input| plan_inserts(input, &inserts))
    }
}

/// The plan as EXPLAIN prints it, or the findings as they are rendered.
fn outcome(result: Result<Plan, Vec<Diagnostic>>) -> String {
    match result {
        Ok(plan) => plan.explain(),
        Err(findings) => findings.iter().map(Diagnostic::render).collect(),
    }
}

/// Compares what each query of a file leads to with what stands below it. Blocks begin with `== ` and the query; `BLESS=1`
/// writes the file anew.
fn check_file(name: &str, outcome: impl Fn(&str) -> String) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/planner/tests").join(name);
    let expected = std::fs::read_to_string(&path).unwrap();
    let mut got = String::new();
    for block in expected.split("== ").filter(|block| !block.trim().is_empty()) {
        let sql: Vec<&str> = block.lines().take_while(|line| *line != "--").collect();
        let sql = sql.join("\n");
        got.push_str(&format!("== {sql}\n--\n{}\n", outcome(sql.trim())));
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, got).unwrap();
    } else {
        assert!(got == expected, "{name} differs; BLESS=1 rewrites it\n{got}");
    }
}

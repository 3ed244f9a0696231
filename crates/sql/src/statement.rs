//! The statements of a script, as values. Queries and expressions inside them are sqlparser's AST.

use datafusion::sql::sqlparser::ast;
use thalweg_core::{Options, SourceText, Span};

use crate::types::SqlType;

/// One statement with the place it came from.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub statement: Statement,
    pub span: Span,
    /// The statement as written, without its semicolon; variables are not replaced in it.
    pub text: String,
    pub source: SourceText,
}

/// A name with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    pub value: String,
    pub span: Span,
}

/// A literal with its place. `secret` is set when a part of it came from the environment or a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Literal {
    pub value: String,
    pub span: Span,
    pub secret: bool,
}

#[derive(Clone, Debug)]
pub enum Statement {
    CreateTable(Box<CreateTable>),
    /// `CREATE TABLE … AS query`: a table with the columns of the query, filled by it.
    CreateTableAs {
        table: Box<CreateTable>,
        query: Box<ast::Query>,
        query_span: Span,
    },
    CreateView(Box<CreateView>),
    DropTable(Drop),
    DropView(Drop),
    Insert(Box<InsertStatement>),
    /// `EXECUTE STATEMENT SET BEGIN … END`: one job.
    StatementSet(Vec<InsertStatement>),
    Set {
        key: Literal,
        value: Literal,
    },
    /// `SET` alone: lists the settings.
    SetAll,
    /// `RESET 'key'`, or everything.
    Reset(Option<Literal>),
    ShowTables,
    ShowViews,
    ShowFunctions,
    ShowCreateTable(Name),
    ShowCreateView(Name),
    Describe(Name),
    Explain {
        details: Vec<ExplainDetail>,
        statement: Box<Parsed>,
    },
    Query(Box<ast::Query>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExplainDetail {
    EstimatedCost,
    ChangelogMode,
    PlanAdvice,
}

#[derive(Clone, Debug)]
pub struct CreateTable {
    pub name: Name,
    pub temporary: bool,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDeclaration>,
    pub watermarks: Vec<WatermarkDeclaration>,
    /// Every `PRIMARY KEY` clause, inline or not; more than one is an error that the catalog reports.
    pub primary_keys: Vec<PrimaryKeyDeclaration>,
    pub partitioned_by: Vec<Name>,
    pub comment: Option<String>,
    pub options: Options,
    pub like: Option<LikeClause>,
}

#[derive(Clone, Debug)]
pub struct ColumnDeclaration {
    pub name: Name,
    pub kind: ColumnDeclarationKind,
    pub comment: Option<String>,
}

#[allow(clippy::large_enum_variant, reason = "a declaration is read once, and few are alive")]
#[derive(Clone, Debug)]
pub enum ColumnDeclarationKind {
    Physical {
        sql_type: SqlType,
    },
    /// `name TYPE METADATA [FROM 'key'] [VIRTUAL]`; without `FROM` the key is the column's name.
    Metadata {
        sql_type: SqlType,
        key: Option<Literal>,
        is_virtual: bool,
    },
    Computed(Expression),
}

/// An expression of a declaration: its AST and its text, variables replaced.
#[derive(Clone, Debug)]
pub struct Expression {
    pub expr: ast::Expr,
    pub sql: String,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct WatermarkDeclaration {
    /// The name of a top-level column.
    pub column: Name,
    pub expression: Expression,
    /// The whole clause.
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct PrimaryKeyDeclaration {
    pub columns: Vec<Name>,
    pub span: Span,
}

/// `LIKE table (INCLUDING …, EXCLUDING …, OVERWRITING …)`.
#[derive(Clone, Debug)]
pub struct LikeClause {
    pub table: Name,
    pub options: Vec<LikeOption>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LikeOption {
    pub merge: LikeMerge,
    pub feature: LikeFeature,
    pub span: Span,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LikeMerge {
    Including,
    Excluding,
    Overwriting,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LikeFeature {
    All,
    Constraints,
    Distribution,
    Generated,
    Metadata,
    Options,
    Partitions,
    Watermarks,
}

#[derive(Clone, Debug)]
pub struct CreateView {
    pub name: Name,
    /// Names given in parentheses; empty when the query's own are used.
    pub columns: Vec<Name>,
    pub query: Box<ast::Query>,
    /// The query as written; variables are not replaced in it.
    pub query_text: String,
    pub query_span: Span,
    pub comment: Option<String>,
    pub temporary: bool,
    pub if_not_exists: bool,
    /// `CREATE OR ALTER VIEW` is not Flink's, `CREATE OR REPLACE VIEW` is.
    pub replace: bool,
}

#[derive(Clone, Debug)]
pub struct Drop {
    pub name: Name,
    pub if_exists: bool,
    pub temporary: bool,
}

#[derive(Clone, Debug)]
pub struct InsertStatement {
    pub target: String,
    pub target_span: Span,
    /// `/*+ OPTIONS('key' = 'value', …) */` behind the name of the target: they win over the table's own.
    pub hinted_options: Options,
    /// The columns of `INSERT INTO t (a, b)`; `None` stands for all that can be written.
    pub columns: Option<Vec<(String, Span)>>,
    pub query: Box<ast::Query>,
    /// `ON CONFLICT DO …`.
    pub conflict: Option<thalweg_plan::Conflict>,
    pub overwrite: bool,
    pub span: Span,
    pub text: String,
    /// The text that the spans point into.
    pub source: SourceText,
}

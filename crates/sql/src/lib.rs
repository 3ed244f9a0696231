//! SQL text to streaming plan: Flink's dialect, read, checked against what exists, and bound.
//!
//! The road of a text, in order:
//!
//! 1. [`parser`]: text to tokens, variables bound ([`variables`]), limits and refusals checked ([`token_pass`]), tokens to
//!    [`statement::Parsed`]. Queries and expressions are sqlparser's AST under [`dialect::FlinkDialect`]; everything else is ours.
//! 2. [`session::Session`]: runs DDL, `SET` and `SHOW` against the [`catalog`] and the [`settings`], and hands queries to the
//!    planner behind [`session::QueryPlanner`].
//!
//! 3. [`planner`]: binds queries by DataFusion and lowers them to a streaming plan, with the [`functions`] of the dialect.
//!
//! Nothing here runs a query, reads the environment, or prints.

mod binding;
pub mod catalog;
pub mod dialect;
pub mod functions;
pub mod parser;
pub mod planner;
pub mod session;
pub mod settings;
mod show;
pub mod statement;
pub mod token_pass;
pub mod types;
pub mod variables;

pub use binding::StreamPlanner;
pub use catalog::{Catalog, CatalogTable, CatalogView};
pub use parser::{parse_expression_at, parse_script, span_of};
pub use session::{Outcome, PlannerContext, QueryPlanner, Session};
pub use settings::{SETTINGS, SettingDefinition, Settings};
pub use statement::{InsertStatement, Parsed, Statement};
pub use types::SqlType;
pub use variables::{NoVariables, Variables};

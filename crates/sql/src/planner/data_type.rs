//! SQL types in a query (`CAST(x AS …)`, `TIMESTAMP '…'`) as Arrow types.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast;

use super::error::refuse;
use crate::types;

/// Gives DataFusion's binder our types: times in microseconds, texts as Utf8.
#[derive(Debug)]
pub(crate) struct FlinkTypes;

impl TypePlanner for FlinkTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        types::from_ast(sql_type).map(|found| Some(Arc::new(Field::new("", found.data_type, true)))).map_err(refuse)
    }
}

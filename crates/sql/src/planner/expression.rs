//! Logical expressions as the plan has them: physical, checked, with a canonical text.

use std::sync::Arc;

use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, Operator};
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use thalweg_core::{Code, Diagnostic};
use thalweg_plan::Expr;

use super::error::{finding, one_line};
use super::type_name::sql_type_name;
use super::{span, text};

/// The plan's form of `expr`, whose columns are those of `schema` by name and whose positions are those of `schema`.
/// `what` names the expression in findings.
pub(crate) fn create(expr: &LogicalExpr, schema: &DFSchema, what: &str) -> Result<Expr, Diagnostic> {
    create_named(expr, schema, what, &|column| column.name.clone())
}

/// As [`create`], with names of columns of the caller's choice in the text.
pub(crate) fn create_named(
    expr: &LogicalExpr,
    schema: &DFSchema,
    what: &str,
    name: &dyn Fn(&Column) -> String,
) -> Result<Expr, Diagnostic> {
    let place = span::of_expr(expr);
    check_casts(expr, schema)?;
    let in_context = |error: datafusion::common::DataFusionError| {
        let inner = finding(&error, None);
        let message = format!("{what}: {}", one_line(&inner.message));
        Diagnostic { message, ..inner }
    };
    let (_, field) = expr.to_field(schema).map_err(in_context)?;
    let physical = create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
        .and_then(checked)
        .map_err(in_context)?;
    if let Some(found) = foreign_type(field.data_type()) {
        return Err(Diagnostic::error(Code::BAD_TYPE, format!("{what} has the type {found}, which Thalweg does not have"))
            .label_opt(place, "here")
            .help("CAST it to another type"));
    }
    Ok(Expr {
        physical,
        text: text::text(expr, name),
        data_type: field.data_type().clone(),
        nullable: field.is_nullable(),
        span: place,
    })
}

/// Refuses casts that cannot work for any value.
fn check_casts(expr: &LogicalExpr, schema: &DFSchema) -> Result<(), Diagnostic> {
    let mut found = None;
    let _ = expr.apply(|part| {
        if let LogicalExpr::Cast(Cast { expr: inner, field }) | LogicalExpr::TryCast(TryCast { expr: inner, field }) = part
            && let Ok(from) = inner.get_type(schema)
            && !can_cast_types(&from, field.data_type())
        {
            let message = format!("{} cannot be cast to {}", sql_type_name(&from), sql_type_name(field.data_type()));
            found = Some(Diagnostic::error(Code::TYPE_MISMATCH, message).label_opt(span::of_expr(inner), "this"));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found.map_or(Ok(()), Err)
}

/// The same expression with integer arithmetic that fails on overflow instead of wrapping around.
fn checked(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let rewritten = expr.transform_up(|part| {
        let Some(binary) = part.downcast_ref::<BinaryExpr>() else {
            return Ok(Transformed::no(part));
        };
        if !matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply) {
            return Ok(Transformed::no(part));
        }
        let checked = BinaryExpr::new(binary.left().clone(), *binary.op(), binary.right().clone()).with_fail_on_overflow(true);
        Ok(Transformed::yes(Arc::new(checked) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(rewritten.data)
}

/// A type that no column of ours can have, if `data_type` is or holds one.
fn foreign_type(data_type: &DataType) -> Option<String> {
    match data_type {
        DataType::Dictionary(..)
        | DataType::RunEndEncoded(..)
        | DataType::Union(..)
        | DataType::Decimal256(..)
        | DataType::Utf8View
        | DataType::BinaryView
        | DataType::Float16 => Some(data_type.to_string()),
        _ => None,
    }
}

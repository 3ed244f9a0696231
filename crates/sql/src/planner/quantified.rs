//! `x > ANY (SELECT …)`, `x <= ALL (SELECT …)` and the like, as EXISTS.
//!
//! | where only TRUE counts | what it becomes |
//! |---|---|
//! | `x > ANY (SELECT y …)` | `EXISTS (SELECT … WHERE x > y)` |
//! | `x > ALL (SELECT y …)` | `NOT EXISTS (SELECT … WHERE (x > y) IS NOT TRUE)` |
//! | `NOT x > ANY (SELECT y …)` | `NOT EXISTS (SELECT … WHERE (x > y) IS NOT FALSE)` |
//! | `NOT x > ALL (SELECT y …)` | `EXISTS (SELECT … WHERE NOT x > y)` |
//!
//! As a value it may be unknown too: then there is a row that decides it, one of which it is unknown, or neither.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Exists, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, Subquery, binary_expr, lit, when};

use super::optimize::schema_of_inputs;
use super::subquery::{as_outer, filtered};

/// The plan without comparisons by ANY and ALL.
pub(crate) fn as_exists(plan: LogicalPlan) -> Result<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| {
        if !node.expressions().iter().any(is_within) {
            return Ok(Transformed::no(node));
        }
        let schema = schema_of_inputs(&node);
        let names = NamePreserver::new(&node);
        let is_condition = matches!(node, LogicalPlan::Filter(_));
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = if is_condition { condition(expr, false, &schema)? } else { value(expr, &schema)? };
            Ok(Transformed::yes(name.restore(expr)))
        })?;
        Ok(Transformed::yes(node.data.recompute_schema()?))
    })?;
    Ok(done.data)
}

fn is_within(expr: &Expr) -> bool {
    expr.exists(|part| Ok(matches!(part, Expr::SetComparison(_)))).unwrap_or(false)
}

/// An expression that is TRUE where `expr` is TRUE, or where it is FALSE if `negated`.
fn condition(expr: Expr, negated: bool, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::Not(inner) if is_within(&inner) => condition(*inner, !negated, schema),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right })
            if is_within(&left) || is_within(&right) =>
        {
            let (left, right) = (condition(*left, negated, schema)?, condition(*right, negated, schema)?);
            Ok(if (op == Operator::And) != negated { left.and(right) } else { left.or(right) })
        }
        Expr::SetComparison(comparison) => {
            let compared = Compared::new(comparison, schema)?;
            match (compared.is_any, negated) {
                (true, false) => compared.exists(false, |holds| holds),
                (false, false) => compared.exists(true, Expr::is_not_true),
                (true, true) => compared.exists(true, Expr::is_not_false),
                (false, true) => compared.exists(false, |holds| Expr::Not(Box::new(holds))),
            }
        }
        other => {
            let value = value(other, schema)?;
            Ok(if negated { Expr::Not(Box::new(value)) } else { value })
        }
    }
}

/// `expr` with the comparisons in it as values: TRUE, FALSE or NULL.
fn value(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let done = expr.transform_up(|part| {
        let Expr::SetComparison(comparison) = part else { return Ok(Transformed::no(part)) };
        let compared = Compared::new(comparison, schema)?;
        let is_any = compared.is_any;
        let decides = compared.exists(false, |holds| if is_any { holds.is_true() } else { holds.is_false() })?;
        let unknown = compared.exists(false, Expr::is_null)?;
        let null = Expr::Literal(ScalarValue::Boolean(None), None);
        Ok(Transformed::yes(when(decides, lit(is_any)).when(unknown, null).otherwise(lit(!is_any))?))
    })?;
    Ok(done.data)
}

/// The rows of a subquery, and the comparison of each with the row around.
struct Compared {
    rows: LogicalPlan,
    holds: Expr,
    is_any: bool,
    subquery: Subquery,
}

impl Compared {
    fn new(comparison: SetComparison, schema: &DFSchema) -> Result<Self> {
        let SetComparison { expr, subquery, op, quantifier } = comparison;
        let rows = subquery.subquery.as_ref().clone();
        let column = Expr::Column(rows.schema().columns().swap_remove(0));
        let holds = binary_expr(as_outer(*expr, schema)?, op, column);
        Ok(Compared { rows, holds, is_any: quantifier == SetQuantifier::Any, subquery })
    }

    /// Whether there is a row for which `wanted` holds, or none if `negated`.
    fn exists(&self, negated: bool, wanted: impl Fn(Expr) -> Expr) -> Result<Expr> {
        let plan = filtered(self.rows.clone(), wanted(self.holds.clone()))?;
        let outer_ref_columns = plan.all_out_ref_exprs();
        let subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: self.subquery.spans.clone() };
        Ok(Expr::Exists(Exists { subquery, negated }))
    }
}

//! The condition of a join, taken apart.

use datafusion::common::{Column, NullEquality, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Between, Expr as LogicalExpr, Join as LogicalJoin, Operator};
use thalweg_core::Diagnostic;

use crate::planner::error::finding;
use crate::planner::join_rules::equal_sides;
use crate::planner::system_time;

/// Expressions of the two sides that must be equal. Both have one type.
#[derive(Clone, Debug)]
pub(super) struct EqualSides {
    pub(super) left: LogicalExpr,
    pub(super) right: LogicalExpr,
    /// `IS NOT DISTINCT FROM`
    pub(super) nulls_match: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Conditions {
    pub(super) keys: Vec<EqualSides>,
    /// What else must be true.
    pub(super) rest: Vec<LogicalExpr>,
    /// The column that stands in `FOR SYSTEM_TIME AS OF`.
    pub(super) version: Option<Column>,
}

impl Conditions {
    pub(super) fn new(join: &LogicalJoin) -> Result<Self, Diagnostic> {
        let nulls_match = join.null_equality == NullEquality::NullEqualsNull;
        let mut keys: Vec<EqualSides> =
            join.on.iter().map(|(left, right)| EqualSides { left: left.clone(), right: right.clone(), nulls_match }).collect();
        let mut rest = vec![];
        let mut version = None;
        for condition in join.filter.iter().cloned().flat_map(split_conjunction_owned).flat_map(without_between) {
            if let LogicalExpr::Literal(ScalarValue::Boolean(Some(true)), _) = condition {
                continue;
            }
            if let Some(column) = system_time::version_of(&condition) {
                version = Some(column);
                continue;
            }
            let sides = |operator| equal_sides(&condition, operator, join).map_err(|error| finding(&error, None));
            if let Some((left, right)) = sides(Operator::Eq)? {
                keys.push(EqualSides { left, right, nulls_match: false });
            } else if let Some((left, right)) = sides(Operator::IsNotDistinctFrom)? {
                keys.push(EqualSides { left, right, nulls_match: true });
            } else {
                rest.push(condition);
            }
        }
        Ok(Conditions { keys, rest, version })
    }

    /// The condition of the join with its inputs in the other order.
    pub(super) fn swapped(self) -> Self {
        let swap = |EqualSides { left, right, nulls_match }| EqualSides { left: right, right: left, nulls_match };
        Conditions { keys: self.keys.into_iter().map(swap).collect(), ..self }
    }
}

/// `x BETWEEN a AND b` as its two comparisons.
fn without_between(condition: LogicalExpr) -> Vec<LogicalExpr> {
    match condition {
        LogicalExpr::Between(Between { expr, negated: false, low, high }) => {
            vec![expr.clone().gt_eq(*low), expr.lt_eq(*high)]
        }
        other => vec![other],
    }
}

//! Rules of the optimizer about joins, where DataFusion's own would be wrong for us.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{NullEquality, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::{can_hash, conjunction, find_valid_equijoin_key_pair, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Join, JoinConstraint, LogicalPlan, Operator, cast};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::functions::expr_planner::sign_of;

/// Gives the joins of NOT IN a form that keeps its meaning through the other rules.
///
/// `x NOT IN (SELECT y FROM t WHERE c)` is an anti join on `x = y AND c` in which an unknown `x = y` counts as a match. Rules that
/// push conditions down, and joins with several keys, do not know that. So it stays one only where `x = y` is all of the
/// condition; otherwise the condition says it in words: `(x = y) IS NOT FALSE AND c`.
#[derive(Debug)]
pub(crate) struct NullAwareJoins;

impl OptimizerRule for NullAwareJoins {
    fn name(&self) -> &str {
        "null_aware_joins"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Join(Join { null_aware: true, filter: Some(filter), on, left, right, join_type, .. })
                if on.is_empty() =>
            {
                // The rule that made the join puts the comparison of IN first.
                let mut conditions = split_conjunction_owned(filter);
                let comparison = conditions.remove(0);
                let keys = match &comparison {
                    Expr::BinaryExpr(BinaryExpr { left: x, op: Operator::Eq, right: y }) if conditions.is_empty() => {
                        find_valid_equijoin_key_pair(x, y, left.schema(), right.schema())?
                            .filter(|(x, _)| x.get_type(left.schema()).is_ok_and(|data_type| can_hash(&data_type)))
                    }
                    _ => None,
                };
                let (on, filter, null_aware) = match keys {
                    Some(pair) => (vec![pair], None, true),
                    None => {
                        conditions.insert(0, comparison.is_not_false());
                        (vec![], conjunction(conditions), false)
                    }
                };
                let nulls = NullEquality::NullEqualsNothing;
                let join = Join::try_new(left, right, on, filter, join_type, JoinConstraint::On, nulls, null_aware)?;
                Ok(Transformed::yes(LogicalPlan::Join(join)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// Finds the equalities between both sides in the condition of a join.
///
/// In place of DataFusion's `ExtractEquijoinPredicate`, which makes nulls match for *all* keys of a join once it has seen one IS NOT
/// DISTINCT FROM, also for those of `=` that come to it later. IS NOT DISTINCT FROM is left in the condition; lowering makes
/// keys of it.
#[derive(Debug)]
pub(crate) struct EqualKeys;

impl OptimizerRule for EqualKeys {
    fn name(&self) -> &str {
        "equal_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(mut join) = plan else {
            return Ok(Transformed::no(plan));
        };
        let Some(filter) = join.filter.take() else {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        };
        let mut rest = vec![];
        let mut found = false;
        for condition in split_conjunction_owned(filter) {
            match equal_sides(&condition, Operator::Eq, &join)? {
                Some(pair) => {
                    found = true;
                    join.on.push(pair);
                }
                None => rest.push(condition),
            }
        }
        join.filter = conjunction(rest);
        Ok(Transformed::new_transformed(LogicalPlan::Join(join), found))
    }
}

/// The two sides of a comparison by `operator` whose one side is of the left input, the other of the right one. Both have one
/// type.
pub(crate) fn equal_sides(condition: &Expr, operator: Operator, join: &Join) -> Result<Option<(Expr, Expr)>> {
    let (left, right) = match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == operator => (&**left, &**right),
        // As keys, floats are equal when their bits are, in Flink too.
        Expr::ScalarFunction(ScalarFunction { func, args })
            if operator == Operator::Eq && sign_of(func.name()) == Some("=") && args.len() == 2 =>
        {
            (&args[0], &args[1])
        }
        _ => return Ok(None),
    };
    let (left_schema, right_schema) = (join.left.schema(), join.right.schema());
    let Some((left, right)) = find_valid_equijoin_key_pair(left, right, left_schema, right_schema)? else {
        return Ok(None);
    };
    let (left_type, right_type) = (left.get_type(left_schema)?, right.get_type(right_schema)?);
    if left_type == right_type {
        return Ok(can_hash(&left_type).then_some((left, right)));
    }
    if left_type.is_numeric() && right_type.is_numeric() && (left_type.is_floating() || right_type.is_floating()) {
        let double = |expr: Expr, own: DataType| if own == DataType::Float64 { expr } else { cast(expr, DataType::Float64) };
        return Ok(Some((double(left, left_type), double(right, right_type))));
    }
    Ok(None)
}

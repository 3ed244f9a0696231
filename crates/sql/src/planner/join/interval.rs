//! Joins of rows whose event times are near each other: `ON … AND r.ts BETWEEN l.ts - INTERVAL '5' SECOND AND l.ts`
//!
//! Comparisons of a time attribute of the left side with one of the right side, each with or without an interval added, are bounds of
//! `left_time - right_time`. Both ends must be bounded; with one alone it is a regular join, as in Flink.

use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr as LogicalExpr, Operator};
use thalweg_core::{Code, Diagnostic};
use thalweg_plan::{IntervalJoin, JoinKind, NodeKind, StateLifetime, TimeKind};

use super::{Inputs, join_keys, properties};
use crate::functions::expr_planner::sign_of;
use crate::planner::lower::Lowering;
use crate::planner::relation::{Origin, Relation};
use crate::planner::window_call::interval_ms;

/// `lower_ms <= left_time - right_time <= upper_ms`, with the columns of the nodes of both sides.
pub(super) struct TimeBounds {
    left_time: usize,
    right_time: usize,
    lower_ms: i64,
    upper_ms: i64,
    /// The conditions that say so, as positions among those that are no keys.
    conditions: Vec<usize>,
}

/// One comparison: `left_time - right_time` and a constant.
struct Bound {
    times: (TimeColumn, TimeColumn),
    operator: Operator,
    ms: i64,
    /// Position among the conditions; `None` for a key.
    condition: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct TimeColumn {
    column: usize,
    kind: TimeKind,
}

/// A time attribute of one of the sides plus a constant.
struct Shifted {
    is_left: bool,
    time: TimeColumn,
    ms: i64,
}

impl Lowering<'_> {
    /// The bounds that the condition of a join sets to the distance of event times, if it sets both.
    pub(super) fn time_bounds(&self, inputs: &Inputs) -> Result<Option<TimeBounds>, Diagnostic> {
        if !matches!(inputs.kind, JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full) {
            return Ok(None);
        }
        let keys = inputs.conditions.keys.iter().filter(|key| !key.nulls_match);
        let from_keys = keys.filter_map(|key| self.bound(inputs, (&key.left, Operator::Eq, &key.right), None));
        let from_rest = inputs.conditions.rest.iter().enumerate().filter_map(|(index, condition)| match condition {
            LogicalExpr::BinaryExpr(BinaryExpr { left, op, right }) => self.bound(inputs, (left, *op, right), Some(index)),
            _ => None,
        });
        let bounds: Vec<Bound> = from_keys.chain(from_rest).collect();
        for first in &bounds {
            let same: Vec<&Bound> = bounds.iter().filter(|bound| bound.times == first.times).collect();
            let lower_ms = same.iter().filter_map(|bound| bound.lower_ms()).max();
            let upper_ms = same.iter().filter_map(|bound| bound.upper_ms()).min();
            if let (Some(lower_ms), Some(upper_ms)) = (lower_ms, upper_ms) {
                let (left, right) = first.times;
                if left.kind != right.kind {
                    return Err(Diagnostic::error(
                        Code::NOT_IN_FLINK,
                        "an interval join compares event time with processing time",
                    )
                    .label_opt(inputs.place, "times of two kinds")
                    .help("compare the event times of both inputs, or PROCTIME() columns of both"));
                }
                let conditions = same.iter().filter_map(|bound| bound.condition).collect();
                return Ok(Some(TimeBounds { left_time: left.column, right_time: right.column, lower_ms, upper_ms, conditions }));
            }
        }
        Ok(None)
    }

    fn bound(
        &self,
        inputs: &Inputs,
        (left, operator, right): (&LogicalExpr, Operator, &LogicalExpr),
        condition: Option<usize>,
    ) -> Option<Bound> {
        let (one, other) = (self.shifted(inputs, left)?, self.shifted(inputs, right)?);
        let (left, right, operator) = match (one.is_left, other.is_left) {
            (true, false) => (one, other, operator),
            (false, true) => (other, one, operator.swap()?),
            _ => return None,
        };
        let is_comparison = matches!(operator, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
        let ms = right.ms.checked_sub(left.ms)?;
        is_comparison.then_some(Bound { times: (left.time, right.time), operator, ms, condition })
    }

    /// A time attribute with or without an interval added.
    fn shifted(&self, inputs: &Inputs, expr: &LogicalExpr) -> Option<Shifted> {
        match expr {
            LogicalExpr::Alias(alias) => self.shifted(inputs, &alias.expr),
            LogicalExpr::Column(_) => {
                let left = self.time_column(&inputs.left, expr).map(|time| Shifted { is_left: true, time, ms: 0 });
                left.or_else(|| self.time_column(&inputs.right, expr).map(|time| Shifted { is_left: false, time, ms: 0 }))
            }
            LogicalExpr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => self.sum(inputs, (left, "+", right)),
            LogicalExpr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => self.sum(inputs, (left, "-", right)),
            LogicalExpr::ScalarFunction(ScalarFunction { func, args }) => match (sign_of(func.name()), args.as_slice()) {
                (Some(sign @ ("+" | "-")), [left, right]) => self.sum(inputs, (left, sign, right)),
                _ => None,
            },
            _ => None,
        }
    }

    fn sum(&self, inputs: &Inputs, (left, sign, right): (&LogicalExpr, &str, &LogicalExpr)) -> Option<Shifted> {
        if sign == "+"
            && let Some(ms) = interval_ms(left)
        {
            let time = self.shifted(inputs, right)?;
            return Some(Shifted { ms: time.ms.checked_add(ms)?, ..time });
        }
        let time = self.shifted(inputs, left)?;
        let ms = interval_ms(right)?;
        let ms = if sign == "+" { time.ms.checked_add(ms)? } else { time.ms.checked_sub(ms)? };
        Some(Shifted { ms, ..time })
    }

    fn time_column(&self, relation: &Relation, expr: &LogicalExpr) -> Option<TimeColumn> {
        let Some(Origin::Node(column)) = relation.origin_of(expr) else {
            return None;
        };
        let attributes = &self.properties(relation.node).time_attributes;
        let attribute = attributes.iter().find(|attribute| attribute.column == column)?;
        Some(TimeColumn { column, kind: attribute.kind })
    }

    pub(super) fn interval_join(
        &mut self,
        inputs: Inputs,
        bounds: TimeBounds,
        schema: DFSchemaRef,
    ) -> Result<Relation, Diagnostic> {
        let Inputs { kind, mut left, mut right, mut conditions, needed, place, .. } = inputs;
        if self.properties(left.node).updating || self.properties(right.node).updating {
            return Err(Diagnostic::error(Code::NOT_IN_FLINK, "an interval join cannot take rows that are taken back")
                .label_opt(place, "one of its inputs changes earlier rows")
                .help("CAST one of the times to TIMESTAMP(3): it is then an ordinary join, which keeps all rows"));
        }
        let mut index = 0;
        conditions.rest.retain(|_| {
            index += 1;
            !bounds.conditions.contains(&(index - 1))
        });
        let TimeBounds { lower_ms, upper_ms, .. } = bounds;
        left.node = self.as_event_time(left.node, bounds.left_time, place)?;
        right.node = self.as_event_time(right.node, bounds.right_time, place)?;
        let left = self.join_side((left, &needed.left), conditions.keys.iter().map(|key| &key.left), &[bounds.left_time])?;
        let right = self.join_side((right, &needed.right), conditions.keys.iter().map(|key| &key.right), &[bounds.right_time])?;
        let condition = self.pair_condition(&left.relation, &right.relation, conditions.rest)?;
        let keys = join_keys(&left, &right, conditions.keys.iter().map(|key| key.nulls_match));
        let before = (self.properties(left.relation.node), self.properties(right.relation.node));
        let (left_schema, right_schema) = (self.schema(left.relation.node), self.schema(right.relation.node));
        let width = left_schema.fields().len();
        // How far the newest row of one side may be ahead of one that it still meets.
        let state = StateLifetime::UntilWatermark { ms: upper_ms.max(lower_ms.saturating_neg()).max(0) };
        let properties = properties::of_timed_join(kind, &keys, before, (width, state));
        let properties = properties::with_sure_key(properties, kind, left_schema, right_schema);
        let node_schema = properties::joined_schema(left_schema, right_schema, kind);
        let edges = self.edges(&left, &right, false);
        let (left_time, right_time) = (left.extra[0], right.extra[0]);
        let join = IntervalJoin { kind, keys, left_time, right_time, lower_ms, upper_ms, condition, stamps_rows: false };
        let node = self.add(NodeKind::IntervalJoin(join), edges, node_schema, properties, place);
        Ok(self.joined(node, kind, (&left, &right), schema))
    }
}

impl Bound {
    fn lower_ms(&self) -> Option<i64> {
        match self.operator {
            Operator::Eq | Operator::GtEq => Some(self.ms),
            // Event times are whole milliseconds.
            Operator::Gt => self.ms.checked_add(1),
            _ => None,
        }
    }

    fn upper_ms(&self) -> Option<i64> {
        match self.operator {
            Operator::Eq | Operator::LtEq => Some(self.ms),
            Operator::Lt => self.ms.checked_sub(1),
            _ => None,
        }
    }
}

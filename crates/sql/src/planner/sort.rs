//! ORDER BY and LIMIT.
//!
//! `ORDER BY` the event time, ascending, with or without further columns, gives rows in the order of time as the watermark reaches
//! them. With LIMIT, OFFSET or FETCH any order is a Top-N without partitions. Anything else has no end to wait for.

use std::sync::Arc;

use datafusion::logical_expr::{Limit, LogicalPlan, Sort};
use thalweg_core::{Code, Diagnostic};
use thalweg_plan::{Exchange, Input, NodeKind, RankFunction, RankRange, SortKey, StateLifetime, TemporalSort, TimeKind};

use super::lower::{Lowering, not_yet};
use super::ordered::{ordering, sort_keys};
use super::rank::{Rank, whole_number};
use super::relation::Relation;
use super::span;

/// The message about an ORDER BY without LIMIT that no watermark ever completes.
pub(crate) const OTHER_ORDER: &str = "a stream without an end can be ordered by its event time only, ascending";

impl Lowering<'_> {
    pub(crate) fn sort(&mut self, sort: &Sort) -> Result<Relation, Diagnostic> {
        let (relation, order) = self.sorted_input(sort)?;
        let place = span::of_exprs(sort.expr.iter().map(|sort| &sort.expr));
        let first = order.first().map(|key| (key, self.time_kind(relation.node, key.column)));
        let properties = self.properties(relation.node);
        match first {
            None => Ok(relation),
            Some((SortKey { descending: false, .. }, Some(TimeKind::Processing))) => Ok(relation),
            Some((SortKey { column, descending: false, .. }, Some(TimeKind::Event))) if !properties.updating => {
                let kind = NodeKind::TemporalSort(TemporalSort { time_column: *column, order: order[1..].to_vec() });
                let properties =
                    thalweg_plan::Properties { state: StateLifetime::UntilWatermark { ms: 0 }, ..properties.clone() };
                let schema = self.schema(relation.node).clone();
                let edge = Input { node: relation.node, exchange: Exchange::Single };
                let node = self.add(kind, vec![edge], schema, properties, place);
                Ok(Relation { node, ..relation })
            }
            Some(_) => Err(Diagnostic::error(Code::NOT_IN_FLINK, OTHER_ORDER)
                .label_opt(place, "another order")
                .help("add LIMIT for the first rows of any order; or order the rows where they are read")),
        }
    }

    pub(crate) fn limit(&mut self, limit: &Limit) -> Result<Relation, Diagnostic> {
        let count = |expr: &Option<Box<datafusion::logical_expr::Expr>>| match expr {
            None => Ok(None),
            Some(expr) => match whole_number(expr) {
                Some(number) if number >= 0 => Ok(Some(number.unsigned_abs())),
                _ => Err(not_yet("LIMIT with something other than a whole number", span::of_expr(expr))),
            },
        };
        let (skip, fetch) = (count(&limit.skip)?.unwrap_or(0), count(&limit.fetch)?);
        let range = RankRange { start: skip.saturating_add(1), end: fetch.map(|fetch| skip.saturating_add(fetch)) };
        self.limited(&limit.input, range)
    }

    /// The rows in `range` of a plan, whose order is that of its outermost ORDER BY.
    fn limited(&mut self, plan: &Arc<LogicalPlan>, range: RankRange) -> Result<Relation, Diagnostic> {
        match &**plan {
            LogicalPlan::Projection(projection) if is_ordered(&projection.input) => {
                let relation = self.limited(&projection.input, range)?;
                self.project(relation, &projection.expr, &projection.schema)
            }
            LogicalPlan::Sort(sort) => {
                let (relation, order) = self.sorted_input(sort)?;
                let place = span::of_exprs(sort.expr.iter().map(|sort| &sort.expr));
                let rank = Rank { function: RankFunction::RowNumber, partition: vec![], order, range, is_used: false, place };
                Ok(self.rank(&relation, &rank))
            }
            other => {
                let relation = self.lower(other)?;
                let relation = self.assign_window(relation)?;
                let rank = Rank {
                    function: RankFunction::RowNumber,
                    partition: vec![],
                    order: vec![],
                    range,
                    is_used: false,
                    place: None,
                };
                Ok(self.rank(&relation, &rank))
            }
        }
    }

    fn sorted_input(&mut self, sort: &Sort) -> Result<(Relation, Vec<SortKey>), Diagnostic> {
        let relation = self.lower(&sort.input)?;
        let sorts = ordering(&sort.expr);
        let exprs: Vec<_> = sorts.iter().map(|sort| &sort.expr).collect();
        let (relation, columns) = self.columns_for(relation, &exprs, "ORDER BY")?;
        Ok((relation, sort_keys(&sorts, &columns)))
    }
}

fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(projection) => is_ordered(&projection.input),
        _ => false,
    }
}

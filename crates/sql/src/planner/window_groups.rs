//! Groupings by the windows that rows bring along.
//!
//! Slices add rows up and never take one out again, and they know five aggregates. Where rows may be taken back, where another
//! aggregate is wanted, or where an aggregate or a key looks at the window's own columns, the window is assigned to each row and the
//! groups are kept whole until the watermark closes their window:
//!
//! ```text
//! rows --AssignWindow--> rows with windows --hash of the keys--> GroupAggregate, sent once by `window_time`
//! ```

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::logical_expr::expr::AggregateFunction as LogicalCall;
use datafusion::logical_expr::{Aggregate, Expr as LogicalExpr};
use thalweg_core::{Diagnostic, Span};
use thalweg_plan::{
    AggregateFunction, Exchange, GroupAggregate, InTurn, Input, NodeKind, OverOrder, Properties, SourceNode, StateLifetime,
    TimeAttribute, TimeKind, WindowBounds, WindowColumns,
};

use super::aggregate_function;
use super::lower::{Lowering, by_keys};
use super::relation::{Origin, PendingKind, PendingWindow, Relation};
use super::window_aggregate::InputColumns;

impl Lowering<'_> {
    /// Whether slices, or sessions that grow, can hold a grouping over `relation`.
    pub(crate) fn fits_slices(&self, relation: &Relation, aggregate: &Aggregate) -> bool {
        let of_rows = |expr: &LogicalExpr| relation.all_origins(expr, |origin| matches!(origin, Origin::Node(_)));
        let of_window = |expr: &LogicalExpr| relation.all_origins(expr, |origin| matches!(origin, Origin::Window(_)));
        !self.properties(relation.node).updating
            && aggregate.group_expr.iter().all(|group| of_rows(group) || of_window(group))
            && aggregate.aggr_expr.iter().all(|call| runs_in_slices(call) && of_rows(call))
    }

    /// The grouping of a pending window, over rows to which it is assigned.
    pub(crate) fn groups_of_pending(
        &mut self,
        relation: Relation,
        pending: &PendingWindow,
        aggregate: &Aggregate,
        place: Option<Span>,
    ) -> Result<Relation, Diagnostic> {
        let length_ms = match &pending.kind {
            PendingKind::Aligned(window) => window.kind.size_ms(),
            PendingKind::Session { window, .. } => window.gap_ms,
        };
        let relation = self.assign_window(relation)?;
        let bounds = self.bounds_of(&relation).expect("a window that was assigned just now has its columns");
        self.groups_of_windows(&relation, bounds, aggregate, (length_ms, place))
    }

    /// The columns of the windows that the rows of `relation` bring along, if the watermark speaks of them.
    pub(crate) fn bounds_of(&self, relation: &Relation) -> Option<WindowBounds> {
        let properties = self.properties(relation.node);
        let Some(WindowColumns { start: Some(start), end: Some(end), time: Some(time) }) = properties.window else {
            return None;
        };
        (self.time_kind(relation.node, time) == Some(TimeKind::Event)).then_some(WindowBounds { start, end, time })
    }

    /// Lets the rows of all sources below a node carry the watermarks behind which they came, for operators that need those of rows
    /// that are not late as well: windows over rows that are taken back, and bounded RANGEs. Operators that hold rows back until they
    /// find another one, or their time, stamp what they let out.
    pub(crate) fn stamp_sources(&mut self, node: usize) {
        match &mut self.plan.nodes[node].kind {
            NodeKind::Source(SourceNode { watermark: Some(watermark), .. }) => watermark.stamps_rows = true,
            NodeKind::IntervalJoin(join) => join.stamps_rows = true,
            NodeKind::TemporalJoin(join) => join.stamps_rows = true,
            NodeKind::Over(over) => over.stamps_rows = matches!(over.order, OverOrder::EventTime(_)),
            _ => {}
        }
        let inputs: Vec<usize> = self.plan.nodes[node].inputs.iter().map(|input| input.node).collect();
        inputs.into_iter().for_each(|input| self.stamp_sources(input));
    }

    /// For windows over rows that are taken back: every change carries the watermark that it came behind, and which changes there
    /// are does not depend on lanes. Rows of several partitions of one source that came behind the same watermark still take their
    /// turns in order of arrival.
    pub(crate) fn settle_changes(&mut self, node: usize) {
        self.stamp_sources(node);
        self.set_in_turn(node);
    }

    fn set_in_turn(&mut self, node: usize) {
        if !self.properties(node).updating {
            return;
        }
        let inputs: Vec<usize> = self.plan.nodes[node].inputs.iter().map(|input| input.node).collect();
        let event_time = |input: &usize| {
            let attributes = &self.properties(*input).time_attributes;
            attributes.iter().find(|attribute| attribute.kind == TimeKind::Event).map(|attribute| attribute.column)
        };
        if let Some(input) = inputs.first()
            && let Some(time_column) = event_time(input)
        {
            let in_turn = InTurn { time_column, by_arrival: self.is_straight_from_source(*input) };
            match &mut self.plan.nodes[node].kind {
                NodeKind::TopN(top) => top.in_turn = Some(in_turn),
                NodeKind::Over(over) => over.in_turn = Some(in_turn),
                // What straight comes from the source is in order within a key. Where the rows of a key are in several partitions it
                // depends on which is read first, as in Flink.
                NodeKind::Deduplicate(deduplicate) if !in_turn.by_arrival => deduplicate.in_turn = Some(in_turn),
                _ => {}
            }
        }
        inputs.into_iter().for_each(|input| self.set_in_turn(input));
    }

    /// Whether the rows of a partition of a source come by one lane, in its order.
    fn is_straight_from_source(&self, node: usize) -> bool {
        let node = &self.plan.nodes[node];
        match (&node.kind, node.inputs.as_slice()) {
            (NodeKind::Source(_), _) => true,
            (NodeKind::Filter(_) | NodeKind::Project(_) | NodeKind::AssignWindow(_) | NodeKind::Unnest(_), [input]) => {
                matches!(input.exchange, Exchange::Forward) && self.is_straight_from_source(input.node)
            }
            _ => false,
        }
    }

    /// A grouping whose groups are complete when the watermark reaches `window_time`. The bounds of the window are among the keys.
    pub(crate) fn groups_of_windows(
        &mut self,
        relation: &Relation,
        bounds: WindowBounds,
        aggregate: &Aggregate,
        (length_ms, place): (i64, Option<Span>),
    ) -> Result<Relation, Diagnostic> {
        if self.properties(relation.node).updating {
            self.settle_changes(relation.node);
        }
        let mut inputs = InputColumns::new(relation, aggregate);
        let mut keys = vec![];
        for group in &aggregate.group_expr {
            keys.push(inputs.column(self, group, &group.schema_name().to_string())?);
        }
        let group_count = keys.len();
        let [start, end, time] = [bounds.start, bounds.end, bounds.time].map(|column| inputs.pass(self, column));
        // The bounds of a window determine its last instant: as a key it tells no more groups apart.
        if !keys.contains(&time) {
            keys.push(time);
        }
        let mut aggregates = vec![];
        for (index, call) in aggregate.aggr_expr.iter().enumerate() {
            aggregates.push(self.call(call, aggregate.schema.field(group_count + index), &mut inputs)?);
        }
        let input = inputs.finish(self);

        let schema = self.schema(input);
        let mut fields: Vec<_> = keys.iter().map(|key| schema.fields()[*key].clone()).collect();
        fields.extend(aggregates.iter().map(|call| call.output.clone()));
        let position = |column: usize| keys.iter().position(|key| *key == column);
        let before = self.properties(input);
        let properties = Properties {
            updating: false,
            upsert_key: Some((0..group_count).filter(|group| keys[*group] != time).collect()),
            time_attributes: position(time).map(|column| TimeAttribute { column, kind: TimeKind::Event }).into_iter().collect(),
            window: Some(WindowColumns { start: position(start), end: position(end), time: position(time) }),
            state: StateLifetime::UntilWatermark { ms: length_ms },
            bounded: before.bounded,
        };
        let input_updating = before.updating;
        let key_count = keys.len();
        let edge = Input { node: input, exchange: by_keys(&keys) };
        let kind = NodeKind::GroupAggregate(GroupAggregate { keys, aggregates, input_updating, window_time: Some(time) });
        let node = self.add(kind, vec![edge], Arc::new(Schema::new(fields)), properties, place);
        let calls = (0..aggregate.aggr_expr.len()).map(|call| key_count + call);
        let origins = (0..group_count).chain(calls).map(Origin::Node).collect();
        Ok(Relation { node, schema: aggregate.schema.clone(), origins, window: None })
    }

    /// For rows that sessions were assigned to: where the columns of PARTITION BY are, `None` for those that are gone.
    pub(crate) fn session_keys(&self, node: usize) -> Option<Vec<Option<usize>>> {
        let this = &self.plan.nodes[node];
        match &this.kind {
            NodeKind::Session(session) if session.aggregates.is_none() => {
                Some(session.keys.iter().map(|key| Some(*key)).collect())
            }
            NodeKind::Filter(_) => self.session_keys(this.inputs[0].node),
            NodeKind::Project(project) => {
                let keys = self.session_keys(this.inputs[0].node)?;
                let moved = |key: usize| project.exprs.iter().position(|expr| expr.as_column() == Some(key));
                Some(keys.into_iter().map(|key| key.and_then(moved)).collect())
            }
            _ => None,
        }
    }
}

fn runs_in_slices(call: &LogicalExpr) -> bool {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    match call.clone().unalias_nested().data {
        LogicalExpr::AggregateFunction(LogicalCall { func, .. }) => {
            matches!(aggregate_function::of(&func), Some(Count | Sum | Avg | Min | Max))
        }
        _ => false,
    }
}

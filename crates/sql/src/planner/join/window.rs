//! Joins of rows of the same window: `ON l.window_start = r.window_start AND l.window_end = r.window_end AND …`

use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::Expr as LogicalExpr;
use thalweg_core::{Code, Diagnostic};
use thalweg_plan::{JoinKey, NodeKind, StateLifetime, TimeAttribute, TimeKind, WindowBounds, WindowColumns, WindowJoin};

use super::{Inputs, join_keys, properties};
use crate::planner::lower::Lowering;
use crate::planner::relation::{Origin, Relation};

/// The windows of both sides, as columns of their nodes, and which of the keys say that they are the same.
pub(super) struct SameWindow {
    left: WindowBounds,
    right: WindowBounds,
    keys: Vec<usize>,
}

impl Lowering<'_> {
    /// Whether the condition has the rows of both sides in the same window.
    pub(super) fn same_window(&self, inputs: &Inputs) -> Option<SameWindow> {
        let (left, right) = (self.window_of(&inputs.left)?, self.window_of(&inputs.right)?);
        let equality = |left_column: usize, right_column: usize| {
            let is = |relation: &Relation, expr: &LogicalExpr, column| relation.origin_of(expr) == Some(Origin::Node(column));
            inputs
                .conditions
                .keys
                .iter()
                .position(|key| is(&inputs.left, &key.left, left_column) && is(&inputs.right, &key.right, right_column))
        };
        let keys = vec![equality(left.start, right.start)?, equality(left.end, right.end)?];
        Some(SameWindow { left, right, keys })
    }

    /// The window that the rows of a relation belong to, if its last instant is still there to say when it is over.
    fn window_of(&self, relation: &Relation) -> Option<WindowBounds> {
        let properties = self.properties(relation.node);
        let Some(WindowColumns { start: Some(start), end: Some(end), time: Some(time) }) = properties.window else {
            return None;
        };
        let is_time = properties.time_attributes.contains(&TimeAttribute { column: time, kind: TimeKind::Event });
        is_time.then_some(WindowBounds { start, end, time })
    }

    pub(super) fn window_join(
        &mut self,
        inputs: Inputs,
        window: SameWindow,
        schema: DFSchemaRef,
    ) -> Result<crate::planner::relation::Relation, Diagnostic> {
        let Inputs { kind, left, right, mut conditions, needed, place, .. } = inputs;
        if self.properties(left.node).updating || self.properties(right.node).updating {
            return Err(Diagnostic::error(Code::NOT_IN_FLINK, "a window join cannot take rows that are taken back")
                .label_opt(place, "one of its inputs changes earlier rows")
                .help("leave one of the two equalities of window_start and window_end out: it is then an ordinary join"));
        }
        let mut index = 0;
        conditions.keys.retain(|_| {
            index += 1;
            !window.keys.contains(&(index - 1))
        });
        let extra = |bounds: WindowBounds| [bounds.start, bounds.end, bounds.time];
        let size = self.window_size_ms(left.node).max(self.window_size_ms(right.node));
        let mut left = self.join_side((left, &needed.left), conditions.keys.iter().map(|key| &key.left), &extra(window.left))?;
        let mut right =
            self.join_side((right, &needed.right), conditions.keys.iter().map(|key| &key.right), &extra(window.right))?;
        let condition = self.pair_condition(&left.relation, &right.relation, conditions.rest)?;
        let mut keys = join_keys(&left, &right, conditions.keys.iter().map(|key| key.nulls_match));
        let bounds = |extra: &[usize]| WindowBounds { start: extra[0], end: extra[1], time: extra[2] };
        let (left_window, right_window) = (bounds(&left.extra), bounds(&right.extra));
        let same = |left: usize, right: usize| JoinKey { left, right, nulls_match: false };
        let bounds_too =
            [keys.clone(), vec![same(left_window.start, right_window.start), same(left_window.end, right_window.end)]].concat();
        if keys.is_empty() {
            // All lanes are to have windows to work on.
            left.keys = vec![left_window.start, left_window.end];
            right.keys = vec![right_window.start, right_window.end];
            keys = bounds_too.clone();
        }
        let before = (self.properties(left.relation.node), self.properties(right.relation.node));
        let width = self.schema(left.relation.node).fields().len();
        let state = StateLifetime::UntilWatermark { ms: size };
        let mut properties = properties::of_timed_join(kind, &bounds_too, before, (width, state));
        if !kind.keeps_right() {
            // Each row that comes out has a left side, whose window is that of the row.
            properties.window = before.0.window.clone();
        }
        let node_schema = properties::joined_schema(self.schema(left.relation.node), self.schema(right.relation.node), kind);
        let edges = self.edges(&left, &right, false);
        let join = WindowJoin { kind, keys, left_window, right_window, condition };
        let node = self.add(NodeKind::WindowJoin(join), edges, node_schema, properties, place);
        Ok(self.joined(node, kind, (&left, &right), schema))
    }

    /// The length of the windows that the rows of a node belong to, where a node before it says so.
    fn window_size_ms(&self, node: usize) -> i64 {
        let node = &self.plan.nodes[node];
        match &node.kind {
            NodeKind::AssignWindow(assign) => assign.window.kind.size_ms(),
            NodeKind::WindowAggregate(aggregate) => aggregate.window.kind.size_ms(),
            NodeKind::Session(session) => session.window.gap_ms,
            _ => node.inputs.iter().map(|input| self.window_size_ms(input.node)).max().unwrap_or(0),
        }
    }
}

//! Groupings by windows that are there already, and the keys of sessions.

use datafusion::logical_expr::Aggregate;
use thalweg_core::Diagnostic;
use thalweg_plan::{TimeZoneRule, Window, WindowBounds, WindowColumns, WindowKind};

use super::lower::Lowering;
use super::relation::{Origin, PendingKind, PendingWindow, Relation};
use super::window_node::{CallKind, WindowCall};

impl Lowering<'_> {
    /// A session that is grouped by just its bounds and its PARTITION BY is aggregated as it grows. Any other grouping is, as in
    /// Flink, an updating one over the rows of finished sessions.
    pub(crate) fn session_of_other_keys(&mut self, relation: Relation, aggregate: &Aggregate) -> Result<Relation, Diagnostic> {
        let Some(PendingWindow { kind: PendingKind::Session { keys, .. }, .. }) = &relation.window else {
            return Ok(relation);
        };
        let mut grouped = vec![];
        for group in &aggregate.group_expr {
            match relation.origin_of(group) {
                Some(Origin::Node(column)) => grouped.push(column),
                Some(Origin::Window(_)) => {}
                None if relation.all_origins(group, |origin| matches!(origin, Origin::Window(_))) => {}
                None => return self.assign_window(relation),
            }
        }
        let is_same = keys.iter().all(|key| grouped.contains(key)) && grouped.iter().all(|key| keys.contains(key));
        if is_same { Ok(relation) } else { self.assign_window(relation) }
    }

    /// Whether `aggregate` groups by both bounds of the windows that its rows have from an inner query, as Flink sees it.
    pub(crate) fn earlier_window(&self, relation: &Relation, aggregate: &Aggregate) -> Earlier {
        let grouped: Vec<usize> = aggregate
            .group_expr
            .iter()
            .filter_map(|group| match relation.origin_of(group) {
                Some(Origin::Node(column)) => Some(column),
                _ => None,
            })
            .collect();
        let window = match (&relation.window, &self.properties(relation.node).window) {
            (None, Some(WindowColumns { start: Some(start), end: Some(end), .. })) => [*start, *end],
            _ => return Earlier::None,
        };
        if !window.iter().all(|bound| grouped.contains(bound)) {
            return Earlier::None;
        }
        let bounds = self.bounds_of(relation);
        if let Some(keys) = self.session_keys(relation.node) {
            // A session is one window for each combination of its own keys only.
            let time = bounds.map(|bounds| bounds.time);
            let mut others = grouped.iter().filter(|column| !window.contains(column) && Some(**column) != time);
            let is_same = others.all(|column| keys.contains(&Some(*column)))
                && keys.iter().all(|key| key.is_some_and(|key| grouped.contains(&key)))
                && aggregate.group_expr.len() == grouped.len();
            if !is_same {
                return Earlier::None;
            }
        }
        bounds.map_or(Earlier::Lost, Earlier::Bounds)
    }
}

/// The windows that rows have from an inner query.
pub(crate) enum Earlier {
    /// None that the rows are grouped by.
    None,
    Bounds(WindowBounds),
    /// Nothing tells any more when they end.
    Lost,
}

/// The window for rows whose windows are assigned already: one millisecond of `window_time`, the last instant of theirs, with the
/// bounds among the keys. So the groups of a window are sent when the watermark closes it, and are dropped then.
pub(crate) fn instant_of(bounds: WindowBounds) -> PendingWindow {
    let kind = WindowKind::Tumble { size_ms: 1 };
    let call = WindowCall {
        kind: CallKind::Aligned { kind, offset_ms: 0, whole_slides: true },
        place: None,
        step_place: None,
        time_place: None,
    };
    let window = PendingKind::Aligned(Window { kind, offset_ms: 0, zone: TimeZoneRule::Local });
    PendingWindow { kind: window, call, time_column: bounds.time, filters: vec![] }
}

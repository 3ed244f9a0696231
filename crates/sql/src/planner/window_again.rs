//! Groupings by windows that are there already, and the keys of sessions.

use datafusion::logical_expr::Aggregate;
use thalweg_core::Diagnostic;
use thalweg_plan::{TimeAttribute, TimeKind, TimeZoneRule, Window, WindowColumns, WindowKind};

use super::lower::Lowering;
use super::relation::{Origin, PendingKind, PendingWindow, Relation};
use super::window_node::{CallKind, WindowCall};

impl Lowering<'_> {
    /// A session that is grouped by just its bounds and its PARTITION BY is aggregated as it grows; for any other grouping its
    /// rows must be known first.
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

    /// The window for rows whose windows are assigned already, when they are grouped by the bounds of these: one millisecond of
    /// `window_time`, the last instant of theirs, with the bounds among the keys. So the groups of a window are sent when the
    /// watermark closes it, and are dropped then.
    pub(crate) fn attached_window(&self, relation: &Relation, aggregate: &Aggregate) -> Option<PendingWindow> {
        let properties = self.properties(relation.node);
        let Some(WindowColumns { start: Some(start), end: Some(end), time: Some(time) }) = properties.window else {
            return None;
        };
        let is_time = properties.time_attributes.contains(&TimeAttribute { column: time, kind: TimeKind::Event });
        let groups_by =
            |column: usize| aggregate.group_expr.iter().any(|group| relation.origin_of(group) == Some(Origin::Node(column)));
        if relation.window.is_some() || properties.updating || !is_time || !groups_by(start) || !groups_by(end) {
            return None;
        }
        let kind = WindowKind::Tumble { size_ms: 1 };
        let call = WindowCall {
            kind: CallKind::Aligned { kind, offset_ms: 0, whole_slides: true },
            place: None,
            step_place: None,
            time_place: None,
        };
        let window = PendingKind::Aligned(Window { kind, offset_ms: 0, zone: TimeZoneRule::Local });
        Some(PendingWindow { kind: window, call, time_column: time, filters: vec![] })
    }
}

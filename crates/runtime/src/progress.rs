//! The watermark of a source over all its partitions and lanes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use thalweg_core::{EventTime, PartitionId};

/// What is known of one partition.
#[derive(Clone, Debug)]
struct PartitionState {
    watermark: EventTime,
    /// How long it was asked for rows and had none. Time in which nobody asked does not count: a partition with a backlog is
    /// not idle because its reader was held up.
    quiet: Duration,
    ended: bool,
}

/// The combined watermark and what holds it back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Combined {
    pub watermark: EventTime,
    /// The partition with the smallest watermark, when others are ahead of it.
    pub held_by: Option<PartitionId>,
}

/// When a source's watermark may move without rows.
#[derive(Clone, Copy, Debug)]
pub struct IdleRules {
    /// A partition that is quiet for this long leaves the minimum; `None` is never.
    pub timeout: Option<Duration>,
    /// Whether the watermark moves on by wall clock while all partitions are idle.
    pub advances_when_idle: bool,
    /// Whether the end of all partitions is the end of time: a bounded source, read as declared.
    pub ends_time: bool,
}

/// Per-partition watermarks of one source, shared by its lanes. All partitions are added before any lane reads.
///
/// Combined watermark: the minimum over partitions that are neither idle nor ended. When all have ended: `MAX` if that is the
/// end of the source, else the largest that any reached. When all are idle: the old one, moved on by the time for which all
/// have been quiet, never past the wall clock less the watermark's delay. Monotone.
pub struct SourceProgress {
    rules: IdleRules,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    partitions: BTreeMap<PartitionId, PartitionState>,
    combined: Option<EventTime>,
    /// The watermark when all partitions had become idle.
    all_idle_from: Option<EventTime>,
    /// How far the watermark trails the newest event; unknown before the first row.
    delay_ms: Option<i64>,
    finished_lanes: usize,
}

impl SourceProgress {
    pub fn new(rules: IdleRules) -> Self {
        SourceProgress { rules, inner: Mutex::default() }
    }

    /// Makes a partition known; one that is known stays as it is.
    pub fn add(&self, partition: PartitionId, watermark: EventTime, ended: bool) {
        let state = PartitionState { watermark, quiet: Duration::ZERO, ended };
        self.lock().partitions.entry(partition).or_insert(state);
    }

    /// Rows were read; `watermark` is the partition's own after them, `delay_ms` how far that is behind the newest event.
    pub fn on_rows(&self, partition: &PartitionId, watermark: EventTime, delay_ms: Option<i64>) {
        let mut inner = self.lock();
        inner.all_idle_from = None;
        inner.delay_ms = inner.delay_ms.max(delay_ms);
        if let Some(state) = inner.partitions.get_mut(partition) {
            assert!(watermark >= state.watermark, "a watermark never goes back");
            state.watermark = watermark;
            state.quiet = Duration::ZERO;
        }
    }

    /// The delay as declared, before any row.
    pub fn set_delay(&self, delay_ms: Option<i64>) {
        let mut inner = self.lock();
        inner.delay_ms = inner.delay_ms.max(delay_ms);
    }

    /// These partitions were asked for rows for `passed`, and had none since their last ones.
    pub fn on_polled<'a>(&self, partitions: impl Iterator<Item = &'a PartitionId>, passed: Duration) {
        if self.rules.timeout.is_none() {
            return;
        }
        let mut inner = self.lock();
        for partition in partitions {
            if let Some(state) = inner.partitions.get_mut(partition) {
                state.quiet += passed;
            }
        }
    }

    /// The partition has ended for good: it no longer holds anything back.
    pub fn on_end(&self, partition: &PartitionId) {
        if let Some(state) = self.lock().partitions.get_mut(partition) {
            state.ended = true;
        }
    }

    /// The combined watermark now, at wall clock `wall`.
    pub fn combined(&self, wall: EventTime) -> Combined {
        let mut inner = self.lock();
        let old = inner.combined.unwrap_or(EventTime::MIN);
        let is_idle = |state: &PartitionState| self.rules.timeout.is_some_and(|timeout| state.quiet >= timeout);
        let active = inner.partitions.iter().filter(|(_, state)| !state.ended && !is_idle(state));
        let smallest = active.clone().min_by_key(|(_, state)| state.watermark).map(|(id, state)| (id.clone(), state.watermark));
        let largest = active.map(|(_, state)| state.watermark).max();
        let ended = inner.partitions.values().all(|state| state.ended);
        let (watermark, held_by) = match smallest {
            Some((id, watermark)) => (watermark, (largest > Some(watermark)).then_some(id)),
            None if ended && self.rules.ends_time => (EventTime::MAX, None),
            None if ended => (inner.partitions.values().map(|state| state.watermark).max().unwrap_or(old), None),
            None => (self.all_idle(&mut inner, old, wall), None),
        };
        let watermark = watermark.max(old);
        inner.combined = Some(watermark);
        Combined { watermark, held_by }
    }

    /// All partitions are idle: the best watermark of them, moved on by the time for which all have been.
    fn all_idle(&self, inner: &mut Inner, old: EventTime, wall: EventTime) -> EventTime {
        let open = || inner.partitions.values().filter(|state| !state.ended);
        let reached = open().map(|state| state.watermark).max().unwrap_or(old).max(old);
        let quiet = open().map(|state| state.quiet).min().unwrap_or_default();
        let from = *inner.all_idle_from.get_or_insert(reached);
        let (Some(delay_ms), true) = (inner.delay_ms, self.rules.advances_when_idle && from > EventTime::MIN) else { return old };
        let passed = quiet.saturating_sub(self.rules.timeout.unwrap_or_default());
        let passed_ms = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        from.saturating_add_ms(passed_ms).min(wall.saturating_sub_ms(delay_ms).max(old))
    }

    /// Counts a lane that has read all its partitions to their ends.
    pub fn finish_lane(&self) {
        self.lock().finished_lanes += 1;
    }

    pub fn unfinish_lane(&self) {
        let mut inner = self.lock();
        inner.finished_lanes = inner.finished_lanes.saturating_sub(1);
    }

    pub fn finished_lanes(&self) -> usize {
        self.lock().finished_lanes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> PartitionId {
        PartitionId(name.to_string())
    }

    fn progress(timeout_seconds: Option<u64>, advances_when_idle: bool, ends_time: bool) -> SourceProgress {
        let timeout = timeout_seconds.map(Duration::from_secs);
        let progress = SourceProgress::new(IdleRules { timeout, advances_when_idle, ends_time });
        progress.add(id("a"), EventTime::MIN, false);
        progress.add(id("b"), EventTime::MIN, false);
        progress
    }

    fn quiet(progress: &SourceProgress, names: &[&str], seconds: u64) {
        let ids: Vec<PartitionId> = names.iter().map(|name| id(name)).collect();
        progress.on_polled(ids.iter(), Duration::from_secs(seconds));
    }

    const LATE: EventTime = EventTime(i64::MAX - 1);

    #[test]
    fn the_slowest_active_partition_holds_the_watermark() {
        let progress = progress(Some(5), false, false);
        progress.on_rows(&id("a"), EventTime(100), Some(0));
        assert_eq!(progress.combined(LATE).watermark, EventTime::MIN);
        progress.on_rows(&id("b"), EventTime(40), Some(0));
        assert_eq!(progress.combined(LATE), Combined { watermark: EventTime(40), held_by: Some(id("b")) });
        quiet(&progress, &["a", "b"], 5);
        progress.on_rows(&id("a"), EventTime(200), Some(0));
        assert_eq!(progress.combined(LATE).watermark, EventTime(200), "b is idle");
        progress.on_rows(&id("b"), EventTime(50), Some(0));
        assert_eq!(progress.combined(LATE).watermark, EventTime(200), "never back");
    }

    #[test]
    fn time_in_which_nobody_asks_is_not_idleness() {
        let progress = progress(Some(5), true, false);
        progress.on_rows(&id("a"), EventTime(100), Some(0));
        progress.on_rows(&id("b"), EventTime(40), Some(0));
        quiet(&progress, &["a"], 60);
        assert_eq!(progress.combined(LATE).watermark, EventTime(40), "b was not asked");
    }

    #[test]
    fn a_quiet_topic_moves_on_with_the_wall_clock() {
        let progress = progress(Some(5), true, false);
        progress.on_rows(&id("a"), EventTime(1_000), Some(2_000));
        quiet(&progress, &["a", "b"], 5);
        assert_eq!(progress.combined(EventTime(100_000)).watermark, EventTime(1_000));
        quiet(&progress, &["a", "b"], 30);
        assert_eq!(progress.combined(EventTime(100_000)).watermark, EventTime(31_000));
        quiet(&progress, &["a", "b"], 600);
        assert_eq!(progress.combined(EventTime(100_000)).watermark, EventTime(98_000), "the wall clock less the delay");
    }

    #[test]
    fn ended_partitions_let_go_and_the_last_one_ends_time() {
        let progress = progress(None, false, true);
        progress.on_rows(&id("a"), EventTime(1), Some(0));
        progress.on_rows(&id("b"), EventTime(2), Some(0));
        progress.on_end(&id("a"));
        assert_eq!(progress.combined(LATE).watermark, EventTime(2));
        progress.on_end(&id("b"));
        assert_eq!(progress.combined(LATE).watermark, EventTime::MAX);
    }
}

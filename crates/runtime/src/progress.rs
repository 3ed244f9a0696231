//! The watermark of a source over all its partitions and lanes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use thalweg_core::{EventTime, PartitionId};

/// What is known of one partition.
#[derive(Clone, Debug)]
struct PartitionState {
    watermark: EventTime,
    last_rows_at: Duration,
    idle: bool,
    ended: bool,
}

/// The combined watermark and what holds it back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Combined {
    pub watermark: EventTime,
    /// The partition with the smallest watermark, when others are ahead of it.
    pub held_by: Option<PartitionId>,
}

/// Per-partition watermarks of one source, shared by its lanes.
///
/// Combined watermark: the minimum over partitions that are neither idle nor ended. When all have ended: `MAX` if that is the
/// end of the source, else the largest that any reached. When all are idle: the old one, moved on by wall-clock time if the
/// source is unbounded and has an idle timeout. Monotone.
pub struct SourceProgress {
    idle_timeout: Option<Duration>,
    /// Whether the watermark moves on by wall clock while all partitions are idle.
    advances_when_idle: bool,
    /// Whether the end of all partitions is the end of time: a bounded source, read as declared.
    ends_time: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    partitions: BTreeMap<PartitionId, PartitionState>,
    combined: Option<EventTime>,
    /// When all partitions became idle, and the watermark then.
    all_idle_since: Option<(Duration, EventTime)>,
    finished_lanes: usize,
}

impl SourceProgress {
    pub fn new(idle_timeout: Option<Duration>, advances_when_idle: bool, ends_time: bool) -> Self {
        SourceProgress { idle_timeout, advances_when_idle, ends_time, inner: Mutex::default() }
    }

    pub fn add(&self, partition: PartitionId, watermark: EventTime, ended: bool, now: Duration) {
        self.lock().partitions.insert(partition, PartitionState { watermark, last_rows_at: now, idle: false, ended });
    }

    /// Rows were read; `watermark` is the partition's own after them.
    pub fn on_rows(&self, partition: &PartitionId, watermark: EventTime, now: Duration) {
        let mut inner = self.lock();
        inner.all_idle_since = None;
        if let Some(state) = inner.partitions.get_mut(partition) {
            assert!(watermark >= state.watermark, "a watermark never goes back");
            state.watermark = watermark;
            state.last_rows_at = now;
            state.idle = false;
        }
    }

    /// The partition has ended for good: it no longer holds anything back.
    pub fn on_end(&self, partition: &PartitionId) {
        if let Some(state) = self.lock().partitions.get_mut(partition) {
            state.ended = true;
        }
    }

    /// The combined watermark now. `wall_limit` is the wall clock minus the watermark's delay.
    pub fn combined(&self, now: Duration, wall_limit: EventTime) -> Combined {
        let mut inner = self.lock();
        if let Some(timeout) = self.idle_timeout {
            for state in inner.partitions.values_mut() {
                state.idle = now.saturating_sub(state.last_rows_at) >= timeout;
            }
        }
        let old = inner.combined.unwrap_or(EventTime::MIN);
        let active = inner.partitions.iter().filter(|(_, state)| !state.idle && !state.ended);
        let smallest = active.clone().min_by_key(|(_, state)| state.watermark).map(|(id, state)| (id.clone(), state.watermark));
        let largest = active.map(|(_, state)| state.watermark).max();
        let ended = inner.partitions.values().all(|state| state.ended);
        let (watermark, held_by) = match smallest {
            Some((id, watermark)) => (watermark, (largest > Some(watermark)).then_some(id)),
            None if ended && self.ends_time => (EventTime::MAX, None),
            None if ended => (inner.partitions.values().map(|state| state.watermark).max().unwrap_or(old), None),
            None => (self.all_idle(&mut inner, old, now, wall_limit), None),
        };
        let watermark = watermark.max(old);
        inner.combined = Some(watermark);
        Combined { watermark, held_by }
    }

    /// All partitions are idle: the idle ones' best watermark, moved on by the time that passed since, up to `wall_limit`.
    fn all_idle(&self, inner: &mut Inner, old: EventTime, now: Duration, wall_limit: EventTime) -> EventTime {
        let reached = inner.partitions.values().filter(|state| !state.ended).map(|state| state.watermark).max();
        let reached = reached.unwrap_or(old).max(old);
        let (since, base) = *inner.all_idle_since.get_or_insert((now, reached));
        if !self.advances_when_idle || base == EventTime::MIN {
            return old;
        }
        let passed = i64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(i64::MAX);
        base.saturating_add_ms(passed).min(wall_limit.max(old))
    }

    /// Counts a lane that has read all its partitions to their ends; returns how many have.
    pub fn finish_lane(&self) -> usize {
        let mut inner = self.lock();
        inner.finished_lanes += 1;
        inner.finished_lanes
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

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_slowest_active_partition_holds_the_watermark() {
        let progress = SourceProgress::new(Some(seconds(5)), false, false);
        progress.add(id("a"), EventTime::MIN, false, seconds(0));
        progress.add(id("b"), EventTime::MIN, false, seconds(0));
        progress.on_rows(&id("a"), EventTime(100), seconds(1));
        assert_eq!(progress.combined(seconds(1), EventTime::MAX).watermark, EventTime::MIN);
        progress.on_rows(&id("b"), EventTime(40), seconds(2));
        let combined = progress.combined(seconds(2), EventTime::MAX);
        assert_eq!(combined, Combined { watermark: EventTime(40), held_by: Some(id("b")) });
        progress.on_rows(&id("a"), EventTime(200), seconds(7));
        assert_eq!(progress.combined(seconds(7), EventTime::MAX).watermark, EventTime(200), "b is idle");
        progress.on_rows(&id("b"), EventTime(50), seconds(8));
        assert_eq!(progress.combined(seconds(8), EventTime::MAX).watermark, EventTime(200), "never back");
    }

    #[test]
    fn a_quiet_topic_moves_on_with_the_wall_clock() {
        let progress = SourceProgress::new(Some(seconds(5)), true, false);
        progress.add(id("a"), EventTime::MIN, false, seconds(0));
        progress.on_rows(&id("a"), EventTime(1_000), seconds(1));
        assert_eq!(progress.combined(seconds(6), EventTime(100_000)).watermark, EventTime(1_000));
        assert_eq!(progress.combined(seconds(36), EventTime(100_000)).watermark, EventTime(31_000));
        assert_eq!(
            progress.combined(seconds(600), EventTime(100_000)).watermark,
            EventTime(100_000),
            "bounded by the wall clock"
        );
    }

    #[test]
    fn ended_partitions_let_go_and_the_last_one_ends_time() {
        let progress = SourceProgress::new(None, false, true);
        progress.add(id("a"), EventTime(1), false, seconds(0));
        progress.add(id("b"), EventTime(2), false, seconds(0));
        progress.on_end(&id("a"));
        assert_eq!(progress.combined(seconds(0), EventTime::MAX).watermark, EventTime(2));
        progress.on_end(&id("b"));
        assert_eq!(progress.combined(seconds(0), EventTime::MAX).watermark, EventTime::MAX);
    }
}

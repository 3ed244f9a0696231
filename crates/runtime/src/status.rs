//! What a running job says of itself.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use thalweg_core::{Epoch, EventTime};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum JobPhase {
    #[default]
    Starting,
    /// Waiting for something outside, with the reason.
    Connecting(String),
    Running,
    /// Committed output cannot be handed over; sources pause when the backlog is full.
    DeliveryBlocked(String),
    Stopping,
    Done,
}

/// Counters of one source table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SourceStatus {
    pub rows: u64,
    /// Records ignored because they could not be decoded.
    pub skipped: u64,
    /// Rows whose far-future event time did not move the watermark.
    pub far_future: u64,
    pub watermark: Option<EventTime>,
    /// The partition that holds the watermark back, if one is behind the others.
    pub held_by: Option<String>,
    /// Rows not read yet, where known.
    pub lag_rows: Option<u64>,
}

/// A point in time of [`JobStatus`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusSnapshot {
    pub phase: JobPhase,
    pub sources: BTreeMap<String, SourceStatus>,
    /// Rows handed to each sink, by sink id.
    pub rows_out: BTreeMap<String, u64>,
    /// Late rows by the sources they came from.
    pub late_rows: BTreeMap<String, u64>,
    /// Rows taken back that were not there, by operator, where they are dropped.
    pub unmatched_rows: BTreeMap<String, u64>,
    pub state_bytes: u64,
    pub epoch: Epoch,
    /// Wall clock of the last commit.
    pub committed_ms: Option<i64>,
}

/// Shared by all tasks of a job; cheap to update once per batch.
#[derive(Default)]
pub struct JobStatus {
    inner: Mutex<StatusSnapshot>,
    state_bytes: Mutex<BTreeMap<usize, u64>>,
    late_rows: Mutex<BTreeMap<(usize, String), u64>>,
    unmatched_rows: Mutex<BTreeMap<(usize, String), u64>>,
    rows_in_total: AtomicU64,
}

impl JobStatus {
    pub fn snapshot(&self) -> StatusSnapshot {
        let mut snapshot = self.lock().clone();
        snapshot.state_bytes = self.state_bytes.lock().expect("no holder of this lock panics").values().sum();
        for ((_, sources), rows) in self.late_rows.lock().expect("no holder of this lock panics").iter() {
            *snapshot.late_rows.entry(sources.clone()).or_default() += rows;
        }
        for ((_, operator), rows) in self.unmatched_rows.lock().expect("no holder of this lock panics").iter() {
            *snapshot.unmatched_rows.entry(operator.clone()).or_default() += rows;
        }
        snapshot
    }

    pub(crate) fn set_phase(&self, phase: JobPhase) {
        self.lock().phase = phase;
    }

    pub(crate) fn on_rows_in(&self, source: &str, rows: u64, skipped: u64, far_future: u64) {
        self.rows_in_total.fetch_add(rows + skipped, Ordering::Relaxed);
        let mut inner = self.lock();
        let status = inner.sources.entry(source.to_string()).or_default();
        status.rows += rows;
        status.skipped += skipped;
        status.far_future += far_future;
    }

    pub(crate) fn on_watermark(&self, source: &str, watermark: EventTime, held_by: Option<String>) {
        let mut inner = self.lock();
        let status = inner.sources.entry(source.to_string()).or_default();
        status.watermark = Some(watermark);
        status.held_by = held_by;
    }

    pub(crate) fn on_lag(&self, source: &str, lag_rows: Option<u64>) {
        self.lock().sources.entry(source.to_string()).or_default().lag_rows = lag_rows;
    }

    pub(crate) fn on_rows_out(&self, sink: &str, rows: u64) {
        *self.lock().rows_out.entry(sink.to_string()).or_default() += rows;
    }

    /// Absolute values of one task: bytes of state, late rows by the sources they came from, unmatched ones by operator.
    pub(crate) fn on_task(
        &self,
        task: usize,
        state_bytes: u64,
        late_rows: Vec<(String, u64)>,
        unmatched_rows: Vec<(String, u64)>,
    ) {
        self.state_bytes.lock().expect("no holder of this lock panics").insert(task, state_bytes);
        let mut all = self.late_rows.lock().expect("no holder of this lock panics");
        for (sources, rows) in late_rows {
            all.insert((task, sources), rows);
        }
        let mut all = self.unmatched_rows.lock().expect("no holder of this lock panics");
        all.extend(unmatched_rows.into_iter().map(|(operator, rows)| ((task, operator), rows)));
    }

    pub(crate) fn on_commit(&self, epoch: Epoch, wall_ms: i64) {
        let mut inner = self.lock();
        inner.epoch = epoch;
        inner.committed_ms = Some(wall_ms);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, StatusSnapshot> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

//! One partition of OVER, in the order of time or of arrival.

use std::collections::VecDeque;
use std::sync::Arc;

use thalweg_plan::Frame;

use super::call::{Calls, Passing};
use crate::arrangement::RowId;
use crate::item_slots::Life;

/// A row that waits for the watermark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub(super) time: i64,
    pub(super) id: RowId,
    /// The lowest watermark that lets it pass.
    pub(super) passes_at: i64,
}

/// What Flink keeps to forget a partition of a bounded RANGE: `time` is that of the timer, `at` the lowest watermark that fires it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cleanup {
    pub(super) time: i64,
    pub(super) at: i64,
}

pub(super) struct Partition {
    pub(super) key: Arc<[u8]>,
    /// Tells the partitions apart that had this key one after the other.
    pub(super) birth: i64,
    pub(super) life: Life,
    /// Rows that have passed.
    pub(super) rows: i64,
    /// The time of the last row that passed; `i64::MIN`: none.
    pub(super) last_time: i64,
    /// By time. The last one forgets the partition; those before it were overtaken, but count as times that have passed.
    pub(super) cleanups: Vec<Cleanup>,
    /// The time of the cleanup that a row in time found behind it: for late rows all up to there is forgotten. `i64::MIN`: none.
    pub(super) cleared_time: i64,
    /// The rows behind this time are those of the partition that followed; `i64::MAX`: none did.
    pub(super) split_time: i64,
    /// By time, then by arrival. Invariant: `passes_at` never decreases, so rows pass in this order.
    pub(super) waiting: VecDeque<Waiting>,
    /// Rows that have passed, oldest first, as far back as the frame or LAG reaches.
    pub(super) passed: VecDeque<(i64, RowId)>,
    /// How many at the end of `passed` are in the frame.
    pub(super) in_frame: usize,
    /// The watermark for which the operator's queue has this partition; `i64::MAX`: none.
    pub(super) queued_at: i64,
}

impl Partition {
    pub(super) fn new(key: Arc<[u8]>, birth: i64) -> Self {
        Partition {
            key,
            birth,
            life: 0,
            rows: 0,
            last_time: i64::MIN,
            cleanups: vec![],
            cleared_time: i64::MIN,
            split_time: i64::MAX,
            waiting: VecDeque::new(),
            passed: VecDeque::new(),
            in_frame: 0,
            queued_at: i64::MAX,
        }
    }

    fn passing_by(&self, watermark: i64) -> usize {
        self.waiting.partition_point(|waiting| waiting.passes_at <= watermark)
    }

    /// The last time that `watermark` lets pass, whether or not it has passed.
    pub(super) fn last_time_at(&self, watermark: i64) -> i64 {
        let row = self.passing_by(watermark).checked_sub(1).map_or(i64::MIN, |last| self.waiting[last].time);
        let overtaken = &self.cleanups[..self.cleanups.len().saturating_sub(1)];
        let cleanup = overtaken.iter().filter(|cleanup| cleanup.at <= watermark).map(|cleanup| cleanup.time).max();
        self.last_time.max(row).max(cleanup.unwrap_or(i64::MIN))
    }

    /// As [`Partition::last_time_at`], without what late rows are to find forgotten.
    pub(super) fn last_known_time_at(&self, watermark: i64) -> i64 {
        let last = self.last_time_at(watermark);
        // A cleanup is behind the rows that it forgets; those that came after it are not before it.
        if last < self.cleared_time { i64::MIN } else { last }
    }

    /// Whether `watermark` forgets the partition.
    pub(super) fn is_forgotten_at(&self, watermark: i64) -> bool {
        self.cleanups.last().is_some_and(|cleanup| cleanup.at <= watermark)
    }

    /// Sees to it that the partition outlives a row of `time` that came behind `watermark`, whose frame reaches back by `distance`:
    /// as in Flink by one and a half times the distance, unless it does so by the distance already. Gives the new cleanup.
    pub(super) fn outlive(&mut self, time: i64, watermark: i64, distance: i64) -> Option<Cleanup> {
        let least = time.saturating_add(distance).saturating_add(1);
        if let Some(last) = self.cleanups.last().filter(|last| last.at <= watermark) {
            self.cleared_time = last.time;
            self.cleanups.clear();
        }
        if self.cleanups.last().is_some_and(|cleanup| cleanup.time >= least) {
            return None;
        }
        let cleanup_time = least.saturating_add(distance / 2);
        let cleanup = Cleanup { time: cleanup_time, at: cleanup_time.max(watermark.saturating_add(1)) };
        let last_time = self.last_time;
        self.cleanups.retain(|cleanup| cleanup.time > last_time);
        self.cleanups.push(cleanup);
        Some(cleanup)
    }

    /// Keeps the rows that `watermark` lets pass; gives the others, with the cleanups that were set for them: of a partition that a
    /// row in time found forgotten, those are the rows that came since.
    pub(super) fn split(&mut self, watermark: i64) -> (VecDeque<Waiting>, Vec<Cleanup>) {
        self.split_time = self.last_time_at(watermark);
        let rows = self.waiting.split_off(self.passing_by(watermark));
        if self.is_forgotten_at(watermark) {
            return (rows, vec![]);
        }
        let forgotten = Cleanup { time: self.cleared_time, at: watermark };
        (rows, std::mem::replace(&mut self.cleanups, vec![forgotten]))
    }

    /// Adds a row that waits. The ids of rows grow.
    pub(super) fn wait(&mut self, mut row: Waiting) {
        let place = self.waiting.partition_point(|other| (other.time, other.id) < (row.time, row.id));
        if let Some(next) = self.waiting.get(place) {
            row.passes_at = row.passes_at.min(next.passes_at);
        }
        // Rows of one time pass together.
        if let Some(peer) = place.checked_sub(1).map(|peer| self.waiting[peer]).filter(|peer| peer.time == row.time) {
            row.passes_at = row.passes_at.min(peer.passes_at);
        }
        for earlier in self.waiting.range_mut(..place).rev().take_while(|earlier| earlier.passes_at > row.passes_at) {
            earlier.passes_at = row.passes_at;
        }
        self.waiting.insert(place, row);
    }

    /// Takes out the rows that `watermark` lets pass, in order.
    pub(super) fn take_passing(&mut self, watermark: i64) -> impl Iterator<Item = Waiting> {
        let passing = self.passing_by(watermark);
        self.waiting.drain(..passing)
    }

    /// Lets rows of one place in the order pass. Rows that nothing needs any more are added to `gone`.
    pub(super) fn pass(
        &mut self,
        number: usize,
        rows: &Peers,
        frame: Frame,
        calls: &Calls,
        passing: &mut Passing,
        gone: &mut Vec<RowId>,
    ) {
        let before = self.rows;
        self.rows += rows.ids.len() as i64;
        self.last_time = self.last_time.max(rows.time);
        match frame {
            Frame::Range { preceding_ms } => {
                if let Some(distance) = preceding_ms {
                    let first = rows.time.saturating_sub(distance);
                    while let Some((_, old)) = self.first_in_frame().filter(|(time, _)| *time < first) {
                        self.leave(number, old, passing);
                    }
                }
                for (at, id) in rows.ids.iter().enumerate() {
                    self.enter(number, rows.time, *id, at + 1 == rows.ids.len(), passing);
                }
                for (at, id) in rows.ids.iter().enumerate() {
                    passing.show(calls, *id, before + at as i64 + 1, self.rows, |offset| self.before_last(offset));
                }
            }
            Frame::Rows { preceding } => {
                for (at, id) in rows.ids.iter().enumerate() {
                    while let (Some(preceding), Some((_, old))) = (preceding, self.first_in_frame())
                        && self.in_frame as u64 > preceding
                    {
                        self.leave(number, old, passing);
                    }
                    self.enter(number, rows.time, *id, true, passing);
                    passing.show(calls, *id, before + at as i64 + 1, self.rows, |offset| self.before_last(offset));
                }
            }
        }
        if is_unbounded(frame) {
            self.in_frame = 0;
        }
        let needed = self.in_frame.max(calls.longest_lag());
        while self.passed.len() > needed {
            gone.extend(self.passed.pop_front().map(|(_, id)| id));
        }
    }

    fn first_in_frame(&self) -> Option<(i64, RowId)> {
        self.in_frame.checked_sub(1)?;
        self.passed.get(self.passed.len() - self.in_frame).copied()
    }

    fn leave(&mut self, number: usize, row: RowId, passing: &mut Passing) {
        passing.leave(row, number);
        self.in_frame -= 1;
    }

    fn enter(&mut self, number: usize, time: i64, id: RowId, is_wanted: bool, passing: &mut Passing) {
        passing.enter(id, number, is_wanted);
        self.passed.push_back((time, id));
        self.in_frame += 1;
    }

    /// The row that passed `offset` rows before the last one.
    fn before_last(&self, offset: u64) -> Option<RowId> {
        let at = self.passed.len().checked_sub(1)?.checked_sub(usize::try_from(offset).ok()?)?;
        self.passed.get(at).map(|(_, id)| *id)
    }

    /// Counts the rows of the frame anew, after a restore.
    pub(super) fn find_frame(&mut self, frame: Frame) {
        self.passed.make_contiguous().sort_unstable();
        self.in_frame = match frame {
            Frame::Rows { preceding: Some(rows) } => {
                self.passed.len().min(usize::try_from(rows.saturating_add(1)).unwrap_or(usize::MAX))
            }
            Frame::Range { preceding_ms: Some(distance) } => {
                let first = self.last_time.saturating_sub(distance);
                self.passed.len() - self.passed.partition_point(|(time, _)| *time < first)
            }
            _ => 0,
        };
    }
}

/// Rows of one partition that pass together: under RANGE those of one time.
pub(super) struct Peers {
    pub(super) partition: usize,
    pub(super) time: i64,
    pub(super) ids: Vec<RowId>,
}

pub(super) fn is_unbounded(frame: Frame) -> bool {
    matches!(frame, Frame::Rows { preceding: None } | Frame::Range { preceding_ms: None })
}

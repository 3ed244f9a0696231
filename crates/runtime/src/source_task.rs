//! Reads one source in one lane: rows, watermarks, positions, barriers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use thalweg_core::{
    Assignment, Barrier, Batch, Clock, Error, ErrorKind, EventTime, PartitionId, PollBudget, Position, Source, SourceEvent,
    SourceReader,
};
use thalweg_ops::{DEFAULT_MAX_FUTURE_MS, WatermarkGenerator};
use thalweg_plan::{Expr, Watermark};
use thalweg_state::PartitionProgress;

use crate::coordinator::{Event, FinalEpoch};
use crate::progress::SourceProgress;
use crate::status::JobPhase;
use crate::task::{Body, Stop};

/// Rows in a batch: per-batch costs have vanished, and the columns still fit the cache.
const BATCH_ROWS: usize = 2_048;
/// How long a poll may wait: the longest a barrier or a watermark is held up by a quiet source.
const POLL_WAIT: Duration = Duration::from_millis(10);
/// How long a source may be away before the job gives up.
const PATIENCE: Duration = Duration::from_secs(120);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Without an error for this long after it was opened again, a source is back.
const SETTLED: Duration = Duration::from_secs(10);
/// The most that one poll may add to the quiet time of its partitions.
const QUIET_STEP_MAX: Duration = Duration::from_millis(100);

/// What the coordinator tells a source task.
pub enum Control {
    Barrier(Barrier),
    Assign(Vec<PartitionProgress>),
}

struct PartitionReading {
    position: Option<Position>,
    generator: Option<WatermarkGenerator>,
    watermark: EventTime,
    ended: bool,
    /// Has given what was there at start.
    caught_up: bool,
}

/// What a source task reads: a table, or the rows of VALUES.
pub struct Root {
    pub name: String,
    /// Over the rows that the reader gives; `None` passes them as they are.
    pub project: Option<(Vec<Expr>, SchemaRef)>,
    pub watermark: Option<Watermark>,
}

pub struct SourceTask {
    pub body: Body,
    pub root: Root,
    pub operator: String,
    pub source: Arc<dyn Source>,
    pub progress: Arc<SourceProgress>,
    pub control: Receiver<Control>,
    pub final_epoch: FinalEpoch,
    pub clock: Arc<dyn Clock>,
    /// Whether the end of all partitions ends the input (a bounded source, read as declared).
    pub ends_time: bool,
    /// Whether the table has no end as declared, however it is read in this run: then a row from the far future must not end
    /// all windows.
    pub is_endless: bool,
    /// Whether this lane can be done before the job is stopped: the source is bounded, or read only until caught up.
    pub finishes: bool,
    pub until_caught_up: bool,
}

impl SourceTask {
    /// Runs until the final barrier has been sent.
    pub fn run(&mut self, assigned: Vec<PartitionProgress>) -> Result<(), Stop> {
        let mut reading = Reading {
            partitions: BTreeMap::new(),
            reader: None,
            finished: false,
            ended: false,
            polls: 0,
            polled_at: self.clock.monotonic(),
            away: None,
        };
        self.assign(&mut reading, assigned)?;
        loop {
            if self.body.abort.is_set() {
                return Err(Stop::Aborted);
            }
            if self.handle_control(&mut reading)? {
                return Ok(());
            }
            if self.body.pressure.is_high() {
                std::thread::sleep(POLL_WAIT);
            } else if !reading.finished {
                self.poll(&mut reading)?;
            }
            self.send_watermark(&mut reading)?;
            self.body.on_clock()?;
        }
    }

    /// Returns whether the final barrier was sent. Waits a little when there is nothing else to do.
    fn handle_control(&mut self, reading: &mut Reading) -> Result<bool, Stop> {
        let control = if reading.finished {
            match self.control.recv_timeout(POLL_WAIT) {
                Ok(control) => Some(control),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Aborted),
            }
        } else {
            match self.control.try_recv() {
                Ok(control) => Some(control),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return Err(Stop::Aborted),
            }
        };
        match control {
            None => Ok(false),
            Some(Control::Assign(partitions)) => {
                self.assign(reading, partitions)?;
                Ok(false)
            }
            Some(Control::Barrier(barrier)) => {
                // What other lanes have read by now counts before the barrier: the last epoch fires all that is complete.
                self.send_watermark(reading)?;
                // The positions are those of the rows sent before the barrier: read here, in the same step.
                self.body.events.send(Event::Positions {
                    operator: self.operator.clone(),
                    epoch: barrier.epoch,
                    partitions: reading.positions(),
                });
                self.body.on_barrier(barrier)?;
                Ok(self.final_epoch.is(barrier.epoch))
            }
        }
    }

    fn assign(&mut self, reading: &mut Reading, partitions: Vec<PartitionProgress>) -> Result<(), Stop> {
        let mut open = vec![];
        for PartitionProgress { partition, position, watermark, ended } in partitions {
            let generator = self.root.watermark.as_ref().map(|watermark_node| {
                let mut generator = WatermarkGenerator::new(watermark_node, DEFAULT_MAX_FUTURE_MS);
                generator.restore(watermark);
                generator
            });
            self.progress.add(partition.clone(), watermark, ended);
            self.progress.set_delay(generator.as_ref().and_then(WatermarkGenerator::delay_ms));
            if !ended {
                open.push(Assignment { partition: partition.clone(), position: position.clone() });
            }
            let state = PartitionReading { position, generator, watermark, ended, caught_up: false };
            reading.partitions.insert(partition, state);
        }
        if reading.finished && !open.is_empty() {
            reading.finished = false;
            self.progress.unfinish_lane();
        }
        if !open.is_empty() {
            let opened = match &mut reading.reader {
                Some(reader) => reader.assign(open),
                None => self.source.reader(reading.open_assignments()).map(|reader| reading.reader = Some(reader)),
            };
            match opened {
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    // Opened again where the lane stands, the new partitions included.
                    reading.reader = None;
                    self.reopen(reading, Some(error))?;
                }
                opened => opened?,
            }
        }
        self.finish_if_done(reading);
        Ok(())
    }

    fn poll(&mut self, reading: &mut Reading) -> Result<(), Stop> {
        let Some(mut reader) = reading.reader.take() else { return self.reopen(reading, None) };
        let event = match reader.poll(PollBudget { rows: BATCH_ROWS, wait: POLL_WAIT }) {
            Ok(event) => event,
            Err(error) if error.kind == ErrorKind::Unavailable => return self.reopen(reading, Some(error)),
            Err(error) => return Err(Stop::Failed(error)),
        };
        self.note_polled(reading);
        reading.polls += 1;
        if reading.polls % 64 == 1 {
            self.body.status.on_lag(&self.root.name, reader.lag_rows());
        }
        reading.reader = Some(reader);
        let now = self.clock.monotonic();
        let settled =
            !matches!(event, SourceEvent::Idle) || reading.away.as_ref().is_some_and(|away| now >= away.next_try + SETTLED);
        if settled && reading.away.take().is_some() {
            self.body.status.set_phase(JobPhase::Running);
        }
        match event {
            SourceEvent::Idle => {}
            SourceEvent::Rows { partition, rows, weights, next, skipped } => {
                self.on_rows(reading, &partition, (rows, weights), (next, skipped))?;
            }
            SourceEvent::PartitionEnd(partition) => {
                if let Some(state) = reading.partitions.get_mut(&partition) {
                    // A file that is read to its end in a scheduled run may have grown before the next.
                    let for_good = !self.until_caught_up;
                    state.ended = for_good;
                    state.caught_up = !for_good;
                }
                self.progress.on_end(&partition);
                self.body.events.send(Event::Progress);
                self.finish_if_done(reading);
            }
            SourceEvent::CaughtUp(partition) => {
                if let Some(state) = reading.partitions.get_mut(&partition) {
                    state.caught_up = true;
                }
                self.finish_if_done(reading);
            }
        }
        Ok(())
    }

    /// Counts the time since the last poll as quiet time of the partitions that were asked; rows take it back. Time in which
    /// the lane was held up does not count.
    fn note_polled(&self, reading: &mut Reading) {
        let now = self.clock.monotonic();
        let passed = now.saturating_sub(reading.polled_at).min(QUIET_STEP_MAX);
        reading.polled_at = now;
        let asked = reading.partitions.iter().filter(|(_, state)| !state.ended && !state.caught_up);
        self.progress.on_polled(asked.map(|(partition, _)| partition), passed);
    }

    fn on_rows(
        &mut self,
        reading: &mut Reading,
        partition: &PartitionId,
        (rows, weights): (RecordBatch, Option<Int64Array>),
        (next, skipped): (Position, u64),
    ) -> Result<(), Stop> {
        let state = reading.partitions.get_mut(partition).ok_or_else(|| {
            Error::internal(format!("source {} gave rows of partition {partition}, which is not its own", self.root.name))
        })?;
        state.position = Some(next);
        let count = rows.num_rows() as u64;
        let mut far_future = 0;
        if count > 0 {
            let rows = match &self.root.project {
                Some((exprs, schema)) => thalweg_ops::project(exprs, schema, &rows)?,
                None => rows,
            };
            let batch = match &mut state.generator {
                None => Batch { weights, ..Batch::append(rows) },
                Some(generator) => {
                    let wall_now = self.is_endless.then(|| EventTime(self.clock.wall_ms()));
                    let far_future_before = generator.far_future_rows();
                    let batch = generator
                        .advance_upserts(rows, weights, wall_now)
                        .map_err(|error| error.in_context(format!("source {}", self.root.name)))?;
                    state.watermark = generator.current();
                    far_future = generator.far_future_rows() - far_future_before;
                    batch
                }
            };
            let delay_ms = state.generator.as_ref().and_then(WatermarkGenerator::delay_ms);
            self.progress.on_rows(partition, state.watermark, delay_ms);
            self.body.on_batch(0, 0, batch)?;
        }
        self.body.status.on_rows_in(&self.root.name, count, skipped, far_future);
        self.body.events.note_progress();
        Ok(())
    }

    /// The source is away: opens it again where this lane stands, with growing pauses, or gives up after [`PATIENCE`].
    /// Returns quickly in any case, so that barriers pass while a source is away.
    fn reopen(&mut self, reading: &mut Reading, error: Option<Error>) -> Result<(), Stop> {
        let now = self.clock.monotonic();
        let away = reading.away.get_or_insert(Away { since: now, pause: Duration::from_millis(200), next_try: now });
        if let Some(error) = error {
            tracing::debug!(source = self.root.name, error = error.full_message(), "source is away, trying again");
            self.body.status.set_phase(JobPhase::Connecting(error.full_message()));
            away.next_try = now + away.pause;
            away.pause = (away.pause * 2).min(BACKOFF_MAX);
            if now.saturating_sub(away.since) > PATIENCE {
                return Err(Stop::Failed(error));
            }
        }
        if now < away.next_try {
            std::thread::sleep(POLL_WAIT);
            return Ok(());
        }
        match self.source.reader(reading.open_assignments()) {
            Ok(reader) => {
                reading.reader = Some(reader);
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::Unavailable => self.reopen(reading, Some(error)),
            Err(error) => Err(Stop::Failed(error)),
        }
    }

    fn finish_if_done(&mut self, reading: &mut Reading) {
        if !reading.finished && reading.partitions.values().all(|state| state.ended || state.caught_up) {
            reading.finished = true;
            reading.reader = None;
            self.progress.finish_lane();
            if self.finishes {
                self.body.events.send(Event::LaneFinished);
            }
        }
    }

    /// Sends the source's combined watermark if it moved, and the end of the input when every lane is there.
    fn send_watermark(&mut self, reading: &mut Reading) -> Result<(), Stop> {
        if self.root.watermark.is_some() {
            let combined = self.progress.combined(EventTime(self.clock.wall_ms()));
            if combined.watermark > self.body.nodes[0].sent {
                self.body.events.note_progress();
                let held_by = combined.held_by.map(|partition| partition.0);
                self.body.status.on_watermark(&self.root.name, combined.watermark, held_by);
                self.body.on_watermark(0, 0, combined.watermark)?;
            }
        }
        let all_finished = self.progress.finished_lanes() == self.body.lanes as usize;
        if self.ends_time && reading.finished && all_finished && !reading.ended {
            reading.ended = true;
            self.body.on_watermark(0, 0, EventTime::MAX)?;
            self.body.on_end(0, 0)?;
            self.body.events.send(Event::LaneEnded);
        }
        Ok(())
    }
}

/// What changes while a source is read.
struct Reading {
    partitions: BTreeMap<PartitionId, PartitionReading>,
    reader: Option<Box<dyn SourceReader>>,
    /// Every partition of this lane has ended or caught up.
    finished: bool,
    /// The end was sent on.
    ended: bool,
    polls: u64,
    /// When the reader was last asked.
    polled_at: Duration,
    /// Set while the source cannot be reached.
    away: Option<Away>,
}

struct Away {
    since: Duration,
    pause: Duration,
    next_try: Duration,
}

impl Reading {
    fn positions(&self) -> Vec<PartitionProgress> {
        self.partitions
            .iter()
            .map(|(partition, state)| PartitionProgress {
                partition: partition.clone(),
                position: state.position.clone(),
                watermark: state.watermark,
                ended: state.ended,
            })
            .collect()
    }

    fn open_assignments(&self) -> Vec<Assignment> {
        self.partitions
            .iter()
            .filter(|(_, state)| !state.ended && !state.caught_up)
            .map(|(partition, state)| Assignment { partition: partition.clone(), position: state.position.clone() })
            .collect()
    }
}

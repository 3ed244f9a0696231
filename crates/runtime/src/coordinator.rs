//! Epochs: when they begin, when they are complete, the commit, and what follows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use thalweg_core::{Barrier, Clock, Epoch, Error, ErrorKind, Result};
use thalweg_state::{JobStore, Manifest, PartitionProgress, SourceProgress as StoredProgress, apply, apply_full};

use crate::delivery::Delivery;
use crate::job::Stopper;
use crate::source_task::Control;
use crate::status::{JobPhase, JobStatus};
use crate::task::TaskSnapshot;
use crate::uploader::Stored;

/// What the coordinator hears.
pub enum Event {
    /// A source task has put the barrier into its stream and stood here.
    Positions {
        operator: String,
        epoch: Epoch,
        partitions: Vec<PartitionProgress>,
    },
    /// A task has passed the barrier.
    Snapshot(TaskSnapshot),
    /// What a task handed over is in the store.
    Stored(Stored),
    /// Something that a checkpoint should record has happened outside the flow of rows.
    Progress,
    /// Sinks buffer more than they should: begin an epoch now.
    OutputIsLarge,
    /// A source lane has nothing more to read in this run.
    LaneFinished,
    /// A source lane has sent the end of its input.
    LaneEnded,
    Failed(Error),
}

/// The way to the coordinator, with a cheap mark for "rows have flowed".
#[derive(Clone)]
pub struct EventSender {
    sender: Sender<Event>,
    progress: Arc<AtomicBool>,
}

impl EventSender {
    pub fn new() -> (Self, Receiver<Event>) {
        let (sender, receiver) = crossbeam_channel::unbounded();
        (EventSender { sender, progress: Arc::default() }, receiver)
    }

    /// If the coordinator is gone the job is over, and nobody needs to know.
    pub fn send(&self, event: Event) {
        let _ = self.sender.send(event);
    }

    pub fn note_progress(&self) {
        self.progress.store(true, Ordering::Relaxed);
    }

    fn take_progress(&self) -> bool {
        self.progress.swap(false, Ordering::Relaxed)
    }
}

/// The number of the last epoch of this run, once it is known.
#[derive(Clone, Default)]
pub struct FinalEpoch(Arc<AtomicU64>);

impl FinalEpoch {
    pub fn set(&self, epoch: Epoch) {
        self.0.store(epoch.0, Ordering::SeqCst);
    }

    pub fn is(&self, epoch: Epoch) -> bool {
        self.0.load(Ordering::SeqCst) == epoch.0
    }
}

/// An epoch that is under way.
struct Open {
    epoch: Epoch,
    is_final: bool,
    positions: BTreeMap<String, Vec<PartitionProgress>>,
    positions_missing: usize,
    stored: Vec<Stored>,
    started: Duration,
}

pub struct Coordinator {
    pub manifest: Manifest,
    pub store: Arc<JobStore>,
    pub clock: Arc<dyn Clock>,
    pub status: Arc<JobStatus>,
    pub delivery: Delivery,
    pub events: EventSender,
    pub received: Receiver<Event>,
    pub uploads: Sender<TaskSnapshot>,
    /// One per source task.
    pub controls: Vec<Sender<Control>>,
    pub tasks: usize,
    pub source_tasks: usize,
    /// Source tasks whose input ends for good when they have read it.
    pub ending_tasks: usize,
    pub interval: Duration,
    /// Whether anything needs epochs before the last one.
    pub checkpoints: bool,
    pub full_state_next: bool,
    pub final_epoch: FinalEpoch,
    pub stopper: Stopper,
    /// Looks for new partitions and tells the sources what was committed.
    pub sources: crate::job::Sources,
}

/// How long to wait for events at most before timers are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Manifests that are kept for looking back; older ones and what only they name are deleted.
const MANIFESTS_KEPT: usize = 5;
const GARBAGE_EVERY_EPOCHS: u64 = 20;

impl Coordinator {
    /// Runs the job to its end. Returns the last manifest.
    pub fn run(mut self) -> Result<Manifest> {
        self.status.set_phase(JobPhase::Running);
        let mut open: Option<Open> = None;
        let mut last_begin = self.clock.monotonic();
        let mut lanes_finished = 0;
        let mut lanes_ended = 0;
        let mut large = false;
        loop {
            match self.received.recv_timeout(TICK) {
                Ok(Event::Failed(error)) => return Err(error),
                Ok(Event::Positions { operator, epoch, partitions }) => {
                    let open = open.as_mut().expect("positions come only within an epoch");
                    assert_eq!(epoch, open.epoch, "epochs arrive in step");
                    open.positions.entry(operator).or_default().extend(partitions);
                    open.positions_missing -= 1;
                }
                Ok(Event::Snapshot(snapshot)) => {
                    if self.uploads.send(snapshot).is_err() {
                        return Err(Error::internal("the uploading thread has stopped"));
                    }
                }
                Ok(Event::Stored(stored)) => {
                    let open = open.as_mut().expect("snapshots come only within an epoch");
                    assert_eq!(stored.epoch, open.epoch, "epochs arrive in step");
                    open.stored.push(stored);
                }
                Ok(Event::Progress) => self.events.note_progress(),
                Ok(Event::OutputIsLarge) => large = true,
                Ok(Event::LaneFinished) => lanes_finished += 1,
                Ok(Event::LaneEnded) => lanes_ended += 1,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Error::internal("all tasks have stopped without an error")),
            }
            if open.as_ref().is_some_and(|open| open.positions_missing == 0 && open.stored.len() == self.tasks) {
                let complete = open.take().expect("just looked");
                let is_final = complete.is_final;
                self.commit(complete)?;
                if is_final {
                    self.status.set_phase(JobPhase::Done);
                    return Ok(self.manifest);
                }
            }
            if open.is_none() {
                let ended = lanes_ended >= self.ending_tasks && self.ending_tasks > 0;
                let all_read = lanes_finished >= self.source_tasks && (ended || self.ending_tasks == 0);
                let stop = self.stopper.is_set();
                let now = self.clock.monotonic();
                let due = self.checkpoints && now.saturating_sub(last_begin) >= self.interval;
                if stop || all_read {
                    let finished = all_read && self.ending_tasks == self.source_tasks;
                    self.manifest.finished = finished;
                    open = Some(self.begin(true)?);
                } else if large || (due && (self.events.take_progress() || self.delivery.is_due())) {
                    large = false;
                    last_begin = now;
                    open = Some(self.begin(false)?);
                } else {
                    self.discover()?;
                }
            }
        }
    }

    /// Puts a barrier into every source.
    fn begin(&mut self, is_final: bool) -> Result<Open> {
        let epoch = self.manifest.epoch.next();
        if is_final {
            self.final_epoch.set(epoch);
            self.status.set_phase(JobPhase::Stopping);
        }
        let barrier = Barrier { epoch, time_ms: self.clock.wall_ms() };
        for control in &self.controls {
            // A source task that is gone has sent, or will send, why.
            let _ = control.send(Control::Barrier(barrier));
        }
        Ok(Open {
            epoch,
            is_final,
            positions: BTreeMap::new(),
            positions_missing: self.source_tasks,
            stored: vec![],
            started: self.clock.monotonic(),
        })
    }

    /// The epoch is complete and stored: create the manifest, then deliver.
    fn commit(&mut self, open: Open) -> Result<()> {
        let Open { epoch, is_final, positions, mut stored, started, .. } = open;
        stored.sort_by_key(|part| (part.task, part.lane));
        let mut state = if self.full_state_next { vec![] } else { std::mem::take(&mut self.manifest.state) };
        let mut segments = vec![];
        if self.full_state_next {
            state = apply_full(stored.iter_mut().flat_map(|part| std::mem::take(&mut part.refs)).collect())?;
        } else {
            for part in &mut stored {
                state = apply(&state, part.lane, std::mem::take(&mut part.refs), &part.drops);
            }
        }
        for part in stored {
            segments.extend(part.segments);
        }
        self.full_state_next = false;
        let undelivered = self.delivery.plan(epoch, segments, is_final)?;
        let next = Manifest {
            sequence: self.manifest.sequence + 1,
            epoch,
            created_ms: self.clock.wall_ms(),
            sources: positions
                .into_iter()
                .map(|(operator, mut partitions)| {
                    partitions.sort_by(|a, b| a.partition.cmp(&b.partition));
                    StoredProgress { operator, partitions }
                })
                .collect(),
            state,
            undelivered: vec![undelivered],
            ..self.manifest.clone()
        };
        self.store.commit(&next)?;
        self.manifest = next;
        self.delivery.deliver(&self.manifest.undelivered[0])?;
        if is_final {
            self.acknowledge()?;
        }
        self.status.on_commit(epoch, self.manifest.created_ms);
        tracing::debug!(
            epoch = epoch.0,
            ms = (self.clock.monotonic() - started).as_millis() as u64,
            "epoch committed and delivered"
        );
        self.sources.on_committed(&self.manifest);
        if epoch.0 % GARBAGE_EVERY_EPOCHS == 0 || is_final {
            match self.store.collect_garbage(&self.manifest, MANIFESTS_KEPT, self.clock.as_ref()) {
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::Fenced => return Err(error),
                Err(error) => tracing::warn!(error = error.full_message(), "old checkpoint objects were not deleted"),
            }
        }
        Ok(())
    }

    /// Notes in a manifest of its own that the epoch is delivered, so that the next run, which may come much later, does not
    /// deliver it again: files may have been moved away by then. If it cannot be written, repetition is harmless as ever.
    fn acknowledge(&mut self) -> Result<()> {
        match acknowledged(&self.manifest, self.clock.as_ref()) {
            None => Ok(()),
            Some(next) => match self.store.commit(&next) {
                Ok(()) => {
                    self.manifest = next;
                    Ok(())
                }
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    tracing::warn!(error = error.full_message(), "the last delivery was not noted; the next run repeats it");
                    Ok(())
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Hands partitions that appeared since to the lanes in turn.
    fn discover(&mut self) -> Result<()> {
        for (control, partitions) in self.sources.discover(self.clock.monotonic())? {
            self.events.note_progress();
            // A source task that is gone has sent, or will send, why.
            let _ = self.controls[control].send(Control::Assign(partitions));
        }
        Ok(())
    }
}

/// The manifest that says that all output of `manifest` is delivered, but for what waits; `None` when it says so already.
pub fn acknowledged(manifest: &Manifest, clock: &dyn Clock) -> Option<Manifest> {
    let mut next = manifest.clone();
    let mut changed = false;
    for (_, plan) in next.undelivered.iter_mut().flat_map(|epoch| &mut epoch.plans) {
        changed |= !plan.deliveries.is_empty();
        plan.deliveries.clear();
    }
    next.sequence += 1;
    next.created_ms = clock.wall_ms();
    changed.then_some(next)
}

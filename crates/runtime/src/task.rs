//! One fragment in one lane, on one thread: operators, the routes that leave it, and barrier alignment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Select, Sender};
use thalweg_core::{Barrier, Batch, Clock, Epoch, Error, EventTime, LaneId, Message, OutputSegment, Result, SinkWriter};
use thalweg_ops::{Operator, Output};
use thalweg_plan::Exchange;
use thalweg_state::StateDelta;

use crate::channel::{ABORT_CHECK, Abort, send};
use crate::coordinator::{Event, EventSender};
use crate::status::JobStatus;

/// Where a node's output goes.
pub enum Target {
    /// Another node of the same fragment, by position in [`Body::nodes`].
    Local { node: usize, port: usize },
    /// A route to other tasks, by position in [`Body::routes`].
    Route(usize),
}

/// An edge out of the fragment.
pub struct Route {
    /// Pre-aggregates before the exchange, so that the queues carry partial results instead of rows.
    pub local: Option<Box<dyn Operator>>,
    pub exchange: Exchange,
    /// Columns of what is sent (behind `local`) that decide the lane.
    pub key_columns: Vec<usize>,
    /// By receiving lane; one entry for a forward edge.
    pub senders: Vec<Sender<Message>>,
    /// Names of the sources behind this edge, for counting late rows.
    pub sources: String,
}

/// What a node does in this lane.
pub enum Work {
    /// Rows come from outside and pass unchanged: a source or VALUES.
    Root,
    Operator(Box<dyn Operator>),
    Sink {
        sink_id: String,
        writer: Box<dyn SinkWriter>,
    },
}

pub struct TaskNode {
    pub id: String,
    pub work: Work,
    /// The watermark of each input port.
    pub ports: Vec<EventTime>,
    /// The last watermark sent on.
    pub sent: EventTime,
    pub targets: Vec<Target>,
    pub sources: String,
}

/// An epoch's results from one task.
pub struct TaskSnapshot {
    pub task: usize,
    pub lane: LaneId,
    pub epoch: Epoch,
    pub states: Vec<(String, StateDelta)>,
    pub segments: Vec<(String, Vec<OutputSegment>)>,
}

/// Why a task stopped.
pub enum Stop {
    Aborted,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

impl From<crate::channel::Aborted> for Stop {
    fn from(_: crate::channel::Aborted) -> Self {
        Stop::Aborted
    }
}

/// The operators of a fragment and everything behind them. Shared by source tasks and queue-fed tasks.
pub struct Body {
    pub task: usize,
    pub lane: LaneId,
    pub lanes: u32,
    pub nodes: Vec<TaskNode>,
    pub routes: Vec<Route>,
    pub abort: Abort,
    pub events: EventSender,
    pub status: Arc<JobStatus>,
    /// Whether snapshots of operator state are wanted; sinks prepare in any case.
    pub stores_state: bool,
    pub pressure: Pressure,
    /// Whether an early epoch was asked for since the last barrier.
    pub asked_for_epoch: bool,
    pub clock: Arc<dyn Clock>,
    /// The nodes that work by the clock, by position in `nodes`.
    pub clocked: Vec<usize>,
}

/// Output bytes that a sink's lane may buffer before an early epoch is asked for.
const EARLY_EPOCH_BYTES: usize = 64 << 20;

/// Output bytes over all sinks from which on sources pause: the epoch that would take them cannot commit, because a target
/// is away.
const PAUSE_BYTES: usize = 256 << 20;

/// How long a quiet task leaves the clock unread: about the delay of windows by processing time.
const CLOCK_CHECK: Duration = Duration::from_millis(10);

/// How much output waits in the sinks of a job for its epoch to close.
#[derive(Clone, Default)]
pub struct Pressure(Arc<AtomicUsize>);

impl Pressure {
    pub fn is_high(&self) -> bool {
        self.0.load(Ordering::Relaxed) > PAUSE_BYTES
    }

    fn change(&self, before: usize, after: usize) {
        if after >= before {
            self.0.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.0.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

impl Body {
    /// Rows enter at `node`, `port`, and run through the fragment.
    pub fn on_batch(&mut self, node: usize, port: usize, batch: Batch) -> Result<(), Stop> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut out = Output::default();
        match &mut self.nodes[node].work {
            Work::Root => out.push(batch),
            Work::Operator(operator) => {
                if operator.reads_clock() {
                    operator.on_clock(self.clock.wall_ms());
                }
                operator.on_batch(port, batch, &mut out)?;
            }
            Work::Sink { sink_id, writer } => {
                let before = writer.buffered_bytes();
                writer.write(&batch)?;
                let after = writer.buffered_bytes();
                self.pressure.change(before, after);
                self.status.on_rows_out(sink_id, batch.num_rows() as u64);
                if (after > EARLY_EPOCH_BYTES || self.pressure.is_high()) && !self.asked_for_epoch {
                    self.asked_for_epoch = true;
                    self.events.send(Event::OutputIsLarge);
                }
            }
        }
        self.emit(node, out)?;
        self.resume(node)
    }

    /// Passes on what an operator could not give at once, piece by piece.
    fn resume(&mut self, node: usize) -> Result<(), Stop> {
        loop {
            if self.abort.is_set() {
                return Err(Stop::Aborted);
            }
            let mut out = Output::default();
            let Work::Operator(operator) = &mut self.nodes[node].work else {
                return Ok(());
            };
            if !operator.resume(&mut out)? {
                return Ok(());
            }
            self.emit(node, out)?;
        }
    }

    /// The watermark of one input port moved; what it unlocks runs through the fragment, then the watermark follows.
    pub fn on_watermark(&mut self, node: usize, port: usize, watermark: EventTime) -> Result<(), Stop> {
        let this = &mut self.nodes[node];
        if watermark <= this.ports[port] {
            return Ok(());
        }
        this.ports[port] = watermark;
        let minimum = this.ports.iter().copied().min().unwrap_or(EventTime::MAX);
        let mut out = Output::default();
        let send_on = match &mut this.work {
            Work::Root => minimum,
            Work::Operator(operator) => {
                operator.on_watermark(port, watermark, &mut out)?;
                operator.output_watermark(minimum)
            }
            Work::Sink { writer, .. } => {
                writer.on_watermark(minimum);
                minimum
            }
        };
        self.emit(node, out)?;
        self.resume(node)?;
        self.send_watermark(node, send_on)
    }

    /// Tells the nodes that work by the clock what it says.
    pub fn on_clock(&mut self) -> Result<(), Stop> {
        for index in 0..self.clocked.len() {
            let node = self.clocked[index];
            if let Work::Operator(operator) = &mut self.nodes[node].work
                && let Some(watermark) = operator.on_clock(self.clock.wall_ms())
            {
                self.send_watermark(node, watermark)?;
            }
        }
        Ok(())
    }

    fn send_watermark(&mut self, node: usize, send_on: EventTime) -> Result<(), Stop> {
        if send_on <= self.nodes[node].sent {
            return Ok(());
        }
        self.nodes[node].sent = send_on;
        for index in 0..self.nodes[node].targets.len() {
            match self.nodes[node].targets[index] {
                Target::Local { node, port } => self.on_watermark(node, port, send_on)?,
                Target::Route(route) => self.route_watermark(route, send_on)?,
            }
        }
        Ok(())
    }

    /// An input port has ended.
    pub fn on_end(&mut self, node: usize, port: usize) -> Result<(), Stop> {
        let mut out = Output::default();
        if let Work::Operator(operator) = &mut self.nodes[node].work {
            operator.on_end(port, &mut out)?;
        }
        self.emit(node, out)?;
        self.resume(node)?;
        for index in 0..self.nodes[node].targets.len() {
            match self.nodes[node].targets[index] {
                Target::Local { node, port } => self.on_end(node, port)?,
                Target::Route(route) => self.broadcast(route, &Message::End)?,
            }
        }
        Ok(())
    }

    /// Closes the epoch in this task: snapshots, prepared output, then the barrier goes on.
    pub fn on_barrier(&mut self, barrier: Barrier) -> Result<(), Stop> {
        let epoch = barrier.epoch;
        let mut snapshot = TaskSnapshot { task: self.task, lane: self.lane, epoch, states: vec![], segments: vec![] };
        for node in &mut self.nodes {
            match &mut node.work {
                Work::Root => {}
                Work::Operator(operator) => {
                    operator.on_time(barrier.time_ms)?;
                    if self.stores_state {
                        let delta = operator.snapshot(epoch)?;
                        if !delta.is_empty() {
                            snapshot.states.push((node.id.clone(), delta));
                        }
                    }
                }
                Work::Sink { sink_id, writer } => {
                    let before = writer.buffered_bytes();
                    let segments = writer.prepare(epoch)?;
                    self.pressure.change(before, writer.buffered_bytes());
                    if !segments.is_empty() {
                        snapshot.segments.push((sink_id.clone(), segments));
                    }
                }
            }
        }
        for route in 0..self.routes.len() {
            self.broadcast(route, &Message::Barrier(barrier))?;
        }
        self.asked_for_epoch = false;
        self.report_metrics();
        self.events.send(Event::Snapshot(snapshot));
        Ok(())
    }

    /// Tells the status how much state there is and how many rows came late.
    pub fn report_metrics(&self) {
        let mut state_bytes = 0;
        let mut late: BTreeMap<String, u64> = BTreeMap::new();
        let mut unmatched = vec![];
        let operators = self.nodes.iter().filter_map(|node| match &node.work {
            Work::Operator(operator) => Some((operator.metrics(), Some(&node.id), &node.sources)),
            _ => None,
        });
        // Before an exchange nothing is kept, so nothing can be missing there.
        let locals = self.routes.iter().filter_map(|route| Some((route.local.as_ref()?.metrics(), None, &route.sources)));
        for (metrics, id, sources) in operators.chain(locals) {
            if let Some(id) = id.filter(|_| metrics.unmatched_rows > 0) {
                unmatched.push((id.clone(), metrics.unmatched_rows));
            }
            state_bytes += metrics.state_bytes;
            if metrics.late_rows > 0 {
                *late.entry(sources.clone()).or_default() += metrics.late_rows;
            }
        }
        self.status.on_task(self.task, state_bytes, late.into_iter().collect(), unmatched);
    }

    fn emit(&mut self, node: usize, out: Output) -> Result<(), Stop> {
        for batch in out.batches {
            let count = self.nodes[node].targets.len();
            for index in 0..count {
                match self.nodes[node].targets[index] {
                    Target::Local { node, port } => self.on_batch(node, port, batch.clone())?,
                    Target::Route(route) => self.route_batch(route, batch.clone())?,
                }
            }
        }
        Ok(())
    }

    fn route_batch(&mut self, route: usize, batch: Batch) -> Result<(), Stop> {
        let mut out = Output::default();
        match &mut self.routes[route].local {
            Some(local) => local.on_batch(0, batch, &mut out)?,
            None => out.push(batch),
        }
        self.send_batches(route, out)
    }

    fn route_watermark(&mut self, route: usize, watermark: EventTime) -> Result<(), Stop> {
        let mut out = Output::default();
        if let Some(local) = &mut self.routes[route].local {
            local.on_watermark(0, watermark, &mut out)?;
        }
        self.send_batches(route, out)?;
        self.broadcast(route, &Message::Watermark(watermark))
    }

    fn send_batches(&mut self, route: usize, out: Output) -> Result<(), Stop> {
        let route = &self.routes[route];
        for batch in out.batches {
            match &route.exchange {
                Exchange::Hash(_) if self.lanes > 1 => {
                    let parts = thalweg_ops::partition_by_lane(&batch, &route.key_columns, self.lanes)?;
                    for (sender, part) in route.senders.iter().zip(parts) {
                        if let Some(part) = part {
                            send(sender, Message::Batch(Arc::new(part)), &self.abort)?;
                        }
                    }
                }
                Exchange::Hash(_) | Exchange::Single | Exchange::Forward => {
                    send(&route.senders[0], Message::Batch(Arc::new(batch)), &self.abort)?;
                }
            }
        }
        Ok(())
    }

    fn broadcast(&self, route: usize, message: &Message) -> Result<(), Stop> {
        for sender in &self.routes[route].senders {
            send(sender, message.clone(), &self.abort)?;
        }
        Ok(())
    }
}

/// A queue that feeds a task.
pub struct InputQueue {
    pub receiver: Receiver<Message>,
    /// The node and port it feeds.
    pub node: usize,
    pub port: usize,
    pub watermark: EventTime,
    /// The barrier that has arrived here while others have not: nothing more is read until they have.
    pub barrier: Option<Barrier>,
    pub ended: bool,
}

/// A task fed by queues.
pub struct QueueTask {
    pub body: Body,
    pub inputs: Vec<InputQueue>,
    /// The epoch after which the task ends, once known.
    pub final_epoch: crate::coordinator::FinalEpoch,
}

impl QueueTask {
    /// Runs until the final barrier has passed.
    pub fn run(&mut self) -> Result<(), Stop> {
        loop {
            self.body.on_clock()?;
            let Some((index, message)) = self.next()? else { continue };
            match message {
                Message::Batch(batch) => {
                    let (node, port) = (self.inputs[index].node, self.inputs[index].port);
                    self.body.on_batch(node, port, Arc::unwrap_or_clone(batch))?;
                }
                Message::Watermark(watermark) => self.on_watermark(index, watermark)?,
                Message::End => self.on_end(index)?,
                Message::Barrier(barrier) => {
                    if self.on_barrier(index, barrier)? && self.final_epoch.is(barrier.epoch) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The next message of any queue that is not held by a barrier; `None` when the clock is to be looked at.
    fn next(&self) -> Result<Option<(usize, Message)>, Stop> {
        let open: Vec<usize> = (0..self.inputs.len()).filter(|index| self.inputs[*index].barrier.is_none()).collect();
        let mut select = Select::new();
        for index in &open {
            select.recv(&self.inputs[*index].receiver);
        }
        loop {
            if self.body.abort.is_set() {
                return Err(Stop::Aborted);
            }
            let wait = if self.body.clocked.is_empty() { ABORT_CHECK } else { CLOCK_CHECK };
            if let Ok(ready) = select.select_timeout(wait) {
                let index = open[ready.index()];
                return match ready.recv(&self.inputs[index].receiver) {
                    Ok(message) => Ok(Some((index, message))),
                    Err(_) => Err(Stop::Aborted),
                };
            }
            if !self.body.clocked.is_empty() {
                return Ok(None);
            }
        }
    }

    fn on_watermark(&mut self, index: usize, watermark: EventTime) -> Result<(), Stop> {
        let input = &mut self.inputs[index];
        assert!(watermark >= input.watermark, "a watermark never goes back");
        input.watermark = watermark;
        let (node, port) = (input.node, input.port);
        let same_port = self.inputs.iter().filter(|input| input.node == node && input.port == port);
        let minimum = same_port.map(|input| input.watermark).min().unwrap_or(watermark);
        self.body.on_watermark(node, port, minimum)
    }

    fn on_end(&mut self, index: usize) -> Result<(), Stop> {
        self.inputs[index].ended = true;
        let (node, port) = (self.inputs[index].node, self.inputs[index].port);
        if self.inputs.iter().filter(|input| input.node == node && input.port == port).all(|input| input.ended) {
            self.body.on_end(node, port)?;
        }
        Ok(())
    }

    /// Returns whether the barrier had arrived on all queues and was passed on.
    fn on_barrier(&mut self, index: usize, barrier: Barrier) -> Result<bool, Stop> {
        self.inputs[index].barrier = Some(barrier);
        if self.inputs.iter().any(|input| input.barrier.is_none()) {
            return Ok(false);
        }
        assert!(self.inputs.iter().all(|input| input.barrier == Some(barrier)), "epochs arrive in step");
        for input in &mut self.inputs {
            input.barrier = None;
        }
        self.body.on_barrier(barrier)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;

//! Starts a plan and runs it to its end.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use thalweg_core::{
    Clock, DeliveryContext, DeliveryGuarantee, Diagnostic, Error, ErrorKind, EventTime, LaneId, Lookup, LookupRequest,
    PartitionId, Position, Rand, ReadMode, Result, ScanRequest, Sink, SinkRequest, Source, key_groups_of_lane,
};
use thalweg_ops::OperatorContext;
use thalweg_plan::{Exchange, NodeKind, Plan, SinkTarget};
use thalweg_state::{ClaimOptions, JobStore, Manifest, PartitionProgress, PlanIdentity, StoreSegmentReader, load_parts};

use crate::channel::{Abort, queue};
use crate::coordinator::{Coordinator, Event, EventSender, FinalEpoch, acknowledged};
use crate::delivery::Delivery;
use crate::fragment::{CutEdge, Fragment, cut};
use crate::progress::{IdleRules, SourceProgress};
use crate::source_task::{Control, Root, SourceTask};
use crate::status::{JobPhase, JobStatus};
use crate::task::{Body, InputQueue, Pressure, QueueTask, Route, Stop, Target, TaskNode, Work};
use crate::uploader::Uploader;
use crate::values::ValuesSource;

/// Opens the tables of a plan. `cli` and `sim` give one; the runtime links no connector.
pub trait Connections: Send + Sync {
    fn source(&self, request: ScanRequest) -> Result<Arc<dyn Source>>;
    fn sink(&self, request: SinkRequest) -> Result<Arc<dyn Sink>>;
    /// The right side of a lookup join.
    fn lookup(&self, request: LookupRequest) -> Result<Arc<dyn Lookup>>;
    /// The sink for the rows of a `SELECT`. `updating` rows carry weights.
    fn result_sink(&self, request: SinkRequest, updating: bool) -> Result<Arc<dyn Sink>>;
}

pub struct JobOptions {
    pub parallelism: u32,
    pub mode: ReadMode,
    /// The least time between the beginnings of two epochs.
    pub checkpoint_interval: Duration,
    /// Whether the store outlives the process: state is stored only then.
    pub durable: bool,
    pub allow_plan_change: bool,
    pub time_zone: String,
    /// How long to go on trying to reach sources at start, and to deliver.
    pub patience: Duration,
}

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobReport {
    pub epoch: thalweg_core::Epoch,
    /// Every input has ended: a later run has nothing to do.
    pub finished: bool,
    /// The job had finished in an earlier run; this one only made sure that everything is delivered.
    pub was_finished: bool,
}

/// Asks a job to stop after a final checkpoint.
#[derive(Clone, Default)]
pub struct Stopper(Arc<AtomicBool>);

impl Stopper {
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Output bytes kept in memory so that delivery need not read back what was just stored.
const CACHED_OUTPUT_BYTES_MAX: usize = 256 << 20;

/// A plan with everything it needs to run.
pub struct Job {
    pub plan: Plan,
    pub options: JobOptions,
    pub connections: Arc<dyn Connections>,
    pub store: Arc<JobStore>,
    pub clock: Arc<dyn Clock>,
    /// Gives random numbers to this thread and the uploader.
    pub rand: Box<dyn Fn() -> Box<dyn Rand> + Send>,
    pub status: Arc<JobStatus>,
    pub stopper: Stopper,
}

/// An opened source with its place in the plan.
struct OpenSource {
    node: usize,
    operator: String,
    source: Arc<dyn Source>,
    progress: Arc<SourceProgress>,
    /// Partitions by lane.
    assigned: Vec<Vec<PartitionProgress>>,
    ends_time: bool,
    finishes: bool,
}

/// The sources of a running job, for discovery and acknowledgement.
#[derive(Default)]
pub struct Sources {
    all: Vec<WatchedSource>,
    lanes: usize,
}

struct WatchedSource {
    operator: String,
    source: Arc<dyn Source>,
    known: Vec<PartitionId>,
    /// Index of lane 0's control queue.
    first_control: usize,
    interval: Option<Duration>,
    looked_at: Duration,
}

impl Sources {
    /// New partitions, by control queue. A source that cannot be asked now is asked again at the next interval.
    pub fn discover(&mut self, now: Duration) -> Result<Vec<(usize, Vec<PartitionProgress>)>> {
        let mut found = vec![];
        for watched in &mut self.all {
            if watched.interval.is_none_or(|interval| now.saturating_sub(watched.looked_at) < interval) {
                continue;
            }
            watched.looked_at = now;
            let partitions = match watched.source.partitions() {
                Ok(partitions) => partitions,
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    tracing::warn!(error = error.full_message(), "looking for new partitions failed");
                    continue;
                }
                Err(error) => return Err(error),
            };
            for partition in partitions {
                if !watched.known.contains(&partition) {
                    tracing::info!(partition = partition.0, "new partition");
                    let lane = watched.known.len() % self.lanes;
                    watched.known.push(partition.clone());
                    let fresh = PartitionProgress { partition, position: None, watermark: EventTime::MIN, ended: false };
                    found.push((watched.first_control + lane, vec![fresh]));
                }
            }
        }
        Ok(found)
    }

    pub fn on_committed(&self, manifest: &Manifest) {
        for watched in &self.all {
            let Some(progress) = manifest.sources.iter().find(|progress| progress.operator == watched.operator) else { continue };
            let positions: Vec<(PartitionId, Position)> = progress
                .partitions
                .iter()
                .filter_map(|partition| Some((partition.partition.clone(), partition.position.clone()?)))
                .collect();
            watched.source.on_committed(&positions);
        }
    }
}

impl Job {
    /// Claims the job, recovers, runs, and returns after the last epoch is delivered.
    /// # Errors
    /// `User` for another plan's checkpoints; `Fenced` when a newer run takes over; whatever stops a source, operator or sink.
    pub fn run(self) -> Result<JobReport> {
        let (stopper, status, durable) = (self.stopper.clone(), self.status.clone(), self.options.durable);
        match self.run_to_end() {
            Err(error) if error.kind == ErrorKind::Unavailable && stopper.is_set() && durable => {
                // Asked to stop while something was away: what is committed is safe, and the next run goes on from there.
                tracing::warn!(error = error.full_message(), "stopped without a last checkpoint");
                status.set_phase(JobPhase::Done);
                Ok(JobReport { epoch: status.snapshot().epoch, finished: false, was_finished: false })
            }
            result => result,
        }
    }

    fn run_to_end(self) -> Result<JobReport> {
        let mut rand = (self.rand)();
        let claim_options = ClaimOptions { allow_plan_change: self.options.allow_plan_change };
        let manifest = self.store.claim(&plan_identity(&self.plan), &claim_options, rand.as_mut(), self.clock.as_ref())?;
        let abort = Abort::default();
        let segments = Arc::new(StoreSegmentReader::new(self.store.clone(), CACHED_OUTPUT_BYTES_MAX));
        let sinks = self.open_sinks()?;
        let lookups = self.open_lookups()?;
        let mut delivery = self.delivery(&sinks, &manifest, &segments, &abort)?;
        delivery.recover(&manifest)?;
        let manifest = match acknowledged(&manifest, self.clock.as_ref()) {
            None => manifest,
            Some(next) => {
                self.store.commit(&next)?;
                next
            }
        };
        if manifest.finished {
            self.status.set_phase(JobPhase::Done);
            return Ok(JobReport { epoch: manifest.epoch, finished: true, was_finished: true });
        }
        let sources = match self.open_sources(&manifest) {
            Err(error) if error.kind == ErrorKind::Unavailable && self.stopper.is_set() => {
                // Stopped before anything was read: there is nothing to checkpoint.
                self.status.set_phase(JobPhase::Done);
                return Ok(JobReport { epoch: manifest.epoch, finished: false, was_finished: false });
            }
            sources => sources?,
        };
        let (events, received) = EventSender::new();
        let uploader = Uploader {
            store: self.store.clone(),
            generation: manifest.generation,
            clock: self.clock.clone(),
            cache: segments,
            abort: abort.clone(),
            events: events.clone(),
        };
        let (uploads, upload_thread) = uploader.start((self.rand)());
        let final_epoch = FinalEpoch::default();
        let wiring = Wiring {
            job: &self,
            manifest: &manifest,
            sinks: &sinks,
            lookups: &lookups,
            sources,
            events,
            abort: abort.clone(),
            pressure: Pressure::default(),
            final_epoch,
        };
        let Wired { threads, controls, sources, source_tasks, ending_tasks, events, final_epoch } = wiring.start()?;
        let has_logged_sinks = !delivery.deliverers.is_empty();
        let full_state_next = manifest.lanes != self.options.parallelism && manifest.epoch.0 > 0;
        let coordinator = Coordinator {
            manifest: Manifest { lanes: self.options.parallelism, ..manifest },
            store: self.store.clone(),
            clock: self.clock.clone(),
            status: self.status.clone(),
            delivery,
            events,
            received,
            uploads,
            controls,
            tasks: threads.len(),
            source_tasks,
            ending_tasks,
            interval: self.options.checkpoint_interval,
            checkpoints: self.options.durable || has_logged_sinks,
            full_state_next,
            final_epoch,
            stopper: self.stopper.clone(),
            sources,
        };
        let result = coordinator.run();
        abort.set();
        for thread in threads {
            // A panic was turned into an event inside the thread.
            let _ = thread.join();
        }
        let _ = upload_thread.join();
        let last = result?;
        Ok(JobReport { epoch: last.epoch, finished: last.finished, was_finished: false })
    }

    fn open_sinks(&self) -> Result<HashMap<usize, Arc<dyn Sink>>> {
        let mut sinks = HashMap::new();
        for (index, node) in self.plan.nodes.iter().enumerate() {
            let NodeKind::Sink(sink) = &node.kind else { continue };
            let mut request = SinkRequest {
                table: sink.sink_id.clone(),
                sink_id: sink.sink_id.clone(),
                options: thalweg_core::Options::new(),
                schema: node.schema.clone(),
                metadata: vec![None; node.schema.fields().len()],
                partitioned_by: vec![],
                primary_key: vec![],
                time_zone: self.options.time_zone.clone(),
                clock: self.clock.clone(),
            };
            let opened = match &sink.target {
                SinkTarget::Result => {
                    let updating = node.inputs.iter().any(|input| self.plan.nodes[input.node].properties.updating);
                    self.connections.result_sink(request, updating)?
                }
                SinkTarget::Table(table) => {
                    request.table = table.name.clone();
                    request.options = table.options.clone();
                    request.metadata = table
                        .writable_columns()
                        .map(|column| match &column.kind {
                            thalweg_core::ColumnKind::Metadata { key, .. } => Some(key.clone()),
                            _ => None,
                        })
                        .collect();
                    request.partitioned_by = table.partitioned_by.clone();
                    request.primary_key = table.primary_key.clone();
                    self.connections.sink(request).map_err(|error| error.in_context(format!("sink \"{}\"", table.name)))?
                }
            };
            sinks.insert(index, opened);
        }
        Ok(sinks)
    }

    /// The tables of lookup joins, by node. They are read by the first row that asks.
    fn open_lookups(&self) -> Result<HashMap<usize, Arc<dyn Lookup>>> {
        let mut lookups = HashMap::new();
        for (index, node) in self.plan.nodes.iter().enumerate() {
            let NodeKind::LookupJoin(join) = &node.kind else { continue };
            let table = &join.table;
            let request = LookupRequest {
                table: table.name.clone(),
                options: table.options.clone(),
                fields: join.fields.clone(),
                keys: join.keys.iter().map(|key| key.right).collect(),
                physical_schema: table.physical_schema(),
                partitioned_by: table.partitioned_by.clone(),
                primary_key: table.primary_key.clone(),
                time_zone: self.options.time_zone.clone(),
                clock: self.clock.clone(),
            };
            let opened = self.connections.lookup(request);
            lookups.insert(index, opened.map_err(|error| error.in_context(format!("lookup table \"{}\"", table.name)))?);
        }
        Ok(lookups)
    }

    fn delivery(
        &self,
        sinks: &HashMap<usize, Arc<dyn Sink>>,
        manifest: &Manifest,
        segments: &Arc<StoreSegmentReader>,
        abort: &Abort,
    ) -> Result<Delivery> {
        let mut delivery = Delivery {
            deliverers: BTreeMap::new(),
            keys: HashMap::new(),
            waiting: BTreeMap::new(),
            segments: segments.clone(),
            status: self.status.clone(),
            clock: self.clock.clone(),
            abort: abort.clone(),
            patience: self.options.patience,
            stopper: self.stopper.clone(),
        };
        let context = DeliveryContext {
            job_id: manifest.job_id.clone(),
            generation: manifest.generation,
            nonce: manifest.nonce.clone(),
            clock: self.clock.clone(),
        };
        for (index, node) in self.plan.nodes.iter().enumerate() {
            let (NodeKind::Sink(node), Some(sink)) = (&node.kind, sinks.get(&index)) else { continue };
            if sink.guarantee() == DeliveryGuarantee::ExactlyOnce {
                let key = sink.delivery_key();
                delivery.keys.insert(node.sink_id.clone(), key.clone());
                if let std::collections::btree_map::Entry::Vacant(entry) = delivery.deliverers.entry(key) {
                    entry.insert(sink.deliverer(context.clone())?);
                }
            }
        }
        Ok(delivery)
    }

    fn open_sources(&self, manifest: &Manifest) -> Result<Vec<OpenSource>> {
        let mut sources = vec![];
        for (index, node) in self.plan.nodes.iter().enumerate() {
            let (source, idle_timeout): (Arc<dyn Source>, Option<Duration>) = match &node.kind {
                NodeKind::Values(rows) => (Arc::new(ValuesSource::new(rows.clone())), None),
                NodeKind::Source(source) => {
                    let table = &source.table;
                    let request = ScanRequest {
                        table: table.name.clone(),
                        options: table.options.clone(),
                        fields: source.fields.clone(),
                        physical_schema: table.physical_schema(),
                        partitioned_by: table.partitioned_by.clone(),
                        primary_key: table.primary_key.clone(),
                        time_zone: self.options.time_zone.clone(),
                        mode: self.options.mode,
                        clock: self.clock.clone(),
                    };
                    let opened = self
                        .connections
                        .source(request)
                        .map_err(|error| error.in_context(format!("source \"{}\"", table.name)))?;
                    let timeout = source.watermark.as_ref().and_then(|watermark| watermark.idle_timeout_ms);
                    (opened, timeout.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0).map(Duration::from_millis))
                }
                _ => continue,
            };
            let partitions = self.retry(|| source.partitions())?;
            let bounded = source.is_bounded();
            let ends_time = bounded && self.options.mode == ReadMode::AsDeclared;
            let lanes = self.options.parallelism as usize;
            let stored = manifest.sources.iter().find(|progress| progress.operator == node.id.0);
            let mut known: Vec<PartitionProgress> = stored.map(|stored| stored.partitions.clone()).unwrap_or_default();
            for partition in partitions {
                if !known.iter().any(|progress| progress.partition == partition) {
                    known.push(PartitionProgress { partition, position: None, watermark: EventTime::MIN, ended: false });
                }
            }
            let advances_when_idle = !bounded && idle_timeout.is_some();
            let progress = Arc::new(SourceProgress::new(IdleRules { timeout: idle_timeout, advances_when_idle, ends_time }));
            // All of them before any lane reads: the minimum must not be taken over some.
            for partition in &known {
                progress.add(partition.partition.clone(), partition.watermark, partition.ended);
            }
            if known.iter().any(|partition| partition.position.is_some()) {
                source.set_restored();
            }
            let mut assigned = vec![vec![]; lanes];
            for (number, partition) in known.into_iter().enumerate() {
                assigned[number % lanes].push(partition);
            }
            sources.push(OpenSource {
                node: index,
                operator: node.id.0.clone(),
                progress,
                source,
                assigned,
                ends_time,
                finishes: bounded || self.options.mode == ReadMode::UntilCaughtUp,
            });
        }
        Ok(sources)
    }

    /// Does what needs a server, again and again while the server is away.
    fn retry<T>(&self, action: impl Fn() -> Result<T>) -> Result<T> {
        let start = self.clock.monotonic();
        let mut pause = Duration::from_millis(250);
        loop {
            match action() {
                Err(error)
                    if error.kind == ErrorKind::Unavailable
                        && !self.stopper.is_set()
                        && self.clock.monotonic().saturating_sub(start) < self.options.patience =>
                {
                    tracing::debug!(error = error.full_message(), "away, trying again");
                    self.status.set_phase(JobPhase::Connecting(error.full_message()));
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                result => return result,
            }
        }
    }
}

/// The identity under which a plan's checkpoints are stored.
pub fn plan_identity(plan: &Plan) -> PlanIdentity {
    PlanIdentity {
        fingerprint: plan.fingerprint(),
        operators: plan.summary().into_iter().map(|(id, text)| (id.0, text)).collect(),
    }
}

/// Builds tasks and queues and starts their threads.
struct Wiring<'a> {
    job: &'a Job,
    manifest: &'a Manifest,
    sinks: &'a HashMap<usize, Arc<dyn Sink>>,
    lookups: &'a HashMap<usize, Arc<dyn Lookup>>,
    sources: Vec<OpenSource>,
    events: EventSender,
    abort: Abort,
    pressure: Pressure,
    final_epoch: FinalEpoch,
}

struct Wired {
    threads: Vec<JoinHandle<()>>,
    controls: Vec<Sender<Control>>,
    sources: Sources,
    source_tasks: usize,
    ending_tasks: usize,
    events: EventSender,
    final_epoch: FinalEpoch,
}

/// A task that is ready to run on a thread of its own.
type TaskRun = Box<dyn FnOnce() -> Result<(), Stop> + Send>;

/// The sending ends of a cut edge, by producing lane then receiving lane.
type EdgeSenders = Vec<Vec<Sender<thalweg_core::Message>>>;

impl Wiring<'_> {
    fn start(self) -> Result<Wired> {
        let lanes = self.job.options.parallelism;
        let fragments = cut(&self.job.plan);
        let mut senders: HashMap<(usize, usize), EdgeSenders> = HashMap::new();
        let mut inputs: HashMap<(usize, u32), Vec<InputQueue>> = HashMap::new();
        for (number, fragment) in fragments.iter().enumerate() {
            for edge in &fragment.inputs {
                let edge_senders = self.queues(number, fragment, edge, &mut inputs);
                senders.insert((edge.consumer, edge.port), edge_senders);
            }
        }
        let mut tasks: Vec<(String, TaskRun)> = vec![];
        let mut controls = vec![];
        let mut watched = Sources { all: vec![], lanes: lanes as usize };
        let mut ending_tasks = 0;
        for (number, fragment) in fragments.iter().enumerate() {
            let root = fragment.nodes[0];
            let source = self.sources.iter().find(|source| source.node == root);
            if let Some(source) = source {
                watched.all.push(WatchedSource {
                    operator: source.operator.clone(),
                    source: source.source.clone(),
                    known: source.assigned.iter().flatten().map(|progress| progress.partition.clone()).collect(),
                    first_control: controls.len(),
                    interval: source
                        .source
                        .discovery_interval()
                        .filter(|interval| !interval.is_zero() && self.job.options.mode == ReadMode::AsDeclared),
                    looked_at: self.job.clock.monotonic(),
                });
            }
            for lane in 0..lanes {
                let body = self.body(tasks.len(), fragment, LaneId(lane), &senders)?;
                let name = format!("{}-{lane}", self.job.plan.nodes[root].kind.name().to_lowercase());
                match source {
                    None => {
                        let queues = inputs.remove(&(number, lane)).unwrap_or_default();
                        let mut task = QueueTask { body, inputs: queues, final_epoch: self.final_epoch.clone() };
                        tasks.push((name, Box::new(move || task.run())));
                    }
                    Some(source) => {
                        ending_tasks += usize::from(source.ends_time);
                        let (control, receiver) = crossbeam_channel::unbounded();
                        controls.push(control);
                        let mut task = self.source_task(body, source, receiver);
                        let assigned = source.assigned[lane as usize].clone();
                        tasks.push((name, Box::new(move || task.run(assigned))));
                    }
                }
            }
        }
        let source_tasks = controls.len();
        let threads = tasks.into_iter().map(|(name, run)| self.spawn(name, run)).collect::<Result<Vec<_>>>()?;
        let Wiring { events, final_epoch, .. } = self;
        Ok(Wired { threads, controls, sources: watched, source_tasks, ending_tasks, events, final_epoch })
    }

    /// Makes the queues of an edge; the receiving ends go to `inputs`.
    fn queues(
        &self,
        number: usize,
        fragment: &Fragment,
        edge: &CutEdge,
        inputs: &mut HashMap<(usize, u32), Vec<InputQueue>>,
    ) -> EdgeSenders {
        let lanes = self.job.options.parallelism;
        let node = fragment.nodes.iter().position(|node| *node == edge.consumer).expect("the edge enters this fragment");
        (0..lanes)
            .map(|from| {
                let receivers = if edge.exchange.is_forward() { from..from + 1 } else { 0..lanes };
                receivers
                    .map(|to| {
                        let (sender, receiver) = queue();
                        inputs.entry((number, to)).or_default().push(InputQueue {
                            receiver,
                            node,
                            port: edge.port,
                            watermark: EventTime::MIN,
                            barrier: None,
                            ended: false,
                        });
                        sender
                    })
                    .collect()
            })
            .collect()
    }

    fn body(
        &self,
        task: usize,
        fragment: &Fragment,
        lane: LaneId,
        senders: &HashMap<(usize, usize), EdgeSenders>,
    ) -> Result<Body> {
        let consumers = self.job.plan.consumers();
        let mut nodes = vec![];
        let mut routes = vec![];
        for index in &fragment.nodes {
            let node = &self.job.plan.nodes[*index];
            let mut targets = vec![];
            for (consumer, port) in &consumers[*index] {
                let local = fragment.nodes.iter().position(|other| other == consumer);
                match (local, senders.get(&(*consumer, *port))) {
                    (_, Some(edge)) => {
                        targets.push(Target::Route(routes.len()));
                        routes.push(self.route(*consumer, *port, lane, &edge[lane.0 as usize])?);
                    }
                    (Some(local), None) => targets.push(Target::Local { node: local, port: *port }),
                    (None, None) => return Err(Error::internal(format!("no edge from {} to its consumer", node.id))),
                }
            }
            nodes.push(TaskNode {
                id: node.id.0.clone(),
                work: self.work(*index, lane)?,
                ports: vec![EventTime::MIN; node.inputs.len().max(1)],
                sent: EventTime::MIN,
                targets,
                sources: self.source_names(*index),
            });
        }
        let clocked = nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| matches!(&node.work, Work::Operator(operator) if operator.reads_clock()))
            .map(|(position, _)| position)
            .collect();
        Ok(Body {
            task,
            lane,
            lanes: self.job.options.parallelism,
            nodes,
            routes,
            abort: self.abort.clone(),
            events: self.events.clone(),
            status: self.job.status.clone(),
            stores_state: self.job.options.durable,
            pressure: self.pressure.clone(),
            asked_for_epoch: false,
            clock: self.job.clock.clone(),
            clocked,
        })
    }

    fn context(&self, lane: LaneId) -> OperatorContext {
        let lanes = self.job.options.parallelism;
        OperatorContext {
            lane,
            lanes,
            key_groups: key_groups_of_lane(lane.0, lanes),
            batch_rows: 4_096,
            ignores_unmatched: self.job.plan.ignores_unmatched,
        }
    }

    fn work(&self, index: usize, lane: LaneId) -> Result<Work> {
        let node = &self.job.plan.nodes[index];
        let schemas: Vec<_> = node.inputs.iter().map(|input| self.job.plan.nodes[input.node].schema.clone()).collect();
        let mut operator = match &node.kind {
            NodeKind::Source(_) | NodeKind::Values(_) => return Ok(Work::Root),
            NodeKind::Sink(sink) => {
                let writer = self.job.retry(|| self.sinks[&index].writer(lane))?;
                return Ok(Work::Sink { sink_id: sink.sink_id.clone(), writer });
            }
            NodeKind::WindowAggregate(_) => thalweg_ops::build_global(node, &schemas[0], &self.context(lane))?,
            NodeKind::LookupJoin(_) => {
                let table = self.lookups[&index].table(lane)?;
                thalweg_ops::build_lookup_join(node, &schemas[0], table, &self.context(lane))?
            }
            _ => thalweg_ops::build(node, &schemas, &self.context(lane))?,
        };
        if self.manifest.epoch.0 > 0 && self.job.options.durable {
            let context = self.context(lane);
            operator.restore(load_parts(&self.job.store, self.manifest, &node.id.0, context.key_groups)?)?;
            if self.manifest.lanes != self.job.options.parallelism {
                operator.mark_all_dirty();
            }
        }
        Ok(Work::Operator(operator))
    }

    fn route(&self, consumer: usize, port: usize, lane: LaneId, senders: &[Sender<thalweg_core::Message>]) -> Result<Route> {
        let node = &self.job.plan.nodes[consumer];
        let input = &node.inputs[port];
        let schema = self.job.plan.nodes[input.node].schema.clone();
        let local = match &node.kind {
            NodeKind::WindowAggregate(_) => Some(thalweg_ops::build_local(node, &schema, &self.context(lane))?),
            _ => None,
        };
        let key_columns = match (&input.exchange, &local) {
            (Exchange::Hash(keys), None) => keys.clone(),
            (Exchange::Hash(keys), Some(_)) => {
                let first = thalweg_ops::PARTIAL_KEYS_START;
                (first..first + keys.len()).collect()
            }
            _ => vec![],
        };
        Ok(Route {
            local,
            exchange: input.exchange.clone(),
            key_columns,
            senders: senders.to_vec(),
            sources: self.source_names(consumer),
        })
    }

    /// The names of the tables behind a node, for counting late rows.
    fn source_names(&self, index: usize) -> String {
        let node = &self.job.plan.nodes[index];
        if let NodeKind::Source(source) = &node.kind {
            return source.table.name.clone();
        }
        let mut names: Vec<String> =
            node.inputs.iter().map(|input| self.source_names(input.node)).filter(|name| !name.is_empty()).collect();
        names.sort();
        names.dedup();
        names.join(", ")
    }

    fn source_task(&self, body: Body, source: &OpenSource, control: crossbeam_channel::Receiver<Control>) -> SourceTask {
        let root = match &self.job.plan.nodes[source.node].kind {
            NodeKind::Source(node) => Root {
                name: node.table.name.clone(),
                project: Some((node.project.clone(), self.job.plan.nodes[source.node].schema.clone())),
                watermark: node.watermark.clone(),
            },
            _ => Root { name: "VALUES".to_string(), project: None, watermark: None },
        };
        SourceTask {
            body,
            root,
            operator: source.operator.clone(),
            source: source.source.clone(),
            progress: source.progress.clone(),
            control,
            final_epoch: self.final_epoch.clone(),
            clock: self.job.clock.clone(),
            ends_time: source.ends_time,
            is_endless: !source.ends_time && !self.job.plan.nodes[source.node].properties.bounded,
            finishes: source.finishes,
            until_caught_up: self.job.options.mode == ReadMode::UntilCaughtUp,
        }
    }

    fn spawn(&self, name: String, run: TaskRun) -> Result<JoinHandle<()>> {
        let events = self.events.clone();
        let task = name.clone();
        std::thread::Builder::new()
            .name(name)
            .spawn(move || match std::panic::catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(()) | Err(Stop::Aborted)) => {}
                Ok(Err(Stop::Failed(error))) => events.send(Event::Failed(error)),
                Err(panic) => events.send(Event::Failed(panic_error(&task, panic.as_ref()))),
            })
            .map_err(|error| Error::internal("no thread could be started").with_cause(error))
    }
}

pub fn panic_error(task: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_string());
    Error::internal(format!("task {task} broke an invariant: {text}")).with_help("this is a bug in Thalweg; please report it")
}

/// The diagnostic for sinks that promise more than the job can keep without a checkpoint directory.
pub fn needs_checkpoints(table: &str) -> Diagnostic {
    Diagnostic::error(
        thalweg_core::Code::NEEDS_CHECKPOINTS,
        format!("sink \"{table}\" delivers exactly once, but the job has no checkpoint directory"),
    )
    .help("give one with --checkpoint-dir, or set 'sink.delivery-guarantee' = 'at-least-once'")
}

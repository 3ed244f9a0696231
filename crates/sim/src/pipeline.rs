//! One job of a simulation, in the way the simulation runs its jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::path::Path;
use thalweg_connectors::Environment;
use thalweg_connectors::memory::DeliveryFault;
use thalweg_connectors::store::block_on;
use thalweg_core::{ErrorKind, ManualClock, Rand, ReadMode, Result, SeededRand, SystemRand, TableDefinition};
use thalweg_plan::{NodeKind, Plan};
use thalweg_runtime::{Job, JobOptions, JobReport, JobStatus, Stopper};
use thalweg_state::{FailingStore, FaultRates, JobStore, RetryPolicy};

use crate::connections::{Collected, Progress, SimConnections};
use crate::simulation::Problem;

/// How pipelines are run. The rows are the same in every way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// One run in one lane, from the first row to the last.
    Straight,
    /// Stopped after every step and restored with another number of lanes.
    Restarted,
    /// Restarted, while the store and the delivery fail, runs break off, and batches are cut at random.
    Faulty { seed: u64 },
}

/// Lanes of one restarted run after the other.
const LANES: [u32; 4] = [1, 3, 2, 4];
/// How long rows may take from a topic to the sinks before the job counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Runs that may break off before faults end.
const BROKEN_RUNS_MAX: u32 = 20;

/// What all jobs of a simulation share.
#[derive(Clone)]
pub struct World {
    pub environment: Environment,
    pub clock: Arc<ManualClock>,
}

/// What is in the topics: rows of each partition, by topic.
pub type Topics = BTreeMap<String, Vec<i64>>;

/// One start of a job.
pub struct Run<'a> {
    pub plan: &'a Plan,
    pub time_zone: &'a str,
    pub lanes: u32,
    pub mode: ReadMode,
    pub connections: SimConnections,
    /// `None` keeps nothing beyond the run.
    pub store: Option<Arc<JobStore>>,
    pub status: Arc<JobStatus>,
    pub stopper: Stopper,
    /// How long to try again when delivery fails.
    pub patience: Duration,
}

impl Run<'_> {
    pub fn job(self, world: &World) -> Job {
        let durable = self.store.is_some();
        let store = self.store.unwrap_or_else(|| Arc::new(job_store(Arc::new(InMemory::new()))));
        Job {
            plan: self.plan.clone(),
            options: JobOptions {
                parallelism: self.lanes,
                mode: self.mode,
                checkpoint_interval: Duration::ZERO,
                durable,
                allow_plan_change: false,
                time_zone: self.time_zone.to_string(),
                patience: self.patience,
            },
            connections: Arc::new(self.connections),
            store,
            clock: world.clock.clone(),
            rand: Box::new(|| Box::new(SystemRand) as Box<dyn Rand>),
            status: self.status,
            stopper: self.stopper,
        }
    }
}

fn job_store(store: Arc<dyn object_store::ObjectStore>) -> JobStore {
    JobStore::new(store, Path::default(), block_on(async { tokio::runtime::Handle::current() })).with_sleep(Arc::new(|_| ()))
}

/// The topic of a `memory` table.
pub fn topic_of(table: &TableDefinition) -> Option<String> {
    (table.connector() == Some("memory")).then(|| table.options.get("topic").unwrap_or(&table.name).to_string())
}

/// The `memory` tables that a plan reads, in the order in which it opens them.
pub fn scanned_tables(plan: &Plan) -> impl Iterator<Item = &TableDefinition> {
    plan.nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Source(source) => Some(&source.table),
            _ => None,
        })
        .filter(|table| topic_of(table).is_some())
}

/// Whether everything that a plan reads has an end, and has reached it.
pub fn has_ended(plan: &Plan, ended: &BTreeSet<String>) -> bool {
    scanned_tables(plan).all(|table| {
        table.options.boolean("bounded", false).unwrap_or(false) && topic_of(table).is_some_and(|topic| ended.contains(&topic))
    })
}

/// A job with its checkpoints.
pub struct Pipeline {
    world: World,
    plan: Plan,
    time_zone: String,
    way: Way,
    rand: SeededRand,
    store: Arc<FailingStore>,
    live: Option<Live>,
    runs: usize,
    /// Lanes of the next run, when the file says so.
    lanes_wanted: Option<u32>,
    /// The job read its bounded input to the end.
    finished: bool,
    failed: Option<Problem>,
    /// Late rows of the runs that are over, by source.
    late_rows: BTreeMap<String, u64>,
}

/// The thread of a job that stays up.
struct Live {
    thread: JoinHandle<Result<JobReport>>,
    progress: Arc<Progress>,
    status: Arc<JobStatus>,
    stopper: Stopper,
}

impl Pipeline {
    pub fn new(world: World, plan: Plan, time_zone: String, way: Way) -> Self {
        let seed = if let Way::Faulty { seed } = way { seed } else { 0 };
        let store = Arc::new(FailingStore::new(Arc::new(InMemory::new()), FaultRates::default(), seed));
        Pipeline {
            world,
            plan,
            time_zone,
            way,
            rand: SeededRand::new(seed),
            store,
            live: None,
            runs: 0,
            lanes_wanted: None,
            finished: false,
            failed: None,
            late_rows: BTreeMap::new(),
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Late rows so far, by source. Under faults rows are read more than once, and counted each time.
    pub fn late_rows(&self) -> BTreeMap<String, u64> {
        let mut late = self.late_rows.clone();
        if let Some(live) = &self.live {
            add(&mut late, &live.status);
        }
        late
    }

    pub fn want_lanes(&mut self, lanes: u32) {
        self.lanes_wanted = Some(lanes);
    }

    /// Starts the job where it stays up.
    pub fn start(&mut self) -> Result<()> {
        if self.way != Way::Straight || self.live.is_some() || self.finished || self.failed.is_some() {
            return Ok(());
        }
        let (progress, status, stopper) = (Arc::new(Progress::default()), Arc::new(JobStatus::default()), Stopper::default());
        let run = Run {
            plan: &self.plan,
            time_zone: &self.time_zone,
            lanes: 1,
            mode: ReadMode::AsDeclared,
            connections: self.connections(progress.clone(), None),
            store: Some(Arc::new(job_store(self.store.clone()))),
            status: status.clone(),
            stopper: stopper.clone(),
            patience: STALLED_AFTER,
        };
        let job = run.job(&self.world);
        let ended = progress.clone();
        let thread = std::thread::Builder::new()
            .name("pipeline".to_string())
            .spawn(move || {
                let result = job.run();
                ended.set_ended();
                result
            })
            .map_err(|error| thalweg_core::Error::internal("no thread could be started").with_cause(error))?;
        self.live = Some(Live { thread, progress, status, stopper });
        Ok(())
    }

    /// Says that there are new rows.
    pub fn wake(&self) {
        if let Some(live) = &self.live {
            live.progress.wake();
        }
    }

    /// Brings the job to where all of `topics` is committed and delivered. A job that fails is asked about by
    /// [`Pipeline::check`].
    pub fn settle(&mut self, topics: &Topics, ended: &BTreeSet<String>) -> Result<(), Problem> {
        if self.finished || self.failed.is_some() {
            return Ok(());
        }
        match self.way {
            Way::Straight => self.await_live(topics, ended),
            Way::Restarted => {
                let lanes = self.lanes_wanted.take().unwrap_or(LANES[self.runs % LANES.len()]);
                let result = self.run_once(lanes, ended, RetryPolicy::default(), STALLED_AFTER, None);
                self.note(result);
                Ok(())
            }
            Way::Faulty { .. } => self.run_among_faults(ended),
        }
    }

    /// The error that stopped the job, if one did.
    pub fn check(&self) -> Result<(), Problem> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Stops a job that stays up.
    pub fn stop(&mut self) {
        if let Some(live) = &self.live {
            live.stopper.stop();
            self.join();
        }
    }

    fn await_live(&mut self, topics: &Topics, ended: &BTreeSet<String>) -> Result<(), Problem> {
        let Some(live) = &self.live else { return Ok(()) };
        let wanted: Vec<String> = scanned_tables(&self.plan).filter_map(topic_of).collect();
        let must_end = has_ended(&self.plan, ended);
        let came = live.progress.wait_until(STALLED_AFTER, |reached| {
            let is_read = |scan: usize, topic: &str| {
                let rows = topics.get(topic).map_or(&[][..], Vec::as_slice);
                rows.iter().enumerate().all(|(partition, rows)| {
                    let reached = reached.scans.get(scan).and_then(|scan| scan.get(&format!("{topic}/{partition}")));
                    *rows == 0 || reached.is_some_and(|reached| reached >= rows)
                })
            };
            reached.ended || !must_end && wanted.iter().enumerate().all(|(scan, topic)| is_read(scan, topic))
        });
        if !came {
            let status = live.status.snapshot();
            return Err(Problem::new(format!("the job did not deliver its rows within {STALLED_AFTER:?}: {status:?}")));
        }
        if live.progress.has_ended() {
            self.join();
        }
        Ok(())
    }

    fn join(&mut self) {
        let Some(live) = self.live.take() else { return };
        let result = live.thread.join();
        add(&mut self.late_rows, &live.status);
        self.note(result.unwrap_or_else(|_| Err(thalweg_core::Error::internal("the job panicked"))));
    }

    fn note(&mut self, result: Result<JobReport>) {
        match result {
            Ok(report) => self.finished = report.finished,
            Err(error) => self.failed = Some(Problem::from(error)),
        }
    }

    fn run_once(
        &mut self,
        lanes: u32,
        ended: &BTreeSet<String>,
        policy: RetryPolicy,
        patience: Duration,
        cuts_seed: Option<u64>,
    ) -> Result<JobReport> {
        self.runs += 1;
        let status = Arc::new(JobStatus::default());
        let run = Run {
            plan: &self.plan,
            time_zone: &self.time_zone,
            lanes,
            mode: if has_ended(&self.plan, ended) { ReadMode::AsDeclared } else { ReadMode::UntilCaughtUp },
            connections: self.connections(Arc::new(Progress::default()), cuts_seed),
            store: Some(Arc::new(job_store(self.store.clone()).with_retry_policy(policy))),
            status: status.clone(),
            stopper: Stopper::default(),
            patience,
        };
        let result = run.job(&self.world).run();
        add(&mut self.late_rows, &status);
        result
    }

    /// Starts the job again and again until a run comes through.
    fn run_among_faults(&mut self, ended: &BTreeSet<String>) -> Result<(), Problem> {
        for broken in 0.. {
            let policy = self.draw_faults(broken);
            let lanes = self.lanes_wanted.take().unwrap_or(LANES[self.rand.below(LANES.len() as u64) as usize]);
            let cuts = self.rand.next_u64();
            match self.run_once(lanes, ended, policy, Duration::ZERO, Some(cuts)) {
                Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Fenced) && broken < BROKEN_RUNS_MAX => {}
                result => {
                    self.note(result);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Chance decides how often the store fails, how patient the job is with it, and how the next delivery goes. A store
    /// that fails a job with little patience is a crash at that moment.
    fn draw_faults(&mut self, broken: u32) -> RetryPolicy {
        if broken >= BROKEN_RUNS_MAX {
            self.store.set_rates(FaultRates::default());
            return RetryPolicy::default();
        }
        let rates = match self.rand.below(4) {
            0 => FaultRates::default(),
            1 => FaultRates::all(15),
            2 => FaultRates { truncated_get: 0, ..FaultRates::all(80) },
            _ => FaultRates { unavailable: 200, ..FaultRates::default() },
        };
        self.store.set_rates(rates);
        let fault = match self.rand.below(4) {
            0 => Some(DeliveryFault::BeforeCommit),
            1 => Some(DeliveryFault::AfterCommit),
            _ => None,
        };
        if let (Some(fault), Some(broker)) = (fault, &self.world.environment.memory) {
            broker.fail_next_delivery(fault);
        }
        let tries = if self.rand.below(2) == 0 { 1 } else { RetryPolicy::default().tries };
        RetryPolicy { tries, ..RetryPolicy::default() }
    }

    fn connections(&self, progress: Arc<Progress>, cuts_seed: Option<u64>) -> SimConnections {
        SimConnections {
            environment: self.world.environment.clone(),
            progress,
            collected: Collected::default(),
            collects_tables: false,
            cuts_seed,
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop();
    }
}

fn add(late_rows: &mut BTreeMap<String, u64>, status: &JobStatus) {
    for (source, rows) in status.snapshot().late_rows {
        *late_rows.entry(source).or_default() += rows;
    }
}

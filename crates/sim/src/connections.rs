//! Connects plans to the topics of a simulation, and watches how far jobs have come.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use thalweg_connectors::Environment;
use thalweg_core::{
    Assignment, Batch, Deliverer, DeliveryContext, DeliveryGuarantee, Epoch, Error, LaneId, Lookup, LookupRequest, OutputSegment,
    PartitionId, PollBudget, Position, Rand, Result, ScanRequest, SeededRand, Sink, SinkRequest, SinkWriter, Source, SourceEvent,
    SourceReader,
};
use thalweg_runtime::Connections;

/// How far a running job has come; the driver waits on it.
#[derive(Default)]
pub struct Progress {
    inner: Mutex<Reached>,
    changed: Condvar,
}

#[derive(Default)]
pub struct Reached {
    /// For each opened scan, the topic's partitions with the number of rows whose effects are committed and delivered.
    pub scans: Vec<BTreeMap<String, i64>>,
    /// The job has ended.
    pub ended: bool,
}

impl Progress {
    fn update(&self, change: impl FnOnce(&mut Reached)) {
        change(&mut self.inner.lock().expect("no holder of this lock panics"));
        self.changed.notify_all();
    }

    pub fn set_ended(&self) {
        self.update(|reached| reached.ended = true);
    }

    pub fn has_ended(&self) -> bool {
        self.inner.lock().expect("no holder of this lock panics").ended
    }

    /// Says that there may be new rows.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Waits until `enough` holds; `false` when it does not within `limit`.
    pub fn wait_until(&self, limit: Duration, enough: impl Fn(&Reached) -> bool) -> bool {
        let inner: MutexGuard<'_, Reached> = self.inner.lock().expect("no holder of this lock panics");
        let (_inner, result) =
            self.changed.wait_timeout_while(inner, limit, |reached| !enough(reached)).expect("no holder of this lock panics");
        !result.timed_out()
    }

    fn wait_for_change(&self, limit: Duration) {
        let inner = self.inner.lock().expect("no holder of this lock panics");
        let _ = self.changed.wait_timeout(inner, limit);
    }
}

/// Rows that were collected instead of written, by table.
#[derive(Clone, Default)]
pub struct Collected(Arc<Mutex<BTreeMap<String, Vec<Batch>>>>);

impl Collected {
    pub fn take(&self) -> BTreeMap<String, Vec<Batch>> {
        std::mem::take(&mut self.0.lock().expect("no holder of this lock panics"))
    }

    fn push(&self, table: &str, batch: Batch) {
        self.0.lock().expect("no holder of this lock panics").entry(table.to_string()).or_default().push(batch);
    }
}

/// The connections of one run of a job.
pub struct SimConnections {
    pub environment: Environment,
    pub progress: Arc<Progress>,
    /// Where the rows of a SELECT go, and those of tables when `collects_tables`.
    pub collected: Collected,
    pub collects_tables: bool,
    /// Cuts what is read into batches of random size.
    pub cuts_seed: Option<u64>,
}

impl Connections for SimConnections {
    fn source(&self, request: ScanRequest) -> Result<Arc<dyn Source>> {
        let is_memory = request.options.get("connector") == Some("memory");
        let inner = thalweg_connectors::source(request, &self.environment)?;
        if !is_memory {
            return Ok(inner);
        }
        let mut scan = 0;
        self.progress.update(|reached| {
            scan = reached.scans.len();
            reached.scans.push(BTreeMap::new());
        });
        Ok(Arc::new(WatchedSource { inner, scan, progress: self.progress.clone(), cuts_seed: self.cuts_seed }))
    }

    fn sink(&self, request: SinkRequest) -> Result<Arc<dyn Sink>> {
        if self.collects_tables {
            return Ok(Arc::new(CollectingSink { table: request.table, collected: self.collected.clone() }));
        }
        thalweg_connectors::sink(request, &self.environment)
    }

    fn lookup(&self, request: LookupRequest) -> Result<Arc<dyn Lookup>> {
        thalweg_connectors::lookup(request, &self.environment)
    }

    fn result_sink(&self, _request: SinkRequest, _updating: bool) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(CollectingSink { table: String::new(), collected: self.collected.clone() }))
    }
}

/// A source that tells how far it is committed, and whose readers wait for rows instead of spinning.
struct WatchedSource {
    inner: Arc<dyn Source>,
    scan: usize,
    progress: Arc<Progress>,
    cuts_seed: Option<u64>,
}

impl Source for WatchedSource {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        self.inner.partitions()
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.inner.discovery_interval()
    }

    fn is_bounded(&self) -> bool {
        self.inner.is_bounded()
    }

    fn reader(&self, assignments: Vec<Assignment>) -> Result<Box<dyn SourceReader>> {
        let inner = self.inner.reader(assignments)?;
        Ok(Box::new(WatchedReader { inner, progress: self.progress.clone(), cuts: self.cuts_seed.map(SeededRand::new) }))
    }

    fn on_committed(&self, positions: &[(PartitionId, Position)]) {
        self.progress.update(|reached| {
            let scan = &mut reached.scans[self.scan];
            scan.extend(positions.iter().map(|(partition, position)| (partition.0.clone(), position.next)));
        });
        self.inner.on_committed(positions);
    }
}

struct WatchedReader {
    inner: Box<dyn SourceReader>,
    progress: Arc<Progress>,
    cuts: Option<SeededRand>,
}

/// Batches under random cuts hold up to so many rows.
const CUT_ROWS_MAX: u64 = 4;

impl SourceReader for WatchedReader {
    fn assign(&mut self, assignments: Vec<Assignment>) -> Result<()> {
        self.inner.assign(assignments)
    }

    fn poll(&mut self, budget: PollBudget) -> Result<SourceEvent> {
        let rows = match &mut self.cuts {
            None => budget.rows,
            Some(rand) => usize::try_from(1 + rand.below(CUT_ROWS_MAX)).unwrap_or(1),
        };
        let event = self.inner.poll(PollBudget { rows, ..budget })?;
        if matches!(event, SourceEvent::Idle) {
            self.progress.wait_for_change(budget.wait);
        }
        Ok(event)
    }

    fn lag_rows(&self) -> Option<u64> {
        self.inner.lag_rows()
    }
}

/// Keeps rows in memory as they come.
struct CollectingSink {
    table: String,
    collected: Collected,
}

impl Sink for CollectingSink {
    fn guarantee(&self) -> DeliveryGuarantee {
        DeliveryGuarantee::None
    }

    fn writer(&self, _lane: LaneId) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(CollectingWriter { table: self.table.clone(), collected: self.collected.clone() }))
    }

    fn delivery_key(&self) -> String {
        "collected".to_string()
    }

    fn deliverer(&self, _context: DeliveryContext) -> Result<Box<dyn Deliverer>> {
        Err(Error::internal("collected rows are not delivered by epochs"))
    }
}

struct CollectingWriter {
    table: String,
    collected: Collected,
}

impl SinkWriter for CollectingWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.collected.push(&self.table, batch.clone());
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        Ok(vec![])
    }
}

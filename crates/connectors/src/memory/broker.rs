//! The topics that tests fill and look into.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::RecordBatch;
use thalweg_core::{Batch, DeliveryMarker, Epoch, Error, Generation, Result};

/// Topics by name, with their input rows and delivered output.
#[derive(Default)]
pub struct MemoryBroker {
    state: Mutex<State>,
    /// Topic of each sink, by sink id: one deliverer serves the sinks of a job.
    sink_topics: Arc<Mutex<BTreeMap<String, String>>>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    /// What was delivered to a topic, in order of delivery.
    delivered: BTreeMap<String, Vec<(Epoch, Batch)>>,
    /// Who owns a job's output, and how far it is.
    jobs: BTreeMap<String, JobProgress>,
    next_fault: Option<DeliveryFault>,
}

#[derive(Clone, Default)]
struct Topic {
    partitions: Vec<Vec<RecordBatch>>,
    has_ended: bool,
}

#[derive(Default)]
struct JobProgress {
    owner: Option<(Generation, String)>,
    marker: Option<DeliveryMarker>,
}

/// How the next delivery fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryFault {
    /// Nothing of it is stored.
    BeforeCommit,
    /// All of it is stored, but the answer is lost.
    AfterCommit,
}

impl MemoryBroker {
    pub fn new() -> Arc<Self> {
        Arc::new(MemoryBroker::default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// A topic with at least `partitions` partitions; more are added to one that exists.
    pub fn create_topic(&self, topic: &str, partitions: usize) {
        let mut state = self.state();
        let topic = state.topics.entry(topic.to_string()).or_default();
        let partitions = partitions.max(topic.partitions.len());
        topic.partitions.resize_with(partitions, Vec::new);
    }

    /// Adds rows, whose columns are found by name when they are read. The topic is made where it is missing.
    pub fn push(&self, topic: &str, partition: usize, rows: RecordBatch) {
        self.create_topic(topic, partition + 1);
        let mut state = self.state();
        if let Some(topic) = state.topics.get_mut(topic) {
            topic.partitions[partition].push(rows);
        }
    }

    /// Says that no more rows will come.
    pub fn end(&self, topic: &str) {
        self.state().topics.entry(topic.to_string()).or_default().has_ended = true;
    }

    /// What was delivered to `topic` so far, in order of delivery. Rows that came twice are here twice.
    pub fn delivered(&self, topic: &str) -> Vec<(Epoch, Batch)> {
        self.state().delivered.get(topic).cloned().unwrap_or_default()
    }

    /// Lets the next delivery fail.
    pub fn fail_next_delivery(&self, fault: DeliveryFault) {
        self.state().next_fault = Some(fault);
    }

    pub(super) fn sink_topics(&self) -> Arc<Mutex<BTreeMap<String, String>>> {
        self.sink_topics.clone()
    }

    pub(super) fn partition_count(&self, topic: &str) -> Result<usize> {
        match self.state().topics.get(topic) {
            Some(topic) => Ok(topic.partitions.len()),
            None => Err(Error::user(format!("topic \"{topic}\" does not exist"))),
        }
    }

    pub(super) fn has_ended(&self, topic: &str) -> bool {
        self.state().topics.get(topic).is_some_and(|topic| topic.has_ended)
    }

    pub(super) fn row_count(&self, topic: &str, partition: usize) -> usize {
        let state = self.state();
        let batches = state.topics.get(topic).and_then(|topic| topic.partitions.get(partition));
        batches.map_or(0, |batches| batches.iter().map(RecordBatch::num_rows).sum())
    }

    /// Up to `rows` rows from row `from`, out of one pushed batch; `None` when there are none.
    pub(super) fn rows(&self, topic: &str, partition: usize, from: usize, rows: usize) -> Option<RecordBatch> {
        let state = self.state();
        let mut first = 0;
        for batch in state.topics.get(topic)?.partitions.get(partition)? {
            let end = first + batch.num_rows();
            if from < end {
                return Some(batch.slice(from - first, rows.min(end - from)));
            }
            first = end;
        }
        None
    }

    /// Makes `nonce` the owner of the job's output.
    pub(super) fn fence(&self, job_id: &str, generation: Generation, nonce: &str) -> Result<Option<DeliveryMarker>> {
        let mut state = self.state();
        let job = state.jobs.entry(job_id.to_string()).or_default();
        if job.owner.as_ref().is_some_and(|(owner, _)| *owner > generation) {
            return Err(fenced());
        }
        job.owner = Some((generation, nonce.to_string()));
        Ok(job.marker.clone())
    }

    /// Stores rows and marker as one.
    pub(super) fn deliver(&self, nonce: &str, marker: DeliveryMarker, output: Vec<(String, Batch)>) -> Result<()> {
        let mut state = self.state();
        let fault = state.next_fault.take();
        let lost = |fault: DeliveryFault| Error::unavailable(format!("planned fault: {fault:?}"));
        let State { delivered, jobs, .. } = &mut *state;
        let job = jobs.entry(marker.job_id.clone()).or_default();
        if job.owner.as_ref().is_none_or(|(_, owner)| owner != nonce) {
            return Err(fenced());
        }
        if fault == Some(DeliveryFault::BeforeCommit) {
            return Err(lost(DeliveryFault::BeforeCommit));
        }
        for (topic, rows) in output {
            delivered.entry(topic).or_default().push((marker.epoch, rows));
        }
        job.marker = Some(marker);
        match fault {
            Some(fault) => Err(lost(fault)),
            None => Ok(()),
        }
    }
}

fn fenced() -> Error {
    Error::fenced("a newer run of the job writes to its memory topics")
}

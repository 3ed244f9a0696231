//! Hands committed output to the world: recovery and normal delivery are this one path.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use thalweg_core::{Clock, Deliverer, DeliveryMarker, DeliveryPlan, Epoch, Error, ErrorKind, Result, SegmentRef};
use thalweg_state::{Manifest, StoreSegmentReader, UndeliveredEpoch};

use crate::channel::Abort;
use crate::job::Stopper;
use crate::status::{JobPhase, JobStatus};

const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a job that is to stop goes on trying to deliver. It must end within 20 s, the last attempt included.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// All deliverers of a job, by delivery key.
pub struct Delivery {
    pub deliverers: BTreeMap<String, Box<dyn Deliverer>>,
    /// The delivery key of each sink.
    pub keys: HashMap<String, String>,
    /// Segments that wait for a later epoch, by delivery key.
    pub waiting: BTreeMap<String, Vec<SegmentRef>>,
    pub segments: Arc<StoreSegmentReader>,
    pub status: Arc<JobStatus>,
    pub clock: Arc<dyn Clock>,
    pub abort: Abort,
    /// How long to go on trying before the job fails; the output stays committed and is delivered by the next run.
    pub patience: Duration,
    pub stopper: Stopper,
}

impl Delivery {
    /// Fences older runs, reads how far the targets are, and delivers every committed epoch they lack.
    /// # Errors
    /// `Corrupt` when a target is ahead of the manifest: the checkpoints were restored from an older copy, or are another job's.
    pub fn recover(&mut self, manifest: &Manifest) -> Result<()> {
        let mut markers: BTreeMap<String, Option<DeliveryMarker>> = BTreeMap::new();
        let keys: Vec<String> = self.deliverers.keys().cloned().collect();
        for key in keys {
            let marker = self.retry(|this| this.deliverer(&key).fence())?;
            if let Some(marker) = &marker {
                check_marker(&key, marker, manifest)?;
            }
            markers.insert(key, marker);
        }
        for undelivered in &manifest.undelivered {
            for (key, plan) in &undelivered.plans {
                if !self.deliverers.contains_key(key) {
                    if plan.deliveries.is_empty() && plan.keep.is_empty() {
                        continue;
                    }
                    return Err(Error::user(format!(
                        "epoch {} has output for {key}, which the job no longer writes",
                        undelivered.epoch
                    ))
                    .with_help("run the old file once more to deliver it, or start with an empty checkpoint directory"));
                }
                let delivered = markers
                    .get(key)
                    .and_then(Option::as_ref)
                    .is_some_and(|marker| marker.epoch > undelivered.epoch || (marker.epoch == undelivered.epoch && marker.last));
                if !delivered {
                    self.deliver_plan(key, undelivered.epoch, plan)?;
                }
            }
        }
        if let Some(last) = manifest.undelivered.last() {
            self.waiting = last.plans.iter().map(|(key, plan)| (key.clone(), plan.keep.clone())).collect();
        }
        Ok(())
    }

    /// Decides what `epoch` delivers. The segments must be those of all tasks, in order of task.
    pub fn plan(&mut self, epoch: Epoch, segments: Vec<SegmentRef>, is_final: bool) -> Result<UndeliveredEpoch> {
        let mut new: BTreeMap<String, Vec<SegmentRef>> = BTreeMap::new();
        for segment in segments {
            let key = self
                .keys
                .get(&segment.sink_id)
                .ok_or_else(|| Error::internal(format!("sink {} has stored output but no deliverer", segment.sink_id)))?;
            new.entry(key.clone()).or_default().push(segment);
        }
        let mut plans = vec![];
        for (key, deliverer) in &mut self.deliverers {
            let mut fresh = new.remove(key).unwrap_or_default();
            fresh.sort_by(|a, b| (&a.sink_id, a.lane, a.index).cmp(&(&b.sink_id, b.lane, b.index)));
            let waiting = self.waiting.remove(key).unwrap_or_default();
            plans.push((key.clone(), deliverer.plan(epoch, waiting, fresh, is_final)?));
        }
        self.waiting = plans.iter().map(|(key, plan)| (key.clone(), plan.keep.clone())).collect();
        Ok(UndeliveredEpoch { epoch, plans })
    }

    /// Whether output that waits for company has waited long enough, though nothing new came.
    pub fn is_due(&self) -> bool {
        self.waiting.iter().any(|(key, waiting)| {
            !waiting.is_empty() && self.deliverers.get(key).is_some_and(|deliverer| deliverer.is_due(waiting))
        })
    }

    /// Delivers a committed epoch; tries again while the target is away.
    pub fn deliver(&mut self, undelivered: &UndeliveredEpoch) -> Result<()> {
        for (key, plan) in &undelivered.plans {
            self.deliver_plan(key, undelivered.epoch, plan)?;
        }
        let waiting: HashSet<&str> = self.waiting.values().flatten().map(|segment| segment.object.as_str()).collect();
        let delivered = undelivered.plans.iter().flat_map(|(_, plan)| &plan.deliveries).flat_map(|delivery| &delivery.segments);
        for segment in delivered.filter(|segment| !waiting.contains(segment.object.as_str())) {
            self.segments.forget(&segment.object);
        }
        Ok(())
    }

    fn deliver_plan(&mut self, key: &str, epoch: Epoch, plan: &DeliveryPlan) -> Result<()> {
        if plan.deliveries.is_empty() {
            return Ok(());
        }
        self.retry(|this| {
            let segments = this.segments.clone();
            this.deliverer(key).deliver(epoch, &plan.deliveries, segments.as_ref())
        })
        .map_err(|error| error.in_context(format!("delivery of epoch {epoch} to {key}")))
    }

    fn deliverer(&mut self, key: &str) -> &mut dyn Deliverer {
        self.deliverers.get_mut(key).expect("callers have checked the key").as_mut()
    }

    /// Runs `action` until it succeeds, fails for good, or patience ends.
    fn retry<T>(&mut self, mut action: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        let start = self.clock.monotonic();
        let mut pause = Duration::from_millis(100);
        let mut blocked = false;
        let mut stop_seen = None;
        loop {
            match action(self) {
                Err(error)
                    if error.kind == ErrorKind::Unavailable
                        && !self.abort.is_set()
                        && self.clock.monotonic().saturating_sub(start) < self.patience
                        && !self.has_waited_for_stop(&mut stop_seen) =>
                {
                    tracing::debug!(error = error.full_message(), "delivery blocked, trying again");
                    self.status.set_phase(JobPhase::DeliveryBlocked(error.full_message()));
                    blocked = true;
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                result => {
                    if blocked {
                        self.status.set_phase(JobPhase::Running);
                    }
                    return result;
                }
            }
        }
    }
}

impl Delivery {
    /// Whether the job was asked to stop and gave the target a last chance since.
    fn has_waited_for_stop(&self, seen: &mut Option<Duration>) -> bool {
        if !self.stopper.is_set() {
            return false;
        }
        let now = self.clock.monotonic();
        now.saturating_sub(*seen.get_or_insert(now)) >= STOP_PATIENCE
    }
}

fn check_marker(key: &str, marker: &DeliveryMarker, manifest: &Manifest) -> Result<()> {
    if marker.job_id != manifest.job_id {
        return Err(Error::corrupt(format!("{key} holds output of another job ({})", marker.job_id))
            .with_help("give this job another transactional-id prefix, or restore the checkpoint directory of that job"));
    }
    if marker.generation > manifest.generation {
        return Err(Error::fenced(format!(
            "{key} was written by generation {}, this is {}",
            marker.generation, manifest.generation
        )));
    }
    if marker.epoch > manifest.epoch {
        return Err(Error::corrupt(format!(
            "{key} holds epoch {}, but the newest checkpoint is epoch {}: going on would repeat rows",
            marker.epoch, manifest.epoch
        ))
        .with_help("restore the newer checkpoints, or start with an empty checkpoint directory and accept repeated rows"));
    }
    Ok(())
}

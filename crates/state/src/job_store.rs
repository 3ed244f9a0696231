//! The job's folder on an object store: manifests, state and output.

mod claim;
mod commit;
mod create;
mod garbage;
mod objects;

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use thalweg_core::{Epoch, Error, ErrorKind, Generation, Rand, Result, SystemRand};
use tokio::runtime::Handle;

pub use claim::ClaimOptions;
pub use garbage::GarbageReport;

use crate::envelope::{StoredManifest, decode};
use crate::names::{MANIFEST_FOLDER, manifest_name, manifest_sequence};
use crate::retry::{Trouble, classify, give_up};
use crate::{Manifest, RetryPolicy, SleepFunction};

/// How often an object whose checksum is wrong is read again before it is called damaged: a torn answer passes, a torn
/// object stays.
const READS_BEFORE_DAMAGED: u32 = 3;

/// A blocking view of one job's folder. Owns no thread; waits on `handle`.
///
/// Invariant: after [`JobStore::claim`], every manifest that [`JobStore::commit`] reports as committed directly follows the
/// one before, and no other run's manifest lies between or behind them.
///
/// Never call it from async code: it would block the runtime (and tokio panics).
pub struct JobStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    handle: Handle,
    policy: RetryPolicy,
    sleep: SleepFunction,
    /// For jitter only.
    rand: Mutex<Box<dyn Rand>>,
    /// What this run holds since its claim.
    owner: Mutex<Option<Owner>>,
    /// Monotonic time of the last look for orphans.
    last_sweep: Mutex<Option<Duration>>,
}

/// The claim of this run and how far it has come.
#[derive(Clone, Debug)]
struct Owner {
    job_id: String,
    generation: Generation,
    nonce: String,
    sequence: u64,
    epoch: Epoch,
    /// Set once another run was seen: nothing is committed any more.
    fenced: Option<Fence>,
}

/// Who took the job over, and with which manifest.
#[derive(Clone, Copy, Debug)]
struct Fence {
    generation: Generation,
    sequence: u64,
}

/// A line of `thalweg checkpoint list`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestSummary {
    pub sequence: u64,
    /// What the manifest says, or why it cannot be read.
    pub content: Result<ManifestContent, String>,
}

/// The part of a manifest that a list shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestContent {
    pub job_id: String,
    pub generation: Generation,
    pub epoch: Epoch,
    pub created_ms: i64,
    pub lanes: u32,
    pub finished: bool,
    /// Bytes of live state and of output that it names.
    pub state_bytes: u64,
    pub output_bytes: u64,
    pub undelivered_epochs: usize,
}

impl JobStore {
    /// `handle` belongs to a runtime with its timer enabled whose worker threads run (or, for stores without network, any).
    /// `prefix` is the job's folder within `store`; it may be empty.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, handle: Handle) -> Self {
        JobStore {
            store,
            prefix,
            handle,
            policy: RetryPolicy::default(),
            sleep: Arc::new(std::thread::sleep),
            rand: Mutex::new(Box::new(SystemRand)),
            owner: Mutex::new(None),
            last_sweep: Mutex::new(None),
        }
    }

    pub fn with_retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Replaces the pauses between tries, for tests and the simulator.
    pub fn with_sleep(mut self, sleep: SleepFunction) -> Self {
        self.sleep = sleep;
        self
    }

    /// Replaces the chance in the pauses between tries.
    pub fn with_rand(mut self, rand: Box<dyn Rand>) -> Self {
        self.rand = Mutex::new(rand);
        self
    }

    /// The newest manifest; `None` when the job was never started here.
    /// # Errors
    /// `Corrupt` when it is damaged. An older one is never used instead: output delivered since would come twice.
    /// `User` when another version of Thalweg wrote it. `Unavailable` when the store does not answer.
    pub fn latest(&self) -> Result<Option<Manifest>> {
        for attempt in 0..self.policy.tries {
            self.pause_before(attempt);
            let Some(sequence) = self.manifest_sequences(None)?.into_iter().max() else {
                return Ok(None);
            };
            // Garbage collection of a newer run may delete it between the list and the read; then there is a newer one.
            if let Some(stored) = self.read_manifest(sequence)? {
                return stored.into_known(&manifest_name(sequence)).map(Some);
            }
        }
        Err(Error::corrupt("the newest manifest is listed but missing")
            .with_help("check with `thalweg check-store URL` that the store lists what it holds"))
    }

    /// The manifest with this sequence, for looking into checkpoints.
    /// # Errors
    /// `User` when there is none; else as [`JobStore::latest`].
    pub fn manifest(&self, sequence: u64) -> Result<Manifest> {
        match self.read_manifest(sequence)? {
            Some(stored) => stored.into_known(&manifest_name(sequence)),
            None => Err(Error::user(format!("there is no checkpoint {sequence}"))
                .with_help("`thalweg checkpoint list` shows those there are")),
        }
    }

    /// All manifests, oldest first.
    /// # Errors
    /// `Unavailable` when the store does not answer. A damaged manifest is a line of the list, not an error.
    pub fn list(&self) -> Result<Vec<ManifestSummary>> {
        let mut sequences = self.manifest_sequences(None)?;
        sequences.sort_unstable();
        let mut summaries = vec![];
        for sequence in sequences {
            let content = match self.read_manifest(sequence) {
                Ok(None) => continue,
                Ok(Some(stored)) => stored.into_known(&manifest_name(sequence)),
                Err(error) if error.kind == ErrorKind::Corrupt => Err(error),
                Err(error) => return Err(error),
            };
            let content = content.map(|manifest| ManifestContent::of(&manifest)).map_err(|error| error.full_message());
            summaries.push(ManifestSummary { sequence, content });
        }
        Ok(summaries)
    }

    /// The sequences of the manifests after `after`, in no order.
    fn manifest_sequences(&self, after: Option<u64>) -> Result<Vec<u64>> {
        let offset = after.map(|sequence| self.location(&manifest_name(sequence)));
        let found = self.list_folder(MANIFEST_FOLDER, offset.as_ref())?;
        let sequences = found.iter().filter_map(|meta| manifest_sequence(meta.location.filename()?));
        Ok(sequences.filter(|sequence| after.is_none_or(|after| *sequence > after)).collect())
    }

    /// Reads a manifest whatever its version. `None` when there is none with this sequence.
    fn read_manifest(&self, sequence: u64) -> Result<Option<StoredManifest>> {
        let name = manifest_name(sequence);
        let mut read = 1;
        loop {
            let Some(bytes) = self.get(&name)? else { return Ok(None) };
            match decode(&name, &bytes) {
                Ok(StoredManifest::Known(manifest)) if manifest.sequence != sequence => {
                    return Err(Error::corrupt(format!(
                        "checkpoint object \"{name}\" holds manifest {}: it was copied or renamed",
                        manifest.sequence
                    ))
                    .with_help("put the original object back under this name"));
                }
                Ok(stored) => return Ok(Some(stored)),
                Err(error) if read >= READS_BEFORE_DAMAGED => return Err(error),
                Err(_) => self.pause_before(read),
            }
            read += 1;
        }
    }

    /// The whole object, tried again as the policy says; `None` when it does not exist.
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.retry(&format!("read checkpoint object \"{name}\""), || match self.get_once(name) {
            Err(error) if classify(&error) == Trouble::Missing => Ok(None),
            other => other.map(Some),
        })
    }

    fn get_once(&self, name: &str) -> object_store::Result<Bytes> {
        let location = self.location(name);
        self.wait(Duration::ZERO, async {
            let answer = self.store.get(&location).await?;
            let length = answer.meta.size;
            let bytes = answer.bytes().await?;
            if bytes.len() as u64 == length { Ok(bytes) } else { Err(torn_answer(bytes.len() as u64, length)) }
        })
    }

    /// What lies in a folder, optionally only behind `offset`. Empty when the folder does not exist.
    fn list_folder(&self, folder: &str, offset: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let location = self.location(folder);
        self.retry(&format!("list checkpoint folder \"{folder}\""), || {
            let found = match offset {
                Some(offset) => self.store.list_with_offset(Some(&location), offset),
                None => self.store.list(Some(&location)),
            };
            match self.wait(Duration::ZERO, found.try_collect()) {
                Err(error) if classify(&error) == Trouble::Missing => Ok(vec![]),
                other => other,
            }
        })
    }

    /// The place in the store of an object named as in manifests, relative to the job's folder.
    fn location(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Runs one request to its end, or to its timeout plus `extra`.
    fn wait<T>(&self, extra: Duration, request: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
        let limit = self.policy.request_timeout.saturating_add(extra);
        self.handle.block_on(async {
            match tokio::time::timeout(limit, request).await {
                Ok(answer) => answer,
                Err(_) => {
                    let source = format!("no answer within {} s", limit.as_secs()).into();
                    Err(object_store::Error::Generic { store: "checkpoint", source })
                }
            }
        })
    }

    /// Repeats `request` while its trouble is passing.
    fn retry<T>(&self, what: &str, request: impl Fn() -> object_store::Result<T>) -> Result<T> {
        let mut attempt = 0;
        loop {
            self.pause_before(attempt);
            attempt += 1;
            match request() {
                Ok(value) => return Ok(value),
                Err(error) if classify(&error) == Trouble::Passing && attempt < self.policy.tries => {
                    tracing::debug!(what, attempt, %error, "store request failed, trying again");
                }
                Err(error) => return Err(give_up(what, error)),
            }
        }
    }

    /// Nothing before the first try (`attempt` 0), then longer and longer.
    fn pause_before(&self, attempt: u32) {
        if attempt > 0 {
            let pause = self.policy.pause(attempt, self.rand.lock().expect("no holder of this lock panics").as_mut());
            (self.sleep)(pause);
        }
    }
}

impl ManifestContent {
    fn of(manifest: &Manifest) -> Self {
        let plans = manifest.undelivered.iter().flat_map(|epoch| &epoch.plans).map(|(_, plan)| plan);
        let output_bytes = plans.flat_map(|plan| {
            let delivered = plan.deliveries.iter().flat_map(|delivery| &delivery.segments);
            delivered.chain(&plan.keep).map(|segment| segment.length)
        });
        ManifestContent {
            job_id: manifest.job_id.clone(),
            generation: manifest.generation,
            epoch: manifest.epoch,
            created_ms: manifest.created_ms,
            lanes: manifest.lanes,
            finished: manifest.finished,
            state_bytes: manifest.state.iter().map(|state| state.length).sum(),
            output_bytes: output_bytes.sum(),
            undelivered_epochs: manifest.undelivered.len(),
        }
    }
}

/// The objects that a manifest names, each once.
fn named_objects(manifest: &Manifest) -> HashSet<&str> {
    let state = manifest.state.iter().map(|state| state.object.as_str());
    let plans = manifest.undelivered.iter().flat_map(|epoch| &epoch.plans).map(|(_, plan)| plan);
    let segments = plans.flat_map(|plan| {
        plan.deliveries.iter().flat_map(|delivery| &delivery.segments).chain(&plan.keep).map(|segment| segment.object.as_str())
    });
    state.chain(segments).collect()
}

/// An answer with fewer or more bytes than it announced. Passing: the object itself may be whole.
fn torn_answer(bytes: u64, announced: u64) -> object_store::Error {
    let source = format!("the answer has {bytes} bytes instead of {announced}").into();
    object_store::Error::Generic { store: "checkpoint", source }
}

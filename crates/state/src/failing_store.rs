//! An object store that fails as real ones do, under a seed: for tests and the simulator.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use thalweg_core::{Rand, SeededRand};

/// How often each fault strikes, in thousandths of the requests it can strike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultRates {
    /// Any request: 503, without effect.
    pub unavailable: u64,
    /// A put takes effect, but its answer is lost.
    pub timeout_after_put: u64,
    /// A create takes effect and answers that the object exists: the client repeated it on its own.
    pub exists_after_put: u64,
    /// A put answers with a timeout and takes effect some requests later, if it still can.
    pub late_put: u64,
    /// A read gives fewer bytes than it announced.
    pub truncated_get: u64,
}

impl FaultRates {
    /// Every fault at the same rate.
    pub fn all(per_mille: u64) -> Self {
        FaultRates {
            unavailable: per_mille,
            timeout_after_put: per_mille,
            exists_after_put: per_mille,
            late_put: per_mille,
            truncated_get: per_mille,
        }
    }
}

/// Passes requests on to `inner` and injects faults. The same seed and requests give the same faults.
pub struct FailingStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<FaultState>>,
}

struct FaultState {
    rates: FaultRates,
    rand: SeededRand,
    late_puts: Vec<LatePut>,
    injected: u64,
}

struct LatePut {
    after_requests: u64,
    location: Path,
    payload: PutPayload,
    options: PutOptions,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PutFault {
    None,
    Unavailable,
    TimeoutAfter,
    ExistsAfter,
    Late,
}

/// Requests that may pass before a late put takes effect.
const LATE_REQUESTS_MAX: u64 = 12;

impl FailingStore {
    pub fn new(inner: Arc<dyn ObjectStore>, rates: FaultRates, seed: u64) -> Self {
        let state = FaultState { rates, rand: SeededRand::new(seed), late_puts: vec![], injected: 0 };
        FailingStore { inner, state: Arc::new(Mutex::new(state)) }
    }

    /// Changes the rates from now on; `FaultRates::default()` ends all faults except late puts that are under way.
    pub fn set_rates(&self, rates: FaultRates) {
        self.locked().rates = rates;
    }

    /// How many faults have struck.
    pub fn injected(&self) -> u64 {
        self.locked().injected
    }

    /// Removes an object for good, as a wrong bucket rule would.
    pub async fn lose(&self, location: &Path) -> Result<()> {
        self.inner.delete(location).await
    }

    /// Lets all late puts arrive now.
    pub async fn settle(&self) {
        let late = std::mem::take(&mut self.locked().late_puts);
        self.arrive(late).await;
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, FaultState> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Counts a request: late puts that are due take effect before it.
    async fn begin_request(&self) {
        let due = {
            let mut state = self.locked();
            state.late_puts.iter_mut().for_each(|put| put.after_requests = put.after_requests.saturating_sub(1));
            let (due, waiting) = std::mem::take(&mut state.late_puts).into_iter().partition(|put| put.after_requests == 0);
            state.late_puts = waiting;
            due
        };
        self.arrive(due).await;
    }

    async fn arrive(&self, puts: Vec<LatePut>) {
        for put in puts {
            // Nobody waits for the answer any more.
            let _ = self.inner.put_opts(&put.location, put.payload, put.options).await;
        }
    }

    fn is_unavailable(&self) -> bool {
        let mut state = self.locked();
        let rate = state.rates.unavailable;
        state.strikes(rate)
    }
}

impl FaultState {
    fn strikes(&mut self, rate: u64) -> bool {
        let struck = self.rand.below(1_000) < rate;
        self.injected += u64::from(struck);
        struck
    }

    fn put_fault(&mut self, mode: &PutMode) -> PutFault {
        let rates = self.rates;
        if self.strikes(rates.unavailable) {
            PutFault::Unavailable
        } else if self.strikes(rates.timeout_after_put) {
            PutFault::TimeoutAfter
        } else if *mode == PutMode::Create && self.strikes(rates.exists_after_put) {
            PutFault::ExistsAfter
        } else if self.strikes(rates.late_put) {
            PutFault::Late
        } else {
            PutFault::None
        }
    }
}

fn unavailable() -> object_store::Error {
    object_store::Error::Generic { store: "failing", source: "503 slow down".into() }
}

fn timeout() -> object_store::Error {
    object_store::Error::Generic { store: "failing", source: "the answer did not come in time".into() }
}

/// The answer with only the first `length` bytes of its body.
async fn truncated(answer: GetResult, keep: impl FnOnce(u64) -> u64) -> Result<GetResult> {
    let (meta, range, attributes) = (answer.meta.clone(), answer.range.clone(), answer.attributes.clone());
    let bytes = answer.bytes().await?;
    let kept: Bytes = bytes.slice(..keep(bytes.len() as u64) as usize);
    let payload = GetResultPayload::Stream(stream::once(async { Ok(kept) }).boxed());
    Ok(GetResult { payload, meta, range, attributes })
}

impl fmt::Debug for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FailingStore({:?})", self.inner)
    }
}

impl fmt::Display for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FailingStore({})", self.inner)
    }
}

/// Methods are written as `async_trait` would expand them.
impl ObjectStore for FailingStore {
    fn put_opts<'life0, 'life1, 'async_trait>(
        &'life0 self,
        location: &'life1 Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> BoxFuture<'async_trait, Result<PutResult>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            self.begin_request().await;
            let fault = self.locked().put_fault(&options.mode);
            match fault {
                PutFault::None => self.inner.put_opts(location, payload, options).await,
                PutFault::Unavailable => Err(unavailable()),
                PutFault::TimeoutAfter => {
                    let _ = self.inner.put_opts(location, payload, options).await;
                    Err(timeout())
                }
                PutFault::ExistsAfter => {
                    let _ = self.inner.put_opts(location, payload, options).await;
                    Err(object_store::Error::AlreadyExists { path: location.to_string(), source: "409 conflict".into() })
                }
                PutFault::Late => {
                    let mut state = self.locked();
                    let after_requests = 1 + state.rand.below(LATE_REQUESTS_MAX);
                    state.late_puts.push(LatePut { after_requests, location: location.clone(), payload, options });
                    Err(timeout())
                }
            }
        })
    }

    fn put_multipart_opts<'life0, 'life1, 'async_trait>(
        &'life0 self,
        location: &'life1 Path,
        options: PutMultipartOptions,
    ) -> BoxFuture<'async_trait, Result<Box<dyn MultipartUpload>>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        self.inner.put_multipart_opts(location, options)
    }

    fn get_opts<'life0, 'life1, 'async_trait>(
        &'life0 self,
        location: &'life1 Path,
        options: GetOptions,
    ) -> BoxFuture<'async_trait, Result<GetResult>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            self.begin_request().await;
            if self.is_unavailable() {
                return Err(unavailable());
            }
            let is_head = options.head;
            let answer = self.inner.get_opts(location, options).await?;
            let is_truncated = {
                let mut state = self.locked();
                let rate = state.rates.truncated_get;
                !is_head && state.strikes(rate)
            };
            if !is_truncated {
                return Ok(answer);
            }
            truncated(answer, |length| self.locked().rand.below(length.max(1))).await
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, state) = (self.inner.clone(), self.state.clone());
        locations
            .then(move |location| {
                let (inner, state) = (inner.clone(), state.clone());
                async move {
                    let location = location?;
                    let is_unavailable = {
                        let mut state = state.lock().expect("no holder of this lock panics");
                        let rate = state.rates.unavailable;
                        state.strikes(rate)
                    };
                    if is_unavailable {
                        return Err(unavailable());
                    }
                    inner.delete(&location).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.is_unavailable() {
            return stream::once(async { Err(unavailable()) }).boxed();
        }
        // Late puts do not arrive here, as this method cannot wait for them; the next put or get brings them.
        self.inner.list(prefix).into_stream().boxed()
    }

    fn list_with_delimiter<'life0, 'life1, 'async_trait>(
        &'life0 self,
        prefix: Option<&'life1 Path>,
    ) -> BoxFuture<'async_trait, Result<ListResult>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        if self.is_unavailable() {
            return async { Err(unavailable()) }.boxed();
        }
        self.inner.list_with_delimiter(prefix)
    }

    fn copy_opts<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        from: &'life1 Path,
        to: &'life2 Path,
        options: CopyOptions,
    ) -> BoxFuture<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: 'async_trait,
    {
        if self.is_unavailable() {
            return async { Err(unavailable()) }.boxed();
        }
        self.inner.copy_opts(from, to, options)
    }
}

//! Runs plans: tasks and channels, barriers, the checkpoint coordinator, delivery.
//!
//! A plan is cut into *fragments* at its exchanges; each fragment runs once per lane, each on a thread of its own, so the
//! running job is an acyclic graph of threads joined by bounded queues and cannot deadlock. Operators stay synchronous.
//!
//! ```text
//! source task --batches, watermarks, barriers--> task ... --> task with sinks
//!      ^                                            |  state deltas, output segments
//!      | inject barrier                             v
//!   coordinator <------- acknowledgements ------ uploader --> object store
//!      | 1. create manifest N+1 (the commit point)   2. deliver   3. acknowledge
//! ```
//!
//! If a task never answers a barrier, no later epoch commits: sinks stay silent, sources fill their queues and pause, and the
//! status shows the age of the last checkpoint.

mod channel;
mod coordinator;
mod delivery;
mod fragment;
mod job;
mod progress;
mod source_task;
mod status;
mod task;
mod uploader;
mod values;

pub use job::{Connections, Job, JobOptions, JobReport, Stopper, needs_checkpoints, plan_identity};
pub use status::{JobPhase, JobStatus, SourceStatus, StatusSnapshot};

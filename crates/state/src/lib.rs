//! Operator state, checkpoints and manifests on an object store.
//!
//! Operators edit their state in memory and describe the changes of an epoch as a [`StateDelta`]; the runtime stores deltas as
//! immutable objects and names them in a [`Manifest`], whose creation is the only commit point.
//!
//! ```text
//! JobStore::claim ─> restore (load_parts) ─> run ─┬─> StateObjectBuilder ─> JobStore::put ─┐
//!    a new generation                             ├─> pack_segments ──────> JobStore::put ─┼─> JobStore::commit ─> deliver
//!    owns the job                                 └─────────── next epoch <────────────────┘   the commit point
//! ```
//!
//! If the store never answers, `claim`, `put` and `commit` end with `Unavailable` after bounded tries; nothing was delivered.
//! The form on disk is described in `docs/checkpoint-format.md`.

mod check_store;
mod checksum;
mod delta;
mod envelope;
mod failing_store;
#[cfg(test)]
mod history_tests;
mod job_store;
mod manifest;
mod names;
mod plan_change;
mod restore;
mod retry;
mod segments;
mod state_object;
#[cfg(test)]
mod test_support;

pub use check_store::{CheckResult, check_store};
pub use checksum::crc32;
pub use delta::{KEY_GROUP_COLUMN, SlotChange, SlotId, StateDelta, StatePart};
pub use failing_store::{FailingStore, FaultRates};
pub use job_store::{ClaimOptions, GarbageReport, JobStore, ManifestContent, ManifestSummary};
pub use manifest::{
    FORMAT_VERSION, Manifest, PartitionProgress, PlanIdentity, SourceProgress, StateKind, StateRef, UndeliveredEpoch,
};
pub use names::ObjectKind;
pub use plan_change::plan_differences;
pub use restore::load_parts;
pub use retry::{RetryPolicy, SleepFunction};
pub use segments::{StoreSegmentReader, pack_segments};
pub use state_object::{PackedState, StateObjectBuilder, apply, apply_full};

//! Operator state, checkpoints and manifests on an object store.
//!
//! Operators edit their state in memory and describe the changes of an epoch as a [`StateDelta`]; the runtime stores deltas as
//! immutable objects and names them in a [`Manifest`], whose creation is the only commit point.

mod delta;
mod manifest;

pub use delta::{KEY_GROUP_COLUMN, SlotChange, SlotId, StateDelta, StatePart};
pub use manifest::{
    FORMAT_VERSION, Manifest, PartitionProgress, PlanIdentity, SourceProgress, StateKind, StateRef, UndeliveredEpoch,
};

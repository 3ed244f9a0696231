//! The manifest: what a job is, at one commit.

use serde::{Deserialize, Serialize};
use thalweg_core::{DeliveryPlan, Epoch, EventTime, Generation, LaneId, PartitionId, Position};

use crate::SlotId;

/// Version of the manifest and of the state objects it names. Readers know this one and the two before it.
pub const FORMAT_VERSION: u32 = 1;

/// One commit of a job, stored as JSON under `manifest/<sequence, 20 digits>`, created once and never changed.
///
/// Everything that a restart needs is named here: nothing is found by listing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub sequence: u64,
    /// Identity of the job for ever, made with the first manifest.
    pub job_id: String,
    pub generation: Generation,
    /// Of the run that created this manifest. Tells "mine" from "another's" when the answer to a create was lost.
    pub nonce: String,
    /// The epoch that this manifest commits; a claim repeats the one before.
    pub epoch: Epoch,
    /// Wall clock at creation, for people.
    pub created_ms: i64,
    pub plan: PlanIdentity,
    /// The lanes that wrote `state`; 0 before the first epoch. A run with another number must make its first epoch a full one,
    /// see [`crate::apply_full`].
    pub lanes: u32,
    pub sources: Vec<SourceProgress>,
    /// Live state, in the order in which it applies per operator, lane and slot.
    pub state: Vec<StateRef>,
    /// Epochs that are committed and may not be delivered yet, oldest first; each is delivered again after a restart.
    pub undelivered: Vec<UndeliveredEpoch>,
    /// Set when every input has ended and all output was handed over for delivery.
    pub finished: bool,
}

/// Which plan a checkpoint belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PlanIdentity {
    pub fingerprint: String,
    /// Operator id and description, for telling what changed.
    pub operators: Vec<(String, String)>,
}

/// How far a source has been read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceProgress {
    pub operator: String,
    pub partitions: Vec<PartitionProgress>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionProgress {
    pub partition: PartitionId,
    pub position: Option<Position>,
    pub watermark: EventTime,
    /// The partition gave its last row.
    pub ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateKind {
    Replace,
    Merge,
}

/// A stretch of an object that holds one state batch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StateRef {
    /// The plan's operator id, or `<id>/<part>` for one of several states of an operator.
    pub operator: String,
    pub slot: SlotId,
    pub lane: LaneId,
    pub kind: StateKind,
    /// Name below the job's folder: `state/…`.
    pub object: String,
    pub offset: u64,
    pub length: u64,
    pub crc32: u32,
    pub rows: u64,
}

/// An epoch's output, by delivery key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UndeliveredEpoch {
    pub epoch: Epoch,
    pub plans: Vec<(String, DeliveryPlan)>,
}

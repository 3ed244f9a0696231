//! The commit point (step E6).

use thalweg_core::{Error, Result};

use super::create::Creation;
use super::{Fence, JobStore, Owner, named_objects};
use crate::envelope::ManifestOwner;
use crate::names::manifest_name;
use crate::{FORMAT_VERSION, Manifest};

impl JobStore {
    /// Commits `next`: when this returns `Ok`, the epoch is durable for ever and its output may be delivered.
    ///
    /// `next` follows the last manifest of this run: its sequence plus one, and its epoch plus one, or the same epoch for a
    /// manifest that only takes note of deliveries. May be called again with the same manifest after `Unavailable`.
    /// # Errors
    /// - `Fenced` when a newer run owns the job. The manifest may have become durable just before that; the newer run then
    ///   delivers it.
    /// - `Unavailable` when the outcome is unknown: call again, or stop and start over; never deliver.
    /// - `Internal` when `next` does not follow.
    pub fn commit(&self, next: &Manifest) -> Result<()> {
        let mut held = self.owner.lock().expect("no holder of this lock panics");
        let owner = held.as_mut().ok_or_else(|| Error::internal("commit without a claim"))?;
        if let Some(fence) = owner.fenced {
            return Err(fenced(next, fence));
        }
        owner.check_follows(next)?;
        let other = match self.create_manifest(next)? {
            Creation::Other(ManifestOwner { generation, .. }) => Some(Fence { generation, sequence: next.sequence }),
            // A run that was paused for long may find its next sequence free because newer runs have taken it, superseded it
            // and deleted it. Their newest manifests are there, though, since the newest are never deleted.
            Creation::Mine => self.newest_after(next.sequence)?,
        };
        if let Some(fence) = other {
            owner.fenced = Some(fence);
            return Err(fenced(next, fence));
        }
        owner.sequence = next.sequence;
        owner.epoch = next.epoch;
        Ok(())
    }

    /// Who made the newest manifest after `sequence`, if there is one.
    pub(super) fn newest_after(&self, sequence: u64) -> Result<Option<Fence>> {
        for attempt in 0..self.policy.tries {
            self.pause_before(attempt);
            let Some(newest) = self.manifest_sequences(Some(sequence))?.into_iter().max() else {
                return Ok(None);
            };
            if let Some(stored) = self.read_manifest(newest)? {
                return Ok(Some(Fence { generation: stored.owner().generation, sequence: newest }));
            }
        }
        Err(Error::unavailable("newer manifests come and go faster than they can be read"))
    }
}

impl Owner {
    fn check_follows(&self, next: &Manifest) -> Result<()> {
        let wrong = if next.format_version != FORMAT_VERSION {
            format!("has format {}", next.format_version)
        } else if next.job_id != self.job_id || next.generation != self.generation || next.nonce != self.nonce {
            format!("is of generation {} and not of this run, {}", next.generation, self.generation)
        } else if next.sequence != self.sequence + 1 {
            format!("does not follow manifest {}", self.sequence)
        } else if next.epoch != self.epoch && next.epoch != self.epoch.next() {
            format!("has epoch {} after epoch {}", next.epoch, self.epoch)
        } else if named_objects(next).contains("") {
            "names an object without a name".to_string()
        } else {
            return Ok(());
        };
        Err(Error::internal(format!("manifest {} {wrong}", next.sequence)))
    }
}

fn fenced(next: &Manifest, fence: Fence) -> Error {
    let name = manifest_name(fence.sequence);
    Error::fenced(format!(
        "job {} is owned by a newer run: generation {} created \"{name}\", this run is generation {}",
        next.job_id, fence.generation, next.generation
    ))
    .with_help("the newer run goes on with the work; do not restart this one")
}

//! Taking a job over (step S1): the last starter owns it.

use std::collections::HashMap;

use thalweg_core::{Clock, Epoch, Error, Generation, Rand, Result};

use super::create::Creation;
use super::{JobStore, Owner, named_objects};
use crate::names::ObjectKind;
use crate::plan_change::{carry_over, plan_differences, refusal};
use crate::{FORMAT_VERSION, Manifest, PlanIdentity};

/// How a claim treats what it finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClaimOptions {
    /// Take over a checkpoint of another plan: operators that both plans have keep state and positions, the rest is dropped.
    /// The caller must still deliver what `undelivered` names, or refuse.
    pub allow_plan_change: bool,
}

impl JobStore {
    /// Makes this run the owner of the job: creates a manifest with the content of the newest one, the next generation and a
    /// fresh nonce; the first claim ever makes the job's id, with `lanes` 0 and epoch 0. Any run that owned the job before
    /// fails with `Fenced` at its next commit.
    /// # Errors
    /// - `User` (code TW0501) when the checkpoint belongs to another plan: nothing was written.
    /// - `User` when another version of Thalweg wrote the checkpoint.
    /// - `Corrupt` when the newest manifest is damaged or names an object that is not there.
    /// - `Fenced` when others kept being faster; `Unavailable` when the store does not answer.
    pub fn claim(&self, plan: &PlanIdentity, options: &ClaimOptions, rand: &mut dyn Rand, clock: &dyn Clock) -> Result<Manifest> {
        for attempt in 0..self.policy.tries {
            self.pause_before(attempt);
            let next = match self.latest()? {
                None => first_manifest(plan, rand, clock),
                Some(newest) => {
                    let differences = plan_differences(&newest.plan, plan);
                    if !differences.is_empty() && !options.allow_plan_change {
                        return Err(refusal(&differences));
                    }
                    if let Err(error) = self.check_objects(&newest) {
                        // A newer run may have superseded this manifest and deleted its objects in the meantime.
                        if self.newest_after(newest.sequence)?.is_some() {
                            continue;
                        }
                        return Err(error);
                    }
                    next_claim(newest, plan, !differences.is_empty(), rand, clock)
                }
            };
            if matches!(self.create_manifest(&next)?, Creation::Mine) && self.newest_after(next.sequence)?.is_none() {
                tracing::info!(job = next.job_id, generation = next.generation.0, sequence = next.sequence, "claimed the job");
                *self.owner.lock().expect("no holder of this lock panics") = Some(Owner {
                    job_id: next.job_id.clone(),
                    generation: next.generation,
                    nonce: next.nonce.clone(),
                    sequence: next.sequence,
                    epoch: next.epoch,
                    fenced: None,
                });
                return Ok(next);
            }
        }
        Err(Error::fenced(format!("other runs claimed the job first, {} times in a row", self.policy.tries))
            .with_help("several copies of this job are starting at once; let one of them run"))
    }

    /// Whether every object that the manifest names exists with the bytes it needs. Two lists, no reads: a bucket rule that
    /// deletes old objects shows itself here, before anything is restored.
    fn check_objects(&self, manifest: &Manifest) -> Result<()> {
        let named = named_objects(manifest);
        if named.is_empty() {
            return Ok(());
        }
        let mut sizes = HashMap::new();
        for kind in ObjectKind::ALL {
            for meta in self.list_folder(kind.folder(), None)? {
                if let Some(filename) = meta.location.filename() {
                    sizes.insert(format!("{}/{filename}", kind.folder()), meta.size);
                }
            }
        }
        let mut missing: Vec<&str> = named.into_iter().filter(|name| !sizes.contains_key(*name)).collect();
        missing.sort_unstable();
        if let Some(first) = missing.first() {
            return Err(Error::corrupt(format!(
                "checkpoint object \"{first}\" is missing ({} of those that manifest {} names)",
                missing.len(),
                manifest.sequence
            ))
            .with_help("bring it back from a copy; exempt the checkpoint directory from rules that delete old objects"));
        }
        let too_short = manifest
            .state
            .iter()
            .find(|state| state.offset.checked_add(state.length).is_none_or(|end| end > sizes[&state.object]));
        match too_short {
            Some(state) => Err(Error::corrupt(format!("checkpoint object \"{}\" is shorter than it was", state.object))
                .with_help("bring it back from a copy of the bucket or disk")),
            None => Ok(()),
        }
    }
}

fn first_manifest(plan: &PlanIdentity, rand: &mut dyn Rand, clock: &dyn Clock) -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        sequence: 1,
        job_id: rand.unique_id(),
        generation: Generation(1),
        nonce: rand.unique_id(),
        epoch: Epoch(0),
        created_ms: clock.wall_ms(),
        plan: plan.clone(),
        lanes: 0,
        sources: vec![],
        state: vec![],
        undelivered: vec![],
        finished: false,
    }
}

fn next_claim(newest: Manifest, plan: &PlanIdentity, changed: bool, rand: &mut dyn Rand, clock: &dyn Clock) -> Manifest {
    let mut next = Manifest {
        format_version: FORMAT_VERSION,
        sequence: newest.sequence + 1,
        generation: newest.generation.next(),
        nonce: rand.unique_id(),
        created_ms: clock.wall_ms(),
        ..newest
    };
    if changed {
        carry_over(&mut next, plan);
    }
    next
}

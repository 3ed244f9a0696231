//! Deleting what no restart can need (step E8).
//!
//! Why it is safe, also when a fenced run does it: a manifest names objects that its predecessor named or that are new, so an
//! object that a manifest does not name never comes back in a later one. And objects of generations before `g` can only be
//! named by successors of the claim of `g` if that claim named them.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use object_store::ObjectStore as _;
use thalweg_core::{Clock, Error, Generation, Result};

use super::{JobStore, named_objects};
use crate::Manifest;
use crate::names::{MANIFEST_FOLDER, ObjectKind, data_generation, manifest_name, manifest_sequence};
use crate::retry::{Trouble, classify};

/// Manifests that are always kept, whatever the caller asks for.
const KEPT_MANIFESTS_MIN: usize = 3;
/// Superseded manifests dealt with in one call; the rest waits for the next.
const SUPERSEDED_PER_CALL: usize = 200;
/// Age from which an object that nothing names is deleted: far longer than any upload or pause of a live run.
const ORPHAN_AGE_MS: i64 = 24 * 60 * 60 * 1_000;
/// Orphans are looked for once at start and then at this interval: it takes a list of everything.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// What [`JobStore::collect_garbage`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GarbageReport {
    pub manifests_deleted: usize,
    /// State and output objects that only superseded manifests named.
    pub objects_deleted: usize,
    /// Objects that no manifest named, left by uploads of runs that ended.
    pub orphans_deleted: usize,
    /// Deletes that failed, and superseded manifests that cannot be read. Tried again next time.
    pub failures: usize,
}

impl JobStore {
    /// Deletes superseded manifests except the newest `keep` (at least 3), the objects that only they name, and orphans of
    /// older generations older than 24 h by `clock`. Costs a list, a read per manifest, and a list of everything at start
    /// and once an hour; call it every few epochs.
    ///
    /// Does nothing when `current` is not the newest manifest.
    /// # Errors
    /// Worth a line in the log, no more: what was not deleted now is deleted later.
    pub fn collect_garbage(&self, current: &Manifest, keep: usize, clock: &dyn Clock) -> Result<GarbageReport> {
        let mut report = GarbageReport::default();
        let mut sequences = self.manifest_sequences(None)?;
        sequences.sort_unstable();
        if sequences.last() != Some(&current.sequence) {
            return Ok(report);
        }
        let superseded_count = sequences.len().saturating_sub(keep.max(KEPT_MANIFESTS_MIN));
        let (superseded, kept) = sequences.split_at(superseded_count);
        let needed = self.objects_of_kept(kept)?;
        self.delete_superseded(&superseded[..superseded.len().min(SUPERSEDED_PER_CALL)], &needed, &mut report)?;
        if self.is_sweep_due(clock) {
            self.delete_orphans(current.generation, &needed, clock, &mut report)?;
        }
        Ok(report)
    }

    fn objects_of_kept(&self, kept: &[u64]) -> Result<HashSet<String>> {
        let mut needed = HashSet::new();
        for sequence in kept {
            let name = manifest_name(*sequence);
            let stored = self.read_manifest(*sequence)?;
            let stored = stored.ok_or_else(|| Error::unavailable(format!("\"{name}\" was deleted by another run")))?;
            needed.extend(named_objects(&stored.into_known(&name)?).into_iter().map(str::to_string));
        }
        Ok(needed)
    }

    /// Objects first, their manifests last and only if all objects are gone: what a crash leaves is still named.
    fn delete_superseded(&self, superseded: &[u64], needed: &HashSet<String>, report: &mut GarbageReport) -> Result<()> {
        let mut manifests = vec![];
        let mut objects = HashSet::new();
        for sequence in superseded {
            let name = manifest_name(*sequence);
            match self.read_manifest(*sequence).and_then(|stored| stored.map(|s| s.into_known(&name)).transpose()) {
                Ok(Some(manifest)) => {
                    objects.extend(named_objects(&manifest).into_iter().map(str::to_string));
                    manifests.push(name);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(object = name, %error, "superseded manifest cannot be read, keeping it");
                    report.failures += 1;
                }
            }
        }
        let mut objects: Vec<String> = objects.into_iter().filter(|name| !needed.contains(name)).collect();
        objects.sort_unstable();
        let (deleted, failed) = self.delete_all(&objects);
        report.objects_deleted += deleted;
        report.failures += failed;
        if failed == 0 {
            let (deleted, failed) = self.delete_all(&manifests);
            report.manifests_deleted += deleted;
            report.failures += failed;
        }
        Ok(())
    }

    fn is_sweep_due(&self, clock: &dyn Clock) -> bool {
        let now = clock.monotonic();
        let mut last = self.last_sweep.lock().expect("no holder of this lock panics");
        let due = last.is_none_or(|last| now.saturating_sub(last) >= SWEEP_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }

    fn delete_orphans(
        &self,
        generation: Generation,
        needed: &HashSet<String>,
        clock: &dyn Clock,
        report: &mut GarbageReport,
    ) -> Result<()> {
        let newest_ms = clock.wall_ms().saturating_sub(ORPHAN_AGE_MS);
        let mut orphans = BTreeMap::new();
        for kind in ObjectKind::ALL {
            for meta in self.list_folder(kind.folder(), None)? {
                let Some(filename) = meta.location.filename() else { continue };
                if data_generation(filename).is_some_and(|of| of < generation) {
                    orphans.insert(format!("{}/{filename}", kind.folder()), meta.last_modified.timestamp_millis());
                }
            }
        }
        // Whatever else lies between the manifests was left by a crash in the middle of writing one to a disk.
        for meta in self.list_folder(MANIFEST_FOLDER, None)? {
            let Some(filename) = meta.location.filename() else { continue };
            if manifest_sequence(filename).is_none() {
                orphans.insert(format!("{MANIFEST_FOLDER}/{filename}"), meta.last_modified.timestamp_millis());
            }
        }
        orphans.retain(|name, modified_ms| *modified_ms < newest_ms && !needed.contains(name));
        let orphans: Vec<String> = orphans.into_keys().collect();
        let (deleted, failed) = self.delete_all(&orphans);
        report.orphans_deleted += deleted;
        report.failures += failed;
        Ok(())
    }

    /// How many of the objects are gone now, and how many deletes failed. Not tried again: the next collection is.
    fn delete_all(&self, names: &[String]) -> (usize, usize) {
        if names.is_empty() {
            return (0, 0);
        }
        let locations: Vec<_> = names.iter().map(|name| Ok(self.location(name))).collect();
        let deletes = self.store.delete_stream(stream::iter(locations).boxed());
        let extra = Duration::from_millis(100 * names.len() as u64);
        let answers = self.wait(extra, async { Ok(deletes.collect::<Vec<_>>().await) }).unwrap_or_default();
        let is_gone = |answer: &&object_store::Result<_>| match answer {
            Ok(_) => true,
            Err(error) => classify(error) == Trouble::Missing,
        };
        let deleted = answers.iter().filter(is_gone).count();
        if let Some(error) = answers.iter().find_map(|answer| answer.as_ref().err()) {
            tracing::debug!(%error, "an object could not be deleted");
        }
        (deleted, names.len() - deleted.min(names.len()))
    }
}

//! Creating a manifest when answers may be lost (rule S2).
//!
//! ```text
//! create ── ok ──────────────────────────────────────────────> mine
//!   │ AlreadyExists, 409, 412, 5xx, timeout: unknown
//!   └─> read ── my bytes ─────────────────────────────────────> mine
//!         ├──── another run's ───────────────────────────────-> other
//!         └──── absent, or no answer ── pause ── create again, byte for byte the same
//! ```
//!
//! A first attempt that arrives late is harmless: it brings the same bytes, or finds the name taken.

use bytes::Bytes;
use object_store::{ObjectStore as _, PutMode, PutOptions, PutPayload};
use std::time::Duration;
use thalweg_core::{Error, Result};

use super::JobStore;
use crate::Manifest;
use crate::envelope::{ManifestOwner, decode, encode};
use crate::names::manifest_name;
use crate::retry::{Trouble, classify, give_up};

/// Whose manifest has the sequence now.
#[derive(Debug)]
pub(super) enum Creation {
    Mine,
    Other(ManifestOwner),
}

impl JobStore {
    /// Creates the manifest, or finds out who was first.
    /// # Errors
    /// `Unavailable` when that could not be found out: the manifest may exist or come to exist. `Internal` when this run has
    /// already stored another manifest under the sequence. `Corrupt` when what is there cannot be read.
    pub(super) fn create_manifest(&self, manifest: &Manifest) -> Result<Creation> {
        let name = manifest_name(manifest.sequence);
        let what = format!("create checkpoint object \"{name}\"");
        let bytes = Bytes::from(encode(manifest)?);
        let mut last = Error::unavailable(format!("cannot {what}"));
        for attempt in 0..self.policy.tries {
            self.pause_before(attempt);
            match self.create_once(&name, &bytes) {
                Ok(()) => return Ok(Creation::Mine),
                Err(error) => match classify(&error) {
                    Trouble::Lasting | Trouble::Missing => return Err(give_up(&what, error)),
                    Trouble::Exists | Trouble::Passing => last = give_up(&what, error),
                },
            }
            match self.get_once(&name) {
                Ok(found) if found == bytes => return Ok(Creation::Mine),
                Ok(found) => match decode(&name, &found).map(|stored| stored.owner()) {
                    Ok(owner) if owner.nonce == manifest.nonce => {
                        return Err(Error::internal(format!("this run has stored another manifest as \"{name}\"")));
                    }
                    Ok(owner) => return Ok(Creation::Other(owner)),
                    // Torn on the way, or on disk: the next reads will tell.
                    Err(error) => last = error,
                },
                Err(error) if classify(&error) == Trouble::Missing => {}
                Err(error) => last = give_up(&what, error),
            }
            tracing::debug!(object = name, attempt, error = %last, "unclear whether a manifest was created");
        }
        Err(last)
    }

    /// One conditional put: fails with `AlreadyExists` or `Precondition` when the name is taken.
    pub(super) fn create_once(&self, name: &str, bytes: &Bytes) -> object_store::Result<()> {
        let location = self.location(name);
        let payload = PutPayload::from_bytes(bytes.clone());
        let extra = Duration::from_secs(bytes.len() as u64 >> 20);
        self.wait(extra, self.store.put_opts(&location, payload, PutOptions::from(PutMode::Create)))?;
        Ok(())
    }
}

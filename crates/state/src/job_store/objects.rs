//! Data objects: state and output. Written once, never changed, named by manifests.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use thalweg_core::{Epoch, Error, Generation, LaneId, Result};

use super::{JobStore, READS_BEFORE_DAMAGED, torn_answer};
use crate::ObjectKind;
use crate::checksum::crc32;
use crate::names::data_name;
use crate::retry::{Trouble, classify, give_up};

/// Objects up to this size are read back and compared after an upload; of larger ones the length is checked.
const READ_BACK_BYTES_MAX: usize = 1 << 20;

impl JobStore {
    /// Stores `bytes` for ever and returns the object's name for the manifest, relative to the job's folder. `unique` makes
    /// the name differ from those of all other attempts; take it from `Rand::unique_id`.
    /// # Errors
    /// `Unavailable` when the store does not take it; a part of it may be there, which garbage collection finds later.
    pub fn put(
        &self,
        kind: ObjectKind,
        generation: Generation,
        epoch: Epoch,
        lane: LaneId,
        unique: &str,
        bytes: Bytes,
    ) -> Result<String> {
        let name = data_name(kind, generation, epoch, lane, unique)?;
        let what = format!("write checkpoint object \"{name}\"");
        let mut last = Error::unavailable(format!("cannot {what}"));
        for attempt in 0..self.policy.tries {
            self.pause_before(attempt);
            match self.create_once(&name, &bytes) {
                Ok(()) => {}
                Err(error) => match classify(&error) {
                    Trouble::Lasting | Trouble::Missing => return Err(give_up(&what, error)),
                    // An earlier attempt of ours may have arrived: verification tells.
                    Trouble::Exists => {}
                    Trouble::Passing => {
                        last = give_up(&what, error);
                        continue;
                    }
                },
            }
            match self.is_stored(&name, &bytes) {
                Ok(true) => return Ok(name),
                Ok(false) => last = Error::corrupt(format!("checkpoint object \"{name}\" is not what was written")),
                Err(error) => last = give_up(&what, error),
            }
        }
        Err(last)
    }

    fn is_stored(&self, name: &str, bytes: &Bytes) -> object_store::Result<bool> {
        if bytes.len() <= READ_BACK_BYTES_MAX {
            return Ok(self.get_once(name)? == *bytes);
        }
        let location = self.location(name);
        let meta = self.wait(Duration::ZERO, self.store.head(&location))?;
        Ok(meta.size == bytes.len() as u64)
    }

    /// `length` bytes of an object from `offset` on, with their checksum verified.
    /// # Errors
    /// `Corrupt`, naming the object, when it is missing, too short, or does not have the checksum.
    pub fn read(&self, object: &str, offset: u64, length: u64, crc32_expected: u32) -> Result<Bytes> {
        let end = offset.checked_add(length).ok_or_else(|| damaged(object, "its range is out of bounds"))?;
        for read in 1..=READS_BEFORE_DAMAGED {
            let bytes = self.read_range(object, offset..end)?;
            if crc32(&bytes) == crc32_expected {
                return Ok(bytes);
            }
            if read < READS_BEFORE_DAMAGED {
                self.pause_before(read);
            }
        }
        Err(damaged(object, "the checksum of its bytes does not match"))
    }

    /// A range of an object, unverified but of the right length.
    /// # Errors
    /// `Corrupt` when the object is missing or too short.
    pub(crate) fn read_range(&self, object: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let location = self.location(object);
        let length = range.end - range.start;
        let answer = self.retry(&format!("read checkpoint object \"{object}\""), || {
            let answer = self.wait(Duration::from_secs(length >> 20), async {
                let bytes = self.store.get_range(&location, range.clone()).await?;
                if bytes.len() as u64 == length { Ok(bytes) } else { Err(torn_answer(bytes.len() as u64, length)) }
            });
            match answer {
                Ok(bytes) => Ok(Ok(bytes)),
                Err(error) if classify(&error) == Trouble::Missing => Ok(Err("it is missing")),
                // Stores differ in how they refuse a range behind the end, so the length is asked for.
                Err(error) => match self.wait(Duration::ZERO, self.store.head(&location)) {
                    Ok(meta) if meta.size < range.end => Ok(Err("it is shorter than it was")),
                    _ => Err(error),
                },
            }
        })?;
        answer.map_err(|what| damaged(object, what))
    }
}

fn damaged(object: &str, what: &str) -> Error {
    Error::corrupt(format!("checkpoint object \"{object}\" is damaged: {what}"))
        .with_help("bring it back from a copy of the bucket or disk (objects never change, any copy is right), or start fresh")
}

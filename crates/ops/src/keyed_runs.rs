//! Rows by key in sorted runs: the memory of joins, made for many rows. An [`Arrangement`](crate::arrangement) gives rows names that
//! last, and costs more per row.
//!
//! ```text
//! changes ──> delta: columns in order of arrival, chains of equal keys in a hash table
//!               │ about 4 MiB of columns
//!               v
//!             runs: sealed, columns in order of the keys' hashes; four of about one size become one
//! ```
//!
//! **Rows.** Kept as columns, never encoded. An append-only input's rows are a list: each arrival has a place of its own. Rows of
//! an updating input have weights: a row that comes again while it is in the delta adds to the weight of the first, a row that is
//! taken back lowers a weight, a weight of 0 means gone. A row taken back that is not there is an error of the record.
//! Columns never change where they are, the figures beside them do: weight, number of matches on the other side (for outer, SEMI
//! and ANTI joins), time of the last write (with a time to live). See [`entries`].
//!
//! **Probe.** [`KeyedRuns::probe`] finds a batch of keys at once: per run one bucket and one or two hashes per key. Matches of a
//! key come in order of arrival: runs are kept oldest first, rows of a key within them likewise. They are read in chunks.
//!
//! **Cost.** A row is copied when it is sealed and once for each size of run that it passes through, of which there are
//! log4(bytes / 4 MiB); runs grow to between 64 and 256 MiB, what is more makes further ones. A run half of whose rows are gone
//! is written anew.
//!
//! **Snapshot.** Slots `<name>/<lane>/…`, numbers in decimal:
//!
//! | slot | content | written |
//! |---|---|---|
//! | `run/<first>-<last>` | the rows of a run | once |
//! | `changes/<first>-<last>` | `position` and figures of rows of that run that changed since, the last of a position holds | merged; whole when it has grown too long |
//! | `delta/<number>` | rows of the delta, the last of a position holds | merged; whole when it has grown too long |
//!
//! Columns: `key_group`, `position` (UInt32, within the run or delta), `weight` (Int64), `matches` (Int64, null if not counted),
//! `touched` (Int64, ms, null without a time to live); then, but for changes, the kept columns. A run's slots are dropped when it
//! is merged away. Restored runs stay as they are; a restored delta becomes the beginning of a new one.
//!
//! **Freed.** When taken back; with a time to live, a run all of whose rows were last written too long ago as one, and rows that
//! linger in younger runs for half the time to live more one by one.

mod apply;
mod delta;
mod entries;
mod equality;
mod merge;
mod position_set;
mod probe;
mod run;
mod slots;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use thalweg_core::{KeyGroup, LaneId, Result, key_group_of_hash};
use thalweg_state::SlotId;

use crate::key_hashes;
use crate::unmatched::Unmatched;
use delta::Delta;
use entries::EntryKind;
use run::Run;

pub(crate) use equality::{take_rows, widest_row};
pub(crate) use probe::{Matches, Room, Span};

/// Bytes of columns from which on the delta is sealed.
const SEAL_BYTES: usize = 4 << 20;

pub(crate) struct KeyedRunsOptions {
    /// The first part of the names of its slots.
    pub(crate) name: &'static str,
    /// Whose rows these are, for errors: `the left input of a join`.
    pub(crate) holder: &'static str,
    pub(crate) lane: LaneId,
    /// Of the kept rows.
    pub(crate) schema: SchemaRef,
    /// The key's columns among them.
    pub(crate) keys: Vec<usize>,
    /// Whether all rows are in one lane, whatever their keys.
    pub(crate) is_single: bool,
    /// Whether rows are taken back.
    pub(crate) is_updating: bool,
    pub(crate) counts_matches: bool,
    /// Rows go when they were not written for this long. Taking back one that is gone is then no error.
    pub(crate) time_to_live_ms: Option<i64>,
}

impl KeyedRunsOptions {
    fn entry_kind(&self) -> EntryKind {
        EntryKind { counts_matches: self.counts_matches, is_timed: self.time_to_live_ms.is_some() }
    }
}

/// Where a kept row is. Holds until [`KeyedRuns::maintain`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    segment: u32,
    position: u32,
}

impl Place {
    const DELTA: u32 = u32::MAX;
    const NOWHERE: u32 = u32::MAX - 1;
    /// Of no row; gathers as null.
    pub(crate) const NONE: Place = Place { segment: Place::NOWHERE, position: 0 };

    pub(crate) fn is_none(self) -> bool {
        self.segment == Place::NOWHERE
    }

    fn in_delta(position: u32) -> Place {
        Place { segment: Place::DELTA, position }
    }
}

/// See the module's comment.
pub(crate) struct KeyedRuns {
    options: KeyedRunsOptions,
    /// Oldest first.
    runs: Vec<Run>,
    delta: Delta,
    /// Slots in the store that do not count any more.
    dropped: Vec<SlotId>,
    /// What the time was when it was last told.
    now_ms: i64,
    seal_bytes: usize,
    /// Which bits of the keys' hashes count: fewer than all make keys collide, in tests.
    hash_mask: u64,
    pub(crate) unmatched: Unmatched,
}

impl KeyedRuns {
    pub(crate) fn new(options: KeyedRunsOptions) -> Self {
        let mut unmatched = Unmatched::default();
        if options.time_to_live_ms.is_some() {
            unmatched.ignore();
        }
        KeyedRuns {
            unmatched,
            delta: Delta::new(&options, 0),
            options,
            runs: vec![],
            dropped: vec![],
            now_ms: i64::MIN,
            seal_bytes: SEAL_BYTES,
            hash_mask: u64::MAX,
        }
    }

    /// The hashes of keys, for [`KeyedRuns::apply`] and [`KeyedRuns::probe`].
    pub(crate) fn hashes(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
        let mut hashes = key_hashes(keys, rows)?;
        hashes.iter_mut().for_each(|hash| *hash &= self.hash_mask);
        Ok(hashes)
    }

    /// Rows that are there, equal ones of an updating input perhaps counted as one.
    pub(crate) fn len(&self) -> usize {
        self.runs.iter().map(|run| run.entries.live()).sum::<usize>() + self.delta.entries.live()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.runs.iter().map(Run::size_bytes).sum::<usize>() + self.delta.size_bytes()
    }

    fn key_group(&self, hash: u64) -> KeyGroup {
        if self.options.is_single { key_group_of_hash(0) } else { key_group_of_hash(hash) }
    }

    /// Seals after `bytes`, and lets keys collide that agree in their key group and the lowest bit of their hash.
    #[cfg(test)]
    pub(crate) fn for_tests(&mut self, bytes: usize, collide: bool) {
        self.seal_bytes = bytes;
        self.hash_mask = if collide { (127 << 57) | 1 } else { u64::MAX };
    }
}

#[cfg(test)]
mod tests;

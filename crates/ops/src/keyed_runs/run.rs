//! A sealed run: rows in order of the hashes of their keys, of one key in order of arrival.
//!
//! Hashes instead of encoded keys: the index of a run is then 12 bytes per key and 2 bytes of buckets, a probe touches one bucket
//! and one or two hashes whatever the size of the run, and a key that is not there costs no more than a filter would. Keys are
//! compared where hashes are equal, in the columns that are kept anyway.

use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch};
use thalweg_core::Result;

use super::KeyedRunsOptions;
use super::entries::Entries;
use super::equality::{equal_rows, row_hashes, value_bytes, widest_row};
use super::position_set::PositionSet;

pub(super) struct Run {
    /// The deltas that this run is made of, by number. Runs are kept in this order, which is that of arrival.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) rows: RecordBatch,
    pub(super) entries: Entries,
    keys: KeyIndex,
    /// Whether two keys have the same hash.
    pub(super) collides: bool,
    row_index: Option<RowIndex>,
    /// Of the columns.
    pub(super) bytes: usize,
    pub(super) widest_row: usize,
    pub(super) stored: StoredRun,
}

/// What the store has of a run.
#[derive(Default)]
pub(super) struct StoredRun {
    /// Whether there is a slot of the run's name.
    pub(super) has_slot: bool,
    /// Whether its rows are those of the run.
    pub(super) is_current: bool,
    /// Rows that were changed since the run was written.
    pub(super) changed: PositionSet,
    /// Rows in the slot of changes, and how often it was added to.
    pub(super) written_changes: usize,
    pub(super) merges: usize,
}

impl Run {
    /// `rows`, `entries` and `hashes` are in order of the hashes.
    pub(super) fn new(
        options: &KeyedRunsOptions,
        deltas: (u64, u64),
        rows: RecordBatch,
        hashes: &[u64],
        entries: Entries,
    ) -> Result<Self> {
        let collides = has_collision(options, &rows, hashes)?;
        let row_index = options.is_updating.then(|| RowIndex::new(&rows)).transpose()?;
        Ok(Run {
            first: deltas.0,
            last: deltas.1,
            keys: KeyIndex::new(hashes),
            collides,
            row_index,
            bytes: value_bytes(rows.columns()),
            widest_row: widest_row(rows.columns()),
            rows,
            entries,
            stored: StoredRun::default(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The rows whose keys have this hash.
    pub(super) fn find(&self, hash: u64) -> Option<Range<u32>> {
        self.keys.find(hash)
    }

    /// Each hash with its rows, rising.
    pub(super) fn groups(&self) -> impl Iterator<Item = (u64, Range<u32>)> {
        self.keys.hashes.iter().zip(self.keys.starts.windows(2)).map(|(hash, pair)| (*hash, pair[0]..pair[1]))
    }

    /// The hash of the key of one row.
    pub(super) fn hash(&self, position: u32) -> u64 {
        self.keys.hashes[self.keys.starts.partition_point(|start| *start <= position) - 1]
    }

    /// Rows that may be the one with hash `row_hash`. Only runs of updating inputs can tell.
    pub(super) fn candidates(&self, row_hash: u64) -> impl Iterator<Item = u32> {
        self.row_index.iter().flat_map(move |index| index.candidates(row_hash))
    }

    pub(super) fn size_bytes(&self) -> usize {
        let index = self.row_index.as_ref().map_or(0, RowIndex::size_bytes);
        self.bytes + self.entries.size_bytes() + self.keys.size_bytes() + index + self.stored.changed.size_bytes()
    }
}

fn has_collision(options: &KeyedRunsOptions, rows: &RecordBatch, hashes: &[u64]) -> Result<bool> {
    let pairs = hashes.len().saturating_sub(1);
    let keys =
        |offset: usize| -> Vec<ArrayRef> { options.keys.iter().map(|key| rows.column(*key).slice(offset, pairs)).collect() };
    let equal = equal_rows(&keys(0), &keys(pairs.min(1)), pairs)?;
    Ok((0..pairs).any(|row| hashes[row] == hashes[row + 1] && !equal.value(row)))
}

/// From hashes of keys to rows.
struct KeyIndex {
    /// Each once, rising.
    hashes: Vec<u64>,
    /// The first row of each, then the number of rows.
    starts: Vec<u32>,
    buckets: Buckets,
}

impl KeyIndex {
    fn new(row_hashes: &[u64]) -> Self {
        let mut hashes = vec![];
        let mut starts = vec![];
        for (row, hash) in (0_u32..).zip(row_hashes) {
            if hashes.last() != Some(hash) {
                hashes.push(*hash);
                starts.push(row);
            }
        }
        starts.push(row_hashes.len() as u32);
        hashes.shrink_to_fit();
        starts.shrink_to_fit();
        let buckets = Buckets::new(&hashes);
        KeyIndex { hashes, starts, buckets }
    }

    fn find(&self, hash: u64) -> Option<Range<u32>> {
        let mut at = self.buckets.begin(hash);
        while *self.hashes.get(at)? < hash {
            at += 1;
        }
        (self.hashes[at] == hash).then(|| self.starts[at]..self.starts[at + 1])
    }

    fn size_bytes(&self) -> usize {
        self.hashes.len() * size_of::<u64>() + (self.starts.len() + self.buckets.starts.len()) * size_of::<u32>()
    }
}

/// From hashes of whole rows to rows: the upper half of the hash, then the row's position, sorted.
struct RowIndex {
    packed: Vec<u64>,
    buckets: Buckets,
}

const POSITION_BITS: u32 = 32;

impl RowIndex {
    fn new(rows: &RecordBatch) -> Result<Self> {
        let hashes = row_hashes(rows.columns(), rows.num_rows())?;
        let pack = |(position, hash): (u64, u64)| (hash >> POSITION_BITS << POSITION_BITS) | position;
        let mut packed: Vec<u64> = (0..).zip(hashes).map(pack).collect();
        packed.sort_unstable();
        let buckets = Buckets::new(&packed);
        Ok(RowIndex { packed, buckets })
    }

    fn candidates(&self, row_hash: u64) -> impl Iterator<Item = u32> {
        let wanted = row_hash >> POSITION_BITS;
        self.packed[self.buckets.begin(wanted << POSITION_BITS)..]
            .iter()
            .skip_while(move |packed| **packed >> POSITION_BITS < wanted)
            .take_while(move |packed| **packed >> POSITION_BITS == wanted)
            .map(|packed| *packed as u32)
    }

    fn size_bytes(&self) -> usize {
        self.packed.len() * size_of::<u64>() + self.buckets.starts.len() * size_of::<u32>()
    }
}

/// Where in a rising list of hashes to begin to look: hashes are spread evenly between the least and the greatest.
struct Buckets {
    least: u64,
    shift: u32,
    /// The first hash of each bucket, by place in the list; then the list's length.
    starts: Vec<u32>,
}

impl Buckets {
    fn new(rising: &[u64]) -> Self {
        let (least, greatest) = (rising.first().copied().unwrap_or(0), rising.last().copied().unwrap_or(0));
        // Between half a hash and two in a bucket.
        let bucket_bits = u64::BITS - (rising.len() as u64 / 2).max(1).leading_zeros();
        let shift = (u64::BITS - (greatest - least).leading_zeros()).saturating_sub(bucket_bits);
        let count = ((greatest - least) >> shift) as usize + 1;
        let mut starts = Vec::with_capacity(count + 1);
        for (place, hash) in (0_u32..).zip(rising) {
            let bucket = ((hash - least) >> shift) as usize;
            if starts.len() <= bucket {
                starts.resize(bucket + 1, place);
            }
        }
        starts.resize(count + 1, rising.len() as u32);
        Buckets { least, shift, starts }
    }

    /// No hash before this place is as great as `hash`.
    fn begin(&self, hash: u64) -> usize {
        let bucket = (hash.saturating_sub(self.least) >> self.shift) as usize;
        self.starts[bucket.min(self.starts.len() - 1)] as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_found(
            mut hashes in prop::collection::vec(prop_oneof![0_u64..40, any::<u64>(), Just(u64::MAX)], 0..200), other in any::<u64>(),
        ) {
            hashes.sort_unstable();
            let index = KeyIndex::new(&hashes);
            for hash in hashes.iter().copied().chain([0, 7, other, u64::MAX]) {
                let start = hashes.partition_point(|found| *found < hash) as u32;
                let end = hashes.partition_point(|found| *found <= hash) as u32;
                prop_assert_eq!(index.find(hash), (start < end).then_some(start..end));
            }
        }
    }
}

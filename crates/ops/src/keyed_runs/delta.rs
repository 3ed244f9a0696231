//! The newest rows, in order of arrival, with chains of equal keys.

use std::hash::{BuildHasherDefault, Hasher};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use hashbrown::HashMap;
use thalweg_core::Result;

use super::KeyedRunsOptions;
use super::entries::{Entries, UNTIMED};
use super::equality::{equal_rows, value_bytes, widest_row};
use super::probe::gather_from;

/// No row: the end of a chain.
pub(super) const NIL: u32 = u32::MAX;

/// Chunks with fewer rows are joined with their like, so that there are few.
const SMALL_CHUNK_ROWS: usize = 4_096;

/// What a row costs beside its columns, about.
const ROW_BYTES: usize = 32;

pub(super) struct Delta {
    /// Deltas are numbered; sealed, a delta becomes the run of its number.
    pub(super) number: u64,
    pub(super) chunks: Vec<RecordBatch>,
    /// The first row of each chunk, by position in the delta.
    starts: Vec<u32>,
    pub(super) entries: Entries,
    /// Of the key of each row.
    hashes: Vec<u64>,
    /// The live rows of a key, or of several when keys collide, in order of arrival.
    chains: HashMap<u64, Chain, Remixed>,
    next: Vec<u32>,
    /// Empty if rows never go.
    previous: Vec<u32>,
    /// For updating inputs: the rows of a row's hash, newest first.
    row_chains: HashMap<u64, u32, Remixed>,
    row_next: Vec<u32>,
    /// Whether two keys have the same hash.
    pub(super) collides: bool,
    /// Linked rows whose key has not yet been compared with that of the row that led the chain.
    unchecked: Vec<(u32, u32)>,
    value_bytes: usize,
    pub(super) widest_row: usize,
    unlinks: bool,
    pub(super) stored: StoredDelta,
}

/// What the store has of the delta.
#[derive(Default)]
pub(super) struct StoredDelta {
    pub(super) exists: bool,
    /// Rows of the delta that were written, by count.
    pub(super) rows: usize,
    /// Rows that were merged into the slot since it was last written whole, and how often.
    pub(super) merged_rows: usize,
    pub(super) merges: usize,
}

#[derive(Clone, Copy)]
struct Chain {
    head: u32,
    tail: u32,
}

impl Delta {
    pub(super) fn new(options: &KeyedRunsOptions, number: u64) -> Self {
        Delta {
            number,
            chunks: vec![],
            starts: vec![],
            entries: Entries::new(options.entry_kind()),
            hashes: vec![],
            chains: HashMap::default(),
            next: vec![],
            previous: vec![],
            row_chains: HashMap::default(),
            row_next: vec![],
            collides: false,
            unchecked: vec![],
            value_bytes: 0,
            widest_row: 0,
            unlinks: options.is_updating || options.time_to_live_ms.is_some(),
            stored: StoredDelta::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the columns and about what the rows cost beside them.
    pub(super) fn bytes(&self) -> usize {
        self.value_bytes + self.len() * ROW_BYTES
    }

    /// Adds columns whose rows follow by [`Delta::push`], one for each.
    pub(super) fn push_chunk(&mut self, rows: RecordBatch) {
        self.value_bytes += value_bytes(rows.columns());
        self.widest_row = self.widest_row.max(widest_row(rows.columns()));
        self.starts.push(self.len() as u32);
        self.chunks.push(rows);
    }

    /// The next row of the last chunk; with weight 0 it is not there and keeps a place only. Returns its position.
    pub(super) fn push(&mut self, hash: u64, weight: i64, matches: i64, touched: i64) -> u32 {
        let position = self.len() as u32;
        self.entries.push(weight, matches, touched);
        self.hashes.push(hash);
        self.next.push(NIL);
        if self.unlinks {
            self.previous.push(NIL);
        }
        if weight > 0 {
            self.link(position, hash);
        }
        position
    }

    /// As [`Delta::push`] for a new row of an updating input.
    pub(super) fn push_with_row_hash(&mut self, hash: u64, row_hash: u64, weight: i64) -> u32 {
        let position = self.push(hash, weight, 0, UNTIMED);
        self.link_row(position, row_hash);
        position
    }

    /// Makes the row found by [`Delta::candidates`].
    pub(super) fn link_row(&mut self, position: u32, row_hash: u64) {
        self.row_next.resize(position as usize + 1, NIL);
        if self.entries.is_live(position as usize) {
            let older = self.row_chains.insert(row_hash, position);
            self.row_next[position as usize] = older.unwrap_or(NIL);
        }
    }

    /// Live rows that may be the one with hash `row_hash`, newest first.
    pub(super) fn candidates(&self, row_hash: u64) -> impl Iterator<Item = u32> {
        let first = self.row_chains.get(&row_hash).copied();
        let following = |position: &u32| Some(self.row_next[*position as usize]).filter(|next| *next != NIL);
        std::iter::successors(first, following).filter(|position| self.entries.is_live(*position as usize))
    }

    /// Takes a row that is gone out of the chain of its key.
    pub(super) fn unlink(&mut self, position: u32) {
        let (previous, next) = (self.previous[position as usize], self.next[position as usize]);
        let hash = self.hashes[position as usize];
        if previous != NIL {
            self.next[previous as usize] = next;
        }
        if next != NIL {
            self.previous[next as usize] = previous;
        }
        if let Some(chain) = self.chains.get_mut(&hash) {
            match (previous, next) {
                (NIL, NIL) => {
                    self.chains.remove(&hash);
                }
                (NIL, next) => chain.head = next,
                (previous, NIL) => chain.tail = previous,
                _ => {}
            }
        }
    }

    /// Takes a row that is gone out of the list of its equals.
    pub(super) fn unlink_row(&mut self, position: u32, row_hash: u64) {
        let next = self.row_next[position as usize];
        match self.row_chains.get_mut(&row_hash) {
            Some(head) if *head == position && next == NIL => {
                self.row_chains.remove(&row_hash);
            }
            Some(head) if *head == position => *head = next,
            Some(head) => {
                let mut before = *head;
                while self.row_next[before as usize] != position && self.row_next[before as usize] != NIL {
                    before = self.row_next[before as usize];
                }
                self.row_next[before as usize] = next;
            }
            None => {}
        }
    }

    /// The first row of the chain of `hash`.
    pub(super) fn find(&self, hash: u64) -> Option<u32> {
        self.chains.get(&hash).map(|chain| chain.head)
    }

    /// The row behind `position` in its chain, or [`NIL`].
    pub(super) fn next(&self, position: u32) -> u32 {
        self.next[position as usize]
    }

    pub(super) fn hash(&self, position: u32) -> u64 {
        self.hashes[position as usize]
    }

    /// The chunk of a row, and its place in it.
    pub(super) fn locate(&self, position: u32) -> (usize, usize) {
        let chunk = self.starts.partition_point(|start| *start <= position) - 1;
        (chunk, (position - self.starts[chunk]) as usize)
    }

    /// One column at `positions`.
    pub(super) fn gather(&self, column: usize, positions: &[u32]) -> Result<ArrayRef> {
        let chunks: Vec<&ArrayRef> = self.chunks.iter().map(|chunk| chunk.column(column)).collect();
        gather_from(&chunks, positions.iter().map(|position| self.locate(*position)))
    }

    /// To be called when the rows of a batch are in.
    pub(super) fn settle(&mut self, options: &KeyedRunsOptions) -> Result<()> {
        let unchecked = std::mem::take(&mut self.unchecked);
        if !unchecked.is_empty() && !self.collides {
            let (rows, heads): (Vec<u32>, Vec<u32>) = unchecked.into_iter().unzip();
            let keys = |positions: &[u32]| -> Result<Vec<ArrayRef>> {
                options.keys.iter().map(|key| self.gather(*key, positions)).collect()
            };
            self.collides = equal_rows(&keys(&rows)?, &keys(&heads)?, rows.len())?.count_set_bits() < rows.len();
        }
        while let [.., previous, last] = self.chunks.as_slice()
            && previous.num_rows() <= last.num_rows()
            && last.num_rows() < SMALL_CHUNK_ROWS
        {
            let joined = concat_batches(last.schema_ref(), [previous, last])?;
            self.chunks.truncate(self.chunks.len() - 2);
            self.starts.pop();
            self.chunks.push(joined);
        }
        Ok(())
    }

    /// The live rows, in order of arrival.
    pub(super) fn live(&self) -> Vec<u32> {
        (0..self.len() as u32).filter(|position| self.entries.is_live(*position as usize)).collect()
    }

    pub(super) fn size_bytes(&self) -> usize {
        let chains = (self.chains.capacity() + self.row_chains.capacity()) * 17;
        let links = (self.next.capacity() + self.previous.capacity() + self.row_next.capacity()) * size_of::<u32>();
        self.value_bytes + chains + links + self.hashes.capacity() * size_of::<u64>() + self.entries.size_bytes()
    }

    fn link(&mut self, position: u32, hash: u64) {
        let chain = self.chains.entry(hash).or_insert(Chain { head: position, tail: NIL });
        if chain.tail != NIL {
            self.next[chain.tail as usize] = position;
            if self.unlinks {
                self.previous[position as usize] = chain.tail;
            }
            self.unchecked.push((position, chain.head));
        }
        chain.tail = position;
    }
}

type Remixed = BuildHasherDefault<Remix>;

/// Hashes of a lane share their upper bits, its key groups; a table needs them to differ.
#[derive(Default)]
struct Remix(u64);

impl Hasher for Remix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        // 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

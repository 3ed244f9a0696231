//! Values of groups, found by group and bytes.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A group at one time of its life: when it goes, what it held is not looked for any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Owner {
    pub(super) group: u32,
    pub(super) generation: u32,
}

#[derive(Clone, Copy)]
pub(super) struct Entry {
    hash: u64,
    /// Where its value begins.
    start: usize,
    pub(super) owner: Owner,
    /// Whether it is not as it was at the last snapshot.
    pub(super) is_changed: bool,
    pub(super) is_stored: bool,
}

/// Entries in order of arrival, each with `width` counts. They never go, but all together.
pub(super) struct Entries {
    by_hash: HashTable<u32>,
    entries: Vec<Entry>,
    /// The values, one behind the other.
    bytes: Vec<u8>,
    counts: Vec<i64>,
    width: usize,
}

impl Entries {
    pub(super) fn new(width: usize) -> Self {
        Entries { by_hash: HashTable::new(), entries: vec![], bytes: vec![], counts: vec![], width }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn size_bytes(&self) -> usize {
        let entries = self.entries.capacity() * size_of::<Entry>() + self.by_hash.capacity() * 5;
        entries + self.bytes.capacity() + self.counts.capacity() * 8
    }

    pub(super) fn get(&self, number: usize) -> &Entry {
        &self.entries[number]
    }

    pub(super) fn get_mut(&mut self, number: usize) -> &mut Entry {
        &mut self.entries[number]
    }

    pub(super) fn value(&self, number: usize) -> &[u8] {
        let end = self.entries.get(number + 1).map_or(self.bytes.len(), |next| next.start);
        &self.bytes[self.entries[number].start..end]
    }

    pub(super) fn counts(&self, number: usize) -> &[i64] {
        &self.counts[number * self.width..(number + 1) * self.width]
    }

    pub(super) fn counts_mut(&mut self, number: usize) -> &mut [i64] {
        &mut self.counts[number * self.width..(number + 1) * self.width]
    }

    pub(super) fn is_counted(&self, number: usize) -> bool {
        self.counts(number).iter().any(|count| *count != 0)
    }

    pub(super) fn find(&self, owner: Owner, value: &[u8]) -> Option<usize> {
        self.find_hashed(hash(owner, value), owner, value)
    }

    fn find_hashed(&self, hash: u64, owner: Owner, value: &[u8]) -> Option<usize> {
        let is_same = |number: &u32| {
            let entry = &self.entries[*number as usize];
            entry.hash == hash && entry.owner == owner && self.value(*number as usize) == value
        };
        self.by_hash.find(hash, is_same).map(|number| *number as usize)
    }

    /// The counts of a new entry are 0.
    pub(super) fn find_or_add(&mut self, owner: Owner, value: &[u8]) -> usize {
        let hash = hash(owner, value);
        match self.find_hashed(hash, owner, value) {
            Some(number) => number,
            None => self.add(Entry { hash, start: 0, owner, is_changed: false, is_stored: false }, value),
        }
    }

    fn add(&mut self, entry: Entry, value: &[u8]) -> usize {
        let number = self.entries.len();
        self.entries.push(Entry { start: self.bytes.len(), ..entry });
        self.bytes.extend_from_slice(value);
        self.counts.resize(self.counts.len() + self.width, 0);
        let entries = &self.entries;
        // Four billion entries would take 200 GB.
        self.by_hash.insert_unique(entry.hash, number as u32, |other| entries[*other as usize].hash);
        number
    }

    /// Those of the entries that are wanted, in the same order.
    pub(super) fn only(&self, is_wanted: impl Fn(usize) -> bool) -> Entries {
        let mut kept = Entries::new(self.width);
        for number in (0..self.len()).filter(|number| is_wanted(*number)) {
            let moved = kept.add(self.entries[number], self.value(number));
            kept.counts_mut(moved).copy_from_slice(self.counts(number));
        }
        kept
    }
}

fn hash(owner: Owner, value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, u64::from(owner.group) | u64::from(owner.generation) << 32)
}

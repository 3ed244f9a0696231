//! Keys to group numbers, with numbers used again.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::item_slots::Life;

/// The groups that hold rows.
pub(super) struct Groups {
    numbers: HashMap<Arc<[u8]>, usize>,
    /// By number. A number that is free has no key.
    groups: Vec<Group>,
    free: Vec<usize>,
    /// Keys that changed since the last snapshot: present ones, and ones that are gone and stored.
    dirty: HashSet<Arc<[u8]>>,
    key_bytes: usize,
}

#[derive(Clone, Default)]
struct Group {
    key: Option<Arc<[u8]>>,
    rows: i64,
    /// Tells it from one of the same key that is gone.
    life: Life,
    /// Whether the store has a row of this key.
    is_stored: bool,
}

impl Default for Groups {
    fn default() -> Self {
        // The first number is never given away.
        Groups { numbers: HashMap::new(), groups: vec![Group::default()], free: vec![], dirty: HashSet::new(), key_bytes: 0 }
    }
}

impl Groups {
    /// A group that never holds rows.
    pub(super) const BLANK: usize = 0;

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// One more than the greatest number.
    pub(super) fn capacity(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        self.numbers.get(key).copied()
    }

    pub(super) fn find_or_add(&mut self, key: &[u8]) -> usize {
        if let Some(group) = self.find(key) {
            return group;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.groups.push(Group::default());
            self.groups.len() - 1
        });
        let key: Arc<[u8]> = key.into();
        self.key_bytes += key.len();
        // A key that is gone and still marked is one that the store has.
        self.groups[number] = Group { key: Some(key.clone()), rows: 0, life: 0, is_stored: self.dirty.contains(&key) };
        self.numbers.insert(key, number);
        number
    }

    pub(super) fn rows(&self, group: usize) -> i64 {
        self.groups[group].rows
    }

    pub(super) fn set_rows(&mut self, group: usize, rows: i64) {
        self.groups[group].rows = rows;
    }

    pub(super) fn life(&self, group: usize) -> Life {
        self.groups[group].life
    }

    pub(super) fn set_life(&mut self, group: usize, life: Life) {
        self.groups[group].life = life;
    }

    /// The key of a group that is there.
    pub(super) fn key(&self, group: usize) -> Option<&Arc<[u8]>> {
        self.groups[group].key.as_ref()
    }

    /// The groups that are there, with their lives.
    pub(super) fn lives(&self) -> impl Iterator<Item = (Life, usize)> {
        self.numbers.values().map(|group| (self.life(*group), *group))
    }

    pub(super) fn mark_dirty(&mut self, group: usize) {
        if let Some(key) = &self.groups[group].key
            && !self.dirty.contains(key)
        {
            self.dirty.insert(key.clone());
        }
    }

    /// Gives the number of an empty group back; its state must be blank.
    pub(super) fn remove_if_empty(&mut self, group: usize) {
        if self.groups[group].rows > 0 {
            return;
        }
        let Group { key: Some(key), is_stored, .. } = std::mem::take(&mut self.groups[group]) else {
            return;
        };
        self.numbers.remove(&key);
        self.key_bytes -= key.len();
        self.free.push(group);
        // What was never stored need not be taken out of the store.
        if !is_stored {
            self.dirty.remove(&key);
        }
    }

    /// All keys, in order.
    pub(super) fn keys(&self) -> Vec<Arc<[u8]>> {
        sorted(self.numbers.keys())
    }

    /// The keys that changed since [`Groups::mark_stored`], in order.
    pub(super) fn dirty(&self) -> Vec<Arc<[u8]>> {
        sorted(self.dirty.iter())
    }

    /// The store now has what we have.
    pub(super) fn mark_stored(&mut self) {
        for key in self.dirty.drain() {
            if let Some(group) = self.numbers.get(&key) {
                self.groups[*group].is_stored = true;
            }
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.key_bytes + self.numbers.capacity() * 32 + self.groups.capacity() * size_of::<Group>()
    }
}

fn sorted<'a>(keys: impl Iterator<Item = &'a Arc<[u8]>>) -> Vec<Arc<[u8]>> {
    let mut keys: Vec<Arc<[u8]>> = keys.cloned().collect();
    keys.sort_unstable();
    keys
}

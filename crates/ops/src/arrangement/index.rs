//! From keys to their rows.

use hashbrown::HashMap;

use super::RowId;

/// Most keys have one row.
enum Ids {
    One(RowId),
    /// Oldest first, never empty.
    Many(Vec<RowId>),
}

#[derive(Default)]
pub(super) struct Index {
    keys: HashMap<Box<[u8]>, Ids>,
    key_bytes: usize,
    many_ids: usize,
}

impl Index {
    /// Adds a row, younger than all others of its key.
    pub(super) fn insert(&mut self, key: &[u8], id: RowId) {
        match self.keys.get_mut(key) {
            None => {
                self.key_bytes += key.len();
                self.keys.insert(key.into(), Ids::One(id));
            }
            Some(ids) => match ids {
                Ids::One(first) => {
                    *ids = Ids::Many(vec![*first, id]);
                    self.many_ids += 2;
                }
                Ids::Many(ids) => {
                    ids.push(id);
                    self.many_ids += 1;
                }
            },
        }
    }

    pub(super) fn remove(&mut self, key: &[u8], id: RowId) {
        let Some(ids) = self.keys.get_mut(key) else {
            return;
        };
        let is_last = match ids {
            Ids::One(only) => *only == id,
            Ids::Many(ids) => {
                if let Ok(position) = ids.binary_search(&id) {
                    ids.remove(position);
                    self.many_ids -= 1;
                }
                ids.is_empty()
            }
        };
        if is_last {
            self.keys.remove(key);
            self.key_bytes -= key.len();
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> &[RowId] {
        match self.keys.get(key) {
            None => &[],
            Some(Ids::One(id)) => std::slice::from_ref(id),
            Some(Ids::Many(ids)) => ids,
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.keys.capacity() * (size_of::<Box<[u8]>>() + size_of::<Ids>() + 1)
            + self.key_bytes
            + self.many_ids * size_of::<RowId>()
    }
}

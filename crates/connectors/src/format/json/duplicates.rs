//! Keys that occur more than once in a JSON object read as MAP.

use std::collections::HashMap;

use crate::format::columns::Strings;

/// Up to this many entries are compared one with another; more go through a hash table.
const PAIRWISE_MAX: usize = 8;

/// The ordinals, from 0 and ascending, of those entries whose key comes again among the rows `start..end` of `keys`: the last
/// one counts. `None` when all keys differ.
pub fn overwritten_entries(keys: &Strings, start: usize, end: usize) -> Option<Vec<usize>> {
    let count = end - start;
    if count <= PAIRWISE_MAX {
        let comes_again = |row: usize| (row + 1..end).any(|later| keys.get(later) == keys.get(row));
        if !(start..end).any(comes_again) {
            return None;
        }
        return Some((start..end).filter(|row| comes_again(*row)).map(|row| row - start).collect());
    }
    let mut last_of_key = HashMap::with_capacity(count);
    let mut overwritten: Vec<usize> =
        (0..count).filter_map(|ordinal| last_of_key.insert(keys.get(start + ordinal), ordinal)).collect();
    overwritten.sort_unstable();
    (!overwritten.is_empty()).then_some(overwritten)
}

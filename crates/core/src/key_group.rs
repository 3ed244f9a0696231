//! Keys to key groups to lanes. Both steps are part of the checkpoint format and must never change.

use std::ops::Range;

/// The number of key groups: fixed, so that state written by N lanes can be read by M.
pub const KEY_GROUPS: u16 = 128;

/// One of the [`KEY_GROUPS`] shares of the key space.
pub type KeyGroup = u16;

/// A hash of key bytes that is the same in every process and every release (XXH3, seed 0).
pub fn stable_hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// The key group of a key whose [`stable_hash`] is `hash`.
pub fn key_group_of_hash(hash: u64) -> KeyGroup {
    // The high bits: hash tables inside operators use the low ones.
    (hash >> 57) as KeyGroup
}

/// The key groups of lane `lane` of `lanes`: contiguous, disjoint, together all of them.
pub fn key_groups_of_lane(lane: u32, lanes: u32) -> Range<KeyGroup> {
    let groups = u32::from(KEY_GROUPS);
    let start = lane * groups / lanes;
    let end = (lane + 1) * groups / lanes;
    start as KeyGroup..end as KeyGroup
}

/// The lane that owns `group` when there are `lanes` of them.
pub fn lane_of_key_group(group: KeyGroup, lanes: u32) -> u32 {
    // The inverse of `start = lane * groups / lanes`: the last lane whose start is not after `group`.
    ((u32::from(group) + 1) * lanes - 1) / u32::from(KEY_GROUPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_all_groups() {
        for lanes in 1..=u32::from(KEY_GROUPS) {
            let mut next = 0;
            for lane in 0..lanes {
                let range = key_groups_of_lane(lane, lanes);
                assert_eq!(range.start, next, "gap before lane {lane} of {lanes}");
                for group in range.clone() {
                    assert_eq!(lane_of_key_group(group, lanes), lane, "group {group} of {lanes} lanes");
                }
                next = range.end;
            }
            assert_eq!(next, KEY_GROUPS);
        }
    }

    #[test]
    fn hash_is_part_of_the_format() {
        assert_eq!(stable_hash(b"thalweg"), stable_hash(b"thalweg"));
        assert_eq!(stable_hash(b""), 0x2d06800538d394c2);
    }
}

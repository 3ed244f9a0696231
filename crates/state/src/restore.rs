//! Reading operator state back, at any number of lanes.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt16Type;
use bytes::Bytes;
use thalweg_core::{KeyGroup, LaneId, Result};

use crate::checksum::crc32;
use crate::state_object::decode_batch;
use crate::{JobStore, Manifest, SlotId, StateKind, StatePart, StateRef};

/// A stretch of an object is read in one request up to this size, gaps included.
const READ_BYTES_MAX: u64 = 32 << 20;
/// Unneeded bytes between two needed stretches that are read along rather than asking twice.
const GAP_BYTES_MAX: u64 = 256 << 10;

/// The live state of `operator`, reduced to rows of `key_groups`: one part per slot and lane that wrote it, slots in order of
/// their ids, lanes in order within a slot. Parts without rows are left out.
/// # Errors
/// `Corrupt`, naming the object, when bytes are missing or are not what was written; `Unavailable` when the store is away.
pub fn load_parts(store: &JobStore, manifest: &Manifest, operator: &str, key_groups: Range<KeyGroup>) -> Result<Vec<StatePart>> {
    let mut slots: BTreeMap<(&SlotId, LaneId), Vec<&StateRef>> = BTreeMap::new();
    for state in manifest.state.iter().filter(|state| state.operator == operator) {
        let batches = slots.entry((&state.slot, state.lane)).or_default();
        if state.kind == StateKind::Replace {
            batches.clear();
        }
        batches.push(state);
    }
    let mut bytes = read_all(store, slots.values().flatten().copied())?;
    let mut parts = vec![];
    for ((slot, _), refs) in slots {
        let mut batches = vec![];
        for state in refs {
            // Each stretch is let go once it is decoded.
            let encoded = match bytes.remove(&place(state)) {
                Some(encoded) => encoded,
                None => store.read(&state.object, state.offset, state.length, state.crc32)?,
            };
            let batch = rows_of_key_groups(decode_batch(&encoded, state)?, &key_groups)?;
            if batch.num_rows() > 0 {
                batches.push(batch);
            }
        }
        if !batches.is_empty() {
            parts.push(StatePart { slot: slot.clone(), batches });
        }
    }
    Ok(parts)
}

fn place(state: &StateRef) -> (&str, u64) {
    (state.object.as_str(), state.offset)
}

/// The bytes of each reference, neighbours in one request. A stretch whose checksum is wrong is left out: reading it alone
/// tries again and gives the error.
fn read_all<'a>(store: &JobStore, refs: impl Iterator<Item = &'a StateRef>) -> Result<HashMap<(&'a str, u64), Bytes>> {
    let mut sorted: Vec<&StateRef> = refs.collect();
    sorted.sort_by_key(|state| place(state));
    let mut found = HashMap::new();
    let mut rest = sorted.as_slice();
    while let Some(first) = rest.first() {
        let mut end = first.offset.saturating_add(first.length);
        let follows = |state: &&StateRef, end: u64| {
            state.object == first.object
                && state.offset.saturating_sub(end) <= GAP_BYTES_MAX
                && state.offset.saturating_add(state.length) - first.offset <= READ_BYTES_MAX
        };
        let mut count = 1;
        while let Some(next) = rest.get(count).filter(|next| follows(next, end)) {
            end = end.max(next.offset.saturating_add(next.length));
            count += 1;
        }
        let (together, others) = rest.split_at(count);
        rest = others;
        let stretch = store.read_range(&first.object, first.offset..end)?;
        for state in together {
            let start = (state.offset - first.offset) as usize;
            let bytes = stretch.slice(start..start + state.length as usize);
            if crc32(&bytes) == state.crc32 {
                found.insert(place(state), bytes);
            }
        }
    }
    Ok(found)
}

fn rows_of_key_groups(batch: RecordBatch, key_groups: &Range<KeyGroup>) -> Result<RecordBatch> {
    let groups = batch.column(0).as_primitive::<UInt16Type>();
    if groups.values().iter().all(|group| key_groups.contains(group)) {
        return Ok(batch);
    }
    let mask: BooleanArray = groups.values().iter().map(|group| Some(key_groups.contains(group))).collect();
    Ok(filter_record_batch(&batch, &mask)?)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;
    use thalweg_core::{Epoch, ErrorKind, Generation, KEY_GROUPS, Rand, SeededRand, key_groups_of_lane, lane_of_key_group};

    use super::*;
    use crate::test_support::{TestStore, sample_manifest, state_batch};
    use crate::{ObjectKind, SlotChange, StateDelta, StateObjectBuilder, apply};

    /// A manifest whose operator `op` holds `rows` (key group, value) in slot `value % 3`, written by `lanes` lanes in two
    /// epochs.
    fn written_by(store: &TestStore, lanes: u32, rows: &[(u16, i64)]) -> Manifest {
        let mut manifest = sample_manifest(1);
        manifest.state.clear();
        let mut rand = SeededRand::new(1);
        for (number, epoch_rows) in rows.chunks(rows.len().div_ceil(2).max(1)).enumerate() {
            for lane in 0..lanes {
                let mut builder = StateObjectBuilder::new(LaneId(lane));
                for slot in 0..3 {
                    let of_slot = |row: &&(u16, i64)| lane_of_key_group(row.0, lanes) == lane && row.1.rem_euclid(3) == slot;
                    let rows: Vec<_> = epoch_rows.iter().filter(of_slot).copied().collect();
                    let change = match number {
                        0 => SlotChange::Replace(state_batch(&rows)),
                        _ => SlotChange::Merge(state_batch(&rows)),
                    };
                    builder.add("op", &StateDelta { changes: vec![(SlotId(slot.to_string()), change)] }).unwrap();
                    builder
                        .add(
                            "other",
                            &StateDelta { changes: vec![(SlotId("x".into()), SlotChange::Replace(state_batch(&[(1, 1)])))] },
                        )
                        .unwrap();
                }
                let packed = builder.finish();
                let object = store.jobs.put(
                    ObjectKind::State,
                    Generation(1),
                    Epoch(1),
                    LaneId(lane),
                    &rand.unique_id(),
                    packed.bytes.clone(),
                );
                let packed = packed.stored_as(&object.unwrap());
                manifest.state = apply(&manifest.state, LaneId(lane), packed.refs, &packed.drops);
            }
        }
        manifest
    }

    fn values(parts: &[StatePart]) -> Vec<(String, u16, i64)> {
        let mut found = vec![];
        for part in parts {
            for batch in &part.batches {
                let groups = batch.column(0).as_primitive::<UInt16Type>().values();
                let values = batch.column(1).as_primitive::<Int64Type>().values();
                found.extend(groups.iter().zip(values).map(|(group, value)| (part.slot.0.clone(), *group, *value)));
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// State written by N lanes and read by M lanes is the same rows, each in the lane of its key group.
        #[test]
        fn state_can_be_read_at_another_number_of_lanes(
            rows in proptest::collection::vec((0..KEY_GROUPS, any::<i64>()), 0..60), writers in 1u32..5, readers in 1u32..6,
        ) {
            let store = TestStore::in_memory();
            let manifest = written_by(&store, writers, &rows);
            let mut found = vec![];
            for lane in 0..readers {
                let key_groups = key_groups_of_lane(lane, readers);
                let parts = load_parts(&store.jobs, &manifest, "op", key_groups.clone()).unwrap();
                let slots: Vec<&SlotId> = parts.iter().map(|part| &part.slot).collect();
                prop_assert!(slots.is_sorted());
                let lane_rows = values(&parts);
                prop_assert!(lane_rows.iter().all(|(_, group, _)| key_groups.contains(group)));
                found.extend(lane_rows);
            }
            found.sort();
            let mut expected: Vec<_> = rows.iter().map(|(group, n)| (n.rem_euclid(3).to_string(), *group, *n)).collect();
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn merges_stay_in_order() {
        let store = TestStore::in_memory();
        let rows: Vec<(u16, i64)> = (0..20).map(|n| (7, n * 3)).collect();
        let manifest = written_by(&store, 1, &rows);
        let found: Vec<i64> =
            values(&load_parts(&store.jobs, &manifest, "op", 0..KEY_GROUPS).unwrap()).iter().map(|row| row.2).collect();
        assert_eq!(found, rows.iter().map(|row| row.1).collect::<Vec<_>>());
        assert!(load_parts(&store.jobs, &manifest, "op", 8..KEY_GROUPS).unwrap().is_empty());
        assert!(load_parts(&store.jobs, &manifest, "unknown", 0..KEY_GROUPS).unwrap().is_empty());
    }

    #[test]
    fn changed_and_missing_bytes_are_noticed() {
        let store = TestStore::in_memory();
        let rows: Vec<(u16, i64)> = (0..200).map(|n| ((n % 128) as u16, n * 77)).collect();
        let manifest = written_by(&store, 2, &rows);
        let victim = manifest.state.iter().find(|state| state.operator == "op").unwrap();
        let original = store.bytes_of(&victim.object);
        for at in (victim.offset..victim.offset + victim.length).step_by(61) {
            let mut changed = original.to_vec();
            changed[at as usize] ^= 0x10;
            store.overwrite(&victim.object, changed);
            let error = load_parts(&store.jobs, &manifest, "op", 0..KEY_GROUPS).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Corrupt, "byte {at}");
            assert!(error.message.contains(&victim.object), "{}", error.message);
        }
        store.overwrite(&victim.object, original[..original.len() / 2].to_vec());
        assert_eq!(load_parts(&store.jobs, &manifest, "op", 0..KEY_GROUPS).unwrap_err().kind, ErrorKind::Corrupt);
        store.delete(&victim.object);
        let error = load_parts(&store.jobs, &manifest, "op", 0..KEY_GROUPS).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
        assert!(error.message.contains(&victim.object) && error.message.contains("missing"), "{}", error.message);
        store.overwrite(&victim.object, original.to_vec());
        assert_eq!(values(&load_parts(&store.jobs, &manifest, "op", 0..KEY_GROUPS).unwrap()).len(), 200);
    }
}

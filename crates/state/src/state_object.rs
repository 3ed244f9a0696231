//! Writing operator state: the deltas of one lane and epoch packed into one object.
//!
//! Each batch is an Arrow IPC stream of its own (lz4-frame compressed buffers), so that a restart reads only live ones.

use std::collections::HashSet;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt16Type;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use thalweg_core::{Error, KEY_GROUPS, LaneId, Result};

use crate::checksum::crc32;
use crate::{KEY_GROUP_COLUMN, SlotChange, SlotId, StateDelta, StateKind, StateRef};

/// Packs the deltas of all operators of one lane and epoch.
#[derive(Debug)]
pub struct StateObjectBuilder {
    lane: LaneId,
    batches: Vec<(StateRef, Vec<u8>)>,
    drops: Vec<(String, SlotId)>,
}

/// What [`StateObjectBuilder::finish`] gives: the object to store, and what changes in the manifest.
#[derive(Clone, Debug)]
pub struct PackedState {
    /// Empty when no batch was added: then nothing needs to be stored.
    pub bytes: Bytes,
    /// In the order in which they apply; `object` is empty until [`PackedState::stored_as`].
    pub refs: Vec<StateRef>,
    /// Operator and slot of earlier batches that no longer count. They come before `refs`.
    pub drops: Vec<(String, SlotId)>,
}

impl StateObjectBuilder {
    pub fn new(lane: LaneId) -> Self {
        StateObjectBuilder { lane, batches: vec![], drops: vec![] }
    }

    /// Adds the changes of one operator, in their order. `operator` is the plan's operator id, or `<id>/<part>`.
    /// # Errors
    /// `Internal` when a batch does not begin with [`KEY_GROUP_COLUMN`] or cannot be encoded: the epoch must fail.
    pub fn add(&mut self, operator: &str, delta: &StateDelta) -> Result<()> {
        for (slot, change) in &delta.changes {
            match change {
                SlotChange::Replace(batch) => {
                    self.forget(operator, slot);
                    self.push(operator, slot, StateKind::Replace, batch)?;
                }
                SlotChange::Merge(batch) if batch.num_rows() == 0 => {}
                SlotChange::Merge(batch) => self.push(operator, slot, StateKind::Merge, batch)?,
                SlotChange::Drop => {
                    self.forget(operator, slot);
                    self.drops.push((operator.to_string(), slot.clone()));
                }
            }
        }
        Ok(())
    }

    /// The object and its references. `drops` name slots of earlier epochs only: what was dropped or replaced within this
    /// epoch is not in the object.
    pub fn finish(self) -> PackedState {
        let mut bytes = Vec::with_capacity(self.batches.iter().map(|(_, encoded)| encoded.len()).sum());
        let mut refs = Vec::with_capacity(self.batches.len());
        for (mut state, encoded) in self.batches {
            state.offset = bytes.len() as u64;
            bytes.extend_from_slice(&encoded);
            refs.push(state);
        }
        PackedState { bytes: bytes.into(), refs, drops: self.drops }
    }

    fn forget(&mut self, operator: &str, slot: &SlotId) {
        self.batches.retain(|(state, _)| !(state.operator == operator && state.slot == *slot));
    }

    fn push(&mut self, operator: &str, slot: &SlotId, kind: StateKind, batch: &RecordBatch) -> Result<()> {
        let named = |what: &str| format!("state of operator {operator}, slot {slot}, {what}");
        check_key_groups(batch).map_err(|what| Error::internal(named(&what)))?;
        let encoded = encode_batch(batch).map_err(|error| Error::internal(named("cannot be encoded")).with_cause(error))?;
        let state = StateRef {
            operator: operator.to_string(),
            slot: slot.clone(),
            lane: self.lane,
            kind,
            object: String::new(),
            offset: 0,
            length: encoded.len() as u64,
            crc32: crc32(&encoded),
            rows: batch.num_rows() as u64,
        };
        self.batches.push((state, encoded));
        Ok(())
    }
}

impl PackedState {
    /// The same with the object's name in every reference.
    pub fn stored_as(mut self, object: &str) -> Self {
        for state in &mut self.refs {
            state.object = object.to_string();
        }
        self
    }
}

/// The live state after an epoch of `lane`: `previous` without the slots of that lane that were dropped or replaced, then
/// `new`. The order within each list is kept, for it is the order in which batches apply.
pub fn apply(previous: &[StateRef], lane: LaneId, new: Vec<StateRef>, drops: &[(String, SlotId)]) -> Vec<StateRef> {
    let dropped = drops.iter().map(|(operator, slot)| (operator.as_str(), slot));
    let replaced = new.iter().filter(|state| state.kind == StateKind::Replace).map(|s| (s.operator.as_str(), &s.slot));
    let gone: HashSet<(&str, &SlotId)> = dropped.chain(replaced).collect();
    let is_live = |state: &&StateRef| state.lane != lane || !gone.contains(&(state.operator.as_str(), &state.slot));
    let mut live: Vec<StateRef> = previous.iter().filter(is_live).cloned().collect();
    live.extend(new);
    live
}

/// The live state after a full epoch: exactly `new`, the references of all lanes.
///
/// The first epoch after a claim at another number of lanes than [`crate::Manifest::lanes`] must be full: each operator writes a
/// `Replace` for every slot it holds, since slots of the old lanes do not fit those of the new ones.
/// # Errors
/// `Internal` when a slot begins with a `Merge`: what it was to be merged with would be lost.
pub fn apply_full(new: Vec<StateRef>) -> Result<Vec<StateRef>> {
    let mut begun = HashSet::new();
    for state in &new {
        let is_first = begun.insert((&state.operator, &state.slot, state.lane));
        if is_first && state.kind == StateKind::Merge {
            return Err(Error::internal(format!(
                "operator {} wrote only changes of slot {} in lane {} in an epoch that must hold all state",
                state.operator, state.slot, state.lane.0
            )));
        }
    }
    Ok(new)
}

/// Whether the first column is [`KEY_GROUP_COLUMN`], UInt16, without nulls, of groups that exist. Else what is wrong.
pub(crate) fn check_key_groups(batch: &RecordBatch) -> Result<(), String> {
    let schema = batch.schema();
    if schema.fields().first().is_none_or(|field| field.name() != KEY_GROUP_COLUMN) {
        return Err(format!("does not begin with column \"{KEY_GROUP_COLUMN}\""));
    }
    let Some(groups) = batch.column(0).as_primitive_opt::<UInt16Type>() else {
        return Err(format!("has column \"{KEY_GROUP_COLUMN}\" of type {} and not UInt16", batch.column(0).data_type()));
    };
    if groups.null_count() > 0 || groups.values().iter().any(|group| *group >= KEY_GROUPS) {
        return Err(format!("has a row without a key group below {KEY_GROUPS}"));
    }
    Ok(())
}

fn encode_batch(batch: &RecordBatch) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(vec![], &batch.schema(), options)?;
    writer.write(batch)?;
    writer.finish()?;
    writer.into_inner()
}

/// Reads what [`StateObjectBuilder`] wrote for one reference; the checksum was verified before.
pub(crate) fn decode_batch(bytes: &[u8], state: &StateRef) -> Result<RecordBatch> {
    let damaged = |what: String| {
        Error::corrupt(format!(
            "checkpoint object \"{}\" is damaged: the state of operator {}, slot {}, {what}",
            state.object, state.operator, state.slot
        ))
    };
    let unreadable = |error: arrow::error::ArrowError| damaged("is not Arrow data".to_string()).with_cause(error);
    let mut reader = StreamReader::try_new(bytes, None).map_err(unreadable)?;
    let batch = match reader.next() {
        Some(batch) => batch.map_err(unreadable)?,
        None => return Err(damaged("has no rows".to_string())),
    };
    if batch.num_rows() as u64 != state.rows || reader.next().is_some() {
        return Err(damaged(format!("does not have its {} rows", state.rows)));
    }
    check_key_groups(&batch).map_err(damaged)?;
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{Int64Array, UInt16Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;
    use thalweg_core::ErrorKind;

    use super::*;
    use crate::test_support::state_batch;

    fn slot(name: &str) -> SlotId {
        SlotId(name.to_string())
    }

    fn pack(lane: u32, operator: &str, changes: Vec<(SlotId, SlotChange)>) -> PackedState {
        let mut builder = StateObjectBuilder::new(LaneId(lane));
        builder.add(operator, &StateDelta { changes }).unwrap();
        builder.finish()
    }

    #[test]
    fn a_batch_without_key_groups_is_refused() {
        let other = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as _)]).unwrap();
        let wrong_type = RecordBatch::try_from_iter([(KEY_GROUP_COLUMN, Arc::new(Int64Array::from(vec![1])) as _)]).unwrap();
        let nulls = RecordBatch::try_from_iter([(KEY_GROUP_COLUMN, Arc::new(UInt16Array::from(vec![None])) as _)]).unwrap();
        let beyond = state_batch(&[(KEY_GROUPS, 1)]);
        for batch in [other, wrong_type, nulls, beyond] {
            let changes = vec![(slot("a"), SlotChange::Replace(batch))];
            let error = StateObjectBuilder::new(LaneId(0)).add("op", &StateDelta { changes }).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Internal);
        }
    }

    #[test]
    fn changes_undone_within_the_epoch_are_not_stored() {
        let batch = state_batch(&[(1, 10)]);
        let packed = pack(
            0,
            "op",
            vec![
                (slot("a"), SlotChange::Merge(batch.clone())),
                (slot("a"), SlotChange::Replace(batch.clone())),
                (slot("b"), SlotChange::Merge(batch.clone())),
                (slot("b"), SlotChange::Drop),
                (slot("c"), SlotChange::Merge(batch.slice(0, 0))),
            ],
        );
        let kept: Vec<_> = packed.refs.iter().map(|state| (state.slot.0.as_str(), state.kind)).collect();
        assert_eq!(kept, [("a", StateKind::Replace)]);
        assert_eq!(packed.drops, [("op".to_string(), slot("b"))]);
        assert_eq!(packed.bytes.len() as u64, packed.refs[0].length);
        assert_eq!(decode_batch(&packed.bytes, &packed.refs[0]).unwrap(), batch);
    }

    #[test]
    fn columns_of_all_kinds_survive() {
        let schema = Schema::new(vec![
            Field::new(KEY_GROUP_COLUMN, DataType::UInt16, false),
            Field::new("text", DataType::Utf8, true),
            Field::new("n", DataType::Decimal128(38, 6), true),
        ]);
        let text = arrow::array::StringArray::from(vec![None, Some("ü"), Some("")]);
        let n = arrow::array::Decimal128Array::from(vec![Some(i128::MAX / 3), None, Some(-1)]);
        let n = n.with_precision_and_scale(38, 6).unwrap();
        let groups = UInt16Array::from(vec![0, 64, 127]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(groups), Arc::new(text), Arc::new(n)]).unwrap();
        let packed = pack(3, "op", vec![(slot("s"), SlotChange::Replace(batch.slice(1, 2)))]);
        assert_eq!(decode_batch(&packed.bytes, &packed.refs[0]).unwrap(), batch.slice(1, 2));
    }

    #[test]
    fn a_full_epoch_must_begin_slots_afresh() {
        let batch = state_batch(&[(1, 10)]);
        let replaced =
            pack(0, "op", vec![(slot("a"), SlotChange::Replace(batch.clone())), (slot("a"), SlotChange::Merge(batch.clone()))]);
        assert_eq!(apply_full(replaced.refs.clone()).unwrap(), replaced.refs);
        let merged = pack(0, "op", vec![(slot("a"), SlotChange::Merge(batch))]);
        assert_eq!(apply_full(merged.refs).unwrap_err().kind, ErrorKind::Internal);
    }

    /// Slot contents as a plain model: rows per (operator, slot, lane).
    type Model = BTreeMap<(String, String, u32), Vec<i64>>;

    #[derive(Clone, Debug)]
    enum Change {
        Replace(Vec<i64>),
        Merge(Vec<i64>),
        Drop,
    }

    fn change() -> impl Strategy<Value = Change> {
        let rows = proptest::collection::vec(any::<i64>(), 0..4);
        prop_oneof![rows.clone().prop_map(Change::Replace), rows.prop_map(Change::Merge), Just(Change::Drop)]
    }

    proptest! {
        /// Epochs of random changes in three lanes leave the rows that a plain map of vectors has.
        #[test]
        fn live_references_hold_what_a_model_holds(
            epochs in proptest::collection::vec((0u32..3, proptest::collection::vec((0u8..2, 0u8..3, change()), 0..8)), 0..10)
        ) {
            let mut model = Model::new();
            let mut live: Vec<StateRef> = vec![];
            let mut objects = BTreeMap::new();
            for (number, (lane, changes)) in epochs.into_iter().enumerate() {
                let mut builder = StateObjectBuilder::new(LaneId(lane));
                for (operator, name, change) in changes {
                    let (operator, name) = (format!("op{operator}"), format!("slot{name}"));
                    let content = model.entry((operator.clone(), name.clone(), lane)).or_default();
                    let rows_of = |rows: &[i64]| state_batch(&rows.iter().map(|n| (5, *n)).collect::<Vec<_>>());
                    let change = match change {
                        Change::Replace(rows) => { content.clone_from(&rows); SlotChange::Replace(rows_of(&rows)) }
                        Change::Merge(rows) => { content.extend(&rows); SlotChange::Merge(rows_of(&rows)) }
                        Change::Drop => { content.clear(); SlotChange::Drop }
                    };
                    builder.add(&operator, &StateDelta { changes: vec![(SlotId(name), change)] }).unwrap();
                }
                let object = format!("state/{number}");
                let packed = builder.finish().stored_as(&object);
                objects.insert(object, packed.bytes.clone());
                live = apply(&live, LaneId(lane), packed.refs, &packed.drops);
            }
            let mut found = Model::new();
            for state in &live {
                let bytes = &objects[&state.object][state.offset as usize..(state.offset + state.length) as usize];
                prop_assert_eq!(crc32(bytes), state.crc32);
                let batch = decode_batch(bytes, state).unwrap();
                let content = found.entry((state.operator.clone(), state.slot.0.clone(), state.lane.0)).or_default();
                if state.kind == StateKind::Replace {
                    prop_assert!(content.is_empty(), "a replaced batch is still named");
                }
                content.extend(batch.column(1).as_primitive::<arrow::datatypes::Int64Type>().values());
            }
            model.retain(|_, rows| !rows.is_empty());
            found.retain(|_, rows| !rows.is_empty());
            prop_assert_eq!(found, model);
        }
    }
}

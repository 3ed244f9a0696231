//! The slots of state that is stored item by item.
//!
//! `<base>.items-<number>`, one for each of an operator's [`StoredItems`]: `[key_group, life: FixedSizeBinary(16), columns…]`. Of an
//! item of a group the last row holds. A life names a group from its first snapshot to its end; it stands in the group's own row.
//! Rows of a life that no group has mean nothing: so a group goes with all its items without a word about each.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, RecordBatch, UInt16Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use hashbrown::HashMap;
use thalweg_core::{Epoch, Error, Result};
use thalweg_state::{KEY_GROUP_COLUMN, SlotId, StateDelta, StatePart};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::key_codec::KeyCodec;
use crate::key_groups;
use crate::merged_slot::{MergedSlot, Part};
use crate::running::{Aggregates, ItemRows, RESULT_BYTES};

const INFIX: &str = ".items-";

/// Names a group from its first snapshot on: 128 bits made of its key and that epoch, so that no two share one in practice. 0:
/// no snapshot has seen it.
pub(crate) type Life = u128;

/// The life of a group that the snapshot of `epoch` is the first to see.
pub(crate) fn new_life(key: &[u8], epoch: Epoch) -> Life {
    xxh3_128_with_seed(key, epoch.0).max(1)
}

pub(crate) fn life_field() -> FieldRef {
    Arc::new(Field::new("life", DataType::FixedSizeBinary(16), false))
}

pub(crate) fn life_column(lives: impl Iterator<Item = Life>) -> Result<ArrayRef> {
    let lives: Vec<u8> = lives.flat_map(Life::to_le_bytes).collect();
    Ok(Arc::new(FixedSizeBinaryArray::try_new(16, lives.into(), None)?))
}

/// The inverse of [`life_column`].
pub(crate) fn lives_of(column: &ArrayRef) -> Vec<Life> {
    let lives = column.as_fixed_size_binary();
    (0..lives.len()).map(|row| lives.value(row).try_into().map_or(0, Life::from_le_bytes)).collect()
}

#[derive(Default)]
pub(crate) struct ItemSlots {
    slots: Vec<MergedSlot>,
}

/// The groups of an operator, by number.
pub(crate) trait ItemGroups {
    /// Those that are there.
    fn all(&self) -> Vec<usize>;

    /// Those that are there and changed since the last snapshot.
    fn changed(&self) -> Vec<usize>;

    fn life(&self, group: usize) -> Life;

    fn key(&self, group: usize) -> &Arc<[u8]>;

    fn codec(&self) -> &KeyCodec;
}

/// The columns of the slots.
pub(crate) fn item_schemas(aggregates: &mut Aggregates) -> Vec<SchemaRef> {
    let schema = |own: Vec<Field>| {
        let mut fields = vec![Arc::new(Field::new(KEY_GROUP_COLUMN, DataType::UInt16, false)), life_field()];
        fields.extend(own.into_iter().map(Arc::new));
        Arc::new(Schema::new(fields))
    };
    aggregates.items().into_iter().map(|items| schema(items.item_fields())).collect()
}

impl ItemSlots {
    pub(crate) fn new(base: &str, schemas: &[SchemaRef]) -> Self {
        let slot = |number: usize| MergedSlot::new(SlotId(format!("{base}{INFIX}{number}")));
        ItemSlots { slots: (0..schemas.len()).map(slot).collect() }
    }

    /// The base of a slot of items; `None` for another slot.
    pub(crate) fn base(slot: &SlotId) -> Option<&str> {
        slot.0.split_once(INFIX).map(|(base, _)| base)
    }

    pub(crate) fn snapshot(
        &mut self,
        schemas: &[SchemaRef],
        aggregates: &mut Aggregates,
        groups: &impl ItemGroups,
        delta: &mut StateDelta,
    ) -> Result<()> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let changed = groups.changed();
        for ((slot, schema), items) in self.slots.iter_mut().zip(schemas).zip(aggregates.items()) {
            let count = items.changed_count(&changed);
            if let Some(part) = slot.due(items.live_items(), count, delta) {
                let pieces = match part {
                    Part::Whole => items.all_items(&groups.all())?,
                    Part::Changes => items.changed_items(&changed)?,
                };
                let batches = pieces.into_iter().map(|rows| state_batch(schema, groups, rows)).collect::<Result<_>>()?;
                slot.put(part, batches, delta);
            }
        }
        Ok(())
    }

    /// Takes in stored slots, when the groups are there; `lives` gives their numbers.
    /// # Errors
    /// `Corrupt` when a part does not have the expected columns.
    pub(crate) fn restore(
        &mut self,
        schemas: &[SchemaRef],
        aggregates: &mut Aggregates,
        lives: impl Iterator<Item = (Life, usize)>,
        parts: &[&StatePart],
    ) -> Result<()> {
        if parts.is_empty() {
            return Ok(());
        }
        let lives: HashMap<Life, usize> = lives.collect();
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let mut items = aggregates.items();
        for part in parts {
            let number = self.slots.iter().position(|slot| *slot.id() == part.slot);
            let number = number.ok_or_else(|| Error::corrupt(format!("state has a slot \"{}\"", part.slot)))?;
            for batch in &part.batches {
                let (found, expected) = (types(batch.schema_ref()), types(&schemas[number]));
                if found != expected {
                    return Err(Error::corrupt(format!("\"{}\" has columns {found:?} in place of {expected:?}", part.slot)));
                }
                let groups: Vec<Option<usize>> =
                    lives_of(batch.column(1)).into_iter().map(|life| lives.get(&life).copied()).collect();
                items[number].restore_items(&groups, &batch.columns()[2..])?;
            }
            self.slots[number].restored(part);
        }
        Ok(())
    }

    /// The slots that the store has, when the groups go as a whole.
    pub(crate) fn stored(&self) -> impl Iterator<Item = SlotId> {
        self.slots.iter().filter_map(MergedSlot::stored)
    }

    pub(crate) fn forget_stored(&mut self) {
        self.slots.iter_mut().for_each(MergedSlot::forget_stored);
    }
}

fn state_batch(schema: &SchemaRef, groups: &impl ItemGroups, rows: ItemRows) -> Result<RecordBatch> {
    // Keys are decoded once for each group.
    let mut numbers: HashMap<usize, u32> = HashMap::new();
    let mut each = vec![];
    let number = |group: &usize| {
        *numbers.entry(*group).or_insert_with(|| {
            each.push(*group);
            each.len() as u32 - 1
        })
    };
    let places: UInt32Array = rows.groups.iter().map(number).collect::<Vec<_>>().into();
    let keys: Vec<Arc<[u8]>> = each.iter().map(|group| groups.key(*group).clone()).collect();
    let mut key_groups_of_each = Vec::with_capacity(each.len());
    for keys in pieces_of_keys(&keys, 0) {
        key_groups_of_each.extend(key_groups(&groups.codec().decode(keys)?, keys.len())?);
    }
    let key_groups: ArrayRef = Arc::new(UInt16Array::from(key_groups_of_each));
    let lives = life_column(each.iter().map(|group| groups.life(*group)))?;
    let mut columns = vec![take(&key_groups, &places, None)?, take(&lives, &places, None)?];
    columns.extend(rows.columns);
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// Keys in pieces that are not too large for one batch; beside each stand `other_bytes`.
pub(crate) fn pieces_of_keys(keys: &[Arc<[u8]>], other_bytes: usize) -> Vec<&[Arc<[u8]>]> {
    let mut pieces = vec![];
    let (mut start, mut bytes) = (0, 0);
    for (at, key) in keys.iter().enumerate() {
        bytes += key.len() + other_bytes;
        if bytes > RESULT_BYTES && at > start {
            pieces.push(&keys[start..at]);
            (start, bytes) = (at, key.len() + other_bytes);
        }
    }
    pieces.push(&keys[start..]);
    pieces
}

//! The slots of state that is stored item by item.
//!
//! `<base>.items-<number>`, one for each of an operator's [`StoredItems`]: `[key_group, keys…, life, columns…]`. Of an item of a
//! group the last row holds. A group's life is told by the operator: rows of a group that is gone, or was born again, mean nothing,
//! so that a group goes with all its items without a row.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use hashbrown::HashMap;
use thalweg_core::{Error, Result};
use thalweg_state::{KEY_GROUP_COLUMN, SlotId, StateDelta, StatePart};

use crate::key_codec::KeyCodec;
use crate::key_groups;
use crate::merged_slot::{MergedSlot, Part};
use crate::running::{Aggregates, ItemRows};

const INFIX: &str = ".items-";

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

    fn life(&self, group: usize) -> i64;

    /// The key columns of groups.
    fn key_columns(&self, groups: &[usize]) -> Result<Vec<ArrayRef>>;

    fn find(&self, key: &[u8], life: i64) -> Option<usize>;
}

/// The columns of the slots.
pub(crate) fn item_schemas(key_fields: &[FieldRef], aggregates: &mut Aggregates) -> Vec<SchemaRef> {
    let schema = |own: Vec<Field>| {
        let mut fields: Vec<FieldRef> = vec![Arc::new(Field::new(KEY_GROUP_COLUMN, DataType::UInt16, false))];
        fields.extend(key_fields.iter().cloned());
        fields.push(Arc::new(Field::new("life", DataType::Int64, false)));
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
                let rows = match part {
                    Part::Whole => items.all_items(&groups.all())?,
                    Part::Changes => items.changed_items(&changed)?,
                };
                slot.put(part, state_batch(schema, groups, rows)?, delta);
            }
        }
        Ok(())
    }

    /// Takes in a stored slot, when the groups are there.
    /// # Errors
    /// `Corrupt` when the part does not have the expected columns.
    pub(crate) fn restore(
        &mut self,
        schemas: &[SchemaRef],
        aggregates: &mut Aggregates,
        groups: &impl ItemGroups,
        codec: &KeyCodec,
        part: &StatePart,
    ) -> Result<()> {
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let number = self.slots.iter().position(|slot| *slot.id() == part.slot);
        let number = number.ok_or_else(|| Error::corrupt(format!("state has a slot \"{}\"", part.slot)))?;
        let mut items = aggregates.items();
        let items = &mut items[number];
        let keys = schemas[number].fields().len() - items.item_fields().len() - 2;
        for batch in &part.batches {
            let (found, expected) = (types(batch.schema_ref()), types(&schemas[number]));
            if found != expected {
                return Err(Error::corrupt(format!("\"{}\" has columns {found:?} in place of {expected:?}", part.slot)));
            }
            let (keys, rest) = batch.columns()[1..].split_at(keys);
            let encoded = codec.encode(keys, batch.num_rows())?;
            let lives = rest[0].as_primitive::<Int64Type>().values();
            let found: Vec<Option<usize>> =
                lives.iter().enumerate().map(|(row, life)| groups.find(encoded.key(row), *life)).collect();
            items.restore_items(&found, &rest[1..])?;
        }
        self.slots[number].restored(part);
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
    let keys = groups.key_columns(&each)?;
    let key_groups: ArrayRef = Arc::new(UInt16Array::from(key_groups(&keys, each.len())?));
    let lives: ArrayRef = Arc::new(Int64Array::from_iter_values(each.iter().map(|group| groups.life(*group))));
    let of_groups = [key_groups].into_iter().chain(keys).chain([lives]);
    let mut columns = of_groups.map(|column| Ok(take(&column, &places, None)?)).collect::<Result<Vec<_>>>()?;
    columns.extend(rows.columns);
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

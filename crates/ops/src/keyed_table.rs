//! A few numbers for each key: counts, sums of weights, times.
//!
//! State: one slot with `[key_group, keys…, numbers…]`; of a key the last row holds, and one of which all numbers are 0 says that
//! the key is gone. A snapshot holds the keys that changed, or all: see [`MergedSlot`].

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use hashbrown::{HashMap, HashSet};
use thalweg_core::{Error, Result};
use thalweg_state::{KEY_GROUP_COLUMN, SlotId, StateDelta, StatePart};

use crate::key_codec::{EncodedKeys, KeyCodec};
use crate::key_groups;
use crate::merged_slot::{MergedSlot, Part};

pub(crate) struct KeyedTable<const N: usize> {
    slot: MergedSlot,
    codec: KeyCodec,
    key_count: usize,
    values: HashMap<Arc<[u8]>, [i64; N]>,
    /// Keys that changed since the last snapshot.
    dirty: HashSet<Arc<[u8]>>,
    key_bytes: usize,
    state_schema: SchemaRef,
}

impl<const N: usize> KeyedTable<N> {
    /// `names` are those of the numbers.
    /// # Errors
    /// `User` for keys that cannot be compared.
    pub(crate) fn new(slot: &str, keys: &[FieldRef], names: [&str; N]) -> Result<Self> {
        let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, false));
        let mut fields = vec![field(KEY_GROUP_COLUMN, DataType::UInt16)];
        fields.extend(keys.iter().cloned());
        fields.extend(names.map(|name| field(name, DataType::Int64)));
        Ok(KeyedTable {
            slot: MergedSlot::new(SlotId(slot.to_string())),
            codec: KeyCodec::new(keys)?,
            key_count: keys.len(),
            values: HashMap::new(),
            dirty: HashSet::new(),
            key_bytes: 0,
            state_schema: Arc::new(Schema::new(fields)),
        })
    }

    pub(crate) fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedKeys> {
        self.codec.encode(columns, rows)
    }

    /// Zeros for a key that is not there.
    pub(crate) fn get(&self, key: &[u8]) -> [i64; N] {
        self.values.get(key).copied().unwrap_or([0; N])
    }

    /// Zeros take the key away.
    pub(crate) fn set(&mut self, key: &[u8], numbers: [i64; N]) {
        let shared = match self.values.get_key_value(key) {
            Some((shared, _)) => shared.clone(),
            None => {
                self.key_bytes += key.len();
                Arc::from(key)
            }
        };
        if numbers == [0; N] {
            self.values.remove(key);
            self.key_bytes -= key.len();
        } else {
            self.values.insert(shared.clone(), numbers);
        }
        if numbers == [0; N] && self.slot.stored().is_none() {
            // Nobody is to hear that a key went that was never stored.
            self.dirty.remove(key);
        } else {
            self.dirty.insert(shared);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<[u8]>, [i64; N])> {
        self.values.iter().map(|(key, numbers)| (key, *numbers))
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.key_bytes + self.values.capacity() * (24 + 8 * N)
    }

    pub(crate) fn snapshot(&mut self, delta: &mut StateDelta) -> Result<()> {
        if let Some(part) = self.slot.due(self.values.len(), self.dirty.len(), delta) {
            let keys = if part == Part::Whole { sorted(self.values.keys()) } else { sorted(self.dirty.iter()) };
            self.slot.put(part, vec![self.state_batch(keys)?], delta);
        }
        self.dirty.clear();
        Ok(())
    }

    fn state_batch(&self, keys: Vec<Arc<[u8]>>) -> Result<RecordBatch> {
        let key_columns = self.codec.decode(&keys)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt16Array::from(key_groups(&key_columns, keys.len())?))];
        columns.extend(key_columns);
        for number in 0..N {
            columns.push(Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| self.get(key)[number]))));
        }
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }

    pub(crate) fn owns(&self, slot: &SlotId) -> bool {
        slot == self.slot.id()
    }

    /// # Errors
    /// `Corrupt` when the parts are not of this table.
    pub(crate) fn restore(&mut self, parts: &[StatePart]) -> Result<()> {
        for part in parts {
            if !self.owns(&part.slot) {
                return Err(Error::corrupt(format!("state has a slot \"{}\" in place of \"{}\"", part.slot, self.slot.id())));
            }
            self.slot.restored(part);
            for batch in &part.batches {
                let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
                if types(batch.schema_ref()) != types(&self.state_schema) {
                    return Err(Error::corrupt(format!("slot \"{}\" has other columns than expected", part.slot)));
                }
                let (keys, numbers) = batch.columns()[1..].split_at(self.key_count);
                let encoded = self.codec.encode(keys, batch.num_rows())?;
                for row in 0..batch.num_rows() {
                    let values = std::array::from_fn(|number| numbers[number].as_primitive::<Int64Type>().value(row));
                    self.set(encoded.key(row), values);
                }
            }
        }
        self.dirty.clear();
        Ok(())
    }

    pub(crate) fn mark_all_dirty(&mut self) {
        self.slot.forget_stored();
    }
}

fn sorted<'a>(keys: impl Iterator<Item = &'a Arc<[u8]>>) -> Vec<Arc<[u8]>> {
    let mut keys: Vec<Arc<[u8]>> = keys.cloned().collect();
    keys.sort_unstable();
    keys
}

//! The partitions of OVER and their part of the state.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, RecordBatch, UInt16Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use hashbrown::{HashMap, HashSet};
use thalweg_core::{Epoch, Error, Result};
use thalweg_state::{KEY_GROUP_COLUMN, SlotId, StateDelta, StatePart};

use super::call::Calls;
use super::partition::{Cleanup, Partition};
use crate::eval::value_text;
use crate::item_slots::{ItemGroups, ItemSlots, Life, item_schemas, life_column, life_field, lives_of, new_life};
use crate::key_codec::{EncodedKeys, KeyCodec};
use crate::key_groups;
use crate::merged_slot::{MergedSlot, Part};

const SLOT: &str = "partitions";
/// Numbers of a partition in its state, between its keys and the accumulators' states.
const NUMBERS: [&str; 5] = ["birth", "rows", "last_time", "split_time", "cleared_time"];
/// The columns between keys and accumulators: the numbers, the cleanups, the life, whether the partition is gone.
const CLEANUPS: usize = NUMBERS.len();
const LIFE: usize = CLEANUPS + 1;
const IS_GONE: usize = LIFE + 1;

pub(super) struct Partitions {
    codec: KeyCodec,
    key_fields: Vec<FieldRef>,
    /// The partition that takes the rows of a key.
    current: HashMap<Arc<[u8]>, usize>,
    /// By number; a number that is free has none.
    partitions: Vec<Option<Partition>>,
    free: Vec<usize>,
    next_birth: i64,
    dirty: HashSet<usize>,
    /// Partitions that are gone and that the store may have.
    gone: Vec<(Arc<[u8]>, i64)>,
    slot: MergedSlot,
    item_slots: ItemSlots,
    item_schemas: Vec<SchemaRef>,
    key_bytes: usize,
    /// The accumulators whose state is stored, with the number of its columns.
    stored_calls: Vec<(usize, usize)>,
    state_schema: SchemaRef,
}

impl Partitions {
    /// `stored`: for each aggregate whether its state is stored; `has_items`: whether what there may be many of is, too.
    pub(super) fn new(columns: &[usize], input: &SchemaRef, calls: &mut Calls, stored: &[bool], has_items: bool) -> Result<Self> {
        let key_fields: Vec<FieldRef> = columns.iter().map(|column| input.fields()[*column].clone()).collect();
        let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, false));
        let mut fields = vec![field(KEY_GROUP_COLUMN, DataType::UInt16)];
        fields.extend(key_fields.iter().cloned());
        fields.extend(NUMBERS.map(|name| field(name, DataType::Int64)));
        let item = Arc::new(Field::new_list_field(DataType::Int64, true));
        fields.push(field("cleanups", DataType::List(item)));
        fields.push(life_field());
        fields.push(field("is_gone", DataType::Boolean));
        let mut stored_calls = vec![];
        for number in (0..stored.len()).filter(|number| stored[*number]) {
            let states = calls.aggregates.state_fields(number);
            stored_calls.push((number, states.len()));
            fields.extend(states.into_iter().map(Arc::new));
        }
        let item_schemas = if has_items { item_schemas(&mut calls.aggregates) } else { vec![] };
        Ok(Partitions {
            codec: KeyCodec::new(&key_fields)?,
            key_fields,
            current: HashMap::new(),
            // The first number is never given away: its accumulators stay blank.
            partitions: vec![None],
            free: vec![],
            next_birth: 0,
            dirty: HashSet::new(),
            gone: vec![],
            slot: MergedSlot::new(SlotId(SLOT.to_string())),
            item_slots: ItemSlots::new(SLOT, &item_schemas),
            item_schemas,
            key_bytes: 0,
            stored_calls,
            state_schema: Arc::new(Schema::new(fields)),
        })
    }

    pub(super) fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedKeys> {
        self.codec.encode(columns, rows)
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        self.current.get(key).copied()
    }

    /// A new partition that takes the rows of `key` from now on.
    pub(super) fn add(&mut self, key: &[u8]) -> usize {
        let birth = self.next_birth;
        self.add_born(key, birth)
    }

    fn add_born(&mut self, key: &[u8], birth: i64) -> usize {
        self.next_birth = self.next_birth.max(birth + 1);
        let key: Arc<[u8]> = key.into();
        self.key_bytes += key.len();
        let number = self.free.pop().unwrap_or_else(|| {
            self.partitions.push(None);
            self.partitions.len() - 1
        });
        self.current.insert(key.clone(), number);
        self.partitions[number] = Some(Partition::new(key, birth));
        self.dirty.insert(number);
        number
    }

    /// # Panics
    /// If the number is free.
    pub(super) fn get(&self, number: usize) -> &Partition {
        self.partitions[number].as_ref().expect("a partition that is there")
    }

    pub(super) fn if_there(&self, number: usize) -> Option<&Partition> {
        self.partitions[number].as_ref()
    }

    /// For a change of the rows that it holds, which are stored elsewhere.
    /// # Panics
    /// If the number is free.
    pub(super) fn get_mut(&mut self, number: usize) -> &mut Partition {
        self.partitions[number].as_mut().expect("a partition that is there")
    }

    /// For any other change.
    /// # Panics
    /// If the number is free.
    pub(super) fn change(&mut self, number: usize) -> &mut Partition {
        self.dirty.insert(number);
        self.get_mut(number)
    }

    /// A new partition in place of one that `watermark` forgets, with the rows that it does not let pass yet.
    pub(super) fn follow(&mut self, number: usize, watermark: i64) -> usize {
        let (rows, cleanups) = self.change(number).split(watermark);
        let key = self.get(number).key.clone();
        let next = self.add(&key);
        let partition = self.get_mut(next);
        (partition.waiting, partition.cleanups) = (rows, cleanups);
        next
    }

    /// Forgets a partition.
    pub(super) fn remove(&mut self, number: usize) -> Option<Partition> {
        let partition = self.partitions[number].take()?;
        if self.current.get(&partition.key) == Some(&number) {
            self.current.remove(&partition.key);
        }
        self.key_bytes -= partition.key.len();
        self.dirty.remove(&number);
        if self.slot.stored().is_some() {
            self.gone.push((partition.key.clone(), partition.birth));
        }
        self.free.push(number);
        Some(partition)
    }

    /// One more than the greatest number.
    pub(super) fn capacity(&self) -> usize {
        self.partitions.len()
    }

    pub(super) fn len(&self) -> usize {
        self.partitions.len() - self.free.len() - 1
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> + use<> {
        let numbers: Vec<usize> =
            self.partitions.iter().enumerate().filter(|(_, partition)| partition.is_some()).map(|(number, _)| number).collect();
        numbers.into_iter()
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.key_bytes + self.partitions.capacity() * size_of::<Partition>() + self.current.capacity() * 32
    }

    /// `customer = 'ann'`, for errors.
    pub(super) fn describe(&self, number: usize) -> String {
        let keys = self.if_there(number).map(|partition| partition.key.clone());
        let columns = keys.and_then(|key| self.codec.decode(&[key]).ok()).unwrap_or_default();
        let values: Vec<String> = self
            .key_fields
            .iter()
            .zip(&columns)
            .map(|(field, column)| format!("{} = {}", field.name(), value_text(column, 0)))
            .collect();
        if values.is_empty() { "the rows of OVER".to_string() } else { format!("the partition {} of OVER", values.join(", ")) }
    }

    /// Writes what changed since the last snapshot. Epochs must grow from one to the next.
    pub(super) fn snapshot(&mut self, calls: &mut Calls, epoch: Epoch, delta: &mut StateDelta) -> Result<()> {
        for number in &self.dirty {
            if let Some(partition) = self.partitions[*number].as_mut().filter(|partition| partition.life == 0) {
                partition.life = new_life(&partition.key, epoch);
            }
        }
        let (live, changed) = (self.len(), self.dirty.len() + self.gone.len());
        if let Some(part) = self.slot.due(live, changed, delta) {
            let rows = match part {
                Part::Whole => self.state_batch(&self.all(), &[], calls)?,
                Part::Changes => self.state_batch(&self.changed(), &self.gone, calls)?,
            };
            self.slot.put(part, vec![rows], delta);
        }
        let mut item_slots = std::mem::take(&mut self.item_slots);
        item_slots.snapshot(&self.item_schemas, &mut calls.aggregates, self, delta)?;
        self.item_slots = item_slots;
        self.dirty.clear();
        self.gone.clear();
        Ok(())
    }

    /// State rows of partitions and of those that are gone.
    fn state_batch(&self, numbers: &[usize], gone: &[(Arc<[u8]>, i64)], calls: &Calls) -> Result<RecordBatch> {
        let live = || numbers.iter().map(|number| self.get(*number));
        let rows = numbers.len() + gone.len();
        let keys: Vec<Arc<[u8]>> =
            live().map(|partition| partition.key.clone()).chain(gone.iter().map(|(key, _)| key.clone())).collect();
        let key_columns = self.codec.decode(&keys)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt16Array::from(key_groups(&key_columns, rows)?))];
        columns.extend(key_columns);
        let births = live().map(|partition| partition.birth).chain(gone.iter().map(|(_, birth)| *birth));
        columns.push(Arc::new(Int64Array::from_iter_values(births)));
        let numbers_of: [fn(&Partition) -> i64; 4] = [
            |partition| partition.rows,
            |partition| partition.last_time,
            |partition| partition.split_time,
            |partition| partition.cleared_time,
        ];
        for number in numbers_of {
            columns.push(Arc::new(Int64Array::from_iter_values(live().map(number).chain(gone.iter().map(|_| 0)))));
        }
        let flat = |partition: &Partition| {
            let numbers = partition.cleanups.iter().flat_map(|cleanup| [Some(cleanup.time), Some(cleanup.at)]);
            numbers.collect::<Vec<_>>()
        };
        let cleanups = live().map(flat).chain(gone.iter().map(|_| vec![])).map(Some);
        columns.push(Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(cleanups)));
        columns.push(life_column(live().map(|partition| partition.life).chain(gone.iter().map(|_| 0)))?);
        columns.push(Arc::new(BooleanArray::from_iter((0..rows).map(|row| Some(row >= numbers.len())))));
        let groups: Vec<usize> = numbers.iter().copied().chain(gone.iter().map(|_| 0)).collect();
        for (number, _) in &self.stored_calls {
            columns.extend(calls.aggregates.state(*number, &groups)?);
        }
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }

    /// Takes in stored partitions; gives the numbers of those that had a key, oldest first.
    /// # Errors
    /// `Corrupt` when the parts do not have the expected columns.
    pub(super) fn restore(&mut self, parts: &[StatePart], calls: &mut Calls) -> Result<HashMap<Arc<[u8]>, Vec<usize>>> {
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let mut numbers: HashMap<(Arc<[u8]>, i64), usize> = HashMap::new();
        let (items, parts): (Vec<_>, Vec<_>) = parts.iter().partition(|part| ItemSlots::base(&part.slot) == Some(SLOT));
        for part in parts {
            if part.slot.0 != SLOT {
                return Err(Error::corrupt(format!("the state of OVER has a slot \"{}\"", part.slot)));
            }
            self.slot.restored(part);
            for batch in &part.batches {
                if types(batch.schema_ref()) != types(&self.state_schema) {
                    return Err(Error::corrupt("the state of OVER has other columns than expected"));
                }
                self.restore_batch(batch, calls, &mut numbers)?;
            }
        }
        self.dirty.clear();
        self.gone.clear();
        let mut of_key: HashMap<Arc<[u8]>, Vec<usize>> = HashMap::new();
        for ((key, _), number) in numbers {
            of_key.entry(key).or_default().push(number);
        }
        for (key, numbers) in &mut of_key {
            numbers.sort_by_key(|number| self.get(*number).birth);
            self.current.extend(numbers.last().map(|youngest| (key.clone(), *youngest)));
        }
        let mut item_slots = std::mem::take(&mut self.item_slots);
        let lives = self.numbers().map(|number| (self.get(number).life, number));
        item_slots.restore(&self.item_schemas, &mut calls.aggregates, lives, &items)?;
        self.item_slots = item_slots;
        Ok(of_key)
    }

    fn restore_batch(
        &mut self,
        batch: &RecordBatch,
        calls: &mut Calls,
        numbers: &mut HashMap<(Arc<[u8]>, i64), usize>,
    ) -> Result<()> {
        let (keys, rest) = batch.columns()[1..].split_at(self.key_fields.len());
        let encoded = self.codec.encode(keys, batch.num_rows())?;
        let (values, states) = rest.split_at(IS_GONE + 1);
        let lives = lives_of(&values[LIFE]);
        let value = |column: usize, row: usize| values[column].as_primitive::<Int64Type>().value(row);
        let mut groups = vec![];
        for (row, life) in lives.into_iter().enumerate() {
            let name = (Arc::<[u8]>::from(encoded.key(row)), value(0, row));
            if values[IS_GONE].as_boolean().value(row) {
                if let Some(number) = numbers.remove(&name) {
                    self.remove(number);
                    calls.clear(number);
                }
                groups.push(None);
                continue;
            }
            let number = *numbers.entry(name.clone()).or_insert_with(|| self.add_born(&name.0, name.1));
            let partition = self.get_mut(number);
            (partition.rows, partition.last_time) = (value(1, row), value(2, row));
            (partition.split_time, partition.cleared_time) = (value(3, row), value(4, row));
            partition.life = life;
            let cleanups = values[CLEANUPS].as_list::<i32>().value(row);
            let flat = cleanups.as_primitive::<Int64Type>().values();
            partition.cleanups = flat.chunks_exact(2).map(|pair| Cleanup { time: pair[0], at: pair[1] }).collect();
            groups.push(Some(number));
        }
        calls.resize(self.capacity());
        let mut states = states;
        for (number, width) in &self.stored_calls {
            let (own, others) = states.split_at(*width);
            calls.aggregates.restore(*number, own, &groups)?;
            states = others;
        }
        Ok(())
    }

    pub(super) fn mark_all_dirty(&mut self) {
        self.slot.forget_stored();
        self.item_slots.forget_stored();
        self.gone.clear();
    }
}

impl ItemGroups for Partitions {
    fn all(&self) -> Vec<usize> {
        self.numbers().collect()
    }

    fn changed(&self) -> Vec<usize> {
        let mut changed: Vec<usize> = self.dirty.iter().copied().collect();
        changed.sort_unstable();
        changed
    }

    fn life(&self, group: usize) -> Life {
        self.get(group).life
    }

    fn key(&self, group: usize) -> &Arc<[u8]> {
        &self.get(group).key
    }

    fn codec(&self) -> &KeyCodec {
        &self.codec
    }
}

//! What OVER remembers of each partition beside its rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use hashbrown::{HashMap, HashSet};
use thalweg_core::{Error, Result};
use thalweg_state::{KEY_GROUP_COLUMN, SlotChange, SlotId, StateDelta, StatePart};

use super::call::Calls;
use crate::key_codec::{EncodedKeys, KeyCodec};
use crate::key_groups;

const SLOT: &str = "partitions";
/// State with fewer partitions is always written whole.
const SMALL: usize = 1_024;

pub(super) struct Partitions {
    codec: KeyCodec,
    key_count: usize,
    numbers: HashMap<Arc<[u8]>, usize>,
    /// By number.
    keys: Vec<Arc<[u8]>>,
    counts: Vec<i64>,
    denses: Vec<i64>,
    last_times: Vec<i64>,
    dirty: HashSet<usize>,
    is_stored: bool,
    merged_rows: usize,
    /// Whether accumulators are stored.
    stores_calls: bool,
    state_widths: Vec<usize>,
    state_schema: SchemaRef,
}

impl Partitions {
    pub(super) fn new(columns: &[usize], input: &SchemaRef, calls: Option<&Calls>) -> Result<Self> {
        let key_fields: Vec<FieldRef> = columns.iter().map(|column| input.fields()[*column].clone()).collect();
        let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, false));
        let mut fields = vec![field(KEY_GROUP_COLUMN, DataType::UInt16)];
        fields.extend(key_fields.iter().cloned());
        fields.extend(["rows", "dense", "last_time"].map(|name| field(name, DataType::Int64)));
        let mut state_widths = vec![];
        for (number, accumulator) in calls.iter().flat_map(|calls| &calls.accumulators).enumerate() {
            let states = accumulator.state_fields();
            state_widths.push(states.len());
            fields.extend(states.into_iter().map(|field| {
                let name = format!("{number}.{}", field.name());
                Arc::new(field.with_name(name))
            }));
        }
        Ok(Partitions {
            codec: KeyCodec::new(&key_fields)?,
            key_count: columns.len(),
            numbers: HashMap::new(),
            keys: vec![],
            counts: vec![],
            denses: vec![],
            last_times: vec![],
            dirty: HashSet::new(),
            is_stored: false,
            merged_rows: 0,
            stores_calls: calls.is_some(),
            state_widths,
            state_schema: Arc::new(Schema::new(fields)),
        })
    }

    pub(super) fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedKeys> {
        self.codec.encode(columns, rows)
    }

    pub(super) fn find_or_add(&mut self, key: &[u8]) -> usize {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let key: Arc<[u8]> = key.into();
        self.numbers.insert(key.clone(), self.keys.len());
        self.keys.push(key);
        self.counts.push(0);
        self.denses.push(0);
        self.last_times.push(i64::MIN);
        self.keys.len() - 1
    }

    /// Rows that have passed.
    pub(super) fn count(&self, partition: usize) -> i64 {
        self.counts[partition]
    }

    /// The last dense rank.
    pub(super) fn dense(&self, partition: usize) -> i64 {
        self.denses[partition]
    }

    /// The time of the last row that passed.
    pub(super) fn last_time(&self, partition: usize) -> i64 {
        self.last_times[partition]
    }

    pub(super) fn set(&mut self, partition: usize, count: i64, dense: i64, last_time: i64) {
        self.counts[partition] = count;
        self.denses[partition] = dense;
        self.last_times[partition] = last_time;
        self.dirty.insert(partition);
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.keys.iter().map(|key| key.len() + 96).sum()
    }

    pub(super) fn snapshot(&mut self, calls: &Calls, delta: &mut StateDelta) -> Result<()> {
        if self.is_stored && self.dirty.is_empty() || self.keys.is_empty() {
            return Ok(());
        }
        let is_whole = !self.is_stored || self.keys.len() < SMALL || self.merged_rows + self.dirty.len() > self.keys.len();
        let mut numbers: Vec<usize> =
            if is_whole { (0..self.keys.len()).collect() } else { self.dirty.iter().copied().collect() };
        numbers.sort_unstable();
        let batch = self.state_batch(&numbers, calls)?;
        self.merged_rows = if is_whole { 0 } else { self.merged_rows + numbers.len() };
        let change = if is_whole { SlotChange::Replace(batch) } else { SlotChange::Merge(batch) };
        delta.changes.push((SlotId(SLOT.to_string()), change));
        self.is_stored = true;
        self.dirty.clear();
        Ok(())
    }

    fn state_batch(&self, numbers: &[usize], calls: &Calls) -> Result<RecordBatch> {
        let keys: Vec<Arc<[u8]>> = numbers.iter().map(|number| self.keys[*number].clone()).collect();
        let key_columns = self.codec.decode(&keys)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt16Array::from(key_groups(&key_columns, keys.len())?))];
        columns.extend(key_columns);
        for values in [&self.counts, &self.denses, &self.last_times] {
            columns.push(Arc::new(Int64Array::from_iter_values(numbers.iter().map(|number| values[*number]))));
        }
        if self.stores_calls {
            for accumulator in &calls.accumulators {
                columns.extend(accumulator.state(numbers)?);
            }
        }
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }

    pub(super) fn restore(&mut self, parts: &[StatePart], calls: &mut Calls) -> Result<()> {
        for part in parts {
            if part.slot.0 != SLOT {
                return Err(Error::corrupt(format!("the state of OVER has a slot \"{}\"", part.slot)));
            }
            for batch in &part.batches {
                let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
                if types(batch.schema_ref()) != types(&self.state_schema) {
                    return Err(Error::corrupt("the state of OVER has other columns than expected"));
                }
                let (keys, rest) = batch.columns()[1..].split_at(self.key_count);
                let encoded = self.codec.encode(keys, batch.num_rows())?;
                let numbers: Vec<usize> = (0..batch.num_rows()).map(|row| self.find_or_add(encoded.key(row))).collect();
                let value = |column: usize, row: usize| rest[column].as_primitive::<Int64Type>().value(row);
                for (row, number) in numbers.iter().enumerate() {
                    self.set(*number, value(0, row), value(1, row), value(2, row));
                }
                if self.stores_calls {
                    calls.resize(self.keys.len());
                    let groups: Vec<Option<usize>> = numbers.into_iter().map(Some).collect();
                    let mut states = &rest[3..];
                    for (accumulator, width) in calls.accumulators.iter_mut().zip(&self.state_widths) {
                        let (own, others) = states.split_at(*width);
                        accumulator.restore(own, &groups)?;
                        states = others;
                    }
                }
            }
        }
        self.dirty.clear();
        self.is_stored = !self.keys.is_empty();
        Ok(())
    }

    pub(super) fn mark_all_dirty(&mut self) {
        self.is_stored = false;
    }
}

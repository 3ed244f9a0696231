//! GROUP BY without a window.
//!
//! Ordering: output follows input, row by row, as Flink's does without mini-batches: a row that changes its group's result
//! gives the old result (weight -1), then the new one (weight +1). A new group gives only the new result, a group whose last
//! row was taken back only the old one, a result that stays the same nothing. `updates` marks the halves of a change.
//!
//! Late rows: there are none, time plays no part. Watermarks pass through.
//!
//! A row that is taken back although its group never held it ends the job: the input contradicts itself.
//!
//! State: one slot, `groups`, with a row per group: `[key_group, keys…, rows, states…]`. Of a key the last row holds; `rows` 0
//! says that the group is gone. A snapshot holds the groups that changed, until all of them together would be more than the
//! groups there are; then it holds all. A group goes when its last row is taken back, so over append-only input never.

mod groups;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt16Array, UInt32Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{SortOptions, concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{AggregateCall, GroupAggregate};
use thalweg_state::{KEY_GROUP_COLUMN, SlotChange, SlotId, StateDelta, StatePart};

use crate::eval::value_text;
use crate::key_codec::KeyCodec;
use crate::running::{self, CallRows, RunningAccumulator, ValueCodec, canonical_floats};
use crate::{Operator, OperatorMetrics, Output, key_groups};
use groups::Groups;

const SLOT: &str = "groups";

/// State with fewer groups is always written whole.
const SMALL_GROUPS: usize = 1_024;

/// About how many bytes of results are made at once: a result may be much larger than the row that made it.
const RESULT_BYTES: usize = 64 << 20;

pub(crate) struct GroupAggregateOperator {
    keys: Vec<usize>,
    key_fields: Vec<FieldRef>,
    calls: Vec<AggregateCall>,
    codec: KeyCodec,
    groups: Groups,
    accumulators: Vec<Box<dyn RunningAccumulator>>,
    state_widths: Vec<usize>,
    state_schema: SchemaRef,
    output_schema: SchemaRef,
    batch_rows: usize,
    /// Whether the store holds the slot as of the last snapshot.
    is_stored: bool,
    /// Rows written by merges since the slot was last written whole.
    merged_rows: usize,
}

/// What one batch does to the groups.
struct Steps {
    /// The group of each row.
    groups: Vec<usize>,
    /// Whether the row is the first of its group.
    births: Vec<bool>,
    /// Whether the group has no rows behind this one.
    empties: Vec<bool>,
    /// The groups of the batch, each once.
    touched: Vec<usize>,
    /// Where the result before each row is: one of `touched`, or an earlier row.
    before: Vec<Before>,
}

#[derive(Clone, Copy)]
enum Before {
    Touched(usize),
    Row(usize),
}

impl GroupAggregateOperator {
    /// # Errors
    /// `User` when an aggregate does not take its argument, `Internal` when the schemas do not belong to the node.
    pub(crate) fn new(node: &GroupAggregate, input: &SchemaRef, output: SchemaRef, batch_rows: usize) -> Result<Self> {
        if output.fields().len() != node.keys.len() + node.aggregates.len() {
            return Err(Error::internal("a group aggregate gives its keys and its aggregates"));
        }
        let key_fields: Vec<FieldRef> = node.keys.iter().map(|key| input.fields()[*key].clone()).collect();
        let mut accumulators = vec![];
        let mut state_widths = vec![];
        let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, false));
        let mut fields: Vec<FieldRef> = vec![field(KEY_GROUP_COLUMN, DataType::UInt16)];
        fields.extend(key_fields.iter().cloned());
        fields.push(field("rows", DataType::Int64));
        for (number, call) in node.aggregates.iter().enumerate() {
            let accumulator = running::create(call, input, node.input_updating)?;
            let state = accumulator.state_fields();
            state_widths.push(state.len());
            fields.extend(state.into_iter().map(|field| {
                let name = format!("{number}.{}", field.name());
                Arc::new(field.with_name(name))
            }));
            accumulators.push(accumulator);
        }
        Ok(GroupAggregateOperator {
            keys: node.keys.clone(),
            codec: KeyCodec::new(&key_fields)?,
            key_fields,
            calls: node.aggregates.clone(),
            groups: Groups::default(),
            accumulators,
            state_widths,
            state_schema: Arc::new(Schema::new(fields)),
            output_schema: output,
            batch_rows: batch_rows.max(1),
            is_stored: false,
            merged_rows: 0,
        })
    }

    /// How many of `rows` rows of this size may be taken at once so that their results stay small.
    fn rows_at_once(&self, mut rows: usize, row_bytes: usize) -> usize {
        let sizes = self.accumulators.iter().map(|accumulator| accumulator.result_size());
        let (largest, collects) = sizes.fold((0, false), |(largest, collects), (size, own)| (largest + size, collects || own));
        let growth = |rows: usize| if collects { rows.saturating_mul(row_bytes) } else { row_bytes };
        while rows > 1 && rows.saturating_mul(2 * row_bytes + largest + growth(rows)) > RESULT_BYTES {
            rows /= 2;
        }
        rows
    }

    /// Takes in rows; their results fit into one array.
    fn take_in(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|key| canonical_floats(batch.column(*key))).collect();
        let steps = self.step(batch, &keys)?;
        let results = self.results(batch, &keys, &steps)?;
        self.changes(&keys, &steps, &results, out)?;
        for group in steps.touched {
            self.groups.mark_dirty(group);
            self.groups.remove_if_empty(group);
        }
        Ok(())
    }

    /// Finds the groups of the rows and counts the rows in them.
    fn step(&mut self, batch: &Batch, keys: &[ArrayRef]) -> Result<Steps> {
        let rows = batch.num_rows();
        let encoded = self.codec.encode(keys, rows)?;
        let mut steps = Steps {
            groups: Vec::with_capacity(rows),
            births: Vec::with_capacity(rows),
            empties: Vec::with_capacity(rows),
            touched: vec![],
            before: Vec::with_capacity(rows),
        };
        let mut last: hashbrown::HashMap<usize, Before> = hashbrown::HashMap::new();
        for row in 0..rows {
            let group = self.groups.find_or_add(encoded.key(row));
            let before = self.groups.rows(group);
            let after = before
                .checked_add(batch.weight(row))
                .ok_or_else(|| Error::record(format!("more rows than can be counted in {}", self.describe(keys, row))))?;
            if after < 0 {
                return Err(Error::record(format!("a row is taken back that {} does not hold", self.describe(keys, row)))
                    .with_help("the changes of the input do not fit together: more rows were taken back than came"));
            }
            self.groups.set_rows(group, after);
            let earlier = *last.entry(group).or_insert_with(|| {
                steps.touched.push(group);
                Before::Touched(steps.touched.len() - 1)
            });
            steps.before.push(earlier);
            last.insert(group, Before::Row(row));
            steps.groups.push(group);
            steps.births.push(before == 0);
            steps.empties.push(after == 0);
        }
        Ok(steps)
    }

    /// `group customer = 'ann'`, for errors.
    fn describe(&self, keys: &[ArrayRef], row: usize) -> String {
        let values: Vec<String> = self
            .key_fields
            .iter()
            .zip(keys)
            .map(|(field, column)| format!("{} = {}", field.name(), value_text(column, row)))
            .collect();
        if values.is_empty() { "the one group of all rows".to_string() } else { format!("group {}", values.join(", ")) }
    }

    /// For each call, the results before the batch of the groups touched, then those behind each row.
    fn results(&mut self, batch: &Batch, keys: &[ArrayRef], steps: &Steps) -> Result<Vec<ArrayRef>> {
        let mut accumulators = std::mem::take(&mut self.accumulators);
        let outcome = accumulators
            .iter_mut()
            .zip(&self.calls)
            .map(|(accumulator, call)| {
                accumulator.resize(self.groups.capacity());
                let before = accumulator.results(&steps.touched)?;
                let after = accumulator.update(&CallRows {
                    argument: call.argument.map(|column| batch.column(column)),
                    filter: call.filter.map(|column| passing(batch.column(column).as_boolean())),
                    weights: batch.weights.as_ref(),
                    groups: &steps.groups,
                    empties: &steps.empties,
                    describe: &|row| self.describe(keys, row),
                })?;
                Ok(concat(&[before.as_ref(), after.as_ref()])?)
            })
            .collect();
        self.accumulators = accumulators;
        outcome
    }

    /// The changes of results, in order of the rows that made them.
    fn changes(&self, keys: &[ArrayRef], steps: &Steps, results: &[ArrayRef], out: &mut Output) -> Result<()> {
        let comparators = results.iter().map(Comparator::new).collect::<Result<Vec<_>>>()?;
        let first_row = steps.touched.len();
        let (mut key_rows, mut result_rows, mut weights, mut updates) = (vec![], vec![], vec![], vec![]);
        for row in 0..steps.groups.len() {
            let new = first_row + row;
            let old = match steps.before[row] {
                Before::Touched(number) => number,
                Before::Row(earlier) => first_row + earlier,
            };
            let is_update = !steps.births[row] && !steps.empties[row];
            if is_update && comparators.iter().all(|comparator| comparator.is_same(old, new)) {
                continue;
            }
            let mut push = |result: usize, weight: i64| {
                key_rows.push(row as u32);
                result_rows.push(result as u32);
                weights.push(weight);
                updates.push(is_update);
            };
            if !steps.births[row] {
                push(old, -1);
            }
            if !steps.empties[row] {
                push(new, 1);
            }
        }
        let rows = weights.len();
        let (key_rows, result_rows) = (UInt32Array::from(key_rows), UInt32Array::from(result_rows));
        let keys = keys.iter().map(|column| take(column, &key_rows, None));
        let results = results.iter().map(|column| take(column, &result_rows, None));
        let columns = keys.chain(results).collect::<std::result::Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = Batch {
            weights: Some(Int64Array::from(weights)),
            updates: Some(BooleanArray::from(updates)),
            ..Batch::append(RecordBatch::try_new_with_options(self.output_schema.clone(), columns, &options)?)
        };
        for offset in (0..rows).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(rows - offset)));
        }
        Ok(())
    }

    /// State rows of groups, given by key; those that are gone have 0 rows and blank states.
    fn state_batch(&self, keys: &[Arc<[u8]>]) -> Result<RecordBatch> {
        let groups: Vec<usize> = keys.iter().map(|key| self.groups.find(key).unwrap_or(Groups::BLANK)).collect();
        let key_columns = self.codec.decode(keys)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt16Array::from(key_groups(&key_columns, keys.len())?))];
        columns.extend(key_columns);
        columns.push(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| self.groups.rows(*group)))));
        for accumulator in &self.accumulators {
            columns.extend(accumulator.state(&groups)?);
        }
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }

    fn restore_batch(&mut self, state: &RecordBatch) -> Result<()> {
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let (found, expected) = (types(state.schema_ref()), types(&self.state_schema));
        if found != expected {
            return Err(Error::corrupt(format!("group state has columns {found:?} in place of {expected:?}")));
        }
        let (keys, rest) = state.columns()[1..].split_at(self.keys.len());
        let encoded = self.codec.encode(keys, state.num_rows())?;
        let mut groups = vec![];
        for (row, count) in rest[0].as_primitive::<Int64Type>().values().iter().enumerate() {
            groups.push(if *count > 0 {
                let group = self.groups.find_or_add(encoded.key(row));
                self.groups.set_rows(group, *count);
                Some(group)
            } else {
                if let Some(group) = self.groups.find(encoded.key(row)) {
                    self.groups.set_rows(group, 0);
                    self.accumulators.iter_mut().for_each(|accumulator| accumulator.clear(group));
                    self.groups.remove_if_empty(group);
                }
                None
            });
        }
        let mut states = &rest[1..];
        for (accumulator, width) in self.accumulators.iter_mut().zip(&self.state_widths) {
            let (own, others) = states.split_at(*width);
            accumulator.resize(self.groups.capacity());
            accumulator.restore(own, &groups)?;
            states = others;
        }
        Ok(())
    }
}

impl Operator for GroupAggregateOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = match &batch.weights {
            Some(weights) if weights.values().contains(&0) => {
                batch.filter(&weights.values().iter().map(|weight| Some(*weight != 0)).collect())?
            }
            _ => batch,
        };
        let row_bytes = batch.size_bytes() / batch.num_rows().max(1);
        let mut offset = 0;
        while offset < batch.num_rows() {
            let rows = self.rows_at_once(batch.num_rows() - offset, row_bytes);
            self.take_in(&batch.slice(offset, rows), out)?;
            offset += rows;
        }
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let (live, dirty) = (self.groups.len(), self.groups.dirty());
        let slot = SlotId(SLOT.to_string());
        let mut delta = StateDelta::default();
        let is_whole = !self.is_stored || live < SMALL_GROUPS || self.merged_rows + dirty.len() > live;
        if is_whole && (!self.is_stored || !dirty.is_empty()) {
            self.merged_rows = 0;
            if live > 0 {
                delta.changes.push((slot, SlotChange::Replace(self.state_batch(&self.groups.keys())?)));
            } else if self.is_stored {
                delta.changes.push((slot, SlotChange::Drop));
            }
            self.is_stored = live > 0;
        } else if !dirty.is_empty() {
            self.merged_rows += dirty.len();
            delta.changes.push((slot, SlotChange::Merge(self.state_batch(&dirty)?)));
        }
        self.groups.mark_stored();
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            if part.slot.0 != SLOT {
                return Err(Error::corrupt(format!("group state has a slot \"{}\"", part.slot)));
            }
            part.batches.iter().try_for_each(|batch| self.restore_batch(batch))?;
        }
        self.groups.mark_stored();
        self.is_stored = self.groups.len() > 0;
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.is_stored = false;
    }

    fn metrics(&self) -> OperatorMetrics {
        let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.size_bytes()).sum();
        OperatorMetrics {
            late_rows: 0,
            state_bytes: (accumulators + self.groups.size_bytes()) as u64,
            state_rows: self.groups.len() as u64,
        }
    }
}

fn passing(filter: &BooleanArray) -> NullBuffer {
    match filter.nulls() {
        Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
        None => NullBuffer::new(filter.values().clone()),
    }
}

/// Tells whether two values of a column are the same; nulls are.
enum Comparator {
    Typed(arrow::array::DynComparator),
    /// For types that Arrow does not compare, such as MAP.
    Encoded(arrow::row::Rows),
}

impl Comparator {
    fn new(column: &ArrayRef) -> Result<Self> {
        Ok(match arrow::array::make_comparator(column, column, SortOptions::default()) {
            Ok(comparator) => Comparator::Typed(comparator),
            Err(_) => Comparator::Encoded(ValueCodec::new(column.data_type())?.encode(column)?),
        })
    }

    fn is_same(&self, one: usize, other: usize) -> bool {
        match self {
            Comparator::Typed(compare) => compare(one, other).is_eq(),
            Comparator::Encoded(rows) => rows.row(one) == rows.row(other),
        }
    }
}

#[cfg(test)]
mod tests;

//! The columns of a window aggregate: of its partial rows, its state and its output.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use thalweg_core::{Error, EventTime, KeyGroup, Result};
use thalweg_plan::{Window, WindowAggregate};
use thalweg_state::KEY_GROUP_COLUMN;

use crate::{AggregateFactory, GroupAccumulator, key_groups};

/// Where the key columns of a partial row begin, for the exchange.
pub const PARTIAL_KEYS_START: usize = 3;
/// Where the key columns of a state row begin.
const STATE_KEYS_START: usize = 1;

/// What both phases know of the node.
#[derive(Clone, Debug)]
pub(crate) struct WindowAggregateLayout {
    pub(crate) window: Window,
    pub(crate) time_column: usize,
    pub(crate) time_name: String,
    /// Key columns of the input.
    pub(crate) keys: Vec<usize>,
    pub(crate) key_fields: Vec<FieldRef>,
    pub(crate) factories: Vec<AggregateFactory>,
    /// The number of state columns of each aggregate.
    pub(crate) state_widths: Vec<usize>,
    /// `[slice_end: Int64, eligible_from: Int64, rows: Int64, keys…, states…]`
    pub(crate) partial_schema: SchemaRef,
    /// `[key_group: UInt16, keys…, rows: Int64, states…]`
    pub(crate) state_schema: SchemaRef,
    /// `[key_group: UInt16, watermark: Int64]`
    pub(crate) watermark_schema: SchemaRef,
    /// `[keys…, aggregates…, window_start, window_end, window_time]`
    pub(crate) output_schema: SchemaRef,
}

/// Groups as columns: what travels between the phases and what is stored, without the columns in front.
pub(super) struct GroupColumns {
    pub(super) keys: Vec<ArrayRef>,
    /// The number of source rows in each group.
    pub(super) rows: Int64Array,
    /// The state columns of all accumulators, in order.
    pub(super) states: Vec<ArrayRef>,
}

impl WindowAggregateLayout {
    /// # Errors
    /// `User` when an aggregate does not take its argument, `Internal` when the schemas do not belong to the node.
    pub(crate) fn new(node: &WindowAggregate, input: &SchemaRef, output: &SchemaRef) -> Result<Self> {
        if output.fields().len() != node.keys.len() + node.aggregates.len() + 3 {
            return Err(Error::internal("a window aggregate gives its keys, its aggregates and three window columns"));
        }
        let key_fields: Vec<FieldRef> = node.keys.iter().map(|key| input.fields()[*key].clone()).collect();
        let factories = node.aggregates.iter().map(|call| AggregateFactory::new(call, input)).collect::<Result<Vec<_>>>()?;
        let mut state_fields = vec![];
        let mut state_widths = vec![];
        for (number, factory) in factories.iter().enumerate() {
            let fields = factory.create()?.state_fields();
            state_widths.push(fields.len());
            for field in fields {
                let name = format!("{number}.{}", field.name());
                state_fields.push(Arc::new(field.with_name(name)));
            }
        }
        let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, false));
        let partial = ["slice_end", "eligible_from", "rows"].map(|name| field(name, DataType::Int64));
        let state = [field(KEY_GROUP_COLUMN, DataType::UInt16)];
        let rows = [field("rows", DataType::Int64)];
        let schema = |parts: &[&[FieldRef]]| Arc::new(Schema::new(parts.concat()));
        Ok(WindowAggregateLayout {
            window: node.window.clone(),
            time_column: node.time_column,
            time_name: input.field(node.time_column).name().clone(),
            keys: node.keys.clone(),
            partial_schema: schema(&[&partial, &key_fields, &state_fields]),
            state_schema: schema(&[&state, &key_fields, &rows, &state_fields]),
            watermark_schema: schema(&[&state, &[field("watermark", DataType::Int64)]]),
            output_schema: output.clone(),
            key_fields,
            factories,
            state_widths,
        })
    }

    pub(super) fn accumulators(&self) -> Result<Vec<Box<dyn GroupAccumulator>>> {
        self.factories.iter().map(AggregateFactory::create).collect()
    }

    /// A batch of [`WindowAggregateLayout::partial_schema`].
    pub(super) fn partial_batch(
        &self,
        slice_ends: Int64Array,
        eligible_from: Int64Array,
        groups: GroupColumns,
    ) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(slice_ends), Arc::new(eligible_from), Arc::new(groups.rows)];
        columns.extend(groups.keys);
        columns.extend(groups.states);
        Ok(RecordBatch::try_new(self.partial_schema.clone(), columns)?)
    }

    /// The groups of partial rows.
    pub(super) fn groups_of_partial(&self, partial: &RecordBatch) -> GroupColumns {
        let (keys, states) = partial.columns()[PARTIAL_KEYS_START..].split_at(self.key_fields.len());
        GroupColumns { keys: keys.to_vec(), rows: int64(partial.column(PARTIAL_KEYS_START - 1)), states: states.to_vec() }
    }

    /// A batch of [`WindowAggregateLayout::state_schema`].
    pub(super) fn state_batch(&self, groups: GroupColumns) -> Result<RecordBatch> {
        let key_groups = key_groups(&groups.keys, groups.rows.values().len())?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt16Array::from(key_groups))];
        columns.extend(groups.keys);
        columns.push(Arc::new(groups.rows));
        columns.extend(groups.states);
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }

    /// The groups of state rows.
    /// # Errors
    /// `Corrupt` when the batch does not have the columns of [`WindowAggregateLayout::state_schema`].
    pub(super) fn groups_of_state(&self, state: &RecordBatch) -> Result<GroupColumns> {
        check_types(state, &self.state_schema)?;
        let (keys, rest) = state.columns()[STATE_KEYS_START..].split_at(self.key_fields.len());
        Ok(GroupColumns { keys: keys.to_vec(), rows: int64(&rest[0]), states: rest[1..].to_vec() })
    }

    /// The watermark that this lane has handled, once for each of its key groups so that any later lanes find it.
    pub(super) fn watermark_batch(&self, key_groups: Range<KeyGroup>, watermark: EventTime) -> Result<RecordBatch> {
        let watermarks = Int64Array::from(vec![watermark.0; key_groups.len()]);
        let columns: Vec<ArrayRef> = vec![Arc::new(UInt16Array::from_iter_values(key_groups)), Arc::new(watermarks)];
        Ok(RecordBatch::try_new(self.watermark_schema.clone(), columns)?)
    }

    /// The inverse of [`WindowAggregateLayout::watermark_batch`]; `None` when it holds no key group of ours.
    pub(super) fn watermark_of_batch(&self, batch: &RecordBatch) -> Result<Option<EventTime>> {
        check_types(batch, &self.watermark_schema)?;
        Ok(int64(batch.column(1)).values().iter().min().map(|watermark| EventTime(*watermark)))
    }
}

/// # Errors
/// `Corrupt` when the column types differ; names do not matter.
fn check_types(batch: &RecordBatch, expected: &SchemaRef) -> Result<()> {
    let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    let (found, expected) = (types(batch.schema_ref()), types(expected));
    if found != expected {
        return Err(Error::corrupt(format!("window state has columns {found:?} in place of {expected:?}")));
    }
    Ok(())
}

fn int64(column: &ArrayRef) -> Int64Array {
    column.as_primitive::<Int64Type>().clone()
}

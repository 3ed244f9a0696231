//! The columns of a session window: of its state and of its output.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StructArray, UInt16Array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, Schema, SchemaRef};
use thalweg_core::{Batch, Error, EventTime, KeyGroup, Result, WEIGHT_NAME};
use thalweg_plan::{Session, SessionWindow};
use thalweg_state::KEY_GROUP_COLUMN;

use super::collect_rows::CollectRows;
use crate::{AggregateFactory, GroupAccumulator};

/// What a session is made of.
enum Content {
    Aggregates(Vec<AggregateFactory>),
    /// All columns of the input; of an updating one the weight of each row too.
    Rows {
        fields: Fields,
        with_weight: bool,
    },
}

pub(super) struct SessionLayout {
    pub(super) window: SessionWindow,
    pub(super) time_column: usize,
    pub(super) time_name: String,
    /// Key columns of the input.
    pub(super) keys: Vec<usize>,
    pub(super) key_fields: Vec<FieldRef>,
    content: Content,
    /// The number of state columns of each accumulator.
    pub(super) state_widths: Vec<usize>,
    /// `[key_group: UInt16, number: Int64, start: Int64, end: Int64, rows: Int64, keys…, states…]`; `rows` is 0 where a session
    /// is gone, keys and states are null there.
    pub(super) state_schema: SchemaRef,
    /// `[key_group: UInt16, watermark: Int64]`
    watermark_schema: SchemaRef,
    pub(super) output_schema: SchemaRef,
}

/// Where the key columns of a state row begin.
pub(super) const STATE_KEYS_START: usize = 5;

impl SessionLayout {
    /// # Errors
    /// `User` when an aggregate does not take its argument, `Internal` when the schemas do not belong to the node.
    pub(super) fn new(node: &Session, input: &SchemaRef, output: &SchemaRef) -> Result<Self> {
        let content = match &node.aggregates {
            Some(calls) => {
                Content::Aggregates(calls.iter().map(|call| AggregateFactory::new(call, input)).collect::<Result<_>>()?)
            }
            None => {
                let weight = node.input_updating.then(|| Arc::new(Field::new(WEIGHT_NAME, DataType::Int64, false)));
                Content::Rows { fields: input.fields().iter().cloned().chain(weight).collect(), with_weight: node.input_updating }
            }
        };
        let width = match &node.aggregates {
            Some(calls) => node.keys.len() + calls.len(),
            None => input.fields().len(),
        };
        if output.fields().len() != width + 3 {
            return Err(Error::internal("a session window adds three columns"));
        }
        let key_fields: Vec<FieldRef> = node.keys.iter().map(|key| input.fields()[*key].clone()).collect();
        let mut state_fields = vec![];
        let mut state_widths = vec![];
        for (number, accumulator) in accumulators(&content)?.iter().enumerate() {
            let fields = accumulator.state_fields();
            state_widths.push(fields.len());
            state_fields.extend(fields.into_iter().map(|field| {
                let name = format!("{number}.{}", field.name());
                field.with_name(name).with_nullable(true)
            }));
        }
        let mut fields = vec![Field::new(KEY_GROUP_COLUMN, DataType::UInt16, false)];
        fields.extend(["number", "start", "end", "rows"].map(|name| Field::new(name, DataType::Int64, false)));
        fields.extend(key_fields.iter().map(|field| field.as_ref().clone().with_nullable(true)));
        fields.extend(state_fields);
        let watermark = vec![fields[0].clone(), Field::new("watermark", DataType::Int64, false)];
        Ok(SessionLayout {
            window: node.window.clone(),
            time_column: node.time_column,
            time_name: input.field(node.time_column).name().clone(),
            keys: node.keys.clone(),
            key_fields,
            content,
            state_widths,
            state_schema: Arc::new(Schema::new(fields)),
            watermark_schema: Arc::new(Schema::new(watermark)),
            output_schema: output.clone(),
        })
    }

    /// Whether the rows themselves are sent, not aggregates over them.
    pub(super) fn gives_rows(&self) -> bool {
        matches!(self.content, Content::Rows { .. })
    }

    /// Whether the weights of rows stand behind their columns.
    pub(super) fn has_weights(&self) -> bool {
        matches!(self.content, Content::Rows { with_weight: true, .. })
    }

    pub(super) fn accumulators(&self) -> Result<Vec<Box<dyn GroupAccumulator>>> {
        accumulators(&self.content)
    }

    /// Gives the rows of `batch` to the accumulators: row `i` belongs to session `sessions[i]` of `total`.
    pub(super) fn update(
        &self,
        accumulators: &mut [Box<dyn GroupAccumulator>],
        batch: &Batch,
        sessions: &[usize],
        total: usize,
    ) -> Result<()> {
        match &self.content {
            Content::Rows { fields, with_weight } => {
                let mut columns = batch.rows.columns().to_vec();
                if *with_weight {
                    let ones = || Int64Array::from(vec![1; batch.num_rows()]);
                    columns.push(Arc::new(batch.weights.clone().unwrap_or_else(ones)));
                }
                let rows: ArrayRef = Arc::new(StructArray::try_new(fields.clone(), columns, None)?);
                accumulators[0].update(Some(&rows), None, None, sessions, total)
            }
            Content::Aggregates(factories) => factories.iter().zip(accumulators).try_for_each(|(factory, accumulator)| {
                let call = factory.call();
                accumulator.update(
                    call.argument.map(|column| batch.column(column)),
                    call.filter.map(|column| batch.column(column).as_boolean()),
                    batch.weights.as_ref(),
                    sessions,
                    total,
                )
            }),
        }
    }

    /// # Errors
    /// `Corrupt` when the batch does not have the columns of [`SessionLayout::state_schema`].
    pub(super) fn check_state(&self, batch: &RecordBatch) -> Result<()> {
        check_types(batch, &self.state_schema)
    }

    /// The watermark that this lane has handled, once for each of its key groups so that any later lanes find it.
    pub(super) fn watermark_batch(&self, key_groups: Range<KeyGroup>, watermark: EventTime) -> Result<RecordBatch> {
        let watermarks = Int64Array::from(vec![watermark.0; key_groups.len()]);
        let columns: Vec<ArrayRef> = vec![Arc::new(UInt16Array::from_iter_values(key_groups)), Arc::new(watermarks)];
        Ok(RecordBatch::try_new(self.watermark_schema.clone(), columns)?)
    }

    /// The inverse of [`SessionLayout::watermark_batch`]; `None` when it holds no key group of ours.
    pub(super) fn watermark_of_batch(&self, batch: &RecordBatch) -> Result<Option<EventTime>> {
        check_types(batch, &self.watermark_schema)?;
        Ok(batch.column(1).as_primitive::<Int64Type>().values().iter().min().map(|watermark| EventTime(*watermark)))
    }
}

fn accumulators(content: &Content) -> Result<Vec<Box<dyn GroupAccumulator>>> {
    match content {
        Content::Aggregates(factories) => factories.iter().map(AggregateFactory::create).collect(),
        Content::Rows { fields, .. } => Ok(vec![Box::new(CollectRows::new(DataType::Struct(fields.clone())))]),
    }
}

/// # Errors
/// `Corrupt` when the column types differ; names do not matter.
fn check_types(batch: &RecordBatch, expected: &SchemaRef) -> Result<()> {
    let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    let (found, expected) = (types(batch.schema_ref()), types(expected));
    if found != expected {
        return Err(Error::corrupt(format!("session state has columns {found:?} in place of {expected:?}")));
    }
    Ok(())
}

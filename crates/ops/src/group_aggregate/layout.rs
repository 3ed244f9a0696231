//! What the tables of a group aggregate share.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use thalweg_core::{Batch, Error, Result};
use thalweg_plan::{AggregateCall, GroupAggregate};
use thalweg_state::KEY_GROUP_COLUMN;

use crate::eval::value_text;
use crate::key_codec::KeyCodec;
use crate::running::{self, RunningAccumulator, canonical_floats};

/// About how many bytes of results are made at once: a result may be much larger than the row that made it.
pub(super) const RESULT_BYTES: usize = 64 << 20;

pub(super) struct GroupLayout {
    pub(super) keys: Vec<usize>,
    pub(super) key_fields: Vec<FieldRef>,
    pub(super) calls: Vec<AggregateCall>,
    pub(super) codec: KeyCodec,
    pub(super) state_widths: Vec<usize>,
    /// `[key_group, keys…, rows, states…]`
    pub(super) state_schema: SchemaRef,
    pub(super) output_schema: SchemaRef,
    input_schema: SchemaRef,
    input_updating: bool,
    pub(super) batch_rows: usize,
}

impl GroupLayout {
    /// # Errors
    /// `User` when an aggregate does not take its argument, `Internal` when the schemas do not belong to the node.
    pub(super) fn new(node: &GroupAggregate, input: &SchemaRef, output: SchemaRef, batch_rows: usize) -> Result<Self> {
        if output.fields().len() != node.keys.len() + node.aggregates.len() {
            return Err(Error::internal("a group aggregate gives its keys and its aggregates"));
        }
        let key_fields: Vec<FieldRef> = node.keys.iter().map(|key| input.fields()[*key].clone()).collect();
        let mut state_widths = vec![];
        let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, false));
        let mut fields: Vec<FieldRef> = vec![field(KEY_GROUP_COLUMN, DataType::UInt16)];
        fields.extend(key_fields.iter().cloned());
        fields.push(field("rows", DataType::Int64));
        for (number, call) in node.aggregates.iter().enumerate() {
            let state = running::create(call, input, node.input_updating)?.state_fields();
            state_widths.push(state.len());
            fields.extend(state.into_iter().map(|field| {
                let name = format!("{number}.{}", field.name());
                Arc::new(field.with_name(name))
            }));
        }
        Ok(GroupLayout {
            keys: node.keys.clone(),
            codec: KeyCodec::new(&key_fields)?,
            key_fields,
            calls: node.aggregates.clone(),
            state_widths,
            state_schema: Arc::new(Schema::new(fields)),
            output_schema: output,
            input_schema: input.clone(),
            input_updating: node.input_updating,
            batch_rows: batch_rows.max(1),
        })
    }

    pub(super) fn accumulators(&self) -> Result<Vec<Box<dyn RunningAccumulator>>> {
        self.calls.iter().map(|call| running::create(call, &self.input_schema, self.input_updating)).collect()
    }

    pub(super) fn keys_of(&self, batch: &Batch) -> Vec<ArrayRef> {
        self.keys.iter().map(|key| canonical_floats(batch.column(*key))).collect()
    }

    /// `group customer = 'ann'`, for errors.
    pub(super) fn describe(&self, keys: &[ArrayRef], row: usize) -> String {
        let values: Vec<String> = self
            .key_fields
            .iter()
            .zip(keys)
            .map(|(field, column)| format!("{} = {}", field.name(), value_text(column, row)))
            .collect();
        if values.is_empty() { "the one group of all rows".to_string() } else { format!("group {}", values.join(", ")) }
    }

    /// # Errors
    /// `Corrupt` when the columns are not those of [`GroupLayout::state_schema`].
    pub(super) fn check_state(&self, state: &RecordBatch) -> Result<()> {
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let (found, expected) = (types(state.schema_ref()), types(&self.state_schema));
        if found != expected {
            return Err(Error::corrupt(format!("group state has columns {found:?} in place of {expected:?}")));
        }
        Ok(())
    }
}

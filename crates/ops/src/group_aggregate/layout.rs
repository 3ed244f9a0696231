//! What the tables of a group aggregate share.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use thalweg_core::{Batch, Error, Result};
use thalweg_plan::{AggregateCall, GroupAggregate};
use thalweg_state::KEY_GROUP_COLUMN;

use crate::eval::value_text;
use crate::item_slots::{item_schemas, life_field};
use crate::key_codec::KeyCodec;
use crate::running::{Aggregates, Items, canonical_floats};

pub(super) struct GroupLayout {
    pub(super) keys: Vec<usize>,
    pub(super) key_fields: Vec<FieldRef>,
    calls: Vec<AggregateCall>,
    pub(super) codec: KeyCodec,
    pub(super) state_widths: Vec<usize>,
    /// `[key_group, keys…, rows, life, states…]`
    pub(super) state_schema: SchemaRef,
    /// Of what is stored item by item.
    pub(super) item_schemas: Vec<SchemaRef>,
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
        fields.extend([field("rows", DataType::Int64), life_field()]);
        let mut aggregates = Aggregates::new(&node.aggregates, input, node.input_updating, Items::Stored)?;
        for call in 0..node.aggregates.len() {
            let state = aggregates.state_fields(call);
            state_widths.push(state.len());
            fields.extend(state.into_iter().map(Arc::new));
        }
        Ok(GroupLayout {
            keys: node.keys.clone(),
            codec: KeyCodec::new(&key_fields)?,
            item_schemas: item_schemas(&mut aggregates),
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

    pub(super) fn aggregates(&self) -> Result<Aggregates> {
        Aggregates::new(&self.calls, &self.input_schema, self.input_updating, Items::Stored)
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

//! Rows of an updating input, until their turn comes.
//!
//! A row that is taken back is old: which session it belongs to depends on the rows that came before it, by whatever lane. So rows
//! wait until the operator's watermark has passed the one behind which they came: then no other row of that one can come any
//! more. They take their turns in an order that knows nothing of lanes: by that watermark, by event time, rows that are added
//! before rows that are taken back, by their columns from left to right.
//!
//! State: an [`Arrangement`] `pending` with the input's columns, `came_behind: Int64` (the watermark) and `is_taken_back: Boolean`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use thalweg_core::{Batch, EventTime, Result};
use thalweg_plan::Session;
use thalweg_state::{SlotId, StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::repeated;
use crate::key_codec::KeyCodec;
use crate::running::canonical_floats;

pub(super) struct Pending {
    rows: Arrangement,
    /// By the watermark behind which they came.
    waiting: BTreeMap<i64, Vec<RowId>>,
    /// The columns of `rows` in the order in which they decide about a row's turn.
    turn_columns: Vec<usize>,
    turns: KeyCodec,
    input: SchemaRef,
}

impl Pending {
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(super) fn new(node: &Session, input: &SchemaRef) -> Result<Self> {
        let width = input.fields().len();
        let mut fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("came_behind", DataType::Int64, false)));
        fields.push(Arc::new(Field::new("is_taken_back", DataType::Boolean, false)));
        let turn_columns: Vec<usize> = [width, node.time_column, width + 1].into_iter().chain(0..width).collect();
        let turn_fields: Vec<FieldRef> = turn_columns.iter().map(|column| fields[*column].clone()).collect();
        Ok(Pending {
            rows: Arrangement::unindexed("pending", &Arc::new(Schema::new(fields)), &node.keys)?,
            waiting: BTreeMap::new(),
            turns: KeyCodec::new(&turn_fields)?,
            turn_columns,
            input: input.clone(),
        })
    }

    /// Lets rows wait. `watermark` is the operator's: it may be ahead of theirs, as a partition was idle.
    pub(super) fn add(&mut self, batch: Batch, watermark: EventTime) -> Result<()> {
        let batch = repeated(batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let own = |row: usize| batch.row_watermarks.as_ref().map_or(i64::MIN, |watermarks| watermarks.value(row));
        let came_behind: Vec<i64> = (0..batch.num_rows()).map(|row| own(row).max(watermark.0)).collect();
        let is_taken_back: BooleanArray = (0..batch.num_rows()).map(|row| Some(batch.weight(row) < 0)).collect();
        let first = self.rows.next_id();
        for (id, came_behind) in (first..).zip(&came_behind) {
            self.waiting.entry(*came_behind).or_default().push(id);
        }
        let mut columns = batch.rows.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(came_behind)));
        columns.push(Arc::new(is_taken_back));
        let stored = Batch::append(RecordBatch::try_new(self.rows.schema().clone(), columns)?);
        let keys = self.rows.keys_of(&stored.rows)?;
        self.rows.apply(&stored, &keys)?;
        self.rows.tidy()
    }

    /// The rows whose turn has come with `watermark`, in order, each with the watermark behind which it came; they wait no longer.
    pub(super) fn passed_by(&mut self, watermark: EventTime) -> Result<Option<Batch>> {
        let rest = match watermark {
            EventTime::MAX => BTreeMap::new(),
            _ => self.waiting.split_off(&watermark.0),
        };
        let passed = std::mem::replace(&mut self.waiting, rest);
        let ids: Vec<Option<RowId>> = passed.into_values().flatten().map(Some).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let rows = self.rows.gather(&ids, &(0..self.turn_columns.len() - 1).collect::<Vec<_>>())?;
        let turn_columns: Vec<ArrayRef> = self.turn_columns.iter().map(|column| canonical_floats(&rows[*column])).collect();
        let turns = self.turns.encode(&turn_columns, ids.len())?;
        let mut order: Vec<u32> = (0_u32..).take(ids.len()).collect();
        order.sort_by(|one, other| turns.key(*one as usize).cmp(turns.key(*other as usize)));
        let rows = RecordBatch::try_new(self.rows.schema().clone(), rows)?;
        let rows = take_record_batch(&rows, &UInt32Array::from(order))?;
        ids.into_iter().flatten().for_each(|id| self.rows.remove(id, &[]));
        self.rows.tidy()?;

        let width = self.input.fields().len();
        let is_taken_back = rows.column(width + 1).as_boolean();
        let weights = (is_taken_back.true_count() > 0)
            .then(|| Int64Array::from_iter_values(is_taken_back.values().iter().map(|is| if is { -1 } else { 1 })));
        let row_watermarks = Some(rows.column(width).as_primitive::<Int64Type>().clone());
        let rows = RecordBatch::try_new(self.input.clone(), rows.columns()[..width].to_vec())?;
        Ok(Some(Batch { weights, row_watermarks, ..Batch::append(rows) }))
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.rows.size_bytes() + self.rows.len() * size_of::<RowId>()
    }

    pub(super) fn snapshot(&mut self, delta: &mut StateDelta) -> Result<()> {
        self.rows.snapshot(delta)
    }

    pub(super) fn owns(&self, slot: &SlotId) -> bool {
        self.rows.owns(slot)
    }

    /// # Errors
    /// `Corrupt` when the parts do not have the expected columns.
    pub(super) fn restore(&mut self, parts: &[StatePart]) -> Result<()> {
        self.rows.restore(parts)?;
        for (rows, ids) in self.rows.live_chunks()? {
            let came_behind = rows.column(self.input.fields().len()).as_primitive::<Int64Type>();
            for (id, came_behind) in ids.into_iter().zip(came_behind.values()) {
                self.waiting.entry(*came_behind).or_default().push(id);
            }
        }
        Ok(())
    }

    pub(super) fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }
}

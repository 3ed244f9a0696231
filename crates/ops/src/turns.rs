//! Rows that wait for their turn, so that what becomes of them does not depend on the order in which lanes bring them.
//!
//! A row waits until the operator's watermark has passed the one behind which it came: then no other row of that one can come any
//! more. Rows take their turns by that watermark. Of rows of the same watermark, where all come straight from the source, the
//! first to arrive is the first. Elsewhere their order of arrival says nothing: they go by event time, rows that are added before
//! rows that are taken back, and by their columns from left to right.
//!
//! A row that carries no watermark was sent when the watermark reached its event time: it came behind the instant before.
//!
//! State: an [`Arrangement`] with the input's columns, `came_behind: Int64` (the watermark) and `is_taken_back: Boolean`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use thalweg_core::{Batch, EventTime, Result};
use thalweg_plan::InTurn;
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::repeated;
use crate::event_times::event_times;
use crate::key_codec::KeyCodec;
use crate::running::canonical_floats;

pub(crate) struct Turns {
    rows: Arrangement,
    /// By the watermark behind which they came; in order of arrival.
    waiting: BTreeMap<i64, Vec<RowId>>,
    time_column: usize,
    time_name: String,
    order: Option<TurnOrder>,
    input: SchemaRef,
}

/// The columns of the stored rows that decide about a row's turn, the first one first.
struct TurnOrder {
    columns: Vec<usize>,
    codec: KeyCodec,
}

impl Turns {
    /// `name` begins the names of the slots; rows come by hash of the columns `keys`.
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(name: &str, in_turn: InTurn, input: &SchemaRef, keys: &[usize]) -> Result<Self> {
        let width = input.fields().len();
        let mut fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("came_behind", DataType::Int64, false)));
        fields.push(Arc::new(Field::new("is_taken_back", DataType::Boolean, false)));
        let order = if in_turn.by_arrival {
            None
        } else {
            let columns: Vec<usize> = [width, in_turn.time_column, width + 1].into_iter().chain(0..width).collect();
            let fields: Vec<FieldRef> = columns.iter().map(|column| fields[*column].clone()).collect();
            Some(TurnOrder { columns, codec: KeyCodec::new(&fields)? })
        };
        Ok(Turns {
            rows: Arrangement::unindexed(name, &Arc::new(Schema::new(fields)), keys)?,
            waiting: BTreeMap::new(),
            time_column: in_turn.time_column,
            time_name: input.field(in_turn.time_column).name().clone(),
            order,
            input: input.clone(),
        })
    }

    /// Lets rows wait. `watermark` is the operator's: it may be ahead of theirs, as a partition was idle.
    pub(crate) fn add(&mut self, batch: Batch, watermark: EventTime) -> Result<()> {
        let batch = repeated(batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let own = match &batch.row_watermarks {
            Some(own) => own.values().to_vec(),
            None => {
                let times = event_times(batch.column(self.time_column), &self.time_name)?;
                times.values().iter().map(|time| time.saturating_sub(1)).collect()
            }
        };
        let came_behind: Vec<i64> = own.into_iter().map(|own| own.max(watermark.0)).collect();
        let is_taken_back: BooleanArray = (0..batch.num_rows()).map(|row| Some(batch.weight(row) < 0)).collect();
        for (id, came_behind) in (self.rows.next_id()..).zip(&came_behind) {
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
    pub(crate) fn passed_by(&mut self, watermark: EventTime) -> Result<Option<Batch>> {
        let rest = match watermark {
            EventTime::MAX => BTreeMap::new(),
            _ => self.waiting.split_off(&watermark.0),
        };
        let passed = std::mem::replace(&mut self.waiting, rest);
        let ids: Vec<Option<RowId>> = passed.into_values().flatten().map(Some).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let width = self.input.fields().len();
        let columns = self.rows.gather(&ids, &(0..width + 2).collect::<Vec<_>>())?;
        let mut rows = RecordBatch::try_new(self.rows.schema().clone(), columns)?;
        if let Some(order) = &self.order {
            rows = order.sorted(&rows)?;
        }
        ids.into_iter().flatten().for_each(|id| self.rows.remove(id, &[]));
        self.rows.tidy()?;

        let is_taken_back = rows.column(width + 1).as_boolean();
        let weights = (is_taken_back.true_count() > 0)
            .then(|| Int64Array::from_iter_values(is_taken_back.values().iter().map(|is| if is { -1 } else { 1 })));
        let row_watermarks = Some(rows.column(width).as_primitive::<Int64Type>().clone());
        let rows = RecordBatch::try_new(self.input.clone(), rows.columns()[..width].to_vec())?;
        Ok(Some(Batch { weights, row_watermarks, ..Batch::append(rows) }))
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.rows.size_bytes() + self.rows.len() * size_of::<RowId>()
    }

    pub(crate) fn snapshot(&mut self, delta: &mut StateDelta) -> Result<()> {
        self.rows.snapshot(delta)
    }

    /// Takes in its own among the parts and gives the others.
    /// # Errors
    /// `Corrupt` when a part does not have the expected columns.
    pub(crate) fn restore(&mut self, parts: Vec<StatePart>) -> Result<Vec<StatePart>> {
        let (own, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| self.rows.owns(&part.slot));
        self.rows.restore(&own)?;
        for (rows, ids) in self.rows.live_chunks()? {
            let came_behind = rows.column(self.input.fields().len()).as_primitive::<Int64Type>();
            for (id, came_behind) in ids.into_iter().zip(came_behind.values()) {
                self.waiting.entry(*came_behind).or_default().push(id);
            }
        }
        Ok(others)
    }

    pub(crate) fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }
}

impl TurnOrder {
    fn sorted(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| canonical_floats(rows.column(*column))).collect();
        let turns = self.codec.encode(&columns, rows.num_rows())?;
        let mut order: Vec<u32> = (0_u32..).take(rows.num_rows()).collect();
        order.sort_by(|one, other| turns.key(*one as usize).cmp(turns.key(*other as usize)));
        Ok(take_record_batch(rows, &UInt32Array::from(order))?)
    }
}

//! Rows that wait for their turn, so that what becomes of them does not depend on the order in which lanes bring them.
//!
//! A row waits until the operator's watermark has passed the one behind which it came: then no other row of that one can come any
//! more. Rows take their turns by that watermark. Of rows of the same watermark, where all come straight from the source, the
//! first to arrive is the first; of several partitions that is the one that is read first. Elsewhere their order of arrival says
//! nothing: they go by event time, rows that are added before rows that are taken back, and by their columns from left to right.
//!
//! A row that carries no watermark was sent when the watermark reached its event time: it came behind the instant before.
//!
//! The rows whose turn comes are handed out in batches, cut between watermarks where their order is not that of arrival. All are
//! asked for before anything else happens.
//!
//! State: an [`Arrangement`] with the input's columns, `came_behind: Int64` (the watermark) and `is_taken_back: Boolean`.

use std::collections::{BTreeMap, VecDeque};
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
use crate::key_codec::{EncodedKeys, KeyCodec};
use crate::running::canonical_floats;

/// Rows that are handed out at once, at most.
const ROWS_AT_ONCE: usize = 8_192;
/// Bytes that are handed out at once, about.
const BYTES_AT_ONCE: usize = 16 << 20;

pub(crate) struct Turns {
    rows: Arrangement,
    /// By the watermark behind which they came; in order of arrival.
    waiting: BTreeMap<i64, VecDeque<RowId>>,
    /// The rest of the rows of one watermark that are too many to be handed out at once, in order.
    in_order: VecDeque<RowId>,
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
            in_order: VecDeque::new(),
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
            self.waiting.entry(*came_behind).or_default().push_back(id);
        }
        let mut columns = batch.rows.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(came_behind)));
        columns.push(Arc::new(is_taken_back));
        let stored = Batch::append(RecordBatch::try_new(self.rows.schema().clone(), columns)?);
        let keys = self.rows.keys_of(&stored.rows)?;
        self.rows.apply(&stored, &keys)?;
        self.rows.tidy()
    }

    /// The next rows whose turn has come with `watermark`, in order, each with the watermark behind which it came; they wait no
    /// longer. `None` when there are no more.
    pub(crate) fn passed_by(&mut self, watermark: EventTime) -> Result<Option<Batch>> {
        let limit = (BYTES_AT_ONCE / self.rows.row_bytes().max(1)).clamp(1, ROWS_AT_ONCE);
        let (ids, is_in_order) = self.next(watermark, limit)?;
        if ids.is_empty() {
            return Ok(None);
        }
        let width = self.input.fields().len();
        let mut rows = self.stored(&ids)?;
        if let (Some(order), false) = (&self.order, is_in_order) {
            let turns = order.turns(&rows)?;
            let mut places: Vec<u32> = (0_u32..).take(ids.len()).collect();
            places.sort_by(|one, other| turns.key(*one as usize).cmp(turns.key(*other as usize)));
            rows = take_record_batch(&rows, &UInt32Array::from(places))?;
        }
        ids.into_iter().for_each(|id| self.rows.remove(id, &[]));
        self.rows.tidy()?;

        let is_taken_back = rows.column(width + 1).as_boolean();
        let weights = (is_taken_back.true_count() > 0)
            .then(|| Int64Array::from_iter_values(is_taken_back.values().iter().map(|is| if is { -1 } else { 1 })));
        let row_watermarks = Some(rows.column(width).as_primitive::<Int64Type>().clone());
        let rows = RecordBatch::try_new(self.input.clone(), rows.columns()[..width].to_vec())?;
        Ok(Some(Batch { weights, row_watermarks, ..Batch::append(rows) }))
    }

    /// The next rows whose turn has come, about `limit`, and whether they are in order.
    fn next(&mut self, watermark: EventTime, limit: usize) -> Result<(Vec<RowId>, bool)> {
        if !self.in_order.is_empty() {
            return Ok((self.in_order.drain(..limit.min(self.in_order.len())).collect(), true));
        }
        let mut ids = vec![];
        while let Some(mut group) = self.waiting.first_entry()
            && (watermark == EventTime::MAX || *group.key() < watermark.0)
            && ids.len() < limit
        {
            let room = limit - ids.len();
            if group.get().len() <= room {
                ids.extend(group.remove());
            } else if self.order.is_none() {
                ids.extend(group.get_mut().drain(..room));
            } else if ids.is_empty() {
                let group = group.remove();
                self.in_order = self.sorted(group, limit)?;
                return self.next(watermark, limit);
            } else {
                break;
            }
        }
        Ok((ids, self.order.is_none()))
    }

    /// Rows by their turns; `limit` of them are looked at together.
    fn sorted(&self, mut ids: VecDeque<RowId>, limit: usize) -> Result<VecDeque<RowId>> {
        let Some(order) = &self.order else {
            return Ok(ids);
        };
        let mut turns: Vec<(Box<[u8]>, RowId)> = Vec::with_capacity(ids.len());
        for ids in ids.make_contiguous().chunks(limit) {
            let encoded = order.turns(&self.stored(ids)?)?;
            turns.extend(ids.iter().enumerate().map(|(row, id)| (encoded.key(row).into(), *id)));
        }
        turns.sort();
        Ok(turns.into_iter().map(|(_, id)| id).collect())
    }

    /// Rows as they are stored.
    fn stored(&self, ids: &[RowId]) -> Result<RecordBatch> {
        let ids: Vec<Option<RowId>> = ids.iter().map(|id| Some(*id)).collect();
        let columns = self.rows.gather(&ids, &(0..self.rows.schema().fields().len()).collect::<Vec<_>>())?;
        Ok(RecordBatch::try_new(self.rows.schema().clone(), columns)?)
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
                self.waiting.entry(*came_behind).or_default().push_back(id);
            }
        }
        Ok(others)
    }

    pub(crate) fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }
}

impl TurnOrder {
    /// Of stored rows: what comes first is smaller.
    fn turns(&self, rows: &RecordBatch) -> Result<EncodedKeys> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| canonical_floats(rows.column(*column))).collect();
        self.codec.encode(&columns, rows.num_rows())
    }
}

#[cfg(test)]
mod tests;

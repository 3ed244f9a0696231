//! SESSION windows: per key, rows no further apart than the gap share a window.
//!
//! - **Window.** A row at `t` opens `[t, t + gap)` and merges with every open session of its key that overlaps or touches it:
//!   rows exactly one gap apart share a session. So `window_end` is the last row plus the gap.
//! - **Late.** A session is closed for a row when the row's own watermark (`Batch::row_watermarks`), or the operator's, has
//!   reached the session's last instant, `window_end - 1 ms`. A row does not see sessions that are closed for it; it is late,
//!   dropped and counted, only if what it merged with or opened is itself closed. So results do not depend on how rows are cut
//!   into batches nor on when watermarks come in between, and a row may open a session that overlaps one already sent.
//! - **Emission.** Once, when the watermark reaches the last instant; in order of `window_end`, `window_start` and first
//!   arrival; without an aggregate the rows of a session in order of arrival (rows of a session that was merged into an earlier
//!   one come behind that one's). At most `batch_rows` rows in a batch.
//! - **Rows taken back.** Rows of an updating input wait until the watermark has passed the one behind which they came, and take
//!   their turns in an order of their own, see [`Turns`]: so results do not depend on lanes either. A row that takes one back
//!   belongs to a session as any other: it may open, lengthen or merge sessions, and none gets shorter. When the session is sent,
//!   both rows are left out. If the row that it takes back is not in its session it is late. So output is append-only.
//! - **Time zone.** Sessions of a TIMESTAMP_LTZ column are measured in local time, as all windows are.
//! - **State.** A session is freed when it is sent. See [`slots`] for the layout in a checkpoint, and [`Turns`]. The watermark is
//!   kept too: it may have been ahead of the sources' while a partition was idle.
//!
//! Source of the semantics: Flink 2.3, recorded cases window-session and window-legacy.

mod collect_rows;
mod layout;
mod slots;
mod table;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, EventTime, KeyGroup, Result};
use thalweg_plan::{InTurn, Session};
use thalweg_state::{SlotChange, SlotId, StateDelta, StatePart};

use crate::event_times::times_from;
use crate::row_hash::{RowHash, RowHasher};
use crate::turns::Turns;
use crate::{Operator, OperatorContext, OperatorMetrics, Output};
use layout::SessionLayout;
use slots::Slots;
use table::SessionTable;

/// The slot that holds the watermark.
const WATERMARK_SLOT: &str = "watermark";

/// One lane of a SESSION window; its input comes by hash of the keys. See the module's comment.
pub(crate) struct SessionOperator {
    layout: SessionLayout,
    table: SessionTable,
    slots: Slots,
    /// Only where input rows may be taken back.
    pending: Option<Turns>,
    batch_rows: usize,
    key_groups: Range<KeyGroup>,
    /// Never goes back: all sessions whose last instant is at or before it were sent.
    watermark: EventTime,
    stored_watermark: EventTime,
    late_rows: u64,
}

impl SessionOperator {
    /// # Errors
    /// `User` for a time zone that does not exist or an aggregate that does not take its argument.
    pub(crate) fn new(node: &Session, input: &SchemaRef, output: &SchemaRef, context: &OperatorContext) -> Result<Self> {
        let layout = SessionLayout::new(node, input, output)?;
        let in_turn = InTurn { time_column: node.time_column, by_arrival: false };
        Ok(SessionOperator {
            table: SessionTable::new(&layout)?,
            slots: Slots::new(node.window.gap_ms),
            layout,
            pending: if node.input_updating { Some(Turns::new("pending", in_turn, input, &node.keys)?) } else { None },
            batch_rows: context.batch_rows.max(1),
            key_groups: context.key_groups.clone(),
            watermark: EventTime::MIN,
            stored_watermark: EventTime::MIN,
            late_rows: 0,
        })
    }

    /// Gives rows to their sessions.
    fn place(&mut self, batch: Batch) -> Result<()> {
        let outcome = self.table.add(&self.layout, batch, self.watermark.0)?;
        self.late_rows += outcome.late_rows;
        self.slots.bury(outcome.buried);
        Ok(())
    }

    /// Sends sessions, in the order given.
    fn emit(&mut self, sessions: &[usize], out: &mut Output) -> Result<()> {
        let mut columns = if self.layout.gives_rows() { vec![] } else { self.table.keys_of(sessions)? };
        let mut row_of_session: Option<UInt32Array> = None;
        let mut weights: Option<ArrayRef> = None;
        let results = self.table.results(&self.layout, sessions)?;
        if self.layout.gives_rows() {
            let lists = results[0].as_list::<i32>();
            let offsets = lists.value_offsets();
            let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
            columns.extend(lists.values().slice(first, last - first).as_struct().columns().iter().cloned());
            weights = if self.layout.has_weights() { columns.pop() } else { None };
            let repeated = (0..lists.len()).flat_map(|at| {
                let rows = (offsets[at + 1] - offsets[at]) as usize;
                std::iter::repeat_n(at as u32, rows)
            });
            row_of_session = Some(UInt32Array::from_iter_values(repeated));
        } else {
            columns.extend(results);
        }
        let bounds = self.table.bounds_of(sessions);
        let first = columns.len();
        let data_type = |at: usize| self.layout.output_schema.field(first + at).data_type();
        let last_instants = bounds.iter().map(|bound| self.table.last_instant_before(bound.1));
        let window: [ArrayRef; 3] = [
            times_from(data_type(0), bounds.iter().map(|bound| bound.0))?,
            times_from(data_type(1), bounds.iter().map(|bound| bound.1))?,
            times_from(data_type(2), last_instants)?,
        ];
        for column in window {
            columns.push(match &row_of_session {
                Some(rows) => take(&column, rows, None)?,
                None => column,
            });
        }
        let mut rows = RecordBatch::try_new(Arc::clone(&self.layout.output_schema), columns)?;
        if let (Some(weights), Some(sessions)) = (weights, row_of_session) {
            rows = self.left_over(rows, weights.as_primitive(), &sessions)?;
        }
        for offset in (0..rows.num_rows()).step_by(self.batch_rows) {
            let length = self.batch_rows.min(rows.num_rows() - offset);
            out.push(Batch::append(rows.slice(offset, length)));
        }
        Ok(())
    }

    /// The rows that are not taken back in their own session; `sessions` has a number for each row.
    fn left_over(&mut self, rows: RecordBatch, weights: &Int64Array, sessions: &UInt32Array) -> Result<RecordBatch> {
        let mut is_left: Vec<bool> = weights.values().iter().map(|weight| *weight > 0).collect();
        if !is_left.contains(&false) {
            return Ok(rows);
        }
        let hashes = RowHasher::new(&self.layout.output_schema)?.hashes(&rows)?;
        // A row may stand behind the one that takes it back: sessions that were merged stand one behind the other.
        let mut places: HashMap<(u32, RowHash), Vec<usize>> = HashMap::new();
        for row in (0..rows.num_rows()).filter(|row| is_left[*row]) {
            places.entry((sessions.value(row), hashes[row])).or_default().push(row);
        }
        for row in (0..rows.num_rows()).filter(|row| weights.value(*row) < 0) {
            match places.get_mut(&(sessions.value(row), hashes[row])).and_then(Vec::pop) {
                Some(taken_back) => is_left[taken_back] = false,
                None => self.late_rows += 1,
            }
        }
        Ok(filter_record_batch(&rows, &BooleanArray::from(is_left))?)
    }
}

impl Operator for SessionOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, _out: &mut Output) -> Result<()> {
        match &mut self.pending {
            Some(pending) => pending.add(batch, self.watermark),
            None => self.place(batch),
        }
    }

    fn on_watermark(&mut self, _port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        while let Some(pending) = &mut self.pending
            && let Some(batch) = pending.passed_by(watermark)?
        {
            self.place(batch)?;
        }
        let fired = self.table.closed_by(watermark.0);
        for sessions in fired.chunks(self.batch_rows) {
            self.emit(sessions, out)?;
        }
        self.slots.bury(self.table.remove(&self.layout, &fired)?);
        self.watermark = self.watermark.max(watermark);
        Ok(())
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        input.max(self.watermark)
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta { changes: self.slots.snapshot(&self.layout, &mut self.table)? };
        if let Some(pending) = &mut self.pending {
            pending.snapshot(&mut delta)?;
        }
        if self.watermark != self.stored_watermark {
            let batch = self.layout.watermark_batch(self.key_groups.clone(), self.watermark)?;
            delta.changes.push((SlotId(WATERMARK_SLOT.to_string()), SlotChange::Replace(batch)));
            self.stored_watermark = self.watermark;
        }
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let parts = match &mut self.pending {
            Some(pending) => pending.restore(parts)?,
            None => parts,
        };
        for part in parts {
            if part.slot.0 != WATERMARK_SLOT {
                self.slots.restore(&self.layout, &mut self.table, &part)?;
            } else if let Some(batch) = part.batches.last()
                && let Some(watermark) = self.layout.watermark_of_batch(batch)?
            {
                self.watermark = self.watermark.max(watermark);
                self.stored_watermark = self.watermark;
            }
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.slots.forget_stored(&mut self.table);
        self.stored_watermark = EventTime::MIN;
        if let Some(pending) = &mut self.pending {
            pending.mark_all_dirty();
        }
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: self.late_rows,
            unmatched_rows: 0,
            state_bytes: (self.table.size_bytes() + self.pending.as_ref().map_or(0, Turns::size_bytes)) as u64,
            state_rows: (self.table.live() + self.pending.as_ref().map_or(0, Turns::len)) as u64,
        }
    }
}

#[cfg(test)]
mod tests;

//! Window joins: rows of equal keys in the same window. INNER, LEFT, RIGHT, FULL, SEMI, ANTI.
//!
//! Emits once for each window, when the watermark, the smaller one of both inputs, reaches its last instant: windows in order of
//! that instant, then left rows in order of arrival, each with its matches in order of arrival or padded with nulls, then right
//! rows without a match. Two windows are the same when they begin and end at the same times. A null in a key matches nothing,
//! unless the key says that nulls match.
//!
//! Late rows: those of windows that the row's own watermark or the operator's has closed; dropped and counted. By its own: so the
//! result does not depend on which input is read faster.
//!
//! State: the rows of both inputs by the last instant of their window, `left/<ms>-<number>` and `right/<ms>-<number>`; those of a
//! window are dropped whole when it was sent. Rows that cannot come out are not kept. And the watermark.

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{and, filter_record_batch, take};
use arrow::datatypes::SchemaRef;
use hashbrown::HashSet;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{JoinKind, WindowBounds, WindowJoin};
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::append_only;
use crate::event_times::event_times;
use crate::join::PairCondition;
use crate::key_codec::EncodedKeys;
use crate::running::canonical_floats;
use crate::stored_watermark::{StoredWatermark, without_watermark};
use crate::time_buckets::{TimeBuckets, check_slots};
use crate::{Operator, OperatorContext, OperatorMetrics, Output};

const LEFT: usize = 0;
const RIGHT: usize = 1;

pub(crate) struct WindowJoinOperator {
    kind: JoinKind,
    sides: [Side; 2],
    condition: Option<PairCondition>,
    output_schema: SchemaRef,
    batch_rows: usize,
    ports: [EventTime; 2],
    /// The smaller one of the ports'.
    watermark: StoredWatermark,
    late_rows: u64,
    /// Windows that are closed and not sent yet, first one first.
    closed: VecDeque<Closed>,
}

struct Side {
    rows: TimeBuckets,
    schema: SchemaRef,
    window: WindowBounds,
    time_name: String,
    keys: Vec<usize>,
    /// Keys whose null matches nothing.
    strict_keys: Vec<usize>,
    /// Whether rows without a match come out.
    keeps_unmatched: bool,
}

/// A window on its way out.
struct Closed {
    sides: [Arrangement; 2],
    /// The left rows, of which those before `next` are done.
    left: Vec<RowId>,
    next: usize,
    piece: Option<Piece>,
    /// Right rows that have had a match, if those without one come out.
    matched: HashSet<RowId>,
    /// Right rows without a match, once all left rows are done.
    unmatched: Option<VecDeque<RowId>>,
}

/// Some left rows of a window.
struct Piece {
    rows: RecordBatch,
    keys: EncodedKeys,
    can_match: Vec<bool>,
    /// The row that comes next, how many of its candidates are done, and whether it has had a match.
    row: usize,
    candidate: usize,
    has_match: bool,
}

impl Side {
    fn can_match(&self, rows: &RecordBatch, row: usize) -> bool {
        self.strict_keys.iter().all(|key| !rows.column(*key).is_null(row))
    }
}

impl WindowJoinOperator {
    /// # Errors
    /// `User` for keys that cannot be compared, `Internal` when the schemas do not belong to the node.
    pub(crate) fn new(node: &WindowJoin, inputs: &[SchemaRef], output: SchemaRef, context: &OperatorContext) -> Result<Self> {
        let [left, right] = inputs else {
            return Err(Error::internal("a join has two inputs"));
        };
        let side = |name, schema: &SchemaRef, window: WindowBounds, keys: Vec<(usize, bool)>, keeps_unmatched| {
            let columns: Vec<usize> = keys.iter().map(|(column, _)| *column).collect();
            Ok::<_, Error>(Side {
                rows: TimeBuckets::new(name, schema, &columns)?,
                schema: schema.clone(),
                time_name: schema.field(window.time).name().clone(),
                window,
                keys: columns,
                strict_keys: keys.iter().filter(|(_, nulls_match)| !nulls_match).map(|(column, _)| *column).collect(),
                keeps_unmatched,
            })
        };
        let left_keys = node.keys.iter().map(|key| (key.left, key.nulls_match)).collect();
        let right_keys = node.keys.iter().map(|key| (key.right, key.nulls_match)).collect();
        let keeps_left = node.kind.keeps_left() || node.kind == JoinKind::Anti;
        Ok(WindowJoinOperator {
            kind: node.kind,
            sides: [
                side("left", left, node.left_window, left_keys, keeps_left)?,
                side("right", right, node.right_window, right_keys, node.kind.keeps_right())?,
            ],
            condition: node.condition.as_ref().map(|condition| PairCondition::new(condition, left, right)).transpose()?,
            output_schema: output,
            batch_rows: context.batch_rows.max(1),
            ports: [EventTime::MIN; 2],
            watermark: StoredWatermark::new(context.key_groups.clone()),
            late_rows: 0,
            closed: VecDeque::new(),
        })
    }

    /// Takes the windows out that the watermark has closed.
    fn close(&mut self) -> Result<()> {
        let mut times: Vec<i64> =
            self.sides.iter().flat_map(|side| side.rows.numbers().take_while(|time| *time <= self.watermark.now().0)).collect();
        times.sort_unstable();
        times.dedup();
        for time in times {
            let mut take_out = |side: usize| match self.sides[side].rows.remove(time) {
                Some(rows) => Ok(rows),
                None => Arrangement::new("none", &self.sides[side].schema, &self.sides[side].keys, false),
            };
            let sides = [take_out(LEFT)?, take_out(RIGHT)?];
            let left = sides[LEFT].live_ids();
            self.closed.push_back(Closed { sides, left, next: 0, piece: None, matched: HashSet::new(), unmatched: None });
        }
        Ok(())
    }

    /// Sends the next batch of output; returns whether there was any work.
    fn advance(&mut self, out: &mut Output) -> Result<bool> {
        let Some(mut closed) = self.closed.pop_front() else {
            return Ok(false);
        };
        if closed.piece.is_none() && closed.next < closed.left.len() {
            closed.piece = Some(self.next_piece(&mut closed)?);
        }
        if let Some(mut piece) = closed.piece.take() {
            self.advance_piece(&closed.sides, &mut closed.matched, &mut piece, out)?;
            if piece.row < piece.rows.num_rows() {
                closed.piece = Some(piece);
            }
            self.closed.push_front(closed);
            return Ok(true);
        }
        if self.sides[RIGHT].keeps_unmatched && self.send_unmatched(&mut closed, out)? {
            self.closed.push_front(closed);
        }
        Ok(true)
    }

    fn next_piece(&self, closed: &mut Closed) -> Result<Piece> {
        let side = &self.sides[LEFT];
        let end = closed.left.len().min(closed.next + self.batch_rows);
        let ids: Vec<Option<RowId>> = closed.left[closed.next..end].iter().map(|id| Some(*id)).collect();
        closed.next = end;
        let columns = closed.sides[LEFT].gather(&ids, &(0..side.schema.fields().len()).collect::<Vec<_>>())?;
        let rows = RecordBatch::try_new(side.schema.clone(), columns)?;
        let keys: Vec<ArrayRef> = side.keys.iter().map(|key| canonical_floats(rows.column(*key))).collect();
        let keys = closed.sides[RIGHT].encode_keys(&keys, ids.len())?;
        let can_match = (0..ids.len()).map(|row| side.can_match(&rows, row)).collect();
        Ok(Piece { rows, keys, can_match, row: 0, candidate: 0, has_match: false })
    }

    fn advance_piece(
        &self,
        sides: &[Arrangement; 2],
        matched: &mut HashSet<RowId>,
        piece: &mut Piece,
        out: &mut Output,
    ) -> Result<()> {
        let first_row = piece.row;
        let mut candidates: Vec<(u32, RowId)> = vec![];
        while piece.row < piece.rows.num_rows() && candidates.len() < self.batch_rows {
            let ids = match piece.can_match[piece.row] {
                true => &sides[RIGHT].of_key(piece.keys.key(piece.row))[piece.candidate..],
                false => &[],
            };
            let taken = ids.len().min(self.batch_rows - candidates.len());
            candidates.extend(ids[..taken].iter().map(|id| (piece.row as u32, *id)));
            if taken < ids.len() {
                piece.candidate += taken;
            } else {
                piece.row += 1;
                piece.candidate = 0;
            }
        }
        let mut matches = self.matching(&sides[RIGHT], &piece.rows, candidates)?.into_iter().peekable();
        let mut pairs: Vec<(u32, Option<RowId>)> = vec![];
        for row in first_row..piece.rows.num_rows().min(piece.row + 1) {
            while let Some((_, id)) = matches.next_if(|(at, _)| *at as usize == row) {
                piece.has_match = true;
                if self.kind.has_right_columns() {
                    pairs.push((row as u32, Some(id)));
                }
                if self.sides[RIGHT].keeps_unmatched {
                    matched.insert(id);
                }
            }
            if row < piece.row {
                let has_match = std::mem::take(&mut piece.has_match);
                if has_match && self.kind == JoinKind::Semi || !has_match && self.sides[LEFT].keeps_unmatched {
                    pairs.push((row as u32, None));
                }
            }
        }
        let rows = UInt32Array::from_iter_values(pairs.iter().map(|(row, _)| *row));
        let mut columns =
            piece.rows.columns().iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<Vec<ArrayRef>>>()?;
        if self.kind.has_right_columns() {
            let ids: Vec<Option<RowId>> = pairs.iter().map(|(_, id)| *id).collect();
            columns.extend(sides[RIGHT].gather(&ids, &(0..self.sides[RIGHT].schema.fields().len()).collect::<Vec<_>>())?);
        }
        self.send(columns, pairs.len(), out)
    }

    /// Those of the candidates that are in the same window and for which the condition is true.
    fn matching(&self, right: &Arrangement, left: &RecordBatch, pairs: Vec<(u32, RowId)>) -> Result<Vec<(u32, RowId)>> {
        if pairs.is_empty() {
            return Ok(pairs);
        }
        let bounds = |window: &WindowBounds| [window.start, window.end];
        let (left_bounds, right_bounds) = (bounds(&self.sides[LEFT].window), bounds(&self.sides[RIGHT].window));
        let left_of = |pairs: &[(u32, RowId)], columns: &[usize]| {
            let rows = UInt32Array::from_iter_values(pairs.iter().map(|(row, _)| *row));
            columns.iter().map(|column| Ok(take(left.column(*column), &rows, None)?)).collect::<Result<Vec<ArrayRef>>>()
        };
        let right_of = |pairs: &[(u32, RowId)], columns: &[usize]| {
            right.gather(&pairs.iter().map(|(_, id)| Some(*id)).collect::<Vec<_>>(), columns)
        };
        let keep = |pairs: Vec<(u32, RowId)>, mask: &BooleanArray| -> Vec<(u32, RowId)> {
            pairs.into_iter().zip(mask.values().iter()).filter(|(_, passes)| *passes).map(|(pair, _)| pair).collect()
        };
        let (lefts, rights) = (left_of(&pairs, &left_bounds)?, right_of(&pairs, &right_bounds)?);
        let same = and(&not_distinct(&lefts[0], &rights[0])?, &not_distinct(&lefts[1], &rights[1])?)?;
        let pairs = keep(pairs, &same);
        let Some(condition) = self.condition.as_ref().filter(|_| !pairs.is_empty()) else {
            return Ok(pairs);
        };
        let columns = [left_of(&pairs, &condition.left)?, right_of(&pairs, &condition.right)?].concat();
        let passing = condition.passing(columns, pairs.len())?;
        Ok(keep(pairs, &passing))
    }

    /// Sends some of the right rows of a window that have no match; returns whether there were any.
    fn send_unmatched(&self, closed: &mut Closed, out: &mut Output) -> Result<bool> {
        let (right, matched) = (&closed.sides[RIGHT], &closed.matched);
        let unmatched =
            closed.unmatched.get_or_insert_with(|| right.live_ids().into_iter().filter(|id| !matched.contains(id)).collect());
        let count = unmatched.len().min(self.batch_rows);
        let ids: Vec<Option<RowId>> = unmatched.drain(..count).map(Some).collect();
        let width = |side: usize| (0..self.sides[side].schema.fields().len()).collect::<Vec<_>>();
        let mut columns = closed.sides[LEFT].gather(&vec![None; ids.len()], &width(LEFT))?;
        columns.extend(right.gather(&ids, &width(RIGHT))?);
        self.send(columns, ids.len(), out)?;
        Ok(count > 0)
    }

    fn send(&self, columns: Vec<ArrayRef>, rows: usize, out: &mut Output) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = Batch::append(RecordBatch::try_new_with_options(self.output_schema.clone(), columns, &options)?);
        for offset in (0..rows).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(rows - offset)));
        }
        Ok(())
    }
}

impl Operator for WindowJoinOperator {
    fn on_batch(&mut self, port: usize, batch: Batch, _out: &mut Output) -> Result<()> {
        let batch = append_only(batch)?;
        let side = &mut self.sides[port];
        let times = event_times(batch.column(side.window.time), &side.time_name)?;
        let (mut wanted, mut kept_times) = (vec![], vec![]);
        for (row, time) in times.values().iter().enumerate() {
            let own = batch.row_watermarks.as_ref().map_or(i64::MIN, |watermarks| watermarks.value(row));
            let own = own.max(self.watermark.now().0);
            let is_late = own >= *time && own > i64::MIN;
            self.late_rows += u64::from(is_late);
            let is_kept = !is_late && (side.keeps_unmatched || side.can_match(&batch.rows, row));
            wanted.push(is_kept);
            kept_times.extend(is_kept.then_some(*time));
        }
        if kept_times.len() == batch.num_rows() {
            side.rows.add(&batch.rows, &kept_times)?;
        } else if !kept_times.is_empty() {
            side.rows.add(&filter_record_batch(&batch.rows, &BooleanArray::from(wanted))?, &kept_times)?;
        }
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        self.advance(out)
    }

    fn on_watermark(&mut self, port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.ports[port] = self.ports[port].max(watermark);
        self.watermark.advance(self.ports[0].min(self.ports[1]));
        self.close()?;
        self.advance(out)?;
        Ok(())
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        input.max(self.watermark.now())
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        assert!(self.closed.is_empty(), "what a watermark closes is taken before a snapshot");
        let mut delta = StateDelta::default();
        self.sides.iter_mut().try_for_each(|side| side.rows.snapshot(&mut delta))?;
        self.watermark.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let parts = without_watermark(parts, &mut self.watermark)?;
        check_slots(&parts, [&self.sides[0].rows, &self.sides[1].rows])?;
        self.sides.iter_mut().try_for_each(|side| side.rows.restore(&parts))
    }

    fn mark_all_dirty(&mut self) {
        self.sides.iter_mut().for_each(|side| side.rows.mark_all_dirty());
        self.watermark.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: self.late_rows,
            unmatched_rows: 0,
            state_bytes: self.sides.iter().map(|side| side.rows.size_bytes() as u64).sum(),
            state_rows: self.sides.iter().map(|side| side.rows.len() as u64).sum(),
        }
    }
}

#[cfg(test)]
mod tests;

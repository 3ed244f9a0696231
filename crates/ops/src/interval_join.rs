//! Interval joins: `lower <= left time - right time <= upper`, both bounds included. INNER, LEFT, RIGHT, FULL.
//!
//! Ordering: a pair comes as soon as both of its rows are there: new rows in order of arrival, the rows that each meets by time
//! slot, oldest arrival first. Rows of an outer side without a match come padded with nulls when the watermark, the smaller one
//! of both inputs, has passed the last time that could match; those of one watermark left ones first, by that time, then by
//! arrival. A row that can match nothing (a null in a key, an interval that is empty) comes padded at once.
//!
//! Late rows are never dropped: they meet what a job that goes row by row would still have. A row is there for rows of the other
//! side until the watermark passes the last time that could match; so a late row meets those that its own partition's watermark
//! has not ruled out when it comes, and waits itself for as long as it is not ruled out. Of two rows that came at different
//! watermarks the one at the smaller one was first. As each row is judged by the watermark of its own partition, the result
//! depends neither on how rows are cut into batches nor on which input is read faster. See [`side::Stamp`].
//!
//! Watermark: held back by the longest wait, `max(-lower, upper)`, and 1 ms, so that no row comes out behind it but for those of
//! late rows, which carry their own. Thus both times stay time attributes. Where the planner wants it every row carries one
//! (`IntervalJoin::stamps_rows`): of two rows the greater of their own; of a padded row the one that leaves it without a match; each
//! held back as far.
//!
//! State: the rows of both inputs in slots of time, `left/<slot>-<number>` and `right/<slot>-<number>`, each row with the watermark
//! at which it came if it was late or all rows are stamped; a mark notes that a row of an outer side needs no padding any more. A slot is dropped whole
//! when the watermark has passed all that its rows could match. And the watermark.
//!
//! Source of the semantics: Flink 2.3, cases join-interval; its clean-up interval is 0, the default.

mod side;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{Int64Type, SchemaRef};
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{IntervalJoin, JoinKind};
use thalweg_state::{StateDelta, StatePart};

use crate::changes::append_only;
use crate::event_times::milliseconds;
use crate::join::PairCondition;
use crate::key_codec::{EncodedKeys, KeyCodec};
use crate::stored_watermark::{StoredWatermark, without_watermark};
use crate::time_buckets::{Place, check_slots};
use crate::{Operator, OperatorContext, OperatorMetrics, Output};
use side::{Entered, Side, SideLayout, Stamp};

const LEFT: usize = 0;

pub(crate) struct IntervalJoinOperator {
    sides: [Side; 2],
    key_codec: KeyCodec,
    condition: Option<PairCondition>,
    /// Whether no pair of times can match.
    is_empty: bool,
    output_schema: SchemaRef,
    batch_rows: usize,
    ports: [EventTime; 2],
    /// The smaller one of the ports'.
    watermark: StoredWatermark,
    /// The input whose pairs are not all out yet.
    pending: Option<Pending>,
}

/// A batch on its way through the other side.
struct Pending {
    port: usize,
    batch: Batch,
    keys: EncodedKeys,
    entered: Entered,
    /// The row that comes next, and where in the other side it goes on.
    row: usize,
    from: (i64, usize),
    /// Whether that row has had a match.
    has_match: bool,
}

/// A row of the batch and one of the other side that belong together.
struct Match {
    row: u32,
    other: Place,
    stamp: Stamp,
}

/// Output rows as places in the batch and in the other side, with their own watermarks.
#[derive(Default)]
struct Pairs {
    own: Vec<u32>,
    other: Vec<Option<Place>>,
    came_at: Vec<Option<i64>>,
}

impl Pairs {
    fn push(&mut self, own: u32, other: Option<Place>, came_at: Option<i64>) {
        self.own.push(own);
        self.other.push(other);
        self.came_at.push(came_at);
    }
}

impl IntervalJoinOperator {
    /// # Errors
    /// `User` for keys that cannot be compared, `Internal` when the schemas do not belong to the node.
    pub(crate) fn new(node: &IntervalJoin, inputs: &[SchemaRef], output: SchemaRef, context: &OperatorContext) -> Result<Self> {
        let [left, right] = inputs else {
            return Err(Error::internal("a join has two inputs"));
        };
        if !matches!(node.kind, JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full) {
            return Err(Error::internal(format!("there is no {} interval join", node.kind.name())));
        }
        let reaches = [node.lower_ms.saturating_neg(), node.upper_ms];
        let layout = |name, time_column, reach_ms, is_outer, keys: Vec<(usize, bool)>| SideLayout {
            name,
            time_column,
            reach_ms,
            span_ms: reaches[0].saturating_add(reaches[1]),
            stamps_rows: node.stamps_rows,
            is_outer,
            keys,
        };
        let left_keys = node.keys.iter().map(|key| (key.left, key.nulls_match)).collect();
        let right_keys = node.keys.iter().map(|key| (key.right, key.nulls_match)).collect();
        let key_fields: Vec<_> = node.keys.iter().map(|key| left.fields()[key.left].clone()).collect();
        Ok(IntervalJoinOperator {
            sides: [
                Side::new(layout("left", node.left_time, reaches[0], node.kind.keeps_left(), left_keys), left)?,
                Side::new(layout("right", node.right_time, reaches[1], node.kind.keeps_right(), right_keys), right)?,
            ],
            key_codec: KeyCodec::new(&key_fields)?,
            condition: node.condition.as_ref().map(|condition| PairCondition::new(condition, left, right)).transpose()?,
            is_empty: node.lower_ms > node.upper_ms,
            output_schema: output,
            batch_rows: context.batch_rows.max(1),
            ports: [EventTime::MIN; 2],
            watermark: StoredWatermark::new(context.key_groups.clone()),
            pending: None,
        })
    }

    /// Sends the next batch of output; returns whether there may be more.
    fn advance(&mut self, pending: &mut Pending, out: &mut Output) -> Result<bool> {
        let first_row = pending.row;
        let mut candidates: Vec<(u32, Place)> = vec![];
        let mut found = vec![];
        while pending.row < pending.batch.num_rows() && candidates.len() < self.batch_rows {
            found.clear();
            let go_on = match pending.entered.can_match[pending.row] {
                true => self.candidates(pending, self.batch_rows - candidates.len(), &mut found),
                false => None,
            };
            candidates.extend(found.iter().map(|place| (pending.row as u32, *place)));
            match go_on {
                Some(from) => pending.from = from,
                None => {
                    pending.row += 1;
                    pending.from = (i64::MIN, 0);
                }
            }
        }
        let mut matches = self.matching(pending, &candidates)?.into_iter().peekable();
        let mut pairs = Pairs::default();
        for row in first_row..pending.batch.num_rows().min(pending.row + 1) {
            while let Some(found) = matches.next_if(|found| found.row as usize == row) {
                pending.has_match = true;
                self.sides[1 - pending.port].on_match(found.other, found.stamp.until());
                let came_at = pending.entered.stamps[row].own.max(found.stamp.own);
                pairs.push(found.row, Some(found.other), came_at);
            }
            if row < pending.row {
                let has_match = std::mem::take(&mut pending.has_match);
                let stamp = pending.entered.stamps[row];
                let own = &mut self.sides[pending.port];
                match pending.entered.places[row] {
                    Some(place) if has_match => own.on_match(place, stamp.until()),
                    None if own.layout.is_outer && !has_match => pairs.push(row as u32, None, stamp.own),
                    _ => {}
                }
            }
        }
        self.emit(pending, pairs, out)?;
        Ok(pending.row < pending.batch.num_rows())
    }

    /// Rows of the other side that the next row of the batch may match.
    fn candidates(&self, pending: &Pending, room: usize, found: &mut Vec<Place>) -> Option<(i64, usize)> {
        let (own, other) = (&self.sides[pending.port], &self.sides[1 - pending.port]);
        let time = pending.entered.times.value(pending.row);
        let (first, last) = (time.saturating_sub(other.layout.reach_ms), time.saturating_add(own.layout.reach_ms));
        let buckets = other.bucket(first)..=other.bucket(last);
        other.rows.of_key(pending.keys.key(pending.row), buckets, pending.from, room, found)
    }

    /// Those of the candidates that belong together: their times, what was still there, and the condition.
    fn matching(&self, pending: &Pending, candidates: &[(u32, Place)]) -> Result<Vec<Match>> {
        let (own, other) = (&self.sides[pending.port], &self.sides[1 - pending.port]);
        let places: Vec<Option<Place>> = candidates.iter().map(|(_, place)| Some(*place)).collect();
        let columns = other.rows.gather(&places, &[other.layout.time_column, other.width])?;
        let times = milliseconds(&columns[0])?;
        let came_at = columns[1].as_primitive::<Int64Type>();
        let mut matches = vec![];
        for (at, (row, place)) in candidates.iter().enumerate() {
            let (time, other_time) = (pending.entered.times.value(*row as usize), times.value(at));
            let is_near = time.saturating_sub(other.layout.reach_ms) <= other_time
                && other_time <= time.saturating_add(own.layout.reach_ms);
            let stamp = other.stamp(other_time, came_at.is_valid(at).then(|| came_at.value(at)));
            if is_near && pending.entered.stamps[*row as usize].meets(&stamp) {
                matches.push(Match { row: *row, other: *place, stamp });
            }
        }
        let Some(condition) = self.condition.as_ref().filter(|_| !matches.is_empty()) else {
            return Ok(matches);
        };
        let (own_columns, other_columns) =
            if pending.port == LEFT { (&condition.left, &condition.right) } else { (&condition.right, &condition.left) };
        let rows = UInt32Array::from_iter_values(matches.iter().map(|found| found.row));
        let places: Vec<Option<Place>> = matches.iter().map(|found| Some(found.other)).collect();
        let own = own_columns.iter().map(|column| Ok(take(pending.batch.column(*column), &rows, None)?));
        let own = own.collect::<Result<Vec<ArrayRef>>>()?;
        let other = other.rows.gather(&places, other_columns)?;
        let columns = if pending.port == LEFT { [own, other].concat() } else { [other, own].concat() };
        let passing = condition.passing(columns, matches.len())?;
        Ok(matches.into_iter().zip(passing.values().iter()).filter(|(_, passes)| *passes).map(|(found, _)| found).collect())
    }

    fn emit(&self, pending: &Pending, pairs: Pairs, out: &mut Output) -> Result<()> {
        let own_rows = UInt32Array::from(pairs.own);
        let own = pending.batch.rows.columns().iter().map(|column| Ok(take(column, &own_rows, None)?));
        let own = own.collect::<Result<Vec<ArrayRef>>>()?;
        let other_side = &self.sides[1 - pending.port];
        let other = other_side.rows.gather(&pairs.other, &(0..other_side.width).collect::<Vec<_>>())?;
        let columns = if pending.port == LEFT { [own, other].concat() } else { [other, own].concat() };
        self.send(columns, &pairs.came_at, out)
    }

    /// `came_at` are the watermarks behind which the rows come, `None` for rows that are in time and carry none.
    fn send(&self, columns: Vec<ArrayRef>, came_at: &[Option<i64>], out: &mut Output) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(came_at.len()));
        let rows = RecordBatch::try_new_with_options(self.output_schema.clone(), columns, &options)?;
        let own = |came_at: &Option<i64>| came_at.map_or(i64::MIN, |watermark| self.held_back(EventTime(watermark)).0);
        let is_any_stamped = came_at.iter().any(Option::is_some);
        let row_watermarks = is_any_stamped.then(|| Int64Array::from_iter_values(came_at.iter().map(own)));
        let batch = Batch { row_watermarks, ..Batch::append(rows) };
        for offset in (0..batch.num_rows()).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(batch.num_rows() - offset)));
        }
        Ok(())
    }

    /// Rows of an outer side that the watermark has left without a match.
    fn send_unmatched(&mut self, port: usize, out: &mut Output) -> Result<()> {
        loop {
            let places = self.sides[port].ruled_out(self.watermark.now(), self.batch_rows);
            if places.is_empty() {
                return Ok(());
            }
            let width = self.sides[port].width;
            let ids: Vec<Option<Place>> = places.iter().map(|place| Some(*place)).collect();
            let side = &self.sides[port];
            let mut own = side.rows.gather(&ids, &(0..=width).collect::<Vec<_>>())?;
            let came_at = own.pop().ok_or_else(|| Error::internal("a row has no column for its watermark"))?;
            let times = milliseconds(&own[side.layout.time_column])?;
            let stamps = came_at.as_primitive::<Int64Type>().iter().zip(times.values());
            let came_at: Vec<Option<i64>> = stamps.map(|(own, time)| side.unmatched_at(&side.stamp(*time, own))).collect();
            let other_schema = &self.sides[1 - port].stored_schema;
            let other = other_schema.fields()[..self.sides[1 - port].width].iter();
            let other: Vec<ArrayRef> = other.map(|field| new_null_array(field.data_type(), ids.len())).collect();
            let columns = if port == LEFT { [own, other].concat() } else { [other, own].concat() };
            self.send(columns, &came_at, out)?;
        }
    }

    fn held_back(&self, watermark: EventTime) -> EventTime {
        match watermark {
            EventTime::MIN | EventTime::MAX => watermark,
            _ if self.is_empty => watermark,
            _ => {
                let longest_wait = self.sides[0].layout.reach_ms.max(self.sides[1].layout.reach_ms);
                watermark.saturating_sub_ms(longest_wait.saturating_add(1))
            }
        }
    }
}

impl Operator for IntervalJoinOperator {
    fn on_batch(&mut self, port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        assert!(self.pending.is_none(), "the output of a batch is taken before the next batch comes");
        let batch = append_only(batch)?;
        let entered = self.sides[port].take_in(&batch, self.watermark.now(), self.is_empty)?;
        let keys = self.key_codec.encode(&self.sides[port].key_columns(&batch.rows), batch.num_rows())?;
        let mut pending = Pending { port, batch, keys, entered, row: 0, from: (i64::MIN, 0), has_match: false };
        if self.advance(&mut pending, out)? {
            self.pending = Some(pending);
        }
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let Some(mut pending) = self.pending.take() else {
            return Ok(false);
        };
        if self.advance(&mut pending, out)? {
            self.pending = Some(pending);
        }
        Ok(true)
    }

    fn on_watermark(&mut self, port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.ports[port] = self.ports[port].max(watermark);
        let combined = self.ports[0].min(self.ports[1]);
        if combined > self.watermark.now() {
            self.watermark.advance(combined);
            for port in [0, 1] {
                self.send_unmatched(port, out)?;
                self.sides[port].drop_ruled_out(combined);
            }
        }
        Ok(())
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        self.held_back(input.max(self.watermark.now()))
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.sides.iter_mut().try_for_each(|side| side.rows.snapshot(&mut delta))?;
        self.watermark.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let parts = without_watermark(parts, &mut self.watermark)?;
        check_slots(&parts, [&self.sides[0].rows, &self.sides[1].rows])?;
        self.sides.iter_mut().try_for_each(|side| side.restore(&parts))
    }

    fn mark_all_dirty(&mut self) {
        self.sides.iter_mut().for_each(|side| side.rows.mark_all_dirty());
        self.watermark.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: 0,
            unmatched_rows: 0,
            state_bytes: self.sides.iter().map(|side| side.rows.size_bytes() as u64).sum(),
            state_rows: self.sides.iter().map(|side| side.rows.len() as u64).sum(),
        }
    }
}

#[cfg(test)]
mod tests;

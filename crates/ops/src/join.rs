//! The regular join: both inputs are kept, each row meets all rows of the other side that are there.
//!
//! - **Kinds.** INNER, LEFT, RIGHT, FULL, SEMI, ANTI. Inputs may be updating: weights of a pair multiply, a weight of 3 is three
//!   rows. Without keys every pair is a candidate. `NOT IN` is an ANTI join in which a null on either side matches too.
//! - **Match.** Keys are equal (a null equals nothing, or, with `IS NOT DISTINCT FROM`, a null; NaN equals NaN, `-0.0` is not
//!   `0.0`) and the condition is true.
//! - **Emission.** Per input row in order, as Flink does it:
//!   - a row with matches gives the pairs, in order of arrival of the other side's rows;
//!   - LEFT, RIGHT, FULL: a row without a match gives `+I (row, null)`. If a row is the first match of rows of a side that is
//!     kept, their `-D (row, null)` come before the pairs; if it was the last match, `+I (row, null)` behind `-D` of the pairs;
//!   - SEMI: a left row comes when it has its first match and goes with its last; ANTI: the other way round.
//!
//!   Of a row with very many matches this holds for each chunk of them.
//! - **Marks.** Pairs of an INNER join, and those taken back by a side whose rows are not kept, have the mark of the input row,
//!   as have rows of SEMI joins and left rows of ANTI ones. All else is `+I` and `-D`.
//! - **Size.** Output comes in batches of at most `batch_rows` rows, one at a time: see [`Operator::resume`].
//! - **Late rows.** There are none, time plays no part. Watermarks pass through.
//!
//! State: [`KeyedRuns`](crate::keyed_runs) of each side, slots `left/…` and `right/…`. Rows that can match nothing
//! because of a null are not kept. Of the right side of SEMI and ANTI joins only the keys and what the condition reads are kept,
//! of an append-only one without condition each key once. Whether a row of a side that is kept has a match follows from the other
//! side's keys; with a condition, with `NOT IN` and with a time to live each row counts its matches, and only from none to one if
//! the other side is append-only. A row goes when it is taken back, or with a time to live (`table.exec.state.ttl`) when it was
//! not written for that long: nothing is sent then, and matches that went so are still counted.
//!
//! Source of the semantics: Flink 2.3, recorded cases join-regular and set-operations.

mod begin;
mod condition;
mod emit;
mod side;
mod transitions;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{Join, JoinKind, StateLifetime};
use thalweg_state::{StateDelta, StatePart};

use crate::keyed_runs::{Matches, Place};
use crate::{Operator, OperatorContext, OperatorMetrics, Output};
pub(crate) use condition::PairCondition;
use side::Side;
use transitions::Transition;

const LEFT: usize = 0;
const RIGHT: usize = 1;

pub(crate) struct JoinOperator {
    kind: JoinKind,
    /// By key, whether two nulls match.
    nulls_match: Vec<bool>,
    null_aware: bool,
    condition: Option<PairCondition>,
    /// Left, right.
    sides: [Side; 2],
    /// Whether rows count their matches; else the keys of the other side tell whether there are any.
    counts_matches: bool,
    output_schema: SchemaRef,
    batch_rows: usize,
    work: Option<Work>,
}

/// A batch that is being joined.
struct Work {
    port: usize,
    rows: RecordBatch,
    weights: Option<Int64Array>,
    updates: Option<BooleanArray>,
    /// What each row does to the rows of the other side that it matches. Empty if nobody asks.
    transitions: Vec<Transition>,
    /// Where each row is kept, if its matches are counted; else empty.
    places: Vec<Place>,
    matches: Matches,
    /// An upper bound of the bytes of a row.
    row_bytes: usize,
    /// The row whose matches are being read.
    row: usize,
    /// Weights of its matches so far.
    matched: i64,
}

impl Work {
    fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row))
    }

    fn is_update(&self, row: usize) -> bool {
        self.updates.as_ref().is_some_and(|updates| updates.value(row))
    }
}

impl JoinOperator {
    /// # Errors
    /// `Internal` when the schemas do not belong to the node.
    pub(crate) fn new(
        node: &Join,
        state: StateLifetime,
        inputs: [&SchemaRef; 2],
        output: SchemaRef,
        context: &OperatorContext,
    ) -> Result<Self> {
        let width = inputs[LEFT].fields().len() + if node.kind.has_right_columns() { inputs[RIGHT].fields().len() } else { 0 };
        if output.fields().len() != width {
            return Err(Error::internal("a join gives the columns of its inputs"));
        }
        let time_to_live_ms = node.time_to_live.map(|hint| match hint.unwrap_or(state) {
            StateLifetime::TimeToLive { ms } => Some(ms),
            _ => None,
        });
        let condition =
            node.condition.as_ref().map(|condition| PairCondition::new(condition, inputs[LEFT], inputs[RIGHT])).transpose()?;
        let tracks = [node.kind.keeps_left() || !node.kind.has_right_columns(), node.kind.keeps_right()];
        let counts_matches = condition.is_some() || node.null_aware || time_to_live_ms.iter().any(Option::is_some);
        let side = |port: usize| {
            let needed = condition.as_ref().map(|condition| if port == LEFT { &condition.left } else { &condition.right });
            Side::new(
                node,
                port,
                inputs[port],
                needed.map_or(&[], Vec::as_slice),
                side::Matching { tracks: tracks[port], counts_matches },
                time_to_live_ms[port],
                context,
            )
        };
        Ok(JoinOperator {
            kind: node.kind,
            nulls_match: node.keys.iter().map(|key| key.nulls_match).collect(),
            null_aware: node.null_aware,
            sides: [side(LEFT), side(RIGHT)],
            condition,
            counts_matches,
            output_schema: output,
            batch_rows: context.batch_rows.max(1),
            work: None,
        })
    }

    /// Whether only left rows come out.
    fn gives_left_only(&self) -> bool {
        !self.kind.has_right_columns()
    }

    /// Whether output depends on whether rows of `port` have matches, and the rows themselves do not know.
    fn tracks_by_key(&self, port: usize) -> bool {
        self.sides[port].tracks && !self.counts_matches
    }

    /// Matches are counted now but were not when the state was written: without a condition the keys tell.
    fn count_uncounted(&mut self) -> Result<()> {
        for port in [LEFT, RIGHT] {
            let (side, other) = (&self.sides[port], &self.sides[1 - port]);
            let places = side.held.uncounted();
            if places.is_empty() {
                continue;
            }
            let located = side.held.locate(&places);
            let keys: Vec<ArrayRef> = side.kept_keys.iter().map(|key| side.held.gather(*key, &located)).collect::<Result<_>>()?;
            let hashes = side.held.hashes(&keys, places.len())?;
            let rows: Vec<u32> = (0..places.len() as u32).collect();
            let counts = other.held.weight_up_to(&keys, &hashes, &rows, &vec![i64::MAX; rows.len()])?;
            for (place, count) in places.into_iter().zip(counts) {
                self.sides[port].held.set_matches(place, count);
            }
        }
        Ok(())
    }
}

impl Operator for JoinOperator {
    fn on_batch(&mut self, port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        assert!(self.work.is_none(), "a join is given rows before it has put out what it had");
        self.begin(port, batch, out)?;
        self.resume(out)?;
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let Some(mut work) = self.work.take() else { return Ok(false) };
        self.emit_chunk(&mut work, out)?;
        if work.row < work.rows.num_rows() {
            self.work = Some(work);
        } else {
            self.sides[work.port].held.maintain()?;
        }
        Ok(true)
    }

    fn on_time(&mut self, now_ms: i64) -> Result<()> {
        self.sides.iter_mut().try_for_each(|side| side.held.on_time(now_ms))
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        for side in &mut self.sides {
            delta.changes.extend(side.held.snapshot()?);
        }
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let (left, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| self.sides[LEFT].held.owns(&part.slot));
        if let Some(part) = others.iter().find(|part| !self.sides[RIGHT].held.owns(&part.slot)) {
            return Err(Error::corrupt(format!("the state of a join has a slot \"{}\"", part.slot)));
        }
        self.sides[LEFT].held.restore(left)?;
        self.sides[RIGHT].held.restore(others)?;
        self.count_uncounted()
    }

    fn ignore_unmatched(&mut self) {
        self.sides.iter_mut().for_each(|side| side.held.unmatched.ignore());
    }

    fn mark_all_dirty(&mut self) {
        self.sides.iter_mut().for_each(|side| side.held.mark_all_dirty());
    }

    fn metrics(&self) -> OperatorMetrics {
        let held = || self.sides.iter().map(|side| &side.held);
        OperatorMetrics {
            late_rows: 0,
            unmatched_rows: held().map(|held| held.unmatched.rows()).sum(),
            state_bytes: held().map(|held| held.size_bytes() as u64).sum(),
            state_rows: held().map(|held| held.len() as u64).sum(),
        }
    }
}

#[cfg(test)]
mod tests;

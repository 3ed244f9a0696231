//! Regular joins: INNER, LEFT, RIGHT, FULL, SEMI, ANTI.
//!
//! Each input row meets the rows of the other side that are there now, oldest first, and is kept for those that come later.
//! Weights multiply. Output follows input row by row:
//!
//! - a pair comes with the weight of its new row; in an INNER join it is marked as an update if the new row is;
//! - a row of an outer side without a match comes padded with nulls; before its first match the padded row is taken back, behind
//!   the loss of its last match it comes again;
//! - a left row of a SEMI join comes at its first match and goes with its last; of an ANTI join the other way round.
//!
//! Keys with a null match nothing, unless the key says that nulls match; such rows are not kept. The pairs of one input row may
//! be many more than fit into memory: they come in batches, see [`Operator::resume`].
//!
//! Late rows: there are none, time plays no part. Watermarks pass through.
//!
//! State: both inputs, in two [`Arrangement`]s, `left` and `right`. A row goes when it is taken back, so over append-only input
//! never. How many matches a row of an outer, SEMI or ANTI side has is not stored but counted again at restore.

mod condition;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{Join, JoinKind};
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::{Changes, is_update, without_zeros};
use crate::key_codec::EncodedKeys;
use crate::running::canonical_floats;
use crate::{Operator, OperatorMetrics, Output};
pub(crate) use condition::PairCondition;

const LEFT: usize = 0;
const RIGHT: usize = 1;

pub(crate) struct JoinOperator {
    kind: JoinKind,
    sides: [Side; 2],
    condition: Option<PairCondition>,
    output_schema: SchemaRef,
    batch_rows: usize,
    /// The input whose pairs are not all out yet.
    pending: Option<Pending>,
}

struct Side {
    rows: Arrangement,
    width: usize,
    keys: Vec<usize>,
    /// Keys whose null matches nothing.
    strict_keys: Vec<usize>,
    /// Whether rows without a match come out, padded.
    is_outer: bool,
    /// Whether the matches of each row are counted.
    is_counted: bool,
}

/// A batch on its way through the other side.
struct Pending {
    port: usize,
    batch: Batch,
    keys: EncodedKeys,
    /// Whether the row's key can match at all.
    can_match: Vec<bool>,
    /// The row of this side's arrangement that holds it; `None` for those that are not kept.
    ids: Vec<Option<RowId>>,
    /// The row that comes next, and how many of its candidates are done.
    row: usize,
    candidate: usize,
    /// Matches of that row so far, by weight.
    matches: i64,
}

/// Output rows as places in the input batch and in the other side.
#[derive(Default)]
struct Pairs {
    own: Vec<Option<u32>>,
    other: Vec<Option<RowId>>,
    changes: Changes,
}

impl Pairs {
    fn push(&mut self, own: Option<u32>, other: Option<RowId>, weight: i64, mark: bool) {
        self.own.push(own);
        self.other.push(other);
        self.changes.push(weight, mark);
    }
}

impl JoinOperator {
    /// # Errors
    /// `User` for keys that cannot be compared, `Internal` when the schemas do not belong to the node.
    pub(crate) fn new(node: &Join, inputs: &[SchemaRef], output: SchemaRef, batch_rows: usize) -> Result<Self> {
        let [left, right] = inputs else {
            return Err(Error::internal("a join has two inputs"));
        };
        let condition = node.condition.as_ref().map(|condition| PairCondition::new(condition, left, right)).transpose()?;
        let strict = |column: fn(&thalweg_plan::JoinKey) -> usize| {
            node.keys.iter().filter(|key| !key.nulls_match).map(column).collect::<Vec<_>>()
        };
        let side = |name, schema: &SchemaRef, column: fn(&thalweg_plan::JoinKey) -> usize, is_outer, is_counted, updating| {
            let keys: Vec<usize> = node.keys.iter().map(column).collect();
            Ok::<_, Error>(Side {
                rows: Arrangement::new(name, schema, &keys, updating)?,
                width: schema.fields().len(),
                strict_keys: strict(column),
                keys,
                is_outer,
                is_counted,
            })
        };
        let (outer_left, outer_right) = (node.kind.keeps_left(), node.kind.keeps_right());
        let counts_left = outer_left || !node.kind.has_right_columns();
        Ok(JoinOperator {
            kind: node.kind,
            sides: [
                side("left", left, |key| key.left, outer_left, counts_left, node.left_updating)?,
                side("right", right, |key| key.right, outer_right, outer_right, node.right_updating)?,
            ],
            condition,
            output_schema: output,
            batch_rows: batch_rows.max(1),
            pending: None,
        })
    }

    /// Takes a batch into its own side.
    fn take_in(&mut self, port: usize, batch: Batch) -> Result<Pending> {
        let side = &mut self.sides[port];
        let keys = side.rows.keys_of(&batch.rows)?;
        let can_match: Vec<bool> =
            (0..batch.num_rows()).map(|row| side.strict_keys.iter().all(|key| !batch.column(*key).is_null(row))).collect();
        let ids = if can_match.contains(&false) {
            let kept: Vec<u32> = (0_u32..).zip(&can_match).filter(|(_, can)| **can).map(|(row, _)| row).collect();
            let kept_batch = batch.take(&UInt32Array::from(kept.clone()))?;
            let kept_keys = side.rows.keys_of(&kept_batch.rows)?;
            let mut ids = vec![None; batch.num_rows()];
            for (row, id) in kept.into_iter().zip(side.rows.apply(&kept_batch, &kept_keys)?) {
                ids[row as usize] = Some(id);
            }
            ids
        } else {
            side.rows.apply(&batch, &keys)?.into_iter().map(Some).collect()
        };
        side.rows.tidy()?;
        Ok(Pending { port, batch, keys, can_match, ids, row: 0, candidate: 0, matches: 0 })
    }

    /// Sends the next batch of output; returns whether there may be more.
    fn advance(&mut self, pending: &mut Pending, out: &mut Output) -> Result<bool> {
        let other = 1 - pending.port;
        let first_row = pending.row;
        let mut candidates: Vec<(u32, RowId)> = vec![];
        while pending.row < pending.batch.num_rows() && candidates.len() < self.batch_rows {
            let ids = match pending.can_match[pending.row] {
                true => &self.sides[other].rows.of_key(pending.keys.key(pending.row))[pending.candidate..],
                false => &[],
            };
            let taken = ids.len().min(self.batch_rows - candidates.len());
            candidates.extend(ids[..taken].iter().map(|id| (pending.row as u32, *id)));
            if taken < ids.len() {
                pending.candidate += taken;
            } else {
                pending.row += 1;
                pending.candidate = 0;
            }
        }
        let matching = self.matching(pending.port, &pending.batch, candidates)?;
        let mut pairs = Pairs::default();
        let mut matching = matching.into_iter().peekable();
        for row in first_row..pending.batch.num_rows().min(pending.row + 1) {
            while let Some((_, id)) = matching.next_if(|(at, _)| *at as usize == row) {
                pending.matches += self.sides[other].rows.weight(id);
                self.on_match(pending, row, id, &mut pairs);
            }
            if row < pending.row {
                let matches = std::mem::take(&mut pending.matches);
                self.on_row_done(pending, row, matches, &mut pairs);
            }
        }
        self.emit(pending, pairs, out)?;
        Ok(pending.row < pending.batch.num_rows())
    }

    /// Those of the candidates for which the condition is true. `rows` are of side `port`.
    fn matching(&self, port: usize, batch: &Batch, candidates: Vec<(u32, RowId)>) -> Result<Vec<(u32, RowId)>> {
        let Some(condition) = self.condition.as_ref().filter(|_| !candidates.is_empty()) else {
            return Ok(candidates);
        };
        let (own_columns, other_columns) =
            if port == LEFT { (&condition.left, &condition.right) } else { (&condition.right, &condition.left) };
        let rows = UInt32Array::from_iter_values(candidates.iter().map(|(row, _)| *row));
        let ids: Vec<Option<RowId>> = candidates.iter().map(|(_, id)| Some(*id)).collect();
        let own = own_columns.iter().map(|column| Ok(take(batch.column(*column), &rows, None)?)).collect::<Result<Vec<_>>>()?;
        let other = self.sides[1 - port].rows.gather(&ids, other_columns)?;
        let columns = if port == LEFT { [own, other].concat() } else { [other, own].concat() };
        let passing = condition.passing(columns, candidates.len())?;
        Ok(candidates.into_iter().zip(passing.values().iter()).filter(|(_, passes)| *passes).map(|(pair, _)| pair).collect())
    }

    /// A row of the batch meets a row of the other side.
    fn on_match(&mut self, pending: &Pending, row: usize, id: RowId, pairs: &mut Pairs) {
        let weight = pending.batch.weight(row);
        let mark = is_update(&pending.batch, row);
        let own_is_outer = self.sides[pending.port].is_outer;
        let other = &mut self.sides[1 - pending.port];
        let other_weight = other.rows.weight(id);
        let (mut is_first, mut is_last) = (false, false);
        if other.is_counted {
            let before = other.rows.count(id);
            let after = before + weight;
            other.rows.set_count(id, after);
            is_first = before == 0 && after > 0;
            is_last = before > 0 && after == 0;
        }
        match self.kind {
            JoinKind::Semi | JoinKind::Anti if pending.port == LEFT => {}
            JoinKind::Semi | JoinKind::Anti => {
                let sign = if self.kind == JoinKind::Semi { 1 } else { -1 };
                // A semi join passes the kind of the row on that decides; what an anti join gives is an insert or a deletion.
                let mark = mark && self.kind == JoinKind::Semi;
                if is_first {
                    pairs.push(None, Some(id), sign * other_weight, mark);
                } else if is_last {
                    pairs.push(None, Some(id), -sign * other_weight, mark);
                }
            }
            _ => {
                if is_first && other.is_outer {
                    pairs.push(None, Some(id), -other_weight, false);
                }
                // As in Flink: a pair of an outer join is an insert, and a deletion where the row of the outer side went.
                let mark = mark && !own_is_outer && (weight < 0 || !other.is_outer);
                pairs.push(Some(row as u32), Some(id), weight.saturating_mul(other_weight), mark);
                if is_last && other.is_outer {
                    pairs.push(None, Some(id), other_weight, false);
                }
            }
        }
    }

    /// All matches of a row of the batch are known.
    fn on_row_done(&mut self, pending: &Pending, row: usize, matches: i64, pairs: &mut Pairs) {
        let own = &mut self.sides[pending.port];
        if let Some(id) = pending.ids[row].filter(|_| own.is_counted) {
            // A row that was taken back may be gone; its count does not matter then.
            own.rows.set_count_if_there(id, matches);
        }
        let weight = pending.batch.weight(row);
        let mark = is_update(&pending.batch, row);
        match self.kind {
            JoinKind::Semi | JoinKind::Anti => {
                if pending.port == LEFT && (matches > 0) == (self.kind == JoinKind::Semi) {
                    pairs.push(Some(row as u32), None, weight, mark);
                }
            }
            _ if own.is_outer && matches == 0 => pairs.push(Some(row as u32), None, weight, false),
            _ => {}
        }
    }

    fn emit(&self, pending: &Pending, pairs: Pairs, out: &mut Output) -> Result<()> {
        if pairs.changes.len() == 0 {
            return Ok(());
        }
        let own_rows = UInt32Array::from(pairs.own);
        let own = |width: usize| -> Result<Vec<ArrayRef>> {
            (0..width).map(|column| Ok(take(pending.batch.column(column), &own_rows, None)?)).collect()
        };
        let (own_side, other_side) = (&self.sides[pending.port], &self.sides[1 - pending.port]);
        let other = || other_side.rows.gather(&pairs.other, &(0..other_side.width).collect::<Vec<_>>());
        let columns = match (self.kind.has_right_columns(), pending.port) {
            (true, LEFT) => [own(own_side.width)?, other()?].concat(),
            (true, _) => [other()?, own(own_side.width)?].concat(),
            (false, LEFT) => own(own_side.width)?,
            (false, _) => other()?,
        };
        let batch = pairs.changes.into_batch(&self.output_schema, columns)?;
        for offset in (0..batch.num_rows()).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(batch.num_rows() - offset)));
        }
        Ok(())
    }

    /// Counts the matches of the rows of a side anew.
    fn count_matches(&mut self, port: usize) -> Result<()> {
        for (rows, ids) in self.sides[port].rows.live_chunks()? {
            let batch = Batch::append(rows);
            let other = &self.sides[1 - port].rows;
            let columns: Vec<ArrayRef> = self.sides[port].keys.iter().map(|key| canonical_floats(batch.column(*key))).collect();
            let keys = other.encode_keys(&columns, batch.num_rows())?;
            let mut counts = vec![0; ids.len()];
            for row in 0..ids.len() {
                for piece in other.of_key(keys.key(row)).chunks(self.batch_rows) {
                    let candidates = piece.iter().map(|id| (row as u32, *id)).collect();
                    for (_, id) in self.matching(port, &batch, candidates)? {
                        counts[row] += other.weight(id);
                    }
                }
            }
            for (id, count) in ids.into_iter().zip(counts) {
                self.sides[port].rows.set_count(id, count);
            }
        }
        Ok(())
    }
}

impl Operator for JoinOperator {
    fn on_batch(&mut self, port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        assert!(self.pending.is_none(), "the output of a batch is taken before the next batch comes");
        let batch = without_zeros(batch)?;
        let mut pending = self.take_in(port, batch)?;
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

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.sides.iter_mut().try_for_each(|side| side.rows.snapshot(&mut delta))?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let [left, right] = &mut self.sides;
        let (of_left, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| left.rows.owns(&part.slot));
        if let Some(other) = others.iter().find(|part| !right.rows.owns(&part.slot)) {
            return Err(Error::corrupt(format!("the state of a join has a slot \"{}\"", other.slot)));
        }
        left.rows.restore(&of_left)?;
        right.rows.restore(&others)?;
        for port in [LEFT, RIGHT] {
            if self.sides[port].is_counted {
                self.count_matches(port)?;
            }
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.sides.iter_mut().for_each(|side| side.rows.mark_all_dirty());
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: 0,
            state_bytes: self.sides.iter().map(|side| side.rows.size_bytes() as u64).sum(),
            state_rows: self.sides.iter().map(|side| side.rows.len() as u64).sum(),
        }
    }
}

#[cfg(test)]
mod tests;

//! Making output of the matches of a batch, one chunk at a time.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use thalweg_core::{Batch, Error, Result};
use thalweg_plan::JoinKind;

use super::transitions::Transition;
use super::{JoinOperator, LEFT, Work};
use crate::Output;
use crate::changes::Changes;
use crate::keyed_runs::{Place, Room};

/// About how many bytes of pairs are made at once.
const CHUNK_BYTES: usize = 64 << 20;

/// No row of the batch: gathers as null.
const NO_ROW: u32 = u32::MAX;

/// Output rows: a row of the batch, or none, and one of the other side, or none.
#[derive(Default)]
struct Emitted {
    own: Vec<u32>,
    other: Vec<Place>,
    changes: Changes,
}

impl Emitted {
    fn push(&mut self, own: u32, other: Place, weight: i64, is_update: bool) {
        self.own.push(own);
        self.other.push(other);
        self.changes.push(weight, is_update);
    }
}

/// Candidates: rows of the batch, not falling, with places on the other side.
#[derive(Default)]
struct Pairs {
    rows: Vec<u32>,
    places: Vec<Place>,
}

impl JoinOperator {
    /// Goes on with `work` by about one output batch. `work.row` is behind the last row when all is done.
    pub(super) fn emit_chunk(&mut self, work: &mut Work, out: &mut Output) -> Result<()> {
        let first = work.row;
        let (pairs, end) = self.candidates(work);
        let pairs = self.matching(work, pairs)?;
        let mut emitted = Emitted::default();
        if self.kind == JoinKind::Inner {
            self.emit_inner(work, pairs, &mut emitted)?;
            work.row = end;
        } else {
            let mut from = 0;
            for row in first..work.rows.num_rows().min(end + 1) {
                let to = from + pairs.rows[from..].partition_point(|of| *of as usize == row);
                let places = &pairs.places[from..to];
                from = to;
                for place in places {
                    work.matched = work.matched.saturating_add(self.sides[1 - work.port].held.weight(*place));
                }
                if self.gives_left_only() {
                    self.emit_left_only(work, row, places, row < end, &mut emitted)?;
                } else {
                    self.emit_outer(work, row, places, row < end, &mut emitted)?;
                }
                if row < end {
                    self.note_matches(work, row);
                    work.matched = 0;
                }
            }
            work.row = end;
        }
        let batch = self.gather(work, emitted)?;
        self.push(batch, out);
        Ok(())
    }

    /// In slices of the right size.
    pub(super) fn push(&self, batch: Batch, out: &mut Output) {
        for offset in (0..batch.num_rows()).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(batch.num_rows() - offset)));
        }
    }

    /// The next candidates, and the first row that may have more of them.
    fn candidates(&self, work: &mut Work) -> (Pairs, usize) {
        let other = &self.sides[1 - work.port];
        // A pair may come with a row that was without a match before.
        let rows = if other.keeps_unmatched { self.batch_rows.div_ceil(2) } else { self.batch_rows };
        let mut room = Room { rows, bytes: CHUNK_BYTES };
        let mut pairs = Pairs::default();
        let mut row = work.row;
        while row < work.rows.num_rows() && !room.is_full() {
            let before = pairs.places.len();
            let is_all = work.matches.collect(&other.held, row as u32, &mut room, &mut pairs.places);
            let found = pairs.places.len() - before;
            pairs.rows.resize(pairs.places.len(), row as u32);
            room.bytes = room.bytes.saturating_sub(found * work.row_bytes);
            if !is_all {
                break;
            }
            // It may come out by itself.
            if !room.is_full() && self.kind != JoinKind::Inner {
                room.take(work.row_bytes);
            }
            row += 1;
        }
        (pairs, row)
    }

    /// The candidates of which the condition is true.
    fn matching(&self, work: &Work, pairs: Pairs) -> Result<Pairs> {
        let Some(condition) = self.condition.as_ref().filter(|_| !pairs.rows.is_empty()) else { return Ok(pairs) };
        let other = &self.sides[1 - work.port];
        let (own_columns, other_columns) = match work.port {
            LEFT => (&condition.left, &condition.right),
            _ => (&condition.right, &condition.left),
        };
        let rows = UInt32Array::from(pairs.rows.clone());
        let own = own_columns.iter().map(|column| Ok(take(work.rows.column(*column), &rows, None)?));
        let own = own.collect::<Result<Vec<ArrayRef>>>()?;
        let located = other.held.locate(&pairs.places);
        let gathered = |column: &usize| {
            let kept = other.kept.iter().position(|kept| kept == column);
            let kept = kept.ok_or_else(|| Error::internal("a join condition reads a column that is not kept"))?;
            other.held.gather(kept, &located)
        };
        let others = other_columns.iter().map(gathered).collect::<Result<Vec<_>>>()?;
        let columns = if work.port == LEFT { [own, others].concat() } else { [others, own].concat() };
        let holds = condition.passing(columns, pairs.rows.len())?;
        let chosen = || holds.values().set_indices();
        Ok(Pairs {
            rows: chosen().map(|number| pairs.rows[number]).collect(),
            places: chosen().map(|number| pairs.places[number]).collect(),
        })
    }

    fn emit_inner(&self, work: &Work, pairs: Pairs, emitted: &mut Emitted) -> Result<()> {
        let other = &self.sides[1 - work.port].held;
        for (row, place) in pairs.rows.iter().zip(&pairs.places) {
            let row = *row as usize;
            emitted.changes.push(product(work.weight(row), other.weight(*place))?, work.is_update(row));
        }
        (emitted.own, emitted.other) = (pairs.rows, pairs.places);
        Ok(())
    }

    /// `places` are matches of `row`, the last ones if `is_last`; `work.matched` has their weights.
    fn emit_outer(&mut self, work: &Work, row: usize, places: &[Place], is_last: bool, emitted: &mut Emitted) -> Result<()> {
        let weight = work.weight(row);
        let (own_keeps, other_keeps) = (self.sides[work.port].keeps_unmatched, self.sides[1 - work.port].keeps_unmatched);
        let is_added = weight > 0;
        if is_added && other_keeps {
            self.emit_changed(work, row, places, emitted, |emitted, place, held| {
                emitted.push(NO_ROW, place, -held, false);
            });
        }
        let is_update = work.is_update(row) && !own_keeps && !(is_added && other_keeps);
        for place in places {
            let held = self.sides[1 - work.port].held.weight(*place);
            emitted.push(row as u32, *place, product(weight, held)?, is_update);
        }
        if !is_added && other_keeps {
            self.emit_changed(work, row, places, emitted, |emitted, place, held| {
                emitted.push(NO_ROW, place, held, false);
            });
        }
        if is_last && own_keeps && work.matched == 0 {
            emitted.push(row as u32, Place::NONE, weight, false);
        }
        Ok(())
    }

    fn emit_left_only(&mut self, work: &Work, row: usize, places: &[Place], is_last: bool, emitted: &mut Emitted) -> Result<()> {
        let is_semi = self.kind == JoinKind::Semi;
        if work.port == LEFT {
            if is_last && (work.matched > 0) == is_semi {
                emitted.push(row as u32, Place::NONE, work.weight(row), work.is_update(row));
            }
            return Ok(());
        }
        let comes = (work.weight(row) > 0) == is_semi;
        let is_update = work.is_update(row) && is_semi;
        self.emit_changed(work, row, places, emitted, |emitted, place, held| {
            emitted.push(NO_ROW, place, if comes { held } else { -held }, is_update);
        });
        Ok(())
    }

    /// Calls `emit`, with their weights, for those of `places` that `row` gives their first match or takes their last one from.
    fn emit_changed(
        &mut self,
        work: &Work,
        row: usize,
        places: &[Place],
        emitted: &mut Emitted,
        emit: impl Fn(&mut Emitted, Place, i64),
    ) {
        let other = &mut self.sides[1 - work.port];
        if !self.counts_matches {
            if work.transitions[row] != Transition::None {
                places.iter().for_each(|place| emit(emitted, *place, other.held.weight(*place)));
            }
            return;
        }
        for place in places {
            let before = other.held.matches(*place);
            // Below 0 only if a match went unseen, by its time to live.
            let mut after = before.saturating_add(work.weight(row)).max(0);
            if other.counts_once {
                after = after.min(1);
            }
            other.held.set_matches(*place, after);
            if (before > 0) != (after > 0) {
                emit(emitted, *place, other.held.weight(*place));
            }
        }
    }

    /// All matches of a row of the batch are known.
    fn note_matches(&mut self, work: &Work, row: usize) {
        let side = &mut self.sides[work.port];
        if let Some(place) = work.places.get(row).filter(|place| !place.is_none()) {
            let matches = if side.counts_once { work.matched.min(1) } else { work.matched };
            side.held.set_matches(*place, matches);
        }
    }

    fn gather(&self, work: &Work, emitted: Emitted) -> Result<Batch> {
        let own_rows: UInt32Array = match emitted.own.contains(&NO_ROW) {
            true => emitted.own.iter().map(|row| Some(*row).filter(|row| *row != NO_ROW)).collect(),
            false => emitted.own.into(),
        };
        let own = |column: usize| -> Result<ArrayRef> { Ok(take(work.rows.column(column), &own_rows, None)?) };
        let other = &self.sides[1 - work.port];
        let located = other.held.locate(&emitted.other);
        let width = work.rows.num_columns();
        let mut columns: Vec<ArrayRef> = vec![];
        if self.gives_left_only() && work.port == LEFT {
            columns.extend((0..width).map(own).collect::<Result<Vec<_>>>()?);
        } else {
            // All columns of a side that comes out are kept.
            let others = (0..other.kept.len()).map(|column| other.held.gather(column, &located));
            columns.extend(others.collect::<Result<Vec<_>>>()?);
            if !self.gives_left_only() {
                let own = (0..width).map(own).collect::<Result<Vec<_>>>()?;
                let at = if work.port == LEFT { 0 } else { columns.len() };
                columns.splice(at..at, own);
            }
        }
        emitted.changes.into_batch(&self.output_schema, columns)
    }
}

fn product(one: i64, other: i64) -> Result<i64> {
    one.checked_mul(other).ok_or_else(|| Error::record("a join makes more equal rows than can be counted"))
}

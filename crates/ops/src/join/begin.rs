//! Taking in a batch: it changes its own side at once, and its matches on the other side are found.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use thalweg_core::{Batch, Result};

use super::side::rows_that_can_match;
use super::transitions::{KeyedRows, Transition, transitions};
use super::{JoinOperator, LEFT, Work};
use crate::Output;
use crate::changes::without_zeros;
use crate::keyed_runs::{Matches, Place, Room, Span, take_rows, widest_row};
use crate::running::canonical_floats;

impl JoinOperator {
    /// Leaves what is to be emitted in `self.work`, unless nothing is or all is in `out`.
    pub(super) fn begin(&mut self, port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = without_zeros(batch)?;
        let rows = with_canonical_floats(&batch.rows)?;
        let keys = self.sides[port].key_columns(&rows);
        let matching = if self.null_aware {
            (0..rows.num_rows() as u32).collect()
        } else {
            rows_that_can_match(&keys, &self.nulls_match, rows.num_rows())
        };
        let comes_unmatched = self.sides[port].keeps_unmatched || (self.gives_left_only() && port == LEFT);
        if matching.is_empty() && !comes_unmatched {
            return Ok(());
        }
        let hashes = self.sides[port].held.hashes(&keys, rows.num_rows())?;
        let mut work = Work {
            port,
            row_bytes: widest_row(rows.columns()),
            rows,
            weights: batch.weights,
            updates: batch.updates,
            transitions: vec![],
            places: vec![],
            matches: Matches::default(),
            row: 0,
            matched: 0,
        };
        let keyed = KeyedRows { keys: &keys, hashes: &hashes, weights: work.weights.as_ref(), rows: &matching };
        if self.tracks_by_key(1 - port) {
            work.transitions = transitions(&self.sides[port].held, &keyed, work.rows.num_rows())?;
        }
        self.keep(&mut work, &hashes, &matching)?;
        if self.gives_left_only() && !self.counts_matches {
            if port == LEFT {
                return self.emit_left_by_key(&work, &keys, &hashes, &matching, out);
            }
            let changing: Vec<u32> =
                matching.into_iter().filter(|row| work.transitions[*row as usize] != Transition::None).collect();
            work.matches = Matches::new(self.sides[1 - port].held.probe(&keys, &hashes, &changing)?);
        } else {
            work.matches = Matches::new(self.spans(port, &keys, &hashes, &matching)?);
        }
        self.work = Some(work);
        Ok(())
    }

    /// Applies the batch to its own side.
    fn keep(&mut self, work: &mut Work, hashes: &[u64], matching: &[u32]) -> Result<()> {
        let side = &mut self.sides[work.port];
        let wants_places = side.tracks && self.counts_matches;
        let rows = side.kept_columns(&work.rows)?;
        let total = rows.num_rows();
        let chosen: Vec<u32> = match side.keeps_distinct_keys {
            true => matching.iter().copied().filter(|row| work.transitions[*row as usize] == Transition::First).collect(),
            false => matching.to_vec(),
        };
        if chosen.len() == total {
            let places = side.held.apply(&rows, hashes, work.weights.as_ref())?;
            work.places = if wants_places { places } else { vec![] };
            return Ok(());
        }
        let indices = UInt32Array::from(chosen.clone());
        let rows = take_rows(&rows, &indices)?;
        let hashes: Vec<u64> = chosen.iter().map(|row| hashes[*row as usize]).collect();
        let weights = chosen.iter().map(|row| work.weight(*row as usize)).collect::<Vec<_>>().into();
        let places = side.held.apply(&rows, &hashes, Some(&weights))?;
        if wants_places {
            work.places = vec![Place::NONE; total];
            chosen.into_iter().zip(places).for_each(|(row, place)| work.places[row as usize] = place);
        }
        Ok(())
    }

    /// Where the candidates on the other side are.
    fn spans(&self, port: usize, keys: &[ArrayRef], hashes: &[u64], matching: &[u32]) -> Result<Vec<Span>> {
        let other = &self.sides[1 - port].held;
        let [key] = keys else { return other.probe(keys, hashes, matching) };
        if !self.null_aware {
            return other.probe(keys, hashes, matching);
        }
        // A null is unlike nothing: it meets all rows, and every row meets the nulls.
        let (nulls, others): (Vec<u32>, Vec<u32>) = matching.iter().partition(|row| key.is_null(**row as usize));
        let mut spans = other.probe(keys, hashes, &others)?;
        let null = [new_null_array(key.data_type(), 1)];
        let null_spans = other.probe(&null, &other.hashes(&null, 1)?, &[0])?;
        spans.extend(others.iter().flat_map(|row| null_spans.iter().map(|span| span.of_row(*row))));
        spans.extend(nulls.into_iter().flat_map(|row| other.all(row)));
        spans.sort_by_key(|span| span.row);
        Ok(spans)
    }

    /// Left rows of a SEMI or ANTI join come out, or not, by whether the right side has their keys.
    fn emit_left_by_key(&self, work: &Work, keys: &[ArrayRef], hashes: &[u64], matching: &[u32], out: &mut Output) -> Result<()> {
        let other = &self.sides[1 - work.port].held;
        let mut matches = Matches::new(other.probe(keys, hashes, matching)?);
        let mut places = vec![];
        let mut comes = |row: usize| {
            places.clear();
            matches.collect(other, row as u32, &mut Room { rows: 1, bytes: usize::MAX }, &mut places);
            Some(places.is_empty() == (self.kind == thalweg_plan::JoinKind::Anti))
        };
        let mask: BooleanArray = (0..work.rows.num_rows()).map(&mut comes).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(work.rows.num_rows()));
        let columns = work.rows.columns().to_vec();
        let rows = RecordBatch::try_new_with_options(self.output_schema.clone(), columns, &options)?;
        let batch = Batch { weights: work.weights.clone(), updates: work.updates.clone(), ..Batch::append(rows) };
        self.push(batch.filter(&mask)?, out);
        Ok(())
    }
}

fn with_canonical_floats(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(canonical_floats).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &options)?)
}

//! Taking in changes.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use thalweg_core::{Error, Result};

use super::entries::UNTIMED;
use super::equality::{RowComparator, row_hashes, take_rows};
use super::{KeyedRuns, Place};
use crate::eval::value_text;

/// Columns of a row that an error shows.
const SHOWN_COLUMNS: usize = 8;

impl KeyedRuns {
    /// Adds rows and takes rows back, in order; no weight is 0. `hashes` are those of the rows' keys.
    /// Returns where each added row is, [`Place::NONE`] for those taken back.
    /// # Errors
    /// `Record` when a row is taken back that is not there.
    pub(crate) fn apply(&mut self, rows: &RecordBatch, hashes: &[u64], weights: Option<&Int64Array>) -> Result<Vec<Place>> {
        let places = if self.options.is_updating {
            self.apply_changes(rows, hashes, weights)?
        } else {
            self.append(rows, hashes, weights)?
        };
        self.delta.settle(&self.options)?;
        Ok(places)
    }

    fn append(&mut self, rows: &RecordBatch, hashes: &[u64], weights: Option<&Int64Array>) -> Result<Vec<Place>> {
        if weights.is_some_and(|weights| weights.values().iter().any(|weight| *weight < 0)) {
            return Err(Error::internal(format!("{} is append-only, but a row is taken back", self.options.holder)));
        }
        self.delta.push_chunk(rows.clone());
        let mut push = |(row, hash): (usize, &u64)| {
            let weight = weights.map_or(1, |weights| weights.value(row));
            Place::in_delta(self.delta.push(*hash, weight, 0, UNTIMED))
        };
        Ok(hashes.iter().enumerate().map(&mut push).collect())
    }

    fn apply_changes(&mut self, rows: &RecordBatch, hashes: &[u64], weights: Option<&Int64Array>) -> Result<Vec<Place>> {
        let row_hashes = row_hashes(rows.columns(), rows.num_rows())?;
        let weight = |row: usize| weights.map_or(1, |weights| weights.value(row));
        let added: Vec<u32> = (0..rows.num_rows() as u32).filter(|row| weight(*row as usize) > 0).collect();
        match added.len() {
            0 => {}
            all if all == rows.num_rows() => self.delta.push_chunk(rows.clone()),
            _ => self.delta.push_chunk(take_rows(rows, &UInt32Array::from(added))?),
        }
        let mut compare = Comparators::new(rows, self.runs.len());
        let mut places = Vec::with_capacity(rows.num_rows());
        for (row, (hash, row_hash)) in hashes.iter().copied().zip(row_hashes).enumerate() {
            places.push(if weight(row) > 0 {
                self.add(row, hash, row_hash, weight(row), &mut compare)?
            } else {
                self.take_back(row, row_hash, weight(row).unsigned_abs(), &mut compare)?;
                Place::NONE
            });
        }
        Ok(places)
    }

    fn add(&mut self, row: usize, hash: u64, row_hash: u64, weight: i64, compare: &mut Comparators) -> Result<Place> {
        // With a time to live each arrival has a time of its own.
        if self.options.time_to_live_ms.is_none()
            && let Some(same) = self.find_in_delta(row, row_hash, compare)?
        {
            let sum = self.delta.entries.weight(same as usize).checked_add(weight);
            let sum = sum.ok_or_else(|| Error::record(format!("{} holds a row too often", self.options.holder)))?;
            self.delta.entries.set_weight(same as usize, sum);
            self.delta.push_with_row_hash(hash, row_hash, 0);
            return Ok(Place::in_delta(same));
        }
        Ok(Place::in_delta(self.delta.push_with_row_hash(hash, row_hash, weight)))
    }

    fn take_back(&mut self, row: usize, row_hash: u64, times: u64, compare: &mut Comparators) -> Result<()> {
        let mut missing = times;
        while missing > 0 {
            let Some(place) = self.find(row, row_hash, compare)? else {
                if self.unmatched.is_ignored() {
                    self.unmatched.add(1);
                    return Ok(());
                }
                return Err(Error::record(format!(
                    "a row is taken back that {} does not hold: {}",
                    self.options.holder,
                    self.row_text(&compare.columns, row)
                ))
                .with_help("the changes of the input do not fit together: more rows were taken back than came"));
            };
            let held = self.weight(place);
            let taken = held.min(i64::try_from(missing).unwrap_or(i64::MAX));
            missing -= taken as u64;
            self.entries_mut(place.segment).set_weight(place.position as usize, held - taken);
            if place.segment == Place::DELTA && held == taken {
                self.delta.unlink(place.position);
                self.delta.unlink_row(place.position, row_hash);
            }
        }
        Ok(())
    }

    /// A place of the row, the newest run first.
    fn find(&self, row: usize, row_hash: u64, compare: &mut Comparators) -> Result<Option<Place>> {
        if let Some(position) = self.find_in_delta(row, row_hash, compare)? {
            return Ok(Some(Place::in_delta(position)));
        }
        for (segment, run) in self.runs.iter().enumerate().rev() {
            for position in run.candidates(row_hash) {
                if run.entries.is_live(position as usize)
                    && compare.with(segment, run.rows.columns())?.is_equal(row, position as usize)
                {
                    return Ok(Some(Place { segment: segment as u32, position }));
                }
            }
        }
        Ok(None)
    }

    fn find_in_delta(&self, row: usize, row_hash: u64, compare: &mut Comparators) -> Result<Option<u32>> {
        for position in self.delta.candidates(row_hash) {
            let (chunk, at) = self.delta.locate(position);
            if compare.with(self.runs.len() + chunk, self.delta.chunks[chunk].columns())?.is_equal(row, at) {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// `a = 1, b = 'x'`
    fn row_text(&self, columns: &[ArrayRef], row: usize) -> String {
        let fields = self.options.schema.fields().iter().zip(columns).take(SHOWN_COLUMNS);
        fields.map(|(field, column)| format!("{} = {}", field.name(), value_text(column, row))).collect::<Vec<_>>().join(", ")
    }
}

/// Compares the rows of a batch with those of runs and chunks, which are many of which few are looked at.
struct Comparators {
    columns: Vec<ArrayRef>,
    /// By run, then by chunk.
    made: Vec<Option<RowComparator>>,
}

impl Comparators {
    fn new(rows: &RecordBatch, runs: usize) -> Self {
        Comparators { columns: rows.columns().to_vec(), made: Vec::with_capacity(runs + 1) }
    }

    fn with(&mut self, source: usize, columns: &[ArrayRef]) -> Result<&RowComparator> {
        if self.made.len() <= source {
            self.made.resize_with(source + 1, || None);
        }
        match &mut self.made[source] {
            Some(comparator) => Ok(comparator),
            none => Ok(none.insert(RowComparator::new(&self.columns, columns)?)),
        }
    }
}

//! What the rows of a batch do to the keys of their side: without a condition a row of the other side has a match as long as there
//! is any row with its key.

use arrow::array::{ArrayRef, Int64Array};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;
use thalweg_core::{Error, Result};

use crate::keyed_runs::KeyedRuns;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transition {
    None,
    /// Before the row there was no row with its key.
    First,
    /// Behind it there is none.
    Last,
}

/// The keys of a batch.
pub(super) struct KeyedRows<'a> {
    pub(super) keys: &'a [ArrayRef],
    pub(super) hashes: &'a [u64],
    pub(super) weights: Option<&'a Int64Array>,
    /// The rows that can match anything, in order.
    pub(super) rows: &'a [u32],
}

/// For each of `total` rows; `held` is its side without the batch.
pub(super) fn transitions(held: &KeyedRuns, batch: &KeyedRows, total: usize) -> Result<Vec<Transition>> {
    let weight = |row: u32| batch.weights.map_or(1, |weights| weights.value(row as usize));
    // Keys are numbered in order of their first rows.
    let numbers = key_numbers(batch)?;
    let mut first_rows = vec![];
    let mut taken_back: Vec<i64> = vec![];
    for (row, number) in batch.rows.iter().zip(&numbers) {
        if *number == first_rows.len() {
            first_rows.push(*row);
            taken_back.push(0);
        }
        taken_back[*number] = taken_back[*number].saturating_add(weight(*row).min(0).saturating_neg());
    }
    // A key with more rows than are taken back does not become empty, however many more they are.
    let mut present = held.weight_up_to(batch.keys, batch.hashes, &first_rows, &taken_back)?;
    let mut transitions = vec![Transition::None; total];
    for (row, number) in batch.rows.iter().zip(numbers) {
        let before = present[number];
        // Without a row to take back this ends the job when the row is applied.
        let after = before.saturating_add(weight(*row));
        transitions[*row as usize] = match (before > 0, after > 0) {
            (false, true) => Transition::First,
            (true, false) => Transition::Last,
            _ => Transition::None,
        };
        present[number] = after;
    }
    Ok(transitions)
}

/// The number of the key of each of the batch's rows.
fn key_numbers(batch: &KeyedRows) -> Result<Vec<usize>> {
    if batch.keys.is_empty() {
        return Ok(vec![0; batch.rows.len()]);
    }
    let fields = batch.keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(|error| Error::user("cannot join by these keys").with_cause(error))?;
    let encoded = converter.convert_columns(batch.keys)?;
    let mut numbers: HashMap<&[u8], usize> = HashMap::new();
    let mut number = |row: &u32| {
        let next = numbers.len();
        *numbers.entry(encoded.row(*row as usize).data()).or_insert(next)
    };
    Ok(batch.rows.iter().map(&mut number).collect())
}

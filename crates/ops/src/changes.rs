//! Rows of output as they are collected: weights and marks beside columns.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Result};

/// The hidden columns of output rows.
#[derive(Default)]
pub(crate) struct Changes {
    weights: Vec<i64>,
    marks: Vec<bool>,
}

impl Changes {
    /// `mark`: whether the row is one half of an update.
    pub(crate) fn push(&mut self, weight: i64, mark: bool) {
        self.weights.push(weight);
        self.marks.push(mark);
    }

    /// The rows with these columns. Rows that are all merely added get no weights, rows that are no updates no marks.
    pub(crate) fn into_batch(self, schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<Batch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.weights.len()));
        let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
        let weights = self.weights.iter().any(|weight| *weight != 1).then(|| Int64Array::from(self.weights));
        let updates = self.marks.contains(&true).then(|| BooleanArray::from(self.marks));
        Ok(Batch { weights, updates, ..Batch::append(rows) })
    }
}

/// Whether row `row` of `batch` is one half of an update.
pub(crate) fn is_update(batch: &Batch, row: usize) -> bool {
    batch.updates.as_ref().is_some_and(|updates| updates.value(row))
}

/// The rows of `batch` that count: those of weight 0 do not.
pub(crate) fn without_zeros(batch: Batch) -> Result<Batch> {
    match &batch.weights {
        Some(weights) if weights.values().contains(&0) => {
            Ok(batch.filter(&weights.values().iter().map(|weight| Some(*weight != 0)).collect())?)
        }
        _ => Ok(batch),
    }
}

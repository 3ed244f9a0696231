//! Rows of output as they are collected: weights, marks and watermarks beside columns.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Error, Result};

/// The watermarks that the two halves of a change carry. Both come when the row comes that causes the change: the old one may be
/// late for its window by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CameBehind {
    pub(crate) added: i64,
    pub(crate) taken_back: i64,
}

impl CameBehind {
    /// Those of changes that row `row` of `input` causes; `None` where rows carry none.
    pub(crate) fn row(input: &Batch, row: usize) -> Option<Self> {
        let own = input.row_watermarks.as_ref()?.value(row);
        Some(CameBehind { added: own, taken_back: own })
    }
}

/// The hidden columns of output rows.
#[derive(Default)]
pub(crate) struct Changes {
    weights: Vec<i64>,
    marks: Vec<bool>,
    /// Only where the rows of the input carry them.
    row_watermarks: Option<Vec<i64>>,
    cause: Option<CameBehind>,
}

impl Changes {
    /// Changes that rows of `input` cause: they carry watermarks if these do.
    pub(crate) fn caused_by(input: &Batch) -> Self {
        Changes { row_watermarks: input.row_watermarks.as_ref().map(|_| vec![]), ..Changes::default() }
    }

    /// The row whose changes follow.
    pub(crate) fn set_cause(&mut self, cause: Option<CameBehind>) {
        self.cause = cause;
    }

    /// `mark`: whether the row is one half of an update.
    pub(crate) fn push(&mut self, weight: i64, mark: bool) {
        self.weights.push(weight);
        self.marks.push(mark);
        if let Some(row_watermarks) = &mut self.row_watermarks {
            let own = |cause: CameBehind| if weight < 0 { cause.taken_back } else { cause.added };
            row_watermarks.push(self.cause.map_or(i64::MIN, own));
        }
    }

    /// The rows with these columns. Rows that are all merely added get no weights, rows that are no updates no marks.
    pub(crate) fn into_batch(self, schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<Batch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.weights.len()));
        let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
        let weights = self.weights.iter().any(|weight| *weight != 1).then(|| Int64Array::from(self.weights));
        let updates = self.marks.contains(&true).then(|| BooleanArray::from(self.marks));
        let row_watermarks = self.row_watermarks.map(Int64Array::from);
        Ok(Batch { weights, updates, row_watermarks, ..Batch::append(rows) })
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

/// Rows that one batch may become.
const REPEATED_ROWS: u64 = 1 << 26;

/// The rows of `batch` each as often as its weight says, with weights 1 and -1; rows of weight 0 go.
/// # Errors
/// `Record` when they are too many.
pub(crate) fn repeated(batch: Batch) -> Result<Batch> {
    let Some(weights) = batch.weights.as_ref().filter(|weights| weights.values().iter().any(|weight| weight.unsigned_abs() != 1))
    else {
        return Ok(batch);
    };
    let rows = weights.values().iter().fold(0_u64, |rows, weight| rows.saturating_add(weight.unsigned_abs()));
    if rows > REPEATED_ROWS {
        return Err(
            Error::record(format!("rows come {rows} times at once")).with_help("rows whose order counts are kept one by one")
        );
    }
    let indices = weights
        .values()
        .iter()
        .enumerate()
        .flat_map(|(row, weight)| std::iter::repeat_n(row as u32, weight.unsigned_abs() as usize));
    let mut batch = batch.take(&UInt32Array::from_iter_values(indices))?;
    batch.weights = batch.weights.map(|weights| weights.unary(i64::signum));
    Ok(batch)
}

/// The rows of an input that takes none back, each as often as its weight says.
/// # Errors
/// `Internal` when rows are taken back: the planner refuses such inputs. As [`repeated`].
pub(crate) fn append_only(batch: Batch) -> Result<Batch> {
    if batch.weights.as_ref().is_some_and(|weights| weights.values().iter().any(|weight| *weight < 0)) {
        return Err(Error::internal("an operator of append-only input is given rows that are taken back"));
    }
    repeated(batch)
}

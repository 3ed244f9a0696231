//! Helpers over rows that several connectors share.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take, take_record_batch};
use arrow::datatypes::DataType;
use thalweg_core::{Batch, Error, Result};

/// `array` as `to`, failing on a value that does not fit.
pub(crate) fn cast_strictly(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, to, &options)?)
}

/// The single value of `array`, `rows` times.
pub(crate) fn repeat(array: &dyn Array, rows: usize) -> Result<ArrayRef> {
    Ok(take(array, &UInt32Array::from(vec![0; rows]), None)?)
}

/// The rows of `batch` for a sink that can only add: a row of weight 2 comes twice.
/// # Errors
/// `Internal` for a weight below 0: the planner refuses updating queries for such a sink.
pub(crate) fn appended_rows(batch: &Batch, sink_id: &str) -> Result<RecordBatch> {
    let Some(weights) = &batch.weights else {
        return Ok(batch.rows.clone());
    };
    if weights.values().iter().all(|weight| *weight == 1) {
        return Ok(batch.rows.clone());
    }
    let mut indices: Vec<u32> = vec![];
    for (row, weight) in weights.values().iter().enumerate() {
        let row = u32::try_from(row).map_err(|_| Error::internal("a batch has more than 4 billion rows"))?;
        let times = usize::try_from(*weight)
            .map_err(|_| Error::internal(format!("sink \"{sink_id}\" can only add rows but got one to take back")))?;
        indices.extend(std::iter::repeat_n(row, times));
    }
    Ok(take_record_batch(&batch.rows, &UInt32Array::from(indices))?)
}

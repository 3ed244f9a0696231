//! The rows that count, and how often.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow::buffer::NullBuffer;
use thalweg_core::{Error, Result};

/// The rows that count: those where the argument is not null and the filter is true. `None` when all do.
pub(super) fn selection(argument: Option<&ArrayRef>, filter: Option<&BooleanArray>) -> Option<NullBuffer> {
    let present = argument.and_then(|argument| argument.logical_nulls());
    let passing = filter.map(|filter| match filter.nulls() {
        Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
        None => NullBuffer::new(filter.values().clone()),
    });
    NullBuffer::union(present.as_ref(), passing.as_ref()).filter(|selection| selection.null_count() > 0)
}

/// Calls `take(row, group, weight)` for each row that counts.
#[inline]
pub(super) fn for_each_row(
    selection: Option<&NullBuffer>,
    weights: Option<&Int64Array>,
    groups: &[usize],
    mut take: impl FnMut(usize, usize, i64),
) {
    match (selection, weights) {
        (None, None) => groups.iter().enumerate().for_each(|(row, group)| take(row, *group, 1)),
        (None, Some(weights)) => groups.iter().enumerate().for_each(|(row, group)| take(row, *group, weights.value(row))),
        (Some(selection), None) => selection.valid_indices().for_each(|row| take(row, groups[row], 1)),
        (Some(selection), Some(weights)) => {
            selection.valid_indices().for_each(|row| take(row, groups[row], weights.value(row)));
        }
    }
}

/// The groups asked for.
pub(super) fn chosen(groups: Option<&[usize]>, total: usize) -> Cow<'_, [usize]> {
    groups.map_or_else(|| Cow::Owned((0..total).collect()), Cow::Borrowed)
}

/// # Errors
/// `Internal` when a row is to be taken back from an aggregate that cannot do that; the planner does not let it happen.
pub(super) fn refuse_retraction(name: &str, weights: Option<&Int64Array>) -> Result<()> {
    match weights {
        Some(weights) if weights.values().iter().any(|weight| *weight < 0) => {
            Err(Error::internal(format!("{name} is asked to take a row back")))
        }
        _ => Ok(()),
    }
}

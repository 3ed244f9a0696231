//! Rows compared: nulls are equal, NaNs with the same bits are, `-0.0` is not `0.0`.

use arrow::array::{Array, ArrayRef, AsArray, DynComparator, RecordBatch, RecordBatchOptions, UInt32Array, make_comparator};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{SortOptions, take};
use arrow::datatypes::DataType;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use thalweg_core::{Error, Result};

/// For each of `rows` rows, whether it is the same in both.
pub(super) fn equal_rows(one: &[ArrayRef], other: &[ArrayRef], rows: usize) -> Result<BooleanBuffer> {
    let mut equal = BooleanBuffer::new_set(rows);
    for (one, other) in one.iter().zip(other) {
        let column = if one.data_type().is_nested() {
            let compare = make_comparator(one, other, SortOptions::default())?;
            BooleanBuffer::collect_bool(rows, |row| compare(row, row).is_eq())
        } else {
            not_distinct(one, other)?.values().clone()
        };
        equal = &equal & &column;
    }
    Ok(equal)
}

/// Compares any row of one table with any of another.
pub(super) struct RowComparator(Vec<DynComparator>);

impl RowComparator {
    pub(super) fn new(one: &[ArrayRef], other: &[ArrayRef]) -> Result<Self> {
        let compare = |(one, other): (&ArrayRef, &ArrayRef)| Ok(make_comparator(one, other, SortOptions::default())?);
        Ok(RowComparator(one.iter().zip(other).map(compare).collect::<Result<_>>()?))
    }

    pub(super) fn is_equal(&self, one: usize, other: usize) -> bool {
        self.0.iter().all(|compare| compare(one, other).is_eq())
    }
}

/// Hashes of whole rows, for memory only.
pub(super) fn row_hashes(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0; rows];
    create_hashes(columns, &RandomState::with_seed(0), &mut hashes)
        .map_err(|error| Error::internal("rows of this type cannot be hashed").with_cause(error))?;
    Ok(hashes)
}

/// The rows at `indices`, also of a table without columns.
pub(crate) fn take_rows(rows: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(|column| Ok(take(column, indices, None)?)).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &options)?)
}

/// Bytes of the values, without what their buffers hold beside them.
pub(super) fn value_bytes(columns: &[ArrayRef]) -> usize {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size();
    columns.iter().map(|column| bytes(column).unwrap_or_else(|_| column.get_array_memory_size())).sum()
}

/// At most this many bytes has a row.
pub(crate) fn widest_row(columns: &[ArrayRef]) -> usize {
    columns.iter().map(widest_value).sum()
}

fn widest_value(column: &ArrayRef) -> usize {
    let longest = |offsets: &[i32]| offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).max().unwrap_or(0);
    match column.data_type() {
        DataType::Utf8 => longest(column.as_string::<i32>().value_offsets()),
        DataType::Binary => longest(column.as_binary::<i32>().value_offsets()),
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            longest(list.value_offsets()).saturating_mul(widest_value(list.values()))
        }
        DataType::Map(..) => {
            let map = column.as_map();
            longest(map.value_offsets()).saturating_mul(widest_row(map.entries().columns()))
        }
        DataType::Struct(_) => widest_row(column.as_struct().columns()),
        other => other.primitive_width().unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn rows_are_equal_as_in_sql_keys() {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.0), Some(f64::NAN), None, Some(1.0), Some(1.0)]));
        let others: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::NAN), None, None, Some(1.0)]));
        let lists = |last: i64| -> ArrayRef {
            let lists = [None, Some(vec![Some(1)]), None, None, Some(vec![Some(last), None])];
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))
        };
        let equal = |last| equal_rows(&[numbers.clone(), lists(2)], &[others.clone(), lists(last)], 5).unwrap();
        assert_eq!(equal(2).iter().collect::<Vec<_>>(), [false, true, true, false, true]);
        assert!(!equal(3).value(4));
        let compare = RowComparator::new(&[numbers.clone(), lists(2)], &[others, lists(2)]).unwrap();
        assert!(compare.is_equal(1, 1) && compare.is_equal(2, 2) && !compare.is_equal(0, 0) && !compare.is_equal(3, 4));
        assert!(equal_rows(&[], &[], 3).unwrap().iter().all(|equal| equal));
    }

    #[test]
    fn sizes_are_those_of_the_values() {
        let words: ArrayRef = Arc::new(StringArray::from(vec!["", "four", "ab"]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        assert_eq!(widest_row(&[words.clone(), numbers.clone()]), 12);
        assert!(value_bytes(&[words.slice(2, 1)]) < value_bytes(&[words]));
        assert_eq!(value_bytes(&[numbers]), 24);
    }
}

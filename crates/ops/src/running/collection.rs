//! COLLECT.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, MapArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use arrow::row::Rows;
use thalweg_core::{Error, Result};

use super::extremum::{Counts, bind};
use super::items::GroupItems;
use super::{Fold, Items, Problem, ValueCodec};

/// Offsets of lists of these lengths.
/// # Errors
/// `Record` when all together are more than a list column holds.
pub(super) fn offsets(lengths: impl Iterator<Item = usize>) -> Result<OffsetBuffer<i32>> {
    let mut offsets = vec![0_i32];
    let mut end = 0_usize;
    for length in lengths {
        end += length;
        let next = i32::try_from(end).map_err(|_| {
            Error::record("the values of these groups are more than one batch holds").with_help("choose finer groups")
        })?;
        offsets.push(next);
    }
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}

/// COLLECT: a MULTISET, which is a MAP from value to INT; values in their own order. Items: each value with its count.
pub(super) struct Collect {
    codec: ValueCodec,
    output: DataType,
    items: Items,
}

impl Collect {
    pub(super) fn new(argument: &DataType, output: &DataType, items: Items) -> Result<Self> {
        if !matches!(output, DataType::Map(..)) {
            return Err(Error::internal(format!("COLLECT is to give {output}")));
        }
        Ok(Collect { codec: ValueCodec::new(argument)?, output: output.clone(), items })
    }
}

impl Fold for Collect {
    type State = Counts;
    type Bound = Rows;
    type Results = Vec<Vec<(Vec<u8>, i64)>>;

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Rows> {
        bind(&self.codec, argument)
    }

    fn add(&self, state: &mut Counts, values: &Rows, row: usize, weight: i64) -> Result<(), Problem> {
        state.add(values.row(row).data(), weight, self.items)
    }

    fn push_result(&self, state: &Counts, results: &mut Self::Results) -> Result<(), Problem> {
        if state.iter().any(|(_, count)| i32::try_from(count).is_err()) {
            return Err(Problem::Overflow);
        }
        results.push(state.iter().map(|(value, count)| (value.to_vec(), count)).collect());
        Ok(())
    }

    fn finish(&self, results: Self::Results) -> Result<ArrayRef> {
        let DataType::Map(entry, sorted) = &self.output else {
            return Err(Error::internal(format!("COLLECT is to give {}", self.output)));
        };
        let DataType::Struct(fields) = entry.data_type() else {
            return Err(Error::internal("a MAP has no entries"));
        };
        let offsets = offsets(results.iter().map(Vec::len))?;
        let values = self.codec.decode(results.iter().flatten().map(|(value, _)| Some(value.as_slice())))?;
        let counts = Int32Array::from_iter_values(results.iter().flatten().map(|(_, count)| *count as i32));
        let entries = StructArray::try_new(fields.clone(), vec![values, Arc::new(counts)], None)?;
        Ok(Arc::new(MapArray::try_new(entry.clone(), offsets, entries, None::<NullBuffer>, *sorted)?))
    }

    fn heap_bytes(&self, state: &Counts) -> usize {
        state.size_bytes()
    }

    fn item_codec(&self) -> Option<&ValueCodec> {
        Some(&self.codec)
    }

    fn items<'a>(&self, state: &'a mut Counts) -> Option<&'a mut dyn GroupItems> {
        Some(state)
    }

    fn result_bytes(&self, state: &Counts) -> usize {
        self.heap_bytes(state)
    }

    fn collects(&self) -> bool {
        true
    }
}

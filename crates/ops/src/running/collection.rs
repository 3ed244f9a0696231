//! COLLECT, and lists in state columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, MapArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use arrow::row::Rows;
use thalweg_core::{Error, Result};

use super::extremum::{Counts, add_count, bind, counts_bytes};
use super::{Fold, Problem, ValueCodec};

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

/// One list of values per state.
pub(super) fn list_field(name: &str, codec: &ValueCodec) -> Field {
    Field::new(name, DataType::List(item(codec)), false)
}

fn item(codec: &ValueCodec) -> FieldRef {
    Arc::new(Field::new("item", codec.data_type().clone(), true))
}

pub(super) fn write_lists(codec: &ValueCodec, lists: &[Vec<&[u8]>]) -> Result<ArrayRef> {
    let offsets = offsets(lists.iter().map(Vec::len))?;
    let values = codec.decode(lists.iter().flatten().map(|value| Some(*value)))?;
    Ok(Arc::new(ListArray::try_new(item(codec), offsets, values, None)?))
}

pub(super) fn read_lists(codec: &ValueCodec, column: &ArrayRef) -> Result<Vec<Vec<Vec<u8>>>> {
    let lists = column.as_list::<i32>();
    let values = codec.encode(lists.values())?;
    let range = |row: usize| lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
    Ok((0..lists.len()).map(|row| range(row).map(|at| values.row(at).data().to_vec()).collect()).collect())
}

/// The state columns of values with their counts.
pub(super) fn count_fields(codec: &ValueCodec) -> Vec<Field> {
    let count = Arc::new(Field::new("item", DataType::Int64, false));
    vec![list_field("values", codec), Field::new("counts", DataType::List(count), false)]
}

pub(super) fn write_counts(codec: &ValueCodec, states: Vec<Vec<(Vec<u8>, i64)>>) -> Result<Vec<ArrayRef>> {
    let lists: Vec<Vec<&[u8]>> = states.iter().map(|pairs| pairs.iter().map(|(value, _)| value.as_slice()).collect()).collect();
    let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(states.iter().flatten().map(|(_, count)| *count)));
    let field = Arc::new(Field::new("item", DataType::Int64, false));
    let counts = ListArray::try_new(field, offsets(states.iter().map(Vec::len))?, counts, None)?;
    Ok(vec![write_lists(codec, &lists)?, Arc::new(counts)])
}

/// Encoded values of one group, each with how often it is there.
pub(super) type ValueCounts = Vec<(Vec<u8>, i64)>;

pub(super) fn read_counts(codec: &ValueCodec, columns: &[ArrayRef]) -> Result<Vec<ValueCounts>> {
    let values = read_lists(codec, &columns[0])?;
    let counts = columns[1].as_list::<i32>();
    Ok(values
        .into_iter()
        .enumerate()
        .map(|(row, values)| {
            let counts = counts.value(row);
            let counts = counts.as_primitive::<Int64Type>().values().to_vec();
            values.into_iter().zip(counts).collect()
        })
        .collect())
}

/// COLLECT: a MULTISET, which is a MAP from value to INT; values in their own order. State: each value with its count.
pub(super) struct Collect {
    codec: ValueCodec,
    output: DataType,
}

impl Collect {
    pub(super) fn new(argument: &DataType, output: &DataType) -> Result<Self> {
        if !matches!(output, DataType::Map(..)) {
            return Err(Error::internal(format!("COLLECT is to give {output}")));
        }
        Ok(Collect { codec: ValueCodec::new(argument)?, output: output.clone() })
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
        add_count(state, values.row(row).data(), weight)
    }

    fn push_result(&self, state: &Counts, results: &mut Self::Results) -> Result<(), Problem> {
        if state.values().any(|count| i32::try_from(*count).is_err()) {
            return Err(Problem::Overflow);
        }
        results.push(state.iter().map(|(value, count)| (value.to_vec(), *count)).collect());
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

    fn state_fields(&self) -> Vec<Field> {
        count_fields(&self.codec)
    }

    fn write(&self, states: &[&Counts]) -> Result<Vec<ArrayRef>> {
        let pairs = |state: &&Counts| state.iter().map(|(value, count)| (value.to_vec(), *count)).collect();
        write_counts(&self.codec, states.iter().map(pairs).collect())
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Counts>> {
        let read = read_counts(&self.codec, columns)?;
        Ok(read.into_iter().map(|pairs| pairs.into_iter().map(|(value, count)| (value.into(), count)).collect()).collect())
    }

    fn heap_bytes(&self, state: &Counts) -> usize {
        counts_bytes(state)
    }

    fn result_bytes(&self, state: &Counts) -> usize {
        self.heap_bytes(state)
    }

    fn collects(&self) -> bool {
        true
    }
}

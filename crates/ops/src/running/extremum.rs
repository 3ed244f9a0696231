//! MIN and MAX.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field};
use arrow::row::Rows;
use thalweg_core::{Error, Result};

use super::values::EncodedValues;
use super::{Fold, Problem, ValueCodec, collection};

/// How often a group holds each value, in order of the values.
pub(super) type Counts = BTreeMap<Box<[u8]>, i64>;

/// Adds `weight` to the count of `value`, which goes when nothing is left.
pub(super) fn add_count(counts: &mut Counts, value: &[u8], weight: i64) -> Result<(), Problem> {
    match counts.get_mut(value) {
        Some(count) => {
            *count = count.checked_add(weight).ok_or(Problem::Overflow)?;
            match *count {
                0 => {
                    counts.remove(value);
                    Ok(())
                }
                count if count < 0 => Err(Problem::NotThere),
                _ => Ok(()),
            }
        }
        None if weight > 0 => {
            counts.insert(value.into(), weight);
            Ok(())
        }
        None => Err(Problem::NotThere),
    }
}

/// About what the counts hold: asked for at each checkpoint, it must not look at every value.
pub(super) fn counts_bytes(counts: &Counts) -> usize {
    counts.len() * 64 + counts.first_key_value().map_or(0, |(value, _)| value.len() * counts.len())
}

/// The best value so far, for rows that are never taken back. State: the value.
pub(super) struct Best {
    codec: ValueCodec,
    is_max: bool,
}

impl Best {
    pub(super) fn new(argument: &DataType, is_max: bool) -> Result<Self> {
        Ok(Best { codec: ValueCodec::new(argument)?, is_max })
    }
}

impl Fold for Best {
    type State = Option<Box<[u8]>>;
    type Bound = Rows;
    type Results = EncodedValues;

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Rows> {
        bind(&self.codec, argument)
    }

    fn add(&self, state: &mut Self::State, values: &Rows, row: usize, weight: i64) -> Result<(), Problem> {
        if weight < 0 {
            return Err(Problem::NotThere);
        }
        let value = values.row(row).data();
        if state.as_deref().is_none_or(|best| if self.is_max { value > best } else { value < best }) {
            *state = Some(value.into());
        }
        Ok(())
    }

    fn push_result(&self, state: &Self::State, results: &mut EncodedValues) -> Result<(), Problem> {
        results.push(state.as_deref());
        Ok(())
    }

    fn finish(&self, results: EncodedValues) -> Result<ArrayRef> {
        results.decode(&self.codec)
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("value", self.codec.data_type().clone(), true)]
    }

    fn write(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.codec.decode(states.iter().map(|state| state.as_deref()))?])
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Self::State>> {
        let values = self.codec.encode(&columns[0])?;
        Ok((0..columns[0].len()).map(|row| columns[0].is_valid(row).then(|| values.row(row).data().into())).collect())
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        state.as_ref().map_or(0, |value| value.len())
    }

    fn result_bytes(&self, state: &Self::State) -> usize {
        self.heap_bytes(state)
    }
}

/// The best of all values that the group holds. State: each value with its count.
pub(super) struct BestOfMany {
    codec: ValueCodec,
    is_max: bool,
}

impl BestOfMany {
    pub(super) fn new(argument: &DataType, is_max: bool) -> Result<Self> {
        Ok(BestOfMany { codec: ValueCodec::new(argument)?, is_max })
    }
}

impl Fold for BestOfMany {
    type State = Counts;
    type Bound = Rows;
    type Results = EncodedValues;

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Rows> {
        bind(&self.codec, argument)
    }

    fn add(&self, state: &mut Counts, values: &Rows, row: usize, weight: i64) -> Result<(), Problem> {
        add_count(state, values.row(row).data(), weight)
    }

    fn push_result(&self, state: &Counts, results: &mut EncodedValues) -> Result<(), Problem> {
        let best = if self.is_max { state.last_key_value() } else { state.first_key_value() };
        results.push(best.map(|(value, _)| &**value));
        Ok(())
    }

    fn finish(&self, results: EncodedValues) -> Result<ArrayRef> {
        results.decode(&self.codec)
    }

    fn state_fields(&self) -> Vec<Field> {
        collection::count_fields(&self.codec)
    }

    fn write(&self, states: &[&Counts]) -> Result<Vec<ArrayRef>> {
        let pairs = |state: &&Counts| state.iter().map(|(value, count)| (value.to_vec(), *count)).collect();
        collection::write_counts(&self.codec, states.iter().map(pairs).collect())
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Counts>> {
        let read = collection::read_counts(&self.codec, columns)?;
        Ok(read.into_iter().map(|pairs| pairs.into_iter().map(|(value, count)| (value.into(), count)).collect()).collect())
    }

    fn heap_bytes(&self, state: &Counts) -> usize {
        counts_bytes(state)
    }

    fn result_bytes(&self, state: &Counts) -> usize {
        let best = if self.is_max { state.last_key_value() } else { state.first_key_value() };
        best.map_or(0, |(value, _)| value.len())
    }
}

pub(super) fn bind(codec: &ValueCodec, argument: Option<&ArrayRef>) -> Result<Rows> {
    codec.encode(argument.ok_or_else(|| Error::internal("an aggregate gets no argument"))?)
}

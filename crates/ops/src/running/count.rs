//! COUNT.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type};
use thalweg_core::Result;

use super::{Fold, Problem};

/// The number of rows that count. State: the number, Int64. Never null.
pub(super) struct Count;

impl Fold for Count {
    type State = i64;
    type Bound = ();
    type Results = Vec<i64>;

    fn bind(&self, _argument: Option<&ArrayRef>) -> Result<()> {
        Ok(())
    }

    fn add(&self, state: &mut i64, _bound: &(), _row: usize, weight: i64) -> Result<(), Problem> {
        *state = state.checked_add(weight).ok_or(Problem::Overflow)?;
        if *state < 0 { Err(Problem::NotThere) } else { Ok(()) }
    }

    fn push_result(&self, state: &i64, results: &mut Vec<i64>) -> Result<(), Problem> {
        results.push(*state);
        Ok(())
    }

    fn finish(&self, results: Vec<i64>) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(results)))
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("count", DataType::Int64, false)]
    }

    fn write(&self, states: &[&i64]) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(Int64Array::from_iter_values(states.iter().map(|state| **state)))])
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<i64>> {
        Ok(columns[0].as_primitive::<Int64Type>().values().to_vec())
    }

    fn heap_bytes(&self, _state: &i64) -> usize {
        0
    }
}

//! SUM and AVG of FLOAT and DOUBLE.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use thalweg_core::{Error, Result};
use thalweg_plan::AggregateFunction;

use super::{Fold, Problem};

/// Additions happen in order of arrival and round each time, as in Flink, so the last digits depend on that order. NaN and the
/// infinities are counted beside the sum: taken back, they are gone. A SUM of FLOAT is rounded to FLOAT after each addition.
///
/// State: the sum of the finite values as Float64; the numbers of finite values, NaNs, infinities of each sign.
pub(super) struct FloatNumbers {
    function: AggregateFunction,
    rounds_to_single: bool,
    output: DataType,
}

#[derive(Default)]
pub(super) struct FloatSums {
    sum: f64,
    finite: i64,
    nan: i64,
    positive: i64,
    negative: i64,
}

impl FloatSums {
    /// The count that `value` belongs to.
    fn count_of(&mut self, value: f64) -> &mut i64 {
        if value.is_nan() {
            &mut self.nan
        } else if value.is_finite() {
            &mut self.finite
        } else if value > 0.0 {
            &mut self.positive
        } else {
            &mut self.negative
        }
    }

    fn count(&self) -> i64 {
        self.finite + self.nan + self.positive + self.negative
    }

    /// The sum of all values as IEEE 754 has it.
    fn total(&self) -> f64 {
        match (self.nan > 0, self.positive > 0, self.negative > 0) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ => self.sum,
        }
    }
}

impl FloatNumbers {
    pub(super) fn new(function: AggregateFunction, argument: &DataType, output: &DataType) -> Self {
        let rounds_to_single = *argument == DataType::Float32 && function == AggregateFunction::Sum;
        FloatNumbers { function, rounds_to_single, output: output.clone() }
    }
}

impl Fold for FloatNumbers {
    type State = FloatSums;
    type Bound = Float64Array;
    type Results = Vec<Option<f64>>;

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Float64Array> {
        let argument = argument.ok_or_else(|| Error::internal("a sum gets no argument"))?;
        Ok(cast(argument, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    }

    fn add(&self, state: &mut FloatSums, values: &Float64Array, row: usize, weight: i64) -> Result<(), Problem> {
        let value = values.value(row);
        let count = state.count_of(value);
        *count = count.checked_add(weight).ok_or(Problem::Overflow)?;
        if *count < 0 {
            return Err(Problem::NotThere);
        }
        if value.is_finite() {
            let times = weight as f64;
            let sum = state.sum + value * times;
            state.sum = if self.rounds_to_single { f64::from(sum as f32) } else { sum };
        }
        if state.finite == 0 {
            // No rounding error outlives its values.
            state.sum = 0.0;
        }
        Ok(())
    }

    fn push_result(&self, state: &FloatSums, results: &mut Vec<Option<f64>>) -> Result<(), Problem> {
        let (count, total) = (state.count() as f64, state.total());
        let result = match (self.function, state.count()) {
            (_, 0) => None,
            (AggregateFunction::Avg, _) => Some(total / count),
            _ => Some(total),
        };
        results.push(result);
        Ok(())
    }

    fn finish(&self, results: Vec<Option<f64>>) -> Result<ArrayRef> {
        Ok(cast(&Float64Array::from(results), &self.output)?)
    }

    fn state_fields(&self) -> Vec<Field> {
        let float = |name: &str| Field::new(name, DataType::Float64, false);
        let count = |name: &str| Field::new(name, DataType::Int64, false);
        vec![float("sum"), count("finite"), count("nan"), count("positive"), count("negative")]
    }

    fn write(&self, states: &[&FloatSums]) -> Result<Vec<ArrayRef>> {
        let floats = |value: fn(&FloatSums) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(states.iter().map(|state| value(state))))
        };
        let counts = |value: fn(&FloatSums) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(states.iter().map(|state| value(state))))
        };
        Ok(vec![
            floats(|state| state.sum),
            counts(|state| state.finite),
            counts(|state| state.nan),
            counts(|state| state.positive),
            counts(|state| state.negative),
        ])
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<FloatSums>> {
        let float = |column: usize, row: usize| columns[column].as_primitive::<Float64Type>().value(row);
        let count = |column: usize, row: usize| columns[column].as_primitive::<Int64Type>().value(row);
        Ok((0..columns[0].len())
            .map(|row| FloatSums {
                sum: float(0, row),
                finite: count(1, row),
                nan: count(2, row),
                positive: count(3, row),
                negative: count(4, row),
            })
            .collect())
    }

    fn heap_bytes(&self, _state: &FloatSums) -> usize {
        0
    }
}

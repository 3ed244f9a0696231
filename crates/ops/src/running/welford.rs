//! VAR and STDDEV.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use thalweg_core::{Error, Result};
use thalweg_plan::AggregateFunction;

use super::{Fold, Problem};

/// Welford's algorithm in double precision, for all numbers, as in Flink 2.3: each row moves the mean and the sum of squares around
/// it, one that is taken back moves them back. The last digit depends on the order of the rows. Results over integers are cut
/// towards zero, so a variance of 9 that comes out as 8.99… is 8, there as here.
///
/// A NaN or an infinity makes the result NaN for as long as it is there.
///
/// State: mean and sum of squares as Float64; the numbers of finite values and of others.
pub(super) struct Welford {
    function: AggregateFunction,
    output: DataType,
}

#[derive(Default)]
pub(super) struct Moments {
    mean: f64,
    squares: f64,
    finite: i64,
    others: i64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.finite += 1;
        let distance = value - self.mean;
        self.mean += distance / self.finite as f64;
        self.squares += distance * (value - self.mean);
    }

    fn take_back(&mut self, value: f64) {
        self.finite -= 1;
        if self.finite == 0 {
            (self.mean, self.squares) = (0.0, 0.0);
            return;
        }
        let distance = value - self.mean;
        self.mean -= distance / self.finite as f64;
        self.squares -= (value - self.mean) * distance;
    }
}

impl Welford {
    pub(super) fn new(function: AggregateFunction, output: &DataType) -> Self {
        Welford { function, output: output.clone() }
    }
}

impl Fold for Welford {
    type State = Moments;
    type Bound = Float64Array;
    type Results = Vec<Option<f64>>;

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Float64Array> {
        let argument = argument.ok_or_else(|| Error::internal("a variance gets no argument"))?;
        Ok(cast(argument, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    }

    fn add(&self, state: &mut Moments, values: &Float64Array, row: usize, weight: i64) -> Result<(), Problem> {
        let value = values.value(row);
        let count = if value.is_finite() { state.finite } else { state.others };
        if count.checked_add(weight).ok_or(Problem::Overflow)? < 0 {
            return Err(Problem::NotThere);
        }
        if !value.is_finite() {
            state.others += weight;
            return Ok(());
        }
        for _ in 0..weight.unsigned_abs() {
            if weight > 0 { state.add(value) } else { state.take_back(value) }
        }
        Ok(())
    }

    fn push_result(&self, state: &Moments, results: &mut Vec<Option<f64>>) -> Result<(), Problem> {
        use AggregateFunction::{StddevPop, StddevSamp, VarSamp};
        let count = state.finite + state.others;
        let is_sample = matches!(self.function, VarSamp | StddevSamp);
        if count == 0 || (is_sample && count == 1) {
            results.push(None);
            return Ok(());
        }
        let squares = if state.others > 0 { f64::NAN } else { state.squares };
        // Rounding alone makes it negative.
        let variance = (squares / (count - i64::from(is_sample)) as f64).max(0.0);
        let variance = if squares.is_nan() { f64::NAN } else { variance };
        results.push(Some(if matches!(self.function, StddevPop | StddevSamp) { variance.sqrt() } else { variance }));
        Ok(())
    }

    fn finish(&self, results: Vec<Option<f64>>) -> Result<ArrayRef> {
        let results: ArrayRef = Arc::new(Float64Array::from(results));
        // A decimal that does not fit is null, as in Flink; an integer that does not is an error of the cast.
        let safe = matches!(self.output, DataType::Decimal128(..));
        Ok(cast_with_options(&results, &self.output, &CastOptions { safe, ..CastOptions::default() })?)
    }

    fn state_fields(&self) -> Vec<Field> {
        let float = |name: &str| Field::new(name, DataType::Float64, false);
        let count = |name: &str| Field::new(name, DataType::Int64, false);
        vec![float("mean"), float("squares"), count("finite"), count("others")]
    }

    fn write(&self, states: &[&Moments]) -> Result<Vec<ArrayRef>> {
        let floats = |value: fn(&Moments) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(states.iter().map(|state| value(state))))
        };
        let counts = |value: fn(&Moments) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(states.iter().map(|state| value(state))))
        };
        Ok(vec![
            floats(|state| state.mean),
            floats(|state| state.squares),
            counts(|state| state.finite),
            counts(|state| state.others),
        ])
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Moments>> {
        let float = |column: usize, row: usize| columns[column].as_primitive::<Float64Type>().value(row);
        let count = |column: usize, row: usize| columns[column].as_primitive::<Int64Type>().value(row);
        let moments = |row| Moments { mean: float(0, row), squares: float(1, row), finite: count(2, row), others: count(3, row) };
        Ok((0..columns[0].len()).map(moments).collect())
    }

    fn heap_bytes(&self, _state: &Moments) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result over `values`, of which those with a minus are taken back.
    fn result(function: AggregateFunction, output: &DataType, values: &[(f64, i64)]) -> ArrayRef {
        let fold = Welford::new(function, output);
        let column = Float64Array::from_iter_values(values.iter().map(|(value, _)| *value));
        let mut state = Moments::default();
        for (row, (_, weight)) in values.iter().enumerate() {
            assert!(fold.add(&mut state, &column, row, *weight).is_ok());
        }
        let mut results = vec![];
        assert!(fold.push_result(&state, &mut results).is_ok());
        fold.finish(results).unwrap()
    }

    #[test]
    fn as_recorded_from_flink() {
        use AggregateFunction::{StddevPop, VarPop, VarSamp};
        let int = |function, values: &[i64]| {
            let values: Vec<_> = values.iter().map(|value| (*value as f64, 1)).collect();
            result(function, &DataType::Int64, &values).as_primitive::<Int64Type>().value(0)
        };
        assert_eq!(int(VarSamp, &[7, 2]), 12);
        assert_eq!(int(VarPop, &[10, 30, 10]), 88);
        assert_eq!(int(StddevPop, &[3, 5, 3, -3]), 2);
    }

    #[test]
    fn what_is_taken_back_is_gone() {
        use AggregateFunction::{VarPop, VarSamp};
        let double = |function, values: &[(f64, i64)]| result(function, &DataType::Float64, values);
        let got = double(VarPop, &[(1.0, 1), (f64::NAN, 1), (5.0, 2), (3.0, 1), (5.0, -2), (f64::NAN, -1)]);
        assert!((got.as_primitive::<Float64Type>().value(0) - 1.0).abs() < 1e-12);
        assert!(double(VarSamp, &[(1.0, 1), (2.0, 1), (2.0, -1)]).is_null(0));
        assert!(double(VarPop, &[(1.0, 1), (f64::INFINITY, 1)]).as_primitive::<Float64Type>().value(0).is_nan());
    }
}

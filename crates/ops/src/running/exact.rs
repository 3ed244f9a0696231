//! SUM and AVG of integers and decimals.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, Int64Type};
use thalweg_core::{Error, Result};
use thalweg_plan::AggregateFunction;

use super::{Fold, Problem};
use crate::aggregate::sum::{DECIMAL_END, decimal_average};

/// Exact whatever the order of the rows. Null without a value. A SUM of integers that does not fit its type is an error, one of
/// decimals is null, as in Flink. Averages of integers are cut towards zero.
///
/// State: the sum as Decimal128(38, 0), null once it left 128 bits, and the number of values.
pub(super) struct ExactNumbers {
    function: AggregateFunction,
    output: DataType,
    scale: i8,
}

pub(super) struct Sums {
    /// `None` once it left 128 bits.
    sum: Option<i128>,
    count: i64,
}

impl Default for Sums {
    fn default() -> Self {
        Sums { sum: Some(0), count: 0 }
    }
}

impl ExactNumbers {
    /// # Errors
    /// `User` for other types of argument.
    pub(super) fn new(name: &str, function: AggregateFunction, argument: &DataType, output: &DataType) -> Result<Self> {
        let integer =
            |data_type: &DataType| matches!(data_type, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64);
        let is_supported = match (argument, output) {
            (DataType::Decimal128(_, scale), DataType::Decimal128(_, output_scale)) => match function {
                AggregateFunction::Sum => scale == output_scale,
                AggregateFunction::Avg => scale <= output_scale,
                _ => false,
            },
            (argument, output) => integer(argument) && integer(output),
        };
        if !is_supported {
            return Err(Error::user(format!("{name} does not take {argument} to give {output}")));
        }
        let scale = if let DataType::Decimal128(_, scale) = argument { *scale } else { 0 };
        Ok(ExactNumbers { function, output: output.clone(), scale })
    }

    /// The result of a group that has values, unscaled; `None` when it leaves 128 bits.
    fn result(&self, state: &Sums) -> Option<i128> {
        let (sum, count) = (state.sum?, i128::from(state.count));
        match (self.function, &self.output) {
            (AggregateFunction::Avg, DataType::Decimal128(_, output_scale)) => {
                decimal_average(sum, state.count, (output_scale - self.scale).unsigned_abs())
            }
            (AggregateFunction::Avg, _) => sum.checked_div(count),
            _ => Some(sum),
        }
    }

    fn fits(&self, value: i128) -> bool {
        match &self.output {
            DataType::Int8 => i8::try_from(value).is_ok(),
            DataType::Int16 => i16::try_from(value).is_ok(),
            DataType::Int32 => i32::try_from(value).is_ok(),
            DataType::Int64 => i64::try_from(value).is_ok(),
            _ => value.unsigned_abs() < DECIMAL_END as u128,
        }
    }
}

impl Fold for ExactNumbers {
    type State = Sums;
    /// The values, unscaled.
    type Bound = Vec<i128>;
    type Results = Vec<Option<i128>>;

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Vec<i128>> {
        let argument = argument.ok_or_else(|| Error::internal("a sum gets no argument"))?;
        Ok(match argument.data_type() {
            DataType::Decimal128(..) => argument.as_primitive::<Decimal128Type>().values().to_vec(),
            _ => {
                let wide = cast(argument, &DataType::Int64)?;
                wide.as_primitive::<Int64Type>().values().iter().map(|value| i128::from(*value)).collect()
            }
        })
    }

    fn add(&self, state: &mut Sums, values: &Vec<i128>, row: usize, weight: i64) -> Result<(), Problem> {
        let value = values[row];
        let times = |value: i128| value.checked_mul(i128::from(weight));
        state.sum = state.sum.and_then(|sum| sum.checked_add(times(value)?));
        state.count = state.count.checked_add(weight).ok_or(Problem::Overflow)?;
        match state.count {
            count if count < 0 => Err(Problem::NotThere),
            // All that was added has been taken back.
            0 => {
                *state = Sums::default();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn push_result(&self, state: &Sums, results: &mut Vec<Option<i128>>) -> Result<(), Problem> {
        if state.count == 0 {
            results.push(None);
            return Ok(());
        }
        let result = self.result(state).filter(|result| self.fits(*result));
        if result.is_none() && !matches!(self.output, DataType::Decimal128(..)) {
            return Err(Problem::Overflow);
        }
        results.push(result);
        Ok(())
    }

    fn finish(&self, results: Vec<Option<i128>>) -> Result<ArrayRef> {
        if matches!(self.output, DataType::Decimal128(..)) {
            return Ok(Arc::new(Decimal128Array::from_iter(results).with_data_type(self.output.clone())));
        }
        // Results were checked to fit.
        let wide = Int64Array::from_iter(results.into_iter().map(|result| result.and_then(|value| i64::try_from(value).ok())));
        Ok(cast(&wide, &self.output)?)
    }

    fn state_fields(&self) -> Vec<Field> {
        let sum = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);
        vec![Field::new("sum", sum, true), Field::new("count", DataType::Int64, false)]
    }

    fn write(&self, states: &[&Sums]) -> Result<Vec<ArrayRef>> {
        let sum = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);
        let sums = Decimal128Array::from_iter(states.iter().map(|state| state.sum)).with_data_type(sum);
        let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(states.iter().map(|state| state.count)));
        Ok(vec![Arc::new(sums), counts])
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Sums>> {
        let counts = columns[1].as_primitive::<Int64Type>();
        let sums = columns[0].as_primitive::<Decimal128Type>();
        let sum = |row: usize| sums.is_valid(row).then(|| sums.value(row));
        Ok((0..counts.len()).map(|row| Sums { sum: sum(row), count: counts.value(row) }).collect())
    }

    fn heap_bytes(&self, _state: &Sums) -> usize {
        0
    }
}

//! SUM and AVG.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, Int64Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use thalweg_core::{Error, Result};

use super::rows::{chosen, for_each_row, selection};
use super::{GroupAccumulator, GroupText};

/// One more than the greatest unscaled value of a DECIMAL(38, s).
pub(crate) const DECIMAL_END: i128 = 10_i128.pow(38);

/// Sum or average of integers or decimals, exact whatever the order of the rows.
///
/// State: the sum as Decimal128(38, scale of the argument), null once it left 128 bits, and the number of values as Int64.
/// Null when there was no value. An integer sum that does not fit its type is an error, a decimal one is null, as in Flink.
/// Averages of integers are cut towards zero; those of decimals are rounded half up.
pub(super) struct ExactSum {
    argument: DataType,
    is_average: bool,
    output: DataType,
    name: String,
    /// `None` once a sum left 128 bits.
    sums: Vec<Option<i128>>,
    counts: Vec<i64>,
}

impl ExactSum {
    pub(super) fn new(argument: DataType, is_average: bool, output: DataType, name: String) -> Result<Self> {
        let is_supported = match (&argument, &output) {
            (DataType::Decimal128(_, scale), DataType::Decimal128(_, output_scale)) => {
                scale <= output_scale && (is_average || scale == output_scale)
            }
            (argument, output) => is_signed_integer(argument) && is_signed_integer(output),
        };
        if !is_supported {
            return Err(Error::user(format!("{name} does not take {argument} to give {output}")));
        }
        Ok(ExactSum { argument, is_average, output, name, sums: vec![], counts: vec![] })
    }

    fn resize(&mut self, total_groups: usize) {
        self.sums.resize(total_groups, Some(0));
        self.counts.resize(total_groups, 0);
    }

    fn add<T: ArrowPrimitiveType<Native: Into<i128>>>(
        &mut self,
        argument: &ArrayRef,
        filter: Option<&BooleanArray>,
        weights: Option<&Int64Array>,
        groups: &[usize],
    ) {
        let values = argument.as_primitive::<T>().values();
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        for_each_row(selection(Some(argument), filter).as_ref(), weights, groups, |row, group, weight| {
            let value: i128 = values[row].into();
            let value = if weight == 1 { Some(value) } else { value.checked_mul(i128::from(weight)) };
            sums[group] = add_sums(sums[group], value);
            counts[group] += weight;
        });
    }

    fn scale(&self) -> i8 {
        match self.argument {
            DataType::Decimal128(_, scale) => scale,
            _ => 0,
        }
    }

    /// The result of a group that had a value, unscaled; `None` when it does not fit.
    fn result(&self, group: usize) -> Option<i128> {
        let sum = self.sums[group]?;
        match (&self.output, self.is_average) {
            (DataType::Decimal128(_, output_scale), true) => {
                decimal_average(sum, self.counts[group], (output_scale - self.scale()).unsigned_abs())
            }
            (_, true) => sum.checked_div(i128::from(self.counts[group])),
            (_, false) => Some(sum),
        }
        .filter(|result| !matches!(self.output, DataType::Decimal128(..)) || result.unsigned_abs() < DECIMAL_END as u128)
    }

    fn narrow<T: ArrowPrimitiveType<Native: TryFrom<i128>>>(
        &self,
        groups: &[usize],
        describe: GroupText<'_>,
    ) -> Result<ArrayRef> {
        let mut values = Vec::with_capacity(groups.len());
        for group in groups {
            values.push(match self.counts[*group] {
                0 => None,
                _ => Some(self.result(*group).and_then(|result| T::Native::try_from(result).ok()).ok_or_else(|| {
                    Error::record(format!("{} overflows {} for {}", self.name, sql_name(&self.output), describe(*group)))
                        .with_help("cast the argument to a wider type, such as DECIMAL(38, 0)")
                })?),
            });
        }
        Ok(Arc::new(PrimitiveArray::<T>::from_iter(values)))
    }
}

impl GroupAccumulator for ExactSum {
    fn update(
        &mut self,
        argument: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        weights: Option<&Int64Array>,
        groups: &[usize],
        total_groups: usize,
    ) -> Result<()> {
        self.resize(total_groups);
        let argument = argument.ok_or_else(|| Error::internal(format!("{} gets no argument", self.name)))?;
        match argument.data_type() {
            DataType::Int8 => self.add::<Int8Type>(argument, filter, weights, groups),
            DataType::Int16 => self.add::<Int16Type>(argument, filter, weights, groups),
            DataType::Int32 => self.add::<Int32Type>(argument, filter, weights, groups),
            DataType::Int64 => self.add::<Int64Type>(argument, filter, weights, groups),
            DataType::Decimal128(..) => self.add::<Decimal128Type>(argument, filter, weights, groups),
            other => return Err(Error::internal(format!("{} gets {other}", self.name))),
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.resize(total_groups);
        let sums = states[0].as_primitive::<Decimal128Type>();
        let counts = states[1].as_primitive::<Int64Type>();
        for (row, group) in groups.iter().enumerate() {
            let sum = (!sums.is_null(row)).then(|| sums.value(row));
            self.sums[*group] = add_sums(self.sums[*group], sum);
            self.counts[*group] += counts.value(row);
        }
        Ok(())
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![
            Field::new("sum", DataType::Decimal128(DECIMAL128_MAX_PRECISION, self.scale()), true),
            Field::new("count", DataType::Int64, false),
        ]
    }

    fn state(&self, groups: Option<&[usize]>) -> Result<Vec<ArrayRef>> {
        let groups = chosen(groups, self.sums.len());
        let sums = Decimal128Array::from_iter(groups.iter().map(|group| self.sums[*group]))
            .with_data_type(DataType::Decimal128(DECIMAL128_MAX_PRECISION, self.scale()));
        let counts = Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group]));
        Ok(vec![Arc::new(sums), Arc::new(counts)])
    }

    fn evaluate(&self, groups: Option<&[usize]>, describe: GroupText<'_>) -> Result<ArrayRef> {
        let groups = chosen(groups, self.sums.len());
        match &self.output {
            DataType::Int8 => self.narrow::<Int8Type>(&groups, describe),
            DataType::Int16 => self.narrow::<Int16Type>(&groups, describe),
            DataType::Int32 => self.narrow::<Int32Type>(&groups, describe),
            DataType::Int64 => self.narrow::<Int64Type>(&groups, describe),
            output => {
                let results = groups.iter().map(|group| (self.counts[*group] != 0).then(|| self.result(*group)).flatten());
                Ok(Arc::new(Decimal128Array::from_iter(results).with_data_type(output.clone())))
            }
        }
    }

    fn size_bytes(&self) -> usize {
        self.sums.capacity() * size_of::<Option<i128>>() + self.counts.capacity() * size_of::<i64>()
    }
}

fn add_sums(one: Option<i128>, other: Option<i128>) -> Option<i128> {
    one?.checked_add(other?)
}

/// `sum / count` with `more_digits` more digits, rounded half up (away from zero at the half).
pub(crate) fn decimal_average(sum: i128, count: i64, more_digits: u8) -> Option<i128> {
    let count = i128::from(count);
    let unit = 10_i128.checked_pow(u32::from(more_digits))?;
    // In two steps, as `sum * unit` may not fit 128 bits although the result does.
    let whole = sum.checked_div(count)?.checked_mul(unit)?;
    let rest = (sum % count).checked_mul(unit)?;
    let (part, remainder) = (rest / count, rest % count);
    let is_up = remainder.unsigned_abs() * 2 >= count.unsigned_abs();
    let away = if (rest < 0) != (count < 0) { -1 } else { 1 };
    whole.checked_add(part)?.checked_add(if is_up { away } else { 0 })
}

fn is_signed_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}

pub(crate) fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int8 => "TINYINT".to_string(),
        DataType::Int16 => "SMALLINT".to_string(),
        DataType::Int32 => "INT".to_string(),
        DataType::Int64 => "BIGINT".to_string(),
        other => other.to_string(),
    }
}

/// Sum or average of FLOAT or DOUBLE. State: the sum as Float64 and the number of values as Int64. Null without a value.
///
/// Additions happen in arrival order and round each time, so the last digits depend on that order. A sum of FLOAT is rounded to
/// FLOAT after each addition, an average of FLOAT only at the end, both as in Flink.
pub(super) struct FloatSum {
    is_average: bool,
    rounds_to_single: bool,
    output: DataType,
    name: String,
    sums: Vec<f64>,
    counts: Vec<i64>,
}

impl FloatSum {
    pub(super) fn new(argument: DataType, is_average: bool, output: DataType, name: String) -> Result<Self> {
        if !matches!(output, DataType::Float32 | DataType::Float64) {
            return Err(Error::user(format!("{name} does not take {argument} to give {output}")));
        }
        let rounds_to_single = argument == DataType::Float32 && !is_average;
        Ok(FloatSum { is_average, rounds_to_single, output, name, sums: vec![], counts: vec![] })
    }

    fn resize(&mut self, total_groups: usize) {
        self.sums.resize(total_groups, 0.0);
        self.counts.resize(total_groups, 0);
    }
}

impl GroupAccumulator for FloatSum {
    fn update(
        &mut self,
        argument: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        weights: Option<&Int64Array>,
        groups: &[usize],
        total_groups: usize,
    ) -> Result<()> {
        self.resize(total_groups);
        let argument = argument.ok_or_else(|| Error::internal(format!("{} gets no argument", self.name)))?;
        let wide = cast(argument, &DataType::Float64)?;
        let values = wide.as_primitive::<Float64Type>().values();
        let (sums, counts, rounds) = (&mut self.sums, &mut self.counts, self.rounds_to_single);
        for_each_row(selection(Some(argument), filter).as_ref(), weights, groups, |row, group, weight| {
            let value = if weight == 1 { values[row] } else { values[row] * weight as f64 };
            sums[group] = add_floats(sums[group], value, rounds);
            counts[group] += weight;
        });
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.resize(total_groups);
        let sums = states[0].as_primitive::<Float64Type>().values();
        let counts = states[1].as_primitive::<Int64Type>().values();
        for ((group, sum), count) in groups.iter().zip(sums).zip(counts) {
            self.sums[*group] = add_floats(self.sums[*group], *sum, self.rounds_to_single);
            self.counts[*group] += count;
        }
        Ok(())
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("sum", DataType::Float64, false), Field::new("count", DataType::Int64, false)]
    }

    fn state(&self, groups: Option<&[usize]>) -> Result<Vec<ArrayRef>> {
        let groups = chosen(groups, self.sums.len());
        let sums = PrimitiveArray::<Float64Type>::from_iter_values(groups.iter().map(|group| self.sums[*group]));
        let counts = Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group]));
        Ok(vec![Arc::new(sums), Arc::new(counts)])
    }

    fn evaluate(&self, groups: Option<&[usize]>, _describe: GroupText<'_>) -> Result<ArrayRef> {
        let results = chosen(groups, self.sums.len())
            .iter()
            .map(|group| match (self.counts[*group], self.is_average) {
                (0, _) => None,
                (count, true) => Some(self.sums[*group] / count as f64),
                (_, false) => Some(self.sums[*group]),
            })
            .collect::<PrimitiveArray<Float64Type>>();
        Ok(cast(&results, &self.output)?)
    }

    fn size_bytes(&self) -> usize {
        self.sums.capacity() * size_of::<f64>() + self.counts.capacity() * size_of::<i64>()
    }
}

/// For two singles, rounding their double sum to single gives what adding singles gives.
fn add_floats(one: f64, other: f64, rounds_to_single: bool) -> f64 {
    let sum = one + other;
    if rounds_to_single { f64::from(sum as f32) } else { sum }
}

#[cfg(test)]
mod tests {
    use super::decimal_average;

    #[test]
    fn decimal_averages_round_half_up() {
        for (sum, count, digits, expected) in
            [(5, 2, 0, 3), (-5, 2, 0, -3), (1, 3, 2, 33), (2, 3, 2, 67), (-2, 3, 2, -67), (7, 1, 1, 70), (-1, 4, 1, -3)]
        {
            assert_eq!(decimal_average(sum, count, digits), Some(expected), "{sum} / {count}, {digits}");
        }
        assert_eq!(decimal_average(i128::MAX, 1, 6), None);
        assert_eq!(decimal_average(10_i128.pow(37), 10_i64.pow(9), 6), Some(10_i128.pow(34)));
    }
}

//! Arithmetic of DECIMALs by Flink's rules: the result's precision and scale, half up, null when it does not fit.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Int64Type, i256};
use datafusion::common::Result;

use super::arguments::{Arguments, number_rows};
use super::definition::{Definition, Kind, Planned, Returns, define};
use super::rounding::{cast_type, power_of_ten};
use super::sql_type::SqlType;

const EXACT: &[Kind] = &[Kind::Exact, Kind::Exact];

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        define("decimal_add", EXACT, Returns::Computed(|p| planned(p, Operation::Add)), |a| run(a, Operation::Add)).maybe_null(),
        define("decimal_subtract", EXACT, Returns::Computed(|p| planned(p, Operation::Subtract)), |a| {
            run(a, Operation::Subtract)
        })
        .maybe_null(),
        define("decimal_multiply", EXACT, Returns::Computed(|p| planned(p, Operation::Multiply)), |a| {
            run(a, Operation::Multiply)
        })
        .maybe_null(),
        define("decimal_divide", EXACT, Returns::Computed(|p| planned(p, Operation::Divide)), |a| run(a, Operation::Divide))
            .maybe_null(),
        define("decimal_modulo", EXACT, Returns::Computed(|p| planned(p, Operation::Modulo)), |a| run(a, Operation::Modulo))
            .maybe_null(),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

fn planned(planned: &Planned, operation: Operation) -> Result<SqlType> {
    result_type(operation, planned.data_type(0), planned.data_type(1)).ok_or_else(|| planned.error("takes numbers"))
}

/// Precision and scale of an exact number: an integer has the digits of its largest value.
pub(super) fn digits_of(data_type: &DataType) -> Option<(i32, i32)> {
    match data_type {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::Decimal128(precision, scale) => Some((i32::from(*precision), i32::from(*scale))),
        _ => None,
    }
}

/// The type of the result; `None` if a side is not an exact number.
///
/// # Source
/// Flink's `LogicalTypeMerging`: when more than 38 digits are needed the scale gives way, down to 6 at least.
pub(super) fn result_type(operation: Operation, left: &DataType, right: &DataType) -> Option<SqlType> {
    let ((p1, s1), (p2, s2)) = (digits_of(left)?, digits_of(right)?);
    let (precision, scale) = match operation {
        Operation::Add | Operation::Subtract => {
            let scale = s1.max(s2);
            ((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
        Operation::Multiply => (p1 + p2 + 1, s1 + s2),
        Operation::Divide => {
            let scale = 6.max(s1 + p2 + 1);
            (p1 - s1 + s2 + scale, scale)
        }
        Operation::Modulo => {
            let scale = s1.max(s2);
            ((p1 - s1).min(p2 - s2) + scale, scale)
        }
    };
    let (precision, scale) = if precision > 38 {
        let whole = precision - scale;
        (38, (38 - whole).max(scale.min(6)))
    } else {
        (precision, scale)
    };
    Some(SqlType::Decimal(u8::try_from(precision.max(1)).ok()?, i8::try_from(scale).ok()?))
}

/// The unscaled values of an exact number.
fn unscaled(array: &ArrayRef) -> Result<Decimal128Array> {
    match array.data_type() {
        DataType::Decimal128(_, _) => Ok(array.as_primitive::<Decimal128Type>().clone()),
        _ => {
            let wide = cast(array, &DataType::Int64)?;
            Ok(wide.as_primitive::<Int64Type>().unary::<_, Decimal128Type>(i128::from))
        }
    }
}

/// Runs an operation on arguments 0 and 1 into the return type.
pub(super) fn run(args: &Arguments, operation: Operation) -> Result<ArrayRef> {
    let (Some((_, s1)), Some((_, s2))) = (digits_of(args.data_type(0)), digits_of(args.data_type(1))) else {
        return Err(args.error("takes integers and decimals"));
    };
    let DataType::Decimal128(precision, scale) = *args.return_field.data_type() else {
        return Err(args.error("gives a decimal"));
    };
    let step = |index: usize| usize::from(!args.is_constant(index));
    let (left, right) = (unscaled(args.array(0))?, unscaled(args.array(1))?);
    let (left_step, right_step) = (step(0), step(1));
    let rule =
        Rule { operation, s1, s2, scale: i32::from(scale), limit: power_of_ten(i64::from(precision)).unwrap_or(i128::MAX) };
    let result = number_rows::<Decimal128Type>(args.rows, |row| {
        let (at, other) = (row * left_step, row * right_step);
        if left.is_null(at) || right.is_null(other) {
            return Ok(None);
        }
        let divides = matches!(operation, Operation::Divide | Operation::Modulo);
        if divides && right.value(other) == 0 {
            return Err(args.error("division by zero"));
        }
        Ok(rule.apply(left.value(at), right.value(other)))
    })?;
    Ok(cast_type(result, args.return_field.data_type()))
}

struct Rule {
    operation: Operation,
    s1: i32,
    s2: i32,
    /// Of the result.
    scale: i32,
    /// The first value that has too many digits.
    limit: i128,
}

impl Rule {
    /// `None` if the result does not fit. Divisors are not zero.
    fn apply(&self, left: i128, right: i128) -> Option<i128> {
        let result = match self.narrow(left, right) {
            Some(result) => result,
            None => self.wide(i256::from_i128(left), i256::from_i128(right))?.to_i128()?,
        };
        (result.unsigned_abs() < self.limit.unsigned_abs()).then_some(result)
    }

    /// In 128 bits, or `None` if a step overflows.
    fn narrow(&self, left: i128, right: i128) -> Option<i128> {
        let power = |exponent: i32| power_of_ten(i64::from(exponent));
        let common = self.s1.max(self.s2);
        match self.operation {
            Operation::Add | Operation::Subtract | Operation::Modulo => {
                let left = left.checked_mul(power(common - self.s1)?)?;
                let right = right.checked_mul(power(common - self.s2)?)?;
                let result = match self.operation {
                    Operation::Add => left.checked_add(right)?,
                    Operation::Subtract => left.checked_sub(right)?,
                    _ => left.checked_rem(right)?,
                };
                rescale(result, common, self.scale)
            }
            Operation::Multiply => rescale(left.checked_mul(right)?, self.s1 + self.s2, self.scale),
            Operation::Divide => {
                let shift = self.scale - self.s1 + self.s2;
                if shift >= 0 {
                    Some(half_up(left.checked_mul(power(shift)?)?, right))
                } else {
                    Some(half_up(left, right.checked_mul(power(-shift)?)?))
                }
            }
        }
    }

    fn wide(&self, left: i256, right: i256) -> Option<i256> {
        let power = |exponent: i32| i256::from_i128(10).checked_pow(u32::try_from(exponent).ok()?);
        let common = self.s1.max(self.s2);
        match self.operation {
            Operation::Add | Operation::Subtract | Operation::Modulo => {
                let left = left.checked_mul(power(common - self.s1)?)?;
                let right = right.checked_mul(power(common - self.s2)?)?;
                let result = match self.operation {
                    Operation::Add => left.checked_add(right)?,
                    Operation::Subtract => left.checked_sub(right)?,
                    _ => left.checked_rem(right)?,
                };
                wide_half_up(result, power(common - self.scale)?)
            }
            Operation::Multiply => wide_half_up(left.checked_mul(right)?, power(self.s1 + self.s2 - self.scale)?),
            Operation::Divide => {
                let shift = self.scale - self.s1 + self.s2;
                if shift >= 0 {
                    wide_half_up(left.checked_mul(power(shift)?)?, right)
                } else {
                    wide_half_up(left, right.checked_mul(power(-shift)?)?)
                }
            }
        }
    }
}

/// A value of one scale at another, half up; `None` on overflow.
pub(super) fn rescale(value: i128, from: i32, to: i32) -> Option<i128> {
    if to >= from {
        return value.checked_mul(power_of_ten(i64::from(to - from))?);
    }
    Some(match power_of_ten(i64::from(from - to)) {
        Some(divisor) => half_up(value, divisor),
        None => 0,
    })
}

/// The quotient rounded to the nearest, a half away from zero.
fn half_up(value: i128, divisor: i128) -> i128 {
    let (quotient, remainder) = (value / divisor, value % divisor);
    if remainder.unsigned_abs() >= divisor.unsigned_abs() - remainder.unsigned_abs() {
        if (value < 0) == (divisor < 0) { quotient + 1 } else { quotient - 1 }
    } else {
        quotient
    }
}

fn wide_half_up(value: i256, divisor: i256) -> Option<i256> {
    let quotient = value.checked_div(divisor)?;
    let remainder = value.checked_rem(divisor)?.wrapping_abs();
    if remainder >= divisor.wrapping_abs().wrapping_sub(remainder) {
        let one = i256::from_i128(1);
        let same_sign = (value < i256::ZERO) == (divisor < i256::ZERO);
        return if same_sign { quotient.checked_add(one) } else { quotient.checked_sub(one) };
    }
    Some(quotient)
}

/// A DECIMAL as the nearest DOUBLE.
pub(super) fn to_double(value: i128, scale: i8) -> f64 {
    // Both sides are exact doubles, so their quotient is the nearest one.
    if value.unsigned_abs() < 1 << 53 && (0..=22).contains(&scale) {
        return value as f64 / 10_f64.powi(i32::from(scale));
    }
    let mut text = String::new();
    super::number_text::push_decimal(value, scale, &mut text);
    text.parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_types_are_those_of_flink() {
        let check = |operation, left, right, expected: &str| {
            assert_eq!(result_type(operation, &left, &right).unwrap().to_string(), expected);
        };
        check(Operation::Multiply, DataType::Decimal128(3, 3), DataType::Int64, "DECIMAL(23, 3)");
        check(Operation::Add, DataType::Int32, DataType::Decimal128(2, 1), "DECIMAL(12, 1)");
        check(Operation::Divide, DataType::Decimal128(10, 2), DataType::Int32, "DECIMAL(21, 13)");
        check(Operation::Multiply, DataType::Decimal128(38, 0), DataType::Int32, "DECIMAL(38, 0)");
        assert_eq!(result_type(Operation::Add, &DataType::Float64, &DataType::Int32), None);
    }

    #[test]
    fn wide_results_round_and_overflow_to_null() {
        let rule = |operation, s1, s2, scale| Rule { operation, s1, s2, scale, limit: power_of_ten(38).unwrap() };
        let nines = power_of_ten(38).unwrap() - 1;
        assert_eq!(rule(Operation::Add, 0, 0, 0).apply(nines, 1), None);
        assert_eq!(rule(Operation::Multiply, 0, 0, 0).apply(nines, 10), None);
        assert_eq!(rule(Operation::Multiply, 20, 20, 6).apply(nines, 15), Some(150_000));
        assert_eq!(rule(Operation::Multiply, 6, 6, 6).apply(nines, 1_000_000), Some(nines));
        assert_eq!(rule(Operation::Divide, 2, 0, 13).apply(100, 3), Some(3_333_333_333_333));
        assert_eq!(rule(Operation::Divide, 0, 0, 6).apply(-2, 3), Some(-666_667));
        assert_eq!(rule(Operation::Modulo, 0, 0, 0).apply(-7, 3), Some(-1));
        assert_eq!(rule(Operation::Divide, 0, 0, 30).apply(nines, nines), power_of_ten(30));
    }

    proptest::proptest! {
        #[test]
        fn narrow_equals_wide(left in -1_000_000_000_000_i128..1_000_000_000_000, right in 1_i128..1_000_000_000, negate: bool,
                              s1 in 0_i32..6, s2 in 0_i32..6, which in 0_usize..5) {
            let operation = [Operation::Add, Operation::Subtract, Operation::Multiply, Operation::Divide, Operation::Modulo][which];
            let scale = match operation { Operation::Multiply => s1 + s2 - (s1 + s2) / 2, Operation::Divide => 9, _ => s1.max(s2) };
            let right = if negate { -right } else { right };
            let rule = Rule { operation, s1, s2, scale, limit: power_of_ten(38).unwrap() };
            let wide = rule.wide(i256::from_i128(left), i256::from_i128(right)).and_then(i256::to_i128);
            proptest::prop_assert_eq!(rule.narrow(left, right), wide);
        }
    }

    #[test]
    fn doubles_are_the_nearest() {
        assert_eq!(to_double(1, 1), 0.1);
        assert_eq!(to_double(12_345_678_901_234_567_890, 10), 1_234_567_890.123_456_8);
    }
}

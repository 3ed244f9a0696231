//! ROUND, TRUNCATE, CEIL and FLOOR of numbers.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datafusion::common::Result;

use super::arguments::{Arguments, number_rows};
use super::definition::{Definition, Kind, Planned, Returns, define};
use super::sql_type::SqlType;

use Kind::{Integer, Number};

pub(super) fn definitions() -> Vec<Definition> {
    let mut all = vec![
        define("round", &[Number, Integer], Returns::Computed(round_type), |args| to_digits(args, Mode::HalfUp)).optional(1),
        define("truncate", &[Number, Integer], Returns::Same(0), |args| to_digits(args, Mode::Down)).optional(1),
        define("floor", &[Number], Returns::Computed(whole_type), |args| to_whole(args, Mode::Floor)),
    ];
    for name in ["ceil", "ceiling"] {
        all.push(define(name, &[Number], Returns::Computed(whole_type), |args| to_whole(args, Mode::Ceiling)));
    }
    all
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// To the nearest, a half away from zero.
    HalfUp,
    Down,
    Floor,
    Ceiling,
}

/// DECIMAL(p, s) rounded to n digits: one digit more before the point, for a carry.
fn round_type(planned: &Planned) -> Result<SqlType> {
    let given = SqlType::of_field(&planned.fields[0]);
    let SqlType::Decimal(precision, scale) = given else {
        return Ok(given);
    };
    let digits = if planned.fields.len() == 1 { Some(0) } else { planned.constant_integer(1) };
    let whole = i64::from(precision) - i64::from(scale) + 1;
    Ok(match digits {
        None => given,
        Some(digits) if digits >= i64::from(scale) => given,
        Some(digits) => {
            let digits = digits.max(0);
            SqlType::Decimal((whole + digits).clamp(1, 38) as u8, digits as i8)
        }
    })
}

fn whole_type(planned: &Planned) -> Result<SqlType> {
    Ok(match SqlType::of_field(&planned.fields[0]) {
        SqlType::Decimal(precision, _) => SqlType::Decimal(precision, 0),
        other => other,
    })
}

/// `value / divisor`, rounded. `divisor` is positive.
fn divide(value: i128, divisor: i128, mode: Mode) -> i128 {
    let (quotient, remainder) = (value / divisor, value % divisor);
    let away = match mode {
        Mode::HalfUp => remainder.unsigned_abs() >= divisor.unsigned_abs() - remainder.unsigned_abs(),
        Mode::Down => false,
        Mode::Floor => remainder < 0,
        Mode::Ceiling => remainder > 0,
    };
    if !away {
        quotient
    } else if value < 0 {
        quotient - 1
    } else {
        quotient + 1
    }
}

/// The power, or `None` if it has more than 38 digits.
pub(super) fn power_of_ten(exponent: i64) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

fn to_digits(args: &Arguments, mode: Mode) -> Result<ArrayRef> {
    let digits = args.integers_or(1, 0)?;
    let array = args.array(0);
    let step = usize::from(!args.is_constant(0));
    match (array.data_type(), args.return_field.data_type()) {
        (DataType::Decimal128(_, from), DataType::Decimal128(precision, to)) => {
            let values = array.as_primitive::<Decimal128Type>();
            let (from, to) = (i64::from(*from), i64::from(*to));
            let limit = power_of_ten(i64::from(*precision)).unwrap_or(i128::MAX);
            let rounded = number_rows::<Decimal128Type>(args.rows, |row| {
                let at = row * step;
                let (false, Some(digits)) = (values.is_null(at), digits.get(row)) else {
                    return Ok(None);
                };
                // Cut at the wanted digit, then write the result with the digits of its type.
                let wanted = digits.min(from);
                let cut = match power_of_ten(from - wanted) {
                    Some(divisor) => divide(values.value(at), divisor, mode),
                    None => 0,
                };
                let scaled = if to >= wanted {
                    power_of_ten(to - wanted).and_then(|factor| cut.checked_mul(factor))
                } else {
                    power_of_ten(wanted - to).map(|divisor| divide(cut, divisor, Mode::Down))
                };
                match scaled.filter(|value| value.abs() < limit) {
                    Some(value) => Ok(Some(value)),
                    None if cut == 0 => Ok(Some(0)),
                    None => Ok(None),
                }
            })?;
            Ok(cast_type(rounded, args.return_field.data_type()))
        }
        (DataType::Float32 | DataType::Float64, result_type) => {
            let values = cast(array, &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            let rounded = number_rows::<Float64Type>(args.rows, |row| {
                let at = row * step;
                let value = if values.is_null(at) { None } else { Some(values.value(at)) };
                Ok(value.zip(digits.get(row)).map(|(value, digits)| round_double(value, digits, mode)))
            })?;
            Ok(cast(&rounded, result_type)?)
        }
        (_, result_type) => {
            let values = cast(array, &DataType::Int64)?;
            let values = values.as_primitive::<Int64Type>();
            let rounded = number_rows::<Int64Type>(args.rows, |row| {
                let at = row * step;
                let (false, Some(digits)) = (values.is_null(at), digits.get(row)) else {
                    return Ok(None);
                };
                let value = values.value(at);
                if digits >= 0 {
                    return Ok(Some(value));
                }
                let rounded = match power_of_ten(digits.saturating_neg()) {
                    Some(factor) => divide(i128::from(value), factor, mode) * factor,
                    None => 0,
                };
                i64::try_from(rounded).map(Some).map_err(|_| args.error(format!("overflow when rounding {value}")))
            })?;
            let options = datafusion::arrow::compute::CastOptions { safe: false, ..Default::default() };
            datafusion::arrow::compute::cast_with_options(&rounded, result_type, &options)
                .map_err(|_| args.error(format!("overflow of {}", SqlType::of_arrow(result_type))))
        }
    }
}

/// A Decimal128 array under the precision and scale of `data_type`.
pub(super) fn cast_type(array: ArrayRef, data_type: &DataType) -> ArrayRef {
    Arc::new(array.as_primitive::<Decimal128Type>().clone().with_data_type(data_type.clone()))
}

/// Rounds the shortest decimal form of a double, as Java's `BigDecimal.valueOf` sees it: 1.005 to 2 digits is 1.01.
fn round_double(value: f64, digits: i64, mode: Mode) -> f64 {
    if !value.is_finite() || digits > 300 {
        return value;
    }
    if digits < -300 {
        return 0.0;
    }
    // Doubles have about 16 digits; where the scaled number is far from a tie (or a step, when cutting), the plain way is exact.
    if (0..=15).contains(&digits) {
        let factor = 10_f64.powi(digits as i32);
        let scaled = value * factor;
        let fraction = scaled.abs().fract();
        let safe = match mode {
            Mode::HalfUp => (fraction - 0.5).abs() > 1e-3,
            _ => fraction > 1e-3 && fraction < 1.0 - 1e-3,
        };
        if scaled.abs() < 1e11 && safe {
            return if mode == Mode::HalfUp { scaled.round() / factor } else { scaled.trunc() / factor };
        }
    }
    round_text(&format!("{value}"), digits, mode)
}

/// Rounds a number in plain decimal form, by its digits.
fn round_text(text: &str, digits: i64, mode: Mode) -> f64 {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (-1.0, unsigned),
        None => (1.0, text),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
    let kept = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(digits);
    let Ok(kept) = usize::try_from(kept) else {
        return 0.0 * sign;
    };
    if kept >= all.len() {
        return text.parse().unwrap_or(f64::NAN);
    }
    let carry = mode == Mode::HalfUp && all[kept] >= 5;
    let mut number: Vec<u8> = all[..kept].to_vec();
    if carry {
        let mut at = kept;
        loop {
            if at == 0 {
                number.insert(0, 1);
                break;
            }
            at -= 1;
            if number[at] < 9 {
                number[at] += 1;
                break;
            }
            number[at] = 0;
        }
    }
    let mut out: String = number.iter().map(|digit| char::from(digit + b'0')).collect();
    if out.is_empty() {
        out.push('0');
    }
    out.push_str(&format!("e{}", -digits));
    sign * out.parse::<f64>().unwrap_or(f64::NAN)
}

fn to_whole(args: &Arguments, mode: Mode) -> Result<ArrayRef> {
    let array = args.array(0);
    let result: ArrayRef = match array.data_type() {
        DataType::Decimal128(_, scale) => {
            let divisor = power_of_ten(i64::from(*scale).max(0)).unwrap_or(i128::MAX);
            let whole = array.as_primitive::<Decimal128Type>().unary::<_, Decimal128Type>(|value| divide(value, divisor, mode));
            Arc::new(whole.with_data_type(args.return_field.data_type().clone()))
        }
        DataType::Float32 | DataType::Float64 => {
            let values = cast(array, &DataType::Float64)?;
            let values: &Float64Array = values.as_primitive::<Float64Type>();
            let whole: Float64Array = values.unary(|value| if mode == Mode::Floor { value.floor() } else { value.ceil() });
            cast(&whole, args.return_field.data_type())?
        }
        _ => array.clone(),
    };
    super::number::expand(args, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_round_by_their_shortest_form() {
        let check = |value, digits, expected: f64| assert_eq!(round_double(value, digits, Mode::HalfUp), expected, "{value}");
        check(2.5, 0, 3.0);
        check(-2.5, 0, -3.0);
        check(1.005, 2, 1.01);
        check(0.49999999999999994, 0, 0.0);
        check(143.2394487827058, 9, 143.239448783);
        check(1234.5, -2, 1200.0);
        check(9.999, 2, 10.0);
        check(55.0, -2, 100.0);
        check(1e300, 2, 1e300);
        assert_eq!(round_double(3.49, 1, Mode::Down), 3.4);
        assert_eq!(round_double(0.3, 1, Mode::Down), 0.3);
    }
}

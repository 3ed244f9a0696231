//! Numbers as Java prints and reads them.

use std::fmt::Write as _;

/// Appends a DOUBLE as `Double.toString` does: shortest digits, `1.0E20` from 10^7 on and below 10^-3.
pub(super) fn push_double(value: f64, out: &mut String) {
    push_scientific(value.is_nan(), value.is_infinite(), value.is_sign_negative(), value == 0.0, &format!("{value:e}"), out);
}

/// As [`push_double`], with the digits that a FLOAT needs.
pub(super) fn push_float(value: f32, out: &mut String) {
    push_scientific(value.is_nan(), value.is_infinite(), value.is_sign_negative(), value == 0.0, &format!("{value:e}"), out);
}

/// `text` is Rust's shortest form, such as `-1.25e-7`.
fn push_scientific(nan: bool, infinite: bool, negative: bool, zero: bool, text: &str, out: &mut String) {
    if nan {
        out.push_str("NaN");
        return;
    }
    if negative {
        out.push('-');
    }
    if infinite {
        out.push_str("Infinity");
        return;
    }
    if zero {
        out.push_str("0.0");
        return;
    }
    let (mantissa, exponent) = text.trim_start_matches('-').split_once('e').unwrap_or((text, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-3..7).contains(&exponent) {
        if exponent < 0 {
            out.push_str("0.");
            out.push_str(&"0".repeat(exponent.unsigned_abs() as usize - 1));
            out.push_str(&digits);
            return;
        }
        let whole = exponent.unsigned_abs() as usize + 1;
        if digits.len() <= whole {
            out.push_str(&digits);
            out.push_str(&"0".repeat(whole - digits.len()));
            out.push_str(".0");
        } else {
            out.push_str(&digits[..whole]);
            out.push('.');
            out.push_str(&digits[whole..]);
        }
        return;
    }
    let (first, rest) = digits.split_at(1);
    let rest = if rest.is_empty() { "0" } else { rest };
    let _ = write!(out, "{first}.{rest}E{exponent}");
}

/// Appends a DECIMAL with all its `scale` digits.
pub(super) fn push_decimal(value: i128, scale: i8, out: &mut String) {
    let digits = value.unsigned_abs().to_string();
    if value < 0 {
        out.push('-');
    }
    let Ok(scale) = usize::try_from(scale) else {
        out.push_str(&digits);
        out.push_str(&"0".repeat(usize::from(scale.unsigned_abs())));
        return;
    };
    if scale == 0 {
        out.push_str(&digits);
    } else if digits.len() > scale {
        out.push_str(&digits[..digits.len() - scale]);
        out.push('.');
        out.push_str(&digits[digits.len() - scale..]);
    } else {
        out.push_str("0.");
        out.push_str(&"0".repeat(scale - digits.len()));
        out.push_str(&digits);
    }
}

/// What became of a text that should be a DECIMAL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DecimalText {
    Fits(i128),
    /// A number, with too many digits for the precision.
    TooLarge,
    NotANumber,
}

/// Reads a number, rounded half up (away from zero) to `scale`. An exponent is allowed.
pub(super) fn parse_decimal(text: &str, precision: u8, scale: i8) -> DecimalText {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => match exponent.parse::<i32>() {
            Ok(exponent) => (mantissa, exponent),
            Err(_) => return DecimalText::NotANumber,
        },
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number =
        !(whole.is_empty() && fraction.is_empty()) && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number {
        return DecimalText::NotANumber;
    }
    // How many digits, from the first of the mantissa on, stand before the point of the scaled number.
    let Ok(whole_digits) = i64::try_from(whole.len()) else {
        return DecimalText::TooLarge;
    };
    let kept = whole_digits + i64::from(exponent) + i64::from(scale);
    let mut value = 0_i128;
    let mut digits = whole.bytes().chain(fraction.bytes()).map(|byte| i128::from(byte - b'0'));
    for _ in 0..kept.max(0) {
        let digit = digits.next();
        if digit.is_none() && value == 0 {
            break;
        }
        value = match value.checked_mul(10).and_then(|value| value.checked_add(digit.unwrap_or(0))) {
            Some(value) => value,
            None => return DecimalText::TooLarge,
        };
    }
    if kept >= 0 && digits.next().is_some_and(|digit| digit >= 5) {
        value += 1;
    }
    if value >= 10_i128.pow(u32::from(precision)) {
        return DecimalText::TooLarge;
    }
    DecimalText::Fits(if text.starts_with('-') { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_double(value: f64, expected: &str) {
        let mut out = String::new();
        push_double(value, &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn doubles_print_as_in_java() {
        check_double(0.1, "0.1");
        check_double(100.0, "100.0");
        check_double(1e20, "1.0E20");
        check_double(-1.5e-5, "-1.5E-5");
        check_double(0.001, "0.001");
        check_double(9_999_999.0, "9999999.0");
        check_double(1e7, "1.0E7");
        check_double(-0.0, "-0.0");
        check_double(f64::NAN, "NaN");
        check_double(f64::NEG_INFINITY, "-Infinity");
        check_double(0.30000000000000004, "0.30000000000000004");
        let mut out = String::new();
        push_float(1e10, &mut out);
        assert_eq!(out, "1.0E10");
    }

    #[test]
    fn decimals_print_all_digits() {
        for (value, scale, expected) in [(2500, 3, "2.500"), (-1, 3, "-0.001"), (7, 0, "7"), (12, -2, "1200")] {
            let mut out = String::new();
            push_decimal(value, scale, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn decimals_are_rounded_half_up() {
        let check = |text: &str, expected| assert_eq!(parse_decimal(text, 4, 2), expected, "{text}");
        check("2.755", DecimalText::Fits(276));
        check("-2.755", DecimalText::Fits(-276));
        check("2.7549", DecimalText::Fits(275));
        check(".5", DecimalText::Fits(50));
        check("1e1", DecimalText::Fits(1000));
        check("5e-3", DecimalText::Fits(1));
        check("4e-3", DecimalText::Fits(0));
        check("5e-4", DecimalText::Fits(0));
        check("99.996", DecimalText::TooLarge);
        check("1e999999999", DecimalText::TooLarge);
        check("0e999999999", DecimalText::Fits(0));
        check("1e-999999999", DecimalText::Fits(0));
        for wrong in ["", ".", "-", "1.2.3", "tea", "1e", "é"] {
            check(wrong, DecimalText::NotANumber);
        }
    }
}

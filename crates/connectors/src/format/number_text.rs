//! Numbers as text: exact decimals, and floating point numbers as Java prints them.

use arrow::datatypes::DECIMAL128_MAX_PRECISION;

/// What a text is as a DECIMAL of some precision and scale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecimalText {
    /// The value times 10 to the scale, rounded half up.
    Value(i128),
    /// A number with more digits in front of the point than the precision leaves.
    DoesNotFit,
    Malformed,
}

/// Reads `[+-]digits[.digits][e[+-]digits]` exactly, never through floating point.
///
/// # Source
/// Flink's `DecimalData.fromBigDecimal`: HALF_UP to the scale, null when the precision does not suffice.
pub fn parse_decimal(text: &str, precision: u8, scale: i8) -> DecimalText {
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mantissa_end = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(unsigned.len());
    let exponent = match unsigned.get(mantissa_end + 1..) {
        None => 0,
        Some(digits) => match parse_exponent(digits) {
            Some(exponent) => exponent,
            None => return DecimalText::Malformed,
        },
    };
    let mantissa = &unsigned[..mantissa_end];
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let fraction = mantissa.get(point + 1..).unwrap_or_default();
    let all_digits = || mantissa[..point].iter().chain(fraction);
    if all_digits().next().is_none() || !all_digits().all(u8::is_ascii_digit) {
        return DecimalText::Malformed;
    }
    let leading_zeros = all_digits().take_while(|digit| **digit == b'0').count();
    let significant = point + fraction.len() - leading_zeros;
    if significant == 0 {
        return DecimalText::Value(0);
    }
    // How many of the significant digits stand before the place that the scale rounds at; more than there are means zeros.
    let kept = length(significant).saturating_add(exponent).saturating_sub(length(fraction.len())).saturating_add(scale.into());
    if kept < 0 {
        return DecimalText::Value(0);
    }
    let Ok(kept) = u8::try_from(kept) else { return DecimalText::DoesNotFit };
    if kept > DECIMAL128_MAX_PRECISION {
        return DecimalText::DoesNotFit;
    }
    let mut digits = all_digits().skip(leading_zeros);
    let mut value: i128 = 0;
    for _ in 0..kept {
        value = value * 10 + digits.next().map_or(0, |digit| i128::from(digit - b'0'));
    }
    if digits.next().is_some_and(|digit| *digit >= b'5') {
        value += 1;
    }
    if value >= 10_i128.pow(precision.min(DECIMAL128_MAX_PRECISION).into()) {
        return DecimalText::DoesNotFit;
    }
    DecimalText::Value(if negative { -value } else { value })
}

/// `[+-]digits`, saturating: an exponent that large has no digits left or far too many.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude =
        digits.iter().fold(0_i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(1 << 40));
    Some(if negative { -magnitude } else { magnitude })
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// All digits with the point in its place: `10.00`, `-0.05`.
pub fn write_decimal(out: &mut Vec<u8>, value: i128, scale: i8) {
    if value < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs()).as_bytes();
    match usize::try_from(scale) {
        Ok(0) => out.extend_from_slice(digits),
        Ok(scale) if digits.len() > scale => {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        Ok(scale) => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + scale - digits.len(), b'0');
            out.extend_from_slice(digits);
        }
        Err(_) => {
            out.extend_from_slice(digits);
            if value != 0 {
                out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
            }
        }
    }
}

/// Without trailing zeros, and with an exponent where Java's `BigDecimal.toString` has one: `10.00` is `1E+1`.
pub fn write_decimal_scientific(out: &mut Vec<u8>, value: i128, scale: i8) {
    let (mut unscaled, mut scale) = (value, i32::from(scale));
    if unscaled == 0 {
        out.push(b'0');
        return;
    }
    while unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let exponent = i32::try_from(digits.len()).unwrap_or(i32::MAX) - 1 - scale;
    if scale >= 0 && exponent >= -6 {
        // A scale above 127 would have an exponent below -6: there are no more than 39 digits.
        write_decimal(out, unscaled, i8::try_from(scale).unwrap_or(i8::MAX));
        return;
    }
    if unscaled < 0 {
        out.push(b'-');
    }
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.extend_from_slice(if exponent < 0 { b"E" } else { b"E+" });
    out.extend_from_slice(itoa::Buffer::new().format(exponent).as_bytes());
}

/// A DOUBLE as Java prints it: `0.1`, `100.0`, `1.0E20`, `NaN`, `-Infinity`.
pub fn write_double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        write_shortest(out, ryu::Buffer::new().format_finite(value));
    } else {
        out.extend_from_slice(not_finite(value));
    }
}

/// As [`write_double`], with the digits that tell a FLOAT from its neighbours.
pub fn write_float(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        write_shortest(out, ryu::Buffer::new().format_finite(value));
    } else {
        out.extend_from_slice(not_finite(value.into()));
    }
}

fn not_finite(value: f64) -> &'static [u8] {
    if value.is_nan() {
        b"NaN"
    } else if value > 0.0 {
        b"Infinity"
    } else {
        b"-Infinity"
    }
}

/// Sets shortest digits, as ryu gives them, in Java's form: plain from 0.001 up to 10,000,000, else with an exponent.
fn write_shortest(out: &mut Vec<u8>, text: &str) {
    let mut bytes = text.as_bytes();
    if let [b'-', rest @ ..] = bytes {
        out.push(b'-');
        bytes = rest;
    }
    let mut digits = [0_u8; 32];
    let mut count = 0;
    // The value is 0.d1d2d3… times 10 to the `exponent`.
    let mut exponent = 0_i32;
    let mut behind_point = false;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'.' => behind_point = true,
            b'e' => {
                exponent += text[text.len() - bytes.len() + index + 1..].parse::<i32>().unwrap_or(0);
                break;
            }
            b'0' if count == 0 => exponent -= i32::from(behind_point),
            digit => {
                digits[count] = *digit;
                count += 1;
                exponent += i32::from(!behind_point);
            }
        }
    }
    while count > 0 && digits[count - 1] == b'0' {
        count -= 1;
    }
    if count == 0 {
        out.extend_from_slice(b"0.0");
        return;
    }
    let digits = &digits[..count];
    match exponent {
        -2..=0 => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + exponent.unsigned_abs() as usize, b'0');
            out.extend_from_slice(digits);
        }
        1..=7 => {
            let whole = exponent as usize;
            out.extend_from_slice(&digits[..whole.min(count)]);
            out.resize(out.len() + whole.saturating_sub(count), b'0');
            out.push(b'.');
            out.extend_from_slice(digits.get(whole..).filter(|rest| !rest.is_empty()).unwrap_or(b"0"));
        }
        _ => {
            out.push(digits[0]);
            out.push(b'.');
            out.extend_from_slice(if count > 1 { &digits[1..] } else { b"0" });
            out.push(b'E');
            out.extend_from_slice(itoa::Buffer::new().format(exponent - 1).as_bytes());
        }
    }
}

/// Reads what Java's `Double.parseDouble` reads, less its suffixes and hexadecimal forms.
pub fn parse_double(text: &str) -> Option<f64> {
    is_java_number(text).then(|| text.parse().ok()).flatten()
}

/// As [`parse_double`], rounded once, to FLOAT.
pub fn parse_float(text: &str) -> Option<f32> {
    is_java_number(text).then(|| text.parse().ok()).flatten()
}

/// Rust also reads `inf` and `nan` in any case; Java does not.
fn is_java_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    unsigned == "NaN" || unsigned == "Infinity" || unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
}

/// Java's `String.trim`: takes off everything up to the space character.
pub fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_decimal(text: &str, precision: u8, scale: i8, expected: DecimalText) {
        assert_eq!(parse_decimal(text, precision, scale), expected, "{text} as DECIMAL({precision}, {scale})");
    }

    #[test]
    fn decimals_are_exact_and_rounded_half_up() {
        use DecimalText::{DoesNotFit, Malformed, Value};
        check_decimal("1.005", 5, 2, Value(101));
        check_decimal("1.004", 5, 2, Value(100));
        check_decimal("1234.5", 5, 2, DoesNotFit);
        check_decimal("2.5", 5, 0, Value(3));
        check_decimal("-2.5", 5, 0, Value(-3));
        check_decimal("99999.5", 5, 0, DoesNotFit);
        check_decimal("0.000000000000000001", 38, 18, Value(1));
        check_decimal(
            "12345678901234567890.123456789012345678",
            38,
            18,
            Value(12_345_678_901_234_567_890_123_456_789_012_345_678),
        );
        check_decimal("1e-10", 20, 10, Value(1));
        check_decimal("1E3", 5, 0, Value(1000));
        check_decimal("0.5", 1, 0, Value(1));
        check_decimal("0.05", 1, 0, Value(0));
        check_decimal("0e999999999999999999999", 5, 2, Value(0));
        check_decimal("1e999999999999999999999", 5, 2, DoesNotFit);
        check_decimal("1e-999999999999999999999", 5, 2, Value(0));
        check_decimal("99999999999999999999999999999999999999.9", 38, 0, DoesNotFit);
        check_decimal("000000000000000000000000000000000000000000000000001", 1, 0, Value(1));
        check_decimal(".5", 2, 1, Value(5));
        check_decimal("5.", 2, 1, Value(50));
        for bad in ["", ".", "-", "1e", "e1", "1.2.3", "0x1", "1 ", "NaN"] {
            check_decimal(bad, 10, 2, Malformed);
        }
    }

    #[test]
    fn decimals_as_text() {
        let plain = |value, scale| {
            let mut out = vec![];
            write_decimal(&mut out, value, scale);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(plain(1000, 2), "10.00");
        assert_eq!(plain(-5, 2), "-0.05");
        assert_eq!(plain(0, 2), "0.00");
        assert_eq!(plain(7, 0), "7");
        assert_eq!(plain(7, -2), "700");
        let scientific = |value, scale| {
            let mut out = vec![];
            write_decimal_scientific(&mut out, value, scale);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(scientific(1000, 2), "1E+1");
        assert_eq!(scientific(100_000, 0), "1E+5");
        assert_eq!(scientific(-12_500, 1), "-1.25E+3");
        assert_eq!(scientific(1050, 2), "10.5");
        assert_eq!(scientific(1, 10), "1E-10");
        assert_eq!(scientific(0, 3), "0");
    }

    #[test]
    fn doubles_as_java_prints_them() {
        let text = |value: f64| {
            let mut out = vec![];
            write_double(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        for (value, expected) in [
            (1e20, "1.0E20"),
            (0.1, "0.1"),
            (1e-7, "1.0E-7"),
            (1e8, "1.0E8"),
            (12_345_678.9, "1.23456789E7"),
            (0.001, "0.001"),
            (0.000_999, "9.99E-4"),
            (9_999_999.0, "9999999.0"),
            (10_000_000.0, "1.0E7"),
            (100.0, "100.0"),
            (123.456, "123.456"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::MAX, "1.7976931348623157E308"),
            (5e-324, "5.0E-324"),
        ] {
            assert_eq!(text(value), expected);
        }
        let mut out = vec![];
        write_float(&mut out, 16_777_216.0);
        out.push(b' ');
        write_float(&mut out, 0.333_333_34);
        assert_eq!(String::from_utf8(out).unwrap(), "1.6777216E7 0.33333334");
    }

    proptest! {
        #[test]
        fn any_double_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            let mut out = vec![];
            write_double(&mut out, value);
            let back = parse_double(std::str::from_utf8(&out).unwrap()).unwrap();
            prop_assert!(back.to_bits() == bits || (back.is_nan() && value.is_nan()));
        }

        #[test]
        fn any_decimal_comes_back(value in -10_i128.pow(37)..10_i128.pow(37), scale in 0_i8..=38) {
            let mut out = vec![];
            write_decimal(&mut out, value, scale);
            prop_assert_eq!(parse_decimal(std::str::from_utf8(&out).unwrap(), 38, scale), DecimalText::Value(value));
            out.clear();
            write_decimal_scientific(&mut out, value, scale);
            prop_assert_eq!(parse_decimal(std::str::from_utf8(&out).unwrap(), 38, scale), DecimalText::Value(value));
        }
    }
}

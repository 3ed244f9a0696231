//! Values as Java prints them, which is what Flink's `print` shows.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use chrono::{DateTime, NaiveDateTime, NaiveTime, Timelike};
use thalweg_core::{Error, Result};

/// `[1, abc]`.
pub(super) fn append_row(columns: &[ArrayRef], row: usize, out: &mut String) -> Result<()> {
    append_list(columns.iter().map(|column| (column.as_ref(), row)), out)
}

fn append_list<'a>(values: impl Iterator<Item = (&'a dyn Array, usize)>, out: &mut String) -> Result<()> {
    out.push('[');
    for (index, (values, row)) in values.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        append_value(values, row, out)?;
    }
    out.push(']');
    Ok(())
}

fn append_value(values: &dyn Array, row: usize, out: &mut String) -> Result<()> {
    if values.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    macro_rules! display {
        ($type:ty) => {
            append_display(values.as_primitive::<$type>().value(row), out)
        };
    }
    match values.data_type() {
        DataType::Null => out.push_str("null"),
        DataType::Boolean => append_display(values.as_boolean().value(row), out),
        DataType::Int8 => display!(Int8Type),
        DataType::Int16 => display!(Int16Type),
        DataType::Int32 => display!(Int32Type),
        DataType::Int64 => display!(Int64Type),
        DataType::Float32 => {
            let value = values.as_primitive::<Float32Type>().value(row);
            append_float(f64::from(value), &format!("{value:e}"), out);
        }
        DataType::Float64 => {
            let value = values.as_primitive::<Float64Type>().value(row);
            append_float(value, &format!("{value:e}"), out);
        }
        DataType::Decimal128(_, _) => out.push_str(&values.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Utf8 => out.push_str(values.as_string::<i32>().value(row)),
        DataType::Binary => append_bytes(values.as_binary::<i32>().value(row), out),
        DataType::FixedSizeBinary(_) => append_bytes(values.as_fixed_size_binary().value(row), out),
        DataType::Date32 => match values.as_primitive::<Date32Type>().value_as_date(row) {
            Some(date) => append_display(date, out),
            None => out.push_str("out of range"),
        },
        DataType::Time64(TimeUnit::Microsecond) => match values.as_primitive::<Time64MicrosecondType>().value_as_time(row) {
            Some(time) => append_time(time, false, out),
            None => out.push_str("out of range"),
        },
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = values.as_primitive::<TimestampMicrosecondType>().value(row);
            append_timestamp(DateTime::from_timestamp_micros(micros).map(|at| at.naive_utc()), zone.is_some(), out);
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let nanos = values.as_primitive::<TimestampNanosecondType>().value(row);
            append_timestamp(Some(DateTime::from_timestamp_nanos(nanos).naive_utc()), zone.is_some(), out);
        }
        DataType::List(_) => {
            let items = values.as_list::<i32>().value(row);
            append_list((0..items.len()).map(|index| (items.as_ref(), index)), out)?;
        }
        DataType::Struct(_) => {
            out.push_str("+I");
            append_list(values.as_struct().columns().iter().map(|column| (column.as_ref(), row)), out)?;
        }
        DataType::Map(_, _) => {
            let entries = values.as_map().value(row);
            out.push('{');
            for index in 0..entries.len() {
                if index > 0 {
                    out.push_str(", ");
                }
                append_value(entries.column(0).as_ref(), index, out)?;
                out.push('=');
                append_value(entries.column(1).as_ref(), index, out)?;
            }
            out.push('}');
        }
        other => return Err(Error::internal(format!("values of type {other} cannot be printed"))),
    }
    Ok(())
}

fn append_display(value: impl std::fmt::Display, out: &mut String) {
    let _ = write!(out, "{value}");
}

/// Java's `byte` is signed.
fn append_bytes(bytes: &[u8], out: &mut String) {
    out.push('[');
    for (index, byte) in bytes.iter().enumerate() {
        let _ = write!(out, "{}{}", if index > 0 { ", " } else { "" }, *byte as i8);
    }
    out.push(']');
}

/// As `Double.toString`: plain between 10^-3 and 10^7, else with an exponent; always with a fraction.
/// `shortest` is the value as Rust's `{:e}` prints it: the shortest digits that give the value back.
fn append_float(value: f64, shortest: &str, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-3..1e7).contains(&magnitude) {
        out.push_str(mantissa);
        if !mantissa.contains('.') {
            out.push_str(".0");
        }
        out.push('E');
        return out.push_str(exponent);
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let point = 1 + exponent.parse::<i32>().unwrap_or(0);
    out.push_str(sign);
    match usize::try_from(point) {
        Ok(point) if point > 0 => {
            out.push_str(&digits[..point.min(digits.len())]);
            out.extend(std::iter::repeat_n('0', point.saturating_sub(digits.len())));
            out.push('.');
            out.push_str(digits.get(point..).filter(|rest| !rest.is_empty()).unwrap_or("0"));
        }
        _ => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
            out.push_str(&digits);
        }
    }
}

/// As `LocalTime.toString` (no seconds where they are 0), or as `Instant.toString` has its time (seconds always).
/// The fraction has 3, 6 or 9 digits.
fn append_time(time: NaiveTime, seconds_always: bool, out: &mut String) {
    let _ = write!(out, "{:02}:{:02}", time.hour(), time.minute());
    let nanos = time.nanosecond();
    if !seconds_always && time.second() == 0 && nanos == 0 {
        return;
    }
    let _ = write!(out, ":{:02}", time.second());
    let _ = match nanos {
        0 => Ok(()),
        _ if nanos.is_multiple_of(1_000_000) => write!(out, ".{:03}", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => write!(out, ".{:06}", nanos / 1_000),
        _ => write!(out, ".{nanos:09}"),
    };
}

fn append_timestamp(at: Option<NaiveDateTime>, is_instant: bool, out: &mut String) {
    let Some(at) = at else { return out.push_str("out of range") };
    let _ = write!(out, "{}T", at.date());
    append_time(at.time(), is_instant, out);
    if is_instant {
        out.push('Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, ListArray, StructArray, TimestampMicrosecondArray,
    };
    use std::sync::Arc;

    fn check(values: impl Array + 'static, expected: &str) {
        let mut out = String::new();
        append_row(&[Arc::new(values)], 0, &mut out).unwrap();
        assert_eq!(out, format!("[{expected}]"));
    }

    #[test]
    fn floats_as_java() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-12.5, "-12.5"),
            (0.001, "0.001"),
            (0.00012, "1.2E-4"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (123456.789, "123456.789"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            check(Float64Array::from(vec![value]), expected);
        }
        check(Float32Array::from(vec![0.1]), "0.1");
    }

    #[test]
    fn times_as_java() {
        for (micros, local, instant) in [
            (0, "1970-01-01T00:00", "1970-01-01T00:00:00Z"),
            (10_500_000, "1970-01-01T00:00:10.500", "1970-01-01T00:00:10.500Z"),
            (1, "1970-01-01T00:00:00.000001", "1970-01-01T00:00:00.000001Z"),
        ] {
            check(TimestampMicrosecondArray::from(vec![micros]), local);
            check(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"), instant);
        }
    }

    #[test]
    fn other_values_as_java() {
        check(BooleanArray::from(vec![true]), "true");
        check(Decimal128Array::from(vec![1050]).with_precision_and_scale(10, 2).unwrap(), "10.50");
        check(BinaryArray::from(vec![&[1u8, 255][..]]), "[1, -1]");
        check(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]), "[1, null]");
        let field = arrow::datatypes::Field::new("a", DataType::Boolean, true);
        let row = StructArray::from(vec![(Arc::new(field), Arc::new(BooleanArray::from(vec![false])) as ArrayRef)]);
        check(row, "+I[false]");
    }
}

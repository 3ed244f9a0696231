//! Values as Flink prints them when cast to STRING.

use std::fmt::Write as _;

use chrono_tz::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::common::{DataFusionError, Result};

use super::super::calendar::{date_of_days, local_of_parts};
use super::super::number_text::{push_decimal, push_double, push_float};
use super::super::sql_type::SqlType;

/// The texts of all rows, for other functions.
pub(in crate::functions) fn to_text(array: &ArrayRef, from: &SqlType, zone: Tz) -> Result<StringArray> {
    if let Some(text) = array.as_string_opt::<i32>() {
        return Ok(text.clone());
    }
    texts(array, from, zone, false)
}

/// The texts of all rows. Where the precision of a timestamp was not `declared`, as many digits are printed as it needs: 3 or 6.
pub(super) fn texts(array: &ArrayRef, from: &SqlType, zone: Tz, declared: bool) -> Result<StringArray> {
    let mut out = StringBuilder::with_capacity(array.len(), array.len() * 16);
    let mut text = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            out.append_null();
            continue;
        }
        text.clear();
        push(array, row, from, zone, declared, &mut text)?;
        out.append_value(&text);
    }
    Ok(out.finish())
}

/// Appends the value at `row`, or NULL.
fn push(array: &ArrayRef, row: usize, from: &SqlType, zone: Tz, declared: bool, out: &mut String) -> Result<()> {
    if array.is_null(row) {
        out.push_str("NULL");
        return Ok(());
    }
    match array.data_type() {
        DataType::Null => out.push_str("NULL"),
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "TRUE" } else { "FALSE" }),
        DataType::Int8 => push_integer(i64::from(array.as_primitive::<Int8Type>().value(row)), out),
        DataType::Int16 => push_integer(i64::from(array.as_primitive::<Int16Type>().value(row)), out),
        DataType::Int32 => push_integer(i64::from(array.as_primitive::<Int32Type>().value(row)), out),
        DataType::Int64 => push_integer(array.as_primitive::<Int64Type>().value(row), out),
        DataType::Float32 => push_float(array.as_primitive::<Float32Type>().value(row), out),
        DataType::Float64 => push_double(array.as_primitive::<Float64Type>().value(row), out),
        DataType::Decimal128(_, scale) => push_decimal(array.as_primitive::<Decimal128Type>().value(row), *scale, out),
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::Binary => out.push_str(&String::from_utf8_lossy(array.as_binary::<i32>().value(row))),
        DataType::Date32 => {
            let date = date_of_days(array.as_primitive::<Date32Type>().value(row)).ok_or_else(beyond)?;
            let _ = write!(out, "{}", date.format("%Y-%m-%d"));
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let micros = array.as_primitive::<Time64MicrosecondType>().value(row);
            push_clock(micros.div_euclid(1_000_000), out);
            let fraction = micros.rem_euclid(1_000_000);
            if fraction != 0 {
                let _ = write!(out, ".{fraction:06}");
                out.truncate(out.trim_end_matches('0').len());
            }
        }
        DataType::Timestamp(unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond), has_zone) => {
            let (value, per_second) = match unit {
                TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().value(row), 1_000_000_000),
                _ => (array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000),
            };
            let nanos = (value.rem_euclid(per_second) * (1_000_000_000 / per_second)) as u32;
            let local =
                local_of_parts(value.div_euclid(per_second), nanos, has_zone.as_ref().map(|_| zone)).ok_or_else(beyond)?;
            let digits = match from {
                SqlType::Timestamp(precision) | SqlType::TimestampLtz(precision) if declared => usize::from(*precision),
                _ if *unit == TimeUnit::Nanosecond => 9,
                _ if nanos.is_multiple_of(1_000_000) => 3,
                _ => 6,
            };
            let _ = write!(out, "{}", local.format("%Y-%m-%d %H:%M:%S"));
            if digits > 0 {
                let fraction = format!("{nanos:09}");
                out.push('.');
                out.push_str(&fraction[..digits]);
            }
        }
        DataType::List(_) => {
            let item = array.as_list::<i32>().value(row);
            let item_type = match from {
                SqlType::Array(item) => (**item).clone(),
                _ => SqlType::of_arrow(item.data_type()),
            };
            out.push('[');
            for index in 0..item.len() {
                if index > 0 {
                    out.push_str(", ");
                }
                push(&item, index, &item_type, zone, declared, out)?;
            }
            out.push(']');
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let (key_type, value_type) = (SqlType::of_arrow(keys.data_type()), SqlType::of_arrow(values.data_type()));
            out.push('{');
            for index in 0..entries.len() {
                if index > 0 {
                    out.push_str(", ");
                }
                push(keys, index, &key_type, zone, false, out)?;
                out.push('=');
                push(values, index, &value_type, zone, false, out)?;
            }
            out.push('}');
        }
        DataType::Struct(_) => {
            out.push('(');
            for (index, column) in array.as_struct().columns().iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                push(column, row, &SqlType::of_arrow(column.data_type()), zone, false, out)?;
            }
            out.push(')');
        }
        _ => {
            let options = datafusion::arrow::util::display::FormatOptions::default();
            let formatter = datafusion::arrow::util::display::ArrayFormatter::try_new(array, &options)?;
            let _ = write!(out, "{}", formatter.value(row));
        }
    }
    Ok(())
}

fn push_integer(value: i64, out: &mut String) {
    let _ = write!(out, "{value}");
}

fn push_clock(seconds: i64, out: &mut String) {
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
}

fn beyond() -> DataFusionError {
    DataFusionError::Execution("a date or timestamp lies beyond the calendar".to_string())
}

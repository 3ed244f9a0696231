//! Numbers and booleans cast to each other.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveBuilder};
use datafusion::arrow::compute::{CastOptions, cast as arrow_cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type};
use datafusion::common::Result;

use super::super::decimal::{rescale, to_double};
use super::super::number_text::{DecimalText, parse_decimal, push_decimal};
use super::super::rounding::{cast_type, power_of_ten};
use super::super::sql_type::SqlType;
use super::Rule;

pub(super) fn cast(rule: Rule, array: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<ArrayRef> {
    match (from, to) {
        (_, SqlType::Boolean) => {
            let doubles = as_doubles(array)?;
            let doubles = doubles.as_primitive::<Float64Type>();
            Ok(Arc::new(doubles.iter().map(|value| value.map(|value| value != 0.0)).collect::<BooleanArray>()))
        }
        (SqlType::Boolean, SqlType::Decimal(_, _)) => {
            let integers = arrow_cast(array, &DataType::Int64)?;
            to_decimal(&integers, to)
        }
        (SqlType::Boolean, _) => Ok(arrow_cast(array, &to.to_arrow())?),
        (_, SqlType::Decimal(_, _)) => to_decimal(array, to),
        (_, SqlType::Float | SqlType::Double) => Ok(arrow_cast(&as_doubles(array)?, &to.to_arrow())?),
        _ => to_integer(rule, array, to),
    }
}

fn as_doubles(array: &ArrayRef) -> Result<ArrayRef> {
    if let DataType::Decimal128(_, scale) = array.data_type() {
        let scale = *scale;
        let doubles = array.as_primitive::<Decimal128Type>().unary::<_, Float64Type>(|value| to_double(value, scale));
        return Ok(Arc::new(doubles));
    }
    Ok(arrow_cast(array, &DataType::Float64)?)
}

/// Fractions are cut off; out of range is an error.
fn to_integer(rule: Rule, array: &ArrayRef, to: &SqlType) -> Result<ArrayRef> {
    let mut out = PrimitiveBuilder::<Int64Type>::with_capacity(array.len());
    match array.data_type() {
        DataType::Decimal128(_, scale) => {
            let divisor = power_of_ten(i64::from(*scale)).unwrap_or(1);
            for value in array.as_primitive::<Decimal128Type>().iter() {
                out.append_option(match value {
                    Some(value) => match i64::try_from(value / divisor) {
                        Ok(value) => Some(value),
                        Err(_) => {
                            let mut text = String::new();
                            push_decimal(value, *scale, &mut text);
                            rule.refuse(text, to)?
                        }
                    },
                    None => None,
                });
            }
        }
        DataType::Float32 | DataType::Float64 => {
            let doubles = arrow_cast(array, &DataType::Float64)?;
            for value in doubles.as_primitive::<Float64Type>().iter() {
                out.append_option(match value {
                    // The bounds are the nearest doubles inside BIGINT.
                    Some(value) if (i64::MIN as f64..-(i64::MIN as f64)).contains(&value) => Some(value as i64),
                    Some(value) => rule.refuse(value, to)?,
                    None => None,
                });
            }
        }
        _ => {
            let integers = arrow_cast(array, &DataType::Int64)?;
            return narrow(rule, &integers, to);
        }
    }
    let integers: ArrayRef = Arc::new(out.finish());
    narrow(rule, &integers, to)
}

fn narrow(rule: Rule, integers: &ArrayRef, to: &SqlType) -> Result<ArrayRef> {
    let narrowed = cast_with_options(integers, &to.to_arrow(), &CastOptions { safe: true, ..Default::default() })?;
    if !rule.safe && narrowed.null_count() > integers.null_count() {
        let lost = (0..integers.len()).find(|row| narrowed.is_null(*row) && !integers.is_null(*row)).unwrap_or(0);
        rule.refuse::<()>(integers.as_primitive::<Int64Type>().value(lost), to)?;
    }
    Ok(narrowed)
}

/// Rounded half up; null where the digits do not fit.
fn to_decimal(array: &ArrayRef, to: &SqlType) -> Result<ArrayRef> {
    let SqlType::Decimal(precision, scale) = *to else {
        return Ok(array.clone());
    };
    let limit = power_of_ten(i64::from(precision)).unwrap_or(i128::MAX);
    let fits = |value: Option<i128>| value.filter(|value| value.abs() < limit);
    let of_text = |text: String| match parse_decimal(&text, precision, scale) {
        DecimalText::Fits(value) => Some(value),
        DecimalText::TooLarge | DecimalText::NotANumber => None,
    };
    let mut out = PrimitiveBuilder::<Decimal128Type>::with_capacity(array.len());
    match array.data_type() {
        DataType::Decimal128(_, from) => {
            let from = i32::from(*from);
            for value in array.as_primitive::<Decimal128Type>().iter() {
                out.append_option(value.and_then(|value| fits(rescale(value, from, i32::from(scale)))));
            }
        }
        DataType::Float32 => {
            for value in array.as_primitive::<Float32Type>().iter() {
                out.append_option(value.and_then(|value| of_text(format!("{value:e}"))));
            }
        }
        DataType::Float64 => {
            for value in array.as_primitive::<Float64Type>().iter() {
                out.append_option(value.and_then(|value| of_text(format!("{value:e}"))));
            }
        }
        _ => {
            let integers = arrow_cast(array, &DataType::Int64)?;
            for value in integers.as_primitive::<Int64Type>().iter() {
                out.append_option(value.and_then(|value| fits(rescale(i128::from(value), 0, i32::from(scale)))));
            }
        }
    }
    Ok(cast_type(Arc::new(out.finish()), &to.to_arrow()))
}

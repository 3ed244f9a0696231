//! Texts cast to numbers, booleans, dates and times.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanBuilder, PrimitiveBuilder, StringArray};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::common::Result;

use super::super::calendar::{days_of, midnight};
use super::super::encoding::shorten;
use super::super::number_text::{DecimalText, parse_decimal};
use super::super::rounding::cast_type;
use super::super::sql_type::SqlType;
use super::super::time_parse::{parse_date, parse_time, parse_timestamp};
use super::Rule;
use super::temporal::{cut, nanos_of_local};

pub(super) fn cast(rule: Rule, text: &StringArray, to: &SqlType) -> Result<ArrayRef> {
    match to {
        SqlType::Boolean => {
            let mut out = BooleanBuilder::with_capacity(text.len());
            for value in text.iter() {
                out.append_option(match value {
                    Some(value) => match parse_boolean(value) {
                        Some(value) => Some(value),
                        None => rule.refuse(quoted(value), to)?,
                    },
                    None => None,
                });
            }
            Ok(Arc::new(out.finish()))
        }
        SqlType::TinyInt => each::<Int8Type>(rule, text, to, |text| parse_integer(text)?.try_into().ok()),
        SqlType::SmallInt => each::<Int16Type>(rule, text, to, |text| parse_integer(text)?.try_into().ok()),
        SqlType::Int => each::<Int32Type>(rule, text, to, |text| parse_integer(text)?.try_into().ok()),
        SqlType::BigInt => each::<Int64Type>(rule, text, to, parse_integer),
        SqlType::Float => each::<Float32Type>(rule, text, to, |text| parse_float(text)?.parse().ok()),
        SqlType::Double => each::<Float64Type>(rule, text, to, |text| parse_float(text)?.parse().ok()),
        SqlType::Decimal(precision, scale) => {
            let mut out = PrimitiveBuilder::<Decimal128Type>::with_capacity(text.len());
            for value in text.iter() {
                out.append_option(match value {
                    Some(value) => match parse_decimal(value.trim(), *precision, *scale) {
                        DecimalText::Fits(value) => Some(value),
                        DecimalText::TooLarge => None,
                        DecimalText::NotANumber => rule.refuse(quoted(value), to)?,
                    },
                    None => None,
                });
            }
            Ok(cast_type(Arc::new(out.finish()), &to.to_arrow()))
        }
        SqlType::Date => each::<Date32Type>(rule, text, to, |text| parse_date(text).map(days_of)),
        SqlType::Time(precision) => each::<Time64MicrosecondType>(rule, text, to, |text| {
            let time = midnight(chrono::NaiveDate::default()).date().and_time(parse_time(text)?);
            i64::try_from(cut(nanos_of_local(time, None)?, *precision) / 1_000).ok()
        }),
        SqlType::Timestamp(precision) | SqlType::TimestampLtz(precision) => {
            let zone = matches!(to, SqlType::TimestampLtz(_)).then_some(rule.zone);
            let nanos = |text: &str| {
                // A moment may be written with a Z behind it, whatever the session's zone.
                let (text, zone) = match text.strip_suffix('Z') {
                    Some(text) if zone.is_some() => (text, None),
                    _ => (text, zone),
                };
                Some(cut(nanos_of_local(parse_timestamp(text)?, zone)?, *precision))
            };
            let data_type = to.to_arrow();
            if *precision > 6 {
                let array = each::<TimestampNanosecondType>(rule, text, to, |text| i64::try_from(nanos(text)?).ok())?;
                let array = array.as_primitive::<TimestampNanosecondType>().clone().with_data_type(data_type);
                return Ok(Arc::new(array));
            }
            let array =
                each::<TimestampMicrosecondType>(rule, text, to, |text| i64::try_from(nanos(text)?.div_euclid(1_000)).ok())?;
            Ok(Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_data_type(data_type)))
        }
        _ => rule.refuse("a text", to).map(|_: Option<()>| datafusion::arrow::array::new_null_array(&to.to_arrow(), text.len())),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", shorten(text))
}

fn each<T: ArrowPrimitiveType>(
    rule: Rule,
    text: &StringArray,
    to: &SqlType,
    parse: impl Fn(&str) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let mut out = PrimitiveBuilder::<T>::with_capacity(text.len());
    for value in text.iter() {
        out.append_option(match value {
            Some(value) => match parse(value) {
                Some(value) => Some(value),
                None => rule.refuse(quoted(value), to)?,
            },
            None => None,
        });
    }
    Ok(Arc::new(out.finish()))
}

fn parse_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// A sign, digits, and a fraction that is cut off.
fn parse_integer(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => {
            if whole.trim_start_matches(['+', '-']).is_empty() { (!fraction.is_empty()).then_some(0) } else { whole.parse().ok() }
        }
        Some(_) => None,
        None => text.parse().ok(),
    }
}

/// The text of a number as Rust reads it, of one as Java does.
fn parse_float(text: &str) -> Option<&str> {
    let text = text.trim();
    let unsigned = text.trim_start_matches(['+', '-']);
    if unsigned.len() + 1 < text.len() {
        return None;
    }
    match unsigned {
        "NaN" => Some("NaN"),
        "Infinity" => Some(if text.starts_with('-') { "-inf" } else { "inf" }),
        // Rust also reads "inf" and "infinity"; Java reads a type letter behind the digits.
        _ if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => Some(text.trim_end_matches(['d', 'D', 'f', 'F'])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_cut_at_the_point() {
        for (text, expected) in [
            ("12", Some(12)),
            (" -3 ", Some(-3)),
            ("2.75", Some(2)),
            ("-2.75", Some(-2)),
            ("+5", Some(5)),
            ("", None),
            ("1e2", None),
            ("2.x", None),
            (".", None),
            ("-.5", Some(0)),
            ("9223372036854775808", None),
        ] {
            assert_eq!(parse_integer(text), expected, "{text}");
        }
    }

    #[test]
    fn floats_are_read_as_in_java() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(parse_float(text).and_then(|text| text.parse::<f64>().ok()), expected, "{text}");
        };
        check(" -3 ", Some(-3.0));
        check("1e2", Some(100.0));
        check("1.5f", Some(1.5));
        check("-Infinity", Some(f64::NEG_INFINITY));
        check("inf", None);
        check("--1", None);
        check("", None);
    }
}

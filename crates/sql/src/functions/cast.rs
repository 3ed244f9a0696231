//! CAST and TRY_CAST as Flink has them. A call's second argument is the text of the type.
//!
//! - Text that does not fit fails the job, or is null with TRY_CAST. A DECIMAL with too many digits is null either way.
//! - Numbers with a point are cut towards zero when cast to integers; an integer out of range fails (Flink wraps).
//! - TIMESTAMP_LTZ meets the other types on the clock of the session's zone.

mod from_text;
mod nested;
mod number;
mod temporal;
pub(super) mod to_text;

use std::sync::Arc;

use chrono_tz::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray, new_null_array};
use datafusion::common::{DataFusionError, Result};

use super::arguments::Arguments;
use super::definition::{Definition, Kind, Planned, Returns, define};
use super::number::expand;
use super::sql_type::SqlType;

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        define("cast", &[Kind::Any, Kind::Text], Returns::Computed(cast_type), |args| run(args, false)).maybe_null(),
        define("try_cast", &[Kind::Any, Kind::Text], Returns::Computed(cast_type), |args| run(args, true)).maybe_null(),
        define("typed_literal", &[Kind::Text, Kind::Text], Returns::Computed(literal_type), |args| run(args, false)),
    ]
}

fn target(planned: &Planned) -> Result<SqlType> {
    let text = planned.constant_text(1).ok_or_else(|| planned.error("the type must be a constant"))?;
    SqlType::parse(text).ok_or_else(|| planned.error(format!("{text} is not a type")))
}

fn cast_type(planned: &Planned) -> Result<SqlType> {
    let (from, to) = (SqlType::of_field(&planned.fields[0]), target(planned)?);
    if !is_possible(&from, &to) {
        return Err(DataFusionError::Plan(format!("cannot cast {from} to {to}")));
    }
    Ok(to)
}

/// `DATE '…'` and the like: the text is read when planning, so that a wrong one is found then.
fn literal_type(planned: &Planned) -> Result<SqlType> {
    let to = target(planned)?;
    if let Some(text) = planned.constant_text(0) {
        let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let rule = Rule { zone: Tz::UTC, safe: false, declared: false };
        rule.cast(&array, &SqlType::Text, &to).map_err(|_| DataFusionError::Plan(format!("'{text}' is not a {to}")))?;
    }
    Ok(to)
}

/// Which types can be cast to which.
fn is_possible(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::{Array, Boolean, Bytes, Char, Date, Map, Null, Row, Text, Time, Timestamp, TimestampLtz, Varchar};
    let is_number = |sql_type: &SqlType| sql_type.to_arrow().is_numeric();
    match (from, to) {
        _ if from == to => true,
        (Null, _) => true,
        (_, SqlType::Interval | SqlType::Other(_) | Null) => false,
        (_, Text | Char(_) | Varchar(_)) => true,
        (Text | Char(_) | Varchar(_), Array(_) | Map(_, _) | Row(_)) => false,
        (Text | Char(_) | Varchar(_), _) => true,
        (Boolean, number) | (number, Boolean) if is_number(number) => true,
        (from, to) if is_number(from) && is_number(to) => true,
        (Date | Timestamp(_) | TimestampLtz(_), Date | Timestamp(_) | TimestampLtz(_)) => true,
        (Timestamp(_) | TimestampLtz(_) | Time(_), Time(_)) => true,
        (Bytes, Bytes) => true,
        (Array(from), Array(to)) => is_possible(from, to),
        (Map(from_key, from_value), Map(to_key, to_value)) => is_possible(from_key, to_key) && is_possible(from_value, to_value),
        (Row(from), Row(to)) => from.len() == to.len() && from.iter().zip(to).all(|((_, from), (_, to))| is_possible(from, to)),
        _ => false,
    }
}

fn run(args: &Arguments, safe: bool) -> Result<ArrayRef> {
    let declared = SqlType::declared(&args.fields[0]);
    let rule = Rule { zone: args.context.time_zone, safe, declared: declared.is_some() };
    let from = declared.unwrap_or_else(|| SqlType::of_arrow(args.data_type(0)));
    let to = match args.text(1)?.get(0).and_then(SqlType::parse) {
        Some(to) => to,
        None => return Err(args.error("the type must be a constant")),
    };
    expand(args, rule.cast(args.array(0), &from, &to)?)
}

/// How to cast.
#[derive(Clone, Copy)]
struct Rule {
    zone: Tz,
    /// Null instead of an error.
    safe: bool,
    /// Whether the precision of the given type is known, so that a TIMESTAMP prints as many digits.
    declared: bool,
}

impl Rule {
    fn cast(self, array: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<ArrayRef> {
        let data_type = to.to_arrow();
        match (from, to) {
            _ if array.null_count() == array.len() => Ok(new_null_array(&data_type, array.len())),
            (SqlType::Null, _) => Ok(new_null_array(&data_type, array.len())),
            (SqlType::Text, SqlType::Text) => Ok(array.clone()),
            (_, to) if to.is_text() => {
                let text = if from.is_text() {
                    array.as_string::<i32>().clone()
                } else {
                    to_text::texts(array, from, self.zone, self.declared)?
                };
                Ok(Arc::new(shape(text, to)))
            }
            (from, SqlType::Bytes) if from.is_text() => Ok(Arc::new(BinaryArray::from_iter(array.as_string::<i32>().iter()))),
            (from, _) if from.is_text() => from_text::cast(self, array.as_string::<i32>(), to),
            (SqlType::Array(_) | SqlType::Map(_, _) | SqlType::Row(_), _) => nested::cast(self, array, from, to),
            (
                SqlType::Date | SqlType::Time(_) | SqlType::Timestamp(_) | SqlType::TimestampLtz(_),
                SqlType::Date | SqlType::Time(_) | SqlType::Timestamp(_) | SqlType::TimestampLtz(_),
            ) => temporal::cast(self, array, from, to),
            _ if from == to => Ok(array.clone()),
            _ => number::cast(self, array, from, to),
        }
    }

    /// The error of one value, or `None` to make it null.
    fn refuse<T>(self, value: impl std::fmt::Display, to: &SqlType) -> Result<Option<T>> {
        if self.safe {
            return Ok(None);
        }
        Err(DataFusionError::Execution(format!("cannot cast {value} to {to}; TRY_CAST gives null instead")))
    }
}

/// CHAR(n) pads and cuts, VARCHAR(n) cuts.
fn shape(text: StringArray, to: &SqlType) -> StringArray {
    let (length, pads) = match to {
        SqlType::Char(length) => (*length as usize, true),
        SqlType::Varchar(length) => (*length as usize, false),
        _ => return text,
    };
    text.iter()
        .map(|text| {
            text.map(|text| {
                let mut shaped: String = text.chars().take(length).collect();
                if pads {
                    let missing = length - shaped.chars().count();
                    shaped.extend(std::iter::repeat_n(' ', missing));
                }
                shaped
            })
        })
        .collect()
}

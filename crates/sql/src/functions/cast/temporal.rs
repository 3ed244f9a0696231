//! Dates, times and timestamps cast to each other. Fractions are cut, never rounded; also before 1970 they are cut downwards.

use std::sync::Arc;

use chrono::NaiveDateTime;
use chrono_tz::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, PrimitiveBuilder};
use datafusion::arrow::compute::cast as arrow_cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::common::Result;

use super::super::calendar::{local_of_parts, micros_of_local};
use super::super::sql_type::SqlType;
use super::Rule;

const NANOS_PER_DAY: i128 = 86_400 * 1_000_000_000;

/// Cuts to a number of digits behind the second.
pub(super) fn cut(nanos: i128, precision: u8) -> i128 {
    nanos - nanos.rem_euclid(10_i128.pow(9 - u32::from(precision.min(9))))
}

/// Nanoseconds since 1970 of a local time in a zone.
pub(super) fn nanos_of_local(local: NaiveDateTime, zone: Option<Tz>) -> Option<i128> {
    let micros = micros_of_local(local, zone)?;
    Some(i128::from(micros) * 1_000 + i128::from(local.and_utc().timestamp_subsec_nanos() % 1_000))
}

/// Moves from UTC to the clock of the zone.
fn to_local(nanos: i128, zone: Tz) -> Option<i128> {
    let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    nanos_of_local(local_of_parts(i64::try_from(seconds).ok()?, u32::try_from(rest).ok()?, Some(zone))?, None)
}

/// Moves from the clock of the zone to UTC.
fn to_utc(nanos: i128, zone: Tz) -> Option<i128> {
    let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    nanos_of_local(local_of_parts(i64::try_from(seconds).ok()?, u32::try_from(rest).ok()?, None)?, Some(zone))
}

pub(super) fn cast(rule: Rule, array: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<ArrayRef> {
    let from_zone = matches!(from, SqlType::TimestampLtz(_));
    let to_zone = matches!(to, SqlType::TimestampLtz(_));
    let (values, nanos_each) = values(array)?;
    let convert = |value: i64| -> Option<i128> {
        let nanos = i128::from(value) * nanos_each;
        match (from_zone, to_zone) {
            (true, false) => to_local(nanos, rule.zone),
            (false, true) => to_utc(nanos, rule.zone),
            _ => Some(nanos),
        }
    };
    let each = |finish: &dyn Fn(i128) -> Option<i64>| -> Result<PrimitiveArray<Int64Type>> {
        let mut out = PrimitiveBuilder::<Int64Type>::with_capacity(values.len());
        for value in values.iter() {
            out.append_option(match value {
                Some(value) => match convert(value).and_then(finish) {
                    Some(value) => Some(value),
                    None => rule.refuse("a time beyond the calendar", to)?,
                },
                None => None,
            });
        }
        Ok(out.finish())
    };
    Ok(match to {
        SqlType::Date => {
            let days = each(&|nanos| i32::try_from(nanos.div_euclid(NANOS_PER_DAY)).ok().map(i64::from))?;
            let days = arrow_cast(&days, &DataType::Int32)?;
            Arc::new(days.as_primitive::<datafusion::arrow::datatypes::Int32Type>().reinterpret_cast::<Date32Type>())
        }
        SqlType::Time(precision) => {
            let micros = each(&|nanos| i64::try_from(cut(nanos, *precision).rem_euclid(NANOS_PER_DAY) / 1_000).ok())?;
            Arc::new(micros.reinterpret_cast::<Time64MicrosecondType>())
        }
        SqlType::Timestamp(precision) | SqlType::TimestampLtz(precision) => {
            let data_type = to.to_arrow();
            if *precision > 6 {
                let nanos = each(&|nanos| i64::try_from(cut(nanos, *precision)).ok())?;
                Arc::new(nanos.reinterpret_cast::<TimestampNanosecondType>().with_data_type(data_type))
            } else {
                let micros = each(&|nanos| i64::try_from(cut(nanos, *precision).div_euclid(1_000)).ok())?;
                Arc::new(micros.reinterpret_cast::<TimestampMicrosecondType>().with_data_type(data_type))
            }
        }
        _ => array.clone(),
    })
}

/// The values as integers, and how many nanoseconds each stands for.
fn values(array: &ArrayRef) -> Result<(PrimitiveArray<Int64Type>, i128)> {
    let (array, nanos_each) = match array.data_type() {
        DataType::Date32 => (arrow_cast(array, &DataType::Int32)?, NANOS_PER_DAY),
        DataType::Timestamp(TimeUnit::Second, _) => (array.clone(), 1_000_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => (array.clone(), 1_000_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) | DataType::Time64(TimeUnit::Nanosecond) => (array.clone(), 1),
        _ => (array.clone(), 1_000),
    };
    Ok((arrow_cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().clone(), nanos_each))
}

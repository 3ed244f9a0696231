//! Time columns as milliseconds.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray};
use arrow::compute::kernels::arity::unary;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use thalweg_core::{Error, Result};

/// The milliseconds of a timestamp column, rounded towards minus infinity; nulls stay nulls.
/// # Errors
/// `Internal` when the column is no timestamp: the planner has checked.
pub(crate) fn milliseconds(array: &ArrayRef) -> Result<Int64Array> {
    fn convert<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef, to_ms: impl Fn(i64) -> i64) -> Int64Array {
        let values: &PrimitiveArray<T> = array.as_primitive::<T>();
        unary::<T, _, Int64Type>(values, to_ms)
    }
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            Ok(convert::<TimestampSecondType>(array, |value| value.saturating_mul(1_000)))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => Ok(convert::<TimestampMillisecondType>(array, |value| value)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(convert::<TimestampMicrosecondType>(array, |value| value.div_euclid(1_000)))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Ok(convert::<TimestampNanosecondType>(array, |value| value.div_euclid(1_000_000)))
        }
        other => Err(Error::internal(format!("a time column is {other}"))),
    }
}

/// The milliseconds of an event time column.
/// # Errors
/// `Record` when one is null, as in Flink ("RowTime field should not be null").
pub(crate) fn event_times(array: &ArrayRef, name: &str) -> Result<Int64Array> {
    let times = milliseconds(array)?;
    if times.null_count() > 0 {
        return Err(null_event_time(name));
    }
    Ok(times)
}

/// The error for a null in the event time column `name`.
pub(crate) fn null_event_time(name: &str) -> Error {
    Error::record(format!("event time column \"{name}\" is null"))
        .with_help(format!("give \"{name}\" a value with COALESCE in a computed column, or drop such records upstream"))
}

/// A column of `rows` equal timestamps of type `data_type`.
pub(crate) fn constant_times(data_type: &DataType, ms: i64, rows: usize) -> Result<ArrayRef> {
    times_from(data_type, std::iter::repeat_n(ms, rows))
}

/// A timestamp column of type `data_type` from milliseconds, saturating at the ends of its range.
pub(crate) fn times_from(data_type: &DataType, ms: impl Iterator<Item = i64>) -> Result<ArrayRef> {
    fn column<T: ArrowPrimitiveType<Native = i64>>(data_type: &DataType, values: impl Iterator<Item = i64>) -> ArrayRef {
        std::sync::Arc::new(PrimitiveArray::<T>::from_iter_values(values).with_data_type(data_type.clone()))
    }
    match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => {
            Ok(column::<TimestampSecondType>(data_type, ms.map(|ms| ms.div_euclid(1_000))))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => Ok(column::<TimestampMillisecondType>(data_type, ms)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(column::<TimestampMicrosecondType>(data_type, ms.map(|ms| ms.saturating_mul(1_000))))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Ok(column::<TimestampNanosecondType>(data_type, ms.map(|ms| ms.saturating_mul(1_000_000))))
        }
        other => Err(Error::internal(format!("a window column is {other}"))),
    }
}

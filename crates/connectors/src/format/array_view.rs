//! Arrays of the types that SQL has, cast once a batch so that encoders touch values without dynamic dispatch.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit};
use arrow::datatypes::{Date32Type, Decimal128Type, Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType};
use thalweg_core::{Error, Result};

/// One column, by type.
pub enum ArrayView<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int8(&'a Int8Array),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal { array: &'a Decimal128Array, scale: i8 },
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Micros { array: &'a TimestampMicrosecondArray, zone: bool },
    Nanos { array: &'a TimestampNanosecondArray, zone: bool },
    List { array: &'a ListArray, items: Box<ArrayView<'a>> },
    Map { array: &'a MapArray, keys: Box<ArrayView<'a>>, values: Box<ArrayView<'a>> },
    Struct { array: &'a StructArray, children: Vec<ArrayView<'a>> },
}

impl<'a> ArrayView<'a> {
    /// # Errors
    /// `Internal` for a type that [`normalise`] does not know either.
    pub fn new(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Null => ArrayView::Null,
            DataType::Boolean => ArrayView::Boolean(array.as_boolean()),
            DataType::Int8 => ArrayView::Int8(array.as_primitive::<Int8Type>()),
            DataType::Int16 => ArrayView::Int16(array.as_primitive::<Int16Type>()),
            DataType::Int32 => ArrayView::Int32(array.as_primitive::<Int32Type>()),
            DataType::Int64 => ArrayView::Int64(array.as_primitive::<Int64Type>()),
            DataType::Float32 => ArrayView::Float32(array.as_primitive::<Float32Type>()),
            DataType::Float64 => ArrayView::Float64(array.as_primitive::<Float64Type>()),
            DataType::Decimal128(_, scale) => ArrayView::Decimal { array: array.as_primitive::<Decimal128Type>(), scale: *scale },
            DataType::Utf8 => ArrayView::Text(array.as_string()),
            DataType::Binary => ArrayView::Binary(array.as_binary()),
            DataType::Date32 => ArrayView::Date(array.as_primitive::<Date32Type>()),
            DataType::Time64(TimeUnit::Microsecond) => ArrayView::Time(array.as_primitive::<Time64MicrosecondType>()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                ArrayView::Micros { array: array.as_primitive::<TimestampMicrosecondType>(), zone: zone.is_some() }
            }
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                ArrayView::Nanos { array: array.as_primitive::<TimestampNanosecondType>(), zone: zone.is_some() }
            }
            DataType::List(_) => {
                let array = array.as_list::<i32>();
                ArrayView::List { array, items: Box::new(ArrayView::new(array.values())?) }
            }
            DataType::Map(..) => {
                let array = array.as_map();
                ArrayView::Map {
                    array,
                    keys: Box::new(ArrayView::new(array.keys())?),
                    values: Box::new(ArrayView::new(array.values())?),
                }
            }
            DataType::Struct(_) => {
                let array = array.as_struct();
                ArrayView::Struct { array, children: array.columns().iter().map(ArrayView::new).collect::<Result<_>>()? }
            }
            other => return Err(Error::internal(format!("a value of type {other} has no text form"))),
        })
    }

    pub fn is_null(&self, row: usize) -> bool {
        match self {
            ArrayView::Null => true,
            ArrayView::Boolean(array) => array.is_null(row),
            ArrayView::Int8(array) => array.is_null(row),
            ArrayView::Int16(array) => array.is_null(row),
            ArrayView::Int32(array) => array.is_null(row),
            ArrayView::Int64(array) => array.is_null(row),
            ArrayView::Float32(array) => array.is_null(row),
            ArrayView::Float64(array) => array.is_null(row),
            ArrayView::Decimal { array, .. } => array.is_null(row),
            ArrayView::Text(array) => array.is_null(row),
            ArrayView::Binary(array) => array.is_null(row),
            ArrayView::Date(array) => array.is_null(row),
            ArrayView::Time(array) => array.is_null(row),
            ArrayView::Micros { array, .. } => array.is_null(row),
            ArrayView::Nanos { array, .. } => array.is_null(row),
            ArrayView::List { array, .. } => array.is_null(row),
            ArrayView::Map { array, .. } => array.is_null(row),
            ArrayView::Struct { array, .. } => array.is_null(row),
        }
    }
}

/// The array as one of the types that SQL has: query results may have others, such as unsigned counts.
pub fn normalise(array: &ArrayRef) -> Result<ArrayRef> {
    let target = match array.data_type() {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::Dictionary(_, values) => {
            let plain = arrow::compute::cast(array, values)?;
            return normalise(&plain);
        }
        _ => return Ok(array.clone()),
    };
    Ok(arrow::compute::cast(array, &target)?)
}

//! Values of any type as bytes that compare as the values do.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use thalweg_core::{Error, Result};

/// Encodes values of one type. Equal values have equal bytes, and the order of bytes is that of SQL: text byte by byte, FALSE
/// before TRUE, NaN behind every other number and equal to itself, -0.0 before 0.0, null before all.
///
/// The bytes live in memory only: checkpoints hold Arrow columns.
pub(crate) struct ValueCodec {
    data_type: DataType,
    converter: RowConverter,
    null: Box<[u8]>,
}

impl ValueCodec {
    /// # Errors
    /// `User` for types that cannot be compared.
    pub(crate) fn new(data_type: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])
            .map_err(|error| Error::user(format!("values of type {data_type} cannot be compared")).with_cause(error))?;
        let null = converter.convert_columns(&[new_null_array(data_type, 1)])?.row(0).data().into();
        Ok(ValueCodec { data_type: data_type.clone(), converter, null })
    }

    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    pub(crate) fn encode(&self, column: &ArrayRef) -> Result<Rows> {
        Ok(self.converter.convert_columns(&[canonical_floats(column)])?)
    }

    /// The values as a column; `None` is null.
    pub(crate) fn decode<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>) -> Result<ArrayRef> {
        let parser = self.converter.parser();
        let values: Vec<&[u8]> = values.map(|value| value.unwrap_or(&self.null)).collect();
        if values.is_empty() {
            return Ok(arrow::array::new_empty_array(&self.data_type));
        }
        let mut columns = self.converter.convert_rows(values.iter().map(|value| parser.parse(value)))?;
        columns.pop().ok_or_else(|| Error::internal("decoded values have no column"))
    }
}

/// Every NaN becomes the same NaN.
pub(crate) fn canonical_floats(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 if column.as_primitive::<Float32Type>().values().iter().any(|value| value.is_nan()) => {
            let canonical = |value: f32| if value.is_nan() { f32::NAN } else { value };
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(canonical))
        }
        DataType::Float64 if column.as_primitive::<Float64Type>().values().iter().any(|value| value.is_nan()) => {
            let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value };
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(canonical))
        }
        _ => column.clone(),
    }
}

/// Encoded values, one behind the other.
#[derive(Default)]
pub(super) struct EncodedValues {
    bytes: Vec<u8>,
    /// End of each value in `bytes`; `None` is null.
    ends: Vec<Option<usize>>,
}

impl EncodedValues {
    pub(super) fn push(&mut self, value: Option<&[u8]>) {
        self.ends.push(value.map(|value| {
            self.bytes.extend_from_slice(value);
            self.bytes.len()
        }));
    }

    pub(super) fn decode(&self, codec: &ValueCodec) -> Result<ArrayRef> {
        let mut start = 0;
        codec.decode(self.ends.iter().map(|end| {
            end.map(|end| {
                let value = &self.bytes[start..end];
                start = end;
                value
            })
        }))
    }
}

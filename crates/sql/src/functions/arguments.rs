//! The arguments of one call, over the rows of one batch.

use super::expr_planner::sign_of;
use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, PrimitiveArray, StringArray, StringBuilder,
};
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Int64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::FunctionContext;

/// The arguments of a call. Constants are held as arrays of one row, so that a pattern is compiled once.
pub(super) struct Arguments<'a> {
    pub name: &'static str,
    /// How many rows to give.
    pub rows: usize,
    pub fields: &'a [FieldRef],
    pub return_field: &'a FieldRef,
    pub context: &'a FunctionContext,
    arrays: Vec<ArrayRef>,
    constant: Vec<bool>,
}

impl<'a> Arguments<'a> {
    pub fn new(
        name: &'static str,
        args: &'a ScalarFunctionArgs,
        rows: usize,
        context: &'a FunctionContext,
    ) -> Result<Arguments<'a>> {
        let mut arrays = Vec::with_capacity(args.args.len());
        let mut constant = Vec::with_capacity(args.args.len());
        for value in &args.args {
            match value {
                ColumnarValue::Array(array) => arrays.push(array.clone()),
                ColumnarValue::Scalar(scalar) => arrays.push(scalar.to_array_of_size(1)?),
            }
            constant.push(matches!(value, ColumnarValue::Scalar(_)));
        }
        Ok(Arguments { name, rows, fields: &args.arg_fields, return_field: &args.return_field, context, arrays, constant })
    }

    pub fn len(&self) -> usize {
        self.arrays.len()
    }

    pub fn data_type(&self, index: usize) -> &DataType {
        self.arrays[index].data_type()
    }

    pub fn is_constant(&self, index: usize) -> bool {
        self.constant[index]
    }

    /// The argument as it came: one row if it is constant.
    pub fn array(&self, index: usize) -> &ArrayRef {
        &self.arrays[index]
    }

    /// The argument with [`Arguments::rows`] rows.
    pub fn expanded(&self, index: usize) -> Result<ArrayRef> {
        if self.constant[index] && self.rows != 1 {
            let indices = datafusion::arrow::array::UInt32Array::from_value(0, self.rows);
            return Ok(datafusion::arrow::compute::take(&self.arrays[index], &indices, None)?);
        }
        Ok(self.arrays[index].clone())
    }

    /// A run-time error: `function NAME: message`.
    pub fn error(&self, message: impl std::fmt::Display) -> DataFusionError {
        match sign_of(self.name) {
            Some(_) => DataFusionError::Execution(message.to_string()),
            None => DataFusionError::Execution(format!("function {}: {message}", self.name.to_uppercase())),
        }
    }

    fn step(&self, index: usize) -> usize {
        usize::from(!self.constant[index])
    }

    fn typed<T: Array + 'static>(&self, index: usize) -> Result<&T> {
        self.arrays[index]
            .as_any()
            .downcast_ref::<T>()
            .ok_or_else(|| self.error(format!("argument {} came as {}", index + 1, self.arrays[index].data_type())))
    }

    pub fn text(&self, index: usize) -> Result<Text<'_>> {
        Ok(Text { array: self.typed::<StringArray>(index)?, step: self.step(index) })
    }

    pub fn bytes(&self, index: usize) -> Result<Bytes<'_>> {
        let step = self.step(index);
        match self.data_type(index) {
            DataType::Utf8 => Ok(Bytes::Text(self.text(index)?)),
            _ => Ok(Bytes::Binary(self.typed::<BinaryArray>(index)?, step)),
        }
    }

    pub fn booleans(&self, index: usize) -> Result<Booleans<'_>> {
        Ok(Booleans { array: self.typed::<BooleanArray>(index)?, step: self.step(index) })
    }

    pub fn primitive<T: ArrowPrimitiveType>(&self, index: usize) -> Result<Primitive<'_, T>> {
        Ok(Primitive { array: self.typed::<PrimitiveArray<T>>(index)?, step: self.step(index) })
    }

    pub fn integers(&self, index: usize) -> Result<Primitive<'_, Int64Type>> {
        self.primitive::<Int64Type>(index)
    }

    pub fn doubles(&self, index: usize) -> Result<Primitive<'_, Float64Type>> {
        self.primitive::<Float64Type>(index)
    }

    /// Integer argument `index`, or `default` for every row if it was not given.
    pub fn integers_or(&self, index: usize, default: i64) -> Result<IntegersOr<'_>> {
        if index < self.len() { Ok(IntegersOr::Given(self.integers(index)?)) } else { Ok(IntegersOr::Default(default)) }
    }
}

/// A text argument.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    array: &'a StringArray,
    step: usize,
}

impl<'a> Text<'a> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<&'a str> {
        let row = row * self.step;
        if self.array.is_null(row) { None } else { Some(self.array.value(row)) }
    }

    /// Bytes of all its rows, to size a result.
    pub fn total_bytes(&self) -> usize {
        self.array.value_data().len()
    }
}

/// A text or binary argument, as bytes.
pub(super) enum Bytes<'a> {
    Text(Text<'a>),
    Binary(&'a BinaryArray, usize),
}

impl<'a> Bytes<'a> {
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Bytes::Text(text) => text.get(row).map(str::as_bytes),
            Bytes::Binary(array, step) => {
                let row = row * step;
                if array.is_null(row) { None } else { Some(array.value(row)) }
            }
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Booleans<'a> {
    array: &'a BooleanArray,
    step: usize,
}

impl Booleans<'_> {
    pub fn get(&self, row: usize) -> Option<bool> {
        let row = row * self.step;
        if self.array.is_null(row) { None } else { Some(self.array.value(row)) }
    }
}

/// An argument of numbers, or of anything else that Arrow keeps as numbers.
#[derive(Clone, Copy)]
pub(super) struct Primitive<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    step: usize,
}

impl<T: ArrowPrimitiveType> Primitive<'_, T> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<T::Native> {
        let row = row * self.step;
        if self.array.is_null(row) { None } else { Some(self.array.value(row)) }
    }
}

pub(super) enum IntegersOr<'a> {
    Given(Primitive<'a, Int64Type>),
    Default(i64),
}

impl IntegersOr<'_> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<i64> {
        match self {
            IntegersOr::Given(integers) => integers.get(row),
            IntegersOr::Default(value) => Some(*value),
        }
    }
}

/// A text result: `write` appends one value (or null) for each row.
pub(super) fn text_rows(
    rows: usize,
    bytes: usize,
    mut write: impl FnMut(usize, &mut StringBuilder) -> Result<()>,
) -> Result<ArrayRef> {
    let mut out = StringBuilder::with_capacity(rows, bytes);
    for row in 0..rows {
        write(row, &mut out)?;
    }
    Ok(std::sync::Arc::new(out.finish()))
}

/// A result of numbers.
pub(super) fn number_rows<T: ArrowPrimitiveType>(
    rows: usize,
    mut value: impl FnMut(usize) -> Result<Option<T::Native>>,
) -> Result<ArrayRef> {
    let mut out = datafusion::arrow::array::PrimitiveBuilder::<T>::with_capacity(rows);
    for row in 0..rows {
        out.append_option(value(row)?);
    }
    Ok(std::sync::Arc::new(out.finish()))
}

/// A BOOLEAN result.
pub(super) fn boolean_rows(rows: usize, mut value: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
    let mut out = datafusion::arrow::array::BooleanBuilder::with_capacity(rows);
    for row in 0..rows {
        out.append_option(value(row)?);
    }
    Ok(std::sync::Arc::new(out.finish()))
}

/// A BYTES result.
pub(super) fn byte_rows(rows: usize, mut value: impl FnMut(usize) -> Result<Option<Vec<u8>>>) -> Result<ArrayRef> {
    let mut out = datafusion::arrow::array::BinaryBuilder::new();
    for row in 0..rows {
        out.append_option(value(row)?);
    }
    Ok(std::sync::Arc::new(out.finish()))
}

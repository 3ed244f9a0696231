//! ORDER BY as bytes.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use thalweg_core::{Error, Result};
use thalweg_plan::SortKey;

use crate::running::canonical_floats;

/// The place of a row in the order: compares as the row does.
pub(crate) type Place = Arc<[u8]>;

/// Makes places of rows.
pub(crate) struct SortOrder {
    columns: Vec<usize>,
    converter: Option<RowConverter>,
}

impl SortOrder {
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(order: &[SortKey], input: &SchemaRef) -> Result<Self> {
        let field = |key: &SortKey| {
            let options = SortOptions { descending: key.descending, nulls_first: key.nulls_first };
            SortField::new_with_options(input.field(key.column).data_type().clone(), options)
        };
        let converter = match order {
            [] => None,
            order => Some(
                RowConverter::new(order.iter().map(field).collect())
                    .map_err(|error| Error::user("rows cannot be ordered by these columns").with_cause(error))?,
            ),
        };
        Ok(SortOrder { columns: order.iter().map(|key| key.column).collect(), converter })
    }

    pub(crate) fn places(&self, rows: &RecordBatch) -> Result<Places> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| in_order(rows.column(*column))).collect();
        Ok(Places(match &self.converter {
            Some(converter) if rows.num_rows() > 0 => Some(converter.convert_columns(&columns)?),
            _ => None,
        }))
    }
}

/// Floats as they are ordered: -0.0 is 0.0, and all NaNs are one.
fn in_order(column: &ArrayRef) -> ArrayRef {
    let positive: ArrayRef = match column.data_type() {
        DataType::Float32 => Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(|value| value + 0.0)),
        DataType::Float64 => Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(|value| value + 0.0)),
        _ => return column.clone(),
    };
    canonical_floats(&positive)
}

pub(crate) struct Places(Option<Rows>);

impl Places {
    /// Without an order all places are the same.
    pub(crate) fn of(&self, row: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |rows| rows.row(row).data())
    }
}

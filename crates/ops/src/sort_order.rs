//! ORDER BY as bytes.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
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
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| canonical_floats(rows.column(*column))).collect();
        Ok(Places(match &self.converter {
            Some(converter) if rows.num_rows() > 0 => Some(converter.convert_columns(&columns)?),
            _ => None,
        }))
    }
}

pub(crate) struct Places(Option<Rows>);

impl Places {
    /// Without an order all places are the same.
    pub(crate) fn of(&self, row: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |rows| rows.row(row).data())
    }
}

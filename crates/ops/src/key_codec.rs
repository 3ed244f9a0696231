//! Keys as bytes that can be hashed and compared.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use arrow::row::{RowConverter, Rows, SortField};
use thalweg_core::{Error, Result};

/// Encodes keys: equal keys have equal bytes, null equal to null; `0.0` and `-0.0` differ. NaNs must be made alike before.
pub(crate) struct KeyCodec {
    /// `None` when there are no key columns.
    converter: Option<RowConverter>,
}

/// The encoded keys of a batch.
pub(crate) struct EncodedKeys {
    rows: Option<Rows>,
}

impl EncodedKeys {
    pub(crate) fn key(&self, row: usize) -> &[u8] {
        self.rows.as_ref().map_or(&[], |rows| rows.row(row).data())
    }
}

impl KeyCodec {
    /// # Errors
    /// `User` for types that cannot be compared.
    pub(crate) fn new(fields: &[FieldRef]) -> Result<Self> {
        if fields.is_empty() {
            return Ok(KeyCodec { converter: None });
        }
        let sort_fields = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter =
            RowConverter::new(sort_fields).map_err(|error| Error::user("cannot group by these keys").with_cause(error))?;
        Ok(KeyCodec { converter: Some(converter) })
    }

    pub(crate) fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedKeys> {
        let encoded = match &self.converter {
            Some(converter) if rows > 0 => Some(converter.convert_columns(columns)?),
            _ => None,
        };
        Ok(EncodedKeys { rows: encoded })
    }

    pub(crate) fn decode(&self, keys: &[Arc<[u8]>]) -> Result<Vec<ArrayRef>> {
        match &self.converter {
            Some(converter) => {
                let parser = converter.parser();
                Ok(converter.convert_rows(keys.iter().map(|key| parser.parse(key)))?)
            }
            None => Ok(vec![]),
        }
    }
}

//! Whole rows as numbers, to find a row that is taken back.

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use thalweg_core::Result;
use xxhash_rust::xxh3::xxh3_128;

use crate::key_codec::KeyCodec;
use crate::running::canonical_floats;

/// Of 128 bits, so that two rows that differ never share one in practice. It lives in memory only.
pub(crate) type RowHash = u128;

pub(crate) struct RowHasher {
    codec: KeyCodec,
}

impl RowHasher {
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self> {
        let fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        Ok(RowHasher { codec: KeyCodec::new(&fields)? })
    }

    /// Equal rows have equal hashes; null equals null, NaN equals NaN, -0.0 and 0.0 differ.
    pub(crate) fn hashes(&self, rows: &RecordBatch) -> Result<Vec<RowHash>> {
        let columns: Vec<_> = rows.columns().iter().map(canonical_floats).collect();
        let encoded = self.codec.encode(&columns, rows.num_rows())?;
        Ok((0..rows.num_rows()).map(|row| xxh3_128(encoded.key(row))).collect())
    }
}

//! Records of a partition to batches: decoders for key and value, metadata beside them.
//!
//! A table of upserts takes a record without a value as a deletion: its row has what the key says and metadata, the other columns
//! are null. The value has a column unless it is in the key alone, as in Flink; so keys are decoded for all records only where
//! the value leaves them out (`value.fields-include` = `EXCEPT_KEY`).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use thalweg_core::{Decoder, Error, RecordContext, Result, ScanField, ScanRequest};

use super::metadata::MetadataColumn;
use super::record::Record;
use super::table::{RecordPart, ScanTable, renamed};

/// Where a column of the scan comes from.
#[derive(Clone, Copy)]
enum Origin {
    /// Index among the fields that the value's decoder gives.
    Value(usize),
    Key(usize),
    /// Of an upsert the value's column, of a deletion the key's.
    ValueOrKey {
        value: usize,
        key: usize,
    },
    /// Index among the metadata columns.
    Metadata(usize),
}

/// What all partitions of a scan have in common.
pub struct RowLayout {
    table: ScanTable,
    schema: SchemaRef,
    origins: Vec<Origin>,
    value_fields: Vec<FieldRef>,
    /// Empty when nothing is asked of the key: it is not decoded then.
    key_fields: Vec<FieldRef>,
    metadata: Vec<(String, FieldRef)>,
    physical_schema: SchemaRef,
    time_zone: String,
}

impl RowLayout {
    pub fn new(request: &ScanRequest, table: &ScanTable) -> Result<Self> {
        let mut layout = RowLayout {
            table: table.clone(),
            schema: output_schema(request, table.upserts),
            origins: vec![],
            value_fields: vec![],
            key_fields: vec![],
            metadata: vec![],
            physical_schema: request.physical_schema.clone(),
            time_zone: request.time_zone.clone(),
        };
        for field in &request.fields {
            let origin = match field {
                ScanField::Metadata { key, field } => {
                    layout.metadata.push((key.clone(), field.clone()));
                    Origin::Metadata(layout.metadata.len() - 1)
                }
                ScanField::Physical(field) => layout.physical(field)?,
            };
            layout.origins.push(origin);
        }
        Ok(layout)
    }

    /// The value has a column unless it is in the key alone, as in Flink.
    fn physical(&mut self, field: &FieldRef) -> Result<Origin> {
        let in_value = self.table.layout.value.inner_name(field.name()).map(|name| {
            self.value_fields.push(renamed(field, name));
            self.value_fields.len() - 1
        });
        let in_key = self.table.layout.key.as_ref().and_then(|key| key.inner_name(field.name()));
        let in_key = in_key.filter(|_| in_value.is_none() || self.table.upserts).map(|name| {
            self.key_fields.push(renamed(field, name));
            self.key_fields.len() - 1
        });
        match (in_value, in_key) {
            (Some(value), Some(key)) => Ok(Origin::ValueOrKey { value, key }),
            (Some(value), None) => Ok(Origin::Value(value)),
            (None, Some(key)) => Ok(Origin::Key(key)),
            (None, None) => Err(Error::internal(format!("column \"{}\" is neither in key nor in value", field.name()))),
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decoder(&self, part: &RecordPart, fields: &[FieldRef]) -> Result<Box<dyn Decoder>> {
        let physical = part.schema(&self.physical_schema)?;
        (self.table.decoder)(&part.format, part.option_prefix, fields.to_vec(), physical, &self.table.options)
    }
}

/// The columns that are asked for. Those that a deletion leaves out may be null whatever the table declares.
fn output_schema(request: &ScanRequest, upserts: bool) -> SchemaRef {
    let field = |field: &ScanField| match field {
        ScanField::Physical(field) if upserts && !request.primary_key.contains(field.name()) => {
            Arc::new(field.as_ref().clone().with_nullable(true))
        }
        _ => field.field().clone(),
    };
    Arc::new(Schema::new(request.fields.iter().map(field).collect::<Vec<_>>()))
}

/// Decodes the records of one partition.
pub struct PartitionRows {
    layout: Arc<RowLayout>,
    topic: String,
    partition: i32,
    value: Box<dyn Decoder>,
    key: Option<KeyDecoder>,
    /// What each row of the output is made of; `None` where that is the value's rows as they are.
    parts: Option<RowParts>,
    metadata: Vec<MetadataColumn>,
    /// Tombstones and records with an ignored key.
    skipped: u64,
}

struct KeyDecoder {
    decoder: Box<dyn Decoder>,
    /// Whether only the keys of deletions are decoded: the value has the columns of the others.
    of_deletions_only: bool,
}

/// For each row of the output, the row of the value's batch and that of the key's.
#[derive(Default)]
struct RowParts {
    rows: Vec<(Option<u32>, Option<u32>)>,
    /// Whether some record gave more or less than one row on a side: then the batches do not fit as they are.
    is_mixed: bool,
}

/// Rows that were decoded.
pub struct DecodedRows {
    pub rows: RecordBatch,
    /// As in [`thalweg_core::SourceEvent::Rows`].
    pub weights: Option<Int64Array>,
    /// Records that gave no row.
    pub skipped: u64,
}

impl PartitionRows {
    pub fn new(layout: Arc<RowLayout>, topic: &str, partition: i32) -> Result<Self> {
        let upserts = layout.table.upserts;
        let key = match &layout.table.layout.key {
            Some(part) if !layout.key_fields.is_empty() => Some(KeyDecoder {
                decoder: layout.decoder(part, &layout.key_fields)?,
                of_deletions_only: upserts && !layout.origins.iter().any(|origin| matches!(origin, Origin::Key(_))),
            }),
            _ => None,
        };
        let metadata =
            layout.metadata.iter().map(|(name, field)| MetadataColumn::new(name, field.clone())).collect::<Result<Vec<_>>>()?;
        Ok(PartitionRows {
            value: layout.decoder(&layout.table.layout.value, &layout.value_fields)?,
            parts: (upserts || key.is_some()).then(RowParts::default),
            key,
            metadata,
            topic: topic.to_string(),
            partition,
            skipped: 0,
            layout,
        })
    }

    /// Decodes a record; the rows wait for [`PartitionRows::flush`].
    /// # Errors
    /// `Record` when it cannot be decoded and the format was not told to ignore that.
    pub fn push(&mut self, record: &Record<'_>) -> Result<()> {
        let context = RecordContext { origin: &self.topic, partition: Some(self.partition), offset: record.offset };
        let upserts = self.layout.table.upserts;
        let is_deletion = upserts && record.value.is_none();
        if upserts && record.key.is_none() {
            // Nothing is said of any key.
            self.skipped += 1;
            return Ok(());
        }
        let keys = match &mut self.key {
            Some(key) if is_deletion || !key.of_deletions_only => {
                let first = key.decoder.rows();
                let rows = match record.key {
                    Some(bytes) => key.decoder.decode(bytes, context)?,
                    None => key.decoder.decode_null(context)?,
                };
                if rows == 0 {
                    // A key that is null or ignored gives no row, whatever the value is, as in Flink.
                    self.skipped += u64::from(record.key.is_none());
                    return Ok(());
                }
                Some(first..first + rows)
            }
            _ => None,
        };
        let first_value = self.value.rows();
        let values = match record.value {
            Some(bytes) => Some(first_value..first_value + self.value.decode(bytes, context)?),
            None if is_deletion => None,
            None => {
                let rows = self.value.decode_null(context)?;
                self.skipped += u64::from(rows == 0);
                Some(first_value..first_value + rows)
            }
        };
        let rows = match &mut self.parts {
            None => values.map_or(0, |values| values.len()),
            Some(parts) => parts.push(values, keys)?,
        };
        for column in &mut self.metadata {
            column.push(record, rows);
        }
        Ok(())
    }

    /// Rows that wait.
    pub fn rows(&self) -> usize {
        self.parts.as_ref().map_or_else(|| self.value.rows(), |parts| parts.rows.len())
    }

    pub fn buffered_bytes(&self) -> usize {
        self.value.buffered_bytes() + self.key.as_ref().map_or(0, |key| key.decoder.buffered_bytes())
    }

    /// The rows since the last call, and how many records gave none.
    pub fn flush(&mut self) -> Result<DecodedRows> {
        let rows = self.rows();
        let parts = self.parts.as_mut().map(std::mem::take).unwrap_or_default();
        let values = self.value.flush()?;
        let mut skipped = std::mem::take(&mut self.skipped) + self.value.take_skipped();
        let mut keys = None;
        if let Some(key) = &mut self.key {
            keys = Some(key.decoder.flush()?);
            skipped += key.decoder.take_skipped();
        }
        let metadata = self
            .metadata
            .iter_mut()
            .map(|column| column.finish(&self.topic, self.partition, &self.layout.time_zone))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let key_column = |index: usize| -> Result<&ArrayRef> {
            keys.as_ref()
                .map(|keys| keys.column(index))
                .ok_or_else(|| Error::internal("a column of the key without a decoder for it"))
        };
        let columns = self
            .layout
            .origins
            .iter()
            .map(|origin| match *origin {
                Origin::Metadata(index) => Ok(metadata[index].clone()),
                Origin::Value(index) if parts.is_mixed => parts.of_values(values.column(index)),
                Origin::Value(index) => Ok(values.column(index).clone()),
                Origin::Key(index) if parts.is_mixed => parts.of_keys(key_column(index)?),
                Origin::Key(index) => Ok(key_column(index)?.clone()),
                Origin::ValueOrKey { value, key } if parts.is_mixed => parts.of_both(values.column(value), key_column(key)?),
                Origin::ValueOrKey { value, .. } => Ok(values.column(value).clone()),
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(self.layout.schema.clone(), columns, &options)?;
        let weights = if self.layout.table.upserts { parts.weights() } else { None };
        Ok(DecodedRows { rows, weights, skipped })
    }
}

impl RowParts {
    /// Adds a row for each pair of a row of the value and one of the key; returns how many. A side that was not decoded counts
    /// as one row.
    fn push(&mut self, values: Option<Range<usize>>, keys: Option<Range<usize>>) -> Result<usize> {
        let before = self.rows.len();
        let count = |rows: &Option<Range<usize>>| rows.as_ref().map_or(1, ExactSizeIterator::len);
        let number = |rows: &Option<Range<usize>>, index: usize| match rows {
            Some(rows) => u32::try_from(rows.start + index).map(Some).map_err(|_| Error::internal("too many rows in a batch")),
            None => Ok(None),
        };
        for value in 0..count(&values) {
            for key in 0..count(&keys) {
                self.rows.push((number(&values, value)?, number(&keys, key)?));
            }
        }
        self.is_mixed |= values.is_none() || count(&values) != 1 || count(&keys) != 1;
        Ok(self.rows.len() - before)
    }

    fn of_values(&self, column: &ArrayRef) -> Result<ArrayRef> {
        Ok(take(column, &UInt32Array::from_iter(self.rows.iter().map(|(value, _)| *value)), None)?)
    }

    fn of_keys(&self, column: &ArrayRef) -> Result<ArrayRef> {
        Ok(take(column, &UInt32Array::from_iter(self.rows.iter().map(|(_, key)| *key)), None)?)
    }

    /// The key of deletions, the value of all others.
    fn of_both(&self, values: &ArrayRef, keys: &ArrayRef) -> Result<ArrayRef> {
        let place = |(value, key): &(Option<u32>, Option<u32>)| match (value, key) {
            (Some(value), _) => Ok((0, *value as usize)),
            (None, Some(key)) => Ok((1, *key as usize)),
            (None, None) => Err(Error::internal("a row without value and key")),
        };
        let places = self.rows.iter().map(place).collect::<Result<Vec<_>>>()?;
        Ok(interleave(&[values.as_ref(), keys.as_ref()], &places)?)
    }

    /// -1 for deletions; `None` when there are none.
    fn weights(&self) -> Option<Int64Array> {
        let is_deletion = |(value, _): &(Option<u32>, Option<u32>)| value.is_none();
        let weight = |row| if is_deletion(row) { -1 } else { 1 };
        self.rows.iter().any(is_deletion).then(|| Int64Array::from_iter_values(self.rows.iter().map(weight)))
    }
}

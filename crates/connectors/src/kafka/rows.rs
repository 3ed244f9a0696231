//! Records of a partition to batches: decoders for key and value, metadata beside them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use thalweg_core::{Decoder, Error, RecordContext, Result, ScanField, ScanRequest};

use super::metadata::MetadataColumn;
use super::record::Record;
use super::table::{RecordPart, ScanTable, renamed};

/// Where a column of the scan comes from.
#[derive(Clone)]
enum Origin {
    /// Index among the fields that the value's decoder gives.
    Value(usize),
    Key(usize),
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
            schema: Arc::new(Schema::new(request.fields.iter().map(|field| field.field().clone()).collect::<Vec<_>>())),
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
        if let Some(name) = self.table.layout.value.inner_name(field.name()) {
            self.value_fields.push(renamed(field, name));
            return Ok(Origin::Value(self.value_fields.len() - 1));
        }
        let name = self.table.layout.key.as_ref().and_then(|key| key.inner_name(field.name()));
        let name = name.ok_or_else(|| Error::internal(format!("column \"{}\" is neither in key nor in value", field.name())))?;
        self.key_fields.push(renamed(field, name));
        Ok(Origin::Key(self.key_fields.len() - 1))
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decoder(&self, part: &RecordPart, fields: &[FieldRef]) -> Result<Box<dyn Decoder>> {
        let physical = part.schema(&self.physical_schema)?;
        (self.table.decoder)(&part.format, part.option_prefix, fields.to_vec(), physical, &self.table.options)
    }
}

/// Decodes the records of one partition.
pub struct PartitionRows {
    layout: Arc<RowLayout>,
    topic: String,
    partition: i32,
    value: Box<dyn Decoder>,
    key: Option<KeyRows>,
    metadata: Vec<MetadataColumn>,
    /// Tombstones and records with an ignored key.
    skipped: u64,
}

/// The key's decoder, and which of its rows belongs to which row of the output.
struct KeyRows {
    decoder: Box<dyn Decoder>,
    /// For each row of the output: row of the value's batch, row of the key's.
    pairs: Vec<(u32, u32)>,
    /// Whether each record so far gave one row on each side: then the batches fit as they are.
    one_to_one: bool,
}

impl PartitionRows {
    pub fn new(layout: Arc<RowLayout>, topic: &str, partition: i32) -> Result<Self> {
        let key = match &layout.table.layout.key {
            Some(part) if !layout.key_fields.is_empty() => {
                Some(KeyRows { decoder: layout.decoder(part, &layout.key_fields)?, pairs: vec![], one_to_one: true })
            }
            _ => None,
        };
        let metadata =
            layout.metadata.iter().map(|(name, field)| MetadataColumn::new(name, field.clone())).collect::<Result<Vec<_>>>()?;
        Ok(PartitionRows {
            value: layout.decoder(&layout.table.layout.value, &layout.value_fields)?,
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
        let first_key = self.key.as_ref().map_or(0, |key| key.decoder.rows());
        let key_rows = match &mut self.key {
            None => 1,
            Some(key) => match record.key {
                Some(bytes) => key.decoder.decode(bytes, context)?,
                None => key.decoder.decode_null(context)?,
            },
        };
        if key_rows == 0 {
            // A key that is null or ignored gives no row, whatever the value is, as in Flink.
            self.skipped += u64::from(record.key.is_none());
            return Ok(());
        }
        let first_value = self.value.rows();
        let value_rows = match record.value {
            Some(bytes) => self.value.decode(bytes, context)?,
            None => {
                let rows = self.value.decode_null(context)?;
                self.skipped += u64::from(rows == 0);
                rows
            }
        };
        if let Some(key) = &mut self.key {
            key.one_to_one &= value_rows == 1 && key_rows == 1;
            for value_row in first_value..first_value + value_rows {
                for key_row in first_key..first_key + key_rows {
                    key.pairs.push((row_number(value_row)?, row_number(key_row)?));
                }
            }
        }
        for column in &mut self.metadata {
            column.push(record, value_rows * key_rows);
        }
        Ok(())
    }

    /// Rows that wait.
    pub fn rows(&self) -> usize {
        self.key.as_ref().map_or_else(|| self.value.rows(), |key| key.pairs.len())
    }

    pub fn buffered_bytes(&self) -> usize {
        self.value.buffered_bytes() + self.key.as_ref().map_or(0, |key| key.decoder.buffered_bytes())
    }

    /// The rows since the last call, and how many records gave none.
    pub fn flush(&mut self) -> Result<(RecordBatch, u64)> {
        let rows = self.rows();
        let mut values = self.value.flush()?;
        let mut keys = None;
        let mut skipped = std::mem::take(&mut self.skipped) + self.value.take_skipped();
        if let Some(key) = &mut self.key {
            let mut batch = key.decoder.flush()?;
            skipped += key.decoder.take_skipped();
            let pairs = std::mem::take(&mut key.pairs);
            if !std::mem::replace(&mut key.one_to_one, true) {
                let value_rows = UInt32Array::from_iter_values(pairs.iter().map(|pair| pair.0));
                let key_rows = UInt32Array::from_iter_values(pairs.iter().map(|pair| pair.1));
                values = arrow::compute::take_record_batch(&values, &value_rows)?;
                batch = arrow::compute::take_record_batch(&batch, &key_rows)?;
            }
            keys = Some(batch);
        }
        let metadata = self
            .metadata
            .iter_mut()
            .map(|column| column.finish(&self.topic, self.partition, &self.layout.time_zone))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let columns = self
            .layout
            .origins
            .iter()
            .map(|origin| match origin {
                Origin::Value(index) => Ok(values.column(*index).clone()),
                Origin::Key(index) => match &keys {
                    Some(keys) => Ok(keys.column(*index).clone()),
                    None => Err(Error::internal("a column of the key without a decoder for it")),
                },
                Origin::Metadata(index) => Ok(metadata[*index].clone()),
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok((RecordBatch::try_new_with_options(self.layout.schema.clone(), columns, &options)?, skipped))
    }
}

fn row_number(row: usize) -> Result<u32> {
    u32::try_from(row).map_err(|_| Error::internal("more than 4 billion rows in a batch"))
}

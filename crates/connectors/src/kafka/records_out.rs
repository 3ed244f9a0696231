//! Rows to records: key, value, headers, timestamp and the final partition, checked against the topic's limit now.
//!
//! Of upserts only the last change of each key in a batch becomes a record: a row that was added with its value, one that was taken
//! back without. Which half of an update a row is plays no part; a lone `-U`, the rest of whose update a filter kept back, deletes.
//!
//! Everything about a record is decided before the commit point, so that delivering it twice writes the same thing twice.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use thalweg_core::{Batch, EncodedRows, Encoder, Error, LaneId, Result};

use super::partitioner::Partitioner;
use super::table::{RecordPart, SinkTable, renamed};
use crate::output_frames::{Header, OutputFrame};

/// What a batch of records costs on the wire beside the payload of its only record (batch header, lengths, timestamp), rounded up.
const RECORD_OVERHEAD_BYTES: usize = 100;

/// What a writer must know of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicShape {
    pub partitions: u32,
    pub max_message_bytes: usize,
}

/// Tells of topics; asked once for each.
pub trait TopicCatalog: Send {
    /// # Errors
    /// `User` when the topic does not exist, `Unavailable` while the cluster is away.
    fn describe(&self, topic: &str) -> Result<TopicShape>;
}

/// Makes the records of one lane.
pub struct RecordMaker {
    table: SinkTable,
    key: Option<PartEncoder>,
    value: PartEncoder,
    /// Columns of the batch with metadata.
    topic_column: Option<usize>,
    timestamp_column: Option<usize>,
    headers_column: Option<usize>,
    partitioner: Partitioner,
    catalog: Box<dyn TopicCatalog>,
    shapes: HashMap<String, TopicShape>,
}

/// A record to be made of a row.
struct Write {
    row: usize,
    /// Which of the encoded values it gets; `None` is a record without a value.
    value: Option<usize>,
    copies: u64,
}

/// Encodes the columns of key or value.
struct PartEncoder {
    encoder: Box<dyn Encoder>,
    schema: SchemaRef,
    /// Columns of the batch, in the order of `schema`.
    columns: Vec<usize>,
    rows: EncodedRows,
}

impl PartEncoder {
    fn new(table: &SinkTable, part: &RecordPart) -> Result<Self> {
        let columns = part
            .columns
            .iter()
            .map(|(column, _)| table.schema.index_of(column).map_err(Error::from))
            .collect::<Result<Vec<_>>>()?;
        let fields: Vec<_> =
            columns.iter().zip(&part.columns).map(|(index, (_, inner))| renamed(table.schema.field(*index), inner)).collect();
        let schema: SchemaRef = Schema::new(fields).into();
        let encoder = (table.encoder)(&part.format, part.option_prefix, schema.clone(), &table.options)?;
        Ok(PartEncoder { encoder, schema, columns, rows: EncodedRows::default() })
    }

    fn encode(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows.clear();
        let columns = self.columns.iter().map(|index| batch.column(*index).clone()).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let part = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        self.encoder.encode(&part, &mut self.rows)?;
        if self.rows.len() == batch.num_rows() {
            return Ok(());
        }
        Err(Error::internal(format!("an encoder made {} records of {} rows", self.rows.len(), batch.num_rows())))
    }
}

impl RecordMaker {
    pub fn new(table: &SinkTable, lane: LaneId, catalog: Box<dyn TopicCatalog>) -> Result<Self> {
        let column_of = |key: &str| table.metadata.iter().position(|metadata| metadata.as_deref() == Some(key));
        let mut maker = RecordMaker {
            key: table.layout.key.as_ref().map(|part| PartEncoder::new(table, part)).transpose()?,
            value: PartEncoder::new(table, &table.layout.value)?,
            topic_column: column_of("topic"),
            timestamp_column: column_of("timestamp"),
            headers_column: column_of("headers"),
            partitioner: Partitioner::new(table.partitioner, lane.0),
            shapes: HashMap::new(),
            table: table.clone(),
            catalog,
        };
        if let Some(topic) = &table.topic {
            maker.shape(topic)?;
        }
        Ok(maker)
    }

    fn shape(&mut self, topic: &str) -> Result<TopicShape> {
        if let Some(shape) = self.shapes.get(topic) {
            return Ok(*shape);
        }
        let shape = self.catalog.describe(topic)?;
        self.shapes.insert(topic.to_string(), shape);
        Ok(shape)
    }

    /// Gives the records of `batch` to `take`, in order.
    /// # Errors
    /// `Record` for a row that does not fit into its topic or does not name one.
    pub fn each_record(&mut self, batch: &Batch, take: &mut dyn FnMut(&OutputFrame<'_>) -> Result<()>) -> Result<()> {
        let rows = &batch.rows;
        if let Some(key) = &mut self.key {
            key.encode(rows)?;
        }
        let writes = if self.table.upserts { self.last_changes(batch)? } else { self.additions(batch)? };
        let timestamps = self.timestamp_column.map(|index| milliseconds(rows.column(index))).transpose()?;
        let topics = self.topic_column.map(|index| rows.column(index).clone());
        for Write { row, value, copies } in writes {
            let topic = match (&self.table.topic, &topics) {
                (Some(topic), _) => topic.clone(),
                (None, Some(topics)) => self.topic_of_row(topics, row)?,
                (None, None) => return Err(Error::internal("a sink without a topic")),
            };
            let shape = self.shape(&topic)?;
            let headers_array = self.headers_column.map(|index| rows.column(index).as_map().value(row));
            let key = self.key.as_ref().map(|key| key.rows.row(row));
            let frame = OutputFrame {
                topic: &topic,
                partition: i32::try_from(self.partitioner.choose(key, shape.partitions.max(1))).unwrap_or(i32::MAX),
                timestamp_ms: timestamps.as_ref().filter(|array| array.is_valid(row)).map_or(-1, |array| array.value(row)),
                headers: headers_array.as_ref().map(headers_of_row).transpose()?.unwrap_or_default(),
                key,
                value: value.map(|value| self.value.rows.row(value)),
            };
            let bytes = frame.payload_bytes() + RECORD_OVERHEAD_BYTES;
            if bytes > shape.max_message_bytes {
                return Err(self.too_large(&frame, bytes, shape.max_message_bytes));
            }
            for _ in 0..copies {
                take(&frame)?;
            }
        }
        Ok(())
    }

    /// Every row, as often as its weight says. Encodes the values.
    fn additions(&mut self, batch: &Batch) -> Result<Vec<Write>> {
        self.value.encode(&batch.rows)?;
        let write = |row: usize| {
            let copies = u64::try_from(batch.weight(row))
                .map_err(|_| Error::internal(format!("sink \"{}\" cannot take a row back", self.table.table)))?;
            Ok(Write { row, value: Some(row), copies })
        };
        (0..batch.num_rows()).map(write).collect()
    }

    /// The last change of each key, in order. Encodes the values of those that are no deletions; the keys are encoded.
    fn last_changes(&mut self, batch: &Batch) -> Result<Vec<Write>> {
        let Some(key) = &self.key else {
            return Err(Error::internal(format!("sink \"{}\" has no key for its upserts", self.table.table)));
        };
        let topics = self.topic_column.map(|column| batch.column(column).as_string::<i32>());
        let mut seen = HashSet::new();
        let mut writes = vec![];
        for row in (0..batch.num_rows()).rev().filter(|row| batch.weight(*row) != 0) {
            let topic = topics.filter(|topics| topics.is_valid(row)).map(|topics| topics.value(row));
            if seen.insert((topic, key.rows.row(row))) {
                writes.push(Write { row, value: None, copies: 1 });
            }
        }
        writes.reverse();
        let mut added: Vec<u32> = vec![];
        for write in writes.iter_mut().filter(|write| batch.weight(write.row) > 0) {
            write.value = Some(added.len());
            added.push(u32::try_from(write.row).map_err(|_| Error::internal("a batch has more than 4 billion rows"))?);
        }
        self.value.encode(&take_record_batch(&batch.rows, &UInt32Array::from(added))?)?;
        Ok(writes)
    }

    fn topic_of_row(&self, topics: &ArrayRef, row: usize) -> Result<String> {
        let topics = topics
            .as_string_opt::<i32>()
            .ok_or_else(|| Error::user(format!("sink \"{}\": the topic column must be a STRING", self.table.table)))?;
        if topics.is_null(row) {
            return Err(Error::record(format!("sink \"{}\": a row has no topic: its topic column is null", self.table.table)));
        }
        Ok(topics.value(row).to_string())
    }

    fn too_large(&self, frame: &OutputFrame<'_>, bytes: usize, limit: usize) -> Error {
        let start = match (frame.key, frame.value) {
            (Some(key), _) => format!("with key {}", shortened(key)),
            (None, value) => format!("that begins {}", shortened(value.unwrap_or_default())),
        };
        Error::record(format!(
            "sink \"{}\": a record of {bytes} bytes {start} is larger than topic {} takes ({limit} bytes)",
            self.table.table, frame.topic
        ))
        .with_help("raise max.message.bytes of the topic, or write less in a row")
    }
}

fn shortened(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(60).collect();
    if bytes.len() > text.len() { format!("\"{text}…\"") } else { format!("\"{text}\"") }
}

fn milliseconds(array: &ArrayRef) -> Result<arrow::array::TimestampMillisecondArray> {
    // The instant counts, whatever zone it is shown in, so the zone is dropped.
    let millis = match array.data_type() {
        DataType::Timestamp(unit, _) => {
            let plain = arrow::compute::cast(array, &DataType::Timestamp(*unit, None))?;
            arrow::compute::cast(&plain, &DataType::Timestamp(TimeUnit::Millisecond, None))?
        }
        other => return Err(Error::user(format!("the timestamp column must be a TIMESTAMP_LTZ(3), not {other}"))),
    };
    Ok(millis.as_primitive::<TimestampMillisecondType>().clone())
}

fn headers_of_row(entries: &arrow::array::StructArray) -> Result<Vec<Header<'_>>> {
    let wrong_type = || Error::user("the headers column must be MAP<STRING, BYTES>");
    let names = entries.column(0).as_string_opt::<i32>().ok_or_else(wrong_type)?;
    let values = entries.column(1).as_binary_opt::<i32>().ok_or_else(wrong_type)?;
    Ok((0..entries.len()).map(|index| (names.value(index), values.is_valid(index).then(|| values.value(index)))).collect())
}

//! Look-ups in a table that is read whole: Flink's FULL lookup cache.
//!
//! The first look-up reads all rows and sorts them by key; a look-up is then a search in a hash table, and gives a range of the
//! sorted rows, without a copy. With a reload interval the first look-up that comes so long after the last read reads anew.
//! Lanes share the rows. While one lane reads, the others wait; a table that cannot be read again stays as it was, and is tried
//! again after the next interval.
//!
//! Rows of one key come in the order in which the source gave them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use thalweg_core::{Assignment, Clock, Error, LaneId, Lookup, LookupRows, LookupTable, PollBudget, Result, Source, SourceEvent};

/// Rows asked for in one poll of the source.
const BATCH_ROWS: usize = 8_192;

/// Opens the table as a source that ends with what is there.
pub type OpenTable = dyn Fn() -> Result<Arc<dyn Source>> + Send + Sync;

/// What a table's rows are and by what they are looked up.
pub struct LookupShape {
    pub table: String,
    /// The rows that the source gives.
    pub schema: SchemaRef,
    /// Columns of `schema`.
    pub keys: Vec<usize>,
    /// `None` is never.
    pub reload_interval: Option<Duration>,
}

/// Looks up in a table that ends.
pub struct FullLookup(Arc<Shared>);

struct Shared {
    shape: LookupShape,
    open: Box<OpenTable>,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Held>>,
}

/// The table as it was read last.
struct Held {
    index: Arc<Index>,
    /// By the monotonic clock.
    read_at: Duration,
}

struct Index {
    /// Rows of one key beside each other.
    rows: RecordBatch,
    places: HashMap<Box<[u8]>, Range<usize>>,
    bytes: u64,
}

impl FullLookup {
    /// Does not read yet.
    pub fn new(shape: LookupShape, open: Box<OpenTable>, clock: Arc<dyn Clock>) -> Self {
        FullLookup(Arc::new(Shared { shape, open, clock, held: Mutex::new(None) }))
    }
}

impl Lookup for FullLookup {
    fn table(&self, lane: LaneId) -> Result<Box<dyn LookupTable>> {
        let codec = key_codec(&self.0.shape)?;
        Ok(Box::new(FullTable { shared: self.0.clone(), codec, is_first_lane: lane == LaneId(0), bytes: 0 }))
    }
}

struct FullTable {
    shared: Arc<Shared>,
    codec: RowConverter,
    /// Tells of the memory that all lanes share.
    is_first_lane: bool,
    bytes: u64,
}

impl LookupTable for FullTable {
    fn lookup(&mut self, keys: &RecordBatch) -> Result<LookupRows> {
        let index = self.shared.index(&self.codec)?;
        self.bytes = index.bytes;
        let columns: Vec<ArrayRef> = keys.columns().iter().map(one_nan).collect();
        let encoded = self.codec.convert_columns(&columns)?;
        let ranges = encoded.iter().map(|key| index.places.get(key.data()).cloned().unwrap_or(0..0)).collect();
        Ok(LookupRows { rows: index.rows.clone(), ranges })
    }

    fn memory_bytes(&self) -> u64 {
        if self.is_first_lane { self.bytes } else { 0 }
    }
}

impl Shared {
    /// The table, read now if that is due.
    fn index(&self, codec: &RowConverter) -> Result<Arc<Index>> {
        // A lane that failed while it read has left what was held before.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        let is_due =
            |held: &Held| self.shape.reload_interval.is_some_and(|interval| now.saturating_sub(held.read_at) >= interval);
        match &mut *held {
            Some(held) if !is_due(held) => Ok(held.index.clone()),
            Some(held) => {
                held.read_at = now;
                match self.read(codec) {
                    Ok(index) => held.index = Arc::new(index),
                    Err(error) => {
                        let error = error.full_message();
                        tracing::warn!(
                            table = self.shape.table,
                            error,
                            "table not read again, look-ups go on with the rows before"
                        );
                    }
                }
                Ok(held.index.clone())
            }
            None => {
                let index = Arc::new(self.read(codec)?);
                *held = Some(Held { index: index.clone(), read_at: now });
                Ok(index)
            }
        }
    }

    fn read(&self, codec: &RowConverter) -> Result<Index> {
        let in_context = |error: Error| error.in_context(format!("lookup table \"{}\"", self.shape.table));
        let batches = self.read_rows().map_err(in_context)?;
        let rows = concat_batches(&self.shape.schema, &batches)
            .map_err(|error| in_context(Error::user("the table is too large to be looked up in memory").with_cause(error)))?;
        drop(batches);
        let index = self.sorted(rows, codec)?;
        tracing::info!(table = self.shape.table, rows = index.rows.num_rows(), bytes = index.bytes, "lookup table read");
        Ok(index)
    }

    fn read_rows(&self) -> Result<Vec<RecordBatch>> {
        let source = (self.open)()?;
        let partitions = source.partitions()?;
        let mut open = partitions.len();
        let assignments = partitions.into_iter().map(|partition| Assignment { partition, position: None }).collect();
        let mut reader = source.reader(assignments)?;
        let mut batches = vec![];
        let mut skipped_records = 0;
        while open > 0 {
            match reader.poll(PollBudget { rows: BATCH_ROWS, wait: Duration::from_millis(1) })? {
                SourceEvent::Rows { rows, skipped, .. } => {
                    batches.push(rows);
                    skipped_records += skipped;
                }
                SourceEvent::PartitionEnd(_) | SourceEvent::CaughtUp(_) => open -= 1,
                SourceEvent::Idle => {}
            }
        }
        if skipped_records > 0 {
            tracing::warn!(table = self.shape.table, skipped_records, "records of a lookup table could not be decoded");
        }
        Ok(batches)
    }

    /// Puts rows of one key beside each other, keys in the order of their bytes.
    fn sorted(&self, rows: RecordBatch, codec: &RowConverter) -> Result<Index> {
        let too_many = |_| Error::user(format!("lookup table \"{}\" has more than 4 billion rows", self.shape.table));
        let count = u32::try_from(rows.num_rows()).map_err(too_many)?;
        let columns: Vec<ArrayRef> = self.shape.keys.iter().map(|key| one_nan(rows.column(*key))).collect();
        let keys = codec.convert_columns(&columns)?;
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_by(|one, other| keys.row(*one as usize).cmp(&keys.row(*other as usize)));
        let mut places: HashMap<Box<[u8]>, Range<usize>> = HashMap::new();
        let mut start = 0;
        let mut key_bytes = 0;
        while start < order.len() {
            let key = keys.row(order[start] as usize);
            let length = order[start..].iter().take_while(|row| keys.row(**row as usize) == key).count();
            key_bytes += key.data().len() + size_of::<(Box<[u8]>, Range<usize>)>();
            places.insert(key.data().into(), start..start + length);
            start += length;
        }
        let is_in_order = order.is_sorted();
        let rows = if is_in_order { rows } else { take_record_batch(&rows, &UInt32Array::from(order))? };
        let bytes = (rows.get_array_memory_size() + key_bytes) as u64;
        Ok(Index { rows, places, bytes })
    }
}

fn key_codec(shape: &LookupShape) -> Result<RowConverter> {
    let fields = shape.keys.iter().map(|key| SortField::new(shape.schema.field(*key).data_type().clone())).collect();
    RowConverter::new(fields)
        .map_err(|error| Error::user(format!("table \"{}\" cannot be looked up by these columns", shape.table)).with_cause(error))
}

/// Every NaN becomes the same NaN.
fn one_nan(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => {
            let canonical = |value: f32| if value.is_nan() { f32::NAN } else { value };
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(canonical))
        }
        DataType::Float64 => {
            let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value };
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(canonical))
        }
        _ => column.clone(),
    }
}

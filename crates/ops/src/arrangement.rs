//! Rows by key: the memory of joins, of Top-N over updating input, of tables of upserts.
//!
//! A multiset of rows. Rows live in columnar chunks in order of arrival; a hash index leads from a key to its rows, oldest first.
//! A chunk is never changed but for the weights of its rows: small neighbours are merged, chunks of which most rows are gone are
//! rewritten, those without rows are dropped whole.
//!
//! State: a slot per chunk, `<name>-<number>`, with `[key_group, row: Int64, weight: Int64, columns…]`. A chunk is written once;
//! when weights of its rows change, those rows are merged into its slot (of one `row` the last entry holds; weight 0: gone), until
//! they are half as many as the chunk's rows; then it is written again. So a snapshot costs about as much as what changed, and the
//! store holds about as much as is there.

mod chunk;
mod index;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt16Array, UInt32Array, new_null_array};
use arrow::compute::{filter_record_batch, interleave, take_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use hashbrown::{HashMap, HashSet};
use thalweg_core::{Batch, Error, Result};
use thalweg_state::{KEY_GROUP_COLUMN, SlotChange, SlotId, StateDelta, StatePart};

use crate::eval::value_text;
use crate::key_codec::{EncodedKeys, KeyCodec};
use crate::key_groups;
use crate::running::canonical_floats;
use crate::unmatched::Unmatched;
use chunk::Chunk;
use index::Index;

/// Names a row for as long as it is there; greater ones came later.
pub(crate) type RowId = u64;

/// Names no row.
pub(crate) const NO_ROW: RowId = RowId::MAX;

/// Rows of a chunk that is merged with no other any more.
const CHUNK_ROWS: usize = 8_192;
/// Chunks with fewer dead rows are left alone.
const DEAD_ROWS: usize = 64;
/// State columns in front of the row's own.
const STATE_COLUMNS: usize = 3;

pub(crate) struct Arrangement {
    /// Begins the names of the slots.
    name: String,
    schema: SchemaRef,
    keys: Vec<usize>,
    key_codec: KeyCodec,
    /// Empty without an index.
    by_key: Index,
    is_indexed: bool,
    /// Whole rows to their ids, by hash; only where rows may be taken back.
    rows: Option<(KeyCodec, HashMap<u64, Vec<RowId>>)>,
    /// In order of their rows.
    chunks: Vec<Chunk>,
    next_row: RowId,
    next_chunk: u64,
    live: usize,
    /// Slots in the store whose chunks are gone.
    gone: Vec<SlotId>,
    pub(crate) unmatched: Unmatched,
    state_schema: SchemaRef,
}

impl Arrangement {
    /// `takes_back`: whether rows may be taken back; if not, less is kept.
    /// # Errors
    /// `User` for key columns, and where rows may be taken back for any column, that cannot be compared.
    pub(crate) fn new(name: impl Into<String>, schema: &SchemaRef, keys: &[usize], takes_back: bool) -> Result<Self> {
        let key_fields: Vec<FieldRef> = keys.iter().map(|key| schema.fields()[*key].clone()).collect();
        let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, false));
        let mut fields =
            vec![field(KEY_GROUP_COLUMN, DataType::UInt16), field("row", DataType::Int64), field("weight", DataType::Int64)];
        fields.extend(schema.fields().iter().cloned());
        let all: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        Ok(Arrangement {
            name: name.into(),
            schema: schema.clone(),
            keys: keys.to_vec(),
            key_codec: KeyCodec::new(&key_fields)?,
            by_key: Index::default(),
            is_indexed: true,
            rows: if takes_back { Some((KeyCodec::new(&all)?, HashMap::new())) } else { None },
            chunks: vec![],
            next_row: 0,
            next_chunk: 0,
            live: 0,
            gone: vec![],
            unmatched: Unmatched::default(),
            state_schema: Arc::new(Schema::new(fields)),
        })
    }

    /// An arrangement whose rows are found by their ids alone: [`Arrangement::of_key`] finds nothing, and any key will do for
    /// [`Arrangement::remove`].
    pub(crate) fn unindexed(name: impl Into<String>, schema: &SchemaRef, keys: &[usize]) -> Result<Self> {
        Ok(Arrangement { is_indexed: false, ..Arrangement::new(name, schema, keys, false)? })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The keys of rows of this arrangement's schema.
    pub(crate) fn keys_of(&self, rows: &RecordBatch) -> Result<EncodedKeys> {
        self.encode_keys(&self.key_columns(rows), rows.num_rows())
    }

    /// Keys given as columns of the types of the key columns.
    pub(crate) fn encode_keys(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedKeys> {
        self.key_codec.encode(columns, rows)
    }

    pub(crate) fn key_columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|key| canonical_floats(rows.column(*key))).collect()
    }

    /// Adds rows and takes rows back. Gives the id of each row: a row that equals one that is there shares its id where rows may
    /// be taken back; [`NO_ROW`] for one that is taken back and is not there, if that is no error. Ids of rows that went can still be gathered until [`Arrangement::tidy`].
    /// # Errors
    /// `Record` when a row is taken back that is not there.
    pub(crate) fn apply(&mut self, batch: &Batch, keys: &EncodedKeys) -> Result<Vec<RowId>> {
        let first = self.next_row;
        let ids = match &self.rows {
            None => {
                if let Some(row) = (0..batch.num_rows()).find(|row| batch.weight(*row) < 0) {
                    return Err(self.not_there(batch, row));
                }
                let weights = (0..batch.num_rows()).map(|row| batch.weight(row)).collect();
                self.push_chunk(batch.rows.clone(), weights);
                if self.is_indexed {
                    for (row, id) in (first..self.next_row).enumerate() {
                        self.by_key.insert(keys.key(row), id);
                    }
                }
                self.live += batch.num_rows();
                (first..self.next_row).collect()
            }
            Some((codec, _)) => {
                let whole = codec.encode(&all_columns(&batch.rows), batch.num_rows())?;
                self.apply_changes(batch, keys, &whole)?
            }
        };
        Ok(ids)
    }

    fn apply_changes(&mut self, batch: &Batch, keys: &EncodedKeys, whole: &EncodedKeys) -> Result<Vec<RowId>> {
        let added: BooleanArray = (0..batch.num_rows()).map(|row| Some(batch.weight(row) > 0)).collect();
        let mut next = self.next_row;
        let count = added.true_count();
        let rows = if count == batch.num_rows() { batch.rows.clone() } else { filter_record_batch(&batch.rows, &added)? };
        if count > 0 {
            self.push_chunk(rows, vec![0; count]);
        }
        let mut ids = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let weight = batch.weight(row);
            let hash = xxhash_rust::xxh3::xxh3_64(whole.key(row));
            let place = next;
            next += u64::from(weight > 0);
            let id = match self.find(hash, whole.key(row))? {
                Some(id) => id,
                None if weight < 0 => {
                    if !self.unmatched.is_ignored() {
                        return Err(self.not_there(batch, row));
                    }
                    self.unmatched.add(1);
                    ids.push(NO_ROW);
                    continue;
                }
                None => {
                    self.by_key.insert(keys.key(row), place);
                    if let Some((_, by_row)) = &mut self.rows {
                        by_row.entry(hash).or_default().push(place);
                    }
                    self.live += 1;
                    place
                }
            };
            let held = self.weight(id);
            // Of a row that is there less often than it is taken back, what is there goes.
            let weight = if self.unmatched.is_ignored() && held.saturating_add(weight) < 0 {
                self.unmatched.add(1);
                -held
            } else {
                weight
            };
            let after = held.checked_add(weight).ok_or_else(|| Error::record("a row is there too often to count"))?;
            if after < 0 {
                return Err(self.not_there(batch, row));
            }
            self.set_weight(id, after);
            if after == 0 {
                self.by_key.remove(keys.key(row), id);
                if let Some((_, by_row)) = &mut self.rows
                    && let Some(ids) = by_row.get_mut(&hash)
                {
                    ids.retain(|other| *other != id);
                    if ids.is_empty() {
                        by_row.remove(&hash);
                    }
                }
                self.live -= 1;
            }
            ids.push(id);
        }
        Ok(ids)
    }

    /// The row that equals an encoded one.
    fn find(&self, hash: u64, row: &[u8]) -> Result<Option<RowId>> {
        let Some((codec, by_row)) = &self.rows else {
            return Ok(None);
        };
        for id in by_row.get(&hash).into_iter().flatten() {
            let (chunk, position) = self.locate(*id);
            let candidate = self.chunks[chunk].rows.slice(position, 1);
            if codec.encode(&all_columns(&candidate), 1)?.key(0) == row {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    /// The error for a row that is taken back and is not there.
    pub(crate) fn not_there(&self, batch: &Batch, row: usize) -> Error {
        let values: Vec<String> = batch
            .schema()
            .fields()
            .iter()
            .zip(batch.rows.columns())
            .take(8)
            .map(|(field, column)| format!("{} = {}", field.name(), value_text(column, row)))
            .collect();
        Error::record(format!("a row is taken back that is not there: {}", values.join(", ")))
            .with_help("the changes of the input do not fit together: more rows were taken back than came")
    }

    /// The id that the next new row gets.
    pub(crate) fn next_id(&self) -> RowId {
        self.next_row
    }

    /// The rows of a key, oldest first.
    pub(crate) fn of_key(&self, key: &[u8]) -> &[RowId] {
        self.by_key.get(key)
    }

    pub(crate) fn weight(&self, id: RowId) -> i64 {
        let (chunk, row) = self.locate(id);
        self.chunks[chunk].weights[row]
    }

    /// For users whose rows are never taken back by the input: a weight of 2 can note one thing of a row, and is stored with it.
    pub(crate) fn set_weight(&mut self, id: RowId, weight: i64) {
        let (chunk, row) = self.locate(id);
        self.chunks[chunk].set_weight(row, weight);
    }

    fn locate(&self, id: RowId) -> (usize, usize) {
        let chunk = self.chunks.partition_point(|chunk| chunk.first() <= id) - 1;
        (chunk, self.chunks[chunk].position(id))
    }

    /// Some columns of rows, in the order asked for; null where there is no row.
    pub(crate) fn gather(&self, ids: &[Option<RowId>], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let mut used: HashMap<usize, usize> = HashMap::new();
        let mut chunks = vec![];
        let mut places = Vec::with_capacity(ids.len());
        let has_null = ids.contains(&None);
        for id in ids {
            places.push(match id {
                None => (0, 0),
                Some(id) => {
                    let (chunk, row) = self.locate(*id);
                    let number = *used.entry(chunk).or_insert_with(|| {
                        chunks.push(chunk);
                        chunks.len() - 1
                    });
                    (number + usize::from(has_null), row)
                }
            });
        }
        columns
            .iter()
            .map(|column| {
                let null = has_null.then(|| new_null_array(self.schema.field(*column).data_type(), 1));
                let arrays: Vec<&dyn Array> = null
                    .iter()
                    .map(AsRef::as_ref)
                    .chain(chunks.iter().map(|chunk| self.chunks[*chunk].rows.column(*column).as_ref()))
                    .collect();
                if ids.is_empty() {
                    return Ok(arrow::array::new_empty_array(self.schema.field(*column).data_type()));
                }
                Ok(interleave(&arrays, &places)?)
            })
            .collect()
    }

    /// The rows that are there, oldest first.
    pub(crate) fn live_ids(&self) -> Vec<RowId> {
        self.chunks.iter().flat_map(|chunk| chunk.live_rows().into_iter().map(|row| chunk.id(row as usize))).collect()
    }

    /// All rows that are there, chunk by chunk, with their ids.
    pub(crate) fn live_chunks(&self) -> Result<Vec<(RecordBatch, Vec<RowId>)>> {
        self.chunks
            .iter()
            .map(|chunk| {
                let live = chunk.live_rows();
                let rows = take_record_batch(&chunk.rows, &UInt32Array::from(live.clone()))?;
                Ok((rows, live.into_iter().map(|row| chunk.id(row as usize)).collect()))
            })
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    pub(crate) fn size_bytes(&self) -> usize {
        let rows = self.rows.as_ref().map_or(0, |(_, rows)| rows.capacity() * 48);
        self.chunks.iter().map(Chunk::size_bytes).sum::<usize>() + self.by_key.size_bytes() + rows
    }

    /// Bytes that a row takes on average, of those that are in memory.
    pub(crate) fn row_bytes(&self) -> usize {
        let rows: usize = self.chunks.iter().map(Chunk::len).sum();
        self.chunks.iter().map(Chunk::size_bytes).sum::<usize>() / rows.max(1)
    }

    fn push_chunk(&mut self, rows: RecordBatch, weights: Vec<i64>) {
        if rows.num_rows() == 0 {
            return;
        }
        let first = self.next_row;
        self.next_row += rows.num_rows() as u64;
        let ids = (first..self.next_row).collect();
        let slot = self.new_slot();
        self.chunks.push(Chunk::new(slot, rows, ids, weights));
    }

    fn new_slot(&mut self) -> SlotId {
        self.next_chunk += 1;
        SlotId(format!("{}-{}", self.name, self.next_chunk))
    }

    /// Takes away a row of an arrangement whose rows are not taken back by the input.
    pub(crate) fn remove(&mut self, id: RowId, key: &[u8]) {
        if self.weight(id) != 0 {
            self.set_weight(id, 0);
            self.by_key.remove(key, id);
            self.live -= 1;
        }
    }

    /// Takes away all rows of a key.
    /// # Errors
    /// `Internal` when the arrangement has no index.
    pub(crate) fn remove_key(&mut self, key: &[u8]) -> Result<()> {
        if !self.is_indexed {
            return Err(Error::internal("rows without an index are not found by key"));
        }
        let ids = self.by_key.get(key).to_vec();
        if ids.is_empty() {
            return Ok(());
        }
        let columns = self
            .gather(&ids.iter().map(|id| Some(*id)).collect::<Vec<_>>(), &(0..self.schema.fields().len()).collect::<Vec<_>>())?;
        if let Some((codec, by_row)) = &mut self.rows {
            let whole = codec.encode(&columns.iter().map(canonical_floats).collect::<Vec<_>>(), ids.len())?;
            for (row, id) in ids.iter().enumerate() {
                let hash = xxhash_rust::xxh3::xxh3_64(whole.key(row));
                if let Some(same) = by_row.get_mut(&hash) {
                    same.retain(|other| other != id);
                    if same.is_empty() {
                        by_row.remove(&hash);
                    }
                }
            }
        }
        ids.into_iter().for_each(|id| self.remove(id, key));
        Ok(())
    }

    /// The slots in the store, when the arrangement as a whole is dropped.
    pub(crate) fn stored_slots(&self) -> Vec<SlotId> {
        self.gone.iter().cloned().chain(self.chunks.iter().filter_map(Chunk::stored_slot)).collect()
    }

    /// Merges small chunks at the end, of which each is then at least twice as large as the next. Called when no id of a row
    /// that went is needed any more.
    pub(crate) fn tidy(&mut self) -> Result<()> {
        while let [.., before, last] = self.chunks.as_slice()
            && last.len() * 2 > before.len()
            && last.len() + before.len() <= CHUNK_ROWS
        {
            let slot = self.new_slot();
            let last = self.chunks.pop().expect("there are two");
            let before = self.chunks.pop().expect("there are two");
            for chunk in [&before, &last] {
                self.gone.extend(chunk.stored_slot());
            }
            if let Some(merged) = Chunk::merged(slot, &[&before, &last])? {
                self.chunks.push(merged);
            }
        }
        // Where rows come and go quickly the dead ones are not to wait for a snapshot.
        if self.chunks.iter().map(Chunk::len).sum::<usize>() > 2 * (self.live + CHUNK_ROWS) {
            self.compact()?;
        }
        Ok(())
    }

    /// Rewrites chunks of which most rows are gone.
    fn compact(&mut self) -> Result<()> {
        let is_thin =
            |chunk: &Chunk| chunk.live() == 0 || chunk.len() >= chunk.live() * 2 && chunk.len() - chunk.live() >= DEAD_ROWS;
        if !self.chunks.iter().any(is_thin) {
            return Ok(());
        }
        for chunk in std::mem::take(&mut self.chunks) {
            if !is_thin(&chunk) {
                self.chunks.push(chunk);
                continue;
            }
            self.gone.extend(chunk.stored_slot());
            let slot = self.new_slot();
            self.chunks.extend(Chunk::merged(slot, &[&chunk])?);
        }
        Ok(())
    }

    /// Adds what changed since the last snapshot to `delta`.
    pub(crate) fn snapshot(&mut self, delta: &mut StateDelta) -> Result<()> {
        self.compact()?;
        delta.changes.extend(self.gone.drain(..).map(|slot| (slot, SlotChange::Drop)));
        for index in 0..self.chunks.len() {
            let chunk = &self.chunks[index];
            let (change, merged_rows) = match chunk.unstored() {
                None => continue,
                Some(chunk::Unstored::All(rows)) => (SlotChange::Replace(self.state_batch(chunk, &rows)?), 0),
                Some(chunk::Unstored::Rows(rows)) => (SlotChange::Merge(self.state_batch(chunk, &rows)?), rows.len()),
            };
            delta.changes.push((chunk.slot.clone(), change));
            self.chunks[index].set_stored(merged_rows);
        }
        Ok(())
    }

    fn state_batch(&self, chunk: &Chunk, rows: &[u32]) -> Result<RecordBatch> {
        let taken = take_record_batch(&chunk.rows, &UInt32Array::from(rows.to_vec()))?;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt16Array::from(key_groups(&self.key_columns(&taken), rows.len())?)),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| chunk.id(*row as usize) as i64))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| chunk.weights[*row as usize]))),
        ];
        columns.extend(taken.columns().iter().cloned());
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }

    /// Whether a slot belongs to this arrangement.
    pub(crate) fn owns(&self, slot: &SlotId) -> bool {
        slot.0.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('-'))
    }

    /// Takes in stored chunks. Those of several lanes, whose rows or slots may have the same numbers, get new ones; all is to be
    /// written again then.
    /// # Errors
    /// `Corrupt` when the parts do not have the expected columns.
    pub(crate) fn restore(&mut self, parts: &[StatePart]) -> Result<()> {
        let mut chunks = vec![];
        for part in parts {
            let number = part.slot.0.rsplit('-').next().and_then(|number| number.parse::<u64>().ok());
            let number = number.ok_or_else(|| Error::corrupt(format!("state has a slot \"{}\"", part.slot)))?;
            self.next_chunk = self.next_chunk.max(number);
            let mut pieces = vec![];
            for batch in &part.batches {
                pieces.push(self.stored_rows(batch)?);
            }
            chunks.extend(Chunk::restored(part.slot.clone(), &self.schema, &pieces)?);
        }
        chunks.sort_by_key(Chunk::first);
        let is_slot_shared = chunks.iter().map(|chunk| &chunk.slot).collect::<HashSet<_>>().len() < chunks.len();
        if is_slot_shared || chunks.windows(2).any(|pair| pair[0].last() >= pair[1].first()) {
            chunks = Chunk::renumbered(&chunks, CHUNK_ROWS, &mut || self.new_slot())?;
        }
        self.next_row = chunks.last().map_or(0, |chunk| chunk.last() + 1);
        self.chunks = chunks;
        for index in 0..self.chunks.len() {
            let rows = self.chunks[index].rows.clone();
            let keys = self.keys_of(&rows)?;
            let whole = match &self.rows {
                Some((codec, _)) => Some(codec.encode(&all_columns(&rows), rows.num_rows())?),
                None => None,
            };
            for row in self.chunks[index].live_rows() {
                let id = self.chunks[index].id(row as usize);
                if self.is_indexed {
                    self.by_key.insert(keys.key(row as usize), id);
                }
                if let (Some((_, by_row)), Some(whole)) = (&mut self.rows, &whole) {
                    by_row.entry(xxhash_rust::xxh3::xxh3_64(whole.key(row as usize))).or_default().push(id);
                }
                self.live += 1;
            }
        }
        Ok(())
    }

    fn stored_rows(&self, batch: &RecordBatch) -> Result<chunk::StoredRows> {
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let (found, expected) = (types(batch.schema_ref()), types(&self.state_schema));
        if found != expected {
            return Err(Error::corrupt(format!("stored rows have columns {found:?} in place of {expected:?}")));
        }
        let int64 = |column: usize| batch.column(column).as_primitive::<Int64Type>().values().to_vec();
        let columns = batch.columns()[STATE_COLUMNS..].to_vec();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(chunk::StoredRows {
            ids: int64(1).into_iter().map(|id| id as u64).collect(),
            weights: int64(2),
            rows: RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?,
        })
    }

    pub(crate) fn mark_all_dirty(&mut self) {
        // Chunks of several lanes may have had slots of one name.
        for index in 0..self.chunks.len() {
            let slot = self.new_slot();
            self.chunks[index].set_unstored(slot);
        }
        self.gone.clear();
    }
}

fn all_columns(rows: &RecordBatch) -> Vec<ArrayRef> {
    rows.columns().iter().map(canonical_floats).collect()
}

#[cfg(test)]
mod tests;

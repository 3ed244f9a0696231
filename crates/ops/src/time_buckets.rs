//! Rows by time and key: what joins over time keep.
//!
//! Rows stand in buckets that are dropped whole, each an [`Arrangement`] with its hash index by key.
//!
//! State: the slots of the arrangements, `<name>/<bucket>-<number>`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_empty_array, new_null_array};
use arrow::compute::{interleave, take_record_batch};
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Error, Result};
use thalweg_state::{SlotChange, SlotId, StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};

/// The bucket of a row and its name there.
pub(crate) type Place = (i64, RowId);

pub(crate) struct TimeBuckets {
    /// Begins the names of the slots.
    name: &'static str,
    schema: SchemaRef,
    keys: Vec<usize>,
    buckets: BTreeMap<i64, Arrangement>,
    /// Stored slots of buckets that were dropped.
    gone: Vec<SlotId>,
}

impl TimeBuckets {
    /// # Errors
    /// `User` for keys that cannot be compared.
    pub(crate) fn new(name: &'static str, schema: &SchemaRef, keys: &[usize]) -> Result<Self> {
        Arrangement::new(name, schema, keys, false)?;
        Ok(TimeBuckets { name, schema: schema.clone(), keys: keys.to_vec(), buckets: BTreeMap::new(), gone: vec![] })
    }

    fn new_bucket(&self, bucket: i64) -> Result<Arrangement> {
        Arrangement::new(format!("{}/{bucket}", self.name), &self.schema, &self.keys, false)
    }

    /// Adds rows, each to its bucket; gives their places.
    pub(crate) fn add(&mut self, rows: &RecordBatch, bucket_of_row: &[i64]) -> Result<Vec<Place>> {
        let mut rows_of: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, bucket) in (0_u32..).zip(bucket_of_row) {
            rows_of.entry(*bucket).or_default().push(row);
        }
        let mut places = vec![(0, 0); rows.num_rows()];
        for (number, members) in rows_of {
            if !self.buckets.contains_key(&number) {
                let bucket = self.new_bucket(number)?;
                self.buckets.insert(number, bucket);
            }
            let own = match members.len() == rows.num_rows() {
                true => rows.clone(),
                false => take_record_batch(rows, &UInt32Array::from(members.clone()))?,
            };
            let bucket = self.buckets.get_mut(&number).expect("it was made above");
            let keys = bucket.keys_of(&own)?;
            let ids = bucket.apply(&Batch::append(own), &keys)?;
            bucket.tidy()?;
            for (row, id) in members.into_iter().zip(ids) {
                places[row as usize] = (number, id);
            }
        }
        Ok(places)
    }

    /// The rows of a key in some buckets, bucket by bucket, oldest first. Begins behind `from`, a bucket and how many rows of it
    /// are done, and adds at most `room` of them to `found`; returns where to go on if there may be more.
    pub(crate) fn of_key(
        &self,
        key: &[u8],
        buckets: RangeInclusive<i64>,
        from: (i64, usize),
        room: usize,
        found: &mut Vec<Place>,
    ) -> Option<(i64, usize)> {
        let end = found.len() + room;
        let first = from.0.max(*buckets.start());
        if first > *buckets.end() {
            return None;
        }
        for (number, bucket) in self.buckets.range(first..=*buckets.end()) {
            let ids = bucket.of_key(key);
            let done = if *number == from.0 { from.1 } else { 0 };
            let taken = (ids.len() - done).min(end - found.len());
            found.extend(ids[done..done + taken].iter().map(|id| (*number, *id)));
            if done + taken < ids.len() {
                return Some((*number, done + taken));
            }
        }
        None
    }

    /// Some columns of rows, in the order asked for; null where there is no row.
    pub(crate) fn gather(&self, places: &[Option<Place>], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let data_type = |column: &usize| self.schema.field(*column).data_type();
        if places.is_empty() {
            return Ok(columns.iter().map(|column| new_empty_array(data_type(column))).collect());
        }
        let mut ids_of: BTreeMap<i64, Vec<Option<RowId>>> = BTreeMap::new();
        for (bucket, id) in places.iter().flatten() {
            ids_of.entry(*bucket).or_default().push(Some(*id));
        }
        let has_null = places.contains(&None);
        if ids_of.is_empty() {
            return Ok(columns.iter().map(|column| new_null_array(data_type(column), places.len())).collect());
        }
        let pieces = ids_of.iter().map(|(number, ids)| self.buckets[number].gather(ids, columns)).collect::<Result<Vec<_>>>()?;
        if pieces.len() == 1 && !has_null {
            return Ok(pieces.into_iter().flatten().collect());
        }
        let piece_of: BTreeMap<i64, usize> = ids_of.keys().copied().zip(usize::from(has_null)..).collect();
        let mut next = vec![0; pieces.len() + 1];
        let from: Vec<(usize, usize)> = places
            .iter()
            .map(|place| match place {
                None => (0, 0),
                Some((bucket, _)) => {
                    let piece = piece_of[bucket];
                    next[piece] += 1;
                    (piece, next[piece] - 1)
                }
            })
            .collect();
        (0..columns.len())
            .map(|at| {
                let null = has_null.then(|| new_null_array(data_type(&columns[at]), 1));
                let arrays: Vec<&dyn Array> =
                    null.iter().map(AsRef::as_ref).chain(pieces.iter().map(|piece| piece[at].as_ref())).collect();
                Ok(interleave(&arrays, &from)?)
            })
            .collect()
    }

    /// Whether [`TimeBuckets::mark`] was called for a row.
    pub(crate) fn is_marked(&self, place: Place) -> bool {
        self.buckets[&place.0].weight(place.1) > 1
    }

    /// Notes one thing of a row, which is stored with it, as a weight of 2.
    pub(crate) fn mark(&mut self, place: Place) {
        if let Some(bucket) = self.buckets.get_mut(&place.0) {
            bucket.set_weight(place.1, 2);
        }
    }

    /// The numbers of the buckets, lowest first.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = i64> {
        self.buckets.keys().copied()
    }

    /// Takes a bucket out; its state is dropped.
    pub(crate) fn remove(&mut self, bucket: i64) -> Option<Arrangement> {
        let removed = self.buckets.remove(&bucket)?;
        self.gone.extend(removed.stored_slots());
        Some(removed)
    }

    /// All rows with their places, lowest bucket first, in order of arrival within it.
    pub(crate) fn rows(&self) -> Result<Vec<(RecordBatch, Vec<Place>)>> {
        let mut all = vec![];
        for (number, bucket) in &self.buckets {
            let chunks = bucket.live_chunks()?.into_iter();
            all.extend(chunks.map(|(rows, ids)| (rows, ids.into_iter().map(|id| (*number, id)).collect())));
        }
        Ok(all)
    }

    pub(crate) fn len(&self) -> usize {
        self.buckets.values().map(Arrangement::len).sum()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.buckets.values().map(Arrangement::size_bytes).sum()
    }

    /// Adds what changed since the last snapshot to `delta`.
    pub(crate) fn snapshot(&mut self, delta: &mut StateDelta) -> Result<()> {
        // A bucket may have come back under the name of one that was dropped, so drops come first.
        delta.changes.extend(self.gone.drain(..).map(|slot| (slot, SlotChange::Drop)));
        self.buckets.values_mut().try_for_each(|bucket| bucket.snapshot(delta))
    }

    /// Whether a slot belongs here.
    pub(crate) fn owns(&self, slot: &SlotId) -> bool {
        slot.0.strip_prefix(self.name).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Takes in those of the stored slots that belong here.
    /// # Errors
    /// `Corrupt` when the parts do not have the expected columns.
    pub(crate) fn restore(&mut self, parts: &[StatePart]) -> Result<()> {
        let mut parts_of: BTreeMap<i64, Vec<StatePart>> = BTreeMap::new();
        for part in parts.iter().filter(|part| self.owns(&part.slot)) {
            let name = part.slot.0[self.name.len() + 1..].rsplit_once('-');
            let number = name.and_then(|(bucket, _)| bucket.parse().ok());
            let number: i64 =
                number.ok_or_else(|| Error::corrupt(format!("the state of a join has a slot \"{}\"", part.slot)))?;
            parts_of.entry(number).or_default().push(part.clone());
        }
        for (number, parts) in parts_of {
            let mut bucket = self.new_bucket(number)?;
            bucket.restore(&parts)?;
            self.buckets.insert(number, bucket);
        }
        Ok(())
    }

    pub(crate) fn mark_all_dirty(&mut self) {
        self.buckets.values_mut().for_each(Arrangement::mark_all_dirty);
        self.gone.clear();
    }
}

/// Refuses slots that belong to neither side of a join.
pub(crate) fn check_slots(parts: &[StatePart], sides: [&TimeBuckets; 2]) -> Result<()> {
    match parts.iter().find(|part| !sides.iter().any(|side| side.owns(&part.slot))) {
        Some(part) => Err(Error::corrupt(format!("the state of a join has a slot \"{}\"", part.slot))),
        None => Ok(()),
    }
}

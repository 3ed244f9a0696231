//! OVER in the order of ordinary columns: a row that comes, or goes, changes the results of the rows behind it.
//!
//! Ordering: output follows input row by row, as in Flink: in the order of the partition, the row itself is added or taken back,
//! and the rows whose results changed come as updates. An added row keeps the mark of its input row, one taken back has none.
//!
//! Ties: by arrival; of equal rows the earliest is taken back. Under RANGE they share the values behind the last of them; RANK and
//! DENSE_RANK both count the rows up to there, as in Flink. ROW_NUMBER and LAG go row by row.
//!
//! Late rows: there are none, time plays no part. Watermarks pass through. If input rows carry watermarks each change carries that
//! of the row that caused it.
//!
//! State: an [`Arrangement`] `rows` with all rows. A row goes when it is taken back. A row behind all others of its partition costs
//! little; any other row costs as much as its partition is long.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{concat, interleave};
use arrow::datatypes::{FieldRef, SchemaRef};
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{Frame, Over, OverCall, RankFunction, SortKey};
use thalweg_state::{StateDelta, StatePart};

use super::call::{Calls, Passing};
use crate::arrangement::{Arrangement, RowId};
use crate::changes::{CameBehind, Changes, is_update, repeated};
use crate::key_codec::KeyCodec;
use crate::row_hash::{RowHash, RowHasher};
use crate::running::{Items, canonical_floats};
use crate::sort_order::{Place, SortOrder};
use crate::unmatched::Unmatched;
use crate::{Operator, OperatorMetrics, Output};

pub(super) struct OverColumnsOperator {
    order: SortOrder,
    /// Rows before the current one; `None`: all.
    preceding: Option<usize>,
    /// Whether rows of equal order share results.
    shares: bool,
    /// Whether the results shared are those behind the last of the rows.
    is_range: bool,
    calls: Calls,
    /// Results as bytes, to see which changed.
    results_codec: KeyCodec,
    hasher: RowHasher,
    rows: Arrangement,
    unmatched: Unmatched,
    partitions: HashMap<Box<[u8]>, Partition>,
    /// Numbers of accumulators, and those of them that are free.
    numbers: usize,
    free: Vec<usize>,
    width: usize,
    output_schema: SchemaRef,
    batch_rows: usize,
}

/// Rows in their order, equal ones by arrival.
struct Partition {
    rows: Vec<Entry>,
    /// The accumulators are behind the last row.
    number: usize,
}

#[derive(Clone)]
struct Entry {
    place: Place,
    id: RowId,
    hash: RowHash,
}

/// A change of one row of a partition.
enum Change {
    Insert(Entry, bool),
    Remove(usize),
}

/// Output as it is collected.
struct Collected {
    ids: Vec<Option<RowId>>,
    changes: Changes,
    /// By call, one array behind the other.
    results: Vec<Vec<ArrayRef>>,
}

/// Rows that are added one after the other behind the last of their partitions.
struct Appended {
    passing: Passing,
    marks: Vec<(bool, Option<CameBehind>)>,
}

impl OverColumnsOperator {
    /// # Errors
    /// `User` for columns that cannot be compared, `Internal` for a frame that needs a time.
    pub(super) fn new(node: &Over, order: &[SortKey], input: &SchemaRef, output: SchemaRef, batch_rows: usize) -> Result<Self> {
        let results: Vec<FieldRef> = node.calls.iter().map(|call| call.output().clone()).collect();
        let preceding = match node.frame {
            Frame::Rows { preceding } => preceding.map(|rows| usize::try_from(rows).unwrap_or(usize::MAX)),
            Frame::Range { preceding_ms: None } => None,
            Frame::Range { preceding_ms: Some(_) } => return Err(Error::internal("RANGE with a distance needs a time")),
        };
        let is_range = matches!(node.frame, Frame::Range { .. });
        let ranks = |call: &OverCall| matches!(call, OverCall::Rank(RankFunction::Rank | RankFunction::DenseRank, _));
        Ok(OverColumnsOperator {
            order: SortOrder::new(order, input)?,
            preceding,
            shares: is_range || node.calls.iter().any(ranks),
            is_range,
            calls: Calls::new(&node.calls, input, preceding.is_some(), Items::MadeAgain)?,
            results_codec: KeyCodec::new(&results)?,
            hasher: RowHasher::new(input)?,
            rows: Arrangement::unindexed("rows", input, &node.partition)?,
            unmatched: Unmatched::default(),
            partitions: HashMap::new(),
            numbers: 0,
            free: vec![],
            width: input.fields().len(),
            output_schema: output,
            batch_rows: batch_rows.max(1),
        })
    }

    fn new_number(&mut self) -> usize {
        let number = self.free.pop().unwrap_or_else(|| {
            self.numbers += 1;
            self.numbers - 1
        });
        self.calls.resize(self.numbers);
        number
    }

    /// The steps that bring row `at` into its frame.
    fn enter(&self, rows: &[Entry], at: usize, number: usize, is_wanted: bool, passing: &mut Passing) {
        if let Some(old) = self.preceding.and_then(|preceding| at.checked_sub(preceding.saturating_add(1))) {
            passing.leave(rows[old].id, number);
        }
        passing.enter(rows[at].id, number, is_wanted);
    }

    fn show(&self, rows: &[Entry], at: usize, peers_end: usize, passing: &mut Passing) {
        let lag = |offset: u64| at.checked_sub(usize::try_from(offset).ok()?).map(|before| rows[before].id);
        passing.show(&self.calls, rows[at].id, at as i64 + 1, peers_end as i64, lag);
    }

    /// The results of the rows of a partition from `start` on. Leaves the accumulators behind the last row.
    fn compute(&mut self, rows: &[Entry], number: usize, start: usize) -> Result<Vec<ArrayRef>> {
        let mut passing = Passing::new(&self.calls);
        let mut at = 0;
        for peers in rows.chunk_by(|one, other| one.place == other.place) {
            let (first, end) = (at, at + peers.len());
            for row in first..end {
                let is_last = row + 1 == end;
                self.enter(rows, row, number, row >= start && (is_last || !self.is_range), &mut passing);
                if !self.is_range && row >= start {
                    self.show(rows, row, end, &mut passing);
                }
            }
            if self.is_range {
                (first.max(start)..end).for_each(|row| self.show(rows, row, end, &mut passing));
            }
            at = end;
        }
        self.calls.clear(number);
        let results = self.calls.take(&self.rows, &passing, &|_| "a partition of OVER".to_string())?;
        self.calls.columns(&self.rows, &passing, &results, 0..passing.ids.len())
    }

    /// Whether a row with this place comes behind all others and leaves their results alone.
    fn is_append(&self, rows: &[Entry], place: &[u8]) -> bool {
        rows.last().is_none_or(|last| *last.place < *place || (!self.shares && *last.place == *place))
    }

    /// Takes one row in or out, with all that follows from it.
    fn change(&mut self, partition: &mut Partition, change: Change, collected: &mut Collected) -> Result<()> {
        let rows = &mut partition.rows;
        let (position, place) = match &change {
            Change::Insert(entry, _) => (rows.partition_point(|row| *row.place <= *entry.place), entry.place.clone()),
            Change::Remove(position) => (*position, rows[*position].place.clone()),
        };
        let start = if self.shares { rows.partition_point(|row| *row.place < *place) } else { position };
        let old = self.compute(rows, partition.number, start)?;
        let old_rows = rows.len() - start;
        let (is_insert, mark, changed) = match change {
            Change::Insert(entry, mark) => {
                rows.insert(position, entry.clone());
                (true, mark, entry)
            }
            Change::Remove(position) => (false, false, rows.remove(position)),
        };
        let new = self.compute(rows, partition.number, start)?;
        let canonical = |columns: &[ArrayRef]| columns.iter().map(canonical_floats).collect::<Vec<_>>();
        let old_bytes = self.results_codec.encode(&canonical(&old), old_rows)?;
        let new_bytes = self.results_codec.encode(&canonical(&new), rows.len() - start)?;
        let mut places = vec![];
        let mut push = |id: RowId, place: (usize, usize), weight: i64, mark: bool| {
            collected.ids.push(Some(id));
            collected.changes.push(weight, mark);
            places.push(place);
        };
        let split = position - start;
        for at in 0..old_rows.max(rows.len() - start) {
            if at == split {
                push(changed.id, (usize::from(is_insert), at), if is_insert { 1 } else { -1 }, mark);
                continue;
            }
            // Where the row is behind the change, its place without the row that came or went.
            let shift = usize::from(at > split);
            let (before, after) = if is_insert { (at - shift, at) } else { (at, at - shift) };
            if old_bytes.key(before) != new_bytes.key(after) {
                let id = rows[start + after].id;
                push(id, (0, before), -1, true);
                push(id, (1, after), 1, true);
            }
        }
        for ((results, old), new) in collected.results.iter_mut().zip(&old).zip(&new) {
            results.push(interleave(&[old.as_ref(), new.as_ref()], &places)?);
        }
        Ok(())
    }

    /// Computes the results of rows that were appended.
    fn settle(&mut self, appended: &mut Appended, collected: &mut Collected) -> Result<()> {
        let passing = std::mem::replace(&mut appended.passing, Passing::new(&self.calls));
        let marks = std::mem::take(&mut appended.marks);
        if marks.is_empty() {
            return Ok(());
        }
        let results = self.calls.take(&self.rows, &passing, &|_| "a partition of OVER".to_string())?;
        let columns = self.calls.columns(&self.rows, &passing, &results, 0..marks.len())?;
        for (results, column) in collected.results.iter_mut().zip(columns) {
            results.push(column);
        }
        collected.ids.extend(passing.ids.iter().map(|id| Some(*id)));
        for (mark, cause) in marks {
            collected.changes.set_cause(cause);
            collected.changes.push(1, mark);
        }
        Ok(())
    }

    /// For changes that rows of `batch` cause.
    fn new_collected(&self, batch: &Batch) -> Collected {
        let results = vec![vec![]; self.output_schema.fields().len() - self.width];
        Collected { ids: vec![], changes: Changes::caused_by(batch), results }
    }

    fn emit(&self, collected: Collected, out: &mut Output) -> Result<()> {
        if collected.ids.is_empty() {
            return Ok(());
        }
        let mut columns = self.rows.gather(&collected.ids, &(0..self.width).collect::<Vec<_>>())?;
        for results in &collected.results {
            columns.push(concat(&results.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?);
        }
        let batch = collected.changes.into_batch(&self.output_schema, columns)?;
        for offset in (0..batch.num_rows()).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(batch.num_rows() - offset)));
        }
        Ok(())
    }

    fn take_in(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let keys = self.rows.keys_of(&batch.rows)?;
        let places = self.order.places(&batch.rows)?;
        let hashes = self.hasher.hashes(&batch.rows)?;
        let is_added = (0..batch.num_rows()).map(|row| Some(batch.weight(row) > 0)).collect();
        let added = batch.filter(&is_added)?;
        let added_keys = self.rows.keys_of(&added.rows)?;
        let mut ids = self.rows.apply(&Batch::append(added.rows), &added_keys)?.into_iter();
        let mut collected = self.new_collected(batch);
        let mut appended = Appended { passing: Passing::new(&self.calls), marks: vec![] };
        let mut gone = vec![];
        for (row, hash) in hashes.into_iter().enumerate() {
            let (key, place) = (keys.key(row), places.of(row));
            let cause = CameBehind::row(batch, row);
            let mut partition = match self.partitions.remove(key) {
                Some(partition) => partition,
                None => Partition { rows: vec![], number: self.new_number() },
            };
            if let Some(id) = if batch.weight(row) > 0 { ids.next() } else { None } {
                let entry = Entry { place: Arc::from(place), id, hash };
                let mark = is_update(batch, row);
                if self.is_append(&partition.rows, place) {
                    partition.rows.push(entry);
                    let at = partition.rows.len() - 1;
                    self.enter(&partition.rows, at, partition.number, true, &mut appended.passing);
                    self.show(&partition.rows, at, at + 1, &mut appended.passing);
                    appended.marks.push((mark, cause));
                } else {
                    self.settle(&mut appended, &mut collected)?;
                    collected.changes.set_cause(cause);
                    self.change(&mut partition, Change::Insert(entry, mark), &mut collected)?;
                }
            } else {
                let first = partition.rows.partition_point(|entry| *entry.place < *place);
                let peers = partition.rows[first..].iter().take_while(|entry| *entry.place == *place);
                let position = peers.enumerate().find(|(_, entry)| entry.hash == hash).map(|(at, _)| first + at);
                if let Some(position) = position {
                    self.settle(&mut appended, &mut collected)?;
                    collected.changes.set_cause(cause);
                    gone.push(partition.rows[position].id);
                    self.change(&mut partition, Change::Remove(position), &mut collected)?;
                } else {
                    self.unmatched.note(|| self.rows.not_there(batch, row))?;
                }
            }
            if partition.rows.is_empty() {
                self.calls.clear(partition.number);
                self.free.push(partition.number);
            } else {
                self.partitions.insert(key.into(), partition);
            }
            if collected.ids.len() + appended.marks.len() >= self.batch_rows {
                self.settle(&mut appended, &mut collected)?;
                let full = std::mem::replace(&mut collected, self.new_collected(batch));
                self.emit(full, out)?;
            }
        }
        self.settle(&mut appended, &mut collected)?;
        self.emit(collected, out)?;
        gone.into_iter().for_each(|id| self.rows.remove(id, &[]));
        self.rows.tidy()
    }
}

impl Operator for OverColumnsOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        self.take_in(&repeated(batch)?, out)
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn ignore_unmatched(&mut self) {
        self.unmatched.ignore();
    }

    fn forget(&mut self, key: &[u8]) -> Result<()> {
        if let Some(partition) = self.partitions.remove(key) {
            partition.rows.iter().for_each(|row| self.rows.remove(row.id, &[]));
            self.calls.clear(partition.number);
            self.free.push(partition.number);
        }
        self.rows.tidy()
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.rows.restore(&parts)?;
        let mut restored: HashMap<Box<[u8]>, Vec<Entry>> = HashMap::new();
        let mut order: Vec<Box<[u8]>> = vec![];
        for (rows, ids) in self.rows.live_chunks()? {
            let keys = self.rows.keys_of(&rows)?;
            let places = self.order.places(&rows)?;
            for ((row, id), hash) in ids.into_iter().enumerate().zip(self.hasher.hashes(&rows)?) {
                let entries = restored.entry_ref(keys.key(row)).or_insert_with(|| {
                    order.push(keys.key(row).into());
                    vec![]
                });
                entries.push(Entry { place: places.of(row).into(), id, hash });
            }
        }
        for key in order {
            let mut rows = restored.remove(&key).unwrap_or_default();
            // Rows came in order of arrival.
            rows.sort_by(|one, other| one.place.cmp(&other.place));
            let number = self.new_number();
            self.compute(&rows, number, rows.len())?;
            self.partitions.insert(key, Partition { rows, number });
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        let entries = self.rows.len() * (size_of::<Entry>() + 32);
        OperatorMetrics {
            late_rows: 0,
            unmatched_rows: self.unmatched.rows(),
            state_bytes: (self.rows.size_bytes() + entries + self.calls.size_bytes()) as u64,
            state_rows: self.rows.len() as u64,
        }
    }
}

//! Aggregates and ranks with OVER, in the order of event time or of arrival.
//!
//! Ordering: by event time rows wait until the watermark reaches them and come out by time; those of one time partition by
//! partition, in the order of arrival of their first rows, and in order of arrival within a partition. By arrival each row comes
//! out at once. Output is append-only. (An order of other columns is the business of [`columns`].)
//!
//! Ties, as in Flink: under RANGE, rows of one time in one partition share the values behind the last of them; LAG too, so that
//! it may show a row of their own group, and RANK and DENSE_RANK, which both count the rows up to the last of the group. ROWS
//! and ROW_NUMBER go row by row. By arrival no two rows are alike.
//!
//! Late rows: each row is judged by its own watermark, if it has one, or by the operator's where that is ahead. An unbounded
//! frame drops what is at or behind it. A bounded one drops only what is at or before the last time that its partition has let
//! pass; other late rows are kept and wait for the next watermark. Dropped rows are counted. Where the planner wants it rows carry
//! the watermark before the one that lets them pass (`Over::stamps_rows`): in time order for rows in time, later for late ones.
//!
//! Forgetting: as in Flink each row that comes makes a partition of a RANGE of `d` milliseconds last until the watermark is one and
//! a half `d` behind it, unless it lasts for `d` already. Then the partition is forgotten, its last time too, and a late row that
//! comes begins it anew. A moment at which it would have been forgotten, had no row come, counts as a time that it let pass. So it
//! matters behind which watermark each row came: the planner has sources note it. Only late rows find it so: rows in time share one
//! partition, because a slower source may still need what a faster one has left behind. Partitions whose rows are numbered or whom LAG
//! looks back in stay.
//!
//! State: an [`Arrangement`] `rows` with the rows that wait and those that a frame or LAG still needs, each with the watermark
//! that lets it pass and the birth of its partition; a slot `partitions`, `[key_group, keys…, birth, rows, last_time,
//! split_time, cleared_time, life, cleanups, is_gone, accumulators…]`: of a key and birth the last row holds; of bounded frames only
//! the accumulators whose state depends on what was in the frame before, the others are made again from its rows; of unbounded ones
//! values that there may be many of have [`item_slots`](crate::item_slots). And the watermark.
//!
//! Source of the semantics: Flink 2.3, recorded cases over/*.

mod call;
mod columns;
mod partition;
mod partitions;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{Frame, Over, OverCall, OverOrder};
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::repeated;
use crate::event_times::event_times;
use crate::key_codec::EncodedKeys;
use crate::running::{Items, canonical_floats};
use crate::stored_watermark::StoredWatermark;
use crate::{Operator, OperatorContext, OperatorMetrics, Output};
use call::{Calls, Passing, Step};
use columns::OverColumnsOperator;
use partition::{Partition, Peers, Waiting, is_unbounded};
use partitions::Partitions;

/// Rows that are read at once to make accumulators again after a restore.
const RESTORE_ROWS: usize = 8_192;

pub(crate) struct OverOperator {
    /// `None`: by arrival.
    time_column: Option<usize>,
    time_name: String,
    frame: Frame,
    stamps_rows: bool,
    calls: Calls,
    /// How far back a frame reaches whose partition is forgotten behind it.
    forgets_ms: Option<i64>,
    /// For each aggregate whether its state is stored.
    stored_calls: Vec<bool>,
    rows: Arrangement,
    partition_columns: Vec<usize>,
    partitions: Partitions,
    /// Partitions by the lowest watermark that lets one of their rows pass.
    queue: BinaryHeap<Reverse<(i64, usize)>>,
    /// Partitions, with their births, by the watermark that forgets them.
    to_forget: BinaryHeap<Reverse<(i64, usize, i64)>>,
    watermark: StoredWatermark,
    late_rows: u64,
    width: usize,
    /// Of the largest row so far, about.
    row_bytes: usize,
    /// The input's columns, the watermark that lets a row pass, the birth of its partition.
    stored_schema: SchemaRef,
    output_schema: SchemaRef,
    batch_rows: usize,
}

/// Creates the operator of a node.
/// # Errors
/// `User` when an aggregate does not take its argument or the frame needs a clock, `Internal` when the schemas do not belong to
/// the node.
pub(crate) fn create(node: &Over, input: &SchemaRef, output: SchemaRef, context: &OperatorContext) -> Result<Box<dyn Operator>> {
    if output.fields().len() != input.fields().len() + node.calls.len() {
        return Err(Error::internal("OVER gives its input's columns and its calls"));
    }
    match &node.order {
        OverOrder::EventTime(column) => Ok(Box::new(OverOperator::new(node, Some(*column), input, output, context)?)),
        OverOrder::Arrival if matches!(node.frame, Frame::Range { preceding_ms: Some(_) }) => {
            Err(Error::user("RANGE with a distance over processing time is not there yet")
                .with_help("order by an event time, or frame by ROWS"))
        }
        OverOrder::Arrival => Ok(Box::new(OverOperator::new(node, None, input, output, context)?)),
        OverOrder::Columns(order) => Ok(Box::new(OverColumnsOperator::new(node, order, input, output, context.batch_rows)?)),
    }
}

/// The instants before others.
fn before(instants: &Int64Array) -> Int64Array {
    Int64Array::from_iter_values(instants.values().iter().map(|instant| instant.saturating_sub(1)))
}

fn is_aggregate(call: &OverCall) -> bool {
    matches!(call, OverCall::Aggregate(_))
}

impl OverOperator {
    fn new(
        node: &Over,
        time_column: Option<usize>,
        input: &SchemaRef,
        output: SchemaRef,
        context: &OperatorContext,
    ) -> Result<Self> {
        let is_unbounded = is_unbounded(node.frame);
        let items = if is_unbounded { Items::Stored } else { Items::MadeAgain };
        let mut calls = Calls::new(&node.calls, input, !is_unbounded, items)?;
        let stored_calls: Vec<bool> = calls.depend_on_the_past().into_iter().map(|depends| depends || is_unbounded).collect();
        let mut stored: Vec<_> = input.fields().iter().cloned().collect();
        stored.extend(["passes_at", "birth"].map(|name| Arc::new(Field::new(name, DataType::Int64, false))));
        let stored_schema: SchemaRef = Arc::new(Schema::new(stored));
        Ok(OverOperator {
            time_column,
            time_name: time_column.map(|column| input.field(column).name().clone()).unwrap_or_default(),
            frame: node.frame,
            stamps_rows: node.stamps_rows,
            forgets_ms: match node.frame {
                Frame::Range { preceding_ms } if node.calls.iter().all(is_aggregate) => preceding_ms,
                _ => None,
            },
            rows: Arrangement::unindexed("rows", &stored_schema, &node.partition)?,
            partition_columns: node.partition.clone(),
            partitions: Partitions::new(&node.partition, input, &mut calls, &stored_calls, is_unbounded)?,
            calls,
            stored_calls,
            queue: BinaryHeap::new(),
            to_forget: BinaryHeap::new(),
            watermark: StoredWatermark::new(context.key_groups.clone()),
            late_rows: 0,
            width: input.fields().len(),
            row_bytes: 0,
            stored_schema,
            output_schema: output,
            batch_rows: context.batch_rows.max(1),
        })
    }

    fn keys_of(&self, rows: &RecordBatch) -> Result<EncodedKeys> {
        let columns: Vec<ArrayRef> = self.partition_columns.iter().map(|column| canonical_floats(rows.column(*column))).collect();
        self.partitions.encode(&columns, rows.num_rows())
    }

    /// The partition of a row, or `None` if the row comes too late. `watermark` is what it is judged by.
    fn admit(&mut self, key: &[u8], time: i64, watermark: i64) -> Option<usize> {
        let is_late = time <= watermark;
        if is_late && is_unbounded(self.frame) {
            return None;
        }
        let number = match self.partitions.find(key) {
            None => self.partitions.add(key),
            // Rows in time share one partition, whatever a faster source says: a row that is late there begins it anew.
            Some(number) if is_late => {
                let partition = self.partitions.get(number);
                let is_forgotten = partition.is_forgotten_at(watermark);
                if !is_forgotten && time <= partition.last_known_time_at(watermark) {
                    return None;
                }
                if is_forgotten || time < partition.cleared_time { self.follow(number, watermark) } else { number }
            }
            Some(number) => number,
        };
        self.outlive(number, time, watermark);
        Some(number)
    }

    /// A new partition in place of one that `watermark` forgets, with the rows that it does not let pass yet.
    fn follow(&mut self, number: usize, watermark: i64) -> usize {
        let next = self.partitions.follow(number, watermark);
        for number in [number, next] {
            let partition = self.partitions.get(number);
            self.to_forget.extend(partition.cleanups.last().map(|cleanup| Reverse((cleanup.at, number, partition.birth))));
        }
        self.enqueue(next);
        next
    }

    /// Sees to it that a partition lasts for the frames that a row can be in.
    fn outlive(&mut self, number: usize, time: i64, watermark: i64) {
        let Some(distance) = self.forgets_ms else {
            return;
        };
        if let Some(cleanup) = self.partitions.get_mut(number).outlive(time, watermark, distance) {
            let birth = self.partitions.change(number).birth;
            self.to_forget.push(Reverse((cleanup.at, number, birth)));
        }
    }

    /// Puts a row into its partition, to wait there.
    fn wait(&mut self, number: usize, row: Waiting) {
        self.partitions.get_mut(number).wait(row);
        self.enqueue(number);
    }

    fn enqueue(&mut self, number: usize) {
        let partition = self.partitions.get_mut(number);
        if let Some(first) = partition.waiting.front().filter(|first| first.passes_at < partition.queued_at) {
            partition.queued_at = first.passes_at;
            self.queue.push(Reverse((first.passes_at, number)));
        }
    }

    /// Adds rows to those that are kept.
    fn keep(&mut self, rows: &RecordBatch, passes_at: Vec<i64>, births: Vec<i64>) -> Result<Vec<RowId>> {
        let mut columns = rows.columns().to_vec();
        columns.extend([passes_at, births].map(|numbers| Arc::new(Int64Array::from(numbers)) as ArrayRef));
        let rows = Batch::append(RecordBatch::try_new(self.stored_schema.clone(), columns)?);
        let keys = self.rows.keys_of(&rows.rows)?;
        self.rows.apply(&rows, &keys)
    }

    /// Lets rows pass, in order, and sends them.
    fn pass_all(&mut self, groups: &[Peers], out: &mut Output) -> Result<()> {
        let mut start = 0;
        while start < groups.len() {
            let limit = self.calls.rows_at_once(self.batch_rows, self.row_bytes);
            let mut passing = Passing::new(&self.calls);
            let mut gone = vec![];
            while let Some(peers) = groups.get(start).filter(|_| passing.ids.len() < limit) {
                let partition = self.partitions.change(peers.partition);
                partition.pass(peers.partition, peers, self.frame, &self.calls, &mut passing, &mut gone);
                start += 1;
            }
            self.emit(&passing, out)?;
            gone.into_iter().for_each(|id| self.rows.remove(id, &[]));
        }
        self.rows.tidy()
    }

    fn emit(&mut self, passing: &Passing, out: &mut Output) -> Result<()> {
        self.calls.resize(self.partitions.capacity());
        let partitions = &self.partitions;
        let results = self.calls.take(&self.rows, passing, &|number| partitions.describe(number))?;
        // Peers share one result, which each of them shows.
        let limit = self.calls.rows_at_once(self.batch_rows, self.row_bytes);
        for start in (0..passing.ids.len()).step_by(limit) {
            let range = start..passing.ids.len().min(start + limit);
            let ids: Vec<Option<RowId>> = passing.ids[range.clone()].iter().map(|id| Some(*id)).collect();
            let mut columns = self.rows.gather(&ids, &(0..=self.width).collect::<Vec<_>>())?;
            let passes_at = columns.pop().ok_or_else(|| Error::internal("a row has no watermark that lets it pass"))?;
            let row_watermarks = self.stamps_rows.then(|| before(passes_at.as_primitive()));
            columns.extend(self.calls.columns(&self.rows, passing, &results, range)?);
            let rows = RecordBatch::try_new(self.output_schema.clone(), columns)?;
            out.push(Batch { row_watermarks, ..Batch::append(rows) });
        }
        Ok(())
    }

    fn by_arrival(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let keys = self.keys_of(&batch.rows)?;
        let number = |row: usize| self.partitions.find(keys.key(row)).unwrap_or_else(|| self.partitions.add(keys.key(row)));
        let numbers: Vec<usize> = (0..batch.num_rows()).map(number).collect();
        let births = numbers.iter().map(|number| self.partitions.get(*number).birth).collect();
        let ids = self.keep(&batch.rows, vec![0; batch.num_rows()], births)?;
        let groups: Vec<Peers> =
            numbers.into_iter().zip(ids).map(|(partition, id)| Peers { partition, time: 0, ids: vec![id] }).collect();
        self.pass_all(&groups, out)
    }

    fn by_time(&mut self, batch: &Batch, time_column: usize) -> Result<()> {
        let keys = self.keys_of(&batch.rows)?;
        let times = event_times(batch.column(time_column), &self.time_name)?;
        let watermarks = self.watermark.before_rows(batch.row_watermarks.as_ref(), batch.num_rows());
        let first = self.rows.next_id();
        let (mut kept, mut passes, mut births) = (vec![], vec![], vec![]);
        for (row, (time, watermark)) in times.values().iter().copied().zip(watermarks).enumerate() {
            let Some(number) = self.admit(keys.key(row), time, watermark) else {
                self.late_rows += 1;
                continue;
            };
            // A late row passes with the next watermark: this one has been handled already.
            let passes_at = time.max(watermark.saturating_add(1));
            self.wait(number, Waiting { time, id: first + kept.len() as RowId, passes_at });
            kept.push(row as u32);
            passes.push(passes_at);
            births.push(self.partitions.get(number).birth);
        }
        let rows = if kept.len() == batch.num_rows() { batch.clone() } else { batch.take(&UInt32Array::from(kept))? };
        self.keep(&rows.rows, passes, births)?;
        self.rows.tidy()
    }

    /// The rows that the watermark lets pass, in the order in which they come out.
    fn passing_by(&mut self, watermark: i64) -> Vec<Peers> {
        let mut ready: Vec<(i64, RowId, usize)> = vec![];
        while let Some(Reverse((passes_at, number))) = self.queue.peek().copied().filter(|Reverse((at, _))| *at <= watermark) {
            self.queue.pop();
            if self.partitions.if_there(number).is_none_or(|partition| partition.queued_at != passes_at) {
                continue;
            }
            let partition = self.partitions.get_mut(number);
            ready.extend(partition.take_passing(watermark).map(|row| (row.time, row.id, number)));
            partition.queued_at = i64::MAX;
            self.enqueue(number);
        }
        ready.sort_unstable();
        let mut groups: Vec<Peers> = vec![];
        let mut places: HashMap<usize, usize> = HashMap::new();
        for same_time in ready.chunk_by(|one, other| one.0 == other.0) {
            places.clear();
            for (time, id, partition) in same_time.iter().copied() {
                let place = *places.entry(partition).or_insert(groups.len());
                if place == groups.len() {
                    groups.push(Peers { partition, time, ids: vec![] });
                }
                groups[place].ids.push(id);
            }
        }
        groups
    }

    /// Forgets the partitions that the watermark has left behind.
    fn forget_behind(&mut self, watermark: i64) {
        while let Some(Reverse((_, number, birth))) = self.to_forget.peek().copied().filter(|Reverse((at, ..))| *at <= watermark)
        {
            self.to_forget.pop();
            let is_meant = |partition: &Partition| partition.birth == birth && partition.is_forgotten_at(watermark);
            let Some(partition) = self.partitions.if_there(number).filter(|partition| is_meant(partition)) else {
                continue;
            };
            if let Some(last) = partition.waiting.back() {
                // Of several sources: one has gone on so far, another has not.
                self.to_forget.push(Reverse((last.passes_at, number, birth)));
                continue;
            }
            self.drop_partition(number);
        }
    }

    fn drop_partition(&mut self, number: usize) {
        if let Some(partition) = self.partitions.remove(number) {
            partition.passed.iter().for_each(|(_, id)| self.rows.remove(*id, &[]));
            self.calls.resize(self.partitions.capacity());
            self.calls.clear(number);
        }
    }

    /// Makes the accumulators again whose states are not stored, from the rows of the frames.
    fn restore_accumulators(&mut self) -> Result<()> {
        if is_unbounded(self.frame) {
            return Ok(());
        }
        let mut steps: Vec<Step> = vec![];
        for number in self.partitions.numbers() {
            let partition = self.partitions.get(number);
            let first = partition.passed.len() - partition.in_frame;
            steps.extend(partition.passed.iter().skip(first).map(|(_, id)| Step { row: *id, partition: number, weight: 1 }));
        }
        steps.chunks(RESTORE_ROWS).try_for_each(|steps| self.calls.absorb(&self.rows, steps, &self.stored_calls))
    }
}

impl Operator for OverOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = repeated(batch)?;
        if let Some(row) = (0..batch.num_rows()).find(|row| batch.weight(*row) < 0) {
            return Err(self.rows.not_there(&batch, row));
        }
        self.row_bytes = self.row_bytes.max(batch.size_bytes() / batch.num_rows().max(1));
        match self.time_column {
            None => self.by_arrival(&batch, out),
            Some(time_column) => self.by_time(&batch, time_column),
        }
    }

    fn on_watermark(&mut self, _port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.watermark.advance(watermark);
        if self.time_column.is_none() {
            return Ok(());
        }
        let groups = self.passing_by(watermark.0);
        if !groups.is_empty() {
            self.pass_all(&groups, out)?;
        }
        self.forget_behind(watermark.0);
        Ok(())
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        input.max(self.watermark.now())
    }

    fn forget(&mut self, key: &[u8]) -> Result<()> {
        // Rows that wait for the watermark are not lost: their partition goes another time.
        let idle = self.partitions.find(key).filter(|number| self.partitions.get(*number).waiting.is_empty());
        if let Some(number) = idle {
            self.drop_partition(number);
        }
        self.rows.tidy()
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        self.calls.resize(self.partitions.capacity());
        self.partitions.snapshot(&mut self.calls, epoch, &mut delta)?;
        if self.time_column.is_some() {
            self.watermark.snapshot(&mut delta)?;
        }
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let (rows, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| self.rows.owns(&part.slot));
        let (watermarks, partitions): (Vec<_>, Vec<_>) = others.into_iter().partition(|part| self.watermark.owns(&part.slot));
        watermarks.iter().try_for_each(|part| self.watermark.restore(part))?;
        let of_key = self.partitions.restore(&partitions, &mut self.calls)?;
        self.calls.resize(self.partitions.capacity());
        self.rows.restore(&rows)?;
        for (rows, ids) in self.rows.live_chunks()? {
            let keys = self.keys_of(&rows)?;
            let times = match self.time_column {
                Some(column) => event_times(rows.column(column), &self.time_name)?,
                None => Int64Array::from(vec![0; rows.num_rows()]),
            };
            let [passes_at, births] = [0, 1].map(|column| rows.column(self.width + column).as_primitive::<Int64Type>());
            for (row, id) in ids.into_iter().enumerate() {
                let time = times.value(row);
                // Rows that had not passed were handed on from partition to partition.
                let is_own = |number: &&usize| {
                    let partition = self.partitions.get(**number);
                    partition.birth >= births.value(row) && time <= partition.split_time
                };
                let number = of_key.get(keys.key(row)).and_then(|numbers| numbers.iter().find(is_own));
                let number = *number.ok_or_else(|| Error::corrupt("a row of OVER is of no stored partition"))?;
                let partition = self.partitions.get_mut(number);
                if self.time_column.is_some() && time > partition.last_time {
                    partition.wait(Waiting { time, id, passes_at: passes_at.value(row) });
                } else {
                    partition.passed.push_back((time, id));
                }
            }
        }
        for number in self.partitions.numbers() {
            let partition = self.partitions.get_mut(number);
            partition.find_frame(self.frame);
            if let Some(cleanup) = partition.cleanups.last() {
                self.to_forget.push(Reverse((cleanup.at, number, partition.birth)));
            }
            self.enqueue(number);
        }
        self.restore_accumulators()
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
        self.partitions.mark_all_dirty();
        self.watermark.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: self.late_rows,
            unmatched_rows: 0,
            state_bytes: (self.rows.size_bytes() + self.calls.size_bytes() + self.partitions.size_bytes()) as u64,
            state_rows: (self.rows.len() + self.partitions.len()) as u64,
        }
    }
}

#[cfg(test)]
mod tests;

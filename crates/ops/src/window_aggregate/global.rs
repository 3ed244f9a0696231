//! The phase behind the exchange.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Int64Type;
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, Error, EventTime, KeyGroup, Result};
use thalweg_plan::WindowKind;
use thalweg_state::{SlotChange, SlotId, StateDelta, StatePart};

use super::bucket::{Bucket, BucketId};
use super::group_table::GroupTable;
use super::hop_blocks::{HopBlocks, Piece};
use super::lateness::first_open_end;
use super::layout::WindowAggregateLayout;
use crate::event_times::constant_times;
use crate::local_time::LocalTime;
use crate::window_bounds::WindowBounds;
use crate::{Operator, OperatorContext, OperatorMetrics, Output};

/// The slot that holds the watermark.
const WATERMARK_SLOT: &str = "watermark";

/// Keeps partial states by slice and sends each window once, when the watermark reaches its last instant.
///
/// Input: `partial_schema`. Output: the node's rows, `[keys…, aggregates…, window_start, window_end, window_time]`, windows in
/// order of their ends, keys of a window in order of arrival, at most `batch_rows` in a batch.
///
/// A window is sent if it holds rows; a CUMULATE window also at each later step, changed or not. Partial states count in the
/// windows from `eligible_from` on that have not been sent. What comes after all of its windows were sent (possible when a
/// partition was idle) is dropped and its rows counted as late.
///
/// State: one slot `<slice_end>/<eligible_from>` per bucket, freed with the last window that holds it; of its rows the last of
/// a key holds. And the slot `watermark`: which windows were sent cannot be told from the sources' watermarks after a restart,
/// as the operator's may have been ahead of the least of them while a partition was idle.
pub struct GlobalWindowAggregate {
    layout: WindowAggregateLayout,
    bounds: WindowBounds,
    local_time: LocalTime,
    batch_rows: usize,
    key_groups: Range<KeyGroup>,
    /// Never goes back: all windows whose last instant is at or before it were sent.
    watermark: EventTime,
    stored_watermark: EventTime,
    buckets: BTreeMap<BucketId, Bucket>,
    /// Slots that the store has and we do not.
    freed: Vec<SlotId>,
    /// HOP: slices merged ahead. Derived from the buckets.
    hop_blocks: HopBlocks,
    /// CUMULATE: by window start, all that was sent at its last step. Derived from the buckets.
    running: HashMap<i64, GroupTable>,
    late_rows: u64,
}

impl GlobalWindowAggregate {
    pub(crate) fn new(layout: WindowAggregateLayout, context: &OperatorContext) -> Result<Self> {
        let bounds = WindowBounds::new(&layout.window);
        Ok(GlobalWindowAggregate {
            local_time: LocalTime::new(&layout.window.zone)?,
            bounds,
            batch_rows: context.batch_rows.max(1),
            key_groups: context.key_groups.clone(),
            watermark: EventTime::MIN,
            stored_watermark: EventTime::MIN,
            buckets: BTreeMap::new(),
            freed: vec![],
            hop_blocks: HopBlocks::new(bounds),
            running: HashMap::new(),
            layout,
            late_rows: 0,
        })
    }

    /// The first window end of the slice, from `from` on, that has not been sent.
    fn first_open(&self, slice_end: i64, from: i64) -> Option<i64> {
        first_open_end(&self.bounds, &self.local_time, slice_end, from, self.watermark.0)
    }

    /// Merges partial rows that have one slice and one first window.
    fn merge(&mut self, slice_end: i64, eligible_from: i64, partial: &RecordBatch) -> Result<()> {
        let groups = self.layout.groups_of_partial(partial);
        let Some(eligible_from) = self.first_open(slice_end, eligible_from) else {
            self.late_rows += groups.rows.values().iter().sum::<i64>().unsigned_abs();
            return Ok(());
        };
        let bucket = match self.buckets.entry(BucketId { slice_end, eligible_from }) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Bucket::new(&self.layout, eligible_from)?),
        };
        bucket.table.merge(&groups)
    }

    /// The end of the next window with rows, by local time.
    fn next_end(&self) -> Option<i64> {
        let mut next: Option<i64> = None;
        for (id, bucket) in &self.buckets {
            // Windows of this bucket, and of all behind it, end with its slice or later.
            if next.is_some_and(|next| next < id.slice_end) {
                break;
            }
            next = Some(next.map_or(bucket.next_end, |next| next.min(bucket.next_end)));
        }
        next
    }

    /// Sends the window that ends at `end`, and moves its buckets on to their next windows.
    fn fire(&mut self, end: i64, out: &mut Output) -> Result<()> {
        let members: Vec<BucketId> = self
            .buckets
            .iter()
            .take_while(|(id, _)| id.slice_end <= end)
            .filter(|(_, bucket)| bucket.next_end == end)
            .map(|(id, _)| *id)
            .collect();
        match (self.layout.window.kind, members.as_slice()) {
            (WindowKind::Tumble { .. } | WindowKind::Hop { .. }, [only]) => self.emit(&self.buckets[only].table, end, out)?,
            (WindowKind::Tumble { .. }, members) => {
                let mut merged = GroupTable::new(&self.layout)?;
                self.merge_buckets(&mut merged, members)?;
                self.emit(&merged, end, out)?;
            }
            (WindowKind::Hop { .. }, members) => self.fire_hop(end, members, out)?,
            (WindowKind::Cumulate { .. }, members) => self.fire_cumulate(end, members, out)?,
        }
        // Windows are sent in order of their ends, so no other needs a slice before those of the next one.
        let next = end.saturating_add(self.bounds.end_step());
        self.hop_blocks.forget_before(self.first_slice(next) - 1);
        for id in members {
            match self.bounds.next_end(id.slice_end, end) {
                Some(next) => self.buckets.get_mut(&id).expect("a member is a bucket").next_end = next,
                None => self.free(id),
            }
        }
        Ok(())
    }

    /// The number of the first slice of the window that ends at `end`; slices are named by their ends.
    fn first_slice(&self, end: i64) -> i64 {
        self.bounds.slice_index(self.bounds.start(end)) + 1
    }

    fn fire_hop(&mut self, end: i64, members: &[BucketId], out: &mut Output) -> Result<()> {
        let slices = self.first_slice(end)..self.bounds.slice_index(end) + 1;
        let pieces = self.hop_blocks.pieces(&self.layout, &self.buckets, slices)?;
        let mut merged = GroupTable::new(&self.layout)?;
        for piece in pieces {
            match piece {
                Piece::Bucket(id) => self.merge_buckets(&mut merged, &[id])?,
                Piece::Block(block) => {
                    let table = self.hop_blocks.table(block).ok_or_else(|| Error::internal("a merged slice is gone"))?;
                    merged.merge(&table.columns(None)?)?;
                }
            }
        }
        let late: Vec<BucketId> =
            members.iter().filter(|id| id.eligible_from != self.bounds.first_end(id.slice_end)).copied().collect();
        self.merge_buckets(&mut merged, &late)?;
        self.emit(&merged, end, out)
    }

    fn fire_cumulate(&mut self, end: i64, members: &[BucketId], out: &mut Output) -> Result<()> {
        let start = self.bounds.start(end);
        // Each bucket joins at its first window. After a restart all join at once.
        let (mut running, joining): (GroupTable, Vec<BucketId>) = match self.running.remove(&start) {
            Some(running) => (running, members.iter().filter(|id| id.eligible_from == end).copied().collect()),
            None => (GroupTable::new(&self.layout)?, members.to_vec()),
        };
        self.merge_buckets(&mut running, &joining)?;
        self.emit(&running, end, out)?;
        if members.iter().any(|id| self.bounds.next_end(id.slice_end, end).is_some()) {
            self.running.insert(start, running);
        }
        Ok(())
    }

    fn merge_buckets(&self, table: &mut GroupTable, ids: &[BucketId]) -> Result<()> {
        ids.iter().try_for_each(|id| table.merge(&self.buckets[id].table.columns(None)?))
    }

    fn emit(&self, table: &GroupTable, end: i64, out: &mut Output) -> Result<()> {
        let (start, last_instant) = (self.bounds.start(end), self.local_time.last_instant_before(end));
        let mut columns = table.results(&self.layout, end)?;
        for ms in [start, end, last_instant] {
            let data_type = self.layout.output_schema.field(columns.len()).data_type();
            columns.push(constant_times(data_type, ms, table.len())?);
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.layout.output_schema), columns)?;
        for offset in (0..rows.num_rows()).step_by(self.batch_rows) {
            let length = self.batch_rows.min(rows.num_rows() - offset);
            out.push(Batch::append(rows.slice(offset, length)));
        }
        Ok(())
    }

    fn free(&mut self, id: BucketId) {
        if self.buckets.remove(&id).is_some_and(|bucket| bucket.is_stored()) {
            self.freed.push(id.slot());
        }
    }

    fn restore_watermark(&mut self, part: &StatePart) -> Result<()> {
        // All lanes have handled the same watermarks at a barrier. The last batch holds, as every change replaces the slot.
        if let Some(batch) = part.batches.last()
            && let Some(watermark) = self.layout.watermark_of_batch(batch)?
        {
            self.watermark = self.watermark.max(watermark);
            self.stored_watermark = self.watermark;
        }
        Ok(())
    }
}

impl Operator for GlobalWindowAggregate {
    fn on_batch(&mut self, _port: usize, batch: Batch, _out: &mut Output) -> Result<()> {
        let rows = &batch.rows;
        let column = |at: usize| rows.column(at).as_primitive::<Int64Type>().values();
        let (slice_ends, eligible_from) = (column(0), column(1));
        // The rows of each pane, panes in order of arrival.
        let mut panes: Vec<((i64, i64), Vec<u32>)> = vec![];
        let mut numbers: HashMap<(i64, i64), usize> = HashMap::new();
        for (row, pane) in (0_u32..).zip(slice_ends.iter().copied().zip(eligible_from.iter().copied())) {
            let number = *numbers.entry(pane).or_insert_with(|| {
                panes.push((pane, vec![]));
                panes.len() - 1
            });
            panes[number].1.push(row);
        }
        if let [((slice_end, eligible_from), _)] = panes.as_slice() {
            return self.merge(*slice_end, *eligible_from, rows);
        }
        for ((slice_end, eligible_from), chosen) in panes {
            self.merge(slice_end, eligible_from, &take_record_batch(rows, &UInt32Array::from(chosen))?)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        while let Some(end) = self.next_end()
            && self.local_time.last_instant_before(end) <= watermark.0
        {
            self.fire(end, out)?;
        }
        self.watermark = self.watermark.max(watermark);
        Ok(())
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        input.max(self.watermark)
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        delta.changes.extend(self.freed.drain(..).map(|slot| (slot, SlotChange::Drop)));
        for (id, bucket) in &mut self.buckets {
            if let Some(change) = bucket.snapshot(&self.layout)? {
                delta.changes.push((id.slot(), change));
            }
        }
        if self.watermark != self.stored_watermark {
            let batch = self.layout.watermark_batch(self.key_groups.clone(), self.watermark)?;
            delta.changes.push((SlotId(WATERMARK_SLOT.to_string()), SlotChange::Replace(batch)));
            self.stored_watermark = self.watermark;
        }
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        // The watermark first: it says which windows the buckets still have.
        let (watermarks, buckets): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.slot.0 == WATERMARK_SLOT);
        watermarks.iter().try_for_each(|part| self.restore_watermark(part))?;
        for part in buckets {
            if part.batches.iter().all(|batch| batch.num_rows() == 0) {
                continue;
            }
            let id = BucketId::from_slot(&part.slot)?;
            let next_end = self.first_open(id.slice_end, id.eligible_from).ok_or_else(|| {
                Error::corrupt(format!("window state has slot \"{}\", all of whose windows were sent", part.slot))
            })?;
            let bucket = match self.buckets.entry(id) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Bucket::new(&self.layout, next_end)?),
            };
            bucket.restore(&self.layout, &part)?;
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.buckets.values_mut().for_each(Bucket::forget_stored);
        self.freed.clear();
        // No watermark is below this one, so the next snapshot writes ours if there is one.
        self.stored_watermark = EventTime::MIN;
    }

    fn metrics(&self) -> OperatorMetrics {
        let tables = || self.buckets.values().map(|bucket| &bucket.table).chain(self.running.values());
        OperatorMetrics {
            late_rows: self.late_rows,
            unmatched_rows: 0,
            state_bytes: (tables().map(GroupTable::size_bytes).sum::<usize>() + self.hop_blocks.size_bytes()) as u64,
            state_rows: self.buckets.values().map(|bucket| bucket.table.len()).sum::<usize>() as u64,
        }
    }
}

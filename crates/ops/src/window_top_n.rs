//! Top-N and deduplication within windows.
//!
//! Emits once for each window, when the watermark reaches its last instant: windows in order of that instant; their
//! partitions by first arrival, rows by rank. Ties: earlier arrival first, or the latest where the newest
//! row by event time is wanted.
//!
//! Late rows: those of windows that the row's own watermark or the operator's has closed; dropped and counted.
//!
//! State: an [`Arrangement`] for each last instant, `w<ms>`, with the rows that are in range so far; dropped whole when sent. And the
//! watermark.

use std::collections::BTreeMap;

use arrow::array::BooleanArray;
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::WindowTopN;
use thalweg_state::{SlotChange, SlotId, StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::append_only;
use crate::event_times::event_times;
use crate::sort_order::SortOrder;
use crate::stored_watermark::{StoredWatermark, without_watermark};
use crate::top_n::{Partition, Ranked, Ranking, ranked_batch};
use crate::{Operator, OperatorContext, OperatorMetrics, Output};

pub(crate) struct WindowTopNOperator {
    node: WindowTopN,
    /// Partition columns and the bounds of the window.
    keys: Vec<usize>,
    order: SortOrder,
    ranking: Ranking,
    windows: BTreeMap<i64, Window>,
    /// Stored slots of windows that were sent.
    gone: Vec<SlotId>,
    watermark: StoredWatermark,
    late_rows: u64,
    input_schema: SchemaRef,
    output_schema: SchemaRef,
    time_name: String,
    batch_rows: usize,
}

struct Window {
    rows: Arrangement,
    partitions: HashMap<Box<[u8]>, Partition>,
    /// Keys of the partitions in the order in which they came.
    arrivals: Vec<Box<[u8]>>,
}

impl Window {
    fn partition(&mut self, key: &[u8]) -> &mut Partition {
        if !self.partitions.contains_key(key) {
            self.arrivals.push(key.into());
        }
        self.partitions.entry_ref(key).or_default()
    }
}

impl WindowTopNOperator {
    /// # Errors
    /// `User` for columns that cannot be compared, `Internal` when the schemas do not belong to the node.
    pub(crate) fn new(node: &WindowTopN, input: &SchemaRef, output: SchemaRef, context: &OperatorContext) -> Result<Self> {
        if output.fields().len() != input.fields().len() + usize::from(node.output_rank) {
            return Err(Error::internal("Top-N gives its input's columns and the rank"));
        }
        Ok(WindowTopNOperator {
            keys: node.partition.iter().copied().chain([node.window.start, node.window.end]).collect(),
            order: SortOrder::new(&node.order, input)?,
            ranking: Ranking { function: node.function, range: node.range, with_rank: true, updates_first: false },
            windows: BTreeMap::new(),
            gone: vec![],
            watermark: StoredWatermark::new(context.key_groups.clone()),
            late_rows: 0,
            input_schema: input.clone(),
            output_schema: output,
            time_name: input.field(node.window.time).name().clone(),
            batch_rows: context.batch_rows.max(1),
            node: node.clone(),
        })
    }

    fn window(&mut self, time: i64) -> Result<&mut Window> {
        Ok(match self.windows.entry(time) {
            std::collections::btree_map::Entry::Occupied(window) => window.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(Window {
                rows: Arrangement::new(format!("w{time}"), &self.input_schema, &self.keys, false)?,
                partitions: HashMap::new(),
                arrivals: vec![],
            }),
        })
    }

    /// Rows of one window.
    fn take_in(&mut self, time: i64, batch: &Batch) -> Result<()> {
        let places = self.order.places(&batch.rows)?;
        let limit = self.ranking.rows_kept();
        let window = self.window(time)?;
        let keys = window.rows.keys_of(&batch.rows)?;
        let enters = |row: usize| match (limit, window.partitions.get(keys.key(row))) {
            (Some(limit), Some(partition)) => partition.may_enter(places.of(row), limit),
            _ => true,
        };
        let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(enters(row))).collect();
        let kept: Vec<usize> = (0..batch.num_rows()).filter(|row| mask.value(*row)).collect();
        let kept_batch = Batch::append(batch.filter(&mask)?.rows);
        let kept_keys = window.rows.keys_of(&kept_batch.rows)?;
        let ids = window.rows.apply(&kept_batch, &kept_keys)?;
        let mut gone: Vec<(RowId, usize)> = vec![];
        let ranking = Ranking { ..self.ranking };
        let newest_first = self.node.newest_first;
        let window = self.window(time)?;
        for (row, id) in kept.into_iter().zip(ids) {
            let place = place_of(newest_first, places.of(row), id);
            let partition = window.partition(keys.key(row));
            partition.add(&place, id);
            partition.cut(&ranking, |id| gone.push((id, row)));
        }
        for (id, row) in gone {
            window.rows.remove(id, keys.key(row));
        }
        window.rows.tidy()
    }

    fn fire(&mut self, window: &Window, out: &mut Output) -> Result<()> {
        let mut ranked = Ranked::default();
        for key in &window.arrivals {
            let Some(partition) = window.partitions.get(key) else { continue };
            for (id, rank) in partition.in_range(&self.ranking) {
                ranked.push(id, rank, 1, false);
            }
        }
        let batch = ranked_batch(&window.rows, &self.input_schema, &self.output_schema, ranked)?;
        for offset in (0..batch.num_rows()).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(batch.num_rows() - offset)));
        }
        Ok(())
    }
}

/// The place of a row: of equal ones the older is in front, or the newer.
fn place_of(newest_first: bool, place: &[u8], id: RowId) -> Vec<u8> {
    let mut place = place.to_vec();
    if newest_first {
        place.extend_from_slice(&(RowId::MAX - id).to_be_bytes());
    }
    place
}

impl Operator for WindowTopNOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, _out: &mut Output) -> Result<()> {
        let batch = append_only(batch)?;
        let times = event_times(batch.column(self.node.window.time), &self.time_name)?;
        let watermarks = self.watermark.before_rows(batch.row_watermarks.as_ref(), batch.num_rows());
        let late: Vec<bool> = times.values().iter().zip(watermarks).map(|(time, watermark)| *time <= watermark).collect();
        self.late_rows += late.iter().filter(|late| **late).count() as u64;
        let mut wanted: Vec<i64> = times.values().iter().zip(&late).filter(|(_, late)| !**late).map(|(time, _)| *time).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for time in wanted {
            let mask: BooleanArray =
                times.values().iter().zip(&late).map(|(other, late)| Some(*other == time && !late)).collect();
            let rows = if mask.true_count() == batch.num_rows() { batch.clone() } else { batch.filter(&mask)? };
            self.take_in(time, &rows)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.watermark.advance(watermark);
        while let Some((time, _)) = self.windows.first_key_value().filter(|(time, _)| **time <= watermark.0) {
            let time = *time;
            let window = self.windows.remove(&time).expect("it is there");
            self.fire(&window, out)?;
            self.gone.extend(window.rows.stored_slots());
        }
        Ok(())
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        input.max(self.watermark.now())
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        delta.changes.extend(self.gone.drain(..).map(|slot| (slot, SlotChange::Drop)));
        self.windows.values_mut().try_for_each(|window| window.rows.snapshot(&mut delta))?;
        self.watermark.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let mut by_window: BTreeMap<i64, Vec<StatePart>> = BTreeMap::new();
        for part in without_watermark(parts, &mut self.watermark)? {
            let time = part.slot.0.rsplit_once('-').and_then(|(name, _)| name.strip_prefix('w')?.parse().ok());
            let time: i64 = time.ok_or_else(|| Error::corrupt(format!("window state has a slot \"{}\"", part.slot)))?;
            by_window.entry(time).or_default().push(part);
        }
        for (time, parts) in by_window {
            self.window(time)?.rows.restore(&parts)?;
            for (rows, ids) in self.window(time)?.rows.live_chunks()? {
                let places = self.order.places(&rows)?;
                let newest_first = self.node.newest_first;
                let window = self.window(time)?;
                let keys = window.rows.keys_of(&rows)?;
                for (row, id) in ids.into_iter().enumerate() {
                    let place = place_of(newest_first, places.of(row), id);
                    window.partition(keys.key(row)).add(&place, id);
                }
            }
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.windows.values_mut().for_each(|window| window.rows.mark_all_dirty());
        self.watermark.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: self.late_rows,
            unmatched_rows: 0,
            state_bytes: self.windows.values().map(|window| window.rows.size_bytes() as u64).sum(),
            state_rows: self.windows.values().map(|window| window.rows.len() as u64).sum(),
        }
    }
}

#[cfg(test)]
mod tests;

//! For tests of operators: the lanes of a job, and a store that they are restored from.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::UInt16Type;
use thalweg_core::{Batch, Epoch, EventTime, LaneId, Result, key_groups_of_lane, lane_of_key_group};
use thalweg_state::{SlotChange, SlotId, StateDelta, StatePart};

use crate::{Operator, OperatorContext, Output, partition_by_lane};

/// What a store gives back of one lane: of each slot the last Replace and the Merges behind it.
#[derive(Clone, Default)]
pub(crate) struct Store {
    slots: BTreeMap<SlotId, Vec<RecordBatch>>,
}

impl Store {
    /// # Panics
    /// When a slot is merged into or dropped that is not there.
    pub(crate) fn apply(&mut self, delta: StateDelta) {
        for (slot, change) in delta.changes {
            match change {
                SlotChange::Replace(rows) => drop(self.slots.insert(slot, vec![rows])),
                SlotChange::Merge(rows) => self.slots.get_mut(&slot).expect("a slot to merge into").push(rows),
                SlotChange::Drop => drop(self.slots.remove(&slot).expect("a slot to drop")),
            }
        }
    }

    /// The rows of the key groups that lane `lane` of `lanes` owns.
    pub(crate) fn parts(&self, lane: u32, lanes: u32) -> Vec<StatePart> {
        let own = |rows: &RecordBatch| {
            let groups = rows.column(0).as_primitive::<UInt16Type>();
            let own: BooleanArray = groups.values().iter().map(|group| Some(lane_of_key_group(*group, lanes) == lane)).collect();
            arrow::compute::filter_record_batch(rows, &own).unwrap()
        };
        self.slots
            .iter()
            .map(|(slot, batches)| StatePart { slot: slot.clone(), batches: batches.iter().map(own).collect() })
            .collect()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.keys().map(|slot| slot.0.as_str())
    }
}

type Make<'a> = Box<dyn Fn(&OperatorContext) -> Box<dyn Operator> + 'a>;

/// Instances of one operator, each with its share of the key groups.
pub(crate) struct Lanes<'a> {
    make: Make<'a>,
    /// The columns by which each input comes to the lanes.
    exchanges: Vec<Vec<usize>>,
    pub(crate) operators: Vec<Box<dyn Operator>>,
    stores: Vec<Store>,
    watermark: EventTime,
    late_rows_before: u64,
    epoch: u64,
}

/// Rows in an output batch of these operators.
pub(crate) const BATCH_ROWS: usize = 3;

impl<'a> Lanes<'a> {
    /// `keys`: the key columns of the exchange in front.
    pub(crate) fn new(make: &'a dyn Fn(&OperatorContext) -> Box<dyn Operator>, keys: Vec<usize>) -> Self {
        Lanes::of_inputs(Box::new(make), vec![keys])
    }

    pub(crate) fn of_inputs(make: Make<'a>, exchanges: Vec<Vec<usize>>) -> Self {
        let (watermark, stores) = (EventTime::MIN, vec![Store::default()]);
        let mut lanes = Lanes { make, exchanges, operators: vec![], stores, watermark, late_rows_before: 0, epoch: 0 };
        lanes.operators.push(lanes.operator(0, 1));
        lanes
    }

    fn operator(&self, lane: u32, lanes: u32) -> Box<dyn Operator> {
        let key_groups = key_groups_of_lane(lane, lanes);
        (self.make)(&OperatorContext { lane: LaneId(lane), lanes, key_groups, batch_rows: BATCH_ROWS, ignores_unmatched: false })
    }

    /// What comes out for a batch, lane by lane.
    pub(crate) fn on_batch(&mut self, batch: &Batch) -> Result<Vec<Batch>> {
        self.on_batch_of(0, batch)
    }

    /// As [`Lanes::on_batch`], for one of several inputs.
    pub(crate) fn on_batch_of(&mut self, port: usize, batch: &Batch) -> Result<Vec<Batch>> {
        let mut batches = vec![];
        let shares = partition_by_lane(batch, &self.exchanges[port], self.operators.len() as u32)?;
        for (operator, share) in self.operators.iter_mut().zip(shares) {
            if let Some(share) = share {
                let mut out = Output::default();
                operator.on_batch(port, share, &mut out)?;
                batches.append(&mut drained(operator, out)?);
            }
        }
        Ok(batches)
    }

    /// What comes out for a watermark; nothing for one that does not advance, as in a job.
    pub(crate) fn on_watermark(&mut self, watermark: i64) -> Result<Vec<Batch>> {
        if watermark <= self.watermark.0 {
            return Ok(vec![]);
        }
        self.watermark = EventTime(watermark);
        self.on_watermark_of(0, self.watermark)
    }

    /// What comes out for a watermark of one of several inputs.
    pub(crate) fn on_watermark_of(&mut self, port: usize, watermark: EventTime) -> Result<Vec<Batch>> {
        let mut batches = vec![];
        for operator in &mut self.operators {
            let mut out = Output::default();
            operator.on_watermark(port, watermark, &mut out)?;
            batches.append(&mut drained(operator, out)?);
        }
        Ok(batches)
    }

    pub(crate) fn snapshot(&mut self) -> Result<()> {
        self.epoch += 1;
        for (operator, store) in self.operators.iter_mut().zip(&mut self.stores) {
            store.apply(operator.snapshot(Epoch(self.epoch))?);
        }
        Ok(())
    }

    /// Stops behind a snapshot and goes on with as many lanes.
    pub(crate) fn restart(&mut self, lanes: u32) -> Result<()> {
        self.snapshot()?;
        self.late_rows_before = self.late_rows();
        let is_rescaled = lanes as usize != self.operators.len();
        let mut operators = vec![];
        for lane in 0..lanes {
            let mut parts: Vec<StatePart> = self.stores.iter().flat_map(|store| store.parts(lane, lanes)).collect();
            // As the store gives them: slot by slot, lane by lane, without what is empty.
            parts.iter_mut().for_each(|part| part.batches.retain(|batch| batch.num_rows() > 0));
            parts.retain(|part| !part.batches.is_empty());
            parts.sort_by(|one, other| one.slot.cmp(&other.slot));
            let mut operator = self.operator(lane, lanes);
            operator.restore(parts)?;
            if is_rescaled {
                operator.mark_all_dirty();
            }
            operators.push(operator);
        }
        self.operators = operators;
        if is_rescaled {
            self.stores = vec![Store::default(); lanes as usize];
        }
        Ok(())
    }

    pub(crate) fn late_rows(&self) -> u64 {
        self.late_rows_before + self.operators.iter().map(|operator| operator.metrics().late_rows).sum::<u64>()
    }

    /// Slots in the store.
    pub(crate) fn slots(&self) -> Vec<String> {
        self.stores.iter().flat_map(Store::names).map(str::to_string).collect()
    }
}

/// All that an operator gives after a call.
fn drained(operator: &mut Box<dyn Operator>, mut out: Output) -> Result<Vec<Batch>> {
    let mut batches = std::mem::take(&mut out.batches);
    while operator.resume(&mut out)? {
        batches.append(&mut out.batches);
    }
    assert!(out.batches.is_empty(), "an operator tells that it had more");
    Ok(batches)
}

/// `+I 1 ann -`: the mark and the values of each row.
pub(crate) fn lines(batches: &[Batch]) -> Vec<String> {
    let line = |batch: &Batch, row: usize| {
        let values = batch.rows.columns().iter().map(|column| match column.is_null(row) {
            true => "-".to_string(),
            false => arrow::util::display::array_value_to_string(column, row).unwrap(),
        });
        format!("{} {}", batch.kind(row).mark(), values.collect::<Vec<_>>().join(" "))
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| line(batch, row))).collect()
}

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
}

impl Store {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.keys().map(|slot| slot.0.as_str())
    }
}

/// Instances of one operator, each with its share of the key groups.
pub(crate) struct Lanes<'a> {
    make: &'a dyn Fn(&OperatorContext) -> Box<dyn Operator>,
    /// Key columns of the exchange in front.
    keys: Vec<usize>,
    pub(crate) operators: Vec<Box<dyn Operator>>,
    stores: Vec<Store>,
    watermark: EventTime,
    pub(crate) late_rows: u64,
}

/// Rows in an output batch of these operators.
pub(crate) const BATCH_ROWS: usize = 3;

impl<'a> Lanes<'a> {
    pub(crate) fn new(make: &'a dyn Fn(&OperatorContext) -> Box<dyn Operator>, keys: Vec<usize>) -> Self {
        let mut lanes = Lanes { make, keys, operators: vec![], stores: vec![], watermark: EventTime::MIN, late_rows: 0 };
        lanes.operators.push(lanes.operator(0, 1));
        lanes.stores.push(Store::default());
        lanes
    }

    fn operator(&self, lane: u32, lanes: u32) -> Box<dyn Operator> {
        let key_groups = key_groups_of_lane(lane, lanes);
        (self.make)(&OperatorContext { lane: LaneId(lane), lanes, key_groups, batch_rows: BATCH_ROWS, ignores_unmatched: false })
    }

    /// What comes out for a batch, lane by lane.
    pub(crate) fn on_batch(&mut self, batch: &Batch) -> Result<Vec<Batch>> {
        let mut batches = vec![];
        for (operator, share) in self.operators.iter_mut().zip(partition_by_lane(batch, &self.keys, self.stores.len() as u32)?) {
            let mut out = Output::default();
            if let Some(share) = share {
                operator.on_batch(0, share, &mut out)?;
                while operator.resume(&mut out)? {}
            }
            batches.append(&mut out.batches);
        }
        Ok(batches)
    }

    /// What comes out for a watermark; nothing for one that does not advance, as in a job.
    pub(crate) fn on_watermark(&mut self, watermark: i64) -> Result<Vec<Batch>> {
        let mut out = Output::default();
        if watermark > self.watermark.0 {
            self.watermark = EventTime(watermark);
            for operator in &mut self.operators {
                operator.on_watermark(0, self.watermark, &mut out)?;
            }
        }
        Ok(out.batches)
    }

    pub(crate) fn snapshot(&mut self) -> Result<()> {
        for (operator, store) in self.operators.iter_mut().zip(&mut self.stores) {
            store.apply(operator.snapshot(Epoch(1))?);
        }
        Ok(())
    }

    /// Stops behind a snapshot and goes on with as many lanes.
    pub(crate) fn restart(&mut self, lanes: u32) -> Result<()> {
        self.snapshot()?;
        self.late_rows += self.operators.iter().map(|operator| operator.metrics().late_rows).sum::<u64>();
        let is_rescaled = lanes as usize != self.operators.len();
        let mut operators = vec![];
        for lane in 0..lanes {
            let mut operator = self.operator(lane, lanes);
            operator.restore(self.stores.iter().flat_map(|store| store.parts(lane, lanes)).collect())?;
            if is_rescaled {
                operator.mark_all_dirty();
            }
            operators.push(operator);
        }
        self.operators = operators;
        if is_rescaled {
            self.stores = (0..lanes).map(|_| Store::default()).collect();
        }
        Ok(())
    }

    pub(crate) fn late_rows(&self) -> u64 {
        self.late_rows + self.operators.iter().map(|operator| operator.metrics().late_rows).sum::<u64>()
    }

    /// Slots in the store.
    pub(crate) fn slots(&self) -> Vec<String> {
        self.stores.iter().flat_map(Store::names).map(str::to_string).collect()
    }
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

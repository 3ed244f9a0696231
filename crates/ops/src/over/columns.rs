//! OVER in the order of ordinary columns: a row that comes changes the results of the rows behind it.
//!
//! Ordering: output follows input row by row. For each input row the rows of its partition are computed anew; those whose results
//! changed come as updates, in their order, then the row itself is added (or taken back). Ties: equal rows by arrival; under
//! RANGE they share the value behind the last of them.
//!
//! Late rows: there are none, time plays no part. Watermarks pass through.
//!
//! State: an [`Arrangement`] `rows` with all rows. A row goes when it is taken back. An input row costs as much as its partition
//! is long.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{FieldRef, SchemaRef};
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, EventTime, Result};
use thalweg_plan::{Frame, Over, SortKey};
use thalweg_state::{StateDelta, StatePart};

use super::Passing;
use super::call::{Calls, Step};
use crate::arrangement::{Arrangement, RowId};
use crate::changes::{Changes, without_zeros};
use crate::key_codec::KeyCodec;
use crate::running::canonical_floats;
use crate::sort_order::{Place, SortOrder};
use crate::{Operator, OperatorMetrics, Output};

pub(super) struct OverColumnsOperator {
    order: SortOrder,
    frame: Frame,
    calls: Calls,
    /// Results as bytes, to see which changed.
    results_codec: KeyCodec,
    rows: Arrangement,
    partitions: HashMap<Box<[u8]>, Vec<(Place, RowId)>>,
    width: usize,
    output_schema: SchemaRef,
}

impl OverColumnsOperator {
    pub(super) fn new(node: &Over, order: &[SortKey], input: &SchemaRef, output: SchemaRef, _batch_rows: usize) -> Result<Self> {
        let results: Vec<FieldRef> = node.calls.iter().map(|call| call.output().clone()).collect();
        Ok(OverColumnsOperator {
            order: SortOrder::new(order, input)?,
            frame: node.frame,
            calls: Calls::new(&node.calls, input, true)?,
            results_codec: KeyCodec::new(&results)?,
            rows: Arrangement::new("rows", input, &node.partition, node.input_updating)?,
            partitions: HashMap::new(),
            width: input.fields().len(),
            output_schema: output,
        })
    }

    /// The results of all rows of a partition, in order.
    fn compute(&mut self, rows: &[(Place, RowId)]) -> Result<Vec<ArrayRef>> {
        let mut passing = Passing { lags: vec![vec![]; self.calls.lags().len()], ..Passing::default() };
        let mut start = 0;
        let mut dense = 0;
        while start < rows.len() {
            let peers = rows[start..].iter().take_while(|(place, _)| *place == rows[start].0).count();
            let end = start + peers;
            dense += 1;
            for at in start..end {
                passing.steps.push(Step { row: rows[at].1, partition: 0, weight: 1 });
                if let Frame::Rows { preceding: Some(preceding) } = self.frame
                    && let Some(old) = at.checked_sub(usize::try_from(preceding).unwrap_or(usize::MAX).saturating_add(1))
                {
                    passing.steps.push(Step { row: rows[old].1, partition: 0, weight: -1 });
                }
                passing.ids.push(rows[at].1);
                passing.shown.push(passing.steps.len() as u32 - 1);
                passing.ranks[0].push(at as i64 + 1);
                passing.ranks[1].push(start as i64 + 1);
                passing.ranks[2].push(dense);
            }
            if matches!(self.frame, Frame::Range { .. }) {
                let last = passing.steps.len() as u32 - 1;
                passing.shown[start..end].fill(last);
            }
            for (call, offset) in self.calls.lags().iter().enumerate() {
                let at = usize::try_from(*offset).ok().and_then(|offset| (end - 1).checked_sub(offset));
                passing.lags[call].extend(std::iter::repeat_n(at.map(|at| rows[at].1), peers));
            }
            start = end;
        }
        self.calls.resize(1);
        self.calls.clear(0);
        self.calls.results(&self.rows, &passing)
    }

    /// What changes when a partition goes from `before` to `after`.
    fn changes(&mut self, before: &[(Place, RowId)], after: &[(Place, RowId)], out: &mut Output) -> Result<()> {
        let (old, new) = (self.compute(before)?, self.compute(after)?);
        let old_bytes = self.results_codec.encode(&old.iter().map(canonical_floats).collect::<Vec<_>>(), before.len())?;
        let new_bytes = self.results_codec.encode(&new.iter().map(canonical_floats).collect::<Vec<_>>(), after.len())?;
        let mut ids = vec![];
        let mut from = vec![];
        let mut changes = Changes::default();
        let mut push = |id: RowId, row: usize, weight: i64, mark: bool| {
            ids.push(Some(id));
            from.push(row as u32);
            changes.push(weight, mark);
        };
        let (mut at_old, mut at_new) = (0, 0);
        while at_old < before.len() || at_new < after.len() {
            match (before.get(at_old), after.get(at_new)) {
                (Some(one), Some(other)) if one == other => {
                    if old_bytes.key(at_old) != new_bytes.key(at_new) {
                        push(one.1, at_old, -1, true);
                        push(one.1, before.len() + at_new, 1, true);
                    }
                    at_old += 1;
                    at_new += 1;
                }
                // Only one row comes or goes at a time.
                (Some(one), _) if before.len() > after.len() => {
                    push(one.1, at_old, -1, false);
                    at_old += 1;
                }
                (_, Some(other)) => {
                    push(other.1, before.len() + at_new, 1, false);
                    at_new += 1;
                }
                (Some(one), None) => {
                    push(one.1, at_old, -1, false);
                    at_old += 1;
                }
                (None, None) => break,
            }
        }
        let from = UInt32Array::from(from);
        let mut columns = self.rows.gather(&ids, &(0..self.width).collect::<Vec<_>>())?;
        for (old, new) in old.iter().zip(&new) {
            columns.push(take(&concat(&[old.as_ref(), new.as_ref()])?, &from, None)?);
        }
        out.push(changes.into_batch(&self.output_schema, columns)?);
        Ok(())
    }
}

impl Operator for OverColumnsOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let batch = without_zeros(batch)?;
        let keys = self.rows.keys_of(&batch.rows)?;
        let places = self.order.places(&batch.rows)?;
        let ids = self.rows.apply(&batch, &keys)?;
        for (row, id) in ids.into_iter().enumerate() {
            let weight = batch.weight(row);
            for _ in 0..weight.unsigned_abs() {
                let before = self.partitions.remove(keys.key(row)).unwrap_or_default();
                let mut after = before.clone();
                let place = places.of(row);
                let at = after.partition_point(|(other, other_id)| (&**other, *other_id) < (place, id));
                if weight > 0 {
                    after.insert(at, (place.into(), id));
                } else if after.get(at).is_some_and(|(_, other)| *other == id) {
                    after.remove(at);
                }
                self.changes(&before, &after, out)?;
                if !after.is_empty() {
                    self.partitions.insert(keys.key(row).into(), after);
                }
            }
        }
        self.rows.tidy()
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.rows.restore(&parts)?;
        for (rows, ids) in self.rows.live_chunks()? {
            let keys = self.rows.keys_of(&rows)?;
            let places = self.order.places(&rows)?;
            for (row, id) in ids.into_iter().enumerate() {
                let partition = self.partitions.entry_ref(keys.key(row)).or_default();
                let at = partition.partition_point(|(other, other_id)| (&**other, *other_id) < (places.of(row), id));
                for _ in 0..self.rows.weight(id) {
                    partition.insert(at, (places.of(row).into(), id));
                }
            }
        }
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics { late_rows: 0, state_bytes: self.rows.size_bytes() as u64, state_rows: self.rows.len() as u64 }
    }
}

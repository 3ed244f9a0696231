//! Drops what an operator keeps of keys that have not changed for a time.
//!
//! Around any operator that keeps state by key and can forget a key. Time is that of the barriers, so a key lives as long as it is to,
//! and up to one checkpoint more. Nothing is sent when a key goes. A row that comes later begins anew; one that is taken back of a
//! key that is gone is dropped and counted, see [`Operator::ignore_unmatched`].
//!
//! State: the operator's own, and a [`KeyedTable`] `changed`: `[key_group, keys…, changed]`, the time of the last change of each
//! key, ms since 1970.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use hashbrown::HashSet;
use thalweg_core::{Batch, Epoch, EventTime, Result};
use thalweg_state::{StateDelta, StatePart};

use crate::keyed_table::KeyedTable;
use crate::running::canonical_floats;
use crate::{Operator, OperatorMetrics, Output};

pub(crate) struct TimeToLiveOperator {
    inner: Box<dyn Operator>,
    /// The key columns, in each input.
    columns: Vec<usize>,
    time_to_live_ms: i64,
    changed: KeyedTable<1>,
    /// Keys by the time of a change, of which the last counts.
    by_time: BTreeMap<i64, Vec<Arc<[u8]>>>,
    /// Keys of rows since the last barrier.
    touched: HashSet<Arc<[u8]>>,
}

impl TimeToLiveOperator {
    /// `keys` are the fields of `columns` as `inner` encodes them.
    /// # Errors
    /// `User` for keys that cannot be compared.
    pub(crate) fn new(
        mut inner: Box<dyn Operator>,
        columns: Vec<usize>,
        keys: &[FieldRef],
        time_to_live_ms: i64,
    ) -> Result<Self> {
        inner.ignore_unmatched();
        Ok(TimeToLiveOperator {
            inner,
            columns,
            time_to_live_ms,
            changed: KeyedTable::new("changed", keys, ["changed"])?,
            by_time: BTreeMap::new(),
            touched: HashSet::new(),
        })
    }
}

impl Operator for TimeToLiveOperator {
    fn on_batch(&mut self, port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| canonical_floats(batch.column(*column))).collect();
        let keys = self.changed.encode(&columns, batch.num_rows())?;
        for row in 0..batch.num_rows() {
            if !self.touched.contains(keys.key(row)) {
                self.touched.insert(Arc::from(keys.key(row)));
            }
        }
        self.inner.on_batch(port, batch, out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        self.inner.resume(out)
    }

    fn on_watermark(&mut self, port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.inner.on_watermark(port, watermark, out)
    }

    fn on_end(&mut self, port: usize, out: &mut Output) -> Result<()> {
        self.inner.on_end(port, out)
    }

    fn on_time(&mut self, now_ms: i64) -> Result<()> {
        // A time of 0 would mean that the key is gone.
        let now = now_ms.max(1);
        for key in self.touched.drain() {
            self.changed.set(&key, [now]);
            self.by_time.entry(now).or_default().push(key);
        }
        while let Some(oldest) = self.by_time.first_entry().filter(|oldest| *oldest.key() <= now - self.time_to_live_ms) {
            let (at, keys) = oldest.remove_entry();
            for key in keys {
                if self.changed.get(&key) == [at] {
                    self.inner.forget(&key)?;
                    self.changed.set(&key, [0]);
                }
            }
        }
        self.inner.on_time(now_ms)
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        self.inner.output_watermark(input)
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<StateDelta> {
        let mut delta = self.inner.snapshot(epoch)?;
        self.changed.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let (own, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| self.changed.owns(&part.slot));
        self.changed.restore(&own)?;
        for (key, [at]) in self.changed.iter() {
            self.by_time.entry(at).or_default().push(key.clone());
        }
        self.inner.restore(others)
    }

    fn mark_all_dirty(&mut self) {
        self.changed.mark_all_dirty();
        self.inner.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        let inner = self.inner.metrics();
        OperatorMetrics { state_bytes: inner.state_bytes + self.changed.size_bytes() as u64, ..inner }
    }
}

#[cfg(test)]
mod tests;

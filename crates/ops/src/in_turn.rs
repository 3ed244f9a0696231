//! An operator whose rows come in an order that does not depend on lanes, see [`Turns`].
//!
//! In front of deduplications and of Top-N below windows: which rows they show for a while, and take back before or after the
//! windows have closed, depends on the order of their input. Output comes with the watermark that lets the rows pass, in front of
//! it, each change with the watermark of the row that caused it, batch by batch (`Operator::resume`).
//!
//! State: the operator's own, the rows that wait, and the watermark.

use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, EventTime, Result};
use thalweg_plan::InTurn;
use thalweg_state::{StateDelta, StatePart};

use crate::stored_watermark::{StoredWatermark, without_watermark};
use crate::turns::Turns;
use crate::{Operator, OperatorContext, OperatorMetrics, Output};

pub(crate) struct InTurnOperator {
    inner: Box<dyn Operator>,
    turns: Turns,
    watermark: StoredWatermark,
    /// The watermark, and its port, whose rows are not all through yet.
    passing: Option<(usize, EventTime)>,
}

impl InTurnOperator {
    /// `inner` has one input, whose rows come by hash of the columns `keys`.
    /// # Errors
    /// `User` for columns that cannot be compared.
    pub(crate) fn new(
        inner: Box<dyn Operator>,
        in_turn: InTurn,
        input: &SchemaRef,
        keys: &[usize],
        context: &OperatorContext,
    ) -> Result<Self> {
        let turns = Turns::new("waiting", in_turn, input, keys)?;
        Ok(InTurnOperator { inner, turns, watermark: StoredWatermark::new(context.key_groups.clone()), passing: None })
    }

    /// Lets the next rows pass, or the watermark behind the last of them; returns whether there was anything to pass.
    fn advance(&mut self, out: &mut Output) -> Result<bool> {
        let Some((port, watermark)) = self.passing else {
            return Ok(false);
        };
        if let Some(batch) = self.turns.passed_by(watermark)? {
            self.inner.on_batch(port, batch, out)?;
            return Ok(true);
        }
        self.passing = None;
        self.watermark.advance(watermark);
        self.inner.on_watermark(port, watermark, out)?;
        Ok(true)
    }
}

impl Operator for InTurnOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, _out: &mut Output) -> Result<()> {
        self.turns.add(batch, self.watermark.now())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        Ok(self.inner.resume(out)? || self.advance(out)?)
    }

    fn on_watermark(&mut self, port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.passing = Some((port, watermark));
        self.advance(out)?;
        Ok(())
    }

    fn on_end(&mut self, port: usize, out: &mut Output) -> Result<()> {
        self.inner.on_end(port, out)
    }

    fn on_time(&mut self, now_ms: i64) -> Result<()> {
        self.inner.on_time(now_ms)
    }

    fn ignore_unmatched(&mut self) {
        self.inner.ignore_unmatched();
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        self.inner.output_watermark(input.max(self.watermark.now()))
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<StateDelta> {
        assert!(self.passing.is_none(), "what a watermark lets pass is taken before a snapshot");
        let mut delta = self.inner.snapshot(epoch)?;
        self.turns.snapshot(&mut delta)?;
        self.watermark.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let parts = without_watermark(parts, &mut self.watermark)?;
        let parts = self.turns.restore(parts)?;
        self.inner.restore(parts)
    }

    fn mark_all_dirty(&mut self) {
        self.turns.mark_all_dirty();
        self.watermark.mark_all_dirty();
        self.inner.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        let inner = self.inner.metrics();
        OperatorMetrics {
            state_bytes: inner.state_bytes + self.turns.size_bytes() as u64,
            state_rows: inner.state_rows + self.turns.len() as u64,
            ..inner
        }
    }
}

#[cfg(test)]
mod tests;

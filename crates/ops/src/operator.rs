//! The seam between operators and whoever runs them.

use std::ops::Range;

use thalweg_core::{Batch, Epoch, EventTime, KeyGroup, LaneId, Result};
use thalweg_state::{StateDelta, StatePart};

/// Where an operator puts what it makes, in order.
#[derive(Debug, Default)]
pub struct Output {
    pub batches: Vec<Batch>,
}

impl Output {
    /// Empty batches are dropped here, so operators need not look.
    pub fn push(&mut self, batch: Batch) {
        if batch.num_rows() > 0 {
            self.batches.push(batch);
        }
    }
}

/// Which share of the job an operator instance is.
#[derive(Clone, Debug)]
pub struct OperatorContext {
    pub lane: LaneId,
    pub lanes: u32,
    pub key_groups: Range<KeyGroup>,
    /// Rows in an output batch, about.
    pub batch_rows: usize,
    /// Whether a row that is taken back and is not there is dropped and counted, in place of ending the job.
    pub ignores_unmatched: bool,
}

/// Counters of one operator instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OperatorMetrics {
    /// Rows that came too late for every one of their windows, since start.
    pub late_rows: u64,
    /// Rows taken back that were not there, since start; counted where they are not an error.
    pub unmatched_rows: u64,
    pub state_bytes: u64,
    pub state_rows: u64,
}

/// A state machine over batches and watermarks.
///
/// The caller delivers, per port, batches and watermarks in stream order; watermarks per port never go back. After the call
/// that brings a watermark the operator has emitted all that it unlocked, so the caller may forward
/// [`Operator::output_watermark`] behind the output.
pub trait Operator: Send {
    fn on_batch(&mut self, port: usize, batch: Batch, out: &mut Output) -> Result<()>;

    /// Goes on with the output of the last call, if that was more than is wanted at once; returns whether there was any. Called
    /// until it returns false, before anything else: so a row with a million matches needs no room for a million rows.
    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let _ = out;
        Ok(false)
    }

    fn on_watermark(&mut self, port: usize, watermark: EventTime, out: &mut Output) -> Result<()>;

    /// The input of `port` has ended; `on_watermark(port, EventTime::MAX)` was called before if the end closes windows.
    fn on_end(&mut self, port: usize, out: &mut Output) -> Result<()> {
        let _ = (port, out);
        Ok(())
    }

    /// Tells the processing time (ms since 1970), the same in all lanes: before each snapshot, for state that has a time to live.
    fn on_time(&mut self, now_ms: i64) -> Result<()> {
        let _ = now_ms;
        Ok(())
    }

    /// From now on a row that is taken back and is not there is dropped and counted; without this call it is an error.
    fn ignore_unmatched(&mut self) {}

    /// Drops all that is kept of a key, without output. `key` is encoded by a [`KeyCodec`](crate::key_codec::KeyCodec) over the
    /// fields of the key columns.
    /// # Errors
    /// `Internal` from an operator whose state is not dropped by key.
    fn forget(&mut self, key: &[u8]) -> Result<()> {
        let _ = key;
        Err(thalweg_core::Error::internal("an operator is to forget a key and keeps no state by key"))
    }

    /// Whether the operator works by the clock, see [`Operator::on_clock`].
    fn reads_clock(&self) -> bool {
        false
    }

    /// Tells the wall clock (ms since 1970), before each batch and every few milliseconds. It may jump back.
    ///
    /// Returns the watermark to send on, which nobody sends but this operator; `None` from one that does not read the clock.
    fn on_clock(&mut self, now_ms: i64) -> Option<EventTime> {
        let _ = now_ms;
        None
    }

    /// The watermark to send on, given the minimum over the ports. Most operators send on what came in.
    fn output_watermark(&self, input: EventTime) -> EventTime {
        input
    }

    /// The changes of state since the last snapshot. The operator keeps its state.
    fn snapshot(&mut self, epoch: Epoch) -> Result<StateDelta> {
        let _ = epoch;
        Ok(StateDelta::default())
    }

    /// Called once, before any input: state as of the last commit, reduced to this lane's key groups.
    /// # Errors
    /// `Corrupt` when the parts do not have the expected columns.
    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        assert!(parts.is_empty(), "an operator without state is given state");
        Ok(())
    }

    /// The next snapshot is to be complete, as nothing of what is stored will be kept: called after a restore at another
    /// number of lanes.
    fn mark_all_dirty(&mut self) {}

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics::default()
    }
}

//! Gives rows the time of the clock, and the stream a watermark that follows it.
//!
//! What stands behind it works as for event time: a window by processing time is one by event time whose rows all come in order.
//!
//! Ordering: rows keep theirs; their times never go back, also when the clock does, or after a restart on another machine.
//!
//! Late rows: there are none. The watermark that comes in plays no part but for the end of the input, which is passed on: what is
//! open then is completed.
//!
//! State: the last watermark, so that no row comes out behind one that was sent before a restart.

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::ProcessingTime;
use thalweg_state::{StateDelta, StatePart};

use crate::stored_watermark::{StoredWatermark, without_watermark};
use crate::{Operator, OperatorContext, Output};

pub(crate) struct ProcessingTimeOperator {
    column: usize,
    schema: SchemaRef,
    watermark: StoredWatermark,
}

impl ProcessingTimeOperator {
    pub(crate) fn new(node: &ProcessingTime, schema: SchemaRef, context: &OperatorContext) -> Self {
        ProcessingTimeOperator { column: node.column, schema, watermark: StoredWatermark::new(context.key_groups.clone()) }
    }
}

impl Operator for ProcessingTimeOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        // The first millisecond that the watermark has not closed.
        let micros = self.watermark.now().0.saturating_add(1).saturating_mul(1_000);
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![micros; batch.num_rows()]).with_timezone("UTC"));
        let mut columns = batch.rows.columns().to_vec();
        columns[self.column] = cast(&times, self.schema.field(self.column).data_type())?;
        let rows = arrow::array::RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|error| Error::internal("rows with the clock's time do not have the types of the plan").with_cause(error))?;
        out.push(Batch { row_watermarks: None, ..batch.with_rows(rows) });
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn reads_clock(&self) -> bool {
        true
    }

    fn on_clock(&mut self, now_ms: i64) -> Option<EventTime> {
        self.watermark.advance(EventTime(now_ms.saturating_sub(1)));
        Some(self.watermark.now())
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        if input == EventTime::MAX { input } else { self.watermark.now() }
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.watermark.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        match without_watermark(parts, &mut self.watermark)?.first() {
            Some(part) => Err(Error::corrupt(format!("processing time has no slot {}", part.slot.0))),
            None => Ok(()),
        }
    }

    fn mark_all_dirty(&mut self) {
        self.watermark.mark_all_dirty();
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
    use thalweg_core::{LaneId, key_groups_of_lane};
    use thalweg_state::SlotChange;

    use super::*;

    fn operator() -> ProcessingTimeOperator {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("p", time, false)]);
        let context = OperatorContext {
            lane: LaneId(0),
            lanes: 1,
            key_groups: key_groups_of_lane(0, 1),
            batch_rows: 10,
            ignores_unmatched: false,
        };
        ProcessingTimeOperator::new(&ProcessingTime { column: 1 }, Arc::new(schema), &context)
    }

    /// The time in ms that a row gets.
    fn stamp(operator: &mut ProcessingTimeOperator) -> i64 {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![7])), Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC"))];
        let rows = RecordBatch::try_new(operator.schema.clone(), columns).unwrap();
        let mut out = Output::default();
        operator.on_batch(0, Batch::append(rows), &mut out).unwrap();
        let rows = &out.batches[0].rows;
        assert_eq!(rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 7);
        rows.column(1).as_primitive::<TimestampMicrosecondType>().value(0) / 1_000
    }

    #[test]
    fn rows_are_ahead_of_the_watermark_also_when_the_clock_goes_back() {
        let mut operator = operator();
        assert_eq!(operator.on_clock(1_000), Some(EventTime(999)));
        assert_eq!(stamp(&mut operator), 1_000);
        assert_eq!(operator.on_clock(400), Some(EventTime(999)));
        assert_eq!(stamp(&mut operator), 1_000);
        assert_eq!(operator.on_clock(1_001), Some(EventTime(1_000)));
        assert_eq!(stamp(&mut operator), 1_001);
        assert_eq!(operator.output_watermark(EventTime(5)), EventTime(1_000));
        assert_eq!(operator.output_watermark(EventTime::MAX), EventTime::MAX);
    }

    #[test]
    fn time_does_not_go_back_over_a_restart() {
        let mut before = operator();
        before.on_clock(5_000);
        let parts = before.snapshot(Epoch(1)).unwrap().changes.into_iter().map(|(slot, change)| match change {
            SlotChange::Replace(rows) => StatePart { slot, batches: vec![rows] },
            other => panic!("not a replacement: {other:?}"),
        });
        let mut after = operator();
        after.restore(parts.collect()).unwrap();
        assert_eq!(after.on_clock(3_000), Some(EventTime(4_999)));
        assert_eq!(stamp(&mut after), 5_000);
    }
}

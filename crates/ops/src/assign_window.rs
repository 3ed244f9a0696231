//! A window function without an aggregate: each row once for each of its windows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Error, EventTime, Result};
use thalweg_plan::AssignWindow;

use crate::event_times::{event_times, times_from};
use crate::local_time::LocalTime;
use crate::window_bounds::WindowBounds;
use crate::{Operator, Output};

/// Adds `window_start`, `window_end`, `window_time` to each row, and repeats the row for each of its windows.
///
/// Output: the input's columns, then the three. `window_time` is the last instant of the window. Rows of a batch keep their
/// order; those of one row come latest start first (HOP) or shortest first (CUMULATE). Output batches hold at most
/// `batch_rows` rows, however many windows a row has. No row is late here, and nothing is kept.
pub(crate) struct AssignWindowOperator {
    bounds: WindowBounds,
    local_time: LocalTime,
    time_column: usize,
    time_name: String,
    schema: SchemaRef,
    batch_rows: usize,
}

impl AssignWindowOperator {
    pub(crate) fn new(assign: &AssignWindow, input: &SchemaRef, schema: SchemaRef, batch_rows: usize) -> Result<Self> {
        if schema.fields().len() != input.fields().len() + 3 {
            return Err(Error::internal("a window function adds three columns"));
        }
        Ok(AssignWindowOperator {
            bounds: WindowBounds::new(&assign.window),
            local_time: LocalTime::new(&assign.window.zone)?,
            time_column: assign.time_column,
            time_name: input.field(assign.time_column).name().clone(),
            schema,
            batch_rows: batch_rows.max(1),
        })
    }

    /// Sends the rows at `rows`, each in the window beside it.
    fn emit(&self, batch: &Batch, rows: &mut Vec<u32>, windows: &mut Vec<(i64, i64)>, out: &mut Output) -> Result<()> {
        // Usually every row has one window, and nothing needs to be copied.
        let is_whole = rows.len() == batch.num_rows() && rows.iter().enumerate().all(|(at, row)| at == *row as usize);
        let taken = if is_whole { batch.clone() } else { batch.take(&UInt32Array::from(std::mem::take(rows)))? };
        let mut columns: Vec<ArrayRef> = taken.rows.columns().to_vec();
        let first = columns.len();
        let data_type = |at: usize| self.schema.field(first + at).data_type();
        columns.push(times_from(data_type(0), windows.iter().map(|window| window.0))?);
        columns.push(times_from(data_type(1), windows.iter().map(|window| window.1))?);
        let mut known = None;
        let last_instants = windows.iter().map(|window| match known {
            Some((end, instant)) if end == window.1 => instant,
            _ => {
                let instant = self.local_time.last_instant_before(window.1);
                known = Some((window.1, instant));
                instant
            }
        });
        columns.push(times_from(data_type(2), last_instants)?);
        out.push(taken.with_rows(RecordBatch::try_new(Arc::clone(&self.schema), columns)?));
        rows.clear();
        windows.clear();
        Ok(())
    }
}

impl Operator for AssignWindowOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let times = event_times(batch.column(self.time_column), &self.time_name)?;
        let (mut rows, mut windows) = (vec![], vec![]);
        let limit = self.batch_rows.max(batch.num_rows());
        for (row, instant) in (0_u32..).zip(times.values()) {
            let local = self.local_time.local(*instant);
            for window in self.bounds.windows_of(local) {
                rows.push(row);
                windows.push(window);
                if rows.len() == limit {
                    self.emit(&batch, &mut rows, &mut windows, out)?;
                }
            }
        }
        if !rows.is_empty() {
            self.emit(&batch, &mut rows, &mut windows, out)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, TimestampMicrosecondArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
    use thalweg_plan::{TimeZoneRule, Window, WindowKind};

    use super::*;

    #[test]
    fn hop_repeats_rows_in_capped_batches() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let mut fields = vec![Field::new("id", DataType::Int64, false), Field::new("ts", time.clone(), false)];
        let input: SchemaRef = Arc::new(Schema::new(fields.clone()));
        fields.extend(["window_start", "window_end", "window_time"].map(|name| Field::new(name, time.clone(), false)));
        let assign = AssignWindow {
            window: Window {
                kind: WindowKind::Hop { slide_ms: 5_000, size_ms: 15_000 },
                offset_ms: 0,
                zone: TimeZoneRule::Local,
            },
            time_column: 1,
        };
        let mut operator = AssignWindowOperator::new(&assign, &input, Arc::new(Schema::new(fields)), 4).unwrap();
        let rows = RecordBatch::try_new(
            input,
            vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(TimestampMicrosecondArray::from(vec![1_000_000, 15_000_000]))],
        )
        .unwrap();
        let mut out = Output::default();
        operator.on_batch(0, rows.into(), &mut out).unwrap();
        let mut found = vec![];
        for batch in &out.batches {
            assert!(batch.num_rows() <= 4);
            let second =
                |column: usize, row: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>().value(row) / 1_000;
            for row in 0..batch.num_rows() {
                found.push((
                    batch.column(0).as_primitive::<Int64Type>().value(row),
                    second(2, row),
                    second(3, row),
                    second(4, row),
                ));
            }
        }
        // Recorded Flink case window-hop/tvf-without-aggregation.
        assert_eq!(
            found,
            [
                (1, 0, 15_000, 14_999),
                (1, -5_000, 10_000, 9_999),
                (1, -10_000, 5_000, 4_999),
                (2, 15_000, 30_000, 29_999),
                (2, 10_000, 25_000, 24_999),
                (2, 5_000, 20_000, 19_999)
            ]
        );
    }
}

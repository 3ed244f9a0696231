//! How a source partition's watermark follows its rows.

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::compute::kernels::arity::unary;
use arrow::datatypes::Int64Type;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator as SqlOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use thalweg_core::{Batch, EventTime, Result};
use thalweg_plan::{Expr, Watermark};

use crate::evaluate;
use crate::event_times::{event_times, milliseconds, null_event_time};

/// How far ahead of the wall clock a row may be and still move the watermark: one day.
pub const DEFAULT_MAX_FUTURE_MS: i64 = 86_400_000;

/// The watermark of one source partition: the maximum of the declared expression over the rows so far.
///
/// Works on every row in partition order, before any filter. Its result does not depend on how rows are cut into batches: a
/// row's lateness is judged by the watermark that the rows before it made, as in Flink with a watermark after every record.
/// Nulls of the expression are ignored. A row further in the future than allowed is passed on, but cannot close the windows of
/// all others.
#[derive(Clone, Debug)]
pub struct WatermarkGenerator {
    time_column: usize,
    expr: Expr,
    /// Whether all rows carry a watermark.
    stamps_rows: bool,
    /// Set when the expression is just "the time column minus so much", which needs no evaluation.
    delay_ms: Option<i64>,
    max_future_ms: i64,
    current: EventTime,
    newest: EventTime,
    far_future_rows: u64,
}

impl WatermarkGenerator {
    /// `max_future_ms` is how far ahead of the wall clock rows may move the watermark, see [`DEFAULT_MAX_FUTURE_MS`].
    pub fn new(watermark: &Watermark, max_future_ms: i64) -> Self {
        WatermarkGenerator {
            time_column: watermark.time_column,
            expr: watermark.expr.clone(),
            stamps_rows: watermark.stamps_rows,
            delay_ms: fixed_delay_ms(watermark),
            max_future_ms,
            current: EventTime::MIN,
            newest: EventTime::MIN,
            far_future_rows: 0,
        }
    }

    /// Takes in the next rows of the partition, of the source's output schema.
    ///
    /// `wall_now` bounds absurd timestamps; `None` is no bound. Unless all rows are to have one, the batch has `row_watermarks` only if
    /// some row is at, behind or 1 ms ahead of the watermark of the rows before it; [`EventTime::MIN`] stands for "none yet" there.
    /// # Errors
    /// `Record` when an event time is null or the watermark expression fails on a row.
    pub fn advance(&mut self, rows: RecordBatch, wall_now: Option<EventTime>) -> Result<Batch> {
        self.advance_upserts(rows, None, wall_now)
    }

    /// As [`WatermarkGenerator::advance`] for the rows of a source of upserts. The time of a deletion may be null; if it is not,
    /// because it is that of the record, it counts like any other.
    pub fn advance_upserts(
        &mut self,
        rows: RecordBatch,
        weights: Option<Int64Array>,
        wall_now: Option<EventTime>,
    ) -> Result<Batch> {
        let name = rows.schema_ref().field(self.time_column).name().clone();
        let times = match &weights {
            None => event_times(rows.column(self.time_column), &name)?,
            Some(weights) => times_of_upserts(rows.column(self.time_column), weights, &name)?,
        };
        let candidates = match self.delay_ms {
            Some(delay_ms) => unary::<Int64Type, _, Int64Type>(&times, |time| time.saturating_sub(delay_ms)),
            None => milliseconds(&evaluate(&self.expr, &rows)?)?,
        };
        let latest = wall_now.map_or(EventTime::MAX, |now| now.saturating_add_ms(self.max_future_ms)).0;

        let before = self.current.0;
        let mut running = before;
        let mut is_any_behind = self.stamps_rows;
        for row in 0..times.len() {
            // A session that the watermark has just closed ends 1 ms ahead of it and would touch a row there.
            is_any_behind |= times.value(row) <= running.saturating_add(1);
            running = running.max(self.candidate(&times, &candidates, row, latest));
        }
        self.current = EventTime(running);
        let newest = times.values().iter().copied().filter(|time| *time <= latest).max();
        self.newest = self.newest.max(newest.map_or(EventTime::MIN, EventTime));
        if latest != i64::MAX {
            self.far_future_rows += times.values().iter().filter(|time| **time > latest).count() as u64;
        }
        if !is_any_behind {
            return Ok(Batch { weights, ..Batch::append(rows) });
        }

        let mut running = before;
        let row_watermarks = Int64Array::from_iter_values((0..times.len()).map(|row| {
            let made_before = running;
            running = running.max(self.candidate(&times, &candidates, row, latest));
            made_before
        }));
        Ok(Batch { weights, row_watermarks: Some(row_watermarks), ..Batch::append(rows) })
    }

    /// The watermark after the rows so far.
    pub fn current(&self) -> EventTime {
        self.current
    }

    /// How far the watermark trails the newest event: as declared, else as the rows so far had it; `None` before the first.
    pub fn delay_ms(&self) -> Option<i64> {
        let seen =
            (self.newest > EventTime::MIN && self.current > EventTime::MIN).then(|| self.newest.0.saturating_sub(self.current.0));
        self.delay_ms.or(seen.map(|delay| delay.max(0)))
    }

    /// Begins where an earlier run of the partition stood.
    pub fn restore(&mut self, watermark: EventTime) {
        self.current = watermark;
    }

    /// Rows that were too far in the future to move the watermark, since start.
    pub fn far_future_rows(&self) -> u64 {
        self.far_future_rows
    }

    /// What row `row` offers as watermark: `i64::MIN` when null or when the row is too far in the future.
    #[inline]
    fn candidate(&self, times: &Int64Array, candidates: &Int64Array, row: usize, latest: i64) -> i64 {
        let value = candidates.value(row);
        if candidates.is_null(row) || times.value(row) > latest || value > latest { i64::MIN } else { value }
    }
}

/// The milliseconds of an event time column; a deletion without a time is before all others, so that it moves nothing.
fn times_of_upserts(array: &ArrayRef, weights: &Int64Array, name: &str) -> Result<Int64Array> {
    let times = milliseconds(array)?;
    if (0..times.len()).any(|row| times.is_null(row) && weights.value(row) >= 0) {
        return Err(null_event_time(name));
    }
    Ok(Int64Array::from_iter_values(times.iter().map(|time| time.unwrap_or(i64::MIN))))
}

/// The delay when the watermark is the time column minus a constant interval of whole milliseconds, as most are. Subtracting
/// calendar intervals row by row costs several times as much as all else that is done here.
fn fixed_delay_ms(watermark: &Watermark) -> Option<i64> {
    if watermark.expr.as_column() == Some(watermark.time_column) {
        return Some(0);
    }
    let subtraction = watermark.expr.physical.downcast_ref::<BinaryExpr>()?;
    let column = subtraction.left().downcast_ref::<Column>()?;
    let delay = subtraction.right().downcast_ref::<Literal>()?;
    if column.index() != watermark.time_column || *subtraction.op() != SqlOperator::Minus {
        return None;
    }
    match delay.value() {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 && interval.nanoseconds % 1_000_000 == 0 => {
            Some(i64::from(interval.days) * 86_400_000 + interval.nanoseconds / 1_000_000)
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            Some(i64::from(interval.days) * 86_400_000 + i64::from(interval.milliseconds))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::TimestampMicrosecondArray;
    use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, Schema, TimeUnit};
    use proptest::prelude::*;
    use thalweg_core::ErrorKind;

    use super::*;

    fn generator() -> WatermarkGenerator {
        // The watermark expression is a column of its own, so that tests choose its values freely.
        let data_type = DataType::Timestamp(TimeUnit::Microsecond, None);
        let expr = Expr { physical: Arc::new(Column::new("w", 1)), text: "w".to_string(), data_type, nullable: true, span: None };
        WatermarkGenerator::new(&Watermark { time_column: 0, expr, idle_timeout_ms: None, stamps_rows: false }, 1_000)
    }

    /// Microseconds of `ts` and `w`.
    type Times = (Option<i64>, Option<i64>);

    fn rows(values: &[Times]) -> RecordBatch {
        let data_type = DataType::Timestamp(TimeUnit::Microsecond, None);
        let schema = Schema::new(vec![Field::new("ts", data_type.clone(), true), Field::new("w", data_type, true)]);
        let column = |pick: fn(&Times) -> Option<i64>| Arc::new(TimestampMicrosecondArray::from_iter(values.iter().map(pick)));
        RecordBatch::try_new(Arc::new(schema), vec![column(|row| row.0), column(|row| row.1)]).unwrap()
    }

    fn at_ms(times: &[(i64, i64)]) -> RecordBatch {
        rows(&times.iter().map(|(time, watermark)| (Some(time * 1_000), Some(watermark * 1_000))).collect::<Vec<_>>())
    }

    #[test]
    fn rows_in_order_carry_nothing() {
        let mut generator = generator();
        let batch = generator.advance(at_ms(&[(2, 0), (3, 1), (3, 1), (5, 2)]), None).unwrap();
        assert!(batch.row_watermarks.is_none());
        assert_eq!(generator.current(), EventTime(2));
    }

    #[test]
    fn a_row_behind_shows_the_watermark_before_it() {
        let mut generator = generator();
        let batch = generator.advance(at_ms(&[(10, 10), (5, 5), (20, 20), (20, 20)]), None).unwrap();
        assert_eq!(batch.row_watermarks.unwrap().values(), &[i64::MIN, 10, 10, 20]);
        assert_eq!(generator.current(), EventTime(20));
    }

    #[test]
    fn a_row_right_behind_the_watermark_shows_it() {
        let batch = generator().advance(at_ms(&[(10, 9), (10, 9), (12, 9)]), None).unwrap();
        assert_eq!(batch.row_watermarks.unwrap().values(), &[i64::MIN, 9, 9]);
    }

    #[test]
    fn nulls_and_fractions() {
        let mut generator = generator();
        generator.advance(rows(&[(Some(5), Some(-1)), (Some(5), None)]), None).unwrap();
        assert_eq!(generator.current(), EventTime(-1));
        let error = generator.advance(rows(&[(None, Some(1))]), None).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Record, "event time column \"ts\" is null"));
    }

    #[test]
    fn deletions_need_no_time() {
        let mut generator = generator();
        let weights = |values: &[i64]| Some(Int64Array::from(values.to_vec()));
        let upserts = rows(&[(Some(5_000), Some(5_000)), (None, None), (Some(9_000), Some(9_000))]);
        let batch = generator.advance_upserts(upserts, weights(&[1, -1, -1]), None).unwrap();
        assert_eq!(batch.weights, weights(&[1, -1, -1]));
        assert_eq!(batch.row_watermarks.unwrap().values(), &[i64::MIN, 5, 5]);
        assert_eq!(generator.current(), EventTime(9));
        let error = generator.advance_upserts(rows(&[(None, None)]), weights(&[1]), None).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Record);
    }

    #[test]
    fn the_far_future_does_not_close_windows() {
        let mut generator = generator();
        let batch = generator.advance(at_ms(&[(10, 10), (9_000, 9_000), (12, 11)]), Some(EventTime(500))).unwrap();
        assert!(batch.row_watermarks.is_none());
        assert_eq!((generator.current(), generator.far_future_rows()), (EventTime(11), 1));
    }

    #[test]
    fn a_fixed_delay_is_as_the_expression() {
        let data_type = DataType::Timestamp(TimeUnit::Microsecond, None);
        for (days, nanoseconds, is_fixed) in
            [(0, 5_000_000, true), (2, 0, true), (-1, 1_000_000, true), (0, 5_000_001_000, false), (0, 500_000, false)]
        {
            let delay = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, days, nanoseconds)));
            let physical =
                Arc::new(BinaryExpr::new(Arc::new(Column::new("ts", 0)), SqlOperator::Minus, Arc::new(Literal::new(delay))));
            let expr = Expr { physical, text: String::new(), data_type: data_type.clone(), nullable: true, span: None };
            let watermark = Watermark { time_column: 0, expr, idle_timeout_ms: None, stamps_rows: false };
            let mut fast = WatermarkGenerator::new(&watermark, 0);
            assert_eq!(fast.delay_ms.is_some(), is_fixed);
            let mut slow = WatermarkGenerator { delay_ms: None, ..fast.clone() };
            for time in [-7_001, 1_999, 1_000_123] {
                let batch = rows(&[(Some(time), None)]);
                fast.advance(batch.clone(), None).unwrap();
                slow.advance(batch, None).unwrap();
                assert_eq!(fast.current(), slow.current(), "{time} - {days} days {nanoseconds} ns");
            }
        }
    }

    proptest! {
        /// Any cut gives the same lateness to each row and the same watermark at the end.
        #[test]
        fn cuts_do_not_matter(
            values in prop::collection::vec((0_i64..100, -20_i64..120, any::<bool>()), 1..60),
            cuts in prop::collection::vec(0_usize..60, 0..8),
            bound in prop::option::of(0_i64..60),
        ) {
            let values: Vec<_> = values
                .into_iter()
                .map(|(time, watermark, is_null)| (Some(time * 500), (!is_null).then_some(watermark * 500)))
                .collect();
            let wall_now = bound.map(|bound| EventTime(bound - 1_000));
            // A row is behind when its time is not after the watermark before it; where that is not so, absent is as good.
            let lateness = |batch: &Batch, values: &[(Option<i64>, Option<i64>)]| -> Vec<Option<i64>> {
                (0..batch.num_rows())
                    .map(|row| {
                        let watermark = batch.row_watermarks.as_ref()?.value(row);
                        (values[row].0.unwrap().div_euclid(1_000) <= watermark).then_some(watermark)
                    })
                    .collect()
            };
            let mut whole = generator();
            let batch = whole.advance(rows(&values), wall_now).unwrap();
            let expected = lateness(&batch, &values);

            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < values.len()).chain([0, values.len()]).collect();
            cuts.sort_unstable();
            let mut pieces = generator();
            let mut found = vec![];
            for pair in cuts.windows(2) {
                let piece = &values[pair[0]..pair[1]];
                let batch = pieces.advance(rows(piece), wall_now).unwrap();
                found.extend(lateness(&batch, piece));
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(pieces.current(), whole.current());
            prop_assert_eq!(pieces.far_future_rows(), whole.far_future_rows());
        }
    }
}

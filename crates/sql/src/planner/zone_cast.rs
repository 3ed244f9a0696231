//! CAST between TIMESTAMP and TIMESTAMP_LTZ by the session's time zone.

use std::sync::Arc;

use chrono::{LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast};

/// `expr` as another type: an ordinary cast, except where an instant becomes a local time or the other way round.
pub(crate) fn cast_between(expr: Expr, (from, to): (&DataType, &DataType), time_zone: &str) -> Expr {
    let (DataType::Timestamp(_, from_zone), DataType::Timestamp(_, to_zone)) = (from, to) else {
        return cast(expr, to.clone());
    };
    match time_zone.parse::<Tz>() {
        Ok(zone) if from_zone.is_some() != to_zone.is_some() && zone != Tz::UTC => {
            let function = Arc::new(ScalarUDF::from(ZoneCast::new(zone, to_zone.is_some())));
            let shifted = Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![expr]));
            cast(shifted, to.clone())
        }
        _ => cast(expr, to.clone()),
    }
}

/// Shifts microseconds between UTC and a zone. A local time that a change of clocks leaves out means the instant after the
/// gap; one that occurs twice means the earlier instant.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ZoneCast {
    zone: Tz,
    to_instant: bool,
    signature: Signature,
}

impl ZoneCast {
    fn new(zone: Tz, to_instant: bool) -> Self {
        ZoneCast { zone, to_instant, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn shift(&self, micros: i64) -> Option<i64> {
        let time = chrono::DateTime::from_timestamp_micros(micros)?.naive_utc();
        let shifted = if self.to_instant {
            match self.zone.from_local_datetime(&time) {
                LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => instant.naive_utc(),
                LocalResult::None => self.after_gap(time)?,
            }
        } else {
            time.checked_add_offset(self.zone.offset_from_utc_datetime(&time).fix())?
        };
        Some(shifted.and_utc().timestamp_micros())
    }

    /// With the offset that held before the gap.
    fn after_gap(&self, time: NaiveDateTime) -> Option<NaiveDateTime> {
        let day_before = time.checked_sub_signed(chrono::Duration::days(1))?;
        let offset = self.zone.offset_from_local_datetime(&day_before).earliest()?.fix();
        time.checked_sub_offset(offset)
    }
}

impl ScalarUDFImpl for ZoneCast {
    fn name(&self) -> &str {
        if self.to_instant { "local_to_instant" } else { "instant_to_local" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        let zone = self.to_instant.then(|| "UTC".into());
        Ok(DataType::Timestamp(TimeUnit::Microsecond, zone))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.first() else {
            return internal_err!("a cast has one argument");
        };
        let array = value.to_array(args.number_rows)?;
        let micros = compute::cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let shifted = micros
            .as_primitive::<TimestampMicrosecondType>()
            .unary_opt::<_, TimestampMicrosecondType>(|micros| self.shift(micros));
        let shifted = match args.return_field.data_type() {
            DataType::Timestamp(_, Some(zone)) => shifted.with_timezone(zone.clone()),
            _ => shifted,
        };
        Ok(ColumnarValue::Array(Arc::new(shifted) as ArrayRef))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(zone: Tz, to_instant: bool, from: &str, expected: &str) {
        let micros = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap().and_utc().timestamp_micros();
        assert_eq!(ZoneCast::new(zone, to_instant).shift(micros(from)), Some(micros(expected)), "{from} in {zone}");
    }

    #[test]
    fn zones_shift_both_ways() {
        check(Tz::America__New_York, true, "2026-01-31 10:20", "2026-01-31 15:20");
        check(Tz::America__New_York, false, "2026-01-31 03:00", "2026-01-30 22:00");
        check(Tz::America__New_York, true, "2026-07-01 00:00", "2026-07-01 04:00");
        check(Tz::America__New_York, true, "2026-03-08 02:30", "2026-03-08 07:30");
        check(Tz::America__New_York, true, "2026-11-01 01:30", "2026-11-01 05:30");
    }
}

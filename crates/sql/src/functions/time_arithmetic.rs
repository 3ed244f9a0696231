//! FLOOR and CEIL to a unit of time, TIMESTAMPADD, TIMESTAMPDIFF, and what operators on INTERVAL become.

use chrono::NaiveDateTime;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Int32Type, IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType};
use datafusion::common::Result;

use super::arguments::{Arguments, boolean_rows, number_rows};
use super::calendar::{MICROS_PER_DAY, Unit, add_months, floor_date, local_of_micros, micros_of_local, midnight, months_between};
use super::definition::{Definition, Kind, Planned, Returns, define};
use super::sql_type::SqlType;
use super::time::{MomentKind, Moments, moment_rows};

use Kind::{Interval, Temporal, TemporalOrInterval, Text};

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        define("floor_to", &[Temporal, Text], Returns::Computed(rounded_type), |args| round(args, false)),
        define("ceil_to", &[Temporal, Text], Returns::Computed(rounded_type), |args| round(args, true)),
        define("timestampadd", &[Text, Kind::Integer, Temporal], Returns::Computed(added_type), timestampadd),
        define("timestampdiff", &[Text, Temporal, Temporal], Returns::Computed(difference_type), timestampdiff),
        define("interval_multiply", &[Interval, Kind::Double], Returns::Sql(SqlType::Interval), interval_multiply),
        define("time_plus_interval", &[Temporal, Interval], Returns::Same(0), |args| time_plus(args, 1)),
        define("time_minus_interval", &[Temporal, Interval], Returns::Same(0), |args| time_plus(args, -1)),
        define(
            "overlaps",
            &[Temporal, TemporalOrInterval, Temporal, TemporalOrInterval],
            Returns::Sql(SqlType::Boolean),
            overlaps,
        ),
    ]
}

/// The unit that a constant names, for the time of planning.
fn planned_unit(planned: &Planned, index: usize) -> Result<Unit> {
    let name = planned.constant_text(index).ok_or_else(|| planned.error("the unit of time must be a constant"))?;
    Unit::parse(name).ok_or_else(|| planned.error(format!("{} is not a unit of time", name.to_uppercase())))
}

fn unit(args: &Arguments, index: usize) -> Result<Unit> {
    let name = args.text(index)?.get(0);
    name.and_then(Unit::parse).ok_or_else(|| args.error(format!("'{}' is not a unit of time", name.unwrap_or("NULL"))))
}

fn rounded_type(planned: &Planned) -> Result<SqlType> {
    let unit = planned_unit(planned, 1)?;
    if matches!(planned.data_type(0), DataType::Time64(_)) && (unit.micros().is_none() || unit == Unit::Week || unit == Unit::Day)
    {
        return Err(planned.error(format!("a TIME has no {}", format!("{unit:?}").to_uppercase())));
    }
    Ok(SqlType::of_field(&planned.fields[0]))
}

fn overflow(args: &Arguments) -> datafusion::common::DataFusionError {
    args.error("the result lies beyond the calendar")
}

/// The start of the unit in which a moment lies, or the next start if it lies behind it. TIMESTAMP_LTZ by the session's zone.
fn round(args: &Arguments, up: bool) -> Result<ArrayRef> {
    let moments = Moments::of(args, 0)?;
    let unit = unit(args, 1)?;
    let zone = (moments.kind == MomentKind::TimestampLtz).then_some(args.context.time_zone);
    let has_zone = zone.is_some_and(|zone| zone != chrono_tz::UTC);
    moment_rows(args, args.return_field.data_type(), |row| {
        let Some(micros) = moments.micros(row) else {
            return Ok(None);
        };
        // Without a zone, units up to a day have the same length always.
        let fixed = unit.micros().filter(|_| unit != Unit::Week && !has_zone);
        if let Some(length) = fixed {
            let floor = micros - micros.rem_euclid(length);
            let rounded = if up && floor < micros { floor.checked_add(length) } else { Some(floor) };
            return rounded.map(Some).ok_or_else(|| overflow(args));
        }
        let rounded = || {
            let local = local_of_micros(micros, zone)?;
            let floor = floor_local(local, unit)?;
            let rounded = if up && floor < local { add_local(floor, unit, 1)? } else { floor };
            micros_of_local(rounded, zone)
        };
        rounded().map(Some).ok_or_else(|| overflow(args))
    })
}

fn floor_local(local: NaiveDateTime, unit: Unit) -> Option<NaiveDateTime> {
    match unit.micros().filter(|length| *length < MICROS_PER_DAY) {
        Some(length) => {
            let micros = local.and_utc().timestamp_micros();
            local_of_micros(micros - micros.rem_euclid(length), None)
        }
        None => floor_date(local.date(), unit).map(midnight),
    }
}

fn add_local(local: NaiveDateTime, unit: Unit, count: i64) -> Option<NaiveDateTime> {
    match (unit.months(), unit.micros()) {
        (Some(months), _) => Some(add_months(local.date(), months.checked_mul(count)?)?.and_time(local.time())),
        (None, Some(length)) => {
            local_of_micros(local.and_utc().timestamp_micros().checked_add(length.checked_mul(count)?)?, None)
        }
        (None, None) => None,
    }
}

/// A DATE plus days or more stays a DATE; plus less than a day it becomes a TIMESTAMP.
fn added_type(planned: &Planned) -> Result<SqlType> {
    let unit = planned_unit(planned, 0)?;
    let given = SqlType::of_field(&planned.fields[2]);
    let below_a_day = unit.micros().is_some_and(|length| length < MICROS_PER_DAY);
    Ok(if given == SqlType::Date && below_a_day { SqlType::Timestamp(3) } else { given })
}

fn timestampadd(args: &Arguments) -> Result<ArrayRef> {
    let unit = unit(args, 0)?;
    let count = args.integers(1)?;
    let moments = Moments::of(args, 2)?;
    if moments.kind == MomentKind::Time {
        return number_rows::<Time64MicrosecondType>(args.rows, |row| {
            let (Some(count), Some(micros)) = (count.get(row), moments.micros(row)) else {
                return Ok(None);
            };
            let moved = unit.micros().and_then(|length| micros.checked_add(length.checked_mul(count)?));
            moved.map(|micros| Some(micros.rem_euclid(MICROS_PER_DAY))).ok_or_else(|| overflow(args))
        });
    }
    moment_rows(args, args.return_field.data_type(), |row| {
        let (Some(count), Some(micros)) = (count.get(row), moments.micros(row)) else {
            return Ok(None);
        };
        let moved = match unit.micros() {
            Some(length) => length.checked_mul(count).and_then(|length| micros.checked_add(length)),
            // Months count by UTC for TIMESTAMP_LTZ too, as in Flink.
            None => local_of_micros(micros, None)
                .and_then(|local| add_local(local, unit, count))
                .map(|local| local.and_utc().timestamp_micros()),
        };
        moved.map(Some).ok_or_else(|| overflow(args))
    })
}

fn difference_type(planned: &Planned) -> Result<SqlType> {
    planned_unit(planned, 0)?;
    Ok(SqlType::Int)
}

/// Whole units from the second argument to the third, cut towards zero.
fn timestampdiff(args: &Arguments) -> Result<ArrayRef> {
    let unit = unit(args, 0)?;
    let (start, end) = (Moments::of(args, 1)?, Moments::of(args, 2)?);
    // A moment and a local time meet on the clock of the session's zone.
    let mixed = (start.kind == MomentKind::TimestampLtz) != (end.kind == MomentKind::TimestampLtz);
    let micros = |moments: &Moments, row: usize| -> Result<Option<i64>> {
        if mixed {
            let local = moments.local(row, args.context.time_zone).transpose()?;
            return Ok(local.map(|local| local.and_utc().timestamp_micros()));
        }
        Ok(moments.micros(row))
    };
    number_rows::<Int32Type>(args.rows, |row| {
        let (Some(start), Some(end)) = (micros(&start, row)?, micros(&end, row)?) else {
            return Ok(None);
        };
        let count = match (unit.micros(), unit.months()) {
            (Some(length), _) => end.checked_sub(start).map(|micros| micros / length),
            (None, Some(length)) => local_of_micros(start, None)
                .zip(local_of_micros(end, None))
                .and_then(|(start, end)| months_between(start, end))
                .map(|months| months / length),
            (None, None) => None,
        };
        let count = count.and_then(|count| i32::try_from(count).ok());
        count.map(Some).ok_or_else(|| args.error(format!("overflow of INT when counting units of {unit:?}")))
    })
}

/// Fractions of a month are not kept; fractions of a day are.
fn interval_multiply(args: &Arguments) -> Result<ArrayRef> {
    let (intervals, factors) = (args.primitive::<IntervalMonthDayNanoType>(0)?, args.doubles(1)?);
    number_rows::<IntervalMonthDayNanoType>(args.rows, |row| {
        let (Some(interval), Some(factor)) = (intervals.get(row), factors.get(row)) else {
            return Ok(None);
        };
        let product = || {
            if factor.fract() == 0.0 && factor.abs() < 9e15 {
                // The usual case, a whole number, must be exact.
                let factor = factor as i64;
                return Some(IntervalMonthDayNano::new(
                    i32::try_from(i64::from(interval.months).checked_mul(factor)?).ok()?,
                    i32::try_from(i64::from(interval.days).checked_mul(factor)?).ok()?,
                    interval.nanoseconds.checked_mul(factor)?,
                ));
            }
            let days = f64::from(interval.days) * factor;
            let nanos = interval.nanoseconds as f64 * factor + days.fract() * 86_400e9;
            let months = f64::from(interval.months) * factor;
            let fits = months.abs() < f64::from(i32::MAX) && days.abs() < f64::from(i32::MAX) && nanos.abs() < i64::MAX as f64;
            fits.then(|| IntervalMonthDayNano::new(months as i32, days as i32, nanos as i64))
        };
        product().map(Some).ok_or_else(|| args.error("overflow of INTERVAL"))
    })
}

/// A TIME moved by an interval goes round the clock.
fn time_plus(args: &Arguments, sign: i64) -> Result<ArrayRef> {
    let moments = Moments::of(args, 0)?;
    let intervals = args.primitive::<IntervalMonthDayNanoType>(1)?;
    moment_rows(args, args.return_field.data_type(), |row| {
        let (Some(micros), Some(interval)) = (moments.micros(row), intervals.get(row)) else {
            return Ok(None);
        };
        let moved = moved(micros, moments.kind, interval, sign).ok_or_else(|| overflow(args))?;
        Ok(Some(if moments.kind == MomentKind::Time { moved.rem_euclid(MICROS_PER_DAY) } else { moved }))
    })
}

/// A moment moved by an interval; a TIME may leave its day.
fn moved(micros: i64, kind: MomentKind, interval: IntervalMonthDayNano, sign: i64) -> Option<i64> {
    let span = i64::from(interval.days).checked_mul(MICROS_PER_DAY)?.checked_add(interval.nanoseconds / 1_000)?;
    let by_months = if interval.months == 0 || kind == MomentKind::Time {
        micros
    } else {
        let local = local_of_micros(micros, None)?;
        let date = add_months(local.date(), sign * i64::from(interval.months))?;
        date.and_time(local.time()).and_utc().timestamp_micros()
    };
    by_months.checked_add(span.checked_mul(sign)?)
}

/// Whether two periods share a moment, ends included. A period is a start and an end, or a start and a length.
fn overlaps(args: &Arguments) -> Result<ArrayRef> {
    let (first, second) = (period(args, 0)?, period(args, 2)?);
    boolean_rows(args.rows, |row| {
        let (Some(first), Some(second)) = (first[row], second[row]) else {
            return Ok(None);
        };
        Ok(Some(first.0 <= second.1 && second.0 <= first.1))
    })
}

type Period = Option<(i64, i64)>;

fn period(args: &Arguments, index: usize) -> Result<Vec<Period>> {
    let start = Moments::of(args, index)?;
    let ends = match args.data_type(index + 1) {
        DataType::Interval(_) => None,
        _ => Some(Moments::of(args, index + 1)?),
    };
    let lengths = if ends.is_none() { Some(args.primitive::<IntervalMonthDayNanoType>(index + 1)?) } else { None };
    (0..args.rows)
        .map(|row| {
            let Some(begin) = start.micros(row) else {
                return Ok(None);
            };
            let end = match (&ends, &lengths) {
                (Some(ends), _) => ends.micros(row),
                (None, Some(lengths)) => match lengths.get(row) {
                    Some(length) => Some(moved(begin, start.kind, length, 1).ok_or_else(|| overflow(args))?),
                    None => None,
                },
                (None, None) => None,
            };
            Ok(end.map(|end| (begin.min(end), begin.max(end))))
        })
        .collect()
}

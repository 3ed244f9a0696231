//! Fields of dates and times: EXTRACT and the functions named after its units.

use chrono::{Datelike, NaiveDateTime, Timelike};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType};
use datafusion::common::Result;

use super::arguments::{Arguments, number_rows};
use super::calendar::{MICROS_PER_DAY, MICROS_PER_SECOND};
use super::definition::{Definition, Kind, Planned, Returns, define};
use super::sql_type::SqlType;
use super::time::{MomentKind, Moments};

pub(super) fn definitions() -> Vec<Definition> {
    let mut all = vec![define("extract", &[Kind::Text, Kind::TemporalOrInterval], Returns::Computed(extract_type), |args| {
        match args.text(0)?.get(0).and_then(Field::parse) {
            Some(field) => fields(args, 1, field),
            None => Err(args.error("takes the name of a unit")),
        }
    })];
    let named: [(&'static str, super::definition::Run); 10] = [
        ("year", |args| fields(args, 0, Field::Year)),
        ("quarter", |args| fields(args, 0, Field::Quarter)),
        ("month", |args| fields(args, 0, Field::Month)),
        ("week", |args| fields(args, 0, Field::Week)),
        ("dayofyear", |args| fields(args, 0, Field::DayOfYear)),
        ("dayofmonth", |args| fields(args, 0, Field::Day)),
        ("dayofweek", |args| fields(args, 0, Field::DayOfWeek)),
        ("hour", |args| fields(args, 0, Field::Hour)),
        ("minute", |args| fields(args, 0, Field::Minute)),
        ("second", |args| fields(args, 0, Field::Second)),
    ];
    all.extend(named.map(|(name, run)| define(name, &[Kind::Temporal], Returns::Sql(SqlType::BigInt), run)));
    all
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    /// ISO: the first week has the year's first Thursday.
    Week,
    Day,
    DayOfYear,
    /// From Sunday, 1.
    DayOfWeek,
    /// From Monday, 1.
    IsoDayOfWeek,
    Hour,
    Minute,
    Second,
    /// Of the minute, seconds included; so are microseconds and nanoseconds.
    Millisecond,
    Microsecond,
    Nanosecond,
    /// Seconds since 1970.
    Epoch,
}

impl Field {
    fn parse(name: &str) -> Option<Field> {
        Some(match name.to_ascii_uppercase().as_str() {
            "MILLENNIUM" | "MILLENIUM" => Field::Millennium,
            "CENTURY" => Field::Century,
            "DECADE" => Field::Decade,
            "YEAR" => Field::Year,
            "ISOYEAR" => Field::IsoYear,
            "QUARTER" => Field::Quarter,
            "MONTH" => Field::Month,
            "WEEK" | "ISOWEEK" => Field::Week,
            "DAY" => Field::Day,
            "DOY" | "DAYOFYEAR" => Field::DayOfYear,
            "DOW" | "DAYOFWEEK" => Field::DayOfWeek,
            "ISODOW" => Field::IsoDayOfWeek,
            "HOUR" => Field::Hour,
            "MINUTE" => Field::Minute,
            "SECOND" => Field::Second,
            "MILLISECOND" => Field::Millisecond,
            "MICROSECOND" => Field::Microsecond,
            "NANOSECOND" => Field::Nanosecond,
            "EPOCH" => Field::Epoch,
            _ => return None,
        })
    }

    fn of(self, at: NaiveDateTime) -> i64 {
        let year = i64::from(at.year());
        let seconds = i64::from(at.second());
        match self {
            Field::Millennium => (year + 999).div_euclid(1000),
            Field::Century => (year + 99).div_euclid(100),
            Field::Decade => year.div_euclid(10),
            Field::Year => year,
            Field::IsoYear => i64::from(at.iso_week().year()),
            Field::Quarter => i64::from(at.month0() / 3 + 1),
            Field::Month => i64::from(at.month()),
            Field::Week => i64::from(at.iso_week().week()),
            Field::Day => i64::from(at.day()),
            Field::DayOfYear => i64::from(at.ordinal()),
            Field::DayOfWeek => i64::from(at.weekday().number_from_sunday()),
            Field::IsoDayOfWeek => i64::from(at.weekday().number_from_monday()),
            Field::Hour => i64::from(at.hour()),
            Field::Minute => i64::from(at.minute()),
            Field::Second => seconds,
            Field::Millisecond => seconds * 1_000 + i64::from(at.nanosecond() / 1_000_000),
            Field::Microsecond => seconds * 1_000_000 + i64::from(at.nanosecond() / 1_000),
            Field::Nanosecond => seconds * 1_000_000_000 + i64::from(at.nanosecond()),
            Field::Epoch => at.and_utc().timestamp(),
        }
    }

    /// The field of the part of a day, where it is one and the day's zone does not matter.
    fn of_day(self, micros: i64) -> Option<i64> {
        let seconds = micros.div_euclid(MICROS_PER_SECOND);
        Some(match self {
            Field::Hour => seconds / 3_600,
            Field::Minute => seconds / 60 % 60,
            Field::Second => seconds % 60,
            _ => return None,
        })
    }
}

fn extract_type(planned: &Planned) -> Result<SqlType> {
    match planned.constant_text(0) {
        Some(name) if Field::parse(name).is_none() => {
            Err(planned.error(format!("{} is not a unit of time", name.to_uppercase())))
        }
        _ => Ok(SqlType::BigInt),
    }
}

fn fields(args: &Arguments, index: usize, field: Field) -> Result<ArrayRef> {
    if matches!(args.data_type(index), DataType::Interval(_)) {
        return fields_of_interval(args, index, field);
    }
    let moments = Moments::of(args, index)?;
    let zone = args.context.time_zone;
    let is_date_field = !matches!(
        field,
        Field::Hour | Field::Minute | Field::Second | Field::Millisecond | Field::Microsecond | Field::Nanosecond | Field::Epoch
    );
    if moments.kind == MomentKind::Time && is_date_field {
        return Err(args.error(format!("a TIME has no {}", format!("{field:?}").to_uppercase())));
    }
    let has_zone = moments.kind == MomentKind::TimestampLtz && zone != chrono_tz::UTC;
    number_rows::<Int64Type>(args.rows, |row| {
        let Some(micros) = moments.micros(row) else {
            return Ok(None);
        };
        if field == Field::Epoch {
            return Ok(Some(micros.div_euclid(MICROS_PER_SECOND)));
        }
        if !has_zone && let Some(value) = field.of_day(micros.rem_euclid(MICROS_PER_DAY)) {
            return Ok(Some(value));
        }
        Ok(moments.local(row, zone).transpose()?.map(|local| field.of(local)))
    })
}

/// What is left over of the next larger unit: the HOUR of 1 day 5 hours is 5. Cut towards zero, with the sign.
fn fields_of_interval(args: &Arguments, index: usize, field: Field) -> Result<ArrayRef> {
    let intervals = args.primitive::<IntervalMonthDayNanoType>(index)?;
    number_rows::<Int64Type>(args.rows, |row| {
        let Some(interval) = intervals.get(row) else {
            return Ok(None);
        };
        let months = i64::from(interval.months);
        let seconds = interval.nanoseconds / 1_000_000_000;
        Ok(Some(match field {
            Field::Year => months / 12,
            Field::Month => months % 12,
            Field::Quarter => months % 12 / 3 + 1,
            Field::Day => i64::from(interval.days) + seconds / 86_400,
            Field::Hour => seconds / 3_600 % 24,
            Field::Minute => seconds / 60 % 60,
            Field::Second => seconds % 60,
            Field::Millisecond => interval.nanoseconds / 1_000_000 % 60_000,
            Field::Epoch => i64::from(interval.days) * 86_400 + seconds,
            other => return Err(args.error(format!("an INTERVAL has no {}", format!("{other:?}").to_uppercase()))),
        }))
    })
}

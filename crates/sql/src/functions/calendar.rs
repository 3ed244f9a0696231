//! Moments, days and months: the arithmetic behind the temporal functions. No Arrow, no SQL.

use chrono::{
    DateTime, Datelike, Days, MappedLocalTime, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone,
};
use chrono_tz::Tz;

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// The local date and time of a moment (microseconds since 1970); `None` beyond the years of chrono.
pub(super) fn local_of_micros(micros: i64, zone: Option<Tz>) -> Option<NaiveDateTime> {
    local_of_parts(micros.div_euclid(MICROS_PER_SECOND), (micros.rem_euclid(MICROS_PER_SECOND) * 1000) as u32, zone)
}

/// As [`local_of_micros`], from seconds since 1970 and nanoseconds.
pub(super) fn local_of_parts(seconds: i64, nanos: u32, zone: Option<Tz>) -> Option<NaiveDateTime> {
    let utc = DateTime::from_timestamp(seconds, nanos)?;
    match zone {
        None | Some(Tz::UTC) => Some(utc.naive_utc()),
        Some(zone) => {
            let offset = zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc();
            utc.naive_utc().checked_add_signed(TimeDelta::seconds(i64::from(offset)))
        }
    }
}

/// Microseconds since 1970 of a local date and time.
///
/// As in Java: a time that two hours of an autumn share is the earlier one; one that a spring skips is moved on by the gap.
pub(super) fn micros_of_local(local: NaiveDateTime, zone: Option<Tz>) -> Option<i64> {
    let offset = match zone {
        None | Some(Tz::UTC) => 0,
        Some(zone) => match zone.offset_from_local_datetime(&local) {
            MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => offset.fix().local_minus_utc(),
            MappedLocalTime::None => {
                let day_before = local.checked_sub_days(Days::new(1))?;
                zone.offset_from_local_datetime(&day_before).earliest()?.fix().local_minus_utc()
            }
        },
    };
    local.and_utc().timestamp_micros().checked_sub(i64::from(offset) * MICROS_PER_SECOND)
}

/// Days since 1970.
pub(super) fn days_of(date: NaiveDate) -> i32 {
    date.to_epoch_days()
}

pub(super) fn date_of_days(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(days)
}

/// A local time at midnight.
pub(super) fn midnight(date: NaiveDate) -> NaiveDateTime {
    date.and_time(NaiveTime::MIN)
}

/// Adds months; a day that the month lacks becomes its last one.
pub(super) fn add_months(date: NaiveDate, months: i64) -> Option<NaiveDate> {
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 { date.checked_sub_months(count) } else { date.checked_add_months(count) }
}

/// Whole months from `start` to `end`, cut towards zero. A month is over on the same day of the next, or on its last day.
///
/// # Source
/// Calcite's `subtractMonths`, but symmetric: the later time of one day is 0 months before the earlier one, not -1.
pub(super) fn months_between(start: NaiveDateTime, end: NaiveDateTime) -> Option<i64> {
    if end < start {
        return months_between(end, start).map(|months| -months);
    }
    let (first, last) = (start.date(), end.date());
    let mut months = i64::from(last.year() - first.year()) * 12 + i64::from(last.month()) - i64::from(first.month());
    let reached = add_months(first, months)?;
    if reached > last || (reached == last && end.time() < start.time()) {
        months -= 1;
    }
    Some(months.max(0))
}

/// A unit of time in EXTRACT, FLOOR, TIMESTAMPADD and their like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Millennium,
    Century,
    Decade,
    Year,
    Quarter,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
}

impl Unit {
    /// Reads `DAY`, `days` or `SQL_TSI_DAY`.
    pub fn parse(text: &str) -> Option<Unit> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SQL_TSI_").unwrap_or(&upper);
        Some(match name {
            "MILLENNIUM" | "MILLENIUM" => Unit::Millennium,
            "CENTURY" => Unit::Century,
            "DECADE" => Unit::Decade,
            "YEAR" | "YEARS" => Unit::Year,
            "QUARTER" | "QUARTERS" => Unit::Quarter,
            "MONTH" | "MONTHS" => Unit::Month,
            "WEEK" | "WEEKS" => Unit::Week,
            "DAY" | "DAYS" => Unit::Day,
            "HOUR" | "HOURS" => Unit::Hour,
            "MINUTE" | "MINUTES" => Unit::Minute,
            "SECOND" | "SECONDS" => Unit::Second,
            "MILLISECOND" | "MILLISECONDS" => Unit::Millisecond,
            "MICROSECOND" | "MICROSECONDS" => Unit::Microsecond,
            _ => return None,
        })
    }

    /// Its length in months, if it is made of months.
    pub fn months(self) -> Option<i64> {
        match self {
            Unit::Millennium => Some(12_000),
            Unit::Century => Some(1_200),
            Unit::Decade => Some(120),
            Unit::Year => Some(12),
            Unit::Quarter => Some(3),
            Unit::Month => Some(1),
            _ => None,
        }
    }

    /// Its length in microseconds, if that is always the same.
    pub fn micros(self) -> Option<i64> {
        match self {
            Unit::Week => Some(7 * MICROS_PER_DAY),
            Unit::Day => Some(MICROS_PER_DAY),
            Unit::Hour => Some(3_600 * MICROS_PER_SECOND),
            Unit::Minute => Some(60 * MICROS_PER_SECOND),
            Unit::Second => Some(MICROS_PER_SECOND),
            Unit::Millisecond => Some(1_000),
            Unit::Microsecond => Some(1),
            _ => None,
        }
    }
}

/// The first day of the unit in which `date` lies. Weeks begin on Sunday, as Flink's FLOOR has them.
pub(super) fn floor_date(date: NaiveDate, unit: Unit) -> Option<NaiveDate> {
    let year = date.year();
    match unit {
        Unit::Week => date.checked_sub_days(Days::new(u64::from(date.weekday().num_days_from_sunday()))),
        Unit::Month => NaiveDate::from_ymd_opt(year, date.month(), 1),
        Unit::Quarter => NaiveDate::from_ymd_opt(year, date.month0() / 3 * 3 + 1, 1),
        Unit::Year => NaiveDate::from_ymd_opt(year, 1, 1),
        Unit::Decade => NaiveDate::from_ymd_opt(year.div_euclid(10) * 10, 1, 1),
        // Centuries and millennia begin with the year 1.
        Unit::Century => NaiveDate::from_ymd_opt((year - 1).div_euclid(100) * 100 + 1, 1, 1),
        Unit::Millennium => NaiveDate::from_ymd_opt((year - 1).div_euclid(1000) * 1000 + 1, 1, 1),
        _ => Some(date),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap()
    }

    #[test]
    fn months_are_whole() {
        let check = |start: &str, end: &str, expected| assert_eq!(months_between(at(start), at(end)), Some(expected), "{start}");
        check("2026-01-31 00:00:00", "2026-02-28 00:00:00", 1);
        check("2024-02-29 00:00:00", "2025-02-28 23:59:59", 12);
        check("2026-03-01 00:00:00", "2026-01-31 00:00:00", -1);
        check("2026-01-31 12:00:00", "2026-01-31 11:59:59", 0);
        check("2026-01-15 12:00:00", "2026-02-15 11:59:59", 0);
        check("2026-02-15 11:59:59", "2026-01-15 12:00:00", 0);
    }

    #[test]
    fn local_times_of_a_clock_change() {
        let berlin = Some(chrono_tz::Europe::Berlin);
        let check = |local: &str, utc: &str| {
            assert_eq!(micros_of_local(at(local), berlin), Some(at(utc).and_utc().timestamp_micros()), "{local}");
        };
        check("2026-07-01 12:00:00", "2026-07-01 10:00:00");
        check("2026-03-29 02:30:00", "2026-03-29 01:30:00");
        check("2026-10-25 02:30:00", "2026-10-25 00:30:00");
        assert_eq!(local_of_micros(i64::MAX, berlin), None);
    }
}

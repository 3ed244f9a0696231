//! Between instants and the local time in which windows are aligned.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use thalweg_core::{Error, Result};
use thalweg_plan::TimeZoneRule;

const HOUR_MS: i64 = 3_600_000;
/// More than any zone's distance from UTC and any jump of its clock (Samoa left out a whole day in 2011).
const SEARCH_MS: i64 = 40 * HOUR_MS;

/// Turns event times into local milliseconds and ends of windows into instants.
pub(crate) struct LocalTime {
    /// `None` when times are taken as they stand.
    zone: Option<Tz>,
    /// An hour of UTC in which the clock does not change, with the distance of local time from UTC.
    known: Option<(i64, i64)>,
}

impl LocalTime {
    pub(crate) fn new(rule: &TimeZoneRule) -> Result<Self> {
        let zone = match rule {
            TimeZoneRule::Local => None,
            TimeZoneRule::Zone(name) => Some(name.parse::<Tz>().map_err(|_| {
                Error::user(format!("time zone \"{name}\" does not exist"))
                    .with_help("name a zone of the IANA database, such as 'UTC' or 'Europe/Berlin'")
            })?),
        };
        Ok(LocalTime { zone, known: None })
    }

    /// The local time at an instant, both in milliseconds.
    pub(crate) fn local(&mut self, instant: i64) -> i64 {
        let Some(zone) = self.zone else {
            return instant;
        };
        let hour = instant.div_euclid(HOUR_MS);
        if let Some((known_hour, offset)) = self.known
            && known_hour == hour
        {
            return instant.saturating_add(offset);
        }
        let offset = offset_at(zone, instant);
        let start = hour.saturating_mul(HOUR_MS);
        let is_steady = offset_at(zone, start) == offset && offset_at(zone, start.saturating_add(HOUR_MS - 1)) == offset;
        self.known = is_steady.then_some((hour, offset));
        instant.saturating_add(offset)
    }

    /// The last instant at which the local clock shows a time before `end`: the watermark that closes a window ending there.
    ///
    /// Where the clock goes back, that is in the second pass through the repeated time, so that both passes share a window;
    /// where it goes forward over `end`, the last instant before the jump. Never decreases with `end`.
    /// Source: Flink 2.3, `TimeWindowUtil.toEpochMillsForTimer`.
    pub(crate) fn last_instant_before(&self, end: i64) -> i64 {
        let last = end.saturating_sub(1);
        let Some(zone) = self.zone else {
            return last;
        };
        let Some(local) = naive(last) else {
            return last;
        };
        match zone.from_local_datetime(&local) {
            MappedLocalTime::Single(at) => at.timestamp_millis(),
            MappedLocalTime::Ambiguous(one, other) => one.timestamp_millis().max(other.timestamp_millis()),
            MappedLocalTime::None => last_before_gap(zone, last),
        }
    }
}

/// The greatest instant whose local time is not after `local`, which the clock of `zone` skips.
fn last_before_gap(zone: Tz, local: i64) -> i64 {
    // Invariant: the local time of `before` is at most `local`, that of `after` is greater. Local time grows throughout the
    // range searched, as its only jump is the gap.
    let (mut before, mut after) = (local - SEARCH_MS, local + SEARCH_MS);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if middle + offset_at(zone, middle) <= local {
            before = middle;
        } else {
            after = middle;
        }
    }
    before
}

fn naive(ms: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_millis(ms).map(|at| at.naive_utc())
}

/// Milliseconds to add to UTC; zero beyond the calendar's range, where no zone has rules.
fn offset_at(zone: Tz, instant: i64) -> i64 {
    naive(instant).map_or(0, |utc| i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap().and_utc().timestamp_millis()
    }

    fn new_york() -> LocalTime {
        LocalTime::new(&TimeZoneRule::Zone("America/New_York".to_string())).unwrap()
    }

    fn check_end(end: &str, instant: &str) {
        assert_eq!(new_york().last_instant_before(ms(end)), ms(instant) - 1, "{end}");
    }

    #[test]
    fn windows_end_after_the_second_pass() {
        check_end("2026-11-01 01:00:00", "2026-11-01 05:00:00");
        check_end("2026-11-01 01:30:00", "2026-11-01 06:30:00");
        check_end("2026-11-01 02:00:00", "2026-11-01 07:00:00");
        check_end("2026-11-02 00:00:00", "2026-11-02 05:00:00");
    }

    #[test]
    fn windows_end_before_a_gap() {
        check_end("2026-03-08 02:00:00", "2026-03-08 07:00:00");
        check_end("2026-03-08 02:30:00", "2026-03-08 07:00:00");
        check_end("2026-03-08 03:00:00", "2026-03-08 07:00:00");
        check_end("2026-03-08 03:30:00", "2026-03-08 07:30:00");
    }

    #[test]
    fn local_time_follows_the_clock() {
        let mut zone = new_york();
        for (utc, local) in [
            ("2026-11-01 05:30:00", "2026-11-01 01:30:00"),
            ("2026-11-01 06:30:00", "2026-11-01 01:30:00"),
            ("2026-11-01 05:59:59", "2026-11-01 01:59:59"),
            ("1800-01-01 12:00:00", "1800-01-01 07:03:58"),
        ] {
            assert_eq!(zone.local(ms(utc)), ms(local), "{utc}");
        }
    }

    #[test]
    fn every_instant_is_inside_its_window() {
        for name in ["America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"] {
            let mut zone = LocalTime::new(&TimeZoneRule::Zone(name.to_string())).unwrap();
            let mut last_end = i64::MIN;
            for step in 0..(6 * 365 * 48) {
                let instant = ms("2009-01-01 00:00:00") + step * 1_800_000 + 17;
                let local = zone.local(instant);
                let end = local - local.rem_euclid(900_000) + 900_000;
                assert!(zone.last_instant_before(end) >= instant, "{name} {instant}");
                assert!(zone.last_instant_before(end) >= zone.last_instant_before(end - 900_000), "{name} {instant}");
                last_end = last_end.max(end);
            }
        }
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        let mut zone = new_york();
        for end in [i64::MIN, i64::MIN / 1_000, i64::MAX / 1_000, i64::MAX] {
            zone.local(end);
            zone.last_instant_before(end);
        }
        assert!(LocalTime::new(&TimeZoneRule::Zone("Mars/Base".to_string())).is_err());
    }
}

//! Dates, times and timestamps as text, in the forms of Flink's formats.
//!
//! Days and times outside the calendar (`02-30`, `24:00:00`) are refused; Java's lenient resolver would bend some of them.

const MICROS_PER_DAY: i64 = 86_400_000_000;
const NANOS_PER_DAY: i64 = 86_400_000_000_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// How a timestamp is written (`timestamp-format.standard`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampStandard {
    /// `yyyy-MM-dd HH:mm:ss[.fraction]`.
    #[default]
    Sql,
    /// `yyyy-MM-ddTHH:mm[:ss[.fraction]]`.
    Iso8601,
}

impl TimestampStandard {
    fn separator(self) -> u8 {
        match self {
            TimestampStandard::Sql => b' ',
            TimestampStandard::Iso8601 => b'T',
        }
    }
}

/// A day and the nanoseconds since its midnight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DayTime {
    days: i64,
    nanos: i64,
}

impl DayTime {
    /// Microseconds since 1970; digits beyond are cut off. `None` when the year is out of range.
    pub fn as_micros(self) -> Option<i64> {
        self.days.checked_mul(MICROS_PER_DAY)?.checked_add(self.nanos / 1_000)
    }

    /// Nanoseconds since 1970; `None` outside the years 1677 to 2262.
    pub fn as_nanos(self) -> Option<i64> {
        i64::try_from(i128::from(self.days) * i128::from(NANOS_PER_DAY) + i128::from(self.nanos)).ok()
    }
}

/// A timestamp; with `zone` it must end in `Z`, without it must not.
pub fn parse_timestamp(text: &str, standard: TimestampStandard, zone: bool) -> Option<DayTime> {
    let mut bytes = text.as_bytes();
    if zone {
        bytes = bytes.strip_suffix(b"Z")?;
    }
    let separator = standard.separator();
    // Ten characters of date in all but far years.
    let at = if bytes.get(10) == Some(&separator) { 10 } else { bytes.iter().position(|byte| *byte == separator)? };
    let days = parse_date_bytes(&bytes[..at])?;
    let nanos = parse_time_bytes(&bytes[at + 1..], standard == TimestampStandard::Iso8601)?;
    Some(DayTime { days, nanos })
}

/// `yyyy-MM-dd` as days since 1970.
pub fn parse_date(text: &str) -> Option<i32> {
    i32::try_from(parse_date_bytes(text.as_bytes())?).ok()
}

/// As [`parse_date`], but month and day may have one digit, as `java.sql.Date.valueOf` allows.
pub fn parse_loose_date(text: &str) -> Option<i32> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || !(1..=2).contains(&month.len()) || !(1..=2).contains(&day.len()) {
        return None;
    }
    let days = days_of_civil(number(year.as_bytes())?, number(month.as_bytes())?, number(day.as_bytes())?)?;
    i32::try_from(days).ok()
}

/// `HH:mm:ss[.fraction]` as nanoseconds since midnight.
pub fn parse_time(text: &str) -> Option<i64> {
    parse_time_bytes(text.as_bytes(), false)
}

fn parse_date_bytes(bytes: &[u8]) -> Option<i64> {
    let (negative, rest) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let signed = rest.len() != bytes.len();
    let year_digits = rest.len().checked_sub(6)?;
    if rest[year_digits] != b'-' || rest[year_digits + 3] != b'-' || !(4..=6).contains(&year_digits) {
        return None;
    }
    // A plus is for years beyond 9999, and those need it.
    if !negative && signed != (year_digits > 4) {
        return None;
    }
    let year = number(&rest[..year_digits])?;
    let month = number(&rest[year_digits + 1..year_digits + 3])?;
    let day = number(&rest[year_digits + 4..])?;
    days_of_civil(if negative { -year } else { year }, month, day)
}

fn parse_time_bytes(bytes: &[u8], seconds_optional: bool) -> Option<i64> {
    if bytes.len() < 5 || bytes[2] != b':' {
        return None;
    }
    let hour = number(&bytes[..2])?;
    let minute = number(&bytes[3..5])?;
    let (second, fraction) = match &bytes[5..] {
        [] if seconds_optional => (0, &bytes[..0]),
        [b':', tens, units, rest @ ..] => (number(&[*tens, *units])?, rest),
        _ => return None,
    };
    let nanos = match fraction {
        [] => 0,
        [b'.', digits @ ..] if digits.len() <= 9 => {
            let missing = 9 - u32::try_from(digits.len()).ok()?;
            number(digits)? * 10_i64.pow(missing)
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some((hour * 3_600 + minute * 60 + second) * NANOS_PER_SECOND + nanos)
}

/// Digits only; at most nine of them, so nothing overflows. Nothing is 0.
fn number(digits: &[u8]) -> Option<i64> {
    let mut value = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(value)
}

/// Days since 1970 in the proleptic Gregorian calendar; `None` for a day that does not exist.
/// # Source
/// Howard Hinnant, "chrono-compatible low-level date algorithms".
fn days_of_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day < 1 || day > days_in_month {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn civil_of_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `yyyy-MM-dd`; years beyond four digits have a sign, as ISO 8601 wants it.
pub fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil_of_days(days);
    if year < 0 {
        out.push(b'-');
    } else if year > 9_999 {
        out.push(b'+');
    }
    let year = year.unsigned_abs();
    if year > 9_999 {
        out.extend_from_slice(itoa::Buffer::new().format(year).as_bytes());
    } else {
        write_two(out, (year / 100) as i64);
        write_two(out, (year % 100) as i64);
    }
    out.push(b'-');
    write_two(out, month);
    out.push(b'-');
    write_two(out, day);
}

/// `HH:mm:ss` and a fraction without trailing zeros, none if it is zero.
pub fn write_time(out: &mut Vec<u8>, nanos_of_day: i64) {
    let seconds = nanos_of_day.div_euclid(NANOS_PER_SECOND);
    write_two(out, seconds / 3_600 % 24);
    out.push(b':');
    write_two(out, seconds / 60 % 60);
    out.push(b':');
    write_two(out, seconds % 60);
    let mut fraction = nanos_of_day.rem_euclid(NANOS_PER_SECOND);
    if fraction == 0 {
        return;
    }
    out.push(b'.');
    let mut unit = NANOS_PER_SECOND / 10;
    while fraction > 0 {
        out.push(b'0' + (fraction / unit) as u8);
        fraction %= unit;
        unit /= 10;
    }
}

/// A timestamp in microseconds since 1970; `zone` puts `Z` behind it.
pub fn write_timestamp_micros(out: &mut Vec<u8>, micros: i64, standard: TimestampStandard, zone: bool) {
    write_day_time(out, micros.div_euclid(MICROS_PER_DAY), micros.rem_euclid(MICROS_PER_DAY) * 1_000, standard, zone);
}

/// A timestamp in nanoseconds since 1970; `zone` puts `Z` behind it.
pub fn write_timestamp_nanos(out: &mut Vec<u8>, nanos: i64, standard: TimestampStandard, zone: bool) {
    write_day_time(out, nanos.div_euclid(NANOS_PER_DAY), nanos.rem_euclid(NANOS_PER_DAY), standard, zone);
}

fn write_day_time(out: &mut Vec<u8>, days: i64, nanos: i64, standard: TimestampStandard, zone: bool) {
    write_date(out, days);
    out.push(standard.separator());
    write_time(out, nanos);
    if zone {
        out.push(b'Z');
    }
}

fn write_two(out: &mut Vec<u8>, value: i64) {
    out.push(b'0' + (value / 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str, standard: TimestampStandard, zone: bool) -> Option<i64> {
        parse_timestamp(text, standard, zone).and_then(DayTime::as_micros)
    }

    #[test]
    fn timestamps_of_both_standards() {
        use TimestampStandard::{Iso8601, Sql};
        assert_eq!(micros("2026-01-01 00:00:01.9", Sql, false), Some(1_767_225_601_900_000));
        assert_eq!(micros("2026-01-01 00:00:01.1239", Sql, false), Some(1_767_225_601_123_900));
        assert_eq!(micros("1969-12-31 23:59:59.999999", Sql, false), Some(-1));
        assert_eq!(micros("0001-01-01 00:00:00", Sql, false), Some(-62_135_596_800_000_000));
        assert_eq!(micros("2026-01-01 00:00:01Z", Sql, true), Some(1_767_225_601_000_000));
        assert_eq!(micros("2026-01-01T00:00:01.5", Iso8601, false), Some(1_767_225_601_500_000));
        assert_eq!(micros("2026-01-01T00:00", Iso8601, false), Some(1_767_225_600_000_000));
        for bad in [
            "2026-01-01T00:00:01",
            "2026-01-01 00:01",
            "2026-01-01 00:00:01Z",
            "2026-01-01",
            "2026-02-29 00:00:00",
            "2026-01-01 24:00:00",
            "2026-01-01 00:00:60",
            "2026-1-01 00:00:00",
            "2026-01-01 00:00:00.1234567890",
            "2026-01-01 00:00:00,5",
            " 2026-01-01 00:00:00",
            "",
            "é026-01-01 00:00:00",
        ] {
            assert_eq!(micros(bad, Sql, false), None, "{bad}");
        }
        assert_eq!(micros("2026-01-01 00:00:01", Sql, true), None);
    }

    #[test]
    fn nanoseconds_have_a_short_history() {
        let parse = |text| parse_timestamp(text, TimestampStandard::Sql, false).unwrap().as_nanos();
        assert_eq!(parse("2026-01-01 00:00:01.123456789"), Some(1_767_225_601_123_456_789));
        assert_eq!(parse("0001-01-01 00:00:00"), None);
        assert_eq!(parse("1677-09-21 00:12:43.145224192"), Some(i64::MIN));
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(parse_date("1969-12-31"), Some(-1));
        assert_eq!(parse_date("+10000-01-01"), Some(2_932_897));
        assert_eq!(parse_date("10000-01-01"), None);
        assert_eq!(parse_date("2026-2-3"), None);
        assert_eq!(parse_loose_date("2026-2-3"), parse_date("2026-02-03"));
        assert_eq!(parse_loose_date("2026-2-31"), None);
        assert_eq!(parse_time("10:20:30.123"), Some(37_230_123_000_000));
        assert_eq!(parse_time("10:20"), None);
    }

    proptest! {
        #[test]
        fn any_date_comes_back(days in -300_000_000_i32..300_000_000) {
            let mut out = vec![];
            write_date(&mut out, days.into());
            prop_assert_eq!(parse_date(std::str::from_utf8(&out).unwrap()), Some(days));
        }

        #[test]
        fn any_timestamp_comes_back(value: i64, zone: bool, iso: bool) {
            let standard = if iso { TimestampStandard::Iso8601 } else { TimestampStandard::Sql };
            let mut out = vec![];
            write_timestamp_micros(&mut out, value, standard, zone);
            prop_assert_eq!(micros(std::str::from_utf8(&out).unwrap(), standard, zone), Some(value));
            out.clear();
            write_timestamp_nanos(&mut out, value, standard, zone);
            let back = parse_timestamp(std::str::from_utf8(&out).unwrap(), standard, zone).unwrap();
            prop_assert_eq!(back.as_nanos(), Some(value));
        }

        #[test]
        fn never_panics(text in ".{0,30}") {
            parse_timestamp(&text, TimestampStandard::Sql, false);
            parse_date(&text);
            parse_loose_date(&text);
            parse_time(&text);
        }
    }
}

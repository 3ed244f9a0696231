//! Dates and times in texts without a pattern, as Flink's casts read them.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use super::time_pattern::date_smart;

/// `yyyy-M-d[ H:m:s[.fraction]]`, nothing before or behind. A day that the month lacks, up to 31, becomes its last one.
pub(super) fn parse_timestamp(text: &str) -> Option<NaiveDateTime> {
    let (date, time) = match text.split_once(' ') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let (year, rest) = date.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    if year.len() != 4 {
        return None;
    }
    let date = date_smart(i32::try_from(digits(year, 4)?).ok()?, digits(month, 2)?, digits(day, 2)?)?;
    let time = match time {
        Some(time) => parse_seconds(time)?,
        None => NaiveTime::MIN,
    };
    Some(date.and_time(time))
}

/// `H:m:s[.fraction]`; digits behind the ninth are cut off.
fn parse_seconds(text: &str) -> Option<NaiveTime> {
    let (time, fraction) = match text.split_once('.') {
        Some((time, fraction)) => (time, fraction),
        None => (text, ""),
    };
    let mut parts = time.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction)).parse().ok()?;
    let part = |text: &str| u32::try_from(digits(text, 2)?).ok();
    NaiveTime::from_hms_nano_opt(part(hour)?, part(minute)?, part(second)?, nanos)
}

/// `yyyy[-M[-d]]` with blanks around the parts; what follows a blank behind it is ignored.
pub(super) fn parse_date(text: &str) -> Option<NaiveDate> {
    let text = match text.find(' ') {
        Some(at) if at > 0 => &text[..at],
        _ => text,
    };
    let mut parts = text.splitn(3, '-').map(|part| digits(part.trim(), 4));
    let year = i32::try_from(parts.next()??).ok()?;
    let month = u32::try_from(parts.next().unwrap_or(Some(1))?).ok()?;
    let day = u32::try_from(parts.next().unwrap_or(Some(1))?).ok()?;
    NaiveDate::from_ymd_opt(year, month, day)
}

/// `H:m[:s[.fraction]]`.
pub(super) fn parse_time(text: &str) -> Option<NaiveTime> {
    let text = text.trim();
    if text.matches(':').count() == 1 { parse_seconds(&format!("{text}:00")) } else { parse_seconds(text) }
}

/// A number of 1 to `most` digits.
fn digits(text: &str, most: usize) -> Option<i64> {
    let is_number = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_recorded_texts() {
        // text, DATE, TIME, TIMESTAMP
        let cases = [
            ("2026-01-31", "2026-01-31", "", "2026-01-31 00:00:00"),
            ("2026-1-5", "2026-01-05", "", "2026-01-05 00:00:00"),
            ("2026-01-31 10:20:30.123456789", "2026-01-31", "", "2026-01-31 10:20:30.123456789"),
            ("2026-01-31T10:20:30", "", "", ""),
            ("10:20:30", "", "10:20:30", ""),
            ("10:20", "", "10:20:00", ""),
            ("2026-02-30", "", "", "2026-02-28 00:00:00"),
            ("2026", "2026-01-01", "", ""),
            (" 2026-01-31 ", "2026-01-31", "", ""),
            ("2026-01-31 10:20", "2026-01-31", "", ""),
            ("12", "0012-01-01", "", ""),
            ("1e2", "", "", ""),
            ("", "", "", ""),
            ("tea", "", "", ""),
            ("日本-1-1", "", "", ""),
        ];
        for (text, date, time, timestamp) in cases {
            assert_eq!(parse_date(text).map_or(String::new(), |date| date.to_string()), date, "{text}");
            assert_eq!(parse_time(text).map_or(String::new(), |time| time.to_string()), time, "{text}");
            assert_eq!(parse_timestamp(text).map_or(String::new(), |at| at.to_string()), timestamp, "{text}");
        }
    }
}

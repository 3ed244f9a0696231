//! Date and time patterns of Java (`yyyy-MM-dd HH:mm:ss.SSS`), to print and to read.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use super::calendar::midnight;

/// A pattern taken apart.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    items: Vec<Item>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    Literal(String),
    /// A number of at least `width` digits.
    Number(Field, usize),
    /// The last two digits of the year.
    ShortYear,
    MonthName(bool),
    DayName(bool),
    AmPm,
    /// So many digits of the fraction of a second.
    Fraction(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Year,
    Quarter,
    Month,
    Day,
    DayOfYear,
    /// From Monday, 1.
    DayOfWeek,
    WeekOfYear,
    Hour,
    /// 1 to 24.
    ClockHour,
    /// 0 to 11.
    HalfDayHour,
    /// 1 to 12.
    HalfDayClockHour,
    Minute,
    Second,
    Nano,
    MilliOfDay,
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Pattern {
    /// # Errors
    /// A message for a letter that means nothing, or a quote that is not closed.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let mut items: Vec<Item> = vec![];
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let item = match c {
                '\'' => {
                    let mut literal = String::new();
                    if chars.next_if_eq(&'\'').is_some() {
                        literal.push('\'');
                    } else {
                        loop {
                            match chars.next() {
                                Some('\'') if chars.next_if_eq(&'\'').is_some() => literal.push('\''),
                                Some('\'') => break,
                                Some(other) => literal.push(other),
                                None => return Err(format!("pattern '{text}' has a quote that is not closed")),
                            }
                        }
                    }
                    Item::Literal(literal)
                }
                letter if letter.is_ascii_alphabetic() => {
                    let mut width = 1;
                    while chars.next_if_eq(&letter).is_some() {
                        width += 1;
                    }
                    Item::of_letter(letter, width).ok_or_else(|| format!("pattern '{text}' has the unknown letter '{letter}'"))?
                }
                '[' | ']' | '{' | '}' | '#' => return Err(format!("pattern '{text}' has the unknown sign '{c}'")),
                other => Item::Literal(other.to_string()),
            };
            match (items.last_mut(), item) {
                (Some(Item::Literal(last)), Item::Literal(next)) => last.push_str(&next),
                (_, item) => items.push(item),
            }
        }
        Ok(Pattern { items })
    }

    /// Appends a date and time.
    pub fn format(&self, at: NaiveDateTime, out: &mut String) {
        for item in &self.items {
            match item {
                Item::Literal(text) => out.push_str(text),
                Item::Number(field, width) => push_number(field.of(at), *width, out),
                Item::ShortYear => push_number(i64::from(at.year().rem_euclid(100)), 2, out),
                Item::MonthName(full) => out.push_str(name(MONTHS[at.month0() as usize], *full)),
                Item::DayName(full) => out.push_str(name(DAYS[at.weekday().num_days_from_monday() as usize], *full)),
                Item::AmPm => out.push_str(if at.hour() < 12 { "AM" } else { "PM" }),
                Item::Fraction(digits) => {
                    let nanos = format!("{:09}", at.nanosecond().min(999_999_999));
                    out.push_str(&nanos[..(*digits).min(9)]);
                    out.push_str(&"0".repeat(digits.saturating_sub(9)));
                }
            }
        }
    }

    /// Reads a whole text. A day from 29 to 31 that the month lacks becomes its last one (Java's smart mode).
    pub fn read(&self, text: &str) -> Option<NaiveDateTime> {
        let mut parsed = Parsed::default();
        let rest = self.read_items(text, &mut parsed, false)?;
        if !rest.is_empty() {
            return None;
        }
        parsed.resolve(false)
    }

    /// Reads the front of a text as `SimpleDateFormat` does: numbers may be short, values too large carry over, the rest of
    /// the text is ignored.
    pub fn read_leniently(&self, text: &str) -> Option<NaiveDateTime> {
        let mut parsed = Parsed::default();
        self.read_items(text, &mut parsed, true)?;
        parsed.resolve(true)
    }

    fn read_items<'a>(&self, text: &'a str, parsed: &mut Parsed, lenient: bool) -> Option<&'a str> {
        let mut rest = text;
        for (index, item) in self.items.iter().enumerate() {
            match item {
                Item::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Item::Number(field, width) => {
                    let adjacent: usize = self.items[index + 1..].iter().map_while(Item::fixed_digits).sum();
                    let next_is_number = adjacent > 0;
                    let run = rest.bytes().take_while(u8::is_ascii_digit).count();
                    // A year of four letters may have more digits, and so may fields of one letter; others are fixed.
                    let is_open = *width == 1 || (*field == Field::Year && *width > 2);
                    let most = if next_is_number {
                        if is_open { run.saturating_sub(adjacent) } else { *width }
                    } else if is_open || lenient {
                        run
                    } else {
                        *width
                    };
                    let least = if lenient && !next_is_number { 1 } else { *width };
                    let digits = run.min(most);
                    if digits < least {
                        return None;
                    }
                    parsed.set(*field, rest[..digits].parse().ok()?);
                    rest = &rest[digits..];
                }
                Item::ShortYear => {
                    let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
                    if digits < 2 {
                        return None;
                    }
                    parsed.set(Field::Year, 2000 + rest[..2].parse::<i64>().ok()?);
                    rest = &rest[2..];
                }
                Item::MonthName(full) => {
                    let (month, after) = strip_name(rest, &MONTHS, *full)?;
                    parsed.set(Field::Month, month);
                    rest = after;
                }
                Item::DayName(full) => rest = strip_name(rest, &DAYS, *full)?.1,
                Item::AmPm => {
                    let half = rest.get(..2)?;
                    parsed.afternoon = Some(match half {
                        "AM" => false,
                        "PM" => true,
                        _ if lenient && half.eq_ignore_ascii_case("AM") => false,
                        _ if lenient && half.eq_ignore_ascii_case("PM") => true,
                        _ => return None,
                    });
                    rest = &rest[2..];
                }
                Item::Fraction(width) => {
                    let digits = rest.bytes().take(*width).take_while(u8::is_ascii_digit).count();
                    if digits < *width {
                        return None;
                    }
                    let fraction = format!("{:0<9}", &rest[..digits.min(9)]);
                    parsed.set(Field::Nano, fraction.parse().ok()?);
                    rest = &rest[digits..];
                }
            }
        }
        Some(rest)
    }
}

impl Item {
    fn of_letter(letter: char, width: usize) -> Option<Item> {
        let number = |field, most: usize| (width <= most).then_some(Item::Number(field, width));
        match letter {
            'y' | 'u' | 'Y' if width == 2 => Some(Item::ShortYear),
            'y' | 'u' | 'Y' => number(Field::Year, 19),
            'Q' | 'q' => number(Field::Quarter, 2),
            'M' | 'L' => match width {
                1 | 2 => number(Field::Month, 2),
                3 => Some(Item::MonthName(false)),
                4 => Some(Item::MonthName(true)),
                _ => None,
            },
            'd' => number(Field::Day, 2),
            'D' => number(Field::DayOfYear, 3),
            'E' => match width {
                1..=3 => Some(Item::DayName(false)),
                4 => Some(Item::DayName(true)),
                _ => None,
            },
            'e' => number(Field::DayOfWeek, 2),
            'w' => number(Field::WeekOfYear, 2),
            'a' if width == 1 => Some(Item::AmPm),
            'H' => number(Field::Hour, 2),
            'k' => number(Field::ClockHour, 2),
            'K' => number(Field::HalfDayHour, 2),
            'h' => number(Field::HalfDayClockHour, 2),
            'm' => number(Field::Minute, 2),
            's' => number(Field::Second, 2),
            'S' => (width <= 9).then_some(Item::Fraction(width)),
            'n' => number(Field::Nano, 19),
            'A' => number(Field::MilliOfDay, 19),
            _ => None,
        }
    }

    /// How many digits a number always has, when it stands right behind another one.
    fn fixed_digits(&self) -> Option<usize> {
        match self {
            Item::Number(Field::Year, width) if *width > 2 => Some(*width),
            Item::Number(_, width) if *width > 1 => Some(*width),
            Item::ShortYear => Some(2),
            Item::Fraction(width) => Some(*width),
            _ => None,
        }
    }
}

impl Field {
    fn of(self, at: NaiveDateTime) -> i64 {
        let hour = i64::from(at.hour());
        match self {
            Field::Year => i64::from(at.year()),
            Field::Quarter => i64::from(at.month0() / 3 + 1),
            Field::Month => i64::from(at.month()),
            Field::Day => i64::from(at.day()),
            Field::DayOfYear => i64::from(at.ordinal()),
            Field::DayOfWeek => i64::from(at.weekday().number_from_monday()),
            Field::WeekOfYear => i64::from(at.iso_week().week()),
            Field::Hour => hour,
            Field::ClockHour => (hour + 23) % 24 + 1,
            Field::HalfDayHour => hour % 12,
            Field::HalfDayClockHour => (hour + 11) % 12 + 1,
            Field::Minute => i64::from(at.minute()),
            Field::Second => i64::from(at.second()),
            Field::Nano => i64::from(at.nanosecond()),
            Field::MilliOfDay => i64::from(at.num_seconds_from_midnight()) * 1000 + i64::from(at.nanosecond() / 1_000_000),
        }
    }
}

fn push_number(value: i64, width: usize, out: &mut String) {
    let digits = value.unsigned_abs().to_string();
    if value < 0 {
        out.push('-');
    }
    out.push_str(&"0".repeat(width.saturating_sub(digits.len())));
    out.push_str(&digits);
}

fn name(full: &'static str, is_full: bool) -> &'static str {
    if is_full { full } else { &full[..3] }
}

/// The place of a name, from 1, and the text behind it.
fn strip_name<'a>(text: &'a str, names: &[&'static str], full: bool) -> Option<(i64, &'a str)> {
    names.iter().zip(1..).find_map(|(known, place)| Some((place, text.strip_prefix(name(known, full))?)))
}

/// The fields that were read.
#[derive(Default)]
struct Parsed {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    half_day_hour: Option<i64>,
    afternoon: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    nano: Option<i64>,
}

impl Parsed {
    fn set(&mut self, field: Field, value: i64) {
        match field {
            Field::Year => self.year = Some(value),
            Field::Month => self.month = Some(value),
            Field::Quarter => self.month = Some(value.saturating_mul(3).saturating_sub(2)),
            Field::Day => self.day = Some(value),
            Field::DayOfYear => self.day_of_year = Some(value),
            Field::Hour => self.hour = Some(value),
            Field::ClockHour => self.hour = Some(if value == 24 { 0 } else { value }),
            Field::HalfDayHour => self.half_day_hour = Some(value),
            Field::HalfDayClockHour => self.half_day_hour = Some(if value == 12 { 0 } else { value }),
            Field::Minute => self.minute = Some(value),
            Field::Second => self.second = Some(value),
            Field::Nano => self.nano = Some(value),
            // These follow from the date, or are too odd to be read.
            Field::DayOfWeek | Field::WeekOfYear | Field::MilliOfDay => {}
        }
    }

    /// What was not read is that of 1970-01-01 00:00:00.
    fn resolve(&self, lenient: bool) -> Option<NaiveDateTime> {
        let year = i32::try_from(self.year.unwrap_or(1970)).ok().filter(|year| *year <= 9999 || lenient)?;
        let hour = match (self.hour, self.half_day_hour) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => hour.saturating_add(if self.afternoon == Some(true) { 12 } else { 0 }),
            (None, None) => 0,
        };
        let (minute, second) = (self.minute.unwrap_or(0), self.second.unwrap_or(0));
        let nano = self.nano.unwrap_or(0);
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        let date = if let Some(day_of_year) = self.day_of_year {
            NaiveDate::from_yo_opt(year, u32::try_from(day_of_year).ok()?)?
        } else if lenient {
            let first = NaiveDate::from_ymd_opt(year, 1, 1)?;
            let first = super::calendar::add_months(first, month - 1)?;
            first.checked_add_signed(chrono::TimeDelta::try_days(day - 1)?)?
        } else {
            date_smart(year, month, day)?
        };
        if lenient {
            let seconds = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
            let time = chrono::TimeDelta::try_seconds(seconds)?.checked_add(&chrono::TimeDelta::nanoseconds(nano))?;
            return midnight(date).checked_add_signed(time);
        }
        let part = |value: i64| u32::try_from(value).ok();
        Some(date.and_time(NaiveTime::from_hms_nano_opt(part(hour)?, part(minute)?, part(second)?, part(nano)?)?))
    }
}

/// A date whose day, up to 31, is cut to the length of the month.
pub(super) fn date_smart(year: i32, month: i64, day: i64) -> Option<NaiveDate> {
    let month = u32::try_from(month).ok()?;
    let day = u32::try_from(day).ok().filter(|day| (1..=31).contains(day))?;
    (28..=day.max(28)).rev().map(|last| day.min(last)).find_map(|day| NaiveDate::from_ymd_opt(year, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap()
    }

    #[test]
    fn prints_the_recorded_patterns() {
        let check = |pattern: &str, expected: &str| {
            let mut out = String::new();
            Pattern::parse(pattern).unwrap().format(at("2026-08-09 13:04:05.678"), &mut out);
            assert_eq!(out, expected, "{pattern}");
        };
        check("yyyy-MM-dd HH:mm:ss.SSS", "2026-08-09 13:04:05.678");
        check("dd/MM/yy", "09/08/26");
        check("EEE, d MMM yyyy", "Sun, 9 Aug 2026");
        check("h:mm a", "1:04 PM");
        check("D", "221");
        check("'day' dd", "day 09");
        check("yyyyMMddHH", "2026080913");
        check("EEEE MMMM", "Sunday August");
        check("''yyyy''", "'2026'");
        check("", "");
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(Pattern::parse("yyyy-bb").unwrap_err().contains("letter 'b'"));
        assert!(Pattern::parse("'open").unwrap_err().contains("not closed"));
    }

    #[test]
    fn reads_texts() {
        let check = |pattern: &str, text: &str, expected: Option<&str>| {
            assert_eq!(Pattern::parse(pattern).unwrap().read(text), expected.map(at), "{text}");
        };
        check("yyyy-MM-dd HH:mm:ss", "2026-01-31 10:20:30", Some("2026-01-31 10:20:30"));
        check("yyyy-MM-dd HH:mm:ss", "2026-02-30 10:20:30", Some("2026-02-28 10:20:30"));
        check("yyyy-MM-dd HH:mm:ss", "2026-02-32 10:20:30", None);
        check("yyyy-MM-dd HH:mm:ss", "2026-1-31 10:20:30", None);
        check("yyyyMMdd", "20260131", Some("2026-01-31 00:00:00"));
        check("yyyyMMddHHmmssSSS", "20260131102030123", Some("2026-01-31 10:20:30.123"));
        check("d MMM yyyy, h:mm a", "9 Aug 2026, 1:04 PM", Some("2026-08-09 13:04:00"));
        check("yyyy-MM-dd", "2026-01-31 ", None);
        check("dd.MM.yyyy", "tea", None);
        check("dd.MM.yyyy", "", None);
        check("HH:mm", "24:00", None);
        assert_eq!(
            Pattern::parse("yyyy-MM-dd HH:mm").unwrap().read_leniently("2026-1-32 00:00:59 tea"),
            Some(at("2026-02-01 00:00:00"))
        );
    }

    proptest::proptest! {
        #[test]
        fn reads_what_it_prints(seconds in 0_i64..253_402_300_799, millis in 0_u32..1000) {
            let moment = chrono::DateTime::from_timestamp(seconds, millis * 1_000_000).unwrap().naive_utc();
            let pattern = Pattern::parse("yyyyMMdd'T'hh:mm:ss.SSS a EEE").unwrap();
            let mut out = String::new();
            pattern.format(moment, &mut out);
            proptest::prop_assert_eq!(pattern.read(&out), Some(moment));
        }

        #[test]
        fn no_text_panics(pattern in "\\PC{0,12}", text in "\\PC{0,20}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _ = pattern.read(&text);
                let _ = pattern.read_leniently(&text);
            }
        }
    }
}

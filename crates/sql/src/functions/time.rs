//! Times to text and back: DATE_FORMAT, TO_TIMESTAMP, TO_DATE, FROM_UNIXTIME and their like.

use chrono::NaiveDateTime;
use chrono_tz::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::common::Result;

use super::arguments::{Arguments, Text, number_rows, text_rows};
use super::calendar::{MICROS_PER_DAY, MICROS_PER_SECOND, days_of, local_of_micros, local_of_parts, micros_of_local};
use super::definition::{Changes, Definition, Kind, Planned, Returns, define};
use super::encoding::shorten;
use super::sql_type::SqlType;
use super::time_parse::{parse_date, parse_timestamp};
use super::time_pattern::Pattern;

use Kind::Text as TextKind;

pub(super) fn definitions() -> Vec<Definition> {
    let text = || Returns::Sql(SqlType::Text);
    vec![
        define("date_format", &[Kind::TextOrTimestamp, TextKind], text(), date_format).maybe_null(),
        define("to_timestamp", &[TextKind, TextKind], Returns::Sql(SqlType::Timestamp(3)), to_timestamp).optional(1).maybe_null(),
        define("to_timestamp_ltz", &[Kind::TextOrNumber, Kind::TextOrInteger, TextKind], Returns::Computed(ltz_type), to_ltz)
            .optional(2)
            .maybe_null(),
        define("to_date", &[TextKind, TextKind], Returns::Sql(SqlType::Date), to_date).optional(1).maybe_null(),
        define("from_unixtime", &[Kind::Integer, TextKind], text(), from_unixtime).optional(1),
        // Without arguments it is the clock, so it may not be folded.
        define("unix_timestamp", &[TextKind, TextKind], Returns::Sql(SqlType::BigInt), unix_timestamp)
            .optional(2)
            .changes(Changes::PerRow),
        define("convert_tz", &[TextKind, TextKind, TextKind], text(), convert_tz).maybe_null(),
    ]
}

/// What a temporal argument is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MomentKind {
    Date,
    Time,
    Timestamp,
    TimestampLtz,
}

/// A temporal argument: dates and local times as if they were UTC, TIMESTAMP_LTZ as the moment it is.
pub(super) struct Moments {
    pub kind: MomentKind,
    values: PrimitiveArray<Int64Type>,
    /// How many of its units make a second; 0 for days.
    per_second: i64,
    step: usize,
}

impl Moments {
    pub fn of(args: &Arguments, index: usize) -> Result<Moments> {
        let (kind, per_second) = match args.data_type(index) {
            DataType::Date32 => (MomentKind::Date, 0),
            DataType::Time64(TimeUnit::Microsecond) => (MomentKind::Time, MICROS_PER_SECOND),
            DataType::Timestamp(unit, zone) => {
                let kind = if zone.is_some() { MomentKind::TimestampLtz } else { MomentKind::Timestamp };
                let per_second = match unit {
                    TimeUnit::Second => 1,
                    TimeUnit::Millisecond => 1_000,
                    TimeUnit::Microsecond => MICROS_PER_SECOND,
                    TimeUnit::Nanosecond => 1_000_000_000,
                };
                (kind, per_second)
            }
            other => return Err(args.error(format!("cannot take the time from {}", SqlType::of_arrow(other)))),
        };
        let array = match kind {
            MomentKind::Date => cast(args.array(index), &DataType::Int32)?,
            _ => args.array(index).clone(),
        };
        let values = cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
        Ok(Moments { kind, values, per_second, step: usize::from(!args.is_constant(index)) })
    }

    fn value(&self, row: usize) -> Option<i64> {
        let row = row * self.step;
        if self.values.is_null(row) { None } else { Some(self.values.value(row)) }
    }

    /// Microseconds since 1970, or since midnight for a TIME. Saturates at the ends of time.
    #[inline]
    pub fn micros(&self, row: usize) -> Option<i64> {
        let value = self.value(row)?;
        Some(match self.per_second {
            MICROS_PER_SECOND => value,
            0 => value.saturating_mul(MICROS_PER_DAY),
            1_000_000_000 => value.div_euclid(1_000),
            per_second => value.saturating_mul(MICROS_PER_SECOND / per_second),
        })
    }

    /// The date and time that a clock on the wall of `zone` shows; for values without a zone, themselves.
    pub fn local(&self, row: usize, zone: Tz) -> Option<Result<NaiveDateTime>> {
        let zone = (self.kind == MomentKind::TimestampLtz).then_some(zone);
        let local = if self.per_second == 1_000_000_000 {
            let value = self.value(row)?;
            local_of_parts(value.div_euclid(1_000_000_000), value.rem_euclid(1_000_000_000) as u32, zone)
        } else {
            local_of_micros(self.micros(row)?, zone)
        };
        Some(
            local.ok_or_else(|| {
                datafusion::common::DataFusionError::Execution("a timestamp lies beyond the calendar".to_string())
            }),
        )
    }
}

/// The pattern of each row, taken apart anew only when it changes.
struct Patterns<'a> {
    args: &'a Arguments<'a>,
    text: Option<Text<'a>>,
    default: &'static str,
    last: Option<(String, Pattern)>,
}

impl<'a> Patterns<'a> {
    /// `default` is used if argument `index` was not given.
    fn new(args: &'a Arguments<'a>, index: usize, default: &'static str) -> Result<Self> {
        let text = if index < args.len() { Some(args.text(index)?) } else { None };
        Ok(Patterns { args, text, default, last: None })
    }

    fn get(&mut self, row: usize) -> Result<Option<&Pattern>> {
        let text = match &self.text {
            Some(text) => match text.get(row) {
                Some(text) => text,
                None => return Ok(None),
            },
            None => self.default,
        };
        if self.last.as_ref().is_none_or(|(last, _)| last != text) {
            let pattern = Pattern::parse(text).map_err(|message| self.args.error(message))?;
            self.last = Some((text.to_string(), pattern));
        }
        Ok(self.last.as_ref().map(|(_, pattern)| pattern))
    }
}

const SECONDS: &str = "yyyy-MM-dd HH:mm:ss";

/// A TIMESTAMP, a TIMESTAMP_LTZ in the session's zone, or a text that is read as a timestamp first (null if it is none).
fn date_format(args: &Arguments) -> Result<ArrayRef> {
    let mut patterns = Patterns::new(args, 1, SECONDS)?;
    let mut shown = String::new();
    let moments = if *args.data_type(0) == DataType::Utf8 { None } else { Some(Moments::of(args, 0)?) };
    let texts = if moments.is_none() { Some(args.text(0)?) } else { None };
    text_rows(args.rows, args.rows * 20, |row, out| {
        let local = match (&moments, &texts) {
            (Some(moments), _) => moments.local(row, args.context.time_zone).transpose()?,
            (None, Some(texts)) => texts.get(row).and_then(parse_timestamp),
            (None, None) => None,
        };
        // A bad pattern is an error even if no row has a time.
        let pattern = patterns.get(row)?;
        match local.zip(pattern) {
            Some((local, pattern)) => {
                shown.clear();
                pattern.format(local, &mut shown);
                out.append_value(&shown);
            }
            None => out.append_null(),
        }
        Ok(())
    })
}

/// Microseconds cut to milliseconds.
fn to_millis(micros: i64) -> i64 {
    micros - micros.rem_euclid(1_000)
}

/// Null for a text that is not a timestamp. The result has milliseconds.
fn to_timestamp(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut patterns = Patterns::new(args, 1, SECONDS)?;
    let has_pattern = args.len() > 1;
    number_rows::<TimestampMicrosecondType>(args.rows, |row| {
        let Some(text) = text.get(row) else {
            return Ok(None);
        };
        let local = if has_pattern { patterns.get(row)?.and_then(|pattern| pattern.read(text)) } else { parse_timestamp(text) };
        Ok(local.map(|local| to_millis(local.and_utc().timestamp_micros())))
    })
}

fn ltz_type(planned: &Planned) -> Result<SqlType> {
    let is_text = planned.data_type(0) == &DataType::Utf8;
    let second_is_text = planned.fields.get(1).map(|field| field.data_type() == &DataType::Utf8);
    if is_text && second_is_text == Some(false) {
        return Err(planned.error("takes a pattern behind a STRING, such as 'yyyy-MM-dd HH:mm:ss'"));
    }
    if !is_text && (second_is_text == Some(true) || planned.fields.len() > 2) {
        return Err(planned.error("takes a precision behind a number: 0 for seconds, 3 for milliseconds"));
    }
    Ok(SqlType::TimestampLtz(match planned.constant_integer(1) {
        Some(precision @ (6 | 9)) if !is_text => precision as u8,
        _ => 3,
    }))
}

/// From a number of seconds (precision 0), milliseconds (3), microseconds (6) or nanoseconds (9) since 1970, null outside
/// the years 1 to 9999; or from a text in a zone (UTC by default), which must be a timestamp.
fn to_ltz(args: &Arguments) -> Result<ArrayRef> {
    let as_ltz = |micros: ArrayRef| -> Result<ArrayRef> {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let micros = cast(&micros, &utc)?;
        Ok(cast(&micros, args.return_field.data_type())?)
    };
    if *args.data_type(0) == DataType::Utf8 {
        return as_ltz(ltz_of_text(args)?);
    }
    let precision = args.integers_or(1, 3)?;
    let options = datafusion::arrow::compute::CastOptions { safe: true, ..Default::default() };
    let numbers = datafusion::arrow::compute::cast_with_options(args.array(0), &DataType::Int64, &options)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let step = usize::from(!args.is_constant(0));
    as_ltz(number_rows::<TimestampMicrosecondType>(args.rows, |row| {
        let at = row * step;
        let (false, Some(precision)) = (numbers.is_null(at), precision.get(row)) else {
            return Ok(None);
        };
        let number = numbers.value(at);
        let micros = match precision {
            0 => number.checked_mul(MICROS_PER_SECOND),
            3 => number.checked_mul(1_000),
            6 => Some(number),
            9 => Some(number.div_euclid(1_000)),
            other => return Err(args.error(format!("precision {other} is none of 0, 3, 6, 9"))),
        };
        // 0001-01-01 to 9999-12-31.
        Ok(micros.filter(|micros| (-62_135_596_800_000_000..=253_402_300_799_999_999).contains(micros)))
    })?)
}

fn ltz_of_text(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut patterns = Patterns::new(args, 1, SECONDS)?;
    let has_pattern = args.len() > 1;
    let zones = if args.len() > 2 { Some(args.text(2)?) } else { None };
    number_rows::<TimestampMicrosecondType>(args.rows, |row| {
        let Some(text) = text.get(row) else {
            return Ok(None);
        };
        let local = if has_pattern {
            match patterns.get(row)? {
                Some(pattern) => pattern.read(text),
                None => return Ok(None),
            }
        } else {
            parse_timestamp(text)
        };
        let zone = match &zones {
            Some(zones) => match zones.get(row) {
                Some(name) => zone(name).ok_or_else(|| args.error(format!("unknown time zone '{}'", shorten(name))))?,
                None => return Ok(None),
            },
            None => Tz::UTC,
        };
        let micros = local.and_then(|local| micros_of_local(local, Some(zone)));
        match micros {
            Some(micros) => Ok(Some(to_millis(micros))),
            None => Err(args.error(format!("'{}' is not a timestamp", shorten(text)))),
        }
    })
}

fn zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

/// Null for what is not a date. With a pattern, values too large carry over into the next month, as in Flink.
fn to_date(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut patterns = Patterns::new(args, 1, SECONDS)?;
    let has_pattern = args.len() > 1;
    number_rows::<Date32Type>(args.rows, |row| {
        let Some(text) = text.get(row) else {
            return Ok(None);
        };
        if !has_pattern {
            return Ok(parse_date(text).map(days_of));
        }
        let local = patterns.get(row)?.and_then(|pattern| pattern.read_leniently(text));
        Ok(local.map(|local| days_of(local.date())))
    })
}

/// Seconds since 1970, shown in the session's zone.
fn from_unixtime(args: &Arguments) -> Result<ArrayRef> {
    let seconds = args.integers(0)?;
    let mut patterns = Patterns::new(args, 1, SECONDS)?;
    let mut shown = String::new();
    text_rows(args.rows, args.rows * 20, |row, out| {
        let (Some(seconds), Some(pattern)) = (seconds.get(row), patterns.get(row)?) else {
            out.append_null();
            return Ok(());
        };
        let local = local_of_parts(seconds, 0, Some(args.context.time_zone))
            .ok_or_else(|| args.error(format!("second {seconds} lies beyond the calendar")))?;
        shown.clear();
        pattern.format(local, &mut shown);
        out.append_value(&shown);
        Ok(())
    })
}

/// Seconds since 1970: now, or of a text in the session's zone. A text that is no time gives the smallest BIGINT, as in Flink.
fn unix_timestamp(args: &Arguments) -> Result<ArrayRef> {
    if args.len() == 0 {
        let now = args.context.clock.wall_ms().div_euclid(1_000);
        return number_rows::<Int64Type>(args.rows, |_| Ok(Some(now)));
    }
    let text = args.text(0)?;
    let mut patterns = Patterns::new(args, 1, SECONDS)?;
    number_rows::<Int64Type>(args.rows, |row| {
        let (Some(text), Some(pattern)) = (text.get(row), patterns.get(row)?) else {
            return Ok(None);
        };
        let micros = pattern.read_leniently(text).and_then(|local| micros_of_local(local, Some(args.context.time_zone)));
        Ok(Some(micros.map_or(i64::MIN, |micros| micros.div_euclid(MICROS_PER_SECOND))))
    })
}

/// A text of the form `yyyy-MM-dd HH:mm:ss` from one zone to another; null if it is not one, or a zone is unknown.
fn convert_tz(args: &Arguments) -> Result<ArrayRef> {
    let (text, from, to) = (args.text(0)?, args.text(1)?, args.text(2)?);
    let pattern = Pattern::parse(SECONDS).map_err(|message| args.error(message))?;
    let mut shown = String::new();
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let converted = || {
            let (from, to) = (zone(from.get(row)?)?, zone(to.get(row)?)?);
            local_of_micros(micros_of_local(parse_timestamp(text.get(row)?)?, Some(from))?, Some(to))
        };
        match converted() {
            Some(local) => {
                shown.clear();
                pattern.format(local, &mut shown);
                out.append_value(&shown);
            }
            None => out.append_null(),
        }
        Ok(())
    })
}

/// Microseconds as a column of the type `data_type`; `None` values are null.
pub(super) fn moment_rows(
    args: &Arguments,
    data_type: &DataType,
    mut micros: impl FnMut(usize) -> Result<Option<i64>>,
) -> Result<ArrayRef> {
    match data_type {
        DataType::Date32 => number_rows::<Date32Type>(args.rows, |row| {
            let Some(micros) = micros(row)? else {
                return Ok(None);
            };
            i32::try_from(micros.div_euclid(MICROS_PER_DAY)).map(Some).map_err(|_| args.error("overflow of DATE"))
        }),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let array = number_rows::<TimestampNanosecondType>(args.rows, |row| {
                let micros = micros(row)?;
                micros.map(|micros| micros.checked_mul(1_000).ok_or_else(|| args.error("overflow of TIMESTAMP"))).transpose()
            })?;
            let array = array.as_primitive::<TimestampNanosecondType>().clone();
            Ok(std::sync::Arc::new(array.with_timezone_opt(zone.clone())))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            number_rows::<datafusion::arrow::datatypes::Time64MicrosecondType>(args.rows, micros)
        }
        _ => {
            let array = number_rows::<TimestampMicrosecondType>(args.rows, micros)?;
            Ok(cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, None)).and_then(|array| {
                let array = array.as_primitive::<TimestampMicrosecondType>().clone();
                let zone = match data_type {
                    DataType::Timestamp(_, zone) => zone.clone(),
                    _ => None,
                };
                cast(&array.with_timezone_opt(zone), data_type)
            })?)
        }
    }
}

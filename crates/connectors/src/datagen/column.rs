//! The values of one made-up column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, StringBuilder, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use thalweg_core::{Error, Rand, Result, SeededRand};

use super::options::{ColumnKind, ColumnOptions};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Makes the values of one column from row numbers.
pub(super) struct ColumnGenerator {
    options: ColumnOptions,
    field: FieldRef,
    seed: u64,
}

impl ColumnGenerator {
    pub fn new(options: ColumnOptions, field: FieldRef, seed: u64) -> Self {
        ColumnGenerator { options, field, seed }
    }

    /// One value for each of `rows`. `now_ms` is the wall clock.
    pub fn generate(&self, rows: &[u64], now_ms: i64) -> Result<ArrayRef> {
        macro_rules! numbers {
            ($array:ty, $value:expr) => {
                Arc::new(self.values(rows, $value).collect::<$array>()) as ArrayRef
            };
        }
        let kind = &self.options.kind;
        // Casts are exact: the bounds were checked against the type when the options were read.
        Ok(match self.field.data_type() {
            DataType::Boolean => {
                Arc::new(self.values(rows, |_, rand| rand.next_u64().is_multiple_of(2)).collect::<BooleanArray>())
            }
            DataType::Int8 => numbers!(Int8Array, |row, rand| integer(kind, row, rand) as i8),
            DataType::Int16 => numbers!(Int16Array, |row, rand| integer(kind, row, rand) as i16),
            DataType::Int32 => numbers!(Int32Array, |row, rand| integer(kind, row, rand) as i32),
            DataType::Int64 => numbers!(Int64Array, |row, rand| integer(kind, row, rand)),
            DataType::Float32 => numbers!(Float32Array, |row, rand| float(kind, row, rand) as f32),
            DataType::Float64 => numbers!(Float64Array, |row, rand| float(kind, row, rand)),
            DataType::Decimal128(precision, scale) => {
                let values = self.values(rows, |row, rand| decimal(kind, *precision, *scale, row, rand));
                let values = values.collect::<Decimal128Array>();
                Arc::new(values.with_precision_and_scale(*precision, *scale)?)
            }
            DataType::Utf8 => {
                let mut builder = StringBuilder::new();
                for value in self.values(rows, |row, rand| text(kind, row, rand)) {
                    builder.append_option(value);
                }
                Arc::new(builder.finish())
            }
            DataType::Binary => {
                let mut builder = BinaryBuilder::new();
                for value in self.values(rows, |_, rand| bytes(kind, rand)) {
                    builder.append_option(value);
                }
                Arc::new(builder.finish())
            }
            DataType::Date32 => {
                numbers!(Date32Array, |_, rand| i32::try_from(micros(kind, now_ms, rand).div_euclid(MICROS_PER_DAY)).unwrap_or(0))
            }
            DataType::Time64(TimeUnit::Microsecond) => {
                numbers!(Time64MicrosecondArray, |_, rand| micros(kind, now_ms, rand).rem_euclid(MICROS_PER_DAY))
            }
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let values = self.values(rows, |_, rand| micros(kind, now_ms, rand));
                Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone_opt(zone.clone()))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                let values = self.values(rows, |_, rand| micros(kind, now_ms, rand).saturating_mul(1_000));
                Arc::new(values.collect::<TimestampNanosecondArray>().with_timezone_opt(zone.clone()))
            }
            other => return Err(Error::internal(format!("column {} has type {other}", self.field.name()))),
        })
    }

    /// Each value has its own generator, seeded by column and row number.
    fn values<T>(&self, rows: &[u64], value: impl Fn(u64, &mut SeededRand) -> T) -> impl Iterator<Item = Option<T>> {
        let (seed, null_rate) = (self.seed, self.options.null_rate);
        rows.iter().map(move |row| {
            // The first number mixes seed and row well; neighbouring rows would otherwise begin alike.
            let mut rand = SeededRand::new(SeededRand::new(seed ^ row.rotate_left(32)).next_u64());
            if null_rate > 0.0 && unit(&mut rand) < null_rate { None } else { Some(value(*row, &mut rand)) }
        })
    }
}

/// A number in `0.0..1.0`.
fn unit(rand: &mut SeededRand) -> f64 {
    (rand.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

fn sequence_value(start: i64, row: u64) -> i64 {
    start.saturating_add(i64::try_from(row).unwrap_or(i64::MAX))
}

fn integer(kind: &ColumnKind, row: u64, rand: &mut SeededRand) -> i64 {
    match kind {
        ColumnKind::Sequence { start, .. } => sequence_value(*start, row),
        ColumnKind::RandomInteger { min, max } => {
            let width = max.abs_diff(*min);
            // A width of all numbers has no bound that fits 64 bits.
            let offset = if width == u64::MAX { rand.next_u64() } else { rand.below(width + 1) };
            min.wrapping_add_unsigned(offset)
        }
        _ => 0,
    }
}

fn float(kind: &ColumnKind, row: u64, rand: &mut SeededRand) -> f64 {
    match kind {
        ColumnKind::Sequence { start, .. } => sequence_value(*start, row) as f64,
        ColumnKind::RandomFloat { min, max } => {
            let share = unit(rand);
            // Not min + share * (max - min), which overflows for the widest range.
            (min * (1.0 - share) + max * share).clamp(*min, *max)
        }
        _ => 0.0,
    }
}

fn decimal(kind: &ColumnKind, precision: u8, scale: i8, row: u64, rand: &mut SeededRand) -> i128 {
    let unit_scale = 10_i128.saturating_pow(u32::try_from(scale).unwrap_or(0));
    let most = 10_i128.saturating_pow(u32::from(precision)) - 1;
    let value = match kind {
        ColumnKind::Sequence { start, .. } => i128::from(sequence_value(*start, row)).saturating_mul(unit_scale),
        _ => (float(kind, row, rand) * unit_scale as f64) as i128,
    };
    value.clamp(-most, most)
}

fn length_of(length: u64, is_variable: bool, rand: &mut SeededRand) -> u64 {
    if is_variable { 1 + rand.below(length) } else { length }
}

fn text(kind: &ColumnKind, row: u64, rand: &mut SeededRand) -> String {
    match kind {
        ColumnKind::Sequence { start, .. } => sequence_value(*start, row).to_string(),
        ColumnKind::RandomText { length, is_variable } => {
            let length = length_of(*length, *is_variable, rand) as usize;
            let mut text = String::with_capacity(length + 16);
            while text.len() < length {
                text.push_str(&format!("{:016x}", rand.next_u64()));
            }
            text.truncate(length);
            text
        }
        _ => String::new(),
    }
}

fn bytes(kind: &ColumnKind, rand: &mut SeededRand) -> Vec<u8> {
    match kind {
        ColumnKind::RandomBytes { length, is_variable } => {
            (0..length_of(*length, *is_variable, rand)).map(|_| rand.next_u64() as u8).collect()
        }
        _ => vec![],
    }
}

/// Microseconds since 1970 of now or a time before.
fn micros(kind: &ColumnKind, now_ms: i64, rand: &mut SeededRand) -> i64 {
    let past_ms = match kind {
        ColumnKind::Now { max_past } => {
            let max_past_ms = u64::try_from(max_past.as_millis()).unwrap_or(u64::MAX);
            rand.below(max_past_ms.saturating_add(1))
        }
        _ => 0,
    };
    now_ms.saturating_sub_unsigned(past_ms).saturating_mul(1_000)
}

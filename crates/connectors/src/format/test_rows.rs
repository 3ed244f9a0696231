//! Random schemas and rows for the round trips of the formats.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use thalweg_core::{Rand, SeededRand};

use super::columns::{Column, Columns, Values};

const CHARACTERS: [char; 16] = ['a', 'Z', '7', ' ', '"', '\\', ',', ';', '\n', '\t', '\u{1}', 'é', '漢', '😀', '/', '\''];
const MICROS_PER_YEAR: i64 = 31_556_952_000_000;

/// A type without others inside.
fn plain_type(rand: &mut SeededRand) -> DataType {
    let types = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(12, 3),
        DataType::Decimal128(38, 18),
        DataType::Utf8,
        DataType::Binary,
        DataType::Date32,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
    ];
    types[rand.below(types.len() as u64) as usize].clone()
}

/// Any type that JSON can hold, with at most `depth` others inside each other.
fn nested_type(rand: &mut SeededRand, depth: usize) -> DataType {
    if depth == 0 || rand.below(3) > 0 {
        return plain_type(rand);
    }
    match rand.below(3) {
        0 => DataType::List(Arc::new(Field::new("item", nested_type(rand, depth - 1), true))),
        1 => {
            let key = Field::new("key", DataType::Utf8, false);
            let value = Field::new("value", nested_type(rand, depth - 1), true);
            let entries = DataType::Struct(Fields::from(vec![key, value]));
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        }
        _ => DataType::Struct(fields(rand, |rand| nested_type(rand, depth - 1))),
    }
}

fn fields(rand: &mut SeededRand, mut data_type: impl FnMut(&mut SeededRand) -> DataType) -> Fields {
    let count = 2 + rand.below(4);
    (0..count)
        .map(|index| {
            let name = ["id", "größe", "it's \"x\"", "a\\b", "long name of a column", "z"][index as usize % 6];
            let is_nullable = rand.below(4) > 0;
            Arc::new(Field::new(format!("{name}{}", index / 6), data_type(rand), is_nullable))
        })
        .collect()
}

pub fn json_rows(seed: u64) -> RecordBatch {
    let mut rand = SeededRand::new(seed);
    let fields = fields(&mut rand, |rand| nested_type(rand, 3));
    rows(&mut rand, fields)
}

/// Plain columns and arrays of whole numbers. Years have four digits, and no array is empty or has nulls: CSV cannot say those.
pub fn csv_rows(seed: u64) -> RecordBatch {
    let mut rand = SeededRand::new(seed);
    let fields = fields(&mut rand, |rand| match rand.below(8) {
        0 => DataType::List(Arc::new(Field::new("item", DataType::Int32, false))),
        _ => plain_type(rand),
    });
    rows(&mut rand, fields)
}

fn rows(rand: &mut SeededRand, fields: Fields) -> RecordBatch {
    let mut columns = Columns::new(&fields).unwrap();
    let count = rand.below(20) as usize;
    for (column, field) in columns.columns.iter_mut().zip(&fields) {
        for _ in 0..count {
            push(column, field, rand);
        }
    }
    columns.finish(&Arc::new(Schema::new(fields)), count).unwrap()
}

fn text(rand: &mut SeededRand) -> String {
    let length = if rand.below(10) == 0 { 60 } else { rand.below(10) };
    (0..length).map(|_| CHARACTERS[rand.below(16) as usize]).collect()
}

fn push(column: &mut Column, field: &Field, rand: &mut SeededRand) {
    if field.is_nullable() && rand.below(5) == 0 {
        return column.push_null();
    }
    match (&mut column.values, field.data_type()) {
        (Values::Boolean(values), _) => values.append(rand.below(2) == 0),
        (Values::Int8(values), _) => values.push(rand.next_u64() as i8),
        (Values::Int16(values), _) => values.push(rand.next_u64() as i16),
        (Values::Int32(values), _) => values.push(rand.next_u64() as i32),
        (Values::Int64(values), _) => values.push((rand.next_u64() >> rand.below(64)) as i64),
        (Values::Float32(values), _) => {
            values.push(Some(f32::from_bits(rand.next_u64() as u32)).filter(|value| value.is_finite()).unwrap_or(0.5));
        }
        (Values::Float64(values), _) => {
            values.push(Some(f64::from_bits(rand.next_u64())).filter(|value| value.is_finite()).unwrap_or(f64::INFINITY));
        }
        (Values::Decimal { values, precision, .. }, _) => {
            let wide = i128::from(rand.next_u64()) * i128::from(rand.next_u64() as i64);
            values.push((wide >> rand.below(127)) % 10_i128.pow(u32::from(*precision)));
        }
        (Values::Text(strings), _) => strings.push(text(rand).as_bytes()),
        (Values::Binary(strings), _) => strings.push(&rand.next_u64().to_le_bytes()[..rand.below(9) as usize]),
        (Values::Date(values), _) => values.push(rand.below(80_000) as i32 - 40_000),
        (Values::Time(values), _) => values.push(rand.below(86_400_000) as i64 * 1_000),
        (Values::Timestamp { values, nanos, .. }, _) => {
            let micros = rand.below(200 * MICROS_PER_YEAR as u64) as i64 - 100 * MICROS_PER_YEAR;
            values.push(if *nanos { micros * 1_000 + rand.below(1_000) as i64 } else { micros });
        }
        (Values::List { item, .. }, DataType::List(field)) => (0..1 + rand.below(3)).for_each(|_| push(item, field, rand)),
        (Values::Map { keys, values, .. }, DataType::Map(entries, _)) => {
            let DataType::Struct(fields) = entries.data_type() else { return };
            for index in 0..rand.below(12) {
                keys.push_text(&format!("{}{index}", text(rand)), Default::default()).unwrap();
                push(values, &fields[1], rand);
            }
        }
        (Values::Struct(columns), DataType::Struct(fields)) => {
            columns.columns.iter_mut().zip(fields).for_each(|(child, field)| push(child, field, rand));
        }
        _ => unreachable!("a column has values of its field's type"),
    }
    column.close();
}

//! Tables and the rows that come and go in them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::query::{Column, Type};

/// 2026-01-01 00:00:00 in microseconds.
const START_MICROS: i64 = 1_767_225_600_000_000;

/// A value of a table: the number, or the number of the letter, or the halves, or the seconds.
pub type Value = Option<i64>;

#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    pub columns: Vec<Column>,
    /// Whether rows are taken back. The first column is then unlike in all rows that are there.
    pub updating: bool,
}

/// A row with the moments in which it came and went.
#[derive(Clone, PartialEq, Debug)]
pub struct Life {
    pub table: usize,
    pub values: Vec<Value>,
    pub born: usize,
    pub died: Option<usize>,
}

/// A change of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    pub moment: usize,
    pub life: usize,
    pub weight: i64,
    /// One half of a change of a row.
    pub is_update: bool,
}

/// All changes, in order; of one moment the row that goes comes first.
pub fn events(lives: &[Life]) -> Vec<Event> {
    let mut events = vec![];
    for (life, row) in lives.iter().enumerate() {
        let replaces = lives.iter().any(|other| is_successor(other, row));
        events.push(Event { moment: row.born, life, weight: 1, is_update: replaces });
        if let Some(moment) = row.died {
            let replaced = lives.iter().any(|other| is_successor(row, other));
            events.push(Event { moment, life, weight: -1, is_update: replaced });
        }
    }
    events.sort_by_key(|event| (event.moment, event.weight));
    events
}

fn is_successor(before: &Life, after: &Life) -> bool {
    before.table == after.table && before.died == Some(after.born) && before.values[0] == after.values[0]
}

impl Life {
    /// Whether the row is there after all changes before `moment`.
    pub fn is_there(&self, moment: usize) -> bool {
        self.born < moment && self.died.is_none_or(|died| died >= moment)
    }
}

impl Table {
    pub fn schema(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.name, arrow_type(column.data_type), true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    pub fn batch<'a>(&self, rows: impl Iterator<Item = &'a Life> + Clone) -> RecordBatch {
        let columns = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| array(column.data_type, rows.clone().map(move |row| row.values[index])))
            .collect();
        RecordBatch::try_new(self.schema(), columns).expect("the columns are those of the schema")
    }
}

fn arrow_type(data_type: Type) -> DataType {
    match data_type {
        Type::Int => DataType::Int32,
        Type::BigInt => DataType::Int64,
        Type::Text => DataType::Utf8,
        Type::Double => DataType::Float64,
        Type::Time => DataType::Timestamp(TimeUnit::Microsecond, None),
    }
}

fn array(data_type: Type, values: impl Iterator<Item = Value>) -> ArrayRef {
    match data_type {
        Type::Int => Arc::new(values.map(|value| value.map(|value| value as i32)).collect::<Int32Array>()),
        Type::BigInt => Arc::new(values.collect::<Int64Array>()),
        Type::Text => Arc::new(values.map(|value| value.map(letter)).collect::<StringArray>()),
        Type::Double => Arc::new(values.map(|value| value.map(|halves| halves as f64 / 2.0)).collect::<Float64Array>()),
        Type::Time => Arc::new(
            values.map(|value| value.map(|seconds| START_MICROS + seconds * 1_000_000)).collect::<TimestampMicrosecondArray>(),
        ),
    }
}

/// A text for a number: few, of unlike lengths, one empty.
pub fn letter(value: i64) -> String {
    ["", "a", "b", "ab", "B", "c"].get(value as usize).map_or_else(|| format!("t{value}"), |text| (*text).to_string())
}

/// How a value is shown.
pub fn value_text(data_type: Type, value: Value) -> String {
    match (data_type, value) {
        (_, None) => "NULL".to_string(),
        (Type::Text, Some(value)) => format!("'{}'", letter(value)),
        (Type::Double, Some(halves)) => format!("{:?}", halves as f64 / 2.0),
        (Type::Time, Some(seconds)) => format!("00:{:02}:{:02}", seconds / 60, seconds % 60),
        (_, Some(value)) => value.to_string(),
    }
}

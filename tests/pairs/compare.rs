//! Multisets of rows, by value: types that hold the same number are alike.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use thalweg_core::Batch;

/// Rows with how often they are there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Integral(BTreeMap<Vec<String>, i64>);

impl Integral {
    pub fn add(&mut self, batch: &Batch) {
        let columns: Vec<Vec<String>> = batch.rows.columns().iter().map(texts).collect();
        for row in 0..batch.num_rows() {
            let key: Vec<String> = columns.iter().map(|column| column[row].clone()).collect();
            let count = self.0.entry(key.clone()).or_default();
            *count += batch.weight(row);
            if *count == 0 {
                self.0.remove(&key);
            }
        }
    }

    pub fn rows(&self) -> impl Iterator<Item = (&Vec<String>, i64)> {
        self.0.iter().map(|(row, count)| (row, *count))
    }

    /// A row that is there less than no times.
    pub fn negative(&self) -> Option<String> {
        self.0.iter().find(|(_, count)| **count < 0).map(|(row, _)| row.join(", "))
    }
}

impl Integral {
    /// A row that is there more often than in `whole`.
    pub fn beyond(&self, whole: &Integral) -> Option<String> {
        let more = |(row, count): &(&Vec<String>, &i64)| **count > whole.0.get(*row).copied().unwrap_or(0);
        self.0.iter().find(more).map(|(row, _)| row.join(", "))
    }
}

/// Both multisets where they differ, or `None`.
pub fn difference(expected: &Integral, got: &Integral) -> Option<String> {
    if expected == got {
        return None;
    }
    let mut lines = vec![];
    for (row, wanted) in expected.rows() {
        let found = got.0.get(row).copied().unwrap_or(0);
        if found != wanted {
            lines.push(format!("  ({}) is there {found} times in place of {wanted}", row.join(", ")));
        }
    }
    for (row, found) in got.rows().filter(|(row, _)| !expected.0.contains_key(*row)) {
        lines.push(format!("  ({}) is there {found} times in place of 0", row.join(", ")));
    }
    Some(lines.join("\n"))
}

fn texts(column: &ArrayRef) -> Vec<String> {
    let shown = |text: &dyn Fn(usize) -> String| -> Vec<String> {
        (0..column.len()).map(|row| if column.is_null(row) { "NULL".to_string() } else { text(row) }).collect()
    };
    let as_type = |data_type: &DataType| cast(column, data_type).expect("the types can be compared");
    match column.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let values = as_type(&DataType::Float64);
            // Sums of the same numbers in another order may differ in their last digits. An integer is the same number.
            shown(&|row| {
                let value = values.as_primitive::<Float64Type>().value(row);
                if value == value.trunc() { format!("{value:.0}") } else { format!("{value:.8e}") }
            })
        }
        DataType::Timestamp(..) => {
            let values = as_type(&DataType::Timestamp(TimeUnit::Microsecond, None));
            shown(&|row| format!("@{}", values.as_primitive::<TimestampMicrosecondType>().value(row) - 1_767_225_600_000_000))
        }
        data_type if data_type.is_integer() => {
            let values = as_type(&DataType::Int64);
            shown(&|row| values.as_primitive::<Int64Type>().value(row).to_string())
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let values = as_type(&DataType::Utf8);
            shown(&|row| format!("'{}'", values.as_string::<i32>().value(row)))
        }
        _ => shown(&|row| array_value_to_string(column, row).expect("the value can be shown")),
    }
}

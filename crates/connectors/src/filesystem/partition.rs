//! Hive style partition folders: `day=2026-01-01/hour=10`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, FieldRef};
use thalweg_core::{Error, Result};

use crate::rows::cast_strictly;

/// What stands for NULL and for the empty string, unless `partition.default-name` says otherwise.
pub(super) const DEFAULT_NAME: &str = "__DEFAULT_PARTITION__";

/// The characters that Hive, and Flink after it, writes as `%XX` in names of partition folders.
fn must_escape(c: char) -> bool {
    matches!(
        c,
        '\u{1}'..='\u{1f}' | '\u{7f}' | '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^'
    ) || c == '\0'
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        if must_escape(c) {
            let _ = write!(out, "%{:02X}", u32::from(c));
        } else {
            out.push(c);
        }
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_string())
}

/// The value of partition column `field` in the folders of `path`, as an array of one.
/// # Errors
/// `Record` when the path has no such folder, or its value does not fit the column's type.
pub(super) fn value_in_path(path: &str, field: &FieldRef, default_name: &str) -> Result<ArrayRef> {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    let found = folders.split('/').filter_map(|folder| folder.split_once('=')).find(|(name, _)| unescape(name) == *field.name());
    let Some((_, escaped)) = found else {
        return Err(Error::record(format!("file \"{path}\" is in no folder \"{}=…\"", field.name()))
            .with_help(format!("the table is partitioned by {}; each file must be in such a folder", field.name())));
    };
    let text = unescape(escaped);
    if text == default_name {
        if !field.is_nullable() {
            return Err(Error::record(format!("file \"{path}\": column {} is NOT NULL but its folder says NULL", field.name())));
        }
        return Ok(new_null_array(field.data_type(), 1));
    }
    let array: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
    cast_strictly(&array, field.data_type()).map_err(|error| {
        Error::record(format!("file \"{path}\": \"{text}\" is no {} for column {}", field.data_type(), field.name()))
            .with_cause(error)
    })
}

/// Splits rows by the folder they belong to.
pub(super) struct Partitioner {
    /// Index in the rows and escaped name, in the order of `PARTITIONED BY`.
    columns: Vec<(usize, String)>,
    /// Indices of the columns that go into the files.
    kept: Vec<usize>,
    default_name: String,
}

impl Partitioner {
    /// `columns` are names of `fields`.
    pub fn new(fields: &[FieldRef], columns: &[String], default_name: &str) -> Result<Self> {
        let mut found = vec![];
        for column in columns {
            let index = fields
                .iter()
                .position(|field| field.name() == column)
                .ok_or_else(|| Error::user(format!("partition column \"{column}\" is not among the columns")))?;
            let mut name = String::new();
            escape(column, &mut name);
            found.push((index, name));
        }
        let kept = (0..fields.len()).filter(|index| found.iter().all(|(taken, _)| taken != index)).collect();
        Ok(Partitioner { columns: found, kept, default_name: default_name.to_string() })
    }

    /// Indices of the columns that go into the files.
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// The rows by folder, folders in order of their first row, rows in order, without the partition columns.
    pub fn split(&self, rows: &RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        let content = rows.project(&self.kept)?;
        if self.columns.is_empty() {
            return Ok(vec![(String::new(), content)]);
        }
        let texts = self
            .columns
            .iter()
            .map(|(index, _)| cast_strictly(rows.column(*index), &DataType::Utf8))
            .collect::<Result<Vec<_>>>()?;
        let mut groups: Vec<(String, Vec<u32>)> = vec![];
        let mut group_of_folder: HashMap<String, usize> = HashMap::new();
        let mut folder = String::new();
        for row in 0..rows.num_rows() {
            self.folder_of(&texts, row, &mut folder);
            let group = match group_of_folder.get(&folder) {
                Some(group) => *group,
                None => {
                    groups.push((folder.clone(), vec![]));
                    group_of_folder.insert(folder.clone(), groups.len() - 1);
                    groups.len() - 1
                }
            };
            groups[group].1.push(row as u32);
        }
        if let [(folder, _)] = groups.as_slice() {
            return Ok(vec![(folder.clone(), content)]);
        }
        groups
            .into_iter()
            .map(|(folder, indices)| Ok((folder, take_record_batch(&content, &UInt32Array::from(indices))?)))
            .collect()
    }

    fn folder_of(&self, texts: &[ArrayRef], row: usize, out: &mut String) {
        out.clear();
        for ((_, name), values) in self.columns.iter().zip(texts) {
            if !out.is_empty() {
                out.push('/');
            }
            out.push_str(name);
            out.push('=');
            let value = if values.is_null(row) { "" } else { values.as_string::<i32>().value(row) };
            escape(if value.is_empty() { &self.default_name } else { value }, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, Int64Array};
    use arrow::datatypes::{Field, Schema};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_come_back_from_their_folder(value in any::<String>()) {
            let schema = Arc::new(Schema::new(vec![Field::new("k=/", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]));
            let rows = RecordBatch::try_new(
                schema.clone(),
                vec![Arc::new(StringArray::from(vec![value.as_str()])), Arc::new(Int64Array::from(vec![1]))],
            ).unwrap();
            let partitioner = Partitioner::new(schema.fields(), &["k=/".to_string()], DEFAULT_NAME).unwrap();
            let folder = partitioner.split(&rows).unwrap().remove(0).0;
            prop_assert_eq!(folder.matches('/').count(), 0);
            let back = value_in_path(&format!("{folder}/part"), &schema.fields()[0], DEFAULT_NAME).unwrap();
            let back = back.as_string::<i32>();
            prop_assert_eq!(back.is_valid(0).then(|| back.value(0).to_string()), (!value.is_empty()).then_some(value));
        }
    }

    #[test]
    fn rows_split_by_two_columns() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("day", DataType::Date32, true),
            Field::new("n", DataType::Int64, true),
            Field::new("hour", DataType::Int32, true),
        ]));
        let rows = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(arrow::array::Date32Array::from(vec![Some(0), None, Some(0), Some(1)])),
                Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
                Arc::new(Int32Array::from(vec![10, 10, 10, 11])),
            ],
        )
        .unwrap();
        let partitioner = Partitioner::new(schema.fields(), &["day".to_string(), "hour".to_string()], DEFAULT_NAME).unwrap();
        let split: Vec<(String, Vec<i64>)> = partitioner
            .split(&rows)
            .unwrap()
            .into_iter()
            .map(|(folder, rows)| (folder, rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()))
            .collect();
        let expected = [
            ("day=1970-01-01/hour=10", vec![1, 3]),
            ("day=__DEFAULT_PARTITION__/hour=10", vec![2]),
            ("day=1970-01-02/hour=11", vec![4]),
        ];
        assert_eq!(split, expected.map(|(folder, numbers)| (folder.to_string(), numbers)));
        let day = schema.fields()[0].clone();
        assert!(value_in_path("day=__DEFAULT_PARTITION__/x", &day, DEFAULT_NAME).unwrap().is_null(0));
        assert!(value_in_path("day=soon/x", &day, DEFAULT_NAME).is_err());
        assert!(value_in_path("x", &day, DEFAULT_NAME).is_err());
    }
}

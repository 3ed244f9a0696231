//! Numbers for keys: the first key seen is group 0, the next new one group 1.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, UInt32Array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Schema};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use thalweg_core::{Error, Result};

/// The distinct keys met so far, numbered, and readable without being emptied.
///
/// Two keys are the same when all their columns are, null equal to null; `0.0` and `-0.0` are two keys, all NaNs are one, as
/// in Flink. Without columns there is one key.
pub struct GroupKeys {
    fields: Vec<FieldRef>,
    /// `None` when there are no columns.
    interner: Option<Box<dyn GroupValues>>,
    /// The keys in order of their numbers, in pieces of falling size: the interner cannot be read without emptying it.
    chunks: Vec<Vec<ArrayRef>>,
    len: usize,
}

impl GroupKeys {
    pub fn new(fields: &[FieldRef]) -> Result<Self> {
        let interner = if fields.is_empty() {
            None
        } else {
            let interned =
                fields.iter().map(|field| Field::new(field.name(), interned_type(field.data_type()), true)).collect::<Vec<_>>();
            Some(new_group_values(Arc::new(Schema::new(interned)), &GroupOrdering::None).map_err(cannot_group)?)
        };
        Ok(GroupKeys { fields: fields.to_vec(), interner, chunks: vec![], len: 0 })
    }

    /// Puts the group of each of the `rows` rows of `columns` into `groups`, replacing what was there.
    /// Returns the rows that brought a new key, in order of the new groups.
    pub fn intern(&mut self, columns: &[ArrayRef], rows: usize, groups: &mut Vec<usize>) -> Result<Vec<u32>> {
        groups.clear();
        let before = self.len;
        let Some(interner) = &mut self.interner else {
            groups.resize(rows, 0);
            self.len = usize::from(before > 0 || rows > 0);
            return Ok(vec![0; self.len - before]);
        };
        let interned: Vec<ArrayRef> = columns.iter().map(interned_column).collect();
        interner.intern(&interned, groups).map_err(cannot_group)?;
        self.len = interner.len();
        if self.len == before {
            return Ok(vec![]);
        }
        let mut new_rows = vec![u32::MAX; self.len - before];
        for (row, group) in (0_u32..).zip(groups.iter()) {
            if *group >= before && new_rows[group - before] == u32::MAX {
                new_rows[group - before] = row;
            }
        }
        self.append(columns, &new_rows)?;
        Ok(new_rows)
    }

    /// The key columns of all groups, in order of their numbers.
    pub fn columns(&self) -> Result<Vec<ArrayRef>> {
        (0..self.fields.len()).map(|column| self.column(column)).collect()
    }

    /// One key column of all groups.
    pub fn column(&self, column: usize) -> Result<ArrayRef> {
        match self.chunks.as_slice() {
            [] => Ok(arrow::array::new_empty_array(self.fields[column].data_type())),
            [only] => Ok(only[column].clone()),
            chunks => Ok(concat(&chunks.iter().map(|chunk| chunk[column].as_ref()).collect::<Vec<_>>())?),
        }
    }

    /// The key columns of `groups`, in that order. Costs no more than those are many.
    pub fn rows(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        if self.fields.is_empty() {
            return Ok(vec![]);
        }
        if let [only] = self.chunks.as_slice() {
            let indices = UInt32Array::from_iter_values(groups.iter().map(|group| *group as u32));
            return only.iter().map(|column| Ok(take(column, &indices, None)?)).collect();
        }
        let mut chunk_starts = vec![];
        let mut start = 0;
        for chunk in &self.chunks {
            chunk_starts.push(start);
            start += chunk[0].len();
        }
        let place = |group: &usize| {
            let chunk = chunk_starts.partition_point(|start| start <= group) - 1;
            (chunk, group - chunk_starts[chunk])
        };
        let places: Vec<(usize, usize)> = groups.iter().map(place).collect();
        (0..self.fields.len())
            .map(|column| {
                if places.is_empty() {
                    return Ok(arrow::array::new_empty_array(self.fields[column].data_type()));
                }
                let chunks: Vec<&dyn Array> = self.chunks.iter().map(|chunk| chunk[column].as_ref()).collect();
                Ok(interleave(&chunks, &places)?)
            })
            .collect()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn size_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().flatten().map(|array| array.get_array_memory_size()).sum();
        chunks + self.interner.as_ref().map_or(0, |interner| interner.size())
    }

    fn append(&mut self, columns: &[ArrayRef], rows: &[u32]) -> Result<()> {
        let mut last = if rows.len() == columns[0].len() {
            columns.to_vec()
        } else {
            let rows = UInt32Array::from(rows.to_vec());
            columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<_>>()?
        };
        // Pieces are joined with those that are not larger, so that there are few and each key is copied few times.
        while let Some(previous) = self.chunks.pop_if(|previous| previous[0].len() <= last[0].len()) {
            last = previous
                .iter()
                .zip(&last)
                .map(|(one, other)| Ok(concat(&[one.as_ref(), other.as_ref()])?))
                .collect::<Result<_>>()?;
        }
        self.chunks.push(last);
        Ok(())
    }
}

fn cannot_group(error: datafusion::common::DataFusionError) -> Error {
    Error::internal("cannot group by these keys").with_cause(error)
}

/// Floats are told apart by their bits: the interner would take `-0.0` for `0.0`.
fn interned_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Float32 => DataType::Int32,
        DataType::Float64 => DataType::Int64,
        other => other.clone(),
    }
}

fn interned_column(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => {
            let bits = |value: f32| if value.is_nan() { f32::NAN } else { value }.to_bits() as i32;
            let bits: Int32Array = column.as_primitive::<Float32Type>().unary(bits);
            Arc::new(bits)
        }
        DataType::Float64 => {
            let bits = |value: f64| if value.is_nan() { f64::NAN } else { value }.to_bits() as i64;
            let bits: Int64Array = column.as_primitive::<Float64Type>().unary(bits);
            Arc::new(bits)
        }
        _ => column.clone(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray};

    use super::*;

    #[test]
    fn keys_are_numbered_and_stay_readable() {
        let fields =
            [Arc::new(Field::new("word", DataType::Utf8, true)), Arc::new(Field::new("number", DataType::Float64, true))];
        let mut keys = GroupKeys::new(&fields).unwrap();
        let mut groups = vec![];
        let mut intern = |keys: &mut GroupKeys, rows: &[(Option<&str>, f64)]| {
            let words: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.0)));
            let numbers: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1)));
            let new_rows = keys.intern(&[words, numbers], rows.len(), &mut groups).unwrap();
            (groups.clone(), new_rows)
        };
        let first = intern(&mut keys, &[(Some("a"), 0.0), (Some("a"), -0.0), (None, f64::NAN), (Some("a"), 0.0)]);
        assert_eq!(first, (vec![0, 1, 2, 0], vec![0, 1, 2]));
        let second = intern(&mut keys, &[(None, -f64::NAN), (Some("b"), 1.0)]);
        assert_eq!(second, (vec![2, 3], vec![1]));
        let columns = keys.columns().unwrap();
        assert_eq!(columns[0].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), Some("a"), None, Some("b")]);
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn no_columns_is_one_key() {
        let mut keys = GroupKeys::new(&[]).unwrap();
        let mut groups = vec![];
        assert!(keys.intern(&[], 0, &mut groups).unwrap().is_empty() && keys.is_empty());
        assert_eq!(keys.intern(&[], 2, &mut groups).unwrap(), [0]);
        assert!(keys.intern(&[], 3, &mut groups).unwrap().is_empty());
        assert_eq!((groups, keys.len()), (vec![0, 0, 0], 1));
    }
}

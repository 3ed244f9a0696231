//! Keys to hashes, key groups and lanes.
//!
//! The encoding of keys is part of the checkpoint format and must never change. A key is the concatenation of its columns'
//! values, each a tag byte and little-endian bytes:
//!
//! | value | bytes |
//! |---|---|
//! | null | `0` |
//! | integer, DATE, TIME, TIMESTAMP of any width or unit | `1`, the value as i64 |
//! | FLOAT, DOUBLE | `2`, the bits as f64; every NaN alike, `-0.0` unlike `0.0` as in Flink |
//! | BOOLEAN | `3`, `0` or `1` |
//! | DECIMAL | `4`, the unscaled value as i128 |
//! | text, bytes | `5`, length as u32, the bytes |
//! | ARRAY, MAP | `6`, number of elements as u32, each element (of a MAP: key and value as a ROW) |
//! | ROW | `7`, each field |

use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use thalweg_core::{Batch, Error, KeyGroup, Result, key_group_of_hash, lane_of_key_group, stable_hash};

const NULL: u8 = 0;
const INTEGER: u8 = 1;
const FLOAT: u8 = 2;
const BOOLEAN: u8 = 3;
const DECIMAL: u8 = 4;
const BYTES: u8 = 5;
const LIST: u8 = 6;
const STRUCT: u8 = 7;

/// The stable hash of the key in each of `rows` rows. Without key columns every hash is 0: one group, on lane 0.
/// # Errors
/// `Internal` for types that SQL does not have.
pub fn key_hashes(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    match columns {
        [] => Ok(vec![0; rows]),
        [column] if column.data_type() == &DataType::Utf8 => Ok(text_hashes(column.as_string::<i32>())),
        [column] if is_integer(column.data_type()) && column.null_count() == 0 => {
            let values = widen(column)?;
            Ok(values.as_primitive::<Int64Type>().values().iter().map(|value| integer_hash(*value)).collect())
        }
        columns => {
            let encoders = columns.iter().map(encoder).collect::<Result<Vec<_>>>()?;
            let mut key = vec![];
            let hash = |row| {
                key.clear();
                encoders.iter().for_each(|encoder| encoder.encode(row, &mut key));
                stable_hash(&key)
            };
            Ok((0..rows).map(hash).collect())
        }
    }
}

/// The key group of the key in each of `rows` rows.
pub fn key_groups(columns: &[ArrayRef], rows: usize) -> Result<Vec<KeyGroup>> {
    Ok(key_hashes(columns, rows)?.into_iter().map(key_group_of_hash).collect())
}

/// The rows of `batch` for each of `lanes` lanes, by the key in the columns `keys`; `None` for a lane that gets none.
/// Rows keep their order within a lane.
pub fn partition_by_lane(batch: &Batch, keys: &[usize], lanes: u32) -> Result<Vec<Option<Batch>>> {
    let mut shares = vec![None; lanes as usize];
    if batch.num_rows() == 0 {
        return Ok(shares);
    }
    if lanes == 1 {
        shares[0] = Some(batch.clone());
        return Ok(shares);
    }
    let columns: Vec<ArrayRef> = keys.iter().map(|key| batch.column(*key).clone()).collect();
    let mut rows_of_lane: Vec<Vec<u32>> = vec![vec![]; lanes as usize];
    for (row, group) in (0_u32..).zip(key_groups(&columns, batch.num_rows())?) {
        rows_of_lane[lane_of_key_group(group, lanes) as usize].push(row);
    }
    for (share, rows) in shares.iter_mut().zip(rows_of_lane) {
        if rows.len() == batch.num_rows() {
            *share = Some(batch.clone());
        } else if !rows.is_empty() {
            *share = Some(batch.take(&UInt32Array::from(rows))?);
        }
    }
    Ok(shares)
}

fn integer_hash(value: i64) -> u64 {
    let mut key = [INTEGER; 9];
    key[1..].copy_from_slice(&value.to_le_bytes());
    stable_hash(&key)
}

fn text_hashes(values: &StringArray) -> Vec<u64> {
    let mut key = vec![];
    (0..values.len())
        .map(|row| {
            key.clear();
            if values.is_null(row) {
                key.push(NULL)
            } else {
                push_bytes(values.value(row).as_bytes(), &mut key)
            }
            stable_hash(&key)
        })
        .collect()
}

fn push_bytes(bytes: &[u8], key: &mut Vec<u8>) {
    key.push(BYTES);
    key.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    key.extend_from_slice(bytes);
}

/// Writes values of one column.
trait KeyEncoder {
    fn encode(&self, row: usize, key: &mut Vec<u8>);
}

/// An encoder from a column that has no nulls at the rows asked for, and what writes a value.
struct ColumnEncoder<A, F> {
    array: A,
    write: F,
}

impl<A: Array, F: Fn(&A, usize, &mut Vec<u8>)> KeyEncoder for ColumnEncoder<A, F> {
    fn encode(&self, row: usize, key: &mut Vec<u8>) {
        if self.array.is_null(row) { key.push(NULL) } else { (self.write)(&self.array, row, key) }
    }
}

fn boxed<A, F>(array: A, write: F) -> Box<dyn KeyEncoder>
where
    A: Array + 'static,
    F: Fn(&A, usize, &mut Vec<u8>) + 'static,
{
    Box::new(ColumnEncoder { array, write })
}

fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..)
        )
}

/// Integers, dates, times and timestamps as Int64: the number that is stored, whatever its unit.
fn widen(column: &ArrayRef) -> Result<ArrayRef> {
    let column = match column.data_type() {
        DataType::Date32 | DataType::Time32(_) => cast(column, &DataType::Int32)?,
        _ => column.clone(),
    };
    Ok(cast(&column, &DataType::Int64)?)
}

fn encoder(column: &ArrayRef) -> Result<Box<dyn KeyEncoder>> {
    Ok(match column.data_type() {
        DataType::Null => boxed(column.clone(), |_, _, key| key.push(NULL)),
        data_type if is_integer(data_type) => boxed(widen(column)?.as_primitive::<Int64Type>().clone(), |array, row, key| {
            key.push(INTEGER);
            key.extend_from_slice(&array.value(row).to_le_bytes());
        }),
        DataType::Float32 | DataType::Float64 => {
            let values = cast(column, &DataType::Float64)?;
            boxed(values.as_primitive::<Float64Type>().clone(), |array, row, key| {
                let value = array.value(row);
                let canonical = if value.is_nan() { f64::NAN } else { value };
                key.push(FLOAT);
                key.extend_from_slice(&canonical.to_bits().to_le_bytes());
            })
        }
        DataType::Boolean => boxed(column.as_boolean().clone(), |array, row, key| {
            key.extend_from_slice(&[BOOLEAN, u8::from(array.value(row))]);
        }),
        DataType::Decimal128(..) => boxed(column.as_primitive::<Decimal128Type>().clone(), |array, row, key| {
            key.push(DECIMAL);
            key.extend_from_slice(&array.value(row).to_le_bytes());
        }),
        DataType::Utf8 => boxed(column.as_string::<i32>().clone(), |array, row, key| {
            push_bytes(array.value(row).as_bytes(), key);
        }),
        DataType::Binary => boxed(column.as_binary::<i32>().clone(), |array, row, key| push_bytes(array.value(row), key)),
        DataType::List(_) => {
            let list = column.as_list::<i32>().clone();
            let items = encoder(list.values())?;
            boxed(list, move |array, row, key| {
                let (start, end) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                encode_items(items.as_ref(), start..end, key);
            })
        }
        DataType::Map(..) => {
            let map = column.as_map().clone();
            let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
            let items = encoder(&entries)?;
            boxed(map, move |array, row, key| {
                let (start, end) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                encode_items(items.as_ref(), start..end, key);
            })
        }
        DataType::Struct(_) => {
            let rows = column.as_struct().clone();
            let fields = rows.columns().iter().map(encoder).collect::<Result<Vec<_>>>()?;
            boxed(rows, move |_, row, key| {
                key.push(STRUCT);
                fields.iter().for_each(|field| field.encode(row, key));
            })
        }
        other => return Err(Error::internal(format!("a key column is {other}"))),
    })
}

fn encode_items(items: &dyn KeyEncoder, range: std::ops::Range<usize>, key: &mut Vec<u8>) {
    key.push(LIST);
    key.extend_from_slice(&(range.len() as u32).to_le_bytes());
    range.for_each(|item| items.encode(item, key));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch};
    use arrow::datatypes::{Field, Int32Type, Schema};
    use proptest::prelude::*;

    use super::*;

    fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
        key_hashes(columns, columns[0].len()).unwrap()
    }

    fn bytes_hash(parts: &[&[u8]]) -> u64 {
        stable_hash(&parts.concat())
    }

    #[test]
    fn the_encoding_is_fixed() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(-2), None]));
        assert_eq!(hashes(&[numbers]), [bytes_hash(&[&[1], &(-2_i64).to_le_bytes()]), bytes_hash(&[&[0]])]);
        let days: ArrayRef = Arc::new(Date32Array::from(vec![7]));
        assert_eq!(hashes(std::slice::from_ref(&days)), [bytes_hash(&[&[1], &7_i64.to_le_bytes()])]);
        let words: ArrayRef = Arc::new(StringArray::from(vec!["ab"]));
        assert_eq!(hashes(std::slice::from_ref(&words)), [bytes_hash(&[&[5], &2_u32.to_le_bytes(), b"ab"])]);
        assert_eq!(hashes(&[words, days]), [bytes_hash(&[&[5], &2_u32.to_le_bytes(), b"ab", &[1], &7_i64.to_le_bytes()])]);
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(3), None])]));
        assert_eq!(hashes(&[lists]), [bytes_hash(&[&[6], &2_u32.to_le_bytes(), &[1], &3_i64.to_le_bytes(), &[0]])]);
        assert_eq!(key_hashes(&[], 2).unwrap(), [0, 0]);
    }

    #[test]
    fn zeros_differ_and_nans_do_not() {
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1);
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, other_nan, -f64::NAN]));
        let hashes = hashes(&[numbers]);
        assert_ne!(hashes[0], hashes[1]);
        assert_eq!(hashes[2], hashes[3]);
        assert_eq!(hashes[2], hashes[4]);
    }

    proptest! {
        #[test]
        fn lanes_share_the_rows(values in prop::collection::vec((0_i64..20, "[a-c]{0,2}"), 0..50), lanes in 1_u32..6) {
            let schema = Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("s", DataType::Utf8, false)]);
            let numbers = Int64Array::from_iter_values(values.iter().map(|value| value.0));
            let words = StringArray::from_iter_values(values.iter().map(|value| &value.1));
            let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(numbers), Arc::new(words)]).unwrap();
            let shares = partition_by_lane(&rows.clone().into(), &[1, 0], lanes).unwrap();
            prop_assert_eq!(shares.len(), lanes as usize);
            let total: usize = shares.iter().flatten().map(Batch::num_rows).sum();
            prop_assert_eq!(total, values.len());
            for (lane, share) in (0_u32..).zip(shares) {
                let Some(share) = share else { continue };
                let keys = [share.column(1).clone(), share.column(0).clone()];
                for group in key_groups(&keys, share.num_rows()).unwrap() {
                    prop_assert_eq!(lane_of_key_group(group, lanes), lane);
                }
            }
        }
    }
}

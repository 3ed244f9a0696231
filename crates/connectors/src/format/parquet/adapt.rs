//! A file's columns under a table's types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field};
use thalweg_core::{Error, Result};

/// Casts `array` to `target`; fields within rows go by name, and those that are missing are null.
/// # Errors
/// `Record` when a value does not fit, or the types have nothing to do with each other.
pub fn adapt(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    match (array.data_type(), target) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let rows = array.as_struct();
            let column = |field: &Arc<Field>| match rows.column_by_name(field.name()) {
                Some(column) => adapt(column, field.data_type()),
                None => Ok(new_null_array(field.data_type(), rows.len())),
            };
            let columns = fields.iter().map(column).collect::<Result<Vec<_>>>()?;
            let rows = StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len());
            Ok(Arc::new(rows.map_err(does_not_fit)?))
        }
        (DataType::List(_), DataType::List(item)) => {
            let lists = array.as_list::<i32>();
            let items = adapt(lists.values(), item.data_type())?;
            let lists = ListArray::try_new(item.clone(), lists.offsets().clone(), items, lists.nulls().cloned());
            Ok(Arc::new(lists.map_err(does_not_fit)?))
        }
        (DataType::Map(..), DataType::Map(entries, ordered)) => {
            let maps = array.as_map();
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(Error::internal("the entries of a map are no struct"));
            };
            let columns = vec![adapt(maps.keys(), fields[0].data_type())?, adapt(maps.values(), fields[1].data_type())?];
            let rows = StructArray::try_new(fields.clone(), columns, None).map_err(does_not_fit)?;
            let maps = MapArray::try_new(entries.clone(), maps.offsets().clone(), rows, maps.nulls().cloned(), *ordered);
            Ok(Arc::new(maps.map_err(does_not_fit)?))
        }
        _ => cast_with_options(array, target, &CastOptions { safe: false, ..CastOptions::default() }).map_err(does_not_fit),
    }
}

fn does_not_fit(error: arrow::error::ArrowError) -> Error {
    Error::record("the file's values do not fit the declared type").with_cause(error)
}

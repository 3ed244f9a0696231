//! ARRAY, MAP and ROW cast part by part; the fields of a ROW by their place.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};

use super::super::sql_type::SqlType;
use super::Rule;

pub(super) fn cast(rule: Rule, array: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<ArrayRef> {
    let data_type = to.to_arrow();
    match (from, to, &data_type) {
        (SqlType::Array(from), SqlType::Array(to), DataType::List(field)) => {
            let list = array.as_list::<i32>();
            let items = rule.cast(list.values(), from, to)?;
            Ok(Arc::new(ListArray::try_new(field.clone(), list.offsets().clone(), items, list.nulls().cloned())?))
        }
        (SqlType::Map(from_key, from_value), SqlType::Map(to_key, to_value), DataType::Map(field, sorted)) => {
            let map = array.as_map();
            let keys = rule.cast(map.keys(), from_key, to_key)?;
            let values = rule.cast(map.values(), from_value, to_value)?;
            let DataType::Struct(fields) = field.data_type() else {
                return Err(impossible(from, to));
            };
            let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
            Ok(Arc::new(MapArray::try_new(field.clone(), map.offsets().clone(), entries, map.nulls().cloned(), *sorted)?))
        }
        (SqlType::Row(from), SqlType::Row(to), DataType::Struct(fields)) => {
            let row = array.as_struct();
            let columns = row
                .columns()
                .iter()
                .zip(from.iter().zip(to))
                .map(|(column, ((_, from), (_, to)))| rule.cast(column, from, to))
                .collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, row.nulls().cloned())?))
        }
        _ => Err(impossible(from, to)),
    }
}

fn impossible(from: &SqlType, to: &SqlType) -> DataFusionError {
    DataFusionError::Execution(format!("cannot cast {from} to {to}"))
}

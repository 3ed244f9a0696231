//! Values of ROW, ARRAY and MAP types as those of a sink's column: part by part, the fields of a ROW by their place.
//!
//! Arrow's cast matches the fields of a ROW by name, so that it could not store `ROW('ann', 5)`, whose fields have none.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `expr` as `to`, to which it can be converted implicitly.
pub(crate) fn fit_nested(expr: Expr, to: &DataType) -> Expr {
    let function = ScalarUDF::from(FitNested { to: to.clone(), signature: Signature::any(1, Volatility::Immutable) });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![expr]))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FitNested {
    to: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for FitNested {
    fn name(&self) -> &str {
        "fit_nested"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), is_nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.into_iter().next() else {
            return internal_err!("fit_nested takes one argument");
        };
        Ok(ColumnarValue::Array(fit(&value.into_array(args.number_rows)?, &self.to)?))
    }
}

fn fit(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    Ok(match (array.data_type(), to) {
        (DataType::Null, _) => new_null_array(to, array.len()),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let row = array.as_struct();
            let columns =
                row.columns().iter().zip(fields).map(|(column, field)| fit(column, field.data_type())).collect::<Result<_>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, row.nulls().cloned())?)
        }
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let items = fit(list.values(), item.data_type())?;
            Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), items, list.nulls().cloned())?)
        }
        (DataType::Map(..), DataType::Map(entries, is_sorted)) => {
            let map = array.as_map();
            let fitted: ArrayRef = Arc::new(map.entries().clone());
            let fitted = fit(&fitted, entries.data_type())?;
            let entries_array = fitted.as_struct().clone();
            Arc::new(MapArray::try_new(entries.clone(), map.offsets().clone(), entries_array, map.nulls().cloned(), *is_sorted)?)
        }
        _ => cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int32Array, Int64Array, StringArray};
    use datafusion::arrow::datatypes::Fields;

    #[test]
    fn fields_are_found_by_place() {
        let unnamed = Fields::from(vec![Field::new("EXPR$0", DataType::Utf8, true), Field::new("EXPR$1", DataType::Int32, true)]);
        let named = Fields::from(vec![Field::new("name", DataType::Utf8, true), Field::new("age", DataType::Int64, true)]);
        let (names, ages) = (Arc::new(StringArray::from(vec!["ann"])), Arc::new(Int32Array::from(vec![5])));
        let row: ArrayRef = Arc::new(StructArray::new(unnamed, vec![names, ages], None));
        let fitted = fit(&row, &DataType::Struct(named)).unwrap();
        assert_eq!(fitted.as_struct().column_by_name("age").unwrap().as_ref(), &Int64Array::from(vec![5]) as &dyn Array);
    }
}

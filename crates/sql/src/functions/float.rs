//! Comparison of FLOAT and DOUBLE as IEEE 754 has it: NaN equals nothing, 0.0 equals -0.0.
//!
//! DataFusion's operators order all bit patterns instead, so that NaN equals itself and -0.0 is smaller than 0.0.

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::Result;

use super::arguments::Arguments;
use super::definition::{Definition, Kind, Returns, define};
use super::sql_type::SqlType;

pub(super) fn definitions() -> Vec<Definition> {
    let compare: [(&'static str, super::definition::Run); 6] = [
        ("float_eq", |args| run(args, |left, right| left == right)),
        ("float_not_eq", |args| run(args, |left, right| left != right)),
        ("float_lt", |args| run(args, |left, right| left < right)),
        ("float_lt_eq", |args| run(args, |left, right| left <= right)),
        ("float_gt", |args| run(args, |left, right| left > right)),
        ("float_gt_eq", |args| run(args, |left, right| left >= right)),
    ];
    compare
        .map(|(name, run)| define(name, &[Kind::Double, Kind::Double], Returns::Sql(SqlType::Boolean), run))
        .into_iter()
        .collect()
}

fn run(args: &Arguments, test: impl Fn(f64, f64) -> bool) -> Result<ArrayRef> {
    let (left, right) = (args.expanded(0)?, args.expanded(1)?);
    let (left, right): (&Float64Array, &Float64Array) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
    let (left_values, right_values) = (left.values(), right.values());
    let bits = BooleanBuffer::collect_bool(args.rows, |row| test(left_values[row], right_values[row]));
    let nulls = NullBuffer::union(datafusion::arrow::array::Array::nulls(left), datafusion::arrow::array::Array::nulls(right));
    Ok(std::sync::Arc::new(BooleanArray::new(bits, nulls)))
}

//! Sums and products of integers that fail on overflow; DataFusion's operators wrap around.

use datafusion::arrow::array::{ArrayRef, Datum, Scalar};
use datafusion::arrow::compute::{cast, kernels::numeric};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::common::Result;

use super::arguments::Arguments;
use super::decimal::digits_of;
use super::definition::{Definition, Kind, Planned, Returns, define};
use super::number::expand;
use super::sql_type::SqlType;

type Kernel = fn(&dyn Datum, &dyn Datum) -> std::result::Result<ArrayRef, ArrowError>;

pub(super) fn definitions() -> Vec<Definition> {
    let operators: [(&'static str, super::definition::Run); 3] = [
        ("integer_add", |args| run(args, numeric::add)),
        ("integer_subtract", |args| run(args, numeric::sub)),
        ("integer_multiply", |args| run(args, numeric::mul)),
    ];
    operators.map(|(name, run)| define(name, &[Kind::Exact, Kind::Exact], Returns::Computed(wider), run)).into_iter().collect()
}

/// The type of the side with more digits.
fn wider(planned: &Planned) -> Result<SqlType> {
    let (left, right) = (planned.data_type(0), planned.data_type(1));
    if !left.is_integer() || !right.is_integer() {
        return Err(planned.error("takes integers"));
    }
    Ok(SqlType::of_arrow(if digits_of(left) >= digits_of(right) { left } else { right }))
}

fn run(args: &Arguments, kernel: Kernel) -> Result<ArrayRef> {
    let data_type = args.return_field.data_type();
    let side = |index: usize| cast(args.array(index), data_type);
    let (left, right) = (side(0)?, side(1)?);
    let result = match (args.is_constant(0), args.is_constant(1)) {
        (true, false) => kernel(&Scalar::new(left), &right),
        (false, true) => kernel(&left, &Scalar::new(right)),
        _ => kernel(&left, &right),
    };
    let result = result.map_err(|error| match error {
        ArrowError::ArithmeticOverflow(_) => args.error(overflow(data_type)),
        other => args.error(other),
    })?;
    expand(args, result)
}

fn overflow(data_type: &DataType) -> String {
    format!("overflow of {}; cast a side to a wider type", SqlType::of_arrow(data_type))
}

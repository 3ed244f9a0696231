//! Numbers: signs, remainders, powers, logarithms, angles, chance.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Datum, Scalar};
use datafusion::arrow::compute::{cast, kernels::numeric};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type};
use datafusion::common::Result;
use thalweg_core::{Rand, SystemRand};

use super::arguments::{Arguments, number_rows, text_rows};
use super::decimal;
use super::definition::{Changes, Definition, Kind, Planned, Returns, define};
use super::sql_type::SqlType;

use Kind::{Double, Number};

pub(super) fn definitions() -> Vec<Definition> {
    let double = || Returns::Sql(SqlType::Double);
    let mut all = vec![
        define("abs", &[Number], Returns::Same(0), abs),
        define("sign", &[Number], Returns::Same(0), sign),
        define("mod", &[Number, Number], Returns::Computed(mod_type), modulo),
        define("power", &[Double, Double], double(), |args| map2(args, f64::powf)),
        define("atan2", &[Double, Double], double(), |args| map2(args, f64::atan2)),
        define("log", &[Double, Double], double(), log).optional(1),
        define("pi", &[], double(), |args| number_rows::<Float64Type>(args.rows, |_| Ok(Some(std::f64::consts::PI)))),
        define("e", &[], double(), |args| number_rows::<Float64Type>(args.rows, |_| Ok(Some(std::f64::consts::E)))),
        define("rand", &[], double(), |args| {
            // 53 random bits make every representable step between 0 and 1 equally likely.
            number_rows::<Float64Type>(args.rows, |_| Ok(Some((SystemRand.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)))
        })
        .changes(Changes::PerRow),
        define("rand_integer", &[Kind::Integer], Returns::Sql(SqlType::Int), rand_integer).changes(Changes::PerRow),
        define("uuid", &[], Returns::Sql(SqlType::Text), uuid).changes(Changes::PerRow),
    ];
    let maps: [(&'static str, super::definition::Run); 17] = [
        ("sqrt", |args| map1(args, f64::sqrt)),
        ("exp", |args| map1(args, f64::exp)),
        ("ln", |args| map1(args, f64::ln)),
        ("log10", |args| map1(args, f64::log10)),
        ("log2", |args| map1(args, f64::log2)),
        ("sin", |args| map1(args, f64::sin)),
        ("cos", |args| map1(args, f64::cos)),
        ("tan", |args| map1(args, f64::tan)),
        ("cot", |args| map1(args, |x| x.tan().recip())),
        ("asin", |args| map1(args, f64::asin)),
        ("acos", |args| map1(args, f64::acos)),
        ("atan", |args| map1(args, f64::atan)),
        ("sinh", |args| map1(args, f64::sinh)),
        ("cosh", |args| map1(args, f64::cosh)),
        ("tanh", |args| map1(args, f64::tanh)),
        ("degrees", |args| map1(args, f64::to_degrees)),
        ("radians", |args| map1(args, f64::to_radians)),
    ];
    all.extend(maps.map(|(name, run)| define(name, &[Double], double(), run)));
    all
}

fn map1(args: &Arguments, map: fn(f64) -> f64) -> Result<ArrayRef> {
    let mapped = args.array(0).as_primitive::<Float64Type>().unary::<_, Float64Type>(map);
    expand(args, Arc::new(mapped))
}

fn map2(args: &Arguments, map: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (left, right) = (args.doubles(0)?, args.doubles(1)?);
    number_rows::<Float64Type>(args.rows, |row| Ok(left.get(row).zip(right.get(row)).map(|(left, right)| map(left, right))))
}

/// A result computed from argument 0 alone has one row when the argument is constant.
pub(super) fn expand(args: &Arguments, result: ArrayRef) -> Result<ArrayRef> {
    if result.len() == args.rows {
        return Ok(result);
    }
    let indices = datafusion::arrow::array::UInt32Array::from_value(0, args.rows);
    Ok(datafusion::arrow::compute::take(&result, &indices, None)?)
}

/// The natural logarithm, or with two arguments that of the second to the base of the first.
fn log(args: &Arguments) -> Result<ArrayRef> {
    if args.len() == 1 {
        return map1(args, f64::ln);
    }
    map2(args, |base, x| x.ln() / base.ln())
}

/// Fails where the result does not fit, such as for the smallest BIGINT.
fn abs(args: &Arguments) -> Result<ArrayRef> {
    by_number(args, |value| value.checked_abs(), |value| Some(value.abs()), f64::abs)
}

fn sign(args: &Arguments) -> Result<ArrayRef> {
    let scale = match args.data_type(0) {
        DataType::Decimal128(_, scale) => u32::try_from(*scale).unwrap_or(0),
        _ => 0,
    };
    by_number(
        args,
        |value| Some(value.signum()),
        move |value| Some(value.signum() * 10_i128.pow(scale)),
        |value| if value == 0.0 || value.is_nan() { value } else { value.signum() },
    )
}

/// Maps integers as BIGINT, DECIMALs by their unscaled value, the rest as DOUBLE, and casts back. `None` is an overflow.
fn by_number(
    args: &Arguments,
    integer: impl Fn(i64) -> Option<i64>,
    decimal: impl Fn(i128) -> Option<i128>,
    double: impl Fn(f64) -> f64,
) -> Result<ArrayRef> {
    let array = args.array(0);
    let data_type = array.data_type().clone();
    let overflow = || args.error(format!("overflow of {}", SqlType::of_arrow(&data_type)));
    let mapped: ArrayRef = match &data_type {
        DataType::Decimal128(_, _) => Arc::new(
            array
                .as_primitive::<Decimal128Type>()
                .try_unary::<_, Decimal128Type, _>(|value| decimal(value).ok_or_else(overflow))?
                .with_data_type(data_type.clone()),
        ),
        DataType::Float32 => {
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|value| double(f64::from(value)) as f32))
        }
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(double)),
        _ => {
            let wide = cast(array, &DataType::Int64)?;
            let mapped =
                wide.as_primitive::<Int64Type>().try_unary::<_, Int64Type, _>(|value| integer(value).ok_or_else(overflow))?;
            let options = datafusion::arrow::compute::CastOptions { safe: false, ..Default::default() };
            datafusion::arrow::compute::cast_with_options(&mapped, &data_type, &options).map_err(|_| overflow())?
        }
    };
    expand(args, mapped)
}

/// Flink gives the type of the divisor for integers; decimals follow their own rule; else DOUBLE.
fn mod_type(planned: &Planned) -> Result<SqlType> {
    let (left, right) = (planned.data_type(0), planned.data_type(1));
    if left.is_floating() || right.is_floating() {
        return Ok(SqlType::Double);
    }
    if left.is_integer() && right.is_integer() {
        return Ok(SqlType::of_arrow(right));
    }
    decimal::result_type(decimal::Operation::Modulo, left, right).ok_or_else(|| planned.error("takes numbers"))
}

/// The remainder with the sign of the dividend. An exact division by zero fails.
fn modulo(args: &Arguments) -> Result<ArrayRef> {
    let result_type = args.return_field.data_type();
    let common = match result_type {
        DataType::Float64 => DataType::Float64,
        DataType::Decimal128(_, _) => return decimal::run(args, decimal::Operation::Modulo),
        _ => DataType::Int64,
    };
    let (left, right) = (cast(args.array(0), &common)?, cast(args.array(1), &common)?);
    let (left_scalar, right_scalar);
    let left: &dyn Datum = if args.is_constant(0) {
        left_scalar = Scalar::new(left);
        &left_scalar
    } else {
        &left
    };
    let right: &dyn Datum = if args.is_constant(1) {
        right_scalar = Scalar::new(right);
        &right_scalar
    } else {
        &right
    };
    let result = numeric::rem(left, right).map_err(|error| match error {
        datafusion::arrow::error::ArrowError::DivideByZero => args.error("division by zero"),
        other => args.error(other),
    })?;
    // A remainder is smaller than its divisor, so it fits the divisor's type.
    expand(args, cast(&result, result_type)?)
}

/// An integer from 0 up to, not including, the bound.
fn rand_integer(args: &Arguments) -> Result<ArrayRef> {
    let bound = args.integers(0)?;
    number_rows::<datafusion::arrow::datatypes::Int32Type>(args.rows, |row| {
        let Some(bound) = bound.get(row) else {
            return Ok(None);
        };
        match u64::try_from(bound) {
            Ok(limit) if limit > 0 && bound <= i64::from(i32::MAX) => Ok(i32::try_from(SystemRand.below(limit)).ok()),
            _ => Err(args.error(format!("bound {bound} is not between 1 and {}", i32::MAX))),
        }
    })
}

/// A random UUID (version 4).
fn uuid(args: &Arguments) -> Result<ArrayRef> {
    text_rows(args.rows, args.rows * 36, |_, out| {
        let high = (SystemRand.next_u64() & !0xf000) | 0x4000;
        let low = (SystemRand.next_u64() >> 2) | (1 << 63);
        out.append_value(format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        ));
        Ok(())
    })
}

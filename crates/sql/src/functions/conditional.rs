//! The largest and smallest of values, tests of texts, the name of a type.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::arrow::compute::{cast, kernels::zip::zip, nullif};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;

use super::arguments::{Arguments, boolean_rows, text_rows};
use super::definition::{Definition, Kind, Planned, Returns, define};
use super::sql_type::SqlType;

pub(super) fn definitions() -> Vec<Definition> {
    let boolean = || Returns::Sql(SqlType::Boolean);
    vec![
        define("greatest", &[Kind::Any], Returns::Computed(common_type), |args| extreme(args, true)).variadic(),
        define("least", &[Kind::Any], Returns::Computed(common_type), |args| extreme(args, false)).variadic(),
        define("is_alpha", &[Kind::Text], boolean(), |args| {
            test(args, |text| !text.is_empty() && text.chars().all(char::is_alphabetic))
        })
        .never_null(),
        define("is_digit", &[Kind::Text], boolean(), |args| {
            test(args, |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .never_null(),
        define("is_decimal", &[Kind::Text], boolean(), |args| test(args, is_decimal)).never_null(),
        define("typeof", &[Kind::Any], Returns::Sql(SqlType::Text), type_of).never_null(),
    ]
}

fn common_type(planned: &Planned) -> Result<SqlType> {
    let mut common = planned.data_type(0).clone();
    for (index, field) in planned.fields.iter().enumerate().skip(1) {
        common = comparison_coercion(&common, field.data_type()).ok_or_else(|| {
            planned.error(format!(
                "argument {} is {}, which cannot be compared with {}",
                index + 1,
                SqlType::of_field(field),
                SqlType::of_arrow(&common)
            ))
        })?;
    }
    Ok(SqlType::of_arrow(&common))
}

/// Null if any argument is, unlike DataFusion's.
fn extreme(args: &Arguments, largest: bool) -> Result<ArrayRef> {
    let data_type = args.return_field.data_type();
    let mut best = cast(&args.expanded(0)?, data_type)?;
    for index in 1..args.len() {
        let other = cast(&args.expanded(index)?, data_type)?;
        let better = datafusion::arrow::compute::kernels::cmp::gt(&other, &best)?;
        let better = if largest { better } else { datafusion::arrow::compute::kernels::cmp::lt(&other, &best)? };
        let chosen = zip(&better, &other, &best)?;
        let either_is_null = BooleanArray::from_iter((0..args.rows).map(|row| Some(other.is_null(row) || best.is_null(row))));
        best = nullif(&chosen, &either_is_null)?;
    }
    Ok(best)
}

/// A null text passes no test.
fn test(args: &Arguments, test: impl Fn(&str) -> bool) -> Result<ArrayRef> {
    let text = args.text(0)?;
    boolean_rows(args.rows, |row| Ok(Some(text.get(row).is_some_and(&test))))
}

/// An optional sign, digits, and a point with digits on a side of it.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    !(whole.is_empty() && fraction.is_empty()) && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
}

fn type_of(args: &Arguments) -> Result<ArrayRef> {
    let mut name = SqlType::of_field(&args.fields[0]).to_string();
    if !args.fields[0].is_nullable() && *args.fields[0].data_type() != DataType::Null {
        name.push_str(" NOT NULL");
    }
    text_rows(args.rows, args.rows * name.len(), |_, out| {
        out.append_value(&name);
        Ok(())
    })
}

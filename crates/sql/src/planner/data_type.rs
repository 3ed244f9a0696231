//! SQL types in a query (`CAST(x AS …)`, `TIMESTAMP '…'`) as Arrow types.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{self, ArrayElemTypeDef, ExactNumberInfo};
use thalweg_core::{Code, Diagnostic};

use super::error::refuse;
use super::span;

/// Flink's precision of DECIMAL without one.
const DECIMAL_DEFAULT: (u8, i8) = (10, 0);

/// Gives DataFusion's binder our types: times in microseconds, texts as Utf8.
#[derive(Debug)]
pub(crate) struct FlinkTypes;

impl TypePlanner for FlinkTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        arrow_type(sql_type).map(|data_type| Some(Arc::new(Field::new("", data_type, true)))).map_err(refuse)
    }
}

/// The Arrow type of a SQL type, as `thalweg_core::Column` lists them.
///
/// # Errors
/// `TW0108` for a type that is unknown or out of range.
pub(crate) fn arrow_type(sql_type: &ast::DataType) -> Result<DataType, Diagnostic> {
    use ast::DataType as Sql;
    Ok(match sql_type {
        Sql::Boolean | Sql::Bool => DataType::Boolean,
        Sql::TinyInt(_) => DataType::Int8,
        Sql::SmallInt(_) => DataType::Int16,
        Sql::Int(_) | Sql::Integer(_) => DataType::Int32,
        Sql::BigInt(_) => DataType::Int64,
        Sql::Float(_) | Sql::Real => DataType::Float32,
        Sql::Double(_) | Sql::DoublePrecision => DataType::Float64,
        Sql::Decimal(info) | Sql::Numeric(info) | Sql::Dec(info) => decimal(sql_type, info)?,
        Sql::Char(_) | Sql::Character(_) | Sql::Varchar(_) | Sql::CharacterVarying(_) | Sql::CharVarying(_) => DataType::Utf8,
        Sql::String(_) | Sql::Text => DataType::Utf8,
        Sql::Binary(_) | Sql::Varbinary(_) | Sql::Bytes(_) => DataType::Binary,
        Sql::Date => DataType::Date32,
        Sql::Time(..) => DataType::Time64(TimeUnit::Microsecond),
        Sql::Timestamp(precision, zone) => {
            let zoned = matches!(zone, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz);
            if zoned {
                return Err(bad_type(sql_type, "use TIMESTAMP_LTZ for instants, TIMESTAMP for local times"));
            }
            DataType::Timestamp(timestamp_unit(sql_type, *precision)?, None)
        }
        Sql::Custom(name, arguments) => match name.to_string().to_uppercase().as_str() {
            "TIMESTAMP_LTZ" => {
                let precision = match arguments.as_slice() {
                    [] => None,
                    [text] => Some(text.parse().map_err(|_| bad_type(sql_type, "the precision is a number from 0 to 9"))?),
                    _ => return Err(bad_type(sql_type, "TIMESTAMP_LTZ takes one precision")),
                };
                DataType::Timestamp(timestamp_unit(sql_type, precision)?, Some("UTC".into()))
            }
            _ => return Err(bad_type(sql_type, "")),
        },
        Sql::Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::Parenthesis(item)) => {
            DataType::List(Arc::new(Field::new("item", arrow_type(item)?, true)))
        }
        Sql::Map(key, value) => {
            let fields =
                Fields::from(vec![Field::new("key", arrow_type(key)?, false), Field::new("value", arrow_type(value)?, true)]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
        }
        Sql::Struct(fields, _) => {
            let fields: Vec<Field> = fields
                .iter()
                .enumerate()
                .map(|(index, field)| {
                    let name = field.field_name.as_ref().map_or_else(|| format!("EXPR${index}"), |name| name.value.clone());
                    Ok(Field::new(name, arrow_type(&field.field_type)?, true))
                })
                .collect::<Result<_, Diagnostic>>()?;
            DataType::Struct(Fields::from(fields))
        }
        _ => return Err(bad_type(sql_type, "")),
    })
}

fn decimal(sql_type: &ast::DataType, info: &ExactNumberInfo) -> Result<DataType, Diagnostic> {
    let (precision, scale) = match *info {
        ExactNumberInfo::None => return Ok(DataType::Decimal128(DECIMAL_DEFAULT.0, DECIMAL_DEFAULT.1)),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let wanted = "DECIMAL(p, s) has a p from 1 to 38 and an s from 0 to p";
    let precision = u8::try_from(precision).ok().filter(|p| (1..=38).contains(p)).ok_or_else(|| bad_type(sql_type, wanted))?;
    let scale = i8::try_from(scale)
        .ok()
        .filter(|s| *s >= 0 && *s <= precision.cast_signed())
        .ok_or_else(|| bad_type(sql_type, wanted))?;
    Ok(DataType::Decimal128(precision, scale))
}

fn timestamp_unit(sql_type: &ast::DataType, precision: Option<u64>) -> Result<TimeUnit, Diagnostic> {
    match precision {
        None | Some(0..=6) => Ok(TimeUnit::Microsecond),
        Some(7..=9) => Ok(TimeUnit::Nanosecond),
        Some(_) => Err(bad_type(sql_type, "the precision is a number from 0 to 9")),
    }
}

fn bad_type(sql_type: &ast::DataType, help: &str) -> Diagnostic {
    let place = match sql_type {
        ast::DataType::Custom(name, _) => span::of(name),
        _ => None,
    };
    let finding = Diagnostic::error(Code::BAD_TYPE, format!("{sql_type} is not a type")).label_opt(place, "this type");
    if help.is_empty() { finding } else { finding.help(help) }
}

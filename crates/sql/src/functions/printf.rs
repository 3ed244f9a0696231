//! PRINTF: Java's format strings.

use std::fmt::Write as _;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datafusion::common::Result;

use super::arguments::{Arguments, text_rows};
use super::cast::to_text;
use super::definition::{Definition, Kind, Returns, define};
use super::sql_type::SqlType;
use super::text::TEXT_BYTES_MAX;

pub(super) fn definitions() -> Vec<Definition> {
    vec![define("printf", &[Kind::Text, Kind::Any], Returns::Sql(SqlType::Text), printf).variadic().optional(1)]
}

/// `%[index$][flags][width][.precision]conversion`.
#[derive(Default)]
struct Spec {
    index: Option<usize>,
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    comma: bool,
    width: usize,
    precision: Option<usize>,
    conversion: char,
}

/// A value in the forms that conversions ask for.
enum Value {
    Null,
    Integer(i64),
    Double(f64),
    Text(String),
}

fn printf(args: &Arguments) -> Result<ArrayRef> {
    let format = args.text(0)?;
    let mut columns = Vec::with_capacity(args.len() - 1);
    for index in 1..args.len() {
        let array = args.expanded(index)?;
        let text = to_text::to_text(&array, &SqlType::of_field(&args.fields[index]), args.context.time_zone)?;
        columns.push((array, text));
    }
    let value = |column: usize, row: usize| -> Result<Value> {
        let Some((array, text)) = columns.get(column) else {
            return Err(args.error(format!("the format asks for argument {}, which is not given", column + 1)));
        };
        if array.is_null(row) {
            return Ok(Value::Null);
        }
        let one = array.slice(row, 1);
        Ok(match array.data_type() {
            integer if integer.is_integer() => {
                Value::Integer(datafusion::arrow::compute::cast(&one, &DataType::Int64)?.as_primitive::<Int64Type>().value(0))
            }
            DataType::Decimal128(_, scale) => {
                Value::Double(super::decimal::to_double(one.as_primitive::<Decimal128Type>().value(0), *scale))
            }
            DataType::Float32 | DataType::Float64 => {
                let wide = datafusion::arrow::compute::cast(&one, &DataType::Float64)?;
                Value::Double(wide.as_primitive::<Float64Type>().value(0))
            }
            _ => Value::Text(text.value(row).to_string()),
        })
    };
    let shown = |column: usize, row: usize| columns.get(column).map(|(_, text)| text.value(row).to_string()).unwrap_or_default();
    text_rows(args.rows, format.total_bytes() * 2, |row, out| {
        let Some(format) = format.get(row) else {
            out.append_null();
            return Ok(());
        };
        let mut result = String::with_capacity(format.len() * 2);
        let mut rest = format;
        let mut next = 0;
        while let Some(at) = rest.find('%') {
            result.push_str(&rest[..at]);
            let (spec, after) = parse(&rest[at + 1..]).ok_or_else(|| args.error(format!("cannot read the format '{format}'")))?;
            rest = after;
            match spec.conversion {
                'n' => result.push('\n'),
                '%' => result.push('%'),
                _ => {
                    let column = spec.index.unwrap_or_else(|| {
                        next += 1;
                        next - 1
                    });
                    let piece = convert(&spec, &value(column, row)?, || shown(column, row))
                        .ok_or_else(|| args.error(format!("%{} cannot show argument {}", spec.conversion, column + 1)))?;
                    pad(&spec, &piece, &mut result);
                }
            }
            if result.len() > TEXT_BYTES_MAX {
                return Err(args.error(format!("the result would be longer than {TEXT_BYTES_MAX} bytes")));
            }
        }
        result.push_str(rest);
        out.append_value(result);
        Ok(())
    })
}

fn parse(text: &str) -> Option<(Spec, &str)> {
    let mut spec = Spec::default();
    let mut rest = text;
    if let Some((index, after)) = number(rest)
        && let Some(after) = after.strip_prefix('$')
    {
        spec.index = Some(index.checked_sub(1)?);
        rest = after;
    }
    while let Some(flag) = rest.chars().next() {
        match flag {
            '-' => spec.left = true,
            '0' => spec.zero = true,
            '+' => spec.plus = true,
            ' ' => spec.space = true,
            ',' => spec.comma = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    if let Some((width, after)) = number(rest) {
        spec.width = width;
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = number(after)?;
        spec.precision = Some(precision);
        rest = after;
    }
    spec.conversion = rest.chars().next()?;
    let known = "sSdfxXocbBeE%n".contains(spec.conversion);
    let small = spec.width <= 10_000 && spec.precision.is_none_or(|precision| precision <= 1_000);
    (known && small).then(|| (spec, &rest[1..]))
}

fn number(text: &str) -> Option<(usize, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// `None` when the conversion does not fit the value, where Java throws.
fn convert(spec: &Spec, value: &Value, shown: impl Fn() -> String) -> Option<String> {
    let sign = |negative: bool| {
        if negative {
            "-"
        } else if spec.plus {
            "+"
        } else if spec.space {
            " "
        } else {
            ""
        }
    };
    let precision = spec.precision.unwrap_or(6);
    Some(match (spec.conversion, value) {
        ('b' | 'B', Value::Null) => "false".to_string(),
        (_, Value::Null) => "null".to_string(),
        ('s', _) => cut(spec, shown()),
        ('S', _) => cut(spec, shown()).to_uppercase(),
        ('b' | 'B', Value::Text(text)) => if text == "FALSE" { "false" } else { "true" }.to_string(),
        ('b' | 'B', _) => "true".to_string(),
        ('d', Value::Integer(value)) => {
            let digits = value.unsigned_abs().to_string();
            let digits = if spec.comma { grouped(&digits) } else { digits };
            format!("{}{digits}", sign(*value < 0))
        }
        ('x', Value::Integer(value)) => format!("{value:x}"),
        ('X', Value::Integer(value)) => format!("{value:X}"),
        ('o', Value::Integer(value)) => format!("{value:o}"),
        ('c', Value::Integer(value)) => char::from_u32(u32::try_from(*value).ok()?)?.to_string(),
        ('c', Value::Text(text)) if text.chars().count() == 1 => text.clone(),
        ('f', Value::Double(value)) => {
            let mut digits = format!("{:.precision$}", value.abs());
            if spec.comma {
                let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
                let dot = if fraction.is_empty() { "" } else { "." };
                digits = format!("{}{dot}{fraction}", grouped(whole));
            }
            format!("{}{digits}", sign(value.is_sign_negative()))
        }
        ('e' | 'E', Value::Double(value)) => {
            let text = format!("{:.precision$e}", value.abs());
            let (mantissa, exponent) = text.split_once('e')?;
            let exponent: i32 = exponent.parse().ok()?;
            let mut out = format!("{}{mantissa}e", sign(value.is_sign_negative()));
            let _ = write!(out, "{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
            if spec.conversion == 'E' { out.to_uppercase() } else { out }
        }
        _ => return None,
    })
}

fn cut(spec: &Spec, text: String) -> String {
    match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text,
    }
}

fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn pad(spec: &Spec, piece: &str, out: &mut String) {
    let missing = spec.width.saturating_sub(piece.chars().count());
    if spec.left {
        out.push_str(piece);
        out.push_str(&" ".repeat(missing));
    } else if spec.zero && "dfxXoeE".contains(spec.conversion) {
        let signed = usize::from(piece.starts_with(['-', '+', ' ']));
        out.push_str(&piece[..signed]);
        out.push_str(&"0".repeat(missing));
        out.push_str(&piece[signed..]);
    } else {
        out.push_str(&" ".repeat(missing));
        out.push_str(piece);
    }
}

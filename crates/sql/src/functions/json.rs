//! JSON functions: values out of texts by path, and texts out of values.

use std::fmt::Write as _;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;

use super::arguments::{Arguments, Text, boolean_rows, text_rows};
use super::cast::to_text::to_text;
use super::definition::{Definition, Kind, Returns, define};
use super::encoding::shorten;
use super::json_path::{JsonPath, is_json, unescape};
use super::sql_type::SqlType;

pub(super) fn definitions() -> Vec<Definition> {
    let text = || Returns::Sql(SqlType::Text);
    let boolean = || Returns::Sql(SqlType::Boolean);
    vec![
        define("json_value", &[Kind::Text, Kind::Text], text(), json_value).maybe_null(),
        define("json_query", &[Kind::Text, Kind::Text], text(), json_query).maybe_null(),
        define("json_exists", &[Kind::Text, Kind::Text], boolean(), json_exists),
        define("is_json", &[Kind::Text], boolean(), |args| is_json_rows(args, |_| true)).never_null(),
        define("is_json_object", &[Kind::Text], boolean(), |args| is_json_rows(args, |first| first == '{')).never_null(),
        define("is_json_array", &[Kind::Text], boolean(), |args| is_json_rows(args, |first| first == '[')).never_null(),
        define("is_json_scalar", &[Kind::Text], boolean(), |args| is_json_rows(args, |first| first != '{' && first != '['))
            .never_null(),
        define("json_string", &[Kind::Any], text(), json_string),
        define("json_object_of", &[Kind::Text, Kind::Any], text(), json_object).variadic().optional(1).never_null(),
        define("json_array_of", &[Kind::Text, Kind::Any], text(), json_array).variadic().optional(1).never_null(),
    ]
}

/// The path of each row, parsed anew only when it changes.
struct Paths<'a> {
    args: &'a Arguments<'a>,
    text: Text<'a>,
    last: Option<(&'a str, JsonPath)>,
}

impl<'a> Paths<'a> {
    fn new(args: &'a Arguments<'a>) -> Result<Self> {
        Ok(Paths { args, text: args.text(1)?, last: None })
    }

    fn get(&mut self, row: usize) -> Result<Option<&JsonPath>> {
        let Some(text) = self.text.get(row) else {
            return Ok(None);
        };
        if self.last.as_ref().is_none_or(|(last, _)| *last != text) {
            let path = JsonPath::parse(text).ok_or_else(|| {
                self.args.error(format!("cannot read the path '{}'; members and items can be named: $.a['b'][0]", shorten(text)))
            })?;
            self.last = Some((text, path));
        }
        Ok(self.last.as_ref().map(|(_, path)| path))
    }
}

/// A text, number or boolean as text; null for everything else and for bad JSON.
fn json_value(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut paths = Paths::new(args)?;
    text_rows(args.rows, text.total_bytes() / 4, |row, out| {
        let path = paths.get(row)?;
        let found = text.get(row).filter(|json| is_json(json)).zip(path).and_then(|(json, path)| path.find(json));
        out.append_option(found.and_then(scalar_text));
        Ok(())
    })
}

fn scalar_text(value: &str) -> Option<String> {
    match value.as_bytes().first()? {
        b'"' => unescape(value),
        b'{' | b'[' | b'n' => None,
        b't' | b'f' => Some(value.to_string()),
        _ => Some(number_text(value)),
    }
}

/// A number as Java's BigDecimal prints it: its digits are kept, exponents are written `E+3`.
fn number_text(value: &str) -> String {
    let (mantissa, exponent) = value.split_once(['e', 'E']).unwrap_or((value, "0"));
    let (sign, unsigned) = mantissa.strip_prefix('-').map_or(("", mantissa), |unsigned| ("-", unsigned));
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let Ok(exponent) = exponent.parse::<i64>() else {
        return value.to_string();
    };
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let scale = i64::try_from(fraction.len()).unwrap_or(i64::MAX).saturating_sub(exponent);
    let adjusted = (count - 1).saturating_sub(scale);
    if scale >= 0 && adjusted >= -6 {
        let mut out = String::from(sign);
        let scale = usize::try_from(scale).unwrap_or(0);
        if scale == 0 {
            out.push_str(digits);
        } else if digits.len() > scale {
            out.push_str(&digits[..digits.len() - scale]);
            out.push('.');
            out.push_str(&digits[digits.len() - scale..]);
        } else {
            out.push_str("0.");
            out.push_str(&"0".repeat(scale - digits.len()));
            out.push_str(digits);
        }
        return out;
    }
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{dot}{rest}E{adjusted:+}")
}

/// An object or array as JSON text; null for everything else and for bad JSON.
fn json_query(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut paths = Paths::new(args)?;
    text_rows(args.rows, text.total_bytes() / 2, |row, out| {
        let path = paths.get(row)?;
        let found = text.get(row).filter(|json| is_json(json)).zip(path).and_then(|(json, path)| path.find(json));
        let found = found.filter(|value| value.starts_with(['{', '[']));
        out.append_option(found.map(without_blanks));
        Ok(())
    })
}

/// The JSON text without blanks between its parts.
fn without_blanks(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut in_text = false;
    let mut escaped = false;
    for c in json.chars() {
        if in_text {
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c == '"' {
            in_text = true;
        } else if matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        out.push(c);
    }
    out
}

fn json_exists(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut paths = Paths::new(args)?;
    boolean_rows(args.rows, |row| {
        let path = paths.get(row)?;
        Ok(text.get(row).zip(path).map(|(json, path)| is_json(json) && path.find(json).is_some()))
    })
}

/// A null is not JSON.
fn is_json_rows(args: &Arguments, kind: fn(char) -> bool) -> Result<ArrayRef> {
    let text = args.text(0)?;
    boolean_rows(args.rows, |row| {
        Ok(Some(text.get(row).is_some_and(|text| is_json(text) && text.trim_start().starts_with(kind))))
    })
}

/// Any value as JSON; null stays null.
fn json_string(args: &Arguments) -> Result<ArrayRef> {
    let array = args.expanded(0)?;
    let mut json = String::new();
    text_rows(args.rows, args.rows * 16, |row, out| {
        if array.is_null(row) {
            out.append_null();
            return Ok(());
        }
        json.clear();
        push_json(args, &array, row, &mut json)?;
        out.append_value(&json);
        Ok(())
    })
}

fn push_json(args: &Arguments, array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
    if array.is_null(row) || *array.data_type() == DataType::Null {
        out.push_str("null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            for index in 0..items.len() {
                if index > 0 {
                    out.push(',');
                }
                push_json(args, &items, index, out)?;
            }
            out.push(']');
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let keys = to_text(entries.column(0), &SqlType::of_arrow(entries.column(0).data_type()), args.context.time_zone)?;
            out.push('{');
            for index in 0..entries.len() {
                if index > 0 {
                    out.push(',');
                }
                push_quoted(keys.value(index), out);
                out.push(':');
                push_json(args, entries.column(1), index, out)?;
            }
            out.push('}');
        }
        DataType::Struct(fields) => {
            let record = array.as_struct();
            out.push('{');
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_quoted(field.name(), out);
                out.push(':');
                push_json(args, record.column(index), row, out)?;
            }
            out.push('}');
        }
        DataType::Utf8 => push_quoted(array.as_string::<i32>().value(row), out),
        other => {
            let one = array.slice(row, 1);
            let shown = to_text(&one, &SqlType::of_arrow(other), args.context.time_zone)?;
            if other.is_numeric() { out.push_str(shown.value(0)) } else { push_quoted(shown.value(0), out) }
        }
    }
    Ok(())
}

fn push_quoted(text: &str, out: &mut String) {
    let _ = write!(out, "{}", serde_json::Value::from(text));
}

/// Argument 0 says what to do with nulls (`N` keeps them, `A` leaves them out) and which values are JSON already (`j`).
struct Flags {
    keeps_nulls: bool,
    is_json: Vec<bool>,
}

impl Flags {
    fn of(args: &Arguments) -> Result<Flags> {
        let text = args.text(0)?.get(0).unwrap_or("N");
        let is_json = text.chars().skip(1).map(|flag| flag == 'j').collect();
        Ok(Flags { keeps_nulls: text.starts_with('N'), is_json })
    }

    /// Appends value number `index`; false if it is null and left out.
    fn push(&self, args: &Arguments, index: usize, array: &ArrayRef, row: usize, out: &mut String) -> Result<bool> {
        if array.is_null(row) || *array.data_type() == DataType::Null {
            if self.keeps_nulls {
                out.push_str("null");
            }
            return Ok(self.keeps_nulls);
        }
        if self.is_json.get(index) == Some(&true)
            && let Some(text) = array.as_string_opt::<i32>()
        {
            out.push_str(text.value(row));
        } else {
            push_json(args, array, row, out)?;
        }
        Ok(true)
    }
}

fn json_object(args: &Arguments) -> Result<ArrayRef> {
    let flags = Flags::of(args)?;
    if args.len().is_multiple_of(2) {
        return Err(args.error("takes a value for each key"));
    }
    let pairs = (1..args.len()).map(|index| args.expanded(index)).collect::<Result<Vec<_>>>()?;
    let mut json = String::new();
    text_rows(args.rows, args.rows * 32, |row, out| {
        json.clear();
        json.push('{');
        for (index, pair) in pairs.chunks_exact(2).enumerate() {
            let Some(keys) = pair[0].as_string_opt::<i32>().filter(|keys| !keys.is_null(row)) else {
                return Err(args.error("a key is not a text"));
            };
            let before = json.len();
            if before > 1 {
                json.push(',');
            }
            push_quoted(keys.value(row), &mut json);
            json.push(':');
            if !flags.push(args, index, &pair[1], row, &mut json)? {
                json.truncate(before);
            }
        }
        json.push('}');
        out.append_value(&json);
        Ok(())
    })
}

fn json_array(args: &Arguments) -> Result<ArrayRef> {
    let flags = Flags::of(args)?;
    let values = (1..args.len()).map(|index| args.expanded(index)).collect::<Result<Vec<_>>>()?;
    let mut json = String::new();
    text_rows(args.rows, args.rows * 32, |row, out| {
        json.clear();
        json.push('[');
        for (index, value) in values.iter().enumerate() {
            let before = json.len();
            if before > 1 {
                json.push(',');
            }
            if !flags.push(args, index, value, row, &mut json)? {
                json.truncate(before);
            }
        }
        json.push(']');
        out.append_value(&json);
        Ok(())
    })
}

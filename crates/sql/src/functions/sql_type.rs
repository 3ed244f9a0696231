//! Flink's types: from their text, to Arrow, and back.
//!
//! Arrow keeps no precision of a TIMESTAMP and no length of a CHAR. Where a field is known to have one, its metadata says so
//! under [`SQL_TYPE`]; a CAST to STRING prints as many digits as declared.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use datafusion::sql::sqlparser::ast;

/// The key of a field's metadata under which its type stands as Flink prints it, such as `TIMESTAMP(3)`.
pub const SQL_TYPE: &str = "sql_type";

/// The longest CHAR, and the length of STRING.
const LENGTH_MAX: u32 = i32::MAX as u32;

/// A type of the dialect, without NOT NULL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SqlType {
    Null,
    Boolean,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    /// Precision and scale.
    Decimal(u8, i8),
    Char(u32),
    Varchar(u32),
    Text,
    Bytes,
    Date,
    Time(u8),
    Timestamp(u8),
    TimestampLtz(u8),
    Interval,
    Array(Box<SqlType>),
    Map(Box<SqlType>, Box<SqlType>),
    Row(Vec<(String, SqlType)>),
    /// A type of Arrow that Flink does not have.
    Other(DataType),
}

impl SqlType {
    /// How values of the type are held.
    pub fn to_arrow(&self) -> DataType {
        let unit = |precision: u8| if precision > 6 { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
        match self {
            SqlType::Null => DataType::Null,
            SqlType::Boolean => DataType::Boolean,
            SqlType::TinyInt => DataType::Int8,
            SqlType::SmallInt => DataType::Int16,
            SqlType::Int => DataType::Int32,
            SqlType::BigInt => DataType::Int64,
            SqlType::Float => DataType::Float32,
            SqlType::Double => DataType::Float64,
            SqlType::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
            SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text => DataType::Utf8,
            SqlType::Bytes => DataType::Binary,
            SqlType::Date => DataType::Date32,
            SqlType::Time(_) => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp(precision) => DataType::Timestamp(unit(*precision), None),
            SqlType::TimestampLtz(precision) => DataType::Timestamp(unit(*precision), Some("UTC".into())),
            SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            SqlType::Array(item) => DataType::List(Arc::new(Field::new_list_field(item.to_arrow(), true))),
            SqlType::Map(key, value) => {
                let fields =
                    Fields::from(vec![Field::new("key", key.to_arrow(), false), Field::new("value", value.to_arrow(), true)]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
            }
            SqlType::Row(fields) => {
                DataType::Struct(fields.iter().map(|(name, field)| Field::new(name, field.to_arrow(), true)).collect())
            }
            SqlType::Other(data_type) => data_type.clone(),
        }
    }

    /// A field of the type; what Arrow would forget goes into its metadata.
    pub fn to_field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.to_arrow(), nullable);
        match self {
            SqlType::Timestamp(_) | SqlType::TimestampLtz(_) | SqlType::Char(_) | SqlType::Varchar(_) => {
                field.with_metadata(HashMap::from([(SQL_TYPE.to_string(), self.to_string())]))
            }
            _ => field,
        }
    }

    /// The type that a field's metadata says, if it does and fits.
    pub fn declared(field: &Field) -> Option<SqlType> {
        let declared = SqlType::parse(field.metadata().get(SQL_TYPE)?)?;
        (declared.to_arrow() == *field.data_type()).then_some(declared)
    }

    /// The type of a field: what its metadata says, else what Arrow knows.
    pub fn of_field(field: &Field) -> SqlType {
        SqlType::declared(field).unwrap_or_else(|| SqlType::of_arrow(field.data_type()))
    }

    pub fn of_arrow(data_type: &DataType) -> SqlType {
        let precision = |unit: &TimeUnit| match unit {
            TimeUnit::Second => 0,
            TimeUnit::Millisecond => 3,
            TimeUnit::Microsecond => 6,
            TimeUnit::Nanosecond => 9,
        };
        match data_type {
            DataType::Null => SqlType::Null,
            DataType::Boolean => SqlType::Boolean,
            DataType::Int8 => SqlType::TinyInt,
            DataType::Int16 => SqlType::SmallInt,
            DataType::Int32 => SqlType::Int,
            DataType::Int64 => SqlType::BigInt,
            DataType::Float32 => SqlType::Float,
            DataType::Float64 => SqlType::Double,
            DataType::Decimal128(precision, scale) => SqlType::Decimal(*precision, *scale),
            DataType::Utf8 => SqlType::Text,
            DataType::Binary => SqlType::Bytes,
            DataType::Date32 => SqlType::Date,
            DataType::Time64(_) | DataType::Time32(_) => SqlType::Time(0),
            DataType::Timestamp(unit, None) => SqlType::Timestamp(precision(unit)),
            DataType::Timestamp(unit, Some(_)) => SqlType::TimestampLtz(precision(unit)),
            DataType::Interval(_) => SqlType::Interval,
            DataType::List(item) => SqlType::Array(Box::new(SqlType::of_arrow(item.data_type()))),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => SqlType::Map(
                    Box::new(SqlType::of_arrow(fields[0].data_type())),
                    Box::new(SqlType::of_arrow(fields[1].data_type())),
                ),
                _ => SqlType::Other(data_type.clone()),
            },
            DataType::Struct(fields) => {
                SqlType::Row(fields.iter().map(|field| (field.name().clone(), SqlType::of_arrow(field.data_type()))).collect())
            }
            other => SqlType::Other(other.clone()),
        }
    }

    /// Reads a type as Flink writes it; `None` if it is not one.
    pub fn parse(text: &str) -> Option<SqlType> {
        let mut reader = Reader { rest: text };
        let parsed = reader.sql_type(0)?;
        reader.rest.trim().is_empty().then_some(parsed)
    }

    /// The type that a parsed one means; `None` if the dialect does not have it.
    pub fn from_ast(data_type: &ast::DataType) -> Option<SqlType> {
        match data_type {
            ast::DataType::Array(
                ast::ArrayElemTypeDef::AngleBracket(item)
                | ast::ArrayElemTypeDef::SquareBracket(item, _)
                | ast::ArrayElemTypeDef::Parenthesis(item),
            ) => Some(SqlType::Array(Box::new(SqlType::from_ast(item)?))),
            ast::DataType::Map(key, value) => {
                Some(SqlType::Map(Box::new(SqlType::from_ast(key)?), Box::new(SqlType::from_ast(value)?)))
            }
            ast::DataType::Struct(fields, _) => {
                let fields = fields.iter().enumerate().map(|(index, field)| {
                    let name = field.field_name.as_ref().map_or_else(|| format!("f{index}"), |name| name.value.clone());
                    Some((name, SqlType::from_ast(&field.field_type)?))
                });
                Some(SqlType::Row(fields.collect::<Option<_>>()?))
            }
            plain => SqlType::parse(&plain.to_string()),
        }
    }

    pub fn is_text(&self) -> bool {
        matches!(self, SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text)
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlType::Null => f.write_str("NULL"),
            SqlType::Boolean => f.write_str("BOOLEAN"),
            SqlType::TinyInt => f.write_str("TINYINT"),
            SqlType::SmallInt => f.write_str("SMALLINT"),
            SqlType::Int => f.write_str("INT"),
            SqlType::BigInt => f.write_str("BIGINT"),
            SqlType::Float => f.write_str("FLOAT"),
            SqlType::Double => f.write_str("DOUBLE"),
            SqlType::Decimal(precision, scale) => write!(f, "DECIMAL({precision}, {scale})"),
            SqlType::Char(length) => write!(f, "CHAR({length})"),
            SqlType::Varchar(length) => write!(f, "VARCHAR({length})"),
            SqlType::Text => f.write_str("STRING"),
            SqlType::Bytes => f.write_str("BYTES"),
            SqlType::Date => f.write_str("DATE"),
            SqlType::Time(precision) => write!(f, "TIME({precision})"),
            SqlType::Timestamp(precision) => write!(f, "TIMESTAMP({precision})"),
            SqlType::TimestampLtz(precision) => write!(f, "TIMESTAMP_LTZ({precision})"),
            SqlType::Interval => f.write_str("INTERVAL"),
            SqlType::Array(item) => write!(f, "ARRAY<{item}>"),
            SqlType::Map(key, value) => write!(f, "MAP<{key}, {value}>"),
            SqlType::Row(fields) => {
                f.write_str("ROW<")?;
                for (index, (name, field)) in fields.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}`{}` {field}", name.replace('`', "``"))?;
                }
                f.write_str(">")
            }
            SqlType::Other(data_type) => write!(f, "{data_type}"),
        }
    }
}

/// How deep types may nest: a type is read by recursion.
const DEPTH_MAX: usize = 50;

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn sql_type(&mut self, depth: usize) -> Option<SqlType> {
        if depth > DEPTH_MAX {
            return None;
        }
        let word = self.word()?.to_ascii_uppercase();
        let plain = match word.as_str() {
            "NULL" => SqlType::Null,
            "BOOLEAN" | "BOOL" => SqlType::Boolean,
            "TINYINT" => SqlType::TinyInt,
            "SMALLINT" => SqlType::SmallInt,
            "INT" | "INTEGER" => SqlType::Int,
            "BIGINT" => SqlType::BigInt,
            "FLOAT" | "REAL" => SqlType::Float,
            "DOUBLE" => {
                self.keyword("PRECISION");
                SqlType::Double
            }
            "DECIMAL" | "DEC" | "NUMERIC" => {
                let numbers = self.numbers()?;
                let precision = u8::try_from(numbers.first().copied().unwrap_or(10)).ok()?;
                let scale = i8::try_from(numbers.get(1).copied().unwrap_or(0)).ok()?;
                if !(1..=38).contains(&precision) || i16::from(scale) > i16::from(precision) {
                    return None;
                }
                SqlType::Decimal(precision, scale)
            }
            "CHAR" | "CHARACTER" => {
                let varying = self.keyword("VARYING");
                let length = self.length(1)?;
                if varying { SqlType::Varchar(length) } else { SqlType::Char(length) }
            }
            "VARCHAR" => match self.length(1)? {
                LENGTH_MAX => SqlType::Text,
                length => SqlType::Varchar(length),
            },
            "STRING" | "TEXT" => SqlType::Text,
            "BYTES" | "BYTEA" | "BINARY" | "VARBINARY" => {
                self.length(1)?;
                SqlType::Bytes
            }
            "DATE" => SqlType::Date,
            "TIME" => {
                let precision = self.precision(0)?;
                self.zone_words();
                SqlType::Time(precision)
            }
            "TIMESTAMP" | "DATETIME" => {
                let precision = self.precision(6)?;
                if self.zone_words() { SqlType::TimestampLtz(precision) } else { SqlType::Timestamp(precision) }
            }
            "TIMESTAMP_LTZ" => SqlType::TimestampLtz(self.precision(6)?),
            "INTERVAL" => SqlType::Interval,
            "ARRAY" => {
                self.symbol('<').then_some(())?;
                let item = self.sql_type(depth + 1)?;
                self.symbol('>').then_some(())?;
                SqlType::Array(Box::new(item))
            }
            "MAP" => {
                self.symbol('<').then_some(())?;
                let key = self.sql_type(depth + 1)?;
                self.symbol(',').then_some(())?;
                let value = self.sql_type(depth + 1)?;
                self.symbol('>').then_some(())?;
                SqlType::Map(Box::new(key), Box::new(value))
            }
            "ROW" | "STRUCT" => self.row(depth)?,
            _ => return None,
        };
        if self.keyword("NOT") {
            self.keyword("NULL").then_some(())?;
        } else {
            self.keyword("NULL");
        }
        Some(plain)
    }

    /// `<a INT, b STRING>` or `(a INT, b STRING)`.
    fn row(&mut self, depth: usize) -> Option<SqlType> {
        let close = if self.symbol('<') {
            '>'
        } else {
            self.symbol('(').then_some(())?;
            ')'
        };
        let mut fields = vec![];
        while !self.symbol(close) {
            if !fields.is_empty() {
                self.symbol(',').then_some(())?;
            }
            let name = self.name()?;
            fields.push((name, self.sql_type(depth + 1)?));
        }
        Some(SqlType::Row(fields))
    }

    fn word(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        if end == 0 {
            return None;
        }
        self.rest = &text[end..];
        Some(&text[..end])
    }

    fn name(&mut self) -> Option<String> {
        let text = self.rest.trim_start();
        let Some(quoted) = text.strip_prefix('`') else {
            return self.word().map(str::to_string);
        };
        let mut name = String::new();
        let mut chars = quoted.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c != '`' {
                name.push(c);
            } else if chars.next_if(|(_, next)| *next == '`').is_some() {
                name.push('`');
            } else {
                self.rest = &quoted[at + 1..];
                return Some(name);
            }
        }
        None
    }

    fn symbol(&mut self, symbol: char) -> bool {
        match self.rest.trim_start().strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let before = self.rest;
        if self.word().is_some_and(|word| word.eq_ignore_ascii_case(keyword)) {
            return true;
        }
        self.rest = before;
        false
    }

    /// `WITH LOCAL TIME ZONE`: true. `WITHOUT TIME ZONE`: false.
    fn zone_words(&mut self) -> bool {
        let with = self.keyword("WITH");
        if with || self.keyword("WITHOUT") {
            self.keyword("LOCAL");
            self.keyword("TIME");
            self.keyword("ZONE");
        }
        with
    }

    /// `(a, b)`; nothing is an empty list.
    fn numbers(&mut self) -> Option<Vec<u32>> {
        let mut numbers = vec![];
        if self.symbol('(') {
            loop {
                numbers.push(self.word()?.parse().ok()?);
                if self.symbol(')') {
                    break;
                }
                self.symbol(',').then_some(())?;
            }
        }
        Some(numbers)
    }

    fn length(&mut self, default: u32) -> Option<u32> {
        let length = self.numbers()?.first().copied().unwrap_or(default);
        (1..=LENGTH_MAX).contains(&length).then_some(length)
    }

    fn precision(&mut self, default: u8) -> Option<u8> {
        let precision = u8::try_from(self.numbers()?.first().copied().unwrap_or(u32::from(default))).ok()?;
        (precision <= 9).then_some(precision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(SqlType::parse(text).map(|parsed| parsed.to_string()).as_deref(), Some(expected), "{text}");
    }

    #[test]
    fn reads_what_flink_writes() {
        check("int", "INT");
        check("VARCHAR(2147483647)", "STRING");
        check("DECIMAL(10,2)", "DECIMAL(10, 2)");
        check("timestamp", "TIMESTAMP(6)");
        check("TIMESTAMP(3) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(3)");
        check("TIMESTAMP(3) NOT NULL", "TIMESTAMP(3)");
        check(
            "ROW<`a b` INT, c ARRAY<MAP<STRING, DECIMAL(5, 1) NOT NULL>>>",
            "ROW<`a b` INT, `c` ARRAY<MAP<STRING, DECIMAL(5, 1)>>>",
        );
        for wrong in ["", "TEA", "DECIMAL(39,0)", "DECIMAL(2,3)", "INT)", "ARRAY<INT", "TIMESTAMP(10)", "CHAR(0)"] {
            assert_eq!(SqlType::parse(wrong), None, "{wrong}");
        }
        assert_eq!(SqlType::parse(&"ARRAY<".repeat(100_000)), None);
    }

    #[test]
    fn a_field_keeps_what_arrow_forgets() {
        let field = SqlType::Timestamp(3).to_field("at", true);
        assert_eq!(SqlType::of_field(&field), SqlType::Timestamp(3));
        assert_eq!(SqlType::of_field(&Field::new("at", field.data_type().clone(), true)), SqlType::Timestamp(6));
        assert!(SqlType::Int.to_field("n", true).metadata().is_empty());
    }
}

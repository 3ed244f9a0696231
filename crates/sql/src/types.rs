//! Flink's data types: text to Arrow and back.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_core::{Code, Diagnostic, Span};

use crate::parser::cursor::Cursor;
use crate::parser::lexer::{self, Lexeme};

/// A type as declared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SqlType {
    pub data_type: DataType,
    /// As Flink prints it, without `NOT NULL` of its own: `TIMESTAMP(3)`, ``ROW<`a` INT NOT NULL>``.
    pub text: String,
    pub nullable: bool,
}

/// `VARCHAR` and `VARBINARY` of this length are `STRING` and `BYTES`.
const LENGTH_MAX: u64 = 2_147_483_647;
/// Types within types.
const NESTING_MAX: usize = 50;
/// What a precision may be for timestamps and times.
const TIME_PRECISION_MAX: u64 = 9;

/// The type that a cast or typed literal names in a query: what [`crate::dialect::FlinkDialect`] made of it, or sqlparser's own
/// node (`DATE '…'`, `TIMESTAMP '…'`).
///
/// # Errors
/// `BAD_TYPE` without a place for a type that is unknown or out of range.
pub fn from_ast(data_type: &ast::DataType) -> Result<SqlType, Diagnostic> {
    let text = match data_type {
        // Display would quote a name with spaces in it.
        ast::DataType::Custom(name, modifiers) => {
            let name =
                name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".");
            if modifiers.is_empty() { name } else { format!("{name}({})", modifiers.join(", ")) }
        }
        other => other.to_string(),
    };
    from_text(&text)
}

/// The type that `text` names, `NOT NULL` included.
///
/// # Errors
/// `BAD_TYPE`, `SYNTAX`, `NOT_YET`, without a place.
pub fn from_text(text: &str) -> Result<SqlType, Diagnostic> {
    let without_place = |finding: Diagnostic| Diagnostic { labels: vec![], ..finding };
    let lexed = lexer::lex(text);
    match lexed.error {
        Some(error) => Err(without_place(error)),
        None => parse_lexemes(&lexed.lexemes).map_err(without_place),
    }
}

/// The type that is the whole of `lexemes`.
pub(crate) fn parse_lexemes(lexemes: &[Lexeme]) -> Result<SqlType, Diagnostic> {
    let mut cursor = Cursor::new(lexemes, "");
    let sql_type = parse_type(&mut cursor)?;
    match cursor.is_end() {
        true => Ok(sql_type),
        false => Err(cursor.expected("the end of the data type")),
    }
}

/// Reads a type, with `NOT NULL` or `NULL` behind it.
pub(crate) fn parse_type(cursor: &mut Cursor) -> Result<SqlType, Diagnostic> {
    let mut parser = TypeParser { cursor, closed_early: 0, depth: 0 };
    let sql_type = parser.parse()?;
    match parser.closed_early {
        0 => Ok(sql_type),
        _ => Err(cursor.expected("a data type with as many \"<\" as \">\"")),
    }
}

struct TypeParser<'c, 'a> {
    cursor: &'c mut Cursor<'a>,
    /// `>>` closes two levels: how many levels it closed before they asked.
    closed_early: usize,
    depth: usize,
}

impl TypeParser<'_, '_> {
    fn parse(&mut self) -> Result<SqlType, Diagnostic> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(Diagnostic::error(
                Code::TOO_COMPLEX,
                format!("the data type is nested more than {NESTING_MAX} levels deep"),
            )
            .label(self.cursor.span(), "the limit is passed here"));
        }
        let (data_type, text) = self.parse_base()?;
        let mut sql_type = self.parse_null(data_type, text);
        // `INT ARRAY` is `ARRAY<INT>`.
        while self.closed_early == 0 {
            if self.cursor.accept_word("ARRAY") {
                sql_type = self.parse_null_of(array_of(sql_type));
            } else if self.cursor.accept_word("MULTISET") {
                sql_type = self.parse_null_of(multiset_of(sql_type));
            } else {
                break;
            }
        }
        self.depth -= 1;
        Ok(sql_type)
    }

    fn parse_null_of(&mut self, (data_type, text): (DataType, String)) -> SqlType {
        self.parse_null(data_type, text)
    }

    fn parse_null(&mut self, data_type: DataType, text: String) -> SqlType {
        // After `>>` the words belong to an outer type, which has not asked yet.
        let nullable = if self.closed_early > 0 {
            true
        } else if self.cursor.accept_words(&["NOT", "NULL"]) {
            false
        } else {
            self.cursor.accept_word("NULL");
            true
        };
        SqlType { data_type, text, nullable }
    }

    fn parse_base(&mut self) -> Result<(DataType, String), Diagnostic> {
        let Some(Lexeme { token: Token::Word(word), span, .. }) = self.cursor.peek() else {
            return Err(self.cursor.expected("a data type"));
        };
        let (name, span) = (word.value.to_uppercase(), *span);
        if word.quote_style.is_some() {
            return Err(unknown_type(&word.value, span));
        }
        self.cursor.next();
        let plain = |data_type: DataType, text: &str| Ok((data_type, text.to_string()));
        match name.as_str() {
            "BOOLEAN" => plain(DataType::Boolean, "BOOLEAN"),
            "TINYINT" => plain(DataType::Int8, "TINYINT"),
            "SMALLINT" => plain(DataType::Int16, "SMALLINT"),
            "INT" | "INTEGER" => plain(DataType::Int32, "INT"),
            "BIGINT" => plain(DataType::Int64, "BIGINT"),
            "FLOAT" => plain(DataType::Float32, "FLOAT"),
            "DOUBLE" => {
                self.cursor.accept_word("PRECISION");
                plain(DataType::Float64, "DOUBLE")
            }
            "DECIMAL" | "DEC" | "NUMERIC" => self.parse_decimal(),
            "CHAR" | "CHARACTER" | "VARCHAR" => {
                let varying = name == "VARCHAR" || self.cursor.accept_word("VARYING");
                Ok((DataType::Utf8, self.parse_length(if varying { "VARCHAR" } else { "CHAR" }, "STRING")?))
            }
            "STRING" => plain(DataType::Utf8, "STRING"),
            "BINARY" | "VARBINARY" => {
                let varying = name == "VARBINARY" || self.cursor.accept_word("VARYING");
                Ok((DataType::Binary, self.parse_length(if varying { "VARBINARY" } else { "BINARY" }, "BYTES")?))
            }
            "BYTES" => plain(DataType::Binary, "BYTES"),
            "DATE" => plain(DataType::Date32, "DATE"),
            "TIME" => {
                let precision = self.parse_precision("TIME", 0)?;
                self.cursor.accept_words(&["WITHOUT", "TIME", "ZONE"]);
                Ok((DataType::Time64(TimeUnit::Microsecond), format!("TIME({precision})")))
            }
            "TIMESTAMP" => self.parse_timestamp(span),
            "TIMESTAMP_LTZ" => Ok(timestamp(self.parse_precision("TIMESTAMP_LTZ", 6)?, true)),
            "ARRAY" => {
                self.open("ARRAY")?;
                let item = self.parse()?;
                self.close()?;
                Ok(array_of(item))
            }
            "MULTISET" => {
                self.open("MULTISET")?;
                let item = self.parse()?;
                self.close()?;
                Ok(multiset_of(item))
            }
            "MAP" => {
                self.open("MAP")?;
                let key = self.parse()?;
                self.cursor.expect(&Token::Comma)?;
                let value = self.parse()?;
                self.close()?;
                Ok(map_of(key, value))
            }
            "ROW" => self.parse_row(),
            "INTERVAL" | "RAW" | "VARIANT" | "BITMAP" | "TIMESTAMP_TZ" => {
                Err(Diagnostic::error(Code::NOT_YET, format!("the data type {name} does not run yet")).label(span, "data type"))
            }
            _ => Err(unknown_type(&word.value, span)),
        }
    }

    fn parse_decimal(&mut self) -> Result<(DataType, String), Diagnostic> {
        let (mut precision, mut scale) = (10, 0);
        if self.cursor.accept(&Token::LParen) {
            precision = self.parse_number("DECIMAL", "precision", 1, 38)?;
            if self.cursor.accept(&Token::Comma) {
                scale = self.parse_number("DECIMAL", "scale", 0, precision)?;
            }
            self.cursor.expect(&Token::RParen)?;
        }
        Ok((DataType::Decimal128(precision as u8, scale as i8), format!("DECIMAL({precision}, {scale})")))
    }

    /// The text of a type with a length; of `longest` if it is as long as can be.
    fn parse_length(&mut self, name: &str, longest: &str) -> Result<String, Diagnostic> {
        let mut length = 1;
        if self.cursor.accept(&Token::LParen) {
            length = self.parse_number(name, "length", 1, LENGTH_MAX)?;
            self.cursor.expect(&Token::RParen)?;
        }
        Ok(if length == LENGTH_MAX && name.starts_with("VAR") { longest.to_string() } else { format!("{name}({length})") })
    }

    fn parse_timestamp(&mut self, span: Span) -> Result<(DataType, String), Diagnostic> {
        let precision = self.parse_precision("TIMESTAMP", 6)?;
        if self.cursor.accept_words(&["WITH", "LOCAL", "TIME", "ZONE"]) {
            return Ok(timestamp(precision, true));
        }
        if self.cursor.accept_words(&["WITH", "TIME", "ZONE"]) {
            return Err(Diagnostic::error(Code::NOT_IN_FLINK, "Flink has no timestamps that carry a time zone")
                .label(span, "data type")
                .help("use TIMESTAMP_LTZ for a point in time, or TIMESTAMP for what a clock on the wall shows"));
        }
        self.cursor.accept_words(&["WITHOUT", "TIME", "ZONE"]);
        Ok(timestamp(precision, false))
    }

    fn parse_precision(&mut self, name: &str, default: u64) -> Result<u64, Diagnostic> {
        if !self.cursor.accept(&Token::LParen) {
            return Ok(default);
        }
        let precision = self.parse_number(name, "precision", 0, TIME_PRECISION_MAX)?;
        self.cursor.expect(&Token::RParen)?;
        Ok(precision)
    }

    fn parse_number(&mut self, name: &str, what: &str, min: u64, max: u64) -> Result<u64, Diagnostic> {
        let Some(Lexeme { token: Token::Number(digits, _), span, .. }) = self.cursor.peek() else {
            return Err(self.cursor.expected(&format!("the {what} of {name}, a number")));
        };
        match digits.parse::<u64>().ok().filter(|number| (min..=max).contains(number)) {
            Some(number) => {
                self.cursor.next();
                Ok(number)
            }
            None => Err(Diagnostic::error(Code::BAD_TYPE, format!("the {what} of {name} cannot be {digits}"))
                .label(*span, what)
                .help(format!("use a number from {min} to {max}"))),
        }
    }

    fn parse_row(&mut self) -> Result<(DataType, String), Diagnostic> {
        let in_parentheses = self.cursor.accept(&Token::LParen);
        if !in_parentheses {
            self.open("ROW")?;
        }
        let mut fields: Vec<FieldRef> = vec![];
        let mut texts = vec![];
        loop {
            let name = self.cursor.identifier("the name of a field")?;
            if fields.iter().any(|field| *field.name() == name.value) {
                return Err(Diagnostic::error(Code::DUPLICATE_NAME, format!("field \"{}\" is in the row twice", name.value))
                    .label(name.span, "second time"));
            }
            let sql_type = self.parse()?;
            let mut text = format!("`{}` {}", name.value.replace('`', "``"), text_of(&sql_type));
            if self.closed_early == 0
                && let Some(Lexeme { token: Token::SingleQuotedString(comment), .. }) = self.cursor.peek()
            {
                self.cursor.next();
                text.push_str(&format!(" '{}'", comment.replace('\'', "''")));
            }
            texts.push(text);
            fields.push(Arc::new(Field::new(name.value, sql_type.data_type, sql_type.nullable)));
            if self.closed_early > 0 || !self.cursor.accept(&Token::Comma) {
                break;
            }
        }
        if in_parentheses {
            self.cursor.expect(&Token::RParen)?;
        } else {
            self.close()?;
        }
        Ok((DataType::Struct(Fields::from(fields)), format!("ROW<{}>", texts.join(", "))))
    }

    fn open(&mut self, name: &str) -> Result<(), Diagnostic> {
        if self.cursor.accept(&Token::Lt) {
            return Ok(());
        }
        if self.cursor.is_token_at(0, &Token::Neq) {
            return Err(Diagnostic::error(Code::BAD_TYPE, format!("{name}<> says nothing of what is in it"))
                .label(self.cursor.span(), "types are missing")
                .help(format!("write {}", example(name))));
        }
        Err(self.cursor.expected(&format!("\"<\" behind {name}")).help(format!("write {}", example(name))))
    }

    fn close(&mut self) -> Result<(), Diagnostic> {
        if self.closed_early > 0 {
            self.closed_early -= 1;
            return Ok(());
        }
        if self.cursor.accept(&Token::Gt) {
            return Ok(());
        }
        if self.cursor.accept(&Token::ShiftRight) {
            self.closed_early = 1;
            return Ok(());
        }
        Err(self.cursor.expected("\">\""))
    }
}

fn example(name: &str) -> &'static str {
    match name {
        "MAP" => "MAP<STRING, INT>",
        "ROW" => "ROW<id INT, name STRING>",
        "MULTISET" => "MULTISET<STRING>",
        _ => "ARRAY<STRING>",
    }
}

fn unknown_type(name: &str, span: Span) -> Diagnostic {
    const NAMES: &[&str] = &[
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INT",
        "INTEGER",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL",
        "NUMERIC",
        "CHAR",
        "VARCHAR",
        "STRING",
        "BINARY",
        "VARBINARY",
        "BYTES",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMP_LTZ",
        "ARRAY",
        "MULTISET",
        "MAP",
        "ROW",
    ];
    let elsewhere = match name.to_uppercase().as_str() {
        "TEXT" | "NVARCHAR" | "CLOB" => Some("STRING"),
        "LONG" | "INT8" | "INT64" | "UBIGINT" => Some("BIGINT"),
        "INT4" | "INT32" => Some("INT"),
        "REAL" | "FLOAT4" => Some("FLOAT"),
        "FLOAT8" | "FLOAT64" => Some("DOUBLE"),
        "BOOL" => Some("BOOLEAN"),
        "DATETIME" => Some("TIMESTAMP(3)"),
        "TIMESTAMPTZ" => Some("TIMESTAMP_LTZ(3)"),
        "STRUCT" | "JSON" | "JSONB" => Some("ROW<…>, or STRING for JSON text"),
        "BLOB" | "BYTEA" => Some("BYTES"),
        _ => None,
    };
    let finding = Diagnostic::error(Code::BAD_TYPE, format!("there is no data type \"{name}\"")).label(span, "unknown type");
    match elsewhere {
        Some(ours) => finding.help(format!("use {ours}")),
        None => finding.help_nearest(name, NAMES.iter().copied(), None),
    }
}

/// A type with its `NOT NULL`, as it stands inside another type or a declaration.
pub fn text_of(sql_type: &SqlType) -> String {
    let not_null = if sql_type.nullable { "" } else { " NOT NULL" };
    format!("{}{not_null}", sql_type.text)
}

fn timestamp(precision: u64, local: bool) -> (DataType, String) {
    let unit = if precision <= 6 { TimeUnit::Microsecond } else { TimeUnit::Nanosecond };
    let name = if local { "TIMESTAMP_LTZ" } else { "TIMESTAMP" };
    (DataType::Timestamp(unit, local.then(|| "UTC".into())), format!("{name}({precision})"))
}

fn array_of(item: SqlType) -> (DataType, String) {
    let text = format!("ARRAY<{}>", text_of(&item));
    (DataType::List(Arc::new(Field::new("item", item.data_type, item.nullable))), text)
}

fn multiset_of(item: SqlType) -> (DataType, String) {
    let text = format!("MULTISET<{}>", text_of(&item));
    (map_type(item.data_type, DataType::Int32, false), text)
}

fn map_of(key: SqlType, value: SqlType) -> (DataType, String) {
    let text = format!("MAP<{}, {}>", text_of(&key), text_of(&value));
    (map_type(key.data_type, value.data_type, value.nullable), text)
}

/// Arrow's keys are never null.
fn map_type(key: DataType, value: DataType, value_nullable: bool) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, value_nullable)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// The Flink type that an Arrow type stands for; precisions that Arrow does not know are the widest of its unit.
pub fn to_sql(data_type: &DataType) -> String {
    let inner = |field: &Field| {
        let not_null = if field.is_nullable() { "" } else { " NOT NULL" };
        format!("{}{not_null}", to_sql(field.data_type()))
    };
    match data_type {
        DataType::Null => "NULL".to_string(),
        DataType::Boolean => "BOOLEAN".to_string(),
        DataType::Int8 => "TINYINT".to_string(),
        DataType::Int16 | DataType::UInt8 => "SMALLINT".to_string(),
        DataType::Int32 | DataType::UInt16 => "INT".to_string(),
        DataType::Int64 | DataType::UInt32 => "BIGINT".to_string(),
        DataType::UInt64 => "DECIMAL(20, 0)".to_string(),
        DataType::Float16 | DataType::Float32 => "FLOAT".to_string(),
        DataType::Float64 => "DOUBLE".to_string(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_string(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".to_string(),
        DataType::FixedSizeBinary(length) => format!("BINARY({length})"),
        DataType::Date32 | DataType::Date64 => "DATE".to_string(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME(0)".to_string(),
        DataType::Timestamp(unit, zone) => {
            let precision = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            format!("{}({precision})", if zone.is_some() { "TIMESTAMP_LTZ" } else { "TIMESTAMP" })
        }
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".to_string(),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::FixedSizeList(item, _) => {
            format!("ARRAY<{}>", inner(item))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", to_sql(fields[0].data_type()), inner(&fields[1]))
            }
            other => other.to_string(),
        },
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("`{}` {}", field.name().replace('`', "``"), inner(field))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, canonical: &str, arrow: &str) {
        let sql_type = from_text(text).unwrap_or_else(|finding| panic!("{text}: {}", finding.one_line()));
        assert_eq!(text_of(&sql_type), canonical, "{text}");
        assert_eq!(sql_type.data_type.to_string(), arrow, "{text}");
        // The canonical text names the same type.
        assert_eq!(from_text(canonical).ok(), Some(sql_type), "{text}");
    }

    #[test]
    fn simple_types() {
        check("int", "INT", "Int32");
        check("INTEGER NOT NULL", "INT NOT NULL", "Int32");
        check("DOUBLE PRECISION", "DOUBLE", "Float64");
        check("DECIMAL", "DECIMAL(10, 0)", "Decimal128(10, 0)");
        check("NUMERIC(8,2)", "DECIMAL(8, 2)", "Decimal128(8, 2)");
        check("VARCHAR", "VARCHAR(1)", "Utf8");
        check("VARCHAR(2147483647)", "STRING", "Utf8");
        check("CHARACTER VARYING(5)", "VARCHAR(5)", "Utf8");
        check("VARBINARY(3) NULL", "VARBINARY(3)", "Binary");
        check("TIME", "TIME(0)", "Time64(µs)");
        check("TIMESTAMP", "TIMESTAMP(6)", "Timestamp(µs)");
        check("TIMESTAMP(3) WITHOUT TIME ZONE", "TIMESTAMP(3)", "Timestamp(µs)");
        check("TIMESTAMP(9)", "TIMESTAMP(9)", "Timestamp(ns)");
        check("TIMESTAMP(3) WITH LOCAL TIME ZONE NOT NULL", "TIMESTAMP_LTZ(3) NOT NULL", "Timestamp(µs, \"UTC\")");
    }

    #[test]
    fn nested_types() {
        check("ARRAY<ARRAY<INT>>", "ARRAY<ARRAY<INT>>", "List(List(Int32))");
        check("INT ARRAY", "ARRAY<INT>", "List(Int32)");
        let items = DataType::List(Arc::new(Field::new("item", DataType::Utf8, false)));
        let inner = DataType::Struct(Fields::from(vec![Field::new("c", items, true)]));
        let outer = DataType::Struct(Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", inner, true)]));
        check(
            "ROW<a INT 'the a', b ROW<c ARRAY<STRING NOT NULL>>>",
            "ROW<`a` INT 'the a', `b` ROW<`c` ARRAY<STRING NOT NULL>>>",
            &outer.to_string(),
        );
        check(
            "ROW(`a b` INT NOT NULL)",
            "ROW<`a b` INT NOT NULL>",
            &DataType::Struct(Fields::from(vec![Field::new("a b", DataType::Int32, false)])).to_string(),
        );
        check(
            "MAP<STRING, ARRAY<INT>>",
            "MAP<STRING, ARRAY<INT>>",
            &map_type(DataType::Utf8, DataType::List(Arc::new(Field::new("item", DataType::Int32, true))), true).to_string(),
        );
        check("MULTISET<STRING>", "MULTISET<STRING>", &map_type(DataType::Utf8, DataType::Int32, false).to_string());
    }

    fn check_error(text: &str, expected: &str) {
        assert_eq!(from_text(text).map_err(|finding| finding.one_line()), Err(expected.to_string()), "{text}");
    }

    #[test]
    fn bad_types() {
        check_error("TIMESTAMP(10)", "error[TW0108]: the precision of TIMESTAMP cannot be 10 (use a number from 0 to 9)");
        check_error("DECIMAL(39, 2)", "error[TW0108]: the precision of DECIMAL cannot be 39 (use a number from 1 to 38)");
        check_error("DECIMAL(4, 5)", "error[TW0108]: the scale of DECIMAL cannot be 5 (use a number from 0 to 4)");
        check_error("STRIN", "error[TW0108]: there is no data type \"STRIN\" (did you mean \"STRING\"?)");
        check_error("TEXT", "error[TW0108]: there is no data type \"TEXT\" (use STRING)");
        check_error("ARRAY", "error[TW0001]: expected \"<\" behind ARRAY, the statement ends here (write ARRAY<STRING>)");
        check_error("ARRAY<INT>>", "error[TW0001]: expected a data type with as many \"<\" as \">\", the statement ends here");
        check_error("INTERVAL DAY", "error[TW0002]: the data type INTERVAL does not run yet");
        assert!(from_text(&"ARRAY<".repeat(100_000)).is_err());
    }

    fn any_type() -> impl Strategy<Value = DataType> {
        let leaf = prop_oneof![
            Just(DataType::Boolean),
            Just(DataType::Int64),
            Just(DataType::Utf8),
            (1_u8..=38).prop_map(|precision| DataType::Decimal128(precision, 0)),
            Just(DataType::Timestamp(TimeUnit::Microsecond, None)),
            Just(DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))),
        ];
        leaf.prop_recursive(4, 16, 3, |inner| {
            prop_oneof![
                (inner.clone(), any::<bool>())
                    .prop_map(|(item, nullable)| DataType::List(Arc::new(Field::new("item", item, nullable)))),
                (inner.clone(), inner.clone(), any::<bool>()).prop_map(|(key, value, nullable)| map_type(key, value, nullable)),
                prop::collection::vec((inner, any::<bool>()), 1..4).prop_map(|fields| {
                    DataType::Struct(
                        fields
                            .into_iter()
                            .enumerate()
                            .map(|(index, (data_type, nullable))| Field::new(format!("f `{index}"), data_type, nullable))
                            .collect::<Vec<_>>()
                            .into(),
                    )
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn arrow_to_text_and_back(data_type in any_type()) {
            let text = to_sql(&data_type);
            prop_assert_eq!(from_text(&text).map(|sql_type| sql_type.data_type), Ok(data_type), "{}", text);
        }
    }
}

//! The `csv` format.

mod decoder;
mod encoder;
mod splitter;

#[cfg(test)]
mod tests;

use arrow::datatypes::{DataType, Schema};
use thalweg_core::{Code, Diagnostic, FormatInfo, OptionDefinition, OptionType};

use super::FormatOptions;
pub use decoder::CsvDecoder;
pub use encoder::CsvEncoder;

const fn flag(name: &'static str, default: &'static str, doc: &'static str) -> OptionDefinition {
    OptionDefinition { name, kind: OptionType::Boolean, required: false, default: Some(default), doc }
}

const fn text(name: &'static str, default: Option<&'static str>, doc: &'static str) -> OptionDefinition {
    OptionDefinition { name, kind: OptionType::Text, required: false, default, doc }
}

pub const CSV: FormatInfo = FormatInfo {
    name: "csv",
    doc: "One line a row, fields by position.",
    options: &[
        text("field-delimiter", Some(","), "One character between fields; \\t is a tab."),
        flag("disable-quote-character", "false", "No character quotes fields."),
        text("quote-character", Some("\""), "The character around fields that hold a delimiter; doubled it stands for itself."),
        flag("allow-comments", "false", "Leave lines that begin with # out."),
        flag(
            "ignore-parse-errors",
            "false",
            "Read fields that cannot be parsed as null, and count and skip rows with too many fields.",
        ),
        text("array-element-delimiter", Some(";"), "The text between the elements of an ARRAY or ROW."),
        text("escape-character", None, "The character that takes the meaning from the one behind it; unset, there is none."),
        text("null-literal", None, "The text that stands for null; unset, there is none."),
        flag(
            "write-bigdecimal-in-scientific-notation",
            "true",
            "Write DECIMAL without trailing zeros, multiples of ten with an exponent (1E+5), as Flink does.",
        ),
        flag("trim-spaces", "false", "Take spaces off both ends of fields without quotes when reading."),
        flag("ignore-trailing-unmappable", "false", "Ignore fields behind those of the table when reading."),
        flag("allow-trailing-comma", "true", "Allow a delimiter behind the last field when reading."),
        flag(
            "fail-on-missing-columns",
            "false",
            "Refuse rows with too few fields when reading, also where parse errors are ignored.",
        ),
        flag("empty-string-as-null", "false", "Read empty fields as null."),
    ],
};

/// The options of the format, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CsvOptions {
    /// One character in UTF-8.
    pub delimiter: String,
    pub quote: Option<u8>,
    pub escape: Option<u8>,
    pub array_delimiter: String,
    pub null_literal: Option<String>,
    pub allow_comments: bool,
    pub ignore_parse_errors: bool,
    pub scientific_decimals: bool,
    pub trim_spaces: bool,
    pub ignore_trailing_unmappable: bool,
    pub allow_trailing_comma: bool,
    pub fail_on_missing_columns: bool,
    pub empty_string_as_null: bool,
    /// What stands in front of `csv.` in the names of the options: empty, `key.` or `value.`.
    pub prefix: String,
}

impl CsvOptions {
    /// # Errors
    /// The first value that an option cannot take.
    pub fn new(options: &FormatOptions) -> Result<Self, Diagnostic> {
        let quotes_off = options.boolean("csv.disable-quote-character", false)?;
        if quotes_off && options.get("csv.quote-character").is_some() {
            return Err(options
                .bad_value("csv.quote-character", "a quote character is set, and quote characters are disabled")
                .help(format!("remove '{}'", options.full_name("csv.disable-quote-character"))));
        }
        let delimiter = unescape(options.get("csv.field-delimiter").unwrap_or(","));
        if delimiter.chars().count() != 1 || delimiter == "\n" || delimiter == "\r" {
            return Err(options
                .cannot_be("csv.field-delimiter", options.get("csv.field-delimiter").unwrap_or_default())
                .help("use one character, such as ',' or '\\t'"));
        }
        let array_delimiter = unescape(options.get("csv.array-element-delimiter").unwrap_or(";"));
        if array_delimiter.is_empty() {
            return Err(options.cannot_be("csv.array-element-delimiter", "").help("use some text, such as ';'"));
        }
        let quote = if quotes_off { None } else { Some(character(options, "csv.quote-character")?.unwrap_or(b'"')) };
        Ok(CsvOptions {
            delimiter,
            quote,
            // A quote that escapes quotes is what doubling them does anyway.
            escape: character(options, "csv.escape-character")?.filter(|escape| Some(*escape) != quote),
            array_delimiter,
            null_literal: options.get("csv.null-literal").map(str::to_string),
            allow_comments: options.boolean("csv.allow-comments", false)?,
            ignore_parse_errors: options.boolean("csv.ignore-parse-errors", false)?,
            scientific_decimals: options.boolean("csv.write-bigdecimal-in-scientific-notation", true)?,
            trim_spaces: options.boolean("csv.trim-spaces", false)?,
            ignore_trailing_unmappable: options.boolean("csv.ignore-trailing-unmappable", false)?,
            allow_trailing_comma: options.boolean("csv.allow-trailing-comma", true)?,
            fail_on_missing_columns: options.boolean("csv.fail-on-missing-columns", false)?,
            empty_string_as_null: options.boolean("csv.empty-string-as-null", false)?,
            prefix: options.prefix().to_string(),
        })
    }
}

/// A single ASCII character; `None` when the option is not set.
fn character(options: &FormatOptions, name: &str) -> Result<Option<u8>, Diagnostic> {
    let Some(value) = options.get(name) else { return Ok(None) };
    match unescape(value).as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(Some(*byte)),
        _ => Err(options.cannot_be(name, value).help("use one ASCII character")),
    }
}

/// Control characters as Java spells them: `\t`, `\u0001`.
fn unescape(text: &str) -> String {
    match text {
        "\\t" => return "\t".to_string(),
        "\\n" => return "\n".to_string(),
        "\\r" => return "\r".to_string(),
        "\\\\" => return "\\".to_string(),
        _ => {}
    }
    let code = text.strip_prefix("\\u").filter(|digits| digits.len() == 4);
    match code.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32) {
        Some(c) => c.to_string(),
        None => text.to_string(),
    }
}

/// Columns that the format cannot have.
pub fn check_schema(schema: &Schema) -> Vec<Diagnostic> {
    let mut findings = vec![];
    for field in &schema.fields {
        let problem = match field.data_type() {
            DataType::Map(..) => Some("a MAP"),
            DataType::List(item) if item.data_type().is_nested() => Some("an ARRAY of anything but plain values"),
            DataType::Struct(fields) if fields.iter().any(|field| field.data_type().is_nested()) => {
                Some("a ROW of anything but plain values")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            findings.push(
                Diagnostic::error(Code::BAD_TYPE, format!("format \"csv\" cannot hold column \"{}\": {problem}", field.name()))
                    .help("use format 'json' for nested data"),
            );
        }
    }
    findings
}

//! The `json` format.

mod decoder;
mod duplicates;
mod encoder;
mod layout;
mod row_reader;
mod scanner;
mod text;

#[cfg(test)]
mod tests;

use arrow::datatypes::{DataType, Schema};
use thalweg_core::{Code, Diagnostic, FormatInfo, OptionDefinition, OptionType};

use super::FormatOptions;
use super::time_text::TimestampStandard;
pub use decoder::JsonDecoder;
pub use encoder::JsonEncoder;

pub const JSON: FormatInfo = FormatInfo {
    name: "json",
    doc: "One JSON object a row. An array of objects gives a row each when read.",
    options: &[
        OptionDefinition {
            name: "fail-on-missing-field",
            kind: OptionType::Boolean,
            required: false,
            default: Some("false"),
            doc: "Fail when a record lacks a field, instead of reading it as null.",
        },
        OptionDefinition {
            name: "ignore-parse-errors",
            kind: OptionType::Boolean,
            required: false,
            default: Some("false"),
            doc: "Read fields that cannot be parsed as null, and count and skip records that are not JSON.",
        },
        OptionDefinition {
            name: "timestamp-format.standard",
            kind: OptionType::Enum(&["SQL", "ISO-8601"]),
            required: false,
            default: Some("SQL"),
            doc: "SQL: 'yyyy-MM-dd HH:mm:ss.s'; ISO-8601: 'yyyy-MM-ddTHH:mm:ss.s'. TIMESTAMP_LTZ has a Z behind it.",
        },
        OptionDefinition {
            name: "map-null-key.mode",
            kind: OptionType::Enum(&["FAIL", "DROP", "LITERAL"]),
            required: false,
            default: Some("FAIL"),
            doc: "What to do when a MAP with a null key is written: fail, leave the entry out, or write the literal.",
        },
        OptionDefinition {
            name: "map-null-key.literal",
            kind: OptionType::Text,
            required: false,
            default: Some("null"),
            doc: "The key to write instead of a null one when map-null-key.mode is LITERAL.",
        },
        OptionDefinition {
            name: "encode.decimal-as-plain-number",
            kind: OptionType::Boolean,
            required: false,
            default: Some("false"),
            doc: "Accepted for Flink's sake: DECIMAL is always written as a plain number with its declared digits.",
        },
        OptionDefinition {
            name: "encode.ignore-null-fields",
            kind: OptionType::Boolean,
            required: false,
            default: Some("false"),
            doc: "Leave fields that are null out when writing.",
        },
        OptionDefinition {
            name: "decode.json-parser.enabled",
            kind: OptionType::Boolean,
            required: false,
            default: Some("true"),
            doc: "Accepted for Flink's sake: there is one parser.",
        },
    ],
};

/// What to do with a null key of a MAP that is written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum MapNullKey {
    #[default]
    Fail,
    Drop,
    Literal(String),
}

/// The options of the format, understood. The default is Flink's, and what the results of a `SELECT` are printed with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JsonOptions {
    pub fail_on_missing_field: bool,
    pub ignore_parse_errors: bool,
    pub timestamps: TimestampStandard,
    pub map_null_key: MapNullKey,
    pub ignore_null_fields: bool,
    /// What stands in front of `json.` in the names of the options: empty, `key.` or `value.`.
    pub prefix: String,
}

impl JsonOptions {
    /// # Errors
    /// The first value that an option cannot take, or two options that contradict each other.
    pub fn new(options: &FormatOptions) -> Result<Self, Diagnostic> {
        let fail_on_missing_field = options.boolean("json.fail-on-missing-field", false)?;
        let ignore_parse_errors = options.boolean("json.ignore-parse-errors", false)?;
        if fail_on_missing_field && ignore_parse_errors {
            return Err(options
                .bad_value(
                    "json.fail-on-missing-field",
                    format!(
                        "options \"{}\" and \"{}\" contradict each other",
                        options.full_name("json.fail-on-missing-field"),
                        options.full_name("json.ignore-parse-errors")
                    ),
                )
                .help("set only one of them to 'true'"));
        }
        Ok(JsonOptions {
            fail_on_missing_field,
            ignore_parse_errors,
            timestamps: match options.word("json.timestamp-format.standard", &["SQL", "ISO-8601"])? {
                Some("ISO-8601") => TimestampStandard::Iso8601,
                _ => TimestampStandard::Sql,
            },
            map_null_key: match options.word("json.map-null-key.mode", &["FAIL", "DROP", "LITERAL"])? {
                Some("DROP") => MapNullKey::Drop,
                Some("LITERAL") => MapNullKey::Literal(options.get("json.map-null-key.literal").unwrap_or("null").to_string()),
                _ => MapNullKey::Fail,
            },
            ignore_null_fields: options.boolean("json.encode.ignore-null-fields", false)?,
            prefix: options.prefix().to_string(),
        })
    }
}

/// Columns that the format cannot have.
pub fn check_schema(schema: &Schema) -> Vec<Diagnostic> {
    let mut findings = vec![];
    for field in &schema.fields {
        if has_other_keys_than_text(field.data_type()) {
            findings.push(
                Diagnostic::error(
                    Code::BAD_TYPE,
                    format!("format \"json\" cannot hold column \"{}\": a MAP whose keys are not STRING", field.name()),
                )
                .help("use MAP<STRING, …>: the names of a JSON object are text"),
            );
        }
    }
    findings
}

fn has_other_keys_than_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| has_other_keys_than_text(field.data_type())),
        DataType::List(item) => has_other_keys_than_text(item.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                fields.first().is_none_or(|key| key.data_type() != &DataType::Utf8)
                    || fields.iter().any(|field| has_other_keys_than_text(field.data_type()))
            }
            _ => true,
        },
        _ => false,
    }
}

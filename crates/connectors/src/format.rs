//! Records to rows and back: the formats that connectors share.
//!
//! `json`, `csv` and `raw` implement [`Decoder`] and [`Encoder`]; `parquet` is for whole files and has functions of its own
//! ([`parquet::encode_parquet`], [`parquet::ParquetReader`]).

mod array_view;
mod base64;
mod columns;
pub mod csv;
pub mod json;
mod number_text;
mod options;
pub mod parquet;
pub mod raw;
#[cfg(test)]
mod test_rows;
mod time_text;
mod wanted;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use thalweg_core::{Code, Decoder, Diagnostic, Encoder, FormatInfo};

pub use options::FormatOptions;
pub use time_text::TimestampStandard;

/// The largest record that is decoded.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

/// Record text between two flushes of a decoder. Callers flush far earlier; this keeps offsets within arrays in range, also where
/// text grows when it is written anew.
pub const BUFFERED_BYTES_MAX: usize = 256 << 20;

/// All formats, for the registry.
pub const FORMATS: &[FormatInfo] = &[json::JSON, csv::CSV, raw::RAW, parquet::PARQUET];

/// A decoder for `fields`, in that order, of a table whose physical columns are `physical_schema`.
/// # Errors
/// An unknown format, one that has no records, or the first option value that is wrong.
pub fn decoder(
    name: &str,
    options: &FormatOptions,
    fields: Vec<FieldRef>,
    physical_schema: SchemaRef,
) -> Result<Box<dyn Decoder>, Diagnostic> {
    let internal = |error: thalweg_core::Error| Diagnostic::error(Code::BAD_TYPE, error.message);
    Ok(match name {
        "json" => Box::new(json::JsonDecoder::new(fields, &json::JsonOptions::new(options)?).map_err(internal)?),
        "csv" => Box::new(csv::CsvDecoder::new(fields, &physical_schema, csv::CsvOptions::new(options)?).map_err(internal)?),
        "raw" => Box::new(raw::RawDecoder::new(fields, raw::RawOptions::new(options)?).map_err(internal)?),
        _ => return Err(no_records(name)),
    })
}

/// An encoder for batches under `schema`.
/// # Errors
/// As [`decoder`].
pub fn encoder(name: &str, options: &FormatOptions, schema: SchemaRef) -> Result<Box<dyn Encoder>, Diagnostic> {
    Ok(match name {
        "json" => Box::new(json::JsonEncoder::new(&schema, &json::JsonOptions::new(options)?)),
        "csv" => Box::new(csv::CsvEncoder::new(csv::CsvOptions::new(options)?)),
        "raw" => Box::new(raw::RawEncoder::new(raw::RawOptions::new(options)?)),
        _ => return Err(no_records(name)),
    })
}

/// What is wrong with a table of this format before it runs: options that do not exist or cannot have their value, columns that
/// the format cannot hold. `schema` has the physical columns that the format reads or writes.
pub fn check(name: &str, schema: &Schema, options: &FormatOptions) -> Vec<Diagnostic> {
    let Some(info) = FORMATS.iter().find(|format| format.name == name) else { return vec![unknown_format(name)] };
    let mut findings = options.check(info);
    if !findings.is_empty() {
        return findings;
    }
    match name {
        "json" => {
            findings.extend(json::JsonOptions::new(options).err());
            findings.extend(json::check_schema(schema));
        }
        "csv" => {
            findings.extend(csv::CsvOptions::new(options).err());
            findings.extend(csv::check_schema(schema));
        }
        "raw" => {
            findings.extend(raw::RawOptions::new(options).err());
            findings.extend(raw::check_schema(schema));
        }
        _ => findings.extend(parquet::ParquetWriterOptions::new(options).err()),
    }
    findings
}

fn unknown_format(name: &str) -> Diagnostic {
    let names = || FORMATS.iter().map(|format| format.name);
    Diagnostic::error(Code::UNKNOWN_FORMAT, format!("unknown format \"{name}\"")).help_nearest(
        name,
        names(),
        Some(format!("there are {}", names().collect::<Vec<_>>().join(", "))),
    )
}

fn no_records(name: &str) -> Diagnostic {
    if name == "parquet" {
        return Diagnostic::error(Code::UNKNOWN_FORMAT, "format \"parquet\" is for whole files, not for single records")
            .help("use it with connector 'filesystem'");
    }
    unknown_format(name)
}

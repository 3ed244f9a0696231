//! JSON records to rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use thalweg_core::{Decoder, Error, RecordContext, Result};

use super::JsonOptions;
use super::row_reader::{Fault, ReadRules, RowReader, Shape};
use super::scanner::{Kind, Scanner};
use crate::format::columns::{Columns, TextRules};
use crate::format::time_text::TimestampStandard;
use crate::format::wanted::{Wanted, fragment};
use crate::format::{BUFFERED_BYTES_MAX, RECORD_BYTES_MAX};

/// Reads the wanted fields of JSON objects, straight into columns; all other fields are checked for being JSON and skipped.
///
/// A record is an object (one row), an array of objects (a row each), or nothing but white space or `null` (no row).
/// # Source
/// Values are read as Flink's json format reads them. Where Java's resolver would bend a day that does not exist (02-30), this
/// refuses it.
pub struct JsonDecoder {
    schema: SchemaRef,
    shape: Shape,
    columns: Columns,
    rules: ReadRules,
    prefix: String,
    rows: usize,
    buffered_bytes: usize,
    skipped: u64,
    scratch: String,
    path: Vec<String>,
}

impl JsonDecoder {
    /// # Errors
    /// `Internal` for a field whose Arrow type belongs to no SQL type; `super::check` refuses those before.
    pub fn new(fields: Vec<FieldRef>, options: &JsonOptions) -> Result<Self> {
        let fields = Fields::from(fields);
        let columns = Columns::new(&fields).map_err(Error::internal)?;
        Ok(JsonDecoder {
            schema: Arc::new(Schema::new(fields)),
            shape: Shape::new(&columns),
            columns,
            rules: ReadRules {
                text: TextRules { timestamps: options.timestamps, loose_dates: false },
                fail_on_missing_field: options.fail_on_missing_field,
                ignore_parse_errors: options.ignore_parse_errors,
            },
            prefix: options.prefix.clone(),
            rows: 0,
            buffered_bytes: 0,
            skipped: 0,
            scratch: String::new(),
            path: vec![],
        })
    }

    /// Reads a record's rows. After an error the columns may hold remains.
    fn read(&mut self, text: &str) -> Result<usize, Fault> {
        self.path.clear();
        let mut reader =
            RowReader { scanner: Scanner::new(text), rules: self.rules, scratch: &mut self.scratch, path: &mut self.path };
        let mut added = 0;
        match reader.scanner.peek() {
            None => return Ok(0),
            Some(b'{') => {
                reader.row(&mut self.shape, &mut self.columns, self.rows)?;
                added = 1;
            }
            Some(b'[') => {
                reader.scanner.enter()?;
                let mut more = reader.scanner.first_item(b']');
                while more {
                    let start = reader.scanner;
                    let base = self.rows + added;
                    match top_level_row(&mut reader, &mut self.shape, &mut self.columns, base) {
                        Ok(rows) => added += rows,
                        Err(fault @ Fault::Syntax(_)) => return Err(fault),
                        Err(fault) if !self.rules.ignore_parse_errors => return Err(fault),
                        Err(_) => {
                            self.columns.truncate(base);
                            reader.path.clear();
                            reader.scanner = start;
                            reader.scanner.skip_value()?;
                            self.skipped += 1;
                        }
                    }
                    more = reader.scanner.next_item(b']')?;
                }
            }
            Some(_) => added = top_level_row(&mut reader, &mut self.shape, &mut self.columns, self.rows)?,
        }
        if reader.scanner.peek().is_some() {
            reader.scanner.error("the end of the record")?;
        }
        Ok(added)
    }

    fn fault_error(&self, fault: Fault, record: &str, context: RecordContext<'_>) -> Error {
        let path = self.path_text();
        let error = match fault {
            Fault::Syntax(error) => Error::record(format!(
                "not JSON at byte {}: expected {}, found {}",
                error.at,
                error.expected,
                found(record, error.at)
            ))
            .with_help(format!("set '{}json.ignore-parse-errors' = 'true' to skip such records", self.prefix)),
            Fault::Value { start, wanted } if path.is_empty() => {
                Error::record(format!("{} is not a JSON object", value_text(record, start))).with_help(wanted.expected())
            }
            Fault::Value { start, wanted } => {
                Error::record(format!("field \"{path}\" cannot be read as {wanted} from {}", value_text(record, start)))
                    .with_help(self.help(wanted))
            }
            Fault::Null => Error::record(format!("field \"{path}\" is null, but its column is NOT NULL"))
                .with_help("declare the column without NOT NULL to let it be null"),
            Fault::Missing if self.rules.fail_on_missing_field => Error::record(format!("field \"{path}\" is missing"))
                .with_help(format!("set '{}json.fail-on-missing-field' = 'false' to read missing fields as null", self.prefix)),
            Fault::Missing => Error::record(format!("field \"{path}\" is missing, but its column is NOT NULL"))
                .with_help("declare the column without NOT NULL to let it be null"),
        };
        error.in_context(context)
    }

    /// The text of an error that nobody will read is not made.
    fn fault_error_unless_ignored(&self, fault: Fault, record: &str, context: RecordContext<'_>) -> Error {
        if self.rules.ignore_parse_errors { Error::record("ignored") } else { self.fault_error(fault, record, context) }
    }

    /// `prices[3].amount` of parts that were collected from the inside out.
    fn path_text(&self) -> String {
        let mut text = String::new();
        for part in self.path.iter().rev() {
            if !text.is_empty() && !part.starts_with('[') {
                text.push('.');
            }
            text.push_str(part);
        }
        text
    }

    fn help(&self, wanted: Wanted) -> String {
        let (is_timestamp, nanos) = match wanted {
            Wanted::Timestamp { nanos } | Wanted::TimestampLtz { nanos } => (true, nanos),
            _ => (false, false),
        };
        if !is_timestamp {
            return wanted.expected().to_string();
        }
        let option = format!("'{}json.timestamp-format.standard'", self.prefix);
        let form = match self.rules.text.timestamps {
            TimestampStandard::Sql => format!("{}; set {option} = 'ISO-8601' for text with T", wanted.expected()),
            TimestampStandard::Iso8601 => {
                format!("{}; set {option} = 'SQL' for text with a space", wanted.expected().replace("dd HH", "ddTHH"))
            }
        };
        if nanos { format!("{form}; precisions above 6 reach from 1677-09-22 to 2262-04-11") } else { form }
    }
}

/// Takes an object into a row; a `null` gives none.
fn top_level_row(reader: &mut RowReader<'_, '_>, shape: &mut Shape, columns: &mut Columns, base: usize) -> Result<usize, Fault> {
    match reader.scanner.kind()? {
        Kind::Object => reader.row(shape, columns, base).map(|()| 1),
        Kind::Null => {
            reader.scanner.word("null")?;
            Ok(0)
        }
        _ => Err(Fault::Value { start: reader.scanner.position, wanted: Wanted::Row }),
    }
}

fn found(record: &str, at: usize) -> String {
    const TAIL_CHARS: usize = 20;
    let rest = record.as_bytes().get(at..).unwrap_or_default();
    if !rest.is_empty() {
        return format!("\"{}\"", fragment(rest));
    }
    if record.is_empty() {
        return "an empty record".to_string();
    }
    // A record that was cut off is known by its last characters.
    let cut = record.char_indices().rev().nth(TAIL_CHARS - 1).map_or(0, |(at, _)| at);
    let dots = if cut > 0 { "…" } else { "" };
    format!("the end of the record behind \"{dots}{}\"", &record[cut..])
}

/// The raw text of the value at `start`, shortened.
fn value_text(record: &str, start: usize) -> String {
    let mut scanner = Scanner::new(record);
    scanner.position = start;
    match scanner.skip_value() {
        Ok(()) => fragment(scanner.taken(start)),
        Err(_) => fragment(record.as_bytes().get(start..).unwrap_or_default()),
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, record: &[u8], context: RecordContext<'_>) -> Result<usize> {
        if self.buffered_bytes > BUFFERED_BYTES_MAX {
            return Err(Error::internal("a json decoder was not flushed in time").in_context(context));
        }
        let skipped_before = self.skipped;
        let outcome = if record.len() > RECORD_BYTES_MAX {
            Err(Error::record(format!("the record has {} bytes, more than the {RECORD_BYTES_MAX} allowed", record.len()))
                .in_context(context))
        } else {
            match std::str::from_utf8(record) {
                Ok(text) => self.read(text).map_err(|fault| self.fault_error_unless_ignored(fault, text, context)),
                Err(error) => Err(Error::record(format!("the record is not UTF-8 at byte {}", error.valid_up_to()))
                    .with_help("write JSON in UTF-8")
                    .in_context(context)),
            }
        };
        match outcome {
            Ok(added) => {
                self.rows += added;
                self.buffered_bytes += record.len();
                Ok(added)
            }
            Err(error) => {
                self.columns.truncate(self.rows);
                if !self.rules.ignore_parse_errors {
                    return Err(error);
                }
                self.skipped = skipped_before + 1;
                Ok(0)
            }
        }
    }

    fn decode_null(&mut self, _context: RecordContext<'_>) -> Result<usize> {
        Ok(0)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    fn flush(&mut self) -> Result<RecordBatch> {
        let batch = self.columns.finish(&self.schema, self.rows)?;
        self.rows = 0;
        self.buffered_bytes = 0;
        Ok(batch)
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

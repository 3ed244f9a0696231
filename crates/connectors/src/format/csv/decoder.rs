//! CSV records to rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use thalweg_core::{Decoder, Error, RecordContext, Result};

use super::CsvOptions;
use super::splitter::{SplitError, SplitRecord};
use crate::format::columns::{Column, Columns, TextRules, Values};
use crate::format::time_text::TimestampStandard;
use crate::format::wanted::{Wanted, fragment};
use crate::format::{BUFFERED_BYTES_MAX, RECORD_BYTES_MAX};

/// Dates as `java.sql.Date.valueOf` takes them, timestamps in the SQL standard.
const TEXT_RULES: TextRules = TextRules { timestamps: TimestampStandard::Sql, loose_dates: true };

/// Reads the wanted fields of CSV records, by their position among the physical columns.
///
/// A record is one row. An empty record is no row, unless the table has a single column.
/// # Source
/// Flink's csv format: a field that cannot be read, or a row with too few or too many fields, is an error; where parse errors
/// are ignored, bad and missing fields are null, and rows with too many fields are skipped.
pub struct CsvDecoder {
    schema: SchemaRef,
    columns: Columns,
    /// For each column, the position of its field within a record.
    positions: Vec<usize>,
    /// Fields that a record should have.
    physical_columns: usize,
    options: CsvOptions,
    split: SplitRecord,
    rows: usize,
    buffered_bytes: usize,
    skipped: u64,
}

/// Why a record cannot become a row.
enum Fault {
    Split(SplitError),
    FieldCount(usize),
    Value {
        column: usize,
        wanted: Wanted,
    },
    /// Null, or not there, for a column that is NOT NULL.
    Null {
        column: usize,
    },
}

impl CsvDecoder {
    /// # Errors
    /// `Internal` for a column that is not among the physical ones or has a type that `super::check_schema` refuses.
    pub fn new(fields: Vec<FieldRef>, physical_schema: &Schema, options: CsvOptions) -> Result<Self> {
        let fields = Fields::from(fields);
        let columns = Columns::new(&fields).map_err(Error::internal)?;
        let positions = fields
            .iter()
            .map(|field| {
                let position = physical_schema.fields.iter().position(|physical| physical.name() == field.name());
                position.ok_or_else(|| Error::internal(format!("column \"{}\" is not a physical one", field.name())))
            })
            .collect::<Result<_>>()?;
        Ok(CsvDecoder {
            schema: Arc::new(Schema::new(fields)),
            columns,
            positions,
            physical_columns: physical_schema.fields.len(),
            options,
            split: SplitRecord::default(),
            rows: 0,
            buffered_bytes: 0,
            skipped: 0,
        })
    }

    /// Reads a record's row. After an error the columns may hold remains.
    fn read(&mut self, text: &str) -> Result<usize, Fault> {
        if self.options.allow_comments && text.starts_with('#') {
            return Ok(0);
        }
        if self.physical_columns != 1 && text.trim_end_matches(['\r', '\n']).is_empty() {
            return Ok(0);
        }
        self.split.split(text, &self.options).map_err(Fault::Split)?;
        self.check_field_count()?;
        for (index, column) in self.columns.columns.iter_mut().enumerate() {
            let field = &self.schema.fields[index];
            let added = match self.split.get(self.positions[index]) {
                None => Ok(false),
                Some(text) => push_field(column, field.data_type(), text, &self.options),
            };
            match added {
                Ok(true) => {}
                Ok(false) if field.is_nullable() => column.push_null(),
                Ok(false) => return Err(Fault::Null { column: index }),
                Err(_) if self.options.ignore_parse_errors && field.is_nullable() => {
                    column.truncate(self.rows);
                    column.push_null();
                }
                Err(wanted) => return Err(Fault::Value { column: index, wanted }),
            }
        }
        Ok(1)
    }

    fn check_field_count(&self) -> Result<(), Fault> {
        let (found, expected) = (self.split.len(), self.physical_columns);
        let is_fine = match found.cmp(&expected) {
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Less => self.options.ignore_parse_errors && !self.options.fail_on_missing_columns,
            std::cmp::Ordering::Greater => {
                self.options.ignore_trailing_unmappable
                    || (self.options.allow_trailing_comma && found == expected + 1 && self.split.ends_in_delimiter())
            }
        };
        if is_fine { Ok(()) } else { Err(Fault::FieldCount(found)) }
    }

    fn fault_error(&self, fault: &Fault, record: &str) -> Error {
        let prefix = &self.options.prefix;
        match fault {
            Fault::Split(error) => Error::record(format!(
                "not CSV at byte {}: expected {}, found \"{}\"",
                error.at,
                error.expected,
                fragment(record.as_bytes().get(error.at..).unwrap_or_default())
            ))
            .with_help(format!("set '{prefix}csv.ignore-parse-errors' = 'true' to skip such records")),
            Fault::FieldCount(found) => Error::record(format!(
                "the row has {found} fields, but the table has {} columns: \"{}\"",
                self.physical_columns,
                fragment(record.as_bytes())
            ))
            .with_help(if *found > self.physical_columns {
                format!("set '{prefix}csv.ignore-trailing-unmappable' = 'true' to ignore fields at the end")
            } else {
                format!("set '{prefix}csv.ignore-parse-errors' = 'true' to read missing fields as null")
            }),
            Fault::Value { column, wanted } => {
                let text = self.split.get(self.positions[*column]).unwrap_or_default();
                let help = if text.is_empty() {
                    format!("{}; set '{prefix}csv.empty-string-as-null' = 'true' to read it as null", wanted.expected())
                } else {
                    wanted.expected().to_string()
                };
                let name = self.schema.field(*column).name();
                let shown = fragment(text.as_bytes());
                Error::record(format!("field \"{name}\" cannot be read as {wanted} from \"{shown}\"")).with_help(help)
            }
            Fault::Null { column } => {
                Error::record(format!("field \"{}\" is null, but its column is NOT NULL", self.schema.field(*column).name()))
                    .with_help("declare the column without NOT NULL to let it be null")
            }
        }
    }
}

fn is_null(text: &str, options: &CsvOptions) -> bool {
    (text.is_empty() && options.empty_string_as_null) || options.null_literal.as_deref() == Some(text)
}

/// Adds a field to its column. `Ok(false)` when it is null; nothing is added then.
fn push_field(column: &mut Column, data_type: &DataType, text: &str, options: &CsvOptions) -> Result<bool, Wanted> {
    let wanted = column.wanted;
    match (&mut column.values, data_type) {
        (Values::List { item, .. }, DataType::List(field)) => {
            // A null literal is an array with one null, as in Flink; an empty field is an empty array.
            if !text.is_empty() {
                for element in text.split(options.array_delimiter.as_str()) {
                    push_element(item, element, field, options)?;
                }
            }
            column.close();
            Ok(true)
        }
        (Values::Struct(columns), DataType::Struct(fields)) => {
            let mut elements = text.split(options.array_delimiter.as_str());
            for (child, field) in columns.columns.iter_mut().zip(fields) {
                match elements.next() {
                    Some(element) => push_element(child, element, field, options)?,
                    None if options.ignore_parse_errors && field.is_nullable() => child.push_null(),
                    None => return Err(wanted),
                }
            }
            if elements.next().is_some() && !options.ignore_parse_errors {
                return Err(wanted);
            }
            column.close();
            Ok(true)
        }
        _ if is_null(text, options) => Ok(false),
        _ => column.push_text(text, TEXT_RULES),
    }
}

fn push_element(column: &mut Column, text: &str, field: &FieldRef, options: &CsvOptions) -> Result<(), Wanted> {
    let added = if is_null(text, options) { Ok(false) } else { column.push_text(text, TEXT_RULES) };
    match added {
        Ok(true) => Ok(()),
        Ok(false) if field.is_nullable() => {
            column.push_null();
            Ok(())
        }
        Err(_) if options.ignore_parse_errors && field.is_nullable() => {
            column.push_null();
            Ok(())
        }
        Ok(false) => Err(column.wanted),
        Err(wanted) => Err(wanted),
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, record: &[u8], context: RecordContext<'_>) -> Result<usize> {
        if self.buffered_bytes > BUFFERED_BYTES_MAX {
            return Err(Error::internal("a csv decoder was not flushed in time").in_context(context));
        }
        let outcome = if record.len() > RECORD_BYTES_MAX {
            Err(Error::record(format!("the record has {} bytes, more than the {RECORD_BYTES_MAX} allowed", record.len())))
        } else {
            match std::str::from_utf8(record) {
                // The text of an error that nobody will read is not made.
                Ok(text) => self.read(text).map_err(|fault| match self.options.ignore_parse_errors {
                    true => Error::record("ignored"),
                    false => self.fault_error(&fault, text),
                }),
                Err(error) => Err(Error::record(format!("the record is not UTF-8 at byte {}", error.valid_up_to()))
                    .with_help("write CSV in UTF-8")),
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
                if !self.options.ignore_parse_errors {
                    return Err(error.in_context(context));
                }
                self.skipped += 1;
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

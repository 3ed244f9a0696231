//! What a user can say about made-up rows.

use std::time::Duration;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use thalweg_core::{Code, ConnectorInfo, Diagnostic, OptionDefinition, OptionType, Options, TableDefinition, parse_duration};

/// The connector as data.
pub const INFO: ConnectorInfo = ConnectorInfo {
    name: "datagen",
    doc: "Makes rows up: random values or sequences, at a steady rate. The same table gives the same rows each time.",
    is_source: true,
    is_sink: false,
    takes_updates: false,
    takes_upserts: false,
    gives_upserts: false,
    options: OPTIONS,
    metadata: &[],
    format_options: &[],
    check,
};

const ROWS_PER_SECOND: &str = "rows-per-second";
const NUMBER_OF_ROWS: &str = "number-of-rows";
const PARALLELISM: &str = "scan.parallelism";

const OPTIONS: &[OptionDefinition] = &[
    OptionDefinition {
        name: ROWS_PER_SECOND,
        kind: OptionType::Integer,
        required: false,
        default: Some("10000"),
        doc: "Rows made each second, over all partitions.",
    },
    OptionDefinition {
        name: NUMBER_OF_ROWS,
        kind: OptionType::Integer,
        required: false,
        default: None,
        doc: "Rows made in all; unset means without end, unless a sequence ends.",
    },
    OptionDefinition {
        name: PARALLELISM,
        kind: OptionType::Integer,
        required: false,
        default: Some("1"),
        doc: "Number of partitions.",
    },
    OptionDefinition {
        name: "fields.*",
        kind: OptionType::Text,
        required: false,
        default: None,
        doc: "fields.<column>.kind (random or sequence), .min, .max, .start, .end, .length, .var-len, .max-past, .null-rate.",
    },
];

const ATTRIBUTES: &[&str] = &["kind", "min", "max", "start", "end", "length", "var-len", "max-past", "null-rate"];

fn check(table: &TableDefinition) -> Vec<Diagnostic> {
    let mut findings = field_names(&table.options, &table.physical_schema());
    findings.extend(TableOptions::parse(&table.options, &table.physical_schema()).err());
    findings
}

/// Findings about option names `fields.<column>.<attribute>`.
fn field_names(options: &Options, schema: &SchemaRef) -> Vec<Diagnostic> {
    let mut findings = vec![];
    for (rest, _) in options.with_prefix("fields.") {
        let name = format!("fields.{rest}");
        let columns = || schema.fields().iter().map(|field| field.name().as_str());
        let finding = match rest.rsplit_once('.') {
            Some((column, attribute)) if columns().any(|known| known == column) => {
                if ATTRIBUTES.contains(&attribute) {
                    continue;
                }
                Diagnostic::error(Code::UNKNOWN_OPTION, format!("unknown option \"{name}\" for connector \"datagen\""))
                    .help_nearest(attribute, ATTRIBUTES.iter().copied(), Some(format!("use one of {}", ATTRIBUTES.join(", "))))
            }
            Some((column, _)) => Diagnostic::error(
                Code::UNKNOWN_COLUMN,
                format!("option \"{name}\" names no column of the table"),
            )
            .help_nearest(column, columns(), None),
            None => Diagnostic::error(Code::UNKNOWN_OPTION, format!("unknown option \"{name}\" for connector \"datagen\""))
                .help("write fields.<column>.<attribute>"),
        };
        findings.push(finding.label_opt(options.key_span(&name), "this option"));
    }
    findings
}

/// How the values of a column are made.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum ColumnKind {
    /// `start`, `start + 1`, … up to `end`.
    Sequence {
        start: i64,
        end: i64,
    },
    RandomBoolean,
    RandomInteger {
        min: i64,
        max: i64,
    },
    RandomFloat {
        min: f64,
        max: f64,
    },
    /// Hexadecimal digits. With `is_variable`, lengths from 1 to `length`.
    RandomText {
        length: u64,
        is_variable: bool,
    },
    RandomBytes {
        length: u64,
        is_variable: bool,
    },
    /// Now, or up to `max_past` before.
    Now {
        max_past: Duration,
    },
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct ColumnOptions {
    pub name: String,
    pub kind: ColumnKind,
    /// From 0 to 1.
    pub null_rate: f64,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct TableOptions {
    pub partitions: u64,
    pub rows_total: Option<u64>,
    pub rows_per_second: u64,
    columns: Vec<ColumnOptions>,
}

impl TableOptions {
    /// The first finding, if there is one.
    pub fn parse(options: &Options, schema: &SchemaRef) -> Result<TableOptions, Diagnostic> {
        let columns = schema.fields().iter().map(|field| column_options(options, field)).collect::<Result<Vec<_>, _>>()?;
        let mut rows_total = at_least(options, NUMBER_OF_ROWS, 0)?;
        for column in &columns {
            if let ColumnKind::Sequence { start, end } = column.kind {
                // The table ends when its shortest sequence does.
                let length = u64::try_from(i128::from(end) - i128::from(start) + 1).unwrap_or(u64::MAX);
                rows_total = Some(rows_total.map_or(length, |rows| rows.min(length)));
            }
        }
        Ok(TableOptions {
            partitions: at_least(options, PARALLELISM, 1)?.unwrap_or(1),
            rows_total,
            rows_per_second: at_least(options, ROWS_PER_SECOND, 1)?.unwrap_or(10_000),
            columns,
        })
    }

    pub fn column(&self, name: &str) -> Option<&ColumnOptions> {
        self.columns.iter().find(|column| column.name == name)
    }
}

fn at_least(options: &Options, name: &str, least: i64) -> Result<Option<u64>, Diagnostic> {
    match options.integer(name)? {
        Some(number) if number < least => Err(options
            .bad_value(name, format!("option \"{name}\" cannot be \"{number}\""))
            .help(format!("use a whole number from {least}"))),
        number => Ok(number.map(i64::unsigned_abs)),
    }
}

/// The options of one column, read by name of the attribute.
struct FieldReader<'a> {
    options: &'a Options,
    field: &'a FieldRef,
}

impl FieldReader<'_> {
    fn name(&self, attribute: &str) -> String {
        format!("fields.{}.{attribute}", self.field.name())
    }

    fn parsed<T: std::str::FromStr>(&self, attribute: &str, expected: &str) -> Result<Option<T>, Diagnostic> {
        let name = self.name(attribute);
        match self.options.get(&name) {
            None => Ok(None),
            Some(text) => text.trim().parse().map(Some).map_err(|_| self.bad(attribute, expected)),
        }
    }

    fn bad(&self, attribute: &str, help: impl Into<String>) -> Diagnostic {
        let name = self.name(attribute);
        let value = self.options.get(&name).unwrap_or_default();
        self.options.bad_value(&name, format!("option \"{name}\" cannot be \"{value}\"")).help(help)
    }

    fn unsupported(&self, attribute: &str) -> Diagnostic {
        let name = self.name(attribute);
        let finding = match self.options.get(&name) {
            Some(_) => self.options.bad_value(&name, format!("option \"{name}\" does not fit the type of its column")),
            None => Diagnostic::error(
                Code::BAD_TABLE,
                format!("connector \"datagen\" cannot make values of the type of column \"{}\"", self.field.name()),
            )
            .label_opt(self.options.span, "options given here"),
        };
        finding.help("leave the column out, or compute it: name AS expression")
    }

    fn range<T: std::str::FromStr + PartialOrd + Copy + std::fmt::Display>(
        &self,
        least: T,
        most: T,
    ) -> Result<(T, T), Diagnostic> {
        let expected = format!("use a number from {least} to {most}");
        let min = self.parsed("min", &expected)?.unwrap_or(least);
        let max = self.parsed("max", &expected)?.unwrap_or(most);
        if min < least {
            return Err(self.bad("min", expected));
        }
        if max > most {
            return Err(self.bad("max", expected));
        }
        // Written so that NaN is refused too.
        match min.partial_cmp(&max) {
            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal) => Ok((min, max)),
            _ if self.options.get(&self.name("max")).is_some() => Err(self.bad("max", format!("use a number from {min}"))),
            _ => Err(self.bad("min", format!("use a number up to {max}"))),
        }
    }
}

fn column_options(options: &Options, field: &FieldRef) -> Result<ColumnOptions, Diagnostic> {
    let reader = FieldReader { options, field };
    let kind = match options.get(&reader.name("kind")) {
        None | Some("random") => random(&reader)?,
        Some("sequence") => sequence(&reader)?,
        Some(_) => return Err(reader.bad("kind", "use random or sequence")),
    };
    let null_rate: f64 = reader.parsed("null-rate", "use a number from 0 to 1")?.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&null_rate) {
        return Err(reader.bad("null-rate", "use a number from 0 to 1"));
    }
    if null_rate > 0.0 && !field.is_nullable() {
        return Err(reader.bad("null-rate", format!("column {} is NOT NULL, so leave it at 0", field.name())));
    }
    Ok(ColumnOptions { name: field.name().clone(), kind, null_rate })
}

fn sequence(reader: &FieldReader<'_>) -> Result<ColumnKind, Diagnostic> {
    let (least, most) = match reader.field.data_type() {
        DataType::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        DataType::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DataType::Decimal128(precision, scale) => (-decimal_max(*precision, *scale), decimal_max(*precision, *scale)),
        DataType::Int64 | DataType::Float32 | DataType::Float64 | DataType::Utf8 => (i64::MIN, i64::MAX),
        _ => return Err(reader.unsupported("kind")),
    };
    let expected = format!("use a whole number from {least} to {most}");
    let mut bounds = [0; 2];
    for (bound, attribute) in bounds.iter_mut().zip(["start", "end"]) {
        *bound = reader.parsed(attribute, &expected)?.ok_or_else(|| {
            let name = reader.name(attribute);
            Diagnostic::error(Code::MISSING_OPTION, format!("a sequence needs the option \"{name}\""))
                .label_opt(reader.options.value_span(&reader.name("kind")), "sequence")
                .help(format!("add '{name}' = '…'"))
        })?;
        if !(least..=most).contains(bound) {
            return Err(reader.bad(attribute, expected));
        }
    }
    let [start, end] = bounds;
    if start > end {
        return Err(reader.bad("end", format!("use a number from {start}")));
    }
    Ok(ColumnKind::Sequence { start, end })
}

/// The largest whole number of `DECIMAL(precision, scale)`, as far as it fits 64 bits.
fn decimal_max(precision: u8, scale: i8) -> i64 {
    let digits = (i32::from(precision) - i32::from(scale)).clamp(0, 18);
    10_i64.pow(digits.unsigned_abs()) - 1
}

fn random(reader: &FieldReader<'_>) -> Result<ColumnKind, Diagnostic> {
    let integers = |least: i64, most: i64| reader.range(least, most).map(|(min, max)| ColumnKind::RandomInteger { min, max });
    let floats = |least: f64, most: f64| reader.range(least, most).map(|(min, max)| ColumnKind::RandomFloat { min, max });
    match reader.field.data_type() {
        DataType::Boolean => Ok(ColumnKind::RandomBoolean),
        DataType::Int8 => integers(i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => integers(i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => integers(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => integers(i64::MIN, i64::MAX),
        DataType::Float32 => floats(f32::MIN.into(), f32::MAX.into()),
        DataType::Float64 => floats(f64::MIN, f64::MAX),
        DataType::Decimal128(precision, scale) => {
            let most = 10_f64.powi(i32::from(*precision) - i32::from(*scale));
            floats(-most, most)
        }
        DataType::Utf8 | DataType::Binary => {
            let length = at_least(reader.options, &reader.name("length"), 1)?.unwrap_or(100);
            if length > 1 << 20 {
                return Err(reader.bad("length", format!("use a whole number up to {}", 1 << 20)));
            }
            let is_variable = reader.options.boolean(&reader.name("var-len"), false)?;
            Ok(match reader.field.data_type() {
                DataType::Utf8 => ColumnKind::RandomText { length, is_variable },
                _ => ColumnKind::RandomBytes { length, is_variable },
            })
        }
        DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(_, _) => {
            let max_past = match reader.options.get(&reader.name("max-past")) {
                None => Duration::ZERO,
                Some(text) => parse_duration(text).map_err(|help| reader.bad("max-past", help))?,
            };
            Ok(ColumnKind::Now { max_past })
        }
        _ => Err(reader.unsupported("kind")),
    }
}

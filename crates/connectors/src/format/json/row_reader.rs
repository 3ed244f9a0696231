//! Reads JSON values straight into columns.

use arrow::datatypes::Fields;

use super::duplicates::overwritten_entries;
use super::layout::Layout;
use super::scanner::{Kind, Scanner, SyntaxError};
use super::text::copy_compact;
use crate::format::columns::{Column, Columns, TextRules, Values};
use crate::format::wanted::Wanted;

/// Why a record cannot become a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The text is not JSON.
    Syntax(SyntaxError),
    /// The value from byte `start` on cannot be read as what is wanted.
    Value { start: usize, wanted: Wanted },
    /// A null for a column that is NOT NULL.
    Null,
    /// No field for a column that is NOT NULL, or for any if the format was told to fail then.
    Missing,
}

impl From<SyntaxError> for Fault {
    fn from(error: SyntaxError) -> Self {
        Fault::Syntax(error)
    }
}

/// What the format's options say about reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadRules {
    pub text: TextRules,
    pub fail_on_missing_field: bool,
    /// A bad value is null where the column allows it.
    pub ignore_parse_errors: bool,
}

/// The names of a row's fields, with those of rows within: the tree that runs beside [`Columns`].
#[derive(Debug)]
pub struct Shape {
    layout: Layout,
    fields: Fields,
    children: Vec<Nested>,
}

#[derive(Debug)]
enum Nested {
    Leaf,
    Row(Shape),
    /// An array, with the shape and nullability of its items; a map, with those of its values.
    Items {
        shape: Box<Nested>,
        nullable: bool,
    },
}

impl Shape {
    pub fn new(columns: &Columns) -> Self {
        Shape {
            layout: Layout::new(columns.fields.iter().map(|field| field.name().as_str())),
            fields: columns.fields.clone(),
            children: columns.columns.iter().map(Nested::new).collect(),
        }
    }
}

impl Nested {
    fn new(column: &Column) -> Self {
        match &column.values {
            Values::Struct(columns) => Nested::Row(Shape::new(columns)),
            Values::List { item, field, .. } => {
                Nested::Items { shape: Box::new(Nested::new(item)), nullable: field.is_nullable() }
            }
            Values::Map { values, entries, .. } => {
                let nullable = match entries.data_type() {
                    arrow::datatypes::DataType::Struct(fields) => fields.get(1).is_none_or(|value| value.is_nullable()),
                    _ => true,
                };
                Nested::Items { shape: Box::new(Nested::new(values)), nullable }
            }
            _ => Nested::Leaf,
        }
    }
}

/// Reads one record. After an error the columns hold remains of the record, which the caller takes back.
pub struct RowReader<'a, 'r> {
    pub scanner: Scanner<'a>,
    pub rules: ReadRules,
    /// For strings with escapes.
    pub scratch: &'r mut String,
    /// After an error: where it is, innermost part first, such as `[3]`, `prices`.
    pub path: &'r mut Vec<String>,
}

impl RowReader<'_, '_> {
    /// Takes an object into one row of `columns`.
    pub fn row(&mut self, shape: &mut Shape, columns: &mut Columns, base: usize) -> Result<(), Fault> {
        self.scanner.enter()?;
        let mut more = self.scanner.first_item(b'}');
        let mut ordinal = 0;
        while more {
            self.scanner.field_name()?;
            let field = shape.layout.take_name(&mut self.scanner, self.scratch, &mut ordinal)?;
            self.scanner.expect(b':', "a colon")?;
            match field {
                None => self.scanner.skip_value()?,
                Some(index) => {
                    let column = &mut columns.columns[index];
                    if column.rows() > base {
                        // The name was there before in this object: the last one counts.
                        column.truncate(base);
                    }
                    let nullable = shape.fields[index].is_nullable();
                    if let Err(fault) = self.value(&mut shape.children[index], column, nullable) {
                        self.path.push(shape.fields[index].name().clone());
                        return Err(fault);
                    }
                }
            }
            more = self.scanner.next_item(b'}')?;
        }
        for (column, field) in columns.columns.iter_mut().zip(shape.fields.iter()) {
            if column.rows() == base {
                if self.rules.fail_on_missing_field || !field.is_nullable() {
                    self.path.push(field.name().clone());
                    return Err(Fault::Missing);
                }
                column.push_null();
            }
        }
        Ok(())
    }

    /// Takes a value into one row of `column`.
    fn value(&mut self, nested: &mut Nested, column: &mut Column, nullable: bool) -> Result<(), Fault> {
        let kind = self.scanner.kind()?;
        if kind == Kind::Null {
            self.scanner.word("null")?;
            if !nullable {
                return Err(Fault::Null);
            }
            column.push_null();
            return Ok(());
        }
        if !self.rules.ignore_parse_errors || !nullable {
            return self.typed_value(kind, nested, column, nullable);
        }
        let (start, base) = (self.scanner, column.rows());
        match self.typed_value(kind, nested, column, nullable) {
            Ok(()) => Ok(()),
            Err(fault @ Fault::Syntax(_)) => Err(fault),
            Err(_) => {
                self.path.clear();
                column.truncate(base);
                self.scanner = start;
                self.scanner.skip_value()?;
                column.push_null();
                Ok(())
            }
        }
    }

    /// Takes a value that is not null.
    fn typed_value(&mut self, kind: Kind, nested: &mut Nested, column: &mut Column, nullable: bool) -> Result<(), Fault> {
        let start = self.scanner.position;
        let refused = Fault::Value { start, wanted: column.wanted };
        match (&mut column.values, kind) {
            (Values::Text(strings), Kind::String) => {
                strings.push(self.scanner.string(self.scratch)?.as_bytes());
                column.validity.append_non_null();
            }
            (Values::Text(strings), Kind::Object | Kind::Array) => {
                copy_compact(&mut self.scanner, self.scratch, &mut strings.bytes)?;
                strings.close();
                column.validity.append_non_null();
            }
            (Values::Int64(values), Kind::Number) => {
                values.push(self.integer()?.ok_or(refused)?);
                column.validity.append_non_null();
            }
            (Values::Int32(values), Kind::Number) => {
                values.push(self.integer()?.and_then(|value| i32::try_from(value).ok()).ok_or(refused)?);
                column.validity.append_non_null();
            }
            (Values::Struct(columns), Kind::Object) => {
                let Nested::Row(shape) = nested else { return Err(refused) };
                let base = column.validity.len();
                self.row(shape, columns, base)?;
                column.validity.append_non_null();
            }
            (Values::List { .. }, Kind::Array) => self.array(nested, column)?,
            (Values::Map { .. }, Kind::Object) => self.map(nested, column)?,
            (Values::Struct(_) | Values::List { .. } | Values::Map { .. }, _) | (_, Kind::Object | Kind::Array) => {
                return Err(refused);
            }
            (Values::Binary(_), Kind::Number | Kind::True | Kind::False) => return Err(refused),
            _ => {
                let text = match kind {
                    Kind::String => self.scanner.string(self.scratch)?,
                    Kind::Number => self.scanner.number()?.text,
                    Kind::True => self.scanner.word("true").map(|()| "true")?,
                    _ => self.scanner.word("false").map(|()| "false")?,
                };
                let has_value = column.push_text(text, self.rules.text).map_err(|wanted| Fault::Value { start, wanted })?;
                if !has_value && !nullable {
                    return Err(refused);
                } else if !has_value {
                    column.push_null();
                }
            }
        }
        Ok(())
    }

    /// Takes a number as a whole one: a fraction is cut off, by way of DOUBLE, as Jackson does. `None` when out of range.
    fn integer(&mut self) -> Result<Option<i64>, Fault> {
        // The range of BIGINT as DOUBLE; its upper end is one beyond.
        const RANGE: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
        let number = self.scanner.number()?;
        if number.small.is_some() {
            return Ok(number.small);
        }
        if number.is_integer {
            return Ok(number.text.parse().ok());
        }
        Ok(number.text.parse::<f64>().ok().filter(|value| RANGE.contains(value)).map(|value| value as i64))
    }

    fn array(&mut self, nested: &mut Nested, column: &mut Column) -> Result<(), Fault> {
        if let (Values::List { item, .. }, Nested::Items { shape, nullable }) = (&mut column.values, nested) {
            let base = item.rows();
            self.scanner.enter()?;
            let mut more = self.scanner.first_item(b']');
            while more {
                if let Err(fault) = self.value(shape, item, *nullable) {
                    self.path.push(format!("[{}]", item.rows().saturating_sub(base)));
                    return Err(fault);
                }
                more = self.scanner.next_item(b']')?;
            }
        }
        column.close();
        Ok(())
    }

    fn map(&mut self, nested: &mut Nested, column: &mut Column) -> Result<(), Fault> {
        if let (Values::Map { keys, values, .. }, Nested::Items { shape, nullable }) = (&mut column.values, nested) {
            let (start, base) = (self.scanner, keys.rows());
            self.entries(shape, *nullable, keys, values, &[])?;
            if let Values::Text(strings) = &keys.values
                && let Some(skipped) = overwritten_entries(strings, base, keys.rows())
            {
                keys.truncate(base);
                values.truncate(base);
                self.scanner = start;
                self.entries(shape, *nullable, keys, values, &skipped)?;
            }
        }
        column.close();
        Ok(())
    }

    /// Takes an object's entries but those whose ordinals are `skipped` (in ascending order).
    fn entries(
        &mut self,
        shape: &mut Nested,
        nullable: bool,
        keys: &mut Column,
        values: &mut Column,
        mut skipped: &[usize],
    ) -> Result<(), Fault> {
        self.scanner.enter()?;
        let mut more = self.scanner.first_item(b'}');
        let mut ordinal = 0;
        while more {
            self.scanner.field_name()?;
            if skipped.first() == Some(&ordinal) {
                skipped = &skipped[1..];
                self.scanner.skip_string()?;
                self.scanner.expect(b':', "a colon")?;
                self.scanner.skip_value()?;
            } else {
                let start = self.scanner.position;
                let key = self.scanner.string(self.scratch)?;
                keys.push_text(key, self.rules.text).map_err(|wanted| Fault::Value { start, wanted })?;
                self.scanner.expect(b':', "a colon")?;
                if let Err(fault) = self.value(shape, values, nullable) {
                    self.path.push(String::from_utf8_lossy(self.scanner_text(start)).into_owned());
                    return Err(fault);
                }
            }
            ordinal += 1;
            more = self.scanner.next_item(b'}')?;
        }
        Ok(())
    }

    /// The raw text of the string that begins at `start`, without its quotes.
    fn scanner_text(&self, start: usize) -> &[u8] {
        let mut scanner = self.scanner;
        scanner.position = start;
        match scanner.skip_string() {
            Ok(()) => scanner.taken(start).get(1..).and_then(|text| text.strip_suffix(b"\"")).unwrap_or_default(),
            Err(_) => &[],
        }
    }
}

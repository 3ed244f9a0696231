//! What SHOW, DESCRIBE and SET print.

use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Field, Schema};
use thalweg_core::{Column, ColumnKind, TableDefinition};

use crate::catalog::{CatalogView, DEFAULT_CATALOG, DEFAULT_DATABASE};
use crate::settings::Settings;
use crate::types;

/// One column of names.
pub(crate) fn names(title: &str, names: Vec<&str>) -> RecordBatch {
    batch(vec![(title, Arc::new(StringArray::from(names)))])
}

/// What was set: `key`, `value`.
pub(crate) fn settings(settings: &Settings) -> RecordBatch {
    let (keys, values): (Vec<&str>, Vec<&str>) = settings.shown().unzip();
    batch(vec![("key", Arc::new(StringArray::from(keys))), ("value", Arc::new(StringArray::from(values)))])
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let arrays: Vec<ArrayRef> = columns.into_iter().map(|(_, array)| array).collect();
    let schema = Arc::new(Schema::new(fields));
    match RecordBatch::try_new(schema.clone(), arrays) {
        Ok(batch) => batch,
        // The columns are made here, one value per row each.
        Err(error) => panic!("columns of {schema} do not fit together: {error}"),
    }
}

/// As Flink's DESCRIBE: `name`, `type`, `null`, `key`, `extras`, `watermark`, and `comment` where there is one.
pub(crate) fn describe_table(table: &TableDefinition) -> RecordBatch {
    let key = match table.primary_key.is_empty() {
        true => None,
        false => Some(format!("PRI({})", table.primary_key.join(", "))),
    };
    let in_key = |column: &Column| table.primary_key.iter().any(|name| name == column.name());
    let watermark = |column: &Column| table.watermark.as_ref().filter(|watermark| watermark.column == column.name());
    let rows = &table.columns;
    let text = |value: &dyn Fn(&Column) -> Option<String>| -> ArrayRef {
        Arc::new(StringArray::from(rows.iter().map(value).collect::<Vec<Option<String>>>()))
    };
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("name", text(&|column| Some(column.name().to_string()))),
        (
            "type",
            text(&|column| {
                let rowtime = if watermark(column).is_some() { " *ROWTIME*" } else { "" };
                Some(format!("{}{rowtime}", column.sql_type))
            }),
        ),
        (
            "null",
            Arc::new(BooleanArray::from(
                rows.iter().map(|column| column.field.is_nullable() && !in_key(column)).collect::<Vec<bool>>(),
            )),
        ),
        ("key", text(&|column| key.clone().filter(|_| in_key(column)))),
        ("extras", text(&extras)),
        ("watermark", text(&|column| watermark(column).map(|watermark| watermark.sql.clone()))),
    ];
    if rows.iter().any(|column| column.comment.is_some()) {
        columns.push(("comment", text(&|column| column.comment.clone())));
    }
    batch(columns)
}

/// How a column that is not physical gets its values.
fn extras(column: &Column) -> Option<String> {
    match &column.kind {
        ColumnKind::Physical => None,
        ColumnKind::Computed { sql } => Some(format!("AS {sql}")),
        ColumnKind::Metadata { key, is_virtual } => {
            let from = if key == column.name() { String::new() } else { format!(" FROM {}", quoted_text(key)) };
            Some(format!("METADATA{from}{}", if *is_virtual { " VIRTUAL" } else { "" }))
        }
    }
}

/// The columns of a view under the names that it gives them.
pub(crate) fn describe_view(view: &CatalogView, schema: &Schema) -> RecordBatch {
    let table = TableDefinition {
        name: view.name.clone(),
        columns: schema
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let name = view.columns.get(index).unwrap_or(field.name());
                let named = field.as_ref().clone().with_name(name);
                TableDefinition::physical_column(named, types::to_sql(field.data_type()))
            })
            .collect(),
        watermark: None,
        primary_key: vec![],
        partitioned_by: vec![],
        comment: None,
        options: thalweg_core::Options::new(),
        temporary: view.temporary,
        span: None,
    };
    describe_table(&table)
}

/// A statement that declares the same table; secrets are `***` in it.
pub(crate) fn create_table(table: &TableDefinition) -> String {
    let mut lines: Vec<String> = table.columns.iter().map(column_line).collect();
    if let Some(watermark) = &table.watermark {
        lines.push(format!("WATERMARK FOR {} AS {}", quoted_name(&watermark.column), watermark.sql));
    }
    if !table.primary_key.is_empty() {
        let name = quoted_name(&format!("PK_{}", table.primary_key.join("_")));
        lines.push(format!("CONSTRAINT {name} PRIMARY KEY ({}) NOT ENFORCED", name_list(&table.primary_key)));
    }
    let temporary = if table.temporary { "TEMPORARY " } else { "" };
    let mut out = format!("CREATE {temporary}TABLE {} (\n  {}\n)", full_name(&table.name), lines.join(",\n  "));
    if let Some(comment) = &table.comment {
        let _ = write!(out, " COMMENT {}", quoted_text(comment));
    }
    if !table.partitioned_by.is_empty() {
        let _ = write!(out, "\nPARTITIONED BY ({})", name_list(&table.partitioned_by));
    }
    let options: Vec<String> =
        table.options.shown().map(|(name, value)| format!("{} = {}", quoted_text(name), quoted_text(value))).collect();
    if !options.is_empty() {
        let _ = write!(out, "\nWITH (\n  {}\n)", options.join(",\n  "));
    }
    out.push('\n');
    out
}

fn column_line(column: &Column) -> String {
    let name = quoted_name(column.name());
    let not_null = if column.field.is_nullable() { "" } else { " NOT NULL" };
    let mut line = match &column.kind {
        ColumnKind::Physical => format!("{name} {}{not_null}", column.sql_type),
        ColumnKind::Computed { sql } => format!("{name} AS {sql}"),
        ColumnKind::Metadata { .. } => {
            format!("{name} {}{not_null} {}", column.sql_type, extras(column).unwrap_or_default())
        }
    };
    if let Some(comment) = &column.comment {
        let _ = write!(line, " COMMENT {}", quoted_text(comment));
    }
    line
}

/// A statement that declares the same view.
pub(crate) fn create_view(view: &CatalogView) -> String {
    let temporary = if view.temporary { "TEMPORARY " } else { "" };
    let columns = if view.columns.is_empty() { String::new() } else { format!(" ({})", name_list(&view.columns)) };
    let comment = view.comment.as_ref().map_or(String::new(), |comment| format!(" COMMENT {}", quoted_text(comment)));
    format!("CREATE {temporary}VIEW {}{columns}{comment} AS\n{}\n", full_name(&view.name), view.query_text)
}

fn full_name(name: &str) -> String {
    format!("`{DEFAULT_CATALOG}`.`{DEFAULT_DATABASE}`.{}", quoted_name(name))
}

fn name_list(names: &[String]) -> String {
    names.iter().map(|name| quoted_name(name)).collect::<Vec<_>>().join(", ")
}

fn quoted_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

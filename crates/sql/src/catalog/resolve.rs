//! A `CREATE TABLE` statement to a [`TableDefinition`]: names, keys, watermark, LIKE. Options are checked in `validate`.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::sql::sqlparser::ast;
use thalweg_core::{Code, Column, ColumnKind, Diagnostic, Options, Span, TableDefinition, WatermarkDefinition};

use super::Catalog;
use super::like::{self, Inherited};
use crate::statement::{ColumnDeclaration, ColumnDeclarationKind, CreateTable, Expression, Name, PrimaryKeyDeclaration};
use crate::types::{self, SqlType};

/// Finds the type of an expression over columns that are known already. Given by the planner.
pub(crate) type TypeOf<'a> = &'a dyn Fn(&[Column], &Expression) -> Result<(DataType, bool), Vec<Diagnostic>>;

/// Understands a declaration.
///
/// `Column::span` is the place of a computed column's expression and of any other column's name; it is `None` for columns
/// taken over by LIKE. `WatermarkDefinition::span` is the place of its expression.
///
/// # Errors
/// `UNKNOWN_TABLE` (LIKE), `DUPLICATE_NAME`, `UNKNOWN_COLUMN`, `BAD_WATERMARK`, `BAD_TABLE`, and what `type_of` finds.
pub(crate) fn resolve(create: &CreateTable, catalog: &Catalog, type_of: TypeOf) -> Result<TableDefinition, Vec<Diagnostic>> {
    let inherited = match &create.like {
        Some(clause) => {
            let other = catalog
                .table(&clause.table.value)
                .ok_or_else(|| vec![catalog.unknown_table(&clause.table.value, Some(clause.table.span))])?;
            Some(like::inherit(clause, &other.definition).map_err(|finding| vec![finding])?)
        }
        None => None,
    };
    let mut findings = vec![];
    let mut definition = start(create, inherited.as_ref());
    add_columns(create, inherited.as_ref(), &mut definition, type_of, &mut findings);
    if findings.is_empty() {
        add_watermark(create, inherited.as_ref(), &mut definition, &mut findings);
        add_primary_key(create, &mut definition, &mut findings);
        add_partitions(create, &mut definition, &mut findings);
        add_options(create, inherited.as_ref(), &mut definition, &mut findings);
    }
    if findings.is_empty() { Ok(definition) } else { Err(findings) }
}

fn start(create: &CreateTable, inherited: Option<&Inherited>) -> TableDefinition {
    let from = inherited.map(|inherited| &inherited.definition);
    TableDefinition {
        name: create.name.value.clone(),
        columns: from.map(|other| other.columns.clone()).unwrap_or_default(),
        watermark: from.and_then(|other| other.watermark.clone()),
        primary_key: from.map(|other| other.primary_key.clone()).unwrap_or_default(),
        partitioned_by: from.map(|other| other.partitioned_by.clone()).unwrap_or_default(),
        comment: create.comment.clone().or_else(|| from.and_then(|other| other.comment.clone())),
        options: from.map(|other| other.options.clone()).unwrap_or_default(),
        temporary: create.temporary,
        span: Some(create.name.span),
    }
}

fn add_columns(
    create: &CreateTable,
    inherited: Option<&Inherited>,
    definition: &mut TableDefinition,
    type_of: TypeOf,
    findings: &mut Vec<Diagnostic>,
) {
    // Computed columns may use physical and metadata columns declared behind them, but not each other.
    let mut positions: Vec<(usize, &ColumnDeclaration)> = vec![];
    let mut declared: HashMap<&str, Span> = HashMap::new();
    for declaration in &create.columns {
        if let Some(first) = declared.insert(&declaration.name.value, declaration.name.span) {
            findings.push(duplicate_column(&declaration.name).label(first, "first time"));
            continue;
        }
        let column = declare(declaration);
        match definition.columns.iter().position(|other| other.name() == declaration.name.value) {
            Some(position)
                if inherited.is_some_and(|inherited| may_overwrite(inherited, &definition.columns[position], &column)) =>
            {
                definition.columns[position] = column;
                positions.push((position, declaration));
            }
            Some(_) => findings.push(
                duplicate_column(&declaration.name)
                    .help("the table behind LIKE has this column; leave it out here, or EXCLUDING or OVERWRITING its kind"),
            ),
            None => {
                definition.columns.push(column);
                positions.push((definition.columns.len() - 1, declaration));
            }
        }
    }
    if !findings.is_empty() {
        return;
    }
    let known: Vec<Column> =
        definition.columns.iter().filter(|column| !matches!(column.kind, ColumnKind::Computed { .. })).cloned().collect();
    for (position, declaration) in positions {
        let ColumnDeclarationKind::Computed(expression) = &declaration.kind else {
            continue;
        };
        match type_of(&known, expression) {
            Ok((data_type, nullable)) => {
                let column = &mut definition.columns[position];
                column.sql_type = computed_type(&expression.expr, &data_type);
                column.field = Arc::new(Field::new(&declaration.name.value, data_type, nullable));
            }
            Err(mut more) => findings.append(&mut more),
        }
    }
}

/// A column as declared; the type of a computed one is found later.
fn declare(declaration: &ColumnDeclaration) -> Column {
    let name = &declaration.name;
    let typed = |sql_type: &SqlType, kind: ColumnKind| Column {
        field: Arc::new(Field::new(&name.value, sql_type.data_type.clone(), sql_type.nullable)),
        sql_type: sql_type.text.clone(),
        kind,
        comment: declaration.comment.clone(),
        span: Some(name.span),
    };
    match &declaration.kind {
        ColumnDeclarationKind::Physical { sql_type } => typed(sql_type, ColumnKind::Physical),
        ColumnDeclarationKind::Metadata { sql_type, key, is_virtual } => {
            let key = key.as_ref().map_or_else(|| name.value.clone(), |key| key.value.clone());
            typed(sql_type, ColumnKind::Metadata { key, is_virtual: *is_virtual })
        }
        ColumnDeclarationKind::Computed(expression) => Column {
            field: Arc::new(Field::new(&name.value, DataType::Null, true)),
            sql_type: String::new(),
            kind: ColumnKind::Computed { sql: expression.sql.clone() },
            comment: declaration.comment.clone(),
            // That of the expression: findings about it are made from its text later.
            span: Some(expression.span),
        },
    }
}

fn may_overwrite(inherited: &Inherited, old: &Column, new: &Column) -> bool {
    match (&old.kind, &new.kind) {
        (ColumnKind::Computed { .. }, ColumnKind::Computed { .. }) => inherited.overwrite_generated,
        (ColumnKind::Metadata { .. }, ColumnKind::Metadata { .. }) => inherited.overwrite_metadata,
        _ => false,
    }
}

fn duplicate_column(name: &Name) -> Diagnostic {
    Diagnostic::error(Code::DUPLICATE_NAME, format!("column \"{}\" is declared twice", name.value))
        .label(name.span, "second time")
}

/// The type to print for a computed column. Arrow does not know a timestamp's precision: it is what the cast at the top of the
/// expression says, else 3, which is what Flink's functions that make event time return.
fn computed_type(expr: &ast::Expr, data_type: &DataType) -> String {
    if let ast::Expr::Cast { data_type: target, .. } = expr
        && let Ok(sql_type) = types::from_ast(target)
        && sql_type.data_type == *data_type
    {
        return sql_type.text;
    }
    types::to_sql(data_type).replacen("TIMESTAMP(6)", "TIMESTAMP(3)", 1).replacen("TIMESTAMP_LTZ(6)", "TIMESTAMP_LTZ(3)", 1)
}

fn add_watermark(
    create: &CreateTable,
    inherited: Option<&Inherited>,
    definition: &mut TableDefinition,
    findings: &mut Vec<Diagnostic>,
) {
    if let Some(second) = create.watermarks.get(1) {
        findings.push(
            Diagnostic::error(Code::BAD_WATERMARK, format!("table \"{}\" has more than one watermark", definition.name))
                .label(second.span, "second watermark")
                .help("a table has one event-time column; keep one WATERMARK clause"),
        );
    }
    let Some(watermark) = create.watermarks.first() else {
        return;
    };
    if definition.watermark.is_some() && !inherited.is_some_and(|inherited| inherited.overwrite_watermark) {
        findings.push(
            Diagnostic::error(Code::BAD_WATERMARK, format!("table \"{}\" inherits a watermark by LIKE", definition.name))
                .label(watermark.span, "second watermark")
                .help("write LIKE … (OVERWRITING WATERMARKS) or (EXCLUDING WATERMARKS)"),
        );
        return;
    }
    let name = &watermark.column;
    match definition.column(&name.value) {
        None => findings.push(
            Diagnostic::error(Code::BAD_WATERMARK, format!("table \"{}\" has no column \"{}\" for the watermark", definition.name, name.value))
                .label(name.span, "unknown column")
                .help_nearest(
                    &name.value,
                    definition.columns.iter().map(Column::name),
                    Some("declare the column, or name one that exists".to_string()),
                ),
        ),
        Some(column) if !is_time_attribute(column) => findings.push(
            Diagnostic::error(
                Code::BAD_WATERMARK,
                format!("column \"{}\" is {} and cannot carry a watermark", name.value, column.sql_type),
            )
            .label(name.span, "not an event time")
            .help("event time is TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to 3; declare a computed column such as ts AS CAST(… AS TIMESTAMP(3))"),
        ),
        Some(_) => {
            definition.watermark = Some(WatermarkDefinition {
                column: name.value.clone(),
                sql: watermark.expression.sql.clone(),
                span: Some(watermark.expression.span),
            });
        }
    }
}

fn is_time_attribute(column: &Column) -> bool {
    let precise = ["(0)", "(1)", "(2)", "(3)"].iter().any(|precision| column.sql_type.ends_with(precision));
    matches!(column.field.data_type(), DataType::Timestamp(..)) && precise
}

fn add_primary_key(create: &CreateTable, definition: &mut TableDefinition, findings: &mut Vec<Diagnostic>) {
    if let Some(second) = create.primary_keys.get(1) {
        findings.push(
            Diagnostic::error(Code::BAD_TABLE, format!("table \"{}\" has more than one primary key", definition.name))
                .label(second.span, "second primary key")
                .help("a key of several columns is written PRIMARY KEY (a, b) NOT ENFORCED"),
        );
    }
    let Some(PrimaryKeyDeclaration { columns, span }) = create.primary_keys.first() else {
        return;
    };
    if !definition.primary_key.is_empty() {
        findings.push(
            Diagnostic::error(Code::BAD_TABLE, format!("table \"{}\" inherits a primary key by LIKE", definition.name))
                .label(*span, "second primary key")
                .help("write LIKE … (EXCLUDING CONSTRAINTS)"),
        );
        return;
    }
    for (index, name) in columns.iter().enumerate() {
        let column = definition.column(&name.value);
        if columns[..index].iter().any(|earlier| earlier.value == name.value) {
            findings.push(
                Diagnostic::error(Code::DUPLICATE_NAME, format!("column \"{}\" is in the primary key twice", name.value))
                    .label(name.span, "second time"),
            );
        } else if let Some(column) = column {
            if column.kind != ColumnKind::Physical {
                findings.push(
                    Diagnostic::error(
                        Code::BAD_TABLE,
                        format!("column \"{}\" of the primary key is not a field of the record", name.value),
                    )
                    .label(name.span, "computed or metadata column")
                    .help("a primary key names physical columns"),
                );
            }
        } else {
            findings.push(unknown_column(definition, name));
        }
    }
    definition.primary_key = columns.iter().map(|name| name.value.clone()).collect();
}

fn add_partitions(create: &CreateTable, definition: &mut TableDefinition, findings: &mut Vec<Diagnostic>) {
    if create.partitioned_by.is_empty() {
        return;
    }
    for (index, name) in create.partitioned_by.iter().enumerate() {
        match definition.column(&name.value) {
            None => findings.push(unknown_column(definition, name)),
            Some(column) if column.kind != ColumnKind::Physical => findings.push(
                Diagnostic::error(Code::BAD_TABLE, format!("partition column \"{}\" is not a field of the record", name.value))
                    .label(name.span, "computed or metadata column")
                    .help("partition by physical columns; compute the value in the INSERT"),
            ),
            Some(_) if create.partitioned_by[..index].iter().any(|earlier| earlier.value == name.value) => findings.push(
                Diagnostic::error(Code::DUPLICATE_NAME, format!("column \"{}\" is in PARTITIONED BY twice", name.value))
                    .label(name.span, "second time"),
            ),
            Some(_) => {}
        }
    }
    let physical = definition.columns.iter().filter(|column| column.kind == ColumnKind::Physical).count();
    if findings.is_empty() && create.partitioned_by.len() == physical {
        findings.push(
            Diagnostic::error(Code::BAD_TABLE, format!("every column of table \"{}\" is a partition column", definition.name))
                .label(create.partitioned_by[0].span, "partitions")
                .help("leave at least one column to be written into the files"),
        );
    }
    definition.partitioned_by = create.partitioned_by.iter().map(|name| name.value.clone()).collect();
}

fn unknown_column(definition: &TableDefinition, name: &Name) -> Diagnostic {
    Diagnostic::error(Code::UNKNOWN_COLUMN, format!("table \"{}\" has no column \"{}\"", definition.name, name.value))
        .label(name.span, "unknown column")
        .help_nearest(&name.value, definition.columns.iter().map(Column::name), None)
}

fn add_options(
    create: &CreateTable,
    inherited: Option<&Inherited>,
    definition: &mut TableDefinition,
    findings: &mut Vec<Diagnostic>,
) {
    for (name, value) in create.options.iter() {
        if definition.options.get(name).is_some() && !inherited.is_some_and(|inherited| inherited.overwrite_options) {
            findings.push(
                Diagnostic::error(Code::DUPLICATE_NAME, format!("option \"{name}\" is inherited by LIKE"))
                    .label_opt(create.options.key_span(name), "given again")
                    .help("write LIKE … (OVERWRITING OPTIONS) or (EXCLUDING OPTIONS)"),
            );
            continue;
        }
        copy_option(&create.options, name, value, &mut definition.options);
    }
    definition.options.span = create.options.span.or(Some(create.name.span));
}

fn copy_option(from: &Options, name: &str, value: &str, to: &mut Options) {
    to.insert_at(name, value, from.key_span(name), from.value_span(name));
    if from.is_secret(name) {
        to.mark_secret(name);
    }
}

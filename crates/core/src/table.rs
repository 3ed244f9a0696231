//! A table as the user declared it.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};

use crate::{Options, Span};

/// Where the values of a column come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ColumnKind {
    /// A field of the record.
    Physical,
    /// Something the connector knows of the record, such as its Kafka offset. `virtual` columns are not written.
    Metadata { key: String, is_virtual: bool },
    /// An expression over the other columns, evaluated when the table is read; never written.
    /// `sql` is the expression's text.
    Computed { sql: String },
}

/// A declared column. `field` has the Arrow type; `sql_type` is the type as Flink prints it, such as `TIMESTAMP(3)`.
///
/// Types: BOOLEAN Boolean; TINYINT to BIGINT Int8 to Int64; FLOAT, DOUBLE Float32, Float64; DECIMAL(p,s) Decimal128(p,s);
/// CHAR, VARCHAR, STRING Utf8; BINARY, VARBINARY, BYTES Binary; DATE Date32; TIME(p) Time64(us);
/// TIMESTAMP(p) Timestamp(us) for p <= 6, else Timestamp(ns); TIMESTAMP_LTZ(p) the same with time zone "UTC";
/// ARRAY List(item); MAP Map(entries: key, value); ROW Struct.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    pub field: FieldRef,
    pub sql_type: String,
    pub kind: ColumnKind,
    pub comment: Option<String>,
    pub span: Option<Span>,
}

impl Column {
    pub fn name(&self) -> &str {
        self.field.name()
    }
}

/// `WATERMARK FOR column AS sql`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatermarkDefinition {
    pub column: String,
    /// The text of the expression over the columns of the table.
    pub sql: String,
    pub span: Option<Span>,
}

/// `CREATE TABLE`, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableDefinition {
    pub name: String,
    pub columns: Vec<Column>,
    pub watermark: Option<WatermarkDefinition>,
    /// Names of the columns of `PRIMARY KEY … NOT ENFORCED`; empty when there is none.
    pub primary_key: Vec<String>,
    pub partitioned_by: Vec<String>,
    pub comment: Option<String>,
    pub options: Options,
    pub temporary: bool,
    pub span: Option<Span>,
}

impl TableDefinition {
    /// All columns in declared order: what a query sees.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>()))
    }

    /// The physical columns in declared order: what the format sees.
    pub fn physical_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(
            self.columns
                .iter()
                .filter(|column| column.kind == ColumnKind::Physical)
                .map(|column| column.field.clone())
                .collect::<Vec<_>>(),
        ))
    }

    /// The columns that an INSERT fills: physical ones and metadata that is not virtual, in declared order.
    pub fn writable_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns
            .iter()
            .filter(|column| matches!(column.kind, ColumnKind::Physical | ColumnKind::Metadata { is_virtual: false, .. }))
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name() == name)
    }

    pub fn connector(&self) -> Option<&str> {
        self.options.get("connector")
    }

    /// A column of this name and type, physical, with nothing else known: for tests and generated tables.
    pub fn physical_column(field: Field, sql_type: impl Into<String>) -> Column {
        Column { field: Arc::new(field), sql_type: sql_type.into(), kind: ColumnKind::Physical, comment: None, span: None }
    }
}

//! The node that reads a table: what is decoded, what is computed, and the watermark.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::logical_expr::{Expr as LogicalExpr, cast};
use datafusion::sql::planner::PlannerContext;
use thalweg_core::{Code, ColumnKind, Diagnostic, ScanField, TableDefinition};
use thalweg_plan::{Input, NodeKind, Normalize, Properties, SourceNode, StateLifetime, TimeAttribute, TimeKind, Watermark};

use super::bounded::{gives_upserts, is_bounded};
use super::context::Binder;
use super::error::finding;
use super::lower::{Lowering, by_keys};
use super::processing_time::proctimes;
use super::{PlannerInput, check, expression, optimize, rewrite};

/// Computed columns may name computed columns; a chain longer than this is a circle.
const COMPUTED_DEPTH_MAX: usize = 32;

/// A source that is in the plan.
#[derive(Clone, Debug)]
pub(crate) struct BuiltSource {
    pub(crate) node: usize,
    /// Its columns, as positions among those of the table.
    pub(crate) columns: Vec<usize>,
}

/// Binds an expression of a table's declaration over `columns`.
pub(crate) fn table_expression(
    input: &PlannerInput,
    columns: SchemaRef,
    sql: &str,
) -> Result<(LogicalExpr, DFSchemaRef), Diagnostic> {
    let parsed = (input.parse_expression)(sql)?;
    let binder = Binder::detached(input);
    let mut refusals = check::check(&parsed);
    let rewritten = rewrite::rewrite_expression(parsed, input.rewrite);
    refusals.extend(check::unknown_functions(&rewritten, binder.functions()));
    if let Some(refusal) = refusals.into_iter().next() {
        return Err(without_places(refusal));
    }
    let schema = Arc::new(DFSchema::try_from(columns).map_err(|error| without_places(finding(&error, None)))?);
    let bound = binder
        .planner()
        .sql_to_expr(rewritten, &schema, &mut PlannerContext::new())
        .and_then(|bound| optimize::optimise_expression(bound, &schema))
        .map_err(|error| without_places(finding(&error, None)))?;
    Ok((bound, schema))
}

fn without_places(finding: Diagnostic) -> Diagnostic {
    Diagnostic { labels: vec![], ..finding }
}

impl Lowering<'_> {
    /// The one source of a table, with the columns that any query of the job needs. `name` is its [`super::lower::scan_key`].
    pub(crate) fn source(&mut self, name: &str) -> Result<BuiltSource, Diagnostic> {
        if let Some(built) = self.sources.get(name) {
            return Ok(built.clone());
        }
        let (table, needed) = self.needed.get(name).cloned().expect("all scans were collected");
        let is_upserts = gives_upserts(&table);
        let mut needed = needed;
        if is_upserts {
            needed.extend(table.columns.iter().enumerate().filter(|(_, column)| is_key(&table, column.name())).map(|(at, _)| at));
        }
        let scan = TableScan::new(self.input, &table, needed)?;
        let columns: Vec<usize> = scan.columns.iter().copied().collect();
        let (fields, raw) = scan.decoded()?;
        let project = scan.project(&raw)?;
        let rows: SchemaRef = Arc::new(Schema::new(
            columns
                .iter()
                .zip(&project)
                .map(|(column, expr)| {
                    let declared = &table.columns[*column];
                    let nullable = match declared.kind {
                        ColumnKind::Computed { .. } => expr.nullable,
                        _ => declared.field.is_nullable(),
                    };
                    declared.field.as_ref().clone().with_data_type(expr.data_type.clone()).with_nullable(nullable)
                })
                .collect::<Vec<_>>(),
        ));
        // Of a deletion only the key is there.
        let schema = match is_upserts {
            true => Arc::new(Schema::new(rows.fields().iter().map(|field| freed(&table, field)).collect::<Vec<_>>())),
            false => rows.clone(),
        };
        let watermark = scan.watermark(&columns, &schema)?;
        let properties = Properties {
            updating: false,
            upsert_key: None,
            time_attributes: watermark
                .iter()
                .map(|watermark| TimeAttribute { column: watermark.time_column, kind: TimeKind::Event })
                .chain(proctimes(&project))
                .collect(),
            window: None,
            state: StateLifetime::Stateless,
            bounded: is_bounded(&table),
        };
        let kind = NodeKind::Source(SourceNode { table: (*table).clone(), fields, project, watermark });
        let time_attributes = properties.time_attributes.clone();
        let bounded = properties.bounded;
        let mut node = self.add(kind, vec![], schema, properties, None);
        if is_upserts {
            let keys: Vec<usize> = (0..rows.fields().len()).filter(|column| is_key(&table, rows.field(*column).name())).collect();
            let properties = Properties {
                updating: true,
                upsert_key: Some(keys.clone()),
                time_attributes,
                window: None,
                state: StateLifetime::Forever,
                bounded,
            };
            let edge = Input { node, exchange: by_keys(&keys) };
            node = self.add(NodeKind::Normalize(Normalize { keys }), vec![edge], rows, properties, None);
        }
        let built = BuiltSource { node, columns };
        self.sources.insert(name.to_string(), built.clone());
        Ok(built)
    }
}

fn is_key(table: &TableDefinition, name: &str) -> bool {
    table.primary_key.iter().any(|key| key == name)
}

/// A field of a table of upserts, which may be null where it is not of the key.
fn freed(table: &TableDefinition, field: &FieldRef) -> FieldRef {
    match is_key(table, field.name()) {
        true => field.clone(),
        false => Arc::new(field.as_ref().clone().with_nullable(true)),
    }
}

/// A table with the columns that leave its source.
struct TableScan<'a> {
    input: &'a PlannerInput<'a>,
    table: &'a TableDefinition,
    /// Positions of the columns that leave the source: those that queries need and those that the watermark needs.
    columns: BTreeSet<usize>,
    /// The watermark's expression over the columns of the table.
    watermark: Option<LogicalExpr>,
}

impl<'a> TableScan<'a> {
    fn new(input: &'a PlannerInput<'a>, table: &'a TableDefinition, needed: BTreeSet<usize>) -> Result<Self, Diagnostic> {
        let mut columns = needed;
        let mut watermark = None;
        if let Some(declared) = &table.watermark {
            let context = |error: Diagnostic| {
                let message = format!("watermark of table \"{}\": {}", table.name, error.message);
                Diagnostic { message, ..error }
            };
            let (expr, schema) = table_expression(input, table.schema(), &declared.sql).map_err(context)?;
            columns.extend(expr.column_refs().into_iter().filter_map(|column| schema.maybe_index_of_column(column)));
            let time_column = table.columns.iter().position(|column| column.name() == declared.column);
            columns.insert(time_column.ok_or_else(|| {
                let message = format!("the watermark of table \"{}\" is for an unknown column", table.name);
                Diagnostic::error(Code::BAD_WATERMARK, message)
            })?);
            watermark = Some(expr);
        }
        if columns.is_empty() {
            // Rows that are only counted still need a column to be decoded.
            let first = table.columns.iter().position(|column| !matches!(column.kind, ColumnKind::Computed { .. }));
            columns.extend(first);
        }
        Ok(TableScan { input, table, columns, watermark })
    }

    /// What a column is over the decoded fields: itself, or its expression with computed columns put in place.
    fn expression(&self, column: usize, depth: usize) -> Result<LogicalExpr, Diagnostic> {
        let declared = &self.table.columns[column];
        let ColumnKind::Computed { sql } = &declared.kind else {
            return Ok(LogicalExpr::Column(Column::new_unqualified(declared.name())));
        };
        let context = |error: Diagnostic| {
            let message = format!("computed column \"{}\" of table \"{}\": {}", declared.name(), self.table.name, error.message);
            Diagnostic { message, ..error }
        };
        if depth > COMPUTED_DEPTH_MAX {
            return Err(context(Diagnostic::error(Code::BAD_TABLE, "it is computed from itself")));
        }
        let (expr, schema) = table_expression(self.input, self.table.schema(), sql).map_err(context)?;
        let mut inner = std::collections::HashMap::new();
        for used in expr.column_refs() {
            if let Some(position) = schema.maybe_index_of_column(used) {
                inner.insert(used.clone(), self.expression(position, depth + 1)?);
            }
        }
        let replaced = expr.transform_up(|part| {
            Ok(match &part {
                LogicalExpr::Column(used) => match inner.get(used) {
                    Some(replacement) => Transformed::yes(replacement.clone()),
                    None => Transformed::no(part),
                },
                _ => Transformed::no(part),
            })
        });
        Ok(replaced.expect("replacing columns cannot fail").data)
    }

    /// The fields that the connector decodes, in declared order.
    fn decoded(&self) -> Result<(Vec<ScanField>, DFSchema), Diagnostic> {
        let mut names = BTreeSet::new();
        for column in &self.columns {
            let expr = self.expression(*column, 0)?;
            names.extend(expr.column_refs().into_iter().map(|used| used.name.clone()));
        }
        if names.is_empty() {
            // Rows that are only counted, or only get the clock's time, still need a column to be decoded.
            let is_read = |column: &&thalweg_core::Column| !matches!(column.kind, ColumnKind::Computed { .. });
            names.extend(self.table.columns.iter().find(is_read).map(|column| column.name().to_string()));
        }
        let fields: Vec<ScanField> = self
            .table
            .columns
            .iter()
            .filter(|column| names.contains(column.name()))
            .filter_map(|column| match &column.kind {
                ColumnKind::Physical => Some(ScanField::Physical(match gives_upserts(self.table) {
                    true => freed(self.table, &column.field),
                    false => column.field.clone(),
                })),
                ColumnKind::Metadata { key, .. } => Some(ScanField::Metadata { key: key.clone(), field: column.field.clone() }),
                ColumnKind::Computed { .. } => None,
            })
            .collect();
        let raw = Schema::new(fields.iter().map(|field| field.field().clone()).collect::<Vec<_>>());
        let raw = DFSchema::try_from(raw).map_err(|error| finding(&error, None))?;
        Ok((fields, raw))
    }

    fn project(&self, raw: &DFSchema) -> Result<Vec<thalweg_plan::Expr>, Diagnostic> {
        self.columns
            .iter()
            .map(|column| {
                let declared = &self.table.columns[*column];
                let expr = self.expression(*column, 0)?;
                let what = format!("column \"{}\" of table \"{}\"", declared.name(), self.table.name);
                let planned = expression::create(&expr, raw, &what)?;
                if planned.data_type == *declared.field.data_type() {
                    return Ok(planned);
                }
                expression::create(&cast(expr, declared.field.data_type().clone()), raw, &what)
            })
            .collect()
    }

    fn watermark(&self, columns: &[usize], schema: &SchemaRef) -> Result<Option<Watermark>, Diagnostic> {
        let (Some(declared), Some(expr)) = (&self.table.watermark, &self.watermark) else {
            return Ok(None);
        };
        let output = DFSchema::try_from(schema.clone()).map_err(|error| finding(&error, None))?;
        let what = format!("watermark of table \"{}\"", self.table.name);
        let expr = expression::create(expr, &output, &what)?;
        let time_column = columns.iter().position(|column| self.table.columns[*column].name() == declared.column);
        let time_column = time_column.expect("the time column is always among the columns");
        let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..));
        if !is_time(&expr.data_type) || !is_time(schema.field(time_column).data_type()) {
            let message = format!("{what} must be a timestamp for a timestamp column");
            return Err(Diagnostic::error(Code::BAD_WATERMARK, message).label_opt(declared.span, "declared here"));
        }
        let own_timeout = self.table.options.duration("scan.watermark.idle-timeout")?;
        let own_timeout_ms = own_timeout.map(|timeout| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX));
        // Zero is Flink's word for never.
        let idle_timeout_ms = own_timeout_ms.or(self.input.idle_timeout_ms).filter(|ms| *ms > 0);
        Ok(Some(Watermark { time_column, expr, idle_timeout_ms, stamps_rows: false }))
    }
}

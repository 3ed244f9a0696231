//! From an optimised logical plan to nodes of the streaming plan.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, ScalarValue};
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan, TableScan, UserDefinedLogicalNode, Values};
use thalweg_core::{Code, Diagnostic, Span, TableDefinition};
use thalweg_plan::{
    AssignWindow, Exchange, Input, Node, NodeKind, OperatorId, Plan, Properties, Session, SessionWindow, StateLifetime,
    TimeAttribute, TimeKind, TimeZoneRule, Window, WindowColumns,
};

use super::context::ScannedTable;
use super::relation::{Origin, PendingKind, PendingWindow, Relation, WindowPart};
use super::set_operation_node::SetOperationNode;
use super::source::BuiltSource;
use super::state_ttl::StateTtlNode;
use super::system_time::SystemTimeNode;
use super::unnest_node::UnnestNode;
use super::window_node::{CallKind, WindowNode, window_fields};
use super::{PlannerInput, empty_input, expression, span};

/// Builds one streaming plan from one or more logical plans.
pub(crate) struct Lowering<'a> {
    pub(crate) input: &'a PlannerInput<'a>,
    pub(crate) plan: Plan,
    /// The tables that are read, by [`scan_key`], with the positions of the columns that any of the logical plans needs.
    pub(crate) needed: HashMap<String, (Arc<TableDefinition>, BTreeSet<usize>)>,
    pub(crate) sources: HashMap<String, BuiltSource>,
}

impl<'a> Lowering<'a> {
    /// Looks through all of `logical_plans` for what they read; they are then lowered one by one.
    pub(crate) fn new<'p>(input: &'a PlannerInput<'a>, logical_plans: impl IntoIterator<Item = &'p LogicalPlan>) -> Self {
        let mut needed: HashMap<String, (Arc<TableDefinition>, BTreeSet<usize>)> = HashMap::new();
        for logical in logical_plans {
            let _ = logical.apply(|node| {
                if let LogicalPlan::TableScan(scan) = node
                    && let Some(table) = scan.source.downcast_ref::<ScannedTable>()
                {
                    let entry =
                        needed.entry(scan_key(&table.definition)).or_insert_with(|| (table.definition.clone(), BTreeSet::new()));
                    entry.1.extend(scanned_columns(scan));
                }
                Ok(TreeNodeRecursion::Continue)
            });
        }
        let plan = Plan { ignores_unmatched: input.ignores_unmatched, ..Plan::default() };
        Lowering { input, plan, needed, sources: HashMap::new() }
    }

    pub(crate) fn lower(&mut self, logical: &LogicalPlan) -> Result<Relation, Diagnostic> {
        self.lower_needed(logical, None)
    }

    /// As [`Lowering::lower`]. `needed` are the columns that are used above; all if not known. The others may be wrong.
    fn lower_needed(&mut self, logical: &LogicalPlan, needed: Option<&BTreeSet<usize>>) -> Result<Relation, Diagnostic> {
        match logical {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => {
                Ok(Relation { schema: alias.schema.clone(), ..self.lower_needed(&alias.input, needed)? })
            }
            LogicalPlan::Projection(projection) => {
                let columns = projection.expr.iter().flat_map(LogicalExpr::column_refs);
                let used = columns.filter_map(|column| projection.input.schema().maybe_index_of_column(column)).collect();
                let relation = self.lower_needed(&projection.input, Some(&used))?;
                self.project(relation, &projection.expr, &projection.schema)
            }
            LogicalPlan::Filter(filter) => {
                if let Some(ranked) = self.ranked(filter, needed)? {
                    return Ok(ranked);
                }
                let schema = filter.input.schema();
                let read = filter.predicate.column_refs().into_iter().filter_map(|column| schema.maybe_index_of_column(column));
                let needed = needed.map(|needed| needed.iter().copied().chain(read).collect());
                let relation = self.lower_needed(&filter.input, needed.as_ref())?;
                self.filter(relation, &filter.predicate)
            }
            LogicalPlan::Window(window) => self.over(window),
            LogicalPlan::Sort(sort) => self.sort(sort),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Aggregate(aggregate) => {
                let relation = self.lower(&aggregate.input)?;
                let relation = self.aggregate(relation, aggregate)?;
                self.apply_hints(relation.node, &[&aggregate.input]);
                Ok(relation)
            }
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => {
                let rows = usize::from(empty.produce_one_row);
                let columns: Vec<ArrayRef> = empty
                    .schema
                    .fields()
                    .iter()
                    .map(|field| datafusion::arrow::array::new_null_array(field.data_type(), rows))
                    .collect();
                self.values_node(columns, empty.schema.clone(), rows)
            }
            LogicalPlan::Join(join) => {
                let simpler = empty_input::without_empty_side(join).map_err(|error| super::error::finding(&error, None))?;
                if let Some(simpler) = simpler {
                    return self.lower_needed(&simpler, needed);
                }
                let relation = self.join(join, needed)?;
                match join.join_type {
                    JoinType::RightSemi | JoinType::RightAnti => self.apply_hints(relation.node, &[&join.right, &join.left]),
                    _ => self.apply_hints(relation.node, &[&join.left, &join.right]),
                }
                Ok(relation)
            }
            LogicalPlan::Extension(extension) => self.extension(&*extension.node),
            other => Err(not_yet(&kind_of(other), span::of_exprs(&other.expressions()))),
        }
    }

    fn extension(&mut self, node: &dyn UserDefinedLogicalNode) -> Result<Relation, Diagnostic> {
        let any = node.as_any();
        if let Some(window) = any.downcast_ref::<WindowNode>() {
            return self.window(window);
        }
        if let Some(operation) = any.downcast_ref::<SetOperationNode>() {
            return self.set_operation(operation);
        }
        if let Some(unnest) = any.downcast_ref::<UnnestNode>() {
            return self.unnest(unnest);
        }
        if let Some(version) = any.downcast_ref::<SystemTimeNode>() {
            return self.version(version);
        }
        if let Some(hinted) = any.downcast_ref::<StateTtlNode>() {
            let relation = self.lower(&hinted.input)?;
            return Ok(Relation { schema: node.schema().clone(), ..relation });
        }
        Err(not_yet(node.name(), None))
    }

    /// Adds a node; its id is given by the plan.
    pub(crate) fn add(
        &mut self,
        kind: NodeKind,
        inputs: Vec<Input>,
        schema: SchemaRef,
        properties: Properties,
        place: Option<Span>,
    ) -> usize {
        let properties = Properties { state: self.state_lifetime(&kind, properties.state), ..properties };
        self.plan.add(Node { id: OperatorId(String::new()), kind, inputs, schema, properties, span: place })
    }

    pub(crate) fn properties(&self, node: usize) -> &Properties {
        &self.plan.nodes[node].properties
    }

    pub(crate) fn schema(&self, node: usize) -> &SchemaRef {
        &self.plan.nodes[node].schema
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Relation, Diagnostic> {
        let Some(table) = scan.source.downcast_ref::<ScannedTable>() else {
            return Err(not_yet("this source of rows", None));
        };
        let source = self.source(&scan_key(&table.definition))?;
        let origins = scanned_columns(scan)
            .map(|column| {
                let position = source.columns.iter().position(|declared| *declared == column);
                position.map(Origin::Node).expect("all columns of all scans were collected")
            })
            .collect();
        Ok(Relation { node: source.node, schema: scan.projected_schema.clone(), origins, window: None })
    }

    fn window(&mut self, window: &WindowNode) -> Result<Relation, Diagnostic> {
        let input = self.lower(&window.input)?;
        let input = self.assign_window(input)?;
        let Some(Origin::Node(time_column)) = input.origin_of_column(&window.time_column) else {
            return Err(not_yet("a window over this column", window.call.time_place));
        };
        let place = window.call.time_place.or(window.call.place);
        let input = Relation { node: self.as_event_time(input.node, time_column, place)?, ..input };
        let is_time = self.time_kind(input.node, time_column) == Some(TimeKind::Event);
        let field = self.schema(input.node).field(time_column);
        let (true, DataType::Timestamp(_, zone)) = (is_time, field.data_type()) else {
            return Err(self.no_time_attribute(window, field));
        };
        let zone = match zone {
            Some(_) => TimeZoneRule::Zone(self.input.time_zone.clone()),
            None => TimeZoneRule::Local,
        };
        let mut origins = input.origins.clone();
        origins.extend(WindowPart::ALL.map(Origin::Window));
        let kind = match window.call.kind {
            CallKind::Aligned { kind, offset_ms, .. } => PendingKind::Aligned(Window { kind, offset_ms, zone }),
            CallKind::Session { gap_ms } => {
                let key = |column| match input.origin_of_column(column) {
                    Some(Origin::Node(key)) => Ok(key),
                    _ => Err(not_yet("PARTITION BY this column", window.call.place)),
                };
                let keys = window.keys.iter().map(key).collect::<Result<_, _>>()?;
                PendingKind::Session { window: SessionWindow { gap_ms, zone }, keys }
            }
        };
        let pending = PendingWindow { kind, call: window.call, time_column, filters: vec![] };
        Ok(Relation {
            node: input.node,
            schema: datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(window).clone(),
            origins,
            window: Some(pending),
        })
    }

    fn no_time_attribute(&self, window: &WindowNode, field: &Field) -> Diagnostic {
        let column = &window.time_column.name;
        let finding = Diagnostic::error(
            Code::NO_TIME_ATTRIBUTE,
            format!("{} needs a time attribute, and \"{column}\" is none", window.call.kind.name()),
        )
        .label_opt(window.call.time_place.or(window.call.place), "not a time attribute");
        if !matches!(field.data_type(), DataType::Timestamp(..)) {
            return finding.help(format!(
                "it is {}; a time attribute is a TIMESTAMP(3) or TIMESTAMP_LTZ(3) column with a WATERMARK",
                super::type_name::sql_type_of(field)
            ));
        }
        finding.help(format!(
            "declare it in CREATE TABLE: WATERMARK FOR {column} AS {column} - INTERVAL '5' SECOND;\n\
             a CAST or an expression makes an ordinary timestamp of a time attribute"
        ))
    }

    /// Makes a pending window a node, so that its columns exist; conditions on them follow as a filter.
    pub(crate) fn assign_window(&mut self, relation: Relation) -> Result<Relation, Diagnostic> {
        let Some(pending) = relation.window else {
            return Ok(relation);
        };
        let input = relation.node;
        let base = self.schema(input).fields().len();
        let mut fields: Vec<_> = self.schema(input).fields().iter().cloned().collect();
        fields.extend(window_fields(self.schema(input).field(pending.time_column)));
        let before = self.properties(input).clone();
        let properties = Properties {
            // As in Flink, the old time column is an ordinary timestamp from here on.
            time_attributes: vec![TimeAttribute { column: base + 2, kind: TimeKind::Event }],
            window: Some(WindowColumns { start: Some(base), end: Some(base + 1), time: Some(base + 2) }),
            upsert_key: None,
            // A session is sent when it is complete.
            updating: before.updating && matches!(pending.kind, PendingKind::Aligned(_)),
            state: match &pending.kind {
                PendingKind::Aligned(_) => StateLifetime::Stateless,
                PendingKind::Session { window, .. } => StateLifetime::UntilWatermark { ms: window.gap_ms },
            },
            ..before
        };
        let time_column = pending.time_column;
        let (kind, exchange) = match pending.kind {
            PendingKind::Aligned(window) => (NodeKind::AssignWindow(AssignWindow { window, time_column }), Exchange::Forward),
            PendingKind::Session { window, keys } => {
                let exchange = by_keys(&keys);
                let input_updating = self.properties(input).updating;
                if input_updating {
                    self.settle_changes(input);
                }
                (NodeKind::Session(Session { window, time_column, keys, aggregates: None, input_updating }), exchange)
            }
        };
        let edge = Input { node: input, exchange };
        let node = self.add(kind, vec![edge], Arc::new(Schema::new(fields)), properties, pending.call.place);
        let part = |part: WindowPart| match part {
            WindowPart::Start => base,
            WindowPart::End => base + 1,
            WindowPart::Time => base + 2,
        };
        let origins = relation
            .origins
            .iter()
            .map(|origin| match origin {
                Origin::Node(column) => Origin::Node(*column),
                Origin::Window(window) => Origin::Node(part(*window)),
            })
            .collect();
        let node = self.filter_window_columns(node, &pending.filters, &part)?;
        Ok(Relation { node, schema: relation.schema, origins, window: None })
    }

    fn union(&mut self, union: &datafusion::logical_expr::Union) -> Result<Relation, Diagnostic> {
        let names: Vec<String> = union.schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut inputs = vec![];
        for logical in &union.inputs {
            let relation = self.lower(logical)?;
            inputs.push(self.settle(relation, &names)?);
        }
        let node = self.union_all(inputs);
        Ok(whole(node, union.schema.clone()))
    }

    /// The rows of all of `inputs`, whose columns are alike.
    pub(crate) fn union_all(&mut self, inputs: Vec<usize>) -> usize {
        let fields: Vec<Field> = (0..self.schema(inputs[0]).fields().len())
            .map(|column| {
                let nullable = inputs.iter().any(|input| self.schema(*input).field(column).is_nullable());
                self.schema(inputs[0]).field(column).clone().with_nullable(nullable)
            })
            .collect();
        let all: Vec<&Properties> = inputs.iter().map(|input| self.properties(*input)).collect();
        let time_attributes = all[0]
            .time_attributes
            .iter()
            .filter(|attribute| all.iter().all(|properties| properties.time_attributes.contains(attribute)))
            .cloned()
            .collect();
        let properties = Properties {
            updating: all.iter().any(|properties| properties.updating),
            upsert_key: None,
            time_attributes,
            window: None,
            state: StateLifetime::Stateless,
            bounded: all.iter().all(|properties| properties.bounded),
        };
        let edges = inputs.into_iter().map(|node| Input { node, exchange: Exchange::Forward }).collect();
        self.add(NodeKind::Union, edges, Arc::new(Schema::new(fields)), properties, None)
    }

    fn values(&mut self, values: &Values) -> Result<Relation, Diagnostic> {
        let mut columns: Vec<Vec<ScalarValue>> = vec![vec![]; values.schema.fields().len()];
        let one_row = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            vec![],
            &RecordBatchOptions::new().with_row_count(Some(1)),
        )
        .expect("a row without columns");
        for row in &values.values {
            for (column, expr) in row.iter().enumerate() {
                let planned = expression::create(expr, &DFSchema::empty(), "a value of VALUES")?;
                let value = planned
                    .physical
                    .evaluate(&one_row)
                    .and_then(|value| value.into_array(1))
                    .and_then(|array| ScalarValue::try_from_array(&array, 0))
                    .and_then(|value| value.cast_to(values.schema.field(column).data_type()))
                    .map_err(|error| super::error::finding(&error, None))?;
                columns[column].push(value);
            }
        }
        let rows = values.values.len();
        let columns: Vec<ArrayRef> = columns
            .into_iter()
            .map(ScalarValue::iter_to_array)
            .collect::<Result<_, _>>()
            .map_err(|error| super::error::finding(&error, None))?;
        self.values_node(columns, values.schema.clone(), rows)
    }

    /// Rows that stand in the query. A row without columns gets one that nobody reads, so that it can be counted.
    fn values_node(
        &mut self,
        mut columns: Vec<ArrayRef>,
        schema: datafusion::common::DFSchemaRef,
        rows: usize,
    ) -> Result<Relation, Diagnostic> {
        let mut fields: Vec<Field> = schema
            .fields()
            .iter()
            .zip(&columns)
            .map(|(field, column)| {
                let nullable = field.is_nullable() || column.null_count() > 0;
                field.as_ref().clone().with_data_type(column.data_type().clone()).with_nullable(nullable)
            })
            .collect();
        let width = fields.len();
        if columns.is_empty() {
            fields.push(Field::new("row", DataType::Int32, false));
            columns.push(Arc::new(Int32Array::from_iter_values(0..i32::try_from(rows).unwrap_or(i32::MAX))));
        }
        let node_schema = Arc::new(Schema::new(fields));
        let batch =
            RecordBatch::try_new(node_schema.clone(), columns).map_err(|error| super::error::finding(&error.into(), None))?;
        let properties = Properties { bounded: true, ..Properties::default() };
        let node = self.add(NodeKind::Values(batch), vec![], node_schema, properties, None);
        Ok(Relation { node, schema, origins: (0..width).map(Origin::Node).collect(), window: None })
    }
}

/// Rows of equal keys to one lane.
pub(crate) fn by_keys(keys: &[usize]) -> Exchange {
    if keys.is_empty() { Exchange::Single } else { Exchange::Hash(keys.to_vec()) }
}

/// A relation whose logical columns are the node's.
pub(crate) fn whole(node: usize, schema: datafusion::common::DFSchemaRef) -> Relation {
    let origins = (0..schema.fields().len()).map(Origin::Node).collect();
    Relation { node, schema, origins, window: None }
}

/// What makes two scans one source: the table, and the options that a hint may have given it.
pub(crate) fn scan_key(table: &TableDefinition) -> String {
    let options = table.options.iter().map(|(name, value)| format!("\0{name}\0{value}"));
    std::iter::once(table.name.clone()).chain(options).collect()
}

fn scanned_columns(scan: &TableScan) -> impl Iterator<Item = usize> + '_ {
    let all = 0..scan.source.schema().fields().len();
    let chosen = scan.projection.as_ref().map(|columns| columns.iter().copied());
    chosen.into_iter().flatten().chain(all.filter(|_| scan.projection.is_none()))
}

pub(crate) fn not_yet(what: &str, place: Option<Span>) -> Diagnostic {
    Diagnostic::error(Code::NOT_YET, format!("{what} does not run yet")).label_opt(place, "this")
}

fn kind_of(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::Sort(_) => "ORDER BY".to_string(),
        LogicalPlan::Limit(_) => "LIMIT".to_string(),
        LogicalPlan::Window(_) => "an OVER window".to_string(),
        LogicalPlan::Distinct(_) => "SELECT DISTINCT".to_string(),
        other => {
            let text = other.display().to_string();
            text.split([':', ' ']).next().unwrap_or("this part of the query").to_string()
        }
    }
}

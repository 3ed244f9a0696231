//! A grouping by the columns of a pending window.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction as LogicalCall, AggregateFunctionParams};
use datafusion::logical_expr::{Aggregate, Expr as LogicalExpr};
use thalweg_core::{Code, Diagnostic};
use thalweg_plan::{
    AggregateCall, AggregateFunction, Expr, Input, NodeKind, Properties, Session, StateLifetime, TimeAttribute, TimeKind,
    WindowAggregate, WindowColumns, WindowKind,
};

use super::aggregate_function;
use super::lower::{Lowering, by_keys, not_yet};
use super::project::ProjectBuilder;
use super::relation::{Origin, PendingKind, PendingWindow, Relation, WindowPart};
use super::window_again::{Earlier, instant_of};
use super::window_call::not_multiple;
use super::window_node::{CallKind, window_fields};
use super::{span, text};

/// What a group expression is.
enum Group {
    /// A column of the window, bare.
    Window(WindowPart),
    /// Computed from the window's columns alone: the same for all rows of a window, so it is made after the aggregate.
    OfWindow,
    /// Position among the keys.
    Key(usize),
}

impl Lowering<'_> {
    /// Lowers a grouping over a window whose start and end are both among the group's columns.
    pub(crate) fn aggregate(&mut self, relation: Relation, aggregate: &Aggregate) -> Result<Relation, Diagnostic> {
        if let [LogicalExpr::GroupingSet(_)] = aggregate.group_expr.as_slice() {
            return self.grouping_sets(relation, aggregate);
        }
        let relation = self.session_of_other_keys(relation, aggregate)?;
        let place = span::union(span::of_exprs(&aggregate.group_expr), span::of_exprs(&aggregate.aggr_expr));
        let groups_by =
            |part: WindowPart| aggregate.group_expr.iter().any(|group| relation.origin_of(group) == Some(Origin::Window(part)));
        let mut earlier = None;
        let pending = match &relation.window {
            Some(pending) if groups_by(WindowPart::Start) && groups_by(WindowPart::End) => {
                check_multiple(pending)?;
                let pending = pending.clone();
                if leaves_gaps(&pending) || !self.fits_slices(&relation, aggregate) {
                    return self.groups_of_pending(relation, &pending, aggregate, place);
                }
                pending
            }
            _ => match self.earlier_window(&relation, aggregate) {
                Earlier::None => return self.group_aggregate(relation, aggregate, place),
                Earlier::Lost => return Err(over_earlier_window(place)),
                Earlier::Bounds(bounds) if !self.fits_slices(&relation, aggregate) => {
                    return self.groups_of_windows(&relation, bounds, aggregate, (0, place));
                }
                Earlier::Bounds(bounds) => {
                    earlier = Some(bounds);
                    instant_of(bounds)
                }
            },
        };

        let mut inputs = InputColumns::new(&relation, aggregate);
        let mut groups = vec![];
        let mut keys = vec![];
        for group in &aggregate.group_expr {
            groups.push(match relation.origin_of(group) {
                Some(Origin::Window(part)) => Group::Window(part),
                _ if !group.column_refs().is_empty()
                    && relation.all_origins(group, |origin| matches!(origin, Origin::Window(_))) =>
                {
                    Group::OfWindow
                }
                _ => {
                    keys.push(inputs.column(self, group, &group.schema_name().to_string())?);
                    Group::Key(keys.len() - 1)
                }
            });
        }
        let first_call = aggregate.group_expr.len();
        let mut calls = vec![];
        for (index, call) in aggregate.aggr_expr.iter().enumerate() {
            let output = aggregate.schema.field(first_call + index);
            calls.push(self.call(call, output, &mut inputs)?);
        }
        let time_column = inputs.pass(self, pending.time_column);
        let bounds = earlier.map(|bounds| [bounds.start, bounds.end].map(|column| inputs.pass(self, column)));
        let bounds = bounds.map(|bounds| bounds.map(|column| keys.iter().position(|key| *key == column)));
        let node = inputs.finish(self);
        let node = self.window_aggregate(node, &pending.kind, (time_column, keys, calls), place);

        let key_count = groups.iter().filter(|group| matches!(group, Group::Key(_))).count();
        if let Some([start, end]) = bounds {
            // The window is the one of the inner query, whose bounds are keys.
            let properties = &mut self.plan.nodes[node].properties;
            properties.upsert_key = Some((0..key_count).collect());
            properties.window = properties.window.take().map(|window| WindowColumns { start, end, ..window });
        }
        let call_count = aggregate.aggr_expr.len();
        let part_at = move |part: WindowPart| key_count + call_count + part as usize;
        let node = self.filter_window_columns(node, &pending.filters, &part_at)?;
        self.after_aggregate(&relation, aggregate, node, (&groups, &part_at))
    }

    fn window_aggregate(
        &mut self,
        input: usize,
        window: &PendingKind,
        (time_column, keys, aggregates): (usize, Vec<usize>, Vec<AggregateCall>),
        place: Option<thalweg_core::Span>,
    ) -> usize {
        let schema = self.schema(input);
        let mut fields: Vec<_> = keys.iter().map(|key| schema.fields()[*key].clone()).collect();
        fields.extend(aggregates.iter().map(|call| call.output.clone()));
        fields.extend(window_fields(schema.field(time_column)));
        let start = keys.len() + aggregates.len();
        let before = self.properties(input);
        let properties = Properties {
            updating: false,
            upsert_key: Some((0..keys.len()).chain([start, start + 1]).collect()),
            time_attributes: vec![TimeAttribute { column: start + 2, kind: TimeKind::Event }],
            window: Some(WindowColumns { start: Some(start), end: Some(start + 1), time: Some(start + 2) }),
            state: StateLifetime::UntilWatermark {
                ms: match window {
                    PendingKind::Aligned(window) => window.kind.size_ms(),
                    PendingKind::Session { window, .. } => window.gap_ms,
                },
            },
            bounded: before.bounded,
        };
        let exchange = by_keys(&keys);
        let kind = match window.clone() {
            PendingKind::Aligned(window) => NodeKind::WindowAggregate(WindowAggregate { window, time_column, keys, aggregates }),
            PendingKind::Session { window, .. } => {
                NodeKind::Session(Session { window, time_column, keys, aggregates: Some(aggregates), input_updating: false })
            }
        };
        self.add(kind, vec![Input { node: input, exchange }], Arc::new(Schema::new(fields)), properties, place)
    }

    /// The logical columns of the aggregate over its node; group expressions made of window columns are computed here.
    fn after_aggregate(
        &mut self,
        relation: &Relation,
        aggregate: &Aggregate,
        node: usize,
        (groups, part_at): (&[Group], &dyn Fn(WindowPart) -> usize),
    ) -> Result<Relation, Diagnostic> {
        let key_count = groups.iter().filter(|group| matches!(group, Group::Key(_))).count();
        let mut origins: Vec<Origin> = vec![];
        let mut computed = vec![];
        for (index, group) in groups.iter().enumerate() {
            match group {
                Group::Window(part) => origins.push(Origin::Node(part_at(*part))),
                Group::Key(key) => origins.push(Origin::Node(*key)),
                Group::OfWindow => {
                    computed.push(index);
                    origins.push(Origin::Node(0));
                }
            }
        }
        origins.extend((0..aggregate.aggr_expr.len()).map(|call| Origin::Node(key_count + call)));
        let mut node = node;
        if !computed.is_empty() {
            let window_relation = self.window_columns_of(relation, node, part_at);
            let mut project = ProjectBuilder::default();
            let width = self.schema(node).fields().len();
            for column in 0..width {
                project.column(self, node, column);
            }
            for index in computed {
                let expr = self.expression(&window_relation, &aggregate.group_expr[index], "a group's expression")?;
                let name = expr.text.clone();
                origins[index] = Origin::Node(project.push(self, node, expr, &name));
            }
            node = project.add(self, node);
        }
        Ok(Relation { node, schema: aggregate.schema.clone(), origins, window: None })
    }

    /// The logical columns of `relation` that are its window's, over the node of the aggregate.
    fn window_columns_of(&self, relation: &Relation, node: usize, part_at: &dyn Fn(WindowPart) -> usize) -> Relation {
        let mut fields = vec![];
        let mut origins = vec![];
        for ((qualifier, field), origin) in relation.schema.iter().zip(&relation.origins) {
            if let Origin::Window(part) = origin {
                fields.push((qualifier.cloned(), field.clone()));
                origins.push(Origin::Node(part_at(*part)));
            }
        }
        let schema = DFSchema::new_with_metadata(fields, Default::default()).expect("part of a valid schema");
        Relation { node, schema: Arc::new(schema), origins, window: None }
    }

    pub(crate) fn call(
        &self,
        call: &LogicalExpr,
        output: &datafusion::arrow::datatypes::Field,
        inputs: &mut InputColumns,
    ) -> Result<AggregateCall, Diagnostic> {
        let LogicalExpr::AggregateFunction(LogicalCall { func, params }) = call.clone().unalias_nested().data else {
            return Err(not_yet("this aggregate", span::of_expr(call)));
        };
        let Some(function) = aggregate_function::of(&func) else {
            return Err(not_yet(&format!("the aggregate function {}", func.name().to_uppercase()), span::of_expr(call)));
        };
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return Err(not_yet("ORDER BY or IGNORE NULLS in an aggregate", span::of_expr(call)));
        }
        let argument = match params.args.first() {
            None => None,
            // COUNT(1) counts rows, as COUNT(*) does.
            Some(LogicalExpr::Literal(value, _))
                if function == AggregateFunction::Count && !value.is_null() && !params.distinct =>
            {
                None
            }
            Some(argument) => Some(inputs.column(self, argument, &argument.schema_name().to_string())?),
        };
        let filter = match &params.filter {
            Some(filter) if is_true(filter) => None,
            Some(filter) => Some(inputs.column(self, filter, "filter")?),
            None => None,
        };
        // The smallest of the distinct values is the smallest value.
        let distinct = params.distinct && !matches!(function, AggregateFunction::Min | AggregateFunction::Max);
        Ok(AggregateCall {
            function,
            argument,
            filter,
            distinct,
            separator: (function == AggregateFunction::ListAgg).then(|| separator(&params.args)).transpose()?,
            output: Arc::new(output.clone().with_name(call_name(function, &params))),
        })
    }
}

fn over_earlier_window(place: Option<thalweg_core::Span>) -> Diagnostic {
    not_yet("a GROUP BY over windows of an inner query of which window_time is gone", place)
        .help("select window_time as well in the inner query; or group by the window where it is made")
}

/// The second argument of LISTAGG, a comma without one.
pub(crate) fn separator(args: &[LogicalExpr]) -> Result<String, Diagnostic> {
    match args.get(1) {
        None => Ok(",".to_string()),
        Some(LogicalExpr::Literal(ScalarValue::Utf8(Some(text)), _)) => Ok(text.clone()),
        Some(other) => Err(Diagnostic::error(Code::BAD_ARGUMENTS, "the separator of LISTAGG is a text in quotes")
            .label_opt(span::of_expr(other), "not a literal")),
    }
}

/// `SUM(DISTINCT amount) FILTER (WHERE big)`: the name of an aggregate's column within the plan.
fn call_name(function: AggregateFunction, params: &AggregateFunctionParams) -> String {
    let plain = |expr: &LogicalExpr| text::text(expr, &|column| column.name.clone());
    let argument = match params.args.first() {
        Some(LogicalExpr::Literal(value, _)) if function == AggregateFunction::Count && !value.is_null() => "*".to_string(),
        Some(argument) => plain(argument),
        None => "*".to_string(),
    };
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let filter = params.filter.as_ref().map_or_else(String::new, |filter| format!(" FILTER (WHERE {})", plain(filter)));
    format!("{}({distinct}{argument}){filter}", function.name())
}

/// Whether there are moments between the windows: no slice belongs to a moment there.
fn leaves_gaps(pending: &PendingWindow) -> bool {
    matches!(&pending.kind, PendingKind::Aligned(thalweg_plan::Window { kind: WindowKind::Hop { slide_ms, size_ms }, .. }) if slide_ms > size_ms)
}

/// HOP of a window call must be a whole number of slides under an aggregate, as in Flink; HOP in GROUP BY need not.
fn check_multiple(pending: &PendingWindow) -> Result<(), Diagnostic> {
    match pending.call.kind {
        CallKind::Aligned { kind: WindowKind::Hop { slide_ms, size_ms }, whole_slides, .. }
            if size_ms % slide_ms != 0 && whole_slides =>
        {
            Err(not_multiple("HOP", "slide", size_ms, slide_ms, pending.call.step_place.or(pending.call.place)))
        }
        _ => Ok(()),
    }
}

/// The columns that an aggregate reads: those of the input where it needs no others, else those of a `Project`.
pub(crate) struct InputColumns<'r> {
    relation: &'r Relation,
    project: Option<ProjectBuilder>,
}

impl<'r> InputColumns<'r> {
    pub(crate) fn new(relation: &'r Relation, aggregate: &Aggregate) -> Self {
        let of_window = |expr: &LogicalExpr| {
            !expr.column_refs().is_empty() && relation.all_origins(expr, |origin| matches!(origin, Origin::Window(_)))
        };
        let all_bare = aggregate.group_expr.iter().all(|group| relation.origin_of(group).is_some() || of_window(group))
            && aggregate.aggr_expr.iter().all(|call| match call.clone().unalias_nested().data {
                LogicalExpr::AggregateFunction(LogicalCall { func, params }) => {
                    let counts = aggregate_function::of(&func) == Some(AggregateFunction::Count) && !params.distinct;
                    let argument = params.args.iter().take(1).all(|arg| match arg {
                        LogicalExpr::Literal(value, _) => counts && !value.is_null(),
                        arg => relation.origin_of(arg).is_some(),
                    });
                    argument && params.filter.is_none_or(|filter| is_true(&filter) || relation.origin_of(&filter).is_some())
                }
                _ => false,
            });
        InputColumns { relation, project: (!all_bare).then(ProjectBuilder::default) }
    }

    /// The position of `expr`.
    pub(crate) fn column(&mut self, lowering: &Lowering, expr: &LogicalExpr, name: &str) -> Result<usize, Diagnostic> {
        match self.relation.origin_of(expr) {
            Some(Origin::Node(column)) => Ok(self.pass(lowering, column)),
            Some(Origin::Window(_)) => Err(window_argument(expr)),
            None if !self.relation.all_origins(expr, |origin| matches!(origin, Origin::Node(_))) => Err(window_argument(expr)),
            None => {
                let planned: Expr = lowering.expression(self.relation, expr, name)?;
                let text = planned.text.clone();
                let project = self.project.get_or_insert_default();
                Ok(project.find(&planned).unwrap_or_else(|| project.push(lowering, self.relation.node, planned, &text)))
            }
        }
    }

    /// The position of a column of the input.
    pub(crate) fn pass(&mut self, lowering: &Lowering, column: usize) -> usize {
        match &mut self.project {
            Some(project) => project.column(lowering, self.relation.node, column),
            None => column,
        }
    }

    pub(crate) fn finish(self, lowering: &mut Lowering) -> usize {
        match self.project {
            Some(project) => project.add(lowering, self.relation.node),
            None => self.relation.node,
        }
    }
}

fn window_argument(expr: &LogicalExpr) -> Diagnostic {
    Diagnostic::error(Code::NOT_YET, "an aggregate or a key over a window's columns does not run yet")
        .label_opt(span::of_expr(expr), "a window column")
        .help("these columns are the same for all rows of a window: use them outside of the aggregate")
}

fn is_true(expr: &LogicalExpr) -> bool {
    matches!(expr, LogicalExpr::Literal(ScalarValue::Boolean(Some(true)), _))
}

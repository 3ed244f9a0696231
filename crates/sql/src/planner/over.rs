//! Calls with OVER.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Sort, WindowFunction as WindowExpr, WindowFunctionParams};
use datafusion::logical_expr::{
    Expr as LogicalExpr, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};
use thalweg_core::{Code, Diagnostic, Span};
use thalweg_plan::{
    AggregateCall, AggregateFunction, Frame, Input, NodeKind, Over, OverCall, OverOrder, Properties, StateLifetime, TimeKind,
};

use super::aggregate_function;
use super::lower::{Lowering, by_keys, not_yet};
use super::ordered::{ordering, sort_keys};
use super::rank::whole_number;
use super::relation::{Origin, Relation};
use super::span;
use super::window_aggregate::separator;
use super::window_call::interval_ms;
use super::window_function::{self, WindowFunction};

impl Lowering<'_> {
    /// One node for each window that the calls name, behind each other.
    pub(crate) fn over(&mut self, window: &Window) -> Result<Relation, Diagnostic> {
        let input = self.lower(&window.input)?;
        let mut relation = self.assign_window(input)?;
        let width = relation.origins.len();
        let calls = window.window_expr.iter().map(call_of).collect::<Result<Vec<_>, _>>()?;
        let mut origins: Vec<Option<Origin>> = vec![None; calls.len()];
        for first in 0..calls.len() {
            if origins[first].is_some() {
                continue;
            }
            let (_, params) = calls[first];
            let same: Vec<usize> = (first..calls.len())
                .filter(|call| {
                    let other = calls[*call].1;
                    other.partition_by == params.partition_by
                        && other.order_by == params.order_by
                        && (other.window_frame == params.window_frame || *call == first)
                })
                .collect();
            let members: Vec<(&WindowExpr, &LogicalExpr, &Field)> = same
                .iter()
                .map(|call| (calls[*call].0, &window.window_expr[*call], window.schema.field(width + call).as_ref()))
                .collect();
            let (next, positions) = self.over_node(relation, params, &members)?;
            relation = next;
            for (call, position) in same.into_iter().zip(positions) {
                origins[call] = Some(Origin::Node(position));
            }
        }
        let mut all = relation.origins.clone();
        all.truncate(width);
        all.extend(origins.into_iter().flatten());
        Ok(Relation { schema: window.schema.clone(), origins: all, ..relation })
    }

    fn over_node(
        &mut self,
        relation: Relation,
        params: &WindowFunctionParams,
        members: &[(&WindowExpr, &LogicalExpr, &Field)],
    ) -> Result<(Relation, Vec<usize>), Diagnostic> {
        let place = span::of_expr(members[0].1);
        let sorts = ordering(&params.order_by);
        let mut exprs: Vec<&LogicalExpr> = params.partition_by.iter().filter(|expr| !expr.column_refs().is_empty()).collect();
        let partition_count = exprs.len();
        exprs.extend(sorts.iter().map(|sort| &sort.expr));
        let first_argument = exprs.len();
        for (call, ..) in members {
            exprs.extend(arguments(call).chain(call.params.filter.as_deref()));
        }
        let (relation, columns) = self.columns_for(relation, &exprs, "OVER")?;
        let mut relation = relation;
        let order_columns = &columns[partition_count..first_argument];
        if let ([column], true) = (order_columns, has_distance(&params.window_frame)) {
            relation.node = self.as_event_time(relation.node, *column, place)?;
        }
        let order = self.over_order(relation.node, &sorts, order_columns, place)?;
        let mut next = columns[first_argument..].iter().copied();
        let mut calls = vec![];
        for (call, _, output) in members {
            let arguments: Vec<usize> = arguments(call).map(|_| next.next().unwrap_or_default()).collect();
            let filter = call.params.filter.as_ref().and_then(|_| next.next());
            calls.push(over_call(call, &arguments, filter, output, place)?);
        }
        let frame = frame(&params.window_frame, &order, place)?;
        if matches!((&order, frame), (OverOrder::EventTime(_), Frame::Range { preceding_ms: Some(_) })) {
            // When a partition is forgotten depends on the watermarks behind which its rows came.
            self.stamp_sources(relation.node);
        }
        let partition = columns[..partition_count].to_vec();
        let schema = self.schema(relation.node);
        let width = schema.fields().len();
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        fields.extend(calls.iter().map(|call| call.output().clone()));
        let before = self.properties(relation.node).clone();
        let by_columns = matches!(order, OverOrder::Columns(_));
        let properties = Properties {
            updating: before.updating || by_columns,
            state: match frame {
                Frame::Range { preceding_ms: Some(ms) } => StateLifetime::UntilWatermark { ms },
                _ => StateLifetime::Forever,
            },
            ..before.clone()
        };
        let exchange = by_keys(&partition);
        let kind = NodeKind::Over(Over {
            partition,
            order,
            frame,
            calls,
            input_updating: before.updating,
            in_turn: None,
            stamps_rows: false,
        });
        let edge = Input { node: relation.node, exchange };
        let node = self.add(kind, vec![edge], Arc::new(Schema::new(fields)), properties, place);
        Ok((Relation { node, ..relation }, (width..width + members.len()).collect()))
    }

    fn over_order(&self, node: usize, sorts: &[&Sort], columns: &[usize], place: Option<Span>) -> Result<OverOrder, Diagnostic> {
        let keys = sort_keys(sorts, columns);
        let Some(first) = keys.first() else {
            return Err(Diagnostic::error(Code::NOT_IN_FLINK, "OVER without ORDER BY has no end over a stream")
                .label_opt(place, "no ORDER BY")
                .help("order by the event time: OVER (PARTITION BY … ORDER BY ts)"));
        };
        match self.time_kind(node, first.column) {
            Some(kind) if keys.len() == 1 => {
                if first.descending {
                    return Err(Diagnostic::error(Code::NOT_IN_FLINK, "OVER orders by time ascending only")
                        .label_opt(place, "descending")
                        .help("rows of a stream come in the order of time; leave DESC out"));
                }
                if self.properties(node).updating {
                    return Err(Diagnostic::error(
                        Code::NOT_IN_FLINK,
                        "OVER ordered by time cannot take rows back, and its input changes earlier rows",
                    )
                    .label_opt(place, "over changing rows"));
                }
                Ok(if kind == TimeKind::Event { OverOrder::EventTime(first.column) } else { OverOrder::Arrival })
            }
            _ => Ok(OverOrder::Columns(keys)),
        }
    }
}

/// Whether a frame reaches back a length of time: then the clock's time of each row must be known.
fn has_distance(frame: &WindowFrame) -> bool {
    let zero = WindowFrameBound::Preceding(ScalarValue::UInt64(Some(0)));
    match &frame.start_bound {
        WindowFrameBound::Preceding(distance) => {
            frame.units == WindowFrameUnits::Range && !distance.is_null() && frame.start_bound != zero
        }
        _ => false,
    }
}

/// The call with OVER, under whatever name: one that was simplified keeps its own.
pub(crate) fn call_of(expr: &LogicalExpr) -> Result<(&WindowExpr, &WindowFunctionParams), Diagnostic> {
    match expr {
        LogicalExpr::Alias(alias) => call_of(&alias.expr),
        LogicalExpr::WindowFunction(function) => Ok((function, &function.params)),
        other => Err(not_yet("this call with OVER", span::of_expr(other))),
    }
}

/// The arguments that are columns: COUNT(1) counts rows, the offset of LAG is a number, the separator of LISTAGG a text.
fn arguments(call: &WindowExpr) -> impl Iterator<Item = &LogicalExpr> {
    let second_is_constant = match &call.fun {
        WindowFunctionDefinition::WindowUDF(udf) => window_function::of(udf) == Some(WindowFunction::Lag),
        WindowFunctionDefinition::AggregateUDF(udf) => aggregate_function::of(udf) == Some(AggregateFunction::ListAgg),
    };
    let args = &call.params.args;
    let counts_rows =
        matches!(args.as_slice(), [LogicalExpr::Literal(value, _)] if !value.is_null() && call.fun.name() == "count");
    args.iter().enumerate().filter(move |(index, _)| !(counts_rows || second_is_constant && *index == 1)).map(|(_, arg)| arg)
}

fn over_call(
    call: &WindowExpr,
    arguments: &[usize],
    filter: Option<usize>,
    output: &Field,
    place: Option<Span>,
) -> Result<OverCall, Diagnostic> {
    let name = call.fun.name().to_uppercase();
    if call.params.null_treatment.is_some() {
        return Err(not_yet("IGNORE NULLS or RESPECT NULLS", place)
            .help("leave it out: FIRST_VALUE and LAST_VALUE pass over nulls, LAG does not"));
    }
    let output = Arc::new(output.clone().with_name(&name));
    match &call.fun {
        WindowFunctionDefinition::AggregateUDF(udf) => match aggregate_function::of(udf) {
            Some(function) => Ok(OverCall::Aggregate(AggregateCall {
                function,
                argument: arguments.first().copied(),
                filter,
                distinct: call.params.distinct,
                separator: (function == AggregateFunction::ListAgg).then(|| separator(&call.params.args)).transpose()?,
                output,
            })),
            None => Err(not_yet(&format!("{name} with OVER"), place)),
        },
        WindowFunctionDefinition::WindowUDF(udf) => match window_function::of(udf) {
            Some(WindowFunction::Rank(function)) => Ok(OverCall::Rank(function, output)),
            Some(WindowFunction::Lag) => {
                let offset = match call.params.args.get(1) {
                    None => 1,
                    Some(offset) => whole_number(offset).and_then(|offset| u64::try_from(offset).ok()).ok_or_else(|| {
                        Diagnostic::error(Code::BAD_ARGUMENTS, "LAG goes back a whole number of rows")
                            .label_opt(span::of_expr(offset).or(place), "not a whole number")
                    })?,
                };
                let [argument, default @ ..] = arguments else {
                    return Err(not_yet("LAG without a value", place));
                };
                Ok(OverCall::Lag { argument: *argument, offset, default: default.first().copied(), output })
            }
            None => Err(not_yet(&format!("{name} with OVER"), place)),
        },
    }
}

fn frame(frame: &WindowFrame, order: &OverOrder, place: Option<Span>) -> Result<Frame, Diagnostic> {
    if !matches!(frame.end_bound, WindowFrameBound::CurrentRow) {
        return Err(Diagnostic::error(
            Code::NOT_IN_FLINK,
            "a frame of OVER ends with the current row: later rows are not known yet",
        )
        .label_opt(place, "looks ahead")
        .help("ROWS or RANGE BETWEEN … PRECEDING AND CURRENT ROW"));
    }
    let preceding = match &frame.start_bound {
        WindowFrameBound::Preceding(value) if value.is_null() => None,
        WindowFrameBound::Preceding(value) => Some(value),
        WindowFrameBound::CurrentRow => Some(&ScalarValue::UInt64(Some(0))),
        WindowFrameBound::Following(_) => return Err(not_yet("a frame that begins behind the current row", place)),
    };
    match (frame.units, preceding) {
        (WindowFrameUnits::Rows, None) => Ok(Frame::Rows { preceding: None }),
        (WindowFrameUnits::Range, None) => Ok(Frame::Range { preceding_ms: None }),
        (WindowFrameUnits::Rows, Some(value)) => match value {
            ScalarValue::UInt64(Some(rows)) => Ok(Frame::Rows { preceding: Some(*rows) }),
            other => Err(not_yet(&format!("a frame of {other} rows"), place)),
        },
        (WindowFrameUnits::Range, Some(value)) => {
            let ms = match value {
                ScalarValue::UInt64(Some(0)) => Some(0),
                other => interval_ms(&LogicalExpr::Literal(other.clone(), None)),
            };
            match (ms, order) {
                (Some(ms), OverOrder::EventTime(_) | OverOrder::Arrival) => Ok(Frame::Range { preceding_ms: Some(ms) }),
                (None, OverOrder::EventTime(_) | OverOrder::Arrival) => {
                    Err(Diagnostic::error(Code::BAD_ARGUMENTS, "a frame of RANGE reaches back days, hours, minutes or seconds")
                        .label_opt(place, "another distance")
                        .help("months differ in length: RANGE BETWEEN INTERVAL '30' DAY PRECEDING AND CURRENT ROW"))
                }
                (_, OverOrder::Columns(_)) => {
                    Err(not_yet("RANGE with a distance over an order that is no time attribute", place)
                        .help("order by the event time, or count rows: ROWS BETWEEN 10 PRECEDING AND CURRENT ROW"))
                }
            }
        }
        (WindowFrameUnits::Groups, _) => Err(not_yet("a frame of GROUPS", place)),
    }
}

//! What a node is, as a text that is equal for equal SQL: ids, fingerprints and the differences between plans are made of it.

use crate::{AggregateCall, JoinKey, NodeKind, OverCall, Session, SetKind, SetOperation, SinkTarget};

impl NodeKind {
    /// One or two words, as EXPLAIN prints them.
    pub fn name(&self) -> &'static str {
        match self {
            NodeKind::Source(_) => "Source",
            NodeKind::Project(_) => "Project",
            NodeKind::Filter(_) => "Filter",
            NodeKind::ProcessingTime(_) => "ProcessingTime",
            NodeKind::AssignWindow(_) => "AssignWindow",
            NodeKind::WindowAggregate(_) => "WindowAggregate",
            NodeKind::Session(Session { aggregates: Some(_), .. }) => "SessionAggregate",
            NodeKind::Session(_) => "AssignSession",
            NodeKind::GroupAggregate(_) => "GroupAggregate",
            NodeKind::Join(_) => "Join",
            NodeKind::IntervalJoin(_) => "IntervalJoin",
            NodeKind::WindowJoin(_) => "WindowJoin",
            NodeKind::TemporalJoin(_) => "TemporalJoin",
            NodeKind::LookupJoin(_) => "LookupJoin",
            NodeKind::TopN(_) => "TopN",
            NodeKind::WindowTopN(_) => "WindowTopN",
            NodeKind::Deduplicate(_) => "Deduplicate",
            NodeKind::Over(_) => "Over",
            NodeKind::TemporalSort(_) => "TemporalSort",
            NodeKind::SetOperation(SetOperation { kind: SetKind::Intersect, .. }) => "Intersect",
            NodeKind::SetOperation(_) => "Except",
            NodeKind::Unnest(_) => "Unnest",
            NodeKind::Normalize(_) => "Normalize",
            NodeKind::SinkMaterialize(_) => "SinkMaterialize",
            NodeKind::Union => "Union",
            NodeKind::Values(_) => "Values",
            NodeKind::Sink(_) => "Sink",
        }
    }

    /// What makes this node what it is: parameters, expressions, the table behind it. No secret, and nothing that may change
    /// without a change of meaning (broker addresses, parallelism, comments).
    pub fn identity(&self) -> String {
        match self {
            NodeKind::Source(source) => {
                let fields: Vec<_> = source.fields.iter().map(|field| field.field().name().as_str()).collect();
                let watermark = match &source.watermark {
                    Some(watermark) => format!(" watermark({})", watermark.expr.identity()),
                    None => String::new(),
                };
                format!(
                    "{} {} fields({}) project({}){watermark}",
                    source.table.name,
                    origin(&source.table),
                    fields.join(", "),
                    texts(&source.project)
                )
            }
            NodeKind::Project(project) => texts(&project.exprs),
            NodeKind::Filter(filter) => filter.predicate.identity(),
            NodeKind::ProcessingTime(clock) => clock.column.to_string(),
            NodeKind::AssignWindow(assign) => format!("{} time({})", assign.window, assign.time_column),
            NodeKind::WindowAggregate(aggregate) => {
                let calls = calls_identity(&aggregate.aggregates);
                format!("{} time({}) keys({:?}) [{}]", aggregate.window, aggregate.time_column, aggregate.keys, calls)
            }
            NodeKind::Session(session) => {
                let calls = session.aggregates.as_ref().map_or_else(String::new, |calls| format!(" [{}]", calls_identity(calls)));
                let input = if session.input_updating { " updating" } else { "" };
                format!("{} time({}) keys({:?}){calls}{input}", session.window, session.time_column, session.keys)
            }
            NodeKind::GroupAggregate(aggregate) => {
                let input = if aggregate.input_updating { " updating" } else { "" };
                let window = aggregate.window_time.map_or(String::new(), |time| format!(" window({time})"));
                format!("keys({:?}) [{}]{input}{window}", aggregate.keys, calls_identity(&aggregate.aggregates))
            }
            NodeKind::Join(join) => {
                let flag = |name: &str, is: bool| if is { format!(" {name}") } else { String::new() };
                format!(
                    "{} {}{}{}{}{}",
                    join.kind.name(),
                    keys_identity(&join.keys),
                    condition_identity(&join.condition),
                    flag("null-aware", join.null_aware),
                    flag("left-updating", join.left_updating),
                    flag("right-updating", join.right_updating)
                )
            }
            NodeKind::IntervalJoin(join) => format!(
                "{} {} {} <= #{} - #{} <= {}{}",
                join.kind.name(),
                keys_identity(&join.keys),
                join.lower_ms,
                join.left_time,
                join.right_time,
                join.upper_ms,
                condition_identity(&join.condition)
            ),
            NodeKind::WindowJoin(join) => format!(
                "{} {} {:?} {:?}{}",
                join.kind.name(),
                keys_identity(&join.keys),
                join.left_window,
                join.right_window,
                condition_identity(&join.condition)
            ),
            NodeKind::TemporalJoin(join) => format!(
                "{} {} #{} as of #{}{}",
                join.kind.name(),
                keys_identity(&join.keys),
                join.right_time,
                join.left_time,
                condition_identity(&join.condition)
            ),
            NodeKind::LookupJoin(join) => {
                let fields: Vec<_> = join.fields.iter().map(|field| field.field().name().as_str()).collect();
                format!(
                    "{} {} {} fields({}) {}{}",
                    join.kind.name(),
                    join.table.name,
                    origin(&join.table),
                    fields.join(", "),
                    keys_identity(&join.keys),
                    condition_identity(&join.condition)
                )
            }
            NodeKind::TopN(top) => format!(
                "{} partition({:?}) order({:?}) {:?} rank({}){}",
                top.function.name(),
                top.partition,
                top.order,
                top.range,
                top.output_rank,
                if top.input_updating { " updating" } else { "" }
            ),
            NodeKind::WindowTopN(top) => format!(
                "{} {:?} partition({:?}) order({:?}) {:?} rank({}){}",
                top.function.name(),
                top.window,
                top.partition,
                top.order,
                top.range,
                top.output_rank,
                if top.newest_first { " newest-first" } else { "" }
            ),
            NodeKind::Deduplicate(dedup) => format!("{:?} keys({:?}) time({:?})", dedup.keep, dedup.keys, dedup.time_column),
            NodeKind::Over(over) => format!(
                "partition({:?}) {:?} {:?} {:?}{}",
                over.partition,
                over.order,
                over.frame,
                over.calls.iter().map(over_identity).collect::<Vec<_>>(),
                if over.input_updating { " updating" } else { "" }
            ),
            NodeKind::TemporalSort(sort) => format!("time({}) order({:?})", sort.time_column, sort.order),
            NodeKind::SetOperation(operation) => (if operation.all { "ALL" } else { "" }).to_string(),
            NodeKind::Unnest(unnest) => format!(
                "Unnest {{ column: {}, ordinality: {}, keep_empty: {}, is_multiset: {} }}{}",
                unnest.column,
                unnest.ordinality,
                unnest.keep_empty,
                unnest.is_multiset,
                condition_identity(&unnest.condition)
            ),
            NodeKind::Normalize(normalize) => format!("keys({:?})", normalize.keys),
            NodeKind::SinkMaterialize(sink) => format!("keys({:?}) {:?}", sink.keys, sink.conflict),
            NodeKind::Union => String::new(),
            NodeKind::Values(rows) => format!("{rows:?}"),
            NodeKind::Sink(sink) => match &sink.target {
                SinkTarget::Table(table) => format!("{} {}", sink.sink_id, origin(table)),
                SinkTarget::Result => sink.sink_id.clone(),
            },
        }
    }
}

/// Which stream a table is: the connector and the options that name the data, not those that say how to reach it.
fn origin(table: &thalweg_core::TableDefinition) -> String {
    ["connector", "topic", "topic-pattern", "path", "format", "value.format", "key.format"]
        .iter()
        .filter(|name| !table.options.is_secret(name))
        .filter_map(|name| table.options.get(name).map(|value| format!("{name}={value}")))
        .collect::<Vec<_>>()
        .join(" ")
}

fn calls_identity(calls: &[AggregateCall]) -> String {
    let call = |call: &AggregateCall| {
        let distinct = if call.distinct { " DISTINCT" } else { "" };
        let separator = call.separator.as_ref().map_or(String::new(), |separator| format!(" separator {separator:?}"));
        format!("{}{distinct}({:?} filter {:?}{separator})", call.function.name(), call.argument, call.filter)
    };
    calls.iter().map(call).collect::<Vec<_>>().join(", ")
}

fn keys_identity(keys: &[JoinKey]) -> String {
    let key = |key: &JoinKey| format!("{} {} {}", key.left, if key.nulls_match { "<=>" } else { "=" }, key.right);
    format!("keys({})", keys.iter().map(key).collect::<Vec<_>>().join(", "))
}

fn condition_identity(condition: &Option<crate::Expr>) -> String {
    condition.as_ref().map_or(String::new(), |condition| format!(" if {}", condition.identity()))
}

fn over_identity(call: &OverCall) -> String {
    match call {
        OverCall::Aggregate(call) => calls_identity(std::slice::from_ref(call)),
        OverCall::Rank(function, _) => function.name().to_string(),
        OverCall::Lag { argument, offset, default, .. } => format!("LAG({argument}, {offset}, {default:?})"),
    }
}

fn texts(exprs: &[crate::Expr]) -> String {
    exprs.iter().map(crate::Expr::identity).collect::<Vec<_>>().join(", ")
}

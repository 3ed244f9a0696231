//! One line for each node, as EXPLAIN prints it.

use thalweg_core::ColumnKind;

use crate::window::duration_text;
use crate::{
    AggregateCall, Conflict, Expr, Frame, JoinKey, JoinKind, Keep, Node, NodeKind, OverCall, OverOrder, Plan, RankFunction,
    RankRange, SinkTarget, SortKey, StateLifetime,
};

fn input_names(plan: &Plan, node: &Node, port: usize) -> Vec<String> {
    node.inputs
        .get(port)
        .map(|input| plan.nodes[input.node].schema.fields().iter().map(|field| field.name().clone()).collect())
        .unwrap_or_default()
}

/// The line that says what a node does.
pub(crate) fn headline(plan: &Plan, node: &Node) -> String {
    let names = input_names(plan, node, 0);
    let right_names = input_names(plan, node, 1);
    let name = |column: usize| names.get(column).cloned().unwrap_or_else(|| format!("#{column}"));
    let right_name = |column: usize| right_names.get(column).cloned().unwrap_or_else(|| format!("#{column}"));
    let list = |columns: &[usize]| columns.iter().map(|column| name(*column)).collect::<Vec<_>>().join(", ");
    let join = |kind: JoinKind, keys: &[JoinKey], condition: &Option<Expr>| {
        let key = |key: &JoinKey| {
            let operator = if key.nulls_match { "IS NOT DISTINCT FROM" } else { "=" };
            format!("{} {operator} {}", name(key.left), right_name(key.right))
        };
        let keys = keys.iter().map(key).collect::<Vec<_>>().join(" AND ");
        let condition = condition.as_ref().map_or(String::new(), |condition| format!(" if {}", condition.text));
        format!("{} {} on [{keys}]{condition}", node.kind.name(), kind.name())
    };
    match &node.kind {
        NodeKind::Source(source) => {
            let pruned = source.table.columns.iter().filter(|column| !matches!(column.kind, ColumnKind::Computed { .. })).count();
            let watermark = match &source.watermark {
                Some(watermark) => format!(", watermark {}", watermark.expr.text),
                None => String::new(),
            };
            format!(
                "Source {} ({}), decodes {} of {pruned} columns{watermark}",
                source.table.name,
                source.table.connector().unwrap_or("?"),
                source.fields.len()
            )
        }
        NodeKind::Project(project) => {
            format!("Project {}", project.exprs.iter().map(|expr| expr.text.as_str()).collect::<Vec<_>>().join(", "))
        }
        NodeKind::Filter(filter) => format!("Filter {}", filter.predicate.text),
        NodeKind::ProcessingTime(clock) => format!("ProcessingTime of {}", name(clock.column)),
        NodeKind::AssignWindow(assign) => format!("AssignWindow {} on {}", assign.window, name(assign.time_column)),
        NodeKind::WindowAggregate(aggregate) => {
            let calls = calls_text(&aggregate.aggregates, &name);
            let keys: Vec<String> = aggregate.keys.iter().map(|key| name(*key)).collect();
            format!(
                "WindowAggregate {} on {}, keys [{}], [{}], slices of {}, two phases",
                aggregate.window,
                name(aggregate.time_column),
                keys.join(", "),
                calls,
                duration_text(aggregate.window.kind.slice_ms())
            )
        }
        NodeKind::Session(session) => {
            let calls = session.aggregates.as_ref().map(|calls| format!(", [{}]", calls_text(calls, &name)));
            format!(
                "{} {} on {}, keys [{}]{}{}",
                node.kind.name(),
                session.window,
                name(session.time_column),
                session.keys.iter().map(|key| name(*key)).collect::<Vec<_>>().join(", "),
                calls.unwrap_or_default(),
                in_turn_text(session.input_updating)
            )
        }
        NodeKind::GroupAggregate(aggregate) => {
            let keys: Vec<String> = aggregate.keys.iter().map(|key| name(*key)).collect();
            let window = if aggregate.window_time.is_some() { ", once when the window closes" } else { "" };
            format!("GroupAggregate keys [{}], [{}]{window}", keys.join(", "), calls_text(&aggregate.aggregates, &name))
        }
        NodeKind::Join(node) => {
            let null_aware = if node.null_aware { ", a null matches all (NOT IN)" } else { "" };
            let kept = |side: &str, hint: Option<StateLifetime>| match hint {
                None => String::new(),
                Some(StateLifetime::TimeToLive { ms }) => format!(", {side} rows kept {}", duration_text(ms)),
                Some(_) => format!(", {side} rows kept forever"),
            };
            let [left, right] = node.time_to_live;
            format!("{}{null_aware}{}{}", join(node.kind, &node.keys, &node.condition), kept("left", left), kept("right", right))
        }
        NodeKind::IntervalJoin(node) => format!(
            "{}, {} between {} and {} after {}",
            join(node.kind, &node.keys, &node.condition),
            name(node.left_time),
            duration_text(node.lower_ms),
            duration_text(node.upper_ms),
            right_name(node.right_time)
        ),
        NodeKind::WindowJoin(node) => join(node.kind, &node.keys, &node.condition),
        NodeKind::TemporalJoin(node) => format!(
            "{}, versions of {} as of {}",
            join(node.kind, &node.keys, &node.condition),
            right_name(node.right_time),
            name(node.left_time)
        ),
        NodeKind::LookupJoin(node) => format!(
            "LookupJoin {} {} ({}), reads {} columns, by [{}]{}",
            node.kind.name(),
            node.table.name,
            node.table.connector().unwrap_or("?"),
            node.fields.len(),
            node.keys
                .iter()
                .map(|key| format!("{} = {}", name(key.left), node.fields[key.right].field().name()))
                .collect::<Vec<_>>()
                .join(" AND "),
            node.condition.as_ref().map_or(String::new(), |condition| format!(" if {}", condition.text))
        ),
        NodeKind::TopN(top) => format!(
            "TopN {}, partition [{}], order [{}]{}{}{}",
            range_text(top.function, &top.range),
            list(&top.partition),
            order_text(&top.order, &name),
            if top.output_rank { ", with rank" } else { "" },
            if top.input_updating { ", keeps all rows" } else { "" },
            in_turn_text(top.in_turn.is_some())
        ),
        NodeKind::WindowTopN(top) => format!(
            "WindowTopN {}, partition [{}], order [{}]{}",
            range_text(top.function, &top.range),
            list(&top.partition),
            order_text(&top.order, &name),
            if top.output_rank { ", with rank" } else { "" }
        ),
        NodeKind::Deduplicate(dedup) => format!(
            "Deduplicate keys [{}], the {} by {}{}",
            list(&dedup.keys),
            match dedup.keep {
                Keep::First => "first",
                Keep::Last => "last",
            },
            dedup.time_column.map_or("arrival".to_string(), name),
            in_turn_text(dedup.in_turn.is_some())
        ),
        NodeKind::Over(over) => format!(
            "Over partition [{}], order [{}], {}, [{}]{}",
            list(&over.partition),
            match &over.order {
                OverOrder::EventTime(column) => name(*column),
                OverOrder::Arrival => "arrival".to_string(),
                OverOrder::Columns(order) => order_text(order, &name),
            },
            frame_text(over.frame),
            over.calls.iter().map(|call| over_text(call, &name)).collect::<Vec<_>>().join(", "),
            in_turn_text(over.in_turn.is_some())
        ),
        NodeKind::TemporalSort(sort) => {
            let rest: Vec<String> =
                [name(sort.time_column)].into_iter().chain(sort.order.iter().map(|key| key_text(key, &name))).collect();
            format!("TemporalSort [{}]", rest.join(", "))
        }
        NodeKind::SetOperation(operation) => format!("{}{}", node.kind.name(), if operation.all { " ALL" } else { "" }),
        NodeKind::Unnest(unnest) => format!(
            "Unnest {}{}{}{}",
            name(unnest.column),
            if unnest.ordinality { " with ordinality" } else { "" },
            unnest.condition.as_ref().map_or(String::new(), |condition| format!(" if {}", condition.text)),
            if unnest.keep_empty { ", empty ones too" } else { "" }
        ),
        NodeKind::Normalize(normalize) => format!("Normalize upserts by [{}]", list(&normalize.keys)),
        NodeKind::SinkMaterialize(sink) => format!(
            "SinkMaterialize one row for each [{}], {}",
            list(&sink.keys),
            match sink.conflict {
                Conflict::Deduplicate => "the last one wins",
                Conflict::Nothing => "the first one wins",
                Conflict::Error => "a second one is an error",
            }
        ),
        NodeKind::Union => format!("Union of {}", node.inputs.len()),
        NodeKind::Values(rows) => format!("Values {} rows", rows.num_rows()),
        NodeKind::Sink(sink) => match &sink.target {
            SinkTarget::Table(table) => format!("Sink {} ({})", sink.sink_id, table.connector().unwrap_or("?")),
            SinkTarget::Result => "Sink result of SELECT".to_string(),
        },
    }
}

fn calls_text(calls: &[AggregateCall], name: &dyn Fn(usize) -> String) -> String {
    let text = |call: &AggregateCall| {
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        let argument = call.argument.map_or("*".to_string(), name);
        let separator = call.separator.as_ref().map_or(String::new(), |separator| format!(", '{separator}'"));
        let filter = call.filter.map_or(String::new(), |column| format!(" FILTER {}", name(column)));
        format!("{}({distinct}{argument}{separator}){filter}", call.function.name())
    };
    calls.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn range_text(function: RankFunction, range: &RankRange) -> String {
    let ranks = match range.end {
        Some(end) if end == range.start => format!("= {end}"),
        Some(end) if range.start == 1 => format!("<= {end}"),
        Some(end) => format!("from {} to {end}", range.start),
        None => format!(">= {}", range.start),
    };
    format!("{} {ranks}", function.name())
}

fn key_text(key: &SortKey, name: &dyn Fn(usize) -> String) -> String {
    let direction = if key.descending { " DESC" } else { "" };
    // Nulls are the smallest unless said otherwise.
    let nulls = match key.nulls_first {
        first if first != key.descending => "",
        true => " NULLS FIRST",
        false => " NULLS LAST",
    };
    format!("{}{direction}{nulls}", name(key.column))
}

fn order_text(order: &[SortKey], name: &dyn Fn(usize) -> String) -> String {
    if order.is_empty() {
        return "arrival".to_string();
    }
    order.iter().map(|key| key_text(key, name)).collect::<Vec<_>>().join(", ")
}

fn frame_text(frame: Frame) -> String {
    match frame {
        Frame::Rows { preceding: Some(rows) } => format!("{rows} rows before"),
        Frame::Range { preceding_ms: Some(ms) } => format!("range of {} before", duration_text(ms)),
        Frame::Rows { preceding: None } => "all rows before".to_string(),
        Frame::Range { preceding_ms: None } => "all rows before, with equal ones".to_string(),
    }
}

fn over_text(call: &OverCall, name: &dyn Fn(usize) -> String) -> String {
    match call {
        OverCall::Aggregate(call) => calls_text(std::slice::from_ref(call), name),
        OverCall::Rank(function, _) => format!("{}()", function.name()),
        OverCall::Lag { argument, offset, default, .. } => {
            let default = default.map_or(String::new(), |column| format!(", {}", name(column)));
            format!("LAG({}, {offset}{default})", name(*argument))
        }
    }
}

fn in_turn_text(waits: bool) -> &'static str {
    if waits { ", behind the watermark" } else { "" }
}

//! EXPLAIN: the plan as an indented tree, sinks first, with what was inferred for each node.

use std::collections::HashSet;
use std::fmt::Write as _;

use thalweg_core::ColumnKind;

use crate::window::duration_text;
use crate::{AggregateCall, Exchange, Node, NodeKind, Plan, SinkTarget, StateLifetime, TimeKind};

impl Plan {
    /// The readable form. Shared nodes are printed once and referred to afterwards.
    pub fn explain(&self) -> String {
        let consumers = self.consumers();
        let mut out = String::new();
        let mut printed = HashSet::new();
        for (index, _) in self.nodes.iter().enumerate().filter(|(index, _)| consumers[*index].is_empty()) {
            if !out.is_empty() {
                out.push('\n');
            }
            self.explain_node(index, 0, None, &mut printed, &mut out);
        }
        let forever: Vec<&Node> = self.nodes.iter().filter(|node| node.properties.state == StateLifetime::Forever).collect();
        if !forever.is_empty() {
            out.push_str("\nnote: the state of these operators is never dropped; that of a window goes with it:\n");
            for node in forever {
                let _ = writeln!(out, "  {}", node.id);
            }
        }
        out
    }

    fn explain_node(
        &self,
        index: usize,
        depth: usize,
        exchange: Option<&Exchange>,
        printed: &mut HashSet<usize>,
        out: &mut String,
    ) {
        let node = &self.nodes[index];
        let indent = "  ".repeat(depth);
        if let Some(exchange) = exchange.filter(|exchange| !exchange.is_forward()) {
            let _ = writeln!(out, "{indent}Exchange {}", exchange_text(exchange, node));
        }
        if !printed.insert(index) {
            let _ = writeln!(out, "{indent}{} (shared, see above)", node.id);
            return;
        }
        let _ = writeln!(out, "{indent}{}", headline(self, node));
        let _ = writeln!(out, "{indent}  columns: {}", columns_text(node));
        let _ = writeln!(out, "{indent}  {}", properties_text(node));
        for input in &node.inputs {
            self.explain_node(input.node, depth + 1, Some(&input.exchange), printed, out);
        }
    }

    fn input_names(&self, node: &Node) -> Vec<String> {
        node.inputs
            .first()
            .map(|input| self.nodes[input.node].schema.fields().iter().map(|field| field.name().clone()).collect())
            .unwrap_or_default()
    }
}

fn headline(plan: &Plan, node: &Node) -> String {
    let names = plan.input_names(node);
    let name = |column: usize| names.get(column).cloned().unwrap_or_else(|| format!("#{column}"));
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
                "{} {} on {}, keys [{}]{}",
                node.kind.name(),
                session.window,
                name(session.time_column),
                session.keys.iter().map(|key| name(*key)).collect::<Vec<_>>().join(", "),
                calls.unwrap_or_default()
            )
        }
        NodeKind::GroupAggregate(aggregate) => {
            let keys: Vec<String> = aggregate.keys.iter().map(|key| name(*key)).collect();
            format!("GroupAggregate keys [{}], [{}]", keys.join(", "), calls_text(&aggregate.aggregates, &name))
        }
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

fn exchange_text(exchange: &Exchange, producer: &Node) -> String {
    match exchange {
        Exchange::Forward => "forward".to_string(),
        Exchange::Single => "to one lane".to_string(),
        Exchange::Hash(keys) => {
            let names: Vec<&str> = keys.iter().map(|key| producer.schema.field(*key).name().as_str()).collect();
            format!("by hash of {}", names.join(", "))
        }
    }
}

fn columns_text(node: &Node) -> String {
    node.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn properties_text(node: &Node) -> String {
    let names = |columns: &[usize]| {
        columns.iter().map(|column| node.schema.field(*column).name().as_str()).collect::<Vec<_>>().join(", ")
    };
    let properties = &node.properties;
    let mut parts = vec![if properties.updating { "updating".to_string() } else { "append-only".to_string() }];
    if let Some(key) = &properties.upsert_key {
        parts.push(format!("upsert key ({})", names(key)));
    }
    for attribute in &properties.time_attributes {
        let kind = match attribute.kind {
            TimeKind::Event => "event time",
            TimeKind::Processing => "processing time",
        };
        parts.push(format!("{kind} {}", names(&[attribute.column])));
    }
    parts.push(match properties.state {
        StateLifetime::Stateless => "no state".to_string(),
        StateLifetime::UntilWatermark { ms } => format!("state dropped {} behind the watermark at most", duration_text(ms)),
        StateLifetime::TimeToLive { ms } => format!("state dropped {} after its last change", duration_text(ms)),
        StateLifetime::Forever => "state never dropped".to_string(),
    });
    parts.push(if properties.bounded { "bounded".to_string() } else { "unbounded".to_string() });
    parts.join("; ")
}

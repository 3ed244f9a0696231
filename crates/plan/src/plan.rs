//! The whole plan, its ids and its fingerprint.

use std::collections::HashMap;

use crate::{AggregateCall, Exchange, Input, Node, NodeKind, OperatorId, Session, SinkTarget};

/// A job: every INSERT of a file, or one SELECT. Nodes are in topological order; sources shared by several sinks are one node.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub nodes: Vec<Node>,
}

/// One way in which a plan differs from the one a checkpoint was made with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanDifference {
    pub operator: OperatorId,
    pub what: String,
}

impl Plan {
    /// Adds a node and gives it its id; returns its index.
    pub fn add(&mut self, mut node: Node) -> usize {
        for input in &node.inputs {
            assert!(input.node < self.nodes.len(), "inputs come before the nodes that read them");
        }
        let text = self.identity(&node);
        let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        let base = format!("{}-{:012x}", node.kind.name().to_lowercase().replace(' ', "-"), hash >> 16);
        let alike = self.nodes.iter().filter(|other| other.id.0 == base || other.id.0.starts_with(&format!("{base}."))).count();
        node.id = OperatorId(if alike == 0 { base } else { format!("{base}.{alike}") });
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// What a node does and what feeds it, as text: equal for equal SQL.
    fn identity(&self, node: &Node) -> String {
        let mut text = format!("{} {}", node.kind.name(), node.kind.identity());
        for Input { node, exchange } in &node.inputs {
            text.push_str(&format!(" <- {} {exchange:?}", self.nodes[*node].id));
        }
        text.push_str(&format!(" : {:?}", node.schema.fields().iter().map(|field| field.data_type()).collect::<Vec<_>>()));
        text
    }

    /// A name for the meaning of the whole plan: equal plans, and only those, restore each other's checkpoints.
    pub fn fingerprint(&self) -> String {
        let mut ids: Vec<&str> = self.nodes.iter().map(|node| node.id.0.as_str()).collect();
        ids.sort_unstable();
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(ids.join("\n").as_bytes()))
    }

    /// One line per operator, id first: stored in manifests so that a refused restart can say what changed.
    pub fn summary(&self) -> Vec<(OperatorId, String)> {
        self.nodes.iter().map(|node| (node.id.clone(), format!("{} {}", node.kind.name(), node.kind.identity()))).collect()
    }

    /// What differs from a summary stored earlier, in plan order; empty when the fingerprints agree.
    pub fn differences(&self, stored: &[(OperatorId, String)]) -> Vec<PlanDifference> {
        let stored: HashMap<&OperatorId, &String> = stored.iter().map(|(id, text)| (id, text)).collect();
        let mut ours = HashMap::new();
        let mut differences = vec![];
        for (id, text) in self.summary() {
            if !stored.contains_key(&id) {
                differences.push(PlanDifference { operator: id.clone(), what: format!("new: {text}") });
            }
            ours.insert(id, text);
        }
        let mut gone: Vec<_> = stored.iter().filter(|(id, _)| !ours.contains_key(**id)).collect();
        gone.sort();
        differences
            .extend(gone.into_iter().map(|(id, text)| PlanDifference { operator: (*id).clone(), what: format!("gone: {text}") }));
        differences
    }

    /// The consumers of each node: `(consumer, port)` pairs, by producer.
    pub fn consumers(&self) -> Vec<Vec<(usize, usize)>> {
        let mut consumers = vec![vec![]; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for (port, input) in node.inputs.iter().enumerate() {
                consumers[input.node].push((index, port));
            }
        }
        consumers
    }
}

impl NodeKind {
    /// One or two words, as EXPLAIN prints them.
    pub fn name(&self) -> &'static str {
        match self {
            NodeKind::Source(_) => "Source",
            NodeKind::Project(_) => "Project",
            NodeKind::Filter(_) => "Filter",
            NodeKind::AssignWindow(_) => "AssignWindow",
            NodeKind::WindowAggregate(_) => "WindowAggregate",
            NodeKind::Session(Session { aggregates: Some(_), .. }) => "SessionAggregate",
            NodeKind::Session(_) => "AssignSession",
            NodeKind::GroupAggregate(_) => "GroupAggregate",
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
                    Some(watermark) => format!(" watermark({})", watermark.expr.text),
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
            NodeKind::Filter(filter) => filter.predicate.text.clone(),
            NodeKind::AssignWindow(assign) => format!("{} time({})", assign.window, assign.time_column),
            NodeKind::WindowAggregate(aggregate) => {
                let calls = calls_identity(&aggregate.aggregates);
                format!("{} time({}) keys({:?}) [{}]", aggregate.window, aggregate.time_column, aggregate.keys, calls)
            }
            NodeKind::Session(session) => {
                let calls = session.aggregates.as_ref().map_or_else(String::new, |calls| format!(" [{}]", calls_identity(calls)));
                format!("{} time({}) keys({:?}){calls}", session.window, session.time_column, session.keys)
            }
            NodeKind::GroupAggregate(aggregate) => {
                let input = if aggregate.input_updating { " updating" } else { "" };
                format!("keys({:?}) [{}]{input}", aggregate.keys, calls_identity(&aggregate.aggregates))
            }
            NodeKind::Union => String::new(),
            NodeKind::Values(rows) => format!("{rows:?}"),
            NodeKind::Sink(sink) => match &sink.target {
                SinkTarget::Table(table) => format!("{} {}", sink.sink_id, origin(table)),
                SinkTarget::Result => sink.sink_id.clone(),
            },
        }
    }
}

impl Exchange {
    pub fn is_forward(&self) -> bool {
        *self == Exchange::Forward
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

fn texts(exprs: &[crate::Expr]) -> String {
    exprs.iter().map(|expr| expr.text.as_str()).collect::<Vec<_>>().join(", ")
}

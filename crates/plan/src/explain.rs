//! EXPLAIN: the plan as an indented tree, sinks first, with what was inferred for each node.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::headline::headline;
use crate::window::duration_text;
use crate::{Exchange, Node, Plan, StateLifetime, TimeKind};

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

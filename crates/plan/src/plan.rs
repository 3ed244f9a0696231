//! The whole plan, its ids and its fingerprint.

use std::collections::HashMap;

use crate::{Exchange, Input, Node, NodeKind, OperatorId};

/// A job: every INSERT of a file, or one SELECT. Nodes are in topological order; sources shared by several sinks are one node.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub nodes: Vec<Node>,
    /// Whether a row that is taken back and is not there is dropped and counted, in place of ending the job.
    pub ignores_unmatched: bool,
}

/// One way in which a plan differs from the one a checkpoint was made with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanDifference {
    pub operator: OperatorId,
    pub what: String,
}

impl Plan {
    /// Adds a node and gives it its id; returns its index. If a node of the plan already does the same with the same input, that
    /// one's index: equal parts of a job are computed once. Sinks are never shared.
    pub fn add(&mut self, mut node: Node) -> usize {
        for input in &node.inputs {
            assert!(input.node < self.nodes.len(), "inputs come before the nodes that read them");
        }
        let text = self.identity(&node);
        let is_sink = matches!(node.kind, NodeKind::Sink(_));
        let is_alike = |other: &&Node| other.schema == node.schema && self.identity(other) == text;
        if let Some(same) = self.nodes.iter().position(|other| !is_sink && is_alike(&other)) {
            return same;
        }
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

impl Exchange {
    pub fn is_forward(&self) -> bool {
        *self == Exchange::Forward
    }
}

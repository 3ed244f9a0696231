//! Cuts a plan into fragments: the parts that run on one thread per lane.

use thalweg_plan::{Exchange, Plan};

/// Nodes that run together. A fragment either begins with one source (or VALUES) or reads only from other fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Plan indices in topological order.
    pub nodes: Vec<usize>,
    /// Edges that enter from other fragments.
    pub inputs: Vec<CutEdge>,
}

/// An edge of the plan that crosses fragments and so becomes queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutEdge {
    pub producer: usize,
    pub consumer: usize,
    pub port: usize,
    pub exchange: Exchange,
}

/// The fragments of `plan`, in topological order of their first nodes.
///
/// A node joins the fragment of its inputs when all of them come forward from one and the same fragment; otherwise it opens a
/// new one and all its inputs are cut. So sources never share a thread with queues, and barriers meet only at fragment heads.
pub fn cut(plan: &Plan) -> Vec<Fragment> {
    let mut fragments: Vec<Fragment> = vec![];
    let mut fragment_of = vec![usize::MAX; plan.nodes.len()];
    for (index, node) in plan.nodes.iter().enumerate() {
        let mut feeding = node.inputs.iter().map(|input| fragment_of[input.node]);
        let first = feeding.next();
        let joins = first.is_some()
            && feeding.all(|fragment| Some(fragment) == first)
            && node.inputs.iter().all(|input| input.exchange.is_forward());
        let fragment = match first {
            Some(fragment) if joins => fragment,
            _ => {
                fragments.push(Fragment::default());
                fragments.len() - 1
            }
        };
        fragment_of[index] = fragment;
        fragments[fragment].nodes.push(index);
        if !joins {
            fragments[fragment].inputs.extend(node.inputs.iter().enumerate().map(|(port, input)| CutEdge {
                producer: input.node,
                consumer: index,
                port,
                exchange: input.exchange.clone(),
            }));
        }
    }
    fragments
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::RecordBatch;
    use arrow::datatypes::{DataType, Field, Schema};
    use thalweg_plan::{Input, Node, NodeKind, OperatorId, Properties};

    use super::*;

    /// A plan given by the inputs of each node; an input written `(n, true)` is a hash exchange.
    fn plan(inputs: &[&[(usize, bool)]]) -> Plan {
        let mut plan = Plan::default();
        for (number, inputs) in inputs.iter().enumerate() {
            // Nodes that do the same would be one.
            let schema = Arc::new(Schema::new(vec![Field::new(number.to_string(), DataType::Int64, true)]));
            let kind = if inputs.is_empty() { NodeKind::Values(RecordBatch::new_empty(schema.clone())) } else { NodeKind::Union };
            let inputs = inputs
                .iter()
                .map(|(node, hash)| Input {
                    node: *node,
                    exchange: if *hash { Exchange::Hash(vec![]) } else { Exchange::Forward },
                })
                .collect();
            let id = OperatorId(String::new());
            plan.add(Node { id, kind, inputs, schema, properties: Properties::default(), span: None });
        }
        plan
    }

    fn check(inputs: &[&[(usize, bool)]], expected: &[&[usize]]) {
        let nodes: Vec<Vec<usize>> = cut(&plan(inputs)).into_iter().map(|fragment| fragment.nodes).collect();
        assert_eq!(nodes, expected);
    }

    #[test]
    fn a_chain_is_one_fragment() {
        check(&[&[], &[(0, false)], &[(1, false)]], &[&[0, 1, 2]]);
    }

    #[test]
    fn an_exchange_cuts() {
        check(&[&[], &[(0, false)], &[(1, true)], &[(2, false)]], &[&[0, 1], &[2, 3]]);
    }

    #[test]
    fn two_sources_meet_in_a_fragment_of_their_own() {
        check(&[&[], &[], &[(0, false), (1, false)]], &[&[0], &[1], &[2]]);
    }

    #[test]
    fn branches_of_one_source_stay_together() {
        check(&[&[], &[(0, false)], &[(0, false)], &[(1, false), (2, false)]], &[&[0, 1, 2, 3]]);
    }
}

//! Joins, from DataFusion's logical plan to a node.
//!
//! A join whose condition says that the windows of both sides are the same is a [`window`] join, one whose condition keeps the event
//! times of both sides near each other an [`interval`] join; one with `FOR SYSTEM_TIME AS OF` is in [`as_of`]. All others keep both
//! of their inputs: they are here.

mod as_of;
mod condition;
mod interval;
mod properties;
mod side;
mod window;

use std::collections::BTreeSet;

use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::logical_expr::{Expr as LogicalExpr, Join as LogicalJoin, JoinType, lit};
use thalweg_core::{Diagnostic, Span};
use thalweg_plan::{Exchange, Input, Join, JoinKey, JoinKind, NodeKind};

use self::condition::Conditions;
use self::side::{Needed, Side};
use super::lower::{Lowering, by_keys, not_yet, whole};
use super::project::ProjectBuilder;
use super::relation::{Origin, Relation};
use super::span;

/// A join whose inputs are lowered.
#[derive(Clone)]
struct Inputs {
    kind: JoinKind,
    left: Relation,
    right: Relation,
    conditions: Conditions,
    needed: Needed,
    /// See [`Join::null_aware`].
    null_aware: bool,
    place: Option<Span>,
}

impl Lowering<'_> {
    /// `needed` are the columns of the join that are used above it, all if not known.
    pub(crate) fn join(&mut self, join: &LogicalJoin, needed: Option<&BTreeSet<usize>>) -> Result<Relation, Diagnostic> {
        let place = span::of_exprs(join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter));
        let conditions = Conditions::new(join)?;
        let needed = Needed::new(join, &conditions, needed);
        if let Some(version) = &conditions.version {
            return self.as_of_join(join, version.clone(), (conditions, needed), place);
        }
        let left = self.lower(&join.left)?;
        let left = self.assign_window(left)?;
        let right = self.lower(&join.right)?;
        let right = self.assign_window(right)?;
        let (kind, swapped) = match join.join_type {
            JoinType::Inner => (JoinKind::Inner, false),
            JoinType::Left => (JoinKind::Left, false),
            JoinType::Right => (JoinKind::Right, false),
            JoinType::Full => (JoinKind::Full, false),
            JoinType::LeftSemi => (JoinKind::Semi, false),
            JoinType::LeftAnti => (JoinKind::Anti, false),
            JoinType::RightSemi => (JoinKind::Semi, true),
            JoinType::RightAnti => (JoinKind::Anti, true),
            JoinType::LeftMark => {
                let inputs = Inputs { kind: JoinKind::Semi, left, right, conditions, needed, null_aware: false, place };
                return self.mark_join(inputs, join.schema.clone());
            }
            JoinType::RightMark => return Err(not_yet("this subquery", place)),
        };
        let null_aware = join.null_aware;
        let inputs = match swapped {
            false => Inputs { kind, left, right, conditions, needed, null_aware, place },
            true => {
                let (conditions, needed) = (conditions.swapped(), needed.swapped());
                Inputs { kind, left: right, right: left, conditions, needed, null_aware, place }
            }
        };
        self.join_inputs(inputs, join.schema.clone())
    }

    fn join_inputs(&mut self, inputs: Inputs, schema: DFSchemaRef) -> Result<Relation, Diagnostic> {
        if let Some(bounds) = self.same_window(&inputs) {
            return self.window_join(inputs, bounds, schema);
        }
        if let Some(bounds) = self.time_bounds(&inputs)? {
            return self.interval_join(inputs, bounds, schema);
        }
        self.regular_join(inputs, schema)
    }

    fn regular_join(&mut self, inputs: Inputs, schema: DFSchemaRef) -> Result<Relation, Diagnostic> {
        let Inputs { kind, left, right, conditions, needed, null_aware, place } = inputs;
        let left = self.join_side((left, &needed.left), conditions.keys.iter().map(|key| &key.left), &[])?;
        let right = self.join_side((right, &needed.right), conditions.keys.iter().map(|key| &key.right), &[])?;
        let condition = self.pair_condition(&left.relation, &right.relation, conditions.rest)?;
        let keys = join_keys(&left, &right, conditions.keys.iter().map(|key| key.nulls_match));
        let (before, other) = (self.properties(left.relation.node), self.properties(right.relation.node));
        let (left_updating, right_updating) = (before.updating, other.updating);
        let (left_schema, right_schema) = (self.schema(left.relation.node), self.schema(right.relation.node));
        let properties = properties::of_regular_join(kind, &keys, (before, other), left_schema.fields().len());
        let properties = properties::with_sure_key(properties, kind, left_schema, right_schema);
        let node_schema = properties::joined_schema(left_schema, right_schema, kind);
        let edges = self.edges(&left, &right, null_aware);
        let join = Join { kind, keys, condition, null_aware, left_updating, right_updating, time_to_live: [None, None] };
        let node = self.add(NodeKind::Join(join), edges, node_schema, properties, place);
        Ok(self.joined(node, kind, (&left, &right), schema))
    }

    /// Rows of equal keys meet in one lane, all rows in one when there are none.
    fn edges(&self, left: &Side, right: &Side, single: bool) -> Vec<Input> {
        let exchange = |side: &Side| if single { Exchange::Single } else { by_keys(&side.keys) };
        [left, right].map(|side| Input { node: side.relation.node, exchange: exchange(side) }).to_vec()
    }

    /// The logical columns of a join over its node.
    fn joined(&self, node: usize, kind: JoinKind, (left, right): (&Side, &Side), schema: DFSchemaRef) -> Relation {
        let width = self.schema(left.relation.node).fields().len();
        let mut origins = left.relation.origins.clone();
        if kind.has_right_columns() {
            origins.extend(right.relation.origins.iter().map(|origin| match origin {
                Origin::Node(column) => Origin::Node(width + column),
                Origin::Window(part) => Origin::Window(*part),
            }));
        }
        Relation { node, schema, origins, window: None }
    }

    /// Left rows with a column that says whether they have a match: those that have one and those that have none, together.
    fn mark_join(&mut self, inputs: Inputs, schema: DFSchemaRef) -> Result<Relation, Diagnostic> {
        let left_schema = inputs.left.schema.clone();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut nodes = vec![];
        for (kind, mark) in [(JoinKind::Semi, true), (JoinKind::Anti, false)] {
            let part = Inputs { kind, ..inputs.clone() };
            let part = self.join_inputs(part, left_schema.clone())?;
            let mut project = ProjectBuilder::default();
            for (origin, name) in part.origins.iter().zip(&names) {
                if let Origin::Node(column) = origin {
                    project.push_column(self, part.node, *column, name);
                }
            }
            let mark: LogicalExpr = lit(ScalarValue::Boolean(Some(mark)));
            let mark = self.expression(&part, &mark, "whether there is a match")?;
            project.push(self, part.node, mark, names.last().map_or("mark", String::as_str));
            nodes.push(project.add(self, part.node));
        }
        let node = self.union_all(nodes);
        Ok(whole(node, schema))
    }
}

fn join_keys(left: &Side, right: &Side, nulls_match: impl Iterator<Item = bool>) -> Vec<JoinKey> {
    let columns = left.keys.iter().zip(&right.keys);
    columns.zip(nulls_match).map(|((left, right), nulls_match)| JoinKey { left: *left, right: *right, nulls_match }).collect()
}

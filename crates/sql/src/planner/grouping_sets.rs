//! GROUPING SETS, CUBE and ROLLUP: every row once for each set.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::{Aggregate, Expr as LogicalExpr, GroupingSet, lit};
use thalweg_core::Diagnostic;
use thalweg_plan::{Exchange, Input, NodeKind, Properties};

use super::error::finding;
use super::lower::{Lowering, not_yet};
use super::project::ProjectBuilder;
use super::relation::{Origin, PendingKind, PendingWindow, Relation};
use super::span;

impl Lowering<'_> {
    /// Lowers a grouping by several sets as one by all their columns and the number of the set, over rows that are repeated for
    /// each set with NULL in the columns that it leaves out.
    pub(crate) fn grouping_sets(&mut self, relation: Relation, aggregate: &Aggregate) -> Result<Relation, Diagnostic> {
        let [LogicalExpr::GroupingSet(all)] = aggregate.group_expr.as_slice() else {
            return Err(not_yet("this grouping", span::of_exprs(&aggregate.group_expr)));
        };
        let distinct: Vec<&LogicalExpr> = all.distinct_expr();
        let sets = sets_of(all, &distinct);
        // A session is made of the rows as they are; repeated ones would all be in it.
        let is_session = matches!(&relation.window, Some(PendingWindow { kind: PendingKind::Session { .. }, .. }));
        let relation = if is_session { self.assign_window(relation)? } else { relation };

        let in_all = |expr: &LogicalExpr| sets.iter().all(|(set, _)| set.contains(&expr));
        let left_out: Vec<&LogicalExpr> = distinct.iter().copied().filter(|expr| !in_all(expr)).collect();
        if left_out.iter().any(|expr| !relation.all_origins(expr, |origin| matches!(origin, Origin::Node(_)))) {
            return Err(not_yet("a grouping set without the columns of the window", span::of_exprs(left_out)));
        }
        let id_field = aggregate.schema.field(distinct.len()).clone();
        let width = self.schema(relation.node).fields().len();
        let mut projects = vec![];
        for (set, id) in &sets {
            let mut project = ProjectBuilder::default();
            for column in 0..width {
                let name = self.schema(relation.node).field(column).name().clone();
                project.push_column(self, relation.node, column, &name);
            }
            for expr in &left_out {
                let computed = self.expression(&relation, expr, "a group's expression")?;
                let name = computed.text.clone();
                let computed = if set.contains(expr) {
                    computed
                } else {
                    let null = ScalarValue::try_from(&computed.data_type).map_err(|error| finding(&error, None))?;
                    self.expression(&relation, &lit(null), "NULL")?
                };
                project.push(self, relation.node, computed, &name);
            }
            let id = ScalarValue::UInt64(Some(*id)).cast_to(id_field.data_type()).map_err(|error| finding(&error, None))?;
            let id = self.expression(&relation, &lit(id), "the number of a grouping set")?;
            project.push(self, relation.node, id, Aggregate::INTERNAL_GROUPING_ID);
            projects.push(project.add(self, relation.node));
        }
        let node = self.union_of_sets(&projects);

        let mut fields: Vec<_> = relation.schema.iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
        let mut origins = relation.origins.clone();
        let mut added = |name: String, position: usize, node_schema: &Schema| {
            fields.push((None, Arc::new(node_schema.field(position).clone().with_name(name.clone()))));
            origins.push(Origin::Node(position));
            LogicalExpr::Column(Column::new_unqualified(name))
        };
        let node_schema = self.schema(node);
        let mut group_expr = vec![];
        for expr in &distinct {
            group_expr.push(match left_out.iter().position(|other| other == expr) {
                Some(number) => added(format!("__group_{number}"), width + number, node_schema),
                None => (*expr).clone(),
            });
        }
        group_expr.push(added(Aggregate::INTERNAL_GROUPING_ID.to_string(), width + left_out.len(), node_schema));
        let schema = DFSchema::new_with_metadata(fields, Default::default()).map_err(|error| finding(&error, None))?;
        let repeated = Relation { node, schema: Arc::new(schema), origins, window: relation.window };
        let aggregate = Aggregate::try_new_with_schema(
            aggregate.input.clone(),
            group_expr,
            aggregate.aggr_expr.clone(),
            aggregate.schema.clone(),
        )
        .map_err(|error| finding(&error, None))?;
        self.aggregate(repeated, &aggregate)
    }

    /// The rows of all sets. Their columns are where they were, so all that is known of them holds on.
    fn union_of_sets(&mut self, projects: &[usize]) -> usize {
        let fields: Vec<Field> = (0..self.schema(projects[0]).fields().len())
            .map(|column| {
                let nullable = projects.iter().any(|project| self.schema(*project).field(column).is_nullable());
                self.schema(projects[0]).field(column).clone().with_nullable(nullable)
            })
            .collect();
        let properties = Properties { upsert_key: None, ..self.properties(projects[0]).clone() };
        let edges = projects.iter().map(|node| Input { node: *node, exchange: Exchange::Forward }).collect();
        self.add(NodeKind::Union, edges, Arc::new(Schema::new(fields)), properties, None)
    }
}

/// The sets with their numbers: a bit for each expression that is left out, the last expression's lowest; equal sets are told
/// apart by the bits above, as DataFusion's `GROUPING` expects.
fn sets_of<'a>(all: &'a GroupingSet, distinct: &[&'a LogicalExpr]) -> Vec<(Vec<&'a LogicalExpr>, u64)> {
    let sets: Vec<Vec<&LogicalExpr>> = match all {
        GroupingSet::GroupingSets(sets) => sets.iter().map(|set| set.iter().collect()).collect(),
        GroupingSet::Rollup(exprs) => (0..=exprs.len()).rev().map(|length| exprs[..length].iter().collect()).collect(),
        GroupingSet::Cube(exprs) => (0..1_usize << exprs.len())
            .map(|left_out| {
                let is_in = |position: &usize| left_out >> (exprs.len() - 1 - position) & 1 == 0;
                (0..exprs.len()).filter(is_in).map(|position| &exprs[position]).collect()
            })
            .collect(),
    };
    let mut seen: Vec<u64> = vec![];
    sets.into_iter()
        .map(|set| {
            let mask = distinct.iter().fold(0_u64, |mask, expr| mask << 1 | u64::from(!set.contains(expr)));
            let earlier = seen.iter().filter(|other| **other == mask).count() as u64;
            seen.push(mask);
            (set, earlier << distinct.len() | mask)
        })
        .collect()
}

//! An input of a join: only the columns that are read, since a join may keep them for long.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr as LogicalExpr, Join, JoinType, lit};
use thalweg_core::Diagnostic;
use thalweg_plan::Expr;

use super::condition::Conditions;
use crate::planner::lower::Lowering;
use crate::planner::project::{ProjectBuilder, map_columns, positional};
use crate::planner::relation::{Origin, Relation};
use crate::planner::span;

/// The logical columns of both inputs that are read by the join's condition or above it.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    pub(super) left: BTreeSet<usize>,
    pub(super) right: BTreeSet<usize>,
}

impl Needed {
    /// `above` are the columns of the join that are used above it, all if not known. Columns that only keys are made of are not
    /// among those needed.
    pub(super) fn new(join: &Join, conditions: &Conditions, above: Option<&BTreeSet<usize>>) -> Self {
        let (left, right) = (join.left.schema(), join.right.schema());
        let width = left.fields().len();
        let mut needed = match join.join_type {
            JoinType::RightSemi | JoinType::RightAnti => {
                let all = (0..right.fields().len()).filter(|column| above.is_none_or(|above| above.contains(column)));
                Needed { left: BTreeSet::new(), right: all.collect() }
            }
            _ => {
                let is_needed = |column: &usize| above.is_none_or(|above| above.contains(column));
                // What is not among the columns of the join is not used above it.
                let right_width = join.schema.fields().len().saturating_sub(width).min(right.fields().len());
                let has_right = !matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark);
                let right_columns = (0..right_width).filter(|column| has_right && is_needed(&(width + column)));
                Needed { left: (0..width).filter(is_needed).collect(), right: right_columns.collect() }
            }
        };
        needed.read(join, &conditions.rest);
        needed
    }

    /// Adds the columns of `conditions`.
    pub(super) fn read(&mut self, join: &Join, conditions: &[LogicalExpr]) {
        for column in conditions.iter().flat_map(LogicalExpr::column_refs) {
            match join.left.schema().maybe_index_of_column(column) {
                Some(index) => self.left.insert(index),
                None => join.right.schema().maybe_index_of_column(column).is_some_and(|index| self.right.insert(index)),
            };
        }
    }

    pub(super) fn swapped(self) -> Self {
        Needed { left: self.right, right: self.left }
    }
}

/// An input of a join, cut to size.
pub(super) struct Side {
    pub(super) relation: Relation,
    /// The columns of the keys.
    pub(super) keys: Vec<usize>,
    /// Where the columns are that were asked for beside the logical ones.
    pub(super) extra: Vec<usize>,
}

impl Lowering<'_> {
    /// `relation` with its logical columns in `needed`, those of `keys` and the columns `extra` of its node, and no others. Keys
    /// that are not columns are computed. The relation has no pending window.
    pub(super) fn join_side<'e>(
        &mut self,
        (relation, needed): (Relation, &BTreeSet<usize>),
        keys: impl Iterator<Item = &'e LogicalExpr>,
        extra: &[usize],
    ) -> Result<Side, Diagnostic> {
        let node = relation.node;
        let keys: Vec<&LogicalExpr> = keys.collect();
        let needed_columns = needed.iter().filter_map(|index| relation.origins.get(*index).copied());
        let bare_keys = keys.iter().filter_map(|key| relation.origin_of(key));
        let kept: BTreeSet<usize> = needed_columns
            .chain(bare_keys)
            .filter_map(|origin| match origin {
                Origin::Node(column) => Some(column),
                Origin::Window(_) => None,
            })
            .chain(extra.iter().copied())
            .collect();
        let mut project = ProjectBuilder::default();
        for column in &kept {
            project.column(self, node, *column);
        }
        // A column that is not kept is read by nobody.
        let position = |column: &usize| kept.iter().position(|kept| kept == column).unwrap_or(0);
        let moved = |origin: &Origin| match origin {
            Origin::Node(column) => Origin::Node(position(column)),
            Origin::Window(part) => Origin::Window(*part),
        };
        let origins = relation.origins.iter().map(moved).collect();
        let extra = extra.iter().map(position).collect();
        let mut key_columns = vec![];
        for key in keys {
            key_columns.push(match relation.origin_of(key) {
                Some(Origin::Node(column)) => position(&column),
                _ => {
                    let computed = self.expression(&relation, key, "the key of a join")?;
                    let name = computed.text.clone();
                    project.find(&computed).unwrap_or_else(|| project.push(self, node, computed, &name))
                }
            });
        }
        if project.is_empty() {
            // Rows that are only counted: one column that is the same in all of them.
            let row = self.expression(&relation, &lit(true), "a row")?;
            project.push(self, node, row, "row");
        }
        let node = if project.is_all_of(self, node) { node } else { project.add(self, node) };
        Ok(Side { relation: Relation { node, origins, ..relation }, keys: key_columns, extra })
    }

    /// `conditions` over the columns of both sides, those of the right one after those of the left one.
    pub(super) fn pair_condition(
        &self,
        left: &Relation,
        right: &Relation,
        conditions: Vec<LogicalExpr>,
    ) -> Result<Option<Expr>, Diagnostic> {
        let right_fields = self.schema(right.node).fields().iter().cloned().collect();
        self.condition_over(left, right, right_fields, conditions)
    }

    /// As [`Lowering::pair_condition`], where the columns of the right side are `right_fields`. Columns that are positions already
    /// stay as they are.
    pub(super) fn condition_over(
        &self,
        left: &Relation,
        right: &Relation,
        right_fields: Vec<FieldRef>,
        conditions: Vec<LogicalExpr>,
    ) -> Result<Option<Expr>, Diagnostic> {
        let Some(condition) = conjunction(conditions) else {
            return Ok(None);
        };
        let left_schema = self.schema(left.node);
        let width = left_schema.fields().len();
        let placed = map_columns(condition.clone(), &|column| {
            let in_left = left.origin_of_column(column).map(|origin| (origin, 0));
            match in_left.or_else(|| right.origin_of_column(column).map(|origin| (origin, width))) {
                Some((Origin::Node(position), offset)) => Some(offset + position),
                _ => None,
            }
        });
        let fields: Vec<FieldRef> = left_schema.fields().iter().cloned().chain(right_fields).collect();
        let planned = positional(&Arc::new(Schema::new(fields)), &placed, "the condition of a join")?;
        Ok(Some(Expr { span: span::of_expr(&condition), ..planned }))
    }
}

//! An input of a join: only the columns that are read, since a join may keep them for long.

use std::sync::Arc;

use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr as LogicalExpr, lit};
use thalweg_core::Diagnostic;
use thalweg_plan::Expr;

use crate::planner::lower::Lowering;
use crate::planner::project::{ProjectBuilder, map_columns, positional};
use crate::planner::relation::{Origin, Relation};
use crate::planner::span;

/// An input of a join, cut to size.
pub(super) struct Side {
    pub(super) relation: Relation,
    /// The columns of the keys.
    pub(super) keys: Vec<usize>,
    /// Where the columns are that were asked for beside the logical ones.
    pub(super) extra: Vec<usize>,
}

impl Lowering<'_> {
    /// `relation` with its logical columns, those of `keys` and the columns `extra` of its node, and no others. Keys that are not
    /// columns are computed. The relation has no pending window.
    pub(super) fn join_side<'e>(
        &mut self,
        relation: Relation,
        keys: impl Iterator<Item = &'e LogicalExpr>,
        extra: &[usize],
    ) -> Result<Side, Diagnostic> {
        let node = relation.node;
        let mut project = ProjectBuilder::default();
        let mut origins = vec![];
        for origin in &relation.origins {
            origins.push(match origin {
                Origin::Node(column) => Origin::Node(project.column(self, node, *column)),
                Origin::Window(part) => Origin::Window(*part),
            });
        }
        let extra = extra.iter().map(|column| project.column(self, node, *column)).collect();
        let mut key_columns = vec![];
        for key in keys {
            key_columns.push(match relation.origin_of(key) {
                Some(Origin::Node(column)) => project.column(self, node, column),
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

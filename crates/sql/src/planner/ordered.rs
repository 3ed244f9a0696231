//! What Top-N, OVER and ORDER BY have in common: columns for expressions, sort keys, time attributes.

use datafusion::logical_expr::Expr as LogicalExpr;
use datafusion::logical_expr::expr::Sort;
use thalweg_core::Diagnostic;
use thalweg_plan::{SortKey, TimeKind};

use super::lower::Lowering;
use super::project::ProjectBuilder;
use super::relation::{Origin, Relation};

impl Lowering<'_> {
    /// The columns of `relation`'s node that hold `exprs`; what is not a column is computed first, behind the columns there are.
    pub(crate) fn columns_for(
        &mut self,
        relation: Relation,
        exprs: &[&LogicalExpr],
        what: &str,
    ) -> Result<(Relation, Vec<usize>), Diagnostic> {
        let mut relation = self.assign_window(relation)?;
        let is_column = |expr: &&LogicalExpr| matches!(relation.origin_of(expr), Some(Origin::Node(_)));
        let mut project = None;
        if !exprs.iter().all(is_column) {
            let mut builder = ProjectBuilder::default();
            for column in 0..self.schema(relation.node).fields().len() {
                builder.column(self, relation.node, column);
            }
            project = Some(builder);
        }
        let mut columns = vec![];
        for expr in exprs {
            columns.push(match (relation.origin_of(expr), &mut project) {
                (Some(Origin::Node(column)), _) => column,
                (_, Some(project)) => {
                    let planned = self.expression(&relation, expr, what)?;
                    let text = planned.text.clone();
                    project.push(self, relation.node, planned, &text)
                }
                (_, None) => unreachable!("an expression that is no column makes a projection"),
            });
        }
        if let Some(project) = project {
            relation.node = project.add(self, relation.node);
        }
        Ok((relation, columns))
    }

    /// What kind of time attribute a column of a node is.
    pub(crate) fn time_kind(&self, node: usize, column: usize) -> Option<TimeKind> {
        let attributes = &self.properties(node).time_attributes;
        attributes.iter().find(|attribute| attribute.column == column).map(|attribute| attribute.kind)
    }
}

/// The expressions of ORDER BY that can order anything: constants cannot.
pub(crate) fn ordering(sorts: &[Sort]) -> Vec<&Sort> {
    sorts.iter().filter(|sort| !sort.expr.column_refs().is_empty()).collect()
}

pub(crate) fn sort_keys(sorts: &[&Sort], columns: &[usize]) -> Vec<SortKey> {
    sorts
        .iter()
        .zip(columns)
        .map(|(sort, column)| SortKey { column: *column, descending: !sort.asc, nulls_first: sort.nulls_first })
        .collect()
}

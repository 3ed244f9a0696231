//! The columns of the row around that a subquery names, made columns of the subquery.
//!
//! Their rows are joined into the subquery where it first names one of them, and kept up to its top: an aggregate is grouped by
//! them as well. So the subquery is a relation that can stand alone.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Distinct, EmptyRelation, Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, binary_expr,
};

use super::optimize::schema_of_inputs;

/// A column of a row around, named in a subquery.
#[derive(Clone, PartialEq)]
pub(crate) struct Named {
    pub(crate) column: Column,
    /// Whether it is named by a subquery within the subquery.
    pub(crate) is_deep: bool,
}

/// The columns that a subquery names and does not have, those of its own subqueries included.
pub(crate) fn named_columns(plan: &LogicalPlan) -> Result<Vec<Named>> {
    let mut named = vec![];
    collect(plan, &mut vec![], &mut named)?;
    Ok(named)
}

fn collect(plan: &LogicalPlan, within: &mut Vec<DFSchema>, named: &mut Vec<Named>) -> Result<()> {
    plan.apply(|node| {
        let around = schema_of_inputs(node);
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::OuterReferenceColumn(_, column) = part {
                    let found = Named { column: column.clone(), is_deep: !within.is_empty() };
                    if !has_column(within, column) && !named.contains(&found) {
                        named.push(found);
                    }
                }
                if let Some(subquery) = subquery_of(part) {
                    within.push(around.clone());
                    collect(&subquery.subquery, within, named)?;
                    within.pop();
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

fn has_column(schemas: &[DFSchema], column: &Column) -> bool {
    schemas.iter().any(|schema| schema.maybe_index_of_column(column).is_some())
}

/// The subquery that an expression is, or is compared with.
pub(super) fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. })
        | Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

/// `expr` with another plan in its subquery.
pub(super) fn with_plan(expr: Expr, plan: LogicalPlan) -> Expr {
    let renewed = |spans| Subquery { outer_ref_columns: plan.all_out_ref_exprs(), subquery: Arc::new(plan.clone()), spans };
    match expr {
        Expr::Exists(exists) => Expr::Exists(Exists { subquery: renewed(exists.subquery.spans), ..exists }),
        Expr::InSubquery(one) => Expr::InSubquery(InSubquery { subquery: renewed(one.subquery.spans), ..one }),
        Expr::ScalarSubquery(subquery) => Expr::ScalarSubquery(renewed(subquery.spans)),
        Expr::SetComparison(one) => Expr::SetComparison(SetComparison { subquery: renewed(one.subquery.spans), ..one }),
        other => other,
    }
}

/// Rows of the columns that a subquery names.
pub(crate) struct Arguments {
    pub(crate) rows: LogicalPlan,
    /// The columns where they come from, and their names in `rows`, which no other column has.
    pub(crate) columns: Vec<(Column, String)>,
}

impl Arguments {
    /// The columns of `source` under names with `prefix`; each combination of them once if `distinct`.
    pub(crate) fn new(source: LogicalPlan, columns: Vec<Column>, prefix: &str, distinct: bool) -> Result<Self> {
        let columns: Vec<(Column, String)> =
            columns.into_iter().enumerate().map(|(index, column)| (column, format!("{prefix}_{index}"))).collect();
        let renamed = columns.iter().map(|(column, name)| Expr::Column(column.clone()).alias(name));
        let rows = LogicalPlanBuilder::from(source).project(renamed)?;
        let rows = if distinct { rows.distinct()? } else { rows }.build()?;
        Ok(Arguments { rows, columns })
    }

    /// The conditions under which a row around and a row of `schema`, which has the arguments, belong together: NULL is the same
    /// as NULL here.
    pub(crate) fn matches(&self, schema: &DFSchema, around: impl Fn(&Column) -> Result<Expr>) -> Result<Vec<Expr>> {
        let own = self.columns_in(schema);
        let pairs = self.columns.iter().zip(own);
        pairs.map(|((column, _), own)| Ok(binary_expr(own, Operator::IsNotDistinctFrom, around(column)?))).collect()
    }

    fn columns_in(&self, schema: &DFSchema) -> Vec<Expr> {
        let column = |name: &String| schema.iter().find(|(_, field)| field.name() == name).map(Expr::from);
        self.columns.iter().filter_map(|(_, name)| column(name)).collect()
    }

    /// `plan` over the arguments, with them among its columns.
    ///
    /// Where no row comes of an argument there is none, whatever `plan` would give over no rows: an aggregate without GROUP BY is
    /// taken only at the top, as `may_be_sole` says, where the caller sees to that. `None` for a plan that cannot be turned so.
    pub(crate) fn attach(&self, plan: LogicalPlan, may_be_sole: bool) -> Result<Option<LogicalPlan>> {
        if named_columns(&plan)?.is_empty() {
            let rows = LogicalPlanBuilder::from(self.rows.clone());
            return match plan {
                LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, .. }) => rows.build(),
                other => rows.cross_join(other)?.build(),
            }
            .map(Some);
        }
        let names = NamePreserver::new(&plan);
        let around = schema_of_inputs(&plan);
        let bound = |expr: Expr| {
            let name = names.save(&expr);
            Ok(name.restore(self.bound(expr, &around)?))
        };
        let all_bound = |exprs: Vec<Expr>| exprs.into_iter().map(bound).collect::<Result<Vec<_>>>();
        let is_sole = |aggregate: &Aggregate| aggregate.group_expr.is_empty();
        let inner = |input: Arc<LogicalPlan>, sole: bool| self.attach(Arc::unwrap_or_clone(input), may_be_sole && sole);
        let attached = match plan {
            LogicalPlan::Filter(filter) => {
                let Some(input) = inner(filter.input, true)? else { return Ok(None) };
                LogicalPlanBuilder::from(input).filter(bound(filter.predicate)?)?.build()?
            }
            LogicalPlan::Projection(projection) => {
                let Some(input) = inner(projection.input, true)? else { return Ok(None) };
                let exprs = all_bound(projection.expr)?.into_iter().chain(self.columns_in(input.schema())).collect::<Vec<_>>();
                LogicalPlanBuilder::from(input).project(exprs)?.build()?
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let Some(input) = inner(alias.input, true)? else { return Ok(None) };
                LogicalPlanBuilder::from(input).alias(alias.alias)?.build()?
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let Some(input) = inner(input, true)? else { return Ok(None) };
                LogicalPlanBuilder::from(input).distinct()?.build()?
            }
            LogicalPlan::Aggregate(aggregate) if may_be_sole || !is_sole(&aggregate) => {
                let of_sets = aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)));
                let (Some(input), false) = (inner(aggregate.input, false)?, of_sets) else { return Ok(None) };
                let mut keys = all_bound(aggregate.group_expr)?;
                keys.extend(self.columns_in(input.schema()));
                LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), keys, all_bound(aggregate.aggr_expr)?)?)
            }
            LogicalPlan::Join(join) => match self.attach_to_side(join, &around)? {
                Some(join) => join,
                None => return Ok(None),
            },
            LogicalPlan::Extension(extension) if extension.node.inputs().len() == 1 => {
                let input = extension.node.inputs()[0].clone();
                let Some(input) = self.attach(input, false)? else { return Ok(None) };
                let exprs = all_bound(extension.node.expressions())?;
                LogicalPlan::Extension(extension).with_new_exprs(exprs, vec![input])?
            }
            _ => return Ok(None),
        };
        Ok(Some(attached))
    }

    /// The side of a join that keeps the arguments: every row of theirs has to meet what it met before.
    fn attach_to_side(&self, join: Join, around: &DFSchema) -> Result<Option<LogicalPlan>> {
        let (left, right) = (!named_columns(&join.left)?.is_empty(), !named_columns(&join.right)?.is_empty());
        let into_right = right && !left && join.join_type == JoinType::Inner;
        let into_left = !right && matches!(join.join_type, JoinType::Inner | JoinType::Left);
        let (left, right) = match (into_left, into_right) {
            (true, _) => (self.attach(Arc::unwrap_or_clone(join.left), false)?, Some(Arc::unwrap_or_clone(join.right))),
            (_, true) => (Some(Arc::unwrap_or_clone(join.left)), self.attach(Arc::unwrap_or_clone(join.right), false)?),
            _ => return Ok(None),
        };
        let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
        let filter = join.filter.map(|filter| self.bound(filter, around)).transpose()?;
        let joined = Join::try_new(
            Arc::new(left),
            Arc::new(right),
            join.on,
            filter,
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        Ok(Some(LogicalPlan::Join(joined)))
    }

    fn name_of(&self, column: &Column) -> Option<&String> {
        self.columns.iter().find(|(own, _)| own == column).map(|(_, name)| name)
    }

    /// `expr` of a node over `around`, with the arguments in place of the columns of the row around.
    fn bound(&self, expr: Expr, around: &DFSchema) -> Result<Expr> {
        let done = expr.transform_down(|part| {
            if let Expr::OuterReferenceColumn(_, column) = &part {
                return Ok(match self.name_of(column) {
                    Some(name) => Transformed::yes(Expr::Column(Column::new_unqualified(name))),
                    None => Transformed::no(part),
                });
            }
            Ok(match subquery_of(&part) {
                Some(subquery) => {
                    let plan = self.renamed(subquery.subquery.as_ref().clone(), &mut vec![around.clone()])?;
                    Transformed::yes(with_plan(part, plan))
                }
                None => Transformed::no(part),
            })
        })?;
        Ok(done.data)
    }

    /// A subquery within the one that has the arguments: they are columns of the row around it now.
    fn renamed(&self, plan: LogicalPlan, within: &mut Vec<DFSchema>) -> Result<LogicalPlan> {
        let done = plan.transform_up(|node| {
            let names = NamePreserver::new(&node);
            let own = schema_of_inputs(&node);
            let node = node.map_expressions(|expr| {
                let name = names.save(&expr);
                let done = expr.transform_down(|part| {
                    if let Expr::OuterReferenceColumn(field, column) = &part {
                        return Ok(match self.name_of(column).filter(|_| !has_column(within, column)) {
                            Some(name) => {
                                let column = Column::new_unqualified(name);
                                Transformed::yes(Expr::OuterReferenceColumn(field.clone(), column))
                            }
                            None => Transformed::no(part),
                        });
                    }
                    let Some(subquery) = subquery_of(&part) else { return Ok(Transformed::no(part)) };
                    within.push(own.clone());
                    let plan = self.renamed(subquery.subquery.as_ref().clone(), within)?;
                    within.pop();
                    Ok(Transformed::yes(with_plan(part, plan)))
                })?;
                Ok(Transformed::yes(name.restore(done.data)))
            })?;
            Ok(Transformed::yes(node.data.recompute_schema()?))
        })?;
        Ok(done.data)
    }
}

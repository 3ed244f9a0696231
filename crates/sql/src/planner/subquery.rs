//! Subqueries in expressions: what is done to them before DataFusion turns them into joins.
//!
//! | SQL | what DataFusion makes of it, after the changes here |
//! |---|---|
//! | `x IN (SELECT …)`, `EXISTS (SELECT …)` in WHERE or HAVING | a semi join |
//! | `x NOT IN (SELECT …)` | an anti join that knows nulls, see [`super::null_aware`] |
//! | `NOT EXISTS (SELECT …)` | an anti join |
//! | the same below OR | a mark join |
//! | the same in SELECT | a count of the rows that match, as a value, compared with 0 |
//! | `(a, b) IN (SELECT c, d …)` | as EXISTS |
//! | `> ANY (SELECT …)` and the like | as EXISTS, see [`super::quantified`] |
//! | `(SELECT …)` as a value | a left join with its row; a second row fails the job |
//! | those that compare outer columns otherwise than with `=` | the same, see [`super::outer_columns`] |

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, ExprSchema, Result};
use datafusion::logical_expr::expr::{AggregateFunction as AggregateCall, Exists, InSubquery, ScalarFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, cast};
use datafusion::sql::sqlparser::ast::{self, Ident, TableAlias, TableAliasColumnDef, TableFactor};
use datafusion::sql::sqlparser::tokenizer::Span;
use thalweg_core::{Code, Diagnostic};

use super::arguments::subquery_of;
use super::error::refuse;
use super::exists::{as_count, simpler_exists, sole_aggregate};
use super::lateral::with_grouped_lateral;
use super::names_apart::with_names_apart;
use super::optimize::schema_of_inputs;
use super::outer_columns::{OuterColumns, is_more_than_equality};
use super::quantified::as_exists;
use super::{aggregate_function, ast_build, span};
use crate::functions::expr_planner::sign_of;

/// The name of a row's subquery within the EXISTS that it becomes.
const ROWS: &str = "__rows";
/// How the names of computed columns begin that a subquery compares with the row around it.
const KEY: &str = "__key";

/// `(a, b) IN (SELECT c, d …)` becomes `EXISTS (SELECT 1 FROM (SELECT c, d …) AS r (r0, r1) WHERE a = r0 AND b = r1)`. For
/// NOT IN a comparison that is unknown excludes the row as well.
pub(crate) fn rewrite_row_in(expr: &mut ast::Expr) {
    let ast::Expr::InSubquery { expr: row, subquery, negated } = expr else {
        return;
    };
    let mut tuple = &**row;
    while let ast::Expr::Nested(inner) = tuple {
        tuple = inner;
    }
    let ast::Expr::Tuple(values) = tuple else {
        return;
    };
    let names: Vec<Ident> = (0..values.len()).map(|index| Ident::with_quote('`', format!("{ROWS}{index}"))).collect();
    let equal = values.iter().zip(&names).map(|(value, name)| ast::Expr::BinaryOp {
        left: Box::new(value.clone()),
        op: ast::BinaryOperator::Eq,
        right: Box::new(ast::Expr::Identifier(name.clone())),
    });
    let all_equal = equal.reduce(|left, right| ast::Expr::BinaryOp {
        left: Box::new(left),
        op: ast::BinaryOperator::And,
        right: Box::new(right),
    });
    let Some(all_equal) = all_equal else {
        return;
    };
    let columns = names.into_iter().map(|name| TableAliasColumnDef { name, data_type: None }).collect();
    let alias = TableAlias { explicit: true, name: Ident::with_quote('`', ROWS), columns, at: None };
    let rows = TableFactor::Derived { lateral: false, subquery: subquery.clone(), alias: Some(alias), sample: None };
    let one = ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Number("1".to_string(), false), span: Span::empty() });
    let item = ast::SelectItem::ExprWithAlias { expr: one, alias: Ident::with_quote('`', "found") };
    let from = vec![ast::TableWithJoins { relation: rows, joins: vec![] }];
    let mut select = ast_build::select(vec![item], from);
    select.selection = Some(match negated {
        true => ast::Expr::IsNotFalse(Box::new(ast::Expr::Nested(Box::new(all_equal)))),
        false => all_equal,
    });
    let query = ast_build::query(ast::SetExpr::Select(Box::new(select)));
    *expr = ast::Expr::Exists { subquery: Box::new(query), negated: *negated };
}

/// `x = ANY (SELECT …)` is IN, `x <> ALL (SELECT …)` is NOT IN, `x > ANY (VALUES 1, 2)` is `x > 1 OR x > 2`.
pub(crate) fn rewrite_any(expr: &mut ast::Expr) {
    if let Some(comparisons) = of_values(expr) {
        *expr = ast::Expr::Nested(Box::new(comparisons));
        return;
    }
    if let Some((left, subquery, negated)) = as_in(expr) {
        *expr = ast::Expr::InSubquery { expr: Box::new(left.clone()), subquery: Box::new(subquery.clone()), negated };
    }
}

/// What [`rewrite_any`] makes IN of: the value, the subquery, and whether it is NOT IN.
fn as_in(expr: &ast::Expr) -> Option<(&ast::Expr, &ast::Query, bool)> {
    let (left, right, negated) = match expr {
        ast::Expr::AnyOp { left, compare_op: ast::BinaryOperator::Eq, right, .. } => (left, right, false),
        ast::Expr::AllOp { left, compare_op: ast::BinaryOperator::NotEq, right } => (left, right, true),
        _ => return None,
    };
    match &**right {
        ast::Expr::Subquery(subquery) => Some((left, subquery, negated)),
        _ => None,
    }
}

/// The comparisons of ANY and ALL with listed values.
fn of_values(expr: &ast::Expr) -> Option<ast::Expr> {
    let (left, op, right, joined) = match expr {
        ast::Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, ast::BinaryOperator::Or),
        ast::Expr::AllOp { left, compare_op, right } => (left, compare_op, right, ast::BinaryOperator::And),
        _ => return None,
    };
    let ast::Expr::Tuple(values) = &**right else {
        return None;
    };
    let binary = |left: ast::Expr, op: &ast::BinaryOperator, right: ast::Expr| ast::Expr::BinaryOp {
        left: Box::new(left),
        op: op.clone(),
        right: Box::new(right),
    };
    let compared = values.iter().map(|value| binary((**left).clone(), op, value.clone()));
    compared.reduce(|one, other| binary(one, &joined, other))
}

/// The values of `VALUES 1, 2` or `VALUES (1), (2)`.
fn listed(query: &ast::Query) -> Option<Vec<ast::Expr>> {
    let ast::SetExpr::Values(values) = &*query.body else {
        return None;
    };
    let is_plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && values.rows.iter().all(|row| row.content.len() == 1);
    is_plain.then(|| values.rows.iter().flat_map(|row| row.content.iter().cloned()).collect())
}

/// `x IN (VALUES (1), (2))` is `x IN (1, 2)`; one with LIMIT is a subquery around it.
pub(crate) fn rewrite_values_in(expr: &mut ast::Expr) {
    let ast::Expr::InSubquery { expr: value, subquery, negated } = expr else {
        return;
    };
    match listed(subquery) {
        Some(list) => *expr = ast::Expr::InList { expr: value.clone(), list, negated: *negated },
        None if matches!(*subquery.body, ast::SetExpr::Values(_)) => {
            **subquery = ast_build::query(ast_build::select_all(ast_build::derived(subquery.clone())));
        }
        None => {}
    }
}

/// Makes the subqueries of a bound plan such that the optimizer's joins mean the same.
pub(crate) fn prepare(plan: LogicalPlan) -> Result<LogicalPlan> {
    let outer_columns = OuterColumns::default();
    let prepared = outer_columns.flatten(as_exists(with_names_apart(plan)?)?)?.transform_up_with_subqueries(|node| {
        let node = with_plain_equalities(node)?;
        let node = match node {
            LogicalPlan::Join(mut join) => {
                join.right = Arc::new(with_grouped_lateral(Arc::unwrap_or_clone(join.right))?);
                LogicalPlan::Join(join)
            }
            other => other,
        };
        if !has_subquery(&node)? {
            return Ok(Transformed::no(node));
        }
        check_outer_columns(&node)?;
        let around = schema_of_inputs(&node);
        let node = match node {
            LogicalPlan::Filter(_) => node.map_expressions(|expr| expr.transform_up(|part| Ok(simpler_exists(part))))?.data,
            LogicalPlan::Projection(_) => node.map_expressions(|expr| expr.transform_up(|part| as_count(part, &around)))?.data,
            other => other,
        };
        let node = match node {
            LogicalPlan::Filter(mut filter) => {
                let schema = filter.input.schema().clone();
                let conditions = split_conjunction_owned(filter.predicate.clone());
                let conditions =
                    conditions.into_iter().map(|condition| prepare_condition(condition, &schema)).collect::<Result<Vec<_>>>()?;
                filter.predicate = conjunction(conditions).unwrap_or(filter.predicate);
                LogicalPlan::Filter(filter)
            }
            other => other,
        };
        let single = node.map_expressions(|expr| expr.transform_up(with_single_value))?;
        let node = outer_columns.with_joined_values(single.data.recompute_schema()?, is_more_than_equality)?;
        Ok(Transformed::yes(node))
    })?;
    Ok(prepared.data)
}

/// Gives the equalities of a filter between a row and the row around it the form that DataFusion takes out of an aggregate above: a
/// column, `=`, and an expression of the row around.
///
/// They become keys of a join. As keys floats are equal when their bits are, so nothing is lost of Flink's `=`.
pub(crate) fn with_plain_equalities(node: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Filter(filter) = node else {
        return Ok(node);
    };
    if !filter.predicate.contains_outer() {
        return Ok(LogicalPlan::Filter(filter));
    }
    let (input, conditions) = with_own_names(filter.input, split_conjunction_owned(filter.predicate))?;
    let schema = input.schema().clone();
    let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    let mut plain = vec![];
    for condition in conditions {
        plain.push(match equality_with_outer(&condition, &schema)? {
            Some((Expr::Column(key), outer)) => Expr::Column(key).eq(outer),
            Some((computed, outer)) => {
                let name = format!("{KEY}{}", columns.len());
                columns.push(computed.alias(&name));
                Expr::Column(Column::new_unqualified(name)).eq(outer)
            }
            None => condition,
        });
    }
    let mut rows = LogicalPlanBuilder::from(input);
    if columns.len() > schema.fields().len() {
        rows = rows.project(columns)?;
    }
    match conjunction(plain) {
        Some(condition) => rows.filter(condition)?.build(),
        None => rows.build(),
    }
}

/// Gives names of their own to those columns in conditions on the row around that differ from others in their tables alone: what is
/// compared becomes visible above the subquery, and its table does not.
fn with_own_names(input: Arc<LogicalPlan>, conditions: Vec<Expr>) -> Result<(Arc<LogicalPlan>, Vec<Expr>)> {
    let schema = input.schema().clone();
    let is_shared = |column: &Column| schema.iter().filter(|(_, field)| *field.name() == column.name).count() > 1;
    let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    let mut named = vec![];
    for condition in conditions {
        if !condition.contains_outer() {
            named.push(condition);
            continue;
        }
        let done = condition.transform(|part| {
            Ok(match part {
                Expr::Column(column) if is_shared(&column) => {
                    let name = format!("{KEY}{}", columns.len());
                    columns.push(Expr::Column(column).alias(&name));
                    Transformed::yes(Expr::Column(Column::new_unqualified(name)))
                }
                other => Transformed::no(other),
            })
        })?;
        named.push(done.data);
    }
    if columns.len() == schema.fields().len() {
        return Ok((input, named));
    }
    Ok((Arc::new(LogicalPlanBuilder::from(input).project(columns)?.build()?), named))
}

/// An expression of the row and one of the row around, of one type, if `condition` says that they are equal.
pub(crate) fn equality_with_outer(condition: &Expr, schema: &DFSchema) -> Result<Option<(Expr, Expr)>> {
    let (left, right, is_plain) = match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => (&**left, &**right, true),
        Expr::ScalarFunction(ScalarFunction { func, args }) if sign_of(func.name()) == Some("=") && args.len() == 2 => {
            (&args[0], &args[1], false)
        }
        _ => return Ok(None),
    };
    let is_inner = |expr: &Expr| expr.any_column_refs() && !expr.contains_outer() && !expr.is_volatile();
    let is_outer = |expr: &Expr| expr.contains_outer() && !expr.any_column_refs();
    let (inner, outer) = match (is_inner(left) && is_outer(right), is_inner(right) && is_outer(left)) {
        (true, _) => (left.clone(), right.clone()),
        (_, true) => (right.clone(), left.clone()),
        _ => return Ok(None),
    };
    if is_plain || inner.get_type(schema)? == outer.get_type(schema)? {
        return Ok(Some((inner, outer)));
    }
    Ok(Some((cast(inner, DataType::Float64), cast(outer, DataType::Float64))))
}

/// `expr` over the row around, as it is named in a subquery.
pub(crate) fn as_outer(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let outer = expr.transform(|part| {
        Ok(match part {
            Expr::Column(column) => {
                let field = schema.field_from_column(&column)?;
                Transformed::yes(Expr::OuterReferenceColumn(field.clone(), column))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(outer.data)
}

fn has_subquery(node: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found = found || expr.exists(|part| Ok(subquery_of(part).is_some()))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Refuses a subquery that names columns of a query further out than the one around it: no rule takes it that far.
fn check_outer_columns(node: &LogicalPlan) -> Result<()> {
    let around = schema_of_inputs(node);
    node.apply_expressions(|expr| {
        expr.apply(|part| {
            if let Expr::Exists(Exists { subquery, .. })
            | Expr::InSubquery(InSubquery { subquery, .. })
            | Expr::ScalarSubquery(subquery) = part
            {
                subquery.subquery.apply(|inner| check_outer_columns_of(inner, &around))?;
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(())
}

/// Whether the outer columns that a node of a subquery names are all in `around`.
fn check_outer_columns_of(node: &LogicalPlan, around: &DFSchema) -> Result<TreeNodeRecursion> {
    node.apply_expressions(|expr| {
        expr.apply(|part| match part {
            // A subquery in a subquery has this query around it.
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) => Ok(TreeNodeRecursion::Jump),
            Expr::OuterReferenceColumn(_, column) if around.maybe_index_of_column(column).is_none() => Err(refuse(
                Diagnostic::error(
                    Code::NOT_YET,
                    format!("a subquery that names \"{}\" of a query two levels out does not run yet", column.flat_name()),
                )
                .label_opt(span::of_plan(node), "this subquery")
                .help("name only columns of the query right around it: join the tables of the query between in FROM"),
            )),
            _ => Ok(TreeNodeRecursion::Continue),
        })
    })?;
    Ok(TreeNodeRecursion::Continue)
}

/// A subquery as a value gives one row, as far as the planner can see, or an aggregate sees to it when rows come.
pub(crate) fn with_single_value(part: Expr) -> Result<Transformed<Expr>> {
    let Expr::ScalarSubquery(Subquery { subquery, outer_ref_columns, spans }) = part else {
        return Ok(Transformed::no(part));
    };
    if sole_aggregate(&subquery).is_some() || subquery.max_rows().is_some_and(|rows| rows <= 1) {
        return Ok(Transformed::no(Expr::ScalarSubquery(Subquery { subquery, outer_ref_columns, spans })));
    }
    let column = Expr::Column(subquery.schema().columns().swap_remove(0));
    let single = Expr::AggregateFunction(AggregateCall::new_udf(
        aggregate_function::single_value(),
        vec![column],
        false,
        None,
        vec![],
        None,
    ));
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery)).aggregate(Vec::<Expr>::new(), vec![single])?.build()?;
    Ok(Transformed::yes(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans })))
}

/// A condition of WHERE or HAVING: IN and EXISTS at its top become semi and anti joins as they are, those below AND, OR and NOT
/// become columns that say whether there is a match, which is the same as long as only TRUE counts.
fn prepare_condition(condition: Expr, schema: &DFSchema) -> Result<Expr> {
    match &condition {
        Expr::InSubquery(_) | Expr::Exists(_) => Ok(condition),
        Expr::Not(inner) if matches!(**inner, Expr::InSubquery(_) | Expr::Exists(_)) => Ok(condition),
        other if holds_in(other)? => truth_of(condition, false, schema),
        _ => Ok(condition),
    }
}

fn holds_in(expr: &Expr) -> Result<bool> {
    expr.exists(|part| Ok(matches!(part, Expr::InSubquery(_))))
}

/// An expression that is TRUE where `expr` is TRUE, or where it is FALSE if `negated`.
fn truth_of(expr: Expr, negated: bool, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::Not(inner) => truth_of(*inner, !negated, schema),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let (left, right) = (truth_of(*left, negated, schema)?, truth_of(*right, negated, schema)?);
            Ok(if (op == Operator::And) != negated { left.and(right) } else { left.or(right) })
        }
        Expr::InSubquery(one) if one.negated != negated => not_in_as_not_exists(one, schema),
        Expr::InSubquery(one) => Ok(Expr::InSubquery(InSubquery { negated: false, ..one })),
        other if holds_in(&other)? => Err(refuse(
            Diagnostic::error(Code::NOT_YET, "IN with a subquery inside of another expression does not run yet")
                .label_opt(span::of_expr(&other), "this")
                .help("use it with AND, OR and NOT alone"),
        )),
        other if negated => Ok(Expr::Not(Box::new(other))),
        other => Ok(other),
    }
}

/// `x NOT IN (SELECT y …)` as `NOT EXISTS (SELECT … WHERE (x = y) IS NOT FALSE)`.
fn not_in_as_not_exists(one: InSubquery, schema: &DFSchema) -> Result<Expr> {
    let outer = as_outer(*one.expr, schema)?;
    let rows = Arc::unwrap_or_clone(one.subquery.subquery);
    let column = Expr::Column(rows.schema().columns().swap_remove(0));
    let plan = filtered(rows, outer.eq(column).is_not_false())?;
    let outer_ref_columns = plan.all_out_ref_exprs();
    let subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: one.subquery.spans };
    Ok(Expr::Exists(Exists { subquery, negated: true }))
}

/// The rows of a subquery for which `condition` over its columns holds, which names the row around: together with what the
/// subquery's own WHERE says of that, as DataFusion takes only one filter out of a subquery.
pub(crate) fn filtered(rows: LogicalPlan, condition: Expr) -> Result<LogicalPlan> {
    match rows {
        LogicalPlan::Projection(projection) => {
            let schema = projection.schema.clone();
            let done = condition.transform_up(|part| {
                let index = part.try_as_col().and_then(|column| schema.maybe_index_of_column(column));
                Ok(match index {
                    Some(index) => Transformed::yes(projection.expr[index].clone().unalias_nested().data),
                    None => Transformed::no(part),
                })
            })?;
            let input = filtered(Arc::unwrap_or_clone(projection.input), done.data)?;
            LogicalPlanBuilder::from(input).project(projection.expr)?.build()
        }
        LogicalPlan::Filter(filter) => LogicalPlanBuilder::from(filter.input).filter(filter.predicate.and(condition))?.build(),
        other => LogicalPlanBuilder::from(other).filter(condition)?.build(),
    }
}

/// Refuses a subquery that is left after the optimizer's work.
///
/// # Errors
/// `NOT_YET` when there is one.
pub(crate) fn check_none_left(plan: &LogicalPlan) -> Result<()> {
    plan.apply(|node| {
        if let LogicalPlan::Subquery(subquery) = node {
            return Err(refuse(
                Diagnostic::error(Code::NOT_YET, "this LATERAL subquery does not run yet")
                    .label_opt(span::of_plan(&subquery.subquery), "this")
                    .help("name columns of the tables before it in one SELECT without UNION, ORDER BY, LIMIT or OVER"),
            ));
        }
        node.apply_expressions(|expr| {
            expr.apply(|part| match part {
                Expr::Exists(exists) => Err(left_over("EXISTS in this place", part, &exists.subquery)),
                Expr::InSubquery(one) => Err(left_over("IN with a subquery in this place", part, &one.subquery)),
                Expr::ScalarSubquery(subquery) => Err(left_over("this subquery as a value", part, subquery)),
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    Ok(())
}

/// The refusal of a subquery that no rule turns into a join.
pub(crate) fn left_over(what: &str, part: &Expr, subquery: &Subquery) -> DataFusionError {
    let help = match part {
        Expr::ScalarSubquery(_) => {
            "name outer columns in one SELECT without UNION, LIMIT or OVER, and one aggregate above them; or join the tables"
        }
        _ => "it may stand in SELECT, WHERE, HAVING and ON, and compare outer columns in its WHERE",
    };
    let place = span::union(span::of_expr(part), span::of_plan(&subquery.subquery));
    refuse(Diagnostic::error(Code::NOT_YET, format!("{what} does not run yet")).label_opt(place, "this").help(help))
}

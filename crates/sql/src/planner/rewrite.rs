//! Changes to the syntax tree that give DataFusion's binder Flink's names and literals.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, Ident, LimitClause, ObjectName, Query, Select, SelectItem, Spanned, TableFactor, Value, ValueWithSpan, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::dialect::NESTED_SETS;

use super::{from_clause, group_window, interval, set_operation, state_ttl, subquery, unique_names, values};

/// Rewrites `query`, subqueries included:
///
/// - every select item gets a name: its column's, else `EXPR$0` by position; a name used before gets a number;
/// - `1e3` becomes a DOUBLE, as all other numbers with a point are DECIMAL;
/// - intervals are spelled out;
/// - the old group windows become window calls in FROM;
/// - INTERSECT, EXCEPT, UNNEST, USING and NATURAL become calls in FROM, see [`super::from_call`];
/// - relations that a STATE_TTL hint names become calls in FROM;
/// - columns of one name in a subquery get numbers;
/// - `x = ANY (SELECT …)` becomes IN, `x IN (VALUES …)` a list, `(a, b) IN (SELECT …)` becomes EXISTS;
/// - `GROUP BY (a, b)` is `GROUP BY a, b`, `GROUP BY ()` groups all rows, ROLLUP and CUBE of such groups are GROUPING SETS, and those within
///   GROUPING SETS are some of them;
/// - GROUPING_ID is GROUPING of several columns, and both are BIGINT;
/// - the values of a VALUES column are of one type;
/// - FETCH becomes LIMIT.
///
/// `syntax` is applied to every expression, after its parts.
pub(crate) fn rewrite(query: &Query, syntax: &dyn Fn(&mut Expr)) -> Query {
    let mut query = query.clone();
    let _ = query.visit(&mut Rewrite { syntax });
    query
}

/// As [`rewrite`], for an expression that stands alone.
pub(crate) fn rewrite_expression(mut expr: Expr, syntax: &dyn Fn(&mut Expr)) -> Expr {
    let _ = expr.visit(&mut Rewrite { syntax });
    expr
}

struct Rewrite<'a> {
    syntax: &'a dyn Fn(&mut Expr),
}

impl VisitorMut for Rewrite<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        values::settle(&mut query.body);
        limit_of_fetch(query);
        set_operation::rewrite(&mut query.body);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        unique_names::rewrite_union(&mut query.body);
        if let Some(with) = &mut query.with {
            with.cte_tables.iter_mut().for_each(|table| unique_names::rewrite_query(&mut table.query));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        unique_names::rewrite_factor(factor);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_items(&mut select.projection);
        state_ttl::rewrite(select);
        group_window::rewrite(select);
        from_clause::rewrite(select);
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            let mut unique: Vec<Expr> = vec![];
            let parts = |expr| match expr {
                Expr::Tuple(parts) => parts,
                other => vec![other],
            };
            for mut expr in exprs.drain(..).flat_map(parts) {
                // A number is a constant here, as in Flink; the binder would take it for the number of a column.
                if let Expr::Value(ValueWithSpan { value: Value::Number(number, _), span }) = &expr {
                    expr = cast_text(number.clone(), *span, DataType::Int(None));
                }
                expr = spelt_out(expr);
                if !unique.contains(&expr) {
                    unique.push(expr);
                }
            }
            *exprs = unique;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        subquery::rewrite_any(expr);
        subquery::rewrite_values_in(expr);
        subquery::rewrite_row_in(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let place = match expr {
            Expr::Value(value) => value.span,
            _ => Span::empty(),
        };
        match expr {
            Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) if number.contains(['e', 'E']) => {
                *expr = cast_text(number.clone(), place, DataType::Double(ExactNumberInfo::None));
            }
            Expr::Interval(interval) => interval::normalise(interval),
            Expr::CompoundFieldAccess { access_chain, .. } => access_chain.iter_mut().for_each(name_field),
            Expr::Function(function) if is_grouping(function) => {
                function.name = ObjectName::from(vec![Ident::with_span(Spanned::span(&function.name), "GROUPING")]);
                let grouping = Box::new(Expr::Function(function.clone()));
                let data_type = DataType::BigInt(None);
                *expr = Expr::Cast { kind: CastKind::Cast, expr: grouping, data_type, array: false, format: None };
            }
            _ => {}
        }
        (self.syntax)(expr);
        ControlFlow::Continue(())
    }
}

/// ROLLUP and CUBE of groups of columns, and groupings within GROUPING SETS, as GROUPING SETS: the binder does not take them.
fn spelt_out(expr: Expr) -> Expr {
    let is_of_groups = |parts: &[Vec<Expr>]| parts.iter().any(|part| part.len() != 1);
    match expr {
        Expr::Rollup(parts) if is_of_groups(&parts) => Expr::GroupingSets(sets_of_rollup(&parts)),
        Expr::Cube(parts) if is_of_groups(&parts) && parts.len() <= CUBE_PARTS_MAX => Expr::GroupingSets(sets_of_cube(&parts)),
        Expr::GroupingSets(sets) => Expr::GroupingSets(sets.into_iter().flat_map(sets_of_set).collect()),
        other => other,
    }
}

/// More would be too many groupings in any case.
const CUBE_PARTS_MAX: usize = 12;

fn sets_of_rollup(parts: &[Vec<Expr>]) -> Vec<Vec<Expr>> {
    (0..=parts.len()).rev().map(|count| parts[..count].concat()).collect()
}

fn sets_of_cube(parts: &[Vec<Expr>]) -> Vec<Vec<Expr>> {
    let set = |chosen: usize| -> Vec<Expr> {
        (0..parts.len()).filter(|part| chosen & (1 << part) != 0).flat_map(|part| parts[part].clone()).collect()
    };
    (0..1_usize << parts.len()).rev().map(set).collect()
}

/// The sets that one of GROUPING SETS stands for: several if it is a ROLLUP, CUBE or GROUPING SETS itself, which are calls there.
fn sets_of_set(set: Vec<Expr>) -> Vec<Vec<Expr>> {
    let [Expr::Function(Function { name, args: FunctionArguments::List(list), .. })] = set.as_slice() else {
        return vec![set];
    };
    let parts: Vec<Vec<Expr>> = list
        .args
        .iter()
        .filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Tuple(parts))) => Some(parts.clone()),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(part)) => Some(vec![part.clone()]),
            _ => None,
        })
        .collect();
    match name.to_string().to_uppercase().as_str() {
        "ROLLUP" => sets_of_rollup(&parts),
        "CUBE" if parts.len() <= CUBE_PARTS_MAX => sets_of_cube(&parts),
        NESTED_SETS => parts.into_iter().flat_map(sets_of_set).collect(),
        _ => vec![set],
    }
}

/// The binder takes the name of a field behind brackets, as in `items[1].price`, only as a text.
fn name_field(access: &mut AccessExpr) {
    if let AccessExpr::Dot(Expr::Identifier(name)) = access {
        let value = Value::SingleQuotedString(name.value.clone());
        *access = AccessExpr::Dot(Expr::Value(ValueWithSpan { value, span: name.span }));
    }
}

fn name_items(items: &mut [SelectItem]) {
    let mut taken: HashSet<String> = HashSet::new();
    for (position, item) in items.iter_mut().enumerate() {
        let (expr, name, place) = match item {
            SelectItem::UnnamedExpr(expr) => {
                let (name, place) = item_name(expr, position);
                (expr.clone(), name, place)
            }
            SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), alias.value.clone(), alias.span),
            _ => continue,
        };
        let unique = unique_names::unique(&name, &mut taken);
        *item = SelectItem::ExprWithAlias { expr, alias: Ident { value: unique, quote_style: Some('`'), span: place } };
    }
}

fn is_grouping(function: &Function) -> bool {
    ["GROUPING", "GROUPING_ID"].iter().any(|name| function.name.to_string().eq_ignore_ascii_case(name))
}

/// `FETCH FIRST n ROWS ONLY` is LIMIT n; without a number it is one row.
fn limit_of_fetch(query: &mut Query) {
    let Some(fetch) = query.fetch.take() else {
        return;
    };
    let one = || Expr::Value(ValueWithSpan { value: Value::Number("1".to_string(), false), span: Span::empty() });
    let offset = match query.limit_clause.take() {
        Some(LimitClause::LimitOffset { offset, .. }) => offset,
        _ => None,
    };
    let limit = Some(fetch.quantity.unwrap_or_else(one));
    query.limit_clause = Some(LimitClause::LimitOffset { limit, offset, limit_by: vec![] });
}

/// The name that Flink gives to a select item without one.
fn item_name(expr: &Expr, position: usize) -> (String, Span) {
    match expr {
        Expr::Identifier(ident) => (ident.value.clone(), ident.span),
        Expr::CompoundIdentifier(parts) if !parts.is_empty() => {
            let last = &parts[parts.len() - 1];
            (last.value.clone(), last.span)
        }
        Expr::Nested(inner) => item_name(inner, position),
        _ => (format!("EXPR${position}"), Span::empty()),
    }
}

fn text(text: String, span: Span) -> Expr {
    Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span })
}

fn cast_text(value: String, span: Span, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(text(value, span)), data_type, array: false, format: None }
}

//! The windows that stood in GROUP BY before there were window calls in FROM.
//!
//! ```text
//! SELECT k, TUMBLE_START(ts, size) FROM t WHERE c GROUP BY k, TUMBLE(ts, size)
//! -->
//! SELECT k, window_start FROM TABLE(TUMBLE((SELECT * FROM t WHERE c), DESCRIPTOR(ts), size)) AS t
//! GROUP BY k, window_start, window_end, window_time
//! ```
//!
//! `TUMBLE_PROCTIME(pt, size)` is PROCTIME(), as it is when the result comes out. HOP need not be a whole number of slides here. SESSION has a session for each combination of the other columns in GROUP BY.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr,
    TableAlias, TableFactor, TableWithJoins, visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::ast_build::{self, call};
use super::window_call::GROUP_HOP;
use super::window_node::WINDOW_COLUMNS;

/// The parts of a call that can be rewritten.
struct GroupWindow<'a> {
    call: &'a Expr,
    function: &'a Function,
    /// Upper case.
    name: String,
    time: Ident,
    /// The lengths, in the order of the call in FROM.
    lengths: Vec<Expr>,
    /// The columns of PARTITION BY of a SESSION.
    keys: Vec<Ident>,
}

/// The call in GROUP BY, if there is one and it has the form of one.
fn find(select: &Select) -> Option<GroupWindow<'_>> {
    let GroupByExpr::Expressions(groups, _) = &select.group_by else {
        return None;
    };
    let (call, function, name) = groups.iter().find_map(|group| match group {
        Expr::Function(function) => {
            let name = function.name.to_string().to_uppercase();
            ["TUMBLE", "HOP", "SESSION"].contains(&name.as_str()).then_some((group, function, name))
        }
        _ => None,
    })?;
    let mut args = arguments(function)?.into_iter();
    let time = column(args.next()?)?;
    let lengths: Vec<Expr> = args.cloned().collect();
    let others = groups.iter().filter(|group| !std::ptr::eq(*group, call));
    let keys = if name == "SESSION" { others.map(column).collect::<Option<Vec<_>>>()? } else { vec![] };
    let has_one_input = matches!(select.from.as_slice(), [from] if from.joins.is_empty());
    let count = if name == "HOP" { 2 } else { 1 };
    (has_one_input && lengths.len() == count).then_some(GroupWindow { call, function, name, time, lengths, keys })
}

fn arguments(function: &Function) -> Option<Vec<&Expr>> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    list.args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}

fn column(expr: &Expr) -> Option<Ident> {
    match expr {
        Expr::Identifier(name) => Some(name.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().cloned(),
        _ => None,
    }
}

/// The window column, or the clock, that a call such as `TUMBLE_START(ts, size)` stands for beside the window `window`, whose arguments are
/// `arguments`.
fn companion(expr: &Expr, window: &str, arguments: &FunctionArguments, place: Span) -> Option<Expr> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let name = function.name.to_string().to_uppercase();
    let column = |part: usize| Expr::Identifier(Ident::with_span(place, WINDOW_COLUMNS[part]));
    let stands_for = match name.strip_prefix(window)? {
        "_START" => column(0),
        "_END" => column(1),
        "_ROWTIME" => column(2),
        "_PROCTIME" => call("PROCTIME", place, vec![]),
        _ => return None,
    };
    (function.args.to_string() == arguments.to_string()).then_some(stands_for)
}

/// The places in memory of the calls of `select` that [`rewrite`] will replace.
pub(crate) fn calls(select: &Select) -> Vec<*const Expr> {
    let Some(window) = find(select) else {
        return vec![];
    };
    let mut found = vec![std::ptr::from_ref(window.call)];
    let mut collect = |expr: &Expr| {
        if companion(expr, &window.name, &window.function.args, Span::empty()).is_some() {
            found.push(std::ptr::from_ref(expr));
        }
        ControlFlow::<()>::Continue(())
    };
    let _ = visit_expressions(&select.projection, &mut collect);
    let _ = visit_expressions(&select.having, &mut collect);
    found
}

/// Gives `select` the form with a window call in FROM, if it groups by a window.
pub(crate) fn rewrite(select: &mut Select) {
    let Some(window) = find(select) else {
        return;
    };
    let function = window.function.clone();
    let (name, call) = (window.name.clone(), window.call.clone());
    let place = function.name.0.first().and_then(|part| part.as_ident()).map_or_else(Span::empty, |ident| ident.span);
    let from_call = call_in_from(&window, place, rows(select));
    let alias = select.from.first().and_then(|from| name_of(&from.relation));

    let mut replace = |expr: &mut Expr| {
        if let Some(stands_for) = companion(expr, &name, &function.args, place) {
            *expr = stands_for;
        }
        ControlFlow::<()>::Continue(())
    };
    let _ = visit_expressions_mut(&mut select.projection, &mut replace);
    let _ = visit_expressions_mut(&mut select.having, &mut replace);
    if let GroupByExpr::Expressions(groups, _) = &mut select.group_by {
        groups.retain(|group| *group != call);
        groups.extend(WINDOW_COLUMNS.map(|column| Expr::Identifier(Ident::with_span(place, column))));
    }
    select.selection = None;
    let relation = TableFactor::TableFunction { expr: from_call, alias };
    select.from = vec![TableWithJoins { relation, joins: vec![] }];
}

/// `TUMBLE((SELECT * FROM …), DESCRIPTOR(ts), size)`
fn call_in_from(window: &GroupWindow<'_>, place: Span, rows: Query) -> Expr {
    let rows = Expr::Subquery(Box::new(rows));
    let data = if window.name == "SESSION" {
        let keys = window.keys.iter().cloned().map(Expr::Identifier);
        call("TABLE", place, [rows].into_iter().chain(keys).collect())
    } else {
        rows
    };
    let descriptor = call("DESCRIPTOR", window.time.span, vec![Expr::Identifier(window.time.clone())]);
    let name = if window.name == "HOP" { GROUP_HOP } else { &window.name };
    call(name, place, [data, descriptor].into_iter().chain(window.lengths.iter().cloned()).collect())
}

/// `SELECT * FROM … WHERE …`: the rows that are grouped.
fn rows(select: &Select) -> Query {
    let mut rows = select.clone();
    rows.distinct = None;
    rows.projection = vec![SelectItem::Wildcard(Default::default())];
    rows.group_by = GroupByExpr::Expressions(vec![], vec![]);
    rows.having = None;
    ast_build::query(SetExpr::Select(Box::new(rows)))
}

/// The name by which the rest of the query calls a relation.
fn name_of(relation: &TableFactor) -> Option<TableAlias> {
    match relation {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(TableAlias { columns: vec![], ..alias.clone() })
        }
        TableFactor::TableFunction { alias, .. } => alias.as_ref().map(|alias| TableAlias { columns: vec![], ..alias.clone() }),
        TableFactor::Table { name, alias: None, .. } => {
            let name = name.0.last()?.as_ident()?.clone();
            Some(TableAlias { explicit: true, name, columns: vec![], at: None })
        }
        _ => None,
    }
}

//! Parts of syntax trees that no text stands behind.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, ObjectName, Query,
    Select, SelectFlavor, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, Values,
};
use datafusion::sql::sqlparser::tokenizer::Span;

/// `name(arguments…)`, placed at `place`.
pub(crate) fn call(name: &str, place: Span, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_span(place, name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// A query that is `body` and nothing else.
pub(crate) fn query(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}

/// `SELECT items FROM from`
pub(crate) fn select(items: Vec<SelectItem>, from: Vec<TableWithJoins>) -> Select {
    Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: items,
        exclude: None,
        into: None,
        from,
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        connect_by: vec![],
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    }
}

/// `SELECT * FROM factor`
pub(crate) fn select_all(factor: TableFactor) -> SetExpr {
    let from = vec![TableWithJoins { relation: factor, joins: vec![] }];
    SetExpr::Select(Box::new(select(vec![SelectItem::Wildcard(Default::default())], from)))
}

/// `TABLE(call) AS alias`
pub(crate) fn table_call(call: Expr, alias: Option<TableAlias>) -> TableFactor {
    TableFactor::TableFunction { expr: call, alias }
}

/// `(query)`
pub(crate) fn derived(query: Box<Query>) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery: query, alias: None, sample: None }
}

/// What is left where something was taken out of a tree for a moment.
pub(crate) fn nothing() -> SetExpr {
    SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows: vec![] })
}

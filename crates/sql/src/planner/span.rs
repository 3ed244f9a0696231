//! Places: from sqlparser and DataFusion to ours, and where in a syntax tree a name stands.

use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Spans};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self, Spanned, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer;
use thalweg_core::Span;

/// `None` for the empty span that sqlparser gives where it lost the place.
pub(crate) fn of_parser(span: tokenizer::Span) -> Option<Span> {
    if span.start.line == 0 || span.end.line == 0 {
        return None;
    }
    Some(Span::new(span.start.line, span.start.column, span.end.line, span.end.column))
}

/// The place of any part of a syntax tree.
pub(crate) fn of(node: &impl Spanned) -> Option<Span> {
    of_parser(node.span())
}

pub(crate) fn of_datafusion(span: datafusion::common::Span) -> Option<Span> {
    if span.start.line == 0 || span.end.line == 0 {
        return None;
    }
    Some(Span::new(span.start.line, span.start.column, span.end.line, span.end.column))
}

fn of_spans(spans: &Spans) -> Option<Span> {
    spans.first().and_then(of_datafusion)
}

pub(crate) fn of_column(column: &Column) -> Option<Span> {
    of_spans(column.spans())
}

/// The smallest span around the columns that an expression names: the best that is left of its place after binding.
pub(crate) fn of_expr(expr: &Expr) -> Option<Span> {
    let mut found: Option<Span> = None;
    let _ = expr.apply(|part| {
        if let Expr::Column(column) = part {
            found = union(found, of_column(column));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

pub(crate) fn of_exprs<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> Option<Span> {
    exprs.into_iter().fold(None, |found, expr| union(found, of_expr(expr)))
}

/// The smallest span around the columns that a plan names.
pub(crate) fn of_plan(plan: &LogicalPlan) -> Option<Span> {
    let mut found = None;
    let _ = plan.apply(|node| {
        node.apply_expressions(|expr| {
            found = union(found, of_expr(expr));
            Ok(TreeNodeRecursion::Continue)
        })
    });
    found
}

pub(crate) fn union(left: Option<Span>, right: Option<Span>) -> Option<Span> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.union(right)),
        (one, other) => one.or(other),
    }
}

/// Where the identifier `name` first stands as a column in `query`.
pub(crate) fn find_column(query: &ast::Query, name: &str) -> Option<Span> {
    find(query, |expr| match expr {
        ast::Expr::Identifier(ident) if ident.value == name => of_parser(ident.span),
        ast::Expr::CompoundIdentifier(parts) => parts.last().filter(|ident| ident.value == name).and_then(|_| of(expr)),
        _ => None,
    })
}

/// Where the function `name` is first called in `query`.
pub(crate) fn find_function(query: &ast::Query, name: &str) -> Option<Span> {
    find(query, |expr| match expr {
        ast::Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case(name) => of(expr),
        _ => None,
    })
}

fn find(query: &ast::Query, matches: impl Fn(&ast::Expr) -> Option<Span>) -> Option<Span> {
    struct Search<F>(F);
    impl<F: Fn(&ast::Expr) -> Option<Span>> Visitor for Search<F> {
        type Break = Span;
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Span> {
            match (self.0)(expr) {
                Some(span) => ControlFlow::Break(span),
                None => ControlFlow::Continue(()),
            }
        }
    }
    match query.visit(&mut Search(matches)) {
        ControlFlow::Break(span) => Some(span),
        ControlFlow::Continue(()) => None,
    }
}

/// The place of the first GROUP BY of `query`, or of its first SELECT list.
pub(crate) fn find_grouping(query: &ast::Query) -> Option<Span> {
    struct Search(Option<Span>);
    impl Visitor for Search {
        type Break = Span;
        fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Span> {
            if let ast::GroupByExpr::Expressions(exprs, _) = &select.group_by
                && let Some(span) = exprs.iter().fold(None, |found, expr| union(found, of(expr)))
            {
                return ControlFlow::Break(span);
            }
            if self.0.is_none() {
                self.0 = select.projection.iter().fold(None, |found, item| union(found, of(item)));
            }
            ControlFlow::Continue(())
        }
    }
    let mut search = Search(None);
    match query.visit(&mut search) {
        ControlFlow::Break(span) => Some(span),
        ControlFlow::Continue(()) => search.0,
    }
}

/// The place of the ORDER BY of `query`, or of the first one within it.
pub(crate) fn find_order(query: &ast::Query) -> Option<Span> {
    struct Search;
    impl Visitor for Search {
        type Break = Span;
        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Span> {
            match query.order_by.as_ref().and_then(of) {
                Some(span) => ControlFlow::Break(span),
                None => ControlFlow::Continue(()),
            }
        }
    }
    match query.visit(&mut Search) {
        ControlFlow::Break(span) => Some(span),
        ControlFlow::Continue(()) => None,
    }
}

/// The place of the first WHERE or HAVING condition of `query`.
pub(crate) fn find_condition(query: &ast::Query) -> Option<Span> {
    struct Search;
    impl Visitor for Search {
        type Break = Span;
        fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Span> {
            match select.selection.as_ref().or(select.having.as_ref()).and_then(of) {
                Some(span) => ControlFlow::Break(span),
                None => ControlFlow::Continue(()),
            }
        }
    }
    match query.visit(&mut Search) {
        ControlFlow::Break(span) => Some(span),
        ControlFlow::Continue(()) => None,
    }
}

/// Where row `index` of the VALUES that are `query` stands.
pub(crate) fn find_values_row(query: &ast::Query, index: usize) -> Option<Span> {
    match &*query.body {
        ast::SetExpr::Values(values) => values.rows.get(index)?.iter().fold(None, |found, value| union(found, of(value))),
        ast::SetExpr::Query(inner) => find_values_row(inner, index),
        _ => None,
    }
}

/// Where the string literal `text` first stands in `query`.
pub(crate) fn find_text(query: &ast::Query, text: &str) -> Option<Span> {
    let place = |value: &ast::ValueWithSpan| match &value.value {
        ast::Value::SingleQuotedString(found) if found == text => of_parser(value.span),
        _ => None,
    };
    find(query, |expr| match expr {
        ast::Expr::Value(value) => place(value),
        ast::Expr::TypedString(typed) => place(&typed.value),
        _ => None,
    })
}

/// The place of the second query of the first UNION of `query`.
pub(crate) fn find_union(query: &ast::Query) -> Option<Span> {
    match &*query.body {
        ast::SetExpr::SetOperation { right, .. } => of(&**right),
        ast::SetExpr::Query(inner) => find_union(inner),
        _ => None,
    }
}

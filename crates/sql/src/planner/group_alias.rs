//! Names in GROUP BY and HAVING that only the SELECT list knows.
//!
//! In Flink GROUP BY names columns of FROM. DataFusion's binder falls back to the names of the SELECT list, and in HAVING it even
//! looks there first: a query would mean something else here than on a cluster.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, Visit, Visitor, With, visit_expressions,
};
use thalweg_core::{Code, Diagnostic};

use super::ast_build;
use super::span;

/// A name of the SELECT list that GROUP BY or HAVING uses, and a query that binds only if FROM has such a column.
pub(crate) struct Candidate {
    pub(crate) name: Ident,
    /// What the name stands for in the SELECT list.
    expr: Expr,
    in_having: bool,
    pub(crate) probe: Query,
}

/// All candidates in `query`, whose select items have names.
pub(crate) fn candidates(query: &Query) -> Vec<Candidate> {
    let mut search = Search { withs: vec![], found: vec![] };
    let _ = query.visit(&mut search);
    search.found
}

impl Candidate {
    /// The finding, given whether FROM has a column of this name.
    pub(crate) fn finding(&self, is_column: bool) -> Option<Diagnostic> {
        let name = &self.name.value;
        let place = span::of_parser(self.name.span);
        match (self.in_having, is_column) {
            (false, false) => Some(
                Diagnostic::error(Code::UNKNOWN_COLUMN, format!("GROUP BY cannot see \"{name}\", a name of the SELECT list"))
                    .label_opt(place, "no column of FROM")
                    .help(format!("write what it stands for: GROUP BY {}; or group in an outer query", self.expr)),
            ),
            (true, true) => Some(
                Diagnostic::error(
                    Code::AMBIGUOUS_COLUMN,
                    format!("\"{name}\" in HAVING is a column of FROM and of the SELECT list"),
                )
                .label_opt(place, "which one?")
                .help("Flink takes the one of FROM: write the table's name or alias before it, or rename the other"),
            ),
            _ => None,
        }
    }
}

struct Search {
    /// The WITH clauses around, outermost first.
    withs: Vec<Option<With>>,
    found: Vec<Candidate>,
}

impl Visitor for Search {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.withs.push(query.with.clone());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.withs.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let GroupByExpr::Expressions(groups, _) = &select.group_by else {
            return ControlFlow::Continue(());
        };
        let mut seen = HashSet::new();
        for (clause, in_having) in
            groups.iter().map(|group| (group, false)).chain(select.having.iter().map(|having| (having, true)))
        {
            let _ = visit_expressions(clause, |part| {
                if let Expr::Identifier(name) = part
                    && let Some(expr) = named(select, name)
                    && seen.insert((name.value.clone(), in_having))
                {
                    let probe = self.probe(select, name);
                    self.found.push(Candidate { name: name.clone(), expr: expr.clone(), in_having, probe });
                }
                ControlFlow::<()>::Continue(())
            });
        }
        ControlFlow::Continue(())
    }
}

impl Search {
    /// `SELECT name FROM …` with the tables that `select` sees.
    fn probe(&self, select: &Select, name: &Ident) -> Query {
        let items = vec![SelectItem::UnnamedExpr(Expr::Identifier(name.clone()))];
        let body = SetExpr::Select(Box::new(ast_build::select(items, select.from.clone())));
        self.withs.iter().rev().fold(ast_build::query(body), |inner, with| match with {
            None => inner,
            Some(_) => Query { with: with.clone(), ..ast_build::query(SetExpr::Query(Box::new(inner))) },
        })
    }
}

/// What `name` is in the SELECT list, unless it is that column itself.
fn named<'a>(select: &'a Select, name: &Ident) -> Option<&'a Expr> {
    select.projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if alias.value == name.value => {
            let own = match expr {
                Expr::Identifier(column) => Some(column),
                Expr::CompoundIdentifier(parts) => parts.last(),
                _ => None,
            };
            (own.is_none_or(|own| own.value != name.value)).then_some(expr)
        }
        _ => None,
    })
}

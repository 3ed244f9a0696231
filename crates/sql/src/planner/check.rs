//! What we understand but do not run yet, found on the syntax tree so that nothing is dropped without a word.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Join, JoinConstraint, JoinOperator,
    Query, Select, SelectItem, SetExpr, SetQuantifier, Spanned, TableFactor, TableVersion, TableWithJoins, Visit, Visitor,
    WildcardAdditionalOptions,
};
use thalweg_core::{Code, Diagnostic, Span};

use super::function_registry::FunctionRegistry;
use super::window_call::{self, WindowFunction};
use super::{from_call, group_window, span, unnest, using_join};

/// Aggregate and window functions of Flink that do not run yet, in upper case.
const AGGREGATES_NOT_YET: &[&str] = &["ANY_VALUE", "APPROX_COUNT_DISTINCT", "JSON_ARRAYAGG", "JSON_OBJECTAGG", "PERCENTILE"];

/// The group windows that came before window table functions, and their companions, in upper case.
const LEGACY_WINDOWS: &[&str] = &["TUMBLE", "HOP", "SESSION", "CUMULATE"];
const LEGACY_SUFFIXES: &[&str] = &["", "_START", "_END", "_ROWTIME", "_PROCTIME"];

/// All refusals in `query` (or in an expression), in the order of the text.
pub(crate) fn check(query: &impl Visit) -> Vec<Diagnostic> {
    let mut check = Check { findings: vec![], allowed: HashSet::new() };
    let _ = query.visit(&mut check);
    check.findings
}

/// Calls of functions that do not exist. For a tree in which special syntax has become calls.
pub(crate) fn unknown_functions(query: &impl Visit, functions: &FunctionRegistry) -> Vec<Diagnostic> {
    let mut calls = Calls { functions, findings: vec![] };
    let _ = query.visit(&mut calls);
    calls.findings
}

struct Calls<'a> {
    functions: &'a FunctionRegistry,
    findings: Vec<Diagnostic>,
}

impl Visitor for Calls<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let name = function.name.to_string().replace('`', "");
        let of_window_call = window_call::is_named(function, "TABLE")
            || window_call::is_named(function, "DESCRIPTOR")
            || WindowFunction::from_name(&name).is_some()
            || from_call::is_from_call(function);
        if !of_window_call && !self.functions.contains(&name) {
            self.findings.push(
                Diagnostic::error(Code::UNKNOWN_FUNCTION, format!("unknown function \"{name}\""))
                    .label_opt(span::of(&function.name).or_else(|| span::of(expr)), "not a function")
                    .help_nearest(&name, self.functions.names().iter().map(String::as_str), None),
            );
        }
        ControlFlow::Continue(())
    }
}

/// Whether a join of `from` is by USING or NATURAL.
fn has_using(from: &TableWithJoins) -> bool {
    let is_nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => has_using(table_with_joins),
        _ => false,
    };
    is_nested(&from.relation)
        || from.joins.iter().any(|join| using_join::is_using(&join.join_operator) || is_nested(&join.relation))
}

struct Check {
    findings: Vec<Diagnostic>,
    /// Addresses of expressions that look like refused ones but stand in a window call: `TUMBLE(…)` itself and the
    /// subquery that is its input.
    allowed: HashSet<*const Expr>,
}

impl Check {
    fn not_yet(&mut self, what: &str, place: Option<Span>, help: &str) {
        let finding = Diagnostic::error(Code::NOT_YET, format!("{what} does not run yet")).label_opt(place, "this");
        self.findings.push(if help.is_empty() { finding } else { finding.help(help) });
    }

    fn refuse_if(&mut self, present: bool, what: &str, place: Option<Span>) {
        if present {
            self.not_yet(what, place, "");
        }
    }

    fn body(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => {}
            SetExpr::SetOperation { set_quantifier, left, right, .. } => {
                if !matches!(set_quantifier, SetQuantifier::All | SetQuantifier::None | SetQuantifier::Distinct) {
                    self.findings.push(
                        Diagnostic::error(Code::NOT_IN_FLINK, "Flink has no BY NAME between queries")
                            .label_opt(span::of(&**right), "matched by name")
                            .help("name the columns in the same order in both"),
                    );
                }
                self.body(left);
                self.body(right);
            }
            other => self.not_yet("a statement inside a query", span::of(other), ""),
        }
    }

    fn grouping(&mut self, group_by: &GroupByExpr) {
        match group_by {
            GroupByExpr::All(_) => self.not_yet("GROUP BY ALL", span::of(group_by), "name the columns"),
            GroupByExpr::Expressions(_, modifiers) => {
                self.refuse_if(!modifiers.is_empty(), "GROUP BY with ROLLUP, CUBE or TOTALS", span::of(group_by));
            }
        }
    }

    fn joins(&mut self, select: &Select) {
        for from in &select.from {
            self.joins_of(from);
        }
        let uses_using = select.from.iter().any(has_using);
        for item in &select.projection {
            if let (true, SelectItem::QualifiedWildcard(..)) = (uses_using, item) {
                self.not_yet("a table's * beside USING or NATURAL", span::of(item), "name the columns, or join with ON");
            }
        }
    }

    fn joins_of(&mut self, from: &TableWithJoins) {
        for join in &from.joins {
            self.join(join);
        }
        for factor in [&from.relation].into_iter().chain(from.joins.iter().map(|join| &join.relation)) {
            if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
                self.joins_of(table_with_joins);
            }
        }
    }

    fn join(&mut self, join: &Join) {
        let place = span::of(&join.relation);
        let not_in_flink = |what: &str, help: &str| {
            Diagnostic::error(Code::NOT_IN_FLINK, format!("Flink has no {what}")).label_opt(place, "joined here").help(help)
        };
        let outer =
            matches!(join.join_operator, JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_));
        match &join.join_operator {
            JoinOperator::CrossJoin(JoinConstraint::None) => {}
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint) => {
                if *constraint == JoinConstraint::None {
                    self.findings.push(
                        Diagnostic::error(Code::SYNTAX, "a join needs a condition")
                            .label_opt(place, "joined by nothing")
                            .help("write ON …, or CROSS JOIN for all pairs"),
                    );
                }
            }
            JoinOperator::CrossJoin(_) => {
                self.findings.push(not_in_flink("CROSS JOIN with a condition", "write JOIN … ON …"));
            }
            JoinOperator::AsOf { .. } => self.not_yet("ASOF JOIN", place, "FOR SYSTEM_TIME AS OF runs"),
            JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_)
            | JoinOperator::RightSemi(_)
            | JoinOperator::Anti(_)
            | JoinOperator::LeftAnti(_)
            | JoinOperator::RightAnti(_) => {
                let help = "write WHERE k IN (SELECT …), WHERE EXISTS (SELECT …) or WHERE NOT EXISTS (SELECT …)";
                self.findings.push(not_in_flink("SEMI JOIN or ANTI JOIN", help));
            }
            _ => self.findings.push(not_in_flink("such a join", "there are INNER, LEFT, RIGHT, FULL and CROSS JOIN")),
        }
        if unnest::is_unnest(&join.relation) && (outer || using_join::is_using(&join.join_operator)) {
            let help = "there are CROSS JOIN UNNEST(…) and LEFT JOIN UNNEST(…) ON TRUE";
            self.findings.push(not_in_flink("UNNEST on the right side of such a join", help));
        }
        self.refuse_if(join.global, "GLOBAL JOIN", place);
    }

    fn wildcard(&mut self, options: &WildcardAdditionalOptions) {
        let plain = options.opt_ilike.is_none()
            && options.opt_exclude.is_none()
            && options.opt_except.is_none()
            && options.opt_replace.is_none()
            && options.opt_rename.is_none();
        if !plain {
            self.findings.push(
                Diagnostic::error(Code::NOT_IN_FLINK, "Flink has no * with EXCEPT, EXCLUDE, REPLACE or RENAME")
                    .label_opt(span::of(options), "this")
                    .help("name the columns that you want"),
            );
        }
    }

    /// A call in FROM: either one of our windows, or something to refuse.
    fn table_call(&mut self, name: &str, place: Option<Span>) {
        if WindowFunction::from_name(name).is_some() {
            return;
        }
        let windows = ["TUMBLE", "HOP", "CUMULATE", "SESSION"];
        self.findings.push(
            Diagnostic::error(Code::UNKNOWN_FUNCTION, format!("unknown table function \"{name}\""))
                .label_opt(place, "not a table function")
                .help_nearest(name, windows, Some("there are TUMBLE, HOP, CUMULATE and SESSION".to_string())),
        );
    }

    fn function(&mut self, function: &Function, place: Option<Span>) {
        let name = function.name.to_string().replace('`', "");
        let upper = name.to_uppercase();
        if ["LEAD", "NTILE", "PERCENT_RANK", "CUME_DIST"].contains(&upper.as_str()) {
            self.findings.push(
                Diagnostic::error(Code::NOT_IN_FLINK, format!("{upper} needs rows that have not come yet"))
                    .label_opt(place, "looks ahead")
                    .help("LAG, ROW_NUMBER, RANK, DENSE_RANK and the aggregates run with OVER"),
            );
            return;
        }
        if function.over.is_none() && ["LAG", "RANK", "DENSE_RANK", "ROW_NUMBER"].contains(&upper.as_str()) {
            self.findings.push(
                Diagnostic::error(Code::BAD_ARGUMENTS, format!("{upper} needs OVER"))
                    .label_opt(place, "here")
                    .help(format!("{upper}(…) OVER (PARTITION BY … ORDER BY …)")),
            );
            return;
        }
        self.refuse_if(!function.within_group.is_empty(), "WITHIN GROUP", place);
        if AGGREGATES_NOT_YET.contains(&upper.as_str()) {
            self.not_yet(&format!("the aggregate function {upper}"), place, "SHOW FUNCTIONS lists those that run");
        } else if LEGACY_WINDOWS
            .iter()
            .any(|window| upper.strip_prefix(window).is_some_and(|rest| LEGACY_SUFFIXES.contains(&rest)))
        {
            self.not_yet(
                &format!("the group window function {upper} here"),
                place,
                "it goes with GROUP BY TUMBLE(…), HOP(…) or SESSION(…) of the same column and lengths; or use a window in FROM: SELECT window_start, … FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) \
                 GROUP BY window_start, window_end",
            );
        } else if upper == "DESCRIPTOR" || upper == "TABLE" {
            self.not_yet(&format!("{upper} outside of a window call"), place, "");
        }
    }
}

impl Visitor for Check {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.refuse_if(with.recursive, "WITH RECURSIVE", span::of(with));
        }
        if let Some(fetch) = &query.fetch {
            self.refuse_if(fetch.percent || fetch.with_ties, "FETCH with PERCENT or WITH TIES", None);
        }
        self.refuse_if(!query.locks.is_empty() || query.for_clause.is_some(), "a FOR clause", None);
        self.refuse_if(query.settings.is_some() || query.format_clause.is_some(), "SETTINGS or FORMAT in a query", None);
        self.refuse_if(!query.pipe_operators.is_empty(), "a pipe operator", None);
        self.body(&query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let place = span::of(select);
        self.refuse_if(matches!(select.distinct, Some(Distinct::On(_))), "DISTINCT ON", place);
        self.refuse_if(select.top.is_some(), "TOP", place);
        self.refuse_if(select.into.is_some(), "SELECT INTO", place);
        self.refuse_if(select.exclude.is_some(), "EXCLUDE", place);
        self.refuse_if(!select.lateral_views.is_empty(), "LATERAL VIEW", place);
        self.refuse_if(select.prewhere.is_some(), "PREWHERE", place);
        self.refuse_if(!select.connect_by.is_empty(), "CONNECT BY", place);
        self.refuse_if(!select.cluster_by.is_empty() || !select.distribute_by.is_empty(), "CLUSTER BY or DISTRIBUTE BY", place);
        self.refuse_if(!select.sort_by.is_empty(), "SORT BY", place);
        self.refuse_if(select.value_table_mode.is_some(), "SELECT AS STRUCT or AS VALUE", place);
        self.grouping(&select.group_by);
        self.allowed.extend(group_window::calls(select));
        for item in &select.projection {
            match item {
                SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => self.wildcard(options),
                SelectItem::ExprWithAliases { .. } => self.not_yet("a list of aliases", span::of(item), ""),
                SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => {}
            }
        }
        self.joins(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let place = span::of_parser(factor.span());
        match factor {
            TableFactor::Table {
                name,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                ..
            } => {
                let is_unnest = unnest::is_unnest(factor);
                if args.is_some() && !is_unnest {
                    self.table_call(&name.to_string(), span::of(name));
                }
                let other_version =
                    version.as_ref().is_some_and(|version| !matches!(version, TableVersion::ForSystemTimeAsOf(_)));
                self.refuse_if(other_version, "a version of a table in another form than FOR SYSTEM_TIME AS OF", place);
                self.refuse_if(!with_hints.is_empty() || !index_hints.is_empty(), "a table hint", place);
                let extras =
                    (*with_ordinality && !is_unnest) || !partitions.is_empty() || json_path.is_some() || sample.is_some();
                self.refuse_if(extras, "this form of a table in FROM", place);
                match args {
                    Some(args) if is_unnest && args.args.len() != 1 => self.findings.push(
                        Diagnostic::error(Code::BAD_ARGUMENTS, format!("UNNEST takes one collection, not {}", args.args.len()))
                            .label_opt(span::of(name), "here"),
                    ),
                    Some(args) => self.allow_inputs(&args.args),
                    None => {}
                }
            }
            TableFactor::Derived { sample, .. } => {
                self.refuse_if(sample.is_some(), "TABLESAMPLE", place);
            }
            TableFactor::TableFunction { expr, .. } => match expr {
                Expr::Function(function) => {
                    self.table_call(&function.name.to_string(), span::of(&function.name));
                    self.allowed.insert(expr);
                    if let FunctionArguments::List(list) = &function.args {
                        self.allow_inputs(&list.args);
                    }
                }
                other => self.not_yet("TABLE( ) around something that is no call", span::of(other), ""),
            },
            TableFactor::Function { lateral, name, .. } => {
                self.not_yet(if *lateral { "LATERAL TABLE" } else { "a table function" }, span::of(name), "");
            }
            TableFactor::NestedJoin { .. } => {}
            TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => {
                self.findings
                    .push(Diagnostic::error(Code::NOT_IN_FLINK, "Flink has no PIVOT in streams").label_opt(place, "this"));
            }
            TableFactor::MatchRecognize { .. } => self.not_yet("MATCH_RECOGNIZE", place, ""),
            _ => self.not_yet("this form of a table in FROM", place, ""),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.allowed.contains(&std::ptr::from_ref(expr)) {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } if !matches!(**right, Expr::Subquery(_) | Expr::Tuple(_)) => {
                self.findings.push(
                    Diagnostic::error(
                        Code::NOT_IN_FLINK,
                        "ANY, SOME and ALL compare with the rows of a query or with listed values",
                    )
                    .label_opt(span::of(&**right), "neither")
                    .help("of an array, ARRAY_CONTAINS(array, value) says whether it has a value"),
                );
            }
            Expr::InUnnest { .. } => self.not_yet("IN UNNEST", span::of(expr), "ARRAY_CONTAINS(array, value) says the same"),
            Expr::Function(function) => self.function(function, span::of(expr)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Check {
    /// Subqueries, `TABLE t` and `DESCRIPTOR( )` are at home among the arguments of a window call.
    fn allow_inputs(&mut self, args: &[FunctionArg]) {
        for arg in args {
            let (FunctionArg::Unnamed(value) | FunctionArg::Named { arg: value, .. } | FunctionArg::ExprNamed { arg: value, .. }) =
                arg;
            let FunctionArgExpr::Expr(expr) = value else {
                continue;
            };
            self.allow(expr);
        }
    }

    fn allow(&mut self, expr: &Expr) {
        self.allowed.insert(expr);
        match expr {
            Expr::Nested(inner) => self.allow(inner),
            Expr::Function(function) => {
                let FunctionArguments::List(list) = &function.args else {
                    return;
                };
                if window_call::is_named(function, "TABLE") {
                    self.allow_inputs(&list.args);
                }
            }
            _ => {}
        }
    }
}

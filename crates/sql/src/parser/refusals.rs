//! Clauses of other dialects that sqlparser reads and DataFusion would drop without a word.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, LimitClause, Query, Select, SelectFlavor, SelectItem, TableFactor, TableVersion, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_core::{Code, Diagnostic};

use super::lexer::Lexeme;

/// Refuses a query with clauses that are not Flink's. `lexemes` are its tokens, to find a place for the finding.
///
/// # Errors
/// `NOT_IN_FLINK`, `SYNTAX`.
pub(super) fn check_query(query: &Query, lexemes: &[Lexeme]) -> Result<(), Diagnostic> {
    match query.visit(&mut Refusals { lexemes }) {
        ControlFlow::Break(finding) => Err(*finding),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// As [`check_query`], for an expression alone.
pub(super) fn check_expression(expr: &Expr, lexemes: &[Lexeme]) -> Result<(), Diagnostic> {
    match expr.visit(&mut Refusals { lexemes }) {
        ControlFlow::Break(finding) => Err(*finding),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Refusals<'a> {
    lexemes: &'a [Lexeme],
}

type Found = ControlFlow<Box<Diagnostic>>;

impl Refusals<'_> {
    /// Breaks with the first clause whose condition holds. The place is the first of the words in the text: no clause of Flink's
    /// has the same words, but a name might, so two words are better than one.
    fn first(&self, clauses: &[(bool, &[&str], &str)]) -> Found {
        match clauses.iter().find(|(present, ..)| *present) {
            Some((_, words, help)) => {
                let finding = Diagnostic::error(Code::NOT_IN_FLINK, format!("{} is not Flink's SQL", words.join(" ")));
                let place = self
                    .lexemes
                    .windows(words.len())
                    .find(|window| window.iter().zip(*words).all(|(lexeme, word)| lexeme.is_word(word)))
                    .map(|window| window[0].span.union(window[words.len() - 1].span));
                ControlFlow::Break(Box::new(finding.label_opt(place, "not in Flink").help(*help)))
            }
            None => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Refusals<'_> {
    type Break = Box<Diagnostic>;

    fn pre_visit_query(&mut self, query: &Query) -> Found {
        let has_limit_by = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit_by, .. }) => !limit_by.is_empty(),
            Some(LimitClause::OffsetCommaLimit { .. }) | None => false,
        };
        self.first(&[
            (!query.locks.is_empty(), &["FOR"], "leave it out: streams have no locks"),
            (query.for_clause.is_some(), &["FOR"], "leave it out"),
            (query.settings.is_some(), &["SETTINGS"], "use the statement SET"),
            (query.format_clause.is_some(), &["FORMAT"], "name the format in the WITH clause of a table"),
            (has_limit_by, &["BY"], "number the rows with ROW_NUMBER() OVER (PARTITION BY …)"),
        ])
    }

    fn pre_visit_select(&mut self, select: &Select) -> Found {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item
                && alias.quote_style == Some('\'')
            {
                // sqlparser forgets the place of such a name.
                let quoted = Token::SingleQuotedString(alias.value.clone());
                let place = self.lexemes.iter().rfind(|lexeme| lexeme.token == quoted).map(|lexeme| lexeme.span);
                let finding = Diagnostic::error(Code::SYNTAX, format!("a name cannot be in single quotes: '{}'", alias.value))
                    .label_opt(place, "text, not a name")
                    .help(format!("write `{}`", alias.value));
                return ControlFlow::Break(Box::new(finding));
            }
        }
        self.first(&[
            (select.top.is_some(), &["TOP"], "write LIMIT at the end of the query"),
            (matches!(select.distinct, Some(Distinct::On(_))), &["DISTINCT", "ON"], "number the rows with ROW_NUMBER()"),
            (select.into.is_some(), &["INTO"], "write INSERT INTO t SELECT …"),
            (select.exclude.is_some(), &["EXCLUDE"], "list the columns"),
            (!select.lateral_views.is_empty(), &["LATERAL", "VIEW"], "write CROSS JOIN UNNEST(…)"),
            (select.prewhere.is_some(), &["PREWHERE"], "write WHERE"),
            (!select.connect_by.is_empty(), &["CONNECT", "BY"], "streams have no hierarchies"),
            (!select.cluster_by.is_empty(), &["CLUSTER", "BY"], "leave it out"),
            (!select.distribute_by.is_empty(), &["DISTRIBUTE", "BY"], "leave it out"),
            (!select.sort_by.is_empty(), &["SORT", "BY"], "write ORDER BY"),
            (select.value_table_mode.is_some(), &["SELECT", "AS"], "leave it out"),
            (select.select_modifiers.is_some(), &["SELECT"], "leave out the words behind SELECT"),
            (!matches!(select.flavor, SelectFlavor::Standard), &["FROM"], "begin with SELECT"),
        ])
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Found {
        let TableFactor::Table { sample, with_hints, partitions, json_path, index_hints, version, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let foreign_version = version.as_ref().is_some_and(|version| !matches!(version, TableVersion::ForSystemTimeAsOf(_)));
        self.first(&[
            (sample.is_some(), &["TABLESAMPLE"], "filter with RAND() instead"),
            (!with_hints.is_empty(), &["WITH"], "leave it out"),
            (!partitions.is_empty(), &["PARTITION"], "filter with WHERE"),
            (json_path.is_some(), &["FROM"], "use JSON_VALUE"),
            (!index_hints.is_empty(), &["INDEX"], "leave it out: streams have no indexes"),
            (foreign_version, &["AS", "OF"], "write FOR SYSTEM_TIME AS OF"),
        ])
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Found {
        if let Expr::Interval(interval) = expr
            && interval.leading_field.is_none()
        {
            let place = self.lexemes.iter().find(|lexeme| lexeme.is_word("INTERVAL")).map(|lexeme| lexeme.span);
            let finding = Diagnostic::error(Code::SYNTAX, "the interval has no unit")
                .label_opt(place, "interval")
                .help("write it as INTERVAL '10' SECOND");
            return ControlFlow::Break(Box::new(finding));
        }
        ControlFlow::Continue(())
    }
}

//! Hints: `/*+ NAME(…), NAME(…) */`.
//!
//! | hint | stands behind | becomes |
//! |---|---|---|
//! | `OPTIONS('key' = 'value', …)` | the name of a table | a part of the name, see [`split_hinted_name`]; of an INSERT's target, its options |
//! | `STATE_TTL('table' = '1 d', …)` | SELECT | an [`OptimizerHint`] for each table, see [`STATE_TTL_HINT`] |
//! | `LOOKUP(…)`, `BROADCAST(…)`, `SHUFFLE_HASH(…)`, `SHUFFLE_MERGE(…)`, `NEST_LOOP(…)`, `MULTI_JOIN(…)` | SELECT | nothing: they say how, not what |

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, OptimizerHint, OptimizerHintStyle, Query,
    Select, TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::{self, Token};
use thalweg_core::{Code, Diagnostic, Options, Place, Span, parse_duration};

use super::cursor::Cursor;
use super::lexer::{HintComment, Lexeme};
use crate::statement::Literal;

/// The `prefix` of the [`OptimizerHint`]s of STATE_TTL. Their `text` is the milliseconds, a space, and the name of the table.
pub(crate) const STATE_TTL_HINT: &str = "STATE_TTL";

/// Hints that change nothing here.
const WITHOUT_EFFECT: &[&str] = &["LOOKUP", "BROADCAST", "SHUFFLE_HASH", "SHUFFLE_MERGE", "NEST_LOOP", "MULTI_JOIN"];

/// Stands between the name of a table and the keys and values of its hint. No name that is written has it.
const SEPARATOR: char = '\0';

/// The name of a table as written, and the options of the hint behind it.
pub(crate) fn split_hinted_name(name: &str) -> (&str, Vec<(&str, &str)>) {
    let mut parts = name.split(SEPARATOR);
    let table = parts.next().unwrap_or_default();
    let mut options = vec![];
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        options.push((key, value));
    }
    (table, options)
}

enum Hint {
    Options(Options),
    /// Tables, each with milliseconds.
    StateTtl(Vec<(Literal, u64)>),
    NoEffect,
}

/// A hint with its name and place.
struct Found {
    name: String,
    span: Span,
    hint: Hint,
}

/// Puts the hints among the tokens of a query to where they belong in its AST.
///
/// # Errors
/// `SYNTAX`, `UNKNOWN_TABLE`, `BAD_ARGUMENTS`, with places. Hints that found no place stay unused.
pub(super) fn attach(query: &mut Query, lexemes: &[Lexeme], text: &str) -> Result<(), Diagnostic> {
    let anchored: Vec<_> = lexemes.iter().filter_map(|lexeme| Some((lexeme.span.end, lexeme.hint.as_deref()?))).collect();
    if anchored.is_empty() {
        return Ok(());
    }
    match query.visit(&mut Attach { anchored, text }) {
        ControlFlow::Break(finding) => Err(*finding),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The options in the hint behind the name of an INSERT's target; none if there is none.
///
/// # Errors
/// As [`attach`].
pub(super) fn options_behind(lexeme: &Lexeme, text: &str) -> Result<Options, Diagnostic> {
    match &lexeme.hint {
        Some(hint) => only_options(hint, text),
        None => Ok(Options::new()),
    }
}

/// Refuses hints that belong to nothing.
///
/// # Errors
/// `SYNTAX` for the first of them.
pub(super) fn check_used(lexemes: &[Lexeme]) -> Result<(), Diagnostic> {
    let hints = lexemes.iter().filter_map(|lexeme| lexeme.hint.as_deref());
    match hints.into_iter().find(|hint| !hint.used.load(Ordering::Relaxed)) {
        Some(hint) => Err(misplaced(hint.span)),
        None => Ok(()),
    }
}

pub(super) fn misplaced(span: Span) -> Diagnostic {
    Diagnostic::error(Code::SYNTAX, "a hint belongs to nothing here")
        .label(span, "hint")
        .help("OPTIONS stands behind the name of a table, every other hint behind SELECT; several are written in one comment")
}

struct Attach<'a> {
    /// By the end of the token before it.
    anchored: Vec<(Place, &'a HintComment)>,
    text: &'a str,
}

type Visited = ControlFlow<Box<Diagnostic>>;

fn visited(result: Result<(), Diagnostic>) -> Visited {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(finding) => ControlFlow::Break(Box::new(finding)),
    }
}

impl VisitorMut for Attach<'_> {
    type Break = Box<Diagnostic>;

    fn pre_visit_select(&mut self, select: &mut Select) -> Visited {
        match self.behind(select.select_token.0.span) {
            Some(hint) => visited(hint_select(select, hint, self.text)),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Visited {
        let TableFactor::Table { name, alias, .. } = factor else { return ControlFlow::Continue(()) };
        let Some((hint, ident)) = self.behind_name(name) else { return ControlFlow::Continue(()) };
        let written = ident.clone();
        visited(hint_table(ident, hint, self.text).map(|()| {
            // The rest of the query goes on calling it by its own name.
            alias.get_or_insert_with(|| TableAlias { explicit: true, name: written, columns: vec![], at: None });
        }))
    }

    /// `TABLE t /*+ OPTIONS(…) */` as an argument.
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Visited {
        let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else {
            return ControlFlow::Continue(());
        };
        if name.to_string() != "TABLE" {
            return ControlFlow::Continue(());
        }
        let ident = match list.args.first_mut() {
            Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(ident)))) => Some(ident),
            Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))) => parts.last_mut(),
            _ => None,
        };
        match ident.and_then(|ident| Some((self.behind(ident.span)?, ident))) {
            Some((hint, ident)) => visited(hint_table(ident, hint, self.text)),
            None => ControlFlow::Continue(()),
        }
    }
}

impl<'a> Attach<'a> {
    fn behind(&self, span: tokenizer::Span) -> Option<&'a HintComment> {
        let end = (span.end.line, span.end.column);
        self.anchored.iter().find(|(place, _)| (place.line, place.column) == end).map(|(_, hint)| *hint)
    }

    fn behind_name<'n>(&self, name: &'n mut ObjectName) -> Option<(&'a HintComment, &'n mut Ident)> {
        let part = name.0.last_mut()?;
        let span = part.as_ident()?.span;
        let hint = self.behind(span)?;
        match part {
            datafusion::sql::sqlparser::ast::ObjectNamePart::Identifier(ident) => Some((hint, ident)),
            datafusion::sql::sqlparser::ast::ObjectNamePart::Function(_) => None,
        }
    }
}

fn hint_table(ident: &mut Ident, hint: &HintComment, text: &str) -> Result<(), Diagnostic> {
    for (key, value) in only_options(hint, text)?.iter() {
        ident.value = format!("{}{SEPARATOR}{key}{SEPARATOR}{value}", ident.value);
    }
    Ok(())
}

fn only_options(hint: &HintComment, text: &str) -> Result<Options, Diagnostic> {
    let mut all = Options::new();
    for found in read(hint, text)? {
        let Hint::Options(options) = found.hint else {
            return Err(Diagnostic::error(Code::SYNTAX, format!("hint {} does not stand behind a table", found.name))
                .label(found.span, "for a query")
                .help(format!("write SELECT /*+ {}(…) */", found.name)));
        };
        for (key, value) in options.iter() {
            all.insert_at(key, value, options.key_span(key), options.value_span(key));
        }
    }
    Ok(all)
}

fn hint_select(select: &mut Select, hint: &HintComment, text: &str) -> Result<(), Diagnostic> {
    for found in read(hint, text)? {
        match found.hint {
            Hint::NoEffect => {}
            Hint::Options(_) => {
                return Err(Diagnostic::error(Code::SYNTAX, "hint OPTIONS does not stand behind SELECT")
                    .label(found.span, "for a table")
                    .help("write it behind the name of the table: FROM t /*+ OPTIONS('key' = 'value') */"));
            }
            Hint::StateTtl(tables) => {
                let mut names = vec![];
                select.from.iter().for_each(|from| names_of(from, &mut names));
                for (table, ms) in tables {
                    if !names.contains(&table.value) {
                        let known = format!("it names tables of FROM: {}", names.join(", "));
                        return Err(Diagnostic::error(Code::UNKNOWN_TABLE, format!("there is no \"{}\" in FROM", table.value))
                            .label(table.span, "named in a hint")
                            .help_nearest(&table.value, names.iter().map(String::as_str), Some(known)));
                    }
                    select.optimizer_hints.push(OptimizerHint {
                        prefix: STATE_TTL_HINT.to_string(),
                        text: format!("{ms} {}", table.value),
                        style: OptimizerHintStyle::MultiLine,
                    });
                }
            }
        }
    }
    Ok(())
}

/// The names by which a query calls the relations of a part of its FROM.
fn names_of(from: &TableWithJoins, names: &mut Vec<String>) {
    for factor in [&from.relation].into_iter().chain(from.joins.iter().map(|join| &join.relation)) {
        if let TableFactor::NestedJoin { table_with_joins, alias: None } = factor {
            names_of(table_with_joins, names);
        }
        names.extend(name_of(factor));
    }
}

/// The name by which a query calls a relation.
pub(crate) fn name_of(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: None, name, .. } => name.0.last()?.as_ident().map(|ident| ident.value.clone()),
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. } => Some(alias.name.value.clone()),
        _ => None,
    }
}

/// All that stands in a comment of hints, which counts as used from here on.
fn read(hint: &HintComment, text: &str) -> Result<Vec<Found>, Diagnostic> {
    hint.used.store(true, Ordering::Relaxed);
    if let Some(secret) = hint.lexemes.iter().find(|lexeme| lexeme.secret) {
        return Err(Diagnostic::error(Code::NOT_YET, "a value from the environment or a file cannot stand in a hint")
            .label(secret.span, "would be shown in plans and errors")
            .help("pass it with --var NAME=value and write ${NAME}, or give it in WITH"));
    }
    let mut cursor = Cursor::new(&hint.lexemes, text);
    let mut found = vec![];
    if cursor.is_end() {
        return Err(Diagnostic::error(Code::SYNTAX, "the hint is empty").label(hint.span, "hint").help("remove it"));
    }
    loop {
        let start = cursor.index;
        let name = match cursor.peek() {
            Some(Lexeme { token: Token::Word(word), .. }) if word.quote_style.is_none() => word.value.to_uppercase(),
            _ => return Err(cursor.expected("the name of a hint")),
        };
        cursor.next();
        let hint = arguments(&mut cursor, &name, start)?;
        found.push(Found { name, span: cursor.span_from(start), hint });
        if !cursor.accept(&Token::Comma) && cursor.is_end() {
            return Ok(found);
        }
    }
}

fn arguments(cursor: &mut Cursor, name: &str, start: usize) -> Result<Hint, Diagnostic> {
    match name {
        "OPTIONS" => {
            let options = cursor.options()?;
            if let Some((key, _)) = options.iter().find(|(key, value)| key.contains(SEPARATOR) || value.contains(SEPARATOR)) {
                return Err(options.bad_value(key, "an option holds no NUL character"));
            }
            Ok(Hint::Options(options))
        }
        "STATE_TTL" => state_ttl(cursor).map(Hint::StateTtl),
        _ if WITHOUT_EFFECT.contains(&name) => {
            skip_parentheses(cursor)?;
            Ok(Hint::NoEffect)
        }
        _ => {
            let names = ["OPTIONS", "STATE_TTL"].into_iter().chain(WITHOUT_EFFECT.iter().copied());
            let known = format!("there are {}", names.clone().collect::<Vec<_>>().join(", "));
            Err(Diagnostic::error(Code::SYNTAX, format!("unknown hint \"{name}\""))
                .label(cursor.span_from(start), "not a hint")
                .help_nearest(name, names, Some(known)))
        }
    }
}

/// `('table' = 'duration', …)`
fn state_ttl(cursor: &mut Cursor) -> Result<Vec<(Literal, u64)>, Diagnostic> {
    let mut tables = vec![];
    cursor.expect(&Token::LParen)?;
    loop {
        let table = match cursor.literal("the name or alias of a table in single quotes") {
            Ok(table) => table,
            Err(finding) => match cursor.identifier("the name or alias of a table") {
                Ok(name) => Literal { value: name.value, span: name.span, secret: false },
                Err(_) => return Err(finding),
            },
        };
        cursor.expect(&Token::Eq)?;
        let duration = cursor.literal("a duration in single quotes, such as '1 d'")?;
        let ms = parse_duration(&duration.value).map_err(|expected| {
            Diagnostic::error(Code::BAD_ARGUMENTS, format!("'{}' is no duration", duration.value))
                .label(duration.span, "how long state is kept")
                .help(expected)
        })?;
        tables.push((table, u64::try_from(ms.as_millis()).unwrap_or(u64::MAX)));
        if !cursor.accept(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen)?;
    Ok(tables)
}

/// `(…)`, if it is there.
fn skip_parentheses(cursor: &mut Cursor) -> Result<(), Diagnostic> {
    if !cursor.accept(&Token::LParen) {
        return Ok(());
    }
    let mut open = 1_usize;
    while open > 0 {
        match cursor.next().map(|lexeme| &lexeme.token) {
            Some(Token::LParen) => open += 1,
            Some(Token::RParen) => open -= 1,
            Some(_) => {}
            None => return Err(cursor.expected("\")\"")),
        }
    }
    Ok(())
}

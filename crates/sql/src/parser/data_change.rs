//! INSERT and STATEMENT SET.

use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_core::{Code, Diagnostic, SourceText};
use thalweg_plan::Conflict;

use super::cursor::Cursor;
use super::hints;
use super::statement::is_query;
use crate::statement::{InsertStatement, Statement};

/// `INSERT INTO | OVERWRITE t [(a, b)] query [ON CONFLICT DO …]`, up to the end of the tokens or a semicolon.
pub(super) fn parse_insert(cursor: &mut Cursor, source: &SourceText) -> Result<InsertStatement, Diagnostic> {
    let start = cursor.index;
    cursor.expect_words(&["INSERT"])?;
    let overwrite = cursor.accept_word("OVERWRITE");
    if !overwrite && !cursor.accept_word("INTO") {
        return Err(cursor.expected("INTO"));
    }
    // Hive's `INSERT OVERWRITE TABLE t` is accepted by Flink only in Hive's dialect.
    let target = cursor.table_name("the name of a table")?;
    let hinted_options = hints::options_behind(&cursor.lexemes[cursor.index - 1], cursor.text)?;
    if cursor.is_word("PARTITION") {
        return Err(Diagnostic::error(Code::NOT_YET, "INSERT with a PARTITION clause does not run yet")
            .label(cursor.span(), "not yet")
            .help("select the values of the partition columns instead"));
    }
    let columns = match cursor.is_token_at(0, &Token::LParen) && !is_query(cursor) {
        true => {
            Some(cursor.name_list("the name of a column")?.into_iter().map(|name| (name.value, name.span)).collect::<Vec<_>>())
        }
        false => None,
    };
    if !is_query(cursor) {
        return Err(cursor.expected("a query (SELECT or VALUES)"));
    }
    // sqlparser's query would take ON as nothing and stop there.
    let query = cursor.query()?;
    let conflict = parse_conflict(cursor)?;
    let insert = InsertStatement {
        target: target.value,
        target_span: target.span,
        hinted_options,
        columns,
        query,
        conflict,
        overwrite,
        span: cursor.span_from(start),
        text: cursor.written_between(start..cursor.index),
        source: source.clone(),
    };
    match insert.columns.as_ref().and_then(|columns| duplicate(columns)) {
        Some((name, span)) => Err(Diagnostic::error(Code::DUPLICATE_NAME, format!("column \"{name}\" is listed twice"))
            .label(span, "second time")
            .help("list each column once")),
        None => Ok(insert),
    }
}

/// `ON CONFLICT DO DEDUPLICATE | NOTHING | ERROR`: what happens to several rows with one primary key.
fn parse_conflict(cursor: &mut Cursor) -> Result<Option<Conflict>, Diagnostic> {
    if !cursor.accept_words(&["ON", "CONFLICT"]) {
        return Ok(None);
    }
    cursor.expect_words(&["DO"])?;
    for (word, conflict) in [("DEDUPLICATE", Conflict::Deduplicate), ("NOTHING", Conflict::Nothing), ("ERROR", Conflict::Error)] {
        if cursor.accept_word(word) {
            return Ok(Some(conflict));
        }
    }
    Err(cursor.expected("DEDUPLICATE, NOTHING or ERROR"))
}

fn duplicate<T: Clone>(columns: &[(String, T)]) -> Option<(String, T)> {
    let mut seen = std::collections::HashSet::new();
    columns.iter().find(|(name, _)| !seen.insert(name.as_str())).cloned()
}

/// Whether `[EXECUTE] STATEMENT SET` or `BEGIN STATEMENT SET` comes next.
pub(super) fn begins_statement_set(cursor: &Cursor) -> bool {
    let at = |ahead| cursor.is_word_at(ahead, "STATEMENT") && cursor.is_word_at(ahead + 1, "SET");
    at(0) || ((cursor.is_word("EXECUTE") || cursor.is_word("BEGIN")) && at(1))
}

/// `EXECUTE STATEMENT SET BEGIN insert; … END`, or the older `BEGIN STATEMENT SET; insert; … END`.
pub(super) fn parse_statement_set(cursor: &mut Cursor, source: &SourceText) -> Result<Statement, Diagnostic> {
    let older = cursor.accept_word("BEGIN");
    if !older {
        cursor.accept_word("EXECUTE");
    }
    cursor.expect_words(&["STATEMENT", "SET"])?;
    if older {
        cursor.expect(&Token::SemiColon)?;
    } else {
        cursor.expect_words(&["BEGIN"])?;
    }
    let mut inserts = vec![];
    while !cursor.accept_word("END") {
        if !cursor.is_word("INSERT") {
            return Err(cursor
                .expected("INSERT or END")
                .help("a statement set holds INSERT statements only, each with a semicolon"));
        }
        let insert = parse_insert_of_set(cursor, source)?;
        inserts.push(insert);
        if !cursor.accept(&Token::SemiColon) && !cursor.is_word("END") {
            return Err(cursor.expected("\";\""));
        }
    }
    if inserts.is_empty() {
        return Err(Diagnostic::error(Code::SYNTAX, "the statement set is empty")
            .label(cursor.span_from(0), "no INSERT in it")
            .help("write at least one INSERT between BEGIN and END"));
    }
    Ok(Statement::StatementSet(inserts))
}

/// One INSERT of a set, read from the tokens before its semicolon: `END` could be taken for an alias otherwise.
fn parse_insert_of_set(cursor: &mut Cursor, source: &SourceText) -> Result<InsertStatement, Diagnostic> {
    let rest = &cursor.lexemes[cursor.index..];
    let length = rest.iter().position(|lexeme| lexeme.token == Token::SemiColon).unwrap_or(rest.len());
    let end = cursor.index + length;
    let mut part = Cursor { lexemes: &cursor.lexemes[..end], ..cursor.clone() };
    let insert = parse_insert(&mut part, source)?;
    if !part.is_end() && !part.is_word("END") {
        return Err(part.expected("\";\""));
    }
    cursor.index = part.index;
    Ok(insert)
}

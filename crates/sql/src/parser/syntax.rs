//! sqlparser's errors in our words, with a place.

use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_core::{Code, Diagnostic, Place};

use super::cursor::Cursor;
use super::lexer::Lexeme;

/// Constructs of Flink that sqlparser cannot read: the words they begin with, and what they are.
const UNREADABLE: &[(&[&str], &str)] = &[
    (&["MATCH_RECOGNIZE"], "MATCH_RECOGNIZE"),
    (&["JSON_VALUE"], "JSON_VALUE with clauses"),
    (&["JSON_QUERY"], "JSON_QUERY with clauses"),
    (&["JSON_EXISTS"], "JSON_EXISTS with clauses"),
    (&["JSON_OBJECT"], "JSON_OBJECT with keys and values"),
    (&["JSON_ARRAY"], "JSON_ARRAY with clauses"),
    (&["JSON_OBJECTAGG"], "JSON_OBJECTAGG"),
    (&["JSON_ARRAYAGG"], "JSON_ARRAYAGG"),
    (&["IS", "JSON"], "IS JSON"),
    (&["IS", "NOT", "JSON"], "IS JSON"),
    (&["OVERLAPS"], "OVERLAPS"),
    (&["BETWEEN", "SYMMETRIC"], "BETWEEN SYMMETRIC"),
    (&["BETWEEN", "ASYMMETRIC"], "BETWEEN ASYMMETRIC"),
    (&["PIVOT"], "PIVOT"),
];

/// The finding that `error` stands for. `lexemes` are the tokens that the parser was given, `cursor` stands at their start.
pub(crate) fn finding(error: &ParserError, lexemes: &[Lexeme], cursor: &Cursor) -> Diagnostic {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            return Diagnostic::error(Code::TOO_COMPLEX, "the statement is nested in too many ways")
                .label(cursor.span(), "in this statement")
                .help("give inner parts a name with CREATE VIEW");
        }
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
    };
    let (message, place) = split_place(text);
    // Without a place the text ended too early.
    let index =
        place.map_or(lexemes.len(), |place| lexemes.iter().position(|lexeme| lexeme.span.end > place).unwrap_or(lexemes.len()));
    // Some of its messages have the place of the token behind the one that they name.
    let named = |index: usize| lexemes.get(index).is_some_and(|lexeme| message.ends_with(&format!(", found: {}", lexeme.token)));
    let index = match index.checked_sub(1) {
        Some(before) if !named(index) && named(before) => before,
        _ => index,
    };
    if let Some(finding) = known_construct(lexemes, index) {
        return finding;
    }
    let at = Cursor { lexemes: cursor.lexemes, index: cursor.index + index, text: cursor.text };
    match expectation(message) {
        Some(expected) => {
            let expected = friendly(expected);
            let finding = at.expected(&expected);
            match at.peek() {
                Some(Lexeme { token: Token::Word(word), .. })
                    if word.quote_style.is_none() && interval_unit(lexemes, index).is_some() =>
                {
                    finding.help(format!("did you mean {}?", interval_unit(lexemes, index).unwrap_or(&word.value)))
                }
                Some(lexeme) if matches!(&lexeme.token, Token::Word(word) if word.quote_style.is_none()) => {
                    finding.help("check the words before this place; a name that is also a SQL word needs backticks")
                }
                Some(_) => finding,
                None => finding.help("complete the statement before its semicolon"),
            }
        }
        None => Diagnostic::error(Code::SYNTAX, first_lower(message)).label(at.span(), "here"),
    }
}

/// The unit that the token at `index` is a misspelling of: `INTERVAL '1' MINUT`.
fn interval_unit(lexemes: &[Lexeme], index: usize) -> Option<&'static str> {
    const UNITS: &[&str] = &["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
    let follows_interval = index >= 2 && lexemes[index - 2].is_word("INTERVAL");
    let Token::Word(word) = &lexemes.get(index)?.token else { return None };
    thalweg_core::nearest(&word.value, UNITS.iter().copied()).filter(|_| follows_interval)
}

/// What sqlparser wanted, of `Expected: x, found: y` and its other forms.
fn expectation(message: &str) -> Option<&str> {
    if message.starts_with("No infix parser for token") {
        return Some("an operator");
    }
    let rest = message.strip_prefix("Expected")?.trim_start_matches(':').trim();
    let end = rest.rfind(", found").unwrap_or(rest.len());
    Some(rest[..end].trim())
}

/// A clause whose first word is misspelt was taken for an alias, so the words behind it make no sense; or its BY is missing.
pub(crate) fn misspelt_clause(cursor: &Cursor) -> Option<Diagnostic> {
    const CLAUSES: &[&str] = &[
        "FROM",
        "WHERE",
        "GROUP",
        "HAVING",
        "ORDER",
        "LIMIT",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "WINDOW",
        "JOIN",
        "LEFT",
        "INNER",
    ];
    let found = cursor.peek()?;
    if found.is_word("GROUP") || found.is_word("ORDER") {
        let behind = Cursor { index: cursor.index + 1, ..cursor.clone() };
        return Some(behind.expected("BY"));
    }
    // The word before first: behind a misspelt word everything else looks wrong.
    [cursor.index.checked_sub(1)?, cursor.index].into_iter().find_map(|index| {
        let lexeme = cursor.lexemes.get(index)?;
        let Token::Word(word) = &lexeme.token else {
            return None;
        };
        let near = thalweg_core::nearest(&word.value, CLAUSES.iter().copied())
            .filter(|near| word.quote_style.is_none() && !lexeme.is_word(near))?;
        let at = Cursor { index, ..cursor.clone() };
        Some(at.expected("the end of the statement").help(format!("did you mean {near}?")))
    })
}

/// A construct of Flink that we know and sqlparser does not, if the error at token `index` comes from one.
pub(crate) fn known_construct(lexemes: &[Lexeme], index: usize) -> Option<Diagnostic> {
    let starts = |at: usize, words: &[&str]| {
        words.iter().enumerate().all(|(ahead, word)| lexemes.get(at + ahead).is_some_and(|lexeme| lexeme.is_word(word)))
    };
    let until = (index + 1).min(lexemes.len());
    let unreadable = (0..until).rev().find_map(|at| {
        let (words, what) = UNREADABLE.iter().find(|(words, _)| starts(at, words))?;
        let behind = at + words.len();
        // What stands further away was read, and something else is wrong.
        if index > behind + 1 && !is_within_call(lexemes, behind, index) {
            return None;
        }
        let span = lexemes[at].span.union(lexemes[behind - 1].span);
        Some(Diagnostic::error(Code::NOT_YET, format!("{what} does not run yet")).label(span, "not yet"))
    });
    unreadable.or_else(|| interval_between(lexemes, index))
}

/// Whether token `index` stands in the parentheses that open at token `open`.
fn is_within_call(lexemes: &[Lexeme], open: usize, index: usize) -> bool {
    if lexemes.get(open).is_none_or(|lexeme| lexeme.token != Token::LParen) {
        return false;
    }
    let mut depth = 0_usize;
    for lexeme in lexemes.iter().take(index).skip(open) {
        match lexeme.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return false;
        }
    }
    true
}

/// `(a - b) DAY TO SECOND`: a unit behind a parenthesis.
fn interval_between(lexemes: &[Lexeme], index: usize) -> Option<Diagnostic> {
    const UNITS: &[&str] = &["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
    // Where an alias may stand the unit is taken for one, and the word behind it is the error.
    [index, index.checked_sub(1)?].into_iter().find_map(|at| {
        let lexeme = lexemes.get(at).filter(|lexeme| UNITS.iter().any(|unit| lexeme.is_word(unit)))?;
        let behind = lexemes.get(at.checked_sub(1)?)?;
        (behind.token == Token::RParen).then(|| {
            Diagnostic::error(Code::NOT_YET, "an interval between two times does not run yet")
                .label(lexeme.span, "unit")
                .help("write TIMESTAMPDIFF(SECOND, from, to)")
        })
    })
}

/// Takes ` at Line: 1, Column: 2` off the end of a message.
fn split_place(text: &str) -> (&str, Option<Place>) {
    let Some((message, place)) = text.rsplit_once(" at Line: ") else {
        return (text, None);
    };
    let parsed = place
        .split_once(", Column: ")
        .and_then(|(line, column)| Some(Place { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? }));
    match parsed {
        Some(place) => (message, Some(place)),
        None => (text, None),
    }
}

/// sqlparser's name for what it wanted, in words.
fn friendly(expected: &str) -> String {
    match expected {
        "an expression" | "an expression:" => "an expression".to_string(),
        "identifier" => "a name".to_string(),
        "SELECT, VALUES, or a subquery in the query body" => "a query (SELECT, VALUES, or one in parentheses)".to_string(),
        "end of statement" => "the end of the statement".to_string(),
        other if other.chars().all(|c| !c.is_alphanumeric()) => format!("\"{other}\""),
        other => other.to_string(),
    }
}

fn first_lower(text: &str) -> String {
    let mut chars = text.trim().trim_end_matches('.').chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => "the statement cannot be read".to_string(),
    }
}

/// A token for a message, shortened.
pub(crate) fn shown(token: &Token) -> String {
    let text = token.to_string();
    let short: String = text.chars().take(40).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    match token {
        Token::SingleQuotedString(_) => format!("the text {short}{dots}"),
        Token::Number(..) => format!("the number {short}{dots}"),
        _ => format!("\"{short}{dots}\""),
    }
}

/// A token as SQL, quotes doubled: what sqlparser prints is for reading only.
pub(crate) fn sql_of(token: &Token) -> String {
    match token {
        Token::SingleQuotedString(text) => format!("'{}'", text.replace('\'', "''")),
        Token::Word(word) if word.quote_style.is_some() => format!("`{}`", word.value.replace('`', "``")),
        other => other.to_string(),
    }
}

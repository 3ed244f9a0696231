//! The first words of a statement decide who reads it. Also reads the short ones: SET, SHOW, DROP, DESCRIBE, EXPLAIN.

use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_core::{Code, Diagnostic, SourceText, Span};

use super::cursor::Cursor;
use super::{create_table, create_view, data_change};
use crate::statement::{Drop, ExplainDetail, Literal, Parsed, Statement};

/// Statements of Flink that do not run yet, by their first words.
const NOT_YET: &[&[&str]] = &[
    &["ALTER"],
    &["USE"],
    &["LOAD"],
    &["UNLOAD"],
    &["ANALYZE"],
    &["CALL"],
    &["ADD", "JAR"],
    &["REMOVE", "JAR"],
    &["STOP", "JOB"],
    &["COMPILE"],
    &["EXECUTE", "PLAN"],
    &["TRUNCATE"],
    &["DELETE"],
    &["UPDATE"],
    &["CREATE", "OR", "REPLACE", "TABLE"],
    &["CREATE", "CATALOG"],
    &["CREATE", "DATABASE"],
    &["CREATE", "FUNCTION"],
    &["CREATE", "TEMPORARY", "FUNCTION"],
    &["CREATE", "TEMPORARY", "SYSTEM", "FUNCTION"],
    &["CREATE", "MODEL"],
    &["CREATE", "TEMPORARY", "MODEL"],
    &["CREATE", "CONNECTION"],
    &["CREATE", "MATERIALIZED", "TABLE"],
    &["CREATE", "OR", "ALTER", "MATERIALIZED", "TABLE"],
    &["DROP", "CATALOG"],
    &["DROP", "DATABASE"],
    &["DROP", "FUNCTION"],
    &["DROP", "TEMPORARY", "FUNCTION"],
    &["DROP", "TEMPORARY", "SYSTEM", "FUNCTION"],
    &["DROP", "MODEL"],
    &["DROP", "MATERIALIZED", "TABLE"],
    &["SHOW", "CATALOGS"],
    &["SHOW", "CURRENT"],
    &["SHOW", "DATABASES"],
    &["SHOW", "COLUMNS"],
    &["SHOW", "PARTITIONS"],
    &["SHOW", "PROCEDURES"],
    &["SHOW", "MODULES"],
    &["SHOW", "FULL", "MODULES"],
    &["SHOW", "JARS"],
    &["SHOW", "JOBS"],
    &["SHOW", "MODELS"],
    &["SHOW", "USER", "FUNCTIONS"],
    &["SHOW", "MATERIALIZED", "TABLES"],
    &["SHOW", "CREATE", "CATALOG"],
    &["SHOW", "CREATE", "MODEL"],
    &["DESCRIBE", "JOB"],
    &["DESCRIBE", "CATALOG"],
    &["DESCRIBE", "FUNCTION"],
    &["DESCRIBE", "MODEL"],
];

/// What a statement may begin with.
const FIRST_WORDS: &[&str] = &[
    "SELECT", "INSERT", "CREATE", "DROP", "SET", "RESET", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXECUTE", "BEGIN", "WITH",
    "VALUES",
];

/// Reads the one statement that the cursor's tokens are.
pub(super) fn parse(cursor: &mut Cursor, source: &SourceText) -> Result<Parsed, Diagnostic> {
    let start = cursor.index;
    let statement = parse_statement(cursor, source)?;
    cursor.expect_end()?;
    Ok(Parsed {
        statement,
        span: cursor.span_from(start),
        text: cursor.written_between(start..cursor.index),
        source: source.clone(),
    })
}

fn parse_statement(cursor: &mut Cursor, source: &SourceText) -> Result<Statement, Diagnostic> {
    refuse_not_yet(cursor)?;
    if is_query(cursor) {
        return Ok(Statement::Query(cursor.query()?));
    }
    if cursor.is_word("INSERT") {
        return Ok(Statement::Insert(Box::new(data_change::parse_insert(cursor, source)?)));
    }
    if cursor.is_word("CREATE") {
        return parse_create(cursor);
    }
    if cursor.accept_word("DROP") {
        return parse_drop(cursor);
    }
    if cursor.accept_word("SET") {
        return parse_set(cursor);
    }
    if cursor.accept_word("RESET") {
        return Ok(Statement::Reset(if cursor.is_end() { None } else { Some(setting_key(cursor)?) }));
    }
    if cursor.accept_word("SHOW") {
        return parse_show(cursor);
    }
    if cursor.accept_word("DESCRIBE") || cursor.accept_word("DESC") {
        cursor.accept_word("EXTENDED");
        return Ok(Statement::Describe(cursor.table_name("the name of a table or view")?));
    }
    if cursor.accept_word("EXPLAIN") {
        return parse_explain(cursor, source);
    }
    if data_change::begins_statement_set(cursor) {
        return data_change::parse_statement_set(cursor, source);
    }
    if cursor.accept_word("EXECUTE") {
        if cursor.is_word("INSERT") {
            return Ok(Statement::Insert(Box::new(data_change::parse_insert(cursor, source)?)));
        }
        if is_query(cursor) {
            return Ok(Statement::Query(cursor.query()?));
        }
        return Err(cursor.expected("STATEMENT SET, INSERT or SELECT"));
    }
    let finding = cursor.expected("a statement");
    Err(match cursor.peek() {
        Some(lexeme) => {
            let known = Some(format!("statements begin with {}", FIRST_WORDS.join(", ")));
            finding.help_nearest(&lexeme.token.to_string(), FIRST_WORDS.iter().copied(), known)
        }
        None => finding,
    })
}

/// Whether a query begins here.
pub(super) fn is_query(cursor: &Cursor) -> bool {
    let mut ahead = 0;
    while cursor.is_token_at(ahead, &Token::LParen) {
        ahead += 1;
    }
    ["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.is_word_at(ahead, word))
}

fn refuse_not_yet(cursor: &Cursor) -> Result<(), Diagnostic> {
    let starts = |words: &&&[&str]| words.iter().enumerate().all(|(ahead, word)| cursor.is_word_at(ahead, word));
    // The longest that fits names the statement best.
    match NOT_YET.iter().filter(starts).max_by_key(|words| words.len()) {
        Some(words) => {
            let span = words_span(cursor, words.len());
            Err(Diagnostic::error(Code::NOT_YET, format!("{} does not run yet", words.join(" "))).label(span, "not yet"))
        }
        None => Ok(()),
    }
}

fn words_span(cursor: &Cursor, words: usize) -> Span {
    let mut end = cursor.clone();
    end.index += words;
    end.span_from(cursor.index)
}

fn parse_create(cursor: &mut Cursor) -> Result<Statement, Diagnostic> {
    let at = |cursor: &Cursor, words: &[&str]| words.iter().enumerate().all(|(ahead, word)| cursor.is_word_at(ahead, word));
    if at(cursor, &["CREATE", "TABLE"]) || at(cursor, &["CREATE", "TEMPORARY", "TABLE"]) {
        return create_table::parse(cursor);
    }
    if [&["CREATE", "VIEW"][..], &["CREATE", "TEMPORARY", "VIEW"], &["CREATE", "OR", "REPLACE"], &["CREATE", "OR", "ALTER"]]
        .iter()
        .any(|words| at(cursor, words))
    {
        return create_view::parse(cursor);
    }
    cursor.accept_word("CREATE");
    cursor.accept_word("TEMPORARY");
    Err(expected_table_or_view(cursor))
}

fn expected_table_or_view(cursor: &Cursor) -> Diagnostic {
    let found = cursor.peek().map(|lexeme| lexeme.token.to_string()).unwrap_or_default();
    cursor.expected("TABLE or VIEW").help_nearest(&found, ["TABLE", "VIEW"], None)
}

fn parse_drop(cursor: &mut Cursor) -> Result<Statement, Diagnostic> {
    let temporary = cursor.accept_word("TEMPORARY");
    let is_view = cursor.accept_word("VIEW");
    if !is_view && !cursor.accept_word("TABLE") {
        return Err(expected_table_or_view(cursor));
    }
    let if_exists = cursor.accept_words(&["IF", "EXISTS"]);
    let name = cursor.table_name(if is_view { "the name of a view" } else { "the name of a table" })?;
    let drop = Drop { name, if_exists, temporary };
    Ok(if is_view { Statement::DropView(drop) } else { Statement::DropTable(drop) })
}

fn parse_set(cursor: &mut Cursor) -> Result<Statement, Diagnostic> {
    if cursor.is_end() {
        return Ok(Statement::SetAll);
    }
    let key = setting_key(cursor)?;
    cursor.expect(&Token::Eq)?;
    let value = match cursor.literal("the value in single quotes") {
        Ok(value) => value,
        // Flink's shell also takes bare words and numbers.
        Err(finding) => bare_words(cursor, |token| !matches!(token, Token::Eq)).ok_or(finding)?,
    };
    Ok(Statement::Set { key, value })
}

/// `'a.b'`, or a bare `a.b-c`.
fn setting_key(cursor: &mut Cursor) -> Result<Literal, Diagnostic> {
    match cursor.literal("the name of a setting in single quotes") {
        Ok(key) => Ok(key),
        Err(finding) => bare_words(cursor, |token| matches!(token, Token::Word(_) | Token::Period | Token::Minus)).ok_or(finding),
    }
}

/// The text of the next tokens that `belongs` holds for, as written.
fn bare_words(cursor: &mut Cursor, belongs: impl Fn(&Token) -> bool) -> Option<Literal> {
    let start = cursor.index;
    while cursor.peek().is_some_and(|lexeme| belongs(&lexeme.token) && !lexeme.secret) {
        cursor.next();
    }
    (cursor.index > start).then(|| Literal {
        value: cursor.written_between(start..cursor.index),
        span: cursor.span_from(start),
        secret: false,
    })
}

fn parse_show(cursor: &mut Cursor) -> Result<Statement, Diagnostic> {
    if cursor.accept_words(&["CREATE", "TABLE"]) {
        return Ok(Statement::ShowCreateTable(cursor.table_name("the name of a table")?));
    }
    if cursor.accept_words(&["CREATE", "VIEW"]) {
        return Ok(Statement::ShowCreateView(cursor.table_name("the name of a view")?));
    }
    let statement = if cursor.accept_word("TABLES") {
        Statement::ShowTables
    } else if cursor.accept_word("VIEWS") {
        Statement::ShowViews
    } else if cursor.accept_word("FUNCTIONS") {
        Statement::ShowFunctions
    } else {
        return Err(cursor.expected("TABLES, VIEWS, FUNCTIONS, CREATE TABLE or CREATE VIEW"));
    };
    let filter = ["FROM", "IN", "LIKE", "ILIKE", "NOT"].iter().any(|word| cursor.is_word(word));
    if filter {
        return Err(Diagnostic::error(Code::NOT_YET, "SHOW with a filter does not run yet").label(cursor.span(), "filter"));
    }
    Ok(statement)
}

fn parse_explain(cursor: &mut Cursor, source: &SourceText) -> Result<Statement, Diagnostic> {
    let mut details = vec![];
    if !cursor.accept_words(&["PLAN", "FOR"]) {
        loop {
            let detail = if cursor.accept_word("ESTIMATED_COST") {
                ExplainDetail::EstimatedCost
            } else if cursor.accept_word("CHANGELOG_MODE") {
                ExplainDetail::ChangelogMode
            } else if cursor.accept_word("PLAN_ADVICE") {
                ExplainDetail::PlanAdvice
            } else if cursor.is_word("JSON_EXECUTION_PLAN") {
                return Err(Diagnostic::error(Code::NOT_YET, "EXPLAIN JSON_EXECUTION_PLAN does not run yet")
                    .label(cursor.span(), "not yet")
                    .help("EXPLAIN alone prints the plan as text"));
            } else {
                break;
            };
            details.push(detail);
            if !cursor.accept(&Token::Comma) {
                break;
            }
        }
    }
    let span = cursor.span();
    let start = cursor.index;
    // `EXPLAIN STATEMENT SET BEGIN … END` leaves EXECUTE out.
    let statement = if data_change::begins_statement_set(cursor) {
        data_change::parse_statement_set(cursor, source)?
    } else {
        parse_statement(cursor, source)?
    };
    let explainable = matches!(statement, Statement::Query(_) | Statement::Insert(_) | Statement::StatementSet(_));
    if !explainable {
        return Err(Diagnostic::error(Code::NOT_YET, "EXPLAIN of this statement does not run yet")
            .label(span, "not a query or INSERT")
            .help("explain a query, an INSERT or a STATEMENT SET"));
    }
    let parsed = Parsed {
        statement,
        span: cursor.span_from(start),
        text: cursor.written_between(start..cursor.index),
        source: source.clone(),
    };
    Ok(Statement::Explain { details, statement: Box::new(parsed) })
}

//! SQL text to statements.

mod create_table;
mod create_view;
pub(crate) mod cursor;
mod data_change;
mod hints;
pub(crate) mod lexer;
mod refusals;
mod reserved;
mod statement;
mod syntax;

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer;
use thalweg_core::{Code, Diagnostic, Place, SourceText, Span};

use crate::statement::Parsed;
use crate::token_pass::{self, TEXT_BYTES_MAX};
use crate::variables::{self, Variables};
use cursor::Cursor;
pub(crate) use hints::{STATE_TTL_HINT, name_of, split_hinted_name};
use lexer::Lexeme;

/// The stack of the thread that parses, and of the one that plans: room for the deepest statement that
/// [`crate::token_pass`] lets through, in a build without optimisation.
const STACK_BYTES: usize = 64 << 20;

/// Reads every statement of a script. Variables get their values here.
///
/// # Errors
/// Every finding of every statement: after a bad one, reading goes on behind its semicolon.
pub fn parse_script(source: &SourceText, variables: &dyn Variables) -> Result<Vec<Parsed>, Vec<Diagnostic>> {
    let text = &*source.text;
    let in_source = |finding: Diagnostic| finding.in_source(source.clone());
    if text.len() > TEXT_BYTES_MAX {
        let finding = Diagnostic::error(Code::TOO_COMPLEX, format!("the SQL text has {} bytes", text.len()))
            .help(format!("the most is {TEXT_BYTES_MAX}; split it into several files"));
        // Without the text: it is too long to look for a place in it.
        return Err(vec![Diagnostic { source: Some(SourceText::new(source.name.clone(), "")), ..finding }]);
    }
    let lexed = lexer::lex(text);
    let (mut lexemes, mut findings) = variables::bind(lexed.lexemes, text, variables);
    for hint in lexemes.iter_mut().filter_map(|lexeme| lexeme.hint.as_mut()) {
        let (bound, mut more) = variables::bind(std::mem::take(&mut hint.lexemes), text, variables);
        hint.lexemes = bound;
        findings.append(&mut more);
    }
    findings.extend(token_pass::check_tokens(&lexemes));
    findings.extend(lexed.stray_hints.into_iter().map(hints::misplaced));
    let mut ranges = lexer::split(&lexemes);
    if let Some(error) = lexed.error {
        // The last statement has no end; what is wrong with its beginning would only distract.
        if ranges.last().is_some_and(|last| last.end == lexemes.len()) {
            ranges.pop();
        }
        findings.push(error);
    }
    let results: Vec<Result<Parsed, Diagnostic>> =
        on_big_stack(|| ranges.iter().map(|range| parse_one(&lexemes[range.clone()], source)).collect());
    let mut statements = vec![];
    let mut later = vec![];
    for (range, result) in ranges.into_iter().zip(results) {
        match result {
            Ok(parsed) => statements.push(parsed),
            // What was said about the tokens of the same statement is the cause.
            Err(finding)
                if finding.code == Code::SYNTAX && findings.iter().any(|known| is_in(known, &lexemes[range.clone()])) => {}
            Err(finding) => later.push(finding),
        }
    }
    findings.append(&mut later);
    if findings.is_empty() {
        return Ok(statements);
    }
    findings.sort_by_key(|finding| finding.labels.first().map(|label| label.span.start));
    Err(findings.into_iter().map(in_source).collect())
}

/// Whether the place of `finding` is within the statement that `lexemes` are.
fn is_in(finding: &Diagnostic, lexemes: &[Lexeme]) -> bool {
    match (finding.labels.first(), lexemes.first(), lexemes.last()) {
        (Some(label), Some(first), Some(last)) => (first.span.start..=last.span.end).contains(&label.span.start),
        _ => false,
    }
}

fn parse_one(lexemes: &[Lexeme], source: &SourceText) -> Result<Parsed, Diagnostic> {
    token_pass::check_limits(lexemes)?;
    let mut cursor = Cursor::new(lexemes, &source.text);
    let parsed = statement::parse(&mut cursor, source)?;
    hints::check_used(lexemes)?;
    Ok(parsed)
}

/// Reads an expression such as that of a computed column or a watermark. `start` is where it stands in its file
/// (`Column::span`, `WatermarkDefinition::span`), so that the spans in the AST point there.
///
/// # Errors
/// `SYNTAX`, `TOO_COMPLEX`, `BAD_TYPE`, `NOT_YET`, with places as said, without a source.
pub fn parse_expression_at(sql: &str, start: Option<Place>) -> Result<ast::Expr, Diagnostic> {
    let lexed = lexer::lex(sql);
    let start = start.unwrap_or(Place { line: 1, column: 1 });
    let moved = |place: Place| Place {
        line: place.line + start.line - 1,
        column: if place.line == 1 { place.column + start.column - 1 } else { place.column },
    };
    let lexemes: Vec<Lexeme> = lexed
        .lexemes
        .into_iter()
        .map(|lexeme| Lexeme { span: Span { start: moved(lexeme.span.start), end: moved(lexeme.span.end) }, ..lexeme })
        .collect();
    if let Some(error) = lexed.error {
        return Err(Diagnostic { labels: vec![], ..error });
    }
    token_pass::check_limits(&lexemes)?;
    on_big_stack(|| cursor::whole_expression(&lexemes, sql))
}

/// `SELECT item FROM table`, as an AST.
///
/// # Errors
/// None in practice: the text around `item` is ours.
pub(crate) fn query_over(table: &str, item: ast::SelectItem) -> Result<Box<ast::Query>, Diagnostic> {
    let text = format!("SELECT 1 FROM `{}`", table.replace('`', "``"));
    let lexed = lexer::lex(&text);
    let mut query = Cursor::new(&lexed.lexemes, &text).query()?;
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = vec![item];
    }
    Ok(query)
}

/// The place of an AST node; `None` when sqlparser does not know it.
pub fn span_of(span: tokenizer::Span) -> Option<Span> {
    (span.start.line > 0).then(|| lexer::span_between(span.start, span.end))
}

/// Runs `work` on a thread with a stack that the recursion of parsers and planners fits into.
pub(crate) fn on_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        match std::thread::Builder::new().name("sql".to_string()).stack_size(STACK_BYTES).spawn_scoped(scope, work) {
            Ok(handle) => match handle.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            },
            Err(error) => panic!("no thread could be started for the SQL: {error}"),
        }
    })
}

#[cfg(test)]
mod tests;

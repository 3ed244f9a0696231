//! What is checked on the tokens of a statement before any parser sees them.
//!
//! - Limits: sqlparser, DataFusion and the destructors of an AST all recurse, so a bound on its depth is computed first, without
//!   recursion. The bound is generous against what people write and small against a thread's stack.
//! - Refusals: what sqlparser would accept with another meaning than Flink's (`"name"`, `x::INT`).

use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_core::{Code, Diagnostic, Span};

use crate::parser::lexer::Lexeme;

/// The longest SQL text, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// The most tokens of one statement.
pub const TOKENS_MAX: usize = 200_000;
/// The deepest nesting of parentheses, brackets and CASE.
pub const NESTING_MAX: usize = 100;
/// The deepest AST, as bounded by [`Depth`]: operators chained at one level, plus those inside.
pub const AST_DEPTH_MAX: usize = 500;

/// Refuses a statement that is too long or too deep.
///
/// # Errors
/// `TOO_COMPLEX` with the place where the limit was passed.
pub(crate) fn check_limits(lexemes: &[Lexeme]) -> Result<(), Diagnostic> {
    if let Some(lexeme) = lexemes.get(TOKENS_MAX) {
        return Err(too_complex(format!("the statement has more than {TOKENS_MAX} words and signs"), lexeme.span)
            .help("split it, or load long lists of values from a table"));
    }
    let mut depth = Depth::new();
    for lexeme in lexemes {
        depth.add(lexeme);
        if depth.nesting() > NESTING_MAX {
            return Err(too_complex(format!("the statement is nested more than {NESTING_MAX} levels deep"), lexeme.span)
                .help("give inner parts a name with CREATE VIEW"));
        }
        if depth.bound() > AST_DEPTH_MAX {
            return Err(too_complex(format!("the statement chains more than {AST_DEPTH_MAX} operators"), lexeme.span)
                .help("write x IN (…) instead of many ORs, or split the expression with a view"));
        }
    }
    Ok(())
}

fn too_complex(message: String, span: Span) -> Diagnostic {
    Diagnostic::error(Code::TOO_COMPLEX, message).label(span, "the limit is passed here")
}

/// An upper bound of the depth of the AST of the tokens so far.
///
/// A left-associative chain puts each operator on top of all before it, so a level's depth grows by one with each operator
/// and is at least one more than the deepest level inside it.
struct Depth {
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    /// The chain that is being read.
    current: usize,
    /// The deepest chain of this level that is finished.
    finished: usize,
    /// Joins and set operations, which stay on top of whatever comes between them.
    relations: usize,
    /// Commas separate relations here, so they join.
    in_from: bool,
}

impl Level {
    fn depth(&self) -> usize {
        self.current.max(self.finished) + self.relations
    }

    fn finish_chain(&mut self) {
        self.finished = self.finished.max(self.current);
        self.current = 0;
    }
}

impl Depth {
    fn new() -> Self {
        Depth { levels: vec![Level::default()] }
    }

    fn nesting(&self) -> usize {
        self.levels.len() - 1
    }

    fn bound(&self) -> usize {
        self.levels.last().map_or(0, Level::depth) + self.nesting()
    }

    fn add(&mut self, lexeme: &Lexeme) {
        match &lexeme.token {
            Token::LParen | Token::LBracket | Token::LBrace => self.open(),
            Token::RParen | Token::RBracket | Token::RBrace => self.close(),
            Token::Comma => self.with_level(|level| {
                if level.in_from {
                    level.relations += 1;
                }
                level.finish_chain();
            }),
            Token::SemiColon => self.levels = vec![Level::default()],
            Token::Word(word) if word.quote_style.is_none() => self.add_word(&word.value.to_uppercase()),
            Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Period
            | Token::RArrow
            | Token::Placeholder(_) => {}
            _ => self.with_level(|level| level.current += 1),
        }
    }

    fn add_word(&mut self, word: &str) {
        match word {
            "CASE" => self.open(),
            "END" => self.close(),
            "AND" | "OR" | "NOT" | "IS" | "IN" | "LIKE" | "BETWEEN" | "SIMILAR" | "RLIKE" | "INTERVAL" | "ANY" | "ALL"
            | "EXISTS" | "COLLATE" | "AT" => self.with_level(|level| level.current += 1),
            "JOIN" | "UNION" | "EXCEPT" | "INTERSECT" | "MINUS" => self.with_level(|level| {
                level.finish_chain();
                level.relations += 1;
            }),
            "SELECT" | "WHERE" | "HAVING" | "ON" | "WHEN" | "THEN" | "ELSE" | "GROUP" | "ORDER" | "QUALIFY" | "VALUES" => self
                .with_level(|level| {
                    level.in_from = false;
                    level.finish_chain();
                }),
            "FROM" => self.with_level(|level| {
                level.in_from = true;
                level.finish_chain();
            }),
            _ => {}
        }
    }

    fn with_level(&mut self, change: impl FnOnce(&mut Level)) {
        if let Some(level) = self.levels.last_mut() {
            change(level);
        }
    }

    fn open(&mut self) {
        self.levels.push(Level::default());
    }

    fn close(&mut self) {
        // A closing bracket without an opening one is the parser's finding, not ours.
        if self.levels.len() > 1
            && let Some(closed) = self.levels.pop()
        {
            let inside = closed.depth() + 1;
            self.with_level(|level| level.current = level.current.max(inside));
        }
    }
}

/// What sqlparser would read with another meaning than Flink's, or drop.
pub(crate) fn check_tokens(lexemes: &[Lexeme]) -> Vec<Diagnostic> {
    let mut findings = vec![];
    // Within a pattern `?` is a quantifier.
    let mut in_pattern = false;
    for lexeme in lexemes {
        in_pattern = lexeme.token != Token::SemiColon && (in_pattern || lexeme.is_word("MATCH_RECOGNIZE"));
        match &lexeme.token {
            Token::DoubleQuotedString(text) => findings.push(
                Diagnostic::error(Code::SYNTAX, "double quotes mean nothing in Flink's SQL")
                    .label(lexeme.span, "in double quotes")
                    .help(format!("write `{text}` for a name or '{text}' for text")),
            ),
            Token::DoubleColon => findings.push(
                Diagnostic::error(Code::NOT_IN_FLINK, "the cast operator \"::\" is not Flink's SQL")
                    .label(lexeme.span, "cast")
                    .help("write CAST(value AS type)"),
            ),
            Token::Placeholder(text) if !in_pattern => findings.push(
                Diagnostic::error(Code::SYNTAX, format!("parameter \"{text}\" has no value"))
                    .label(lexeme.span, "parameter")
                    .help("write ${NAME} and give --var NAME=value"),
            ),
            _ => {}
        }
    }
    findings
}

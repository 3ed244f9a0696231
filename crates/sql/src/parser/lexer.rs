//! Text to tokens with exact places, and tokens to statements.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};
use thalweg_core::{Code, Diagnostic, Place, Span};

use crate::dialect::FlinkDialect;

/// A token that is not white space.
#[derive(Clone, Debug)]
pub(crate) struct Lexeme {
    pub token: Token,
    pub span: Span,
    /// Where it stands in the text.
    pub bytes: Range<usize>,
    /// A value from the environment or a file is in it.
    pub secret: bool,
    /// A variable was replaced in it, so the text says something else than the token.
    pub bound: bool,
    /// The hint that follows it.
    pub hint: Option<Box<HintComment>>,
}

/// `/*+ … */`
#[derive(Clone, Debug)]
pub(crate) struct HintComment {
    /// The tokens inside.
    pub lexemes: Vec<Lexeme>,
    pub span: Span,
    /// Set by whoever found a use for it: a hint that nobody uses is a mistake.
    pub used: Arc<AtomicBool>,
}

impl Lexeme {
    /// Whether this is the unquoted word `word`, in any case.
    pub fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
    }
}

/// The tokens of a text, and what could not be read.
#[derive(Debug, Default)]
pub(crate) struct Lexed {
    pub lexemes: Vec<Lexeme>,
    /// The places of hints that follow no token, or another hint.
    pub stray_hints: Vec<Span>,
    /// Set when the text ends within a literal, name or comment; the tokens before it are there.
    pub error: Option<Diagnostic>,
}

/// Cuts a text into tokens.
pub(crate) fn lex(text: &str) -> Lexed {
    let dialect = FlinkDialect::default();
    let mut tokens = vec![];
    let result = Tokenizer::new(&dialect, text).tokenize_with_location_into_buf(&mut tokens);
    let mut lexed = Lexed::default();
    let mut walk = Walk { text, line: 1, column: 1, byte: 0 };
    for TokenWithSpan { token, span } in tokens {
        let start = walk.to(span.start);
        let end = walk.to(span.end);
        let span = span_between(span.start, span.end);
        match token {
            Token::Whitespace(Whitespace::MultiLineComment(comment)) if comment.starts_with('+') => {
                match lexed.lexemes.last_mut().filter(|before| before.hint.is_none()) {
                    Some(before) => before.hint = Some(Box::new(hint(&comment[1..], span, start))),
                    None => lexed.stray_hints.push(span),
                }
            }
            Token::Whitespace(_) => {}
            token => lexed.lexemes.push(Lexeme { token, span, bytes: start..end, secret: false, bound: false, hint: None }),
        }
    }
    lexed.error = result.err().map(|error| {
        // The tokenizer gives the end of the text for what never ends; the place where it begins says more.
        let (place, message, help) = unfinished(text, walk.byte, walk.line, walk.column, &error.message);
        Diagnostic::error(Code::SYNTAX, message)
            .label(Span { start: place, end: Place { line: place.line, column: place.column + 1 } }, "begins here")
            .help(help)
    });
    lexed
}

/// The hint that begins at `byte`, `/*+` and `*/` left out of `inside`. What it holds is read when somebody wants it.
fn hint(inside: &str, span: Span, byte: usize) -> HintComment {
    const LEAD: usize = "/*+".len();
    let moved = |place: Place| Place {
        line: place.line + span.start.line - 1,
        column: if place.line == 1 { place.column + span.start.column - 1 + LEAD as u64 } else { place.column },
    };
    let lexemes = lex(inside)
        .lexemes
        .into_iter()
        .map(|lexeme| Lexeme {
            span: Span { start: moved(lexeme.span.start), end: moved(lexeme.span.end) },
            bytes: lexeme.bytes.start + byte + LEAD..lexeme.bytes.end + byte + LEAD,
            ..lexeme
        })
        .collect();
    HintComment { lexemes, span, used: Arc::default() }
}

/// What was begun at `byte` and never ended.
fn unfinished(text: &str, byte: usize, line: u64, column: u64, message: &str) -> (Place, String, String) {
    let rest = &text[byte.min(text.len())..];
    let place = Place { line, column };
    let (what, help) = if rest.starts_with('`') {
        ("a name in backticks is never closed", "add the closing `")
    } else if rest.starts_with("/*") {
        ("a comment is never closed", "add */")
    } else if rest.starts_with('\'') || rest.contains('\'') && message.to_lowercase().contains("string") {
        ("a string is never closed", "add the closing '; a quote inside a string is written twice")
    } else {
        return (place, format!("the text cannot be read: {}", message.to_lowercase()), "check the characters here".to_string());
    };
    (place, what.to_string(), help.to_string())
}

/// Walks a text once, turning increasing locations into byte offsets; counts as the tokenizer does.
struct Walk<'a> {
    text: &'a str,
    line: u64,
    column: u64,
    byte: usize,
}

impl Walk<'_> {
    fn to(&mut self, location: Location) -> usize {
        let mut chars = self.text[self.byte..].chars();
        while (self.line, self.column) < (location.line, location.column) {
            match chars.next() {
                Some('\n') => {
                    self.line += 1;
                    self.column = 1;
                    self.byte += 1;
                }
                Some(c) => {
                    self.column += 1;
                    self.byte += c.len_utf8();
                }
                None => break,
            }
        }
        self.byte
    }
}

pub(crate) fn span_between(start: Location, end: Location) -> Span {
    Span::new(start.line, start.column, end.line, end.column)
}

/// The token under the type that sqlparser's parser wants.
pub(crate) fn to_sqlparser(lexeme: &Lexeme) -> TokenWithSpan {
    let location = |place: Place| Location::new(place.line, place.column);
    TokenWithSpan::at(lexeme.token.clone(), location(lexeme.span.start), location(lexeme.span.end))
}

/// Cuts tokens into statements at semicolons; the ones inside a statement set do not count.
pub(crate) fn split(lexemes: &[Lexeme]) -> Vec<Range<usize>> {
    let mut statements = vec![];
    let mut start = 0;
    while start < lexemes.len() {
        let in_set = begins_statement_set(&lexemes[start..]);
        let mut end = start;
        while end < lexemes.len() {
            if lexemes[end].token == Token::SemiColon {
                let closes = |at: usize| {
                    lexemes[at].is_word("END") && lexemes.get(at + 1).is_none_or(|next| next.token == Token::SemiColon)
                };
                if !in_set || end == start || closes(end - 1) {
                    break;
                }
            }
            end += 1;
        }
        if end > start {
            statements.push(start..end);
        }
        start = end + 1;
    }
    statements
}

/// Whether `EXECUTE STATEMENT SET`, `BEGIN STATEMENT SET` or an EXPLAIN of one begins here.
fn begins_statement_set(lexemes: &[Lexeme]) -> bool {
    let words: Vec<&Lexeme> = lexemes.iter().take(12).take_while(|lexeme| lexeme.token != Token::SemiColon).collect();
    let starts = ["EXECUTE", "EXPLAIN", "BEGIN"].iter().any(|word| words.first().is_some_and(|first| first.is_word(word)));
    starts && words.windows(2).any(|pair| pair[0].is_word("STATEMENT") && pair[1].is_word("SET"))
}

//! `${NAME}`, `${ENV:NAME}` and `${FILE:path}`: typed parameters, put in place after the text was cut into tokens.
//!
//! A variable can therefore never add a clause: inside a string literal it adds characters to that literal, and standing alone it
//! becomes exactly one literal (a number if it reads as one, `TRUE`, `FALSE` or `NULL`, else a string).
//! What comes from the environment or a file is secret, and may stand only where secrets are hidden: in `WITH` and in `SET`.

use std::ops::Range;

use datafusion::sql::sqlparser::tokenizer::{Token, Word};
use thalweg_core::{Code, Diagnostic, Span};

use crate::parser::lexer::Lexeme;

/// Where values come from. Only the command line reads the environment, so it implements this.
pub trait Variables {
    /// The value of `--var NAME=value`.
    fn variable(&self, name: &str) -> Option<String>;

    /// The names that [`Variables::variable`] knows, to offer the nearest one.
    fn names(&self) -> Vec<String>;

    /// The value of an environment variable.
    fn environment(&self, name: &str) -> Option<String>;

    /// The text of a file; `Err` says why it cannot be read.
    fn file(&self, path: &str) -> Result<String, String>;
}

/// No variable has a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn names(&self) -> Vec<String> {
        vec![]
    }

    fn environment(&self, _name: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(format!("no file may be read here: {path}"))
    }
}

/// A value with what must be known of it.
struct Value {
    text: String,
    secret: bool,
}

/// Replaces every variable in `lexemes`. `text` is the text that they were cut from.
pub(crate) fn bind(lexemes: Vec<Lexeme>, text: &str, variables: &dyn Variables) -> (Vec<Lexeme>, Vec<Diagnostic>) {
    let mut bound = Vec::with_capacity(lexemes.len());
    let mut findings = vec![];
    let mut index = 0;
    while index < lexemes.len() {
        let lexeme = &lexemes[index];
        if let Some(end) = whole_variable(&lexemes, index) {
            let last = &lexemes[end];
            let span = lexeme.span.union(last.span);
            let inside = &text[lexemes[index + 1].bytes.end..last.bytes.start];
            match lookup(inside.trim(), span, variables) {
                Ok(value) => push_literal(&mut bound, value, span, lexeme.bytes.start..last.bytes.end),
                Err(finding) => {
                    findings.push(finding);
                    // A literal in its place lets the rest of the statement be read.
                    push_literal(
                        &mut bound,
                        Value { text: String::new(), secret: false },
                        span,
                        lexeme.bytes.start..last.bytes.end,
                    );
                }
            }
            index = end + 1;
            continue;
        }
        match &lexeme.token {
            Token::SingleQuotedString(literal) if literal.contains("${") => {
                let (value, mut found) = bind_inside(literal, lexeme, text, variables);
                findings.append(&mut found);
                bound.push(Lexeme {
                    token: Token::SingleQuotedString(value.text),
                    secret: value.secret,
                    bound: true,
                    ..lexeme.clone()
                });
            }
            _ => bound.push(lexeme.clone()),
        }
        index += 1;
    }
    (bound, findings)
}

/// The index of the closing brace if a variable that is a token of its own begins at `index`.
fn whole_variable(lexemes: &[Lexeme], index: usize) -> Option<usize> {
    let is_start = matches!(&lexemes[index].token, Token::Placeholder(text) if text == "$")
        && lexemes.get(index + 1).is_some_and(|next| next.token == Token::LBrace && next.bytes.start == lexemes[index].bytes.end);
    if !is_start {
        return None;
    }
    let rest = &lexemes[index + 2..];
    let length = rest.iter().position(|lexeme| matches!(lexeme.token, Token::RBrace | Token::SemiColon))?;
    (rest[length].token == Token::RBrace).then_some(index + 2 + length)
}

fn push_literal(bound: &mut Vec<Lexeme>, value: Value, span: Span, bytes: Range<usize>) {
    let mut push = |token: Token| {
        bound.push(Lexeme { token, span, bytes: bytes.clone(), secret: value.secret, bound: true, hint: None });
    };
    let text = value.text.trim();
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let word = |value: &str| Token::Word(Word { value: value.to_uppercase(), quote_style: None, keyword: keyword_of(value) });
    if is_number(unsigned) {
        if unsigned.len() == text.len() {
            push(Token::Number(text.to_string(), false));
        } else {
            push(Token::LParen);
            push(Token::Minus);
            push(Token::Number(unsigned.to_string(), false));
            push(Token::RParen);
        }
    } else if ["true", "false", "null"].contains(&text.to_lowercase().as_str()) {
        push(word(text));
    } else {
        push(Token::SingleQuotedString(value.text.clone()));
    }
}

fn keyword_of(word: &str) -> datafusion::sql::sqlparser::keywords::Keyword {
    match Token::make_keyword(word) {
        Token::Word(word) => word.keyword,
        _ => datafusion::sql::sqlparser::keywords::Keyword::NoKeyword,
    }
}

/// Digits, with at most one point between digits.
fn is_number(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction)
}

/// Replaces the variables inside a string literal.
fn bind_inside(literal: &str, lexeme: &Lexeme, text: &str, variables: &dyn Variables) -> (Value, Vec<Diagnostic>) {
    let mut value = Value { text: String::with_capacity(literal.len()), secret: false };
    let mut findings = vec![];
    let mut rest = literal;
    while let Some(start) = rest.find("${") {
        value.text.push_str(&rest[..start]);
        let inside = &rest[start + 2..];
        match inside.find('}').filter(|end| is_reference(&inside[..*end])) {
            Some(end) => {
                let name = &inside[..end];
                match lookup(name, span_inside(lexeme, text, name), variables) {
                    Ok(found) => {
                        value.text.push_str(&found.text);
                        value.secret |= found.secret;
                    }
                    Err(finding) => findings.push(finding),
                }
                rest = &inside[end + 1..];
            }
            None => {
                value.text.push_str("${");
                rest = inside;
            }
        }
    }
    value.text.push_str(rest);
    (value, findings)
}

/// Whether what stands between the braces can be a variable; other text with `${` in it is left alone.
fn is_reference(inside: &str) -> bool {
    let inside = inside.trim();
    let name = |text: &str| {
        text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    match inside.split_once(':') {
        Some((kind, rest)) => name(kind) && !rest.is_empty(),
        None => name(inside),
    }
}

/// The place of `${name}` within a literal; that of the whole literal when it has line breaks or escapes.
fn span_inside(lexeme: &Lexeme, text: &str, name: &str) -> Span {
    let raw = &text[lexeme.bytes.clone()];
    let wanted = format!("${{{name}}}");
    match raw.find(&wanted) {
        Some(at) if !raw.contains('\n') => {
            let before = raw[..at].chars().count() as u64;
            let line = lexeme.span.start.line;
            let column = lexeme.span.start.column + before;
            Span::new(line, column, line, column + wanted.chars().count() as u64)
        }
        _ => lexeme.span,
    }
}

fn lookup(inside: &str, span: Span, variables: &dyn Variables) -> Result<Value, Diagnostic> {
    let unknown = |message: String| Diagnostic::error(Code::UNKNOWN_VARIABLE, message).label(span, "no value");
    match inside.split_once(':').map(|(kind, rest)| (kind.trim(), rest.trim())) {
        None => match variables.variable(inside) {
            Some(text) => Ok(Value { text, secret: false }),
            None => {
                let names = variables.names();
                Err(unknown(format!("variable \"{inside}\" has no value")).help_nearest(
                    inside,
                    names.iter().map(String::as_str),
                    Some(format!("give it one with --var {inside}=value")),
                ))
            }
        },
        Some(("ENV", name)) => match variables.environment(name) {
            Some(text) => Ok(Value { text, secret: true }),
            None => Err(unknown(format!("environment variable \"{name}\" is not set"))
                .help(format!("set {name} in the environment of the process"))),
        },
        Some(("FILE", path)) => match variables.file(path) {
            // Secrets mounted as files commonly end in a line break that is not part of them.
            Ok(text) => Ok(Value { text: text.trim_end_matches(['\n', '\r']).to_string(), secret: true }),
            Err(reason) => Err(unknown(format!("file \"{path}\" cannot be read: {reason}"))),
        },
        Some((kind, _)) => Err(unknown(format!("variables have no kind \"{kind}\"")).help_nearest(
            kind,
            ["ENV", "FILE"],
            Some("use ${NAME}, ${ENV:NAME} or ${FILE:path}".to_string()),
        )),
    }
}

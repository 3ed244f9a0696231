//! Reads a statement token by token, and hands stretches of it to sqlparser.

use std::ops::Range;

use datafusion::sql::sqlparser::ast::{Expr, Query};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_core::{Code, Diagnostic, Options, Span};

use super::lexer::{Lexeme, to_sqlparser};
use super::reserved::is_reserved;
use super::syntax;
use super::{hints, refusals};
use crate::dialect::FlinkDialect;
use crate::statement::{Expression, Literal, Name};
use crate::types::{self, SqlType};

/// How deep sqlparser may recurse; far beyond what [`crate::token_pass`] lets through.
const SQLPARSER_DEPTH: usize = 2_000;

/// A place within the tokens of one statement.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    pub lexemes: &'a [Lexeme],
    pub index: usize,
    /// The whole text that the tokens were cut from; empty when it is not known.
    pub text: &'a str,
}

impl<'a> Cursor<'a> {
    pub fn new(lexemes: &'a [Lexeme], text: &'a str) -> Self {
        Cursor { lexemes, index: 0, text }
    }

    pub fn peek(&self) -> Option<&'a Lexeme> {
        self.lexemes.get(self.index)
    }

    pub fn is_end(&self) -> bool {
        self.index >= self.lexemes.len()
    }

    pub fn next(&mut self) -> Option<&'a Lexeme> {
        let lexeme = self.lexemes.get(self.index)?;
        self.index += 1;
        Some(lexeme)
    }

    /// The place of the next token, or just behind the last one.
    pub fn span(&self) -> Span {
        match (self.peek(), self.lexemes.last()) {
            (Some(next), _) => next.span,
            (None, Some(last)) => Span { start: last.span.end, end: last.span.end },
            (None, None) => Span::new(1, 1, 1, 1),
        }
    }

    /// From the token at `start` to the last one taken.
    pub fn span_from(&self, start: usize) -> Span {
        match (self.lexemes.get(start), self.lexemes.get(self.index.wrapping_sub(1))) {
            (Some(first), Some(last)) if self.index > start => first.span.union(last.span),
            (Some(first), _) => first.span,
            _ => self.span(),
        }
    }

    pub fn is_word_at(&self, ahead: usize, word: &str) -> bool {
        self.lexemes.get(self.index + ahead).is_some_and(|lexeme| lexeme.is_word(word))
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.is_word_at(0, word)
    }

    pub fn is_token_at(&self, ahead: usize, token: &Token) -> bool {
        self.lexemes.get(self.index + ahead).is_some_and(|lexeme| lexeme.token == *token)
    }

    pub fn accept_word(&mut self, word: &str) -> bool {
        self.accept_words(&[word])
    }

    /// Takes the words if all of them come next, else none.
    pub fn accept_words(&mut self, words: &[&str]) -> bool {
        let all = words.iter().enumerate().all(|(ahead, word)| self.is_word_at(ahead, word));
        if all {
            self.index += words.len();
        }
        all
    }

    pub fn expect_words(&mut self, words: &[&str]) -> Result<(), Diagnostic> {
        for word in words {
            if !self.accept_word(word) {
                return Err(self.expected(word));
            }
        }
        Ok(())
    }

    pub fn accept(&mut self, token: &Token) -> bool {
        let found = self.is_token_at(0, token);
        if found {
            self.index += 1;
        }
        found
    }

    pub fn expect(&mut self, token: &Token) -> Result<(), Diagnostic> {
        if self.accept(token) { Ok(()) } else { Err(self.expected(&format!("\"{token}\""))) }
    }

    /// A finding that `what` should come next.
    pub fn expected(&self, what: &str) -> Diagnostic {
        let found = match self.peek() {
            Some(lexeme) => format!("found {}", syntax::shown(&lexeme.token)),
            None => "the statement ends here".to_string(),
        };
        // A long list is read once, in the message.
        let label = if what.len() <= 40 { format!("expected {what}") } else { "not expected here".to_string() };
        Diagnostic::error(Code::SYNTAX, format!("expected {what}, {found}")).label(self.span(), label)
    }

    pub fn expect_end(&self) -> Result<(), Diagnostic> {
        if self.is_end() {
            return Ok(());
        }
        let known = syntax::known_construct(self.lexemes, self.index);
        Err(known
            .or_else(|| syntax::misspelt_clause(self))
            .unwrap_or_else(|| self.expected("the end of the statement").help("statements end with a semicolon")))
    }

    /// A name: a word that is not reserved, or anything in backticks.
    pub fn identifier(&mut self, what: &str) -> Result<Name, Diagnostic> {
        match self.peek() {
            Some(Lexeme { token: Token::Word(word), span, .. }) => {
                if word.quote_style.is_none() && is_reserved(&word.value) {
                    return Err(Diagnostic::error(
                        Code::SYNTAX,
                        format!("expected {what}, found the reserved word \"{}\"", word.value),
                    )
                    .label(*span, "reserved word")
                    .help(format!("write it in backticks to use it as a name: `{}`", word.value)));
                }
                self.index += 1;
                Ok(Name { value: word.value.clone(), span: *span })
            }
            _ => Err(self.expected(what)),
        }
    }

    /// The name of a table or view. The default catalog and database may stand in front of it; there are no others.
    pub fn table_name(&mut self, what: &str) -> Result<Name, Diagnostic> {
        let mut parts = vec![self.identifier(what)?];
        while self.accept(&Token::Period) {
            parts.push(self.identifier(what)?);
        }
        let words: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
        match crate::catalog::base_name(&words) {
            Some(name) => {
                let span = parts[0].span.union(parts[parts.len() - 1].span);
                Ok(Name { value: name.to_string(), span })
            }
            None => Err(Diagnostic::error(Code::NOT_YET, "other catalogs and databases than the default ones do not run yet")
                .label(parts[0].span.union(parts[parts.len() - 2].span), "catalog or database")
                .help("write the name of the table alone")),
        }
    }

    pub fn literal(&mut self, what: &str) -> Result<Literal, Diagnostic> {
        match self.peek() {
            Some(Lexeme { token: Token::SingleQuotedString(value), span, secret, .. }) => {
                self.index += 1;
                Ok(Literal { value: value.clone(), span: *span, secret: *secret })
            }
            // A variable that stands alone may have become a number or a truth value.
            Some(Lexeme { token: token @ (Token::Number(..) | Token::Word(_)), span, secret, bound: true, .. }) => {
                self.index += 1;
                Ok(Literal { value: token.to_string(), span: *span, secret: *secret })
            }
            _ => Err(self.expected(what)),
        }
    }

    /// `(name, name, …)`
    pub fn name_list(&mut self, what: &str) -> Result<Vec<Name>, Diagnostic> {
        self.expect(&Token::LParen)?;
        let mut names = vec![self.identifier(what)?];
        while self.accept(&Token::Comma) {
            names.push(self.identifier(what)?);
        }
        self.expect(&Token::RParen)?;
        Ok(names)
    }

    /// `('key' = 'value', …)`
    pub fn options(&mut self) -> Result<Options, Diagnostic> {
        let start = self.index;
        let mut options = Options::new();
        self.expect(&Token::LParen)?;
        while !self.is_token_at(0, &Token::RParen) {
            let key = self.literal("an option name in single quotes")?;
            self.expect(&Token::Eq)?;
            let value = self.literal("the value of the option in single quotes")?;
            if options.get(&key.value).is_some() {
                return Err(Diagnostic::error(Code::DUPLICATE_NAME, format!("option \"{}\" is given twice", key.value))
                    .label(key.span, "second time")
                    .help("keep one of them"));
            }
            options.insert_at(key.value.clone(), value.value, Some(key.span), Some(value.span));
            if value.secret {
                options.mark_secret(&key.value);
            }
            if !self.accept(&Token::Comma) {
                break;
            }
        }
        self.expect(&Token::RParen)?;
        options.span = Some(self.span_from(start));
        Ok(options)
    }

    pub fn data_type(&mut self) -> Result<SqlType, Diagnostic> {
        types::parse_type(self)
    }

    /// An expression up to a comma or closing parenthesis of this level, or up to `COMMENT '…'`.
    pub fn expression(&mut self) -> Result<Expression, Diagnostic> {
        let start = self.index;
        let mut open = 0_usize;
        let mut end = start;
        while let Some(lexeme) = self.lexemes.get(end) {
            match &lexeme.token {
                Token::LParen | Token::LBracket => open += 1,
                Token::RParen | Token::RBracket | Token::Comma if open == 0 => break,
                Token::RParen | Token::RBracket => open -= 1,
                _ if open == 0
                    && lexeme.is_word("COMMENT")
                    && matches!(self.lexemes.get(end + 1), Some(Lexeme { token: Token::SingleQuotedString(_), .. })) =>
                {
                    break;
                }
                _ => {}
            }
            end += 1;
        }
        let part = Cursor { lexemes: &self.lexemes[..end], index: start, text: self.text };
        if start == end {
            return Err(self.expected("an expression"));
        }
        let (expr, used) = part.sqlparser(|parser| parser.parse_expr())?;
        let rest = Cursor { index: used, ..part };
        if !rest.is_end() {
            return Err(rest.expected("the end of the expression"));
        }
        refusals::check_expression(&expr, &self.lexemes[start..end])?;
        self.index = end;
        Ok(Expression { expr, sql: self.sql_between(start..end), span: self.span_from(start) })
    }

    /// A query up to the end of the tokens, or up to one that cannot belong to it.
    pub fn query(&mut self) -> Result<Box<Query>, Diagnostic> {
        let (mut query, used) = self.sqlparser(|parser| parser.parse_query())?;
        refusals::check_query(&query, &self.lexemes[self.index..used])?;
        hints::attach(&mut query, &self.lexemes[self.index..used], self.text)?;
        self.index = used;
        Ok(query)
    }

    /// Lets sqlparser read from here; returns what it made and the index of the first token it did not take.
    fn sqlparser<T>(&self, parse: impl FnOnce(&mut Parser) -> Result<T, ParserError>) -> Result<(T, usize), Diagnostic> {
        let rest = &self.lexemes[self.index..];
        if let Some(secret) = rest.iter().find(|lexeme| lexeme.secret) {
            return Err(Diagnostic::error(Code::NOT_YET, "a value from the environment or a file cannot stand in a query")
                .label(secret.span, "would be shown in plans and errors")
                .help("pass it with --var NAME=value and write ${NAME}"));
        }
        let dialect = FlinkDialect::for_tokens(rest.len());
        let mut parser = Parser::new(&dialect)
            .with_recursion_limit(SQLPARSER_DEPTH)
            .with_tokens_with_locations(rest.iter().map(to_sqlparser).collect());
        match parse(&mut parser) {
            Ok(value) => Ok((value, self.index + parser.index().min(rest.len()))),
            Err(error) => {
                Err(dialect.finding_of(&error).unwrap_or_else(|| syntax::finding(&error, &self.lexemes[self.index..], self)))
            }
        }
    }

    /// The text of some tokens as written, or with the values of variables where there are any.
    pub fn sql_between(&self, range: Range<usize>) -> String {
        let lexemes = &self.lexemes[range];
        match (lexemes.first(), lexemes.last()) {
            (Some(first), Some(last)) if !lexemes.iter().any(|lexeme| lexeme.bound) => {
                self.text[first.bytes.start..last.bytes.end].to_string()
            }
            _ => lexemes.iter().map(|lexeme| syntax::sql_of(&lexeme.token)).collect::<Vec<_>>().join(" "),
        }
    }

    /// The text of some tokens as written, variables not replaced.
    pub fn written_between(&self, range: Range<usize>) -> String {
        match (self.lexemes[range.clone()].first(), self.lexemes[range].last()) {
            (Some(first), Some(last)) => self.text[first.bytes.start..last.bytes.end].to_string(),
            _ => String::new(),
        }
    }
}

/// An expression that is the whole of `lexemes`.
pub(crate) fn whole_expression(lexemes: &[Lexeme], text: &str) -> Result<Expr, Diagnostic> {
    let cursor = Cursor::new(lexemes, text);
    let (expr, used) = cursor.sqlparser(|parser| parser.parse_expr())?;
    Cursor { index: used, ..cursor }.expect_end()?;
    Ok(expr)
}

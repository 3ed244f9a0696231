//! Flink's dialect for sqlparser: the hooks by which queries and expressions become sqlparser's AST.
//!
//! What the AST looks like where Flink's SQL has no node of its own:
//!
//! | SQL | AST |
//! |---|---|
//! | `TABLE t PARTITION BY (k, j)` as an argument | function `TABLE` with the arguments `t` (identifier or compound identifier), `k`, `j` |
//! | `TABLE (SELECT …)` and `(SELECT …) PARTITION BY k` as an argument | function `TABLE` with a subquery as its first argument |
//! | `CAST(x AS type)` | a cast to the custom type whose name is the canonical text of our type; see [`crate::types::from_ast`] |
//! | `MAP['k', v]` | function `MAP` with the arguments `'k'`, `v` |
//! | `ROW(a, b)`, `DESCRIPTOR(ts)` | functions of those names |
//! | `x > ANY (1, 2)` | ANY of a tuple |
//! | `GROUPING SETS (…)` within GROUPING SETS | a function of that name, as sqlparser does with ROLLUP and CUBE there |

use std::cell::{Cell, RefCell};

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName,
};
use datafusion::sql::sqlparser::dialect::{Dialect, Precedence};
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_IDENTIFIER};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use thalweg_core::{Code, Diagnostic};

use crate::parser::lexer::{Lexeme, span_between};
use crate::types;

/// The dialect of one parse. It carries what the hooks found, because sqlparser's errors are text only.
#[derive(Debug)]
pub struct FlinkDialect {
    findings: RefCell<Vec<Diagnostic>>,
    /// How many more expressions may be begun: some constructs make sqlparser try twice at each level, and without a bound
    /// a few hundred bytes of them would take for ever.
    prefixes_left: Cell<u64>,
}

/// What the message of a [`ParserError`] begins with when it stands for the finding of that number.
const FINDING_MARK: &str = "thalweg finding ";

impl Default for FlinkDialect {
    fn default() -> Self {
        FlinkDialect::for_tokens(0)
    }
}

impl FlinkDialect {
    /// A dialect for a statement of `tokens` tokens.
    pub fn for_tokens(tokens: usize) -> Self {
        FlinkDialect { findings: RefCell::new(vec![]), prefixes_left: Cell::new(50_000 + 50 * tokens as u64) }
    }

    /// The finding that `error` stands for, if it came from one of the hooks.
    pub fn finding_of(&self, error: &ParserError) -> Option<Diagnostic> {
        let ParserError::ParserError(message) = error else {
            return None;
        };
        let number: usize = message.strip_prefix(FINDING_MARK)?.parse().ok()?;
        self.findings.borrow().get(number).cloned()
    }

    fn fail<T>(&self, finding: Diagnostic) -> Result<T, ParserError> {
        let mut findings = self.findings.borrow_mut();
        findings.push(finding);
        Err(ParserError::ParserError(format!("{FINDING_MARK}{}", findings.len() - 1)))
    }

    fn table_argument(&self, parser: &mut Parser) -> Result<Expr, ParserError> {
        let table = parser.next_token();
        let input = if parser.consume_token(&Token::LParen) {
            let query = parser.parse_query()?;
            parser.expect_token(&Token::RParen)?;
            Expr::Subquery(query)
        } else {
            let mut parts = parser.parse_object_name(false)?.0.into_iter().filter_map(|part| part.as_ident().cloned());
            match (parts.next(), parts.collect::<Vec<_>>()) {
                (Some(name), rest) if rest.is_empty() => Expr::Identifier(name),
                (Some(name), rest) => Expr::CompoundIdentifier([vec![name], rest].concat()),
                (None, _) => return parser.expected_ref("the name of a table", parser.peek_token_ref()),
            }
        };
        self.partitioned(parser, &table, input)
    }

    /// The call `TABLE` of a relation and the keys that follow it.
    fn partitioned(&self, parser: &mut Parser, place: &TokenWithSpan, input: Expr) -> Result<Expr, ParserError> {
        let mut arguments = vec![input];
        if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
            if parser.consume_token(&Token::LParen) {
                arguments.extend(parser.parse_comma_separated(Parser::parse_expr)?);
                parser.expect_token(&Token::RParen)?;
            } else {
                arguments.push(parser.parse_expr()?);
            }
        }
        if parser.peek_keyword(Keyword::ORDER) {
            let order = parser.peek_token();
            return self.fail(
                Diagnostic::error(Code::NOT_YET, "ORDER BY of a table argument does not run yet")
                    .label(span_between(order.span.start, order.span.end), "order"),
            );
        }
        Ok(call("TABLE", place, arguments))
    }

    fn cast(&self, parser: &mut Parser, kind: CastKind) -> Result<Expr, ParserError> {
        parser.next_token();
        parser.expect_token(&Token::LParen)?;
        let expr = parser.parse_expr()?;
        parser.expect_keyword(Keyword::AS)?;
        let lexemes = tokens_to_closing(parser);
        if lexemes.is_empty() {
            return parser.expected_ref("a data type", parser.peek_token_ref());
        }
        let sql_type = match types::parse_lexemes(&lexemes) {
            Ok(sql_type) => sql_type,
            Err(finding) => return self.fail(finding),
        };
        parser.expect_token(&Token::RParen)?;
        let data_type = DataType::Custom(ObjectName::from(vec![Ident::new(sql_type.text)]), vec![]);
        Ok(Expr::Cast { kind, expr: Box::new(expr), data_type, array: false, format: None })
    }

    fn map_literal(&self, parser: &mut Parser) -> Result<Expr, ParserError> {
        let map = parser.next_token();
        parser.expect_token(&Token::LBracket)?;
        let arguments = if parser.peek_token_ref().token == Token::RBracket {
            vec![]
        } else {
            parser.parse_comma_separated(Parser::parse_expr)?
        };
        parser.expect_token(&Token::RBracket)?;
        Ok(call("MAP", &map, arguments))
    }
}

impl Dialect for FlinkDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        matches!(keyword, Keyword::CASE | Keyword::CAST | Keyword::TRY_CAST | Keyword::NOT)
            || RESERVED_FOR_IDENTIFIER.contains(&keyword)
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    /// `PARTITION BY` behind a query that is an argument.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        let tokens = [0, 1].map(|at| parser.peek_nth_token_ref(at));
        let is_keyword = |token: &TokenWithSpan, wanted| matches!(&token.token, Token::Word(word) if word.keyword == wanted);
        let is_partition_by = is_keyword(tokens[0], Keyword::PARTITION) && is_keyword(tokens[1], Keyword::BY);
        is_partition_by.then(|| Ok(self.prec_value(Precedence::Period)))
    }

    /// `IS [NOT] DISTINCT FROM` binds like `=`; by itself sqlparser takes all that follows for its right side, `AND` included.
    /// `(SELECT …) PARTITION BY k` is `TABLE (SELECT …) PARTITION BY k`. sqlparser reads neither `> ANY (1, 2)` nor
    /// `> ANY (VALUES 1, 2)`.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        if let Expr::Subquery(_) = expr
            && parser.peek_keyword(Keyword::PARTITION)
        {
            let place = parser.peek_token();
            return Some(self.partitioned(parser, &place, expr.clone()));
        }
        if let Some(op) = quantified_by_list(parser) {
            return Some(quantified(parser, expr, op));
        }
        let is_distinct = parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]);
        if !is_distinct && !parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]) {
            return None;
        }
        let left = Box::new(expr.clone());
        let right = parser.parse_subexpr(self.prec_value(Precedence::Eq)).map(Box::new);
        Some(right.map(|right| match is_distinct {
            true => Expr::IsDistinctFrom(left, right),
            false => Expr::IsNotDistinctFrom(left, right),
        }))
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        match self.prefixes_left.get().checked_sub(1) {
            Some(left) => self.prefixes_left.set(left),
            None => return Some(Err(ParserError::RecursionLimitExceeded)),
        }
        let Token::Word(word) = &parser.peek_token_ref().token else {
            return None;
        };
        if word.quote_style.is_some() {
            return None;
        }
        let next = &parser.peek_nth_token_ref(1).token;
        match word.keyword {
            Keyword::TABLE if matches!(next, Token::Word(_) | Token::LParen) => Some(self.table_argument(parser)),
            Keyword::CAST if *next == Token::LParen => Some(self.cast(parser, CastKind::Cast)),
            Keyword::TRY_CAST if *next == Token::LParen => Some(self.cast(parser, CastKind::TryCast)),
            Keyword::MAP if *next == Token::LBracket => Some(self.map_literal(parser)),
            Keyword::GROUPING if matches!(next, Token::Word(word) if word.keyword == Keyword::SETS) => Some(nested_sets(parser)),
            _ => None,
        }
    }
}

/// The operator of a comparison by ANY, SOME or ALL that comes next, if values or VALUES follow in place of a query.
fn quantified_by_list(parser: &Parser) -> Option<BinaryOperator> {
    let op = match &parser.peek_token_ref().token {
        Token::Eq => BinaryOperator::Eq,
        Token::Neq => BinaryOperator::NotEq,
        Token::Lt => BinaryOperator::Lt,
        Token::LtEq => BinaryOperator::LtEq,
        Token::Gt => BinaryOperator::Gt,
        Token::GtEq => BinaryOperator::GtEq,
        _ => return None,
    };
    let keyword = |at: usize| match &parser.peek_nth_token_ref(at).token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    };
    let is_quantifier = matches!(keyword(1), Some(Keyword::ANY | Keyword::SOME | Keyword::ALL));
    let is_query = matches!(keyword(3), Some(Keyword::SELECT | Keyword::WITH | Keyword::ARRAY));
    let is_list = is_quantifier && parser.peek_nth_token_ref(2).token == Token::LParen && !is_query;
    (is_list && parser.peek_nth_token_ref(3).token != Token::LParen).then_some(op)
}

/// What [`quantified_by_list`] has seen.
fn quantified(parser: &mut Parser, left: &Expr, compare_op: BinaryOperator) -> Result<Expr, ParserError> {
    parser.next_token();
    let quantifier = parser.parse_one_of_keywords(&[Keyword::ANY, Keyword::SOME, Keyword::ALL]);
    parser.expect_token(&Token::LParen)?;
    let is_values = parser.parse_keyword(Keyword::VALUES);
    let mut values = parser.parse_comma_separated(Parser::parse_expr)?;
    if is_values {
        values = values.into_iter().map(|value| if let Expr::Nested(inner) = value { *inner } else { value }).collect();
    }
    let right = Expr::Tuple(values);
    parser.expect_token(&Token::RParen)?;
    let (left, right) = (Box::new(left.clone()), Box::new(right));
    Ok(match quantifier {
        Some(Keyword::ALL) => Expr::AllOp { left, compare_op, right },
        other => Expr::AnyOp { left, compare_op, right, is_some: other == Some(Keyword::SOME) },
    })
}

/// The name of the function that stands for GROUPING SETS within GROUPING SETS.
pub(crate) const NESTED_SETS: &str = "GROUPING SETS";

/// GROUPING SETS where an expression stands: each set is an expression or a tuple.
fn nested_sets(parser: &mut Parser) -> Result<Expr, ParserError> {
    let place = parser.next_token();
    parser.next_token();
    parser.expect_token(&Token::LParen)?;
    let set = |parser: &mut Parser| match parser.consume_tokens(&[Token::LParen, Token::RParen]) {
        true => Ok(Expr::Tuple(vec![])),
        false => parser.parse_expr(),
    };
    let sets = parser.parse_comma_separated(set)?;
    parser.expect_token(&Token::RParen)?;
    Ok(call(NESTED_SETS, &place, sets))
}

/// A plain call of the function `name`, placed where `token` stands.
fn call(name: &str, token: &TokenWithSpan, arguments: Vec<Expr>) -> Expr {
    let ident = Ident::with_span(token.span, name);
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![ident]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// Takes the tokens up to, and without, the parenthesis that closes the current level.
fn tokens_to_closing(parser: &mut Parser) -> Vec<Lexeme> {
    let mut lexemes = vec![];
    let mut open = 0_usize;
    loop {
        let next = parser.peek_token_ref();
        match next.token {
            Token::EOF | Token::SemiColon => break,
            Token::LParen => open += 1,
            Token::RParen if open == 0 => break,
            Token::RParen => open -= 1,
            _ => {}
        }
        let TokenWithSpan { token, span } = parser.next_token();
        lexemes.push(Lexeme {
            token,
            span: span_between(span.start, span.end),
            bytes: 0..0,
            secret: false,
            bound: false,
            hint: None,
        });
    }
    lexemes
}

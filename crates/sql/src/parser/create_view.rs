//! CREATE VIEW.

use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_core::{Code, Diagnostic};

use super::cursor::Cursor;
use super::statement::is_query;
use crate::statement::{CreateView, Statement};

/// `CREATE [OR REPLACE] [TEMPORARY] VIEW [IF NOT EXISTS] v [(a, b)] [COMMENT 'c'] AS query`
pub(super) fn parse(cursor: &mut Cursor) -> Result<Statement, Diagnostic> {
    cursor.expect_words(&["CREATE"])?;
    let replace = cursor.accept_words(&["OR", "REPLACE"]);
    if cursor.is_word("OR") {
        return Err(Diagnostic::error(Code::NOT_IN_FLINK, "CREATE OR ALTER VIEW is not Flink's SQL")
            .label(cursor.span(), "here")
            .help("write CREATE OR REPLACE VIEW"));
    }
    let temporary = cursor.accept_word("TEMPORARY");
    cursor.expect_words(&["VIEW"])?;
    let if_not_exists = cursor.accept_words(&["IF", "NOT", "EXISTS"]);
    let name = cursor.table_name("the name of a view")?;
    let columns = if cursor.is_token_at(0, &Token::LParen) { cursor.name_list("the name of a column")? } else { vec![] };
    let comment = match cursor.accept_word("COMMENT") {
        true => Some(cursor.literal("the comment in single quotes")?.value),
        false => None,
    };
    cursor.expect_words(&["AS"])?;
    if !is_query(cursor) {
        return Err(cursor.expected("a query (SELECT or VALUES)"));
    }
    let start = cursor.index;
    let query = cursor.query()?;
    Ok(Statement::CreateView(Box::new(CreateView {
        name,
        columns,
        query,
        query_text: cursor.written_between(start..cursor.index),
        query_span: cursor.span_from(start),
        comment,
        temporary,
        if_not_exists,
        replace,
    })))
}

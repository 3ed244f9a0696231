//! CREATE TABLE.

use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_core::{Code, Diagnostic, Options};

use super::cursor::Cursor;
use super::statement::is_query;
use crate::statement::{
    ColumnDeclaration, ColumnDeclarationKind, CreateTable, LikeClause, LikeFeature, LikeMerge, LikeOption, PrimaryKeyDeclaration,
    Statement, WatermarkDeclaration,
};

/// `CREATE [TEMPORARY] TABLE [IF NOT EXISTS] t [(…)] [COMMENT] [PARTITIONED BY] [WITH] [LIKE t (…) | AS query]`
pub(super) fn parse(cursor: &mut Cursor) -> Result<Statement, Diagnostic> {
    let mut table = parse_head(cursor)?;
    if cursor.is_token_at(0, &Token::LParen) {
        parse_body(cursor, &mut table)?;
    }
    parse_clauses(cursor, &mut table)?;
    if cursor.accept_word("LIKE") {
        table.like = Some(parse_like(cursor)?);
        return Ok(Statement::CreateTable(Box::new(table)));
    }
    if cursor.accept_word("AS") {
        if !is_query(cursor) {
            return Err(cursor.expected("a query (SELECT or VALUES)"));
        }
        let start = cursor.index;
        let query = cursor.query()?;
        return Ok(Statement::CreateTableAs { table: Box::new(table), query, query_span: cursor.span_from(start) });
    }
    if !cursor.is_end() {
        let finding = cursor.expected("COMMENT, PARTITIONED BY, WITH, LIKE, AS or the end of the statement");
        return Err(finding.help("statements end with a semicolon; the clauses of CREATE TABLE have this order"));
    }
    Ok(Statement::CreateTable(Box::new(table)))
}

fn parse_head(cursor: &mut Cursor) -> Result<CreateTable, Diagnostic> {
    cursor.expect_words(&["CREATE"])?;
    let temporary = cursor.accept_word("TEMPORARY");
    cursor.expect_words(&["TABLE"])?;
    let if_not_exists = cursor.accept_words(&["IF", "NOT", "EXISTS"]);
    Ok(CreateTable {
        name: cursor.table_name("the name of a table")?,
        temporary,
        if_not_exists,
        columns: vec![],
        watermarks: vec![],
        primary_keys: vec![],
        partitioned_by: vec![],
        comment: None,
        options: Options::new(),
        like: None,
    })
}

fn parse_body(cursor: &mut Cursor, table: &mut CreateTable) -> Result<(), Diagnostic> {
    cursor.expect(&Token::LParen)?;
    loop {
        if cursor.is_word("WATERMARK") && cursor.is_word_at(1, "FOR") {
            table.watermarks.push(parse_watermark(cursor)?);
        } else if cursor.is_word("CONSTRAINT") || (cursor.is_word("PRIMARY") && cursor.is_word_at(1, "KEY")) {
            table.primary_keys.push(parse_primary_key(cursor)?);
        } else if cursor.is_word("UNIQUE") && cursor.is_token_at(1, &Token::LParen) {
            return Err(unique_not_in_flink(cursor));
        } else {
            parse_column(cursor, table)?;
        }
        if !cursor.accept(&Token::Comma) {
            break;
        }
        if cursor.is_token_at(0, &Token::RParen) {
            return Err(cursor.expected("another column").help("remove the comma before this parenthesis"));
        }
    }
    if cursor.accept(&Token::RParen) {
        return Ok(());
    }
    let finding = cursor.expected("\",\" or \")\"");
    let starts_next = cursor.peek().is_some_and(|lexeme| matches!(lexeme.token, Token::Word(_)));
    Err(if starts_next { finding.help("is a comma missing before this?") } else { finding })
}

fn unique_not_in_flink(cursor: &Cursor) -> Diagnostic {
    Diagnostic::error(Code::NOT_IN_FLINK, "Flink has no UNIQUE constraints")
        .label(cursor.span(), "constraint")
        .help("use PRIMARY KEY (…) NOT ENFORCED")
}

/// `WATERMARK FOR column AS expression`
fn parse_watermark(cursor: &mut Cursor) -> Result<WatermarkDeclaration, Diagnostic> {
    let start = cursor.index;
    cursor.expect_words(&["WATERMARK", "FOR"])?;
    let column = cursor.identifier("the name of a time column")?;
    if cursor.is_token_at(0, &Token::Period) {
        return Err(Diagnostic::error(Code::BAD_WATERMARK, "the time column of a watermark is a field of a row")
            .label(column.span, "not a top-level column")
            .help(format!("declare a computed column over it, such as ts AS {}.…, and use that", column.value)));
    }
    cursor.expect_words(&["AS"])?;
    let expression = cursor.expression()?;
    Ok(WatermarkDeclaration { column, expression, span: cursor.span_from(start) })
}

/// `[CONSTRAINT name] PRIMARY KEY (a, b) NOT ENFORCED`
fn parse_primary_key(cursor: &mut Cursor) -> Result<PrimaryKeyDeclaration, Diagnostic> {
    let start = cursor.index;
    if cursor.accept_word("CONSTRAINT") {
        cursor.identifier("the name of the constraint")?;
        if cursor.is_word("UNIQUE") {
            return Err(unique_not_in_flink(cursor));
        }
    }
    cursor.expect_words(&["PRIMARY", "KEY"])?;
    let columns = cursor.name_list("the name of a column")?;
    expect_not_enforced(cursor, start)?;
    Ok(PrimaryKeyDeclaration { columns, span: cursor.span_from(start) })
}

fn expect_not_enforced(cursor: &mut Cursor, start: usize) -> Result<(), Diagnostic> {
    if cursor.accept_words(&["NOT", "ENFORCED"]) {
        return Ok(());
    }
    Err(Diagnostic::error(Code::NOT_IN_FLINK, "a primary key cannot be enforced: the table does not own its data")
        .label(cursor.span_from(start), "primary key")
        .help("write PRIMARY KEY (…) NOT ENFORCED"))
}

/// `name AS expression`, `name TYPE [METADATA [FROM 'key'] [VIRTUAL]] [PRIMARY KEY NOT ENFORCED]`, each with `[COMMENT 'c']`.
fn parse_column(cursor: &mut Cursor, table: &mut CreateTable) -> Result<(), Diagnostic> {
    let start = cursor.index;
    let name = cursor.identifier("the name of a column")?;
    let kind = if cursor.accept_word("AS") {
        ColumnDeclarationKind::Computed(cursor.expression()?)
    } else if cursor.is_word("METADATA") || cursor.is_token_at(0, &Token::Comma) || cursor.is_token_at(0, &Token::RParen) {
        return Err(cursor.expected(&format!("the data type of column \"{}\"", name.value)));
    } else {
        let sql_type = cursor.data_type()?;
        if cursor.accept_word("METADATA") {
            let key = match cursor.accept_word("FROM") {
                true => Some(cursor.literal("the metadata key in single quotes")?),
                false => None,
            };
            ColumnDeclarationKind::Metadata { sql_type, key, is_virtual: cursor.accept_word("VIRTUAL") }
        } else {
            ColumnDeclarationKind::Physical { sql_type }
        }
    };
    let mut comment = None;
    loop {
        if cursor.accept_word("COMMENT") {
            comment = Some(cursor.literal("the comment in single quotes")?.value);
        } else if cursor.is_word("PRIMARY") || cursor.is_word("CONSTRAINT") {
            let key_start = cursor.index;
            if cursor.accept_word("CONSTRAINT") {
                cursor.identifier("the name of the constraint")?;
            }
            cursor.expect_words(&["PRIMARY", "KEY"])?;
            expect_not_enforced(cursor, key_start)?;
            let span = cursor.span_from(key_start);
            table.primary_keys.push(PrimaryKeyDeclaration { columns: vec![name.clone()], span });
        } else if cursor.is_word("UNIQUE") {
            return Err(unique_not_in_flink(cursor));
        } else if cursor.is_word("DEFAULT") || cursor.is_word("CHECK") || cursor.is_word("REFERENCES") {
            return Err(Diagnostic::error(Code::NOT_IN_FLINK, "columns of a stream have no defaults, checks or references")
                .label(cursor.span_from(start), "column")
                .help("compute the value in the query, for example with COALESCE"));
        } else {
            break;
        }
    }
    table.columns.push(ColumnDeclaration { name, kind, comment });
    Ok(())
}

fn parse_clauses(cursor: &mut Cursor, table: &mut CreateTable) -> Result<(), Diagnostic> {
    if cursor.accept_word("COMMENT") {
        table.comment = Some(cursor.literal("the comment in single quotes")?.value);
    }
    if cursor.is_word("DISTRIBUTED") {
        return Err(Diagnostic::error(Code::NOT_YET, "DISTRIBUTED BY does not run yet").label(cursor.span(), "not yet"));
    }
    if cursor.accept_words(&["PARTITIONED", "BY"]) {
        table.partitioned_by = cursor.name_list("the name of a column")?;
    }
    if cursor.accept_word("WITH") {
        table.options = cursor.options()?;
    }
    Ok(())
}

/// `t [(INCLUDING ALL, …)]`; the list may be written with or without commas.
fn parse_like(cursor: &mut Cursor) -> Result<LikeClause, Diagnostic> {
    let table = cursor.table_name("the name of a table")?;
    let mut options = vec![];
    if cursor.accept(&Token::LParen) {
        while !cursor.accept(&Token::RParen) {
            options.push(parse_like_option(cursor)?);
            cursor.accept(&Token::Comma);
        }
    }
    Ok(LikeClause { table, options })
}

fn parse_like_option(cursor: &mut Cursor) -> Result<LikeOption, Diagnostic> {
    const FEATURES: &[(&str, LikeFeature)] = &[
        ("ALL", LikeFeature::All),
        ("CONSTRAINTS", LikeFeature::Constraints),
        ("DISTRIBUTION", LikeFeature::Distribution),
        ("GENERATED", LikeFeature::Generated),
        ("METADATA", LikeFeature::Metadata),
        ("OPTIONS", LikeFeature::Options),
        ("PARTITIONS", LikeFeature::Partitions),
        ("WATERMARKS", LikeFeature::Watermarks),
    ];
    let start = cursor.index;
    let merge = if cursor.accept_word("INCLUDING") {
        LikeMerge::Including
    } else if cursor.accept_word("EXCLUDING") {
        LikeMerge::Excluding
    } else if cursor.accept_word("OVERWRITING") {
        LikeMerge::Overwriting
    } else {
        return Err(cursor.expected("INCLUDING, EXCLUDING or OVERWRITING"));
    };
    let Some((_, feature)) = FEATURES.iter().find(|(word, _)| cursor.is_word(word)) else {
        let words: Vec<&str> = FEATURES.iter().map(|(word, _)| *word).collect();
        return Err(cursor.expected(&format!("one of {}", words.join(", "))));
    };
    let span = cursor.span();
    cursor.next();
    let allowed = match merge {
        LikeMerge::Overwriting => {
            matches!(feature, LikeFeature::Generated | LikeFeature::Metadata | LikeFeature::Options | LikeFeature::Watermarks)
        }
        LikeMerge::Including | LikeMerge::Excluding => true,
    };
    if !allowed {
        return Err(Diagnostic::error(Code::SYNTAX, "this part of a table cannot be overwritten")
            .label(span, "OVERWRITING does not go with it")
            .help("OVERWRITING takes GENERATED, METADATA, OPTIONS or WATERMARKS; exclude other parts with EXCLUDING"));
    }
    Ok(LikeOption { merge, feature: *feature, span: cursor.span_from(start) })
}

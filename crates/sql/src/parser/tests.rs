//! What statements are read as, and what is said about those that cannot be.

use datafusion::sql::sqlparser::ast;
use proptest::prelude::*;

use super::*;
use crate::statement::{ColumnDeclarationKind, ExplainDetail, Statement};
use crate::variables::NoVariables;

fn parse(text: &str) -> Result<Vec<Parsed>, Vec<Diagnostic>> {
    parse_script(&SourceText::new("a.sql", text), &NoVariables)
}

fn statements(text: &str) -> Vec<Parsed> {
    parse(text).unwrap_or_else(|findings| panic!("{}", findings.iter().map(Diagnostic::render).collect::<String>()))
}

fn one(text: &str) -> Statement {
    let mut all = statements(text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).statement
}

/// The findings of a text, each on a line: `line:column: …`.
fn findings(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => vec![],
        Err(findings) => findings.iter().map(|finding| finding.one_line().replace("a.sql:", "")).collect(),
    }
}

fn check_findings(text: &str, expected: &[&str]) {
    assert_eq!(findings(text), expected, "{text}");
}

fn query_text(text: &str) -> String {
    match one(text) {
        Statement::Query(query) => query.to_string(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn statements_keep_text_and_place() {
    let parsed = statements("-- first\nSHOW TABLES;\n\n  SELECT 1 /* ; */ AS `a;b` ; ;");
    let texts: Vec<(&str, u64, u64)> =
        parsed.iter().map(|parsed| (parsed.text.as_str(), parsed.span.start.line, parsed.span.start.column)).collect();
    assert_eq!(texts, [("SHOW TABLES", 2, 1), ("SELECT 1 /* ; */ AS `a;b`", 4, 3)]);
}

#[test]
fn create_table_in_full() {
    let text = "CREATE TEMPORARY TABLE IF NOT EXISTS `bid s` (
        id BIGINT NOT NULL COMMENT 'the id',
        bid ROW<price DECIMAL(8, 2), at TIMESTAMP(3)>,
        at_ltz TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
        `offset` BIGINT METADATA,
        ts AS CAST(bid.at AS TIMESTAMP(3)) COMMENT 'event time',
        total AS COALESCE(bid.price, 0) * 2,
        WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
        CONSTRAINT pk PRIMARY KEY (id) NOT ENFORCED
      ) COMMENT 'bids; all of them'
      PARTITIONED BY (id)
      WITH ('connector' = 'kafka', 'topic' = 'it''s')";
    let Statement::CreateTable(table) = one(text) else { panic!() };
    assert!(table.temporary && table.if_not_exists);
    assert_eq!(table.name.value, "bid s");
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.value.as_str()).collect();
    assert_eq!(names, ["id", "bid", "at_ltz", "offset", "ts", "total"]);
    let ColumnDeclarationKind::Computed(ts) = &table.columns[4].kind else { panic!() };
    assert_eq!(ts.sql, "CAST(bid.at AS TIMESTAMP(3))");
    assert_eq!((ts.span.start.line, ts.span.start.column), (6, 15));
    assert_eq!(table.columns[4].comment.as_deref(), Some("event time"));
    let ColumnDeclarationKind::Metadata { key, is_virtual, .. } = &table.columns[2].kind else { panic!() };
    assert_eq!((key.as_ref().map(|key| key.value.as_str()), *is_virtual), (Some("timestamp"), true));
    assert_eq!(table.watermarks[0].expression.sql, "ts - INTERVAL '5' SECOND");
    assert_eq!(table.primary_keys[0].columns[0].value, "id");
    assert_eq!(table.partitioned_by[0].value, "id");
    assert_eq!(table.options.get("topic"), Some("it's"));
    assert_eq!(table.options.key_span("topic").map(|span| span.start.column), Some(36));
    assert_eq!(table.comment.as_deref(), Some("bids; all of them"));
}

#[test]
fn create_table_like_and_as() {
    let Statement::CreateTable(table) =
        one("CREATE TABLE b (x STRING) WITH ('path' = 'p') LIKE a (EXCLUDING ALL, INCLUDING GENERATED)")
    else {
        panic!()
    };
    assert_eq!(table.like.map(|like| (like.table.value, like.options.len())), Some(("a".to_string(), 2)));
    assert!(matches!(one("CREATE TABLE b WITH ('connector' = 'print') AS SELECT 1 AS x"), Statement::CreateTableAs { .. }));
}

#[test]
fn short_statements() {
    assert!(
        matches!(one("SET 'table.dml-sync' = 'true'"), Statement::Set { key, value } if key.value == "table.dml-sync" && value.value == "true")
    );
    assert!(matches!(one("SET execution.checkpointing.interval = 10 s"), Statement::Set { key, value }
        if key.value == "execution.checkpointing.interval" && value.value == "10 s"));
    assert!(matches!(one("set;"), Statement::SetAll));
    assert!(matches!(one("RESET"), Statement::Reset(None)));
    assert!(matches!(one("RESET 'pipeline.name'"), Statement::Reset(Some(_))));
    assert!(
        matches!(one("SHOW CREATE TABLE default_catalog.default_database.t"), Statement::ShowCreateTable(name) if name.value == "t")
    );
    assert!(matches!(one("desc t"), Statement::Describe(_)));
    assert!(matches!(one("DROP TEMPORARY VIEW IF EXISTS v"), Statement::DropView(drop) if drop.if_exists && drop.temporary));
    assert!(matches!(one("EXPLAIN PLAN FOR SELECT 1"), Statement::Explain { details, .. } if details.is_empty()));
    assert!(
        matches!(one("EXPLAIN ESTIMATED_COST, CHANGELOG_MODE INSERT INTO t SELECT 1"), Statement::Explain { details, statement }
        if details == [ExplainDetail::EstimatedCost, ExplainDetail::ChangelogMode] && matches!(statement.statement, Statement::Insert(_)))
    );
    assert!(matches!(one("CREATE OR REPLACE VIEW v (a, b) COMMENT 'c' AS SELECT 1, 2"), Statement::CreateView(view)
        if view.replace && view.columns.len() == 2 && view.query_text == "SELECT 1, 2"));
}

#[test]
fn inserts_and_statement_sets() {
    let Statement::Insert(insert) = one("INSERT INTO t (a, `b c`) SELECT 1, 2") else { panic!() };
    assert_eq!(
        insert.columns.map(|columns| columns.into_iter().map(|(name, _)| name).collect::<Vec<_>>()),
        Some(vec!["a".into(), "b c".into()])
    );
    assert!(matches!(one("INSERT INTO t (SELECT 1)"), Statement::Insert(insert) if insert.columns.is_none()));
    assert!(matches!(one("INSERT INTO t VALUES (1, 'a'), (2, 'b')"), Statement::Insert(_)));
    let set = "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT CASE WHEN x THEN 1 END FROM t; INSERT INTO b SELECT 2; END; SHOW TABLES";
    let parsed = statements(set);
    assert!(matches!(&parsed[0].statement, Statement::StatementSet(inserts)
        if inserts.len() == 2 && inserts[0].text == "INSERT INTO a SELECT CASE WHEN x THEN 1 END FROM t"));
    assert!(matches!(&parsed[1].statement, Statement::ShowTables));
    assert!(
        matches!(one("BEGIN STATEMENT SET; INSERT INTO a SELECT 1; END;"), Statement::StatementSet(inserts) if inserts.len() == 1)
    );
    assert!(matches!(one("EXPLAIN STATEMENT SET BEGIN INSERT INTO a SELECT 1; END;"), Statement::Explain { .. }));
    assert!(matches!(one("EXECUTE INSERT INTO a SELECT 1"), Statement::Insert(_)));
}

#[test]
fn windows_and_table_arguments() {
    let text = "SELECT * FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '1' SECOND))";
    assert_eq!(
        query_text(text),
        "SELECT * FROM TABLE(TUMBLE(TABLE(bids), DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '1' SECOND))"
    );
    assert_eq!(
        query_text(
            "SELECT * FROM HOP(DATA => TABLE a.b, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '1' MINUTE, SIZE => INTERVAL '5' MINUTE)"
        ),
        "SELECT * FROM HOP(DATA => TABLE(a.b), TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '1' MINUTE, SIZE => INTERVAL '5' MINUTE)"
    );
    assert_eq!(
        query_text("SELECT * FROM TABLE(SESSION(TABLE t PARTITION BY (k, j), DESCRIPTOR(ts), INTERVAL '5' SECOND))"),
        "SELECT * FROM TABLE(SESSION(TABLE(t, k, j), DESCRIPTOR(ts), INTERVAL '5' SECOND))"
    );
    assert_eq!(
        query_text("SELECT * FROM TABLE(TUMBLE(TABLE (SELECT * FROM t), DESCRIPTOR(ts), INTERVAL '5' SECOND)) AS w"),
        "SELECT * FROM TABLE(TUMBLE(TABLE((SELECT * FROM t)), DESCRIPTOR(ts), INTERVAL '5' SECOND)) AS w"
    );
    assert!(query_text("SELECT * FROM o JOIN r FOR SYSTEM_TIME AS OF o.ts AS x ON o.k = x.k").contains("SYSTEM_TIME"));
}

#[test]
fn casts_carry_canonical_types() {
    let Statement::Query(query) =
        one("SELECT TRY_CAST(a AS ROW<x INT, y ARRAY<ARRAY<STRING>>>), CAST(b AS TIMESTAMP(3) WITH LOCAL TIME ZONE)")
    else {
        panic!()
    };
    let ast::SetExpr::Select(select) = *query.body else { panic!() };
    let texts: Vec<String> = select
        .projection
        .iter()
        .map(|item| match item {
            ast::SelectItem::UnnamedExpr(ast::Expr::Cast { data_type, .. }) => {
                crate::types::from_ast(data_type).map(|found| found.text).unwrap_or_default()
            }
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(texts, ["ROW<`x` INT, `y` ARRAY<ARRAY<STRING>>>", "TIMESTAMP_LTZ(3)"]);
}

#[test]
fn other_expressions() {
    for text in [
        "SELECT MAP['a', 1, 'b', 2], ARRAY[1, 2][1], ROW(1, 'x'), (1, 2), DATE '2026-01-01', TIMESTAMP '2026-01-01 00:00:00'",
        "SELECT bid.price, `a``b`, COUNT(*) FILTER (WHERE x > 1), U&'\\00e4' FROM t",
        "SELECT FLOOR(ts TO DAY), TIMESTAMPADD(DAY, 1, ts), EXTRACT(HOUR FROM ts), CURRENT_TIMESTAMP, x IS NOT TRUE",
        "WITH a AS (SELECT 1 AS x) SELECT * FROM a UNION ALL (SELECT 2)",
        "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS t (id, name)",
        "SELECT a, SUM(b) OVER (PARTITION BY a ORDER BY ts RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) FROM t",
    ] {
        statements(text);
    }
}

#[test]
fn spans_point_into_the_text() {
    let Statement::Query(query) = one("SELECT\n  größe,\n  colour FROM t") else { panic!() };
    let ast::SetExpr::Select(select) = *query.body else { panic!() };
    let ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(ident)) = &select.projection[1] else { panic!() };
    assert_eq!(span_of(ident.span), Some(Span::new(3, 3, 3, 9)));
    let expr = parse_expression_at("ts - x", Some(Place { line: 7, column: 20 })).expect("an expression");
    let ast::Expr::BinaryOp { right, .. } = expr else { panic!() };
    let ast::Expr::Identifier(ident) = *right else { panic!() };
    assert_eq!(span_of(ident.span), Some(Span::new(7, 25, 7, 26)));
}

#[test]
fn every_bad_statement_is_reported() {
    check_findings(
        "SELCT 1;\nSELECT a b c FROM t;\nSHOW TABLES;\nCREATE TABLE t (id INT, method STRING) WITH ('a' 'b');\nSELECT 1 +;",
        &[
            "1:1: error[TW0001]: expected a statement, found \"SELCT\" (did you mean \"SELECT\"?)",
            "2:12: error[TW0001]: expected the end of the statement, found \"c\" (statements end with a semicolon)",
            "4:25: error[TW0001]: expected the name of a column, found the reserved word \"method\" (write it in backticks to use it as a name: `method`)",
            "5:11: error[TW0001]: expected an expression, the statement ends here (complete the statement before its semicolon)",
        ],
    );
}

#[test]
fn likely_slips_get_a_hint() {
    check_findings(
        "SELECT a FORM t",
        &["1:10: error[TW0001]: expected the end of the statement, found \"FORM\" (did you mean FROM?)"],
    );
    check_findings("SELECT a FROM t GROUP a", &["1:23: error[TW0001]: expected BY, found \"a\""]);
    check_findings(
        "SELECT a, FROM t",
        &[
            "1:11: error[TW0001]: expected an expression, found \"FROM\" (check the words before this place; a name that is also a SQL word needs backticks)",
        ],
    );
    check_findings(
        "CREATE TABLE t (a INT,) WITH ('a' = 'b')",
        &["1:23: error[TW0001]: expected another column, found \")\" (remove the comma before this parenthesis)"],
    );
    check_findings(
        "CREATE TABLE t (a INT b INT)",
        &["1:23: error[TW0001]: expected \",\" or \")\", found \"b\" (is a comma missing before this?)"],
    );
    check_findings(
        "CREATE VEIW v AS SELECT 1",
        &["1:8: error[TW0001]: expected TABLE or VIEW, found \"VEIW\" (did you mean \"VIEW\"?)"],
    );
}

#[test]
fn clauses_that_would_be_dropped() {
    check_findings(
        "SELECT TOP 5 a FROM t",
        &["1:8: error[TW0007]: TOP is not Flink's SQL (write LIMIT at the end of the query)"],
    );
    check_findings(
        "SELECT a FROM (SELECT a FROM t FOR UPDATE)",
        &["1:32: error[TW0007]: FOR is not Flink's SQL (leave it out: streams have no locks)"],
    );
    check_findings(
        "SELECT a FROM t TABLESAMPLE (5)",
        &["1:17: error[TW0007]: TABLESAMPLE is not Flink's SQL (filter with RAND() instead)"],
    );
    check_findings(
        "SELECT DISTINCT ON (a) b FROM t",
        &["1:8: error[TW0007]: DISTINCT ON is not Flink's SQL (number the rows with ROW_NUMBER())"],
    );
    check_findings("SELECT a 'b' FROM t", &["1:10: error[TW0001]: a name cannot be in single quotes: 'b' (write `b`)"]);
    check_findings(
        "SELECT INTERVAL '1 day'",
        &["1:8: error[TW0001]: the interval has no unit (write it as INTERVAL '10' SECOND)"],
    );
}

#[test]
fn unfinished_literals() {
    check_findings(
        "SHOW TABLES; SELECT 'abc FROM t",
        &["1:21: error[TW0001]: a string is never closed (add the closing '; a quote inside a string is written twice)"],
    );
    check_findings("SELECT `abc FROM t", &["1:8: error[TW0001]: a name in backticks is never closed (add the closing `)"]);
    check_findings("SELECT 1 /* abc", &["1:10: error[TW0001]: a comment is never closed (add */)"]);
}

#[test]
fn what_flink_refuses_or_we_do_not_run_yet() {
    check_findings(
        "SELECT \"a\" FROM t",
        &["1:8: error[TW0001]: double quotes mean nothing in Flink's SQL (write `a` for a name or 'a' for text)"],
    );
    check_findings(
        "SELECT a::INT FROM t",
        &["1:9: error[TW0007]: the cast operator \"::\" is not Flink's SQL (write CAST(value AS type))"],
    );
    check_findings("SELECT * FROM t /*+ OPTIONS('a'='b') */", &[]);
    check_findings("SELECT /*+ STATE_TTL('t' = '1 d', 'u' = '10 min'), BROADCAST(u) */ * FROM t JOIN u ON t.a = u.a", &[]);
    check_findings(
        "SELECT /*+ STATE_TTL('v' = '1 d') */ * FROM t JOIN u ON t.a = u.a",
        &["1:22: error[TW0101]: there is no \"v\" in FROM (did you mean \"t\"?)"],
    );
    check_findings(
        "SELECT /*+ STATE_TLT('t' = '1 d') */ * FROM t",
        &["1:12: error[TW0001]: unknown hint \"STATE_TLT\" (did you mean \"STATE_TTL\"?)"],
    );
    check_findings(
        "SELECT /*+ STATE_TTL('t' = 'long') */ * FROM t",
        &["1:28: error[TW0107]: 'long' is no duration (use a number with a unit, such as '10 s', '500 ms' or '5 min')"],
    );
    check_findings(
        "SELECT a /*+ OPTIONS('a'='b') */ FROM t",
        &[
            "1:10: error[TW0001]: a hint belongs to nothing here (OPTIONS stands behind the name of a table, every other hint behind SELECT; several are written in one comment)",
        ],
    );
    check_findings(
        "USE CATALOG c; ALTER TABLE t RENAME TO u",
        &["1:1: error[TW0002]: USE does not run yet", "1:16: error[TW0002]: ALTER does not run yet"],
    );
    check_findings("CREATE FUNCTION f AS 'a.b.C'", &["1:1: error[TW0002]: CREATE FUNCTION does not run yet"]);
    check_findings(
        "EXPLAIN JSON_EXECUTION_PLAN SELECT 1",
        &["1:9: error[TW0002]: EXPLAIN JSON_EXECUTION_PLAN does not run yet (EXPLAIN alone prints the plan as text)"],
    );
    check_findings(
        "SELECT JSON_VALUE(a, '$.x' DEFAULT 1 ON EMPTY) FROM t",
        &["1:8: error[TW0002]: JSON_VALUE with clauses does not run yet"],
    );
    check_findings("SELECT a BETWEEN SYMMETRIC 2 AND 1 FROM t", &["1:10: error[TW0002]: BETWEEN SYMMETRIC does not run yet"]);
    check_findings(
        "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY ts MEASURES A.x AS x PATTERN (A B? C) WITHIN INTERVAL '1' HOUR DEFINE A AS x > 1)",
        &["1:17: error[TW0002]: MATCH_RECOGNIZE does not run yet"],
    );
    check_findings(
        "SELECT (a - b) DAY TO SECOND FROM t WHERE x",
        &["1:16: error[TW0002]: an interval between two times does not run yet (write TIMESTAMPDIFF(SECOND, from, to))"],
    );
    check_findings(
        "SELECT JSON_VALUE(a, '$.x') FROM t WHERE a ==> b",
        &["1:46: error[TW0001]: expected an expression, found \">\""],
    );
    check_findings("SELECT a IS JSON FROM t", &["1:10: error[TW0002]: IS JSON does not run yet"]);
    check_findings(
        "CREATE TABLE t (id INT, PRIMARY KEY (id)) WITH ('connector' = 'x')",
        &[
            "1:25: error[TW0007]: a primary key cannot be enforced: the table does not own its data (write PRIMARY KEY (…) NOT ENFORCED)",
        ],
    );
    check_findings(
        "SELECT CAST(a AS TIMESTAMP(12)) FROM t",
        &["1:28: error[TW0108]: the precision of TIMESTAMP cannot be 12 (use a number from 0 to 9)"],
    );
    check_findings(
        "SELECT * FROM c.d.t; DESCRIBE c.d.t",
        &[
            "1:31: error[TW0002]: other catalogs and databases than the default ones do not run yet (write the name of the table alone)",
        ],
    );
}

struct TestVariables;

impl Variables for TestVariables {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "LIMIT" => Some("10".to_string()),
            "SHIFT" => Some("-2.5".to_string()),
            "EVIL" => Some("x'; DROP TABLE t; --".to_string()),
            _ => None,
        }
    }

    fn names(&self) -> Vec<String> {
        vec!["LIMIT".to_string(), "EVIL".to_string()]
    }

    fn environment(&self, name: &str) -> Option<String> {
        (name == "PASSWORD").then(|| "canary".to_string())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        if path == "/run/secrets/key" { Ok("canary\n".to_string()) } else { Err("no such file".to_string()) }
    }
}

fn parse_with_variables(text: &str) -> Result<Vec<Parsed>, Vec<String>> {
    parse_script(&SourceText::new("a.sql", text), &TestVariables)
        .map_err(|findings| findings.iter().map(|finding| finding.one_line().replace("a.sql:", "")).collect())
}

#[test]
fn variables_are_values_never_text() {
    let parsed = parse_with_variables("SELECT * FROM t WHERE a > ${LIMIT} AND b < ${SHIFT} AND c = ${EVIL} AND d = 'n-${LIMIT}'")
        .expect("parses");
    let Statement::Query(query) = &parsed[0].statement else { panic!() };
    assert_eq!(query.to_string(), "SELECT * FROM t WHERE a > 10 AND b < (-2.5) AND c = 'x''; DROP TABLE t; --' AND d = 'n-10'");
    let parsed = parse_with_variables(
        "CREATE TABLE t (a INT, b AS a + ${LIMIT}) WITH ('connector' = 'k', 'x' = '${ENV:PASSWORD}', 'y' = '${FILE:/run/secrets/key}', 'z' = '$dt ${')",
    )
    .expect("parses");
    let Statement::CreateTable(table) = &parsed[0].statement else { panic!() };
    assert_eq!(
        (table.options.get("x"), table.options.get("y"), table.options.get("z")),
        (Some("canary"), Some("canary"), Some("$dt ${"))
    );
    assert!(table.options.is_secret("x") && table.options.is_secret("y") && !table.options.is_secret("z"));
    assert!(!format!("{table:?}").contains("canary"));
    let ColumnDeclarationKind::Computed(expression) = &table.columns[1].kind else { panic!() };
    assert_eq!(expression.sql, "a + 10");
}

#[test]
fn variables_without_a_value() {
    let check = |text: &str, expected: &str| assert_eq!(parse_with_variables(text).err(), Some(vec![expected.to_string()]));
    check("SELECT '${LIMITS}'", "1:9: error[TW0004]: variable \"LIMITS\" has no value (did you mean \"LIMIT\"?)");
    check(
        "SELECT ${NOPE_AT_ALL}",
        "1:8: error[TW0004]: variable \"NOPE_AT_ALL\" has no value (give it one with --var NOPE_AT_ALL=value)",
    );
    check(
        "SET 'pipeline.name' = 'a ${ENV:NOPE}'",
        "1:26: error[TW0004]: environment variable \"NOPE\" is not set (set NOPE in the environment of the process)",
    );
    check("SET 'pipeline.name' = '${FILE:/nope}'", "1:24: error[TW0004]: file \"/nope\" cannot be read: no such file");
    check(
        "SELECT '${INPUT:orders}'",
        "1:9: error[TW0004]: variables have no kind \"INPUT\" (use ${NAME}, ${ENV:NAME} or ${FILE:path})",
    );
    check(
        "SELECT * FROM t WHERE a = '${ENV:PASSWORD}'",
        "1:27: error[TW0002]: a value from the environment or a file cannot stand in a query (pass it with --var NAME=value and write ${NAME})",
    );
}

fn check_too_complex(text: &str) {
    let found = findings(text);
    assert!(found.len() == 1 && found[0].contains("TW0003"), "{found:?}");
}

#[test]
fn too_much_is_an_error_and_never_an_abort() {
    check_too_complex(&format!("SELECT 1{}", " + 1".repeat(2_000)));
    check_too_complex(&format!("SELECT 1 WHERE a{}", " OR a".repeat(2_000)));
    check_too_complex(&format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)));
    check_too_complex(&format!("SELECT {}1", "(".repeat(100_000)));
    check_too_complex(&format!("SELECT {}x", "NOT ".repeat(100_000)));
    check_too_complex(&format!("SELECT {}x", "- ".repeat(100_000)));
    check_too_complex(&format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(2_000)));
    check_too_complex(&format!("SELECT * FROM a{}", " JOIN a ON x = y".repeat(2_000)));
    check_too_complex(&format!("SELECT * FROM a{}", ", a".repeat(2_000)));
    check_too_complex(&format!("SELECT {}", "CASE WHEN a THEN ".repeat(2_000)));
    // Short chains add up when each stands on top of the one inside it.
    check_too_complex(&format!("SELECT {}x{}", "(".repeat(20), format!("{})", " + 1".repeat(30)).repeat(20)));
    check_too_complex(&"x".repeat(TEXT_BYTES_MAX + 1));
    // Deep but within the limits, and wide.
    statements(&format!("SELECT {}1{}", "(".repeat(90), ")".repeat(90)));
    statements(&format!("SELECT 1{}", " + 1".repeat(400)));
    statements(&format!("SELECT x IN ({}1)", "1, ".repeat(20_000)));
}

#[test]
fn constructs_that_make_sqlparser_try_twice_end_soon() {
    // Each of these took two to the power of the repetitions without a budget.
    for start in ["INTERVAL -", "FLOOR(", "INTERVAL (", "CAST(", "TRIM(", "EXTRACT(", "POSITION("] {
        assert!(!findings(&format!("SELECT {}", start.repeat(60))).is_empty(), "{start}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_soup_of_words_panics(words in prop::collection::vec(prop::sample::select(vec![
        "SELECT", "FROM", "CREATE", "TABLE", "(", ")", ",", "'x'", "`a`", "a", "1", "WITH", "AS", "INTERVAL", "CAST", "ROW", "<", ">>",
        ";", "EXECUTE", "STATEMENT", "SET", "BEGIN", "END", "INSERT", "INTO", "WATERMARK", "FOR", "PRIMARY", "KEY", "$", "{", "}", "[",
        "]", "MAP", "PARTITION", "BY", "=", "=>", ".", "CASE", "WHEN", "EXPLAIN", "LIKE", "METADATA", "COMMENT", "é", "\n", "/*+ x */",
    ]), 0..30)) {
        let text = words.join(" ");
        if let Err(findings) = parse(&text) {
            for finding in findings {
                let _ = finding.render();
            }
        }
    }
}

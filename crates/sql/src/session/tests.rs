//! Statements against a session, with a planner that knows one table function and no more.

use datafusion::arrow::array::{Array, ArrayRef, Int32Array};
use datafusion::arrow::datatypes::{Field, TimeUnit};
use datafusion::arrow::util::display::array_value_to_string;
use thalweg_core::{ConnectorInfo, FormatInfo, MetadataKey, OptionDefinition, OptionType};
use thalweg_plan::{Node, OperatorId, Properties};

use super::*;
use crate::parser::parse_script;
use crate::variables::NoVariables;

/// Every query gives one INT column `x`; `PLAN_ERROR` in its text makes planning fail.
struct TestPlanner;

impl QueryPlanner for TestPlanner {
    fn plan_query(&self, _context: &PlannerContext<'_>, query: &ast::Query) -> Result<Plan, Vec<Diagnostic>> {
        if query.to_string().contains("PLAN_ERROR") {
            return Err(vec![Diagnostic::error(Code::UNKNOWN_COLUMN, "planned to fail")]);
        }
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int32, true)]));
        let rows: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1]))];
        let rows = RecordBatch::try_new(schema.clone(), rows)
            .map_err(|error| vec![Diagnostic::error(Code::BAD_TYPE, error.to_string())])?;
        let mut plan = Plan::default();
        plan.add(Node {
            id: OperatorId(String::new()),
            kind: NodeKind::Values(rows),
            inputs: vec![],
            schema,
            properties: Properties::default(),
            span: None,
        });
        Ok(plan)
    }

    fn plan_inserts(&self, context: &PlannerContext<'_>, inserts: &[InsertStatement]) -> Result<Plan, Vec<Diagnostic>> {
        self.plan_query(context, &inserts[0].query)
    }

    fn expression_type(
        &self,
        context: &PlannerContext<'_>,
        columns: &[Column],
        expr: &ast::Expr,
    ) -> Result<(DataType, bool), Vec<Diagnostic>> {
        assert!(columns.iter().all(|column| !matches!(column.kind, ColumnKind::Computed { .. })), "{}", context.source.name);
        Ok(match expr.to_string() {
            text if text.starts_with("TO_TIMESTAMP_LTZ") => {
                (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)
            }
            text if text.starts_with("CAST") => (DataType::Timestamp(TimeUnit::Microsecond, None), true),
            _ => (DataType::Int32, true),
        })
    }

    fn function_names(&self) -> Vec<String> {
        vec!["UPPER".to_string(), "ABS".to_string()]
    }
}

const fn option(name: &'static str, kind: OptionType, required: bool) -> OptionDefinition {
    OptionDefinition { name, kind, required, default: None, doc: "A test option." }
}

fn no_findings(_: &TableDefinition) -> Vec<Diagnostic> {
    vec![]
}

const REGISTRY: Registry = Registry {
    connectors: &[
        ConnectorInfo {
            name: "filesystem",
            doc: "",
            is_source: true,
            is_sink: true,
            takes_updates: false,
            takes_upserts: false,
            gives_upserts: false,
            options: &[option("path", OptionType::Text, true), option("password", OptionType::Text, false)],
            metadata: &[MetadataKey { key: "file.size", sql_type: "BIGINT NOT NULL", writable: false, doc: "" }],
            format_options: &["format", "value.format"],
            check: no_findings,
        },
        ConnectorInfo {
            name: "blackhole",
            doc: "",
            is_source: false,
            is_sink: true,
            takes_updates: false,
            takes_upserts: false,
            gives_upserts: false,
            options: &[],
            metadata: &[],
            format_options: &[],
            check: no_findings,
        },
        ConnectorInfo {
            name: "datagen",
            doc: "",
            is_source: true,
            is_sink: false,
            takes_updates: false,
            takes_upserts: false,
            gives_upserts: false,
            options: &[],
            metadata: &[],
            format_options: &[],
            check: no_findings,
        },
    ],
    formats: &[FormatInfo { name: "json", doc: "", options: &[option("ignore-parse-errors", OptionType::Boolean, false)] }],
};

const FILE: &str = "WITH ('connector' = 'filesystem', 'path' = '/p', 'format' = 'json')";

/// Runs a script; what each statement led to, or the findings of the first that failed.
fn run(session: &mut Session, text: &str) -> Result<Vec<String>, Vec<String>> {
    let lines =
        |findings: Vec<Diagnostic>| findings.iter().map(|finding| finding.one_line().replace("a.sql:", "")).collect::<Vec<_>>();
    let parsed = parse_script(&SourceText::new("a.sql", text.replace("$FILE", FILE)), &NoVariables).map_err(lines)?;
    parsed.iter().map(|parsed| session.execute(parsed).map(|outcome| outcome_text(&outcome)).map_err(lines)).collect()
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(text) | Outcome::Text(text) => text.clone(),
        Outcome::Rows(rows) => (0..rows.num_rows())
            .map(|row| {
                let cells = rows.columns().iter().map(|column| match column.is_null(row) {
                    true => String::new(),
                    false => array_value_to_string(column, row).unwrap_or_default(),
                });
                cells.collect::<Vec<_>>().join("|")
            })
            .collect::<Vec<_>>()
            .join("\n"),
        Outcome::Query(plan) => format!("query of {} nodes", plan.nodes.len()),
        Outcome::Inserts(inserts) => inserts.iter().map(|insert| insert.target.as_str()).collect::<Vec<_>>().join(", "),
    }
}

fn session() -> Session {
    Session::new(REGISTRY, Arc::new(TestPlanner))
}

fn check(text: &str, last: &str) {
    let outcomes = run(&mut session(), text).unwrap_or_else(|findings| panic!("{text}: {findings:#?}"));
    assert_eq!(outcomes.last().map(String::as_str), Some(last), "{text}");
}

fn check_error(text: &str, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|line| (*line).to_string()).collect();
    assert_eq!(run(&mut session(), text), Err(expected), "{text}");
}

#[test]
fn tables_come_and_go() {
    check("CREATE TABLE t (x INT) $FILE", "table t is created");
    check(
        "CREATE TABLE t (x INT) $FILE; CREATE TABLE IF NOT EXISTS t (y INT) WITH ('connector' = 'blackhole')",
        "table t exists already",
    );
    check("CREATE TABLE b (x INT) $FILE; CREATE TABLE a (x INT) $FILE; CREATE VIEW c AS SELECT 1; SHOW TABLES", "a\nb\nc");
    check("CREATE VIEW c AS SELECT 1; SHOW VIEWS", "c");
    check("DROP TABLE IF EXISTS t", "there is no table t");
    check("CREATE TABLE t (x INT) $FILE; DROP TABLE t; CREATE TABLE t (y INT) $FILE", "table t is created");
    check("SHOW FUNCTIONS", "ABS\nUPPER");
    check_error(
        "CREATE TABLE t (x INT) WITH ('connector' = 'blackhole'); CREATE TABLE t (y INT) WITH ('connector' = 'blackhole')",
        &["1:71: error[TW0110]: table \"t\" exists already (choose another name, DROP TABLE first, or write IF NOT EXISTS)"],
    );
    check_error(
        "CREATE TABLE orders (x INT) $FILE; DROP TABLE order_s",
        &["1:109: error[TW0101]: there is no table \"order_s\" (did you mean \"orders\"?)"],
    );
    check_error(
        "CREATE VIEW v AS SELECT 1; DROP TABLE v",
        &["1:39: error[TW0101]: \"v\" is a view, not a table (write DROP VIEW)"],
    );
}

#[test]
fn describe_and_show_create() {
    let table = "CREATE TABLE `t x` (id INT, ts TIMESTAMP(3) NOT NULL COMMENT 'when', twice AS id * 2, size BIGINT METADATA FROM 'file.size' VIRTUAL,
      WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, PRIMARY KEY (id) NOT ENFORCED)
      COMMENT 'it''s' PARTITIONED BY (id) WITH ('connector' = 'filesystem', 'path' = '/p', 'format' = 'json', 'password' = 'canary');";
    check(
        &format!("{table} DESCRIBE `t x`"),
        "id|INT|false|PRI(id)||||\nts|TIMESTAMP(3) *ROWTIME*|false|||ts - INTERVAL '5' SECOND|when\ntwice|INT|true||AS id * 2||\nsize|BIGINT|true||METADATA FROM 'file.size' VIRTUAL||"
            .replace("||||\n", "|||\n")
            .as_str(),
    );
    let shown = "CREATE TABLE `default_catalog`.`default_database`.`t x` (
  `id` INT,
  `ts` TIMESTAMP(3) NOT NULL COMMENT 'when',
  `twice` AS id * 2,
  `size` BIGINT METADATA FROM 'file.size' VIRTUAL,
  WATERMARK FOR `ts` AS ts - INTERVAL '5' SECOND,
  CONSTRAINT `PK_id` PRIMARY KEY (`id`) NOT ENFORCED
) COMMENT 'it''s'
PARTITIONED BY (`id`)
WITH (
  'connector' = 'filesystem',
  'format' = 'json',
  'password' = '***',
  'path' = '/p'
)
";
    check(&format!("{table} SHOW CREATE TABLE `t x`"), shown);
    // What is shown declares the same table again.
    check(&format!("{shown}; SHOW CREATE TABLE `t x`"), shown);
    check(
        "CREATE VIEW v (a) AS SELECT 1; SHOW CREATE VIEW v",
        "CREATE VIEW `default_catalog`.`default_database`.`v` (`a`) AS\nSELECT 1\n",
    );
    check("CREATE VIEW v (a) AS SELECT 1; DESCRIBE v", "a|INT|true|||");
}

#[test]
fn settings_are_session_state() {
    check("SET 'pipeline.name' = 'n'; SET", "pipeline.name|n");
    check("SET 'pipeline.name' = 'n'; RESET 'pipeline.name'; SET", "");
    check_error(
        "SET 'pipeline.nam' = 'n'",
        &["1:5: error[TW0005]: unknown setting \"pipeline.nam\" (did you mean \"pipeline.name\"?)"],
    );
    check_error(
        "SET 'table.dml-sync' = 'maybe'",
        &["1:24: error[TW0006]: setting \"table.dml-sync\" cannot be \"maybe\" (use true or false)"],
    );
}

#[test]
fn declarations_that_contradict_themselves() {
    check_error("CREATE TABLE t (x INT, x STRING) $FILE", &["1:24: error[TW0105]: column \"x\" is declared twice"]);
    check_error(
        "CREATE TABLE t (x INT, WATERMARK FOR ts AS ts) $FILE",
        &[
            "1:38: error[TW0201]: table \"t\" has no column \"ts\" for the watermark (declare the column, or name one that exists)",
        ],
    );
    check_error(
        "CREATE TABLE t (ts TIMESTAMP(6), WATERMARK FOR ts AS ts) $FILE",
        &[
            "1:48: error[TW0201]: column \"ts\" is TIMESTAMP(6) and cannot carry a watermark (event time is TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to 3; declare a computed column such as ts AS CAST(… AS TIMESTAMP(3)))",
        ],
    );
    check_error(
        "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts, WATERMARK FOR ts AS ts) $FILE",
        &[
            "1:58: error[TW0201]: table \"t\" has more than one watermark (a table has one event-time column; keep one WATERMARK clause)",
        ],
    );
    check_error(
        "CREATE TABLE t (id INT, PRIMARY KEY (ids) NOT ENFORCED) $FILE",
        &["1:38: error[TW0102]: table \"t\" has no column \"ids\" (did you mean \"id\"?)"],
    );
    check_error(
        "CREATE TABLE t (id INT, x INT) PARTITIONED BY (dt) $FILE",
        &["1:48: error[TW0102]: table \"t\" has no column \"dt\""],
    );
    check_error(
        "CREATE TABLE t $FILE",
        &["1:14: error[TW0111]: table \"t\" has no columns (declare its columns in parentheses, or use LIKE or AS)"],
    );
    check(
        "CREATE TABLE t (m BIGINT, ts AS TO_TIMESTAMP_LTZ(m, 3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) $FILE",
        "table t is created",
    );
    check_error(
        "CREATE TABLE t (m STRING, ts AS CAST(m AS TIMESTAMP(6)), WATERMARK FOR ts AS ts) $FILE",
        &[
            "1:72: error[TW0201]: column \"ts\" is TIMESTAMP(6) and cannot carry a watermark (event time is TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to 3; declare a computed column such as ts AS CAST(… AS TIMESTAMP(3)))",
        ],
    );
}

#[test]
fn options_are_checked() {
    check_error(
        "CREATE TABLE t (x INT) WITH ('connector' = 'filesytem')",
        &["1:44: error[TW0301]: there is no connector \"filesytem\" (did you mean \"filesystem\"?)"],
    );
    check_error(
        "CREATE TABLE t (x INT) WITH ('connector' = 'filesystem', 'path' = 'p', 'format' = 'jsn')",
        &["1:83: error[TW0305]: there is no format \"jsn\" (did you mean \"json\"?)"],
    );
    check_error(
        "CREATE TABLE t (x INT) WITH ('connector' = 'filesystem', 'path' = 'p', 'format' = 'json', 'json.ignore-parse-error' = 'true')",
        &[
            "1:91: error[TW0302]: unknown option \"json.ignore-parse-error\" for connector \"filesystem\" (did you mean \"json.ignore-parse-errors\"?)",
        ],
    );
    check(
        "CREATE TABLE t (x INT) WITH ('connector' = 'filesystem', 'path' = 'p', 'value.format' = 'json', 'value.json.ignore-parse-errors' = 'true', 'scan.watermark.idle-timeout' = '5 s')",
        "table t is created",
    );
    check_error(
        "CREATE TABLE t (x INT, s INT METADATA FROM 'file.sise') $FILE",
        &["1:24: error[TW0308]: connector \"filesystem\" has no metadata \"file.sise\" (did you mean \"file.size\"?)"],
    );
    check_error(
        "CREATE TABLE t (x INT, s BOOLEAN ARRAY METADATA FROM 'file.size') WITH ('connector' = 'filesystem', 'scan.watermark.alignment.group' = 'a')",
        &[
            "1:101: error[TW0002]: option \"scan.watermark.alignment.group\" does not run yet",
            "1:72: error[TW0304]: connector \"filesystem\" needs the option \"path\" (add 'path' = '…': A test option.)",
        ],
    );
}

#[test]
fn inserts_need_a_table_that_can_be_written() {
    check("CREATE TABLE t (x INT, y AS x) WITH ('connector' = 'blackhole'); INSERT INTO t (x) SELECT 1", "t");
    check_error(
        "CREATE TABLE target (x INT) WITH ('connector' = 'blackhole'); INSERT INTO tarket SELECT 1",
        &["1:75: error[TW0101]: there is no table or view \"tarket\" (did you mean \"target\"?)"],
    );
    check_error(
        "CREATE TABLE t (x INT) WITH ('connector' = 'datagen'); INSERT INTO t SELECT 1",
        &["1:68: error[TW0307]: table \"t\" cannot be written (connector \"datagen\" only reads)"],
    );
    check_error(
        "CREATE TABLE t (x INT, s BIGINT METADATA FROM 'file.size') $FILE; INSERT INTO t SELECT 1",
        &[
            "1:141: error[TW0307]: table \"t\" cannot be written (declare the metadata column \"s\" VIRTUAL: connector \"filesystem\" cannot write it)",
        ],
    );
    check_error(
        "CREATE TABLE t (x INT, y AS x) WITH ('connector' = 'blackhole'); INSERT INTO t (y, z) SELECT 1, 2",
        &[
            "1:81: error[TW0401]: column \"y\" of table \"t\" is computed and cannot be written (leave it out of the list)",
            "1:84: error[TW0102]: table \"t\" has no column \"z\" (did you mean \"x\"?)",
        ],
    );
    check_error(
        "CREATE TABLE t (x INT) WITH ('connector' = 'filesystem'); INSERT INTO t SELECT 1",
        &["1:29: error[TW0304]: connector \"filesystem\" needs the option \"path\" (add 'path' = '…': A test option.)"],
    );
    check(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO t SELECT 1; INSERT INTO t SELECT 2; END"
            .replace("EXECUTE", "CREATE TABLE t (x INT) WITH ('connector' = 'blackhole'); EXECUTE")
            .as_str(),
        "t, t",
    );
}

#[test]
fn like_and_as() {
    let base = "CREATE TABLE a (id INT, twice AS id * 2, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) $FILE;";
    check(
        &format!("{base} CREATE TABLE b (shop STRING) WITH ('path' = '/q') LIKE a; DESCRIBE b"),
        "id|INT|true|||\ntwice|INT|true||AS id * 2|\nts|TIMESTAMP(3) *ROWTIME*|true|||ts\nshop|STRING|true|||",
    );
    check(
        &format!("{base} CREATE TABLE b (thrice AS id * 3) LIKE a (EXCLUDING GENERATED, EXCLUDING WATERMARKS); DESCRIBE b"),
        "id|INT|true|||\nts|TIMESTAMP(3)|true|||\nthrice|INT|true||AS id * 3|",
    );
    check(
        &format!(
            "{base} CREATE TABLE b (WATERMARK FOR ts AS ts - INTERVAL '20' SECOND) LIKE a (OVERWRITING WATERMARKS); DESCRIBE b"
        ),
        "id|INT|true|||\ntwice|INT|true||AS id * 2|\nts|TIMESTAMP(3) *ROWTIME*|true|||ts - INTERVAL '20' SECOND",
    );
    // A pattern needs no connector of its own.
    check("CREATE TABLE a (id INT); CREATE TABLE b $FILE LIKE a", "table b is created");
    check("CREATE TABLE b $FILE AS SELECT 1 AS x", "b");
    check("CREATE TABLE b $FILE AS SELECT 1 AS x; DESCRIBE b", "x|INT|true|||");
    let failed = run(&mut session(), &format!("{base} CREATE TABLE b (WATERMARK FOR ts AS ts) LIKE a"));
    assert!(
        failed.is_err_and(|findings| findings[0].contains("inherits a watermark by LIKE (write LIKE … (OVERWRITING WATERMARKS)"))
    );
}

#[test]
fn queries_views_and_explain() {
    check("SELECT 1", "query of 1 nodes");
    check_error("SELECT PLAN_ERROR", &[" error[TW0102]: planned to fail"]);
    check_error(
        "CREATE VIEW v (a, b) AS SELECT 1",
        &["1:16: error[TW0111]: view \"v\" lists 2 columns, its query has 1 (list one name for each column of the query)"],
    );
    let explained = run(&mut session(), "EXPLAIN SELECT 1").expect("explains");
    assert!(explained[0].starts_with("Values 1 rows"), "{explained:?}");
}

/// Scripts of recorded Flink answers: what must be accepted, statement by statement.
#[test]
fn recorded_scripts_are_accepted() {
    for script in [
        "CREATE TABLE clicks (id INT, visitor STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) $FILE;
         CREATE TABLE more_clicks (shop STRING) WITH ('path' = '/more') LIKE clicks;
         SELECT id, shop, window_end FROM TABLE(TUMBLE(TABLE more_clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND));",
        "CREATE TABLE `web orders.2026` (`order id` INT, `größe` STRING, `it's` INT, `a``b` INT) $FILE;
         SELECT `order id`, `größe`, `it's`, `a``b` FROM `web orders.2026`;",
        "CREATE TABLE orders (`order` INT, `timestamp` TIMESTAMP(3), `value` INT, `from` STRING, `user` STRING) $FILE;
         SELECT `order`, `timestamp`, `value`, `from`, `user` FROM orders;",
        "DROP TABLE IF EXISTS orders;
         CREATE TABLE orders (x STRING) WITH ('connector' = 'blackhole');
         DROP TABLE orders;
         CREATE TABLE orders (order_id INT, customer STRING, amount INT) $FILE;
         SELECT order_id FROM orders;",
        "CREATE TABLE orders (order_id INT, customer STRING, amount INT) $FILE;
         SET 'table.dml-sync' = 'true';
         CREATE TABLE archive (order_id INT, note STRING) $FILE;
         INSERT INTO archive (order_id) SELECT order_id FROM orders;
         SELECT order_id, note FROM archive;",
        "-- the orders; all of them
         CREATE TABLE orders ( -- one line each
           order_id INT, /* the ; key */ customer STRING
         ) COMMENT 'orders; of the shop' $FILE;
         /* a query
            over two lines */
         SELECT order_id, 'a;b--c' AS text /* not this */ FROM orders -- the end
         ;",
        "CREATE TABLE clicks (id INT, ts TIMESTAMP(3), lag_s INT, WATERMARK FOR ts AS TIMESTAMPADD(SECOND, -lag_s, ts)) $FILE;
         SELECT window_start, window_end, SUM(id) AS ids
         FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;",
        "CREATE TABLE orders (order_id INT PRIMARY KEY NOT ENFORCED, customer STRING) $FILE;
         SELECT order_id, customer FROM orders;",
    ] {
        run(&mut session(), script).unwrap_or_else(|findings| panic!("{script}: {findings:#?}"));
    }
}

//! The command line from outside: exit codes, what goes to stdout, flags.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::house::root;
use crate::support::{Outcome, run_sql, run_within, thalweg};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs SQL given with `-e`.
fn execute(sql: &str, arguments: &[&str]) -> Outcome {
    run_within(thalweg().args(arguments).args(["-e", sql]), LIMIT)
}

#[track_caller]
fn expect_rows(outcome: Outcome, rows: &[&str]) {
    assert_eq!(outcome.expect_code(0).rows(), rows);
}

/// Three numbers, 1 to 3.
const NUMBERS: &str = "CREATE TABLE numbers (n INT) WITH (
  'connector' = 'datagen', 'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '3'
);
";

#[test]
fn rows_are_json_lines_with_columns_in_order() {
    let sql = "SELECT 2 AS z, 'x \"y\"' AS a, CAST(NULL AS INT) AS m, TIMESTAMP '2026-01-01 00:00:10.500' AS t, TRUE AS b,
  CAST(1.50 AS DECIMAL(10, 2)) AS d, ARRAY[1, 2] AS l;";
    expect_rows(
        execute(sql, &[]),
        &[r#"{"z":2,"a":"x \"y\"","m":null,"t":"2026-01-01 00:00:10.5","b":true,"d":1.50,"l":[1,2]}"#],
    );
}

#[test]
fn sql_comes_from_arguments_files_and_standard_input() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let file = work.path().join("seven.sql");
    fs::write(&file, "SELECT 7 AS n;\n").expect("the folder can be written");
    let seven: &[&str] = &[r#"{"n":7}"#];
    expect_rows(execute("SELECT 7 AS n", &[]), seven);
    expect_rows(execute("SELECT 7 AS n;", &["repl"]), seven);
    expect_rows(run_within(thalweg().arg("-f").arg(&file), LIMIT), seven);
    expect_rows(run_within(thalweg().arg("run").arg(&file), LIMIT), seven);
    let from_stdin = |sql: &str, arguments: &[&str]| {
        let mut child = thalweg()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        child.stdin.take().expect("stdin is a pipe").write_all(sql.as_bytes()).expect("the program reads its input");
        let output = child.wait_with_output().expect("the program ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    };
    expect_rows(from_stdin("SELECT 7 AS n;", &["run", "-"]), seven);
    let wrong = from_stdin("SELECT n;", &["run", "-"]).expect_code(2);
    assert!(wrong.stderr.contains("--> <stdin>:1:8"), "{}", wrong.stderr);
    // The shell, when nobody sits before it.
    expect_rows(from_stdin("SELECT 7 AS n;\n", &[]), seven);
    // Several files are one script.
    let declares = work.path().join("declares.sql");
    fs::write(&declares, NUMBERS).expect("the folder can be written");
    let uses = work.path().join("uses.sql");
    fs::write(&uses, "SELECT n FROM numbers;").expect("the folder can be written");
    expect_rows(run_within(thalweg().arg("run").args([&declares, &uses]), LIMIT), &[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
}

#[test]
fn exit_codes() {
    execute("SELECT 1;", &[]).expect_code(0);
    execute("", &[]).expect_code(0);
    let failed = execute(&format!("{NUMBERS}SELECT 6 / (n - 2) FROM numbers;"), &[]).expect_code(1);
    assert!(failed.stderr.starts_with("error: "), "{}", failed.stderr);
    let wrong = execute("SELECT nope;", &[]).expect_code(2);
    assert!(wrong.stderr.starts_with("error[TW0102]: "), "{}", wrong.stderr);
    assert_eq!(wrong.stdout, "");
    for arguments in [
        &["run"][..],
        &["run", "no-such-file.sql"],
        &["run", "--no-such-flag", "x.sql"],
        &["no-such-command"],
        &["--set", "no.such.setting=1", "-e", "SELECT 1"],
        &["--set", "novalue", "-e", "SELECT 1"],
        &["run", "--parallelism", "0", "x.sql"],
        &["check", "no-such-file.sql"],
        &["checkpoint", "show", "/no/such/folder"],
    ] {
        let outcome = run_within(thalweg().args(arguments), LIMIT);
        assert_eq!(outcome.code, Some(2), "{arguments:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{arguments:?}");
        assert!(outcome.stderr.starts_with("error"), "{arguments:?}: {}", outcome.stderr);
    }
    let version = run_within(thalweg().arg("--version"), LIMIT).expect_code(0);
    assert!(version.stdout.starts_with("thalweg "), "{}", version.stdout);
}

#[test]
fn a_reader_that_leaves_ends_the_job() {
    let program = thalweg();
    let sql =
        "CREATE TABLE endless (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000'); SELECT n FROM endless;";
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"{ "$0" -e "$1"; echo "exit $?" >&2; } | head -n 1"#]).arg(program.get_program()).arg(sql);
    let outcome = run_within(&mut shell, Duration::from_secs(20)).expect_code(0);
    assert_eq!(outcome.rows().len(), 1);
    assert_eq!(outcome.stderr, "exit 0\n");
}

#[test]
fn catalog_statements_give_rows() {
    let declarations = "CREATE TABLE t (
  a INT NOT NULL,
  b DECIMAL(10, 2),
  ts TIMESTAMP(3),
  d AS a + 1,
  PRIMARY KEY (a) NOT ENFORCED,
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH ('connector' = 'datagen', 'number-of-rows' = '3');
CREATE VIEW v AS SELECT a, d FROM t;
";
    let run = |sql: &str| execute(&format!("{declarations}{sql}"), &[]).expect_code(0).rows();
    assert_eq!(run("SHOW TABLES;"), [r#"{"table name":"t"}"#, r#"{"table name":"v"}"#]);
    assert_eq!(run("SHOW VIEWS;"), [r#"{"view name":"v"}"#]);
    assert_eq!(run("SET 'parallelism.default' = '2'; SET;"), [r#"{"key":"parallelism.default","value":"2"}"#]);
    assert_eq!(run("SET 'parallelism.default' = '2'; RESET 'parallelism.default'; SET;"), [""; 0]);
    assert_eq!(
        run("DESCRIBE t;"),
        [
            r#"{"name":"a","type":"INT","null":false,"key":"PRI(a)","extras":null,"watermark":null}"#,
            r#"{"name":"b","type":"DECIMAL(10, 2)","null":true,"key":null,"extras":null,"watermark":null}"#,
            r#"{"name":"ts","type":"TIMESTAMP(3) *ROWTIME*","null":true,"key":null,"extras":null,"watermark":"ts - INTERVAL '1' SECOND"}"#,
            r#"{"name":"d","type":"INT","null":false,"key":null,"extras":"AS a + 1","watermark":null}"#,
        ]
    );
    let shown = run("SHOW CREATE TABLE t;").join("\n");
    assert_eq!(
        shown,
        "CREATE TABLE `default_catalog`.`default_database`.`t` (
  `a` INT NOT NULL,
  `b` DECIMAL(10, 2),
  `ts` TIMESTAMP(3),
  `d` AS a + 1,
  WATERMARK FOR `ts` AS ts - INTERVAL '1' SECOND,
  CONSTRAINT `PK_a` PRIMARY KEY (`a`) NOT ENFORCED
)
WITH (
  'connector' = 'datagen',
  'number-of-rows' = '3'
)"
    );
    // What is shown can be run again.
    let again = format!("{shown}; SHOW CREATE TABLE t;");
    assert_eq!(execute(&again, &[]).expect_code(0).rows().join("\n"), shown);
    assert_eq!(run("SHOW CREATE VIEW v;"), ["CREATE VIEW `default_catalog`.`default_database`.`v` AS", "SELECT a, d FROM t"]);
    assert_eq!(run("DROP VIEW v; SHOW TABLES;"), [r#"{"table name":"t"}"#]);
}

#[test]
fn variables_and_settings_come_from_flags() {
    expect_rows(execute("SELECT ${N} + 1 AS n, 'a${S}c' AS s;", &["--var", "N=3", "--var", "S=b"]), &[r#"{"n":4,"s":"abc"}"#]);
    // A value is a value: it cannot add SQL.
    expect_rows(execute("SELECT ${S} AS s;", &["--var", "S=1; DROP TABLE t"]), &[r#"{"s":"1; DROP TABLE t"}"#]);
    expect_rows(execute("SET;", &["--set", "parallelism.default=3"]), &[r#"{"key":"parallelism.default","value":"3"}"#]);
    let unset = execute("SELECT ${NAM} AS n;", &["--var", "NAME=3"]).expect_code(2);
    assert!(unset.stderr.contains("did you mean \"NAME\"?"), "{}", unset.stderr);
    expect_rows(
        execute("SELECT CAST(TO_TIMESTAMP_LTZ(0, 3) AS STRING) AS t;", &["--set", "table.local-time-zone=Europe/Berlin"]),
        &[r#"{"t":"1970-01-01 01:00:00.000"}"#],
    );
}

#[test]
fn views_select_from_views() {
    let sql = format!(
        "{NUMBERS}CREATE VIEW doubled (d) AS SELECT n * 2 FROM numbers;
CREATE VIEW large AS SELECT d FROM doubled WHERE d > 2;
SELECT d AS `of large` FROM large;"
    );
    expect_rows(execute(&sql, &[]), &[r#"{"of large":4}"#, r#"{"of large":6}"#]);
}

#[test]
fn print_writes_changes_to_standard_output() {
    let sql = format!(
        "{NUMBERS}CREATE TABLE out1 (n INT, s STRING) WITH ('connector' = 'print');
CREATE TABLE out2 (n INT) WITH ('connector' = 'print', 'print-identifier' = 'second');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO out1 SELECT n, 'x' FROM numbers;
  INSERT INTO out2 SELECT n FROM numbers WHERE n = 3;
END;"
    );
    let mut rows = execute(&sql, &["--set", "parallelism.default=1"]).expect_code(0).rows();
    rows.sort();
    assert_eq!(rows, ["+I[1, x]", "+I[2, x]", "+I[3, x]", "second> +I[3]"]);
}

#[test]
fn datagen_ends_after_its_rows() {
    let sql =
        "CREATE TABLE t (n BIGINT, s STRING) WITH ('connector' = 'datagen', 'number-of-rows' = '5000', 'fields.s.length' = '7');
SELECT CHAR_LENGTH(s) AS length FROM t;";
    let rows = execute(sql, &[]).expect_code(0).rows();
    assert_eq!(rows.len(), 5_000);
    assert!(rows.iter().all(|row| row == r#"{"length":7}"#));
}

/// All rows of JSON files below a folder, in order of text.
fn lines_below(folder: &Path) -> Vec<String> {
    let mut lines = vec![];
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            lines.extend(lines_below(&path));
        } else {
            lines.extend(fs::read_to_string(&path).expect("readable").lines().map(str::to_string));
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_statement_set_fills_two_folders() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let folder = work.path().display();
    let sql = format!(
        "{NUMBERS}CREATE TABLE small (n INT) WITH ('connector' = 'filesystem', 'path' = '{folder}/small', 'format' = 'json');
CREATE TABLE large (n INT, s STRING) WITH ('connector' = 'filesystem', 'path' = 'file://{folder}/large', 'format' = 'csv');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO small SELECT n FROM numbers WHERE n < 2;
  INSERT INTO large SELECT n, 'x' FROM numbers WHERE n >= 2;
END;"
    );
    let outcome = run_sql(work.path(), &sql, &[]).expect_code(0);
    assert_eq!(outcome.stdout, "");
    assert_eq!(lines_below(&work.path().join("small")), [r#"{"n":1}"#]);
    assert_eq!(lines_below(&work.path().join("large")), ["2,x", "3,x"]);
}

#[test]
fn dml_sync_runs_each_insert_to_its_end() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let folder = work.path().display();
    let sql = format!(
        "{NUMBERS}CREATE TABLE first_step (n INT) WITH ('connector' = 'filesystem', 'path' = '{folder}/first', 'format' = 'json');
CREATE TABLE second_step (n INT) WITH ('connector' = 'filesystem', 'path' = '{folder}/second', 'format' = 'json');
SET 'table.dml-sync' = 'true';
INSERT INTO first_step SELECT n FROM numbers;
INSERT INTO second_step SELECT n * 10 FROM first_step;
SELECT n FROM second_step;"
    );
    let mut rows = run_sql(work.path(), &sql, &[]).expect_code(0).rows();
    rows.sort();
    assert_eq!(rows, [r#"{"n":10}"#, r#"{"n":20}"#, r#"{"n":30}"#]);
}

/// A folder of three files with 3,000 rows of 10 users over 300 s, each file in order of time.
fn write_events(folder: &Path) {
    fs::create_dir_all(folder).expect("the folder can be made");
    for file in 0..3 {
        let rows: String = (0..1_000)
            .map(|row| {
                let id = row * 3 + file;
                let (minute, second, ms) = (id / 600, id / 10 % 60, id % 10 * 100);
                format!(
                    "{{\"id\":{id},\"user_id\":{},\"at\":\"2026-01-01 00:{minute:02}:{second:02}.{ms:03}\"}}\n",
                    id * 7_919 % 10
                )
            })
            .collect();
        fs::write(folder.join(format!("part-{file}.json")), rows).expect("the folder can be written");
    }
}

/// A window query over bounded input ends by itself and fires all windows; how many lanes work at it makes no difference.
#[test]
fn bounded_windows_fire_and_lanes_do_not_matter() {
    let work = tempfile::tempdir().expect("a folder can be made");
    write_events(&work.path().join("events"));
    let sql = format!(
        "CREATE TABLE events (
  id BIGINT, user_id BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '{}/events', 'format' = 'json');
SELECT user_id, window_start, COUNT(*) AS n, SUM(id) AS total, COUNT(DISTINCT id) AS ids, MAX(at) AS latest
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(at), INTERVAL '1' MINUTE))
GROUP BY user_id, window_start, window_end;",
        work.path().display()
    );
    let mut answers = vec![];
    for lanes in ["1", "2", "4"] {
        let outcome = run_sql(work.path(), &sql, &["--parallelism", lanes]).expect_code(0);
        let mut rows = outcome.rows();
        rows.sort();
        answers.push(rows);
    }
    // 5 minutes of 600 rows, 60 of each user.
    assert_eq!(answers[0].len(), 50);
    assert!(answers[0].iter().all(|row| row.contains(r#""n":60,"#)), "{:?}", answers[0]);
    let first =
        r#"{"user_id":0,"window_start":"2026-01-01 00:00:00","n":60,"total":17700,"ids":60,"latest":"2026-01-01 00:00:59"}"#;
    assert!(answers[0].iter().any(|row| row == first), "{:?}", answers[0]);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[test]
fn a_finished_job_is_not_run_again() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let folder = work.path().display();
    let sql = format!(
        "{NUMBERS}CREATE TABLE out1 (n INT) WITH ('connector' = 'filesystem', 'path' = '{folder}/out', 'format' = 'json');
INSERT INTO out1 SELECT n FROM numbers;"
    );
    let checkpoints = format!("{folder}/checkpoints");
    run_sql(work.path(), &sql, &["--checkpoint-dir", &checkpoints]).expect_code(0);
    let again = run_sql(work.path(), &sql, &["--checkpoint-dir", &checkpoints]).expect_code(0);
    assert!(again.stderr.contains("had finished in an earlier run"), "{}", again.stderr);
    assert_eq!(lines_below(&work.path().join("out")), [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    let listed = run_within(thalweg().args(["checkpoint", "list", &checkpoints]), LIMIT).expect_code(0);
    assert!(!listed.stdout.is_empty());
    let shown = run_within(thalweg().args(["checkpoint", "show", &checkpoints]), LIMIT).expect_code(0);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect("it is JSON");
    assert!(shown["epoch"].is_number(), "{shown}");
    let file = work.path().join("query.sql");
    let against = |file: &Path| run_within(thalweg().arg("check").arg(file).args(["--against", &checkpoints]), LIMIT);
    assert!(against(&file).expect_code(0).stderr.contains("is kept"));
    let other = work.path().join("other.sql");
    fs::write(&other, sql.replace("SELECT n FROM", "SELECT n + 1 FROM")).expect("the folder can be written");
    assert!(against(&other).expect_code(2).stderr.contains("cannot resume"));
}

#[test]
fn check_store_proves_a_folder() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let outcome = run_within(thalweg().arg("check-store").arg(work.path()), LIMIT).expect_code(0);
    assert!(outcome.rows().len() >= 3 && outcome.rows().iter().all(|row| row.ends_with(" ok")), "{}", outcome.stdout);
}

#[test]
fn check_says_that_a_file_is_fine() {
    let example = root().join("sql-examples");
    let outcome = run_within(thalweg().current_dir(example).args(["check", "revenue_per_minute.sql"]), LIMIT).expect_code(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", "revenue_per_minute.sql: fine\n"));
}

fn parquet_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(parquet_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_demo_leaves_a_lake() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let mut command = thalweg();
    command.args(["demo", "--seconds", "8", "--dir"]).arg(work.path());
    let outcome = run_within(&mut command, LIMIT).expect_code(0);
    assert!(!outcome.stdout.is_empty(), "{}", outcome.stderr);
    for row in outcome.rows() {
        serde_json::from_str::<serde_json::Value>(&row).unwrap_or_else(|error| panic!("{row}: {error}"));
    }
    let lake = work.path().join("lake");
    assert!(outcome.stderr.contains(&lake.display().to_string()), "{}", outcome.stderr);
    let rows: i64 = parquet_files(&lake)
        .iter()
        .map(|path| {
            let file = fs::File::open(path).expect("readable");
            SerializedFileReader::new(file).expect("the file is whole").metadata().file_metadata().num_rows()
        })
        .sum();
    assert!(rows > 0, "the lake has rows");
}

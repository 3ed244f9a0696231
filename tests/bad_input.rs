//! What the world does to a pipeline: missing topics, brokers that are down, records that cannot be read. Each is named, and
//! nothing panics.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use thalweg_connectors::embedded::{self, NewRecord};

use crate::real_parts::{kafka, s3};
use crate::support::{Outcome, run_sql, run_within, thalweg, wait_within};

/// The table `events` over a topic.
fn events(topic: &str, bootstrap: &str, more: &str) -> String {
    format!(
        "CREATE TABLE events (
  id BIGINT,
  name STRING,
  at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '1' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = '{topic}',
  'properties.bootstrap.servers' = '{bootstrap}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'{more}
);
"
    )
}

fn append(dir: &Path, topic: &str, values: &[&[u8]]) {
    embedded::create_topic(dir, topic, 1).expect("the folder can be written");
    let records: Vec<NewRecord<'_>> =
        values.iter().map(|value| NewRecord { value: Some(value), ..NewRecord::default() }).collect();
    embedded::append(dir, topic, 0, &records, 0).expect("the folder can be written");
}

/// Runs a query over `values` in the embedded topic `events`.
fn run_over(values: &[&[u8]], more: &str, query: &str) -> Outcome {
    let work = tempfile::tempdir().expect("a folder can be made");
    append(work.path(), "events", values);
    let sql = format!("{}{query}", events("events", "localhost:9092", more));
    run_sql(work.path(), &sql, &["--embedded", work.path().to_str().expect("UTF-8"), "--until-caught-up"])
}

const SELECT: &str = "SELECT id, name FROM events;";

#[track_caller]
fn expect_words(outcome: &Outcome, words: &[&str]) {
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} is not in:\n{}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

#[test]
fn a_missing_embedded_topic_is_named() {
    let work = tempfile::tempdir().expect("a folder can be made");
    append(work.path(), "orders", &[b"{}"]);
    let sql = format!("{}{SELECT}", events("order", "localhost:9092", ""));
    let outcome = run_sql(work.path(), &sql, &["--embedded", work.path().to_str().expect("UTF-8"), "--until-caught-up"]);
    let outcome = outcome.expect_code(2);
    expect_words(&outcome, &["topic \"order\"", "did you mean \"orders\"?", "query.sql:8:13"]);
}

#[test]
fn a_missing_topic_of_a_broker_is_named() {
    let kafka = kafka();
    kafka.create_topic("bad-input-orders", 1);
    let work = tempfile::tempdir().expect("a folder can be made");
    let sql = format!("{}{SELECT}", events("bad-input-order", &kafka.bootstrap, ""));
    let outcome = run_sql(work.path(), &sql, &["--until-caught-up"]).expect_code(2);
    expect_words(&outcome, &["topic \"bad-input-order\"", "did you mean \"bad-input-orders\"?"]);
}

#[test]
fn a_missing_topic_to_write_is_named() {
    let kafka = kafka();
    let work = tempfile::tempdir().expect("a folder can be made");
    let sql = format!(
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '10');
CREATE TABLE output (n BIGINT) WITH (
  'connector' = 'kafka', 'topic' = 'bad-input-nowhere', 'properties.bootstrap.servers' = '{}', 'format' = 'json'
);
INSERT INTO output SELECT n FROM numbers;",
        kafka.bootstrap
    );
    let outcome = run_sql(work.path(), &sql, &[]);
    assert!(matches!(outcome.code, Some(1 | 2)), "{outcome:?}");
    expect_words(&outcome, &["bad-input-nowhere"]);
}

/// Starts a job and gives the first line on stderr that holds `word`, if it comes within `limit`.
fn start_and_listen(mut command: Command, word: &'static str, limit: Duration) -> (Child, Option<String>) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program can be started");
    let stderr = child.stderr.take().expect("stderr is a pipe");
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.contains(word) {
                let _ = send.send(line);
            }
        }
    });
    let line = receive.recv_timeout(limit).ok();
    (child, line)
}

fn terminate(child: &mut Child) -> Option<i32> {
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill exists");
    assert!(killed.success());
    wait_within(child, Duration::from_secs(20)).expect("a terminated job ends within 20 s").code()
}

#[test]
fn a_broker_that_is_down_is_waited_for() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let file = work.path().join("job.sql");
    fs::write(&file, format!("{}{SELECT}", events("events", "127.0.0.1:1", ""))).expect("the folder can be written");
    let mut command = thalweg();
    command.arg("run").arg(&file);
    let (mut child, line) = start_and_listen(command, "connecting: no answer from Kafka", Duration::from_secs(5));
    let still_runs = child.try_wait().expect("the child is ours").is_none();
    let code = terminate(&mut child);
    let line = line.expect("within 5 s it says that it is connecting");
    assert!(line.contains("127.0.0.1:1") && line.contains("refused"), "{line}");
    assert!(still_runs, "it keeps trying");
    assert_eq!(code, Some(0), "a terminated job ends with 0");
}

#[test]
fn a_broker_to_write_to_that_is_down_is_waited_for() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let file = work.path().join("job.sql");
    let sql = "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '10');
CREATE TABLE output (n BIGINT) WITH (
  'connector' = 'kafka', 'topic' = 'output', 'properties.bootstrap.servers' = '127.0.0.1:1', 'format' = 'json'
);
INSERT INTO output SELECT n FROM numbers;";
    fs::write(&file, sql).expect("the folder can be written");
    let mut command = thalweg();
    command.arg("run").arg(&file).arg("--checkpoint-dir").arg(work.path().join("checkpoints"));
    let (mut child, line) = start_and_listen(command, "connecting: no answer from Kafka", Duration::from_secs(6));
    let still_runs = child.try_wait().expect("the child is ours").is_none();
    let code = terminate(&mut child);
    assert!(line.is_some_and(|line| line.contains("127.0.0.1:1")));
    assert!(still_runs, "it keeps trying");
    assert_eq!(code, Some(0), "a terminated job ends with 0");
}

#[test]
fn an_object_store_that_is_down_is_named() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let file = work.path().join("job.sql");
    fs::write(&file, "SET 'execution.checkpointing.dir' = 's3://nowhere/checkpoints';\n".to_string() + LAKE).expect("writable");
    let mut command = thalweg();
    command.arg("run").arg(&file).envs([
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "canary-of-the-store"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ALLOW_HTTP", "true"),
    ]);
    let (mut child, line) = start_and_listen(command, "nowhere", Duration::from_secs(5));
    let status = wait_within(&mut child, Duration::from_secs(90)).expect("it gives up");
    let line = line.expect("within 5 s it says what it cannot reach");
    assert!(line.contains("connecting: still opening the checkpoints in s3://nowhere/checkpoints"), "{line}");
    assert_eq!(status.code(), Some(1));
}

/// A sink that is away does not keep the job from ending when it is told to.
#[test]
fn a_blocked_delivery_ends_when_told_to() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let file = work.path().join("job.sql");
    fs::write(&file, LAKE).expect("the folder can be written");
    let mut command = thalweg();
    command.arg("run").arg(&file).arg("--checkpoint-dir").arg(work.path().join("checkpoints")).envs([
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ]);
    let (mut child, line) = start_and_listen(command, "delivery blocked", Duration::from_secs(20));
    let code = terminate(&mut child);
    let line = line.expect("it says that it cannot write");
    assert!(line.contains("cannot write \"s3://nowhere/lake/") && line.contains("http://127.0.0.1:1"), "{line}");
    assert_eq!(code, Some(0), "what was committed is safe: the next run delivers it");
}

const LAKE: &str = "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '10');
CREATE TABLE lake (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 's3://nowhere/lake', 'format' = 'parquet');
INSERT INTO lake SELECT n FROM numbers;";

#[test]
fn a_missing_bucket_is_named() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let file = work.path().join("job.sql");
    fs::write(&file, LAKE).expect("the folder can be written");
    let checkpoints = work.path().join("checkpoints");
    let mut command = thalweg();
    command.arg("run").arg(&file).arg("--checkpoint-dir").arg(&checkpoints).envs(s3().environment());
    let outcome = run_within(&mut command, Duration::from_secs(60)).expect_code(2);
    expect_words(&outcome, &["cannot write \"s3://nowhere/lake/", "NoSuchBucket", "check the name of the bucket"]);
    assert!(!outcome.stderr.contains("<Error>"), "{}", outcome.stderr);
    let mut command = thalweg();
    command.arg("run").arg(&file).args(["--checkpoint-dir", "s3://nowhere/checkpoints"]).envs(s3().environment());
    let outcome = run_within(&mut command, Duration::from_secs(60)).expect_code(2);
    expect_words(&outcome, &["NoSuchBucket", "create the bucket, or correct its name"]);
    assert!(!outcome.stderr.contains("<Error>"), "{}", outcome.stderr);
}

#[test]
fn a_missing_folder_is_named() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let sql = format!(
        "CREATE TABLE lines (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}/nosuch', 'format' = 'json');
SELECT n FROM lines;",
        work.path().display()
    );
    let outcome = run_sql(work.path(), &sql, &[]);
    assert!(matches!(outcome.code, Some(1 | 2)), "{outcome:?}");
    expect_words(&outcome, &["nosuch"]);
}

#[test]
fn an_undecodable_record_stops_the_job_and_is_shown() {
    let good: &[u8] = br#"{"id": 1, "name": "a", "at": "2026-01-01 00:00:00"}"#;
    let check = |bad: &[u8], words: &[&str]| {
        let outcome = run_over(&[good, bad], "", SELECT).expect_code(1);
        expect_words(&outcome, &["topic events partition 0 offset 1"]);
        expect_words(&outcome, words);
    };
    check(br#"{"id": "seven", "name": "b", "at": "2026-01-01 00:00:01"}"#, &["\"id\"", "seven"]);
    check(br#"{"id": 2, "name": "b", "at": "yesterday"}"#, &["\"at\"", "yesterday"]);
    check(br#"{"id": 2, "name": "b", "at""#, &["name"]);
    check(b"not json at all", &["not json at all"]);
    check(br#"{"id": 99999999999999999999, "name": "b", "at": "2026-01-01 00:00:01"}"#, &["\"id\"", "99999999999999999999"]);
    check(b"[1, 2]", &["1 is not a JSON object"]);
    check(b"{\"id\": 2, \"name\": \"\xff\xfe\", \"at\": \"2026-01-01 00:00:01\"}", &["UTF-8"]);
}

#[test]
fn undecodable_records_can_be_skipped_and_are_counted() {
    let values: &[&[u8]] = &[
        br#"{"id": 1, "name": "a", "at": "2026-01-01 00:00:00"}"#,
        b"not json at all",
        br#"{"id": 2, "name": "b", "at": "2026-01-01 00:00:01"}"#,
        b"{\"id\": ",
        br#"{"id": 3, "name": "c", "at": "2026-01-01 00:00:02"}"#,
    ];
    let outcome = run_over(values, ",\n  'json.ignore-parse-errors' = 'true'", SELECT).expect_code(0);
    assert_eq!(outcome.rows(), [r#"{"id":1,"name":"a"}"#, r#"{"id":2,"name":"b"}"#, r#"{"id":3,"name":"c"}"#]);
    expect_words(&outcome, &["skipped 2 records of events"]);
}

#[test]
fn monstrous_records_are_refused() {
    let deep = [b"{\"id\": 1, \"name\": ".to_vec(), b"[".repeat(100_000), b"]".repeat(100_000), b"}".to_vec()].concat();
    let outcome = run_over(&[&deep], "", SELECT);
    assert!(matches!(outcome.code, Some(0 | 1)), "exit code {:?}", outcome.code);
    assert!(!outcome.stderr.contains("panicked") && outcome.stderr.len() < 4_000, "{}", outcome.stderr);
    // Deep where nobody looks.
    let hidden = [b"{\"id\": 1, \"other\": ".to_vec(), b"{\"a\":".repeat(100_000)].concat();
    let outcome = run_over(&[&hidden], "", SELECT).expect_code(1);
    expect_words(&outcome, &["offset 0"]);
    assert!(outcome.stderr.len() < 4_000, "{}", outcome.stderr);
    let long = [b"{\"id\": 1, \"name\": \"".to_vec(), b"x".repeat(64 << 20), b"\"}".to_vec()].concat();
    let outcome = run_over(&[&long], "", "SELECT id, CHAR_LENGTH(name) AS length FROM events;");
    assert!(matches!(outcome.code, Some(0 | 1)), "exit code {:?}", outcome.code);
    assert!(!outcome.stderr.contains("panicked") && outcome.stderr.len() < 4_000, "{}", outcome.stderr);
}

#[test]
fn a_null_event_time_is_named() {
    let values: &[&[u8]] = &[br#"{"id": 1, "name": "a", "at": "2026-01-01 00:00:00"}"#, br#"{"id": 2, "name": "b", "at": null}"#];
    let query = "SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(at), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;";
    let outcome = run_over(values, ", 'scan.bounded.mode' = 'latest-offset'", query);
    assert!(matches!(outcome.code, Some(1)), "{outcome:?}");
    expect_words(&outcome, &["at", "null"]);
}

#[test]
fn an_overflow_is_an_error_with_its_place() {
    let values: &[&[u8]] = &[br#"{"id": 9223372036854775807, "name": "a", "at": "2026-01-01 00:00:00"}"#];
    let outcome = run_over(values, "", "SELECT id + 1 AS next FROM events;").expect_code(1);
    expect_words(&outcome, &["overflow of BIGINT", "row: id = 9223372036854775807"]);
}

/// A secret comes in by the environment and goes nowhere else.
#[test]
fn secrets_are_never_shown() {
    let canary = "canary-7f3a9";
    let work = tempfile::tempdir().expect("a folder can be made");
    append(work.path(), "events", &[br#"{"id": 1, "name": "a", "at": "2026-01-01 00:00:00"}"#]);
    let more = ",
  'properties.sasl.mechanism' = 'PLAIN',
  'properties.sasl.username' = 'me',
  'properties.sasl.password' = '${ENV:CANARY}',
  'properties.client.id' = 'id-${ENV:CANARY}'";
    let declarations = format!(
        "{}CREATE TABLE output (id BIGINT) WITH (
  'connector' = 'kafka', 'topic' = 'output', 'properties.bootstrap.servers' = 'b:1', 'format' = 'json',
  'properties.sasl.password' = '${{ENV:CANARY}}'
);
SET 'execution.checkpointing.dir' = '{}/checkpoints-${{ENV:NOTHING_SECRET}}';
",
        events("events", "localhost:9092", more),
        work.path().display()
    );
    let scripts = [
        ("shows", format!("{declarations}SHOW CREATE TABLE events; SHOW CREATE TABLE output; SET; DESCRIBE events;"), Some(0)),
        ("insert", format!("{declarations}INSERT INTO output SELECT id FROM events;"), Some(0)),
        ("explain", format!("{declarations}EXPLAIN INSERT INTO output SELECT id FROM events;"), Some(0)),
        ("wrong", format!("{}SELECT nope FROM events;", declarations.replace("'PLAIN'", "'${ENV:CANARY}'")), Some(2)),
        ("option", declarations.replace("'earliest-offset'", "'${ENV:CANARY}'"), Some(2)),
        ("connector", declarations.replace("'connector' = 'kafka',\n", "'connector' = '${ENV:CANARY}',\n"), Some(2)),
        ("format", declarations.replace("'format' = 'json',\n", "'format' = '${ENV:CANARY}',\n"), Some(2)),
        ("topic", format!("{}{SELECT}", declarations.replace("'topic' = 'events'", "'topic' = '${ENV:CANARY}'")), Some(2)),
        ("setting", format!("{declarations}SET 'parallelism.default' = '${{ENV:CANARY}}';"), Some(2)),
        ("select", format!("{declarations}SELECT '${{ENV:CANARY}}';"), Some(2)),
        ("broken", format!("{declarations}SELEC '${{ENV:CANARY}}';"), Some(2)),
    ];
    for (name, sql, code) in scripts {
        let file = work.path().join(format!("{name}.sql"));
        fs::write(&file, sql).expect("the folder can be written");
        for command in ["run", "check", "explain"] {
            let mut program = thalweg();
            program.arg(command).arg(&file).env("CANARY", canary).env("NOTHING_SECRET", "here").env("RUST_LOG", "debug");
            program.arg("--embedded").arg(work.path());
            if command == "run" {
                program.arg("--until-caught-up");
            }
            let outcome = run_within(&mut program, Duration::from_secs(60));
            let all = format!("{}{}", outcome.stdout, outcome.stderr);
            assert!(!all.contains(canary), "{command} {name} shows the secret:\n{all}");
            if command == "run" {
                assert_eq!(outcome.code, code, "{name}: {all}");
            }
        }
    }
    assert!(!holds(work.path(), canary), "a file below the folder holds the secret");
    assert!(work.path().join("checkpoints-here").exists(), "checkpoints were written");
}

/// Whether any file below `folder` holds `text`.
fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).expect("readable").any(|entry| {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = fs::read(&path).expect("readable");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn a_slow_end_is_not_needed_for_a_broken_file() {
    let start = Instant::now();
    let work = tempfile::tempdir().expect("a folder can be made");
    fs::write(work.path().join("latin1.sql"), b"SELECT '\xe9';").expect("the folder can be written");
    let outcome = run_within(thalweg().current_dir(work.path()).args(["check", "latin1.sql"]), Duration::from_secs(10));
    expect_words(&outcome.expect_code(2), &["latin1.sql", "UTF-8"]);
    assert!(start.elapsed() < Duration::from_secs(5));
}

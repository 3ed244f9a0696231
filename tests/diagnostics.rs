//! What is said about wrong files. Each `tests/diagnostics/<name>.sql` is wrong, `<name>.txt` is what `check` says about it.
//!
//! `BLESS=1 cargo test` rewrites the expectations; read them as their readers will.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::house::root;
use crate::support::{Outcome, run_within, thalweg};

fn folder() -> PathBuf {
    root().join("tests/diagnostics")
}

/// Runs a command in the folder of the wrong files, so that they have short names.
fn run_here(arguments: &[&str]) -> Outcome {
    run_within(thalweg().current_dir(folder()).env_remove("NO_SUCH_BROKERS").args(arguments), Duration::from_secs(30))
}

/// Compares with a file of this folder, or rewrites it.
fn expect_text(file: &str, found: &str) -> Result<(), String> {
    let path = folder().join(file);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, found).expect("the folder can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected == found { Ok(()) } else { Err(format!("{file}: expected\n{expected}\nfound\n{found}")) }
}

#[test]
fn wrong_files_are_explained() {
    let mut names: Vec<String> = fs::read_dir(folder())
        .expect("the folder exists")
        .filter_map(|entry| entry.expect("readable").file_name().into_string().ok()?.strip_suffix(".sql").map(str::to_string))
        .collect();
    names.sort();
    assert!(names.len() >= 20, "only {} wrong files", names.len());
    let mut wrong = vec![];
    for name in &names {
        let outcome = run_here(&["check", &format!("{name}.sql")]);
        if outcome.code != Some(2) || !outcome.stdout.is_empty() {
            wrong.push(format!("{name}.sql: exit code {:?}, stdout {:?}", outcome.code, outcome.stdout));
        }
        wrong.extend(expect_text(&format!("{name}.txt"), &outcome.stderr).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn run_says_the_same_and_starts_nothing() {
    for name in ["unknown_column", "unknown_option", "insert_type_mismatch", "plain_group_by", "syntax_error"] {
        let file = format!("{name}.sql");
        let checked = run_here(&["check", &file]).expect_code(2);
        let run = run_here(&["run", &file]).expect_code(2);
        assert_eq!(run.stderr, checked.stderr, "{name}");
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn exactly_once_needs_a_checkpoint_directory() {
    let sql = fs::read_to_string(root().join("sql-examples/revenue_per_minute.sql")).expect("the example exists");
    let work = tempfile::tempdir().expect("a folder can be made");
    fs::write(work.path().join("revenue.sql"), sql).expect("the folder can be written");
    let outcome =
        run_within(thalweg().current_dir(work.path()).args(["run", "revenue.sql"]), Duration::from_secs(30)).expect_code(2);
    expect_text("exactly_once_without_checkpoints.txt", &outcome.stderr).unwrap();
}

/// SQL that is meant to break the parser: an error within a second or so, never an abort.
#[test]
fn monstrous_statements_are_refused() {
    let work = tempfile::tempdir().expect("a folder can be made");
    let monsters = [
        ("operators", format!("SELECT {};", vec!["1"; 2_001].join(" + "))),
        ("conditions", format!("SELECT 1 WHERE {};", vec!["1 = 1"; 2_001].join(" OR "))),
        ("parentheses", format!("SELECT {}1{};", "(".repeat(100_000), ")".repeat(100_000))),
        ("some_parentheses", format!("SELECT {}1{};", "(".repeat(5_000), ")".repeat(5_000))),
        ("subqueries", format!("SELECT * FROM {}SELECT 1{};", "(SELECT * FROM ".repeat(2_000) + "(", ")".repeat(2_001))),
        ("case", format!("SELECT {}1{};", "CASE WHEN TRUE THEN ".repeat(3_000), " END".repeat(3_000))),
        ("not", format!("SELECT {} TRUE;", "NOT ".repeat(20_000))),
        ("minus", format!("SELECT {} 1;", "- ".repeat(20_000))),
        ("types", format!("CREATE TABLE t (a {}INT{}) WITH ('connector' = 'print');", "ARRAY<".repeat(3_000), ">".repeat(3_000))),
        ("calls", format!("SELECT {}'a'{};", "UPPER(".repeat(3_000), ")".repeat(3_000))),
        ("opened", "(".repeat(50_000)),
    ];
    for (name, sql) in monsters {
        let file = format!("{name}.sql");
        fs::write(work.path().join(&file), sql).expect("the folder can be written");
        let start = Instant::now();
        let outcome =
            run_within(thalweg().current_dir(work.path()).args(["check", &file]), Duration::from_secs(30)).expect_code(2);
        assert!(start.elapsed() < Duration::from_secs(10), "{name} took {:?}", start.elapsed());
        assert!(
            outcome.stderr.starts_with("error[TW0003]") || outcome.stderr.starts_with("error[TW0001]"),
            "{name}: {}",
            outcome.stderr
        );
        assert!(outcome.stderr.len() < 2_000, "{name}: what is said is short: {}", outcome.stderr);
    }
}

#[test]
fn findings_as_json() {
    let outcome = run_here(&["check", "--format", "json", "unknown_column.sql", "hop_not_multiple.sql"]).expect_code(2);
    let findings: Vec<Value> =
        outcome.stderr.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    assert_eq!(findings.len(), 2);
    assert_eq!(findings[0]["code"], "TW0102");
    assert_eq!(findings[0]["severity"], "error");
    assert_eq!(findings[0]["file"], "unknown_column.sql");
    assert_eq!(findings[0]["message"], "unknown column \"usr_id\"");
    assert_eq!(findings[0]["help"], "did you mean \"user_id\"?");
    assert_eq!(findings[0]["labels"][0]["span"]["start"], serde_json::json!({ "line": 15, "column": 8 }));
    assert_eq!(findings[0]["labels"][0]["span"]["end"], serde_json::json!({ "line": 15, "column": 14 }));
    assert_eq!(findings[1]["code"], "TW0203");
}

#[test]
fn codes_are_explained() {
    let page = fs::read_to_string(root().join("docs/errors/TW0203.md")).expect("the page exists");
    for spelling in ["TW0203", "tw0203"] {
        let outcome = run_here(&["explain", spelling]).expect_code(0);
        assert_eq!(outcome.stdout.trim_end(), page.trim_end());
    }
    let outcome = run_here(&["explain", "TW9999"]).expect_code(2);
    assert!(outcome.stderr.contains("there is no error code TW9999"), "{}", outcome.stderr);
}

#[test]
fn plans_are_explained() {
    let examples = root().join("sql-examples");
    let explained =
        run_within(thalweg().current_dir(&examples).args(["explain", "revenue_per_minute.sql"]), Duration::from_secs(30));
    expect_text("explain_revenue_per_minute.txt", &explained.expect_code(0).stdout).unwrap();
}

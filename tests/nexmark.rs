//! Nexmark's queries over generated events, some of them late, against what Apache Flink 2.3.0 answered.
//!
//! `tests/nexmark/events` holds the events, `tests/nexmark/q*.jsonl` Flink's answers as `record.py` beside them wrote them: the
//! rows that are left when the input has ended. `tests/nexmark/q*.plan` are our plans; `BLESS=1` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use thalweg_connectors::REGISTRY;
use thalweg_core::{Diagnostic, ManualClock, SourceText};
use thalweg_plan::Plan;
use thalweg_sql::{NoVariables, Outcome, Session, StreamPlanner, parse_script};

use crate::conformance::canonical;
use crate::house::root;
use crate::support::{run_within, thalweg};

/// Every query of which Flink has an answer, but for those that have a test of their own below.
const QUERIES: &[&str] = &[
    "q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q9", "q11", "q14", "q15", "q16", "q17", "q18", "q19", "q20", "q21", "q22",
    "q23",
];

fn data() -> PathBuf {
    root().join("tests/nexmark")
}

fn sql(file: &str) -> PathBuf {
    root().join("sql-examples/nexmark").join(format!("{file}.sql"))
}

/// What a query printed, line by line.
fn run(query: &str, lake: &Path, parallelism: u32) -> Vec<String> {
    let mut command = thalweg();
    command.arg("run").args([sql("tables"), sql(query)]).arg("--parallelism").arg(parallelism.to_string());
    for (name, value) in [
        ("NEXMARK_EVENTS", data().join("events")),
        ("NEXMARK_SIDE_INPUT", data().join("side_input")),
        ("NEXMARK_LAKE", lake.into()),
    ] {
        command.arg("--var").arg(format!("{name}={}", value.display()));
    }
    run_within(&mut command, Duration::from_secs(60)).expect_code(0).rows()
}

/// Rows with how often they are left, after a changelog or a plain list of rows.
fn left<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, i64> {
    let mut left = BTreeMap::new();
    for line in lines {
        let (sign, row) = match line.strip_prefix("{\"op\":\"") {
            Some(rest) => (if rest.starts_with('+') { 1 } else { -1 }, format!("{{{}", &rest[4..])),
            None => (1, line.to_string()),
        };
        *left.entry(canonical(&row).expect("rows are JSON")).or_default() += sign;
    }
    left.retain(|_, count| *count != 0);
    left
}

/// What differs, a few lines of it.
fn difference(expected: &BTreeMap<String, i64>, got: &BTreeMap<String, i64>) -> Option<String> {
    let mut lines = vec![];
    for (row, wanted) in expected {
        let found = got.get(row).copied().unwrap_or(0);
        if found != *wanted {
            lines.push(format!("  {found} times in place of {wanted}: {row}"));
        }
    }
    lines.extend(
        got.iter()
            .filter(|(row, _)| !expected.contains_key(*row))
            .map(|(row, found)| format!("  {found} times in place of 0: {row}")),
    );
    let count = lines.len();
    lines.truncate(8);
    (count > 0).then(|| format!("{count} rows differ\n{}", lines.join("\n")))
}

fn recorded(query: &str) -> BTreeMap<String, i64> {
    let text = fs::read_to_string(data().join(format!("{query}.jsonl"))).expect("the answer was recorded");
    left(text.lines())
}

#[test]
fn answers_are_those_of_flink() {
    let nowhere = tempfile::tempdir().expect("a folder can be made");
    let mut wrong = vec![];
    for query in QUERIES {
        for parallelism in [1, 3] {
            let got = run(query, nowhere.path(), parallelism);
            if let Some(text) = difference(&recorded(query), &left(got.iter().map(String::as_str))) {
                wrong.push(format!("{query} in {parallelism} lanes: {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// q6, which Flink refuses: worked out from its answer to q9, the winning bid of each auction.
#[test]
fn sellers_have_the_average_of_their_last_ten_auctions() {
    let text = fs::read_to_string(data().join("q9.jsonl")).expect("the answer was recorded");
    let mut of_seller: BTreeMap<i64, Vec<(String, i64, i64)>> = BTreeMap::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("rows are JSON");
        let number = |column: &str| row[column].as_i64().expect("a number");
        // Fractions of a second have no zeros at their ends: as text with them the order is that of time.
        let expires = format!("{:0<23}", row["expires"].as_str().expect("a time").replace(' ', "T"));
        of_seller.entry(number("seller")).or_default().push((expires, number("id"), number("price")));
    }
    let mut expected = vec![];
    for (seller, mut auctions) in of_seller {
        auctions.sort();
        for (index, (_, id, _)) in auctions.iter().enumerate() {
            let last = &auctions[index.saturating_sub(9)..=index];
            let average = last.iter().map(|(_, _, price)| price).sum::<i64>() / last.len() as i64;
            expected.push(format!("{{\"seller\":{seller},\"id\":{id},\"final\":{average}}}"));
        }
    }
    let nowhere = tempfile::tempdir().expect("a folder can be made");
    let got = run("q6", nowhere.path(), 2);
    let expected = left(expected.iter().map(String::as_str));
    assert_eq!(difference(&expected, &left(got.iter().map(String::as_str))), None);
}

/// q12: which window a bid falls into is up to the clock; all windows together hold each once.
#[test]
fn windows_of_the_clock_hold_every_bid_once() {
    let nowhere = tempfile::tempdir().expect("a folder can be made");
    let of_bidder = |lines: Vec<String>, count: &dyn Fn(&Value) -> i64| {
        let mut bids: BTreeMap<i64, i64> = BTreeMap::new();
        for line in lines {
            let row: Value = serde_json::from_str(&line).expect("rows are JSON");
            *bids.entry(row["bidder"].as_i64().expect("a number")).or_default() += count(&row);
        }
        bids
    };
    let counted = |row: &Value| row["bid_count"].as_i64().expect("a number");
    let bids = of_bidder(run("q0", nowhere.path(), 2), &|_| 1);
    assert!(bids.len() > 1);
    assert_eq!(of_bidder(run("q12", nowhere.path(), 2), &counted), bids);
}

/// q10: the columns of PARTITIONED BY are in the names of the folders, all others in the files.
#[test]
fn the_lake_holds_every_bid_once() {
    let lake = tempfile::tempdir().expect("a folder can be made");
    assert!(run("q10", lake.path(), 2).is_empty());
    let mut rows = vec![];
    for day in folders(lake.path(), "dt=") {
        for minute in folders(&day, "hm=") {
            for file in fs::read_dir(&minute).expect("readable").map(|entry| entry.expect("readable").path()) {
                let text = fs::read_to_string(&file).expect("files of the lake are text");
                for line in text.lines() {
                    let mut row: Map<String, Value> = serde_json::from_str(line).expect("rows are JSON");
                    row.insert("dt".to_string(), value_of(&day, "dt="));
                    row.insert("hm".to_string(), value_of(&minute, "hm="));
                    rows.push(Value::Object(row).to_string());
                }
            }
        }
    }
    let text = fs::read_to_string(data().join("q10.jsonl")).expect("the answer was recorded");
    let in_one_order = |line: &str| serde_json::from_str::<Value>(line).expect("rows are JSON").to_string();
    let expected: Vec<String> = text.lines().map(in_one_order).collect();
    assert_eq!(difference(&left(expected.iter().map(String::as_str)), &left(rows.iter().map(String::as_str))), None);
}

fn folders(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).expect("the folder exists").map(|entry| entry.expect("readable").path());
    entries.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).collect()
}

fn value_of(folder: &Path, prefix: &str) -> Value {
    let name = folder.file_name().expect("folders have names").to_string_lossy().into_owned();
    // A colon may stand as it is, or escaped as Hive does.
    name.trim_start_matches(prefix).replace("%3A", ":").into()
}

/// The plan of a query, as it is made from the files.
fn plan(query: &str) -> Result<Plan, Vec<Diagnostic>> {
    let mut session = Session::new(REGISTRY, Arc::new(StreamPlanner { clock: Arc::new(ManualClock::default()) }));
    let text = [sql("tables"), sql(query)].map(|file| fs::read_to_string(file).expect("the example exists")).concat();
    let text = ["NEXMARK_EVENTS", "NEXMARK_SIDE_INPUT", "NEXMARK_LAKE"]
        .into_iter()
        .fold(text, |text, name| text.replace(&format!("${{{name}}}"), "/data"));
    let mut inserts = vec![];
    for statement in &parse_script(&SourceText::new("nexmark.sql", text), &NoVariables)? {
        match session.execute(statement)? {
            Outcome::Query(plan) => return Ok(*plan),
            Outcome::Inserts(more) => inserts.extend(more),
            _ => {}
        }
    }
    session.plan_inserts(&inserts)
}

#[test]
fn plans_are_the_ones_an_expert_would_want() {
    let mut wrong = vec![];
    for query in QUERIES.iter().chain(&["q6", "q10", "q12", "q13"]) {
        let got = match plan(query) {
            Ok(plan) => plan.explain(),
            Err(findings) => findings.iter().map(Diagnostic::render).collect(),
        };
        let file = data().join(format!("{query}.plan"));
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if got.trim_end() == expected.trim_end() {
            continue;
        }
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, got.trim_end().to_string() + "\n").expect("the snapshot can be written");
        } else {
            wrong.push(format!("{}: BLESS=1 writes it anew; expected\n{expected}got\n{got}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

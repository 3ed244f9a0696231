//! Recorded answers of Apache Flink 2.3.0, run as tests. The cases are data in `tests/conformance/<area>/<name>.case`.
//!
//! A case holds SQL, the lines of its inputs, what Flink answered, and the rule under which two answers count as equal.
//! Cases on which we differ on purpose are listed in `docs/flink-differences.md` under "Recorded cases", with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::house::root;
use crate::support::{run_within, thalweg};

struct Case {
    name: String,
    compare: String,
    sql: String,
    inputs: BTreeMap<String, String>,
    flink: Vec<String>,
}

fn load(path: &Path, name: String) -> Case {
    let text = fs::read_to_string(path).expect("cases can be read");
    let mut case = Case { name, compare: String::new(), sql: String::new(), inputs: BTreeMap::new(), flink: vec![] };
    let mut section = String::new();
    for line in text.trim_end_matches('\n').split('\n') {
        if let Some(next) = line.strip_prefix("== ") {
            section = next.trim().to_string();
            if let Some(input) = section.strip_prefix("input ") {
                case.inputs.insert(input.to_string(), String::new());
            }
            continue;
        }
        match section.as_str() {
            "" => {
                if let Some(rule) = line.strip_prefix("# compare: ") {
                    case.compare = rule.trim().to_string();
                }
            }
            "sql" => {
                case.sql.push_str(line);
                case.sql.push('\n');
            }
            "flink" => case.flink.push(line.to_string()),
            input => {
                let lines = case.inputs.get_mut(input.trim_start_matches("input ")).expect("the section was opened");
                lines.push_str(line);
                lines.push('\n');
            }
        }
    }
    case
}

fn cases(area: &str) -> Vec<Case> {
    let folder = root().join("tests/conformance").join(area);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|_| panic!("{} exists", folder.display()))
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| load(path, format!("{area}/{}", path.file_stem().expect("cases have names").to_string_lossy())))
        .collect()
}

/// Writes the inputs, one file each, and returns the script with `${INPUT:t}` replaced.
fn script(case: &Case, folder: &Path) -> String {
    let pattern = regex::Regex::new(r"\$\{INPUT:([A-Za-z0-9_]+)\}").expect("the pattern is right");
    pattern
        .replace_all(&case.sql, |found: &regex::Captures<'_>| {
            let input = folder.join("in").join(&found[1]);
            fs::create_dir_all(&input).expect("the folder can be made");
            if let Some(lines) = case.inputs.get(&found[1]) {
                fs::write(input.join("rows"), lines).expect("the folder can be written");
            }
            format!("file://{}", input.display())
        })
        .into_owned()
}

/// One text for equal rows: columns in order, keys of nested objects sorted, numbers by value.
pub fn canonical(line: &str) -> Result<String, String> {
    Ok(joined(canonical_columns(line)?.iter()))
}

fn joined<'a>(columns: impl Iterator<Item = &'a (String, String)>) -> String {
    columns.map(|(column, value)| format!("{column:?}:{value}")).collect::<Vec<_>>().join(",")
}

/// Names and values.
fn canonical_columns(line: &str) -> Result<Vec<(String, String)>, String> {
    let text = canonical_numbers(line);
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("{line}: {error}"))?;
    let Value::Object(row) = &value else { return Err(format!("not an object: {line}")) };
    let mut order = columns_in_order(&text);
    order.retain(|column| row.contains_key(column));
    Ok(order.into_iter().map(|column| (column.clone(), row[&column].to_string())).collect())
}

/// The keys of a JSON object in the order of the text (serde_json's map sorts them).
fn columns_in_order(text: &str) -> Vec<String> {
    let mut columns = vec![];
    let (mut depth, mut chars, mut expect_key) = (0, text.char_indices().peekable(), false);
    while let Some((start, c)) = chars.next() {
        match c {
            '{' | '[' => {
                depth += 1;
                expect_key = depth == 1;
            }
            '}' | ']' => depth -= 1,
            ',' if depth == 1 => expect_key = true,
            '"' => {
                let mut end = start;
                let mut escaped = false;
                for (at, c) in chars.by_ref() {
                    if c == '"' && !escaped {
                        end = at;
                        break;
                    }
                    escaped = c == '\\' && !escaped;
                }
                if depth == 1 && expect_key {
                    columns.push(serde_json::from_str(&text[start..=end]).expect("a key is a string"));
                    expect_key = false;
                }
            }
            _ => {}
        }
    }
    columns
}

/// Every number outside strings becomes a string that is equal for equal values: sign, digits without zeros at the ends,
/// exponent. `-0.0` is not `0.0`.
fn canonical_numbers(line: &str) -> String {
    let mut out = String::new();
    let bytes = line.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let start = at;
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
                out.push_str(&line[start..at]);
            }
            b'-' | b'0'..=b'9' => {
                let start = at;
                while at < bytes.len() && matches!(bytes[at], b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') {
                    at += 1;
                }
                out.push_str(&format!("{{\"number\":\"{}\"}}", canonical_number(&line[start..at])));
            }
            _ => {
                let start = at;
                at += 1;
                while !line.is_char_boundary(at) {
                    at += 1;
                }
                out.push_str(&line[start..at]);
            }
        }
    }
    out
}

fn canonical_number(text: &str) -> String {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let mut exponent: i64 = exponent.parse().expect("an exponent is a number");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    exponent -= i64::try_from(fraction.len()).expect("fractions are short");
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_start_matches('0').trim_end_matches('0');
    exponent += i64::try_from(digits.len() - digits.trim_end_matches('0').len()).expect("numbers are short");
    if trimmed.is_empty() { format!("{sign}0") } else { format!("{sign}{trimmed}e{exponent}") }
}

/// What two results must share under a rule. `final`: the rows left when the changelog has been applied; `final(k1,k2)`: the
/// same, each key holding its last row, so that a stream without -U counts too; `final()`: one row in all.
fn result_key(lines: &[String], compare: &str) -> Result<Vec<String>, String> {
    let final_keys = compare.strip_prefix("final").map(|rest| {
        let keys = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        keys.map(|keys| keys.split(',').map(str::trim).filter(|key| !key.is_empty()).collect::<Vec<_>>())
    });
    if let Some(keys) = final_keys {
        return rows_left(lines, keys.as_deref());
    }
    let mut rows = lines.iter().map(|line| canonical(line)).collect::<Result<Vec<_>, _>>()?;
    match compare {
        "ordered" => {}
        "multiset" => rows.sort(),
        other => return Err(format!("compare rule {other} is not needed yet")),
    }
    Ok(rows)
}

/// The rows of a changelog that are left at its end, sorted.
fn rows_left(lines: &[String], keys: Option<&[&str]>) -> Result<Vec<String>, String> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let mut table: BTreeMap<String, String> = BTreeMap::new();
    for line in lines {
        let columns = canonical_columns(line)?;
        // An append-only result has no op: it only adds.
        let op = columns.first().filter(|(column, _)| column == "op");
        let is_new = op.is_none_or(|op| op.1.starts_with("\"+"));
        let row = joined(columns.iter().skip(usize::from(op.is_some())));
        match keys {
            None => *counts.entry(row).or_default() += if is_new { 1 } else { -1 },
            Some(keys) => {
                let key = joined(columns.iter().filter(|(column, _)| keys.contains(&column.as_str())));
                if is_new {
                    table.insert(key, row);
                } else if table.get(&key) == Some(&row) {
                    table.remove(&key);
                }
            }
        }
    }
    if keys.is_some() {
        let mut rows: Vec<String> = table.into_values().collect();
        rows.sort();
        return Ok(rows);
    }
    if let Some((row, _)) = counts.iter().find(|(_, count)| **count < 0) {
        return Err(format!("a row is taken back that was never there: {row}"));
    }
    Ok(counts.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row, usize::try_from(count).unwrap_or(0))).collect())
}

/// `Err` says how the program's answer differs.
fn check(case: &Case) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("case.sql");
    fs::write(&file, script(case, folder.path())).expect("the folder can be written");
    let mut command = thalweg();
    command.arg("run").arg(&file);
    if case.compare == "ordered" {
        // Flink's order was recorded with one lane; there is none between the rows of several.
        command.args(["--parallelism", "1"]);
    }
    let outcome = run_within(&mut command, Duration::from_secs(60));
    if case.compare == "error" {
        let plan = case.flink.first().is_some_and(|line| line.starts_with("{\"error\":\"plan\""));
        let expected = if plan { 2 } else { 1 };
        return if outcome.code == Some(expected) {
            Ok(())
        } else {
            Err(format!("expected exit code {expected}, got {:?}\n{}{}", outcome.code, outcome.stderr, outcome.stdout))
        };
    }
    if outcome.code != Some(0) {
        return Err(format!("exit code {:?}\n{}", outcome.code, outcome.stderr));
    }
    let (ours, flinks) = (result_key(&outcome.rows(), &case.compare)?, result_key(&case.flink, &case.compare)?);
    if ours == flinks {
        Ok(())
    } else {
        Err(format!("Flink gave\n  {}\nwe gave\n  {}", case.flink.join("\n  "), outcome.rows().join("\n  ")))
    }
}

/// Cases that `docs/flink-differences.md` lists as different on purpose.
fn listed_differences() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/flink-differences.md")).expect("docs/flink-differences.md exists");
    let part = text.split("## Recorded cases").nth(1).expect("it has a part \"Recorded cases\"");
    part.lines()
        .filter_map(|line| line.strip_prefix("- `"))
        .filter_map(|line| line.split('`').next())
        .map(str::to_string)
        .collect()
}

fn check_area(area: &str) {
    let listed = listed_differences();
    let all = cases(area);
    assert!(!all.is_empty(), "area {area} has cases");
    let mut wrong = vec![];
    for case in &all {
        match (check(case), listed.contains(&case.name)) {
            (Ok(()), true) => wrong.push(format!("{} is equal now: take it off docs/flink-differences.md", case.name)),
            (Err(difference), false) => wrong.push(format!("{}: {difference}", case.name)),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases of {area} are wrong:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

#[test]
fn window_tumble() {
    check_area("window-tumble");
}

#[test]
fn window_hop() {
    check_area("window-hop");
}

#[test]
fn window_cumulate() {
    check_area("window-cumulate");
}

#[test]
fn window_session() {
    check_area("window-session");
}

#[test]
fn window_legacy() {
    check_area("window-legacy");
}

#[test]
fn window_grouping_sets() {
    check_area("window-grouping-sets");
}

#[test]
fn window_cascade() {
    check_area("window-cascade");
}

#[test]
fn group_agg() {
    check_area("group-agg");
}

#[test]
fn set_operations() {
    check_area("set-operations");
}

#[test]
fn subquery_cte() {
    check_area("subquery-cte");
}

#[test]
fn dedup() {
    check_area("dedup");
}

#[test]
fn join_interval() {
    check_area("join-interval");
}

#[test]
fn join_regular() {
    check_area("join-regular");
}

#[test]
fn join_temporal() {
    check_area("join-temporal");
}

#[test]
fn over() {
    check_area("over");
}

#[test]
fn topn() {
    check_area("topn");
}

#[test]
fn unnest_lateral() {
    check_area("unnest-lateral");
}

#[test]
fn window_join() {
    check_area("window-join");
}

#[test]
fn window_topn_dedup() {
    check_area("window-topn-dedup");
}

#[test]
fn json_format() {
    check_area("json-format");
}

#[test]
fn ddl() {
    check_area("ddl");
}

#[test]
fn numbers_compare_by_value() {
    assert_eq!(canonical_number("1E+1".replace('+', "").as_str()), canonical_number("10.0"));
    assert_ne!(canonical_number("-0.0"), canonical_number("0.0"));
    assert_eq!(canonical(r#"{"b":1.50,"a":"1.50"}"#), canonical(r#"{"b":15e-1,"a":"1.50"}"#));
    assert_ne!(canonical(r#"{"b":1,"a":2}"#), canonical(r#"{"a":2,"b":1}"#), "columns have an order");
}

#[test]
fn changelogs_compare_by_what_is_left() {
    let lines = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect::<Vec<_>>();
    let detour = lines(&[r#"{"op":"+I","k":1,"n":1}"#, r#"{"op":"-U","k":1,"n":1}"#, r#"{"op":"+U","k":1,"n":2}"#]);
    let upserts = lines(&[r#"{"op":"+I","k":1,"n":1}"#, r#"{"op":"+U","k":1,"n":2}"#]);
    let straight = lines(&[r#"{"op":"+I","k":1,"n":2}"#]);
    assert_eq!(result_key(&detour, "final"), result_key(&straight, "final"));
    assert_ne!(result_key(&upserts, "final"), result_key(&straight, "final"));
    assert_eq!(result_key(&upserts, "final(k)"), result_key(&straight, "final(k)"));
    assert!(result_key(&lines(&[r#"{"op":"-D","k":1,"n":1}"#]), "final").is_err());
}

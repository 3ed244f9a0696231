//! Runs `.slt` files and compares.

use std::path::Path;

use regex::Regex;

use crate::pipeline::Way;
use crate::simulation::{Answer, Problem, Simulation};
use crate::slt::{Expectation, Record, parse, rewrite};

const LATE_COMMAND: &str = ".late";

/// What came of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileReport {
    pub records: usize,
    /// One text for each record that is wrong: file and line, expected, got.
    pub wrong: Vec<String>,
    /// The file with what was got in place of what was expected, if that differs and can be written.
    pub blessed: Option<String>,
}

/// Runs the records of a file in order, all of them, in one simulation. `path` is for messages.
pub fn check_file(path: &Path, text: &str, way: Way) -> FileReport {
    let records = match parse(text) {
        Ok(records) => records,
        Err((line, reason)) => {
            return FileReport { wrong: vec![format!("{}:{line}: {reason}", path.display())], ..FileReport::default() };
        }
    };
    let mut report = FileReport { records: records.len(), ..FileReport::default() };
    let mut blocks = vec![];
    let mut simulation = Simulation::new(way);
    for record in &records {
        if matches!(way, Way::Faulty { .. }) && record.sql == LATE_COMMAND {
            // A run that broke off is repeated, and its late rows are counted again.
            continue;
        }
        let got = simulation.execute(&record.sql);
        if let Err(difference) = compare(record, &got, way) {
            report.wrong.push(format!("{}:{}: {difference}", path.display(), record.line));
            if let (Some(lines), Some(block)) = (&record.block_lines, new_block(record, &got)) {
                blocks.push((lines.clone(), block));
            }
        }
    }
    let expects_failure = records.iter().any(|record| matches!(record.expectation, Expectation::Error(_)));
    match simulation.finish() {
        Err(problem) if !expects_failure => report.wrong.push(format!("{}: at its end: {problem}", path.display())),
        _ => {}
    }
    report.blessed = (!blocks.is_empty()).then(|| rewrite(text, &blocks));
    report
}

fn compare(record: &Record, got: &Result<Answer, Problem>, way: Way) -> Result<(), String> {
    match (&record.expectation, got) {
        (Expectation::Ok, Ok(Answer::Done)) => Ok(()),
        (Expectation::Ok, Ok(Answer::Lines(_))) => Err("the statement is a query: say so with query".to_string()),
        (Expectation::Ok | Expectation::Rows { .. }, Err(problem)) => {
            Err(format!("expected success, got\n{}", indented(problem.to_string().lines())))
        }
        (Expectation::Rows { .. }, Ok(Answer::Done)) => Err("the statement gives no rows: say so with statement ok".to_string()),
        (Expectation::Rows { sorted }, Ok(Answer::Lines(lines))) => {
            // Only one lane has an order that a file can know.
            let sorts = *sorted || way != Way::Straight;
            let (mut expected, mut lines) = (record.block.clone(), lines.clone());
            if sorts {
                expected.sort_unstable();
                lines.sort_unstable();
            }
            same(&expected, &lines)
        }
        (Expectation::Error(_), Ok(answer)) => Err(format!("expected an error, got {answer:?}")),
        (Expectation::Error(None), Err(problem)) => {
            same(&record.block, &problem.to_string().lines().map(str::to_string).collect::<Vec<_>>())
        }
        (Expectation::Error(Some(pattern)), Err(problem)) => match Regex::new(pattern) {
            Ok(regex) if regex.is_match(&problem.to_string()) => Ok(()),
            Ok(_) => Err(format!("expected an error like {pattern}, got\n{}", indented(problem.to_string().lines()))),
            Err(error) => Err(format!("the pattern cannot be read: {error}")),
        },
    }
}

fn same(expected: &[String], got: &[String]) -> Result<(), String> {
    if expected == got {
        return Ok(());
    }
    let lines = |lines: &[String]| indented(lines.iter().map(String::as_str));
    Err(format!("expected\n{}\n  got\n{}", lines(expected), lines(got)))
}

fn indented<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// What stands below `----` when the answer is taken as right.
fn new_block(record: &Record, got: &Result<Answer, Problem>) -> Option<Vec<String>> {
    match (&record.expectation, got) {
        (Expectation::Rows { sorted }, Ok(Answer::Lines(lines))) => {
            let mut lines = lines.clone();
            if *sorted {
                lines.sort_unstable();
            }
            Some(lines)
        }
        (Expectation::Error(None), Err(problem)) => Some(problem.to_string().lines().map(str::to_string).collect()),
        _ => None,
    }
}

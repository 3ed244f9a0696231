//! `.slt` files as records, in the shape of sqllogictest.
//!
//! ```text
//! # comment
//! statement ok
//! CREATE TABLE clicks (id INT) WITH ('connector' = 'memory')
//!
//! statement error TW0102
//! SELECT idd FROM clicks
//!
//! statement error
//! SELECT idd FROM clicks
//! ----
//! the whole rendered finding
//!
//! query rowsort
//! SELECT id, id * 2 FROM clicks
//! ----
//! 1  2
//! 2  4
//!
//! query error divided by zero
//! SELECT * FROM out
//! ```
//!
//! A record ends at an empty line. Text that begins with a dot is a command of the driver, see [`crate::Simulation::execute`].

use std::ops::Range;

/// What a record says of its SQL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expectation {
    /// It succeeds.
    Ok,
    /// It fails, and the rendered error matches the pattern; or is the block below `----`.
    Error(Option<String>),
    /// It gives the rows below `----`. `sorted` rows may come in any order.
    Rows { sorted: bool },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Line of the head, from 1.
    pub line: usize,
    pub expectation: Expectation,
    pub sql: String,
    /// The lines below `----`.
    pub block: Vec<String>,
    /// Indices of those lines in the file, for rewriting them; with `None` there is no `----`.
    pub block_lines: Option<Range<usize>>,
}

/// Reads a file.
/// # Errors
/// Line and reason of the first thing that is no record.
pub fn parse(text: &str) -> Result<Vec<Record>, (usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut records = vec![];
    let mut at = 0;
    while at < lines.len() {
        let head = lines[at].trim();
        if head.is_empty() || head.starts_with('#') {
            at += 1;
            continue;
        }
        let line = at + 1;
        let expectation = expectation(head).map_err(|reason| (line, reason))?;
        at += 1;
        let mut sql = vec![];
        while at < lines.len() && !lines[at].trim().is_empty() && lines[at] != "----" {
            sql.push(lines[at]);
            at += 1;
        }
        if sql.is_empty() {
            return Err((line, "the record has no SQL".to_string()));
        }
        let mut record = Record { line, expectation, sql: sql.join("\n"), block: vec![], block_lines: None };
        if at < lines.len() && lines[at] == "----" {
            let first = at + 1;
            at = first;
            while at < lines.len() && !lines[at].trim().is_empty() {
                record.block.push(lines[at].to_string());
                at += 1;
            }
            record.block_lines = Some(first..at);
        }
        let needs_block = matches!(record.expectation, Expectation::Rows { .. } | Expectation::Error(None));
        if needs_block != record.block_lines.is_some() {
            let reason = if needs_block { "the record needs ---- and what is expected" } else { "the record takes no ----" };
            return Err((line, reason.to_string()));
        }
        records.push(record);
    }
    Ok(records)
}

fn expectation(head: &str) -> Result<Expectation, String> {
    let (kind, rest) = head.split_once(' ').unwrap_or((head, ""));
    let rest = rest.trim();
    let error = |rest: &str| Expectation::Error(Some(rest.trim()).filter(|pattern| !pattern.is_empty()).map(str::to_string));
    match (kind, rest) {
        ("statement", "ok") => Ok(Expectation::Ok),
        ("query", "") => Ok(Expectation::Rows { sorted: false }),
        ("query", "rowsort") => Ok(Expectation::Rows { sorted: true }),
        ("statement" | "query", rest) if rest == "error" || rest.starts_with("error ") => Ok(error(&rest["error".len()..])),
        _ => Err(format!("\"{head}\" begins no record: use statement ok, statement error, query, query rowsort or query error")),
    }
}

/// The file with the blocks of some records replaced.
pub fn rewrite(text: &str, blocks: &[(Range<usize>, Vec<String>)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    let mut blocks = blocks.to_vec();
    blocks.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    for (range, block) in blocks {
        lines.splice(range, block);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_heads_sql_and_blocks() {
        let text = "# a file\nstatement ok\nCREATE\nTABLE\n\nquery rowsort\nSELECT 1\n----\n1\n2\n\nstatement error TW0102\nx\n";
        let records = parse(text).unwrap();
        assert_eq!(records.len(), 3);
        assert_eq!((records[0].line, records[0].sql.as_str()), (2, "CREATE\nTABLE"));
        assert_eq!(records[1].expectation, Expectation::Rows { sorted: true });
        assert_eq!((records[1].block.clone(), records[1].block_lines.clone()), (vec!["1".into(), "2".into()], Some(8..10)));
        assert_eq!(records[2].expectation, Expectation::Error(Some("TW0102".to_string())));
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_line() {
        for (text, line) in [("query maybe\nx\n----\n", 1), ("\nstatement ok\n", 2), ("query\nSELECT 1\n", 1)] {
            assert_eq!(parse(text).unwrap_err().0, line, "{text}");
        }
    }

    #[test]
    fn blocks_are_replaced_from_the_end() {
        let text = "query\na\n----\n1\n\nquery\nb\n----\n2\n";
        let new = rewrite(text, &[(3..4, vec!["x".into(), "y".into()]), (8..9, vec!["z".into()])]);
        assert_eq!(new, "query\na\n----\nx\ny\n\nquery\nb\n----\nz\n");
    }
}

//! The measured queries: those of `sql-examples/nexmark`, into a sink that drops their rows.

use std::path::Path;

pub struct Query {
    /// As on the command line.
    pub name: &'static str,
    pub exercises: &'static str,
    sql: &'static str,
}

const TABLES: &str = include_str!("../../sql-examples/nexmark/tables.sql");

macro_rules! nexmark {
    ($($name:literal: $exercises:literal,)*) => {
        &[
            $(Query {
                name: $name,
                exercises: $exercises,
                sql: include_str!(concat!("../../sql-examples/nexmark/", $name, ".sql")),
            },)*
            Query { name: "tumble", exercises: "windowed count per auction", sql: TUMBLE },
        ]
    };
}

pub const QUERIES: &[Query] = nexmark! {
    "q0": "read, decode, pass on",
    "q1": "decimal arithmetic",
    "q2": "selective filter",
    "q3": "join that keeps both sides",
    "q4": "join, aggregate of an aggregate, retractions",
    "q5": "sliding windows, join of windows",
    "q6": "OVER on an updating input",
    "q7": "windows joined back to rows",
    "q8": "join of two windows",
    "q9": "join, first by rank",
    "q10": "lake with partitions",
    "q11": "sessions",
    "q12": "windows by the clock",
    "q13": "lookup join",
    "q14": "calendar and text functions",
    "q15": "distinct counts, one hot group",
    "q16": "distinct counts, many groups",
    "q17": "many small groups",
    "q18": "last row of each key",
    "q19": "top ten with rank shifts",
    "q20": "wide join",
    "q21": "regular expressions",
    "q22": "splitting text",
    "q23": "join of a join",
};

const TUMBLE: &str = "\
SELECT auction, window_start, window_end, COUNT(*) AS bids
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end;
";

impl Query {
    /// A whole file: source, views, and the query as an INSERT. What a query writes or reads beside the events is in `folder`.
    pub fn script(&self, data: &Path, folder: &Path) -> String {
        let mut statements: Vec<String> = self.sql.split_inclusive(";\n").map(without_comments).collect();
        if let Some(last) = statements.last_mut().filter(|last| last.starts_with("SELECT")) {
            last.insert_str(0, "CREATE TABLE dropped WITH ('connector' = 'blackhole') AS\n");
        }
        let text = format!("{}\n{}", tables(data), statements.join("\n"));
        let lake = folder.join(format!("lake-{}", self.name));
        text.replace("'${NEXMARK_LAKE}'", &quoted(&lake)).replace("'${NEXMARK_SIDE_INPUT}'", &quoted(&folder.join("side_input")))
    }
}

/// A file whose trailing SELECT prints the number of bids in each window.
pub fn window_check_script(data: &Path) -> String {
    format!(
        "{}
SELECT window_start, window_end, COUNT(*) AS bids
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
",
        tables(data)
    )
}

/// The table of nested rows and its views.
fn tables(data: &Path) -> String {
    TABLES.replace("'${NEXMARK_EVENTS}'", &quoted(data))
}

fn without_comments(statement: &str) -> String {
    let is_sql = |line: &&str| !line.starts_with("--") && !line.is_empty();
    statement.lines().filter(is_sql).map(|line| format!("{line}\n")).collect()
}

/// A path as a SQL string.
pub fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_writes_once_and_knows_its_folders() {
        for query in QUERIES {
            let script = query.script(Path::new("/a/b"), Path::new("/c"));
            let writes = script.matches("INSERT INTO").count() + script.matches(" AS\nSELECT").count();
            // Views are written alike.
            assert_eq!(writes - script.matches("CREATE VIEW").count(), 1, "{}: {script}", query.name);
            assert!(script.contains("'path' = '/a/b'") && !script.contains("${"), "{}", query.name);
        }
    }

    #[test]
    fn quotes_in_a_path_are_doubled() {
        assert_eq!(quoted(Path::new("/it's")), "'/it''s'");
    }
}

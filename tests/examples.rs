//! Each file of `sql-examples/` passes `check` and gives the expected rows over recorded events.
//!
//! `tests/examples/<name>/<topic>.jsonl` holds the records of a topic, in order; `expected.jsonl` the rows that must come out,
//! worked out by hand. Among the events are some out of order, some late, some twice, and one that closes the windows.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::display::array_value_to_string;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};
use thalweg_connectors::embedded::{self, NewRecord};

use crate::house::root;
use crate::support::{Outcome, run_sql, run_within, thalweg};

struct Example {
    sql: String,
    file: PathBuf,
    events: PathBuf,
    work: tempfile::TempDir,
}

impl Example {
    /// The example `name`, its events in topics of one partition each.
    fn new(name: &str) -> Self {
        let file = root().join(format!("sql-examples/{name}.sql"));
        let events = root().join("tests/examples").join(name);
        let work = tempfile::tempdir().expect("a folder can be made");
        for entry in fs::read_dir(&events).expect("the example has events") {
            let path = entry.expect("readable").path();
            let topic = path.file_stem().expect("files have names").to_string_lossy().into_owned();
            if topic == "expected" {
                continue;
            }
            let text = fs::read_to_string(&path).expect("readable");
            let records: Vec<NewRecord<'_>> =
                text.lines().map(|line| NewRecord { value: Some(line.as_bytes()), ..NewRecord::default() }).collect();
            embedded::create_topic(work.path(), &topic, 1).expect("the folder can be written");
            embedded::append(work.path(), &topic, 0, &records, 0).expect("the folder can be written");
        }
        Example { sql: fs::read_to_string(&file).expect("the example exists"), file, events, work }
    }

    fn lake(&self) -> PathBuf {
        self.work.path().join("lake")
    }

    /// Reads what is there, then ends.
    fn run(&self) -> Outcome {
        let mut command = thalweg();
        command.arg("run").arg(&self.file).arg("--embedded").arg(self.work.path()).arg("--until-caught-up");
        command.arg("--var").arg(format!("LAKE={}", self.lake().display()));
        run_within(&mut command, Duration::from_secs(60)).expect_code(0)
    }

    /// The rows in the topic of the sink, read by a second pipeline.
    fn rows_of_sink(&self, topic: &str) -> Vec<Value> {
        let declarations = self.sql.split("\nINSERT INTO").next().expect("there is a first part");
        let option = format!("'topic' = '{topic}',");
        assert!(declarations.contains(&option), "the example has a sink with topic {topic}");
        let declarations = declarations.replace(&option, &format!("{option} 'scan.startup.mode' = 'earliest-offset',"));
        let folder = self.work.path().to_str().expect("the path is UTF-8");
        let read = run_sql(
            self.work.path(),
            &format!("{declarations}\nSELECT * FROM {topic};"),
            &["--embedded", folder, "--until-caught-up"],
        );
        read.expect_code(0).rows().iter().map(|line| serde_json::from_str(line).expect("rows are JSON")).collect()
    }

    #[track_caller]
    fn expect_rows(&self, found: Vec<Value>) {
        let expected = fs::read_to_string(self.events.join("expected.jsonl")).expect("the example has expected rows");
        let expected = expected.lines().map(|line| serde_json::from_str(line).expect("expected rows are JSON")).collect();
        assert_eq!(sorted(found), sorted(expected));
    }
}

/// Rows as text, in order; numbers by value.
fn sorted(rows: Vec<Value>) -> Vec<String> {
    let mut texts: Vec<String> = rows
        .into_iter()
        .map(|mut row| {
            for value in row.as_object_mut().expect("rows are objects").values_mut() {
                if let Some(number) = value.as_f64() {
                    *value = number.into();
                }
            }
            row.to_string()
        })
        .collect();
    texts.sort();
    texts
}

#[test]
fn examples_pass_check() {
    let mut names = vec![];
    for entry in fs::read_dir(root().join("sql-examples")).expect("the folder exists") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            // Nexmark's queries have tests of their own.
            continue;
        }
        let name = path.file_stem().expect("files have names").to_string_lossy().into_owned();
        let outcome = run_within(thalweg().args(["check", "--var", "LAKE=/tmp/lake"]).arg(&path), Duration::from_secs(30));
        outcome.expect_code(0);
        assert!(root().join("tests/examples").join(&name).is_dir(), "{name}.sql has no recorded events in tests/examples/{name}");
        names.push(name);
    }
    assert!(names.len() >= 4, "examples: {names:?}");
}

#[test]
fn revenue_per_minute() {
    let example = Example::new("revenue_per_minute");
    let outcome = example.run();
    example.expect_rows(example.rows_of_sink("revenue_per_minute"));
    assert!(outcome.stderr.contains("1 late row of orders"), "{}", outcome.stderr);
    // A second run has nothing new to say.
    example.run();
    example.expect_rows(example.rows_of_sink("revenue_per_minute"));
}

#[test]
fn fraud_velocity() {
    let example = Example::new("fraud_velocity");
    example.run();
    example.expect_rows(example.rows_of_sink("suspicious_cards"));
}

/// An order within 30 s: no row. No order: exactly one row for each second in which the cart was filled.
#[test]
fn cart_abandonment() {
    let example = Example::new("cart_abandonment");
    example.run();
    example.expect_rows(example.rows_of_sink("abandoned_carts"));
}

#[test]
fn clickstream_to_lake() {
    let example = Example::new("clickstream_to_lake");
    example.run();
    example.expect_rows(rows_of_lake(&example.lake()));
    example.run();
    example.expect_rows(rows_of_lake(&example.lake()));
}

/// The rows of all Parquet files below `folder`, with the column of the partition from the folder's name.
fn rows_of_lake(folder: &Path) -> Vec<Value> {
    let mut rows = vec![];
    for day in fs::read_dir(folder).expect("the lake exists") {
        let day = day.expect("readable");
        let name = day.file_name().into_string().expect("names are UTF-8");
        let Some(date) = name.strip_prefix("day=") else { continue };
        for file in fs::read_dir(day.path()).expect("readable") {
            let file = file.expect("readable").path();
            assert_eq!(file.extension().and_then(|extension| extension.to_str()), Some("parquet"), "{}", file.display());
            let opened = fs::File::open(&file).expect("readable");
            let reader = ParquetRecordBatchReaderBuilder::try_new(opened).and_then(|builder| builder.build());
            for batch in reader.expect("the file is Parquet") {
                let batch = batch.expect("the file is whole");
                rows.extend((0..batch.num_rows()).map(|row| row_of(&batch, row, date)));
            }
        }
    }
    rows
}

fn row_of(batch: &RecordBatch, row: usize, date: &str) -> Value {
    let mut object = Map::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let value = match field.data_type() {
            _ if column.is_null(row) => Value::Null,
            DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
            _ => array_value_to_string(column, row).expect("the value has a text").replace('T', " ").into(),
        };
        object.insert(field.name().clone(), value);
    }
    object.insert("day".to_string(), date.into());
    Value::Object(object)
}

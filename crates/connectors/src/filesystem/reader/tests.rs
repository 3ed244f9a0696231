use std::path::Path;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;
use thalweg_core::{ErrorKind, ManualClock, Options, ReadMode, ScanField, ScanRequest, Source};

use super::*;
use crate::filesystem::FileSource;
use crate::filesystem::testing::{FORMATS, field, rows_text};
use crate::store::StoreSettings;

fn write(folder: &Path, path: &str, content: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A scan of `n BIGINT, s STRING, day DATE` for the fields named, with further options.
struct Scan {
    path: String,
    fields: Vec<ScanField>,
    options: Vec<(&'static str, String)>,
    partitioned_by: Vec<String>,
    mode: ReadMode,
}

fn scan(path: &Path, fields: &[&str]) -> Scan {
    let fields = fields.iter().map(|name| {
        ScanField::Physical(field(
            name,
            match *name {
                "n" => DataType::Int64,
                "day" => DataType::Date32,
                _ => DataType::Utf8,
            },
        ))
    });
    Scan {
        path: path.display().to_string(),
        fields: fields.collect(),
        options: vec![],
        partitioned_by: vec![],
        mode: ReadMode::AsDeclared,
    }
}

impl Scan {
    fn option(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.options.push((name, value.into()));
        self
    }

    fn partitioned_by_day(mut self) -> Self {
        self.partitioned_by = vec!["day".to_string()];
        self
    }

    fn metadata(mut self, key: &str, kind: DataType) -> Self {
        self.fields.push(ScanField::Metadata { key: key.to_string(), field: Arc::new(Field::new(key, kind, false)) });
        self
    }

    fn mode(mut self, mode: ReadMode) -> Self {
        self.mode = mode;
        self
    }

    fn open(self) -> FileSource {
        let mut options = Options::new();
        options.insert("path", self.path);
        options.insert("format", "json");
        for (name, value) in self.options {
            options.insert(name, value);
        }
        let physical = [field("n", DataType::Int64), field("s", DataType::Utf8), field("day", DataType::Date32)];
        let request = ScanRequest {
            table: "t".to_string(),
            options,
            fields: self.fields,
            physical_schema: Arc::new(Schema::new(physical.to_vec())),
            partitioned_by: self.partitioned_by,
            primary_key: vec![],
            time_zone: "UTC".to_string(),
            mode: self.mode,
            clock: Arc::new(ManualClock::default()),
        };
        FileSource::open(request, &StoreSettings::default(), FORMATS).unwrap()
    }
}

fn budget(rows: usize) -> PollBudget {
    PollBudget { rows, wait: Duration::ZERO }
}

/// What a reader gives until it is idle: rows as text, `end of …`, and the positions on the way.
fn drain(reader: &mut dyn SourceReader, rows_max: usize) -> (Vec<String>, Vec<Assignment>) {
    let (mut lines, mut positions) = (vec![], vec![]);
    loop {
        match reader.poll(budget(rows_max)).unwrap() {
            SourceEvent::Rows { partition, rows, next, .. } => {
                lines.extend(rows_text(&rows));
                positions.push(Assignment { partition, position: Some(next) });
            }
            SourceEvent::PartitionEnd(partition) | SourceEvent::CaughtUp(partition) => lines.push(format!("end of {partition}")),
            SourceEvent::Idle => return (lines, positions),
        }
    }
}

fn all_from_start(source: &FileSource) -> Vec<Assignment> {
    let from_start = |partition| Assignment { partition, position: None };
    source.partitions().unwrap().into_iter().map(from_start).collect()
}

fn read(source: &FileSource) -> Vec<String> {
    drain(source.reader(all_from_start(source)).unwrap().as_mut(), 100).0
}

#[test]
fn reads_files_in_order_of_path_without_hidden_ones() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "b/2.json", "{\"n\":3}\n");
    write(folder.path(), "a.json", "{\"n\":1,\"s\":\"x\"}\r\n\n{\"n\":2}");
    for hidden in ["_SUCCESS", ".part#1", "_temporary/x.json", "b/.x.json"] {
        write(folder.path(), hidden, "no json");
    }
    let source = scan(folder.path(), &["s", "n"]).open();
    assert!(source.is_bounded());
    assert_eq!(source.discovery_interval(), None);
    assert_eq!(read(&source), ["x 1", "null 2", "end of a.json", "null 3", "end of b/2.json"]);
    // No column at all, as for COUNT(*).
    let count = scan(folder.path(), &[]).open();
    assert_eq!(read(&count), ["", "", "end of a.json", "", "end of b/2.json"]);
}

#[test]
fn a_path_may_be_a_file_or_an_empty_folder_but_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read(&scan(folder.path(), &["n"]).open()).is_empty());
    write(folder.path(), "in.json", "{\"n\":1}\n");
    let file = folder.path().join("in.json");
    assert_eq!(read(&scan(&file, &["n"]).open()), ["1", "end of in.json"]);
    let missing = folder.path().join("nowhere");
    let error = scan(&missing, &["n"]).open().partitions().unwrap_err();
    assert_eq!(error.kind, ErrorKind::User);
    assert_eq!(error.message, format!("path \"{}\" does not exist", missing.display()));
}

#[test]
fn folders_give_partition_columns() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "day=2026-01-01/x", "{\"n\":1}\n{\"n\":2}\n");
    write(folder.path(), "day=__DEFAULT_PARTITION__/x", "{\"n\":3}\n");
    let rows = read(&scan(folder.path(), &["day", "n"]).partitioned_by_day().open());
    assert_eq!(rows, ["2026-01-01 1", "2026-01-01 2", "end of day=2026-01-01/x", "null 3", "end of day=__DEFAULT_PARTITION__/x"]);
    write(folder.path(), "day=soon/x", "{\"n\":1}\n");
    let source = scan(folder.path(), &["day"]).partitioned_by_day().option("partition.default-name", "none").open();
    let partition = PartitionId("day=soon/x".to_string());
    let mut reader = source.reader(vec![Assignment { partition, position: None }]).unwrap();
    assert_eq!(reader.poll(budget(1)).unwrap_err().kind, ErrorKind::Record);
}

#[test]
fn metadata_and_pattern() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a/x.json", "{\"n\":1}\n");
    write(folder.path(), "a/x.tmp", "{\"n\":2}\n");
    let source = scan(folder.path(), &["n"])
        .metadata("file.path", DataType::Utf8)
        .metadata("file.name", DataType::Utf8)
        .metadata("file.size", DataType::Int64)
        .option("source.path.regex-pattern", ".*[.]json")
        .open();
    let path = folder.path().join("a/x.json");
    assert_eq!(read(&source), [format!("1 {} x.json 8", path.display()), "end of a/x.json".to_string()]);
}

#[test]
fn a_bad_record_names_file_and_line_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "x", "{\"n\":1}\n\n{\"n\":2}\nnope\n{\"n\":3}\n");
    let source = scan(folder.path(), &["n"]).open();
    let mut reader = source.reader(all_from_start(&source)).unwrap();
    let SourceEvent::Rows { partition, next, .. } = reader.poll(budget(1)).unwrap() else { panic!("a row is there") };
    let mut again = source.reader(vec![Assignment { partition, position: Some(next) }]).unwrap();
    let error = again.poll(budget(10)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Record);
    assert!(error.message.starts_with(&format!("{}:4: ", folder.path().join("x").display())), "{}", error.message);
    // Who goes on gets the rows around it.
    assert_eq!(drain(again.as_mut(), 10).0, ["2", "3", "end of x"]);
}

proptest! {
    #[test]
    fn reading_on_from_any_position_gives_the_rest(counts in proptest::collection::vec(0usize..6, 1..4), batch_rows in 1usize..4) {
        let folder = tempfile::tempdir().unwrap();
        let mut number = 0;
        for (file, count) in counts.iter().enumerate() {
            let mut lines = String::new();
            for _ in 0..*count {
                number += 1;
                lines.push_str(&format!("{{\"n\":{number}}}\n"));
            }
            write(folder.path(), &format!("{file}"), &lines);
        }
        let source = scan(folder.path(), &["n"]).open();
        let whole = read(&source);
        let (_, positions) = drain(source.reader(all_from_start(&source)).unwrap().as_mut(), batch_rows);
        for cut in 0..positions.len() {
            let mut assignments = all_from_start(&source);
            for done in &positions[..=cut] {
                let assignment = assignments.iter_mut().find(|assignment| assignment.partition == done.partition).unwrap();
                assignment.position = done.position.clone();
            }
            let (rest, _) = drain(source.reader(assignments).unwrap().as_mut(), batch_rows);
            let numbers = |lines: &[String]| -> Vec<String> {
                lines.iter().filter(|line| !line.starts_with("end")).cloned().collect()
            };
            let rest = numbers(&rest);
            let whole = numbers(&whole);
            prop_assert_eq!(&whole[whole.len() - rest.len()..], &rest[..]);
            let read_before: usize = (cut + 1).min(positions.len());
            prop_assert!(rest.len() + read_before * batch_rows >= whole.len());
        }
    }
}

#[test]
fn a_monitored_folder_shows_new_files() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "1", "{\"n\":1}\n");
    let source = scan(folder.path(), &["n"]).option("source.monitor-interval", "1 s").open();
    assert!(!source.is_bounded());
    assert_eq!(source.discovery_interval(), Some(Duration::from_secs(1)));
    let mut reader = source.reader(all_from_start(&source)).unwrap();
    assert_eq!(drain(reader.as_mut(), 10).0, ["1", "end of 1"]);
    write(folder.path(), "2", "{\"n\":2}\n");
    let found = source.partitions().unwrap();
    assert_eq!(found.len(), 2);
    reader.assign(vec![Assignment { partition: found[1].clone(), position: None }]).unwrap();
    assert_eq!(drain(reader.as_mut(), 10).0, ["2", "end of 2"]);
    let once = scan(folder.path(), &["n"]).option("source.monitor-interval", "1 s").mode(ReadMode::UntilCaughtUp).open();
    assert!(once.is_bounded() && once.discovery_interval().is_none());
}

#[test]
fn a_file_that_grew_is_read_on_and_one_that_shrank_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "x", "{\"n\":1}\n");
    let source = scan(folder.path(), &["n"]).open();
    let (_, positions) = drain(source.reader(all_from_start(&source)).unwrap().as_mut(), 10);
    let read_on = || {
        let source = scan(folder.path(), &["n"]).open();
        source.reader(positions.clone()).map(|mut reader| drain(reader.as_mut(), 10).0)
    };
    assert_eq!(read_on().unwrap(), ["end of x"]);
    write(folder.path(), "x", "{\"n\":1}\n{\"n\":2}\n");
    assert_eq!(read_on().unwrap(), ["2", "end of x"]);
    write(folder.path(), "x", "{}");
    assert_eq!(read_on().unwrap_err().kind, ErrorKind::Corrupt);
    // It was read to its end, so it may be cleaned away.
    std::fs::remove_file(folder.path().join("x")).unwrap();
    assert_eq!(read_on().unwrap(), ["end of x"]);
}

#[test]
fn parquet_is_read_and_resumed_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=5));
    let rows = RecordBatch::try_from_iter_with_nullable([("n", numbers, true)]).unwrap();
    let file = (FORMATS.encode_parquet)(&rows.schema(), &[rows], &Options::new()).unwrap();
    let path = folder.path().join("day=2026-01-01/x.parquet");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, &file).unwrap();
    let source = scan(folder.path(), &["n", "s", "day"]).partitioned_by_day().option("format", "parquet").open();
    let (rows, positions) = drain(source.reader(all_from_start(&source)).unwrap().as_mut(), 2);
    let expected: Vec<String> = (1..=5).map(|n| format!("{n} null 2026-01-01")).collect();
    let end = ["end of day=2026-01-01/x.parquet".to_string()];
    assert_eq!(rows, [&expected[..], &end].concat());
    let (rest, _) = drain(source.reader(vec![positions[1].clone()]).unwrap().as_mut(), 2);
    assert_eq!(rest, [&expected[4..], &end].concat());
    let last = positions.last().unwrap().clone();
    std::fs::remove_file(&path).unwrap();
    let gone = scan(folder.path(), &["n"]).option("format", "parquet").open();
    assert_eq!(drain(gone.reader(vec![last]).unwrap().as_mut(), 2).0, end, "it was read to its end");
    assert_eq!(gone.reader(vec![positions[1].clone()]).err().unwrap().kind, ErrorKind::Unavailable);
    std::fs::write(&path, "PAR1").unwrap();
    let source = scan(folder.path(), &["n"]).option("format", "parquet").open();
    assert_eq!(source.reader(vec![positions[1].clone()]).err().unwrap().kind, ErrorKind::Corrupt);
    let mut reader = source.reader(all_from_start(&source)).unwrap();
    assert_eq!(reader.poll(budget(1)).unwrap_err().kind, ErrorKind::Record);
}

#[test]
fn object_stores_are_read_as_folders_are() {
    let settings = StoreSettings::default();
    let (store, prefix) = crate::store::open_store("memory://files_read/in", &settings).unwrap();
    for (path, content) in [("day=2026-01-01/a", "{\"n\":1}\n"), ("b", "{\"n\":2}\n"), ("_SUCCESS", "")] {
        let location = crate::store::object_path(&format!("{prefix}/{path}")).unwrap();
        crate::store::create_object(store.as_ref(), &location, content.into()).unwrap();
    }
    let open = |path: &str| scan(Path::new(path), &["n"]).metadata("file.path", DataType::Utf8).open();
    let expected = ["2 /in/b", "end of b", "1 /in/day=2026-01-01/a", "end of day=2026-01-01/a"];
    assert_eq!(read(&open("memory://files_read/in")), expected);
    assert_eq!(read(&open("memory://files_read/in/b")), ["2 /in/b", "end of b"]);
}

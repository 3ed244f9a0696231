use std::collections::BTreeMap;
use std::path::Path as FsPath;
use std::time::Duration;

use arrow::array::{Date32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use thalweg_core::{DeliveryPlan, ErrorKind, Generation, ManualClock, Options, PlannedDelivery, SegmentReader, SegmentRef};

use super::*;
use crate::filesystem::read_parquet;
use crate::filesystem::testing::{FORMATS, field, rows_text};

/// A sink into a folder, with the output log in memory.
struct Bench {
    sink: FileSink,
    deliverer: Box<dyn Deliverer>,
    clock: Arc<ManualClock>,
    log: Log,
}

#[derive(Default)]
struct Log(BTreeMap<String, Bytes>);

impl SegmentReader for Log {
    fn read(&self, segment: &SegmentRef) -> Result<Bytes> {
        Ok(self.0[&segment.object].clone())
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![field("n", DataType::Int64), field("day", DataType::Date32), field("s", DataType::Utf8)]))
}

/// Rows `(n, day, s)`.
fn batch(rows: &[(i64, Option<i32>, &str)]) -> Batch {
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(rows.iter().map(|row| row.1).collect::<Date32Array>()),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2))),
    ];
    Batch::append(RecordBatch::try_new(schema(), columns).unwrap())
}

fn bench(folder: &FsPath, partitioned_by: &[&str], given: &[(&str, &str)]) -> Bench {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000_000));
    let mut options = Options::new();
    options.insert("path", folder.display().to_string());
    options.insert("format", "json");
    for (name, value) in given {
        options.insert(*name, *value);
    }
    let request = SinkRequest {
        table: "out".to_string(),
        sink_id: "sink:out".to_string(),
        options,
        schema: schema(),
        metadata: vec![None; 3],
        partitioned_by: partitioned_by.iter().map(|name| name.to_string()).collect(),
        primary_key: vec![],
        time_zone: "UTC".to_string(),
        clock: clock.clone(),
    };
    let sink = FileSink::open(request, &StoreSettings::default(), FORMATS).unwrap();
    let deliverer = new_deliverer(&sink, "job", &clock);
    Bench { sink, deliverer, clock, log: Log::default() }
}

fn new_deliverer(sink: &FileSink, job_id: &str, clock: &Arc<ManualClock>) -> Box<dyn Deliverer> {
    let context = DeliveryContext {
        job_id: job_id.to_string(),
        generation: Generation(1),
        nonce: "nonce".to_string(),
        clock: clock.clone(),
    };
    sink.deliverer(context).unwrap()
}

impl Bench {
    /// Writes the batches of one lane and epoch and puts the segments into the log.
    fn write(&mut self, epoch: u64, lane: u32, batches: &[Batch]) -> Vec<SegmentRef> {
        let mut writer = self.sink.writer(LaneId(lane)).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        assert_eq!(writer.buffered_bytes() > 0, !batches.is_empty());
        let segments = writer.prepare(Epoch(epoch)).unwrap();
        assert_eq!(writer.buffered_bytes(), 0);
        let mut refs = vec![];
        for (index, segment) in segments.into_iter().enumerate() {
            let object = format!("{epoch}-{lane}-{index}");
            refs.push(SegmentRef {
                sink_id: "sink:out".to_string(),
                tag: segment.tag,
                epoch: Epoch(epoch),
                lane: LaneId(lane),
                index: index as u32,
                object: object.clone(),
                offset: 0,
                length: segment.bytes.len() as u64,
                crc32: 0,
                rows: segment.rows,
                written_ms: thalweg_core::Clock::wall_ms(self.clock.as_ref()),
            });
            self.log.0.insert(object, Bytes::from(segment.bytes));
        }
        refs
    }

    fn plan(&mut self, epoch: u64, waiting: Vec<SegmentRef>, new: Vec<SegmentRef>, is_final: bool) -> DeliveryPlan {
        self.deliverer.plan(Epoch(epoch), waiting, new, is_final).unwrap()
    }

    fn deliver(&mut self, epoch: u64, deliveries: &[PlannedDelivery]) -> Result<()> {
        self.deliverer.deliver(Epoch(epoch), deliveries, &self.log)
    }
}

/// Path and content of every file below `folder`.
fn files(folder: &FsPath) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &FsPath, folder: &FsPath, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

fn text_files(folder: &FsPath) -> Vec<(String, String)> {
    files(folder).into_iter().map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap())).collect()
}

#[test]
fn files_appear_once_however_often_they_are_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path(), &["day"], &[]);
    assert_eq!(bench.sink.guarantee(), DeliveryGuarantee::ExactlyOnce);
    assert_eq!(bench.deliverer.fence().unwrap(), None);
    let rows = [batch(&[(1, Some(0), "a"), (2, None, "b")]), batch(&[(3, Some(0), "c")])];
    let mut segments = bench.write(7, 1, &rows);
    segments.extend(bench.write(7, 0, &[batch(&[(4, Some(0), "d")])]));
    let plan = bench.plan(7, vec![], segments, true);
    assert!(plan.keep.is_empty());
    bench.deliver(7, &plan.deliveries).unwrap();
    let first = text_files(folder.path());
    let contents: Vec<(&str, &str)> =
        first.iter().map(|(path, content)| (path.rsplit_once('/').unwrap().0, content.as_str())).collect();
    let expected = [
        ("day=1970-01-01", "{\"n\":4,\"s\":\"d\"}\n{\"n\":1,\"s\":\"a\"}\n{\"n\":3,\"s\":\"c\"}\n"),
        ("day=__DEFAULT_PARTITION__", "{\"n\":2,\"s\":\"b\"}\n"),
    ];
    assert_eq!(contents, expected);
    let name = first[0].0.rsplit_once('/').unwrap().1;
    assert!(name.starts_with("part-sink_out-") && name.ends_with("-0000000007-0-0.json"), "{name}");
    // Again, as after a crash, by a new deliverer of the same job.
    bench.deliverer = new_deliverer(&bench.sink, "job", &bench.clock);
    bench.deliver(7, &plan.deliveries).unwrap();
    assert_eq!(text_files(folder.path()), first);
    let other = new_deliverer(&bench.sink, "another job", &bench.clock)
        .plan(Epoch(7), vec![], plan.deliveries[0].segments.clone(), true)
        .unwrap();
    assert_ne!(other.deliveries[0].target, plan.deliveries[0].target, "two jobs can write one folder");
}

#[test]
fn a_file_that_someone_changed_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path(), &[], &[]);
    let segments = bench.write(1, 0, &[batch(&[(1, None, "a")])]);
    let plan = bench.plan(1, vec![], segments, true);
    std::fs::write(folder.path().join(&plan.deliveries[0].target), "mine").unwrap();
    assert_eq!(bench.deliver(1, &plan.deliveries).unwrap_err().kind, ErrorKind::Corrupt);
    assert_eq!(text_files(folder.path())[0].1, "mine");
}

#[test]
fn small_output_waits_until_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path(), &["day"], &[("sink.rolling-policy.rollover-interval", "10 s")]);
    let first = bench.write(1, 0, &[batch(&[(1, Some(0), "a")])]);
    let plan = bench.plan(1, vec![], first, false);
    assert_eq!((plan.deliveries.len(), plan.keep.len()), (0, 1));
    bench.clock.advance(Duration::from_secs(9));
    let second = bench.write(2, 0, &[batch(&[(2, Some(0), "b"), (3, Some(1), "c")])]);
    let plan = bench.plan(2, plan.keep, second, false);
    assert_eq!((plan.deliveries.len(), plan.keep.len()), (0, 3));
    bench.clock.advance(Duration::from_secs(1));
    let plan = bench.plan(3, plan.keep, vec![], false);
    assert_eq!((plan.deliveries.len(), plan.keep.len()), (1, 1), "only the folder with the old row is due");
    bench.deliver(3, &plan.deliveries).unwrap();
    let written = text_files(folder.path());
    assert_eq!(written.len(), 1);
    assert!(written[0].0.contains("-0000000001-0-0.json"), "{written:?}");
    assert_eq!(written[0].1, "{\"n\":1,\"s\":\"a\"}\n{\"n\":2,\"s\":\"b\"}\n");
}

#[test]
fn inactive_folders_are_written_early() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path(), &[], &[("sink.rolling-policy.inactivity-interval", "5 s")]);
    let new = bench.write(1, 0, &[batch(&[(1, None, "a")])]);
    let plan = bench.plan(1, vec![], new, false);
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(bench.plan(2, plan.keep, vec![], false).deliveries.len(), 1);
}

#[test]
fn large_output_is_cut_into_files_with_names_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path(), &[], &[("sink.rolling-policy.file-size", "30 b")]);
    let mut segments = vec![];
    for lane in 0..3 {
        segments.extend(bench.write(1, lane, &[batch(&[(i64::from(lane), None, "a")])]));
    }
    // Each line has 14 bytes and its partition column: three lines are 1.5 files.
    let plan = bench.plan(1, vec![], segments, false);
    assert_eq!((plan.deliveries.len(), plan.keep.len()), (1, 1));
    bench.deliver(1, &plan.deliveries).unwrap();
    let rest = bench.plan(2, plan.keep, vec![], true);
    bench.deliver(2, &rest.deliveries).unwrap();
    let written = text_files(folder.path());
    assert_eq!(written.len(), 2);
    let lines: usize = written.iter().map(|(_, content)| content.lines().count()).sum();
    assert_eq!(lines, 3);
}

#[test]
fn parquet_comes_back_as_it_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path(), &["day"], &[("format", "parquet"), ("parquet.compression", "ZSTD")]);
    let mut segments = bench.write(1, 0, &[batch(&[(1, Some(0), "a")]), batch(&[(2, Some(0), "b")])]);
    segments.extend(bench.write(2, 0, &[batch(&[(3, Some(0), "c")])]));
    let plan = bench.plan(2, vec![], segments, true);
    bench.deliver(2, &plan.deliveries).unwrap();
    bench.deliver(2, &plan.deliveries).unwrap();
    let mut written = files(folder.path());
    assert_eq!(written.len(), 1);
    let (path, bytes) = written.pop_first().unwrap();
    assert!(path.starts_with("day=1970-01-01/part-") && path.ends_with(".parquet"));
    let fields = [field("s", DataType::Utf8), field("n", DataType::Int64)];
    let batches: Vec<RecordBatch> = read_parquet(Bytes::from(bytes), &fields, 0, 100).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows_text(&batches[0]), ["a 1", "b 2", "c 3"]);
}

#[test]
fn another_encoding_of_the_same_rows_is_taken_for_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path(), &[], &[("format", "parquet")]);
    let segments = bench.write(1, 0, &[batch(&[(1, None, "a")])]);
    let plan = bench.plan(1, vec![], segments, true);
    let path = folder.path().join(&plan.deliveries[0].target);
    let mut options = Options::new();
    options.insert("parquet.compression", "UNCOMPRESSED");
    let encode = |rows: &[RecordBatch]| (FORMATS.encode_parquet)(&schema(), rows, &options).unwrap();
    std::fs::write(&path, encode(&[batch(&[(1, None, "a")]).rows])).unwrap();
    bench.deliver(1, &plan.deliveries).unwrap();
    std::fs::write(&path, encode(&[])).unwrap();
    assert_eq!(bench.deliver(1, &plan.deliveries).unwrap_err().kind, ErrorKind::Corrupt);
}

#[test]
fn a_success_file_marks_folders_with_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path(), &["day"], &[("sink.partition-commit.policy.kind", "success-file")]);
    let segments = bench.write(1, 0, &[batch(&[(1, Some(0), "a")])]);
    let plan = bench.plan(1, vec![], segments, true);
    bench.deliver(1, &plan.deliveries).unwrap();
    bench.deliver(1, &plan.deliveries).unwrap();
    let names: Vec<String> = files(folder.path()).into_keys().collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[0], "day=1970-01-01/_SUCCESS");
}

#[test]
fn wrong_options_and_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path(), &[], &[]);
    let twice = Batch { weights: Some(Int64Array::from(vec![2])), ..batch(&[(1, None, "a")]) };
    let segments = bench.write(1, 0, &[twice]);
    assert_eq!(segments[0].rows, 2);
    let back = Batch { weights: Some(Int64Array::from(vec![-1])), ..batch(&[(1, None, "a")]) };
    let mut writer = bench.sink.writer(LaneId(0)).unwrap();
    assert_eq!(writer.write(&back).unwrap_err().kind, ErrorKind::Internal);
    let mut request = bench.sink.request.clone();
    request.options.insert("format", "parquet");
    request.options.insert("parquet.compression", "tiny");
    let error = FileSink::open(request, &StoreSettings::default(), FORMATS).err().unwrap();
    assert_eq!(error.kind, ErrorKind::User);
}

//! Embedded topics end to end: rows through a sink, back through a source. Records are decoded and encoded as plain text, so
//! that only what this connector does is under test.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit};
use thalweg_core::{
    Assignment, Batch, Decoder, EncodedRows, Encoder, Epoch, Error, ErrorKind, LaneId, ManualClock, Options, PartitionId,
    PollBudget, Position, ReadMode, RecordContext, Result, ScanField, ScanRequest, Sink, SinkRequest, Source, SourceEvent,
};

use super::{EmbeddedSink, EmbeddedSource, NewRecord, append, create_topic};
use crate::output_frames::FrameReader;

/// One text column; a record `a,b` is two rows, an empty one is skipped, `!` cannot be decoded.
struct TextDecoder {
    fields: Vec<FieldRef>,
    rows: Vec<String>,
    skipped: u64,
}

impl Decoder for TextDecoder {
    fn decode(&mut self, record: &[u8], context: RecordContext<'_>) -> Result<usize> {
        let text = std::str::from_utf8(record).expect("tests write UTF-8");
        if text == "!" {
            return Err(Error::record(format!("{context}: not a text")));
        }
        let before = self.rows.len();
        self.rows.extend(text.split(',').filter(|part| !part.is_empty()).map(str::to_string));
        self.skipped += u64::from(self.rows.len() == before);
        Ok(self.rows.len() - before)
    }

    fn decode_null(&mut self, _: RecordContext<'_>) -> Result<usize> {
        Ok(0)
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn buffered_bytes(&self) -> usize {
        self.rows.iter().map(String::len).sum()
    }

    fn flush(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let columns = self.fields.iter().map(|_| Arc::new(StringArray::from(rows.clone())) as ArrayRef).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(self.fields.clone())), columns, &options)?)
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

/// The columns of a row, with `/` between them.
struct TextEncoder;

impl Encoder for TextEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        for row in 0..rows.num_rows() {
            let cells: Vec<&str> = rows.columns().iter().map(|column| column.as_string::<i32>().value(row)).collect();
            out.bytes.extend_from_slice(cells.join("/").as_bytes());
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }
}

fn text(name: &str) -> FieldRef {
    Arc::new(Field::new(name, DataType::Utf8, true))
}

fn options(pairs: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    let always = [("topic", "t"), ("format", "text"), ("scan.startup.mode", "earliest-offset")];
    for (name, value) in always.iter().chain(pairs) {
        options.insert(*name, *value);
    }
    options
}

fn source(dir: &Path, fields: Vec<ScanField>, physical: &[&str], pairs: &[(&str, &str)], mode: ReadMode) -> EmbeddedSource {
    let request = ScanRequest {
        table: "t".to_string(),
        options: options(pairs),
        fields,
        physical_schema: Arc::new(Schema::new(physical.iter().map(|name| text(name)).collect::<Vec<_>>())),
        partitioned_by: vec![],
        primary_key: vec![],
        time_zone: "Europe/Berlin".to_string(),
        mode,
        clock: Arc::new(ManualClock::default()),
    };
    let decoder = |_: &str, _: &str, fields: Vec<FieldRef>, _: SchemaRef, _: &Options| -> Result<Box<dyn Decoder>> {
        Ok(Box::new(TextDecoder { fields, rows: vec![], skipped: 0 }))
    };
    EmbeddedSource::from_scan(&request, Arc::new(decoder), dir).expect("a good table")
}

fn put(dir: &Path, partition: u32, values: &[&str]) {
    let records: Vec<NewRecord<'_>> =
        values.iter().map(|value| NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() }).collect();
    append(dir, "t", partition, &records, 1_000).expect("append");
}

fn from(partition: i32, position: Option<Position>) -> Assignment {
    Assignment { partition: PartitionId(format!("t/{partition}")), position }
}

const BUDGET: PollBudget = PollBudget { rows: 3, wait: Duration::ZERO };

/// Events as text, up to the first idle one: `partition: rows | next, skipped` or `partition end`.
fn events(source: &EmbeddedSource, assignments: Vec<Assignment>) -> Vec<String> {
    let mut reader = source.reader(assignments).expect("reader");
    let mut found = vec![];
    loop {
        match reader.poll(BUDGET).expect("good records") {
            SourceEvent::Idle => return found,
            SourceEvent::PartitionEnd(partition) | SourceEvent::CaughtUp(partition) => found.push(format!("{partition} end")),
            SourceEvent::Rows { partition, rows, next, skipped, .. } => {
                let values: Vec<&str> = rows.column(0).as_string::<i32>().iter().map(Option::unwrap_or_default).collect();
                found.push(format!("{partition}: {} | {}, {skipped}", values.join(" "), next.next));
            }
        }
    }
}

fn value_fields() -> Vec<ScanField> {
    vec![ScanField::Physical(text("v"))]
}

#[test]
fn partitions_take_turns_and_a_budget_cuts_frames() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 2).expect("topic");
    put(dir.path(), 0, &["a", "b", "c,d", "", "e"]);
    put(dir.path(), 1, &["x"]);
    let source = source(dir.path(), value_fields(), &["v"], &[], ReadMode::AsDeclared);
    assert_eq!(source.partitions().expect("topic"), [PartitionId("t/0".to_string()), PartitionId("t/1".to_string())]);
    assert_eq!(
        events(&source, vec![from(0, None), from(1, None)]),
        ["t/0:  | 0, 0", "t/1:  | 0, 0", "t/0: a b c d | 3, 0", "t/1: x | 1, 0", "t/0: e | 5, 1"]
    );
    // From a position in the middle of a frame.
    assert_eq!(events(&source, vec![from(0, Some(Position::at(2)))]), ["t/0: c d e | 5, 1"]);
}

#[test]
fn until_caught_up_ends_at_what_was_there() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 2).expect("topic");
    put(dir.path(), 0, &["a", "b"]);
    let source = source(dir.path(), value_fields(), &["v"], &[], ReadMode::UntilCaughtUp);
    assert!(source.is_bounded());
    assert_eq!(source.discovery_interval(), None);
    let mut reader = source.reader(vec![from(0, None)]).expect("reader");
    put(dir.path(), 0, &["late"]);
    let mut ended = 0;
    let mut rows = 0;
    for _ in 0..5 {
        match reader.poll(BUDGET).expect("good records") {
            SourceEvent::Rows { rows: batch, .. } => rows += batch.num_rows(),
            SourceEvent::PartitionEnd(_) | SourceEvent::CaughtUp(_) => ended += 1,
            SourceEvent::Idle => {}
        }
    }
    assert_eq!((rows, ended), (2, 1));
    // An empty partition, and one that was read before.
    assert_eq!(events(&source, vec![from(1, Some(Position::at(0)))]), ["t/1 end"]);
    assert_eq!(events(&source, vec![from(0, Some(Position::at(2)))]), ["t/0: late | 3, 0", "t/0 end"]);
}

#[test]
fn a_reader_follows_the_log_and_a_bounded_scan_keeps_its_end() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 1).expect("topic");
    put(dir.path(), 0, &["a"]);
    let bounded = [("scan.bounded.mode", "latest-offset")];
    let source = source(dir.path(), value_fields(), &["v"], &bounded, ReadMode::AsDeclared);
    let mut reader = source.reader(vec![from(0, None)]).expect("reader");
    let SourceEvent::Rows { next, .. } = reader.poll(BUDGET).expect("progress") else { panic!("not the start") };
    put(dir.path(), 0, &["b"]);
    assert_eq!(events(&source, vec![from(0, Some(next))]), ["t/0: a | 1, 0", "t/0 end"]);

    let endless = self::source(dir.path(), value_fields(), &["v"], &[], ReadMode::AsDeclared);
    let mut reader = endless.reader(vec![from(0, Some(Position::at(2)))]).expect("reader");
    assert!(matches!(reader.poll(BUDGET), Ok(SourceEvent::Idle)));
    put(dir.path(), 0, &["c"]);
    let Ok(SourceEvent::Rows { next, .. }) = reader.poll(BUDGET) else { panic!("not the new row") };
    assert_eq!(next, Position::at(3));
}

#[test]
fn keys_and_metadata_stand_beside_the_value() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 1).expect("topic");
    let records = [
        NewRecord { timestamp_ms: Some(5), headers: vec![("h", Some(b"1"))], key: Some(b"k1"), value: Some(b"a,b") },
        NewRecord { key: None, value: Some(b"no key"), ..NewRecord::default() },
        NewRecord { key: Some(b"k3"), value: None, ..NewRecord::default() },
        NewRecord { key: Some(b"k4"), value: Some(b"c"), ..NewRecord::default() },
    ];
    append(dir.path(), "t", 0, &records, 1_000).expect("append");
    let entries = Field::new(
        "entries",
        DataType::Struct(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)].into()),
        false,
    );
    let metadata = |key: &str, kind: DataType| ScanField::Metadata {
        key: key.to_string(),
        field: Arc::new(Field::new(format!("m_{key}"), kind, true)),
    };
    let fields = vec![
        ScanField::Physical(text("v")),
        metadata("offset", DataType::Int64),
        ScanField::Physical(text("k")),
        metadata("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None)),
        metadata("headers", DataType::Map(Arc::new(entries), false)),
        metadata("topic", DataType::Utf8),
        metadata("timestamp-type", DataType::Utf8),
    ];
    let pairs = [("key.format", "text"), ("key.fields", "k"), ("value.fields-include", "EXCEPT_KEY")];
    let source = source(dir.path(), fields, &["k", "v"], &pairs, ReadMode::AsDeclared);
    let mut reader = source.reader(vec![from(0, Some(Position::at(0)))]).expect("reader");
    let budget = PollBudget { rows: 100, wait: Duration::ZERO };
    let Ok(SourceEvent::Rows { rows, next, skipped, .. }) = reader.poll(budget) else { panic!("no rows") };
    assert_eq!((next.next, skipped), (4, 2));
    let column = |index: usize| rows.column(index).as_string::<i32>().iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
    assert_eq!(column(0), ["a", "b", "c"]);
    assert_eq!(column(2), ["k1", "k1", "k4"]);
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[0, 0, 3]);
    // Berlin was an hour ahead of UTC in 1970; the record without a time of its own has that of the append.
    let hour = 3_600_000_000;
    let timestamps = arrow::compute::cast(rows.column(3), &DataType::Int64).expect("micros");
    assert_eq!(timestamps.as_primitive::<Int64Type>(), &Int64Array::from(vec![hour + 5_000, hour + 5_000, hour + 1_000_000]));
    assert_eq!(rows.column(4).as_map().value_length(0), 1);
    assert_eq!(rows.column(4).as_map().value_length(2), 0);
    assert_eq!(column(5), ["t", "t", "t"]);
    assert_eq!(column(6)[0], "CreateTime");
}

#[test]
fn bad_records_and_missing_topics_are_named() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "orders", 1).expect("topic");
    let source = source(dir.path(), value_fields(), &["v"], &[], ReadMode::AsDeclared);
    let error = source.partitions().expect_err("no topic t");
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::User, "topic \"t\" does not exist"));
    create_topic(dir.path(), "t", 1).expect("topic");
    put(dir.path(), 0, &["a", "!"]);
    let mut reader = source.reader(vec![from(0, Some(Position::at(0)))]).expect("reader");
    let error = reader.poll(BUDGET).expect_err("cannot be decoded");
    assert_eq!(error.message, "topic t partition 0 offset 1: not a text");
    let error = source.reader(vec![from(0, Some(Position::at(9)))]).err().expect("behind the end");
    assert_eq!(error.kind, ErrorKind::Corrupt);
}

#[test]
fn committed_group_offsets_are_where_the_next_job_starts() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 1).expect("topic");
    put(dir.path(), 0, &["a", "b"]);
    let pairs = [("properties.group.id", "g"), ("scan.startup.mode", "group-offsets")];
    let source = source(dir.path(), value_fields(), &["v"], &pairs, ReadMode::AsDeclared);
    assert_eq!(source.reader(vec![from(0, None)]).err().expect("nothing committed").kind, ErrorKind::User);
    source.on_committed(&[(PartitionId("t/0".to_string()), Position::at(1))]);
    assert_eq!(events(&source, vec![from(0, None)]), ["t/0:  | 1, 0", "t/0: b | 2, 0"]);
}

fn sink(dir: &Path, metadata: Vec<Option<String>>, fields: &[&str], pairs: &[(&str, &str)]) -> Result<EmbeddedSink> {
    let request = SinkRequest {
        table: "t".to_string(),
        sink_id: "t".to_string(),
        options: options(pairs),
        schema: Arc::new(Schema::new(fields.iter().map(|name| text(name)).collect::<Vec<_>>())),
        metadata,
        partitioned_by: vec![],
        primary_key: vec![],
        time_zone: "UTC".to_string(),
        clock: Arc::new(ManualClock::at_wall_ms(77)),
    };
    let encoder = |_: &str, _: &str, _: SchemaRef, _: &Options| -> Result<Box<dyn Encoder>> { Ok(Box::new(TextEncoder)) };
    EmbeddedSink::from_sink(&request, Arc::new(encoder), dir)
}

fn batch(columns: &[(&str, Vec<&str>)]) -> Batch {
    let fields: Vec<FieldRef> = columns.iter().map(|(name, _)| text(name)).collect();
    let arrays = columns.iter().map(|(_, values)| Arc::new(StringArray::from(values.clone())) as ArrayRef).collect();
    Batch::append(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("equal lengths"))
}

#[test]
fn at_least_once_rows_come_back() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 1).expect("topic");
    let sink = sink(dir.path(), vec![None], &["v"], &[]).expect("a good table");
    let mut writer = sink.writer(LaneId(0)).expect("writer");
    writer.write(&batch(&[("v", vec!["a", "b"])])).expect("written");
    assert!(writer.prepare(Epoch(1)).expect("flushed").is_empty());
    let source = source(dir.path(), value_fields(), &["v"], &[], ReadMode::AsDeclared);
    assert_eq!(events(&source, vec![from(0, Some(Position::at(0)))]), ["t/0: a b | 2, 0"]);
}

#[test]
fn exactly_once_rows_wait_as_frames_with_key_topic_and_partition() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "other", 3).expect("topic");
    let pairs = [
        ("sink.delivery-guarantee", "exactly-once"),
        ("sink.transactional-id-prefix", "p"),
        ("key.format", "text"),
        ("key.fields", "k"),
    ];
    let sink = sink(dir.path(), vec![None, Some("topic".to_string()), None], &["k", "where", "v"], &pairs).expect("good");
    let mut writer = sink.writer(LaneId(0)).expect("writer");
    assert!(writer.prepare(Epoch(1)).expect("no rows").is_empty());
    writer.write(&batch(&[("k", vec!["abc"]), ("where", vec!["other"]), ("v", vec!["x"])])).expect("encoded");
    assert!(writer.buffered_bytes() > 0);
    let segments = writer.prepare(Epoch(2)).expect("closed");
    assert_eq!((segments.len(), segments[0].rows, writer.buffered_bytes()), (1, 1, 0));
    let frames: Vec<_> = FrameReader::new(&segments[0].bytes).expect("version").collect::<Result<_>>().expect("whole");
    assert_eq!((frames[0].topic, frames[0].partition), ("other", 479_470_107 % 3));
    assert_eq!((frames[0].key, frames[0].value), (Some(&b"abc"[..]), Some(&b"abc/x"[..])));
}

#[test]
fn rows_that_a_topic_cannot_take_are_named() {
    let dir = tempfile::tempdir().expect("folder");
    let sink = sink(dir.path(), vec![None], &["v"], &[]).expect("a good table");
    let large = "x".repeat(9 << 20);
    let error = sink.writer(LaneId(0)).expect("writer").write(&batch(&[("v", vec![&large])])).expect_err("too large");
    assert_eq!(error.kind, ErrorKind::Record);
    assert!(error.message.contains("larger than topic t takes (8388608 bytes)"), "{}", error.message);
    let error = self::sink(dir.path(), vec![None], &["v"], &[("topic", "a;b")]).err().expect("which topic?");
    assert_eq!(error.kind, ErrorKind::User);
}

//! Upserts on embedded topics: changes through a sink, epoch by epoch, and back through a source, with the real formats.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, TimeUnit};
use bytes::Bytes;
use proptest::prelude::*;
use thalweg_core::{
    Assignment, Batch, DeliveryContext, Epoch, ErrorKind, Generation, LaneId, ManualClock, Options, PlannedDelivery, PollBudget,
    ReadMode, Result, ScanField, ScanRequest, SegmentReader, SegmentRef, Sink, SinkRequest, Source, SourceEvent,
};

use super::{EmbeddedSink, EmbeddedSource, NewRecord, append, create_topic};
use crate::FILE_FORMATS;

fn text(name: &str) -> FieldRef {
    Arc::new(Field::new(name, DataType::Utf8, true))
}

/// `totals (region STRING, customer STRING, total BIGINT NOT NULL, PRIMARY KEY (customer, region))`.
fn fields() -> Vec<FieldRef> {
    vec![text("region"), text("customer"), Arc::new(Field::new("total", DataType::Int64, false))]
}

fn primary_key() -> Vec<String> {
    vec!["customer".to_string(), "region".to_string()]
}

fn options(more: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    let always = [
        ("connector", "upsert-kafka"),
        ("topic", "t"),
        ("key.format", "json"),
        ("value.format", "json"),
        ("sink.delivery-guarantee", "exactly-once"),
        ("sink.transactional-id-prefix", "p"),
    ];
    for (name, value) in always.iter().chain(more) {
        options.insert(*name, *value);
    }
    options
}

fn source(dir: &Path, wanted: Vec<ScanField>, more: &[(&str, &str)]) -> EmbeddedSource {
    let request = ScanRequest {
        table: "t".to_string(),
        options: options(more),
        fields: wanted,
        physical_schema: Arc::new(Schema::new(fields())),
        partitioned_by: vec![],
        primary_key: primary_key(),
        time_zone: "UTC".to_string(),
        mode: ReadMode::UntilCaughtUp,
        clock: Arc::new(ManualClock::default()),
    };
    EmbeddedSource::from_scan(&request, Arc::new(FILE_FORMATS.decoder), dir).expect("a good table")
}

fn physical() -> Vec<ScanField> {
    fields().into_iter().map(ScanField::Physical).collect()
}

type Weighted = (RecordBatch, Vec<i64>);

/// All rows with their weights, partition after partition, and how many records gave none.
fn read(source: &EmbeddedSource) -> Result<(Vec<Weighted>, u64)> {
    let (mut batches, mut all_skipped) = (vec![], 0);
    for partition in source.partitions()? {
        let mut reader = source.reader(vec![Assignment { partition, position: None }])?;
        loop {
            match reader.poll(PollBudget { rows: 3, wait: Duration::ZERO })? {
                SourceEvent::Rows { rows, weights, skipped, .. } => {
                    let weights = weights.map_or(vec![1; rows.num_rows()], |weights| weights.values().to_vec());
                    all_skipped += skipped;
                    batches.push((rows, weights));
                }
                SourceEvent::Idle => {}
                SourceEvent::CaughtUp(_) | SourceEvent::PartitionEnd(_) => break,
            }
        }
    }
    Ok((batches, all_skipped))
}

/// `+1 north ann 5` for each row.
fn lines(batches: &[(RecordBatch, Vec<i64>)]) -> Vec<String> {
    let mut lines = vec![];
    for (rows, weights) in batches {
        let columns: Vec<ArrayRef> =
            rows.columns().iter().map(|column| arrow::compute::cast(column, &DataType::Utf8).expect("has a text form")).collect();
        for (row, weight) in weights.iter().enumerate() {
            let cell = |column: &ArrayRef| {
                let texts = column.as_string::<i32>();
                if texts.is_null(row) { "null".to_string() } else { texts.value(row).to_string() }
            };
            let cells: Vec<String> = columns.iter().map(cell).collect();
            lines.push(format!("{weight:+} {}", cells.join(" ")));
        }
    }
    lines
}

/// A change of a total: region, customer, total, weight, whether it is a half of an update.
type Change<'a> = (&'a str, &'a str, i64, i64, bool);

fn changes(changes: &[Change<'_>]) -> Batch {
    let column = |pick: fn(&Change<'_>) -> String| Arc::new(StringArray::from_iter_values(changes.iter().map(pick))) as ArrayRef;
    let totals = Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.2)));
    let columns = vec![column(|change| change.0.to_string()), column(|change| change.1.to_string()), totals];
    Batch {
        weights: Some(Int64Array::from_iter_values(changes.iter().map(|change| change.3))),
        updates: Some(BooleanArray::from_iter(changes.iter().map(|change| Some(change.4)))),
        ..Batch::append(RecordBatch::try_new(Arc::new(Schema::new(fields())), columns).expect("equal lengths"))
    }
}

/// One segment, held in memory.
struct Held(Vec<u8>);

impl SegmentReader for Held {
    fn read(&self, _: &SegmentRef) -> Result<Bytes> {
        Ok(Bytes::from(self.0.clone()))
    }
}

/// Writes epochs, each of batches, under the exactly-once protocol, each delivered twice; returns the records in each.
fn write_epochs(dir: &Path, more: &[(&str, &str)], epochs: &[Vec<Batch>]) -> Vec<u64> {
    let request = SinkRequest {
        table: "t".to_string(),
        sink_id: "t".to_string(),
        options: options(more),
        schema: Arc::new(Schema::new(fields())),
        metadata: vec![None; 3],
        partitioned_by: vec![],
        primary_key: primary_key(),
        time_zone: "UTC".to_string(),
        clock: Arc::new(ManualClock::at_wall_ms(77)),
    };
    let sink = EmbeddedSink::from_sink(&request, Arc::new(FILE_FORMATS.encoder), dir).expect("a good table");
    let mut writer = sink.writer(LaneId(0)).expect("writer");
    let context = DeliveryContext {
        job_id: "job".to_string(),
        generation: Generation(1),
        nonce: "nonce".to_string(),
        clock: request.clock.clone(),
    };
    let mut deliverer = sink.deliverer(context).expect("deliverer");
    deliverer.fence().expect("alone");
    let mut records = vec![];
    for (epoch, batches) in (1..).map(Epoch).zip(epochs) {
        batches.iter().for_each(|batch| writer.write(batch).expect("written"));
        let segments = writer.prepare(epoch).expect("closed");
        records.push(segments.iter().map(|segment| segment.rows).sum());
        for (index, segment) in (0..).zip(segments) {
            let reference = SegmentRef {
                sink_id: "t".to_string(),
                tag: segment.tag,
                epoch,
                lane: LaneId(0),
                index,
                object: "o".to_string(),
                offset: 0,
                length: segment.bytes.len() as u64,
                crc32: 0,
                rows: segment.rows,
                written_ms: 0,
            };
            let deliveries = [PlannedDelivery { target: String::new(), segments: vec![reference] }];
            let held = Held(segment.bytes);
            for _ in 0..2 {
                deliverer.deliver(epoch, &deliveries, &held).expect("delivered");
            }
        }
    }
    records
}

#[test]
fn a_key_has_one_record_an_epoch_and_no_value_when_it_goes() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 1).expect("topic");
    let first = vec![
        changes(&[("north", "ann", 1, 1, false), ("north", "bob", 2, 1, false), ("north", "ann", 1, -1, true)]),
        // An update that ends with the next batch, and a row that comes and goes.
        changes(&[("north", "ann", 5, 1, true), ("south", "cid", 3, 1, false), ("south", "cid", 3, -1, false)]),
    ];
    let second = vec![
        // A row of weight 0 is none; half an update whose other half was kept back deletes.
        changes(&[("north", "ann", 9, 0, false), ("north", "bob", 2, -1, true)]),
        changes(&[("south", "dot", 4, 3, false)]),
    ];
    assert_eq!(write_epochs(dir.path(), &[], &[first, vec![], second]), [3, 0, 2]);
    let (batches, skipped) = read(&source(dir.path(), physical(), &[])).expect("good records");
    assert_eq!(skipped, 0);
    assert_eq!(lines(&batches), ["+1 north bob 2", "+1 north ann 5", "-1 south cid null", "-1 north bob null", "+1 south dot 4"]);
    // Deletions leave out columns that are declared NOT NULL.
    assert!(batches[0].0.schema().field(2).is_nullable());
}

#[test]
fn at_least_once_writes_changes_as_they_come() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 1).expect("topic");
    let more = [("sink.delivery-guarantee", "at-least-once")];
    let batches = vec![
        changes(&[("north", "ann", 1, 1, false), ("north", "ann", 1, -1, true), ("north", "ann", 2, 1, true)]),
        changes(&[("north", "ann", 2, -1, false)]),
    ];
    assert_eq!(write_epochs(dir.path(), &more, &[batches]), [0]);
    let (batches, _) = read(&source(dir.path(), physical(), &more)).expect("good records");
    assert_eq!(lines(&batches), ["+1 north ann 2", "-1 north ann null"]);
}

/// The records of the topic's partition, as `key = value`.
fn records(dir: &Path, partition: i32) -> Vec<String> {
    let topic = super::log::Topic::find(dir, "t").expect("read").expect("written");
    let mut reader = topic.reader(partition).expect("partition");
    let mut found = vec![];
    while let Some(frame) = reader.next_frame().expect("good") {
        for record in crate::output_frames::FrameReader::new(&frame.payload).expect("version") {
            let record = record.expect("whole");
            let text =
                |bytes: Option<&[u8]>| bytes.map_or("null".to_string(), |bytes| String::from_utf8_lossy(bytes).into_owned());
            found.push(format!("{} = {}", text(record.key), text(record.value)));
        }
    }
    found
}

#[test]
fn keys_are_the_primary_key_in_its_order_and_choose_the_partition() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 3).expect("topic");
    let key = r#"{"customer":"ann","region":"north"}"#;
    let partition = (crate::kafka::partitioner::murmur2(key.as_bytes()) & 0x7fff_ffff) % 3;
    let row = |total, weight| vec![changes(&[("north", "ann", total, weight, false)])];
    write_epochs(dir.path(), &[], &[row(1, 1), row(1, -1)]);
    let value = r#"{"region":"north","customer":"ann","total":1}"#;
    assert_eq!(records(dir.path(), partition as i32), [format!("{key} = {value}"), format!("{key} = null")]);

    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 1).expect("topic");
    let except = [("value.fields-include", "EXCEPT_KEY"), ("key.format", "csv"), ("value.format", "raw")];
    write_epochs(dir.path(), &except, &[row(7, 1), row(7, -1)]);
    assert_eq!(records(dir.path(), 0), ["ann,north = \0\0\0\0\0\0\0\u{7}", "ann,north = null"]);
    let (batches, _) = read(&source(dir.path(), physical(), &except)).expect("good records");
    assert_eq!(lines(&batches), ["+1 north ann 7", "-1 north ann null"]);
}

#[test]
fn deletions_have_metadata_and_records_without_a_key_are_skipped() {
    let dir = tempfile::tempdir().expect("folder");
    create_topic(dir.path(), "t", 1).expect("topic");
    let key = br#"{"customer":"ann","region":"north"}"#;
    let value = br#"{"region":"north","customer":"ann","total":1}"#;
    let records = [
        NewRecord { timestamp_ms: Some(5), key: Some(key), value: Some(value), ..NewRecord::default() },
        NewRecord { timestamp_ms: Some(6), key: None, value: Some(value), ..NewRecord::default() },
        NewRecord { timestamp_ms: Some(7), key: None, value: None, ..NewRecord::default() },
        NewRecord { timestamp_ms: Some(8), key: Some(key), value: None, ..NewRecord::default() },
        // A value with nothing in it is no deletion, and gives no row.
        NewRecord { timestamp_ms: Some(9), key: Some(key), value: Some(b""), ..NewRecord::default() },
    ];
    append(dir.path(), "t", 0, &records, 1_000).expect("append");
    let metadata = |key: &str, kind: DataType| ScanField::Metadata {
        key: key.to_string(),
        field: Arc::new(Field::new(format!("m_{key}"), kind, false)),
    };
    let mut wanted = physical();
    wanted.push(metadata("offset", DataType::Int64));
    wanted.push(metadata("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None)));
    let (batches, skipped) = read(&source(dir.path(), wanted, &[])).expect("good records");
    assert_eq!(lines(&batches), ["+1 north ann 1 0 1970-01-01T00:00:00.005", "-1 north ann null 3 1970-01-01T00:00:00.008"]);
    assert_eq!(skipped, 2);
}

#[test]
fn bad_keys_of_deletions_and_bad_values_are_named() {
    let check = |key: &str, value: Option<&str>, expected: &str| {
        let dir = tempfile::tempdir().expect("folder");
        create_topic(dir.path(), "t", 1).expect("topic");
        let record = NewRecord { key: Some(key.as_bytes()), value: value.map(str::as_bytes), ..NewRecord::default() };
        append(dir.path(), "t", 0, &[record], 1_000).expect("append");
        let error = read(&source(dir.path(), physical(), &[])).expect_err("cannot be decoded");
        assert_eq!(error.kind, ErrorKind::Record);
        assert!(error.message.contains("topic t partition 0 offset 0") && error.message.contains(expected), "{}", error.message);
    };
    check("{", None, "");
    check(r#"{"customer":"ann","region":"north"}"#, Some(r#"{"region":"north","customer":"ann"}"#), "total");
}

/// What a reader of the topic makes of it: the last row of each key.
fn table_of(batches: &[(RecordBatch, Vec<i64>)]) -> BTreeMap<(String, String), i64> {
    let mut table = BTreeMap::new();
    for (rows, weights) in batches {
        let (regions, customers) = (rows.column(0).as_string::<i32>(), rows.column(1).as_string::<i32>());
        for (row, weight) in weights.iter().enumerate() {
            let key = (regions.value(row).to_string(), customers.value(row).to_string());
            match weight {
                1 => table.insert(key, rows.column(2).as_primitive::<Int64Type>().value(row)),
                _ => table.remove(&key),
            };
        }
    }
    table
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_reader_sees_the_table(
        history in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(("[ns]", "[a-d]", 0..9_i64, any::<bool>()), 0..6), 0..4),
            0..4,
        ),
    ) {
        let mut table: BTreeMap<(String, String), i64> = BTreeMap::new();
        let mut epochs = vec![];
        let mut keys_of_epochs = vec![];
        for epoch in &history {
            let (mut batches, mut keys) = (vec![], std::collections::BTreeSet::new());
            for batch in epoch {
                let mut made: Vec<Change<'_>> = vec![];
                for (region, customer, total, is_deletion) in batch {
                    let key = (region.clone(), customer.clone());
                    let before = table.get(&key).copied();
                    if let Some(before) = before {
                        made.push((region, customer, before, -1, !is_deletion));
                        keys.insert(key.clone());
                    }
                    if *is_deletion {
                        table.remove(&key);
                    } else {
                        made.push((region, customer, *total, 1, before.is_some()));
                        keys.insert(key.clone());
                        table.insert(key, *total);
                    }
                }
                batches.push(changes(&made));
            }
            epochs.push(batches);
            keys_of_epochs.push(keys.len() as u64);
        }
        let dir = tempfile::tempdir().expect("folder");
        create_topic(dir.path(), "t", 2).expect("topic");
        prop_assert_eq!(write_epochs(dir.path(), &[], &epochs), keys_of_epochs);
        let (batches, _) = read(&source(dir.path(), physical(), &[])).expect("good records");
        prop_assert_eq!(table_of(&batches), table);
    }
}

//! `upsert-kafka` over real Kafka and over embedded topics: what a sink writes, tombstones included, and what a source makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use thalweg_connectors::embedded::{self, NewRecord, log::Topic};
use thalweg_connectors::output_frames::FrameReader;

use crate::real_parts::{Kafka, kafka};
use crate::support::{Outcome, run_within, thalweg};

const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

/// Key and value of a record; a value of no bytes is one.
type Record = (Option<String>, Option<String>);

/// Where the topics of a test are.
enum Topics {
    Broker(&'static Kafka),
    Folder,
}

/// A folder with the files of a test, and its topics.
struct World {
    topics: Topics,
    folder: tempfile::TempDir,
    name: String,
}

impl World {
    fn new(topics: Topics, name: &str) -> Self {
        let name = format!("upserts-{name}-{}", std::process::id());
        World { topics, folder: tempfile::tempdir().expect("a folder can be made"), name }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    fn create(&self, name: &str) {
        match &self.topics {
            Topics::Broker(kafka) => kafka.create_topic(&self.topic(name), PARTITIONS),
            Topics::Folder => {
                embedded::create_topic(&self.embedded(), &self.topic(name), PARTITIONS as u32)
                    .expect("the folder can be written");
            }
        }
    }

    fn embedded(&self) -> std::path::PathBuf {
        self.folder.path().join("topics")
    }

    fn bootstrap(&self) -> &str {
        match &self.topics {
            Topics::Broker(kafka) => &kafka.bootstrap,
            Topics::Folder => "no.broker:9092",
        }
    }

    /// Appends records to one partition.
    fn put(&self, name: &str, partition: i32, records: &[(Option<&str>, Option<&str>)]) {
        match &self.topics {
            Topics::Folder => {
                let records: Vec<NewRecord<'_>> = records
                    .iter()
                    .map(|(key, value)| NewRecord {
                        key: key.map(str::as_bytes),
                        value: value.map(str::as_bytes),
                        ..NewRecord::default()
                    })
                    .collect();
                embedded::append(&self.embedded(), &self.topic(name), partition as u32, &records, 0).expect("appended");
            }
            Topics::Broker(kafka) => {
                let producer: BaseProducer = kafka.config().create().expect("a producer needs only an address");
                let topic = self.topic(name);
                for (key, value) in records {
                    let mut record = BaseRecord::<str, str>::to(&topic).partition(partition);
                    record.key = *key;
                    record.payload = *value;
                    producer.send(record).map_err(|(error, _)| error).expect("few records fit the queue");
                }
                producer.flush(Duration::from_secs(30)).expect("the broker takes the records");
            }
        }
    }

    /// The committed records of a topic, by partition.
    fn records(&self, name: &str) -> BTreeMap<i32, Vec<Record>> {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let mut found: BTreeMap<i32, Vec<Record>> = (0..PARTITIONS).map(|partition| (partition, vec![])).collect();
        match &self.topics {
            Topics::Folder => {
                let topic = Topic::find(&self.embedded(), &self.topic(name)).expect("read").expect("written");
                for (partition, records) in &mut found {
                    let mut reader = topic.reader(*partition).expect("partition");
                    while let Some(frame) = reader.next_frame().expect("whole frames") {
                        for record in FrameReader::new(&frame.payload).expect("version") {
                            let record = record.expect("whole");
                            records.push((text(record.key), text(record.value)));
                        }
                    }
                }
            }
            Topics::Broker(kafka) => {
                let consumer: BaseConsumer = kafka
                    .config()
                    .set("group.id", "verifier")
                    .set("enable.auto.commit", "false")
                    .set("enable.partition.eof", "true")
                    .set("isolation.level", "read_committed")
                    .create()
                    .expect("a consumer needs only an address");
                let mut assignment = TopicPartitionList::new();
                for partition in 0..PARTITIONS {
                    assignment.add_partition_offset(&self.topic(name), partition, Offset::Beginning).expect("the offset is fine");
                }
                consumer.assign(&assignment).expect("partitions can be assigned");
                let mut ended = BTreeSet::new();
                while ended.len() < PARTITIONS as usize {
                    match consumer.poll(Duration::from_secs(30)).expect("rows or the end come within 30 s") {
                        Ok(message) => {
                            let records = found.get_mut(&message.partition()).expect("a known partition");
                            records.push((text(message.key()), text(message.payload())));
                        }
                        Err(KafkaError::PartitionEOF(partition)) => {
                            ended.insert(partition);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
        found
    }

    /// Runs `sql` until it has caught up. Jobs of equal `job` go on from each other's checkpoints.
    fn run(&self, job: &str, sql: &str, arguments: &[&str]) -> Outcome {
        let file = self.folder.path().join(format!("{job}.sql"));
        fs::write(&file, sql).expect("the folder can be written");
        let mut command = thalweg();
        command.arg("run").arg(&file).arg("--until-caught-up").args(arguments);
        command.arg("--checkpoint-dir").arg(self.folder.path().join(format!("{job}-checkpoints")));
        if matches!(self.topics, Topics::Folder) {
            command.arg("--embedded").arg(self.embedded());
        }
        run_within(&mut command, LIMIT)
    }

    /// `orders (customer, total)`, read from `kafka`.
    fn orders(&self) -> String {
        format!(
            "CREATE TABLE orders (customer STRING, total BIGINT) WITH ('connector' = 'kafka', 'topic' = '{}',
               'properties.bootstrap.servers' = '{}', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');",
            self.topic("orders"),
            self.bootstrap()
        )
    }

    /// A table of upserts; `columns` include the PRIMARY KEY.
    fn table(&self, name: &str, columns: &str, options: &str) -> String {
        format!(
            "CREATE TABLE {name} ({columns}) WITH ('connector' = 'upsert-kafka', 'topic' = '{}',
               'properties.bootstrap.servers' = '{}', 'key.format' = 'json', {options});",
            self.topic(name),
            self.bootstrap()
        )
    }

    fn spending(&self) -> String {
        self.table(
            "spending",
            "customer STRING, orders BIGINT NOT NULL, spent BIGINT, PRIMARY KEY (customer) NOT ENFORCED",
            "'value.format' = 'json', 'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'p'",
        )
    }
}

/// The last record of each key, by key, and a check that all records of a key are in one partition.
fn compacted(records: &BTreeMap<i32, Vec<Record>>) -> BTreeMap<String, Option<String>> {
    let mut last = BTreeMap::new();
    let mut places: BTreeMap<&String, i32> = BTreeMap::new();
    for (partition, records) in records {
        for (key, value) in records {
            let key = key.as_ref().expect("upserts have keys");
            assert_eq!(*places.entry(key).or_insert(*partition), *partition, "the records of {key} are in one partition");
            last.insert(key.clone(), value.clone());
        }
    }
    last
}

/// The rows that are left when all changes of an output are made.
fn integral(outcome: &Outcome) -> Vec<String> {
    let mut rows: BTreeMap<String, i64> = BTreeMap::new();
    for line in outcome.rows() {
        let mut row: serde_json::Map<String, Value> = serde_json::from_str(&line).expect("rows are JSON");
        let kind = row.remove("op").expect("the rows of a table of upserts change");
        let weight = if kind == "+I" || kind == "+U" { 1 } else { -1 };
        *rows.entry(Value::Object(row).to_string()).or_default() += weight;
    }
    assert!(rows.values().all(|count| *count == 0 || *count == 1), "every row that goes was there: {rows:?}");
    rows.into_iter().filter(|(_, count)| *count == 1).map(|(row, _)| row).collect()
}

fn order(customer: &str, total: i64) -> String {
    format!(r#"{{"customer":"{customer}","total":{total}}}"#)
}

fn put_orders(world: &World, orders: &[(&str, i64)]) {
    for (customer, total) in orders {
        // Each customer has a partition, so that the order of the sums is known.
        let partition = i32::from(customer.as_bytes()[0]) % PARTITIONS;
        world.put("orders", partition, &[(None, Some(&order(customer, *total)))]);
    }
}

/// A changing result into a topic and back, with stops and another number of lanes in between.
fn round_trip(world: &World) {
    world.create("orders");
    world.create("spending");
    // Customers with three orders and more are none of the table any more.
    let write = format!(
        "{}{}INSERT INTO spending SELECT customer, COUNT(*), SUM(total) FROM orders GROUP BY customer HAVING COUNT(*) < 3;",
        world.orders(),
        world.spending()
    );
    let read = format!("{}SELECT * FROM spending;", world.spending());
    put_orders(world, &[("ann", 1), ("bob", 5), ("ann", 2), ("cid", 9)]);
    world.run("write", &write, &["--parallelism", "2"]).expect_code(0);
    let row = |customer: &str, orders: i64, spent: i64| {
        Some(format!(r#"{{"customer":"{customer}","orders":{orders},"spent":{spent}}}"#))
    };
    let key = |customer: &str| format!(r#"{{"customer":"{customer}"}}"#);
    let expected = |rows: Vec<(&str, Option<String>)>| -> BTreeMap<String, Option<String>> {
        rows.into_iter().map(|(customer, row)| (key(customer), row)).collect()
    };
    let first = expected(vec![("ann", row("ann", 2, 3)), ("bob", row("bob", 1, 5)), ("cid", row("cid", 1, 9))]);
    assert_eq!(compacted(&world.records("spending")), first);
    put_orders(world, &[("ann", 4), ("bob", 6), ("dot", 7), ("ann", 8)]);
    world.run("write", &write, &["--parallelism", "3"]).expect_code(0);
    let records = world.records("spending");
    let last = vec![("ann", None), ("bob", row("bob", 2, 11)), ("cid", row("cid", 1, 9)), ("dot", row("dot", 1, 7))];
    assert_eq!(compacted(&records), expected(last));
    let tombstones = records.values().flatten().filter(|(_, value)| value.is_none()).count();
    assert_eq!(tombstones, 1, "one customer has gone: {records:?}");
    // Nothing new: nothing is written again.
    world.run("write", &write, &["--parallelism", "1"]).expect_code(0);
    assert_eq!(world.records("spending"), records);

    let shown = [r#"{"customer":"bob","orders":2,"spent":11}"#, r#"{"customer":"cid","orders":1,"spent":9}"#];
    let shown = [&shown[..], &[r#"{"customer":"dot","orders":1,"spent":7}"#]].concat();
    for lanes in ["1", "3"] {
        assert_eq!(integral(&world.run("read", &read, &["--parallelism", lanes]).expect_code(0)), shown, "{lanes} lanes");
    }
    // A query over the table takes back what it counted before.
    let total = format!("{}SELECT COUNT(*) AS n, SUM(spent) AS total FROM spending;", world.spending());
    assert_eq!(integral(&world.run("total", &total, &[]).expect_code(0)), [r#"{"n":3,"total":27}"#]);
}

#[test]
fn a_table_goes_through_kafka() {
    round_trip(&World::new(Topics::Broker(kafka()), "kafka"));
}

#[test]
fn a_table_goes_through_embedded_topics() {
    round_trip(&World::new(Topics::Folder, "embedded"));
}

/// Records of other writers: empty values, keys without a row, records without a key; and a value that is only a text.
fn foreign_records(world: &World) {
    world.create("notes");
    let columns = "id BIGINT, note STRING, PRIMARY KEY (id) NOT ENFORCED";
    let notes = world.table("notes", columns, "'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'");
    let (one, two, three) = (Some(r#"{"id":1}"#), Some(r#"{"id":2}"#), Some(r#"{"id":3}"#));
    world.put("notes", 0, &[(one, Some("first")), (two, Some("gone")), (three, None), (None, Some("no key")), (None, None)]);
    world.put("notes", 0, &[(one, Some("")), (two, None), (two, None)]);
    let read = format!("{notes}SELECT * FROM notes;");
    let outcome = world.run("notes", &read, &["--parallelism", "1"]).expect_code(0);
    assert_eq!(integral(&outcome), [r#"{"id":1,"note":""}"#], "an empty value is no tombstone");
    assert!(outcome.stderr.contains("skipped 2 records of notes"), "{}", outcome.stderr);
    let marks: Vec<String> = outcome.rows().iter().map(|row| row[7..9].to_string()).collect();
    assert_eq!(marks, ["+I", "+I", "-U", "+U", "-D"], "{:?}", outcome.rows());
}

#[test]
fn records_of_others_on_kafka() {
    foreign_records(&World::new(Topics::Broker(kafka()), "foreign"));
}

#[test]
fn records_of_others_on_embedded_topics() {
    foreign_records(&World::new(Topics::Folder, "foreign-embedded"));
}

#[test]
fn several_rows_of_a_key_are_reduced() {
    let world = World::new(Topics::Folder, "conflict");
    world.create("orders");
    // One partition and one lane, so that it is known which comes last.
    for (customer, total) in [("ann", 1), ("bob", 1), ("ann", 2), ("cid", 1)] {
        world.put("orders", 0, &[(None, Some(&order(customer, total)))]);
    }
    let columns = "spent BIGINT, customer STRING, PRIMARY KEY (spent) NOT ENFORCED";
    let by_sum = world.table("by_sum", columns, "'value.format' = 'json'");
    let insert = "INSERT INTO by_sum SELECT SUM(total), customer FROM orders GROUP BY customer";
    let refused = world.run("refused", &format!("{}{by_sum}{insert};", world.orders()), &[]).expect_code(2);
    assert!(refused.stderr.contains("TW0402") && refused.stderr.contains("ON CONFLICT DO DEDUPLICATE"), "{}", refused.stderr);
    let sql = format!("{}{by_sum}{insert} ON CONFLICT DO DEDUPLICATE;", world.orders());
    world.run("reduced", &sql, &["--parallelism", "1"]).expect_code(0);
    let value = |spent: i64, customer: &str| Some(format!(r#"{{"spent":{spent},"customer":"{customer}"}}"#));
    let expected = [(1, value(1, "cid")), (3, value(3, "ann"))];
    let expected = expected.map(|(spent, value)| (format!(r#"{{"spent":{spent}}}"#), value));
    assert_eq!(compacted(&world.records("by_sum")), BTreeMap::from(expected));
    let failed = world.run("failed", &sql.replace("DEDUPLICATE", "ERROR"), &["--parallelism", "1"]);
    assert!(failed.code == Some(1) && failed.stderr.contains("rows have the primary key spent = 1"), "{}", failed.stderr);
    let null = world.run(
        "null",
        &format!("{by_sum}INSERT INTO by_sum VALUES (CAST(NULL AS BIGINT), 'x') ON CONFLICT DO DEDUPLICATE;"),
        &[],
    );
    assert!(null.code != Some(0) && null.stderr.contains("spent"), "{}", null.stderr);
}

#[test]
fn a_missing_key_is_shown_in_the_text() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("t.sql");
    let sql = "CREATE TABLE t (id BIGINT, note STRING) WITH (\n  'connector' = 'upsert-kafka', 'topic' = 't',\n  \
               'properties.bootstrap.servers' = 'b:9092', 'key.format' = 'json', 'value.format' = 'json');\nSELECT * FROM t;";
    fs::write(&file, sql).expect("the folder can be written");
    let outcome = run_within(thalweg().arg("check").arg(&file), LIMIT).expect_code(2);
    assert!(outcome.stderr.contains("TW0111") && outcome.stderr.contains("t.sql:2:17"), "{}{}", outcome.stderr, outcome.stdout);
    assert!(outcome.stderr.contains("add PRIMARY KEY (column) NOT ENFORCED"), "{}", outcome.stderr);
}

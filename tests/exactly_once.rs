//! Exactly once against a real Kafka and a real S3: killed at any moment, started twice, stopped and resumed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use thalweg_core::{Rand, SeededRand};

use crate::real_parts::{Kafka, S3, kafka, s3};
use crate::support::{run_within, thalweg, wait_within};

const PARTITIONS: i32 = 3;
const USERS: u64 = 50;
/// Event time between rows; 10,000 rows are a window.
const ROW_MS: u64 = 1;
const WINDOW_MS: u64 = 10_000;

/// Row `id` of the ledger: its user, amount and event time follow from the id, so the verifier needs no log.
fn row(id: u64) -> (u64, u64, u64) {
    let user = (id * 7_919) % USERS;
    (user, (id * 31) % 1_000, id * ROW_MS)
}

fn time_text(ms: u64) -> String {
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    format!("2026-01-01 {:02}:{:02}:{:02}.{ms:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// Produces rows `from..to`, each to the partition of its user, in order of time.
fn produce(kafka: &Kafka, topic: &str, from: u64, to: u64) {
    let producer: BaseProducer = kafka.config().set("linger.ms", "5").create().expect("a producer needs only an address");
    for id in from..to {
        let (user, amount, at) = row(id);
        let value = format!(r#"{{"id":{id},"user_id":{user},"amount":{amount},"at":"{}"}}"#, time_text(at));
        send(&producer, topic, (user % PARTITIONS as u64) as i32, &value);
    }
    producer.flush(Duration::from_secs(30)).expect("the broker takes the rows");
}

/// One row in each partition, a minute behind `last`: closes every window of the ledger. It has user -1.
fn produce_closing_rows(kafka: &Kafka, topic: &str, last: u64) {
    let producer: BaseProducer = kafka.config().create().expect("a producer needs only an address");
    for partition in 0..PARTITIONS {
        let at = time_text(last * ROW_MS + 60_000);
        send(&producer, topic, partition, &format!(r#"{{"id":-{},"user_id":-1,"amount":0,"at":"{at}"}}"#, partition + 1));
    }
    producer.flush(Duration::from_secs(30)).expect("the broker takes the rows");
}

/// How many times the profile of each user changes while the rows flow; every fourth change takes it away.
const PROFILE_CHANGES: u64 = 40;

/// The tier of a user behind change `number` of their profile; `None` when that takes the profile away.
fn tier(user: u64, number: u64) -> Option<String> {
    let turn = user + number;
    (turn % 4 != 3).then(|| format!("tier-{}", turn % 5))
}

/// Sends change `number` of all profiles: a row, or a tombstone.
fn produce_profiles(kafka: &Kafka, topic: &str, number: u64) {
    let producer: BaseProducer = kafka.config().create().expect("a producer needs only an address");
    for user in 0..USERS {
        let key = format!(r#"{{"user_id":{user}}}"#);
        let value = tier(user, number).map(|tier| format!(r#"{{"user_id":{user},"tier":"{tier}"}}"#));
        let record = BaseRecord::<str, str>::to(topic).partition((user % PARTITIONS as u64) as i32).key(&key);
        let record = match &value {
            Some(value) => record.payload(value),
            None => record,
        };
        producer.send(record).map_err(|(error, _)| error).expect("50 records fit the queue");
    }
    producer.flush(Duration::from_secs(30)).expect("the broker takes the profiles");
}

/// What a reader of the topic of the join ends with: user to (tier, count, sum). The last record of a key holds; one without a
/// value takes the key away.
fn table_of(kafka: &Kafka, topic: &str) -> BTreeMap<u64, (String, u64, u64)> {
    let mut table = BTreeMap::new();
    for (key, value) in read_committed_records(kafka, topic) {
        let key = key["user_id"].as_u64().expect("keys are users");
        match value {
            None => table.remove(&key),
            Some(row) => {
                assert_eq!(row["user_id"].as_u64(), Some(key), "key and value speak of one user");
                let tier = row["tier"].as_str().expect("text").to_string();
                table.insert(key, (tier, row["n"].as_u64().expect("a count"), row["total"].as_u64().expect("a sum")))
            }
        };
    }
    table
}

/// The batch answer: the users who have a profile in the end, with all of their rows.
fn expected_table(count: u64) -> BTreeMap<u64, (String, u64, u64)> {
    let mut totals: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for id in 0..count {
        let (user, amount, _) = row(id);
        let total = totals.entry(user).or_default();
        total.0 += 1;
        total.1 += amount;
    }
    let with_tier = |(user, (n, total))| Some((user, (tier(user, PROFILE_CHANGES - 1)?, n, total)));
    totals.into_iter().filter_map(with_tier).collect()
}

fn verify_table(kafka: &Kafka, topic: &str, count: u64) {
    let (found, expected) = (table_of(kafka, topic), expected_table(count));
    assert!(expected.len() < USERS as usize, "some profiles are gone in the end, so that tombstones matter");
    assert_eq!(found, expected, "the table that a reader builds from the topic is the batch answer");
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, value: &str) {
    let mut record = BaseRecord::<(), str>::to(topic).partition(partition).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(50));
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
    producer.poll(Duration::ZERO);
}

/// The values of [`read_committed_records`]: all records have one.
fn read_committed(kafka: &Kafka, topic: &str) -> Vec<Value> {
    read_committed_records(kafka, topic).into_iter().map(|(_, value)| value.expect("rows have values")).collect()
}

/// Key (null if there is none) and value of every record of a topic that a read_committed reader sees, and a check that such a
/// reader is not held back.
fn read_committed_records(kafka: &Kafka, topic: &str) -> Vec<(Value, Option<Value>)> {
    let consumer = |isolation: &str| -> BaseConsumer {
        kafka
            .config()
            .set("group.id", "verifier")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation)
            .create()
            .expect("a consumer needs only an address")
    };
    let committed = consumer("read_committed");
    let uncommitted = consumer("read_uncommitted");
    let metadata = committed.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("the broker answers");
    let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        let stable = committed.fetch_watermarks(topic, *partition, Duration::from_secs(10)).expect("the broker answers").1;
        let high = uncommitted.fetch_watermarks(topic, *partition, Duration::from_secs(10)).expect("the broker answers").1;
        assert_eq!(stable, high, "{topic}/{partition}: an open transaction holds readers back");
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).expect("the offset is fine");
    }
    committed.assign(&assignment).expect("partitions can be assigned");
    let mut ended = BTreeSet::new();
    let mut rows = vec![];
    while ended.len() < partitions.len() {
        match committed.poll(Duration::from_secs(30)).expect("rows or the end come within 30 s") {
            Ok(message) => {
                let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("keys and values are JSON");
                rows.push((message.key().map_or(Value::Null, json), message.payload().map(json)));
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                ended.insert(partition);
            }
            Err(error) => panic!("{error}"),
        }
    }
    rows
}

/// What the windows of rows `0..count` must be: (user, window start) to (count, sum).
fn expected_windows(count: u64) -> BTreeMap<(u64, String), (u64, u64)> {
    let mut windows: BTreeMap<(u64, String), (u64, u64)> = BTreeMap::new();
    for id in 0..count {
        let (user, amount, at) = row(id);
        let start = time_text(at / WINDOW_MS * WINDOW_MS).trim_end_matches(".000").to_string();
        let window = windows.entry((user, start)).or_default();
        window.0 += 1;
        window.1 += amount;
    }
    windows
}

/// Checks the windows in `topic` against the model: each one once, with the right count and sum.
fn verify_windows(kafka: &Kafka, topic: &str, count: u64) {
    let mut seen = BTreeMap::new();
    for row in read_committed(kafka, topic) {
        let key = (
            row["user_id"].as_u64().expect("closing rows close no window"),
            row["window_start"].as_str().expect("text").to_string(),
        );
        let value = (row["n"].as_u64().expect("a count"), row["total"].as_u64().expect("a sum"));
        assert_eq!(seen.insert(key.clone(), value), None, "window {key:?} was delivered twice");
    }
    let expected = expected_windows(count);
    let missing: Vec<_> = expected.iter().filter(|(key, value)| seen.get(*key) != Some(value)).take(5).collect();
    assert!(
        missing.is_empty(),
        "windows missing or wrong: {missing:?}; got {:?}",
        missing.iter().map(|(key, _)| seen.get(*key)).collect::<Vec<_>>()
    );
    assert_eq!(seen.len(), expected.len(), "no window beyond those of the ledger");
}

fn s3_store(s3: &S3, bucket: &str) -> Arc<dyn ObjectStore> {
    Arc::new(
        object_store::aws::AmazonS3Builder::new()
            .with_endpoint(&s3.endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("test")
            .with_secret_access_key("test")
            .with_bucket_name(bucket)
            .build()
            .expect("the address is right"),
    )
}

/// Makes a bucket, which S3 does by a bare PUT.
fn create_bucket(s3: &S3, bucket: &str) {
    use std::io::{Read, Write};
    let address = s3.endpoint.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).expect("moto listens");
    let request = format!("PUT /{bucket} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("moto reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("moto answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The ids in all Parquet files of a bucket, each with how often it occurs.
fn lake_ids(store: &Arc<dyn ObjectStore>) -> BTreeMap<i64, usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio starts");
    runtime.block_on(async {
        let mut ids = BTreeMap::new();
        let objects: Vec<_> = store.list(None).try_collect().await.expect("the bucket can be listed");
        for object in objects {
            assert!(object.location.as_ref().ends_with(".parquet"), "only whole files are in the lake, not {}", object.location);
            let bytes = store.get(&object.location).await.expect("the file is there").bytes().await.expect("it can be read");
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("it is Parquet").build().expect("it can be read");
            for batch in reader {
                let batch = batch.expect("it can be decoded");
                let column = batch.column_by_name("id").expect("the lake has ids").as_primitive::<Int64Type>().clone();
                for row in 0..column.len() {
                    *ids.entry(column.value(row)).or_default() += 1;
                }
            }
        }
        ids
    })
}

fn verify_lake(store: &Arc<dyn ObjectStore>, count: u64) {
    let ids = lake_ids(store);
    let twice: Vec<_> = ids.iter().filter(|(_, times)| **times > 1).take(5).collect();
    assert!(twice.is_empty(), "rows that are in the lake more than once: {twice:?}");
    let missing: Vec<u64> = (0..count).filter(|id| !ids.contains_key(&(*id as i64))).take(5).collect();
    assert!(missing.is_empty(), "rows that are not in the lake: {missing:?}");
    assert_eq!(ids.len() as u64, count + PARTITIONS as u64, "no row beyond the ledger and the closing rows");
}

/// What the kill loop adds to the windows.
struct Extras<'a> {
    /// For a Parquet lake with the raw rows.
    bucket: &'a str,
    /// Topic of the profiles, joined with totals that change with every row.
    profiles: &'a str,
    /// Where the join goes.
    joined: &'a str,
}

/// A source, an exactly-once topic with the windows, and the extras.
fn pipeline(kafka: &Kafka, input: &str, output: &str, extras: Option<&Extras<'_>>) -> String {
    let bootstrap = &kafka.bootstrap;
    let (tables, inserts) = match extras {
        None => (String::new(), String::new()),
        Some(Extras { bucket, profiles, joined }) => (
            format!(
                "CREATE TABLE lake (id BIGINT, user_id BIGINT, amount BIGINT, `at` TIMESTAMP(3)) WITH (
                   'connector' = 'filesystem', 'path' = 's3://{bucket}/rows', 'format' = 'parquet',
                   'sink.rolling-policy.rollover-interval' = '2 s');
                 CREATE TABLE profiles (user_id BIGINT, tier STRING, PRIMARY KEY (user_id) NOT ENFORCED) WITH (
                   'connector' = 'upsert-kafka', 'topic' = '{profiles}', 'properties.bootstrap.servers' = '{bootstrap}',
                   'key.format' = 'json', 'value.format' = 'json');
                 CREATE TABLE joined (user_id BIGINT, tier STRING, n BIGINT, total BIGINT, PRIMARY KEY (user_id) NOT ENFORCED) WITH (
                   'connector' = 'upsert-kafka', 'topic' = '{joined}', 'properties.bootstrap.servers' = '{bootstrap}',
                   'key.format' = 'json', 'value.format' = 'json',
                   'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{joined}');"
            ),
            "INSERT INTO lake SELECT id, user_id, amount, `at` FROM ledger;
             INSERT INTO joined SELECT s.user_id, p.tier, s.n, s.total
               FROM (SELECT user_id, COUNT(*) AS n, SUM(amount) AS total FROM ledger GROUP BY user_id) s
               JOIN profiles p ON s.user_id = p.user_id;"
                .to_string(),
        ),
    };
    format!(
        "CREATE TABLE ledger (id BIGINT, user_id BIGINT, amount BIGINT, `at` TIMESTAMP(3), WATERMARK FOR `at` AS `at`) WITH (
           'connector' = 'kafka', 'topic' = '{input}', 'properties.bootstrap.servers' = '{bootstrap}',
           'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
         CREATE TABLE windows (user_id BIGINT, window_start TIMESTAMP(3), n BIGINT, total BIGINT) WITH (
           'connector' = 'kafka', 'topic' = '{output}', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json',
           'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{output}');
         {tables}
         EXECUTE STATEMENT SET BEGIN
         INSERT INTO windows SELECT user_id, window_start, COUNT(*), SUM(amount)
           FROM TABLE(TUMBLE(TABLE ledger, DESCRIPTOR(`at`), INTERVAL '10' SECOND)) GROUP BY user_id, window_start, window_end;
         {inserts}
         END;"
    )
}

struct Job {
    folder: tempfile::TempDir,
}

impl Job {
    fn new(sql: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("job.sql"), format!("SET 'execution.checkpointing.interval' = '500 ms';\n{sql}"))
            .expect("the folder can be written");
        Job { folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = thalweg();
        command.arg("run").arg(self.folder.path().join("job.sql")).arg("--checkpoint-dir").arg(self.checkpoints());
        command.args(arguments).envs(s3_environment());
        command
    }

    fn checkpoints(&self) -> std::path::PathBuf {
        self.folder.path().join("checkpoints")
    }

    fn start(&self, arguments: &[&str], log: &str) -> Child {
        let log = std::fs::File::create(self.folder.path().join(log)).expect("the folder can be written");
        self.command(arguments).stdout(Stdio::null()).stderr(log).spawn().expect("the program can be started")
    }

    fn log(&self, log: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(log)).unwrap_or_default()
    }

    /// Waits until the run has committed something beyond `before` manifests.
    fn wait_for_commits(&self, beyond: usize, child: &mut Child, log: &str) {
        for _ in 0..3_000 {
            if self.newest_sequence() > beyond {
                return;
            }
            assert!(child.try_wait().expect("the child is ours").is_none(), "the job ended early:\n{}", self.log(log));
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no commit within 30 s:\n{}", self.log(log));
    }

    fn newest_sequence(&self) -> usize {
        let newest = std::fs::read_dir(self.checkpoints().join("manifest"))
            .ok()
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.split('.').next()?.parse::<usize>().ok()));
        newest.max().unwrap_or(0)
    }
}

fn s3_environment() -> Vec<(&'static str, String)> {
    s3().environment()
}

fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// Starts the job again and again with another parallelism and kills it (`kill -9`) after a random moment, while rows flow in.
/// Then one run to the end, and the ledger.
fn kill_loop(kills: u64, rows: u64, seed: u64) {
    let kafka = kafka();
    let (input, output, bucket) = (unique("kill-in"), unique("kill-out"), unique("kill-lake"));
    let (profiles, joined) = (unique("kill-profiles"), unique("kill-joined"));
    for topic in [&input, &output, &profiles, &joined] {
        kafka.create_topic(topic, PARTITIONS);
    }
    create_bucket(s3(), &bucket);
    let extras = Extras { bucket: &bucket, profiles: &profiles, joined: &joined };
    let job = Job::new(&pipeline(kafka, &input, &output, Some(&extras)));
    let mut rand = SeededRand::new(seed);
    let chunks = kills * 10;
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            for chunk in 0..chunks {
                for change in PROFILE_CHANGES * chunk / chunks..PROFILE_CHANGES * (chunk + 1) / chunks {
                    produce_profiles(kafka, &profiles, change);
                }
                produce(kafka, &input, rows * chunk / chunks, rows * (chunk + 1) / chunks);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        for kill in 0..kills {
            let parallelism = (1 + kill % 3).to_string();
            let log = format!("run-{kill}.log");
            let mut child = job.start(&["--parallelism", &parallelism], &log);
            std::thread::sleep(Duration::from_millis(1_500 + rand.below(8_000)));
            let early = child.try_wait().expect("the child is ours");
            assert!(early.is_none(), "seed {seed}: run {kill} ended by itself: {early:?}\n{}", job.log(&log));
            child.kill().expect("the child is ours");
            child.wait().expect("the child is ours");
        }
        producer.join().expect("producing does not panic");
    });
    // A claim is a manifest too: what is beyond one for each run was committed by runs that were killed later.
    let commits = job.newest_sequence().saturating_sub(kills as usize);
    assert!(
        commits > kills as usize / 3,
        "seed {seed}: only {commits} epochs were committed between the kills: they prove nothing"
    );
    produce_closing_rows(kafka, &input, rows);
    let last = run_within(&mut job.command(&["--until-caught-up", "--parallelism", "2"]), Duration::from_secs(120));
    assert_eq!(last.code, Some(0), "seed {seed}: the last run\n{}", last.stderr);
    verify_windows(kafka, &output, rows);
    verify_lake(&s3_store(s3(), &bucket), rows);
    verify_table(kafka, &joined, rows);
    println!("{kills} kills, {commits} epochs committed between them, {rows} rows: none lost, none twice");
}

#[test]
fn twenty_five_kills_lose_and_double_nothing() {
    kill_loop(25, 200_000, 1);
}

#[test]
fn of_two_copies_one_survives() {
    let kafka = kafka();
    let (input, output) = (unique("twice-in"), unique("twice-out"));
    kafka.create_topic(&input, PARTITIONS);
    kafka.create_topic(&output, PARTITIONS);
    let job = Job::new(&pipeline(kafka, &input, &output, None));
    produce(kafka, &input, 0, 20_000);
    let mut first = job.start(&["--parallelism", "1"], "first.log");
    job.wait_for_commits(1, &mut first, "first.log");
    let mut second = job.start(&["--parallelism", "2"], "second.log");
    produce(kafka, &input, 20_000, 40_000);
    let status = wait_within(&mut first, Duration::from_secs(60)).expect("the older copy stops by itself");
    assert_eq!(status.code(), Some(3), "the older copy says that it was fenced:\n{}", job.log("first.log"));
    assert!(second.try_wait().expect("the child is ours").is_none(), "the newer copy goes on:\n{}", job.log("second.log"));
    produce_closing_rows(kafka, &input, 40_000);
    terminate(&mut second);
    let last = run_within(&mut job.command(&["--until-caught-up"]), Duration::from_secs(60));
    assert_eq!(last.code, Some(0), "{}", last.stderr);
    verify_windows(kafka, &output, 40_000);
}

/// SIGTERM; the job must end with 0 within 20 s.
fn terminate(child: &mut Child) {
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let status = wait_within(child, Duration::from_secs(20)).expect("a terminated job ends within 20 s");
    assert_eq!(status.code(), Some(0), "a terminated job ends with 0");
}

#[test]
fn three_scheduled_runs_equal_one_long_run() {
    let kafka = kafka();
    let (input, scheduled, long) = (unique("sched-in"), unique("sched-out"), unique("long-out"));
    for topic in [&input, &scheduled, &long] {
        kafka.create_topic(topic, PARTITIONS);
    }
    let job = Job::new(&pipeline(kafka, &input, &scheduled, None));
    for (from, to) in [(0, 13_000), (13_000, 27_000), (27_000, 40_000)] {
        produce(kafka, &input, from, to);
        if to == 40_000 {
            produce_closing_rows(kafka, &input, to);
        }
        let run = run_within(&mut job.command(&["--until-caught-up"]), Duration::from_secs(60));
        assert_eq!(run.code, Some(0), "{}", run.stderr);
    }
    let one = Job::new(&pipeline(kafka, &input, &long, None));
    let run = run_within(&mut one.command(&["--until-caught-up"]), Duration::from_secs(60));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    verify_windows(kafka, &scheduled, 40_000);
    verify_windows(kafka, &long, 40_000);
}

#[test]
fn a_changed_plan_is_refused() {
    let kafka = kafka();
    let (input, output) = (unique("plan-in"), unique("plan-out"));
    kafka.create_topic(&input, PARTITIONS);
    kafka.create_topic(&output, PARTITIONS);
    let sql = pipeline(kafka, &input, &output, None);
    let job = Job::new(&sql);
    produce(kafka, &input, 0, 1_000);
    let run = run_within(&mut job.command(&["--until-caught-up"]), Duration::from_secs(60));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    rewrite(job.folder.path(), &sql.replace("SUM(amount)", "MAX(amount)"));
    let run = run_within(&mut job.command(&["--until-caught-up"]), Duration::from_secs(60));
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("TW0501"), "{}", run.stderr);
}

fn rewrite(folder: &Path, sql: &str) {
    std::fs::write(folder.join("job.sql"), sql).expect("the folder can be written");
}

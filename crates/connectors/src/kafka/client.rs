//! Clients of a Kafka cluster: configuration, what they tell us on the side, and their errors in our words.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thalweg_core::{Code, Diagnostic, Error, ErrorKind, Options, Result};

use super::properties::{Side, client_config};

/// How long a question to the cluster may take before the user is told that it does not answer.
pub const QUESTION_TIMEOUT: Duration = Duration::from_secs(4);

/// The largest record that a topic takes by default (`max.message.bytes`).
const MAX_MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

/// Hears what a client reports on the side: log lines go to `tracing`, errors are counted and the last one is kept.
#[derive(Default)]
pub struct Reports {
    errors: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Reports {
    /// Errors since the client was made. A change during a transaction means that its outcome is in doubt.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::SeqCst)
    }

    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().ok()?.clone()
    }

    /// Notes an error that the client met by itself.
    pub fn note_error(&self, reason: &str) {
        tracing::warn!(reason, "kafka client reports an error");
        self.errors.fetch_add(1, Ordering::SeqCst);
        if let Ok(mut last) = self.last_error.lock() {
            // "1/1 brokers are down" follows the reason why, which says more.
            if last.is_none() || !reason.ends_with("brokers are down") {
                *last = Some(reason.to_string());
            }
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if reason.is_empty() { self.note_error(&error.to_string()) } else { self.note_error(reason) }
    }
}

impl ConsumerContext for Reports {}

/// A log line of librdkafka, whose levels are those of syslog.
pub fn log_line(level: i32, facility: &str, message: &str) {
    match level {
        0..=4 => tracing::warn!(facility, "librdkafka: {message}"),
        _ => tracing::debug!(facility, "librdkafka: {message}"),
    }
}

/// What the connector sets for every consumer, whatever the user says: positions are ours, and only committed rows count.
pub fn consumer_config(options: &Options, group_id: &str) -> ClientConfig {
    let mut config = client_config(options, Side::Consumer);
    if config.get("isolation.level").is_none() {
        config.set("isolation.level", "read_committed");
    }
    if config.get("queued.max.messages.kbytes").is_none() {
        // Per lane. The default of 64 MiB is too much for a machine with many cores.
        config.set("queued.max.messages.kbytes", "32768");
    }
    config
        .set("group.id", group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// Lets brokers answer soon when there is nothing new, unless the user chose otherwise: a reader that stops at an end learns of
/// it by such an answer.
pub fn ask_often(config: &mut ClientConfig) {
    if config.get("fetch.wait.max.ms").is_none() {
        config.set("fetch.wait.max.ms", "50");
    }
}

/// What every producer has: acknowledged by all replicas, in order, without repetition.
pub fn producer_config(options: &Options) -> ClientConfig {
    let mut config = client_config(options, Side::Producer);
    if config.get("message.max.bytes").is_none() {
        // The topic's own limit counts; it is checked when a row is written.
        config.set("message.max.bytes", "1000000000");
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// A client for questions about topics and offsets. Does not connect yet.
pub fn question_client(options: &Options, group_id: &str) -> Result<BaseConsumer<Reports>> {
    consumer_config(options, group_id).create_with_context(Reports::default()).map_err(|error| creation_error(options, &error))
}

/// The error of a client that could not be made: an option has a value that librdkafka does not take.
pub fn creation_error(options: &Options, error: &KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, description, key, _) => {
            let option = format!("properties.{key}");
            Diagnostic::error(Code::BAD_OPTION, format!("option \"{option}\" has a value that the Kafka client does not take"))
                .label_opt(options.value_span(&option), "this value")
                .help(description.clone())
                .into()
        }
        other => Error::user("the Kafka client cannot be made").with_cause(other.clone()),
    }
}

/// `error`, met while doing `action` ("read the partitions of topic orders"), in the kind that says what to do about it.
pub fn kafka_error(action: &str, error: KafkaError) -> Error {
    let code = error.rdkafka_error_code();
    let (kind, help) = match code {
        Some(RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch | RDKafkaErrorCode::Fenced) => {
            (ErrorKind::Fenced, Some("a newer run of the job has taken over"))
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownPartition) => {
            (ErrorKind::User, Some("create the topic, or correct its name in the table's options"))
        }
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed,
        ) => (ErrorKind::Unavailable, Some("ask for the permission (ACL) on the cluster; the job goes on once it is there")),
        Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
            (ErrorKind::Unavailable, Some("check user name, password and SASL mechanism in the table's options"))
        }
        _ => (ErrorKind::Unavailable, None),
    };
    let error = Error::new(kind, format!("cannot {action}")).with_cause(error);
    match help {
        Some(help) => error.with_help(help),
        None => error,
    }
}

/// Asks `client` for topics and their numbers of partitions: of one topic, or of all. Partition numbers are 0 up to the count.
/// # Errors
/// `Unavailable` when no broker answers in time, with what the client heard last.
pub fn topic_partitions(client: &BaseConsumer<Reports>, options: &Options, topic: Option<&str>) -> Result<Vec<(String, i32)>> {
    let metadata = client.fetch_metadata(topic, QUESTION_TIMEOUT).map_err(|error| no_answer(client, options, error))?;
    let mut topics = vec![];
    for topic in metadata.topics() {
        let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        match topic.error().map(RDKafkaErrorCode::from) {
            None => topics.push((topic.name().to_string(), count)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {}
            Some(code) => {
                let action = format!("read the partitions of topic {}", topic.name());
                return Err(kafka_error(&action, KafkaError::MetadataFetch(code)));
            }
        }
    }
    Ok(topics)
}

/// As [`topic_partitions`] for one topic that must be there.
/// # Errors
/// `User` with the nearest existing name when it is not.
pub fn existing_topic(client: &BaseConsumer<Reports>, options: &Options, topic: &str) -> Result<i32> {
    if let Some((_, count)) = topic_partitions(client, options, Some(topic))?.into_iter().find(|(_, count)| *count > 0) {
        return Ok(count);
    }
    let names: Vec<String> = topic_partitions(client, options, None)?.into_iter().map(|(name, _)| name).collect();
    Err(unknown_topic(topic, &names, options, "create it with `kafka-topics.sh --create`, or correct its name"))
}

/// The error for a topic that does not exist, with its place in the options and the nearest of `names`.
pub fn unknown_topic(topic: &str, names: &[String], options: &Options, otherwise: &str) -> Error {
    let visible = names.iter().map(String::as_str).filter(|name| !name.starts_with("__"));
    Diagnostic::error(Code::BAD_OPTION, format!("topic \"{topic}\" does not exist"))
        .label_opt(options.value_span("topic"), "no such topic")
        .help_nearest(topic, visible, Some(otherwise.to_string()))
        .into()
}

fn no_answer(client: &BaseConsumer<Reports>, options: &Options, error: KafkaError) -> Error {
    // Serves what the client has queued for us, such as why a connection failed. A call serves one event and says nothing
    // when that was a log line, so the end of the queue cannot be told.
    for _ in 0..50 {
        let _ = client.poll(Duration::ZERO);
    }
    let servers = options.get("properties.bootstrap.servers").unwrap_or_default();
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve,
        ) => {
            let error = Error::unavailable(format!("no answer from Kafka at {servers}"));
            let error = match client.context().last_error() {
                Some(reason) => error.with_cause(reason),
                None => error,
            };
            error.with_help("check that a broker runs there and that the address is right; the job tries again")
        }
        _ => kafka_error(&format!("read topics from Kafka at {servers}"), error),
    }
}

/// The first and the end offset of a partition. The end is the last stable offset for a client that reads committed rows.
pub fn offset_range(client: &BaseConsumer<Reports>, options: &Options, topic: &str, partition: i32) -> Result<(i64, i64)> {
    client.fetch_watermarks(topic, partition, QUESTION_TIMEOUT).map_err(|error| match error.rdkafka_error_code() {
        // Right behind the creation of a topic its leader may not know it yet.
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition) => {
            Error::unavailable(format!("cannot read the offsets of topic {topic} partition {partition}"))
                .with_cause(error)
                .with_help("the broker does not know this partition yet, or not any more; the job tries again")
        }
        _ => no_answer(client, options, error),
    })
}

fn admin(options: &Options) -> Result<AdminClient<DefaultClientContext>> {
    let mut config = client_config(options, Side::Admin);
    config.set_log_level(RDKafkaLogLevel::Emerg);
    config.create().map_err(|error| creation_error(options, &error))
}

/// Runs an admin request to its end; its answers come from a thread of the client.
fn wait_for<T>(request: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Error::internal("no executor for a request to Kafka").with_cause(error))?;
    Ok(runtime.block_on(request))
}

/// The largest record that a topic takes, in bytes; the usual limit when the cluster does not tell us.
pub fn max_message_bytes(options: &Options, topic: &str) -> Result<usize> {
    let admin = admin(options)?;
    let request_options = AdminOptions::new().request_timeout(Some(QUESTION_TIMEOUT));
    let answer = wait_for(admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &request_options))?;
    let value = answer
        .ok()
        .and_then(|resources| resources.into_iter().next())
        .and_then(|resource| resource.ok())
        .and_then(|resource| resource.get("max.message.bytes").and_then(|entry| entry.value.as_deref()?.parse().ok()));
    if value.is_none() {
        tracing::debug!(topic, "cluster does not tell the limit of the topic, the default is assumed");
    }
    Ok(value.unwrap_or(MAX_MESSAGE_BYTES_DEFAULT))
}

/// Creates a compacted topic of one partition, unless it is there.
pub fn ensure_compacted_topic(options: &Options, topic: &str) -> Result<()> {
    let admin = admin(options)?;
    let new_topic = NewTopic::new(topic, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("retention.ms", "-1")
        // Compaction begins soon, so that reading the topic at start stays short.
        .set("segment.ms", "3600000");
    let request_options =
        AdminOptions::new().request_timeout(Some(Duration::from_secs(15))).operation_timeout(Some(Duration::from_secs(10)));
    let action = format!("create the progress topic {topic}");
    let answer = wait_for(admin.create_topics(&[new_topic], &request_options))?.map_err(|error| kafka_error(&action, error))?;
    match answer.into_iter().next() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
            Err(kafka_error(&action, KafkaError::Global(code)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_property_names_its_option() {
        let mut options = Options::new();
        options.insert("properties.bootstrap.servers", "localhost:1");
        options.insert("properties.fetch.min.bytes", "many");
        let error = question_client(&options, "g").err().expect("not a number");
        assert_eq!(error.message, "option \"properties.fetch.min.bytes\" has a value that the Kafka client does not take");
    }

    #[test]
    fn consumers_read_committed_rows_and_keep_their_own_positions() {
        let mut options = Options::new();
        options.insert("properties.enable.auto.commit", "true");
        options.insert("properties.auto.offset.reset", "latest");
        let config = consumer_config(&options, "g");
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("auto.offset.reset"), Some("error"));
    }
}

//! Reads the Kafka partitions of one lane.
//!
//! Messages come in batches from all partitions; they are decoded partition by partition, so that each event has rows of one
//! partition in its order. The end of a bounded partition is found by the *fetch position* that the client tells whenever it
//! has read all there is, not by the last message: transaction markers, aborted rows and compaction leave offsets behind
//! for which no message ever comes. (The client's `position()` will not do: after it has told of an end, it is one too far.)

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use thalweg_core::{Assignment, Error, PartitionId, PollBudget, Result, SourceEvent, SourceReader};

use super::batch_consumer::{BatchConsumer, Message};
use super::client::{ask_often, consumer_config, creation_error, kafka_error, offset_range};
use super::offsets::{ClusterOffsets, Range, resolve};
use super::record::Record;
use super::rows::{DecodedRows, PartitionRows};
use super::source::SharedSource;
use super::table::parse_partition_name;

/// Messages taken from the client at once.
const BATCH_MESSAGES: usize = 4096;
/// How long to wait for more after the first message of a batch.
const LINGER: Duration = Duration::from_millis(10);
/// A batch ends at this much record text.
const BATCH_BYTES: usize = 16 << 20;

pub struct KafkaReader {
    consumer: BatchConsumer,
    source: Arc<SharedSource>,
    partitions: Vec<Partition>,
    by_topic: HashMap<String, HashMap<i32, usize>>,
    /// Events that are decoded but not handed out yet.
    ready: VecDeque<SourceEvent>,
}

struct Partition {
    id: PartitionId,
    topic: String,
    number: i32,
    range: Range,
    rows: PartitionRows,
    /// The offset behind everything that was decoded.
    next: i64,
    /// The `next` of the last event.
    reported: i64,
    ended: bool,
}

impl KafkaReader {
    pub fn new(source: Arc<SharedSource>, assignments: Vec<Assignment>, is_late: bool) -> Result<Self> {
        let options = &source.table.options;
        let mut config = consumer_config(options, &source.table.effective_group_id());
        if source.table.is_bounded() {
            ask_often(&mut config);
        }
        let consumer = BatchConsumer::new(&config).map_err(|error| creation_error(options, &error))?;
        let mut reader = KafkaReader { consumer, source, partitions: vec![], by_topic: HashMap::new(), ready: VecDeque::new() };
        reader.take_in(assignments, is_late)?;
        Ok(reader)
    }

    /// Finds out where each partition starts and ends, says so in an event, and begins to fetch.
    fn take_in(&mut self, assignments: Vec<Assignment>, is_late: bool) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for assignment in assignments {
            let (topic, number) = parse_partition_name(&assignment.partition)?;
            let offsets = ClusterOffsets { client: &self.source.client, table: &self.source.table };
            let position = assignment.position.as_ref();
            let range = resolve(&self.source.table, &offsets, (&topic, number), position, is_late)?;
            let mut partition = Partition {
                rows: PartitionRows::new(self.source.layout.clone(), &topic, number)?,
                id: assignment.partition,
                next: range.start,
                reported: range.start,
                ended: false,
                topic,
                number,
                range,
            };
            if assignment.position.is_none() {
                // The place is a fact from now on: a restart must not ask "the latest" again and skip what came meanwhile.
                self.ready.push_back(partition.flush()?);
            }
            if range.end.is_some_and(|end| range.start >= end) {
                partition.ended = true;
                self.ready.push_back(self.source.table.end_event(partition.id.clone()));
            } else {
                list.add_partition_offset(&partition.topic, number, Offset::Offset(range.start))
                    .map_err(|error| kafka_error(&format!("read {}", partition.id), error))?;
            }
            self.by_topic.entry(partition.topic.clone()).or_default().insert(number, self.partitions.len());
            self.partitions.push(partition);
        }
        if list.count() > 0 {
            self.consumer
                .consumer()
                .incremental_assign(&list)
                .map_err(|error| kafka_error(&format!("read table {}", self.source.table.table), error))?;
        }
        Ok(())
    }

    /// Takes messages and decodes them, for at most the budget; what comes of it is in `ready`.
    fn read(&mut self, budget: PollBudget) -> Result<()> {
        self.consumer.serve_events();
        let max = budget.rows.clamp(1, BATCH_MESSAGES);
        // The client's call returns when it has *all* messages that it was asked for, or at its timeout: so take what is
        // there, and wait for a single message only when there is none.
        let mut taken = self.consume(max, Duration::ZERO, budget.rows)?;
        if taken == 0 {
            taken = self.consume(1, budget.wait, budget.rows)?;
            if taken > 0 {
                taken += self.consume(max, LINGER, budget.rows)?;
            }
        }
        while taken > 0 && self.waiting_rows() < budget.rows && self.waiting_bytes() < BATCH_BYTES {
            let more = self.consume(max, Duration::ZERO, budget.rows)?;
            if more == 0 {
                break;
            }
            taken += more;
        }
        self.settle()
    }

    fn waiting_rows(&self) -> usize {
        self.partitions.iter().map(|partition| partition.rows.rows()).sum()
    }

    fn waiting_bytes(&self) -> usize {
        self.partitions.iter().map(|partition| partition.rows.buffered_bytes()).sum()
    }

    /// One call to the client: returns how many messages and errors it gave.
    fn consume(&mut self, max: usize, wait: Duration, rows_max: usize) -> Result<usize> {
        let messages = self.consumer.consume(max, wait);
        let (mut last_topic, mut last_partition, mut index) = (0, -1, usize::MAX);
        for message in messages.iter() {
            if let Some((code, text)) = message.error() {
                let found = self.by_topic.get(message.topic()).and_then(|numbers| numbers.get(&message.partition()));
                match found {
                    Some(found) => self.partitions[*found].on_error(&self.source, &message, code, text)?,
                    None => on_client_error(&message, code, text)?,
                }
                continue;
            }
            if (message.topic_identity(), message.partition()) != (last_topic, last_partition) {
                let found = self.by_topic.get(message.topic()).and_then(|numbers| numbers.get(&message.partition()));
                index = *found.ok_or_else(|| Error::internal(format!("a message of {} was not asked for", message.topic())))?;
                (last_topic, last_partition) = (message.topic_identity(), message.partition());
            }
            let partition = &mut self.partitions[index];
            partition.on_message(&message)?;
            if partition.rows.rows() >= rows_max.max(1) {
                self.ready.push_back(partition.flush()?);
            }
        }
        Ok(messages.len())
    }

    /// After all messages at hand: hands out rows and progress, and ends partitions whose end is reached.
    fn settle(&mut self) -> Result<()> {
        let mut ended = TopicPartitionList::new();
        for partition in &mut self.partitions {
            if partition.rows.rows() > 0 || partition.next > partition.reported {
                self.ready.push_back(partition.flush()?);
            }
            if !partition.ended && partition.range.end.is_some_and(|end| partition.next >= end) {
                partition.ended = true;
                self.ready.push_back(self.source.table.end_event(partition.id.clone()));
                ended.add_partition(&partition.topic, partition.number);
            }
        }
        if ended.count() > 0 {
            self.consumer
                .consumer()
                .incremental_unassign(&ended)
                .map_err(|error| kafka_error(&format!("stop reading table {}", self.source.table.table), error))?;
        }
        Ok(())
    }
}

impl Partition {
    fn on_message(&mut self, message: &Message<'_>) -> Result<()> {
        if self.range.end.is_some_and(|end| message.offset() >= end) {
            self.advance(message.offset());
            return Ok(());
        }
        let (timestamp_ms, timestamp_type) = message.timestamp();
        self.rows.push(&Record {
            key: message.key(),
            value: message.value(),
            offset: message.offset(),
            timestamp_ms,
            timestamp_type,
            leader_epoch: message.leader_epoch(),
            headers: message,
        })?;
        self.next = message.offset() + 1;
        Ok(())
    }

    /// Moves on to `position`, but not past the end.
    fn advance(&mut self, position: i64) {
        let position = self.range.end.map_or(position, |end| position.min(end));
        self.next = self.next.max(position);
    }

    fn flush(&mut self) -> Result<SourceEvent> {
        let DecodedRows { rows, weights, skipped } = self.rows.flush()?;
        self.reported = self.next;
        Ok(SourceEvent::Rows { partition: self.id.clone(), rows, weights, next: self.range.position(self.next), skipped })
    }

    fn on_error(&mut self, source: &SharedSource, message: &Message<'_>, code: RDKafkaErrorCode, text: String) -> Result<()> {
        match code {
            RDKafkaErrorCode::PartitionEOF => {
                // The offset to be fetched next: everything before it was handed out, or never will be.
                self.advance(message.offset());
                Ok(())
            }
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::LogTruncation => {
                Err(self.out_of_range(source))
            }
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownPartition => {
                Err(Error::user(format!("source \"{}\": {} is gone", source.table.table, self.describe()))
                    .with_help("the topic was deleted while it was read; start afresh to read one that was created anew")
                    .with_cause(text))
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                Err(Error::unavailable(format!("no permission to read {}", self.describe()))
                    .with_help("ask for the permission READ on the topic; the job goes on once it is there")
                    .with_cause(text))
            }
            RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::BadCompression => {
                Err(Error::record(format!("{} offset {} is damaged", self.describe(), message.offset())).with_cause(text))
            }
            _ => on_client_error(message, code, text),
        }
    }

    fn describe(&self) -> String {
        format!("topic {} partition {}", self.topic, self.number)
    }

    fn out_of_range(&self, source: &SharedSource) -> Error {
        let what = format!("source \"{}\": offset {} of {} does not exist", source.table.table, self.next, self.describe());
        let (first, end) = match offset_range(&source.client, &source.table.options, &self.topic, self.number) {
            Ok(range) => range,
            Err(error) => return Error::corrupt(what).with_cause(error),
        };
        if self.next < first {
            let lost = first - self.next;
            return Error::corrupt(format!("{what}: the first available offset is {first}, {lost} rows are lost")).with_help(
                "retention removed rows before they were read; start afresh to go on without them, and keep rows for longer than \
                 the job may stand still",
            );
        }
        Error::corrupt(format!("{what}: the topic ends at offset {end}"))
            .with_help("the topic was cut off or created anew since the last checkpoint; start afresh to read it from its start")
    }
}

/// Errors that the client gets over by itself are logged; the others end the job.
fn on_client_error(message: &Message<'_>, code: RDKafkaErrorCode, text: String) -> Result<()> {
    if code == RDKafkaErrorCode::Fatal {
        return Err(Error::unavailable("the Kafka client gave up").with_cause(text));
    }
    tracing::warn!(
        topic = message.topic(),
        partition = message.partition(),
        ?code,
        text,
        "kafka consumer goes on after an error"
    );
    Ok(())
}

impl SourceReader for KafkaReader {
    fn assign(&mut self, assignments: Vec<Assignment>) -> Result<()> {
        self.take_in(assignments, true)
    }

    fn poll(&mut self, budget: PollBudget) -> Result<SourceEvent> {
        if self.ready.is_empty() {
            self.read(budget)?;
        }
        Ok(self.ready.pop_front().unwrap_or(SourceEvent::Idle))
    }

    fn lag_rows(&self) -> Option<u64> {
        let mut lag = 0;
        for partition in self.partitions.iter().filter(|partition| !partition.ended) {
            let end = self.consumer.known_end(&partition.topic, partition.number)?;
            lag += u64::try_from(end - partition.next).unwrap_or(0);
        }
        Some(lag)
    }
}

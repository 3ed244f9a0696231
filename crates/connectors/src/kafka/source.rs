//! A `kafka` table as a source.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use thalweg_core::{Assignment, Error, PartitionId, Position, Result, ScanRequest, Source, SourceReader};

use super::client::{Reports, existing_topic, kafka_error, question_client, topic_partitions};
use super::reader::KafkaReader;
use super::rows::RowLayout;
use super::table::{DecoderFactory, ScanTable, Topics, parse_partition_name, partition_name};

/// What a source and its readers share.
pub struct SharedSource {
    pub(super) table: ScanTable,
    pub(super) layout: Arc<RowLayout>,
    /// For metadata, offsets and commits; readers have clients of their own.
    pub(super) client: BaseConsumer<Reports>,
    /// Set when any partition came with a position: one without is then new, and read from its first record.
    is_restored: AtomicBool,
}

/// Reads topics. Partitions are assigned by us, never by a consumer group, and offsets live in the manifest.
pub struct KafkaSource(Arc<SharedSource>);

impl KafkaSource {
    /// Reads the options; does not connect.
    /// # Errors
    /// `User` for options that [`super::check()`] would have refused.
    pub fn from_scan(request: &ScanRequest, decoder: Arc<DecoderFactory>) -> Result<Self> {
        let table = ScanTable::from_scan(request, decoder)?;
        let findings = super::properties::check_properties(&table.options);
        if let Some(finding) = findings.into_iter().next() {
            return Err(finding.into());
        }
        Ok(KafkaSource(Arc::new(SharedSource {
            layout: Arc::new(RowLayout::new(request, &table)?),
            client: question_client(&table.options, &table.effective_group_id())?,
            is_restored: AtomicBool::new(false),
            table,
        })))
    }
}

impl Source for KafkaSource {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        let SharedSource { table, client, .. } = &*self.0;
        let counts: BTreeMap<String, i32> = match &table.topics {
            Topics::Named(names) => names
                .iter()
                .map(|name| Ok((name.clone(), existing_topic(client, &table.options, name)?)))
                .collect::<Result<_>>()?,
            Topics::Pattern(pattern) => {
                let all = topic_partitions(client, &table.options, None)?;
                let found: BTreeMap<String, i32> = all.into_iter().filter(|(name, _)| pattern.is_match(name)).collect();
                if found.is_empty() && table.discovery_interval.is_none() {
                    return Err(Error::user(format!("source \"{}\": no topic matches \"topic-pattern\"", table.table))
                        .with_help("the expression must match the whole name of a topic"));
                }
                found
            }
        };
        Ok(counts.iter().flat_map(|(topic, count)| (0..*count).map(|number| partition_name(topic, number))).collect())
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.0.table.discovery_interval
    }

    fn is_bounded(&self) -> bool {
        self.0.table.is_bounded()
    }

    fn set_restored(&self) {
        self.0.is_restored.store(true, Ordering::SeqCst);
    }

    fn reader(&self, assignments: Vec<Assignment>) -> Result<Box<dyn SourceReader>> {
        let is_late = self.0.is_restored.load(Ordering::SeqCst);
        Ok(Box::new(KafkaReader::new(self.0.clone(), assignments, is_late)?))
    }

    fn on_committed(&self, positions: &[(PartitionId, Position)]) {
        if self.0.table.group_id.is_none() {
            return;
        }
        // For lag displays only: a failure is worth a line in the log and nothing else.
        if let Err(error) = self.commit(positions) {
            tracing::warn!(table = self.0.table.table, error = error.full_message(), "consumer group offsets not committed");
        }
    }
}

impl KafkaSource {
    fn commit(&self, positions: &[(PartitionId, Position)]) -> Result<()> {
        let client = &self.0.client;
        // Serves the reports of earlier commits.
        for _ in 0..10 {
            let _ = client.poll(Duration::ZERO);
        }
        let mut list = TopicPartitionList::new();
        for (partition, position) in positions {
            let (topic, number) = parse_partition_name(partition)?;
            list.add_partition_offset(&topic, number, Offset::Offset(position.next))
                .map_err(|error| kafka_error("commit group offsets", error))?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        client.commit(&list, CommitMode::Async).map_err(|error| kafka_error("commit group offsets", error))
    }
}

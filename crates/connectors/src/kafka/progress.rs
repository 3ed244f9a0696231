//! The progress topic of a job: what was delivered, and who may deliver.
//!
//! One compacted partition without retention, with two keys. `claim/<job>` holds the last run that took over; `marker/<job>`
//! the last part of an epoch that was delivered, written in the same transaction as its rows. Reading stops at the reader's
//! own claim, which it has just committed: then nothing depends on end offsets or end-of-partition events.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use thalweg_core::{Clock, DeliveryContext, DeliveryMarker, Error, Generation, Options, Result};

use super::batch_consumer::BatchConsumer;
use super::client::{
    Reports, ask_often, consumer_config, creation_error, ensure_compacted_topic, kafka_error, offset_range, topic_partitions,
};

/// How long reading the topic may take before the run is told to try again.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A run that takes over, once for each time it fences: two claims are never equal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    pub job_id: String,
    pub generation: Generation,
    pub nonce: String,
    /// Counts the times that one run fenced.
    pub attempt: u64,
}

/// What the topic says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// The last claim before the place where reading stopped.
    pub claim: Option<Claim>,
    pub marker: Option<DeliveryMarker>,
}

impl Progress {
    /// Checks that the run with `context` may deliver.
    /// # Errors
    /// `Fenced` when a newer run was here, `Corrupt` when the topic belongs to another job.
    pub fn check(&self, topic: &str, context: &DeliveryContext) -> Result<()> {
        let foreign = |job_id: &str| {
            Error::corrupt(format!("progress topic {topic} belongs to job {job_id}, this is job {}", context.job_id))
                .with_help("two jobs share a checkpoint directory or a transactional id prefix: give each its own")
        };
        if let Some(claim) = &self.claim {
            if claim.job_id != context.job_id {
                return Err(foreign(&claim.job_id));
            }
            let is_newer = claim.generation > context.generation;
            let is_twin = claim.generation == context.generation && claim.nonce != context.nonce;
            if is_newer || is_twin {
                return Err(fenced(claim.generation));
            }
        }
        if let Some(marker) = &self.marker {
            if marker.job_id != context.job_id {
                return Err(foreign(&marker.job_id));
            }
            if marker.generation > context.generation {
                return Err(fenced(marker.generation));
            }
        }
        Ok(())
    }

    /// Takes in one record of the topic.
    fn apply(&mut self, topic: &str, key: &[u8], value: &[u8]) -> Result<()> {
        let broken = |error: serde_json::Error| {
            Error::corrupt(format!("progress topic {topic} has a record that is not ours")).with_cause(error)
        };
        if key.starts_with(b"claim/") {
            self.claim = Some(serde_json::from_slice(value).map_err(broken)?);
        } else if key.starts_with(b"marker/") {
            self.marker = Some(serde_json::from_slice(value).map_err(broken)?);
        }
        Ok(())
    }
}

fn fenced(generation: Generation) -> Error {
    Error::fenced(format!("a newer run of the job has taken over (generation {generation})"))
        .with_help("this run stops; only one run of a job may write")
}

/// The name of the topic of a job.
pub fn topic_name(prefix: &str, job_id: &str) -> String {
    format!("{prefix}-progress-{job_id}")
}

pub fn claim_key(job_id: &str) -> String {
    format!("claim/{job_id}")
}

pub fn marker_key(job_id: &str) -> String {
    format!("marker/{job_id}")
}

/// Reads the topic of a job.
pub struct ProgressReader<'a> {
    pub options: &'a Options,
    pub topic: &'a str,
    pub clock: &'a dyn Clock,
}

impl ProgressReader<'_> {
    fn config(&self) -> ClientConfig {
        // Librdkafka wants a group to assign partitions; it never joins one nor commits.
        let mut config = consumer_config(self.options, &format!("{}-reader", self.topic));
        // Whatever the sources of the user do, only what is committed counts here.
        config.set("isolation.level", "read_committed");
        ask_often(&mut config);
        config
    }

    fn question_client(&self) -> Result<BaseConsumer<Reports>> {
        self.config().create_with_context(Reports::default()).map_err(|error| creation_error(self.options, &error))
    }

    /// Creates the topic where it is missing.
    pub fn ensure_topic(&self) -> Result<()> {
        let client = self.question_client()?;
        if topic_partitions(&client, self.options, Some(self.topic))?.iter().any(|(_, count)| *count > 0) {
            return Ok(());
        }
        ensure_compacted_topic(self.options, self.topic)
    }

    /// Everything before `sentinel`, which was committed before the call.
    pub fn read_to(&self, sentinel: &Claim) -> Result<Progress> {
        self.read(|progress, _| progress.claim.as_ref() == Some(sentinel), true)
    }

    /// Everything that is committed now. Only a hint: rows of a transaction that is under way, and those behind it, are missing.
    pub fn peek(&self) -> Result<Progress> {
        let (start, end) = offset_range(&self.question_client()?, self.options, self.topic, 0)?;
        if start >= end {
            return Ok(Progress::default());
        }
        self.read(|_, position| position >= end, false)
    }

    /// Reads from the start until `is_done` says so, given what was found and the offset reached.
    fn read(&self, is_done: impl Fn(&Progress, i64) -> bool, keeps_previous_claim: bool) -> Result<Progress> {
        let action = format!("read the progress topic {}", self.topic);
        let mut consumer = BatchConsumer::new(&self.config()).map_err(|error| creation_error(self.options, &error))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.topic, 0, Offset::Beginning).map_err(|error| kafka_error(&action, error))?;
        consumer.consumer().incremental_assign(&list).map_err(|error| kafka_error(&action, error))?;
        let mut progress = Progress::default();
        let deadline = self.clock.monotonic() + READ_TIMEOUT;
        let mut wait = Duration::ZERO;
        while self.clock.monotonic() < deadline {
            consumer.serve_events();
            // The client waits for as many messages as it is asked for, so it is asked to wait for a single one only.
            let messages = consumer.consume(if wait.is_zero() { 1000 } else { 1 }, wait);
            wait = if messages.is_empty() { Duration::from_millis(100) } else { Duration::ZERO };
            for message in messages.iter() {
                let previous = progress.claim.clone();
                let position = match message.error() {
                    None => {
                        progress.apply(self.topic, message.key().unwrap_or_default(), message.value().unwrap_or_default())?;
                        message.offset() + 1
                    }
                    Some((RDKafkaErrorCode::PartitionEOF, _)) => message.offset(),
                    Some((code, text)) => {
                        // The client goes on by itself; the deadline ends what it cannot mend.
                        tracing::warn!(topic = self.topic, ?code, text, "reading the progress topic goes on after an error");
                        continue;
                    }
                };
                if is_done(&progress, position) {
                    if keeps_previous_claim {
                        progress.claim = previous;
                    }
                    return Ok(progress);
                }
            }
        }
        Err(Error::unavailable(format!("cannot {action} within {} s", READ_TIMEOUT.as_secs())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use thalweg_core::{Epoch, ErrorKind, ManualClock};

    use super::*;

    fn context(generation: u64, nonce: &str) -> DeliveryContext {
        DeliveryContext {
            job_id: "job".to_string(),
            generation: Generation(generation),
            nonce: nonce.to_string(),
            clock: Arc::new(ManualClock::default()),
        }
    }

    fn claim(job_id: &str, generation: u64, nonce: &str) -> Option<Claim> {
        Some(Claim { job_id: job_id.to_string(), generation: Generation(generation), nonce: nonce.to_string(), attempt: 1 })
    }

    #[test]
    fn who_may_deliver() {
        let check = |claim: Option<Claim>, marker_generation: Option<u64>, expected: Option<ErrorKind>| {
            let marker = marker_generation.map(|generation| DeliveryMarker {
                job_id: "job".to_string(),
                generation: Generation(generation),
                epoch: Epoch(1),
                part: 0,
                last: true,
            });
            let progress = Progress { claim, marker };
            assert_eq!(progress.check("t", &context(2, "b")).err().map(|error| error.kind), expected, "{progress:?}");
        };
        check(None, None, None);
        check(claim("job", 1, "a"), Some(1), None);
        check(claim("job", 2, "b"), Some(2), None);
        check(claim("job", 2, "a"), None, Some(ErrorKind::Fenced));
        check(claim("job", 3, "a"), None, Some(ErrorKind::Fenced));
        check(None, Some(3), Some(ErrorKind::Fenced));
        check(claim("other", 1, "a"), None, Some(ErrorKind::Corrupt));
    }

    #[test]
    fn records_that_are_not_ours_are_corrupt() {
        let mut progress = Progress::default();
        progress.apply("t", b"something", b"else").expect("other keys are left alone");
        let error = progress.apply("t", b"marker/job", b"{").expect_err("not JSON");
        assert_eq!(error.kind, ErrorKind::Corrupt);
    }
}

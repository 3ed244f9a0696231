//! Embedded topics: `thalweg run --embedded DIR` gives every `kafka` and `upsert-kafka` table of a file a durable topic log
//! in a folder, so any pipeline can be tried without a broker. Tests and generators write to the same logs by [`append`].

pub mod frame;
pub mod log;
mod sink;
mod source;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upsert_tests;

use std::collections::BTreeMap;
use std::path::Path;

use thalweg_core::{Error, Result};

pub use log::PARTITIONS_DEFAULT;
pub use sink::EmbeddedSink;
pub use source::EmbeddedSource;

use crate::output_frames::{FrameWriter, Header, OutputFrame};
use log::{Topic, TopicWriter};

/// A record to append.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970; `None` is the time of the append.
    pub timestamp_ms: Option<i64>,
    pub headers: Vec<Header<'a>>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

/// Creates a topic, unless it exists; a topic keeps the number of partitions that it was created with.
/// # Errors
/// `User` for no partitions or an impossible name, `Unavailable` when the folder cannot be written.
pub fn create_topic(dir: &Path, topic: &str, partitions: u32) -> Result<()> {
    Topic::find_or_create(dir, topic, partitions).map(|_| ())
}

/// Appends records to one partition as one commit and flushes them to the disk; returns the offset of the first. Creates the
/// topic with [`PARTITIONS_DEFAULT`] partitions where it is missing. `now_ms` is the wall clock.
///
/// Opens the topic anew each time; [`Appender`] keeps it open.
pub fn append(dir: &Path, topic: &str, partition: u32, records: &[NewRecord<'_>], now_ms: i64) -> Result<i64> {
    Appender::new(dir).append(topic, partition, records, now_ms)
}

/// Appends to topics of a folder, which it keeps open: for generators.
pub struct Appender {
    dir: std::path::PathBuf,
    topics: BTreeMap<String, TopicWriter>,
}

impl Appender {
    pub fn new(dir: &Path) -> Self {
        Appender { dir: dir.to_path_buf(), topics: BTreeMap::new() }
    }

    /// As [`append`].
    pub fn append(&mut self, topic: &str, partition: u32, records: &[NewRecord<'_>], now_ms: i64) -> Result<i64> {
        if !self.topics.contains_key(topic) {
            let found = Topic::find_or_create(&self.dir, topic, PARTITIONS_DEFAULT)?;
            self.topics.insert(topic.to_string(), TopicWriter::open(found)?);
        }
        let writer = self.topics.get_mut(topic).ok_or_else(|| Error::internal("a topic that was just opened is gone"))?;
        if partition >= writer.topic().partitions {
            return Err(Error::user(format!("topic \"{topic}\" has no partition {partition}")));
        }
        let mut frames = FrameWriter::new();
        for record in records {
            frames.push(&OutputFrame {
                topic: "",
                partition: -1,
                timestamp_ms: record.timestamp_ms.unwrap_or(-1),
                headers: record.headers.clone(),
                key: record.key,
                value: record.value,
            })?;
        }
        let count = u32::try_from(frames.frames()).map_err(|_| Error::record("more than 4 billion records in one append"))?;
        let lock = writer.lock()?;
        let offset = writer.append(&lock, partition, None, (&frames.take(), count), now_ms)?;
        writer.sync()?;
        Ok(offset)
    }

    /// The number of partitions of a topic, which is created where it is missing.
    pub fn partitions(&mut self, topic: &str) -> Result<u32> {
        Ok(Topic::find_or_create(&self.dir, topic, PARTITIONS_DEFAULT)?.partitions)
    }
}

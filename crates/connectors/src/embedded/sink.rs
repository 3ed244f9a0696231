//! A `kafka` or `upsert-kafka` table written to embedded topics.
//!
//! Exactly-once needs no transactions here: a frame is a commit to one partition and carries a stamp of its delivery. After a
//! crash between two partitions the epoch is delivered again, and partitions that hold it are skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_core::{
    Batch, Clock, Deliverer, DeliveryContext, DeliveryGuarantee, DeliveryMarker, DeliveryPlan, Epoch, Error, Generation, LaneId,
    OutputSegment, PlannedDelivery, Result, SegmentReader, SegmentRef, Sink, SinkRequest, SinkWriter,
};

use super::frame::Stamp;
use super::log::{LogLock, PARTITIONS_DEFAULT, Topic, TopicWriter, escape, io_error, lock, write_json};
use crate::kafka::buffered_writer::BufferedWriter;
use crate::kafka::records_out::{RecordMaker, TopicCatalog, TopicShape};
use crate::kafka::table::{EncoderFactory, SinkTable};
use crate::output_frames::{FrameReader, FrameWriter, OutputFrame};

/// The largest record, as the engine's own limit for records.
const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// Where an epoch is cut for one partition. Part of the protocol, as with real topics.
const PART_BYTES: usize = 64 << 20;

/// Writes topics in a folder; a topic that does not exist is created.
pub struct EmbeddedSink {
    dir: PathBuf,
    table: SinkTable,
    clock: Arc<dyn Clock>,
}

impl EmbeddedSink {
    /// `dir` is the folder of `--embedded`.
    /// # Errors
    /// `User` for options that the connector's check would have refused.
    pub fn from_sink(request: &SinkRequest, encoder: Arc<EncoderFactory>, dir: impl Into<PathBuf>) -> Result<Self> {
        Ok(EmbeddedSink { dir: dir.into(), table: SinkTable::from_sink(request, encoder)?, clock: request.clock.clone() })
    }
}

impl Sink for EmbeddedSink {
    fn guarantee(&self) -> DeliveryGuarantee {
        self.table.guarantee
    }

    fn writer(&self, lane: LaneId) -> Result<Box<dyn SinkWriter>> {
        let maker = RecordMaker::new(&self.table, lane, Box::new(FolderCatalog { dir: self.dir.clone() }))?;
        Ok(match self.table.guarantee {
            DeliveryGuarantee::ExactlyOnce => Box::new(BufferedWriter::new(maker, self.table.upserts)),
            DeliveryGuarantee::AtLeastOnce | DeliveryGuarantee::None => {
                Box::new(DirectWriter { maker, topics: Topics::new(&self.dir), clock: self.clock.clone() })
            }
        })
    }

    fn delivery_key(&self) -> String {
        format!("embedded {}", self.dir.display())
    }

    fn deliverer(&self, context: DeliveryContext) -> Result<Box<dyn Deliverer>> {
        Ok(Box::new(EmbeddedDeliverer { topics: Topics::new(&self.dir), context }))
    }
}

/// Tells of topics, and makes those that are missing.
struct FolderCatalog {
    dir: PathBuf,
}

impl TopicCatalog for FolderCatalog {
    fn describe(&self, topic: &str) -> Result<TopicShape> {
        let topic = Topic::find_or_create(&self.dir, topic, PARTITIONS_DEFAULT)?;
        Ok(TopicShape { partitions: topic.partitions, max_message_bytes: MAX_MESSAGE_BYTES })
    }
}

/// Topics open for writing.
struct Topics {
    dir: PathBuf,
    open: BTreeMap<String, TopicWriter>,
}

impl Topics {
    fn new(dir: &Path) -> Self {
        Topics { dir: dir.to_path_buf(), open: BTreeMap::new() }
    }

    fn get(&mut self, name: &str) -> Result<&mut TopicWriter> {
        if !self.open.contains_key(name) {
            let topic = Topic::find_or_create(&self.dir, name, PARTITIONS_DEFAULT)?;
            self.open.insert(name.to_string(), TopicWriter::open(topic)?);
        }
        self.open.get_mut(name).ok_or_else(|| Error::internal("a topic that was just opened is gone"))
    }
}

/// Frames by topic and partition, in order.
#[derive(Default)]
struct ByPartition(BTreeMap<(String, u32), FrameWriter>);

impl ByPartition {
    fn push(&mut self, frame: &OutputFrame<'_>) -> Result<&mut FrameWriter> {
        let partition = u32::try_from(frame.partition).unwrap_or(0);
        let writer = self.0.entry((frame.topic.to_string(), partition)).or_default();
        // Topic and partition are those of the file.
        writer.push(&OutputFrame { topic: "", partition: -1, ..frame.clone() })?;
        Ok(writer)
    }
}

fn take_frames(frames: &mut FrameWriter) -> Result<(Vec<u8>, u32)> {
    let records = u32::try_from(frames.frames()).map_err(|_| Error::internal("more than 4 billion records in a frame"))?;
    Ok((frames.take(), records))
}

/// The writer of sinks that do not wait for the checkpoint.
struct DirectWriter {
    maker: RecordMaker,
    topics: Topics,
    clock: Arc<dyn Clock>,
}

impl SinkWriter for DirectWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let mut frames = ByPartition::default();
        self.maker.each_record(batch, &mut |frame| frames.push(frame).map(|_| ()))?;
        for ((topic, partition), mut frames) in frames.0 {
            let (payload, records) = take_frames(&mut frames)?;
            let writer = self.topics.get(&topic)?;
            let lock = writer.lock()?;
            writer.append(&lock, partition, None, (&payload, records), self.clock.wall_ms())?;
        }
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        self.topics.open.values_mut().try_for_each(TopicWriter::sync)?;
        Ok(vec![])
    }
}

/// Who may deliver for a job: a small file beside the topics.
#[derive(Serialize, Deserialize)]
struct Claim {
    generation: Generation,
    nonce: String,
}

/// One per folder and job.
struct EmbeddedDeliverer {
    topics: Topics,
    context: DeliveryContext,
}

impl EmbeddedDeliverer {
    fn job_folder(&self) -> PathBuf {
        // The name of a topic never begins with a dot once escaped.
        self.topics.dir.join(".jobs").join(escape(&self.context.job_id))
    }

    /// Reads the claim on the job, under its lock.
    fn claim(&self, _lock: &LogLock) -> Result<Option<Claim>> {
        let path = self.job_folder().join("claim.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| Error::corrupt(format!("{} is damaged", path.display())).with_cause(error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    fn fenced(generation: Generation) -> Error {
        Error::fenced(format!("a newer run of the job has taken over (generation {generation})"))
            .with_help("this run stops; only one run of a job may write")
    }

    /// Appends one part of an epoch to one partition, unless it is there.
    fn deliver_part(
        &mut self,
        (topic, partition): (&str, u32),
        (epoch, part, last): (Epoch, u32, bool),
        frames: &mut FrameWriter,
    ) -> Result<()> {
        let marker =
            DeliveryMarker { job_id: self.context.job_id.clone(), generation: self.context.generation, epoch, part, last };
        let now_ms = self.context.clock.wall_ms();
        let (payload, records) = take_frames(frames)?;
        let writer = self.topics.get(topic)?;
        let lock = writer.lock()?;
        let is_there = writer
            .last_delivery(&lock, partition, &marker.job_id)?
            .is_some_and(|held| (held.epoch, held.part) >= (marker.epoch, marker.part));
        if !is_there {
            writer.append(&lock, partition, Some(&Stamp(marker)), (&payload, records), now_ms)?;
        }
        Ok(())
    }
}

impl Deliverer for EmbeddedDeliverer {
    fn fence(&mut self) -> Result<Option<DeliveryMarker>> {
        let folder = self.job_folder();
        fs::create_dir_all(&folder).map_err(|error| io_error("create", &folder, error))?;
        let lock = lock(&folder)?;
        if let Some(claim) = self.claim(&lock)? {
            let is_twin = claim.generation == self.context.generation && claim.nonce != self.context.nonce;
            if claim.generation > self.context.generation || is_twin {
                return Err(Self::fenced(claim.generation));
            }
        }
        let claim = Claim { generation: self.context.generation, nonce: self.context.nonce.clone() };
        write_json(&folder.join("claim.json"), &claim)?;
        // Each partition keeps its own marker, so all planned epochs may be repeated.
        Ok(None)
    }

    fn plan(
        &mut self,
        _epoch: Epoch,
        mut waiting: Vec<SegmentRef>,
        new: Vec<SegmentRef>,
        _is_final: bool,
    ) -> Result<DeliveryPlan> {
        waiting.extend(new);
        if waiting.is_empty() {
            return Ok(DeliveryPlan::default());
        }
        Ok(DeliveryPlan { deliveries: vec![PlannedDelivery { target: String::new(), segments: waiting }], keep: vec![] })
    }

    fn deliver(&mut self, epoch: Epoch, deliveries: &[PlannedDelivery], segments: &dyn SegmentReader) -> Result<()> {
        // Held to the end: no newer run can claim the job while this one appends.
        let lock = lock(&self.job_folder())?;
        match self.claim(&lock)? {
            Some(claim) if claim.generation == self.context.generation && claim.nonce == self.context.nonce => {}
            Some(claim) => return Err(Self::fenced(claim.generation)),
            None => return Err(Error::internal("an epoch is delivered before the job is fenced")),
        }
        let mut frames = ByPartition::default();
        let mut parts: BTreeMap<(String, u32), u32> = BTreeMap::new();
        for segment in deliveries.iter().flat_map(|delivery| &delivery.segments) {
            let bytes = segments.read(segment)?;
            for frame in FrameReader::new(&bytes)? {
                let frame = frame?;
                let writer = frames.push(&frame)?;
                if writer.len_bytes() >= PART_BYTES {
                    let partition = u32::try_from(frame.partition).unwrap_or(0);
                    let part = parts.entry((frame.topic.to_string(), partition)).or_default();
                    self.deliver_part((frame.topic, partition), (epoch, *part, false), writer)?;
                    *part += 1;
                }
            }
        }
        for ((topic, partition), mut frames) in frames.0 {
            if frames.frames() > 0 {
                let part = parts.get(&(topic.clone(), partition)).copied().unwrap_or(0);
                self.deliver_part((&topic, partition), (epoch, part, true), &mut frames)?;
            }
        }
        self.topics.open.values_mut().try_for_each(TopicWriter::sync)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use thalweg_core::{ErrorKind, ManualClock};

    use super::*;

    /// One segment, held in memory.
    struct Held(Vec<u8>);

    impl SegmentReader for Held {
        fn read(&self, _: &SegmentRef) -> Result<Bytes> {
            Ok(Bytes::from(self.0.clone()))
        }
    }

    fn deliverer(dir: &Path, generation: u64) -> EmbeddedDeliverer {
        EmbeddedDeliverer {
            topics: Topics::new(dir),
            context: DeliveryContext {
                job_id: "job".to_string(),
                generation: Generation(generation),
                nonce: format!("nonce {generation}"),
                clock: Arc::new(ManualClock::at_wall_ms(9)),
            },
        }
    }

    /// An epoch with one record for each of the partitions.
    fn epoch_of(partitions: &[i32]) -> (Vec<PlannedDelivery>, Held) {
        let mut frames = FrameWriter::new();
        for partition in partitions {
            let frame = OutputFrame {
                topic: "t",
                partition: *partition,
                timestamp_ms: -1,
                value: Some(b"row"),
                ..OutputFrame::default()
            };
            frames.push(&frame).expect("short");
        }
        let segment = SegmentRef {
            sink_id: "s".to_string(),
            tag: String::new(),
            epoch: Epoch(1),
            lane: LaneId(0),
            index: 0,
            object: "o".to_string(),
            offset: 0,
            length: 0,
            crc32: 0,
            rows: partitions.len() as u64,
            written_ms: 0,
        };
        (vec![PlannedDelivery { target: String::new(), segments: vec![segment] }], Held(frames.take()))
    }

    fn ends(dir: &Path) -> Vec<i64> {
        let topic = Topic::find(dir, "t").expect("read").expect("written");
        (0..2)
            .map(|partition| {
                let mut reader = topic.reader(partition).expect("partition");
                while reader.next_frame().expect("good").is_some() {}
                reader.end_offset()
            })
            .collect()
    }

    #[test]
    fn delivering_twice_changes_nothing() {
        let dir = tempfile::tempdir().expect("folder");
        let (plan, held) = epoch_of(&[0, 1, 1]);
        let mut first = deliverer(dir.path(), 1);
        first.fence().expect("alone");
        first.deliver(Epoch(1), &plan, &held).expect("delivered");
        first.deliver(Epoch(1), &plan, &held).expect("repeated");
        assert_eq!(ends(dir.path()), [1, 2]);
        let mut second = deliverer(dir.path(), 2);
        second.fence().expect("newer");
        second.deliver(Epoch(1), &plan, &held).expect("repeated by the next run");
        assert_eq!(ends(dir.path()), [1, 2]);
        second.deliver(Epoch(2), &plan, &held).expect("the next epoch");
        assert_eq!(ends(dir.path()), [2, 4]);
    }

    #[test]
    fn a_crash_between_partitions_is_rolled_forward() {
        let dir = tempfile::tempdir().expect("folder");
        let (plan, held) = epoch_of(&[0, 1, 1]);
        let (_, only_first) = epoch_of(&[0]);
        let mut crashed = deliverer(dir.path(), 1);
        crashed.fence().expect("alone");
        // What a crash leaves behind after the first of two partitions.
        crashed.deliver(Epoch(1), &plan, &only_first).expect("partition 0");
        assert_eq!(ends(dir.path()), [1, 0]);
        let mut next = deliverer(dir.path(), 2);
        next.fence().expect("newer");
        next.deliver(Epoch(1), &plan, &held).expect("rolled forward");
        assert_eq!(ends(dir.path()), [1, 2]);
    }

    #[test]
    fn an_older_run_is_fenced() {
        let dir = tempfile::tempdir().expect("folder");
        let (plan, held) = epoch_of(&[0]);
        let mut old = deliverer(dir.path(), 1);
        old.fence().expect("alone");
        deliverer(dir.path(), 2).fence().expect("newer");
        assert_eq!(old.deliver(Epoch(1), &plan, &held).expect_err("fenced").kind, ErrorKind::Fenced);
        assert_eq!(old.fence().expect_err("fenced").kind, ErrorKind::Fenced);
        assert!(Topic::find(dir.path(), "t").expect("read").is_none());
    }
}

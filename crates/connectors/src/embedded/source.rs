//! A `kafka` or `upsert-kafka` table read from embedded topics: the same modes, offsets and metadata as from a broker.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thalweg_core::{
    Assignment, Error, PartitionId, PollBudget, Position, Result, ScanRequest, Source, SourceEvent, SourceReader,
};

use super::frame::Frame;
use super::log::{LogReader, Topic};
use crate::kafka::client::unknown_topic;
use crate::kafka::offsets::{Offsets, Range, resolve};
use crate::kafka::record::{Headers, Record, TimestampType};
use crate::kafka::rows::{DecodedRows, PartitionRows, RowLayout};
use crate::kafka::table::{DecoderFactory, ScanTable, Topics, parse_partition_name, partition_name};
use crate::output_frames::{FrameReader, Header};

/// How long to sleep between looks at files that have not grown.
const NAP: Duration = Duration::from_millis(5);
/// A batch ends at this much record text.
const BATCH_BYTES: usize = 16 << 20;

/// Reads the topics of a folder.
pub struct EmbeddedSource(Arc<SharedSource>);

struct SharedSource {
    dir: PathBuf,
    table: ScanTable,
    layout: Arc<RowLayout>,
    /// As in the source of real topics: a partition without a position is new once others had one.
    is_restored: AtomicBool,
}

impl EmbeddedSource {
    /// `dir` is the folder of `--embedded`.
    /// # Errors
    /// `User` for options that the connector's check would have refused.
    pub fn from_scan(request: &ScanRequest, decoder: Arc<DecoderFactory>, dir: impl Into<PathBuf>) -> Result<Self> {
        let table = ScanTable::from_scan(request, decoder)?;
        let layout = Arc::new(RowLayout::new(request, &table)?);
        Ok(EmbeddedSource(Arc::new(SharedSource { dir: dir.into(), table, layout, is_restored: AtomicBool::new(false) })))
    }
}

impl SharedSource {
    fn topic(&self, name: &str) -> Result<Topic> {
        if let Some(topic) = Topic::find(&self.dir, name)? {
            return Ok(topic);
        }
        let help = format!("no such topic in {}: write to it first, by a generator or another pipeline", self.dir.display());
        Err(unknown_topic(name, &Topic::list(&self.dir)?, &self.table.options, &help))
    }
}

impl Source for EmbeddedSource {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        let names = match &self.0.table.topics {
            Topics::Named(names) => names.clone(),
            Topics::Pattern(pattern) => Topic::list(&self.0.dir)?.into_iter().filter(|name| pattern.is_match(name)).collect(),
        };
        let mut partitions = vec![];
        for name in names {
            let topic = self.0.topic(&name)?;
            partitions.extend((0..topic.partitions).map(|number| format!("{}/{number}", topic.name)).map(PartitionId));
        }
        Ok(partitions)
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
        let mut reader = EmbeddedReader { source: self.0.clone(), partitions: vec![], turn: 0, ready: VecDeque::new() };
        reader.take_in(assignments, self.0.is_restored.load(Ordering::SeqCst))?;
        Ok(Box::new(reader))
    }

    fn on_committed(&self, positions: &[(PartitionId, Position)]) {
        let Some(group) = &self.0.table.group_id else { return };
        let commit = || -> Result<()> {
            let mut by_topic: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
            for (partition, position) in positions {
                let (topic, number) = parse_partition_name(partition)?;
                by_topic.entry(topic).or_default().insert(number, position.next);
            }
            by_topic.iter().try_for_each(|(topic, offsets)| self.0.topic(topic)?.commit_group_offsets(group, offsets))
        };
        // For the next run without a checkpoint only, so a failure does not stop this one.
        if let Err(error) = commit() {
            tracing::warn!(table = self.0.table.table, error = error.full_message(), "consumer group offsets not committed");
        }
    }
}

impl Offsets for SharedSource {
    fn range(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let mut reader = self.topic(topic)?.reader(partition)?;
        while reader.next_frame()?.is_some() {}
        Ok((0, reader.end_offset()))
    }

    fn at_timestamp(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Result<i64> {
        let mut reader = self.topic(topic)?.reader(partition)?;
        while let Some(frame) = reader.next_frame()? {
            for (index, record) in (0..).zip(FrameReader::new(&frame.payload)?) {
                let own = record?.timestamp_ms;
                if (if own >= 0 { own } else { frame.appended_ms }) >= timestamp_ms {
                    return Ok(frame.first_offset + index);
                }
            }
        }
        Ok(reader.end_offset())
    }

    fn of_group(&self, topic: &str, partition: i32) -> Result<Option<i64>> {
        let offsets = self.topic(topic)?.group_offsets(&self.table.effective_group_id())?;
        Ok(offsets.get(&partition).copied())
    }
}

/// Reads the partitions of one lane, in turns.
struct EmbeddedReader {
    source: Arc<SharedSource>,
    partitions: Vec<Partition>,
    /// The partition to look at first.
    turn: usize,
    ready: VecDeque<SourceEvent>,
}

struct Partition {
    id: PartitionId,
    log: LogReader,
    range: Range,
    rows: PartitionRows,
    next: i64,
    frame: Option<OpenFrame>,
    ended: bool,
}

/// A frame that is being read.
struct OpenFrame {
    frame: Frame,
    /// Offset of the next record, and where it begins in the payload.
    offset: i64,
    done_bytes: usize,
}

impl EmbeddedReader {
    fn take_in(&mut self, assignments: Vec<Assignment>, is_late: bool) -> Result<()> {
        for assignment in assignments {
            let (name, number) = parse_partition_name(&assignment.partition)?;
            let topic = self.source.topic(&name)?;
            let position = assignment.position.as_ref();
            let range = resolve(&self.source.table, &*self.source, (&name, number), position, is_late)?;
            let mut partition = Partition {
                id: partition_name(&name, number),
                log: topic.reader(number)?,
                rows: PartitionRows::new(self.source.layout.clone(), &name, number)?,
                next: range.start,
                range,
                frame: None,
                ended: false,
            };
            partition.check_start(self.source.range(&name, number)?.1)?;
            if assignment.position.is_none() {
                // The place is a fact from now on, see the reader of real topics.
                self.ready.push_back(partition.flush()?);
            }
            if range.end.is_some_and(|end| range.start >= end) {
                partition.ended = true;
                self.ready.push_back(self.source.table.end_event(partition.id.clone()));
            }
            self.partitions.push(partition);
        }
        Ok(())
    }

    /// Reads from the first partition, in turn, that has something.
    fn read(&mut self, rows_max: usize) -> Result<()> {
        for step in 0..self.partitions.len() {
            let index = (self.turn + step) % self.partitions.len();
            let partition = &mut self.partitions[index];
            if partition.ended || !partition.read(rows_max)? {
                continue;
            }
            self.ready.push_back(partition.flush()?);
            if partition.range.end.is_some_and(|end| partition.next >= end) {
                partition.ended = true;
                self.ready.push_back(self.source.table.end_event(partition.id.clone()));
            }
            self.turn = index + 1;
            return Ok(());
        }
        Ok(())
    }
}

impl Partition {
    /// A position behind the end means that the folder is not the one of the last run.
    fn check_start(&self, end: i64) -> Result<()> {
        if (0..=end).contains(&self.range.start) {
            return Ok(());
        }
        Err(Error::corrupt(format!("offset {} of partition {} does not exist: the log ends at {end}", self.range.start, self.id))
            .with_help("the topic was created anew since the last checkpoint; start afresh to read it from its start"))
    }

    /// Decodes records until there are `rows_max` rows or no more records; says whether it got on.
    fn read(&mut self, rows_max: usize) -> Result<bool> {
        let before = self.next;
        while self.rows.rows() < rows_max.max(1) && self.rows.buffered_bytes() < BATCH_BYTES {
            if self.range.end.is_some_and(|end| self.next >= end) {
                break;
            }
            if self.frame.is_none() {
                let Some(frame) = self.log.next_frame()? else { break };
                let offset = frame.first_offset;
                self.frame = (frame.end_offset() > self.next).then_some(OpenFrame { frame, offset, done_bytes: 0 });
                continue;
            }
            self.read_frame(rows_max)?;
        }
        Ok(self.next > before)
    }

    /// Decodes records of the frame at hand, until it or the budget is used up.
    fn read_frame(&mut self, rows_max: usize) -> Result<()> {
        let Some(OpenFrame { frame, offset, done_bytes }) = &mut self.frame else { return Ok(()) };
        let mut records = match *done_bytes {
            0 => FrameReader::new(&frame.payload)?,
            done => FrameReader::resume(&frame.payload, done),
        };
        loop {
            let is_full = self.rows.rows() >= rows_max.max(1) || self.rows.buffered_bytes() >= BATCH_BYTES;
            if is_full || self.range.end.is_some_and(|end| *offset >= end) {
                return Ok(());
            }
            let Some(record) = records.next().transpose()? else { break };
            if *offset >= self.next {
                self.rows.push(&Record {
                    key: record.key,
                    value: record.value,
                    offset: *offset,
                    timestamp_ms: Some(if record.timestamp_ms >= 0 { record.timestamp_ms } else { frame.appended_ms }),
                    timestamp_type: TimestampType::CreateTime,
                    leader_epoch: Some(0),
                    headers: &RecordHeaders(&record.headers),
                })?;
                self.next = *offset + 1;
            }
            *offset += 1;
            *done_bytes = frame.payload.len() - records.remaining_bytes();
        }
        self.frame = None;
        Ok(())
    }

    fn flush(&mut self) -> Result<SourceEvent> {
        let DecodedRows { rows, weights, skipped } = self.rows.flush()?;
        Ok(SourceEvent::Rows { partition: self.id.clone(), rows, weights, next: self.range.position(self.next), skipped })
    }
}

struct RecordHeaders<'a>(&'a [Header<'a>]);

impl Headers for RecordHeaders<'_> {
    fn each(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        for (name, value) in self.0 {
            visit(name, *value);
        }
    }
}

impl SourceReader for EmbeddedReader {
    fn assign(&mut self, assignments: Vec<Assignment>) -> Result<()> {
        self.take_in(assignments, true)
    }

    fn poll(&mut self, budget: PollBudget) -> Result<SourceEvent> {
        // Counted in naps, not by a clock: the wait need not be exact.
        let mut naps = budget.wait.as_millis() / NAP.as_millis();
        loop {
            if self.ready.is_empty() {
                self.read(budget.rows)?;
            }
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if naps == 0 || self.partitions.iter().all(|partition| partition.ended) {
                return Ok(SourceEvent::Idle);
            }
            naps -= 1;
            std::thread::sleep(NAP);
        }
    }
}

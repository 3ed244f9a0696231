//! The log of an embedded topic: one append-only file per partition, readable by other processes while it grows.
//!
//! ```text
//! DIR/<topic>/meta.json        number of partitions
//! DIR/<topic>/<partition>.log  frames, see `frame`
//! DIR/<topic>/lock             held while someone appends
//! DIR/<topic>/group-<id>.json  offsets that a consumer group committed
//! ```
//!
//! A frame is one commit to one partition, so whatever a reader sees is committed. An appender holds the lock, cuts off what a
//! crashed one left half written, writes, and flushes the file to the disk before it says so.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thalweg_core::{DeliveryMarker, Error, Result};

use super::frame::{self, Frame, Stamp};

/// How many partitions a topic has when nobody says.
pub const PARTITIONS_DEFAULT: u32 = 4;

#[derive(Serialize, Deserialize)]
struct Meta {
    version: u32,
    topic: String,
    partitions: u32,
}

const META_VERSION: u32 = 1;

/// A topic that exists.
#[derive(Clone, Debug)]
pub struct Topic {
    folder: PathBuf,
    pub name: String,
    pub partitions: u32,
}

impl Topic {
    /// The topic, or `None` where there is none.
    pub fn find(dir: &Path, name: &str) -> Result<Option<Topic>> {
        let folder = dir.join(escape(name));
        let text = match fs::read(folder.join("meta.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &folder, error)),
        };
        let meta: Meta = serde_json::from_slice(&text)
            .map_err(|error| Error::corrupt(format!("embedded topic \"{name}\" has a damaged meta.json")).with_cause(error))?;
        if meta.version != META_VERSION {
            return Err(Error::corrupt(format!("embedded topic \"{name}\" has format version {}", meta.version))
                .with_help("use a newer release, or remove the folder to begin anew"));
        }
        Ok(Some(Topic { folder, name: meta.topic, partitions: meta.partitions }))
    }

    /// The topic; made with `partitions` where there is none.
    pub fn find_or_create(dir: &Path, name: &str, partitions: u32) -> Result<Topic> {
        if let Some(topic) = Topic::find(dir, name)? {
            return Ok(topic);
        }
        if name.is_empty() || name.len() > 249 {
            return Err(Error::user(format!("\"{name}\" cannot be the name of a topic")).with_help("use 1 to 249 characters"));
        }
        if partitions == 0 {
            return Err(Error::user(format!("topic \"{name}\" needs at least one partition")));
        }
        let folder = dir.join(escape(name));
        fs::create_dir_all(&folder).map_err(|error| io_error("create", &folder, error))?;
        let _lock = lock(&folder)?;
        // Another process may have been faster.
        if let Some(topic) = Topic::find(dir, name)? {
            return Ok(topic);
        }
        let meta = Meta { version: META_VERSION, topic: name.to_string(), partitions };
        for partition in 0..partitions {
            let path = folder.join(format!("{partition}.log"));
            File::create(&path).map_err(|error| io_error("create", &path, error))?;
        }
        write_json(&folder.join("meta.json"), &meta)?;
        Ok(Topic { folder, name: name.to_string(), partitions })
    }

    /// The names of all topics, in order.
    pub fn list(dir: &Path) -> Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(io_error("list", dir, error)),
        };
        let mut names = vec![];
        for entry in entries {
            let entry = entry.map_err(|error| io_error("list", dir, error))?;
            if let Some(name) = entry.file_name().to_str().and_then(unescape)
                && entry.path().join("meta.json").is_file()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn log_path(&self, partition: u32) -> PathBuf {
        self.folder.join(format!("{partition}.log"))
    }

    /// Reads a partition from its first frame on.
    /// # Errors
    /// `Corrupt` when the partition does not exist: positions come from a manifest.
    pub fn reader(&self, partition: i32) -> Result<LogReader> {
        let number = u32::try_from(partition).ok().filter(|number| *number < self.partitions).ok_or_else(|| {
            Error::corrupt(format!("embedded topic \"{}\" has no partition {partition}", self.name))
                .with_help("the topic was created anew with fewer partitions; start afresh")
        })?;
        let path = self.log_path(number);
        let file = File::open(&path).map_err(|error| io_error("open", &path, error))?;
        Ok(LogReader { file, path, next_byte: 0, end_offset: 0 })
    }

    /// What a consumer group committed, by partition.
    pub fn group_offsets(&self, group: &str) -> Result<BTreeMap<i32, i64>> {
        let path = self.folder.join(format!("group-{}.json", escape(group)));
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| Error::corrupt(format!("{} is damaged", path.display())).with_cause(error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    /// Commits offsets of a consumer group.
    pub fn commit_group_offsets(&self, group: &str, offsets: &BTreeMap<i32, i64>) -> Result<()> {
        let _lock = lock(&self.folder)?;
        let mut all = self.group_offsets(group)?;
        all.extend(offsets);
        write_json(&self.folder.join(format!("group-{}.json", escape(group))), &all)
    }
}

/// Reads frames in order. What is half written is not there yet.
#[derive(Debug)]
pub struct LogReader {
    file: File,
    path: PathBuf,
    next_byte: u64,
    end_offset: i64,
}

impl LogReader {
    /// The next frame, or `None` when there is none for now.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        let file_bytes = self.file.metadata().map_err(|error| io_error("read", &self.path, error))?.len();
        let Some(frame) = frame::read(&self.file, self.next_byte, file_bytes).map_err(|error| self.in_context(error))? else {
            return Ok(None);
        };
        if frame.first_offset != self.end_offset {
            let error = Error::corrupt(format!("offset {} follows {}", frame.first_offset, self.end_offset));
            return Err(self.in_context(error));
        }
        self.next_byte = frame.end_byte;
        self.end_offset = frame.end_offset();
        Ok(Some(frame))
    }

    /// The offset behind the last frame that was read.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    fn in_context(&self, error: Error) -> Error {
        error.in_context(self.path.display())
    }
}

/// Appends to the partitions of a topic. Several may exist, in several processes: they take turns.
pub struct TopicWriter {
    topic: Topic,
    tails: Vec<Tail>,
}

/// What a writer knows of the end of a partition.
struct Tail {
    reader: LogReader,
    file: File,
    /// The last delivery of each job.
    deliveries: BTreeMap<String, DeliveryMarker>,
    is_synced: bool,
}

impl Tail {
    /// Takes in what others have appended.
    fn catch_up(&mut self) -> Result<()> {
        while let Some(frame) = self.reader.next_frame()? {
            if let Some(Stamp(marker)) = frame.stamp {
                self.deliveries.insert(marker.job_id.clone(), marker);
            }
        }
        Ok(())
    }
}

impl TopicWriter {
    pub fn open(topic: Topic) -> Result<Self> {
        let tails = (0..topic.partitions)
            .map(|partition| {
                let path = topic.log_path(partition);
                let file = OpenOptions::new().write(true).open(&path).map_err(|error| io_error("open", &path, error))?;
                let reader = topic.reader(i32::try_from(partition).unwrap_or(i32::MAX))?;
                Ok(Tail { reader, file, deliveries: BTreeMap::new(), is_synced: true })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(TopicWriter { topic, tails })
    }

    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Keeps other writers out until the guard is dropped.
    pub fn lock(&self) -> Result<LogLock> {
        lock(&self.topic.folder)
    }

    fn tail(&mut self, partition: u32) -> Result<&mut Tail> {
        let topic = &self.topic.name;
        self.tails
            .get_mut(partition as usize)
            .ok_or_else(|| Error::corrupt(format!("embedded topic \"{topic}\" has no partition {partition}")))
    }

    /// The last delivery of a job that the partition holds.
    pub fn last_delivery(&mut self, _lock: &LogLock, partition: u32, job_id: &str) -> Result<Option<DeliveryMarker>> {
        let tail = self.tail(partition)?;
        tail.catch_up()?;
        Ok(tail.deliveries.get(job_id).cloned())
    }

    /// Appends `records` records (output frames) as one commit; returns the offset of the first. Durable after
    /// [`TopicWriter::sync`].
    pub fn append(
        &mut self,
        _lock: &LogLock,
        partition: u32,
        stamp: Option<&Stamp>,
        (payload, records): (&[u8], u32),
        now_ms: i64,
    ) -> Result<i64> {
        let path = self.topic.log_path(partition);
        let failed = |error| io_error("append to", &path, error);
        let tail = self.tail(partition)?;
        tail.catch_up()?;
        let first_offset = tail.reader.end_offset();
        let bytes = frame::encode(first_offset, records, now_ms, stamp, payload)?;
        // What is behind the last whole frame is the rest of a crashed append: cut it off.
        tail.file.set_len(tail.reader.next_byte).map_err(failed)?;
        tail.file.seek(SeekFrom::End(0)).map_err(failed)?;
        tail.is_synced = false;
        tail.file.write_all(&bytes).map_err(failed)?;
        tail.catch_up()?;
        Ok(first_offset)
    }

    /// Flushes what was appended to the disk.
    pub fn sync(&mut self) -> Result<()> {
        for (partition, tail) in self.tails.iter_mut().enumerate().filter(|(_, tail)| !tail.is_synced) {
            tail.file
                .sync_data()
                .map_err(|error| io_error("flush", &self.topic.folder.join(format!("{partition}.log")), error))?;
            tail.is_synced = true;
        }
        Ok(())
    }
}

/// Held while someone appends; given back by the system when the process dies.
#[derive(Debug)]
pub struct LogLock {
    _file: File,
}

/// Waits for the lock file in `folder`.
pub fn lock(folder: &Path) -> Result<LogLock> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| io_error("open", &path, error))?;
    file.lock().map_err(|error| io_error("lock", &path, error))?;
    Ok(LogLock { _file: file })
}

/// Writes a small file so that it is there whole or not at all.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::internal("a value is no JSON").with_cause(error))?;
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|error| io_error("write", path, error))
}

pub fn io_error(action: &str, path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot {action} {}", path.display()))
        .with_help("check that the folder of --embedded exists, is writable and has room")
        .with_cause(error)
}

/// A file name for any topic name: letters, digits, `.`, `_` and `-` stay, other bytes become `%xx`; so does a leading dot.
pub fn escape(name: &str) -> String {
    let mut out = String::new();
    for (index, byte) in name.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (byte == b'.' && index > 0);
        if is_plain { out.push(byte.into()) } else { out.push_str(&format!("%{byte:02x}")) }
    }
    out
}

/// The inverse of [`escape`]; `None` for what it never makes.
fn unescape(name: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = name.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let (digits, tail) = tail.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (escape(&text) == name).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use thalweg_core::{Epoch, ErrorKind, Generation};

    use super::*;

    fn stamp(epoch: u64) -> Stamp {
        Stamp(DeliveryMarker { job_id: "job".to_string(), generation: Generation(1), epoch: Epoch(epoch), part: 0, last: true })
    }

    fn append(writer: &mut TopicWriter, partition: u32, payload: &[u8], epoch: u64) -> i64 {
        let lock = writer.lock().expect("lock");
        let offset = writer.append(&lock, partition, Some(&stamp(epoch)), (payload, 2), 7).expect("append");
        writer.sync().expect("sync");
        offset
    }

    fn frames(topic: &Topic, partition: i32) -> Vec<Frame> {
        let mut reader = topic.reader(partition).expect("partition");
        std::iter::from_fn(|| reader.next_frame().expect("good frames")).collect()
    }

    #[test]
    fn what_is_appended_is_read() {
        let dir = tempfile::tempdir().expect("folder");
        let topic = Topic::find_or_create(dir.path(), "a/b", 2).expect("new");
        let mut writer = TopicWriter::open(topic.clone()).expect("open");
        assert_eq!([append(&mut writer, 1, b"one", 1), append(&mut writer, 1, b"two", 2)], [0, 2]);
        let read = frames(&topic, 1);
        assert_eq!(read.iter().map(|frame| frame.payload.as_slice()).collect::<Vec<_>>(), [b"one", b"two"]);
        assert_eq!((read[1].first_offset, read[1].end_offset(), read[1].appended_ms), (2, 4, 7));
        assert!(frames(&topic, 0).is_empty());
        assert_eq!(topic.reader(2).expect_err("only two partitions").kind, ErrorKind::Corrupt);
        // A topic keeps the number of partitions that it was created with.
        assert_eq!(Topic::find_or_create(dir.path(), "a/b", 9).expect("found").partitions, 2);
        assert_eq!(Topic::list(dir.path()).expect("list"), ["a/b"]);
    }

    #[test]
    fn a_torn_tail_is_not_read_and_is_cut_off_by_the_next_append() {
        let dir = tempfile::tempdir().expect("folder");
        let topic = Topic::find_or_create(dir.path(), "t", 1).expect("new");
        let path = topic.log_path(0);
        let mut writer = TopicWriter::open(topic.clone()).expect("open");
        append(&mut writer, 0, b"first", 1);
        let whole = fs::read(&path).expect("log");
        append(&mut writer, 0, b"second", 2);
        let two = fs::read(&path).expect("log");
        for cut in whole.len()..two.len() {
            fs::write(&path, &two[..cut]).expect("tear");
            assert_eq!(frames(&topic, 0).len(), 1, "cut at {cut}");
            let mut writer = TopicWriter::open(topic.clone()).expect("open");
            assert_eq!(append(&mut writer, 0, b"again", 2), 2, "cut at {cut}");
            assert_eq!(frames(&topic, 0)[1].payload, b"again");
        }
        // Bytes of the last frame that never reached the disk.
        let mut holed = two.clone();
        let last = holed.len() - 1;
        holed[last] ^= 1;
        fs::write(&path, &holed).expect("hole");
        assert_eq!(frames(&topic, 0).len(), 1);
    }

    #[test]
    fn damage_before_the_tail_is_told() {
        let dir = tempfile::tempdir().expect("folder");
        let topic = Topic::find_or_create(dir.path(), "t", 1).expect("new");
        let mut writer = TopicWriter::open(topic.clone()).expect("open");
        append(&mut writer, 0, b"first", 1);
        append(&mut writer, 0, b"second", 2);
        let mut bytes = fs::read(topic.log_path(0)).expect("log");
        bytes[40] ^= 1;
        fs::write(topic.log_path(0), bytes).expect("damage");
        let error = topic.reader(0).expect("open").next_frame().expect_err("damaged");
        assert_eq!(error.kind, ErrorKind::Corrupt);
    }

    #[test]
    fn writers_see_each_other() {
        let dir = tempfile::tempdir().expect("folder");
        let topic = Topic::find_or_create(dir.path(), "t", 1).expect("new");
        let mut first = TopicWriter::open(topic.clone()).expect("open");
        let mut second = TopicWriter::open(topic.clone()).expect("open");
        assert_eq!([append(&mut first, 0, b"a", 1), append(&mut second, 0, b"b", 2), append(&mut first, 0, b"c", 3)], [0, 2, 4]);
        let lock = first.lock().expect("lock");
        let marker = first.last_delivery(&lock, 0, "job").expect("read").expect("stamped");
        assert_eq!(marker.epoch, Epoch(3));
        assert_eq!(first.last_delivery(&lock, 0, "other").expect("read"), None);
    }

    #[test]
    fn groups_keep_offsets() {
        let dir = tempfile::tempdir().expect("folder");
        let topic = Topic::find_or_create(dir.path(), "t", 2).expect("new");
        assert!(topic.group_offsets("g/1").expect("none yet").is_empty());
        topic.commit_group_offsets("g/1", &BTreeMap::from([(0, 5)])).expect("commit");
        topic.commit_group_offsets("g/1", &BTreeMap::from([(1, 6)])).expect("commit");
        assert_eq!(topic.group_offsets("g/1").expect("both"), BTreeMap::from([(0, 5), (1, 6)]));
    }

    proptest! {
        #[test]
        fn escaped_names_come_back(name in "\\PC{0,12}") {
            let escaped = escape(&name);
            prop_assert!(!escaped.contains('/') && !escaped.starts_with('.'));
            prop_assert_eq!(unescape(&escaped), Some(name));
        }
    }
}

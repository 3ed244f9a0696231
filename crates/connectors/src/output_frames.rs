//! Records on their way to a topic: how a sink's output is stored between the barrier and its delivery.
//!
//! A run of frames is one version byte and then, for each record (all integers little endian):
//!
//! ```text
//! u32 length of what follows
//! u16 length + bytes   topic (UTF-8)
//! i32                  partition, -1: the deliverer chooses
//! i64                  timestamp in milliseconds, -1: the time of delivery
//! u32                  number of headers, each: u32 length + bytes (name), i32 length or -1 + bytes (value)
//! i32 length or -1     + bytes   key
//! i32 length or -1     + bytes   value
//! ```
//!
//! The layout is part of the checkpoint format: an older binary refuses a version that it does not know.

mod last_frames;

use thalweg_core::{Error, Result};

pub use last_frames::LastFrames;

const VERSION: u8 = 1;

/// A header with its value, which may be null.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// One record, borrowed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OutputFrame<'a> {
    pub topic: &'a str,
    /// -1 leaves the choice to the deliverer.
    pub partition: i32,
    /// Milliseconds since 1970, or -1 for the time of delivery.
    pub timestamp_ms: i64,
    pub headers: Vec<Header<'a>>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

impl OutputFrame<'_> {
    /// Bytes of payload: what counts against a topic's limit, without the few bytes of framing that the protocol adds.
    pub fn payload_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + 10).sum();
        headers + self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }
}

/// Collects frames into one run.
#[derive(Default)]
pub struct FrameWriter {
    bytes: Vec<u8>,
    frames: u64,
}

impl FrameWriter {
    pub fn new() -> Self {
        FrameWriter::default()
    }

    /// # Errors
    /// `Record` when a part of the record is too long for its length field (2 GiB).
    pub fn push(&mut self, frame: &OutputFrame<'_>) -> Result<()> {
        if self.bytes.is_empty() {
            self.bytes.push(VERSION);
        }
        let start = self.bytes.len();
        match self.encode(frame) {
            Ok(()) => {
                self.frames += 1;
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    fn encode(&mut self, frame: &OutputFrame<'_>) -> Result<()> {
        let out = &mut self.bytes;
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let topic_length = u16::try_from(frame.topic.len()).map_err(|_| too_long("topic name"))?;
        out.extend_from_slice(&topic_length.to_le_bytes());
        out.extend_from_slice(frame.topic.as_bytes());
        out.extend_from_slice(&frame.partition.to_le_bytes());
        out.extend_from_slice(&frame.timestamp_ms.to_le_bytes());
        let header_count = u32::try_from(frame.headers.len()).map_err(|_| too_long("list of headers"))?;
        out.extend_from_slice(&header_count.to_le_bytes());
        for (name, value) in &frame.headers {
            let name_length = u32::try_from(name.len()).map_err(|_| too_long("header name"))?;
            out.extend_from_slice(&name_length.to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            put_nullable(out, *value, "header")?;
        }
        put_nullable(out, frame.key, "key")?;
        put_nullable(out, frame.value, "value")?;
        let length = u32::try_from(out.len() - start - 4).map_err(|_| too_long("record"))?;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    pub fn frames(&self) -> u64 {
        self.frames
    }

    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The run so far; the writer is empty afterwards. No frames give no bytes.
    pub fn take(&mut self) -> Vec<u8> {
        self.frames = 0;
        std::mem::take(&mut self.bytes)
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>, what: &str) -> Result<()> {
    match bytes {
        None => out.extend_from_slice(&(-1i32).to_le_bytes()),
        Some(bytes) => {
            let length = i32::try_from(bytes.len()).map_err(|_| too_long(what))?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

fn too_long(what: &str) -> Error {
    Error::record(format!("the {what} of an output record is longer than its length field can say"))
}

/// Reads a run of frames.
#[derive(Clone)]
pub struct FrameReader<'a> {
    rest: &'a [u8],
}

impl<'a> FrameReader<'a> {
    /// # Errors
    /// `Corrupt` for a version that this binary does not know.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        match bytes.split_first() {
            None => Ok(FrameReader { rest: bytes }),
            Some((&VERSION, rest)) => Ok(FrameReader { rest }),
            Some((version, _)) => {
                Err(Error::corrupt(format!("output frames have version {version}, this binary knows {VERSION}"))
                    .with_help("use the release that wrote the checkpoint, or a newer one"))
            }
        }
    }

    /// Goes on where another reader of the same bytes was, after `done_bytes` of them.
    pub fn resume(bytes: &'a [u8], done_bytes: usize) -> Self {
        FrameReader { rest: bytes.get(done_bytes..).unwrap_or_default() }
    }

    /// Bytes not read yet.
    pub fn remaining_bytes(&self) -> usize {
        self.rest.len()
    }

    fn read(&mut self) -> Option<OutputFrame<'a>> {
        let length = u32::from_le_bytes(take_array(&mut self.rest)?) as usize;
        let mut body = take(&mut self.rest, length)?;
        let topic_length = u16::from_le_bytes(take_array(&mut body)?) as usize;
        let topic = std::str::from_utf8(take(&mut body, topic_length)?).ok()?;
        let partition = i32::from_le_bytes(take_array(&mut body)?);
        let timestamp_ms = i64::from_le_bytes(take_array(&mut body)?);
        let header_count = u32::from_le_bytes(take_array(&mut body)?);
        let mut headers = vec![];
        for _ in 0..header_count {
            let name_length = u32::from_le_bytes(take_array(&mut body)?) as usize;
            let name = std::str::from_utf8(take(&mut body, name_length)?).ok()?;
            headers.push((name, take_nullable(&mut body)?));
        }
        let key = take_nullable(&mut body)?;
        let value = take_nullable(&mut body)?;
        body.is_empty().then_some(OutputFrame { topic, partition, timestamp_ms, headers, key, value })
    }
}

impl<'a> Iterator for FrameReader<'a> {
    type Item = Result<OutputFrame<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = self.read().ok_or_else(|| {
            self.rest = &[];
            Error::corrupt("output frames end in the middle of a record")
        });
        Some(frame)
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    take(bytes, N)?.try_into().ok()
}

/// The outer `None` is a broken frame, the inner one a null.
#[allow(clippy::option_option, reason = "broken and null are two things")]
fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match i32::from_le_bytes(take_array(bytes)?) {
        -1 => Some(None),
        length => Some(Some(take(bytes, usize::try_from(length).ok()?)?)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame<'a>(topic: &'a str, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> OutputFrame<'a> {
        OutputFrame { topic, partition: 3, timestamp_ms: -1, headers: vec![("trace", Some(b"1")), ("empty", None)], key, value }
    }

    #[test]
    fn nothing_is_no_bytes() {
        let mut writer = FrameWriter::new();
        assert_eq!(writer.take(), Vec::<u8>::new());
        assert_eq!(FrameReader::new(&[]).expect("no bytes are no frames").count(), 0);
    }

    #[test]
    fn a_cut_or_an_unknown_version_is_corrupt() {
        let mut writer = FrameWriter::new();
        writer.push(&frame("orders", None, Some(b"{}"))).expect("short");
        let bytes = writer.take();
        for end in 2..bytes.len() {
            let frames: Result<Vec<OutputFrame<'_>>> = FrameReader::new(&bytes[..end]).expect("version").collect();
            assert_eq!(frames.expect_err("cut").kind, thalweg_core::ErrorKind::Corrupt, "cut at {end}");
        }
        assert!(FrameReader::new(&[9, 0]).is_err());
    }

    proptest! {
        #[test]
        fn round_trip(
            records in proptest::collection::vec(
                ("[a-z.]{0,9}", any::<i32>(), any::<i64>(), any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>()),
                0..9,
            )
        ) {
            let frames: Vec<OutputFrame<'_>> = records
                .iter()
                .map(|(topic, partition, timestamp_ms, key, value, header)| OutputFrame {
                    topic,
                    partition: *partition,
                    timestamp_ms: *timestamp_ms,
                    headers: vec![("h", header.as_deref())],
                    key: key.as_deref(),
                    value: value.as_deref(),
                })
                .collect();
            let mut writer = FrameWriter::new();
            for frame in &frames {
                writer.push(frame).expect("short records");
            }
            prop_assert_eq!(writer.frames(), frames.len() as u64);
            let bytes = writer.take();
            let back: Vec<OutputFrame<'_>> =
                FrameReader::new(&bytes).expect("version").collect::<Result<_>>().expect("whole frames");
            prop_assert_eq!(back, frames);
        }
    }
}

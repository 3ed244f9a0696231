//! One atomic commit to one partition of an embedded topic, as bytes.
//!
//! ```text
//! offset  size
//!      0     4  magic "TWLG"
//!      4     4  length of everything behind the first 12 bytes
//!      8     4  CRC-32 of everything behind the first 12 bytes
//!     12     8  offset of the first record
//!     20     4  number of records
//!     24     8  milliseconds since 1970 when it was appended
//!     32     2  length of the stamp, 0: none
//!     34     …  stamp: the delivery this is a part of, as JSON
//!      …     …  the records, as output frames
//! ```
//!
//! All integers are little endian. A frame counts when it is whole and its checksum fits; one that is cut short at the end of
//! a file was never committed.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use thalweg_core::{DeliveryMarker, Error, Result};

const MAGIC: [u8; 4] = *b"TWLG";
/// Magic, length, checksum.
const PREAMBLE_BYTES: u64 = 12;
/// What a frame has at least behind the preamble.
const HEAD_BYTES: usize = 22;

/// The delivery that a frame is a part of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stamp(pub DeliveryMarker);

/// A frame that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub first_offset: i64,
    pub records: u32,
    pub appended_ms: i64,
    pub stamp: Option<Stamp>,
    /// Output frames.
    pub payload: Vec<u8>,
    /// Where the next frame begins in the file.
    pub end_byte: u64,
}

impl Frame {
    /// The offset behind the last record.
    pub fn end_offset(&self) -> i64 {
        self.first_offset + i64::from(self.records)
    }
}

/// The bytes of a frame.
/// # Errors
/// `Record` when it is larger than 4 GiB.
pub fn encode(first_offset: i64, records: u32, appended_ms: i64, stamp: Option<&Stamp>, payload: &[u8]) -> Result<Vec<u8>> {
    let stamp = match stamp {
        None => vec![],
        Some(stamp) => serde_json::to_vec(stamp).map_err(|error| Error::internal("a stamp is no JSON").with_cause(error))?,
    };
    let stamp_length = u16::try_from(stamp.len()).map_err(|_| Error::internal("the stamp of a delivery is too long"))?;
    let length = u32::try_from(HEAD_BYTES + stamp.len() + payload.len())
        .map_err(|_| Error::record("more than 4 GiB in one commit to a partition"))?;
    let mut bytes = Vec::with_capacity(PREAMBLE_BYTES as usize + length as usize);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&first_offset.to_le_bytes());
    bytes.extend_from_slice(&records.to_le_bytes());
    bytes.extend_from_slice(&appended_ms.to_le_bytes());
    bytes.extend_from_slice(&stamp_length.to_le_bytes());
    bytes.extend_from_slice(&stamp);
    bytes.extend_from_slice(payload);
    let checksum = crc32fast::hash(&bytes[PREAMBLE_BYTES as usize..]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// The frame at `start_byte`, or `None` where no whole frame is: at the end, or at a torn tail.
/// # Errors
/// `Corrupt` when a frame is damaged and others follow it; a torn tail can only be the last thing in a file.
pub fn read(file: &File, start_byte: u64, file_bytes: u64) -> Result<Option<Frame>> {
    if file_bytes < start_byte + PREAMBLE_BYTES {
        return Ok(None);
    }
    let mut preamble = [0; PREAMBLE_BYTES as usize];
    read_at(file, &mut preamble, start_byte)?;
    let word = |at: usize| u32::from_le_bytes([preamble[at], preamble[at + 1], preamble[at + 2], preamble[at + 3]]);
    let end_byte = start_byte + PREAMBLE_BYTES + u64::from(word(4));
    if preamble[..4] != MAGIC || end_byte > file_bytes {
        return Ok(None);
    }
    let mut body = vec![0; word(4) as usize];
    read_at(file, &mut body, start_byte + PREAMBLE_BYTES)?;
    if crc32fast::hash(&body) != word(8) {
        if end_byte < file_bytes {
            return Err(Error::corrupt(format!("a frame of an embedded topic is damaged at byte {start_byte}"))
                .with_help("restore the folder from a copy, or remove it to begin anew"));
        }
        return Ok(None);
    }
    parse(&body, end_byte)
        .map(Some)
        .ok_or_else(|| Error::corrupt(format!("a frame of an embedded topic cannot be read at byte {start_byte}")))
}

fn parse(body: &[u8], end_byte: u64) -> Option<Frame> {
    let (first_offset, rest) = body.split_first_chunk::<8>()?;
    let (records, rest) = rest.split_first_chunk::<4>()?;
    let (appended_ms, rest) = rest.split_first_chunk::<8>()?;
    let (stamp_length, rest) = rest.split_first_chunk::<2>()?;
    let (stamp, payload) = rest.split_at_checked(u16::from_le_bytes(*stamp_length) as usize)?;
    let stamp = if stamp.is_empty() { None } else { Some(serde_json::from_slice(stamp).ok()?) };
    Some(Frame {
        first_offset: i64::from_le_bytes(*first_offset),
        records: u32::from_le_bytes(*records),
        appended_ms: i64::from_le_bytes(*appended_ms),
        stamp,
        payload: payload.to_vec(),
        end_byte,
    })
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> Result<()> {
    file.read_exact_at(buffer, at)
        .map_err(|error| Error::unavailable("cannot read the log of an embedded topic").with_cause(error))
}

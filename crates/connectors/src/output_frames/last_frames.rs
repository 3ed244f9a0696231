//! The last record of each key, in the order of these last records: what remains of the changes of an epoch.

use std::collections::HashMap;
use std::ops::Range;

use thalweg_core::Result;

use super::{FrameWriter, OutputFrame};

/// Bytes of records that were written over, from which on they are cleared away once they are more than half.
const CLEARED_BYTES_MIN: usize = 1 << 20;

/// Collects frames; a later one of the same topic and key takes the place of an earlier one, and its own place behind all others.
/// Frames without a key are all kept.
#[derive(Default)]
pub struct LastFrames {
    writer: FrameWriter,
    /// Where each frame is in the writer's bytes; `None` for one that was written over.
    places: Vec<Option<Range<usize>>>,
    /// By topic and key, the index in `places`.
    last: HashMap<(String, Vec<u8>), usize>,
    key_bytes: usize,
    dead_bytes: usize,
}

impl LastFrames {
    /// # Errors
    /// As [`FrameWriter::push`].
    pub fn push(&mut self, frame: &OutputFrame<'_>) -> Result<()> {
        // The version byte is in front of the first frame.
        let start = self.writer.len_bytes().max(1);
        self.writer.push(frame)?;
        self.places.push(Some(start..self.writer.len_bytes()));
        if let Some(key) = frame.key {
            let index = self.places.len() - 1;
            match self.last.insert((frame.topic.to_string(), key.to_vec()), index) {
                None => self.key_bytes += frame.topic.len() + key.len(),
                Some(before) => self.dead_bytes += self.places[before].take().map_or(0, |place| place.len()),
            }
        }
        if self.dead_bytes > CLEARED_BYTES_MIN && self.dead_bytes * 2 > self.writer.len_bytes() {
            self.clear_dead();
        }
        Ok(())
    }

    /// Memory held, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.writer.len_bytes() + self.key_bytes
    }

    /// The frames that remain; nothing is left behind.
    pub fn take(&mut self) -> FrameWriter {
        self.clear_dead();
        std::mem::take(self).writer
    }

    fn clear_dead(&mut self) {
        if self.dead_bytes == 0 {
            return;
        }
        let mut bytes = Vec::with_capacity(self.writer.bytes.len() - self.dead_bytes);
        bytes.push(self.writer.bytes[0]);
        let mut moved = vec![0; self.places.len()];
        let mut places = vec![];
        for (index, place) in self.places.iter().enumerate() {
            if let Some(place) = place {
                moved[index] = places.len();
                let start = bytes.len();
                bytes.extend_from_slice(&self.writer.bytes[place.clone()]);
                places.push(Some(start..bytes.len()));
            }
        }
        self.last.values_mut().for_each(|index| *index = moved[*index]);
        self.writer = FrameWriter { bytes, frames: places.len() as u64 };
        self.places = places;
        self.dead_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output_frames::FrameReader;

    fn frames_of(bytes: &[u8]) -> Vec<OutputFrame<'_>> {
        FrameReader::new(bytes).expect("version").collect::<Result<_>>().expect("whole frames")
    }

    #[test]
    fn nothing_is_nothing() {
        let mut frames = LastFrames::default();
        let mut taken = frames.take();
        assert_eq!((taken.frames(), taken.take(), frames.len_bytes()), (0, vec![], 0));
    }

    #[test]
    fn what_was_written_over_is_cleared_away() {
        let mut frames = LastFrames::default();
        let value = vec![b'v'; 100_000];
        for round in 0..1_000_u32 {
            let key = (round % 3).to_le_bytes();
            frames
                .push(&OutputFrame { topic: "t", key: Some(&key), value: Some(&value), ..OutputFrame::default() })
                .expect("short");
        }
        assert!(frames.len_bytes() < 4 << 20, "{} bytes held", frames.len_bytes());
        assert_eq!(frames.take().frames(), 3);
    }

    proptest! {
        #[test]
        fn the_last_of_each_key_remains(
            records in proptest::collection::vec(("[ab]", proptest::option::of("[a-c]"), any::<Option<u8>>()), 0..40),
            cleared_at in 0..40_usize,
        ) {
            let mut frames = LastFrames::default();
            let mut expected: Vec<(String, Option<String>, Option<u8>)> = vec![];
            for (index, (topic, key, value)) in records.into_iter().enumerate() {
                let value_bytes = value.map(|value| [value]);
                frames
                    .push(&OutputFrame {
                        topic: &topic,
                        key: key.as_deref().map(str::as_bytes),
                        value: value_bytes.as_ref().map(|bytes| bytes.as_slice()),
                        ..OutputFrame::default()
                    })
                    .expect("short records");
                expected.retain(|(other_topic, other_key, _)| key.is_none() || (other_topic, other_key) != (&topic, &key));
                expected.push((topic, key, value));
                if index == cleared_at {
                    frames.clear_dead();
                }
            }
            let mut taken = frames.take();
            prop_assert_eq!(taken.frames(), expected.len() as u64);
            let bytes = taken.take();
            let found: Vec<_> = frames_of(&bytes)
                .into_iter()
                .map(|frame| {
                    let key = frame.key.map(|key| String::from_utf8_lossy(key).into_owned());
                    (frame.topic.to_string(), key, frame.value.map(|value| value[0]))
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}

//! The writer of exactly-once sinks: keeps the encoded records of an epoch until the barrier; of upserts the last of each key.

use thalweg_core::{Batch, Epoch, OutputSegment, Result, SinkWriter};

use super::records_out::RecordMaker;
use crate::output_frames::{FrameWriter, LastFrames};

pub struct BufferedWriter {
    maker: RecordMaker,
    kept: Kept,
}

enum Kept {
    All(FrameWriter),
    LastOfKey(LastFrames),
}

impl BufferedWriter {
    /// `upserts`: whether only the last record of each key counts.
    pub fn new(maker: RecordMaker, upserts: bool) -> Self {
        let kept = if upserts { Kept::LastOfKey(LastFrames::default()) } else { Kept::All(FrameWriter::new()) };
        BufferedWriter { maker, kept }
    }
}

impl SinkWriter for BufferedWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        match &mut self.kept {
            Kept::All(frames) => self.maker.each_record(batch, &mut |frame| frames.push(frame)),
            Kept::LastOfKey(frames) => self.maker.each_record(batch, &mut |frame| frames.push(frame)),
        }
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        let mut frames = match &mut self.kept {
            Kept::All(frames) => std::mem::take(frames),
            Kept::LastOfKey(frames) => frames.take(),
        };
        let rows = frames.frames();
        if rows == 0 {
            return Ok(vec![]);
        }
        Ok(vec![OutputSegment { tag: String::new(), bytes: frames.take(), rows }])
    }

    fn buffered_bytes(&self) -> usize {
        match &self.kept {
            Kept::All(frames) => frames.len_bytes(),
            Kept::LastOfKey(frames) => frames.len_bytes(),
        }
    }
}

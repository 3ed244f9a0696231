//! The writer of exactly-once sinks: keeps the encoded records of an epoch until the barrier.

use thalweg_core::{Batch, Epoch, OutputSegment, Result, SinkWriter};

use super::records_out::RecordMaker;
use crate::output_frames::FrameWriter;

pub struct BufferedWriter {
    maker: RecordMaker,
    frames: FrameWriter,
}

impl BufferedWriter {
    pub fn new(maker: RecordMaker) -> Self {
        BufferedWriter { maker, frames: FrameWriter::new() }
    }
}

impl SinkWriter for BufferedWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let frames = &mut self.frames;
        self.maker.each_record(batch, &mut |frame| frames.push(frame))
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        let rows = self.frames.frames();
        if rows == 0 {
            return Ok(vec![]);
        }
        Ok(vec![OutputSegment { tag: String::new(), bytes: self.frames.take(), rows }])
    }

    fn buffered_bytes(&self) -> usize {
        self.frames.len_bytes()
    }
}

//! A file as lines, read in chunks.

use std::io::BufRead as _;
use std::ops::Range;

use thalweg_core::{Error, Result};

use super::folder::FileHandle;

/// How much is read at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// The longest line that is taken: one bad file must not fill the memory.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Splits at `\n`. A last line without `\n` counts; the `\r` of `\r\n` is not part of a line, as in Flink's line input.
pub(super) struct LineReader {
    file: FileHandle,
    /// The file's length when it was listed: what is added later is not read in this run.
    end: u64,
    /// The next byte to ask the file for.
    fetched: u64,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were given out.
    consumed: usize,
    /// Of the line that comes next, from 1.
    line_number: i64,
}

impl LineReader {
    /// Starts at byte `position`, where line `line_number` begins.
    pub fn new(file: FileHandle, end: u64, position: u64, line_number: i64) -> Self {
        LineReader { file, end, fetched: position, buffer: vec![], consumed: 0, line_number }
    }

    /// The byte where the next line begins.
    pub fn position(&self) -> u64 {
        self.fetched - (self.buffer.len() - self.consumed) as u64
    }

    /// The number of the next line, from 1.
    pub fn line_number(&self) -> i64 {
        self.line_number
    }

    /// The place of the next line in the buffer, to be given to [`LineReader::bytes`]; `None` at the end.
    pub fn next_line(&mut self) -> Result<Option<Range<usize>>> {
        loop {
            let mut rest = &self.buffer[self.consumed..];
            // `skip_until` is the standard library's vectorised search; reading from a slice cannot fail.
            let length = rest.skip_until(b'\n').unwrap_or(0);
            let start = self.consumed;
            let is_whole = length > 0 && self.buffer[start + length - 1] == b'\n';
            if is_whole || (self.fetched == self.end && length > 0) {
                let mut stop = start + length - usize::from(is_whole);
                if stop > start && self.buffer[stop - 1] == b'\r' {
                    stop -= 1;
                }
                self.consumed += length;
                self.line_number += 1;
                return Ok(Some(start..stop));
            }
            if self.fetched == self.end {
                return Ok(None);
            }
            if length > LINE_BYTES_MAX {
                return Err(Error::record(format!(
                    "{}:{}: line is longer than {} MiB",
                    self.file.shown(),
                    self.line_number,
                    LINE_BYTES_MAX >> 20
                ))
                .with_help("check that the format is right for this file"));
            }
            self.fetch()?;
        }
    }

    pub fn bytes(&self, line: Range<usize>) -> &[u8] {
        &self.buffer[line]
    }

    fn fetch(&mut self) -> Result<()> {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        let length = CHUNK_BYTES.min(self.end - self.fetched);
        self.file.read(self.fetched, length, &mut self.buffer)?;
        self.fetched += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::folder::Folder;
    use crate::store::StoreSettings;
    use proptest::prelude::*;

    fn lines_of(content: &[u8], from: u64) -> Vec<(u64, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, content).unwrap();
        let folder = Folder::open(path.to_str().unwrap(), &StoreSettings::default()).unwrap();
        let mut reader = LineReader::new(folder.open_file("x").unwrap(), content.len() as u64, from, 1);
        let mut lines = vec![];
        while let Some(line) = reader.next_line().unwrap() {
            let bytes = reader.bytes(line).to_vec();
            lines.push((reader.position(), bytes));
        }
        lines
    }

    proptest! {
        #[test]
        fn lines_are_those_of_a_plain_split(content in "[ab\r\n]{0,40}") {
            let mut expected: Vec<&[u8]> = content.as_bytes().split(|byte| *byte == b'\n').collect();
            if expected.last() == Some(&&b""[..]) {
                expected.pop();
            }
            let expected: Vec<Vec<u8>> =
                expected.iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()).collect();
            let all = lines_of(content.as_bytes(), 0);
            prop_assert_eq!(all.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>(), expected);
            for (index, (position, _)) in all.iter().enumerate() {
                prop_assert_eq!(&lines_of(content.as_bytes(), *position)[..], &all[index + 1..]);
            }
        }
    }

    #[test]
    fn lines_cross_chunks() {
        let content = format!("{}\n{}\nend", "x".repeat(CHUNK_BYTES as usize - 1), "y".repeat(CHUNK_BYTES as usize + 5));
        let lengths: Vec<usize> = lines_of(content.as_bytes(), 0).iter().map(|(_, line)| line.len()).collect();
        assert_eq!(lengths, [CHUNK_BYTES as usize - 1, CHUNK_BYTES as usize + 5, 3]);
    }
}

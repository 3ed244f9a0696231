//! Reads the files of one lane, one after another.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray};
use thalweg_core::{
    Assignment, Decoder, Error, PartitionId, PollBudget, Position, RecordContext, Result, SourceEvent, SourceReader,
};

use super::ParquetBatches;
use super::folder::FileEntry;
use super::lines::LineReader;
use super::options::FileFormat;
use super::partition::value_in_path;
use super::source::{ColumnOrigin, KnownFiles, ScanShape};
use crate::rows::{cast_strictly, repeat};

/// A batch is given out once its records take this many bytes, so that wide rows do not fill the memory.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// The reader of a [`super::FileSource`].
pub(super) struct FileReader {
    shape: Arc<ScanShape>,
    known: KnownFiles,
    /// `None` for parquet.
    decoder: Option<Box<dyn Decoder>>,
    waiting: VecDeque<WaitingFile>,
    current: Option<OpenFile>,
}

/// A file that was not opened yet.
struct WaitingFile {
    partition: PartitionId,
    /// `None` when it was read to its end by an earlier run and has been removed since.
    entry: Option<FileEntry>,
    start: Place,
}

/// A place in a file.
#[derive(Clone, Copy)]
struct Place {
    /// Byte, or row of a parquet file.
    next: u64,
    line_number: i64,
}

struct OpenFile {
    partition: PartitionId,
    /// The full path, for messages.
    shown: String,
    length: u64,
    /// For each output column that does not come from the decoder: its one value.
    constants: Vec<Option<ArrayRef>>,
    body: Body,
}

enum Body {
    Lines(LineReader),
    Parquet { batches: Peekable<ParquetBatches>, next_row: u64 },
}

impl FileReader {
    pub fn new(shape: Arc<ScanShape>, known: KnownFiles) -> Result<Self> {
        let decoder = match shape.format {
            FileFormat::Lines(_) => Some(shape.decoder()?),
            FileFormat::Parquet => None,
        };
        Ok(FileReader { shape, known, decoder, waiting: VecDeque::new(), current: None })
    }

    fn prepare(&self, assignment: Assignment) -> Result<WaitingFile> {
        let path = &assignment.partition.0;
        let listed = self.known.lock().expect("no holder of this lock panics").get(path).cloned();
        let entry = match listed {
            Some(entry) => Some(entry),
            None => self.shape.folder.find(path)?,
        };
        let position = assignment.position.unwrap_or(Position::at(0));
        let next = u64::try_from(position.next)
            .map_err(|_| Error::corrupt(format!("position {} of file \"{path}\" is below 0", position.next)))?;
        let detail = FileDetail::parse(position.detail.as_deref());
        let is_parquet = self.shape.format == FileFormat::Parquet;
        match &entry {
            Some(entry) if !is_parquet && entry.length < next => Err(Error::corrupt(format!(
                "file \"{}\" has {} bytes, but {next} were read before the restart",
                self.shape.folder.full_path(path),
                entry.length
            ))
            .with_help("put the file back as it was, or start without the checkpoint")),
            Some(entry) if is_parquet && next > 0 && detail.length != Some(entry.length) => Err(Error::corrupt(format!(
                "file \"{}\" is not the one that was read before the restart",
                self.shape.folder.full_path(path)
            ))
            .with_help("put the file back as it was, or start without the checkpoint")),
            // Files that were read to their end may be removed; others may not.
            None if detail.is_done => {
                Ok(WaitingFile { partition: assignment.partition, entry: None, start: Place { next, line_number: 1 } })
            }
            None => Err(Error::unavailable(format!(
                "file \"{}\" has gone before it was read to its end",
                self.shape.folder.full_path(path)
            ))
            .with_help("put the file back")),
            Some(_) => {
                let start = Place { next, line_number: detail.line_number };
                Ok(WaitingFile { partition: assignment.partition, entry, start })
            }
        }
    }

    fn open(&self, file: &WaitingFile, entry: &FileEntry, batch_rows: usize) -> Result<OpenFile> {
        let shape = &self.shape;
        let shown = shape.folder.full_path(&entry.path);
        let mut handle = shape.folder.open_file(&entry.path)?;
        let body = match shape.format {
            FileFormat::Lines(_) => Body::Lines(LineReader::new(handle, entry.length, file.start.next, file.start.line_number)),
            FileFormat::Parquet => {
                let skip = usize::try_from(file.start.next).unwrap_or(usize::MAX);
                let bytes = handle.read_all(entry.length)?;
                let batches = (shape.read_parquet)(bytes, &shape.decoded, skip, batch_rows)
                    .map_err(|error| error.in_context(format!("file \"{shown}\"")))?;
                Body::Parquet { batches: batches.peekable(), next_row: file.start.next }
            }
        };
        let constants = shape
            .origins
            .iter()
            .zip(shape.schema.fields())
            .map(|(origin, field)| match origin {
                ColumnOrigin::Decoded(_) => Ok(None),
                ColumnOrigin::Folder => value_in_path(&entry.path, field, &shape.default_name).map(Some),
                ColumnOrigin::File(key) => {
                    let value = file_metadata(key, entry, &shown)?;
                    cast_strictly(&value, field.data_type()).map(Some)
                }
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(OpenFile { partition: file.partition.clone(), shown, length: entry.length, constants, body })
    }
}

impl SourceReader for FileReader {
    fn assign(&mut self, assignments: Vec<Assignment>) -> Result<()> {
        let mut files = assignments.into_iter().map(|assignment| self.prepare(assignment)).collect::<Result<Vec<_>>>()?;
        // In order of path, which is the order of time for files named by date.
        files.sort_by(|one, other| one.partition.cmp(&other.partition));
        self.waiting.extend(files);
        Ok(())
    }

    fn poll(&mut self, budget: PollBudget) -> Result<SourceEvent> {
        if self.current.is_none() {
            let Some(file) = self.waiting.front() else {
                std::thread::sleep(budget.wait);
                return Ok(SourceEvent::Idle);
            };
            let opened = match &file.entry {
                Some(entry) => Some(self.open(file, entry, budget.rows)?),
                None => None,
            };
            // Only now, so that a file that could not be opened is tried again.
            let file = self.waiting.pop_front().expect("the first waiting file was looked at above");
            match opened {
                Some(opened) => self.current = Some(opened),
                None => return Ok(SourceEvent::PartitionEnd(file.partition)),
            }
        }
        let open = self.current.as_mut().expect("a file is open");
        let event = match &mut self.decoder {
            Some(decoder) => open.poll_lines(&self.shape, decoder.as_mut(), budget.rows)?,
            None => open.poll_parquet(&self.shape)?,
        };
        match event {
            Some(rows) => Ok(rows),
            None => {
                let partition = open.partition.clone();
                self.current = None;
                Ok(SourceEvent::PartitionEnd(partition))
            }
        }
    }
}

impl OpenFile {
    /// `None` at the end of the file.
    fn poll_lines(&mut self, shape: &ScanShape, decoder: &mut dyn Decoder, rows_max: usize) -> Result<Option<SourceEvent>> {
        let Body::Lines(lines) = &mut self.body else {
            return Err(Error::internal("a file of lines was opened as parquet"));
        };
        let keeps_blank_lines = shape.format == FileFormat::Lines("raw".to_string());
        let start = lines.position();
        let stop = start.saturating_add(BATCH_BYTES_MAX as u64);
        while decoder.rows() < rows_max.max(1) && lines.position() < stop {
            let offset = lines.line_number();
            let Some(line) = lines.next_line()? else { break };
            let record = lines.bytes(line);
            if record.is_empty() && !keeps_blank_lines {
                continue;
            }
            decoder.decode(record, RecordContext { origin: &self.shown, partition: None, offset })?;
        }
        // A batch that failed in between may have left rows behind, so the end is reached only without any.
        if lines.position() == start && decoder.rows() == 0 {
            return Ok(None);
        }
        let (rows, skipped) = (decoder.rows(), decoder.take_skipped());
        let detail =
            FileDetail { length: Some(self.length), line_number: lines.line_number(), is_done: lines.position() == self.length };
        let next = position(lines.position(), detail);
        let rows = self.complete(shape, decoder.flush()?.columns(), rows)?;
        Ok(Some(SourceEvent::Rows { partition: self.partition.clone(), rows, weights: None, next, skipped }))
    }

    /// `None` at the end of the file.
    fn poll_parquet(&mut self, shape: &ScanShape) -> Result<Option<SourceEvent>> {
        let Body::Parquet { batches, next_row } = &mut self.body else {
            return Err(Error::internal("a parquet file was opened as lines"));
        };
        let Some(batch) = batches.next() else { return Ok(None) };
        let batch = batch.map_err(|error| error.in_context(format!("file \"{}\" row {}", self.shown, *next_row + 1)))?;
        *next_row += batch.num_rows() as u64;
        let is_done = batches.peek().is_none();
        let next = position(*next_row, FileDetail { length: Some(self.length), line_number: 1, is_done });
        let rows = self.complete(shape, batch.columns(), batch.num_rows())?;
        Ok(Some(SourceEvent::Rows { partition: self.partition.clone(), rows, weights: None, next, skipped: 0 }))
    }

    /// Puts decoded columns and constants in their places.
    fn complete(&self, shape: &ScanShape, decoded: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let columns = shape
            .origins
            .iter()
            .zip(&self.constants)
            .map(|(origin, constant)| match (origin, constant) {
                (ColumnOrigin::Decoded(index), _) => Ok(decoded[*index].clone()),
                (_, Some(constant)) => repeat(constant, rows),
                (_, None) => Err(Error::internal("a column of a file has no value")),
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(shape.schema.clone(), columns, &options)?)
    }
}

fn file_metadata(key: &str, entry: &FileEntry, shown: &str) -> Result<ArrayRef> {
    let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
    Ok(match key {
        "file.path" => Arc::new(StringArray::from(vec![shown])),
        "file.name" => Arc::new(StringArray::from(vec![name])),
        "file.size" => Arc::new(Int64Array::from(vec![i64::try_from(entry.length).unwrap_or(i64::MAX)])),
        "file.modification-time" => Arc::new(TimestampMillisecondArray::from(vec![entry.modified_ms]).with_timezone("UTC")),
        other => return Err(Error::user(format!("connector \"filesystem\" has no metadata \"{other}\""))),
    })
}

fn position(next: u64, detail: FileDetail) -> Position {
    Position { next: i64::try_from(next).unwrap_or(i64::MAX), detail: Some(detail.to_string()) }
}

/// What [`Position::detail`] holds for a file: `length 120 line 7`, with ` done` behind it once all of it was read.
struct FileDetail {
    /// When it was listed.
    length: Option<u64>,
    /// Of the next line, for messages.
    line_number: i64,
    is_done: bool,
}

impl std::fmt::Display for FileDetail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let done = if self.is_done { " done" } else { "" };
        write!(f, "length {} line {}{done}", self.length.unwrap_or(0), self.line_number)
    }
}

impl FileDetail {
    /// Lenient: what cannot be read is not known.
    fn parse(text: Option<&str>) -> FileDetail {
        let words: Vec<&str> = text.unwrap_or_default().split(' ').collect();
        let after = |word: &str| {
            let index = words.iter().position(|other| *other == word)?;
            words.get(index + 1)
        };
        FileDetail {
            length: after("length").and_then(|number| number.parse().ok()),
            line_number: after("line").and_then(|number| number.parse().ok()).unwrap_or(1),
            is_done: words.contains(&"done"),
        }
    }
}

#[cfg(test)]
mod tests;

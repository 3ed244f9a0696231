//! Rows that a test pushed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use thalweg_core::{
    Assignment, Error, PartitionId, PollBudget, Position, ReadMode, Result, ScanField, ScanRequest, Source, SourceEvent,
    SourceReader,
};

use super::MemoryBroker;
use crate::rows::cast_strictly;

/// The source of a `memory` table: partitions `topic/0`, `topic/1`, …; positions are row numbers.
///
/// A partition ends when the test has ended the topic, or under [`ReadMode::UntilCaughtUp`] at the rows that are there when
/// the reader is made. Polling never sleeps: time in tests moves by hand.
pub struct MemorySource {
    shape: Arc<Shape>,
    is_bounded: bool,
}

struct Shape {
    broker: Arc<MemoryBroker>,
    topic: String,
    fields: Vec<ScanField>,
    schema: SchemaRef,
    mode: ReadMode,
}

impl MemorySource {
    pub fn open(request: ScanRequest, broker: Arc<MemoryBroker>) -> Result<Self> {
        let topic = request.options.get("topic").unwrap_or(&request.table).to_string();
        let is_bounded = request.mode == ReadMode::UntilCaughtUp || request.options.boolean("bounded", false)?;
        let schema = Schema::new(request.fields.iter().map(|field| field.field().clone()).collect::<Vec<_>>());
        let shape = Shape { broker, topic, fields: request.fields, schema: Arc::new(schema), mode: request.mode };
        Ok(MemorySource { shape: Arc::new(shape), is_bounded })
    }
}

impl Source for MemorySource {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        let partitions = self.shape.broker.partition_count(&self.shape.topic)?;
        Ok((0..partitions).map(|partition| PartitionId(format!("{}/{partition}", self.shape.topic))).collect())
    }

    fn discovery_interval(&self) -> Option<Duration> {
        (!self.is_bounded).then_some(Duration::from_secs(1))
    }

    fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    fn reader(&self, assignments: Vec<Assignment>) -> Result<Box<dyn SourceReader>> {
        let mut reader = MemoryReader { shape: self.shape.clone(), partitions: VecDeque::new() };
        reader.assign(assignments)?;
        Ok(Box::new(reader))
    }
}

struct MemoryReader {
    shape: Arc<Shape>,
    /// The one at the front has the next turn.
    partitions: VecDeque<PartitionProgress>,
}

struct PartitionProgress {
    id: PartitionId,
    partition: usize,
    next: usize,
    /// Where to end; `None` is at the end of the topic, once the test says so.
    end: Option<usize>,
}

impl SourceReader for MemoryReader {
    fn assign(&mut self, assignments: Vec<Assignment>) -> Result<()> {
        for Assignment { partition: id, position } in assignments {
            let number = id.0.rsplit_once('/').and_then(|(_, number)| number.parse::<usize>().ok());
            let partition = number.ok_or_else(|| Error::internal(format!("\"{id}\" is no partition of a memory topic")))?;
            let next = position.map_or(0, |position| usize::try_from(position.next).unwrap_or(0));
            let end = match self.shape.mode {
                ReadMode::AsDeclared => None,
                ReadMode::UntilCaughtUp => Some(self.shape.broker.row_count(&self.shape.topic, partition)),
            };
            self.partitions.push_back(PartitionProgress { id, partition, next, end });
        }
        Ok(())
    }

    fn poll(&mut self, budget: PollBudget) -> Result<SourceEvent> {
        let Shape { broker, topic, .. } = self.shape.as_ref();
        for _ in 0..self.partitions.len() {
            let Some(mut progress) = self.partitions.pop_front() else { break };
            // Asked before the rows: rows pushed before the end are then seen.
            let has_ended = broker.has_ended(topic);
            let rows_max = progress.end.map_or(usize::MAX, |end| end.saturating_sub(progress.next)).min(budget.rows.max(1));
            let rows = if rows_max == 0 { None } else { broker.rows(topic, progress.partition, progress.next, rows_max) };
            match rows {
                Some(rows) => {
                    let first = progress.next;
                    progress.next += rows.num_rows();
                    let (partition, next) = (progress.id.clone(), Position::at(progress.next as i64));
                    let rows = self.shape.project(&rows, progress.partition, first)?;
                    self.partitions.push_back(progress);
                    return Ok(SourceEvent::Rows { partition, rows, weights: None, next, skipped: 0 });
                }
                None if has_ended => return Ok(SourceEvent::PartitionEnd(progress.id)),
                None if progress.end.is_some() => return Ok(SourceEvent::CaughtUp(progress.id)),
                None => self.partitions.push_back(progress),
            }
        }
        Ok(SourceEvent::Idle)
    }

    fn lag_rows(&self) -> Option<u64> {
        let lag = |progress: &PartitionProgress| {
            self.shape.broker.row_count(&self.shape.topic, progress.partition).saturating_sub(progress.next) as u64
        };
        Some(self.partitions.iter().map(lag).sum())
    }
}

impl Shape {
    fn project(&self, rows: &RecordBatch, partition: usize, first: usize) -> Result<RecordBatch> {
        let count = rows.num_rows();
        let columns = self
            .fields
            .iter()
            .map(|field| {
                let column: ArrayRef = match field {
                    ScanField::Physical(field) => rows.column_by_name(field.name()).cloned().ok_or_else(|| {
                        Error::user(format!("rows of topic \"{}\" have no column \"{}\"", self.topic, field.name()))
                    })?,
                    ScanField::Metadata { key, .. } if key == "partition" => {
                        Arc::new(Int32Array::from(vec![i32::try_from(partition).unwrap_or(i32::MAX); count]))
                    }
                    ScanField::Metadata { key, .. } if key == "offset" => {
                        Arc::new(Int64Array::from_iter_values((first..first + count).map(|row| row as i64)))
                    }
                    ScanField::Metadata { key, .. } => {
                        return Err(Error::user(format!("connector \"memory\" has no metadata \"{key}\"")));
                    }
                };
                cast_strictly(&column, field.field().data_type())
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

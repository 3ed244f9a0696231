//! `connector = 'datagen'`: made-up rows, with Flink's options.
//!
//! The rows of a table are numbered from 0; with `scan.parallelism` n, partition p has the rows p, p + n, p + 2n, … A value
//! depends on the table's name, its column and the row's number alone, so that a restart at a position goes on with the same
//! rows and the result does not depend on lanes. (Only times do depend on the clock, as in Flink.)

mod column;
mod options;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use thalweg_core::{
    Assignment, Clock, Code, Diagnostic, Error, PartitionId, PollBudget, Position, ReadMode, Result, ScanField, ScanRequest,
    Source, SourceEvent, SourceReader, stable_hash,
};

use column::ColumnGenerator;
pub use options::INFO;
use options::TableOptions;

/// Rows of a batch at most, whatever the budget says, so that slow partitions take turns.
const BATCH_ROWS_MAX: u64 = 8192;

/// The source of a `datagen` table.
pub struct DatagenSource {
    shape: Arc<Shape>,
}

struct Shape {
    schema: SchemaRef,
    columns: Vec<ColumnGenerator>,
    partitions: u64,
    /// Over all partitions; `None` is without end.
    rows_total: Option<u64>,
    rows_per_second: u64,
    clock: Arc<dyn Clock>,
}

impl DatagenSource {
    pub fn open(request: ScanRequest) -> Result<Self> {
        let options = TableOptions::parse(&request.options, &request.physical_schema)?;
        if request.mode == ReadMode::UntilCaughtUp && options.rows_total.is_none() {
            let finding = Diagnostic::error(Code::BAD_OPTION, format!("table \"{}\" makes rows without end", request.table));
            return Err(finding
                .label_opt(request.options.span, "options given here")
                .help("add 'number-of-rows' = '…', or run without --until-caught-up")
                .into());
        }
        let seed = stable_hash(request.table.as_bytes());
        let mut columns = vec![];
        for field in &request.fields {
            let ScanField::Physical(field) = field else {
                return Err(Error::user("connector \"datagen\" has no metadata columns"));
            };
            let generator = options
                .column(field.name())
                .map(|column| ColumnGenerator::new(column.clone(), field.clone(), seed ^ stable_hash(field.name().as_bytes())));
            columns.push(generator.ok_or_else(|| Error::internal(format!("column {} is not declared", field.name())))?);
        }
        let schema = Schema::new(request.fields.iter().map(|field| field.field().clone()).collect::<Vec<_>>());
        Ok(DatagenSource {
            shape: Arc::new(Shape {
                schema: Arc::new(schema),
                columns,
                partitions: options.partitions,
                rows_total: options.rows_total,
                rows_per_second: options.rows_per_second,
                clock: request.clock,
            }),
        })
    }
}

impl Shape {
    fn partition_id(&self, partition: u64) -> PartitionId {
        PartitionId(format!("{partition}/{}", self.partitions))
    }

    /// Rows of one partition, if they end.
    fn rows_of(&self, partition: u64) -> Option<u64> {
        self.rows_total.map(|total| total.saturating_sub(partition).div_ceil(self.partitions))
    }

    fn generate(&self, partition: u64, first: u64, rows: u64) -> Result<RecordBatch> {
        let now_ms = self.clock.wall_ms();
        let numbers: Vec<u64> = (first..first + rows).map(|row| row * self.partitions + partition).collect();
        let columns = self.columns.iter().map(|column| column.generate(&numbers, now_ms)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

impl Source for DatagenSource {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        Ok((0..self.shape.partitions).map(|partition| self.shape.partition_id(partition)).collect())
    }

    fn discovery_interval(&self) -> Option<Duration> {
        None
    }

    fn is_bounded(&self) -> bool {
        self.shape.rows_total.is_some()
    }

    fn reader(&self, assignments: Vec<Assignment>) -> Result<Box<dyn SourceReader>> {
        let mut reader = DatagenReader { shape: self.shape.clone(), partitions: VecDeque::new() };
        reader.assign(assignments)?;
        Ok(Box::new(reader))
    }
}

struct DatagenReader {
    shape: Arc<Shape>,
    /// The one at the front has the next turn.
    partitions: VecDeque<PartitionProgress>,
}

struct PartitionProgress {
    id: PartitionId,
    partition: u64,
    /// Rows made since the table's beginning.
    next: u64,
    rows_max: Option<u64>,
    /// For the rate: where and when this run began.
    first: u64,
    started: Duration,
}

impl PartitionProgress {
    /// Rows that the rate allows to be made now.
    fn due(&self, shape: &Shape) -> u64 {
        let elapsed_nanos = shape.clock.monotonic().saturating_sub(self.started).as_nanos();
        let rate = u128::from(shape.rows_per_second);
        // The first row is due at once.
        let allowed = 1 + elapsed_nanos * rate / (1_000_000_000 * u128::from(shape.partitions));
        u64::try_from(allowed).unwrap_or(u64::MAX).saturating_sub(self.next - self.first)
    }
}

impl SourceReader for DatagenReader {
    fn assign(&mut self, assignments: Vec<Assignment>) -> Result<()> {
        for assignment in assignments {
            let id = assignment.partition;
            let partition = (0..self.shape.partitions).find(|partition| self.shape.partition_id(*partition) == id);
            let Some(partition) = partition else {
                return Err(Error::user(format!("partition \"{id}\" of connector \"datagen\" does not exist any more"))
                    .with_help("set 'scan.parallelism' back to its value of the last run, or start without the checkpoint"));
            };
            let next = assignment.position.map_or(0, |position| u64::try_from(position.next).unwrap_or(0));
            let rows_max = self.shape.rows_of(partition);
            let started = self.shape.clock.monotonic();
            self.partitions.push_back(PartitionProgress { id, partition, next, rows_max, first: next, started });
        }
        Ok(())
    }

    fn poll(&mut self, budget: PollBudget) -> Result<SourceEvent> {
        for _ in 0..self.partitions.len() {
            let Some(mut progress) = self.partitions.pop_front() else { break };
            let left = progress.rows_max.map_or(u64::MAX, |rows_max| rows_max.saturating_sub(progress.next));
            if left == 0 {
                return Ok(SourceEvent::PartitionEnd(progress.id));
            }
            let wanted = left.min(BATCH_ROWS_MAX).min(budget.rows.max(1) as u64);
            let rows = wanted.min(progress.due(&self.shape));
            let first = progress.next;
            progress.next += rows;
            let (partition, id) = (progress.partition, progress.id.clone());
            self.partitions.push_back(progress);
            if rows > 0 {
                let next = Position::at(i64::try_from(first + rows).unwrap_or(i64::MAX));
                let rows = self.shape.generate(partition, first, rows)?;
                return Ok(SourceEvent::Rows { partition: id, rows, weights: None, next, skipped: 0 });
            }
        }
        std::thread::sleep(budget.wait);
        Ok(SourceEvent::Idle)
    }
}

#[cfg(test)]
mod tests;

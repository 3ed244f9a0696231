//! The rows of VALUES as a source: one partition that gives them once.

use arrow::array::RecordBatch;
use thalweg_core::{Assignment, PartitionId, PollBudget, Position, Result, Source, SourceEvent, SourceReader};

pub struct ValuesSource {
    rows: RecordBatch,
}

impl ValuesSource {
    pub fn new(rows: RecordBatch) -> Self {
        ValuesSource { rows }
    }
}

impl Source for ValuesSource {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        Ok(vec![PartitionId("values".to_string())])
    }

    fn discovery_interval(&self) -> Option<std::time::Duration> {
        None
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn reader(&self, assignments: Vec<Assignment>) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(ValuesReader { rows: self.rows.clone(), assignments }))
    }
}

struct ValuesReader {
    rows: RecordBatch,
    assignments: Vec<Assignment>,
}

impl SourceReader for ValuesReader {
    fn assign(&mut self, assignments: Vec<Assignment>) -> Result<()> {
        self.assignments.extend(assignments);
        Ok(())
    }

    fn poll(&mut self, _budget: PollBudget) -> Result<SourceEvent> {
        let Some(assignment) = self.assignments.first_mut() else { return Ok(SourceEvent::Idle) };
        let partition = assignment.partition.clone();
        if assignment.position.is_some() {
            self.assignments.remove(0);
            return Ok(SourceEvent::PartitionEnd(partition));
        }
        let next = Position::at(self.rows.num_rows() as i64);
        assignment.position = Some(next.clone());
        Ok(SourceEvent::Rows { partition, rows: self.rows.clone(), weights: None, next, skipped: 0 })
    }
}

//! Temporal joins: each left row with the version of the right row of its key that was valid at the left row's time. INNER, LEFT.
//!
//! A version is valid from its time until that of the key's next one. Each right row that is added is a version; one of the same
//! time replaces it. Of an update the old half says nothing: the new half is the next version. A row that is taken back otherwise
//! leaves its key without a row from its own time on, as in Flink. So does the old half of an update whose new half did not come
//! (a filter let only the old one through); that shows with the key's next row or the next checkpoint.
//!
//! A NULL in a key is a key like others, as in Flink, where it matches nothing in the other joins.
//!
//! Ordering: a left row waits until the watermarks of both inputs have reached its time; rows come out by time, then by arrival.
//! With LEFT a row without a version, or for whose version the condition is not true, comes padded with nulls.
//!
//! Late rows: none is dropped. A late left row waits for the watermark that its own partition had made when it came, and takes its
//! place in the output there. It finds its version if that was still valid at that watermark: older ones may have been dropped.
//! Its own watermark travels with it. A late version counts from when it comes. Where the planner wants it every row carries a
//! watermark (`TemporalJoin::stamps_rows`): its own, or the instant before its time, when it is let out.
//!
//! State: left rows that wait, each with the watermark at which it came, `left-<number>`; versions, each with whether it is a
//! deletion, `right-<number>`. Of a key's versions those before the newest one that the watermark has reached are dropped, and
//! that one too if it is a deletion. And the watermark.
//!
//! Source of the semantics: Flink 2.3, cases join-temporal.

mod versions;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{JoinKind, TemporalJoin};
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::changes::append_only;
use crate::event_times::event_times;
use crate::join::PairCondition;
use crate::running::canonical_floats;
use crate::stored_watermark::{StoredWatermark, without_watermark};
use crate::{Operator, OperatorContext, OperatorMetrics, Output};
use versions::Versions;

const LEFT: usize = 0;

pub(crate) struct TemporalJoinOperator {
    is_left: bool,
    left: Arrangement,
    left_keys: Vec<usize>,
    left_time: usize,
    left_time_name: String,
    left_width: usize,
    /// The left columns, then the watermark at which a row came.
    left_stored: SchemaRef,
    /// Left rows by the watermark that lets them out.
    waiting: BTreeSet<(i64, RowId)>,
    versions: Versions,
    condition: Option<PairCondition>,
    stamps_rows: bool,
    output_schema: SchemaRef,
    batch_rows: usize,
    ports: [EventTime; 2],
    /// The smaller one of the ports'.
    watermark: StoredWatermark,
}

impl TemporalJoinOperator {
    /// # Errors
    /// `User` for keys that cannot be compared, `Internal` when the schemas do not belong to the node.
    pub(crate) fn new(node: &TemporalJoin, inputs: &[SchemaRef], output: SchemaRef, context: &OperatorContext) -> Result<Self> {
        let [left, right] = inputs else {
            return Err(Error::internal("a join has two inputs"));
        };
        if !matches!(node.kind, JoinKind::Inner | JoinKind::Left) {
            return Err(Error::internal(format!("there is no {} temporal join", node.kind.name())));
        }
        let left_keys: Vec<usize> = node.keys.iter().map(|key| key.left).collect();
        let mut fields: Vec<_> = left.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("came_at", DataType::Int64, false)));
        let left_stored: SchemaRef = Arc::new(Schema::new(fields));
        let right_keys: Vec<usize> = node.keys.iter().map(|key| key.right).collect();
        Ok(TemporalJoinOperator {
            is_left: node.kind == JoinKind::Left,
            left: Arrangement::unindexed("left", &left_stored, &left_keys)?,
            left_keys,
            left_time: node.left_time,
            left_time_name: left.field(node.left_time).name().clone(),
            left_width: left.fields().len(),
            left_stored,
            waiting: BTreeSet::new(),
            versions: Versions::new(right, &right_keys, node.right_time)?,
            condition: node.condition.as_ref().map(|condition| PairCondition::new(condition, left, right)).transpose()?,
            stamps_rows: node.stamps_rows,
            output_schema: output,
            batch_rows: context.batch_rows.max(1),
            ports: [EventTime::MIN; 2],
            watermark: StoredWatermark::new(context.key_groups.clone()),
        })
    }

    /// Left rows begin to wait.
    fn take_in(&mut self, batch: Batch) -> Result<()> {
        let batch = append_only(batch)?;
        let times = event_times(batch.column(self.left_time), &self.left_time_name)?;
        let came_at = |row: usize| {
            let own = batch.row_watermarks.as_ref().map_or(i64::MIN, |watermarks| watermarks.value(row));
            own.max(self.watermark.now().0)
        };
        let came_at: Vec<i64> = (0..batch.num_rows()).map(came_at).collect();
        let mut columns = batch.rows.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(came_at.clone())));
        let rows = Batch::append(RecordBatch::try_new(self.left_stored.clone(), columns)?);
        let keys = self.left.keys_of(&rows.rows)?;
        let ids = self.left.apply(&rows, &keys)?;
        for (row, (came_at, id)) in came_at.into_iter().zip(ids).enumerate() {
            self.waiting.insert((times.value(row).max(came_at), id));
        }
        self.left.tidy()
    }

    /// Sends the left rows that the watermark lets out.
    fn release(&mut self, out: &mut Output) -> Result<()> {
        loop {
            let mut ids = vec![];
            while ids.len() < self.batch_rows
                && let Some((due, id)) = self.waiting.first().copied().filter(|(due, _)| self.is_reached(*due))
            {
                self.waiting.remove(&(due, id));
                ids.push(Some(id));
            }
            if ids.is_empty() {
                return self.left.tidy();
            }
            self.join(&ids, out)?;
        }
    }

    fn is_reached(&self, due: i64) -> bool {
        self.watermark.now() > EventTime::MIN && due <= self.watermark.now().0
    }

    /// Sends left rows with their versions and forgets them.
    fn join(&mut self, ids: &[Option<RowId>], out: &mut Output) -> Result<()> {
        let mut left = self.left.gather(ids, &(0..=self.left_width).collect::<Vec<_>>())?;
        let came_at = left.pop().ok_or_else(|| Error::internal("a left row has no watermark"))?;
        let came_at = came_at.as_primitive::<Int64Type>();
        let times = event_times(&left[self.left_time], &self.left_time_name)?;
        let key_columns: Vec<ArrayRef> = self.left_keys.iter().map(|key| canonical_floats(&left[*key])).collect();
        let keys = self.left.encode_keys(&key_columns, ids.len())?;
        let version = |row: usize| self.versions.at(keys.key(row), times.value(row), came_at.value(row));
        let mut versions: Vec<Option<RowId>> = (0..ids.len()).map(version).collect();
        self.check_condition(&left, &mut versions)?;
        for (row, id) in ids.iter().enumerate() {
            if let Some(id) = id {
                self.left.remove(*id, keys.key(row));
            }
        }

        let shown: BooleanArray = versions.iter().map(|version| Some(self.is_left || version.is_some())).collect();
        let just_before = |row: usize| times.value(row).saturating_sub(1);
        let row_watermarks = if self.stamps_rows {
            Some(Int64Array::from_iter_values((0..ids.len()).map(|row| came_at.value(row).max(just_before(row)))))
        } else {
            // Rows at, behind or 1 ms ahead of the watermark at which they came carry it on.
            let is_near = |row: usize| came_at.value(row) > i64::MIN && just_before(row) <= came_at.value(row);
            (0..ids.len()).any(is_near).then(|| came_at.clone())
        };
        left.extend(self.versions.gather(&versions)?);
        let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
        // Rows that are not shown have nulls where the output may have none.
        let schema = self.output_schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(schema.collect::<Vec<_>>())), left, &options)?;
        let batch = Batch { row_watermarks, ..Batch::append(rows) }.filter(&shown)?;
        let rows = RecordBatch::try_new_with_options(
            self.output_schema.clone(),
            batch.rows.columns().to_vec(),
            &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
        )?;
        out.push(batch.with_rows(rows));
        Ok(())
    }

    /// Leaves out the versions for which the condition is not true.
    fn check_condition(&self, left: &[ArrayRef], versions: &mut [Option<RowId>]) -> Result<()> {
        let paired: Vec<usize> = (0..versions.len()).filter(|row| versions[*row].is_some()).collect();
        let Some(condition) = self.condition.as_ref().filter(|_| !paired.is_empty()) else {
            return Ok(());
        };
        let rows = UInt32Array::from_iter_values(paired.iter().map(|row| *row as u32));
        let columns = condition.left.iter().map(|column| Ok(arrow::compute::take(&left[*column], &rows, None)?));
        let mut columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let ids: Vec<Option<RowId>> = paired.iter().map(|row| versions[*row]).collect();
        columns.extend(self.versions.gather_columns(&ids, &condition.right)?);
        let passing = condition.passing(columns, paired.len())?;
        for (row, passes) in paired.into_iter().zip(passing.values().iter()) {
            if !passes {
                versions[row] = None;
            }
        }
        Ok(())
    }
}

impl Operator for TemporalJoinOperator {
    fn on_batch(&mut self, port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        if port != LEFT {
            return self.versions.take_in(batch);
        }
        self.take_in(batch)?;
        // The watermark may have gone ahead of a partition that was idle.
        self.release(out)
    }

    fn on_watermark(&mut self, port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        if port != LEFT && watermark == EventTime::MAX {
            self.versions.settle()?;
        }
        self.ports[port] = self.ports[port].max(watermark);
        let combined = self.ports[0].min(self.ports[1]);
        if combined > self.watermark.now() {
            self.watermark.advance(combined);
            self.release(out)?;
            self.versions.forget(combined)?;
        }
        Ok(())
    }

    fn output_watermark(&self, input: EventTime) -> EventTime {
        input.max(self.watermark.now())
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        self.versions.settle()?;
        let mut delta = StateDelta::default();
        self.left.snapshot(&mut delta)?;
        self.versions.snapshot(&mut delta)?;
        self.watermark.snapshot(&mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let parts = without_watermark(parts, &mut self.watermark)?;
        let (left, right): (Vec<StatePart>, Vec<StatePart>) = parts.into_iter().partition(|part| self.left.owns(&part.slot));
        self.left.restore(&left)?;
        for (rows, ids) in self.left.live_chunks()? {
            let times = event_times(rows.column(self.left_time), &self.left_time_name)?;
            let came_at = rows.column(self.left_width).as_primitive::<Int64Type>();
            for (row, id) in ids.into_iter().enumerate() {
                self.waiting.insert((times.value(row).max(came_at.value(row)), id));
            }
        }
        self.versions.restore(right)
    }

    fn mark_all_dirty(&mut self) {
        self.left.mark_all_dirty();
        self.versions.mark_all_dirty();
        self.watermark.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: 0,
            unmatched_rows: 0,
            state_bytes: (self.left.size_bytes() + self.versions.size_bytes()) as u64,
            state_rows: (self.left.len() + self.versions.len()) as u64,
        }
    }
}

#[cfg(test)]
mod tests;

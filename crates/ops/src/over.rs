//! Aggregates and ranks with OVER, in the order of event time or of arrival.
//!
//! Ordering: by event time rows wait until the watermark reaches them and come out by time, those of one time partition by
//! partition, in order of arrival within it. By arrival each row comes out at once. Output is append-only. (An order of other
//! columns is [`columns`]' business.)
//!
//! Ties: under RANGE, rows of one time in one partition share the value behind the last of them; so do LAG and RANK. ROWS and
//! ROW_NUMBER go row by row. By arrival no two rows are alike.
//!
//! Late rows: an unbounded frame drops rows at or behind their own partition's watermark; a bounded one only those at or before
//! the last time that the partition of OVER has seen pass. Both are counted.
//!
//! A row that is late and kept waits, as in Flink, for the next watermark.
//!
//! State: an [`Arrangement`] `rows` with the rows that wait and those that a frame or LAG still needs, each with the watermark
//! that lets it pass; a slot `partitions`:
//! `[key_group, keys…, rows, dense, last_time, accumulators…]`, the accumulators for unbounded frames only: those of bounded
//! frames are made again from their rows. A partition is never forgotten.

mod call;
mod columns;
mod partitions;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use hashbrown::HashMap;
use thalweg_core::{Batch, Epoch, Error, EventTime, Result};
use thalweg_plan::{Frame, Over, OverOrder};
use thalweg_state::{StateDelta, StatePart};

use crate::arrangement::{Arrangement, RowId};
use crate::event_times::event_times;
use crate::running::canonical_floats;
use crate::{Operator, OperatorMetrics, Output};
use call::{Calls, Step};
use columns::OverColumnsOperator;
use partitions::Partitions;

pub(crate) struct OverOperator {
    /// `None`: by arrival.
    time_column: Option<usize>,
    time_name: String,
    frame: Frame,
    calls: Calls,
    rows: Arrangement,
    partition_columns: Vec<usize>,
    partitions: Partitions,
    /// By number of the partition.
    kept: Vec<Kept>,
    /// Rows that wait, by the watermark that lets them pass, then by time.
    waiting: BTreeSet<(i64, i64, RowId)>,
    partition_of: HashMap<RowId, usize>,
    late_rows: u64,
    width: usize,
    /// The input's columns and the watermark that lets a row pass.
    stored_schema: SchemaRef,
    output_schema: SchemaRef,
    batch_rows: usize,
}

/// The rows of a partition that are needed.
#[derive(Default)]
struct Kept {
    /// As [`OverOperator::waiting`].
    waiting: BTreeSet<(i64, i64, RowId)>,
    /// Rows that have passed, oldest first, as far back as the frame or LAG reaches.
    passed: VecDeque<(i64, RowId)>,
    /// How many at the end of `passed` are in the frame.
    in_frame: usize,
}

/// Output on its way: a row, the step whose results it shows, its ranks and the rows that LAG shows.
#[derive(Default)]
pub(crate) struct Passing {
    pub(crate) ids: Vec<RowId>,
    pub(crate) steps: Vec<Step>,
    pub(crate) shown: Vec<u32>,
    pub(crate) ranks: [Vec<i64>; 3],
    /// By LAG call.
    pub(crate) lags: Vec<Vec<Option<RowId>>>,
}

impl OverOperator {
    /// # Errors
    /// `User` when an aggregate does not take its argument, `Internal` when the schemas do not belong to the node.
    pub(crate) fn create(node: &Over, input: &SchemaRef, output: SchemaRef, batch_rows: usize) -> Result<Box<dyn Operator>> {
        if output.fields().len() != input.fields().len() + node.calls.len() {
            return Err(Error::internal("OVER gives its input's columns and its calls"));
        }
        let time_column = match &node.order {
            OverOrder::EventTime(column) => Some(*column),
            OverOrder::Arrival => None,
            OverOrder::Columns(order) => {
                return Ok(Box::new(OverColumnsOperator::new(node, order, input, output, batch_rows)?));
            }
        };
        let is_bounded = !matches!(node.frame, Frame::Rows { preceding: None } | Frame::Range { preceding_ms: None });
        let calls = Calls::new(&node.calls, input, is_bounded)?;
        let mut stored: Vec<_> = input.fields().iter().cloned().collect();
        stored.push(Arc::new(Field::new("passes_at", DataType::Int64, false)));
        let stored_schema: SchemaRef = Arc::new(Schema::new(stored));
        Ok(Box::new(OverOperator {
            time_column,
            time_name: time_column.map(|column| input.field(column).name().clone()).unwrap_or_default(),
            frame: node.frame,
            rows: Arrangement::new("rows", &stored_schema, &node.partition, false)?,
            partition_columns: node.partition.clone(),
            partitions: Partitions::new(&node.partition, input, if is_bounded { None } else { Some(&calls) })?,
            calls,
            kept: vec![],
            waiting: BTreeSet::new(),
            partition_of: HashMap::new(),
            late_rows: 0,
            width: input.fields().len(),
            stored_schema,
            output_schema: output,
            batch_rows: batch_rows.max(1),
        }))
    }

    fn is_bounded(&self) -> bool {
        !matches!(self.frame, Frame::Rows { preceding: None } | Frame::Range { preceding_ms: None })
    }

    fn keys_of(&self, rows: &RecordBatch) -> Result<crate::key_codec::EncodedKeys> {
        let columns: Vec<ArrayRef> = self.partition_columns.iter().map(|column| canonical_floats(rows.column(*column))).collect();
        self.partitions.encode(&columns, rows.num_rows())
    }

    fn partition(&mut self, key: &[u8]) -> usize {
        let number = self.partitions.find_or_add(key);
        if self.kept.len() <= number {
            self.kept.resize_with(number + 1, Kept::default);
        }
        number
    }

    /// Whether a row comes too late.
    fn is_late(&self, partition: usize, time: i64, own_watermark: i64) -> bool {
        if !self.is_bounded() {
            return time <= own_watermark;
        }
        // What this row's own watermark has let pass counts as passed, even if the watermark itself is still under way.
        let passing =
            self.kept[partition].waiting.range(..=(own_watermark, i64::MAX, RowId::MAX)).map(|(_, time, _)| *time).max();
        let last = self.partitions.last_time(partition).max(passing.unwrap_or(i64::MIN));
        time <= last
    }

    /// Lets rows of one partition and one place in the order pass.
    fn pass(&mut self, partition: usize, time: i64, ids: &[RowId], passing: &mut Passing, gone: &mut Vec<RowId>) {
        let lag = self.calls.longest_lag();
        let before = self.partitions.count(partition);
        let dense = self.partitions.dense(partition) + 1;
        let is_range = matches!(self.frame, Frame::Range { .. }) && self.time_column.is_some();
        let is_bounded = self.is_bounded();
        let kept = &mut self.kept[partition];
        let first_shown = passing.shown.len();
        for (number, id) in ids.iter().enumerate() {
            passing.steps.push(Step { row: *id, partition, weight: 1 });
            kept.passed.push_back((time, *id));
            kept.in_frame += 1;
            if let Frame::Rows { preceding: Some(rows) } = self.frame {
                while kept.in_frame as u64 > rows.saturating_add(1) {
                    let (_, old) = kept.passed[kept.passed.len() - kept.in_frame];
                    passing.steps.push(Step { row: old, partition, weight: -1 });
                    kept.in_frame -= 1;
                }
            }
            passing.ids.push(*id);
            passing.shown.push(passing.steps.len() as u32 - 1);
            passing.ranks[0].push(before + number as i64 + 1);
            passing.ranks[1].push(before + 1);
            passing.ranks[2].push(dense);
        }
        if is_range {
            if let Frame::Range { preceding_ms: Some(distance) } = self.frame {
                while kept.in_frame > 0 && kept.passed[kept.passed.len() - kept.in_frame].0 < time.saturating_sub(distance) {
                    let (_, old) = kept.passed[kept.passed.len() - kept.in_frame];
                    passing.steps.push(Step { row: old, partition, weight: -1 });
                    kept.in_frame -= 1;
                }
            }
            let last = passing.steps.len() as u32 - 1;
            passing.shown[first_shown..].fill(last);
        }
        for (call, offset) in self.calls.lags().iter().enumerate() {
            let at = kept.passed.len().checked_sub(1).and_then(|last| last.checked_sub(usize::try_from(*offset).ok()?));
            let shown = at.and_then(|at| kept.passed.get(at)).map(|(_, id)| *id);
            passing.lags[call].extend(std::iter::repeat_n(shown, ids.len()));
        }
        if !is_bounded {
            kept.in_frame = 0;
        }
        let needed = kept.in_frame.max(lag);
        while kept.passed.len() > needed {
            gone.extend(kept.passed.pop_front().map(|(_, id)| id));
        }
        self.partitions.set(partition, before + ids.len() as i64, dense, time);
    }

    /// Computes the output of what passed, and forgets rows that nothing needs any more.
    fn emit(&mut self, passing: Passing, gone: Vec<RowId>, out: &mut Output) -> Result<()> {
        self.calls.resize(self.partitions.capacity());
        let results = self.calls.results(&self.rows, &passing)?;
        let ids: Vec<Option<RowId>> = passing.ids.iter().map(|id| Some(*id)).collect();
        let mut columns = self.rows.gather(&ids, &(0..self.width).collect::<Vec<_>>())?;
        columns.extend(results);
        let batch = Batch::append(RecordBatch::try_new(self.output_schema.clone(), columns)?);
        for offset in (0..batch.num_rows()).step_by(self.batch_rows) {
            out.push(batch.slice(offset, self.batch_rows.min(batch.num_rows() - offset)));
        }
        self.forget(gone)
    }

    fn forget(&mut self, gone: Vec<RowId>) -> Result<()> {
        if gone.is_empty() {
            return self.rows.tidy();
        }
        let ids: Vec<Option<RowId>> = gone.iter().map(|id| Some(*id)).collect();
        let columns: Vec<ArrayRef> = self.rows.gather(&ids, &self.partition_columns)?.iter().map(canonical_floats).collect();
        let keys = self.rows.encode_keys(&columns, gone.len())?;
        for (row, id) in gone.into_iter().enumerate() {
            self.rows.remove(id, keys.key(row));
        }
        self.rows.tidy()
    }

    /// Adds rows to those that are kept.
    fn keep(&mut self, rows: RecordBatch, passes_at: Vec<i64>) -> Result<Vec<RowId>> {
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(passes_at)));
        let rows = Batch::append(RecordBatch::try_new(self.stored_schema.clone(), columns)?);
        let keys = self.rows.keys_of(&rows.rows)?;
        self.rows.apply(&rows, &keys)
    }

    fn wait(&mut self, partition: usize, place: (i64, i64, RowId)) {
        self.kept[partition].waiting.insert(place);
        self.waiting.insert(place);
        self.partition_of.insert(place.2, partition);
    }

    fn new_passing(&self) -> Passing {
        Passing { lags: vec![vec![]; self.calls.lags().len()], ..Passing::default() }
    }

    /// Lets groups of rows pass, in order, and sends them.
    fn pass_all(&mut self, groups: Vec<(usize, i64, Vec<RowId>)>, out: &mut Output) -> Result<()> {
        let mut passing = self.new_passing();
        let mut gone = vec![];
        for (partition, time, ids) in groups {
            self.pass(partition, time, &ids, &mut passing, &mut gone);
            if passing.ids.len() >= self.batch_rows {
                self.emit(std::mem::replace(&mut passing, self.new_passing()), std::mem::take(&mut gone), out)?;
            }
        }
        self.emit(passing, gone, out)
    }
}

impl Operator for OverOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let keys = self.keys_of(&batch.rows)?;
        let Some(time_column) = self.time_column else {
            let numbers: Vec<usize> = (0..batch.num_rows()).map(|row| self.partition(keys.key(row))).collect();
            let ids = self.keep(batch.rows.clone(), vec![0; batch.num_rows()])?;
            return self.pass_all(numbers.into_iter().zip(ids).map(|(number, id)| (number, 0, vec![id])).collect(), out);
        };
        let times = event_times(batch.column(time_column), &self.time_name)?;
        let first = self.rows.next_id();
        let (mut kept, mut passes) = (vec![], vec![]);
        for row in 0..batch.num_rows() {
            let partition = self.partition(keys.key(row));
            let time = times.value(row);
            let own = batch.row_watermarks.as_ref().map_or(i64::MIN, |watermarks| watermarks.value(row));
            if self.is_late(partition, time, own) {
                self.late_rows += 1;
                continue;
            }
            let passes_at = time.max(own.saturating_add(1));
            self.wait(partition, (passes_at, time, first + kept.len() as RowId));
            kept.push(row as u32);
            passes.push(passes_at);
        }
        self.keep(batch.take(&UInt32Array::from(kept))?.rows, passes)?;
        self.rows.tidy()
    }

    fn on_watermark(&mut self, _port: usize, watermark: EventTime, out: &mut Output) -> Result<()> {
        let mut groups: Vec<(usize, i64, Vec<RowId>)> = vec![];
        let mut place: HashMap<usize, usize> = HashMap::new();
        let mut current = (i64::MIN, i64::MIN);
        while let Some(first) = self.waiting.first().copied().filter(|(passes_at, ..)| *passes_at <= watermark.0) {
            let (passes_at, time, id) = first;
            self.waiting.remove(&first);
            let partition = self.partition_of.remove(&id).expect("a row that waits has a partition");
            self.kept[partition].waiting.remove(&first);
            if (passes_at, time) != current {
                current = (passes_at, time);
                place.clear();
            }
            let at = *place.entry(partition).or_insert_with(|| {
                groups.push((partition, time, vec![]));
                groups.len() - 1
            });
            groups[at].2.push(id);
        }
        if groups.is_empty() { Ok(()) } else { self.pass_all(groups, out) }
    }

    fn snapshot(&mut self, _epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.rows.snapshot(&mut delta)?;
        self.partitions.snapshot(&self.calls, &mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let (rows, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| self.rows.owns(&part.slot));
        self.partitions.restore(&others, &mut self.calls)?;
        self.kept.resize_with(self.partitions.capacity(), Kept::default);
        self.rows.restore(&rows)?;
        for (rows, ids) in self.rows.live_chunks()? {
            let keys = self.keys_of(&rows)?;
            let times = match self.time_column {
                Some(column) => event_times(rows.column(column), &self.time_name)?,
                None => Int64Array::from(vec![0; rows.num_rows()]),
            };
            for (row, id) in ids.into_iter().enumerate() {
                let partition = self.partition(keys.key(row));
                let time = times.value(row);
                if self.time_column.is_some() && time > self.partitions.last_time(partition) {
                    let passes_at = rows.column(self.width).as_primitive::<Int64Type>().value(row);
                    self.wait(partition, (passes_at, time, id));
                } else {
                    self.kept[partition].passed.push_back((time, id));
                }
            }
        }
        self.calls.resize(self.partitions.capacity());
        let mut passing = self.new_passing();
        for (partition, kept) in self.kept.iter_mut().enumerate() {
            kept.passed.make_contiguous().sort_unstable();
            let last = self.partitions.last_time(partition);
            kept.in_frame = match self.frame {
                Frame::Rows { preceding: Some(rows) } => {
                    kept.passed.len().min(usize::try_from(rows.saturating_add(1)).unwrap_or(usize::MAX))
                }
                Frame::Range { preceding_ms: Some(distance) } => {
                    kept.passed.iter().filter(|(time, _)| *time >= last.saturating_sub(distance)).count()
                }
                _ => 0,
            };
            for (_, id) in kept.passed.iter().skip(kept.passed.len() - kept.in_frame) {
                passing.steps.push(Step { row: *id, partition, weight: 1 });
            }
        }
        self.calls.results(&self.rows, &passing)?;
        Ok(())
    }

    fn mark_all_dirty(&mut self) {
        self.rows.mark_all_dirty();
        self.partitions.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: self.late_rows,
            state_bytes: (self.rows.size_bytes() + self.calls.size_bytes() + self.partitions.size_bytes()) as u64,
            state_rows: (self.rows.len() + self.partitions.len()) as u64,
        }
    }
}

#[cfg(test)]
mod tests;

//! GROUP BY.
//!
//! Ordering: output follows input, row by row, as Flink's does without mini-batches: a row that changes its group's result
//! gives the old result (weight -1), then the new one (weight +1). A new group gives only the new result, a group whose last
//! row was taken back only the old one, a result that stays the same nothing. `updates` marks the halves of a change.
//!
//! Late rows: there are none, time plays no part. Watermarks pass through. (Groups of windows are the business of
//! [`windowed`].)
//!
//! A row that is taken back although its group never held it ends the job: the input contradicts itself. Where that is to be
//! ignored, the row is dropped and counted.
//!
//! State: a slot `groups` with a row per group: `[key_group, keys…, rows, life, states…]`. Of a key the last row holds; `rows` 0
//! says that the group is gone. A snapshot holds the groups that changed, until all of them together would be more than the
//! groups there are; then it holds all (a [`MergedSlot`](crate::merged_slot::MergedSlot)). A group goes when its last row is taken
//! back, so over append-only input never. What there may be many of in a group, such as the values of DISTINCT or those that MIN
//! falls back on, has slots of its own with a row for each, of which a snapshot holds those that changed: see
//! [`item_slots`](crate::item_slots).

mod groups;
mod layout;
mod table;
mod windowed;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, EventTime, Result};
use thalweg_plan::GroupAggregate;
use thalweg_state::{StateDelta, StatePart};

use crate::changes::without_zeros;
use crate::running::ValueCodec;
use crate::unmatched::Unmatched;
use crate::{Operator, OperatorContext, OperatorMetrics, Output};
use layout::GroupLayout;
use table::{Before, GroupTable, Steps};
use windowed::WindowedGroupsOperator;

const SLOT: &str = "groups";

pub(crate) struct GroupAggregateOperator {
    layout: GroupLayout,
    table: GroupTable,
    unmatched: Unmatched,
}

/// Creates the operator of a node.
/// # Errors
/// `User` when an aggregate does not take its argument, `Internal` when the schemas do not belong to the node.
pub(crate) fn create(
    node: &GroupAggregate,
    input: &SchemaRef,
    output: SchemaRef,
    context: &OperatorContext,
) -> Result<Box<dyn Operator>> {
    Ok(match node.window_time {
        Some(time_column) => Box::new(WindowedGroupsOperator::new(node, time_column, input, output, context)?),
        None => Box::new(GroupAggregateOperator::new(node, input, output, context.batch_rows)?),
    })
}

impl GroupAggregateOperator {
    fn new(node: &GroupAggregate, input: &SchemaRef, output: SchemaRef, batch_rows: usize) -> Result<Self> {
        let layout = GroupLayout::new(node, input, output, batch_rows)?;
        Ok(GroupAggregateOperator { table: GroupTable::new(&layout, SLOT.to_string())?, layout, unmatched: Unmatched::default() })
    }

    /// Takes in rows; their results fit into one array.
    fn take_in(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let keys = self.layout.keys_of(batch);
        let steps = self.table.step(&self.layout, batch, &keys)?;
        let results = self.table.results(&self.layout, batch, &keys, &steps)?;
        self.changes(&keys, &steps, &results, out)?;
        self.table.finish(&steps);
        Ok(())
    }

    /// The changes of results, in order of the rows that made them.
    fn changes(&self, keys: &[ArrayRef], steps: &Steps, results: &[ArrayRef], out: &mut Output) -> Result<()> {
        let comparators = results.iter().map(Comparator::new).collect::<Result<Vec<_>>>()?;
        let first_row = steps.touched.len();
        let (mut key_rows, mut result_rows, mut weights, mut updates) = (vec![], vec![], vec![], vec![]);
        for row in 0..steps.groups.len() {
            let new = first_row + row;
            let old = match steps.before[row] {
                Before::Touched(number) => number,
                Before::Row(earlier) => first_row + earlier,
            };
            let is_update = !steps.births[row] && !steps.empties[row];
            if is_update && comparators.iter().all(|comparator| comparator.is_same(old, new)) {
                continue;
            }
            let mut push = |result: usize, weight: i64| {
                key_rows.push(row as u32);
                result_rows.push(result as u32);
                weights.push(weight);
                updates.push(is_update);
            };
            if !steps.births[row] {
                push(old, -1);
            }
            if !steps.empties[row] {
                push(new, 1);
            }
        }
        let rows = weights.len();
        let (key_rows, result_rows) = (UInt32Array::from(key_rows), UInt32Array::from(result_rows));
        let keys = keys.iter().map(|column| take(column, &key_rows, None));
        let results = results.iter().map(|column| take(column, &result_rows, None));
        let columns = keys.chain(results).collect::<std::result::Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = Batch {
            weights: Some(Int64Array::from(weights)),
            updates: Some(BooleanArray::from(updates)),
            ..Batch::append(RecordBatch::try_new_with_options(self.layout.output_schema.clone(), columns, &options)?)
        };
        for offset in (0..rows).step_by(self.layout.batch_rows) {
            out.push(batch.slice(offset, self.layout.batch_rows.min(rows - offset)));
        }
        Ok(())
    }
}

impl Operator for GroupAggregateOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let mut batch = without_zeros(batch)?;
        if self.unmatched.is_ignored() && batch.weights.is_some() {
            let matched = self.table.matched(&self.layout, &batch, &self.layout.keys_of(&batch))?;
            self.unmatched.add((batch.num_rows() - matched.true_count()) as u64);
            batch = batch.filter(&matched)?;
        }
        let row_bytes = batch.size_bytes() / batch.num_rows().max(1);
        let mut offset = 0;
        while offset < batch.num_rows() {
            let rows = self.table.rows_at_once(batch.num_rows() - offset, row_bytes);
            self.take_in(&batch.slice(offset, rows), out)?;
            offset += rows;
        }
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn ignore_unmatched(&mut self) {
        self.unmatched.ignore();
        self.table.ignore_unmatched();
    }

    fn forget(&mut self, key: &[u8]) -> Result<()> {
        self.table.forget(key);
        Ok(())
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<StateDelta> {
        let mut delta = StateDelta::default();
        self.table.snapshot(&self.layout, epoch, &mut delta)?;
        Ok(delta)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.table.restore(&self.layout, &parts)
    }

    fn mark_all_dirty(&mut self) {
        self.table.mark_all_dirty();
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows: 0,
            unmatched_rows: self.unmatched.rows(),
            state_bytes: self.table.size_bytes() as u64,
            state_rows: self.table.len() as u64,
        }
    }
}

/// Tells whether two values of a column are the same; nulls are.
enum Comparator {
    Typed(arrow::array::DynComparator),
    /// For types that Arrow does not compare, such as MAP.
    Encoded(arrow::row::Rows),
}

impl Comparator {
    fn new(column: &ArrayRef) -> Result<Self> {
        Ok(match arrow::array::make_comparator(column, column, SortOptions::default()) {
            Ok(comparator) => Comparator::Typed(comparator),
            Err(_) => Comparator::Encoded(ValueCodec::new(column.data_type())?.encode(column)?),
        })
    }

    fn is_same(&self, one: usize, other: usize) -> bool {
        match self {
            Comparator::Typed(compare) => compare(one, other).is_eq(),
            Comparator::Encoded(rows) => rows.row(one) == rows.row(other),
        }
    }
}

#[cfg(test)]
mod tests;

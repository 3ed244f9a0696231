//! UNNEST: each row once for each element of a column.
//!
//! Ordering: rows in order, the elements of one row in theirs. Weights, marks and row watermarks of a row are those of its
//! elements. As in Flink a null ROW among the elements gives no row (its number is left out), any other null element one. A row
//! without a row of output, its column being null, empty or of null ROWs only, gives one with a null element where `keep_empty`
//! says so. Elements for which the condition of the join is not true are as null ROWs.
//!
//! The column itself is repeated with each of its elements only if the output has room for it: of an array of a million
//! elements a million copies would be made. Output is made batch by batch as it is wanted, of at most `batch_rows` rows and
//! about [`BATCH_BYTES`] of repeated columns, however long an array is.
//!
//! Late rows: there are none. State: none; no batch is under way at a barrier.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use thalweg_core::{Batch, Error, EventTime, Result};
use thalweg_plan::Unnest;

use crate::eval::evaluate;
use crate::{Operator, Output};

/// About how many bytes of a column are copied into one batch.
const BATCH_BYTES: usize = 64 << 20;

pub(crate) struct UnnestOperator {
    node: Unnest,
    /// Columns of the input that come out.
    kept: Vec<usize>,
    output_schema: SchemaRef,
    batch_rows: usize,
    /// Batches that are not done, with where each goes on.
    under_way: VecDeque<(Elements, Cursor)>,
}

/// A batch and the elements of its column.
struct Elements {
    batch: Batch,
    /// The elements of all rows behind each other.
    columns: Vec<ArrayRef>,
    /// The elements of row `i` are those from `offsets[i]` to `offsets[i + 1]`.
    offsets: Vec<i32>,
    present: Option<NullBuffer>,
    /// Elements that give no row are null here.
    given: Option<NullBuffer>,
    /// How often each element comes; `None`: once.
    counts: Option<Vec<i64>>,
    /// Bytes of one element, about, where the column is repeated.
    element_bytes: usize,
}

/// The next element: of which row, which of its elements, how often it has come already.
#[derive(Default)]
struct Cursor {
    row: usize,
    element: usize,
    times: i64,
    /// Rows of output and numbers that this row has given so far.
    given: usize,
    number: i32,
}

/// Where the rows of one output batch come from.
#[derive(Default)]
struct Places {
    rows: Vec<u32>,
    elements: Vec<Option<u32>>,
    numbers: Vec<Option<i32>>,
    bytes: usize,
}

impl UnnestOperator {
    /// # Errors
    /// `Internal` when the column has no elements or the schemas do not belong to the node.
    pub(crate) fn new(node: &Unnest, input: &SchemaRef, output: SchemaRef, batch_rows: usize) -> Result<Self> {
        let element_columns = match input.field(node.column).data_type() {
            DataType::Map(..) if !node.is_multiset => 2,
            DataType::List(item) => fields_of(item.data_type()),
            DataType::Map(entry, _) => match entry.data_type() {
                DataType::Struct(fields) if !fields.is_empty() => fields_of(fields[0].data_type()),
                _ => return Err(Error::internal("a MULTISET has no entries")),
            },
            other => return Err(Error::internal(format!("UNNEST of {other}"))),
        };
        let width = (output.fields().len()).checked_sub(element_columns + usize::from(node.ordinality));
        let all = 0..input.fields().len();
        let kept: Vec<usize> = match width {
            Some(width) if width == all.len() => all.collect(),
            Some(width) if width + 1 == all.len() => all.filter(|column| *column != node.column).collect(),
            _ => return Err(Error::internal("UNNEST gives its input's columns and those of the elements")),
        };
        Ok(UnnestOperator {
            node: node.clone(),
            kept,
            output_schema: output,
            batch_rows: batch_rows.max(1),
            under_way: VecDeque::new(),
        })
    }

    fn elements(&self, batch: Batch) -> Result<Elements> {
        let column = batch.column(self.node.column).clone();
        let (values, offsets, counts) = match column.data_type() {
            DataType::Map(..) => {
                let map = column.as_map();
                let counts = cast(map.values(), &DataType::Int64).ok().filter(|_| self.node.is_multiset);
                let counts = counts.map(|counts| counts.as_primitive::<Int64Type>().values().to_vec());
                let values = if self.node.is_multiset { map.keys().clone() } else { Arc::new(map.entries().clone()) };
                (values, map.value_offsets().to_vec(), counts)
            }
            _ => {
                let list = column.as_list::<i32>();
                (list.values().clone(), list.value_offsets().to_vec(), None)
            }
        };
        let is_repeated = self.kept.contains(&self.node.column);
        let element_bytes = if is_repeated { values.get_array_memory_size() / values.len().max(1) } else { 0 };
        let (columns, not_null) = match values.as_struct_opt() {
            Some(rows) => (rows.columns().to_vec(), rows.nulls().cloned()),
            None => (vec![values], None),
        };
        let given = NullBuffer::union(not_null.as_ref(), self.chosen(&columns)?.as_ref());
        Ok(Elements { columns, offsets, present: column.logical_nulls(), given, counts, element_bytes, batch })
    }

    /// Elements for which the condition of the join is true are valid; all are where there is none.
    fn chosen(&self, columns: &[ArrayRef]) -> Result<Option<NullBuffer>> {
        let Some(condition) = &self.node.condition else { return Ok(None) };
        let first = self.kept.len();
        let places: Vec<usize> = (first..first + columns.len()).collect();
        let fields: Vec<_> = places.iter().map(|place| self.output_schema.field(*place).clone().with_nullable(true)).collect();
        let elements = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.to_vec())?;
        let mask = evaluate(condition, &elements)?;
        let mask = mask
            .as_boolean_opt()
            .ok_or_else(|| Error::internal(format!("condition {} is {}", condition.text, mask.data_type())))?;
        let is_true = if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() };
        Ok(Some(NullBuffer::new(is_true.values().clone())))
    }

    fn emit(&self, elements: &Elements, places: Places, out: &mut Output) -> Result<()> {
        let count = places.rows.len();
        let options = RecordBatchOptions::new().with_row_count(Some(elements.batch.num_rows()));
        let kept_columns = self.kept.iter().map(|column| elements.batch.column(*column).clone()).collect();
        let kept_schema = Arc::new(elements.batch.schema().project(&self.kept)?);
        let kept = RecordBatch::try_new_with_options(kept_schema, kept_columns, &options)?;
        let rows = elements.batch.with_rows(kept).take(&UInt32Array::from(places.rows))?;
        let at = UInt32Array::from(places.elements);
        let mut columns = rows.rows.columns().to_vec();
        for element in &elements.columns {
            columns.push(take(element, &at, None)?);
        }
        if self.node.ordinality {
            columns.push(Arc::new(Int32Array::from(places.numbers)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        out.push(rows.with_rows(RecordBatch::try_new_with_options(self.output_schema.clone(), columns, &options)?));
        Ok(())
    }
}

/// Columns of an element.
fn fields_of(element: &DataType) -> usize {
    if let DataType::Struct(fields) = element { fields.len() } else { 1 }
}

impl Elements {
    /// The next rows of output; none when the batch is done.
    fn next(&self, cursor: &mut Cursor, keep_empty: bool, rows_max: usize) -> Result<Places> {
        let mut places = Places::default();
        while cursor.row < self.batch.num_rows() && places.rows.len() < rows_max && places.bytes < BATCH_BYTES {
            let row = cursor.row;
            let is_present = self.present.as_ref().is_none_or(|present| present.is_valid(row));
            let (start, end) = (self.offsets[row] as usize, self.offsets[row + 1] as usize);
            let count = if is_present { end - start } else { 0 };
            if cursor.element == count {
                if cursor.given == 0 && keep_empty {
                    places.push(row, None, count * self.element_bytes);
                }
                *cursor = Cursor { row: row + 1, ..Cursor::default() };
                continue;
            }
            let element = start + cursor.element;
            let times = self.counts.as_ref().map_or(1, |counts| counts[element]);
            if cursor.times >= times {
                (cursor.element, cursor.times) = (cursor.element + 1, 0);
                continue;
            }
            cursor.times += 1;
            cursor.number = cursor.number.checked_add(1).ok_or_else(|| {
                Error::record("a column has more elements than an INT can number")
                    .with_help("leave WITH ORDINALITY out of UNNEST")
            })?;
            if self.given.as_ref().is_none_or(|present| present.is_valid(element)) {
                cursor.given += 1;
                places.push(row, Some((element, cursor.number)), count * self.element_bytes);
            }
        }
        Ok(places)
    }
}

impl Places {
    fn push(&mut self, row: usize, element: Option<(usize, i32)>, bytes: usize) {
        self.rows.push(row as u32);
        self.elements.push(element.map(|(element, _)| element as u32));
        self.numbers.push(element.map(|(_, number)| number));
        self.bytes += bytes;
    }
}

impl Operator for UnnestOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        self.under_way.push_back((self.elements(batch)?, Cursor::default()));
        self.resume(out)?;
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        while let Some((elements, mut cursor)) = self.under_way.pop_front() {
            let places = elements.next(&mut cursor, self.node.keep_empty, self.batch_rows)?;
            let is_done = cursor.row >= elements.batch.num_rows();
            let is_empty = places.rows.is_empty();
            if !is_empty {
                self.emit(&elements, places, out)?;
            }
            if !is_done {
                self.under_way.push_front((elements, cursor));
            }
            if !is_empty {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

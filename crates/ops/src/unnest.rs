//! UNNEST: each row once for each element of a column.
//!
//! Ordering: rows in order, the elements of one row in theirs. Weights, marks and row watermarks of a row are those of its
//! elements. Nothing is kept; no row is late here. Output batches hold at most `batch_rows` rows, however long an array is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use thalweg_core::{Batch, Error, EventTime, Result};
use thalweg_plan::Unnest;

use crate::{Operator, Output};

pub(crate) struct UnnestOperator {
    node: Unnest,
    output_schema: SchemaRef,
    batch_rows: usize,
}

/// Where an output row comes from: the input row, its element if it has one, and the element's number from 1.
type Place = (u32, Option<u32>, Option<i32>);

impl UnnestOperator {
    /// # Errors
    /// `Internal` when the column is nothing that has elements.
    pub(crate) fn new(node: &Unnest, input: &SchemaRef, output: SchemaRef, batch_rows: usize) -> Result<Self> {
        match input.field(node.column).data_type() {
            DataType::List(_) | DataType::Map(..) => {}
            other => return Err(Error::internal(format!("UNNEST of {other}"))),
        }
        Ok(UnnestOperator { node: *node, output_schema: output, batch_rows: batch_rows.max(1) })
    }

    /// The columns of the elements, all rows behind each other.
    fn elements(&self, column: &ArrayRef) -> Vec<ArrayRef> {
        match column.data_type() {
            DataType::Map(..) => {
                let map = column.as_map();
                if self.node.is_multiset { vec![map.keys().clone()] } else { vec![map.keys().clone(), map.values().clone()] }
            }
            _ => {
                let values = column.as_list::<i32>().values();
                match values.data_type() {
                    // A null ROW among the elements has null fields.
                    DataType::Struct(_) => {
                        let rows = values.as_struct();
                        match rows.nulls() {
                            None => rows.columns().to_vec(),
                            Some(nulls) => rows.columns().iter().map(|field| masked(field, nulls)).collect(),
                        }
                    }
                    _ => vec![values.clone()],
                }
            }
        }
    }

    fn emit(&self, batch: &Batch, elements: &[ArrayRef], places: &[Place], out: &mut Output) -> Result<()> {
        let rows = batch.take(&UInt32Array::from_iter_values(places.iter().map(|(row, ..)| *row)))?;
        let at = UInt32Array::from_iter(places.iter().map(|(_, element, _)| *element));
        let mut columns = rows.rows.columns().to_vec();
        for element in elements {
            columns.push(take(element, &at, None)?);
        }
        if self.node.ordinality {
            columns.push(Arc::new(Int32Array::from_iter(places.iter().map(|(.., number)| *number))));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        out.push(rows.with_rows(RecordBatch::try_new_with_options(self.output_schema.clone(), columns, &options)?));
        Ok(())
    }
}

/// `array` with further nulls.
fn masked(array: &ArrayRef, nulls: &arrow::buffer::NullBuffer) -> ArrayRef {
    let indices = UInt32Array::from_iter((0..array.len() as u32).map(|row| nulls.is_valid(row as usize).then_some(row)));
    take(array, &indices, None).unwrap_or_else(|_| array.clone())
}

impl Operator for UnnestOperator {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let column = batch.column(self.node.column);
        let offsets: Vec<i32> = match column.data_type() {
            DataType::Map(..) => column.as_map().value_offsets().to_vec(),
            _ => column.as_list::<i32>().value_offsets().to_vec(),
        };
        let elements = self.elements(column);
        let counts = match column.data_type() {
            DataType::Map(..) if self.node.is_multiset => Some(column.as_map().values().as_primitive::<Int32Type>().clone()),
            _ => None,
        };
        let mut places: Vec<Place> = vec![];
        for row in 0..batch.num_rows() {
            let range = if column.is_null(row) { 0..0 } else { offsets[row] as u32..offsets[row + 1] as u32 };
            let mut number = 0;
            for element in range {
                let times = counts.as_ref().map_or(1, |counts| counts.value(element as usize));
                for _ in 0..times {
                    number += 1;
                    places.push((row as u32, Some(element), Some(number)));
                    if places.len() == self.batch_rows {
                        self.emit(&batch, &elements, &places, out)?;
                        places.clear();
                    }
                }
            }
            if number == 0 && self.node.keep_empty {
                places.push((row as u32, None, None));
            }
        }
        if !places.is_empty() {
            self.emit(&batch, &elements, &places, out)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, _port: usize, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }
}

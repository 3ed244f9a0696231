//! The calls of OVER over a sequence of steps.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, take};
use arrow::datatypes::{DataType, SchemaRef};
use thalweg_core::Result;
use thalweg_plan::{OverCall, RankFunction};

use super::Passing;
use crate::arrangement::{Arrangement, RowId};
use crate::running::{self, CallRows, RunningAccumulator};

/// A row enters the frame of its partition, or leaves it.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) row: RowId,
    pub(crate) partition: usize,
    pub(crate) weight: i64,
}

pub(crate) struct Calls {
    calls: Vec<OverCall>,
    /// One for each aggregate, in order.
    pub(super) accumulators: Vec<Box<dyn RunningAccumulator>>,
    lags: Vec<u64>,
}

impl Calls {
    /// `takes_back`: whether rows leave frames.
    pub(crate) fn new(calls: &[OverCall], input: &SchemaRef, takes_back: bool) -> Result<Self> {
        let accumulators = calls
            .iter()
            .filter_map(|call| match call {
                OverCall::Aggregate(call) => Some(running::create(call, input, takes_back)),
                _ => None,
            })
            .collect::<Result<_>>()?;
        let lags = calls
            .iter()
            .filter_map(|call| match call {
                OverCall::Lag { offset, .. } => Some(*offset),
                _ => None,
            })
            .collect();
        Ok(Calls { calls: calls.to_vec(), accumulators, lags })
    }

    /// The offsets of the LAG calls.
    pub(crate) fn lags(&self) -> &[u64] {
        &self.lags
    }

    /// How many rows that have passed LAG may still ask for.
    pub(crate) fn longest_lag(&self) -> usize {
        self.lags.iter().max().map_or(0, |offset| usize::try_from(*offset).unwrap_or(usize::MAX))
    }

    pub(crate) fn resize(&mut self, partitions: usize) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.resize(partitions));
    }

    pub(crate) fn clear(&mut self, partition: usize) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.clear(partition));
    }

    /// The columns of the calls, for the rows that pass.
    pub(crate) fn results(&mut self, rows: &Arrangement, passing: &Passing) -> Result<Vec<ArrayRef>> {
        let shown = UInt32Array::from(passing.shown.clone());
        let ids: Vec<Option<RowId>> = passing.steps.iter().map(|step| Some(step.row)).collect();
        let groups: Vec<usize> = passing.steps.iter().map(|step| step.partition).collect();
        let weights = Int64Array::from_iter_values(passing.steps.iter().map(|step| step.weight));
        // A frame always holds its own row.
        let empties = vec![false; groups.len()];
        let shown_rows: Vec<Option<RowId>> = passing.ids.iter().map(|id| Some(*id)).collect();
        let mut accumulators = self.accumulators.iter_mut();
        let mut lags = passing.lags.iter();
        let mut columns = vec![];
        for call in &self.calls {
            columns.push(match call {
                OverCall::Rank(function, _) => {
                    let number = match function {
                        RankFunction::RowNumber => 0,
                        RankFunction::Rank => 1,
                        RankFunction::DenseRank => 2,
                    };
                    Arc::new(Int64Array::from(passing.ranks[number].clone())) as ArrayRef
                }
                OverCall::Lag { argument, default, .. } => {
                    let wanted = lags.next().map(Vec::as_slice).unwrap_or_default();
                    let values = gathered(rows, wanted, *argument)?;
                    match default {
                        None => values,
                        Some(default) => {
                            let default = gathered(rows, &shown_rows, *default)?;
                            // As in Flink, also where the value itself is null.
                            zip(&is_not_null(&values)?, &values, &default)?
                        }
                    }
                }
                OverCall::Aggregate(call) => {
                    let accumulator = accumulators.next().expect("there is one for each aggregate");
                    let argument = call.argument.map(|column| gathered(rows, &ids, column)).transpose()?;
                    let filter = call.filter.map(|column| gathered(rows, &ids, column)).transpose()?;
                    let results = accumulator.update(&CallRows {
                        argument: argument.as_ref(),
                        filter: filter.map(|filter| passing_rows(filter.as_boolean())),
                        weights: Some(&weights),
                        groups: &groups,
                        empties: &empties,
                        describe: &|_| "a partition of OVER".to_string(),
                    })?;
                    take(&results, &shown, None)?
                }
            });
        }
        Ok(columns)
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.accumulators.iter().map(|accumulator| accumulator.size_bytes()).sum()
    }
}

fn gathered(rows: &Arrangement, ids: &[Option<RowId>], column: usize) -> Result<ArrayRef> {
    let mut columns = rows.gather(ids, &[column])?;
    Ok(columns.pop().unwrap_or_else(|| arrow::array::new_empty_array(&DataType::Null)))
}

fn passing_rows(filter: &BooleanArray) -> NullBuffer {
    match filter.nulls() {
        Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
        None => NullBuffer::new(filter.values().clone()),
    }
}

//! The calls of OVER over a sequence of steps.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, take};
use arrow::datatypes::{DataType, SchemaRef};
use thalweg_core::{Error, Result};
use thalweg_plan::{AggregateCall, AggregateFunction, OverCall, RankFunction};

use crate::arrangement::{Arrangement, RowId};
use crate::running::{Aggregates, GroupRows, Items};

/// A row enters the frame of its partition, or leaves it.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) row: RowId,
    pub(super) partition: usize,
    pub(super) weight: i64,
}

/// Output on its way: the steps that lead to it, then what each row shows.
#[derive(Default)]
pub(super) struct Passing {
    pub(super) steps: Vec<Step>,
    /// The steps behind which results are wanted.
    pub(super) wanted: Vec<bool>,
    results: usize,
    pub(super) ids: Vec<RowId>,
    /// The number, among the results that are wanted, of the one that a row shows.
    shown: Vec<u32>,
    row_numbers: Vec<i64>,
    ranks: Vec<i64>,
    /// By LAG call: the row that it shows.
    lags: Vec<Vec<Option<RowId>>>,
}

impl Passing {
    pub(super) fn new(calls: &Calls) -> Self {
        Passing { lags: vec![vec![]; calls.lags.len()], ..Passing::default() }
    }

    pub(super) fn leave(&mut self, row: RowId, partition: usize) {
        self.steps.push(Step { row, partition, weight: -1 });
        self.wanted.push(false);
    }

    /// `is_wanted`: rows show the results behind this step.
    pub(super) fn enter(&mut self, row: RowId, partition: usize, is_wanted: bool) {
        self.steps.push(Step { row, partition, weight: 1 });
        self.wanted.push(is_wanted);
        self.results += usize::from(is_wanted);
    }

    /// A row of output that shows the last results. `lag` gives the row that LAG with an offset shows.
    pub(super) fn show(&mut self, calls: &Calls, id: RowId, row_number: i64, rank: i64, lag: impl Fn(u64) -> Option<RowId>) {
        self.ids.push(id);
        self.shown.push((self.results - 1) as u32);
        self.row_numbers.push(row_number);
        self.ranks.push(rank);
        for (rows, offset) in self.lags.iter_mut().zip(&calls.lags) {
            rows.push(lag(*offset));
        }
    }
}

pub(super) struct Calls {
    calls: Vec<OverCall>,
    pub(super) aggregates: Aggregates,
    /// The aggregates among the calls, in order.
    functions: Vec<AggregateFunction>,
    /// The offsets of the LAG calls.
    lags: Vec<u64>,
    /// For each call whether it is a LAG with a default that is never null.
    fills_nulls: Vec<bool>,
}

impl Calls {
    /// `takes_back`: whether rows leave frames.
    pub(super) fn new(calls: &[OverCall], input: &SchemaRef, takes_back: bool, items: Items) -> Result<Self> {
        let aggregates: Vec<AggregateCall> = calls
            .iter()
            .filter_map(|call| match call {
                OverCall::Aggregate(call) => Some(call.clone()),
                _ => None,
            })
            .collect();
        let lags = calls
            .iter()
            .filter_map(|call| match call {
                OverCall::Lag { offset, .. } => Some(*offset),
                _ => None,
            })
            .collect();
        let fills_nulls = calls
            .iter()
            .map(|call| matches!(call, OverCall::Lag { default: Some(column), .. } if !input.field(*column).is_nullable()));
        Ok(Calls {
            functions: aggregates.iter().map(|call| call.function).collect(),
            aggregates: Aggregates::new(&aggregates, input, takes_back, items)?,
            fills_nulls: fills_nulls.collect(),
            calls: calls.to_vec(),
            lags,
        })
    }

    /// For each aggregate, whether its state cannot be made again from the rows of a frame: sums of floating-point numbers, and
    /// sums that left their range on the way, depend on what was in the frame before.
    pub(super) fn depend_on_the_past(&self) -> Vec<bool> {
        use AggregateFunction::{Avg, StddevPop, StddevSamp, Sum, VarPop, VarSamp};
        let depends = |function: &AggregateFunction| matches!(function, Sum | Avg | StddevPop | StddevSamp | VarPop | VarSamp);
        self.functions.iter().map(depends).collect()
    }

    /// How many rows that have passed LAG may still ask for.
    pub(super) fn longest_lag(&self) -> usize {
        self.lags.iter().max().map_or(0, |offset| usize::try_from(*offset).unwrap_or(usize::MAX))
    }

    pub(super) fn resize(&mut self, partitions: usize) {
        self.aggregates.resize(partitions);
    }

    pub(super) fn clear(&mut self, partition: usize) {
        self.aggregates.clear(partition);
    }

    /// How many of `rows` rows of this size may be taken at once so that their results stay small.
    pub(super) fn rows_at_once(&self, rows: usize, row_bytes: usize) -> usize {
        self.aggregates.rows_at_once(rows, row_bytes, 0)
    }

    /// Takes the steps; gives for each aggregate the results that are wanted.
    pub(super) fn take(
        &mut self,
        rows: &Arrangement,
        passing: &Passing,
        describe: &dyn Fn(usize) -> String,
    ) -> Result<Vec<ArrayRef>> {
        let describe = |step: usize| describe(passing.steps[step].partition);
        self.run(rows, &passing.steps, &describe, |aggregates, rows| {
            aggregates.update(&GroupRows { wanted: Some(&passing.wanted), ..rows }, &[])
        })
    }

    /// Takes steps without a result, for those aggregates whose state is not there already.
    pub(super) fn absorb(&mut self, rows: &Arrangement, steps: &[Step], is_there: &[bool]) -> Result<()> {
        let describe = |_: usize| "a partition of the last checkpoint".to_string();
        self.run(rows, steps, &describe, |aggregates, rows| aggregates.absorb(&rows, |aggregate| is_there[aggregate]))
    }

    fn run<T>(
        &mut self,
        rows: &Arrangement,
        steps: &[Step],
        describe: &dyn Fn(usize) -> String,
        work: impl FnOnce(&mut Aggregates, GroupRows<'_>) -> Result<T>,
    ) -> Result<T> {
        let ids: Vec<Option<RowId>> = steps.iter().map(|step| Some(step.row)).collect();
        let groups: Vec<usize> = steps.iter().map(|step| step.partition).collect();
        let weights = steps.iter().any(|step| step.weight != 1);
        let weights = weights.then(|| Int64Array::from_iter_values(steps.iter().map(|step| step.weight)));
        let rows = GroupRows {
            column: &|column| gathered(rows, &ids, column),
            weights: weights.as_ref(),
            groups: &groups,
            empties: &vec![false; groups.len()],
            wanted: None,
            describe,
        };
        work(&mut self.aggregates, rows)
    }

    /// The columns of the calls for some of the rows of output, from the `results` of [`Calls::take`].
    pub(super) fn columns(
        &self,
        rows: &Arrangement,
        passing: &Passing,
        results: &[ArrayRef],
        range: Range<usize>,
    ) -> Result<Vec<ArrayRef>> {
        let shown = UInt32Array::from(passing.shown[range.clone()].to_vec());
        let (mut results, mut lags) = (results.iter(), passing.lags.iter());
        let mut column = |(call, fills_nulls): (&OverCall, &bool)| -> Result<ArrayRef> {
            Ok(match call {
                OverCall::Rank(RankFunction::RowNumber, _) => {
                    Arc::new(Int64Array::from(passing.row_numbers[range.clone()].to_vec()))
                }
                OverCall::Rank(..) => Arc::new(Int64Array::from(passing.ranks[range.clone()].to_vec())),
                OverCall::Aggregate(_) => {
                    let results = results.next().ok_or_else(|| Error::internal("an aggregate has no results"))?;
                    take(results, &shown, None)?
                }
                OverCall::Lag { argument, default, .. } => {
                    let wanted = lags.next().map(|lags| &lags[range.clone()]).unwrap_or_default();
                    let values = gathered(rows, wanted, *argument)?;
                    let Some(default) = default else { return Ok(values) };
                    let own: Vec<Option<RowId>> = passing.ids[range.clone()].iter().map(|id| Some(*id)).collect();
                    let default = gathered(rows, &own, *default)?;
                    let is_there = wanted.iter().map(|row| Some(row.is_some())).collect::<BooleanArray>();
                    // In Flink too the result is never null then, though it shows no sensible value in place of a null.
                    let is_shown = if *fills_nulls { is_not_null(&values)? } else { is_there };
                    zip(&is_shown, &values, &default)?
                }
            })
        };
        self.calls.iter().zip(&self.fills_nulls).map(&mut column).collect()
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.aggregates.size_bytes()
    }
}

fn gathered(rows: &Arrangement, ids: &[Option<RowId>], column: usize) -> Result<ArrayRef> {
    let mut columns = rows.gather(ids, &[column])?;
    Ok(columns.pop().unwrap_or_else(|| arrow::array::new_empty_array(&DataType::Null)))
}

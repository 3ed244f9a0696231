//! The aggregate calls of an operator over numbered groups.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field, SchemaRef};
use thalweg_core::{Error, Result};
use thalweg_plan::{AggregateCall, AggregateFunction};

use super::items::StoredItems;
use super::value_sets::{ValueRows, ValueSets, ValueSteps};
use super::{CallName, CallRows, Items, RunningAccumulator, create, passing};

/// About how many bytes of results are made at once: a result may be much larger than the row that made it.
pub(crate) const RESULT_BYTES: usize = 64 << 20;

pub(crate) struct Aggregates {
    calls: Vec<AggregateCall>,
    accumulators: Vec<Box<dyn RunningAccumulator>>,
    distinct: Vec<DistinctCalls>,
    /// For each call with DISTINCT: where among `distinct`, and where among the calls there.
    places: Vec<Option<(usize, usize)>>,
}

/// Calls that look at the values of one column.
struct DistinctCalls {
    calls: Vec<usize>,
    values: ValueSets,
}

/// The rows of a batch, in order.
pub(crate) struct GroupRows<'a> {
    /// Gives a column of the input.
    pub(crate) column: &'a dyn Fn(usize) -> Result<ArrayRef>,
    /// Once each if absent; below 0 takes rows back.
    pub(crate) weights: Option<&'a Int64Array>,
    /// The group of each row.
    pub(crate) groups: &'a [usize],
    /// Whether the group of a row has no rows any more behind this row.
    pub(crate) empties: &'a [bool],
    /// The rows behind which a result is wanted; `None`: all.
    pub(crate) wanted: Option<&'a [bool]>,
    /// Describes the group of a row for an error.
    pub(crate) describe: &'a dyn Fn(usize) -> String,
}

/// Whether a value counts once however often it is there. For the others DISTINCT changes nothing.
fn counts_once(call: &AggregateCall) -> bool {
    use AggregateFunction::{FirstValue, LastValue, Max, Min, SingleValue};
    call.distinct && !matches!(call.function, Min | Max | FirstValue | LastValue | SingleValue)
}

impl Aggregates {
    /// `calls` refer to columns of `input`. With `updating` input they can take every row back.
    /// # Errors
    /// `User` when a function does not take the type of its argument.
    pub(crate) fn new(calls: &[AggregateCall], input: &SchemaRef, updating: bool, items: Items) -> Result<Self> {
        let accumulators = calls.iter().map(|call| create(call, input, updating, items)).collect::<Result<_>>()?;
        let mut shared: Vec<(usize, Vec<usize>)> = vec![];
        let mut places = vec![None; calls.len()];
        for (number, call) in calls.iter().enumerate().filter(|(_, call)| counts_once(call)) {
            let Some(argument) = call.argument else { continue };
            let is_room = |(column, calls): &(usize, Vec<usize>)| *column == argument && calls.len() < ValueSets::CALLS_MAX;
            let place = shared.iter().position(is_room).unwrap_or_else(|| {
                shared.push((argument, vec![]));
                shared.len() - 1
            });
            places[number] = Some((place, shared[place].1.len()));
            shared[place].1.push(number);
        }
        let distinct = shared.into_iter().map(|(argument, numbers)| {
            let names = numbers.iter().map(|number| CallName::new(&calls[*number], input)).collect();
            let values = ValueSets::new(input.field(argument).data_type(), names, updating)?;
            Ok(DistinctCalls { calls: numbers, values })
        });
        Ok(Aggregates { distinct: distinct.collect::<Result<_>>()?, calls: calls.to_vec(), accumulators, places })
    }

    /// Groups that are new have seen no rows.
    pub(crate) fn resize(&mut self, groups: usize) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.resize(groups));
        self.distinct.iter_mut().for_each(|distinct| distinct.values.resize(groups));
    }

    /// The group has seen no rows.
    pub(crate) fn clear(&mut self, group: usize) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.clear(group));
        self.distinct.iter_mut().for_each(|distinct| distinct.values.clear(group));
    }

    /// From now on a value that is taken back and is not there changes nothing, in place of being an error.
    pub(crate) fn ignore_unmatched(&mut self) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.ignore_unmatched());
        self.distinct.iter_mut().for_each(|distinct| distinct.values.ignore_unmatched());
    }

    /// Bytes of the largest results so far, about.
    pub(crate) fn largest_results(&self) -> usize {
        self.accumulators.iter().map(|accumulator| accumulator.result_size().0).sum()
    }

    /// How many of `rows` rows of this size may be taken at once so that their results, which stand beside `copies` of them, stay
    /// small.
    pub(crate) fn rows_at_once(&self, mut rows: usize, row_bytes: usize, copies: usize) -> usize {
        let collects = self.accumulators.iter().any(|accumulator| accumulator.result_size().1);
        let growth = |rows: usize| if collects { rows.saturating_mul(row_bytes) } else { row_bytes };
        let largest = self.largest_results();
        while rows > 1 && rows.saturating_mul(copies * row_bytes + largest + growth(rows)) > RESULT_BYTES {
            rows /= 2;
        }
        rows
    }

    /// Takes in the rows; gives for each call the results of `before` ahead of them, then those behind each row that is wanted (for
    /// a group that became empty, anything).
    /// # Errors
    /// `Record` when a result does not fit its type, or when a row is taken back that was never there.
    pub(crate) fn update(&mut self, rows: &GroupRows<'_>, before: &[usize]) -> Result<Vec<ArrayRef>> {
        self.each_call(rows, &mut |_, accumulator, rows| {
            if before.is_empty() {
                return accumulator.update(&rows);
            }
            let before = accumulator.results(before, &|_| "a group of the last checkpoint".to_string())?;
            let after = accumulator.update(&rows)?;
            Ok(arrow::compute::concat(&[before.as_ref(), after.as_ref()])?)
        })
    }

    /// Takes in the rows where no result is wanted yet, for all calls but those whose state is there already.
    /// # Errors
    /// `Record` when a row is taken back that was never there.
    pub(crate) fn absorb(&mut self, rows: &GroupRows<'_>, is_there: impl Fn(usize) -> bool) -> Result<()> {
        let mut absorb = |call: usize, accumulator: &mut dyn RunningAccumulator, rows: CallRows<'_>| {
            if is_there(call) { Ok(()) } else { accumulator.absorb(&rows) }
        };
        self.each_call(rows, &mut absorb)?;
        Ok(())
    }

    fn each_call<T>(
        &mut self,
        rows: &GroupRows<'_>,
        work: &mut dyn FnMut(usize, &mut dyn RunningAccumulator, CallRows<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut arguments: Vec<Option<ArrayRef>> = Vec::with_capacity(self.calls.len());
        let mut filters: Vec<Option<NullBuffer>> = Vec::with_capacity(self.calls.len());
        for call in &self.calls {
            arguments.push(call.argument.map(rows.column).transpose()?);
            let filter = call.filter.map(rows.column).transpose()?;
            filters.push(filter.map(|filter| passing(filter.as_boolean())));
        }
        let mut steps: Vec<Vec<ValueSteps>> = vec![];
        for distinct in &mut self.distinct {
            steps.push(distinct.take_in(&self.calls, rows, &arguments, &filters)?);
        }
        let mut outcomes = Vec::with_capacity(self.calls.len());
        for (call, accumulator) in self.accumulators.iter_mut().enumerate() {
            let step = self.places[call].map(|(place, position)| &steps[place][position]);
            let rows = CallRows {
                argument: arguments[call].as_ref(),
                filter: step.map_or_else(|| filters[call].clone(), |step| Some(step.filter.clone())),
                weights: step.map_or(rows.weights, |step| step.weights.as_ref()),
                groups: rows.groups,
                empties: rows.empties,
                wanted: rows.wanted,
                describe: rows.describe,
            };
            outcomes.push(work(call, accumulator.as_mut(), rows)?);
        }
        Ok(outcomes)
    }

    /// The results of one call for groups; `describe` names one of `groups` by its position, for an error.
    /// # Errors
    /// `Record` when a result does not fit its type.
    pub(crate) fn results(&self, groups: &[usize], describe: &dyn Fn(usize) -> String) -> Result<Vec<ArrayRef>> {
        self.accumulators.iter().map(|accumulator| accumulator.results(groups, describe)).collect()
    }

    /// The columns of [`Aggregates::state`].
    pub(crate) fn state_fields(&self, call: usize) -> Vec<Field> {
        let named = |field: Field| {
            let name = format!("{call}.{}", field.name());
            field.with_name(name)
        };
        self.accumulators[call].state_fields().into_iter().map(named).collect()
    }

    /// The state of a call, but for its items.
    pub(crate) fn state(&self, call: usize, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        self.accumulators[call].state(groups)
    }

    /// The inverse of [`Aggregates::state`]; rows without a group are left out.
    pub(crate) fn restore(&mut self, call: usize, states: &[ArrayRef], groups: &[Option<usize>]) -> Result<()> {
        self.accumulators[call].restore(states, groups)
    }

    /// What is stored item by item, in an order that is always the same.
    pub(crate) fn items(&mut self) -> Vec<&mut dyn StoredItems> {
        let values = self.distinct.iter_mut().map(|distinct| &mut distinct.values as &mut dyn StoredItems);
        values.chain(self.accumulators.iter_mut().filter_map(|accumulator| accumulator.items())).collect()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.size_bytes()).sum();
        accumulators + self.distinct.iter().map(|distinct| distinct.values.size_bytes()).sum::<usize>()
    }
}

impl DistinctCalls {
    fn take_in(
        &mut self,
        calls: &[AggregateCall],
        rows: &GroupRows<'_>,
        arguments: &[Option<ArrayRef>],
        filters: &[Option<NullBuffer>],
    ) -> Result<Vec<ValueSteps>> {
        let argument = self.calls.first().and_then(|call| arguments[*call].as_ref());
        let argument = argument.ok_or_else(|| Error::internal("DISTINCT has no argument"))?;
        let present = argument.logical_nulls();
        let selection = |call: &usize| {
            let takes_nulls = calls[*call].function == AggregateFunction::ArrayAgg;
            NullBuffer::union(present.as_ref().filter(|_| !takes_nulls), filters[*call].as_ref())
        };
        self.values.take_in(&ValueRows {
            argument,
            selections: self.calls.iter().map(selection).collect(),
            weights: rows.weights,
            groups: rows.groups,
            empties: rows.empties,
            describe: rows.describe,
        })
    }
}

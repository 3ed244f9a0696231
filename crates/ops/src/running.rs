//! Aggregates whose result is wanted behind every row, and that can take rows back.
//!
//! What a function does to one group is a [`Fold`]; [`PerGroup`] keeps one state per group and runs a fold over a batch. The
//! groups are numbered by the caller, who also says which of them became empty: such a group's state is forgotten at once, so
//! that rounding errors and kept values end with it.

mod aggregates;
mod collection;
mod count;
mod exact;
mod extremum;
mod float;
mod items;
mod sequence;
mod single;
mod value_sets;
mod values;
mod welford;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, SchemaRef};
use thalweg_core::{Error, Result};
use thalweg_plan::{AggregateCall, AggregateFunction};

pub(crate) use aggregates::{Aggregates, GroupRows, RESULT_BYTES};
pub(crate) use items::{ItemRows, StoredItems};
pub(crate) use values::{ValueCodec, canonical_floats};
use welford::Welford;

use crate::aggregate::sum::sql_name;
use collection::Collect;
use count::Count;
use exact::ExactNumbers;
use extremum::{Best, BestOfMany};
use float::FloatNumbers;
use items::{GroupItems, Item};
use sequence::{End, FirstOfAll, InOrder};
use single::SingleValue;

/// The rows of a batch for one call, in order.
struct CallRows<'a> {
    /// Absent for `COUNT(*)`.
    argument: Option<&'a ArrayRef>,
    /// The rows whose filter is true; `None` when all are.
    filter: Option<NullBuffer>,
    /// Once each if absent; below 0 takes rows back.
    weights: Option<&'a Int64Array>,
    /// The group of each row.
    groups: &'a [usize],
    /// Whether the group of a row has no rows any more behind this row.
    empties: &'a [bool],
    /// The rows behind which a result is wanted; `None`: all.
    wanted: Option<&'a [bool]>,
    /// Describes the group of a row for an error.
    describe: &'a dyn Fn(usize) -> String,
}

/// The state of one call for groups `0..n`.
trait RunningAccumulator: Send {
    /// Groups that are new have seen no rows.
    fn resize(&mut self, groups: usize);

    /// Takes in the rows; gives for each that is wanted the result of its group behind it (for a group that became empty,
    /// anything).
    /// # Errors
    /// `Record` when a result does not fit its type, or when a row is taken back that was never there.
    fn update(&mut self, rows: &CallRows<'_>) -> Result<ArrayRef>;

    /// From now on a value that is taken back and is not there changes nothing, in place of being an error.
    fn ignore_unmatched(&mut self);

    /// Takes in the rows where no result is wanted yet.
    /// # Errors
    /// `Record` when a row is taken back that was never there.
    fn absorb(&mut self, rows: &CallRows<'_>) -> Result<()>;

    /// The results of groups; `describe` names one of `groups` by its position, for an error.
    /// # Errors
    /// `Record` when a result does not fit its type.
    fn results(&self, groups: &[usize], describe: &dyn Fn(usize) -> String) -> Result<ArrayRef>;

    /// The columns of [`RunningAccumulator::state`]. Part of the checkpoint format. None where all of it is items.
    fn state_fields(&self) -> Vec<Field>;

    fn state(&self, groups: &[usize]) -> Result<Vec<ArrayRef>>;

    /// The inverse of [`RunningAccumulator::state`]: row `i` becomes the state of `groups[i]`; rows without a group are left out.
    fn restore(&mut self, states: &[ArrayRef], groups: &[Option<usize>]) -> Result<()>;

    /// Bytes of the largest result so far, about, and whether results hold all values of their groups.
    fn result_size(&self) -> (usize, bool);

    /// The group has seen no rows.
    fn clear(&mut self, group: usize);

    /// State that is stored item by item, where there is such.
    fn items(&mut self) -> Option<&mut dyn StoredItems>;

    fn size_bytes(&self) -> usize;
}

/// Where items are after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Items {
    /// In the checkpoint, as [`StoredItems`].
    Stored,
    /// Made again from the rows, so that changes need not be noted.
    MadeAgain,
}

/// A call, for errors.
#[derive(Clone, Debug)]
struct CallName {
    /// `SUM(total)`.
    name: String,
    output: DataType,
}

impl CallName {
    fn new(call: &AggregateCall, input: &SchemaRef) -> Self {
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        let argument = call.argument.map_or("*", |column| input.field(column).name());
        CallName { name: format!("{}({distinct}{argument})", call.function.name()), output: call.output.data_type().clone() }
    }

    fn error(&self, problem: Problem, group: &str) -> Error {
        match problem {
            Problem::Overflow => Error::record(format!("{} overflows {} for {group}", self.name, sql_name(&self.output)))
                .with_help("cast the argument to a wider type, such as DECIMAL(38, 0)"),
            Problem::NotThere => {
                Error::record(format!("{} is to take back a value that it does not hold, in {group}", self.name))
                    .with_help("the changes of the input do not fit together: a row was taken back that was never there")
            }
            Problem::Failed(error) => error,
        }
    }
}

/// Why a row cannot be taken in.
enum Problem {
    /// The result does not fit its type.
    Overflow,
    /// A value is taken back that the group does not hold.
    NotThere,
    Failed(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Problem::Failed(error)
    }
}

/// What an aggregate function does to the state of one group.
trait Fold: Send {
    type State: Default + Send;
    /// An argument column made ready for [`Fold::add`].
    type Bound;
    /// Results, one pushed behind the other.
    type Results: Default;

    /// Whether rows whose argument is null count.
    fn takes_nulls(&self) -> bool {
        false
    }

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Self::Bound>;

    /// Takes in row `row`, `weight` times; below 0 takes it back.
    fn add(&self, state: &mut Self::State, bound: &Self::Bound, row: usize, weight: i64) -> Result<(), Problem>;

    fn push_result(&self, state: &Self::State, results: &mut Self::Results) -> Result<(), Problem>;

    fn finish(&self, results: Self::Results) -> Result<ArrayRef>;

    /// None if all of the state is items.
    fn state_fields(&self) -> Vec<Field> {
        vec![]
    }

    fn write(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>> {
        let _ = states;
        Ok(vec![])
    }

    /// The inverse of [`Fold::write`].
    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Self::State>> {
        let _ = columns;
        Ok(vec![])
    }

    /// Bytes that the state holds outside of itself, about.
    fn heap_bytes(&self, state: &Self::State) -> usize;

    /// Bytes of the result of this state, about; 0 where results are of fixed size.
    fn result_bytes(&self, state: &Self::State) -> usize {
        let _ = state;
        0
    }

    /// Whether a result holds all values of its group.
    fn collects(&self) -> bool {
        false
    }

    /// Encodes the values of items, if those are all the state there is.
    fn item_codec(&self) -> Option<&ValueCodec> {
        None
    }

    /// The items of a state, if there is an [`Fold::item_codec`].
    fn items<'a>(&self, state: &'a mut Self::State) -> Option<&'a mut dyn GroupItems> {
        let _ = state;
        None
    }
}

/// Results of this many bytes, about, fit one Arrow array, whose offsets are 32 bits.
fn fits_one_array(result_bytes: usize) -> Result<(), Problem> {
    if i32::try_from(result_bytes).is_ok() {
        return Ok(());
    }
    let error = Error::record("results are larger than one batch holds: 2 GiB");
    Err(Problem::Failed(error.with_help("choose finer groups, or count the values in place of listing them")))
}

/// A fold over numbered groups.
struct PerGroup<F: Fold> {
    call: CallName,
    fold: F,
    states: Vec<F::State>,
    /// Items of all groups.
    items: usize,
    /// Bytes of the largest result so far.
    largest: usize,
    ignores_unmatched: bool,
}

impl<F: Fold> PerGroup<F> {
    /// Takes in rows; puts the result behind each into `results`, if given.
    fn take_in(&mut self, rows: &CallRows<'_>, mut results: Option<&mut F::Results>) -> Result<()> {
        let bound = self.fold.bind(rows.argument)?;
        let present = rows.argument.filter(|_| !self.fold.takes_nulls()).and_then(|argument| argument.logical_nulls());
        let selection = NullBuffer::union(present.as_ref(), rows.filter.as_ref());
        let mut result_bytes = 0;
        for (row, group) in rows.groups.iter().enumerate() {
            let state = &mut self.states[*group];
            let items = self.fold.items(state).map_or(0, |items| items.count());
            let mut outcome = Ok(());
            if selection.as_ref().is_none_or(|selection| selection.is_valid(row)) {
                outcome = match self.fold.add(state, &bound, row, rows.weights.map_or(1, |weights| weights.value(row))) {
                    Err(Problem::NotThere) if self.ignores_unmatched => Ok(()),
                    outcome => outcome,
                };
            }
            let own_bytes = self.fold.result_bytes(state);
            self.largest = self.largest.max(own_bytes);
            if rows.empties[row] {
                *state = F::State::default();
            }
            self.items += self.fold.items(state).map_or(0, |items| items.count());
            self.items -= items;
            if let Some(results) = &mut results
                && rows.wanted.is_none_or(|wanted| wanted[row])
            {
                result_bytes += own_bytes;
                outcome =
                    outcome.and_then(|()| fits_one_array(result_bytes)).and_then(|()| self.fold.push_result(state, results));
            }
            if let Err(problem) = outcome {
                return Err(self.call.error(problem, &(rows.describe)(row)));
            }
        }
        Ok(())
    }
}

impl<F: Fold> RunningAccumulator for PerGroup<F> {
    fn resize(&mut self, groups: usize) {
        self.states.resize_with(groups, F::State::default);
    }

    fn update(&mut self, rows: &CallRows<'_>) -> Result<ArrayRef> {
        let mut results = F::Results::default();
        self.take_in(rows, Some(&mut results))?;
        self.fold.finish(results)
    }

    fn ignore_unmatched(&mut self) {
        self.ignores_unmatched = true;
    }

    fn absorb(&mut self, rows: &CallRows<'_>) -> Result<()> {
        self.take_in(rows, None)
    }

    fn results(&self, groups: &[usize], describe: &dyn Fn(usize) -> String) -> Result<ArrayRef> {
        let mut results = F::Results::default();
        let mut result_bytes = 0;
        for (position, group) in groups.iter().enumerate() {
            let state = &self.states[*group];
            result_bytes += self.fold.result_bytes(state);
            fits_one_array(result_bytes)
                .and_then(|()| self.fold.push_result(state, &mut results))
                .map_err(|problem| self.call.error(problem, &describe(position)))?;
        }
        self.fold.finish(results)
    }

    fn state_fields(&self) -> Vec<Field> {
        self.fold.state_fields()
    }

    fn state(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        self.fold.write(&groups.iter().map(|group| &self.states[*group]).collect::<Vec<_>>())
    }

    fn restore(&mut self, states: &[ArrayRef], groups: &[Option<usize>]) -> Result<()> {
        // Without columns this does nothing: items have rows of their own.
        for (state, group) in self.fold.read(states)?.into_iter().zip(groups) {
            if let Some(group) = group {
                self.largest = self.largest.max(self.fold.result_bytes(&state));
                self.states[*group] = state;
            }
        }
        Ok(())
    }

    fn result_size(&self) -> (usize, bool) {
        (self.largest, self.fold.collects())
    }

    fn clear(&mut self, group: usize) {
        let mut state = std::mem::take(&mut self.states[group]);
        self.items -= self.fold.items(&mut state).map_or(0, |items| items.count());
    }

    fn items(&mut self) -> Option<&mut dyn StoredItems> {
        if self.fold.item_codec().is_some() { Some(self) } else { None }
    }

    fn size_bytes(&self) -> usize {
        let heap: usize = self.states.iter().map(|state| self.fold.heap_bytes(state)).sum();
        heap + self.states.capacity() * size_of::<F::State>()
    }
}

impl<F: Fold> PerGroup<F> {
    /// Rows of the items that `give` gives of each group.
    fn item_rows(&mut self, groups: &[usize], give: impl Fn(&mut dyn GroupItems, &mut Vec<Item>)) -> Result<ItemRows> {
        let (mut items, mut rows) = (vec![], ItemRows::default());
        for group in groups {
            if let Some(state) = self.fold.items(&mut self.states[*group]) {
                give(state, &mut items);
            }
            rows.groups.resize(items.len(), *group);
        }
        if let Some(codec) = self.fold.item_codec() {
            rows.columns = items::write_items(codec, &items)?;
        }
        Ok(rows)
    }
}

impl<F: Fold> StoredItems for PerGroup<F> {
    fn item_fields(&self) -> Vec<Field> {
        self.fold.item_codec().map(items::item_fields).unwrap_or_default()
    }

    fn live_items(&self) -> usize {
        self.items
    }

    fn changed_count(&mut self, groups: &[usize]) -> usize {
        let mut count = |group: &usize| self.fold.items(&mut self.states[*group]).map_or(0, |items| items.changed_count());
        groups.iter().map(&mut count).sum()
    }

    fn changed_items(&mut self, groups: &[usize]) -> Result<ItemRows> {
        self.item_rows(groups, |state, items| state.take_changes(items))
    }

    fn all_items(&mut self, groups: &[usize]) -> Result<ItemRows> {
        self.item_rows(groups, |state, items| state.take_all(items))
    }

    fn restore_items(&mut self, groups: &[Option<usize>], columns: &[ArrayRef]) -> Result<()> {
        let Some(codec) = self.fold.item_codec() else { return Ok(()) };
        for (item, group) in items::read_items(codec, columns)?.into_iter().zip(groups) {
            let Some(group) = *group else { continue };
            if let Some(items) = self.fold.items(&mut self.states[group]) {
                let before = items.count();
                items.restore(item);
                self.items = self.items + items.count() - before;
            }
            self.largest = self.largest.max(self.fold.result_bytes(&self.states[group]));
        }
        Ok(())
    }
}

/// An accumulator for `call`, whose columns refer to `input`. With `updating` input it can take every row back. DISTINCT is the
/// caller's business, see [`value_sets`].
/// # Errors
/// `User` when the function does not take the type of its argument.
fn create(call: &AggregateCall, input: &SchemaRef, updating: bool, items: Items) -> Result<Box<dyn RunningAccumulator>> {
    let argument = call.argument.map(|column| input.field(column));
    let name = CallName::new(call, input);
    let argument = match (call.function, argument) {
        (AggregateFunction::Count, None) => return per_group(name, Count),
        (_, None) => return Err(Error::internal(format!("{} has no argument", name.name))),
        (_, Some(argument)) => argument.data_type(),
    };
    let output = call.output.data_type();
    match call.function {
        AggregateFunction::Count => per_group(name, Count),
        AggregateFunction::StddevPop | AggregateFunction::StddevSamp | AggregateFunction::VarPop | AggregateFunction::VarSamp => {
            per_group(name, Welford::new(call.function, output))
        }
        AggregateFunction::Sum | AggregateFunction::Avg => match argument {
            DataType::Float32 | DataType::Float64 => per_group(name, FloatNumbers::new(call.function, argument, output)),
            _ => {
                let fold = ExactNumbers::new(&name.name, call.function, argument, output)?;
                per_group(name, fold)
            }
        },
        AggregateFunction::Min | AggregateFunction::Max => {
            let is_max = call.function == AggregateFunction::Max;
            if updating {
                per_group(name, BestOfMany::new(argument, is_max, items)?)
            } else {
                per_group(name, Best::new(argument, is_max)?)
            }
        }
        AggregateFunction::FirstValue if !updating => per_group(name, FirstOfAll::new(argument, End::First)?),
        AggregateFunction::LastValue if !updating => per_group(name, FirstOfAll::new(argument, End::Last)?),
        AggregateFunction::FirstValue => per_group(name, InOrder::end(argument, End::First)?),
        AggregateFunction::LastValue => per_group(name, InOrder::end(argument, End::Last)?),
        AggregateFunction::ListAgg => per_group(name, InOrder::text(argument, call.separator.as_deref().unwrap_or(","))?),
        AggregateFunction::ArrayAgg => per_group(name, InOrder::array(argument, output)?),
        AggregateFunction::Collect => per_group(name, Collect::new(argument, output, items)?),
        AggregateFunction::SingleValue => per_group(name, SingleValue::new(argument)?),
    }
}

/// The rows that a filter lets through: those where it is true.
fn passing(filter: &BooleanArray) -> NullBuffer {
    match filter.nulls() {
        Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
        None => NullBuffer::new(filter.values().clone()),
    }
}

fn per_group<F: Fold + 'static>(call: CallName, fold: F) -> Result<Box<dyn RunningAccumulator>> {
    Ok(Box::new(PerGroup { call, fold, states: vec![], items: 0, largest: 0, ignores_unmatched: false }))
}

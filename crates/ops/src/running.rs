//! Aggregates whose result is wanted behind every row, and that can take rows back.
//!
//! What a function does to one group is a [`Fold`]; [`PerGroup`] keeps one state per group and runs a fold over a batch. The
//! groups are numbered by the caller, who also says which of them became empty: such a group's state is forgotten at once, so
//! that rounding errors and kept values end with it.

mod collection;
mod count;
mod distinct;
mod exact;
mod extremum;
mod float;
mod sequence;
mod single;
mod values;
mod welford;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, SchemaRef};
use thalweg_core::{Error, Result};
use thalweg_plan::{AggregateCall, AggregateFunction};

pub(crate) use values::{ValueCodec, canonical_floats};
use welford::Welford;

use crate::aggregate::sum::sql_name;
use collection::Collect;
use count::Count;
use distinct::DistinctValues;
use exact::ExactNumbers;
use extremum::{Best, BestOfMany};
use float::FloatNumbers;
use sequence::{End, FirstOfAll, InOrder};
use single::SingleValue;

/// The rows of a batch for one call, in order.
pub(crate) struct CallRows<'a> {
    /// Absent for `COUNT(*)`.
    pub(crate) argument: Option<&'a ArrayRef>,
    /// The rows whose filter is true; `None` when all are.
    pub(crate) filter: Option<NullBuffer>,
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

/// The state of one call for groups `0..n`.
pub(crate) trait RunningAccumulator: Send {
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

    /// The columns of [`RunningAccumulator::state`]. Part of the checkpoint format.
    fn state_fields(&self) -> Vec<Field>;

    fn state(&self, groups: &[usize]) -> Result<Vec<ArrayRef>>;

    /// The inverse of [`RunningAccumulator::state`]: row `i` becomes the state of `groups[i]`; rows without a group are left out.
    fn restore(&mut self, states: &[ArrayRef], groups: &[Option<usize>]) -> Result<()>;

    /// Bytes of the largest result so far, about, and whether results hold all values of their groups.
    fn result_size(&self) -> (usize, bool);

    /// The group has seen no rows.
    fn clear(&mut self, group: usize);

    fn size_bytes(&self) -> usize;
}

/// Why a row cannot be taken in.
pub(crate) enum Problem {
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
pub(crate) trait Fold: Send {
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

    fn state_fields(&self) -> Vec<Field>;

    fn write(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>>;

    /// The inverse of [`Fold::write`].
    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Self::State>>;

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
    /// `SUM(total)`.
    name: String,
    output: DataType,
    fold: F,
    states: Vec<F::State>,
    /// Bytes of the largest result so far.
    largest: usize,
    ignores_unmatched: bool,
}

impl<F: Fold> PerGroup<F> {
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

    /// Takes in rows; puts the result behind each into `results`, if given.
    fn take_in(&mut self, rows: &CallRows<'_>, mut results: Option<&mut F::Results>) -> Result<()> {
        let bound = self.fold.bind(rows.argument)?;
        let present = rows.argument.filter(|_| !self.fold.takes_nulls()).and_then(|argument| argument.logical_nulls());
        let selection = NullBuffer::union(present.as_ref(), rows.filter.as_ref());
        let mut result_bytes = 0;
        for (row, group) in rows.groups.iter().enumerate() {
            let state = &mut self.states[*group];
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
            if let Some(results) = &mut results
                && rows.wanted.is_none_or(|wanted| wanted[row])
            {
                result_bytes += own_bytes;
                outcome =
                    outcome.and_then(|()| fits_one_array(result_bytes)).and_then(|()| self.fold.push_result(state, results));
            }
            if let Err(problem) = outcome {
                return Err(self.error(problem, &(rows.describe)(row)));
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
                .map_err(|problem| self.error(problem, &describe(position)))?;
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
        self.states[group] = F::State::default();
    }

    fn size_bytes(&self) -> usize {
        let heap: usize = self.states.iter().map(|state| self.fold.heap_bytes(state)).sum();
        heap + self.states.capacity() * size_of::<F::State>()
    }
}

/// An accumulator for `call`, whose columns refer to `input`. With `updating` input it can take every row back.
/// # Errors
/// `User` when the function does not take the type of its argument.
pub(crate) fn create(call: &AggregateCall, input: &SchemaRef, updating: bool) -> Result<Box<dyn RunningAccumulator>> {
    let argument = call.argument.map(|column| input.field(column));
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let name = format!("{}({distinct}{})", call.function.name(), argument.map_or("*", |field| field.name()));
    let maker = Maker { name, call, updating };
    let argument = match (call.function, argument) {
        (AggregateFunction::Count, None) => return maker.plain(Count),
        (_, None) => return Err(Error::internal(format!("{} has no argument", maker.name))),
        (_, Some(argument)) => argument.data_type(),
    };
    let output = call.output.data_type();
    match call.function {
        AggregateFunction::Count => maker.make(Count, argument),
        AggregateFunction::StddevPop | AggregateFunction::StddevSamp | AggregateFunction::VarPop | AggregateFunction::VarSamp => {
            maker.make(Welford::new(call.function, output), argument)
        }
        AggregateFunction::Sum | AggregateFunction::Avg => match argument {
            DataType::Float32 | DataType::Float64 => maker.make(FloatNumbers::new(call.function, argument, output), argument),
            _ => maker.make(ExactNumbers::new(&maker.name, call.function, argument, output)?, argument),
        },
        AggregateFunction::Min | AggregateFunction::Max => {
            let is_max = call.function == AggregateFunction::Max;
            if updating { maker.plain(BestOfMany::new(argument, is_max)?) } else { maker.plain(Best::new(argument, is_max)?) }
        }
        AggregateFunction::FirstValue if !updating => maker.plain(FirstOfAll::new(argument, End::First)?),
        AggregateFunction::LastValue if !updating => maker.plain(FirstOfAll::new(argument, End::Last)?),
        AggregateFunction::FirstValue => maker.plain(InOrder::end(argument, End::First)?),
        AggregateFunction::LastValue => maker.plain(InOrder::end(argument, End::Last)?),
        AggregateFunction::ListAgg => maker.make(InOrder::text(argument, call.separator.as_deref().unwrap_or(","))?, argument),
        AggregateFunction::ArrayAgg => maker.make(InOrder::array(argument, output)?, argument),
        AggregateFunction::Collect => maker.make(Collect::new(argument, output)?, argument),
        AggregateFunction::SingleValue => maker.plain(SingleValue::new(argument)?),
    }
}

/// The rows that a filter lets through: those where it is true.
pub(crate) fn passing(filter: &BooleanArray) -> NullBuffer {
    match filter.nulls() {
        Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
        None => NullBuffer::new(filter.values().clone()),
    }
}

struct Maker<'a> {
    name: String,
    call: &'a AggregateCall,
    updating: bool,
}

impl Maker<'_> {
    fn plain<F: Fold + 'static>(&self, fold: F) -> Result<Box<dyn RunningAccumulator>> {
        let output = self.call.output.data_type().clone();
        Ok(Box::new(PerGroup { name: self.name.clone(), output, fold, states: vec![], largest: 0, ignores_unmatched: false }))
    }

    /// With DISTINCT where the call has it.
    fn make<F: Fold + 'static>(&self, fold: F, argument: &DataType) -> Result<Box<dyn RunningAccumulator>> {
        if self.call.distinct { self.plain(DistinctValues::new(fold, argument, self.updating)?) } else { self.plain(fold) }
    }
}

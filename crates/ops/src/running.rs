//! Aggregates whose result is wanted behind every row, and that can take rows back.
//!
//! What a function does to one group is a [`Fold`]; there is one state per group, over which a fold runs batch by batch
//! ([`per_group`]). The groups are numbered by the caller, who also says which of them became empty: such a group's state is
//! forgotten at once, so that rounding errors and kept values end with it. DISTINCT stands in front of the functions
//! ([`value_sets`]), all calls together are [`Aggregates`].

mod aggregates;
mod collection;
mod count;
mod exact;
mod extremum;
mod float;
mod items;
mod per_group;
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
use per_group::{Fold, per_group};
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

//! Aggregates over groups: many accumulators of one call, as columns.
//!
//! Semantics are Flink's (`COUNT`, `SUM`, `AVG`, `MIN`, `MAX`, `FILTER`, `DISTINCT`), with one difference: a sum of integers
//! that leaves its type is an error where Flink wraps around.

mod count;
mod distinct;
mod extremum;
mod rows;
pub(crate) mod sum;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use thalweg_core::{Error, Result};
use thalweg_plan::{AggregateCall, AggregateFunction};

use count::Count;
use distinct::Distinct;
use sum::{ExactSum, FloatSum};

/// Describes a group for an error: its keys and their values.
pub type GroupText<'a> = &'a dyn Fn(usize) -> String;

/// The state of one aggregate call for groups `0..total_groups`, which only ever grow in number.
///
/// Reading does not empty it: state is written at each checkpoint and groups live on.
pub trait GroupAccumulator: Send {
    /// Takes in rows: row `i` belongs to group `groups[i]`.
    ///
    /// `argument` is absent for `COUNT(*)`. Rows where `filter` is not true do not count. Row `i` counts `weights[i]` times,
    /// once if absent; a negative weight takes back.
    /// # Errors
    /// `Internal` for a negative weight where the accumulator cannot take rows back (MIN, MAX, DISTINCT).
    fn update(
        &mut self,
        argument: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        weights: Option<&Int64Array>,
        groups: &[usize],
        total_groups: usize,
    ) -> Result<()>;

    /// Takes in partial states: those of row `i` belong to group `groups[i]`.
    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()>;

    /// The columns of [`GroupAccumulator::state`]. Part of the checkpoint format.
    fn state_fields(&self) -> Vec<Field>;

    /// The state of `groups`, or of all.
    fn state(&self, groups: Option<&[usize]>) -> Result<Vec<ArrayRef>>;

    /// The result for `groups`, or for all.
    /// # Errors
    /// `Record` when a result does not fit its type.
    fn evaluate(&self, groups: Option<&[usize]>, describe: GroupText<'_>) -> Result<ArrayRef>;

    fn size_bytes(&self) -> usize;
}

/// Makes accumulators for one call.
#[derive(Clone, Debug)]
pub struct AggregateFactory {
    call: AggregateCall,
    argument_type: Option<DataType>,
    /// The call as errors show it: `SUM(total)`.
    name: String,
}

impl AggregateFactory {
    /// `input_schema` is what the call's columns refer to.
    /// # Errors
    /// `User` when the function does not take the type of its argument.
    pub fn new(call: &AggregateCall, input_schema: &SchemaRef) -> Result<Self> {
        let argument = call.argument.map(|column| input_schema.field(column));
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        let name = format!("{}({distinct}{})", call.function.name(), argument.map_or("*", |field| field.name()));
        let argument_type = argument.map(|field| field.data_type().clone());
        let factory = AggregateFactory { call: call.clone(), argument_type, name };
        factory.create()?;
        Ok(factory)
    }

    /// An accumulator without groups.
    pub fn create(&self) -> Result<Box<dyn GroupAccumulator>> {
        let is_idempotent = matches!(self.call.function, AggregateFunction::Min | AggregateFunction::Max);
        match &self.argument_type {
            Some(argument) if self.call.distinct && !is_idempotent => {
                Ok(Box::new(Distinct::new(self.name.clone(), argument.clone(), self.plain()?)?))
            }
            _ => self.plain(),
        }
    }

    /// Columns of the input that the call reads.
    pub fn call(&self) -> &AggregateCall {
        &self.call
    }

    /// The accumulator of the call without its DISTINCT.
    fn plain(&self) -> Result<Box<dyn GroupAccumulator>> {
        let output = self.call.output.data_type().clone();
        let function = self.call.function;
        let argument = match (function, &self.argument_type) {
            (AggregateFunction::Count, _) => return Ok(Box::new(Count::default())),
            (_, Some(argument)) => argument.clone(),
            (_, None) => return Err(Error::internal(format!("{} has no argument", self.name))),
        };
        match function {
            AggregateFunction::Min => extremum::create(&self.name, &argument, false),
            AggregateFunction::Max => extremum::create(&self.name, &argument, true),
            AggregateFunction::Sum | AggregateFunction::Avg => {
                let is_average = function == AggregateFunction::Avg;
                match &argument {
                    DataType::Float32 | DataType::Float64 => {
                        Ok(Box::new(FloatSum::new(argument, is_average, output, self.name.clone())?))
                    }
                    _ => Ok(Box::new(ExactSum::new(argument, is_average, output, self.name.clone())?)),
                }
            }
            _ => Err(Error::user(format!("{} does not run in windows", self.name))),
        }
    }
}

#[cfg(test)]
mod tests;

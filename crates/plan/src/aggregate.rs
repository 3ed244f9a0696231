//! Aggregate calls. Their meaning is Flink's, see `ops::aggregate`.

use arrow::datatypes::FieldRef;

/// The aggregate functions of the engine's own accumulators.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AggregateFunction {
    /// `COUNT(*)` has no argument, `COUNT(x)` one. BIGINT, never null.
    Count,
    /// Integers keep their type, as in Flink, and overflow is an error (Flink wraps); DECIMAL(p,s) gives DECIMAL(38,s).
    Sum,
    /// The type of the argument, truncated towards zero for integers; DECIMAL(p,s) gives DECIMAL(38,max(6,s)).
    Avg,
    Min,
    Max,
}

impl AggregateFunction {
    pub fn name(self) -> &'static str {
        match self {
            AggregateFunction::Count => "COUNT",
            AggregateFunction::Sum => "SUM",
            AggregateFunction::Avg => "AVG",
            AggregateFunction::Min => "MIN",
            AggregateFunction::Max => "MAX",
        }
    }
}

/// One aggregate over the rows of a group. Arguments are columns of the node's input: the planner puts a `Project` in front
/// that computes them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// `None` for `COUNT(*)`.
    pub argument: Option<usize>,
    /// A BOOLEAN column: rows where it is not true do not count.
    pub filter: Option<usize>,
    pub distinct: bool,
    /// Name and type of the result.
    pub output: FieldRef,
}

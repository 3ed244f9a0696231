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
    /// The value that came first, or last, of those that are not null. The type of the argument.
    FirstValue,
    LastValue,
    /// Texts in order of arrival, with [`AggregateCall::separator`] between them; null without one.
    ListAgg,
    /// Values in order of arrival, nulls included.
    ArrayAgg,
    /// A MULTISET of the values that are not null: how often each occurs, as a MAP from value to INT.
    Collect,
    /// Deviation and variance: of the population, of a sample. The type of AVG.
    StddevPop,
    StddevSamp,
    VarPop,
    VarSamp,
    /// The one value of a scalar subquery; a second row fails the job. The type of the argument.
    SingleValue,
}

impl AggregateFunction {
    pub fn name(self) -> &'static str {
        match self {
            AggregateFunction::Count => "COUNT",
            AggregateFunction::Sum => "SUM",
            AggregateFunction::Avg => "AVG",
            AggregateFunction::Min => "MIN",
            AggregateFunction::Max => "MAX",
            AggregateFunction::FirstValue => "FIRST_VALUE",
            AggregateFunction::LastValue => "LAST_VALUE",
            AggregateFunction::ListAgg => "LISTAGG",
            AggregateFunction::ArrayAgg => "ARRAY_AGG",
            AggregateFunction::Collect => "COLLECT",
            AggregateFunction::StddevPop => "STDDEV_POP",
            AggregateFunction::StddevSamp => "STDDEV_SAMP",
            AggregateFunction::VarPop => "VAR_POP",
            AggregateFunction::VarSamp => "VAR_SAMP",
            AggregateFunction::SingleValue => "SINGLE_VALUE",
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
    /// What stands between the texts of LISTAGG; `None` for every other function.
    pub separator: Option<String>,
    /// Name and type of the result.
    pub output: FieldRef,
}

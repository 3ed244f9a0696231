//! The functions that need OVER as DataFusion's binder sees them: names and result types only. `ops` computes them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use thalweg_core::{Code, Diagnostic};
use thalweg_plan::RankFunction;

use super::error::refuse;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum WindowFunction {
    Rank(RankFunction),
    Lag,
}

/// One value for each function.
pub(crate) fn all() -> Vec<Arc<WindowUDF>> {
    use WindowFunction::{Lag, Rank};
    [Rank(RankFunction::RowNumber), Rank(RankFunction::Rank), Rank(RankFunction::DenseRank), Lag]
        .into_iter()
        .map(|function| Arc::new(WindowUDF::from(PlannedFunction::new(function))))
        .collect()
}

/// The engine's function behind a bound one, if it is one of ours.
pub(crate) fn of(function: &WindowUDF) -> Option<WindowFunction> {
    let inner: &dyn std::any::Any = function.inner().as_ref();
    inner.downcast_ref::<PlannedFunction>().map(|planned| planned.function)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PlannedFunction {
    function: WindowFunction,
    signature: Signature,
}

impl PlannedFunction {
    fn new(function: WindowFunction) -> Self {
        let signature = match function {
            WindowFunction::Rank(_) => Signature::nullary(Volatility::Immutable),
            WindowFunction::Lag => Signature::user_defined(Volatility::Immutable),
        };
        PlannedFunction { function, signature }
    }
}

impl WindowUDFImpl for PlannedFunction {
    fn name(&self) -> &str {
        match self.function {
            WindowFunction::Rank(RankFunction::RowNumber) => "row_number",
            WindowFunction::Rank(RankFunction::Rank) => "rank",
            WindowFunction::Rank(RankFunction::DenseRank) => "dense_rank",
            WindowFunction::Lag => "lag",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [value] => Ok(vec![value.clone()]),
            [value, offset] if offset.is_integer() => Ok(vec![value.clone(), DataType::Int64]),
            [value, offset, _] if offset.is_integer() => Ok(vec![value.clone(), DataType::Int64, value.clone()]),
            _ => Err(refuse(
                Diagnostic::error(Code::BAD_ARGUMENTS, "LAG takes a value, a number of rows and a default")
                    .help("LAG(amount), LAG(amount, 2) or LAG(amount, 2, 0)"),
            )),
        }
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        internal_err!("{} runs in the engine", self.name())
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let name = args.name();
        match (self.function, args.input_fields()) {
            (WindowFunction::Rank(_), _) => Ok(Arc::new(Field::new(name, DataType::Int64, false))),
            (WindowFunction::Lag, [value, rest @ ..]) => {
                // There is always a first row, so without a default that is never null the result may be null.
                let is_nullable = value.is_nullable() || rest.get(1).is_none_or(|default| default.is_nullable());
                Ok(Arc::new(value.as_ref().clone().with_name(name).with_nullable(is_nullable)))
            }
            (WindowFunction::Lag, []) => internal_err!("LAG has a value"),
        }
    }
}

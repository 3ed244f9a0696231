//! The aggregate functions as DataFusion's binder sees them: names and result types only. `ops` computes them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use thalweg_core::{Code, Diagnostic};
use thalweg_plan::AggregateFunction;

use super::error::refuse;
use super::type_name::{SQL_TYPE, sql_type_name, sql_type_of};

/// One value for each aggregate function that runs.
pub(crate) fn all() -> Vec<Arc<AggregateUDF>> {
    use AggregateFunction::{
        ArrayAgg, Avg, Collect, Count, FirstValue, LastValue, ListAgg, Max, Min, StddevPop, StddevSamp, Sum, VarPop, VarSamp,
    };
    let named =
        [Count, Sum, Avg, Min, Max, FirstValue, LastValue, ListAgg, ArrayAgg, Collect, StddevPop, StddevSamp, VarPop, VarSamp]
            .map(|function| (function, function.name()));
    let second_names = [(StddevSamp, "STDDEV"), (VarSamp, "VARIANCE")];
    named
        .into_iter()
        .chain(second_names)
        .map(|(function, name)| Arc::new(AggregateUDF::from(PlannedAggregate::new(function, name))))
        // Becomes arithmetic on the number of the grouping set before anything else looks at it.
        .chain([datafusion::functions_aggregate::grouping::grouping_udaf()])
        .collect()
}

/// COUNT, for calls that no text stands behind.
pub(crate) fn count() -> Arc<AggregateUDF> {
    planned(AggregateFunction::Count)
}

/// What sees to it that a subquery that stands for a value gives one row. No name in SQL leads to it.
pub(crate) fn single_value() -> Arc<AggregateUDF> {
    planned(AggregateFunction::SingleValue)
}

fn planned(function: AggregateFunction) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(PlannedAggregate::new(function, function.name())))
}

/// The engine's function behind a bound aggregate, if it is one of ours.
pub(crate) fn of(function: &AggregateUDF) -> Option<AggregateFunction> {
    let inner: &dyn std::any::Any = function.inner().as_ref();
    inner.downcast_ref::<PlannedAggregate>().map(|planned| planned.function)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PlannedAggregate {
    function: AggregateFunction,
    name: String,
    signature: Signature,
}

impl PlannedAggregate {
    fn new(function: AggregateFunction, name: &str) -> Self {
        let name = match function {
            // In lower case DataFusion's binder would take them for its own window functions wherever OVER follows.
            AggregateFunction::FirstValue | AggregateFunction::LastValue => name.to_uppercase(),
            // It knows `COUNT(*)` by the name "count".
            _ => name.to_lowercase(),
        };
        PlannedAggregate { function, name, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn refusal(&self, wanted: &str, argument: &DataType) -> DataFusionError {
        let message = format!("{} takes {wanted}, not {}", self.name.to_uppercase(), sql_type_name(argument));
        refuse(Diagnostic::error(Code::BAD_ARGUMENTS, message))
    }

    /// The result type over an argument type, or what kind of argument the function wants.
    fn result(&self, argument: &DataType) -> Result<DataType, &'static str> {
        match self.function {
            AggregateFunction::Count => Ok(DataType::Int64),
            AggregateFunction::Sum => match argument {
                DataType::Decimal128(_, scale) => Ok(DataType::Decimal128(38, *scale)),
                number if number.is_numeric() => Ok(number.clone()),
                _ => Err("a number"),
            },
            AggregateFunction::Avg
            | AggregateFunction::StddevPop
            | AggregateFunction::StddevSamp
            | AggregateFunction::VarPop
            | AggregateFunction::VarSamp => match argument {
                DataType::Decimal128(_, scale) => Ok(DataType::Decimal128(38, (*scale).max(6))),
                number if number.is_numeric() => Ok(number.clone()),
                _ => Err("a number"),
            },
            AggregateFunction::ListAgg => match argument {
                DataType::Utf8 => Ok(DataType::Utf8),
                _ => Err("a STRING"),
            },
            AggregateFunction::FirstValue | AggregateFunction::LastValue | AggregateFunction::SingleValue => match argument {
                DataType::Null => Err("a value with a type"),
                other => Ok(other.clone()),
            },
            AggregateFunction::ArrayAgg => match argument {
                DataType::Null => Err("a value with a type"),
                other => Ok(DataType::List(Arc::new(Field::new("item", other.clone(), true)))),
            },
            AggregateFunction::Collect => match argument {
                DataType::Null => Err("a value with a type"),
                other => {
                    let entries = vec![Field::new("key", other.clone(), false), Field::new("value", DataType::Int32, false)];
                    Ok(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false))
                }
            },
            AggregateFunction::Min | AggregateFunction::Max => match argument {
                nested if nested.is_nested() => Err("a value that can be compared"),
                DataType::Null => Err("a value with a type"),
                other => Ok(other.clone()),
            },
        }
    }
}

impl AggregateUDFImpl for PlannedAggregate {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name.to_uppercase();
        if let (AggregateFunction::ListAgg, [argument, separator]) = (self.function, arg_types) {
            self.result(argument).map_err(|wanted| self.refusal(wanted, argument))?;
            return Ok(vec![argument.clone(), separator.clone()]);
        }
        let [argument] = arg_types else {
            return Err(refuse(
                Diagnostic::error(Code::BAD_ARGUMENTS, format!("{name} takes one argument, not {}", arg_types.len()))
                    .help("to count pairs, count a ROW or a text made of both"),
            ));
        };
        match self.result(argument) {
            Ok(_) => Ok(vec![argument.clone()]),
            Err(wanted) => Err(self.refusal(wanted, argument)),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [] => Ok(DataType::Int64),
            [argument, ..] => self.result(argument).map_err(|wanted| self.refusal(wanted, argument)),
        }
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        let types: Vec<DataType> = arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.name(), self.return_type(&types)?, self.is_nullable());
        Ok(Arc::new(match (self.function, arg_fields) {
            // The smallest of some TIMESTAMP(3) is a TIMESTAMP(3).
            (
                AggregateFunction::Min
                | AggregateFunction::Max
                | AggregateFunction::FirstValue
                | AggregateFunction::LastValue
                | AggregateFunction::SingleValue,
                [argument],
            ) => field.with_metadata(argument.metadata().clone()),
            // In Arrow a MULTISET is a MAP.
            (AggregateFunction::Collect, [argument]) => {
                field.with_metadata([(SQL_TYPE.to_string(), format!("MULTISET<{}>", sql_type_of(argument)))].into())
            }
            _ => field,
        }))
    }

    /// The result over no rows, for subqueries that find none.
    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match self.function {
            AggregateFunction::Count => Ok(ScalarValue::Int64(Some(0))),
            _ => ScalarValue::try_from(data_type),
        }
    }

    fn is_nullable(&self) -> bool {
        self.function != AggregateFunction::Count
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        internal_err!("aggregates run in the engine, not in DataFusion")
    }
}

//! SINGLE_VALUE: the value of a scalar subquery.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::row::Rows;
use thalweg_core::{Error, Result};

use super::extremum::bind;
use super::values::EncodedValues;
use super::{Fold, Problem, ValueCodec};

/// The value of the one row that is there, null without one; a second row is an error, as in Flink. So an update must take the
/// old row back before it brings the new one. State: the number of rows, 0 or 1, and the value.
pub(super) struct SingleValue {
    codec: ValueCodec,
}

impl SingleValue {
    pub(super) fn new(argument: &DataType) -> Result<Self> {
        Ok(SingleValue { codec: ValueCodec::new(argument)? })
    }
}

impl Fold for SingleValue {
    /// The row that is there; its value may be null.
    type State = Option<Box<[u8]>>;
    type Bound = Rows;
    type Results = EncodedValues;

    fn takes_nulls(&self) -> bool {
        true
    }

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Rows> {
        bind(&self.codec, argument)
    }

    fn add(&self, state: &mut Self::State, values: &Rows, row: usize, weight: i64) -> Result<(), Problem> {
        let value = values.row(row).data();
        match (weight, state.as_deref()) {
            (1, None) => *state = Some(value.into()),
            (-1, Some(known)) if known == value => *state = None,
            (weight, _) if weight < 0 => return Err(Problem::NotThere),
            _ => {
                let error = Error::record("the scalar subquery gives more than one row")
                    .with_help("let it give one row whatever comes: an aggregate without GROUP BY, such as MAX, or a LIMIT 1");
                return Err(Problem::Failed(error));
            }
        }
        Ok(())
    }

    fn push_result(&self, state: &Self::State, results: &mut EncodedValues) -> Result<(), Problem> {
        results.push(state.as_deref());
        Ok(())
    }

    fn finish(&self, results: EncodedValues) -> Result<ArrayRef> {
        results.decode(&self.codec)
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("rows", DataType::Int64, false), Field::new("value", self.codec.data_type().clone(), true)]
    }

    fn write(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>> {
        let rows = Int64Array::from_iter_values(states.iter().map(|state| i64::from(state.is_some())));
        Ok(vec![Arc::new(rows), self.codec.decode(states.iter().map(|state| state.as_deref()))?])
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Self::State>> {
        let rows = columns[0].as_primitive::<Int64Type>();
        let values = self.codec.encode(&columns[1])?;
        Ok((0..rows.len()).map(|row| (rows.value(row) != 0).then(|| values.row(row).data().into())).collect())
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        state.as_ref().map_or(0, |value| value.len())
    }

    fn result_bytes(&self, state: &Self::State) -> usize {
        self.heap_bytes(state)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use thalweg_core::ErrorKind;
    use thalweg_plan::{AggregateCall, AggregateFunction};

    use super::*;
    use crate::running::{CallRows, Items, RunningAccumulator, create};

    /// The results behind rows `(value, weight)` of one group.
    fn check(accumulator: &mut dyn RunningAccumulator, rows: &[(Option<i64>, i64)]) -> Result<Vec<Option<i64>>> {
        let argument: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|(value, _)| *value)));
        let weights = Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight));
        let results = accumulator.update(&CallRows {
            argument: Some(&argument),
            filter: None,
            weights: Some(&weights),
            groups: &vec![0; rows.len()],
            empties: &vec![false; rows.len()],
            wanted: None,
            describe: &|_| "the group".to_string(),
        })?;
        Ok(results.as_primitive::<Int64Type>().iter().collect())
    }

    fn accumulator() -> Box<dyn RunningAccumulator> {
        let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true)]));
        let call = AggregateCall {
            function: AggregateFunction::SingleValue,
            argument: Some(0),
            filter: None,
            distinct: false,
            separator: None,
            output: schema.fields()[0].clone(),
        };
        let mut accumulator = create(&call, &schema, true, Items::Stored).unwrap();
        accumulator.resize(1);
        accumulator
    }

    #[test]
    fn one_row_at_a_time() {
        let mut single = accumulator();
        let results = check(single.as_mut(), &[(Some(1), 1), (Some(1), -1), (None, 1), (None, -1), (Some(2), 1)]).unwrap();
        assert_eq!(results, [Some(1), None, None, None, Some(2)]);
        let error = check(single.as_mut(), &[(Some(2), 1)]).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Record, "the scalar subquery gives more than one row"));
    }

    #[test]
    fn a_null_is_a_row() {
        let mut single = accumulator();
        check(single.as_mut(), &[(None, 1)]).unwrap();
        let stored = single.state(&[0]).unwrap();
        let mut restored = accumulator();
        restored.restore(&stored, &[Some(0)]).unwrap();
        assert!(check(restored.as_mut(), &[(Some(7), 1)]).is_err());
        assert!(check(accumulator().as_mut(), &[(Some(7), 2)]).is_err());
        let error = check(accumulator().as_mut(), &[(Some(7), 1), (Some(8), -1)]).unwrap_err();
        assert_eq!(error.message, "SINGLE_VALUE(value) is to take back a value that it does not hold, in the group");
    }
}

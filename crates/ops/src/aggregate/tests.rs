//! All aggregates against plain Rust, whole and in pieces that are merged.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int64Array, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use thalweg_core::ErrorKind;
use thalweg_plan::{AggregateCall, AggregateFunction};

use super::*;

const ALL: [AggregateFunction; 5] =
    [AggregateFunction::Count, AggregateFunction::Sum, AggregateFunction::Avg, AggregateFunction::Min, AggregateFunction::Max];

/// The type that the planner gives to the result.
fn output_type(function: AggregateFunction, argument: &DataType) -> DataType {
    match (function, argument) {
        (AggregateFunction::Count, _) => DataType::Int64,
        (AggregateFunction::Sum, DataType::Decimal128(_, scale)) => DataType::Decimal128(38, *scale),
        (AggregateFunction::Avg, DataType::Decimal128(_, scale)) => DataType::Decimal128(38, (*scale).max(6)),
        _ => argument.clone(),
    }
}

fn factory(function: AggregateFunction, argument: &DataType, distinct: bool) -> AggregateFactory {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("total", argument.clone(), true)]));
    let output = Arc::new(Field::new("result", output_type(function, argument), true));
    AggregateFactory::new(
        &AggregateCall { function, argument: Some(0), filter: None, distinct, separator: None, output },
        &schema,
    )
    .unwrap()
}

fn describe(group: usize) -> String {
    format!("group {group}")
}

fn texts(array: &ArrayRef) -> Vec<String> {
    (0..array.len())
        .map(|row| if array.is_null(row) { "-".to_string() } else { array_value_to_string(array, row).unwrap() })
        .collect()
}

/// The results of COUNT, SUM, AVG, MIN, MAX over one group; `!` for functions that do not take the type.
fn check(values: impl Array + 'static, expected: [&str; 5]) {
    let values: ArrayRef = Arc::new(values);
    for (function, expected) in ALL.into_iter().zip(expected) {
        if expected == "!" {
            continue;
        }
        let mut accumulator = factory(function, values.data_type(), false).create().unwrap();
        accumulator.update(Some(&values), None, None, &vec![0; values.len()], 1).unwrap();
        let result = accumulator.evaluate(None, &describe).unwrap();
        assert_eq!(result.data_type(), &output_type(function, values.data_type()), "{function:?}");
        assert_eq!(texts(&result), [expected], "{function:?} of {values:?}");
        // The state means the same as the rows.
        let mut merged = factory(function, values.data_type(), false).create().unwrap();
        let states = accumulator.state(None).unwrap();
        for (field, state) in accumulator.state_fields().iter().zip(&states) {
            assert_eq!(field.data_type(), state.data_type());
        }
        merged.merge(&states, &[0], 1).unwrap();
        assert_eq!(texts(&merged.evaluate(None, &describe).unwrap()), [expected], "merged {function:?}");
    }
}

#[test]
fn results_by_type() {
    check(Int64Array::from(vec![Some(-7), None, Some(0)]), ["2", "-7", "-3", "-7", "0"]);
    check(Int64Array::from(vec![None, None]), ["0", "-", "-", "-", "-"]);
    check(Int8Array::from(vec![3, 4]), ["2", "7", "3", "3", "4"]);
    check(Float64Array::from(vec![1.5, -0.25]), ["2", "1.25", "0.625", "-0.25", "1.5"]);
    check(Float32Array::from(vec![1.5, -0.25]), ["2", "1.25", "0.625", "-0.25", "1.5"]);
    let decimals = Decimal128Array::from(vec![100, 25, 25]).with_precision_and_scale(10, 2).unwrap();
    check(decimals, ["3", "1.50", "0.500000", "0.25", "1.00"]);
    check(StringArray::from(vec![Some("b"), None, Some("ab"), Some("é")]), ["3", "!", "!", "ab", "é"]);
    check(BooleanArray::from(vec![Some(true), None, Some(false)]), ["2", "!", "!", "false", "true"]);
    check(Date32Array::from(vec![1, 0]), ["2", "!", "!", "1970-01-01", "1970-01-02"]);
}

#[test]
fn overflow_is_an_error_for_integers_and_null_for_decimals() {
    let mut sum = factory(AggregateFunction::Sum, &DataType::Int64, false).create().unwrap();
    let values: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, 1]));
    sum.update(Some(&values), None, None, &[1, 1], 2).unwrap();
    let error = sum.evaluate(None, &describe).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Record, "SUM(total) overflows BIGINT for group 1"));
    assert_eq!(texts(&sum.evaluate(Some(&[0]), &describe).unwrap()), ["-"]);
    // A sum may leave the type on its way.
    let back: ArrayRef = Arc::new(Int64Array::from(vec![-1]));
    sum.update(Some(&back), None, None, &[1], 2).unwrap();
    assert_eq!(texts(&sum.evaluate(None, &describe).unwrap()), ["-", "9223372036854775807"]);

    let most = 10_i128.pow(38) - 1;
    let values = Decimal128Array::from(vec![most, most, most]).with_precision_and_scale(38, 0).unwrap();
    check(values, ["3", "-", "-", &most.to_string(), &most.to_string()]);
}

#[test]
fn weights_take_back() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![5, 7, 5]));
    let weights = Int64Array::from(vec![2, 1, -1]);
    for (function, expected) in [(AggregateFunction::Count, "2"), (AggregateFunction::Sum, "12"), (AggregateFunction::Avg, "6")] {
        let mut accumulator = factory(function, &DataType::Int64, false).create().unwrap();
        accumulator.update(Some(&values), None, Some(&weights), &[0, 0, 0], 1).unwrap();
        assert_eq!(texts(&accumulator.evaluate(None, &describe).unwrap()), [expected]);
    }
    for (function, distinct) in [(AggregateFunction::Min, false), (AggregateFunction::Count, true)] {
        let mut accumulator = factory(function, &DataType::Int64, distinct).create().unwrap();
        let error = accumulator.update(Some(&values), None, Some(&weights), &[0, 0, 0], 1).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
    }
}

#[test]
fn types_that_do_not_fit_are_refused() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("word", DataType::Utf8, true)]));
    let output = Arc::new(Field::new("result", DataType::Utf8, true));
    let call = AggregateCall {
        function: AggregateFunction::Sum,
        argument: Some(0),
        filter: None,
        distinct: false,
        separator: None,
        output,
    };
    let error = AggregateFactory::new(&call, &schema).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::User, "SUM(word) does not take Utf8 to give Utf8"));
}

/// What the aggregate of `values` (those that count) is, as text.
fn naive(function: AggregateFunction, distinct: bool, mut values: Vec<i64>) -> String {
    if distinct {
        values.sort_unstable();
        values.dedup();
    }
    match function {
        AggregateFunction::Count => values.len().to_string(),
        _ if values.is_empty() => "-".to_string(),
        AggregateFunction::Sum => values.iter().sum::<i64>().to_string(),
        AggregateFunction::Avg => (values.iter().sum::<i64>() / values.len() as i64).to_string(),
        AggregateFunction::Min => values.iter().min().unwrap().to_string(),
        AggregateFunction::Max => values.iter().max().unwrap().to_string(),
        other => panic!("{} does not run in windows", other.name()),
    }
}

type Row = (usize, Option<i64>, Option<bool>);

proptest! {
    /// Rows in any pieces, each piece by itself and then merged, with filter and nulls, as a list or all at once.
    #[test]
    fn pieces_agree_with_plain_rust(
        pieces in prop::collection::vec(
            prop::collection::vec((0_usize..4, prop::option::of(-3_i64..4), prop::option::of(any::<bool>())), 0..12),
            1..5,
        ),
        distinct in any::<bool>(),
    ) {
        for function in ALL {
            let factory = factory(function, &DataType::Int64, distinct);
            let mut whole = factory.create().unwrap();
            let mut merged = factory.create().unwrap();
            let update = |accumulator: &mut Box<dyn GroupAccumulator>, rows: &[Row]| {
                let values: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.1)));
                let filter = BooleanArray::from_iter(rows.iter().map(|row| row.2));
                let groups: Vec<usize> = rows.iter().map(|row| row.0).collect();
                accumulator.update(Some(&values), Some(&filter), None, &groups, 4).unwrap();
            };
            for piece in &pieces {
                update(&mut whole, piece);
                let mut part = factory.create().unwrap();
                update(&mut part, piece);
                // Groups 3, 1, 2, 0: states are read for a choice of groups, in the order asked for.
                merged.merge(&part.state(Some(&[3, 1, 2, 0])).unwrap(), &[3, 1, 2, 0], 4).unwrap();
            }
            let rows: Vec<Row> = pieces.iter().flatten().copied().collect();
            let expected: Vec<String> = (0..4)
                .map(|group| {
                    let counts = |row: &&Row| row.0 == group && row.2 == Some(true);
                    naive(function, distinct, rows.iter().filter(counts).filter_map(|row| row.1).collect())
                })
                .collect();
            prop_assert_eq!(&texts(&whole.evaluate(None, &describe).unwrap()), &expected);
            prop_assert_eq!(&texts(&merged.evaluate(None, &describe).unwrap()), &expected);
            let chosen = texts(&merged.evaluate(Some(&[2, 0]), &describe).unwrap());
            prop_assert_eq!(chosen, [expected[2].clone(), expected[0].clone()]);
        }
    }
}

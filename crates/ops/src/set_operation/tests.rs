//! INTERSECT and EXCEPT behind an exchange, against counts in plain Rust.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{BooleanArray, Int64Array};
use proptest::prelude::*;
use proptest::sample::Index;
use thalweg_core::ErrorKind;
use thalweg_plan::NodeKind;

use super::*;
use crate::lane_harness::{BATCH_ROWS, Integral, Lanes, Values, rows_of, schema_of, weighted};
use crate::test_lanes::lines;

#[derive(Clone, Debug)]
enum Step {
    Insert(usize, Values, i64),
    /// Of the rows of an input that are there one goes, this often if it is there so often.
    TakeBack(usize, Index, i64),
    /// The batch ends, and the lanes start again if there is a number of them.
    Cut(Option<u32>),
}

fn schema() -> SchemaRef {
    schema_of(&["key", "real_bits"])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let other_nan = f64::from_bits(f64::NAN.to_bits() + 1);
    let reals = [0.0, -0.0, f64::NAN, -f64::NAN, other_nan, f64::INFINITY].map(|real| Some(real.to_bits() as i64));
    let reals: Vec<_> = reals.into_iter().chain([None]).collect();
    let row = (prop::option::of(0_i64..2), prop::sample::select(reals)).prop_map(|(key, real)| vec![key, real]);
    let step = prop_oneof![
        8 => (0_usize..2, row, 1_i64..3).prop_map(|(port, row, times)| Step::Insert(port, row, times)),
        5 => (0_usize..2, any::<Index>(), 1_i64..3).prop_map(|(port, index, times)| Step::TakeBack(port, index, times)),
        2 => Just(Step::Cut(None)),
        2 => prop::sample::select(vec![1_u32, 2, 4]).prop_map(|lanes| Step::Cut(Some(lanes))),
    ];
    prop::collection::vec(step, 0..80)
}

fn operations() -> impl Strategy<Value = SetOperation> {
    let kind = prop::sample::select(vec![SetKind::Intersect, SetKind::Except]);
    (kind, any::<bool>()).prop_map(|(kind, all)| SetOperation { kind, all })
}

/// The row with one NaN for all.
fn canonical(row: &Values) -> Values {
    let real = row[1].map(|bits| if f64::from_bits(bits as u64).is_nan() { f64::NAN.to_bits() as i64 } else { bits });
    vec![row[0], real]
}

/// The result over how often each row is there on each side.
fn reference(operation: SetOperation, sides: &[BTreeMap<Values, i64>; 2]) -> Integral {
    let mut result = Integral::default();
    for (row, left) in &sides[0] {
        let right = sides[1].get(row).copied().unwrap_or(0);
        let times = match (operation.kind, operation.all) {
            (SetKind::Intersect, true) => {
                if right < *left {
                    right
                } else {
                    *left
                }
            }
            (SetKind::Except, true) => {
                if right < *left {
                    left - right
                } else {
                    0
                }
            }
            (SetKind::Intersect, false) => i64::from(right > 0),
            (SetKind::Except, false) => i64::from(right == 0),
        };
        if times > 0 {
            result.change(row.clone(), times);
        }
    }
    result
}

fn check(operation: SetOperation, steps: &[Step]) -> Result<(), TestCaseError> {
    let inputs = vec![schema(), schema()];
    let mut lanes = Lanes::new(NodeKind::SetOperation(operation), schema(), inputs, vec![vec![0, 1]; 2]);
    let mut sides: [BTreeMap<Values, i64>; 2] = [BTreeMap::new(), BTreeMap::new()];
    let mut pending: Vec<(usize, (Values, i64))> = vec![];
    let mut output = Integral::default();
    for step in steps.iter().chain([&Step::Cut(None)]) {
        match step {
            Step::Insert(port, row, times) => {
                *sides[*port].entry(canonical(row)).or_default() += times;
                pending.push((*port, (row.clone(), *times)));
            }
            Step::TakeBack(port, index, times) if !sides[*port].is_empty() => {
                let at = index.index(sides[*port].len());
                let (row, held) = sides[*port].iter_mut().nth(at).unwrap();
                let times = (*times).min(*held);
                *held -= times;
                pending.push((*port, (row.clone(), -times)));
                sides[*port].retain(|_, held| *held > 0);
            }
            Step::TakeBack(..) => {}
            Step::Cut(restart) => {
                for rows in pending.chunk_by(|one, other| one.0 == other.0) {
                    for part in rows.chunks(BATCH_ROWS) {
                        let rows: Vec<_> = part.iter().map(|(_, row)| row.clone()).collect();
                        lanes.batch(part[0].0, &weighted(&schema(), &rows));
                    }
                }
                pending.clear();
                lanes.output.drain(..).for_each(|(batch, _)| output.add(&batch));
                prop_assert_eq!(&output.0, &reference(operation, &sides).0);
                let rows: BTreeSet<_> = sides[0].keys().chain(sides[1].keys()).collect();
                prop_assert_eq!(lanes.state_rows(), rows.len() as u64);
                if let Some(restart) = restart {
                    lanes.restart(*restart);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_result_follows_the_counts_of_both_sides(operation in operations(), steps in steps()) {
        check(operation, &steps)?;
    }
}

fn operator(kind: SetKind) -> SetOperationOperator {
    SetOperationOperator::new(&SetOperation { kind, all: false }, &schema(), schema()).unwrap()
}

#[test]
fn a_change_of_the_result_has_the_mark_of_the_row_that_made_it() {
    let mut operator = operator(SetKind::Intersect);
    let rows = |rows: &[(i64, i64)]| {
        let rows: Vec<_> = rows.iter().map(|(key, weight)| (vec![Some(*key), None], *weight)).collect();
        weighted(&schema(), &rows)
    };
    let mut out = Output::default();
    operator.on_batch(0, rows(&[(1, 1), (2, 1)]), &mut out).unwrap();
    operator.on_batch(1, rows(&[(1, 1), (3, 1)]), &mut out).unwrap();
    let updates = Some(BooleanArray::from(vec![true, true]));
    operator.on_batch(1, Batch { updates, ..rows(&[(1, -1), (2, 1)]) }, &mut out).unwrap();
    assert_eq!(lines(&out.batches), ["+I 1 -", "-U 1 -", "+U 2 -"]);
}

#[test]
fn nothing_can_be_taken_back_that_is_not_there() {
    let row = Batch { weights: Some(Int64Array::from(vec![-1])), ..Batch::append(rows_of(&schema(), &[vec![Some(1), None]])) };
    let mut operator = operator(SetKind::Except);
    let error = operator.on_batch(0, row.clone(), &mut Output::default()).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Record, "a row is taken back that is not there: (1, NULL)"));
    operator.ignore_unmatched();
    let mut out = Output::default();
    operator.on_batch(0, row.clone(), &mut out).unwrap();
    operator.on_batch(0, Batch { weights: None, ..row }, &mut out).unwrap();
    assert_eq!((lines(&out.batches), operator.metrics().unmatched_rows), (vec!["+I 1 -".to_string()], 1));
}

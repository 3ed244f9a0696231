//! What the join's tests do not show: how much is written, and how many runs there are.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use thalweg_state::SlotChange;

use super::*;

fn keyed_runs(is_updating: bool, time_to_live_ms: Option<i64>) -> KeyedRuns {
    let schema = Schema::new(vec![Field::new("key", DataType::Int64, false), Field::new("value", DataType::Int64, false)]);
    let mut held = KeyedRuns::new(KeyedRunsOptions {
        name: "rows",
        holder: "a test",
        lane: LaneId(0),
        schema: Arc::new(schema),
        keys: vec![0],
        is_single: false,
        is_updating,
        counts_matches: true,
        time_to_live_ms,
    });
    held.for_tests(4_800, false);
    held
}

fn apply(held: &mut KeyedRuns, rows: &[(i64, i64, i64)]) -> Vec<Place> {
    let column = |pick: fn(&(i64, i64, i64)) -> i64| Int64Array::from_iter_values(rows.iter().map(pick));
    let columns: Vec<ArrayRef> = vec![Arc::new(column(|row| row.0)), Arc::new(column(|row| row.1))];
    let batch = RecordBatch::try_new(held.options.schema.clone(), columns).unwrap();
    let hashes = held.hashes(&batch.columns()[..1], rows.len()).unwrap();
    held.apply(&batch, &hashes, Some(&column(|row| row.2))).unwrap()
}

/// The values of a key, in order.
fn values(held: &KeyedRuns, key: i64) -> Vec<i64> {
    use arrow::array::AsArray;
    let keys: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![key]))];
    let hashes = held.hashes(&keys, 1).unwrap();
    let mut matches = Matches::new(held.probe(&keys, &hashes, &[0]).unwrap());
    let mut places = vec![];
    assert!(matches.collect(held, 0, &mut Room { rows: usize::MAX, bytes: usize::MAX }, &mut places));
    let values = held.gather(1, &held.locate(&places)).unwrap();
    values.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
}

fn rows_written(held: &mut KeyedRuns) -> usize {
    let rows = |change: &SlotChange| match change {
        SlotChange::Replace(rows) | SlotChange::Merge(rows) => rows.num_rows(),
        SlotChange::Drop => 0,
    };
    held.snapshot().unwrap().iter().map(|(_, change)| rows(change)).sum()
}

#[test]
fn runs_stay_few_and_each_row_is_written_few_times() {
    let mut held = keyed_runs(false, None);
    let mut written = 0;
    for step in 0..1_000_i64 {
        let rows: Vec<_> = (0..100).map(|row| (row, step, 1)).collect();
        apply(&mut held, &rows);
        held.maintain().unwrap();
        written += rows_written(&mut held);
        // 15 that are as large as they get, and 3 of each size below.
        assert!(held.runs.len() <= 15 + 3 * 3, "{} runs after {step} steps", held.runs.len());
    }
    assert_eq!(held.len(), 100_000);
    assert!(written < 8 * 100_000, "{written} rows written");
    assert_eq!(values(&held, 7), (0..1_000).collect::<Vec<_>>(), "in order of arrival");
}

#[test]
fn a_small_table_that_changes_much_stays_small() {
    let mut held = keyed_runs(true, None);
    let mut written = 0;
    for step in 0..2_000_i64 {
        let back = if step > 0 { vec![(step % 5, step - 5, -1)] } else { vec![] };
        let back: Vec<_> = back.into_iter().filter(|row| row.1 >= 0).collect();
        apply(&mut held, &[back.as_slice(), &[(step % 5, step, 1)]].concat());
        held.maintain().unwrap();
        written += rows_written(&mut held);
    }
    assert_eq!(held.len(), 5);
    assert!(held.size_bytes() < 50_000 && held.runs.len() <= 1, "{} bytes, {} runs", held.size_bytes(), held.runs.len());
    assert!(written < 20_000, "{written} rows written");
    assert_eq!(values(&held, 3), [1_998]);
}

#[test]
fn a_changed_row_of_a_large_run_costs_one_row() {
    let mut held = keyed_runs(true, None);
    let rows: Vec<_> = (0..10_000).map(|row| (row, row, 1)).collect();
    apply(&mut held, &rows);
    held.maintain().unwrap();
    assert_eq!((held.runs.len(), rows_written(&mut held)), (1, 10_000));
    let mut written = 0;
    for step in 0..500 {
        apply(&mut held, &[(step, step, -1)]);
        let place = Place { segment: 0, position: 9_000 };
        held.set_matches(place, step + 1);
        held.maintain().unwrap();
        written += rows_written(&mut held);
    }
    // The slot of changes is written whole every 32 times.
    assert!(written < 500 * 2 * 12, "{written} rows written");
    assert_eq!(held.len(), 9_500);
}

#[test]
fn gone_rows_are_left_out_of_their_run() {
    let mut held = keyed_runs(true, None);
    let rows: Vec<_> = (0..1_000).map(|row| (row, row, 1)).collect();
    apply(&mut held, &rows);
    held.maintain().unwrap();
    rows_written(&mut held);
    let back: Vec<_> = (0..600).map(|row| (row, row, -1)).collect();
    apply(&mut held, &back);
    held.maintain().unwrap();
    assert_eq!((held.runs[0].len(), rows_written(&mut held)), (400, 400));
    let back: Vec<_> = (600..1_000).map(|row| (row, row, -1)).collect();
    apply(&mut held, &back);
    held.maintain().unwrap();
    assert!(held.runs.is_empty());
    assert!(matches!(held.snapshot().unwrap().as_slice(), [(slot, SlotChange::Drop)] if slot.0 == "rows/0/run/0-0"));
}

#[test]
fn runs_go_whole_when_their_time_has_come() {
    let mut held = keyed_runs(false, Some(1_000));
    for step in 0..40 {
        let rows: Vec<_> = (0..100).map(|row| (row, step, 1)).collect();
        apply(&mut held, &rows);
        held.maintain().unwrap();
        held.on_time(step * 100).unwrap();
        rows_written(&mut held);
        assert!(held.len() <= 2_700, "{} rows", held.len());
    }
    // Nothing younger than the time to live is gone, and nothing much older is there.
    let left = values(&held, 5);
    assert!(left.ends_with(&(29..40).collect::<Vec<_>>()) && left.len() < 27, "{left:?}");
}

#[test]
fn a_row_that_comes_again_adds_to_the_first() {
    let mut held = keyed_runs(true, None);
    let places = apply(&mut held, &[(1, 1, 1), (1, 2, 1), (1, 1, 2)]);
    assert_eq!(places[0], places[2]);
    assert_eq!((held.weight(places[0]), held.len()), (3, 2));
    apply(&mut held, &[(1, 1, -3), (1, 1, 1)]);
    assert_eq!(values(&held, 1), [2, 1]);
}

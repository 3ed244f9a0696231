use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;
use thalweg_core::ErrorKind;

use super::*;
use crate::OperatorContext;
use crate::test_lanes::{Lanes, lines};

/// `(key, value, weight)`
type Row = (i64, i64, i64);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["key", "value"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn batch(rows: &[Row]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
    ];
    let weights = Some(Int64Array::from_iter_values(rows.iter().map(|row| row.2)));
    Batch { weights, ..Batch::append(RecordBatch::try_new(schema(), columns).unwrap()) }
}

fn operator(conflict: Conflict) -> Box<dyn Operator> {
    Box::new(SinkMaterializeOperator::new(&SinkMaterialize { keys: vec![0], conflict }, &schema(), schema()).unwrap())
}

/// The changelog of each key.
fn naive(rows: &[Row], conflict: Conflict) -> BTreeMap<String, Vec<String>> {
    let mut lists: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut logs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let shown = |list: &[i64]| if conflict == Conflict::Deduplicate { list.last().copied() } else { list.first().copied() };
    for (key, value, weight) in rows {
        for _ in 0..weight.unsigned_abs() {
            let list = lists.entry(*key).or_default();
            let before = shown(list);
            if *weight > 0 {
                list.push(*value);
            } else {
                list.remove(list.iter().position(|known| known == value).unwrap());
            }
            let log = logs.entry(key.to_string()).or_default();
            match (before, shown(list)) {
                (before, after) if before == after => {}
                (Some(before), Some(after)) => log.extend([format!("-U {key} {before}"), format!("+U {key} {after}")]),
                (Some(before), None) => log.push(format!("-D {key} {before}")),
                (None, Some(after)) => log.push(format!("+I {key} {after}")),
                (None, None) => {}
            }
        }
    }
    logs.retain(|_, log| !log.is_empty());
    logs
}

/// Rows of which none is taken back before it came.
fn sensible(rows: Vec<Row>) -> Vec<Row> {
    let mut counts: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    let keep = |row: &Row| {
        let count = counts.entry((row.0, row.1)).or_default();
        let is_sensible = *count + row.2 >= 0;
        *count += if is_sensible { row.2 } else { 0 };
        is_sensible
    };
    rows.into_iter().filter(keep).collect()
}

proptest! {
    #[test]
    fn one_row_of_a_key_is_shown(
        rows in prop::collection::vec((0_i64..3, 0_i64..4, -2_i64..4), 0..80),
        cuts in prop::collection::vec((1_usize..8, 0_u32..4), 1..20),
        is_last in any::<bool>(),
    ) {
        let conflict = if is_last { Conflict::Deduplicate } else { Conflict::Nothing };
        let rows = sensible(rows);
        let make = |_: &OperatorContext| operator(conflict);
        let mut lanes = Lanes::new(&make, vec![0]);
        let mut output: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut rest = rows.as_slice();
        for (length, restart) in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(*length));
            rest = later;
            for line in lines(&lanes.on_batch(&batch(now)).unwrap()) {
                output.entry(line.split(' ').nth(1).unwrap().to_string()).or_default().push(line);
            }
            if *restart > 0 {
                lanes.restart(*restart).unwrap();
            }
        }
        prop_assert_eq!(output, naive(&rows, conflict));
    }
}

#[test]
fn of_equal_rows_the_last_counts_too() {
    let make = |_: &OperatorContext| operator(Conflict::Deduplicate);
    let mut lanes = Lanes::new(&make, vec![0]);
    let changes = lines(&lanes.on_batch(&batch(&[(1, 10, 1), (1, 20, 1), (1, 10, 1), (1, 10, -1), (1, 10, -1)])).unwrap());
    assert_eq!(changes, ["+I 1 10", "-U 1 10", "+U 1 20", "-U 1 20", "+U 1 10", "-U 1 10", "+U 1 20"]);
}

#[test]
fn two_rows_are_an_error_when_they_stay() {
    let make = |_: &OperatorContext| operator(Conflict::Error);
    let mut lanes = Lanes::new(&make, vec![0]);
    // The new half of a change may come before the old one went.
    lanes.on_batch(&batch(&[(1, 10, 1), (1, 20, 1), (1, 10, -1)])).unwrap();
    lanes.restart(2).unwrap();
    lanes.on_batch(&batch(&[(1, 30, 1)])).unwrap();
    let error = lanes.snapshot().unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Record, "2 rows have the primary key key = 1"));
}

#[test]
fn what_was_never_there_cannot_be_taken_back() {
    let make = |_: &OperatorContext| operator(Conflict::Nothing);
    let error = Lanes::new(&make, vec![0]).on_batch(&batch(&[(1, 10, 1), (1, 20, -1)])).unwrap_err();
    assert_eq!(error.message, "a row is taken back that is not there: key = 1, value = 20");
}

//! Sorting by time, against a job that goes row by row with a watermark behind each, as Flink's.

use arrow::datatypes::SchemaRef;
use proptest::prelude::*;
use thalweg_core::{Batch, EventTime};
use thalweg_plan::{NodeKind, SortKey, TemporalSort};

use crate::lane_harness::{Lanes, Partition, Then, rows_of, schema_of, values_of};

type Values = Vec<Option<i64>>;

fn input() -> SchemaRef {
    schema_of(&["id", "ts", "value"])
}

fn sort() -> Lanes {
    let order = vec![SortKey { column: 2, descending: true, nulls_first: false }];
    let node = TemporalSort { time_column: 1, order };
    Lanes::new(NodeKind::TemporalSort(node), input(), vec![input()], vec![vec![]])
}

fn check(delay: i64, rows: &[(i64, i64, Then)]) {
    let mut lanes = sort();
    let mut partition = Partition::new(delay);
    let mut waiting: Vec<Values> = vec![];
    fn flush(lanes: &mut Lanes, waiting: &mut Vec<Values>, partition: &mut Partition) {
        let rows = std::mem::take(waiting);
        let times: Vec<i64> = rows.iter().map(|row| row[1].unwrap()).collect();
        lanes.batch(0, &partition.batch(rows_of(&input(), &rows), &times));
    }
    for (id, (time, value, then)) in (0_i64..).zip(rows) {
        waiting.push(vec![Some(id), Some(*time), Some(*value)]);
        match then {
            Then::Nothing => {}
            Then::Cut => flush(&mut lanes, &mut waiting, &mut partition),
            Then::Watermark => {
                flush(&mut lanes, &mut waiting, &mut partition);
                lanes.watermark(0, EventTime(partition.watermark));
            }
            Then::Restart(count) => lanes.restart(*count),
        }
    }
    flush(&mut lanes, &mut waiting, &mut partition);
    lanes.finish();

    let (mut expected, mut late) = (vec![], 0);
    let mut kept: Vec<(i64, i64, i64)> = vec![];
    let mut last = None;
    let mut partition = Partition::new(delay);
    for (id, (time, value, _)) in (0_i64..).zip(rows) {
        if last.is_some_and(|last| *time <= last) {
            late += 1;
        } else {
            kept.push((*time, -value, id));
        }
        let before = partition.pass(*time);
        if partition.watermark > before {
            kept.sort_unstable();
            let reached = kept.partition_point(|row| row.0 <= partition.watermark);
            last = last.max(kept[..reached].last().map(|row| row.0));
            expected.extend(kept.drain(..reached));
        }
    }
    kept.sort_unstable();
    expected.extend(kept);
    let found: Vec<Values> = lanes.output.iter().flat_map(|(batch, _)| values_of(batch)).collect();
    let expected: Vec<Values> = expected.iter().map(|(time, value, id)| vec![Some(*id), Some(*time), Some(-value)]).collect();
    assert_eq!(found, expected);
    assert!(found.is_sorted_by_key(|row| row[1]), "rows come in order of time");
    assert_eq!(lanes.late_rows(), late);
    assert_eq!(lanes.state_rows(), 0);
}

#[test]
fn a_late_row_comes_if_nothing_of_its_time_or_later_was_sent() {
    // At watermark 15 the row of 5 has been sent: 9 comes with the next watermark, 5 and 4 do not.
    let rows = [(5, 0, Then::Watermark), (20, 0, Then::Watermark), (9, 0, Then::Watermark), (5, 0, Then::Cut), (4, 0, Then::Cut)];
    check(5, &rows);
}

#[test]
fn a_partition_that_was_idle_comes_too_late() {
    let mut lanes = sort();
    lanes.batch(0, &Batch::append(rows_of(&input(), &[vec![Some(1), Some(10), Some(0)]])));
    lanes.watermark(0, EventTime(20));
    lanes.batch(0, &Batch::append(rows_of(&input(), &[vec![Some(2), Some(10), Some(0)], vec![Some(3), Some(15), Some(0)]])));
    lanes.finish();
    let ids: Vec<Option<i64>> = lanes.output.iter().flat_map(|(batch, _)| values_of(batch)).map(|row| row[0]).collect();
    assert_eq!((ids, lanes.late_rows()), (vec![Some(1), Some(3)], 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn equals_row_by_row(delay in 0_i64..15, rows in prop::collection::vec((0_i64..40, 0_i64..3, prop_oneof![
        3 => Just(Then::Nothing),
        2 => Just(Then::Cut),
        3 => Just(Then::Watermark),
        1 => (1_u32..4).prop_map(Then::Restart),
    ]), 0..50)) {
        check(delay, &rows);
    }
}

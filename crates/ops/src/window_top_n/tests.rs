//! Top-N of windows behind an exchange, against plain Rust. The source has two partitions, each with a watermark of its own.

use proptest::prelude::*;
use thalweg_core::ErrorKind;
use thalweg_plan::{NodeKind, RankFunction, RankRange, SortKey, WindowBounds};

use super::*;
use crate::lane_harness::{Lanes, Partition, Then, Values, rows_of, schema_of, values_of, weighted};

const COLUMNS: [&str; 6] = ["id", "key", "value", "start_ts", "end_ts", "time_ts"];

#[derive(Clone, Copy, Debug)]
struct Row {
    partition: usize,
    time: i64,
    /// The size of its window.
    size: i64,
    key: Option<i64>,
    value: Option<i64>,
    /// How often it comes at once.
    times: i64,
    then: Then,
}

/// A row that is on time, in order of arrival.
struct Kept {
    values: Values,
    times: usize,
}

fn node() -> impl Strategy<Value = WindowTopN> {
    let function = prop::sample::select(vec![RankFunction::RowNumber, RankFunction::Rank, RankFunction::DenseRank]);
    let range = (1_u64..3, prop::option::weighted(0.8, 0_u64..5)).prop_map(|(start, end)| RankRange { start, end });
    (function, any::<[bool; 5]>(), range).prop_map(|(function, choices, range)| {
        let [has_key, descending, nulls_first, output_rank, newest_first] = choices;
        WindowTopN {
            function,
            window: WindowBounds { start: 3, end: 4, time: 5 },
            partition: if has_key { vec![1] } else { vec![] },
            order: vec![SortKey { column: 2, descending, nulls_first }],
            range,
            output_rank,
            newest_first: newest_first && function == RankFunction::RowNumber,
        }
    })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let then = prop_oneof![
        3 => Just(Then::Nothing),
        2 => Just(Then::Cut),
        3 => Just(Then::Watermark),
        1 => prop::sample::select(vec![1_u32, 2, 4]).prop_map(Then::Restart),
    ];
    let size = prop_oneof![4 => Just(10_i64), 1 => Just(20_i64)];
    let values = (prop::option::weighted(0.8, 0_i64..3), prop::option::weighted(0.8, 0_i64..4));
    let row = (0_usize..2, -5_i64..60, size, values, 1_i64..3, then).prop_map(|(partition, time, size, values, times, then)| {
        let (key, value) = values;
        Row { partition, time, size, key, value, times, then }
    });
    prop::collection::vec(row, 0..50)
}

fn schema() -> SchemaRef {
    schema_of(&COLUMNS)
}

fn lanes(node: &WindowTopN) -> Lanes {
    let names = if node.output_rank { [&COLUMNS[..], &["rank"]].concat() } else { COLUMNS.to_vec() };
    // As the planner has it: the bounds of the window are part of the key.
    let keys = node.partition.iter().copied().chain([3, 4]).collect();
    Lanes::new(NodeKind::WindowTopN(node.clone()), schema_of(&names), vec![schema()], vec![keys])
}

fn values(id: usize, row: &Row) -> Values {
    let start = row.time.div_euclid(row.size) * row.size;
    let end = start + row.size;
    vec![Some(id as i64), row.key, row.value, Some(start), Some(end), Some(end - 1)]
}

/// What comes of the windows that end at or before `watermark`, in order.
fn reference(node: &WindowTopN, kept: &[Kept], watermark: i64) -> Vec<Values> {
    let SortKey { descending, nulls_first, .. } = node.order[0];
    // Compares as the row does.
    let place = |row: &Values| match row[2] {
        None => (!nulls_first, 0),
        Some(value) => (nulls_first, if descending { -value } else { value }),
    };
    let partition = |row: &Values| (row[5], row[3], node.partition.iter().map(|column| row[*column]).collect::<Values>());
    let closed: Vec<&Kept> = kept.iter().filter(|row| row.values[5] <= Some(watermark)).collect();
    let mut partitions: Vec<_> = closed.iter().map(|row| partition(&row.values)).collect();
    partitions.sort_by_key(|partition| partition.0);
    let mut output = vec![];
    while !partitions.is_empty() {
        let now = partitions.remove(0);
        partitions.retain(|other| *other != now);
        let own = closed.iter().filter(|row| partition(&row.values) == now);
        let mut own: Vec<&Values> = own.flat_map(|row| std::iter::repeat_n(&row.values, row.times)).collect();
        if node.newest_first {
            own.reverse();
        }
        own.sort_by_key(|row| place(row));
        for (at, row) in own.iter().enumerate() {
            let mut smaller: Vec<_> = own.iter().map(|other| place(other)).filter(|other| *other < place(row)).collect();
            let rank = match node.function {
                RankFunction::RowNumber => at + 1,
                RankFunction::Rank => smaller.len() + 1,
                RankFunction::DenseRank => {
                    smaller.dedup();
                    smaller.len() + 1
                }
            } as u64;
            if rank >= node.range.start && node.range.end.is_none_or(|end| rank <= end) {
                output.push(row.iter().copied().chain(node.output_rank.then_some(Some(rank as i64))).collect());
            }
        }
    }
    output
}

/// The source, what it sent, and what is expected of the operator.
struct Run {
    lanes: Lanes,
    partitions: [Partition; 2],
    waiting: [Vec<(usize, Row)>; 2],
    kept: Vec<Kept>,
    late: u64,
    watermark: i64,
}

impl Run {
    fn flush(&mut self) {
        for (partition, waiting) in self.partitions.iter_mut().zip(&mut self.waiting) {
            let rows = std::mem::take(waiting);
            let mut before = partition.watermark;
            for (id, row) in &rows {
                let values = values(*id, row);
                if values[5] <= Some(before) {
                    self.late += row.times as u64;
                } else {
                    self.kept.push(Kept { values, times: row.times as usize });
                }
                before = before.max(row.time - 15);
            }
            let times: Vec<i64> = rows.iter().map(|(_, row)| row.time).collect();
            let rows: Vec<(Values, i64)> = rows.iter().map(|(id, row)| (values(*id, row), row.times)).collect();
            let batch = weighted(&schema(), &rows);
            self.lanes.batch(0, &Batch { weights: batch.weights, ..partition.batch(batch.rows, &times) });
            assert_eq!(partition.watermark, before);
        }
    }

    fn watermark(&mut self) {
        self.watermark = self.partitions.iter().map(|partition| partition.watermark).min().unwrap();
        self.lanes.watermark(0, EventTime(self.watermark));
    }
}

proptest! {
    #[test]
    fn a_window_comes_once_when_it_closes(node in node(), rows in rows()) {
        let mut run = Run {
            lanes: lanes(&node),
            partitions: [15, 15].map(Partition::new),
            waiting: [vec![], vec![]],
            kept: vec![],
            late: 0,
            watermark: i64::MIN,
        };
        let is_one_lane = !rows.iter().any(|row| matches!(row.then, Then::Restart(_)));
        for (id, row) in rows.iter().enumerate() {
            run.waiting[row.partition].push((id, *row));
            match row.then {
                Then::Nothing => continue,
                Then::Cut => run.flush(),
                Then::Watermark => {
                    run.flush();
                    run.watermark();
                }
                Then::Restart(lanes) => run.lanes.restart(lanes),
            }
            let mut found: Vec<Values> = run.lanes.output.iter().flat_map(|(batch, _)| values_of(batch)).collect();
            let mut expected = reference(&node, &run.kept, run.watermark);
            if !is_one_lane {
                found.sort();
                expected.sort();
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(run.lanes.late_rows(), run.late);
        }
        run.flush();
        run.lanes.finish();
        let mut found: Vec<Values> = run.lanes.output.iter().flat_map(|(batch, _)| values_of(batch)).collect();
        let mut expected = reference(&node, &run.kept, i64::MAX);
        if !is_one_lane {
            found.sort();
            expected.sort();
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(run.lanes.late_rows(), run.late);
        prop_assert_eq!((run.lanes.state_rows(), run.lanes.slots()), (0, vec![]));
        prop_assert!(run.lanes.output.iter().all(|(batch, _)| batch.weights.is_none()), "append-only");
    }
}

fn first_of_window() -> WindowTopN {
    WindowTopN {
        function: RankFunction::RowNumber,
        window: WindowBounds { start: 3, end: 4, time: 5 },
        partition: vec![1],
        order: vec![SortKey { column: 2, descending: false, nulls_first: true }],
        range: RankRange { start: 1, end: Some(1) },
        output_rank: false,
        newest_first: false,
    }
}

fn row_at(time: i64) -> Batch {
    let row = Row { partition: 0, time, size: 10, key: Some(1), value: Some(1), times: 1, then: Then::Nothing };
    Batch::append(rows_of(&schema(), &[values(0, &row)]))
}

#[test]
fn a_window_that_was_sent_stays_closed_over_a_restart() {
    let mut lanes = lanes(&first_of_window());
    lanes.batch(0, &row_at(3));
    lanes.watermark(0, EventTime(8));
    assert!(lanes.output.is_empty());
    lanes.watermark(0, EventTime(9));
    assert_eq!(lanes.output.len(), 1);
    // The source begins again behind the watermark: a partition was idle when it was made.
    lanes.restart_behind(2);
    lanes.batch(0, &row_at(4));
    lanes.finish();
    assert_eq!((lanes.output.len(), lanes.late_rows()), (1, 1));
}

#[test]
fn rows_are_not_taken_back() {
    let context =
        OperatorContext { lane: thalweg_core::LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: 10, ignores_unmatched: false };
    let mut operator = WindowTopNOperator::new(&first_of_window(), &schema(), schema(), &context).unwrap();
    let batch = Batch { weights: Some(vec![-1].into()), ..row_at(3) };
    assert_eq!(operator.on_batch(0, batch, &mut Output::default()).unwrap_err().kind, ErrorKind::Internal);
}

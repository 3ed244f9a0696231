//! Top-N whose rows come by several lanes, against Top-N over the rows in their order.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::Int64Array;
use proptest::prelude::*;
use thalweg_plan::{NodeKind, RankFunction, RankRange, SortKey, TopN};

use super::*;
use crate::lane_harness::{Lanes, Values, schema_of, values_of, weighted};

const COLUMNS: [&str; 4] = ["key", "value", "at_ts", "id"];

/// A row, how often it comes, and the watermark behind which it comes.
type Change = (Values, i64, i64);

#[derive(Clone, Debug)]
enum Event {
    Change(Change),
    Watermark(i64),
}

fn node(in_turn: Option<InTurn>) -> NodeKind {
    NodeKind::TopN(TopN {
        function: RankFunction::RowNumber,
        partition: vec![0],
        order: vec![SortKey { column: 1, descending: false, nulls_first: true }],
        range: RankRange { start: 1, end: Some(2) },
        output_rank: false,
        input_updating: true,
        in_turn,
    })
}

fn lanes(in_turn: Option<InTurn>) -> Lanes {
    Lanes::new(node(in_turn), schema_of(&COLUMNS), vec![schema_of(&COLUMNS)], vec![vec![0]])
}

fn send(lanes: &mut Lanes, changes: &[Change]) {
    let rows: Vec<(Values, i64)> = changes.iter().map(|(row, weight, _)| (row.clone(), *weight)).collect();
    let row_watermarks = Some(Int64Array::from_iter_values(changes.iter().map(|change| change.2)));
    lanes.batch(0, &Batch { row_watermarks, ..weighted(&schema_of(&COLUMNS), &rows) });
}

/// The changes of each key in order.
fn output(lanes: &Lanes) -> BTreeMap<Option<i64>, Vec<Change>> {
    let mut changes: BTreeMap<Option<i64>, Vec<Change>> = BTreeMap::new();
    for (batch, sent) in &lanes.output {
        for (at, row) in values_of(batch).into_iter().enumerate() {
            let own = batch.row_watermarks.as_ref().map_or(i64::MIN, |own| own.value(at));
            assert!(own >= sent.0, "the watermark that was sent has not passed a row");
            changes.entry(row[0]).or_default().push((row, batch.weight(at), own));
        }
    }
    changes
}

/// What an upsert table gives: each row replaces the one of its id. With the watermark behind each upsert's changes.
fn any_changes() -> impl Strategy<Value = Vec<(Vec<Change>, i64)>> {
    let upsert = (0_i64..6, 0_i64..2, 0_i64..5, 0_i64..4, -8_i64..8);
    prop::collection::vec(upsert, 0..60).prop_map(|upserts| {
        let (mut now, mut watermark) = (0, i64::MIN);
        let mut current: BTreeMap<i64, Values> = BTreeMap::new();
        let mut all = vec![];
        for (id, key, value, step, jitter) in upserts {
            now += step;
            let row = vec![Some(key), Some(value), Some(now + jitter), Some(id)];
            let old = current.insert(id, row.clone());
            let mut changes: Vec<Change> = old.into_iter().map(|old| (old, -1, watermark)).collect();
            changes.push((row, 1, watermark));
            watermark = watermark.max(now + jitter - 5);
            all.push((changes, watermark));
        }
        all
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// So many upserts are read.
    Read(usize),
    /// So many events of one of the lanes in front arrive.
    Arrive(usize, usize),
    /// All that was read arrives, and the job starts again.
    Restart(u32),
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_usize..15).prop_map(Step::Read),
        8 => (0_usize..3, 1_usize..20).prop_map(|(lane, events)| Step::Arrive(lane, events)),
        1 => (1_u32..4).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 0..50)
}

struct LanesInFront {
    lanes: Lanes,
    queues: Vec<VecDeque<Event>>,
    watermarks: Vec<i64>,
}

impl LanesInFront {
    fn read(&mut self, (changes, watermark): &(Vec<Change>, i64)) {
        let lanes = self.queues.len();
        for change in changes {
            let id = change.0[3].unwrap() as usize;
            self.queues[id % lanes].push_back(Event::Change(change.clone()));
        }
        self.queues.iter_mut().for_each(|queue| queue.push_back(Event::Watermark(*watermark)));
    }

    fn arrive(&mut self, lane: usize, events: usize) {
        for _ in 0..events.min(self.queues[lane].len()) {
            match self.queues[lane].pop_front() {
                Some(Event::Change(change)) => send(&mut self.lanes, &[change]),
                Some(Event::Watermark(watermark)) => {
                    self.watermarks[lane] = watermark;
                    let least = self.watermarks.iter().copied().min().unwrap();
                    self.lanes.watermark(0, EventTime(least));
                }
                None => {}
            }
        }
    }
}

fn run(changes: &[(Vec<Change>, i64)], steps: &[Step], lanes_in_front: usize) -> BTreeMap<Option<i64>, Vec<Change>> {
    let in_turn = Some(InTurn { time_column: 2, by_arrival: false });
    let mut all = LanesInFront {
        lanes: lanes(in_turn),
        queues: vec![VecDeque::new(); lanes_in_front],
        watermarks: vec![i64::MIN; lanes_in_front],
    };
    let mut rest = changes;
    for step in steps {
        match step {
            Step::Read(count) => {
                let (now, later) = rest.split_at((*count).min(rest.len()));
                rest = later;
                now.iter().for_each(|upsert| all.read(upsert));
            }
            Step::Arrive(lane, events) => all.arrive(lane % lanes_in_front, *events),
            Step::Restart(count) => {
                (0..lanes_in_front).for_each(|lane| all.arrive(lane, usize::MAX));
                all.lanes.restart(*count);
            }
        }
    }
    rest.iter().for_each(|upsert| all.read(upsert));
    (0..lanes_in_front).for_each(|lane| all.arrive(lane, usize::MAX));
    all.lanes.finish();
    output(&all.lanes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// By whatever lanes rows come, at whatever pace, whenever the job starts again.
    #[test]
    fn lanes_do_not_show(changes in any_changes(), steps in any_steps(), lanes_in_front in 1_usize..4) {
        let mut in_order: Vec<Change> = changes.iter().flat_map(|(changes, _)| changes.clone()).collect();
        in_order.sort_by_key(|(row, weight, came_behind)| (*came_behind, row[2], *weight < 0, row.clone()));
        let mut plain = lanes(None);
        in_order.iter().for_each(|change| send(&mut plain, std::slice::from_ref(change)));
        prop_assert_eq!(run(&changes, &steps, lanes_in_front), output(&plain));
    }
}

#[test]
fn rows_straight_from_the_source_keep_their_order() {
    let row = |value, at, id| vec![Some(1), Some(value), Some(at), Some(id)];
    let changes = [(row(1, 9, 0), 1, 3), (row(1, 7, 1), 1, 3), (row(1, 8, 2), 1, 3)];
    for (by_arrival, expected) in [(true, [0, 1]), (false, [1, 2])] {
        let mut lanes = lanes(Some(InTurn { time_column: 2, by_arrival }));
        send(&mut lanes, &changes);
        lanes.restart(2);
        assert!(lanes.output.is_empty());
        lanes.watermark(0, EventTime(3));
        assert!(lanes.output.is_empty(), "another row may come behind 3");
        lanes.watermark(0, EventTime(4));
        let ids: Vec<i64> = output(&lanes)[&Some(1)].iter().map(|(row, ..)| row[3].unwrap()).collect();
        assert_eq!(ids[..2], expected, "rows of equal order by their turns");
    }
}

#[test]
fn rows_without_a_watermark_came_just_before_their_time() {
    let mut lanes = lanes(Some(InTurn { time_column: 2, by_arrival: false }));
    let rows = [20, 10].map(|at| (vec![Some(1), Some(at), Some(at), Some(at)], 1));
    lanes.batch(0, &weighted(&schema_of(&COLUMNS), &rows));
    lanes.watermark(0, EventTime(20));
    let came: Vec<i64> = output(&lanes)[&Some(1)].iter().map(|change| change.2).collect();
    assert_eq!(came, [9, 19]);
}

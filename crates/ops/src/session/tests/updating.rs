//! Sessions over rows that are taken back: whatever lanes the rows come by, against plain Rust.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// A new row of a table by id: id, event time, key, value, how often it is there; 0 deletes the row of that id.
type Upsert = (u8, i64, Option<u8>, i64, i64);

#[derive(Clone, Debug)]
struct Change {
    id: u8,
    came_behind: i64,
    time: i64,
    key: Option<u8>,
    value: i64,
    weight: i64,
}

#[derive(Clone, Debug)]
enum Event {
    Change(Change),
    Watermark(i64),
}

/// What becomes of upserts; an id's come by one partition. For each upsert its changes and the least watermark behind it.
fn changes_of(upserts: &[Upsert], delay_ms: i64) -> Vec<(Vec<Change>, i64)> {
    let mut watermarks = [i64::MIN; PARTITIONS];
    let mut current: BTreeMap<u8, Change> = BTreeMap::new();
    let mut all = vec![];
    for (id, time, key, value, copies) in upserts {
        let partition = *id as usize % PARTITIONS;
        let came_behind = watermarks[partition];
        let mut changes = vec![];
        if let Some(old) = current.remove(id) {
            changes.push(Change { came_behind, weight: -old.weight, ..old });
        }
        if *copies > 0 {
            let new = Change { id: *id, came_behind, time: *time, key: *key, value: *value, weight: *copies };
            changes.push(new.clone());
            current.insert(*id, new);
        }
        watermarks[partition] = came_behind.max(time - delay_ms);
        all.push((changes, *watermarks.iter().min().unwrap()));
    }
    all
}

fn naive(shape: Shape, upserts: &[Upsert]) -> (Vec<Result>, u64) {
    struct Known {
        key: Option<u8>,
        start: i64,
        end: i64,
        /// How often a row of this time, key and value came and was taken back.
        rows: BTreeMap<(i64, Option<u8>, i64), [i64; 2]>,
    }
    let mut changes: Vec<Change> = changes_of(upserts, shape.delay_ms).into_iter().flat_map(|(changes, _)| changes).collect();
    changes.sort_by_key(|change| (change.came_behind, change.time, change.weight < 0, change.key, change.value));
    let mut sessions: Vec<Known> = vec![];
    let mut late_rows = 0;
    for change in changes {
        let key = change.key.filter(|_| shape.has_keys);
        let mut merged = Known { key, start: change.time, end: change.time + shape.gap_ms, rows: BTreeMap::new() };
        let (row_start, row_end) = (merged.start, merged.end);
        let is_open = |end: i64| end > change.came_behind.saturating_add(1);
        let touches =
            |session: &Known| session.key == key && is_open(session.end) && session.start <= row_end && row_start <= session.end;
        if !sessions.iter().any(touches) && !is_open(merged.end) {
            late_rows += change.weight.unsigned_abs();
            continue;
        }
        merged.rows.entry((change.time, change.key, change.value)).or_default()[usize::from(change.weight < 0)] +=
            change.weight.abs();
        for session in sessions.extract_if(.., |session| touches(session)) {
            merged.start = merged.start.min(session.start);
            merged.end = merged.end.max(session.end);
            for (row, [added, taken_back]) in session.rows {
                let counts = merged.rows.entry(row).or_default();
                (counts[0], counts[1]) = (counts[0] + added, counts[1] + taken_back);
            }
        }
        sessions.push(merged);
    }
    let mut results: Vec<Result> = vec![];
    for session in sessions {
        let key = session.key.map(|key| format!("k{key}"));
        for ((_, _, value), [added, taken_back]) in session.rows {
            late_rows += (taken_back - added).max(0).unsigned_abs();
            let left = (key.clone(), session.start, session.end, [value, 0, 0]);
            results.extend(std::iter::repeat_n(left, (added - taken_back).max(0) as usize));
        }
    }
    results.sort();
    (results, late_rows)
}

#[derive(Clone, Debug)]
enum Step {
    /// So many upserts are read, each with a watermark behind it or not.
    Read(usize, bool),
    /// So many events of one of the lanes in front arrive.
    Arrive(usize, usize),
    Checkpoint,
    Restart(u32),
}

/// A job whose input comes by several lanes, each in its own order and at its own pace.
struct LanesInFront {
    job: Job,
    queues: Vec<VecDeque<Event>>,
    watermarks: Vec<i64>,
}

impl LanesInFront {
    fn read(&mut self, (changes, watermark): &(Vec<Change>, i64), sends_watermark: bool) {
        let lanes = self.queues.len();
        for change in changes {
            self.queues[change.id as usize % lanes].push_back(Event::Change(change.clone()));
        }
        if sends_watermark {
            self.queues.iter_mut().for_each(|queue| queue.push_back(Event::Watermark(*watermark)));
        }
    }

    fn arrive(&mut self, lane: usize, events: usize) {
        let events = events.min(self.queues[lane].len());
        let events: Vec<Event> = self.queues[lane].drain(..events).collect();
        for alike in events.chunk_by(|one, other| matches!((one, other), (Event::Change(_), Event::Change(_)))) {
            match &alike[0] {
                Event::Watermark(watermark) => {
                    self.watermarks[lane] = *watermark;
                    self.job.send_watermark(EventTime(self.least_watermark()));
                }
                Event::Change(_) => {
                    let changes = alike.iter().filter_map(|event| match event {
                        Event::Change(change) => Some(change.clone()),
                        Event::Watermark(_) => None,
                    });
                    self.job.changes(&changes.collect::<Vec<_>>());
                }
            }
        }
    }

    fn least_watermark(&self) -> i64 {
        self.watermarks.iter().copied().min().unwrap()
    }

    fn arrive_all(&mut self) {
        (0..self.queues.len()).for_each(|lane| self.arrive(lane, usize::MAX));
    }
}

impl Job {
    fn changes(&mut self, changes: &[Change]) {
        let rows: Vec<Row> = changes.iter().map(|change| (0, change.time, change.key, change.value)).collect();
        let batch = Batch {
            weights: Some(Int64Array::from_iter_values(changes.iter().map(|change| change.weight))),
            row_watermarks: Some(Int64Array::from_iter_values(changes.iter().map(|change| change.came_behind))),
            ..Batch::append(rows_batch(&rows, self.shape.delay_ms))
        };
        self.batch(&batch);
    }
}

fn run(shape: Shape, upserts: &[Upsert], steps: &[Step], lanes_in_front: usize, lanes: u32) -> (Vec<Result>, u64) {
    let job = Job::over(shape, lanes, true);
    let mut all = LanesInFront { job, queues: vec![VecDeque::new(); lanes_in_front], watermarks: vec![i64::MIN; lanes_in_front] };
    let read = changes_of(upserts, shape.delay_ms);
    let mut rest = read.as_slice();
    for step in steps {
        match step {
            Step::Read(count, sends_watermark) => {
                let (now, later) = rest.split_at((*count).min(rest.len()));
                rest = later;
                now.iter().for_each(|upsert| all.read(upsert, *sends_watermark));
            }
            Step::Arrive(lane, events) => all.arrive(lane % lanes_in_front, *events),
            Step::Checkpoint => {
                all.arrive_all();
                all.job.checkpoint();
            }
            Step::Restart(lanes) => {
                all.arrive_all();
                let watermark = EventTime(all.least_watermark());
                all.job.restart_behind(*lanes);
                all.job.send_watermark(watermark);
            }
        }
    }
    rest.iter().for_each(|upsert| all.read(upsert, true));
    all.arrive_all();
    let results = all.job.finish();
    (results, all.job.late_rows())
}

fn any_upserts() -> impl Strategy<Value = Vec<Upsert>> {
    let upsert = (0_u8..7, 0_i64..5, -20_i64..20, prop::option::of(0_u8..3), 0_i64..4, prop_oneof![1 => 0_i64..1, 6 => 1_i64..3]);
    prop::collection::vec(upsert, 0..100).prop_map(|upserts| {
        let mut now = 0;
        upserts
            .into_iter()
            .map(|(id, step, jitter, key, value, copies)| {
                now += step;
                (id, now + jitter, key, value, copies)
            })
            .collect()
    })
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1_usize..15, any::<bool>()).prop_map(|(count, sends)| Step::Read(count, sends)),
        8 => (0_usize..3, 1_usize..25).prop_map(|(lane, events)| Step::Arrive(lane, events)),
        2 => Just(Step::Checkpoint),
        1 => (1_u32..4).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// By whatever lanes rows come, whenever watermarks and checkpoints come, on any lanes.
    #[test]
    fn as_the_naive_reference(
        shape in any_shape(),
        upserts in any_upserts(),
        steps in any_steps(),
        lanes_in_front in 1_usize..4,
        lanes in 1_u32..4,
    ) {
        let shape = Shape { gives_rows: true, ..shape };
        prop_assert_eq!(run(shape, &upserts, &steps, lanes_in_front, lanes), naive(shape, &upserts));
    }
}

#[test]
fn a_session_stays_merged_when_a_row_leaves() {
    // Recorded Flink case window-session/upd-stays-merged.
    let shape = Shape { gap_ms: 5_000, delay_ms: 20_000, has_keys: false, gives_rows: true };
    let upserts = [
        (1, 1_000, None, 10, 1),
        (2, 4_000, None, 20, 1),
        (3, 7_000, None, 40, 1),
        (2, 9_000, None, 80, 1),
        (1, 30_000, None, 5, 1),
        (2, 33_000, None, 6, 1),
        (4, 60_000, None, 7, 1),
    ];
    let row = |start, end, value| (None, start, end, [value, 0, 0]);
    let expected = vec![row(1_000, 14_000, 40), row(30_000, 38_000, 5), row(30_000, 38_000, 6), row(60_000, 65_000, 7)];
    assert_eq!(naive(shape, &upserts), (expected.clone(), 0));
    assert_eq!(run(shape, &upserts, &[], 3, 1), (expected, 0));
}

#[test]
fn a_row_that_is_taken_back_behind_its_session_is_late() {
    let shape = Shape { gap_ms: 5_000, delay_ms: 0, has_keys: false, gives_rows: true };
    // All of one partition. The third takes back the first, whose session the second has closed.
    let upserts = [(0, 1_000, None, 1, 1), (2, 20_000, None, 2, 1), (0, 21_000, None, 3, 1)];
    let row = |start, end, value| (None, start, end, [value, 0, 0]);
    let expected = vec![row(1_000, 6_000, 1), row(20_000, 26_000, 2), row(20_000, 26_000, 3)];
    assert_eq!(run(shape, &upserts, &[], 2, 1), (expected, 1));
}

#[test]
fn foreign_rows_that_wait_are_refused() {
    let shape = Shape { gap_ms: 5, delay_ms: 0, has_keys: true, gives_rows: true };
    let mut job = Job::over(shape, 1, true);
    let part = StatePart { slot: SlotId("pending-1".to_string()), batches: vec![rows_batch(&[], 0)] };
    assert_eq!(job.operators[0].restore(vec![part]).unwrap_err().kind, ErrorKind::Corrupt);
}

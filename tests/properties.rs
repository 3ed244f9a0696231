//! Whole jobs over random rows against a plain model: neither lanes, nor batches, nor restarts, nor faults change a result.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, TimestampMicrosecondArray};
use proptest::prelude::*;
use thalweg_sim::{Answer, Simulation, Way};

const PARTITIONS: usize = 3;
/// Event times are milliseconds since 2026-01-01 00:10:00, and stay within the hour.
const START_MS: i64 = 1_767_226_200_000;

#[derive(Clone, Copy, Debug)]
struct Row {
    partition: usize,
    key: Option<i32>,
    amount: Option<i32>,
    at_ms: i64,
}

#[derive(Clone, Copy, Debug)]
enum Windows {
    Tumble { size_s: i64 },
    Hop { slide_s: i64, ratio: i64 },
    Cumulate { step_s: i64, ratio: i64 },
}

impl Windows {
    /// The call in FROM.
    fn sql(self) -> String {
        let (name, sizes) = match self {
            Windows::Tumble { size_s } => ("TUMBLE", vec![size_s]),
            Windows::Hop { slide_s, ratio } => ("HOP", vec![slide_s, slide_s * ratio]),
            Windows::Cumulate { step_s, ratio } => ("CUMULATE", vec![step_s, step_s * ratio]),
        };
        let sizes: String = sizes.iter().map(|seconds| format!(", INTERVAL '{seconds}' SECOND")).collect();
        format!("TABLE({name}(TABLE input, DESCRIPTOR(at){sizes}))")
    }

    /// Start and end of every window that holds `at_ms`.
    fn of(self, at_ms: i64) -> Vec<(i64, i64)> {
        let floor = |size_ms: i64| at_ms - (START_MS + at_ms).rem_euclid(size_ms);
        match self {
            Windows::Tumble { size_s } => vec![(floor(size_s * 1_000), floor(size_s * 1_000) + size_s * 1_000)],
            Windows::Hop { slide_s, ratio } => (0..ratio)
                .map(|back| floor(slide_s * 1_000) - back * slide_s * 1_000)
                .map(|start| (start, start + slide_s * ratio * 1_000))
                .collect(),
            Windows::Cumulate { step_s, ratio } => {
                let start = floor(step_s * ratio * 1_000);
                (1..=ratio).map(|steps| (start, start + steps * step_s * 1_000)).filter(|(_, end)| at_ms < *end).collect()
            }
        }
    }
}

/// A random job: rows in order of arrival, and how they are cut.
#[derive(Clone, Debug)]
struct Input {
    windows: Windows,
    delay_s: i64,
    rows: Vec<Row>,
    /// Rows of each step after which jobs may be stopped, over and over.
    steps: Vec<usize>,
    /// Rows of each batch within a partition, over and over.
    batches: Vec<usize>,
    seed: u64,
}

fn inputs() -> impl Strategy<Value = Input> {
    let windows = prop_oneof![
        (1_i64..20).prop_map(|size_s| Windows::Tumble { size_s }),
        (1_i64..6, 1_i64..5).prop_map(|(slide_s, ratio)| Windows::Hop { slide_s, ratio }),
        (1_i64..6, 1_i64..5).prop_map(|(step_s, ratio)| Windows::Cumulate { step_s, ratio }),
    ];
    // Time grows by up to 3 s a row of a partition; a fifth of the rows come up to 20 s late.
    let row = (
        0..PARTITIONS,
        prop::option::weighted(0.9, 0..4_i32),
        prop::option::weighted(0.9, -5..50_i32),
        0_i64..3_000,
        prop_oneof![4 => Just(0_i64), 1 => 0_i64..20_000],
    );
    let rows = prop::collection::vec(row, 1..120).prop_map(|rows| {
        let mut newest_ms = [60_000_i64; PARTITIONS];
        rows.into_iter()
            .map(|(partition, key, amount, later_ms, back_ms)| {
                newest_ms[partition] += later_ms;
                Row { partition, key, amount, at_ms: newest_ms[partition] - back_ms }
            })
            .collect::<Vec<_>>()
    });
    (windows, 0_i64..5, rows, prop::collection::vec(1_usize..60, 1..3), prop::collection::vec(1_usize..9, 1..4), any::<u64>())
        .prop_map(|(windows, delay_s, rows, steps, batches, seed)| Input { windows, delay_s, rows, steps, batches, seed })
}

/// What a job delivered, as sorted lines, and how many rows it counted as late.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Outcome {
    rows: Vec<String>,
    late_rows: u64,
}

/// The bounds of a window and a key.
type Group = ((i64, i64), Option<i32>);

/// Row by row. A row is late for a window if the rows before it in its own partition had brought the watermark to the window's
/// end less 1 ms. A window is sent when the smallest watermark of the partitions is there.
fn model(input: &Input) -> Outcome {
    let mut watermarks = [i64::MIN; PARTITIONS];
    let mut members: BTreeMap<Group, Vec<Option<i32>>> = BTreeMap::new();
    let mut late_rows = 0;
    for row in &input.rows {
        let watermark = &mut watermarks[row.partition];
        let open: Vec<_> = input.windows.of(row.at_ms).into_iter().filter(|(_, end)| *watermark < end - 1).collect();
        late_rows += u64::from(open.is_empty());
        for window in open {
            members.entry((window, row.key)).or_default().push(row.amount);
        }
        *watermark = (*watermark).max(row.at_ms - input.delay_s * 1_000);
    }
    let watermark = watermarks.into_iter().min().unwrap_or(i64::MIN);
    let mut rows: Vec<String> = members
        .into_iter()
        .filter(|(((_, end), _), _)| end - 1 <= watermark)
        .map(|(((start, end), key), amounts)| {
            let known: Vec<i32> = amounts.iter().copied().flatten().collect();
            let shown = |number: Option<i32>| number.map_or("NULL".to_string(), |number| number.to_string());
            let unique: BTreeSet<i32> = known.iter().copied().collect();
            let sum = (!known.is_empty()).then(|| known.iter().sum());
            let (count, least, average) =
                (amounts.len(), known.iter().copied().min(), sum.map(|sum: i32| sum / known.len() as i32));
            format!(
                "{}  {}  {}  {count}  {}  {}  {}  {}",
                time_text(start),
                time_text(end),
                shown(key),
                shown(sum),
                shown(least),
                shown(average),
                unique.len()
            )
        })
        .collect();
    rows.sort_unstable();
    Outcome { rows, late_rows }
}

fn time_text(ms: i64) -> String {
    let seconds = 600 + ms / 1_000;
    assert!(ms % 1_000 == 0 && (0..86_400).contains(&seconds), "windows are cut at whole seconds of the day");
    format!("2026-01-01 {:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

fn execute(simulation: &mut Simulation, sql: &str) -> Vec<String> {
    match simulation.execute(sql).unwrap_or_else(|problem| panic!("{sql}\n{problem}")) {
        Answer::Done => vec![],
        Answer::Lines(lines) => lines,
    }
}

/// Runs the job. After each step it is stopped, where the way does so, and restored with the next of `lanes`.
fn run(input: &Input, way: Way, lanes: &[u32]) -> Outcome {
    let mut simulation = Simulation::new(way);
    let (delay_s, windows) = (input.delay_s, input.windows.sql());
    for sql in [
        &format!(
            "CREATE TABLE input (k INT, amount INT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '{delay_s}' SECOND)
             WITH ('connector' = 'memory')"
        ),
        "CREATE TABLE output (window_start TIMESTAMP(3), window_end TIMESTAMP(3), k INT, n BIGINT, total INT, least INT, average INT,
         u BIGINT) WITH ('connector' = 'memory')",
        &format!(".partitions input {PARTITIONS}"),
        &format!(
            "INSERT INTO output SELECT window_start, window_end, k, COUNT(*), SUM(amount), MIN(amount), AVG(amount),
             COUNT(DISTINCT amount) FROM {windows} GROUP BY window_start, window_end, k"
        ),
    ] {
        execute(&mut simulation, sql);
    }
    let mut batches = input.batches.iter().cycle().copied();
    let mut rest = input.rows.as_slice();
    for (step, lanes) in input.steps.iter().cycle().zip(lanes.iter().cycle()) {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*step).min(rest.len()));
        rest = later;
        for partition in 0..PARTITIONS {
            let rows: Vec<Row> = now.iter().filter(|row| row.partition == partition).copied().collect();
            let mut rows = rows.as_slice();
            while !rows.is_empty() {
                let (batch, more) = rows.split_at(batches.next().unwrap_or(1).min(rows.len()));
                rows = more;
                simulation.push("input", partition, record_batch(batch));
            }
        }
        execute(&mut simulation, &format!(".restart parallelism {lanes}"));
    }
    let mut rows = execute(&mut simulation, "SELECT * FROM output");
    rows.sort_unstable();
    let late_rows = simulation.late_rows().values().sum();
    simulation.finish().unwrap_or_else(|problem| panic!("{problem}"));
    Outcome { rows, late_rows }
}

fn record_batch(rows: &[Row]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(rows.iter().map(|row| row.key).collect::<Int32Array>());
    let amounts: ArrayRef = Arc::new(rows.iter().map(|row| row.amount).collect::<Int32Array>());
    let times = rows.iter().map(|row| (START_MS + row.at_ms) * 1_000);
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times));
    RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("amount", amounts, true), ("at", times, true)])
        .expect("the columns are of one length")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn lanes_batches_and_restarts_change_nothing(input in inputs()) {
        let expected = model(&input);
        prop_assert_eq!(&run(&input, Way::Straight, &[1]), &expected, "one run in one lane");
        for lanes in [1, 2, 4] {
            prop_assert_eq!(&run(&input, Way::Restarted, &[lanes]), &expected, "{} lanes", lanes);
        }
        prop_assert_eq!(&run(&input, Way::Restarted, &[3, 1, 4, 2]), &expected, "other lanes after each restart");
        prop_assert_eq!(run(&input, Way::Faulty { seed: input.seed }, &[2, 3, 1]).rows, expected.rows, "among faults");
    }
}

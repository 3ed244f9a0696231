//! The same check for what event time drives: windows, joins by time, OVER, first and last rows, sessions.
//!
//! Rows come out of order, but none of them late. Then what a query gives by the end of its input is what a batch engine gives
//! over all rows; and as these queries take nothing back, what they gave after any epoch is part of it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use thalweg_connectors::REGISTRY_WITH_MEMORY;
use thalweg_core::{Batch, Diagnostic, ManualClock, SourceText};
use thalweg_plan::{NodeKind, Plan};
use thalweg_sql::{NoVariables, Outcome, Session, StreamPlanner, parse_script};

use super::batch::BatchEngine;
use super::compare::{Integral, difference};
use super::dice::Dice;
use super::executor::{Executor, ExecutorOptions};
use super::pair::{Failure, FailureKind};
use super::rows::letter;

/// Milliseconds at which event times begin: 2026-01-01 00:00:00.
const START_MS: i64 = 1_767_225_600_000;
/// How far rows may be out of order, and what the watermark trails.
const DELAY_MS: i64 = 3_000;

/// What a query is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Theme {
    /// Windows of rows or of groups, and what follows them within the window.
    Window,
    WindowTopN,
    WindowJoin,
    Session,
    IntervalJoin,
    TemporalJoin,
    OverTime,
    FirstOrLast,
    SortByTime,
}

#[derive(Clone, PartialEq, Debug)]
struct Row {
    /// 0 is `l`, 1 is `r`.
    table: usize,
    partition: u32,
    k: Option<i32>,
    v: Option<i32>,
    s: Option<i64>,
    at_ms: i64,
}

/// A query in both dialects, and rows in the order in which they arrive.
#[derive(Clone, PartialEq, Debug)]
pub struct TimePair {
    flink: String,
    batch: String,
    /// Whether rows of the answer are never taken back.
    append_only: bool,
    rows: Vec<Row>,
    /// Rows before the end of each epoch.
    cuts: Vec<usize>,
    lanes: Vec<u32>,
    restarts: bool,
    batch_rows: usize,
    partitions: u32,
    seed: u64,
}

/// A query with the columns k, v, s, and, while it has a window, window_start and window_end.
struct Relation {
    flink: String,
    batch: String,
    windowed: bool,
    append_only: bool,
}

pub fn pair(seed: u64, themes: &[Theme]) -> TimePair {
    let mut dice = Dice::new(seed);
    let theme = *dice.pick(themes);
    let relation = relation(&mut dice, theme, themes);
    let relation = finished(&mut dice, relation);
    let partitions = 1 + dice.below(3) as u32;
    let rows = rows(&mut dice, partitions, theme == Theme::TemporalJoin);
    let mut cuts: Vec<usize> = (0..dice.below(5)).map(|_| dice.below(rows.len() + 1)).collect();
    cuts.push(rows.len());
    cuts.sort_unstable();
    cuts.dedup();
    TimePair {
        flink: relation.flink,
        batch: relation.batch,
        append_only: relation.append_only,
        lanes: (0..cuts.len()).map(|_| *dice.pick(&[1, 1, 2, 3])).collect(),
        restarts: dice.chance(50),
        batch_rows: *dice.pick(&[1, 3, 1000]),
        partitions,
        seed: dice.seed(),
        rows,
        cuts,
    }
}

/// Rows whose times all differ, in an order in which none is late. `orders_right`: rows of `r` come in the order of their times,
/// for what comes out of that order never becomes a version.
fn rows(dice: &mut Dice, partitions: u32, orders_right: bool) -> Vec<Row> {
    let count = 2 + dice.below(30);
    let mut at_ms = START_MS + dice.below(4_000) as i64;
    let mut rows: Vec<(i64, Row)> = (0..count)
        .map(|_| {
            at_ms += 1 + dice.below(if count.is_multiple_of(2) { 1_000 } else { 3_000 }) as i64;
            let table = dice.below(2);
            let is_ordered = orders_right && table == 1;
            let row = Row {
                table,
                partition: if is_ordered { 0 } else { dice.below(partitions as usize) as u32 },
                k: (!dice.chance(10)).then(|| dice.below(3) as i32),
                v: (!dice.chance(10)).then(|| dice.below(6) as i32 - 1),
                s: (!dice.chance(10)).then(|| dice.below(4) as i64),
                at_ms,
            };
            let later_ms = if is_ordered { 0 } else { dice.below(DELAY_MS as usize) as i64 };
            (at_ms + later_ms, row)
        })
        .collect();
    rows.sort_by_key(|(arrival, _)| *arrival);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// A window call over `l` or `r`, and the same as a subquery with `ws` and `we` in milliseconds.
fn window(dice: &mut Dice) -> (String, String) {
    let step_s = 1 + dice.below(4) as i64;
    let ratio = 1 + dice.below(3) as i64;
    let offset_s = if dice.chance(20) { dice.below(step_s as usize) as i64 } else { 0 };
    let offset = if offset_s > 0 { format!(", INTERVAL '{offset_s}' SECOND") } else { String::new() };
    let (step, size, offset_ms) = (step_s * 1_000, step_s * ratio * 1_000, offset_s * 1_000);
    let numbers = |from: i64, to: i64| (from..=to).map(|n| format!("({n})")).collect::<Vec<_>>().join(", ");
    match dice.below(3) {
        0 => (
            format!("TUMBLE(TABLE TABLE_NAME, DESCRIPTOR(at), INTERVAL '{step_s}' SECOND{offset})"),
            format!(
                "(SELECT *, ws + {step} AS we FROM (SELECT *, at_ms - (at_ms - {offset_ms}) % {step} AS ws FROM TABLE_NAME))"
            ),
        ),
        1 => (
            format!(
                "HOP(TABLE TABLE_NAME, DESCRIPTOR(at), INTERVAL '{step_s}' SECOND, INTERVAL '{}' SECOND{offset})",
                step_s * ratio
            ),
            format!(
                "(SELECT *, ws + {size} AS we FROM (SELECT *, at_ms - (at_ms - {offset_ms}) % {step} - n * {step} AS ws \
                 FROM TABLE_NAME CROSS JOIN (VALUES {}) AS steps(n)))",
                numbers(0, ratio - 1)
            ),
        ),
        _ => (
            format!(
                "CUMULATE(TABLE TABLE_NAME, DESCRIPTOR(at), INTERVAL '{step_s}' SECOND, INTERVAL '{}' SECOND)",
                step_s * ratio
            ),
            format!(
                "(SELECT *, ws + n * {step} AS we FROM (SELECT *, at_ms - at_ms % {size} AS ws \
                 FROM TABLE_NAME CROSS JOIN (VALUES {}) AS steps(n)) WHERE at_ms < ws + n * {step})",
                numbers(1, ratio)
            ),
        ),
    }
}

const WINDOW_COLUMNS: &str = "to_timestamp_millis(ws) AS window_start, to_timestamp_millis(we) AS window_end";

/// Rows of windows, or groups of them.
fn windowed(dice: &mut Dice, table: &str, (flink, batch): &(String, String)) -> Relation {
    let (flink, batch) = (flink.replace("TABLE_NAME", table), batch.replace("TABLE_NAME", table));
    let filter = *dice.pick(&["", "", " WHERE v > 0", " WHERE s <> 'a'"]);
    let (flink, batch) = match dice.below(4) {
        0 => (
            format!("SELECT k, v, s, window_start, window_end FROM TABLE({flink}){filter}"),
            format!("SELECT k, v, s, {WINDOW_COLUMNS} FROM {batch}{filter}"),
        ),
        1 => {
            let call = *dice.pick(&["SUM(v)", "COUNT(*)", "COUNT(DISTINCT v)", "MAX(v)", "SUM(v) FILTER (WHERE v > 1)"]);
            (
                format!(
                    "SELECT CAST(NULL AS INT) AS k, {call} AS v, MAX(s) AS s, window_start, window_end FROM TABLE({flink}){filter} \
                     GROUP BY window_start, window_end"
                ),
                format!(
                    "SELECT CAST(NULL AS INT) AS k, {call} AS v, MAX(s) AS s, {WINDOW_COLUMNS} FROM {batch}{filter} GROUP BY ws, we"
                ),
            )
        }
        _ => {
            let call = *dice.pick(&["SUM(v)", "COUNT(*)", "COUNT(DISTINCT s)", "MIN(v)", "COUNT(v) FILTER (WHERE s = 'a')"]);
            (
                format!(
                    "SELECT k, {call} AS v, MIN(s) AS s, window_start, window_end FROM TABLE({flink}){filter} \
                     GROUP BY k, window_start, window_end"
                ),
                format!("SELECT k, {call} AS v, MIN(s) AS s, {WINDOW_COLUMNS} FROM {batch}{filter} GROUP BY k, ws, we"),
            )
        }
    };
    Relation { flink, batch, windowed: true, append_only: true }
}

fn same(flink_and_batch: String, relation: &Relation) -> Relation {
    let with = |text: &str| flink_and_batch.replace("INPUT", text);
    Relation { flink: with(&relation.flink), batch: with(&relation.batch), ..*relation }
}

fn relation(dice: &mut Dice, theme: Theme, themes: &[Theme]) -> Relation {
    let window = window(dice);
    match theme {
        Theme::Window => {
            let inner = windowed(dice, "l", &window);
            match dice.below(3) {
                0 => inner,
                1 => same(
                    "SELECT CAST(NULL AS INT) AS k, MAX(v) AS v, MIN(s) AS s, window_start, window_end FROM (INPUT) GROUP BY window_start, window_end".to_string(),
                    &inner,
                ),
                _ => {
                    let other = windowed(dice, "r", &window);
                    Relation {
                        flink: format!("{} UNION ALL {}", inner.flink, other.flink),
                        batch: format!("{} UNION ALL {}", inner.batch, other.batch),
                        windowed: false,
                        append_only: true,
                    }
                }
            }
        }
        Theme::WindowTopN => {
            let inner = if themes.contains(&Theme::WindowJoin) && dice.chance(20) {
                relation(dice, Theme::WindowJoin, &[])
            } else {
                windowed(dice, "l", &window)
            };
            if !inner.windowed {
                return inner;
            }
            let partition = *dice.pick(&["", ", k"]);
            let (order_flink, order_batch) = *dice.pick(&[
                ("v DESC, s, k", "v DESC NULLS LAST, s NULLS FIRST, k NULLS FIRST"),
                ("s, v, k DESC", "s NULLS FIRST, v NULLS FIRST, k DESC NULLS LAST"),
            ]);
            let to = 1 + dice.below(3);
            let text = |order: &str, input: &str| {
                format!(
                    "SELECT k, v, s, window_start, window_end FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, \
                     window_end{partition} ORDER BY {order}) AS rn FROM ({input})) WHERE rn <= {to}"
                )
            };
            Relation { flink: text(order_flink, &inner.flink), batch: text(order_batch, &inner.batch), ..inner }
        }
        Theme::WindowJoin => {
            let (left, right) = (windowed(dice, "l", &window), windowed(dice, "r", &window));
            let on = "a.window_start = b.window_start AND a.window_end = b.window_end";
            let key = *dice.pick(&[" AND a.k = b.k", " AND a.k = b.k", " AND a.k = b.k AND a.v <> b.v", ""]);
            let both = |text: String, windowed: bool| Relation {
                flink: text.replace("LEFT_INPUT", &left.flink).replace("RIGHT_INPUT", &right.flink),
                batch: text.replace("LEFT_INPUT", &left.batch).replace("RIGHT_INPUT", &right.batch),
                windowed,
                append_only: true,
            };
            match dice.below(6) {
                kind @ 0..=3 => {
                    let word = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"][kind];
                    let windows = if kind < 2 {
                        "a.window_start, a.window_end"
                    } else if kind == 2 {
                        "b.window_start, b.window_end"
                    } else {
                        "COALESCE(a.window_start, b.window_start) AS window_start, COALESCE(a.window_end, b.window_end) AS window_end"
                    };
                    both(
                        format!("SELECT a.k, b.v, b.s, {windows} FROM (LEFT_INPUT) AS a {word} (RIGHT_INPUT) AS b ON {on}{key}"),
                        kind == 0,
                    )
                }
                4 => {
                    let not = *dice.pick(&["", "NOT "]);
                    both(
                        format!(
                            "SELECT * FROM (LEFT_INPUT) AS a WHERE {not}EXISTS (SELECT * FROM (RIGHT_INPUT) AS b WHERE {on}{key})"
                        ),
                        true,
                    )
                }
                _ => both(
                    format!("SELECT * FROM (LEFT_INPUT) AS a WHERE a.k IN (SELECT b.k FROM (RIGHT_INPUT) AS b WHERE {on})"),
                    true,
                ),
            }
        }
        Theme::Session => {
            let gap_s = 1 + dice.below(4) as i64;
            let by_key = dice.chance(70);
            let (partition, keys) = if by_key { (" PARTITION BY k", "k, ") } else { ("", "") };
            let k = if by_key { "k" } else { "CAST(NULL AS INT)" };
            let by = if by_key { "PARTITION BY k " } else { "" };
            Relation {
                flink: format!(
                    "SELECT {k} AS k, SUM(v) AS v, MAX(s) AS s, window_start, window_end FROM TABLE(SESSION(TABLE l{partition}, \
                     DESCRIPTOR(at), INTERVAL '{gap_s}' SECOND)) GROUP BY {keys}window_start, window_end"
                ),
                batch: format!(
                    "SELECT {k} AS k, SUM(v) AS v, MAX(s) AS s, to_timestamp_millis(MIN(at_ms)) AS window_start, \
                     to_timestamp_millis(MAX(at_ms) + {gap}) AS window_end FROM (SELECT *, SUM(begins) OVER ({by}ORDER BY at_ms) AS number \
                     FROM (SELECT *, CASE WHEN at_ms - LAG(at_ms) OVER ({by}ORDER BY at_ms) <= {gap} THEN 0 ELSE 1 END AS begins \
                     FROM l)) GROUP BY {keys}number",
                    gap = gap_s * 1_000
                ),
                windowed: true,
                append_only: true,
            }
        }
        Theme::IntervalJoin => {
            let (before_s, after_s) = (dice.below(5) as i64, dice.below(4) as i64 - 1);
            let (before_s, after_s) = if -before_s > after_s { (before_s, before_s) } else { (before_s, after_s) };
            let kind = *dice.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
            let extra = *dice.pick(&["", "", " AND a.v <> b.v", " AND a.v > 0"]);
            let sign = |seconds: i64| if seconds < 0 { ('-', -seconds) } else { ('+', seconds) };
            let (upper_sign, upper_s) = sign(after_s);
            let select = format!("SELECT a.k, b.v, COALESCE(a.s, b.s) AS s FROM l AS a {kind} r AS b ON a.k = b.k");
            Relation {
                flink: format!(
                    "{select} AND a.at BETWEEN b.at - INTERVAL '{before_s}' SECOND AND b.at {upper_sign} INTERVAL '{upper_s}' SECOND{extra}"
                ),
                batch: format!(
                    "{select} AND a.at_ms BETWEEN b.at_ms - {} AND b.at_ms + {}{extra}",
                    before_s * 1_000,
                    after_s * 1_000
                ),
                windowed: false,
                append_only: true,
            }
        }
        Theme::TemporalJoin => {
            let kind = *dice.pick(&["JOIN", "LEFT JOIN"]);
            Relation {
                flink: format!("SELECT a.k, b.v, a.s FROM l AS a {kind} versions FOR SYSTEM_TIME AS OF a.at AS b ON a.k = b.k"),
                batch: format!(
                    "SELECT a.k, b.v, a.s FROM l AS a {kind} (SELECT *, LEAD(at_ms) OVER (PARTITION BY k ORDER BY at_ms) AS until \
                     FROM r) AS b ON (a.k = b.k OR a.k IS NULL AND b.k IS NULL) \
                     AND a.at_ms >= b.at_ms AND (b.until IS NULL OR a.at_ms < b.until)"
                ),
                windowed: false,
                append_only: true,
            }
        }
        Theme::OverTime => {
            let by = *dice.pick(&["PARTITION BY k ", ""]);
            let call = *dice.pick(&["SUM(v)", "COUNT(*)", "MAX(v)", "MIN(v)", "COUNT(v)"]);
            let (flink, batch) = match dice.below(4) {
                0 => (String::new(), String::new()),
                1 => {
                    let rows = dice.below(3);
                    let frame = format!(" ROWS BETWEEN {rows} PRECEDING AND CURRENT ROW");
                    (frame.clone(), frame)
                }
                2 => {
                    let frame = " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_string();
                    (frame.clone(), frame)
                }
                _ => {
                    let seconds = 1 + dice.below(4);
                    (
                        format!(" RANGE BETWEEN INTERVAL '{seconds}' SECOND PRECEDING AND CURRENT ROW"),
                        format!(" RANGE BETWEEN {} PRECEDING AND CURRENT ROW", seconds * 1_000),
                    )
                }
            };
            Relation {
                flink: format!("SELECT k, {call} OVER ({by}ORDER BY at{flink}) AS v, s FROM l"),
                batch: format!("SELECT k, {call} OVER ({by}ORDER BY at_ms{batch}) AS v, s FROM l"),
                windowed: false,
                append_only: true,
            }
        }
        Theme::FirstOrLast => {
            let is_last = dice.chance(50);
            let direction = if is_last { " DESC" } else { "" };
            let filter = *dice.pick(&["", " WHERE v > 0"]);
            let text = |time: &str| {
                format!(
                    "SELECT k, v, s FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY {time}{direction}) AS rn FROM l{filter}) WHERE rn = 1"
                )
            };
            Relation { flink: text("at"), batch: text("at_ms"), windowed: false, append_only: !is_last }
        }
        Theme::SortByTime => {
            let text = "SELECT k, v, s FROM l WHERE v > 0 OR k IS NULL";
            Relation { flink: format!("{text} ORDER BY at, v"), batch: text.to_string(), windowed: false, append_only: true }
        }
    }
}

/// Something ordinary on top.
fn finished(dice: &mut Dice, relation: Relation) -> Relation {
    let wrapped = |text: &str| same(text.to_string(), &relation);
    match dice.below(6) {
        0 => wrapped("SELECT * FROM (INPUT) AS o WHERE o.v >= 0"),
        1 => Relation {
            append_only: false,
            windowed: false,
            ..wrapped("SELECT k, COUNT(*) AS n, SUM(v) AS total FROM (INPUT) AS o GROUP BY k")
        },
        2 if relation.windowed => wrapped("SELECT window_end, v + 1 AS w FROM (INPUT) AS o"),
        _ => relation,
    }
}

impl TimePair {
    fn declarations() -> String {
        let mut text = String::new();
        for table in ["l", "r"] {
            let _ = writeln!(
                text,
                "CREATE TABLE {table} (k INT, v INT, s STRING, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '3' SECOND) \
                 WITH ('connector' = 'memory');"
            );
        }
        text.push_str(
            "CREATE VIEW versions AS SELECT k, v, s, at FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY at DESC) AS rn FROM r) \
             WHERE rn = 1;\n",
        );
        text
    }

    pub fn show(&self) -> String {
        let mut text = format!("{}{};\n", TimePair::declarations(), self.flink);
        let mut start = 0;
        for (epoch, cut) in self.cuts.iter().enumerate() {
            let _ = writeln!(text, "-- epoch {} (lanes {})", epoch + 1, self.lanes[if self.restarts { epoch } else { 0 }]);
            for row in &self.rows[start..*cut] {
                let shown = |value: Option<i32>| value.map_or("NULL".to_string(), |value| value.to_string());
                let _ = writeln!(
                    text,
                    "--   {} partition {} ({}, {}, {}, {} ms)",
                    ["l", "r"][row.table],
                    row.partition,
                    shown(row.k),
                    shown(row.v),
                    row.s.map_or("NULL".to_string(), |s| format!("'{}'", letter(s))),
                    row.at_ms - START_MS
                );
            }
            start = *cut;
        }
        let restarts = if self.restarts { "restarts after each epoch, " } else { "" };
        let _ = writeln!(text, "-- {restarts}rows in a batch: {}, schedule {}", self.batch_rows, self.seed);
        let _ = writeln!(text, "-- in the batch engine: {}", self.batch);
        text
    }

    pub fn check(&self, engine: &BatchEngine) -> Result<(), Failure> {
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.check_unguarded(engine))) {
            Ok(result) => result,
            Err(panic) => Err(Failure::of_panic(panic.as_ref())),
        }
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let clock = Arc::new(ManualClock::default());
        let mut session = Session::new(REGISTRY_WITH_MEMORY, Arc::new(StreamPlanner { clock }));
        let script = format!("{}{};\n", TimePair::declarations(), self.flink);
        let refused = |findings: Vec<Diagnostic>| {
            let text: Vec<String> = findings.iter().map(|finding| format!("{}\n{}", finding.message, finding.render())).collect();
            Failure::new(FailureKind::Refused, text.concat())
        };
        for statement in &parse_script(&SourceText::new("pair.sql", script), &NoVariables).map_err(refused)? {
            if let Outcome::Query(plan) = session.execute(statement).map_err(refused)? {
                return Ok(*plan);
            }
        }
        Err(Failure::new(FailureKind::Refused, "the script has no query"))
    }

    fn check_unguarded(&self, engine: &BatchEngine) -> Result<(), Failure> {
        let plan = self.plan()?;
        let failed = |error: thalweg_core::Error| Failure::new(FailureKind::Error, error.full_message());
        let options = ExecutorOptions {
            lanes: self.lanes[0],
            partitions: self.partitions,
            seed: self.seed,
            batch_rows: self.batch_rows,
            weighted: HashSet::new(),
            merges: false,
            fault: None,
        };
        let mut executor = Executor::new(plan, options).map_err(failed)?;
        let sink = executor.plan().nodes.iter().rposition(|node| matches!(node.kind, NodeKind::Sink(_))).expect("a sink");
        let planned_append_only = !executor.plan().nodes[sink].properties.updating;
        if self.append_only && !planned_append_only {
            return Err(Failure::new(FailureKind::Property, "the plan is updating, but its rows are never taken back"));
        }
        let tables: Vec<(String, RecordBatch)> = ["l", "r"]
            .iter()
            .enumerate()
            .map(|(table, name)| ((*name).to_string(), batch(self.rows.iter().filter(|row| row.table == table), true)))
            .collect();
        let answer = engine.answer(&tables, &self.batch).map_err(|text| Failure::new(FailureKind::NoAnswer, text))?;
        let mut expected = Integral::default();
        answer.into_iter().for_each(|rows| expected.add(&Batch::append(rows)));
        let mut got = Integral::default();
        let mut start = 0;
        for (epoch, cut) in self.cuts.iter().enumerate() {
            if self.restarts && epoch > 0 {
                executor.restart(self.lanes[epoch]).map_err(failed)?;
            }
            self.feed(&mut executor, &self.rows[start..*cut]).map_err(failed)?;
            start = *cut;
            executor.run().map_err(failed)?;
            if self.restarts {
                executor.snapshot().map_err(failed)?;
            }
            executor.take_outputs()[sink].iter().for_each(|batch| got.add(batch));
            if planned_append_only && let Some(row) = got.beyond(&expected) {
                let text = format!("after epoch {}: a row has come that is not in the answer: {row}", epoch + 1);
                return Err(Failure::new(FailureKind::Difference, text));
            }
        }
        executor.end().map_err(failed)?;
        executor.take_outputs()[sink].iter().for_each(|batch| got.add(batch));
        match difference(&expected, &got) {
            Some(text) => Err(Failure::new(FailureKind::Difference, format!("at the end:\n{text}"))),
            None => Ok(()),
        }
    }

    /// Rows in order of arrival; neighbours of one partition are one batch.
    fn feed(&self, executor: &mut Executor, mut rest: &[Row]) -> thalweg_core::Result<()> {
        while let Some(first) = rest.first() {
            let together = rest.iter().take_while(|row| (row.table, row.partition) == (first.table, first.partition)).count();
            let (now, later) = rest.split_at(together.min(self.batch_rows));
            rest = later;
            executor.push(["l", "r"][first.table], first.partition, &Batch::append(batch(now.iter(), false)))?;
        }
        Ok(())
    }

    /// Pairs one step simpler.
    pub fn simpler(&self) -> Vec<TimePair> {
        let mut found = vec![];
        let mut with = |change: &dyn Fn(&mut TimePair)| {
            let mut copy = self.clone();
            change(&mut copy);
            if copy != *self {
                found.push(copy);
            }
        };
        let count = self.rows.len();
        let mut size = count / 2;
        while size > 0 {
            for start in (0..count).step_by(size) {
                with(&|pair| {
                    let end = (start + size).min(count);
                    pair.rows.drain(start..end);
                    for cut in &mut pair.cuts {
                        *cut -= (*cut).clamp(start, end) - start;
                    }
                });
            }
            size /= 2;
        }
        for cut in 0..self.cuts.len().saturating_sub(1) {
            with(&|pair| {
                pair.cuts.remove(cut);
                pair.lanes.remove(cut);
            });
        }
        with(&|pair| pair.restarts = false);
        with(&|pair| pair.lanes.fill(1));
        with(&|pair| pair.batch_rows = 1);
        with(&|pair| {
            pair.partitions = 1;
            pair.rows.iter_mut().for_each(|row| row.partition = 0);
        });
        for seed in 0..3 {
            if self.seed > seed {
                with(&|pair| pair.seed = seed);
            }
        }
        found
    }
}

/// As the table has them; for the batch engine with the time as a number too.
fn batch<'a>(rows: impl Iterator<Item = &'a Row> + Clone, with_ms: bool) -> RecordBatch {
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(rows.clone().map(|row| row.k).collect::<Int32Array>())),
        ("v", Arc::new(rows.clone().map(|row| row.v).collect::<Int32Array>())),
        ("s", Arc::new(rows.clone().map(|row| row.s.map(letter)).collect::<StringArray>())),
        ("at", Arc::new(rows.clone().map(|row| Some(row.at_ms * 1_000)).collect::<TimestampMicrosecondArray>())),
    ];
    if with_ms {
        columns.push(("at_ms", Arc::new(rows.map(|row| Some(row.at_ms)).collect::<Int64Array>())));
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("columns of one length")
}

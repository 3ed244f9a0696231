//! The figures as text for people and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::cold_start::ColdStart;
use crate::flink;
use crate::idle::Idle;
use crate::machine::Machine;
use crate::throughput::Throughput;
use crate::window_check::WindowCheck;

/// What was measured; the rest is empty.
#[derive(Default)]
pub struct Report {
    pub machine: Machine,
    pub events: u64,
    pub data_bytes: u64,
    pub window_check: Option<WindowCheck>,
    pub throughput: Vec<Throughput>,
    pub cold_start: Option<ColdStart>,
    pub idle: Option<Idle>,
    pub failures: Vec<Failure>,
}

/// A figure that could not be had.
pub struct Failure {
    pub measurement: String,
    pub parallelism: Option<u32>,
    pub message: String,
}

const HEADINGS: &[&str] = &[
    "query",
    "lanes",
    "wall s",
    "CPU s",
    "CPU-s / M events",
    "k events / CPU-s",
    "MB / CPU-s",
    "peak RSS MB",
    "Flink CPU-s / M",
    "Flink RSS GB",
    "Flink / Thalweg",
    "exercises",
];

impl Report {
    pub fn to_text(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{}, {} cores of {}, {} MB, Linux {}, load before {:.1}\n",
            machine.thalweg_version, machine.cores, machine.processor, machine.memory_mb, machine.kernel, machine.load
        );
        if self.data_bytes > 0 {
            text.push_str(&format!("{} events, {:.0} MB of JSON lines\n", self.events, self.data_bytes as f64 / 1e6));
        }
        if !self.throughput.is_empty() {
            let mut rows = vec![HEADINGS.iter().map(|heading| heading.to_string()).collect()];
            rows.extend(self.throughput.iter().map(table_row));
            text.push('\n');
            text.push_str(&aligned(&rows));
            text.push_str("\nFlink 2.3.0: two lanes, 3 million events of the same shape, warm JVM, another machine; wall times do not compare.\n");
        }
        text.push('\n');
        self.write_single_figures(&mut text);
        for failure in &self.failures {
            let lanes = failure.parallelism.map_or(String::new(), |lanes| format!(" at {lanes} lanes"));
            text.push_str(&format!("failed: {}{lanes}: {}\n", failure.measurement, failure.message));
        }
        text
    }

    fn write_single_figures(&self, text: &mut String) {
        if let Some(check) = &self.window_check {
            text.push_str(&format!("check         all {} bids are in {} windows\n", check.bids, check.windows));
        }
        if let Some(cold) = &self.cold_start {
            text.push_str(&format!(
                "cold start    {:.0} ms to the first row ({:.0} to {:.0}), {:.0} ms to the end: median of 10\n",
                cold.first_row_ms_median, cold.first_row_ms_min, cold.first_row_ms_max, cold.end_ms_median
            ));
        }
        if let Some(idle) = &self.idle {
            text.push_str(&format!(
                "idle          {:.1} MB resident, {:.1} % of a core; SIGTERM to exit {:.0} ms\n",
                idle.rss_kb as f64 / 1024.0,
                idle.cpu_share * 100.0,
                idle.shutdown_ms
            ));
        }
    }

    /// Names end with their unit; what was not measured is null.
    pub fn to_json(&self) -> Value {
        json!({
            "machine": self.machine.to_json(),
            "events": self.events,
            "data_bytes": self.data_bytes,
            "check": self.window_check.as_ref().map(|check| json!({ "bids": check.bids, "windows": check.windows })),
            "queries": self.throughput.iter().map(query_json).collect::<Vec<_>>(),
            "cold_start": self.cold_start.as_ref().map(|cold| json!({
                "first_row_ms_median": rounded(cold.first_row_ms_median),
                "first_row_ms_min": rounded(cold.first_row_ms_min),
                "first_row_ms_max": rounded(cold.first_row_ms_max),
                "end_ms_median": rounded(cold.end_ms_median),
            })),
            "idle": self.idle.as_ref().map(|idle| json!({
                "rss_kb": idle.rss_kb,
                "cpu_share": rounded(idle.cpu_share),
                "shutdown_ms": rounded(idle.shutdown_ms),
            })),
            "failures": self.failures.iter().map(|failure| json!({
                "measurement": failure.measurement,
                "parallelism": failure.parallelism,
                "message": failure.message,
            })).collect::<Vec<_>>(),
        })
    }
}

fn table_row(measured: &Throughput) -> Vec<String> {
    let cost = &measured.cost;
    let per_million = measured.cpu_seconds_per_million_events();
    let flink = flink::figure(measured.query.name);
    let number = |value: Option<f64>, decimals: usize| value.map_or("-".to_string(), |value| format!("{value:.decimals$}"));
    let ratio = flink.map(|flink| flink.cpu_seconds_per_million_events() / per_million).filter(|ratio| ratio.is_finite());
    vec![
        measured.query.name.to_string(),
        measured.parallelism.to_string(),
        format!("{:.2}", cost.wall_seconds),
        format!("{:.2}", cost.cpu_seconds),
        format!("{per_million:.2}"),
        number(measured.thousand_events_per_cpu_second(), 0),
        number(measured.megabytes_per_cpu_second(), 0),
        format!("{:.0}", cost.peak_rss_kb as f64 / 1024.0),
        number(flink.map(|flink| flink.cpu_seconds_per_million_events()), 1),
        number(flink.map(|flink| flink.peak_rss_gb), 1),
        number(ratio, 1),
        measured.query.exercises.to_string(),
    ]
}

fn query_json(measured: &Throughput) -> Value {
    json!({
        "query": measured.query.name,
        "parallelism": measured.parallelism,
        "wall_seconds": rounded(measured.cost.wall_seconds),
        "cpu_seconds": rounded(measured.cost.cpu_seconds),
        "cpu_seconds_per_million_events": rounded(measured.cpu_seconds_per_million_events()),
        "thousand_events_per_cpu_second": measured.thousand_events_per_cpu_second().map(rounded),
        "megabytes_per_cpu_second": measured.megabytes_per_cpu_second().map(rounded),
        "peak_rss_kb": measured.cost.peak_rss_kb,
        "flink": flink::figure(measured.query.name).map(|flink| json!({
            "cpu_seconds_per_million_events": rounded(flink.cpu_seconds_per_million_events()),
            "wall_seconds_for_3_million_events": flink.wall_seconds,
            "peak_rss_gb": flink.peak_rss_gb,
        })),
    })
}

/// Three decimals are more than any figure here deserves.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Columns two spaces apart; the first and the last to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // Writing to a string cannot fail.
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                _ if column + 1 == columns => write!(line, "  {cell}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Cost;
    use crate::queries::QUERIES;

    fn measured() -> Throughput {
        let cost = Cost { wall_seconds: 2.0, cpu_seconds: 3.0, peak_rss_kb: 51_200 };
        Throughput { query: &QUERIES[0], parallelism: 2, cost, events: 2_000_000, data_bytes: 600_000_000 }
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["query", "CPU s", "note"], ["q0", "12.25", "all"], ["tumble", "3.50", "-"]]
            .map(|row| row.map(String::from).to_vec());
        assert_eq!(aligned(&rows), "query   CPU s  note\nq0      12.25  all\ntumble   3.50  -\n");
    }

    #[test]
    fn figures_are_per_million_events() {
        let row = table_row(&measured());
        assert_eq!(row[..8], ["q0", "2", "2.00", "3.00", "1.50", "667", "200", "50"].map(String::from));
        assert_eq!(row[8..11], ["6.0", "1.7", "4.0"].map(String::from));
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let report = Report { throughput: vec![measured()], ..Report::default() };
        let json = report.to_json();
        assert_eq!(json["queries"][0]["cpu_seconds_per_million_events"], 1.5);
        assert!(json["idle"].is_null() && json["cold_start"].is_null());
        assert!(report.to_text().contains("CPU-s / M events"));
    }
}

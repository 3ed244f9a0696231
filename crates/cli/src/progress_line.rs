//! Progress on standard error: one line that redraws itself on a terminal, silence or log lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use thalweg_core::{Clock, EventTime};
use thalweg_runtime::{JobPhase, JobStatus, StatusSnapshot};

/// Whether a line is on the terminal now, so that whoever prints rows can take it away first.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// Takes the progress line away before rows are printed to the same terminal; it comes back by itself.
pub fn make_way() {
    if DRAWN.swap(false, Ordering::SeqCst) {
        let _ = write!(std::io::stderr(), "\r\x1b[2K");
        let _ = std::io::stderr().flush();
    }
}

const REDRAW: Duration = Duration::from_millis(500);
/// A start that takes longer than this is explained.
const LONG_START: Duration = Duration::from_secs(3);

/// Shows the status of a job until dropped.
pub struct ProgressLine {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ProgressLine {
    /// Starts showing `status`. On a terminal the line is drawn over itself; elsewhere only what keeps the job from running is
    /// said, once per reason, so that a container's log tells why nothing happens.
    pub fn start(status: Arc<JobStatus>, clock: Arc<dyn Clock>, checkpoint_url: Option<&String>) -> Self {
        let opens = match checkpoint_url {
            Some(url) => format!("the checkpoints in {url} and the sources"),
            None => "the sources".to_string(),
        };
        let done = Arc::new(AtomicBool::new(false));
        let thread_done = done.clone();
        let terminal = std::io::stderr().is_terminal();
        let thread = std::thread::spawn(move || {
            let mut line = Line { terminal, last_reason: None, last: None, begin: clock.monotonic(), opens };
            while !thread_done.load(Ordering::SeqCst) {
                line.show(&status.snapshot(), clock.as_ref());
                std::thread::park_timeout(REDRAW);
            }
            make_way();
        });
        ProgressLine { done, thread: Some(thread) }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

struct Line {
    terminal: bool,
    last_reason: Option<String>,
    /// Rows in, rows out and time at the last drawing, for rates.
    last: Option<(u64, u64, Duration)>,
    begin: Duration,
    /// What is opened first.
    opens: String,
}

impl Line {
    fn show(&mut self, snapshot: &StatusSnapshot, clock: &dyn Clock) {
        let reason = match &snapshot.phase {
            JobPhase::Connecting(reason) => Some(format!("connecting: {reason}")),
            JobPhase::DeliveryBlocked(reason) => Some(format!("delivery blocked: {reason}")),
            JobPhase::Starting if clock.monotonic().saturating_sub(self.begin) >= LONG_START => {
                Some(format!("connecting: still opening {}", self.opens))
            }
            _ => None,
        };
        if reason.is_some() && reason != self.last_reason {
            make_way();
            let _ = writeln!(std::io::stderr(), "{}", crate::secrets::scrub(reason.as_deref().unwrap_or_default()));
        }
        self.last_reason = reason;
        if self.terminal {
            let now = clock.monotonic();
            let rows_in: u64 = snapshot.sources.values().map(|source| source.rows).sum();
            let rows_out: u64 = snapshot.rows_out.values().sum();
            let (in_rate, out_rate) = match self.last {
                Some((before_in, before_out, before)) => {
                    let seconds = now.saturating_sub(before).as_secs_f64().max(0.001);
                    ((rows_in - before_in) as f64 / seconds, (rows_out - before_out) as f64 / seconds)
                }
                None => (0.0, 0.0),
            };
            self.last = Some((rows_in, rows_out, now));
            let text = line_text(snapshot, in_rate, out_rate, clock.wall_ms());
            let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
            let _ = std::io::stderr().flush();
            DRAWN.store(true, Ordering::SeqCst);
        }
    }
}

/// `in 1.2k/s (45,000)  out 3/s (120)  lag 12  watermark 10:00:07.000 (2.1 s ago)  late 4  state 1.2 MB  checkpoint 7, 0.4 s ago`
fn line_text(snapshot: &StatusSnapshot, in_rate: f64, out_rate: f64, wall_ms: i64) -> String {
    let rows_in: u64 = snapshot.sources.values().map(|source| source.rows).sum();
    let rows_out: u64 = snapshot.rows_out.values().sum();
    let mut parts = vec![
        format!("in {}/s ({})", short_number(in_rate), grouped(rows_in)),
        format!("out {}/s ({})", short_number(out_rate), grouped(rows_out)),
    ];
    let lags: Vec<u64> = snapshot.sources.values().filter_map(|source| source.lag_rows).collect();
    if !lags.is_empty() {
        parts.push(format!("lag {}", grouped(lags.iter().sum())));
    }
    let slowest = snapshot
        .sources
        .values()
        .filter_map(|source| Some((source.watermark?, source.held_by.as_ref())))
        .min_by_key(|(at, _)| *at);
    if let Some((watermark, held_by)) = slowest {
        parts.push(watermark_text(watermark, wall_ms));
        if let Some(partition) = held_by {
            parts.push(format!("held by {partition}"));
        }
    }
    let late: u64 = snapshot.late_rows.values().sum();
    if late > 0 {
        parts.push(format!("late {}", grouped(late)));
    }
    let unmatched: u64 = snapshot.unmatched_rows.values().sum();
    if unmatched > 0 {
        parts.push(format!("unmatched {}", grouped(unmatched)));
    }
    let skipped: u64 = snapshot.sources.values().map(|source| source.skipped).sum();
    if skipped > 0 {
        parts.push(format!("skipped {}", grouped(skipped)));
    }
    if snapshot.state_bytes > 0 {
        parts.push(format!("state {}", bytes_text(snapshot.state_bytes)));
    }
    if let Some(at) = snapshot.committed_ms {
        parts.push(format!("checkpoint {}, {} ago", snapshot.epoch, seconds_text(wall_ms - at)));
    }
    parts.join("  ")
}

fn watermark_text(watermark: EventTime, wall_ms: i64) -> String {
    match watermark {
        EventTime::MIN => "watermark none yet".to_string(),
        EventTime::MAX => "watermark at the end".to_string(),
        EventTime(ms) => {
            let clock = watermark.to_string();
            let time_of_day = clock.split(' ').nth(1).unwrap_or(&clock).to_string();
            format!("watermark {time_of_day} ({} ago)", seconds_text(wall_ms - ms))
        }
    }
}

fn seconds_text(ms: i64) -> String {
    match ms {
        ..60_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

fn short_number(rate: f64) -> String {
    match rate {
        r if r >= 1_000_000.0 => format!("{:.1}M", r / 1_000_000.0),
        r if r >= 10_000.0 => format!("{:.0}k", r / 1_000.0),
        r if r >= 1_000.0 => format!("{:.1}k", r / 1_000.0),
        r => format!("{r:.0}"),
    }
}

pub fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} kB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GB", bytes as f64 / 1_073_741_824.0),
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use thalweg_core::Epoch;
    use thalweg_runtime::SourceStatus;

    use super::*;

    #[test]
    fn one_line_says_it_all() {
        let mut snapshot = StatusSnapshot::default();
        let source = SourceStatus {
            rows: 45_000,
            watermark: Some(EventTime(1_767_261_607_000)),
            held_by: Some("clicks/2".to_string()),
            lag_rows: Some(12),
            ..SourceStatus::default()
        };
        snapshot.sources.insert("clicks".to_string(), source);
        snapshot.rows_out.insert("sink".to_string(), 120);
        snapshot.late_rows.insert("clicks".to_string(), 4);
        snapshot.state_bytes = 1_258_291;
        snapshot.epoch = Epoch(7);
        snapshot.committed_ms = Some(1_767_261_608_600);
        assert_eq!(
            line_text(&snapshot, 1_234.0, 3.0, 1_767_261_609_000),
            "in 1.2k/s (45,000)  out 3/s (120)  lag 12  watermark 10:00:07.000 (2.0 s ago)  held by clicks/2  late 4  \
             state 1.2 MB  checkpoint 7, 0.4 s ago"
        );
    }
}

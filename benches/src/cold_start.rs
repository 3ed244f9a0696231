//! How long a newcomer looks at nothing: from the start of a new process to its first row.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use thalweg_core::{Clock, Error, Result, SystemClock};

use crate::process::Running;
use crate::queries::quoted;
use crate::{Bench, file_error};

const STARTS: usize = 10;
const ROWS: usize = 10;
/// Patience with a start that brings no row.
const FIRST_ROW_TIME_MAX: Duration = Duration::from_secs(60);

/// Milliseconds over [`STARTS`] starts.
pub struct ColdStart {
    pub first_row_ms_median: f64,
    pub first_row_ms_min: f64,
    pub first_row_ms_max: f64,
    /// To the end of the process, all rows written.
    pub end_ms_median: f64,
}

/// Starts a SELECT over a file of ten rows, ten times. The process is new each time; the files are in the page cache.
/// # Errors
/// When a run fails, prints another number of rows than the file has, or no row within a minute.
pub fn run(bench: &Bench) -> Result<ColdStart> {
    let folder = bench.folder.join("ten-rows");
    write_rows(&folder)?;
    let file = bench.write_sql("cold", &script(&folder))?.display().to_string();
    let mut first_row_ms = vec![];
    let mut end_ms = vec![];
    for _ in 0..STARTS {
        let (first, end) = start_once(bench, &file)?;
        first_row_ms.push(first.as_secs_f64() * 1e3);
        end_ms.push(end.as_secs_f64() * 1e3);
    }
    Ok(ColdStart {
        first_row_ms_median: median(&mut first_row_ms),
        first_row_ms_min: first_row_ms.iter().copied().fold(f64::INFINITY, f64::min),
        first_row_ms_max: first_row_ms.iter().copied().fold(0.0, f64::max),
        end_ms_median: median(&mut end_ms),
    })
}

/// A folder with one file of [`ROWS`] JSON rows `id, name`.
pub fn write_rows(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| file_error("create", folder, error))?;
    let path = folder.join("rows.json");
    let text: String = (0..ROWS).map(|id| format!("{{\"id\":{id},\"name\":\"row {id}\"}}\n")).collect();
    fs::write(&path, text).map_err(|error| file_error("write", &path, error))
}

fn script(folder: &Path) -> String {
    format!(
        "\
CREATE TABLE ten_rows (id BIGINT, name STRING)
WITH ('connector' = 'filesystem', 'path' = {}, 'format' = 'json');

SELECT id, name FROM ten_rows;
",
        quoted(folder)
    )
}

/// Time to the first row and to the end.
fn start_once(bench: &Bench, file: &str) -> Result<(Duration, Duration)> {
    let clock = SystemClock::new();
    let mut running = Running::start(bench, "cold", &[file], Stdio::piped())?;
    let lines = read_in_background(running.take_stdout()?);
    let mut rows = 0;
    let mut first = None;
    loop {
        match lines.recv_timeout(FIRST_ROW_TIME_MAX) {
            Ok(()) => {
                first.get_or_insert_with(|| clock.monotonic());
                rows += 1;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = FIRST_ROW_TIME_MAX.as_secs();
                return Err(Error::unavailable(format!("thalweg printed nothing for {seconds} s, after {rows} rows")));
            }
        }
    }
    let status = running.wait(FIRST_ROW_TIME_MAX, |_| {})?;
    let end = clock.monotonic();
    running.require_success(status)?;
    match first {
        Some(first) if rows == ROWS => Ok((first, end)),
        _ => Err(Error::unavailable(format!("thalweg printed {rows} rows of a file of {ROWS}"))),
    }
}

/// One message for each line; the channel closes with the stream.
fn read_in_background(stdout: ChildStdout) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            if line.is_err() || sender.send(()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Of an even number of values, the mean of the two in the middle. Sorts the values; 0 if there are none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}

//! A figure for wrong results is worth nothing: the windows must hold every bid, once.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use thalweg_core::{Error, Result};

use crate::Bench;
use crate::data_set::DataSet;
use crate::process::Running;
use crate::queries::window_check_script;

const RUN_TIME_MAX: Duration = Duration::from_secs(1_800);

/// What the windows of one run held. They held what they should, else there is no such value.
pub struct WindowCheck {
    pub windows: u64,
    pub bids: u64,
}

/// Counts the bids of all windows by a query and compares with the number that the generator made.
/// # Errors
/// When the numbers differ, a row cannot be read, or the run fails.
pub fn run(bench: &Bench, data: &DataSet) -> Result<WindowCheck> {
    let file = bench.write_sql("check", &window_check_script(&data.folder))?.display().to_string();
    let mut running = Running::start(bench, "check", &[&file, "--parallelism", "2"], Stdio::piped())?;
    let stdout = BufReader::new(running.take_stdout()?);
    let mut found = WindowCheck { windows: 0, bids: 0 };
    for line in stdout.lines() {
        let line = line.map_err(|error| Error::unavailable("cannot read the rows of thalweg").with_cause(error))?;
        found.bids += bids_of(&line).ok_or_else(|| Error::unavailable(format!("no number \"bids\" in the row {line}")))?;
        found.windows += 1;
    }
    let status = running.wait(RUN_TIME_MAX, |_| {})?;
    running.require_success(status)?;
    if found.bids != data.bids {
        let message = format!("wrong result: {} windows hold {} bids, the events {}", found.windows, found.bids, data.bids);
        return Err(Error::unavailable(message));
    }
    Ok(found)
}

fn bids_of(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?.get("bids")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_a_row() {
        assert_eq!(bids_of(r#"{"window_start":"2026-01-01 00:00:00","bids":91}"#), Some(91));
        assert_eq!(bids_of(r#"{"window_start":"2026-01-01 00:00:00"}"#), None);
        assert_eq!(bids_of("not JSON"), None);
    }
}

//! What a pipeline costs while nothing happens: memory and CPU of a windowed count over a quiet topic.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use thalweg_core::{Clock, Error, Result, SystemClock};

use crate::cold_start::write_rows;
use crate::process::{Running, cpu_seconds, memory_kb};
use crate::queries::quoted;
use crate::{Bench, file_error};

/// Time to start up and come to rest.
const SETTLE: Duration = Duration::from_secs(2);
/// Time over which idle CPU is watched.
const WATCH: Duration = Duration::from_secs(2);
/// What a job promises to need at most after SIGTERM.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(20);

pub struct Idle {
    pub rss_kb: u64,
    /// Share of one core, 0.01 is one percent.
    pub cpu_share: f64,
    /// From SIGTERM to the end of the process.
    pub shutdown_ms: f64,
}

/// Fills an embedded topic with a few rows, reads it from its end, and watches.
/// # Errors
/// When the pipeline ends by itself, or does not end well after SIGTERM.
pub fn run(bench: &Bench) -> Result<Idle> {
    let topics = bench.folder.join("topics");
    // A topic of an older run may have been written by another version.
    if topics.exists() {
        fs::remove_dir_all(&topics).map_err(|error| file_error("remove", &topics, error))?;
    }
    fs::create_dir_all(&topics).map_err(|error| file_error("create", &topics, error))?;
    let embedded = topics.display().to_string();
    fill_topic(bench, &embedded)?;

    let file = bench.write_sql("idle", &idle_script())?.display().to_string();
    let mut running = Running::start(bench, "idle", &[&file, "--embedded", &embedded], Stdio::null())?;
    sleep(SETTLE);
    require_running(&mut running)?;
    let cpu_before = cpu_seconds(running.id())?;
    sleep(WATCH);
    require_running(&mut running)?;
    let cpu_share = (cpu_seconds(running.id())? - cpu_before) / WATCH.as_secs_f64();
    let rss_kb = memory_kb(running.id(), "VmRSS").ok_or_else(|| Error::unavailable("cannot read the memory of thalweg"))?;

    let clock = SystemClock::new();
    running.terminate()?;
    let status = running.wait(SHUTDOWN_TIME_MAX, |_| {})?;
    let shutdown_ms = clock.monotonic().as_secs_f64() * 1e3;
    running.require_success(status)?;
    Ok(Idle { rss_kb, cpu_share, shutdown_ms })
}

/// A topic exists once something was written to it.
fn fill_topic(bench: &Bench, embedded: &str) -> Result<()> {
    let rows = bench.folder.join("ten-rows");
    write_rows(&rows)?;
    let file = bench.write_sql("idle-topic", &fill_script(&rows))?.display().to_string();
    let mut running = Running::start(bench, "idle-topic", &[&file, "--embedded", embedded], Stdio::null())?;
    let status = running.wait(Duration::from_secs(60), |_| {})?;
    running.require_success(status)
}

fn require_running(running: &mut Running) -> Result<()> {
    match running.try_end()? {
        None => Ok(()),
        Some(status) => {
            running.require_success(status)?;
            Err(Error::unavailable("the pipeline over a quiet topic ended by itself"))
        }
    }
}

fn fill_script(rows: &Path) -> String {
    format!(
        "\
CREATE TABLE ten_rows (id BIGINT, name STRING)
WITH ('connector' = 'filesystem', 'path' = {}, 'format' = 'json');

CREATE TABLE quiet (id BIGINT, name STRING)
WITH ('connector' = 'kafka', 'topic' = 'quiet', 'properties.bootstrap.servers' = 'localhost:9092', 'format' = 'json');

INSERT INTO quiet SELECT id, name FROM ten_rows;
",
        quoted(rows)
    )
}

fn idle_script() -> String {
    "\
CREATE TABLE quiet (
  id BIGINT,
  name STRING,
  written_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  WATERMARK FOR written_at AS written_at - INTERVAL '4' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'quiet',
  'properties.bootstrap.servers' = 'localhost:9092',
  'scan.startup.mode' = 'latest-offset',
  'format' = 'json'
);

CREATE TABLE dropped (id BIGINT, window_end TIMESTAMP(3), n BIGINT) WITH ('connector' = 'blackhole');

INSERT INTO dropped
SELECT id, window_end, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE quiet, DESCRIPTOR(written_at), INTERVAL '10' SECOND))
GROUP BY id, window_start, window_end;
"
    .to_string()
}

//! A child process and what it costs, read from /proc. No library and no unsafe code is needed for that on Linux.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use thalweg_core::{Clock, Error, Result, SystemClock};

use crate::machine::{field, kilobytes};
use crate::{Bench, file_error};

/// How often a running child is looked at; wall times are rounded up by as much.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Patience with a child that does not end.
const RUN_TIME_MAX: Duration = Duration::from_secs(1_800);
/// Lines of a child's standard error that go into our own message.
const SHOWN_LOG_LINES: usize = 6;

/// What one run cost, from its start to its end.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub wall_seconds: f64,
    /// User and system time of all threads, in steps of the kernel's clock tick (10 ms as a rule).
    pub cpu_seconds: f64,
    /// The largest resident set that was seen. What is added in the last milliseconds may be missed.
    pub peak_rss_kb: u64,
}

/// A started `thalweg`. It is killed when this value is dropped before the end.
pub struct Running {
    child: Child,
    log: PathBuf,
    ended: bool,
}

impl Running {
    /// Starts `thalweg run` with the given arguments; its standard error goes to a file named after the measurement.
    pub fn start(bench: &Bench, name: &str, arguments: &[&str], stdout: Stdio) -> Result<Running> {
        let log = bench.log(name);
        let stderr = File::create(&log).map_err(|error| file_error("create", &log, error))?;
        let child = Command::new(&bench.program)
            .arg("run")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|error| file_error("start", &bench.program, error))?;
        Ok(Running { child, log, ended: false })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child's standard output, once, if it was started with a pipe.
    pub fn take_stdout(&mut self) -> Result<ChildStdout> {
        self.child.stdout.take().ok_or_else(|| Error::internal("the child has no standard output to read"))
    }

    /// How the child ended, if it did.
    pub fn try_end(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().map_err(|error| Error::unavailable("cannot wait for thalweg").with_cause(error))?;
        self.ended |= status.is_some();
        Ok(status)
    }

    /// Waits for the end, looking at the child again and again.
    /// # Errors
    /// `Unavailable` when it takes longer than `limit`; it is killed then.
    pub fn wait(&mut self, limit: Duration, mut look: impl FnMut(u32)) -> Result<ExitStatus> {
        let clock = SystemClock::new();
        loop {
            if let Some(status) = self.try_end()? {
                return Ok(status);
            }
            if clock.monotonic() > limit {
                return Err(Error::unavailable(format!("thalweg did not end within {} s", limit.as_secs())));
            }
            look(self.id());
            sleep(LOOK_INTERVAL);
        }
    }

    /// An error unless the child ended well; it quotes the end of the child's standard error.
    pub fn require_success(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n  ");
        Err(Error::unavailable(format!("thalweg ended with {status}\n  {shown}\n  all of it is in {}", self.log.display())))
    }

    /// Asks the child to end, as a container runtime does.
    pub fn terminate(&self) -> Result<()> {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::unavailable(format!("`kill -TERM {id}` ended with {status}"))),
            Err(error) => Err(Error::unavailable("cannot start `kill`").with_cause(error)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // It may have ended by itself meanwhile; there is nobody left to tell.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a file to its end and tells what that cost.
pub fn measure_run(bench: &Bench, name: &str, file: &Path, parallelism: u32) -> Result<Cost> {
    let file = file.display().to_string();
    let parallelism = parallelism.to_string();
    let cpu_before = cpu_seconds_of_ended_children()?;
    let clock = SystemClock::new();
    let mut running = Running::start(bench, name, &[&file, "--parallelism", &parallelism], Stdio::null())?;
    let mut peak_rss_kb = 0;
    let status = running.wait(RUN_TIME_MAX, |id| peak_rss_kb = peak_rss_kb.max(memory_kb(id, "VmHWM").unwrap_or(0)))?;
    let wall_seconds = clock.monotonic().as_secs_f64();
    running.require_success(status)?;
    // One child at a time runs here, so the difference is this one's.
    let cpu_seconds = cpu_seconds_of_ended_children()? - cpu_before;
    Ok(Cost { wall_seconds, cpu_seconds, peak_rss_kb })
}

/// `VmRSS` or `VmHWM` of a running process.
pub fn memory_kb(id: u32, name: &str) -> Option<u64> {
    kilobytes(&field(&format!("/proc/{id}/status"), name)?)
}

/// User and system time that a running process has used.
pub fn cpu_seconds(id: u32) -> Result<f64> {
    // Fields 14 and 15 of proc(5).
    seconds(&format!("/proc/{id}/stat"), 14)
}

/// User and system time of the children of this process that have ended and were waited for.
fn cpu_seconds_of_ended_children() -> Result<f64> {
    // Fields 16 and 17 of proc(5).
    seconds("/proc/self/stat", 16)
}

/// The sum of a field of a stat file, counted from 1 as in proc(5), and the next, in seconds.
fn seconds(path: &str, field: usize) -> Result<f64> {
    // Asked first: it is a child as well when it is asked for the first time.
    let ticks_per_second = ticks_per_second();
    let text = fs::read_to_string(path).map_err(|error| {
        let error = Error::unavailable(format!("cannot read {path}")).with_cause(error);
        error.with_help("CPU time is read from /proc: run this on Linux")
    })?;
    match sum_of_two_fields(&text, field) {
        Some(ticks) => Ok(ticks as f64 / ticks_per_second),
        None => Err(Error::unavailable(format!("{path} does not look as in proc(5)"))),
    }
}

fn sum_of_two_fields(stat: &str, field: usize) -> Option<u64> {
    // The second field is the name in parentheses, which may hold anything; what follows begins with the third.
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace().skip(field.checked_sub(3)?);
    let (first, second) = (fields.next()?, fields.next()?);
    first.parse::<u64>().ok()?.checked_add(second.parse().ok()?)
}

/// 100 on every usual Linux, but it may be configured.
fn ticks_per_second() -> f64 {
    static TICKS: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *TICKS.get_or_init(|| {
        let output = Command::new("getconf").arg("CLK_TCK").output().ok();
        output.and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok()).unwrap_or(100.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = "42 (a) name) S 1 2 3 4 5 6 7 8 9 10 110 20 3000 400 20 0 5 0";
        assert_eq!(sum_of_two_fields(stat, 14), Some(130));
        assert_eq!(sum_of_two_fields(stat, 16), Some(3_400));
        assert_eq!(sum_of_two_fields("42 (short) S 1", 14), None);
        assert_eq!(sum_of_two_fields("", 14), None);
    }
}

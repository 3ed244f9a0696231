//! Running the program and looking at what it did.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
pub fn thalweg() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg-under-test"));
    command.env_remove("RUST_BACKTRACE").env("NO_COLOR", "1").env("TZ", "UTC").stdin(Stdio::null());
    command
}

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The rows, one JSON object each.
    pub fn rows(&self) -> Vec<String> {
        self.stdout.lines().map(str::to_string).collect()
    }

    /// Checks the exit code, showing what was said if it differs.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code; stderr:\n{}\nstdout:\n{}", self.stderr, self.stdout);
        self
    }
}

/// Runs to the end, or fails after `limit`.
pub fn run_within(command: &mut Command, limit: Duration) -> Outcome {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be started");
    let stdout = read_in_background(child.stdout.take().expect("stdout is a pipe"));
    let stderr = read_in_background(child.stderr.take().expect("stderr is a pipe"));
    let status = wait_within(&mut child, limit);
    let stdout = stdout.join().expect("reading does not panic");
    let stderr = stderr.join().expect("reading does not panic");
    match status {
        Some(status) => Outcome { code: status.code(), stdout, stderr },
        None => panic!("{command:?} did not end within {limit:?}; stderr:\n{stderr}\nstdout:\n{stdout}"),
    }
}

/// Waits for the end; kills the process and returns `None` when it takes longer than `limit`.
pub fn wait_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return Some(status);
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read_in_background(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = vec![];
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs a SQL text with `thalweg run`, with further arguments.
pub fn run_sql(folder: &Path, sql: &str, arguments: &[&str]) -> Outcome {
    let file = folder.join("query.sql");
    std::fs::write(&file, sql).expect("the folder can be written");
    run_within(thalweg().arg("run").arg(&file).args(arguments), Duration::from_secs(60))
}

//! First figures: CPU-seconds per million Nexmark events, cold start to the first row, memory when idle.
//!
//! Measures the released `thalweg` program from outside, as a user meets it; `README.md` says what each figure means.

mod arguments;
mod cold_start;
mod data_set;
mod flink;
mod generator;
mod idle;
mod machine;
mod process;
mod queries;
mod report;
mod throughput;
mod window_check;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thalweg_core::{Error, ErrorKind, Result};

use arguments::{Arguments, Command};
use data_set::DataSet;
use machine::Machine;
use queries::QUERIES;
use report::{Failure, Report};

fn main() -> ExitCode {
    let outcome = match arguments::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            print!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Command::Measure(arguments)) => measure(&arguments),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", error.full_message());
            if let Some(help) = &error.help {
                eprintln!("help: {help}");
            }
            ExitCode::from(if error.kind == ErrorKind::User { 2 } else { 1 })
        }
    }
}

/// Measures what was asked for and prints it. One figure that cannot be had does not spoil the others; it makes the exit code 1.
fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let program = find_program(&arguments.thalweg)?;
    let machine = Machine::look(&program);
    let folder = absolute_folder(&arguments.data)?;
    let bench = Bench { program, sql: absolute_folder(&folder.join("sql"))?, folder };

    let mut report = Report { machine, events: arguments.events, ..Report::default() };
    let is_wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);

    if QUERIES.iter().map(|query| query.name).chain(["check"]).any(is_wanted) {
        let data = DataSet::find_or_generate(&bench.folder, arguments.events, arguments.seed)?;
        report.data_bytes = data.bytes;
        if is_wanted("check") {
            progress("check: rows of all windows");
            report.window_check = report.keep("check", None, window_check::run(&bench, &data));
        }
        for query in QUERIES.iter().filter(|query| is_wanted(query.name)) {
            for &parallelism in &arguments.parallelism {
                progress(&format!("{} at parallelism {parallelism}", query.name));
                let best = throughput::best_of(&bench, query, &data, parallelism, arguments.repeat);
                let measured = report.keep(query.name, Some(parallelism), best);
                report.throughput.extend(measured);
            }
        }
    }
    if is_wanted("cold") {
        progress("cold start");
        report.cold_start = report.keep("cold", None, cold_start::run(&bench));
    }
    if is_wanted("idle") {
        progress("idle memory");
        report.idle = report.keep("idle", None, idle::run(&bench));
    }

    if arguments.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{}", report.to_text());
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The program under test and the folders that a measurement may write to. All paths are absolute.
pub struct Bench {
    pub program: PathBuf,
    /// Holds the events; kept between runs.
    pub folder: PathBuf,
    sql: PathBuf,
}

impl Bench {
    /// Writes the SQL of one measurement; it stays there, to be tried by hand.
    pub fn write_sql(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.sql.join(format!("{name}.sql"));
        fs::write(&path, text).map_err(|error| file_error("write", &path, error))?;
        Ok(path)
    }

    /// Makes room for what a query writes, and puts the side input of q13 in place: a row for every third of the first auctions.
    pub fn clear_outputs(&self, query: &str) -> Result<()> {
        let lake = self.folder.join(format!("lake-{query}"));
        if lake.exists() {
            fs::remove_dir_all(&lake).map_err(|error| file_error("remove", &lake, error))?;
        }
        let side_input = absolute_folder(&self.folder.join("side_input"))?.join("part-0.csv");
        let rows: String = (0..10_000).step_by(3).map(|key| format!("{key},side {key}\n")).collect();
        fs::write(&side_input, rows).map_err(|error| file_error("write", &side_input, error))
    }

    /// Where the standard error of one measurement goes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.sql.join(format!("{name}.log"))
    }
}

impl Report {
    /// The value, or `None` after the failure was noted and shown.
    fn keep<T>(&mut self, measurement: &str, parallelism: Option<u32>, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                let message = error.full_message();
                eprintln!("failed: {measurement}: {message}");
                self.failures.push(Failure { measurement: measurement.to_string(), parallelism, message });
                None
            }
        }
    }
}

fn find_program(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| {
        Error::user(format!("no program at {}", path.display()))
            .with_cause(error)
            .with_help("build it with `cargo build --release`, or name it with --thalweg PATH")
    })
}

fn absolute_folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).map_err(|error| file_error("create", path, error))?;
    fs::canonicalize(path).map_err(|error| file_error("open", path, error))
}

/// An error of the file system with the path that it is about.
pub fn file_error(verb: &str, path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot {verb} {}", path.display())).with_cause(error)
}

/// Standard output is for the figures alone.
fn progress(what: &str) {
    eprintln!("measuring {what}");
}

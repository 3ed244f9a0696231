//! The `thalweg` program as a library, so that tests can build it too.
//!
//! Only this crate prints, reads the environment and chooses exit codes: 0 done, 1 failed, 2 the input is wrong, 3 a newer run
//! owns the job. Standard output carries rows only; everything else goes to standard error.

mod arguments;
mod connections;
mod demo;
mod error_pages;
mod inspect;
mod progress_line;
mod repl;
mod result;
mod script;
mod secrets;
mod settings_file;
mod shop;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use thalweg_core::{Clock, SystemClock};
use thalweg_runtime::Stopper;

use crate::arguments::{Arguments, CheckpointCommand, Command, LogFormat, ReplArguments, RunArguments};
use crate::result::{ResultFormat, RowOutput};
use crate::script::{Failure, ScriptOptions};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log_format = match &arguments.command {
        Some(Command::Run(run)) => run.sql.log_format,
        Some(Command::Repl(repl)) => repl.sql.log_format,
        _ => LogFormat::Text,
    };
    start_logging(log_format);
    let output = row_output();
    match dispatch(arguments, &output) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let _ = write!(std::io::stderr(), "{}", failure.render());
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(arguments: Arguments, output: &RowOutput) -> Result<u8, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    match arguments.command {
        Some(Command::Run(run)) => {
            let sources = script::read_sources(&run.files)?;
            let keeps_checkpoints = run.checkpoint_dir.is_some() || run.sql.embedded.is_some();
            script::run_script(&sources, &run_options(&run, clock), output, &stop_on_signals(keeps_checkpoints)?)?;
            Ok(0)
        }
        Some(Command::Check(check)) => inspect::check(&check, &clock),
        Some(Command::Explain(explain)) => inspect::explain(&explain, clock, output),
        Some(Command::Demo(demo)) => demo::run(&demo, clock, output, &stop_on_signals(true)?).map(|()| 0),
        Some(Command::Repl(repl)) => shell(&repl, clock, output),
        Some(Command::Checkpoint(checkpoint)) => match checkpoint.command {
            CheckpointCommand::List { url } => inspect::list_checkpoints(&url, output).map(|()| 0),
            CheckpointCommand::Show { url } => inspect::show_checkpoint(&url, output).map(|()| 0),
        },
        Some(Command::CheckStore { url }) => inspect::check_store(&url, output),
        None => shell(&arguments.repl, clock, output),
    }
}

fn shell(arguments: &ReplArguments, clock: Arc<dyn Clock>, output: &RowOutput) -> Result<u8, Failure> {
    let options = ScriptOptions {
        sql: arguments.sql.clone(),
        checkpoint_dir: None,
        job_name: None,
        parallelism: None,
        until_caught_up: false,
        shows_progress: std::io::stderr().is_terminal(),
        clock,
    };
    let text = match (&arguments.execute, &arguments.file) {
        (Some(sql), _) => thalweg_core::SourceText::new("<command line>", sql.as_str()),
        (None, Some(file)) => script::read_sources(std::slice::from_ref(file))?.remove(0),
        (None, None) => return repl::run(&options, output).map(|()| 0),
    };
    script::run_script(&[text], &options, output, &stop_on_signals(false)?)?;
    Ok(0)
}

fn run_options(run: &RunArguments, clock: Arc<dyn Clock>) -> ScriptOptions {
    ScriptOptions {
        sql: run.sql.clone(),
        checkpoint_dir: run.checkpoint_dir.clone(),
        job_name: Some(job_name(&run.files)),
        parallelism: run.parallelism,
        until_caught_up: run.until_caught_up,
        shows_progress: true,
        clock,
    }
}

/// The stems of the files, joined: `orders` for `pipelines/orders.sql`.
fn job_name(files: &[PathBuf]) -> String {
    let stems = files.iter().filter_map(|file| file.file_stem()).map(|stem| stem.to_string_lossy().into_owned());
    stems.collect::<Vec<_>>().join("+")
}

/// A table on a terminal, JSON lines elsewhere.
fn row_output() -> RowOutput {
    let format = if std::io::stdout().is_terminal() { ResultFormat::Table } else { ResultFormat::Json };
    RowOutput::new(Box::new(std::io::stdout()), format)
}

/// A stopper that SIGTERM and SIGINT set; a second signal ends the process at once, which loses nothing that was committed.
fn stop_on_signals(keeps_checkpoints: bool) -> Result<Stopper, Failure> {
    let stopper = Stopper::default();
    let on_signal = stopper.clone();
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
        .map_err(|error| Failure::Failed(thalweg_core::Error::internal("signals cannot be watched").with_cause(error)))?;
    std::thread::spawn(move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 {
                std::process::exit(128 + signal);
            }
            on_signal.stop();
            leave_in_time(keeps_checkpoints);
        }
    });
    Ok(stopper)
}

/// Ends the process if it has not ended by itself: a job that was asked to stop should be gone within 20 s, whatever is away
/// and however long its client waits. What is committed is safe; the next run does the rest, as after `kill -9`.
fn leave_in_time(keeps_checkpoints: bool) {
    const GRACE: std::time::Duration = std::time::Duration::from_secs(17);
    std::thread::spawn(move || {
        std::thread::sleep(GRACE);
        let _ = writeln!(
            std::io::stderr(),
            "stopped before the last checkpoint was complete; the next run goes on from the one before"
        );
        std::process::exit(i32::from(!keeps_checkpoints));
    });
}

/// Logs go to standard error; `RUST_LOG` chooses more of them.
fn start_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| secrets::ScrubbedStandardError).with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Whether a word looks like an error code rather than a file.
fn is_code(word: &str) -> bool {
    let digits = word.strip_prefix("TW").or_else(|| word.strip_prefix("tw"));
    digits.is_some_and(|digits| digits.len() == 4 && digits.chars().all(|digit| digit.is_ascii_digit()))
        && !Path::new(word).exists()
}

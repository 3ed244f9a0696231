//! The command line of the benchmark.

use std::path::PathBuf;

use thalweg_core::{Error, Result, nearest};

use crate::queries::QUERIES;

pub const HELP: &str = "\
Measures the thalweg program: CPU-seconds per million Nexmark events, cold start to the first row, memory when idle.

  cargo build --release && cargo run --release -p thalweg-benches -- [OPTIONS]

  --events N          events to generate and read (default 1000000, about 338 MB)
  --seed N            of the generator (default 1)
  --thalweg PATH      the program to measure (default target/release/thalweg)
  --data DIR          where events and SQL files are kept between runs (default target/bench-data)
  --only A,B          some of: q0 to q23, tumble, check, cold, idle (default all)
  --parallelism A,B   lanes to run each query with (default 1,2)
  --repeat N          runs of each query, of which the one with the least CPU counts (default 2)
  --json              print the figures as one JSON object
  --help
";

/// Measurements that are not queries.
const OTHER_MEASUREMENTS: &[&str] = &["check", "cold", "idle"];
const OPTIONS: &[&str] =
    &["--events", "--seed", "--thalweg", "--data", "--only", "--parallelism", "--repeat", "--json", "--help"];

#[derive(Debug)]
pub enum Command {
    Measure(Arguments),
    Help,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    pub events: u64,
    pub seed: u64,
    pub thalweg: PathBuf,
    pub data: PathBuf,
    /// Empty means everything.
    pub only: Vec<String>,
    pub parallelism: Vec<u32>,
    pub repeat: u32,
    pub json: bool,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments {
            events: 1_000_000,
            seed: 1,
            thalweg: PathBuf::from("target/release/thalweg"),
            data: PathBuf::from("target/bench-data"),
            only: vec![],
            parallelism: vec![1, 2],
            repeat: 2,
            json: false,
        }
    }
}

/// Parses `--name value` and `--name=value`.
/// # Errors
/// `User` for an unknown option, with the nearest name, and for a value that does not fit.
pub fn parse(words: impl Iterator<Item = String>) -> Result<Command> {
    let mut arguments = Arguments::default();
    let mut words = words;
    while let Some(word) = words.next() {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(value.to_string())),
            None => (word, None),
        };
        if !OPTIONS.contains(&name.as_str()) {
            let help = match nearest(&name, OPTIONS.iter().copied()) {
                Some(option) => format!("did you mean {option}?"),
                None => "--help lists the options".to_string(),
            };
            return Err(Error::user(format!("unknown option {name}")).with_help(help));
        }
        match name.as_str() {
            "--help" => return Ok(Command::Help),
            "--json" => arguments.json = true,
            _ => {
                let value = attached.or_else(|| words.next());
                let value = value.ok_or_else(|| Error::user(format!("option {name} needs a value")))?;
                set(&mut arguments, &name, &value)?;
            }
        }
    }
    Ok(Command::Measure(arguments))
}

fn set(arguments: &mut Arguments, name: &str, value: &str) -> Result<()> {
    match name {
        "--events" => arguments.events = number(name, value)?,
        "--seed" => arguments.seed = value.parse().map_err(|_| not_a_number(name, value))?,
        "--thalweg" => arguments.thalweg = PathBuf::from(value),
        "--data" => arguments.data = PathBuf::from(value),
        "--repeat" => arguments.repeat = small_number(name, value)?,
        "--parallelism" => {
            arguments.parallelism = value.split(',').map(|part| small_number(name, part.trim())).collect::<Result<_>>()?;
        }
        "--only" => arguments.only = value.split(',').map(|part| measurement(part.trim())).collect::<Result<_>>()?,
        _ => return Err(Error::internal(format!("option {name} is listed, but nothing sets it"))),
    }
    Ok(())
}

fn measurement(name: &str) -> Result<String> {
    let names: Vec<&str> = QUERIES.iter().map(|query| query.name).chain(OTHER_MEASUREMENTS.iter().copied()).collect();
    match names.contains(&name) {
        true => Ok(name.to_string()),
        false => Err(Error::user(format!("unknown measurement \"{name}\"")).with_help(format!("one of {}", names.join(", ")))),
    }
}

fn number(name: &str, value: &str) -> Result<u64> {
    match value.replace('_', "").parse() {
        Ok(parsed) if parsed > 0 => Ok(parsed),
        _ => Err(not_a_number(name, value)),
    }
}

fn small_number(name: &str, value: &str) -> Result<u32> {
    u32::try_from(number(name, value)?).map_err(|_| not_a_number(name, value))
}

fn not_a_number(name: &str, value: &str) -> Error {
    Error::user(format!("option {name} takes a positive whole number, not \"{value}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<Arguments, &str>) {
        let outcome = parse(line.split_whitespace().map(String::from));
        match (outcome, expected) {
            (Ok(Command::Measure(arguments)), Ok(expected)) => assert_eq!(arguments, expected, "{line}"),
            (Err(error), Err(expected)) => assert_eq!(error.message, expected, "{line}"),
            (outcome, expected) => panic!("{line}: {outcome:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn options_in_both_spellings() {
        check("", Ok(Arguments::default()));
        check("--events 3_000_000 --json", Ok(Arguments { events: 3_000_000, json: true, ..Arguments::default() }));
        check("--parallelism=1,4", Ok(Arguments { parallelism: vec![1, 4], ..Arguments::default() }));
        check("--only q0,idle", Ok(Arguments { only: vec!["q0".into(), "idle".into()], ..Arguments::default() }));
    }

    #[test]
    fn wrong_options() {
        check("--event 3", Err("unknown option --event"));
        check("--events", Err("option --events needs a value"));
        check("--events 0", Err("option --events takes a positive whole number, not \"0\""));
        check("--only q99", Err("unknown measurement \"q99\""));
    }

    #[test]
    fn the_help_names_every_option_and_measurement() {
        for name in OPTIONS.iter().chain(OTHER_MEASUREMENTS).chain(&["q0 to q23", "tumble"]) {
            assert!(HELP.contains(name), "{name} is missing in the help");
        }
    }
}

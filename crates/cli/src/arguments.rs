//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Streaming SQL in one program: Flink's dialect over Kafka topics and files.
#[derive(Parser)]
#[command(name = "thalweg", version, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub repl: ReplArguments,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run every INSERT of the files as one job until its inputs end or SIGTERM; a trailing SELECT prints rows.
    Run(RunArguments),
    /// Parse, bind and plan without connecting to anything; exit code 2 when something is wrong.
    Check(CheckArguments),
    /// Show the plan of a file, or the page of an error code such as TW0203.
    Explain(ExplainArguments),
    /// A shop's events, two pipelines and a data lake in this one process, to look at.
    Demo(DemoArguments),
    /// The shell. Also what `thalweg` alone starts.
    Repl(ReplArguments),
    /// Look into a checkpoint directory.
    Checkpoint(CheckpointArguments),
    /// Prove that an object store keeps the rules that exactly-once delivery relies on.
    CheckStore {
        /// A folder or s3://bucket/prefix.
        url: String,
    },
}

/// What every command that runs SQL takes.
#[derive(Args, Clone, Default)]
pub struct SqlArguments {
    /// A value for ${NAME} in the SQL.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = key_value)]
    pub variables: Vec<(String, String)>,

    /// A setting, as SET 'key' = 'value' at the head of the file.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,

    /// Every `kafka` table uses a durable topic log in this folder instead of a broker.
    #[arg(long, value_name = "DIR")]
    pub embedded: Option<PathBuf>,

    /// How logs are written to standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Args)]
pub struct RunArguments {
    /// SQL files, run in this order as one script. `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub sql: SqlArguments,

    /// Where checkpoints are kept: a folder or s3://bucket/prefix. With it the job resumes where it stopped.
    #[arg(long, value_name = "URL")]
    pub checkpoint_dir: Option<String>,

    /// Lanes that work side by side; by default parallelism.default, else one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=128))]
    pub parallelism: Option<u32>,

    /// Read to the end of what is there at start, emit what is complete, checkpoint, exit; the next run resumes.
    #[arg(long)]
    pub until_caught_up: bool,
}

#[derive(Args)]
pub struct CheckArguments {
    /// SQL files, each on its own.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub sql: SqlArguments,

    /// How findings are written to standard error.
    #[arg(long, value_enum, default_value_t = FindingFormat::Text)]
    pub format: FindingFormat,

    /// A checkpoint directory: report whether the file can resume from it.
    #[arg(long, value_name = "URL")]
    pub against: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FindingFormat {
    Text,
    Json,
}

#[derive(Args)]
pub struct ExplainArguments {
    /// A SQL file, or an error code.
    #[arg(value_name = "FILE or CODE")]
    pub subject: String,

    #[command(flatten)]
    pub sql: SqlArguments,
}

#[derive(Args)]
pub struct DemoArguments {
    /// Stop after this many seconds; by default at Ctrl-C.
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,

    /// Where topics, checkpoints and the lake go; by default a new folder below the temporary one.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Page views a second; the other events follow from them.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub rate: u64,
}

#[derive(Args, Clone, Default)]
pub struct ReplArguments {
    /// Run this SQL and exit.
    #[arg(short = 'e', value_name = "SQL")]
    pub execute: Option<String>,

    /// Run this file and exit.
    #[arg(short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,

    #[command(flatten)]
    pub sql: SqlArguments,
}

#[derive(Args)]
pub struct CheckpointArguments {
    #[command(subcommand)]
    pub command: CheckpointCommand,
}

#[derive(Subcommand)]
pub enum CheckpointCommand {
    /// The manifests of a checkpoint directory, oldest first.
    List {
        /// A folder or s3://bucket/prefix.
        url: String,
    },
    /// The newest manifest: positions, state, undelivered output.
    Show {
        /// A folder or s3://bucket/prefix.
        url: String,
    },
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_string(), value.trim().to_string())),
        _ => Err("write it as NAME=VALUE".to_string()),
    }
}

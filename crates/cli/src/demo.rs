//! `thalweg demo`: a shop, three pipelines and a lake in one process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use thalweg_connectors::embedded;
use thalweg_core::{Clock, Error, Rand, Result, SeededRand, SourceText, SystemRand, stable_hash};
use thalweg_runtime::Stopper;

use crate::arguments::{DemoArguments, LogFormat, SqlArguments};
use crate::result::{ResultFormat, RowOutput};
use crate::script::{Failure, ScriptOptions, run_script};
use crate::shop::{Shop, ShopEvent, TOPICS};

const PARTITIONS: u32 = 4;
/// Seconds of events that lie in the topics before the demo begins, so that the first windows close at once.
const HISTORY_SECONDS: i64 = 125;
const TICK: Duration = Duration::from_millis(100);

/// What runs, and the SELECT that shows it.
struct Pipeline {
    label: &'static str,
    name: &'static str,
    sql: &'static str,
    /// The sink topic and the columns to show.
    shown: Option<(&'static str, &'static str)>,
}

const PIPELINES: &[Pipeline] = &[
    Pipeline {
        label: "abandoned",
        name: "cart_abandonment.sql",
        sql: include_str!("../../../sql-examples/cart_abandonment.sql"),
        shown: Some(("abandoned_carts", "SELECT noticed_at, cart_id, user_id, cart_value, added_at FROM shown;")),
    },
    Pipeline {
        label: "revenue",
        name: "revenue_per_minute.sql",
        sql: include_str!("../../../sql-examples/revenue_per_minute.sql"),
        shown: Some(("revenue_per_minute", "SELECT minute_start, country, orders, customers, revenue FROM shown;")),
    },
    Pipeline {
        label: "lake",
        name: "clickstream_to_lake.sql",
        sql: include_str!("../../../sql-examples/clickstream_to_lake.sql"),
        shown: None,
    },
];

/// Runs until `stopper` is set, or for the given time.
pub fn run(arguments: &DemoArguments, clock: Arc<dyn Clock>, output: &RowOutput, stopper: &Stopper) -> Result<(), Failure> {
    let folder = match &arguments.dir {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir().join(format!("thalweg-demo-{}", &SystemRand.unique_id()[..8])),
    };
    let lake = folder.join("lake");
    for topic in TOPICS.iter().copied().chain(PIPELINES.iter().filter_map(|pipeline| pipeline.shown.map(|(topic, _)| topic))) {
        embedded::create_topic(&folder, topic, PARTITIONS)?;
    }
    say(&format!(
        "A shop's events flow into topics below {}\nand through these pipelines, each exactly once (their files are in sql-examples/):",
        folder.display()
    ));
    for pipeline in PIPELINES {
        let first_line = pipeline.sql.lines().next().unwrap_or_default().trim_start_matches("-- ");
        say(&format!("  {:<24} {first_line}", pipeline.name));
    }
    say("Ctrl-C ends it.\n");
    let published = Arc::new(AtomicU64::new(0));
    let generator = generate(&folder, arguments.rate, clock.clone(), published.clone(), stopper.clone());
    let jobs: Vec<(&str, JoinHandle<Result<(), Failure>>)> =
        PIPELINES.iter().flat_map(|pipeline| start(pipeline, &folder, &lake, clock.clone(), output, stopper)).collect();
    let begin = clock.monotonic();
    while !stopper.is_set() && !jobs.iter().any(|(_, job)| job.is_finished()) {
        if arguments.seconds.is_some_and(|seconds| clock.monotonic().saturating_sub(begin) >= Duration::from_secs(seconds)) {
            break;
        }
        std::thread::sleep(TICK);
    }
    stopper.stop();
    let mut first_failure = None;
    for (name, job) in jobs {
        if let Err(failure) =
            job.join().unwrap_or_else(|_| Err(Failure::from(Error::internal(format!("{name} stopped unexpectedly")))))
        {
            first_failure.get_or_insert(failure);
        }
    }
    let generated = generator.join().unwrap_or_else(|_| Err(Error::internal("the shop stopped unexpectedly")));
    if let Some(failure) = first_failure {
        return Err(failure);
    }
    generated?;
    let (files, bytes) = lake_size(&lake);
    say(&format!(
        "\n{} events came in. The page views are a Parquet lake now: {files} file{}, {}, in\n  {}\nTry: duckdb -c \"SELECT page, count(*) FROM '{}/*/*.parquet' GROUP BY 1\"",
        crate::progress_line::grouped(published.load(Ordering::SeqCst)),
        if files == 1 { "" } else { "s" },
        crate::progress_line::bytes_text(bytes),
        lake.display(),
        lake.display()
    ));
    Ok(())
}

fn start(
    pipeline: &'static Pipeline,
    folder: &Path,
    lake: &Path,
    clock: Arc<dyn Clock>,
    output: &RowOutput,
    stopper: &Stopper,
) -> Vec<(&'static str, JoinHandle<Result<(), Failure>>)> {
    let options = ScriptOptions {
        sql: SqlArguments {
            variables: vec![("LAKE".to_string(), lake.display().to_string())],
            settings: vec![("execution.checkpointing.interval".to_string(), "1 s".to_string())],
            embedded: Some(folder.to_path_buf()),
            log_format: LogFormat::Text,
        },
        checkpoint_dir: Some(folder.join("checkpoints").join(pipeline.name).display().to_string()),
        job_name: Some(pipeline.name.to_string()),
        parallelism: Some(1),
        until_caught_up: false,
        shows_progress: false,
        clock: clock.clone(),
    };
    let mut jobs = vec![spawn(pipeline.name, pipeline.sql.to_string(), options.clone(), output.clone(), stopper)];
    if let Some((sink, select)) = pipeline.shown {
        // The declarations of the pipeline, then a look at its sink.
        let declarations = pipeline.sql.split("\nINSERT INTO").next().unwrap_or_default();
        let shown = ScriptOptions { checkpoint_dir: None, ..options };
        let shown_output = labelled(output, pipeline.label);
        jobs.push(spawn(
            pipeline.name,
            format!("{declarations}\nCREATE TABLE shown WITH ('scan.startup.mode' = 'earliest-offset') LIKE {sink};\n{select}"),
            shown,
            shown_output,
            stopper,
        ));
    }
    jobs
}

fn spawn(
    name: &'static str,
    sql: String,
    options: ScriptOptions,
    output: RowOutput,
    stopper: &Stopper,
) -> (&'static str, JoinHandle<Result<(), Failure>>) {
    let stopper = stopper.clone();
    let run = move || run_script(&[SourceText::new(name, sql)], &options, &output, &stopper);
    (name, std::thread::spawn(run))
}

/// Rows with the pipeline's name in front of each line.
fn labelled(output: &RowOutput, label: &str) -> RowOutput {
    match output.format {
        ResultFormat::Json => output.clone(),
        ResultFormat::Table => RowOutput::new(
            Box::new(LabelledLines { label: format!("{label:>9} │ "), output: output.clone() }),
            ResultFormat::Table,
        ),
    }
}

struct LabelledLines {
    label: String,
    output: RowOutput,
}

impl Write for LabelledLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let lines: String = text.lines().map(|line| format!("{}{line}\n", self.label)).collect();
        self.output.write(lines.as_bytes()).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Publishes the shop's events until stopped: first the history, then live.
fn generate(
    folder: &Path,
    rate: u64,
    clock: Arc<dyn Clock>,
    published: Arc<AtomicU64>,
    stopper: Stopper,
) -> JoinHandle<Result<()>> {
    let folder: PathBuf = folder.to_path_buf();
    std::thread::spawn(move || {
        let mut appender = embedded::Appender::new(&folder);
        let mut shop = Shop::new(SeededRand::new(SystemRand.next_u64()), rate);
        let mut second = clock.wall_ms() / 1_000 - HISTORY_SECONDS;
        let mut coming: Vec<ShopEvent> = vec![];
        while !stopper.is_set() {
            let now = clock.wall_ms();
            while second * 1_000 < now {
                coming.extend(shop.second(second * 1_000));
                second += 1;
            }
            coming.sort_by_key(|event| event.arrives_ms);
            let arrived = coming.partition_point(|event| event.arrives_ms <= now);
            let events: Vec<ShopEvent> = coming.drain(..arrived).collect();
            published.fetch_add(events.len() as u64, Ordering::SeqCst);
            publish(&mut appender, &events, now)?;
            std::thread::sleep(TICK);
        }
        Ok(())
    })
}

fn publish(appender: &mut embedded::Appender, events: &[ShopEvent], now: i64) -> Result<()> {
    for topic in TOPICS {
        for partition in 0..PARTITIONS {
            let records: Vec<embedded::NewRecord<'_>> = events
                .iter()
                .filter(|event| event.topic == *topic && partition_of(&event.key) == partition)
                .map(|event| embedded::NewRecord {
                    timestamp_ms: Some(event.arrives_ms),
                    headers: vec![],
                    key: Some(event.key.as_bytes()),
                    value: Some(event.value.as_bytes()),
                })
                .collect();
            if !records.is_empty() {
                appender.append(topic, partition, &records, now)?;
            }
        }
    }
    Ok(())
}

fn partition_of(key: &str) -> u32 {
    u32::try_from(stable_hash(key.as_bytes()) % u64::from(PARTITIONS)).expect("the remainder is small")
}

/// Files and bytes below the lake's folder.
fn lake_size(folder: &Path) -> (usize, u64) {
    let Ok(entries) = std::fs::read_dir(folder) else { return (0, 0) };
    entries.flatten().fold((0, 0), |(files, bytes), entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let (more_files, more_bytes) = lake_size(&entry.path());
            (files + more_files, bytes + more_bytes)
        }
        Ok(metadata) => (files + 1, bytes + metadata.len()),
        Err(_) => (files, bytes),
    })
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

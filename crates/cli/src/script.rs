//! Runs a script: statements in order, INSERTs as one job at the end, SELECTs where they stand.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use thalweg_connectors::store::{StoreSettings, block_on, open_store};
use thalweg_connectors::{Environment, FILE_FORMATS, REGISTRY};
use thalweg_core::{Clock, Code, Diagnostic, Error, ErrorKind, Rand, ReadMode, Result, Severity, SourceText, SystemRand};
use thalweg_plan::{NodeKind, Plan, SinkTarget};
use thalweg_runtime::{Job, JobOptions, JobStatus, Stopper, needs_checkpoints};
use thalweg_sql::{InsertStatement, Outcome, Parsed, Session, Settings, Statement, StreamPlanner, Variables, parse_script};
use thalweg_state::JobStore;

use crate::arguments::SqlArguments;
use crate::connections::CliConnections;
use crate::progress_line::ProgressLine;
use crate::result::RowOutput;
use crate::secrets;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The SQL or a setting is wrong: exit code 2.
    Findings(Vec<Diagnostic>),
    /// A job failed.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.diagnostic {
            Some(finding) => Failure::Findings(vec![*finding]),
            None => Failure::Failed(error),
        }
    }
}

impl From<Diagnostic> for Failure {
    fn from(finding: Diagnostic) -> Self {
        Failure::Findings(vec![finding])
    }
}

impl From<Vec<Diagnostic>> for Failure {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Failure::Findings(findings)
    }
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Findings(_) => 2,
            Failure::Failed(error) => match error.kind {
                ErrorKind::User => 2,
                ErrorKind::Fenced => 3,
                ErrorKind::Record | ErrorKind::Unavailable | ErrorKind::Corrupt | ErrorKind::Internal => 1,
            },
        }
    }

    /// For standard error.
    pub fn render(&self) -> String {
        secrets::scrub(&self.text())
    }

    fn text(&self) -> String {
        match self {
            Failure::Findings(findings) => findings.iter().map(Diagnostic::render).collect::<Vec<_>>().join("\n"),
            Failure::Failed(error) => {
                let mut text = format!("error: {}\n", error.full_message());
                if let Some(help) = &error.help {
                    text.push_str(&format!("  = help: {help}\n"));
                }
                text
            }
        }
    }
}

#[derive(Clone)]
pub struct ScriptOptions {
    pub sql: SqlArguments,
    pub checkpoint_dir: Option<String>,
    /// What the job is called where nothing else tells jobs apart: the stem of its file. Without one, each run is a job of its own.
    pub job_name: Option<String>,
    pub parallelism: Option<u32>,
    pub until_caught_up: bool,
    pub shows_progress: bool,
    pub clock: Arc<dyn Clock>,
}

/// Values for `${…}`.
pub struct CommandVariables<'a>(pub &'a [(String, String)]);

impl Variables for CommandVariables<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(key, _)| key.clone()).collect()
    }

    fn environment(&self, name: &str) -> Option<String> {
        let value = std::env::var(name).ok()?;
        secrets::remember(&value);
        Some(value)
    }

    fn file(&self, path: &str) -> std::result::Result<String, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let value = text.trim_end_matches(['\n', '\r']);
        secrets::remember(value);
        Ok(value.to_string())
    }
}

/// A session with the settings of the command line.
/// # Errors
/// A setting that does not exist or cannot have its value.
pub fn new_session(sql: &SqlArguments, clock: Arc<dyn Clock>) -> Result<Session, Failure> {
    let mut session = Session::new(REGISTRY, Arc::new(StreamPlanner { clock }));
    for (key, value) in crate::settings_file::settings()?.iter().chain(&sql.settings) {
        session.settings_mut().set(key, value).map_err(Failure::from)?;
    }
    Ok(session)
}

/// Runs the texts as one script.
pub fn run_script(sources: &[SourceText], options: &ScriptOptions, output: &RowOutput, stopper: &Stopper) -> Result<(), Failure> {
    let variables = CommandVariables(&options.sql.variables);
    let mut statements = vec![];
    let mut findings = vec![];
    for source in sources {
        match parse_script(source, &variables) {
            Ok(parsed) => statements.extend(parsed),
            Err(more) => findings.extend(more),
        }
    }
    if !findings.is_empty() {
        return Err(Failure::Findings(findings));
    }
    let session = new_session(&options.sql, options.clock.clone())?;
    let mut script = Script { session, options, output, stopper, waiting: vec![] };
    let last_is_query = matches!(statements.last(), Some(Parsed { statement: Statement::Query(_), .. }));
    let (before, last) = statements.split_at(statements.len() - usize::from(last_is_query));
    for parsed in before {
        script.execute(parsed)?;
        if stopper.is_set() {
            return Ok(());
        }
    }
    script.finish(last.first())
}

struct Script<'a> {
    session: Session,
    options: &'a ScriptOptions,
    output: &'a RowOutput,
    stopper: &'a Stopper,
    /// INSERTs that run together at the end.
    waiting: Vec<InsertStatement>,
}

impl Script<'_> {
    fn execute(&mut self, parsed: &Parsed) -> Result<(), Failure> {
        match self.session.execute(parsed)? {
            Outcome::Done(_) => Ok(()),
            Outcome::Text(text) => Ok(self.output.write(format!("{}\n", text.trim_end()).as_bytes())?),
            Outcome::Rows(rows) => Ok(self.output.write_rows(&rows)?),
            Outcome::Query(plan) => Ok(self.run_select(*plan)?),
            Outcome::Inserts(inserts) if self.session.settings().boolean("table.dml-sync") => {
                let plan = self.session.plan_inserts(&inserts)?;
                Ok(self.run_job(plan, None, true)?)
            }
            Outcome::Inserts(inserts) => {
                self.waiting.extend(inserts);
                Ok(())
            }
        }
    }

    /// Runs the waiting INSERTs as one job, and the trailing SELECT beside it.
    fn finish(mut self, select: Option<&Parsed>) -> Result<(), Failure> {
        let select = match select {
            None => None,
            Some(parsed) => match self.session.execute(parsed)? {
                Outcome::Query(plan) => Some(*plan),
                _ => return Err(Failure::Failed(Error::internal("a query did not become a plan"))),
            },
        };
        let inserts = match self.waiting.as_slice() {
            [] => None,
            waiting => Some(self.session.plan_inserts(waiting)?),
        };
        match (inserts, select) {
            (None, None) => Ok(()),
            (Some(inserts), None) => Ok(self.run_job(inserts, self.options.checkpoint_dir.as_deref(), true)?),
            (None, Some(select)) => Ok(self.run_select(select)?),
            (Some(inserts), Some(select)) => {
                // Whichever of the two fails stops the other.
                let stop_both = |result: Result<()>| result.inspect_err(|_| self.stopper.stop());
                std::thread::scope(|scope| {
                    let inserts = scope.spawn(|| stop_both(self.run_job(inserts, self.options.checkpoint_dir.as_deref(), true)));
                    let selected = stop_both(self.run_select(select));
                    let inserted = inserts.join().unwrap_or_else(|_| Err(Error::internal("the INSERT job stopped unexpectedly")));
                    inserted?;
                    Ok(selected?)
                })
            }
        }
    }

    /// A SELECT keeps no durable state.
    fn run_select(&self, plan: Plan) -> Result<()> {
        self.run_job(plan, None, self.options.shows_progress)
    }

    fn run_job(&self, plan: Plan, checkpoint_dir: Option<&str>, shows_progress: bool) -> Result<()> {
        let shows_progress = shows_progress && self.options.shows_progress;
        let checkpoint_dir = checkpoint_dir.map(str::to_string);
        let options = ScriptOptions { checkpoint_dir, shows_progress, ..self.options.clone() };
        run_plan(&self.session, plan, &options, self.output, self.stopper)
    }
}

/// Runs a plan under the settings of a session. Without a checkpoint directory nothing outlives the process.
pub fn run_plan(session: &Session, plan: Plan, options: &ScriptOptions, output: &RowOutput, stopper: &Stopper) -> Result<()> {
    let settings = session.settings();
    let url = checkpoint_url(settings, &plan, options);
    if url.is_none() {
        refuse_promises_without_checkpoints(session, &plan)?;
    }
    let environment = Environment {
        store_settings: StoreSettings::from_variables(std::env::vars()),
        embedded_dir: options.sql.embedded.clone(),
        print_target: Arc::new(Mutex::new(output.clone())),
        print_error_target: Arc::new(Mutex::new(std::io::stderr())),
        memory: None,
        file_formats: FILE_FORMATS,
    };
    let (store, prefix) = match &url {
        Some(url) => open_store(url, &environment.store_settings)?,
        None => (Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, Path::default()),
    };
    let status = Arc::new(JobStatus::default());
    let progress = options.shows_progress.then(|| ProgressLine::start(status.clone(), options.clock.clone(), url.as_ref()));
    output.stop_when_closed(stopper.clone());
    let texts = declaring_texts(session, &plan);
    let job = Job {
        options: JobOptions {
            parallelism: parallelism(settings, options),
            mode: if options.until_caught_up { ReadMode::UntilCaughtUp } else { ReadMode::AsDeclared },
            checkpoint_interval: checkpoint_interval(settings, &plan),
            durable: url.is_some(),
            allow_plan_change: false,
            time_zone: settings.time_zone().name().to_string(),
            patience: Duration::from_secs(120),
        },
        plan,
        connections: Arc::new(CliConnections { environment, output: output.clone() }),
        store: Arc::new(JobStore::new(store, prefix, block_on(async { tokio::runtime::Handle::current() }))),
        clock: options.clock.clone(),
        rand: Box::new(|| Box::new(SystemRand) as Box<dyn Rand>),
        status: status.clone(),
        stopper: stopper.clone(),
    };
    let report = job.run().map_err(|error| in_its_source(error, texts));
    drop(progress);
    if report?.was_finished {
        say("the job had finished in an earlier run; its checkpoint directory says so, and nothing was run again");
    }
    say_late(&status);
    Ok(())
}

/// The texts that declare the tables of a plan, each once.
fn declaring_texts(session: &Session, plan: &Plan) -> Vec<SourceText> {
    let mut texts: Vec<SourceText> = vec![];
    for node in &plan.nodes {
        let table = match &node.kind {
            NodeKind::Source(source) => &source.table,
            NodeKind::Sink(sink) => match &sink.target {
                SinkTarget::Table(table) => table,
                SinkTarget::Result => continue,
            },
            _ => continue,
        };
        if let Some(declared) = session.catalog().table(&table.name)
            && !texts.contains(&declared.source)
        {
            texts.push(declared.source.clone());
        }
    }
    texts
}

/// What a connector finds wrong with a table's options has its place, but only we know the text. With several texts it could
/// be the wrong one.
fn in_its_source(mut error: Error, texts: Vec<SourceText>) -> Error {
    if let Some(finding) = &mut error.diagnostic
        && finding.source.is_none()
        && !finding.labels.is_empty()
        && let [text] = texts.as_slice()
    {
        finding.source = Some(text.clone());
    }
    error
}

/// Where checkpoints go: the command line, then the setting, then the folder of the embedded topics; nowhere for a SELECT.
fn checkpoint_url(settings: &Settings, plan: &Plan, options: &ScriptOptions) -> Option<String> {
    let has_tables =
        plan.nodes.iter().any(|node| matches!(&node.kind, NodeKind::Sink(sink) if matches!(sink.target, SinkTarget::Table(_))));
    if !has_tables || settings.boolean("table.dml-sync") {
        return None;
    }
    let set = || settings.get("execution.checkpointing.dir").map(str::to_string);
    let name = || options.job_name.clone().unwrap_or_else(|| SystemRand.unique_id());
    let embedded = || options.sql.embedded.as_ref().map(|dir| dir.join(".checkpoints").join(name()).display().to_string());
    options.checkpoint_dir.clone().or_else(set).or_else(embedded)
}

fn parallelism(settings: &Settings, options: &ScriptOptions) -> u32 {
    let set = settings.integer("parallelism.default").filter(|_| settings.is_set("parallelism.default"));
    let cores = || std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    options.parallelism.or(set.and_then(|lanes| u32::try_from(lanes).ok())).unwrap_or_else(cores).clamp(1, 128)
}

/// 1 s where somebody may wait for rows in a topic, 10 s for files alone.
fn checkpoint_interval(settings: &Settings, plan: &Plan) -> Duration {
    let name = "execution.checkpointing.interval";
    let set = settings.duration(name).filter(|_| settings.is_set(name));
    let writes_topics = plan.nodes.iter().any(|node| match &node.kind {
        NodeKind::Sink(sink) => match &sink.target {
            SinkTarget::Table(table) => matches!(table.connector(), Some("kafka" | "upsert-kafka")),
            SinkTarget::Result => false,
        },
        _ => false,
    });
    set.filter(|interval| !interval.is_zero()).unwrap_or(Duration::from_secs(if writes_topics { 1 } else { 10 }))
}

/// A topic that wants exactly-once delivery needs checkpoints that outlive the process.
fn refuse_promises_without_checkpoints(session: &Session, plan: &Plan) -> Result<()> {
    for node in &plan.nodes {
        if let NodeKind::Sink(sink) = &node.kind
            && let SinkTarget::Table(table) = &sink.target
            && ["sink.delivery-guarantee", "sink.semantic"].iter().any(|name| table.options.get(name) == Some("exactly-once"))
        {
            let place = table.options.key_span("sink.delivery-guarantee").or(table.span);
            let mut finding = needs_checkpoints(&table.name).label_opt(place, "promised here");
            finding.source = session.catalog().table(&table.name).map(|declared| declared.source.clone());
            return Err(finding.into());
        }
    }
    Ok(())
}

/// Late rows and skipped records are never silent.
fn say_late(status: &JobStatus) {
    let snapshot = status.snapshot();
    for (sources, rows) in &snapshot.late_rows {
        let late = counted(*rows, "late row");
        say(&format!("{late} of {sources} came when all windows for them had closed"));
    }
    for (operator, rows) in &snapshot.unmatched_rows {
        let rows = counted(*rows, "row");
        say(&format!("{rows} that {operator} was to take back were not there, or no longer, and were dropped"));
    }
    for (source, counts) in &snapshot.sources {
        if counts.skipped > 0 {
            say(&format!("skipped {} of {source} that could not be decoded", counted(counts.skipped, "record")));
        }
        if counts.far_future > 0 {
            let rows = counted(counts.far_future, "row");
            say(&format!("{rows} of {source} more than a day in the future did not move the watermark"));
        }
    }
}

/// `1 row`, `2,000 rows`.
fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", crate::progress_line::grouped(count), if count == 1 { "" } else { "s" })
}

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{}", secrets::scrub(text));
}

/// Parses, binds and plans a file without running it: the plans of its jobs, or every finding.
pub fn plan_file(source: &SourceText, sql: &SqlArguments, clock: Arc<dyn Clock>) -> Result<Vec<Plan>, Failure> {
    let statements = parse_script(source, &CommandVariables(&sql.variables))?;
    let mut session = new_session(sql, clock)?;
    let mut findings = vec![];
    let mut plans = vec![];
    let mut inserts: Vec<InsertStatement> = vec![];
    let mut undeclared: Vec<String> = vec![];
    for parsed in &statements {
        match session.execute(parsed) {
            Err(more) => {
                findings.extend(more.into_iter().filter(|finding| !follows_from(finding, &undeclared)));
                undeclared.extend(declared_name(&parsed.statement));
            }
            Ok(Outcome::Query(plan)) => plans.push(*plan),
            Ok(Outcome::Inserts(more)) if session.settings().boolean("table.dml-sync") => match session.plan_inserts(&more) {
                Ok(plan) => plans.push(plan),
                Err(more) => findings.extend(more),
            },
            Ok(Outcome::Inserts(more)) => inserts.extend(more),
            Ok(Outcome::Done(_) | Outcome::Rows(_) | Outcome::Text(_)) => {}
        }
    }
    if !inserts.is_empty() {
        match session.plan_inserts(&inserts) {
            Ok(plan) => plans.push(plan),
            Err(more) => findings.extend(more),
        }
    }
    let fatal = findings.iter().any(|finding| finding.severity == Severity::Error);
    if fatal { Err(Failure::Findings(findings)) } else { Ok(plans) }
}

/// What a statement would have declared.
fn declared_name(statement: &Statement) -> Option<String> {
    match statement {
        Statement::CreateTable(create) | Statement::CreateTableAs { table: create, .. } => Some(create.name.value.clone()),
        Statement::CreateView(create) => Some(create.name.value.clone()),
        _ => None,
    }
}

/// Whether a finding is only that a table is missing whose own declaration was wrong: one mistake, one finding.
fn follows_from(finding: &Diagnostic, undeclared: &[String]) -> bool {
    finding.code == Code::UNKNOWN_TABLE && undeclared.iter().any(|name| finding.message.ends_with(&format!("\"{name}\"")))
}

/// Reads SQL files; `-` is standard input.
pub fn read_sources(files: &[PathBuf]) -> Result<Vec<SourceText>, Failure> {
    files
        .iter()
        .map(|path| {
            let text =
                if path.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
            let name = if path.as_os_str() == "-" { "<stdin>".to_string() } else { path.display().to_string() };
            match text {
                Ok(text) => Ok(SourceText::new(name, text)),
                Err(error) => Err(Failure::Failed(Error::user(format!("file \"{name}\" cannot be read")).with_cause(error))),
            }
        })
        .collect()
}

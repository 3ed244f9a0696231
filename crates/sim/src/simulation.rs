//! A session with topics in memory, whose jobs are run in one of the [`Way`]s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use thalweg_connectors::memory::MemoryBroker;
use thalweg_connectors::store::StoreSettings;
use thalweg_connectors::{Environment, FILE_FORMATS, REGISTRY_WITH_MEMORY};
use thalweg_core::{Batch, Diagnostic, Error, ManualClock, ReadMode, SourceText};
use thalweg_plan::{NodeKind, Plan, SinkTarget};
use thalweg_runtime::{JobStatus, Stopper};
use thalweg_sql::{InsertStatement, NoVariables, Outcome, Session, StreamPlanner, parse_script};

use crate::connections::{Collected, Progress, SimConnections};
use crate::pipeline::{Pipeline, Run, Topics, Way, World, has_ended, scanned_tables, topic_of};
use crate::row_text;

/// The wall clock of a simulation stands at 2026-01-02 00:00:00 UTC.
const WALL_MS: i64 = 1_767_312_000_000;

/// What a statement gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    /// Lines: rows, or text such as a plan.
    Lines(Vec<String>),
}

/// An error as a user sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem(String);

impl Problem {
    pub fn new(text: impl Into<String>) -> Self {
        Problem(text.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Vec<Diagnostic>> for Problem {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Problem(findings.iter().map(Diagnostic::render).collect::<Vec<_>>().concat().trim_end().to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error.diagnostic {
            Some(finding) => Problem::from(vec![*finding]),
            None => {
                let help = error.help.as_ref().map(|help| format!("\n  = help: {help}")).unwrap_or_default();
                Problem(format!("error: {}{help}", error.full_message()))
            }
        }
    }
}

/// See the crate's documentation.
pub struct Simulation {
    way: Way,
    world: World,
    broker: Arc<MemoryBroker>,
    session: Session,
    topics: Topics,
    /// Topics that have ended.
    ended: BTreeSet<String>,
    /// The partition that the next rows of a topic go to.
    partitions: BTreeMap<String, usize>,
    /// INSERTs that become one job when the first rows come or are asked for.
    waiting: Vec<InsertStatement>,
    pipelines: Vec<Pipeline>,
    /// Something was ingested since the pipelines settled.
    unsettled: bool,
}

impl Simulation {
    pub fn new(way: Way) -> Self {
        let broker = MemoryBroker::new();
        let clock = Arc::new(ManualClock::at_wall_ms(WALL_MS));
        let environment = Environment {
            store_settings: StoreSettings::default(),
            embedded_dir: None,
            print_target: Arc::new(Mutex::new(Vec::<u8>::new())),
            print_error_target: Arc::new(Mutex::new(Vec::<u8>::new())),
            memory: Some(broker.clone()),
            file_formats: FILE_FORMATS,
        };
        Simulation {
            way,
            broker,
            session: Session::new(REGISTRY_WITH_MEMORY, Arc::new(StreamPlanner { clock: clock.clone() })),
            world: World { environment, clock },
            topics: Topics::new(),
            ended: BTreeSet::new(),
            partitions: BTreeMap::new(),
            waiting: vec![],
            pipelines: vec![],
            unsettled: false,
        }
    }

    /// Runs one statement, or a command of the driver:
    ///
    /// - `.partitions TABLE N`: the topic of TABLE has N partitions (1 otherwise). Before anything reads it.
    /// - `.partition TABLE N`: rows of the INSERTs that follow go to partition N.
    /// - `.checkpoint`: in the ways that stop jobs, stop and restore them here too.
    /// - `.restart [parallelism N]`: the same, with N lanes.
    /// - `.end TABLE`: no more rows will come; a table with `'bounded' = 'true'` then ends, which closes its windows.
    /// - `.late`: as a query, the late rows by source.
    ///
    /// `INSERT`s of literal rows run at once and put them into topics. Other `INSERT`s are pipelines.
    /// `SELECT * FROM t`, where a pipeline writes to `t`, gives what was delivered so far. Any other query runs as a job
    /// of its own over what is in the topics, until it has caught up; over a bounded table that has ended, to the end of time.
    /// # Errors
    /// As the user would see it.
    pub fn execute(&mut self, sql: &str) -> Result<Answer, Problem> {
        if let Some(command) = sql.trim().strip_prefix('.') {
            return self.command(command);
        }
        if let Some(table) = whole_table(sql)
            && let Some(topic) = self.written_topic(table)
        {
            self.settle_all()?;
            let rows: Vec<Batch> = self.broker.delivered(&topic).into_iter().map(|(_, batch)| batch).collect();
            return Ok(Answer::Lines(row_text::lines(&rows)?));
        }
        let parsed = parse_script(&SourceText::new("sql", sql), &NoVariables)?;
        let mut answer = Answer::Done;
        for statement in &parsed {
            answer = match self.session.execute(statement)? {
                Outcome::Done(_) => {
                    self.create_topics();
                    Answer::Done
                }
                Outcome::Rows(rows) => Answer::Lines(row_text::lines(&[Batch::append(rows)])?),
                Outcome::Text(text) => {
                    Answer::Lines(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_string).collect())
                }
                Outcome::Query(plan) => Answer::Lines(self.run_query(&plan)?),
                Outcome::Inserts(inserts) => {
                    self.create_topics();
                    self.insert(inserts)?;
                    Answer::Done
                }
            };
        }
        Ok(answer)
    }

    /// Adds rows to a partition of a topic.
    pub fn push(&mut self, topic: &str, partition: usize, rows: RecordBatch) {
        self.create_topic(topic, partition + 1);
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions[partition] += i64::try_from(rows.num_rows()).unwrap_or(i64::MAX);
        }
        self.broker.push(topic, partition, rows);
        self.unsettled = true;
        self.pipelines.iter().for_each(Pipeline::wake);
    }

    /// Late rows of all pipelines, by source.
    pub fn late_rows(&self) -> BTreeMap<String, u64> {
        let mut late = BTreeMap::new();
        for (source, rows) in self.pipelines.iter().flat_map(Pipeline::late_rows) {
            *late.entry(source).or_default() += rows;
        }
        late
    }

    /// Brings every pipeline to where all rows so far are delivered; where jobs are stopped, stops them there.
    /// # Errors
    /// What stopped a pipeline for good.
    pub fn settle_all(&mut self) -> Result<(), Problem> {
        self.start_waiting()?;
        if self.unsettled {
            self.settle()?;
        }
        self.pipelines.iter().try_for_each(Pipeline::check)
    }

    /// Lanes of the next run, in the ways that stop jobs.
    pub fn want_lanes(&mut self, lanes: u32) {
        self.pipelines.iter_mut().for_each(|pipeline| pipeline.want_lanes(lanes));
    }

    /// Stops what runs.
    /// # Errors
    /// What stopped a pipeline that nobody has asked for.
    pub fn finish(mut self) -> Result<(), Problem> {
        self.settle_all()?;
        self.pipelines.iter_mut().for_each(Pipeline::stop);
        self.pipelines.iter().try_for_each(Pipeline::check)
    }

    fn settle(&mut self) -> Result<(), Problem> {
        self.unsettled = false;
        self.pipelines.iter_mut().try_for_each(|pipeline| pipeline.settle(&self.topics, &self.ended))
    }

    fn command(&mut self, command: &str) -> Result<Answer, Problem> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |word: &str| word.parse::<usize>().map_err(|_| Problem::new(format!("\"{word}\" is no number")));
        match words.as_slice() {
            ["partitions", table, count] => {
                let topic = self.topic(table)?;
                if self.pipelines.iter().any(|pipeline| scanned_tables(pipeline.plan()).any(|scan| scan.name == *table)) {
                    return Err(Problem::new(format!("table \"{table}\" is read already")));
                }
                self.create_topic(&topic, number(count)?);
            }
            ["partition", table, partition] => {
                let (topic, partition) = (self.topic(table)?, number(partition)?);
                if self.topics.get(&topic).is_none_or(|partitions| partition >= partitions.len()) {
                    return Err(Problem::new(format!("topic \"{topic}\" has no partition {partition}")));
                }
                self.partitions.insert(topic, partition);
            }
            ["checkpoint"] => self.restart(None)?,
            ["restart"] => self.restart(None)?,
            ["restart", "parallelism", lanes] => self.restart(u32::try_from(number(lanes)?).ok())?,
            ["end", table] => {
                let topic = self.topic(table)?;
                self.start_waiting()?;
                self.broker.end(&topic);
                self.ended.insert(topic);
                self.unsettled = true;
                self.pipelines.iter().for_each(Pipeline::wake);
            }
            ["late"] => {
                self.settle_all()?;
                return Ok(Answer::Lines(self.late_rows().iter().map(|(source, rows)| format!("{source}  {rows}")).collect()));
            }
            _ => return Err(Problem::new(format!("there is no command \".{command}\""))),
        }
        Ok(Answer::Done)
    }

    fn restart(&mut self, lanes: Option<u32>) -> Result<(), Problem> {
        self.start_waiting()?;
        if let Some(lanes) = lanes {
            self.want_lanes(lanes);
        }
        if self.way == Way::Straight { Ok(()) } else { self.settle() }
    }

    /// Every declared `memory` table has a topic.
    fn create_topics(&mut self) {
        let catalog = self.session.catalog();
        let tables = catalog.table_names().into_iter().filter_map(|name| catalog.table(name));
        let topics: Vec<String> = tables.filter_map(|table| topic_of(&table.definition)).collect();
        topics.iter().for_each(|topic| self.create_topic(topic, 1));
    }

    fn create_topic(&mut self, topic: &str, partitions: usize) {
        self.broker.create_topic(topic, partitions);
        let rows = self.topics.entry(topic.to_string()).or_default();
        rows.resize(partitions.max(rows.len()), 0);
    }

    fn topic(&self, table: &str) -> Result<String, Problem> {
        let found = self.session.catalog().table(table).and_then(|table| topic_of(&table.definition));
        found.ok_or_else(|| Problem::new(format!("there is no memory table \"{table}\"")))
    }

    /// The topic of a table that a pipeline writes.
    fn written_topic(&self, table: &str) -> Option<String> {
        let is_waiting = self.waiting.iter().any(|insert| insert.target == table);
        let is_written = self.pipelines.iter().any(|pipeline| written_tables(pipeline.plan()).any(|name| name == table));
        (is_waiting || is_written).then(|| self.topic(table).ok()).flatten()
    }

    fn insert(&mut self, inserts: Vec<InsertStatement>) -> Result<(), Problem> {
        let plan = self.session.plan_inserts(&inserts)?;
        let reads = plan.nodes.iter().any(|node| matches!(node.kind, NodeKind::Source(_)));
        if reads {
            self.waiting.extend(inserts);
            return Ok(());
        }
        self.start_waiting()?;
        for (table, batches) in self.run_alone(&plan, 1, ReadMode::AsDeclared, self.world.environment.clone())? {
            let topic = self.topic(&table)?;
            let partition = self.partitions.get(&topic).copied().unwrap_or(0);
            for batch in batches {
                self.push(&topic, partition, batch.rows);
            }
        }
        // Here is where the other ways stop jobs. One that fails is told of by the next query.
        if self.way == Way::Straight { Ok(()) } else { self.settle() }
    }

    /// Makes one job of the INSERTs that wait.
    fn start_waiting(&mut self) -> Result<(), Problem> {
        if !self.waiting.is_empty() {
            let plan = self.session.plan_inserts(&std::mem::take(&mut self.waiting))?;
            let time_zone = self.session.settings().time_zone().name().to_string();
            self.pipelines.push(Pipeline::new(self.world.clone(), plan, time_zone, self.way));
            self.unsettled = true;
        }
        self.pipelines.iter_mut().try_for_each(|pipeline| Ok(pipeline.start()?))
    }

    fn run_query(&mut self, plan: &Plan) -> Result<Vec<String>, Problem> {
        self.settle_all()?;
        let lanes = if self.way == Way::Straight { 1 } else { 3 };
        let mode = if has_ended(plan, &self.ended) { ReadMode::AsDeclared } else { ReadMode::UntilCaughtUp };
        let environment = Environment { memory: Some(self.snapshot(plan)?), ..self.world.environment.clone() };
        let mut rows = self.run_alone(plan, lanes, mode, environment)?;
        Ok(row_text::lines(&rows.remove("").unwrap_or_default())?)
    }

    /// The topics that a plan reads: as delivered where a pipeline writes them, else as ingested.
    fn snapshot(&self, plan: &Plan) -> Result<Arc<MemoryBroker>, Problem> {
        let written: Vec<String> = self
            .pipelines
            .iter()
            .flat_map(|pipeline| written_tables(pipeline.plan()))
            .filter_map(|table| self.topic(table).ok())
            .collect();
        if !scanned_tables(plan).filter_map(topic_of).any(|topic| written.contains(&topic)) {
            return Ok(self.broker.clone());
        }
        let broker = MemoryBroker::new();
        for topic in scanned_tables(plan).filter_map(topic_of).collect::<BTreeSet<_>>() {
            if !written.contains(&topic) {
                return Err(Problem::new("a query cannot read what was ingested and what was delivered at once"));
            }
            broker.create_topic(&topic, 1);
            for (_, batch) in self.broker.delivered(&topic) {
                if batch.weights.is_some() {
                    return Err(Problem::new(format!("\"{topic}\" holds updates: read it with SELECT *")));
                }
                broker.push(&topic, 0, batch.rows);
            }
        }
        Ok(broker)
    }

    /// Runs a plan to its end, beside the pipelines; returns what it would have written, by table.
    fn run_alone(
        &self,
        plan: &Plan,
        lanes: u32,
        mode: ReadMode,
        environment: Environment,
    ) -> Result<BTreeMap<String, Vec<Batch>>, Problem> {
        let collected = Collected::default();
        let connections = SimConnections {
            environment,
            progress: Arc::new(Progress::default()),
            collected: collected.clone(),
            collects_tables: true,
            cuts_seed: None,
        };
        let time_zone = self.session.settings().time_zone();
        let run = Run {
            plan,
            time_zone: time_zone.name(),
            lanes,
            mode,
            connections,
            store: None,
            status: Arc::new(JobStatus::default()),
            stopper: Stopper::default(),
            patience: Duration::ZERO,
        };
        run.job(&self.world).run()?;
        Ok(collected.take())
    }
}

fn written_tables(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => match &sink.target {
            SinkTarget::Table(table) => Some(table.name.as_str()),
            SinkTarget::Result => None,
        },
        _ => None,
    })
}

/// `t` in `SELECT * FROM t`.
fn whole_table(sql: &str) -> Option<&str> {
    let words: Vec<&str> = sql.trim().trim_end_matches(';').split_whitespace().collect();
    match words.as_slice() {
        [select, "*", from, table] if select.eq_ignore_ascii_case("SELECT") && from.eq_ignore_ascii_case("FROM") => Some(table),
        _ => None,
    }
}

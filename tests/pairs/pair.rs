//! A pair of a query and rows, and what it takes to try it: plan, run epoch by epoch, compare after each.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array};
use thalweg_connectors::REGISTRY_WITH_MEMORY;
use thalweg_core::{Batch, Diagnostic, ManualClock, SourceText};
use thalweg_plan::{NodeKind, Plan};
use thalweg_sql::{NoVariables, Outcome, Session, StreamPlanner, parse_script};

use super::batch::BatchEngine;
use super::compare::{Integral, difference};
use super::executor::{Executor, ExecutorOptions, Fault};
use super::query::{Column, Query, Scope};
use super::render::{Dialect, render, render_shared, type_name};
use super::rows::{Event, Life, Table, events, value_text};

/// Partitions of each table.
const PARTITIONS: u32 = 4;

#[derive(Clone, PartialEq, Debug)]
pub struct Pair {
    pub tables: Vec<Table>,
    pub lives: Vec<Life>,
    /// The moments at which epochs end, in order; the last is the end.
    pub cuts: Vec<usize>,
    pub shared: Vec<Query>,
    pub query: Query,
    pub run: Run,
}

/// How the plan is run. Nothing of it may change the rows.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Whether shared subqueries are views; otherwise they are CTEs.
    pub views: bool,
    pub batch_rows: usize,
    /// Whether like rows that follow each other are one of a greater weight.
    pub merges: bool,
    /// Whether operators are made anew from snapshots after epochs.
    pub restarts: bool,
    /// Lanes in each epoch; without restarts those of the first.
    pub lanes: Vec<u32>,
    pub seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// The rows are others than those of the batch engine.
    Difference,
    /// A node breaks what the planner says of it.
    Property,
    Refused,
    Error,
    Panic,
    /// The batch engine has no answer: says nothing about us.
    NoAnswer,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    pub text: String,
}

impl Failure {
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Failure { kind, text: text.into() }
    }

    pub fn of_panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
        Failure::new(FailureKind::Panic, text.unwrap_or_else(|| "a panic without words".to_string()))
    }

    /// What it is about: the message without what varies. Differing rows have nothing in common.
    pub fn gist(&self) -> String {
        let line = self.text.lines().next().unwrap_or_default();
        let is_kept = |letter: &char| !letter.is_ascii_digit() && !"abcdef".contains(*letter);
        format!("{:?}: {}", self.kind, line.chars().filter(is_kept).take(60).collect::<String>())
    }

    /// Whether another failure is likely the same.
    pub fn is_like(&self, other: &Failure) -> bool {
        self.kind == other.kind && (self.kind == FailureKind::Difference || self.gist() == other.gist())
    }
}

impl Pair {
    /// The columns of tables and shared subqueries, or `None` if they do not fit together.
    pub fn scope<'a>(&self, declared: &'a [Vec<Column>]) -> Option<Scope<'a>> {
        let mut scope = Scope { tables: declared, shared: vec![] };
        for query in &self.shared {
            let columns = query.columns(&scope)?;
            scope.shared.push(columns);
        }
        self.query.columns(&scope)?;
        Some(scope)
    }

    pub fn declared(&self) -> Vec<Vec<Column>> {
        self.tables.iter().map(|table| table.columns.clone()).collect()
    }

    pub fn is_valid(&self) -> bool {
        self.scope(&self.declared()).is_some()
    }

    fn reads(&self, table: usize) -> bool {
        fn reads(query: &Query, wanted: usize) -> bool {
            matches!(query, Query::Table { table, .. } if *table == wanted)
                || query.parts().into_iter().any(|part| reads(part, wanted))
        }
        self.shared.iter().chain([&self.query]).any(|query| reads(query, table))
    }

    /// The statements before the query: tables, and views over those whose rows are taken back.
    fn declarations(&self) -> String {
        let mut text = String::new();
        for (index, table) in self.tables.iter().enumerate().filter(|(index, _)| self.reads(*index)) {
            let columns: Vec<String> =
                table.columns.iter().map(|column| format!("{} {}", column.name, sql_type(column))).collect();
            let name = if table.updating { format!("t{index}_rows") } else { format!("t{index}") };
            let _ = writeln!(text, "CREATE TABLE {name} ({}) WITH ('connector' = 'memory');", columns.join(", "));
            if table.updating {
                // To the planner the rows of `id` change; the executor puts the weighted rows in place of this grouping.
                let rest: Vec<String> =
                    table.columns[1..].iter().map(|column| format!("LAST_VALUE({0}) AS {0}", column.name)).collect();
                let _ = writeln!(
                    text,
                    "CREATE VIEW t{index} AS SELECT id, {} FROM {name} GROUP BY id HAVING COUNT(*) > 0;",
                    rest.join(", ")
                );
            }
        }
        let declared = self.declared();
        let mut scope = Scope { tables: &declared, shared: vec![] };
        if self.run.views {
            for (index, query) in self.shared.iter().enumerate() {
                let _ = writeln!(text, "CREATE VIEW s{index} AS\n{};", render_shared(query, &scope, Dialect::Flink));
                scope.shared.push(query.columns(&scope).unwrap_or_default());
            }
        }
        text
    }

    fn sql(&self, dialect: Dialect) -> String {
        let declared = self.declared();
        let scope = self.scope(&declared).expect("the pair is valid");
        let with_ctes = dialect == Dialect::Batch || !self.run.views;
        render(&self.query, &self.shared, &scope, dialect, with_ctes)
    }

    /// The whole of it, to be read.
    pub fn show(&self) -> String {
        let mut text = self.declarations();
        let _ = writeln!(text, "{};", self.sql(Dialect::Flink));
        let mut start = 0;
        for (epoch, cut) in self.cuts.iter().enumerate() {
            let lanes = self.run.lanes[if self.run.restarts { epoch } else { 0 }];
            let _ = writeln!(text, "-- epoch {} (lanes {lanes})", epoch + 1);
            for event in events(&self.lives).iter().filter(|event| (start..*cut).contains(&event.moment)) {
                let row = &self.lives[event.life];
                let columns = &self.tables[row.table].columns;
                let values: Vec<String> =
                    row.values.iter().zip(columns).map(|(value, column)| value_text(column.data_type, *value)).collect();
                let _ = writeln!(text, "--   {:+} t{} ({})", event.weight, row.table, values.join(", "));
            }
            start = *cut;
        }
        let _ = writeln!(
            text,
            "-- {}{}rows in a batch: {}, schedule {}",
            if self.run.restarts { "restarts after each epoch, " } else { "" },
            if self.run.merges { "like neighbours merged, " } else { "" },
            self.run.batch_rows,
            self.run.seed
        );
        let batch: String = self.sql(Dialect::Batch).split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "-- in the batch engine: {batch}");
        text
    }

    pub fn plan(&self) -> Result<Plan, Failure> {
        let clock = Arc::new(ManualClock::default());
        let mut session = Session::new(REGISTRY_WITH_MEMORY, Arc::new(StreamPlanner { clock }));
        let script = format!("{}{};\n", self.declarations(), self.sql(Dialect::Flink));
        let refused = |findings: Vec<Diagnostic>| {
            let text: Vec<String> = findings.iter().map(|finding| format!("{}\n{}", finding.message, finding.render())).collect();
            Failure::new(FailureKind::Refused, text.concat())
        };
        let parsed = parse_script(&SourceText::new("pair.sql", script), &NoVariables).map_err(refused)?;
        for statement in &parsed {
            if let Outcome::Query(plan) = session.execute(statement).map_err(refused)? {
                return Ok(*plan);
            }
        }
        Err(Failure::new(FailureKind::Refused, "the script has no query"))
    }

    /// Runs the pair. A panic is a failure as any other.
    pub fn check(&self, engine: &BatchEngine, fault: Option<Fault>) -> Result<(), Failure> {
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.check_unguarded(engine, fault))) {
            Ok(result) => result,
            Err(panic) => Err(Failure::of_panic(panic.as_ref())),
        }
    }

    fn check_unguarded(&self, engine: &BatchEngine, fault: Option<Fault>) -> Result<(), Failure> {
        let plan = self.plan()?;
        let batch_sql = self.sql(Dialect::Batch);
        let weighted: HashSet<String> =
            (0..self.tables.len()).filter(|table| self.tables[*table].updating).map(|table| format!("t{table}_rows")).collect();
        let failed = |error: thalweg_core::Error| Failure::new(FailureKind::Error, error.full_message());
        let options = ExecutorOptions {
            lanes: self.run.lanes[0],
            partitions: PARTITIONS,
            seed: self.run.seed,
            batch_rows: self.run.batch_rows,
            weighted,
            merges: self.run.merges,
            fault,
        };
        let mut executor = Executor::new(plan, options).map_err(failed)?;
        let watch = NodeWatch::new(executor.plan(), &self.tables);
        let mut integrals: Vec<Integral> = executor.plan().nodes.iter().map(|_| Integral::default()).collect();
        let sink = executor.plan().nodes.iter().rposition(|node| matches!(node.kind, NodeKind::Sink(_))).expect("a sink");
        let all = events(&self.lives);
        let mut start = 0;
        for (epoch, cut) in self.cuts.iter().enumerate() {
            if self.run.restarts && epoch > 0 {
                executor.restart(self.run.lanes[epoch]).map_err(failed)?;
            }
            let now: Vec<Event> = all.iter().filter(|event| (start..*cut).contains(&event.moment)).copied().collect();
            start = *cut;
            self.feed(&mut executor, &now).map_err(failed)?;
            executor.run().map_err(failed)?;
            if self.run.restarts {
                executor.snapshot().map_err(failed)?;
            }
            for (node, batches) in executor.take_outputs().into_iter().enumerate() {
                for batch in &batches {
                    watch.check(node, batch)?;
                    integrals[node].add(batch);
                }
            }
            let tables: Vec<_> = self
                .tables
                .iter()
                .enumerate()
                .map(|(index, table)| {
                    let there = self.lives.iter().filter(move |life| life.table == index && life.is_there(*cut));
                    (format!("t{index}"), table.batch(there))
                })
                .collect();
            let answer = engine.answer(&tables, &batch_sql).map_err(|text| Failure::new(FailureKind::NoAnswer, text))?;
            let mut expected = Integral::default();
            answer.into_iter().for_each(|rows| expected.add(&Batch::append(rows)));
            if let Some(text) = difference(&expected, &integrals[sink]) {
                return Err(Failure::new(FailureKind::Difference, format!("after epoch {}:\n{text}", epoch + 1)));
            }
            watch.check_keys(executor.plan(), &integrals)?;
        }
        executor.end().map_err(failed)?;
        let before = integrals[sink].clone();
        executor.take_outputs()[sink].iter().for_each(|batch| integrals[sink].add(batch));
        match difference(&before, &integrals[sink]) {
            Some(text) => Err(Failure::new(FailureKind::Difference, format!("when the input ends:\n{text}"))),
            None => Ok(()),
        }
    }

    /// Changes in order; neighbours of one partition are one batch.
    fn feed(&self, executor: &mut Executor, events: &[Event]) -> thalweg_core::Result<()> {
        let partition_of = |event: &Event| {
            let life = &self.lives[event.life];
            // Changes of one row come from one partition.
            let number = if self.tables[life.table].updating { life.values[0].unwrap_or(0) as u32 } else { event.life as u32 };
            number % PARTITIONS
        };
        let mut rest = events;
        while let Some(first) = rest.first() {
            let table = self.lives[first.life].table;
            let together = rest
                .iter()
                .take_while(|event| self.lives[event.life].table == table && partition_of(event) == partition_of(first))
                .count();
            let (now, later) = rest.split_at(together.min(self.run.batch_rows));
            rest = later;
            let rows = self.tables[table].batch(now.iter().map(|event| &self.lives[event.life]));
            let mut batch = Batch::append(rows);
            let name = if self.tables[table].updating {
                batch.weights = Some(now.iter().map(|event| event.weight).collect::<Int64Array>());
                batch.updates = Some(now.iter().map(|event| Some(event.is_update)).collect::<BooleanArray>());
                format!("t{table}_rows")
            } else {
                format!("t{table}")
            };
            executor.push(&name, partition_of(first), &batch)?;
        }
        Ok(())
    }
}

/// Checks that nodes keep what the planner says of them.
struct NodeWatch {
    /// Nodes whose rows are taken back although the planner cannot know: those below the view of a weighted table.
    is_below_view: Vec<bool>,
    names: Vec<String>,
    append_only: Vec<bool>,
}

impl NodeWatch {
    fn new(plan: &Plan, tables: &[Table]) -> Self {
        let mut is_below_view: Vec<bool> = vec![];
        for node in &plan.nodes {
            is_below_view.push(match &node.kind {
                NodeKind::Source(source) => tables
                    .iter()
                    .enumerate()
                    .any(|(index, table)| table.updating && source.table.name == format!("t{index}_rows")),
                NodeKind::Filter(_) | NodeKind::Project(_) => is_below_view[node.inputs[0].node],
                _ => false,
            });
        }
        NodeWatch {
            is_below_view,
            names: plan.nodes.iter().map(|node| node.id.0.clone()).collect(),
            append_only: plan.nodes.iter().map(|node| !node.properties.updating).collect(),
        }
    }

    fn check(&self, node: usize, batch: &Batch) -> Result<(), Failure> {
        let takes_back = (0..batch.num_rows()).any(|row| batch.weight(row) < 0);
        if self.append_only[node] && !self.is_below_view[node] && takes_back {
            let text = format!("node {} is append-only by its plan, but takes rows back", self.names[node]);
            return Err(Failure::new(FailureKind::Property, text));
        }
        Ok(())
    }

    /// After an epoch: at most one row for each upsert key, and no row less than no times.
    fn check_keys(&self, plan: &Plan, integrals: &[Integral]) -> Result<(), Failure> {
        for (index, node) in plan.nodes.iter().enumerate().filter(|(index, _)| !self.is_below_view[*index]) {
            if let Some(row) = integrals[index].negative() {
                let text = format!("node {} took back a row that was not there: {row}", node.id);
                return Err(Failure::new(FailureKind::Property, text));
            }
            let Some(key) = &node.properties.upsert_key else { continue };
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for (row, weight) in integrals[index].rows() {
                let key: Vec<&str> = key.iter().map(|column| row[*column].as_str()).collect();
                *seen.entry(key.join(", ")).or_default() += usize::try_from(weight).unwrap_or(0);
            }
            if let Some((key, rows)) = seen.into_iter().find(|(_, rows)| *rows > 1) {
                let text = format!("node {} has {rows} rows of one upsert key: {key}", node.id);
                return Err(Failure::new(FailureKind::Property, text));
            }
        }
        Ok(())
    }
}

fn sql_type(column: &Column) -> &'static str {
    if column.data_type == super::query::Type::Text { "STRING" } else { type_name(column.data_type) }
}

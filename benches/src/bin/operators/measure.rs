//! Feeds operators and tells what it cost.

use arrow::datatypes::SchemaRef;
use thalweg_core::{Batch, Epoch, Error, EventTime, LaneId, Result};
use thalweg_ops::{Operator, OperatorContext, Output, build};
use thalweg_plan::{Node, NodeKind, OperatorId, Properties, StateLifetime};

use crate::rows::{self, Columns, Row};

/// As the runtime cuts them.
const BATCH_ROWS: usize = 2_048;
const OUTPUT_ROWS: usize = 4_096;
/// Batches between two snapshots.
const EPOCH_BATCHES: u64 = 64;

pub struct Bench {
    pub rows: u64,
    /// Cases whose names do not contain this are left out.
    pub wanted: String,
}

/// What one line of the table measures.
pub struct Case {
    pub name: String,
    /// Each gives its output to the next.
    pub operators: Vec<Box<dyn Operator>>,
    pub columns: Columns,
    pub ports: usize,
}

impl Case {
    pub fn new(name: &str, kind: NodeKind, columns: Columns, ports: usize, output: SchemaRef) -> Result<Self> {
        let inputs = vec![rows::schema(columns); ports];
        let operator = build(&node(kind, output), &inputs, &context())?;
        Ok(Case { name: name.to_string(), operators: vec![operator], columns, ports })
    }
}

pub fn node(kind: NodeKind, schema: SchemaRef) -> Node {
    let properties = Properties { state: StateLifetime::Forever, ..Properties::default() };
    Node { id: OperatorId("node".to_string()), kind, inputs: vec![], schema, properties, span: None }
}

pub fn context() -> OperatorContext {
    OperatorContext { lane: LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: OUTPUT_ROWS, ignores_unmatched: false }
}

impl Bench {
    pub fn print_head(&self) {
        println!("{:<44} {:>10} {:>10} {:>10} {:>10} {:>10}", "operator", "rows in", "rows out", "ns/in", "ns/out", "MB held");
    }

    /// Feeds as many rows as are wanted; `row` gives each by its number.
    pub fn run(&self, case: Result<Case>, row: impl Fn(u64) -> Row) -> Result<()> {
        let Case { name, operators, columns, ports } = case?;
        if !name.contains(&self.wanted) {
            return Ok(());
        }
        let mut run = Run { operators, rows_out: 0, held_bytes: 0 };
        let mut spent = 0.0;
        let (mut number, mut batches) = (0, 0);
        while number < self.rows {
            let end = self.rows.min(number + (ports * BATCH_ROWS) as u64);
            let chosen: Vec<Row> = (number..end).map(&row).collect();
            let mut inputs = vec![];
            for port in 0..ports {
                let own: Vec<Row> = chosen.iter().filter(|row| row.port == port).copied().collect();
                if !own.is_empty() {
                    inputs.push((port, rows::batch(columns, &own)?));
                }
            }
            batches += inputs.len() as u64;
            let start = cpu_nanoseconds()?;
            for (port, batch) in inputs {
                run.batch(0, port, batch)?;
            }
            for port in 0..ports {
                run.watermark(0, port, rows::watermark_ms(end))?;
            }
            let is_epoch = batches >= EPOCH_BATCHES || end == self.rows;
            if is_epoch {
                batches = 0;
                run.snapshot()?;
            }
            spent += cpu_nanoseconds()? - start;
            if is_epoch {
                run.look_at_state();
            }
            number = end;
        }
        let per_row_out = if run.rows_out == 0 { "-".to_string() } else { format!("{:.0}", spent / run.rows_out as f64) };
        println!(
            "{name:<44} {:>10} {:>10} {:>10.0} {per_row_out:>10} {:>10.1}",
            self.rows,
            run.rows_out,
            spent / self.rows as f64,
            run.held_bytes as f64 / 1e6
        );
        Ok(())
    }
}

struct Run {
    operators: Vec<Box<dyn Operator>>,
    rows_out: usize,
    /// The most at the end of an epoch.
    held_bytes: u64,
}

impl Run {
    fn batch(&mut self, stage: usize, port: usize, batch: Batch) -> Result<()> {
        let mut out = Output::default();
        self.operators[stage].on_batch(port, batch, &mut out)?;
        self.pass_on(stage, out)
    }

    fn watermark(&mut self, stage: usize, port: usize, ms: i64) -> Result<()> {
        let mut out = Output::default();
        self.operators[stage].on_watermark(port, EventTime(ms), &mut out)?;
        self.pass_on(stage, out)?;
        if stage + 1 < self.operators.len() {
            self.watermark(stage + 1, 0, ms)?;
        }
        Ok(())
    }

    fn pass_on(&mut self, stage: usize, mut out: Output) -> Result<()> {
        loop {
            for batch in out.batches.drain(..) {
                if stage + 1 < self.operators.len() {
                    self.batch(stage + 1, 0, batch)?;
                } else {
                    self.rows_out += batch.num_rows();
                }
            }
            if !self.operators[stage].resume(&mut out)? {
                return Ok(());
            }
        }
    }

    fn snapshot(&mut self) -> Result<()> {
        for stage in 0..self.operators.len() {
            self.operators[stage].snapshot(Epoch(1))?;
        }
        Ok(())
    }

    fn look_at_state(&mut self) {
        let held = self.operators.iter().map(|operator| operator.metrics().state_bytes).sum();
        self.held_bytes = self.held_bytes.max(held);
    }
}

/// What the scheduler has given this thread; the first figure of its file, see proc(5).
fn cpu_nanoseconds() -> Result<f64> {
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path);
    let figure = text.ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
    figure.ok_or_else(|| Error::unavailable(format!("cannot read the CPU time from {path}")).with_help("run this on Linux"))
}

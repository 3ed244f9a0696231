//! Operators measured alone, without a source or a sink: nanoseconds per row in and out, bytes of state per row.
//!
//! `cargo run --release -p thalweg-benches --bin operators [million rows]`. One thread; CPU time of that thread.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use thalweg_core::{Batch, Epoch, Error, LaneId, Result};
use thalweg_ops::{Operator, OperatorContext, Output, build};
use thalweg_plan::{Join, JoinKey, JoinKind, Node, NodeKind, OperatorId, Properties, StateLifetime};

/// As the runtime cuts them.
const BATCH_ROWS: usize = 2_048;
const OUTPUT_ROWS: usize = 4_096;
/// Batches between two snapshots.
const EPOCH_BATCHES: u64 = 64;

fn main() -> Result<()> {
    let million: f64 = match std::env::args().nth(1) {
        None => 1.0,
        Some(text) => text.parse().map_err(|_| Error::user(format!("\"{text}\" is not a number of million rows")))?,
    };
    let rows = (million * 1e6) as u64;
    println!("{:<44} {:>10} {:>10} {:>10} {:>10} {:>10}", "join", "rows in", "rows out", "ns/in", "ns/out", "MB held");
    let inner = join(JoinKind::Inner, [false, false]);
    let left = join(JoinKind::Left, [false, false]);
    let left_updating = join(JoinKind::Left, [true, true]);
    measure("inner, each key once on each side", &inner, rows, |row| (row % 2, scattered(row / 2), 1))?;
    measure("inner, 1,000 keys left, all else right", &inner, rows, |row| match row {
        0..1_000 => (0, row, 1),
        _ => (1, scattered(row) % 1_000, 1),
    })?;
    measure("inner, no key matches", &inner, rows, |row| (row % 2, scattered(row), 1))?;
    measure("inner, ten rows of each key", &inner, rows, |row| (row % 2, scattered(row / 2) % (rows / 20).max(1), 1))?;
    measure("left, each key once on each side", &left, rows, |row| (row % 2, scattered(row / 2), 1))?;
    measure("left, updates on both sides, 10,000 keys", &left_updating, rows, |row| {
        // Each key in turn comes, and goes when it is met again.
        let key = row / 2 % 10_000;
        (row % 2, key, if row / 20_000 % 2 == 0 { 1 } else { -1 })
    })?;
    measure("semi, 10,000 keys right", &join(JoinKind::Semi, [false, false]), rows, |row| {
        (row % 2, scattered(row / 2) % 10_000, 1)
    })?;
    measure("inner, one row with all", &inner, rows, |row| (u64::from(row + 1 < rows), 1, 1))
}

/// Spreads numbers over their range; different ones stay different.
fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
}

fn schema(prefix: &str) -> SchemaRef {
    let field = |name: &str, data_type| Field::new(format!("{prefix}_{name}"), data_type, true);
    Arc::new(Schema::new(vec![field("key", DataType::Int64), field("number", DataType::Int64), field("text", DataType::Utf8)]))
}

fn join(kind: JoinKind, updating: [bool; 2]) -> Join {
    Join {
        kind,
        keys: vec![JoinKey { left: 0, right: 0, nulls_match: false }],
        condition: None,
        null_aware: false,
        left_updating: updating[0],
        right_updating: updating[1],
        time_to_live: [None, None],
    }
}

fn operator(join: &Join) -> Result<Box<dyn Operator>> {
    let inputs = [schema("l"), schema("r")];
    let mut fields = inputs[0].fields().to_vec();
    if join.kind.has_right_columns() {
        fields.extend(inputs[1].fields().iter().cloned());
    }
    let node = Node {
        id: OperatorId("join".to_string()),
        kind: NodeKind::Join(join.clone()),
        inputs: vec![],
        schema: Arc::new(Schema::new(fields)),
        properties: Properties { state: StateLifetime::Forever, ..Properties::default() },
        span: None,
    };
    build(
        &node,
        &inputs,
        &OperatorContext { lane: LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: OUTPUT_ROWS, ignores_unmatched: false },
    )
}

/// Feeds `rows` rows; `row` gives the side, the key and the weight of each.
fn measure(name: &str, join: &Join, rows: u64, row: impl Fn(u64) -> (u64, u64, i64)) -> Result<()> {
    let mut operator = operator(join)?;
    let mut inputs = vec![];
    let mut number = 0;
    while number < rows {
        let end = rows.min(number + 2 * BATCH_ROWS as u64);
        for side in [0, 1] {
            let chosen: Vec<(u64, u64, i64)> = (number..end).map(&row).filter(|(of, ..)| *of == side).collect();
            if !chosen.is_empty() {
                inputs.push((side as usize, batch(side, &chosen)?));
            }
        }
        number = end;
    }
    let start = cpu_nanoseconds()?;
    let mut rows_out = 0;
    for (number, (side, batch)) in (1..).zip(inputs) {
        let mut out = Output::default();
        operator.on_batch(side, batch, &mut out)?;
        loop {
            rows_out += out.batches.drain(..).map(|batch| batch.num_rows()).sum::<usize>();
            if !operator.resume(&mut out)? {
                break;
            }
        }
        if number % EPOCH_BATCHES == 0 {
            operator.snapshot(Epoch(number / EPOCH_BATCHES))?;
        }
    }
    let spent = cpu_nanoseconds()? - start;
    let held_bytes = operator.metrics().state_bytes;
    println!(
        "{name:<44} {rows:>10} {rows_out:>10} {:>10.0} {:>10.0} {:>10.1}",
        spent / rows as f64,
        spent / rows_out as f64,
        held_bytes as f64 / 1e6
    );
    Ok(())
}

/// What the scheduler has given this thread; the first figure of its file, see proc(5).
fn cpu_nanoseconds() -> Result<f64> {
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path);
    let figure = text.ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
    figure.ok_or_else(|| Error::unavailable(format!("cannot read the CPU time from {path}")).with_help("run this on Linux"))
}

fn batch(side: u64, rows: &[(u64, u64, i64)]) -> Result<Batch> {
    let keys = rows.iter().map(|(_, key, _)| *key as i64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(keys.clone())),
        Arc::new(Int64Array::from_iter_values(keys.clone().map(|key| key / 3))),
        Arc::new(StringArray::from_iter_values(keys.map(|key| format!("text of {:>12}", key % 1_000_000)))),
    ];
    let weights =
        rows.iter().any(|(.., weight)| *weight != 1).then(|| rows.iter().map(|(.., weight)| *weight).collect::<Vec<_>>().into());
    let rows = RecordBatch::try_new(schema(if side == 0 { "l" } else { "r" }), columns)?;
    Ok(Batch { weights, ..Batch::append(rows) })
}

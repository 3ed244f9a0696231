//! Operators measured alone, without a source or a sink: nanoseconds per row in and out, bytes of state per row.
//!
//! `cargo run --release -p thalweg-benches --bin operators [million rows]`. One thread; wall time, so the machine should be idle.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use thalweg_core::{Batch, Clock, Epoch, Error, LaneId, Result, SystemClock};
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
    println!("{:<44} {:>10} {:>10} {:>10} {:>10} {:>10}", "join", "rows in", "rows out", "ns/in", "ns/out", "B/held");
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
    build(&node, &inputs, &OperatorContext { lane: LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: OUTPUT_ROWS })
}

/// Feeds `rows` rows; `row` gives the side, the key and the weight of each.
fn measure(name: &str, join: &Join, rows: u64, row: impl Fn(u64) -> (u64, u64, i64)) -> Result<()> {
    let mut operator = operator(join)?;
    let clock = SystemClock::new();
    let mut spent = Duration::ZERO;
    let mut rows_out = 0;
    let mut number = 0;
    let mut batches = 0;
    while number < rows {
        let end = rows.min(number + 2 * BATCH_ROWS as u64);
        for side in [0, 1] {
            let chosen: Vec<(u64, u64, i64)> = (number..end).map(&row).filter(|(of, ..)| *of == side).collect();
            if chosen.is_empty() {
                continue;
            }
            let batch = batch(side, &chosen)?;
            let start = clock.monotonic();
            let mut out = Output::default();
            operator.on_batch(side as usize, batch, &mut out)?;
            loop {
                let count: usize = out.batches.drain(..).map(|batch| batch.num_rows()).sum();
                rows_out += count;
                if !operator.resume(&mut out)? {
                    break;
                }
            }
            batches += 1;
            if batches % EPOCH_BATCHES == 0 {
                operator.snapshot(Epoch(batches / EPOCH_BATCHES))?;
            }
            spent += clock.monotonic() - start;
        }
        number = end;
    }
    let metrics = operator.metrics();
    let per = |count: u64| spent.as_nanos() as f64 / count.max(1) as f64;
    println!(
        "{name:<44} {rows:>10} {rows_out:>10} {:>10.0} {:>10.0} {:>10.0}",
        per(rows),
        per(rows_out as u64),
        metrics.state_bytes as f64 / metrics.state_rows.max(1) as f64
    );
    Ok(())
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

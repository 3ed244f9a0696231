//! Operators over changes and over values within rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use thalweg_core::Result;
use thalweg_plan::{Conflict, NodeKind, Normalize, SetKind, SetOperation, SinkMaterialize, Unnest};

use crate::measure::{Bench, Case};
use crate::rows::{Columns, KEY, LIST, Row, joined, scattered, schema};

pub fn set_operations(bench: &Bench) -> Result<()> {
    let kinds = [
        ("INTERSECT", SetKind::Intersect, false),
        ("INTERSECT ALL", SetKind::Intersect, true),
        ("EXCEPT", SetKind::Except, false),
        ("EXCEPT ALL", SetKind::Except, true),
    ];
    for (name, kind, all) in kinds {
        let node = NodeKind::SetOperation(SetOperation { kind, all });
        let case = Case::new(&format!("{name}, 100,000 rows"), node, Columns::Plain, 2, schema(Columns::Plain));
        bench.run(case, |row| {
            let key = scattered(row) % 100_000;
            Row { port: (row % 2) as usize, ..Row::new(key, key) }
        })?;
    }
    Ok(())
}

pub fn unnest(bench: &Bench) -> Result<()> {
    let input = schema(Columns::Listed);
    let output = joined(&input, &[Arc::new(Field::new("element", DataType::Int64, true))]);
    let unnest = Unnest { column: LIST, ordinality: false, keep_empty: false, is_multiset: false, condition: None };
    let case = Case::new("unnest, three elements", NodeKind::Unnest(unnest), Columns::Listed, 1, output);
    bench.run(case, |row| Row::new(row, scattered(row)))
}

pub fn upserts(bench: &Bench) -> Result<()> {
    let normalize = NodeKind::Normalize(Normalize { keys: vec![KEY] });
    let case = Case::new("upserts, 100,000 keys", normalize, Columns::Plain, 1, schema(Columns::Plain));
    bench.run(case, |row| {
        // One of ten deletes its key.
        let weight = if scattered(row / 7).is_multiple_of(10) { -1 } else { 1 };
        Row { number: row, weight, ..Row::new(row, scattered(row) % 100_000) }
    })?;
    let kinds = [("last row", Conflict::Deduplicate), ("first row", Conflict::Nothing)];
    for (name, conflict) in kinds {
        let sink = NodeKind::SinkMaterialize(SinkMaterialize { keys: vec![KEY], conflict });
        let name = format!("sink by key, {name}, 100,000 keys");
        let case = Case::new(&name, sink, Columns::Plain, 1, schema(Columns::Plain));
        bench.run(case, |row| {
            // Each key has two rows at first; then with each round a new one comes, and behind it the one before goes.
            let (change, is_new) = (row / 2, row % 2 == 0);
            let (key, round) = (change % 100_000, change / 100_000);
            let number = if is_new { round + 1 } else { round };
            let weight = if is_new || round == 0 { 1 } else { -1 };
            Row { number, weight, is_update: round > 0, ..Row::new(key, key) }
        })?;
    }
    Ok(())
}

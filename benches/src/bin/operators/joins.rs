//! Joins of all kinds.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use thalweg_core::{LookupRows, LookupTable, Options, Result, ScanField, TableDefinition};
use thalweg_ops::build_lookup_join;
use thalweg_plan::{IntervalJoin, Join, JoinKey, JoinKind, LookupJoin, NodeKind, TemporalJoin, WindowBounds, WindowJoin};

use crate::measure::{Bench, Case, context, node};
use crate::rows::{self, AT, Columns, KEY, Row, WINDOW_START, joined, scattered, schema};

fn keys() -> Vec<JoinKey> {
    vec![JoinKey { left: KEY, right: KEY, nulls_match: false }]
}

fn case(name: &str, kind: JoinKind, columns: Columns, node: NodeKind) -> Result<Case> {
    let input = schema(columns);
    let output = if kind.has_right_columns() { joined(&input, input.fields()) } else { input };
    Case::new(name, node, columns, 2, output)
}

fn on_port(port: u64, origin: u64, key: u64) -> Row {
    Row { port: port as usize, ..Row::new(origin, key) }
}

pub fn regular(bench: &Bench) -> Result<()> {
    let join = |name: &str, kind, updating: bool| {
        let join = Join {
            kind,
            keys: keys(),
            condition: None,
            null_aware: false,
            left_updating: updating,
            right_updating: updating,
            time_to_live: [None, None],
        };
        case(name, kind, Columns::Plain, NodeKind::Join(join))
    };
    let rows = bench.rows;
    let once = |row: u64| on_port(row % 2, row, scattered(row / 2));
    bench.run(join("inner join, each key once on each side", JoinKind::Inner, false), once)?;
    bench.run(join("inner join, 1,000 keys left, all else right", JoinKind::Inner, false), |row| match row {
        0..1_000 => on_port(0, row, row),
        _ => on_port(1, row, scattered(row) % 1_000),
    })?;
    bench.run(join("inner join, no key matches", JoinKind::Inner, false), |row| on_port(row % 2, row, scattered(row)))?;
    bench.run(join("inner join, ten rows of each key", JoinKind::Inner, false), |row| {
        on_port(row % 2, row, scattered(row / 2) % (rows / 20).max(1))
    })?;
    bench.run(join("left join, each key once on each side", JoinKind::Left, false), once)?;
    bench.run(join("left join, updates on both sides", JoinKind::Left, true), |row| {
        // Each of 10,000 keys comes in turn, and goes when it is met again.
        let (key, round) = (row / 2 % 10_000, row / 20_000);
        let origin = if round % 2 == 0 { row } else { row - 20_000 };
        Row { weight: if round % 2 == 0 { 1 } else { -1 }, ..on_port(row % 2, origin, key) }
    })?;
    bench.run(join("semi join, 10,000 keys right", JoinKind::Semi, false), |row| {
        on_port(row % 2, row, scattered(row / 2) % 10_000)
    })?;
    bench.run(join("inner join, one row with all", JoinKind::Inner, false), |row| on_port(u64::from(row + 1 < rows), row, 1))
}

pub fn by_time(bench: &Bench) -> Result<()> {
    let kind = JoinKind::Inner;
    let interval = IntervalJoin {
        kind,
        keys: keys(),
        left_time: AT,
        right_time: AT,
        lower_ms: -1_000,
        upper_ms: 1_000,
        condition: None,
        stamps_rows: false,
    };
    let keyed = |row: u64| on_port(row % 2, row, scattered(row / 2) % 10_000);
    bench.run(case("interval join, +-1 s, 10,000 keys", kind, Columns::Plain, NodeKind::IntervalJoin(interval)), keyed)?;
    let window = WindowBounds { start: WINDOW_START, end: WINDOW_START + 1, time: WINDOW_START + 2 };
    let join = WindowJoin { kind, keys: keys(), left_window: window, right_window: window, condition: None };
    bench.run(case("window join, 10 s, 10,000 keys", kind, Columns::Windowed, NodeKind::WindowJoin(join)), keyed)?;
    let temporal = TemporalJoin { kind, keys: keys(), left_time: AT, right_time: AT, condition: None, stamps_rows: false };
    bench.run(case("temporal join, 1 of 10 rows a version", kind, Columns::Plain, NodeKind::TemporalJoin(temporal)), |row| {
        on_port(u64::from(row % 10 == 0), row, scattered(row / 10) % 10_000)
    })
}

/// Rows with the keys from 0 on, one each.
struct Dimension {
    rows: RecordBatch,
}

impl LookupTable for Dimension {
    fn lookup(&mut self, keys: &RecordBatch) -> Result<LookupRows> {
        let keys = keys.column(0).as_primitive::<Int64Type>();
        let range = |key: &i64| {
            let start = usize::try_from(*key).unwrap_or(usize::MAX).min(self.rows.num_rows());
            start..(start + 1).min(self.rows.num_rows())
        };
        debug_assert_eq!(keys.null_count(), 0);
        Ok(LookupRows { rows: self.rows.clone(), ranges: keys.values().iter().map(range).collect() })
    }
}

pub fn lookup(bench: &Bench) -> Result<()> {
    let input = schema(Columns::Plain);
    let table = TableDefinition {
        name: "dimension".to_string(),
        columns: vec![],
        watermark: None,
        primary_key: vec![],
        partitioned_by: vec![],
        comment: None,
        options: Options::new(),
        temporary: false,
        span: None,
    };
    let join = LookupJoin {
        kind: JoinKind::Left,
        table,
        fields: input.fields().iter().cloned().map(ScanField::Physical).collect(),
        keys: keys(),
        condition: None,
    };
    let entries: Vec<Row> = (0..10_000).map(|key| Row::new(key, key)).collect();
    let dimension = Box::new(Dimension { rows: rows::batch(Columns::Plain, &entries)?.rows });
    let node = node(NodeKind::LookupJoin(join), joined(&input, input.fields()));
    let operator = build_lookup_join(&node, &input, dimension, &context())?;
    let name = "lookup join, 10,000 keys".to_string();
    let case = Case { name, operators: vec![operator], columns: Columns::Plain, ports: 1 };
    bench.run(Ok(case), |row| Row::new(row, scattered(row) % 10_000))
}

//! Rows in an order.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use thalweg_core::Result;
use thalweg_plan::{
    AggregateFunction, Deduplicate, Frame, InTurn, Keep, NodeKind, Over, OverCall, OverOrder, RankFunction, RankRange, SortKey,
    TemporalSort, TopN, WindowBounds, WindowTopN,
};

use crate::aggregates::call;
use crate::measure::{Bench, Case};
use crate::rows::{AT, Columns, KEY, NUMBER, Row, WINDOW_START, joined, scattered, schema};

fn by_number() -> Vec<SortKey> {
    vec![SortKey { column: NUMBER, descending: true, nulls_first: false }]
}

fn rank() -> FieldRef {
    Arc::new(Field::new("rank", DataType::Int64, false))
}

/// Rows of 10,000 keys with numbers in no order.
fn keyed(row: u64) -> Row {
    Row { number: scattered(row), ..Row::new(row, scattered(row) % 10_000) }
}

/// Of 10,000 keys each has up to `held` rows, which go in the order in which they came.
fn updating(held: u64) -> impl Fn(u64) -> Row {
    move |row| {
        let (key, round) = (row % 10_000, row / 10_000);
        let is_new = (round / held).is_multiple_of(2);
        let origin = if is_new { row } else { row - held * 10_000 };
        Row { number: scattered(origin), weight: if is_new { 1 } else { -1 }, ..Row::new(origin, key) }
    }
}

pub fn top_n(bench: &Bench) -> Result<()> {
    let range = RankRange { start: 1, end: Some(10) };
    let top = |name: &str, function, output_rank, input_updating, in_turn| {
        let top = TopN { function, partition: vec![KEY], order: by_number(), range, output_rank, input_updating, in_turn };
        let input = schema(Columns::Plain);
        let output = if output_rank { joined(&input, &[rank()]) } else { input };
        Case::new(name, NodeKind::TopN(top), Columns::Plain, 1, output)
    };
    bench.run(top("top 10 of 10,000 keys", RankFunction::RowNumber, false, false, None), keyed)?;
    bench.run(top("top 10 of 10,000 keys, with the rank", RankFunction::RowNumber, true, false, None), keyed)?;
    bench.run(top("top 10 by RANK of 10,000 keys", RankFunction::Rank, true, false, None), keyed)?;
    bench.run(top("top 10 of 10,000 keys, updating", RankFunction::RowNumber, false, true, None), updating(20))?;
    let in_turn = Some(InTurn { time_column: AT, by_arrival: true });
    bench.run(top("top 10 of 10,000 keys, behind the watermark", RankFunction::RowNumber, false, false, in_turn), keyed)?;
    bench.run(top("top 10 of 1 key", RankFunction::RowNumber, false, false, None), |row| Row { key: 0, ..keyed(row) })?;
    let limit = TopN {
        function: RankFunction::RowNumber,
        partition: vec![KEY],
        order: vec![],
        range,
        output_rank: false,
        input_updating: false,
        in_turn: None,
    };
    let plain = schema(Columns::Plain);
    bench.run(Case::new("10 rows of 10,000 keys", NodeKind::TopN(limit), Columns::Plain, 1, plain), keyed)?;
    let window_top = WindowTopN {
        function: RankFunction::RowNumber,
        window: WindowBounds { start: WINDOW_START, end: WINDOW_START + 1, time: WINDOW_START + 2 },
        partition: vec![KEY],
        order: by_number(),
        range,
        output_rank: true,
        newest_first: false,
    };
    let output = joined(&schema(Columns::Windowed), &[rank()]);
    let case = |name, top: WindowTopN| Case::new(name, NodeKind::WindowTopN(top), Columns::Windowed, 1, output.clone());
    bench.run(case("window top 10 of 1,000 keys, 10 s", window_top.clone()), |row| Row {
        key: scattered(row) % 1_000,
        ..keyed(row)
    })?;
    bench.run(case("window top 10 of all keys, 10 s", WindowTopN { partition: vec![], ..window_top }), keyed)
}

pub fn deduplicate(bench: &Bench) -> Result<()> {
    let kinds = [
        ("first by arrival, 100,000 keys", Keep::First, None),
        ("first by event time, 100,000 keys", Keep::First, Some(AT)),
        ("last by arrival, 100,000 keys", Keep::Last, None),
        ("last by event time, 100,000 keys", Keep::Last, Some(AT)),
    ];
    for (name, keep, time_column) in kinds {
        let node = NodeKind::Deduplicate(Deduplicate { keys: vec![KEY], time_column, keep, in_turn: None });
        let case = Case::new(name, node, Columns::Plain, 1, schema(Columns::Plain));
        bench.run(case, |row| Row::new(row, scattered(row) % 100_000))?;
    }
    Ok(())
}

pub fn over(bench: &Bench) -> Result<()> {
    let over = |name: &str, order, frame, input_updating| {
        let calls: Vec<OverCall> = [(AggregateFunction::Count, None), (AggregateFunction::Sum, Some(AT - 1))]
            .map(|(function, argument)| OverCall::Aggregate(call(function, argument, false)))
            .into();
        let results: Vec<FieldRef> = calls.iter().map(|call| call.output().clone()).collect();
        let output = joined(&schema(Columns::Plain), &results);
        let over = Over { partition: vec![KEY], order, frame, calls, input_updating, in_turn: None, stamps_rows: false };
        Case::new(name, NodeKind::Over(over), Columns::Plain, 1, output)
    };
    let small = |row: u64| Row { number: row % 1_000, ..keyed(row) };
    let time = || OverOrder::EventTime(AT);
    let ten_rows = Frame::Rows { preceding: Some(9) };
    bench.run(over("OVER 10 ROWS, event time, 10,000 keys", time(), ten_rows, false), small)?;
    bench
        .run(over("OVER 1 s RANGE, event time, 10,000 keys", time(), Frame::Range { preceding_ms: Some(1_000) }, false), small)?;
    bench.run(over("OVER all ROWS, event time, 10,000 keys", time(), Frame::Rows { preceding: None }, false), small)?;
    bench.run(over("OVER 1 s RANGE, event time, 1 key", time(), Frame::Range { preceding_ms: Some(1_000) }, false), |row| {
        Row { key: 0, ..small(row) }
    })?;
    bench.run(over("OVER 10 ROWS, arrival, 10,000 keys", OverOrder::Arrival, ten_rows, false), small)?;
    let columns = || OverOrder::Columns(vec![SortKey { column: AT, descending: false, nulls_first: true }]);
    let small_updating = |row: u64| {
        let row = updating(20)(row);
        Row { number: row.number % 1_000, ..row }
    };
    bench.run(over("OVER 10 ROWS, updating, 10,000 keys", columns(), ten_rows, true), small_updating)?;
    bench.run(over("OVER all ROWS, updating, 10,000 keys", columns(), Frame::Rows { preceding: None }, true), small_updating)
}

pub fn temporal_sort(bench: &Bench) -> Result<()> {
    let sort = TemporalSort { time_column: AT, order: by_number() };
    let case = Case::new("sort by event time", NodeKind::TemporalSort(sort), Columns::Plain, 1, schema(Columns::Plain));
    bench.run(case, keyed)
}

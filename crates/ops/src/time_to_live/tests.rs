use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use thalweg_core::{LaneId, key_groups_of_lane};
use thalweg_plan::{
    AggregateCall, AggregateFunction, Deduplicate, Frame, GroupAggregate, Keep, Node, NodeKind, OperatorId, Over, OverCall,
    OverOrder, Properties, RankFunction, RankRange, SetKind, SetOperation, SortKey, StateLifetime, TopN,
};
use thalweg_state::SlotChange;

use super::*;
use crate::test_lanes::Store;
use crate::{OperatorContext, build};

const TTL_MS: i64 = 100;

fn schema(columns: usize) -> SchemaRef {
    let names = ["k", "v", "n"];
    Arc::new(Schema::new(names[..columns].iter().map(|name| Field::new(*name, DataType::Int64, false)).collect::<Vec<_>>()))
}

fn operator(kind: &NodeKind, output: usize) -> Box<dyn Operator> {
    let properties = Properties { state: StateLifetime::TimeToLive { ms: TTL_MS }, ..Properties::default() };
    let node = Node {
        id: OperatorId("node".to_string()),
        kind: kind.clone(),
        inputs: vec![],
        schema: schema(output),
        properties,
        span: None,
    };
    let context = OperatorContext {
        lane: LaneId(0),
        lanes: 1,
        key_groups: key_groups_of_lane(0, 1),
        batch_rows: 100,
        ignores_unmatched: false,
    };
    let inputs = if matches!(kind, NodeKind::SetOperation(_)) { 2 } else { 1 };
    build(&node, &vec![schema(2); inputs], &context).unwrap()
}

/// Rows `(k, v, weight)` at the left port; gives what comes out, in the same form.
fn feed(operator: &mut dyn Operator, rows: &[(i64, i64, i64)]) -> Vec<(Vec<i64>, i64)> {
    let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let columns = vec![column(rows.iter().map(|row| row.0).collect()), column(rows.iter().map(|row| row.1).collect())];
    let batch = RecordBatch::try_new(schema(2), columns).unwrap();
    let weights = Int64Array::from(rows.iter().map(|row| row.2).collect::<Vec<_>>());
    let mut out = Output::default();
    operator.on_batch(0, Batch { weights: Some(weights), ..Batch::append(batch) }, &mut out).unwrap();
    let mut got = vec![];
    for batch in &out.batches {
        for row in 0..batch.num_rows() {
            let value = |column: &ArrayRef| column.as_primitive::<Int64Type>().value(row);
            got.push((batch.rows.columns().iter().map(value).collect(), batch.weight(row)));
        }
    }
    got
}

fn kinds() -> Vec<(NodeKind, usize)> {
    let order = vec![SortKey { column: 1, descending: false, nulls_first: true }];
    let top = |function, input_updating, order| TopN {
        function,
        partition: vec![0],
        order,
        range: RankRange { start: 1, end: Some(3) },
        output_rank: false,
        input_updating,
        in_turn: None,
    };
    vec![
        (
            NodeKind::GroupAggregate(GroupAggregate {
                keys: vec![0, 1],
                aggregates: vec![],
                input_updating: true,
                window_time: None,
            }),
            2,
        ),
        (NodeKind::TopN(top(RankFunction::RowNumber, true, order.clone())), 2),
        (NodeKind::TopN(top(RankFunction::RowNumber, false, order.clone())), 2),
        (NodeKind::Deduplicate(Deduplicate { keys: vec![0], time_column: None, keep: Keep::Last, in_turn: None }), 2),
        (NodeKind::Deduplicate(Deduplicate { keys: vec![0], time_column: None, keep: Keep::First, in_turn: None }), 2),
        (NodeKind::SetOperation(SetOperation { kind: SetKind::Except, all: true }), 2),
        (
            NodeKind::Over(Over {
                partition: vec![0],
                order: OverOrder::Columns(order),
                frame: Frame::Rows { preceding: None },
                calls: vec![],
                input_updating: true,
                in_turn: None,
                stamps_rows: false,
            }),
            2,
        ),
        (
            NodeKind::Over(Over {
                partition: vec![0],
                order: OverOrder::Arrival,
                frame: Frame::Rows { preceding: None },
                calls: vec![],
                input_updating: false,
                in_turn: None,
                stamps_rows: false,
            }),
            2,
        ),
    ]
}

#[test]
fn keys_that_do_not_change_are_forgotten() {
    for (kind, output) in kinds() {
        let mut operator = operator(&kind, output);
        feed(operator.as_mut(), &[(1, 10, 1), (2, 20, 1)]);
        operator.on_time(1_000).unwrap();
        assert!(operator.metrics().state_rows > 0, "{}", kind.name());
        feed(operator.as_mut(), &[(2, 21, 1)]);
        operator.on_time(1_060).unwrap();
        operator.on_time(1_099).unwrap();
        let before = operator.metrics().state_rows;
        operator.on_time(1_100).unwrap();
        assert!(operator.metrics().state_rows < before, "{}", kind.name());
        operator.on_time(1_160).unwrap();
        assert_eq!(operator.metrics().state_rows, 0, "{}", kind.name());
    }
}

#[test]
fn a_first_row_comes_again_when_its_key_was_forgotten() {
    let kind = NodeKind::Deduplicate(Deduplicate { keys: vec![0], time_column: None, keep: Keep::First, in_turn: None });
    let mut operator = operator(&kind, 2);
    assert_eq!(feed(operator.as_mut(), &[(1, 10, 1)]), [(vec![1, 10], 1)]);
    operator.on_time(1_000).unwrap();
    assert_eq!(feed(operator.as_mut(), &[(1, 11, 1)]), []);
    operator.on_time(1_090).unwrap();
    // The row that was dropped was a sign of life.
    operator.on_time(1_150).unwrap();
    assert_eq!(feed(operator.as_mut(), &[]), []);
    operator.on_time(1_190).unwrap();
    assert_eq!(feed(operator.as_mut(), &[(1, 12, 1)]), [(vec![1, 12], 1)]);
}

#[test]
fn rows_of_forgotten_keys_are_dropped_when_taken_back() {
    for (kind, output) in kinds() {
        let takes_back = match &kind {
            NodeKind::Deduplicate(_) => false,
            NodeKind::TopN(top) => top.input_updating,
            NodeKind::Over(over) => over.input_updating,
            _ => true,
        };
        if !takes_back {
            continue;
        }
        let mut operator = operator(&kind, output);
        feed(operator.as_mut(), &[(1, 10, 1)]);
        operator.on_time(1_000).unwrap();
        operator.on_time(2_000).unwrap();
        assert_eq!(feed(operator.as_mut(), &[(1, 10, -1)]), [], "{}", kind.name());
        assert_eq!(operator.metrics().unmatched_rows, 1, "{}", kind.name());
        assert_eq!(feed(operator.as_mut(), &[(1, 11, 1)]).len(), 1, "{}", kind.name());
    }
}

#[test]
fn times_of_change_are_restored() {
    for (kind, output) in kinds() {
        let mut before = operator(&kind, output);
        feed(before.as_mut(), &[(1, 10, 1)]);
        before.on_time(1_000).unwrap();
        let changes = before.snapshot(Epoch(1)).unwrap().changes.into_iter();
        let parts = changes.map(|(slot, change)| match change {
            SlotChange::Replace(rows) => StatePart { slot, batches: vec![rows] },
            other => panic!("the first snapshot is whole: {other:?}"),
        });
        let mut after = operator(&kind, output);
        after.restore(parts.collect()).unwrap();
        assert_eq!(after.metrics().state_rows, before.metrics().state_rows);
        after.on_time(1_099).unwrap();
        assert_eq!(after.metrics().state_rows, before.metrics().state_rows);
        after.on_time(1_100).unwrap();
        assert_eq!(after.metrics().state_rows, 0, "{}", kind.name());
    }
}

/// COUNT(DISTINCT v) by k, and the same over all rows of k so far.
fn distinct_counts() -> Vec<(NodeKind, usize)> {
    let output = Arc::new(Field::new("n", DataType::Int64, false));
    let count = AggregateCall {
        function: AggregateFunction::Count,
        argument: Some(1),
        filter: None,
        distinct: true,
        separator: None,
        output,
    };
    let group = GroupAggregate { keys: vec![0], aggregates: vec![count.clone()], input_updating: false, window_time: None };
    let over = Over {
        partition: vec![0],
        order: OverOrder::Arrival,
        frame: Frame::Rows { preceding: None },
        calls: vec![OverCall::Aggregate(count)],
        input_updating: false,
        in_turn: None,
        stamps_rows: false,
    };
    vec![(NodeKind::GroupAggregate(group), 2), (NodeKind::Over(over), 3)]
}

#[test]
fn values_of_a_forgotten_key_do_not_come_back() {
    for (kind, output) in distinct_counts() {
        let mut store = Store::default();
        let mut before = operator(&kind, output);
        let count = |rows: Vec<(Vec<i64>, i64)>| rows.last().and_then(|(row, _)| row.last().copied());
        let many: Vec<(i64, i64, i64)> = (0..20).map(|value| (1 + value % 5, value, 1)).collect();
        feed(before.as_mut(), &many);
        before.on_time(1_000).unwrap();
        store.apply(before.snapshot(Epoch(1)).unwrap());
        // All others live on.
        feed(before.as_mut(), &many.iter().copied().filter(|row| row.0 != 1).collect::<Vec<_>>());
        before.on_time(1_100).unwrap();
        assert_eq!(count(feed(before.as_mut(), &[(1, 0, 1)])), Some(1), "{}", kind.name());
        before.on_time(1_100).unwrap();
        store.apply(before.snapshot(Epoch(2)).unwrap());
        let mut after = operator(&kind, output);
        after.restore(store.parts(0, 1)).unwrap();
        for operator in [&mut before, &mut after] {
            assert_eq!(count(feed(operator.as_mut(), &[(1, 5, 1)])), Some(2), "{}", kind.name());
            assert_eq!(count(feed(operator.as_mut(), &[(2, 30, 1)])), Some(5), "{}", kind.name());
        }
    }
}

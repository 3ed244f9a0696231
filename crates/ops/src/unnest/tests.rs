use arrow::array::{BooleanArray, Int64Array, ListArray, MapArray, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator as Operation;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use proptest::prelude::*;
use thalweg_plan::Expr;

use super::*;
use crate::OperatorContext;
use crate::test_lanes::{BATCH_ROWS, Lanes, lines};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Shape {
    Plain,
    Rows,
    Map,
    Multiset,
}

/// A column of lists: of each element the value, and a number that is the second field, the value of a map, or a count.
type List = Option<Vec<(Option<i64>, i64)>>;

fn column(shape: Shape, lists: &[List]) -> ArrayRef {
    let elements: Vec<(Option<i64>, i64)> = lists.iter().flatten().flatten().copied().collect();
    let mut offsets = vec![0_i32];
    for list in lists {
        offsets.push(offsets[offsets.len() - 1] + list.as_ref().map_or(0, |list| list.len() as i32));
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let present: NullBuffer = lists.iter().map(Option::is_some).collect();
    let values: ArrayRef = Arc::new(Int64Array::from_iter(elements.iter().map(|element| element.0)));
    let numbers: ArrayRef = match shape {
        Shape::Multiset => Arc::new(Int32Array::from_iter_values(elements.iter().map(|element| element.1 as i32))),
        _ => Arc::new(Int64Array::from_iter_values(elements.iter().map(|element| element.1))),
    };
    let item = |values: &ArrayRef| Arc::new(Field::new("item", values.data_type().clone(), true));
    if shape == Shape::Plain {
        return Arc::new(ListArray::new(item(&values), offsets, values, Some(present)));
    }
    let keys: ArrayRef = match shape {
        Shape::Rows => values.clone(),
        _ => Arc::new(Int64Array::from_iter_values(elements.iter().map(|element| element.0.unwrap_or(-1)))),
    };
    let fields =
        vec![Field::new("key", DataType::Int64, shape == Shape::Rows), Field::new("value", numbers.data_type().clone(), true)];
    // A ROW with a null value is null itself.
    let nulls = (shape == Shape::Rows).then(|| elements.iter().map(|element| element.0.is_some()).collect::<NullBuffer>());
    let entries = StructArray::new(fields.into(), vec![keys, numbers], nulls);
    if shape == Shape::Rows {
        let entries: ArrayRef = Arc::new(entries);
        return Arc::new(ListArray::new(item(&entries), offsets, entries, Some(present)));
    }
    let entry = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    Arc::new(MapArray::new(entry, offsets, entries, Some(present), false))
}

fn batch(shape: Shape, lists: &[List]) -> Batch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..lists.len() as i64));
    let rows = RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("list", column(shape, lists), true)]).unwrap();
    let count = lists.len() as i64;
    Batch {
        weights: Some(Int64Array::from_iter_values((0..count).map(|id| if id % 2 == 0 { 1 } else { -1 }))),
        row_watermarks: Some(Int64Array::from_iter_values(0..count)),
        updates: Some(BooleanArray::from_iter((0..count).map(|id| Some(id % 3 == 0)))),
        ..Batch::append(rows)
    }
}

/// `key > 1`.
fn above_one() -> Expr {
    let physical =
        BinaryExpr::new(Arc::new(Column::new("key", 0)), Operation::Gt, Arc::new(Literal::new(ScalarValue::Int64(Some(1)))));
    Expr { physical: Arc::new(physical), text: "key > 1".to_string(), data_type: DataType::Boolean, nullable: true, span: None }
}

fn make(node: &Unnest, shape: Shape) -> Box<dyn Operator> {
    let input = batch(shape, &[]).schema();
    let mut fields = vec![input.field(0).clone()];
    fields.push(Field::new("key", DataType::Int64, true));
    if matches!(shape, Shape::Rows | Shape::Map) {
        fields.push(Field::new("value", DataType::Int64, true));
    }
    if node.ordinality {
        fields.push(Field::new("number", DataType::Int32, true));
    }
    Box::new(UnnestOperator::new(node, &input, Arc::new(Schema::new(fields)), BATCH_ROWS).unwrap())
}

fn naive(shape: Shape, node: &Unnest, lists: &[List]) -> Vec<String> {
    let mut output = vec![];
    for (id, list) in lists.iter().enumerate() {
        let mark = match (id % 2 == 0, id % 3 == 0) {
            (true, true) => "+U",
            (true, false) => "+I",
            (false, true) => "-U",
            (false, false) => "-D",
        };
        let before = output.len();
        let mut number = 0;
        let mut push = |key: String, value: String, number: String| {
            let mut line = format!("{mark} {id} {key}");
            if matches!(shape, Shape::Rows | Shape::Map) {
                line += &format!(" {value}");
            }
            if node.ordinality {
                line += &format!(" {number}");
            }
            output.push(line);
        };
        for (key, value) in list.iter().flatten() {
            let times = if shape == Shape::Multiset { *value } else { 1 };
            for _ in 0..times {
                number += 1;
                let of_map = matches!(shape, Shape::Map | Shape::Multiset);
                let compared = if of_map { Some(key.unwrap_or(-1)) } else { *key };
                match (key, shape) {
                    _ if node.condition.is_some() && compared.is_none_or(|key| key <= 1) => {}
                    (None, Shape::Rows) => {}
                    (None, Shape::Plain) => push("-".into(), String::new(), number.to_string()),
                    (key, _) => push(key.unwrap_or(-1).to_string(), value.to_string(), number.to_string()),
                }
            }
        }
        if node.keep_empty && output.len() == before {
            let mut line = format!("{mark} {id} -");
            line += if matches!(shape, Shape::Rows | Shape::Map) { " -" } else { "" };
            line += if node.ordinality { " -" } else { "" };
            output.push(line);
        }
    }
    output
}

proptest! {
    #[test]
    fn each_element_gives_a_row(
        lists in prop::collection::vec(prop::option::of(prop::collection::vec((prop::option::of(0_i64..5), 0_i64..4), 0..9)), 0..12),
        shape in prop::sample::select(vec![Shape::Plain, Shape::Rows, Shape::Map, Shape::Multiset]),
        ordinality in any::<bool>(),
        keep_empty in any::<bool>(),
        first in 0_usize..4,
        chooses in any::<bool>(),
    ) {
        let condition = chooses.then(above_one);
        let node = Unnest { column: 1, ordinality, keep_empty, is_multiset: shape == Shape::Multiset, condition };
        let create = |_: &OperatorContext| make(&node, shape);
        let whole = batch(shape, &lists);
        // Slices have offsets that do not begin at 0.
        let first = first.min(lists.len());
        let output = [whole.slice(0, first), whole.slice(first, lists.len() - first)]
            .iter()
            .flat_map(|part| Lanes::new(&create, vec![]).on_batch(part).unwrap())
            .collect::<Vec<_>>();
        prop_assert!(output.iter().all(|batch| batch.num_rows() <= BATCH_ROWS));
        prop_assert!(output.iter().all(|batch| batch.row_watermarks.is_some()));
        prop_assert_eq!(lines(&output), naive(shape, &node, &lists));
    }
}

#[test]
fn the_column_itself_comes_out_where_there_is_room() {
    let node = Unnest { column: 1, ordinality: false, keep_empty: false, is_multiset: false, condition: None };
    let batch = batch(Shape::Plain, &[Some(vec![(Some(7), 0), (None, 0)])]);
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("item", DataType::Int64, true)));
    let schema = Arc::new(Schema::new(fields));
    let create = |_: &OperatorContext| -> Box<dyn Operator> {
        Box::new(UnnestOperator::new(&node, &batch.schema(), schema.clone(), BATCH_ROWS).unwrap())
    };
    assert_eq!(lines(&Lanes::new(&create, vec![]).on_batch(&batch).unwrap()), ["+U 0 [7, ] 7", "+U 0 [7, ] -"]);
}

#[test]
fn a_long_array_is_given_piece_by_piece() {
    let node = Unnest { column: 1, ordinality: false, keep_empty: false, is_multiset: false, condition: None };
    let long = (0..1_000).map(|value| (Some(value), 0)).collect();
    let mut operator = make(&node, Shape::Plain);
    let mut out = Output::default();
    operator.on_batch(0, batch(Shape::Plain, &[Some(long)]), &mut out).unwrap();
    assert_eq!(out.batches.len(), 1);
    assert!(operator.resume(&mut out).unwrap());
    assert_eq!(out.batches.len(), 2);
}

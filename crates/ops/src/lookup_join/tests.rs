//! Lookup joins against a table in memory, and against a naive reference.

use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::logical_expr::Operator as SqlOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use proptest::prelude::*;
use thalweg_core::{ErrorKind, LookupRows, Options, ScanField, TableDefinition};
use thalweg_plan::{Expr, JoinKey};

use super::*;

/// Rows `(key, value)`, asked for one after another as they stand.
struct FakeTable {
    rows: Vec<(Option<i64>, i64)>,
    asked: Asked,
}

/// The keys of each call.
type Asked = Arc<Mutex<Vec<Vec<Option<i64>>>>>;

impl LookupTable for FakeTable {
    fn lookup(&mut self, keys: &RecordBatch) -> Result<LookupRows> {
        let keys: Vec<Option<i64>> = keys.column(0).as_primitive::<Int64Type>().iter().collect();
        self.asked.lock().unwrap().push(keys.clone());
        // Each key gets rows of its own: nothing may rely on them being shared.
        let mut found: Vec<(Option<i64>, i64)> = vec![];
        let mut ranges = vec![];
        for key in keys {
            let start = found.len();
            found.extend(self.rows.iter().filter(|(other, _)| *other == key));
            ranges.push(start..found.len());
        }
        let column = |values: Int64Array| Arc::new(values) as ArrayRef;
        let keys = column(found.iter().map(|(key, _)| *key).collect());
        let values = column(found.iter().map(|(_, value)| Some(*value)).collect());
        Ok(LookupRows { rows: RecordBatch::try_new(schema(&["k", "w"]), vec![keys, values]).unwrap(), ranges })
    }

    fn memory_bytes(&self) -> u64 {
        77
    }
}

fn schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
}

struct Case {
    kind: JoinKind,
    nulls_match: bool,
    /// `v < w`.
    has_condition: bool,
    table: Vec<(Option<i64>, i64)>,
    batch_rows: usize,
}

const INNER: Case = Case { kind: JoinKind::Inner, nulls_match: false, has_condition: false, table: vec![], batch_rows: 100 };

impl Case {
    /// The operator over rows `(key, v)`, and what its table was asked for.
    fn operator(&self) -> Result<(LookupJoinOperator, Asked)> {
        let column = |name: &str, index: usize| Arc::new(Column::new(name, index)) as _;
        let condition = Expr {
            physical: Arc::new(BinaryExpr::new(column("v", 1), SqlOperator::Lt, column("w", 3))),
            text: "v < w".to_string(),
            data_type: DataType::Boolean,
            nullable: true,
            span: None,
        };
        let field = |name: &str| ScanField::Physical(Arc::new(Field::new(name, DataType::Int64, true)));
        let node = LookupJoin {
            kind: self.kind,
            table: TableDefinition {
                name: "side".to_string(),
                columns: vec![],
                watermark: None,
                primary_key: vec![],
                partitioned_by: vec![],
                comment: None,
                options: Options::new(),
                temporary: false,
                span: None,
            },
            fields: vec![field("k"), field("w")],
            keys: vec![JoinKey { left: 0, right: 0, nulls_match: self.nulls_match }],
            condition: self.has_condition.then_some(condition),
        };
        let asked = Arc::new(Mutex::new(vec![]));
        let table = Box::new(FakeTable { rows: self.table.clone(), asked: asked.clone() });
        let output = schema(&["key", "v", "k", "w"]);
        Ok((LookupJoinOperator::new(&node, &schema(&["key", "v"]), output, table, self.batch_rows)?, asked))
    }

    /// Output rows `[key, v, k, w, weight]`.
    fn run(&self, rows: &[(Option<i64>, i64)], weights: Option<Vec<i64>>) -> Vec<[Option<i64>; 5]> {
        let (mut operator, _) = self.operator().unwrap();
        let mut out = Output::default();
        operator.on_batch(0, Batch { weights: weights.map(Int64Array::from), ..batch(rows) }, &mut out).unwrap();
        while operator.resume(&mut out).unwrap() {}
        assert!(out.batches.iter().all(|batch| batch.num_rows() <= self.batch_rows));
        out.batches.iter().flat_map(rows_of).collect()
    }

    fn expected(&self, rows: &[(Option<i64>, i64)], weights: &Option<Vec<i64>>) -> Vec<[Option<i64>; 5]> {
        let mut expected = vec![];
        for (row, (key, value)) in rows.iter().enumerate() {
            let weight = weights.as_ref().map_or(1, |weights| weights[row]);
            if weight == 0 {
                continue;
            }
            let before = expected.len();
            for (other, found) in &self.table {
                let is_match = key == other && (key.is_some() || self.nulls_match);
                if is_match && (!self.has_condition || value < found) {
                    expected.push([*key, Some(*value), *other, Some(*found), Some(weight)]);
                }
            }
            if expected.len() == before && self.kind == JoinKind::Left {
                expected.push([*key, Some(*value), None, None, Some(weight)]);
            }
        }
        expected
    }
}

fn batch(rows: &[(Option<i64>, i64)]) -> Batch {
    let keys: Int64Array = rows.iter().map(|(key, _)| *key).collect();
    let values: Int64Array = rows.iter().map(|(_, value)| Some(*value)).collect();
    Batch::append(RecordBatch::try_new(schema(&["key", "v"]), vec![Arc::new(keys), Arc::new(values)]).unwrap())
}

fn rows_of(batch: &Batch) -> Vec<[Option<i64>; 5]> {
    let value = |column: usize, row: usize| {
        let column = batch.column(column).as_primitive::<Int64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let row = |row| [value(0, row), value(1, row), value(2, row), value(3, row), Some(batch.weight(row))];
    (0..batch.num_rows()).map(row).collect()
}

#[test]
fn rows_keep_what_is_hidden() {
    let case = Case { kind: JoinKind::Left, table: vec![(Some(1), 10), (Some(1), 11)], ..INNER };
    let (mut operator, asked) = case.operator().unwrap();
    let input = Batch {
        weights: Some(Int64Array::from(vec![-2, 1, 1])),
        updates: Some(BooleanArray::from(vec![true, true, false])),
        row_watermarks: Some(Int64Array::from(vec![5, 6, 7])),
        ..batch(&[(Some(1), 0), (Some(9), 0), (None, 0)])
    };
    let mut out = Output::default();
    operator.on_batch(0, input, &mut out).unwrap();
    let [output] = out.batches.as_slice() else { panic!("one batch") };
    assert_eq!(output.weights.as_ref().unwrap().values(), &[-2, -2, 1, 1]);
    assert_eq!(output.row_watermarks.as_ref().unwrap().values(), &[5, 5, 6, 7]);
    assert_eq!(output.updates, Some(BooleanArray::from(vec![true, true, true, false])));
    assert_eq!(output.column(3).as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(10), Some(11), None, None]));
    // A null is not asked for.
    assert_eq!(*asked.lock().unwrap(), [vec![Some(1), Some(9)]]);
    assert_eq!(operator.metrics().state_bytes, 77);
}

#[test]
fn many_matches_come_in_batches() {
    let table = (0..1_000).map(|value| (Some(1), value)).collect();
    let case = Case { table, batch_rows: 7, ..INNER };
    let (mut operator, _) = case.operator().unwrap();
    let mut out = Output::default();
    operator.on_batch(0, batch(&[(Some(1), 0), (Some(2), 0), (Some(1), 1)]), &mut out).unwrap();
    assert_eq!(out.batches.iter().map(Batch::num_rows).sum::<usize>(), 7, "no more than a batch at once");
    let mut calls = 1;
    while operator.resume(&mut out).unwrap() {
        calls += 1;
    }
    assert_eq!((calls, out.batches.iter().map(Batch::num_rows).sum::<usize>()), (2_000_usize.div_ceil(7), 2_000));
}

#[test]
fn other_kinds_are_refused() {
    let case = Case { kind: JoinKind::Full, ..INNER };
    assert_eq!(case.operator().err().map(|error| error.kind), Some(ErrorKind::Internal));
}

proptest! {
    #[test]
    fn equals_the_naive_join(
        kind in prop_oneof![Just(JoinKind::Inner), Just(JoinKind::Left)],
        nulls_match in any::<bool>(),
        has_condition in any::<bool>(),
        table in proptest::collection::vec((proptest::option::of(0..4_i64), 0..5_i64), 0..20),
        rows in proptest::collection::vec((proptest::option::of(0..5_i64), 0..5_i64), 0..20),
        weights in any::<bool>(),
        batch_rows in 1..9_usize,
    ) {
        let case = Case { kind, nulls_match, has_condition, table, batch_rows };
        let weights = weights.then(|| (0..rows.len() as i64).map(|row| row % 4 - 1).collect::<Vec<_>>());
        prop_assert_eq!(case.run(&rows, weights.clone()), case.expected(&rows, &weights));
    }
}

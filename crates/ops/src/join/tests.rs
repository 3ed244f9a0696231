//! The operator against a nested loop in plain Rust: after every batch, what it has put out adds up to the join of all rows so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, RecordBatchOptions, StringArray, UInt16Array};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, UInt16Type};
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use proptest::prelude::*;
use thalweg_core::{ErrorKind, LaneId};
use thalweg_plan::{Expr, JoinKey};
use thalweg_state::{SlotChange, SlotId};

use super::*;
use crate::{OperatorContext, partition_by_lane};

/// `(key, number, word)`
type Row = (Option<f64>, Option<i64>, Option<&'static str>);

/// A row as text, to be compared: floats by their bits.
fn text(row: &Row) -> String {
    format!("{:?} {:?} {}", row.0.map(f64::to_bits), row.1, row.2.unwrap_or("-"))
}

const NO_ROW: &str = "nothing";

fn input_schema(prefix: &str) -> SchemaRef {
    let field = |name: &str, data_type| Field::new(format!("{prefix}_{name}"), data_type, true);
    Arc::new(Schema::new(vec![field("key", DataType::Float64), field("number", DataType::Int64), field("word", DataType::Utf8)]))
}

fn output_schema(kind: JoinKind) -> SchemaRef {
    let mut fields = input_schema("l").fields().to_vec();
    if kind.has_right_columns() {
        fields.extend(input_schema("r").fields().iter().cloned());
    }
    Arc::new(Schema::new(fields))
}

fn batch(prefix: &str, rows: &[(Row, i64)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from_iter(rows.iter().map(|(row, _)| row.0))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|(row, _)| row.1))),
        Arc::new(StringArray::from_iter(rows.iter().map(|(row, _)| row.2))),
    ];
    let weights = rows.iter().any(|(_, weight)| *weight != 1);
    let weights = weights.then(|| rows.iter().map(|(_, weight)| *weight).collect::<Vec<_>>().into());
    Batch { weights, ..Batch::append(RecordBatch::try_new(input_schema(prefix), columns).unwrap()) }
}

/// `l_number < r_number`
fn less() -> Expr {
    let column = |name, index| Arc::new(Column::new(name, index));
    Expr {
        physical: Arc::new(BinaryExpr::new(column("l_number", 1), BinaryOperator::Lt, column("r_number", 4))),
        text: "l_number < r_number".to_string(),
        data_type: DataType::Boolean,
        nullable: true,
        span: None,
    }
}

fn join(kind: JoinKind) -> Join {
    Join {
        kind,
        keys: vec![JoinKey { left: 0, right: 0, nulls_match: false }],
        condition: None,
        null_aware: false,
        left_updating: true,
        right_updating: true,
        time_to_live: [None, None],
    }
}

#[derive(Clone, Copy)]
struct Setup {
    lane: u32,
    lanes: u32,
    batch_rows: usize,
    state: StateLifetime,
    seal_bytes: usize,
    collide: bool,
}

const SETUP: Setup =
    Setup { lane: 0, lanes: 1, batch_rows: 100, state: StateLifetime::Forever, seal_bytes: 4 << 20, collide: false };

fn operator(node: &Join, setup: Setup) -> JoinOperator {
    let Setup { lane, lanes, batch_rows, .. } = setup;
    let key_groups = thalweg_core::key_groups_of_lane(lane, lanes);
    let context = OperatorContext { lane: LaneId(lane), lanes, key_groups, batch_rows, ignores_unmatched: false };
    let inputs = [&input_schema("l"), &input_schema("r")];
    let mut operator = JoinOperator::new(node, setup.state, inputs, output_schema(node.kind), &context).unwrap();
    operator.sides.iter_mut().for_each(|side| side.held.for_tests(setup.seal_bytes, setup.collide));
    operator
}

/// Feeds a batch and gives all its output; no piece is larger than it may be.
fn feed(operator: &mut JoinOperator, port: usize, batch: Batch) -> Result<Vec<Batch>> {
    let mut all = vec![];
    let limit = 2 * operator.batch_rows + batch.num_rows();
    let mut out = Output::default();
    operator.on_batch(port, batch, &mut out)?;
    loop {
        let rows: usize = out.batches.iter().map(Batch::num_rows).sum();
        assert!(rows <= limit, "{rows} rows at once");
        assert!(out.batches.iter().all(|batch| batch.num_rows() <= operator.batch_rows));
        all.append(&mut out.batches);
        if !operator.resume(&mut out)? {
            return Ok(all);
        }
    }
}

/// The rows of one side of the output, as [`text`] gives them.
fn side_text(rows: &RecordBatch, row: usize, first: usize) -> String {
    let key = rows.column(first).as_primitive::<Float64Type>();
    let number = rows.column(first + 1).as_primitive::<Int64Type>();
    let word = rows.column(first + 2).as_string::<i32>();
    let word = if word.is_null(row) { "-" } else { word.value(row) };
    // Words tell an absent row from one of nulls: each input row of the tests has one.
    if word == "-" {
        return NO_ROW.to_string();
    }
    let key = (!key.is_null(row)).then(|| key.value(row).to_bits());
    let number = (!number.is_null(row)).then(|| number.value(row));
    format!("{key:?} {number:?} {word}")
}

fn pair_text(rows: &RecordBatch, row: usize) -> String {
    let left = side_text(rows, row, 0);
    if rows.num_columns() == 3 { left } else { format!("{left} | {}", side_text(rows, row, 3)) }
}

type Multiset = BTreeMap<String, i64>;

fn add(sum: &mut Multiset, text: String, weight: i64) {
    let total = sum.entry(text.clone()).or_default();
    *total += weight;
    if *total == 0 {
        sum.remove(&text);
    }
}

/// What the join is, row by row.
fn reference(node: &Join, left: &[(Row, i64)], right: &[(Row, i64)]) -> Multiset {
    let matches = |l: &Row, r: &Row| {
        let by_key = node.keys.iter().all(|key| match (l.0, r.0) {
            (Some(l), Some(r)) => (l.is_nan() && r.is_nan()) || l.to_bits() == r.to_bits(),
            (None, None) => key.nulls_match || node.null_aware,
            _ => node.null_aware,
        });
        by_key && (node.condition.is_none() || l.1.zip(r.1).is_some_and(|(l, r)| l < r))
    };
    let mut sum = Multiset::new();
    for (l, weight) in left {
        let mut matched = 0;
        for (r, times) in right.iter().filter(|(r, _)| matches(l, r)) {
            matched += times;
            if node.kind.has_right_columns() {
                add(&mut sum, format!("{} | {}", text(l), text(r)), weight * times);
            }
        }
        match node.kind {
            JoinKind::Semi if matched > 0 => add(&mut sum, text(l), *weight),
            JoinKind::Anti if matched == 0 => add(&mut sum, text(l), *weight),
            kind if kind.keeps_left() && matched == 0 => add(&mut sum, format!("{} | {NO_ROW}", text(l)), *weight),
            _ => {}
        }
    }
    for (r, weight) in right {
        let matched: i64 = left.iter().filter(|(l, _)| matches(l, r)).map(|(_, weight)| weight).sum();
        if node.kind.keeps_right() && matched == 0 {
            add(&mut sum, format!("{NO_ROW} | {}", text(r)), *weight);
        }
    }
    sum
}

/// A store of one operator: its slots by lane.
#[derive(Default)]
struct Store(BTreeMap<(SlotId, u32), Vec<RecordBatch>>);

impl Store {
    fn apply(&mut self, lane: u32, delta: StateDelta) {
        for (slot, change) in delta.changes {
            match change {
                SlotChange::Replace(rows) => {
                    self.0.insert((slot, lane), vec![rows]);
                }
                SlotChange::Merge(rows) => self.0.entry((slot, lane)).or_default().push(rows),
                SlotChange::Drop => {
                    self.0.remove(&(slot, lane));
                }
            }
        }
    }

    fn parts(&self, lane: u32, lanes: u32) -> Vec<StatePart> {
        let groups = thalweg_core::key_groups_of_lane(lane, lanes);
        let mut parts = vec![];
        for ((slot, _), batches) in &self.0 {
            let own = |rows: &RecordBatch| {
                let of_row: &UInt16Array = rows.column(0).as_primitive::<UInt16Type>();
                let mask: BooleanArray = of_row.values().iter().map(|group| Some(groups.contains(group))).collect();
                arrow::compute::filter_record_batch(rows, &mask).unwrap()
            };
            let batches: Vec<RecordBatch> = batches.iter().map(own).filter(|rows| rows.num_rows() > 0).collect();
            if !batches.is_empty() {
                parts.push(StatePart { slot: slot.clone(), batches });
            }
        }
        parts
    }
}

/// What happens in a run: rows for a port, a snapshot, or a restart with so many lanes.
#[derive(Clone, Debug)]
enum Step {
    Rows(usize, Vec<(Row, i64)>),
    Snapshot,
    Restart(u32),
}

/// Runs the steps in as many lanes as they say and compares after each.
fn check(node: &Join, setup: Setup, steps: &[Step]) -> Result<(), TestCaseError> {
    let start =
        |lanes: u32| -> Vec<JoinOperator> { (0..lanes).map(|lane| operator(node, Setup { lane, lanes, ..setup })).collect() };
    let mut operators = start(1);
    let mut store = Store::default();
    // Rows as of the last snapshot count when the job restarts: nothing newer is lost, as each restart takes a snapshot first.
    let mut inputs: [Vec<(Row, i64)>; 2] = [vec![], vec![]];
    let mut sum = Multiset::new();
    for step in steps {
        match step {
            Step::Rows(port, rows) => {
                let batch = batch(if *port == LEFT { "l" } else { "r" }, rows);
                let keys: &[usize] = if node.keys.is_empty() || node.null_aware { &[] } else { &[0] };
                let shares = partition_by_lane(&batch, keys, operators.len() as u32).unwrap();
                for (operator, share) in operators.iter_mut().zip(shares) {
                    let Some(share) = share else { continue };
                    for out in feed(operator, *port, share).map_err(|error| TestCaseError::fail(error.message))? {
                        for row in 0..out.num_rows() {
                            let text = pair_text(&out.rows, row);
                            add(&mut sum, text.clone(), out.weight(row));
                            prop_assert!(sum.get(&text).is_none_or(|total| *total > 0), "{} is taken back too early", text);
                        }
                    }
                }
                inputs[*port].extend(rows.iter().cloned());
                prop_assert_eq!(&sum, &reference(node, &inputs[LEFT], &inputs[RIGHT]));
            }
            Step::Snapshot | Step::Restart(_) => {
                for (lane, operator) in (0..).zip(&mut operators) {
                    operator.on_time(0).unwrap();
                    store.apply(lane, operator.snapshot(Epoch(1)).unwrap());
                    let again = operator.snapshot(Epoch(2)).unwrap();
                    prop_assert!(again.is_empty(), "a second snapshot holds {:?}", again);
                }
            }
        }
        if let Step::Restart(lanes) = step {
            let before = operators.len();
            operators = start(*lanes);
            for (lane, operator) in (0..).zip(&mut operators) {
                operator.restore(store.parts(lane, *lanes)).unwrap();
                if *lanes as usize != before {
                    operator.mark_all_dirty();
                }
            }
            if *lanes as usize != before {
                store = Store::default();
            }
        }
    }
    Ok(())
}

/// What happens, at which port, with which rows.
type Choice = (u8, usize, Vec<(Row, u8)>);
/// A port, and its rows with their marks.
type Fed<'a> = (usize, &'a [(char, f64, i64)]);

/// Rows of which each is taken back only after it came, by the numbers in `choices`.
fn steps(choices: Vec<Choice>, updating: [bool; 2]) -> Vec<Step> {
    let mut held: [Vec<(Row, i64)>; 2] = [vec![], vec![]];
    let mut steps = vec![];
    for (what, port, rows) in choices {
        match what {
            0 => steps.push(Step::Snapshot),
            1 => steps.push(Step::Restart(1)),
            2 => steps.push(Step::Restart(2)),
            3 => steps.push(Step::Restart(3)),
            _ => {
                let held = &mut held[port];
                let mut taken = vec![];
                for (row, choice) in rows {
                    let choice = usize::from(choice);
                    if updating[port] && choice % 2 == 1 && !held.is_empty() {
                        let at = choice / 2 % held.len();
                        let (row, weight) = held[at];
                        // All of them, or one.
                        let back = if choice % 3 == 0 { 1 } else { weight };
                        held[at].1 -= back;
                        if held[at].1 == 0 {
                            held.swap_remove(at);
                        }
                        taken.push((row, -back));
                    } else {
                        let weight = if updating[port] && choice % 5 == 0 { 3 } else { 1 };
                        held.push((row, weight));
                        taken.push((row, weight));
                    }
                }
                steps.push(Step::Rows(port, taken));
            }
        }
    }
    steps
}

fn row() -> impl Strategy<Value = Row> {
    let key = prop_oneof![
        4 => (0_i8..3).prop_map(|key| Some(f64::from(key))),
        1 => Just(None),
        1 => Just(Some(-0.0)),
        1 => Just(Some(f64::NAN)),
        2 => (0_i8..20).prop_map(|key| Some(f64::from(key))),
    ];
    (key, prop::option::weighted(0.9, 0_i64..4), prop::sample::select(vec!["a", "b"]).prop_map(Some))
}

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    prop::collection::vec((0_u8..16, 0_usize..2, prop::collection::vec((row(), any::<u8>()), 1..12)), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn output_adds_up_to_the_join(
        choices in choices(), kind in 0_usize..6, keys in 0_u8..4, with_condition: bool, updating: [bool; 2], batch_rows in 1_usize..20,
        seal_bytes in prop::sample::select(vec![1_usize, 200, 1_000, 1 << 20]), collide: bool, timed: bool,
    ) {
        use JoinKind::{Anti, Full, Inner, Left, Right, Semi};
        let kind = [Inner, Left, Right, Full, Semi, Anti][kind];
        let mut node = Join {
            condition: with_condition.then(less),
            left_updating: updating[0],
            right_updating: updating[1],
            ..join(kind)
        };
        match keys {
            0 => node.keys.clear(),
            1 => node.keys[0].nulls_match = true,
            2 if kind == Anti => node.null_aware = true,
            _ => {}
        }
        let state = if timed { StateLifetime::TimeToLive { ms: 1_000 } } else { StateLifetime::Forever };
        let setup = Setup { batch_rows, seal_bytes, collide, state, ..SETUP };
        check(&node, setup, &steps(choices, updating))?;
    }
}

/// Changes for tests of order: `+` a row, `-` one taken back, `u` and `U` the halves of an update.
fn changes(prefix: &str, rows: &[(char, f64, i64)]) -> Batch {
    let weighted: Vec<(Row, i64)> = rows
        .iter()
        .map(|(mark, key, number)| ((Some(*key), Some(*number), Some("w")), if "-u".contains(*mark) { -1 } else { 1 }))
        .collect();
    let updates = BooleanArray::from_iter(rows.iter().map(|(mark, ..)| Some("uU".contains(*mark))));
    Batch { updates: Some(updates), ..batch(prefix, &weighted) }
}

/// `+I 1 null`: kind, left number, right number.
fn shown(batches: &[Batch]) -> Vec<String> {
    let mut lines = vec![];
    for batch in batches {
        for row in 0..batch.num_rows() {
            let number = |column: usize| {
                let values = batch.column(column).as_primitive::<Int64Type>();
                if values.is_null(row) { "null".to_string() } else { values.value(row).to_string() }
            };
            let numbers: Vec<String> = (1..batch.rows.num_columns()).step_by(3).map(number).collect();
            lines.push(format!("{} {}", batch.kind(row).mark(), numbers.join(" ")));
        }
    }
    lines
}

fn check_order(node: &Join, inputs: &[Fed<'_>], expected: &[&str]) {
    let mut operator = operator(node, SETUP);
    let mut lines = vec![];
    for (port, rows) in inputs {
        let rows = changes(if *port == LEFT { "l" } else { "r" }, rows);
        lines.extend(shown(&feed(&mut operator, *port, rows).unwrap()));
    }
    assert_eq!(lines, expected);
}

#[test]
fn a_left_join_follows_its_right_side() {
    let inputs: &[Fed<'_>] = &[
        (LEFT, &[('+', 1.0, 10), ('+', 1.0, 11)]),
        (RIGHT, &[('+', 1.0, 5)]),
        (RIGHT, &[('u', 1.0, 5), ('U', 1.0, 6)]),
        (LEFT, &[('u', 1.0, 10), ('U', 1.0, 12)]),
        (RIGHT, &[('-', 1.0, 6)]),
    ];
    let expected = [
        "+I 10 null",
        "+I 11 null",
        "-D 10 null",
        "-D 11 null",
        "+I 10 5",
        "+I 11 5",
        "-U 10 5",
        "-U 11 5",
        "+I 10 null",
        "+I 11 null",
        "-D 10 null",
        "-D 11 null",
        "+I 10 6",
        "+I 11 6",
        "-D 10 6",
        "+I 12 6",
        "-D 11 6",
        "-D 12 6",
        "+I 11 null",
        "+I 12 null",
    ];
    check_order(&join(JoinKind::Left), inputs, &expected);
    let mirrored: Vec<_> = inputs.iter().map(|(port, rows)| (1 - port, *rows)).collect();
    let turned: Vec<String> = expected
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            format!("{} {} {}", words[0], words[2], words[1])
        })
        .collect();
    check_order(&join(JoinKind::Right), &mirrored, &turned.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_full_join_gives_equal_rows_apart() {
    check_order(
        &join(JoinKind::Full),
        &[(LEFT, &[('+', 5.0, 1), ('+', 5.0, 1)]), (RIGHT, &[('+', 7.0, 2), ('+', 5.0, 3)]), (LEFT, &[('-', 5.0, 1)])],
        // Two equal rows are one with weight 2.
        &["+I 1 null", "+I 1 null", "+I null 2", "-D 1 null", "+I 1 3", "-D 1 3"],
    );
}

#[test]
fn an_inner_join_keeps_marks() {
    check_order(
        &join(JoinKind::Inner),
        &[(LEFT, &[('+', 1.0, 1), ('+', 2.0, 2)]), (RIGHT, &[('+', 1.0, 5), ('u', 1.0, 5), ('U', 1.0, 6), ('+', 3.0, 1)])],
        &["+I 1 5", "-U 1 5", "+U 1 6"],
    );
}

#[test]
fn semi_and_anti_rows_come_and_go() {
    let inputs: &[Fed<'_>] = &[
        (LEFT, &[('+', 1.0, 1), ('U', 2.0, 2)]),
        (RIGHT, &[('+', 1.0, 7), ('+', 1.0, 8)]),
        (LEFT, &[('U', 1.0, 3)]),
        (RIGHT, &[('-', 1.0, 7), ('u', 1.0, 8)]),
        (LEFT, &[('-', 1.0, 1)]),
    ];
    for condition in [None, Some(less())] {
        let node = |kind| Join { condition: condition.clone(), ..join(kind) };
        check_order(&node(JoinKind::Semi), inputs, &["+I 1", "+U 3", "-U 1", "-U 3"]);
        check_order(&node(JoinKind::Anti), inputs, &["+I 1", "+U 2", "-D 1", "+I 1", "+I 3", "-D 1"]);
    }
}

#[test]
fn not_in_knows_nulls() {
    let node = Join { null_aware: true, ..join(JoinKind::Anti) };
    let mut operator = operator(&node, SETUP);
    let mut lines = |port: usize, key: Option<f64>, number: i64, weight: i64| {
        let rows = batch(if port == LEFT { "l" } else { "r" }, &[((key, Some(number), Some("w")), weight)]);
        shown(&feed(&mut operator, port, rows).unwrap())
    };
    assert_eq!(lines(LEFT, Some(1.0), 1, 1), ["+I 1"]);
    assert_eq!(lines(LEFT, None, 2, 1), ["+I 2"]);
    assert_eq!(lines(RIGHT, Some(3.0), 0, 1), ["-D 2"]);
    assert_eq!(lines(RIGHT, None, 0, 1), ["-D 1"]);
    assert_eq!(lines(LEFT, Some(4.0), 4, 1), [""; 0]);
    assert_eq!(lines(RIGHT, None, 0, -1), ["+I 1", "+I 4"]);
    assert_eq!(lines(RIGHT, Some(3.0), 0, -1), ["+I 2"]);
}

#[test]
fn an_exploding_join_comes_in_pieces() {
    for (kind, condition) in [(JoinKind::Inner, None), (JoinKind::Full, None), (JoinKind::Left, Some(less()))] {
        let node = Join { condition, left_updating: false, right_updating: false, ..join(kind) };
        let mut operator = operator(&node, Setup { seal_bytes: 100_000, ..SETUP });
        let many: Vec<(Row, i64)> = (1..=20_000).map(|number| ((Some(1.0), Some(number), Some("r")), 1)).collect();
        let mut before = 0;
        for rows in many.chunks(1_000) {
            before += feed(&mut operator, RIGHT, batch("r", rows)).unwrap().iter().map(Batch::num_rows).sum::<usize>();
        }
        // Each output is looked at in `feed`.
        let out = feed(&mut operator, LEFT, batch("l", &[((Some(1.0), Some(0), Some("l")), 1)])).unwrap();
        let pairs =
            out.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| (batch.weight(row), batch.column(4).clone(), row)));
        let numbers: Vec<i64> = pairs
            .filter(|(weight, ..)| *weight > 0)
            .map(|(_, numbers, row)| numbers.as_primitive::<Int64Type>().value(row))
            .collect();
        assert_eq!(numbers, (1..=20_000).collect::<Vec<_>>(), "in order of arrival");
        assert_eq!(before, if kind == JoinKind::Full { 20_000 } else { 0 });
    }
}

#[test]
fn large_rows_come_few_at_a_time() {
    let schema = |name: &str| Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)]));
    let node = Join { left_updating: false, ..join(JoinKind::Inner) };
    let output = Arc::new(Schema::new(vec![Field::new("l", DataType::Utf8, true), Field::new("r", DataType::Utf8, true)]));
    let context = OperatorContext { lane: LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: 4_096, ignores_unmatched: false };
    let mut operator = JoinOperator::new(&node, StateLifetime::Forever, [&schema("l"), &schema("r")], output, &context).unwrap();
    let key = "k".repeat(1 << 20);
    let rows = |name: &str, count: usize| {
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..count).map(|_| &key)));
        Batch::append(RecordBatch::try_new(schema(name), vec![keys]).unwrap())
    };
    for _ in 0..4 {
        feed(&mut operator, LEFT, rows("l", 2)).unwrap();
    }
    let out = feed(&mut operator, RIGHT, rows("r", 12)).unwrap();
    assert!(out.len() > 1 && out.iter().all(|batch| batch.size_bytes() < 256 << 20));
    let total: i64 = out.iter().map(|batch| (0..batch.num_rows()).map(|row| batch.weight(row)).sum::<i64>()).sum();
    assert_eq!(total, 8 * 12);
}

#[test]
fn a_row_that_never_came_cannot_go() {
    let mut operator = operator(&join(JoinKind::Left), SETUP);
    feed(&mut operator, LEFT, changes("l", &[('+', 1.0, 1)])).unwrap();
    let error = feed(&mut operator, LEFT, changes("l", &[('-', 1.0, 1), ('-', 1.0, 1)])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Record);
    assert_eq!(
        error.message,
        "a row is taken back that the left input of a join does not hold: l_key = 1.0, l_number = 1, l_word = 'w'"
    );
}

#[test]
fn tables_without_columns_have_a_product() {
    let schema: SchemaRef = Arc::new(Schema::empty());
    let node = Join { keys: vec![], ..join(JoinKind::Inner) };
    let context = OperatorContext { lane: LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: 100, ignores_unmatched: false };
    let mut operator = JoinOperator::new(&node, StateLifetime::Forever, [&schema, &schema], schema.clone(), &context).unwrap();
    let rows = |count| {
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Batch::append(RecordBatch::try_new_with_options(schema.clone(), vec![], &options).unwrap())
    };
    assert!(feed(&mut operator, LEFT, rows(3)).unwrap().is_empty());
    let out = feed(&mut operator, RIGHT, rows(2)).unwrap();
    let total: i64 = out.iter().map(|batch| (0..batch.num_rows()).map(|row| batch.weight(row)).sum::<i64>()).sum();
    assert_eq!(total, 6);
}

#[test]
fn rows_go_when_their_time_has_come() {
    let node = Join { left_updating: false, right_updating: false, ..join(JoinKind::Left) };
    let mut operator = operator(&node, Setup { state: StateLifetime::TimeToLive { ms: 1_000 }, seal_bytes: 1, ..SETUP });
    let lines = |operator: &mut JoinOperator, port: usize, rows: &[(char, f64, i64)]| {
        shown(&feed(operator, port, changes(if port == LEFT { "l" } else { "r" }, rows)).unwrap())
    };
    assert_eq!(lines(&mut operator, LEFT, &[('+', 1.0, 1)]), ["+I 1 null"]);
    operator.on_time(10_000).unwrap();
    assert_eq!(lines(&mut operator, RIGHT, &[('+', 1.0, 5)]), ["-D 1 null", "+I 1 5"]);
    operator.on_time(10_500).unwrap();
    // The left row was written when it had its match.
    operator.on_time(11_400).unwrap();
    assert_eq!(operator.metrics().state_rows, 2);
    assert_eq!(lines(&mut operator, RIGHT, &[('+', 1.0, 6)]), ["+I 1 6"]);
    operator.on_time(11_500).unwrap();
    assert_eq!(operator.metrics().state_rows, 3);
    operator.on_time(11_600).unwrap();
    assert_eq!(operator.metrics().state_rows, 2, "the first right row is gone");
    assert_eq!(lines(&mut operator, LEFT, &[('+', 1.0, 2)]), ["+I 2 6"]);
    operator.on_time(20_000).unwrap();
    operator.on_time(21_001).unwrap();
    assert_eq!(operator.metrics().state_rows, 0);
    assert_eq!(lines(&mut operator, RIGHT, &[('+', 1.0, 7)]), [""; 0]);
}

#[test]
fn a_time_to_live_may_come_later() {
    let timed = Setup { state: StateLifetime::TimeToLive { ms: 1_000 }, ..SETUP };
    let node = join(JoinKind::Left);
    let mut first = operator(&node, SETUP);
    feed(&mut first, LEFT, changes("l", &[('+', 1.0, 1), ('+', 2.0, 2)])).unwrap();
    feed(&mut first, RIGHT, changes("r", &[('+', 1.0, 5), ('+', 1.0, 6)])).unwrap();
    let mut store = Store::default();
    store.apply(0, first.snapshot(Epoch(1)).unwrap());
    let mut second = operator(&node, timed);
    second.restore(store.parts(0, 1)).unwrap();
    let out = feed(&mut second, RIGHT, changes("r", &[('-', 1.0, 5), ('-', 1.0, 6), ('+', 2.0, 7)])).unwrap();
    assert_eq!(shown(&out), ["-D 1 5", "-D 1 6", "+I 1 null", "-D 2 null", "+I 2 7"]);
}

#[test]
fn a_right_side_that_only_adds_is_kept_once_per_key() {
    let node = Join { right_updating: false, ..join(JoinKind::Semi) };
    let mut operator = operator(&node, SETUP);
    for number in 0..10 {
        feed(&mut operator, RIGHT, changes("r", &[('+', 1.0, number), ('+', 2.0, number)])).unwrap();
    }
    assert_eq!(operator.metrics().state_rows, 2);
}

#[test]
fn foreign_state_is_refused() {
    let part = |slot: &str, rows: RecordBatch| StatePart { slot: SlotId(slot.to_string()), batches: vec![rows] };
    let empty = RecordBatch::new_empty(input_schema("l"));
    for slot in ["left/0/run/x", "left/0/heap/1", "middle/0/run/1-1", "left/0/run/1-1"] {
        let error = operator(&join(JoinKind::Left), SETUP).restore(vec![part(slot, empty.clone())]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt, "{slot}");
    }
}

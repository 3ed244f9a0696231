use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;

use super::*;
use crate::OperatorContext;
use crate::test_lanes::{Lanes, lines};

/// `(key, value, weight)`
type Upsert = (Option<i64>, Option<i64>, i64);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["key", "value"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn batch(rows: &[Upsert]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.1))),
    ];
    let weights = Some(Int64Array::from_iter_values(rows.iter().map(|row| row.2)));
    Batch { weights, ..Batch::append(RecordBatch::try_new(schema(), columns).unwrap()) }
}

fn make(_: &OperatorContext) -> Box<dyn Operator> {
    Box::new(NormalizeOperator::new(&Normalize { keys: vec![0] }, &schema(), schema()).unwrap())
}

/// The changelog of each key.
fn naive(rows: &[Upsert]) -> BTreeMap<String, Vec<String>> {
    let text = |value: Option<i64>| value.map_or("-".to_string(), |value| value.to_string());
    let mut table: BTreeMap<Option<i64>, Option<i64>> = BTreeMap::new();
    let mut logs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value, weight) in rows {
        let log = logs.entry(text(*key)).or_default();
        let mut push = |mark: &str, value: Option<i64>| log.push(format!("{mark} {} {}", text(*key), text(value)));
        match (weight.signum(), table.get(key).copied()) {
            (1, Some(old)) if old == *value => {}
            (1, Some(old)) => {
                push("-U", old);
                push("+U", *value);
                table.insert(*key, *value);
            }
            (1, None) => {
                push("+I", *value);
                table.insert(*key, *value);
            }
            (-1, Some(old)) => {
                push("-D", old);
                table.remove(key);
            }
            _ => {}
        }
    }
    logs.retain(|_, log| !log.is_empty());
    logs
}

fn by_key(lines: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut logs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        logs.entry(line.split(' ').nth(1).unwrap().to_string()).or_default().push(line);
    }
    logs
}

proptest! {
    #[test]
    fn the_last_row_of_a_key_holds(
        rows in prop::collection::vec((prop::option::of(0_i64..4), prop::option::of(0_i64..3), -1_i64..3), 0..60),
        cuts in prop::collection::vec((1_usize..8, 0_u32..4), 1..20),
    ) {
        let mut lanes = Lanes::new(&make, vec![0]);
        let mut output = vec![];
        let mut rest = rows.as_slice();
        for (length, restart) in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(*length));
            rest = later;
            output.extend(lines(&lanes.on_batch(&batch(now)).unwrap()));
            if *restart > 0 {
                lanes.restart(*restart).unwrap();
            }
        }
        prop_assert_eq!(by_key(output), naive(&rows));
    }
}

#[test]
fn what_ends_as_it_began_is_not_kept_twice() {
    let mut lanes = Lanes::new(&make, vec![0]);
    lanes.on_batch(&batch(&[(Some(1), Some(7), 1)])).unwrap();
    let changes = lines(&lanes.on_batch(&batch(&[(Some(1), Some(8), 1), (Some(1), Some(7), 1)])).unwrap());
    assert_eq!(changes, ["-U 1 7", "+U 1 8", "-U 1 8", "+U 1 7"]);
    assert_eq!(lanes.operators[0].metrics().state_rows, 1);
    assert!(lines(&lanes.on_batch(&batch(&[(Some(1), Some(7), 1)])).unwrap()).is_empty());
    assert_eq!(lines(&lanes.on_batch(&batch(&[(Some(1), None, -1), (Some(1), None, -1)])).unwrap()), ["-D 1 7"]);
    assert_eq!(lanes.operators[0].metrics().state_rows, 0);
}

#[test]
fn marks_of_upserts_do_not_count() {
    let rows = batch(&[(Some(1), Some(7), 1)]);
    let marked = Batch { updates: Some(BooleanArray::from(vec![true])), ..rows };
    assert_eq!(lines(&Lanes::new(&make, vec![0]).on_batch(&marked).unwrap()), ["+I 1 7"]);
}

//! Rows that are handed out in pieces.

use arrow::array::{StringArray, TimestampMicrosecondArray};

use super::*;
use crate::lane_harness::timestamp;

fn input() -> SchemaRef {
    let fields = [("id", DataType::Int64), ("at", timestamp()), ("pad", DataType::Utf8)];
    Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, false)).to_vec()))
}

/// Rows by id, time in milliseconds and the watermark behind which they came, each padded to a width.
fn batch(rows: &[(i64, i64, i64)], width: usize) -> Batch {
    let pad = "x".repeat(width);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1 * 1_000))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| &pad))),
    ];
    let row_watermarks = Some(Int64Array::from_iter_values(rows.iter().map(|row| row.2)));
    Batch { row_watermarks, ..Batch::append(RecordBatch::try_new(input(), columns).unwrap()) }
}

fn turns(by_arrival: bool) -> Turns {
    Turns::new("waiting", InTurn { time_column: 1, by_arrival }, &input(), &[0]).unwrap()
}

/// The ids of all rows that are handed out, and the rows of each batch.
fn hand_out(turns: &mut Turns, watermark: i64) -> (Vec<i64>, Vec<usize>) {
    let (mut ids, mut sizes) = (vec![], vec![]);
    while let Some(batch) = turns.passed_by(EventTime(watermark)).unwrap() {
        ids.extend(batch.column(0).as_primitive::<Int64Type>().values());
        sizes.push(batch.num_rows());
    }
    (ids, sizes)
}

#[test]
fn wide_rows_come_in_several_batches() {
    // 400 rows of 100 kB; what is handed out at once is a fraction of them.
    for by_arrival in [true, false] {
        for (per_watermark, at_once) in [(1, "rows of many watermarks"), (400, "rows of one watermark"), (300, "of two")] {
            let mut turns = turns(by_arrival);
            for first in (0..400).step_by(50) {
                let rows: Vec<_> = (first..first + 50).map(|id| (id, 1_000 - id, id / per_watermark)).collect();
                turns.add(batch(&rows, 100_000), EventTime::MIN).unwrap();
            }
            let (ids, sizes) = hand_out(&mut turns, 1_000);
            let mut expected: Vec<i64> = (0..400).collect();
            if !by_arrival {
                expected.sort_by_key(|id| (id / per_watermark, 1_000 - id));
            }
            assert_eq!(ids, expected, "{at_once}");
            assert!(sizes.iter().all(|rows| rows * 100_000 <= BYTES_AT_ONCE), "{at_once}: {sizes:?}");
            assert_eq!((turns.len(), hand_out(&mut turns, 1_000).0), (0, vec![]));
        }
    }
}

#[test]
fn many_rows_come_in_several_batches() {
    for by_arrival in [true, false] {
        let mut turns = turns(by_arrival);
        let rows: Vec<_> = (0..30_000).map(|id| (id, 0, if id < 20_000 { 3 } else { 4 })).collect();
        turns.add(batch(&rows, 1), EventTime::MIN).unwrap();
        let (ids, sizes) = hand_out(&mut turns, 4);
        assert_eq!((ids, sizes), ((0..20_000).collect(), vec![8_192, 8_192, 3_616]), "those behind 4 wait");
        assert_eq!(hand_out(&mut turns, 5).0, (20_000..30_000).collect::<Vec<_>>());
    }
}

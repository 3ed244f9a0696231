use super::*;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type, TimeUnit};
use proptest::prelude::*;
use thalweg_core::{ManualClock, Options};

fn fields() -> Vec<FieldRef> {
    [
        Field::new("id", DataType::Int64, true),
        Field::new("small", DataType::Int32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("price", DataType::Decimal128(5, 2), true),
        Field::new("share", DataType::Float64, true),
        Field::new("flag", DataType::Boolean, true),
    ]
    .map(Arc::new)
    .to_vec()
}

fn options(given: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    for (name, value) in given {
        options.insert(*name, *value);
    }
    options
}

fn open(given: &[(&str, &str)], clock: &Arc<ManualClock>) -> DatagenSource {
    DatagenSource::open(ScanRequest {
        table: "t".to_string(),
        options: options(given),
        fields: fields().into_iter().map(ScanField::Physical).collect(),
        physical_schema: Arc::new(Schema::new(fields())),
        partitioned_by: vec![],
        primary_key: vec![],
        time_zone: "UTC".to_string(),
        mode: ReadMode::AsDeclared,
        clock: clock.clone(),
    })
    .unwrap()
}

fn at_start(partition: &str) -> Assignment {
    Assignment { partition: PartitionId(partition.to_string()), position: None }
}

const AT_ONCE: PollBudget = PollBudget { rows: 1000, wait: Duration::ZERO };

/// Rows until nothing is left or due, polled `rows` at a time.
fn read(source: &DatagenSource, assignments: Vec<Assignment>, rows: usize) -> (RecordBatch, Vec<(PartitionId, Position)>) {
    let mut reader = source.reader(assignments).unwrap();
    let (mut batches, mut positions) = (vec![], vec![]);
    let mut ended = 0;
    while ended < source.partitions().unwrap().len() {
        match reader.poll(PollBudget { rows, ..AT_ONCE }).unwrap() {
            SourceEvent::Rows { partition, rows, next, .. } => {
                batches.push(rows);
                positions.push((partition, next));
            }
            SourceEvent::PartitionEnd(_) | SourceEvent::CaughtUp(_) => ended += 1,
            SourceEvent::Idle => break,
        }
    }
    (arrow::compute::concat_batches(&source.shape.schema, &batches).unwrap(), positions)
}

const SEQUENCE: &[(&str, &str)] = &[
    ("rows-per-second", "1000000000"),
    ("fields.id.kind", "sequence"),
    ("fields.id.start", "5"),
    ("fields.id.end", "24"),
    ("fields.small.min", "-2"),
    ("fields.small.max", "2"),
    ("fields.name.length", "3"),
    ("fields.name.null-rate", "0.5"),
    ("fields.price.min", "1"),
    ("fields.price.max", "2"),
];

fn running_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at_wall_ms(1_000_000))
}

#[test]
fn values_keep_their_bounds() {
    let clock = running_clock();
    let source = open(SEQUENCE, &clock);
    let mut reader = source.reader(vec![at_start("0/1")]).unwrap();
    clock.advance(Duration::from_secs(1));
    let SourceEvent::Rows { rows, .. } = reader.poll(AT_ONCE).unwrap() else { panic!("rows are due") };
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values().to_vec(), (5..25).collect::<Vec<i64>>());
    assert!(rows.column(1).as_primitive::<Int32Type>().values().iter().all(|small| (-2..=2).contains(small)));
    let names = rows.column(2).as_string::<i32>();
    assert!(names.iter().flatten().all(|name| name.len() == 3));
    assert!((1..20).contains(&names.null_count()));
    let prices = rows.column(4).as_primitive::<arrow::datatypes::Decimal128Type>();
    assert!(prices.values().iter().all(|price| (100..=200).contains(price)));
    assert!(matches!(reader.poll(AT_ONCE).unwrap(), SourceEvent::PartitionEnd(_)));
    assert!(matches!(reader.poll(AT_ONCE).unwrap(), SourceEvent::Idle));
    assert!(source.is_bounded());
}

#[test]
fn the_rate_is_kept() {
    let clock = running_clock();
    let source = open(&[("rows-per-second", "10")], &clock);
    assert!(!source.is_bounded());
    let mut reader = source.reader(vec![at_start("0/1")]).unwrap();
    let mut poll = || match reader.poll(AT_ONCE).unwrap() {
        SourceEvent::Rows { rows, .. } => rows.num_rows(),
        _ => 0,
    };
    assert_eq!((poll(), poll()), (1, 0));
    clock.advance(Duration::from_millis(300));
    assert_eq!((poll(), poll()), (3, 0));
}

proptest! {
    #[test]
    fn a_restart_goes_on_with_the_same_rows(cut in 1usize..20, batch_rows in 1usize..9, partitions in 1usize..4) {
        let clock = running_clock();
        let partitions = partitions.to_string();
        let given: Vec<_> = SEQUENCE.iter().copied().chain([("scan.parallelism", partitions.as_str())]).collect();
        let source = open(&given, &clock);
        let all: Vec<Assignment> = source.partitions().unwrap().iter().map(|partition| at_start(&partition.0)).collect();
        for assignment in all {
            let mut whole_reader = source.reader(vec![assignment.clone()]).unwrap();
            clock.advance(Duration::from_secs(1));
            let whole = match whole_reader.poll(AT_ONCE).unwrap() {
                SourceEvent::Rows { rows, .. } => rows,
                other => panic!("expected rows, got {other:?}"),
            };
            let cut = cut.min(whole.num_rows());
            let start = Assignment { position: Some(Position::at(cut as i64)), ..assignment };
            let mut rest_reader = source.reader(vec![start]).unwrap();
            clock.advance(Duration::from_secs(1));
            let mut rest = vec![];
            while let SourceEvent::Rows { rows, .. } = rest_reader.poll(PollBudget { rows: batch_rows, ..AT_ONCE }).unwrap() {
                rest.push(rows);
            }
            let rest = arrow::compute::concat_batches(&whole.schema(), &rest).unwrap();
            // All but the column of times, which come from the clock.
            let fixed = [0, 1, 2, 4, 5, 6];
            let expected = whole.slice(cut, whole.num_rows() - cut).project(&fixed).unwrap();
            prop_assert_eq!(rest.project(&fixed).unwrap(), expected);
        }
    }
}

#[test]
fn partitions_share_the_sequence() {
    let clock = running_clock();
    let given: Vec<_> = SEQUENCE.iter().copied().chain([("scan.parallelism", "3")]).collect();
    let source = open(&given, &clock);
    let assignments: Vec<_> = source.partitions().unwrap().iter().map(|partition| at_start(&partition.0)).collect();
    let (first, positions) = read(&source, assignments, 100);
    // One row each is due at once.
    let mut ids = first.column(0).as_primitive::<Int64Type>().values().to_vec();
    ids.sort_unstable();
    assert_eq!(ids, [5, 6, 7]);
    assert_eq!(positions.len(), 3);
    let total: u64 = (0..3).filter_map(|partition| source.shape.rows_of(partition)).sum();
    assert_eq!(total, 20);
    let gone = source.reader(vec![at_start("0/2")]).err().unwrap();
    assert!(gone.help.unwrap().contains("scan.parallelism"));
}

#[test]
fn wrong_options_are_named() {
    let check = |given: &[(&str, &str)], expected: &str| {
        let table = thalweg_core::TableDefinition {
            name: "t".to_string(),
            columns: fields()
                .iter()
                .map(|field| thalweg_core::TableDefinition::physical_column(field.as_ref().clone(), "X"))
                .collect(),
            watermark: None,
            primary_key: vec![],
            partitioned_by: vec![],
            comment: None,
            options: options(given),
            temporary: false,
            span: None,
        };
        let findings: Vec<String> = (INFO.check)(&table).iter().map(Diagnostic::one_line).collect();
        assert_eq!(findings, [expected]);
    };
    check(
        &[("fields.idd.min", "1")],
        "error[TW0102]: option \"fields.idd.min\" names no column of the table (did you mean \"id\"?)",
    );
    check(
        &[("fields.id.mn", "1")],
        "error[TW0302]: unknown option \"fields.id.mn\" for connector \"datagen\" (did you mean \"min\"?)",
    );
    check(
        &[("fields.id.kind", "sequence"), ("fields.id.start", "1")],
        "error[TW0304]: a sequence needs the option \"fields.id.end\" (add 'fields.id.end' = '…')",
    );
    check(
        &[("fields.small.max", "9999999999")],
        "error[TW0303]: option \"fields.small.max\" cannot be \"9999999999\" (use a number from -2147483648 to 2147483647)",
    );
    check(
        &[("fields.id.min", "9"), ("fields.id.max", "1")],
        "error[TW0303]: option \"fields.id.max\" cannot be \"1\" (use a number from 9)",
    );
    check(
        &[("fields.flag.kind", "sequence")],
        "error[TW0303]: option \"fields.flag.kind\" does not fit the type of its column (leave the column out, or compute it: name AS expression)",
    );
    check(&[("rows-per-second", "0")], "error[TW0303]: option \"rows-per-second\" cannot be \"0\" (use a whole number from 1)");
}

use super::*;
use crate::memory::{DeliveryFault, MemorySource};
use bytes::Bytes;
use std::time::Duration;
use thalweg_core::{
    Assignment, ErrorKind, Generation, ManualClock, Options, PartitionId, PollBudget, Position, ReadMode, ScanField, ScanRequest,
    Source, SourceEvent,
};

fn numbers(numbers: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("n", Arc::new(Int64Array::from(numbers.to_vec())) as _, true)]).unwrap()
}

struct Segments(BTreeMap<String, Bytes>);

impl SegmentReader for Segments {
    fn read(&self, segment: &SegmentRef) -> Result<Bytes> {
        Ok(self.0[&segment.object].clone())
    }
}

fn sink(broker: &Arc<MemoryBroker>) -> MemorySink {
    let request = SinkRequest {
        table: "out".to_string(),
        sink_id: "sink".to_string(),
        options: Options::new(),
        schema: numbers(&[]).schema(),
        metadata: vec![None],
        partitioned_by: vec![],
        primary_key: vec![],
        time_zone: "UTC".to_string(),
        clock: Arc::new(ManualClock::default()),
    };
    MemorySink::open(request, broker.clone()).unwrap()
}

fn deliverer(sink: &MemorySink, generation: u64) -> Box<dyn Deliverer> {
    let nonce = format!("nonce {generation}");
    let clock = Arc::new(ManualClock::default());
    sink.deliverer(DeliveryContext { job_id: "job".to_string(), generation: Generation(generation), nonce, clock }).unwrap()
}

/// A planned epoch with the given batches of one lane.
fn epoch_of(sink: &MemorySink, deliverer: &mut dyn Deliverer, epoch: u64, batches: &[Batch]) -> (DeliveryPlan, Segments) {
    let mut writer = sink.writer(LaneId(0)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    let mut objects = BTreeMap::new();
    let mut refs = vec![];
    for (index, segment) in writer.prepare(Epoch(epoch)).unwrap().into_iter().enumerate() {
        let object = format!("{epoch}/{index}");
        refs.push(SegmentRef {
            sink_id: "sink".to_string(),
            tag: segment.tag,
            epoch: Epoch(epoch),
            lane: LaneId(0),
            index: index as u32,
            object: object.clone(),
            offset: 0,
            length: segment.bytes.len() as u64,
            crc32: 0,
            rows: segment.rows,
            written_ms: 0,
        });
        objects.insert(object, Bytes::from(segment.bytes));
    }
    (deliverer.plan(Epoch(epoch), vec![], refs, false).unwrap(), Segments(objects))
}

fn delivered(broker: &MemoryBroker) -> Vec<(u64, Vec<i64>)> {
    let values = |batch: &Batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    broker.delivered("out").iter().map(|(epoch, batch)| (epoch.0, values(batch))).collect()
}

#[test]
fn an_epoch_is_delivered_once() {
    let broker = MemoryBroker::new();
    let sink = sink(&broker);
    let mut deliverer = deliverer(&sink, 1);
    assert_eq!(deliverer.fence().unwrap(), None);
    let (plan, segments) =
        epoch_of(&sink, deliverer.as_mut(), 1, &[Batch::append(numbers(&[1, 2])), Batch::append(numbers(&[3]))]);
    for _ in 0..2 {
        deliverer.deliver(Epoch(1), &plan.deliveries, &segments).unwrap();
    }
    assert_eq!(delivered(&broker), [(1, vec![1, 2, 3])]);
    assert_eq!(deliverer.fence().unwrap().unwrap().epoch, Epoch(1));
}

#[test]
fn weights_are_kept() {
    let broker = MemoryBroker::new();
    let sink = sink(&broker);
    let mut deliverer = deliverer(&sink, 1);
    let batch = Batch { weights: Some(Int64Array::from(vec![1, -1])), ..Batch::append(numbers(&[1, 2])) };
    let (plan, segments) = epoch_of(&sink, deliverer.as_mut(), 1, &[batch]);
    deliverer.deliver(Epoch(1), &plan.deliveries, &segments).unwrap();
    let (_, batch) = broker.delivered("out").remove(0);
    assert_eq!((batch.weight(0), batch.weight(1), batch.rows.num_columns()), (1, -1, 1));
}

#[test]
fn a_lost_answer_does_not_double_rows() {
    for fault in [DeliveryFault::BeforeCommit, DeliveryFault::AfterCommit] {
        let broker = MemoryBroker::new();
        let sink = sink(&broker);
        let mut deliverer = deliverer(&sink, 1);
        let (plan, segments) = epoch_of(&sink, deliverer.as_mut(), 1, &[Batch::append(numbers(&[1]))]);
        broker.fail_next_delivery(fault);
        let error = deliverer.deliver(Epoch(1), &plan.deliveries, &segments).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        deliverer.deliver(Epoch(1), &plan.deliveries, &segments).unwrap();
        assert_eq!(delivered(&broker), [(1, vec![1])], "{fault:?}");
    }
}

#[test]
fn an_older_run_is_fenced() {
    let broker = MemoryBroker::new();
    let sink = sink(&broker);
    let (mut older, mut newer) = (deliverer(&sink, 1), deliverer(&sink, 2));
    older.fence().unwrap();
    newer.fence().unwrap();
    let (plan, segments) = epoch_of(&sink, older.as_mut(), 1, &[Batch::append(numbers(&[1]))]);
    let error = older.deliver(Epoch(1), &plan.deliveries, &segments).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced);
    assert_eq!(older.fence().unwrap_err().kind, ErrorKind::Fenced);
    assert!(delivered(&broker).is_empty());
}

fn scan(mode: ReadMode) -> ScanRequest {
    let offset = Arc::new(Field::new("o", DataType::Int64, false));
    ScanRequest {
        table: "in".to_string(),
        options: Options::new(),
        fields: vec![
            ScanField::Metadata { key: "offset".to_string(), field: offset },
            ScanField::Physical(numbers(&[]).schema().fields()[0].clone()),
        ],
        physical_schema: numbers(&[]).schema(),
        partitioned_by: vec![],
        primary_key: vec![],
        time_zone: "UTC".to_string(),
        mode,
        clock: Arc::new(ManualClock::default()),
    }
}

fn poll(reader: &mut dyn thalweg_core::SourceReader) -> String {
    match reader.poll(PollBudget { rows: 2, wait: Duration::ZERO }).unwrap() {
        SourceEvent::Rows { partition, rows, next, .. } => {
            let column = |index: usize| rows.column(index).as_primitive::<Int64Type>().values().to_vec();
            format!("{partition} {:?} {:?} -> {}", column(0), column(1), next.next)
        }
        SourceEvent::Idle => "idle".to_string(),
        SourceEvent::PartitionEnd(partition) | SourceEvent::CaughtUp(partition) => format!("{partition} ends"),
    }
}

#[test]
fn pushed_rows_are_read_from_a_position_to_the_end() {
    let broker = MemoryBroker::new();
    broker.push("in", 0, numbers(&[10, 11, 12]));
    let source = MemorySource::open(scan(ReadMode::AsDeclared), broker.clone()).unwrap();
    assert!(!source.is_bounded());
    let partition = PartitionId("in/0".to_string());
    let mut reader = source.reader(vec![Assignment { partition, position: Some(Position::at(1)) }]).unwrap();
    assert_eq!(poll(reader.as_mut()), "in/0 [1, 2] [11, 12] -> 3");
    assert_eq!(poll(reader.as_mut()), "idle");
    broker.push("in", 0, numbers(&[13]));
    assert_eq!(reader.lag_rows(), Some(1));
    broker.end("in");
    assert_eq!(poll(reader.as_mut()), "in/0 [3] [13] -> 4");
    assert_eq!(poll(reader.as_mut()), "in/0 ends");
}

#[test]
fn until_caught_up_ends_at_what_was_there() {
    let broker = MemoryBroker::new();
    broker.push("in", 0, numbers(&[10]));
    let source = MemorySource::open(scan(ReadMode::UntilCaughtUp), broker.clone()).unwrap();
    assert!(source.is_bounded());
    let partition = source.partitions().unwrap().remove(0);
    let mut reader = source.reader(vec![Assignment { partition, position: None }]).unwrap();
    broker.push("in", 0, numbers(&[11]));
    assert_eq!(poll(reader.as_mut()), "in/0 [0] [10] -> 1");
    assert_eq!(poll(reader.as_mut()), "in/0 ends");
}

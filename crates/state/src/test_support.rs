//! What several test modules need.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, UInt16Array};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use thalweg_core::{
    DeliveryPlan, Epoch, EventTime, Generation, LaneId, PartitionId, PlannedDelivery, Position, SeededRand, SegmentRef,
};
use tokio::runtime::Runtime;

use crate::{
    FORMAT_VERSION, JobStore, KEY_GROUP_COLUMN, Manifest, PartitionProgress, PlanIdentity, RetryPolicy, SlotId, SourceProgress,
    StateKind, StateRef, UndeliveredEpoch,
};

/// One runtime for all tests.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime starts")
    })
}

/// A [`JobStore`] over `store` that never sleeps and whose jitter depends on `seed`.
pub(crate) fn job_store(store: Arc<dyn ObjectStore>, seed: u64) -> JobStore {
    JobStore::new(store, Path::from("jobs/test"), runtime().handle().clone())
        .with_retry_policy(RetryPolicy { request_timeout: Duration::from_secs(600), ..RetryPolicy::default() })
        .with_sleep(Arc::new(|_| {}))
        .with_rand(Box::new(SeededRand::new(seed)))
}

/// A job in memory, with a way around [`JobStore`] to the objects themselves.
pub(crate) struct TestStore {
    pub raw: Arc<dyn ObjectStore>,
    pub jobs: Arc<JobStore>,
}

impl TestStore {
    pub(crate) fn in_memory() -> Self {
        TestStore::over(Arc::new(InMemory::new()))
    }

    pub(crate) fn over(raw: Arc<dyn ObjectStore>) -> Self {
        TestStore { jobs: Arc::new(job_store(raw.clone(), 1)), raw }
    }

    fn location(name: &str) -> Path {
        Path::from(format!("jobs/test/{name}"))
    }

    pub(crate) fn bytes_of(&self, name: &str) -> Bytes {
        runtime().block_on(async { self.raw.get(&Self::location(name)).await.unwrap().bytes().await.unwrap() })
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        runtime().block_on(self.raw.head(&Self::location(name))).is_ok()
    }

    pub(crate) fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        runtime().block_on(self.raw.put(&Self::location(name), bytes.into())).unwrap();
    }

    pub(crate) fn delete(&self, name: &str) {
        runtime().block_on(self.raw.delete(&Self::location(name))).unwrap();
    }
}

/// Key groups and values as a state batch with columns `key_group`, `value`.
pub(crate) fn state_batch(rows: &[(u16, i64)]) -> RecordBatch {
    let fields = vec![Field::new(KEY_GROUP_COLUMN, DataType::UInt16, false), Field::new("value", DataType::Int64, false)];
    let groups: UInt16Array = rows.iter().map(|row| row.0).collect::<Vec<_>>().into();
    let values: Int64Array = rows.iter().map(|row| row.1).collect::<Vec<_>>().into();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(groups), Arc::new(values)]).unwrap()
}

pub(crate) fn plan(fingerprint: &str) -> PlanIdentity {
    let operators = vec![("source-1".to_string(), "Source clicks".to_string()), (fingerprint.to_string(), "Filter".to_string())];
    PlanIdentity { fingerprint: fingerprint.to_string(), operators }
}

/// A manifest with something in every member.
pub(crate) fn sample_manifest(sequence: u64) -> Manifest {
    let state = StateRef {
        operator: "agg-1".to_string(),
        slot: SlotId("1700000000000".to_string()),
        lane: LaneId(0),
        kind: StateKind::Replace,
        object: "state/a".to_string(),
        offset: 0,
        length: 10,
        crc32: 7,
        rows: 1,
    };
    let partition = PartitionProgress {
        partition: PartitionId("clicks/0".to_string()),
        position: Some(Position { next: 42, detail: Some("topic-id \"x\",\"xxh3\":\"".to_string()) }),
        watermark: EventTime::MIN,
        ended: false,
    };
    Manifest {
        format_version: FORMAT_VERSION,
        sequence,
        job_id: "job".to_string(),
        generation: Generation(2),
        nonce: "nonce".to_string(),
        epoch: Epoch(5),
        created_ms: 1_700_000_000_000,
        plan: plan("filter-1"),
        lanes: 2,
        sources: vec![SourceProgress { operator: "source-1".to_string(), partitions: vec![partition] }],
        state: vec![state.clone(), StateRef { lane: LaneId(1), kind: StateKind::Merge, ..state }],
        undelivered: vec![undelivered(Epoch(5), "out/a")],
        finished: false,
    }
}

/// An epoch that waits for the delivery of one segment and keeps another, both in `object`.
pub(crate) fn undelivered(epoch: Epoch, object: &str) -> UndeliveredEpoch {
    let segment = SegmentRef {
        sink_id: "sink".to_string(),
        tag: String::new(),
        epoch,
        lane: LaneId(0),
        index: 0,
        object: object.to_string(),
        offset: 0,
        length: 3,
        crc32: 1,
        rows: 1,
        written_ms: 0,
    };
    let delivery = PlannedDelivery { target: "part-1".to_string(), segments: vec![segment.clone()] };
    let plan = DeliveryPlan { deliveries: vec![delivery], keep: vec![SegmentRef { index: 1, ..segment }] };
    UndeliveredEpoch { epoch, plans: vec![("files".to_string(), plan)] }
}

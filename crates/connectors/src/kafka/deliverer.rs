//! Delivers stored epochs into Kafka, exactly once.
//!
//! ```text
//!             fence: peek for newer claims, init_transactions, commit own claim, read up to it
//!   [unfenced] ----------------------------------------------------------------> [ready: last marker known]
//!        ^                                                                          | deliver: for each part
//!        | any error, also on the side of a transaction that commits                v behind the marker
//!        +------------------------------------------------------------------- [in transaction] -- commit --> [ready]
//! ```
//!
//! A part is at most [`PART_BYTES`] of frames, so that no transaction is long; its marker is the last record of the same
//! transaction, so the marker alone decides what was delivered. After any doubt the producer is dropped, the topic is fenced
//! and read again, and the caller repeats the epoch: parts up to the marker are skipped. If a reply never comes, the
//! client's time limits end the wait, and the broker aborts the transaction after [`TRANSACTION_TIMEOUT_MS`].

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::Producer;
use thalweg_core::{
    Deliverer, DeliveryContext, DeliveryMarker, DeliveryPlan, Epoch, Error, ErrorKind, Options, PlannedDelivery, Result,
    SegmentReader, SegmentRef,
};

use super::client::{creation_error, kafka_error, producer_config};
use super::producer::CountingProducer;
use super::progress::{Claim, ProgressReader, claim_key, marker_key, topic_name};
use crate::output_frames::{FrameReader, OutputFrame};

/// Where an epoch is cut into transactions. Part of the protocol: a run that takes over must cut at the same places.
const PART_BYTES: usize = 64 << 20;
const TRANSACTION_TIMEOUT_MS: &str = "60000";
const INIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Shorter than the transaction's own time limit, so that we are the first to give up.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(45);

/// One per cluster, prefix and job.
pub struct KafkaDeliverer {
    options: Options,
    transactional_id: String,
    progress_topic: String,
    context: DeliveryContext,
    /// Counts the claims of this run.
    attempts: u64,
    /// `None` until fenced, and again after any doubt.
    ready: Option<Ready>,
}

struct Ready {
    producer: CountingProducer,
    marker: Option<DeliveryMarker>,
}

impl KafkaDeliverer {
    /// `options` are those of any sink of the cluster. Does not connect.
    pub fn new(options: Options, prefix: &str, context: DeliveryContext) -> Self {
        KafkaDeliverer {
            options,
            transactional_id: format!("{prefix}-{}", context.job_id),
            progress_topic: topic_name(prefix, &context.job_id),
            context,
            attempts: 0,
            ready: None,
        }
    }

    fn producer(&self) -> Result<CountingProducer> {
        let mut config = producer_config(&self.options);
        config
            .set("transactional.id", &self.transactional_id)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
            .set("message.timeout.ms", TRANSACTION_TIMEOUT_MS)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A part is in memory anyway.
            .set("queue.buffering.max.messages", "0");
        CountingProducer::new(&config).map_err(|error| creation_error(&self.options, &error))
    }

    /// Takes over, or finds out that somebody else has.
    fn take_over(&mut self) -> Result<Ready> {
        let reader = ProgressReader { options: &self.options, topic: &self.progress_topic, clock: self.context.clock.as_ref() };
        reader.ensure_topic()?;
        // A run that was paused must not fence the one that replaced it, so it looks before it acts.
        reader.peek()?.check(&self.progress_topic, &self.context)?;
        let mut producer = self.producer()?;
        let action = "take over the transactions of the job";
        producer.client().init_transactions(INIT_TIMEOUT).map_err(|error| kafka_error(action, error))?;
        self.attempts += 1;
        let claim = Claim {
            job_id: self.context.job_id.clone(),
            generation: self.context.generation,
            nonce: self.context.nonce.clone(),
            attempt: self.attempts,
        };
        producer.client().begin_transaction().map_err(|error| kafka_error(action, error))?;
        let key = claim_key(&self.context.job_id);
        self.send_progress(&mut producer, &key, &claim)?;
        commit(&producer).map_err(|error| error.in_context("the claim of the job"))?;
        let progress = reader.read_to(&claim)?;
        progress.check(&self.progress_topic, &self.context)?;
        tracing::info!(topic = self.progress_topic, marker = ?progress.marker, "kafka transactions taken over");
        Ok(Ready { producer, marker: progress.marker })
    }

    fn send_progress(&self, producer: &mut CountingProducer, key: &str, value: &impl serde::Serialize) -> Result<()> {
        let value = serde_json::to_vec(value).map_err(|error| Error::internal("a marker is no JSON").with_cause(error))?;
        producer.send(&OutputFrame {
            topic: &self.progress_topic,
            partition: 0,
            timestamp_ms: -1,
            headers: vec![],
            key: Some(key.as_bytes()),
            value: Some(&value),
        })
    }

    /// Delivers what the marker does not cover. Any error leaves the outcome of the part under way in doubt.
    fn deliver_parts(
        &self,
        ready: &mut Ready,
        epoch: Epoch,
        deliveries: &[PlannedDelivery],
        segments: &dyn SegmentReader,
    ) -> Result<()> {
        let mut part = PartCursor::new(ready.marker.as_ref(), epoch);
        let errors_before = ready.producer.errors();
        for segment in deliveries.iter().flat_map(|delivery| &delivery.segments) {
            let bytes = segments.read(segment)?;
            for frame in FrameReader::new(&bytes)? {
                let frame = frame?;
                if part.is_full_with(&frame) {
                    if part.is_new() {
                        self.finish_part(ready, &part, false, errors_before)?;
                    }
                    part.next();
                }
                if part.is_new() {
                    if part.is_empty() {
                        begin(&ready.producer)?;
                    }
                    ready.producer.send(&frame)?;
                }
                part.add(&frame);
            }
        }
        if part.is_new() && !part.is_empty() {
            self.finish_part(ready, &part, true, errors_before)?;
        }
        Ok(())
    }

    fn finish_part(&self, ready: &mut Ready, part: &PartCursor, last: bool, errors_before: u64) -> Result<()> {
        let marker = DeliveryMarker {
            job_id: self.context.job_id.clone(),
            generation: self.context.generation,
            epoch: part.epoch,
            part: part.number,
            last,
        };
        self.send_progress(&mut ready.producer, &marker_key(&self.context.job_id), &marker)?;
        commit(&ready.producer)?;
        if ready.producer.errors() != errors_before {
            // The commit may have been sent twice; a late one could end a later transaction. The marker will tell.
            let reason = ready.producer.last_error().unwrap_or_default();
            return Err(Error::unavailable("the connection to Kafka failed during a transaction").with_cause(reason));
        }
        ready.marker = Some(marker);
        Ok(())
    }
}

/// Which part of an epoch the frames at hand belong to. Parts are cut by size alone, so every run cuts alike.
struct PartCursor {
    epoch: Epoch,
    number: u32,
    bytes: usize,
    /// The first part that is not delivered yet.
    first_new: u32,
}

impl PartCursor {
    fn new(marker: Option<&DeliveryMarker>, epoch: Epoch) -> Self {
        let first_new = match marker {
            Some(marker) if marker.epoch > epoch || (marker.epoch == epoch && marker.last) => u32::MAX,
            Some(marker) if marker.epoch == epoch => marker.part + 1,
            _ => 0,
        };
        PartCursor { epoch, number: 0, bytes: 0, first_new }
    }

    fn is_new(&self) -> bool {
        self.number >= self.first_new
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn size(frame: &OutputFrame<'_>) -> usize {
        // Never 0, so that a part with rows is never taken for an empty one.
        frame.payload_bytes() + 1
    }

    fn is_full_with(&self, frame: &OutputFrame<'_>) -> bool {
        self.bytes > 0 && self.bytes + Self::size(frame) > PART_BYTES
    }

    fn add(&mut self, frame: &OutputFrame<'_>) {
        self.bytes += Self::size(frame);
    }

    fn next(&mut self) {
        self.number += 1;
        self.bytes = 0;
    }
}

fn begin(producer: &CountingProducer) -> Result<()> {
    producer.client().begin_transaction().map_err(|error| kafka_error("begin a transaction", error))
}

/// Waits for every record of the transaction, then commits.
fn commit(producer: &CountingProducer) -> Result<()> {
    producer.flush(COMMIT_TIMEOUT)?;
    producer.client().commit_transaction(COMMIT_TIMEOUT).map_err(|error: KafkaError| kafka_error("commit a transaction", error))
}

impl Deliverer for KafkaDeliverer {
    fn fence(&mut self) -> Result<Option<DeliveryMarker>> {
        self.ready = None;
        // A broker that says "fenced" here does so because of a race that the next attempt decides by the claims.
        let ready = self.take_over().map_err(|error| match (error.kind, std::error::Error::source(&error).is_some()) {
            (ErrorKind::Fenced, true) => as_unavailable(error),
            _ => error,
        })?;
        let marker = ready.marker.clone();
        self.ready = Some(ready);
        Ok(marker)
    }

    fn plan(
        &mut self,
        _epoch: Epoch,
        mut waiting: Vec<SegmentRef>,
        new: Vec<SegmentRef>,
        _is_final: bool,
    ) -> Result<DeliveryPlan> {
        waiting.extend(new);
        if waiting.is_empty() {
            return Ok(DeliveryPlan::default());
        }
        Ok(DeliveryPlan { deliveries: vec![PlannedDelivery { target: String::new(), segments: waiting }], keep: vec![] })
    }

    fn deliver(&mut self, epoch: Epoch, deliveries: &[PlannedDelivery], segments: &dyn SegmentReader) -> Result<()> {
        if self.ready.is_none() {
            self.fence()?;
        }
        let Some(mut ready) = self.ready.take() else {
            return Err(Error::internal("a fence without a producer"));
        };
        let error = match self.deliver_parts(&mut ready, epoch, deliveries, segments) {
            Ok(()) => {
                self.ready = Some(ready);
                return Ok(());
            }
            Err(error) => error,
        };
        drop(ready);
        if error.kind == ErrorKind::Corrupt {
            return Err(error);
        }
        // "Fenced" by the broker may be a newer run, or our own transaction that timed out: the claims tell.
        match self.fence() {
            Err(fence_error) if matches!(fence_error.kind, ErrorKind::Fenced | ErrorKind::Corrupt) => Err(fence_error),
            Err(fence_error) => {
                tracing::warn!(error = fence_error.full_message(), "kafka transactions not taken over yet");
                Err(again(epoch, error))
            }
            Ok(_) => Err(again(epoch, error)),
        }
    }
}

/// The outcome of a delivery that failed and may be repeated now.
fn again(epoch: Epoch, error: Error) -> Error {
    as_unavailable(error).in_context(format!("delivery of epoch {epoch} is repeated"))
}

fn as_unavailable(mut error: Error) -> Error {
    error.kind = ErrorKind::Unavailable;
    error
}

#[cfg(test)]
mod tests {
    use thalweg_core::Generation;

    use super::*;

    fn marker(epoch: u64, part: u32, last: bool) -> DeliveryMarker {
        DeliveryMarker { job_id: "job".to_string(), generation: Generation(1), epoch: Epoch(epoch), part, last }
    }

    #[test]
    fn what_the_marker_covers_is_skipped() {
        let check = |marker: Option<DeliveryMarker>, part: u32, expected: bool| {
            let mut cursor = PartCursor::new(marker.as_ref(), Epoch(5));
            (0..part).for_each(|_| cursor.next());
            assert_eq!(cursor.is_new(), expected, "{marker:?} part {part}");
        };
        check(None, 0, true);
        check(Some(marker(4, 0, true)), 0, true);
        check(Some(marker(5, 0, true)), 0, false);
        check(Some(marker(5, 1, false)), 1, false);
        check(Some(marker(5, 1, false)), 2, true);
        check(Some(marker(6, 0, true)), 3, false);
    }

    #[test]
    fn parts_are_cut_by_size() {
        let value = vec![0; PART_BYTES / 2];
        let frame = OutputFrame { topic: "t", value: Some(&value), ..OutputFrame::default() };
        let mut cursor = PartCursor::new(None, Epoch(1));
        assert!(!cursor.is_full_with(&frame));
        cursor.add(&frame);
        assert!(cursor.is_full_with(&frame));
        cursor.next();
        assert!(cursor.is_empty() && !cursor.is_full_with(&frame));
    }
}

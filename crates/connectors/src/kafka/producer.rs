//! A producer that counts: every record sent must be reported as delivered before anything is called done.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use thalweg_core::{Error, Result};

use super::client::{Reports, kafka_error};
use crate::output_frames::OutputFrame;

/// Hears delivery reports.
#[derive(Default)]
pub struct DeliveryCounter {
    reports: Reports,
    delivered: AtomicU64,
    first_failure: Mutex<Option<(KafkaError, String)>>,
}

impl ClientContext for DeliveryCounter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }
}

impl ProducerContext for DeliveryCounter {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::SeqCst);
            }
            Err((error, record)) => {
                if let Ok(mut failure) = self.first_failure.lock() {
                    let place = format!("topic {} partition {}", record.topic(), record.partition());
                    failure.get_or_insert((error.clone(), place));
                }
            }
        }
    }
}

/// Sends records and says whether all have arrived. Owned by one thread.
pub struct CountingProducer {
    producer: BaseProducer<DeliveryCounter>,
    sent: u64,
}

/// How many times to wait for room in the producer's queue, each time [`ROOM_WAIT`], before calling the cluster unavailable.
const ROOM_TRIES: u32 = 600;
const ROOM_WAIT: Duration = Duration::from_millis(100);

impl CountingProducer {
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        Ok(CountingProducer { producer: config.create_with_context(DeliveryCounter::default())?, sent: 0 })
    }

    /// The client, for transactions.
    pub fn client(&self) -> &BaseProducer<DeliveryCounter> {
        &self.producer
    }

    /// Errors that the client met by itself so far, after it was given the time to tell them.
    pub fn errors(&self) -> u64 {
        // Polling without a wait would serve one event only.
        self.producer.poll(Duration::from_millis(1));
        self.producer.context().reports.errors()
    }

    /// What the client told last.
    pub fn last_error(&self) -> Option<String> {
        self.producer.context().reports.last_error()
    }

    /// Hands a record to the client; waits while its queue is full.
    /// # Errors
    /// `Unavailable` when the queue stays full, or for what the client refuses at once.
    pub fn send(&mut self, frame: &OutputFrame<'_>) -> Result<()> {
        for _ in 0..ROOM_TRIES {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(frame.topic);
            record.key = frame.key;
            record.payload = frame.value;
            record.partition = (frame.partition >= 0).then_some(frame.partition);
            record.timestamp = (frame.timestamp_ms >= 0).then_some(frame.timestamp_ms);
            if !frame.headers.is_empty() {
                let headers = OwnedHeaders::new_with_capacity(frame.headers.len());
                record.headers = Some(
                    frame.headers.iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: *value })),
                );
            }
            match self.producer.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => self.producer.poll(ROOM_WAIT),
                Err((error, _)) => return Err(kafka_error(&format!("write to topic {}", frame.topic), self.root_of(error))),
            }
        }
        Err(Error::unavailable(format!("topic {} takes no records: the producer's queue stays full", frame.topic)))
    }

    /// After a fatal error the client says "fatal" or "purged" of everything; it keeps what began it.
    fn root_of(&self, error: KafkaError) -> KafkaError {
        match self.producer.client().fatal_error() {
            Some((code, _)) => KafkaError::MessageProduction(code),
            None => error,
        }
    }

    /// Serves delivery reports without waiting.
    pub fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until every record that was sent is reported as delivered.
    /// # Errors
    /// `Unavailable` at the timeout or when one was not delivered. Nothing is known then of those in flight.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.producer.flush(timeout).map_err(|error| {
            let error = kafka_error("write to Kafka", error);
            match self.last_error() {
                Some(reason) => error.with_help(reason),
                None => error,
            }
        })?;
        self.check_delivered()
    }

    /// Whether all that was sent has arrived, as far as the reports that came in say.
    pub fn check_delivered(&self) -> Result<()> {
        let context = self.producer.context();
        if let Ok(failure) = context.first_failure.lock()
            && let Some((error, place)) = failure.as_ref()
        {
            return Err(kafka_error(&format!("write to {place}"), self.root_of(error.clone())));
        }
        let delivered = context.delivered.load(Ordering::SeqCst);
        if delivered == self.sent {
            return Ok(());
        }
        Err(Error::unavailable(format!("{} of {} records have no delivery report", self.sent - delivered, self.sent)))
    }
}

//! Many messages with one call: the only unsafe code of the workspace.
//!
//! `rd_kafka_consume_batch_queue` costs a third of a call per message. The binding crate does not wrap it, so this module
//! does, and gives a safe view: messages live as long as the [`Messages`] that owns them, which cannot outlive the consumer.
//!
//! Two queues of the client are used. The consumer queue carries messages and errors of partitions; the main queue, which
//! carries log lines and errors of connections, is led to a queue of our own ([`BatchConsumer::serve_events`]).

#![allow(unsafe_code, reason = "a thin wrapper around one function of librdkafka")]

use std::ffi::{CStr, CString};
use std::ptr;
use std::slice;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use super::client::{Reports, log_line};
use super::record::{Headers, TimestampType};

/// A consumer with assigned partitions whose messages are read in batches. Owned by one thread.
pub struct BatchConsumer {
    // Invariant: both queues belong to `consumer`'s client and are destroyed before it.
    messages: *mut bindings::rd_kafka_queue_t,
    events: *mut bindings::rd_kafka_queue_t,
    buffer: Vec<*mut bindings::rd_kafka_message_t>,
    consumer: BaseConsumer<Reports>,
}

// SAFETY: librdkafka's clients and queues may be used from any thread; `buffer` is empty between calls.
unsafe impl Send for BatchConsumer {}

impl BatchConsumer {
    /// `config` must have a `group.id`.
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        let consumer: BaseConsumer<Reports> = config.create_with_context(Reports::default())?;
        let client = consumer.client().native_ptr();
        // SAFETY: `client` is a live client. The three functions give a new reference to a queue of it, or null; the
        // reference to the main queue is given back at once, its forwarding stays.
        let (messages, events) = unsafe {
            let messages = bindings::rd_kafka_queue_get_consumer(client);
            let events = bindings::rd_kafka_queue_new(client);
            let main = bindings::rd_kafka_queue_get_main(client);
            bindings::rd_kafka_queue_forward(main, events);
            bindings::rd_kafka_queue_destroy(main);
            (messages, events)
        };
        assert!(!messages.is_null() && !events.is_null(), "a consumer with a group has a queue");
        Ok(BatchConsumer { messages, events, buffer: vec![], consumer })
    }

    /// The client, for everything but reading.
    pub fn consumer(&self) -> &BaseConsumer<Reports> {
        &self.consumer
    }

    /// Up to `max` messages and partition errors. Returns when there are `max` or `wait` is over, so ask for one to wait for
    /// the first.
    pub fn consume(&mut self, max: usize, wait: Duration) -> Messages<'_> {
        self.buffer.clear();
        self.buffer.resize(max, ptr::null_mut());
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is live, and the buffer has room for `max` pointers, of which the first `count` are set to
        // messages that are ours to destroy.
        let count = unsafe { bindings::rd_kafka_consume_batch_queue(self.messages, wait_ms, self.buffer.as_mut_ptr(), max) };
        self.buffer.truncate(usize::try_from(count).unwrap_or(0));
        Messages { buffer: &mut self.buffer }
    }

    /// Passes on what the client wants to tell besides messages. Cheap when there is nothing.
    pub fn serve_events(&self) {
        loop {
            // SAFETY: the queue is live; a non-null event is ours until it is destroyed at the end of the round. Its texts
            // live as long as it does.
            unsafe {
                let event = bindings::rd_kafka_queue_poll(self.events, 0);
                if event.is_null() {
                    return;
                }
                match bindings::rd_kafka_event_type(event) {
                    bindings::RD_KAFKA_EVENT_ERROR => {
                        let reason = bindings::rd_kafka_event_error_string(event);
                        if !reason.is_null() {
                            self.consumer.context().note_error(&CStr::from_ptr(reason).to_string_lossy());
                        }
                    }
                    bindings::RD_KAFKA_EVENT_LOG => {
                        let (mut facility, mut text, mut level) = (ptr::null(), ptr::null(), 0);
                        if bindings::rd_kafka_event_log(event, &mut facility, &mut text, &mut level) == 0 {
                            log_line(level, &CStr::from_ptr(facility).to_string_lossy(), &CStr::from_ptr(text).to_string_lossy());
                        }
                    }
                    _ => {}
                }
                bindings::rd_kafka_event_destroy(event);
            }
        }
    }

    /// The end of a partition as of the last answer of its broker; `None` before the first.
    pub fn known_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let topic = CString::new(topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is live, the text ends in a zero byte, and both numbers outlive the call.
        let code = unsafe {
            bindings::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                partition,
                &mut low,
                &mut high,
            )
        };
        (code == bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

/// How often [`BatchConsumer`] looks whether the client is closed, each time after [`CLOSE_WAIT`].
const CLOSE_TRIES: u32 = 100;
const CLOSE_WAIT: Duration = Duration::from_millis(100);

impl BatchConsumer {
    /// Closes the client and empties its queue. A message that is left in the queue holds on to its broker, and destroying
    /// the client would wait for that broker for ever; the binding crate closes without looking at what is left.
    fn close(&mut self) {
        if let Err(error) = self.consumer.unassign().and_then(|()| self.consumer.close_queue()) {
            tracing::warn!(%error, "kafka consumer not closed cleanly");
        }
        for _ in 0..CLOSE_TRIES {
            if self.consumer.closed() {
                break;
            }
            drop(self.consume(1, CLOSE_WAIT));
        }
        while !self.consume(1000, Duration::ZERO).is_empty() {}
    }
}

impl Drop for BatchConsumer {
    fn drop(&mut self) {
        self.close();
        // SAFETY: both references were taken in `new` and are given back once, before `consumer` is dropped.
        unsafe {
            bindings::rd_kafka_queue_destroy(self.messages);
            bindings::rd_kafka_queue_destroy(self.events);
        }
    }
}

/// Messages of one call; given back to the client when dropped.
pub struct Messages<'a> {
    // Invariant: every pointer is a live message that nobody else destroys.
    buffer: &'a mut Vec<*mut bindings::rd_kafka_message_t>,
}

impl Messages<'_> {
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        // SAFETY: by the invariant of `buffer`; the reference does not outlive `self`.
        self.buffer.iter().map(|message| Message { raw: unsafe { &**message } })
    }
}

impl Drop for Messages<'_> {
    fn drop(&mut self) {
        for message in self.buffer.drain(..) {
            // SAFETY: by the invariant of `buffer`; drained, so never again.
            unsafe { bindings::rd_kafka_message_destroy(message) };
        }
    }
}

/// One message, or one error of a partition.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    raw: &'a bindings::rd_kafka_message_t,
}

impl<'a> Message<'a> {
    /// The error and its text, when this is no message.
    pub fn error(&self) -> Option<(RDKafkaErrorCode, String)> {
        if self.raw.err == bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: the message is live; the text, if any, lives as long as it does.
        let text = unsafe {
            let text = bindings::rd_kafka_message_errstr(self.raw);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        Some((self.raw.err.into(), text))
    }

    /// Equal for messages of one topic, while its client lives. 0 for errors without a topic.
    pub fn topic_identity(&self) -> usize {
        self.raw.rkt as usize
    }

    /// The topic; empty for errors without one.
    pub fn topic(&self) -> &'a str {
        if self.raw.rkt.is_null() {
            return "";
        }
        // SAFETY: the message holds a reference to its topic, whose name lives as long as the topic.
        unsafe { CStr::from_ptr(bindings::rd_kafka_topic_name(self.raw.rkt)) }.to_str().unwrap_or_default()
    }

    pub fn partition(&self) -> i32 {
        self.raw.partition
    }

    pub fn offset(&self) -> i64 {
        self.raw.offset
    }

    pub fn key(&self) -> Option<&'a [u8]> {
        self.bytes(self.raw.key.cast(), self.raw.key_len)
    }

    pub fn value(&self) -> Option<&'a [u8]> {
        self.bytes(self.raw.payload.cast(), self.raw.len)
    }

    fn bytes(&self, start: *const u8, length: usize) -> Option<&'a [u8]> {
        // SAFETY: key and payload point to that many bytes of the live message, or are null.
        (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start, length) })
    }

    /// Milliseconds since 1970, where the record has a timestamp, and what it means.
    pub fn timestamp(&self) -> (Option<i64>, TimestampType) {
        use bindings::rd_kafka_timestamp_type_t as Kind;
        let mut kind = Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live and `kind` outlives the call.
        let millis = unsafe { bindings::rd_kafka_message_timestamp(self.raw, &mut kind) };
        match kind {
            Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => (None, TimestampType::None),
            Kind::RD_KAFKA_TIMESTAMP_CREATE_TIME => (Some(millis).filter(|millis| *millis != -1), TimestampType::CreateTime),
            Kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => {
                (Some(millis).filter(|millis| *millis != -1), TimestampType::LogAppendTime)
            }
        }
    }

    pub fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is live.
        Some(unsafe { bindings::rd_kafka_message_leader_epoch(self.raw) }).filter(|epoch| *epoch >= 0)
    }
}

impl Headers for Message<'_> {
    fn each(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let none = bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        let mut headers = ptr::null_mut();
        // SAFETY: the message is live and owns its headers; names end in a zero byte, values have the given size, and both
        // live as long as the headers.
        unsafe {
            if bindings::rd_kafka_message_headers(self.raw, &mut headers) != none {
                return;
            }
            for index in 0.. {
                let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                if bindings::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) != none {
                    return;
                }
                let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
                visit(&CStr::from_ptr(name).to_string_lossy(), value);
            }
        }
    }
}

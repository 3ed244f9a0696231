//! The `kafka` connector: topics as sources and sinks, under Flink's option names; and `upsert-kafka`, see [`upsert`].
//!
//! Life of a row: [`batch_consumer`] → [`reader`] → [`rows`] (decoders, metadata) → the job → [`records_out`] (encoders,
//! partition, size) → [`buffered_writer`] → the output log → [`deliverer`] (short transactions with a marker in
//! [`progress`]). Embedded topics (`crate::embedded`) share everything between `rows` and `buffered_writer`.

pub mod batch_consumer;
pub mod buffered_writer;
mod check;
pub mod client;
pub mod deliverer;
pub mod metadata;
pub mod offsets;
pub mod options;
pub mod partitioner;
pub mod producer;
pub mod progress;
pub mod properties;
pub mod reader;
pub mod record;
pub mod records_out;
pub mod rows;
pub mod sink;
pub mod source;
pub mod table;
pub mod upsert;

use thalweg_core::ConnectorInfo;

pub use check::check;
pub use sink::KafkaSink;
pub use source::KafkaSource;
pub use table::{DecoderFactory, EncoderFactory, ScanTable, SinkTable};
pub use upsert::UPSERT_KAFKA;

/// The connector as the planner sees it.
pub const KAFKA: ConnectorInfo = ConnectorInfo {
    name: "kafka",
    doc: "Topics of Apache Kafka and of what speaks its protocol.",
    is_source: true,
    is_sink: true,
    takes_updates: false,
    takes_upserts: false,
    gives_upserts: false,
    options: options::OPTIONS,
    metadata: options::METADATA,
    format_options: &["format", "value.format", "key.format"],
    check,
};

//! `connector = 'memory'`: topics within the process, for tests and the simulator.
//!
//! A test pushes rows into the partitions of a topic and sees what was delivered, epoch by epoch. The sink is exactly-once by
//! the same protocol as Kafka: output goes through segments and a deliverer, and the topic keeps a marker. The broker itself
//! never drops a repetition, so that a fault in the protocol shows as rows that are there twice.

mod broker;
mod sink;
mod source;

use thalweg_core::{ConnectorInfo, MetadataKey, OptionDefinition, OptionType};

pub use broker::{DeliveryFault, MemoryBroker};
pub use sink::MemorySink;
pub use source::MemorySource;

/// The connector as data. Not in the registry that users see.
pub const INFO: ConnectorInfo = ConnectorInfo {
    name: "memory",
    doc: "Topics within the process, for tests.",
    is_source: true,
    is_sink: true,
    takes_updates: true,
    takes_upserts: false,
    gives_upserts: false,
    options: &[
        OptionDefinition {
            name: "topic",
            kind: OptionType::Text,
            required: false,
            default: None,
            doc: "Name of the topic; the table's name when unset.",
        },
        OptionDefinition {
            name: "bounded",
            kind: OptionType::Boolean,
            required: false,
            default: Some("false"),
            doc: "Whether the plan may rely on the topic to end.",
        },
    ],
    metadata: &[
        MetadataKey { key: "partition", sql_type: "INT NOT NULL", writable: false, doc: "Number of the partition, from 0." },
        MetadataKey { key: "offset", sql_type: "BIGINT NOT NULL", writable: false, doc: "Number of the row in its partition." },
    ],
    format_options: &[],
    check: |_| vec![],
};

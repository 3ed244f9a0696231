//! The options and metadata columns of the `kafka` and `upsert-kafka` connectors, under Flink's names.

use thalweg_core::{MetadataKey, OptionDefinition, OptionType};

const fn option(name: &'static str, kind: OptionType, default: Option<&'static str>, doc: &'static str) -> OptionDefinition {
    OptionDefinition { name, kind, required: false, default, doc }
}

const fn required(name: &'static str, doc: &'static str) -> OptionDefinition {
    OptionDefinition { name, kind: OptionType::Text, required: true, default: None, doc }
}

// What both connectors have.

const SERVERS: OptionDefinition =
    required("properties.bootstrap.servers", "Addresses of one or more brokers: `host:9092,host2:9092`.");
const PROPERTIES: OptionDefinition =
    option("properties.*", OptionType::Text, None, "A client property, from a list of those that are known to be safe.");
const TOPIC: OptionDefinition = option("topic", OptionType::Text, None, "The topic, or several to read from: `orders;returns`.");
const TOPIC_PATTERN: OptionDefinition =
    option("topic-pattern", OptionType::Text, None, "A regular expression that the whole name of a topic to read must match.");
const KEY_FIELDS_PREFIX: OptionDefinition = option(
    "key.fields-prefix",
    OptionType::Text,
    None,
    "What the columns of the key have in front of the names in the key itself.",
);
const VALUE_FIELDS_INCLUDE: OptionDefinition = option(
    "value.fields-include",
    OptionType::Enum(&["ALL", "EXCEPT_KEY"]),
    Some("ALL"),
    "Whether the columns of the key are in the value too.",
);
const BOUNDED_MODE: OptionDefinition = option(
    "scan.bounded.mode",
    OptionType::Enum(&["unbounded", "latest-offset", "group-offsets", "timestamp", "specific-offsets"]),
    Some("unbounded"),
    "Where to stop reading.",
);
const BOUNDED_OFFSETS: OptionDefinition = option(
    "scan.bounded.specific-offsets",
    OptionType::Text,
    None,
    "Where to stop in each partition, that offset excluded: `partition:0,offset:42`.",
);
const BOUNDED_TIMESTAMP: OptionDefinition =
    option("scan.bounded.timestamp-millis", OptionType::Integer, None, "Stop before the first record of this time or later.");
const IDLE_TIMEOUT: OptionDefinition = option(
    "scan.watermark.idle-timeout",
    OptionType::Duration,
    None,
    "After this long without rows a partition does not hold the watermark back.",
);
const SCAN_PARALLELISM: OptionDefinition =
    option("scan.parallelism", OptionType::Integer, None, "Accepted; lanes share the partitions evenly.");
const SINK_PARALLELISM: OptionDefinition =
    option("sink.parallelism", OptionType::Integer, None, "Accepted; every lane writes its own rows.");
const DELIVERY_GUARANTEE: OptionDefinition = option(
    "sink.delivery-guarantee",
    OptionType::Enum(&["exactly-once", "at-least-once", "none"]),
    Some("at-least-once"),
    "What a reader of committed records sees after a crash.",
);
const TRANSACTIONAL_ID_PREFIX: OptionDefinition = option(
    "sink.transactional-id-prefix",
    OptionType::Text,
    None,
    "Begins the transactional id and the name of the progress topic; needed for exactly-once.",
);
const TRANSACTION_NAMING: OptionDefinition = option(
    "sink.transaction-naming-strategy",
    OptionType::Enum(&["DEFAULT", "INCREMENTING", "POOLING"]),
    Some("DEFAULT"),
    "Accepted; a job has one transactional id.",
);

/// Every option of `kafka` but those of the formats.
pub const OPTIONS: &[OptionDefinition] = &[
    required("connector", "The word `kafka`."),
    SERVERS,
    PROPERTIES,
    TOPIC,
    TOPIC_PATTERN,
    option("format", OptionType::Text, None, "How values are encoded; the same as `value.format`."),
    option("value.format", OptionType::Text, None, "How values are encoded; its options then begin with `value.`."),
    option("key.format", OptionType::Text, None, "How keys are encoded; its options begin with `key.`."),
    option("key.fields", OptionType::Text, None, "The columns that make the key: `user_id;region`."),
    KEY_FIELDS_PREFIX,
    VALUE_FIELDS_INCLUDE,
    option(
        "scan.startup.mode",
        OptionType::Enum(&["earliest-offset", "latest-offset", "group-offsets", "timestamp", "specific-offsets"]),
        Some("group-offsets"),
        "Where a job without a checkpoint begins to read.",
    ),
    option(
        "scan.startup.specific-offsets",
        OptionType::Text,
        None,
        "Where to begin in each partition: `partition:0,offset:42;partition:1,offset:300`.",
    ),
    option("scan.startup.timestamp-millis", OptionType::Integer, None, "Begin with the first record of this time or later."),
    BOUNDED_MODE,
    BOUNDED_OFFSETS,
    BOUNDED_TIMESTAMP,
    option(
        "scan.topic-partition-discovery.interval",
        OptionType::Duration,
        Some("5 min"),
        "How often to look for new partitions and topics; 0 is never.",
    ),
    IDLE_TIMEOUT,
    SCAN_PARALLELISM,
    SINK_PARALLELISM,
    option(
        "sink.partitioner",
        OptionType::Enum(&["default", "fixed", "round-robin"]),
        Some("default"),
        "`default` by hash of the key (in turns without one), `fixed` one partition a lane, `round-robin` in turns.",
    ),
    DELIVERY_GUARANTEE,
    option(
        "sink.semantic",
        OptionType::Enum(&["exactly-once", "at-least-once", "none"]),
        None,
        "The old name of `sink.delivery-guarantee`.",
    ),
    TRANSACTIONAL_ID_PREFIX,
    TRANSACTION_NAMING,
];

/// Every option of `upsert-kafka` but those of the formats.
pub const UPSERT_OPTIONS: &[OptionDefinition] = &[
    required("connector", "The word `upsert-kafka`."),
    SERVERS,
    PROPERTIES,
    TOPIC,
    TOPIC_PATTERN,
    required("key.format", "How the columns of the PRIMARY KEY are encoded as the key; its options begin with `key.`."),
    required("value.format", "How values are encoded; its options begin with `value.`."),
    KEY_FIELDS_PREFIX,
    VALUE_FIELDS_INCLUDE,
    BOUNDED_MODE,
    BOUNDED_OFFSETS,
    BOUNDED_TIMESTAMP,
    IDLE_TIMEOUT,
    SCAN_PARALLELISM,
    SINK_PARALLELISM,
    option(
        "sink.buffer-flush.max-rows",
        OptionType::Integer,
        Some("0"),
        "Accepted together with `sink.buffer-flush.interval`; of the changes of a key in an epoch only the last is written anyway.",
    ),
    option(
        "sink.buffer-flush.interval",
        OptionType::Duration,
        Some("0 s"),
        "Accepted together with `sink.buffer-flush.max-rows`.",
    ),
    DELIVERY_GUARANTEE,
    TRANSACTIONAL_ID_PREFIX,
    TRANSACTION_NAMING,
];

/// The metadata columns.
pub const METADATA: &[MetadataKey] = &[
    MetadataKey { key: "topic", sql_type: "STRING NOT NULL", writable: true, doc: "The topic of the record." },
    MetadataKey { key: "partition", sql_type: "INT NOT NULL", writable: false, doc: "The partition of the record." },
    MetadataKey {
        key: "headers",
        sql_type: "MAP<STRING, BYTES> NOT NULL",
        writable: true,
        doc: "The headers; of equal names the last.",
    },
    MetadataKey { key: "leader-epoch", sql_type: "INT", writable: false, doc: "The leader epoch, where the broker knows it." },
    MetadataKey { key: "offset", sql_type: "BIGINT NOT NULL", writable: false, doc: "The offset within the partition." },
    MetadataKey {
        key: "timestamp",
        sql_type: "TIMESTAMP_LTZ(3) NOT NULL",
        writable: true,
        doc: "When the record was made, or appended.",
    },
    MetadataKey {
        key: "timestamp-type",
        sql_type: "STRING NOT NULL",
        writable: false,
        doc: "What `timestamp` is: NoTimestampType, CreateTime or LogAppendTime.",
    },
];

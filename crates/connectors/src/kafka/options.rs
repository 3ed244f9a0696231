//! The options and metadata columns of the `kafka` connector, under Flink's names.

use thalweg_core::{MetadataKey, OptionDefinition, OptionType};

const fn option(name: &'static str, kind: OptionType, default: Option<&'static str>, doc: &'static str) -> OptionDefinition {
    OptionDefinition { name, kind, required: false, default, doc }
}

const fn required(name: &'static str, doc: &'static str) -> OptionDefinition {
    OptionDefinition { name, kind: OptionType::Text, required: true, default: None, doc }
}

/// Every option but those of the formats.
pub const OPTIONS: &[OptionDefinition] = &[
    required("connector", "The word `kafka`."),
    required("properties.bootstrap.servers", "Addresses of one or more brokers: `host:9092,host2:9092`."),
    option("properties.*", OptionType::Text, None, "A client property, from a list of those that are known to be safe."),
    option("topic", OptionType::Text, None, "The topic, or several to read from: `orders;returns`."),
    option("topic-pattern", OptionType::Text, None, "A regular expression that the whole name of a topic to read must match."),
    option("format", OptionType::Text, None, "How values are encoded; the same as `value.format`."),
    option("value.format", OptionType::Text, None, "How values are encoded; its options then begin with `value.`."),
    option("key.format", OptionType::Text, None, "How keys are encoded; its options begin with `key.`."),
    option("key.fields", OptionType::Text, None, "The columns that make the key: `user_id;region`."),
    option(
        "key.fields-prefix",
        OptionType::Text,
        None,
        "What the columns of the key have in front of the names in the key itself.",
    ),
    option(
        "value.fields-include",
        OptionType::Enum(&["ALL", "EXCEPT_KEY"]),
        Some("ALL"),
        "Whether the columns of the key are in the value too.",
    ),
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
    option(
        "scan.bounded.mode",
        OptionType::Enum(&["unbounded", "latest-offset", "group-offsets", "timestamp", "specific-offsets"]),
        Some("unbounded"),
        "Where to stop reading.",
    ),
    option(
        "scan.bounded.specific-offsets",
        OptionType::Text,
        None,
        "Where to stop in each partition, that offset excluded: `partition:0,offset:42`.",
    ),
    option("scan.bounded.timestamp-millis", OptionType::Integer, None, "Stop before the first record of this time or later."),
    option(
        "scan.topic-partition-discovery.interval",
        OptionType::Duration,
        Some("5 min"),
        "How often to look for new partitions and topics; 0 is never.",
    ),
    option(
        "scan.watermark.idle-timeout",
        OptionType::Duration,
        None,
        "After this long without rows a partition does not hold the watermark back.",
    ),
    option("scan.parallelism", OptionType::Integer, None, "Accepted; lanes share the partitions evenly."),
    option("sink.parallelism", OptionType::Integer, None, "Accepted; every lane writes its own rows."),
    option(
        "sink.partitioner",
        OptionType::Enum(&["default", "fixed", "round-robin"]),
        Some("default"),
        "`default` by hash of the key (in turns without one), `fixed` one partition a lane, `round-robin` in turns.",
    ),
    option(
        "sink.delivery-guarantee",
        OptionType::Enum(&["exactly-once", "at-least-once", "none"]),
        Some("at-least-once"),
        "What a reader of committed records sees after a crash.",
    ),
    option(
        "sink.semantic",
        OptionType::Enum(&["exactly-once", "at-least-once", "none"]),
        None,
        "The old name of `sink.delivery-guarantee`.",
    ),
    option(
        "sink.transactional-id-prefix",
        OptionType::Text,
        None,
        "Begins the transactional id and the name of the progress topic; needed for exactly-once.",
    ),
    option(
        "sink.transaction-naming-strategy",
        OptionType::Enum(&["DEFAULT", "INCREMENTING", "POOLING"]),
        Some("DEFAULT"),
        "Accepted; a job has one transactional id.",
    ),
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

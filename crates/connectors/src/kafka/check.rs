//! What can be wrong with a `kafka` table beyond the names and forms of its options; parts of it also hold for `upsert-kafka`.

use arrow::datatypes::{FieldRef, Schema};
use thalweg_core::{Code, ColumnKind, Diagnostic, Options, TableDefinition};

use super::properties::check_properties;
use super::table::{connector_of, is_of_upserts, key_fields, parse_partition_offsets, split_list};
use crate::format::{self, FormatOptions};

/// Formats that have no way to write a deletion or an update.
pub(super) const INSERT_ONLY_FORMATS: &[&str] = &["json", "csv", "raw", "avro", "avro-confluent", "protobuf", "parquet"];

/// All findings, those about topics first.
pub fn check(table: &TableDefinition) -> Vec<Diagnostic> {
    let options = &table.options;
    let mut findings: Vec<Diagnostic> = check_topics(options).into_iter().collect();
    findings.extend(check_formats(table));
    findings.extend(check_records(table));
    findings.extend(check_modes(options));
    findings.extend(check_delivery(options));
    findings.extend(check_primary_key(table));
    findings.extend(check_properties(options));
    findings
}

fn missing(options: &Options, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Code::MISSING_OPTION, message).label_opt(options.span, "options given here")
}

pub(super) fn check_topics(options: &Options) -> Option<Diagnostic> {
    match (options.get("topic"), options.get("topic-pattern")) {
        (None, None) => {
            let message = format!("connector \"{}\" needs the option \"topic\"", connector_of(options));
            Some(missing(options, message).help("add 'topic' = '…'"))
        }
        (Some(_), Some(_)) => Some(
            Diagnostic::error(Code::BAD_OPTION, "options \"topic\" and \"topic-pattern\" exclude each other")
                .label_opt(options.key_span("topic-pattern"), "a second way to name topics")
                .help("remove one of them"),
        ),
        (Some(topics), None) if split_list(topics).is_empty() => {
            Some(options.bad_value("topic", "option \"topic\" names no topic").help("write a name, or several: 'orders;returns'"))
        }
        (None, Some(pattern)) => regex::Regex::new(pattern).err().map(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
            options.bad_value("topic-pattern", "option \"topic-pattern\" is not a regular expression").help(reason)
        }),
        (Some(_), None) => None,
    }
}

/// What the formats say of the columns that they would read and write.
pub(super) fn check_records(table: &TableDefinition) -> Vec<Diagnostic> {
    let options = &table.options;
    let all = table.physical_schema();
    let key_fields = key_fields(options, &table.primary_key);
    let without_key = options.get("value.fields-include") == Some("EXCEPT_KEY");
    let fields = |wanted: &dyn Fn(bool) -> bool| {
        let is_wanted = |field: &&FieldRef| wanted(key_fields.contains(&field.name().as_str()));
        Schema::new(all.fields().iter().filter(is_wanted).cloned().collect::<Vec<_>>())
    };
    let keys = fields(&|in_key| in_key);
    let values = fields(&|in_key| !(in_key && without_key));
    [("format", "", &values), ("value.format", "value.", &values), ("key.format", "key.", &keys)]
        .into_iter()
        .filter_map(|(option, prefix, schema)| Some((options.get(option)?, prefix, schema)))
        // Key fields that do not exist are told elsewhere.
        .filter(|(_, prefix, schema)| *prefix != "key." || schema.fields().len() == key_fields.len())
        .flat_map(|(name, prefix, schema)| format::check(name, schema, &FormatOptions::new(options, prefix)))
        .collect()
}

fn check_formats(table: &TableDefinition) -> Vec<Diagnostic> {
    let options = &table.options;
    let mut findings = vec![];
    match (options.get("format"), options.get("value.format")) {
        (None, None) => findings.push(
            missing(options, "connector \"kafka\" needs the option \"format\"").help("add 'format' = 'json' (or csv, raw)"),
        ),
        (Some(_), Some(_)) => findings.push(
            Diagnostic::error(Code::BAD_OPTION, "options \"format\" and \"value.format\" exclude each other")
                .label_opt(options.key_span("value.format"), "a second format for values")
                .help("remove one of them"),
        ),
        _ => {}
    }
    let key_fields = options.get("key.fields").map(split_list).unwrap_or_default();
    let physical: Vec<&str> =
        table.columns.iter().filter(|column| column.kind == ColumnKind::Physical).map(|column| column.name()).collect();
    for field in &key_fields {
        if !physical.contains(field) {
            findings.push(
                options
                    .bad_value(
                        "key.fields",
                        format!("key field \"{field}\" is not a physical column of table \"{}\"", table.name),
                    )
                    .help_nearest(field, physical.iter().copied(), None),
            );
        }
    }
    match (options.get("key.format").is_some(), key_fields.is_empty()) {
        (true, true) => findings
            .push(missing(options, "option \"key.format\" needs \"key.fields\"").help("add 'key.fields' = 'column;column'")),
        (false, false) => findings
            .push(missing(options, "option \"key.fields\" needs \"key.format\"").help("add 'key.format' = 'json' (or raw)")),
        _ => {}
    }
    findings.extend(check_key_prefix(table));
    findings
}

/// The key's columns have the prefix, and the value does not have them.
pub(super) fn check_key_prefix(table: &TableDefinition) -> Vec<Diagnostic> {
    let options = &table.options;
    let key_fields = key_fields(options, &table.primary_key);
    let mut findings = vec![];
    if let Some(prefix) = options.get("key.fields-prefix").filter(|prefix| !prefix.is_empty()) {
        if options.get("value.fields-include") != Some("EXCEPT_KEY") {
            findings.push(
                options
                    .bad_value("key.fields-prefix", "option \"key.fields-prefix\" needs 'value.fields-include' = 'EXCEPT_KEY'")
                    .help("add 'value.fields-include' = 'EXCEPT_KEY': a value does not know the prefixed names"),
            );
        }
        for field in key_fields.iter().filter(|field| !field.starts_with(prefix)) {
            let (option, all) = match is_of_upserts(options) {
                true => ("key.fields-prefix", "of the PRIMARY KEY"),
                false => ("key.fields", "in \"key.fields\""),
            };
            findings.push(
                options
                    .bad_value(option, format!("key field \"{field}\" does not begin with the prefix \"{prefix}\""))
                    .help(format!("all columns {all} must begin with \"key.fields-prefix\"")),
            );
        }
    }
    findings
}

pub(super) fn check_modes(options: &Options) -> Vec<Diagnostic> {
    let mut findings = vec![];
    for side in ["startup", "bounded"] {
        let mode = format!("scan.{side}.mode");
        let offsets = format!("scan.{side}.specific-offsets");
        let timestamp = format!("scan.{side}.timestamp-millis");
        let companion = match options.get(&mode) {
            Some("timestamp") => Some(&timestamp),
            Some("specific-offsets") => Some(&offsets),
            _ => None,
        };
        if let Some(needed) = companion.filter(|needed| options.get(needed).is_none()) {
            let value = options.get(&mode).unwrap_or_default();
            findings.push(
                options
                    .bad_value(&mode, format!("'{mode}' = '{value}' needs the option \"{needed}\""))
                    .help(format!("add '{needed}' = '…'")),
            );
        }
        if let Some(text) = options.get(&offsets)
            && let Err(expected) = parse_partition_offsets(text)
        {
            findings.push(options.bad_value(&offsets, format!("option \"{offsets}\" cannot be \"{text}\"")).help(expected));
        }
        let several =
            options.get("topic").is_some_and(|topics| split_list(topics).len() > 1) || options.get("topic-pattern").is_some();
        if companion == Some(&offsets) && several {
            findings.push(
                options
                    .bad_value(&mode, format!("'{mode}' = 'specific-offsets' works with a single topic only"))
                    .help("read each topic in a table of its own and join them with UNION ALL"),
            );
        }
        if options.get(&mode) == Some("group-offsets") && options.get("properties.group.id").is_none() {
            findings.push(
                options
                    .bad_value(&mode, format!("'{mode}' = 'group-offsets' needs the option \"properties.group.id\""))
                    .help("add 'properties.group.id' = '…', or choose 'earliest-offset'"),
            );
        }
    }
    findings
}

pub(super) fn check_delivery(options: &Options) -> Option<Diagnostic> {
    let name = if options.get("sink.delivery-guarantee").is_some() { "sink.delivery-guarantee" } else { "sink.semantic" };
    if options.get(name) == Some("exactly-once") && options.get("sink.transactional-id-prefix").is_none() {
        return Some(
            options
                .bad_value(name, "exactly-once delivery needs the option \"sink.transactional-id-prefix\"")
                .help("add 'sink.transactional-id-prefix' = '…', a name that no other application uses"),
        );
    }
    None
}

fn check_primary_key(table: &TableDefinition) -> Option<Diagnostic> {
    let format = table.options.get("value.format").or_else(|| table.options.get("format"))?;
    if table.primary_key.is_empty() || !INSERT_ONLY_FORMATS.contains(&format) {
        return None;
    }
    Some(
        Diagnostic::error(
            Code::BAD_TABLE,
            format!(
                "table \"{}\" has a primary key, but format \"{format}\" in connector \"kafka\" knows no updates",
                table.name
            ),
        )
        .label_opt(table.span, "declared here")
        .help("remove the PRIMARY KEY, or use 'connector' = 'upsert-kafka'"),
    )
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn table(pairs: &[(&str, &str)]) -> TableDefinition {
        let mut options = Options::new();
        options.insert("connector", "kafka");
        options.insert("properties.bootstrap.servers", "localhost:9092");
        for (name, value) in pairs {
            options.insert(*name, *value);
        }
        let column = |name: &str| TableDefinition::physical_column(Field::new(name, DataType::Utf8, true), "STRING");
        TableDefinition {
            name: "orders".to_string(),
            columns: vec![column("user_id"), column("amount")],
            watermark: None,
            primary_key: vec![],
            partitioned_by: vec![],
            comment: None,
            options,
            temporary: false,
            span: None,
        }
    }

    fn finds(pairs: &[(&str, &str)], expected: &[&str]) {
        let found: Vec<String> = super::check(&table(pairs)).iter().map(Diagnostic::one_line).collect();
        assert_eq!(found, expected);
    }

    const GOOD: &[(&str, &str)] = &[("topic", "orders"), ("format", "json")];

    fn good_and<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        GOOD.iter().chain(more).copied().collect()
    }

    #[test]
    fn good_tables() {
        finds(GOOD, &[]);
        finds(&good_and(&[("key.format", "json"), ("key.fields", "user_id")]), &[]);
        finds(
            &good_and(&[
                ("scan.startup.mode", "specific-offsets"),
                ("scan.startup.specific-offsets", "partition:0,offset:42;partition:1,offset:300"),
            ]),
            &[],
        );
    }

    #[test]
    fn topic_and_format_are_needed_once() {
        finds(
            &[],
            &[
                "error[TW0304]: connector \"kafka\" needs the option \"topic\" (add 'topic' = '…')",
                "error[TW0304]: connector \"kafka\" needs the option \"format\" (add 'format' = 'json' (or csv, raw))",
            ],
        );
        finds(
            &good_and(&[("topic-pattern", "a.*"), ("value.format", "json")]),
            &[
                "error[TW0303]: options \"topic\" and \"topic-pattern\" exclude each other (remove one of them)",
                "error[TW0303]: options \"format\" and \"value.format\" exclude each other (remove one of them)",
            ],
        );
        finds(
            &[("topic-pattern", "a("), ("format", "json")],
            &["error[TW0303]: option \"topic-pattern\" is not a regular expression (unclosed group)"],
        );
    }

    #[test]
    fn companions() {
        finds(
            &good_and(&[("key.format", "raw"), ("key.fields", "usr_id")]),
            &["error[TW0303]: key field \"usr_id\" is not a physical column of table \"orders\" (did you mean \"user_id\"?)"],
        );
        finds(
            &good_and(&[("scan.startup.mode", "timestamp")]),
            &["error[TW0303]: 'scan.startup.mode' = 'timestamp' needs the option \"scan.startup.timestamp-millis\" \
               (add 'scan.startup.timestamp-millis' = '…')"],
        );
        finds(
            &good_and(&[("sink.delivery-guarantee", "exactly-once")]),
            &["error[TW0303]: exactly-once delivery needs the option \"sink.transactional-id-prefix\" \
               (add 'sink.transactional-id-prefix' = '…', a name that no other application uses)"],
        );
        finds(
            &good_and(&[("scan.bounded.mode", "group-offsets")]),
            &["error[TW0303]: 'scan.bounded.mode' = 'group-offsets' needs the option \"properties.group.id\" \
               (add 'properties.group.id' = '…', or choose 'earliest-offset')"],
        );
    }

    #[test]
    fn a_primary_key_asks_for_upsert_kafka() {
        let mut table = table(GOOD);
        table.primary_key = vec!["user_id".to_string()];
        let found = super::check(&table);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].help.as_deref(), Some("remove the PRIMARY KEY, or use 'connector' = 'upsert-kafka'"));
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn security_needs_the_feature() {
        let found = super::check(&table(&good_and(&[("properties.security.protocol", "SASL_SSL")])));
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("without TLS"), "{}", found[0].message);
    }
}

//! The `upsert-kafka` connector: a topic as a table with a primary key.
//!
//! The key of a record is the PRIMARY KEY; a value is the newest row of its key, a record without a value says that the row is
//! gone. Everything on the way to and from the topic is shared with `kafka`:
//!
//! - as a source, [`super::rows`] gives deletions as rows of weight -1 in which only the key is filled;
//! - as a sink, [`super::records_out`] writes the last row of each key, and no value for one that was taken back, and
//!   [`super::buffered_writer`] keeps of an epoch only the last record of each key.
//!
//! Source: Flink's `UpsertKafkaDynamicTableFactory`.

use thalweg_core::{Code, ConnectorInfo, Diagnostic, TableDefinition};

use super::check::{INSERT_ONLY_FORMATS, check_delivery, check_key_prefix, check_modes, check_records, check_topics};
use super::options;
use super::properties::check_properties;

/// The connector's name.
pub const NAME: &str = "upsert-kafka";

/// The connector as the planner sees it.
pub const UPSERT_KAFKA: ConnectorInfo = ConnectorInfo {
    name: NAME,
    doc: "Topics of Apache Kafka that hold the newest row of each primary key.",
    is_source: true,
    is_sink: true,
    takes_updates: true,
    takes_upserts: true,
    gives_upserts: true,
    options: options::UPSERT_OPTIONS,
    metadata: options::METADATA,
    format_options: &["value.format", "key.format"],
    check,
};

fn check(table: &TableDefinition) -> Vec<Diagnostic> {
    let options = &table.options;
    let mut findings: Vec<Diagnostic> = check_topics(options).into_iter().collect();
    findings.extend(check_formats(table));
    if table.primary_key.is_empty() {
        findings.push(missing_primary_key(table));
    } else {
        findings.extend(check_key_prefix(table));
        findings.extend(check_records(table));
    }
    findings.extend(check_modes(options));
    findings.extend(check_buffer_flush(table));
    findings.extend(check_delivery(options));
    findings.extend(check_properties(options));
    findings
}

fn missing_primary_key(table: &TableDefinition) -> Diagnostic {
    Diagnostic::error(Code::BAD_TABLE, format!("table \"{}\" of connector \"{NAME}\" has no primary key", table.name))
        .label_opt(table.options.value_span("connector").or(table.span), "needs a primary key")
        .help("add PRIMARY KEY (column) NOT ENFORCED: its columns are the key of the records")
}

/// A deletion is a record without a value: a format with changes of its own would say it twice.
fn check_formats(table: &TableDefinition) -> Vec<Diagnostic> {
    let options = &table.options;
    let finding = |name: &str| {
        let format = options.get(name).filter(|format| !INSERT_ONLY_FORMATS.contains(format))?;
        let message = format!("connector \"{NAME}\" cannot use format \"{format}\", which has changes of its own");
        Some(options.bad_value(name, message).help("use json, csv or raw"))
    };
    ["key.format", "value.format"].into_iter().filter_map(finding).collect()
}

/// Both or none, as in Flink.
fn check_buffer_flush(table: &TableDefinition) -> Option<Diagnostic> {
    const ROWS: &str = "sink.buffer-flush.max-rows";
    const INTERVAL: &str = "sink.buffer-flush.interval";
    let options = &table.options;
    // Values of another form are found by the check against the definitions.
    let has_rows = options.integer(ROWS).ok().flatten().is_some_and(|rows| rows > 0);
    let has_interval = options.duration(INTERVAL).ok().flatten().is_some_and(|interval| !interval.is_zero());
    let (given, missing) = match (has_rows, has_interval) {
        (true, false) => (ROWS, INTERVAL),
        (false, true) => (INTERVAL, ROWS),
        _ => return None,
    };
    let message = format!("option \"{given}\" works only together with \"{missing}\"");
    Some(options.bad_value(given, message).help(format!("set both above zero, or leave both out; '{missing}' is zero now")))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use thalweg_core::Options;

    use super::*;

    /// The findings about a table `totals (region STRING, customer STRING, total STRING)`.
    fn finds(primary_key: &[&str], more: &[(&str, &str)], expected: &[&str]) {
        let mut options = Options::new();
        let always = [
            ("connector", "upsert-kafka"),
            ("properties.bootstrap.servers", "localhost:9092"),
            ("topic", "totals"),
            ("key.format", "json"),
            ("value.format", "json"),
        ];
        for (name, value) in always.iter().chain(more) {
            options.insert(*name, *value);
        }
        let column = |name: &&str| TableDefinition::physical_column(Field::new(*name, DataType::Utf8, true), "STRING");
        let table = TableDefinition {
            name: "totals".to_string(),
            columns: ["region", "customer", "total"].iter().map(column).collect(),
            watermark: None,
            primary_key: primary_key.iter().map(|name| name.to_string()).collect(),
            partitioned_by: vec![],
            comment: None,
            options,
            temporary: false,
            span: None,
        };
        let mut found = table.options.check("connector \"upsert-kafka\"", options::UPSERT_OPTIONS);
        found.extend(check(&table));
        assert_eq!(found.iter().map(Diagnostic::one_line).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn good_tables() {
        finds(&["region", "customer"], &[], &[]);
        finds(&["region"], &[("key.format", "raw"), ("sink.parallelism", "2"), ("scan.bounded.mode", "latest-offset")], &[]);
        finds(&["region"], &[("sink.buffer-flush.max-rows", "100"), ("sink.buffer-flush.interval", "1 s")], &[]);
        // With the key out of it the value is a single column.
        let raw = [("value.format", "raw"), ("value.fields-include", "EXCEPT_KEY")];
        finds(&["region", "customer"], &raw, &[]);
    }

    #[test]
    fn findings_name_the_fault_and_a_way_out() {
        finds(
            &[],
            &[],
            &["error[TW0111]: table \"totals\" of connector \"upsert-kafka\" has no primary key \
               (add PRIMARY KEY (column) NOT ENFORCED: its columns are the key of the records)"],
        );
        finds(
            &["region", "customer"],
            &[("key.format", "raw")],
            &["error[TW0111]: format \"raw\" needs exactly one physical column, and there are 2 \
               (use format 'json' or 'csv' for several columns)"],
        );
        finds(
            &["region"],
            &[("scan.startup.mode", "latest-offset")],
            &["error[TW0302]: unknown option \"scan.startup.mode\" for connector \"upsert-kafka\""],
        );
        finds(
            &["region"],
            &[("sink.bufer-flush.max-row", "1")],
            &["error[TW0302]: unknown option \"sink.bufer-flush.max-row\" for connector \"upsert-kafka\" \
               (did you mean \"sink.buffer-flush.max-rows\"?)"],
        );
        finds(
            &["region"],
            &[("sink.buffer-flush.max-rows", "100")],
            &["error[TW0303]: option \"sink.buffer-flush.max-rows\" works only together with \"sink.buffer-flush.interval\" \
               (set both above zero, or leave both out; 'sink.buffer-flush.interval' is zero now)"],
        );
        finds(
            &["region"],
            &[("key.fields-prefix", "k_"), ("value.fields-include", "EXCEPT_KEY")],
            &["error[TW0303]: key field \"region\" does not begin with the prefix \"k_\" \
               (all columns of the PRIMARY KEY must begin with \"key.fields-prefix\")"],
        );
        finds(
            &["region"],
            &[("value.format", "debezium-json")],
            &[
                "error[TW0303]: connector \"upsert-kafka\" cannot use format \"debezium-json\", which has changes of its own \
                 (use json, csv or raw)",
                "error[TW0305]: unknown format \"debezium-json\" (there are json, csv, raw, parquet)",
            ],
        );
        finds(
            &["region"],
            &[("sink.delivery-guarantee", "exactly-once")],
            &["error[TW0303]: exactly-once delivery needs the option \"sink.transactional-id-prefix\" \
               (add 'sink.transactional-id-prefix' = '…', a name that no other application uses)"],
        );
    }
}

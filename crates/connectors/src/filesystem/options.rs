//! What a user can say about a folder, and what we say to combinations that cannot work.

use std::time::Duration;

use regex::Regex;
use thalweg_core::{
    Code, ConnectorInfo, Diagnostic, MetadataKey, OptionDefinition, OptionType, Options, Result, TableDefinition,
};

use super::partition::DEFAULT_NAME;
use crate::format::{self, FormatOptions};
use crate::store::StoreUrl;

/// The connector as data.
pub const INFO: ConnectorInfo = ConnectorInfo {
    name: "filesystem",
    doc: "Folders of json, csv, raw or parquet files, local or on S3; bounded unless monitored. Files appear whole, exactly once.",
    is_source: true,
    is_sink: true,
    takes_updates: false,
    takes_upserts: false,
    gives_upserts: false,
    options: OPTIONS,
    metadata: METADATA,
    format_options: &["format"],
    check,
};

const METADATA: &[MetadataKey] = &[
    MetadataKey {
        key: "file.path",
        sql_type: "STRING NOT NULL",
        writable: false,
        doc: "Full path of the file, without scheme and bucket.",
    },
    MetadataKey { key: "file.name", sql_type: "STRING NOT NULL", writable: false, doc: "Name of the file without its folders." },
    MetadataKey { key: "file.size", sql_type: "BIGINT NOT NULL", writable: false, doc: "Bytes of the file when it was listed." },
    MetadataKey {
        key: "file.modification-time",
        sql_type: "TIMESTAMP_LTZ(3) NOT NULL",
        writable: false,
        doc: "When the file was last changed before it was listed.",
    },
];

const fn option(name: &'static str, kind: OptionType, default: Option<&'static str>, doc: &'static str) -> OptionDefinition {
    OptionDefinition { name, kind, required: false, default, doc }
}

const OPTIONS: &[OptionDefinition] = &[
    OptionDefinition {
        name: "path",
        kind: OptionType::Text,
        required: true,
        default: None,
        doc: "Folder or single file: a plain path, file:///path or s3://bucket/path.",
    },
    OptionDefinition {
        name: "format",
        kind: OptionType::Text,
        required: true,
        default: None,
        doc: "Format of the files: json, csv and raw have a record a line; parquet.",
    },
    option(
        "partition.default-name",
        OptionType::Text,
        Some(DEFAULT_NAME),
        "Folder name for a partition column that is NULL or empty.",
    ),
    option(
        "source.monitor-interval",
        OptionType::Duration,
        None,
        "How often to look for new files; unset means that the source ends with the files that are there.",
    ),
    option(
        "source.path.regex-pattern",
        OptionType::Text,
        None,
        "Only files whose full path matches this regular expression as a whole are read.",
    ),
    option(
        "sink.rolling-policy.file-size",
        OptionType::Bytes,
        Some("128 mb"),
        "A file is written once its rows take this many bytes in the output log.",
    ),
    option(
        "sink.rolling-policy.rollover-interval",
        OptionType::Duration,
        Some("30 min"),
        "A file is written once its first row is this old.",
    ),
    option(
        "sink.rolling-policy.inactivity-interval",
        OptionType::Duration,
        Some("30 min"),
        "A file is written once no row came to its folder for this long.",
    ),
    option(
        "sink.rolling-policy.check-interval",
        OptionType::Duration,
        Some("1 min"),
        "Accepted for Flink's sake: ages are looked at with every checkpoint.",
    ),
    option(
        "sink.shuffle-by-partition.enable",
        OptionType::Boolean,
        Some("false"),
        "Accepted for Flink's sake: rows of one folder share files whatever lane they come from.",
    ),
    option(
        "sink.parallelism",
        OptionType::Integer,
        None,
        "Accepted for Flink's sake: every lane writes, and the number of files does not depend on it.",
    ),
    option(
        "sink.partition-commit.policy.kind",
        OptionType::Text,
        None,
        "success-file puts an empty file into each partition folder that got rows.",
    ),
    option(
        "sink.partition-commit.success-file.name",
        OptionType::Text,
        Some("_SUCCESS"),
        "Name of the file that success-file writes.",
    ),
    option(
        "sink.partition-commit.trigger",
        OptionType::Enum(&["process-time", "partition-time"]),
        Some("process-time"),
        "When a partition counts as complete; partition-time is not supported yet.",
    ),
    option(
        "sink.partition-commit.delay",
        OptionType::Duration,
        Some("0 s"),
        "How long to wait before a partition counts as complete; only 0 is supported yet.",
    ),
    option(
        "sink.partition-commit.watermark-time-zone",
        OptionType::Text,
        Some("UTC"),
        "Time zone of partition times; used with partition-time only.",
    ),
    option(
        "partition.time-extractor.kind",
        OptionType::Enum(&["default", "custom"]),
        Some("default"),
        "How the time of a partition is found; used with partition-time only.",
    ),
    option(
        "partition.time-extractor.timestamp-pattern",
        OptionType::Text,
        None,
        "Time of a partition from its columns, such as $day $hour:00:00; used with partition-time only.",
    ),
    option(
        "partition.time-extractor.timestamp-formatter",
        OptionType::Text,
        None,
        "Form of the text that the pattern gives; used with partition-time only.",
    ),
    option(
        "lookup.cache",
        OptionType::Enum(&["FULL", "PARTIAL", "NONE"]),
        Some("FULL"),
        "How look-ups of a lookup join go on: files are read whole into memory, with FULL and PARTIAL alike.",
    ),
    option(
        "lookup.full-cache.reload-strategy",
        OptionType::Enum(&["PERIODIC"]),
        Some("PERIODIC"),
        "When a lookup table is read again.",
    ),
    option(
        "lookup.full-cache.periodic-reload.interval",
        OptionType::Duration,
        None,
        "How long after it was read a lookup table is read again; unset is never.",
    ),
    option(
        "lookup.full-cache.periodic-reload.schedule-mode",
        OptionType::Enum(&["FIXED_DELAY", "FIXED_RATE"]),
        Some("FIXED_DELAY"),
        "Accepted for Flink's sake: a lookup table is read again with the first look-up that is due.",
    ),
    option(
        "lookup.partial-cache.expire-after-write",
        OptionType::Duration,
        None,
        "With PARTIAL: how long after it was read a lookup table is read again; unset is never.",
    ),
    option(
        "lookup.partial-cache.expire-after-access",
        OptionType::Duration,
        None,
        "Accepted for Flink's sake: all rows are held.",
    ),
    option("lookup.partial-cache.max-rows", OptionType::Integer, None, "Accepted for Flink's sake: all rows are held."),
    option(
        "lookup.partial-cache.cache-missing-key",
        OptionType::Boolean,
        Some("true"),
        "Accepted for Flink's sake: all rows are held.",
    ),
    option("lookup.max-retries", OptionType::Integer, Some("3"), "Accepted for Flink's sake: the store's own retries count."),
    option("auto-compaction", OptionType::Boolean, Some("false"), "Merging of small files; not supported yet."),
];

fn check(table: &TableDefinition) -> Vec<Diagnostic> {
    let options = &table.options;
    let mut findings = vec![];
    if let Some(path) = options.get("path")
        && let Err(error) = StoreUrl::parse(path)
    {
        let finding = options.bad_value("path", error.message);
        findings.push(match error.help {
            Some(help) => finding.help(help),
            None => finding,
        });
    }
    if let Some(format) = options.get("format") {
        findings.extend(format::check(format, &table.physical_schema(), &FormatOptions::new(options, "")));
    }
    findings.extend(pattern(options).err());
    findings.extend(success_file(options).err());
    findings.extend(reload_interval(options).err());
    // A value of another form is found by the check against the definitions above.
    if let Ok(true) = options.boolean("auto-compaction", false) {
        let finding = not_yet(options, "auto-compaction", "option \"auto-compaction\" is not supported yet");
        let help = "choose a larger 'sink.rolling-policy.file-size' and rollover interval for fewer files";
        findings.push(finding.help(help));
    }
    for name in &table.partitioned_by {
        let columns = || table.writable_columns().map(|column| column.name());
        if !columns().any(|column| column == name) {
            findings.push(
                Diagnostic::error(
                    Code::UNKNOWN_COLUMN,
                    format!("table \"{}\" has no column \"{name}\" to partition by", table.name),
                )
                .label_opt(table.span, "this table")
                .help_nearest(name, columns(), None),
            );
        }
    }
    let files_have_columns = table.physical_schema().fields().iter().any(|field| !table.partitioned_by.contains(field.name()));
    if !table.partitioned_by.is_empty() && !files_have_columns {
        findings.push(
            Diagnostic::error(Code::BAD_TABLE, format!("table \"{}\" is partitioned by all of its columns", table.name))
                .label_opt(table.span, "this table")
                .help("leave at least one column for the files themselves"),
        );
    }
    findings
}

fn not_yet(options: &Options, name: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Code::NOT_YET, message).label_opt(options.value_span(name), "this value")
}

/// `source.path.regex-pattern`, which must match the whole path as Java's `matches` does.
fn pattern(options: &Options) -> Result<Option<Regex>, Diagnostic> {
    const NAME: &str = "source.path.regex-pattern";
    let Some(text) = options.get(NAME) else { return Ok(None) };
    Regex::new(&format!("^(?:{text})$")).map(Some).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
        options
            .bad_value(NAME, format!("option \"{NAME}\" is no regular expression: {reason}"))
            .help("look-around and back references of Java's expressions are not supported")
    })
}

/// The name of the file that marks a folder, if the table wants one.
fn success_file(options: &Options) -> Result<Option<String>, Diagnostic> {
    const KIND: &str = "sink.partition-commit.policy.kind";
    // Flink commits partitions only when a policy is given; without one, trigger and delay mean nothing.
    let Some(kind) = options.get(KIND) else { return Ok(None) };
    if kind.trim() != "success-file" {
        return Err(
            not_yet(options, KIND, format!("partition commit policy \"{kind}\" is not supported yet")).help("use 'success-file'")
        );
    }
    const TRIGGER: &str = "sink.partition-commit.trigger";
    if options.get(TRIGGER).is_some_and(|trigger| trigger != "process-time") {
        return Err(not_yet(options, TRIGGER, "partition commit by partition time is not supported yet")
            .help("use 'process-time': the success file then appears with the first file of a folder"));
    }
    const DELAY: &str = "sink.partition-commit.delay";
    if options.duration(DELAY)?.is_some_and(|delay| !delay.is_zero()) {
        return Err(not_yet(options, DELAY, "a delay of partition commits is not supported yet").help("leave it at '0 s'"));
    }
    const NAME: &str = "sink.partition-commit.success-file.name";
    let name = options.get(NAME).unwrap_or("_SUCCESS");
    if name.is_empty() || name.contains('/') {
        return Err(options.bad_value(NAME, format!("option \"{NAME}\" cannot be \"{name}\"")).help("use a file name"));
    }
    Ok(Some(name.to_string()))
}

/// How long the rows of a lookup table are held; `None` is for ever.
pub(super) fn reload_interval(options: &Options) -> Result<Option<Duration>, Diagnostic> {
    const FULL: &str = "lookup.full-cache.periodic-reload.interval";
    const PARTIAL: &str = "lookup.partial-cache.expire-after-write";
    let cache = options.get("lookup.cache").unwrap_or("FULL");
    if cache == "NONE" {
        return Err(options
            .bad_value("lookup.cache", "files cannot be looked up without a cache: each row would read all of them")
            .help(format!("use 'FULL', and say with '{FULL}' how old the rows may be")));
    }
    let name = if cache == "PARTIAL" { PARTIAL } else { FULL };
    Ok(options.duration(name)?.filter(|interval| !interval.is_zero()))
}

/// How the files are put together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum FileFormat {
    /// A record a line, by the format of this name.
    Lines(String),
    Parquet,
}

impl FileFormat {
    /// The ending of file names.
    pub fn extension(&self) -> &str {
        match self {
            FileFormat::Lines(name) => name,
            FileFormat::Parquet => "parquet",
        }
    }
}

/// What both directions need.
fn path_and_format(options: &Options) -> Result<(String, FileFormat)> {
    let required = |name: &str| {
        options.get(name).map(str::to_string).ok_or_else(|| {
            Diagnostic::error(Code::MISSING_OPTION, format!("connector \"filesystem\" needs the option \"{name}\""))
        })
    };
    let format = match required("format")?.as_str() {
        "parquet" => FileFormat::Parquet,
        other => FileFormat::Lines(other.to_string()),
    };
    Ok((required("path")?, format))
}

fn default_name(options: &Options) -> String {
    options.get("partition.default-name").unwrap_or(DEFAULT_NAME).to_string()
}

/// The options of a table that is read.
pub(super) struct SourceOptions {
    pub path: String,
    pub format: FileFormat,
    pub monitor_interval: Option<Duration>,
    pub pattern: Option<Regex>,
    pub default_name: String,
}

impl SourceOptions {
    pub fn parse(options: &Options) -> Result<SourceOptions> {
        let (path, format) = path_and_format(options)?;
        Ok(SourceOptions {
            path,
            format,
            monitor_interval: options.duration("source.monitor-interval")?,
            pattern: pattern(options)?,
            default_name: default_name(options),
        })
    }
}

/// When rows that wait in the output log become a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RollingPolicy {
    pub file_bytes: u64,
    pub rollover_ms: i64,
    pub inactivity_ms: i64,
}

/// The options of a table that is written.
pub(super) struct SinkOptions {
    pub path: String,
    pub format: FileFormat,
    pub default_name: String,
    pub rolling: RollingPolicy,
    pub success_file: Option<String>,
}

impl SinkOptions {
    pub fn parse(options: &Options) -> Result<SinkOptions> {
        let (path, format) = path_and_format(options)?;
        let milliseconds = |name: &str| -> Result<i64> {
            let duration = options.duration(name)?.unwrap_or(Duration::from_secs(30 * 60));
            Ok(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
        };
        Ok(SinkOptions {
            path,
            format,
            default_name: default_name(options),
            rolling: RollingPolicy {
                file_bytes: options.bytes("sink.rolling-policy.file-size")?.unwrap_or(128 << 20),
                rollover_ms: milliseconds("sink.rolling-policy.rollover-interval")?,
                inactivity_ms: milliseconds("sink.rolling-policy.inactivity-interval")?,
            },
            success_file: success_file(options)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};

    /// One line a finding about a table with columns `day`, `amount` and the given partition columns and options.
    fn findings(partitioned_by: &[&str], given: &[(&str, &str)]) -> Vec<String> {
        let mut options = Options::new();
        for (name, value) in [("path", "/data"), ("format", "json")].iter().chain(given) {
            options.insert(*name, *value);
        }
        let table = TableDefinition {
            name: "sales".to_string(),
            columns: vec![
                TableDefinition::physical_column(Field::new("day", DataType::Date32, true), "DATE"),
                TableDefinition::physical_column(Field::new("amount", DataType::Int64, true), "BIGINT"),
            ],
            watermark: None,
            primary_key: vec![],
            partitioned_by: partitioned_by.iter().map(|name| name.to_string()).collect(),
            comment: None,
            options,
            temporary: false,
            span: None,
        };
        let mut all = table.options.check("connector \"filesystem\"", OPTIONS);
        all.extend(check(&table));
        all.iter().map(Diagnostic::one_line).collect()
    }

    #[test]
    fn good_tables_have_no_findings() {
        assert!(findings(&[], &[]).is_empty());
        assert!(findings(&["day"], &[("sink.partition-commit.policy.kind", "success-file")]).is_empty());
    }

    #[test]
    fn findings_name_the_fault_and_a_way_out() {
        let check = |partitioned_by: &[&str], given: &[(&str, &str)], expected: &str| {
            assert_eq!(findings(partitioned_by, given), [expected]);
        };
        check(&["dy"], &[], "error[TW0102]: table \"sales\" has no column \"dy\" to partition by (did you mean \"day\"?)");
        check(
            &["day", "amount"],
            &[],
            "error[TW0111]: table \"sales\" is partitioned by all of its columns (leave at least one column for the files themselves)",
        );
        check(
            &[],
            &[("source.monitor-intervall", "1 s")],
            "error[TW0302]: unknown option \"source.monitor-intervall\" for connector \"filesystem\" (did you mean \"source.monitor-interval\"?)",
        );
        check(
            &[],
            &[("auto-compaction", "true")],
            "error[TW0002]: option \"auto-compaction\" is not supported yet (choose a larger 'sink.rolling-policy.file-size' and rollover interval for fewer files)",
        );
        check(
            &[],
            &[("sink.partition-commit.policy.kind", "metastore,success-file")],
            "error[TW0002]: partition commit policy \"metastore,success-file\" is not supported yet (use 'success-file')",
        );
        check(
            &[],
            &[("lookup.cache", "NONE")],
            "error[TW0303]: files cannot be looked up without a cache: each row would read all of them (use 'FULL', and say with 'lookup.full-cache.periodic-reload.interval' how old the rows may be)",
        );
        check(
            &[],
            &[("path", "hdfs://name/x")],
            "error[TW0303]: URL \"hdfs://name/x\" has the scheme \"hdfs\", which is not supported (use a plain path, file:///path or s3://bucket/path)",
        );
        check(
            &[],
            &[("source.path.regex-pattern", "a(")],
            "error[TW0303]: option \"source.path.regex-pattern\" is no regular expression: unclosed group (look-around and back references of Java's expressions are not supported)",
        );
    }
}

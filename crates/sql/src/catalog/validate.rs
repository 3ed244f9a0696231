//! A table against what is linked into this binary: connector, formats, options, metadata.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use datafusion::arrow::compute::can_cast_types;
use thalweg_core::{
    Code, ColumnKind, ConnectorInfo, Diagnostic, FormatInfo, OptionDefinition, OptionType, Registry, TableDefinition,
};

use crate::types;

/// Options that every table with a watermark may have.
const WATERMARK_OPTIONS: &[OptionDefinition] = &[
    OptionDefinition {
        name: "scan.watermark.idle-timeout",
        kind: OptionType::Duration,
        required: false,
        default: None,
        doc: "After this long without rows a partition no longer holds the watermark back.",
    },
    OptionDefinition {
        name: "scan.watermark.emit.strategy",
        kind: OptionType::Enum(&["on-periodic", "on-event"]),
        required: false,
        default: Some("on-event"),
        doc: "Accepted for Flink's sake: watermarks are made after every row.",
    },
    OptionDefinition {
        name: "scan.watermark.emit.on-event.gap",
        kind: OptionType::Integer,
        required: false,
        default: Some("1"),
        doc: "Accepted for Flink's sake: watermarks are made after every row.",
    },
];

const CONNECTOR_OPTION: OptionDefinition = OptionDefinition {
    name: "connector",
    kind: OptionType::Text,
    required: true,
    default: None,
    doc: "What the table is kept in.",
};

/// What is wrong with a table, in two parts.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// The table cannot be declared.
    pub wrong: Vec<Diagnostic>,
    /// The table cannot be used.
    pub missing: Vec<Diagnostic>,
}

pub(crate) fn validate(definition: &TableDefinition, registry: Registry) -> Findings {
    let mut findings = Findings::default();
    let options = &definition.options;
    let Some(name) = definition.connector() else {
        let known: Vec<&str> = registry.connectors.iter().map(|connector| connector.name).collect();
        findings.missing.push(
            Diagnostic::error(Code::MISSING_OPTION, format!("table \"{}\" names no connector", definition.name))
                .label_opt(options.span.or(definition.span), "no connector")
                .help(format!("add WITH ('connector' = '…'); there are {}", known.join(", "))),
        );
        return findings;
    };
    let Some(connector) = registry.connector(name) else {
        let known: Vec<&str> = registry.connectors.iter().map(|connector| connector.name).collect();
        findings.wrong.push(
            Diagnostic::error(Code::UNKNOWN_CONNECTOR, format!("there is no connector \"{name}\""))
                .label_opt(options.value_span("connector"), "unknown connector")
                .help_nearest(name, known.iter().copied(), Some(format!("use one of {}", known.join(", ")))),
        );
        return findings;
    };
    for (option, _) in options.with_prefix("scan.watermark.alignment.") {
        let option = format!("scan.watermark.alignment.{option}");
        findings.wrong.push(
            Diagnostic::error(Code::NOT_YET, format!("option \"{option}\" does not run yet"))
                .label_opt(options.key_span(&option), "not yet"),
        );
    }
    check_options(definition, connector, registry, &mut findings);
    check_metadata(definition, connector, &mut findings);
    // A connector may rely on its options being there and well formed.
    if findings.wrong.is_empty() && findings.missing.is_empty() {
        findings.wrong = (connector.check)(definition);
    }
    findings
}

fn check_options(definition: &TableDefinition, connector: &ConnectorInfo, registry: Registry, findings: &mut Findings) {
    let mut allowed: Vec<OptionDefinition> = connector.options.to_vec();
    let mut allow = |option: OptionDefinition| {
        if !allowed.iter().any(|known| known.name == option.name) {
            allowed.push(option);
        }
    };
    allow(CONNECTOR_OPTION);
    WATERMARK_OPTIONS.iter().for_each(|option| allow(*option));
    for format_option in connector.format_options {
        allow(OptionDefinition { name: format_option, kind: OptionType::Text, required: false, default: None, doc: "A format." });
        let Some(name) = definition.options.get(format_option) else {
            continue;
        };
        match registry.format(name) {
            Some(format) => format_definitions(format_option, format).into_iter().for_each(&mut allow),
            None => findings.wrong.push(unknown_format(definition, format_option, name, registry)),
        }
    }
    let owner = format!("connector \"{}\"", connector.name);
    for finding in definition.options.check(&owner, &allowed) {
        let is_alignment = finding.message.contains("\"scan.watermark.alignment.");
        // With an unknown format its options are unknown too; one finding is enough.
        let is_of_unknown_format = finding.code == Code::UNKNOWN_OPTION && !findings.wrong.is_empty();
        if finding.code == Code::MISSING_OPTION {
            findings.missing.push(finding);
        } else if !is_alignment && !is_of_unknown_format {
            findings.wrong.push(finding);
        }
    }
}

fn unknown_format(definition: &TableDefinition, option: &str, name: &str, registry: Registry) -> Diagnostic {
    let known: Vec<&str> = registry.formats.iter().map(|format| format.name).collect();
    Diagnostic::error(Code::UNKNOWN_FORMAT, format!("there is no format \"{name}\""))
        .label_opt(definition.options.value_span(option), "unknown format")
        .help_nearest(name, known.iter().copied(), Some(format!("use one of {}", known.join(", "))))
}

/// The options of a format under the names that a table writes: `json.x` for `format`, `value.json.x` for `value.format`.
fn format_definitions(format_option: &str, format: &FormatInfo) -> Vec<OptionDefinition> {
    let prefix = format_option.strip_suffix("format").unwrap_or("");
    format
        .options
        .iter()
        .map(|option| OptionDefinition { name: interned(format!("{prefix}{}.{}", format.name, option.name)), ..*option })
        .collect()
}

/// Option names are `&'static`, those of formats are composed here. There are as many as the binary has formats and options,
/// so keeping them for ever costs nothing.
fn interned(name: String) -> &'static str {
    static NAMES: Mutex<BTreeMap<String, &'static str>> = Mutex::new(BTreeMap::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.get(&name) {
        Some(known) => known,
        None => {
            let kept: &'static str = Box::leak(name.clone().into_boxed_str());
            names.insert(name, kept);
            kept
        }
    }
}

fn check_metadata(definition: &TableDefinition, connector: &ConnectorInfo, findings: &mut Findings) {
    for column in &definition.columns {
        let ColumnKind::Metadata { key, .. } = &column.kind else {
            continue;
        };
        let Some(known) = connector.metadata.iter().find(|known| known.key == key) else {
            let keys: Vec<&str> = connector.metadata.iter().map(|known| known.key).collect();
            let otherwise = if keys.is_empty() {
                format!("connector \"{}\" has no metadata", connector.name)
            } else {
                format!("it has {}", keys.join(", "))
            };
            findings.wrong.push(
                Diagnostic::error(Code::UNKNOWN_METADATA, format!("connector \"{}\" has no metadata \"{key}\"", connector.name))
                    .label_opt(column.span, "metadata column")
                    .help_nearest(key, keys.iter().copied(), Some(otherwise)),
            );
            continue;
        };
        let fits = types::from_text(known.sql_type)
            .map(|natural| can_cast_types(&natural.data_type, column.field.data_type()))
            .unwrap_or(true);
        if !fits {
            findings.wrong.push(
                Diagnostic::error(
                    Code::TYPE_MISMATCH,
                    format!("metadata \"{key}\" is {} and cannot be read as {}", known.sql_type, column.sql_type),
                )
                .label_opt(column.span, "metadata column")
                .help(format!("declare it as {}", known.sql_type)),
            );
        }
    }
}

/// The first metadata column that an INSERT would have to fill although the connector cannot write it.
pub(crate) fn read_only_metadata<'a>(definition: &'a TableDefinition, connector: &ConnectorInfo) -> Option<&'a str> {
    definition.columns.iter().find_map(|column| match &column.kind {
        ColumnKind::Metadata { key, is_virtual: false } => {
            let writable = connector.metadata.iter().any(|known| known.key == key && known.writable);
            (!writable).then(|| column.name())
        }
        _ => None,
    })
}

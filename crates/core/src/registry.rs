//! What connectors and formats exist, as data: how `sql` checks tables without linking a client library.

use crate::{Diagnostic, OptionDefinition, TableDefinition};

/// A metadata column that a connector can give or take.
#[derive(Clone, Copy, Debug)]
pub struct MetadataKey {
    pub key: &'static str,
    /// The type as Flink writes it, such as `TIMESTAMP_LTZ(3) NOT NULL`.
    pub sql_type: &'static str,
    pub writable: bool,
    pub doc: &'static str,
}

/// One connector.
#[derive(Clone, Copy)]
pub struct ConnectorInfo {
    pub name: &'static str,
    pub doc: &'static str,
    pub is_source: bool,
    pub is_sink: bool,
    /// Whether it can take back rows that it was given before.
    pub takes_updates: bool,
    /// Whether a sink keeps the last row of each PRIMARY KEY instead of all changes. The key is then required; all changes of a
    /// key come to one lane, in order, and what the query gives has at most one row for each key.
    pub takes_upserts: bool,
    /// Whether a source gives upserts by PRIMARY KEY instead of rows: weight +1 is the newest row of its key, -1 says that the key's
    /// row goes. All changes of a key are in one partition, in order. Of a row with -1 only the columns of the key and metadata
    /// are filled: whatever comes in front of the node that makes rows of upserts has all other columns nullable.
    pub gives_upserts: bool,
    /// Its own options; those of its formats come on top, under the format's prefix.
    pub options: &'static [OptionDefinition],
    pub metadata: &'static [MetadataKey],
    /// The option names that may name a format (`format`, `value.format`, `key.format`); empty when it has none.
    pub format_options: &'static [&'static str],
    /// Findings beyond names and forms of options: combinations, columns that the connector or format cannot have.
    pub check: fn(&TableDefinition) -> Vec<Diagnostic>,
}

/// One format. Its options are written `<name>.<option>`, or `value.<name>.<option>` where keys and values differ.
#[derive(Clone, Copy)]
pub struct FormatInfo {
    pub name: &'static str,
    pub doc: &'static str,
    pub options: &'static [OptionDefinition],
}

/// Everything that is linked into this binary.
#[derive(Clone, Copy)]
pub struct Registry {
    pub connectors: &'static [ConnectorInfo],
    pub formats: &'static [FormatInfo],
}

impl Registry {
    pub fn connector(&self, name: &str) -> Option<&'static ConnectorInfo> {
        self.connectors.iter().find(|connector| connector.name == name)
    }

    pub fn format(&self, name: &str) -> Option<&'static FormatInfo> {
        self.formats.iter().find(|format| format.name == name)
    }
}

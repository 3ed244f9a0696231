//! Table options: one definition renders validation, help and documentation.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{Code, Diagnostic, Span};

/// Text that must never be shown. `Debug`, `Display` and serialisation print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the client library that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// How the value of an option is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionType {
    Text,
    /// Never shown again, in any form.
    Secret,
    Boolean,
    Integer,
    /// `10 s`, `5 min`, `200ms`, `1 h`, `2 d`; a bare number is milliseconds, as in Flink.
    Duration,
    /// `128 mb`, `64kb`, `1 gb`; a bare number is bytes.
    Bytes,
    /// One of the given words.
    Enum(&'static [&'static str]),
}

/// One option of a connector or format: the single source for checks, `SHOW`, help and the reference page.
///
/// A `name` that ends in `*` stands for every name with that prefix (`properties.*`); such names get their finer check from
/// the connector.
#[derive(Clone, Copy, Debug)]
pub struct OptionDefinition {
    pub name: &'static str,
    pub kind: OptionType,
    pub required: bool,
    /// As printed in the reference; `None` when the option is unset by default.
    pub default: Option<&'static str>,
    pub doc: &'static str,
}

/// One declared option.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    value: String,
    secret: bool,
    key_span: Option<Span>,
    value_span: Option<Span>,
}

/// The `WITH` clause of a table. `Debug` and [`Options::shown`] hide values that are or may be secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Options {
    entries: BTreeMap<String, Entry>,
    /// Where the clause stands, for findings about what is missing from it.
    pub span: Option<Span>,
}

/// Words in an option name that mark its value as secret whatever the definition says.
const SECRET_WORDS: &[&str] =
    &["password", "secret", "token", "sasl.jaas", "credential", "access.key", "access-key", "private", "user-info"];

impl Options {
    pub fn new() -> Self {
        Options::default()
    }

    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.insert_at(name, value, None, None);
    }

    pub fn insert_at(
        &mut self,
        name: impl Into<String>,
        value: impl Into<String>,
        key_span: Option<Span>,
        value_span: Option<Span>,
    ) {
        let name = name.into();
        let lower = name.to_lowercase();
        let secret = SECRET_WORDS.iter().any(|word| lower.contains(word));
        self.entries.insert(name, Entry { value: value.into(), secret, key_span, value_span });
    }

    /// Marks a value as secret: it came from `${ENV:…}` or `${FILE:…}`.
    pub fn mark_secret(&mut self, name: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.secret = true;
        }
    }

    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.entries.remove(name).map(|entry| entry.value)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(|entry| entry.value.as_str())
    }

    pub fn is_secret(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.secret)
    }

    pub fn key_span(&self, name: &str) -> Option<Span> {
        self.entries.get(name).and_then(|entry| entry.key_span)
    }

    pub fn value_span(&self, name: &str) -> Option<Span> {
        self.entries.get(name).and_then(|entry| entry.value_span)
    }

    /// Names and values in order of name, secrets included: for connectors only.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry.value.as_str()))
    }

    /// Names and values in order of name, fit to be shown: secrets are `***`.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), if entry.secret { "***" } else { entry.value.as_str() }))
    }

    /// The options whose names begin with `prefix`, without it.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.iter().filter_map(move |(name, value)| name.strip_prefix(prefix).map(|rest| (rest, value)))
    }

    /// Checks names, required ones and the form of every value against `definitions`. All findings, in order of name.
    /// `owner` names who has the options: `connector "kafka"`.
    pub fn check(&self, owner: &str, definitions: &[OptionDefinition]) -> Vec<Diagnostic> {
        let mut findings = vec![];
        for (name, entry) in &self.entries {
            let found = definitions.iter().find(|definition| match definition.name.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => definition.name == name,
            });
            match found {
                None => findings.push(
                    Diagnostic::error(Code::UNKNOWN_OPTION, format!("unknown option \"{name}\" for {owner}"))
                        .label_opt(entry.key_span, "unknown option")
                        .help_nearest(name, definitions.iter().map(|definition| definition.name), None),
                ),
                Some(definition) => {
                    if let Err(expected) = definition.kind.check(&entry.value) {
                        let shown = if entry.secret { "***" } else { &entry.value };
                        findings.push(self.bad_value(name, format!("option \"{name}\" cannot be \"{shown}\"")).help(expected));
                    }
                }
            }
        }
        for definition in definitions.iter().filter(|definition| definition.required) {
            if !self.entries.contains_key(definition.name) {
                let finding =
                    Diagnostic::error(Code::MISSING_OPTION, format!("{owner} needs the option \"{}\"", definition.name));
                // A misspelt name may have passed as one of `properties.*`.
                let unlisted = self.entries.keys().filter(|name| definitions.iter().all(|known| known.name != name.as_str()));
                findings.push(match crate::nearest(definition.name, unlisted.map(String::as_str)) {
                    Some(near) => {
                        finding.label_opt(self.key_span(near), "misspelt?").help(format!("did you mean \"{}\"?", definition.name))
                    }
                    None => finding
                        .label_opt(self.span, "options given here")
                        .help(format!("add '{}' = '…': {}", definition.name, definition.doc)),
                });
            }
        }
        findings
    }

    /// A finding about the value of `name`, with its place. A secret value does not show in it.
    pub fn bad_value(&self, name: &str, message: impl Into<String>) -> Diagnostic {
        let mut message = message.into();
        if let Some(entry) = self.entries.get(name).filter(|entry| entry.secret && !entry.value.is_empty()) {
            message = message.replace(&entry.value, "***");
        }
        Diagnostic::error(Code::BAD_OPTION, message).label_opt(self.value_span(name), "this value")
    }

    pub fn boolean(&self, name: &str, default: bool) -> Result<bool, Diagnostic> {
        self.parsed(name, default, |value| match value.to_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("use true or false".to_string()),
        })
    }

    pub fn integer(&self, name: &str) -> Result<Option<i64>, Diagnostic> {
        self.parsed(name, None, |value| value.trim().parse().map(Some).map_err(|_| "use a whole number".to_string()))
    }

    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Diagnostic> {
        self.parsed(name, None, |value| parse_duration(value).map(Some))
    }

    pub fn bytes(&self, name: &str) -> Result<Option<u64>, Diagnostic> {
        self.parsed(name, None, |value| parse_bytes(value).map(Some))
    }

    fn parsed<T>(&self, name: &str, default: T, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Diagnostic> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => parse(value).map_err(|expected| {
                let shown = if self.is_secret(name) { "***" } else { value };
                self.bad_value(name, format!("option \"{name}\" cannot be \"{shown}\"")).help(expected)
            }),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl OptionType {
    /// `Err` says what would be right.
    pub fn check(self, value: &str) -> Result<(), String> {
        match self {
            OptionType::Text | OptionType::Secret => Ok(()),
            OptionType::Boolean => match value.to_lowercase().as_str() {
                "true" | "false" => Ok(()),
                _ => Err("use true or false".to_string()),
            },
            OptionType::Integer => value.trim().parse::<i64>().map(|_| ()).map_err(|_| "use a whole number".to_string()),
            OptionType::Duration => parse_duration(value).map(|_| ()),
            OptionType::Bytes => parse_bytes(value).map(|_| ()),
            OptionType::Enum(words) => {
                if words.contains(&value) {
                    return Ok(());
                }
                Err(match crate::nearest(value, words.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"? It takes {}", words.join(", ")),
                    None => format!("use one of {}", words.join(", ")),
                })
            }
        }
    }
}

/// Flink's duration text: a number and a unit, `10 s`, `500ms`, `1 h`; a bare number is milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| duration_help())?;
    let nanos_per_unit: u64 = match unit.as_str() {
        "d" | "day" | "days" => 86_400_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        _ => return Err(duration_help()),
    };
    number
        .checked_mul(nanos_per_unit)
        .map(Duration::from_nanos)
        .ok_or_else(|| "the duration is longer than 584 years".to_string())
}

fn duration_help() -> String {
    "use a number with a unit, such as '10 s', '500 ms' or '5 min'".to_string()
}

/// Flink's memory size text: `128 mb`, `64kb`, `1 gb` (powers of 1024); a bare number is bytes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let help = || "use a number with a unit, such as '128 mb' or '64 kb'".to_string();
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| help())?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return Err(help()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "the size is larger than 16 million terabytes".to_string())
}

fn split_unit(text: &str) -> (String, String) {
    let text = text.trim().to_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].to_string(), text[end..].trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITIONS: &[OptionDefinition] = &[
        OptionDefinition { name: "path", kind: OptionType::Text, required: true, default: None, doc: "Where the files are." },
        OptionDefinition {
            name: "mode",
            kind: OptionType::Enum(&["fast", "safe"]),
            required: false,
            default: Some("safe"),
            doc: "",
        },
        OptionDefinition { name: "properties.*", kind: OptionType::Text, required: false, default: None, doc: "" },
    ];

    #[test]
    fn finds_unknown_missing_and_bad() {
        let mut options = Options::new();
        options.insert("pth", "x");
        options.insert("mode", "fats");
        options.insert("properties.anything", "1");
        let findings = options.check("connector \"x\"", DEFINITIONS);
        let text: Vec<String> = findings.iter().map(Diagnostic::one_line).collect();
        assert_eq!(
            text,
            [
                "error[TW0303]: option \"mode\" cannot be \"fats\" (did you mean \"fast\"? It takes fast, safe)",
                "error[TW0302]: unknown option \"pth\" for connector \"x\" (did you mean \"path\"?)",
                "error[TW0304]: connector \"x\" needs the option \"path\" (did you mean \"path\"?)",
            ]
        );
        let missing = Options::new().check("connector \"x\"", DEFINITIONS);
        assert_eq!(missing[0].help.as_deref(), Some("add 'path' = '…': Where the files are."));
    }

    #[test]
    fn secrets_stay_hidden() {
        let mut options = Options::new();
        options.insert("properties.sasl.password", "canary");
        options.insert("header", "canary");
        options.mark_secret("header");
        assert!(!format!("{options:?}").contains("canary"));
        assert!(options.shown().all(|(_, value)| value == "***"));
        assert_eq!(format!("{} {:?}", Secret::new("canary"), Secret::new("canary")), "*** ***");
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(parse_duration("10 s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("250"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("5min"), Ok(Duration::from_secs(300)));
        assert!(parse_duration("soon").is_err());
        assert!(parse_duration("99999999999 d").is_err());
        assert_eq!(parse_bytes("128 mb"), Ok(128 << 20));
        assert!(parse_bytes("-1").is_err());
    }
}

//! The options of one format of a table.

use thalweg_core::{Code, Diagnostic, FormatInfo, Options};

/// A table's options, seen by a format: names are given without the prefix (`key.`, `value.`) that the table writes them with.
#[derive(Clone, Debug, Default)]
pub struct FormatOptions {
    options: Options,
    prefix: String,
}

impl FormatOptions {
    /// `prefix` is empty for the option `format`, `value.` for `value.format`, `key.` for `key.format`.
    pub fn new(options: &Options, prefix: &str) -> Self {
        FormatOptions { options: options.clone(), prefix: prefix.to_string() }
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name as the table writes it.
    pub fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The value of an option such as `json.ignore-parse-errors`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.options.get(&self.full_name(name))
    }

    pub fn boolean(&self, name: &str, default: bool) -> Result<bool, Diagnostic> {
        self.options.boolean(&self.full_name(name), default)
    }

    /// One of `words`, or `None` when the option is not set.
    pub fn word(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Diagnostic> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match words.iter().find(|word| **word == value) {
            Some(word) => Ok(Some(word)),
            None => Err(self.cannot_be(name, value).help(format!("use one of {}", words.join(", ")))),
        }
    }

    /// A finding that `name` cannot be `value`, with its place.
    pub fn cannot_be(&self, name: &str, value: &str) -> Diagnostic {
        let shown = if self.options.is_secret(&self.full_name(name)) { "***" } else { value };
        self.bad_value(name, format!("option \"{}\" cannot be \"{shown}\"", self.full_name(name)))
    }

    pub fn bad_value(&self, name: &str, message: impl Into<String>) -> Diagnostic {
        self.options.bad_value(&self.full_name(name), message)
    }

    /// Options under the format's name that it does not have, and values that its options cannot take.
    pub fn check(&self, format: &FormatInfo) -> Vec<Diagnostic> {
        let start = format!("{}{}.", self.prefix, format.name);
        let mut findings = vec![];
        for (name, value) in self.options.iter() {
            let Some(short) = name.strip_prefix(&start) else { continue };
            match format.options.iter().find(|definition| definition.name == short) {
                Some(definition) => {
                    if let Err(expected) = definition.kind.check(value) {
                        findings.push(self.cannot_be(&format!("{}.{short}", format.name), value).help(expected));
                    }
                }
                None => {
                    let near = thalweg_core::nearest(short, format.options.iter().map(|definition| definition.name));
                    let finding = Diagnostic::error(
                        Code::UNKNOWN_OPTION,
                        format!("unknown option \"{name}\" for format \"{}\"", format.name),
                    )
                    .label_opt(self.options.key_span(name), "unknown option");
                    findings.push(match near {
                        Some(near) => finding.help(format!("did you mean \"{start}{near}\"?")),
                        None => finding,
                    });
                }
            }
        }
        findings
    }
}

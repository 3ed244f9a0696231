//! What we tell someone who can change the SQL: what was wrong, where, what to do next.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use crate::Code;

/// A piece of SQL text with the name under which the user knows it (a path, or `<stdin>`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceText {
    pub name: Arc<str>,
    pub text: Arc<str>,
}

impl SourceText {
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        SourceText { name: name.into(), text: text.into() }
    }
}

/// A position in a text: line and column from 1, columns counted in characters (as sqlparser's `Location`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// A stretch of text from `start` to `end`, end excluded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Span {
    pub start: Place,
    pub end: Place,
}

impl Span {
    pub fn new(start_line: u64, start_column: u64, end_line: u64, end_column: u64) -> Self {
        Span { start: Place { line: start_line, column: start_column }, end: Place { line: end_line, column: end_column } }
    }

    /// The smallest span that holds both.
    pub fn union(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// A place with a word or two under the caret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

/// One finding about the SQL.
///
/// `message` is one line, lower case, no full stop; it names the object and its kind (`source "clicks"`).
/// The first label is the primary one: its place is printed behind `-->`. `help` is a sentence someone can act on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    pub message: String,
    pub labels: Vec<Label>,
    pub help: Option<String>,
    /// The text that the labels point into; `None` when no text is known (a setting from the environment).
    #[serde(skip)]
    pub source: Option<SourceText>,
}

impl Diagnostic {
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Diagnostic { code, severity: Severity::Error, message: message.into(), labels: vec![], help: None, source: None }
    }

    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// As [`Diagnostic::label`], for a span that may have been lost on the way: no caret is better than a wrong caret.
    pub fn label_opt(self, span: Option<Span>, text: impl Into<String>) -> Self {
        match span {
            Some(span) => self.label(span, text),
            None => self,
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// `help: did you mean "x"?` when one of `candidates` is near `name`; otherwise `otherwise`, if given.
    pub fn help_nearest<'a>(self, name: &str, candidates: impl IntoIterator<Item = &'a str>, otherwise: Option<String>) -> Self {
        match (nearest(name, candidates), otherwise) {
            (Some(near), _) => self.help(format!("did you mean \"{near}\"?")),
            (None, Some(otherwise)) => self.help(otherwise),
            (None, None) => self,
        }
    }

    pub fn in_source(mut self, source: SourceText) -> Self {
        self.source = Some(source);
        self
    }

    /// The form for people, plain text, lines without trailing spaces, ending in a newline:
    ///
    /// ```text
    /// error[TW0203]: hop size 10m is not a multiple of its slide 3m
    ///  --> pipelines/clicks.sql:7:21
    ///   |
    /// 7 |     HOP(clicks, at, INTERVAL '3' MINUTE, INTERVAL '10' MINUTE)
    ///   |                     ^^^^^^^^^^^^^^^^^^^ slide
    ///   = help: choose a slide that divides 10m, such as 2m or 5m
    ///   = more: thalweg explain TW0203
    /// ```
    pub fn render(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut out = format!("{severity}[{}]: {}\n", self.code, self.message);
        let width = self.labels.iter().map(|label| label.span.start.line.to_string().len()).max().unwrap_or(1);
        let pad = " ".repeat(width);
        if let Some(source) = &self.source {
            if let Some(first) = self.labels.first() {
                let Place { line, column } = first.span.start;
                let _ = writeln!(out, "{pad}--> {}:{line}:{column}", source.name);
            } else {
                let _ = writeln!(out, "{pad}--> {}", source.name);
            }
            let lines: Vec<&str> = source.text.lines().collect();
            let mut labels: Vec<&Label> = self.labels.iter().collect();
            labels.sort_by_key(|label| label.span.start);
            let mut last_line = 0;
            for (index, label) in labels.iter().enumerate() {
                let number = label.span.start.line;
                let Some(text) = usize::try_from(number).ok().and_then(|n| lines.get(n.wrapping_sub(1))) else {
                    continue;
                };
                if index == 0 {
                    let _ = writeln!(out, "{pad} |");
                } else if number > last_line + 1 {
                    let _ = writeln!(out, "{pad} ...");
                }
                let (shown, shift) = excerpt(text, label.span);
                if number != last_line {
                    let _ = writeln!(out, "{number:>width$} | {shown}");
                }
                last_line = number;
                let (indent, carets) = underline(text, label.span);
                let line = format!("{pad} | {}{} {}", " ".repeat(indent - shift), "^".repeat(carets), label.text);
                let _ = writeln!(out, "{}", line.trim_end());
            }
        }
        if let Some(help) = &self.help {
            for (index, line) in help.lines().enumerate() {
                let lead = if index == 0 { "= help:" } else { "       " };
                let _ = writeln!(out, "{pad} {lead} {line}");
            }
        }
        let _ = writeln!(out, "{pad} = more: thalweg explain {}", self.code);
        out
    }

    /// One line, for logs: `clicks.sql:7:21: error[TW0203]: message (help)`.
    pub fn one_line(&self) -> String {
        let mut out = String::new();
        if let Some(source) = &self.source {
            out.push_str(&source.name);
            if let Some(first) = self.labels.first() {
                let _ = write!(out, ":{}:{}", first.span.start.line, first.span.start.column);
            }
            out.push_str(": ");
        }
        let _ = write!(
            out,
            "{}[{}]: {}",
            if self.severity == Severity::Error { "error" } else { "warning" },
            self.code,
            self.message
        );
        if let Some(help) = &self.help {
            let _ = write!(out, " ({})", help.replace('\n', " "));
        }
        out
    }
}

/// The longest stretch of a line that is shown; longer lines are cut around the label.
const LINE_CHARS_MAX: usize = 160;

/// The part of `text` to show and how many characters were cut from its front.
fn excerpt(text: &str, span: Span) -> (String, usize) {
    let chars: Vec<char> = text.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    if chars.len() <= LINE_CHARS_MAX {
        return (chars.into_iter().collect::<String>().trim_end().to_string(), 0);
    }
    let column = usize::try_from(span.start.column).unwrap_or(usize::MAX).saturating_sub(1).min(chars.len());
    let shift = column.saturating_sub(40);
    (chars[shift..].iter().take(LINE_CHARS_MAX).collect::<String>().trim_end().to_string(), shift)
}

/// Column (from 0) and number of carets under a line; at least one, none past the end of the line.
fn underline(text: &str, span: Span) -> (usize, usize) {
    let length = text.chars().count();
    let start = usize::try_from(span.start.column).unwrap_or(1).saturating_sub(1).min(length);
    let end = if span.end.line == span.start.line {
        usize::try_from(span.end.column).unwrap_or(1).saturating_sub(1)
    } else {
        text.trim_end().chars().count()
    };
    (start, end.min(length).saturating_sub(start).clamp(1, LINE_CHARS_MAX - 40))
}

/// The candidate nearest to `name`, if any is near enough to be a likely misspelling (case is ignored).
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count().max(3) / 3))
        .min_by_key(|(distance, candidate)| (*distance, *candidate))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_place_carets_and_help() {
        let text = "SELECT *\nFROM TABLE(HOP(TABLE clicks, DESCRIPTOR(at), INTERVAL '3' MINUTE, INTERVAL '10' MINUTE))";
        let diagnostic = Diagnostic::error(Code("TW0203"), "hop size 10m is not a multiple of its slide 3m")
            .label(Span::new(2, 46, 2, 65), "slide")
            .help("choose a slide that divides 10m, such as 2m or 5m")
            .in_source(SourceText::new("clicks.sql", text));
        let expected = "\
error[TW0203]: hop size 10m is not a multiple of its slide 3m
 --> clicks.sql:2:46
  |
2 | FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(at), INTERVAL '3' MINUTE, INTERVAL '10' MINUTE))
  |                                              ^^^^^^^^^^^^^^^^^^^ slide
  = help: choose a slide that divides 10m, such as 2m or 5m
  = more: thalweg explain TW0203
";
        assert_eq!(diagnostic.render(), expected);
    }

    #[test]
    fn a_place_outside_the_text_does_not_panic() {
        let diagnostic = Diagnostic::error(Code("TW0001"), "x")
            .label(Span::new(9, 9, 9, 1), "")
            .label(Span::new(1, 900, 1, 901), "")
            .in_source(SourceText::new("a.sql", "SELECT 1"));
        assert!(diagnostic.render().contains("a.sql"));
    }

    #[test]
    fn nearest_name() {
        assert_eq!(nearest("usr_id", ["user_id", "amount"]), Some("user_id"));
        assert_eq!(nearest("zzz", ["user_id", "amount"]), None);
    }
}

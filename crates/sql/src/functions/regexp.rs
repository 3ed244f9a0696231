//! Regular expressions. A constant pattern is compiled once for a call.
//!
//! Patterns are Java's: `\d`, `\w`, `\s`, `\b` mean ASCII characters. Look-around and back references do not exist here; a
//! pattern that uses them is refused with a message, never silently null.

use datafusion::arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::common::Result;
use regex::{NoExpand, Regex};

use super::arguments::{Arguments, Text, boolean_rows, number_rows, text_rows};
use super::definition::{Definition, Kind, Returns, define};
use super::sql_type::SqlType;

pub(super) fn definitions() -> Vec<Definition> {
    let text = || Returns::Sql(SqlType::Text);
    let int = || Returns::Sql(SqlType::Int);
    vec![
        define("regexp", &[Kind::Text, Kind::Text], Returns::Sql(SqlType::Boolean), regexp),
        define("regexp_extract", &[Kind::Text, Kind::Text, Kind::Integer], text(), extract).optional(1).maybe_null(),
        define("regexp_extract_all", &[Kind::Text, Kind::Text, Kind::Integer], texts(), extract_all).optional(1).maybe_null(),
        define("regexp_replace", &[Kind::Text, Kind::Text, Kind::Text], text(), replace),
        define("regexp_count", &[Kind::Text, Kind::Text], int(), count),
        define("regexp_instr", &[Kind::Text, Kind::Text], int(), instr),
        define("regexp_substr", &[Kind::Text, Kind::Text], text(), substr).maybe_null(),
    ]
}

fn texts() -> Returns {
    Returns::Sql(SqlType::Array(Box::new(SqlType::Text)))
}

/// The pattern of each row, compiled anew only when it changes.
struct Patterns<'a> {
    args: &'a Arguments<'a>,
    text: Text<'a>,
    last: Option<(&'a str, Regex)>,
}

impl<'a> Patterns<'a> {
    fn new(args: &'a Arguments<'a>, index: usize) -> Result<Self> {
        Ok(Patterns { args, text: args.text(index)?, last: None })
    }

    fn get(&mut self, row: usize) -> Result<Option<&Regex>> {
        let Some(pattern) = self.text.get(row) else {
            return Ok(None);
        };
        let known = self.last.as_ref().is_some_and(|(last, _)| std::ptr::eq(*last, pattern) || *last == pattern);
        if !known {
            let compiled = Regex::new(&from_java(pattern)).map_err(|error| {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                self.args.error(format!("cannot use the regular expression '{pattern}': {why}"))
            })?;
            self.last = Some((pattern, compiled));
        }
        Ok(self.last.as_ref().map(|(_, regex)| regex))
    }
}

/// Writes the ASCII meaning of Java's classes into a pattern.
fn from_java(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut in_class = 0_usize;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str(r"[ \t\n\x0B\f\r]"),
                Some('S') => out.push_str(r"[^ \t\n\x0B\f\r]"),
                Some('b') if in_class == 0 => out.push_str(r"(?-u:\b)"),
                Some('Z') if in_class == 0 => out.push_str(r"\z"),
                Some('Q') => {
                    let rest = chars.as_str();
                    let end = rest.find(r"\E").unwrap_or(rest.len());
                    out.push_str(&regex::escape(&rest[..end]));
                    chars = rest[(end + 2).min(rest.len())..].chars();
                }
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
                None => out.push('\\'),
            },
            '[' => {
                in_class += 1;
                out.push('[');
            }
            ']' => {
                in_class = in_class.saturating_sub(1);
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

/// Whether a match is found anywhere. An empty pattern matches nothing, as in Flink.
fn regexp(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut patterns = Patterns::new(args, 1)?;
    boolean_rows(args.rows, |row| {
        let regex = patterns.get(row)?;
        Ok(text.get(row).zip(regex).map(|(text, regex)| !regex.as_str().is_empty() && regex.is_match(text)))
    })
}

/// A group of the first match: 0 is the whole match. Null without a match, without such a group, or if the group took no part.
fn extract(args: &Arguments) -> Result<ArrayRef> {
    let (text, group) = (args.text(0)?, args.integers_or(2, 0)?);
    let mut patterns = Patterns::new(args, 1)?;
    let mut places: Option<(String, regex::CaptureLocations)> = None;
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let (Some(text), Some(group)) = (text.get(row), group.get(row)) else {
            out.append_null();
            return Ok(());
        };
        let (Some(regex), Ok(group)) = (patterns.get(row)?, usize::try_from(group)) else {
            out.append_null();
            return Ok(());
        };
        if group == 0 {
            out.append_option(regex.find(text).map(|found| found.as_str()));
            return Ok(());
        }
        if places.as_ref().is_none_or(|(pattern, _)| pattern != regex.as_str()) {
            places = Some((regex.as_str().to_string(), regex.capture_locations()));
        }
        let found = places.as_mut().and_then(|(_, places)| {
            regex.captures_read(places, text)?;
            places.get(group)
        });
        out.append_option(found.map(|(start, end)| &text[start..end]));
        Ok(())
    })
}

/// A group (1 by default) of every match; null without such a group.
fn extract_all(args: &Arguments) -> Result<ArrayRef> {
    let (text, group) = (args.text(0)?, args.integers_or(2, 1)?);
    let mut patterns = Patterns::new(args, 1)?;
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..args.rows {
        let (Some(text), Some(group), Some(regex)) = (text.get(row), group.get(row), patterns.get(row)?) else {
            out.append_null();
            continue;
        };
        let Some(group) = usize::try_from(group).ok().filter(|group| *group < regex.captures_len()) else {
            out.append_null();
            continue;
        };
        for captures in regex.captures_iter(text) {
            out.values().append_option(captures.get(group).map(|found| found.as_str()));
        }
        out.append(true);
    }
    Ok(std::sync::Arc::new(out.finish()))
}

/// Every match is replaced; `$1` in the replacement is just these two characters, as in Flink.
fn replace(args: &Arguments) -> Result<ArrayRef> {
    let (text, replacement) = (args.text(0)?, args.text(2)?);
    let mut patterns = Patterns::new(args, 1)?;
    text_rows(args.rows, text.total_bytes(), |row, out| {
        match (text.get(row), patterns.get(row)?, replacement.get(row)) {
            (Some(text), Some(regex), Some(replacement)) => out.append_value(regex.replace_all(text, NoExpand(replacement))),
            _ => out.append_null(),
        }
        Ok(())
    })
}

fn count(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut patterns = Patterns::new(args, 1)?;
    number_rows::<Int32Type>(args.rows, |row| {
        let regex = patterns.get(row)?;
        let matches = text.get(row).zip(regex).map(|(text, regex)| regex.find_iter(text).count());
        matches.map(|matches| i32::try_from(matches).map_err(|_| args.error("too many matches"))).transpose()
    })
}

/// Where the first match begins, from 1; 0 without one.
fn instr(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut patterns = Patterns::new(args, 1)?;
    number_rows::<Int32Type>(args.rows, |row| {
        let regex = patterns.get(row)?;
        let Some((text, regex)) = text.get(row).zip(regex) else {
            return Ok(None);
        };
        let place = regex.find(text).map_or(0, |found| text[..found.start()].chars().count() + 1);
        i32::try_from(place).map(Some).map_err(|_| args.error("the text is too long"))
    })
}

fn substr(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut patterns = Patterns::new(args, 1)?;
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let regex = patterns.get(row)?;
        out.append_option(text.get(row).zip(regex).and_then(|(text, regex)| regex.find(text)).map(|found| found.as_str()));
        Ok(())
    })
}

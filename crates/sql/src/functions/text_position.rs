//! Parts of texts: by position, by search, by separator.

use datafusion::arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::common::Result;

use super::arguments::{Arguments, number_rows, text_rows};
use super::definition::{Definition, Kind, Returns, define};
use super::sql_type::SqlType;

use Kind::{Integer, Text, TextOrInteger};

pub(super) fn definitions() -> Vec<Definition> {
    let text = || Returns::Sql(SqlType::Text);
    let int = || Returns::Sql(SqlType::Int);
    let mut all = vec![
        define("left", &[Text, Integer], text(), |args| edge(args, true)),
        define("right", &[Text, Integer], text(), |args| edge(args, false)),
        define("locate", &[Text, Text, Integer], int(), |args| position(args, 0, 1)).optional(1),
        define("position", &[Text, Text, Integer], int(), |args| position(args, 0, 1)).optional(1),
        define("instr", &[Text, Text, Integer], int(), |args| position(args, 1, 0)).optional(1),
        define("overlay", &[Text, Text, Integer, Integer], text(), overlay).optional(1),
        define("split_index", &[Text, TextOrInteger, Integer], text(), split_index).maybe_null(),
        define("split", &[Text, Text], Returns::Sql(SqlType::Array(Box::new(SqlType::Text))), split),
    ];
    for name in ["substring", "substr"] {
        all.push(define(name, &[Text, Integer, Integer], text(), substring).optional(1).maybe_null());
    }
    all
}

/// The first `count` characters of a text.
fn take_chars(text: &str, count: usize) -> &str {
    if text.len() <= count {
        return text;
    }
    match text.char_indices().nth(count) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}

/// The text without its first `count` characters.
fn skip_chars(text: &str, count: usize) -> &str {
    match text.char_indices().nth(count) {
        Some((at, _)) => &text[at..],
        None => "",
    }
}

/// Flink's rules: positions count from 1, 0 is the same as 1, negative ones count from the end and give nothing when they
/// lie before the start; a negative length gives null.
fn substring(args: &Arguments) -> Result<ArrayRef> {
    let (text, position, length) = (args.text(0)?, args.integers(1)?, args.integers_or(2, i64::MAX)?);
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let (Some(text), Some(position), Some(length)) = (text.get(row), position.get(row), length.get(row)) else {
            out.append_null();
            return Ok(());
        };
        if length < 0 {
            out.append_null();
            return Ok(());
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let rest = if position > 0 {
            skip_chars(text, usize::try_from(position - 1).unwrap_or(usize::MAX))
        } else if position == 0 {
            text
        } else {
            let back = usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX);
            match text.chars().count().checked_sub(back) {
                Some(start) => skip_chars(text, start),
                None => "",
            }
        };
        out.append_value(take_chars(rest, length));
        Ok(())
    })
}

fn edge(args: &Arguments, front: bool) -> Result<ArrayRef> {
    let (text, count) = (args.text(0)?, args.integers(1)?);
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let (Some(text), Some(count)) = (text.get(row), count.get(row)) else {
            out.append_null();
            return Ok(());
        };
        let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        if front {
            out.append_value(take_chars(text, count));
        } else {
            out.append_value(skip_chars(text, text.chars().count().saturating_sub(count)));
        }
        Ok(())
    })
}

/// Where a text is found, from 1, not before position `from`; 0 if nowhere. The empty text is found at once, at 1.
fn position(args: &Arguments, needle_index: usize, text_index: usize) -> Result<ArrayRef> {
    let (needle, text, from) = (args.text(needle_index)?, args.text(text_index)?, args.integers_or(2, 1)?);
    number_rows::<Int32Type>(args.rows, |row| {
        let (Some(needle), Some(text), Some(from)) = (needle.get(row), text.get(row), from.get(row)) else {
            return Ok(None);
        };
        if needle.is_empty() {
            return Ok(Some(1));
        }
        let skipped = usize::try_from(from.saturating_sub(1).max(0)).unwrap_or(usize::MAX);
        let rest = skip_chars(text, skipped);
        let found = rest.find(needle).map(|at| skipped + rest[..at].chars().count() + 1);
        i32::try_from(found.unwrap_or(0)).map(Some).map_err(|_| args.error("the text is too long"))
    })
}

/// Puts a text over another from a position on, for a length (by default its own).
fn overlay(args: &Arguments) -> Result<ArrayRef> {
    let (text, patch, start, length) = (args.text(0)?, args.text(1)?, args.integers(2)?, args.integers_or(3, -1)?);
    let own_length = args.len() < 4;
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let (Some(text), Some(patch), Some(start), Some(length)) =
            (text.get(row), patch.get(row), start.get(row), length.get(row))
        else {
            out.append_null();
            return Ok(());
        };
        let count = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if start <= 0 || start > count {
            out.append_value(text);
            return Ok(());
        }
        let length = if own_length { i64::try_from(patch.chars().count()).unwrap_or(i64::MAX) } else { length };
        let before = usize::try_from(start - 1).unwrap_or(usize::MAX);
        let mut result = String::with_capacity(text.len() + patch.len());
        result.push_str(take_chars(text, before));
        result.push_str(patch);
        if length > 0 {
            let after = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(before);
            result.push_str(skip_chars(text, after));
        }
        out.append_value(result);
        Ok(())
    })
}

/// The part at an index, from 0, of a text cut at each separator; null beyond the parts. The separator may be the code of a
/// character; an empty one cuts at each blank. The empty text has no parts.
fn split_index(args: &Arguments) -> Result<ArrayRef> {
    let (text, index) = (args.text(0)?, args.integers(2)?);
    let by_code = *args.data_type(1) != datafusion::arrow::datatypes::DataType::Utf8;
    let codes = if by_code { Some(args.integers(1)?) } else { None };
    let separators = if by_code { None } else { Some(args.text(1)?) };
    let mut code_text = String::new();
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let (Some(text), Some(index)) = (text.get(row), index.get(row)) else {
            out.append_null();
            return Ok(());
        };
        let separator = match (&separators, &codes) {
            (Some(separators), _) => separators.get(row),
            (None, Some(codes)) => match codes.get(row).and_then(|code| char::from_u32(u32::try_from(code).ok()?)) {
                Some(code) => {
                    code_text.clear();
                    code_text.push(code);
                    Some(code_text.as_str())
                }
                None => None,
            },
            (None, None) => None,
        };
        let (Some(separator), Ok(index), false) = (separator, usize::try_from(index), text.is_empty()) else {
            out.append_null();
            return Ok(());
        };
        // One character is by far the most common separator, and has the faster search.
        let mut characters = separator.chars();
        let part = match (characters.next(), characters.next()) {
            (None, _) => text.split(char::is_whitespace).nth(index),
            (Some(character), None) => text.split(character).nth(index),
            _ => text.split(separator).nth(index),
        };
        out.append_option(part);
        Ok(())
    })
}

/// The parts between separators; an empty separator gives the characters, the empty text no parts.
fn split(args: &Arguments) -> Result<ArrayRef> {
    let (text, separator) = (args.text(0)?, args.text(1)?);
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..args.rows {
        let (Some(text), Some(separator)) = (text.get(row), separator.get(row)) else {
            out.append_null();
            continue;
        };
        if separator.is_empty() {
            for character in text.chars() {
                out.values().append_value(character.encode_utf8(&mut [0; 4]));
            }
        } else if !text.is_empty() {
            for part in text.split(separator) {
                out.values().append_value(part);
            }
        }
        out.append(true);
    }
    Ok(std::sync::Arc::new(out.finish()))
}

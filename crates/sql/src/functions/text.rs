//! Texts: case, trimming, joining, replacing, repeating.

use std::borrow::Cow;

use datafusion::common::Result;

use super::arguments::{Arguments, boolean_rows, number_rows, text_rows};
use super::definition::{Definition, Kind, Returns, define};
use super::sql_type::SqlType;

use Kind::{Integer, Text};

/// The longest text that REPEAT, LPAD and RPAD make.
pub(super) const TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(super) fn definitions() -> Vec<Definition> {
    let text = || Returns::Sql(SqlType::Text);
    let mut all = vec![
        define("upper", &[Text], text(), |args| map_text(args, |s| Cow::Owned(upper(s)))),
        define("lower", &[Text], text(), |args| map_text(args, |s| Cow::Owned(lower(s)))),
        define("initcap", &[Text], text(), |args| map_text(args, |s| Cow::Owned(initcap(s)))),
        define("reverse", &[Text], text(), |args| map_text(args, |s| Cow::Owned(s.chars().rev().collect()))),
        define("btrim", &[Text, Text], text(), |args| trim(args, true, true)).optional(1),
        define("trim", &[Text, Text], text(), |args| trim(args, true, true)).optional(1),
        define("ltrim", &[Text, Text], text(), |args| trim(args, true, false)).optional(1),
        define("rtrim", &[Text, Text], text(), |args| trim(args, false, true)).optional(1),
        define("concat", &[Text], text(), concat).variadic(),
        define("concat_ws", &[Text, Text], text(), concat_ws).variadic().maybe_null(),
        define("replace", &[Text, Text, Text], text(), replace),
        define("translate", &[Text, Text, Text], text(), translate),
        define("repeat", &[Text, Integer], text(), repeat),
        define("lpad", &[Text, Integer, Text], text(), |args| pad(args, true)).maybe_null(),
        define("rpad", &[Text, Integer, Text], text(), |args| pad(args, false)).maybe_null(),
        define("ascii", &[Text], Returns::Sql(SqlType::Int), ascii),
        define("chr", &[Integer], text(), chr),
        define("startswith", &[Text, Text], Returns::Sql(SqlType::Boolean), |args| {
            compare(args, |text, other| text.starts_with(other))
        }),
        define("endswith", &[Text, Text], Returns::Sql(SqlType::Boolean), |args| {
            compare(args, |text, other| text.ends_with(other))
        }),
        define("elt", &[Integer, Text], text(), elt).variadic().maybe_null(),
    ];
    for name in ["char_length", "character_length", "length"] {
        all.push(define(name, &[Text], Returns::Sql(SqlType::Int), char_length));
    }
    all
}

type Output = Result<datafusion::arrow::array::ArrayRef>;

fn map_text(args: &Arguments, map: impl for<'s> Fn(&'s str) -> Cow<'s, str>) -> Output {
    let text = args.text(0)?;
    text_rows(args.rows, text.total_bytes(), |row, out| {
        match text.get(row) {
            Some(text) => out.append_value(map(text)),
            None => out.append_null(),
        }
        Ok(())
    })
}

fn upper(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_uppercase() } else { text.to_uppercase() }
}

fn lower(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { text.to_lowercase() }
}

/// As Flink does it: only a to z and digits make up words, so the letter after an accented one is made large.
fn initcap(text: &str) -> String {
    let mut in_word = false;
    text.chars()
        .map(|c| {
            let changed = if in_word { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
            in_word = c.is_ascii_alphanumeric();
            changed
        })
        .collect()
}

/// Takes spaces away, or any of the characters of the second argument. Tabs and line ends stay, as in Flink.
fn trim(args: &Arguments, front: bool, back: bool) -> Output {
    let text = args.text(0)?;
    let characters = if args.len() > 1 { Some(args.text(1)?) } else { None };
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let set = match &characters {
            Some(characters) => characters.get(row),
            None => Some(" "),
        };
        let (Some(mut text), Some(set)) = (text.get(row), set) else {
            out.append_null();
            return Ok(());
        };
        if front {
            text = text.trim_start_matches(|c| set.contains(c));
        }
        if back {
            text = text.trim_end_matches(|c| set.contains(c));
        }
        out.append_value(text);
        Ok(())
    })
}

/// Null if any part is.
fn concat(args: &Arguments) -> Output {
    let parts = (0..args.len()).map(|index| args.text(index)).collect::<Result<Vec<_>>>()?;
    let mut joined = String::new();
    text_rows(args.rows, parts.iter().map(|part| part.total_bytes()).sum(), |row, out| {
        joined.clear();
        for part in &parts {
            match part.get(row) {
                Some(part) => joined.push_str(part),
                None => {
                    out.append_null();
                    return Ok(());
                }
            }
        }
        out.append_value(&joined);
        Ok(())
    })
}

/// Null only if the separator is; parts that are null are left out with their separator.
fn concat_ws(args: &Arguments) -> Output {
    let separator = args.text(0)?;
    let parts = (1..args.len()).map(|index| args.text(index)).collect::<Result<Vec<_>>>()?;
    let mut joined = String::new();
    text_rows(args.rows, parts.iter().map(|part| part.total_bytes()).sum(), |row, out| {
        let Some(separator) = separator.get(row) else {
            out.append_null();
            return Ok(());
        };
        joined.clear();
        for (index, part) in parts.iter().filter_map(|part| part.get(row)).enumerate() {
            if index > 0 {
                joined.push_str(separator);
            }
            joined.push_str(part);
        }
        out.append_value(&joined);
        Ok(())
    })
}

fn replace(args: &Arguments) -> Output {
    let (text, from, to) = (args.text(0)?, args.text(1)?, args.text(2)?);
    text_rows(args.rows, text.total_bytes(), |row, out| {
        match (text.get(row), from.get(row), to.get(row)) {
            (Some(text), Some(from), Some(to)) => out.append_value(text.replace(from, to)),
            _ => out.append_null(),
        }
        Ok(())
    })
}

/// Each character of the second argument becomes the one at its place in the third, or goes if there is none.
fn translate(args: &Arguments) -> Output {
    let (text, from, to) = (args.text(0)?, args.text(1)?, args.text(2)?);
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let (Some(text), Some(from), Some(to)) = (text.get(row), from.get(row), to.get(row)) else {
            out.append_null();
            return Ok(());
        };
        let translated: String = text
            .chars()
            .filter_map(|c| match from.chars().position(|other| other == c) {
                Some(position) => to.chars().nth(position),
                None => Some(c),
            })
            .collect();
        out.append_value(translated);
        Ok(())
    })
}

fn repeat(args: &Arguments) -> Output {
    let (text, times) = (args.text(0)?, args.integers(1)?);
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let (Some(text), Some(times)) = (text.get(row), times.get(row)) else {
            out.append_null();
            return Ok(());
        };
        let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
        if text.len().saturating_mul(times) > TEXT_BYTES_MAX {
            return Err(args.error(format!("the result would be longer than {TEXT_BYTES_MAX} bytes")));
        }
        out.append_value(text.repeat(times));
        Ok(())
    })
}

/// Fills up to a length with a text, or cuts to it. A negative length or an empty filling gives null, as in Flink.
fn pad(args: &Arguments, front: bool) -> Output {
    let (text, length, filling) = (args.text(0)?, args.integers(1)?, args.text(2)?);
    text_rows(args.rows, text.total_bytes(), |row, out| {
        let (Some(text), Some(length), Some(filling)) = (text.get(row), length.get(row), filling.get(row)) else {
            out.append_null();
            return Ok(());
        };
        let Ok(length) = usize::try_from(length) else {
            out.append_null();
            return Ok(());
        };
        if filling.is_empty() {
            out.append_null();
            return Ok(());
        }
        if length > TEXT_BYTES_MAX / 4 {
            return Err(args.error(format!("length {length} is more than {}", TEXT_BYTES_MAX / 4)));
        }
        let missing = length.saturating_sub(text.chars().count());
        let cut = text.chars().take(length);
        let filling = filling.chars().cycle().take(missing);
        let padded: String = if front { filling.chain(cut).collect() } else { cut.chain(filling).collect() };
        out.append_value(padded);
        Ok(())
    })
}

/// The first byte as Java has it, from -128 to 127; 0 for the empty text.
fn ascii(args: &Arguments) -> Output {
    let text = args.text(0)?;
    number_rows::<datafusion::arrow::datatypes::Int32Type>(args.rows, |row| {
        Ok(text.get(row).map(|text| text.bytes().next().map_or(0, |byte| i32::from(byte.cast_signed()))))
    })
}

/// The character of a number below 256 (larger ones are taken modulo 256); nothing for negative ones.
fn chr(args: &Arguments) -> Output {
    let number = args.integers(0)?;
    text_rows(args.rows, args.rows, |row, out| {
        match number.get(row) {
            Some(number) if number < 0 => out.append_value(""),
            Some(number) => out.append_value(char::from((number % 256) as u8).encode_utf8(&mut [0; 4])),
            None => out.append_null(),
        }
        Ok(())
    })
}

fn compare(args: &Arguments, test: impl Fn(&str, &str) -> bool) -> Output {
    let (text, other) = (args.text(0)?, args.text(1)?);
    boolean_rows(args.rows, |row| Ok(text.get(row).zip(other.get(row)).map(|(text, other)| test(text, other))))
}

/// The text at a place, from 1; null beyond them.
fn elt(args: &Arguments) -> Output {
    let index = args.integers(0)?;
    let texts = (1..args.len()).map(|index| args.text(index)).collect::<Result<Vec<_>>>()?;
    text_rows(args.rows, texts.iter().map(|text| text.total_bytes()).sum(), |row, out| {
        let chosen = index.get(row).and_then(|index| usize::try_from(index).ok()?.checked_sub(1));
        out.append_option(chosen.and_then(|index| texts.get(index)?.get(row)));
        Ok(())
    })
}

/// Characters, not bytes.
fn char_length(args: &Arguments) -> Output {
    let text = args.text(0)?;
    number_rows::<datafusion::arrow::datatypes::Int32Type>(args.rows, |row| {
        let length = text.get(row).map(|text| if text.is_ascii() { text.len() } else { text.chars().count() });
        length.map(|length| i32::try_from(length).map_err(|_| args.error("the text is too long"))).transpose()
    })
}

//! Texts and bytes in other clothes: base64, hexadecimal, character sets, binary digits.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;

use super::arguments::{Arguments, byte_rows, text_rows};
use super::definition::{Definition, Kind, Returns, define};
use super::sql_type::SqlType;

pub(super) fn definitions() -> Vec<Definition> {
    let text = || Returns::Sql(SqlType::Text);
    let bytes = || Returns::Sql(SqlType::Bytes);
    vec![
        define("to_base64", &[Kind::TextOrBytes], text(), to_base64),
        define("from_base64", &[Kind::Text], text(), from_base64),
        define("hex", &[Kind::TextOrNumber], text(), hex),
        define("unhex", &[Kind::Text], bytes(), unhex).maybe_null(),
        define("bin", &[Kind::Integer], text(), bin),
        define("encode", &[Kind::Text, Kind::Text], bytes(), encode),
        define("decode", &[Kind::TextOrBytes, Kind::Text], text(), decode),
    ]
}

/// Appends two hexadecimal digits a byte.
pub(super) fn push_hex(bytes: &[u8], upper: bool, out: &mut String) {
    let digits = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    for byte in bytes {
        out.push(char::from(digits[usize::from(byte >> 4)]));
        out.push(char::from(digits[usize::from(byte & 15)]));
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(args: &Arguments) -> Result<ArrayRef> {
    let bytes = args.bytes(0)?;
    let mut encoded = String::new();
    text_rows(args.rows, args.rows * 16, |row, out| {
        let Some(bytes) = bytes.get(row) else {
            out.append_null();
            return Ok(());
        };
        encoded.clear();
        for chunk in bytes.chunks(3) {
            let group =
                chunk.iter().chain(std::iter::repeat(&0)).take(3).fold(0_u32, |group, byte| (group << 8) | u32::from(*byte));
            for digit in 0..4 {
                if digit <= chunk.len() {
                    encoded.push(char::from(BASE64[(group >> (18 - 6 * digit)) as usize & 63]));
                } else {
                    encoded.push('=');
                }
            }
        }
        out.append_value(&encoded);
        Ok(())
    })
}

/// The bytes behind a base64 text (`=` at the end may be missing); `None` if it is not one.
pub(super) fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        let mut group = 0_u32;
        for index in 0..4 {
            let value = match chunk.get(index) {
                Some(digit) => BASE64.iter().position(|known| known == digit)?,
                None => 0,
            };
            group = (group << 6) | u32::try_from(value).ok()?;
        }
        let bytes = group.to_be_bytes();
        out.extend_from_slice(&bytes[1..chunk.len()]);
    }
    Some(out)
}

/// Fails for a text that is not base64. Bytes that are not UTF-8 become U+FFFD.
fn from_base64(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    text_rows(args.rows, text.total_bytes(), |row, out| {
        match text.get(row) {
            Some(text) => match base64_bytes(text) {
                Some(bytes) => out.append_value(String::from_utf8_lossy(&bytes)),
                None => return Err(args.error(format!("'{}' is not base64", shorten(text)))),
            },
            None => out.append_null(),
        }
        Ok(())
    })
}

/// A text short enough for a message.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

/// Upper-case digits of the bytes of a text, or of an integer in two's complement without leading zeros.
fn hex(args: &Arguments) -> Result<ArrayRef> {
    let mut digits = String::new();
    match args.data_type(0) {
        DataType::Utf8 => {
            let text = args.text(0)?;
            text_rows(args.rows, text.total_bytes() * 2, |row, out| {
                match text.get(row) {
                    Some(text) => {
                        digits.clear();
                        push_hex(text.as_bytes(), true, &mut digits);
                        out.append_value(&digits);
                    }
                    None => out.append_null(),
                }
                Ok(())
            })
        }
        integer if integer.is_integer() => {
            let numbers = datafusion::arrow::compute::cast(args.array(0), &DataType::Int64)?;
            let numbers = datafusion::arrow::array::AsArray::as_primitive::<datafusion::arrow::datatypes::Int64Type>(&numbers);
            let step = usize::from(!args.is_constant(0));
            text_rows(args.rows, args.rows * 8, |row, out| {
                let row = row * step;
                if datafusion::arrow::array::Array::is_null(numbers, row) {
                    out.append_null();
                } else {
                    out.append_value(format!("{:X}", numbers.value(row)));
                }
                Ok(())
            })
        }
        _ => Err(args.error("takes an integer or a text")),
    }
}

/// The bytes of hexadecimal digits; null if something else is among them. An odd number of digits has a leading 0.
fn unhex(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    byte_rows(args.rows, |row| {
        Ok(text.get(row).and_then(|text| {
            let digits = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<Vec<u8>>>()?;
            let (first, pairs) = digits.split_at(digits.len() % 2);
            Some(first.iter().copied().chain(pairs.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1])).collect())
        }))
    })
}

/// Binary digits in two's complement, without leading zeros.
fn bin(args: &Arguments) -> Result<ArrayRef> {
    let numbers = args.integers(0)?;
    text_rows(args.rows, args.rows * 8, |row, out| {
        out.append_option(numbers.get(row).map(|number| format!("{number:b}")));
        Ok(())
    })
}

#[derive(Clone, Copy)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16Be,
    Utf16Le,
    /// Big endian with a mark in front.
    Utf16,
}

fn charset(args: &Arguments, name: &str) -> Result<Charset> {
    match name.to_ascii_uppercase().as_str() {
        "US-ASCII" | "ASCII" => Ok(Charset::Ascii),
        "ISO-8859-1" => Ok(Charset::Latin1),
        "UTF-8" => Ok(Charset::Utf8),
        "UTF-16BE" => Ok(Charset::Utf16Be),
        "UTF-16LE" => Ok(Charset::Utf16Le),
        "UTF-16" => Ok(Charset::Utf16),
        _ => Err(args.error(format!("'{}' is none of US-ASCII, ISO-8859-1, UTF-8, UTF-16BE, UTF-16LE, UTF-16", shorten(name)))),
    }
}

/// Characters that the set lacks become `?`.
fn encode(args: &Arguments) -> Result<ArrayRef> {
    let (text, name) = (args.text(0)?, args.text(1)?);
    byte_rows(args.rows, |row| {
        let (Some(text), Some(name)) = (text.get(row), name.get(row)) else {
            return Ok(None);
        };
        let below = |limit: u32| {
            text.chars().map(|c| u8::try_from(u32::from(c)).ok().filter(|_| u32::from(c) < limit).unwrap_or(b'?')).collect()
        };
        Ok(Some(match charset(args, name)? {
            Charset::Ascii => below(128),
            Charset::Latin1 => below(256),
            Charset::Utf8 => text.as_bytes().to_vec(),
            Charset::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Charset::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Charset::Utf16 if text.is_empty() => vec![],
            Charset::Utf16 => [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect(),
        }))
    })
}

/// Bytes that mean nothing in the set become U+FFFD.
fn decode(args: &Arguments) -> Result<ArrayRef> {
    let (bytes, name) = (args.bytes(0)?, args.text(1)?);
    text_rows(args.rows, args.rows * 8, |row, out| {
        let (Some(bytes), Some(name)) = (bytes.get(row), name.get(row)) else {
            out.append_null();
            return Ok(());
        };
        let utf16 = |bytes: &[u8], big: bool| {
            let units: Vec<u16> = bytes
                .chunks_exact(2)
                .map(|pair| if big { u16::from_be_bytes([pair[0], pair[1]]) } else { u16::from_le_bytes([pair[0], pair[1]]) })
                .collect();
            String::from_utf16_lossy(&units)
        };
        let decoded = match charset(args, name)? {
            Charset::Ascii => bytes.iter().map(|byte| if *byte < 128 { char::from(*byte) } else { '\u{fffd}' }).collect(),
            Charset::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            Charset::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Charset::Utf16Be => utf16(bytes, true),
            Charset::Utf16Le => utf16(bytes, false),
            Charset::Utf16 => match bytes {
                [0xff, 0xfe, rest @ ..] => utf16(rest, false),
                [0xfe, 0xff, rest @ ..] => utf16(rest, true),
                _ => utf16(bytes, true),
            },
        };
        out.append_value(decoded);
        Ok(())
    })
}

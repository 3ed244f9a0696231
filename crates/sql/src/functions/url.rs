//! URLs: form encoding and their parts.

use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

use super::arguments::{Arguments, text_rows};
use super::definition::{Definition, Kind, Returns, define};
use super::encoding::push_hex;
use super::sql_type::SqlType;

pub(super) fn definitions() -> Vec<Definition> {
    let text = || Returns::Sql(SqlType::Text);
    vec![
        define("url_encode", &[Kind::Text], text(), encode),
        define("url_decode", &[Kind::Text], text(), decode).maybe_null(),
        define("parse_url", &[Kind::Text, Kind::Text, Kind::Text], text(), parse_url).optional(1).maybe_null(),
    ]
}

/// As `application/x-www-form-urlencoded`: a blank becomes `+`.
fn encode(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let mut encoded = String::new();
    text_rows(args.rows, text.total_bytes() * 2, |row, out| {
        let Some(text) = text.get(row) else {
            out.append_null();
            return Ok(());
        };
        encoded.clear();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => encoded.push(char::from(byte)),
                b' ' => encoded.push('+'),
                _ => {
                    encoded.push('%');
                    push_hex(&[byte], true, &mut encoded);
                }
            }
        }
        out.append_value(&encoded);
        Ok(())
    })
}

/// Null if a `%` is not followed by two hexadecimal digits.
fn decode(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    text_rows(args.rows, text.total_bytes(), |row, out| {
        out.append_option(text.get(row).and_then(decoded));
        Ok(())
    })
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
            }
            other => bytes.push(other),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A part of a URL by name (HOST, PATH, QUERY, REF, PROTOCOL, AUTHORITY, FILE, USERINFO), or one parameter of its query.
/// Null for what is not a URL and for what it lacks.
fn parse_url(args: &Arguments) -> Result<ArrayRef> {
    let (url, part) = (args.text(0)?, args.text(1)?);
    let key = if args.len() > 2 { Some(args.text(2)?) } else { None };
    text_rows(args.rows, url.total_bytes(), |row, out| {
        let (Some(url), Some(part)) = (url.get(row), part.get(row)) else {
            out.append_null();
            return Ok(());
        };
        let found = match &key {
            None => url_part(url, part),
            Some(key) if part == "QUERY" => {
                key.get(row).zip(url_part(url, part)).and_then(|(key, query)| query_parameter(query, key))
            }
            Some(_) => None,
        };
        out.append_option(found);
        Ok(())
    })
}

fn query_parameter<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

fn url_part<'a>(url: &'a str, part: &str) -> Option<&'a str> {
    let (protocol, rest) = url.split_once(':')?;
    let protocol_is_one = !protocol.is_empty()
        && protocol.starts_with(|c: char| c.is_ascii_alphabetic())
        && protocol.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !protocol_is_one {
        return None;
    }
    let (rest, reference) = rest.split_once('#').map_or((rest, None), |(rest, reference)| (rest, Some(reference)));
    let (authority, file) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, rest),
    };
    let (path, query) = file.split_once('?').map_or((file, None), |(path, query)| (path, Some(query)));
    let (user, host_and_port) = match authority {
        Some(authority) => authority.rsplit_once('@').map_or((None, Some(authority)), |(user, host)| (Some(user), Some(host))),
        None => (None, None),
    };
    match part {
        "PROTOCOL" => Some(protocol),
        "HOST" => host_and_port.map(|host| match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        }),
        "PATH" => Some(path),
        "QUERY" => query,
        "REF" => reference,
        "AUTHORITY" => authority,
        "FILE" => Some(file),
        "USERINFO" => user,
        _ => None,
    }
}

//! Strings in JSON's clothes, and whole values as compact text.

use super::scanner::{Kind, Scanner, SyntaxError};
use crate::format::number_text::write_double;

/// For each byte: 0 to write it as it is, `u` for `\u00XX`, else the letter behind the backslash.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Writes a string with quotes and escapes, other characters than ASCII as they are.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[start..index]);
        start = index + 1;
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

/// Takes a value and writes it without white space, as Jackson prints a tree: fractions as DOUBLE, characters unescaped where
/// they can be.
pub fn copy_compact(scanner: &mut Scanner<'_>, scratch: &mut String, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
    match scanner.kind()? {
        Kind::String => {
            let text = scanner.string(scratch)?;
            write_string(out, text);
        }
        Kind::Number => {
            let number = scanner.number()?;
            match number.text.parse() {
                Ok(value) if !number.is_integer && f64::is_finite(value) => write_double(out, value),
                _ => out.extend_from_slice(number.text.as_bytes()),
            }
        }
        Kind::Object => {
            scanner.enter()?;
            out.push(b'{');
            let mut more = scanner.first_item(b'}');
            while more {
                scanner.field_name()?;
                let name = scanner.string(scratch)?;
                write_string(out, name);
                scanner.expect(b':', "a colon")?;
                out.push(b':');
                copy_compact(scanner, scratch, out)?;
                more = scanner.next_item(b'}')?;
                if more {
                    out.push(b',');
                }
            }
            out.push(b'}');
        }
        Kind::Array => {
            scanner.enter()?;
            out.push(b'[');
            let mut more = scanner.first_item(b']');
            while more {
                copy_compact(scanner, scratch, out)?;
                more = scanner.next_item(b']')?;
                if more {
                    out.push(b',');
                }
            }
            out.push(b']');
        }
        Kind::True | Kind::False | Kind::Null => {
            let start = scanner.position;
            scanner.skip_value()?;
            out.extend_from_slice(scanner.taken(start));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compact(text: &str) -> String {
        let mut out = vec![];
        copy_compact(&mut Scanner::new(text), &mut String::new(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn compact_text() {
        assert_eq!(compact("{\"a\": 1, \"b\":[true, null]}"), r#"{"a":1,"b":[true,null]}"#);
        assert_eq!(compact("[ 1.50 , 1e20 , \"\\u00e9\\n\\/\\u0001\" ]"), "[1.5,1.0E20,\"é\\n/\\u0001\"]");
        assert_eq!(compact("[123456789012345678901234567890, 1e999]"), "[123456789012345678901234567890,1e999]");
        assert_eq!(compact("[{},[]]"), "[{},[]]");
    }

    proptest! {
        #[test]
        fn any_string_is_json(text: String) {
            let mut out = vec![];
            write_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}

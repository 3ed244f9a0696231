//! A strict pull scanner over the text of one JSON record (RFC 8259).
//!
//! It hands out one token at a time and builds nothing, so a decoder touches only the bytes of the fields that it wants.

/// Containers within containers, the outermost included.
pub const DEPTH_MAX: u32 = 128;

/// Why a record cannot be read on. Positions are byte offsets within the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyntaxError {
    pub at: usize,
    pub expected: &'static str,
}

/// What a value begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    String,
    Number,
    True,
    False,
    Null,
    Object,
    Array,
}

/// A number as it stands in the text.
#[derive(Clone, Copy, Debug)]
pub struct Number<'a> {
    pub text: &'a str,
    /// Neither fraction nor exponent.
    pub is_integer: bool,
    /// The value of an integer of at most 18 digits.
    pub small: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pub position: usize,
    pub depth: u32,
}

type Result<T> = std::result::Result<T, SyntaxError>;

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Scanner { text, bytes: text.as_bytes(), position: 0, depth: 0 }
    }

    pub fn error<T>(&self, expected: &'static str) -> Result<T> {
        Err(SyntaxError { at: self.position, expected })
    }

    /// The next byte that is no white space; it is not taken.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.position)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.position += 1;
        }
    }

    /// Takes `byte`, after white space.
    #[inline]
    pub fn expect(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.peek() == Some(byte) {
            self.position += 1;
            return Ok(());
        }
        self.error(expected)
    }

    /// What comes next; nothing is taken but white space.
    #[inline]
    pub fn kind(&mut self) -> Result<Kind> {
        Ok(match self.peek() {
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b't') => Kind::True,
            Some(b'f') => Kind::False,
            Some(b'n') => Kind::Null,
            _ => return self.error("a value"),
        })
    }

    /// Takes `true`, `false` or `null`.
    #[inline]
    pub fn word(&mut self, word: &'static str) -> Result<()> {
        if self.bytes[self.position..].starts_with(word.as_bytes()) {
            self.position += word.len();
            return Ok(());
        }
        self.error("a value")
    }

    /// Takes the opening brace or bracket that was seen.
    #[inline]
    pub fn enter(&mut self) -> Result<()> {
        if self.depth >= DEPTH_MAX {
            return self.error("at most 128 levels of nesting");
        }
        self.depth += 1;
        self.position += 1;
        Ok(())
    }

    /// After an item: takes the comma, or the closing byte. Says whether there is another item.
    #[inline]
    pub fn next_item(&mut self, close: u8) -> Result<bool> {
        match self.peek() {
            Some(b',') => {
                self.position += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.position += 1;
                self.depth -= 1;
                Ok(false)
            }
            _ => self.error(if close == b'}' { "a comma or a closing brace" } else { "a comma or a closing bracket" }),
        }
    }

    /// Behind [`Scanner::enter`]: takes the closing byte of an empty container. Says whether there is a first item.
    #[inline]
    pub fn first_item(&mut self, close: u8) -> bool {
        if self.peek() == Some(close) {
            self.position += 1;
            self.depth -= 1;
            return false;
        }
        true
    }

    /// Takes a string whose raw text is exactly `raw`, and says whether it did. White space must have been taken before.
    /// `raw` has no escapes, quotes or control characters.
    #[inline]
    pub fn take_raw_string(&mut self, raw: &[u8]) -> bool {
        let rest = &self.bytes[self.position..];
        let found = rest.len() >= raw.len() + 2 && rest[1..].starts_with(raw) && rest[raw.len() + 1] == b'"' && rest[0] == b'"';
        if found {
            self.position += raw.len() + 2;
        }
        found
    }

    /// Takes a string. One with escapes is unescaped into `scratch`.
    #[inline]
    pub fn string<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str>
    where
        'a: 's,
    {
        let start = self.position + 1;
        let end = self.plain_end(start);
        if self.bytes.get(end) == Some(&b'"') {
            self.position = end + 1;
            return Ok(&self.text[start..end]);
        }
        scratch.clear();
        self.escaped_string(start, end, scratch)?;
        Ok(scratch)
    }

    /// Takes the rest of a string from `start` on, known to be plain up to `end`.
    fn escaped_string(&mut self, mut start: usize, mut end: usize, out: &mut String) -> Result<()> {
        loop {
            out.push_str(&self.text[start..end]);
            self.position = end;
            match self.bytes.get(end) {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(());
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return self.error("an escape instead of a control character"),
                None => return self.error("the end of a string"),
            }
            start = self.position;
            end = self.plain_end(start);
        }
    }

    /// Takes an escape sequence.
    fn escape(&mut self) -> Result<char> {
        let start = self.position;
        let unescaped = match self.bytes.get(start + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.hex(start + 2)?;
                self.position = start + 6;
                return match unit {
                    0xD800..=0xDBFF if self.bytes[self.position..].starts_with(b"\\u") => {
                        let low = self.hex(self.position + 2)?;
                        if !(0xDC00..=0xDFFF).contains(&low) {
                            return self.error("the second half of a surrogate pair");
                        }
                        self.position += 6;
                        let scalar = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                        char::from_u32(scalar).map_or_else(|| self.error("a character"), Ok)
                    }
                    _ => match char::from_u32(unit) {
                        Some(c) => Ok(c),
                        None => Err(SyntaxError { at: start, expected: "a surrogate pair" }),
                    },
                };
            }
            _ => return self.error("an escape sequence"),
        };
        self.position = start + 2;
        Ok(unescaped)
    }

    fn hex(&self, at: usize) -> Result<u32> {
        let mut unit = 0;
        let digits = self.bytes.get(at..at + 4).unwrap_or_default();
        for digit in digits {
            match char::from(*digit).to_digit(16) {
                Some(value) => unit = unit << 4 | value,
                None => return self.error("four hexadecimal digits"),
            }
        }
        if digits.len() < 4 { self.error("four hexadecimal digits") } else { Ok(unit) }
    }

    /// Where the plain part of a string from `start` ends: at a quote, a backslash, a control character or the end of the text.
    #[inline]
    fn plain_end(&self, start: usize) -> usize {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = 0x8080_8080_8080_8080;
        let mut at = start;
        // Eight bytes at a time. In each term the lowest byte marked is a true hit (a borrow runs upwards only), and the lowest
        // of them is what counts.
        while let Some(chunk) = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*chunk);
            let quote = word ^ (ONES * b'"' as u64);
            let backslash = word ^ (ONES * b'\\' as u64);
            let hits = ((quote.wrapping_sub(ONES) & !quote)
                | (backslash.wrapping_sub(ONES) & !backslash)
                | (word.wrapping_sub(ONES * 0x20) & !word))
                & HIGHS;
            if hits != 0 {
                return at + (hits.trailing_zeros() / 8) as usize;
            }
            at += 8;
        }
        while self.bytes.get(at).is_some_and(|byte| *byte >= 0x20 && !matches!(byte, b'"' | b'\\')) {
            at += 1;
        }
        at
    }

    /// Takes a number.
    #[inline]
    pub fn number(&mut self) -> Result<Number<'a>> {
        let start = self.position;
        let negative = self.bytes[start] == b'-';
        let mut at = start + usize::from(negative);
        let first_digit = at;
        let mut magnitude = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(at) {
            magnitude = magnitude.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            at += 1;
        }
        let digits = at - first_digit;
        if digits == 0 || (digits > 1 && self.bytes[first_digit] == b'0') {
            self.position = first_digit;
            return self.error("a number without leading zeros");
        }
        let mut is_integer = true;
        if self.bytes.get(at) == Some(&b'.') {
            is_integer = false;
            at = self.digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(at) {
            is_integer = false;
            let sign = usize::from(matches!(self.bytes.get(at + 1), Some(b'+' | b'-')));
            at = self.digits(at + 1 + sign)?;
        }
        self.position = at;
        let small = (is_integer && digits <= 18).then_some(magnitude as i64);
        Ok(Number { text: &self.text[start..at], is_integer, small: small.map(|value| if negative { -value } else { value }) })
    }

    /// The end of one or more digits from `start` on.
    fn digits(&mut self, start: usize) -> Result<usize> {
        let rest = self.bytes.get(start..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            self.position = start;
            return self.error("a digit");
        }
        Ok(start + count)
    }

    /// Takes a value of any kind, checking all of it.
    pub fn skip_value(&mut self) -> Result<()> {
        match self.kind()? {
            Kind::String => self.skip_string(),
            Kind::Number => self.number().map(|_| ()),
            Kind::True => self.word("true"),
            Kind::False => self.word("false"),
            Kind::Null => self.word("null"),
            Kind::Object => {
                self.enter()?;
                let mut more = self.first_item(b'}');
                while more {
                    self.field_name()?;
                    self.skip_string()?;
                    self.expect(b':', "a colon")?;
                    self.skip_value()?;
                    more = self.next_item(b'}')?;
                }
                Ok(())
            }
            Kind::Array => {
                self.enter()?;
                let mut more = self.first_item(b']');
                while more {
                    self.skip_value()?;
                    more = self.next_item(b']')?;
                }
                Ok(())
            }
        }
    }

    /// Makes sure that a field's name comes next.
    #[inline]
    pub fn field_name(&mut self) -> Result<()> {
        if self.peek() == Some(b'"') { Ok(()) } else { self.error("a field name in quotes") }
    }

    #[inline]
    pub fn skip_string(&mut self) -> Result<()> {
        let mut end = self.plain_end(self.position + 1);
        loop {
            self.position = end;
            match self.bytes.get(end) {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.escape()?;
                    end = self.plain_end(self.position);
                }
                Some(_) => return self.error("an escape instead of a control character"),
                None => return self.error("the end of a string"),
            }
        }
    }

    /// The text that was taken since `start`.
    pub fn taken(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.position]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn skip_all(text: &str) -> Result<()> {
        let mut scanner = Scanner::new(text);
        scanner.skip_value()?;
        if scanner.peek().is_some() { scanner.error("the end") } else { Ok(()) }
    }

    #[test]
    fn strict_about_what_is_json() {
        for good in [
            "0",
            "-0",
            "1.5e+10",
            "\"\"",
            "\"\\u00e9\\ud83d\\ude00\\n\"",
            " [ 1 , { \"a\" : null } ] ",
            "{}",
            "[]",
            "true",
            "\"\u{7f}é\"",
        ] {
            assert_eq!(skip_all(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "01",
            "-",
            "+1",
            "1.",
            ".5",
            "1e",
            "NaN",
            "tru",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83d\\u0041\"",
            "\"\n\"",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "[1",
            "{",
            "1 2",
            "'a'",
            "[1}",
            "\"\\",
        ] {
            assert!(skip_all(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nesting_is_capped() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(skip_all(&nested(128)), Ok(()));
        assert_eq!(skip_all(&nested(129)), Err(SyntaxError { at: 128, expected: "at most 128 levels of nesting" }));
        assert!(skip_all(&"[".repeat(100_000)).is_err());
        assert!(skip_all(&"{\"a\":".repeat(100_000)).is_err());
    }

    #[test]
    fn numbers_keep_their_text() {
        let number = |text| Scanner::new(text).number().unwrap().small;
        assert_eq!(number("-123456789012345678"), Some(-123_456_789_012_345_678));
        assert_eq!(number("1234567890123456789"), None);
        assert_eq!(number("1.0"), None);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6).prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn takes_what_serde_json_writes(value in any_json(), pretty: bool) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            prop_assert_eq!(skip_all(&text), Ok(()));
        }

        #[test]
        fn agrees_with_serde_json_about_damaged_text(value in any_json(), at: prop::sample::Index, byte in 0x20_u8..0x7f) {
            let mut bytes = value.to_string().into_bytes();
            let index = at.index(bytes.len());
            bytes[index] = byte;
            if let Ok(text) = String::from_utf8(bytes) {
                let theirs = serde_json::from_str::<serde_json::Value>(&text);
                // serde_json also refuses numbers beyond DOUBLE; those are fine here.
                let out_of_range = theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
                prop_assert!(skip_all(&text).is_ok() == theirs.is_ok() || out_of_range, "{}", text);
            }
        }

        #[test]
        fn strings_come_back(value: String) {
            let text = serde_json::to_string(&value).unwrap();
            let mut scratch = String::new();
            prop_assert_eq!(Scanner::new(&text).string(&mut scratch), Ok(value.as_str()));
        }
    }
}

//! JSON texts looked into without building values: numbers keep their digits.

/// How deep JSON may nest.
const DEPTH_MAX: usize = 512;

/// One step of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Member(String),
    Item(usize),
}

/// `[lax|strict] $.name['name'][0]…`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct JsonPath {
    steps: Vec<Step>,
    pub lax: bool,
}

impl JsonPath {
    /// `None` if the text is not a path of this form.
    pub fn parse(text: &str) -> Option<JsonPath> {
        let text = text.trim();
        let (lax, text) = match text.strip_prefix("lax ") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("strict ").unwrap_or(text)),
        };
        let mut rest = text.trim().strip_prefix('$')?;
        let mut steps = vec![];
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let name = &after[..end];
                if name.is_empty() || name.contains(['*', '?', '(', ')', '\'', '"']) {
                    return None;
                }
                steps.push(Step::Member(name.to_string()));
                rest = &after[end..];
            } else {
                let after = rest.strip_prefix('[')?;
                let quote = after.chars().next()?;
                if quote == '\'' || quote == '"' {
                    let end = after[1..].find(quote)? + 1;
                    steps.push(Step::Member(after[1..end].to_string()));
                    rest = after[end + 1..].strip_prefix(']')?;
                } else {
                    let end = after.find(']')?;
                    steps.push(Step::Item(after[..end].trim().parse().ok()?));
                    rest = &after[end + 1..];
                }
            }
        }
        Some(JsonPath { steps, lax })
    }

    /// The text of the value that the path leads to in a JSON text that is known to be right.
    pub fn find<'a>(&self, json: &'a str) -> Option<&'a str> {
        let mut value = json.trim_matches(BLANKS);
        for step in &self.steps {
            value = match step {
                Step::Member(name) => {
                    // Of repeated members the last one counts.
                    Members::of(value)?.filter(|(key, _)| unescape(key).is_some_and(|key| key == *name)).last()?.1
                }
                Step::Item(index) => Items::of(value)?.nth(*index)?,
            };
        }
        Some(value)
    }
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// Whether a whole text is one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    skip_value(text, 0).is_some_and(|rest| rest.trim_start_matches(BLANKS).is_empty())
}

/// What stands behind the value at the front of `text`; `None` if there is none.
fn skip_value(text: &str, depth: usize) -> Option<&str> {
    if depth > DEPTH_MAX {
        return None;
    }
    let text = text.trim_start_matches(BLANKS);
    match text.as_bytes().first()? {
        b'"' => skip_text(text),
        b'{' => {
            let mut rest = text[1..].trim_start_matches(BLANKS);
            if let Some(rest) = rest.strip_prefix('}') {
                return Some(rest);
            }
            loop {
                rest = skip_text(rest.trim_start_matches(BLANKS))?;
                rest = skip_value(rest.trim_start_matches(BLANKS).strip_prefix(':')?, depth + 1)?;
                rest = rest.trim_start_matches(BLANKS);
                match rest.as_bytes().first()? {
                    b',' => rest = &rest[1..],
                    b'}' => return Some(&rest[1..]),
                    _ => return None,
                }
            }
        }
        b'[' => {
            let mut rest = text[1..].trim_start_matches(BLANKS);
            if let Some(rest) = rest.strip_prefix(']') {
                return Some(rest);
            }
            loop {
                rest = skip_value(rest, depth + 1)?.trim_start_matches(BLANKS);
                match rest.as_bytes().first()? {
                    b',' => rest = &rest[1..],
                    b']' => return Some(&rest[1..]),
                    _ => return None,
                }
            }
        }
        b't' => text.strip_prefix("true"),
        b'f' => text.strip_prefix("false"),
        b'n' => text.strip_prefix("null"),
        _ => skip_number(text),
    }
}

fn skip_text(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(&text[at + 1..]),
            b'\\' => {
                at += match bytes.get(at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                    b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                    _ => return None,
                }
            }
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

fn skip_number(text: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest.starts_with('0')) {
        return None;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = digits(fraction);
        if count == 0 {
            return None;
        }
        rest = &fraction[count..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let count = digits(exponent);
        if count == 0 {
            return None;
        }
        rest = &exponent[count..];
    }
    Some(rest)
}

/// The members of an object: keys with their quotes, and values.
struct Members<'a> {
    rest: &'a str,
}

impl<'a> Members<'a> {
    fn of(value: &'a str) -> Option<Self> {
        Some(Members { rest: value.strip_prefix('{')? })
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let start = self.rest.trim_start_matches(BLANKS);
        let after_key = skip_text(start)?;
        let key = &start[..start.len() - after_key.len()];
        let value = after_key.trim_start_matches(BLANKS).strip_prefix(':')?.trim_start_matches(BLANKS);
        let after_value = skip_value(value, 0)?;
        self.rest = after_value.trim_start_matches(BLANKS).strip_prefix(',').unwrap_or("");
        Some((key, &value[..value.len() - after_value.len()]))
    }
}

/// The items of an array.
pub(super) struct Items<'a> {
    rest: &'a str,
}

impl<'a> Items<'a> {
    pub fn of(value: &'a str) -> Option<Self> {
        Some(Items { rest: value.strip_prefix('[')? })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let value = self.rest.trim_start_matches(BLANKS);
        let after = skip_value(value, 0)?;
        self.rest = after.trim_start_matches(BLANKS).strip_prefix(',').unwrap_or("");
        Some(&value[..value.len() - after.len()])
    }
}

/// The text behind a JSON text with its quotes.
pub(super) fn unescape(quoted: &str) -> Option<String> {
    serde_json::from_str(quoted).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, json: &str, expected: Option<&str>) {
        assert_eq!(JsonPath::parse(path).unwrap().find(json), expected, "{path} in {json}");
    }

    #[test]
    fn paths_lead_to_values() {
        let json = r#" {"name":"tea", "price" : 2.50,"tags":["a" ,"b"],"addr":{"city":"york"},"none":null,"x.y":1} "#;
        check("$.name", json, Some("\"tea\""));
        check("$.price", json, Some("2.50"));
        check("strict $.addr.city", json, Some("\"york\""));
        check("lax $['x.y']", json, Some("1"));
        check("$.tags[1]", json, Some("\"b\""));
        check("$.tags[2]", json, None);
        check("$.name.x", json, None);
        check("$", json, Some(json.trim()));
        check("$[0]", "[10, 20]", Some("10"));
        check("$[0]", "[]", None);
        assert_eq!(JsonPath::parse("name"), None);
        assert_eq!(JsonPath::parse("$.a[*]"), None);
    }

    #[test]
    fn knows_json() {
        for right in ["{}", "[]", "0", "-1.5e+3", "\"a\\u00e9\"", " [1,{\"a\":[null,true,false]}] "] {
            assert!(is_json(right), "{right}");
        }
        for wrong in ["", "{bad", "01", "1.", "[1,]", "{\"a\"}", "\"a", "tru", "\"\\x\"", "[1] 2", "é"] {
            assert!(!is_json(wrong), "{wrong}");
        }
        assert!(!is_json(&"[".repeat(100_000)));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_serde(text in "[\\[\\]{}:,\"a1 .e\\-]{0,12}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            // A number too large for a double is JSON all the same.
            if theirs.as_ref().err().is_none_or(|error| !error.to_string().contains("out of range")) {
                proptest::prop_assert_eq!(is_json(&text), theirs.is_ok());
            }
        }
    }
}

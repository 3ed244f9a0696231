//! A CSV record to its fields.

use super::CsvOptions;

/// The fields of one record, in one buffer that is used again.
#[derive(Debug, Default)]
pub struct SplitRecord {
    text: String,
    fields: Vec<SplitField>,
}

#[derive(Clone, Copy, Debug)]
struct SplitField {
    end: usize,
    quoted: bool,
}

/// Why a record is no row of CSV. `at` is a byte offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SplitError {
    pub at: usize,
    pub expected: &'static str,
}

impl SplitRecord {
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn get(&self, index: usize) -> Option<&str> {
        let end = self.fields.get(index)?.end;
        let start = if index == 0 { 0 } else { self.fields[index - 1].end };
        Some(&self.text[start..end])
    }

    /// Whether the last field is nothing at all, not even quotes: there is a delimiter at the end of the record.
    pub fn ends_in_delimiter(&self) -> bool {
        self.fields.last().is_some_and(|last| !last.quoted) && self.get(self.len() - 1) == Some("")
    }

    /// Splits a record, which may end in a line end. Quotes count only around a whole field; line ends only within quotes.
    pub fn split(&mut self, record: &str, options: &CsvOptions) -> Result<(), SplitError> {
        self.text.clear();
        self.fields.clear();
        let record = record.strip_suffix('\n').unwrap_or(record);
        let record = record.strip_suffix('\r').unwrap_or(record);
        let mut rest = Rest { record, at: 0, options };
        loop {
            if options.trim_spaces {
                rest.skip_spaces();
            }
            let quoted = options.quote.is_some() && rest.byte() == options.quote;
            if quoted {
                rest.quoted_field(&mut self.text)?;
            } else {
                let start = self.text.len();
                rest.plain_field(&mut self.text)?;
                if options.trim_spaces {
                    let kept = self.text[start..].trim_end_matches(is_space).len();
                    self.text.truncate(start + kept);
                }
            }
            self.fields.push(SplitField { end: self.text.len(), quoted });
            if rest.byte().is_none() {
                return Ok(());
            }
            rest.at += options.delimiter.len();
        }
    }
}

/// What is left of a record.
struct Rest<'a> {
    record: &'a str,
    at: usize,
    options: &'a CsvOptions,
}

impl Rest<'_> {
    fn byte(&self) -> Option<u8> {
        self.record.as_bytes().get(self.at).copied()
    }

    fn at_delimiter(&self) -> bool {
        self.record.as_bytes()[self.at..].starts_with(self.options.delimiter.as_bytes())
    }

    fn skip_spaces(&mut self) {
        while self.byte().is_some_and(|byte| is_space(byte.into())) && !self.at_delimiter() {
            self.at += 1;
        }
    }

    /// Takes text up to the next delimiter or the end.
    fn plain_field(&mut self, out: &mut String) -> Result<(), SplitError> {
        let mut start = self.at;
        // The first byte tells most bytes from a delimiter.
        let first = self.options.delimiter.as_bytes()[0];
        while let Some(byte) = self.byte() {
            if byte == first && self.at_delimiter() {
                break;
            }
            if matches!(byte, b'\n' | b'\r') {
                return Err(SplitError { at: self.at, expected: "one row in a record" });
            }
            if Some(byte) == self.options.escape {
                out.push_str(&self.record[start..self.at]);
                self.escaped(out)?;
                start = self.at;
            } else {
                self.at += 1;
            }
        }
        out.push_str(&self.record[start..self.at]);
        Ok(())
    }

    /// Takes a field in quotes, and spaces behind it.
    fn quoted_field(&mut self, out: &mut String) -> Result<(), SplitError> {
        self.at += 1;
        let mut start = self.at;
        loop {
            let Some(byte) = self.byte() else {
                return Err(SplitError { at: self.at, expected: "a closing quote" });
            };
            if Some(byte) == self.options.escape {
                out.push_str(&self.record[start..self.at]);
                self.escaped(out)?;
                start = self.at;
            } else if Some(byte) == self.options.quote {
                out.push_str(&self.record[start..self.at]);
                self.at += 1;
                if self.byte() != self.options.quote {
                    break;
                }
                start = self.at;
                self.at += 1;
            } else {
                self.at += 1;
            }
        }
        self.skip_spaces();
        if self.byte().is_none() || self.at_delimiter() {
            return Ok(());
        }
        Err(SplitError { at: self.at, expected: "a delimiter behind the closing quote" })
    }

    /// Takes the escape character and the one behind it.
    fn escaped(&mut self, out: &mut String) -> Result<(), SplitError> {
        let Some(next) = self.record[self.at + 1..].chars().next() else {
            return Err(SplitError { at: self.at, expected: "a character behind the escape character" });
        };
        out.push(match next {
            '0' => '\0',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            other => other,
        });
        self.at += 1 + next.len_utf8();
        Ok(())
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

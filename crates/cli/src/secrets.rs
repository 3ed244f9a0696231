//! What must not be shown: the values of `${ENV:…}` and `${FILE:…}`.
//!
//! Options know which of their values are secret and hide them. This is the second line: whatever goes to standard error passes
//! [`scrub`], also what a client library says about a value that it was given.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Shorter values are words that occur anywhere; hiding them would only make messages unreadable.
const LENGTH_MIN: usize = 6;

/// From now on `value` is not shown.
pub fn remember(value: &str) {
    if value.len() >= LENGTH_MIN {
        SECRETS.lock().unwrap_or_else(PoisonError::into_inner).insert(value.to_string());
    }
}

/// `text` with `***` in place of every secret, longer ones first.
pub fn scrub(text: &str) -> String {
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<&String> = secrets.iter().filter(|secret| text.contains(secret.as_str())).collect();
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found.into_iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), "***"))
}

/// Standard error behind [`scrub`], for log lines, each of which is one write.
pub struct ScrubbedStandardError;

impl Write for ScrubbedStandardError {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().write_all(scrub(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_long_secrets_and_what_holds_them() {
        remember("canary");
        remember("canary-longer");
        remember("short");
        assert_eq!(scrub("a canary, a canary-longer, a short one"), "a ***, a ***, a short one");
    }
}

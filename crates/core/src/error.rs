//! Run-time errors, split by what the caller does next.

use std::fmt;

use crate::Diagnostic;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What to do about an [`Error`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// The user must change the SQL, an option or a setting. Exit code 2.
    User,
    /// One record is at fault: skip it, put it aside or stop, as the user chose. Exit code 1 when it stops the job.
    Record,
    /// Something outside is away for now: try again with backoff. Exit code 1 when patience ends.
    Unavailable,
    /// A newer run owns the job: stop at once and touch nothing. Exit code 3.
    Fenced,
    /// Stored data is not what was written: stop and keep the evidence. Exit code 1.
    Corrupt,
    /// Our bug. Exit code 1.
    Internal,
}

/// An error with its kind, a message in the style of [`Diagnostic`], and an optional next step.
///
/// `Display` prints the message alone; it never repeats the cause, which is given by `source()`.
#[derive(Debug)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    pub help: Option<String>,
    /// Set when the error has a place in the SQL.
    pub diagnostic: Option<Box<Diagnostic>>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), help: None, diagnostic: None, cause: None }
    }

    pub fn user(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::User, message)
    }

    pub fn record(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Record, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Unavailable, message)
    }

    pub fn fenced(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Fenced, message)
    }

    pub fn corrupt(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Corrupt, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }

    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn with_cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// As [`Error::with_cause`] for the error of an object store client, of which only the gist is kept.
    pub fn with_store_cause(self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let whole = Error::unavailable("").with_cause(cause).full_message();
        self.with_cause(crate::store_answer(whole.trim_start_matches(": ")))
    }

    /// Puts words in front of the message: `context: message`.
    pub fn in_context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The message followed by those of its causes, for one line of a log.
    pub fn full_message(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(next) = cause {
            let next_text = next.to_string();
            if !text.contains(&next_text) {
                text.push_str(": ");
                text.push_str(&next_text);
            }
            cause = next.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause.as_ref() as &(dyn std::error::Error + 'static))
    }
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Self {
        Error {
            kind: ErrorKind::User,
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
            diagnostic: Some(Box::new(diagnostic)),
            cause: None,
        }
    }
}

impl From<arrow::error::ArrowError> for Error {
    /// Arrow errors from kernels that we call with checked types are our bug, but arithmetic and casts speak of the data.
    fn from(error: arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError::{ArithmeticOverflow, CastError, ComputeError, DivideByZero, ParseError};
        let kind = match &error {
            ArithmeticOverflow(_) | CastError(_) | ComputeError(_) | DivideByZero | ParseError(_) => ErrorKind::Record,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, error.to_string())
    }
}

//! Rows that are taken back and are not there: the changes of an input do not fit together.

use thalweg_core::{Error, Result};

/// What an operator does about them, and how often it did.
#[derive(Debug, Default)]
pub(crate) struct Unmatched {
    is_ignored: bool,
    rows: u64,
}

impl Unmatched {
    pub(crate) fn ignore(&mut self) {
        self.is_ignored = true;
    }

    pub(crate) fn is_ignored(&self) -> bool {
        self.is_ignored
    }

    /// Counts one, or fails with `error`.
    pub(crate) fn note(&mut self, error: impl FnOnce() -> Error) -> Result<()> {
        if !self.is_ignored {
            return Err(error());
        }
        self.rows += 1;
        Ok(())
    }

    pub(crate) fn add(&mut self, rows: u64) {
        self.rows += rows;
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }
}

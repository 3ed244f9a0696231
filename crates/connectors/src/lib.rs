//! thalweg-connectors.
pub mod format;

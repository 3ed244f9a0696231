//! thalweg-sql.
pub mod functions;

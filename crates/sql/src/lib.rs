//! thalweg-sql.

//! SESSION windows against plain Rust.

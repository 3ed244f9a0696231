//! Which tables end by themselves.

use thalweg_core::TableDefinition;

/// Whether the rows of `table` come as upserts by its PRIMARY KEY.
pub(crate) fn gives_upserts(table: &TableDefinition) -> bool {
    table.connector() == Some("upsert-kafka")
}

/// Whether reading `table` ends: files unless monitored, topics only with `scan.bounded.mode`, `datagen` with a row count.
pub(crate) fn is_bounded(table: &TableDefinition) -> bool {
    let option = |name: &str| table.options.get(name);
    match table.connector() {
        Some("filesystem") => option("source.monitor-interval").is_none(),
        Some("kafka" | "upsert-kafka") => option("scan.bounded.mode").is_some_and(|mode| mode != "unbounded"),
        Some("datagen") => option("number-of-rows").is_some(),
        Some("memory") => option("bounded") == Some("true"),
        _ => false,
    }
}

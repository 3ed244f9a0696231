//! Aggregates per window and key, in two phases with an exchange between them.
//!
//! ```text
//! rows --LocalWindowAggregate--> partial rows --exchange by hash of the keys--> GlobalWindowAggregate --> rows of closed windows
//!        a batch at a time,        (slice, eligible_from, keys, states)           keeps slices, fires by watermark
//!        no state
//! ```
//!
//! Time is cut into slices, such that each window is a whole number of them; a row is aggregated once, into its slice.
//! *Late* is decided per window, in the first phase, against the watermark that the rows before a row had made in its source
//! partition: so it depends neither on how rows are cut into batches nor on how lanes run. What is left of a row's windows is a
//! suffix, named by `eligible_from`, the end of the first window for which the row is not late. Rows that are late for all of
//! their windows are dropped and counted.
//!
//! Source of the semantics: Flink 2.3, window aggregation over windowing table-valued functions.

mod bucket;
mod global;
mod group_table;
mod hop_blocks;
mod lateness;
mod layout;
mod local;

pub use global::GlobalWindowAggregate;
pub use layout::PARTIAL_KEYS_START;
pub(crate) use layout::WindowAggregateLayout;
pub use local::LocalWindowAggregate;

#[cfg(test)]
mod tests;

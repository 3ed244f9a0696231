//! Windowed Arrow operators: plain state machines without clock, I/O, threads or tasks.
//!
//! The same inputs in the same order give the same outputs in the same order.
//!
//! - One per source partition, before any operator: [`WatermarkGenerator`].
//! - Without state: `Project`, `Filter`, `AssignWindow`, `Union`; with state: `GroupAggregate`, `Join`; all made by [`build`].
//! - `Session`: SESSION windows, with an aggregate or without, made by [`build`].
//! - A window aggregate is two operators: [`build_local`] before the exchange, [`build_global`] behind it; rows of
//!   [`partial_schema`] pass between them, sent to lanes by [`partition_by_lane`].

mod aggregate;
mod arrangement;
mod assign_window;
mod build;
mod changes;
mod deduplicate;
mod eval;
mod event_times;
mod exchange;
mod filter;
mod group_aggregate;
mod group_keys;
mod in_turn;
mod interval_join;
mod item_slots;
mod join;
mod key_codec;
mod keyed_runs;
mod keyed_table;
#[cfg(test)]
mod lane_harness;
mod local_time;
mod lookup_join;
mod merged_slot;
mod normalize;
mod operator;
mod over;
mod processing_time;
mod project;
mod row_hash;
mod running;
mod sent_behind;
mod session;
mod set_operation;
mod sink_materialize;
mod sort_order;
mod stored_watermark;
mod temporal_join;
mod temporal_sort;
#[cfg(test)]
mod test_lanes;
mod time_buckets;
mod time_to_live;
mod top_n;
mod turns;
mod union;
mod unmatched;
mod unnest;
mod watermark;
mod window_aggregate;
mod window_bounds;
mod window_join;
mod window_top_n;

pub use aggregate::{AggregateFactory, GroupAccumulator, GroupText};
pub use build::{build, build_global, build_local, build_lookup_join, partial_schema};
pub use eval::evaluate;
pub use exchange::{key_groups, key_hashes, partition_by_lane};
pub use group_keys::GroupKeys;
pub use operator::{Operator, OperatorContext, OperatorMetrics, Output};
pub use project::project;
pub use watermark::{DEFAULT_MAX_FUTURE_MS, WatermarkGenerator};
pub use window_aggregate::{GlobalWindowAggregate, LocalWindowAggregate, PARTIAL_KEYS_START};

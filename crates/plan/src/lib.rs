//! The streaming plan as a value: what `sql` makes and `runtime` runs. Neither sees the other.
//!
//! A [`Plan`] is a directed acyclic graph of [`Node`]s in topological order. Each node knows its schema and its inferred
//! [`Properties`]; each has a stable [`OperatorId`] under which its state is stored, and the plan has a fingerprint.

mod aggregate;
mod explain;
mod expr;
mod headline;
mod identity;
mod join;
mod node;
mod plan;
mod rank;
mod window;

pub use aggregate::{AggregateCall, AggregateFunction};
pub use expr::Expr;
pub use join::{IntervalJoin, Join, JoinKey, JoinKind, LookupJoin, TemporalJoin, WindowBounds, WindowJoin};
pub use node::{
    AssignWindow, Conflict, Exchange, Filter, GroupAggregate, Input, Node, NodeKind, Normalize, OperatorId, ProcessingTime,
    Project, Properties, Session, SinkMaterialize, SinkNode, SinkTarget, SourceNode, StateLifetime, TimeAttribute, TimeKind,
    Watermark, WindowAggregate, WindowColumns,
};
pub use plan::{Plan, PlanDifference};
pub use rank::{
    Deduplicate, Frame, InTurn, Keep, Over, OverCall, OverOrder, RankFunction, RankRange, SetKind, SetOperation, SortKey,
    TemporalSort, TopN, Unnest, WindowTopN,
};
pub use window::{SessionWindow, TimeZoneRule, Window, WindowKind, duration_text};

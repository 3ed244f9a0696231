//! The streaming plan as a value: what `sql` makes and `runtime` runs. Neither sees the other.
//!
//! A [`Plan`] is a directed acyclic graph of [`Node`]s in topological order. Each node knows its schema and its inferred
//! [`Properties`]; each has a stable [`OperatorId`] under which its state is stored, and the plan has a fingerprint.

mod aggregate;
mod explain;
mod expr;
mod node;
mod plan;
mod window;

pub use aggregate::{AggregateCall, AggregateFunction};
pub use expr::Expr;
pub use node::{
    AssignWindow, Exchange, Filter, GroupAggregate, Input, Node, NodeKind, OperatorId, Project, Properties, Session, SinkNode,
    SinkTarget, SourceNode, StateLifetime, TimeAttribute, TimeKind, Watermark, WindowAggregate, WindowColumns,
};
pub use plan::{Plan, PlanDifference};
pub use window::{SessionWindow, TimeZoneRule, Window, WindowKind, duration_text};

//! Windowed Arrow operators: plain state machines without clock, I/O, threads or tasks.
//!
//! The same inputs in the same order give the same outputs in the same order.

mod operator;

pub use operator::{Operator, OperatorContext, OperatorMetrics, Output};

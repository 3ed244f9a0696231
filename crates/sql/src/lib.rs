//! Text to plan: our syntax, binding, window and watermark rules through DataFusion, SQL functions.

pub mod planner;

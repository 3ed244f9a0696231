//! Whole jobs within one process: the `.slt` driver, and a harness that stops, restarts and breaks jobs on purpose.
//!
//! ```text
//! .slt file --slt--> records --driver--> Simulation --> Session (sql) --> plans
//!                                            |                              |
//!                        rows of INSERT … VALUES                      Pipeline: one job, run in one Way
//!                                            v                              |
//!                                      MemoryBroker <---- sources, sinks ---+
//! ```
//!
//! A [`Simulation`] owns the topics. Rows are put into them by `INSERT … VALUES`, which runs at once; an `INSERT` whose query
//! reads a table is a [`Way`]-dependent pipeline: one job that stays up, or one that is stopped and restored at every step, or
//! one that also breaks. What is delivered must be the same in every way.

mod connections;
mod driver;
mod pipeline;
mod row_text;
mod simulation;
mod slt;

pub use driver::{FileReport, check_file};
pub use pipeline::Way;
pub use simulation::{Answer, Problem, Simulation};
pub use slt::{Expectation, Record, parse};

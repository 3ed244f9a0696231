//! Operators measured alone, without a source or a sink: nanoseconds per row in and out, state held.
//!
//! `cargo run --release -p thalweg-benches --bin operators [million rows [part of a name]]`. One thread; CPU time of that thread.

mod aggregates;
mod changes;
mod joins;
mod measure;
mod ranks;
mod rows;

use thalweg_core::{Error, Result};

use measure::Bench;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let million: f64 = match arguments.next() {
        None => 1.0,
        Some(text) => text.parse().map_err(|_| Error::user(format!("\"{text}\" is not a number of million rows")))?,
    };
    let bench = Bench { rows: (million * 1e6) as u64, wanted: arguments.next().unwrap_or_default() };
    bench.print_head();
    joins::regular(&bench)?;
    joins::by_time(&bench)?;
    joins::lookup(&bench)?;
    aggregates::by_group(&bench)?;
    aggregates::by_window(&bench)?;
    ranks::top_n(&bench)?;
    ranks::deduplicate(&bench)?;
    ranks::over(&bench)?;
    ranks::temporal_sort(&bench)?;
    changes::set_operations(&bench)?;
    changes::unnest(&bench)?;
    changes::upserts(&bench)
}

//! One query over all events, a few times.

use thalweg_core::Result;

use crate::Bench;
use crate::data_set::DataSet;
use crate::process::{Cost, measure_run};
use crate::queries::Query;

/// The cheapest run of a query at one number of lanes.
pub struct Throughput {
    pub query: &'static Query,
    pub parallelism: u32,
    pub cost: Cost,
    pub events: u64,
    pub data_bytes: u64,
}

impl Throughput {
    /// Starting and planning included: use enough events.
    pub fn cpu_seconds_per_million_events(&self) -> f64 {
        self.cost.cpu_seconds / (self.events as f64 / 1e6)
    }

    /// Thousands of events for each second of CPU; `None` when too few were read to see any CPU time.
    pub fn thousand_events_per_cpu_second(&self) -> Option<f64> {
        (self.cost.cpu_seconds > 0.0).then(|| self.events as f64 / 1e3 / self.cost.cpu_seconds)
    }

    /// Megabytes of JSON for each second of CPU.
    pub fn megabytes_per_cpu_second(&self) -> Option<f64> {
        (self.cost.cpu_seconds > 0.0).then(|| self.data_bytes as f64 / 1e6 / self.cost.cpu_seconds)
    }
}

/// Runs a query `repeat` times. The run with the least CPU time counts, as other work on the machine only ever adds.
pub fn best_of(bench: &Bench, query: &'static Query, data: &DataSet, parallelism: u32, repeat: u32) -> Result<Throughput> {
    let file = bench.write_sql(query.name, &query.script(&data.folder, &bench.folder))?;
    let name = format!("{}-{parallelism}", query.name);
    let measure = || {
        bench.clear_outputs(query.name)?;
        measure_run(bench, &name, &file, parallelism)
    };
    let mut best = measure()?;
    for _ in 1..repeat {
        let next = measure()?;
        if next.cpu_seconds < best.cpu_seconds {
            best = next;
        }
    }
    Ok(Throughput { query, parallelism, cost: best, events: data.events, data_bytes: data.bytes })
}

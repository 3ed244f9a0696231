//! The yardstick: DataFusion's batch engine over the rows that are there.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::{SessionConfig, SessionContext};

pub struct BatchEngine {
    runtime: tokio::runtime::Runtime,
}

impl BatchEngine {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
        BatchEngine { runtime }
    }

    /// The rows of a query over these tables.
    /// # Errors
    /// What DataFusion says.
    pub fn answer(&self, tables: &[(String, RecordBatch)], sql: &str) -> Result<Vec<RecordBatch>, String> {
        // This rule of DataFusion 55.2, which only makes plans faster, can push a filter on `b` above an outer join into the wrong
        // side when both have a column `b`: rows are lost (seed 5773).
        let rules = PhysicalOptimizer::new().rules.into_iter().filter(|rule| !rule.name().starts_with("FilterPushdown"));
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(SessionConfig::new().with_target_partitions(1))
            .with_physical_optimizer_rules(rules.collect())
            .build();
        let context = SessionContext::new_with_state(state);
        for (name, rows) in tables {
            let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).map_err(|error| error.to_string())?;
            context.register_table(name.as_str(), Arc::new(table)).map_err(|error| error.to_string())?;
        }
        let answer = async { context.sql(sql).await?.collect().await };
        self.runtime.block_on(answer).map_err(|error| error.to_string())
    }
}

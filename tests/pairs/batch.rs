//! The yardstick: DataFusion's batch engine over the rows that are there.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
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
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        for (name, rows) in tables {
            let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).map_err(|error| error.to_string())?;
            context.register_table(name.as_str(), Arc::new(table)).map_err(|error| error.to_string())?;
        }
        let answer = async { context.sql(sql).await?.collect().await };
        self.runtime.block_on(answer).map_err(|error| error.to_string())
    }
}

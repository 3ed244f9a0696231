//! The yardstick: DataFusion's batch engine over the rows that are there.
//!
//! An aggregate without GROUP BY over no rows is a row in a batch and none in a stream; the text for the batch engine says so by
//! a key, `ALWAYS_ONE_KEY`. But where Flink sees while planning that there are none, as behind `COUNT(*) IS NULL`, it is a row in
//! the stream too. To see that, DataFusion's whole optimizer is asked here about the input alone; nothing of our planner is.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Aggregate, LogicalPlan};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::{SessionConfig, SessionContext};

/// A key that is the same for all rows and that DataFusion does not take for constant: a constant column stays one for it behind an
/// outer join, where nulls come to it, and it sorts wrongly.
pub const ALWAYS_ONE_KEY: &str = "random() < 0";

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
        let answer = async {
            let state = context.state();
            let plan = with_sole_rows(state.create_logical_plan(sql).await?, &state)?;
            context.execute_logical_plan(plan).await?.collect().await
        };
        self.runtime.block_on(answer).map_err(|error| error.to_string())
    }
}

/// The plan without the key of those aggregates whose input is seen to have no rows: so they are one row.
fn with_sole_rows(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) if has_one_key(&aggregate) && is_seen_to_be_empty(&aggregate.input, state) => {
            let sole = Aggregate::try_new(aggregate.input, vec![], aggregate.aggr_expr)?;
            Ok(Transformed::yes(LogicalPlan::Aggregate(sole)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(done.data)
}

fn has_one_key(aggregate: &Aggregate) -> bool {
    matches!(&aggregate.group_expr[..], [key] if key.to_string() == "random() < Int64(0)")
}

/// A part of a correlated subquery cannot be optimised alone; its rows depend on others.
fn is_seen_to_be_empty(input: &LogicalPlan, state: &SessionState) -> bool {
    matches!(state.optimize(input), Ok(LogicalPlan::EmptyRelation(empty)) if !empty.produce_one_row)
}

#[test]
fn what_is_seen_to_be_empty_has_a_sole_row() {
    let check = |from: &str, expected: usize| {
        let ids = arrow::array::Int32Array::from(Vec::<i32>::new());
        let rows = RecordBatch::try_from_iter_with_nullable([("id", Arc::new(ids) as _, true)]).expect("one column");
        let sql = format!("SELECT COUNT(*) AS n, SUM(c) AS s FROM (SELECT * FROM {from}) AS x GROUP BY {ALWAYS_ONE_KEY}");
        let answer = BatchEngine::new().answer(&[("t".to_string(), rows)], &sql).expect("an answer");
        assert_eq!(answer.iter().map(RecordBatch::num_rows).sum::<usize>(), expected, "{sql}");
    };
    let counted = format!("(SELECT COUNT(id) AS c FROM t GROUP BY {ALWAYS_ONE_KEY}) AS y");
    check("(SELECT id AS c FROM t) AS y", 0);
    check("(SELECT id AS c FROM t) AS y WHERE c IS NULL", 0);
    check("(SELECT id AS c FROM t) AS y WHERE c > 1 AND FALSE", 1);
    check(&counted, 0);
    check(&format!("{counted} WHERE c IS NULL"), 1);
    check(&format!("{counted} WHERE c IS NOT NULL"), 0);
    check(&format!("{counted} CROSS JOIN (SELECT id FROM t WHERE 1 = 2) AS z"), 1);
}

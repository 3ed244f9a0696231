//! GROUP BY without a window, and SELECT DISTINCT.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::logical_expr::Aggregate;
use thalweg_core::{Diagnostic, Span};
use thalweg_plan::{Exchange, GroupAggregate, Input, NodeKind, Properties, StateLifetime};

use super::lower::{Lowering, whole};
use super::relation::Relation;
use super::window_aggregate::InputColumns;

impl Lowering<'_> {
    /// Lowers a grouping whose results change as rows come. Groups by some column of a window are groups like others.
    pub(crate) fn group_aggregate(
        &mut self,
        relation: Relation,
        aggregate: &Aggregate,
        place: Option<Span>,
    ) -> Result<Relation, Diagnostic> {
        let relation = self.assign_window(relation)?;
        let mut inputs = InputColumns::new(&relation, aggregate);
        let mut keys = vec![];
        for group in &aggregate.group_expr {
            keys.push(inputs.column(self, group, &group.schema_name().to_string())?);
        }
        let mut aggregates = vec![];
        for (index, call) in aggregate.aggr_expr.iter().enumerate() {
            let output = aggregate.schema.field(aggregate.group_expr.len() + index);
            aggregates.push(self.call(call, output, &mut inputs)?);
        }
        let input = inputs.finish(self);
        let schema = self.schema(input);
        let mut fields: Vec<_> = keys.iter().map(|key| schema.fields()[*key].clone()).collect();
        fields.extend(aggregates.iter().map(|call| call.output.clone()));
        let before = self.properties(input);
        let properties = Properties {
            // As in Flink, also for DISTINCT over rows that are never taken back.
            updating: true,
            upsert_key: Some((0..keys.len()).collect()),
            // A time attribute among the keys is an ordinary timestamp from here on: results do not come in its order.
            time_attributes: vec![],
            window: None,
            state: StateLifetime::Forever,
            bounded: before.bounded,
        };
        let input_updating = before.updating;
        let exchange = if keys.is_empty() { Exchange::Single } else { Exchange::Hash(keys.clone()) };
        let kind = NodeKind::GroupAggregate(GroupAggregate { keys, aggregates, input_updating, window_time: None });
        let node = self.add(kind, vec![Input { node: input, exchange }], Arc::new(Schema::new(fields)), properties, place);
        Ok(whole(node, aggregate.schema.clone()))
    }
}

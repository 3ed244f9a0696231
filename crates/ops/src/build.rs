//! From plan nodes to operators.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use thalweg_core::{Error, LookupTable, Result};
use thalweg_plan::{Node, NodeKind, StateLifetime, WindowAggregate};

use crate::assign_window::AssignWindowOperator;
use crate::deduplicate::DeduplicateOperator;
use crate::filter::FilterOperator;
use crate::in_turn::InTurnOperator;
use crate::interval_join::IntervalJoinOperator;
use crate::join::JoinOperator;
use crate::lookup_join::LookupJoinOperator;
use crate::normalize::NormalizeOperator;
use crate::processing_time::ProcessingTimeOperator;
use crate::project::ProjectOperator;
use crate::session::SessionOperator;
use crate::set_operation::SetOperationOperator;
use crate::sink_materialize::SinkMaterializeOperator;
use crate::temporal_join::TemporalJoinOperator;
use crate::temporal_sort::TemporalSortOperator;
use crate::time_to_live::TimeToLiveOperator;
use crate::top_n::TopNOperator;
use crate::union::UnionOperator;
use crate::unnest::UnnestOperator;
use crate::window_aggregate::{GlobalWindowAggregate, LocalWindowAggregate, WindowAggregateLayout};
use crate::window_join::WindowJoinOperator;
use crate::window_top_n::WindowTopNOperator;
use crate::{Operator, OperatorContext, group_aggregate, over};

/// The operator of a node that is one operator. `input_schemas` are those of the node's inputs, by port.
/// # Errors
/// `User` for a time zone that does not exist; `Internal` for nodes that are not one operator: sources, values and sinks are
/// the runtime's, window aggregates are made by [`build_local`] and [`build_global`], lookup joins by [`build_lookup_join`].
pub fn build(node: &Node, input_schemas: &[SchemaRef], context: &OperatorContext) -> Result<Box<dyn Operator>> {
    let operator = forgetting(node, input_schemas, context)?;
    let (in_turn, keys) = match &node.kind {
        NodeKind::TopN(top) => (top.in_turn, &top.partition),
        NodeKind::Deduplicate(deduplicate) => (deduplicate.in_turn, &deduplicate.keys),
        NodeKind::Over(over) => (over.in_turn, &over.partition),
        _ => return Ok(operator),
    };
    Ok(match in_turn {
        Some(in_turn) => Box::new(InTurnOperator::new(operator, in_turn, only_input(node, input_schemas)?, keys, context)?),
        None => operator,
    })
}

/// The operator, which forgets keys if they have a time to live.
fn forgetting(node: &Node, input_schemas: &[SchemaRef], context: &OperatorContext) -> Result<Box<dyn Operator>> {
    let mut operator = operator_of(node, input_schemas, context)?;
    if context.ignores_unmatched {
        operator.ignore_unmatched();
    }
    let StateLifetime::TimeToLive { ms } = node.properties.state else {
        return Ok(operator);
    };
    let Some(input) = input_schemas.first() else {
        return Ok(operator);
    };
    let columns = match &node.kind {
        NodeKind::GroupAggregate(aggregate) => aggregate.keys.clone(),
        NodeKind::TopN(top) => top.partition.clone(),
        NodeKind::Deduplicate(deduplicate) => deduplicate.keys.clone(),
        NodeKind::Over(over) => over.partition.clone(),
        NodeKind::Normalize(normalize) => normalize.keys.clone(),
        NodeKind::SinkMaterialize(sink) => sink.keys.clone(),
        NodeKind::SetOperation(_) => (0..input.fields().len()).collect(),
        // A join sees to it itself, for each of its sides.
        _ => return Ok(operator),
    };
    let is_free = matches!(node.kind, NodeKind::SetOperation(_));
    let keys: Vec<FieldRef> = columns
        .iter()
        .map(|column| {
            let field = &input.fields()[*column];
            if is_free { Arc::new(field.as_ref().clone().with_nullable(true)) } else { field.clone() }
        })
        .collect();
    Ok(Box::new(TimeToLiveOperator::new(operator, columns, &keys, ms)?))
}

fn operator_of(node: &Node, input_schemas: &[SchemaRef], context: &OperatorContext) -> Result<Box<dyn Operator>> {
    match &node.kind {
        NodeKind::Project(project) => Ok(Box::new(ProjectOperator::new(project, node.schema.clone()))),
        NodeKind::Filter(filter) => Ok(Box::new(FilterOperator::new(filter))),
        NodeKind::ProcessingTime(clock) => Ok(Box::new(ProcessingTimeOperator::new(clock, node.schema.clone(), context))),
        NodeKind::AssignWindow(assign) => {
            let input = only_input(node, input_schemas)?;
            Ok(Box::new(AssignWindowOperator::new(assign, input, node.schema.clone(), context.batch_rows)?))
        }
        NodeKind::Session(session) => {
            let input = only_input(node, input_schemas)?;
            Ok(Box::new(SessionOperator::new(session, input, &node.schema, context)?))
        }
        NodeKind::GroupAggregate(aggregate) => {
            let input = only_input(node, input_schemas)?;
            group_aggregate::create(aggregate, input, node.schema.clone(), context)
        }
        NodeKind::Join(join) => {
            let [left, right] = input_schemas else {
                return Err(Error::internal(format!("node {} has {} inputs in place of two", node.id, input_schemas.len())));
            };
            Ok(Box::new(JoinOperator::new(join, node.properties.state, [left, right], node.schema.clone(), context)?))
        }
        NodeKind::IntervalJoin(join) => {
            Ok(Box::new(IntervalJoinOperator::new(join, input_schemas, node.schema.clone(), context)?))
        }
        NodeKind::WindowJoin(join) => Ok(Box::new(WindowJoinOperator::new(join, input_schemas, node.schema.clone(), context)?)),
        NodeKind::TemporalJoin(join) => {
            Ok(Box::new(TemporalJoinOperator::new(join, input_schemas, node.schema.clone(), context)?))
        }
        NodeKind::TopN(top) => {
            let input = only_input(node, input_schemas)?;
            TopNOperator::create(top, input, node.schema.clone(), context.batch_rows)
        }
        NodeKind::WindowTopN(top) => {
            let input = only_input(node, input_schemas)?;
            Ok(Box::new(WindowTopNOperator::new(top, input, node.schema.clone(), context)?))
        }
        NodeKind::Deduplicate(dedup) => {
            let input = only_input(node, input_schemas)?;
            Ok(Box::new(DeduplicateOperator::new(dedup, input, node.schema.clone(), context.batch_rows)?))
        }
        NodeKind::Over(over) => {
            let input = only_input(node, input_schemas)?;
            over::create(over, input, node.schema.clone(), context)
        }
        NodeKind::TemporalSort(sort) => {
            let input = only_input(node, input_schemas)?;
            Ok(Box::new(TemporalSortOperator::new(sort, input, context)?))
        }
        NodeKind::Unnest(unnest) => {
            let input = only_input(node, input_schemas)?;
            Ok(Box::new(UnnestOperator::new(unnest, input, node.schema.clone(), context.batch_rows)?))
        }
        NodeKind::SetOperation(operation) => {
            let [left, _] = input_schemas else {
                return Err(Error::internal(format!("node {} has not two inputs", node.id)));
            };
            Ok(Box::new(SetOperationOperator::new(operation, left, node.schema.clone())?))
        }
        NodeKind::Normalize(normalize) => {
            let input = only_input(node, input_schemas)?;
            Ok(Box::new(NormalizeOperator::new(normalize, input, node.schema.clone())?))
        }
        NodeKind::SinkMaterialize(sink) => {
            let input = only_input(node, input_schemas)?;
            Ok(Box::new(SinkMaterializeOperator::new(sink, input, node.schema.clone())?))
        }
        NodeKind::Union => Ok(Box::new(UnionOperator::new(node.schema.clone()))),
        _ => Err(Error::internal(format!("node {} is not a single operator", node.id))),
    }
}

/// The operator of a lookup join, with what it asks.
pub fn build_lookup_join(
    node: &Node,
    input_schema: &SchemaRef,
    table: Box<dyn LookupTable>,
    context: &OperatorContext,
) -> Result<Box<dyn Operator>> {
    let NodeKind::LookupJoin(join) = &node.kind else {
        return Err(Error::internal(format!("node {} is a {}, not a lookup join", node.id, node.kind.name())));
    };
    Ok(Box::new(LookupJoinOperator::new(join, input_schema, node.schema.clone(), table, context.batch_rows)?))
}

/// The half of a window aggregate before the exchange: raw rows in, rows of [`partial_schema`] out.
pub fn build_local(node: &Node, input_schema: &SchemaRef, context: &OperatorContext) -> Result<Box<dyn Operator>> {
    let layout = WindowAggregateLayout::new(window_aggregate(node)?, input_schema, &node.schema)?;
    Ok(Box::new(LocalWindowAggregate::new(layout, context)?))
}

/// The half of a window aggregate behind the exchange: rows of [`partial_schema`] in, the node's rows out.
/// `input_schema` is that of the node's input, not of the partial rows.
pub fn build_global(node: &Node, input_schema: &SchemaRef, context: &OperatorContext) -> Result<Box<dyn Operator>> {
    let layout = WindowAggregateLayout::new(window_aggregate(node)?, input_schema, &node.schema)?;
    Ok(Box::new(GlobalWindowAggregate::new(layout, context)?))
}

/// What passes from the local half of a window aggregate to the global one:
/// `[slice_end: Int64, eligible_from: Int64, rows: Int64, keys…, states…]`, both times in milliseconds of the window's local
/// time. The keys begin at [`crate::PARTIAL_KEYS_START`].
pub fn partial_schema(node: &Node, input_schema: &SchemaRef) -> Result<SchemaRef> {
    Ok(WindowAggregateLayout::new(window_aggregate(node)?, input_schema, &node.schema)?.partial_schema.clone())
}

fn window_aggregate(node: &Node) -> Result<&WindowAggregate> {
    match &node.kind {
        NodeKind::WindowAggregate(aggregate) => Ok(aggregate),
        other => Err(Error::internal(format!("node {} is a {}, not a window aggregate", node.id, other.name()))),
    }
}

fn only_input<'a>(node: &Node, input_schemas: &'a [SchemaRef]) -> Result<&'a SchemaRef> {
    match input_schemas {
        [input] => Ok(input),
        other => Err(Error::internal(format!("node {} has {} inputs in place of one", node.id, other.len()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::physical_expr::expressions::Column;
    use thalweg_core::{Batch, ErrorKind, LaneId};
    use thalweg_plan::{Expr, Filter, OperatorId, Project, Properties};

    use super::*;
    use crate::Output;

    fn column(name: &str, index: usize, data_type: DataType) -> Expr {
        Expr { physical: Arc::new(Column::new(name, index)), text: name.to_string(), data_type, nullable: true, span: None }
    }

    /// What an operator of `kind` gives for the rows (1, true), (2, null), (3, false), (4, true), weights 1, -1, 1, -1.
    fn check(kind: NodeKind, schema: SchemaRef) -> Vec<Batch> {
        let input: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("wanted", DataType::Boolean, true)]));
        let id = OperatorId("node".to_string());
        let node = Node { id, kind, inputs: vec![], schema, properties: Properties::default(), span: None };
        let context =
            OperatorContext { lane: LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: 100, ignores_unmatched: false };
        let mut operator = build(&node, std::slice::from_ref(&input), &context).unwrap();
        let wanted = BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]);
        let rows = RecordBatch::try_new(input, vec![Arc::new(Int64Array::from(vec![1, 2, 3, 4])), Arc::new(wanted)]).unwrap();
        let weights = Some(Int64Array::from(vec![1, -1, 1, -1]));
        let row_watermarks = Some(Int64Array::from(vec![10, 20, 30, 40]));
        let mut out = Output::default();
        operator.on_batch(0, Batch { weights, row_watermarks, ..Batch::append(rows) }, &mut out).unwrap();
        out.batches
    }

    #[test]
    fn filters_keep_what_is_true_and_its_hidden_columns() {
        let predicate = column("wanted", 1, DataType::Boolean);
        let batches = check(NodeKind::Filter(Filter { predicate }), Arc::new(Schema::empty()));
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().values(), &[1, 4]);
        assert_eq!(batches[0].weights.as_ref().unwrap().values(), &[1, -1]);
        assert_eq!(batches[0].row_watermarks.as_ref().unwrap().values(), &[10, 40]);
    }

    #[test]
    fn projections_may_have_no_columns() {
        let one = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let batches = check(NodeKind::Project(Project { exprs: vec![column("id", 0, DataType::Int64)] }), one.clone());
        assert_eq!(batches[0].schema(), one);
        assert_eq!(batches[0].weights.as_ref().unwrap().values(), &[1, -1, 1, -1]);
        let batches = check(NodeKind::Project(Project { exprs: vec![] }), Arc::new(Schema::empty()));
        assert_eq!((batches[0].num_rows(), batches[0].rows.num_columns()), (4, 0));
    }

    #[test]
    fn unions_have_names_of_their_own() {
        let names = ["a", "b"].map(|name| Field::new(name, DataType::Int64, true));
        let schema = Arc::new(Schema::new(vec![names[0].clone(), names[1].clone().with_data_type(DataType::Boolean)]));
        let batches = check(NodeKind::Union, schema.clone());
        assert_eq!((batches[0].schema(), batches[0].num_rows()), (schema, 4));
    }

    #[test]
    fn other_nodes_are_not_one_operator() {
        let kind = NodeKind::Values(RecordBatch::new_empty(Arc::new(Schema::empty())));
        let node = Node {
            id: OperatorId("node".to_string()),
            kind,
            inputs: vec![],
            schema: Arc::new(Schema::empty()),
            properties: Properties::default(),
            span: None,
        };
        let context =
            OperatorContext { lane: LaneId(0), lanes: 1, key_groups: 0..128, batch_rows: 100, ignores_unmatched: false };
        let kind = |result: Result<Box<dyn Operator>>| result.err().map(|error| error.kind);
        assert_eq!(kind(build(&node, &[], &context)), Some(ErrorKind::Internal));
        assert_eq!(kind(build_local(&node, &node.schema, &context)), Some(ErrorKind::Internal));
    }
}

//! From plan nodes to operators.

use arrow::datatypes::SchemaRef;
use thalweg_core::{Error, Result};
use thalweg_plan::{Node, NodeKind, WindowAggregate};

use crate::assign_window::AssignWindowOperator;
use crate::filter::FilterOperator;
use crate::project::ProjectOperator;
use crate::union::UnionOperator;
use crate::window_aggregate::{GlobalWindowAggregate, LocalWindowAggregate, WindowAggregateLayout};
use crate::{Operator, OperatorContext};

/// The operator of a node that is one operator. `input_schemas` are those of the node's inputs, by port.
/// # Errors
/// `User` for a time zone that does not exist; `Internal` for nodes that are not one operator: sources, values and sinks are
/// the runtime's, window aggregates are made by [`build_local`] and [`build_global`].
pub fn build(node: &Node, input_schemas: &[SchemaRef], context: &OperatorContext) -> Result<Box<dyn Operator>> {
    match &node.kind {
        NodeKind::Project(project) => Ok(Box::new(ProjectOperator::new(project, node.schema.clone()))),
        NodeKind::Filter(filter) => Ok(Box::new(FilterOperator::new(filter))),
        NodeKind::AssignWindow(assign) => {
            let input = only_input(node, input_schemas)?;
            Ok(Box::new(AssignWindowOperator::new(assign, input, node.schema.clone(), context.batch_rows)?))
        }
        NodeKind::Union => Ok(Box::new(UnionOperator::new(node.schema.clone()))),
        NodeKind::Source(_) | NodeKind::Values(_) | NodeKind::Sink(_) | NodeKind::WindowAggregate(_) => {
            Err(Error::internal(format!("node {} is not a single operator", node.id)))
        }
    }
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

//! INTERSECT and EXCEPT in DataFusion's logical plan, which has semi joins in their place: wrong with ALL.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::type_coercion::binary::type_union_coercion;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore};
use datafusion::optimizer::AnalyzerRule;
use thalweg_core::{Code, Diagnostic};
use thalweg_plan::SetKind;

use super::approximate::with_types;
use super::error::refuse;
use super::type_name::sql_type_of;

/// A set operation. Its inputs have the same columns, names included, so a filter may move below it into both.
#[derive(Clone, Debug)]
pub(crate) struct SetOperationNode {
    pub(crate) kind: SetKind,
    pub(crate) all: bool,
    pub(crate) left: LogicalPlan,
    pub(crate) right: LogicalPlan,
    schema: DFSchemaRef,
}

impl SetOperationNode {
    /// `left` and `right` have equal numbers of columns; both get the names of `left`.
    pub(crate) fn new(kind: SetKind, all: bool, left: LogicalPlan, right: LogicalPlan) -> Result<Self> {
        let names: Vec<String> = left.schema().fields().iter().map(|field| field.name().clone()).collect();
        let (left, right) = (named(left, &names)?, named(right, &names)?);
        // A row that comes out is one of the left side.
        let fields = left.schema().fields().iter().map(|field| (None, field.clone())).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(SetOperationNode { kind, all, left, right, schema })
    }

    fn parts(&self) -> (SetKind, bool, &LogicalPlan, &LogicalPlan) {
        (self.kind, self.all, &self.left, &self.right)
    }
}

/// `plan` with columns of these names and no qualifiers.
fn named(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    let is_named = |((qualifier, field), name): ((Option<_>, &Arc<_>), &String)| {
        let field: &datafusion::arrow::datatypes::Field = field;
        qualifier.is_none() && field.name() == name
    };
    if plan.schema().iter().zip(names).all(is_named) {
        return Ok(plan);
    }
    let renamed = plan.schema().columns().into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name));
    let renamed: Vec<Expr> = renamed.collect();
    LogicalPlanBuilder::from(plan).project(renamed)?.build()
}

impl PartialEq for SetOperationNode {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for SetOperationNode {}

impl Hash for SetOperationNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialOrd for SetOperationNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for SetOperationNode {
    fn name(&self) -> &str {
        super::from_call::set_operation_name(self.kind, self.all)
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(UserDefinedLogicalNodeCore::name(self))
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.pop()) {
            (Some(right), Some(left)) => SetOperationNode::new(self.kind, self.all, left, right),
            _ => internal_err!("a set operation has two inputs"),
        }
    }
}

/// Gives both inputs of a set operation the same types.
#[derive(Debug)]
pub(crate) struct CommonTypes;

impl AnalyzerRule for CommonTypes {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|node| {
            if let LogicalPlan::Extension(extension) = &node
                && let Some(operation) = extension.node.as_any().downcast_ref::<SetOperationNode>()
            {
                let (left, right) = with_common_types(operation)?;
                let node = Arc::new(SetOperationNode::new(operation.kind, operation.all, left, right)?);
                return Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })));
            }
            Ok(Transformed::yes(node.recompute_schema()?))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "common_types"
    }
}

fn with_common_types(operation: &SetOperationNode) -> Result<(LogicalPlan, LogicalPlan)> {
    let mut types = vec![];
    for (left, right) in operation.left.schema().fields().iter().zip(operation.right.schema().fields()) {
        let common = type_union_coercion(left.data_type(), right.data_type());
        types.push(common.ok_or_else(|| {
            let message = format!(
                "the queries of {} have {} and {} in column \"{}\"",
                super::from_call::set_operation_name(operation.kind, operation.all).replace(" DISTINCT", ""),
                sql_type_of(left),
                sql_type_of(right),
                left.name()
            );
            refuse(Diagnostic::error(Code::TYPE_MISMATCH, message).help("CAST one of them to the type of the other"))
        })?);
    }
    Ok((with_types(&operation.left, &types)?, with_types(&operation.right, &types)?))
}

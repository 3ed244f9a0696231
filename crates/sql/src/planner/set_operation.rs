//! INTERSECT and EXCEPT, from SQL to a node.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{SetExpr, SetOperator, SetQuantifier};
use datafusion::sql::sqlparser::tokenizer::Span;
use thalweg_core::{Code, Diagnostic};
use thalweg_plan::{Exchange, Input, NodeKind, Properties, SetKind, SetOperation, StateLifetime};

use super::ast_build;
use super::error::refuse;
use super::from_call::{FromCall, set_operation_name, subquery};
use super::lower::{Lowering, whole};
use super::operator::have_common_family;
use super::relation::Relation;
use super::set_operation_node::SetOperationNode;
use super::unique_names::with_unique_names;

/// Puts the INTERSECTs and EXCEPTs of a query's body into FROM, where [`super::from_call`] binds them.
pub(crate) fn rewrite(body: &mut SetExpr) {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else {
        return;
    };
    let kind = match op {
        SetOperator::Intersect => SetKind::Intersect,
        SetOperator::Except | SetOperator::Minus => SetKind::Except,
        SetOperator::Union => {
            rewrite(left);
            rewrite(right);
            return;
        }
    };
    let name = set_operation_name(kind, *set_quantifier == SetQuantifier::All);
    let argument = |side: &mut Box<SetExpr>| subquery(std::mem::replace(&mut **side, ast_build::nothing()));
    let arguments = vec![argument(left), argument(right)];
    *body = ast_build::select_all(ast_build::table_call(ast_build::call(name, Span::empty(), arguments), None));
}

pub(crate) fn plan(mut call: FromCall, kind: SetKind, all: bool) -> Result<LogicalPlan> {
    let left = with_unique_names(call.query(0)?)?;
    let right = call.query(1)?;
    let place = call.arguments.get(1).and_then(|right| call.place_of(right));
    let name = set_operation_name(kind, all).replace(" DISTINCT", "");
    let (left_fields, right_fields) = (left.schema().fields(), right.schema().fields());
    if left_fields.len() != right_fields.len() {
        return Err(refuse(
            Diagnostic::error(Code::TYPE_MISMATCH, format!("the queries of {name} have different numbers of columns"))
                .label_opt(place, "does not fit the query before it")
                .help(format!("the first one has {}, this one {}", left_fields.len(), right_fields.len())),
        ));
    }
    for (left, right) in left_fields.iter().zip(right_fields) {
        if !have_common_family([left.data_type().clone(), right.data_type().clone()].into_iter()) {
            return Err(refuse(
                Diagnostic::error(Code::TYPE_MISMATCH, format!("the queries of {name} have columns of different types"))
                    .label_opt(place, "does not fit the query before it")
                    .help(format!("CAST column '{}' to the type that it has in the other query", left.name())),
            ));
        }
    }
    let node = SetOperationNode::new(kind, all, left, right)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

impl Lowering<'_> {
    /// Lowers INTERSECT or EXCEPT: rows meet by all of their columns.
    pub(crate) fn set_operation(&mut self, operation: &SetOperationNode) -> Result<Relation, Diagnostic> {
        let schema = datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(operation).clone();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let left = self.lower(&operation.left)?;
        let left = self.settle(left, &names)?;
        let right = self.lower(&operation.right)?;
        let right = self.settle(right, &names)?;
        let columns: Vec<usize> = (0..names.len()).collect();
        let (before, other) = (self.properties(left), self.properties(right));
        let appends = !before.updating && !other.updating;
        let properties = Properties {
            // More rows on both sides never take one back; a row on the right of EXCEPT does.
            updating: !(appends && operation.kind == SetKind::Intersect),
            upsert_key: before.upsert_key.clone().or_else(|| (!operation.all).then(|| columns.clone())),
            time_attributes: vec![],
            window: None,
            state: StateLifetime::Forever,
            bounded: before.bounded && other.bounded,
        };
        // Rows of both sides are kept, though only those of the left one come out.
        let (left_fields, right_fields) = (self.schema(left).fields(), self.schema(right).fields());
        let fields = left_fields.iter().zip(right_fields).map(|(field, other)| {
            let nullable = field.is_nullable() || other.is_nullable();
            field.as_ref().clone().with_nullable(nullable)
        });
        let node_schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let edges = [left, right].map(|node| Input { node, exchange: Exchange::Hash(columns.clone()) });
        let kind = NodeKind::SetOperation(SetOperation { kind: operation.kind, all: operation.all });
        let node = self.add(kind, edges.to_vec(), node_schema, properties, None);
        Ok(whole(node, schema))
    }
}

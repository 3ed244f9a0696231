//! UNNEST in DataFusion's logical plan: its own form loses null and empty collections, ordinality and the columns beside it.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference, internal_err};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore};

use super::type_name::sql_type_of;

/// What is said about an UNNEST beside its collection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct UnnestCall {
    pub(crate) ordinality: bool,
    /// LEFT JOIN: a row without elements comes once, with nulls.
    pub(crate) keep_empty: bool,
    /// What elements must fulfil, over their columns alone, as it was bound: its types are not settled.
    pub(crate) condition: Option<Expr>,
    /// The alias, and the names that it gives to the columns; none for their own names.
    pub(crate) alias: Option<String>,
    pub(crate) names: Vec<String>,
}

/// The input's columns, then those of the elements of a collection.
#[derive(Clone, Debug)]
pub(crate) struct UnnestNode {
    pub(crate) input: LogicalPlan,
    pub(crate) collection: Expr,
    pub(crate) call: UnnestCall,
    schema: DFSchemaRef,
}

/// The columns that the elements of a collection have; `None` if it is none.
pub(crate) fn element_fields(collection: &Field, call: &UnnestCall) -> Option<Vec<FieldRef>> {
    // An alias without names is also the name of a single element, as in Flink.
    let element = call.alias.as_deref().filter(|_| call.names.is_empty()).unwrap_or("EXPR$0");
    let nullable = |name: &str, field: &FieldRef| Arc::new(field.as_ref().clone().with_name(name).with_nullable(true));
    let mut fields: Vec<FieldRef> = match collection.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => match item.data_type() {
            DataType::Struct(fields) => fields.iter().map(|field| nullable(field.name(), field)).collect(),
            _ => vec![nullable(element, item)],
        },
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 && is_multiset(collection) => match pair[0].data_type() {
                DataType::Struct(fields) => fields.iter().map(|field| nullable(field.name(), field)).collect(),
                _ => vec![nullable(element, &pair[0])],
            },
            DataType::Struct(pair) if pair.len() == 2 => vec![nullable("KEY", &pair[0]), nullable("VALUE", &pair[1])],
            _ => return None,
        },
        _ => return None,
    };
    if call.ordinality {
        fields.push(Arc::new(Field::new("ORDINALITY", DataType::Int32, call.keep_empty)));
    }
    if call.names.len() == fields.len() {
        fields = fields.iter().zip(&call.names).map(|(field, name)| Arc::new(field.as_ref().clone().with_name(name))).collect();
    }
    Some(fields)
}

/// Whether a column is a MULTISET, which Arrow has as a MAP from value to count.
pub(crate) fn is_multiset(field: &Field) -> bool {
    sql_type_of(field).starts_with("MULTISET")
}

impl UnnestNode {
    pub(crate) fn new(input: LogicalPlan, collection: Expr, call: UnnestCall) -> Result<Self> {
        let (_, field) = collection.to_field(input.schema())?;
        let Some(added) = element_fields(&field, &call) else {
            return internal_err!("UNNEST of {field}");
        };
        let qualifier = call.alias.as_ref().map(|alias| TableReference::bare(alias.as_str()));
        let mut fields: Vec<_> = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
        fields.extend(added.into_iter().map(|field| (qualifier.clone(), field)));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(UnnestNode { input, collection, call, schema })
    }

    fn parts(&self) -> (&LogicalPlan, &Expr, &UnnestCall) {
        (&self.input, &self.collection, &self.call)
    }
}

impl PartialEq for UnnestNode {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for UnnestNode {}

impl Hash for UnnestNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialOrd for UnnestNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for UnnestNode {
    fn name(&self) -> &str {
        "UNNEST"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.collection.clone()]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let width = self.input.schema().fields().len();
        self.schema.fields().iter().skip(width).map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "UNNEST {}", self.collection)?;
        self.call.condition.iter().try_for_each(|condition| write!(f, " IF {condition}"))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (exprs.pop(), inputs.pop()) {
            (Some(collection), Some(input)) => UnnestNode::new(input, collection, self.call.clone()),
            _ => internal_err!("UNNEST has one collection and one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // Those of the collection are added by the caller.
        let width = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|column| *column < width).collect()])
    }
}

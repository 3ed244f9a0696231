//! UNNEST, from SQL to a node.
//!
//! `FROM a CROSS JOIN UNNEST(a.items) AS t (item)` becomes the call `UNNEST OF(a, a.items, …)` in FROM: so the collection is bound
//! over the columns before it.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, DFSchemaRef, Result, ScalarValue, TableReference, internal_err};
use datafusion::logical_expr::{
    Expr as LogicalExpr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore,
};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, Join, JoinConstraint, JoinOperator, TableFactor, TableWithJoins, Value,
    ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Span as ParserSpan;
use thalweg_core::{Code, Diagnostic, Span};
use thalweg_plan::{Exchange, Input, NodeKind, Properties, StateLifetime, Unnest};

use super::error::refuse;
use super::from_call::{FromCall, UNNEST_OF, joined};
use super::lower::Lowering;
use super::optimize::optimise_expression;
use super::project::ProjectBuilder;
use super::relation::{Origin, Relation};
use super::type_name::sql_type_of;
use super::unnest_node::{UnnestCall, UnnestNode, element_fields, is_multiset};
use super::{ast_build, expression, span};

/// Whether a factor of FROM is an UNNEST.
pub(crate) fn is_unnest(factor: &TableFactor) -> bool {
    matches!(factor, TableFactor::Table { name, args: Some(_), .. } if name.to_string().eq_ignore_ascii_case("UNNEST"))
}

/// The call that stands for `left JOIN UNNEST(…)`; `left` is `None` where the UNNEST comes first in FROM.
pub(crate) fn joined_with(left: Option<TableWithJoins>, join: Join) -> TableFactor {
    let (keep_empty, condition) = match join.join_operator {
        JoinOperator::Left(JoinConstraint::On(condition)) | JoinOperator::LeftOuter(JoinConstraint::On(condition)) => {
            (true, Some(condition))
        }
        JoinOperator::Join(JoinConstraint::On(condition)) | JoinOperator::Inner(JoinConstraint::On(condition)) => {
            (false, Some(condition))
        }
        _ => (false, None),
    };
    let TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } = join.relation else {
        return join.relation;
    };
    let place = datafusion::sql::sqlparser::ast::Spanned::span(&name);
    let left = left.map_or_else(|| boolean(false), joined);
    let collection = args.args.into_iter().next().and_then(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    let (alias, columns) = alias.map_or((None, vec![]), |alias| {
        (Some(alias.name), alias.columns.into_iter().map(|column| column.name).collect::<Vec<_>>())
    });
    let mut arguments = vec![
        left,
        collection.unwrap_or_else(|| boolean(false)),
        boolean(keep_empty),
        boolean(with_ordinality),
        condition.unwrap_or_else(|| boolean(true)),
    ];
    // The alias and its columns come as names, quoted so that nothing else takes them for something.
    arguments.extend(alias.into_iter().chain(columns).map(Expr::Identifier));
    ast_build::table_call(ast_build::call(UNNEST_OF, place, arguments), None)
}

fn boolean(value: bool) -> Expr {
    Expr::Value(ValueWithSpan { value: Value::Boolean(value), span: ParserSpan::empty() })
}

fn is_boolean(expr: &Expr, expected: bool) -> bool {
    matches!(expr, Expr::Value(ValueWithSpan { value: Value::Boolean(value), .. }) if *value == expected)
}

pub(crate) fn plan(mut call: FromCall) -> Result<LogicalPlan> {
    let [left, collection, keep_empty, ordinality, condition, names @ ..] = call.arguments.as_slice() else {
        return internal_err!("UNNEST has five arguments and its names");
    };
    let (collection, condition) = (collection.clone(), condition.clone());
    let keep_empty = is_boolean(keep_empty, true);
    let mut names = names.iter().filter_map(|name| match name {
        Expr::Identifier(Ident { value, .. }) => Some(value.clone()),
        _ => None,
    });
    let call_names = (names.next(), names.collect::<Vec<String>>());
    let ordinality = is_boolean(ordinality, true);
    let (alias, names) = call_names;
    let mut unnest = UnnestCall { ordinality, keep_empty, condition: None, alias, names };
    let has_left = !is_boolean(left, false);
    let input = if has_left { call.joined(0)? } else { LogicalPlanBuilder::empty(true).build()? };
    let place = call.place_of(&collection).or(call.place);
    let bound = call.context.sql_to_expr(collection, input.schema())?;
    let (_, field) = bound.to_field(input.schema())?;
    let Some(fields) = element_fields(&field, &unnest) else {
        let message = format!("UNNEST takes an ARRAY, a MAP or a MULTISET, not {}", sql_type_of(&field));
        return Err(refuse(Diagnostic::error(Code::TYPE_MISMATCH, message).label_opt(place, "no collection")));
    };
    if !unnest.names.is_empty() && unnest.names.len() != fields.len() {
        let message = format!("UNNEST gives {} columns here, {} names are given", fields.len(), unnest.names.len());
        let own: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        return Err(refuse(
            Diagnostic::error(Code::BAD_ARGUMENTS, message)
                .label_opt(place, "unnested here")
                .help(format!("name all of them: {}", own.join(", "))),
        ));
    }
    let is_true = is_boolean(&condition, true);
    if keep_empty && !is_true {
        // What is wrong in it anyway is said first.
        let all = UnnestNode::new(input.clone(), bound.clone(), unnest.clone())?;
        call.context.sql_to_expr(condition.clone(), UserDefinedLogicalNodeCore::schema(&all))?;
        unnest.condition = Some(element_condition(&mut call, condition.clone(), &element_schema(&fields, &unnest)?)?);
    }
    let node = UnnestNode::new(input, bound, unnest)?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    if keep_empty || is_true {
        return Ok(plan);
    }
    let place = call.place_of(&condition);
    let condition = checked_condition(call.context.sql_to_expr(condition, plan.schema())?, plan.schema(), place)?;
    LogicalPlanBuilder::from(plan).filter(condition)?.build()
}

/// The columns of an element, without its number.
fn element_schema(fields: &[FieldRef], unnest: &UnnestCall) -> Result<DFSchemaRef> {
    let qualifier = unnest.alias.as_deref().map(TableReference::bare);
    let width = fields.len() - usize::from(unnest.ordinality);
    let columns = fields[..width].iter().map(|field| (qualifier.clone(), field.clone())).collect();
    Ok(Arc::new(DFSchema::new_with_metadata(columns, Default::default())?))
}

/// The condition of a LEFT JOIN UNNEST, which decides about elements alone, as in Flink.
fn element_condition(call: &mut FromCall, condition: Expr, elements: &DFSchemaRef) -> Result<LogicalExpr> {
    let place = call.place_of(&condition);
    let bound = call.context.sql_to_expr(condition, elements).map_err(|_| {
        refuse(
            Diagnostic::error(Code::NOT_IN_FLINK, "ON of LEFT JOIN UNNEST can compare nothing but columns of the elements")
                .label_opt(place, "another column")
                .help("unnest in a subquery and join its rows, or put the condition into WHERE"),
        )
    })?;
    if bound
        .exists(|part| Ok(matches!(part, LogicalExpr::ScalarSubquery(_) | LogicalExpr::Exists(_) | LogicalExpr::InSubquery(_))))?
    {
        return Err(refuse(
            Diagnostic::error(Code::NOT_YET, "a subquery in ON of LEFT JOIN UNNEST does not run yet")
                .label_opt(place, "this condition")
                .help("unnest in a subquery, and compare its rows in ON or WHERE of the query around it"),
        ));
    }
    let bound = checked_condition(bound, elements, place)?;
    optimise_expression(bound.clone(), elements)?;
    Ok(bound)
}

/// The condition of a join with UNNEST over `schema`; that of NULL is never true.
fn checked_condition(bound: LogicalExpr, schema: &DFSchema, place: Option<Span>) -> Result<LogicalExpr> {
    let refused = |code: Code, message: &str, label: &str, help: &str| {
        refuse(Diagnostic::error(code, message).label_opt(place, label).help(help))
    };
    if bound.exists(|part| Ok(matches!(part, LogicalExpr::AggregateFunction(_) | LogicalExpr::WindowFunction(_))))? {
        let help = "put the condition into HAVING, or into WHERE of a query around this one";
        return Err(refused(
            Code::BAD_GROUPING,
            "ON cannot use an aggregate: it chooses rows before they are grouped",
            "here",
            help,
        ));
    }
    match bound.get_type(schema)? {
        DataType::Boolean => Ok(bound),
        DataType::Null => Ok(LogicalExpr::Literal(ScalarValue::Boolean(None), None)),
        _ => {
            let help = "compare it with something, such as amount > 0";
            Err(refused(Code::TYPE_MISMATCH, "a condition is not BOOLEAN", "not a condition", help))
        }
    }
}

impl Lowering<'_> {
    pub(crate) fn unnest(&mut self, unnest: &UnnestNode) -> Result<Relation, Diagnostic> {
        let relation = self.lower(&unnest.input)?;
        let mut relation = self.assign_window(relation)?;
        let place = span::of_expr(&unnest.collection);
        let column = match relation.origin_of(&unnest.collection) {
            Some(Origin::Node(column)) => column,
            _ => {
                let computed = self.expression(&relation, &unnest.collection, "the collection of UNNEST")?;
                let mut project = ProjectBuilder::default();
                let node = relation.node;
                for origin in &mut relation.origins {
                    if let Origin::Node(column) = origin {
                        *column = project.column(self, node, *column);
                    }
                }
                for attribute in self.properties(node).time_attributes.clone() {
                    project.column(self, node, attribute.column);
                }
                let name = computed.text.clone();
                let column = project.push(self, node, computed, &name);
                relation.node = project.add(self, node);
                column
            }
        };
        let input = self.schema(relation.node).clone();
        let schema = UserDefinedLogicalNodeCore::schema(unnest).clone();
        let logical_width = relation.origins.len();
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        fields.extend(schema.fields().iter().skip(logical_width).cloned());
        let added = (0..schema.fields().len() - logical_width).map(|index| Origin::Node(input.fields().len() + index));
        let mut origins = relation.origins;
        origins.extend(added);
        let properties = Properties {
            // A row comes as often as it has elements.
            upsert_key: None,
            state: StateLifetime::Stateless,
            ..self.properties(relation.node).clone()
        };
        let collection_field = self.collection_field(unnest)?;
        let condition = match &unnest.call.condition {
            Some(condition) => {
                let elements = element_fields(&collection_field, &unnest.call).unwrap_or_default();
                // Its types are settled only now: the numbers of the collection have become narrower since it was bound.
                let settled = element_schema(&elements, &unnest.call)
                    .and_then(|elements| Ok((optimise_expression(condition.clone(), &elements)?, elements)));
                let (condition, elements) = settled.map_err(|error| super::error::finding(&error, None))?;
                Some(expression::create(&condition, &elements, "the condition of UNNEST")?)
            }
            None => None,
        };
        let kind = NodeKind::Unnest(Unnest {
            column,
            ordinality: unnest.call.ordinality,
            keep_empty: unnest.call.keep_empty,
            is_multiset: is_multiset(&collection_field),
            condition,
        });
        let edge = Input { node: relation.node, exchange: Exchange::Forward };
        let node_schema = Arc::new(datafusion::arrow::datatypes::Schema::new(fields));
        let node = self.add(kind, vec![edge], node_schema, properties, place);
        Ok(Relation { node, schema, origins, window: None })
    }

    fn collection_field(&self, unnest: &UnnestNode) -> Result<datafusion::arrow::datatypes::FieldRef, Diagnostic> {
        let collection: &LogicalExpr = &unnest.collection;
        let field = collection.to_field(unnest.input.schema()).map(|(_, field)| field);
        field.map_err(|error| super::error::finding(&error, None))
    }
}

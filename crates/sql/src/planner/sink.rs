//! Where rows go: the terminal, or the columns of a table.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result as PlanResult, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::sql::sqlparser::ast;
use thalweg_core::{Code, Column, Diagnostic, Span, TableDefinition};
use thalweg_plan::{Conflict, Exchange, Input, NodeKind, Properties, SinkMaterialize, SinkNode, SinkTarget, StateLifetime};

use super::context::Binder;
use super::error::{finding, unknown_column};
use super::fit_nested::fit_nested;
use super::implicit_cast::is_implicit;
use super::lower::Lowering;
use super::relation::Relation;
use super::type_name::sql_type_of;
use super::{Insert, PlannerInput, optimize, span};

/// Ends a plan at the terminal.
pub(crate) fn add_result(lowering: &mut Lowering, relation: Relation) -> Result<(), Diagnostic> {
    let names: Vec<String> = relation.schema.fields().iter().map(|field| field.name().clone()).collect();
    let node = lowering.settle(relation, &names)?;
    add_sink(lowering, (node, Exchange::Forward), "result".to_string(), SinkTarget::Result, None);
    Ok(())
}

/// Ends a plan at a table. The columns of `relation` are the sink's, as [`optimised`] made them.
pub(crate) fn add_table(lowering: &mut Lowering, relation: Relation, insert: &Insert) -> Result<(), Diagnostic> {
    let target = &insert.target;
    let names: Vec<String> = target.writable_columns().map(|column| column.name().to_string()).collect();
    let node = lowering.settle(relation, &names)?;
    if lowering.properties(node).updating && !insert.takes_updates {
        return Err(takes_no_updates(lowering, node, insert));
    }
    let (node, exchange) = if insert.takes_upserts { upserts(lowering, node, insert)? } else { (node, Exchange::Forward) };
    let taken: HashSet<&str> = lowering
        .plan
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => Some(sink.sink_id.as_str()),
            _ => None,
        })
        .collect();
    let sink_id = (1..)
        .map(|number: usize| if number == 1 { target.name.clone() } else { format!("{}-{number}", target.name) })
        .find(|candidate| !taken.contains(candidate.as_str()))
        .expect("numbers do not run out");
    add_sink(lowering, (node, exchange), sink_id, SinkTarget::Table(Box::new((**target).clone())), insert.span);
    Ok(())
}

/// Names the sink, what makes the query change earlier rows, and the ways out.
fn takes_no_updates(lowering: &Lowering, node: usize, insert: &Insert) -> Diagnostic {
    let target = &insert.target;
    let mut cause = node;
    while !matches!(lowering.plan.nodes[cause].kind, NodeKind::GroupAggregate(_))
        && let Some(input) = lowering.plan.nodes[cause].inputs.iter().find(|input| lowering.properties(input.node).updating)
    {
        cause = input.node;
    }
    let finding = Diagnostic::error(
        Code::SINK_CHANGELOG,
        format!("sink \"{}\" takes only new rows, and this query changes earlier ones", target.name),
    );
    let connector = target.connector().unwrap_or("?");
    match lowering.plan.nodes[cause].span {
        Some(place) => finding.label(place, "each row changes the result of its group"),
        None => finding.label_opt(insert.target_span, format!("connector '{connector}' only adds rows")),
    }
    .help(
        "group by window_start and window_end of a window in FROM, so that each result is final;\n\
         or write to a sink that takes changes: 'upsert-kafka', 'print', 'blackhole'; SELECT shows them as well",
    )
}

/// Makes sure that a sink of upserts gets at most one row for each PRIMARY KEY, all changes of a key in one lane.
fn upserts(lowering: &mut Lowering, node: usize, insert: &Insert) -> Result<(usize, Exchange), Diagnostic> {
    let target = &insert.target;
    let names: Vec<&str> = target.writable_columns().map(Column::name).collect();
    let keys: Vec<usize> = target.primary_key.iter().filter_map(|key| names.iter().position(|name| name == key)).collect();
    let properties = lowering.properties(node).clone();
    let is_same = properties.upsert_key.as_ref().is_some_and(|upsert_key| {
        upsert_key.iter().all(|column| keys.contains(column)) && keys.iter().all(|key| upsert_key.contains(key))
    });
    let exchange = super::lower::by_keys(&keys);
    if is_same && insert.conflict.is_none() {
        return Ok((node, exchange));
    }
    let conflict = match insert.conflict {
        Some(conflict) => conflict,
        // Rows that are never taken back replace each other as they come, as in Flink.
        None if !properties.updating => return Ok((node, exchange)),
        None if insert.requires_conflict => return Err(other_key(lowering, node, insert)),
        None => Conflict::Deduplicate,
    };
    let schema = lowering.schema(node).clone();
    let after = Properties {
        updating: true,
        upsert_key: Some(keys.clone()),
        time_attributes: vec![],
        window: None,
        state: StateLifetime::Forever,
        bounded: properties.bounded,
    };
    let kind = NodeKind::SinkMaterialize(SinkMaterialize { keys, conflict });
    let edge = Input { node, exchange };
    Ok((lowering.add(kind, vec![edge], schema, after, insert.span), Exchange::Forward))
}

fn other_key(lowering: &Lowering, node: usize, insert: &Insert) -> Diagnostic {
    let schema = lowering.schema(node);
    let query_key = match &lowering.properties(node).upsert_key {
        Some(key) => {
            format!("({})", key.iter().map(|column| schema.field(*column).name().as_str()).collect::<Vec<_>>().join(", "))
        }
        None => "not known".to_string(),
    };
    Diagnostic::error(
        Code::SINK_CHANGELOG,
        format!(
            "the PRIMARY KEY of sink \"{}\" is ({}), the key of the query's rows is {query_key}",
            insert.target.name,
            insert.target.primary_key.join(", ")
        ),
    )
    .label_opt(insert.target_span, "several rows may have one key here")
    .help(
        "end the INSERT with ON CONFLICT DO DEDUPLICATE (the last row of a key wins), DO NOTHING (the first) or DO ERROR;\n\
         or give the sink the query's key",
    )
}

fn add_sink(
    lowering: &mut Lowering,
    (node, exchange): (usize, Exchange),
    sink_id: String,
    target: SinkTarget,
    place: Option<Span>,
) {
    let schema = lowering.schema(node).clone();
    let properties = Properties { state: StateLifetime::Stateless, ..lowering.properties(node).clone() };
    let edge = Input { node, exchange };
    lowering.add(NodeKind::Sink(SinkNode { sink_id, target }), vec![edge], schema, properties, place);
}

/// The query of an INSERT with its columns in the order, and of the types, of the sink's.
pub(crate) fn optimised(input: &PlannerInput, insert: &Insert) -> Result<LogicalPlan, Vec<Diagnostic>> {
    let to_findings = |error| vec![finding(&error, Some(&insert.query))];
    let bound = Binder::new(input).bind(&insert.query)?;
    let typed = optimize::analyse(bound).map_err(to_findings)?;
    let columns = sink_columns(input, insert, &typed)?;
    LogicalPlanBuilder::from(typed)
        .project(columns)
        .and_then(LogicalPlanBuilder::build)
        .and_then(optimize::optimise)
        .map_err(to_findings)
}

/// For each column of the sink what goes into it.
fn sink_columns(input: &PlannerInput, insert: &Insert, query: &LogicalPlan) -> Result<Vec<Expr>, Vec<Diagnostic>> {
    let target = &insert.target;
    let targets = target_columns(insert)?;
    let given = query.schema().columns();
    if given.len() != targets.len() {
        return Err(vec![wrong_count(insert, &targets, query)]);
    }
    let mut findings = vec![];
    let mut columns = vec![];
    for column in target.writable_columns() {
        let position = targets.iter().position(|name| name == column.name());
        let value = match position {
            Some(position) => {
                let field = query.schema().field(position);
                let from = Expr::Column(given[position].clone());
                fitted(input, (insert, position), column, (from, field))
            }
            None if !is_required(insert, column) => {
                let null = ScalarValue::try_from(column.field.data_type());
                null.map(|null| Expr::Literal(null, None)).map_err(|error| finding(&error, None))
            }
            None => Err(missing_column(target, column, insert.target_span)),
        };
        match value {
            Ok(value) => columns.push(value.alias(column.name())),
            Err(finding) => findings.push(finding),
        }
    }
    if findings.is_empty() { Ok(columns) } else { Err(findings) }
}

/// The names of the sink's columns that the query fills, in the order of the query's.
fn target_columns(insert: &Insert) -> Result<Vec<String>, Vec<Diagnostic>> {
    let target = &insert.target;
    let all: Vec<&str> = target.writable_columns().map(Column::name).collect();
    let Some(listed) = &insert.columns else {
        return Ok(all.into_iter().map(ToString::to_string).collect());
    };
    let mut findings = vec![];
    let mut seen = HashSet::new();
    for (name, place) in listed {
        if !all.contains(&name.as_str()) {
            findings.push(match target.column(name) {
                Some(_) => {
                    Diagnostic::error(Code::SINK_SCHEMA, format!("column \"{name}\" of \"{}\" cannot be written", target.name))
                        .label_opt(*place, "computed, or METADATA VIRTUAL")
                }
                None => unknown_column(name, &all, *place),
            });
        } else if !seen.insert(name) {
            findings.push(
                Diagnostic::error(Code::DUPLICATE_NAME, format!("column \"{name}\" is listed twice"))
                    .label_opt(*place, "second time"),
            );
        }
    }
    if findings.is_empty() { Ok(listed.iter().map(|(name, _)| name.clone()).collect()) } else { Err(findings) }
}

/// `from` as the type of the sink's column, refused where Flink would want a CAST.
fn fitted(
    input: &PlannerInput,
    (insert, position): (&Insert, usize),
    column: &Column,
    (from, field): (Expr, &Field),
) -> Result<Expr, Diagnostic> {
    let (from_type, to_type) = (field.data_type(), column.field.data_type());
    if !is_implicit(from_type, to_type) {
        return Err(Diagnostic::error(
            Code::SINK_SCHEMA,
            format!(
                "column \"{}\" of sink \"{}\" is {}, the query gives {}",
                column.name(),
                insert.target.name,
                column.sql_type,
                sql_type_of(field)
            ),
        )
        .label_opt(item_place(&insert.query, position).or(insert.target_span), sql_type_of(field))
        .help(format!("write CAST(… AS {}) in the query, or declare the column {}", column.sql_type, sql_type_of(field))));
    }
    let value = if from_type == to_type {
        from
    } else if from_type.is_nested() {
        fit_nested(from, to_type)
    } else {
        super::zone_cast::cast_between(from, (from_type, to_type), &input.time_zone)
    };
    if !is_required(insert, column) || !field.is_nullable() {
        return Ok(value);
    }
    let function = ScalarUDF::from(NotNull::new(format!("column \"{}\" of sink \"{}\"", column.name(), insert.target.name)));
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![value])))
}

/// Whether a null is refused: the column is NOT NULL, as the columns of a primary key are.
fn is_required(insert: &Insert, column: &Column) -> bool {
    !column.field.is_nullable() || insert.target.primary_key.iter().any(|key| key == column.name())
}

fn missing_column(target: &TableDefinition, column: &Column, place: Option<Span>) -> Diagnostic {
    Diagnostic::error(
        Code::SINK_SCHEMA,
        format!("column \"{}\" of sink \"{}\" is NOT NULL and gets no value", column.name(), target.name),
    )
    .label_opt(place, "not all columns are listed")
    .help(format!("add {} to the list of columns and to the query", column.name()))
}

fn wrong_count(insert: &Insert, targets: &[String], query: &LogicalPlan) -> Diagnostic {
    let given: Vec<String> =
        query.schema().fields().iter().map(|field| format!("{} {}", field.name(), sql_type_of(field))).collect();
    let wanted: Vec<String> = targets
        .iter()
        .map(|name| insert.target.column(name).map_or_else(|| name.clone(), |column| format!("{name} {}", column.sql_type)))
        .collect();
    Diagnostic::error(
        Code::SINK_SCHEMA,
        format!("sink \"{}\" takes {} columns, the query gives {}", insert.target.name, targets.len(), given.len()),
    )
    .label_opt(insert.target_span, "this sink")
    .help(format!("sink:  ({})\nquery: ({})", wanted.join(", "), given.join(", ")))
}

/// Where the item that makes column `position` stands, if the query is a SELECT that names its items.
fn item_place(query: &ast::Query, position: usize) -> Option<Span> {
    let mut body = &*query.body;
    while let ast::SetExpr::SetOperation { left, .. } = body {
        body = left;
    }
    let ast::SetExpr::Select(select) = body else {
        return None;
    };
    let named = |item: &ast::SelectItem| matches!(item, ast::SelectItem::UnnamedExpr(_) | ast::SelectItem::ExprWithAlias { .. });
    if !select.projection.iter().take(position + 1).all(named) {
        return None;
    }
    select.projection.get(position).and_then(span::of)
}

/// Passes values on and fails on a null, as Flink's not-null enforcer does.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct NotNull {
    /// Who must not be null, for the message.
    what: String,
    signature: Signature,
}

impl NotNull {
    pub(crate) const NAME: &str = "not_null";

    fn new(what: String) -> Self {
        NotNull { what, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NotNull {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> PlanResult<DataType> {
        match arg_types {
            [one] => Ok(one.clone()),
            _ => internal_err!("not_null takes one argument"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        match args.arg_fields {
            [one] => Ok(Arc::new(one.as_ref().clone().with_nullable(false))),
            _ => internal_err!("not_null takes one argument"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let Some(value) = args.args.into_iter().next() else {
            return internal_err!("not_null takes one argument");
        };
        let has_null = match &value {
            ColumnarValue::Array(array) => array.null_count() > 0,
            ColumnarValue::Scalar(scalar) => scalar.is_null(),
        };
        if has_null {
            return exec_err!("{} is NOT NULL and the query gave NULL", self.what);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_names_the_column() {
        let function = ScalarUDF::from(NotNull::new("column \"a\" of sink \"s\"".to_string()));
        let args = ScalarFunctionArgs {
            args: vec![ColumnarValue::Scalar(ScalarValue::Int32(None))],
            arg_fields: vec![Arc::new(Field::new("a", DataType::Int32, true))],
            number_rows: 1,
            return_field: Arc::new(Field::new("a", DataType::Int32, false)),
            config_options: Arc::new(super::super::context::config_options()),
        };
        let error = function.invoke_with_args(args).unwrap_err().to_string();
        assert!(error.contains("column \"a\" of sink \"s\" is NOT NULL"), "{error}");
    }
}

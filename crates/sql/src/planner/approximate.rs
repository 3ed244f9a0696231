//! Where FLOAT or DOUBLE stands beside DECIMAL, all are DOUBLE, as in Flink; DataFusion makes them DECIMAL(30, 15), which rounds.
//!
//! Operators between two values see to it themselves, see [`super::operator`].

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Cast, InSubquery, ScalarFunction};
use datafusion::logical_expr::type_coercion::binary::type_union_coercion;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, Subquery, Union, UserDefinedLogicalNodeCore, Values,
    binary_expr, cast,
};
use datafusion::optimizer::AnalyzerRule;

use super::decimal;
use super::fit_nested::fit_nested;
use super::operator::is_decimal;
use super::optimize::{rewrite_expressions, schema_of_inputs};
use super::set_operation_node::SetOperationNode;

/// Functions whose arguments have one type.
const OF_ONE_TYPE: &[&str] = &["coalesce", "nullif", "greatest", "least", "if", "ifnull", "nvl", "make_array", "array_concat"];

#[derive(Debug)]
pub(crate) struct ApproximateNumbers;

impl AnalyzerRule for ApproximateNumbers {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Values(values) => Ok(Transformed::yes(of_values(values)?)),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| input.as_ref().clone()).collect();
                let inputs = of_inputs(inputs)?.into_iter().map(Arc::new).collect();
                Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
            }
            LogicalPlan::Extension(extension) if extension.node.as_any().is::<SetOperationNode>() => {
                Ok(Transformed::yes(of_set_operation(extension)?))
            }
            mut node => {
                if let LogicalPlan::Join(join) = &mut node {
                    let (left, right) = (join.left.schema(), join.right.schema());
                    join.on.iter_mut().try_for_each(|(one, other)| of_pair((one, left), (other, right)))?;
                }
                let schema = schema_of_inputs(&node);
                rewrite_expressions(node, |expr| expr.transform_up(|part| of_expr(part, &schema)).map(|done| done.data))
            }
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "approximate_numbers"
    }
}

/// `types`, with DOUBLE for a DECIMAL where another of them has a float in its place, within collections and rows as well; `None`
/// where there is nothing to change.
fn settled(types: &[&DataType]) -> Option<Vec<DataType>> {
    let settled: Vec<DataType> = settle(types);
    (settled.iter().ne(types.iter().copied())).then_some(settled)
}

fn settle(types: &[&DataType]) -> Vec<DataType> {
    let unchanged = || types.iter().map(|data_type| (*data_type).clone()).collect();
    let with_field = |field: &FieldRef, data_type: DataType| Arc::new(field.as_ref().clone().with_data_type(data_type));
    let known: Vec<&DataType> = types.iter().copied().filter(|data_type| **data_type != DataType::Null).collect();
    let Some(parts) = known.iter().map(|data_type| parts_of(data_type)).collect::<Option<Vec<_>>>() else {
        let is_mixed =
            types.iter().any(|data_type| data_type.is_floating()) && types.iter().any(|data_type| is_decimal(data_type));
        let double = |data_type: &&DataType| if is_decimal(data_type) { DataType::Float64 } else { (*data_type).clone() };
        return if is_mixed { types.iter().map(double).collect() } else { unchanged() };
    };
    let width = parts.first().map_or(0, Vec::len);
    let is_alike = |other: &&DataType| std::mem::discriminant(*other) == std::mem::discriminant(known[0]);
    if width == 0 || parts.iter().any(|fields| fields.len() != width) || !known.iter().all(is_alike) {
        return unchanged();
    }
    let columns: Vec<Vec<DataType>> =
        (0..width).map(|part| settle(&parts.iter().map(|fields| fields[part].data_type()).collect::<Vec<_>>())).collect();
    let mut rebuilt = known.iter().enumerate().map(|(index, data_type)| {
        let fields: Vec<FieldRef> =
            parts[index].iter().zip(&columns).map(|(field, column)| with_field(field, column[index].clone())).collect();
        match data_type {
            DataType::List(_) => DataType::List(fields[0].clone()),
            DataType::Map(_, is_sorted) => DataType::Map(fields[0].clone(), *is_sorted),
            _ => DataType::Struct(fields.into()),
        }
    });
    let rebuild = |data_type: &&DataType| match data_type {
        DataType::Null => Some(DataType::Null),
        _ => rebuilt.next(),
    };
    types.iter().map_while(rebuild).collect()
}

/// The fields within a type that has some.
fn parts_of(data_type: &DataType) -> Option<Vec<FieldRef>> {
    match data_type {
        DataType::List(item) => Some(vec![item.clone()]),
        DataType::Map(entries, _) => Some(vec![entries.clone()]),
        DataType::Struct(fields) => Some(fields.to_vec()),
        _ => None,
    }
}

/// `expr` as a `to`; nothing is done to what is one.
fn converted(expr: Expr, from: &DataType, to: &DataType) -> Expr {
    if from == to {
        expr
    } else if to.is_nested() {
        fit_nested(expr, to)
    } else {
        cast(expr, to.clone())
    }
}

fn of_expr(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let part = match part {
        Expr::InList(mut list) => {
            of_list(std::iter::once(&mut *list.expr).chain(&mut list.list), schema);
            Expr::InList(list)
        }
        Expr::Between(mut between) => {
            of_list([&mut *between.expr, &mut *between.low, &mut *between.high].into_iter(), schema);
            Expr::Between(between)
        }
        Expr::Case(mut case) => {
            if let Some(subject) = &mut case.expr {
                let whens = case.when_then_expr.iter_mut().map(|(when, _)| &mut **when);
                of_list(std::iter::once(&mut **subject).chain(whens), schema);
            }
            let results = case.when_then_expr.iter_mut().map(|(_, then)| &mut **then);
            of_list(results.chain(case.else_expr.as_deref_mut()), schema);
            Expr::Case(case)
        }
        Expr::BinaryExpr(mut binary) if binary.op.supports_propagation() => {
            of_list([&mut *binary.left, &mut *binary.right].into_iter(), schema);
            Expr::BinaryExpr(binary)
        }
        Expr::ScalarFunction(call) if decimal::operator_of(&call).is_some() => of_decimal_arithmetic(call, schema),
        Expr::ScalarFunction(mut call) if OF_ONE_TYPE.contains(&call.func.name()) => {
            of_list(call.args.iter_mut(), schema);
            Expr::ScalarFunction(call)
        }
        Expr::InSubquery(one) => Expr::InSubquery(of_in_subquery(one, schema)?),
        other => return Ok(Transformed::no(other)),
    };
    Ok(Transformed::yes(part))
}

fn of_list<'e>(exprs: impl Iterator<Item = &'e mut Expr>, schema: &DFSchema) {
    let exprs: Vec<&mut Expr> = exprs.collect();
    let types = exprs.iter().map(|expr| expr.get_type(schema)).collect::<Result<Vec<_>>>();
    // What has no type is refused later, at its place.
    let Some(settled) = types.as_ref().ok().and_then(|types| settled(&types.iter().collect::<Vec<_>>())) else {
        return;
    };
    for (expr, (from, to)) in exprs.into_iter().zip(types.iter().flatten().zip(&settled)) {
        *expr = converted(expr.clone(), from, to);
    }
}

/// Arithmetic over what was a DECIMAL when it was bound, and has become a DOUBLE here.
fn of_decimal_arithmetic(call: ScalarFunction, schema: &DFSchema) -> Expr {
    let is_float = |arg: &Expr| arg.get_type(schema).is_ok_and(|data_type| data_type.is_floating());
    match (decimal::operator_of(&call), call.args.as_slice()) {
        (Some(op), [left, right]) if is_float(left) || is_float(right) => {
            binary_expr(cast(left.clone(), DataType::Float64), op, cast(right.clone(), DataType::Float64))
        }
        _ => Expr::ScalarFunction(call),
    }
}

/// Gives the two sides of an equality that joins one type.
fn of_pair(one: (&mut Expr, &DFSchema), other: (&mut Expr, &DFSchema)) -> Result<()> {
    let (left, right) = (one.0.get_type(one.1)?, other.0.get_type(other.1)?);
    if let Some(types) = settled(&[&left, &right]) {
        *one.0 = converted(one.0.clone(), &left, &types[0]);
        *other.0 = converted(other.0.clone(), &right, &types[1]);
    }
    Ok(())
}

fn of_in_subquery(one: InSubquery, schema: &DFSchema) -> Result<InSubquery> {
    let (left, right) = (one.expr.get_type(schema)?, one.subquery.subquery.schema().field(0).data_type().clone());
    let Some(types) = settled(&[&left, &right]) else {
        return Ok(one);
    };
    let expr = Box::new(converted(*one.expr, &left, &types[0]));
    let rows = with_types(&one.subquery.subquery, &types[1..])?;
    Ok(InSubquery { expr, subquery: Subquery { subquery: Arc::new(rows), ..one.subquery }, negated: one.negated })
}

fn of_set_operation(extension: Extension) -> Result<LogicalPlan> {
    let Some(operation) = extension.node.as_any().downcast_ref::<SetOperationNode>() else {
        return Ok(LogicalPlan::Extension(extension));
    };
    let inputs = of_inputs(vec![operation.left.clone(), operation.right.clone()])?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(operation.with_exprs_and_inputs(vec![], inputs)?) }))
}

/// Makes decimals of `inputs` doubles in the columns where another input has floats.
fn of_inputs(inputs: Vec<LogicalPlan>) -> Result<Vec<LogicalPlan>> {
    let width = inputs.iter().map(|input| input.schema().fields().len()).min().unwrap_or(0);
    let columns: Vec<Vec<DataType>> = (0..width)
        .map(|column| settle(&inputs.iter().map(|input| input.schema().field(column).data_type()).collect::<Vec<_>>()))
        .collect();
    // All of one type, so that a query around sees which.
    let common = |column: &Vec<DataType>| {
        column.iter().cloned().map(Some).reduce(|one, other| type_union_coercion(&one?, &other?)).flatten()
    };
    let types_of =
        |input: usize| columns.iter().map(|column| common(column).unwrap_or_else(|| column[input].clone())).collect::<Vec<_>>();
    inputs.iter().enumerate().map(|(index, input)| with_types(input, &types_of(index))).collect()
}

/// `plan` with columns of these types.
pub(crate) fn with_types(plan: &LogicalPlan, types: &[DataType]) -> Result<LogicalPlan> {
    let schema = plan.schema();
    if schema.fields().iter().zip(types).all(|(field, data_type)| field.data_type() == data_type) {
        return Ok(plan.clone());
    }
    let projected = schema.iter().zip(types).map(|((qualifier, field), data_type)| {
        let column = Expr::from((qualifier, field));
        match field.data_type() == data_type {
            true => column,
            false => converted(column, field.data_type(), data_type).alias_qualified(qualifier.cloned(), field.name()),
        }
    });
    LogicalPlanBuilder::from(plan.clone()).project(projected.collect::<Vec<_>>())?.build()
}

/// When VALUES was bound, DataFusion cast values to DECIMAL; those casts are undone (a CAST that the user writes is a function).
fn of_values(values: Values) -> Result<LogicalPlan> {
    let no_columns = DFSchema::empty();
    let mut rows = values.values;
    let mut is_any_mixed = false;
    for column in 0..values.schema.fields().len() {
        let as_written = |row: &Vec<Expr>| match &row[column] {
            Expr::Cast(Cast { expr, .. }) => expr.as_ref().clone(),
            value => value.clone(),
        };
        let written: Vec<Expr> = rows.iter().map(as_written).collect();
        let types = written.iter().map(|value| value.get_type(&no_columns)).collect::<Result<Vec<_>>>()?;
        if let Some(settled) = settled(&types.iter().collect::<Vec<_>>()) {
            is_any_mixed = true;
            for (row, (value, (from, to))) in rows.iter_mut().zip(written.into_iter().zip(types.iter().zip(&settled))) {
                row[column] = converted(value, from, to);
            }
        }
    }
    match is_any_mixed {
        true => LogicalPlanBuilder::values(rows)?.build(),
        false => Ok(LogicalPlan::Values(Values { schema: values.schema, values: rows })),
    }
}

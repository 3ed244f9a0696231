//! Operators with Flink's types.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use thalweg_core::{Code, Diagnostic};

use super::decimal::{self, DecimalOperator};
use super::error::refuse;
use super::optimize::schema_of_inputs;
use super::span;
use super::type_name::sql_type_name;

/// Checks the types of operators, and plans those that Flink gives other types than DataFusion.
#[derive(Debug)]
pub(crate) struct FlinkOperators;

impl ExprPlanner for FlinkOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        let (left, right) = (narrow(left), narrow(right));
        let (left_type, right_type) = (left.get_type(schema)?, right.get_type(schema)?);
        check_families(&op, (&left, &left_type), (&right, &right_type)).map_err(|finding| refuse(*finding))?;
        let mixed = (left_type.is_floating() && is_decimal(&right_type)) || (is_decimal(&left_type) && right_type.is_floating());
        let (left, right) = if mixed { (as_double(left, &left_type), as_double(right, &right_type)) } else { (left, right) };
        if let Some(operator) = DecimalOperator::from_sql(&op)
            && (is_decimal(&left_type) && is_exact(&right_type) || is_exact(&left_type) && is_decimal(&right_type))
        {
            return Ok(PlannerResult::Planned(decimal::call(operator, left, right)));
        }
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// A whole number in the text is an INT where it fits, as in Flink; DataFusion makes it a BIGINT.
pub(crate) fn narrow(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match i32::try_from(value) {
            Ok(small) => Expr::Literal(ScalarValue::Int32(Some(small)), metadata),
            Err(_) => Expr::Literal(ScalarValue::Int64(Some(value)), metadata),
        },
        other => other,
    }
}

fn as_double(expr: Expr, data_type: &DataType) -> Expr {
    if *data_type == DataType::Float64 { expr } else { cast(expr, DataType::Float64) }
}

pub(crate) fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..))
}

fn is_exact(data_type: &DataType) -> bool {
    is_decimal(data_type) || data_type.is_signed_integer()
}

/// Types that can be compared with each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    Number,
    Text,
    Bytes,
    Boolean,
    Date,
    Time,
    Timestamp,
    Interval,
    Nested,
    /// NULL, and types that only DataFusion's functions make.
    Other,
}

impl Family {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            number if number.is_numeric() => Family::Number,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Family::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Family::Bytes,
            DataType::Boolean => Family::Boolean,
            DataType::Date32 | DataType::Date64 => Family::Date,
            DataType::Time32(_) | DataType::Time64(_) => Family::Time,
            DataType::Timestamp(..) => Family::Timestamp,
            DataType::Interval(_) | DataType::Duration(_) => Family::Interval,
            nested if nested.is_nested() => Family::Nested,
            _ => Family::Other,
        }
    }

    fn is_temporal(self) -> bool {
        matches!(self, Family::Date | Family::Time | Family::Timestamp)
    }
}

/// Refuses comparisons in IN and BETWEEN, branches of CASE, and queries of a UNION whose types have nothing in common, which
/// DataFusion would make texts; and elements of arrays before the first.
pub(crate) fn check_plan(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Union(union) = node {
            for column in 0..union.schema.fields().len() {
                let types = union.inputs.iter().map(|input| input.schema().field(column).data_type().clone());
                if !have_common_family(types) {
                    return plan_err!("Incompatible inputs for Union on column '{}'", union.schema.field(column).name());
                }
            }
        }
        let schema = schema_of_inputs(node);
        for expr in node.expressions() {
            expr.apply(|part| check_parts(part, &schema).map(|()| TreeNodeRecursion::Continue))?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn check_parts(expr: &Expr, schema: &DFSchema) -> Result<()> {
    let (what, parts): (&str, Vec<&Expr>) = match expr {
        Expr::InList(list) => ("IN", [&*list.expr].into_iter().chain(&list.list).collect()),
        Expr::Between(between) => ("BETWEEN", vec![&between.expr, &between.low, &between.high]),
        Expr::ScalarFunction(call) if call.func.name() == "array_element" => return check_index(call),
        Expr::Case(case) => {
            ("CASE", case.when_then_expr.iter().map(|(_, then)| &**then).chain(case.else_expr.as_deref()).collect())
        }
        _ => return Ok(()),
    };
    let types = parts.iter().map(|part| narrow((*part).clone()).get_type(schema)).collect::<Result<Vec<_>>>()?;
    if have_common_family(types.iter().cloned()) {
        return Ok(());
    }
    let mut names: Vec<String> = types.iter().map(sql_type_name).collect();
    names.dedup();
    Err(refuse(
        Diagnostic::error(Code::TYPE_MISMATCH, format!("{what} cannot take {}", names.join(" and ")))
            .label_opt(span::of_exprs(parts), "here")
            .help("CAST all of them to one type"),
    ))
}

/// `a[0]`: the first element of an array is `a[1]`.
fn check_index(call: &ScalarFunction) -> Result<()> {
    let index = match call.args.get(1) {
        Some(Expr::Literal(value, _)) => value.cast_to(&DataType::Int64).ok(),
        _ => None,
    };
    match index {
        Some(ScalarValue::Int64(Some(index))) if index < 1 => Err(refuse(
            Diagnostic::error(Code::BAD_ARGUMENTS, format!("an array has no element {index}"))
                .label_opt(span::of_exprs(&call.args), "of this array")
                .help("elements are counted from 1"),
        )),
        _ => Ok(()),
    }
}

pub(crate) fn have_common_family(types: impl Iterator<Item = DataType>) -> bool {
    let families: Vec<Family> = types.map(|data_type| Family::of(&data_type)).filter(|family| *family != Family::Other).collect();
    let temporal = families.iter().copied().find(|family| family.is_temporal());
    // A text beside times is read as a time.
    let first = temporal.or(families.first().copied());
    families.iter().all(|family| Some(*family) == first || temporal.is_some() && *family == Family::Text)
}

/// Refuses what Flink refuses and DataFusion would make work by a silent cast.
fn check_families(op: &BinaryOperator, left: (&Expr, &DataType), right: (&Expr, &DataType)) -> Result<(), Box<Diagnostic>> {
    use BinaryOperator as Op;
    let families = (Family::of(left.1), Family::of(right.1));
    if families.0 == Family::Other || families.1 == Family::Other {
        return Ok(());
    }
    let (fits, help) = match op {
        Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq | Op::Spaceship => {
            let text_and_time = matches!(families, (Family::Text, time) | (time, Family::Text) if time.is_temporal());
            (families.0 == families.1 || text_and_time, "CAST one side to the type of the other")
        }
        Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo => {
            let refused = |family| matches!(family, Family::Text | Family::Bytes | Family::Boolean | Family::Nested);
            (!refused(families.0) && !refused(families.1), "CAST it to a number")
        }
        Op::StringConcat => {
            let texts = families == (Family::Text, Family::Text) || families == (Family::Bytes, Family::Bytes);
            (texts || families == (Family::Nested, Family::Nested), "CAST it to STRING")
        }
        Op::And | Op::Or => (families == (Family::Boolean, Family::Boolean), "both sides are conditions, such as amount > 0"),
        _ => (true, ""),
    };
    if fits {
        return Ok(());
    }
    let message = format!("{op} cannot take {} and {}", sql_type_name(left.1), sql_type_name(right.1));
    let place = span::union(span::of_expr(left.0), span::of_expr(right.0));
    Err(Box::new(Diagnostic::error(Code::TYPE_MISMATCH, message).label_opt(place, "here").help(help)))
}

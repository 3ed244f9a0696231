//! Operators whose meaning differs from DataFusion's, planned as calls.
//!
//! - Arithmetic with a DECIMAL side follows Flink's precision and scale, and is null when it does not fit.
//! - Sums and products of integers fail on overflow.
//! - FLOAT and DOUBLE compare as IEEE 754.
//! - A number times an INTERVAL, and a TIME plus an INTERVAL.
//! - An integer literal beside an INT keeps the INT (DataFusion's literals are BIGINT).

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, ScalarUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::definition::{Definition, FlinkFunction};
use super::{FunctionContext, decimal, definitions};

/// Ours first, then DataFusion's.
pub fn expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(FlinkExprPlanner::new())];
    planners.extend(SessionStateDefaults::default_expr_planners());
    planners
}

/// The sign of the operator that the function `name` stands for, for texts that people read.
pub fn sign_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "float_eq" => "=",
        "float_not_eq" => "<>",
        "float_lt" => "<",
        "float_lt_eq" => "<=",
        "float_gt" => ">",
        "float_gt_eq" => ">=",
        "decimal_add" | "integer_add" | "time_plus_interval" => "+",
        "decimal_subtract" | "integer_subtract" | "time_minus_interval" => "-",
        "decimal_multiply" | "integer_multiply" | "interval_multiply" => "*",
        "decimal_divide" => "/",
        "decimal_modulo" | "decimal_remainder" => "%",
        _ => return None,
    })
}

/// Plans operators as calls of functions that need neither zone nor clock.
#[derive(Debug)]
struct FlinkExprPlanner {
    functions: Vec<Arc<ScalarUDF>>,
}

impl FlinkExprPlanner {
    fn new() -> Self {
        // None of these functions looks at the context, so any will do.
        let context = FunctionContext { time_zone: chrono_tz::UTC, clock: Arc::new(thalweg_core::ManualClock::default()) };
        let is_operator = |definition: &Definition| {
            ["decimal_", "float_", "integer_", "interval_", "time_plus", "time_minus"]
                .iter()
                .any(|prefix| definition.name.starts_with(prefix))
        };
        let functions = definitions()
            .into_iter()
            .filter(is_operator)
            .map(|definition| Arc::new(ScalarUDF::new_from_impl(FlinkFunction::new(definition, context.clone()))))
            .collect();
        FlinkExprPlanner { functions }
    }

    fn call(&self, name: &str, arguments: Vec<Expr>) -> Result<PlannerResult<RawBinaryExpr>> {
        match self.functions.iter().find(|function| function.name() == name) {
            Some(function) => Ok(PlannerResult::Planned(function.call(arguments))),
            None => Err(DataFusionError::Internal(format!("function {name} is not defined"))),
        }
    }
}

impl ExprPlanner for FlinkExprPlanner {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = raw;
        let (Some(comparison), arithmetic) = kind_of(&op) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let (left, right, left_type, right_type) = narrow_literals(left, right, left_type, right_type);
        let is_interval = |data_type: &DataType| matches!(data_type, DataType::Interval(_));
        let is_time = |data_type: &DataType| matches!(data_type, DataType::Time32(_) | DataType::Time64(_));
        let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(_, _));

        if let Some(name) = comparison.filter(|_| {
            (left_type.is_floating() && right_type.is_numeric()) || (right_type.is_floating() && left_type.is_numeric())
        }) {
            return self.call(name, vec![left, right]);
        }
        if let Some(name) = arithmetic {
            let exact = decimal::digits_of(&left_type).is_some() && decimal::digits_of(&right_type).is_some();
            if exact && (is_decimal(&left_type) || is_decimal(&right_type)) {
                return self.call(name, vec![left, right]);
            }
        }
        let checked = match op {
            BinaryOperator::Plus => Some("integer_add"),
            BinaryOperator::Minus => Some("integer_subtract"),
            BinaryOperator::Multiply => Some("integer_multiply"),
            _ => None,
        };
        if let Some(name) = checked.filter(|_| left_type.is_signed_integer() && right_type.is_signed_integer()) {
            return self.call(name, vec![left, right]);
        }
        match op {
            BinaryOperator::Multiply if is_interval(&left_type) && right_type.is_numeric() => {
                return self.call("interval_multiply", vec![left, right]);
            }
            BinaryOperator::Multiply if left_type.is_numeric() && is_interval(&right_type) => {
                return self.call("interval_multiply", vec![right, left]);
            }
            BinaryOperator::Plus if is_time(&left_type) && is_interval(&right_type) => {
                return self.call("time_plus_interval", vec![left, right]);
            }
            BinaryOperator::Plus if is_interval(&left_type) && is_time(&right_type) => {
                return self.call("time_plus_interval", vec![right, left]);
            }
            BinaryOperator::Minus if is_time(&left_type) && is_interval(&right_type) => {
                return self.call("time_minus_interval", vec![left, right]);
            }
            _ => {}
        }
        match plain_operator(&op) {
            Some(operator) => {
                Ok(PlannerResult::Planned(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))))
            }
            None => Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        }
    }
}

/// The function of a comparison of floats, and that of decimal arithmetic. The outer `None` is an operator of no interest here.
fn kind_of(op: &BinaryOperator) -> (Option<Option<&'static str>>, Option<&'static str>) {
    let comparison = |name| (Some(Some(name)), None);
    let arithmetic = |name| (Some(None), Some(name));
    match op {
        BinaryOperator::Eq => comparison("float_eq"),
        BinaryOperator::NotEq => comparison("float_not_eq"),
        BinaryOperator::Lt => comparison("float_lt"),
        BinaryOperator::LtEq => comparison("float_lt_eq"),
        BinaryOperator::Gt => comparison("float_gt"),
        BinaryOperator::GtEq => comparison("float_gt_eq"),
        BinaryOperator::Plus => arithmetic("decimal_add"),
        BinaryOperator::Minus => arithmetic("decimal_subtract"),
        BinaryOperator::Multiply => arithmetic("decimal_multiply"),
        BinaryOperator::Divide => arithmetic("decimal_divide"),
        BinaryOperator::Modulo => arithmetic("decimal_modulo"),
        _ => (None, None),
    }
}

fn plain_operator(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Modulo,
        _ => return None,
    })
}

/// A BIGINT literal beside something narrower becomes INT, as Flink's literals are, where it fits.
fn narrow_literals(left: Expr, right: Expr, left_type: DataType, right_type: DataType) -> (Expr, Expr, DataType, DataType) {
    let wants_int =
        |other: &DataType| matches!(other, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Decimal128(_, _));
    let narrow = |expr: Expr, own: DataType, other: &DataType| match &expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), None) if wants_int(other) => match i32::try_from(*value) {
            Ok(value) => (Expr::Literal(ScalarValue::Int32(Some(value)), None), DataType::Int32),
            Err(_) => (expr, own),
        },
        _ => (expr, own),
    };
    let (left, left_type) = narrow(left, left_type, &right_type);
    let (right, right_type) = narrow(right, right_type, &left_type);
    (left, right, left_type, right_type)
}

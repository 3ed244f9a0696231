//! DECIMAL arithmetic with Flink's result types, exact, null where the result does not fit.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, PrimitiveArray};
use datafusion::arrow::compute::kernels::arity::try_binary;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int8Type, Int16Type, Int32Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// The largest precision of a DECIMAL.
const PRECISION_MAX: i16 = 38;
/// Digits behind the point that are kept when the digits before it leave no room.
const SCALE_KEPT: i16 = 6;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum DecimalOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl DecimalOperator {
    pub(crate) fn from_sql(op: &BinaryOperator) -> Option<Self> {
        Some(match op {
            BinaryOperator::Plus => DecimalOperator::Add,
            BinaryOperator::Minus => DecimalOperator::Subtract,
            BinaryOperator::Multiply => DecimalOperator::Multiply,
            BinaryOperator::Divide => DecimalOperator::Divide,
            BinaryOperator::Modulo => DecimalOperator::Remainder,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            DecimalOperator::Add => "decimal_add",
            DecimalOperator::Subtract => "decimal_subtract",
            DecimalOperator::Multiply => "decimal_multiply",
            DecimalOperator::Divide => "decimal_divide",
            DecimalOperator::Remainder => "decimal_remainder",
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            DecimalOperator::Add => "+",
            DecimalOperator::Subtract => "-",
            DecimalOperator::Multiply => "*",
            DecimalOperator::Divide => "/",
            DecimalOperator::Remainder => "%",
        }
    }

    /// Precision and scale of the result.
    ///
    /// Source: Flink 2.3, `LogicalTypeMerging`.
    fn result(self, left: (u8, i8), right: (u8, i8)) -> (u8, i8) {
        let (p1, s1) = (i16::from(left.0), i16::from(left.1));
        let (p2, s2) = (i16::from(right.0), i16::from(right.1));
        match self {
            DecimalOperator::Add | DecimalOperator::Subtract => {
                let scale = s1.max(s2);
                adjust((p1 - s1).max(p2 - s2) + scale + 1, scale)
            }
            DecimalOperator::Multiply => adjust(p1 + p2 + 1, s1 + s2),
            DecimalOperator::Divide => {
                let scale = SCALE_KEPT.max(s1 + p2 + 1);
                adjust(p1 - s1 + s2 + scale, scale)
            }
            DecimalOperator::Remainder => {
                let scale = s1.max(s2);
                adjust((p1 - s1).min(p2 - s2) + scale, scale)
            }
        }
    }
}

/// Cuts a type down to 38 digits: those before the point first, and behind it at least six (or as many as there were).
fn adjust(precision: i16, scale: i16) -> (u8, i8) {
    let (precision, scale) = if precision <= PRECISION_MAX {
        (precision, scale)
    } else {
        let before_point = precision - scale;
        (PRECISION_MAX, (PRECISION_MAX - before_point).max(scale.min(SCALE_KEPT)))
    };
    let precision = u8::try_from(precision.clamp(1, PRECISION_MAX)).unwrap_or(38);
    (precision, i8::try_from(scale.clamp(0, PRECISION_MAX)).unwrap_or(38))
}

/// `left op right`, one of them a DECIMAL, the other a DECIMAL or an integer.
pub(crate) fn call(operator: DecimalOperator, left: Expr, right: Expr) -> Expr {
    let function = Arc::new(ScalarUDF::from(DecimalArithmetic::new(operator)));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![left, right]))
}

/// The operator that `call` stands for, if it is DECIMAL arithmetic.
pub(crate) fn operator_of(call: &ScalarFunction) -> Option<Operator> {
    let inner: &dyn std::any::Any = call.func.inner().as_ref();
    inner.downcast_ref::<DecimalArithmetic>().map(|arithmetic| match arithmetic.operator {
        DecimalOperator::Add => Operator::Plus,
        DecimalOperator::Subtract => Operator::Minus,
        DecimalOperator::Multiply => Operator::Multiply,
        DecimalOperator::Divide => Operator::Divide,
        DecimalOperator::Remainder => Operator::Modulo,
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DecimalArithmetic {
    operator: DecimalOperator,
    signature: Signature,
}

impl DecimalArithmetic {
    fn new(operator: DecimalOperator) -> Self {
        DecimalArithmetic { operator, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for DecimalArithmetic {
    fn name(&self) -> &str {
        self.operator.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [left, right] => Ok(format!("({} {} {})", left.schema_name(), self.operator.symbol(), right.schema_name())),
            _ => internal_err!("arithmetic has two operands"),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [left, right] = arg_types else {
            return internal_err!("arithmetic has two operands");
        };
        let (Some(left), Some(right)) = (as_decimal(left), as_decimal(right)) else {
            return internal_err!("DECIMAL arithmetic over {left} and {right}");
        };
        let (precision, scale) = self.operator.result(left, right);
        Ok(DataType::Decimal128(precision, scale))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        // A result that does not fit is null, so even operands that are never null can give one.
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Decimal128(precision, scale) = *args.return_field.data_type() else {
            return internal_err!("DECIMAL arithmetic gives a DECIMAL");
        };
        let scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let [left, right] = args.args.as_slice() else {
            return internal_err!("arithmetic has two operands");
        };
        let (left, left_scale) = unscaled(&left.to_array(rows)?)?;
        let (right, right_scale) = unscaled(&right.to_array(rows)?)?;
        let compute = Compute { operator: self.operator, left_scale, right_scale, scale };
        let values = compute.run(&left, &right)?;
        let limit = 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
        let fitting = null_where_wider(&values, limit).with_precision_and_scale(precision, scale)?;
        match scalars {
            true => Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&fitting, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(fitting))),
        }
    }
}

/// Precision and scale of a DECIMAL, or of the DECIMAL that holds an integer type.
pub(crate) fn as_decimal(data_type: &DataType) -> Option<(u8, i8)> {
    Some(match data_type {
        DataType::Decimal128(precision, scale) => (*precision, *scale),
        DataType::Int8 => (3, 0),
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (19, 0),
        _ => return None,
    })
}

/// The digits of the values without a point, and how many of them stand behind it.
fn unscaled(values: &ArrayRef) -> Result<(Decimal128Array, i8)> {
    Ok(match values.data_type() {
        DataType::Decimal128(_, scale) => (values.as_primitive::<Decimal128Type>().clone(), *scale),
        DataType::Int8 => (values.as_primitive::<Int8Type>().unary(i128::from), 0),
        DataType::Int16 => (values.as_primitive::<Int16Type>().unary(i128::from), 0),
        DataType::Int32 => (values.as_primitive::<Int32Type>().unary(i128::from), 0),
        DataType::Int64 => (values.as_primitive::<Int64Type>().unary(i128::from), 0),
        other => return internal_err!("DECIMAL arithmetic over {other}"),
    })
}

/// One operation over unscaled values. `i128::MAX` stands for "does not fit": no DECIMAL is that large.
struct Compute {
    operator: DecimalOperator,
    left_scale: i8,
    right_scale: i8,
    scale: i8,
}

const DOES_NOT_FIT: i128 = i128::MAX;

impl Compute {
    fn run(&self, left: &Decimal128Array, right: &Decimal128Array) -> Result<Decimal128Array> {
        let (s1, s2, scale) = (i32::from(self.left_scale), i32::from(self.right_scale), i32::from(self.scale));
        let common = s1.max(s2);
        let sum = |a: i128, b: i128, negative: bool| -> Option<i128> {
            let (a, b) = (shift(a, common - s1)?, shift(b, common - s2)?);
            shift(if negative { a.checked_sub(b)? } else { a.checked_add(b)? }, scale - common)
        };
        let one = |a: i128, b: i128| -> Option<i128> {
            match self.operator {
                DecimalOperator::Add => sum(a, b, false),
                DecimalOperator::Subtract => sum(a, b, true),
                DecimalOperator::Multiply => shift(a.checked_mul(b)?, scale - s1 - s2),
                DecimalOperator::Divide => divide(a, b, scale - s1 + s2),
                DecimalOperator::Remainder => shift(shift(a, common - s1)?.checked_rem(shift(b, common - s2)?)?, scale - common),
            }
        };
        let by_zero = matches!(self.operator, DecimalOperator::Divide | DecimalOperator::Remainder);
        let result: Result<PrimitiveArray<Decimal128Type>, ArrowError> = try_binary(left, right, |a, b| {
            if by_zero && b == 0 {
                return Err(ArrowError::DivideByZero);
            }
            Ok(one(a, b).unwrap_or(DOES_NOT_FIT))
        });
        match result {
            Ok(values) => Ok(values),
            Err(ArrowError::DivideByZero) => exec_err!("division by zero"),
            Err(error) => Err(error.into()),
        }
    }
}

/// `value * 10^digits`, rounded half away from zero when digits are cut off.
fn shift(value: i128, digits: i32) -> Option<i128> {
    let factor = 10_i128.checked_pow(digits.unsigned_abs())?;
    if digits >= 0 { value.checked_mul(factor) } else { Some(round_half_up(value, factor)) }
}

/// `a / b * 10^digits`, rounded half away from zero. Digits are made one by one where the product would not fit.
fn divide(a: i128, b: i128, digits: i32) -> Option<i128> {
    if digits < 0 {
        return Some(round_half_up(a, b.checked_mul(10_i128.checked_pow(digits.unsigned_abs())?)?));
    }
    match shift(a, digits) {
        Some(shifted) => Some(round_half_up(shifted, b)),
        None => long_divide(a, b, digits),
    }
}

/// The same digit by digit, for products that do not fit.
fn long_divide(a: i128, b: i128, digits: i32) -> Option<i128> {
    let negative = (a < 0) != (b < 0);
    let (a, b) = (a.unsigned_abs(), b.unsigned_abs());
    let mut quotient = i128::try_from(a / b).ok()?;
    let mut rest = a % b;
    for _ in 0..digits {
        rest = rest.checked_mul(10)?;
        quotient = quotient.checked_mul(10)?.checked_add(i128::try_from(rest / b).ok()?)?;
        rest %= b;
    }
    if rest >= b - rest {
        quotient = quotient.checked_add(1)?;
    }
    Some(if negative { -quotient } else { quotient })
}

fn round_half_up(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    let rest = (value % divisor).unsigned_abs();
    // `rest >= half` without halving: an odd divisor has no exact half.
    if rest >= divisor.unsigned_abs() - rest { quotient + if (value < 0) == (divisor < 0) { 1 } else { -1 } } else { quotient }
}

fn null_where_wider(values: &Decimal128Array, limit: i128) -> Decimal128Array {
    if values.values().iter().all(|value| *value > -limit && *value < limit) {
        return values.clone();
    }
    values.iter().map(|value| value.filter(|value| *value > -limit && *value < limit)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(operator: DecimalOperator, left: (u8, i8), right: (u8, i8), expected: (u8, i8)) {
        assert_eq!(operator.result(left, right), expected, "{left:?} {} {right:?}", operator.symbol());
    }

    #[test]
    fn result_types_are_flinks() {
        use DecimalOperator::{Add, Divide, Multiply, Remainder};
        check(Multiply, (3, 3), (19, 0), (23, 3));
        check(Divide, (10, 2), (10, 0), (21, 13));
        check(Add, (10, 2), (10, 0), (13, 2));
        check(Add, (38, 0), (10, 0), (38, 0));
        check(Multiply, (38, 10), (38, 10), (38, 6));
        check(Remainder, (10, 2), (10, 0), (10, 2));
    }

    #[test]
    fn division_rounds_half_away_from_zero() {
        assert_eq!(divide(100, 3, 2), Some(3_333));
        assert_eq!(divide(-100, 3, 2), Some(-3_333));
        assert_eq!(divide(5, 2, 0), Some(3));
        assert_eq!(divide(-5, 2, 0), Some(-3));
        assert_eq!(shift(25, -1), Some(3));
        assert_eq!(shift(-25, -1), Some(-3));
        assert_eq!(divide(10_i128.pow(37), 3, 3), None);
    }

    proptest! {
        #[test]
        fn long_division_equals_short(a in -1_000_000_000_i128..1_000_000_000, b in 1_i128..1_000_000, digits in 0_i32..20) {
            let exact = round_half_up(a * 10_i128.pow(digits.unsigned_abs()), b);
            prop_assert_eq!(divide(a, b, digits), Some(exact));
            prop_assert_eq!(long_divide(a, b, digits), Some(exact));
            prop_assert_eq!(long_divide(a, -b, digits), divide(a, -b, digits));
        }
    }
}

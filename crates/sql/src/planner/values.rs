//! One type for each column of VALUES.
//!
//! DataFusion finds the common type of a column's values, but refuses those whose declared types differ in what Arrow does not
//! know: `VALUES (TIMESTAMP '… 00:00:01'), (TIMESTAMP '… 00:00:01.5'), (NULL)`. And it takes whole numbers for BIGINT, so that
//! `VALUES (1), (CAST(NULL AS INT))` would be BIGINT. Here such values are cast to the wider of the written types before it
//! sees them, as Flink does.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Ident, ObjectName, SetExpr, UnaryOperator, Value, ValueWithSpan, Values,
};

use crate::functions::sql_type::SqlType;

/// Settles every VALUES of a query's body; those of its subqueries are theirs.
pub(crate) fn settle(body: &mut SetExpr) {
    match body {
        SetExpr::Values(values) => settle_columns(values),
        SetExpr::SetOperation { left, right, .. } => {
            settle(left);
            settle(right);
        }
        _ => {}
    }
}

fn settle_columns(values: &mut Values) {
    let columns = values.rows.iter().map(|row| row.content.len()).min().unwrap_or(0);
    for column in 0..columns {
        let types: Vec<Option<SqlType>> = values.rows.iter().map(|row| written_type(&row.content[column])).collect();
        let Some(common) = types.iter().flatten().cloned().reduce(wider) else { continue };
        let all_known = values
            .rows
            .iter()
            .zip(&types)
            .all(|(row, found)| found.as_ref().is_some_and(is_integer) || is_null(&row.content[column]));
        let only_literals = values.rows.iter().all(|row| is_literal(&row.content[column]) && !is_null(&row.content[column]));
        if types.iter().all(|found| found.as_ref() == Some(&common)) && (only_literals || !is_integer(&common)) {
            continue;
        }
        for (row, found) in values.rows.iter_mut().zip(&types) {
            let value = &mut row.content[column];
            let must_cast = match &common {
                // Binding makes every whole number a BIGINT at first, so among casts it must say what it is.
                common if is_integer(common) => {
                    all_known && !only_literals && (is_literal(value) || found.as_ref() != Some(common))
                }
                // What a text or number without a type may become is for the binder to say.
                common => has_precision(common) && found.as_ref() != Some(common) && (!is_literal(value) || is_null(value)),
            };
            if must_cast {
                cast(value, &common);
            }
        }
    }
}

/// The type that stands in the text of a value.
fn written_type(value: &Expr) -> Option<SqlType> {
    match value {
        Expr::Nested(inner) => written_type(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } if is_literal(expr) => written_type(expr),
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => {
            let fits = |number: i64| if i32::try_from(number).is_ok() { SqlType::Int } else { SqlType::BigInt };
            number.parse().ok().map(fits)
        }
        Expr::Cast { data_type, .. } => SqlType::from_ast(data_type),
        Expr::TypedString(typed) => match SqlType::from_ast(&typed.data_type)? {
            SqlType::Timestamp(_) => {
                let text = typed.value.value.clone().into_string()?;
                // A literal has as many digits as are written.
                let digits = text.split_once('.').map_or(0, |(_, fraction)| fraction.len().min(9));
                Some(SqlType::Timestamp(u8::try_from(digits).unwrap_or(9)))
            }
            other => Some(other),
        },
        _ => None,
    }
}

/// The type that holds values of both, where only the declared precision or length differs; else the first.
fn wider(one: SqlType, other: SqlType) -> SqlType {
    match (one, other) {
        (SqlType::Timestamp(one), SqlType::Timestamp(other)) => SqlType::Timestamp(one.max(other)),
        (SqlType::TimestampLtz(one), SqlType::TimestampLtz(other)) => SqlType::TimestampLtz(one.max(other)),
        (one, other) if is_integer(&one) && is_integer(&other) => {
            if integer_width(&one) < integer_width(&other) {
                other
            } else {
                one
            }
        }
        (one, other) if one.is_text() && other.is_text() && one != other => SqlType::Text,
        (one, _) => one,
    }
}

/// Whether fields of the type carry more than Arrow's type.
fn has_precision(sql_type: &SqlType) -> bool {
    matches!(sql_type, SqlType::Timestamp(_) | SqlType::TimestampLtz(_)) || sql_type.is_text()
}

fn is_integer(sql_type: &SqlType) -> bool {
    integer_width(sql_type).is_some()
}

fn integer_width(sql_type: &SqlType) -> Option<u8> {
    match sql_type {
        SqlType::TinyInt => Some(1),
        SqlType::SmallInt => Some(2),
        SqlType::Int => Some(4),
        SqlType::BigInt => Some(8),
        _ => None,
    }
}

/// A text, a number with or without a sign, or NULL: a value without a type of its own.
fn is_literal(value: &Expr) -> bool {
    match value {
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => is_literal(expr),
        value => matches!(value, Expr::Value(_)),
    }
}

fn is_null(value: &Expr) -> bool {
    matches!(value, Expr::Value(literal) if literal.value == Value::Null)
}

fn cast(value: &mut Expr, sql_type: &SqlType) {
    let data_type = DataType::Custom(ObjectName::from(vec![Ident::new(sql_type.to_string())]), vec![]);
    let inner = std::mem::replace(value, Expr::value(Value::Null));
    *value = Expr::Cast { kind: CastKind::Cast, expr: Box::new(inner), data_type, array: false, format: None };
}

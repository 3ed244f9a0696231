//! One type for each column of VALUES.
//!
//! DataFusion finds the common type of a column's values, but refuses those whose declared types differ in what Arrow does not
//! know: `VALUES (TIMESTAMP '… 00:00:01'), (TIMESTAMP '… 00:00:01.5'), (NULL)`. Here such values are cast to the wider type
//! before it sees them, as Flink does.

use datafusion::sql::sqlparser::ast::{CastKind, DataType, Expr, Ident, ObjectName, SetExpr, Value, Values};

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
        if !has_precision(&common) || types.iter().all(|found| found.as_ref() == Some(&common)) {
            continue;
        }
        for (row, found) in values.rows.iter_mut().zip(&types) {
            let value = &mut row.content[column];
            if found.as_ref() != Some(&common) && !is_plain_literal(value) {
                cast(value, &common);
            }
        }
    }
}

/// The type that stands in the text of a value.
fn written_type(value: &Expr) -> Option<SqlType> {
    match value {
        Expr::Nested(inner) => written_type(inner),
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
        (one, other) if one.is_text() && other.is_text() && one != other => SqlType::Text,
        (one, _) => one,
    }
}

/// Whether fields of the type carry more than Arrow's type.
fn has_precision(sql_type: &SqlType) -> bool {
    matches!(sql_type, SqlType::Timestamp(_) | SqlType::TimestampLtz(_)) || sql_type.is_text()
}

/// A text or number without a type of its own: what it may become is for the binder to say. NULL becomes anything.
fn is_plain_literal(value: &Expr) -> bool {
    matches!(value, Expr::Value(literal) if literal.value != Value::Null)
}

fn cast(value: &mut Expr, sql_type: &SqlType) {
    let data_type = DataType::Custom(ObjectName::from(vec![Ident::new(sql_type.to_string())]), vec![]);
    let inner = std::mem::replace(value, Expr::value(Value::Null));
    *value = Expr::Cast { kind: CastKind::Cast, expr: Box::new(inner), data_type, array: false, format: None };
}

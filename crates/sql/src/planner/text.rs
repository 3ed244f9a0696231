//! The canonical text of an expression: what EXPLAIN prints and what ids are made from.

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use super::type_name::sql_type_name;
use crate::functions::expr_planner::sign_of;

/// `expr` as SQL. `name` gives the name of a column.
pub(crate) fn text(expr: &Expr, name: &dyn Fn(&Column) -> String) -> String {
    let of = |part: &Expr| text(part, name);
    let list = |parts: &[Expr]| parts.iter().map(of).collect::<Vec<_>>().join(", ");
    let not = |negated: bool| if negated { "NOT " } else { "" };
    match expr {
        Expr::Alias(alias) => of(&alias.expr),
        Expr::Column(column) => name(column),
        Expr::Literal(value, _) => literal(value),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            format!("{} {op} {}", operand(left, Some(op), name), operand(right, Some(op), name))
        }
        Expr::Not(inner) => format!("NOT {}", operand(inner, None, name)),
        Expr::Negative(inner) => format!("-{}", operand(inner, None, name)),
        Expr::IsNull(inner) => format!("{} IS NULL", operand(inner, None, name)),
        Expr::IsNotNull(inner) => format!("{} IS NOT NULL", operand(inner, None, name)),
        Expr::IsTrue(inner) => format!("{} IS TRUE", operand(inner, None, name)),
        Expr::IsFalse(inner) => format!("{} IS FALSE", operand(inner, None, name)),
        Expr::IsUnknown(inner) => format!("{} IS UNKNOWN", operand(inner, None, name)),
        Expr::IsNotTrue(inner) => format!("{} IS NOT TRUE", operand(inner, None, name)),
        Expr::IsNotFalse(inner) => format!("{} IS NOT FALSE", operand(inner, None, name)),
        Expr::IsNotUnknown(inner) => format!("{} IS NOT UNKNOWN", operand(inner, None, name)),
        Expr::Between(between) => format!(
            "{} {}BETWEEN {} AND {}",
            operand(&between.expr, None, name),
            not(between.negated),
            operand(&between.low, None, name),
            operand(&between.high, None, name)
        ),
        Expr::Like(like) => format!(
            "{} {}{} {}{}",
            operand(&like.expr, None, name),
            not(like.negated),
            if like.case_insensitive { "ILIKE" } else { "LIKE" },
            of(&like.pattern),
            like.escape_char.map_or_else(String::new, |escape| format!(" ESCAPE '{escape}'"))
        ),
        Expr::InList(InList { expr, list: items, negated }) => {
            format!("{} {}IN ({})", operand(expr, None, name), not(*negated), list(items))
        }
        Expr::Case(case) => {
            let mut out = "CASE".to_string();
            if let Some(subject) = &case.expr {
                out.push_str(&format!(" {}", of(subject)));
            }
            for (when, then) in &case.when_then_expr {
                out.push_str(&format!(" WHEN {} THEN {}", of(when), of(then)));
            }
            if let Some(otherwise) = &case.else_expr {
                out.push_str(&format!(" ELSE {}", of(otherwise)));
            }
            out + " END"
        }
        Expr::Cast(cast) => format!("CAST({} AS {})", of(&cast.expr), sql_type_name(cast.field.data_type())),
        Expr::TryCast(cast) => format!("TRY_CAST({} AS {})", of(&cast.expr), sql_type_name(cast.field.data_type())),
        Expr::ScalarFunction(call) => match (sign_of(call.func.name()), call.args.as_slice()) {
            (Some(symbol), [left, right]) => {
                format!("{} {symbol} {}", operand(left, None, name), operand(right, None, name))
            }
            _ if call.func.name() == "get_field" => field_access(&call.args, name),
            _ => format!("{}({})", call.func.name().to_uppercase(), list(&call.args)),
        },
        other => other.to_string(),
    }
}

/// `bid.price`, and `map['key']` for anything else.
fn field_access(args: &[Expr], name: &dyn Fn(&Column) -> String) -> String {
    let mut out = args.first().map(|root| operand(root, None, name)).unwrap_or_default();
    for key in args.iter().skip(1) {
        match key {
            Expr::Literal(ScalarValue::Utf8(Some(field)), _) => out.push_str(&format!(".{field}")),
            key => out.push_str(&format!("[{}]", text(key, name))),
        }
    }
    out
}

/// Parentheses where the text would read differently without: chains of one AND, OR, + or * need none.
fn operand(expr: &Expr, parent: Option<&Operator>, name: &dyn Fn(&Column) -> String) -> String {
    let inner = text(expr, name);
    let compound = match expr {
        Expr::BinaryExpr(binary) => {
            let chain = matches!(binary.op, Operator::And | Operator::Or) && parent == Some(&binary.op);
            let condition = matches!(parent, Some(Operator::And | Operator::Or)) && is_comparison(binary.op);
            !chain && !condition
        }
        Expr::ScalarFunction(call) => sign_of(call.func.name()).is_some(),
        Expr::Not(_) | Expr::Between(_) | Expr::Like(_) | Expr::InList(_) | Expr::Negative(_) => true,
        Expr::Alias(alias) => return operand(&alias.expr, parent, name),
        _ => false,
    };
    if compound { format!("({inner})") } else { inner }
}

fn is_comparison(op: Operator) -> bool {
    matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

fn literal(value: &ScalarValue) -> String {
    if value.is_null() {
        return match value {
            ScalarValue::Null => "NULL".to_string(),
            typed => format!("CAST(NULL AS {})", sql_type_name(&typed.data_type())),
        };
    }
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        ScalarValue::Boolean(Some(value)) => if *value { "TRUE" } else { "FALSE" }.to_string(),
        ScalarValue::IntervalMonthDayNano(Some(interval)) => interval_text(interval.months, interval.days, interval.nanoseconds),
        ScalarValue::TimestampMicrosecond(..) | ScalarValue::TimestampNanosecond(..) => {
            format!("TIMESTAMP '{}'", shown(value).replace('T', " ").trim_end_matches('Z'))
        }
        ScalarValue::Date32(_) => format!("DATE '{}'", shown(value)),
        ScalarValue::Time64Microsecond(_) => format!("TIME '{}'", shown(value)),
        other => shown(other),
    }
}

/// Each part that is not zero in its largest unit: `INTERVAL '5' SECOND`.
fn interval_text(months: i32, days: i32, nanoseconds: i64) -> String {
    let mut parts = vec![];
    if months != 0 {
        parts.push(format!("INTERVAL '{months}' MONTH"));
    }
    if days != 0 {
        parts.push(format!("INTERVAL '{days}' DAY"));
    }
    if nanoseconds != 0 || parts.is_empty() {
        let whole_seconds = nanoseconds / 1_000_000_000;
        let fraction = (nanoseconds % 1_000_000_000).unsigned_abs();
        parts.push(match fraction {
            0 if whole_seconds != 0 && whole_seconds % 3_600 == 0 => format!("INTERVAL '{}' HOUR", whole_seconds / 3_600),
            0 if whole_seconds != 0 && whole_seconds % 60 == 0 => format!("INTERVAL '{}' MINUTE", whole_seconds / 60),
            0 => format!("INTERVAL '{whole_seconds}' SECOND"),
            fraction => {
                let sign = if nanoseconds < 0 { "-" } else { "" };
                let digits = format!("{fraction:09}");
                format!("INTERVAL '{sign}{}.{}' SECOND", whole_seconds.unsigned_abs(), digits.trim_end_matches('0'))
            }
        });
    }
    parts.join(" + ")
}

fn shown(value: &ScalarValue) -> String {
    let formatted = value.to_array().ok().and_then(|array| {
        ArrayFormatter::try_new(&array, &FormatOptions::default()).ok().map(|formatter| formatter.value(0).to_string())
    });
    formatted.unwrap_or_else(|| value.to_string())
}

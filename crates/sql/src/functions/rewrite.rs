//! Syntax made into calls before planning.
//!
//! Apply [`rewrite`] to every expression of a statement, inner ones first (`VisitorMut::post_visit_expr`). What DataFusion's
//! planner would refuse or plan with another meaning becomes a call of a function of this module's parent:
//!
//! | written | becomes |
//! |---|---|
//! | `CAST(x AS T)`, `TRY_CAST(x AS T)`, `DATE '…'` | `cast(x, 'T')`, `try_cast(x, 'T')`, `typed_literal('…', 'DATE')` |
//! | `EXTRACT(u FROM x)`, `FLOOR(x TO u)`, `CEIL(x TO u)` | `extract('U', x)`, `floor_to(x, 'U')`, `ceil_to(x, 'U')` |
//! | `TIMESTAMPADD(u, n, x)`, `TIMESTAMPDIFF(u, a, b)` | the same with `'U'` |
//! | `SUBSTRING`, `TRIM`, `POSITION`, `OVERLAY` | calls of that name, or `ltrim`, `rtrim`, `btrim` |
//! | `IF(c, a, b)`, `IFNULL(a, b)` | `CASE`, `COALESCE` |
//! | `(a, b) OVERLAPS (c, d)` | `overlaps(a, b, c, d)` |
//! | `JSON_OBJECT(…)`, `JSON_ARRAY(…)` | `json_object_of(…)`, `json_array_of(…)` |
//! | `x LIKE 'a!%' ESCAPE '!'` | `x LIKE 'a\%'` |
//! | `INTERVAL '1 02:03' DAY TO MINUTE` | the same length in seconds or months, with one unit |

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, Interval, JsonNullClause, ObjectName, TrimWhereField,
    Value, ValueWithSpan, helpers::attached_token::AttachedToken,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::calendar::Unit;
use super::sql_type::SqlType;

/// Rewrites one expression whose parts are rewritten already.
pub fn rewrite(expr: &mut Expr) {
    if let Some(rewritten) = rewritten(expr) {
        *expr = rewritten;
    }
}

fn rewritten(expr: &mut Expr) -> Option<Expr> {
    match expr {
        Expr::Cast { kind, expr, data_type, array: false, format: None } => {
            let name = match kind {
                CastKind::Cast | CastKind::DoubleColon => "cast",
                CastKind::TryCast | CastKind::SafeCast => "try_cast",
            };
            let sql_type = SqlType::from_ast(data_type)?;
            Some(call(name, vec![take(expr), text(sql_type.to_string())]))
        }
        Expr::TypedString(typed) => {
            let value = typed.value.value.clone().into_string()?;
            let mut sql_type = SqlType::from_ast(&typed.data_type)?;
            if let SqlType::Timestamp(precision) = &mut sql_type {
                // A literal has as many digits as are written.
                *precision = value.split_once('.').map_or(0, |(_, fraction)| fraction.len().min(9) as u8);
            }
            Some(call("typed_literal", vec![text(value), text(sql_type.to_string())]))
        }
        Expr::Extract { field, expr, .. } => Some(call("extract", vec![text(field.to_string()), take(expr)])),
        Expr::Floor { expr, field } => round_to("floor_to", expr, field),
        Expr::Ceil { expr, field } => round_to("ceil_to", expr, field),
        Expr::Position { expr, r#in } => Some(call("position", vec![take(expr), take(r#in)])),
        Expr::Substring { expr, substring_from, substring_for, .. } => {
            let from = substring_from.as_mut().map_or_else(|| number(1), take);
            let arguments = [take(expr), from].into_iter().chain(substring_for.as_mut().map(take)).collect();
            Some(call("substring", arguments))
        }
        Expr::Trim { trim_where, trim_what, expr, trim_characters } => {
            let name = match trim_where {
                Some(TrimWhereField::Leading) => "ltrim",
                Some(TrimWhereField::Trailing) => "rtrim",
                Some(TrimWhereField::Both) | None => "btrim",
            };
            let mut arguments = vec![take(expr)];
            arguments.extend(trim_what.as_mut().map(take));
            arguments.extend(trim_characters.take().unwrap_or_default());
            Some(call(name, arguments))
        }
        Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
            let mut arguments = vec![take(expr), take(overlay_what), take(overlay_from)];
            arguments.extend(overlay_for.as_mut().map(take));
            Some(call("overlay", arguments))
        }
        Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => match (left.as_mut(), right.as_mut()) {
            (Expr::Tuple(first), Expr::Tuple(second)) if first.len() == 2 && second.len() == 2 => {
                Some(call("overlaps", first.drain(..).chain(second.drain(..)).collect()))
            }
            _ => None,
        },
        Expr::Interval(interval) => one_unit(interval),
        Expr::Like { pattern, escape_char, .. } => {
            escape_by_backslash(pattern, escape_char);
            None
        }
        Expr::Function(function) => function_call(function),
        _ => None,
    }
}

/// Makes `LIKE '50!%' ESCAPE '!'` into `LIKE '50\%'`: the engine knows no other escape character.
fn escape_by_backslash(pattern: &mut Expr, escape: &mut Option<ValueWithSpan>) {
    let Some(Value::SingleQuotedString(character)) = escape.as_ref().map(|escape| &escape.value) else { return };
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) = pattern else { return };
    let mut characters = character.chars();
    let (Some(character), None) = (characters.next(), characters.next()) else { return };
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        let literal = if next == character { rest.next().unwrap_or(character) } else { next };
        if literal == '\\' || (next == character && matches!(literal, '%' | '_')) {
            escaped.push('\\');
        }
        escaped.push(literal);
    }
    *text = escaped;
    *escape = None;
}

fn round_to(name: &str, expr: &mut Box<Expr>, field: &CeilFloorKind) -> Option<Expr> {
    match field {
        CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => None,
        CeilFloorKind::DateTimeField(unit) => Some(call(name, vec![take(expr), text(unit.to_string())])),
        CeilFloorKind::Scale(_) => None,
    }
}

fn function_call(function: &mut Function) -> Option<Expr> {
    let name = function.name.0.last()?.as_ident()?.value.to_ascii_lowercase();
    if function.name.0.len() > 1 || function.over.is_some() {
        return None;
    }
    let FunctionArguments::List(list) = &mut function.args else {
        return None;
    };
    match name.as_str() {
        "timestampadd" | "timestampdiff" => {
            if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) = list.args.first_mut()
                && let Expr::Identifier(unit) = first
                && Unit::parse(&unit.value).is_some()
            {
                *first = text(unit.value.to_uppercase());
            }
            None
        }
        "if" => {
            let [condition, result, otherwise] = <[Expr; 3]>::try_from(plain_arguments(list)?).ok()?;
            Some(Expr::Case {
                case_token: AttachedToken::empty(),
                end_token: AttachedToken::empty(),
                operand: None,
                conditions: vec![CaseWhen { condition, result }],
                else_result: Some(Box::new(otherwise)),
            })
        }
        "ifnull" => {
            let arguments = plain_arguments(list)?;
            (arguments.len() == 2).then(|| call("coalesce", arguments))
        }
        "json_object" => json_object(list),
        "json_array" => json_array(list),
        _ => None,
    }
}

/// The arguments if all are plain expressions.
fn plain_arguments(list: &FunctionArgumentList) -> Option<Vec<Expr>> {
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return None;
    }
    list.args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect()
}

/// What to do with nulls, and which values are JSON already: `N` or `A`, then `j` or `v` for each value.
fn json_flags<'a>(list: &FunctionArgumentList, default: char, values: impl Iterator<Item = &'a Expr>) -> Option<Expr> {
    let mut flags = String::from(default);
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::JsonNullClause(JsonNullClause::NullOnNull) => flags = "N".to_string(),
            FunctionArgumentClause::JsonNullClause(JsonNullClause::AbsentOnNull) => flags = "A".to_string(),
            _ => return None,
        }
    }
    for value in values {
        let is_json = match value {
            Expr::Function(function) => {
                let name = function.name.to_string();
                ["json_object_of", "json_array_of"].contains(&name.as_str()) || name.eq_ignore_ascii_case("json_query")
            }
            _ => false,
        };
        flags.push(if is_json { 'j' } else { 'v' });
    }
    Some(text(flags))
}

fn json_object(list: &FunctionArgumentList) -> Option<Expr> {
    let mut pairs: Vec<Expr> = vec![];
    for argument in &list.args {
        match argument {
            FunctionArg::ExprNamed { name, arg: FunctionArgExpr::Expr(value), .. } => {
                pairs.extend([name.clone(), value.clone()]);
            }
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                pairs.extend([text(name.value.clone()), value.clone()]);
            }
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => pairs.push(value.clone()),
            _ => return None,
        }
    }
    let flags = json_flags(list, 'N', pairs.iter().skip(1).step_by(2))?;
    Some(call("json_object_of", std::iter::once(flags).chain(pairs).collect()))
}

fn json_array(list: &FunctionArgumentList) -> Option<Expr> {
    let values = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
        _ => None,
    });
    let values = values.collect::<Option<Vec<Expr>>>()?;
    let flags = json_flags(list, 'A', values.iter())?;
    Some(call("json_array_of", std::iter::once(flags).chain(values).collect()))
}

/// An interval over several units, or with a precision, as one of a single unit; plain ones are left alone.
fn one_unit(interval: &Interval) -> Option<Expr> {
    let leading = interval.leading_field.as_ref()?;
    let has_precision = interval.leading_precision.is_some() || interval.fractional_seconds_precision.is_some();
    let unit = Unit::parse(&leading.to_string())?;
    let Some(last) = &interval.last_field else {
        let is_plain = !has_precision && unit != Unit::Quarter && unit != Unit::Week;
        if is_plain {
            return None;
        }
        let (factor, unit) = match unit {
            Unit::Quarter => (3, DateTimeField::Month),
            Unit::Week => (7, DateTimeField::Day),
            _ => (1, leading.clone()),
        };
        let value = interval_text(&interval.value)?;
        let value = if factor == 1 { value } else { (value.trim().parse::<i64>().ok()?.checked_mul(factor)?).to_string() };
        return Some(plain_interval(value, unit));
    };
    let value = interval_text(&interval.value)?;
    let (negative, value) = match value.trim().strip_prefix('-') {
        Some(rest) => (true, rest.to_string()),
        None => (false, value.trim().trim_start_matches('+').to_string()),
    };
    let sign = if negative { "-" } else { "" };
    let last = Unit::parse(&last.to_string())?;
    if (unit, last) == (Unit::Year, Unit::Month) {
        let (years, months) = value.split_once('-')?;
        let months = years.trim().parse::<i64>().ok()?.checked_mul(12)?.checked_add(months.trim().parse().ok()?)?;
        return Some(plain_interval(format!("{sign}{months}"), DateTimeField::Month));
    }
    // From the largest unit down: `days hours:minutes:seconds.fraction`.
    let units = [Unit::Day, Unit::Hour, Unit::Minute, Unit::Second];
    let first = units.iter().position(|known| *known == unit)?;
    let end = units.iter().position(|known| *known == last)?;
    let parts: Vec<&str> = value.split([' ', ':']).filter(|part| !part.is_empty()).collect();
    if end <= first || parts.len() != end - first + 1 {
        return None;
    }
    let mut seconds = 0_i64;
    let mut fraction = "";
    for (part, unit) in parts.iter().zip(&units[first..=end]) {
        let whole = match part.split_once('.') {
            Some((whole, digits)) if *unit == Unit::Second && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                fraction = digits;
                whole
            }
            Some(_) => return None,
            None => part,
        };
        let count = whole.parse::<u32>().ok().map(i64::from)?;
        seconds = seconds.checked_add(count.checked_mul(unit.micros()? / 1_000_000)?)?;
    }
    let dot = if fraction.is_empty() { "" } else { "." };
    Some(plain_interval(format!("{sign}{seconds}{dot}{fraction}"), DateTimeField::Second))
}

fn interval_text(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text.clone()),
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => Some(number.to_string()),
        _ => None,
    }
}

fn plain_interval(value: String, unit: DateTimeField) -> Expr {
    Expr::Interval(Interval {
        value: Box::new(text(value)),
        leading_field: Some(unit),
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

fn take(expr: &mut Box<Expr>) -> Expr {
    std::mem::replace(expr.as_mut(), Expr::Value(Value::Null.with_span(Span::empty())))
}

fn text(value: String) -> Expr {
    Expr::Value(Value::SingleQuotedString(value).with_span(Span::empty()))
}

fn number(value: u32) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).with_span(Span::empty()))
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use datafusion::sql::sqlparser::ast::{VisitMut, VisitorMut};
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    struct Rewriter;

    impl VisitorMut for Rewriter {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            rewrite(expr);
            ControlFlow::Continue(())
        }
    }

    fn check(written: &str, expected: &str) {
        let mut expr = Parser::new(&GenericDialect {}).try_with_sql(written).unwrap().parse_expr().unwrap();
        let _ = VisitMut::visit(&mut expr, &mut Rewriter);
        assert_eq!(expr.to_string(), expected, "{written}");
    }

    #[test]
    fn syntax_becomes_calls() {
        check("CAST(x AS DECIMAL(10,2))", "cast(x, 'DECIMAL(10, 2)')");
        check("TRY_CAST(CAST(x AS STRING) AS TIMESTAMP(3))", "try_cast(cast(x, 'STRING'), 'TIMESTAMP(3)')");
        check("CAST(x AS TIMESTAMP_LTZ(3))", "cast(x, 'TIMESTAMP_LTZ(3)')");
        check("CAST(x AS ARRAY<INT>)", "cast(x, 'ARRAY<INT>')");
        check("TIMESTAMP '2026-01-31 10:20:30.12'", "typed_literal('2026-01-31 10:20:30.12', 'TIMESTAMP(2)')");
        check("EXTRACT(HOUR FROM at)", "extract('HOUR', at)");
        check("FLOOR(at TO DAY)", "floor_to(at, 'DAY')");
        check("FLOOR(x)", "FLOOR(x)");
        check("TIMESTAMPDIFF(SECOND, a, b)", "TIMESTAMPDIFF('SECOND', a, b)");
        check("SUBSTRING(s FROM 2 FOR 3)", "substring(s, 2, 3)");
        check("SUBSTR(s, 2)", "substring(s, 2)");
        check("TRIM(LEADING 'x' FROM s)", "ltrim(s, 'x')");
        check("TRIM(s)", "btrim(s)");
        check("POSITION(a IN b)", "position(a, b)");
        check("OVERLAY(s PLACING 'XX' FROM 2)", "overlay(s, 'XX', 2)");
        check("IF(a > 1, 'x', 'y')", "CASE WHEN a > 1 THEN 'x' ELSE 'y' END");
        check("a LIKE '50!%!!_' ESCAPE '!'", "a LIKE '50\\%!_'");
        check("a LIKE '\\%' ESCAPE '\\'", "a LIKE '\\%'");
        check("IFNULL(a, b)", "coalesce(a, b)");
        check("COUNT(DISTINCT x)", "COUNT(DISTINCT x)");
    }

    #[test]
    fn intervals_get_one_unit() {
        check("INTERVAL '10' SECOND", "INTERVAL '10' SECOND");
        check("INTERVAL '1-2' YEAR TO MONTH", "INTERVAL '14' MONTH");
        check("INTERVAL '-1-2' YEAR TO MONTH", "INTERVAL '-14' MONTH");
        check("INTERVAL '1 02:03:04.005' DAY TO SECOND", "INTERVAL '93784.005' SECOND");
        check("INTERVAL '1:30' HOUR TO MINUTE", "INTERVAL '5400' SECOND");
        check("INTERVAL '2' WEEK", "INTERVAL '14' DAY");
        check("INTERVAL 'tea' DAY TO SECOND", "INTERVAL 'tea' DAY TO SECOND");
    }

    #[test]
    fn json_constructors() {
        check("JSON_ARRAY(a, JSON_ARRAY(1))", "json_array_of('Avj', a, json_array_of('Av', 1))");
        check("JSON_OBJECT('a' VALUE x ABSENT ON NULL)", "json_object_of('Av', 'a', x)");
    }
}

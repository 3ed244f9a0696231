//! SQL interval literals, spelled so that DataFusion understands them.

use datafusion::sql::sqlparser::ast::{DateTimeField, Expr, Interval, Value};

/// The fields of an interval, largest first, with the words that DataFusion reads.
const FIELDS: &[(&str, &str)] =
    &[("YEAR", "years"), ("MONTH", "months"), ("DAY", "days"), ("HOUR", "hours"), ("MINUTE", "minutes"), ("SECOND", "seconds")];

/// Spells `INTERVAL '1 02:03:04.005' DAY TO SECOND` as `INTERVAL '1 days 2 hours 3 minutes 4.005 seconds'`; leaves alone what
/// it does not understand, for DataFusion to complain about. Precisions are dropped: values keep all their digits.
pub(crate) fn normalise(interval: &mut Interval) {
    if let Some(text) = spelled(interval)
        && let Expr::Value(value) = &mut *interval.value
    {
        value.value = Value::SingleQuotedString(text);
        interval.leading_field = None;
        interval.last_field = None;
        interval.leading_precision = None;
        interval.fractional_seconds_precision = None;
    }
}

fn spelled(interval: &Interval) -> Option<String> {
    let Expr::Value(value) = &*interval.value else {
        return None;
    };
    let Value::SingleQuotedString(text) = &value.value else {
        return None;
    };
    let first = field_index(interval.leading_field.as_ref()?)?;
    let last = match &interval.last_field {
        Some(last) => field_index(last)?,
        None => first,
    };
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest.trim_start()),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let parts: Vec<&str> = digits.split([' ', ':', '-']).filter(|part| !part.is_empty()).collect();
    if last < first || parts.len() != last - first + 1 {
        return None;
    }
    let spelled: Vec<String> = parts
        .iter()
        .zip(&FIELDS[first..=last])
        .map(|(number, (_, word))| is_number(number).then(|| format!("{sign}{number} {word}")))
        .collect::<Option<_>>()?;
    Some(spelled.join(" "))
}

fn is_number(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || c == '.') && text.starts_with(|c: char| c.is_ascii_digit())
}

fn field_index(field: &DateTimeField) -> Option<usize> {
    let name = field.to_string();
    let name = name.strip_suffix('S').filter(|name| !name.is_empty()).unwrap_or(&name);
    FIELDS.iter().position(|(field, _)| *field == name)
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn check(sql: &str, expected: Option<&str>) {
        let expr = Parser::new(&GenericDialect {}).try_with_sql(sql).unwrap().parse_expr().unwrap();
        let Expr::Interval(interval) = expr else { panic!("{sql} is no interval") };
        assert_eq!(spelled(&interval).as_deref(), expected, "{sql}");
    }

    #[test]
    fn spells_every_field() {
        check("INTERVAL '10' SECOND", Some("10 seconds"));
        check("INTERVAL '-3' SECOND", Some("-3 seconds"));
        check("INTERVAL '0.5' SECOND", Some("0.5 seconds"));
        check("INTERVAL '1-2' YEAR TO MONTH", Some("1 years 2 months"));
        check("INTERVAL '1 02:03:04.005' DAY TO SECOND", Some("1 days 02 hours 03 minutes 04.005 seconds"));
        check("INTERVAL '10' DAYS", Some("10 days"));
        check("INTERVAL 'ten' DAY", None);
        check("INTERVAL '1:2' DAY", None);
    }
}

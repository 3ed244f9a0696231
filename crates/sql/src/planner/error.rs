//! DataFusion's errors as our findings, and our findings through DataFusion.

use std::error::Error;
use std::fmt;

use datafusion::common::{Column, DataFusionError, SchemaError};
use datafusion::sql::sqlparser::ast;
use thalweg_core::{Code, Diagnostic, Span};

use super::span;

/// A finding on its way through DataFusion's planner.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Box<Diagnostic>);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for Refusal {}

impl From<Diagnostic> for Refusal {
    fn from(finding: Diagnostic) -> Self {
        Refusal(Box::new(finding))
    }
}

/// Wraps a finding so that it comes out of [`finding`] as it went in.
pub(crate) fn refuse(finding: Diagnostic) -> DataFusionError {
    DataFusionError::External(Box::new(Refusal::from(finding)))
}

/// What a person can do with an error of DataFusion. `query` is where names are looked up whose place was lost on the way;
/// `None` when the text is not the user's current one.
pub(crate) fn finding(error: &DataFusionError, query: Option<&ast::Query>) -> Diagnostic {
    let mut place = None;
    let mut error = error;
    loop {
        match error {
            DataFusionError::Diagnostic(diagnostic, inner) => {
                place = diagnostic.span.and_then(span::of_datafusion).or(place);
                error = inner;
            }
            DataFusionError::Context(_, inner) => error = inner,
            DataFusionError::Shared(inner) => error = inner,
            DataFusionError::Collection(errors) if !errors.is_empty() => error = &errors[0],
            _ => break,
        }
    }
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<Refusal>() {
            Some(Refusal(finding)) if finding.labels.is_empty() => (**finding).clone().label_opt(place, "here"),
            Some(Refusal(finding)) => (**finding).clone(),
            None => Diagnostic::error(Code::NOT_YET, one_line(&inner.to_string())).label_opt(place, "here"),
        },
        DataFusionError::SchemaError(error, _) => schema_finding(error, place, query),
        DataFusionError::NotImplemented(message) => {
            Diagnostic::error(Code::NOT_YET, format!("this does not run yet: {}", one_line(message))).label_opt(place, "here")
        }
        DataFusionError::Plan(message) => plan_finding(message, place, query),
        DataFusionError::Execution(message) => plan_finding(message, place, query),
        other => Diagnostic::error(Code::TYPE_MISMATCH, one_line(&other.strip_backtrace())).label_opt(place, "here"),
    }
}

fn schema_finding(error: &SchemaError, place: Option<Span>, query: Option<&ast::Query>) -> Diagnostic {
    let place_of = |column: &Column| {
        place.or_else(|| span::of_column(column)).or_else(|| query.and_then(|query| span::find_column(query, &column.name)))
    };
    match error {
        SchemaError::FieldNotFound { field, valid_fields }
            if field.relation.is_some()
                && !valid_fields.is_empty()
                && valid_fields.iter().all(|valid| valid.relation != field.relation) =>
        {
            let relation = field.relation.as_ref().map_or("", |relation| relation.table());
            let mut tables: Vec<&str> =
                valid_fields.iter().filter_map(|valid| valid.relation.as_ref()).map(|relation| relation.table()).collect();
            tables.dedup();
            Diagnostic::error(Code::UNKNOWN_COLUMN, format!("\"{relation}\" is neither a table of this query nor a ROW column"))
                .label_opt(place_of(field), "here")
                .help_nearest(relation, tables.iter().copied(), Some(format!("known here: {}", tables.join(", "))))
        }
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
            unknown_column(&field.name, &names, place_of(field))
        }
        SchemaError::AmbiguousReference { field } => {
            Diagnostic::error(Code::AMBIGUOUS_COLUMN, format!("column \"{}\" fits more than one input", field.name))
                .label_opt(place_of(field), "which one?")
                .help("write the table's name or alias before it")
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            duplicate(name, place.or_else(|| query.and_then(|query| span::find_column(query, name))))
        }
    }
}

/// A column that is not there, with the nearest one that is.
pub(crate) fn unknown_column(name: &str, valid: &[&str], place: Option<Span>) -> Diagnostic {
    let otherwise = match valid.len() {
        0 => None,
        1..=20 => Some(format!("known here: {}", valid.join(", "))),
        more => Some(format!("known here: {} and {} more", valid[..20].join(", "), more - 20)),
    };
    Diagnostic::error(Code::UNKNOWN_COLUMN, format!("unknown column \"{name}\""))
        .label_opt(place, "not a column here")
        .help_nearest(name, valid.iter().copied(), otherwise)
}

fn duplicate(name: &str, place: Option<Span>) -> Diagnostic {
    Diagnostic::error(Code::DUPLICATE_NAME, format!("column \"{name}\" occurs twice in one result"))
        .label_opt(place, "one of them")
        .help("give one of them another name with AS")
}

fn plan_finding(message: &str, place: Option<Span>, query: Option<&ast::Query>) -> Diagnostic {
    let text = one_line(message);
    let has = |part: &str| message.contains(part);
    if has("must appear in the GROUP BY clause") || has("could not be resolved from available columns") {
        let column = quoted(&text).map(|name| name.rsplit('.').next().unwrap_or(name));
        let place = place.or_else(|| query.zip(column).and_then(|(query, name)| span::find_column(query, name)));
        let message = match column {
            Some(name) => format!("column \"{name}\" is neither grouped nor aggregated"),
            None => "a column is neither grouped nor aggregated".to_string(),
        };
        return Diagnostic::error(Code::BAD_GROUPING, message)
            .label_opt(place, "not in GROUP BY")
            .help("add it to GROUP BY, or put it into MIN or MAX");
    }
    if has("require unique expression names") {
        return Diagnostic::error(Code::DUPLICATE_NAME, "two columns of one result have the same name")
            .label_opt(place, "here")
            .help("give one of them another name with AS");
    }
    if has("non-boolean predicate") || has("Filter predicate must return BOOLEAN") {
        return Diagnostic::error(Code::TYPE_MISMATCH, "a condition is not BOOLEAN")
            .label_opt(place.or_else(|| query.and_then(span::find_condition)), "not a condition")
            .help("compare it with something, such as amount > 0");
    }
    if let Some((operator, left, right)) = operands(&text) {
        return Diagnostic::error(Code::TYPE_MISMATCH, format!("{operator} cannot take {left} and {right}"))
            .label_opt(place, "here")
            .help(match left.starts_with("TIMESTAMP") || left == "DATE" {
                true => "add or subtract an INTERVAL, such as INTERVAL '5' SECOND",
                false => "CAST one side to the type of the other",
            });
    }
    if let Some(rest) = text.strip_prefix("inconsistent data length across values list: got ")
        && let [given, row, expected] = numbers(rest).as_slice()
    {
        let row_place = query.and_then(|query| span::find_values_row(query, *row));
        let message = format!("row {} of VALUES has {given} values, the first one has {expected}", row + 1);
        return Diagnostic::error(Code::TYPE_MISMATCH, message)
            .label_opt(place.or(row_place), "this row")
            .help("give every row the same number of values");
    }
    if let Some((_, found)) = text.split_once("annot access field at argument 1: type ") {
        let found = found.split(" is not").next().unwrap_or(found);
        return Diagnostic::error(Code::TYPE_MISMATCH, format!("a field is taken of a value that is {found}, not a ROW"))
            .label_opt(place, "here")
            .help("only a ROW has fields, written row.field; table.column needs the name or alias of a table in FROM");
    }
    if has("different number of columns") {
        return Diagnostic::error(Code::TYPE_MISMATCH, "the queries of a UNION have different numbers of columns")
            .label_opt(query.and_then(span::find_union).or(place), "does not fit the query before it")
            .help("select the same number of columns in both");
    }
    if has("Incompatible inputs for Union") {
        return Diagnostic::error(Code::TYPE_MISMATCH, "the queries of a UNION have columns of different types")
            .label_opt(place.or_else(|| query.and_then(span::find_union)), "does not fit the query before it")
            .help(match text.rsplit_once(" on column ") {
                Some((_, column)) => format!("CAST column {column} to the type that it has in the other query"),
                None => text,
            });
    }
    if has("aggregate functions are not allowed in the WHERE clause")
        || has("Aggregate functions are not allowed in the WHERE clause")
    {
        return Diagnostic::error(Code::BAD_GROUPING, "WHERE cannot use an aggregate: it chooses rows before they are grouped")
            .label_opt(place.or_else(|| query.and_then(span::find_condition)), "here")
            .help("put the condition into HAVING");
    }
    if has("Aggregate function calls cannot be nested") {
        return Diagnostic::error(Code::BAD_GROUPING, "an aggregate cannot be the argument of an aggregate")
            .label_opt(place, "here")
            .help("compute the inner one in a subquery");
    }
    if has("should only return one column") {
        return Diagnostic::error(Code::TYPE_MISMATCH, "a subquery that is compared, or stands for a value, has one column")
            .label_opt(place, "more than one")
            .help("select one column in it; several are compared with (a, b) IN (SELECT c, d …)");
    }
    let function = function_in(message);
    let place = place.or_else(|| query.zip(function).and_then(|(query, name)| span::find_function(query, name)));
    match function {
        Some(name) => {
            let name = name.to_uppercase();
            let reason = reason(message);
            match reason.strip_prefix(&name).or_else(|| reason.strip_prefix(&format!("function {name}:"))) {
                // Our own functions say what they take.
                Some(reason) => {
                    Diagnostic::error(Code::BAD_ARGUMENTS, format!("{name} {}", reason.trim())).label_opt(place, "here")
                }
                None => Diagnostic::error(Code::BAD_ARGUMENTS, format!("{name} cannot take these arguments"))
                    .label_opt(place, "here")
                    .help(reason),
            }
        }
        None => Diagnostic::error(Code::TYPE_MISMATCH, text).label_opt(place, "here"),
    }
}

/// The part of a message about arguments that says why, without the errors around it.
fn reason(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(". No function matches").next().unwrap_or(line).split(" No function matches").next().unwrap_or(line);
    one_line(line.rsplit_once("External error: ").map_or(line, |(_, inner)| inner))
}

/// The function that one of DataFusion's messages about arguments, or one of ours, speaks of.
fn function_in(message: &str) -> Option<&str> {
    let leads = [
        "function call to '",
        "Function '",
        "function '",
        "No function matches the given name and argument types '",
        "function ",
    ];
    for lead in leads {
        if let Some(at) = message.find(lead) {
            let rest = &message[at + lead.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            return Some(&rest[..end]).filter(|name| !name.is_empty());
        }
    }
    None
}

/// Operator and types of a message about an operator between types that do not fit.
fn operands(text: &str) -> Option<(&str, &str, &str)> {
    if let Some(rest) = text.strip_prefix("cannot coerce arithmetic expression ") {
        let rest = rest.strip_suffix(" to valid types")?;
        return [" + ", " - ", " * ", " / ", " % "].into_iter().find_map(|operator| {
            let (left, right) = rest.split_once(operator)?;
            Some((operator.trim(), left, right))
        });
    }
    let rest = text.strip_prefix("there isn't a common type to coerce ")?;
    let (types, operator) = rest.strip_suffix(" expression")?.rsplit_once(" in ")?;
    let (left, right) = types.split_once(" and ")?;
    Some((operator, left, right))
}

/// The numbers in a text.
fn numbers(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// DataFusion's names of types as SQL has them.
fn with_sql_types(text: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("Utf8", "STRING"),
        ("Boolean", "BOOLEAN"),
        ("Int8", "TINYINT"),
        ("Int16", "SMALLINT"),
        ("Int32", "INT"),
        ("Int64", "BIGINT"),
        ("Float32", "FLOAT"),
        ("Float64", "DOUBLE"),
        ("Date32", "DATE"),
        ("Binary", "BYTES"),
        ("Decimal128", "DECIMAL"),
        ("Timestamp(µs)", "TIMESTAMP"),
        ("Timestamp(ns)", "TIMESTAMP"),
        ("Timestamp(µs, \"UTC\")", "TIMESTAMP_LTZ"),
        ("Time64(µs)", "TIME"),
        ("Interval(MonthDayNano)", "INTERVAL"),
    ];
    let mut out = text.to_string();
    for (theirs, ours) in NAMES {
        // A whole word only: UInt8 is no TINYINT, LargeUtf8 no STRING.
        let mut from = 0;
        while let Some(at) = out[from..].find(theirs).map(|at| at + from) {
            let end = at + theirs.len();
            let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            if is_part(out[..at].chars().next_back()) || is_part(out[end..].chars().next()) {
                from = end;
            } else {
                out.replace_range(at..end, ours);
                from = at + ours.len();
            }
        }
    }
    out
}

/// The first text between double quotes.
fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

/// DataFusion's message without its kind, backtrace and further lines, beginning in lower case.
pub(crate) fn one_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim();
    let line =
        ["Error during planning: ", "Execution error: "].iter().fold(line, |line, lead| line.strip_prefix(lead).unwrap_or(line));
    let line = line.trim_end_matches('.');
    let line = with_sql_types(line);
    let mut chars = line.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => line,
    }
}

//! Expressions evaluated from their SQL text, against the answers that Flink gave.

mod casts;
mod collections;
mod numbers;
mod texts;
mod times;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{DFSchema, Result};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::{Expr, ExprWithAlias, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use thalweg_core::ManualClock;

use super::cast::to_text::to_text;
use super::sql_type::SqlType;
use super::{FunctionContext, all, expr_planner, names, rewrite};

/// 2026-01-31T03:04:05.678Z, the time of all tests.
const NOW_MS: i64 = 1_769_828_645_678;

fn state(time_zone: chrono_tz::Tz) -> SessionState {
    let context = FunctionContext { time_zone, clock: Arc::new(ManualClock::at_wall_ms(NOW_MS)) };
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    let mut functions = all(&context);
    // The builder keeps the last of a name, and the first is to count.
    functions.reverse();
    SessionStateBuilder::new()
        .with_config(config)
        .with_scalar_functions(functions)
        .with_expr_planners(expr_planner::expr_planners())
        .build()
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        rewrite::rewrite(expr);
        ControlFlow::Continue(())
    }
}

/// The values of an expression over the rows of `columns`, and its type.
fn evaluate(sql: &str, columns: &RecordBatch, time_zone: chrono_tz::Tz) -> Result<(ArrayRef, SqlType)> {
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(sql).expect("the test's SQL has tokens");
    let mut expr = parser.parse_expr().expect("the test's SQL is right");
    let _ = VisitMut::visit(&mut expr, &mut Rewriter);
    let state = state(time_zone);
    let schema = DFSchema::try_from(columns.schema().as_ref().clone())?;
    let expr = state.create_logical_expr_from_sql_expr(ExprWithAlias { expr, alias: None }, &schema)?;
    // As the optimizer does: types, then constants.
    let context =
        SimplifyContext::builder().with_schema(Arc::new(schema.clone())).with_config_options(state.config_options().clone());
    let simplifier = ExprSimplifier::new(context.build());
    let expr = simplifier.simplify(simplifier.coerce(expr, &schema)?)?;
    let physical = state.create_physical_expr(expr, &schema)?;
    let field = physical.return_field(&columns.schema())?;
    let array = physical.evaluate(columns)?.into_array(columns.num_rows())?;
    assert_eq!(array.data_type(), field.data_type(), "{sql}");
    assert!(field.is_nullable() || array.null_count() == 0, "{sql} gave a null that it promised not to give");
    Ok((array, SqlType::of_field(&field)))
}

/// One row without columns.
fn one_row() -> RecordBatch {
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)
        .expect("no columns fit a schema without fields")
}

/// A table of texts, cast to the types of `columns` (`name TYPE`). `NULL` is null.
fn table(columns: &[(&str, &str)], rows: &[&[&str]]) -> RecordBatch {
    let arrays: Vec<(ArrayRef, SqlType)> = columns
        .iter()
        .enumerate()
        .map(|(index, (_, sql_type))| {
            let texts: StringArray = rows.iter().map(|row| (row[index] != "NULL").then_some(row[index])).collect();
            let field = SqlType::Text.to_field("s", true);
            let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(texts)]).unwrap();
            evaluate(&format!("CAST(s AS {sql_type})"), &batch, chrono_tz::UTC).unwrap()
        })
        .collect();
    let fields: Vec<_> = columns.iter().zip(&arrays).map(|((name, _), (_, sql_type))| sql_type.to_field(name, true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays.into_iter().map(|(array, _)| array).collect()).unwrap()
}

fn shown(array: &ArrayRef, sql_type: &SqlType, time_zone: chrono_tz::Tz) -> Vec<String> {
    let texts = to_text(array, sql_type, time_zone).unwrap();
    texts.iter().map(|text| text.unwrap_or("NULL").to_string()).collect()
}

/// An expression over a table gives these texts, as CAST to STRING prints them.
fn check_rows(sql: &str, columns: &RecordBatch, expected: &[&str]) {
    check_rows_in(sql, columns, chrono_tz::UTC, expected);
}

fn check_rows_in(sql: &str, columns: &RecordBatch, time_zone: chrono_tz::Tz, expected: &[&str]) {
    match evaluate(sql, columns, time_zone) {
        Ok((array, sql_type)) => assert_eq!(shown(&array, &sql_type, time_zone), expected, "{sql}"),
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// An expression of constants gives this text.
fn check(sql: &str, expected: &str) {
    check_rows(sql, &one_row(), &[expected]);
}

fn check_in(sql: &str, time_zone: chrono_tz::Tz, expected: &str) {
    check_rows_in(sql, &one_row(), time_zone, &[expected]);
}

/// An expression of constants has this type.
fn check_type(sql: &str, expected: &str) {
    assert_eq!(evaluate(sql, &one_row(), chrono_tz::UTC).unwrap().1.to_string(), expected, "{sql}");
}

/// An expression fails, with this in its message.
fn check_error(sql: &str, expected: &str) {
    match evaluate(sql, &one_row(), chrono_tz::UTC) {
        Ok((array, sql_type)) => panic!("{sql} gave {:?}", shown(&array, &sql_type, chrono_tz::UTC)),
        Err(error) => assert!(error.to_string().contains(expected), "{sql}: {error}"),
    }
}

#[test]
fn names_are_lower_case_and_unique() {
    let context = FunctionContext { time_zone: chrono_tz::UTC, clock: Arc::new(thalweg_core::ManualClock::default()) };
    let mut seen = HashSet::new();
    for function in all(&context) {
        assert_eq!(function.name(), function.name().to_lowercase());
        assert!(seen.insert(function.name().to_string()), "{} is defined twice", function.name());
    }
    assert!(seen.contains("split_index") && seen.contains("array_append") && seen.contains("coalesce"));
}

#[test]
fn no_name_of_datafusion_is_lost() {
    let names = names();
    let theirs = datafusion::functions::all_default_functions()
        .into_iter()
        .chain(datafusion::functions_nested::all_default_nested_functions());
    for function in theirs {
        for name in std::iter::once(function.name().to_string()).chain(function.aliases().iter().cloned()) {
            assert!(names.contains(&name), "{name} is lost");
        }
    }
}

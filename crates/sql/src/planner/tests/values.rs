//! Values of planned expressions over rows.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use thalweg_plan::{Expr, NodeKind};

use super::super::type_name::sql_type_name;
use super::tables::session;

/// Three orders with the columns that the tests compute with.
fn orders() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("order_id", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ("customer", Arc::new(StringArray::from(vec![Some("ann"), Some("bob"), None]))),
        ("amount", Arc::new(Int32Array::from(vec![Some(7), Some(-7), None]))),
        ("price", Arc::new(Decimal128Array::from(vec![Some(1_000), Some(-250), None]).with_precision_and_scale(10, 2).unwrap())),
        ("big", Arc::new(Int64Array::from(vec![Some(1_000), Some(i64::MAX), None]))),
        ("ratio", Arc::new(Float64Array::from(vec![Some(0.5), Some(-1.5), None]))),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

/// Plans `SELECT expression FROM orders` and evaluates the projection over [`orders`].
fn evaluate(expression: &str) -> (DataType, Result<Vec<String>, String>) {
    let plan = session()
        .query(&format!("SELECT {expression} AS x FROM orders"))
        .unwrap_or_else(|findings| panic!("{}", findings.iter().map(thalweg_core::Diagnostic::render).collect::<String>()));
    let source = &plan.nodes[0];
    let rows = orders();
    let columns: Vec<ArrayRef> = source
        .schema
        .fields()
        .iter()
        .map(|field| match rows.column_by_name(field.name()) {
            Some(column) => column.clone(),
            None => datafusion::arrow::array::new_null_array(field.data_type(), rows.num_rows()),
        })
        .collect();
    let input = RecordBatch::try_new(source.schema.clone(), columns).unwrap();
    let expr: Expr = plan
        .nodes
        .iter()
        .find_map(|node| match &node.kind {
            NodeKind::Project(project) => Some(project.exprs[0].clone()),
            _ => None,
        })
        .expect("the query computes something");
    let values = expr.physical.evaluate(&input).and_then(|value| value.into_array(input.num_rows()));
    let texts = values.map_err(|error| error.to_string()).map(|array| {
        let options = FormatOptions::default().with_null("null");
        let formatter = ArrayFormatter::try_new(&array, &options).unwrap();
        (0..array.len()).map(|row| formatter.value(row).to_string()).collect()
    });
    (expr.data_type, texts)
}

fn check(expression: &str, sql_type: &str, expected: &[&str]) {
    let (data_type, values) = evaluate(expression);
    assert_eq!(sql_type_name(&data_type), sql_type, "{expression}");
    assert_eq!(values.unwrap(), expected, "{expression}");
}

fn check_fails(expression: &str, expected: &str) {
    let error = evaluate(expression).1.unwrap_err();
    assert!(error.to_lowercase().contains(expected), "{expression}: {error}");
}

#[test]
fn decimals_are_exact_and_have_flinks_types() {
    check("0.908 * amount", "DECIMAL(14, 3)", &["6.356", "-6.356", "null"]);
    check("price / 3", "DECIMAL(21, 13)", &["3.3333333333333", "-0.8333333333333", "null"]);
    check("price + 1", "DECIMAL(13, 2)", &["11.00", "-1.50", "null"]);
    check("1 - price", "DECIMAL(13, 2)", &["-9.00", "3.50", "null"]);
    check("price * price", "DECIMAL(21, 4)", &["100.0000", "6.2500", "null"]);
    check("price % 3", "DECIMAL(10, 2)", &["1.00", "-2.50", "null"]);
    check("big * 0.908", "DECIMAL(23, 3)", &["908.000", "8374821809464136432.756", "null"]);
}

#[test]
fn a_decimal_that_does_not_fit_is_null() {
    let large = "CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0))";
    check(&format!("{large} + amount"), "DECIMAL(38, 0)", &["null", "99999999999999999999999999999999999992", "null"]);
}

#[test]
fn integers_truncate_and_are_checked() {
    check("amount / 2", "INT", &["3", "-3", "null"]);
    check("amount % 4", "INT", &["3", "-3", "null"]);
    check("amount + 1", "INT", &["8", "-6", "null"]);
    check_fails("big + 1", "overflow");
    check_fails("big * amount", "overflow");
    check_fails("order_id / 0", "zero");
    check_fails("price / 0", "zero");
}

#[test]
fn decimals_meet_doubles_as_doubles() {
    check("ratio * 0.5", "DOUBLE", &["0.25", "-0.75", "null"]);
    check("ratio > 0.1", "BOOLEAN", &["true", "false", "null"]);
    check("amount * 1.5e1", "DOUBLE", &["105.0", "-105.0", "null"]);
}

#[test]
fn texts_join_and_nulls_spread() {
    check("customer || '!'", "STRING", &["ann!", "bob!", "null"]);
    check("CASE WHEN amount > 0 THEN 1 ELSE 2.5 END", "DECIMAL(11, 1)", &["1.0", "2.5", "2.5"]);
}

//! Expressions over rows, with errors that name the expression and show the row.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::util::display::array_value_to_string;
use datafusion::common::DataFusionError;
use datafusion::physical_expr::utils::collect_columns;
use thalweg_core::{Error, ErrorKind, Result};
use thalweg_plan::Expr;

/// Characters of a value that an error shows.
const SHOWN_CHARACTERS: usize = 40;
/// Columns of a row that an error shows.
const SHOWN_COLUMNS: usize = 8;

/// The values of `expr` for each row of `rows`, of type `expr.data_type`.
/// # Errors
/// `Record` when a row is at fault (overflow, a cast of bad text): the message has the expression and the row's values.
/// `Internal` when the expression itself is.
pub fn evaluate(expr: &Expr, rows: &RecordBatch) -> Result<ArrayRef> {
    if let Some(column) = expr.as_column() {
        return Ok(rows.column(column).clone());
    }
    compute(expr, rows).map_err(|error| explain(expr, rows, error))
}

fn compute(expr: &Expr, rows: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
    expr.physical.evaluate(rows)?.into_array(rows.num_rows())
}

fn explain(expr: &Expr, rows: &RecordBatch, error: DataFusionError) -> Error {
    let mut error = error;
    let mut culprit = None;
    for row in 0..rows.num_rows() {
        // The error of the first bad row replaces that of the batch, which may be of another one.
        if let Err(row_error) = compute(expr, &rows.slice(row, 1)) {
            error = row_error;
            culprit = Some(row);
            break;
        }
    }
    let root = error.find_root();
    let kind = match (culprit, root) {
        (None, _) | (_, DataFusionError::Internal(_) | DataFusionError::Plan(_) | DataFusionError::SchemaError(..)) => {
            ErrorKind::Internal
        }
        _ => ErrorKind::Record,
    };
    let mut message = format!("cannot compute {}: {}", expr.text, first_line(&reason(root)));
    if let Some(row) = culprit {
        let values = row_text(expr, rows, row);
        if !values.is_empty() {
            message.push_str(&format!(" (row: {values})"));
        }
    }
    Error::new(kind, message)
}

fn reason(error: &DataFusionError) -> String {
    match error {
        DataFusionError::ArrowError(arrow, _) => arrow.to_string(),
        DataFusionError::Execution(text) => text.clone(),
        DataFusionError::External(other) => other.to_string(),
        other => other.to_string(),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_end_matches('.')
}

/// The columns that `expr` reads, in row `row`: `a = 1, b = 'x'`.
fn row_text(expr: &Expr, rows: &RecordBatch, row: usize) -> String {
    let mut columns: Vec<usize> = collect_columns(&expr.physical).iter().map(|column| column.index()).collect();
    columns.sort_unstable();
    columns
        .into_iter()
        .filter(|column| *column < rows.num_columns())
        .take(SHOWN_COLUMNS)
        .map(|column| format!("{} = {}", rows.schema_ref().field(column).name(), value_text(rows.column(column), row)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The value of `array` at `row` for people: shortened, text in quotes.
pub(crate) fn value_text(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".to_string();
    }
    let full = array_value_to_string(array, row).unwrap_or_else(|_| "?".to_string());
    let mut text: String = full.chars().take(SHOWN_CHARACTERS).collect();
    if text.len() < full.len() {
        text.push('…');
    }
    match array.data_type() {
        arrow::datatypes::DataType::Utf8 => format!("'{text}'"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column};

    use super::*;

    fn rows() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Int64, true),
            Field::new("word", DataType::Utf8, true),
        ]);
        let long = "x".repeat(100);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(Int64Array::from(vec![1, 7])),
                Arc::new(Int64Array::from(vec![1, 0])),
                Arc::new(StringArray::from(vec!["12", long.as_str()])),
            ],
        )
        .unwrap()
    }

    fn check(physical: Arc<dyn PhysicalExpr>, text: &str, expected: &str) {
        let expr = Expr { physical, text: text.to_string(), data_type: DataType::Int64, nullable: true, span: None };
        let error = evaluate(&expr, &rows()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Record);
        assert_eq!(error.message, expected);
    }

    #[test]
    fn errors_show_the_expression_and_the_row() {
        let a = Arc::new(Column::new("a", 0));
        let b = Arc::new(Column::new("b", 1));
        check(
            Arc::new(BinaryExpr::new(a, Operator::Divide, b)),
            "a / b",
            "cannot compute a / b: Divide by zero error (row: a = 7, b = 0)",
        );
        let word = Arc::new(Column::new("word", 2));
        let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
        check(
            Arc::new(CastExpr::new(word, DataType::Int64, Some(options))),
            "CAST(word AS BIGINT)",
            &format!(
                "cannot compute CAST(word AS BIGINT): Cast error: Cannot cast string '{}' to value of Int64 type (row: word = '{}…')",
                "x".repeat(100),
                "x".repeat(SHOWN_CHARACTERS)
            ),
        );
    }
}

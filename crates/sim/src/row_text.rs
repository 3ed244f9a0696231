//! Rows as lines: values as Flink's `json` format writes them, without quotes, two spaces between columns.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use thalweg_connectors::format::json::{JsonEncoder, JsonOptions};
use thalweg_core::{Batch, EncodedRows, Encoder, Result};

/// One line a row, in order. Where some row takes another back, each line begins with `+I` or `-D`.
pub fn lines(batches: &[Batch]) -> Result<Vec<String>> {
    let updating = batches.iter().any(|batch| batch.weights.is_some());
    let mut lines = vec![];
    for batch in batches {
        for (row, text) in rows(&batch.rows)?.into_iter().enumerate() {
            let weight = batch.weight(row);
            let mark = if weight < 0 { "-D  " } else { "+I  " };
            let line = if updating { format!("{mark}{text}") } else { text };
            lines.extend(std::iter::repeat_n(line, usize::try_from(weight.unsigned_abs()).unwrap_or(usize::MAX)));
        }
    }
    Ok(lines)
}

fn rows(rows: &RecordBatch) -> Result<Vec<String>> {
    let mut lines = vec![String::new(); rows.num_rows()];
    for (index, column) in rows.columns().iter().enumerate() {
        let schema = Arc::new(Schema::new(vec![Field::new("v", column.data_type().clone(), true)]));
        let mut encoded = EncodedRows::default();
        let mut encoder = JsonEncoder::new(&schema, &JsonOptions::default());
        encoder.encode(&RecordBatch::try_new(schema, vec![column.clone()])?, &mut encoded)?;
        for (line, row) in lines.iter_mut().zip(encoded.iter()) {
            if index > 0 {
                line.push_str("  ");
            }
            // The row is {"v":…}.
            line.push_str(&value_text(&String::from_utf8_lossy(&row[5..row.len() - 1])));
        }
    }
    Ok(lines)
}

/// A string keeps its escapes, so that a row stays on its line. What would not be seen has a word.
fn value_text(json: &str) -> String {
    match json {
        "null" => "NULL".to_string(),
        "\"\"" => "(empty)".to_string(),
        _ => json.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(json).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    #[test]
    fn rows_are_lines() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a \"b\"", ""]));
        let batch = Batch::append(RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).unwrap());
        assert_eq!(lines(std::slice::from_ref(&batch)).unwrap(), ["1  a \\\"b\\\"", "NULL  (empty)"]);
        let weights = Some(Int64Array::from(vec![1, -1]));
        assert_eq!(lines(&[Batch { weights, ..batch }]).unwrap(), ["+I  1  a \\\"b\\\"", "-D  NULL  (empty)"]);
    }
}

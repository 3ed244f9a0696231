//! Scalar expressions: DataFusion's physical expressions with a canonical text.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::physical_expr::PhysicalExpr;
use thalweg_core::Span;

/// An expression over the columns of a node's input, by position.
///
/// Invariant: `text` is the same for the same SQL in every process; it is what EXPLAIN prints and what the fingerprint hashes.
#[derive(Clone)]
pub struct Expr {
    pub physical: Arc<dyn PhysicalExpr>,
    pub text: String,
    pub data_type: DataType,
    pub nullable: bool,
    /// Where the expression stands in the SQL, for errors at run time.
    pub span: Option<Span>,
}

impl Expr {
    /// The input column that this expression merely names.
    pub fn as_column(&self) -> Option<usize> {
        self.physical.downcast_ref::<datafusion::physical_expr::expressions::Column>().map(|column| column.index())
    }

    /// What the expression is: its text and the positions of the columns in it, as two columns may have one name.
    pub fn identity(&self) -> String {
        fn collect(expr: &Arc<dyn PhysicalExpr>, columns: &mut Vec<usize>) {
            columns.extend(expr.downcast_ref::<datafusion::physical_expr::expressions::Column>().map(|column| column.index()));
            expr.children().into_iter().for_each(|child| collect(child, columns));
        }
        let mut columns = vec![];
        collect(&self.physical, &mut columns);
        if columns.is_empty() { self.text.clone() } else { format!("{}{columns:?}", self.text) }
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

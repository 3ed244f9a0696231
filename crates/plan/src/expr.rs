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
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

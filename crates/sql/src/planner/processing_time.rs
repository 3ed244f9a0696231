//! Processing time: which columns are PROCTIME(), and what stands before the operators that work by it.
//!
//! Deduplication and OVER without a distance go by the order of arrival and need no clock. Lookup joins ask when a row comes by.
//! What goes by lengths of time (windows, interval joins, RANGE with a distance) has a node in front that gives rows the clock's
//! time; from there on it is event time.

use datafusion::physical_expr::ScalarFunctionExpr;
use thalweg_core::{Code, Diagnostic, Span};
use thalweg_plan::{Exchange, Expr, Input, NodeKind, ProcessingTime, Properties, StateLifetime, TimeAttribute, TimeKind};

use super::lower::Lowering;

/// The columns of a projection that are PROCTIME() itself.
pub(crate) fn proctimes(exprs: &[Expr]) -> impl Iterator<Item = TimeAttribute> {
    let is_clock = |expr: &Expr| expr.physical.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| call.name() == "proctime");
    let columns = exprs.iter().enumerate().filter(move |(_, expr)| is_clock(expr));
    columns.map(|(column, _)| TimeAttribute { column, kind: TimeKind::Processing })
}

impl Lowering<'_> {
    /// A node of the same columns in which `column`, a time attribute, is event time: `node` itself where it is that already.
    ///
    /// # Errors
    /// `NOT_IN_FLINK` when rows of `node` may be taken back: those would have the time of their going.
    pub(crate) fn as_event_time(&mut self, node: usize, column: usize, place: Option<Span>) -> Result<usize, Diagnostic> {
        if self.time_kind(node, column) != Some(TimeKind::Processing) {
            return Ok(node);
        }
        let before = self.properties(node).clone();
        if before.updating {
            return Err(Diagnostic::error(Code::NOT_IN_FLINK, "processing time cannot tell when a row that is taken back came")
                .label_opt(place, "over rows that may be taken back")
                .help("use PROCTIME() before the query that changes rows, before the GROUP BY say; or use event time"));
        }
        let properties = Properties {
            time_attributes: vec![TimeAttribute { column, kind: TimeKind::Event }],
            window: None,
            state: StateLifetime::Stateless,
            ..before
        };
        let schema = self.schema(node).clone();
        let edge = Input { node, exchange: Exchange::Forward };
        Ok(self.add(NodeKind::ProcessingTime(ProcessingTime { column }), vec![edge], schema, properties, place))
    }
}

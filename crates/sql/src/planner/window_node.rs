//! A window table function in DataFusion's logical plan.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use thalweg_core::Span;
use thalweg_plan::WindowKind;

use super::type_name::SQL_TYPE;

/// The columns that a window function adds, in order.
pub(crate) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// The fields of [`WINDOW_COLUMNS`] over a time column: bounds are TIMESTAMP(3), the time has the time column's own type.
pub(crate) fn window_fields(time_field: &Field) -> [FieldRef; 3] {
    let [start, end, time] = WINDOW_COLUMNS;
    let bound = |name: &str| {
        let field = Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), false);
        Arc::new(field.with_metadata(HashMap::from([(SQL_TYPE.to_string(), "TIMESTAMP(3)".to_string())])))
    };
    [bound(start), bound(end), Arc::new(time_field.clone().with_name(time).with_nullable(false))]
}

/// The window function with its lengths.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum CallKind {
    Aligned {
        kind: WindowKind,
        offset_ms: i64,
        /// Whether HOP's size must be a multiple of its slide under an aggregate; the old group windows are free.
        whole_slides: bool,
    },
    Session {
        gap_ms: i64,
    },
}

impl CallKind {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            CallKind::Aligned { kind, .. } => kind.name(),
            CallKind::Session { .. } => "SESSION",
        }
    }

    pub(crate) fn is_session(&self) -> bool {
        matches!(self, CallKind::Session { .. })
    }
}

/// The window function with its arguments and their places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowCall {
    pub(crate) kind: CallKind,
    /// The function's name.
    pub(crate) place: Option<Span>,
    /// The slide of HOP or the step of CUMULATE.
    pub(crate) step_place: Option<Span>,
    /// The column in DESCRIPTOR.
    pub(crate) time_place: Option<Span>,
}

/// Adds [`WINDOW_COLUMNS`] to its input.
///
/// Filters on the input's columns move below it, for SESSION only those on the columns of PARTITION BY, as any other would change
/// the sessions; filters on the window's columns stay above. Columns of the input that
/// nobody reads are not asked for, except the time column.
#[derive(Clone, Debug)]
pub(crate) struct WindowNode {
    pub(crate) input: LogicalPlan,
    pub(crate) time_column: Column,
    /// PARTITION BY of a SESSION.
    pub(crate) keys: Vec<Column>,
    pub(crate) call: WindowCall,
    schema: DFSchemaRef,
}

impl WindowNode {
    pub(crate) fn new(input: LogicalPlan, time_column: Column, keys: Vec<Column>, call: WindowCall) -> Result<Self> {
        let time_field = input.schema().field(input.schema().index_of_column(&time_column)?);
        let added = window_fields(time_field);
        let mut fields: Vec<_> = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
        fields.extend(added.map(|field| (None, field)));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(WindowNode { input, time_column, keys, call, schema })
    }

    /// What makes two nodes equal; places do not.
    fn parts(&self) -> (&LogicalPlan, &Column, &[Column], &CallKind) {
        (&self.input, &self.time_column, &self.keys, &self.call.kind)
    }
}

impl PartialEq for WindowNode {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for WindowNode {}

impl Hash for WindowNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        self.call.kind.name()
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        [&self.time_column].into_iter().chain(&self.keys).cloned().map(Expr::Column).collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let window = WINDOW_COLUMNS.iter().map(ToString::to_string);
        if !self.call.kind.is_session() {
            return window.collect();
        }
        let is_key = |name: &str| self.keys.iter().any(|key| key.name == name);
        let input = self.input.schema().fields().iter().map(|field| field.name().clone());
        window.chain(input.filter(|name| !is_key(name))).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} on {}", self.call.kind.name(), self.time_column)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let columns: Option<Vec<Column>> = exprs
            .iter()
            .map(|expr| match expr {
                Expr::Column(column) => Some(column.clone()),
                _ => None,
            })
            .collect();
        match (columns.as_deref(), inputs.pop()) {
            (Some([time_column, keys @ ..]), Some(input)) => {
                WindowNode::new(input, time_column.clone(), keys.to_vec(), self.call)
            }
            _ => internal_err!("a window has one input, a time column and keys that are columns, not {exprs:?}"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input_columns = self.input.schema().fields().len();
        let time_column = self.input.schema().maybe_index_of_column(&self.time_column)?;
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|column| *column < input_columns).collect();
        needed.push(time_column);
        for key in &self.keys {
            needed.push(self.input.schema().maybe_index_of_column(key)?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

//! What a lowered logical plan is: a node of the streaming plan, and where the logical columns are in it.

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::logical_expr::Expr;
use thalweg_plan::{Properties, SessionWindow, TimeAttribute, Window, WindowColumns};

use super::window_node::{WINDOW_COLUMNS, WindowCall};

/// One of the columns that a window adds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WindowPart {
    Start,
    End,
    Time,
}

impl WindowPart {
    pub(crate) const ALL: [WindowPart; 3] = [WindowPart::Start, WindowPart::End, WindowPart::Time];

    pub(crate) fn name(self) -> &'static str {
        match self {
            WindowPart::Start => WINDOW_COLUMNS[0],
            WindowPart::End => WINDOW_COLUMNS[1],
            WindowPart::Time => WINDOW_COLUMNS[2],
        }
    }
}

/// Where a logical column comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// A column of the node.
    Node(usize),
    /// A column of the window that is still to be assigned.
    Window(WindowPart),
}

/// The window function with everything that it needs to know.
#[derive(Clone, Debug)]
pub(crate) enum PendingKind {
    Aligned(Window),
    Session {
        window: SessionWindow,
        /// Columns of the node.
        keys: Vec<usize>,
    },
}

/// A window that no node assigns yet: an aggregate above takes it in, anything else makes it a node of its own.
#[derive(Clone, Debug)]
pub(crate) struct PendingWindow {
    pub(crate) kind: PendingKind,
    pub(crate) call: WindowCall,
    /// Column of the node.
    pub(crate) time_column: usize,
    /// Conditions on the window's columns, which have their plain names here.
    pub(crate) filters: Vec<Expr>,
}

/// A lowered logical plan.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    /// Index of the node in the plan.
    pub(crate) node: usize,
    /// The logical columns.
    pub(crate) schema: DFSchemaRef,
    /// By logical column.
    pub(crate) origins: Vec<Origin>,
    pub(crate) window: Option<PendingWindow>,
}

impl Relation {
    /// The origin of the column that `expr` merely names.
    pub(crate) fn origin_of(&self, expr: &Expr) -> Option<Origin> {
        match expr {
            Expr::Alias(alias) => self.origin_of(&alias.expr),
            Expr::Column(column) => self.origin_of_column(column),
            _ => None,
        }
    }

    pub(crate) fn origin_of_column(&self, column: &Column) -> Option<Origin> {
        self.schema.maybe_index_of_column(column).map(|index| self.origins[index])
    }

    /// Whether a computation or a condition over columns of the node may run below the window that is still to be assigned:
    /// below a SESSION conditions on other columns than its keys may not.
    pub(crate) fn may_filter_below(&self, expr: &Expr) -> bool {
        self.all_origins(expr, |origin| match (origin, &self.window) {
            (Origin::Window(_), _) => false,
            (Origin::Node(column), Some(PendingWindow { kind: PendingKind::Session { keys, .. }, .. })) => keys.contains(&column),
            (Origin::Node(_), _) => true,
        })
    }

    /// Whether all columns of `expr` are of the given sort.
    pub(crate) fn all_origins(&self, expr: &Expr, is: impl Fn(Origin) -> bool) -> bool {
        expr.column_refs().iter().all(|column| self.origin_of_column(column).is_some_and(&is))
    }
}

/// A schema of unqualified fields, for expressions over the columns of a node.
///
/// Columns are called `#0`, `#1`… : the names of a node's columns need not differ.
pub(crate) fn positional_schema(schema: &SchemaRef) -> DFSchema {
    let fields: Vec<Field> =
        schema.fields().iter().enumerate().map(|(index, field)| field.as_ref().clone().with_name(format!("#{index}"))).collect();
    DFSchema::try_from(Schema::new(fields)).expect("numbered names differ")
}

pub(crate) fn positional_column(index: usize) -> Column {
    Column::new_unqualified(format!("#{index}"))
}

/// The number in a column made by [`positional_column`].
pub(crate) fn position_of(column: &Column) -> Option<usize> {
    column.name.strip_prefix('#')?.parse().ok()
}

/// What is known of a stream after its columns became `columns`, given as positions in the old stream.
pub(crate) fn projected(properties: &Properties, columns: &[Option<usize>]) -> Properties {
    let moved = |old: usize| columns.iter().position(|column| *column == Some(old));
    let time_attributes = properties
        .time_attributes
        .iter()
        .flat_map(|attribute| {
            let copies = columns.iter().enumerate().filter(|(_, column)| **column == Some(attribute.column));
            copies.map(|(column, _)| TimeAttribute { column, kind: attribute.kind })
        })
        .collect();
    let window = properties.window.as_ref().map(|window| WindowColumns {
        start: window.start.and_then(moved),
        end: window.end.and_then(moved),
        time: window.time.and_then(moved),
    });
    Properties {
        updating: properties.updating,
        upsert_key: properties.upsert_key.as_ref().and_then(|key| key.iter().map(|column| moved(*column)).collect()),
        time_attributes,
        window: window.filter(|window| *window != WindowColumns::default()),
        state: thalweg_plan::StateLifetime::Stateless,
        bounded: properties.bounded,
    }
}

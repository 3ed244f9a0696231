//! Projections and filters.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::logical_expr::Expr as LogicalExpr;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use thalweg_core::Diagnostic;
use thalweg_plan::{Exchange, Expr, Filter, Input, NodeKind, Project, Properties, StateLifetime, WindowColumns};

use super::expression;
use super::lower::Lowering;
use super::processing_time::proctimes;
use super::relation::{Origin, PendingKind, Relation, WindowPart, position_of, positional_column, positional_schema, projected};
use super::sink::NotNull;
use super::span;

impl Lowering<'_> {
    /// `exprs` over `relation`, under the names of `schema`. Mere choice and order of columns makes no node.
    pub(crate) fn project(
        &mut self,
        relation: Relation,
        exprs: &[LogicalExpr],
        schema: &DFSchemaRef,
    ) -> Result<Relation, Diagnostic> {
        if let Some(origins) = exprs.iter().map(|expr| relation.origin_of(expr)).collect::<Option<Vec<Origin>>>() {
            return Ok(Relation { schema: schema.clone(), origins, ..relation });
        }
        let over_node = |origin| matches!(origin, Origin::Node(_));
        let computed_over_node =
            exprs.iter().all(|expr| relation.origin_of(expr).is_some() || relation.all_origins(expr, over_node));
        let mut relation = if computed_over_node { relation } else { self.assign_window(relation)? };
        let mut project = ProjectBuilder::default();
        let mut origins = vec![];
        for (expr, field) in exprs.iter().zip(schema.fields()) {
            origins.push(match relation.origin_of(expr) {
                Some(Origin::Window(part)) => Origin::Window(part),
                Some(Origin::Node(column)) => Origin::Node(project.push_column(self, relation.node, column, field.name())),
                None => {
                    let computed = self.expression(&relation, expr, field.name())?;
                    Origin::Node(project.push(self, relation.node, computed, field.name()))
                }
            });
        }
        if let Some(pending) = &mut relation.window {
            pending.time_column = project.column(self, relation.node, pending.time_column);
            if let PendingKind::Session { keys, .. } = &mut pending.kind {
                keys.iter_mut().for_each(|key| *key = project.column(self, relation.node, *key));
            }
        }
        // A second grouping by the bounds of a window needs to know when the window ends, see `attached_window`.
        if let Some(WindowColumns { start: Some(start), end: Some(end), time: Some(time) }) =
            self.properties(relation.node).window.clone()
            && project.passes(start)
            && project.passes(end)
        {
            project.column(self, relation.node, time);
        }
        let node = project.add(self, relation.node);
        Ok(Relation { node, schema: schema.clone(), origins, window: relation.window })
    }

    /// The rows of `relation` for which `predicate` is true. Conditions on a pending window's columns alone wait for it.
    pub(crate) fn filter(&mut self, relation: Relation, predicate: &LogicalExpr) -> Result<Relation, Diagnostic> {
        let mut relation = relation;
        let conditions: Vec<&LogicalExpr> =
            split_conjunction(predicate).into_iter().filter(|condition| !is_true(condition)).collect();
        let over_node = |origin| matches!(origin, Origin::Node(_));
        let over_window = |origin| matches!(origin, Origin::Window(_));
        let mixed = conditions
            .iter()
            .any(|condition| !relation.may_filter_below(condition) && !relation.all_origins(condition, over_window));
        if mixed {
            relation = self.assign_window(relation)?;
        }
        let mut on_rows = vec![];
        for condition in conditions {
            if relation.all_origins(condition, over_node) {
                on_rows.push(condition.clone());
            } else {
                let condition = window_condition(&relation, condition);
                if let Some(pending) = &mut relation.window {
                    pending.filters.push(condition);
                }
            }
        }
        if let Some(predicate) = conjunction(on_rows) {
            let predicate = self.expression(&relation, &predicate, "a condition")?;
            relation.node = self.filter_node(relation.node, predicate);
        }
        Ok(relation)
    }

    /// Conditions on window columns by their plain names, now that `position` says where those are in `node`.
    pub(crate) fn filter_window_columns(
        &mut self,
        node: usize,
        filters: &[LogicalExpr],
        position: &dyn Fn(WindowPart) -> usize,
    ) -> Result<usize, Diagnostic> {
        let Some(predicate) = conjunction(filters.to_vec()) else {
            return Ok(node);
        };
        let placed =
            map_columns(predicate, &|column| WindowPart::ALL.into_iter().find(|part| part.name() == column.name).map(position));
        let predicate = self.positional(node, &placed, "a condition")?;
        Ok(self.filter_node(node, predicate))
    }

    fn filter_node(&mut self, input: usize, predicate: Expr) -> usize {
        let properties = Properties { state: StateLifetime::Stateless, ..self.properties(input).clone() };
        let schema = self.schema(input).clone();
        let place = predicate.span;
        let edge = Input { node: input, exchange: Exchange::Forward };
        self.add(NodeKind::Filter(Filter { predicate }), vec![edge], schema, properties, place)
    }

    /// `expr` over the logical columns of `relation`, none of which belongs to a pending window.
    pub(crate) fn expression(&self, relation: &Relation, expr: &LogicalExpr, what: &str) -> Result<Expr, Diagnostic> {
        let placed = map_columns(expr.clone(), &|column| match relation.origin_of_column(column) {
            Some(Origin::Node(position)) => Some(position),
            Some(Origin::Window(_)) | None => None,
        });
        let mut planned = self.positional(relation.node, &placed, what)?;
        planned.span = span::of_expr(expr);
        Ok(planned)
    }

    /// `expr` over the columns `#0`, `#1`… of `node`.
    fn positional(&self, node: usize, expr: &LogicalExpr, what: &str) -> Result<Expr, Diagnostic> {
        positional(self.schema(node), expr, what)
    }

    /// A node whose columns are exactly the logical columns of `relation` under `names`.
    pub(crate) fn settle(&mut self, relation: Relation, names: &[String]) -> Result<usize, Diagnostic> {
        let relation = self.assign_window(relation)?;
        let schema = self.schema(relation.node);
        let as_is = schema.fields().len() == names.len()
            && relation.origins.iter().enumerate().all(|(position, origin)| *origin == Origin::Node(position))
            && schema.fields().iter().zip(names).all(|(field, name)| field.name() == name);
        if as_is {
            return Ok(relation.node);
        }
        let mut project = ProjectBuilder::default();
        for (origin, name) in relation.origins.iter().zip(names) {
            if let Origin::Node(column) = origin {
                project.push_column(self, relation.node, *column, name);
            }
        }
        Ok(project.add(self, relation.node))
    }
}

/// `expr` over the columns `#0`, `#1`… of a node with this schema.
pub(crate) fn positional(schema: &SchemaRef, expr: &LogicalExpr, what: &str) -> Result<Expr, Diagnostic> {
    let name = |position: usize| schema.field(position).name().clone();
    let planned = expression::create_named(expr, &positional_schema(schema), what, &|column| {
        position_of(column).map_or_else(|| column.name.clone(), name)
    })?;
    let renamed = planned.physical.clone().transform_up(|part| {
        Ok(match part.downcast_ref::<PhysicalColumn>() {
            Some(column) => {
                let column = PhysicalColumn::new(&name(column.index()), column.index());
                Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>)
            }
            None => Transformed::no(part),
        })
    });
    let physical = renamed.map_err(|error| super::error::finding(&error, None))?.data;
    Ok(Expr { physical, ..planned })
}

/// The input column whose values the expression has: it names it, or merely refuses its nulls.
fn kept_column(expr: &Expr) -> Option<usize> {
    expr.as_column().or_else(|| {
        let call = expr.physical.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.name() == NotNull::NAME)?;
        call.args().first()?.downcast_ref::<PhysicalColumn>().map(PhysicalColumn::index)
    })
}

/// Collects the columns of a `Project`.
#[derive(Default)]
pub(crate) struct ProjectBuilder {
    exprs: Vec<Expr>,
    fields: Vec<Field>,
    /// The input column that each merely passes on.
    passed: Vec<Option<usize>>,
}

impl ProjectBuilder {
    /// Adds an expression over the columns of `node`; returns its position.
    pub(crate) fn push(&mut self, lowering: &Lowering, node: usize, expr: Expr, name: &str) -> usize {
        // What Arrow's types forget, such as the precision of a TIMESTAMP, travels in the field's metadata.
        let metadata = expr.physical.return_field(lowering.schema(node)).map(|field| field.metadata().clone());
        let field = Field::new(name, expr.data_type.clone(), expr.nullable);
        self.fields.push(field.with_metadata(metadata.unwrap_or_default()));
        self.passed.push(expr.as_column());
        self.exprs.push(expr);
        self.exprs.len() - 1
    }

    /// Passes on a column of `node` under a name; returns its position.
    pub(crate) fn push_column(&mut self, lowering: &Lowering, node: usize, column: usize, name: &str) -> usize {
        let field = lowering.schema(node).field(column);
        let expr = Expr {
            physical: Arc::new(PhysicalColumn::new(field.name(), column)),
            text: field.name().clone(),
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
            span: None,
        };
        self.push(lowering, node, expr, name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exprs.is_empty()
    }

    /// Whether a column of the input is among those collected.
    pub(crate) fn passes(&self, column: usize) -> bool {
        self.passed.contains(&Some(column))
    }

    /// The position of a column of `node`, added under its own name if it is not there.
    pub(crate) fn column(&mut self, lowering: &Lowering, node: usize, column: usize) -> usize {
        match self.passed.iter().position(|passed| *passed == Some(column)) {
            Some(position) => position,
            None => {
                let name = lowering.schema(node).field(column).name().clone();
                self.push_column(lowering, node, column, &name)
            }
        }
    }

    /// The position of an expression that is there already.
    pub(crate) fn find(&self, expr: &Expr) -> Option<usize> {
        let identity = expr.identity();
        self.exprs.iter().position(|other| other.identity() == identity)
    }

    /// Whether the columns collected are those of `node`, all of them and in their order.
    pub(crate) fn is_all_of(&self, lowering: &Lowering, node: usize) -> bool {
        let width = lowering.schema(node).fields().len();
        self.passed.len() == width && self.passed.iter().enumerate().all(|(position, passed)| *passed == Some(position))
    }

    /// Adds the node.
    pub(crate) fn add(self, lowering: &mut Lowering, input: usize) -> usize {
        let kept: Vec<Option<usize>> = self.exprs.iter().map(kept_column).collect();
        let mut properties = projected(lowering.properties(input), &kept);
        properties.time_attributes.extend(proctimes(&self.exprs));
        let place = self.exprs.iter().fold(None, |found, expr| span::union(found, expr.span));
        let edge = Input { node: input, exchange: Exchange::Forward };
        let schema = Arc::new(Schema::new(self.fields));
        lowering.add(NodeKind::Project(Project { exprs: self.exprs }), vec![edge], schema, properties, place)
    }
}

/// `expr` with each column that has a position replaced by `#position`. Places are kept.
pub(crate) fn map_columns(expr: LogicalExpr, position: &dyn Fn(&datafusion::common::Column) -> Option<usize>) -> LogicalExpr {
    let mapped = expr.transform_up(|part| {
        Ok(match &part {
            LogicalExpr::Column(column) => match position(column) {
                Some(position) => {
                    let spans = column.spans().clone();
                    Transformed::yes(LogicalExpr::Column(positional_column(position).with_spans(spans)))
                }
                None => Transformed::no(part),
            },
            _ => Transformed::no(part),
        })
    });
    mapped.expect("renaming columns cannot fail").data
}

/// A condition over a pending window's columns alone, with their plain names.
fn window_condition(relation: &Relation, condition: &LogicalExpr) -> LogicalExpr {
    let mapped = condition.clone().transform_up(|part| {
        Ok(match &part {
            LogicalExpr::Column(column) => match relation.origin_of_column(column) {
                Some(Origin::Window(window)) => {
                    let plain = datafusion::common::Column::new_unqualified(window.name()).with_spans(column.spans().clone());
                    Transformed::yes(LogicalExpr::Column(plain))
                }
                _ => Transformed::no(part),
            },
            _ => Transformed::no(part),
        })
    });
    mapped.expect("renaming columns cannot fail").data
}

fn is_true(condition: &LogicalExpr) -> bool {
    matches!(condition, LogicalExpr::Literal(ScalarValue::Boolean(Some(true)), _))
}

//! `ROW_NUMBER() OVER (…) AS rn … WHERE rn <= n`: Top-N, Top-N of windows, deduplication.
//!
//! | input | order | becomes |
//! |---|---|---|
//! | rows of windows, never taken back, `window_start` and `window_end` in PARTITION BY | any | `WindowTopN` |
//! | rows never taken back, `= 1` | one time attribute | `Deduplicate` |
//! | any | any | `TopN` |
//!
//! Of `= n` the number is known: as in Flink, no node counts for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{WindowFunction as WindowExpr, WindowFunctionParams};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr as LogicalExpr, Filter, LogicalPlan, Operator, Window, WindowFunctionDefinition, lit,
};
use thalweg_core::{Diagnostic, Span};
use thalweg_plan::{
    Deduplicate, Input, Keep, NodeKind, Properties, RankFunction, RankRange, SortKey, StateLifetime, TimeKind, TopN,
    WindowBounds, WindowColumns, WindowTopN,
};

use super::lower::{Lowering, by_keys};
use super::ordered::{ordering, sort_keys};
use super::over::call_of;
use super::project::ProjectBuilder;
use super::relation::{Origin, Relation};
use super::span;
use super::window_function::{self, WindowFunction};

/// The name of the number's column in a node.
const RANK_COLUMN: &str = "rank";

/// A filter over a numbering, taken apart.
struct RankFilter<'p> {
    window: &'p Window,
    function: RankFunction,
    params: &'p WindowFunctionParams,
    range: RankRange,
    /// The other conditions.
    rest: Vec<LogicalExpr>,
}

impl Lowering<'_> {
    /// Lowers a filter over a numbering; `None` if it is another filter. `needed` are the columns that are used above, all if
    /// not known.
    pub(crate) fn ranked(&mut self, filter: &Filter, needed: Option<&BTreeSet<usize>>) -> Result<Option<Relation>, Diagnostic> {
        // Columns that nobody reads may have been dropped between the two.
        if let LogicalPlan::Projection(projection) = &*filter.input
            && matches!(&*projection.input, LogicalPlan::Window(_))
            && let Some(columns) = projection.expr.iter().map(plain_column).collect::<Option<Vec<_>>>()
        {
            let outer = projection.schema.columns();
            let inner = |column: &Column| outer.iter().position(|name| name == column).map(|at| columns[at].clone());
            let predicate = filter.predicate.clone().transform_up(|part| {
                Ok(match &part {
                    LogicalExpr::Column(column) => match inner(column) {
                        Some(column) => Transformed::yes(LogicalExpr::Column(column)),
                        None => Transformed::no(part),
                    },
                    _ => Transformed::no(part),
                })
            });
            let to_finding = |error| super::error::finding(&error, None);
            let filter = Filter::try_new(predicate.map_err(to_finding)?.data, projection.input.clone()).map_err(to_finding)?;
            let position = |at: &usize| projection.input.schema().maybe_index_of_column(&columns[*at]);
            let needed = match needed {
                Some(needed) => needed.iter().filter_map(position).collect(),
                None => (0..columns.len()).collect::<Vec<_>>().iter().filter_map(position).collect(),
            };
            return match self.ranked(&filter, Some(&needed))? {
                Some(relation) => self.project(relation, &projection.expr, &projection.schema).map(Some),
                None => Ok(None),
            };
        }
        let Some(parts) = rank_filter(filter) else {
            return Ok(None);
        };
        let window = parts.window;
        let number = window.schema.fields().len() - 1;
        let number_column = window.schema.columns().swap_remove(number);
        let used_in_rest = parts.rest.iter().any(|condition| condition.column_refs().contains(&number_column));
        let is_used = used_in_rest || needed.is_none_or(|needed| needed.contains(&number));

        let input = self.lower(&window.input)?;
        let sorts = ordering(&parts.params.order_by);
        let partition = parts.params.partition_by.iter().filter(|expr| !expr.column_refs().is_empty());
        let exprs: Vec<&LogicalExpr> = partition.chain(sorts.iter().map(|sort| &sort.expr)).collect();
        let (input, columns) = self.columns_for(input, &exprs, "a numbering")?;
        let (partition, order) = columns.split_at(columns.len() - sorts.len());
        let known_number = parts.range.only().filter(|_| parts.function == RankFunction::RowNumber);
        let rank = Rank {
            function: parts.function,
            partition: partition.to_vec(),
            order: sort_keys(&sorts, order),
            range: parts.range,
            is_used: is_used && known_number.is_none(),
            place: span::of_expr(&window.window_expr[0]),
        };
        let mut relation = self.rank(&input, &rank);
        // The logical columns are those of the window: the input's, then the number. Nobody reads a number that is not there.
        relation.origins = input.origins.clone();
        let position = match known_number {
            _ if !is_used => 0,
            None => self.schema(relation.node).fields().len() - 1,
            Some(number) => self.add_number(&mut relation, number)?,
        };
        relation.origins.push(Origin::Node(position));
        relation.schema = window.schema.clone();
        match conjunction(parts.rest) {
            Some(predicate) => self.filter(relation, &predicate).map(Some),
            None => Ok(Some(relation)),
        }
    }

    /// Puts a number that all rows have behind the columns of `relation`; returns its position.
    fn add_number(&mut self, relation: &mut Relation, number: u64) -> Result<usize, Diagnostic> {
        let mut project = ProjectBuilder::default();
        for column in 0..self.schema(relation.node).fields().len() {
            let name = self.schema(relation.node).field(column).name().clone();
            project.push_column(self, relation.node, column, &name);
        }
        let number: LogicalExpr = lit(i64::try_from(number).unwrap_or(i64::MAX));
        let number = self.expression(relation, &number, "a numbering")?;
        let position = project.push(self, relation.node, number, RANK_COLUMN);
        relation.node = project.add(self, relation.node);
        Ok(position)
    }

    /// Adds the node for a rank over a relation without a pending window. The input's columns come first.
    pub(crate) fn rank(&mut self, input: &Relation, rank: &Rank) -> Relation {
        let node = input.node;
        let mut properties = self.properties(node).clone();
        let schema = self.schema(node).clone();
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        if rank.is_used {
            fields.push(Arc::new(Field::new(RANK_COLUMN, DataType::Int64, false)));
        }
        let rank_column = rank.is_used.then(|| fields.len() - 1);
        let output = Arc::new(Schema::new(fields));
        let only = rank.range.only().filter(|_| rank.function == RankFunction::RowNumber);
        let is_first = only == Some(1);
        let numbered_key = |partition: &[usize]| match (only.is_some(), rank_column) {
            (true, _) => Some(partition.to_vec()),
            (false, Some(rank_column)) if rank.function == RankFunction::RowNumber => {
                Some(partition.iter().copied().chain([rank_column]).collect())
            }
            _ => properties.upsert_key.clone(),
        };
        let (kind, keys, after) = match (self.window_bounds(node, rank), self.time_order(node, rank)) {
            (Some(window), _) => {
                let partition: Vec<usize> =
                    rank.partition.iter().copied().filter(|column| ![window.start, window.end].contains(column)).collect();
                // In the order of the operator's keys: the lane of a row is that of its state.
                let keys = partition.iter().copied().chain([window.start, window.end]).collect();
                let after = Properties {
                    upsert_key: numbered_key(&rank.partition),
                    state: StateLifetime::UntilWatermark { ms: 0 },
                    ..properties.clone()
                };
                let top = WindowTopN {
                    function: rank.function,
                    window,
                    partition,
                    order: rank.order.clone(),
                    range: rank.range,
                    output_rank: rank.is_used,
                    newest_first: is_first && self.is_newest_of_window(node, &rank.order),
                };
                (NodeKind::WindowTopN(top), keys, after)
            }
            (None, Some((time_column, keep))) if is_first && !properties.updating => {
                let after = Properties {
                    updating: keep == Keep::Last,
                    upsert_key: Some(rank.partition.clone()),
                    state: StateLifetime::Forever,
                    window: None,
                    ..properties.clone()
                };
                (
                    NodeKind::Deduplicate(Deduplicate { keys: rank.partition.clone(), time_column, keep, in_turn: None }),
                    rank.partition.clone(),
                    after,
                )
            }
            _ => {
                let updating = properties.updating || !rank.order.is_empty();
                if updating {
                    // Nothing tells the processing time at which a row leaves the range.
                    properties.time_attributes.retain(|attribute| attribute.kind == TimeKind::Event);
                }
                let after = Properties {
                    updating,
                    upsert_key: numbered_key(&rank.partition),
                    time_attributes: properties.time_attributes.clone(),
                    window: None,
                    state: StateLifetime::Forever,
                    bounded: properties.bounded,
                };
                let top = TopN {
                    function: rank.function,
                    partition: rank.partition.clone(),
                    order: rank.order.clone(),
                    range: rank.range,
                    output_rank: rank.is_used,
                    input_updating: properties.updating,
                    in_turn: None,
                };
                (NodeKind::TopN(top), rank.partition.clone(), after)
            }
        };
        let edge = Input { node, exchange: by_keys(&keys) };
        let node = self.add(kind, vec![edge], output, after, rank.place);
        Relation { node, schema: input.schema.clone(), origins: input.origins.clone(), window: None }
    }

    /// The bounds of the windows that the rows are ranked within.
    fn window_bounds(&self, node: usize, rank: &Rank) -> Option<WindowBounds> {
        let properties = self.properties(node);
        let Some(WindowColumns { start: Some(start), end: Some(end), time: Some(time) }) = properties.window else {
            return None;
        };
        let is_time = self.time_kind(node, time) == Some(TimeKind::Event);
        (!properties.updating && is_time && rank.partition.contains(&start) && rank.partition.contains(&end))
            .then_some(WindowBounds { start, end, time })
    }

    /// Whether rows are ordered by the time that their window was made of, newest first.
    fn is_newest_of_window(&self, node: usize, order: &[SortKey]) -> bool {
        let [SortKey { column, descending: true, .. }] = order else {
            return false;
        };
        let (mut node, mut column) = (node, *column);
        loop {
            let this = &self.plan.nodes[node];
            match &this.kind {
                NodeKind::AssignWindow(assign) => return assign.time_column == column,
                NodeKind::Session(session) => return session.aggregates.is_none() && session.time_column == column,
                NodeKind::Filter(_) => {}
                NodeKind::Project(project) => match project.exprs[column].as_column() {
                    Some(inner) => column = inner,
                    None => return false,
                },
                _ => return false,
            }
            node = this.inputs[0].node;
        }
    }

    /// The time attribute that alone orders the rows; no column for the order of arrival.
    fn time_order(&self, node: usize, rank: &Rank) -> Option<(Option<usize>, Keep)> {
        let [SortKey { column, descending, .. }] = rank.order.as_slice() else {
            return None;
        };
        let keep = if *descending { Keep::Last } else { Keep::First };
        match self.time_kind(node, *column)? {
            TimeKind::Event => Some((Some(*column), keep)),
            TimeKind::Processing => Some((None, keep)),
        }
    }
}

/// What is asked of a ranking, over columns of a node.
pub(crate) struct Rank {
    pub(crate) function: RankFunction,
    pub(crate) partition: Vec<usize>,
    pub(crate) order: Vec<SortKey>,
    pub(crate) range: RankRange,
    /// Whether the number is to come out.
    pub(crate) is_used: bool,
    pub(crate) place: Option<Span>,
}

fn plain_column(expr: &LogicalExpr) -> Option<Column> {
    match expr {
        LogicalExpr::Column(column) => Some(column.clone()),
        LogicalExpr::Alias(alias) => plain_column(&alias.expr),
        _ => None,
    }
}

/// The one numbering of a window and its function.
fn numbering(window: &Window) -> Option<(RankFunction, &WindowFunctionParams)> {
    let [call] = window.window_expr.as_slice() else {
        return None;
    };
    let (WindowExpr { fun: WindowFunctionDefinition::WindowUDF(udf), .. }, params) = call_of(call).ok()? else {
        return None;
    };
    match window_function::of(udf)? {
        WindowFunction::Rank(function) => Some((function, params)),
        WindowFunction::Lag => None,
    }
}

fn rank_filter(filter: &Filter) -> Option<RankFilter<'_>> {
    let LogicalPlan::Window(window) = &*filter.input else {
        return None;
    };
    let (function, params) = numbering(window)?;
    let number = window.schema.columns().pop()?;
    let (mut start, mut end) = (1_i64, None::<i64>);
    let mut rest = vec![];
    for condition in split_conjunction(&filter.predicate) {
        match bounds(condition, &number) {
            Some((low, high)) => {
                start = low.map_or(start, |low| start.max(low));
                end = [end, high].into_iter().flatten().min();
            }
            None => rest.push(condition.clone()),
        }
    }
    // Without an end every row is numbered.
    let end = end?.max(0);
    // No row has a number in an empty range: the condition stays as it is.
    if start > end {
        return None;
    }
    let range = RankRange { start: start.max(1).unsigned_abs(), end: Some(end.unsigned_abs()) };
    Some(RankFilter { window, function, params, range, rest })
}

/// The lowest and highest number that a condition lets through.
fn bounds(condition: &LogicalExpr, number: &Column) -> Option<(Option<i64>, Option<i64>)> {
    let LogicalExpr::BinaryExpr(BinaryExpr { left, op, right }) = condition else {
        return None;
    };
    let is_number = |expr: &LogicalExpr| matches!(expr, LogicalExpr::Column(column) if column == number);
    let (op, value) = if is_number(left) {
        (*op, whole_number(right)?)
    } else if is_number(right) {
        (op.swap()?, whole_number(left)?)
    } else {
        return None;
    };
    match op {
        Operator::LtEq => Some((None, Some(value))),
        Operator::Lt => Some((None, Some(value.checked_sub(1)?))),
        Operator::Eq => Some((Some(value), Some(value))),
        Operator::GtEq => Some((Some(value), None)),
        Operator::Gt => Some((Some(value.checked_add(1)?), None)),
        _ => None,
    }
}

pub(crate) fn whole_number(expr: &LogicalExpr) -> Option<i64> {
    match expr {
        LogicalExpr::Literal(value, _) => match value.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(number) => number,
            _ => None,
        },
        _ => None,
    }
}

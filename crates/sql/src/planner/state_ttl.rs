//! How long state is kept: `table.exec.state.ttl` and the hint STATE_TTL.
//!
//! ```text
//! SELECT /*+ STATE_TTL('a' = '1 d') */ … FROM a JOIN b ON …   -->   … FROM TABLE(`STATE TTL`(a, 86400000)) AS a JOIN b ON …
//! ```
//!
//! The call becomes a node of the logical plan that passes everything. The join or grouping that reads it, with nothing but
//! projections and filters between, keeps its rows that long; any other node keeps what the setting says.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr as LogicalExpr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::sql::sqlparser::ast::{Expr, Ident, Select, TableAlias, TableFactor, TableWithJoins, Value, ValueWithSpan};
use datafusion::sql::sqlparser::tokenizer::Span;
use thalweg_plan::{NodeKind, StateLifetime};

use super::ast_build::{call, table_call};
use super::from_call::{FromCall, joined};
use super::lower::Lowering;
use crate::parser::{STATE_TTL_HINT, name_of};

/// The name of the call in FROM. No query can write it.
pub(crate) const STATE_TTL: &str = "STATE TTL";

/// Puts calls around the relations of FROM that a hint names.
pub(crate) fn rewrite(select: &mut Select) {
    for hint in std::mem::take(&mut select.optimizer_hints) {
        if hint.prefix != STATE_TTL_HINT {
            continue;
        }
        if let Some((ms, name)) = hint.text.split_once(' ') {
            select.from.iter_mut().for_each(|from| mark(from, name, ms));
        }
    }
}

fn mark(from: &mut TableWithJoins, name: &str, ms: &str) {
    for factor in [&mut from.relation].into_iter().chain(from.joins.iter_mut().map(|join| &mut join.relation)) {
        if let TableFactor::NestedJoin { table_with_joins, alias: None } = factor {
            mark(table_with_joins, name, ms);
        } else if name_of(factor).as_deref() == Some(name) && !reads_versions(factor) {
            let number = Value::Number(ms.to_string(), false);
            let number = Expr::Value(ValueWithSpan { value: number, span: Span::empty() });
            let alias = TableAlias { explicit: true, name: Ident::new(name), columns: vec![], at: None };
            let nothing = table_call(Expr::Tuple(vec![]), None);
            let relation = joined(TableWithJoins { relation: std::mem::replace(factor, nothing), joins: vec![] });
            *factor = table_call(call(STATE_TTL, Span::empty(), vec![relation, number]), Some(alias));
        }
    }
}

/// Whether the relation is the right side of a temporal join, whose state the watermark drops.
fn reads_versions(factor: &TableFactor) -> bool {
    matches!(factor, TableFactor::Table { version: Some(_), .. })
}

/// Binds the call.
pub(crate) fn plan(mut call: FromCall) -> Result<LogicalPlan> {
    let input = call.joined(0)?;
    let ms = match call.arguments.get(1) {
        Some(Expr::Value(ValueWithSpan { value: Value::Number(ms, _), .. })) => ms.parse().ok(),
        _ => None,
    };
    match ms {
        Some(ms) => Ok(LogicalPlan::Extension(Extension { node: std::sync::Arc::new(StateTtlNode { input, ms }) })),
        None => internal_err!("a hint has a number of milliseconds"),
    }
}

/// Rows for which a hint says how long they are kept.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct StateTtlNode {
    pub(crate) input: LogicalPlan,
    /// Zero is never.
    ms: i64,
}

impl PartialOrd for StateTtlNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for StateTtlNode {
    fn name(&self) -> &str {
        STATE_TTL
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<LogicalExpr> {
        vec![]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{STATE_TTL} {} ms", self.ms)
    }

    fn with_exprs_and_inputs(&self, _: Vec<LogicalExpr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(input) => Ok(StateTtlNode { input, ms: self.ms }),
            None => internal_err!("a hint is about one relation"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// What a hint says of the rows of `plan`.
fn hinted(plan: &LogicalPlan) -> Option<StateLifetime> {
    match plan {
        LogicalPlan::Projection(projection) => hinted(&projection.input),
        LogicalPlan::Filter(filter) => hinted(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => hinted(&alias.input),
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<StateTtlNode>().map(|node| lifetime(node.ms)),
        _ => None,
    }
}

fn lifetime(ms: i64) -> StateLifetime {
    if ms == 0 { StateLifetime::Forever } else { StateLifetime::TimeToLive { ms } }
}

/// Whether a node drops what it keeps some time after it last changed. Where the watermark drops state, time to live plays no part.
fn can_expire(kind: &NodeKind) -> bool {
    match kind {
        NodeKind::GroupAggregate(aggregate) => aggregate.window_time.is_none(),
        NodeKind::Join(_)
        | NodeKind::TopN(_)
        | NodeKind::Deduplicate(_)
        | NodeKind::Over(_)
        | NodeKind::SetOperation(_)
        | NodeKind::Normalize(_)
        | NodeKind::SinkMaterialize(_) => true,
        _ => false,
    }
}

impl Lowering<'_> {
    /// The lifetime of the state of a node that would keep it forever.
    pub(crate) fn state_lifetime(&self, kind: &NodeKind, planned: StateLifetime) -> StateLifetime {
        match (planned, self.input.state_ttl_ms) {
            (StateLifetime::Forever, Some(ms)) if can_expire(kind) => lifetime(ms),
            _ => planned,
        }
    }

    /// Lets hints on the inputs of a join or grouping win over the setting. `node` is what the inputs were lowered to.
    pub(crate) fn apply_hints(&mut self, node: usize, inputs: &[&LogicalPlan]) {
        let hints: Vec<Option<StateLifetime>> = inputs.iter().map(|input| hinted(input)).collect();
        if hints.iter().any(Option::is_some) {
            self.set_lifetimes(node, &hints);
        }
    }

    fn set_lifetimes(&mut self, node: usize, hints: &[Option<StateLifetime>]) {
        let this = &mut self.plan.nodes[node];
        let default = this.properties.state;
        match (&mut this.kind, hints) {
            (NodeKind::Join(join), [left, right]) => {
                join.time_to_live = [*left, *right];
                this.properties.state = longest(left.unwrap_or(default), right.unwrap_or(default));
            }
            (NodeKind::GroupAggregate(aggregate), [Some(hint)]) if aggregate.window_time.is_none() => {
                this.properties.state = *hint;
            }
            (NodeKind::Project(_) | NodeKind::Filter(_) | NodeKind::Union, _) => {
                let inputs: Vec<usize> = this.inputs.iter().map(|input| input.node).collect();
                inputs.into_iter().for_each(|input| self.set_lifetimes(input, hints));
            }
            _ => {}
        }
    }
}

fn longest(one: StateLifetime, other: StateLifetime) -> StateLifetime {
    match (one, other) {
        (StateLifetime::TimeToLive { ms: one }, StateLifetime::TimeToLive { ms: other }) => {
            StateLifetime::TimeToLive { ms: one.max(other) }
        }
        _ => StateLifetime::Forever,
    }
}

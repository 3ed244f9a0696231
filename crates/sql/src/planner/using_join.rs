//! `JOIN … USING (k)` and `NATURAL JOIN`: the columns of both sides become one, which comes first.
//!
//! DataFusion takes that of one side, also where the side is missing, and gives `*` another order. Here the join becomes the call
//! `JOIN USING(left, right, kind, k, …)` in FROM, bound as
//!
//! ```text
//! Projection: COALESCE(l.k, r.k) AS k, the rest of l, the rest of r
//!   Join: l.k = r.k
//! ```
//!
//! Of `l.k` and `r.k` those that the query names come too, as columns called `k of l` and `k of r`, hidden from `*`.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::common::{Column, ExprSchema, Result, TableReference, internal_err};
use datafusion::logical_expr::{Expr as LogicalExpr, JoinType, LogicalPlan, LogicalPlanBuilder, when};
use datafusion::sql::sqlparser::ast::{
    ExceptSelectItem, Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr, TableFactor,
    TableWithJoins, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use thalweg_core::{Code, Diagnostic};

use super::ast_build;
use super::error::{refuse, unknown_column};
use super::from_call::{FromCall, JOIN_USING, joined};
use super::operator::have_common_family;
use super::type_name::sql_type_of;

/// The columns `table.k` of a SELECT whose `k` is one of USING.
#[derive(Default)]
pub(crate) struct References {
    found: Vec<(Ident, Ident)>,
}

fn constraint_of(operator: &JoinOperator) -> Option<(&'static str, &JoinConstraint)> {
    Some(match operator {
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => ("INNER", constraint),
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => ("LEFT", constraint),
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => ("RIGHT", constraint),
        JoinOperator::FullOuter(constraint) => ("FULL", constraint),
        _ => return None,
    })
}

pub(crate) fn is_using(operator: &JoinOperator) -> bool {
    matches!(constraint_of(operator), Some((_, JoinConstraint::Using(_) | JoinConstraint::Natural)))
}

/// The name under which `table.column` is known after the join.
fn hidden_name(table: &str, column: &str) -> String {
    format!("{column} of {table}")
}

/// Replaces `table.k` by the name that it has after the join, and hides these columns from `*`.
pub(crate) fn rewrite_references(select: &mut Select) -> References {
    let mut merged = HashSet::new();
    for from in &select.from {
        collect(from, &mut merged);
    }
    if merged.is_empty() {
        return References::default();
    }
    let mut references = Rewrite { merged, found: vec![], shadows: vec![] };
    let _ = select.visit(&mut references);
    let found = references.found;
    let mut hidden = found.iter().map(|(table, column)| Ident::with_quote('`', hidden_name(&table.value, &column.value)));
    if let Some(first) = hidden.next() {
        let except = ExceptSelectItem { first_element: first, additional_elements: hidden.collect() };
        for item in &mut select.projection {
            if let SelectItem::Wildcard(options) = item {
                options.opt_except = Some(except.clone());
            }
        }
    }
    References { found }
}

/// Adds the columns, with the names of their tables, that the USINGs in `from` merge.
fn collect(from: &TableWithJoins, merged: &mut HashSet<(String, String)>) {
    let mut tables = factor_names(&from.relation);
    for join in &from.joins {
        tables.extend(factor_names(&join.relation));
        if let Some((_, JoinConstraint::Using(columns))) = constraint_of(&join.join_operator) {
            for column in columns.iter().filter_map(|name| name.0.last()?.as_ident()) {
                merged.extend(tables.iter().map(|table| (table.clone(), column.value.clone())));
            }
        }
    }
    for factor in [&from.relation].into_iter().chain(from.joins.iter().map(|join| &join.relation)) {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            collect(table_with_joins, merged);
        }
    }
}

/// The names by which a query calls the tables of a part of FROM.
fn table_names(from: &TableWithJoins) -> Vec<String> {
    let factors = [&from.relation].into_iter().chain(from.joins.iter().map(|join| &join.relation));
    factors.flat_map(factor_names).collect()
}

fn factor_names(factor: &TableFactor) -> Vec<String> {
    match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => table_names(table_with_joins),
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. } => vec![alias.name.value.clone()],
        TableFactor::Table { name, .. } => {
            name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone()).into_iter().collect()
        }
        _ => vec![],
    }
}

struct Rewrite {
    /// Tables and columns that USING merges.
    merged: HashSet<(String, String)>,
    found: Vec<(Ident, Ident)>,
    /// For each subquery around the current place whether it has a table of one of the names itself.
    shadows: Vec<bool>,
}

impl VisitorMut for Rewrite {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let own = match &*query.body {
            SetExpr::Select(select) => {
                select.from.iter().flat_map(table_names).any(|name| self.merged.iter().any(|(table, _)| *table == name))
            }
            _ => false,
        };
        self.shadows.push(own);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.shadows.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [table, column] = parts.as_slice()
            && self.merged.contains(&(table.value.clone(), column.value.clone()))
            && !self.shadows.contains(&true)
        {
            let (table, column) = (table.clone(), column.clone());
            let name = hidden_name(&table.value, &column.value);
            *expr = Expr::Identifier(Ident { value: name, quote_style: Some('`'), span: table.span.union(&column.span) });
            let is_known = |(other, name): &(Ident, Ident)| other.value == table.value && name.value == column.value;
            if !self.found.iter().any(is_known) {
                self.found.push((table, column));
            }
        }
        ControlFlow::Continue(())
    }
}

/// The call that stands for `left JOIN right USING (…)`.
pub(crate) fn joined_with(left: TableWithJoins, join: Join, references: &References) -> TableFactor {
    let Some((kind, constraint)) = constraint_of(&join.join_operator) else {
        return join.relation;
    };
    let (kind, columns) = match constraint {
        JoinConstraint::Using(columns) => {
            let idents = columns.iter().filter_map(|name| name.0.last()?.as_ident().cloned());
            (kind.to_string(), idents.map(Expr::Identifier).collect())
        }
        _ => (format!("NATURAL {kind}"), vec![]),
    };
    let kind = Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(kind), span: Span::empty() });
    let right = TableWithJoins { relation: join.relation, joins: vec![] };
    let mut arguments = vec![joined(left), joined(right), kind];
    let columns: Vec<Expr> = columns;
    arguments.extend(columns);
    let named = references.found.iter();
    arguments.extend(named.map(|(table, column)| Expr::CompoundIdentifier(vec![table.clone(), column.clone()])));
    ast_build::table_call(ast_build::call(JOIN_USING, Span::empty(), arguments), None)
}

pub(crate) fn plan(mut call: FromCall) -> Result<LogicalPlan> {
    let (left, right) = (call.joined(0)?, call.joined(1)?);
    let Some(Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(kind), .. })) = call.arguments.get(2) else {
        return internal_err!("a join by USING has a kind");
    };
    let (natural, kind) = match kind.strip_prefix("NATURAL ") {
        Some(kind) => (true, kind),
        None => (false, kind.as_str()),
    };
    let kind = match kind {
        "INNER" => JoinType::Inner,
        "LEFT" => JoinType::Left,
        "RIGHT" => JoinType::Right,
        _ => JoinType::Full,
    };
    let mut columns = vec![];
    let mut named = vec![];
    for argument in &call.arguments[3..] {
        match argument {
            Expr::Identifier(name) => columns.push((name.value.clone(), call.place_of(argument))),
            Expr::CompoundIdentifier(parts) => named.push((parts[0].value.clone(), parts[1].value.clone())),
            _ => {}
        }
    }
    if natural {
        let on_right: HashSet<&String> = right.schema().fields().iter().map(|field| field.name()).collect();
        let mut seen = HashSet::new();
        let common = left.schema().fields().iter().map(|field| field.name());
        let common = common.filter(|name| on_right.contains(name) && seen.insert((*name).clone()));
        columns = common.map(|name| (name.clone(), None)).collect();
    }
    if columns.is_empty() {
        return LogicalPlanBuilder::from(left).cross_join(right)?.build();
    }

    let mut pairs = vec![];
    for (name, place) in &columns {
        let find = |side: &LogicalPlan| {
            let schema = side.schema();
            if schema.fields_with_unqualified_name(name).is_empty() {
                let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(refuse(unknown_column(name, &known, *place)));
            }
            let (qualifier, _) = schema.qualified_field_with_unqualified_name(name)?;
            Ok(Column::new(qualifier.cloned(), name))
        };
        let (one, other) = (find(&left)?, find(&right)?);
        let types = [(&left, &one), (&right, &other)].map(|(side, column)| side.schema().field_from_column(column));
        let [one_field, other_field] = types;
        let (one_field, other_field) = (one_field?, other_field?);
        if !have_common_family([one_field.data_type().clone(), other_field.data_type().clone()].into_iter()) {
            let message = format!(
                "column \"{name}\" is {} on one side of the join and {} on the other",
                sql_type_of(one_field),
                sql_type_of(other_field)
            );
            return Err(refuse(
                Diagnostic::error(Code::TYPE_MISMATCH, message)
                    .label_opt(*place, "joined by this")
                    .help("join with ON and CAST one side to the type of the other"),
            ));
        }
        pairs.push((one, other));
    }
    let (left_columns, right_columns) = (left.schema().columns(), right.schema().columns());
    let (left_schema, right_schema) = (left.schema().clone(), right.schema().clone());
    let on = pairs.iter().map(|(one, other)| LogicalExpr::Column(one.clone()).eq(LogicalExpr::Column(other.clone())));
    let plan = LogicalPlanBuilder::from(left).join_on(right, kind, on)?.build()?;

    let mut output = vec![];
    for (one, other) in &pairs {
        output.push(merged(kind, natural, (one, other))?);
    }
    let is_joined = |column: &Column| pairs.iter().any(|(one, other)| one == column || other == column);
    let rest = left_columns.iter().chain(&right_columns).filter(|column| !is_joined(column));
    output.extend(rest.cloned().map(LogicalExpr::Column));
    for (table, name) in named {
        let hidden = hidden_name(&table, &name);
        let column = Column::new(Some(TableReference::bare(table)), name);
        let is_there =
            left_schema.maybe_index_of_column(&column).is_some() || right_schema.maybe_index_of_column(&column).is_some();
        let is_known = plan.schema().fields().iter().any(|field| *field.name() == hidden);
        if is_there && !is_known {
            output.push(LogicalExpr::Column(column).alias(hidden));
        }
    }
    LogicalPlanBuilder::from(plan).project(output)?.build()
}

/// The one column that two become: that of the side which is always there, or of whichever is. It is called as the left one is,
/// except where a NATURAL join would so give the name of the left one to values of the right one.
fn merged(kind: JoinType, natural: bool, (left, right): (&Column, &Column)) -> Result<LogicalExpr> {
    let named = |value: LogicalExpr| match natural {
        true => value.alias(&left.name),
        false => value.alias_qualified(left.relation.clone(), &left.name),
    };
    Ok(match kind {
        JoinType::Right => named(LogicalExpr::Column(right.clone())),
        JoinType::Full => {
            let (one, other) = (LogicalExpr::Column(left.clone()), LogicalExpr::Column(right.clone()));
            named(when(one.clone().is_not_null(), one).otherwise(other)?)
        }
        _ => LogicalExpr::Column(left.clone()),
    })
}

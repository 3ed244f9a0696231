//! The joins of FROM that the planner binds itself: UNNEST, USING and NATURAL.

use datafusion::sql::sqlparser::ast::{Join, JoinConstraint, JoinOperator, Select, TableFactor, TableWithJoins};

use super::{unnest, using_join};

/// Puts calls in place of these joins, see [`super::from_call`].
pub(crate) fn rewrite(select: &mut Select) {
    let columns = using_join::rewrite_references(select);
    let mut done: Vec<TableWithJoins> = vec![];
    for from in std::mem::take(&mut select.from) {
        let TableWithJoins { relation, joins } = from;
        let first = if unnest::is_unnest(&relation) {
            // It sees all the tables before it.
            let left = one_from(std::mem::take(&mut done));
            let cross = Join { relation, global: false, join_operator: JoinOperator::CrossJoin(JoinConstraint::None) };
            TableWithJoins { relation: unnest::joined_with(left, cross), joins: vec![] }
        } else {
            TableWithJoins { relation, joins: vec![] }
        };
        done.push(chain(first, joins, &columns));
    }
    select.from = done;
}

/// `left` with `joins`, one after the other.
fn chain(left: TableWithJoins, joins: Vec<Join>, columns: &using_join::References) -> TableWithJoins {
    let mut left = left;
    nested(&mut left.relation, columns);
    for mut join in joins {
        nested(&mut join.relation, columns);
        if unnest::is_unnest(&join.relation) {
            left = TableWithJoins { relation: unnest::joined_with(Some(left), join), joins: vec![] };
        } else if using_join::is_using(&join.join_operator) {
            left = TableWithJoins { relation: using_join::joined_with(left, join, columns), joins: vec![] };
        } else {
            left.joins.push(join);
        }
    }
    left
}

/// A join in parentheses.
fn nested(factor: &mut TableFactor, columns: &using_join::References) {
    if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
        let TableWithJoins { relation, joins } = (**table_with_joins).clone();
        **table_with_joins = chain(TableWithJoins { relation, joins: vec![] }, joins, columns);
    }
}

/// Several items of FROM as one.
fn one_from(from: Vec<TableWithJoins>) -> Option<TableWithJoins> {
    from.into_iter().reduce(|mut left, TableWithJoins { relation, joins }| {
        let relation = match joins.is_empty() {
            true => relation,
            false => {
                let table_with_joins = Box::new(TableWithJoins { relation, joins });
                TableFactor::NestedJoin { table_with_joins, alias: None }
            }
        };
        left.joins.push(Join { relation, global: false, join_operator: JoinOperator::CrossJoin(JoinConstraint::None) });
        left
    })
}

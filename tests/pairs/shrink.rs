//! Makes a failing pair small: takes away epochs, rows and parts of the query for as long as it fails alike.

use super::pair::Pair;
use super::query::{Expr, Query};

/// The smallest pair found that still `fails`, trying at most `tries` candidates.
pub fn shrink(mut pair: Pair, mut tries: usize, fails: impl Fn(&Pair) -> bool) -> Pair {
    loop {
        let smaller =
            candidates(&pair).into_iter().filter(|candidate| candidate.is_valid() && *candidate != pair).find(|candidate| {
                tries = tries.saturating_sub(1);
                tries > 0 && fails(candidate)
            });
        match smaller {
            Some(smaller) => pair = smaller,
            None => return pair,
        }
    }
}

/// Pairs one step simpler, big steps first.
fn candidates(pair: &Pair) -> Vec<Pair> {
    let mut found = vec![];
    let mut with = |change: &dyn Fn(&mut Pair)| {
        let mut copy = pair.clone();
        change(&mut copy);
        found.push(copy);
    };
    for query in queries(pair) {
        with(&|pair| pair.query = query.clone());
    }
    let rows = pair.lives.len();
    let mut size = rows / 2;
    while size > 0 {
        for start in (0..rows).step_by(size) {
            with(&|pair| {
                pair.lives.drain(start..(start + size).min(rows));
            });
        }
        size /= 2;
    }
    if pair.cuts.len() > 1 {
        with(&|pair| {
            let last = pair.cuts.len() - 1;
            pair.cuts.drain(..last);
        });
        for cut in 0..pair.cuts.len() - 1 {
            with(&|pair| {
                pair.cuts.remove(cut);
            });
        }
        with(&|pair| {
            pair.cuts.pop();
            let end = *pair.cuts.last().unwrap_or(&0);
            pair.lives.retain(|life| life.born < end);
            for life in &mut pair.lives {
                life.died = life.died.filter(|died| *died < end);
            }
        });
    }
    for shared in 0..pair.shared.len() {
        with(&|pair| inline(pair, shared));
        for query in variants(&pair.shared[shared]) {
            with(&|pair| pair.shared[shared] = query.clone());
        }
    }
    for life in 0..rows {
        if pair.lives[life].died.is_some() {
            with(&|pair| pair.lives[life].died = None);
        }
        for column in 1..pair.lives[life].values.len() {
            for simple in [Some(0), Some(1)] {
                // Null is rarer than 0, so it is the less simple one; and only towards the simpler.
                let rank = |value: Option<i64>| value.map_or(1000, |value| value.abs() * 2 - i64::from(value > 0));
                if rank(simple) < rank(pair.lives[life].values[column]) {
                    with(&|pair| pair.lives[life].values[column] = simple);
                }
            }
        }
    }
    if pair.run.restarts {
        with(&|pair| pair.run.restarts = false);
    }
    if pair.run.merges {
        with(&|pair| pair.run.merges = false);
    }
    if pair.run.lanes.iter().any(|lanes| *lanes > 1) {
        with(&|pair| pair.run.lanes.fill(1));
    }
    if pair.run.batch_rows != 1 {
        with(&|pair| pair.run.batch_rows = 1);
    }
    if pair.run.seed > 3 {
        for seed in 0..4 {
            with(&|pair| pair.run.seed = seed);
        }
    }
    for table in 0..pair.tables.len() {
        if pair.tables[table].updating && pair.lives.iter().all(|life| life.table != table || life.died.is_none()) {
            with(&|pair| pair.tables[table].updating = false);
        }
        for column in 1..pair.tables[table].columns.len() {
            with(&|pair| drop_table_column(pair, table, column));
        }
    }
    found
}

/// The parts of the query in place of the whole, then the query with one of its parts changed.
fn queries(pair: &Pair) -> Vec<Query> {
    let mut found: Vec<Query> = pair.query.parts().into_iter().cloned().collect();
    found.extend(variants(&pair.query));
    found
}

/// A query with one thing less, somewhere in it.
fn variants(query: &Query) -> Vec<Query> {
    let mut found = simpler(query);
    for index in 0..query.parts().len() {
        let part = query.parts()[index].clone();
        for variant in variants(&part) {
            let mut copy = query.clone();
            *copy.parts_mut()[index] = variant;
            found.push(copy);
        }
    }
    found
}

/// A node with one thing less.
fn simpler(query: &Query) -> Vec<Query> {
    let mut found = vec![];
    // Nodes that keep the columns of their input can go; whether the names still fit is checked by the caller.
    found.extend(query.parts().into_iter().take(1).cloned());
    if let Query::SetOperation { right, .. } | Query::Join { right, .. } = query {
        found.push((**right).clone());
    }
    let mut with = |change: &dyn Fn(&mut Query)| {
        let mut copy = query.clone();
        change(&mut copy);
        found.push(copy);
    };
    match query {
        Query::Table { columns, .. } => (0..columns.len()).for_each(|index| {
            with(&|query| {
                if let Query::Table { columns, .. } = query {
                    columns.remove(index);
                }
            });
        }),
        Query::Shared { columns, .. } => (0..columns.len()).for_each(|index| {
            with(&|query| {
                if let Query::Shared { columns, .. } = query {
                    columns.remove(index);
                }
            });
        }),
        Query::Filter { conditions, .. } => each_simpler(conditions, |simple| {
            with(&|query| {
                if let Query::Filter { conditions, .. } = query {
                    *conditions = simple.clone();
                }
            });
        }),
        Query::Project { columns, .. } => {
            for index in 0..columns.len() {
                with(&|query| {
                    if let Query::Project { columns, .. } = query {
                        columns.remove(index);
                    }
                });
                for simple in simpler_exprs(&columns[index].0) {
                    with(&|query| {
                        if let Query::Project { columns, .. } = query {
                            columns[index].0 = simple.clone();
                        }
                    });
                }
            }
        }
        Query::Aggregate { keys, calls, having, .. } => {
            for index in 0..keys.len() {
                with(&|query| {
                    if let Query::Aggregate { keys, .. } = query {
                        keys.remove(index);
                    }
                });
            }
            for index in 0..calls.len() {
                with(&|query| {
                    if let Query::Aggregate { calls, .. } = query {
                        calls.remove(index);
                    }
                });
                with(&|query| {
                    if let Query::Aggregate { calls, .. } = query {
                        (calls[index].distinct, calls[index].filter) = (false, None);
                    }
                });
            }
            each_simpler(having, |simple| {
                with(&|query| {
                    if let Query::Aggregate { having, .. } = query {
                        *having = simple.clone();
                    }
                });
            });
        }
        Query::Join { on, .. } => each_simpler(on, |simple| {
            with(&|query| {
                if let Query::Join { on, .. } = query {
                    *on = simple.clone();
                }
            });
        }),
        Query::TopN { partition, order, rank, from, to, .. } => {
            if !partition.is_empty() {
                with(&|query| {
                    if let Query::TopN { partition, .. } = query {
                        partition.clear();
                    }
                });
            }
            if rank.is_some() {
                with(&|query| {
                    if let Query::TopN { rank, .. } = query {
                        *rank = None;
                    }
                });
            }
            if from != to || *to > 1 {
                with(&|query| {
                    if let Query::TopN { from, to, .. } = query {
                        (*from, *to) = (1, 1);
                    }
                });
            }
            // An order that is not total is no fault: only columns that are gone may leave it.
            for index in 0..order.len() {
                if order[index].descending {
                    with(&|query| {
                        if let Query::TopN { order, .. } = query {
                            order[index].descending = false;
                        }
                    });
                }
            }
        }
        Query::Limit { limit, offset, .. } if *limit > 1 || *offset > 0 => with(&|query| {
            if let Query::Limit { limit, offset, .. } = query {
                (*limit, *offset) = (1, 0);
            }
        }),
        Query::Over { partition, calls, .. } => {
            if !partition.is_empty() {
                with(&|query| {
                    if let Query::Over { partition, .. } = query {
                        partition.clear();
                    }
                });
            }
            for index in 0..calls.len() {
                with(&|query| {
                    if let Query::Over { calls, .. } = query {
                        calls.remove(index);
                    }
                });
            }
        }
        Query::Exists { correlation, .. } | Query::Scalar { correlation, .. } => each_simpler(correlation, |simple| {
            with(&|query| {
                if let Query::Exists { correlation, .. } | Query::Scalar { correlation, .. } = query {
                    *correlation = simple.clone();
                }
            });
        }),
        _ => {}
    }
    found
}

/// A list of conditions with one less, or with one made simpler.
fn each_simpler(conditions: &[Expr], mut found: impl FnMut(Vec<Expr>)) {
    for index in 0..conditions.len() {
        let mut less = conditions.to_vec();
        less.remove(index);
        found(less);
        for simple in simpler_exprs(&conditions[index]) {
            let mut other = conditions.to_vec();
            other[index] = simple;
            found(other);
        }
    }
}

/// The parts of an expression in its place; those that do not fit by type are left out by the caller.
fn simpler_exprs(expr: &Expr) -> Vec<Expr> {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => parts.clone(),
        Expr::Not(inner) | Expr::Upper(inner) | Expr::Times(inner, _) | Expr::Modulo(inner, _) => vec![(**inner).clone()],
        Expr::Arithmetic(_, left, right) | Expr::Concat(left, right) | Expr::Coalesce(left, right) => {
            vec![(**left).clone(), (**right).clone()]
        }
        Expr::Case(condition, then, otherwise) => vec![(**then).clone(), (**otherwise).clone(), (**condition).clone()],
        Expr::Compare(op, left, right) => {
            let lefts = simpler_exprs(left).into_iter().map(|left| Expr::Compare(op, Box::new(left), right.clone()));
            let rights = simpler_exprs(right).into_iter().map(|right| Expr::Compare(op, left.clone(), Box::new(right)));
            lefts.chain(rights).collect()
        }
        Expr::InList(value, list, not) if list.len() > 1 => vec![Expr::InList(value.clone(), list[..1].to_vec(), *not)],
        _ => vec![],
    }
}

/// Puts a shared subquery where it is read once; where it is read twice nothing changes.
fn inline(pair: &mut Pair, shared: usize) {
    let definition = pair.shared[shared].clone();
    let place = |query: &mut Query| replace_shared(query, shared, &definition);
    let count: usize = std::iter::once(&pair.query).chain(&pair.shared).map(|query| reads(query, shared)).sum();
    if count > 1 {
        return;
    }
    place(&mut pair.query);
    pair.shared.iter_mut().for_each(place);
    if pair.shared.len() == shared + 1 {
        pair.shared.pop();
    }
}

fn reads(query: &Query, wanted: usize) -> usize {
    let own = usize::from(matches!(query, Query::Shared { shared, .. } if *shared == wanted));
    own + query.parts().into_iter().map(|part| reads(part, wanted)).sum::<usize>()
}

fn replace_shared(query: &mut Query, wanted: usize, definition: &Query) {
    if let Query::Shared { shared, columns } = query {
        if *shared == wanted {
            let columns = columns.iter().map(|(from, name)| (Expr::Column(from.clone()), name.clone())).collect();
            *query = Query::Project { input: Box::new(definition.clone()), columns };
        }
        return;
    }
    query.parts_mut().into_iter().for_each(|part| replace_shared(part, wanted, definition));
}

fn drop_table_column(pair: &mut Pair, table: usize, column: usize) {
    fn shift(query: &mut Query, wanted: usize, column: usize) {
        if let Query::Table { table, columns } = query
            && *table == wanted
        {
            for (index, _) in columns.iter_mut() {
                match (*index).cmp(&column) {
                    std::cmp::Ordering::Greater => *index -= 1,
                    // The pair is then not valid, and left out.
                    std::cmp::Ordering::Equal => *index = usize::MAX,
                    std::cmp::Ordering::Less => {}
                }
            }
        }
        query.parts_mut().into_iter().for_each(|part| shift(part, wanted, column));
    }
    if pair.tables[table].columns.len() <= 2 {
        return;
    }
    pair.tables[table].columns.remove(column);
    pair.lives.iter_mut().filter(|life| life.table == table).for_each(|life| {
        life.values.remove(column);
    });
    shift(&mut pair.query, table, column);
    pair.shared.iter_mut().for_each(|query| shift(query, table, column));
}

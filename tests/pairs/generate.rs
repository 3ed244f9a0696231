//! Draws pairs: tables, the rows that come and go, and a query over them.

use super::dice::Dice;
use super::pair::{Pair, Run};
use super::query::{Call, Column, Expr, Frame, Function, JoinKind, Name, OverCall, Query, Rank, Scope, SetKind, SortKey, Type};
use super::rows::{Life, Table, Value};

/// What the queries may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    Joins,
    TopN,
    Ranks,
    Limit,
    Over,
    SetOperations,
    In,
    Exists,
    Scalar,
}

/// The pair of a seed.
pub fn pair(seed: u64, features: &[Feature]) -> Pair {
    let mut dice = Dice::new(seed);
    let tables: Vec<Table> = (0..1 + dice.below(3)).map(|_| table(&mut dice)).collect();
    let (lives, moments) = lives(&mut dice, &tables);
    let mut cuts: Vec<usize> = (0..dice.below(5)).map(|_| dice.below(moments + 1)).collect();
    cuts.push(moments);
    cuts.sort_unstable();
    cuts.dedup();
    let lanes = (0..cuts.len()).map(|_| *dice.pick(&[1, 1, 2, 3])).collect();
    let run = Run {
        views: dice.chance(50),
        batch_rows: *dice.pick(&[1, 3, 1000]),
        restarts: dice.chance(50),
        lanes,
        merges: dice.chance(30),
        seed: dice.seed(),
    };
    let declared: Vec<Vec<Column>> = tables.iter().map(|table| table.columns.clone()).collect();
    let mut generator = Generator { dice, features, tables: &declared, shared: vec![], names: 0, joins: 0 };
    let mut shared = vec![];
    for _ in 0..generator.dice.below(3).saturating_sub(1) + usize::from(generator.dice.chance(20)) {
        let depth = 1 + generator.dice.below(2);
        let query = generator.query(depth);
        let query = generator.narrowed(query, 5);
        let columns = generator.columns(&query);
        generator.shared.push(columns);
        shared.push(query);
    }
    generator.joins = 0;
    let depth = 1 + generator.dice.below(4);
    let query = generator.query(depth);
    Pair { tables, lives, cuts, shared, query, run }
}

fn table(dice: &mut Dice) -> Table {
    let mut columns = vec![Column { name: "id".to_string(), data_type: Type::Int }];
    for name in &["a", "b", "c", "d"][..2 + dice.below(3)] {
        let data_type = *dice.pick(&[Type::Int, Type::Int, Type::BigInt, Type::Text, Type::Text, Type::Double, Type::Time]);
        columns.push(Column { name: (*name).to_string(), data_type });
    }
    Table { columns, updating: dice.chance(50) }
}

fn value(dice: &mut Dice, data_type: Type) -> Value {
    if dice.chance(15) {
        return None;
    }
    Some(match data_type {
        Type::Int => dice.below(5) as i64 - 1,
        Type::BigInt => dice.below(4) as i64,
        Type::Text => dice.below(6) as i64,
        Type::Double => dice.below(6) as i64 - 2,
        Type::Time => dice.below(8) as i64,
    })
}

/// Rows that come and go, one change a moment; returns the number of moments.
fn lives(dice: &mut Dice, tables: &[Table]) -> (Vec<Life>, usize) {
    let mut lives: Vec<Life> = vec![];
    let most = if dice.chance(20) { 70 } else { 25 };
    let moments = 2 + dice.below(most);
    for moment in 0..moments {
        let table = dice.below(tables.len());
        let fresh = |dice: &mut Dice, id: i64| Life {
            table,
            values: std::iter::once(Some(id))
                .chain(tables[table].columns[1..].iter().map(|column| value(dice, column.data_type)))
                .collect(),
            born: moment,
            died: None,
        };
        let there: Vec<usize> =
            (0..lives.len()).filter(|life| lives[*life].table == table && lives[*life].died.is_none()).collect();
        let goes = tables[table].updating && !there.is_empty() && dice.chance(45);
        if goes {
            let old = *dice.pick(&there);
            lives[old].died = Some(moment);
            if dice.chance(60) {
                let id = lives[old].values[0].expect("ids are not null");
                let mut new = fresh(dice, id);
                if dice.chance(50) {
                    // Most columns stay as they are.
                    let kept = lives[old].values.clone();
                    let changed = 1 + dice.below(kept.len() - 1);
                    for (column, kept) in kept.into_iter().enumerate().skip(1) {
                        if column != changed {
                            new.values[column] = kept;
                        }
                    }
                }
                lives.push(new);
            }
        } else {
            // An id that is not there, perhaps one that was.
            let used: Vec<i64> = there.iter().filter_map(|life| lives[*life].values[0]).collect();
            let free: Vec<i64> = (0..).filter(|id| !used.contains(id)).take(3).collect();
            let id = *dice.pick(&free);
            lives.push(fresh(dice, id));
        }
    }
    (lives, moments)
}

struct Generator<'a> {
    dice: Dice,
    features: &'a [Feature],
    tables: &'a [Vec<Column>],
    shared: Vec<Vec<Column>>,
    names: usize,
    /// Joins so far: each multiplies rows.
    joins: usize,
}

impl Generator<'_> {
    fn columns(&self, query: &Query) -> Vec<Column> {
        let scope = Scope { tables: self.tables, shared: self.shared.clone() };
        query.columns(&scope).unwrap_or_else(|| panic!("the generator makes queries that fit together: {query:?}"))
    }

    fn name(&mut self) -> Name {
        self.names += 1;
        format!("c{}", self.names)
    }

    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    fn query(&mut self, depth: usize) -> Query {
        if depth == 0 {
            return self.leaf();
        }
        loop {
            let query = match self.dice.below(24) {
                0..=3 => Some(self.filter(depth)),
                4..=5 => Some(self.project(depth)),
                6..=10 => Some(self.aggregate(depth)),
                11 => Some(self.distinct(depth)),
                12..=15 if self.has(Feature::Joins) && self.joins < 3 => Some(self.join(depth)),
                16 => Some(self.set_operation(depth)),
                17 if self.has(Feature::SetOperations) => Some(self.set_operation(depth)),
                18..=19 if self.has(Feature::TopN) => Some(self.top_n(depth)),
                20 if self.has(Feature::Limit) => Some(self.limit(depth)),
                21 if self.has(Feature::Over) => Some(self.over(depth)),
                22..=23 => self.subquery(depth),
                _ => None,
            };
            if let Some(query) = query {
                return query;
            }
        }
    }

    fn leaf(&mut self) -> Query {
        if !self.shared.is_empty() && self.dice.chance(60) {
            let shared = self.dice.below(self.shared.len());
            let columns = self.shared[shared].clone();
            let columns = columns.into_iter().map(|column| (column.name, self.name())).collect();
            return Query::Shared { shared, columns };
        }
        let table = self.dice.below(self.tables.len());
        let width = self.tables[table].len();
        let columns = (0..width).map(|index| (index, self.name())).collect();
        let query = Query::Table { table, columns };
        if self.dice.chance(30) { self.narrowed(query, width.min(3)) } else { query }
    }

    /// Drops columns until there are at most `most`.
    fn narrowed(&mut self, query: Query, most: usize) -> Query {
        let mut columns = self.columns(&query);
        if columns.len() <= most {
            return query;
        }
        while columns.len() > most {
            let index = self.dice.below(columns.len());
            columns.remove(index);
        }
        let columns = columns.into_iter().map(|column| (Expr::Column(column.name), self.name())).collect();
        Query::Project { input: Box::new(query), columns }
    }

    fn filter(&mut self, depth: usize) -> Query {
        let input = self.query(depth - 1);
        let columns = self.columns(&input);
        let conditions = (0..1 + self.dice.below(2)).map(|_| self.condition(&columns, 1)).collect();
        Query::Filter { input: Box::new(input), conditions }
    }

    fn project(&mut self, depth: usize) -> Query {
        let input = self.query(depth - 1);
        let from = self.columns(&input);
        let columns = (0..1 + self.dice.below(4))
            .map(|_| {
                let data_type = self.dice.pick(&from).data_type;
                let expr = if self.dice.chance(50) {
                    Expr::Column(self.dice.pick(&from).name.clone())
                } else {
                    self.value(&from, data_type, 2)
                };
                (expr, self.name())
            })
            .collect();
        Query::Project { input: Box::new(input), columns }
    }

    fn aggregate(&mut self, depth: usize) -> Query {
        let mut input = self.query(depth - 1);
        if self.dice.chance(15) {
            // Keys that are computed.
            let from = self.columns(&input);
            let mut columns: Vec<(Expr, Name)> = from.iter().map(|column| (Expr::column(&column.name), self.name())).collect();
            let data_type = self.dice.pick(&from).data_type;
            columns.push((self.value(&from, data_type, 1), self.name()));
            input = Query::Project { input: Box::new(input), columns };
        }
        let from = self.columns(&input);
        let mut keys: Vec<Name> = vec![];
        for _ in 0..*self.dice.pick(&[0, 1, 1, 1, 2]) {
            let key = self.dice.pick(&from).name.clone();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let least = usize::from(keys.is_empty());
        let calls: Vec<Call> = (0..least.max(self.dice.below(4))).map(|_| self.call(&from)).collect();
        let mut query = Query::Aggregate { input: Box::new(input), keys, calls, having: vec![] };
        if self.dice.chance(25) {
            let columns = self.columns(&query);
            let condition = self.condition(&columns, 0);
            if let Query::Aggregate { having, .. } = &mut query {
                having.push(condition);
            }
        }
        query
    }

    fn call(&mut self, from: &[Column]) -> Call {
        let name = self.name();
        let filter = self.dice.chance(20).then(|| self.condition(from, 0));
        let numbers: Vec<&Column> =
            from.iter().filter(|column| matches!(column.data_type, Type::Int | Type::BigInt | Type::Double)).collect();
        let (function, column) = match self.dice.below(8) {
            0 | 1 => (Function::Count, None),
            2 => (Function::Count, Some(self.dice.pick(from).clone())),
            3 | 4 if !numbers.is_empty() => (Function::Sum, Some((*self.dice.pick(&numbers)).clone())),
            5 if !numbers.is_empty() => (Function::Avg, Some((*self.dice.pick(&numbers)).clone())),
            6 => (Function::Max, Some(self.dice.pick(from).clone())),
            _ => (Function::Min, Some(self.dice.pick(from).clone())),
        };
        let distinct = column.is_some() && self.dice.chance(25);
        Call { function, argument: column.map(|column| Expr::Column(column.name)), distinct, filter, name }
    }

    fn distinct(&mut self, depth: usize) -> Query {
        let input = self.query(depth - 1);
        let most = 1 + self.dice.below(3);
        Query::Distinct { input: Box::new(self.narrowed(input, most)) }
    }

    fn join(&mut self, depth: usize) -> Query {
        self.joins += 1;
        let left = self.query(depth - 1);
        let shallow = self.dice.below(depth);
        let right = self.query(shallow);
        let (from_left, from_right) = (self.columns(&left), self.columns(&right));
        let kind = *self.dice.pick(&[JoinKind::Inner, JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full]);
        let mut on = vec![];
        for _ in 0..*self.dice.pick(&[1, 1, 1, 1, 2, 0]) {
            on.extend(self.equality(&from_left, &from_right));
        }
        let both: Vec<Column> = from_left.iter().chain(&from_right).cloned().collect();
        if on.is_empty() || self.dice.chance(25) {
            on.push(
                self.comparison_of(&from_left, &from_right).unwrap_or_else(|| Expr::compare("=", Expr::Int(1), Expr::Int(1))),
            );
        }
        if self.dice.chance(15) {
            on.push(self.condition(&both, 0));
        }
        Query::Join { kind, left: Box::new(left), right: Box::new(right), on }
    }

    /// A left column equal to a right one, if there are two of one type.
    fn equality(&mut self, left: &[Column], right: &[Column]) -> Option<Expr> {
        let pairs = like_pairs(left, right);
        if pairs.is_empty() {
            return None;
        }
        let (left, right) = self.dice.pick(&pairs).clone();
        let op = if self.dice.chance(7) { "IS NOT DISTINCT FROM" } else { "=" };
        let (left, right) = if self.dice.chance(80) { (left, right) } else { (right, left) };
        Some(Expr::compare(op, Expr::Column(left), Expr::Column(right)))
    }

    fn comparison_of(&mut self, left: &[Column], right: &[Column]) -> Option<Expr> {
        let pairs = like_pairs(left, right);
        if pairs.is_empty() {
            return None;
        }
        let (left, right) = self.dice.pick(&pairs).clone();
        let op = *self.dice.pick(&["<", "<=", ">", "<>"]);
        Some(Expr::compare(op, Expr::Column(left), Expr::Column(right)))
    }

    fn set_operation(&mut self, depth: usize) -> Query {
        let left = self.query(depth - 1);
        let most = 1 + self.dice.below(3);
        let left = self.narrowed(left, most);
        let shallow = self.dice.below(depth);
        let right = self.query(shallow);
        let (from_left, from_right) = (self.columns(&left), self.columns(&right));
        let columns = from_left
            .iter()
            .map(|column| {
                let alike: Vec<&Column> = from_right.iter().filter(|other| other.data_type == column.data_type).collect();
                let expr = match alike.is_empty() {
                    true => self.literal(column.data_type),
                    false => Expr::Column(self.dice.pick(&alike).name.clone()),
                };
                (typed(expr, column.data_type), self.name())
            })
            .collect();
        let right = Query::Project { input: Box::new(right), columns };
        let kind = match self.has(Feature::SetOperations) {
            true => *self.dice.pick(&[SetKind::Union, SetKind::Intersect, SetKind::Except]),
            false => SetKind::Union,
        };
        Query::SetOperation { kind, all: self.dice.chance(50), left: Box::new(left), right: Box::new(right) }
    }

    /// One or two columns to begin with, then all others: rows of equal order are alike.
    fn total_order(&mut self, columns: &[Column]) -> Vec<SortKey> {
        let mut rest: Vec<Name> = columns.iter().map(|column| column.name.clone()).collect();
        let mut order = vec![];
        while !rest.is_empty() {
            let index = self.dice.below(rest.len());
            order.push(SortKey { column: rest.remove(index), descending: self.dice.chance(40) });
        }
        order
    }

    fn partition(&mut self, columns: &[Column]) -> Vec<Name> {
        match self.dice.chance(70) {
            true => vec![self.dice.pick(columns).name.clone()],
            false => vec![],
        }
    }

    fn top_n(&mut self, depth: usize) -> Query {
        let input = self.query(depth - 1);
        let input = self.narrowed(input, 5);
        let columns = self.columns(&input);
        let function = match self.has(Feature::Ranks) {
            true => *self.dice.pick(&[Rank::RowNumber, Rank::RowNumber, Rank::Rank, Rank::DenseRank]),
            false => Rank::RowNumber,
        };
        let mut order = self.total_order(&columns);
        if function != Rank::RowNumber {
            order.truncate(1);
        }
        let partition = self.partition(&columns);
        let from = if self.dice.chance(15) { 2 } else { 1 };
        let to = from + self.dice.below(4) as u64;
        let rank = self.dice.chance(40).then(|| self.name());
        Query::TopN { input: Box::new(input), function, partition, order, from, to, rank }
    }

    fn limit(&mut self, depth: usize) -> Query {
        let input = self.query(depth - 1);
        let input = self.narrowed(input, 5);
        let columns = self.columns(&input);
        let order = self.total_order(&columns);
        let offset = if self.dice.chance(20) { 1 + self.dice.below(3) as u64 } else { 0 };
        Query::Limit { input: Box::new(input), order, limit: 1 + self.dice.below(5) as u64, offset }
    }

    fn over(&mut self, depth: usize) -> Query {
        let input = self.query(depth - 1);
        let input = self.narrowed(input, 5);
        let columns = self.columns(&input);
        let frame = *self.dice.pick(&[Frame::Default, Frame::RowsUnbounded, Frame::Rows(1), Frame::Rows(2)]);
        let mut order = self.total_order(&columns);
        let calls: Vec<OverCall> = (0..1 + self.dice.below(2))
            .map(|_| match self.dice.below(6) {
                0 => OverCall::Rank(*self.dice.pick(&[Rank::RowNumber, Rank::Rank, Rank::DenseRank]), self.name()),
                1 => OverCall::Lag(self.dice.pick(&columns).name.clone(), 1 + self.dice.below(2) as u64, self.name()),
                _ => {
                    let call = self.call(&columns);
                    OverCall::Aggregate(Call { distinct: false, filter: None, ..call })
                }
            })
            .collect();
        let by_rows = |call: &OverCall| matches!(call, OverCall::Rank(..) | OverCall::Lag(..));
        if frame == Frame::Default && !calls.iter().any(by_rows) && self.dice.chance(50) {
            order.truncate(1);
        }
        let partition = self.partition(&columns);
        // LAG takes any of equal rows, and RANK counts them all here, as in Flink.
        let tells_equal_rows =
            |call: &OverCall| matches!(call, OverCall::Lag(..) | OverCall::Rank(Rank::Rank | Rank::DenseRank, _));
        let input = if calls.iter().any(tells_equal_rows) { Query::Distinct { input: Box::new(input) } } else { input };
        Query::Over { input: Box::new(input), partition, order, frame, calls }
    }

    fn subquery(&mut self, depth: usize) -> Option<Query> {
        let which: Vec<Feature> =
            [Feature::In, Feature::Exists, Feature::Scalar].into_iter().filter(|feature| self.has(*feature)).collect();
        if which.is_empty() || self.joins >= 3 {
            return None;
        }
        self.joins += 1;
        let input = Box::new(self.query(depth - 1));
        let shallow = self.dice.below(depth);
        let sub = Box::new(self.query(shallow));
        let (from, inner) = (self.columns(&input), self.columns(&sub));
        match self.dice.pick(&which) {
            Feature::In => {
                let pairs = like_pairs(&from, &inner);
                if pairs.is_empty() {
                    return None;
                }
                let (value, column) = self.dice.pick(&pairs).clone();
                let quantified = self.dice.chance(30).then(|| (self.operator(), self.dice.chance(50)));
                Some(Query::In { input, value: Expr::Column(value), not: self.dice.chance(40), quantified, sub, column })
            }
            Feature::Exists => {
                let mut correlation: Vec<Expr> = self.equality(&from, &inner).into_iter().collect();
                if self.dice.chance(20) {
                    correlation.extend(self.comparison_of(&from, &inner));
                }
                if correlation.iter().any(|condition| matches!(condition, Expr::Compare("IS NOT DISTINCT FROM", ..))) {
                    return None;
                }
                Some(Query::Exists { input, not: self.dice.chance(40), sub, correlation })
            }
            _ => {
                let call = self.call(&inner);
                let scope = Scope { tables: self.tables, shared: self.shared.clone() };
                let aggregate = Query::Aggregate { input: sub, keys: vec![], calls: vec![call.clone()], having: vec![] };
                let data_type = aggregate.columns(&scope)?[0].data_type;
                let Query::Aggregate { input: sub, .. } = aggregate else { return None };
                let alike: Vec<&Column> = from.iter().filter(|column| column.data_type == data_type).collect();
                if alike.is_empty() || call.function == Function::Count {
                    return None;
                }
                let value = Expr::Column(self.dice.pick(&alike).name.clone());
                let op = *self.dice.pick(&["=", "<", ">=", "<>"]);
                let correlation: Vec<Expr> = match self.dice.below(5) {
                    0 | 1 => self.equality(&from, &inner).into_iter().filter(|on| matches!(on, Expr::Compare("=", ..))).collect(),
                    2 => self.comparison_of(&from, &inner).into_iter().chain(self.equality(&from, &inner)).collect(),
                    _ => vec![],
                };
                Some(Query::Scalar { input, value, op, sub, call, correlation })
            }
        }
    }

    fn condition(&mut self, columns: &[Column], depth: usize) -> Expr {
        let column = self.dice.pick(columns).clone();
        let value = Expr::column(&column.name);
        match self.dice.below(if depth == 0 { 8 } else { 11 }) {
            0 => Expr::IsNull(Box::new(value), self.dice.chance(60)),
            1 => {
                let list = (0..1 + self.dice.below(3)).map(|_| self.literal(column.data_type)).collect();
                Expr::InList(Box::new(value), list, self.dice.chance(30))
            }
            2 => {
                let alike: Vec<&Column> = columns.iter().filter(|other| other.data_type == column.data_type).collect();
                let other = Expr::Column(self.dice.pick(&alike).name.clone());
                Expr::compare(self.operator(), value, other)
            }
            3 => {
                let op = *self.dice.pick(&["IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
                Expr::compare(op, value, self.literal(column.data_type))
            }
            4 => {
                let other = self.value(columns, column.data_type, 1);
                Expr::compare(self.operator(), value, other)
            }
            5..=7 => Expr::compare(self.operator(), value, self.literal(column.data_type)),
            8 => Expr::And((0..2).map(|_| self.condition(columns, depth - 1)).collect()),
            9 => Expr::Or((0..2).map(|_| self.condition(columns, depth - 1)).collect()),
            _ => Expr::Not(Box::new(self.condition(columns, depth - 1))),
        }
    }

    fn operator(&mut self) -> &'static str {
        const COMPARISONS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];
        COMPARISONS[self.dice.below(COMPARISONS.len())]
    }

    fn literal(&mut self, data_type: Type) -> Expr {
        loop {
            if let Some(value) = value(&mut self.dice, data_type) {
                return match data_type {
                    Type::Int | Type::BigInt => Expr::Int(value),
                    Type::Text => Expr::Text(super::rows::letter(value)),
                    Type::Double => Expr::Double(value),
                    Type::Time => Expr::Time(value),
                };
            }
        }
    }

    /// A value of exactly this type.
    fn value(&mut self, columns: &[Column], data_type: Type, depth: usize) -> Expr {
        let alike: Vec<&Column> = columns.iter().filter(|column| column.data_type == data_type).collect();
        let base = match alike.is_empty() {
            true => return typed(self.literal(data_type), data_type),
            false => Expr::Column(self.dice.pick(&alike).name.clone()),
        };
        if depth == 0 {
            return base;
        }
        let boxed = |expr| Box::new(expr);
        match (data_type, self.dice.below(7)) {
            (_, 0) => {
                let (condition, otherwise) = (self.condition(columns, 0), self.value(columns, data_type, depth - 1));
                Expr::Case(boxed(condition), boxed(base), boxed(otherwise))
            }
            (_, 1) => Expr::Coalesce(boxed(base), boxed(typed(self.literal(data_type), data_type))),
            (Type::Int | Type::BigInt | Type::Double, 2..=3) => {
                let other = self.value(columns, data_type, depth - 1);
                Expr::Arithmetic(*self.dice.pick(&['+', '-']), boxed(base), boxed(other))
            }
            (Type::Int, 4) => Expr::Modulo(boxed(base), 2 + self.dice.below(2) as i64),
            (Type::Int | Type::BigInt, 5) => Expr::Times(boxed(base), 2),
            (Type::Text, 2..=3) => Expr::Concat(boxed(base), boxed(self.literal(Type::Text))),
            (Type::Text, 4) => Expr::Upper(boxed(base)),
            _ => base,
        }
    }
}

/// The literal as a value of its column's type: a number in the text is an INT.
fn typed(expr: Expr, data_type: Type) -> Expr {
    match (data_type, &expr) {
        (Type::BigInt, Expr::Int(_)) => Expr::Coalesce(Box::new(Expr::Null(Type::BigInt)), Box::new(expr)),
        _ => expr,
    }
}

/// Names of left and right columns of one type.
fn like_pairs(left: &[Column], right: &[Column]) -> Vec<(Name, Name)> {
    let of_left = |left: &Column| {
        let alike = right.iter().filter(|right| right.data_type == left.data_type).map(|right| right.name.clone());
        alike.map(|right| (left.name.clone(), right)).collect::<Vec<_>>()
    };
    left.iter().flat_map(of_left).collect()
}

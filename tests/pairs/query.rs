//! The queries of the generator as values: small enough to take apart, rich enough to be worth it.
//!
//! Columns go by names that occur once in a whole pair, so a part can be dropped and the rest checked by its names alone.

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    Int,
    BigInt,
    Text,
    Double,
    /// TIMESTAMP(3).
    Time,
}

pub type Name = String;

#[derive(Clone, PartialEq, Debug)]
pub struct Column {
    pub name: Name,
    pub data_type: Type,
}

/// A scalar expression, or a condition.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    Column(Name),
    /// A number of type INT or BIGINT.
    Int(i64),
    Text(String),
    /// In halves, so that sums are exact.
    Double(i64),
    /// Seconds after the first event.
    Time(i64),
    Null(Type),
    /// `+`, `-`.
    Arithmetic(char, Box<Expr>, Box<Expr>),
    Times(Box<Expr>, i64),
    Modulo(Box<Expr>, i64),
    Concat(Box<Expr>, Box<Expr>),
    Upper(Box<Expr>),
    Case(Box<Expr>, Box<Expr>, Box<Expr>),
    Coalesce(Box<Expr>, Box<Expr>),
    /// `=`, `<>`, `<`, `<=`, `>`, `>=`, `IS DISTINCT FROM`, `IS NOT DISTINCT FROM`.
    Compare(&'static str, Box<Expr>, Box<Expr>),
    IsNull(Box<Expr>, bool),
    InList(Box<Expr>, Vec<Expr>, bool),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetKind {
    Union,
    Intersect,
    Except,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Function {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

/// An aggregate call; without an argument it is `COUNT(*)`.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    pub function: Function,
    pub argument: Option<Expr>,
    pub distinct: bool,
    pub filter: Option<Expr>,
    pub name: Name,
}

#[derive(Clone, PartialEq, Debug)]
pub struct SortKey {
    pub column: Name,
    pub descending: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::enum_variant_names, reason = "the names are SQL's")]
pub enum Rank {
    RowNumber,
    Rank,
    DenseRank,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// What SQL has without a frame: all rows up to the current one and its peers.
    Default,
    RowsUnbounded,
    Rows(u64),
}

#[derive(Clone, PartialEq, Debug)]
pub enum OverCall {
    Aggregate(Call),
    Rank(Rank, Name),
    /// The value of a column, so many rows before.
    Lag(Name, u64, Name),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Query {
    /// Columns of a table, by position, with new names.
    Table {
        table: usize,
        columns: Vec<(usize, Name)>,
    },
    /// Columns of a shared subquery (a CTE or a view), with new names.
    Shared {
        shared: usize,
        columns: Vec<(Name, Name)>,
    },
    Filter {
        input: Box<Query>,
        conditions: Vec<Expr>,
    },
    Project {
        input: Box<Query>,
        columns: Vec<(Expr, Name)>,
    },
    Aggregate {
        input: Box<Query>,
        keys: Vec<Name>,
        calls: Vec<Call>,
        having: Vec<Expr>,
    },
    Distinct {
        input: Box<Query>,
    },
    Join {
        kind: JoinKind,
        left: Box<Query>,
        right: Box<Query>,
        on: Vec<Expr>,
    },
    /// Both sides have columns of equal types; the names are those of the left side.
    SetOperation {
        kind: SetKind,
        all: bool,
        left: Box<Query>,
        right: Box<Query>,
    },
    /// The rows of ranks `from ..= to`; the rank is a column if it has a name.
    TopN {
        input: Box<Query>,
        function: Rank,
        partition: Vec<Name>,
        order: Vec<SortKey>,
        from: u64,
        to: u64,
        rank: Option<Name>,
    },
    Limit {
        input: Box<Query>,
        order: Vec<SortKey>,
        limit: u64,
        offset: u64,
    },
    Over {
        input: Box<Query>,
        partition: Vec<Name>,
        order: Vec<SortKey>,
        frame: Frame,
        calls: Vec<OverCall>,
    },
    /// `value [NOT] IN (SELECT column FROM sub)`, or `[NOT] value > ANY (SELECT column FROM sub)` and the like.
    In {
        input: Box<Query>,
        value: Expr,
        not: bool,
        /// An operator, and whether it is for ALL rows.
        quantified: Option<(&'static str, bool)>,
        sub: Box<Query>,
        column: Name,
    },
    /// `[NOT] EXISTS (SELECT * FROM sub WHERE correlation)`.
    Exists {
        input: Box<Query>,
        not: bool,
        sub: Box<Query>,
        correlation: Vec<Expr>,
    },
    /// `value op (SELECT call FROM sub WHERE correlation)`.
    Scalar {
        input: Box<Query>,
        value: Expr,
        op: &'static str,
        sub: Box<Query>,
        call: Call,
        correlation: Vec<Expr>,
    },
}

/// The columns of the tables and of the shared subqueries.
pub struct Scope<'a> {
    pub tables: &'a [Vec<Column>],
    pub shared: Vec<Vec<Column>>,
}

impl Query {
    /// The columns that come out, or `None` if a name is used that does not exist.
    pub fn columns(&self, scope: &Scope) -> Option<Vec<Column>> {
        let columns = self.columns_of_node(scope)?;
        (!columns.is_empty()).then_some(columns)
    }

    fn columns_of_node(&self, scope: &Scope) -> Option<Vec<Column>> {
        match self {
            Query::Table { table, columns } => {
                let declared = scope.tables.get(*table)?;
                columns.iter().map(|(index, name)| Some(renamed(declared.get(*index)?, name))).collect()
            }
            Query::Shared { shared, columns } => {
                let declared = scope.shared.get(*shared)?;
                columns.iter().map(|(from, name)| Some(renamed(find(declared, from)?, name))).collect()
            }
            Query::Filter { input, conditions } => {
                let columns = input.columns(scope)?;
                conditions.iter().all(|condition| condition.resolves(&columns)).then_some(columns)
            }
            Query::Project { input, columns } => {
                let from = input.columns(scope)?;
                let typed =
                    |(expr, name): &(Expr, Name)| expr.data_type(&from).map(|data_type| Column { name: name.clone(), data_type });
                columns.iter().map(typed).collect()
            }
            Query::Aggregate { input, keys, calls, having } => {
                let from = input.columns(scope)?;
                let mut columns: Vec<Column> = keys.iter().map(|key| find(&from, key).cloned()).collect::<Option<_>>()?;
                for call in calls {
                    columns.push(call.column(&from)?);
                }
                having.iter().all(|condition| condition.resolves(&columns)).then_some(columns)
            }
            Query::Distinct { input } => input.columns(scope),
            Query::Join { left, right, on, .. } => {
                let mut columns = left.columns(scope)?;
                columns.extend(right.columns(scope)?);
                on.iter().all(|condition| condition.resolves(&columns)).then_some(columns)
            }
            Query::SetOperation { left, right, .. } => {
                let (left, right) = (left.columns(scope)?, right.columns(scope)?);
                let types = |columns: &[Column]| columns.iter().map(|column| column.data_type).collect::<Vec<_>>();
                (types(&left) == types(&right)).then_some(left)
            }
            Query::TopN { input, partition, order, rank, .. } => {
                let mut columns = input.columns(scope)?;
                let known =
                    partition.iter().chain(order.iter().map(|key| &key.column)).all(|name| find(&columns, name).is_some());
                columns.extend(rank.iter().map(|name| Column { name: name.clone(), data_type: Type::BigInt }));
                (known && !order.is_empty()).then_some(columns)
            }
            Query::Limit { input, order, .. } => {
                let columns = input.columns(scope)?;
                (!order.is_empty() && order.iter().all(|key| find(&columns, &key.column).is_some())).then_some(columns)
            }
            Query::Over { input, partition, order, calls, .. } => {
                let from = input.columns(scope)?;
                let known = partition.iter().chain(order.iter().map(|key| &key.column)).all(|name| find(&from, name).is_some());
                // Rows of equal order share the value of LAG, as in Flink: only of rows that all differ it is the same in SQL.
                if calls.iter().any(|call| matches!(call, OverCall::Lag(..))) && !matches!(**input, Query::Distinct { .. }) {
                    return None;
                }
                let mut columns = from.clone();
                for call in calls {
                    columns.push(match call {
                        OverCall::Aggregate(call) => call.column(&from)?,
                        OverCall::Rank(_, name) => Column { name: name.clone(), data_type: Type::BigInt },
                        OverCall::Lag(argument, _, name) => renamed(find(&from, argument)?, name),
                    });
                }
                (known && !order.is_empty()).then_some(columns)
            }
            Query::In { input, value, sub, column, .. } => {
                let columns = input.columns(scope)?;
                let right = find(&sub.columns(scope)?, column)?.data_type;
                (value.data_type(&columns)? == right).then_some(columns)
            }
            Query::Exists { input, sub, correlation, .. } => {
                let columns = input.columns(scope)?;
                let both: Vec<Column> = columns.iter().cloned().chain(sub.columns(scope)?).collect();
                correlation.iter().all(|condition| condition.resolves(&both)).then_some(columns)
            }
            Query::Scalar { input, value, sub, call, correlation, .. } => {
                let columns = input.columns(scope)?;
                let inner = sub.columns(scope)?;
                let both: Vec<Column> = columns.iter().chain(&inner).cloned().collect();
                let fits = value.data_type(&columns)? == call.column(&inner)?.data_type;
                (fits && correlation.iter().all(|condition| condition.resolves(&both))).then_some(columns)
            }
        }
    }

    /// The queries that this one is made of directly.
    pub fn parts(&self) -> Vec<&Query> {
        match self {
            Query::Table { .. } | Query::Shared { .. } => vec![],
            Query::Filter { input, .. }
            | Query::Project { input, .. }
            | Query::Aggregate { input, .. }
            | Query::Distinct { input }
            | Query::TopN { input, .. }
            | Query::Limit { input, .. }
            | Query::Over { input, .. } => vec![input],
            Query::Join { left, right, .. } | Query::SetOperation { left, right, .. } => vec![left, right],
            Query::In { input, sub, .. } | Query::Exists { input, sub, .. } | Query::Scalar { input, sub, .. } => {
                vec![input, sub]
            }
        }
    }

    pub fn parts_mut(&mut self) -> Vec<&mut Query> {
        match self {
            Query::Table { .. } | Query::Shared { .. } => vec![],
            Query::Filter { input, .. }
            | Query::Project { input, .. }
            | Query::Aggregate { input, .. }
            | Query::Distinct { input }
            | Query::TopN { input, .. }
            | Query::Limit { input, .. }
            | Query::Over { input, .. } => vec![input],
            Query::Join { left, right, .. } | Query::SetOperation { left, right, .. } => vec![left, right],
            Query::In { input, sub, .. } | Query::Exists { input, sub, .. } | Query::Scalar { input, sub, .. } => {
                vec![input, sub]
            }
        }
    }
}

impl Call {
    fn column(&self, from: &[Column]) -> Option<Column> {
        if self.filter.as_ref().is_some_and(|filter| !filter.resolves(from)) {
            return None;
        }
        let argument = self.argument.as_ref().map(|argument| argument.data_type(from));
        let data_type = match (self.function, argument) {
            (Function::Count, None | Some(Some(_))) => Type::BigInt,
            (Function::Sum | Function::Avg, Some(Some(number @ (Type::Int | Type::BigInt | Type::Double)))) => number,
            (Function::Min | Function::Max, Some(Some(any))) => any,
            _ => return None,
        };
        Some(Column { name: self.name.clone(), data_type })
    }
}

impl Expr {
    pub fn column(name: &str) -> Expr {
        Expr::Column(name.to_string())
    }

    pub fn compare(op: &'static str, left: Expr, right: Expr) -> Expr {
        Expr::Compare(op, Box::new(left), Box::new(right))
    }

    /// The type of a value, or `None` for a condition and for what uses unknown names.
    pub fn data_type(&self, columns: &[Column]) -> Option<Type> {
        match self {
            Expr::Column(name) => find(columns, name).map(|column| column.data_type),
            Expr::Int(_) => Some(Type::Int),
            Expr::Text(_) => Some(Type::Text),
            Expr::Double(_) => Some(Type::Double),
            Expr::Time(_) => Some(Type::Time),
            Expr::Null(data_type) => Some(*data_type),
            Expr::Arithmetic(_, left, right) => widest(left.data_type(columns)?, right.data_type(columns)?),
            Expr::Times(left, _) => left.data_type(columns),
            // The divisor is an INT, and so is what remains.
            Expr::Modulo(left, _) => left.data_type(columns).map(|_| Type::Int),
            Expr::Concat(left, right) => left.data_type(columns).and(right.data_type(columns)),
            Expr::Upper(text) => text.data_type(columns),
            Expr::Case(condition, then, otherwise) => {
                condition.resolves(columns).then_some(())?;
                widest(then.data_type(columns)?, otherwise.data_type(columns)?)
            }
            Expr::Coalesce(left, right) => widest(left.data_type(columns)?, right.data_type(columns)?),
            Expr::Compare(..) | Expr::IsNull(..) | Expr::InList(..) | Expr::And(_) | Expr::Or(_) | Expr::Not(_) => None,
        }
    }

    /// Whether a condition uses known names only, and compares what can be compared.
    pub fn resolves(&self, columns: &[Column]) -> bool {
        match self {
            Expr::Compare(_, left, right) => match (left.data_type(columns), right.data_type(columns)) {
                (Some(left), Some(right)) => widest(left, right).is_some(),
                _ => false,
            },
            Expr::IsNull(value, _) => value.data_type(columns).is_some(),
            Expr::InList(value, list, _) => {
                let data_type = value.data_type(columns);
                data_type.is_some() && !list.is_empty() && list.iter().all(|item| item.data_type(columns).is_some())
            }
            Expr::And(parts) | Expr::Or(parts) => !parts.is_empty() && parts.iter().all(|part| part.resolves(columns)),
            Expr::Not(inner) => inner.resolves(columns),
            _ => false,
        }
    }
}

pub fn find<'a>(columns: &'a [Column], name: &str) -> Option<&'a Column> {
    columns.iter().find(|column| column.name == name)
}

fn renamed(column: &Column, name: &str) -> Column {
    Column { name: name.to_string(), data_type: column.data_type }
}

fn widest(left: Type, right: Type) -> Option<Type> {
    match (left, right) {
        _ if left == right => Some(left),
        (Type::Int, Type::BigInt) | (Type::BigInt, Type::Int) => Some(Type::BigInt),
        _ => None,
    }
}

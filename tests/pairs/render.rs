//! Queries as SQL text: once as a user of Flink would write it, once for the batch engine that is the yardstick.
//!
//! The two texts mean the same; they differ where the dialects do. Adjoining parts are folded into one SELECT where SQL allows
//! it, so that the planner sees what people write and a shrunk query can be read.

use std::collections::HashMap;

use super::batch::ALWAYS_ONE_KEY;
use super::query::{Call, Expr, Frame, Function, JoinKind, Name, OverCall, Query, Rank, Scope, SetKind, SortKey, Type};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    Flink,
    /// DataFusion, whose INTERSECT ALL and EXCEPT ALL, order of nulls, AVG of integers and aggregates over nothing differ.
    Batch,
}

/// The text of `query` after its shared subqueries, which are CTEs if `with_ctes`, and must exist as views otherwise.
pub fn render(query: &Query, shared: &[Query], scope: &Scope, dialect: Dialect, with_ctes: bool) -> String {
    let mut renderer = Renderer { scope, dialect, aliases: 0 };
    let mut ctes = vec![];
    if with_ctes {
        for (index, query) in shared.iter().enumerate() {
            ctes.push(format!("s{index} AS (\n{}\n)", indented(&renderer.statement(query))));
        }
    }
    let text = renderer.statement(query);
    if ctes.is_empty() { text } else { format!("WITH {}\n{text}", ctes.join(", ")) }
}

/// The text of one shared subquery.
pub fn render_shared(query: &Query, scope: &Scope, dialect: Dialect) -> String {
    Renderer { scope, dialect, aliases: 0 }.statement(query)
}

struct Renderer<'a> {
    scope: &'a Scope<'a>,
    dialect: Dialect,
    aliases: usize,
}

/// A SELECT that may still be added to.
struct Block {
    from: String,
    /// Whether `from` is one table or subquery, which may stand at the right of a join.
    is_one: bool,
    conditions: Vec<String>,
    /// Keys of GROUP BY; empty for a global aggregate.
    group: Option<Vec<String>>,
    having: Vec<String>,
    distinct: bool,
    /// Has calls with OVER, which are made after WHERE.
    windowed: bool,
    /// Names and what they stand for.
    items: Vec<(Name, String)>,
}

impl Block {
    fn is_plain(&self) -> bool {
        self.group.is_none() && !self.distinct && !self.windowed
    }

    fn names(&self) -> HashMap<Name, String> {
        self.items.iter().cloned().collect()
    }

    fn statement(&self) -> String {
        let items: Vec<String> =
            self.items.iter().map(|(name, text)| if text == name { name.clone() } else { format!("{text} AS {name}") }).collect();
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let mut text = format!("SELECT {distinct}{}\nFROM {}", items.join(", "), self.from);
        if !self.conditions.is_empty() {
            text.push_str(&format!("\nWHERE {}", self.conditions.join(" AND ")));
        }
        if let Some(keys) = self.group.as_ref().filter(|keys| !keys.is_empty()) {
            text.push_str(&format!("\nGROUP BY {}", keys.join(", ")));
        }
        if !self.having.is_empty() {
            text.push_str(&format!("\nHAVING {}", self.having.join(" AND ")));
        }
        text
    }
}

/// A query on its way to text.
enum Rendered {
    Block(Block),
    /// A whole statement with the names of its columns.
    Whole(String, Vec<Name>),
}

impl Renderer<'_> {
    fn statement(&mut self, query: &Query) -> String {
        match self.query(query) {
            Rendered::Block(block) => block.statement(),
            Rendered::Whole(text, _) => text,
        }
    }

    /// A block that reads `rendered` as a subquery.
    fn wrapped(&mut self, rendered: Rendered) -> Block {
        let (text, names) = match rendered {
            Rendered::Block(block) => (block.statement(), block.items.into_iter().map(|(name, _)| name).collect()),
            Rendered::Whole(text, names) => (text, names),
        };
        self.read(&format!("(\n{}\n)", indented(&text)), names.into_iter().map(|name| (name.clone(), name)))
    }

    /// A block that reads a table or subquery: pairs of new names and the names there.
    fn read(&mut self, from: &str, columns: impl Iterator<Item = (Name, Name)>) -> Block {
        self.aliases += 1;
        let alias = format!("x{}", self.aliases);
        Block {
            from: format!("{from} AS {alias}"),
            is_one: true,
            conditions: vec![],
            group: None,
            having: vec![],
            distinct: false,
            windowed: false,
            items: columns.map(|(name, there)| (name, format!("{alias}.{there}"))).collect(),
        }
    }

    /// A block that has neither grouping nor windows nor DISTINCT.
    fn plain(&mut self, query: &Query) -> Block {
        match self.query(query) {
            Rendered::Block(block) if block.is_plain() => block,
            other => self.wrapped(other),
        }
    }

    /// A block with nothing but FROM.
    fn bare(&mut self, query: &Query) -> Block {
        let block = self.plain(query);
        if block.conditions.is_empty() && block.items.iter().all(|(_, text)| is_column(text)) {
            return block;
        }
        self.wrapped(Rendered::Block(block))
    }

    fn query(&mut self, query: &Query) -> Rendered {
        match query {
            Query::Table { table, columns } => {
                let declared = &self.scope.tables[*table];
                let columns: Vec<_> = columns.iter().map(|(index, name)| (name.clone(), declared[*index].name.clone())).collect();
                Rendered::Block(self.read(&format!("t{table}"), columns.into_iter()))
            }
            Query::Shared { shared, columns } => {
                let columns = columns.iter().map(|(from, name)| (name.clone(), from.clone()));
                Rendered::Block(self.read(&format!("s{shared}"), columns))
            }
            Query::Filter { input, conditions } => {
                let mut block = self.plain(input);
                block.conditions.extend(self.conditions(conditions, &block.names()));
                Rendered::Block(block)
            }
            Query::Project { input, columns } => {
                let mut block = match self.query(input) {
                    // A projection that drops every aggregate of a global one would make it none.
                    Rendered::Block(block)
                        if !block.distinct && !block.windowed && block.group.as_ref().is_none_or(|keys| !keys.is_empty()) =>
                    {
                        block
                    }
                    other => self.wrapped(other),
                };
                let names = block.names();
                block.items = columns.iter().map(|(expr, name)| (name.clone(), self.expr(expr, &names))).collect();
                Rendered::Block(block)
            }
            Query::Aggregate { input, keys, calls, having } => Rendered::Block(self.aggregate(input, keys, calls, having)),
            Query::Distinct { input } => {
                let mut block = match self.query(input) {
                    Rendered::Block(block) if !block.windowed => block,
                    other => self.wrapped(other),
                };
                block.distinct = true;
                Rendered::Block(block)
            }
            Query::Join { kind, left, right, on } => Rendered::Block(self.join(*kind, left, right, on)),
            Query::SetOperation { kind, all, left, right } => self.set_operation(*kind, *all, left, right),
            Query::TopN { input, function, partition, order, from, to, rank } => {
                let mut inner = self.plain(input);
                let names = inner.names();
                let visible: Vec<Name> = inner.items.iter().map(|(name, _)| name.clone()).collect();
                let over = self.over(partition, order, Frame::Default, &names);
                inner.items.push(("rn".to_string(), self.rank(*function, &over)));
                let mut block = self.wrapped(Rendered::Block(inner));
                let place = block.items.pop().map(|(_, text)| text).unwrap_or_default();
                debug_assert_eq!(block.items.len(), visible.len());
                if *from > 1 {
                    block.conditions.push(format!("{place} >= {from}"));
                }
                block.conditions.push(if from == to { format!("{place} = {to}") } else { format!("{place} <= {to}") });
                block.items.extend(rank.iter().map(|name| (name.clone(), place.clone())));
                Rendered::Block(block)
            }
            Query::Limit { input, order, limit, offset } => {
                let (text, names) = match self.query(input) {
                    Rendered::Block(block) => {
                        let names = block.items.iter().map(|(name, _)| name.clone()).collect();
                        (block.statement(), names)
                    }
                    whole => {
                        let block = self.wrapped(whole);
                        let names = block.items.iter().map(|(name, _)| name.clone()).collect();
                        (block.statement(), names)
                    }
                };
                let order = self.order(order, &HashMap::new());
                let offset = if *offset > 0 { format!(" OFFSET {offset}") } else { String::new() };
                Rendered::Whole(format!("{text}\nORDER BY {order}\nLIMIT {limit}{offset}"), names)
            }
            Query::Over { input, partition, order, frame, calls } => {
                let mut block = self.plain(input);
                let names = block.names();
                for call in calls {
                    let (name, text) = match call {
                        OverCall::Aggregate(call) => {
                            let over = self.over(partition, order, *frame, &names);
                            let text = self.call_with(call, &names, &format!(" {over}"));
                            (&call.name, text)
                        }
                        OverCall::Rank(function, name) => {
                            let over = self.over(partition, order, Frame::Default, &names);
                            (name, self.rank(*function, &over))
                        }
                        OverCall::Lag(argument, offset, name) => {
                            let over = self.over(partition, order, Frame::Default, &names);
                            (name, format!("LAG({}, {offset}) {over}", names[argument]))
                        }
                    };
                    block.items.push((name.clone(), text));
                }
                block.windowed = true;
                Rendered::Block(block)
            }
            Query::In { input, value, not, quantified: Some((op, all)), sub, column } => {
                let mut block = self.plain(input);
                let value = self.expr(value, &block.names());
                let mut sub = self.plain(sub);
                sub.items.retain(|(name, _)| name == column);
                let condition = self.quantified(&value, *not, op, *all, sub);
                block.conditions.push(condition);
                Rendered::Block(block)
            }
            Query::In { input, value, not, quantified: None, sub, column } => {
                let mut block = self.plain(input);
                let value = self.expr(value, &block.names());
                let mut sub = match self.query(sub) {
                    Rendered::Block(sub) if sub.is_plain() => sub,
                    other => self.wrapped(other),
                };
                sub.items.retain(|(name, _)| name == column);
                let not = if *not { "NOT " } else { "" };
                block.conditions.push(format!("{value} {not}IN (\n{}\n)", indented(&sub.statement())));
                Rendered::Block(block)
            }
            Query::Exists { input, not, sub, correlation } => {
                let mut block = self.plain(input);
                let mut sub = self.plain(sub);
                let mut names = block.names();
                names.extend(sub.names());
                sub.conditions.extend(self.conditions(correlation, &names));
                let not = if *not { "NOT " } else { "" };
                block.conditions.push(format!("{not}EXISTS (\n{}\n)", indented(&sub.statement())));
                Rendered::Block(block)
            }
            Query::Scalar { input, value, op, sub, call, correlation }
                if self.dialect == Dialect::Batch && !correlation.iter().all(|on| matches!(on, Expr::Compare("=", ..))) =>
            {
                Rendered::Block(self.joined_value((input, value, op), sub, call, correlation))
            }
            Query::Scalar { input, value, op, sub, call, correlation } => {
                let mut block = self.plain(input);
                let mut names = block.names();
                let value = self.expr(value, &names);
                let mut sub = self.plain(sub);
                names.extend(sub.names());
                sub.conditions.extend(self.conditions(correlation, &names));
                sub.items = vec![(call.name.clone(), self.call_with(call, &names, ""))];
                sub.group = Some(vec![]);
                block.conditions.push(format!("{value} {op} (\n{}\n)", indented(&sub.statement())));
                Rendered::Block(block)
            }
        }
    }

    /// A comparison by ANY or ALL; for the batch engine by EXISTS, of rows that decide it.
    fn quantified(&self, value: &str, not: bool, op: &str, all: bool, mut sub: Block) -> String {
        if self.dialect == Dialect::Flink {
            let (not, word) = (if not { "NOT " } else { "" }, if all { "ALL" } else { "ANY" });
            return format!("{not}({value} {op} {word} (\n{}\n))", indented(&sub.statement()));
        }
        let compared = sub.items.iter().map(|(_, text)| format!("({value} {op} {text})")).collect::<String>();
        let (exists, wanted) = match (not, all) {
            (false, false) => ("EXISTS", compared),
            (false, true) => ("NOT EXISTS", format!("{compared} IS NOT TRUE")),
            (true, false) => ("NOT EXISTS", format!("{compared} IS NOT FALSE")),
            (true, true) => ("EXISTS", format!("NOT {compared}")),
        };
        sub.conditions.push(wanted);
        format!("{exists} (\n{}\n)", indented(&sub.statement()))
    }

    /// A correlated value by a join, for the batch engine, which knows only those that are correlated by `=`: the value for each
    /// combination of the outer columns. Where there is none it is NULL, and no comparison holds.
    fn joined_value(
        &mut self,
        (input, value, op): (&Query, &Expr, &str),
        sub: &Query,
        call: &Call,
        correlation: &[Expr],
    ) -> Block {
        let rows = self.query(input);
        let mut block = self.wrapped(rows);
        let again = self.query(input);
        let mut outer = self.wrapped(again);
        let outer_names: Vec<Name> = outer.items.iter().map(|(name, _)| name.clone()).collect();
        outer.distinct = true;
        let mut grouped = self.wrapped(Rendered::Block(outer));
        let keys: Vec<(Name, String)> = grouped.items.clone();
        let sub = self.query(sub);
        let sub = self.wrapped(sub);
        grouped.items.extend(sub.items);
        let names = grouped.names();
        grouped.from = format!("{}\nJOIN {} ON {}", grouped.from, sub.from, self.conditions(correlation, &names).join(" AND "));
        grouped.group = Some(keys.iter().map(|(_, text)| text.clone()).collect());
        grouped.items = keys.into_iter().chain([(call.name.clone(), self.call_with(call, &names, ""))]).collect();
        let values = self.wrapped(Rendered::Block(grouped));
        let (block_names, value_names) = (block.names(), values.names());
        let mut on: Vec<String> = outer_names
            .iter()
            .map(|name| format!("({} IS NOT DISTINCT FROM {})", block_names[name], value_names[name]))
            .collect();
        on.push(format!("{} {op} {}", self.expr(value, &block_names), value_names[&call.name]));
        block.from = format!("{}\nJOIN {} ON {}", block.from, values.from, on.join(" AND "));
        block.is_one = false;
        block
    }

    fn aggregate(&mut self, input: &Query, keys: &[Name], calls: &[Call], having: &[Expr]) -> Block {
        let mut block = self.plain(input);
        // A constant cannot be grouped by: a number would mean a column by its position.
        let is_constant = |key: &Name| block.items.iter().any(|(name, text)| name == key && !text.contains('.'));
        if keys.iter().any(is_constant) {
            block = self.wrapped(Rendered::Block(block));
        }
        let names = block.names();
        let key_texts: Vec<String> = keys.iter().map(|key| names[key].clone()).collect();
        block.items = keys.iter().cloned().zip(key_texts.iter().cloned()).collect();
        for call in calls {
            block.items.push((call.name.clone(), self.call_with(call, &names, "")));
        }
        block.having = self.conditions(having, &block.names());
        if keys.is_empty() && self.dialect == Dialect::Batch {
            // A stream gives no row before its first row came, and none after its last one was taken back.
            block.group = Some(vec![ALWAYS_ONE_KEY.to_string()]);
            return block;
        }
        block.group = Some(key_texts);
        block
    }

    fn join(&mut self, kind: JoinKind, left: &Query, right: &Query, on: &[Expr]) -> Block {
        let mut block = self.bare(left);
        let mut right = self.bare(right);
        if !right.is_one {
            right = self.wrapped(Rendered::Block(right));
        }
        block.items.extend(right.items);
        let on = self.conditions(on, &block.names());
        let word = match kind {
            JoinKind::Inner if on.is_empty() => "CROSS JOIN",
            JoinKind::Inner => "JOIN",
            JoinKind::Left => "LEFT JOIN",
            JoinKind::Right => "RIGHT JOIN",
            JoinKind::Full => "FULL JOIN",
        };
        let on = match (kind, on.is_empty()) {
            (JoinKind::Inner, true) => String::new(),
            (_, true) => " ON TRUE".to_string(),
            _ => format!(" ON {}", on.join(" AND ")),
        };
        block.from = format!("{}\n{word} {}{on}", block.from, right.from);
        block.is_one = false;
        block
    }

    fn set_operation(&mut self, kind: SetKind, all: bool, left: &Query, right: &Query) -> Rendered {
        let names: Vec<Name> = left.columns(self.scope).unwrap_or_default().into_iter().map(|column| column.name).collect();
        let word = match kind {
            SetKind::Union => "UNION",
            SetKind::Intersect => "INTERSECT",
            SetKind::Except => "EXCEPT",
        };
        let mut sides = [left, right].map(|side| match self.query(side) {
            Rendered::Block(block) => block,
            whole => self.wrapped(whole),
        });
        // Rows become unlike by their number among like rows; then the operation without ALL does what ALL should.
        let counts = self.dialect == Dialect::Batch && all && kind != SetKind::Union;
        if counts {
            for side in &mut sides {
                if !side.is_plain() {
                    let block = std::mem::replace(side, self.read("", std::iter::empty()));
                    *side = self.wrapped(Rendered::Block(block));
                }
                let columns: Vec<&str> = side.items.iter().map(|(_, text)| text.as_str()).collect();
                let number = format!("ROW_NUMBER() OVER (PARTITION BY {})", columns.join(", "));
                side.items.push(("nth".to_string(), number));
            }
        }
        let all = if all && !counts { " ALL" } else { "" };
        // Parentheses around a side that is a set operation itself are never needed: those are subqueries by now.
        let text = format!("{}\n{word}{all}\n{}", sides[0].statement(), sides[1].statement());
        if !counts {
            return Rendered::Whole(text, names);
        }
        let mut block = self.wrapped(Rendered::Whole(text, names.iter().cloned().chain(["nth".to_string()]).collect()));
        block.items.pop();
        // The numbers must not come out, nor be seen by whoever adds to this block.
        Rendered::Block(block)
    }

    fn over(&self, partition: &[Name], order: &[SortKey], frame: Frame, names: &HashMap<Name, String>) -> String {
        let mut parts = vec![];
        if !partition.is_empty() {
            let columns: Vec<&str> = partition.iter().map(|name| names[name].as_str()).collect();
            parts.push(format!("PARTITION BY {}", columns.join(", ")));
        }
        // DataFusion misjudges the order of what comes out where a column is in both lists; in the order it decides nothing.
        let deciding: Vec<SortKey> = order.iter().filter(|key| !partition.contains(&key.column)).cloned().collect();
        let order = if self.dialect == Dialect::Batch && !deciding.is_empty() { &deciding } else { order };
        parts.push(format!("ORDER BY {}", self.order(order, names)));
        match frame {
            Frame::Default => {}
            Frame::RowsUnbounded => parts.push("ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_string()),
            Frame::Rows(rows) => parts.push(format!("ROWS BETWEEN {rows} PRECEDING AND CURRENT ROW")),
        }
        format!("OVER ({})", parts.join(" "))
    }

    fn rank(&self, function: Rank, over: &str) -> String {
        let name = match function {
            Rank::RowNumber => "ROW_NUMBER",
            Rank::Rank => "RANK",
            Rank::DenseRank => "DENSE_RANK",
        };
        match self.dialect {
            Dialect::Flink => format!("{name}() {over}"),
            // There the ranks are unsigned, and what is computed with them is of other types.
            Dialect::Batch => format!("CAST({name}() {over} AS BIGINT)"),
        }
    }

    fn order(&self, order: &[SortKey], names: &HashMap<Name, String>) -> String {
        let key = |key: &SortKey| {
            let column = names.get(&key.column).unwrap_or(&key.column);
            let direction = if key.descending { " DESC" } else { "" };
            // Nulls are the smallest values in Flink.
            let nulls = match (self.dialect, key.descending) {
                (Dialect::Flink, _) => "",
                (Dialect::Batch, true) => " NULLS LAST",
                (Dialect::Batch, false) => " NULLS FIRST",
            };
            format!("{column}{direction}{nulls}")
        };
        order.iter().map(key).collect::<Vec<_>>().join(", ")
    }

    /// A call, and after each aggregate in it `suffix`.
    fn call_with(&self, call: &Call, names: &HashMap<Name, String>, suffix: &str) -> String {
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        let argument = call.argument.as_ref().map_or("*".to_string(), |argument| self.expr(argument, names));
        let filter = match &call.filter {
            Some(filter) => format!(" FILTER (WHERE {})", self.expr(filter, names)),
            None => String::new(),
        };
        let text = |function: &str| format!("{function}({distinct}{argument}){filter}{suffix}");
        match call.function {
            Function::Count => text("COUNT"),
            Function::Sum => text("SUM"),
            Function::Min => text("MIN"),
            Function::Max => text("MAX"),
            // Of integers an integer comes, without the fraction.
            Function::Avg if self.dialect == Dialect::Batch => {
                format!("({} / NULLIF({}, 0))", text("SUM"), text("COUNT"))
            }
            Function::Avg => text("AVG"),
        }
    }

    fn conditions(&self, conditions: &[Expr], names: &HashMap<Name, String>) -> Vec<String> {
        conditions
            .iter()
            .map(|condition| match condition {
                Expr::Or(_) => format!("({})", self.expr(condition, names)),
                _ => self.expr(condition, names),
            })
            .collect()
    }

    fn expr(&self, expr: &Expr, names: &HashMap<Name, String>) -> String {
        let inner = |expr: &Expr| match expr {
            Expr::Arithmetic(..) | Expr::And(_) | Expr::Or(_) | Expr::Concat(..) => format!("({})", self.expr(expr, names)),
            // A column may stand for what another SELECT computes.
            Expr::Column(name) if names.get(name).is_some_and(|text| text.contains(' ')) => {
                format!("({})", self.expr(expr, names))
            }
            _ => self.expr(expr, names),
        };
        match expr {
            Expr::Column(name) => names.get(name).cloned().unwrap_or_else(|| name.clone()),
            Expr::Int(number) if *number < 0 => format!("({number})"),
            Expr::Int(number) => number.to_string(),
            Expr::Text(text) => format!("'{text}'"),
            Expr::Double(halves) => format!("CAST({:?} AS DOUBLE)", *halves as f64 / 2.0),
            Expr::Time(seconds) => format!("TIMESTAMP '2026-01-01 00:{:02}:{:02}'", seconds / 60, seconds % 60),
            Expr::Null(data_type) => format!("CAST(NULL AS {})", type_name(*data_type)),
            Expr::Arithmetic(op, left, right) => format!("{} {op} {}", inner(left), inner(right)),
            Expr::Times(left, factor) => format!("{} * {factor}", inner(left)),
            Expr::Modulo(left, divisor) => match self.dialect {
                Dialect::Flink => format!("MOD({}, {divisor})", self.expr(left, names)),
                Dialect::Batch => format!("({} % {divisor})", inner(left)),
            },
            Expr::Concat(left, right) => format!("{} || {}", inner(left), inner(right)),
            Expr::Upper(text) => format!("UPPER({})", self.expr(text, names)),
            Expr::Case(condition, then, otherwise) => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.expr(condition, names),
                self.expr(then, names),
                self.expr(otherwise, names)
            ),
            Expr::Coalesce(left, right) => format!("COALESCE({}, {})", self.expr(left, names), self.expr(right, names)),
            // DataFusion takes all that follows for the right side of these.
            Expr::Compare(op, left, right) if op.starts_with("IS ") && self.dialect == Dialect::Batch => {
                format!("({} {op} {})", inner(left), inner(right))
            }
            Expr::Compare(op, left, right) => format!("{} {op} {}", inner(left), inner(right)),
            Expr::IsNull(value, true) => format!("{} IS NOT NULL", inner(value)),
            Expr::IsNull(value, false) => format!("{} IS NULL", inner(value)),
            Expr::InList(value, list, not) => {
                let list: Vec<String> = list.iter().map(|item| self.expr(item, names)).collect();
                format!("{} {}IN ({})", inner(value), if *not { "NOT " } else { "" }, list.join(", "))
            }
            Expr::And(parts) => parts.iter().map(inner).collect::<Vec<_>>().join(" AND "),
            Expr::Or(parts) => parts.iter().map(inner).collect::<Vec<_>>().join(" OR "),
            Expr::Not(part) => format!("NOT ({})", self.expr(part, names)),
        }
    }
}

fn is_column(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '.' || letter == '_')
}

pub fn type_name(data_type: Type) -> &'static str {
    match data_type {
        Type::Int => "INT",
        Type::BigInt => "BIGINT",
        Type::Text => "VARCHAR",
        Type::Double => "DOUBLE",
        Type::Time => "TIMESTAMP(3)",
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

//! Rows in an order: Top-N, deduplication, OVER, ORDER BY, and what else looks at rows by group.

use crate::{AggregateCall, Expr, WindowBounds};

/// One column of ORDER BY. Nulls are the smallest values, as in Flink, unless the query says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SortKey {
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
}

/// How rows of equal order are numbered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RankFunction {
    /// By arrival.
    RowNumber,
    /// Alike, with gaps after them. Not in Flink.
    Rank,
    /// Alike, without gaps. Not in Flink.
    DenseRank,
}

impl RankFunction {
    pub fn name(self) -> &'static str {
        match self {
            RankFunction::RowNumber => "ROW_NUMBER",
            RankFunction::Rank => "RANK",
            RankFunction::DenseRank => "DENSE_RANK",
        }
    }
}

/// The ranks that are kept, from `start`, 1 or more, to `end`, both included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RankRange {
    pub start: u64,
    /// `None`: no end, as for OFFSET without a limit.
    pub end: Option<u64>,
}

impl RankRange {
    /// The one rank that is kept, if it is one.
    pub fn only(&self) -> Option<u64> {
        self.end.filter(|end| *end == self.start)
    }
}

/// The first rows of each partition. Without an order the first that came (`LIMIT`).
///
/// Output: the input's columns, then the rank (BIGINT, not null) if `output_rank`. Changes come row by row: with rank each
/// rank that changes its row gives the old one, then the new one; without it the row that leaves, then the row that enters.
/// Append-only if nothing can leave: rows are never taken back and there is no order.
#[derive(Clone, Debug)]
pub struct TopN {
    pub function: RankFunction,
    pub partition: Vec<usize>,
    pub order: Vec<SortKey>,
    pub range: RankRange,
    pub output_rank: bool,
    /// Whether input rows may be taken back. If not, only rows within the range are kept.
    pub input_updating: bool,
    pub in_turn: Option<InTurn>,
}

/// Input rows wait until the watermark has passed the one behind which they came, and come in an order that does not depend on
/// lanes; of rows by arrival in several partitions it depends on which is read first. For operators whose changes windows see:
/// there it counts which rows are shown for a while. It is no part of a node's identity: windows and others share a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InTurn {
    /// The event time of the input.
    pub time_column: usize,
    /// Whether of rows that came behind the same watermark the first to arrive comes first: they come straight from the source.
    pub by_arrival: bool,
}

/// The first rows of each partition of a window, when the watermark reaches `window_end - 1 ms`. The window's bounds are part of
/// the partition without being listed in it. Output as for [`TopN`]; append-only; rows of windows that have closed are late.
#[derive(Clone, Debug)]
pub struct WindowTopN {
    pub function: RankFunction,
    pub window: WindowBounds,
    pub partition: Vec<usize>,
    pub order: Vec<SortKey>,
    pub range: RankRange,
    pub output_rank: bool,
    /// Of rows of equal order the one that came last is the first: the newest row by event time is wanted.
    pub newest_first: bool,
}

/// One row for each key, of append-only input: `ROW_NUMBER() … = 1` ordered by a time attribute. Output: the input's columns.
#[derive(Clone, Debug)]
pub struct Deduplicate {
    pub keys: Vec<usize>,
    /// The event time; `None` for the order of arrival (processing time).
    pub time_column: Option<usize>,
    pub keep: Keep,
    pub in_turn: Option<InTurn>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Keep {
    /// Append-only. By event time the row is sent when the watermark reaches it; late rows are dropped.
    First,
    /// Updating; sent at once. By event time a row replaces another whose time is not greater.
    Last,
}

/// Calls with OVER: each row with what its frame gives.
///
/// Output: the input's columns, then one for each call.
#[derive(Clone, Debug)]
pub struct Over {
    pub partition: Vec<usize>,
    pub order: OverOrder,
    pub frame: Frame,
    pub calls: Vec<OverCall>,
    /// Whether input rows may be taken back: only for [`OverOrder::Columns`].
    pub input_updating: bool,
    /// Only for [`OverOrder::Columns`].
    pub in_turn: Option<InTurn>,
    /// Only for [`OverOrder::EventTime`]: whether all rows carry a watermark, the one behind which they came or, if that is greater,
    /// the one before they were let out. It is no part of a node's identity.
    pub stamps_rows: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum OverOrder {
    /// By event time: rows come out in its order when the watermark reaches them. Append-only.
    EventTime(usize),
    /// By arrival (processing time): each row comes out at once. Append-only.
    Arrival,
    /// By ordinary columns: results of earlier rows change. Updating.
    Columns(Vec<SortKey>),
}

/// The rows that a call sees: from `preceding` to the current row (`RANGE`: with all rows of equal order).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Frame {
    /// This many rows before the current one; `None`: all.
    Rows { preceding: Option<u64> },
    /// Rows at most this many milliseconds older; `None`: all.
    Range { preceding_ms: Option<i64> },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OverCall {
    Aggregate(AggregateCall),
    /// ROW_NUMBER, RANK, DENSE_RANK: BIGINT, not null.
    Rank(RankFunction, arrow::datatypes::FieldRef),
    /// The value of `argument` this many rows before, in the order of the partition; that of column `default`, or null, where
    /// there is none or it is null. The frame plays no part.
    Lag {
        argument: usize,
        offset: u64,
        default: Option<usize>,
        output: arrow::datatypes::FieldRef,
    },
}

impl OverCall {
    /// Name and type of the result.
    pub fn output(&self) -> &arrow::datatypes::FieldRef {
        match self {
            OverCall::Aggregate(call) => &call.output,
            OverCall::Rank(_, output) | OverCall::Lag { output, .. } => output,
        }
    }
}

/// `ORDER BY rowtime, …`: rows in the order of event time, when the watermark reaches them; equal times by `order`, then by
/// arrival. Input to one lane. Append-only; late rows are dropped and counted.
#[derive(Clone, Debug)]
pub struct TemporalSort {
    pub time_column: usize,
    pub order: Vec<SortKey>,
}

/// INTERSECT and EXCEPT. Inputs: left, right, of equal types, by hash of all columns; nulls are equal. Output: the left columns.
#[derive(Clone, Copy, Debug)]
pub struct SetOperation {
    pub kind: SetKind,
    /// With duplicates: the smaller count, or the left count less the right one. Otherwise one row or none.
    pub all: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SetKind {
    Intersect,
    Except,
}

/// Each row once for each element of a column.
///
/// Output: the input's columns, then those of the element: the fields of a ROW, key and value of a MAP, else one column; a
/// MULTISET gives each of its values as often as it counts. Then, with `ordinality`, the number of the element from 1 (INT).
/// A null or empty column gives no row, or with `keep_empty` one whose element is null (LEFT JOIN). With a `condition` only the
/// elements count for which it is true.
#[derive(Clone, Debug)]
pub struct Unnest {
    pub column: usize,
    pub ordinality: bool,
    pub keep_empty: bool,
    /// Whether `column` is a MULTISET: a MAP from value to count.
    pub is_multiset: bool,
    /// Over the columns of an element, without its number.
    pub condition: Option<Expr>,
}

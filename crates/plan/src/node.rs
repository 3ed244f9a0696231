//! The nodes of a plan and what is known of each.

use std::fmt;

use arrow::datatypes::{SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use thalweg_core::{ScanField, Span, TableDefinition};

use crate::{
    AggregateCall, Deduplicate, Expr, IntervalJoin, Join, LookupJoin, Over, SessionWindow, SetOperation, TemporalJoin,
    TemporalSort, TopN, Unnest, Window, WindowJoin, WindowTopN,
};

/// The stable name of an operator within its job, under which its state is stored: a hash of what it does and of what feeds
/// it, with a counter where two are alike. An operator keeps its id when other parts of the query change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OperatorId(pub String);

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An edge into a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// Index of the producing node in [`crate::Plan::nodes`]; always smaller than the consumer's own.
    pub node: usize,
    pub exchange: Exchange,
}

/// How rows pass from the lanes of a producer to those of a consumer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Exchange {
    /// Each lane to itself.
    Forward,
    /// By key group of these columns of the producer.
    Hash(Vec<usize>),
    /// All rows to lane 0.
    Single,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub id: OperatorId,
    pub kind: NodeKind,
    pub inputs: Vec<Input>,
    pub schema: SchemaRef,
    pub properties: Properties,
    /// The clause that made this node.
    pub span: Option<Span>,
}

#[allow(clippy::large_enum_variant, reason = "a plan has few nodes, and sources are the ones that are looked at")]
#[derive(Clone, Debug)]
pub enum NodeKind {
    Source(SourceNode),
    Project(Project),
    Filter(Filter),
    ProcessingTime(ProcessingTime),
    AssignWindow(AssignWindow),
    WindowAggregate(WindowAggregate),
    Session(Session),
    GroupAggregate(GroupAggregate),
    Join(Join),
    IntervalJoin(IntervalJoin),
    WindowJoin(WindowJoin),
    TemporalJoin(TemporalJoin),
    LookupJoin(LookupJoin),
    TopN(TopN),
    WindowTopN(WindowTopN),
    Deduplicate(Deduplicate),
    Over(Over),
    TemporalSort(TemporalSort),
    SetOperation(SetOperation),
    Unnest(Unnest),
    Normalize(Normalize),
    SinkMaterialize(SinkMaterialize),
    /// Rows of all inputs, in no fixed order between them. Inputs have equal column types.
    Union,
    /// Rows that stand in the query itself (`VALUES`). Emitted once by lane 0, then the input ends.
    Values(arrow::array::RecordBatch),
    Sink(SinkNode),
}

/// Reads a table and makes its watermarks.
///
/// Output schema: `project` over the decoded `fields`.
#[derive(Clone, Debug)]
pub struct SourceNode {
    pub table: TableDefinition,
    /// What the connector decodes: only the columns that the query and the watermark need.
    pub fields: Vec<ScanField>,
    /// The columns that leave the source (computed ones included), over `fields`.
    pub project: Vec<Expr>,
    /// Absent when the table has no `WATERMARK`: the stream then has no event time.
    pub watermark: Option<Watermark>,
}

/// How a source's watermark follows its rows. Runs on each row, in partition order, before any filter.
#[derive(Clone, Debug)]
pub struct Watermark {
    /// The declared time column, over the source's output (`project`). A null in it fails the job.
    pub time_column: usize,
    /// The watermark expression over the source's output; null is ignored, only an increase is kept.
    pub expr: Expr,
    /// `scan.watermark.idle-timeout` or `table.exec.source.idle-timeout`; `None` is never.
    pub idle_timeout_ms: Option<i64>,
    /// Whether all rows carry the watermark that the rows before them made, also where none of a batch is late: a row on time may
    /// take back an older one, whose window may have closed.
    pub stamps_rows: bool,
}

#[derive(Clone, Debug)]
pub struct Project {
    pub exprs: Vec<Expr>,
}

#[derive(Clone, Debug)]
pub struct Filter {
    /// BOOLEAN; rows where it is not true are dropped.
    pub predicate: Expr,
}

/// Gives rows the clock's time, and the stream a watermark that follows the clock: what stands behind is as for event time.
///
/// Output: the input's columns, in `column` the moment at which the row came by. In order, never late, append-only.
#[derive(Clone, Debug)]
pub struct ProcessingTime {
    /// A TIMESTAMP_LTZ(3), not null.
    pub column: usize,
}

/// A window TVF without an aggregate: each row once for each of its windows.
///
/// Output: the input's columns, then `window_start`, `window_end`: TIMESTAMP(3), `window_time`: the type of the time column.
/// Windows of one row come latest start first (HOP) or shortest first (CUMULATE), as in Flink. Never late, keeps no state.
#[derive(Clone, Debug)]
pub struct AssignWindow {
    pub window: Window,
    /// Column of the input; not null.
    pub time_column: usize,
}

/// A window TVF grouped by its window columns and further keys.
///
/// Output: `keys` columns, one column per aggregate, then those of `window_start`, `window_end`, `window_time`
/// (window_start, window_end: TIMESTAMP(3); window_time: the type of the time column), once, when the watermark reaches
/// `window_end - 1 ms`. Append-only.
#[derive(Clone, Debug)]
pub struct WindowAggregate {
    pub window: Window,
    pub time_column: usize,
    pub keys: Vec<usize>,
    pub aggregates: Vec<AggregateCall>,
}

/// A SESSION window, with an aggregate or without.
///
/// Output with aggregates: `keys` columns, one column per aggregate; without: the input's columns. Then `window_start`,
/// `window_end`, `window_time`, as for [`WindowAggregate`]. Rows come when the watermark reaches `window_end - 1 ms`.
/// Append-only, over updating input too. The input comes by hash of `keys`, or to one lane when there are none.
#[derive(Clone, Debug)]
pub struct Session {
    pub window: SessionWindow,
    pub time_column: usize,
    /// The columns of PARTITION BY: each combination has sessions of its own.
    pub keys: Vec<usize>,
    /// `None` for the rows themselves.
    pub aggregates: Option<Vec<AggregateCall>>,
    /// Whether input rows may be taken back; not with aggregates. If not, less is kept.
    pub input_updating: bool,
}

/// A grouping that no window ends: results change as rows come.
///
/// Output: `keys` columns, then one column per aggregate. For each input row, in order, that changes its group's result: the
/// old result with weight -1, then the new one with weight +1; a new group gives only the latter, one whose last row is taken
/// back only the former. Without keys all rows are one group; over no rows nothing comes out. Without aggregates it is
/// `SELECT DISTINCT`.
#[derive(Clone, Debug)]
pub struct GroupAggregate {
    pub keys: Vec<usize>,
    pub aggregates: Vec<AggregateCall>,
    /// Whether input rows may be taken back. If not, less is kept.
    pub input_updating: bool,
    /// The column of the input, one of `keys`, that holds the last instant of a row's window (`window_time`). If there is one,
    /// each group is sent once, when the watermark reaches that instant, and dropped: the output is append-only. Rows of windows
    /// that have closed are late: dropped and counted.
    pub window_time: Option<usize>,
}

/// Makes weights of upserts: of an input row with weight +1 the columns are the newest row of its key, of one with weight -1
/// only `keys` count and the key's row goes.
///
/// Output: the input's columns; the old row with weight -1, the new one with +1. A row equal to the old one gives nothing, nor
/// does the deletion of a key that is not there. The input comes by hash of `keys`, in the order of its partition.
#[derive(Clone, Debug)]
pub struct Normalize {
    pub keys: Vec<usize>,
}

/// Reduces a changelog to one row for each primary key of a sink, where the query's own key is another.
///
/// Output: the input's columns; of the rows of a key that are there, the one that `conflict` says.
#[derive(Clone, Debug)]
pub struct SinkMaterialize {
    /// The columns of the sink's PRIMARY KEY.
    pub keys: Vec<usize>,
    pub conflict: Conflict,
}

/// `ON CONFLICT DO …`: what happens to several rows with one primary key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Conflict {
    /// The row that came last wins.
    Deduplicate,
    /// The row that came first wins.
    Nothing,
    /// The job fails.
    Error,
}

#[derive(Clone, Debug)]
pub struct SinkNode {
    /// Stable name of the sink within the job: the table's name, with a counter when it is written twice.
    pub sink_id: String,
    pub target: SinkTarget,
}

#[derive(Clone, Debug)]
pub enum SinkTarget {
    Table(Box<TableDefinition>),
    /// The rows of a `SELECT`, for the terminal.
    Result,
}

/// What the planner knows of the stream that leaves a node. EXPLAIN prints it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Properties {
    /// Whether rows are taken back. An append-only stream has only rows of weight +1.
    pub updating: bool,
    /// Columns that name a row while it exists; `None` when nothing is known.
    pub upsert_key: Option<Vec<usize>>,
    /// The time attributes among the columns.
    pub time_attributes: Vec<TimeAttribute>,
    pub window: Option<WindowColumns>,
    pub state: StateLifetime,
    /// Whether the stream ends by itself.
    pub bounded: bool,
}

/// A column that may drive windows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeAttribute {
    pub column: usize,
    pub kind: TimeKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeKind {
    /// Event time: the stream's watermark speaks of this column.
    Event,
    /// Processing time.
    Processing,
}

/// Where the three columns of a window are, if they are still there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WindowColumns {
    pub start: Option<usize>,
    pub end: Option<usize>,
    pub time: Option<usize>,
}

/// How long a node keeps what it keeps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum StateLifetime {
    /// Keeps nothing.
    #[default]
    Stateless,
    /// Dropped when the watermark passes the window: at most this long behind the newest row, in event time.
    UntilWatermark { ms: i64 },
    /// Dropped this long after the last change (`table.exec.state.ttl`).
    TimeToLive { ms: i64 },
    /// Never dropped.
    Forever,
}

impl Node {
    /// The unit of the timestamps in column `column`.
    ///
    /// # Panics
    /// If it is not a timestamp: the planner has checked.
    pub fn time_unit(&self, column: usize) -> TimeUnit {
        match self.schema.field(column).data_type() {
            arrow::datatypes::DataType::Timestamp(unit, _) => *unit,
            other => panic!("time column {column} of {} is {other}", self.id),
        }
    }
}

//! The joins.
//!
//! All of them give the left columns, then the right ones (nullable on a side that may be missing); SEMI and ANTI the left ones.

use thalweg_core::{ScanField, TableDefinition};

use crate::{Expr, StateLifetime};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    /// Left rows that have a match.
    Semi,
    /// Left rows that have none.
    Anti,
}

impl JoinKind {
    pub fn name(self) -> &'static str {
        match self {
            JoinKind::Inner => "INNER",
            JoinKind::Left => "LEFT",
            JoinKind::Right => "RIGHT",
            JoinKind::Full => "FULL",
            JoinKind::Semi => "SEMI",
            JoinKind::Anti => "ANTI",
        }
    }

    /// Whether left rows without a match come out, with nulls on the right.
    pub fn keeps_left(self) -> bool {
        matches!(self, JoinKind::Left | JoinKind::Full)
    }

    pub fn keeps_right(self) -> bool {
        matches!(self, JoinKind::Right | JoinKind::Full)
    }

    /// Whether the right columns come out.
    pub fn has_right_columns(self) -> bool {
        !matches!(self, JoinKind::Semi | JoinKind::Anti)
    }
}

/// A pair of columns of one type that must be equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct JoinKey {
    pub left: usize,
    pub right: usize,
    /// `IS NOT DISTINCT FROM`: two nulls match. For `=` a null matches nothing.
    pub nulls_match: bool,
}

/// A join that keeps both of its inputs. Each input row meets all rows of the other side that are there.
///
/// Inputs: left, right; by hash of the keys, or to one lane when there are none. The output is updating if an input is, and for
/// outer and ANTI joins. A SEMI join of inputs that are not is append-only: a left row comes out once, when it has its first match.
#[derive(Clone, Debug)]
pub struct Join {
    pub kind: JoinKind,
    pub keys: Vec<JoinKey>,
    /// What else must be true of a pair: BOOLEAN over the left columns, then the right ones.
    pub condition: Option<Expr>,
    /// `NOT IN`: an ANTI join in which a null on either side makes the comparison unknown, so that the left row does not come
    /// out. Has one key, whose inputs come to one lane.
    pub null_aware: bool,
    pub left_updating: bool,
    pub right_updating: bool,
    /// How long the rows of the left and of the right input are kept, where a hint says so; else as the node's state.
    pub time_to_live: [Option<StateLifetime>; 2],
}

/// A join of append-only inputs whose times are near each other: `lower_ms <= left_time - right_time <= upper_ms`.
///
/// INNER, LEFT, RIGHT or FULL. Append-only; rows without a match come when the watermark says that none can come any more. State
/// is dropped by the watermark. Both time columns stay time attributes.
#[derive(Clone, Debug)]
pub struct IntervalJoin {
    pub kind: JoinKind,
    pub keys: Vec<JoinKey>,
    pub left_time: usize,
    pub right_time: usize,
    pub lower_ms: i64,
    pub upper_ms: i64,
    pub condition: Option<Expr>,
    /// Whether all rows carry the watermark behind which they came, as those of a [`Watermark`](crate::Watermark) that stamps
    /// them: of two rows that match the greater one's. It is no part of a node's identity.
    pub stamps_rows: bool,
}

/// A join of rows of the same window: all pairs come when the watermark reaches `window_end - 1 ms`. Append-only; rows of windows
/// that have closed are late.
#[derive(Clone, Debug)]
pub struct WindowJoin {
    pub kind: JoinKind,
    /// Without the bounds of the window.
    pub keys: Vec<JoinKey>,
    pub left_window: WindowBounds,
    pub right_window: WindowBounds,
    pub condition: Option<Expr>,
}

/// Where the bounds of a row's window are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WindowBounds {
    pub start: usize,
    pub end: usize,
    /// The last instant of the window: a time attribute.
    pub time: usize,
}

/// `FOR SYSTEM_TIME AS OF left_time`: each left row with the version of the right row of its key that was valid then.
///
/// INNER or LEFT. The left input is append-only; the right one is a changelog of rows by key, each valid from its `right_time`.
/// A left row waits until the watermarks of both inputs have reached its time. Append-only. Versions that no left row can ask for
/// any more are dropped.
#[derive(Clone, Debug)]
pub struct TemporalJoin {
    pub kind: JoinKind,
    /// The right columns are the primary key of the right input.
    pub keys: Vec<JoinKey>,
    pub left_time: usize,
    pub right_time: usize,
    pub condition: Option<Expr>,
    /// Whether all rows carry a watermark: that which the left row came behind, but not less than the one before it was let out.
    /// It is no part of a node's identity.
    pub stamps_rows: bool,
}

/// Each left row with the rows that a table outside holds for its key when the row comes by. INNER or LEFT. Keeps no state.
#[derive(Clone, Debug)]
pub struct LookupJoin {
    pub kind: JoinKind,
    pub table: TableDefinition,
    /// The columns of the table that are read: the right columns.
    pub fields: Vec<ScanField>,
    pub keys: Vec<JoinKey>,
    pub condition: Option<Expr>,
}

//! The rows of one partition in their order.

use thalweg_core::Batch;
use thalweg_plan::{RankFunction, RankRange};

use crate::arrangement::RowId;
use crate::changes::Changes;
use crate::sort_order::Place;

/// What is wanted of every partition.
pub(crate) struct Ranking {
    pub(crate) function: RankFunction,
    pub(crate) range: RankRange,
    pub(crate) with_rank: bool,
    /// Whether a change of the only row wanted is an update, as over append-only input.
    pub(crate) updates_first: bool,
}

impl Ranking {
    /// How many rows of a partition can ever be wanted, where that is known: ties have ranks of their own.
    pub(crate) fn rows_kept(&self) -> Option<usize> {
        let end = self.range.end.filter(|_| self.function == RankFunction::RowNumber)?;
        usize::try_from(end).ok()
    }

    fn start(&self) -> usize {
        usize::try_from(self.range.start.max(1)).unwrap_or(usize::MAX)
    }

    fn end(&self) -> usize {
        self.range.end.and_then(|end| usize::try_from(end).ok()).unwrap_or(usize::MAX)
    }
}

/// Output rows on their way: which row, at which rank.
#[derive(Default)]
pub(crate) struct Ranked {
    pub(crate) ids: Vec<RowId>,
    pub(crate) ranks: Vec<i64>,
    pub(crate) changes: Changes,
}

impl Ranked {
    /// Rows that change because rows of `input` come.
    pub(crate) fn caused_by(input: &Batch) -> Self {
        Ranked { changes: Changes::caused_by(input), ..Ranked::default() }
    }

    pub(crate) fn push(&mut self, id: RowId, rank: usize, weight: i64, mark: bool) {
        self.ids.push(id);
        self.ranks.push(rank as i64);
        self.changes.push(weight, mark);
    }
}

/// Rows by place, then by id.
#[derive(Default)]
pub(crate) struct Partition {
    rows: Vec<(Place, RowId)>,
    place_bytes: usize,
}

impl Partition {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<(Place, RowId)>() + self.place_bytes + 64
    }

    /// Whether a new row at `place` is among the first `limit`.
    pub(crate) fn may_enter(&self, place: &[u8], limit: usize) -> bool {
        match limit.checked_sub(1).and_then(|last| self.rows.get(last)) {
            Some((last, _)) => place < &**last,
            None => limit > 0,
        }
    }

    fn position(&self, place: &[u8], id: RowId) -> usize {
        self.rows.partition_point(|(other, other_id)| (&**other, *other_id) < (place, id))
    }

    /// Adds a row without a word; returns its position.
    pub(crate) fn add(&mut self, place: &[u8], id: RowId) -> usize {
        let position = self.position(place, id);
        self.place_bytes += place.len();
        self.rows.insert(position, (place.into(), id));
        position
    }

    pub(crate) fn insert(&mut self, ranking: &Ranking, place: &[u8], id: RowId, out: &mut Ranked) {
        if ranking.function != RankFunction::RowNumber {
            let before = self.ranks(ranking);
            self.add(place, id);
            self.differ(&before, ranking, out);
            return;
        }
        let (start, end) = (ranking.start(), ranking.end());
        let at = self.add(place, id) + 1;
        let last_before = self.rows.len() - 1;
        if at > end || start > end {
            return;
        }
        if ranking.with_rank {
            for rank in at.max(start)..=self.rows.len().min(end) {
                // The row that had this rank is the one behind it now.
                if rank <= last_before {
                    out.push(self.rows[rank].1, rank, -1, true);
                    out.push(self.rows[rank - 1].1, rank, 1, true);
                } else {
                    out.push(self.rows[rank - 1].1, rank, 1, false);
                }
            }
            return;
        }
        let entering = at.max(start);
        if entering > self.rows.len() {
            return;
        }
        let is_update = ranking.updates_first && start == 1 && end == 1 && last_before > 0;
        if last_before >= end {
            out.push(self.rows[end].1, end, -1, is_update);
        }
        out.push(self.rows[entering - 1].1, entering, 1, is_update);
    }

    pub(crate) fn remove(&mut self, ranking: &Ranking, place: &[u8], id: RowId, out: &mut Ranked) {
        let position = self.position(place, id);
        if self.rows.get(position).is_none_or(|(_, other)| *other != id) {
            return;
        }
        if ranking.function != RankFunction::RowNumber {
            let before = self.ranks(ranking);
            self.take_out(position);
            self.differ(&before, ranking, out);
            return;
        }
        let (start, end) = (ranking.start(), ranking.end());
        let at = position + 1;
        let last_before = self.rows.len();
        let leaving = at.max(start);
        let leaving_id = self.rows.get(leaving - 1).map(|(_, id)| *id);
        self.take_out(position);
        if at > end || start > end {
            return;
        }
        if ranking.with_rank {
            for rank in leaving..=last_before.min(end) {
                // The row that had this rank is the one before it now, or the one that went.
                let old = if rank == at { id } else { self.rows[rank - 2].1 };
                match self.rows.get(rank - 1) {
                    Some((_, new)) => {
                        out.push(old, rank, -1, true);
                        out.push(*new, rank, 1, true);
                    }
                    None => out.push(old, rank, -1, false),
                }
            }
            return;
        }
        let Some(leaving_id) = leaving_id else {
            return;
        };
        out.push(leaving_id, leaving, -1, false);
        if let Some((_, entering)) = end.checked_sub(1).and_then(|last| self.rows.get(last)) {
            out.push(*entering, end, 1, false);
        }
    }

    fn take_out(&mut self, position: usize) {
        let (place, _) = self.rows.remove(position);
        self.place_bytes -= place.len();
    }

    /// Drops the rows behind the range; tells which.
    pub(crate) fn cut(&mut self, ranking: &Ranking, mut gone: impl FnMut(RowId)) {
        let keep = match ranking.rows_kept() {
            Some(keep) => keep,
            None if ranking.range.end.is_some() => self.ranks(ranking).through_last,
            None => return,
        };
        while self.rows.len() > keep {
            gone(self.rows[self.rows.len() - 1].1);
            self.take_out(self.rows.len() - 1);
        }
    }

    /// The rows in range with their ranks.
    fn ranks(&self, ranking: &Ranking) -> RankedRows {
        let (start, end) = (ranking.start(), ranking.end());
        let mut ranks = RankedRows { rows: vec![], through_last: 0 };
        let (mut gapped, mut dense) = (0, 0);
        for (position, (place, id)) in self.rows.iter().enumerate() {
            if position == 0 || self.rows[position - 1].0 != *place {
                gapped = position + 1;
                dense += 1;
            }
            let rank = match ranking.function {
                RankFunction::RowNumber => position + 1,
                RankFunction::Rank => gapped,
                RankFunction::DenseRank => dense,
            };
            if rank > end {
                break;
            }
            ranks.through_last = position + 1;
            if rank >= start {
                ranks.rows.push((*id, if ranking.with_rank { rank } else { 0 }));
            }
        }
        ranks
    }

    /// Takes back what was in `before` and is not there now, and gives what is new.
    fn differ(&self, before: &RankedRows, ranking: &Ranking, out: &mut Ranked) {
        let after = self.ranks(ranking);
        for (id, rank) in missing(&after.rows, &before.rows) {
            out.push(id, rank, -1, false);
        }
        for (id, rank) in missing(&before.rows, &after.rows) {
            out.push(id, rank, 1, false);
        }
    }

    /// The rows in range and their ranks, in order.
    pub(crate) fn in_range(&self, ranking: &Ranking) -> Vec<(RowId, usize)> {
        self.ranks(ranking).rows
    }
}

struct RankedRows {
    rows: Vec<(RowId, usize)>,
    /// Rows from the first of the partition to the last in range.
    through_last: usize,
}

/// What of `wanted` is not in `rows`, both with duplicates.
fn missing(rows: &[(RowId, usize)], wanted: &[(RowId, usize)]) -> Vec<(RowId, usize)> {
    let mut rest = rows.to_vec();
    rest.sort_unstable();
    let mut found = vec![];
    for row in wanted {
        match rest.binary_search(row) {
            Ok(position) => {
                rest.remove(position);
            }
            Err(_) => found.push(*row),
        }
    }
    found
}

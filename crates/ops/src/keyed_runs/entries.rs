//! What is kept of each row beside its columns: all that may change while the row stays where it is.

use super::position_set::PositionSet;

/// The time of a row that was touched since the operator was last told the time.
pub(super) const UNTIMED: i64 = i64::MAX;

/// The matches of a row whose matches were not counted when it was stored.
pub(super) const UNCOUNTED: i64 = -1;

/// Which of the optional figures are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryKind {
    pub(super) counts_matches: bool,
    pub(super) is_timed: bool,
}

/// The figures of the rows of a run or of the delta, by position.
pub(super) struct Entries {
    kind: EntryKind,
    len: usize,
    /// How many have a weight above 0.
    live: usize,
    /// How often each row is there; 0 says that it is gone. `None` while all are 1.
    weights: Option<Vec<i64>>,
    /// How many rows of the other side each row matches. Empty if they are not counted.
    matches: Vec<i64>,
    /// When each row was last written, ms. Empty without a time to live.
    touched: Vec<i64>,
    has_untimed: bool,
    /// Rows that were changed, not added, since the last snapshot.
    pub(super) dirty: PositionSet,
}

impl Entries {
    pub(super) fn new(kind: EntryKind) -> Self {
        Entries {
            kind,
            len: 0,
            live: 0,
            weights: None,
            matches: vec![],
            touched: vec![],
            has_untimed: false,
            dirty: PositionSet::default(),
        }
    }

    /// Adds a row. `matches` and `touched` count only where they are kept.
    pub(super) fn push(&mut self, weight: i64, matches: i64, touched: i64) {
        if weight != 1 && self.weights.is_none() {
            self.weights = Some(vec![1; self.len]);
        }
        if let Some(weights) = &mut self.weights {
            weights.push(weight);
        }
        if self.kind.counts_matches {
            self.matches.push(matches);
        }
        if self.kind.is_timed {
            self.touched.push(touched);
            self.has_untimed |= touched == UNTIMED;
        }
        self.live += usize::from(weight > 0);
        self.len += 1;
    }

    /// Adds a row that is at `position` of `other`.
    pub(super) fn push_from(&mut self, other: &Entries, position: usize) {
        self.push(other.weight(position), other.matches(position), other.touched(position));
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn weight(&self, position: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights[position])
    }

    pub(super) fn is_live(&self, position: usize) -> bool {
        self.weight(position) > 0
    }

    pub(super) fn set_weight(&mut self, position: usize, weight: i64) {
        let weights = self.weights.get_or_insert_with(|| vec![1; self.len]);
        let before = std::mem::replace(&mut weights[position], weight);
        self.live = self.live + usize::from(weight > 0) - usize::from(before > 0);
        self.touch(position);
    }

    /// 0 if matches are not counted.
    pub(super) fn matches(&self, position: usize) -> i64 {
        self.matches.get(position).copied().unwrap_or(0)
    }

    pub(super) fn set_matches(&mut self, position: usize, matches: i64) {
        if self.matches[position] != matches {
            self.matches[position] = matches;
            self.touch(position);
        }
    }

    pub(super) fn touched(&self, position: usize) -> i64 {
        self.touched.get(position).copied().unwrap_or(UNTIMED)
    }

    /// The times of the rows written first and last; `None` without rows or without times.
    pub(super) fn touched_range(&self) -> Option<(i64, i64)> {
        let times = || self.touched.iter().copied();
        Some((times().min()?, times().max()?))
    }

    /// Gives `now_ms` to the rows touched since this was last called.
    pub(super) fn set_time(&mut self, now_ms: i64) {
        if std::mem::take(&mut self.has_untimed) {
            self.touched.iter_mut().filter(|touched| **touched == UNTIMED).for_each(|touched| *touched = now_ms);
        }
    }

    /// Sets what was stored of a row.
    pub(super) fn restore(&mut self, position: usize, weight: i64, matches: i64, touched: i64) {
        self.set_weight(position, weight);
        if self.kind.counts_matches {
            self.matches[position] = matches;
        }
        if self.kind.is_timed {
            self.touched[position] = touched;
        }
        self.dirty.clear();
    }

    pub(super) fn size_bytes(&self) -> usize {
        let weights = self.weights.as_ref().map_or(0, Vec::capacity);
        (weights + self.matches.capacity() + self.touched.capacity()) * size_of::<i64>() + self.dirty.size_bytes()
    }

    fn touch(&mut self, position: usize) {
        self.dirty.insert(position);
        if self.kind.is_timed {
            self.touched[position] = UNTIMED;
            self.has_untimed = true;
        }
    }
}

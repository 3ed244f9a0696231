//! The open sessions of one lane.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::{ArrayRef, BooleanArray};
use thalweg_core::{Batch, EventTime, KeyGroup, Result};

use super::layout::SessionLayout;
use crate::eval::value_text;
use crate::event_times::event_times;
use crate::local_time::LocalTime;
use crate::{GroupAccumulator, GroupKeys};

/// Sessions that are gone are kept until they are this many more than the open ones.
const DEAD_SESSIONS_MAX: usize = 64;

/// Where a session is in the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) slot: i64,
    /// Names the session within its slot.
    pub(super) number: i64,
    pub(super) key_group: KeyGroup,
}

/// A session, in local milliseconds; its number in the table is its group in the accumulators.
#[derive(Clone, Debug)]
pub(super) struct OpenSession {
    pub(super) key: usize,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) rows: i64,
    /// False when it was sent or became part of another.
    pub(super) is_live: bool,
    pub(super) is_dirty: bool,
    pub(super) stored: Option<Stored>,
}

/// What a batch did.
pub(super) struct Outcome {
    pub(super) late_rows: u64,
    /// Stored sessions that became part of others.
    pub(super) buried: Vec<Stored>,
}

pub(super) struct SessionTable {
    gap_ms: i64,
    local_time: LocalTime,
    keys: GroupKeys,
    /// The live sessions of each key, oldest first: mostly one.
    of_key: Vec<Vec<usize>>,
    pub(super) sessions: Vec<OpenSession>,
    accumulators: Vec<Box<dyn GroupAccumulator>>,
    /// Sessions with something in the accumulators: those before this one.
    accumulated: usize,
    live: usize,
    /// An end of each live session, at or before its true one.
    ends: BinaryHeap<Reverse<(i64, usize)>>,
}

impl SessionTable {
    pub(super) fn new(layout: &SessionLayout) -> Result<Self> {
        Ok(SessionTable {
            gap_ms: layout.window.gap_ms,
            local_time: LocalTime::new(&layout.window.zone)?,
            keys: GroupKeys::new(&layout.key_fields)?,
            of_key: vec![],
            sessions: vec![],
            accumulators: layout.accumulators()?,
            accumulated: 0,
            live: 0,
            ends: BinaryHeap::new(),
        })
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn last_instant_before(&self, end: i64) -> i64 {
        self.local_time.last_instant_before(end)
    }

    /// Takes in rows. `watermark` is the operator's.
    pub(super) fn add(&mut self, layout: &SessionLayout, batch: Batch, watermark: i64) -> Result<Outcome> {
        let times = event_times(batch.column(layout.time_column), &layout.time_name)?;
        let columns: Vec<ArrayRef> = layout.keys.iter().map(|key| batch.column(*key).clone()).collect();
        let mut key_of_row = vec![];
        self.keys.intern(&columns, batch.num_rows(), &mut key_of_row)?;
        self.of_key.resize(self.keys.len(), vec![]);

        // Rows one by one, in order: each is judged by the watermark before it and merges with what is open at that moment.
        let mut merges: Vec<(usize, usize)> = vec![];
        let mut session_of_row: Vec<Option<usize>> = Vec::with_capacity(batch.num_rows());
        for (row, key) in key_of_row.into_iter().enumerate() {
            let own = batch.row_watermarks.as_ref().map_or(i64::MIN, |watermarks| watermarks.value(row));
            let time = self.local_time.local(times.value(row));
            session_of_row.push(self.place(key, time, own.max(watermark), &mut merges));
        }

        let root = roots(&merges);
        let sessions: Vec<usize> = session_of_row.iter().flatten().map(|session| root(*session)).collect();
        let late_rows = batch.num_rows() - sessions.len();
        let batch = match late_rows {
            0 => batch,
            _ => batch.filter(&BooleanArray::from_iter(session_of_row.iter().map(|session| Some(session.is_some()))))?,
        };
        let (total, accumulated) = (self.sessions.len(), self.accumulated);
        let (from, into): (Vec<usize>, Vec<usize>) =
            merges.iter().filter(|(from, _)| *from < accumulated).map(|(from, _)| (*from, root(*from))).unzip();
        if !from.is_empty() {
            for accumulator in &mut self.accumulators {
                let states = accumulator.state(Some(&from))?;
                accumulator.merge(&states, &into, total)?;
            }
        }
        if !sessions.is_empty() {
            layout.update(&mut self.accumulators, &batch, &sessions, total)?;
            self.accumulated = total;
        }
        let buried = merges.iter().filter_map(|(from, _)| self.sessions[*from].stored.take()).collect();
        Ok(Outcome { late_rows: late_rows as u64, buried })
    }

    /// The session of a row, or `None` when it is late. Sessions that become one are added to `merges`.
    fn place(&mut self, key: usize, time: i64, watermark: i64, merges: &mut Vec<(usize, usize)>) -> Option<usize> {
        let (mut start, mut end) = (time, time.saturating_add(self.gap_ms));
        let touched: Vec<usize> = self.of_key[key]
            .iter()
            .copied()
            .filter(|session| {
                let session = &self.sessions[*session];
                session.start <= end && time <= session.end && self.is_open(session.end, watermark)
            })
            .collect();
        let Some((first, others)) = touched.split_first() else {
            if !self.is_open(end, watermark) {
                return None;
            }
            let session = OpenSession { key, start, end, rows: 1, is_live: true, is_dirty: true, stored: None };
            return Some(self.push(session));
        };
        let mut rows = 1;
        for other in touched.iter() {
            let session = &self.sessions[*other];
            (start, end) = (start.min(session.start), end.max(session.end));
            rows += session.rows;
        }
        for other in others {
            self.sessions[*other].is_live = false;
            self.live -= 1;
            merges.push((*other, *first));
        }
        if !others.is_empty() {
            let sessions = &self.sessions;
            self.of_key[key].retain(|session| sessions[*session].is_live);
        }
        let session = &mut self.sessions[*first];
        (session.start, session.end, session.rows, session.is_dirty) = (start, end, rows, true);
        Some(*first)
    }

    fn is_open(&self, end: i64, watermark: i64) -> bool {
        watermark == i64::MIN || self.local_time.last_instant_before(end) > watermark
    }

    fn push(&mut self, session: OpenSession) -> usize {
        let number = self.sessions.len();
        self.of_key[session.key].push(number);
        self.ends.push(Reverse((session.end, number)));
        self.sessions.push(session);
        self.live += 1;
        number
    }

    /// The sessions whose last instant `watermark` has reached, in order of end, start and first arrival.
    pub(super) fn closed_by(&mut self, watermark: i64) -> Vec<usize> {
        let mut closed = vec![];
        while let Some(Reverse((end, number))) = self.ends.peek().copied()
            && self.local_time.last_instant_before(end) <= watermark
        {
            self.ends.pop();
            match &self.sessions[number] {
                session if !session.is_live => {}
                // It grew since.
                session if session.end > end => self.ends.push(Reverse((session.end, number))),
                _ => closed.push(number),
            }
        }
        closed.sort_unstable_by_key(|number| (self.sessions[*number].end, self.sessions[*number].start, *number));
        closed
    }

    /// Forgets sessions that were sent; returns those that are stored.
    pub(super) fn remove(&mut self, layout: &SessionLayout, closed: &[usize]) -> Result<Vec<Stored>> {
        for number in closed {
            let session = &mut self.sessions[*number];
            session.is_live = false;
            let key = session.key;
            self.of_key[key].retain(|other| other != number);
        }
        self.live -= closed.len();
        let buried = closed.iter().filter_map(|number| self.sessions[*number].stored.take()).collect();
        // Late rows leave keys without sessions behind.
        let held = self.sessions.len().max(self.keys.len());
        if held > 2 * self.live + DEAD_SESSIONS_MAX || (held > 0 && self.live == 0) {
            self.compact(layout)?;
        }
        Ok(buried)
    }

    /// Leaves out keys and sessions that are gone. Each costs its share once, as many are gone by then.
    fn compact(&mut self, layout: &SessionLayout) -> Result<()> {
        let live: Vec<usize> = (0..self.sessions.len()).filter(|number| self.sessions[*number].is_live).collect();
        let mut compacted = SessionTable::new(layout)?;
        if !live.is_empty() {
            let states = self.states_of(&live)?;
            let sessions = live.iter().map(|number| self.sessions[*number].clone()).collect();
            compacted.load(layout, self.keys_of(&live)?, sessions, &states)?;
        }
        *self = compacted;
        Ok(())
    }

    /// Adds sessions with their keys and states.
    pub(super) fn load(
        &mut self,
        layout: &SessionLayout,
        keys: Vec<ArrayRef>,
        sessions: Vec<OpenSession>,
        states: &[ArrayRef],
    ) -> Result<()> {
        let mut key_of_session = vec![];
        self.keys.intern(&keys, sessions.len(), &mut key_of_session)?;
        self.of_key.resize(self.keys.len(), vec![]);
        let numbers: Vec<usize> =
            sessions.into_iter().zip(key_of_session).map(|(session, key)| self.push(OpenSession { key, ..session })).collect();
        let total = self.sessions.len();
        let mut states = states;
        for (accumulator, width) in self.accumulators.iter_mut().zip(&layout.state_widths) {
            let (own, rest) = states.split_at(*width);
            accumulator.merge(own, &numbers, total)?;
            states = rest;
        }
        self.accumulated = total;
        Ok(())
    }

    /// The key columns of sessions.
    pub(super) fn keys_of(&self, sessions: &[usize]) -> Result<Vec<ArrayRef>> {
        self.keys.rows(&sessions.iter().map(|session| self.sessions[*session].key).collect::<Vec<_>>())
    }

    /// Start and end of sessions.
    pub(super) fn bounds_of(&self, sessions: &[usize]) -> Vec<(i64, i64)> {
        sessions.iter().map(|session| (self.sessions[*session].start, self.sessions[*session].end)).collect()
    }

    /// The state columns of sessions.
    pub(super) fn states_of(&self, sessions: &[usize]) -> Result<Vec<ArrayRef>> {
        let states = self.accumulators.iter().map(|accumulator| accumulator.state(Some(sessions))).collect::<Result<Vec<_>>>()?;
        Ok(states.concat())
    }

    /// The results of sessions, a column for each aggregate.
    pub(super) fn results(&self, layout: &SessionLayout, sessions: &[usize]) -> Result<Vec<ArrayRef>> {
        let describe = |number: usize| {
            let window = format!("the session that ends at {}", EventTime(self.sessions[number].end));
            let keys = self.keys_of(&[number]).unwrap_or_default();
            let values: Vec<String> = layout
                .key_fields
                .iter()
                .zip(&keys)
                .map(|(field, column)| format!("{} = {}", field.name(), value_text(column, 0)))
                .collect();
            if values.is_empty() { window } else { format!("{} in {window}", values.join(", ")) }
        };
        self.accumulators.iter().map(|accumulator| accumulator.evaluate(Some(sessions), &describe)).collect()
    }

    pub(super) fn size_bytes(&self) -> usize {
        if self.sessions.is_empty() {
            return 0;
        }
        let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.size_bytes()).sum();
        let session_bytes = size_of::<OpenSession>() + size_of::<(i64, usize)>() + size_of::<usize>();
        self.keys.size_bytes() + accumulators + self.sessions.capacity() * session_bytes
    }
}

/// Where sessions ended up that became part of others, which may have become part of others again.
fn roots(merges: &[(usize, usize)]) -> impl Fn(usize) -> usize + use<> {
    let mut root: hashbrown::HashMap<usize, usize> = hashbrown::HashMap::new();
    // Later merges swallow the results of earlier ones, so from the last to the first.
    for (from, into) in merges.iter().rev() {
        let into = root.get(into).copied().unwrap_or(*into);
        root.insert(*from, into);
    }
    move |session| root.get(&session).copied().unwrap_or(session)
}

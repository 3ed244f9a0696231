//! Sessions in checkpoints.
//!
//! A session is stored in the slot of the time in which it ended when it was first stored, under a number, and stays there
//! however long it gets: so sessions that begin together are mostly dropped together, as a whole slot. A snapshot adds the
//! sessions that changed and, with 0 rows, those that are gone: of a number the last row holds. When a slot has gathered more
//! than twice as many rows as it has sessions it is written whole. A slot without sessions is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Int64Type, UInt16Type};
use hashbrown::HashMap;
use thalweg_core::{Error, Result};
use thalweg_state::{SlotChange, SlotId, StatePart};

use super::layout::{STATE_KEYS_START, SessionLayout};
use super::table::{OpenSession, SessionTable, Stored};
use crate::key_groups;

#[derive(Default)]
struct Slot {
    /// Whether the store has the slot.
    is_stored: bool,
    /// Sessions in it.
    live: usize,
    /// Rows in the store.
    written: usize,
    /// Sessions that are gone since the last snapshot.
    buried: Vec<Stored>,
}

pub(super) struct Slots {
    width_ms: i64,
    slots: BTreeMap<i64, Slot>,
    next_number: i64,
}

impl Slots {
    pub(super) fn new(gap_ms: i64) -> Self {
        Slots { width_ms: gap_ms.max(1), slots: BTreeMap::new(), next_number: 0 }
    }

    /// Notes that stored sessions are gone.
    pub(super) fn bury(&mut self, gone: Vec<Stored>) {
        for stored in gone {
            if let Some(slot) = self.slots.get_mut(&stored.slot) {
                slot.live -= 1;
                slot.buried.push(stored);
            }
        }
    }

    /// Nothing that is stored will be kept.
    pub(super) fn forget_stored(&mut self, table: &mut SessionTable) {
        self.slots.clear();
        self.next_number = 0;
        for session in &mut table.sessions {
            (session.stored, session.is_dirty) = (None, true);
        }
    }

    pub(super) fn snapshot(&mut self, layout: &SessionLayout, table: &mut SessionTable) -> Result<Vec<(SlotId, SlotChange)>> {
        self.settle_new(table)?;
        let mut members: BTreeMap<i64, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (number, session) in table.sessions.iter_mut().enumerate() {
            if let Some(stored) = session.stored.filter(|_| session.is_live) {
                let (all, dirty) = members.entry(stored.slot).or_default();
                all.push(number);
                if std::mem::take(&mut session.is_dirty) {
                    dirty.push(number);
                }
            }
        }
        let mut changes = vec![];
        for (id, slot) in &mut self.slots {
            let (all, dirty) = members.remove(id).unwrap_or_default();
            let buried = std::mem::take(&mut slot.buried);
            let added = dirty.len() + buried.len();
            if all.is_empty() {
                if std::mem::take(&mut slot.is_stored) {
                    changes.push((slot_id(*id), SlotChange::Drop));
                }
            } else if !slot.is_stored || (added > 0 && slot.written + added > 2 * all.len()) {
                slot.written = all.len();
                slot.is_stored = true;
                changes.push((slot_id(*id), SlotChange::Replace(state_batch(layout, table, &all, &[])?)));
            } else if added > 0 {
                slot.written += added;
                changes.push((slot_id(*id), SlotChange::Merge(state_batch(layout, table, &dirty, &buried)?)));
            }
        }
        self.slots.retain(|_, slot| slot.is_stored);
        Ok(changes)
    }

    /// Gives a slot and a number to the sessions that are not stored yet.
    fn settle_new(&mut self, table: &mut SessionTable) -> Result<()> {
        let new: Vec<usize> = (0..table.sessions.len())
            .filter(|number| table.sessions[*number].is_live && table.sessions[*number].stored.is_none())
            .collect();
        let groups = key_groups(&table.keys_of(&new)?, new.len())?;
        for (number, key_group) in new.into_iter().zip(groups) {
            let slot = table.sessions[number].end.div_euclid(self.width_ms);
            table.sessions[number].stored = Some(Stored { slot, number: self.next_number, key_group });
            self.slots.entry(slot).or_default().live += 1;
            self.next_number += 1;
        }
        Ok(())
    }

    /// Takes in a stored slot, written by one lane.
    pub(super) fn restore(&mut self, layout: &SessionLayout, table: &mut SessionTable, part: &StatePart) -> Result<()> {
        let id: i64 = part
            .slot
            .0
            .strip_prefix("sessions/")
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| Error::corrupt(format!("session state has a slot \"{}\"", part.slot)))?;
        for batch in &part.batches {
            layout.check_state(batch)?;
        }
        // Other lanes' slots come too, without a row of ours.
        let Some(first) = part.batches.iter().find(|batch| batch.num_rows() > 0) else {
            return Ok(());
        };
        let rows = concat_batches(first.schema_ref(), &part.batches)?;
        let rows = last_of_each_number(&rows)?;
        let column = |rows: &RecordBatch, at: usize| rows.column(at).as_primitive::<Int64Type>().clone();
        let groups = rows.column(0).as_primitive::<UInt16Type>();
        let [numbers, starts, ends, counts] = [1, 2, 3, 4].map(|at| column(&rows, at));
        let sessions: Vec<OpenSession> = (0..rows.num_rows())
            .map(|row| OpenSession {
                key: 0,
                start: starts.value(row),
                end: ends.value(row),
                rows: counts.value(row),
                is_live: true,
                is_dirty: false,
                stored: Some(Stored { slot: id, number: numbers.value(row), key_group: groups.value(row) }),
            })
            .collect();
        let slot = self.slots.entry(id).or_default();
        slot.is_stored = true;
        slot.live += sessions.len();
        slot.written += part.batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        let highest = numbers.values().iter().copied().max();
        self.next_number = self.next_number.max(highest.map_or(0, |highest| highest + 1));
        if sessions.is_empty() {
            return Ok(());
        }
        let (keys, states) = rows.columns()[STATE_KEYS_START..].split_at(layout.key_fields.len());
        table.load(layout, keys.to_vec(), sessions, states)
    }
}

fn slot_id(id: i64) -> SlotId {
    SlotId(format!("sessions/{id}"))
}

/// The rows of sessions that are there and of sessions that are gone.
fn state_batch(layout: &SessionLayout, table: &SessionTable, sessions: &[usize], gone: &[Stored]) -> Result<RecordBatch> {
    let stored: Vec<Stored> = sessions
        .iter()
        .map(|session| table.sessions[*session].stored.ok_or_else(|| Error::internal("a session has no place in the store")))
        .collect::<Result<_>>()?;
    let number = |pick: &dyn Fn(&OpenSession) -> i64| {
        let values = sessions.iter().map(|session| pick(&table.sessions[*session]));
        Arc::new(Int64Array::from_iter_values(values.chain(gone.iter().map(|_| 0)))) as ArrayRef
    };
    let all = || stored.iter().chain(gone);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt16Array::from_iter_values(all().map(|stored| stored.key_group))),
        Arc::new(Int64Array::from_iter_values(all().map(|stored| stored.number))),
        number(&|session| session.start),
        number(&|session| session.end),
        number(&|session| session.rows),
    ];
    let rest = if sessions.is_empty() {
        let fields = &layout.state_schema.fields()[STATE_KEYS_START..];
        fields.iter().map(|field| new_null_array(field.data_type(), 0)).collect()
    } else {
        [table.keys_of(sessions)?, table.states_of(sessions)?].concat()
    };
    for column in rest {
        columns.push(match gone.len() {
            0 => column,
            nulls => arrow::compute::concat(&[column.as_ref(), new_null_array(column.data_type(), nulls).as_ref()])?,
        });
    }
    Ok(RecordBatch::try_new(layout.state_schema.clone(), columns)?)
}

/// The last row of each number, without those of sessions that are gone.
fn last_of_each_number(rows: &RecordBatch) -> Result<RecordBatch> {
    let column = |at: usize| rows.column(at).as_primitive::<Int64Type>().values();
    let (numbers, counts) = (column(1), column(4));
    let mut last: HashMap<i64, u32> = HashMap::new();
    for (row, number) in (0_u32..).zip(numbers.iter()) {
        last.insert(*number, row);
    }
    let mut chosen: Vec<u32> = last.into_values().filter(|row| counts[*row as usize] > 0).collect();
    chosen.sort_unstable();
    Ok(take_record_batch(rows, &UInt32Array::from(chosen))?)
}

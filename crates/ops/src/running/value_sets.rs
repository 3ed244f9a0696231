//! The distinct values of groups, kept once for all DISTINCT calls over one argument.
//!
//! A value is an entry, found by its group and its bytes; beside it stands how often each call has met it. What a call's function
//! gets to see is a row when a value first comes and one when the last of it goes.
//!
//! State: `value`, then where rows are taken back a count per call, and otherwise one number whose bit `i` says that call `i` has
//! met the value.

mod entries;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field, Int64Type};
use thalweg_core::Result;

use super::items::{ITEM_BYTES, ItemRows, StoredItems};
use super::{CallName, Problem, ValueCodec};
use entries::{Entries, Owner};

/// Fewer entries are not worth a search for those that are gone. Tests have few.
const FEW: usize = if cfg!(test) { 4 } else { 4_096 };

pub(super) struct ValueSets {
    codec: ValueCodec,
    calls: Vec<CallName>,
    /// If rows are never taken back, one count per entry holds a bit for each call.
    updating: bool,
    ignores_unmatched: bool,
    entries: Entries,
    /// By number.
    groups: Vec<GroupValues>,
    /// Entries of groups that are there, with a count.
    live: usize,
    /// Entries that changed since the last snapshot.
    changed: Vec<u32>,
    /// With as many entries we look for those that are gone.
    full: usize,
}

#[derive(Clone, Copy, Default)]
struct GroupValues {
    generation: u32,
    live: usize,
}

/// The rows of a batch, in order.
pub(super) struct ValueRows<'a> {
    pub(super) argument: &'a ArrayRef,
    /// By call, the rows that count; `None`: all.
    pub(super) selections: Vec<Option<NullBuffer>>,
    pub(super) weights: Option<&'a Int64Array>,
    pub(super) groups: &'a [usize],
    pub(super) empties: &'a [bool],
    pub(super) describe: &'a dyn Fn(usize) -> String,
}

/// What a call's function gets to see: the rows of the batch that bring or take away a value.
pub(super) struct ValueSteps {
    pub(super) filter: NullBuffer,
    pub(super) weights: Option<Int64Array>,
}

impl ValueSets {
    /// How many calls can share: their bits are one number.
    pub(super) const CALLS_MAX: usize = 63;

    /// # Errors
    /// `User` for types that cannot be compared.
    pub(super) fn new(argument: &DataType, calls: Vec<CallName>, updating: bool) -> Result<Self> {
        Ok(ValueSets {
            codec: ValueCodec::new(argument)?,
            entries: Entries::new(if updating { calls.len() } else { 1 }),
            calls,
            updating,
            ignores_unmatched: false,
            groups: vec![],
            live: 0,
            changed: vec![],
            full: FEW,
        })
    }

    /// Groups that are new have no values.
    pub(super) fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, GroupValues::default);
    }

    /// From now on a value that is taken back and is not there changes nothing, in place of being an error.
    pub(super) fn ignore_unmatched(&mut self) {
        self.ignores_unmatched = true;
    }

    /// The group has no values.
    pub(super) fn clear(&mut self, group: usize) {
        let values = &mut self.groups[group];
        self.live -= values.live;
        *values = GroupValues { generation: values.generation.wrapping_add(1), live: 0 };
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.entries.size_bytes() + self.groups.capacity() * size_of::<GroupValues>()
    }

    /// Takes in the rows; gives for each call what its function sees of them.
    /// # Errors
    /// `Record` when a value is taken back that was never there.
    pub(super) fn take_in(&mut self, rows: &ValueRows<'_>) -> Result<Vec<ValueSteps>> {
        let values = self.codec.encode(rows.argument)?;
        let count = rows.groups.len();
        // Of each row the calls that it counts for; over rows that are never taken back, soon those that it brings a value.
        let mut masks = vec![0_u64; count];
        for (call, selection) in rows.selections.iter().enumerate() {
            match selection {
                None => masks.iter_mut().for_each(|mask| *mask |= 1 << call),
                Some(selection) => selection.valid_indices().for_each(|row| masks[row] |= 1 << call),
            }
        }
        let mut steps = vec![vec![0_i64; count]; if self.updating { self.calls.len() } else { 0 }];
        for (row, mask) in masks.iter_mut().enumerate().filter(|(row, mask)| **mask != 0 || rows.empties[*row]) {
            let group = rows.groups[row];
            let weight = rows.weights.map_or(1, |weights| weights.value(row));
            let value = values.row(row).data();
            let outcome = match *mask {
                0 => Ok(()),
                _ if self.updating => self.count(group, value, *mask, weight, |call, step| steps[call][row] = step),
                _ if weight < 0 => Err((mask.trailing_zeros() as usize, Problem::NotThere)),
                _ => {
                    *mask = self.meet(group, value, *mask);
                    Ok(())
                }
            };
            outcome.map_err(|(call, problem)| self.calls[call].error(problem, &(rows.describe)(row)))?;
            if rows.empties[row] {
                self.clear(group);
            }
        }
        self.collect_garbage();
        if self.updating {
            let steps = steps.into_iter().map(|steps| ValueSteps {
                filter: NullBuffer::new(BooleanBuffer::collect_bool(count, |row| steps[row] != 0)),
                weights: Some(Int64Array::from(steps)),
            });
            return Ok(steps.collect());
        }
        let steps = (0..self.calls.len()).map(|call| ValueSteps {
            filter: NullBuffer::new(BooleanBuffer::collect_bool(count, |row| masks[row] >> call & 1 == 1)),
            weights: None,
        });
        Ok(steps.collect())
    }

    fn owner(&self, group: usize) -> Owner {
        Owner { group: group as u32, generation: self.groups[group].generation }
    }

    /// Notes a value for the calls of `mask`; gives those that meet it for the first time.
    fn meet(&mut self, group: usize, value: &[u8], mask: u64) -> u64 {
        let number = self.entries.find_or_add(self.owner(group), value);
        let known = &mut self.entries.counts_mut(number)[0];
        let before = *known as u64;
        *known = (before | mask) as i64;
        if mask & !before != 0 {
            self.note_change(number, before != 0);
        }
        mask & !before
    }

    /// Counts a value for the calls of `mask`; tells for which it came (1) or went (-1). Fails for the call that cannot.
    fn count(
        &mut self,
        group: usize,
        value: &[u8],
        mask: u64,
        weight: i64,
        mut tell: impl FnMut(usize, i64),
    ) -> Result<(), (usize, Problem)> {
        let owner = self.owner(group);
        let number = match self.entries.find(owner, value) {
            Some(number) => number,
            None if weight > 0 => self.entries.find_or_add(owner, value),
            None if self.ignores_unmatched => return Ok(()),
            None => return Err((mask.trailing_zeros() as usize, Problem::NotThere)),
        };
        let was_there = self.entries.is_counted(number);
        let counts = self.entries.counts_mut(number).iter_mut().enumerate();
        for (call, count) in counts.filter(|(call, _)| mask >> call & 1 == 1) {
            let after = count.checked_add(weight).ok_or((call, Problem::Overflow))?;
            if after < 0 && !self.ignores_unmatched {
                return Err((call, Problem::NotThere));
            }
            // Of a value that is there less often than it is taken back, what is there goes.
            tell(call, i64::from(after > 0) - i64::from(*count > 0));
            *count = after.max(0);
        }
        self.note_change(number, was_there);
        Ok(())
    }

    fn note_change(&mut self, number: usize, was_there: bool) {
        let is_there = self.entries.is_counted(number);
        let entry = self.entries.get_mut(number);
        let group = &mut self.groups[entry.owner.group as usize];
        match (was_there, is_there) {
            (false, true) => (self.live, group.live) = (self.live + 1, group.live + 1),
            (true, false) => (self.live, group.live) = (self.live - 1, group.live - 1),
            _ => {}
        }
        if !entry.is_changed {
            entry.is_changed = true;
            self.changed.push(number as u32);
        }
    }

    fn is_of_group(&self, number: usize) -> bool {
        let owner = self.entries.get(number).owner;
        self.groups[owner.group as usize].generation == owner.generation
    }

    fn is_live(&self, number: usize) -> bool {
        self.is_of_group(number) && self.entries.is_counted(number)
    }

    /// When there are many entries, drops those that nobody will ask for again.
    fn collect_garbage(&mut self) {
        if self.entries.len() < self.full {
            return;
        }
        if self.live < self.entries.len() {
            // The store is still to hear of a stored value that is gone.
            let is_wanted = |number| self.is_live(number) || self.is_of_group(number) && self.entries.get(number).is_stored;
            self.entries = self.entries.only(is_wanted);
            let changed = (0..self.entries.len()).filter(|number| self.entries.get(*number).is_changed);
            self.changed = changed.map(|number| number as u32).collect();
        }
        self.full = FEW.max(self.entries.len() * 2);
    }

    /// Rows of entries, which from now on are as the store has them.
    fn write(&mut self, numbers: &[usize]) -> Result<Vec<ItemRows>> {
        let mut pieces = vec![];
        let mut rest = numbers;
        while !rest.is_empty() {
            let mut bytes = 0;
            let is_room = |number: &&usize| {
                bytes += self.entries.value(**number).len();
                bytes <= ITEM_BYTES
            };
            let (piece, others) = rest.split_at(rest.iter().take_while(is_room).count().max(1));
            pieces.push(self.rows(piece)?);
            rest = others;
        }
        for number in numbers {
            let is_stored = self.is_live(*number);
            let entry = self.entries.get_mut(*number);
            (entry.is_changed, entry.is_stored) = (false, is_stored);
        }
        Ok(pieces)
    }

    fn rows(&self, numbers: &[usize]) -> Result<ItemRows> {
        let groups = numbers.iter().map(|number| self.entries.get(*number).owner.group as usize).collect();
        let mut columns = vec![self.codec.decode(numbers.iter().map(|number| Some(self.entries.value(*number))))?];
        for position in 0..self.entries.width() {
            let counts = numbers.iter().map(|number| self.entries.counts(*number)[position]);
            columns.push(Arc::new(Int64Array::from_iter_values(counts)));
        }
        Ok(ItemRows { groups, columns })
    }
}

impl StoredItems for ValueSets {
    fn item_fields(&self) -> Vec<Field> {
        let mut fields = vec![Field::new("value", self.codec.data_type().clone(), true)];
        fields.extend((0..self.entries.width()).map(|position| Field::new(format!("count.{position}"), DataType::Int64, false)));
        fields
    }

    fn live_items(&self) -> usize {
        self.live
    }

    fn changed_count(&mut self, _groups: &[usize]) -> usize {
        self.changed.len()
    }

    fn changed_items(&mut self, _groups: &[usize]) -> Result<Vec<ItemRows>> {
        let changed = std::mem::take(&mut self.changed).into_iter().map(|number| number as usize);
        // What came and went between two snapshots is nobody's business.
        let is_told = |number: &usize| self.is_live(*number) || self.is_of_group(*number) && self.entries.get(*number).is_stored;
        let (told, others): (Vec<usize>, Vec<usize>) = changed.partition(is_told);
        others.into_iter().for_each(|number| self.entries.get_mut(number).is_changed = false);
        self.write(&told)
    }

    fn all_items(&mut self, _groups: &[usize]) -> Result<Vec<ItemRows>> {
        self.changed.clear();
        for number in 0..self.entries.len() {
            let entry = self.entries.get_mut(number);
            (entry.is_changed, entry.is_stored) = (false, false);
        }
        let live: Vec<usize> = (0..self.entries.len()).filter(|number| self.is_live(*number)).collect();
        self.write(&live)
    }

    fn restore_items(&mut self, groups: &[Option<usize>], columns: &[ArrayRef]) -> Result<()> {
        let values = self.codec.encode(&columns[0])?;
        let counts: Vec<&Int64Array> = columns[1..].iter().map(|column| column.as_primitive::<Int64Type>()).collect();
        for (row, group) in groups.iter().enumerate() {
            let Some(group) = *group else { continue };
            let number = self.entries.find_or_add(self.owner(group), values.row(row).data());
            let was_there = self.entries.is_counted(number);
            for (count, column) in self.entries.counts_mut(number).iter_mut().zip(&counts) {
                *count = column.value(row);
            }
            self.note_change(number, was_there);
            let is_stored = self.is_live(number);
            let entry = self.entries.get_mut(number);
            (entry.is_changed, entry.is_stored) = (false, is_stored);
        }
        self.changed.clear();
        self.collect_garbage();
        Ok(())
    }
}

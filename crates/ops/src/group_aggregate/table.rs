//! Groups with their aggregates, and the slot of state that holds them.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt16Array};
use arrow::datatypes::Int64Type;
use thalweg_core::{Batch, Epoch, Error, Result};
use thalweg_state::{SlotId, StateDelta, StatePart};

use super::groups::Groups;
use super::layout::GroupLayout;
use crate::item_slots::{ItemGroups, ItemSlots, Life, life_column, lives_of, new_life, pieces_of_keys};
use crate::key_codec::KeyCodec;
use crate::key_groups;
use crate::merged_slot::{MergedSlot, Part};
use crate::running::{Aggregates, GroupRows, RESULT_BYTES};

pub(super) struct GroupTable {
    slot: MergedSlot,
    item_slots: ItemSlots,
    groups: Groups,
    aggregates: Aggregates,
}

/// What one batch does to the groups.
pub(super) struct Steps {
    /// The group of each row.
    pub(super) groups: Vec<usize>,
    /// Whether the row is the first of its group.
    pub(super) births: Vec<bool>,
    /// Whether the group has no rows behind this one.
    pub(super) empties: Vec<bool>,
    /// The groups of the batch, each once.
    pub(super) touched: Vec<usize>,
    /// Where the result before each row is: one of `touched`, or an earlier row.
    pub(super) before: Vec<Before>,
}

#[derive(Clone, Copy)]
pub(super) enum Before {
    Touched(usize),
    Row(usize),
}

impl GroupTable {
    pub(super) fn new(layout: &GroupLayout, slot: String) -> Result<Self> {
        Ok(GroupTable {
            item_slots: ItemSlots::new(&slot, &layout.item_schemas),
            slot: MergedSlot::new(SlotId(slot)),
            groups: Groups::default(),
            aggregates: layout.aggregates()?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// How many of `rows` rows of this size may be taken at once so that their results stay small.
    pub(super) fn rows_at_once(&self, rows: usize, row_bytes: usize) -> usize {
        self.aggregates.rows_at_once(rows, row_bytes, 2)
    }

    pub(super) fn ignore_unmatched(&mut self) {
        self.aggregates.ignore_unmatched();
    }

    /// Which rows do not take back more than is there.
    pub(super) fn matched(&self, layout: &GroupLayout, batch: &Batch, keys: &[ArrayRef]) -> Result<BooleanArray> {
        let encoded = layout.codec.encode(keys, batch.num_rows())?;
        let mut counts: hashbrown::HashMap<&[u8], i64> = hashbrown::HashMap::new();
        let mask = (0..batch.num_rows()).map(|row| {
            let key = encoded.key(row);
            let count = counts.entry(key).or_insert_with(|| self.groups.find(key).map_or(0, |group| self.groups.rows(group)));
            let after = count.saturating_add(batch.weight(row));
            let is_matched = after >= 0;
            if is_matched {
                *count = after;
            }
            Some(is_matched)
        });
        Ok(mask.collect())
    }

    /// Drops a group, whatever it holds.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some(group) = self.groups.find(key) {
            self.aggregates.resize(self.groups.capacity());
            self.aggregates.clear(group);
            self.groups.set_rows(group, 0);
            self.groups.mark_dirty(group);
            self.groups.remove_if_empty(group);
        }
    }

    /// Finds the groups of the rows and counts the rows in them. `keys` are the key columns of `batch`.
    /// # Errors
    /// `Record` when a row is taken back that was never there.
    pub(super) fn step(&mut self, layout: &GroupLayout, batch: &Batch, keys: &[ArrayRef]) -> Result<Steps> {
        let rows = batch.num_rows();
        let encoded = layout.codec.encode(keys, rows)?;
        let mut steps = Steps {
            groups: Vec::with_capacity(rows),
            births: Vec::with_capacity(rows),
            empties: Vec::with_capacity(rows),
            touched: vec![],
            before: Vec::with_capacity(rows),
        };
        let mut last: hashbrown::HashMap<usize, Before> = hashbrown::HashMap::new();
        for row in 0..rows {
            let group = self.groups.find_or_add(encoded.key(row));
            let before = self.groups.rows(group);
            let after = before
                .checked_add(batch.weight(row))
                .ok_or_else(|| Error::record(format!("more rows than can be counted in {}", layout.describe(keys, row))))?;
            if after < 0 {
                return Err(Error::record(format!("a row is taken back that {} does not hold", layout.describe(keys, row)))
                    .with_help("the changes of the input do not fit together: more rows were taken back than came"));
            }
            self.groups.set_rows(group, after);
            if after == 0 {
                // Should rows of the same key follow, those are another group.
                self.groups.set_life(group, 0);
            }
            let earlier = *last.entry(group).or_insert_with(|| {
                steps.touched.push(group);
                Before::Touched(steps.touched.len() - 1)
            });
            steps.before.push(earlier);
            last.insert(group, Before::Row(row));
            steps.groups.push(group);
            steps.births.push(before == 0);
            steps.empties.push(after == 0);
        }
        Ok(steps)
    }

    /// For each call, the results before the batch of the groups touched, then those behind each row.
    pub(super) fn results(
        &mut self,
        layout: &GroupLayout,
        batch: &Batch,
        keys: &[ArrayRef],
        steps: &Steps,
    ) -> Result<Vec<ArrayRef>> {
        self.aggregates.resize(self.groups.capacity());
        let (column, describe) = (column_of(batch), |row: usize| layout.describe(keys, row));
        self.aggregates.update(&group_rows(&column, batch, steps, &describe), &steps.touched)
    }

    /// Takes the rows in where no results are wanted yet.
    pub(super) fn absorb(&mut self, layout: &GroupLayout, batch: &Batch, keys: &[ArrayRef], steps: &Steps) -> Result<()> {
        self.aggregates.resize(self.groups.capacity());
        let (column, describe) = (column_of(batch), |row: usize| layout.describe(keys, row));
        self.aggregates.absorb(&group_rows(&column, batch, steps, &describe), |_| false)
    }

    /// Ends a batch: what it touched has changed, what it emptied goes.
    pub(super) fn finish(&mut self, steps: &Steps) {
        for group in &steps.touched {
            self.groups.mark_dirty(*group);
            self.groups.remove_if_empty(*group);
        }
    }

    /// All groups with their results, in the order of their keys, as batches of the layout's output.
    pub(super) fn all_results(&mut self, layout: &GroupLayout) -> Result<Vec<RecordBatch>> {
        let keys = self.groups.keys();
        let key_bytes = self.groups.size_bytes() / keys.len().max(1);
        let result_bytes = self.aggregates.largest_results() + key_bytes;
        let at_once = (RESULT_BYTES / result_bytes.max(1)).clamp(1, layout.batch_rows);
        self.aggregates.resize(self.groups.capacity());
        let mut batches = vec![];
        for keys in keys.chunks(at_once) {
            let groups: Vec<usize> = keys.iter().filter_map(|key| self.groups.find(key)).collect();
            let key_columns = layout.codec.decode(keys)?;
            let mut columns = key_columns.clone();
            columns.extend(self.aggregates.results(&groups, &|row| layout.describe(&key_columns, row))?);
            let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
            batches.push(RecordBatch::try_new_with_options(layout.output_schema.clone(), columns, &options)?);
        }
        Ok(batches)
    }

    /// The slots that the store has: they are to be dropped when the table goes.
    pub(super) fn stored_slots(&self) -> impl Iterator<Item = SlotId> {
        self.slot.stored().into_iter().chain(self.item_slots.stored())
    }

    /// Writes what changed since the last snapshot. Epochs must grow from one to the next.
    pub(super) fn snapshot(&mut self, layout: &GroupLayout, epoch: Epoch, delta: &mut StateDelta) -> Result<()> {
        let dirty = self.groups.dirty();
        for key in &dirty {
            if let Some(group) = self.groups.find(key).filter(|group| self.groups.life(*group) == 0) {
                self.groups.set_life(group, new_life(key, epoch));
            }
        }
        self.aggregates.resize(self.groups.capacity());
        if let Some(part) = self.slot.due(self.groups.len(), dirty.len(), delta) {
            let keys = if part == Part::Whole { self.groups.keys() } else { dirty };
            let pieces = pieces_of_keys(&keys, self.aggregates.largest_results());
            let batches = pieces.into_iter().map(|keys| self.state_batch(layout, keys)).collect::<Result<_>>()?;
            self.slot.put(part, batches, delta);
        }
        let groups = KeyedGroups { groups: &self.groups, layout };
        self.item_slots.snapshot(&layout.item_schemas, &mut self.aggregates, &groups, delta)?;
        self.groups.mark_stored();
        Ok(())
    }

    /// State rows of groups, given by key; those that are gone have 0 rows and blank states.
    fn state_batch(&self, layout: &GroupLayout, keys: &[Arc<[u8]>]) -> Result<RecordBatch> {
        let groups: Vec<usize> = keys.iter().map(|key| self.groups.find(key).unwrap_or(Groups::BLANK)).collect();
        let key_columns = layout.codec.decode(keys)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt16Array::from(key_groups(&key_columns, keys.len())?))];
        columns.extend(key_columns);
        columns.push(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| self.groups.rows(*group)))));
        columns.push(life_column(groups.iter().map(|group| self.groups.life(*group)))?);
        for call in 0..layout.state_widths.len() {
            columns.extend(self.aggregates.state(call, &groups)?);
        }
        Ok(RecordBatch::try_new(layout.state_schema.clone(), columns)?)
    }

    /// Takes in stored slots.
    /// # Errors
    /// `Corrupt` when the parts do not have the expected columns.
    pub(super) fn restore(&mut self, layout: &GroupLayout, parts: &[StatePart]) -> Result<()> {
        let (groups, items): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.slot == *self.slot.id());
        for part in groups {
            part.batches.iter().try_for_each(|batch| self.restore_groups(layout, batch))?;
            self.slot.restored(part);
        }
        self.groups.mark_stored();
        self.aggregates.resize(self.groups.capacity());
        self.item_slots.restore(&layout.item_schemas, &mut self.aggregates, self.groups.lives(), &items)
    }

    fn restore_groups(&mut self, layout: &GroupLayout, state: &RecordBatch) -> Result<()> {
        layout.check_state(state)?;
        let (keys, rest) = state.columns()[1..].split_at(layout.keys.len());
        let encoded = layout.codec.encode(keys, state.num_rows())?;
        let (counts, lives) = (rest[0].as_primitive::<Int64Type>().values(), lives_of(&rest[1]));
        let mut groups = vec![];
        for (row, (count, life)) in counts.iter().zip(lives).enumerate() {
            groups.push(if *count > 0 {
                let group = self.groups.find_or_add(encoded.key(row));
                self.groups.set_rows(group, *count);
                self.groups.set_life(group, life);
                // What is restored is what the store has: see the caller.
                self.groups.mark_dirty(group);
                Some(group)
            } else {
                if let Some(group) = self.groups.find(encoded.key(row)) {
                    self.groups.set_rows(group, 0);
                    self.aggregates.clear(group);
                    self.groups.remove_if_empty(group);
                }
                None
            });
        }
        self.aggregates.resize(self.groups.capacity());
        let mut states = &rest[2..];
        for (call, width) in layout.state_widths.iter().enumerate() {
            let (own, others) = states.split_at(*width);
            self.aggregates.restore(call, own, &groups)?;
            states = others;
        }
        Ok(())
    }

    pub(super) fn mark_all_dirty(&mut self) {
        self.slot.forget_stored();
        self.item_slots.forget_stored();
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.aggregates.size_bytes() + self.groups.size_bytes()
    }
}

fn column_of(batch: &Batch) -> impl Fn(usize) -> Result<ArrayRef> {
    |column| Ok(batch.column(column).clone())
}

fn group_rows<'a>(
    column: &'a dyn Fn(usize) -> Result<ArrayRef>,
    batch: &'a Batch,
    steps: &'a Steps,
    describe: &'a dyn Fn(usize) -> String,
) -> GroupRows<'a> {
    let weights = batch.weights.as_ref();
    GroupRows { column, weights, groups: &steps.groups, empties: &steps.empties, wanted: None, describe }
}

struct KeyedGroups<'a> {
    groups: &'a Groups,
    layout: &'a GroupLayout,
}

impl KeyedGroups<'_> {
    fn numbers(&self, keys: Vec<Arc<[u8]>>) -> Vec<usize> {
        keys.iter().filter_map(|key| self.groups.find(key)).collect()
    }
}

impl ItemGroups for KeyedGroups<'_> {
    fn all(&self) -> Vec<usize> {
        self.numbers(self.groups.keys())
    }

    fn changed(&self) -> Vec<usize> {
        self.numbers(self.groups.dirty())
    }

    fn life(&self, group: usize) -> Life {
        self.groups.life(group)
    }

    fn key(&self, group: usize) -> &Arc<[u8]> {
        self.groups.key(group).expect("items are of groups that are there")
    }

    fn codec(&self) -> &KeyCodec {
        &self.layout.codec
    }
}

//! A state per group, and a fold over it.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Field;
use thalweg_core::{Error, Result};

use super::items::{self, GroupItems, ITEM_BYTES, Item, ItemRows, StoredItems};
use super::{CallName, CallRows, Problem, RunningAccumulator, ValueCodec};

/// What an aggregate function does to the state of one group.
pub(super) trait Fold: Send {
    type State: Default + Send;
    /// An argument column made ready for [`Fold::add`].
    type Bound;
    /// Results, one pushed behind the other.
    type Results: Default;

    /// Whether rows whose argument is null count.
    fn takes_nulls(&self) -> bool {
        false
    }

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Self::Bound>;

    /// Takes in row `row`, `weight` times; below 0 takes it back.
    fn add(&self, state: &mut Self::State, bound: &Self::Bound, row: usize, weight: i64) -> Result<(), Problem>;

    fn push_result(&self, state: &Self::State, results: &mut Self::Results) -> Result<(), Problem>;

    fn finish(&self, results: Self::Results) -> Result<ArrayRef>;

    /// None if all of the state is items.
    fn state_fields(&self) -> Vec<Field> {
        vec![]
    }

    fn write(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>> {
        let _ = states;
        Ok(vec![])
    }

    /// The inverse of [`Fold::write`].
    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Self::State>> {
        let _ = columns;
        Ok(vec![])
    }

    /// Bytes that the state holds outside of itself, about.
    fn heap_bytes(&self, state: &Self::State) -> usize;

    /// Bytes of the result of this state, about; 0 where results are of fixed size.
    fn result_bytes(&self, state: &Self::State) -> usize {
        let _ = state;
        0
    }

    /// Whether a result holds all values of its group.
    fn collects(&self) -> bool {
        false
    }

    /// Encodes the values of items, if those are all the state there is.
    fn item_codec(&self) -> Option<&ValueCodec> {
        None
    }

    /// The items of a state, if there is an [`Fold::item_codec`].
    fn items<'a>(&self, state: &'a mut Self::State) -> Option<&'a mut dyn GroupItems> {
        let _ = state;
        None
    }
}

/// Results of this many bytes, about, fit one Arrow array, whose offsets are 32 bits.
fn fits_one_array(result_bytes: usize) -> Result<(), Problem> {
    if i32::try_from(result_bytes).is_ok() {
        return Ok(());
    }
    let error = Error::record("results are larger than one batch holds: 2 GiB");
    Err(Problem::Failed(error.with_help("choose finer groups, or count the values in place of listing them")))
}

/// A fold over numbered groups.
struct PerGroup<F: Fold> {
    call: CallName,
    fold: F,
    states: Vec<F::State>,
    /// Items of all groups.
    items: usize,
    /// Bytes of the largest result so far.
    largest: usize,
    ignores_unmatched: bool,
}

impl<F: Fold> PerGroup<F> {
    /// Takes in rows; puts the result behind each into `results`, if given.
    fn take_in(&mut self, rows: &CallRows<'_>, mut results: Option<&mut F::Results>) -> Result<()> {
        let bound = self.fold.bind(rows.argument)?;
        let present = rows.argument.filter(|_| !self.fold.takes_nulls()).and_then(|argument| argument.logical_nulls());
        let selection = NullBuffer::union(present.as_ref(), rows.filter.as_ref());
        let mut result_bytes = 0;
        for (row, group) in rows.groups.iter().enumerate() {
            let state = &mut self.states[*group];
            let items = self.fold.items(state).map_or(0, |items| items.count());
            let mut outcome = Ok(());
            if selection.as_ref().is_none_or(|selection| selection.is_valid(row)) {
                outcome = match self.fold.add(state, &bound, row, rows.weights.map_or(1, |weights| weights.value(row))) {
                    Err(Problem::NotThere) if self.ignores_unmatched => Ok(()),
                    outcome => outcome,
                };
            }
            let own_bytes = self.fold.result_bytes(state);
            self.largest = self.largest.max(own_bytes);
            if rows.empties[row] {
                *state = F::State::default();
            }
            self.items += self.fold.items(state).map_or(0, |items| items.count());
            self.items -= items;
            if let Some(results) = &mut results
                && rows.wanted.is_none_or(|wanted| wanted[row])
            {
                result_bytes += own_bytes;
                outcome =
                    outcome.and_then(|()| fits_one_array(result_bytes)).and_then(|()| self.fold.push_result(state, results));
            }
            if let Err(problem) = outcome {
                return Err(self.call.error(problem, &(rows.describe)(row)));
            }
        }
        Ok(())
    }
}

impl<F: Fold> RunningAccumulator for PerGroup<F> {
    fn resize(&mut self, groups: usize) {
        self.states.resize_with(groups, F::State::default);
    }

    fn update(&mut self, rows: &CallRows<'_>) -> Result<ArrayRef> {
        let mut results = F::Results::default();
        self.take_in(rows, Some(&mut results))?;
        self.fold.finish(results)
    }

    fn ignore_unmatched(&mut self) {
        self.ignores_unmatched = true;
    }

    fn absorb(&mut self, rows: &CallRows<'_>) -> Result<()> {
        self.take_in(rows, None)
    }

    fn results(&self, groups: &[usize], describe: &dyn Fn(usize) -> String) -> Result<ArrayRef> {
        let mut results = F::Results::default();
        let mut result_bytes = 0;
        for (position, group) in groups.iter().enumerate() {
            let state = &self.states[*group];
            result_bytes += self.fold.result_bytes(state);
            fits_one_array(result_bytes)
                .and_then(|()| self.fold.push_result(state, &mut results))
                .map_err(|problem| self.call.error(problem, &describe(position)))?;
        }
        self.fold.finish(results)
    }

    fn state_fields(&self) -> Vec<Field> {
        self.fold.state_fields()
    }

    fn state(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        self.fold.write(&groups.iter().map(|group| &self.states[*group]).collect::<Vec<_>>())
    }

    fn restore(&mut self, states: &[ArrayRef], groups: &[Option<usize>]) -> Result<()> {
        // Without columns this does nothing: items have rows of their own.
        for (state, group) in self.fold.read(states)?.into_iter().zip(groups) {
            if let Some(group) = group {
                self.largest = self.largest.max(self.fold.result_bytes(&state));
                self.states[*group] = state;
            }
        }
        Ok(())
    }

    fn result_size(&self) -> (usize, bool) {
        (self.largest, self.fold.collects())
    }

    fn clear(&mut self, group: usize) {
        let mut state = std::mem::take(&mut self.states[group]);
        self.items -= self.fold.items(&mut state).map_or(0, |items| items.count());
    }

    fn items(&mut self) -> Option<&mut dyn StoredItems> {
        if self.fold.item_codec().is_some() { Some(self) } else { None }
    }

    fn size_bytes(&self) -> usize {
        let heap: usize = self.states.iter().map(|state| self.fold.heap_bytes(state)).sum();
        heap + self.states.capacity() * size_of::<F::State>()
    }
}

impl<F: Fold> PerGroup<F> {
    /// Rows of the items that `give` gives of each group.
    fn item_rows(&mut self, groups: &[usize], give: impl Fn(&mut dyn GroupItems, &mut Vec<Item>)) -> Result<Vec<ItemRows>> {
        let Some(codec) = self.fold.item_codec() else { return Ok(vec![]) };
        let (mut pieces, mut items, mut groups_of_items, mut bytes) = (vec![], vec![], vec![], 0);
        let mut given = vec![];
        for group in groups {
            if let Some(state) = self.fold.items(&mut self.states[*group]) {
                give(state, &mut given);
            }
            for item in given.drain(..) {
                bytes += item.value.as_ref().map_or(0, |value| value.len());
                if bytes > ITEM_BYTES && !items.is_empty() {
                    let groups = std::mem::take(&mut groups_of_items);
                    pieces.push(ItemRows { groups, columns: items::write_items(codec, &std::mem::take(&mut items))? });
                    bytes = 0;
                }
                items.push(item);
                groups_of_items.push(*group);
            }
        }
        pieces.push(ItemRows { groups: groups_of_items, columns: items::write_items(codec, &items)? });
        Ok(pieces)
    }
}

impl<F: Fold> StoredItems for PerGroup<F> {
    fn item_fields(&self) -> Vec<Field> {
        self.fold.item_codec().map(items::item_fields).unwrap_or_default()
    }

    fn live_items(&self) -> usize {
        self.items
    }

    fn changed_count(&mut self, groups: &[usize]) -> usize {
        let mut count = |group: &usize| self.fold.items(&mut self.states[*group]).map_or(0, |items| items.changed_count());
        groups.iter().map(&mut count).sum()
    }

    fn changed_items(&mut self, groups: &[usize]) -> Result<Vec<ItemRows>> {
        self.item_rows(groups, |state, items| state.take_changes(items))
    }

    fn all_items(&mut self, groups: &[usize]) -> Result<Vec<ItemRows>> {
        self.item_rows(groups, |state, items| state.take_all(items))
    }

    fn restore_items(&mut self, groups: &[Option<usize>], columns: &[ArrayRef]) -> Result<()> {
        let Some(codec) = self.fold.item_codec() else { return Ok(()) };
        for (item, group) in items::read_items(codec, columns)?.into_iter().zip(groups) {
            let Some(group) = *group else { continue };
            if let Some(items) = self.fold.items(&mut self.states[group]) {
                let before = items.count();
                items.restore(item);
                self.items = self.items + items.count() - before;
            }
            self.largest = self.largest.max(self.fold.result_bytes(&self.states[group]));
        }
        Ok(())
    }
}

pub(super) fn per_group<F: Fold + 'static>(call: CallName, fold: F) -> Result<Box<dyn RunningAccumulator>> {
    Ok(Box::new(PerGroup { call, fold, states: vec![], items: 0, largest: 0, ignores_unmatched: false }))
}

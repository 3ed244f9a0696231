//! MIN and MAX.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field};
use arrow::row::Rows;
use hashbrown::HashSet;
use thalweg_core::{Error, Result};

use super::items::{GroupItems, Item};
use super::values::EncodedValues;
use super::{Fold, Items, Problem, ValueCodec};

/// How often a group holds each value, in order of the values.
#[derive(Default)]
pub(super) struct Counts {
    counts: BTreeMap<Box<[u8]>, Count>,
    /// Values whose counts are not as the store has them, those that are gone among them; noted only where they are stored.
    changed: HashSet<Box<[u8]>>,
}

struct Count {
    count: i64,
    is_changed: bool,
    is_stored: bool,
}

impl Counts {
    /// Adds `weight` to the count of `value`, which goes when nothing is left.
    pub(super) fn add(&mut self, value: &[u8], weight: i64, items: Items) -> Result<(), Problem> {
        let Some(known) = self.counts.get_mut(value) else {
            if weight <= 0 {
                return Err(Problem::NotThere);
            }
            // A value that went and comes again is one that the store has.
            let is_stored = self.changed.contains(value);
            self.counts.insert(value.into(), Count { count: weight, is_changed: true, is_stored });
            if items == Items::Stored && !is_stored {
                self.changed.insert(value.into());
            }
            return Ok(());
        };
        known.count = known.count.checked_add(weight).ok_or(Problem::Overflow)?;
        let (count, is_stored) = (known.count, known.is_stored);
        if !std::mem::replace(&mut known.is_changed, true) && items == Items::Stored {
            self.changed.insert(value.into());
        }
        // Of a value that is there less often than it is taken back, what is there goes.
        if count <= 0 {
            self.counts.remove(value);
            if !is_stored && items == Items::Stored {
                self.changed.remove(value);
            }
        }
        if count < 0 { Err(Problem::NotThere) } else { Ok(()) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], i64)> {
        self.counts.iter().map(|(value, count)| (&**value, count.count))
    }

    pub(super) fn first(&self) -> Option<&[u8]> {
        self.counts.first_key_value().map(|(value, _)| &**value)
    }

    pub(super) fn last(&self) -> Option<&[u8]> {
        self.counts.last_key_value().map(|(value, _)| &**value)
    }

    /// About what the counts hold: asked for at each checkpoint, it must not look at every value.
    pub(super) fn size_bytes(&self) -> usize {
        self.counts.len() * 72 + self.changed.capacity() * 24 + self.first().map_or(0, |value| value.len() * self.counts.len())
    }
}

impl GroupItems for Counts {
    fn count(&self) -> usize {
        self.counts.len()
    }

    fn changed_count(&self) -> usize {
        self.changed.len()
    }

    fn take_changes(&mut self, items: &mut Vec<Item>) {
        let mut changed: Vec<Box<[u8]>> = self.changed.drain().collect();
        changed.sort_unstable();
        items.extend(changed.into_iter().map(|value| {
            let number = self.counts.get_mut(&value).map_or(0, |count| {
                (count.is_changed, count.is_stored) = (false, true);
                count.count
            });
            Item { value: Some(value), number, is_gone: number == 0 }
        }));
    }

    fn take_all(&mut self, items: &mut Vec<Item>) {
        self.changed.clear();
        items.extend(self.counts.iter_mut().map(|(value, count)| {
            (count.is_changed, count.is_stored) = (false, true);
            Item { value: Some(value.clone()), number: count.count, is_gone: false }
        }));
    }

    fn restore(&mut self, item: Item) {
        let Some(value) = item.value else { return };
        if item.is_gone {
            self.counts.remove(&value);
        } else {
            self.counts.insert(value, Count { count: item.number, is_changed: false, is_stored: true });
        }
    }
}

/// The best value so far, for rows that are never taken back. State: the value.
pub(super) struct Best {
    codec: ValueCodec,
    is_max: bool,
}

impl Best {
    pub(super) fn new(argument: &DataType, is_max: bool) -> Result<Self> {
        Ok(Best { codec: ValueCodec::new(argument)?, is_max })
    }
}

impl Fold for Best {
    type State = Option<Box<[u8]>>;
    type Bound = Rows;
    type Results = EncodedValues;

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Rows> {
        bind(&self.codec, argument)
    }

    fn add(&self, state: &mut Self::State, values: &Rows, row: usize, weight: i64) -> Result<(), Problem> {
        if weight < 0 {
            return Err(Problem::NotThere);
        }
        let value = values.row(row).data();
        if state.as_deref().is_none_or(|best| if self.is_max { value > best } else { value < best }) {
            *state = Some(value.into());
        }
        Ok(())
    }

    fn push_result(&self, state: &Self::State, results: &mut EncodedValues) -> Result<(), Problem> {
        results.push(state.as_deref());
        Ok(())
    }

    fn finish(&self, results: EncodedValues) -> Result<ArrayRef> {
        results.decode(&self.codec)
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("value", self.codec.data_type().clone(), true)]
    }

    fn write(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.codec.decode(states.iter().map(|state| state.as_deref()))?])
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Self::State>> {
        let values = self.codec.encode(&columns[0])?;
        Ok((0..columns[0].len()).map(|row| columns[0].is_valid(row).then(|| values.row(row).data().into())).collect())
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        state.as_ref().map_or(0, |value| value.len())
    }

    fn result_bytes(&self, state: &Self::State) -> usize {
        self.heap_bytes(state)
    }
}

/// The best of all values that the group holds. Items: each value with its count.
pub(super) struct BestOfMany {
    codec: ValueCodec,
    is_max: bool,
    items: Items,
}

impl BestOfMany {
    pub(super) fn new(argument: &DataType, is_max: bool, items: Items) -> Result<Self> {
        Ok(BestOfMany { codec: ValueCodec::new(argument)?, is_max, items })
    }

    fn best<'a>(&self, state: &'a Counts) -> Option<&'a [u8]> {
        if self.is_max { state.last() } else { state.first() }
    }
}

impl Fold for BestOfMany {
    type State = Counts;
    type Bound = Rows;
    type Results = EncodedValues;

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Rows> {
        bind(&self.codec, argument)
    }

    fn add(&self, state: &mut Counts, values: &Rows, row: usize, weight: i64) -> Result<(), Problem> {
        state.add(values.row(row).data(), weight, self.items)
    }

    fn push_result(&self, state: &Counts, results: &mut EncodedValues) -> Result<(), Problem> {
        results.push(self.best(state));
        Ok(())
    }

    fn finish(&self, results: EncodedValues) -> Result<ArrayRef> {
        results.decode(&self.codec)
    }

    fn heap_bytes(&self, state: &Counts) -> usize {
        state.size_bytes()
    }

    fn item_codec(&self) -> Option<&ValueCodec> {
        Some(&self.codec)
    }

    fn items<'a>(&self, state: &'a mut Counts) -> Option<&'a mut dyn GroupItems> {
        Some(state)
    }

    fn result_bytes(&self, state: &Counts) -> usize {
        self.best(state).map_or(0, |value| value.len())
    }
}

pub(super) fn bind(codec: &ValueCodec, argument: Option<&ArrayRef>) -> Result<Rows> {
    codec.encode(argument.ok_or_else(|| Error::internal("an aggregate gets no argument"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(counts: &mut Counts) -> Vec<(u8, i64, bool)> {
        let mut items = vec![];
        counts.take_changes(&mut items);
        items.into_iter().map(|item| (item.value.unwrap()[0], item.number, item.is_gone)).collect()
    }

    #[test]
    fn what_came_and_went_between_snapshots_is_not_noted() {
        let mut counts = Counts::default();
        let add = |counts: &mut Counts, value: u8, weight| {
            assert!(counts.add(&[value], weight, Items::Stored).is_ok());
        };
        add(&mut counts, 1, 2);
        for value in 2..200 {
            add(&mut counts, value, 1);
            add(&mut counts, value, -1);
            assert_eq!(counts.changed_count(), 1);
        }
        assert_eq!(changes(&mut counts), [(1, 2, false)]);
        add(&mut counts, 1, -2);
        assert_eq!(counts.changed_count(), 1);
        add(&mut counts, 1, 1);
        add(&mut counts, 1, -1);
        assert_eq!(changes(&mut counts), [(1, 0, true)]);
        add(&mut counts, 1, 1);
        assert_eq!(changes(&mut counts), [(1, 1, false)]);
    }
}

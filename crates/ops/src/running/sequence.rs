//! FIRST_VALUE, LAST_VALUE, LISTAGG and ARRAY_AGG: values in order of arrival.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};
use arrow::row::Rows;
use thalweg_core::{Error, Result};

use super::extremum::bind;
use super::items::{GroupItems, Item};
use super::values::EncodedValues;
use super::{Fold, Problem, ValueCodec, collection};

/// Results of many rows share an Arrow array, which holds less than 2 GiB.
const RESULT_BYTES_MAX: usize = 256 << 20;

/// Which end of a sequence is the result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    First,
    Last,
}

/// FIRST_VALUE and LAST_VALUE of rows that are never taken back. Nulls do not count. State: the value.
pub(super) struct FirstOfAll {
    codec: ValueCodec,
    end: End,
}

impl FirstOfAll {
    pub(super) fn new(argument: &DataType, end: End) -> Result<Self> {
        Ok(FirstOfAll { codec: ValueCodec::new(argument)?, end })
    }
}

impl Fold for FirstOfAll {
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
        if state.is_none() || self.end == End::Last {
            *state = Some(values.row(row).data().into());
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

/// All values of a group in order of arrival. A value that is taken back is the earliest that is equal, as in Flink.
#[derive(Default)]
pub(super) struct Sequence {
    values: BTreeMap<u64, Arc<[u8]>>,
    /// By value, the places where it is.
    places: HashMap<Arc<[u8]>, VecDeque<u64>>,
    next: u64,
    /// Of all values.
    bytes: usize,
    /// Places from here on are not stored yet.
    unstored: u64,
    /// Stored places whose values went.
    gone: Vec<u64>,
}

impl Sequence {
    fn push(&mut self, value: &[u8]) {
        self.push_at(self.next, value);
    }

    /// `place` is behind all others.
    fn push_at(&mut self, place: u64, value: &[u8]) {
        let value_bytes = value.len();
        let value: Arc<[u8]> = match self.places.get_key_value(value) {
            Some((known, _)) => known.clone(),
            None => value.into(),
        };
        self.values.insert(place, value.clone());
        self.places.entry(value).or_default().push_back(place);
        self.next = place + 1;
        self.bytes += value_bytes;
    }

    fn take_back(&mut self, value: &[u8]) -> Result<(), Problem> {
        let places = self.places.get_mut(value).ok_or(Problem::NotThere)?;
        let place = places.pop_front().ok_or(Problem::NotThere)?;
        if places.is_empty() {
            self.places.remove(value);
        }
        self.values.remove(&place);
        self.bytes -= value.len();
        if place < self.unstored {
            self.gone.push(place);
        }
        Ok(())
    }

    fn item((place, value): (&u64, &Arc<[u8]>)) -> Item {
        Item { value: Some((**value).into()), number: *place as i64, is_gone: false }
    }
}

/// Items: each value with its place.
impl GroupItems for Sequence {
    fn count(&self) -> usize {
        self.values.len()
    }

    fn changed_count(&self) -> usize {
        self.gone.len() + (self.next - self.unstored) as usize
    }

    fn take_changes(&mut self, items: &mut Vec<Item>) {
        items.extend(self.gone.drain(..).map(|place| Item { value: None, number: place as i64, is_gone: true }));
        items.extend(self.values.range(self.unstored..).map(Sequence::item));
        self.unstored = self.next;
    }

    fn take_all(&mut self, items: &mut Vec<Item>) {
        self.gone.clear();
        items.extend(self.values.iter().map(Sequence::item));
        self.unstored = self.next;
    }

    fn restore(&mut self, item: Item) {
        let place = item.number as u64;
        match item.value {
            Some(value) if !item.is_gone => self.push_at(place, &value),
            _ => {
                if let Some(value) = self.values.get(&place).cloned()
                    && let Some(places) = self.places.get_mut(&value)
                {
                    if places.front() == Some(&place) {
                        places.pop_front();
                    } else {
                        places.retain(|other| *other != place);
                    }
                    if places.is_empty() {
                        self.places.remove(&value);
                    }
                    self.values.remove(&place);
                    self.bytes -= value.len();
                }
            }
        }
        self.unstored = self.next;
    }
}

enum Shape {
    End(End),
    /// Texts with this between them.
    Text(String),
    Array(DataType),
}

/// Functions that look at all values in order.
pub(super) struct InOrder {
    codec: ValueCodec,
    shape: Shape,
}

impl InOrder {
    pub(super) fn end(argument: &DataType, end: End) -> Result<Self> {
        Ok(InOrder { codec: ValueCodec::new(argument)?, shape: Shape::End(end) })
    }

    /// # Errors
    /// `User` unless the argument is text.
    pub(super) fn text(argument: &DataType, separator: &str) -> Result<Self> {
        if *argument != DataType::Utf8 {
            return Err(Error::user(format!("LISTAGG does not take {argument}")));
        }
        Ok(InOrder { codec: ValueCodec::new(argument)?, shape: Shape::Text(separator.to_string()) })
    }

    pub(super) fn array(argument: &DataType, output: &DataType) -> Result<Self> {
        Ok(InOrder { codec: ValueCodec::new(argument)?, shape: Shape::Array(output.clone()) })
    }
}

impl Fold for InOrder {
    type State = Sequence;
    type Bound = Rows;
    /// The values that each result is made of; `None` is null.
    type Results = Vec<Option<Vec<Arc<[u8]>>>>;

    fn takes_nulls(&self) -> bool {
        matches!(self.shape, Shape::Array(_))
    }

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Rows> {
        bind(&self.codec, argument)
    }

    fn add(&self, state: &mut Sequence, values: &Rows, row: usize, weight: i64) -> Result<(), Problem> {
        let value = values.row(row).data();
        for _ in 0..weight.unsigned_abs() {
            if weight > 0 {
                state.push(value);
            } else {
                state.take_back(value)?;
            }
        }
        Ok(())
    }

    fn push_result(&self, state: &Sequence, results: &mut Self::Results) -> Result<(), Problem> {
        if self.result_bytes(state) > RESULT_BYTES_MAX {
            return Err(Problem::Failed(
                Error::record("a group holds more values than one result can show")
                    .with_help("choose finer groups, or count the values in place of listing them"),
            ));
        }
        let chosen = match self.shape {
            Shape::End(End::First) => state.values.first_key_value().map(|(_, value)| vec![value.clone()]),
            Shape::End(End::Last) => state.values.last_key_value().map(|(_, value)| vec![value.clone()]),
            _ if state.values.is_empty() => None,
            _ => Some(state.values.values().cloned().collect()),
        };
        results.push(chosen);
        Ok(())
    }

    fn finish(&self, results: Self::Results) -> Result<ArrayRef> {
        match &self.shape {
            Shape::End(_) => self
                .codec
                .decode(results.iter().map(|chosen| chosen.as_ref().and_then(|values| values.first()).map(|value| &**value))),
            Shape::Text(separator) => {
                let all = self.codec.decode(results.iter().flatten().flatten().map(|value| Some(&**value)))?;
                let mut texts = arrow::array::AsArray::as_string::<i32>(&all).iter().flatten();
                let joined = results.iter().map(|chosen| {
                    chosen.as_ref().map(|values| texts.by_ref().take(values.len()).collect::<Vec<_>>().join(separator))
                });
                Ok(Arc::new(joined.collect::<StringArray>()))
            }
            Shape::Array(output) => {
                let DataType::List(item) = output else {
                    return Err(Error::internal(format!("ARRAY_AGG is to give {output}")));
                };
                let offsets = collection::offsets(results.iter().map(|chosen| chosen.as_ref().map_or(0, Vec::len)))?;
                let values = self.codec.decode(results.iter().flatten().flatten().map(|value| Some(&**value)))?;
                let nulls: NullBuffer = results.iter().map(Option::is_some).collect();
                Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, Some(nulls))?))
            }
        }
    }

    fn item_codec(&self) -> Option<&ValueCodec> {
        Some(&self.codec)
    }

    fn items<'a>(&self, state: &'a mut Sequence) -> Option<&'a mut dyn GroupItems> {
        Some(state)
    }

    fn heap_bytes(&self, state: &Sequence) -> usize {
        // A rough figure: two entries per value, and each different value once.
        let value = state.values.first_key_value().map_or(0, |(_, value)| value.len() + 64);
        state.values.len() * 56 + state.places.len() * value
    }

    fn result_bytes(&self, state: &Sequence) -> usize {
        match &self.shape {
            Shape::End(End::First) => state.values.first_key_value().map_or(0, |(_, value)| value.len()),
            Shape::End(End::Last) => state.values.last_key_value().map_or(0, |(_, value)| value.len()),
            Shape::Text(separator) => state.bytes + state.values.len() * separator.len(),
            Shape::Array(_) => state.bytes,
        }
    }

    fn collects(&self) -> bool {
        !matches!(self.shape, Shape::End(_))
    }
}

//! State of many items per group, of which a checkpoint stores those that changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type};
use thalweg_core::Result;

use super::ValueCodec;

/// Bytes of values that are written together.
pub(super) const ITEM_BYTES: usize = if cfg!(test) { 64 } else { 64 << 20 };

/// Rows about items, with the group of each; large ones are cut into several.
#[derive(Default)]
pub(crate) struct ItemRows {
    pub(crate) groups: Vec<usize>,
    /// Those of [`StoredItems::item_fields`].
    pub(crate) columns: Vec<ArrayRef>,
}

/// Groups whose items are stored one by one. Of an item of a group the last row holds; rows about a group that is gone mean nothing.
pub(crate) trait StoredItems {
    /// Part of the checkpoint format.
    fn item_fields(&self) -> Vec<Field>;

    fn live_items(&self) -> usize;

    /// How many items [`StoredItems::changed_items`] would give, at most.
    fn changed_count(&mut self, groups: &[usize]) -> usize;

    /// The items of `groups`, which are all that changed, that came, changed or went since the last call of this or
    /// [`StoredItems::all_items`].
    fn changed_items(&mut self, groups: &[usize]) -> Result<Vec<ItemRows>>;

    /// All items of `groups`, which are all there are.
    fn all_items(&mut self, groups: &[usize]) -> Result<Vec<ItemRows>>;

    /// Takes in stored rows, in the order in which they were written; rows without a group are left out.
    fn restore_items(&mut self, groups: &[Option<usize>], columns: &[ArrayRef]) -> Result<()>;
}

/// The items of one group of a fold.
pub(crate) trait GroupItems {
    fn count(&self) -> usize;

    /// How many items [`GroupItems::take_changes`] would give, at most.
    fn changed_count(&self) -> usize;

    /// Gives the items that came, changed or went since the last call of this or [`GroupItems::take_all`].
    fn take_changes(&mut self, items: &mut Vec<Item>);

    fn take_all(&mut self, items: &mut Vec<Item>);

    /// Takes in an item that was stored.
    fn restore(&mut self, item: Item);
}

/// An item of a fold: a value with its count, or with its place.
pub(crate) struct Item {
    /// Encoded; `None` of one that is gone and has no name but its number.
    pub(crate) value: Option<Box<[u8]>>,
    pub(crate) number: i64,
    pub(crate) is_gone: bool,
}

pub(super) fn item_fields(codec: &ValueCodec) -> Vec<Field> {
    vec![
        Field::new("value", codec.data_type().clone(), true),
        Field::new("number", DataType::Int64, false),
        Field::new("is_gone", DataType::Boolean, false),
    ]
}

pub(super) fn write_items(codec: &ValueCodec, items: &[Item]) -> Result<Vec<ArrayRef>> {
    Ok(vec![
        codec.decode(items.iter().map(|item| item.value.as_deref()))?,
        Arc::new(Int64Array::from_iter_values(items.iter().map(|item| item.number))),
        Arc::new(BooleanArray::from_iter(items.iter().map(|item| Some(item.is_gone)))),
    ])
}

/// The inverse of [`write_items`]; a value that is null comes back as the encoding of null.
pub(super) fn read_items(codec: &ValueCodec, columns: &[ArrayRef]) -> Result<Vec<Item>> {
    let values = codec.encode(&columns[0])?;
    let (numbers, gone) = (columns[1].as_primitive::<Int64Type>(), columns[2].as_boolean());
    let item =
        |row: usize| Item { value: Some(values.row(row).data().into()), number: numbers.value(row), is_gone: gone.value(row) };
    Ok((0..numbers.len()).map(item).collect())
}

//! The rows of a session, kept whole.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, new_empty_array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, FieldRef};
use thalweg_core::{Error, Result};

use crate::{GroupAccumulator, GroupText};

/// Keeps the values of its argument, a STRUCT of a row's columns, per group in order of arrival. Result and state: a List.
pub(super) struct CollectRows {
    item: FieldRef,
    chunks: Vec<ArrayRef>,
    /// Where the rows of each group are: chunk and row.
    places: Vec<Vec<(usize, usize)>>,
}

impl CollectRows {
    pub(super) fn new(row_type: DataType) -> Self {
        CollectRows { item: Arc::new(Field::new("item", row_type, false)), chunks: vec![], places: vec![] }
    }

    fn lists(&self, groups: Option<&[usize]>) -> Result<ArrayRef> {
        let all: Vec<usize>;
        let groups = match groups {
            Some(groups) => groups,
            None => {
                all = (0..self.places.len()).collect();
                &all
            }
        };
        let mut offsets = vec![0_i32];
        let mut places = vec![];
        for group in groups {
            places.extend_from_slice(&self.places[*group]);
            let end =
                i32::try_from(places.len()).map_err(|_| Error::internal("sessions have more rows than one state batch holds"))?;
            offsets.push(end);
        }
        let chunks: Vec<&dyn Array> = self.chunks.iter().map(AsRef::as_ref).collect();
        let values = if places.is_empty() { new_empty_array(self.item.data_type()) } else { interleave(&chunks, &places)? };
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(Arc::new(ListArray::try_new(self.item.clone(), offsets, values, None)?))
    }
}

impl GroupAccumulator for CollectRows {
    fn update(
        &mut self,
        argument: Option<&ArrayRef>,
        _filter: Option<&BooleanArray>,
        _weights: Option<&Int64Array>,
        groups: &[usize],
        total_groups: usize,
    ) -> Result<()> {
        let rows = argument.ok_or_else(|| Error::internal("there are no rows to collect"))?;
        self.places.resize(total_groups, vec![]);
        for (row, group) in groups.iter().enumerate() {
            self.places[*group].push((self.chunks.len(), row));
        }
        self.chunks.push(rows.clone());
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        let offsets = lists.value_offsets();
        self.places.resize(total_groups, vec![]);
        for (row, group) in groups.iter().enumerate() {
            let rows = offsets[row] as usize..offsets[row + 1] as usize;
            self.places[*group].extend(rows.map(|row| (self.chunks.len(), row)));
        }
        self.chunks.push(lists.values().clone());
        Ok(())
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("rows", DataType::List(self.item.clone()), false)]
    }

    fn state(&self, groups: Option<&[usize]>) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.lists(groups)?])
    }

    fn evaluate(&self, groups: Option<&[usize]>, _describe: GroupText<'_>) -> Result<ArrayRef> {
        self.lists(groups)
    }

    fn size_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.get_array_memory_size()).sum();
        let places: usize = self.places.iter().map(|places| places.capacity() * size_of::<(usize, usize)>()).sum();
        chunks + places
    }
}

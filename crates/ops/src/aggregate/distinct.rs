//! COUNT, SUM and AVG over distinct values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{filter as filter_array, take};
use arrow::datatypes::{DataType, Field, FieldRef, UInt32Type};
use thalweg_core::{Error, Result};

use super::rows::{chosen, refuse_retraction, selection};
use super::{GroupAccumulator, GroupText};
use crate::GroupKeys;

/// Gives each value of a group to `inner` once. Nulls do not count. State: a List of the values of the group.
pub(super) struct Distinct {
    name: String,
    /// The pairs (group: UInt32, value) met so far.
    pairs: GroupKeys,
    item: FieldRef,
    inner: Box<dyn GroupAccumulator>,
    total_groups: usize,
    pair_of_row: Vec<usize>,
}

impl Distinct {
    pub(super) fn new(name: String, argument: DataType, inner: Box<dyn GroupAccumulator>) -> Result<Self> {
        let item = Arc::new(Field::new("item", argument, true));
        let group = Arc::new(Field::new("group", DataType::UInt32, false));
        let pairs = GroupKeys::new(&[group, item.clone()])?;
        Ok(Distinct { name, pairs, item, inner, total_groups: 0, pair_of_row: vec![] })
    }

    /// Takes in values, none of them null.
    fn add(&mut self, values: ArrayRef, groups: &[usize], total_groups: usize) -> Result<()> {
        self.total_groups = total_groups;
        let group_column: ArrayRef = Arc::new(UInt32Array::from_iter_values(groups.iter().map(|group| *group as u32)));
        let new_rows = self.pairs.intern(&[group_column, values.clone()], groups.len(), &mut self.pair_of_row)?;
        let new_groups: Vec<usize> = new_rows.iter().map(|row| groups[*row as usize]).collect();
        let new_values = take(&values, &UInt32Array::from(new_rows), None)?;
        self.inner.update(Some(&new_values), None, None, &new_groups, total_groups)
    }
}

impl GroupAccumulator for Distinct {
    fn update(
        &mut self,
        argument: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        weights: Option<&Int64Array>,
        groups: &[usize],
        total_groups: usize,
    ) -> Result<()> {
        refuse_retraction(&self.name, weights)?;
        let argument = argument.ok_or_else(|| Error::internal(format!("{} gets no argument", self.name)))?;
        match selection(Some(argument), filter) {
            None => self.add(argument.clone(), groups, total_groups),
            Some(selection) => {
                let values = filter_array(argument, &BooleanArray::new(selection.inner().clone(), None))?;
                let groups: Vec<usize> = selection.valid_indices().map(|row| groups[row]).collect();
                self.add(values, &groups, total_groups)
            }
        }
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        let offsets = lists.value_offsets();
        let mut groups_of_values = Vec::with_capacity(lists.values().len());
        for (row, group) in groups.iter().enumerate() {
            groups_of_values.extend(std::iter::repeat_n(*group, (offsets[row + 1] - offsets[row]) as usize));
        }
        let values = lists.values().slice(offsets[0] as usize, groups_of_values.len());
        self.add(values, &groups_of_values, total_groups)
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("values", DataType::List(self.item.clone()), false)]
    }

    fn state(&self, groups: Option<&[usize]>) -> Result<Vec<ArrayRef>> {
        // The pairs of each group, by counting sort over all pairs.
        let group_of_pair = self.pairs.column(0)?;
        let group_of_pair = group_of_pair.as_primitive::<UInt32Type>().values();
        let mut start_of_group = vec![0_usize; self.total_groups + 1];
        group_of_pair.iter().for_each(|group| start_of_group[*group as usize + 1] += 1);
        for group in 0..self.total_groups {
            start_of_group[group + 1] += start_of_group[group];
        }
        let mut next = start_of_group.clone();
        let mut sorted = vec![0_u32; group_of_pair.len()];
        for (pair, group) in (0_u32..).zip(group_of_pair) {
            sorted[next[*group as usize]] = pair;
            next[*group as usize] += 1;
        }

        let mut offsets = vec![0_i32];
        let mut indices: Vec<u32> = vec![];
        for group in chosen(groups, self.total_groups).iter() {
            indices.extend_from_slice(&sorted[start_of_group[*group]..start_of_group[*group + 1]]);
            let end = i32::try_from(indices.len())
                .map_err(|_| Error::internal(format!("{} has more values than one state batch holds", self.name)))?;
            offsets.push(end);
        }
        let values = take(&self.pairs.column(1)?, &UInt32Array::from(indices), None)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(vec![Arc::new(ListArray::try_new(self.item.clone(), offsets, values, None)?)])
    }

    fn evaluate(&self, groups: Option<&[usize]>, describe: GroupText<'_>) -> Result<ArrayRef> {
        self.inner.evaluate(groups, describe)
    }

    fn size_bytes(&self) -> usize {
        self.pairs.size_bytes() + self.inner.size_bytes()
    }
}

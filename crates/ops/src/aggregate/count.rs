//! COUNT(*) and COUNT(x).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type};
use thalweg_core::Result;

use super::rows::{chosen, for_each_row, selection};
use super::{GroupAccumulator, GroupText};

/// The number of rows that count. State: the number, Int64. Never null.
#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl GroupAccumulator for Count {
    fn update(
        &mut self,
        argument: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        weights: Option<&Int64Array>,
        groups: &[usize],
        total_groups: usize,
    ) -> Result<()> {
        self.counts.resize(total_groups, 0);
        let counts = &mut self.counts;
        for_each_row(selection(argument, filter).as_ref(), weights, groups, |_, group, weight| counts[group] += weight);
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.counts.resize(total_groups, 0);
        for (group, count) in groups.iter().zip(states[0].as_primitive::<Int64Type>().values()) {
            self.counts[*group] += count;
        }
        Ok(())
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("count", DataType::Int64, false)]
    }

    fn state(&self, groups: Option<&[usize]>) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.counts(groups)])
    }

    fn evaluate(&self, groups: Option<&[usize]>, _describe: GroupText<'_>) -> Result<ArrayRef> {
        Ok(self.counts(groups))
    }

    fn size_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}

impl Count {
    fn counts(&self, groups: Option<&[usize]>) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(chosen(groups, self.counts.len()).iter().map(|group| self.counts[*group])))
    }
}

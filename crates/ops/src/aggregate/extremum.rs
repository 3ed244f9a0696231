//! MIN and MAX.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, Int64Array, PrimitiveArray,
    StringArray, downcast_primitive,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int8Type};
use thalweg_core::{Error, Result};

use super::rows::{chosen, for_each_row, refuse_retraction, selection};
use super::{GroupAccumulator, GroupText};

/// The least or greatest value that is not null; null without one. State: the value.
///
/// Text and bytes compare byte by byte, FALSE is less than TRUE, NaN is greater than every other number and -0.0 less than 0.0.
/// # Errors
/// `User` for types that have no order.
pub(super) fn create(name: &str, argument: &DataType, is_max: bool) -> Result<Box<dyn GroupAccumulator>> {
    let common = Common { name: name.to_string(), data_type: argument.clone(), is_max };
    macro_rules! primitive {
        ($t:ty) => {
            Ok(Box::new(PrimitiveExtremum::<$t> { common, best: vec![], seen: vec![] }))
        };
    }
    downcast_primitive! {
        argument => (primitive),
        DataType::Boolean => Ok(Box::new(PrimitiveExtremum::<Int8Type> { common, best: vec![], seen: vec![] })),
        DataType::Utf8 | DataType::Binary => Ok(Box::new(BytesExtremum { common, best: vec![] })),
        other => Err(Error::user(format!("{name} does not take {other}")))
    }
}

struct Common {
    name: String,
    data_type: DataType,
    is_max: bool,
}

impl Common {
    fn argument<'a>(&self, argument: Option<&'a ArrayRef>, weights: Option<&Int64Array>) -> Result<&'a ArrayRef> {
        refuse_retraction(&self.name, weights)?;
        argument.ok_or_else(|| Error::internal(format!("{} gets no argument", self.name)))
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("value", self.data_type.clone(), true)]
    }
}

/// Numbers, dates, times, decimals; booleans as Int8.
struct PrimitiveExtremum<T: ArrowPrimitiveType> {
    common: Common,
    best: Vec<T::Native>,
    seen: Vec<bool>,
}

impl<T: ArrowPrimitiveType> PrimitiveExtremum<T> {
    fn values(&self, groups: Option<&[usize]>) -> Result<ArrayRef> {
        let values = chosen(groups, self.best.len())
            .iter()
            .map(|group| self.seen[*group].then_some(self.best[*group]))
            .collect::<PrimitiveArray<T>>();
        match &self.common.data_type {
            DataType::Boolean => Ok(cast(&values, &DataType::Boolean)?),
            data_type => Ok(Arc::new(values.with_data_type(data_type.clone()))),
        }
    }
}

impl<T: ArrowPrimitiveType> GroupAccumulator for PrimitiveExtremum<T> {
    fn update(
        &mut self,
        argument: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        weights: Option<&Int64Array>,
        groups: &[usize],
        total_groups: usize,
    ) -> Result<()> {
        self.best.resize(total_groups, T::Native::default());
        self.seen.resize(total_groups, false);
        let argument = self.common.argument(argument, weights)?;
        let stored = match argument.data_type() {
            DataType::Boolean => cast(argument, &DataType::Int8)?,
            _ => argument.clone(),
        };
        let values = stored.as_primitive::<T>().values();
        let (best, seen, is_max) = (&mut self.best, &mut self.seen, self.common.is_max);
        for_each_row(selection(Some(argument), filter).as_ref(), None, groups, |row, group, _| {
            let value = values[row];
            let is_better = if is_max { value.is_gt(best[group]) } else { value.is_lt(best[group]) };
            if is_better || !seen[group] {
                best[group] = value;
                seen[group] = true;
            }
        });
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.update(states.first(), None, None, groups, total_groups)
    }

    fn state_fields(&self) -> Vec<Field> {
        self.common.state_fields()
    }

    fn state(&self, groups: Option<&[usize]>) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.values(groups)?])
    }

    fn evaluate(&self, groups: Option<&[usize]>, _describe: GroupText<'_>) -> Result<ArrayRef> {
        self.values(groups)
    }

    fn size_bytes(&self) -> usize {
        self.best.capacity() * size_of::<T::Native>() + self.seen.capacity()
    }
}

/// Text and bytes.
struct BytesExtremum {
    common: Common,
    best: Vec<Option<Box<[u8]>>>,
}

impl BytesExtremum {
    fn offer<'a>(&mut self, selected: &[(usize, usize)], value: impl Fn(usize) -> &'a [u8]) {
        for (row, group) in selected {
            let value = value(*row);
            let is_better =
                self.best[*group].as_deref().is_none_or(|best| if self.common.is_max { value > best } else { value < best });
            if is_better {
                self.best[*group] = Some(value.into());
            }
        }
    }

    fn values(&self, groups: Option<&[usize]>) -> Result<ArrayRef> {
        let groups = chosen(groups, self.best.len());
        let values = groups.iter().map(|group| self.best[*group].as_deref());
        if self.common.data_type == DataType::Binary {
            return Ok(Arc::new(BinaryArray::from_iter(values)));
        }
        let texts = values
            .map(|value| value.map(std::str::from_utf8).transpose())
            .collect::<Result<StringArray, _>>()
            .map_err(|error| Error::internal(format!("{} holds text that is not UTF-8", self.common.name)).with_cause(error))?;
        Ok(Arc::new(texts))
    }
}

impl GroupAccumulator for BytesExtremum {
    fn update(
        &mut self,
        argument: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        weights: Option<&Int64Array>,
        groups: &[usize],
        total_groups: usize,
    ) -> Result<()> {
        self.best.resize(total_groups, None);
        let argument = self.common.argument(argument, weights)?;
        let mut selected = Vec::with_capacity(groups.len());
        for_each_row(selection(Some(argument), filter).as_ref(), None, groups, |row, group, _| selected.push((row, group)));
        match argument.data_type() {
            DataType::Binary => {
                let values = argument.as_binary::<i32>();
                self.offer(&selected, |row| values.value(row));
            }
            _ => {
                let values = argument.as_string::<i32>();
                self.offer(&selected, |row| values.value(row).as_bytes());
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.update(states.first(), None, None, groups, total_groups)
    }

    fn state_fields(&self) -> Vec<Field> {
        self.common.state_fields()
    }

    fn state(&self, groups: Option<&[usize]>) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.values(groups)?])
    }

    fn evaluate(&self, groups: Option<&[usize]>, _describe: GroupText<'_>) -> Result<ArrayRef> {
        self.values(groups)
    }

    fn size_bytes(&self) -> usize {
        let bytes: usize = self.best.iter().flatten().map(|value| value.len()).sum();
        bytes + self.best.capacity() * size_of::<Option<Box<[u8]>>>()
    }
}

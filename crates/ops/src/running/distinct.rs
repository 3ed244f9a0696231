//! DISTINCT for any fold.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};
use arrow::row::Rows;
use thalweg_core::Result;

use super::extremum::{Counts, add_count, bind, counts_bytes};
use super::{Fold, Problem, ValueCodec, collection};

/// Gives each value of a group to `inner` when it first comes, and takes it back when the last of it goes.
///
/// State: each value with its count, then the state of `inner`.
pub(super) struct DistinctValues<F> {
    inner: F,
    codec: ValueCodec,
    /// If rows are never taken back, counts need not grow.
    updating: bool,
}

pub(super) struct DistinctState<S> {
    counts: Counts,
    inner: S,
}

impl<S: Default> Default for DistinctState<S> {
    fn default() -> Self {
        DistinctState { counts: Counts::new(), inner: S::default() }
    }
}

impl<F: Fold> DistinctValues<F> {
    pub(super) fn new(inner: F, argument: &DataType, updating: bool) -> Result<Self> {
        Ok(DistinctValues { inner, codec: ValueCodec::new(argument)?, updating })
    }
}

impl<F: Fold> Fold for DistinctValues<F> {
    type State = DistinctState<F::State>;
    type Bound = (Rows, F::Bound);
    type Results = F::Results;

    fn takes_nulls(&self) -> bool {
        self.inner.takes_nulls()
    }

    fn bind(&self, argument: Option<&ArrayRef>) -> Result<Self::Bound> {
        Ok((bind(&self.codec, argument)?, self.inner.bind(argument)?))
    }

    fn add(&self, state: &mut Self::State, (values, bound): &Self::Bound, row: usize, weight: i64) -> Result<(), Problem> {
        let value = values.row(row).data();
        let was_there = state.counts.contains_key(value);
        if was_there && !self.updating && weight > 0 {
            return Ok(());
        }
        add_count(&mut state.counts, value, if self.updating || weight < 0 { weight } else { 1 })?;
        match (was_there, state.counts.contains_key(value)) {
            (false, true) => self.inner.add(&mut state.inner, bound, row, 1),
            (true, false) => self.inner.add(&mut state.inner, bound, row, -1),
            _ => Ok(()),
        }
    }

    fn push_result(&self, state: &Self::State, results: &mut F::Results) -> Result<(), Problem> {
        self.inner.push_result(&state.inner, results)
    }

    fn finish(&self, results: F::Results) -> Result<ArrayRef> {
        self.inner.finish(results)
    }

    fn state_fields(&self) -> Vec<Field> {
        let inner = self.inner.state_fields().into_iter().map(|field| {
            let name = format!("inner.{}", field.name());
            field.with_name(name)
        });
        collection::count_fields(&self.codec).into_iter().chain(inner).collect()
    }

    fn write(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>> {
        let pairs = |state: &&Self::State| state.counts.iter().map(|(value, count)| (value.to_vec(), *count)).collect();
        let mut columns = collection::write_counts(&self.codec, states.iter().map(pairs).collect())?;
        columns.extend(self.inner.write(&states.iter().map(|state| &state.inner).collect::<Vec<_>>())?);
        Ok(columns)
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Self::State>> {
        let counts = collection::read_counts(&self.codec, columns)?;
        let inner = self.inner.read(&columns[2..])?;
        let state = |(pairs, inner): (Vec<(Vec<u8>, i64)>, F::State)| DistinctState {
            counts: pairs.into_iter().map(|(value, count)| (value.into(), count)).collect(),
            inner,
        };
        Ok(counts.into_iter().zip(inner).map(state).collect())
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        counts_bytes(&state.counts) + self.inner.heap_bytes(&state.inner)
    }

    fn result_bytes(&self, state: &Self::State) -> usize {
        self.inner.result_bytes(&state.inner)
    }

    fn collects(&self) -> bool {
        self.inner.collects()
    }
}

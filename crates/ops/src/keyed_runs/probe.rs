//! Finding the rows of keys, and reading them out.

use arrow::array::{ArrayRef, UInt32Array, new_empty_array, new_null_array};
use arrow::compute::{interleave, take};
use arrow::datatypes::DataType;
use thalweg_core::Result;

use super::delta::NIL;
use super::entries::Entries;
use super::equality::equal_rows;
use super::{KeyedRuns, Place};

/// Rows of one segment that match one row of a probe; some of them may be gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// Of the probe.
    pub(crate) row: u32,
    segment: u32,
    start: u32,
    /// [`CHAIN`] for a chain of the delta that begins at `start`.
    length: u32,
}

impl Span {
    /// The same matches for another row of the probe.
    pub(crate) fn of_row(self, row: u32) -> Span {
        Span { row, ..self }
    }
}

const CHAIN: u32 = u32::MAX;

/// How much may still be taken into a chunk of matches.
pub(crate) struct Room {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Room {
    pub(crate) fn is_full(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }

    pub(crate) fn take(&mut self, bytes: usize) {
        self.rows -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The matches of a probe, read row by row. Meanwhile no row may be added to what is probed.
#[derive(Default)]
pub(crate) struct Matches {
    spans: Vec<Span>,
    next_span: usize,
    /// Where to go on in that span.
    resume_at: Option<u32>,
}

impl Matches {
    /// `spans` are in order of the probe's rows.
    pub(crate) fn new(spans: Vec<Span>) -> Self {
        Matches { spans, next_span: 0, resume_at: None }
    }

    /// Appends the matches of `row` to `places`, in order of arrival, while there is room. Returns whether that was all of them.
    /// Rows are asked for in order; those that are left out are skipped.
    pub(crate) fn collect(&mut self, held: &KeyedRuns, row: u32, room: &mut Room, places: &mut Vec<Place>) -> bool {
        while let Some(span) = self.spans.get(self.next_span).filter(|span| span.row <= row) {
            if span.row == row {
                let row_bytes = held.widest_row(span.segment);
                let end = if span.length == CHAIN { NIL } else { span.start + span.length };
                let mut at = self.resume_at.take().unwrap_or(span.start);
                while at != end {
                    if room.is_full() {
                        self.resume_at = Some(at);
                        return false;
                    }
                    if held.entries(span.segment).is_live(at as usize) {
                        places.push(Place { segment: span.segment, position: at });
                        room.take(row_bytes);
                    }
                    at = if span.length == CHAIN { held.delta.next(at) } else { at + 1 };
                }
            }
            (self.next_span, self.resume_at) = (self.next_span + 1, None);
        }
        true
    }
}

/// Places resolved to arrays, to gather several columns from them.
pub(crate) struct Located {
    /// Which arrays are needed: runs, then chunks of the delta; `None` gives nulls.
    sources: Vec<Option<usize>>,
    indices: Vec<(usize, usize)>,
}

impl KeyedRuns {
    /// Where the rows are whose key is that of one of `rows`, of columns `keys` with hashes `hashes`: by row, then in order of
    /// arrival.
    pub(crate) fn probe(&self, keys: &[ArrayRef], hashes: &[u64], rows: &[u32]) -> Result<Vec<Span>> {
        let mut spans = vec![];
        let mut segments = 0;
        for (segment, run) in (0_u32..).zip(&self.runs) {
            let first = spans.len();
            for row in rows {
                if let Some(found) = run.find(hashes[*row as usize]) {
                    spans.push(Span { row: *row, segment, start: found.start, length: found.end - found.start });
                }
            }
            self.keep_equal(keys, &mut spans, first)?;
            segments += usize::from(spans.len() > first);
        }
        let first = spans.len();
        for row in rows {
            if let Some(start) = self.delta.find(hashes[*row as usize]) {
                spans.push(Span { row: *row, segment: Place::DELTA, start, length: CHAIN });
            }
        }
        self.keep_equal(keys, &mut spans, first)?;
        segments += usize::from(spans.len() > first);
        if segments > 1 {
            spans.sort_by_key(|span| span.row);
        }
        Ok(spans)
    }

    /// All rows there are, as matches of `row`.
    pub(crate) fn all(&self, row: u32) -> Vec<Span> {
        let runs = (0_u32..).zip(&self.runs).map(|(segment, run)| (segment, run.len()));
        runs.chain([(Place::DELTA, self.delta.len())])
            .map(|(segment, length)| Span { row, segment, start: 0, length: length as u32 })
            .collect()
    }

    /// For each of `rows`, the sum of the weights of the rows with its key; no more is looked for once it exceeds that row's limit.
    pub(crate) fn weight_up_to(&self, keys: &[ArrayRef], hashes: &[u64], rows: &[u32], limits: &[i64]) -> Result<Vec<i64>> {
        let mut matches = Matches::new(self.probe(keys, hashes, rows)?);
        let mut places = vec![];
        let mut sum_up = |row: u32, limit: i64| {
            let mut sum = 0_i64;
            loop {
                places.clear();
                let mut room = Room { rows: 64, bytes: usize::MAX };
                let is_all = matches.collect(self, row, &mut room, &mut places);
                sum = places.iter().fold(sum, |sum, place| sum.saturating_add(self.weight(*place)));
                if is_all || sum > limit {
                    return sum;
                }
            }
        };
        Ok(rows.iter().zip(limits).map(|(row, limit)| sum_up(*row, *limit)).collect())
    }

    /// Finds the arrays behind `places`.
    pub(crate) fn locate(&self, places: &[Place]) -> Located {
        let mut slots = vec![usize::MAX; self.runs.len() + self.delta.chunks.len()];
        let mut nulls = usize::MAX;
        let mut located = Located { sources: vec![], indices: Vec::with_capacity(places.len()) };
        for place in places {
            let (source, row) = match place.segment {
                Place::NOWHERE => (None, 0),
                Place::DELTA => {
                    let (chunk, row) = self.delta.locate(place.position);
                    (Some(self.runs.len() + chunk), row)
                }
                segment => (Some(segment as usize), place.position as usize),
            };
            let slot = source.map_or(&mut nulls, |source| &mut slots[source]);
            if *slot == usize::MAX {
                *slot = located.sources.len();
                located.sources.push(source);
            }
            located.indices.push((*slot, row));
        }
        located
    }

    /// A kept column at `located`; null where there is no place.
    pub(crate) fn gather(&self, column: usize, located: &Located) -> Result<ArrayRef> {
        let data_type = self.options.schema.field(column).data_type();
        let null = new_null_array(data_type, 1);
        let array = |source: &Option<usize>| match *source {
            None => &null,
            Some(source) if source < self.runs.len() => self.runs[source].rows.column(column),
            Some(source) => self.delta.chunks[source - self.runs.len()].column(column),
        };
        let arrays: Vec<&ArrayRef> = located.sources.iter().map(array).collect();
        if arrays.is_empty() {
            return Ok(new_empty_array(data_type));
        }
        gather_from(&arrays, located.indices.iter().copied())
    }

    pub(crate) fn weight(&self, place: Place) -> i64 {
        self.entries(place.segment).weight(place.position as usize)
    }

    pub(crate) fn matches(&self, place: Place) -> i64 {
        self.entries(place.segment).matches(place.position as usize)
    }

    pub(crate) fn set_matches(&mut self, place: Place, matches: i64) {
        self.entries_mut(place.segment).set_matches(place.position as usize, matches);
    }

    pub(super) fn entries(&self, segment: u32) -> &Entries {
        match segment {
            Place::DELTA => &self.delta.entries,
            run => &self.runs[run as usize].entries,
        }
    }

    pub(super) fn entries_mut(&mut self, segment: u32) -> &mut Entries {
        match segment {
            Place::DELTA => &mut self.delta.entries,
            run => &mut self.runs[run as usize].entries,
        }
    }

    fn widest_row(&self, segment: u32) -> usize {
        match segment {
            Place::DELTA => self.delta.widest_row,
            run => self.runs[run as usize].widest_row,
        }
    }

    /// Drops those of `spans[first..]`, all of one segment, whose key has only the hash in common with the probe's.
    fn keep_equal(&self, keys: &[ArrayRef], spans: &mut Vec<Span>, first: usize) -> Result<()> {
        let Some(segment) = spans.get(first).map(|span| span.segment).filter(|_| !keys.is_empty()) else {
            return Ok(());
        };
        let collides = if segment == Place::DELTA { self.delta.collides } else { self.runs[segment as usize].collides };
        if collides {
            let found = spans.split_off(first);
            spans.extend(found.into_iter().flat_map(|span| self.single(span)));
        }
        // All rows of a span have one key, so its first row speaks for it.
        let rows = UInt32Array::from_iter_values(spans[first..].iter().map(|span| span.row));
        let starts: Vec<u32> = spans[first..].iter().map(|span| span.start).collect();
        let mut probed = vec![];
        let mut found = vec![];
        for (key, column) in keys.iter().zip(&self.options.keys) {
            probed.push(take(key, &rows, None)?);
            found.push(match segment {
                Place::DELTA => self.delta.gather(*column, &starts)?,
                run => take(self.runs[run as usize].rows.column(*column), &UInt32Array::from(starts.clone()), None)?,
            });
        }
        let equal = equal_rows(&probed, &found, starts.len())?;
        if equal.count_set_bits() < starts.len() {
            let mut number = 0;
            spans.retain(|_| {
                number += 1;
                number <= first || equal.value(number - 1 - first)
            });
        }
        Ok(())
    }

    /// One span for each row of `span`.
    fn single(&self, span: Span) -> Vec<Span> {
        let only = |start| Span { start, length: 1, ..span };
        if span.length != CHAIN {
            return (span.start..span.start + span.length).map(only).collect();
        }
        let following = |at: &u32| Some(self.delta.next(*at)).filter(|next| *next != NIL);
        std::iter::successors(Some(span.start), following).map(only).collect()
    }
}

/// The values of `arrays` at `(array, row)`.
pub(super) fn gather_from(arrays: &[&ArrayRef], indices: impl Iterator<Item = (usize, usize)>) -> Result<ArrayRef> {
    if let [only] = arrays {
        let rows = UInt32Array::from_iter_values(indices.map(|(_, row)| row as u32));
        return Ok(take(only, &rows, None)?);
    }
    let arrays: Vec<&dyn arrow::array::Array> = arrays.iter().map(|array| array.as_ref()).collect();
    Ok(interleave(&arrays, &indices.collect::<Vec<_>>())?)
}

/// The data types of some columns, to compare schemas by.
pub(super) fn types(schema: &arrow::datatypes::Schema) -> Vec<DataType> {
    schema.fields().iter().map(|field| field.data_type().clone()).collect()
}

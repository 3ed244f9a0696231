//! One input of an interval join and the rows that are kept of it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use thalweg_core::{Batch, EventTime, Result};
use thalweg_state::StatePart;

use crate::event_times::event_times;
use crate::running::canonical_floats;
use crate::time_buckets::{Place, TimeBuckets};

/// Slots of time are not shorter, so that a short interval has not too many of them.
const BUCKET_MS_MIN: i64 = 1_000;
/// Slots that an interval spans, about.
const BUCKETS_PER_SPAN: i64 = 4;

pub(super) struct SideLayout {
    pub(super) name: &'static str,
    pub(super) time_column: usize,
    /// The last time of the other side that matches a row is this much after its own.
    pub(super) reach_ms: i64,
    /// How far the times are apart that match a row.
    pub(super) span_ms: i64,
    /// Whether all rows keep the watermark at which they came.
    pub(super) stamps_rows: bool,
    /// Whether rows without a match come out, padded.
    pub(super) is_outer: bool,
    /// The key columns, and whether a null matches a null there.
    pub(super) keys: Vec<(usize, bool)>,
}

pub(super) struct Side {
    pub(super) layout: SideLayout,
    pub(super) rows: TimeBuckets,
    /// Number of the input's columns; behind them stands when the row came, if it was late or all rows are stamped.
    pub(super) width: usize,
    pub(super) stored_schema: SchemaRef,
    time_name: String,
    bucket_ms: i64,
    /// Of an outer side the rows without a match so far, by the watermark that leaves them without.
    waiting: BTreeSet<(i64, Place)>,
    /// The watermark up to which the rows of a slot are needed.
    needed_until: BTreeMap<i64, i64>,
}

/// When a row is there for rows of the other side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// The last time that matches it.
    limit: i64,
    /// The watermark of its partition when it came; for a row that is not late it is enough that it was smaller than its time.
    came_at: i64,
    /// `came_at`, if the row was late.
    late_at: Option<i64>,
    /// The watermark of its partition when it came, if it was late or all rows are stamped.
    pub(super) own: Option<i64>,
}

impl Stamp {
    /// Whether the row that came first was still there when the other one came. Rows that are not late always meet.
    pub(super) fn meets(&self, other: &Stamp) -> bool {
        match self.came_at.cmp(&other.came_at) {
            Ordering::Less => other.came_at <= self.limit,
            Ordering::Greater => self.came_at <= other.limit,
            // No telling which one was first.
            Ordering::Equal => self.came_at <= self.limit.max(other.limit),
        }
    }

    /// The watermark up to which rows may come that meet this one.
    pub(super) fn until(&self) -> i64 {
        self.late_at.map_or(self.limit, |late_at| late_at.max(self.limit))
    }
}

/// What became of the rows of a batch.
pub(super) struct Entered {
    pub(super) times: Int64Array,
    pub(super) stamps: Vec<Stamp>,
    /// Whether a row's key and the interval can match anything.
    pub(super) can_match: Vec<bool>,
    /// `None`: the row is not kept.
    pub(super) places: Vec<Option<Place>>,
}

impl Side {
    pub(super) fn new(layout: SideLayout, input: &SchemaRef) -> Result<Self> {
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        // Under the name that it has in older checkpoints, where only late rows have it.
        fields.push(Arc::new(Field::new("late_at", DataType::Int64, true)));
        let stored_schema: SchemaRef = Arc::new(Schema::new(fields));
        let keys: Vec<usize> = layout.keys.iter().map(|(column, _)| *column).collect();
        Ok(Side {
            rows: TimeBuckets::new(layout.name, &stored_schema, &keys)?,
            width: input.fields().len(),
            stored_schema,
            time_name: input.field(layout.time_column).name().clone(),
            bucket_ms: (layout.span_ms / BUCKETS_PER_SPAN).max(BUCKET_MS_MIN),
            waiting: BTreeSet::new(),
            needed_until: BTreeMap::new(),
            layout,
        })
    }

    /// The slot of a time.
    pub(super) fn bucket(&self, time: i64) -> i64 {
        time.div_euclid(self.bucket_ms)
    }

    pub(super) fn key_columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.layout.keys.iter().map(|(column, _)| canonical_floats(rows.column(*column))).collect()
    }

    /// `own` is the watermark of the row's partition when it came, if that is known.
    pub(super) fn stamp(&self, time: i64, own: Option<i64>) -> Stamp {
        let just_before = time.saturating_sub(1);
        let late_at = own.filter(|own| time <= *own && *own > i64::MIN);
        Stamp {
            limit: time.saturating_add(self.layout.reach_ms),
            came_at: late_at.unwrap_or(just_before),
            late_at,
            own: if self.layout.stamps_rows { own.or(Some(just_before)) } else { late_at },
        }
    }

    /// The watermark that a row carries which was kept and has no match: the one that leaves it so, or its own.
    pub(super) fn unmatched_at(&self, stamp: &Stamp) -> Option<i64> {
        if self.layout.stamps_rows { stamp.own.max(Some(stamp.limit)) } else { stamp.own }
    }

    /// Keeps the rows that rows still to come may match. `watermark` is the operator's.
    /// # Errors
    /// `Record` when an event time is null.
    pub(super) fn take_in(&mut self, batch: &Batch, watermark: EventTime, is_empty: bool) -> Result<Entered> {
        let times = event_times(batch.column(self.layout.time_column), &self.time_name)?;
        let strict: Vec<usize> = self.layout.keys.iter().filter(|(_, nulls)| !nulls).map(|(column, _)| *column).collect();
        let mut entered = Entered { times, stamps: vec![], can_match: vec![], places: vec![None; batch.num_rows()] };
        let (mut kept, mut came_at, mut buckets) = (vec![], vec![], vec![]);
        for row in 0..batch.num_rows() {
            let time = entered.times.value(row);
            let own = match &batch.row_watermarks {
                Some(own) => own.value(row),
                // It was sent when the watermark reached its time.
                None if self.layout.stamps_rows => time.saturating_sub(1),
                None => i64::MIN,
            };
            let stamp = self.stamp(time, Some(own.max(watermark.0)));
            let can_match = !is_empty && strict.iter().all(|column| !batch.column(*column).is_null(row));
            if can_match && !is_past(watermark, stamp.until()) {
                kept.push(row as u32);
                came_at.push(stamp.own);
                buckets.push(self.bucket(time));
            }
            entered.stamps.push(stamp);
            entered.can_match.push(can_match);
        }
        if kept.is_empty() {
            return Ok(entered);
        }
        let own = match kept.len() == batch.num_rows() {
            true => batch.rows.clone(),
            false => take_record_batch(&batch.rows, &UInt32Array::from(kept.clone()))?,
        };
        let mut columns = own.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(came_at)));
        let places = self.rows.add(&RecordBatch::try_new(self.stored_schema.clone(), columns)?, &buckets)?;
        for (row, place) in kept.into_iter().zip(places) {
            entered.places[row as usize] = Some(place);
            self.wait(place, entered.stamps[row as usize].until(), false);
        }
        Ok(entered)
    }

    fn wait(&mut self, place: Place, until: i64, is_done: bool) {
        if self.layout.is_outer && !is_done {
            self.waiting.insert((until, place));
        }
        let needed = self.needed_until.entry(place.0).or_insert(until);
        *needed = until.max(*needed);
    }

    /// A kept row has a match.
    pub(super) fn on_match(&mut self, place: Place, until: i64) {
        if self.layout.is_outer && self.waiting.remove(&(until, place)) {
            self.rows.mark(place);
        }
    }

    /// The next rows of an outer side, at most `count`, that the watermark has left without a match.
    pub(super) fn ruled_out(&mut self, watermark: EventTime, count: usize) -> Vec<Place> {
        let mut places = vec![];
        while places.len() < count
            && let Some((until, place)) = self.waiting.first().copied().filter(|(until, _)| is_past(watermark, *until))
        {
            self.waiting.remove(&(until, place));
            self.rows.mark(place);
            places.push(place);
        }
        places
    }

    /// Drops the slots whose rows can match nothing any more.
    pub(super) fn drop_ruled_out(&mut self, watermark: EventTime) {
        let past: Vec<i64> =
            self.needed_until.iter().filter(|(_, until)| is_past(watermark, **until)).map(|(bucket, _)| *bucket).collect();
        for bucket in past {
            self.needed_until.remove(&bucket);
            self.rows.remove(bucket);
        }
    }

    pub(super) fn restore(&mut self, parts: &[StatePart]) -> Result<()> {
        self.rows.restore(parts)?;
        for (rows, places) in self.rows.rows()? {
            let times = event_times(rows.column(self.layout.time_column), &self.time_name)?;
            let came_at = rows.column(self.width).as_primitive::<Int64Type>();
            for (row, place) in places.into_iter().enumerate() {
                let stamp = self.stamp(times.value(row), came_at.is_valid(row).then(|| came_at.value(row)));
                self.wait(place, stamp.until(), self.rows.is_marked(place));
            }
        }
        Ok(())
    }
}

/// Whether the watermark has passed a time.
fn is_past(watermark: EventTime, time: i64) -> bool {
    watermark == EventTime::MAX || watermark.0 > time
}

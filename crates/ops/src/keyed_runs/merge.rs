//! Sealing the delta, merging runs, and letting old rows go.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use thalweg_core::Result;

use super::KeyedRuns;
use super::delta::Delta;
use super::entries::{Entries, UNTIMED};
use super::probe::gather_from;
use super::run::Run;

/// So many runs of about one size become one.
const FAN_IN: usize = 4;

/// No run is made larger than this many times what seals a delta: merging stays a matter of a moment, and the offsets of text
/// columns stay within their 31 bits.
const LARGEST_RUN: usize = 64;

impl KeyedRuns {
    /// Tidies up when a batch is done: places do not hold any more.
    pub(crate) fn maintain(&mut self) -> Result<()> {
        if self.delta.bytes() >= self.seal_bytes {
            self.shrink_or_seal()?;
        }
        for number in (0..self.runs.len()).rev() {
            if self.runs[number].entries.live() * 2 < self.runs[number].len() {
                self.merge(number, 1)?;
            }
        }
        while let Some(first) = self.mergeable() {
            self.merge(first, self.runs.len() - first)?;
        }
        Ok(())
    }

    /// Tells the time: rows touched since the last call were touched now; rows that were not for too long go.
    pub(crate) fn on_time(&mut self, now_ms: i64) -> Result<()> {
        let Some(time_to_live) = self.options.time_to_live_ms else { return Ok(()) };
        self.now_ms = now_ms;
        self.runs.iter_mut().map(|run| &mut run.entries).chain([&mut self.delta.entries]).for_each(|entries| {
            entries.set_time(now_ms);
        });
        let oldest_kept = now_ms.saturating_sub(time_to_live);
        // One by one only when they have waited for their run for a while: mostly it goes as one.
        let oldest_tolerated = oldest_kept.saturating_sub(time_to_live / 2);
        for number in (0..self.runs.len()).rev() {
            let Some((oldest, newest)) = self.runs[number].entries.touched_range() else { continue };
            if newest < oldest_kept {
                let run = self.runs.remove(number);
                self.drop_stored(&run, true);
            } else if oldest < oldest_tolerated {
                let entries = &mut self.runs[number].entries;
                for position in expired(entries, oldest_kept) {
                    entries.set_weight(position as usize, 0);
                }
                entries.set_time(now_ms);
            }
        }
        for position in expired(&self.delta.entries, oldest_kept) {
            self.delta.entries.set_weight(position as usize, 0);
            self.delta.unlink(position);
        }
        self.delta.entries.set_time(now_ms);
        self.maintain()
    }

    /// What is left of the delta becomes a run; if that is little, it stays.
    fn shrink_or_seal(&mut self) -> Result<()> {
        if self.delta.entries.live() * 2 < self.delta.len() {
            self.renew_delta()?;
        }
        if self.delta.bytes() * 2 >= self.seal_bytes {
            self.seal()?;
        }
        Ok(())
    }

    /// Begins a delta with the live rows of the one there is.
    fn renew_delta(&mut self) -> Result<()> {
        let live = self.delta.live();
        let old = self.next_delta();
        if live.is_empty() {
            return Ok(());
        }
        let rows = gather_rows(self.options.schema.clone(), live.len(), |column| old.gather(column, &live))?;
        let row_hashes = match self.options.is_updating {
            true => super::equality::row_hashes(rows.columns(), rows.num_rows())?,
            false => vec![],
        };
        self.delta.push_chunk(rows);
        for (number, position) in live.into_iter().enumerate() {
            let at = position as usize;
            let (weight, matches, touched) = (old.entries.weight(at), old.entries.matches(at), old.entries.touched(at));
            let added = self.delta.push(old.hash(position), weight, matches, touched);
            if let Some(row_hash) = row_hashes.get(number) {
                self.delta.link_row(added, *row_hash);
            }
        }
        self.delta.settle(&self.options)
    }

    fn seal(&mut self) -> Result<()> {
        let mut order = self.delta.live();
        let old = self.next_delta();
        if order.is_empty() {
            return Ok(());
        }
        order.sort_by_key(|position| old.hash(*position));
        let rows = gather_rows(self.options.schema.clone(), order.len(), |column| old.gather(column, &order))?;
        let hashes: Vec<u64> = order.iter().map(|position| old.hash(*position)).collect();
        let mut entries = Entries::new(self.options.entry_kind());
        order.iter().for_each(|position| entries.push_from(&old.entries, *position as usize));
        self.runs.push(Run::new(&self.options, (old.number, old.number), rows, &hashes, entries)?);
        Ok(())
    }

    /// Begins an empty delta and returns the one before it, whose slot is dropped.
    fn next_delta(&mut self) -> Delta {
        let next = Delta::new(&self.options, self.delta.number + 1);
        let old = std::mem::replace(&mut self.delta, next);
        if old.stored.exists {
            self.dropped.push(self.delta_slot(old.number));
        }
        old
    }

    /// The first of the runs at the end that are to become one.
    fn mergeable(&self) -> Option<usize> {
        let level = |run: &Run| (run.bytes / self.seal_bytes.max(1)).max(1).ilog2() / FAN_IN.ilog2();
        let last = level(self.runs.last()?);
        let alike = self.runs.iter().rev().take_while(|run| level(run) <= last).count();
        let largest = self.seal_bytes.saturating_mul(LARGEST_RUN);
        let fits = |first: &usize| {
            let runs = &self.runs[*first..];
            runs.iter().map(|run| run.bytes).sum::<usize>() <= largest && self.is_short(runs)
        };
        let end = self.runs.len();
        (end - alike..end.saturating_sub(FAN_IN - 1)).find(fits)
    }

    /// Whether runs were written closely enough together to be dropped together when their time comes.
    fn is_short(&self, runs: &[Run]) -> bool {
        let Some(time_to_live) = self.options.time_to_live_ms else { return true };
        let ranges = || runs.iter().filter_map(|run| run.entries.touched_range());
        let known = |time: i64| if time == UNTIMED { self.now_ms } else { time };
        let oldest = ranges().map(|range| known(range.0)).min().unwrap_or(0);
        let newest = ranges().map(|range| known(range.1)).max().unwrap_or(0);
        newest.saturating_sub(oldest) <= time_to_live / 2
    }

    /// Makes one run of the live rows of `count` runs from `first` on.
    fn merge(&mut self, first: usize, count: usize) -> Result<()> {
        let old: Vec<Run> = self.runs.splice(first..first + count, []).collect();
        let mut merged = merged(&self.options, &old)?;
        let keeps_name = count == 1 && merged.is_some();
        old.iter().for_each(|run| self.drop_stored(run, !keeps_name));
        if let (Some(run), true) = (&mut merged, keeps_name) {
            run.stored.has_slot = old[0].stored.has_slot;
        }
        self.runs.splice(first..first, merged);
        Ok(())
    }

    /// The store is to forget a run, or, if it is written anew, only its changes.
    fn drop_stored(&mut self, run: &Run, with_rows: bool) {
        if run.stored.has_slot && with_rows {
            self.dropped.push(self.run_slot(run));
        }
        if run.stored.written_changes > 0 {
            self.dropped.push(self.changes_slot(run));
        }
    }
}

fn expired(entries: &Entries, oldest_kept: i64) -> Vec<u32> {
    let is_expired = |position: &u32| entries.is_live(*position as usize) && entries.touched(*position as usize) < oldest_kept;
    (0..entries.len() as u32).filter(is_expired).collect()
}

/// `None` if nothing is left.
fn merged(options: &super::KeyedRunsOptions, runs: &[Run]) -> Result<Option<Run>> {
    let (Some(oldest), Some(newest)) = (runs.first(), runs.last()) else { return Ok(None) };
    let live = runs.iter().map(|run| run.entries.live()).sum();
    if live == 0 {
        return Ok(None);
    }
    let mut indices: Vec<(usize, usize)> = Vec::with_capacity(live);
    let mut hashes = Vec::with_capacity(live);
    let mut entries = Entries::new(options.entry_kind());
    let mut groups: Vec<_> = runs.iter().map(|run| run.groups().peekable()).collect();
    while let Some(hash) = groups.iter_mut().filter_map(|groups| groups.peek().map(|group| group.0)).min() {
        for (number, groups) in groups.iter_mut().enumerate() {
            let Some((_, rows)) = groups.next_if(|group| group.0 == hash) else { continue };
            for position in rows.map(|row| row as usize).filter(|row| runs[number].entries.is_live(*row)) {
                indices.push((number, position));
                hashes.push(hash);
                entries.push_from(&runs[number].entries, position);
            }
        }
    }
    let rows = gather_rows(options.schema.clone(), live, |column| {
        let arrays: Vec<&ArrayRef> = runs.iter().map(|run| run.rows.column(column)).collect();
        gather_from(&arrays, indices.iter().copied())
    })?;
    Run::new(options, (oldest.first, newest.last), rows, &hashes, entries).map(Some)
}

fn gather_rows(
    schema: arrow::datatypes::SchemaRef,
    rows: usize,
    gather: impl Fn(usize) -> Result<ArrayRef>,
) -> Result<RecordBatch> {
    let columns = (0..schema.fields().len()).map(gather).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

//! Slices of overlapping windows, merged ahead.
//!
//! Consecutive HOP windows share all slices but one. Aligned runs of 8, 64, 512… slices are merged once and kept, so a window
//! of `n` slices is put together from about `14 log8 n` tables in place of `n`.
//!
//! Only slices whose first window has fired, or fires now, are merged: those do not change any more.

use std::collections::BTreeMap;
use std::ops::Range;

use hashbrown::HashMap;
use thalweg_core::Result;

use super::bucket::{Bucket, BucketId};
use super::group_table::GroupTable;
use super::layout::WindowAggregateLayout;
use crate::window_bounds::WindowBounds;

const FAN_OUT: i64 = 8;

/// A run of `FAN_OUT ^ level` slices; the first is number `index * FAN_OUT ^ level`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct BlockId {
    level: u32,
    index: i64,
}

impl BlockId {
    fn first_slice(self) -> i64 {
        self.index * FAN_OUT.pow(self.level)
    }
}

/// Where the rows of a stretch of slices are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    Bucket(BucketId),
    Block(Block),
}

/// A merged run; private to this file but for passing it back to [`HopBlocks::table`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Block(BlockId);

/// The merged runs.
pub(super) struct HopBlocks {
    bounds: WindowBounds,
    tables: HashMap<BlockId, GroupTable>,
}

impl HopBlocks {
    pub(super) fn new(bounds: WindowBounds) -> Self {
        HopBlocks { bounds, tables: HashMap::new() }
    }

    /// The pieces that make up the slices of these numbers, merging where needed. Buckets of late rows are left out.
    pub(super) fn pieces(
        &mut self,
        layout: &WindowAggregateLayout,
        buckets: &BTreeMap<BucketId, Bucket>,
        slices: Range<i64>,
    ) -> Result<Vec<Piece>> {
        let mut pieces = vec![];
        let mut position = slices.start;
        while position < slices.end {
            let mut block = BlockId { level: 0, index: position };
            // A run at the very start would be of no use to the next window.
            if position > slices.start {
                block = widest(position, slices.end);
            }
            pieces.extend(self.piece(layout, buckets, block)?);
            position += FAN_OUT.pow(block.level);
        }
        Ok(pieces)
    }

    pub(super) fn table(&self, block: Block) -> Option<&GroupTable> {
        self.tables.get(&block.0)
    }

    /// Drops what no window needs that begins at slice number `first` or later.
    pub(super) fn forget_before(&mut self, first: i64) {
        self.tables.retain(|block, _| block.first_slice() > first);
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.tables.values().map(GroupTable::size_bytes).sum()
    }

    /// A run as one piece; `None` when it has no rows.
    fn piece(
        &mut self,
        layout: &WindowAggregateLayout,
        buckets: &BTreeMap<BucketId, Bucket>,
        block: BlockId,
    ) -> Result<Option<Piece>> {
        let mut present = self.buckets_of(buckets, block);
        let Some(only) = present.next() else {
            return Ok(None);
        };
        if present.next().is_none() {
            return Ok(Some(Piece::Bucket(only)));
        }
        drop(present);
        if !self.tables.contains_key(&block) {
            let mut table = GroupTable::new(layout)?;
            for child in 0..FAN_OUT {
                let child = BlockId { level: block.level - 1, index: block.index * FAN_OUT + child };
                match self.piece(layout, buckets, child)? {
                    Some(Piece::Bucket(bucket)) => table.merge(&buckets[&bucket].table.columns(None)?)?,
                    Some(Piece::Block(Block(child))) => table.merge(&self.tables[&child].columns(None)?)?,
                    None => {}
                }
            }
            self.tables.insert(block, table);
        }
        Ok(Some(Piece::Block(Block(block))))
    }

    /// The buckets of rows that were not late, among the slices of a run.
    fn buckets_of<'a>(
        &self,
        buckets: &'a BTreeMap<BucketId, Bucket>,
        block: BlockId,
    ) -> impl Iterator<Item = BucketId> + use<'a> {
        let bounds = self.bounds;
        let first = bounds.slice_end_of_index(block.first_slice());
        let end = bounds.slice_end_of_index(block.first_slice() + FAN_OUT.pow(block.level));
        let at = |slice_end| BucketId { slice_end, eligible_from: i64::MIN };
        buckets.range(at(first)..at(end)).map(|(id, _)| *id).filter(move |id| id.eligible_from == bounds.first_end(id.slice_end))
    }
}

/// The widest block that begins with slice `position` and ends by slice `end`.
fn widest(position: i64, end: i64) -> BlockId {
    let mut block = BlockId { level: 0, index: position };
    loop {
        let wider = BlockId { level: block.level + 1, index: position.div_euclid(FAN_OUT.pow(block.level + 1)) };
        if wider.first_slice() != position || position + FAN_OUT.pow(wider.level) > end {
            return block;
        }
        block = wider;
    }
}

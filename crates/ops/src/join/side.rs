//! One input of a join.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use thalweg_core::Result;
use thalweg_plan::Join;

use super::LEFT;
use crate::OperatorContext;
use crate::keyed_runs::{KeyedRuns, KeyedRunsOptions};

/// Why and how it is known whether a row of a side has a match.
#[derive(Clone, Copy)]
pub(super) struct Matching {
    /// Whether the output depends on it.
    pub(super) tracks: bool,
    /// Whether each row counts its matches.
    pub(super) counts_matches: bool,
}

pub(super) struct Side {
    /// The keys among the input's columns.
    pub(super) keys: Vec<usize>,
    /// The columns of the input that are kept.
    pub(super) kept: Vec<usize>,
    /// The keys among the kept columns.
    pub(super) kept_keys: Vec<usize>,
    kept_schema: SchemaRef,
    pub(super) held: KeyedRuns,
    /// Whether rows without a match come out, with nulls.
    pub(super) keeps_unmatched: bool,
    pub(super) tracks: bool,
    /// Of a key only the first row matters.
    pub(super) keeps_distinct_keys: bool,
    /// Only whether a row has a match is counted: the other side never takes one back.
    pub(super) counts_once: bool,
}

impl Side {
    pub(super) fn new(
        node: &Join,
        port: usize,
        input: &SchemaRef,
        needed: &[usize],
        matching: Matching,
        time_to_live_ms: Option<i64>,
        context: &OperatorContext,
    ) -> Self {
        let is_left = port == LEFT;
        let keys: Vec<usize> = node.keys.iter().map(|key| if is_left { key.left } else { key.right }).collect();
        let is_probed_only = !is_left && !node.kind.has_right_columns();
        let mut kept: Vec<usize> = (0..input.fields().len()).collect();
        if is_probed_only {
            kept.retain(|column| keys.contains(column) || needed.contains(column));
        }
        let place_of = |key: &usize| kept.iter().position(|column| column == key).unwrap_or_default();
        let kept_keys: Vec<usize> = keys.iter().map(place_of).collect();
        let fields: Vec<FieldRef> = kept.iter().map(|column| input.fields()[*column].clone()).collect();
        let kept_schema = Arc::new(Schema::new(fields));
        let (is_updating, other_is_updating) =
            if is_left { (node.left_updating, node.right_updating) } else { (node.right_updating, node.left_updating) };
        let held = KeyedRuns::new(KeyedRunsOptions {
            name: if is_left { "left" } else { "right" },
            holder: if is_left { "the left input of a join" } else { "the right input of a join" },
            lane: context.lane,
            schema: kept_schema.clone(),
            keys: kept_keys.clone(),
            is_single: node.null_aware,
            is_updating,
            counts_matches: matching.tracks && matching.counts_matches,
            time_to_live_ms,
        });
        Side {
            keys,
            kept,
            kept_keys,
            kept_schema,
            held,
            keeps_unmatched: if is_left { node.kind.keeps_left() } else { node.kind.keeps_right() },
            tracks: matching.tracks,
            keeps_distinct_keys: is_probed_only && !is_updating && !matching.counts_matches,
            counts_once: !other_is_updating && time_to_live_ms.is_none(),
        }
    }

    /// The columns of input rows that are kept.
    pub(super) fn kept_columns(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = self.kept.iter().map(|column| rows.column(*column).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.kept_schema.clone(), columns, &options)?)
    }

    pub(super) fn key_columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|key| rows.column(*key).clone()).collect()
    }
}

/// The rows none of whose `keys` is null, but for keys where nulls match.
pub(super) fn rows_that_can_match(keys: &[ArrayRef], nulls_match: &[bool], rows: usize) -> Vec<u32> {
    let strict: Vec<&ArrayRef> = keys
        .iter()
        .zip(nulls_match)
        .filter(|(key, nulls_match)| !**nulls_match && key.null_count() > 0)
        .map(|(key, _)| key)
        .collect();
    (0..rows as u32).filter(|row| strict.iter().all(|key| key.is_valid(*row as usize))).collect()
}

//! Arrangements of several lanes against a list of rows. Batches are large enough for chunks to be merged and rewritten.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use thalweg_core::ErrorKind;

use super::*;
use crate::lane_harness::{Values, rows_of, schema_of, values_of, weighted};
use crate::partition_by_lane;
use crate::test_lanes::Store;

const KEY: usize = 0;

#[derive(Clone, Debug)]
enum Step {
    /// Rows and how often each comes.
    Insert(Vec<(Values, i64)>),
    /// Rows that are there, and how often each goes.
    TakeBack(Vec<(Index, i64)>),
    /// Rows that are not there.
    Unmatched(Vec<Values>),
    RemoveKey(Option<i64>),
    Snapshot,
    Restart(u32),
}

fn key() -> impl Strategy<Value = Option<i64>> {
    prop::option::weighted(0.9, 0_i64..12)
}

fn row() -> impl Strategy<Value = Values> {
    (key(), prop::option::weighted(0.9, 0_i64..60)).prop_map(|(key, value)| vec![key, value])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Enough for chunks to be rewritten, or so few that they are merged into what is stored.
    let removals = prop_oneof![
        prop::collection::vec((any::<Index>(), 1_i64..3), 60..140),
        prop::collection::vec((any::<Index>(), 1_i64..3), 1..10),
    ];
    let step = prop_oneof![
        5 => prop::collection::vec((row(), 1_i64..3), 100..200).prop_map(Step::Insert),
        8 => removals.prop_map(Step::TakeBack),
        1 => prop::collection::vec(row(), 1..10).prop_map(Step::Unmatched),
        2 => key().prop_map(Step::RemoveKey),
        3 => Just(Step::Snapshot),
        3 => prop::sample::select(vec![1_u32, 2, 4]).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..20)
}

fn schema() -> SchemaRef {
    schema_of(&["key", "value"])
}

fn arrangement(takes_back: bool) -> Arrangement {
    let mut arrangement = Arrangement::new("rows", &schema(), &[KEY], takes_back).unwrap();
    arrangement.unmatched.ignore();
    arrangement
}

/// Arrangements with what is stored of them.
struct Lanes {
    takes_back: bool,
    lanes: Vec<(Arrangement, Store)>,
    unmatched_before: u64,
}

impl Lanes {
    fn apply(&mut self, rows: &[(Values, i64)]) {
        let shares = partition_by_lane(&weighted(&schema(), rows), &[KEY], self.lanes.len() as u32).unwrap();
        for ((arrangement, _), share) in self.lanes.iter_mut().zip(shares) {
            if let Some(share) = share {
                let keys = arrangement.keys_of(&share.rows).unwrap();
                let next = arrangement.next_id();
                let ids = arrangement.apply(&share, &keys).unwrap();
                assert!(ids.iter().all(|id| *id < arrangement.next_id() || *id == NO_ROW));
                assert!(self.takes_back || ids.iter().all(|id| *id >= next), "every row is a new one");
                arrangement.tidy().unwrap();
            }
        }
    }

    /// The arrangement of a key and the key encoded.
    fn of_key(&mut self, key: Option<i64>) -> (&mut Arrangement, EncodedKeys) {
        let row = Batch::append(rows_of(&schema(), &[vec![key, None]]));
        let shares = partition_by_lane(&row, &[KEY], self.lanes.len() as u32).unwrap();
        let lane = shares.iter().position(Option::is_some).unwrap();
        let keys = self.lanes[lane].0.keys_of(&row.rows).unwrap();
        (&mut self.lanes[lane].0, keys)
    }

    fn snapshot(&mut self) {
        for (arrangement, store) in &mut self.lanes {
            let mut delta = StateDelta::default();
            arrangement.snapshot(&mut delta).unwrap();
            store.apply(delta);
            let mut delta = StateDelta::default();
            arrangement.snapshot(&mut delta).unwrap();
            assert!(delta.changes.is_empty(), "nothing changed since the last snapshot");
            let mut slots: Vec<String> = arrangement.stored_slots().into_iter().map(|slot| slot.0).collect();
            slots.sort();
            let mut stored: Vec<&str> = store.names().collect();
            stored.sort_unstable();
            assert_eq!(slots, stored);
        }
    }

    fn restart(&mut self, lanes: u32) {
        self.snapshot();
        self.unmatched_before = self.unmatched();
        let is_rescaled = self.lanes.len() != lanes as usize;
        let restored = |lane: u32| {
            let mut arrangement = arrangement(self.takes_back);
            let parts: Vec<StatePart> = self.lanes.iter().flat_map(|(_, store)| store.parts(lane, lanes)).collect();
            assert!(parts.iter().all(|part| arrangement.owns(&part.slot)));
            arrangement.restore(&parts).unwrap();
            if is_rescaled {
                arrangement.mark_all_dirty();
                return (arrangement, Store::default());
            }
            (arrangement, self.lanes[lane as usize].1.clone())
        };
        self.lanes = (0..lanes).map(restored).collect();
    }

    fn unmatched(&self) -> u64 {
        self.unmatched_before + self.lanes.iter().map(|(arrangement, _)| arrangement.unmatched.rows()).sum::<u64>()
    }

    /// The rows of each key, oldest first, with their weights.
    fn rows(&self) -> BTreeMap<Option<i64>, Vec<(Values, i64)>> {
        let mut rows: BTreeMap<Option<i64>, Vec<(Values, i64)>> = BTreeMap::new();
        for (arrangement, _) in &self.lanes {
            let ids = arrangement.live_ids();
            assert!(ids.is_sorted(), "greater ids came later");
            assert_eq!(ids.len(), arrangement.len());
            let chunks = arrangement.live_chunks().unwrap();
            assert_eq!(chunks.iter().flat_map(|(_, ids)| ids.clone()).collect::<Vec<_>>(), ids);
            let some: Vec<Option<RowId>> = ids.iter().map(|id| Some(*id)).collect();
            let columns = arrangement.gather(&some, &[0, 1]).unwrap();
            let gathered = RecordBatch::try_new(schema(), columns).unwrap();
            let chunks: Vec<Values> = chunks.into_iter().flat_map(|(rows, _)| values_of(&Batch::append(rows))).collect();
            assert_eq!(values_of(&Batch::append(gathered.clone())), chunks);
            let keys = arrangement.keys_of(&gathered).unwrap();
            for (row, (values, id)) in chunks.into_iter().zip(&ids).enumerate() {
                let of_key = rows.entry(values[KEY]).or_default();
                assert_eq!(arrangement.of_key(keys.key(row))[of_key.len()], *id, "the index holds the rows in their order");
                of_key.push((values, arrangement.weight(*id)));
                assert!(row + 1 < ids.len() || arrangement.of_key(keys.key(row)).len() == of_key.len());
            }
        }
        rows
    }
}

/// The rows that are there in order of arrival, with how often they are.
struct Reference {
    takes_back: bool,
    rows: Vec<(Values, i64)>,
    unmatched: u64,
}

impl Reference {
    fn insert(&mut self, row: &Values, times: i64) {
        match self.rows.iter_mut().find(|(other, _)| self.takes_back && other == row) {
            Some((_, held)) => *held += times,
            None => self.rows.push((row.clone(), times)),
        }
    }

    fn take_back(&mut self, row: &Values, times: i64) {
        let held = self.rows.iter_mut().find(|(other, _)| other == row);
        let is_unmatched = held.as_ref().is_none_or(|(_, held)| *held < times);
        if let Some((_, held)) = held {
            *held = (*held - times).max(0);
        }
        self.unmatched += u64::from(is_unmatched);
        self.rows.retain(|(_, held)| *held > 0);
    }

    fn by_key(&self) -> BTreeMap<Option<i64>, Vec<(Values, i64)>> {
        let mut rows: BTreeMap<Option<i64>, Vec<(Values, i64)>> = BTreeMap::new();
        for (row, times) in &self.rows {
            rows.entry(row[KEY]).or_default().push((row.clone(), *times));
        }
        rows
    }
}

fn check(takes_back: bool, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut lanes = Lanes { takes_back, lanes: vec![(arrangement(takes_back), Store::default())], unmatched_before: 0 };
    let mut reference = Reference { takes_back, rows: vec![], unmatched: 0 };
    for step in steps {
        match step {
            Step::Insert(rows) => {
                rows.iter().for_each(|(row, times)| reference.insert(row, *times));
                lanes.apply(rows);
            }
            Step::TakeBack(removals) if takes_back => {
                let mut changes = vec![];
                for (index, times) in removals.iter().take(reference.rows.len()) {
                    if !reference.rows.is_empty() {
                        let row = reference.rows[index.index(reference.rows.len())].0.clone();
                        reference.take_back(&row, *times);
                        changes.push((row, -times));
                    }
                }
                lanes.apply(&changes);
            }
            Step::TakeBack(removals) => {
                for (index, _) in removals {
                    if !reference.rows.is_empty() {
                        let at = index.index(reference.rows.len());
                        let key = reference.rows[at].0[KEY];
                        let before = reference.rows[..at].iter().filter(|(row, _)| row[KEY] == key).count();
                        reference.rows.remove(at);
                        let (arrangement, keys) = lanes.of_key(key);
                        let id = arrangement.of_key(keys.key(0))[before];
                        arrangement.remove(id, keys.key(0));
                    }
                }
                lanes.lanes.iter_mut().for_each(|(arrangement, _)| arrangement.tidy().unwrap());
            }
            Step::Unmatched(rows) if takes_back => {
                let absent: Vec<(Values, i64)> = rows.iter().map(|row| (vec![row[0], Some(100)], -1)).collect();
                absent.iter().for_each(|(row, _)| reference.take_back(row, 1));
                lanes.apply(&absent);
            }
            Step::Unmatched(_) => {}
            Step::RemoveKey(key) => {
                reference.rows.retain(|(row, _)| row[KEY] != *key);
                let (arrangement, keys) = lanes.of_key(*key);
                arrangement.remove_key(keys.key(0)).unwrap();
                arrangement.tidy().unwrap();
            }
            Step::Snapshot => lanes.snapshot(),
            Step::Restart(count) => lanes.restart(*count),
        }
        prop_assert_eq!(lanes.rows(), reference.by_key());
        prop_assert_eq!(lanes.unmatched(), reference.unmatched);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn rows_are_those_of_a_list(takes_back in any::<bool>(), steps in steps()) {
        check(takes_back, &steps)?;
    }
}

fn rows(count: i64) -> Vec<(Values, i64)> {
    (0..count).map(|row| (vec![Some(row % 10), Some(row)], 1)).collect()
}

fn taken_back(rows: &[(Values, i64)]) -> Vec<(Values, i64)> {
    rows.iter().map(|(row, times)| (row.clone(), -times)).collect()
}

#[test]
fn a_chunk_of_which_most_rows_are_gone_is_rewritten() {
    let mut lanes = Lanes { takes_back: true, lanes: vec![(arrangement(true), Store::default())], unmatched_before: 0 };
    lanes.apply(&rows(200));
    lanes.snapshot();
    let slots = lanes.lanes[0].0.stored_slots();
    lanes.apply(&taken_back(&rows(90)));
    lanes.snapshot();
    assert_eq!((lanes.lanes[0].0.stored_slots(), lanes.lanes[0].0.chunks[0].len()), (slots.clone(), 200));
    lanes.apply(&taken_back(&rows(110)[90..]));
    lanes.snapshot();
    assert_ne!(lanes.lanes[0].0.stored_slots(), slots);
    assert_eq!((lanes.lanes[0].0.chunks.len(), lanes.lanes[0].0.chunks[0].len()), (1, 90));
    lanes.apply(&taken_back(&rows(200)[110..]));
    lanes.snapshot();
    assert_eq!(lanes.lanes[0].1.names().count(), 0);
}

#[test]
fn a_slot_does_not_grow_with_changes_of_weights() {
    let mut lanes = Lanes { takes_back: true, lanes: vec![(arrangement(true), Store::default())], unmatched_before: 0 };
    lanes.apply(&rows(100));
    lanes.snapshot();
    for round in 0..200 {
        lanes.apply(&[(rows(1)[0].0.clone(), if round % 2 == 0 { 1 } else { -1 })]);
        lanes.snapshot();
        if round % 20 == 0 {
            lanes.restart(1);
        }
        let stored = lanes.lanes[0].1.parts(0, 1)[0].batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert!(stored <= 150, "{stored} rows are stored for 100");
    }
}

#[test]
fn small_chunks_are_merged() {
    let mut arrangement = arrangement(false);
    for row in rows(1_000) {
        let batch = weighted(&schema(), &[row]);
        let keys = arrangement.keys_of(&batch.rows).unwrap();
        arrangement.apply(&batch, &keys).unwrap();
        arrangement.tidy().unwrap();
    }
    assert!(arrangement.chunks.len() <= 10, "each is at least twice as large as the next");
}

#[test]
fn rows_that_are_not_there_are_an_error_unless_they_are_ignored() {
    for takes_back in [false, true] {
        let mut arrangement = Arrangement::new("rows", &schema(), &[KEY], takes_back).unwrap();
        let batch = weighted(&schema(), &[(vec![Some(1), None], -1)]);
        let keys = arrangement.keys_of(&batch.rows).unwrap();
        let error = arrangement.apply(&batch, &keys).unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::Record, "a row is taken back that is not there: key = 1, value = NULL")
        );
    }
}

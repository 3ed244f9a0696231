//! The manifest protocol as a whole: histories of several runs, on good and on failing stores.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use thalweg_core::{Clock, Epoch, Error, ErrorKind, Generation, LaneId, ManualClock, Rand, Result, SeededRand};

use crate::checksum::crc32;
use crate::test_support::{TestStore, job_store, plan, runtime, undelivered};
use crate::{ClaimOptions, FailingStore, FaultRates, JobStore, Manifest, ObjectKind, SlotId, StateKind, StateRef};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A run of the job: what the coordinator would hold.
struct Run {
    jobs: Arc<JobStore>,
    current: Option<Manifest>,
    rand: SeededRand,
    clock: Arc<ManualClock>,
}

impl Run {
    fn new(store: Arc<dyn ObjectStore>, seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at_wall_ms(1_700_000_000_000));
        Run { jobs: Arc::new(job_store(store, seed)), current: None, rand: SeededRand::new(seed), clock }
    }

    fn claim(&mut self) -> Result<Manifest> {
        self.claim_as("plan-1", ClaimOptions::default())
    }

    fn claim_as(&mut self, fingerprint: &str, options: ClaimOptions) -> Result<Manifest> {
        let claimed = self.jobs.claim(&plan(fingerprint), &options, &mut self.rand, self.clock.as_ref())?;
        self.current = Some(claimed.clone());
        Ok(claimed)
    }

    /// Stores an object of state and one of output, replaces the state of the epoch before, and commits both.
    fn commit(&mut self) -> Result<Manifest> {
        let mut next = self.current.clone().ok_or_else(|| Error::internal("not claimed"))?;
        next.sequence += 1;
        next.epoch = next.epoch.next();
        next.created_ms = self.clock.wall_ms();
        let bytes = Bytes::from(format!("state of epoch {} by generation {}", next.epoch, next.generation));
        let mut put = |kind| {
            let unique = self.rand.unique_id();
            self.jobs.put(kind, next.generation, next.epoch, LaneId(0), &unique, bytes.clone())
        };
        let (state, output) = (put(ObjectKind::State)?, put(ObjectKind::Output)?);
        next.state = vec![StateRef {
            operator: "filter".to_string(),
            slot: SlotId("s".to_string()),
            lane: LaneId(0),
            kind: StateKind::Replace,
            object: state,
            offset: 0,
            length: bytes.len() as u64,
            crc32: crc32(&bytes),
            rows: 1,
        }];
        next.undelivered = vec![undelivered(next.epoch, &output)];
        self.jobs.commit(&next)?;
        self.current = Some(next.clone());
        Ok(next)
    }

    fn collect(&self) -> Result<crate::GarbageReport> {
        let current = self.current.as_ref().ok_or_else(|| Error::internal("not claimed"))?;
        self.jobs.collect_garbage(current, 3, self.clock.as_ref())
    }
}

fn names_of(manifest: &Manifest) -> HashSet<String> {
    let state = manifest.state.iter().map(|state| state.object.clone());
    let output = manifest.undelivered.iter().flat_map(|epoch| &epoch.plans).flat_map(|(_, plan)| &plan.keep);
    state.chain(output.map(|segment| segment.object.clone())).collect()
}

/// Wall clock of the objects in a store is the machine's, so tests of age move their clock relative to it.
fn newest_object_ms(store: &Arc<dyn ObjectStore>) -> i64 {
    use futures::TryStreamExt;
    let found: Vec<_> = runtime().block_on(store.list(None).try_collect()).unwrap();
    found.iter().map(|meta| meta.last_modified.timestamp_millis()).max().unwrap_or(0)
}

fn check_life_of_a_job(raw: Arc<dyn ObjectStore>) {
    let store = TestStore::over(raw.clone());
    assert_eq!(store.jobs.latest().unwrap(), None);
    assert_eq!(store.jobs.list().unwrap(), []);

    let mut first = Run::new(raw.clone(), 1);
    let claimed = first.claim().unwrap();
    assert_eq!((claimed.sequence, claimed.generation, claimed.epoch, claimed.lanes), (1, Generation(1), Epoch(0), 0));
    let committed = first.commit().unwrap();
    assert_eq!(store.jobs.latest().unwrap(), Some(committed.clone()));

    let mut acknowledged = Manifest { sequence: 3, ..committed.clone() };
    acknowledged.undelivered.clear();
    first.jobs.commit(&acknowledged).unwrap();
    first.jobs.commit(&acknowledged).unwrap_err();

    let mut second = Run::new(raw, 2);
    let taken = second.claim().unwrap();
    assert_eq!((taken.sequence, taken.generation, &taken.job_id), (4, Generation(2), &claimed.job_id));
    assert_eq!((taken.epoch, &taken.state), (Epoch(1), &committed.state));
    assert_ne!(taken.nonce, claimed.nonce);

    first.current = Some(acknowledged);
    let error = first.commit().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced);
    assert!(error.message.contains("generation 2"), "{}", error.message);
    second.commit().unwrap();
    assert_eq!(first.commit().unwrap_err().kind, ErrorKind::Fenced, "once fenced, always fenced");
    assert_eq!(store.jobs.list().unwrap().iter().map(|line| line.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let state = &committed.state[0];
    assert_eq!(store.jobs.read(&state.object, 0, state.length, state.crc32).unwrap(), "state of epoch 1 by generation 1");
}

#[test]
fn a_job_lives_in_memory_and_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    check_life_of_a_job(Arc::new(InMemory::new()));
    check_life_of_a_job(Arc::new(object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap()));
}

#[test]
fn commits_must_follow_each_other() {
    let mut run = Run::new(Arc::new(InMemory::new()), 1);
    let claimed = run.claim().unwrap();
    let next = Manifest { sequence: 2, epoch: Epoch(1), ..claimed.clone() };
    let wrong = [
        Manifest { sequence: 3, ..next.clone() },
        Manifest { sequence: 1, ..next.clone() },
        Manifest { epoch: Epoch(2), ..next.clone() },
        Manifest { generation: Generation(2), ..next.clone() },
        Manifest { nonce: "another".to_string(), ..next.clone() },
        Manifest { job_id: "another".to_string(), ..next.clone() },
        Manifest { format_version: 0, ..next.clone() },
        Manifest { undelivered: vec![undelivered(Epoch(1), "")], ..next.clone() },
    ];
    for manifest in wrong {
        assert_eq!(run.jobs.commit(&manifest).unwrap_err().kind, ErrorKind::Internal, "{manifest:?}");
    }
    run.jobs.commit(&next).unwrap();
    assert_eq!(job_store(Arc::new(InMemory::new()), 1).commit(&next).unwrap_err().kind, ErrorKind::Internal, "no claim");
}

#[test]
fn another_plan_is_refused_and_nothing_is_written() {
    let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut run = Run::new(raw.clone(), 1);
    run.claim().unwrap();
    let committed = run.commit().unwrap();
    let mut other = Run::new(raw, 2);
    let error = other.claim_as("plan-2", ClaimOptions::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::User);
    let help = error.help.expect("it names the differences");
    assert!(help.ends_with("new: plan-2 (Filter)\ngone: plan-1 (Filter)"), "{help}");
    assert_eq!(run.jobs.latest().unwrap(), Some(committed));
    run.commit().expect("the running job is not disturbed");
    let taken = other.claim_as("plan-2", ClaimOptions { allow_plan_change: true }).unwrap();
    assert_eq!((taken.plan, taken.state), (plan("plan-2"), vec![]));
}

#[test]
fn a_damaged_newest_manifest_stops_the_start() {
    let store = TestStore::in_memory();
    let mut run = Run::new(store.raw.clone(), 1);
    run.claim().unwrap();
    run.commit().unwrap();
    let name = "manifest/00000000000000000002";
    let original = store.bytes_of(name).to_vec();
    let mut edited = original.clone();
    let at = original.len() / 2;
    edited[at] ^= 4;
    for damaged in [vec![], original[..original.len() - 1].to_vec(), edited, vec![0; original.len()]] {
        store.overwrite(name, damaged);
        let error = Run::new(store.raw.clone(), 2).claim().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
        assert!(error.message.contains(name), "{}", error.message);
        assert!(store.jobs.list().unwrap()[1].content.is_err());
        assert!(!store.exists("manifest/00000000000000000003"));
    }
    store.overwrite("manifest/00000000000000000007", original.clone());
    assert!(Run::new(store.raw.clone(), 2).claim().unwrap_err().message.contains("holds manifest 2"));
    store.delete("manifest/00000000000000000007");
    store.overwrite(name, original);
    Run::new(store.raw.clone(), 2).claim().unwrap();
}

#[test]
fn a_newer_format_is_refused_with_exit_code_2_and_fences() {
    let store = TestStore::in_memory();
    let mut run = Run::new(store.raw.clone(), 1);
    run.claim().unwrap();
    let text = r#"{"format_version":2,"body":{"generation":9,"nonce":"x"}"#;
    let whole = format!("{text},\"xxh3\":\"{}\"}}\n", crate::checksum::xxh3_hex(text.as_bytes()));
    store.overwrite("manifest/00000000000000000002", whole.into_bytes());
    let error = Run::new(store.raw.clone(), 2).claim().unwrap_err();
    assert_eq!(error.kind, ErrorKind::User);
    assert!(error.message.contains("newer Thalweg"), "{}", error.message);
    let error = run.commit().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced);
    assert!(error.message.contains("generation 9"), "{}", error.message);
}

#[test]
fn a_lost_object_is_noticed_at_the_claim() {
    let store = TestStore::in_memory();
    let mut run = Run::new(store.raw.clone(), 1);
    run.claim().unwrap();
    let committed = run.commit().unwrap();
    let object = &committed.state[0].object;
    let original = store.bytes_of(object).to_vec();
    store.overwrite(object, original[1..].to_vec());
    assert!(Run::new(store.raw.clone(), 2).claim().unwrap_err().message.contains("shorter"));
    store.delete(object);
    let error = Run::new(store.raw.clone(), 2).claim().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(error.message.contains(object), "{}", error.message);
    store.overwrite(object, original);
    Run::new(store.raw.clone(), 2).claim().unwrap();
}

#[test]
fn garbage_is_what_only_superseded_manifests_name() {
    let store = TestStore::in_memory();
    let mut run = Run::new(store.raw.clone(), 1);
    run.claim().unwrap();
    let history: Vec<Manifest> = (0..8).map(|_| run.commit().unwrap()).collect();
    let orphan = run.jobs.put(ObjectKind::State, Generation(0), Epoch(1), LaneId(0), "orphan", Bytes::from_static(b"x")).unwrap();
    let mine =
        run.jobs.put(ObjectKind::State, Generation(1), Epoch(9), LaneId(0), "uploading", Bytes::from_static(b"x")).unwrap();
    store.overwrite("manifest/00000000000000000004.tmp-1", b"torn".to_vec());

    let report = run.collect().unwrap();
    assert_eq!((report.manifests_deleted, report.objects_deleted, report.orphans_deleted, report.failures), (6, 10, 0, 0));
    for (manifest, is_kept) in history.iter().zip([false, false, false, false, false, true, true, true]) {
        for name in names_of(manifest) {
            assert_eq!(store.exists(&name), is_kept, "{name} of manifest {}", manifest.sequence);
        }
    }
    assert_eq!(run.collect().unwrap(), crate::GarbageReport::default(), "nothing left to do");
    assert!(store.exists(&orphan), "it is young");

    run.clock = Arc::new(ManualClock::at_wall_ms(newest_object_ms(&store.raw)));
    run.clock.advance(DAY - Duration::from_millis(1));
    run.collect().unwrap();
    assert!(store.exists(&orphan), "it is not a day old");
    run.clock.advance(Duration::from_secs(60 * 60));
    assert_eq!(run.collect().unwrap().orphans_deleted, 2);
    assert!(!store.exists(&orphan) && !store.exists("manifest/00000000000000000004.tmp-1"));
    assert!(store.exists(&mine), "an upload of this run may still be under way");

    let mut later = Run::new(store.raw.clone(), 2);
    later.clock = run.clock.clone();
    later.claim().unwrap();
    assert_eq!(later.collect().unwrap().orphans_deleted, 1);
    assert!(!store.exists(&mine));
}

#[test]
fn a_sleeper_whose_sequence_was_taken_and_collected_is_fenced() {
    let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut sleeper = Run::new(raw.clone(), 1);
    sleeper.claim().unwrap();
    sleeper.commit().unwrap();
    let mut newer = Run::new(raw.clone(), 2);
    newer.claim().unwrap();
    let newest = (0..6).map(|_| newer.commit().unwrap()).last();
    assert_eq!(sleeper.collect().unwrap(), crate::GarbageReport::default(), "it is not for the sleeper to collect");
    assert!(newer.collect().unwrap().manifests_deleted > 3);
    let error = sleeper.commit().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "its sequence is free again, but newer ones exist");
    assert_eq!(newer.jobs.latest().unwrap(), newest);
    newer.commit().unwrap();
}

#[test]
fn a_store_that_stays_away_ends_in_unavailable() {
    let raw = Arc::new(InMemory::new());
    let store = Arc::new(FailingStore::new(raw, FaultRates::default(), 1));
    let mut run = Run::new(store.clone(), 1);
    run.claim().unwrap();
    store.set_rates(FaultRates { unavailable: 1_000, ..FaultRates::default() });
    let next = Manifest { sequence: 2, epoch: Epoch(1), ..run.current.clone().unwrap() };
    assert_eq!(run.jobs.commit(&next).unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(run.jobs.latest().unwrap_err().kind, ErrorKind::Unavailable);
    store.set_rates(FaultRates { timeout_after_put: 1_000, ..FaultRates::default() });
    run.jobs.commit(&next).expect("the same manifest may be committed again, and its fate is found out");
    let other = Manifest { sequence: 3, epoch: Epoch(2), created_ms: 1, ..next };
    store.set_rates(FaultRates { exists_after_put: 1_000, ..FaultRates::default() });
    run.jobs.commit(&other).expect("`exists` may mean that it is ours");
}

#[test]
fn a_fenced_run_asks_the_store_no_more() {
    let store = Arc::new(FailingStore::new(Arc::new(InMemory::new()), FaultRates::default(), 1));
    let mut run = Run::new(store.clone(), 1);
    run.claim().unwrap();
    Run::new(store.clone(), 2).claim().unwrap();
    let next = Manifest { sequence: 2, epoch: Epoch(1), ..run.current.clone().unwrap() };
    assert_eq!(run.jobs.commit(&next).unwrap_err().kind, ErrorKind::Fenced);
    store.set_rates(FaultRates { unavailable: 1_000, ..FaultRates::default() });
    assert_eq!(run.jobs.commit(&next).unwrap_err().kind, ErrorKind::Fenced);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Claim(usize),
    Commit(usize),
    Collect(usize),
}

const RUNS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..RUNS).prop_map(Step::Claim),
        6 => (0..RUNS).prop_map(Step::Commit),
        1 => (0..RUNS).prop_map(Step::Collect),
    ]
}

/// Successful commits and claims by sequence: there may be only one each.
#[derive(Default)]
struct Ledger(BTreeMap<u64, Manifest>);

impl Ledger {
    fn record(&mut self, manifest: Manifest) {
        let before = self.0.insert(manifest.sequence, manifest);
        assert!(before.is_none(), "two runs succeeded with one sequence: {before:?}");
    }

    /// One history: generations and epochs never go back, and each manifest follows the one before where both are known.
    fn check(&self) {
        for ((_, earlier), (_, later)) in self.0.iter().zip(self.0.iter().skip(1)) {
            assert!(later.generation >= earlier.generation && later.epoch >= earlier.epoch, "{earlier:?} before {later:?}");
            if later.generation == earlier.generation {
                assert_eq!(later.nonce, earlier.nonce, "a generation belongs to one run");
            }
        }
    }
}

/// What must be true of the store whatever happened.
fn check_store_agrees(raw: &Arc<dyn ObjectStore>, ledger: &Ledger) {
    ledger.check();
    let store = TestStore::over(raw.clone());
    let newest = store.jobs.latest().unwrap();
    if let Some((sequence, known)) = ledger.0.last_key_value() {
        let newest = newest.expect("a success is never lost");
        assert!(newest.sequence >= *sequence);
        if newest.sequence == *sequence {
            assert_eq!(newest, *known, "the owner's view is the store's");
        }
    }
    let lines = store.jobs.list().unwrap();
    for line in lines.iter().rev().take(3) {
        let manifest = store.jobs.manifest(line.sequence).unwrap();
        if let Some(known) = ledger.0.get(&line.sequence) {
            assert_eq!(manifest, *known);
        }
        for name in names_of(&manifest) {
            assert!(store.exists(&name), "{name} of manifest {} was collected", line.sequence);
        }
    }
}

fn run_history(steps: &[Step], seed: u64, per_mille: u64) {
    let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let failing = Arc::new(FailingStore::new(raw.clone(), FaultRates::all(per_mille), seed));
    let mut runs: Vec<Run> = (0..RUNS as u64).map(|n| Run::new(failing.clone(), seed ^ (n << 32))).collect();
    let mut ledger = Ledger::default();
    // The run whose claim was the last to succeed, while no failed claim of another makes that uncertain.
    let mut owner = None;
    for step in steps {
        match *step {
            Step::Claim(n) => match runs[n].claim() {
                Ok(claimed) => {
                    ledger.record(claimed);
                    owner = Some(n);
                }
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Unavailable, "{}", error.full_message());
                    (owner, runs[n].current) = (None, None);
                }
            },
            Step::Commit(n) if runs[n].current.is_none() => {}
            Step::Commit(n) => match runs[n].commit() {
                Ok(committed) => {
                    assert!(owner.is_none_or(|owner| owner == n), "run {n} committed while {owner:?} owns the job");
                    ledger.record(committed);
                }
                Err(error) if error.kind == ErrorKind::Fenced => {
                    assert_ne!(owner, Some(n), "the owner was fenced");
                    runs[n].current = None;
                }
                Err(error) => {
                    // The outcome is unknown, so the run ends here, as a job does.
                    assert!(matches!(error.kind, ErrorKind::Unavailable), "{}", error.full_message());
                    runs[n].current = None;
                }
            },
            Step::Collect(n) if runs[n].current.is_none() => {}
            Step::Collect(n) => {
                if let Err(error) = runs[n].collect() {
                    assert!(matches!(error.kind, ErrorKind::Unavailable), "{}", error.full_message());
                }
            }
        }
        check_store_agrees(&raw, &ledger);
    }
    runtime().block_on(failing.settle());
    check_store_agrees(&raw, &ledger);
    if per_mille == 0 {
        assert_eq!(failing.injected(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Three runs claim, commit and collect in any order while the store loses answers, repeats, delays and tears.
    #[test]
    fn histories_stay_single_under_faults(
        steps in proptest::collection::vec(step(), 1..40), seed in any::<u64>(), per_mille in prop_oneof![Just(0u64), Just(50), Just(200)],
    ) {
        run_history(&steps, seed, per_mille);
    }
}

#[test]
fn one_seed_gives_one_history() {
    let history = || {
        let raw: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let failing = Arc::new(FailingStore::new(raw, FaultRates::all(150), 9));
        let mut run = Run::new(failing.clone(), 3);
        let claimed = run.claim().map(|manifest| manifest.nonce).map_err(|error| error.full_message());
        let commits: Vec<_> = (0..10).map(|_| run.commit().map_err(|error| error.full_message())).collect();
        (format!("{claimed:?} {commits:?}"), failing.injected())
    };
    assert_eq!(history(), history());
}

/// Claimants and committers at the same time, in threads, over one failing store.
fn race(raw: Arc<dyn ObjectStore>, seed: u64, per_mille: u64) {
    let failing = Arc::new(FailingStore::new(raw.clone(), FaultRates::all(per_mille), seed));
    let outcomes: Vec<Vec<Manifest>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3u64)
            .map(|n| {
                let failing = failing.clone();
                scope.spawn(move || {
                    let mut run = Run::new(failing, seed ^ (n << 40));
                    let mut successes = vec![];
                    for _ in 0..3 {
                        match run.claim() {
                            Ok(claimed) => successes.push(claimed),
                            Err(error) => {
                                assert!(
                                    matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Fenced),
                                    "{}",
                                    error.full_message()
                                );
                                continue;
                            }
                        }
                        for _ in 0..5 {
                            match run.commit() {
                                Ok(committed) => successes.push(committed),
                                Err(error) => {
                                    assert!(
                                        matches!(error.kind, ErrorKind::Fenced | ErrorKind::Unavailable),
                                        "{}",
                                        error.full_message()
                                    );
                                    break;
                                }
                            }
                            let _ = run.collect();
                        }
                    }
                    successes
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    runtime().block_on(failing.settle());
    let mut ledger = Ledger::default();
    outcomes.into_iter().flatten().for_each(|manifest| ledger.record(manifest));
    assert!(!ledger.0.is_empty(), "somebody wins");
    check_store_agrees(&raw, &ledger);
}

#[test]
fn racing_runs_leave_one_history() {
    for seed in 0..20 {
        race(Arc::new(InMemory::new()), seed, 0);
        race(Arc::new(InMemory::new()), seed, 60);
    }
    for seed in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        race(Arc::new(object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap()), seed, 0);
    }
}

#[test]
fn an_object_that_is_lost_is_named() {
    let failing = Arc::new(FailingStore::new(Arc::new(InMemory::new()), FaultRates::default(), 1));
    let mut run = Run::new(failing.clone(), 1);
    run.claim().unwrap();
    let state = run.commit().unwrap().state[0].clone();
    runtime().block_on(failing.lose(&Path::from(format!("jobs/test/{}", state.object)))).unwrap();
    let error = run.jobs.read(&state.object, 0, state.length, state.crc32).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(error.message.contains(&state.object));
    assert!(runtime().block_on(failing.head(&Path::from("jobs/test/manifest/00000000000000000002"))).is_ok());
}

//! Streaming = batch after every epoch, over drawn queries and drawn rows.
//!
//! Each pair is a query and the rows that come and go in its tables, cut into epochs. After each epoch the sum of all that the
//! streaming plan gave must be what DataFusion's batch engine answers over the rows that are there. On the way, nodes are held
//! to what the planner says of them: append-only ones take nothing back, an upsert key has one row at a time.
//!
//! A pair depends on its seed alone. `PAIRS=20000 PAIRS_SEED=7 cargo test --workspace --test all pairs::` tries as many from
//! that seed on; a failing one is made small and printed with the seed that gives it again.

mod batch;
mod compare;
mod dice;
mod executor;
mod generate;
mod pair;
mod query;
mod render;
mod rows;
mod shrink;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use batch::BatchEngine;
use executor::Fault;
use generate::Feature;
use pair::{Failure, FailureKind, Pair};

const FEATURES: &[Feature] = &[Feature::TopN, Feature::Ranks, Feature::Limit, Feature::Over, Feature::SetOperations];

/// Failures after which a run stops.
const FAILURES_MAX: usize = 10;
const SHRINK_TRIES: usize = 3_000;
/// Planners recurse over deep queries.
const STACK_BYTES: usize = 64 << 20;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")),
        Err(_) => default,
    }
}

fn on_big_stacks<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let spawn = |_| std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, &work).expect("a thread");
        let handles: Vec<_> = (0..threads).map(spawn).collect();
        handles.into_iter().map(|handle| handle.join().expect("failures of pairs are caught")).collect()
    })
}

/// The failing pair made small, with its seed.
fn report(seed: u64, pair: Pair, failure: &Failure, engine: &BatchEngine, fault: Option<Fault>) -> String {
    let alike = |pair: &Pair| pair.check(engine, fault).is_err_and(|other| other.is_like(failure));
    let small = shrink::shrink(pair, SHRINK_TRIES, alike);
    let failure = small.check(engine, fault).err().unwrap_or_else(|| failure.clone());
    format!("PAIRS=1 PAIRS_SEED={seed}: {:?}: {}\n{}", failure.kind, failure.text, small.show())
}

#[test]
fn streaming_is_batch_after_every_epoch() {
    let (count, first) = (number("PAIRS", 500), number("PAIRS_SEED", 1));
    let next = AtomicU64::new(0);
    let failures: Mutex<Vec<String>> = Mutex::default();
    let without_answer: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    on_big_stacks(threads, || {
        let engine = BatchEngine::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count || failures.lock().expect("no panic holds it").len() >= FAILURES_MAX {
                return;
            }
            let seed = first + index;
            let pair = generate::pair(seed, FEATURES);
            match pair.check(&engine, None) {
                Ok(()) => {}
                Err(Failure { kind: FailureKind::NoAnswer, text }) => {
                    let gist = text.lines().next().unwrap_or_default().chars().take(120).collect();
                    *without_answer.lock().expect("no panic holds it").entry(gist).or_default() += 1;
                }
                Err(failure) => {
                    let text = report(seed, pair, &failure, &engine, None);
                    failures.lock().expect("no panic holds it").push(text);
                }
            }
        }
    });
    let without_answer = without_answer.into_inner().expect("no panic holds it");
    let failures = failures.into_inner().expect("no panic holds it");
    assert!(failures.is_empty(), "{} pairs failed:\n\n{}", failures.len(), failures.join("\n\n"));
    // What DataFusion cannot answer is no test; a few are the price of drawing freely.
    let lost: u64 = without_answer.values().sum();
    assert!(lost * 20 <= count.max(20), "{lost} of {count} pairs have no answer to compare with: {without_answer:#?}");
}

/// The check finds what is put in on purpose, and shows it small.
#[test]
fn a_planted_fault_is_found_and_made_small() {
    for fault in [Fault::ForgetsRetraction, Fault::ForgetsState] {
        let found = on_big_stacks(1, || {
            let engine = BatchEngine::new();
            for seed in 1..200 {
                let pair = generate::pair(seed, &[]);
                if let Err(failure) = pair.check(&engine, Some(fault))
                    && failure.kind == FailureKind::Difference
                {
                    let alike = |pair: &Pair| pair.check(&engine, Some(fault)).is_err_and(|other| other.is_like(&failure));
                    let small = shrink::shrink(pair, SHRINK_TRIES, alike);
                    return Some((seed, small.clone(), small.check(&engine, Some(fault)), small.check(&engine, None)));
                }
            }
            None
        });
        let (seed, small, with_fault, without) = found.into_iter().next().flatten().expect("the fault is found");
        assert!(with_fault.is_err() && without.is_ok(), "{fault:?}, seed {seed}: {}", small.show());
        assert!(small.lives.len() <= 4, "{fault:?}, seed {seed}: {}", small.show());
    }
}

#[test]
fn a_seed_gives_one_pair() {
    let features = [Feature::Joins, Feature::TopN, Feature::Over, Feature::SetOperations, Feature::In];
    for seed in 0..20 {
        assert_eq!(generate::pair(seed, &features), generate::pair(seed, &features));
    }
}

//! Proof that an object store keeps the rules that checkpoints rely on (`thalweg check-store URL`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use thalweg_core::Rand;
use tokio::runtime::Handle;

/// Creators that race for one name.
const RACERS: usize = 6;
/// How often they race.
const RACES: usize = 5;
/// Time for one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// The outcome of one check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckResult {
    /// What was checked, as a sentence: `an object that exists is not created again`.
    pub rule: &'static str,
    /// `None` when the rule was kept; else what happened instead.
    pub problem: Option<String>,
}

impl CheckResult {
    pub fn passed(&self) -> bool {
        self.problem.is_none()
    }
}

type Outcome = Result<(), String>;

/// Tries the rules under a folder of its own below `prefix`, which is gone afterwards. Blocks; never call it from async code.
/// Each rule is checked even if one before it was not kept.
pub fn check_store(store: Arc<dyn ObjectStore>, prefix: &Path, handle: &Handle, rand: &mut dyn Rand) -> Vec<CheckResult> {
    let folder = prefix.clone().join(format!("check-store-{}", rand.unique_id()));
    let run = |rule: &'static str, check: future::BoxFuture<'_, Outcome>| {
        let outcome = handle.block_on(async { tokio::time::timeout(CHECK_TIMEOUT, check).await });
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {} s", CHECK_TIMEOUT.as_secs())));
        CheckResult { rule, problem: outcome.err() }
    };
    let (store, folder) = (store.as_ref(), &folder);
    vec![
        run("an object can be created and read back", Box::pin(create_and_read(store, folder))),
        run("an object that exists is not created again", Box::pin(create_is_refused(store, folder))),
        run("of several creators of one object exactly one wins", Box::pin(one_creator_wins(store, folder))),
        run("a list shows what was written just before", Box::pin(list_is_fresh(store, folder))),
        run("a list can begin behind a name", Box::pin(list_has_offset(store, folder))),
        run("a range of an object can be read", Box::pin(range_is_read(store, folder))),
        run("a missing object is told apart from a failure", Box::pin(missing_is_missing(store, folder))),
        run("objects can be deleted", Box::pin(everything_is_deleted(store, folder))),
    ]
}

fn text(error: object_store::Error) -> String {
    error.to_string()
}

async fn create(store: &dyn ObjectStore, location: &Path, bytes: Bytes) -> object_store::Result<()> {
    store.put_opts(location, bytes.into(), PutOptions::from(PutMode::Create)).await.map(|_| ())
}

async fn read(store: &dyn ObjectStore, location: &Path) -> Result<Bytes, String> {
    store.get(location).await.map_err(text)?.bytes().await.map_err(text)
}

async fn names(store: &dyn ObjectStore, folder: &Path) -> Result<Vec<String>, String> {
    let found: Vec<_> = store.list(Some(folder)).try_collect().await.map_err(text)?;
    let mut names: Vec<String> = found.iter().filter_map(|meta| meta.location.filename().map(str::to_string)).collect();
    names.sort();
    Ok(names)
}

async fn create_and_read(store: &dyn ObjectStore, folder: &Path) -> Outcome {
    let location = folder.clone().join("created");
    create(store, &location, Bytes::from_static(b"first")).await.map_err(text)?;
    let found = read(store, &location).await?;
    if found == "first" { Ok(()) } else { Err(format!("read {} bytes that were not written", found.len())) }
}

async fn create_is_refused(store: &dyn ObjectStore, folder: &Path) -> Outcome {
    let location = folder.clone().join("created");
    match create(store, &location, Bytes::from_static(b"second")).await {
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
        Err(other) => return Err(text(other)),
        Ok(()) => return Err("the second create was accepted: two runs of a job could both go on".to_string()),
    }
    let found = read(store, &location).await?;
    if found == "first" { Ok(()) } else { Err("the refused create changed the object".to_string()) }
}

async fn one_creator_wins(store: &dyn ObjectStore, folder: &Path) -> Outcome {
    for race in 0..RACES {
        let location = folder.clone().join(format!("race-{race}"));
        let racers = (0..RACERS).map(|racer| create(store, &location, Bytes::from(format!("racer {racer}"))));
        let answers = future::join_all(racers).await;
        let winners: Vec<usize> = (0..RACERS).filter(|racer| answers[*racer].is_ok()).collect();
        let found = read(store, &location).await?;
        match winners.as_slice() {
            [winner] if found == format!("racer {winner}") => {}
            [_] => return Err("the object holds the bytes of a creator that was refused".to_string()),
            _ => return Err(format!("{} of {RACERS} creators were told that they won", winners.len())),
        }
    }
    Ok(())
}

async fn list_is_fresh(store: &dyn ObjectStore, folder: &Path) -> Outcome {
    let listed = folder.clone().join("listed");
    for count in 1..=5 {
        create(store, &listed.clone().join(format!("{count:020}")), Bytes::from_static(b"x")).await.map_err(text)?;
        let found = names(store, &listed).await?;
        if found.len() != count {
            return Err(format!("{} of {count} objects are listed", found.len()));
        }
    }
    Ok(())
}

async fn list_has_offset(store: &dyn ObjectStore, folder: &Path) -> Outcome {
    let listed = folder.clone().join("listed");
    let offset = listed.clone().join(format!("{:020}", 3));
    let found: Vec<_> = store.list_with_offset(Some(&listed), &offset).try_collect().await.map_err(text)?;
    if found.len() == 2 { Ok(()) } else { Err(format!("{} objects are listed instead of 2", found.len())) }
}

async fn range_is_read(store: &dyn ObjectStore, folder: &Path) -> Outcome {
    let location = folder.clone().join("created");
    let found = store.get_range(&location, 1..4).await.map_err(text)?;
    if found == "irs" { Ok(()) } else { Err(format!("bytes 1 to 3 of \"first\" were read as {found:?}")) }
}

async fn missing_is_missing(store: &dyn ObjectStore, folder: &Path) -> Outcome {
    match store.get(&folder.clone().join("absent")).await {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(other) => Err(text(other)),
        Ok(_) => Err("an object that was never written was read".to_string()),
    }
}

async fn everything_is_deleted(store: &dyn ObjectStore, folder: &Path) -> Outcome {
    let found: Vec<_> = store.list(Some(folder)).try_collect().await.map_err(text)?;
    let locations: Vec<_> = found.into_iter().map(|meta| Ok(meta.location)).collect();
    let deleted: Vec<_> = store.delete_stream(stream::iter(locations).boxed()).collect().await;
    if let Some(Err(error)) = deleted.into_iter().find(|answer| answer.is_err()) {
        return Err(text(error));
    }
    let left = names(store, folder).await?;
    if left.is_empty() { Ok(()) } else { Err(format!("{} deleted objects are still listed", left.len())) }
}

#[cfg(test)]
mod tests {
    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;
    use thalweg_core::SeededRand;

    use super::*;
    use crate::test_support::runtime;
    use crate::{FailingStore, FaultRates};

    fn problems(store: Arc<dyn ObjectStore>) -> Vec<CheckResult> {
        let mut results = check_store(store, &Path::from("jobs"), runtime().handle(), &mut SeededRand::new(1));
        assert_eq!(results.len(), 8);
        results.retain(|result| !result.passed());
        results
    }

    #[test]
    fn good_stores_pass() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(problems(Arc::new(InMemory::new())), []);
        assert_eq!(problems(Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap())), []);
    }

    #[test]
    fn a_store_that_is_away_is_reported_for_each_rule() {
        let rates = FaultRates { unavailable: 1_000, ..FaultRates::default() };
        let found = problems(Arc::new(FailingStore::new(Arc::new(InMemory::new()), rates, 1)));
        assert_eq!(found.len(), 8);
        assert!(found[0].problem.as_ref().unwrap().contains("503"));
    }
}

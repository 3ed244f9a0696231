//! SQL behaviour: every file of `tests/slt` in every way to run jobs, with equal results.
//!
//! `SLT=window/tumble` runs only the files whose path contains that. `BLESS=1` rewrites what files expect, from the straight
//! run. `SEED=7` sets the seed of the run with faults.

use std::fs;
use std::path::{Path, PathBuf};

use thalweg_sim::{Way, check_file};

use crate::house::root;

fn files() -> Vec<PathBuf> {
    let folder = root().join("tests/slt");
    let wanted = std::env::var("SLT").unwrap_or_default();
    let mut found = vec![];
    let mut folders = vec![folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|_| panic!("{} exists", folder.display())) {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "slt") {
                found.push(path);
            }
        }
    }
    found.retain(|path| path.strip_prefix(&folder).is_ok_and(|path| path.to_string_lossy().contains(&wanted)));
    found.sort();
    assert!(!found.is_empty(), "no file of tests/slt has \"{wanted}\" in its path");
    found
}

fn check_all(way: Way) {
    let bless = way == Way::Straight && std::env::var_os("BLESS").is_some();
    let root = root();
    let (mut records, mut wrong) = (0, vec![]);
    let files = files();
    for path in &files {
        let text = fs::read_to_string(path).expect("the file can be read");
        let report = check_file(path.strip_prefix(&root).unwrap_or(path), &text, way);
        records += report.records;
        if let Some(blessed) = report.blessed.filter(|_| bless) {
            fs::write(path, blessed).expect("the file can be written");
        }
        for text in report.wrong {
            wrong.push(format!("{text}{}", replay(path, way)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {records} records in {} files are wrong ({way:?}):\n{}",
        wrong.len(),
        files.len(),
        wrong.join("\n")
    );
}

/// The command that runs a file again, where that needs more than its name.
fn replay(path: &Path, way: Way) -> String {
    match way {
        Way::Faulty { seed } => {
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            format!("\n  replay: SEED={seed} SLT={name} cargo test --workspace --test all slt::among_faults")
        }
        Way::Straight | Way::Restarted => String::new(),
    }
}

#[test]
fn straight() {
    check_all(Way::Straight);
}

#[test]
fn stopped_and_restored() {
    check_all(Way::Restarted);
}

#[test]
fn among_faults() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    match seed {
        Some(seed) => check_all(Way::Faulty { seed }),
        None => (1..=3).for_each(|seed| check_all(Way::Faulty { seed })),
    }
}

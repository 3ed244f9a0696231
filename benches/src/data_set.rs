//! The generated events on disk. They are made once and kept: a run with the same number and seed finds them again.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thalweg_core::{Error, Result};

use crate::file_error;
use crate::generator::{Generator, bids_in};

/// Each file spans the whole event time, so that reading them in any order makes no row late.
const FILES: usize = 2;
/// Grows when the generator makes other events from the same seed.
const SHAPE: u64 = 1;

pub struct DataSet {
    /// Holds the events and nothing else.
    pub folder: PathBuf,
    pub events: u64,
    pub bids: u64,
    pub bytes: u64,
}

impl DataSet {
    /// # Errors
    /// `Unavailable` when the files cannot be written.
    pub fn find_or_generate(parent: &Path, events: u64, seed: u64) -> Result<DataSet> {
        let folder = parent.join(format!("nexmark-{events}-seed-{seed}"));
        // Beside the folder: the query reads every file inside.
        let note = folder.with_extension("json");
        let found = fs::read_to_string(&note).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let bytes = match bytes_on_disk(&folder) {
            Some(bytes) if found == Some(description(events, seed, bytes)) => bytes,
            _ => {
                eprintln!("generating {events} events in {}", folder.display());
                let bytes = generate(&folder, events, seed)?;
                let text = format!("{:#}\n", description(events, seed, bytes));
                // Written last: files of an interrupted run are not taken for complete ones.
                fs::write(&note, text).map_err(|error| file_error("write", &note, error))?;
                bytes
            }
        };
        Ok(DataSet { folder, events, bids: bids_in(events), bytes })
    }
}

fn description(events: u64, seed: u64, bytes: u64) -> Value {
    json!({ "shape": SHAPE, "events": events, "seed": seed, "files": FILES, "bytes": bytes })
}

fn part(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("part-{index}.json"))
}

fn bytes_on_disk(folder: &Path) -> Option<u64> {
    (0..FILES).map(|index| fs::metadata(part(folder, index)).ok().map(|metadata| metadata.len())).sum()
}

fn generate(folder: &Path, events: u64, seed: u64) -> Result<u64> {
    fs::create_dir_all(folder).map_err(|error| file_error("create", folder, error))?;
    let paths: Vec<PathBuf> = (0..FILES).map(|index| part(folder, index)).collect();
    let mut files = paths
        .iter()
        .map(|path| File::create(path).map(BufWriter::new).map_err(|error| file_error("create", path, error)))
        .collect::<Result<Vec<_>>>()?;
    let mut generator = Generator::new(seed);
    let mut line = String::new();
    let mut bytes = 0;
    for number in 0..events {
        line.clear();
        generator.write_event(number, &mut line).map_err(|error| Error::internal("writing an event failed").with_cause(error))?;
        let index = (number % FILES as u64) as usize;
        files[index].write_all(line.as_bytes()).map_err(|error| file_error("write", &paths[index], error))?;
        bytes += line.len() as u64;
    }
    for (file, path) in files.iter_mut().zip(&paths) {
        file.flush().map_err(|error| file_error("write", path, error))?;
    }
    Ok(bytes)
}

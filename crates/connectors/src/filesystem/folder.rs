//! One face for local folders and object stores: list, and read ranges.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use thalweg_core::{Error, Result};

use crate::store::{StoreSettings, StoreUrl, block_on, open_store, store_error};

/// A file as it was when it was listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FileEntry {
    /// Below the folder, parts separated by `/`; the name alone when the table's path is a single file.
    pub path: String,
    pub length: u64,
    pub modified_ms: i64,
}

/// What a table's `path` names, for reading.
pub(super) struct Folder {
    place: Place,
    /// The path as the user wrote it, for messages.
    shown: String,
}

enum Place {
    /// Local files are read with `std::fs`, which costs a fraction of a ranged get.
    Local(PathBuf),
    Store {
        store: Arc<dyn ObjectStore>,
        prefix: Path,
    },
}

impl Folder {
    /// Nothing is looked at yet.
    pub fn open(url: &str, settings: &StoreSettings) -> Result<Folder> {
        let place = match StoreUrl::parse(url)? {
            StoreUrl::Local(path) => Place::Local(path),
            StoreUrl::Memory { .. } | StoreUrl::S3 { .. } => {
                let (store, prefix) = open_store(url, settings)?;
                Place::Store { store, prefix }
            }
        };
        Ok(Folder { place, shown: url.to_string() })
    }

    /// All files below the folder in order of path, without those whose name, or a folder's name on the way, begins with `.`
    /// or `_` (as Flink and Hive). A path that names one file gives that file.
    /// # Errors
    /// `User` for a local path that does not exist.
    pub fn list(&self) -> Result<Vec<FileEntry>> {
        let mut entries = vec![];
        match &self.place {
            Place::Local(root) => {
                let metadata = fs::metadata(root).map_err(|error| self.local_error(root, &error))?;
                if metadata.is_file() {
                    entries.push(local_entry(file_name(root)?.to_string(), &metadata));
                } else {
                    self.walk(root, "", &mut entries)?;
                }
            }
            Place::Store { store, prefix } => {
                let listed: Result<Vec<ObjectMeta>, _> = block_on(store.list(Some(prefix)).try_collect());
                let listed = listed.map_err(|error| store_error(error, format!("cannot list \"{}\"", self.shown)))?;
                for meta in &listed {
                    let Some(parts) = meta.location.prefix_match(prefix) else { continue };
                    let parts: Vec<String> = parts.map(|part| part.as_ref().to_string()).collect();
                    if !parts.iter().any(|part| is_hidden(part)) && !parts.is_empty() {
                        entries.push(store_entry(parts.join("/"), meta));
                    }
                }
                if listed.is_empty() && !prefix.as_ref().is_empty() {
                    entries.extend(self.single_object(store.as_ref(), prefix)?);
                }
            }
        }
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(entries)
    }

    /// The file at `path`, or `None` when there is none (any more).
    pub fn find(&self, path: &str) -> Result<Option<FileEntry>> {
        match &self.place {
            Place::Local(root) => match fs::metadata(local_path(root, path)) {
                Ok(metadata) => Ok(Some(local_entry(path.to_string(), &metadata))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.local_error(&local_path(root, path), &error)),
            },
            Place::Store { store, prefix } => {
                let location = self.location(prefix, path)?;
                match block_on(store.head(&location)) {
                    Ok(meta) => Ok(Some(store_entry(path.to_string(), &meta))),
                    // The table's path may be the object itself.
                    Err(object_store::Error::NotFound { .. }) if prefix.filename() == Some(path) => {
                        self.single_object(store.as_ref(), prefix)
                    }
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(store_error(error, format!("cannot look at \"{}\"", self.full_path(path)))),
                }
            }
        }
    }

    /// The path without scheme and bucket, as Flink's `file.path` gives it; `path` is relative.
    pub fn full_path(&self, path: &str) -> String {
        match &self.place {
            Place::Local(root) => local_path(root, path).display().to_string(),
            Place::Store { prefix, .. } if prefix.filename() == Some(path) => format!("/{prefix}"),
            Place::Store { prefix, .. } if prefix.as_ref().is_empty() => format!("/{path}"),
            Place::Store { prefix, .. } => format!("/{prefix}/{path}"),
        }
    }

    pub fn open_file(&self, path: &str) -> Result<FileHandle> {
        let shown = self.full_path(path);
        match &self.place {
            Place::Local(root) => {
                let local = local_path(root, path);
                let file = File::open(&local).map_err(|error| self.local_error(&local, &error))?;
                Ok(FileHandle { shown, bytes: FileBytes::Local(file) })
            }
            Place::Store { store, prefix } => {
                let mut location = self.location(prefix, path)?;
                if prefix.filename() == Some(path) && block_on(store.head(&location)).is_err() {
                    location = prefix.clone();
                }
                Ok(FileHandle { shown, bytes: FileBytes::Object { store: store.clone(), location } })
            }
        }
    }

    fn location(&self, prefix: &Path, path: &str) -> Result<Path> {
        let full = if prefix.as_ref().is_empty() { path.to_string() } else { format!("{prefix}/{path}") };
        Path::parse(full)
            .map_err(|error| Error::user(format!("\"{path}\" below \"{}\" is no path", self.shown)).with_cause(error))
    }

    fn single_object(&self, store: &dyn ObjectStore, location: &Path) -> Result<Option<FileEntry>> {
        match block_on(store.head(location)) {
            Ok(meta) => Ok(location.filename().map(|name| store_entry(name.to_string(), &meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(store_error(error, format!("cannot look at \"{}\"", self.shown))),
        }
    }

    fn walk(&self, folder: &FsPath, below: &str, entries: &mut Vec<FileEntry>) -> Result<()> {
        let listing = fs::read_dir(folder).map_err(|error| self.local_error(folder, &error))?;
        for entry in listing {
            let entry = entry.map_err(|error| self.local_error(folder, &error))?;
            let path = entry.path();
            let name = file_name(&path)?;
            if is_hidden(name) {
                continue;
            }
            let relative = if below.is_empty() { name.to_string() } else { format!("{below}/{name}") };
            let kind = entry.file_type().map_err(|error| self.local_error(&path, &error))?;
            if kind.is_dir() {
                self.walk(&path, &relative, entries)?;
                continue;
            }
            match fs::metadata(&path) {
                // Links to folders are not followed: they may form a circle.
                Ok(metadata) if metadata.is_file() => entries.push(local_entry(relative, &metadata)),
                Ok(_) => {}
                // Gone since the folder was read.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.local_error(&path, &error)),
            }
        }
        Ok(())
    }

    fn local_error(&self, path: &FsPath, error: &std::io::Error) -> Error {
        let shown = path.display();
        match error.kind() {
            std::io::ErrorKind::NotFound => Error::user(format!("path \"{shown}\" does not exist"))
                .with_help("check the option 'path'; an empty folder is fine, a missing one is not"),
            std::io::ErrorKind::PermissionDenied => Error::user(format!("path \"{shown}\" may not be read"))
                .with_help("give the user that runs thalweg the right to read it"),
            _ => Error::unavailable(format!("path \"{shown}\" cannot be read: {error}")),
        }
    }
}

/// Staging names of object stores (`x.parquet#1`) need no rule: our own begin with a point.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_')
}

fn file_name(path: &FsPath) -> Result<&str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::user(format!("the name of \"{}\" is not valid UTF-8", path.display())).with_help("rename the file"))
}

/// `root` is the file itself when the table's path names one.
fn local_path(root: &FsPath, path: &str) -> PathBuf {
    let below = root.join(path);
    if root.file_name().and_then(|name| name.to_str()) == Some(path) && root.is_file() { root.to_path_buf() } else { below }
}

fn local_entry(path: String, metadata: &fs::Metadata) -> FileEntry {
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    FileEntry { path, length: metadata.len(), modified_ms: i64::try_from(modified.as_millis()).unwrap_or(i64::MAX) }
}

fn store_entry(path: String, meta: &ObjectMeta) -> FileEntry {
    FileEntry { path, length: meta.size, modified_ms: meta.last_modified.timestamp_millis() }
}

/// An open file.
pub(super) struct FileHandle {
    shown: String,
    bytes: FileBytes,
}

enum FileBytes {
    Local(File),
    Object { store: Arc<dyn ObjectStore>, location: Path },
}

impl FileHandle {
    /// The full path, for messages.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Appends `length` bytes from `offset` to `into`.
    /// # Errors
    /// `Corrupt` when the file ends before: it was cut while we read it.
    pub fn read(&mut self, offset: u64, length: u64, into: &mut Vec<u8>) -> Result<()> {
        let before = into.len();
        match &mut self.bytes {
            FileBytes::Local(file) => {
                file.seek(SeekFrom::Start(offset))
                    .and_then(|_| file.take(length).read_to_end(into))
                    .map_err(|error| Error::unavailable(format!("file \"{}\" cannot be read", self.shown)).with_cause(error))?;
            }
            FileBytes::Object { store, location } => {
                let bytes = block_on(store.get_range(location, offset..offset + length))
                    .map_err(|error| store_error(error, format!("cannot read \"{}\"", self.shown)))?;
                into.extend_from_slice(&bytes);
            }
        }
        if (into.len() - before) as u64 == length {
            Ok(())
        } else {
            Err(Error::corrupt(format!("file \"{}\" became shorter while it was read", self.shown))
                .with_help("add files, or rows at the end of files; do not rewrite files that a running job reads"))
        }
    }

    /// The first `length` bytes: the whole file as it was listed.
    pub fn read_all(&mut self, length: u64) -> Result<Bytes> {
        let mut bytes = vec![];
        self.read(0, length, &mut bytes)?;
        Ok(Bytes::from(bytes))
    }
}

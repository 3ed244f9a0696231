//! A folder as an object store whose puts survive a power cut.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// [`LocalFileSystem`] with puts that are on the disk before they are visible, and visible whole or not at all.
///
/// `LocalFileSystem` itself never calls fsync, so that a power cut can leave a file of zeros under its final name. Here a put
/// writes `.<name>#<n>` beside the target, syncs it, links or renames it to the target and syncs the folder. Neither a glob
/// such as `*.parquet` nor a listing sees the temporary name; one left behind by a crash is never read.
///
/// Reads, lists and deletes are those of `LocalFileSystem`; uploads in parts are refused, as nothing here needs them.
#[derive(Debug)]
pub struct DurableFileSystem {
    inner: LocalFileSystem,
}

impl DurableFileSystem {
    /// The store of `folder`, which is created with its parents where missing.
    pub fn create(folder: &FsPath) -> Result<Self> {
        create_folder(folder).map_err(|source| generic(folder, source))?;
        Ok(DurableFileSystem { inner: LocalFileSystem::new_with_prefix(folder)? })
    }
}

impl fmt::Display for DurableFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Durable{}", self.inner)
    }
}

// Written out instead of using the `async_trait` macro, for one implementation.
impl ObjectStore for DurableFileSystem {
    fn put_opts<'s, 'l, 'f>(
        &'s self,
        location: &'l Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> BoxFuture<'f, Result<PutResult>>
    where
        's: 'f,
        'l: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let target = self.inner.path_to_filesystem(location)?;
            let create_only = match options.mode {
                PutMode::Overwrite => false,
                PutMode::Create => true,
                PutMode::Update(_) => return Err(self.not_implemented("put with a version")),
            };
            tokio::task::spawn_blocking(move || put_file(&target, &payload, create_only)).await?
        })
    }

    fn put_multipart_opts<'s, 'l, 'f>(
        &'s self,
        _location: &'l Path,
        _options: PutMultipartOptions,
    ) -> BoxFuture<'f, Result<Box<dyn MultipartUpload>>>
    where
        's: 'f,
        'l: 'f,
        Self: 'f,
    {
        Box::pin(async move { Err(self.not_implemented("upload in parts")) })
    }

    fn get_opts<'s, 'l, 'f>(&'s self, location: &'l Path, options: GetOptions) -> BoxFuture<'f, Result<GetResult>>
    where
        's: 'f,
        'l: 'f,
        Self: 'f,
    {
        self.inner.get_opts(location, options)
    }

    fn get_ranges<'s, 'l, 'r, 'f>(&'s self, location: &'l Path, ranges: &'r [Range<u64>]) -> BoxFuture<'f, Result<Vec<Bytes>>>
    where
        's: 'f,
        'l: 'f,
        'r: 'f,
        Self: 'f,
    {
        self.inner.get_ranges(location, ranges)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_delimiter<'s, 'p, 'f>(&'s self, prefix: Option<&'p Path>) -> BoxFuture<'f, Result<ListResult>>
    where
        's: 'f,
        'p: 'f,
        Self: 'f,
    {
        self.inner.list_with_delimiter(prefix)
    }

    fn copy_opts<'s, 'a, 'b, 'f>(&'s self, from: &'a Path, to: &'b Path, options: CopyOptions) -> BoxFuture<'f, Result<()>>
    where
        's: 'f,
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        self.inner.copy_opts(from, to, options)
    }
}

impl DurableFileSystem {
    fn not_implemented(&self, operation: &str) -> Error {
        Error::NotImplemented { operation: operation.to_string(), implementer: self.to_string() }
    }
}

fn generic(path: &FsPath, source: io::Error) -> Error {
    // The path is part of the text, because the errors of the operating system do not name it.
    Error::Generic { store: "folder", source: format!("{}: {source}", path.display()).into() }
}

fn put_file(target: &FsPath, payload: &PutPayload, create_only: bool) -> Result<PutResult> {
    let folder = target.parent().unwrap_or(FsPath::new("/"));
    create_folder(folder).map_err(|source| generic(folder, source))?;
    let (mut file, temporary) = temporary_file(target).map_err(|source| generic(target, source))?;
    let written = payload
        .iter()
        .try_for_each(|chunk| file.write_all(chunk))
        .and_then(|()| file.sync_all())
        .and_then(|()| if create_only { fs::hard_link(&temporary, target) } else { fs::rename(&temporary, target) });
    if create_only || written.is_err() {
        // Best effort: a name that stays behind is never read.
        let _ = fs::remove_file(&temporary);
    }
    match written.and_then(|()| sync_folder(folder)) {
        Ok(()) => Ok(PutResult { e_tag: None, version: None }),
        Err(source) if create_only && source.kind() == ErrorKind::AlreadyExists => {
            Err(Error::AlreadyExists { path: target.display().to_string(), source: Box::new(source) })
        }
        Err(source) => Err(generic(target, source)),
    }
}

/// A new file `.<name>#<n>` beside `target`. `#<n>` at the end is what `LocalFileSystem` leaves out of listings.
fn temporary_file(target: &FsPath) -> io::Result<(File, PathBuf)> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let mut number = 1;
    loop {
        let path = target.with_file_name(format!(".{name}#{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Creates `folder` and its parents so that they survive a power cut: each new name is synced in its parent.
fn create_folder(folder: &FsPath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(FsPath::new("/"));
    create_folder(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !folder.is_dir() => Err(error),
        _ => sync_folder(parent),
    }
}

fn sync_folder(folder: &FsPath) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

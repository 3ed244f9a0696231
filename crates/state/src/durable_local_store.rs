//! A folder on a local disk as an object store that survives a power cut.
//!
//! object_store's own `LocalFileSystem` does not sync what it writes: after a power cut a named file may be empty. Here a name
//! appears only once its bytes are on disk, and a put returns only once the name is.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path as DiskPath, PathBuf};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use thalweg_core::Error;

/// Marks files that are being written. They are seen by lists, so that garbage collection finds those that a crash left.
const TEMPORARY_MARK: &str = ".tmp-";

/// A [`LocalFileSystem`] whose puts are synced: bytes, then name, then folder.
#[derive(Debug)]
pub struct DurableLocalStore {
    inner: LocalFileSystem,
    root: PathBuf,
}

impl DurableLocalStore {
    /// Makes the folder if needed.
    /// # Errors
    /// `User` when the folder cannot be made or opened.
    pub fn new(root: impl AsRef<DiskPath>) -> thalweg_core::Result<Self> {
        let shown = root.as_ref().display();
        let open = || -> std::io::Result<PathBuf> {
            std::fs::create_dir_all(&root)?;
            root.as_ref().canonicalize()
        };
        let root = open().map_err(|error| Error::user(format!("folder \"{shown}\" cannot be used")).with_cause(error))?;
        let inner = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| Error::user(format!("folder \"{shown}\" cannot be used")).with_cause(error))?;
        Ok(DurableLocalStore { inner, root })
    }
}

impl fmt::Display for DurableLocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableLocalStore({})", self.root.display())
    }
}

/// Methods are written as `async_trait` would expand them.
impl ObjectStore for DurableLocalStore {
    fn put_opts<'life0, 'life1, 'async_trait>(
        &'life0 self,
        location: &'life1 Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> BoxFuture<'async_trait, Result<PutResult>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            if !options.attributes.is_empty() || matches!(options.mode, PutMode::Update(_)) {
                // Not for us to do differently: it answers that this is not implemented.
                return self.inner.put_opts(location, payload, options).await;
            }
            let target = self.inner.path_to_filesystem(location)?;
            let root = self.root.clone();
            let is_create = options.mode == PutMode::Create;
            let written = tokio::task::spawn_blocking(move || write_durably(&root, &target, &payload, is_create)).await?;
            match written {
                Ok(()) => Ok(PutResult { e_tag: None, version: None }),
                Err(error) if is_create && error.kind() == ErrorKind::AlreadyExists => {
                    Err(object_store::Error::AlreadyExists { path: location.to_string(), source: error.into() })
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    Err(object_store::Error::PermissionDenied { path: location.to_string(), source: error.into() })
                }
                Err(error) => Err(object_store::Error::Generic { store: "DurableLocalStore", source: error.into() }),
            }
        })
    }

    fn put_multipart_opts<'life0, 'life1, 'async_trait>(
        &'life0 self,
        location: &'life1 Path,
        options: PutMultipartOptions,
    ) -> BoxFuture<'async_trait, Result<Box<dyn MultipartUpload>>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        self.inner.put_multipart_opts(location, options)
    }

    fn get_opts<'life0, 'life1, 'async_trait>(
        &'life0 self,
        location: &'life1 Path,
        options: GetOptions,
    ) -> BoxFuture<'async_trait, Result<GetResult>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        self.inner.get_opts(location, options)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_delimiter<'life0, 'life1, 'async_trait>(
        &'life0 self,
        prefix: Option<&'life1 Path>,
    ) -> BoxFuture<'async_trait, Result<ListResult>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        self.inner.list_with_delimiter(prefix)
    }

    fn copy_opts<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        from: &'life1 Path,
        to: &'life2 Path,
        options: CopyOptions,
    ) -> BoxFuture<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: 'async_trait,
    {
        self.inner.copy_opts(from, to, options)
    }
}

/// Writes a temporary file beside `target`, syncs it, gives it its name (a hard link fails when the name is taken), and syncs
/// the folder.
fn write_durably(root: &DiskPath, target: &DiskPath, payload: &PutPayload, is_create: bool) -> std::io::Result<()> {
    let folder = target.parent().unwrap_or(root);
    let is_new_folder = !folder.exists();
    std::fs::create_dir_all(folder)?;
    let (mut file, temporary) = temporary_file(target)?;
    let written = (|| {
        payload.iter().try_for_each(|bytes| file.write_all(bytes))?;
        file.sync_all()?;
        if is_create { std::fs::hard_link(&temporary, target) } else { std::fs::rename(&temporary, target) }
    })();
    if is_create || written.is_err() {
        // What remains is found by garbage collection.
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    sync_folder(folder)?;
    if is_new_folder {
        for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(root)) {
            sync_folder(above)?;
        }
    }
    Ok(())
}

fn temporary_file(target: &DiskPath) -> std::io::Result<(File, PathBuf)> {
    let mut number = 1u64;
    loop {
        let mut name = target.as_os_str().to_os_string();
        name.push(format!("{TEMPORARY_MARK}{number}"));
        let temporary = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(unix)]
fn sync_folder(folder: &DiskPath) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Folders cannot be synced elsewhere; NTFS journals names itself.
#[cfg(not(unix))]
fn sync_folder(_folder: &DiskPath) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::test_support::runtime;

    #[test]
    fn create_refuses_overwrite_replaces_and_nothing_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocalStore::new(folder.path().join("deep/er")).unwrap();
        let path = Path::from("job/manifest/1");
        runtime().block_on(async {
            let create = || PutOptions::from(PutMode::Create);
            store.put_opts(&path, "one".into(), create()).await.unwrap();
            let again = store.put_opts(&path, "two".into(), create()).await.unwrap_err();
            assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
            assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");
            store.put(&path, "three".into()).await.unwrap();
            assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "three");
        });
        let names: Vec<_> = std::fs::read_dir(folder.path().join("deep/er/job/manifest")).unwrap().collect();
        assert_eq!(names.len(), 1);
    }
}

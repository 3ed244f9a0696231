//! Object stores by URL, and the one place where asynchronous clients are waited for.
//!
//! The traits of connectors are synchronous; `object_store` is not. [`block_on`] bridges the two on a small runtime that the
//! process shares. It must not be called from within a task of that runtime.

mod local;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use thalweg_core::{Error, ErrorKind, Result, Secret};
use tokio::runtime::{Builder, Runtime};

pub use local::DurableFileSystem;

/// Threads that drive sockets and timers of object store clients; the work itself is done by the callers.
const IO_THREADS: usize = 2;

/// Runs `future` to its end on the calling thread, with the process-wide I/O runtime around it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(IO_THREADS)
                .thread_name("thalweg-io")
                .enable_all()
                .build()
                .expect("the operating system gives two threads")
        })
        .block_on(future)
}

/// What object store clients need to know beyond the URL. Built by `cli` from settings and environment; values are secret.
///
/// Names are those of the AWS command line in lower case (`aws_access_key_id`, `aws_region`, `aws_endpoint_url`,
/// `aws_allow_http`…) or Flink's (`s3.access-key`, `s3.secret-key`, `s3.endpoint`, `s3.region`, `s3.path.style.access`).
#[derive(Clone, Debug, Default)]
pub struct StoreSettings {
    entries: BTreeMap<String, Secret>,
}

impl StoreSettings {
    /// The settings among `variables` (the environment): those whose names begin with `AWS_`.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut settings = StoreSettings::default();
        for (name, value) in variables {
            if name.starts_with("AWS_") {
                settings.insert(&name, value);
            }
        }
        settings
    }

    /// Sets one value; a later one wins. Names that no client knows are ignored when a store is opened.
    pub fn insert(&mut self, name: &str, value: impl Into<String>) {
        let lower = name.to_lowercase();
        let mut value = value.into();
        let name = match lower.as_str() {
            "s3.access-key" | "s3.access.key" => "aws_access_key_id",
            "s3.secret-key" | "s3.secret.key" => "aws_secret_access_key",
            "s3.endpoint" => "aws_endpoint_url",
            "s3.region" => "aws_region",
            "s3.path.style.access" | "s3.path-style-access" => {
                value = (!value.eq_ignore_ascii_case("true")).to_string();
                "aws_virtual_hosted_style_request"
            }
            other => other,
        };
        self.entries.insert(name.to_string(), Secret::new(value));
    }
}

/// A place for files, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreUrl {
    /// An absolute path of this machine.
    Local(PathBuf),
    /// `memory://name/path`: a store that lives as long as the process, one for each name.
    Memory { name: String, path: Path },
    /// `s3://bucket/path` (also `s3a`, `s3n`).
    S3 { bucket: String, path: Path },
}

impl StoreUrl {
    /// # Errors
    /// `User` for a scheme that is not linked in, or a path that no store can have.
    pub fn parse(url: &str) -> Result<StoreUrl> {
        if let Some(rest) = url.strip_prefix("file:") {
            let path = match rest.strip_prefix("//") {
                Some(with_host) => with_host.strip_prefix("localhost").unwrap_or(with_host),
                None => rest,
            };
            if !path.starts_with('/') {
                return Err(Error::user(format!("file URL \"{url}\" has no absolute path"))
                    .with_help("write three slashes (file:///data/in), or a plain path"));
            }
            return local(path);
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return local(url);
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = object_path(path).map_err(|error| error.in_context(format!("URL \"{url}\"")))?;
        match scheme {
            "memory" => Ok(StoreUrl::Memory { name: host.to_string(), path }),
            "s3" | "s3a" | "s3n" if host.is_empty() => {
                Err(Error::user(format!("URL \"{url}\" names no bucket")).with_help("write s3://bucket/path"))
            }
            "s3" | "s3a" | "s3n" => Ok(StoreUrl::S3 { bucket: host.to_string(), path }),
            _ => Err(Error::user(format!("URL \"{url}\" has the scheme \"{scheme}\", which is not supported"))
                .with_help("use a plain path, file:///path or s3://bucket/path")),
        }
    }
}

fn local(path: &str) -> Result<StoreUrl> {
    if path.is_empty() {
        return Err(Error::user("a path is empty").with_help("name a folder, or . for the current one"));
    }
    std::path::absolute(path)
        .map(StoreUrl::Local)
        .map_err(|error| Error::user(format!("path \"{path}\" cannot be made absolute")).with_cause(error))
}

/// A path of an object store, taken as written: nothing in it is percent-encoded or decoded.
pub fn object_path(path: &str) -> Result<Path> {
    Path::parse(path.trim_end_matches('/'))
        .map_err(|error| Error::user(format!("path \"{path}\" cannot be used in an object store")).with_cause(error))
}

/// Opens the store of `url` for reading and writing; a local folder is created. Gives the store and the path of `url` in it.
///
/// Local stores write through to the disk ([`DurableFileSystem`]), and every store has create-only puts.
/// # Errors
/// `User` for a URL that cannot work here, `Unavailable` for a folder that cannot be created.
pub fn open_store(url: &str, settings: &StoreSettings) -> Result<(Arc<dyn ObjectStore>, Path)> {
    match StoreUrl::parse(url)? {
        StoreUrl::Local(path) => {
            let store = DurableFileSystem::create(&path).map_err(|error| {
                Error::unavailable(format!("folder \"{}\" cannot be created or opened", path.display())).with_cause(error)
            })?;
            Ok((Arc::new(store), Path::default()))
        }
        StoreUrl::Memory { name, path } => Ok((memory_store(&name), path)),
        StoreUrl::S3 { bucket, path } => Ok((open_s3(&bucket, settings)?, path)),
    }
}

fn memory_store(name: &str) -> Arc<dyn ObjectStore> {
    static STORES: Mutex<BTreeMap<String, Arc<InMemory>>> = Mutex::new(BTreeMap::new());
    let mut stores = STORES.lock().expect("no holder of this lock panics");
    stores.entry(name.to_string()).or_default().clone()
}

#[cfg(feature = "s3")]
fn open_s3(bucket: &str, settings: &StoreSettings) -> Result<Arc<dyn ObjectStore>> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    use object_store::{BackoffConfig, ClientOptions, RetryConfig};
    use std::time::Duration;

    // Short, because the caller retries too and shows that it does.
    let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 4, retry_timeout: Duration::from_secs(20) };
    // The client's own limit of 30 s would fail every large file on a slow line.
    let client = ClientOptions::new().with_timeout(Duration::from_secs(300)).with_connect_timeout(Duration::from_secs(5));
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(retry).with_client_options(client);
    for (name, value) in &settings.entries {
        if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value.reveal());
        }
    }
    // Who writes an endpoint without TLS means it; the client would otherwise refuse.
    let endpoints = ["aws_endpoint_url_s3", "aws_endpoint_url", "aws_endpoint"];
    let mut given = endpoints.iter().filter_map(|name| settings.entries.get(*name));
    if given.any(|endpoint| endpoint.reveal().starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    let store = builder
        .build()
        .map_err(|error| Error::user(format!("bucket \"{bucket}\" cannot be opened with these settings")).with_cause(error))?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "s3"))]
fn open_s3(bucket: &str, _settings: &StoreSettings) -> Result<Arc<dyn ObjectStore>> {
    Err(Error::user(format!("bucket \"{bucket}\" cannot be opened: this binary was built without S3"))
        .with_help("build with the cargo feature s3"))
}

/// An error of a store as ours: `Unavailable`, with a next step where we know one. `action` reads like `cannot list "s3://…"`.
pub fn store_error(error: object_store::Error, action: impl std::fmt::Display) -> Error {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let help = match &error {
        PermissionDenied { .. } => Some("check that these credentials may list, read and create objects there"),
        Unauthenticated { .. } => Some("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or s3.access-key and s3.secret-key"),
        NotFound { .. } => Some("check the name of the bucket or folder"),
        _ => None,
    };
    let ours = Error::unavailable(action.to_string()).with_store_cause(error);
    match help {
        Some(help) => ours.with_help(help),
        None => ours,
    }
}

/// As [`store_error`] for a put. A store that finds nothing to put into has no such bucket: trying again cannot help.
pub fn put_error(error: object_store::Error, action: impl std::fmt::Display) -> Error {
    let is_missing = matches!(error, object_store::Error::NotFound { .. });
    let mut ours = store_error(error, action);
    if is_missing {
        ours.kind = ErrorKind::User;
    }
    ours
}

/// What a create-only put found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    New,
    /// There was an object of that name; it was left as it is.
    Existed,
}

/// Puts an object that must not exist yet.
pub fn create_object(store: &dyn ObjectStore, location: &Path, bytes: bytes::Bytes) -> Result<Created, object_store::Error> {
    let options = PutOptions::from(PutMode::Create);
    match block_on(store.put_opts(location, PutPayload::from(bytes), options)) {
        Ok(_) => Ok(Created::New),
        // S3 answers a lost race with 409 or 412; both mean that the name is taken.
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(Created::Existed),
        Err(error) => Err(error),
    }
}

/// The whole object.
pub fn read_object(store: &dyn ObjectStore, location: &Path) -> Result<bytes::Bytes, object_store::Error> {
    block_on(async { store.get(location).await?.bytes().await })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn urls() {
        let local = |path: &str| StoreUrl::Local(PathBuf::from(path));
        assert_eq!(StoreUrl::parse("/data/in").unwrap(), local("/data/in"));
        assert_eq!(StoreUrl::parse("file:///data/in").unwrap(), local("/data/in"));
        assert_eq!(StoreUrl::parse("file:/data/in").unwrap(), local("/data/in"));
        let expected = StoreUrl::S3 { bucket: "lake".to_string(), path: Path::from("a/b") };
        assert_eq!(StoreUrl::parse("s3://lake/a/b/").unwrap(), expected);
        for wrong in ["gs://bucket/x", "s3:///x", "file://host", "", "s3://bucket/a/../b"] {
            assert_eq!(StoreUrl::parse(wrong).unwrap_err().kind, thalweg_core::ErrorKind::User, "{wrong}");
        }
    }

    #[test]
    fn settings_are_not_shown() {
        let variables = [("AWS_SECRET_ACCESS_KEY", "canary"), ("HOME", "canary")];
        let settings = StoreSettings::from_variables(variables.map(|(name, value)| (name.to_string(), value.to_string())));
        assert_eq!(settings.entries.len(), 1);
        assert!(!format!("{settings:?}").contains("canary"));
    }

    #[test]
    fn create_only_puts_on_disk_and_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings::default();
        let on_disk = folder.path().join("new/folder").display().to_string();
        for url in [on_disk.as_str(), "memory://create_only_puts"] {
            let (store, prefix) = open_store(url, &settings).unwrap();
            let location = prefix.join("day=1").join("part");
            let create = |text: &'static str| create_object(store.as_ref(), &location, Bytes::from(text)).unwrap();
            assert_eq!(create("first"), Created::New);
            assert_eq!(create("second"), Created::Existed);
            assert_eq!(read_object(store.as_ref(), &location).unwrap(), Bytes::from("first"));
        }
        let names: Vec<_> = std::fs::read_dir(folder.path().join("new/folder/day=1")).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file stays behind");
    }

    #[test]
    fn memory_stores_are_found_again_by_name() {
        let settings = StoreSettings::default();
        let (store, prefix) = open_store("memory://found_again/a", &settings).unwrap();
        create_object(store.as_ref(), &prefix.join("x"), Bytes::from("1")).unwrap();
        let (again, _) = open_store("memory://found_again", &settings).unwrap();
        assert_eq!(read_object(again.as_ref(), &Path::from("a/x")).unwrap(), Bytes::from("1"));
    }
}

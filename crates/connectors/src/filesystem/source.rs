//! A folder as a source: each file is a partition.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use regex::Regex;
use thalweg_core::{Assignment, Decoder, Options, PartitionId, ReadMode, Result, ScanField, ScanRequest, Source, SourceReader};

use super::folder::{FileEntry, Folder};
use super::options::{FileFormat, SourceOptions};
use super::reader::FileReader;
use super::{DecoderFactory, FileFormats, ParquetReader};
use crate::store::StoreSettings;

/// The source of a `filesystem` table.
///
/// A partition is a file, its name the path below the folder; positions are bytes (lines formats) or rows (parquet). A file
/// is read up to the length it had when it was listed; a later run reads on from there if it has grown.
pub struct FileSource {
    shape: Arc<ScanShape>,
    pattern: Option<Regex>,
    /// `None` when the source ends with what is there.
    monitor_interval: Option<Duration>,
    known: KnownFiles,
}

/// The files of the last listing, so that a reader need not look at each again.
pub(super) type KnownFiles = Arc<Mutex<BTreeMap<String, FileEntry>>>;

/// Where an output column comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ColumnOrigin {
    /// This column of the decoded batch.
    Decoded(usize),
    /// The folder names of the file.
    Folder,
    /// What is known of the file: the metadata key.
    File(String),
}

/// What all readers of one scan share.
pub(super) struct ScanShape {
    pub folder: Folder,
    pub format: FileFormat,
    pub default_name: String,
    /// The output, and where each of its columns comes from.
    pub schema: SchemaRef,
    pub origins: Vec<ColumnOrigin>,
    /// What the decoder gives.
    pub decoded: Vec<FieldRef>,
    /// All columns that the files have.
    in_files: SchemaRef,
    options: Options,
    decoder: DecoderFactory,
    pub read_parquet: ParquetReader,
}

impl ScanShape {
    pub fn decoder(&self) -> Result<Box<dyn Decoder>> {
        let name = self.format.extension();
        (self.decoder)(name, "", self.decoded.clone(), self.in_files.clone(), &self.options)
    }
}

impl FileSource {
    pub fn open(request: ScanRequest, settings: &StoreSettings, formats: FileFormats) -> Result<FileSource> {
        let options = SourceOptions::parse(&request.options)?;
        let mut decoded = vec![];
        let mut origins = vec![];
        for field in &request.fields {
            origins.push(match field {
                ScanField::Metadata { key, .. } => ColumnOrigin::File(key.clone()),
                ScanField::Physical(field) if request.partitioned_by.contains(field.name()) => ColumnOrigin::Folder,
                ScanField::Physical(field) => {
                    decoded.push(field.clone());
                    ColumnOrigin::Decoded(decoded.len() - 1)
                }
            });
        }
        let in_files: Vec<FieldRef> = request
            .physical_schema
            .fields()
            .iter()
            .filter(|field| !request.partitioned_by.contains(field.name()))
            .cloned()
            .collect();
        let schema = Schema::new(request.fields.iter().map(|field| field.field().clone()).collect::<Vec<_>>());
        Ok(FileSource {
            shape: Arc::new(ScanShape {
                folder: Folder::open(&options.path, settings)?,
                format: options.format,
                default_name: options.default_name,
                schema: Arc::new(schema),
                origins,
                decoded,
                in_files: Arc::new(Schema::new(in_files)),
                options: request.options,
                decoder: formats.decoder,
                read_parquet: formats.read_parquet,
            }),
            pattern: options.pattern,
            monitor_interval: options.monitor_interval.filter(|_| request.mode == ReadMode::AsDeclared),
            known: KnownFiles::default(),
        })
    }
}

impl Source for FileSource {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        let folder = &self.shape.folder;
        let mut files = folder.list()?;
        files.retain(|file| self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&folder.full_path(&file.path))));
        let partitions = files.iter().map(|file| PartitionId(file.path.clone())).collect();
        let mut known = self.known.lock().expect("no holder of this lock panics");
        *known = files.into_iter().map(|file| (file.path.clone(), file)).collect();
        Ok(partitions)
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.monitor_interval
    }

    fn is_bounded(&self) -> bool {
        self.monitor_interval.is_none()
    }

    fn reader(&self, assignments: Vec<Assignment>) -> Result<Box<dyn SourceReader>> {
        let mut reader = FileReader::new(self.shape.clone(), self.known.clone())?;
        reader.assign(assignments)?;
        Ok(Box::new(reader))
    }
}

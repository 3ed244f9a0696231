//! A folder as the right side of a lookup join.

use std::sync::Arc;

use arrow::datatypes::Schema;
use thalweg_core::{LookupRequest, ReadMode, Result, ScanRequest, Source};

use super::options::reload_interval;
use super::{FileFormats, FileSource};
use crate::full_lookup::{FullLookup, LookupShape};
use crate::store::StoreSettings;

/// The files that are there when the first look-up comes, held in memory; also of a folder that is monitored as a source.
/// # Errors
/// `User` for options that the connector's check would have refused.
pub fn lookup(request: LookupRequest, settings: &StoreSettings, formats: FileFormats) -> Result<FullLookup> {
    let shape = LookupShape {
        table: request.table.clone(),
        schema: Arc::new(Schema::new(request.fields.iter().map(|field| field.field().clone()).collect::<Vec<_>>())),
        keys: request.keys.clone(),
        reload_interval: reload_interval(&request.options)?,
    };
    let clock = request.clock.clone();
    let scan = ScanRequest {
        table: request.table,
        options: request.options,
        fields: request.fields,
        physical_schema: request.physical_schema,
        partitioned_by: request.partitioned_by,
        primary_key: request.primary_key,
        time_zone: request.time_zone,
        mode: ReadMode::UntilCaughtUp,
        clock: request.clock,
    };
    let settings = settings.clone();
    let open = move || -> Result<Arc<dyn Source>> { Ok(Arc::new(FileSource::open(scan.clone(), &settings, formats)?)) };
    Ok(FullLookup::new(shape, Box::new(open), clock))
}

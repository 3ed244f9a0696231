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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field};
    use thalweg_core::{ErrorKind, LaneId, Lookup, LookupTable, ManualClock, Options, ScanField};

    use super::*;
    use crate::filesystem::testing::{field, rows_text};

    fn open(
        path: &Path,
        fields: &[(&str, DataType)],
        keys: &[usize],
        more: &[(&str, &str)],
        clock: &Arc<ManualClock>,
    ) -> FullLookup {
        let mut options = Options::new();
        options.insert("path", path.display().to_string());
        options.insert("format", "json");
        more.iter().for_each(|(name, value)| options.insert(*name, *value));
        let fields: Vec<_> = fields.iter().map(|(name, kind)| field(name, kind.clone())).collect();
        let request = LookupRequest {
            table: "side".to_string(),
            options,
            fields: fields.iter().cloned().map(ScanField::Physical).collect(),
            keys: keys.to_vec(),
            physical_schema: Arc::new(Schema::new(fields)),
            partitioned_by: vec![],
            primary_key: vec![],
            time_zone: "UTC".to_string(),
            clock: clock.clone(),
        };
        lookup(request, &StoreSettings::default(), crate::FILE_FORMATS).expect("a good table")
    }

    fn ask(table: &mut dyn LookupTable, keys: Vec<(&str, ArrayRef)>) -> Result<Vec<Vec<String>>> {
        let fields: Vec<_> = keys.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let columns = keys.into_iter().map(|(_, array)| array).collect();
        let found = table.lookup(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("equal lengths"))?;
        Ok(found.ranges.into_iter().map(|range| rows_text(&found.rows.slice(range.start, range.len()))).collect())
    }

    fn numbers(values: &[Option<i64>]) -> Vec<(&'static str, ArrayRef)> {
        vec![("n", Arc::new(Int64Array::from(values.to_vec())))]
    }

    const N_S: &[(&str, DataType)] = &[("n", DataType::Int64), ("s", DataType::Utf8)];

    #[test]
    fn rows_of_a_key_come_in_the_order_of_the_files() {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::write(dir.path().join("b.json"), "{\"n\":1,\"s\":\"third\"}\n{\"s\":\"no key\"}\n").expect("written");
        std::fs::write(
            dir.path().join("a.json"),
            "{\"n\":2,\"s\":\"x\"}\n{\"n\":1,\"s\":\"first\"}\n{\"n\":1,\"s\":\"second\"}\n",
        )
        .expect("written");
        let clock = Arc::new(ManualClock::default());
        let lookup = open(dir.path(), N_S, &[0], &[], &clock);
        let (mut one, mut other) = (lookup.table(LaneId(0)).expect("lane"), lookup.table(LaneId(1)).expect("lane"));
        let found = ask(one.as_mut(), numbers(&[Some(1), Some(7), Some(2), None, Some(1)])).expect("read");
        let ones = ["1 first", "1 second", "1 third"];
        assert_eq!(found, [&ones[..], &[], &["2 x"], &["null no key"], &ones]);
        // The lanes share the rows; the first one tells of them.
        std::fs::remove_file(dir.path().join("a.json")).expect("removed");
        assert_eq!(ask(other.as_mut(), numbers(&[Some(2)])).expect("read"), [["2 x"]]);
        assert!(one.memory_bytes() > 0);
        assert_eq!(other.memory_bytes(), 0);
    }

    #[test]
    fn keys_of_several_columns_and_floats() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("a.json");
        std::fs::write(
            &path,
            "{\"f\":0.0,\"s\":\"a\",\"n\":1}\n{\"f\":-0.0,\"s\":\"a\",\"n\":2}\n{\"f\":0.0,\"s\":\"b\",\"n\":3}\n",
        )
        .expect("written");
        let fields = [("n", DataType::Int64), ("s", DataType::Utf8), ("f", DataType::Float64)];
        let clock = Arc::new(ManualClock::default());
        let mut table = open(&path, &fields, &[2, 1], &[], &clock).table(LaneId(0)).expect("lane");
        let keys = |floats: Vec<f64>, texts: Vec<&str>| -> Vec<(&'static str, ArrayRef)> {
            vec![("f", Arc::new(Float64Array::from(floats))), ("s", Arc::new(StringArray::from(texts)))]
        };
        let found = ask(table.as_mut(), keys(vec![0.0, -0.0, 0.0, f64::NAN], vec!["a", "a", "b", "a"])).expect("read");
        assert_eq!(found, [&["1 a 0.0"][..], &["2 a -0.0"], &["3 b 0.0"], &[]]);
    }

    #[test]
    fn rows_are_read_again_when_they_are_old_enough() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("a.json");
        let write = |text: &str| std::fs::write(&path, format!("{{\"n\":1,\"s\":\"{text}\"}}\n")).expect("written");
        write("old");
        let clock = Arc::new(ManualClock::default());
        let interval = [("lookup.full-cache.periodic-reload.interval", "10 s")];
        let mut reloading = open(dir.path(), N_S, &[0], &interval, &clock).table(LaneId(0)).expect("lane");
        let partial = [("lookup.cache", "PARTIAL"), ("lookup.partial-cache.expire-after-write", "5 s")];
        let mut expiring = open(dir.path(), N_S, &[0], &partial, &clock).table(LaneId(0)).expect("lane");
        let mut keeping = open(dir.path(), N_S, &[0], &[], &clock).table(LaneId(0)).expect("lane");
        let mut found = || -> Vec<String> {
            [&mut reloading, &mut expiring, &mut keeping]
                .map(|table| ask(table.as_mut(), numbers(&[Some(1)])).expect("read").concat().concat())
                .to_vec()
        };
        assert_eq!(found(), ["1 old", "1 old", "1 old"]);
        write("new");
        assert_eq!(found(), ["1 old", "1 old", "1 old"]);
        clock.advance(Duration::from_secs(5));
        assert_eq!(found(), ["1 old", "1 new", "1 old"]);
        clock.advance(Duration::from_secs(5));
        assert_eq!(found(), ["1 new", "1 new", "1 old"]);
        // What cannot be read leaves the rows as they were.
        std::fs::write(&path, "{").expect("written");
        clock.advance(Duration::from_secs(10));
        assert_eq!(found(), ["1 new", "1 new", "1 old"]);
        write("newest");
        clock.advance(Duration::from_secs(10));
        assert_eq!(found(), ["1 newest", "1 newest", "1 old"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::write(dir.path().join("a.json"), "{\"n\":\"x\"}\n").expect("written");
        let clock = Arc::new(ManualClock::default());
        let mut table = open(dir.path(), N_S, &[0], &[], &clock).table(LaneId(0)).expect("lane");
        let error = ask(table.as_mut(), numbers(&[Some(1)])).expect_err("no number");
        assert_eq!(error.kind, ErrorKind::Record);
        assert!(error.message.starts_with("lookup table \"side\": ") && error.message.contains("a.json:1"), "{}", error.message);
        let mut table = open(&dir.path().join("missing"), N_S, &[0], &[], &clock).table(LaneId(0)).expect("lane");
        assert_eq!(ask(table.as_mut(), numbers(&[Some(1)])).expect_err("no folder").kind, ErrorKind::User);
        // An empty folder is an empty table.
        std::fs::remove_file(dir.path().join("a.json")).expect("removed");
        let mut table = open(dir.path(), N_S, &[0], &[], &clock).table(LaneId(0)).expect("lane");
        assert_eq!(ask(table.as_mut(), numbers(&[Some(1)])).expect("read"), [Vec::<String>::new()]);
    }
}

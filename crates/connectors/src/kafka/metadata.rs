//! Metadata columns of a scan: topic, partition, offset, timestamp and the like, as arrays beside the decoded ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, MapArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef};
use chrono::{Offset, TimeZone};
use thalweg_core::{Error, Result};

use super::record::Record;

/// One metadata column while its rows come in.
pub struct MetadataColumn {
    field: FieldRef,
    values: Values,
}

enum Values {
    Topic(usize),
    Partition(usize),
    Offset(Vec<i64>),
    LeaderEpoch(Vec<Option<i32>>),
    /// Microseconds.
    Timestamp(Vec<Option<i64>>),
    TimestampType(Vec<&'static str>),
    Headers(Vec<BTreeMap<String, Option<Vec<u8>>>>),
}

impl MetadataColumn {
    /// # Errors
    /// `User` for a key that the connector does not have.
    pub fn new(key: &str, field: FieldRef) -> Result<Self> {
        let values = match key {
            "topic" => Values::Topic(0),
            "partition" => Values::Partition(0),
            "offset" => Values::Offset(vec![]),
            "leader-epoch" => Values::LeaderEpoch(vec![]),
            "timestamp" => Values::Timestamp(vec![]),
            "timestamp-type" => Values::TimestampType(vec![]),
            "headers" => Values::Headers(vec![]),
            other => return Err(Error::user(format!("connector \"kafka\" has no metadata column \"{other}\""))),
        };
        Ok(MetadataColumn { field, values })
    }

    /// Adds the record's value `rows` times: once for each row that came of it.
    pub fn push(&mut self, record: &Record<'_>, rows: usize) {
        match &mut self.values {
            Values::Topic(count) | Values::Partition(count) => *count += rows,
            Values::Offset(values) => values.extend(std::iter::repeat_n(record.offset, rows)),
            Values::LeaderEpoch(values) => values.extend(std::iter::repeat_n(record.leader_epoch, rows)),
            Values::Timestamp(values) => {
                let micros = record.timestamp_ms.map(|millis| millis.saturating_mul(1_000));
                values.extend(std::iter::repeat_n(micros, rows));
            }
            Values::TimestampType(values) => values.extend(std::iter::repeat_n(record.timestamp_type.name(), rows)),
            Values::Headers(values) => {
                let mut headers = BTreeMap::new();
                record.headers.each(&mut |name, value| {
                    headers.insert(name.to_string(), value.map(<[u8]>::to_vec));
                });
                values.extend(std::iter::repeat_n(headers, rows));
            }
        }
    }

    /// The column for all rows since the last call, cast to its declared type.
    pub fn finish(&mut self, topic: &str, partition: i32, time_zone: &str) -> Result<ArrayRef> {
        let array: ArrayRef = match &mut self.values {
            Values::Topic(count) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, std::mem::take(count)))),
            Values::Partition(count) => Arc::new(Int32Array::from(vec![partition; std::mem::take(count)])),
            Values::Offset(values) => Arc::new(Int64Array::from(std::mem::take(values))),
            Values::LeaderEpoch(values) => Arc::new(Int32Array::from(std::mem::take(values))),
            Values::TimestampType(values) => Arc::new(StringArray::from(std::mem::take(values))),
            Values::Timestamp(values) => timestamps(std::mem::take(values), self.field.data_type(), time_zone)?,
            Values::Headers(values) => return headers_array(&std::mem::take(values), &self.field),
        };
        if array.data_type() == self.field.data_type() {
            return Ok(array);
        }
        arrow::compute::cast(&array, self.field.data_type()).map_err(Error::from)
    }
}

/// An instant as such, or, where the column is declared as TIMESTAMP without zone, what clocks in `time_zone` showed.
fn timestamps(micros: Vec<Option<i64>>, declared: &DataType, time_zone: &str) -> Result<ArrayRef> {
    if !matches!(declared, DataType::Timestamp(_, None)) {
        return Ok(Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC")));
    }
    let zone: chrono_tz::Tz =
        time_zone.parse().map_err(|_| Error::user(format!("\"{time_zone}\" is not a time zone that is known")))?;
    let local = |micros: i64| -> i64 {
        let offset_seconds = chrono::DateTime::from_timestamp_micros(micros)
            .map_or(0, |instant| zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc());
        micros.saturating_add(i64::from(offset_seconds) * 1_000_000)
    };
    Ok(Arc::new(TimestampMicrosecondArray::from_iter(micros.into_iter().map(|micros| micros.map(local)))))
}

fn headers_array(rows: &[BTreeMap<String, Option<Vec<u8>>>], field: &FieldRef) -> Result<ArrayRef> {
    let wrong_type = || Error::user(format!("metadata column \"{}\" must be MAP<STRING, BYTES>", field.name()));
    let DataType::Map(entries_field, sorted) = field.data_type() else { return Err(wrong_type()) };
    let DataType::Struct(entry_fields) = entries_field.data_type() else { return Err(wrong_type()) };
    let [key_field, value_field] = entry_fields.as_ref() else { return Err(wrong_type()) };
    let keys: ArrayRef = Arc::new(rows.iter().flat_map(|row| row.keys()).map(Some).collect::<StringArray>());
    let values: ArrayRef =
        Arc::new(BinaryArray::from_iter(rows.iter().flat_map(|row| row.values().map(|value| value.as_deref()))));
    let cast = |array: ArrayRef, wanted: &FieldRef| -> Result<ArrayRef> {
        if array.data_type() == wanted.data_type() {
            return Ok(array);
        }
        arrow::compute::cast(&array, wanted.data_type()).map_err(|_| wrong_type())
    };
    let entries = StructArray::try_new(entry_fields.clone(), vec![cast(keys, key_field)?, cast(values, value_field)?], None)?;
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(BTreeMap::len));
    Ok(Arc::new(MapArray::try_new(entries_field.clone(), offsets, entries, None, *sorted)?))
}

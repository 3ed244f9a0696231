//! The options of a `kafka` or `upsert-kafka` table, read once into types that cannot be wrong. Used for real topics and for
//! embedded ones alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use thalweg_core::{
    Decoder, DeliveryGuarantee, Encoder, Error, Options, PartitionId, ReadMode, Result, ScanRequest, SinkRequest, SourceEvent,
};

use super::partitioner::PartitionerKind;
use super::upsert;

/// Makes a decoder: format name, option prefix (`""`, `"value."` or `"key."`), fields to give, all fields of the record, options.
pub type DecoderFactory = dyn Fn(&str, &str, Vec<FieldRef>, SchemaRef, &Options) -> Result<Box<dyn Decoder>> + Send + Sync;

/// Makes an encoder: format name, option prefix, schema of the rows, options.
pub type EncoderFactory = dyn Fn(&str, &str, SchemaRef, &Options) -> Result<Box<dyn Encoder>> + Send + Sync;

/// The connector of a table: `kafka` or `upsert-kafka`.
pub fn connector_of(options: &Options) -> &str {
    options.get("connector").unwrap_or("kafka")
}

/// Whether records are upserts by the PRIMARY KEY, which is then the key of the record.
pub fn is_of_upserts(options: &Options) -> bool {
    connector_of(options) == upsert::NAME
}

/// The columns that make the key of a record, in its order.
pub fn key_fields<'a>(options: &'a Options, primary_key: &'a [String]) -> Vec<&'a str> {
    if is_of_upserts(options) {
        return primary_key.iter().map(String::as_str).collect();
    }
    options.get("key.fields").map(split_list).unwrap_or_default()
}

/// The topics of a table.
#[derive(Clone, Debug)]
pub enum Topics {
    Named(Vec<String>),
    /// Matches whole names.
    Pattern(regex::Regex),
}

/// A place in a topic that an option names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    Earliest,
    Latest,
    /// What the consumer group committed.
    Group,
    /// The first record of this time (milliseconds) or later.
    Timestamp(i64),
    /// By partition number.
    Offsets(BTreeMap<i32, i64>),
}

/// What to do where the consumer group has no committed offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetReset {
    Earliest,
    Latest,
    Fail,
}

/// One side of a record: its format and the columns that are in it.
#[derive(Clone, Debug)]
pub struct RecordPart {
    pub format: String,
    /// In front of the format's options.
    pub option_prefix: &'static str,
    /// Names of the table's columns in this part, and their names within the record.
    pub columns: Vec<(String, String)>,
}

impl RecordPart {
    /// The schema of the record: the columns under their names within it, in declared order.
    pub fn schema(&self, table_schema: &Schema) -> Result<SchemaRef> {
        let fields = self
            .columns
            .iter()
            .map(|(column, inner)| Ok(renamed(table_schema.field_with_name(column).map_err(Error::from)?, inner)))
            .collect::<Result<Vec<FieldRef>>>()?;
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The name within the record of a column of the table.
    pub fn inner_name(&self, column: &str) -> Option<&str> {
        self.columns.iter().find(|(name, _)| name == column).map(|(_, inner)| inner.as_str())
    }
}

/// `field` under another name.
pub fn renamed(field: &Field, name: &str) -> FieldRef {
    Arc::new(field.clone().with_name(name))
}

/// How a table's columns are spread over key and value.
#[derive(Clone, Debug)]
pub struct RecordLayout {
    pub key: Option<RecordPart>,
    pub value: RecordPart,
}

impl RecordLayout {
    fn from_options(options: &Options, physical: &[String], primary_key: &[String]) -> Result<Self> {
        let (format, option_prefix) = match (options.get("format"), options.get("value.format")) {
            (Some(format), None) => (format, ""),
            (None, Some(format)) => (format, "value."),
            (None, None) => {
                let connector = connector_of(options);
                return Err(Error::user(format!("connector \"{connector}\" needs the option \"value.format\"")));
            }
            (Some(_), Some(_)) => return Err(Error::user("options \"format\" and \"value.format\" exclude each other")),
        };
        let prefix = options.get("key.fields-prefix").unwrap_or_default();
        let key_fields = key_fields(options, primary_key);
        let key = match options.get("key.format") {
            None => None,
            Some(key_format) => {
                let columns = key_fields
                    .iter()
                    .map(|column| {
                        if !physical.iter().any(|name| name == column) {
                            return Err(Error::user(format!("key field \"{column}\" is not a physical column")));
                        }
                        Ok((column.to_string(), column.strip_prefix(prefix).unwrap_or(column).to_string()))
                    })
                    .collect::<Result<Vec<_>>>()?;
                Some(RecordPart { format: key_format.to_string(), option_prefix: "key.", columns })
            }
        };
        let without_key = options.get("value.fields-include") == Some("EXCEPT_KEY");
        let columns = physical
            .iter()
            .filter(|name| !(without_key && key_fields.contains(&name.as_str())))
            .map(|name| (name.clone(), name.clone()))
            .collect();
        Ok(RecordLayout { key, value: RecordPart { format: format.to_string(), option_prefix, columns } })
    }
}

/// A table to read.
#[derive(Clone)]
pub struct ScanTable {
    pub table: String,
    pub topics: Topics,
    pub layout: RecordLayout,
    /// Whether records are upserts: the key is then that of the table, and a record without a value deletes.
    pub upserts: bool,
    pub startup: Place,
    pub reset: OffsetReset,
    /// Where to stop; `None` is never.
    pub bounded: Option<Place>,
    pub mode: ReadMode,
    pub discovery_interval: Option<Duration>,
    /// As given by the user; group offsets are committed only then.
    pub group_id: Option<String>,
    pub options: Options,
    pub decoder: Arc<DecoderFactory>,
}

impl ScanTable {
    /// What a reader says of a partition that it has read to the end of its range.
    pub fn end_event(&self, partition: PartitionId) -> SourceEvent {
        match self.mode {
            ReadMode::AsDeclared => SourceEvent::PartitionEnd(partition),
            ReadMode::UntilCaughtUp => SourceEvent::CaughtUp(partition),
        }
    }

    /// # Errors
    /// `User` for what [`super::check`] would have found.
    pub fn from_scan(request: &ScanRequest, decoder: Arc<DecoderFactory>) -> Result<Self> {
        let options = &request.options;
        let physical: Vec<String> = request.physical_schema.fields().iter().map(|field| field.name().clone()).collect();
        let bounded = match options.get("scan.bounded.mode") {
            None | Some("unbounded") => None,
            Some(mode) => Some(place(options, "bounded", mode)?),
        };
        let interval = options.duration("scan.topic-partition-discovery.interval")?.unwrap_or(Duration::from_secs(300));
        let ends = bounded.is_some() || request.mode == ReadMode::UntilCaughtUp;
        Ok(ScanTable {
            table: request.table.clone(),
            topics: topics(options)?,
            layout: RecordLayout::from_options(options, &physical, &request.primary_key)?,
            upserts: is_of_upserts(options),
            startup: match is_of_upserts(options) {
                // Upserts mean nothing without those before them.
                true => Place::Earliest,
                false => place(options, "startup", options.get("scan.startup.mode").unwrap_or("group-offsets"))?,
            },
            reset: match options.get("properties.auto.offset.reset") {
                Some("earliest" | "smallest" | "beginning") => OffsetReset::Earliest,
                Some("latest" | "largest" | "end") => OffsetReset::Latest,
                _ => OffsetReset::Fail,
            },
            bounded,
            mode: request.mode,
            discovery_interval: (!ends && !interval.is_zero()).then_some(interval),
            group_id: options.get("properties.group.id").map(str::to_string),
            options: options.clone(),
            decoder,
        })
    }

    /// The consumer group to speak as, also when the user named none.
    pub fn effective_group_id(&self) -> String {
        self.group_id.clone().unwrap_or_else(|| format!("KafkaSource-{}", self.table))
    }

    /// Whether every partition ends.
    pub fn is_bounded(&self) -> bool {
        self.bounded.is_some() || self.mode == ReadMode::UntilCaughtUp
    }

    /// The error for a partition without a committed offset and without a rule for that.
    pub fn no_group_offset(&self, topic: &str, partition: i32) -> Error {
        Error::user(format!(
            "source \"{}\": consumer group \"{}\" has no committed offset for topic {topic} partition {partition}",
            self.table,
            self.effective_group_id()
        ))
        .with_help(
            "add 'scan.startup.mode' = 'earliest-offset', or say with 'properties.auto.offset.reset' = 'earliest' \
             where to begin without one",
        )
    }
}

/// A table to write.
#[derive(Clone)]
pub struct SinkTable {
    pub table: String,
    pub sink_id: String,
    /// `None` when each row names its topic in a metadata column.
    pub topic: Option<String>,
    pub layout: RecordLayout,
    /// Whether only the last row of each key counts, and a row taken back is a record without a value.
    pub upserts: bool,
    pub partitioner: PartitionerKind,
    pub guarantee: DeliveryGuarantee,
    pub transactional_id_prefix: String,
    pub schema: SchemaRef,
    pub metadata: Vec<Option<String>>,
    pub options: Options,
    pub encoder: Arc<EncoderFactory>,
}

impl SinkTable {
    /// # Errors
    /// `User` for what [`super::check`] would have found, and for a list of topics without a `topic` column.
    pub fn from_sink(request: &SinkRequest, encoder: Arc<EncoderFactory>) -> Result<Self> {
        let options = &request.options;
        let physical: Vec<String> = request
            .schema
            .fields()
            .iter()
            .zip(&request.metadata)
            .filter(|(_, metadata)| metadata.is_none())
            .map(|(field, _)| field.name().clone())
            .collect();
        let has_topic_column = request.metadata.iter().flatten().any(|key| key == "topic");
        let topic = match topics(options)? {
            _ if has_topic_column => None,
            Topics::Named(mut names) if names.len() == 1 => names.pop(),
            Topics::Named(_) | Topics::Pattern(_) => {
                return Err(Error::user(format!("sink \"{}\" has several topics and no column that chooses one", request.table))
                    .with_help("name one topic, or add a column `topic STRING METADATA`"));
            }
        };
        let guarantee = match options.get("sink.delivery-guarantee").or_else(|| options.get("sink.semantic")) {
            Some("exactly-once") => DeliveryGuarantee::ExactlyOnce,
            Some("none") => DeliveryGuarantee::None,
            _ => DeliveryGuarantee::AtLeastOnce,
        };
        let prefix = options.get("sink.transactional-id-prefix");
        if guarantee == DeliveryGuarantee::ExactlyOnce && prefix.is_none() {
            return Err(Error::user("exactly-once delivery needs the option \"sink.transactional-id-prefix\"")
                .with_help("add 'sink.transactional-id-prefix' = '…', a name that no other application uses"));
        }
        Ok(SinkTable {
            table: request.table.clone(),
            sink_id: request.sink_id.clone(),
            topic,
            layout: RecordLayout::from_options(options, &physical, &request.primary_key)?,
            upserts: is_of_upserts(options),
            partitioner: match options.get("sink.partitioner") {
                Some("fixed") => PartitionerKind::Fixed,
                Some("round-robin") => PartitionerKind::RoundRobin,
                _ => PartitionerKind::Default,
            },
            guarantee,
            transactional_id_prefix: prefix.unwrap_or("thalweg").to_string(),
            schema: request.schema.clone(),
            metadata: request.metadata.clone(),
            options: options.clone(),
            encoder,
        })
    }
}

fn topics(options: &Options) -> Result<Topics> {
    match (options.get("topic"), options.get("topic-pattern")) {
        (Some(names), None) => Ok(Topics::Named(split_list(names).into_iter().map(str::to_string).collect())),
        (None, Some(pattern)) => regex::Regex::new(&format!("^(?:{pattern})$"))
            .map(Topics::Pattern)
            .map_err(|error| Error::user("option \"topic-pattern\" is not a regular expression").with_cause(error)),
        _ => {
            let connector = connector_of(options);
            Err(Error::user(format!("connector \"{connector}\" needs one of the options \"topic\" and \"topic-pattern\"")))
        }
    }
}

fn place(options: &Options, side: &str, mode: &str) -> Result<Place> {
    Ok(match mode {
        "earliest-offset" => Place::Earliest,
        "latest-offset" => Place::Latest,
        "group-offsets" => Place::Group,
        "timestamp" => {
            let name = format!("scan.{side}.timestamp-millis");
            let millis = options.integer(&name)?;
            Place::Timestamp(
                millis.ok_or_else(|| Error::user(format!("'scan.{side}.mode' = 'timestamp' needs the option \"{name}\"")))?,
            )
        }
        "specific-offsets" => {
            let name = format!("scan.{side}.specific-offsets");
            let text = options
                .get(&name)
                .ok_or_else(|| Error::user(format!("'scan.{side}.mode' = 'specific-offsets' needs the option \"{name}\"")))?;
            let offsets = parse_partition_offsets(text)
                .map_err(|expected| Error::user(format!("option \"{name}\" cannot be \"{text}\"")).with_help(expected))?;
            Place::Offsets(offsets)
        }
        other => return Err(Error::user(format!("option \"scan.{side}.mode\" cannot be \"{other}\""))),
    })
}

/// The parts of `a;b`, trimmed, without empty ones.
pub fn split_list(text: &str) -> Vec<&str> {
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// `partition:0,offset:42;partition:1,offset:300`. The error says what would be right.
pub fn parse_partition_offsets(text: &str) -> Result<BTreeMap<i32, i64>, String> {
    let expected = || "write 'partition:0,offset:42;partition:1,offset:300'".to_string();
    let mut offsets = BTreeMap::new();
    for entry in split_list(text) {
        let (partition, offset) = entry.split_once(',').ok_or_else(expected)?;
        let partition: i32 =
            partition.trim().strip_prefix("partition:").and_then(|number| number.trim().parse().ok()).ok_or_else(expected)?;
        let offset: i64 =
            offset.trim().strip_prefix("offset:").and_then(|number| number.trim().parse().ok()).ok_or_else(expected)?;
        if partition < 0 || offset < 0 {
            return Err(expected());
        }
        offsets.insert(partition, offset);
    }
    if offsets.is_empty() { Err(expected()) } else { Ok(offsets) }
}

/// The name of a partition within its source: `orders/3`.
pub fn partition_name(topic: &str, partition: i32) -> thalweg_core::PartitionId {
    thalweg_core::PartitionId(format!("{topic}/{partition}"))
}

/// Topic and number of a partition named by [`partition_name`].
/// # Errors
/// `Corrupt`: such names come from a manifest.
pub fn parse_partition_name(name: &thalweg_core::PartitionId) -> Result<(String, i32)> {
    name.0
        .rsplit_once('/')
        .and_then(|(topic, number)| Some((topic.to_string(), number.parse().ok()?)))
        .ok_or_else(|| Error::corrupt(format!("partition \"{name}\" has no name of the form topic/number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_offsets() {
        let check = |text: &str, expected: Option<&[(i32, i64)]>| {
            let parsed = parse_partition_offsets(text).ok().map(|offsets| offsets.into_iter().collect::<Vec<_>>());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        };
        check("partition:0,offset:42;partition:1,offset:300", Some(&[(0, 42), (1, 300)]));
        check(" partition: 0 , offset: 42 ; ", Some(&[(0, 42)]));
        check("", None);
        check("partition:0", None);
        check("partition:-1,offset:3", None);
        check("0:42", None);
    }

    #[test]
    fn partition_names() {
        let name = partition_name("a/b", 7);
        assert_eq!(parse_partition_name(&name).expect("ours"), ("a/b".to_string(), 7));
        assert!(parse_partition_name(&thalweg_core::PartitionId("orders".to_string())).is_err());
    }

    #[test]
    fn columns_of_key_and_value() {
        let mut options = Options::new();
        for (name, value) in [
            ("value.format", "json"),
            ("key.format", "raw"),
            ("key.fields", "k_id"),
            ("key.fields-prefix", "k_"),
            ("value.fields-include", "EXCEPT_KEY"),
        ] {
            options.insert(name, value);
        }
        let names = ["k_id", "amount"].map(str::to_string);
        let layout = RecordLayout::from_options(&options, &names, &[]).expect("a good table");
        let key = layout.key.expect("has a key");
        assert_eq!(key.inner_name("k_id"), Some("id"));
        assert_eq!(layout.value.option_prefix, "value.");
        assert_eq!(layout.value.columns, [("amount".to_string(), "amount".to_string())]);
    }

    #[test]
    fn the_key_of_upserts_is_the_primary_key() {
        let mut options = Options::new();
        for (name, value) in [("connector", "upsert-kafka"), ("value.format", "json"), ("key.format", "json")] {
            options.insert(name, value);
        }
        let names = ["a", "v", "b"].map(str::to_string);
        let primary_key = ["b", "a"].map(str::to_string);
        let layout = RecordLayout::from_options(&options, &names, &primary_key).expect("a good table");
        let columns = |part: &RecordPart| part.columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(layout.key.as_ref().map(columns), Some(primary_key.to_vec()));
        assert_eq!(columns(&layout.value), names);
    }
}

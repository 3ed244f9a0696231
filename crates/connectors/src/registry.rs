//! What connectors and formats are linked in, and how a table's connector is opened.

use std::path::PathBuf;
use std::sync::Arc;

use thalweg_core::{
    Code, ConnectorInfo, Decoder, Diagnostic, Encoder, Error, Lookup, LookupRequest, Options, Registry, Result, ScanRequest,
    Sink, SinkRequest, Source,
};

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;

use crate::blackhole::{self, BlackholeSink};
use crate::datagen::{self, DatagenSource};
use crate::embedded::{EmbeddedSink, EmbeddedSource};
use crate::filesystem::{self, FileFormats, FileSink, FileSource};
use crate::format::{self, FormatOptions};
use crate::kafka::{self, DecoderFactory, EncoderFactory, KafkaSink, KafkaSource};
use crate::memory::{self, MemoryBroker, MemorySink, MemorySource};
use crate::print::{self, PrintSink, PrintTarget};
use crate::store::StoreSettings;

/// Everything that users can name.
pub static REGISTRY: Registry = Registry { connectors: CONNECTORS, formats: format::FORMATS };

/// [`REGISTRY`] with the `memory` connector, for tests and the simulator.
pub static REGISTRY_WITH_MEMORY: Registry = Registry { connectors: CONNECTORS_WITH_MEMORY, formats: format::FORMATS };

const CONNECTORS: &[ConnectorInfo] =
    &[kafka::KAFKA, kafka::UPSERT_KAFKA, filesystem::INFO, datagen::INFO, print::INFO, blackhole::INFO];

const CONNECTORS_WITH_MEMORY: &[ConnectorInfo] =
    &[kafka::KAFKA, kafka::UPSERT_KAFKA, filesystem::INFO, datagen::INFO, print::INFO, blackhole::INFO, memory::INFO];

/// What connectors need of the process around them.
#[derive(Clone)]
pub struct Environment {
    pub store_settings: StoreSettings,
    /// Where `kafka` and `upsert-kafka` tables keep their topics instead of on a broker (`--embedded`).
    pub embedded_dir: Option<PathBuf>,
    /// Where `print` writes.
    pub print_target: PrintTarget,
    /// Where `print` writes with `standard-error`.
    pub print_error_target: PrintTarget,
    /// The topics of `memory` tables; without it there is no such connector.
    pub memory: Option<Arc<MemoryBroker>>,
    pub file_formats: FileFormats,
}

/// Opens a table for reading.
/// # Errors
/// `User` when the connector does not exist or cannot be read, and for options that it cannot take.
pub fn source(request: ScanRequest, environment: &Environment) -> Result<Arc<dyn Source>> {
    let connector = connector_name(&request.options, &request.table)?;
    Ok(match (connector, &environment.memory) {
        ("filesystem", _) => Arc::new(FileSource::open(request, &environment.store_settings, environment.file_formats)?),
        ("kafka" | "upsert-kafka", _) => match &environment.embedded_dir {
            Some(dir) => Arc::new(EmbeddedSource::from_scan(&request, decoder_factory(), dir)?),
            None => Arc::new(KafkaSource::from_scan(&request, decoder_factory())?),
        },
        ("datagen", _) => Arc::new(DatagenSource::open(request)?),
        ("memory", Some(broker)) => Arc::new(MemorySource::open(request, broker.clone())?),
        ("print" | "blackhole", _) => {
            return Err(Diagnostic::error(
                Code::NOT_A_SOURCE,
                format!("table \"{}\" cannot be read: connector \"{connector}\" only takes rows", request.table),
            )
            .into());
        }
        _ => return Err(unknown_connector(&request.options, connector).into()),
    })
}

/// Opens a table for writing.
/// # Errors
/// As [`source`], and `Unavailable` where the target must be reached first.
pub fn sink(request: SinkRequest, environment: &Environment) -> Result<Arc<dyn Sink>> {
    let connector = connector_name(&request.options, &request.table)?;
    Ok(match (connector, &environment.memory) {
        ("filesystem", _) => Arc::new(FileSink::open(request, &environment.store_settings, environment.file_formats)?),
        ("kafka" | "upsert-kafka", _) => match &environment.embedded_dir {
            Some(dir) => Arc::new(EmbeddedSink::from_sink(&request, encoder_factory(), dir)?),
            None => Arc::new(KafkaSink::from_sink(&request, encoder_factory())?),
        },
        ("print", _) => Arc::new(PrintSink::new(request, &environment.print_target, &environment.print_error_target)?),
        ("blackhole", _) => Arc::new(BlackholeSink::new(request)),
        ("memory", Some(broker)) => Arc::new(MemorySink::open(request, broker.clone())?),
        ("datagen", _) => {
            return Err(Diagnostic::error(
                Code::NOT_A_SINK,
                format!("table \"{}\" cannot be written: connector \"{connector}\" only gives rows", request.table),
            )
            .into());
        }
        _ => return Err(unknown_connector(&request.options, connector).into()),
    })
}

/// Opens a table for look-ups.
/// # Errors
/// As [`source`]; `User` also for a connector that cannot be asked for single keys.
pub fn lookup(request: LookupRequest, environment: &Environment) -> Result<Arc<dyn Lookup>> {
    match connector_name(&request.options, &request.table)? {
        "filesystem" => Ok(Arc::new(filesystem::lookup(request, &environment.store_settings, environment.file_formats)?)),
        connector => {
            let message = format!("table \"{}\" cannot be looked up: connector \"{connector}\" has no keys", request.table);
            Err(Diagnostic::error(Code::NOT_A_SOURCE, message).help("use a table with connector 'filesystem'").into())
        }
    }
}

/// The formats of this binary as the filesystem connector uses them.
pub const FILE_FORMATS: FileFormats =
    FileFormats { decoder: make_decoder, encoder: make_encoder, read_parquet: filesystem::read_parquet, encode_parquet };

fn make_decoder(name: &str, prefix: &str, fields: Vec<FieldRef>, all: SchemaRef, options: &Options) -> Result<Box<dyn Decoder>> {
    Ok(format::decoder(name, &FormatOptions::new(options, prefix), fields, all)?)
}

fn make_encoder(name: &str, prefix: &str, schema: SchemaRef, options: &Options) -> Result<Box<dyn Encoder>> {
    Ok(format::encoder(name, &FormatOptions::new(options, prefix), schema)?)
}

fn encode_parquet(schema: &SchemaRef, rows: &[RecordBatch], options: &Options) -> Result<Bytes> {
    let options = format::parquet::ParquetWriterOptions::new(&FormatOptions::new(options, ""))?;
    format::parquet::encode_parquet(schema, rows, &options)
}

fn decoder_factory() -> Arc<DecoderFactory> {
    Arc::new(make_decoder)
}

fn encoder_factory() -> Arc<EncoderFactory> {
    Arc::new(make_encoder)
}

fn connector_name<'a>(options: &'a Options, table: &str) -> Result<&'a str> {
    options.get("connector").ok_or_else(|| {
        let finding = Diagnostic::error(Code::MISSING_OPTION, format!("table \"{table}\" has no option \"connector\""));
        Error::from(finding.label_opt(options.span, "options given here").help("add 'connector' = '…'"))
    })
}

fn unknown_connector(options: &Options, name: &str) -> Diagnostic {
    let names = || CONNECTORS.iter().map(|connector| connector.name);
    Diagnostic::error(Code::UNKNOWN_CONNECTOR, format!("unknown connector \"{name}\""))
        .label_opt(options.value_span("connector"), "unknown connector")
        .help_nearest(name, names(), Some(format!("there are {}", names().collect::<Vec<_>>().join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::testing::FORMATS;
    use arrow::datatypes::Schema;
    use std::sync::Mutex;
    use thalweg_core::{ManualClock, ReadMode};

    fn environment() -> Environment {
        Environment {
            store_settings: StoreSettings::default(),
            embedded_dir: None,
            print_target: Arc::new(Mutex::new(Vec::<u8>::new())),
            print_error_target: Arc::new(Mutex::new(Vec::<u8>::new())),
            memory: None,
            file_formats: FORMATS,
        }
    }

    fn open(connector: &str) -> Result<Arc<dyn Source>> {
        let mut options = Options::new();
        options.insert("connector", connector);
        let request = ScanRequest {
            table: "t".to_string(),
            options,
            fields: vec![],
            physical_schema: Arc::new(Schema::empty()),
            partitioned_by: vec![],
            primary_key: vec![],
            time_zone: "UTC".to_string(),
            mode: ReadMode::AsDeclared,
            clock: Arc::new(ManualClock::default()),
        };
        source(request, &environment())
    }

    #[test]
    fn connectors_are_found_by_name() {
        assert!(open("datagen").is_ok());
        let code = |connector: &str| open(connector).err().unwrap().diagnostic.unwrap().code;
        assert_eq!(code("print"), Code::NOT_A_SOURCE);
        assert_eq!(code("memory"), Code::UNKNOWN_CONNECTOR);
        assert_eq!(code("filesystem"), Code::MISSING_OPTION);
        let error = open("filesytem").err().unwrap();
        assert_eq!(error.help.unwrap(), "did you mean \"filesystem\"?");
    }

    #[test]
    fn every_option_has_a_doc() {
        for connector in REGISTRY_WITH_MEMORY.connectors {
            assert!(connector.options.iter().all(|option| option.doc.ends_with('.')), "{}", connector.name);
        }
    }
}

//! A `kafka` table as a sink.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::{
    Batch, Deliverer, DeliveryContext, DeliveryGuarantee, Epoch, LaneId, Options, OutputSegment, Result, Sink, SinkRequest,
    SinkWriter,
};

use super::buffered_writer::BufferedWriter;
use super::client::{creation_error, existing_topic, max_message_bytes, producer_config, question_client};
use super::deliverer::KafkaDeliverer;
use super::producer::CountingProducer;
use super::records_out::{RecordMaker, TopicCatalog, TopicShape};
use super::table::{EncoderFactory, SinkTable};

/// How long the records of an epoch may take to arrive.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);

/// Writes topics.
pub struct KafkaSink {
    table: SinkTable,
}

impl KafkaSink {
    /// Reads the options; does not connect.
    /// # Errors
    /// `User` for options that [`super::check()`] would have refused.
    pub fn from_sink(request: &SinkRequest, encoder: Arc<EncoderFactory>) -> Result<Self> {
        let table = SinkTable::from_sink(request, encoder)?;
        match super::properties::check_properties(&table.options).into_iter().next() {
            Some(finding) => Err(finding.into()),
            None => Ok(KafkaSink { table }),
        }
    }
}

impl Sink for KafkaSink {
    fn guarantee(&self) -> DeliveryGuarantee {
        self.table.guarantee
    }

    fn writer(&self, lane: LaneId) -> Result<Box<dyn SinkWriter>> {
        let catalog = ClusterCatalog { options: self.table.options.clone() };
        let maker = RecordMaker::new(&self.table, lane, Box::new(catalog))?;
        Ok(match self.table.guarantee {
            DeliveryGuarantee::ExactlyOnce => Box::new(BufferedWriter::new(maker, self.table.upserts)),
            DeliveryGuarantee::AtLeastOnce | DeliveryGuarantee::None => Box::new(DirectWriter::new(&self.table, maker)?),
        })
    }

    /// The cluster and the prefix: sinks with different prefixes have progress topics of their own.
    fn delivery_key(&self) -> String {
        let servers = self.table.options.get("properties.bootstrap.servers").unwrap_or_default();
        let mut servers: Vec<&str> = servers.split(',').map(str::trim).collect();
        servers.sort_unstable();
        format!("kafka {} {}", servers.join(","), self.table.transactional_id_prefix)
    }

    fn deliverer(&self, context: DeliveryContext) -> Result<Box<dyn Deliverer>> {
        Ok(Box::new(KafkaDeliverer::new(self.table.options.clone(), &self.table.transactional_id_prefix, context)))
    }
}

/// Asks the cluster about topics.
struct ClusterCatalog {
    options: Options,
}

impl TopicCatalog for ClusterCatalog {
    fn describe(&self, topic: &str) -> Result<TopicShape> {
        let client = question_client(&self.options, "thalweg")?;
        Ok(TopicShape {
            partitions: existing_topic(&client, &self.options, topic)?.unsigned_abs(),
            max_message_bytes: max_message_bytes(&self.options, topic)?,
        })
    }
}

/// The writer of sinks that do not wait for the checkpoint.
struct DirectWriter {
    maker: RecordMaker,
    producer: CountingProducer,
    guarantee: DeliveryGuarantee,
}

impl DirectWriter {
    fn new(table: &SinkTable, maker: RecordMaker) -> Result<Self> {
        let mut config = producer_config(&table.options);
        if table.guarantee == DeliveryGuarantee::AtLeastOnce {
            config.set("enable.idempotence", "true").set("acks", "all");
        }
        let producer = CountingProducer::new(&config).map_err(|error| creation_error(&table.options, &error))?;
        Ok(DirectWriter { maker, producer, guarantee: table.guarantee })
    }
}

impl SinkWriter for DirectWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let producer = &mut self.producer;
        self.maker.each_record(batch, &mut |frame| producer.send(frame))?;
        self.producer.serve();
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        match (self.producer.flush(FLUSH_TIMEOUT), self.guarantee) {
            (Ok(()), _) => {}
            (Err(error), DeliveryGuarantee::None) => {
                tracing::warn!(error = error.full_message(), "records of a sink without guarantee may be lost");
            }
            (Err(error), _) => return Err(error),
        }
        Ok(vec![])
    }
}

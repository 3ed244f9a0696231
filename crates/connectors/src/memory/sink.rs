//! Output that a test looks at, delivered as to Kafka: rows and marker in one step.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use thalweg_core::{
    Batch, Deliverer, DeliveryContext, DeliveryGuarantee, DeliveryMarker, DeliveryPlan, Epoch, Error, LaneId, OutputSegment,
    PlannedDelivery, Result, SegmentReader, SegmentRef, Sink, SinkRequest, SinkWriter, WEIGHT_NAME,
};

use super::MemoryBroker;

/// The sink of a `memory` table. Takes updates: rows are delivered with their weights.
///
/// All memory sinks of a job share one deliverer, as all tables of a Kafka cluster do.
pub struct MemorySink {
    sink_id: String,
    /// The rows with their weights behind them.
    weighted_schema: SchemaRef,
    broker: Arc<MemoryBroker>,
    topics: TopicsBySink,
}

/// Topic of each sink of a broker, by sink id: the deliverer is made by one sink for all.
type TopicsBySink = Arc<Mutex<BTreeMap<String, String>>>;

impl MemorySink {
    pub fn open(request: SinkRequest, broker: Arc<MemoryBroker>) -> Result<Self> {
        let topic = request.options.get("topic").unwrap_or(&request.table).to_string();
        let topics = broker.sink_topics();
        topics.lock().map_err(|_| Error::internal("a thread failed with the topics"))?.insert(request.sink_id.clone(), topic);
        let weight: FieldRef = Arc::new(Field::new(WEIGHT_NAME, DataType::Int64, false));
        let fields: Vec<FieldRef> = request.schema.fields().iter().cloned().chain([weight]).collect();
        Ok(MemorySink { sink_id: request.sink_id, weighted_schema: Arc::new(Schema::new(fields)), broker, topics })
    }
}

impl Sink for MemorySink {
    fn guarantee(&self) -> DeliveryGuarantee {
        DeliveryGuarantee::ExactlyOnce
    }

    fn writer(&self, _lane: LaneId) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(MemoryWriter { sink_id: self.sink_id.clone(), schema: self.weighted_schema.clone(), batches: vec![] }))
    }

    fn delivery_key(&self) -> String {
        "memory".to_string()
    }

    fn deliverer(&self, context: DeliveryContext) -> Result<Box<dyn Deliverer>> {
        Ok(Box::new(MemoryDeliverer {
            broker: self.broker.clone(),
            topics: self.topics.clone(),
            context,
            marker: None,
            must_fence: true,
        }))
    }
}

struct MemoryWriter {
    sink_id: String,
    schema: SchemaRef,
    /// Rows of this epoch, weights behind them.
    batches: Vec<RecordBatch>,
}

impl SinkWriter for MemoryWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let weights = batch.weights.clone().unwrap_or_else(|| Int64Array::from(vec![1; batch.num_rows()]));
        let mut columns = batch.rows.columns().to_vec();
        columns.push(Arc::new(weights));
        let rows = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|error| Error::from(error).in_context(format!("sink \"{}\"", self.sink_id)))?;
        self.batches.push(rows);
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        let rows = concat_batches(&self.schema, &std::mem::take(&mut self.batches))?;
        if rows.num_rows() == 0 {
            return Ok(vec![]);
        }
        let mut writer = StreamWriter::try_new(vec![], &self.schema)?;
        writer.write(&rows)?;
        let bytes = writer.into_inner()?;
        Ok(vec![OutputSegment { tag: String::new(), bytes, rows: rows.num_rows() as u64 }])
    }

    fn buffered_bytes(&self) -> usize {
        self.batches.iter().map(RecordBatch::get_array_memory_size).sum()
    }
}

struct MemoryDeliverer {
    broker: Arc<MemoryBroker>,
    topics: TopicsBySink,
    context: DeliveryContext,
    /// What the broker held when it was last known.
    marker: Option<DeliveryMarker>,
    /// Set at the start and after a failure: only the broker knows what was stored.
    must_fence: bool,
}

impl Deliverer for MemoryDeliverer {
    fn fence(&mut self) -> Result<Option<DeliveryMarker>> {
        self.marker = self.broker.fence(&self.context.job_id, self.context.generation, &self.context.nonce)?;
        self.must_fence = false;
        Ok(self.marker.clone())
    }

    fn plan(&mut self, _epoch: Epoch, waiting: Vec<SegmentRef>, new: Vec<SegmentRef>, _is_final: bool) -> Result<DeliveryPlan> {
        let mut segments: Vec<SegmentRef> = waiting.into_iter().chain(new).collect();
        segments.sort_by(|one, other| {
            (one.epoch, &one.sink_id, one.lane, one.index).cmp(&(other.epoch, &other.sink_id, other.lane, other.index))
        });
        if segments.is_empty() {
            return Ok(DeliveryPlan::default());
        }
        Ok(DeliveryPlan { deliveries: vec![PlannedDelivery { target: String::new(), segments }], keep: vec![] })
    }

    fn deliver(&mut self, epoch: Epoch, deliveries: &[PlannedDelivery], segments: &dyn SegmentReader) -> Result<()> {
        if self.must_fence {
            self.fence()?;
        }
        if self.marker.as_ref().is_some_and(|marker| marker.epoch >= epoch) {
            return Ok(());
        }
        let mut output = vec![];
        for segment in deliveries.iter().flat_map(|delivery| &delivery.segments) {
            let topics = self.topics.lock().map_err(|_| Error::internal("a thread failed with the topics"))?;
            let topic = topics.get(&segment.sink_id).cloned();
            let topic = topic.ok_or_else(|| Error::internal(format!("sink \"{}\" has no memory topic", segment.sink_id)))?;
            for rows in StreamReader::try_new(Cursor::new(segments.read(segment)?), None)? {
                output.push((topic.clone(), without_weights(&rows?)?));
            }
        }
        let DeliveryContext { job_id, generation, nonce, .. } = &self.context;
        let marker = DeliveryMarker { job_id: job_id.clone(), generation: *generation, epoch, part: 0, last: true };
        let delivered = self.broker.deliver(nonce, marker.clone(), output);
        match delivered {
            Ok(()) => self.marker = Some(marker),
            Err(_) => self.must_fence = true,
        }
        delivered
    }
}

/// Takes the last column off as weights.
fn without_weights(rows: &RecordBatch) -> Result<Batch> {
    let columns = rows.num_columns() - 1;
    let weights = rows.column(columns).as_primitive::<Int64Type>().clone();
    let schema = Schema::new(rows.schema().fields()[..columns].to_vec());
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let rows = RecordBatch::try_new_with_options(Arc::new(schema), rows.columns()[..columns].to_vec(), &options)?;
    let is_append = weights.values().iter().all(|weight| *weight == 1);
    Ok(Batch { weights: (!is_append).then_some(weights), ..Batch::append(rows) })
}

#[cfg(test)]
mod tests;

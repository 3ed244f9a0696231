//! `connector = 'blackhole'`: takes rows and forgets them, for measuring and trying.

use thalweg_core::{
    Batch, ConnectorInfo, Deliverer, DeliveryContext, DeliveryGuarantee, Epoch, Error, LaneId, OutputSegment, Result, Sink,
    SinkRequest, SinkWriter,
};

/// The connector as data.
pub const INFO: ConnectorInfo = ConnectorInfo {
    name: "blackhole",
    doc: "Takes rows and forgets them.",
    is_source: false,
    is_sink: true,
    takes_updates: true,
    takes_upserts: false,
    gives_upserts: false,
    options: &[],
    metadata: &[],
    format_options: &[],
    check: |_| vec![],
};

/// The sink of a `blackhole` table. Takes updates too.
pub struct BlackholeSink {
    sink_id: String,
}

impl BlackholeSink {
    pub fn new(request: SinkRequest) -> Self {
        BlackholeSink { sink_id: request.sink_id }
    }
}

impl Sink for BlackholeSink {
    fn guarantee(&self) -> DeliveryGuarantee {
        DeliveryGuarantee::None
    }

    fn writer(&self, _lane: LaneId) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(BlackholeWriter))
    }

    fn delivery_key(&self) -> String {
        format!("blackhole:{}", self.sink_id)
    }

    fn deliverer(&self, _context: DeliveryContext) -> Result<Box<dyn Deliverer>> {
        Err(Error::internal(format!("sink \"{}\" of connector \"blackhole\" delivers nothing", self.sink_id)))
    }
}

struct BlackholeWriter;

impl SinkWriter for BlackholeWriter {
    fn write(&mut self, _batch: &Batch) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        Ok(vec![])
    }
}

//! Opens the tables of a plan with the connectors of this binary.

use std::sync::Arc;

use thalweg_connectors::Environment;
use thalweg_core::{Lookup, LookupRequest, Result, ScanRequest, Sink, SinkRequest, Source};
use thalweg_runtime::Connections;

use crate::result::{ResultSink, RowOutput};

pub struct CliConnections {
    pub environment: Environment,
    pub output: RowOutput,
}

impl Connections for CliConnections {
    fn source(&self, request: ScanRequest) -> Result<Arc<dyn Source>> {
        thalweg_connectors::source(request, &self.environment)
    }

    fn sink(&self, request: SinkRequest) -> Result<Arc<dyn Sink>> {
        thalweg_connectors::sink(request, &self.environment)
    }

    fn lookup(&self, request: LookupRequest) -> Result<Arc<dyn Lookup>> {
        thalweg_connectors::lookup(request, &self.environment)
    }

    fn result_sink(&self, request: SinkRequest, updating: bool) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(ResultSink { request, updating, output: self.output.clone() }))
    }
}

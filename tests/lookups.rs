//! A lookup join in a running job, against files. The plan is made by hand.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use thalweg_connectors::store::{StoreSettings, block_on};
use thalweg_connectors::{Environment, FILE_FORMATS};
use thalweg_core::{
    Batch, Deliverer, DeliveryContext, DeliveryGuarantee, Epoch, Error, LaneId, Lookup, LookupRequest, Options, OutputSegment,
    ReadMode, Result, ScanField, ScanRequest, Sink, SinkRequest, SinkWriter, Source, SystemClock, SystemRand, TableDefinition,
};
use thalweg_plan::{
    Exchange, Input, JoinKey, JoinKind, LookupJoin, Node, NodeKind, OperatorId, Plan, Properties, SinkNode, SinkTarget,
};
use thalweg_runtime::{Connections, Job, JobOptions, JobStatus, Stopper};
use thalweg_state::JobStore;

/// Rows that came out, as text.
type Rows = Arc<Mutex<Vec<String>>>;

/// Looks up with the real connectors, and keeps what comes out.
struct Collecting {
    environment: Environment,
    rows: Rows,
}

impl Connections for Collecting {
    fn source(&self, request: ScanRequest) -> Result<Arc<dyn Source>> {
        thalweg_connectors::source(request, &self.environment)
    }

    fn sink(&self, request: SinkRequest) -> Result<Arc<dyn Sink>> {
        thalweg_connectors::sink(request, &self.environment)
    }

    fn lookup(&self, request: LookupRequest) -> Result<Arc<dyn Lookup>> {
        thalweg_connectors::lookup(request, &self.environment)
    }

    fn result_sink(&self, _request: SinkRequest, _updating: bool) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(RowSink(self.rows.clone())))
    }
}

struct RowSink(Rows);

impl Sink for RowSink {
    fn guarantee(&self) -> DeliveryGuarantee {
        DeliveryGuarantee::None
    }

    fn writer(&self, _lane: LaneId) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(RowSink(self.0.clone())))
    }

    fn delivery_key(&self) -> String {
        "rows".to_string()
    }

    fn deliverer(&self, _context: DeliveryContext) -> Result<Box<dyn Deliverer>> {
        Err(Error::internal("rows are not delivered by epochs"))
    }
}

impl SinkWriter for RowSink {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let mut rows = self.0.lock().expect("no holder of this lock panics");
        for row in 0..batch.num_rows() {
            let cells = batch.rows.columns().iter().map(|column| array_value_to_string(column, row));
            rows.push(cells.collect::<Result<Vec<_>, _>>()?.join(" "));
        }
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        Ok(vec![])
    }
}

fn field(name: &str, kind: DataType) -> FieldRef {
    Arc::new(Field::new(name, kind, true))
}

/// `VALUES (customer, total), …` LEFT JOIN `homes (customer, country)`.
fn plan(path: &str) -> Plan {
    let columns = [field("customer", DataType::Utf8), field("country", DataType::Utf8)];
    let mut options = Options::new();
    options.insert("connector", "filesystem");
    options.insert("path", path);
    options.insert("format", "csv");
    let table = TableDefinition {
        name: "homes".to_string(),
        columns: columns.iter().map(|field| TableDefinition::physical_column(field.as_ref().clone(), "STRING")).collect(),
        watermark: None,
        primary_key: vec![],
        partitioned_by: vec![],
        comment: None,
        options,
        temporary: false,
        span: None,
    };
    let customers = StringArray::from(vec![Some("ann"), Some("bob"), None, Some("cid")]);
    let totals = Int64Array::from(vec![5, 6, 7, 8]);
    let left: SchemaRef = Arc::new(Schema::new(vec![columns[0].clone(), field("total", DataType::Int64)]));
    let values =
        RecordBatch::try_new(left.clone(), vec![Arc::new(customers) as ArrayRef, Arc::new(totals)]).expect("equal lengths");
    let join = LookupJoin {
        kind: JoinKind::Left,
        table,
        // The other way round than declared.
        fields: [&columns[1], &columns[0]].map(|field| ScanField::Physical(field.clone())).to_vec(),
        keys: vec![JoinKey { left: 0, right: 1, nulls_match: false }],
        condition: None,
    };
    let joined: SchemaRef = Arc::new(Schema::new([&left.fields()[..], &[columns[1].clone(), columns[0].clone()]].concat()));
    let mut plan = Plan::default();
    let mut add = |kind: NodeKind, input: Option<(usize, Exchange)>, schema: &SchemaRef| {
        let inputs = input.into_iter().map(|(node, exchange)| Input { node, exchange }).collect();
        let properties = Properties { bounded: true, ..Properties::default() };
        plan.add(Node { id: OperatorId(String::new()), kind, inputs, schema: schema.clone(), properties, span: None })
    };
    let values = add(NodeKind::Values(values), None, &left);
    let join = add(NodeKind::LookupJoin(join), Some((values, Exchange::Hash(vec![1]))), &joined);
    let sink = SinkNode { sink_id: "result".to_string(), target: SinkTarget::Result };
    add(NodeKind::Sink(sink), Some((join, Exchange::Forward)), &joined);
    plan
}

fn run(path: &str) -> Result<Vec<String>> {
    let rows = Rows::default();
    let environment = Environment {
        store_settings: StoreSettings::default(),
        embedded_dir: None,
        print_target: Arc::new(Mutex::new(Vec::<u8>::new())),
        print_error_target: Arc::new(Mutex::new(Vec::<u8>::new())),
        memory: None,
        file_formats: FILE_FORMATS,
    };
    let runtime = block_on(async { tokio::runtime::Handle::current() });
    let store = JobStore::new(Arc::new(object_store::memory::InMemory::new()), object_store::path::Path::default(), runtime);
    let job = Job {
        plan: plan(path),
        options: JobOptions {
            parallelism: 3,
            mode: ReadMode::AsDeclared,
            checkpoint_interval: Duration::ZERO,
            durable: false,
            allow_plan_change: false,
            time_zone: "UTC".to_string(),
            patience: Duration::ZERO,
        },
        connections: Arc::new(Collecting { environment, rows: rows.clone() }),
        store: Arc::new(store),
        clock: Arc::new(SystemClock::new()),
        rand: Box::new(|| Box::new(SystemRand)),
        status: Arc::new(JobStatus::default()),
        stopper: Stopper::default(),
    };
    assert!(job.run()?.finished);
    let mut rows = std::mem::take(&mut *rows.lock().expect("no holder of this lock panics"));
    rows.sort();
    Ok(rows)
}

#[test]
fn rows_meet_the_files_of_their_key() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (name, text) in BTreeMap::from([("a.csv", "ann,Norway\nbob,Chile\n"), ("b.csv", "ann,Peru\n,nowhere\n")]) {
        fs::write(folder.path().join(name), text).expect("the folder can be written");
    }
    let rows = run(folder.path().to_str().expect("UTF-8")).expect("the job ends");
    assert_eq!(rows, [" 7  ", "ann 5 Norway ann", "ann 5 Peru ann", "bob 6 Chile bob", "cid 8  "]);
    let error = run(folder.path().join("missing").to_str().expect("UTF-8")).expect_err("no such folder");
    assert!(error.message.contains("lookup table \"homes\""), "{}", error.message);
}

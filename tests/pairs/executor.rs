//! A plan, run in this thread: its operators in several lanes, with a queue for each edge and pair of lanes.
//!
//! As in the runtime, messages of one queue stay in order and nothing else does: which queue goes on is drawn. So is the place
//! of everything that the runtime's threads leave to chance, but from a seed. Between epochs all queues are empty; a snapshot
//! there is what a barrier would bring about, and operators can be made anew from it, in another number of lanes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt16Type;
use arrow::row::{RowConverter, SortField};
use thalweg_core::{
    Batch, ColumnKind, Epoch, Error, EventTime, KeyGroup, LaneId, Message, Result, ScanField, key_groups_of_lane,
};
use thalweg_ops::{DEFAULT_MAX_FUTURE_MS, Operator, OperatorContext, Output, WatermarkGenerator};
use thalweg_plan::{Exchange, NodeKind, Plan};
use thalweg_state::{KEY_GROUP_COLUMN, SlotChange, SlotId, StateDelta, StatePart};

use super::dice::Dice;

/// An edge with what stands in front of its exchange.
struct Edge {
    producer: usize,
    consumer: usize,
    port: usize,
    exchange: Exchange,
    key_columns: Vec<usize>,
    /// The first half of a window aggregate, by producing lane.
    locals: Vec<Box<dyn Operator>>,
    /// The number of the first of its queues: one for each producing and receiving lane.
    first_queue: usize,
}

enum Work {
    /// Sources, VALUES and nodes that stand for a weighted table: rows pass.
    Pass,
    /// The view over a weighted table: rows pass with these columns; `None` is a count of 1.
    View(Vec<Option<usize>>),
    Operator(Box<dyn Operator>),
    Sink,
}

struct NodeLane {
    work: Work,
    /// The watermark of each port, by producing lane.
    ports: Vec<Vec<EventTime>>,
    ended: Vec<Vec<bool>>,
    sent: EventTime,
}

/// Batches of rows, by operator, slot and the lane that wrote them.
type Stored = BTreeMap<(String, SlotId, u32), Vec<RecordBatch>>;

/// Spoils a plan's work on purpose, to see whether it is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Every third row that an operator takes back stays.
    ForgetsRetraction,
    /// State written in an epoch is lost when the lanes restart.
    ForgetsState,
}

pub struct Executor {
    plan: Plan,
    lanes: u32,
    dice: Dice,
    batch_rows: usize,
    edges: Vec<Edge>,
    /// Edges that leave each node.
    leaving: Vec<Vec<usize>>,
    nodes: Vec<Vec<NodeLane>>,
    queues: Vec<VecDeque<Message>>,
    /// Queues that hold something.
    ready: Vec<usize>,
    stored: Stored,
    stored_lanes: u32,
    full_snapshot_next: bool,
    epoch: u64,
    started: bool,
    /// The watermarks of a source's partitions, by node.
    generators: HashMap<usize, Vec<WatermarkGenerator>>,
    partitions: u32,
    /// Tables whose rows have weights: what the view over them groups by is passed on as it is.
    weighted: HashSet<String>,
    /// What left each node since [`Executor::take_outputs`]: rows with weights.
    outputs: Vec<Vec<Batch>>,
    merges: bool,
    fault: Option<Fault>,
    retractions: u64,
}

pub struct ExecutorOptions {
    pub lanes: u32,
    /// Of each table; those of a lane are dealt out in turn.
    pub partitions: u32,
    pub seed: u64,
    pub batch_rows: usize,
    pub weighted: HashSet<String>,
    /// Whether like neighbours in an updating stream become one row of a greater weight.
    pub merges: bool,
    pub fault: Option<Fault>,
}

impl Executor {
    pub fn new(plan: Plan, options: ExecutorOptions) -> Result<Self> {
        let outputs = plan.nodes.iter().map(|_| vec![]).collect();
        let mut executor = Executor {
            lanes: options.lanes,
            dice: Dice::new(options.seed),
            batch_rows: options.batch_rows,
            edges: vec![],
            leaving: vec![],
            nodes: vec![],
            queues: vec![],
            ready: vec![],
            stored: Stored::new(),
            stored_lanes: options.lanes,
            full_snapshot_next: false,
            epoch: 0,
            started: false,
            generators: HashMap::new(),
            partitions: options.partitions,
            weighted: options.weighted,
            outputs,
            merges: options.merges,
            fault: options.fault,
            retractions: 0,
            plan,
        };
        executor.build()?;
        Ok(executor)
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Makes operators and queues for the lanes there are.
    fn build(&mut self) -> Result<()> {
        self.edges.clear();
        self.nodes.clear();
        self.queues.clear();
        self.leaving = vec![vec![]; self.plan.nodes.len()];
        for index in 0..self.plan.nodes.len() {
            for port in 0..self.plan.nodes[index].inputs.len() {
                let edge = self.edge(index, port)?;
                self.leaving[edge.producer].push(self.edges.len());
                self.edges.push(edge);
            }
            let lanes = (0..self.lanes).map(|lane| self.node_lane(index, lane)).collect::<Result<Vec<_>>>()?;
            self.nodes.push(lanes);
        }
        Ok(())
    }

    fn edge(&mut self, consumer: usize, port: usize) -> Result<Edge> {
        let node = &self.plan.nodes[consumer];
        let input = &node.inputs[port];
        let is_window = matches!(node.kind, NodeKind::WindowAggregate(_));
        let schema = &self.plan.nodes[input.node].schema;
        let locals = match is_window {
            true => {
                (0..self.lanes).map(|lane| thalweg_ops::build_local(node, schema, &self.context(lane))).collect::<Result<_>>()?
            }
            false => vec![],
        };
        let key_columns = match &input.exchange {
            Exchange::Hash(keys) if is_window => {
                (thalweg_ops::PARTIAL_KEYS_START..thalweg_ops::PARTIAL_KEYS_START + keys.len()).collect()
            }
            Exchange::Hash(keys) => keys.clone(),
            Exchange::Forward | Exchange::Single => vec![],
        };
        let first_queue = self.queues.len();
        self.queues.extend((0..self.lanes * self.lanes).map(|_| VecDeque::new()));
        Ok(Edge { producer: input.node, consumer, port, exchange: input.exchange.clone(), key_columns, locals, first_queue })
    }

    fn context(&self, lane: u32) -> OperatorContext {
        OperatorContext {
            lane: LaneId(lane),
            lanes: self.lanes,
            key_groups: key_groups_of_lane(lane, self.lanes),
            batch_rows: self.batch_rows,
            ignores_unmatched: false,
        }
    }

    fn node_lane(&self, index: usize, lane: u32) -> Result<NodeLane> {
        let node = &self.plan.nodes[index];
        let schemas: Vec<_> = node.inputs.iter().map(|input| self.plan.nodes[input.node].schema.clone()).collect();
        let work = match &node.kind {
            NodeKind::Source(_) | NodeKind::Values(_) => Work::Pass,
            NodeKind::Sink(_) => Work::Sink,
            NodeKind::GroupAggregate(aggregate) if self.is_view_of_table(index) => {
                let keys = aggregate.keys.iter().map(|key| Some(*key));
                Work::View(keys.chain(aggregate.aggregates.iter().map(|call| call.argument)).collect())
            }
            NodeKind::WindowAggregate(_) => Work::Operator(thalweg_ops::build_global(node, &schemas[0], &self.context(lane))?),
            _ => Work::Operator(thalweg_ops::build(node, &schemas, &self.context(lane))?),
        };
        let work = match work {
            Work::Operator(mut operator) if self.epoch > 0 => {
                operator.restore(self.stored_parts(&node.id.0, &key_groups_of_lane(lane, self.lanes)))?;
                if self.stored_lanes != self.lanes {
                    operator.mark_all_dirty();
                }
                Work::Operator(operator)
            }
            other => other,
        };
        let ports = node.inputs.len().max(1);
        Ok(NodeLane {
            work,
            ports: vec![vec![EventTime::MIN; self.lanes as usize]; ports],
            ended: vec![vec![false; self.lanes as usize]; ports],
            sent: EventTime::MIN,
        })
    }

    /// Whether a grouping is the view over a weighted table: nothing but filters and projections in between.
    fn is_view_of_table(&self, index: usize) -> bool {
        let node = &self.plan.nodes[index];
        if !matches!(node.kind, NodeKind::GroupAggregate(_)) {
            return false;
        }
        let mut below = node.inputs[0].node;
        loop {
            match &self.plan.nodes[below].kind {
                NodeKind::Filter(_) | NodeKind::Project(_) => below = self.plan.nodes[below].inputs[0].node,
                NodeKind::Source(source) => return self.weighted.contains(&source.table.name),
                _ => return false,
            }
        }
    }

    /// Rows of a table's partition, all of its physical columns. They wait in the queues.
    pub fn push(&mut self, table: &str, partition: u32, batch: &Batch) -> Result<()> {
        self.start()?;
        let lane = partition % self.lanes;
        for index in 0..self.plan.nodes.len() {
            let NodeKind::Source(source) = &self.plan.nodes[index].kind else { continue };
            if source.table.name != table {
                continue;
            }
            let physical: Vec<&str> = source
                .table
                .columns
                .iter()
                .filter(|column| column.kind == ColumnKind::Physical)
                .map(|column| column.name())
                .collect();
            let columns: Vec<usize> = source
                .fields
                .iter()
                .map(|field: &ScanField| physical.iter().position(|name| name == field.field().name()).expect("a column"))
                .collect();
            let rows = batch.rows.project(&columns)?;
            let rows = thalweg_ops::project(&source.project, &self.plan.nodes[index].schema, &rows)?;
            let watermark = source.watermark.clone();
            let mut batch = batch.with_rows(rows);
            if let Some(watermark) = watermark {
                let partitions = self.partitions as usize;
                let generators = self
                    .generators
                    .entry(index)
                    .or_insert_with(|| vec![WatermarkGenerator::new(&watermark, DEFAULT_MAX_FUTURE_MS); partitions]);
                let made = generators[partition as usize].advance(batch.rows.clone(), None)?;
                batch.row_watermarks = made.row_watermarks;
            }
            self.emit(index, lane, batch)?;
            self.send_source_watermark(index)?;
        }
        Ok(())
    }

    /// The least watermark over the partitions of a source, from all of its lanes.
    fn send_source_watermark(&mut self, index: usize) -> Result<()> {
        let Some(generators) = self.generators.get(&index) else { return Ok(()) };
        let least = generators.iter().map(WatermarkGenerator::current).min().unwrap_or(EventTime::MIN);
        for lane in 0..self.lanes {
            self.watermark_of_root(index, lane, least)?;
        }
        Ok(())
    }

    fn watermark_of_root(&mut self, index: usize, lane: u32, watermark: EventTime) -> Result<()> {
        let node = &mut self.nodes[index][lane as usize];
        if watermark > node.sent {
            node.sent = watermark;
            self.send(index, lane, &Message::Watermark(watermark))?;
        }
        Ok(())
    }

    /// VALUES come first, once, and end.
    fn start(&mut self) -> Result<()> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        for index in 0..self.plan.nodes.len() {
            let NodeKind::Values(rows) = &self.plan.nodes[index].kind else { continue };
            let rows = rows.clone();
            self.emit(index, 0, Batch::append(rows))?;
            self.end_root(index)?;
        }
        Ok(())
    }

    fn end_root(&mut self, index: usize) -> Result<()> {
        for lane in 0..self.lanes {
            self.watermark_of_root(index, lane, EventTime::MAX)?;
            self.send(index, lane, &Message::End)?;
        }
        Ok(())
    }

    /// Ends all tables.
    pub fn end(&mut self) -> Result<()> {
        self.start()?;
        for index in 0..self.plan.nodes.len() {
            if matches!(self.plan.nodes[index].kind, NodeKind::Source(_)) {
                self.end_root(index)?;
            }
        }
        self.run()
    }

    /// Works until all queues are empty.
    pub fn run(&mut self) -> Result<()> {
        self.start()?;
        while !self.ready.is_empty() {
            let place = self.dice.below(self.ready.len());
            let queue = self.ready[place];
            let message = self.queues[queue].pop_front().expect("a ready queue holds something");
            if self.queues[queue].is_empty() {
                self.ready.swap_remove(place);
            }
            self.receive(queue, message)?;
        }
        Ok(())
    }

    fn receive(&mut self, queue: usize, message: Message) -> Result<()> {
        let edge = self.edges.iter().rposition(|edge| edge.first_queue <= queue).expect("each queue is of an edge");
        let Edge { consumer, port, first_queue, .. } = self.edges[edge];
        let (from, to) = ((queue - first_queue) / self.lanes as usize, (queue - first_queue) % self.lanes as usize);
        let node = &mut self.nodes[consumer][to];
        let mut out = Output::default();
        match message {
            Message::Batch(batch) => match &mut node.work {
                Work::Operator(operator) => {
                    operator.on_batch(port, Arc::unwrap_or_clone(batch), &mut out)?;
                    while operator.resume(&mut out)? {}
                    self.emit_all(consumer, to as u32, out)
                }
                Work::View(columns) => {
                    let one: ArrayRef = Arc::new(Int64Array::from(vec![1; batch.num_rows()]));
                    let columns = columns.iter().map(|column| column.map_or(&one, |column| batch.column(column)).clone());
                    let rows = RecordBatch::try_new(self.plan.nodes[consumer].schema.clone(), columns.collect())?;
                    let batch = batch.with_rows(rows);
                    self.emit(consumer, to as u32, batch)
                }
                Work::Pass => self.emit(consumer, to as u32, Arc::unwrap_or_clone(batch)),
                Work::Sink => {
                    self.outputs[consumer].push(Arc::unwrap_or_clone(batch));
                    Ok(())
                }
            },
            Message::Watermark(watermark) => {
                node.ports[port][from] = watermark;
                let of_port = |lanes: &Vec<EventTime>| lanes.iter().copied().min().unwrap_or(EventTime::MAX);
                let is_forward = self.edges[edge].exchange == Exchange::Forward;
                let mine = if is_forward { watermark } else { of_port(&node.ports[port]) };
                if is_forward {
                    node.ports[port].fill(watermark);
                }
                let all = node.ports.iter().map(of_port).min().unwrap_or(EventTime::MAX);
                let send_on = match &mut node.work {
                    Work::Operator(operator) => {
                        operator.on_watermark(port, mine, &mut out)?;
                        while operator.resume(&mut out)? {}
                        operator.output_watermark(all)
                    }
                    _ => all,
                };
                let advanced = send_on > node.sent;
                node.sent = node.sent.max(send_on);
                self.emit_all(consumer, to as u32, out)?;
                if advanced { self.send(consumer, to as u32, &Message::Watermark(send_on)) } else { Ok(()) }
            }
            Message::End => {
                node.ended[port][from] = true;
                if self.edges[edge].exchange == Exchange::Forward {
                    node.ended[port].fill(true);
                }
                if !node.ended[port].iter().all(|ended| *ended) {
                    return Ok(());
                }
                if let Work::Operator(operator) = &mut node.work {
                    operator.on_end(port, &mut out)?;
                    while operator.resume(&mut out)? {}
                }
                let is_over = node.ended.iter().flatten().all(|ended| *ended);
                self.emit_all(consumer, to as u32, out)?;
                if is_over { self.send(consumer, to as u32, &Message::End) } else { Ok(()) }
            }
            Message::Barrier(_) => Err(Error::internal("no barriers are sent here")),
        }
    }

    fn emit_all(&mut self, node: usize, lane: u32, out: Output) -> Result<()> {
        for batch in out.batches {
            let batch = if self.fault == Some(Fault::ForgetsRetraction) { self.spoiled(batch)? } else { batch };
            self.emit(node, lane, batch)?;
        }
        Ok(())
    }

    fn spoiled(&mut self, batch: Batch) -> Result<Batch> {
        let mut keeps = |row| {
            self.retractions += u64::from(batch.weight(row) < 0);
            batch.weight(row) >= 0 || !self.retractions.is_multiple_of(3)
        };
        let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(keeps(row))).collect();
        Ok(batch.filter(&mask)?)
    }

    /// Rows that leave a node, to all who read it.
    fn emit(&mut self, node: usize, lane: u32, batch: Batch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if batch.rows.schema() != self.plan.nodes[node].schema {
            return Err(Error::internal(format!(
                "node {} gives columns {:?} in place of {:?}",
                self.plan.nodes[node].id,
                batch.rows.schema().fields(),
                self.plan.nodes[node].schema.fields()
            )));
        }
        let batch = if self.merges && self.plan.nodes[node].properties.updating { merged(&batch)? } else { batch };
        self.outputs[node].push(batch.clone());
        for edge in self.leaving[node].clone() {
            let mut out = Output::default();
            match self.edges[edge].locals.get_mut(lane as usize) {
                Some(local) => local.on_batch(0, batch.clone(), &mut out)?,
                None => out.push(batch.clone()),
            }
            self.put_batches(edge, lane, out)?;
        }
        Ok(())
    }

    fn put_batches(&mut self, edge: usize, lane: u32, out: Output) -> Result<()> {
        for batch in out.batches {
            match self.edges[edge].exchange {
                Exchange::Forward => self.put(edge, lane, lane, Message::Batch(batch.into())),
                Exchange::Single => self.put(edge, lane, 0, Message::Batch(batch.into())),
                Exchange::Hash(_) => {
                    let shares = thalweg_ops::partition_by_lane(&batch, &self.edges[edge].key_columns, self.lanes)?;
                    for (to, share) in (0..).zip(shares) {
                        if let Some(share) = share {
                            self.put(edge, lane, to, Message::Batch(share.into()));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A watermark or the end, to all lanes of all who read the node.
    fn send(&mut self, node: usize, lane: u32, message: &Message) -> Result<()> {
        for edge in self.leaving[node].clone() {
            if let (Some(local), Message::Watermark(watermark)) = (self.edges[edge].locals.get_mut(lane as usize), message) {
                let mut out = Output::default();
                local.on_watermark(0, *watermark, &mut out)?;
                self.put_batches(edge, lane, out)?;
            }
            match self.edges[edge].exchange {
                Exchange::Forward => self.put(edge, lane, lane, message.clone()),
                Exchange::Single | Exchange::Hash(_) => {
                    for to in 0..self.lanes {
                        self.put(edge, lane, to, message.clone());
                    }
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, edge: usize, from: u32, to: u32, message: Message) {
        let queue = self.edges[edge].first_queue + (from * self.lanes + to) as usize;
        if self.queues[queue].is_empty() {
            self.ready.push(queue);
        }
        self.queues[queue].push_back(message);
    }

    /// Stores what changed since the last snapshot, as a checkpoint would.
    pub fn snapshot(&mut self) -> Result<()> {
        assert!(self.ready.is_empty(), "an epoch ends when all queues are empty");
        self.epoch += 1;
        if self.full_snapshot_next {
            self.stored.clear();
        }
        let mut begun: HashSet<(String, SlotId, u32)> = HashSet::new();
        for index in 0..self.nodes.len() {
            let id = self.plan.nodes[index].id.0.clone();
            for lane in 0..self.lanes {
                let Work::Operator(operator) = &mut self.nodes[index][lane as usize].work else { continue };
                let delta = operator.snapshot(Epoch(self.epoch))?;
                if self.fault != Some(Fault::ForgetsState) || self.epoch % 2 == 1 {
                    self.store(&id, lane, delta, &mut begun)?;
                }
            }
        }
        self.full_snapshot_next = false;
        self.stored_lanes = self.lanes;
        Ok(())
    }

    fn store(&mut self, id: &str, lane: u32, delta: StateDelta, begun: &mut HashSet<(String, SlotId, u32)>) -> Result<()> {
        for (slot, change) in delta.changes {
            let place = (id.to_string(), slot, lane);
            match change {
                SlotChange::Drop => {
                    self.stored.remove(&place);
                }
                SlotChange::Replace(rows) => {
                    check_key_groups(id, &rows, key_groups_of_lane(lane, self.lanes))?;
                    begun.insert(place.clone());
                    self.stored.insert(place, vec![rows]);
                }
                SlotChange::Merge(rows) => {
                    check_key_groups(id, &rows, key_groups_of_lane(lane, self.lanes))?;
                    if self.full_snapshot_next && !begun.contains(&place) && rows.num_rows() > 0 {
                        return Err(Error::internal(format!(
                            "operator {id} wrote only changes of slot {} in an epoch that must hold all state",
                            place.1
                        )));
                    }
                    self.stored.entry(place).or_default().push(rows);
                }
            }
        }
        Ok(())
    }

    fn stored_parts(&self, id: &str, key_groups: &std::ops::Range<KeyGroup>) -> Vec<StatePart> {
        let mut parts = vec![];
        for ((operator, slot, _), batches) in &self.stored {
            if operator != id {
                continue;
            }
            let of_lane = |batch: &RecordBatch| {
                let groups = batch.column(0).as_primitive::<UInt16Type>();
                let mask: BooleanArray = groups.values().iter().map(|group| Some(key_groups.contains(group))).collect();
                filter_record_batch(batch, &mask).expect("the mask is as long as the batch")
            };
            let batches: Vec<RecordBatch> = batches.iter().map(of_lane).filter(|batch| batch.num_rows() > 0).collect();
            if !batches.is_empty() {
                parts.push(StatePart { slot: slot.clone(), batches });
            }
        }
        parts
    }

    /// Begins anew from the last snapshot, in so many lanes.
    pub fn restart(&mut self, lanes: u32) -> Result<()> {
        assert!(self.ready.is_empty(), "lanes restart between epochs");
        self.lanes = lanes;
        self.full_snapshot_next = self.stored_lanes != lanes;
        self.build()?;
        for index in 0..self.plan.nodes.len() {
            if matches!(self.plan.nodes[index].kind, NodeKind::Values(_)) && self.started {
                self.end_root(index)?;
            }
            self.send_source_watermark(index)?;
        }
        self.run()
    }

    /// What left each node since the last call.
    pub fn take_outputs(&mut self) -> Vec<Vec<Batch>> {
        self.outputs.iter_mut().map(std::mem::take).collect()
    }
}

/// The batch with one row for neighbours that are alike and have weights of one sign.
fn merged(batch: &Batch) -> Result<Batch> {
    if batch.num_rows() < 2 || batch.rows.num_columns() == 0 {
        return Ok(batch.clone());
    }
    let fields = batch.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(batch.rows.columns())?;
    let mut weights = vec![batch.weight(0)];
    let mut firsts = vec![0_u32];
    for row in 1..batch.num_rows() {
        let last = weights.last_mut().expect("there is one");
        if rows.row(row) == rows.row(row - 1) && batch.kind(row) == batch.kind(row - 1) {
            *last += batch.weight(row);
        } else {
            weights.push(batch.weight(row));
            firsts.push(row as u32);
        }
    }
    let merged = batch.take(&UInt32Array::from(firsts))?;
    Ok(Batch { weights: weights.iter().any(|weight| *weight != 1).then(|| weights.into()), ..merged })
}

/// State begins with the key group of each row, and a lane has only those of its own: others would be lost when it is restored.
fn check_key_groups(id: &str, rows: &RecordBatch, own: std::ops::Range<KeyGroup>) -> Result<()> {
    let schema = rows.schema();
    let groups = rows.column(0).as_primitive_opt::<UInt16Type>();
    match groups.filter(|_| schema.field(0).name() == KEY_GROUP_COLUMN) {
        None => Err(Error::internal(format!("state of operator {id} does not begin with key groups"))),
        Some(groups) if groups.values().iter().any(|group| !own.contains(group)) => {
            Err(Error::internal(format!("state of operator {id} has rows of another lane's key groups")))
        }
        Some(_) => Ok(()),
    }
}

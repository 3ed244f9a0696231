//! What passes between operators and the task that runs them.

use std::sync::Mutex;

use arrow::array::{Int64Array, RecordBatch};

use super::*;

type Log = Arc<Mutex<Vec<String>>>;

fn rows(count: i64) -> Batch {
    let column = Arc::new(Int64Array::from_iter_values(0..count)) as _;
    Batch::append(RecordBatch::try_from_iter([("n", column)]).unwrap())
}

/// Gives each of its rows as a batch of its own, one at a time.
struct InPieces {
    left: usize,
    log: Log,
}

impl Operator for InPieces {
    fn on_batch(&mut self, _port: usize, batch: Batch, out: &mut Output) -> Result<()> {
        self.left = batch.num_rows();
        self.resume(out).map(|_| ())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        self.log.lock().unwrap().push(format!("made, {} left", self.left));
        out.push(rows(1));
        Ok(true)
    }

    fn on_watermark(&mut self, _port: usize, watermark: EventTime, _out: &mut Output) -> Result<()> {
        self.log.lock().unwrap().push(format!("watermark {}", watermark.0));
        Ok(())
    }

    fn on_time(&mut self, now_ms: i64) -> Result<()> {
        self.log.lock().unwrap().push(format!("time {now_ms}"));
        Ok(())
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<StateDelta> {
        self.log.lock().unwrap().push(format!("snapshot {}", epoch.0));
        Ok(StateDelta::default())
    }
}

struct Written(Log);

impl SinkWriter for Written {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.0.lock().unwrap().push(format!("written {}", batch.num_rows()));
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        Ok(vec![])
    }
}

/// An operator in front of a sink.
fn body(log: &Log) -> Body {
    let node = |id: &str, work: Work, targets: Vec<Target>| TaskNode {
        id: id.to_string(),
        work,
        ports: vec![EventTime::MIN],
        sent: EventTime::MIN,
        targets,
        sources: String::new(),
    };
    let sink = Work::Sink { sink_id: "sink".to_string(), writer: Box::new(Written(log.clone())) };
    Body {
        task: 0,
        lane: LaneId(0),
        lanes: 1,
        nodes: vec![
            node(
                "pieces",
                Work::Operator(Box::new(InPieces { left: 0, log: log.clone() })),
                vec![Target::Local { node: 1, port: 0 }],
            ),
            node("sink", sink, vec![]),
        ],
        routes: vec![],
        abort: Abort::default(),
        events: EventSender::new().0,
        status: Arc::default(),
        stores_state: true,
        pressure: Pressure::default(),
        asked_for_epoch: false,
        clock: Arc::new(thalweg_core::ManualClock::default()),
        clocked: vec![],
    }
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn each_piece_of_output_passes_before_the_next_is_made() {
    let log = Log::default();
    let mut body = body(&log);
    assert!(body.on_batch(0, 0, rows(3)).is_ok());
    let expected = ["made, 2 left", "written 1", "made, 1 left", "written 1", "made, 0 left", "written 1"];
    assert_eq!(taken(&log), expected);
    assert!(body.on_watermark(0, 0, EventTime(7)).is_ok());
    assert_eq!(taken(&log), ["watermark 7"]);
}

#[test]
fn an_aborted_job_does_not_wait_for_the_last_piece() {
    let log = Log::default();
    let mut body = body(&log);
    body.abort.set();
    assert!(matches!(body.on_batch(0, 0, rows(1_000)), Err(Stop::Aborted)));
    assert_eq!(taken(&log), ["made, 999 left", "written 1"]);
}

#[test]
fn operators_hear_the_time_before_their_snapshot() {
    let log = Log::default();
    let mut body = body(&log);
    assert!(body.on_barrier(Barrier { epoch: Epoch(4), time_ms: 1_234 }).is_ok());
    assert_eq!(taken(&log), ["time 1234", "snapshot 4"]);
}

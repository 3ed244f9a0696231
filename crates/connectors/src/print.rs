//! `connector = 'print'`: rows as text, in Flink's form `+I[1, abc]`.

mod text;

use std::io::Write;
use std::sync::{Arc, Mutex};

use thalweg_core::{
    Batch, ConnectorInfo, Deliverer, DeliveryContext, DeliveryGuarantee, Epoch, Error, LaneId, OptionDefinition, OptionType,
    OutputSegment, Result, Sink, SinkRequest, SinkWriter,
};

/// Where printed rows go. Only `cli` knows standard output, so it hands this in.
pub type PrintTarget = Arc<Mutex<dyn Write + Send>>;

const IDENTIFIER: &str = "print-identifier";
const STANDARD_ERROR: &str = "standard-error";

/// The connector as data.
pub const INFO: ConnectorInfo = ConnectorInfo {
    name: "print",
    doc: "Prints rows as text: +I[1, abc] for a new row, -U and +U for the old and the new form of a changed one, -D for one taken back.",
    is_source: false,
    is_sink: true,
    takes_updates: true,
    takes_upserts: false,
    gives_upserts: false,
    options: &[
        OptionDefinition {
            name: IDENTIFIER,
            kind: OptionType::Text,
            required: false,
            default: None,
            doc: "Text in front of each row, followed by > and a space.",
        },
        OptionDefinition {
            name: STANDARD_ERROR,
            kind: OptionType::Boolean,
            required: false,
            default: Some("false"),
            doc: "Prints to standard error instead of standard output.",
        },
        OptionDefinition {
            name: "sink.parallelism",
            kind: OptionType::Integer,
            required: false,
            default: None,
            doc: "Accepted for Flink's sake: every lane prints.",
        },
    ],
    metadata: &[],
    format_options: &[],
    check: |_| vec![],
};

/// The sink of a `print` table. Rows appear as they come, so those after the last checkpoint are printed again after a crash.
pub struct PrintSink {
    sink_id: String,
    prefix: String,
    target: PrintTarget,
}

impl PrintSink {
    pub fn new(request: SinkRequest, output: &PrintTarget, error: &PrintTarget) -> Result<Self> {
        let target = if request.options.boolean(STANDARD_ERROR, false)? { error } else { output };
        let prefix = match request.options.get(IDENTIFIER) {
            None | Some("") => String::new(),
            Some(identifier) => format!("{identifier}> "),
        };
        Ok(PrintSink { sink_id: request.sink_id, prefix, target: target.clone() })
    }
}

impl Sink for PrintSink {
    fn guarantee(&self) -> DeliveryGuarantee {
        DeliveryGuarantee::None
    }

    fn writer(&self, _lane: LaneId) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(PrintWriter { prefix: self.prefix.clone(), target: self.target.clone(), lines: String::new() }))
    }

    fn delivery_key(&self) -> String {
        format!("print:{}", self.sink_id)
    }

    fn deliverer(&self, _context: DeliveryContext) -> Result<Box<dyn Deliverer>> {
        Err(Error::internal(format!("sink \"{}\" of connector \"print\" prints at once", self.sink_id)))
    }
}

struct PrintWriter {
    prefix: String,
    target: PrintTarget,
    /// Scratch.
    lines: String,
}

impl SinkWriter for PrintWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.lines.clear();
        for row in 0..batch.num_rows() {
            for _ in 0..batch.weight(row).unsigned_abs() {
                self.lines.push_str(&self.prefix);
                self.lines.push_str(batch.kind(row).mark());
                text::append_row(batch.rows.columns(), row, &mut self.lines)?;
                self.lines.push('\n');
            }
        }
        let mut target = self.target.lock().map_err(|_| Error::internal("a thread failed while it printed"))?;
        // One write a batch, so that rows of several lanes do not mix within a line.
        target.write_all(self.lines.as_bytes()).map_err(cannot_print)
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        let mut target = self.target.lock().map_err(|_| Error::internal("a thread failed while it printed"))?;
        target.flush().map_err(cannot_print)?;
        Ok(vec![])
    }
}

fn cannot_print(error: std::io::Error) -> Error {
    Error::unavailable("rows cannot be printed").with_cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use thalweg_core::{ManualClock, Options};

    fn print(options: &[(&str, &str)], weights: Option<Vec<i64>>) -> (String, String) {
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None])) as _, true),
            ("s", Arc::new(StringArray::from(vec!["abc", "x, y"])) as _, true),
        ])
        .unwrap();
        let mut given = Options::new();
        for (name, value) in options {
            given.insert(*name, *value);
        }
        let request = SinkRequest {
            table: "t".to_string(),
            sink_id: "t".to_string(),
            options: given,
            schema: rows.schema(),
            metadata: vec![None, None],
            partitioned_by: vec![],
            primary_key: vec![],
            time_zone: "UTC".to_string(),
            clock: Arc::new(ManualClock::default()),
        };
        let output = Arc::new(Mutex::new(Vec::<u8>::new()));
        let error = Arc::new(Mutex::new(Vec::<u8>::new()));
        let targets: (PrintTarget, PrintTarget) = (output.clone(), error.clone());
        let sink = PrintSink::new(request, &targets.0, &targets.1).unwrap();
        let mut writer = sink.writer(LaneId(0)).unwrap();
        writer.write(&Batch { weights: weights.map(Int64Array::from), ..Batch::append(rows) }).unwrap();
        assert!(writer.prepare(Epoch(1)).unwrap().is_empty());
        let text = |target: &Mutex<Vec<u8>>| String::from_utf8(target.lock().unwrap().clone()).unwrap();
        (text(&output), text(&error))
    }

    #[test]
    fn rows_look_as_in_flink() {
        assert_eq!(print(&[], None), ("+I[1, abc]\n+I[null, x, y]\n".to_string(), String::new()));
        assert_eq!(print(&[(IDENTIFIER, "out")], None).0, "out> +I[1, abc]\nout> +I[null, x, y]\n");
        assert_eq!(print(&[(STANDARD_ERROR, "true")], None).1, "+I[1, abc]\n+I[null, x, y]\n");
    }

    #[test]
    fn weights_say_how_often_and_which_way() {
        assert_eq!(print(&[], Some(vec![-1, 2])).0, "-D[1, abc]\n+I[null, x, y]\n+I[null, x, y]\n");
    }
}

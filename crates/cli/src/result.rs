//! The rows of a SELECT on standard output: an aligned table on a terminal, else one JSON object a line.

use std::io::{ErrorKind as IoErrorKind, Write};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use thalweg_connectors::format::json::{JsonEncoder, JsonOptions};
use thalweg_core::{
    Batch, Deliverer, DeliveryContext, DeliveryGuarantee, EncodedRows, Encoder, Epoch, Error, LaneId, OutputSegment, Result,
    Sink, SinkRequest, SinkWriter,
};
use thalweg_runtime::Stopper;

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResultFormat {
    Json,
    Table,
}

/// Standard output, shared by all that print rows. When the reader has gone (`| head`), the job is asked to stop and nothing
/// more is written.
#[derive(Clone)]
pub struct RowOutput {
    target: Arc<Mutex<Target>>,
    pub format: ResultFormat,
}

struct Target {
    out: Box<dyn Write + Send>,
    closed: bool,
    stoppers: Vec<Stopper>,
}

impl RowOutput {
    pub fn new(out: Box<dyn Write + Send>, format: ResultFormat) -> Self {
        RowOutput { target: Arc::new(Mutex::new(Target { out, closed: false, stoppers: vec![] })), format }
    }

    /// Registers a job to stop when nobody reads any more.
    pub fn stop_when_closed(&self, stopper: Stopper) {
        self.target.lock().expect("no holder of this lock panics").stoppers.push(stopper);
    }

    /// Writes rows that are there at once, such as those of SHOW TABLES: a table or JSON lines, as the rows of a SELECT.
    pub fn write_rows(&self, rows: &RecordBatch) -> Result<()> {
        if self.format == ResultFormat::Table {
            let text = Table::new(&rows.schema()).render(rows, &vec![""; rows.num_rows()])?;
            return self.write(text.as_bytes());
        }
        let mut encoded = EncodedRows::default();
        JsonEncoder::new(&rows.schema(), &JsonOptions::default()).encode(rows, &mut encoded)?;
        let lines: Vec<u8> = encoded.iter().flat_map(|line| [line, b"\n"].concat()).collect();
        self.write(&lines)
    }

    /// Writes whole lines and flushes.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut target = self.target.lock().expect("no holder of this lock panics");
        if target.closed {
            return Ok(());
        }
        crate::progress_line::make_way();
        match target.out.write_all(bytes).and_then(|()| target.out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == IoErrorKind::BrokenPipe => {
                target.closed = true;
                target.stoppers.iter().for_each(Stopper::stop);
                Ok(())
            }
            Err(error) => Err(Error::unavailable("standard output cannot be written").with_cause(error)),
        }
    }
}

impl Write for RowOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        RowOutput::write(self, bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The sink of a SELECT. Rows are written as they come; nothing is kept.
pub struct ResultSink {
    pub request: SinkRequest,
    pub updating: bool,
    pub output: RowOutput,
}

impl Sink for ResultSink {
    fn guarantee(&self) -> DeliveryGuarantee {
        DeliveryGuarantee::None
    }

    fn writer(&self, _lane: LaneId) -> Result<Box<dyn SinkWriter>> {
        let schema = self.request.schema.clone();
        Ok(match self.output.format {
            ResultFormat::Json => Box::new(JsonLines {
                encoder: JsonEncoder::new(&schema, &JsonOptions::default()),
                updating: self.updating,
                output: self.output.clone(),
                rows: EncodedRows::default(),
            }),
            ResultFormat::Table => {
                Box::new(TableLines { table: Table::new(&schema), updating: self.updating, output: self.output.clone() })
            }
        })
    }

    fn delivery_key(&self) -> String {
        "result".to_string()
    }

    fn deliverer(&self, _context: DeliveryContext) -> Result<Box<dyn Deliverer>> {
        Err(Error::internal("the rows of a SELECT are not delivered by epochs"))
    }
}

struct JsonLines {
    encoder: JsonEncoder,
    updating: bool,
    output: RowOutput,
    rows: EncodedRows,
}

impl SinkWriter for JsonLines {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.rows.clear();
        self.encoder.encode(&batch.rows, &mut self.rows)?;
        let mut text = Vec::with_capacity(self.rows.bytes.len() + 16 * self.rows.len());
        for (row, line) in self.rows.iter().enumerate() {
            for _ in 0..batch.weight(row).unsigned_abs() {
                if self.updating {
                    text.extend_from_slice(format!(r#"{{"op":"{}""#, batch.kind(row).mark()).as_bytes());
                    if line.len() > 2 {
                        text.push(b',');
                    }
                    text.extend_from_slice(&line[1..]);
                } else {
                    text.extend_from_slice(line);
                }
                text.push(b'\n');
            }
        }
        self.output.write(&text)
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        Ok(vec![])
    }
}

struct TableLines {
    table: Table,
    updating: bool,
    output: RowOutput,
}

impl SinkWriter for TableLines {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let marks: Vec<&str> = (0..batch.num_rows()).map(|row| if self.updating { batch.kind(row).mark() } else { "" }).collect();
        let text = self.table.render(&batch.rows, &marks)?;
        self.output.write(text.as_bytes())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<OutputSegment>> {
        Ok(vec![])
    }
}

/// Rows as aligned text. A wider cell makes its column wider and the header come again; only very long texts are cut with `…`.
pub struct Table {
    /// One for each column, which it calls `v`.
    encoders: Vec<(SchemaRef, JsonEncoder)>,
    names: Vec<String>,
    widths: Vec<usize>,
    right_aligned: Vec<bool>,
    rows_since_header: usize,
}

/// A header is printed again after this many rows: about once a screen.
const ROWS_PER_HEADER: usize = 40;
const CELL_CHARS_MAX: usize = 48;

impl Table {
    pub fn new(schema: &SchemaRef) -> Self {
        Table {
            encoders: schema.fields().iter().map(|field| column_encoder(field)).collect(),
            names: schema.fields().iter().map(|field| field.name().clone()).collect(),
            widths: vec![],
            right_aligned: schema.fields().iter().map(|field| field.data_type().is_numeric()).collect(),
            rows_since_header: ROWS_PER_HEADER,
        }
    }

    /// The lines for `rows`, with a mark in front of each row where marks are not empty.
    pub fn render(&mut self, rows: &RecordBatch, marks: &[&str]) -> Result<String> {
        let cells = self.cells(rows)?;
        if self.widths.is_empty() {
            self.widths = self.names.iter().map(|name| name.chars().count()).collect();
        }
        for (column, cell) in cells.iter().flat_map(|row| (0..row.len()).zip(row)) {
            let wanted = cell.chars().count().min(CELL_CHARS_MAX);
            if self.widths[column] < wanted {
                self.widths[column] = wanted;
                self.rows_since_header = ROWS_PER_HEADER;
            }
        }
        let mut out = String::new();
        for (row, mark) in cells.iter().zip(marks) {
            if self.rows_since_header >= ROWS_PER_HEADER {
                self.rows_since_header = 0;
                self.push_line(&mut out, if mark.is_empty() { "" } else { "  " }, &self.names.clone());
                let rule: Vec<String> = self.widths.iter().map(|width| "─".repeat(*width)).collect();
                self.push_line(&mut out, if mark.is_empty() { "" } else { "  " }, &rule);
            }
            self.rows_since_header += 1;
            self.push_line(&mut out, mark, row);
        }
        Ok(out)
    }

    fn push_line(&self, out: &mut String, mark: &str, cells: &[String]) {
        let mut line = String::new();
        if !mark.is_empty() {
            line.push_str(mark);
            line.push_str("  ");
        }
        for (index, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
            if index > 0 {
                line.push_str("  ");
            }
            let shown = shorten(cell, *width);
            let padding = " ".repeat(width.saturating_sub(shown.chars().count()));
            let (before, after) = if self.right_aligned[index] { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(before);
            line.push_str(&shown);
            line.push_str(after);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }

    fn cells(&mut self, rows: &RecordBatch) -> Result<Vec<Vec<String>>> {
        let mut columns = vec![];
        for (column, (schema, encoder)) in rows.columns().iter().zip(&mut self.encoders) {
            let mut encoded = EncodedRows::default();
            encoder.encode(&RecordBatch::try_new(schema.clone(), vec![column.clone()])?, &mut encoded)?;
            // Each row is {"v":…}.
            columns.push(encoded.iter().map(|row| cell_text(&row[5..row.len() - 1])).collect::<Vec<String>>());
        }
        Ok((0..rows.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect())
    }
}

fn column_encoder(field: &Field) -> (SchemaRef, JsonEncoder) {
    let schema = Arc::new(Schema::new(vec![Field::new("v", field.data_type().clone(), true)]));
    let encoder = JsonEncoder::new(&schema, &JsonOptions::default());
    (schema, encoder)
}

/// JSON text as a person wants to see it: strings without quotes, null as NULL.
fn cell_text(json: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(json) {
        Ok(serde_json::Value::String(text)) => text.replace(['\n', '\r', '\t'], " "),
        Ok(serde_json::Value::Null) => "NULL".to_string(),
        _ => String::from_utf8_lossy(json).into_owned(),
    }
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

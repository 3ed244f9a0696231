//! The vocabulary of Thalweg and the seams between its crates. No I/O, no threads, no SQL.
//!
//! - Time and progress: [`EventTime`], [`Epoch`], [`Generation`], [`Position`].
//! - What flows: [`Batch`] and [`Message`].
//! - What a user declared: [`TableDefinition`], [`Options`].
//! - What talks to the world: [`Source`], [`Sink`], [`Lookup`], [`Decoder`], [`Encoder`], [`Deliverer`].
//! - What went wrong: [`Diagnostic`] for people who can change the SQL, [`Error`] for everything at run time.
//! - The only sources of time and chance: [`Clock`], [`Rand`].

mod batch;
mod clock;
mod code;
mod diagnostic;
mod epoch;
mod error;
mod format;
mod key_group;
mod lookup;
mod options;
mod rand;
mod registry;
mod sink;
mod source;
mod store_answer;
mod table;
mod time;

pub use batch::{Barrier, Batch, Message, RowKind, WEIGHT_NAME};
pub use clock::{Clock, ManualClock, SystemClock};
pub use code::{CODES, Code, CodeInfo};
pub use diagnostic::{Diagnostic, Label, Place, Severity, SourceText, Span, nearest};
pub use epoch::{Epoch, Generation, LaneId};
pub use error::{Error, ErrorKind, Result};
pub use format::{Decoder, EncodedRows, Encoder, RecordContext};
pub use key_group::{KEY_GROUPS, KeyGroup, key_group_of_hash, key_groups_of_lane, lane_of_key_group, stable_hash};
pub use lookup::{Lookup, LookupRequest, LookupRows, LookupTable};
pub use options::{OptionDefinition, OptionType, Options, Secret, parse_bytes, parse_duration};
pub use rand::{Rand, SeededRand, SystemRand};
pub use registry::{ConnectorInfo, FormatInfo, MetadataKey, Registry};
pub use sink::{
    Deliverer, DeliveryContext, DeliveryGuarantee, DeliveryMarker, DeliveryPlan, OutputSegment, PlannedDelivery, SegmentReader,
    SegmentRef, Sink, SinkRequest, SinkWriter,
};
pub use source::{
    Assignment, PartitionId, PollBudget, Position, ReadMode, ScanField, ScanRequest, Source, SourceEvent, SourceReader,
};
pub use store_answer::store_answer;
pub use table::{Column, ColumnKind, TableDefinition, WatermarkDefinition};
pub use time::EventTime;

//! A record as a source sees it, wherever it came from.

/// What a record's timestamp is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    None,
    CreateTime,
    LogAppendTime,
}

impl TimestampType {
    /// The Java client's name, as Flink shows it.
    pub fn name(self) -> &'static str {
        match self {
            TimestampType::None => "NoTimestampType",
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }
}

/// Gives headers on demand: few queries ask for them.
pub trait Headers {
    fn each(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>));
}

/// One record, borrowed.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    pub timestamp_type: TimestampType,
    pub leader_epoch: Option<i32>,
    pub headers: &'a dyn Headers,
}

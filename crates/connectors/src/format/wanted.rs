//! What a column expected, for messages about values that it cannot take.

use std::fmt;

use arrow::datatypes::{DataType, TimeUnit};

/// The SQL type that a value was read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    Boolean,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    Decimal(u8, i8),
    String,
    Bytes,
    Date,
    Time,
    /// `nanos`: TIMESTAMP(7) to TIMESTAMP(9), with their shorter range of years.
    Timestamp {
        nanos: bool,
    },
    TimestampLtz {
        nanos: bool,
    },
    Array,
    Map,
    Row,
}

impl Wanted {
    /// `None` for an Arrow type that no SQL type has.
    pub fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Wanted::Boolean,
            DataType::Int8 => Wanted::TinyInt,
            DataType::Int16 => Wanted::SmallInt,
            DataType::Int32 => Wanted::Int,
            DataType::Int64 => Wanted::BigInt,
            DataType::Float32 => Wanted::Float,
            DataType::Float64 => Wanted::Double,
            DataType::Decimal128(precision, scale) => Wanted::Decimal(*precision, *scale),
            DataType::Utf8 => Wanted::String,
            DataType::Binary => Wanted::Bytes,
            DataType::Date32 => Wanted::Date,
            DataType::Time64(TimeUnit::Microsecond) => Wanted::Time,
            DataType::Timestamp(unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond), zone) => {
                let nanos = *unit == TimeUnit::Nanosecond;
                if zone.is_some() { Wanted::TimestampLtz { nanos } } else { Wanted::Timestamp { nanos } }
            }
            DataType::List(_) => Wanted::Array,
            DataType::Map(..) => Wanted::Map,
            DataType::Struct(_) => Wanted::Row,
            _ => return None,
        })
    }

    /// The form of text that would have been right, but for timestamps, whose form depends on options.
    pub fn expected(self) -> &'static str {
        match self {
            Wanted::Boolean => "expected true or false",
            Wanted::TinyInt => "expected a whole number from -128 to 127",
            Wanted::SmallInt => "expected a whole number from -32768 to 32767",
            Wanted::Int => "expected a whole number from -2147483648 to 2147483647",
            Wanted::BigInt => "expected a whole number from -9223372036854775808 to 9223372036854775807",
            Wanted::Float | Wanted::Double => "expected a number",
            Wanted::Decimal(..) => "expected a number in decimal digits",
            Wanted::String => "expected text",
            Wanted::Bytes => "expected base64 text with padding",
            Wanted::Date => "expected yyyy-MM-dd",
            Wanted::Time => "expected HH:mm:ss",
            Wanted::Timestamp { .. } => "expected yyyy-MM-dd HH:mm:ss",
            Wanted::TimestampLtz { .. } => "expected yyyy-MM-dd HH:mm:ssZ",
            Wanted::Array => "expected an array",
            Wanted::Map | Wanted::Row => "expected an object",
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wanted::Boolean => "BOOLEAN",
            Wanted::TinyInt => "TINYINT",
            Wanted::SmallInt => "SMALLINT",
            Wanted::Int => "INT",
            Wanted::BigInt => "BIGINT",
            Wanted::Float => "FLOAT",
            Wanted::Double => "DOUBLE",
            Wanted::Decimal(precision, scale) => return write!(f, "DECIMAL({precision}, {scale})"),
            Wanted::String => "STRING",
            Wanted::Bytes => "BYTES",
            Wanted::Date => "DATE",
            Wanted::Time => "TIME",
            Wanted::Timestamp { nanos: false } => "TIMESTAMP",
            Wanted::Timestamp { nanos: true } => "TIMESTAMP(9)",
            Wanted::TimestampLtz { nanos: false } => "TIMESTAMP_LTZ",
            Wanted::TimestampLtz { nanos: true } => "TIMESTAMP_LTZ(9)",
            Wanted::Array => "ARRAY",
            Wanted::Map => "MAP",
            Wanted::Row => "ROW",
        })
    }
}

/// Characters of a record that a message shows at most.
const FRAGMENT_CHARS_MAX: usize = 40;

/// The beginning of `bytes` as one line of text, shortened.
pub fn fragment(bytes: &[u8]) -> String {
    // Four bytes a character at most: a record of many megabytes is not decoded for a message.
    let head = &bytes[..bytes.len().min(4 * FRAGMENT_CHARS_MAX + 4)];
    let text = String::from_utf8_lossy(head);
    let mut shown: String =
        text.chars().take(FRAGMENT_CHARS_MAX).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if head.len() < bytes.len() || text.chars().nth(FRAGMENT_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

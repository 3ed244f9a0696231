//! Event time in milliseconds, as Flink's watermarks and window bounds have it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in event time: milliseconds since 1970-01-01T00:00:00Z. Also the value of a watermark.
///
/// A watermark `w` says that no more rows with event time `<= w` are expected.
/// [`EventTime::MIN`] is "nothing known yet", [`EventTime::MAX`] is "the input has ended".
/// Arithmetic saturates at both ends, so a window near the end of time never wraps around.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventTime(pub i64);

impl EventTime {
    pub const MIN: EventTime = EventTime(i64::MIN);
    pub const MAX: EventTime = EventTime(i64::MAX);

    /// Milliseconds from microseconds, rounded towards minus infinity, as Flink truncates a time attribute.
    pub fn from_micros(micros: i64) -> Self {
        EventTime(micros.div_euclid(1_000))
    }

    /// Milliseconds from nanoseconds, rounded towards minus infinity.
    pub fn from_nanos(nanos: i64) -> Self {
        EventTime(nanos.div_euclid(1_000_000))
    }

    /// Microseconds, saturating at the ends of the range.
    pub fn as_micros(self) -> i64 {
        self.0.saturating_mul(1_000)
    }

    pub fn saturating_add_ms(self, ms: i64) -> Self {
        EventTime(self.0.saturating_add(ms))
    }

    pub fn saturating_sub_ms(self, ms: i64) -> Self {
        EventTime(self.0.saturating_sub(ms))
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EventTime::MIN => f.write_str("none"),
            EventTime::MAX => f.write_str("end"),
            EventTime(ms) => match chrono::DateTime::from_timestamp_millis(ms) {
                Some(at) => write!(f, "{}", at.format("%Y-%m-%d %H:%M:%S%.3f")),
                None => write!(f, "{ms} ms"),
            },
        }
    }
}

impl fmt::Debug for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventTime({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micros_before_1970_round_down() {
        assert_eq!(EventTime::from_micros(-1), EventTime(-1));
        assert_eq!(EventTime::from_micros(-1_000), EventTime(-1));
        assert_eq!(EventTime::from_micros(1_999), EventTime(1));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(EventTime::MAX.saturating_add_ms(1), EventTime::MAX);
        assert_eq!(EventTime::MIN.saturating_sub_ms(1), EventTime::MIN);
        assert_eq!(EventTime(i64::MAX / 2).as_micros(), i64::MAX);
    }
}

//! Windows over event time.

use std::fmt;

/// The windows that a row falls into. All lengths are milliseconds and positive; `offset_ms` is reduced to `0..size`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WindowKind {
    Tumble {
        size_ms: i64,
    },
    /// Windows of `size_ms` that begin every `slide_ms`. With an aggregate, `size_ms` is not smaller than `slide_ms`.
    Hop {
        slide_ms: i64,
        size_ms: i64,
    },
    /// Windows that begin every `size_ms` and end at each `step_ms` up to `size_ms`, a multiple of it.
    Cumulate {
        step_ms: i64,
        size_ms: i64,
    },
}

/// How the time column's values become the time in which windows are aligned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TimeZoneRule {
    /// TIMESTAMP: as it stands.
    Local,
    /// TIMESTAMP_LTZ: shifted to this IANA zone; window bounds are local times, and a window fires when the watermark
    /// reaches the instant of its local end.
    Zone(String),
}

/// A window function with its arguments.
///
/// Alignment: `start = t - floor_mod(t - offset, size)` in milliseconds since the epoch, half-open.
/// Source: Flink 2.3, windowing table-valued functions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    pub kind: WindowKind,
    pub offset_ms: i64,
    pub zone: TimeZoneRule,
}

/// A SESSION window: rows of a key that are no further apart than the gap share a window, which ends one gap after its last row.
/// Source: Flink 2.3, windowing table-valued functions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SessionWindow {
    /// Milliseconds, positive.
    pub gap_ms: i64,
    pub zone: TimeZoneRule,
}

impl fmt::Display for SessionWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SESSION(gap {}", duration_text(self.gap_ms))?;
        if let TimeZoneRule::Zone(zone) = &self.zone {
            write!(f, ", zone {zone}")?;
        }
        f.write_str(")")
    }
}

impl WindowKind {
    pub fn name(&self) -> &'static str {
        match self {
            WindowKind::Tumble { .. } => "TUMBLE",
            WindowKind::Hop { .. } => "HOP",
            WindowKind::Cumulate { .. } => "CUMULATE",
        }
    }

    /// The length of the longest window.
    pub fn size_ms(&self) -> i64 {
        match *self {
            WindowKind::Tumble { size_ms } | WindowKind::Hop { size_ms, .. } | WindowKind::Cumulate { size_ms, .. } => size_ms,
        }
    }

    /// The length of the slices in which rows are aggregated: every window is a whole number of them.
    pub fn slice_ms(&self) -> i64 {
        match *self {
            WindowKind::Tumble { size_ms } => size_ms,
            WindowKind::Hop { slide_ms, size_ms } => greatest_common_divisor(slide_ms, size_ms),
            WindowKind::Cumulate { step_ms, .. } => step_ms,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            WindowKind::Tumble { size_ms } => write!(f, "TUMBLE(size {}", duration_text(size_ms))?,
            WindowKind::Hop { slide_ms, size_ms } => {
                write!(f, "HOP(slide {}, size {}", duration_text(slide_ms), duration_text(size_ms))?;
            }
            WindowKind::Cumulate { step_ms, size_ms } => {
                write!(f, "CUMULATE(step {}, size {}", duration_text(step_ms), duration_text(size_ms))?;
            }
        }
        if self.offset_ms != 0 {
            write!(f, ", offset {}", duration_text(self.offset_ms))?;
        }
        if let TimeZoneRule::Zone(zone) = &self.zone {
            write!(f, ", zone {zone}")?;
        }
        f.write_str(")")
    }
}

/// `90000` as `90s`, `600000` as `10m`: the largest unit that divides.
pub fn duration_text(ms: i64) -> String {
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms != 0 && ms % length == 0 {
            return format!("{}{unit}", ms / length);
        }
    }
    format!("{ms}ms")
}

fn greatest_common_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_divide_windows() {
        assert_eq!(WindowKind::Hop { slide_ms: 4_000, size_ms: 10_000 }.slice_ms(), 2_000);
        assert_eq!(WindowKind::Hop { slide_ms: 2_000, size_ms: 10_000 }.slice_ms(), 2_000);
        assert_eq!(WindowKind::Cumulate { step_ms: 2_000, size_ms: 10_000 }.slice_ms(), 2_000);
    }

    #[test]
    fn text_uses_the_largest_unit() {
        assert_eq!(duration_text(90_000), "90s");
        assert_eq!(duration_text(600_000), "10m");
        assert_eq!(duration_text(1_500), "1500ms");
        assert_eq!(duration_text(0), "0ms");
    }
}

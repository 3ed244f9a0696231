//! Which windows of a slice a watermark has left open.

use crate::local_time::LocalTime;
use crate::window_bounds::WindowBounds;

/// The first window end of the slice, from `from` on, whose last instant `watermark` has not reached; `None` when all are
/// closed. `from` is a window end of the slice.
///
/// Late for a window is what comes when the watermark is at its last instant or behind that, as in Flink.
pub(super) fn first_open_end(
    bounds: &WindowBounds,
    local_time: &LocalTime,
    slice_end: i64,
    from: i64,
    watermark: i64,
) -> Option<i64> {
    let is_open = |end: i64| local_time.last_instant_before(end) > watermark;
    if is_open(from) {
        return Some(from);
    }
    let (last, step) = (bounds.last_end(slice_end), bounds.end_step());
    if from >= last || !is_open(last) {
        return None;
    }
    // Invariant: the window `closed` steps behind `from` is closed, the one `open` steps behind it is open.
    let (mut closed, mut open) = (0, (last - from) / step);
    while open - closed > 1 {
        let middle = closed + (open - closed) / 2;
        if is_open(from + middle * step) {
            open = middle;
        } else {
            closed = middle;
        }
    }
    Some(from + open * step)
}

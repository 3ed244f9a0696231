//! Which windows there are, in local milliseconds.

use thalweg_plan::{Window, WindowKind};

/// The arithmetic of windows and of the slices that they consist of.
///
/// A slice is named by its end. Windows are half-open and named by their end too, for of the windows that hold a slice no two
/// end together. Arithmetic saturates at the ends of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowBounds {
    kind: WindowKind,
    offset_ms: i64,
    slice_ms: i64,
}

impl WindowBounds {
    pub(crate) fn new(window: &Window) -> Self {
        WindowBounds { kind: window.kind, offset_ms: window.offset_ms, slice_ms: window.kind.slice_ms() }
    }

    pub(crate) fn slice_ms(&self) -> i64 {
        self.slice_ms
    }

    /// The end of the slice that holds `time`.
    pub(crate) fn slice_end(&self, time: i64) -> i64 {
        self.align_down(time, self.slice_ms).saturating_add(self.slice_ms)
    }

    /// The number of a slice: consecutive slices have consecutive numbers.
    pub(crate) fn slice_index(&self, slice_end: i64) -> i64 {
        slice_end.saturating_sub(self.offset_ms).div_euclid(self.slice_ms)
    }

    /// The inverse of [`WindowBounds::slice_index`].
    pub(crate) fn slice_end_of_index(&self, index: i64) -> i64 {
        index.saturating_mul(self.slice_ms).saturating_add(self.offset_ms)
    }

    /// The first window end of the windows that hold the slice.
    pub(crate) fn first_end(&self, slice_end: i64) -> i64 {
        match self.kind {
            WindowKind::Tumble { .. } | WindowKind::Cumulate { .. } => slice_end,
            WindowKind::Hop { slide_ms, size_ms } => {
                let earliest_start = slice_end.saturating_sub(size_ms);
                self.align_down(earliest_start.saturating_add(slide_ms - 1), slide_ms).saturating_add(size_ms)
            }
        }
    }

    /// The last window end of the windows that hold the slice.
    pub(crate) fn last_end(&self, slice_end: i64) -> i64 {
        match self.kind {
            WindowKind::Tumble { .. } => slice_end,
            WindowKind::Hop { slide_ms, size_ms } => {
                let slice_start = slice_end.saturating_sub(self.slice_ms);
                self.align_down(slice_start, slide_ms).saturating_add(size_ms)
            }
            WindowKind::Cumulate { size_ms, .. } => self.align_down(slice_end.saturating_sub(1), size_ms).saturating_add(size_ms),
        }
    }

    /// From the end of one window of a slice to that of its next.
    pub(crate) fn end_step(&self) -> i64 {
        match self.kind {
            WindowKind::Tumble { size_ms } => size_ms,
            WindowKind::Hop { slide_ms, .. } => slide_ms,
            WindowKind::Cumulate { step_ms, .. } => step_ms,
        }
    }

    /// The end of the window behind the one that ends at `end`, among those that hold the slice.
    pub(crate) fn next_end(&self, slice_end: i64, end: i64) -> Option<i64> {
        end.checked_add(self.end_step()).filter(|next| *next <= self.last_end(slice_end))
    }

    /// The start of the window that ends at `end`.
    pub(crate) fn start(&self, end: i64) -> i64 {
        match self.kind {
            WindowKind::Tumble { size_ms } | WindowKind::Hop { size_ms, .. } => end.saturating_sub(size_ms),
            WindowKind::Cumulate { size_ms, .. } => self.align_down(end.saturating_sub(1), size_ms),
        }
    }

    /// The windows `(start, end)` that hold `time`, in Flink's order: latest start first (HOP), shortest first (CUMULATE).
    pub(crate) fn windows_of(&self, time: i64) -> impl Iterator<Item = (i64, i64)> + use<> {
        let (first, step, count) = match self.kind {
            WindowKind::Tumble { size_ms } => {
                let start = self.align_down(time, size_ms);
                ((start, start.saturating_add(size_ms)), (0, 0), 1)
            }
            WindowKind::Hop { slide_ms, size_ms } => {
                let start = self.align_down(time, slide_ms);
                // Windows that begin `k` slides earlier and still hold `time`.
                let left = size_ms.saturating_sub(time.saturating_sub(start));
                ((start, start.saturating_add(size_ms)), (-slide_ms, -slide_ms), (left + slide_ms - 1).div_euclid(slide_ms))
            }
            WindowKind::Cumulate { step_ms, size_ms } => {
                let start = self.align_down(time, size_ms);
                let end = self.align_down(time, step_ms).saturating_add(step_ms);
                let rest = start.saturating_add(size_ms).saturating_sub(end);
                ((start, end), (0, step_ms), rest / step_ms + 1)
            }
        };
        (0..count.max(0)).map(move |number| {
            (first.0.saturating_add(step.0.saturating_mul(number)), first.1.saturating_add(step.1.saturating_mul(number)))
        })
    }

    /// The last multiple of `unit`, shifted by the offset, that is not after `time`.
    fn align_down(&self, time: i64, unit: i64) -> i64 {
        time.saturating_sub(time.saturating_sub(self.offset_ms).rem_euclid(unit))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use thalweg_plan::TimeZoneRule;

    use super::*;

    fn bounds(kind: WindowKind, offset_ms: i64) -> WindowBounds {
        WindowBounds::new(&Window { kind, offset_ms, zone: TimeZoneRule::Local })
    }

    fn any_kind() -> impl Strategy<Value = WindowKind> {
        prop_oneof![
            (1_i64..50).prop_map(|size_ms| WindowKind::Tumble { size_ms }),
            (1_i64..20, 1_i64..20).prop_map(|(slide_ms, ratio)| WindowKind::Hop { slide_ms, size_ms: slide_ms * ratio }),
            (1_i64..20, 1_i64..20).prop_map(|(step_ms, ratio)| WindowKind::Cumulate { step_ms, size_ms: step_ms * ratio }),
        ]
    }

    proptest! {
        /// The walk over a slice's windows meets just the windows of each time in it.
        #[test]
        fn slices_and_rows_agree(kind in any_kind(), offset in 0_i64..20, time in -500_i64..500) {
            let bounds = bounds(kind, offset % kind.size_ms());
            let slice_end = bounds.slice_end(time);
            prop_assert!(slice_end - bounds.slice_ms() <= time && time < slice_end);
            prop_assert_eq!(bounds.slice_end_of_index(bounds.slice_index(slice_end)), slice_end);
            let mut walked = vec![];
            let mut next = Some(bounds.first_end(slice_end));
            while let Some(end) = next {
                walked.push((bounds.start(end), end));
                next = bounds.next_end(slice_end, end);
            }
            let mut direct: Vec<_> = bounds.windows_of(time).collect();
            direct.sort_by_key(|window| window.1);
            prop_assert!(direct.iter().all(|(start, end)| *start <= time && time < *end));
            prop_assert_eq!(walked, direct);
        }
    }

    #[test]
    fn hop_that_is_no_multiple() {
        let hop = bounds(WindowKind::Hop { slide_ms: 3, size_ms: 10 }, 0);
        assert_eq!(hop.windows_of(7).collect::<Vec<_>>(), [(6, 16), (3, 13), (0, 10)]);
        let sparse = bounds(WindowKind::Hop { slide_ms: 10, size_ms: 4 }, 0);
        assert_eq!(sparse.windows_of(13).collect::<Vec<_>>(), [(10, 14)]);
        assert_eq!(sparse.windows_of(17).count(), 0);
    }

    #[test]
    fn cumulate_begins_with_the_shortest() {
        let cumulate = bounds(WindowKind::Cumulate { step_ms: 2, size_ms: 6 }, 0);
        assert_eq!(cumulate.windows_of(3).collect::<Vec<_>>(), [(0, 4), (0, 6)]);
        assert_eq!(cumulate.windows_of(-1).collect::<Vec<_>>(), [(-6, 0)]);
    }

    #[test]
    fn the_ends_of_time_saturate() {
        for kind in [
            WindowKind::Tumble { size_ms: 7 },
            WindowKind::Hop { slide_ms: 2, size_ms: 10 },
            WindowKind::Cumulate { step_ms: 2, size_ms: 10 },
        ] {
            for time in [i64::MIN, i64::MAX] {
                let bounds = bounds(kind, 1);
                let slice_end = bounds.slice_end(time);
                bounds.next_end(slice_end, bounds.first_end(slice_end));
                bounds.windows_of(time).for_each(drop);
            }
        }
    }
}

//! The only source of time. `clippy.toml` bans the others.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall and monotonic time. Operators never see one; sources, timers and the coordinator do.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z by the wall clock, which may jump.
    fn wall_ms(&self) -> i64;
    /// Time since an arbitrary start; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clocks")]
    pub fn new() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clocks")]
    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves only when told to, for tests and the simulator.
#[derive(Default)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    monotonic: Mutex<Duration>,
}

impl ManualClock {
    pub fn at_wall_ms(wall_ms: i64) -> Self {
        ManualClock { wall_ms: AtomicI64::new(wall_ms), monotonic: Mutex::new(Duration::ZERO) }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        self.wall_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        *self.monotonic.lock().expect("no holder of this lock panics") += by;
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        *self.monotonic.lock().expect("no holder of this lock panics")
    }
}

//! How often and how patiently the object store is asked again.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::{Error, Rand};

/// Bounds of trying again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Requests for one purpose, the first one included.
    pub tries: u32,
    /// Pause before the second try; it doubles with each further one.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// A request without an answer for so long counts as failed, with unknown effect. Uploads get a second more per MiB.
    pub request_timeout: Duration,
}

impl Default for RetryPolicy {
    /// About 20 s of pauses in all.
    fn default() -> Self {
        RetryPolicy {
            tries: 10,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// The pause before try number `attempt` (1 is the second try): half of it fixed, half by chance, so that two runs that
    /// failed together do not return together.
    pub(crate) fn pause(&self, attempt: u32, rand: &mut dyn Rand) -> Duration {
        let doubled = self.first_pause.saturating_mul(1u32 << attempt.saturating_sub(1).min(20));
        let full_us = doubled.min(self.longest_pause).as_micros();
        let half_us = u64::try_from(full_us / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half_us.saturating_add(rand.below(half_us.saturating_add(1).max(1))))
    }
}

/// Waits; replaced in tests, which may not sleep.
pub type SleepFunction = Arc<dyn Fn(Duration) + Send + Sync>;

/// What an answer of the store means for the next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// There is no such object.
    Missing,
    /// The condition of a create failed: something is there.
    Exists,
    /// Asking again cannot help.
    Lasting,
    /// Anything else, such as 5xx, a broken connection, a timeout: the request may or may not have had its effect.
    Passing,
}

pub(crate) fn classify(error: &object_store::Error) -> Trouble {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => Trouble::Missing,
        E::AlreadyExists { .. } | E::Precondition { .. } => Trouble::Exists,
        E::InvalidPath { .. }
        | E::NotSupported { .. }
        | E::NotImplemented { .. }
        | E::PermissionDenied { .. }
        | E::Unauthenticated { .. }
        | E::UnknownConfigurationKey { .. } => Trouble::Lasting,
        _ if is_missing_bucket(error) => Trouble::Lasting,
        _ => Trouble::Passing,
    }
}

/// Lists answer with a general error where a get would say `NotFound`.
fn is_missing_bucket(error: &object_store::Error) -> bool {
    error.to_string().contains("<Code>NoSuchBucket</Code>")
}

/// The error for a caller that gives up. `what` is such as `create checkpoint object "manifest/…"`.
pub(crate) fn give_up(what: &str, error: object_store::Error) -> Error {
    use object_store::Error as E;
    let message = format!("cannot {what}");
    let (error_without_help, help) = match &error {
        E::NotSupported { .. } | E::NotImplemented { .. } => {
            (Error::user(message), "the store lacks something that checkpoints rely on; `thalweg check-store URL` tells what")
        }
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => (
            Error::unavailable(message),
            "the credentials must allow to list, read, write and delete below the checkpoint directory",
        ),
        _ if is_missing_bucket(&error) => (Error::user(message), "create the bucket, or correct its name"),
        E::NotFound { .. } => (Error::unavailable(message), "check that the bucket or folder exists"),
        _ => (Error::unavailable(message), "check that the store is reachable; nothing is lost by starting again later"),
    };
    error_without_help.with_help(help).with_store_cause(error)
}

#[cfg(test)]
mod tests {
    use thalweg_core::SeededRand;

    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let policy = RetryPolicy::default();
        let mut rand = SeededRand::new(1);
        for (attempt, longest_ms) in [(1, 100), (2, 200), (3, 400), (7, 5_000), (60, 5_000)] {
            let pause = policy.pause(attempt, &mut rand);
            let longest = Duration::from_millis(longest_ms);
            assert!(pause >= longest / 2 && pause <= longest, "try {attempt}: {pause:?}");
        }
    }

    #[test]
    fn a_policy_without_pauses_is_possible() {
        let policy = RetryPolicy { first_pause: Duration::ZERO, ..RetryPolicy::default() };
        assert_eq!(policy.pause(3, &mut SeededRand::new(1)), Duration::ZERO);
    }
}

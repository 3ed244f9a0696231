//! Bounded queues between tasks, and a way for everyone to leave when the job is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender};
use thalweg_core::Message;

/// Messages in a queue: enough to keep both ends busy, few enough that a slow sink stops its sources within a moment.
const QUEUE_MESSAGES: usize = 16;

/// How often a blocked task looks whether the job was aborted.
pub const ABORT_CHECK: Duration = Duration::from_millis(50);

/// Set once, when the job fails: every task then leaves without finishing anything.
#[derive(Clone, Default)]
pub struct Abort(Arc<AtomicBool>);

impl Abort {
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The other end is gone or the job is aborted: leave quietly, the cause is reported elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub struct Aborted;

pub fn queue() -> (Sender<Message>, Receiver<Message>) {
    crossbeam_channel::bounded(QUEUE_MESSAGES)
}

/// Sends, waiting for room as long as the job is alive.
pub fn send(sender: &Sender<Message>, mut message: Message, abort: &Abort) -> Result<(), Aborted> {
    loop {
        match sender.send_timeout(message, ABORT_CHECK) {
            Ok(()) => return Ok(()),
            Err(SendTimeoutError::Disconnected(_)) => return Err(Aborted),
            Err(SendTimeoutError::Timeout(_)) if abort.is_set() => return Err(Aborted),
            Err(SendTimeoutError::Timeout(back)) => message = back,
        }
    }
}

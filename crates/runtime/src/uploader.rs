//! Encodes and stores what tasks hand over at a barrier, off their threads.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use thalweg_core::{Clock, Generation, LaneId, Rand, Result, SegmentRef};
use thalweg_state::{JobStore, ObjectKind, SlotId, StateObjectBuilder, StateRef, StoreSegmentReader, pack_segments};

use crate::channel::Abort;
use crate::coordinator::{Event, EventSender};
use crate::job::panic_error;
use crate::task::TaskSnapshot;

/// What an epoch of one task became in the store.
pub struct Stored {
    pub task: usize,
    pub lane: LaneId,
    pub epoch: thalweg_core::Epoch,
    pub refs: Vec<StateRef>,
    pub drops: Vec<(String, SlotId)>,
    pub segments: Vec<SegmentRef>,
}

pub struct Uploader {
    pub store: Arc<JobStore>,
    pub generation: Generation,
    pub clock: Arc<dyn Clock>,
    pub cache: Arc<StoreSegmentReader>,
    pub abort: Abort,
    pub events: EventSender,
}

impl Uploader {
    /// Starts one uploading thread; it ends when all senders are gone.
    pub fn start(self, mut rand: Box<dyn Rand>) -> (Sender<TaskSnapshot>, std::thread::JoinHandle<()>) {
        let (sender, receiver): (Sender<TaskSnapshot>, Receiver<TaskSnapshot>) = crossbeam_channel::unbounded();
        let thread = std::thread::Builder::new()
            .name("upload".to_string())
            .spawn(move || {
                for snapshot in receiver {
                    if self.abort.is_set() {
                        continue;
                    }
                    let stored = std::panic::catch_unwind(AssertUnwindSafe(|| self.store(snapshot, rand.as_mut())));
                    let event = match stored {
                        Ok(Ok(stored)) => Event::Stored(stored),
                        Ok(Err(error)) => Event::Failed(error),
                        Err(panic) => Event::Failed(panic_error("upload", panic.as_ref())),
                    };
                    self.events.send(event);
                }
            })
            .expect("the system has threads");
        (sender, thread)
    }

    fn store(&self, snapshot: TaskSnapshot, rand: &mut dyn Rand) -> Result<Stored> {
        let TaskSnapshot { task, lane, epoch, states, segments } = snapshot;
        let mut stored = Stored { task, lane, epoch, refs: vec![], drops: vec![], segments: vec![] };
        if !states.is_empty() {
            let mut builder = StateObjectBuilder::new(lane);
            for (operator, delta) in &states {
                builder.add(operator, delta)?;
            }
            let packed = builder.finish();
            stored.drops = packed.drops;
            if !packed.refs.is_empty() {
                let name = self.put(ObjectKind::State, &stored, &rand.unique_id(), packed.bytes)?;
                stored.refs = packed.refs.into_iter().map(|part| StateRef { object: name.clone(), ..part }).collect();
            }
        }
        for (sink_id, output) in segments {
            let (bytes, refs) = pack_segments(&sink_id, epoch, lane, output, self.clock.wall_ms());
            let name = self.put(ObjectKind::Output, &stored, &rand.unique_id(), bytes.clone())?;
            self.cache.remember(&name, bytes);
            stored.segments.extend(refs.into_iter().map(|part| SegmentRef { object: name.clone(), ..part }));
        }
        Ok(stored)
    }

    fn put(&self, kind: ObjectKind, stored: &Stored, unique: &str, bytes: Bytes) -> Result<String> {
        self.store.put(kind, self.generation, stored.epoch, stored.lane, unique, bytes)
    }
}

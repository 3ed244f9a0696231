//! Output of an epoch on its way to a sink: packed into objects under `out/`, read back for delivery.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use thalweg_core::{Epoch, Error, LaneId, OutputSegment, Result, SegmentReader, SegmentRef};

use crate::JobStore;
use crate::checksum::crc32;

/// Lays the segments of one sink, lane and epoch one behind the other. In the references `object` is still empty, see
/// [`JobStore::put`]. `written_ms` is the wall clock.
pub fn pack_segments(
    sink_id: &str,
    epoch: Epoch,
    lane: LaneId,
    segments: Vec<OutputSegment>,
    written_ms: i64,
) -> (Bytes, Vec<SegmentRef>) {
    let mut bytes = Vec::with_capacity(segments.iter().map(|segment| segment.bytes.len()).sum());
    let mut refs = Vec::with_capacity(segments.len());
    for (index, segment) in (0u32..).zip(segments) {
        refs.push(SegmentRef {
            sink_id: sink_id.to_string(),
            tag: segment.tag,
            epoch,
            lane,
            index,
            object: String::new(),
            offset: bytes.len() as u64,
            length: segment.bytes.len() as u64,
            crc32: crc32(&segment.bytes),
            rows: segment.rows,
            written_ms,
        });
        bytes.extend_from_slice(&segment.bytes);
    }
    (bytes.into(), refs)
}

/// Reads segments from the store, or from memory when this run has just written them: in the steady state delivery reads
/// nothing back.
pub struct StoreSegmentReader {
    store: Arc<JobStore>,
    recent: Mutex<RecentObjects>,
}

#[derive(Default)]
struct RecentObjects {
    /// Oldest first.
    objects: VecDeque<(String, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

impl StoreSegmentReader {
    /// Keeps at most `cached_bytes_max` bytes of objects in memory.
    pub fn new(store: Arc<JobStore>, cached_bytes_max: usize) -> Self {
        let recent = RecentObjects { bytes_max: cached_bytes_max, ..RecentObjects::default() };
        StoreSegmentReader { store, recent: Mutex::new(recent) }
    }

    /// Keeps a freshly stored object at hand; older ones make room. One that is larger than the whole cache is not kept.
    pub fn remember(&self, object: &str, bytes: Bytes) {
        let mut recent = self.recent.lock().expect("no holder of this lock panics");
        recent.forget(object);
        if bytes.len() > recent.bytes_max {
            return;
        }
        while recent.bytes + bytes.len() > recent.bytes_max {
            match recent.objects.pop_front() {
                Some((_, oldest)) => recent.bytes -= oldest.len(),
                None => break,
            }
        }
        recent.bytes += bytes.len();
        recent.objects.push_back((object.to_string(), bytes));
    }

    /// Lets go of an object that is delivered.
    pub fn forget(&self, object: &str) {
        self.recent.lock().expect("no holder of this lock panics").forget(object);
    }

    fn cached(&self, object: &str) -> Option<Bytes> {
        let recent = self.recent.lock().expect("no holder of this lock panics");
        recent.objects.iter().find(|(name, _)| name == object).map(|(_, bytes)| bytes.clone())
    }
}

impl RecentObjects {
    fn forget(&mut self, object: &str) {
        if let Some(at) = self.objects.iter().position(|(name, _)| name == object) {
            let (_, bytes) = self.objects.remove(at).expect("the position was just found");
            self.bytes -= bytes.len();
        }
    }
}

impl SegmentReader for StoreSegmentReader {
    fn read(&self, segment: &SegmentRef) -> Result<Bytes> {
        let Some(object) = self.cached(&segment.object) else {
            return self.store.read(&segment.object, segment.offset, segment.length, segment.crc32);
        };
        let end = segment.offset.checked_add(segment.length).filter(|end| *end <= object.len() as u64);
        let bytes = end.map(|end| object.slice(segment.offset as usize..end as usize));
        bytes.filter(|bytes| crc32(bytes) == segment.crc32).ok_or_else(|| {
            Error::internal(format!("segment {} of \"{}\" does not fit the bytes in memory", segment.index, segment.object))
        })
    }
}

#[cfg(test)]
mod tests {
    use thalweg_core::{ErrorKind, Generation};

    use super::*;
    use crate::ObjectKind;
    use crate::test_support::TestStore;

    fn segment(tag: &str, bytes: &[u8], rows: u64) -> OutputSegment {
        OutputSegment { tag: tag.to_string(), bytes: bytes.to_vec(), rows }
    }

    fn stored(store: &TestStore, segments: Vec<OutputSegment>) -> (Bytes, Vec<SegmentRef>) {
        let (bytes, mut refs) = pack_segments("sink", Epoch(4), LaneId(1), segments, 1_000);
        let object = store.jobs.put(ObjectKind::Output, Generation(1), Epoch(4), LaneId(1), "u", bytes.clone()).unwrap();
        refs.iter_mut().for_each(|segment| segment.object.clone_from(&object));
        (bytes, refs)
    }

    #[test]
    fn segments_come_back_from_memory_and_from_the_store() {
        let store = TestStore::in_memory();
        let (bytes, refs) = stored(&store, vec![segment("a", b"first", 2), segment("", b"", 0), segment("b", b"third", 1)]);
        let reader = StoreSegmentReader::new(store.jobs.clone(), 100);
        let read_all = || refs.iter().map(|segment| reader.read(segment).unwrap().to_vec()).collect::<Vec<_>>();
        let expected: Vec<Vec<u8>> = vec![b"first".to_vec(), vec![], b"third".to_vec()];
        assert_eq!(read_all(), expected);
        reader.remember(&refs[0].object, bytes);
        store.delete(&refs[0].object);
        assert_eq!(read_all(), expected, "from memory");
        reader.forget(&refs[0].object);
        assert_eq!(reader.read(&refs[2]).unwrap_err().kind, ErrorKind::Corrupt);
        assert_eq!(refs.iter().map(|segment| (segment.index, segment.rows)).collect::<Vec<_>>(), [(0, 2), (1, 0), (2, 1)]);
    }

    #[test]
    fn memory_is_bounded() {
        let reader = StoreSegmentReader::new(TestStore::in_memory().jobs, 10);
        for (name, length) in [("a", 4), ("b", 4), ("c", 4), ("large", 11), ("c", 5)] {
            reader.remember(name, Bytes::from(vec![0; length]));
        }
        assert_eq!(
            ["a", "b", "c", "large"].map(|name| reader.cached(name).map(|bytes| bytes.len())),
            [None, Some(4), Some(5), None]
        );
        assert_eq!(reader.recent.lock().unwrap().bytes, 9);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let store = TestStore::in_memory();
        let (bytes, refs) = stored(&store, vec![segment("", b"payload", 1)]);
        let mut changed = bytes.to_vec();
        changed[3] ^= 1;
        store.overwrite(&refs[0].object, changed);
        let error = StoreSegmentReader::new(store.jobs.clone(), 0).read(&refs[0]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
        assert!(error.message.contains(&refs[0].object));
    }
}

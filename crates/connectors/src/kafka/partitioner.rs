//! Which partition a row goes to: Flink's `sink.partitioner`.

/// The three partitioners that Flink has names for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartitionerKind {
    /// By hash of the key as the Java client does it; in turns where there is no key.
    Default,
    /// Everything of a lane to one partition.
    Fixed,
    /// In turns, keys or not.
    RoundRobin,
}

/// Chooses partitions for one lane.
#[derive(Clone, Debug)]
pub struct Partitioner {
    kind: PartitionerKind,
    lane: u32,
    turn: u32,
}

impl Partitioner {
    /// Lanes begin their turns at different partitions, so that few rows also spread.
    pub fn new(kind: PartitionerKind, lane: u32) -> Self {
        Partitioner { kind, lane, turn: lane }
    }

    /// A partition below `partitions`, which must not be 0.
    pub fn choose(&mut self, key: Option<&[u8]>, partitions: u32) -> u32 {
        assert!(partitions > 0, "a topic has a partition");
        match (self.kind, key) {
            (PartitionerKind::Fixed, _) => self.lane % partitions,
            (PartitionerKind::Default, Some(key)) => (murmur2(key) & 0x7fff_ffff) % partitions,
            (PartitionerKind::RoundRobin, _) | (PartitionerKind::Default, None) => {
                self.turn = self.turn.wrapping_add(1);
                self.turn % partitions
            }
        }
    }
}

/// The 32-bit MurmurHash2 of Kafka's Java client (`Utils.murmur2`), which `murmur2_random` of librdkafka equals.
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // The Java client hashes byte arrays, whose length is an int: the conversion cannot lose bits for a Kafka key.
    let mut hash = SEED ^ (data.len() as u32);
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M);
        hash ^= k;
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `UtilsTest.testMurmur2` in Apache Kafka.
    #[test]
    fn murmur2_is_that_of_java() {
        let check = |key: &str, expected: i32| assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        check("21", -973_932_308);
        check("foobar", -790_332_482);
        check("a-little-bit-long-string", -985_981_536);
        check("a-little-bit-longer-string", -1_486_304_829);
        check("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check("abc", 479_470_107);
    }

    #[test]
    fn partitioners() {
        let choices = |kind: PartitionerKind, key: Option<&[u8]>| {
            let mut partitioner = Partitioner::new(kind, 5);
            [partitioner.choose(key, 3), partitioner.choose(key, 3), partitioner.choose(key, 3)]
        };
        assert_eq!(choices(PartitionerKind::Fixed, None), [2, 2, 2]);
        assert_eq!(choices(PartitionerKind::RoundRobin, Some(b"abc")), [0, 1, 2]);
        assert_eq!(choices(PartitionerKind::Default, None), [0, 1, 2]);
        let keyed = 479_470_107 % 3;
        assert_eq!(choices(PartitionerKind::Default, Some(b"abc")), [keyed, keyed, keyed]);
    }
}

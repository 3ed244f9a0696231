//! Checksums of stored bytes: CRC-32 for stretches of data objects, XXH3-128 for manifests.

/// CRC-32 (IEEE, as in zlib) of `bytes`: what [`crate::StateRef`] and `SegmentRef` carry.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// XXH3-128 of `bytes` with seed 0, as 32 lower-case hexadecimal digits.
pub(crate) fn xxh3_hex(bytes: &[u8]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_part_of_the_format() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(xxh3_hex(b""), "99aa06d3014798d86001c324468d497f");
    }
}

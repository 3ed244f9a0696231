//! Base64 with padding and without line breaks, as Jackson writes and reads byte strings.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const NOT_IN_ALPHABET: u8 = 255;

/// For each byte its six bits.
const SIX_BITS: [u8; 256] = {
    let mut table = [NOT_IN_ALPHABET; 256];
    let mut index = 0;
    while index < 64 {
        table[ALPHABET[index] as usize] = index as u8;
        index += 1;
    }
    table
};

pub fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for index in 0..4 {
            if index <= group.len() {
                out.push(ALPHABET[(bits >> (18 - 6 * index) & 63) as usize]);
            } else {
                out.push(b'=');
            }
        }
    }
}

/// Appends the bytes to `out`; `None`, with `out` partly written, when the text is not padded base64.
pub fn read_base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let groups = text.len() / 4;
    for (index, group) in text.chunks_exact(4).enumerate() {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && index + 1 != groups) {
            return None;
        }
        let mut bits = 0_u32;
        for byte in &group[..4 - padding] {
            let six = SIX_BITS[usize::from(*byte)];
            if six == NOT_IN_ALPHABET {
                return None;
            }
            bits = bits << 6 | u32::from(six);
        }
        let [_, first, second, third] = (bits << (6 * padding)).to_be_bytes();
        out.extend_from_slice(&[first, second, third][..3 - padding]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_texts() {
        for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            let mut out = vec![];
            write_base64(&mut out, bytes.as_bytes());
            assert_eq!(out, expected.as_bytes());
        }
        for bad in ["Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9 ", "Zm\n9"] {
            assert_eq!(read_base64(bad.as_bytes(), &mut vec![]), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(bytes: Vec<u8>) {
            let mut text = vec![];
            write_base64(&mut text, &bytes);
            let mut back = vec![];
            prop_assert_eq!(read_base64(&text, &mut back), Some(()));
            prop_assert_eq!(back, bytes);
        }
    }
}

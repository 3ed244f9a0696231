//! A set of small numbers.

#[derive(Default)]
pub(super) struct PositionSet {
    words: Vec<u64>,
    len: usize,
}

impl PositionSet {
    pub(super) fn insert(&mut self, position: usize) {
        let word = position / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (position % 64);
        self.len += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.len = 0;
    }

    /// The members, rising.
    pub(super) fn positions(&self) -> Vec<u32> {
        let mut positions = Vec::with_capacity(self.len);
        for (number, word) in self.words.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                positions.push((number * 64) as u32 + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
        positions
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_back_in_order_and_once() {
        let mut set = PositionSet::default();
        for position in [200, 0, 63, 64, 200] {
            set.insert(position);
        }
        assert_eq!((set.positions(), set.len()), (vec![0, 63, 64, 200], 4));
        set.clear();
        assert!(set.is_empty() && set.positions().is_empty());
    }
}

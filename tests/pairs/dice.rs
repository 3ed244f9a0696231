//! Chance with a seed.

use thalweg_core::{Rand, SeededRand};

pub struct Dice(SeededRand);

impl Dice {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds give unlike pairs: the first numbers of SplitMix64 are mixed well enough.
        Dice(SeededRand::new(seed))
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    pub fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }
}

//! The only source of chance. `clippy.toml` bans the others.

/// Random numbers: for nonces, object names, jitter and generated rows.
pub trait Rand: Send {
    fn next_u64(&mut self) -> u64;

    /// A number in `0..bound`; `bound` must not be 0. The bias of the modulo is below 2^-32 for bounds under 2^32.
    fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a range must not be empty");
        self.next_u64() % bound
    }

    /// 32 hexadecimal digits, unique for all practical purposes.
    fn unique_id(&mut self) -> String {
        format!("{:016x}{:016x}", self.next_u64(), self.next_u64())
    }
}

/// Numbers from the operating system.
#[derive(Default)]
pub struct SystemRand;

impl Rand for SystemRand {
    fn next_u64(&mut self) -> u64 {
        getrandom::u64().expect("the operating system gives random numbers")
    }
}

/// Numbers that depend on the seed alone (SplitMix64).
pub struct SeededRand(u64);

impl SeededRand {
    pub fn new(seed: u64) -> Self {
        SeededRand(seed)
    }
}

impl Rand for SeededRand {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_sequence() {
        let mut first = SeededRand::new(7);
        let mut second = SeededRand::new(7);
        assert!((0..100).all(|_| first.next_u64() == second.next_u64()));
        assert_ne!(SeededRand::new(8).next_u64(), SeededRand::new(7).next_u64());
    }
}

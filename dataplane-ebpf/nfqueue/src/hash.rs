//! Maps by who speaks to whom, looked into several times for each connection.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use mizzen_ebpf_core::select::mix;

/// A map whose keys are cheap to hash. A seed keeps clients from choosing ports that collide.
pub(crate) type Map<K, V> = HashMap<K, V, Seed>;

/// Makes hashers that begin alike.
#[derive(Clone, Debug)]
pub(crate) struct Seed(u64);

/// Mixes in a word at a time.
#[derive(Debug)]
pub(crate) struct Words(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = Words;

    fn build_hasher(&self) -> Words {
        Words(self.0)
    }
}

impl Hasher for Words {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::SocketAddr;

    #[test]
    fn neighbours_are_far_apart() {
        let seed = Seed::default();
        let hash = |port| seed.hash_one(SocketAddr::from(([10, 0, 0, 1], port)));
        let low: BTreeSet<u64> = (1..=4096).map(|port| hash(port) & 0xffff).collect();
        assert!(low.len() > 3_800, "{}", low.len());
        assert_eq!(hash(80), hash(80));
    }
}

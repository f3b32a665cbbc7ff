//! The keyed hash by which names are found: SipHash-1-3 over the lower-cased name.
//!
//! Names come from whoever runs tasks and whoever asks, so the hash has a key that
//! nobody outside knows. It reads eight bytes at a time and makes capitals small on the
//! way, so that a question's name is never copied.

/// Key of the hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seed(pub u64, pub u64);

/// Keeps sums of bytes apart from hashes of names and owners.
const SUM: u64 = 0x7375_6d73;

impl Seed {
    /// A sum of bytes that were written down, by which one sees that they are as they were.
    #[must_use]
    pub fn sum(self, bytes: &[u8]) -> u64 {
        exact(self, SUM, bytes)
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// Hash of `bytes` with capitals made small.
#[inline]
#[must_use]
pub(crate) fn hash(seed: Seed, bytes: &[u8]) -> u64 {
    let mut state = State::new(seed);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state.absorb(lower(u64::from_le_bytes(*word)));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // Only the length modulo 256 counts, and it is no letter.
    last[7] = bytes.len() as u8;
    let tail = lower(u64::from_le_bytes(last) & (u64::MAX >> 8));
    state.absorb(tail | (u64::from(last[7]) << 56));
    state.finish()
}

/// Hash of `bytes` as they are, beginning with another key for each `salt`.
#[must_use]
pub(crate) fn exact(Seed(k0, k1): Seed, salt: u64, bytes: &[u8]) -> u64 {
    let mut state = State::new(Seed(k0 ^ salt, !k1));
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // Only the length modulo 256 counts.
    last[7] = bytes.len() as u8;
    state.absorb(u64::from_le_bytes(last));
    state.finish()
}

/// The part of a hash by which names are kept.
#[must_use]
pub(crate) fn short(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// Whether two texts are the same but for capitals.
#[must_use]
pub(crate) fn same_but_for_capitals(any: &[u8], small: &[u8]) -> bool {
    if any.len() != small.len() {
        return false;
    }
    let (words, rest) = any.as_chunks::<8>();
    let (small_words, small_rest) = small.as_chunks::<8>();
    let pairs = words.iter().zip(small_words);
    pairs.fold(0, |diff, (a, b)| diff | (lower(u64::from_le_bytes(*a)) ^ u64::from_le_bytes(*b)))
        == 0
        && rest.eq_ignore_ascii_case(small_rest)
}

/// Makes the capitals among eight characters small. Lengths of labels stay: they are
/// below the letters.
fn lower(word: u64) -> u64 {
    let low = word & (ONES * 0x7f);
    let from_a = low + ONES * (0x80 - 0x41);
    let beyond_z = low + ONES * (0x80 - 0x5b);
    let capitals = from_a & !beyond_z & !word & (ONES * 0x80);
    word | (capitals >> 2)
}

struct State(u64, u64, u64, u64);

impl State {
    fn new(Seed(k0, k1): Seed) -> Self {
        Self(
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        )
    }

    #[inline]
    fn absorb(&mut self, word: u64) {
        self.3 ^= word;
        self.mix();
        self.0 ^= word;
    }

    fn finish(mut self) -> u64 {
        self.2 ^= 0xff;
        for _ in 0..3 {
            self.mix();
        }
        self.0 ^ self.1 ^ self.2 ^ self.3
    }

    #[inline]
    fn mix(&mut self) {
        let Self(a, b, c, d) = self;
        *a = a.wrapping_add(*b);
        *c = c.wrapping_add(*d);
        *b = b.rotate_left(13) ^ *a;
        *d = d.rotate_left(16) ^ *c;
        *a = a.rotate_left(32).wrapping_add(*d);
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *d = d.rotate_left(21) ^ *a;
        *c = c.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::{DefaultHasher, Hasher as _};

    proptest! {
        /// The standard library's hasher is the same function with a key of zeros.
        #[test]
        fn it_is_siphash(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let small = bytes.to_ascii_lowercase();
            let mut reference = DefaultHasher::new();
            reference.write(&small);
            prop_assert_eq!(hash(Seed(0, 0), &bytes), reference.finish());
            prop_assert_ne!(hash(Seed(0, 1), &bytes), reference.finish());
        }

        #[test]
        fn capitals_do_not_count(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            value in any::<u8>(),
        ) {
            let small = bytes.to_ascii_lowercase();
            prop_assert!(same_but_for_capitals(&bytes, &small));
            prop_assert!(!same_but_for_capitals(&bytes, &[&small[..], b"x"].concat()));
            let mut other = small.clone();
            if let Some(place) = (!other.is_empty()).then(|| at.get(&small)).map(|_| at.index(small.len())) {
                other[place] = value.to_ascii_lowercase();
                prop_assert_eq!(same_but_for_capitals(&bytes, &other), other == small);
            }
        }
    }
}

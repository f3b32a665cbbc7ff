//! Internet checksums, and what a change of the packet does to them (RFC 1071, RFC 1624).
//!
//! Sums are ones' complement sums of words as they lie in memory, so the order of bytes does not
//! matter: a sum of words in network order is a sum in network order.

/// Adds a word to a sum.
#[inline(always)]
#[must_use]
pub const fn add(sum: u32, word: u32) -> u32 {
    let (sum, carry) = sum.overflowing_add(word);
    sum.wrapping_add(carry as u32)
}

/// Adds four words to a sum, such as an address.
#[inline(always)]
#[must_use]
pub const fn add_words(sum: u32, words: [u32; 4]) -> u32 {
    add(add(add(add(sum, words[0]), words[1]), words[2]), words[3])
}

/// Adds to a sum what it changes by if `old` becomes `new`.
#[inline(always)]
#[must_use]
pub const fn change(sum: u32, old: u32, new: u32) -> u32 {
    add(add(sum, !old), new)
}

/// Adds to a sum what it changes by if four words become others.
#[inline(always)]
#[must_use]
pub const fn change_words(sum: u32, old: [u32; 4], new: [u32; 4]) -> u32 {
    let sum = change(change(sum, old[0], new[0]), old[1], new[1]);
    change(change(sum, old[2], new[2]), old[3], new[3])
}

/// Brings a sum down to 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum of words that add up to `sum`, its own field being zero.
#[inline(always)]
#[must_use]
pub const fn checksum(sum: u32) -> u16 {
    !fold(sum)
}

/// What a checksum becomes if the words under it change by `difference`.
#[inline(always)]
#[must_use]
pub const fn replaced(old: u16, difference: u32) -> u16 {
    !fold(add(difference, !old as u32))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// The sum of bytes as the RFC has it, two at a time.
    fn sum(bytes: &[u8]) -> u32 {
        let words = bytes.chunks(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
        words.fold(0, |sum, word| add(sum, u32::from(word)))
    }

    #[test]
    fn a_header_from_a_book() {
        // An IPv4 header whose checksum is 0xb861.
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0x00,
            0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(checksum(sum(&header)).to_ne_bytes(), [0xb8, 0x61]);
    }

    proptest! {
        #[test]
        fn a_replaced_checksum_is_that_of_the_new_packet(
            before in prop::collection::vec(any::<u8>(), 40),
            after in prop::collection::vec(any::<u8>(), 16),
        ) {
            // All zeroes has two checksums, and no packet is all zeroes.
            prop_assume!(before[..24].iter().any(|byte| *byte != 0));
            let mut packet = before.clone();
            packet[24..].copy_from_slice(&after);
            let words = |bytes: &[u8]| -> [u32; 4] {
                let words: Vec<u32> = bytes
                    .chunks(4)
                    .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
                    .collect();
                [words[0], words[1], words[2], words[3]]
            };
            let difference = change_words(0, words(&before[24..]), words(&after));
            prop_assert_eq!(
                replaced(checksum(sum(&before)), difference),
                checksum(sum(&packet))
            );
        }

        #[test]
        fn words_add_up_as_their_halves_do(words in any::<[u32; 4]>()) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            prop_assert_eq!(fold(add_words(0, words)) % 0xffff, fold(sum(&bytes)) % 0xffff);
        }
    }
}

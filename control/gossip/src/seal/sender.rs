//! Which datagrams of a process came already.

use ring::aead::LessSafeKey;

/// A process that seals, and what came of it.
pub(super) struct Sender {
    pub(super) key: LessSafeKey,
    /// The largest counter that came, and which of the 64 before it did.
    pub(super) last: u64,
    pub(super) seen: u64,
}

impl Sender {
    /// Whether a datagram with this counter did not come yet, as far as that is remembered.
    pub(super) fn is_new(&self, counter: u64) -> bool {
        match self.last.checked_sub(counter) {
            None => true,
            Some(0) => false,
            Some(back) => back <= 64 && self.seen & (1 << (back - 1)) == 0,
        }
    }

    /// A datagram with this counter came.
    pub(super) fn note(&mut self, counter: u64) {
        match counter.checked_sub(self.last) {
            Some(0) => {}
            Some(ahead) => {
                let moved = self.seen.checked_shl(u32::try_from(ahead).unwrap_or(64));
                let own = 1_u64.checked_shl(u32::try_from(ahead - 1).unwrap_or(64));
                self.seen = moved.unwrap_or(0) | own.unwrap_or(0);
                self.last = counter;
            }
            None => self.seen |= 1 << (self.last - counter - 1),
        }
    }
}

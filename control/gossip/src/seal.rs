//! Datagrams that only nodes of the cluster can read and write.
//!
//! All nodes share a key, and exchange it for a new one now and then: an [`Epoch`]. From
//! it and from eight random bytes each process derives a key of its own, so that a counter
//! is nonce enough, and whoever receives can tell what it had before.
//!
//! A datagram is: format, epoch (4), sender (8), counter (8), what was sealed, tag (16).

mod epoch;
mod sender;

use crate::certificate::{Root, TrustError};
pub use epoch::Epoch;
use mizzen_types::time::{Mono, Now};
use ring::aead::{Aad, LessSafeKey, Nonce};
use ring::rand::{SecureRandom, SystemRandom};
use sender::Sender;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// So many bytes are added to a datagram.
pub const OVERHEAD: usize = HEADER + TAG;

const FORMAT: u8 = 1;
const HEADER: usize = 21;
const TAG: usize = 16;
/// Others need so long to hear of a new key; until then the one before is used.
const SPREAD: Duration = Duration::from_secs(30);
/// A key that was made so long ago is known to all.
const KNOWN: Duration = Duration::from_secs(300);
/// The key before is understood so long after its successor came.
const RETIRE: Duration = Duration::from_secs(600);
/// Processes whose counters are remembered.
const MAX_SENDERS: usize = 8192;
/// Why a datagram is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no datagram of ours at all.
    #[error("garbage")]
    Garbage,
    /// It is sealed with a key that is not known here: too new or too old.
    #[error("sealed with a key that is not known here")]
    Epoch,
    /// It was not sealed with the key that it names.
    #[error("sealed with another key than it says")]
    Forged,
    /// It was here before.
    #[error("seen before")]
    Replayed,
}

/// Seals and opens.
pub struct Seal {
    root: Root,
    epochs: BTreeMap<u32, (Epoch, Mono)>,
    /// Keys before this one count no longer.
    first: u32,
    me: [u8; 8],
    counter: u64,
    key: Option<(u32, LessSafeKey)>,
    senders: HashMap<(u32, [u8; 8]), Sender>,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("epochs", &self.epochs.keys()).finish_non_exhaustive()
    }
}

impl Seal {
    /// Without any key yet.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if the machine has no randomness.
    pub fn new(root: Root) -> Result<Self, TrustError> {
        let mut me = [0; 8];
        SystemRandom::new().fill(&mut me).map_err(|_| TrustError::Secret { request: "make" })?;
        let (epochs, senders) = (BTreeMap::new(), HashMap::new());
        Ok(Self { root, epochs, first: 0, me, counter: 0, key: None, senders })
    }

    /// Takes a key in. Whether it is new here. Of two with one number, which an authority makes
    /// that comes from a backup, everybody keeps the one that was made later.
    ///
    /// # Errors
    ///
    /// [`TrustError::Signature`] if the authority did not make it.
    pub fn learn(&mut self, epoch: &Epoch, now: Now) -> Result<bool, TrustError> {
        let newest = self.epochs.last_key_value().map_or(0, |(number, _)| *number);
        let oldest = self.first.max(newest.saturating_sub(1));
        let known = self.epochs.get(&epoch.number);
        if known.is_some_and(|(known, _)| known.made >= epoch.made) || epoch.number < oldest {
            return Ok(false);
        }
        self.root.check_signed(&epoch.message(), &epoch.signature)?;
        if known.is_some() {
            self.key = None;
            self.senders.retain(|(number, _), _| *number != epoch.number);
        }
        self.epochs.insert(epoch.number, (epoch.clone(), now.mono));
        self.retire(now);
        Ok(true)
    }

    /// All keys, oldest first: the one in use, and the next or the one before.
    #[must_use]
    pub fn epochs(&self) -> Vec<Epoch> {
        self.epochs.values().map(|(epoch, _)| epoch.clone()).collect()
    }

    /// Drops a key that is not used any more. Whether there was one.
    pub fn retire(&mut self, now: Now) -> bool {
        let Some((newest, (_, learned))) = self.epochs.last_key_value() else { return false };
        let (newest, over) = (*newest, now.mono.since(*learned) >= RETIRE);
        let count = self.epochs.len();
        self.epochs.retain(|number, _| *number == newest || (*number + 1 == newest && !over));
        let epochs = &self.epochs;
        self.senders.retain(|(number, _), _| epochs.contains_key(number));
        self.epochs.len() != count
    }

    /// Drops all keys before the one with this number at once, if that one or a later one is
    /// known. Whether it is.
    pub(crate) fn retire_before(&mut self, number: u32) -> bool {
        if self.epochs.last_key_value().is_none_or(|(newest, _)| *newest < number) {
            return false;
        }
        self.first = number;
        self.epochs.retain(|known, _| *known >= number);
        self.senders.retain(|(known, _), _| *known >= number);
        true
    }

    /// The authority whose keys these are.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Seals a datagram; `None` as long as there is no key.
    pub fn seal(&mut self, plain: &[u8], now: Now) -> Option<Vec<u8>> {
        let number = self.sending(now)?;
        if self.key.as_ref().is_none_or(|(other, _)| *other != number) {
            let (epoch, _) = self.epochs.get(&number)?;
            self.key = Some((number, epoch.derive(&self.me)?));
        }
        let (_, key) = self.key.as_ref()?;
        self.counter += 1;
        let mut bytes = Vec::with_capacity(plain.len() + OVERHEAD);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&self.me);
        bytes.extend_from_slice(&self.counter.to_be_bytes());
        let mut sealed = plain.to_vec();
        let aad = Aad::from(bytes.clone());
        key.seal_in_place_append_tag(nonce(self.counter), aad, &mut sealed).ok()?;
        bytes.append(&mut sealed);
        Some(bytes)
    }

    /// Opens a datagram.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn open(&mut self, bytes: &mut [u8]) -> Result<Vec<u8>, Refused> {
        if bytes.len() < OVERHEAD || bytes[0] != FORMAT {
            return Err(Refused::Garbage);
        }
        let (header, sealed) = bytes.split_at_mut(HEADER);
        let header: [u8; HEADER] = (&*header).try_into().map_err(|_| Refused::Garbage)?;
        let number = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let mut sender = [0; 8];
        sender.copy_from_slice(&header[5..13]);
        let mut counter = [0; 8];
        counter.copy_from_slice(&header[13..]);
        let counter = u64::from_be_bytes(counter);
        let aad = Aad::from(header);
        if let Some(known) = self.senders.get_mut(&(number, sender)) {
            if !known.is_new(counter) {
                return Err(Refused::Replayed);
            }
            let plain = known.key.open_in_place(nonce(counter), aad, sealed);
            let plain = plain.map_err(|_| Refused::Forged)?.to_vec();
            known.note(counter);
            return Ok(plain);
        }
        let (epoch, _) = self.epochs.get(&number).ok_or(Refused::Epoch)?;
        let key = epoch.derive(&sender).ok_or(Refused::Garbage)?;
        let plain = key.open_in_place(nonce(counter), aad, sealed);
        let plain = plain.map_err(|_| Refused::Forged)?.to_vec();
        self.remember((number, sender), Sender { key, last: counter, seen: 0 });
        Ok(plain)
    }

    /// The key to seal with: the newest that the others know by now.
    fn sending(&self, now: Now) -> Option<u32> {
        let known = |(epoch, learned): &&(Epoch, Mono)| {
            now.mono.since(*learned) >= SPREAD
                || now.wall.0.saturating_sub(epoch.made.0) >= KNOWN.as_nanos() as u64
        };
        let newest = self.epochs.values().rev().find(known).or_else(|| self.epochs.values().next());
        newest.map(|(epoch, _)| epoch.number)
    }

    fn remember(&mut self, from: (u32, [u8; 8]), sender: Sender) {
        if self.senders.len() >= MAX_SENDERS {
            // Only members get here; with so many of them, one of an old epoch goes first.
            let oldest = self.senders.keys().min().copied();
            if let Some(oldest) = oldest {
                self.senders.remove(&oldest);
            }
        }
        self.senders.insert(from, sender);
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;
    use mizzen_types::time::Wall;

    const START: Wall = Wall(1_800_000_000_000_000_000);

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(START.0 + seconds * 1_000_000_000) }
    }

    fn pair() -> (Authority, Seal, Seal) {
        let authority = Authority::generate(START).unwrap();
        let epoch = authority.new_epoch(1, START).unwrap();
        let make = || {
            let mut seal = Seal::new(authority.root().clone()).unwrap();
            assert!(seal.learn(&epoch, at(0)).unwrap());
            seal
        };
        let (a, b) = (make(), make());
        (authority, a, b)
    }

    #[test]
    fn what_is_sealed_comes_out_once() {
        let (_, mut a, mut b) = pair();
        let sealed = a.seal(b"ping", at(0)).unwrap();
        assert_eq!(sealed.len(), 4 + OVERHEAD);
        assert!(!sealed.windows(4).any(|window| window == b"ping"));
        assert_eq!(b.open(&mut sealed.clone()).unwrap(), b"ping");
        assert_eq!(b.open(&mut sealed.clone()), Err(Refused::Replayed));
    }

    #[test]
    fn datagrams_may_overtake_each_other() {
        let (_, mut a, mut b) = pair();
        let sealed: Vec<_> = (0..70_u8).map(|n| a.seal(&[n], at(0)).unwrap()).collect();
        for n in [3, 1, 2, 0, 66, 10, 68, 67, 69] {
            assert_eq!(b.open(&mut sealed[n].clone()).unwrap(), [n as u8], "{n}");
        }
        for n in [3, 0, 66, 69] {
            assert_eq!(b.open(&mut sealed[n].clone()), Err(Refused::Replayed), "{n}");
        }
        assert_eq!(b.open(&mut sealed[4].clone()), Err(Refused::Replayed), "too late to tell");
    }

    #[test]
    fn what_is_changed_or_foreign_does_not_come_out() {
        let (_, mut a, mut b) = pair();
        let sealed = a.seal(b"ping", at(0)).unwrap();
        for byte in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[byte] ^= 1;
            assert!(b.open(&mut changed).is_err(), "{byte}");
        }
        assert_eq!(b.open(&mut [1, 2, 3]), Err(Refused::Garbage));
        let (_, mut stranger, _) = pair();
        let foreign = stranger.seal(b"ping", at(0)).unwrap();
        assert_eq!(b.open(&mut foreign.clone()), Err(Refused::Forged));
    }

    #[test]
    fn a_new_key_is_used_when_the_others_know_it() {
        let (authority, mut a, mut b) = pair();
        let next = authority.new_epoch(2, at(3600).wall).unwrap();
        assert!(a.learn(&next, at(3600)).unwrap());
        let early = a.seal(b"x", at(3600)).unwrap();
        assert_eq!(early[4], 1, "the old one until it has spread");
        assert!(b.open(&mut early.clone()).is_ok());
        let late = a.seal(b"x", at(3640)).unwrap();
        assert_eq!(late[4], 2);
        assert_eq!(b.open(&mut late.clone()), Err(Refused::Epoch));
        assert!(b.learn(&next, at(3640)).unwrap());
        assert!(b.open(&mut late.clone()).is_ok());
        let stale = b.seal(b"x", at(3641)).unwrap();
        assert_eq!(stale[4], 1);
        assert!(a.open(&mut stale.clone()).is_ok(), "the old one is understood for a while");
        assert!(a.retire(at(4300)));
        let older = b.seal(b"y", at(3642)).unwrap();
        assert_eq!(a.open(&mut older.clone()), Err(Refused::Epoch));
    }

    #[test]
    fn a_key_made_by_a_clock_that_was_ahead_is_replaced() {
        let (hour, day) = (3600, 86_400);
        let authority = Authority::generate(START).unwrap();
        let made = 100 * day;
        let epoch = authority.new_epoch(1, at(made).wall).unwrap();
        for (name, now, want) in [
            ("just made", made, false),
            ("half a day old", made + day / 2, false),
            ("a day old", made + day, true),
            ("the clock was set back a little", made - hour, false),
            ("the clock was set right", made - 61 * day, true),
        ] {
            let rotation = Duration::from_secs(day);
            assert_eq!(epoch.is_due(rotation, at(now).wall), want, "{name}");
        }
    }

    #[test]
    fn keys_that_an_expelled_node_knows_count_no_longer() {
        let (authority, mut a, mut b) = pair();
        assert!(!a.retire_before(2), "nothing would be left");
        let old = b.seal(b"x", at(10)).unwrap();
        let next = authority.new_epoch(2, at(10).wall).unwrap();
        assert!(a.learn(&next, at(10)).unwrap() && a.retire_before(2));
        assert_eq!(a.open(&mut old.clone()), Err(Refused::Epoch));
        let first = b.epochs().remove(0);
        assert!(!a.learn(&first, at(11)).unwrap(), "it does not come back");
        let new = a.seal(b"x", at(11)).unwrap();
        assert_eq!(new[4], 2, "at once");
        assert!(b.learn(&next, at(11)).unwrap());
        assert!(b.open(&mut new.clone()).is_ok());
    }

    #[test]
    fn only_the_authority_makes_keys() {
        let (_, mut a, _) = pair();
        let (stranger, ..) = pair();
        let foreign = stranger.new_epoch(2, START).unwrap();
        assert!(matches!(a.learn(&foreign, at(1)), Err(TrustError::Signature)));
        assert_eq!(a.epochs().len(), 1);
    }

    #[test]
    fn of_two_keys_with_one_number_both_sides_keep_the_later_one() {
        let (authority, mut a, mut b) = pair();
        let (older, newer) =
            (authority.new_epoch(2, at(60).wall), authority.new_epoch(2, at(90).wall));
        let (older, newer) = (older.unwrap(), newer.unwrap());
        a.learn(&older, at(60)).unwrap();
        b.learn(&newer, at(90)).unwrap();
        let long = 90 + SPREAD.as_secs();
        let mut sealed = a.seal(b"ping", at(long)).unwrap();
        assert_eq!(b.open(&mut sealed), Err(Refused::Forged), "each has a key of its own");
        assert!(a.learn(&newer, at(long)).unwrap() && !b.learn(&older, at(long)).unwrap());
        let mut sealed = a.seal(b"ping", at(2 * long)).unwrap();
        assert_eq!(b.open(&mut sealed).unwrap(), b"ping");
        let mut sealed = b.seal(b"pong", at(2 * long)).unwrap();
        assert_eq!(a.open(&mut sealed).unwrap(), b"pong");
    }
}
